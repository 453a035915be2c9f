//! What Amazon's HTTP protocols share: the envelope around operations, without I/O and without any service of its own.
//!
//! A service (`sqs`, `sns`, `kinesis`) is a table of operations ([`Service`]): the shape of each input and output
//! ([`Shape`]) and a function from a checked input to a [`Flow`](session::Flow) of answers. Everything between the socket and that
//! function is here: which service and operation a request is for, who signed it, what its bytes mean in JSON, CBOR or the
//! query protocol, whether its input satisfies the constraints of its shape, and how answers and errors are written.
//!
//! A node that is not the active one answers every request with 503 `ServiceUnavailable`, upon which SDKs try again; the message
//! names the one that is.
//!
//! | file | what |
//! |---|---|
//! | `value.rs` | [`Value`]: an input or output, whatever it was written in |
//! | `shape.rs` | [`Shape`], [`Member`]: what an input must be |
//! | `service.rs` | [`Service`], [`Operation`], [`Call`], [`Answer`] |
//! | `endpoint.rs`, `endpoint/*.rs` | [`Endpoint`]: from a request to an operation, and from its answers to a reply |
//! | `codec/*.rs` | JSON, CBOR, the query protocol and its XML, event streams |
//! | `validate.rs` | constraints, in AWS's words |
//! | `signature.rs` | Signature Version 4, [`Key`] |
//! | `policy.rs`, `policy/*.rs` | resource policies: [`policy::Policy`] |
//! | `guard.rs` | [`Guard`]: what they open and close |
//! | `network.rs` | [`Network`]: addresses in policies, and those of proxies |
//! | `places.rs` | [`Places`]: accounts and regions as virtual hosts |
//! | `error.rs` | [`ApiError`] |
//! | `settings.rs` | [`Settings`]: what the operator chooses |
//!
//! And what SQS and SNS share about messages:
//!
//! | file | what |
//! |---|---|
//! | `attributes.rs` | [`Attributes`]: message attributes, checked, digested, and as properties of a message |
//! | `fields.rs` | attributes named `bascule.*`: what other protocols have fields for |
//! | `body.rs` | bodies as texts, and back |
//! | `notification.rs` | [`Notification`]: the JSON that SNS wraps messages in |
//! | `seal.rs` | what is handed out and wants to be known again |
//! | `digest.rs` | MD5, SHA-256, HMAC, UUIDs |
#![forbid(unsafe_code)]

mod attributes;
pub mod body;
pub mod codec;
pub mod digest;
mod endpoint;
mod error;
mod fields;
mod guard;
mod network;
mod notification;
mod places;
pub mod policy;
pub mod seal;
mod service;
mod settings;
mod shape;
mod signature;
mod time;
mod validate;
mod value;

pub use attributes::{Attribute, AttributeFault, Attributes, Content, Extras, Sender, Shown};
pub use endpoint::{Endpoint, EndpointConfig, Served, Serves};
pub use error::ApiError;
pub use guard::{Barred, Deed, Guard, Judge, Owner, Subject};
pub use network::Network;
pub use notification::{
    CertificateFn, Envelope, Notification, SignFn, Signature, SignatureVersion, Signer, published,
};
pub use places::{Placed, Places, is_account, is_region};
pub use service::{Answer, Call, Input, Operation, Page, Place, Service};
pub use settings::{Manners, Settings, SnsSettings, Transitions};
pub use shape::{Checked, Member, Shape};
pub use signature::Key;
pub use value::{Field, MemberName, Rows, ShowRow, Value};
