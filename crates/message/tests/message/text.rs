//! Values, properties and identifiers as texts, and back.

use bytes::Bytes;
use message::{JSON_NAMES, JSON_READ_MAX, Lists, Properties, VALUE_DEPTH_MAX, Value, says_text};
use proptest::prelude::*;

use crate::samples::value;

fn list(values: &[Value]) -> Value {
    Value::List(values.to_vec())
}

fn map(pairs: &[(&str, Value)]) -> Value {
    let pairs = pairs.iter().map(|(n, v)| (Value::text(*n), v.clone()));
    Value::Map(pairs.collect())
}

fn written(properties: &Properties, lists: Lists) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let names = properties.write_texts(lists, |name, text| {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        out.push((text_of(name), text_of(text)));
    });
    out.extend(names.map(|names| (JSON_NAMES.to_owned(), names)));
    out
}

fn as_texts(rows: &[(String, String)]) -> Properties {
    let mut properties = Properties::default();
    for (name, text) in rows {
        properties.push(name.clone(), Value::text(text.clone()));
    }
    properties
}

#[test]
fn values_and_their_json() {
    for (value, json) in [
        (Value::Null, "null"),
        (Value::Bool(true), "true"),
        (Value::I64(-5), "-5"),
        (Value::U64(u64::MAX), "18446744073709551615"),
        (Value::F64(1.0), "1.0"),
        (Value::F64(1e300), "1e300"),
        (
            Value::text("a\"\\\n\r\t\u{1}é😀"),
            r#""a\"\\\n\r\t\u0001é😀""#,
        ),
        (Value::Bytes("\u{0}x".into()), r#"{"$base64":"AHg="}"#),
        (list(&[]), "[]"),
        (map(&[]), "{}"),
        (
            map(&[("b", list(&[Value::I64(1), Value::Null])), ("a", map(&[]))]),
            r#"{"b":[1,null],"a":{}}"#,
        ),
    ] {
        assert_eq!(value.to_json(), json);
        assert_eq!(Value::from_json(json.as_bytes()), Some(value), "{json}");
    }
}

#[test]
fn what_json_has_no_type_for_is_its_nearest() {
    for (value, json) in [
        (Value::F32(f32::NAN), "\"NaN\""),
        (Value::F64(f64::INFINITY), "\"inf\""),
        (
            Value::Decimal {
                scale: 2,
                value: 1234,
            },
            "12.34",
        ),
        (Value::TimeSeconds(7), "7"),
        (Value::Char('"'), r#""\"""#),
        (Value::Symbol("s".into()), "\"s\""),
        (Value::LongString("\u{7f}".into()), r#"{"$base64":"fw=="}"#),
        (Value::Described(Box::new((Value::Null, Value::U8(3)))), "3"),
        (
            Value::Map(vec![(Value::I32(1), Value::Null)]),
            r#"{"1":null}"#,
        ),
    ] {
        assert_eq!(value.to_json(), json);
    }
}

#[test]
fn json_of_others_is_read() {
    for (json, value) in [
        (" [ 1 , 2 ]\n", list(&[Value::I64(1), Value::I64(2)])),
        (r#""\u00e9\/\b\f""#, Value::text("é/\u{8}\u{c}")),
        (r#""\ud83d\ude00""#, Value::text("😀")),
        ("-0.5e-1", Value::F64(-0.05)),
        ("99999999999999999999", Value::F64(1e20)),
        (
            r#"{"$base64":"no"}"#,
            map(&[("$base64", Value::text("no"))]),
        ),
        (
            r#"{"$base64":"fx=="}"#,
            map(&[("$base64", Value::text("fx=="))]),
        ),
    ] {
        assert_eq!(Value::from_json(json.as_bytes()), Some(value), "{json}");
    }
}

#[test]
fn what_is_no_json_is_not_read() {
    for text in [
        "",
        " ",
        "nul",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "-",
        "1e999",
        "[1,]",
        "[1",
        "{\"a\"}",
        "{a:1}",
        "\"a",
        "\"\n\"",
        "'a'",
        "1 2",
        "\"\\x\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "NaN",
        "\"\\u00é\"",
    ] {
        assert_eq!(Value::from_json(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Value::from_json(b"\"\xff\""), None);
    let nested = |depth: usize| ["[".repeat(depth - 1), "1".into(), "]".repeat(depth - 1)].concat();
    assert!(Value::from_json(nested(VALUE_DEPTH_MAX).as_bytes()).is_some());
    assert!(Value::from_json(nested(VALUE_DEPTH_MAX + 1).as_bytes()).is_none());
    assert!(Value::from_json("[".repeat(1_000_000).as_bytes()).is_none());
}

#[test]
fn doors_23_lists_repeat_where_they_may_and_what_has_no_plain_text_is_json_and_listed() {
    let mut properties = Properties::default();
    properties.push("text", Value::text("[1]"));
    properties.push("number", Value::I32(-1));
    properties.push("tags", list(&[Value::text("a"), Value::I8(2)]));
    properties.push("none", list(&[]));
    properties.push("nested", list(&[list(&[Value::Bool(true)])]));
    properties.push("bytes", Value::Bytes(Bytes::from_static(b"\xff")));
    let row = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let mut expected = vec![
        row("text", "[1]"),
        row("number", "-1"),
        row("tags", "a"),
        row("tags", "2"),
        row("none", "[]"),
        row("nested", "[[true]]"),
        row("bytes", r#"{"$base64":"/w=="}"#),
        row(JSON_NAMES, r#"["none","nested","bytes"]"#),
    ];
    assert_eq!(written(&properties, Lists::Repeated), expected);
    expected.splice(2..4, [row("tags", r#"["a",2]"#)]);
    expected[6] = row(JSON_NAMES, r#"["tags","none","nested","bytes"]"#);
    let rows = written(&properties, Lists::Json);
    assert_eq!(rows, expected);
    let mut back = as_texts(&rows);
    back.read_texts();
    properties.0[1].1 = Value::text("-1");
    properties.0[2].1 = list(&[Value::text("a"), Value::I64(2)]);
    assert_eq!(back, properties);
}

#[test]
fn only_listed_names_are_read_as_json_and_only_so_much() {
    let mut properties = Properties::default();
    properties.push("listed", Value::text("[1]"));
    properties.push("not", Value::text("[1]"));
    properties.push("broken", Value::text("[1"));
    properties.push(JSON_NAMES, Value::text(r#"["listed","broken","absent"]"#));
    properties.read_texts();
    assert_eq!(properties.first(b"listed"), Some(&list(&[Value::I64(1)])));
    assert_eq!(properties.first(b"not"), Some(&Value::text("[1]")));
    assert_eq!(properties.first(b"broken"), Some(&Value::text("[1")));
    assert_eq!(properties.0.len(), 3);
    // A property of that name that is no such list is a property.
    let mut other = Properties::default();
    other.push(JSON_NAMES, Value::text("listed"));
    other.read_texts();
    assert_eq!(other.0.len(), 1);
    // At the bound, and one byte beyond it.
    for (len, read) in [(JSON_READ_MAX, true), (JSON_READ_MAX + 1, false)] {
        let mut long = Properties::default();
        long.push("long", Value::text(format!("[{}]", " ".repeat(len - 2))));
        long.push(JSON_NAMES, Value::text(r#"["long"]"#));
        long.read_texts();
        assert_eq!(long.first(b"long") == Some(&list(&[])), read);
    }
}

#[test]
fn doors_26_ids_have_a_text() {
    for (id, text) in [
        (Value::text("plain"), "plain"),
        (Value::text(""), ""),
        (Value::Bytes(Bytes::from_static(b"\xff\x00")), "base64:/wA="),
        (Value::text("base64:/wA="), "base64:YmFzZTY0Oi93QT0="),
        // These can be nothing but themselves.
        (Value::text("base64:aGVsbG8="), "base64:aGVsbG8="),
        (Value::text("base64:"), "base64:"),
        (Value::text("base64:/wB="), "base64:/wB="),
    ] {
        let shown = id.id_text().expect("an id");
        assert_eq!(shown, text.as_bytes());
        assert_eq!(Value::id_from_text(Bytes::copy_from_slice(&shown)), id);
    }
    assert_eq!(Value::U64(7).id_text().as_deref(), Some(&b"7"[..]));
    assert_eq!(Value::Map(Vec::new()).id_text(), None);
}

#[test]
fn content_types_that_are_text() {
    for (content_type, text) in [
        ("text/plain", true),
        ("TEXT/html; charset=\"UTF-8\"", true),
        ("application/json", true),
        ("application/problem+json", true),
        ("image/svg+xml;q=1", true),
        ("text/plain; charset=latin1", false),
        ("application/octet-stream", false),
        ("image/png", false),
        ("", false),
    ] {
        let said = says_text(content_type.as_bytes(), None);
        assert_eq!(said, text, "{content_type}");
    }
    for (encoding, text) in [
        ("UTF-8", true),
        ("identity", true),
        ("", true),
        ("gzip", false),
    ] {
        assert_eq!(says_text(b"text/plain", Some(encoding.as_bytes())), text);
    }
}

proptest! {
    #[test]
    fn doors_26_ids_come_back(bytes in prop::collection::vec(any::<u8>(), 0..12), layers in 0..3) {
        let mut id = Value::id_from_text(bytes.into());
        for _ in 0..layers {
            let text = id.id_text().expect("an id").into_owned();
            id = Value::Text(text.into());
            let shown = id.id_text().expect("an id").into_owned();
            prop_assert_eq!(Value::id_from_text(shown.into()), id.clone());
        }
    }

    /// JSON is read back, and what came back once comes back unchanged.
    #[test]
    fn json_comes_back(value in value()) {
        let json = value.to_json();
        let back = Value::from_json(json.as_bytes());
        prop_assert!(back.is_some(), "{}", json);
        let json = back.map(|back| back.to_json()).unwrap_or_default();
        let again = Value::from_json(json.as_bytes()).map(|again| again.to_json());
        prop_assert_eq!(again, Some(json));
    }

    #[test]
    fn nothing_that_is_read_as_json_does_harm(text in "[\\[\\]{}\",:0-9eE.\\-tfn\\\\u ]{0,40}") {
        if let Some(value) = Value::from_json(text.as_bytes()) {
            prop_assert!(Value::from_json(value.to_json().as_bytes()).is_some());
        }
    }
}
