//! SQS as it is described: a list of messages, looked at from the front, beside a list of dead ones.

use session::QueueAttributes;

/// From so many messages out of a group on, and more than so much of all that are out, others go before it.
const NOISY_OUT_MIN: usize = 30;
const NOISY_SHARE_PERCENT: usize = 10;

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// No other has it, also not the same text when it was moved back.
    pub(crate) number: u64,
    pub(crate) text: String,
    /// 0: none.
    pub(crate) group: u8,
    pub(crate) count: u32,
    pub(crate) visible_at: u64,
    /// It was received, and is invisible for that.
    pub(crate) out: bool,
    pub(crate) sent: u64,
}

/// What a receive that named an attempt got.
#[derive(Debug)]
struct Attempt {
    name: u8,
    time: u64,
    got: Vec<(u64, u32)>,
}

/// A task that moves dead messages back.
#[derive(Debug)]
pub(crate) struct Task {
    /// What died later stays.
    below: u64,
    next_at: u64,
    slice: usize,
    interval: u64,
}

/// A receive.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub(crate) count: u32,
    pub(crate) lease: u64,
    pub(crate) attempt: Option<u8>,
}

/// What a receive got of one message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) number: u64,
    pub(crate) text: String,
    pub(crate) count: u32,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct NaiveQueue {
    pub(crate) at: QueueAttributes,
    pub(crate) now: u64,
    /// How long dedup ids and attempts are remembered.
    window: u64,
    pub(crate) messages: Vec<Message>,
    pub(crate) dead: Vec<Message>,
    pub(crate) task: Option<Task>,
    seen: Vec<((u8, u8), u64)>,
    attempts: Vec<Attempt>,
    next: u64,
}

impl NaiveQueue {
    pub(crate) fn new(at: QueueAttributes, now: u64, window: u64) -> Self {
        Self {
            at,
            now,
            window,
            ..Self::default()
        }
    }

    pub(crate) const fn is_fifo(&self) -> bool {
        self.at.fifo.is_some()
    }

    // ---- sending

    /// Whether it was taken: a repeat is not.
    pub(crate) fn send(&mut self, text: &str, group: u8, delay: u64, dedup: Option<u8>) -> bool {
        if let (Some(fifo), Some(id)) = (self.at.fifo, dedup) {
            let key = (if fifo.dedup_per_group { group } else { 0 }, id);
            let (now, window) = (self.now, self.window);
            self.seen.retain(|(_, time)| now < time + window);
            if self.seen.iter().any(|(known, _)| *known == key) {
                return false;
            }
            self.seen.push((key, now));
        }
        let delay = if delay == 0 { self.at.delay_ms } else { delay };
        let visible_at = self.now + delay;
        self.enter(text.to_owned(), group, visible_at);
        true
    }

    fn enter(&mut self, text: String, group: u8, visible_at: u64) {
        self.next += 1;
        self.messages.push(Message {
            number: self.next,
            text,
            group,
            count: 0,
            visible_at,
            out: false,
            sent: self.now,
        });
    }

    // ---- receiving

    fn is_visible(&self, message: &Message) -> bool {
        message.visible_at <= self.now && !message.out
    }

    /// Strictly: what is too old from this very millisecond on may still be received.
    fn is_too_old(&self, message: &Message) -> bool {
        let kept = self.at.retention_ms;
        kept.is_some_and(|kept| message.sent + kept < self.now)
    }

    pub(crate) fn receive(&mut self, receive: &Receive) -> Vec<Got> {
        let attempt = receive.attempt.filter(|_| self.is_fifo());
        if let Some(again) = attempt.and_then(|name| self.again(name, receive.lease)) {
            return again;
        }
        let order = if self.is_fifo() {
            self.by_groups()
        } else {
            self.fairly()
        };
        let mut got = Vec::new();
        let mut gone = Vec::new();
        for at in order {
            if got.len() == receive.count as usize {
                break;
            }
            let until = self.now + receive.lease;
            if self.is_too_old(&self.messages[at]) {
                gone.push(self.messages[at].number);
                continue;
            }
            let message = &mut self.messages[at];
            message.count += 1;
            message.out = true;
            message.visible_at = until;
            got.push(Got {
                number: message.number,
                text: message.text.clone(),
                count: message.count,
            });
        }
        self.remove(|m| gone.contains(&m.number));
        for it in &got {
            self.forget(it.number);
        }
        if let Some(name) = attempt.filter(|_| !got.is_empty()) {
            self.attempts.retain(|attempt| attempt.name != name);
            self.attempts.push(Attempt {
                name,
                time: self.now,
                got: got.iter().map(|it| (it.number, it.count)).collect(),
            });
        }
        got
    }

    /// What an attempt got before, under a new lease, if nothing has become of it and none of it is too old.
    fn again(&mut self, name: u8, lease: u64) -> Option<Vec<Got>> {
        let (now, window) = (self.now, self.window);
        let known = |attempt: &&Attempt| attempt.name == name && now < attempt.time + window;
        let got = self.attempts.iter().find(known)?.got.clone();
        let mut again = Vec::new();
        for (number, _) in &got {
            let message = self.find(*number)?.clone();
            if self.is_too_old(&message) {
                return None;
            }
        }
        for (number, count) in &got {
            let message = self.find(*number)?;
            message.out = true;
            message.visible_at = now + lease;
            again.push(Got {
                number: *number,
                text: message.text.clone(),
                count: *count,
            });
        }
        Some(again)
    }

    /// Whole runs of groups that have nothing out, the group with the oldest first.
    fn by_groups(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        for (at, message) in self.messages.iter().enumerate() {
            let mates = |other: &Message| other.group == message.group;
            if !self.is_visible(message)
                || order.contains(&at)
                || self.messages.iter().any(|other| mates(other) && other.out)
            {
                continue;
            }
            let run = self.messages.iter().enumerate();
            let run = run.filter(|(_, other)| mates(other) && self.is_visible(other));
            order.extend(run.map(|(at, _)| at));
        }
        order
    }

    /// One after the other; a group that has very many out waits for the others.
    fn fairly(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        let mut noisy: Vec<u8> = Vec::new();
        loop {
            let of = |group: u8| {
                let mates = |at: &&usize| self.messages[**at].group == group;
                let out = |m: &&Message| m.out && m.group == group;
                self.messages.iter().filter(out).count() + order.iter().filter(mates).count()
            };
            let all = self.messages.iter().filter(|m| m.out).count() + order.len();
            let left = self.messages.iter().enumerate();
            let left = left.filter(|(at, m)| self.is_visible(m) && !order.contains(at));
            let mut left: Vec<_> = left.collect();
            left.sort_by_key(|(at, m)| noisy.contains(&m.group).then(|| (of(m.group), *at)));
            let Some((at, message)) = left.first().copied() else {
                return order;
            };
            let out = of(message.group);
            let share = out * 100 > all * NOISY_SHARE_PERCENT;
            let waits = noisy.contains(&message.group);
            if !waits && message.group != 0 && out >= NOISY_OUT_MIN && share {
                noisy.push(message.group);
            } else {
                order.push(at);
            }
        }
    }

    // ---- what becomes of messages

    pub(crate) fn find(&mut self, number: u64) -> Option<&mut Message> {
        self.messages.iter_mut().find(|m| m.number == number)
    }

    /// Something became of a message: no attempt gets it again.
    pub(crate) fn forget(&mut self, number: u64) {
        let got = |attempt: &Attempt| attempt.got.iter().any(|(n, _)| *n == number);
        self.attempts.retain(|attempt| !got(attempt));
    }

    /// Those go, and are given.
    pub(crate) fn remove(&mut self, goes: impl Fn(&Message) -> bool) -> Vec<Message> {
        let (gone, left) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|m| goes(m));
        self.messages = left;
        let gone: Vec<Message> = gone;
        for message in &gone {
            self.forget(message.number);
        }
        gone
    }

    // ---- time

    /// What is too old goes, but for what is out.
    pub(crate) fn age(&mut self) {
        if let Some(retention) = self.at.retention_ms {
            let now = self.now;
            self.remove(|m| !m.out && m.sent + retention <= now);
        }
    }

    /// Time passes: to where something is due, at most a millisecond.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.age();
        self.lapse();
    }

    /// What is due now happens, but for what is too old.
    pub(crate) fn lapse(&mut self) {
        let now = self.now;
        for message in &mut self.messages {
            message.out &= message.visible_at > now;
        }
        // A lease that lapses after the last delivery allowed is the end of it.
        let max = self.at.deliveries_max.unwrap_or(u32::MAX);
        let spent = self.remove(|m| m.count >= max && m.visible_at <= now && !m.out);
        for message in spent {
            self.next += 1;
            self.dead.push(Message {
                number: self.next,
                ..message
            });
        }
        self.move_slice();
    }

    // ---- moving back

    /// Whether no other task runs.
    pub(crate) fn start(&mut self, per_second: Option<u32>) -> bool {
        if self.task.is_some() {
            return false;
        }
        let (slice, interval) = match per_second {
            None => (256, 1),
            Some(rate) => {
                let slice = (rate / 10).max(1);
                (
                    slice as usize,
                    u64::from(slice * 1000).div_ceil(rate.into()),
                )
            }
        };
        self.task = Some(Task {
            below: self.next,
            next_at: self.now,
            slice,
            interval,
        });
        true
    }

    /// The node was restarted from a snapshot of that time: the task goes on when it would after a slice then.
    pub(crate) fn resume(&mut self, time: u64) {
        if let Some(task) = &mut self.task {
            task.next_at = time + task.interval;
        }
    }

    fn move_slice(&mut self) {
        let Some(task) = self.task.as_mut().filter(|task| task.next_at <= self.now) else {
            return;
        };
        let (below, slice) = (task.below, task.slice);
        task.next_at = self.now + task.interval;
        let mut old: Vec<Message> = self.dead.clone();
        old.retain(|m| m.number <= below);
        if self.is_fifo() {
            let first = |group: u8| self.dead.iter().position(|m| m.group == group);
            old.sort_by_key(|m| first(m.group));
        }
        if old.len() < slice {
            self.task = None;
        }
        old.truncate(slice);
        for message in old {
            self.dead.retain(|m| m.number != message.number);
            self.enter(message.text, message.group, self.now);
        }
    }
}
