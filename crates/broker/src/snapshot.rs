//! The durable state as bytes: deterministic, versioned, and with nothing soft in it.
//!
//! ```text
//! snapshot := "BASCORE" version(1 byte) section*          section := { number, length, value }, number 0 ends
//! 40 stream   41 records   42 run in a stream file   60 topic object   61 subscription
//! 1 head   2 vhosts   3 exchange   4 queue   5 binding   6 retained   7 client   8 large   9 extra   10 prepared
//! 11 move task
//! ```
//! Sections of one number repeat, in the order of what they hold. An unknown section is refused: it would be lost.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use message::{
    DecodeError, Filter, Levels, Name, Reader, StoredId, Timestamp, VhostId, codec::put_u64,
};
use session::{ClientExpiry, ExchangeOptions, QueueId, Secret, SubscriptionOptions};

use crate::{
    Broker, Config, Counters,
    change::{Bound, ClientNo, ClientSubscribed, QueueDeclared},
    durable::{
        Attempts, Client, ClientSource, Dedup, Durable, Firsts, Large, Prepared, Queue, Retained,
    },
    queue::Entries,
    record::{
        get_published, put_published,
        wire::{Wire, put_field, wire_fields},
    },
    soft::Soft,
    stream::{put_records, put_stream, read_records, read_run, read_stream},
    topic::{Subscribed, put_topic, read_topic},
};

const MAGIC: &[u8; 7] = b"BASCORE";
const VERSION: u8 = 1;
/// Of a state with places of what was lost in it: records of streams, virtual hosts without a name. A program that knows only the
/// first version would take them for others.
const VERSION_WITH_LOST: u8 = 2;

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeSnapshotError {
    /// Reading failed.
    #[error("failed to read the snapshot: {0}")]
    Io(#[from] io::Error),
    /// It is not what it claims to be.
    #[error("failed to decode the snapshot: {0}")]
    Decode(#[from] DecodeError),
    /// It does not begin as a snapshot does.
    #[error("not a snapshot of the core")]
    Foreign,
    /// It was written by a newer version.
    #[error("snapshot version {0} is newer than this program")]
    Newer(u8),
}

/// The numbers at the front.
#[derive(Debug, Default, PartialEq)]
struct Head {
    epoch: u64,
    time: Timestamp,
    next_queue: u64,
    next_client: u64,
    next_transaction: u64,
    last_stored: Option<(StoredId, u32)>,
    next_stream: u64,
    secret: Option<Secret>,
    next_move: u64,
    next_topic: u64,
    passed_over: u64,
}
wire_fields!(Head {
    1 => epoch, 2 => time, 3 => next_queue, 4 => next_client, 5 => next_transaction, 6 => last_stored,
    7 => secret, 8 => next_move, 9 => passed_over, 20 => next_stream, 30 => next_topic,
});

struct ExchangeSection {
    vhost: VhostId,
    name: Name,
    options: ExchangeOptions,
}

impl Wire for ExchangeSection {
    fn put(&self, out: &mut Vec<u8>) {
        self.vhost.put(out);
        self.name.put(out);
        self.options.put(out);
    }
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            vhost: Wire::read(reader)?,
            name: Wire::read(reader)?,
            options: Wire::read(reader)?,
        })
    }
}

fn put_queue(queue: &Queue, out: &mut Vec<u8>) {
    put_field(out, 1, |out| queue.declared.put(out));
    put_field(out, 2, |out| queue.next.put(out));
    put_field(out, 3, |out| queue.entries.put(out));
    put_field(out, 5, |out| queue.dedup.list().put(out));
    let firsts = queue.firsts.list();
    if !firsts.is_empty() {
        put_field(out, 7, |out| firsts.put(out));
    }
    let attempts = queue.attempts.list();
    if !attempts.is_empty() {
        put_field(out, 6, |out| attempts.put(out));
    }
    out.push(0);
}

fn read_queue(reader: &mut Reader) -> Result<Queue, DecodeError> {
    let mut queue = Queue::default();
    crate::record::fields(reader, |number, part| {
        match number {
            1 => queue.declared = QueueDeclared::read(part)?,
            2 => queue.next = Wire::read(part)?,
            3 => queue.entries = Entries::read(part)?,
            5 => queue.dedup = Dedup::from_list(Wire::read(part)?),
            6 => queue.attempts = Attempts::from_list(Wire::read(part)?),
            7 => queue.firsts = Firsts::from_list(Wire::read(part)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(queue)
}

fn put_client(number: ClientNo, client: &Client, out: &mut Vec<u8>) {
    put_field(out, 1, |out| number.put(out));
    put_field(out, 2, |out| client.vhost.put(out));
    put_field(out, 3, |out| client.client_id.put(out));
    put_field(out, 4, |out| client.user.put(out));
    put_field(out, 5, |out| client.queue.put(out));
    put_field(out, 6, |out| expiry(client.expiry_ms).put(out));
    put_field(out, 7, |out| client.will.put(out));
    put_field(out, 8, |out| client.away.put(out));
    put_field(out, 9, |out| client.ends_at.put(out));
    put_field(out, 10, |out| client.will_at.put(out));
    put_field(out, 11, |out| {
        put_u64(out, client.rare.inbound.len() as u64);
        for id in &client.rare.inbound {
            id.put(out);
        }
    });
    for (pattern, options) in client.subscriptions.iter() {
        put_field(out, 12, |out| {
            Filter::Pattern(pattern).put(out);
            options.put(out);
        });
    }
    for (pattern, upto) in &client.rare.replays {
        put_field(out, 14, |out| {
            Filter::Pattern(pattern.clone()).put(out);
            upto.put(out);
        });
    }
    for source in &client.rare.sources {
        put_field(out, 13, |out| {
            ClientSubscribed {
                client: number,
                source: source.source.clone(),
                options: source.options,
                queue: Some(source.queue),
                priority: source.priority,
            }
            .put(out);
        });
    }
    out.push(0);
}

const fn expiry(expiry_ms: Option<u64>) -> ClientExpiry {
    match expiry_ms {
        None => ClientExpiry::Never,
        Some(ms) => ClientExpiry::AfterMs(ms),
    }
}

fn read_client(reader: &mut Reader) -> Result<(ClientNo, Client), DecodeError> {
    let mut number = ClientNo(0);
    let mut client = Client::default();
    crate::record::fields(reader, |field, part| {
        match field {
            1 => number = Wire::read(part)?,
            2 => client.vhost = Wire::read(part)?,
            3 => client.client_id = Wire::read(part)?,
            4 => client.user = Wire::read(part)?,
            5 => client.queue = Wire::read(part)?,
            6 => client.expiry_ms = crate::change::expiry_ms(Wire::read(part)?),
            7 => client.will = Wire::read(part)?,
            8 => client.away = Wire::read(part)?,
            9 => client.ends_at = Wire::read(part)?,
            10 => client.will_at = Wire::read(part)?,
            11 => {
                let ids: Vec<u16> = Wire::read(part)?;
                client
                    .rare
                    .change(|rare| rare.inbound = ids.into_iter().collect());
            }
            12 => {
                let Filter::Pattern(pattern) = Filter::read(part)? else {
                    return Err(DecodeError::Bounds("a subscription's filter"));
                };
                let options = SubscriptionOptions::read(part)?;
                client.subscriptions.insert(&pattern, options);
            }
            14 => {
                let Filter::Pattern(pattern) = Filter::read(part)? else {
                    return Err(DecodeError::Bounds("a subscription's filter"));
                };
                let upto = Wire::read(part)?;
                client
                    .rare
                    .change(|rare| rare.replays.insert(pattern, upto));
            }
            13 => {
                let it = ClientSubscribed::read(part)?;
                let source = ClientSource {
                    source: it.source,
                    options: it.options,
                    queue: it.queue.unwrap_or(QueueId(0)),
                    priority: it.priority,
                };
                client.rare.change(|rare| rare.sources.push(source));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((number, client))
}

fn put_retained(vhost: VhostId, key: &Levels, it: &Retained, out: &mut Vec<u8>) {
    vhost.put(out);
    key.put(out);
    it.stored.put(out);
    it.len.put(out);
    it.qos.put(out);
    it.since.put(out);
    it.expiry.put(out);
}

fn read_retained(reader: &mut Reader) -> Result<(VhostId, Levels, Retained), DecodeError> {
    Ok((
        Wire::read(reader)?,
        Wire::read(reader)?,
        Retained {
            stored: Wire::read(reader)?,
            len: Wire::read(reader)?,
            qos: Wire::read(reader)?,
            since: Wire::read(reader)?,
            expiry: Wire::read(reader)?,
        },
    ))
}

impl Broker {
    /// A core without anything: the first decision is about its virtual hosts.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            durable: Durable::default(),
            soft: Soft::default(),
            counters: Counters::default(),
            gate: None,
        }
    }

    /// Writes the durable state.
    pub fn encode_snapshot(&self, sink: &mut dyn Write) -> io::Result<()> {
        let durable = &self.durable;
        sink.write_all(MAGIC)?;
        let version = match self.has_places_of_lost() {
            true => VERSION_WITH_LOST,
            false => VERSION,
        };
        sink.write_all(&[version])?;
        let mut section = Vec::new();
        let mut write = |number: u64, put: &dyn Fn(&mut Vec<u8>)| -> io::Result<()> {
            section.clear();
            put_field(&mut section, number, put);
            sink.write_all(&section)
        };
        let head = Head {
            epoch: durable.epoch,
            time: durable.time,
            next_queue: durable.next_queue,
            next_client: durable.next_client,
            next_transaction: durable.next_transaction,
            last_stored: durable.last_stored,
            next_stream: durable.next_stream,
            secret: durable.secret,
            next_move: durable.next_move,
            next_topic: durable.topics.next,
            passed_over: durable.passed_over,
        };
        write(1, &|out| head.put(out))?;
        write(2, &|out| durable.vhosts.put(out))?;
        for ((vhost, name), options) in &durable.exchanges {
            let exchange = ExchangeSection {
                vhost: *vhost,
                name: name.clone(),
                options: options.clone(),
            };
            write(3, &|out| exchange.put(out))?;
        }
        for id in durable.queue_ids() {
            write(4, &|out| put_queue(&durable.queues[&id], out))?;
        }
        for bound in durable.bindings.values() {
            write(5, &|out| bound.put(out))?;
        }
        for (vhost, tree) in &durable.retained {
            let mut failed = Ok(());
            tree.for_each(|key, retained| {
                if failed.is_ok() {
                    failed = write(6, &|out| put_retained(*vhost, key, retained, out));
                }
            });
            failed?;
        }
        for number in durable.client_numbers() {
            write(7, &|out| put_client(number, &durable.clients[&number], out))?;
        }
        for (id, large) in &durable.large {
            write(8, &|out| {
                id.put(out);
                large.put(out);
            })?;
        }
        for (id, count) in &durable.extra {
            write(9, &|out| {
                id.put(out);
                count.put(out);
            })?;
        }
        for ((queue, number), task) in &durable.moves {
            write(11, &|out| {
                queue.put(out);
                number.put(out);
                task.put(out);
            })?;
        }
        for (number, all) in &durable.prepared {
            for prepared in all {
                write(10, &|out| {
                    number.put(out);
                    prepared.stored.put(out);
                    prepared.published.len.put(out);
                    put_published(&prepared.published, out);
                })?;
            }
        }
        for (id, stream) in &durable.streams {
            write(40, &|out| put_stream(stream, out))?;
            for run in &stream.files {
                write(42, &|out| {
                    id.put(out);
                    run.put(out);
                })?;
            }
            put_records(*id, stream, |put| write(41, put))?;
        }
        for topic in durable.topics.each_topic() {
            write(60, &|out| put_topic(topic, out))?;
        }
        for subscription in durable.topics.each_subscription() {
            write(61, &|out| out.extend_from_slice(subscription.encoded()))?;
        }
        sink.write_all(&[0])
    }

    /// Reads what [`Broker::encode_snapshot`] wrote, and rebuilds every index.
    pub fn decode_snapshot(
        config: Config,
        source: &mut dyn Read,
    ) -> Result<Self, DecodeSnapshotError> {
        let mut magic = [0; MAGIC.len() + 1];
        source.read_exact(&mut magic)?;
        if magic[..MAGIC.len()] != MAGIC[..] {
            return Err(DecodeSnapshotError::Foreign);
        }
        if ![VERSION, VERSION_WITH_LOST].contains(&magic[MAGIC.len()]) {
            return Err(DecodeSnapshotError::Newer(magic[MAGIC.len()]));
        }
        let mut broker = Self::new(config);
        while let Some((number, value)) = read_section(source)? {
            broker.restore(number, &mut Reader::new(value))?;
        }
        broker.rebuild();
        Ok(broker)
    }

    fn has_places_of_lost(&self) -> bool {
        let mut streams = self.durable.streams.values();
        self.durable.vhosts.iter().any(|name| name.is_empty())
            || streams.any(|stream| stream.records.iter().any(|(_, slot)| slot.is_lost()))
    }

    fn restore(&mut self, number: u64, reader: &mut Reader) -> Result<(), DecodeError> {
        match number {
            1 => {
                let head = Head::read(reader)?;
                self.durable.epoch = head.epoch;
                self.durable.time = head.time;
                self.durable.next_queue = head.next_queue;
                self.durable.next_client = head.next_client;
                self.durable.next_transaction = head.next_transaction;
                self.durable.last_stored = head.last_stored;
                self.durable.next_stream = head.next_stream;
                self.durable.secret = head.secret;
                self.durable.next_move = head.next_move;
                self.durable.topics.next = head.next_topic;
                self.durable.passed_over = head.passed_over;
            }
            2 => self.durable.vhosts = Vec::<Arc<str>>::read(reader)?,
            3 => {
                let it = ExchangeSection::read(reader)?;
                self.durable
                    .exchanges
                    .insert((it.vhost, it.name), it.options);
            }
            4 => {
                let mut queue = read_queue(reader)?;
                self.soft.shared_options.share(&mut queue.declared);
                self.durable
                    .queues
                    .insert(queue.declared.queue, Box::new(queue));
            }
            5 => {
                let bound = Bound::read(reader)?;
                let binding = bound
                    .binding
                    .as_deref()
                    .ok_or(DecodeError::Bounds("a binding"))?;
                let key = (bound.vhost, crate::apply::binding_key(binding));
                self.durable.bindings.insert(key, bound);
            }
            6 => {
                let (vhost, key, retained) = read_retained(reader)?;
                self.durable
                    .retained
                    .entry(vhost)
                    .or_default()
                    .set(&key, retained);
            }
            7 => {
                let (number, client) = read_client(reader)?;
                self.durable.clients.insert(number, Box::new(client));
            }
            8 => {
                let id = StoredId::read(reader)?;
                self.durable.large.insert(id, Large::read(reader)?);
            }
            9 => {
                let id = StoredId::read(reader)?;
                self.durable.extra.insert(id, Wire::read(reader)?);
            }
            10 => {
                let number = Wire::read(reader)?;
                let stored = Wire::read(reader)?;
                let len = Wire::read(reader)?;
                let mut published = get_published(reader)?;
                published.len = len;
                self.durable
                    .prepared
                    .entry(number)
                    .or_default()
                    .push(Prepared { published, stored });
            }
            11 => {
                let key = (Wire::read(reader)?, Wire::read(reader)?);
                self.durable.moves.insert(key, Wire::read(reader)?);
            }
            40 => {
                let stream = read_stream(reader)?;
                self.durable.streams.insert(stream.declared.stream, stream);
            }
            41 => read_records(reader, &mut self.durable.streams)?,
            42 => read_run(reader, &mut self.durable.streams)?,
            60 => self.durable.topics.restore(read_topic(reader)?),
            61 => self.restore_subscription(Subscribed::read(reader)?)?,
            tag => {
                return Err(DecodeError::Unknown {
                    what: "snapshot section",
                    tag,
                });
            }
        }
        Ok(())
    }

    fn restore_subscription(&mut self, it: Subscribed) -> Result<(), DecodeError> {
        let reads = self.durable.topics.filter_of(&it);
        let pattern = reads.as_ref().and_then(crate::change::pattern_of);
        let name = self.vhost_name(it.vhost);
        let (Some(name), true, true) = (name, pattern.is_some(), it.target.is_some()) else {
            return Err(DecodeError::Bounds("a subscription"));
        };
        let vhosts = &self.durable.vhosts;
        let find = |name: &str| crate::vhost_in(vhosts, name);
        self.durable.topics.put(it, &name, find);
        Ok(())
    }

    /// Every index and every soft side, from durable state alone.
    fn rebuild(&mut self) {
        let now = self.durable.time;
        let exchanges: Vec<_> = self
            .durable
            .exchanges
            .iter()
            .map(|(key, options)| (key.clone(), options.kind))
            .collect();
        self.counters.exchanges = exchanges
            .iter()
            .filter(|((_, name), _)| !name.starts_with(b"amq."))
            .count() as u64;
        for (key, kind) in exchanges {
            self.soft
                .routes
                .insert(key, crate::routing::Exchange::new(kind));
        }
        for id in self.durable.queue_ids() {
            let declared = self.durable.queues[&id].declared.clone();
            self.counters.queues += 1;
            self.index_queue(&declared, now);
            self.index_entries(id);
            if declared.doomed {
                self.empty_doomed(id);
            }
        }
        for bound in self.durable.bindings.values().cloned().collect::<Vec<_>>() {
            self.index_binding(&bound);
        }
        for tree in self.durable.retained.values() {
            self.counters.retained += tree.len() as u64;
        }
        let streams: Vec<_> = self.durable.streams.keys().copied().collect();
        for id in streams {
            self.index_stream(id, now);
        }
        let topics = self.durable.topics.each_topic();
        self.counters.topics = topics.filter(|topic| !topic.declared.doomed).count() as u64;
        self.counters.subscriptions = self.durable.topics.subscriptions_len();
        self.doom_topics(now);
        for number in self.durable.client_numbers() {
            self.index_client(number);
            self.counters.clients += 1;
        }
        self.index_moves();
        for (id, large) in &self.durable.large {
            for part in &large.parts {
                self.soft.part_owners.insert(*part, *id);
            }
        }
    }
}

/// One section, or the end.
fn read_section(source: &mut dyn Read) -> Result<Option<(u64, Bytes)>, DecodeSnapshotError> {
    let number = read_u64(source)?;
    if number == 0 {
        return Ok(None);
    }
    let len = usize::try_from(read_u64(source)?)
        .map_err(|_| DecodeError::Bounds("the length of a section"))?;
    let mut value = BytesMut::new();
    let mut chunk = [0; 64 * 1024];
    while value.len() < len {
        let want = (len - value.len()).min(chunk.len());
        source.read_exact(&mut chunk[..want])?;
        value.extend_from_slice(&chunk[..want]);
    }
    Ok(Some((number, value.freeze())))
}

fn read_u64(source: &mut dyn Read) -> Result<u64, DecodeSnapshotError> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            return Ok(Reader::new(bytes.into()).u64()?);
        }
        if bytes.len() > 10 {
            return Err(DecodeError::Overlong.into());
        }
    }
}
