//! Batches: ten entries at most, each answered for itself.

use std::collections::BTreeSet;

use aws::{ApiError, Input, MemberName, Value};

use crate::words;

/// Most entries.
pub(crate) const ENTRIES_MAX: usize = 10;
/// The longest id of an entry.
const ID_LEN_MAX: usize = 80;

/// The entries of a batch, if their ids are legal and distinct. `entry` is what the query protocol calls one.
pub(crate) fn entries(input: &mut Input, entry: &str) -> Result<Vec<(String, Value)>, ApiError> {
    let entries = match input.value.take("Entries") {
        Value::List(entries) if !entries.is_empty() => entries,
        _ => return Err(words::empty_batch(entry)),
    };
    let mut named = Vec::with_capacity(entries.len());
    for mut entry in entries {
        match entry.take("Id") {
            Value::Text(id) if is_legal_id(&id) => named.push((id, entry)),
            _ => return Err(words::invalid_entry_id()),
        }
    }
    let mut seen = BTreeSet::new();
    if let Some((id, _)) = named.iter().find(|(id, _)| !seen.insert(&id[..])) {
        return Err(words::repeated_entry(id));
    }
    if named.len() > ENTRIES_MAX {
        return Err(words::too_many_entries(named.len()));
    }
    Ok(named)
}

fn is_legal_id(id: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(legal)
}

/// The answer of a batch.
#[derive(Debug, Default)]
pub(crate) struct Results {
    successful: Vec<Value>,
    failed: Vec<Value>,
    /// How many of `failed` are for want of room, and the error of the last one.
    crowded: usize,
    last_crowded: Option<ApiError>,
}

impl Results {
    /// The result of one entry; `members` stand beside its id.
    pub(crate) fn put(&mut self, id: String, result: Result<Vec<(MemberName, Value)>, ApiError>) {
        match result {
            Ok(members) => {
                let mut entry = vec![("Id".into(), id.into())];
                entry.extend(members);
                self.successful.push(Value::Map(entry));
            }
            Err(error) => {
                if error.is_want_of_room() {
                    self.crowded += 1;
                    self.last_crowded = Some(error.clone());
                }
                // Entries are told the code of the query protocol.
                let code = error.query_code.unwrap_or(error.code).into_owned();
                self.failed.push(Value::from([
                    ("Id", id.into()),
                    ("SenderFault", (!error.receiver).into()),
                    ("Code", code.into()),
                    ("Message", error.message.into_owned().into()),
                ]));
            }
        }
    }

    /// The output. Both lists are there in JSON, though they be empty. When there was no room for any entry, the request as a
    /// whole has failed: SDKs try that again by themselves, and never look into the list.
    pub(crate) fn answer(self) -> Result<Value, ApiError> {
        match self.last_crowded {
            Some(error) if self.successful.is_empty() && self.crowded == self.failed.len() => {
                Err(error)
            }
            _ => Ok(Value::from([
                ("Successful", Value::List(self.successful)),
                ("Failed", Value::List(self.failed)),
            ])),
        }
    }
}
