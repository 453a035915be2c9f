//! Signature Version 4, read and verified: in the header `Authorization`, or in the query of a URL that was signed beforehand.
//!
//! ```text
//! secret ─HMAC─► date ─► region ─► service ─► aws4_request = the signing key, remembered once a signature was right
//! method, path, query, headers, body ─SHA-256─► canonical request ─► text to sign ─HMAC─► signature
//! ```
//! Two requests that mean the same are signed alike: the query is sorted, header values are trimmed, the path is normalised. A
//! time may differ from ours by 15 minutes. Signatures are compared in constant time. A header that says the operation must be
//! covered: else who was given a URL that was signed for one operation could have another done.
//!
//! Deliberately absent: session tokens (the keys are the operator's own, so a token adds nothing; where one is sent it is
//! covered by the signature like any other header), Signature Version 2, and 4A, which are refused with their names.

use std::{
    borrow::Cow,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use message::Timestamp;
use sha2::Sha256;

use crate::{digest, time};

/// How far a time may be from ours, in ms.
const SKEW_MS: u64 = 15 * 60 * 1000;
/// The longest that a URL is good for, in seconds.
const EXPIRES_MAX_S: u64 = 604_800;
/// Signing keys that are remembered.
const REMEMBERED_MAX: usize = 256;
/// Headers that a signature may cover.
const SIGNED_HEADERS_MAX: usize = 100;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// The header that says the operation.
pub(crate) static TARGET: HeaderName = HeaderName::from_static("x-amz-target");
static DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// The header that says the hash of the body, or that it is not signed.
const CONTENT_HASH: &str = "x-amz-content-sha256";

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: Arc<str>,
    /// Its secret. Not shown by `Debug`.
    pub secret: Arc<str>,
    /// The user that it is of.
    pub user: Arc<str>,
    /// The account that it is of.
    pub account: Arc<str>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Why a request is not taken to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no signature.
    Missing,
    /// A part of it is missing, or it is of another kind.
    Incomplete(String),
    /// No key has that id.
    UnknownKey,
    /// Not what the key's owner would have signed.
    Mismatch(String),
    /// The request is older or newer than a signature is good for.
    Skewed(String),
    /// The URL was signed for a time that is over.
    Expired,
}

/// What a request says of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// All parts, one behind the other, in one piece of memory: every request has them.
    text: String,
    /// Where each ends.
    ends: [usize; PARTS],
    /// It is in the query, good for so many seconds.
    expires_s: Option<u64>,
}

/// Parts of a signature.
const PARTS: usize = 7;

impl Signature {
    fn part(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }

    pub(crate) fn key_id(&self) -> &str {
        self.part(0)
    }

    /// `20150830`.
    fn date(&self) -> &str {
        self.part(1)
    }

    pub(crate) fn region(&self) -> &str {
        self.part(2)
    }

    pub(crate) fn service(&self) -> &str {
        self.part(3)
    }

    /// The names of headers, with `;` between them.
    fn signed_headers(&self) -> &str {
        self.part(4)
    }

    fn signature(&self) -> &str {
        self.part(5)
    }

    /// `20150830T123600Z`, as it was sent; a header `Date` may have it as HTTP does.
    fn at(&self) -> &str {
        self.part(6)
    }

    /// Reads it off the head of a request. `Ok(None)`: there is none.
    pub(crate) fn read(head: &Parts) -> Result<Option<Self>, Fault> {
        if let Some(value) = head.headers.get(header::AUTHORIZATION) {
            let value = value.to_str().map_err(|_| {
                Fault::Incomplete("The Authorization header is not ASCII text.".to_owned())
            })?;
            return Self::of_header(value, &head.headers).map(Some);
        }
        let query = head.uri.query().unwrap_or_default();
        if query.contains("X-Amz-") {
            return Self::of_query(query);
        }
        if query.contains("SignatureVersion=") {
            return Err(Fault::Incomplete(
                "Signature Version 2 is not supported: sign with AWS4-HMAC-SHA256.".to_owned(),
            ));
        }
        Ok(None)
    }

    fn of_header(value: &str, headers: &HeaderMap) -> Result<Self, Fault> {
        let (algorithm, rest) = value.split_once(' ').unwrap_or((value, ""));
        check_algorithm(algorithm)?;
        const NAMES: [&str; 3] = ["Credential", "Signature", "SignedHeaders"];
        let mut fields = [None; NAMES.len()];
        for field in split(rest, b',') {
            let field = field.trim();
            if let Some(at) = field.bytes().position(|byte| byte == b'=')
                && let Some(place) = NAMES.iter().position(|known| *known == &field[..at])
            {
                let value = &field[at + 1..];
                fields[place].get_or_insert(value);
            }
        }
        let fields = fields.map(Option::unwrap_or_default);
        let at = time_of(headers);
        let mut faults = String::new();
        for (name, field) in NAMES.iter().zip(fields) {
            if field.is_empty() {
                write!(faults, "Authorization header requires '{name}' parameter. ")
                    .expect("writing to a string");
            }
        }
        if at.is_none() {
            faults.push_str(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
            );
        }
        if !faults.is_empty() {
            // The signature itself is no secret once it was sent, but it is of no use to anybody either.
            faults.push_str("Authorization=");
            faults.push_str(algorithm);
            return Err(Fault::Incomplete(faults));
        }
        let [credential, signature, signed_headers] = fields;
        let at = at.unwrap_or_default();
        Self::of_parts(credential, signed_headers, signature, &at, None)
    }

    fn of_query(query: &str) -> Result<Option<Self>, Fault> {
        let field = |name: &str| {
            let found = query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(known, _)| *known == name);
            found.map(|(_, value)| decode(value))
        };
        let Some(algorithm) = field("X-Amz-Algorithm") else {
            return Ok(None);
        };
        check_algorithm(&algorithm)?;
        let mut parts = Vec::new();
        for name in [
            "X-Amz-Credential",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
            "X-Amz-Date",
            "X-Amz-Expires",
        ] {
            parts.push(
                field(name)
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| {
                        Fault::Incomplete(format!(
                            "AWS query-string parameters must include '{name}'."
                        ))
                    })?,
            );
        }
        let expires = parts[4]
            .parse()
            .ok()
            .filter(|seconds| (1..=EXPIRES_MAX_S).contains(seconds))
            .ok_or_else(|| {
                Fault::Incomplete(format!(
                    "X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_MAX_S}."
                ))
            })?;
        Self::of_parts(&parts[0], &parts[1], &parts[2], &parts[3], Some(expires)).map(Some)
    }

    fn of_parts(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        at: &str,
        expires_s: Option<u64>,
    ) -> Result<Self, Fault> {
        // The id itself may hold slashes, the rest cannot.
        let mut rest = Some(credential);
        let mut last = || {
            let text = rest?;
            let slash = text.bytes().rposition(|byte| byte == b'/');
            rest = slash.map(|at| &text[..at]);
            Some(&text[slash? + 1..])
        };
        let parts: [_; 4] = std::array::from_fn(|_| last());
        let ([Some(terminator), Some(service), Some(region), Some(date)], Some(key_id)) =
            (parts, rest)
        else {
            return Err(Fault::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
            )));
        };
        if terminator != TERMINATOR {
            return Err(Fault::Mismatch(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}'."
            )));
        }
        let (mut count, mut names_host, mut rises) = (0, false, true);
        let mut before = "";
        for name in split(signed_headers, b';') {
            count += 1;
            names_host |= matches!(name, "host" | ":authority");
            rises &= count == 1 || is_below(before, name);
            before = name;
        }
        if count > SIGNED_HEADERS_MAX {
            return Err(Fault::Incomplete(
                "SignedHeaders names too many headers.".to_owned(),
            ));
        }
        // Each time that a header is named its values are hashed. Names in order, as they should be, are looked at once.
        if !rises && let Some(name) = repeated(signed_headers) {
            return Err(Fault::Incomplete(format!(
                "SignedHeaders names a header more than once: '{name}'."
            )));
        }
        if !names_host {
            return Err(Fault::Mismatch(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
                    .to_owned(),
            ));
        }
        let parts: [&str; PARTS] = [key_id, date, region, service, signed_headers, signature, at];
        let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        let ends = parts.map(|part| {
            text.push_str(part);
            text.len()
        });
        Ok(Self {
            text,
            ends,
            expires_s,
        })
    }

    /// Whether it covers what says the operation.
    pub(crate) fn check_covers(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let mut signed = split(self.signed_headers(), b';');
        if headers.contains_key(&TARGET) && !signed.any(|name| name == TARGET.as_str()) {
            return Err(Fault::Mismatch(
                "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether its time is near ours.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), Fault> {
        let at = time::read_basic(self.at()).ok_or_else(|| {
            Fault::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                self.at()
            ))
        })?;
        if &self.at()[..8] != self.date() {
            return Err(Fault::Mismatch(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{}'.",
                self.date(),
                &self.at()[..8],
                self.at()
            )));
        }
        let (early, late) = (now.0.saturating_sub(SKEW_MS), now.plus_ms(SKEW_MS));
        if at > late {
            return Err(Fault::Skewed(format!(
                "Signature not yet current: {} is still later than {} ({} + 15 min.)",
                self.at(),
                time::basic(late),
                time::basic(now)
            )));
        }
        match self.expires_s {
            Some(seconds) if at.plus_ms(seconds * 1000) < now => Err(Fault::Expired),
            None if at.0 < early => Err(Fault::Skewed(format!(
                "Signature expired: {} is now earlier than {} ({} - 15 min.)",
                self.at(),
                time::basic(Timestamp(early)),
                time::basic(now)
            ))),
            _ => Ok(()),
        }
    }

    /// Puts the text that is signed (after its first lines, the hash of the canonical request).
    fn put_text_to_sign(&self, head: &Parts, body: &[u8], mac: &mut Mac) -> Result<(), Fault> {
        let mut text = self.canonical_request(head, body)?;
        let hash = digest::sha256_digits(text.as_bytes());
        text.clear();
        for part in [
            ALGORITHM,
            "\n",
            self.at(),
            "\n",
            self.date(),
            "/",
            self.region(),
            "/",
            self.service(),
            "/",
            TERMINATOR,
            "\n",
        ] {
            text.push_str(part);
        }
        text.push_str(&hash);
        // In one piece: each costs more than to copy it.
        mac.update(text.as_bytes());
        Ok(())
    }

    fn canonical_request(&self, head: &Parts, body: &[u8]) -> Result<String, Fault> {
        let mut out = String::with_capacity(1024);
        out.push_str(head.method.as_str());
        out.push('\n');
        canonical_path(head.uri.path(), &mut out);
        out.push('\n');
        canonical_query(head.uri.query().unwrap_or_default(), &mut out);
        out.push('\n');
        // Looked through for each name: they are few, and to make a name that can be looked up costs more.
        let headers: Vec<_> = (head.headers.iter())
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let mut names_hash = false;
        for name in split(self.signed_headers(), b';') {
            names_hash |= name == CONTENT_HASH;
            out.push_str(name);
            out.push(':');
            canonical_header(name, &headers, head, &mut out)?;
            out.push('\n');
        }
        out.push('\n');
        out.push_str(self.signed_headers());
        out.push('\n');
        let unsigned = names_hash
            && head
                .headers
                .get(CONTENT_HASH)
                .is_some_and(|value| value == "UNSIGNED-PAYLOAD");
        if unsigned {
            out.push_str("UNSIGNED-PAYLOAD");
        } else {
            out.push_str(&digest::sha256_digits(body));
        }
        Ok(out)
    }
}

/// The values of a header, one behind the other.
fn canonical_header(
    name: &str,
    headers: &[(&str, &HeaderValue)],
    head: &Parts,
    out: &mut String,
) -> Result<(), Fault> {
    let mut first = true;
    for (known, value) in headers {
        if !known.eq_ignore_ascii_case(name) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        // Bytes that are not UTF-8 cannot have been signed as a text.
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| mismatch())?;
        trim_all(value, out);
    }
    if first && matches!(name, "host" | ":authority") {
        // HTTP/2 has it in the URI.
        let authority = head.uri.authority().map_or_else(
            || head.headers.get("host").and_then(|host| host.to_str().ok()),
            |authority| Some(authority.as_str()),
        );
        out.push_str(authority.unwrap_or_default());
    }
    Ok(())
}

/// The time of a request whose signature is in a header: `X-Amz-Date`, else `Date` (in either form; what is signed has the basic
/// one).
fn time_of(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let text = |name: &HeaderName| headers.get(name).and_then(|at| at.to_str().ok());
    if let Some(at) = text(&DATE) {
        return Some(at.into());
    }
    let date = text(&header::DATE)?;
    Some(match time::read_http(date) {
        Some(at) => time::basic(at).into(),
        None => date.into(),
    })
}

fn mismatch() -> Fault {
    Fault::Mismatch(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
            .to_owned(),
    )
}

fn check_algorithm(algorithm: &str) -> Result<(), Fault> {
    match algorithm {
        ALGORITHM => Ok(()),
        "AWS4-ECDSA-P256-SHA256" => Err(Fault::Incomplete(
            "Signature Version 4A (AWS4-ECDSA-P256-SHA256) is not supported: sign with AWS4-HMAC-SHA256."
                .to_owned(),
        )),
        "AWS" => Err(Fault::Incomplete(
            "Signature Version 2 is not supported: sign with AWS4-HMAC-SHA256.".to_owned(),
        )),
        _ => Err(Fault::Incomplete(format!(
            "Unsupported AWS 'algorithm': '{}'. Use AWS4-HMAC-SHA256.",
            &algorithm[..algorithm.floor_char_boundary(64)]
        ))),
    }
}

/// Percent-decoding alone.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        out.push(match (byte, digit(at), digit(at + 1)) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                (high << 4 | low) as u8
            }
            _ => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes all but the unreserved characters (RFC 3986, 2.3), and slashes if they are kept.
fn encode(bytes: &[u8], slashes: bool, out: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            b'/' if slashes => out.push('/'),
            _ => write!(out, "%{byte:02X}").expect("writing to a string"),
        }
    }
}

/// The path without `.`, `..` and repeated slashes, encoded once more.
fn canonical_path(path: &str, out: &mut String) {
    if path.is_empty() || path == "/" {
        out.push('/');
        return;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    for segment in &kept {
        out.push('/');
        encode(segment.as_bytes(), false, out);
    }
    let last = path.rsplit('/').next();
    if kept.is_empty() || matches!(last, Some("" | "." | "..")) {
        out.push('/');
    }
}

/// The query without the signature, each part encoded in one way, sorted.
fn canonical_query(query: &str, out: &mut String) {
    if query.is_empty() {
        return;
    }
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name == "X-Amz-Signature" {
            continue;
        }
        let canonical = |text: &str| {
            let mut out = String::new();
            encode(decode(text).as_bytes(), false, &mut out);
            out
        };
        pairs.push((canonical(name), canonical(value)));
    }
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
}

/// Whether a name of a header is sorted before another one. Those that are equal but for the case of letters are one header.
fn is_below(name: &str, other: &str) -> bool {
    fn lower(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().map(|byte| byte.to_ascii_lowercase())
    }
    lower(name).lt(lower(other))
}

/// The name of a header that is named before.
fn repeated(signed_headers: &str) -> Option<&str> {
    let names: Vec<_> = split(signed_headers, b';').collect();
    let is_named_before = |&(at, name): &(usize, &&str)| {
        names[..at]
            .iter()
            .any(|before| before.eq_ignore_ascii_case(name))
    };
    let found = names.iter().enumerate().find(is_named_before);
    found.map(|(_, name)| *name)
}

/// The parts between separators. `str::split` is made for long texts: it costs ten times as much with a name of ten letters.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    debug_assert!(separator.is_ascii());
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.bytes().position(|byte| byte == separator);
        rest = at.map(|at| &text[at + 1..]);
        Some(at.map_or(text, |at| &text[..at]))
    })
}

/// A header's value without space around it, and with single spaces in it.
fn trim_all(value: &str, out: &mut String) {
    if !value.bytes().any(|byte| matches!(byte, b' ' | b'\t')) {
        out.push_str(value);
        return;
    }
    let mut words = value.split([' ', '\t']).filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        out.push_str(first);
    }
    for word in words {
        out.push(' ');
        out.push_str(word);
    }
}

type Mac = Hmac<Sha256>;

/// A signing key, and what it is for.
struct Remembered {
    key_id: Arc<str>,
    date: String,
    region: String,
    service: String,
    mac: Mac,
}

/// The access keys, and the signing keys that were derived from them.
pub(crate) struct Keys {
    keys: Vec<Key>,
    remembered: Mutex<Vec<Remembered>>,
}

impl Keys {
    pub(crate) fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        Self {
            keys,
            remembered: Mutex::default(),
        }
    }

    /// The key of that id.
    pub(crate) fn find(&self, id: &str) -> Option<&Key> {
        let at = self.keys.binary_search_by(|key| (*key.id).cmp(id)).ok()?;
        Some(&self.keys[at])
    }

    /// Whether the owner of `key` has signed the request.
    pub(crate) fn verify(
        &self,
        key: &Key,
        signature: &Signature,
        head: &Parts,
        body: &[u8],
    ) -> Result<(), Fault> {
        let known = self.recall(key, signature);
        let (mut check, derived) = match known {
            Some(mac) => (mac, None),
            None => {
                let mac = derive(key, signature);
                (mac.clone(), Some(mac))
            }
        };
        signature.put_text_to_sign(head, body, &mut check)?;
        let shown = read_hex(signature.signature()).ok_or_else(mismatch)?;
        // In constant time.
        check.verify_slice(&shown).map_err(|_| mismatch())?;
        if let Some(mac) = derived {
            self.remember(key, signature, mac);
        }
        Ok(())
    }

    fn recall(&self, key: &Key, signature: &Signature) -> Option<Mac> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = remembered.iter().find(|it| {
            it.date == signature.date()
                && *it.key_id == *key.id
                && it.region == signature.region()
                && it.service == signature.service()
        });
        found.map(|it| it.mac.clone())
    }

    /// Only what a right signature was made with is remembered: nobody else can push it out.
    fn remember(&self, key: &Key, signature: &Signature, mac: Mac) {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.remove(0);
        }
        remembered.push(Remembered {
            key_id: Arc::clone(&key.id),
            date: signature.date().to_owned(),
            region: signature.region().to_owned(),
            service: signature.service().to_owned(),
            mac,
        });
    }
}

fn derive(key: &Key, signature: &Signature) -> Mac {
    let mut derived = digest::hmac_sha256(
        &[b"AWS4", key.secret.as_bytes()].concat(),
        &[signature.date().as_bytes()],
    );
    for part in [signature.region(), signature.service(), TERMINATOR] {
        derived = digest::hmac_sha256(&derived, &[part.as_bytes()]);
    }
    Mac::new_from_slice(&derived).expect("a key may have any length")
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| match pair[at] {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(out)
}

/// What the owner of a key signs, in hexadecimal digits.
#[cfg(test)]
pub(crate) fn sign(
    head: &Parts,
    body: &[u8],
    scope: &str,
    signed_headers: &str,
    at: &str,
    secret: &str,
) -> String {
    let signature = Signature::of_parts(scope, signed_headers, "", at, None).expect("a signature");
    let key = Key {
        id: "".into(),
        secret: secret.into(),
        user: "".into(),
        account: "".into(),
    };
    let mut mac = derive(&key, &signature);
    signature
        .put_text_to_sign(head, body, &mut mac)
        .expect("a text to sign");
    digest::hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests;
