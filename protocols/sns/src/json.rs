//! JSON in attributes: members of objects.

use message::Value;

/// The object that a text is. `None`: it is none.
pub(crate) fn object(text: &str) -> Option<Vec<(String, Value)>> {
    members(Value::from_json(text.as_bytes())?)
}

/// The members of an object. `None`: it is none.
pub(crate) fn members(value: Value) -> Option<Vec<(String, Value)>> {
    let Value::Map(pairs) = value else {
        return None;
    };
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| Some((name.as_str()?.to_owned(), value)));
    pairs.collect()
}

/// The member of that name.
pub(crate) fn member<'a>(object: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    let found = object.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value)
}

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    Value::text(text).to_json()
}
