//! Whether an input satisfies its shape, and how it does not, as AWS words it.
//!
//! Members are named from the outside in, beginning with a small letter: `records.2.member.partitionKey`. What is wrong with
//! the elements of a list of texts or numbers is said of the list. All that is wrong is collected, in the order of the members.

use message::Timestamp;

use crate::{Member, Shape, Value};

/// How much of a value is shown, in bytes.
const SHOWN_LEN_MAX: usize = 4096;
/// How many faults are told.
const FAULTS_MAX: usize = 100;

/// What is wrong with an input.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// Each as AWS words one, missing members included.
    pub(crate) all: Vec<String>,
    /// The first required member that is missing: `Entries.2.Id`.
    pub(crate) missing: Option<String>,
}

/// Everything that is wrong with a structure.
pub(crate) fn validate(value: &Value, members: &[Member]) -> Faults {
    let mut validator = Validator::default();
    validator.members(value, members);
    validator.faults
}

/// A part of the path to a value.
#[derive(Clone, Copy)]
enum Part<'a> {
    Name(&'a str),
    Number(usize),
}

/// What stands between a list or map and what is in its elements.
const MEMBER: Part<'_> = Part::Name("member");

#[derive(Default)]
struct Validator<'a> {
    faults: Faults,
    /// As AWS shows it. It becomes text only when something is wrong.
    path: Vec<Part<'a>>,
}

impl<'a> Validator<'a> {
    fn within(&mut self, parts: &[Part<'a>], work: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.extend_from_slice(parts);
        work(self);
        self.path.truncate(before);
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        self.path.iter().map(|part| match part {
            Part::Name(name) => (*name).to_owned(),
            Part::Number(number) => number.to_string(),
        })
    }

    fn fault(&mut self, value: &str, constraint: &str) {
        if self.faults.all.len() >= FAULTS_MAX {
            return;
        }
        let path: Vec<String> = self.texts().map(|part| uncapitalised(&part)).collect();
        let path = path.join(".");
        self.faults.all.push(format!(
            "Value {value} at '{path}' failed to satisfy constraint: {constraint}"
        ));
    }

    fn members(&mut self, value: &'a Value, members: &'a [Member]) {
        for member in members {
            let value = value.member(member.name);
            // Most are there and as they should be: nobody asks how they are called.
            let holds = match value {
                None => !member.required,
                Some(value) => is_scalar(member.shape) && satisfies(value, member.shape),
            };
            if holds {
                continue;
            }
            self.within(&[Part::Name(member.name)], |this| match value {
                Some(value) => this.value(value, member.shape),
                None => this.missing(),
            });
        }
    }

    fn missing(&mut self) {
        if self.faults.missing.is_none() {
            let parts: Vec<String> = self.texts().collect();
            let parts = parts.split(|part| *part == "member").map(|it| it.join("."));
            self.faults.missing = Some(parts.collect::<Vec<_>>().join("."));
        }
        self.fault("null", "Member must not be null");
    }

    fn value(&mut self, value: &'a Value, shape: &'a Shape) {
        match (shape, value) {
            (_, Value::Null) => self.missing(),
            (Shape::Structure(members), value) => self.members(value, members),
            (Shape::List { of, min, max, .. }, Value::List(list)) => {
                self.size(value, list.len(), *min, *max);
                if is_scalar(of) {
                    self.elements(value, list.iter(), of, "Member");
                    return;
                }
                for (number, element) in (1..).zip(list) {
                    self.within(&[Part::Number(number), MEMBER], |this| {
                        this.value(element, of);
                    });
                }
            }
            (Shape::Map { of, min, max, .. }, Value::Map(entries)) => {
                self.size(value, entries.len(), *min, *max);
                if is_scalar(of) {
                    self.elements(value, entries.iter().map(|(_, it)| it), of, "Map value");
                    return;
                }
                for (name, entry) in entries {
                    self.within(&[Part::Name(name), MEMBER], |this| this.value(entry, of));
                }
            }
            (shape, value) => {
                let mut broken = Vec::new();
                constraints(value, shape, &mut broken);
                for constraint in broken {
                    self.fault(&shown(value), &format!("Member must {constraint}"));
                }
            }
        }
    }

    fn size(&mut self, value: &Value, len: usize, min: u32, max: u32) {
        for constraint in lengths(len, min, max) {
            self.fault(&shown(value), &format!("Member must {constraint}"));
        }
    }

    /// Of texts and numbers in a list or map, all constraints are told if any element breaks one.
    fn elements<'b>(
        &mut self,
        whole: &Value,
        mut values: impl Iterator<Item = &'b Value>,
        of: &Shape,
        what: &str,
    ) {
        let broken = values.any(|value| !satisfies(value, of) || *value == Value::Null);
        if broken {
            let all: Vec<String> = every(of)
                .into_iter()
                .map(|constraint| format!("Member must {constraint}"))
                .collect();
            self.fault(
                &shown(whole),
                &format!("{what} must satisfy constraint: [{}]", all.join(", ")),
            );
        }
    }
}

/// Whether a text, a number or bytes break no constraint, which most do: none is put into words for it.
fn satisfies(value: &Value, shape: &Shape) -> bool {
    let fits = |len: usize, min: u32, max: u32| (min as usize..=max as usize).contains(&len);
    match (shape, value) {
        (Shape::Text { min, max, check }, Value::Text(text)) => {
            fits(text_len(text, *min, *max), *min, *max)
                && check.is_none_or(|check| (check.holds)(text))
        }
        (Shape::Choice(choices), Value::Text(text)) => choices.contains(&&**text),
        (Shape::Blob { min, max }, Value::Blob(blob)) => fits(blob.len(), *min, *max),
        (Shape::Int { min, max }, Value::Int(int)) => (min..=max).contains(&int),
        _ => true,
    }
}

/// The length of a text as a shape counts it. Characters are counted only where bytes leave a doubt.
fn text_len(text: &str, min: u32, max: u32) -> usize {
    if text.len() <= max as usize && text.len() / 4 >= min as usize {
        text.len()
    } else {
        text.chars().count()
    }
}

const fn is_scalar(shape: &Shape) -> bool {
    !matches!(
        shape,
        Shape::Structure(_) | Shape::List { .. } | Shape::Map { .. }
    )
}

fn uncapitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

fn at_most(max: u32) -> String {
    format!("have length less than or equal to {max}")
}

fn at_least(min: u32) -> String {
    format!("have length greater than or equal to {min}")
}

fn lengths(len: usize, min: u32, max: u32) -> impl Iterator<Item = String> {
    let long = (len > max as usize).then(|| at_most(max));
    let short = (len < min as usize).then(|| at_least(min));
    long.into_iter().chain(short)
}

fn words(words: &[&str]) -> String {
    format!("satisfy enum value set: [{}]", words.join(", "))
}

fn pattern(pattern: &str) -> String {
    format!("satisfy regular expression pattern: {pattern}")
}

/// The constraints that a text, a number or bytes break.
fn constraints(value: &Value, shape: &Shape, broken: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Text { min, max, check }, Value::Text(text)) => {
            broken.extend(lengths(text_len(text, *min, *max), *min, *max));
            if let Some(check) = check
                && !(check.holds)(text)
            {
                broken.push(pattern(check.pattern));
            }
        }
        (Shape::Choice(choices), Value::Text(text)) if !choices.contains(&&**text) => {
            broken.push(words(choices));
        }
        (Shape::Blob { min, max }, Value::Blob(blob)) => {
            broken.extend(lengths(blob.len(), *min, *max));
        }
        (Shape::Int { min, max }, Value::Int(int)) => {
            if int > max {
                broken.push(format!("have value less than or equal to {max}"));
            }
            if int < min {
                broken.push(format!("have value greater than or equal to {min}"));
            }
        }
        _ => {}
    }
}

/// All constraints of a shape.
fn every(shape: &Shape) -> Vec<String> {
    match shape {
        Shape::Text { min, max, check } => {
            let mut all = Vec::new();
            if *max < u32::MAX {
                all.push(at_most(*max));
            }
            all.push(at_least(*min));
            all.extend(check.map(|check| pattern(check.pattern)));
            all
        }
        Shape::Choice(choices) => vec![words(choices)],
        Shape::Blob { min, max } => vec![at_most(*max), at_least(*min)],
        Shape::Int { min, max } => vec![
            format!("have value less than or equal to {max}"),
            format!("have value greater than or equal to {min}"),
        ],
        _ => vec!["not be null".to_owned()],
    }
}

/// A value as AWS shows it.
fn shown(value: &Value) -> String {
    let mut out = String::from("'");
    show(value, &mut out);
    if out.len() > SHOWN_LEN_MAX {
        out.truncate(out.floor_char_boundary(SHOWN_LEN_MAX));
        out.push_str("...");
    }
    out.push('\'');
    out
}

fn show(value: &Value, out: &mut String) {
    if out.len() > SHOWN_LEN_MAX {
        return;
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(&flag.to_string()),
        Value::Int(int) => out.push_str(&int.to_string()),
        Value::Float(float) => out.push_str(&float.to_string()),
        Value::Text(text) => out.push_str(text),
        Value::Blob(blob) => {
            let len = blob.len();
            out.push_str(&format!(
                "java.nio.HeapByteBuffer[pos=0 lim={len} cap={len}]"
            ));
        }
        Value::Time(Timestamp(_)) => {
            if let Value::Time(at) = value {
                out.push_str(&at.date_time());
            }
        }
        Value::List(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                show(value, out);
            }
            out.push(']');
        }
        Value::Map(members) => {
            out.push('{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                out.push_str(name);
                out.push('=');
                show(value, out);
            }
            out.push('}');
        }
        Value::Rows(rows) => show(&rows.list(), out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checked;

    static NAME: Shape = Shape::Text {
        min: 1,
        max: 5,
        check: Some(Checked {
            pattern: "[a-z]+",
            holds: |text| text.bytes().all(|byte| byte.is_ascii_lowercase()),
        }),
    };
    static RECORD: Shape = Shape::Structure(&[
        Member::required("Data", &Shape::Blob { min: 0, max: 3 }),
        Member::required("PartitionKey", &NAME),
    ]);
    static RECORDS: Shape = Shape::List {
        of: &RECORD,
        min: 1,
        max: 2,
        element: "member",
        flat: false,
    };
    static MEMBERS: &[Member] = &[
        Member::required("StreamName", &NAME),
        Member::new("Limit", &Shape::Int { min: 1, max: 10 }),
        Member::new("Type", &Shape::Choice(&["A", "B"])),
        Member::new("Records", &RECORDS),
        Member::new("TagKeys", &Shape::list(&NAME)),
        Member::new("Tags", &Shape::map(&NAME)),
    ];

    fn faults(members: &[(&str, Value)]) -> Faults {
        let members = members.iter().cloned();
        let value = Value::Map(
            members
                .map(|(name, it)| (name.to_owned().into(), it))
                .collect(),
        );
        validate(&value, MEMBERS)
    }

    #[test]
    fn constraints_are_worded_as_aws_words_them() {
        let name = ("StreamName", Value::from("abc"));
        assert_eq!(faults(std::slice::from_ref(&name)), Faults::default());
        for (member, said) in [
            (
                ("StreamName", "".into()),
                "Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                ("StreamName", "äöüßéè".into()),
                "Value 'äöüßéè' at 'streamName' failed to satisfy constraint: Member must have length less than or equal to 5",
            ),
            (
                ("StreamName", "A".into()),
                "Value 'A' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-z]+",
            ),
            (
                ("Limit", 0.into()),
                "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
            ),
            (
                ("Limit", 11.into()),
                "Value '11' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10",
            ),
            (
                ("Type", "C".into()),
                "Value 'C' at 'type' failed to satisfy constraint: Member must satisfy enum value set: [A, B]",
            ),
            (
                ("Records", Value::List(vec![])),
                "Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                ("TagKeys", Value::List(vec!["a".into(), "".into()])),
                "Value '[a, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 5, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [a-z]+]",
            ),
            (
                ("Tags", Value::from([("k", "LONGER".into())])),
                "Value '{k=LONGER}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 5, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [a-z]+]",
            ),
        ] {
            let mut members = vec![member];
            if members[0].0 != "StreamName" {
                members.insert(0, name.clone());
            }
            assert_eq!(faults(&members).all.first().map(String::as_str), Some(said));
        }
    }

    #[test]
    fn what_satisfies_a_shape_breaks_none_of_its_constraints() {
        let texts = ["", "a", "abcde", "abcdef", "A", "B", "é", "äöüßé", "äöüßéè"];
        let bytes = |len| bytes::Bytes::from(vec![0; len]);
        let values = (texts.into_iter().map(Value::from))
            .chain([-1, 0, 1, 10, 11].map(Value::Int))
            .chain([0, 3, 4].map(|len| bytes(len).into()))
            .chain([Value::Null, Value::Bool(true), Value::List(vec![])]);
        let shapes = [
            Shape::Text {
                min: 1,
                max: 5,
                check: None,
            },
            Shape::TEXT,
            Shape::BLOB,
            Shape::INT,
            Shape::Bool,
            Shape::Blob { min: 1, max: 3 },
            Shape::Int { min: 1, max: 10 },
            Shape::Choice(&["A", "B"]),
        ];
        for value in values {
            for shape in shapes.iter().chain([&NAME]) {
                let mut broken = Vec::new();
                constraints(&value, shape, &mut broken);
                assert_eq!(
                    satisfies(&value, shape),
                    broken.is_empty(),
                    "{value:?} {broken:?}"
                );
            }
        }
    }

    #[test]
    fn everything_is_collected_and_what_is_missing_is_named() {
        let record =
            |data: &'static [u8]| Value::from([("Data", bytes::Bytes::from_static(data).into())]);
        let found = faults(&[("Records", vec![record(b"abc"), record(b"abcd")].into())]);
        assert_eq!(found.missing.as_deref(), Some("StreamName"));
        assert_eq!(
            found.all,
            [
                "Value null at 'streamName' failed to satisfy constraint: Member must not be null",
                "Value null at 'records.1.member.partitionKey' failed to satisfy constraint: Member must not be null",
                "Value 'java.nio.HeapByteBuffer[pos=0 lim=4 cap=4]' at 'records.2.member.data' failed to satisfy constraint: Member must have length less than or equal to 3",
                "Value null at 'records.2.member.partitionKey' failed to satisfy constraint: Member must not be null",
            ]
        );
        let found = faults(&[
            ("StreamName", "a".into()),
            ("Records", vec![record(b"")].into()),
        ]);
        assert_eq!(found.missing.as_deref(), Some("Records.1.PartitionKey"));
    }
}
