//! The common message: what every protocol decodes into and encodes from.
//!
//! Addresses, properties, bodies, identifiers and [`Timestamp`]. No I/O and no policy: nothing here knows a
//! protocol, a queue or a disk. A [`Message`] is immutable once accepted and shared by reference.
//!
//! | file | what |
//! |---|---|
//! | `time.rs` | [`Timestamp`]: milliseconds since the Unix epoch, never read from a clock here |
//! | `address.rs` | [`Address`], [`Levels`]: where a message is published |
//! | `filter.rs` | [`Filter`], [`Pattern`]: what a subscription asks for |
//! | `selector.rs` | [`Selector`]: conditions on properties in the words of SQL |
//! | `policy.rs` | [`Policy`]: conditions on properties or bodies in the language of SNS |
//! | `escape.rs` | the reversible escape of separators inside a level, one function pair for all protocols |
//! | `value.rs` | [`Value`], [`Properties`]: typed properties in their order |
//! | `text.rs`, `json.rs`, `base64.rs` | properties and identifiers as texts, and back |
//! | `message.rs` | [`Message`], [`Fields`], [`BodyKind`], [`Native`] |
//! | `md5.rs` | the digests of texts that come together |
//! | `head.rs` | the versioned encoded form of a head, as the journal stores it |
//! | `codec.rs` | the primitive readers and writers that `head.rs` and the core's records are made of |
#![forbid(unsafe_code)]

mod address;
pub mod base64;
pub mod codec;
mod escape;
mod filter;
mod head;
mod json;
pub mod md5;
#[allow(
    clippy::module_inception,
    reason = "the file holds the type that names the crate"
)]
mod message;
mod policy;
mod selector;
mod text;
mod time;
mod value;

pub use address::{Address, Kind, LEVELS_MAX, Levels, NAME_LEN_MAX, Name, VhostId};
pub use codec::{DecodeError, Reader};
pub use escape::{escape_level, unescape_level};
pub use filter::{Filter, FilterLevel, HeaderMatch, Pattern, RESERVED};
pub use head::{
    HEAD_VERSION, LastAddress, decode_head, decode_head_like, encode_head, encode_head_like,
    head_len_bound, put_address, put_filter, put_levels, put_pattern, put_properties, read_address,
    read_filter, read_levels, read_pattern, read_properties,
};
pub use message::{BodyKind, Fields, Message, Native, NativeForm, StoredId};
pub use policy::{POLICY_LEN_MAX, Policy, PolicyBody, PolicyError};
pub use selector::{SELECTOR_LEN_MAX, Selector, SelectorError};
pub use text::{JSON_NAMES, JSON_READ_MAX, Lists, says_text};
pub use time::Timestamp;
pub use value::{Properties, VALUE_DEPTH_MAX, Value};
