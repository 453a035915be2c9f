//! Tasks that move messages out of a dead-letter queue: how far they have come, and when they go on.

use message::Timestamp;
use session::{MoveState, QueueId};

use crate::{
    Broker,
    change::{MoveStarted, Moved},
    soft::Timer,
};

impl Broker {
    pub(super) fn apply_move_started(&mut self, it: &MoveStarted, now: Timestamp) {
        if !self.durable.queues.contains_key(&it.queue) {
            return;
        }
        for number in &it.forgets {
            self.durable.moves.remove(&(it.queue, *number));
        }
        self.durable.next_move = self.durable.next_move.max(it.number + 1);
        self.durable
            .moves
            .insert((it.queue, it.number), it.task.clone());
        self.move_at((it.queue, it.number), Some(now));
    }

    pub(super) fn apply_moved(&mut self, it: &Moved, now: Timestamp) {
        let key = (it.queue, it.number);
        let Some(task) = self.durable.moves.get_mut(&key) else {
            return;
        };
        task.moved = it.moved;
        task.state = it.state;
        task.failure.clone_from(&it.failure);
        let next = (it.state == MoveState::Running).then(|| now.plus_ms(task.interval_ms()));
        self.move_at(key, next);
    }

    /// Says when a task goes on.
    pub(super) fn move_at(&mut self, key: (QueueId, u64), at: Option<Timestamp>) {
        let was = match at {
            Some(at) => self.soft.moving.insert(key, at),
            None => self.soft.moving.remove(&key),
        };
        let timer = Timer::Move(key.0, key.1);
        if let Some(was) = was {
            self.soft.timers.remove(&(was, timer));
        }
        if let Some(at) = at {
            self.soft.timers.insert((at, timer));
        }
    }

    /// After a snapshot: the tasks that run go on.
    pub(crate) fn index_moves(&mut self) {
        let running: Vec<_> = self
            .durable
            .moves
            .iter()
            .filter(|(_, task)| task.state == MoveState::Running)
            .map(|(key, task)| (*key, task.interval_ms()))
            .collect();
        for (key, interval_ms) in running {
            let next = self.durable.time.plus_ms(interval_ms);
            self.move_at(key, Some(next));
        }
    }

    /// A queue goes, and what was to be moved out of it.
    pub(super) fn forget_moves(&mut self, queue: QueueId) {
        let all = self.durable.moves.range((queue, 0)..=(queue, u64::MAX));
        let keys: Vec<_> = all.map(|(key, _)| *key).collect();
        for key in keys {
            self.durable.moves.remove(&key);
            self.move_at(key, None);
        }
    }
}
