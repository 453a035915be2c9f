//! Finds unknown keys, and the known key that was probably meant.
//!
//! What is known is read off a sample in which every optional key is present, so that there is no second list to keep.

use toml::{Table, Value};

/// An unknown key, and the closest known one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Its path, dotted.
    pub(super) path: String,
    /// What was probably meant.
    pub(super) meant: Option<String>,
}

/// The first key of `given` that `sample` does not have.
pub(super) fn first_unknown(given: &Table, sample: &Table) -> Option<Unknown> {
    let path = unknown_in(given, sample, "")?;
    let mut known = Vec::new();
    collect(sample, "", &mut known);
    let meant = known
        .into_iter()
        .map(|candidate| (distance(&path, &candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(path.len()) / 3)
        .map(|(_, candidate)| candidate);
    Some(Unknown { path, meant })
}

fn unknown_in(given: &Table, sample: &Table, prefix: &str) -> Option<String> {
    given.iter().find_map(|(key, value)| {
        let path = format!("{prefix}{key}");
        let Some(known) = sample.get(key) else {
            return Some(path);
        };
        match (value, known) {
            (Value::Table(given), Value::Table(sample)) => {
                unknown_in(given, sample, &format!("{path}."))
            }
            (Value::Array(given), Value::Array(sample)) => {
                let sample = sample.first()?.as_table()?;
                given.iter().enumerate().find_map(|(at, entry)| {
                    unknown_in(entry.as_table()?, sample, &format!("{path}[{at}]."))
                })
            }
            _ => None,
        }
    })
}

/// Every path of the sample, and again without its first part: `mqtt` is probably `listeners.mqtt`.
fn collect(sample: &Table, prefix: &str, known: &mut Vec<String>) {
    for (key, value) in sample {
        let path = format!("{prefix}{key}");
        if let Value::Table(table) = value {
            collect(table, &format!("{path}."), known);
        }
        if let Some(first) = value.as_array().and_then(|array| array.first()?.as_table()) {
            collect(first, &format!("{path}[0]."), known);
        }
        known.push(path);
    }
}

/// How many letters to change, add or drop; a missing or surplus section costs one.
fn distance(given: &str, known: &str) -> usize {
    let leaf = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let leaves = match (leaf(given), leaf(known)) {
        (Some(given), Some(known)) => edits(&given, &known) + 1,
        _ => usize::MAX,
    };
    edits(given, known).min(leaves)
}

/// The Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest(given: &str) -> (String, Option<String>) {
        let sample: Table = "data = 'd'\n[listeners]\nmqtt = ''\namqp = ''\n[memory]\nbodies_bytes_max = 1\n[[users]]\nname = ''\npassword = ''"
            .parse()
            .expect("a table");
        let unknown = first_unknown(&given.parse().expect("a table"), &sample).expect("unknown");
        (unknown.path, unknown.meant)
    }

    #[test]
    fn what_was_probably_meant() {
        let meant = |given: &str| suggest(given).1;
        assert_eq!(
            meant("listeners.mqt = 1").as_deref(),
            Some("listeners.mqtt")
        );
        assert_eq!(meant("mqtt = 1").as_deref(), Some("listeners.mqtt"));
        assert_eq!(meant("listener.amqp = 1").as_deref(), Some("listeners"));
        assert_eq!(
            meant("memory.body_bytes_max = 1").as_deref(),
            Some("memory.bodies_bytes_max")
        );
        assert_eq!(meant("dta = 1").as_deref(), Some("data"));
        assert_eq!(meant("quite_another_thing = 1"), None);
        assert_eq!(
            suggest("[[users]]\nname = ''\n[[users]]\npasword = ''").0,
            "users[1].pasword"
        );
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(
            (
                edits("", "abc"),
                edits("kitten", "sitting"),
                edits("same", "same")
            ),
            (3, 3, 0)
        );
    }
}
