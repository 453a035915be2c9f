//! Clients of what is handed over in two steps, as MQTT has it at QoS 2: PUBLISH, PUBREC, PUBREL, PUBCOMP, either way.

use std::collections::BTreeMap;

use message::{Address, Levels, Message, VhostId};
use session::{
    ClientExpiry, Command, Delivery, DeliveryId, DeliveryRange, Event, Lane, OpenClient, Outcome,
    PublishOutcome, RefusalKind, Settle,
};
use smallvec::smallvec;

use super::{Asked, Client, Role, Turn, name, published_as};
use crate::history::{self, Origin, Target};

/// Ids that are in use at a time: few, so that each is used again soon.
const IDS: usize = 4;

/// What an answer is an answer to.
#[derive(Debug)]
pub(super) enum Step {
    /// A publish under that id.
    Publish(u16),
    /// That a delivery is received (PUBREC), or complete (PUBCOMP).
    Settle(DeliveryId, bool),
}

/// An id under which something is published.
#[derive(Debug)]
struct Id {
    number: u64,
    /// It was told that this is taken.
    taken: bool,
    /// It has begun to give the id back.
    releases: bool,
    /// In this connection there is an answer to wait for.
    asked: bool,
}

/// What a client has that its connection does not end with.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// It had a client session.
    had_session: bool,
    ids: BTreeMap<u16, Id>,
    /// Deliveries of this connection that it says nothing of yet, and whether the next step is the last.
    owes: Vec<(DeliveryId, bool)>,
}

impl Steps {
    /// Whether there is an answer to wait for that no token is for.
    pub(super) fn waits(&self) -> bool {
        self.ids.values().any(|id| id.asked)
    }

    /// A connection begins.
    pub(super) fn begin(&mut self) {
        self.owes.clear();
        self.ids.values_mut().for_each(|id| id.asked = false);
    }

    /// A client session that never ends is open.
    pub(super) fn opened(&mut self, present: bool) -> Result<(), String> {
        if self.had_session && !present {
            return Err("confirmed is there: a session is gone".to_owned());
        }
        self.had_session = true;
        Ok(())
    }
}

impl Client {
    /// Opens its client session, which never ends.
    pub(super) fn resume(&mut self) {
        let token = self.ask(Asked::Setup);
        self.push(Command::OpenClient(Box::new(OpenClient {
            token,
            client_id: format!("session-{}", self.number).into(),
            clean_start: false,
            expiry: ClientExpiry::Never,
            window: 20,
            message_len_max: None,
            will: None,
        })));
    }

    pub(super) fn act_in_steps(&mut self, turn: &mut Turn<'_>) {
        if self.role != Role::Hands {
            for (id, complete) in std::mem::take(&mut self.steps.owes) {
                if self.drains || self.random.percent(50) {
                    self.say(id, complete, turn);
                } else {
                    self.steps.owes.push((id, complete));
                }
            }
            return;
        }
        let ids: Vec<u16> = self.steps.ids.keys().copied().collect();
        for id in ids {
            self.go_on_with(id, turn);
        }
        if self.steps.ids.len() < IDS && self.sends_more(turn) && self.random.percent(70) {
            let number = self.fresh(Target::Exact, turn);
            let mut free = 1..=u16::MAX;
            let id = free.find(|id| !self.steps.ids.contains_key(id));
            let id = id.expect("few are in use");
            let new = Id {
                number,
                taken: false,
                releases: false,
                asked: false,
            };
            self.steps.ids.insert(id, new);
            self.go_on_with(id, turn);
        }
    }

    /// Says what comes next of an id, unless it waits for an answer, or takes its time.
    fn go_on_with(&mut self, id: u16, turn: &mut Turn<'_>) {
        // A PUBREC that it saw it may have forgotten all the same.
        let (hesitates, forgets) = (self.random.percent(40), self.random.percent(30));
        let Some(it) = self.steps.ids.get_mut(&id) else {
            return;
        };
        if it.asked || it.taken && !it.releases && hesitates && !forgets && !self.drains {
            return;
        }
        it.asked = true;
        if it.releases || it.taken && !(hesitates && forgets) {
            it.releases = true;
            turn.history.exact.release(self.number, id);
            self.push(Command::ReleaseInbound { id });
            return;
        }
        let (number, taken) = (it.number, it.taken);
        turn.history.exact.publish(self.number, id, number);
        if taken {
            turn.history
                .sees("exactly-once publishes that were repeated");
        }
        let token = self.ask(Asked::Step(Step::Publish(id)));
        let body = history::body(number, turn.history.len_of(number));
        let address = Address::topic(VhostId::ROOT, Levels::one(name(Target::Exact)));
        let mut message = Message::new(address, body);
        message.durable = true;
        message.qos = 2;
        let mut publish = published_as(Some(token), message);
        publish.inbound_id = Some(id);
        self.push(Command::Publish(publish));
    }

    /// An id is free again.
    pub(super) fn freed(
        &mut self,
        id: u16,
        known: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        self.steps.ids.remove(&id);
        turn.history.progress(turn.now);
        turn.history.exact.released(self.number, id, known)
    }

    /// Its session is resumed: it had received these.
    pub(super) fn resumed(
        &mut self,
        received: &[DeliveryId],
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        turn.history.exact.resume(self.number + 1, received)?;
        for id in received {
            turn.history.sees("deliveries that were half done");
            self.steps.owes.push((*id, true));
        }
        Ok(())
    }

    /// A delivery that is handed over in steps.
    pub(super) fn deliver_in_steps(&mut self, delivery: &Delivery, turn: &mut Turn<'_>) {
        let Some(id) = delivery.id else { return };
        if delivery.resent {
            turn.history
                .sees("exactly-once deliveries that were resent");
        }
        self.say_or_owe(id, false, turn);
    }

    fn say_or_owe(&mut self, id: DeliveryId, complete: bool, turn: &mut Turn<'_>) {
        if self.drains || self.random.percent(60) {
            self.say(id, complete, turn);
        } else {
            self.steps.owes.push((id, complete));
        }
    }

    fn say(&mut self, id: DeliveryId, complete: bool, turn: &mut Turn<'_>) {
        turn.history.exact.says(self.number + 1, id, complete);
        let token = self.ask(Asked::Step(Step::Settle(id, complete)));
        self.push(Command::Settle(Settle {
            token: Some(token),
            lane: Lane(0),
            deliveries: DeliveryRange {
                queue: id.queue,
                ranges: smallvec![(id.qseq, id.qseq)],
            },
            outcome: if complete {
                Outcome::Accept
            } else {
                Outcome::Received
            },
        }));
    }

    pub(super) fn stepped(
        &mut self,
        event: Event,
        step: Step,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let by = self.number + 1;
        match (event, step) {
            (Event::Published { outcome, .. }, Step::Publish(id)) => {
                self.is_taken(id, &outcome, origin, turn)
            }
            (Event::Settled { .. }, Step::Settle(id, complete)) => {
                turn.history.exact.knows(by, id, complete, origin);
                if !complete {
                    self.say_or_owe(id, true, turn);
                }
                Ok(())
            }
            (Event::Refused { refusal, .. }, Step::Settle(id, _))
                if refusal.kind == RefusalKind::UnknownDelivery =>
            {
                Err(format!(
                    "exactly once: {id:?} is out to {by}, and unknown: {refusal}"
                ))
            }
            _ => {
                self.hang_up(turn);
                Ok(())
            }
        }
    }

    fn is_taken(
        &mut self,
        id: u16,
        outcome: &PublishOutcome,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let Some(it) = self.steps.ids.get_mut(&id) else {
            return Ok(());
        };
        it.asked = false;
        let number = it.number;
        let (repeat, matched) = match outcome {
            PublishOutcome::Accepted { matched, .. } => (false, *matched),
            PublishOutcome::Duplicate { .. } => (true, 0),
            PublishOutcome::Refused(refusal) if refusal.kind == RefusalKind::NotActive => {
                // Nobody knows what became of it before.
                self.hang_up(turn);
                return Ok(());
            }
            PublishOutcome::Refused(_) => {
                self.steps.ids.remove(&id);
                return turn.history.exact.refused(self.number, id);
            }
        };
        it.taken = true;
        turn.history.exact.taken(self.number, id, repeat)?;
        // Of what reached nobody nothing is stored.
        if matched > 0 || turn.history.has_session(number, origin.epoch) {
            turn.history.confirm(number, origin, turn.now)?;
        }
        Ok(())
    }
}
