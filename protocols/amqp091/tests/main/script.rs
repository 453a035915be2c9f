//! Lines of a script as bytes and events.
//!
//! ```text
//! > header | hex 41 4d .. | heartbeat        bytes from the peer; lines in a row are one read
//! > 1 queue.declare queue=jobs durable @x-message-ttl=l5000       a method: channel, name, fields, arguments with @
//! > 1 header 5 delivery-mode=2 @name=value | 1 body hello | 1 body * 5000
//! * declared jobs 0 0 | refused NotFound why | ...                an event; it answers the oldest open token, `*2` the second oldest
//! +5000                                                           the time goes on, timers run
//! < ... ! ... x ...                                               what must come out: frames, commands, the end
//! = login                                                         the usual handshake
//! ```

use std::collections::BTreeMap;

use amqp091::codec::{
    BasicProperties, ContentHeader, Frame, Long, Method, PROTOCOL_HEADER, Short, basic, channel,
    confirm, connection, exchange, queue, tx,
};
use bytes::{Bytes, BytesMut};
use message::{Properties, Value};

/// The fields of a line: `name=value` or a bare `name`.
struct Line<'a> {
    fields: BTreeMap<&'a str, &'a str>,
    table: Properties,
}

impl<'a> Line<'a> {
    fn new(words: impl Iterator<Item = &'a str>) -> Self {
        let mut line = Self {
            fields: BTreeMap::new(),
            table: Properties::default(),
        };
        for word in words {
            let (name, text) = word.split_once('=').unwrap_or((word, "true"));
            match name.strip_prefix('@') {
                Some(name) => line.table.push(name.to_owned(), value(text)),
                None => {
                    line.fields.insert(name, text);
                }
            }
        }
        line
    }

    fn opt(&self, name: &str) -> Option<Short> {
        let text = self.fields.get(name)?;
        Some(Short::new(Bytes::from((*text).to_owned())).expect("a short text in a script"))
    }

    fn s(&self, name: &str) -> Short {
        self.opt(name).unwrap_or_default()
    }

    fn l(&self, name: &str) -> Long {
        Long(Bytes::from(
            self.fields
                .get(name)
                .map(|text| text.replace("\\0", "\0"))
                .unwrap_or_default(),
        ))
    }

    fn b(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|text| *text == "true")
    }

    fn n<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        self.fields.get(name).map_or_else(T::default, |text| {
            text.parse().ok().expect("a number in a script")
        })
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.fields
            .get(name)
            .map(|text| text.parse().ok().expect("a number in a script"))
    }
}

fn value(text: &str) -> Value {
    let number = |rest: &str| rest.parse::<i64>().ok();
    if let Some(rest) = text.strip_prefix('[') {
        let inside = rest.trim_end_matches(']');
        return Value::List(
            inside
                .split(',')
                .filter(|t| !t.is_empty())
                .map(value)
                .collect(),
        );
    }
    if let Some(rest) = text.strip_prefix('{') {
        let pairs = rest.trim_end_matches('}').split(',').filter_map(|pair| {
            let (name, text) = pair.split_once(':')?;
            Some((Value::text(name), value(text)))
        });
        return Value::Map(pairs.collect());
    }
    match text.split_at_checked(1) {
        Some(("l", rest)) if number(rest).is_some() => Value::I64(number(rest).expect("checked")),
        Some(("I", rest)) if number(rest).is_some() => {
            Value::I32(number(rest).expect("checked") as i32)
        }
        Some(("T", rest)) if number(rest).is_some() => {
            Value::TimeSeconds(number(rest).expect("checked") as u64)
        }
        _ if text == "true" || text == "false" => Value::Bool(text == "true"),
        _ => Value::text(text),
    }
}

/// The bytes of a `>` line.
pub(crate) fn bytes(line: &str) -> BytesMut {
    let mut out = BytesMut::new();
    if line == "header" {
        out.extend_from_slice(&PROTOCOL_HEADER);
    } else if let Some(hex) = line.strip_prefix("hex ") {
        out.extend_from_slice(&unhex(hex));
    } else if line == "heartbeat" {
        Frame::Heartbeat.encode(&mut out);
    } else {
        let (channel, rest) = line.split_once(' ').expect("channel and frame");
        let channel = channel.parse().expect("a channel number");
        frame(channel, rest).encode(&mut out);
    }
    out
}

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal digits")
        })
        .collect()
}

fn frame(channel: u16, rest: &str) -> Frame {
    if let Some(body) = rest.strip_prefix("body") {
        let body = body.strip_prefix(' ').unwrap_or(body);
        let body = match body.strip_prefix("* ") {
            Some(len) => Bytes::from(vec![b'x'; len.parse().expect("a length")]),
            None => Bytes::from(body.to_owned()),
        };
        return Frame::Body { channel, body };
    }
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let name = words.next().expect("a method");
    if name == "header" {
        let size = words.next().expect("a body size");
        let line = Line::new(words);
        return Frame::Header {
            channel,
            header: ContentHeader {
                class_id: line.number("class").unwrap_or(60),
                body_size: size.parse().expect("a body size"),
                properties: properties(line).to_bytes(),
            },
        };
    }
    Frame::Method {
        channel,
        method: method(name, Line::new(words)),
    }
}

fn properties(line: Line<'_>) -> BasicProperties {
    BasicProperties {
        content_type: line.opt("content-type"),
        content_encoding: line.opt("content-encoding"),
        delivery_mode: line.number("delivery-mode"),
        priority: line.number("priority"),
        correlation_id: line.opt("correlation-id"),
        reply_to: line.opt("reply-to"),
        expiration: line.opt("expiration"),
        message_id: line.opt("message-id"),
        timestamp: line.number("timestamp"),
        kind: line.opt("type"),
        user_id: line.opt("user-id"),
        app_id: line.opt("app-id"),
        cluster_id: line.opt("cluster-id"),
        headers: (!line.table.is_empty()).then_some(line.table),
    }
}

fn method(name: &str, line: Line<'_>) -> Method {
    let (s, b) = (|name| line.s(name), |name| line.b(name));
    match name {
        "connection.start-ok" => connection::StartOk {
            client_properties: line.table.clone(),
            mechanism: s("mechanism"),
            response: line.l("response"),
            locale: "en_US".into(),
        }
        .into(),
        "connection.tune-ok" => connection::TuneOk {
            channel_max: line.n("channel_max"),
            frame_max: line.n("frame_max"),
            heartbeat: line.n("heartbeat"),
        }
        .into(),
        "connection.open" => connection::Open {
            virtual_host: s("vhost"),
            ..Default::default()
        }
        .into(),
        "connection.close" => connection::Close {
            reply_code: 200,
            ..Default::default()
        }
        .into(),
        "connection.close-ok" => connection::CloseOk {}.into(),
        "connection.update-secret" => connection::UpdateSecret::default().into(),
        "channel.open" => channel::Open::default().into(),
        "channel.close" => channel::Close {
            reply_code: 200,
            ..Default::default()
        }
        .into(),
        "channel.close-ok" => channel::CloseOk {}.into(),
        "channel.flow" => channel::Flow {
            active: b("active"),
        }
        .into(),
        "exchange.declare" => exchange::Declare {
            exchange: s("exchange"),
            kind: s("type"),
            passive: b("passive"),
            durable: b("durable"),
            auto_delete: b("auto_delete"),
            internal: b("internal"),
            no_wait: b("no_wait"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "exchange.delete" => exchange::Delete {
            exchange: s("exchange"),
            if_unused: b("if_unused"),
            no_wait: b("no_wait"),
            ..Default::default()
        }
        .into(),
        "exchange.bind" => exchange::Bind {
            destination: s("destination"),
            source: s("source"),
            routing_key: s("key"),
            no_wait: b("no_wait"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "exchange.unbind" => exchange::Unbind {
            destination: s("destination"),
            source: s("source"),
            routing_key: s("key"),
            no_wait: b("no_wait"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "queue.declare" => queue::Declare {
            queue: s("queue"),
            passive: b("passive"),
            durable: b("durable"),
            exclusive: b("exclusive"),
            auto_delete: b("auto_delete"),
            no_wait: b("no_wait"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "queue.bind" => queue::Bind {
            queue: s("queue"),
            exchange: s("exchange"),
            routing_key: s("key"),
            no_wait: b("no_wait"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "queue.unbind" => queue::Unbind {
            queue: s("queue"),
            exchange: s("exchange"),
            routing_key: s("key"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "queue.purge" => queue::Purge {
            queue: s("queue"),
            no_wait: b("no_wait"),
            ..Default::default()
        }
        .into(),
        "queue.delete" => queue::Delete {
            queue: s("queue"),
            if_unused: b("if_unused"),
            if_empty: b("if_empty"),
            no_wait: b("no_wait"),
            ..Default::default()
        }
        .into(),
        "basic.qos" => basic::Qos {
            prefetch_size: line.n("size"),
            prefetch_count: line.n("count"),
            global: b("global"),
        }
        .into(),
        "basic.consume" => basic::Consume {
            queue: s("queue"),
            consumer_tag: s("tag"),
            no_ack: b("no_ack"),
            exclusive: b("exclusive"),
            no_wait: b("no_wait"),
            arguments: line.table.clone(),
            ..Default::default()
        }
        .into(),
        "basic.cancel" => basic::Cancel {
            consumer_tag: s("tag"),
            no_wait: b("no_wait"),
        }
        .into(),
        "basic.publish" => basic::Publish {
            exchange: s("exchange"),
            routing_key: s("key"),
            mandatory: b("mandatory"),
            immediate: b("immediate"),
            ..Default::default()
        }
        .into(),
        "basic.get" => basic::Get {
            queue: s("queue"),
            no_ack: b("no_ack"),
            ..Default::default()
        }
        .into(),
        "basic.ack" => basic::Ack {
            delivery_tag: line.n("tag"),
            multiple: b("multiple"),
        }
        .into(),
        "basic.nack" => basic::Nack {
            delivery_tag: line.n("tag"),
            multiple: b("multiple"),
            requeue: b("requeue"),
        }
        .into(),
        "basic.reject" => basic::Reject {
            delivery_tag: line.n("tag"),
            requeue: b("requeue"),
        }
        .into(),
        "basic.recover" => basic::Recover {
            requeue: b("requeue"),
        }
        .into(),
        "confirm.select" => confirm::Select {
            no_wait: b("no_wait"),
        }
        .into(),
        "tx.select" => tx::Select {}.into(),
        "tx.commit" => tx::Commit {}.into(),
        "tx.rollback" => tx::Rollback {}.into(),
        "basic.get-ok" => basic::GetOk::default().into(),
        other => panic!("a script cannot say {other}"),
    }
}
