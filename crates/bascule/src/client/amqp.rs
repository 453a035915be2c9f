//! The AMQP 0-9-1 client: one channel, confirms, mandatory publishes.

use std::{collections::BTreeSet, time::Instant};

use amqp091::codec::{
    BasicProperties, CLASS_BASIC, ContentHeader, FRAME_OVERHEAD, Frame, Long, Method,
    PROTOCOL_HEADER, Short, basic, channel, confirm, connection, decode, queue,
};
use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use message::{Properties, Value};

use super::{Ack, Client, Outgoing, PATIENCE, Received, Transport, url::Url};

const CHANNEL: u16 = 1;
/// The largest frame that we offer to take.
const FRAME_MAX: u32 = 131_072;
/// Deliveries that may be out to us.
const PREFETCH: u16 = 100;
/// The exchange that is the root topic space.
const ROOT: &str = "amq.topic";
/// AMQP 0-9-1, constant not-found.
const NOT_FOUND: u16 = 404;

/// What the path of the URL names.
enum Place {
    Queue(Short),
    Exchange { name: Short, key: Short },
}

pub(super) struct AmqpClient {
    transport: Transport,
    frame_max: u32,
    place: Place,
    ack: Ack,
    confirming: bool,
    /// Publishes in confirm mode.
    published: u64,
    /// The delivery that `next` gave.
    current: Option<u64>,
}

impl AmqpClient {
    pub(super) fn open(transport: Transport, url: &Url, declare: bool) -> anyhow::Result<Self> {
        let mut client = Self {
            transport,
            frame_max: 0,
            place: place(&url.path)?,
            ack: Ack::Accept,
            confirming: false,
            published: 0,
            current: None,
        };
        client.transport.send(&PROTOCOL_HEADER)?;
        let (user, password) = url
            .login
            .clone()
            .unwrap_or_else(|| ("guest".to_owned(), "guest".to_owned()));
        let start = client.answer("AMQP 0-9-1")?;
        ensure!(
            matches!(start, Method::ConnectionStart(_)),
            "the broker answered with {}",
            start.name()
        );
        client.say(
            0,
            connection::StartOk {
                client_properties: client_properties(),
                mechanism: "PLAIN".into(),
                response: Long(Bytes::from(format!("\0{user}\0{password}"))),
                locale: "en_US".into(),
            },
        )?;
        let Method::ConnectionTune(tune) = client.answer("the login")? else {
            bail!("the broker asks for more than user and password");
        };
        client.frame_max = match tune.frame_max {
            0 => FRAME_MAX,
            offered => offered.min(FRAME_MAX),
        };
        client.say(
            0,
            connection::TuneOk {
                channel_max: tune.channel_max,
                frame_max: client.frame_max,
                heartbeat: 0,
            },
        )?;
        let vhost = url.vhost.clone().unwrap_or_else(|| "/".to_owned());
        client.call(
            0,
            connection::Open {
                virtual_host: short(&vhost)?,
                ..connection::Open::default()
            },
        )?;
        client.call(CHANNEL, channel::Open::default())?;
        if let (true, Place::Queue(name)) = (declare, &client.place) {
            let name = name.clone();
            client.ensure_queue(name)?;
        }
        Ok(client)
    }

    /// Declares the queue when there is none. One that is there stays as it is, whatever its properties.
    fn ensure_queue(&mut self, name: Short) -> anyhow::Result<()> {
        let look = queue::Declare {
            queue: name,
            passive: true,
            ..queue::Declare::default()
        };
        self.say(CHANNEL, look.clone())?;
        let before = self.hurry();
        let answer = self.receive_any();
        self.transport.deadline = before;
        match answer? {
            Frame::Method {
                method: Method::ChannelClose(close),
                ..
            } if close.reply_code == NOT_FOUND => {
                self.say(CHANNEL, channel::CloseOk {})?;
                self.call(CHANNEL, channel::Open::default())?;
                let make = queue::Declare {
                    passive: false,
                    durable: true,
                    ..look
                };
                self.call(CHANNEL, make)?;
            }
            frame => {
                self.refusals(frame)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, frames: &[Frame]) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        for frame in frames {
            frame.encode(&mut out);
        }
        self.transport.send(&out)
    }

    fn say(&mut self, channel: u16, method: impl Into<Method>) -> anyhow::Result<()> {
        let method = method.into();
        self.send(&[Frame::Method { channel, method }])
    }

    /// Says a method and waits for its answer.
    fn call(&mut self, channel: u16, method: impl Into<Method>) -> anyhow::Result<Method> {
        let method = method.into();
        let name = method.name();
        self.say(channel, method)?;
        self.answer(name)
    }

    /// The next frame that is not a heart-beat.
    fn receive_any(&mut self) -> anyhow::Result<Frame> {
        loop {
            match decode(&mut self.transport.input, self.frame_max)? {
                Some(Frame::Heartbeat) => {}
                Some(frame) => return Ok(frame),
                None => {
                    // AMQP 0-9-1, 4.2.2: the answer to a header that the server does not take is its own header.
                    if self.transport.input.starts_with(b"AMQP") {
                        bail!("the broker does not speak AMQP 0-9-1");
                    }
                    self.transport.fill()?;
                }
            }
        }
    }

    /// A close is an error in the broker's words; what only informs is told or dropped.
    fn refusals(&mut self, frame: Frame) -> anyhow::Result<Option<Frame>> {
        let Frame::Method { method, .. } = &frame else {
            return Ok(Some(frame));
        };
        let refused = |code: u16, text: &Short| anyhow!("the broker refused: {text} ({code})");
        match method {
            Method::ConnectionClose(close) => {
                let error = refused(close.reply_code, &close.reply_text);
                self.say(0, connection::CloseOk {})?;
                Err(error)
            }
            Method::ChannelClose(close) => {
                let error = refused(close.reply_code, &close.reply_text);
                self.say(CHANNEL, channel::CloseOk {})?;
                Err(error)
            }
            Method::BasicCancel(_) => {
                bail!("the broker refused: what is read is gone, or may not be read any more")
            }
            Method::ConnectionBlocked(blocked) => {
                eprintln!(
                    "bascule: the broker takes no messages now: {}",
                    blocked.reason
                );
                Ok(None)
            }
            Method::ConnectionUnblocked(_) => Ok(None),
            _ => Ok(Some(frame)),
        }
    }

    fn receive(&mut self) -> anyhow::Result<Frame> {
        loop {
            let frame = self.receive_any()?;
            if let Some(frame) = self.refusals(frame)? {
                return Ok(frame);
            }
        }
    }

    /// Sets a deadline for an answer; gives the one before, to be put back.
    fn hurry(&mut self) -> Option<Instant> {
        let before = self.transport.deadline;
        let soon = Instant::now() + PATIENCE;
        self.transport.deadline = Some(before.map_or(soon, |deadline| deadline.min(soon)));
        before
    }

    /// The next method, soon.
    fn answer(&mut self, what: &str) -> anyhow::Result<Method> {
        let before = self.hurry();
        let frame = self.receive();
        self.transport.deadline = before;
        match frame? {
            Frame::Method { method, .. } => Ok(method),
            _ => Err(anyhow!("the broker answered {what} with content")),
        }
    }

    /// Reads a header and its body.
    fn content(&mut self) -> anyhow::Result<(BasicProperties, Bytes)> {
        let Frame::Header { header, .. } = self.receive()? else {
            bail!("the broker sent no content after a delivery");
        };
        let properties = BasicProperties::decode(header.properties)?;
        let len = usize::try_from(header.body_size).context("a body that is too long")?;
        let mut body = BytesMut::new();
        while body.len() < len {
            let Frame::Body { body: part, .. } = self.receive()? else {
                bail!("the broker broke off a body");
            };
            body.extend_from_slice(&part);
        }
        Ok((properties, body.freeze()))
    }

    fn publish_once(&mut self, message: &Outgoing, properties: &Bytes) -> anyhow::Result<()> {
        let (exchange, routing_key) = match &self.place {
            Place::Queue(name) => (Short::default(), name.clone()),
            Place::Exchange { name, key } => (name.clone(), key.clone()),
        };
        let publish = basic::Publish {
            exchange,
            routing_key,
            mandatory: true,
            ..basic::Publish::default()
        };
        let channel = CHANNEL;
        let mut frames = vec![
            Frame::Method {
                channel,
                method: publish.into(),
            },
            Frame::Header {
                channel,
                header: ContentHeader {
                    class_id: CLASS_BASIC,
                    body_size: message.body.len() as u64,
                    properties: properties.clone(),
                },
            },
        ];
        // AMQP 0-9-1, 4.2.6.2: a body is cut so that each frame fits.
        let part = self.frame_max as usize - FRAME_OVERHEAD;
        for at in (0..message.body.len()).step_by(part) {
            let end = message.body.len().min(at + part);
            let body = message.body.slice(at..end);
            frames.push(Frame::Body { channel, body });
        }
        self.send(&frames)
    }
}

impl Client for AmqpClient {
    fn publish(&mut self, message: &Outgoing, copies: u64) -> anyhow::Result<bool> {
        // Without QoS the last word of an unconfirmed publish is the answer to a method behind it: see `close`.
        if message.qos > 0 && !self.confirming {
            self.call(CHANNEL, confirm::Select::default())?;
            self.confirming = true;
        }
        let properties = publish_properties(message)?.to_bytes();
        let mut open = BTreeSet::new();
        for _ in 0..copies {
            self.publish_once(message, &properties)?;
            if message.qos > 0 {
                // In confirm mode publishes are counted from 1.
                self.published += 1;
                open.insert(self.published);
            }
        }
        let mut matched = true;
        while !open.is_empty() {
            match self.answer("basic.publish")? {
                Method::BasicReturn(returned) => {
                    self.content()?;
                    if let Place::Queue(name) = &self.place {
                        bail!(
                            "the broker refused: {} ({}): there is no queue {name}",
                            returned.reply_text,
                            returned.reply_code
                        );
                    }
                    matched = false;
                }
                Method::BasicAck(ack) if ack.multiple => open.retain(|tag| *tag > ack.delivery_tag),
                Method::BasicAck(ack) => {
                    open.remove(&ack.delivery_tag);
                }
                Method::BasicNack(_) => bail!("the broker refused the message (basic.nack)"),
                other => bail!("the broker answered basic.publish with {}", other.name()),
            }
        }
        Ok(matched)
    }

    fn subscribe(&mut self, ack: Ack, _qos: u8) -> anyhow::Result<()> {
        self.ack = ack;
        let queue = match &self.place {
            Place::Queue(name) => name.clone(),
            Place::Exchange { name, key } => {
                let (exchange, routing_key) = (name.clone(), key.clone());
                let declared = self.call(
                    CHANNEL,
                    queue::Declare {
                        exclusive: true,
                        auto_delete: true,
                        ..queue::Declare::default()
                    },
                )?;
                let Method::QueueDeclareOk(declared) = declared else {
                    bail!("the broker answered queue.declare with {}", declared.name());
                };
                self.call(
                    CHANNEL,
                    queue::Bind {
                        queue: declared.queue.clone(),
                        exchange,
                        routing_key,
                        ..queue::Bind::default()
                    },
                )?;
                declared.queue
            }
        };
        self.call(
            CHANNEL,
            basic::Qos {
                prefetch_count: PREFETCH,
                ..basic::Qos::default()
            },
        )?;
        self.call(
            CHANNEL,
            basic::Consume {
                queue,
                consumer_tag: "bascule".into(),
                no_ack: ack == Ack::None,
                ..basic::Consume::default()
            },
        )?;
        Ok(())
    }

    fn next(&mut self) -> anyhow::Result<Received> {
        loop {
            let Frame::Method { method, .. } = self.receive()? else {
                bail!("the broker sent content without a delivery");
            };
            let Method::BasicDeliver(deliver) = method else {
                continue;
            };
            let (properties, body) = self.content()?;
            self.current = Some(deliver.delivery_tag);
            let source = match &*deliver.exchange {
                b"" => format!("/queue/{}", deliver.routing_key),
                name if name == ROOT.as_bytes() => format!("/topic/{}", deliver.routing_key),
                _ => format!("/exchange/{}/{}", deliver.exchange, deliver.routing_key),
            };
            return Ok(Received {
                source,
                properties: received_properties(&properties, deliver.redelivered),
                body,
            });
        }
    }

    fn settle(&mut self, last: bool) -> anyhow::Result<()> {
        if last {
            // What comes after this goes back when the connection closes.
            let cancel = basic::Cancel {
                consumer_tag: "bascule".into(),
                no_wait: true,
            };
            self.say(CHANNEL, cancel)?;
        }
        let Some(delivery_tag) = self.current.take() else {
            return Ok(());
        };
        match self.ack {
            Ack::None => Ok(()),
            Ack::Accept => self.say(
                CHANNEL,
                basic::Ack {
                    delivery_tag,
                    multiple: false,
                },
            ),
            Ack::Release | Ack::Reject => self.say(
                CHANNEL,
                basic::Nack {
                    delivery_tag,
                    multiple: false,
                    requeue: self.ack == Ack::Release,
                },
            ),
        }
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.transport.deadline = Some(Instant::now() + PATIENCE);
        // The channel first: its close-ok comes after everything on it, refusals of unconfirmed publishes too.
        let close = channel::Close {
            reply_code: 200,
            ..channel::Close::default()
        };
        self.say(CHANNEL, close)?;
        self.receive_until(|method| matches!(method, Method::ChannelCloseOk(_)))?;
        let close = connection::Close {
            reply_code: 200,
            ..connection::Close::default()
        };
        self.say(0, close)?;
        self.receive_until(|method| matches!(method, Method::ConnectionCloseOk(_)))?;
        self.transport.close();
        Ok(())
    }
}

impl AmqpClient {
    /// Reads until the method has come; deliveries before it go back by themselves.
    fn receive_until(&mut self, wanted: impl Fn(&Method) -> bool) -> anyhow::Result<()> {
        loop {
            if let Frame::Method { method, .. } = self.receive()?
                && wanted(&method)
            {
                return Ok(());
            }
        }
    }
}

fn place(path: &str) -> anyhow::Result<Place> {
    let exchange = |name: &str, key: &str| -> anyhow::Result<Place> {
        Ok(Place::Exchange {
            name: short(name)?,
            key: short(key)?,
        })
    };
    if let Some(name) = path.strip_prefix("/queue/").filter(|name| !name.is_empty()) {
        return Ok(Place::Queue(short(name)?));
    }
    if let Some(key) = path.strip_prefix("/topic/") {
        return exchange(ROOT, key);
    }
    if let Some(rest) = path
        .strip_prefix("/exchange/")
        .filter(|rest| !rest.is_empty())
    {
        let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
        return exchange(name, key);
    }
    match path.strip_prefix('/') {
        Some(name) if !name.is_empty() && !name.contains('/') => Ok(Place::Queue(short(name)?)),
        _ => {
            bail!("the URL names nothing: amqp://host/queue/name, /topic/key or /exchange/name/key")
        }
    }
}

fn short(text: &str) -> anyhow::Result<Short> {
    Short::new(Bytes::copy_from_slice(text.as_bytes()))
        .ok_or_else(|| anyhow!("{text:?} is longer than the 255 bytes that AMQP 0-9-1 allows"))
}

fn client_properties() -> Properties {
    let capabilities = [
        "basic.nack",
        "publisher_confirms",
        "consumer_cancel_notify",
        "authentication_failure_close",
        "connection.blocked",
    ];
    let capabilities = capabilities
        .iter()
        .map(|name| (Value::text(*name), Value::Bool(true)))
        .collect();
    let mut properties = Properties::default();
    properties.push("product", Value::text("bascule"));
    properties.push("version", Value::text(env!("CARGO_PKG_VERSION")));
    properties.push("capabilities", Value::Map(capabilities));
    properties
}

fn publish_properties(message: &Outgoing) -> anyhow::Result<BasicProperties> {
    let mut properties = BasicProperties {
        delivery_mode: Some(if message.qos > 0 { 2 } else { 1 }),
        ..BasicProperties::default()
    };
    let mut headers = Properties::default();
    for (name, value) in &message.properties {
        match &**name {
            "content-type" => properties.content_type = Some(short(value)?),
            "correlation-id" => properties.correlation_id = Some(short(value)?),
            "reply-to" => properties.reply_to = Some(short(value)?),
            _ => headers.push(short(name)?.into_bytes(), Value::text(value.clone())),
        }
    }
    if message.retain {
        headers.push("x-mqtt-retain", Value::Bool(true));
    }
    if !headers.is_empty() {
        properties.headers = Some(headers);
    }
    Ok(properties)
}

fn received_properties(properties: &BasicProperties, redelivered: bool) -> Vec<(String, String)> {
    let mut list = Vec::new();
    if redelivered {
        list.push(("redelivered".to_owned(), "true".to_owned()));
    }
    let texts = [
        ("content-type", &properties.content_type),
        ("content-encoding", &properties.content_encoding),
        ("correlation-id", &properties.correlation_id),
        ("reply-to", &properties.reply_to),
        ("message-id", &properties.message_id),
        ("type", &properties.kind),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            list.push((name.to_owned(), value.to_string()));
        }
    }
    if let Some(headers) = &properties.headers {
        for (name, value) in &headers.0 {
            let shown = value
                .to_plain_text()
                .unwrap_or_else(|| format!("{value:?}"));
            list.push((String::from_utf8_lossy(name).into_owned(), shown));
        }
    }
    list
}
