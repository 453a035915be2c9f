//! Messages of every shape, drawn at random.

use bytes::Bytes;
use message::{
    Address, BodyKind, Fields, Filter, FilterLevel, HeaderMatch, Kind, Levels, Message, Native,
    NativeForm, Pattern, Properties, Timestamp, Value, VhostId,
};
use proptest::prelude::*;

pub(crate) fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = Bytes> {
    any::<String>().prop_map(Bytes::from)
}

pub(crate) fn levels() -> impl Strategy<Value = Levels> {
    prop::collection::vec(bytes(), 0..8).prop_map(|levels| Levels::collect(levels).expect("few"))
}

/// Every variant of [`Value`], floats of any bits.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::U8),
        any::<u16>().prop_map(Value::U16),
        any::<u32>().prop_map(Value::U32),
        any::<u64>().prop_map(Value::U64),
        any::<i8>().prop_map(Value::I8),
        any::<i16>().prop_map(Value::I16),
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(Value::I64),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        (any::<u8>(), any::<i32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
        bytes().prop_map(Value::Decimal754),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Time),
        any::<u64>().prop_map(Value::TimeSeconds),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        bytes().prop_map(Value::Bytes),
        bytes().prop_map(Value::LongString),
        text().prop_map(Value::Text),
        text().prop_map(Value::Symbol),
    ];
    plain.prop_recursive(4, 24, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            list.clone().prop_map(Value::List),
            list.prop_map(Value::Array),
            pairs.prop_map(Value::Map),
            (inner.clone(), inner).prop_map(|pair| Value::Described(Box::new(pair))),
        ]
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    prop::collection::vec((bytes(), value()), 0..5).prop_map(Properties)
}

fn address() -> impl Strategy<Value = Address> {
    let kind = prop::sample::select(&[Kind::Queue, Kind::Topic, Kind::Stream, Kind::Exchange][..]);
    (any::<u32>(), kind, bytes(), levels()).prop_map(|(vhost, kind, name, key)| Address {
        vhost: VhostId(vhost),
        kind,
        name,
        key,
    })
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    prop::option::of(strategy)
}

fn fields() -> impl Strategy<Value = Fields> {
    let texts = prop::array::uniform8(maybe(bytes()));
    let ids = (maybe(value()), maybe(value()));
    let rest = (
        maybe(address()),
        maybe(any::<u32>()),
        prop::collection::vec(levels(), 0..3),
    );
    (texts, ids, rest).prop_map(|(texts, ids, rest)| {
        let [
            content_type,
            content_encoding,
            user_id,
            app_id,
            subject,
            dedup_id,
            trace_parent,
            trace_state,
        ] = texts;
        Fields {
            content_type,
            content_encoding,
            message_id: ids.0,
            correlation_id: ids.1,
            reply_to: rest.0,
            user_id,
            app_id,
            subject,
            group_sequence: rest.1,
            dedup_id,
            trace_parent,
            trace_state,
            carbon_copies: rest.2,
        }
    })
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let body_kind = prop::sample::select(
        &[
            BodyKind::Bytes,
            BodyKind::Text,
            BodyKind::AmqpValue,
            BodyKind::AmqpSequence,
            BodyKind::Map,
        ][..],
    );
    let flags = (any::<bool>(), 0u8..3, any::<bool>(), body_kind);
    let scalars = (
        maybe(any::<u8>()),
        maybe(any::<u64>()),
        any::<u64>(),
        maybe(any::<u64>()),
    );
    let native = maybe((any::<u8>(), bytes()));
    let rest = (
        (maybe(bytes()), maybe(fields())),
        properties(),
        native,
        bytes(),
    );
    (address(), flags, scalars, rest).prop_map(|(address, flags, scalars, rest)| {
        let mut message = Message::new(address, rest.3);
        (
            message.durable,
            message.qos,
            message.retain,
            message.body_kind,
        ) = flags;
        message.priority = scalars.0;
        message.expiry = scalars.1.map(Timestamp);
        message.delay_ms = scalars.2;
        message.created = scalars.3.map(Timestamp);
        let (group, fields) = rest.0;
        message.group = group;
        // Beside a group, none of them is as much as no fields.
        let fields = fields.filter(|it| message.group.is_none() || *it != Fields::default());
        message.fields = fields.map(Box::new);
        message.properties = rest.1;
        message.native = rest.2.map(|(form, head)| Native {
            form: NativeForm(form),
            head,
        });
        message
    })
}

pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    let level = prop_oneof![
        bytes().prop_map(FilterLevel::Exact),
        Just(FilterLevel::One),
        Just(FilterLevel::Many),
    ];
    let selected = level.clone();
    let matching = prop::sample::select(
        &[
            HeaderMatch::All,
            HeaderMatch::Any,
            HeaderMatch::AllWithX,
            HeaderMatch::AnyWithX,
        ][..],
    );
    prop_oneof![
        Just(Filter::All),
        levels().prop_map(Filter::Exact),
        prop::collection::vec(level, 0..8).prop_map(|levels| Filter::Pattern(Pattern(levels))),
        (
            prop::collection::vec(selected, 0..8),
            // No keyword of selectors begins with a p.
            "p[a-z]{0,3} (=|<>) '[a-z]{0,4}'"
        )
            .prop_map(|(levels, selector)| Filter::Selected {
                pattern: Pattern(levels),
                selector: message::Selector::parse(&selector).expect("a selector"),
            }),
        (matching, properties()).prop_map(|(matching, arguments)| Filter::Headers {
            matching,
            arguments
        }),
    ]
}
