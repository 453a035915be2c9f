//! Frames and commands as lines of a script.

use amqp091::codec::{self, BasicProperties, Frame};
use message::{Address, Filter, FilterLevel, Kind, Levels, Properties, Value};
use session::{
    BindTarget, Binding, Command, Credit, Declare, Lease, Operation, Publish, Settle, Source,
    StreamTo,
};

pub(crate) fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Heartbeat => "heartbeat".into(),
        Frame::Body { channel, body } if body.len() > 100 => {
            format!("{channel} body of {} bytes", body.len())
        }
        Frame::Body { channel, body } => format!("{channel} body {}", text(body)),
        Frame::Header { channel, header } => {
            let properties = BasicProperties::decode(header.properties.clone())
                .expect("the session encodes properties well");
            format!(
                "{channel} header {}{}",
                header.body_size,
                basic_properties(&properties)
            )
        }
        Frame::Method {
            channel,
            method: codec::Method::ConnectionStart(start),
        } => format!(
            "{channel} connection.start {}-{} {:?}",
            start.version_major, start.version_minor, start.mechanisms.0
        ),
        Frame::Method { channel, method } => {
            let debug = format!("{method:?}");
            let inside = debug
                .split_once(" { ")
                .map_or("", |(_, rest)| rest.trim_end_matches(" })"));
            let fields: Vec<&str> = inside
                .split(", ")
                .filter(|field| !field.starts_with("reserved") && !field.is_empty())
                .collect();
            format!("{channel} {} {}", method.name(), fields.join(", "))
                .trim_end()
                .to_owned()
        }
    }
}

fn basic_properties(p: &BasicProperties) -> String {
    let mut out = String::new();
    let shorts = [
        ("content-type", &p.content_type),
        ("content-encoding", &p.content_encoding),
        ("correlation-id", &p.correlation_id),
        ("reply-to", &p.reply_to),
        ("expiration", &p.expiration),
        ("message-id", &p.message_id),
        ("type", &p.kind),
        ("user-id", &p.user_id),
        ("app-id", &p.app_id),
        ("cluster-id", &p.cluster_id),
    ];
    for (name, value) in shorts {
        if let Some(value) = value {
            out += &format!(" {name}={value}");
        }
    }
    if let Some(mode) = p.delivery_mode {
        out += &format!(" delivery-mode={mode}");
    }
    if let Some(priority) = p.priority {
        out += &format!(" priority={priority}");
    }
    if let Some(seconds) = p.timestamp {
        out += &format!(" timestamp={seconds}");
    }
    if let Some(headers) = &p.headers {
        out += &table(headers);
    }
    out
}

fn table(table: &Properties) -> String {
    table
        .0
        .iter()
        .map(|(name, one)| format!(" @{}={}", text(name), value(one)))
        .collect()
}

fn value(one: &Value) -> String {
    match one {
        Value::Text(t) => text(t),
        Value::I64(n) => format!("l{n}"),
        Value::I32(n) => format!("I{n}"),
        Value::Bool(b) => b.to_string(),
        Value::TimeSeconds(s) => format!("T{s}"),
        Value::List(values) => {
            format!(
                "[{}]",
                values.iter().map(value).collect::<Vec<_>>().join(",")
            )
        }
        Value::Map(pairs) => format!(
            "{{{}}}",
            pairs
                .iter()
                .map(|(k, v)| format!("{}={}", value(k), value(v)))
                .collect::<Vec<_>>()
                .join(",")
        ),
        other => format!("{other:?}"),
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => text.to_owned(),
        _ => format!("{bytes:02x?}"),
    }
}

fn levels(levels: &Levels) -> String {
    format!(
        "[{}]",
        levels.iter().map(text).collect::<Vec<_>>().join("|")
    )
}

fn address(address: &Address) -> String {
    match address.kind {
        Kind::Queue => format!("queue {}", text(&address.name)),
        Kind::Topic => format!("topic {}", levels(&address.key)),
        Kind::Stream => format!("stream {}", text(&address.name)),
        Kind::Exchange => format!("exchange {} {}", text(&address.name), levels(&address.key)),
    }
}

fn filter(filter: &Filter) -> String {
    match filter {
        Filter::All => "all".into(),
        Filter::Exact(key) => format!("exact {}", levels(key)),
        Filter::Pattern(pattern) => format!(
            "pattern [{}]",
            pattern
                .0
                .iter()
                .map(|level| match level {
                    FilterLevel::Exact(one) => text(one),
                    FilterLevel::One => "*".into(),
                    FilterLevel::Many => "#".into(),
                })
                .collect::<Vec<_>>()
                .join("|")
        ),
        Filter::Headers {
            matching,
            arguments,
        } => format!("headers {matching:?}{}", table(arguments)),
        Filter::Selected { .. } => unreachable!("AMQP 0-9-1 has no selectors"),
    }
}

fn binding(verb: &str, one: &Binding) -> String {
    let target = match &one.target {
        BindTarget::Queue(name) => format!("queue {}", text(name)),
        BindTarget::Exchange(name) => format!("exchange {}", text(name)),
        BindTarget::Stream(name) => format!("stream {}", text(name)),
    };
    format!(
        "{verb} {} to {target}: {}",
        text(&one.exchange),
        filter(&one.filter)
    )
}

fn publish(one: &Publish) -> String {
    let mut out = format!("publish {}", address(&one.message.address));
    for (set, word) in [
        (one.token.is_some(), "confirmed"),
        (one.mandatory, "mandatory"),
        (one.message.durable, "durable"),
        (one.message.retain, "retain"),
    ] {
        if set {
            out += &format!(" {word}");
        }
    }
    let message = &one.message;
    if let Some(expiry) = message.expiry {
        out += &format!(" expiry={}", expiry.0);
    }
    if let Some(priority) = message.priority {
        out += &format!(" priority={priority}");
    }
    if message.delay_ms > 0 {
        out += &format!(" delay={}", message.delay_ms);
    }
    if message.fields.is_some() || message.group.is_some() {
        let debug = format!("{:?}", message.fields());
        let group = format!("group: {:?}", message.group);
        let inside = debug.trim_start_matches("Fields { ").trim_end_matches(" }");
        // It stands in front of its sequence.
        let all = inside.replace("group_sequence: ", &format!("{group}, group_sequence: "));
        let set: Vec<&str> = all
            .split(", ")
            .filter(|field| !field.ends_with(": None") && !field.ends_with(": []"))
            .collect();
        out += &format!(" ({})", set.join(", "));
    }
    out += &table(&message.properties);
    if message.body.len() > 100 {
        format!("{out} body of {} bytes", message.body.len())
    } else {
        format!("{out} body {}", text(&message.body))
    }
}

fn settle(one: &Settle) -> String {
    let ranges: Vec<String> = one
        .deliveries
        .ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    format!(
        "settle q{}:{} {:?}",
        one.deliveries.queue.0,
        ranges.join(","),
        one.outcome
    )
}

fn declare(one: &Declare) -> String {
    match one {
        Declare::Queue {
            name,
            passive,
            options,
        } => {
            let mut out = format!("declare queue '{}'", text(name));
            for (set, word) in [
                (*passive, "passive"),
                (options.durable, "durable"),
                (options.exclusive, "exclusive"),
                (options.auto_delete, "auto-delete"),
            ] {
                if set {
                    out += &format!(" {word}");
                }
            }
            let defaults = format!("{:?}", session::QueueAttributes::default());
            let defaults: Vec<&str> = defaults.trim_end_matches(" }").split(", ").collect();
            let mine = format!("{:?}", options.attributes);
            for field in mine.trim_end_matches(" }").split(", ") {
                let field = field.trim_start_matches("QueueAttributes { ");
                if !defaults.iter().any(|d| d.ends_with(field)) {
                    out += &format!(" {field}");
                }
            }
            out
        }
        Declare::DeleteQueue {
            name,
            if_unused,
            if_empty,
        } => format!(
            "delete queue {} if_unused={if_unused} if_empty={if_empty}",
            text(name)
        ),
        Declare::NewQueue { .. } | Declare::Alter { .. } => unreachable!("no method asks for it"),
        Declare::Purge { name } => format!("purge {}", text(name)),
        Declare::PurgeAll { name, .. } => format!("purge-all {}", text(name)),
        Declare::Exchange {
            name,
            passive: true,
            ..
        } => format!("look for exchange {}", text(name)),
        Declare::Exchange { name, options, .. } => format!(
            "declare exchange {} {:?} durable={} auto_delete={} internal={} alternate={:?}",
            text(name),
            options.kind,
            options.durable,
            options.auto_delete,
            options.internal,
            options.alternate
        ),
        Declare::DeleteExchange { name, if_unused } => {
            format!("delete exchange {} if_unused={if_unused}", text(name))
        }
        Declare::Bind(one) => binding("bind", one),
        Declare::Unbind(one) => binding("unbind", one),
    }
}

fn stream(to: &StreamTo) -> String {
    match to {
        StreamTo::Ensure {
            attributes, shards, ..
        } => format!(
            "ensure shards={shards} retention={} bytes_max={:?}",
            attributes.retention_ms, attributes.bytes_max
        ),
        StreamTo::Delete => "delete".into(),
        StreamTo::Inspect => "look".into(),
        other => unreachable!("no method asks for {other:?}"),
    }
}

pub(crate) fn command(command: &Command) -> String {
    match command {
        Command::Authenticate(ask) => format!(
            "authenticate {:?} vhost={:?} {} client={:?}",
            ask.credentials, ask.vhost, ask.protocol, ask.client
        ),
        Command::Declare { declare: one, .. } => declare(one),
        Command::Publish(one) => publish(one),
        Command::Settle(one) => settle(one),
        Command::Subscribe(one) => {
            let source = match &one.source {
                Source::Queue { name, create } => format!("queue {} create={create}", text(name)),
                other => format!("{other:?}"),
            };
            let credit = match one.credit {
                Credit::Window(n) => format!("window {n}"),
                Credit::Settled => "settled".into(),
                Credit::Exactly(n) => format!("exactly {n}"),
            };
            format!(
                "subscribe {source} {credit} group={} exclusive={} priority={}",
                one.group, one.exclusive, one.priority
            )
        }
        Command::Cancel { consumer, .. } => {
            format!("cancel consumer of channel {}", consumer.0 >> 32)
        }
        Command::Pull(pull) => format!(
            "pull {} from {} {}",
            pull.count,
            text(&pull.queue),
            match pull.lease {
                Lease::Queue => unreachable!("no method asks for it"),
                Lease::Connection => "leased",
                Lease::Settled => "settled",
                Lease::Ms(_) => "for a time",
            }
        ),
        Command::GroupWindow { group, window } => format!("group {group} window {window}"),
        Command::GroupFlow { group, active } => format!("group {group} flow {active}"),
        Command::Fence { lane, .. } => format!("fence {}", lane.0),
        Command::Stream { name, to, .. } => format!("stream {}: {}", text(name), stream(to)),
        Command::Transact(transact) => {
            let operations: Vec<String> = transact
                .operations
                .iter()
                .map(|operation| match operation {
                    Operation::Publish(one) => publish(one),
                    Operation::Settle(one) => settle(one),
                })
                .collect();
            format!("transact {{ {} }}", operations.join("; "))
        }
        other => format!("{other:?}"),
    }
}
