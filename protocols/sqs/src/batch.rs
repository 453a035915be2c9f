//! Batches: ten entries at most, each answered for itself.

use std::{collections::BTreeSet, fmt, sync::Arc};

use aws::{ApiError, Input, Rows, ShowRow, Value};

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
    let repeated = if named.len() <= ENTRIES_MAX {
        // So few are compared each with each.
        let before = |at: usize| named[..at].iter().any(|(id, _)| *id == named[at].0);
        (1..named.len()).find(|at| before(*at))
    } else {
        let mut seen = BTreeSet::new();
        named.iter().position(|(id, _)| !seen.insert(&id[..]))
    };
    if let Some(at) = repeated {
        return Err(words::repeated_entry(&named[at].0));
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

/// What an entry that went well shows beside its id.
pub(crate) trait Success: fmt::Debug + Send + Sync + 'static {
    /// Shows the entry.
    fn show(&self, id: &str, show: &mut ShowRow<'_>);
}

/// Nothing.
impl Success for () {
    fn show(&self, id: &str, show: &mut ShowRow<'_>) {
        show(&[("Id", id.into())]);
    }
}

/// Entries that went well.
#[derive(Debug)]
struct Successful<T>(Vec<(String, T)>);

impl<T: Success> Rows for Successful<T> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn len_hint(&self) -> usize {
        // An id of the entry, one of a message, and a digest.
        const ABOUT: usize = 160;
        self.0.len() * ABOUT
    }

    fn each(&self, show: &mut ShowRow<'_>) {
        for (id, entry) in &self.0 {
            entry.show(id, show);
        }
    }
}

/// The answer of a batch.
#[derive(Debug)]
pub(crate) struct Results<T> {
    successful: Vec<(String, T)>,
    failed: Vec<Value>,
    /// How many of `failed` are for want of room, and the error of the last one.
    crowded: usize,
    last_crowded: Option<ApiError>,
}

impl<T: Success> Results<T> {
    /// Of so many entries.
    pub(crate) fn of(entries: usize) -> Self {
        Self {
            successful: Vec::with_capacity(entries),
            failed: Vec::new(),
            crowded: 0,
            last_crowded: None,
        }
    }

    /// The result of one entry.
    pub(crate) fn put(&mut self, id: String, result: Result<T, ApiError>) {
        match result {
            Ok(entry) => self.successful.push((id, entry)),
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
                (
                    "Successful",
                    Value::Rows(Arc::new(Successful(self.successful))),
                ),
                ("Failed", Value::List(self.failed)),
            ])),
        }
    }
}
