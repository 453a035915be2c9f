//! Selectors: what they say of a message, what is none, and that each does a bounded amount of work.

use bytes::Bytes;
use message::{
    Address, Message, SELECTOR_LEN_MAX, Selector, SelectorError, Timestamp, Value, VhostId,
};
use proptest::prelude::*;

fn message() -> Message {
    let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
    for (name, value) in [
        ("colour", Value::text("blue")),
        ("note", Value::text("it's 100% _new_")),
        ("price", Value::I32(25)),
        ("weight", Value::F64(2.5)),
        ("read", Value::text("12")),
        ("hot", Value::Bool(true)),
        ("said", Value::text("true")),
        ("nothing", Value::Null),
        ("raw", Value::Bytes("x".into())),
        ("tag", Value::text("a")),
        ("tag", Value::text("b")),
        ("list", Value::List(vec![Value::I32(1), Value::I32(9)])),
        ("big", Value::U64(u64::MAX)),
        ("a.b", Value::I32(1)),
        ("x-y", Value::I32(1)),
        (
            "cost",
            Value::Decimal {
                scale: 2,
                value: 125,
            },
        ),
        ("größe", Value::I32(1)),
    ] {
        message.properties.push(name, value);
    }
    message.durable = true;
    message.priority = Some(7);
    message.created = Some(Timestamp(1_000));
    message.fields_mut().subject = Some("order".into());
    message.fields_mut().correlation_id = Some(Value::text("c-1"));
    message.group = Some("g".into());
    message.fields_mut().group_sequence = Some(3);
    message
}

fn matches(text: &str) -> bool {
    let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    selector.matches(&message())
}

#[test]
fn what_is_true_of_a_message() {
    for text in [
        "colour = 'blue'",
        "colour <> 'red'",
        "colour != 'red'",
        "COLOUR IS NULL",
        "colour is not null",
        "nothing IS NULL AND unknown IS NULL AND raw IS NULL",
        "colour IN ('red', 'blue')",
        "colour NOT IN ('red')",
        "colour LIKE 'b%e'",
        "colour LIKE '_lue' and colour not like 'l%'",
        "note LIKE '%!%%' ESCAPE '!' AND note LIKE '%!_new!_' ESCAPE '!'",
        "note = 'it''s 100% _new_'",
        "price = 25",
        "price=25 AND price>24 AND price<26.5 AND price>=25 AND price<=2.5e1",
        "price BETWEEN 20 AND 30",
        "price NOT BETWEEN 26 AND 30",
        "price * 2 + 1 = 51 AND (price - 5) / 4 = 5 AND -price < 0 AND +price > 0",
        "price = 0x19 AND price = 25L AND weight = 2.5f AND weight = 25e-1 AND .5 < weight",
        "weight > 2 AND weight < 3",
        "cost = 1.25",
        "hot",
        "hot = TRUE AND NOT hot = FALSE",
        "NOT (colour = 'red' OR price > 100)",
        "colour = 'red' OR price > 20 AND hot",
        "big > 1",
        "a.b = 1 AND größe = 1",
        "hyphenated_props:x-y = 1",
        "convert_string_expressions:hyphenated_props: x-y = 1",
        "JMSPriority > 5 AND JMSDeliveryMode = 'PERSISTENT' AND JMSTimestamp = 1000",
        "JMSType = 'order' AND JMSCorrelationID = 'c-1' AND JMSExpiration = 0",
        "JMSXGroupID = 'g' AND JMSXGroupSeq = 3 AND JMSMessageID IS NULL",
        "read > 11 AND read = '12' AND read + 1 = 13 AND read BETWEEN 10 AND 20",
        "said AND said = TRUE AND said = 'true'",
        "colour > 'apple'",
        "unknown IS NULL OR unknown > 5",
        "colour\n=\t'blue'",
        "TRUE",
    ] {
        assert!(matches(text), "{text}");
    }
}

#[test]
fn what_is_not_true_of_a_message_or_unknown() {
    for text in [
        "colour = 'red'",
        "Colour = 'blue'",
        "colour LIKE 'blu'",
        "colour LIKE ''",
        "price LIKE '25'",
        "price IN ('25')",
        "price > 30 OR price < 20",
        "NOT hot",
        "colour",
        "price",
        "NOT price",
        "FALSE",
        // Whatever is said of what is unknown is unknown, and so is its opposite.
        "unknown = 1",
        "NOT unknown = 1",
        "unknown <> 1",
        "unknown IN ('a')",
        "unknown NOT IN ('a')",
        "unknown NOT LIKE 'a'",
        "unknown BETWEEN 1 AND 2",
        "unknown NOT BETWEEN 1 AND 2",
        "unknown + 1 > 0",
        "colour > 5",
        "NOT colour > 5",
        "hot > 5",
        "raw = 'x'",
        "price / 0 = 1 OR price / 0 <> 1",
        "9223372036854775807 + 1 > 0",
        "price = 25 AND unknown = 1",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn doors_d23_a_property_that_repeats_satisfies_with_any_of_its_values() {
    for text in [
        "tag = 'a'",
        "tag = 'b'",
        "tag <> 'b'",
        "tag IN ('b')",
        "tag LIKE 'b'",
        "list = 9 AND list = 1",
        "list BETWEEN 8 AND 10",
    ] {
        assert!(matches(text), "{text}");
    }
    assert!(!matches("tag = 'c' OR list BETWEEN 2 AND 8"));
}

#[test]
fn what_is_no_selector() {
    for (text, at) in [
        ("", 0),
        ("colour =", 8),
        ("= 'blue'", 0),
        ("colour = 'blue", 9),
        ("colour 'blue'", 7),
        ("colour = 'blue' AND", 19),
        ("(colour = 'blue'", 16),
        ("colour IN 'blue'", 9),
        ("colour IN ()", 11),
        ("colour IN ('blue' 'red')", 17),
        ("colour NOT = 'blue'", 10),
        ("colour IS 'blue'", 9),
        ("price BETWEEN 1", 15),
        ("colour LIKE 5", 11),
        ("colour LIKE 'a' ESCAPE 'ab'", 27),
        ("colour LIKE 'a!' ESCAPE '!'", 11),
        ("XPATH 'a'", 0),
        ("XQUERY 'a'", 0),
        ("AND", 0),
        ("a = 1;", 5),
        ("a == 1", 3),
        ("1x = 1", 1),
    ] {
        match Selector::parse(text) {
            Err(SelectorError::Expected { at: found, .. }) => assert_eq!(found, at, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn the_length_and_the_depth_are_bounded() {
    let long = |len: usize| format!("a='{}'", "x".repeat(len - 4));
    assert!(Selector::parse(&long(SELECTOR_LEN_MAX)).is_ok());
    let error = Selector::parse(&long(SELECTOR_LEN_MAX + 1));
    assert_eq!(error, Err(SelectorError::TooLong));
    for (open, close) in [("(", ")"), ("NOT ", ""), ("-", ""), ("+", "")] {
        let nested = |depth: usize| format!("{}1{}=1", open.repeat(depth), close.repeat(depth));
        let read = |depth| {
            let text = nested(depth);
            let text = if open == "NOT " {
                text
            } else {
                text.replace("--", "- -")
            };
            Selector::parse(&text)
        };
        assert!(read(64).is_ok(), "{open}");
        assert_eq!(read(65), Err(SelectorError::TooDeep), "{open}");
    }
    assert!(Selector::parse(&format!("1{}=1", "+1".repeat(63))).is_ok());
    let error = Selector::parse(&format!("1{}=1", "+1".repeat(65)));
    assert_eq!(error, Err(SelectorError::TooDeep));
    let like = |len: usize| Selector::parse(&format!("a LIKE '{}'", "%a".repeat(len / 2)));
    assert!(like(256).is_ok());
    assert!(like(258).is_err());
}

proptest! {
    #[test]
    fn nothing_that_is_read_does_harm(text in "[ a-c'0-9.()=<>!*/+,%_-]{0,24}|(NOT |AND |a |\\(|1 |IN |LIKE |'b' |IS NULL ){0,12}") {
        if let Ok(selector) = Selector::parse(&text) {
            let is = selector.matches(&message());
            let opposite = Selector::parse(&["NOT (", &text, ")"].concat());
            let both = is && opposite.is_ok_and(|not| not.matches(&message()));
            prop_assert!(!both, "{:?} and its opposite", text);
        }
    }

    #[test]
    fn like_finds_what_a_plain_search_finds(text in "[ab]{0,12}", pattern in "[ab%_]{0,6}") {
        fn plain(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'%', rest)), _) => {
                    (0..=text.len()).any(|at| plain(rest, &text[at..]))
                }
                (Some((b'_', rest)), Some((_, behind))) => plain(rest, behind),
                (Some((a, rest)), Some((b, behind))) if a == b => plain(rest, behind),
                _ => false,
            }
        }
        let mut message = message();
        message.properties.push("p", Value::text(text.clone()));
        let selector = Selector::parse(&["p LIKE '", &pattern, "'"].concat()).expect("a pattern");
        prop_assert_eq!(selector.matches(&message), plain(pattern.as_bytes(), text.as_bytes()));
    }
}
