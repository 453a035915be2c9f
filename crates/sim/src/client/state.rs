//! Clients of what outlives connections besides messages: retained messages, wills, consumer groups.

use std::sync::Arc;

use bytes::Bytes;
use message::{Address, Filter, FilterLevel, Levels, Message, Pattern, VhostId};
use session::{
    ClientExpiry, Command, ConsumerId, Delivery, Event, GroupInfo, GroupTo, Lane, OpenClient,
    ReadStream, RefusalKind, ShardNo, Source, StreamStart, Will,
};

use super::{Asked, Client, Role, Turn, name, published_as};
use crate::history::{Origin, Target, Workers, body};

/// The consumer group.
const GROUP: &[u8] = b"workers";
/// How long a will waits at most, in ms.
const WILL_DELAY_MAX: u64 = 6_000;
/// How long a shard is leased for at most, in ms.
const SHARD_LEASE_MAX: u64 = 8_000;

/// What a client has that its connection does not end with.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Of its client id: it gets another one when it wants to be somebody else.
    life: u64,
    /// The client session is open in this connection.
    is_open: bool,
    /// A goodbye is under way.
    parts: bool,
    /// The will of this connection.
    will: Option<u64>,
    /// All of its wills, and under which name.
    wills: Vec<(u64, u64)>,
    /// When its subscription was asked for, once that is there.
    looks: bool,
    /// Where it goes on, while the shard is its own.
    works_at: Option<u64>,
    /// It says nothing any more to the group for so many turns.
    idles: u64,
}

/// What an answer is an answer to.
#[derive(Debug)]
pub(super) enum Question {
    /// An update of a topic.
    Update(usize),
    /// An update that keeps this message.
    Keep(u64, usize),
    Open,
    /// Asked for at that time, under that name.
    Look(u64, u64),
    Goodbye,
    Group(u64),
    Lease(u64, u64),
    Read,
    Checkpoint(u64, u64),
}

impl Client {
    /// A connection begins.
    pub(super) fn set_up_state(&mut self) {
        self.state.is_open = false;
        self.state.parts = false;
        if self.role == Role::Looks && self.state.looks {
            // What it was not shown yet it is shown now.
            self.open(false, None);
        }
        if let Some(connection) = &mut self.connection {
            connection.ready = true;
        }
    }

    /// A connection begins: the shard is anybody's until it is leased again.
    pub(super) const fn works_no_more(&mut self) {
        self.state.works_at = None;
    }

    /// A connection ends.
    pub(super) fn lose_state(&mut self, turn: &mut Turn<'_>) {
        if let Some(will) = self.state.will.take() {
            turn.history.leave(will, turn.now);
        }
    }

    /// Nothing new is begun any more.
    pub(crate) fn drain(&mut self, history: &mut crate::history::History) {
        self.drains = true;
        if self.role == Role::Looks {
            // Once more, when everything is over.
            self.state.looks = false;
            self.state.life += 1;
            history.kept.is_to_look(self.number);
        }
    }

    pub(super) fn act_state(&mut self, turn: &mut Turn<'_>) {
        if self.waits() {
            return;
        }
        match self.role {
            Role::Retains => self.retain(turn),
            Role::Looks => self.look(turn),
            Role::Departs => self.depart(turn),
            Role::Works => self.work(turn),
            _ => {}
        }
    }

    /// One update after the other, or their order would mean nothing.
    fn retain(&mut self, turn: &mut Turn<'_>) {
        if !self.sends_more(turn) {
            return;
        }
        let number = (!self.random.percent(10)).then(|| self.fresh(Target::Kept, turn));
        let update = turn.history.kept.update(self.number, number);
        let question = match number {
            Some(number) => Question::Keep(number, update),
            None => Question::Update(update),
        };
        let token = self.ask(Asked::State(question));
        let content = number.map_or_else(Bytes::new, |number| {
            body(number, turn.history.len_of(number))
        });
        let mut message = Message::new(Address::topic(VhostId::ROOT, kept(self.number)), content);
        message.durable = true;
        message.qos = 1;
        message.retain = true;
        self.push(Command::Publish(published_as(Some(token), message)));
    }

    fn open(&mut self, clean_start: bool, will: Option<Box<Will>>) {
        let expiry = if will.is_some() && self.random.percent(50) {
            ClientExpiry::AfterMs(WILL_DELAY_MAX + self.random.spread(1, 5_000))
        } else {
            ClientExpiry::Never
        };
        let token = self.ask(Asked::State(Question::Open));
        self.push(Command::OpenClient(Box::new(OpenClient {
            token,
            client_id: format!("client-{}-{}", self.number, self.state.life).into(),
            clean_start,
            expiry,
            window: 20,
            message_len_max: None,
            will,
        })));
    }

    fn look(&mut self, turn: &mut Turn<'_>) {
        if self.state.looks {
            let over = turn.history.kept.is_content(self.number) || self.random.percent(5);
            if self.state.is_open && !self.drains && over {
                self.state.looks = false;
                self.state.life += 1;
                self.push(Command::CloseClient {
                    publish_will: false,
                    expiry: Some(ClientExpiry::AfterMs(1)),
                });
                self.state.is_open = false;
                self.state.parts = true;
            }
            return;
        }
        if self.state.is_open || self.state.parts {
            // A client session is for one look; a connection for one client session.
            self.hang_up(turn);
            return;
        }
        turn.history.kept.is_to_look(self.number);
        self.open(true, None);
        let token = self.ask(Asked::State(Question::Look(turn.now, self.state.life)));
        let levels = [FilterLevel::Exact(name(Target::Kept)), FilterLevel::One];
        let filter = Filter::Pattern(Pattern(levels.to_vec()));
        self.subscribe_as(token, ConsumerId::CLIENT, Source::Topic { filter });
    }

    fn depart(&mut self, turn: &mut Turn<'_>) {
        if self.state.parts {
            return;
        }
        if self.state.is_open {
            if self.drains || self.random.percent(15) {
                self.hang_up(turn);
            } else if self.random.percent(15) {
                self.part(turn);
            }
            return;
        }
        if !self.sends_more(turn) {
            return;
        }
        // It may be back under its old name, before its will is due.
        if self.random.percent(70) {
            self.state.life += 1;
        }
        let number = self.fresh(Target::Wills, turn);
        let delay_ms = if self.random.percent(50) {
            0
        } else {
            self.random.spread(10, WILL_DELAY_MAX)
        };
        self.comes_back(turn);
        turn.history.wills.ask(number, delay_ms);
        self.state.will = Some(number);
        self.state.wills.push((self.state.life, number));
        let address = Address::topic(VhostId::ROOT, Levels::one(name(Target::Wills)));
        let mut message = Message::new(address, body(number, turn.history.len_of(number)));
        message.durable = true;
        message.qos = 1;
        let will = Will {
            message: Arc::new(message),
            delay_ms,
            ttl_ms: None,
        };
        self.open(false, Some(Box::new(will)));
    }

    /// Wills that it had under this name, and that are not due yet, are gone; others are not.
    fn comes_back(&mut self, turn: &mut Turn<'_>) {
        for &(life, will) in &self.state.wills {
            if life == self.state.life {
                turn.history.doubt_will(will);
            }
        }
    }

    fn part(&mut self, turn: &mut Turn<'_>) {
        let Some(will) = self.state.will else { return };
        turn.history.wills.in_doubt(will);
        self.state.parts = true;
        self.push(Command::CloseClient {
            publish_will: false,
            expiry: None,
        });
        let token = self.ask(Asked::State(Question::Goodbye));
        let lane = Lane(0);
        self.push(Command::Fence { token, lane });
    }

    fn work(&mut self, turn: &mut Turn<'_>) {
        if self.state.idles > 0 {
            self.state.idles -= 1;
            return;
        }
        let renews = self.random.percent(10);
        let Some(next) = self.state.works_at.filter(|_| !renews) else {
            let ms = self.random.between(1_000, SHARD_LEASE_MAX);
            let owner = self.owner();
            if turn.history.workers.is_none() || self.random.percent(10) {
                let start = StreamStart::First;
                let token = self.ask(Asked::State(Question::Group(turn.now)));
                self.group(token, GroupTo::Create { start });
            } else {
                let shard = ShardNo(0);
                let token = self.ask(Asked::State(Question::Lease(turn.now, ms)));
                self.group(token, GroupTo::Lease { shard, owner, ms });
            }
            return;
        };
        if !self.drains && self.random.percent(5) {
            // It goes, and says so, or hangs.
            self.state.works_at = None;
            self.state.idles = self.random.below(20);
            if self.random.percent(50) {
                if let Some(workers) = &mut turn.history.workers {
                    workers.give_back(self.number);
                }
                let token = self.ask(Asked::State(Question::Group(turn.now)));
                let (shard, owner) = (ShardNo(0), self.owner());
                self.group(token, GroupTo::Yield { shard, owner });
            }
            return;
        }
        let token = self.ask(Asked::State(Question::Read));
        self.push(Command::ReadStream(Box::new(ReadStream {
            token,
            lane: Lane(0),
            stream: name(Target::Stream),
            id: None,
            shard: ShardNo(0),
            from: StreamStart::Offset(next),
            count: 10,
            bytes_max: 1 << 20,
            wait_ms: 0,
            limited: false,
        })));
    }

    fn owner(&self) -> Bytes {
        format!("worker-{}", self.number).into()
    }

    fn group(&mut self, token: session::Token, to: GroupTo) {
        self.push(Command::Group {
            token,
            lane: Lane(0),
            stream: name(Target::Stream),
            group: Bytes::from_static(GROUP),
            to: Box::new(to),
        });
    }

    /// A message of a topic that keeps them.
    pub(super) fn deliver_kept(
        &mut self,
        delivery: &Delivery,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let writer = delivery.message.address.key.level(1);
        let topic = writer
            .and_then(|level| std::str::from_utf8(level).ok())
            .and_then(|level| level.parse().ok())
            .ok_or_else(|| "nothing from nowhere: a topic that nobody writes to".to_owned())?;
        // That nothing is kept any more is told without a body.
        if !delivery.message.body.is_empty() {
            let number = turn.history.number(&delivery.message.body)?;
            let by = self.number;
            turn.history.kept.show(by, topic, number, delivery)?;
            turn.history.received += 1;
            if delivery.retain {
                turn.history.sees("retained messages");
            }
        }
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        event: Event,
        question: Question,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let now = turn.now;
        match (event, question) {
            (Event::Published { outcome, .. }, Question::Keep(number, update)) => {
                if matches!(outcome, session::PublishOutcome::Accepted { .. }) {
                    turn.history.confirm(number, origin, now)?;
                    turn.history.kept.confirm(self.number, update, origin, now);
                }
            }
            (Event::Published { outcome, .. }, Question::Update(update)) => {
                if matches!(outcome, session::PublishOutcome::Accepted { .. }) {
                    turn.history.kept.confirm(self.number, update, origin, now);
                }
            }
            (Event::Opened { present, .. }, Question::Open) => {
                if self.state.looks && !present {
                    return Err(format!(
                        "last one kept: the session of {} is gone, with its subscription",
                        self.number
                    ));
                }
                self.state.is_open = true;
                turn.history.progress(now);
                if let Some(will) = self.state.will {
                    turn.history.wills.opened(will, origin);
                }
            }
            // It may have wanted to look anew meanwhile.
            (Event::Subscribed { .. }, Question::Look(asked, life)) if life == self.state.life => {
                self.state.looks = true;
                turn.history.kept.look(self.number, asked, origin);
            }
            (Event::Refused { .. }, Question::Open | Question::Look(..)) => self.hang_up(turn),
            (Event::Reached { .. }, Question::Goodbye) => {
                if let Some(will) = self.state.will.take() {
                    turn.history.wills.discarded(will);
                    turn.history.sees("wills that were dropped");
                }
                self.hang_up(turn);
            }
            (Event::Group { group, .. }, question) => {
                if matches!(question, Question::Checkpoint(..)) {
                    turn.history.sees("checkpoints");
                }
                self.hears_of_group(&group, &question, origin, turn)?;
            }
            (Event::Records { records, .. }, Question::Read) => {
                let Some(at) = self.state.works_at else {
                    return Ok(());
                };
                let mut next = at.max(records.shard.first_offset);
                for record in &records.records {
                    turn.history
                        .read(next, record.offset, &record.message.body)?;
                    next = record.offset + 1;
                }
                if next > at {
                    let workers = turn.history.workers.get_or_insert_default();
                    workers.ask(next);
                    let token = self.ask(Asked::State(Question::Checkpoint(now, next)));
                    let (shard, owner) = (ShardNo(0), self.owner());
                    self.group(token, GroupTo::Checkpoint { shard, owner, next });
                }
            }
            (Event::Refused { refusal, .. }, Question::Checkpoint(..) | Question::Read) => {
                debug_assert_ne!(refusal.kind, RefusalKind::InvalidArgument, "{refusal}");
                self.state.works_at = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn hears_of_group(
        &mut self,
        group: &GroupInfo,
        question: &Question,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let now = turn.now;
        let trust = turn.history.trust;
        let workers = turn.history.workers.get_or_insert_with(Workers::default);
        let [shard] = &group.shards[..] else {
            return Err(format!("a stream of one shard has {:?}", group.shards));
        };
        match *question {
            Question::Group(asked) => workers.see(shard, (asked, now), origin),
            Question::Lease(asked, ms) => {
                workers.see(shard, (asked, now), origin)?;
                self.state.works_at = Some(shard.next);
                let hand = (self.number, shard.counter);
                workers.lease(hand, (asked, now), ms, trust)
            }
            Question::Checkpoint(asked, next) => {
                workers.see(shard, (asked, now), origin)?;
                workers.confirm(next, origin, now);
                if self.state.works_at.is_some() {
                    self.state.works_at = Some(next);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The topic of one writer.
fn kept(writer: usize) -> Levels {
    Levels::collect([&b"kept"[..], writer.to_string().as_bytes()]).expect("it is short")
}
