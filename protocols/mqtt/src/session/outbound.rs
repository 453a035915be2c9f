//! What is delivered to the client: packet identifiers, the handshakes of QoS 1 and 2, topic aliases, the client's packet size.
//!
//! ```text
//! QoS 1   PUBLISH -> Sent -- PUBACK --> Accept
//! QoS 2   PUBLISH -> Sent -- PUBREC --> Received (the core is told, and asked) -- settled, PUBREL --> Released -- PUBCOMP --> Accept
//!         after a reconnect the core names what had reached Received: PUBREL --> Released
//! ```
//! A packet identifier is the sequence number in the client session's own queue modulo 65,535, plus 1 (RULES 6). What is
//! out spans less than that, so the number is found again from the identifier and the oldest delivery that is out.
//!
//! Deliberately absent: the window. The core never delivers more than `OpenClient::window`.

use std::{
    collections::{BTreeMap, VecDeque},
    ptr,
    sync::{Arc, Weak},
};

use bytes::{BufMut, Bytes};
use message::{Address, Kind, Timestamp};
use session::{
    Burst, Command, Delivery, DeliveryId, DeliveryRange, Frames, Lane, Outcome, Output, QueueId,
    Settle, Token,
};
use smallvec::{SmallVec, smallvec};

use super::{
    Fault,
    reply::Reply,
    wire::{AckKind, Peer},
};
use crate::{
    Config,
    codec::{Ack, PublishHead, ReasonCode, Version, put_varint},
    message::{encode_properties, native_properties, seconds_left},
    names::{Dialect, Names},
};

/// Packet identifiers are 1 to 65,535.
const IDS: u64 = 65_535;
/// A topic shorter than this is no longer than the alias property that would replace it.
const ALIASED_LEN_MIN: usize = 5;
/// The longest body in frames that are encoded once for all.
const COPIED_MAX: usize = 1024;
/// Scratch space kept between deliveries.
const SCRATCH_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// PUBLISH is out, of that QoS, and unacknowledged [MQTT-4.3.2-3], [MQTT-4.3.3-3].
    Sent { qos: u8 },
    /// PUBREC came; the core makes it durable. PUBLISH is not sent again [MQTT-4.3.3-6].
    Received,
    /// PUBREL is out, and unacknowledged [MQTT-4.3.3-5].
    Released,
}

#[derive(Debug)]
struct Slot {
    id: DeliveryId,
    progress: Progress,
}

#[derive(Debug)]
pub(super) struct Outbound {
    /// Made by the first delivery that is to be acknowledged.
    acknowledged: Option<Box<Acknowledged>>,
    /// Made by the first PUBREC.
    exactly_once: Option<Box<ExactlyOnce>>,
    config: Arc<Config>,
    /// Topic aliases that the client takes.
    alias_max: u16,
    /// Made by the first alias.
    aliases: Option<Box<Aliases>>,
    /// What the last delivery was shown with; none before the first one.
    shown: Option<Box<Shown>>,
}

/// The aliases that topics have.
type Aliases = BTreeMap<Bytes, u16>;

/// What QoS 1 and 2 need.
#[derive(Debug, Default)]
struct Acknowledged {
    /// What is out, by sequence number.
    slots: VecDeque<Slot>,
    /// Accepted in this step, not told to the core yet.
    accepted: Fold,
}

/// How a delivery is shown: nearly every one is published where one before it was.
#[derive(Debug, Default)]
struct Shown {
    /// Where it was published. Weak, or it might pin the read buffer of who published there; and while it is remembered, no
    /// other address can be in its place.
    address: Weak<Address>,
    topic: Vec<u8>,
    /// The topic's levels, if it is their text as it stands; else 0.
    plain_levels: usize,
    /// Other addresses have this topic too (`Names::is_ambiguous`).
    ambiguous: bool,
    /// The alias that the client knows for the topic.
    alias: Option<u16>,
    /// End-to-end properties of what another protocol published.
    converted: Vec<u8>,
    /// The properties that are not the publisher's.
    patch: Vec<u8>,
}

/// What only QoS 2 needs.
#[derive(Debug, Default)]
struct ExactlyOnce {
    /// PUBREC came in this step, not told to the core yet.
    received: Fold,
    /// Batches of `received` that the core has, oldest first.
    settling: VecDeque<(u32, DeliveryRange)>,
    next_batch: u32,
}

/// A delivery that is out.
struct Found<'a> {
    slots: &'a mut VecDeque<Slot>,
    at: usize,
}

impl Found<'_> {
    fn progress(&self) -> Progress {
        self.slots[self.at].progress
    }

    /// It is out no longer.
    fn remove(self) -> DeliveryId {
        let Self { slots, at } = self;
        let slot = if at == 0 {
            slots.pop_front()
        } else {
            slots.remove(at)
        };
        slot.expect("found just before").id
    }
}

/// Deliveries to settle alike, as ranges.
#[derive(Debug, Default)]
struct Fold {
    queue: QueueId,
    ranges: SmallVec<[(u64, u64); 2]>,
}

impl Fold {
    fn add(&mut self, id: DeliveryId) {
        self.queue = id.queue;
        match self.ranges.last_mut() {
            Some((_, last)) if *last + 1 == id.qseq => *last = id.qseq,
            _ => self.ranges.push((id.qseq, id.qseq)),
        }
    }

    fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn takes(&self, id: DeliveryId) -> bool {
        self.is_empty() || self.queue == id.queue
    }

    fn take(&mut self) -> Option<DeliveryRange> {
        (!self.is_empty()).then(|| DeliveryRange {
            queue: self.queue,
            ranges: std::mem::take(&mut self.ranges),
        })
    }
}

fn settle(token: Option<Token>, deliveries: DeliveryRange, outcome: Outcome, out: &mut Output) {
    out.commands.push_back(Command::Settle(Settle {
        token,
        lane: Lane::default(),
        deliveries,
        outcome,
    }));
}

fn settle_one(id: DeliveryId, outcome: Outcome, out: &mut Output) {
    let deliveries = DeliveryRange {
        queue: id.queue,
        ranges: smallvec![(id.qseq, id.qseq)],
    };
    settle(None, deliveries, outcome, out);
}

/// The packet identifier of a delivery: not 0, and no other is out under it [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1].
const fn packet_id(id: DeliveryId) -> u16 {
    (id.qseq % IDS) as u16 + 1
}

impl Outbound {
    pub(super) fn new(alias_max: u16, config: &Arc<Config>) -> Self {
        Self {
            acknowledged: None,
            exactly_once: None,
            config: Arc::clone(config),
            alias_max,
            aliases: None,
            shown: None,
        }
    }

    /// Sends deliveries that came together. What is the same for all who are shown them is encoded by the first.
    pub(super) fn on_burst(
        &mut self,
        burst: &Burst,
        peer: &Peer,
        now: Timestamp,
        out: &mut Output,
    ) {
        let names = self.config.names();
        // An alias is this connection's own.
        if self.alias_max == 0
            && let Some(frames) = burst.frames(form(peer.version, names.dialect), |deliveries| {
                encode_for_all(deliveries, peer.version, names)
            })
            && frames.len_max() <= peer.publish_len_max()
        {
            out.wire.put_frames(frames.bytes(), frames.ends());
            return;
        }
        for delivery in burst.deliveries() {
            self.on_delivery(delivery, peer, now, out);
        }
    }

    /// Sends a delivery. What is read from a queue through `$queue` is readdressed to that queue by the core.
    pub(super) fn on_delivery(
        &mut self,
        delivery: &Delivery,
        peer: &Peer,
        now: Timestamp,
        out: &mut Output,
    ) {
        let message = &delivery.message;
        let address = delivery.readdressed.as_ref().unwrap_or(&message.address);
        let shown = self.shown.get_or_insert_default();
        // DOORS rule 3: what MQTT cannot name is not delivered.
        if !shown.is_of(address)
            && !shown.show(address, self.config.names(), self.aliases.as_deref())
        {
            self.config.counters.add_delivery_unnameable();
            if let Some(id) = delivery.id {
                settle_one(id, Outcome::Reject, out);
            }
            return;
        }
        if shown.ambiguous {
            self.config.counters.add_name_ambiguous();
        }
        // Settled already is at most once, whatever was granted.
        let qos = if delivery.id.is_some() {
            delivery.qos
        } else {
            0
        };
        let alias = match peer.version {
            Version::V5 => shown.alias_among(self.aliases.as_deref(), self.alias_max),
            _ => Alias::None,
        };
        let omitted =
            shown.encode_properties(delivery, peer.version, alias, self.config.names(), now);
        if omitted > 0 {
            self.config.counters.add_properties_omitted(omitted);
        }
        let head = shown.head(delivery, peer.version, alias, qos);
        let remaining = head.remaining();
        // [MQTT-3.1.2-24], [MQTT-3.1.2-25]; DOORS rule 15: a subscription discards it, a queue dead-letters it.
        if PublishHead::packet_len(remaining) > peer.publish_len_max() {
            if let Some(id) = delivery.id {
                let outcome = if address.kind == Kind::Queue {
                    Outcome::Reject
                } else {
                    Outcome::Accept
                };
                settle_one(id, outcome, out);
            }
            return;
        }
        out.wire.encode(|buffer| head.encode(remaining, buffer));
        out.wire.put_body(&message.body);
        out.wire.end_frame();
        if let Alias::Given(alias) = alias {
            self.aliases
                .get_or_insert_default()
                .insert(Bytes::copy_from_slice(&shown.topic), alias);
            shown.alias = Some(alias);
        }
        if shown.is_large() {
            self.shown = None;
        }
        match delivery.id {
            Some(id) if qos > 0 => self.remember(id, Progress::Sent { qos }),
            Some(id) => self.accept(id, out),
            None => {}
        }
    }

    fn remember(&mut self, id: DeliveryId, progress: Progress) {
        let slot = Slot { id, progress };
        let slots = &mut self.acknowledged.get_or_insert_default().slots;
        match slots.back() {
            Some(last) if last.id.qseq >= id.qseq => {
                match slots.binary_search_by_key(&id.qseq, |slot| slot.id.qseq) {
                    Ok(at) => slots[at] = slot,
                    Err(at) => slots.insert(at, slot),
                }
            }
            _ => slots.push_back(slot),
        }
    }

    /// The delivery with that packet identifier, and where it is.
    fn find(&mut self, packet_id: u16) -> Option<Found<'_>> {
        let slots = &mut self.acknowledged.as_mut()?.slots;
        let first = slots.front()?.id.qseq;
        let wanted = u64::from(packet_id) - 1;
        let qseq = first + (wanted + IDS - first % IDS) % IDS;
        // Nearly always it is the oldest.
        let at = match qseq == first {
            true => 0,
            false => slots
                .binary_search_by_key(&qseq, |slot| slot.id.qseq)
                .ok()?,
        };
        Some(Found { slots, at })
    }

    fn accept(&mut self, id: DeliveryId, out: &mut Output) {
        let accepted = &mut self.acknowledged.get_or_insert_default().accepted;
        if accepted.takes(id) {
            return accepted.add(id);
        }
        self.flush(out);
        let accepted = &mut self.acknowledged.get_or_insert_default().accepted;
        accepted.add(id);
    }

    /// PUBACK.
    pub(super) fn on_puback(&mut self, ack: &Ack, out: &mut Output) -> Result<(), Fault> {
        // One that is not out may have been settled before a reconnect.
        let Some(found) = self.find(ack.packet_id) else {
            return Ok(());
        };
        if found.progress() != (Progress::Sent { qos: 1 }) {
            return Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "PUBACK for a publish of quality of service 2",
            ));
        }
        let id = found.remove();
        if ack.reason.is_failure() {
            // [MQTT-4.4.0-2], [MQTT-4.8.2-6]
            // DOORS rule 19
            settle_one(id, Outcome::Reject, out);
        } else {
            self.accept(id, out);
        }
        Ok(())
    }

    /// PUBREC.
    pub(super) fn on_pubrec(
        &mut self,
        ack: &Ack,
        peer: &Peer,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let Some(found) = self.find(ack.packet_id) else {
            // MQTT 5, 4.13.2, table 3-6: there is no such publish; a success needs its PUBREL all the same [MQTT-4.3.3-4].
            if !ack.reason.is_failure() {
                let reason = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
                peer.put_ack(AckKind::Rel, ack.packet_id, reason, "", out);
            }
            return Ok(());
        };
        match found.progress() {
            // [MQTT-4.4.0-2], [MQTT-4.8.2-6]
            Progress::Sent { qos: 2 } if ack.reason.is_failure() => {
                let id = found.remove();
                settle_one(id, Outcome::Reject, out);
            }
            Progress::Sent { qos: 2 } => {
                let slot = &mut found.slots[found.at];
                slot.progress = Progress::Received;
                let id = slot.id;
                let known = self.exactly_once.as_ref();
                if known.is_some_and(|known| !known.received.takes(id)) {
                    self.flush(out);
                }
                self.exactly_once.get_or_insert_default().received.add(id);
            }
            Progress::Sent { .. } => {
                return Err(Fault::new(
                    ReasonCode::PROTOCOL_ERROR,
                    "PUBREC for a publish of quality of service 1",
                ));
            }
            Progress::Received => {}
            Progress::Released => {
                peer.put_ack(AckKind::Rel, ack.packet_id, ReasonCode::SUCCESS, "", out);
            }
        }
        Ok(())
    }

    /// A batch of PUBRECs is durable: now, and not before, PUBREL [MQTT-4.3.3-4], in the order of the PUBRECs [MQTT-4.6.0-4].
    pub(super) fn on_settled(&mut self, batch: u32, peer: &Peer, out: &mut Output) {
        let Some(exactly_once) = &mut self.exactly_once else {
            return;
        };
        let Some(at) = exactly_once
            .settling
            .iter()
            .position(|(serial, _)| *serial == batch)
        else {
            return;
        };
        let (_, deliveries) = exactly_once.settling.remove(at).expect("found just before");
        for (first, last) in deliveries.ranges {
            for qseq in first..=last {
                let queue = deliveries.queue;
                self.release(DeliveryId { queue, qseq }, peer, out);
            }
        }
    }

    /// After a reconnect: deliveries whose PUBREC had come [MQTT-4.4.0-1].
    pub(super) fn on_resumed(&mut self, received: &[DeliveryId], peer: &Peer, out: &mut Output) {
        for id in received {
            self.release(*id, peer, out);
        }
    }

    fn release(&mut self, id: DeliveryId, peer: &Peer, out: &mut Output) {
        self.remember(id, Progress::Released);
        peer.put_ack(AckKind::Rel, packet_id(id), ReasonCode::SUCCESS, "", out);
    }

    /// PUBCOMP.
    pub(super) fn on_pubcomp(&mut self, ack: &Ack, out: &mut Output) -> Result<(), Fault> {
        let Some(found) = self.find(ack.packet_id) else {
            return Ok(());
        };
        if found.progress() != Progress::Released {
            return Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "PUBCOMP before PUBREL",
            ));
        }
        let id = found.remove();
        self.accept(id, out);
        Ok(())
    }

    /// The step ends: what was folded is told to the core.
    #[inline]
    pub(super) fn flush(&mut self, out: &mut Output) {
        let accepted = |it: &Acknowledged| !it.accepted.is_empty();
        let received = |it: &ExactlyOnce| !it.received.is_empty();
        if self.acknowledged.as_deref().is_some_and(accepted)
            || self.exactly_once.as_deref().is_some_and(received)
        {
            self.tell(out);
        }
    }

    fn tell(&mut self, out: &mut Output) {
        if let Some(acknowledged) = &mut self.acknowledged
            && let Some(deliveries) = acknowledged.accepted.take()
        {
            settle(None, deliveries, Outcome::Accept, out);
        }
        if let Some(exactly_once) = &mut self.exactly_once
            && let Some(deliveries) = exactly_once.received.take()
        {
            let batch = exactly_once.next_batch;
            exactly_once.next_batch = batch.wrapping_add(1);
            exactly_once.settling.push_back((batch, deliveries.clone()));
            let token = Reply::Received(batch).token();
            settle(Some(token), deliveries, Outcome::Received, out);
        }
    }
}

/// Which frames of a burst a client reads.
const fn form(version: Version, dialect: Dialect) -> usize {
    let version = matches!(version, Version::V5) as usize;
    let dialect = matches!(dialect, Dialect::RabbitMq) as usize;
    version << 1 | dialect
}

/// What each client of that version is sent that has no aliases and takes packets so long. None if a delivery is not shown to
/// all alike, or has a body that is better shared than copied, or something to be counted for each client.
fn encode_for_all(deliveries: &[Arc<Delivery>], version: Version, names: Names) -> Option<Frames> {
    let mut shown = Shown::default();
    Frames::of(deliveries, |delivery, out| {
        let message = &delivery.message;
        let address = delivery.readdressed.as_ref().unwrap_or(&message.address);
        let is_named = shown.is_of(address) || shown.show(address, names, None);
        // What is left of an expiry depends on when it is asked.
        if !is_named
            || shown.ambiguous
            || delivery.id.is_some()
            || message.expiry.is_some()
            || message.body.len() > COPIED_MAX
            || shown.encode_properties(delivery, version, Alias::None, names, Timestamp(0)) > 0
        {
            return None;
        }
        let head = shown.head(delivery, version, Alias::None, 0);
        head.encode(head.remaining(), out);
        out.put_slice(&message.body);
        Some(())
    })
}

impl Shown {
    /// Encodes the properties of a delivery, before MQTT 5 none. Gives how many could not be written.
    fn encode_properties(
        &mut self,
        delivery: &Delivery,
        version: Version,
        alias: Alias,
        names: Names,
        now: Timestamp,
    ) -> u64 {
        if version < Version::V5 {
            return 0;
        }
        self.encode_patch(delivery, alias, now);
        if native_properties(&delivery.message).is_some() {
            return 0;
        }
        self.converted.clear();
        encode_properties(&delivery.message, names, &mut self.converted)
    }

    /// The head of a delivery whose topic and properties are encoded here.
    fn head<'a>(
        &'a self,
        delivery: &'a Delivery,
        version: Version,
        alias: Alias,
        qos: u8,
    ) -> PublishHead<'a> {
        let properties = (version == Version::V5).then(|| {
            let end_to_end = native_properties(&delivery.message).unwrap_or(&self.converted);
            [end_to_end, &self.patch]
        });
        PublishHead {
            // [MQTT-3.3.1-1], [MQTT-3.3.1-3]: not the publisher's. Clear the first time [MQTT-4.3.2-2], [MQTT-4.3.3-2], and
            // always at QoS 0 [MQTT-4.3.1-1].
            dup: delivery.resent && qos > 0,
            qos,
            retain: delivery.retain,
            topic: match alias {
                Alias::Known(_) => &[],
                Alias::None | Alias::Given(_) => &self.topic,
            },
            packet_id: delivery.id.map_or(0, packet_id),
            properties,
            payload_len: delivery.message.body.len(),
        }
    }

    /// Whether this is the topic of that address. That it is may be seen without a look at either.
    fn is_of(&mut self, address: &Arc<Address>) -> bool {
        if ptr::eq(self.address.as_ptr(), Arc::as_ptr(address)) {
            return true;
        }
        let same = matches!(address.kind, Kind::Topic | Kind::Exchange)
            && self.plain_levels == address.key.len()
            && address.key.joined_by(b'/') == Some(&self.topic[..]);
        if same {
            self.address = Arc::downgrade(address);
        }
        same
    }

    /// Makes it the topic of that address. `false`: MQTT cannot write it.
    fn show(&mut self, address: &Arc<Address>, names: Names, aliases: Option<&Aliases>) -> bool {
        self.topic.clear();
        self.plain_levels = 0;
        self.ambiguous = false;
        let is_topic = matches!(address.kind, Kind::Topic | Kind::Exchange);
        if is_topic && let Some(plain) = names.plain_topic(&address.key) {
            self.topic.extend_from_slice(plain);
            self.plain_levels = address.key.len();
        } else if names.encode_address(address, &mut self.topic) {
            self.ambiguous = is_topic && names.is_ambiguous(&address.key);
        } else {
            self.address = Weak::new();
            return false;
        }
        self.address = Arc::downgrade(address);
        self.alias = aliases.and_then(|aliases| aliases.get(&self.topic[..]).copied());
        true
    }

    /// What a topic alias does for this topic. The first topics get the aliases and keep them.
    fn alias_among(&self, aliases: Option<&Aliases>, alias_max: u16) -> Alias {
        let given = aliases.map_or(0, BTreeMap::len);
        match self.alias {
            Some(number) => Alias::Known(number),
            // [MQTT-3.3.2-11]
            None if self.topic.len() >= ALIASED_LEN_MIN && given < usize::from(alias_max) => {
                Alias::Given(given as u16 + 1)
            }
            None => Alias::None,
        }
    }

    /// The properties that are not the publisher's: what is left of the expiry, subscription identifiers, the topic alias.
    fn encode_patch(&mut self, delivery: &Delivery, alias: Alias, now: Timestamp) {
        let patch = &mut self.patch;
        patch.clear();
        // A message that was dead-lettered for its age does not expire again.
        let aged = delivery
            .deaths
            .iter()
            .flat_map(|deaths| deaths.iter())
            .any(|death| death.original_ttl_ms.is_some());
        if let Some(expiry) = delivery.message.expiry.filter(|_| !aged) {
            // [MQTT-3.3.2-6]
            patch.put_u8(0x02);
            patch.put_u32(seconds_left(expiry, now));
        }
        for identifier in &delivery.subscriptions {
            // [MQTT-3.3.4-3]
            if *identifier != 0 {
                patch.put_u8(0x0B);
                put_varint(patch, *identifier as usize);
            }
        }
        if let Alias::Known(number) | Alias::Given(number) = alias {
            patch.put_u8(0x23);
            patch.put_u16(number);
        }
    }

    /// Whether it took a long topic or property list, and is to be given back.
    const fn is_large(&self) -> bool {
        self.topic.capacity() > SCRATCH_MAX
            || self.converted.capacity() > SCRATCH_MAX
            || self.patch.capacity() > SCRATCH_MAX
    }
}

/// What a topic alias does for a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alias {
    /// Nothing.
    None,
    /// It stands for the topic name.
    Known(u16),
    /// It is set by this packet.
    Given(u16),
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use message::{Levels, Message, VhostId};
    use session::ConsumerId;

    fn topic(text: Bytes) -> Arc<Address> {
        let levels = Levels::split(text, b'/').expect("short");
        Arc::new(Address::topic(VhostId::ROOT, levels))
    }

    /// What a client is sent for a delivery to that address.
    fn sent(outbound: &mut Outbound, version: Version, address: &Arc<Address>) -> Vec<u8> {
        let peer = Peer::new(version, &Config::default());
        let message = Message::new(Arc::clone(address), Bytes::from_static(b"x"));
        let delivery = Delivery::first(ConsumerId::CLIENT, Arc::new(message), Timestamp(0));
        let mut out = Output::default();
        outbound.on_delivery(&delivery, &peer, Timestamp(0), &mut out);
        let len = out.wire.remaining();
        out.wire.copy_to_bytes(len).to_vec()
    }

    #[test]
    fn a_delivery_is_shown_alike_whether_its_address_is_known_equal_or_found_again() {
        let text = |text: &'static str| topic(Bytes::from_static(text.as_bytes()));
        let unnameable = Arc::new(Address::topic(VhostId::ROOT, Levels::none()));
        let queue = Arc::new(Address::queue(VhostId::ROOT, "aaaaa/b"));
        let addresses = [
            text("aaaaa/b"),
            text("aaaaa/b"),
            text("aaaaa/c"),
            Arc::new(Address::topic(VhostId::ROOT, Levels::one("aaaaa/b".into()))),
            queue,
            unnameable,
            text("a%b"),
        ];
        for version in [Version::V311, Version::V5] {
            let mut outbound = Outbound::new(0, &Arc::default());
            for turn in 0..500 {
                // Each behind each, and twice in a row.
                let address = &addresses[turn * turn / 2 % 7];
                let mut fresh = Outbound::new(0, &Arc::default());
                assert_eq!(
                    sent(&mut outbound, version, address),
                    sent(&mut fresh, version, address),
                    "{address:?} in turn {turn}"
                );
            }
        }
        // With aliases: the first topics have them, whatever reference they come with.
        let mut outbound = Outbound::new(1, &Arc::default());
        let mut lens = Vec::new();
        for at in [0, 0, 1, 2, 2, 0, 5, 1] {
            lens.push(sent(&mut outbound, Version::V5, &addresses[at]).len());
        }
        assert_eq!(lens, [16, 9, 9, 13, 13, 9, 0, 9]);
    }

    fn bursts(deliveries: &[Arc<Delivery>]) -> [Burst; 2] {
        [1, 2].map(|connections| Burst::new(deliveries.to_vec(), connections))
    }

    /// What a client is sent that has those to itself, and two that share them: the same, and frame by frame.
    fn burst_sent(
        deliveries: &[Arc<Delivery>],
        version: Version,
        alias_max: u16,
    ) -> [Vec<Bytes>; 3] {
        let [alone, shared] = bursts(deliveries);
        [&alone, &shared, &shared].map(|burst| {
            let mut outbound = Outbound::new(alias_max, &Arc::default());
            let peer = Peer::new(version, &Config::default());
            let mut out = Output {
                wire: session::Wire::with_frame_marks(),
                ..Output::default()
            };
            outbound.on_burst(burst, &peer, Timestamp(1000), &mut out);
            let frames = std::iter::from_fn(|| out.wire.take_frame()).collect();
            assert!(!out.wire.has_remaining());
            frames
        })
    }

    #[test]
    fn a_burst_is_sent_to_all_as_it_is_to_one() {
        let plain = |topic_text: &'static str, body: &'static [u8]| {
            let address = topic(Bytes::from_static(topic_text.as_bytes()));
            Message::new(address, Bytes::from_static(body))
        };
        let first = |message| Delivery::first(ConsumerId::CLIENT, Arc::new(message), Timestamp(0));
        let of = |message| vec![first(message)];
        let mut expiring = plain("a/b", b"expires");
        expiring.expiry = Some(Timestamp(9_000));
        let mut text = plain("a/b", b"text");
        text.body_kind = message::BodyKind::Text;
        let unnameable = Address::topic(VhostId::ROOT, Levels::none());
        let dead = Delivery {
            readdressed: Some(topic(Bytes::from_static(b"other"))),
            ..first(plain("a/b", b"moved"))
        };
        let marked = Delivery {
            retain: true,
            subscriptions: smallvec![7, 300],
            ..first(plain("a/b", b"retained"))
        };
        let cases = [
            of(plain("a/b", b"x")),
            vec![dead, marked],
            of(expiring),
            of(text),
            of(plain("a/b", &[b'.'; COPIED_MAX])),
            of(plain("a/b", &[b'.'; COPIED_MAX + 1])),
            of(Message::new(unnameable, Bytes::from_static(b"no name"))),
        ];
        for case in cases {
            // Between others of another topic.
            let mut deliveries = vec![first(plain("some/topic", b"before"))];
            deliveries.extend(case);
            deliveries.push(first(plain("some/topic", b"behind")));
            let deliveries: Vec<_> = deliveries.into_iter().map(Arc::new).collect();
            for version in [Version::V31, Version::V311, Version::V5] {
                for alias_max in [0, 1] {
                    let [alone, one, other] = burst_sent(&deliveries, version, alias_max);
                    assert!(alone.len() + 1 >= deliveries.len(), "{alone:?}");
                    assert_eq!(alone, one, "{version:?}");
                    assert_eq!(alone, other, "{version:?}");
                }
            }
        }
    }

    #[test]
    fn who_takes_only_short_packets_is_not_sent_the_long_ones_of_a_burst() {
        let deliveries: Vec<_> = [1, 100, 2]
            .into_iter()
            .map(|len| {
                let message = Message::new(topic(Bytes::from_static(b"t")), vec![b'.'; len].into());
                let delivery = Delivery::first(ConsumerId::CLIENT, message.into(), Timestamp(0));
                Arc::new(delivery)
            })
            .collect();
        let burst = Burst::new(deliveries, 2);
        let sent = |len_max| {
            let mut peer = Peer::new(Version::V5, &Config::default());
            peer.packet_len_max = len_max;
            let mut out = Output::default();
            let mut outbound = Outbound::new(0, &Arc::default());
            outbound.on_burst(&burst, &peer, Timestamp(0), &mut out);
            out.wire.remaining()
        };
        assert_eq!([sent(1000), sent(50), sent(1000)], [121, 15, 121]);
    }

    #[test]
    fn the_last_address_pins_no_read_buffer() {
        let read = Bytes::from(b"0123aaaaa/b6789".to_vec());
        let mut outbound = Outbound::new(0, &Arc::default());
        for _ in 0..2 {
            let address = topic(read.slice(4..11));
            assert_eq!(sent(&mut outbound, Version::V311, &address).len(), 12);
        }
        assert!(read.is_unique());
        assert!(outbound.shown.is_some());
    }
}
