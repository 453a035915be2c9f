//! How the core's records and snapshots are written: numbered fields (RULES 24).
//!
//! ```text
//! structure := { field number, length, value } ... 0        numbers from 1, LEB128; a field at its default is left out
//! record    := structure [body bytes]                       the body of a publish is the rest of its record
//! ```
//! An unknown field is skipped; an unknown record type stops the reader. Nothing here decides anything.

mod codec;
mod foreign;
pub(crate) mod wire;

pub use codec::{BodyAt, RecordKind, StoredBody, StoredMessage, decode_stored, stored_here};
pub(crate) use codec::{get_published_bare as get_published, put_published_bare as put_published};
pub(crate) use foreign::fields;
