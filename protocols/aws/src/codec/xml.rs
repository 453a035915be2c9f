//! XML, as the query protocol answers: written as a shape says, since lists and maps name their elements there.

use std::fmt::Write as _;

use message::base64;

use crate::{Member, Shape, Value};

/// Appends the members of a structure.
pub(crate) fn encode_members(value: &Value, members: &[Member], out: &mut String) {
    for member in members {
        if let Some(value) = value.member(member.name) {
            encode(member.name, value, member.shape, out);
        }
    }
}

fn encode(name: &str, value: &Value, shape: &Shape, out: &mut String) {
    match (shape, value) {
        (
            Shape::List {
                of, element, flat, ..
            },
            Value::List(list),
        ) => {
            if *flat {
                let name = if *element == "member" { name } else { element };
                list.iter().for_each(|value| encode(name, value, of, out));
            } else {
                enclose(name, out, |out| {
                    list.iter()
                        .for_each(|value| encode(element, value, of, out));
                });
            }
        }
        (
            Shape::Map {
                of,
                key,
                value: value_name,
                flat,
                ..
            },
            Value::Map(entries),
        ) => {
            let all = |entry: &str, out: &mut String| {
                for (name, value) in entries.iter().filter(|(_, it)| *it != Value::Null) {
                    enclose(entry, out, |out| {
                        enclose(key, out, |out| escape(name, out));
                        encode(value_name, value, of, out);
                    });
                }
            };
            match flat {
                Some(entry) => all(entry, out),
                None => enclose(name, out, |out| all("entry", out)),
            }
        }
        (Shape::List { .. }, Value::Rows(rows)) => encode(name, &rows.list(), shape, out),
        (Shape::Structure(members), Value::Map(_)) => {
            enclose(name, out, |out| encode_members(value, members, out));
        }
        (_, value) => enclose(name, out, |out| encode_scalar(value, out)),
    }
}

fn encode_scalar(value: &Value, out: &mut String) {
    match value {
        Value::Text(text) => escape(text, out),
        Value::Blob(blob) => out.push_str(&base64::encode(blob)),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(int) => write!(out, "{int}").expect("writing to a string"),
        Value::Float(float) => write!(out, "{float}").expect("writing to a string"),
        Value::Time(at) => out.push_str(&at.date_time()),
        // Shapes and values of one service agree; what does not has no text.
        Value::Null | Value::List(_) | Value::Map(_) | Value::Rows(_) => {}
    }
}

/// Appends an element.
pub(crate) fn enclose(name: &str, out: &mut String, inside: impl FnOnce(&mut String)) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    inside(out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Appends text. What XML 1.0 (2.2) cannot say is replaced.
pub(crate) fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(char),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_are_written_as_their_shapes_say() {
        static FLAT: Shape = Shape::List {
            of: &Shape::TEXT,
            min: 0,
            max: 9,
            element: "QueueUrl",
            flat: true,
        };
        static FLAT_MAP: Shape = Shape::Map {
            of: &Shape::TEXT,
            min: 0,
            max: 9,
            key: "Name",
            value: "Value",
            flat: Some("Attribute"),
        };
        static INNER: Shape = Shape::Structure(&[Member::new("At", &Shape::Time)]);
        static MEMBERS: &[Member] = &[
            Member::new("QueueUrls", &FLAT),
            Member::new("Attributes", &FLAT_MAP),
            Member::new("Tags", &Shape::list(&INNER)),
            Member::new("Map", &Shape::map(&Shape::INT)),
            Member::new("Absent", &Shape::TEXT),
        ];
        let list = |values: &[&str]| Value::List(values.iter().map(|it| (*it).into()).collect());
        let value = Value::from([
            ("QueueUrls", list(&["a<b", "c&\r\u{1}"])),
            ("Attributes", Value::from([("n", "v".into())])),
            (
                "Tags",
                vec![Value::from([(
                    "At",
                    message::Timestamp(1_577_934_245_006).into(),
                )])]
                .into(),
            ),
            ("Map", Value::from([("k", 5.into())])),
            ("Absent", Value::Null),
        ]);
        let mut out = String::new();
        encode_members(&value, MEMBERS, &mut out);
        assert_eq!(
            out,
            "<QueueUrl>a&lt;b</QueueUrl><QueueUrl>c&amp;&#xD;\u{fffd}</QueueUrl>\
             <Attribute><Name>n</Name><Value>v</Value></Attribute>\
             <Tags><member><At>2020-01-02T03:04:05.006Z</At></member></Tags>\
             <Map><entry><key>k</key><value>5</value></entry></Map>"
        );
    }
}
