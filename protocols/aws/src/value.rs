//! Inputs and outputs of operations, whatever they are written in.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use message::Timestamp;

/// The name of a member or the key of an entry: most are words of the program's own.
pub type MemberName = Cow<'static, str>;

/// A value of an input or an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Absent. Members of outputs with it are left out.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes: base64 in JSON and in the query protocol.
    Blob(Bytes),
    /// A time: seconds with a fraction in JSON and CBOR, ISO 8601 in the query protocol.
    Time(Timestamp),
    /// A list.
    List(Vec<Self>),
    /// A structure or a map, in the order of its writing.
    Map(Vec<(MemberName, Self)>),
    /// A list of structures, of outputs only. [`Value::list`] does not see it.
    Rows(Arc<dyn Rows>),
}

/// What takes the members of a row.
pub type ShowRow<'a> = dyn FnMut(&[(&'static str, Field<'_>)]) + 'a;

/// Structures of one kind, so many that they are written from what they show instead of being made first.
pub trait Rows: fmt::Debug + Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// About how many bytes they take when they are written, as [`Value::len_hint`] has it.
    fn len_hint(&self) -> usize;
    /// Gives `show` the members of each, in order.
    fn each(&self, show: &mut ShowRow<'_>);
}

/// What a member of a row says.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// Text.
    Text(&'a str),
    /// Text of letters, digits and the like, written as it stands: nobody looks whether it is UTF-8, or whether something must be escaped.
    Plain(&'a [u8]),
    /// Bytes.
    Blob(&'a Bytes),
    /// A time.
    Time(Timestamp),
    /// A member that most rows do not have, made for this one. Absent when it is `Null`.
    Other(&'a Value),
}

impl<'a> From<&'a Value> for Field<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Other(value)
    }
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Option<&'a str>> for Field<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Other(&Value::Null), Self::Text)
    }
}

impl Field<'_> {
    /// Whether its row does not have it.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Other(Value::Null))
    }
}

impl From<Field<'_>> for Value {
    fn from(field: Field<'_>) -> Self {
        match field {
            Field::Text(text) => text.into(),
            Field::Plain(text) => String::from_utf8_lossy(text).into_owned().into(),
            Field::Blob(blob) => Self::Blob(blob.clone()),
            Field::Time(time) => Self::Time(time),
            Field::Other(value) => value.clone(),
        }
    }
}

impl dyn Rows {
    /// The same as a list of structures.
    #[must_use]
    pub fn list(&self) -> Value {
        let mut list = Vec::with_capacity(self.count());
        self.each(&mut |row| {
            let members = row
                .iter()
                .map(|(name, field)| ((*name).into(), (*field).into()));
            list.push(Value::Map(members.collect()));
        });
        Value::List(list)
    }
}

impl PartialEq for dyn Rows {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}

impl Value {
    /// A structure without members.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Map(Vec::new())
    }

    /// The member or entry of that name. `None`: it is absent, or this is neither structure nor map.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(members) => members
                .iter()
                .find(|(known, value)| known == name && !value.is_null())
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether it is absent.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Takes that member out; absent is `Null`.
    pub fn take(&mut self, name: &str) -> Self {
        let Self::Map(members) = self else {
            return Self::Null;
        };
        let found = members.iter_mut().find(|(known, _)| known == name);
        found.map_or(Self::Null, |(_, value)| {
            std::mem::replace(value, Self::Null)
        })
    }

    /// About how many bytes it takes when it is written; in JSON, hardly more unless much of its text is escaped.
    #[must_use]
    pub fn len_hint(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 6,
            Self::Int(_) | Self::Float(_) | Self::Time(_) => 20,
            Self::Text(text) => text.len() + 3,
            Self::Blob(blob) => blob.len().div_ceil(3) * 4 + 3,
            Self::List(list) => 3 + list.iter().map(Self::len_hint).sum::<usize>(),
            Self::Map(members) => {
                let len = |(name, value): &(MemberName, Self)| name.len() + 3 + value.len_hint();
                3 + members.iter().map(len).sum::<usize>()
            }
            Self::Rows(rows) => 3 + rows.len_hint(),
        }
    }

    /// The text of that member.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of that member.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.member(name)? {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The flag of that member; absent is `false`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.member(name), Some(Self::Bool(true)))
    }

    /// The bytes of that member.
    #[must_use]
    pub fn blob(&self, name: &str) -> Option<&Bytes> {
        match self.member(name)? {
            Self::Blob(blob) => Some(blob),
            _ => None,
        }
    }

    /// The time of that member.
    #[must_use]
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        match self.member(name)? {
            Self::Time(time) => Some(*time),
            _ => None,
        }
    }

    /// The elements of that member; absent is none.
    #[must_use]
    pub fn list(&self, name: &str) -> &[Self] {
        match self.member(name) {
            Some(Self::List(list)) => list,
            _ => &[],
        }
    }

    /// The entries of that member; absent is none.
    #[must_use]
    pub fn map(&self, name: &str) -> &[(MemberName, Self)] {
        match self.member(name) {
            Some(Self::Map(map)) => map,
            _ => &[],
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}
impl From<Bytes> for Value {
    fn from(blob: Bytes) -> Self {
        Self::Blob(blob)
    }
}
impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}
impl From<Vec<Self>> for Value {
    fn from(list: Vec<Self>) -> Self {
        Self::List(list)
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
/// A structure from its members.
impl<const N: usize> From<[(&'static str, Self); N]> for Value {
    fn from(members: [(&'static str, Self); N]) -> Self {
        Self::Map(members.map(|(name, value)| (name.into(), value)).into())
    }
}
