//! Message attributes: what SQS and SNS take, and how they meet the properties of other protocols (DOORS 9, 22, 23).

use aws::{Attribute, AttributeFault, Attributes, Content, MemberName, Sender, Shown, Value};
use bytes::Bytes;
use message::{Address, Levels, Message, Value as Property, VhostId};

const ID: [u8; 16] = [7; 16];

fn text(name: &str, data_type: &str, value: &str) -> (MemberName, Value) {
    let it = [
        ("DataType", data_type.into()),
        ("StringValue", value.into()),
    ];
    (name.to_owned().into(), Value::from(it))
}

fn binary(name: &str, data_type: &str, value: &'static [u8]) -> (MemberName, Value) {
    let value = Bytes::from_static(value).into();
    let it = [("DataType", data_type.into()), ("BinaryValue", value)];
    (name.to_owned().into(), Value::from(it))
}

fn read(entries: &[(MemberName, Value)]) -> Attributes {
    Attributes::read(entries, true).expect("legal attributes")
}

fn sent(entries: &[(MemberName, Value)]) -> Message {
    let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
    read(entries).put_into(&mut message, Sender::of("me"), ID);
    message
}

fn published(properties: Vec<(&'static str, Property)>) -> Message {
    let mut message = Message::new(Address::queue(VhostId::ROOT, "q"), Bytes::new());
    for (name, value) in properties {
        message.properties.push(name, value);
    }
    message
}

fn shown(message: &Message) -> Vec<(String, String, Content)> {
    let mut all: Vec<_> = Shown::of(message)
        .attributes
        .0
        .into_iter()
        .map(
            |Attribute {
                 name,
                 data_type,
                 content,
             }| (name, data_type, content),
        )
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn line(name: &str, data_type: &str, value: &str) -> (String, String, Content) {
    (name.into(), data_type.into(), Content::Text(value.into()))
}

#[test]
fn digests_are_those_that_clients_compute() {
    let one = |name, kind, value| read(&[text(name, kind, value)]).md5();
    assert_eq!(
        one("SOME_Valid.attribute-Name", "Number", "1493147359900").as_deref(),
        Some("36655e7e9d7c0e8479fa3f3f42247ae7")
    );
    assert_eq!(
        one("somevalue", "String.custom", "somevalue").as_deref(),
        Some("9e05cca738e70ff6c6041e82d5e77ef1")
    );
    let several = read(&[
        text("id", "String", "453ae55e-f03b-21a6-a4b1-70c2e2e8fe71"),
        binary("mybin", "Binary", b"kekchebukek"),
        text("timestamp", "Number.java.lang.Long", "1603134247654"),
        text("contentType", "String", "application/json"),
    ]);
    assert_eq!(
        several.md5().as_deref(),
        Some("049075255ebc53fb95f7f9f3cedf3c50")
    );
    assert_eq!(Attributes::default().md5(), None);
}

#[test]
fn what_is_not_legal_is_refused_in_the_words_of_the_service() {
    let message = |entry| match Attributes::read(&[entry], true) {
        Err(AttributeFault::Invalid(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(
        message(text("öther", "String", "a"))
            .starts_with("The message attribute name 'öther' is invalid.")
    );
    assert_eq!(
        message(text("n", "InvalidNumber", "a")),
        "The message attribute 'n' has an invalid message attribute type, the set of supported type prefixes is Binary, \
         Number, and String."
    );
    assert_eq!(
        message(text("n", "String", "")),
        "The message attribute 'n' must contain non-empty message attribute value for message attribute type 'String'."
    );
    assert_eq!(
        message(text("n", "Number", "12a")),
        "Could not cast message attribute 'n' value to number."
    );
    for (number, is_one) in [
        ("0", true),
        ("-0.00", true),
        ("12345678901234567890123456789012345678", true),
        ("123456789012345678901234567890123456789", false),
        // Zeros at either end are no digits of it.
        ("0.0012345678901234567890123456789012345678000", true),
        ("1e126", true),
        ("1.01e126", false),
        ("-1E-128", true),
        ("9e-129", false),
        ("1e-400", false),
        ("1e400", false),
    ] {
        let read = Attributes::read(&[text("n", "Number", number)], true);
        assert_eq!(read.is_ok(), is_one, "{number}");
    }
    assert!(message(text("AWS.x", "String", "a")).contains("reserved"));
    assert!(message(binary("n", "String", b"a")).contains("non-empty"));
    assert!(message(text("n", "", "a")).contains("message attribute type"));
    assert!(matches!(
        Attributes::read(&[text("n", "String", "a\u{1}")], true),
        Err(AttributeFault::Characters(_))
    ));
    assert!(Attributes::read(&[text("AWS.SNS.SMS.SMSType", "String", "a")], false).is_ok());
}

#[test]
fn what_is_meant_for_a_field_and_does_not_fit_it_is_refused() {
    for (name, kind, value, wanted) in [
        (
            "bascule.priority",
            "Number",
            "256",
            "a Number from 0 to 255",
        ),
        ("bascule.priority", "Number", "-1", "a Number from 0 to 255"),
        ("bascule.priority", "String", "3", "a Number from 0 to 255"),
        (
            "bascule.group-sequence",
            "Number",
            "1.5",
            "a Number from 0 to 4294967295",
        ),
        (
            "bascule.expiry",
            "Number.ms",
            "1",
            "a Number of milliseconds since 1970",
        ),
        (
            "bascule.reply-to",
            "String",
            "$share/g/a",
            "a String: $queue/NAME, or a topic",
        ),
        ("bascule.subject", "String.custom", "a", "a String"),
        ("bascule.body", "String", "gzip", "the String base64"),
    ] {
        assert_eq!(
            Attributes::read(&[text(name, kind, value)], true),
            Err(AttributeFault::Invalid(format!(
                "The message attribute '{name}' must be {wanted}."
            )))
        );
    }
    let refused = Attributes::read(&[binary("bascule.correlation-id", "Binary", b"a")], true);
    assert!(refused.is_err());
    for (name, kind, value) in [
        ("bascule.priority", "Number", "255"),
        ("bascule.reply-to", "String", "$queue/a"),
        ("bascule.body", "String", "base64"),
        // What another door shows, or a name that is nobody's.
        ("bascule.omitted", "Number", "1"),
        ("traceparent", "Number", "1"),
    ] {
        assert!(Attributes::read(&[text(name, kind, value)], true).is_ok());
    }
}

#[test]
fn doors_d23_attributes_come_back_as_they_were_and_are_properties_to_others() {
    let entries = [
        text("float", "Number", "1.50"),
        text("number", "Number.long", "-12"),
        text("text", "String.custom", "größe"),
        binary("zbytes", "Binary.png", b"\0\x01"),
        text("zlist", "String.Array", "[\"a\",1]"),
    ];
    let message = sent(&entries);
    let back = Shown::of(&message);
    assert_eq!(back.attributes, read(&entries));
    assert_eq!(
        (back.sender.as_deref(), back.message_id),
        (Some(&b"me"[..]), Some(ID))
    );
    let property = |name: &str| message.properties.first(name.as_bytes()).cloned();
    assert_eq!(property("number"), Some(Property::I64(-12)));
    // 1.5 is another text.
    assert_eq!(property("float"), Some(Property::text("1.50")));
    assert_eq!(property("text"), Some(Property::text("größe")));
    assert_eq!(
        property("zbytes"),
        Some(Property::Bytes(Bytes::from_static(b"\0\x01")))
    );
    assert_eq!(
        property("zlist"),
        Some(Property::List(vec![Property::text("a"), Property::I64(1)]))
    );
}

#[test]
fn doors_d23_properties_of_others_are_attributes() {
    let list = Property::List(vec![Property::text("x"), Property::Bool(true)]);
    let map = Property::Map(vec![(Property::text("k"), Property::U8(1))]);
    let message = published(vec![
        ("a", Property::I32(-5)),
        ("b", Property::F64(2.5)),
        ("c", Property::Bool(true)),
        ("d", Property::Bytes(Bytes::from_static(b"\xff"))),
        ("e", list),
        ("f", map),
        ("g", Property::text("once")),
        ("g", Property::text("twice")),
        ("not a name", Property::U8(1)),
        ("h", Property::text("")),
        ("i", Property::Null),
    ]);
    let mut wanted = vec![
        line("a", "Number", "-5"),
        line("b", "Number", "2.5"),
        line("bascule.omitted", "Number", "3"),
        line("c", "String", "true"),
        (
            "d".into(),
            "Binary".into(),
            Content::Binary(Bytes::from_static(b"\xff")),
        ),
        line("e", "String.Array", "[\"x\",true]"),
        line("f", "String", "{\"k\":1}"),
        line("g", "String.Array", "[\"once\",\"twice\"]"),
    ];
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(shown(&message), wanted);
}

#[test]
fn doors_d23_fields_are_attributes_of_our_own_and_are_read_back() {
    let vhost = VhostId::ROOT;
    let mut message = published(vec![]);
    message.priority = Some(3);
    let fields = message.fields_mut();
    fields.content_type = Some("text/plain".into());
    fields.correlation_id = Some(Property::Bytes(Bytes::from_static(b"\xff")));
    fields.message_id = Some(Property::text("order-1"));
    fields.subject = Some("greeting".into());
    fields.reply_to = Some(Address::topic(
        vhost,
        Levels::collect(["a/b", "c"]).expect("short"),
    ));
    fields.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let lines = shown(&message);
    assert_eq!(
        lines,
        [
            line("bascule.content-type", "String", "text/plain"),
            line("bascule.correlation-id", "String", "base64:/w=="),
            line("bascule.message-id", "String", "order-1"),
            line("bascule.priority", "Number", "3"),
            line("bascule.reply-to", "String", "a%2Fb/c"),
            line("bascule.subject", "String", "greeting"),
            line(
                "traceparent",
                "String",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            ),
        ]
    );
    let entries: Vec<_> = lines
        .iter()
        .map(|(name, kind, content)| match content {
            Content::Text(value) => text(name, kind, value),
            Content::Binary(_) => panic!("all are texts"),
        })
        .collect();
    let again = sent(&entries);
    assert_eq!(again.fields, message.fields);
    assert_eq!(again.priority, message.priority);
    assert!(again.properties.is_empty());
    // The id that was given out is kept beside the one that the application chose.
    assert_eq!(Shown::of(&again).message_id, Some(ID));
    assert_eq!(shown(&again), lines);
    // A queue, also with characters that its text cannot show.
    let reply = sent(&[text("bascule.reply-to", "String", "$queue/a/b%2B")]);
    assert_eq!(reply.fields().reply_to, Some(Address::queue(vhost, "a/b+")));
    assert_eq!(
        shown(&reply),
        [line("bascule.reply-to", "String", "$queue/a/b%2B")]
    );
}
