//! Properties and identifiers for protocols whose properties are texts, and back.
//!
//! A value with a plain text is that text. What has none (null, bytes, lists, maps) is JSON (`json.rs`), and the property
//! [`JSON_NAMES`] lists which names those are, so that nothing that merely looks like JSON is taken for it. Where a protocol
//! knows repeated names, a list of plain values may be written so ([`Lists::Repeated`]).
//!
//! An identifier that is not UTF-8 is `base64:` and its base64; so is, lest it be taken for one, a text that reads like that.

use std::{borrow::Cow, collections::BTreeSet};

use bytes::Bytes;

use crate::{
    base64, json,
    value::{Properties, Value},
};

/// The property that lists, as a JSON array, the names whose text is JSON.
pub const JSON_NAMES: &str = "x-bascule-json";
/// The most bytes of JSON in one message that are read back as values; more stay texts.
pub const JSON_READ_MAX: usize = 128 * 1024;

const BASE64: &[u8] = b"base64:";

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// A name for each of its values, if each has a plain text.
    Repeated,
    /// As JSON.
    Json,
}

impl Value {
    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        json::put(self, &mut text);
        text
    }

    /// Reads JSON. `None`: it is none, or nests deeper than [`VALUE_DEPTH_MAX`](crate::VALUE_DEPTH_MAX).
    #[must_use]
    pub fn from_json(text: &[u8]) -> Option<Self> {
        json::read(text)
    }

    /// A message or correlation id as text that [`Value::id_from_text`] brings back. `None` for what is no id.
    #[must_use]
    pub fn id_text(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Text(id) | Self::Symbol(id) | Self::Bytes(id) | Self::LongString(id) => {
                if std::str::from_utf8(id).is_ok() && read_base64(id).is_none() {
                    return Some(Cow::Borrowed(id));
                }
                let text = [BASE64, base64::encode(id).as_bytes()].concat();
                Some(Cow::Owned(text))
            }
            other => other
                .to_plain_text()
                .map(|text| Cow::Owned(text.into_bytes())),
        }
    }

    /// A message or correlation id from what [`Value::id_text`] wrote, or from any other bytes.
    #[must_use]
    pub fn id_from_text(text: Bytes) -> Self {
        if std::str::from_utf8(&text).is_err() {
            return Self::Bytes(text);
        }
        match read_base64(&text) {
            Some(bytes) if std::str::from_utf8(&bytes).is_ok() => Self::Text(Bytes::from(bytes)),
            Some(bytes) => Self::Bytes(Bytes::from(bytes)),
            None => Self::Text(text),
        }
    }
}

/// What stands behind `base64:`, if it can only have been written as that: bytes that are no text, or a text of this form.
fn read_base64(text: &[u8]) -> Option<Vec<u8>> {
    let bytes = base64::decode(text.strip_prefix(BASE64)?)?;
    let as_it_is = std::str::from_utf8(&bytes).is_ok() && read_base64(&bytes).is_none();
    (!as_it_is).then_some(bytes)
}

impl Properties {
    /// Gives `put` a name and a text for each property. What comes back, if anything, is the text of [`JSON_NAMES`].
    #[must_use]
    pub fn write_texts(&self, lists: Lists, mut put: impl FnMut(&[u8], &[u8])) -> Option<String> {
        let mut names: Vec<Value> = Vec::new();
        for (name, value) in &self.0 {
            if let Value::Text(text) | Value::Symbol(text) = value {
                put(name, text);
            } else if let Some(text) = value.to_plain_text() {
                put(name, text.as_bytes());
            } else if let (Lists::Repeated, Some(texts)) = (lists, plain_texts(value)) {
                for text in texts {
                    put(name, text.as_bytes());
                }
            } else {
                put(name, value.to_json().as_bytes());
                names.push(Value::Text(name.clone()));
            }
        }
        (!names.is_empty()).then(|| Value::List(names).to_json())
    }

    /// Undoes [`Properties::write_texts`]: the texts that [`JSON_NAMES`] names become values again.
    pub fn read_texts(&mut self) {
        let Some(Value::Text(listed)) = self.first(JSON_NAMES.as_bytes()) else {
            return;
        };
        if listed.len() > JSON_READ_MAX {
            return;
        }
        let Some(Value::List(listed)) = Value::from_json(listed) else {
            return;
        };
        let names: BTreeSet<&str> = listed.iter().filter_map(Value::as_str).collect();
        let mut room = JSON_READ_MAX;
        for (name, value) in &mut self.0 {
            let listed = std::str::from_utf8(name).is_ok_and(|name| names.contains(name));
            let Value::Text(text) = value else { continue };
            if !listed || text.len() > room {
                continue;
            }
            if let Some(read) = Value::from_json(text) {
                room -= text.len();
                *value = read;
            }
        }
        self.take(JSON_NAMES.as_bytes());
    }
}

/// The texts of a list of at least one value, if each has one.
fn plain_texts(value: &Value) -> Option<Vec<String>> {
    let (Value::List(values) | Value::Array(values)) = value else {
        return None;
    };
    let texts: Option<Vec<String>> = values.iter().map(Value::to_plain_text).collect();
    texts.filter(|texts| !texts.is_empty())
}

/// `text/*`, JSON and XML, unless it names another charset than UTF-8.
fn is_text_type(content_type: &str) -> bool {
    let mut parts = content_type.split(';');
    let kind = parts.next().unwrap_or("").trim().to_ascii_lowercase();
    let utf8 = parts.all(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else {
            return true;
        };
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|charset| value.eq_ignore_ascii_case(charset))
    });
    let textual = kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(&kind[..], "application/json" | "application/xml");
    textual && utf8
}

/// Whether content type and encoding together say so. An encoding may be the name of a charset, as some clients write it.
#[must_use]
pub fn says_text(content_type: &[u8], encoding: Option<&[u8]>) -> bool {
    let plain = [&b""[..], b"identity", b"utf-8", b"utf8", b"us-ascii"];
    std::str::from_utf8(content_type).is_ok_and(is_text_type)
        && encoding.is_none_or(|encoding| {
            plain
                .iter()
                .any(|known| encoding.eq_ignore_ascii_case(known))
        })
}
