//! Values as numbers and as plain text, and properties in their order.

use bytes::Bytes;
use message::{Properties, Value};

#[test]
fn values_have_one_plain_text() {
    for (value, text) in [
        (Value::Bool(true), "true"),
        (Value::U8(255), "255"),
        (Value::U16(65_535), "65535"),
        (Value::U32(u32::MAX), "4294967295"),
        (Value::U64(u64::MAX), "18446744073709551615"),
        (Value::I8(-128), "-128"),
        (Value::I16(-1), "-1"),
        (Value::I32(i32::MIN), "-2147483648"),
        (Value::I64(i64::MIN), "-9223372036854775808"),
        (Value::F32(1.5), "1.5"),
        (Value::F64(-0.25), "-0.25"),
        (Value::Char('é'), "é"),
        (Value::Time(-1), "-1"),
        (Value::TimeSeconds(7), "7"),
        (Value::text("x"), "x"),
        (Value::Symbol("y".into()), "y"),
        (
            Value::Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xff]),
            "00010203-0405-0607-0809-0a0b0c0d0eff",
        ),
    ] {
        assert_eq!(value.to_plain_text().as_deref(), Some(text));
    }
}

#[test]
fn decimals_keep_their_digits() {
    for (scale, value, text) in [
        (0, 0, "0"),
        (0, -7, "-7"),
        (1, 7, "0.7"),
        (2, 7, "0.07"),
        (2, -7, "-0.07"),
        (2, 12_345, "123.45"),
        (3, 100, "0.100"),
        (9, i32::MIN, "-2.147483648"),
        (12, i32::MAX, "0.002147483647"),
    ] {
        let decimal = Value::Decimal { scale, value };
        assert_eq!(decimal.to_plain_text().as_deref(), Some(text));
    }
    let deepest = Value::Decimal {
        scale: u8::MAX,
        value: 1,
    };
    let text = deepest.to_plain_text().expect("a number has a text");
    assert_eq!((text.len(), text.ends_with("01")), (257, true));
}

#[test]
fn what_has_no_plain_text_says_so() {
    for value in [
        Value::Null,
        Value::Bytes("x".into()),
        Value::LongString("x".into()),
        Value::Decimal754("x".into()),
        Value::List(vec![]),
        Value::Array(vec![]),
        Value::Map(vec![]),
        Value::Described(Box::new((Value::Null, Value::Null))),
    ] {
        assert_eq!(value.to_plain_text(), None, "{value:?}");
        assert_eq!(value.as_str(), None, "{value:?}");
    }
}

#[test]
fn integers_are_numbers_where_they_fit() {
    for (value, number) in [
        (Value::U8(255), Some(255)),
        (Value::U16(65_535), Some(65_535)),
        (Value::U32(u32::MAX), Some(4_294_967_295)),
        (Value::U64(i64::MAX as u64), Some(i64::MAX)),
        (Value::U64(i64::MAX as u64 + 1), None),
        (Value::I8(-128), Some(-128)),
        (Value::I16(-1), Some(-1)),
        (Value::I32(-1), Some(-1)),
        (Value::I64(i64::MIN), Some(i64::MIN)),
        (Value::F64(1.0), None),
        (Value::text("1"), None),
        (Value::Bool(true), None),
    ] {
        assert_eq!(value.as_i64(), number, "{value:?}");
    }
}

#[test]
fn texts_and_symbols_are_strings() {
    assert_eq!(Value::text("x").as_str(), Some("x"));
    assert_eq!(Value::Symbol("x".into()).as_str(), Some("x"));
    assert_eq!(Value::LongString("x".into()).as_str(), None);
}

#[test]
fn properties_keep_their_order_and_may_repeat() {
    let mut properties = Properties::default();
    assert!(properties.is_empty());
    for (name, number) in [("b", 1), ("a", 2), ("b", 3)] {
        properties.push(name, Value::U8(number));
    }
    assert_eq!(properties.first(b"b"), Some(&Value::U8(1)));
    assert_eq!(properties.take(b"b"), Some(Value::U8(1)));
    assert_eq!(properties.first(b"b"), Some(&Value::U8(3)));
    let names: Vec<&Bytes> = properties.0.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(properties.take(b"c"), None);
}
