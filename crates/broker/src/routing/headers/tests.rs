//! The table of `headers.rs`, row by row, and the four ways to combine arguments.

use bytes::Bytes;

use super::*;

fn properties(pairs: &[(&'static str, Value)]) -> Properties {
    Properties(
        pairs
            .iter()
            .map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.clone()))
            .collect(),
    )
}

fn text(text: &str) -> Value {
    Value::text(text)
}

#[test]
fn values_of_one_row_are_compared_and_of_different_rows_are_not() {
    let rows = [
        vec![
            Value::U8(7),
            Value::U16(7),
            Value::U32(7),
            Value::U64(7),
            Value::I8(7),
            Value::I16(7),
            Value::I32(7),
            Value::I64(7),
        ],
        vec![Value::F32(7.0), Value::F64(7.0)],
        vec![
            text("7"),
            Value::Symbol("7".into()),
            Value::LongString("7".into()),
        ],
        vec![Value::Time(7_000), Value::TimeSeconds(7)],
        vec![Value::Bytes("7".into())],
        vec![Value::Bool(true)],
        vec![Value::Char('7')],
        vec![Value::Uuid([7; 16])],
        vec![Value::Decimal { scale: 0, value: 7 }],
        vec![Value::Decimal754(vec![0, 0, 0, 7].into())],
        vec![Value::List(vec![Value::U8(7)])],
        vec![Value::Array(vec![Value::U8(7)])],
        vec![Value::Map(vec![(text("7"), Value::U8(7))])],
        vec![Value::Described(Box::new((text("7"), Value::U8(7))))],
    ];
    for (at, row) in rows.iter().enumerate() {
        for (other_at, other_row) in rows.iter().enumerate() {
            for (a, b) in row
                .iter()
                .flat_map(|a| other_row.iter().map(move |b| (a, b)))
            {
                assert_eq!(equal(a, b), at == other_at, "{a:?} and {b:?}");
            }
        }
    }
}

#[test]
fn numbers_are_compared_by_value_up_to_their_bounds() {
    assert!(equal(&Value::U64(u64::MAX), &Value::U64(u64::MAX)));
    assert!(!equal(&Value::U64(u64::MAX), &Value::I64(-1)));
    assert!(!equal(&Value::I8(-1), &Value::U8(255)));
    assert!(equal(&Value::I64(i64::MIN), &Value::I64(i64::MIN)));
    assert!(!equal(&Value::F64(f64::NAN), &Value::F64(f64::NAN)));
    assert!(equal(&Value::F64(0.0), &Value::F32(-0.0)));
    assert!(!equal(&Value::Time(7_001), &Value::TimeSeconds(7)));
    assert!(!equal(&Value::Time(-1), &Value::TimeSeconds(u64::MAX)));
}

#[test]
fn a_null_argument_asks_for_presence_only() {
    let wants = properties(&[("kind", Value::Null)]);
    for (found, matches) in [
        (properties(&[("kind", text("any"))]), true),
        (properties(&[("kind", Value::Null)]), true),
        (properties(&[("other", text("any"))]), false),
        (Properties::default(), false),
    ] {
        for matching in [HeaderMatch::All, HeaderMatch::Any] {
            assert_eq!(headers_match(matching, &wants, &found), matches);
        }
    }
    // But a null property is not equal to a value.
    let wants = properties(&[("kind", text("any"))]);
    let found = properties(&[("kind", Value::Null)]);
    assert!(!headers_match(HeaderMatch::All, &wants, &found));
}

#[test]
fn all_asks_for_every_argument_and_any_for_one() {
    let wants = properties(&[("a", Value::U8(1)), ("b", text("x"))]);
    let both = properties(&[("b", text("x")), ("c", Value::Null), ("a", Value::I64(1))]);
    let one = properties(&[("a", Value::I64(1)), ("b", text("y"))]);
    let none = properties(&[("a", Value::I64(2)), ("b", text("y"))]);
    for (found, all, any) in [
        (&both, true, true),
        (&one, false, true),
        (&none, false, false),
    ] {
        assert_eq!(headers_match(HeaderMatch::All, &wants, found), all);
        assert_eq!(headers_match(HeaderMatch::Any, &wants, found), any);
    }
}

#[test]
fn no_argument_at_all_is_met_by_everything_and_offers_nothing_to_meet() {
    for found in [Properties::default(), properties(&[("a", Value::Null)])] {
        for (matching, matches) in [
            (HeaderMatch::All, true),
            (HeaderMatch::AllWithX, true),
            (HeaderMatch::Any, false),
            (HeaderMatch::AnyWithX, false),
        ] {
            assert_eq!(
                headers_match(matching, &Properties::default(), &found),
                matches
            );
        }
    }
}

#[test]
fn names_that_start_with_x_count_only_where_asked_for() {
    let wants = properties(&[("x-a", Value::U8(1)), ("b", Value::U8(2))]);
    let only_b = properties(&[("b", Value::U8(2))]);
    let only_x = properties(&[("x-a", Value::U8(1))]);
    for (matching, with_b, with_x) in [
        (HeaderMatch::All, true, false),
        (HeaderMatch::AllWithX, false, false),
        (HeaderMatch::Any, true, false),
        (HeaderMatch::AnyWithX, true, true),
    ] {
        assert_eq!(headers_match(matching, &wants, &only_b), with_b);
        assert_eq!(headers_match(matching, &wants, &only_x), with_x);
    }
}

#[test]
fn doors_23_a_repeated_property_matches_if_any_of_its_values_does() {
    let wants = properties(&[("a", Value::U8(2))]);
    let found = properties(&[("a", Value::U8(1)), ("a", Value::U8(2))]);
    assert!(headers_match(HeaderMatch::All, &wants, &found));
}
