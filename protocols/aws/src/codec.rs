//! Inputs and outputs as bytes: one file per form.

pub mod cbor;
pub mod event_stream;
pub mod json;
mod pieces;
pub mod query;
pub(crate) mod xml;

pub use pieces::{Pieces, Sink};

/// How deep inputs may be nested.
const DEPTH_MAX: usize = 64;
/// Elements of a list and entries of a map beyond which an input is not read, whatever its shape says.
const ELEMENTS_MAX: usize = 100_000;
/// Entries of a map among which repeated keys are looked for.
const REPEATS_MAX: usize = 64;

use crate::{MemberName, Value};

/// What is wrong with an input's bytes: a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub(crate) String);

impl Malformed {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Puts a member or an entry; of repeated ones the last counts.
fn put(
    members: &mut Vec<(MemberName, Value)>,
    name: impl AsRef<str> + Into<MemberName>,
    value: Value,
) {
    if members.len() <= REPEATS_MAX
        && let Some((_, known)) = members.iter_mut().find(|(known, _)| known == name.as_ref())
    {
        *known = value;
        return;
    }
    members.push((name.into(), value));
}

/// How many elements of a list are kept: one more than there may be shows that there are too many.
fn kept(max: u32) -> usize {
    (max as usize).saturating_add(1).min(ELEMENTS_MAX)
}
