//! What comes to the doors of AWS before an operation sees it: inputs in JSON, CBOR and the query protocol, signatures, and
//! filter policies; and the event streams that go out.

use std::sync::{Arc, LazyLock};

use aws::{
    Endpoint, EndpointConfig, Key, Member, Served, Settings, Shape, Value,
    codec::{cbor, event_stream, json, query},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use message::{Policy, PolicyBody, Properties, Timestamp};
use session::{Asked, Credentials, Exchange, Peer, Reply, Unserved};
use sha2::{Digest, Sha256};

use crate::memory::bounded;

/// Every kind of shape, nested as deep as an input likes.
static ANYTHING: Shape = Shape::Structure(&[
    Member::new("Text", &Shape::TEXT),
    Member::new("Blob", &Shape::BLOB),
    Member::new("Int", &Shape::INT),
    Member::new("Float", &Shape::Float),
    Member::new("Bool", &Shape::Bool),
    Member::new("Time", &Shape::Time),
    Member::new("List", &LIST),
    Member::new("Map", &MAP),
    Member::new("Flat", &FLAT_LIST),
    Member::new("FlatMap", &FLAT_MAP),
    Member::new("Below", &ANYTHING),
]);
static LIST: Shape = Shape::list(&ANYTHING);
static MAP: Shape = Shape::map(&ANYTHING);
static FLAT_LIST: Shape = Shape::List {
    of: &Shape::TEXT,
    min: 0,
    max: 3,
    element: "Element",
    flat: true,
};
static FLAT_MAP: Shape = Shape::Map {
    of: &Shape::TEXT,
    min: 0,
    max: 3,
    key: "Name",
    value: "Value",
    flat: Some("Entry"),
};

/// A value is about 40 bytes in memory where one or two are enough on the wire, in lists that double as they grow.
const SPREAD: usize = 10;

/// Inputs in JSON.
pub(crate) fn json(input: &[u8]) {
    let read = bounded(input.len() * SPREAD, || json::decode(input, &ANYTHING));
    let Ok(value) = read else {
        return;
    };
    let mut once = Vec::new();
    json::encode(&value, &mut once);
    let again = json::decode(&once, &ANYTHING).expect("what is written is read");
    let mut twice = Vec::new();
    json::encode(&again, &mut twice);
    assert_eq!(once, twice, "what is written is read as something else");
}

/// Inputs in CBOR.
pub(crate) fn cbor(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let read = bounded(input.len() * SPREAD, || cbor::decode(&bytes, &ANYTHING));
    let Ok(value) = read else {
        return;
    };
    let mut once = Vec::new();
    cbor::encode(&value, &mut once);
    let again = cbor::decode(&once.clone().into(), &ANYTHING).expect("what is written is read");
    let mut twice = Vec::new();
    cbor::encode(&again, &mut twice);
    assert_eq!(once, twice, "what is written is read as something else");
}

/// Inputs in the query protocol. What is read is written as AWS's SDKs write it, and read again.
pub(crate) fn query(input: &[u8]) {
    let read = bounded(input.len() * SPREAD, || {
        let mut form = query::Form::default();
        form.read(input).and_then(|()| form.decode(&ANYTHING))
    });
    let Ok(value) = read else {
        return;
    };
    let text = write_query("Action=X", &value, &ANYTHING);
    let mut form = query::Form::default();
    form.read(text.as_bytes()).expect("a query string");
    // Where something is empty it leaves no trace, so what is nested around it may get beyond what is read: not more.
    let Ok(again) = form.decode(&ANYTHING) else {
        panic!("{text} is written and not read");
    };
    assert_eq!(write_query("Action=X", &again, &ANYTHING), text);
}

/// A value in the query protocol, behind what stands there.
pub(crate) fn write_query(first: &str, value: &Value, shape: &Shape) -> String {
    let mut out = first.to_owned();
    write(&mut String::new(), value, shape, &mut out);
    out
}

fn write(name: &mut String, value: &Value, shape: &Shape, out: &mut String) {
    let len = name.len();
    let below = |name: &mut String, part: &str, value: &Value, shape: &Shape, out: &mut String| {
        let len = name.len();
        if len > 0 {
            name.push('.');
        }
        name.push_str(part);
        write(name, value, shape, out);
        name.truncate(len);
    };
    match (shape, value) {
        (_, Value::Null) => {}
        (Shape::Structure(members), value) => {
            for member in *members {
                if let Some(value) = value.member(member.name) {
                    below(name, member.name, value, member.shape, out);
                }
            }
        }
        (Shape::List { of, flat, .. }, Value::List(list)) => {
            if !flat {
                name.push_str(".member");
            }
            for (at, value) in (1..).zip(list.iter().filter(|it| !is_nothing(it))) {
                below(name, &format!("{at}"), value, of, out);
            }
        }
        (
            Shape::Map {
                of,
                key,
                value: word,
                flat,
                ..
            },
            Value::Map(entries),
        ) => {
            if flat.is_none() {
                name.push_str(".entry");
            }
            for (at, (known, value)) in (1..).zip(entries) {
                below(
                    name,
                    &format!("{at}.{key}"),
                    &Value::from(&known[..]),
                    &Shape::TEXT,
                    out,
                );
                below(name, &format!("{at}.{word}"), value, of, out);
            }
        }
        (_, scalar) => {
            let text = match scalar {
                Value::Bool(flag) => flag.to_string(),
                Value::Int(int) => int.to_string(),
                Value::Float(float) => float.to_string(),
                Value::Text(text) => text.clone(),
                Value::Blob(blob) => message::base64::encode(blob),
                Value::Time(time) => format!("{}.{:03}", time.0 / 1000, time.0 % 1000),
                other => panic!("{other:?} is none of the shape's"),
            };
            out.push('&');
            out.push_str(name);
            out.push('=');
            escape(text.as_bytes(), out);
        }
    }
    name.truncate(len);
}

/// Whether the query protocol shows nothing of it.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(list) => list.iter().all(is_nothing),
        Value::Map(entries) => entries.iter().all(|(_, value)| is_nothing(value)),
        _ => false,
    }
}

/// Percent-encoding of all but the unreserved characters (RFC 3986, 2.3).
fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Messages of event streams: what is written is what a reader of the format finds.
pub(crate) fn events(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == 0);
    let payload = parts.next().unwrap_or_default();
    let texts: Vec<String> = parts
        .take(20)
        .map(|part| String::from_utf8_lossy(&part[..part.len().min(80)]).into_owned())
        .collect();
    let headers: Vec<(&str, &str)> = texts
        .chunks_exact(2)
        .map(|pair| (&pair[0][..], &pair[1][..]))
        .collect();
    let written = event_stream::encode(&headers, payload);
    let (read, found, rest) = read_event(&written);
    assert_eq!(read, headers);
    assert_eq!(found, payload);
    assert!(rest.is_empty());
}

/// Headers, payload, and what stands behind the message.
pub(crate) fn read_event(bytes: &[u8]) -> (Vec<(&str, &str)>, &[u8], &[u8]) {
    let number = |at: usize| {
        let four: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(four) as usize
    };
    let (len, headers_len) = (number(0), number(4));
    assert_eq!(number(8), crc(&bytes[..8]));
    assert_eq!(number(len - 4), crc(&bytes[..len - 4]));
    let mut rest = &bytes[12..12 + headers_len];
    let mut headers = Vec::new();
    let text = |bytes| std::str::from_utf8(bytes).expect("a text");
    while let [len, more @ ..] = rest {
        let (name, more) = more.split_at(usize::from(*len));
        let [7, high, low, more @ ..] = more else {
            panic!("a header that is no text: {more:?}");
        };
        let (value, more) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        headers.push((text(name), text(value)));
        rest = more;
    }
    (headers, &bytes[12 + headers_len..len - 4], &bytes[len..])
}

/// CRC-32 (ISO 3309), a bit at a time.
fn crc(bytes: &[u8]) -> usize {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = crc >> 1 ^ (0xedb8_8320 * carry);
        }
    }
    !crc as usize
}

/// Filter policies, and the bodies that they are held against: a policy, a zero byte, a body.
pub(crate) fn policy(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (text, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    bounded(input.len() * SPREAD, || {
        if let Ok(flat) = Policy::of_attributes(text) {
            let mut properties = Properties::default();
            for (number, name) in body.split(|byte| *byte == b',').enumerate().take(9) {
                let value = match number % 3 {
                    0 => message::Value::I64(number as i64),
                    1 => message::Value::Bool(true),
                    _ => message::Value::text("red"),
                };
                properties.push(String::from_utf8_lossy(name).into_owned(), value);
            }
            let _ = flat.passes_properties(&properties);
        }
        let Ok(policy) = Policy::of_body(text) else {
            return;
        };
        let read = PolicyBody::read(body);
        let passes = policy.passes_body(&read);
        // One that asks for nothing passes what is no JSON as well.
        if text.iter().filter(|it| !it.is_ascii_whitespace()).eq(b"{}") {
            return;
        }
        // Either of two that are the same.
        let doubled = [b"{\"$or\":[", text, b",", text, b"]}"].concat();
        if let Ok(doubled) = Policy::of_body(&doubled) {
            assert_eq!(doubled.passes_body(&read), passes);
        }
    });
}

const NOW: &str = "20200102T030405Z";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Where requests come to that must be signed.
static STRICT: LazyLock<Endpoint> = LazyLock::new(|| endpoint(Settings::default()));

/// All three services.
pub(crate) fn endpoint(settings: Settings) -> Endpoint {
    let served = |service, label| Served {
        service,
        label,
        body_len_max: 2 << 20,
    };
    Endpoint::new(EndpointConfig {
        services: vec![
            served(&sqs::SERVICE, "SQS"),
            served(&sns::SERVICE, "SNS"),
            served(&kinesis::SERVICE, "Kinesis"),
        ],
        keys: vec![Key {
            id: "ID1".into(),
            secret: SECRET.into(),
            user: "ada".into(),
            account: "000000000000".into(),
        }],
        any_user: "guest".into(),
        settings: Arc::new(settings),
        seed: [7; 32],
        kept: Arc::new(()),
        unreadable: |_, _| {},
        version: "1.2.3",
        serves: Arc::new(|| true),
    })
}

pub(crate) fn peer() -> Peer {
    Peer {
        address: "127.0.0.1:1".parse().expect("an address"),
        listener: "aws",
        default_vhost: "/".into(),
    }
}

/// What a request comes to at the end of its body.
enum Judged {
    Login(Credentials),
    Reply(u16, Bytes),
}

fn judge(head: Parts, body: Bytes) -> Judged {
    // 2020-01-02 03:04:05.
    let now = Timestamp(1_577_934_245_000);
    let reply = match STRICT.begin(head, &peer(), now) {
        Err(reply) => reply,
        Ok(begun) if body.len() > begun.body_len_max => begun.request.refuse(Unserved::TooLong),
        Ok(begun) => match begun.request.take(body, now) {
            Asked::Reply(reply) => reply,
            Asked::Login(login) => return Judged::Login(login.authenticate.credentials),
        },
    };
    let Reply::Head(response) = reply else {
        panic!("an answer begins with a head");
    };
    Judged::Reply(response.status().as_u16(), response.into_body())
}

/// Signatures. The first line is the URI, the next ones are header fields, the rest behind an empty line is the body.
///
/// Nobody gets in who has not signed, and whoever has signs as AWS says (written anew here) gets in; not when a byte changed.
pub(crate) fn signature(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let uri = lines.next().unwrap_or_default();
    let mut fields = Vec::new();
    let mut used = uri.len() + 1;
    for line in lines.by_ref() {
        used += line.len() + 1;
        match line.iter().position(|byte| *byte == b':') {
            Some(at) => fields.push((&line[..at], &line[at + 1..])),
            None => break,
        }
    }
    let body = input.get(used..).unwrap_or_default();
    let mut builder = http::Request::post(uri);
    for (name, value) in &fields {
        builder = builder.header(*name, *value);
    }
    if let Ok(request) = builder.body(()) {
        let (head, ()) = request.into_parts();
        match bounded(input.len() * SPREAD, || {
            judge(head, Bytes::copy_from_slice(body))
        }) {
            Judged::Login(Credentials::Broker) => {}
            Judged::Login(other) => panic!("{other:?} got in without a signature"),
            Judged::Reply(status, _) => assert!((200..600).contains(&status)),
        }
    }
    signed(uri, &fields, body);
}

/// A request to SQS that is right, with parameters, header fields and a body of the input's.
fn signed(parameters: &[u8], fields: &[(&[u8], &[u8])], body: &[u8]) {
    let mut pairs: Vec<(String, String)> = parameters
        .split(|byte| *byte == b'&')
        .take(20)
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
            let escaped = |text: &[u8]| {
                let mut out = String::new();
                // A signature of another kind would be looked for under these names.
                let text = String::from_utf8_lossy(text).replace("X-Amz-", "");
                escape(text.as_bytes(), &mut out);
                out
            };
            (escaped(name), escaped(value))
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let uri: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.sort();
    let canonical_query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut headers = vec![
        ("host".to_owned(), "broker:4566".to_owned()),
        ("x-amz-date".to_owned(), NOW.to_owned()),
        ("x-amz-target".to_owned(), "AmazonSQS.ListQueues".to_owned()),
    ];
    for (number, (_, value)) in fields.iter().take(20).enumerate() {
        let words: Vec<&[u8]> = value
            .split(|byte| !byte.is_ascii_graphic())
            .filter(|word| !word.is_empty())
            .collect();
        let value = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
        headers.push((format!("x-own-{number:02}"), value));
    }
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| &name[..]).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|it| format!("{it:02x}")).collect() };
    let canonical = format!(
        "POST\n/\n{}\n{lines}\n{names}\n{}",
        canonical_query.join("&"),
        hex(&Sha256::digest(body))
    );
    let scope = format!("{}/us-east-1/sqs/aws4_request", &NOW[..8]);
    let text = format!(
        "AWS4-HMAC-SHA256\n{NOW}\n{scope}\n{}",
        hex(&Sha256::digest(&canonical))
    );
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/').chain([&text[..]]) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=ID1/{scope}, SignedHeaders={names}, Signature={}",
        hex(&key)
    );
    let uri = format!("/?{}", uri.join("&"));
    let request = |uri: &str, extra: &str| {
        let mut builder = http::Request::post(uri)
            .header("authorization", &authorization)
            .header("content-type", "application/x-amz-json-1.0");
        for (name, value) in &headers {
            let extra = if name == "host" { extra } else { "" };
            builder = builder.header(name, format!("{value}{extra}"));
        }
        builder.body(()).map(|request| request.into_parts().0)
    };
    let Ok(head) = request(&uri, "") else {
        // Longer than a URI may be.
        return;
    };
    const MISMATCH: &[u8] = b"The request signature we calculated";
    let is_mismatch = |judged| match judged {
        Judged::Login(_) => false,
        Judged::Reply(_, said) => said.windows(MISMATCH.len()).any(|it| it == MISMATCH),
    };
    assert!(
        !is_mismatch(judge(head.clone(), Bytes::copy_from_slice(body))),
        "what is signed rightly is refused: {canonical}"
    );
    let mut other = body.to_vec();
    match other.last_mut() {
        Some(byte) => *byte ^= 1,
        None => other.push(b' '),
    }
    assert!(
        is_mismatch(judge(head, other.into())),
        "the body was changed"
    );
    let separator = if uri.len() > 2 { "&" } else { "" };
    if let Ok(head) = request(&format!("{uri}{separator}z=1"), "") {
        let judged = judge(head, Bytes::copy_from_slice(body));
        assert!(is_mismatch(judged), "the query was changed");
    }
    if let Ok(head) = request(&uri, "0") {
        let judged = judge(head, Bytes::copy_from_slice(body));
        assert!(is_mismatch(judged), "a header was changed");
    }
}
