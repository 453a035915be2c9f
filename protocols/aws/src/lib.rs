//! What Amazon's HTTP protocols share: the envelope around operations, without I/O and without any service of its own.
//!
//! A service (`sqs`, `sns`, `kinesis`) is a table of operations ([`Service`]): the shape of each input and output
//! ([`Shape`]) and a function from a checked input to a [`Flow`](session::Flow) of answers. Everything between the socket and that
//! function is here: which service and operation a request is for, who signed it, what its bytes mean in JSON, CBOR or the
//! query protocol, whether its input satisfies the constraints of its shape, and how answers and errors are written.
//!
//! | file | what |
//! |---|---|
//! | `value.rs` | [`Value`]: an input or output, whatever it was written in |
//! | `shape.rs` | [`Shape`], [`Member`]: what an input must be |
//! | `service.rs` | [`Service`], [`Operation`], [`Call`], [`Answer`] |
//! | `error.rs` | [`ApiError`] |
//! | `settings.rs` | [`Settings`]: what the operator chooses |
#![forbid(unsafe_code)]

mod error;
mod service;
mod settings;
mod shape;
mod value;

pub use error::ApiError;
pub use service::{Answer, Call, Input, Operation, Page, Place, Service};
pub use settings::{Settings, Transitions};
pub use shape::{Checked, Member, Shape};
pub use value::Value;
