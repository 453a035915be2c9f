//! The query protocol: names with dots and their values, in a form or behind the question mark, read as a shape says.
//!
//! ```text
//! Entry.1.Id=a          flattened list, whose elements stand where the list would
//! Tags.member.1.Key=a   list
//! Tag.1.Key=a&Tag.1.Value=b, Attributes.entry.1.key=a&Attributes.entry.1.value=b     maps
//! ```
//! SDKs of different ages write lists and maps differently; each spelling is taken for each.

use std::borrow::Cow;

use bytes::Bytes;
use message::{Timestamp, base64};

use super::{DEPTH_MAX, ELEMENTS_MAX, Malformed, kept};
use crate::{Member, Shape, Value, time};

/// Names with their values, decoded, in their order.
#[derive(Debug, Default)]
pub struct Form<'a> {
    pairs: Vec<Pair<'a>>,
}

/// A name and its value.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

impl<'a> Form<'a> {
    /// Reads `a=b&c=d`.
    ///
    /// # Errors
    /// When an escape is malformed, it is not UTF-8, or there are too many parameters.
    pub fn read(&mut self, text: &'a [u8]) -> Result<(), Malformed> {
        self.read_with(text, b' ')
    }

    /// Reads the same in a URL that is signed. What is read there must be what was signed, and Signature Version 4 has `+` for
    /// itself there, not for a space.
    pub(crate) fn read_signed(&mut self, text: &'a [u8]) -> Result<(), Malformed> {
        self.read_with(text, b'+')
    }

    fn read_with(&mut self, text: &'a [u8], plus: u8) -> Result<(), Malformed> {
        for pair in text.split(|byte| *byte == b'&').filter(|it| !it.is_empty()) {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = match at {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            if self.pairs.len() >= ELEMENTS_MAX {
                return Err(Malformed::new("The query string has too many parameters"));
            }
            self.pairs
                .push((decode_percent(name, plus)?, decode_percent(value, plus)?));
        }
        Ok(())
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// The names and values as `shape`, a structure.
    ///
    /// # Errors
    /// When a name has too many parts, or a value is not what the shape says.
    pub fn decode(&self, shape: &Shape) -> Result<Value, Malformed> {
        fn parts<'a>(pair: &'a Pair<'_>) -> impl Iterator<Item = Part<'a>> {
            pair.0.split('.').map(Part::of)
        }
        if self
            .pairs
            .iter()
            .any(|(name, _)| name.split('.').count() > DEPTH_MAX)
        {
            return Err(Malformed::new("A parameter has too many parts"));
        }
        let mut sorted: Vec<&Pair<'_>> = self.pairs.iter().collect();
        // Of equal names the last stays the last: it counts.
        sorted.sort_by(|a, b| parts(a).cmp(parts(b)));
        let root = Node {
            pairs: &sorted,
            depth: 0,
        };
        root.decode(shape)
            .map(|value| value.unwrap_or(Value::empty()))
    }
}

/// A part of a name. Numbers have their own order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u32),
    Word(&'a str),
}

impl<'a> Part<'a> {
    fn of(text: &'a str) -> Self {
        text.parse()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(Self::Word(text), Self::Number)
    }
}

/// A place in the tree that the names are: all names that begin alike, in the order of their parts, so that those that end
/// here come first. The tree itself is not built; it would be far larger than the names.
#[derive(Clone, Copy)]
struct Node<'a> {
    pairs: &'a [&'a Pair<'a>],
    /// In how many parts they are alike.
    depth: usize,
}

impl<'a> Node<'a> {
    /// The next part of a name. `None`: it ends here.
    fn part(&self, pair: &'a Pair<'a>) -> Option<Part<'a>> {
        pair.0.split('.').nth(self.depth).map(Part::of)
    }

    /// The value of the name that ends here.
    fn value(&self) -> Option<&'a str> {
        let end = self.pairs.partition_point(|it| self.part(it).is_none());
        self.pairs[..end].last().map(|(_, value)| &**value)
    }

    /// Those whose next part is between two, both included.
    fn between(&self, first: Part<'_>, last: Part<'_>) -> &'a [&'a Pair<'a>] {
        let from = self.pairs.partition_point(|it| self.part(it) < Some(first));
        let behind = self.pairs.partition_point(|it| self.part(it) <= Some(last));
        &self.pairs[from..behind]
    }

    fn child(&self, name: &str) -> Option<Self> {
        let part = Part::of(name);
        let pairs = self.between(part, part);
        (!pairs.is_empty()).then_some(Self {
            pairs,
            depth: self.depth + 1,
        })
    }

    /// What is below, a node for each part of these names.
    fn below(self, pairs: &'a [&'a Pair<'a>]) -> impl Iterator<Item = Self> {
        pairs
            .chunk_by(move |a, b| self.part(a) == self.part(b))
            .map(move |pairs| Self {
                pairs,
                depth: self.depth + 1,
            })
    }

    /// The children that are numbered.
    fn numbered(self) -> impl Iterator<Item = Self> {
        self.below(self.between(Part::Number(0), Part::Number(u32::MAX)))
    }

    /// The children that are not.
    fn named(self) -> impl Iterator<Item = Self> {
        let from = self
            .pairs
            .partition_point(|it| self.part(it) <= Some(Part::Number(u32::MAX)));
        self.below(&self.pairs[from..])
    }

    fn decode(&self, shape: &Shape) -> Result<Option<Value>, Malformed> {
        Ok(Some(match shape {
            Shape::Structure(members) => {
                let mut known = Vec::new();
                for member in *members {
                    if let Some(value) = self.member(member)? {
                        known.push((member.name.into(), value));
                    }
                }
                Value::Map(known)
            }
            Shape::List { of, max, .. } => {
                let mut list = Vec::new();
                for node in self.elements().take(kept(*max)) {
                    list.push(node.decode(of)?.unwrap_or(Value::Null));
                }
                Value::List(list)
            }
            Shape::Map {
                of,
                max,
                key,
                value,
                ..
            } => {
                let mut entries = Vec::new();
                for node in self.elements().take(kept(*max)) {
                    let name = ["key", "Key", "Name"]
                        .into_iter()
                        .fold(node.child(key), |found, other| {
                            found.or_else(|| node.child(other))
                        })
                        .and_then(|child| child.value())
                        .unwrap_or_default();
                    let of_entry = node
                        .child(value)
                        .or_else(|| node.child("value"))
                        .or_else(|| node.child("Value"));
                    let entry = match of_entry {
                        Some(node) => node.decode(of)?,
                        None => None,
                    };
                    super::put(&mut entries, name.to_owned(), entry.unwrap_or(Value::Null));
                }
                Value::Map(entries)
            }
            scalar => match self.value() {
                Some(text) => read_scalar(text, scalar)?,
                None => return Ok(None),
            },
        }))
    }

    /// The elements of a list or map, wherever they stand: `L.1`, `L.member.1`, `L.entry.1`.
    fn elements(self) -> impl Iterator<Item = Self> {
        let is_there = |node: &Self| node.numbered().next().is_some();
        let here = if is_there(&self) {
            self
        } else {
            self.named().find(is_there).unwrap_or(self)
        };
        here.numbered()
    }

    fn member(&self, member: &'static Member) -> Result<Option<Value>, Malformed> {
        let other = match member.shape {
            Shape::List {
                element,
                flat: true,
                ..
            } => Some(*element),
            Shape::Map { flat, .. } => *flat,
            _ => None,
        };
        let node = self.child(member.name).or_else(|| self.child(other?));
        let Some(node) = node else {
            // A map without entries cannot be written in this protocol: where there has to be one, none is an empty one.
            let empty = member.required && matches!(member.shape, Shape::Map { .. });
            return Ok(empty.then(Value::empty));
        };
        // An empty list is written as an empty value.
        node.decode(member.shape)
    }
}

fn read_scalar(text: &str, shape: &Shape) -> Result<Value, Malformed> {
    let wrong = |kind: &str| Malformed::new(format!("{text:?} is not {kind}"));
    Ok(match shape {
        Shape::Blob { .. } => {
            let bytes = base64::decode(text.as_bytes()).ok_or_else(|| wrong("valid base64"))?;
            Value::Blob(Bytes::from(bytes))
        }
        Shape::Int { .. } => {
            let trimmed = text.trim();
            Value::Int(trimmed.parse().map_err(|_| wrong("an integer"))?)
        }
        Shape::Float => {
            let number = text.trim().parse().ok();
            // Rust reads `inf` and `nan` too.
            let number = number.filter(|number: &f64| number.is_finite());
            Value::Float(number.ok_or_else(|| wrong("a number"))?)
        }
        Shape::Bool => match text.trim() {
            "true" | "True" | "TRUE" | "1" => Value::Bool(true),
            "false" | "False" | "FALSE" | "0" => Value::Bool(false),
            _ => return Err(wrong("a boolean (true or false)")),
        },
        Shape::Time => {
            let seconds = text
                .trim()
                .parse::<f64>()
                .ok()
                .filter(|it| (0.0..1e13).contains(it));
            let read = seconds.map(|seconds| Timestamp((seconds * 1000.0).round() as u64));
            let read = read.or_else(|| time::read_iso(text.trim()));
            Value::Time(read.ok_or_else(|| wrong("a timestamp"))?)
        }
        _ => Value::Text(text.to_owned()),
    })
}

/// Undoes percent-encoding, with `plus` for a `+`.
fn decode_percent(text: &[u8], plus: u8) -> Result<Cow<'_, str>, Malformed> {
    let utf8 = |_| Malformed::new("The query string is not UTF-8");
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return std::str::from_utf8(text)
            .map(Cow::Borrowed)
            .map_err(|_| utf8(()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        out.push(match byte {
            b'+' => plus,
            b'%' => {
                let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else {
                    return Err(Malformed::new("The query string has a malformed escape"));
                };
                at += 2;
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| utf8(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberName;

    static ENTRY: Shape = Shape::Structure(&[
        Member::new("Id", &Shape::TEXT),
        Member::new("Delay", &Shape::INT),
        Member::new("Attributes", &FLAT_MAP),
    ]);
    static FLAT_MAP: Shape = Shape::Map {
        of: &Shape::TEXT,
        min: 0,
        max: 10,
        key: "Name",
        value: "Value",
        flat: Some("Attribute"),
    };
    static ENTRIES: Shape = Shape::List {
        of: &ENTRY,
        min: 0,
        max: 10,
        element: "SendEntry",
        flat: true,
    };
    static INPUT: Shape = Shape::Structure(&[
        Member::new("Entries", &ENTRIES),
        Member::new("Tags", &Shape::list(&Shape::TEXT)),
        Member::new("Map", &Shape::map(&Shape::TEXT)),
        Member::new("Flag", &Shape::Bool),
        Member::new("Data", &Shape::BLOB),
        Member::new("Time", &Shape::Time),
        Member::new("Float", &Shape::Float),
    ]);

    fn read(text: &str) -> Result<Value, Malformed> {
        let mut form = Form::default();
        form.read(text.as_bytes())?;
        form.decode(&INPUT)
    }

    #[test]
    fn lists_and_maps_in_all_spellings() {
        let value = read(
            "Action=X&SendEntry.2.Id=b&SendEntry.10.Id=c&SendEntry.1.Id=a%20%2B+z&SendEntry.1.Delay=5\
             &SendEntry.1.Attribute.1.Name=n&SendEntry.1.Attribute.1.Value=v\
             &Tags.member.1=x&Tags.member.2=y&Map.entry.1.key=k&Map.entry.1.value=w\
             &Flag=true&Data=AAE%3D&Time=2020-01-02T03:04:05Z",
        )
        .expect("right");
        let ids: Vec<_> = value
            .list("Entries")
            .iter()
            .map(|it| it.text("Id"))
            .collect();
        assert_eq!(ids, [Some("a + z"), Some("b"), Some("c")]);
        let first = &value.list("Entries")[0];
        assert_eq!(first.int("Delay"), Some(5));
        assert_eq!(
            first.map("Attributes"),
            [(MemberName::from("n"), Value::from("v"))]
        );
        assert_eq!(value.list("Tags"), [Value::from("x"), Value::from("y")]);
        assert_eq!(
            value.map("Map"),
            [(MemberName::from("k"), Value::from("w"))]
        );
        assert!(value.flag("Flag"));
        assert_eq!(value.blob("Data").map(|blob| &blob[..]), Some(&[0, 1][..]));
        assert_eq!(value.time("Time"), Some(Timestamp(1_577_934_245_000)));
        // By the list's own name, and without `member`.
        let value = read(
            "Entries.1.Id=a&Entries.1.Attributes.1.key=n&Entries.1.Attributes.1.value=v&Tags.1=x",
        )
        .expect("right");
        assert_eq!(value.list("Entries")[0].map("Attributes").len(), 1);
        assert_eq!(value.list("Tags"), [Value::from("x")]);
        assert_eq!(read("Tags=").expect("right").list("Tags"), []);
    }

    #[test]
    fn a_required_map_without_entries_is_empty() {
        static NEEDED: Shape = Shape::Structure(&[Member {
            name: "Attributes",
            shape: &Shape::map(&Shape::TEXT),
            required: true,
        }]);
        let value = Form::default().decode(&NEEDED).expect("right");
        assert_eq!(
            value,
            Value::Map(vec![("Attributes".into(), Value::empty())])
        );
    }

    #[test]
    fn what_is_no_query_string_is_refused() {
        for text in [
            "a=%",
            "a=%2",
            "a=%zz",
            "a=%ff",
            "Flag=maybe",
            "SendEntry.1.Delay=x",
            "Data=A",
            "Time=soon",
            "Float=inf",
            "Float=1e999",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&"a.".repeat(100)).is_err());
    }
}
