//! The bytes of version 1, written down: a change of the format must not pass unnoticed.
//!
//! Whoever has to change a line here changes what journals hold: raise `HEAD_VERSION`, and keep this line as a test that
//! the old form can still be read.

use bytes::Bytes;
use message::{
    Address, BodyKind, Fields, Filter, FilterLevel, HEAD_VERSION, HeaderMatch, Kind, Levels,
    Message, Native, NativeForm, Pattern, Properties, Reader, Selector, Timestamp, Value, VhostId,
    decode_head, encode_head, put_filter, put_properties, read_filter, read_properties,
};

/// Reads hexadecimal digits; everything behind `;` in a line is a comment.
fn bytes(text: &str) -> Bytes {
    let digits: Vec<u32> = text
        .lines()
        .filter_map(|line| line.split(';').next())
        .flat_map(|line| line.chars().filter_map(|digit| digit.to_digit(16)))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn levels(names: &[&str]) -> Levels {
    Levels::collect(names).expect("few")
}

fn check_head(message: &Message, text: &str) {
    let mut out = Vec::new();
    encode_head(message, &mut out);
    assert_eq!(Bytes::from(out), bytes(text));
    let back = decode_head(bytes(text), message.body.clone());
    assert_eq!(back.as_ref(), Ok(message));
}

#[test]
fn the_version_is_1() {
    assert_eq!(HEAD_VERSION, 1);
}

#[test]
fn the_smallest_head() {
    let message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
    check_head(
        &message,
        "01 00 00     ; version, flags, body kind
         00 00 01 71  ; virtual host 0, a queue named q
         00           ; no level
         00           ; no scalar",
    );
}

#[test]
fn a_head_with_everything() {
    let address = Address::exchange(VhostId(7), "x", levels(&["a", ""]));
    let mut message = Message::new(address, Bytes::from_static(b"body"));
    message.durable = true;
    message.retain = true;
    message.qos = 2;
    message.body_kind = BodyKind::Text;
    message.priority = Some(9);
    message.expiry = Some(Timestamp(300));
    message.delay_ms = 5;
    message.created = Some(Timestamp(1));
    message.group = Some("g".into());
    message.fields = Some(Box::new(Fields {
        content_type: Some("t".into()),
        content_encoding: Some("e".into()),
        message_id: Some(Value::text("m")),
        correlation_id: Some(Value::U64(300)),
        reply_to: Some(Address::queue(VhostId::ROOT, "r")),
        user_id: Some("u".into()),
        app_id: Some("p".into()),
        subject: Some("s".into()),
        group_sequence: Some(3),
        dedup_id: Some("d".into()),
        trace_parent: Some("1".into()),
        trace_state: Some("2".into()),
        carbon_copies: vec![levels(&["k"]), Levels::none()],
    }));
    message.properties.push("n", Value::Bool(true));
    message.native = Some(Native {
        form: NativeForm::STOMP,
        head: "h".into(),
    });
    check_head(
        &message,
        "01 7b 01           ; version; durable, retain, qos 2, fields, native, properties; text
         07 03 01 78        ; virtual host 7, an exchange named x
         02 01 61 00        ; two levels: a and the empty one
         01 09              ; priority
         02 ac 02           ; expiry 300
         03 05              ; delay
         04 01              ; created
         00
         01 01 74           ; content type
         02 01 65           ; content encoding
         03 01 75           ; user id
         04 01 70           ; app id
         05 01 73           ; subject
         06 01 67           ; group
         07 01 64           ; dedup id
         08 01 31           ; traceparent
         09 01 32           ; tracestate
         14 14 01 6d        ; message id: text m
         15 05 ac 02        ; correlation id: 300, unsigned 64 bits
         16 00 00 01 72 00  ; reply to queue r
         17 03              ; group sequence
         18 01 01 6b        ; a carbon copy to k
         18 00              ; and one to the empty key
         00
         01 01 6e 01 01     ; one property: n is true
         03 01 68           ; native: STOMP, h",
    );
}

#[test]
fn each_address_kind_and_body_kind_has_its_number() {
    for (kind, number) in [
        (Kind::Queue, 0),
        (Kind::Topic, 1),
        (Kind::Stream, 2),
        (Kind::Exchange, 3),
    ] {
        let mut message = Message::new(Address::queue(VhostId::ROOT, ""), Bytes::new());
        std::sync::Arc::make_mut(&mut message.address).kind = kind;
        check_head(&message, &format!("01 00 00 00 {number:02x} 00 00 00"));
    }
    for (body_kind, number) in [
        (BodyKind::Bytes, 0),
        (BodyKind::Text, 1),
        (BodyKind::AmqpValue, 2),
        (BodyKind::AmqpSequence, 3),
        (BodyKind::Map, 4),
    ] {
        let mut message = Message::new(Address::queue(VhostId::ROOT, ""), Bytes::new());
        message.body_kind = body_kind;
        check_head(&message, &format!("01 00 {number:02x} 00 00 00 00 00"));
    }
    let forms = [NativeForm::MQTT5, NativeForm::AMQP091, NativeForm::STOMP];
    assert_eq!(forms.map(|form| form.0), [1, 2, 3]);
}

#[test]
fn each_value() {
    let uuid = *b"0123456789abcdef";
    for (value, text) in [
        (Value::Null, "00"),
        (Value::Bool(false), "01 00"),
        (Value::U8(200), "02 c8"),
        (Value::U16(200), "03 c8 01"),
        (Value::U32(200), "04 c8 01"),
        (Value::U64(200), "05 c8 01"),
        (Value::I8(-1), "06 01"),
        (Value::I16(-1), "07 01"),
        (Value::I32(1), "08 02"),
        (Value::I64(-200), "09 8f 03"),
        (Value::F32(1.0), "0a 00 00 80 3f"),
        (Value::F64(1.0), "0b 00 00 00 00 00 00 f0 3f"),
        (
            Value::Decimal {
                scale: 2,
                value: -1,
            },
            "0c 02 01",
        ),
        (Value::Decimal754("d".into()), "0d 01 64"),
        (Value::Char('A'), "0e 41"),
        (Value::Time(-1), "0f 01"),
        (Value::TimeSeconds(1), "10 01"),
        (
            Value::Uuid(uuid),
            "11 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66",
        ),
        (Value::Bytes("b".into()), "12 01 62"),
        (Value::LongString("l".into()), "13 01 6c"),
        (Value::text("t"), "14 01 74"),
        (Value::Symbol("s".into()), "15 01 73"),
        (
            Value::List(vec![Value::Null, Value::U8(1)]),
            "16 02 00 02 01",
        ),
        (Value::Array(vec![Value::U8(1)]), "17 01 02 01"),
        (
            Value::Map(vec![(Value::text("k"), Value::U8(1))]),
            "18 01 14 01 6b 02 01",
        ),
        (
            Value::Described(Box::new((Value::U64(1), Value::Null))),
            "19 05 01 00",
        ),
    ] {
        let properties = Properties(vec![("p".into(), value)]);
        let wanted = bytes(&format!("01 01 70 {text}"));
        let mut out = Vec::new();
        put_properties(&mut out, &properties);
        assert_eq!(Bytes::from(out), wanted, "{properties:?}");
        assert_eq!(read_properties(&mut Reader::new(wanted)), Ok(properties));
    }
}

#[test]
fn the_bits_of_a_nan_are_kept() {
    for text in [
        "01 01 70 0a 01 00 80 7f",
        "01 01 70 0a 00 00 c0 ff",
        "01 01 70 0b 01 00 00 00 00 00 f0 7f",
        "01 01 70 0b 00 00 00 00 00 00 f8 ff",
    ] {
        let properties = read_properties(&mut Reader::new(bytes(text))).expect("a number");
        let mut out = Vec::new();
        put_properties(&mut out, &properties);
        assert_eq!(Bytes::from(out), bytes(text));
    }
}

#[test]
fn each_filter() {
    let headers = |matching| Filter::Headers {
        matching,
        arguments: Properties(vec![("p".into(), Value::Null)]),
    };
    let pattern = Pattern(vec![
        FilterLevel::Exact("a".into()),
        FilterLevel::One,
        FilterLevel::Many,
    ]);
    for (filter, text) in [
        (Filter::All, "00"),
        (Filter::Exact(levels(&["a", "b"])), "01 02 01 61 01 62"),
        (Filter::Pattern(pattern.clone()), "02 03 00 01 61 01 02"),
        (
            Filter::Selected {
                pattern,
                selector: Selector::parse("a=1").expect("a selector"),
            },
            "04 03 00 01 61 01 02 03 61 3d 31",
        ),
        (headers(HeaderMatch::All), "03 00 01 01 70 00"),
        (headers(HeaderMatch::Any), "03 01 01 01 70 00"),
        (headers(HeaderMatch::AllWithX), "03 02 01 01 70 00"),
        (headers(HeaderMatch::AnyWithX), "03 03 01 01 70 00"),
    ] {
        let mut out = Vec::new();
        put_filter(&mut out, &filter);
        assert_eq!(Bytes::from(out), bytes(text), "{filter:?}");
        assert_eq!(read_filter(&mut Reader::new(bytes(text))), Ok(filter));
    }
}
