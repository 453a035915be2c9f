//! Packets as lines of text: `PUBLISH topic=a/b qos=1 id=5 body=hi .expiry=60 .user=k:v`.
//!
//! Words are separated by blanks; a byte that cannot stand in a word is written `\xNN`. `.name=value` is a property,
//! `will.name=value` one of the will. `HEX 30 02 ..` is raw bytes.

use bytes::{Bytes, BytesMut};
use mqtt::codec::{
    Ack, ConnAck, Connect, Farewell, Options, Packet, Properties, Property, Publish, ReasonCode,
    SubAck, Subscribe, Text, Unsubscribe, Version, Will,
};

pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\x5c"),
            0x21..=0x7e => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\\' && bytes.get(at + 1) == Some(&b'x') {
            out.push(u8::from_str_radix(&text[at + 2..at + 4], 16).expect("two hex digits"));
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(
        digits.len().is_multiple_of(2),
        "odd number of digits in {text}"
    );
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits"))
        .collect()
}

/// The words of a line: `name=value`, or `name` alone.
pub(crate) struct Words<'a>(pub(crate) Vec<(&'a str, Option<&'a str>)>);

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        Words(
            line.split_whitespace()
                .map(|word| match word.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (word, None),
                })
                .collect(),
        )
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(n, v)| *n == name && v.is_some())?;
        self.0.remove(at).1
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|(n, v)| *n == name && v.is_none());
        at.map(|at| self.0.remove(at)).is_some()
    }

    pub(crate) fn number<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        self.take(name).map(|text| {
            text.parse()
                .unwrap_or_else(|_| panic!("{name}={text} is not a number of its kind"))
        })
    }

    pub(crate) fn bytes(&mut self, name: &str) -> Option<Bytes> {
        self.take(name).map(|text| Bytes::from(unescape(text)))
    }

    pub(crate) fn end(self) {
        assert!(self.0.is_empty(), "words left over: {:?}", self.0);
    }

    fn text(&mut self, name: &str) -> Option<Text> {
        self.bytes(name)
            .map(|bytes| Text::new(bytes).expect("text"))
    }

    fn code(&mut self) -> u8 {
        self.take("code")
            .map_or(0, |code| u8::from_str_radix(code, 16).expect("hex"))
    }

    fn properties(&mut self, prefix: &str) -> Properties {
        let mut properties = Properties::default();
        self.0.retain(|(name, value)| {
            let Some(name) = name.strip_prefix(prefix) else {
                return true;
            };
            properties
                .0
                .push(property(name, value.expect("a property has a value")));
            false
        });
        properties
    }
}

fn property(name: &str, value: &str) -> Property {
    let text = || Text::new(Bytes::from(unescape(value))).expect("text");
    let u8 = || value.parse().expect("u8");
    let u16 = || value.parse().expect("u16");
    let u32 = || value.parse().expect("u32");
    match name {
        "format" => Property::PayloadFormatIndicator(u8()),
        "expiry" => Property::MessageExpiryInterval(u32()),
        "content-type" => Property::ContentType(text()),
        "response-topic" => Property::ResponseTopic(text()),
        "correlation" => Property::CorrelationData(Bytes::from(unescape(value))),
        "subscription" => Property::SubscriptionIdentifier(u32()),
        "session-expiry" => Property::SessionExpiryInterval(u32()),
        "assigned" => Property::AssignedClientIdentifier(text()),
        "keep-alive" => Property::ServerKeepAlive(u16()),
        "auth-method" => Property::AuthenticationMethod(text()),
        "auth-data" => Property::AuthenticationData(Bytes::from(unescape(value))),
        "problem-information" => Property::RequestProblemInformation(u8()),
        "delay" => Property::WillDelayInterval(u32()),
        "request-response-information" => Property::RequestResponseInformation(u8()),
        "response-information" => Property::ResponseInformation(text()),
        "server" => Property::ServerReference(text()),
        "reason" => Property::ReasonString(text()),
        "receive-max" => Property::ReceiveMaximum(u16()),
        "alias-max" => Property::TopicAliasMaximum(u16()),
        "alias" => Property::TopicAlias(u16()),
        "max-qos" => Property::MaximumQos(u8()),
        "retain-available" => Property::RetainAvailable(u8()),
        "user" => {
            let (name, value) = value.split_once(':').expect("name:value");
            let text = |text| Text::new(Bytes::from(unescape(text))).expect("text");
            Property::UserProperty(text(name), text(value))
        }
        "packet-max" => Property::MaximumPacketSize(u32()),
        "wildcard-available" => Property::WildcardSubscriptionAvailable(u8()),
        "identifier-available" => Property::SubscriptionIdentifierAvailable(u8()),
        "shared-available" => Property::SharedSubscriptionAvailable(u8()),
        other => panic!("no property {other}"),
    }
}

fn show_property(property: &Property) -> String {
    let text = |text: &Text| escape(text.as_bytes());
    match property {
        Property::PayloadFormatIndicator(value) => format!("format={value}"),
        Property::MessageExpiryInterval(value) => format!("expiry={value}"),
        Property::ContentType(value) => format!("content-type={}", text(value)),
        Property::ResponseTopic(value) => format!("response-topic={}", text(value)),
        Property::CorrelationData(value) => format!("correlation={}", escape(value)),
        Property::SubscriptionIdentifier(value) => format!("subscription={value}"),
        Property::SessionExpiryInterval(value) => format!("session-expiry={value}"),
        Property::AssignedClientIdentifier(value) => format!("assigned={}", text(value)),
        Property::ServerKeepAlive(value) => format!("keep-alive={value}"),
        Property::AuthenticationMethod(value) => format!("auth-method={}", text(value)),
        Property::AuthenticationData(value) => format!("auth-data={}", escape(value)),
        Property::RequestProblemInformation(value) => format!("problem-information={value}"),
        Property::WillDelayInterval(value) => format!("delay={value}"),
        Property::RequestResponseInformation(value) => {
            format!("request-response-information={value}")
        }
        Property::ResponseInformation(value) => format!("response-information={}", text(value)),
        Property::ServerReference(value) => format!("server={}", text(value)),
        Property::ReasonString(value) => format!("reason={}", text(value)),
        Property::ReceiveMaximum(value) => format!("receive-max={value}"),
        Property::TopicAliasMaximum(value) => format!("alias-max={value}"),
        Property::TopicAlias(value) => format!("alias={value}"),
        Property::MaximumQos(value) => format!("max-qos={value}"),
        Property::RetainAvailable(value) => format!("retain-available={value}"),
        Property::UserProperty(name, value) => format!("user={}:{}", text(name), text(value)),
        Property::MaximumPacketSize(value) => format!("packet-max={value}"),
        Property::WildcardSubscriptionAvailable(value) => format!("wildcard-available={value}"),
        Property::SubscriptionIdentifierAvailable(value) => {
            format!("identifier-available={value}")
        }
        Property::SharedSubscriptionAvailable(value) => format!("shared-available={value}"),
    }
}

fn show_properties(prefix: &str, properties: &Properties) -> String {
    properties
        .0
        .iter()
        .map(|property| format!(" {prefix}{}", show_property(property)))
        .collect()
}

/// Reads a packet.
pub(crate) fn parse(line: &str) -> Packet {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut words = Words::of(rest);
    let w = &mut words;
    let packet = match name {
        "CONNECT" => Packet::Connect(Box::new(connect(w))),
        "CONNACK" => Packet::ConnAck(ConnAck {
            session_present: w.flag("present"),
            code: w.code(),
            properties: w.properties("."),
        }),
        "PUBLISH" => Packet::Publish(Publish {
            dup: w.flag("dup"),
            qos: w.number("qos").unwrap_or(0),
            retain: w.flag("retain"),
            topic: w.text("topic").unwrap_or_default(),
            packet_id: w.number("id"),
            properties: w.properties("."),
            payload: w.bytes("body").unwrap_or_default(),
        }),
        "PUBACK" => Packet::PubAck(ack(w)),
        "PUBREC" => Packet::PubRec(ack(w)),
        "PUBREL" => Packet::PubRel(ack(w)),
        "PUBCOMP" => Packet::PubComp(ack(w)),
        "SUBSCRIBE" => Packet::Subscribe(Subscribe {
            packet_id: w.number("id").expect("id="),
            properties: w.properties("."),
            filters: std::iter::from_fn(|| w.take("f")).map(filter).collect(),
        }),
        "SUBACK" => Packet::SubAck(suback(w)),
        "UNSUBSCRIBE" => Packet::Unsubscribe(Unsubscribe {
            packet_id: w.number("id").expect("id="),
            properties: w.properties("."),
            filters: std::iter::from_fn(|| w.text("f")).collect(),
        }),
        "UNSUBACK" => Packet::UnsubAck(suback(w)),
        "PINGREQ" => Packet::PingReq,
        "PINGRESP" => Packet::PingResp,
        "DISCONNECT" => Packet::Disconnect(farewell(w)),
        "AUTH" => Packet::Auth(farewell(w)),
        other => panic!("no packet {other}"),
    };
    words.end();
    packet
}

fn connect(w: &mut Words<'_>) -> Connect {
    let version = if w.flag("v31") {
        Version::V31
    } else if w.flag("v311") {
        Version::V311
    } else {
        assert!(w.flag("v5"), "CONNECT v31, v311 or v5");
        Version::V5
    };
    let will = w.take("will").map(|will| {
        let (topic, payload) = will.split_once(':').expect("will=topic:payload");
        Will {
            properties: w.properties("will."),
            topic: Text::new(Bytes::from(unescape(topic))).expect("text"),
            payload: Bytes::from(unescape(payload)),
            qos: w.number("willqos").unwrap_or(0),
            retain: w.flag("willretain"),
        }
    });
    Connect {
        version,
        clean_start: w.flag("clean"),
        keep_alive_s: w.number("ka").unwrap_or(0),
        properties: w.properties("."),
        client_id: w.text("id").unwrap_or_default(),
        will,
        user_name: w.text("user"),
        password: w.bytes("pass"),
    }
}

fn ack(w: &mut Words<'_>) -> Ack {
    Ack {
        packet_id: w.number("id").expect("id="),
        reason: ReasonCode(w.code()),
        properties: w.properties("."),
    }
}

fn suback(w: &mut Words<'_>) -> SubAck {
    SubAck {
        packet_id: w.number("id").expect("id="),
        properties: w.properties("."),
        codes: w.take("codes").map(hex).unwrap_or_default(),
    }
}

fn farewell(w: &mut Words<'_>) -> Farewell {
    Farewell {
        reason: ReasonCode(w.code()),
        properties: w.properties("."),
    }
}

/// `FILTER@1`, then `n` for no local, `p` for retain as published, `h1` or `h2` for retain handling.
fn filter(text: &str) -> (Text, Options) {
    let (filter, options) = text.rsplit_once('@').expect("filter@qos");
    let handling = options
        .split_once('h')
        .map_or("0", |(_, handling)| handling);
    let options = Options {
        qos: options[..1].parse().expect("a digit"),
        no_local: options.contains('n'),
        retain_as_published: options.contains('p'),
        retain_handling: handling.parse().expect("a digit"),
    };
    (
        Text::new(Bytes::from(unescape(filter))).expect("text"),
        options,
    )
}

/// Writes a packet.
pub(crate) fn show(packet: &Packet) -> String {
    let name = packet.name();
    match packet {
        Packet::Connect(connect) => show_connect(connect),
        Packet::ConnAck(ack) => format!(
            "{name}{} code={:02x}{}",
            if ack.session_present { " present" } else { "" },
            ack.code,
            show_properties(".", &ack.properties)
        ),
        Packet::Publish(publish) => {
            let mut out = format!("{name} topic={}", escape(publish.topic.as_bytes()));
            if publish.qos > 0 || publish.packet_id.is_some() {
                out += &format!(" qos={}", publish.qos);
            }
            if let Some(id) = publish.packet_id {
                out += &format!(" id={id}");
            }
            if publish.dup {
                out += " dup";
            }
            if publish.retain {
                out += " retain";
            }
            out += &show_properties(".", &publish.properties);
            out + &format!(" body={}", escape(&publish.payload))
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            let mut out = format!("{name} id={}", ack.packet_id);
            if ack.reason != ReasonCode::SUCCESS {
                out += &format!(" code={:02x}", ack.reason.0);
            }
            out + &show_properties(".", &ack.properties)
        }
        Packet::Subscribe(subscribe) => {
            let mut out = format!("{name} id={}", subscribe.packet_id);
            for (filter, options) in &subscribe.filters {
                out += &format!(" f={}@{}", escape(filter.as_bytes()), options.qos);
                out += if options.no_local { "n" } else { "" };
                out += if options.retain_as_published { "p" } else { "" };
                if options.retain_handling != 0 {
                    out += &format!("h{}", options.retain_handling);
                }
            }
            out + &show_properties(".", &subscribe.properties)
        }
        Packet::Unsubscribe(unsubscribe) => {
            let mut out = format!("{name} id={}", unsubscribe.packet_id);
            for filter in &unsubscribe.filters {
                out += &format!(" f={}", escape(filter.as_bytes()));
            }
            out + &show_properties(".", &unsubscribe.properties)
        }
        Packet::SubAck(ack) | Packet::UnsubAck(ack) => {
            let codes: String = ack.codes.iter().map(|code| format!("{code:02x}")).collect();
            format!(
                "{name} id={} codes={codes}{}",
                ack.packet_id,
                show_properties(".", &ack.properties)
            )
        }
        Packet::PingReq | Packet::PingResp => name.to_owned(),
        Packet::Disconnect(farewell) | Packet::Auth(farewell) => format!(
            "{name} code={:02x}{}",
            farewell.reason.0,
            show_properties(".", &farewell.properties)
        ),
    }
}

fn show_connect(connect: &Connect) -> String {
    let mut out = format!(
        "CONNECT {} id={}",
        match connect.version {
            Version::V31 => "v31",
            Version::V311 => "v311",
            Version::V5 => "v5",
        },
        escape(connect.client_id.as_bytes())
    );
    out += if connect.clean_start { " clean" } else { "" };
    out += &format!(" ka={}", connect.keep_alive_s);
    if let Some(user) = &connect.user_name {
        out += &format!(" user={}", escape(user.as_bytes()));
    }
    if let Some(password) = &connect.password {
        out += &format!(" pass={}", escape(password));
    }
    out += &show_properties(".", &connect.properties);
    if let Some(will) = &connect.will {
        out += &format!(
            " will={}:{} willqos={}",
            escape(will.topic.as_bytes()),
            escape(&will.payload),
            will.qos
        );
        out += if will.retain { " willretain" } else { "" };
        out += &show_properties("will.", &will.properties);
    }
    out
}

/// The bytes of a packet, or of a `HEX` line.
pub(crate) fn bytes(line: &str, version: Version) -> Vec<u8> {
    if let Some(digits) = line.strip_prefix("HEX ") {
        return hex(digits);
    }
    let packet = parse(line);
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut out = BytesMut::new();
    packet.encode(version, &mut out);
    out.to_vec()
}
