//! What is due: delays and leases that are over, expiry, queues unused for too long, sessions that end, wills.
//!
//! The ends of delays and leases follow from deadlines and make no record; the others do (RULES 8). The timers are filled
//! by `apply`, and a deadline that turns out to need nothing is postponed or dropped.

use message::Timestamp;
use session::{DeathReason, QueueId};

use super::{draft::Draft, pump::was_sent};
use crate::{
    Broker, Context, Decision,
    change::{ClientEnded, Kind},
    counters::Tally,
    durable::Client,
    soft::Timer,
};

impl Broker {
    /// Decides at most about `limit` of what is due: `true` when more is.
    pub fn decide_tick(&self, cx: &Context, limit: usize, out: &mut Decision) -> bool {
        let mut draft = Draft::new(cx, out);
        let more = self.tick(limit, &mut draft);
        self.make_room(&mut draft);
        more
    }

    fn tick(&self, limit: usize, draft: &mut Draft<'_>) -> bool {
        let timers = &self.soft.timers;
        if timers.next().is_none_or(|at| at > draft.now) {
            return false;
        }
        if !timers.is_ready(draft.now) {
            draft.change(Kind::Turned(draft.now));
            return true;
        }
        let mut left = limit.max(1);
        let mut others = false;
        for timer in timers.due() {
            if timer.0 > draft.now {
                return false;
            }
            if left == 0 {
                return true;
            }
            // What becomes available this instant still serves a pull whose time is over.
            let pull = matches!(timer.1, Timer::Pull(..) | Timer::Read(..));
            if others && (pull || self.may_publish(timer.1)) {
                return true;
            }
            others |= !pull;
            left = left.saturating_sub(self.due(*timer, left, draft).max(1));
        }
        // Everything known was due; what this decision leaves behind shows in the next deadline.
        left == 0 || !timers.has_come_to(draft.now)
    }

    /// Whether that deadline can come to a will. What came back to a queue at the same time counts when the will asks for room.
    fn may_publish(&self, timer: Timer) -> bool {
        match timer {
            Timer::Will(number) | Timer::ClientEnd(number) => {
                self.client(number).is_some_and(|it| it.will.is_some())
            }
            _ => false,
        }
    }

    /// Decides what one deadline comes to, and says how many entries that took. A will is the last of its decision.
    fn due(&self, timer: (Timestamp, Timer), left: usize, draft: &mut Draft<'_>) -> usize {
        match timer.1 {
            Timer::Visible(queue, qseq) => self.due_visible(timer, queue, qseq, draft),
            Timer::Expiry(queue, qseq) => self.due_expiry(timer, queue, qseq, draft),
            Timer::Age(queue) => return self.due_age(timer, queue, left, draft),
            Timer::DeadLetter(queue, qseq, reason) => {
                postpone(timer, None, draft);
                if self.is_aside(queue, qseq) {
                    self.dead_letter(queue, qseq, reason, draft);
                }
            }
            Timer::Pull(session, token) => {
                self.end_pull(session, token, draft);
                postpone(timer, None, draft);
            }
            Timer::Read(session, token) => {
                self.end_read(session, token, draft);
                postpone(timer, None, draft);
            }
            Timer::Regroup(stream) => {
                draft.change(Kind::Regroup(stream));
                postpone(timer, None, draft);
            }
            Timer::Trim(stream) => return self.due_trim(timer, stream, left, draft),
            Timer::Grow(stream) => self.due_grow(timer, stream, draft),
            Timer::DoomedTopic(topic) => {
                return self.due_doomed_topic(timer, topic, left, draft);
            }
            Timer::Move(queue, number) => self.due_move(timer, (queue, number), draft),
            Timer::Unused(queue) => self.due_unused(timer, queue, draft),
            Timer::ClientEnd(number) => {
                let due = |client: &&Client| client.ends_at == Some(timer.0);
                if let Some(client) = self.client(number).filter(due) {
                    if let Some(will) = &client.will {
                        self.publish_will(number, will, draft);
                    }
                    self.end_client(number, draft);
                    if client.will.is_some() {
                        return left;
                    }
                } else {
                    postpone(timer, None, draft);
                }
            }
            Timer::Will(number) => {
                let due = |client: &&Client| client.will_at == Some(timer.0);
                let Some(client) = self.client(number).filter(due) else {
                    postpone(timer, None, draft);
                    return 1;
                };
                // The session may end at this very time: its end publishes the will.
                if client.ends_at.is_some_and(|ends_at| ends_at <= draft.now) {
                    postpone(timer, None, draft);
                    return 1;
                }
                if let Some(will) = &client.will {
                    self.publish_will(number, will, draft);
                }
                let published = client.will.is_some();
                draft.change(Kind::WillDone(ClientEnded {
                    client: number,
                    doomed: false,
                }));
                if published {
                    return left;
                }
            }
        }
        1
    }

    fn due_visible(
        &self,
        timer: (Timestamp, Timer),
        id: QueueId,
        qseq: u64,
        draft: &mut Draft<'_>,
    ) {
        let Some(view) = self.queue(id).and_then(|_| self.entry(id, qseq)) else {
            return postpone(timer, None, draft);
        };
        if view.rare.and_then(|rare| rare.visible_at) != Some(timer.0) {
            return postpone(timer, None, draft);
        }
        let leased = self.soft_queue(id).out.contains(qseq);
        let spent = self
            .queue(id)
            .is_some_and(|queue| self.is_spent(queue, view.count));
        if leased && spent {
            self.dead_letter(id, qseq, DeathReason::Deliveries, draft);
            postpone(timer, None, draft);
        } else {
            draft.change(Kind::Visible { queue: id, qseq });
        }
    }

    fn due_expiry(&self, timer: (Timestamp, Timer), id: QueueId, qseq: u64, draft: &mut Draft<'_>) {
        postpone(timer, None, draft);
        let (Some(queue), Some(view)) = (self.queue(id), self.entry(id, qseq)) else {
            return;
        };
        // [MQTT-4.3.3-13]
        if was_sent(queue, &view) {
            return;
        }
        let soft = self.soft_queue(id);
        // What is out expires when it comes back.
        if !soft.out.contains(qseq) && !soft.aside.contains(&qseq) {
            self.dead_letter(id, qseq, DeathReason::Expired, draft);
        }
    }

    /// The oldest entries of a queue with a time to live or a retention of its own.
    fn due_age(
        &self,
        timer: (Timestamp, Timer),
        id: QueueId,
        left: usize,
        draft: &mut Draft<'_>,
    ) -> usize {
        let Some(queue) = self.queue(id) else {
            postpone(timer, None, draft);
            return 1;
        };
        let attributes = queue.attributes();
        let (ttl, retention) = (attributes.ttl_ms, attributes.retention_ms);
        let soft = self.soft_queue(id);
        let mut done = 0;
        let mut until = None;
        // What is older than its place goes by its own age, the others in the order in which they came. What is out is not
        // looked at, however much it is: it is over when it comes back.
        let mut from = 0;
        let in_order = std::iter::from_fn(|| {
            let qseq = soft.next_waiting(from)?;
            from = qseq + 1;
            Some(qseq)
        });
        let elder = soft.elder.iter().map(|(_, qseq)| *qseq);
        for (elder, next) in [
            (
                true,
                &mut elder.into_iter() as &mut dyn Iterator<Item = u64>,
            ),
            (false, &mut in_order.into_iter()),
        ] {
            for qseq in next {
                if done >= left {
                    return done;
                }
                if draft.goes(id, qseq) {
                    continue;
                }
                let Some(view) = self.entry(id, qseq) else {
                    continue;
                };
                let kept_until = retention.map(|ms| view.sent().plus_ms(ms));
                let lives_until = ttl.map(|ms| view.enqueued.plus_ms(ms));
                if kept_until.is_some_and(|until| until <= draft.now) {
                    if draft.entry_goes(self, id, qseq, view.len) {
                        self.drop_entry(id, qseq, view.soft, Tally::DroppedExpired, draft);
                    }
                } else if lives_until.is_some_and(|until| until <= draft.now) {
                    self.dead_letter(id, qseq, DeathReason::Expired, draft);
                } else {
                    let ends = if elder {
                        kept_until
                    } else {
                        earlier(kept_until, lives_until)
                    };
                    until = earlier(until, ends);
                    break;
                }
                done += 1;
            }
        }
        postpone(timer, until, draft);
        done
    }

    fn due_unused(&self, timer: (Timestamp, Timer), id: QueueId, draft: &mut Draft<'_>) {
        let Some(queue) = self.queue(id) else {
            return postpone(timer, None, draft);
        };
        let Some(expires) = queue.attributes().expires_ms else {
            return postpone(timer, None, draft);
        };
        let soft = self.soft_queue(id);
        let until = if soft.consumers.is_empty() {
            soft.last_used.plus_ms(expires)
        } else {
            draft.now.plus_ms(expires)
        };
        if until > draft.now {
            return postpone(timer, Some(until), draft);
        }
        self.delete_queue(id, draft);
        postpone(timer, None, draft);
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

pub(super) fn postpone(was: (Timestamp, Timer), until: Option<Timestamp>, draft: &mut Draft<'_>) {
    // First of all: what the same decision puts into a queue sets the queue's deadline anew.
    draft.change_first(Kind::Postponed { was, until });
}
