//! What was asked: method, path, query and body.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::Reply;

/// A request of the API.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT`, `POST`, `DELETE`.
    pub method: String,
    /// The path, from [`crate::PREFIX`] on, percent-encoded.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// The virtual host that the query names.
    #[must_use]
    pub fn vhost(&self) -> Option<String> {
        self.parameter("vhost")
    }

    /// The parts of the path behind the prefix.
    pub(crate) fn segments(&self) -> Result<Vec<String>, Reply> {
        let rest = self.path.strip_prefix(crate::PREFIX).unwrap_or_default();
        let parts: Option<Vec<String>> = rest.split('/').map(|part| decode(part, false)).collect();
        let parts = parts.ok_or_else(|| {
            Reply::error(400, "bad_request", "the path is not percent-encoded UTF-8")
        })?;
        if parts.iter().any(String::is_empty) {
            return Err(Reply::error(
                400,
                "bad_request",
                "a part of the path is empty",
            ));
        }
        Ok(parts)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true)? == name).then(|| decode(value, true))?
        })
    }

    /// A number of the query within bounds.
    pub(crate) fn number(
        &self,
        name: &str,
        default: u64,
        bounds: (u64, u64),
    ) -> Result<u64, Reply> {
        let Some(text) = self.parameter(name) else {
            return Ok(default);
        };
        let (min, max) = bounds;
        text.parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| {
                Reply::error(
                    400,
                    "bad_request",
                    &format!("{name} is a number from {min} to {max}"),
                )
            })
    }

    /// The body as JSON; an empty one is an empty object.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Reply> {
        let body: &[u8] = if self.body.is_empty() {
            b"{}"
        } else {
            &self.body
        };
        serde_json::from_slice(body)
            .map_err(|error| Reply::error(400, "bad_request", &error.to_string()))
    }

    /// Refuses parameters of the query that mean nothing here: whoever mistypes one would get something else than they asked for.
    pub(crate) fn knows(&self, parameters: &[&str]) -> Result<(), Reply> {
        let mut pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let unknown = pairs.find_map(|pair| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let name = decode(name, true).unwrap_or_else(|| name.to_owned());
            (name != "vhost" && !parameters.contains(&&*name)).then_some(name)
        });
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let known = ["vhost"].iter().chain(parameters).copied();
        let known: Vec<&str> = known.collect();
        Err(Reply::error(
            400,
            "bad_request",
            &format!(
                "there is no parameter {unknown:?} here, but {}",
                known.join(", ")
            ),
        ))
    }

    /// `allow`: the methods that there are.
    pub(crate) fn not_allowed(&self, allow: &'static str) -> Reply {
        let reason = format!("{} is not allowed here", self.method);
        Reply {
            allow: Some(allow),
            ..Reply::error(405, "method_not_allowed", &reason)
        }
    }
}

/// Undoes percent-encoding, and in queries `+` for a space. `None`: it is none, or not UTF-8.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                (high * 16 + low) as u8
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
