//! Filter policies: the examples of AWS's documentation, every operator, every refusal.

use bytes::Bytes;
use message::{POLICY_LEN_MAX, Policy, PolicyBody, PolicyError, Properties, Value};
use proptest::prelude::*;

fn body_passes(policy: &str, body: &str) -> bool {
    let policy = Policy::of_body(policy.as_bytes()).expect("a policy");
    policy.passes_body(&PolicyBody::read(body.as_bytes()))
}

fn properties(json: &str) -> Properties {
    let Some(Value::Map(pairs)) = Value::from_json(json.as_bytes()) else {
        panic!("an object: {json}")
    };
    let mut properties = Properties::default();
    for (name, value) in pairs {
        let Value::Text(name) = name else { panic!() };
        properties.push(name, value);
    }
    properties
}

fn attributes_pass(policy: &str, attributes: &str) -> bool {
    let policy = Policy::of_attributes(policy.as_bytes()).expect("a policy");
    policy.passes_properties(&properties(attributes))
}

/// The rules of one key against its value, as an attribute and in a body.
fn rule(rules: &str, value: &str) -> bool {
    let policy = format!(r#"{{"key": [{rules}]}}"#);
    let message = format!(r#"{{"key": {value}, "other": 1}}"#);
    let (flat, body) = (
        attributes_pass(&policy, &message),
        body_passes(&policy, &message),
    );
    assert_eq!(flat, body, "{rules} of {value}");
    flat
}

fn refused(policy: &str) -> String {
    Policy::of_body(policy.as_bytes())
        .expect_err(policy)
        .to_string()
}

#[test]
fn the_documentations_first_example() {
    let message = r#"{"customer_interests": ["soccer", "rugby", "hockey"], "store": "example_corp",
        "event": "order_placed", "price_usd": 210.75}"#;
    let accepts = r#"{"store": ["example_corp"], "event": [{"anything-but": "order_cancelled"}],
        "customer_interests": ["rugby", "football", "baseball"], "price_usd": [{"numeric": [">=", 100]}]}"#;
    let rejects = r#"{"store": ["example_corp"], "event": ["order_cancelled"], "encrypted": [false],
        "customer_interests": ["basketball", "baseball"]}"#;
    assert!(attributes_pass(accepts, message) && body_passes(accepts, message));
    assert!(!attributes_pass(rejects, message) && !body_passes(rejects, message));
    assert!(attributes_pass("{}", message) && body_passes("{}", "no json"));
}

#[test]
fn every_operator_on_texts() {
    for (rules, passes, fails) in [
        (
            r#""rugby", "tennis""#,
            &[r#""rugby""#, r#"["x", "tennis"]"#][..],
            &[r#""Rugby""#, "[]", "1", "null"][..],
        ),
        (
            r#"{"prefix": "bas"}"#,
            &[r#""baseball""#, r#""bas""#, r#"["x","bass"]"#],
            &[r#""rugby""#, r#""ba""#, "7"],
        ),
        (
            r#"{"suffix": "ball"}"#,
            &[r#""baseball""#],
            &[r#""rugby""#, r#""balls""#],
        ),
        (
            r#"{"equals-ignore-case": "tennis"}"#,
            &[r#""TENNIS""#, r#""Tennis""#],
            &[r#""tennis ""#],
        ),
        (
            r#"{"equals-ignore-case": "ÄRGER"}"#,
            &[r#""ärger""#],
            &[r#""arger""#],
        ),
        (
            r#"{"wildcard": "*ball"}"#,
            &[r#""baseball""#, r#""ball""#],
            &[r#""balls""#],
        ),
        (
            r#"{"wildcard": "a*b*c"}"#,
            &[r#""abc""#, r#""a-b-b-c""#],
            &[r#""acb""#, r#""ab""#],
        ),
        (
            r#"{"wildcard": "aa*aa"}"#,
            &[r#""aaaa""#, r#""aaxaa""#],
            &[r#""aaa""#],
        ),
        (r#"{"wildcard": "a\\*b"}"#, &[r#""a*b""#], &[r#""axb""#]),
        (r#"{"wildcard": "a\\\\*"}"#, &[r#""a\\b""#], &[r#""ab""#]),
        (
            r#"{"anything-but": ["rugby", "tennis"]}"#,
            &[r#""baseball""#, r#"["rugby", "baseball"]"#, "5"],
            &[r#""rugby""#, r#"["rugby"]"#],
        ),
        (
            r#"{"anything-but": "rugby"}"#,
            &[r#""baseball""#],
            &[r#""rugby""#, "null"],
        ),
        (
            r#"{"anything-but": {"prefix": "order-"}}"#,
            &[r#""data-1""#],
            &[r#""order-1""#],
        ),
        (
            r#"{"anything-but": {"prefix": ["a", "b"]}}"#,
            &[r#""c""#],
            &[r#""ax""#, r#""bx""#],
        ),
        (
            r#"{"anything-but": {"suffix": "ball"}}"#,
            &[r#""rugby""#],
            &[r#""baseball""#],
        ),
        (
            r#"{"anything-but": {"wildcard": "*ball"}}"#,
            &[r#""hockey""#],
            &[r#""football""#],
        ),
        (
            r#"{"anything-but": {"equals-ignore-case": ["tennis"]}}"#,
            &[r#""rugby""#],
            &[r#""TENNIS""#],
        ),
        (
            r#"true, null"#,
            &["true", "null"],
            &["false", r#""null""#, "0"],
        ),
        (
            r#"{"cidr": "10.0.0.0/24"}"#,
            &[r#""10.0.0.255""#, r#""10.0.0.0""#],
            &[r#""10.0.1.0""#, r#""x""#, r#""::1""#],
        ),
        (
            r#"{"cidr": "10.1.2.3/0"}"#,
            &[r#""255.0.0.1""#],
            &[r#""::""#],
        ),
        (
            r#"{"cidr": "2001:db8::/32"}"#,
            &[r#""2001:db8:ffff::1""#],
            &[r#""2001:db9::""#],
        ),
        (
            r#"{"cidr": "10.0.0.7/32"}"#,
            &[r#""10.0.0.7""#],
            &[r#""10.0.0.8""#],
        ),
    ] {
        for value in passes {
            assert!(rule(rules, value), "{rules} of {value}");
        }
        for value in fails {
            assert!(!rule(rules, value), "{rules} of {value}");
        }
    }
}

#[test]
fn numbers_are_compared_as_numbers_to_six_digits() {
    for (rules, passes, fails) in [
        (
            "100",
            &["100", "100.0", "1e2", "[7, 100]"][..],
            &["101", r#""100""#][..],
        ),
        ("100.123456789", &["100.1234567"], &["100.1235"]),
        (
            r#"{"numeric": ["=", 301.5]}"#,
            &["301.5", "3.015e2"],
            &["301.51"],
        ),
        (
            r#"{"numeric": ["<", 0]}"#,
            &["-1", "-0.000001"],
            &["0", "1"],
        ),
        (
            r#"{"numeric": [">", 0, "<=", 150]}"#,
            &["0.5", "150"],
            &["0", "150.1", r#""7""#],
        ),
        (
            r#"{"numeric": [">=", -1, "<", 1]}"#,
            &["-1", "0"],
            &["1", "-1.000001"],
        ),
        (
            r#"{"anything-but": [100, 500]}"#,
            &["101", "100.1", "[100, 50]", "1e300"],
            &["100", "500"],
        ),
        (r#"{"anything-but": ["100"]}"#, &["100"], &[r#""100""#]),
        ("-1000000000", &["-1e9"], &["-1000000001", "1e300"]),
        (r#"{"numeric": [">", 5]}"#, &["1000000000"], &["1000000001"]),
        ("-0.0000005", &["-0.0000007"], &["0"]),
    ] {
        for value in passes {
            assert!(rule(rules, value), "{rules} of {value}");
        }
        for value in fails {
            assert!(!rule(rules, value), "{rules} of {value}");
        }
    }
    let policy = Policy::of_attributes(br#"{"key": [7]}"#).expect("a policy");
    for value in [
        Value::U8(7),
        Value::F32(7.0),
        Value::Decimal {
            scale: 1,
            value: 70,
        },
    ] {
        let mut properties = Properties::default();
        properties.push(Bytes::from("key"), value);
        assert!(policy.passes_properties(&properties), "{properties:?}");
    }
}

#[test]
fn a_number_far_beyond_a_billion_is_none_to_compare() {
    for number in ["22222222222222225", "-9223372036854775808", "1e300"] {
        assert!(!rule(r#"{"numeric": [">", 1]}"#, number));
        assert!(rule(r#"{"exists": true}"#, number));
        refused(&format!(r#"{{"key": [{number}]}}"#));
    }
}

#[test]
fn exists_is_about_values_not_objects() {
    let there = r#"{"store": [{"exists": true}]}"#;
    let absent = r#"{"store": [{"exists": false}]}"#;
    for (message, exists) in [
        (r#"{"store": "fans"}"#, true),
        (r#"{"store": ""}"#, true),
        (r#"{"store": null}"#, true),
        (r#"{"store": ["a"]}"#, true),
        (r#"{"customer_interests": ["baseball"]}"#, false),
        (r#"{"store": {"a": 1}}"#, false),
        (r#"{"store": []}"#, false),
    ] {
        assert_eq!(body_passes(there, message), exists, "{message}");
        assert_eq!(body_passes(absent, message), !exists, "{message}");
        assert_eq!(attributes_pass(there, message), exists, "{message}");
        assert_eq!(attributes_pass(absent, message), !exists, "{message}");
    }
    // SNS does not look at bytes.
    let mut properties = Properties::default();
    properties.push(Bytes::from("store"), Value::Bytes(Bytes::from("x")));
    let policy = Policy::of_attributes(there.as_bytes()).expect("a policy");
    assert!(!policy.passes_properties(&properties));
    // One or the other rule of a key.
    assert!(rule(r#"{"exists": false}, "x""#, r#""x""#));
    assert!(!rule(r#"{"exists": false}, "x""#, r#""y""#));
}

#[test]
fn a_name_that_repeats_and_what_other_protocols_say() {
    let mut properties = Properties::default();
    for value in [
        Value::text("a"),
        Value::Symbol("b".into()),
        Value::Bool(true),
    ] {
        properties.push(Bytes::from("key"), value);
    }
    for (rules, passes) in [
        (r#""b""#, true),
        (r#""c""#, false),
        ("true", true),
        (r#""true""#, true),
        ("false", false),
    ] {
        let policy = format!(r#"{{"key": [{rules}]}}"#);
        let policy = Policy::of_attributes(policy.as_bytes()).expect("a policy");
        assert_eq!(policy.passes_properties(&properties), passes, "{rules}");
    }
}

#[test]
fn bodies_nest_and_of_a_list_one_element_must_satisfy_everything() {
    let policy = r#"{"Records": {"eventName": [{"prefix": "ObjectCreated:"}], "s3": {"size": [{"numeric": [">", 5]}]}}}"#;
    let record =
        |name: &str, size: u32| format!(r#"{{"eventName": "{name}", "s3": {{"size": {size}}}}}"#);
    let records = |records: &[String]| format!(r#"{{"Records": [{}]}}"#, records.join(","));
    let put = record("ObjectCreated:Put", 9);
    assert!(body_passes(
        policy,
        &records(&[record("ObjectRemoved:Delete", 1), put.clone()])
    ));
    assert!(body_passes(policy, &format!(r#"{{"Records": {put}}}"#)));
    let halves = [
        record("ObjectCreated:Put", 1),
        record("ObjectRemoved:Delete", 9),
    ];
    assert!(!body_passes(policy, &records(&halves)));
    assert!(!body_passes(policy, &records(&[])));
    for body in [
        "",
        "[]",
        "7",
        r#""Records""#,
        "{",
        "{}",
        r#"{"Records": 5}"#,
    ] {
        assert!(!body_passes(policy, body), "{body}");
    }
    // What is not there at all is absent below as well.
    let absent = r#"{"a": {"b": [{"exists": false}]}}"#;
    assert!(body_passes(absent, "{}") && body_passes(absent, r#"{"a": {}}"#));
    assert!(!body_passes(absent, r#"{"a": {"b": 1}}"#));
    // A name with points may be the way through objects.
    let points = r#"{"a.b": ["x"]}"#;
    assert!(body_passes(points, r#"{"a.b": "x"}"#) && body_passes(points, r#"{"a": {"b": "x"}}"#));
}

#[test]
fn one_of_several_alternatives() {
    let policy = r#"{"source": ["aws.cloudwatch"], "$or": [{"metricName": ["CPUUtilization", "ReadLatency"]},
        {"namespace": ["AWS/EC2", "AWS/ES"]}]}"#;
    for (message, passes) in [
        (
            r#"{"source": "aws.cloudwatch", "metricName": "ReadLatency"}"#,
            true,
        ),
        (
            r#"{"source": "aws.cloudwatch", "namespace": "AWS/EC2"}"#,
            true,
        ),
        (r#"{"source": "aws.cloudwatch"}"#, false),
        (r#"{"source": "x", "namespace": "AWS/EC2"}"#, false),
    ] {
        assert_eq!(attributes_pass(policy, message), passes, "{message}");
        assert_eq!(body_passes(policy, message), passes, "{message}");
    }
    let below = r#"{"detail": {"$or": [{"a": [1]}, {"b": [2], "$or": [{"c": [3]}, {"d": [4]}]}]}}"#;
    assert!(body_passes(below, r#"{"detail": {"a": 1}}"#));
    assert!(body_passes(below, r#"{"detail": {"b": 2, "d": 4}}"#));
    assert!(!body_passes(below, r#"{"detail": {"b": 2}}"#));
    // Fewer than two, or no objects: a key like others.
    assert!(attributes_pass(r#"{"$or": ["a", "b"]}"#, r#"{"$or": "b"}"#));
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_sns() {
    let key = |rules: &str| refused(&format!(r#"{{"price": [{rules}]}}"#));
    for (rules, words) in [
        (
            r#"["a"]"#,
            "Match value must be String, number, true, false, or null",
        ),
        (
            r#"{"exists": null}"#,
            "exists match pattern must be either true or false.",
        ),
        (r#"{"error": true}"#, "Unrecognized match type error"),
        (
            r#"{"prefix": "a", "suffix": "b"}"#,
            "Only one key allowed in match expression",
        ),
        (r#"{"prefix": 1}"#, "prefix match pattern must be a string"),
        (r#"{"suffix": []}"#, "suffix match pattern must be a string"),
        (
            r#"{"equals-ignore-case": 1}"#,
            "equals-ignore-case match pattern must be a string",
        ),
        (
            r#"{"anything-but": {"unknown": "a"}}"#,
            "Unsupported anything-but pattern: unknown",
        ),
        (
            r#"{"anything-but": [null]}"#,
            "Inside anything-but list, only strings and numbers are supported",
        ),
        (r#"{"numeric": ["<", "100"]}"#, "Value of < must be numeric"),
        (
            r#"{"numeric": ["=", "100"]}"#,
            "Value of equals must be numeric",
        ),
        (
            r#"{"numeric": [">", 50, "<=", "100"]}"#,
            "Value of <= must be numeric",
        ),
        (r#"{"numeric": []}"#, "Invalid member in numeric match: ]"),
        (
            r#"{"numeric": [50, "<=", "100"]}"#,
            "Invalid member in numeric match: 50",
        ),
        (r#"{"numeric": ["<"]}"#, "Value of < must be numeric"),
        (
            r#"{"numeric": ["0"]}"#,
            "Unrecognized numeric range operator: 0",
        ),
        (
            r#"{"numeric": ["<", 20, ">", 1]}"#,
            "Too many elements in numeric expression",
        ),
        (
            r#"{"numeric": [">", 20, 30]}"#,
            "Bad value in numeric range: 30",
        ),
        (
            r#"{"numeric": [">", 20, ">", 1]}"#,
            "Bad numeric range operator: >",
        ),
        (
            r#"{"numeric": [">", 20, "<", 1]}"#,
            "Bottom must be less than top",
        ),
        (
            r#"{"numeric": [">", 20, "<"]}"#,
            "Value of < must be numeric",
        ),
        (
            r#"{"numeric": [">", 1, "<", 2, "<"]}"#,
            "Too many terms in numeric range expression",
        ),
        (
            r#"1000000001"#,
            "Value must be between -1.0E9 and 1.0E9, inclusive",
        ),
        (r#"{"cidr": 1}"#, "prefix match pattern must be a string"),
        (
            r#"{"cidr": "10.0.0.0"}"#,
            "Malformed CIDR, one '/' required",
        ),
        (
            r#"{"cidr": "10.0.0.0/x"}"#,
            "Malformed CIDR, mask bits must be an integer",
        ),
        (
            r#"{"cidr": "10.0.0.256/8"}"#,
            "Nonstandard IP address: 10.0.0.256",
        ),
        (r#"{"cidr": "10.0.0.0/33"}"#, "IPv4 mask bits must be <= 32"),
        (r#"{"cidr": "::/129"}"#, "IPv6 mask bits must be <= 128"),
        (
            r#"{"wildcard": "a**b"}"#,
            "Consecutive wildcard characters in wildcard match pattern",
        ),
        (
            r#"{"wildcard": "a\\b"}"#,
            "Invalid escape character in wildcard match pattern",
        ),
        (
            r#"{"wildcard": "a*b*c*d*"}"#,
            "Wildcard match pattern can not have more than 3 wildcards",
        ),
    ] {
        assert_eq!(key(rules), format!("FilterPolicy: {words}"), "{rules}");
    }
    for (policy, words) in [
        ("", "FilterPolicy: failed to parse JSON."),
        (r#"{"a": ["b"}"#, "FilterPolicy: failed to parse JSON."),
        ("[]", "FilterPolicy: Filter is not an object"),
        (
            r#"{"a": "b"}"#,
            r#"FilterPolicy: "a" must be an object or an array"#,
        ),
        (r#"{"a": []}"#, "FilterPolicy: Empty arrays are not allowed"),
        (
            r#"{"a": {}}"#,
            "FilterPolicy: Empty objects are not allowed",
        ),
        (
            r#"{"a": [1], "b": [1], "c": [1], "d": [1], "e": [1], "f": [1]}"#,
            "FilterPolicy: Filter policy can not have more than 5 keys",
        ),
    ] {
        assert_eq!(refused(policy), words, "{policy}");
    }
    let nested = Policy::of_attributes(br#"{"store": {"key": [{"exists": null}]}}"#);
    assert_eq!(
        nested.expect_err("nested").to_string(),
        "Filter policy scope MessageAttributes does not support nested filter policy"
    );
}

#[test]
fn complexity_has_its_limits() {
    let many = |count: usize| {
        let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        values.join(",")
    };
    let of = |policy: String| Policy::of_body(policy.as_bytes()).map(|_| ());
    assert_eq!(of(format!(r#"{{"a": [{}]}}"#, many(150))), Ok(()));
    assert_eq!(
        of(format!(r#"{{"a": [{}]}}"#, many(151))),
        Err(PolicyError::Complex)
    );
    // The documentation's: 4 x 3 levels x 3 x 2 levels = 72; with three more values 216.
    let nested = |more: &str| {
        format!(
            r#"{{"key_a": {{"key_b": {{"key_c": ["1", "2", "3", "4"]}}}}, "key_d": {{"key_e": ["1", "2", "3"]}}{more}}}"#
        )
    };
    assert_eq!(of(nested("")), Ok(()));
    assert_eq!(
        of(nested(r#", "key_f": ["1", "2", "3"]"#)),
        Err(PolicyError::Complex)
    );
    // Alternatives add up: 3 x (2 + 2) = 12, and 3 x (25 + 26) = 153.
    let or = |b: usize, c: usize| {
        format!(
            r#"{{"a": [1, 2, 3], "$or": [{{"b": [{}]}}, {{"c": [{}]}}]}}"#,
            many(b),
            many(c)
        )
    };
    assert_eq!(of(or(2, 2)), Ok(()));
    assert_eq!(of(or(25, 25)), Ok(()));
    assert_eq!(of(or(25, 26)), Err(PolicyError::Complex));
    // Ten of one point each: 10 x 10; eleven are too many. Three wildcards cost nine: 3 x 9 x 3 fits, 4 x 9 x 4 does not.
    let wild = |pattern: &str, count: usize| {
        let one = format!(r#"{{"wildcard": "{pattern}"}}"#);
        format!(r#"{{"a": [{}]}}"#, vec![one; count].join(","))
    };
    assert_eq!(of(wild("*a", 10)), Ok(()));
    assert_eq!(of(wild("*a", 11)), Err(PolicyError::Wildcards));
    assert_eq!(of(wild("*a*b*", 3)), Ok(()));
    assert_eq!(of(wild("*a*b*", 4)), Err(PolicyError::Wildcards));
    let long = format!(r#"{{"a": ["{}"]}}"#, "x".repeat(POLICY_LEN_MAX));
    assert_eq!(of(long), Err(PolicyError::TooLong));
    let deep = format!("{}[1]{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    assert_eq!(of(deep), Err(PolicyError::Json));
}

/// The plainest way to match `*`.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
        Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn wildcards_match_as_the_plainest_way_does(pattern in "[ab]{0,2}(\\*[ab]{1,2}){0,3}", text in "[ab]{0,8}") {
        let policy = format!(r#"{{"k": [{{"wildcard": "{pattern}"}}]}}"#);
        let body = format!(r#"{{"k": "{text}"}}"#);
        prop_assert_eq!(body_passes(&policy, &body), naive(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn nothing_makes_a_policy_panic(policy in "[\\[\\]{}\":,a$or*1.e -]{0,60}", body in "[\\[\\]{}\":,a1]{0,40}") {
        if let Ok(policy) = Policy::of_body(policy.as_bytes()) {
            let _ = policy.passes_body(&PolicyBody::read(body.as_bytes()));
        }
        let _ = Policy::of_attributes(policy.as_bytes());
    }

    #[test]
    fn ranges_agree_with_floats(from in -1000i32..1000, len in 1i32..1000, value in -3000i32..3000) {
        let rules = format!(r#"{{"numeric": [">", {from}.25, "<=", {}.25]}}"#, from + len);
        let expected = f64::from(value) / 2.0 > f64::from(from) + if from < 0 { -0.25 } else { 0.25 }
            && f64::from(value) / 2.0 <= f64::from(from + len) + if from + len < 0 { -0.25 } else { 0.25 };
        let top = f64::from(from + len) + if from + len < 0 { -0.25 } else { 0.25 };
        let bottom = f64::from(from) + if from < 0 { -0.25 } else { 0.25 };
        prop_assume!(top > bottom);
        prop_assert_eq!(rule(&rules, &format!("{}", f64::from(value) / 2.0)), expected);
    }
}
