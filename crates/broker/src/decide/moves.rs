//! Tasks that move messages out of a dead-letter queue, in slices, at no more than so many a second.
//!
//! ```text
//! start ─► running ─► completed      nothing is left of what was there when it started
//!             ├─────► cancelled      by command; what was moved stays moved
//!             └─────► failed         where a message came from is not known, or the target is gone
//! ```
//! Only what could be delivered is moved: what is out or delayed stays, and of a FIFO queue the rest of its group with it.
//! A message that was moved is a new one in its target: its age, its count and its history begin there. Nothing is read
//! for it. While a target is full, the task waits.

use std::sync::Arc;

use message::{Address, Name, VhostId};
use session::{Event, Lane, MoveState, MoveTo, QueueId, Refusal, RefusalKind, SessionId, Token};

use super::{draft::Draft, refusal, shown, tick::postpone};
use crate::{
    Broker, Wait,
    change::{Kind, MoveStarted, Moved},
    durable::{MOVES_KEPT, MOVES_RUNNING_MAX, Move},
    queue::{Order, Rare},
    soft::Timer,
    view::View,
};

/// How long a task waits for room in its target, in ms.
const FULL_WAIT_MS: u64 = 1000;

/// Why a message is not moved.
enum Stuck {
    /// There is no room.
    Full,
    /// The task is over.
    Failed(&'static str),
}

impl Broker {
    pub(super) fn decide_move(
        &self,
        from: SessionId,
        (token, lane): (Token, Lane),
        to: &MoveTo,
        draft: &mut Draft<'_>,
    ) {
        let Some(vhost) = self.attached(from).map(|attached| attached.vhost) else {
            return;
        };
        let found = match to {
            MoveTo::Start {
                id,
                source,
                target,
                per_second,
            } => self
                .start_move(from, vhost, (source, target.as_ref()), draft)
                .map(|(queue, task)| {
                    let task = Move {
                        id: *id,
                        per_second: *per_second,
                        ..task
                    };
                    let tasks = vec![task.shown()];
                    let kept: Vec<u64> = self.moves_of(queue).map(|(number, _)| number).collect();
                    // With the new one, so many.
                    let forgets = kept.len().saturating_sub(MOVES_KEPT - 1);
                    draft.change(Kind::MoveStarted(Box::new(MoveStarted {
                        queue,
                        number: self.durable.next_move,
                        task,
                        forgets: kept[..forgets].to_vec(),
                    })));
                    tasks
                }),
            MoveTo::Cancel { id } => {
                let found = self.running_moves(vhost).find(|(_, task)| task.id == *id);
                found
                    .map(|((queue, number), task)| {
                        draft.change(Kind::Moved(Box::new(Moved {
                            queue: *queue,
                            number: *number,
                            moved: task.moved,
                            state: MoveState::Cancelled,
                            failure: None,
                        })));
                        let mut shown = task.shown();
                        shown.state = MoveState::Cancelled;
                        vec![shown]
                    })
                    .ok_or_else(|| refusal(RefusalKind::NotFound, "no such task runs"))
            }
            MoveTo::List { source } => self.source(from, vhost, source).map(|queue| {
                let mut tasks: Vec<_> =
                    self.moves_of(queue).map(|(_, task)| task.shown()).collect();
                tasks.reverse();
                tasks
            }),
        };
        match found {
            Ok(tasks) => {
                let event = Event::MoveTasks { token, tasks };
                draft.reply(from, lane, Wait::Durable, event);
            }
            Err(refusal) => self.refuse(from, lane, token, refusal, draft),
        }
    }

    fn source(&self, from: SessionId, vhost: VhostId, name: &Name) -> Result<QueueId, Refusal> {
        let Some(id) = self.named(vhost, name) else {
            let missing = format!("no queue '{}'", shown(name));
            return Err(refusal(RefusalKind::NotFound, missing));
        };
        self.check_owner(id, from)?;
        Ok(id)
    }

    fn start_move(
        &self,
        from: SessionId,
        vhost: VhostId,
        (source, target): (&Name, Option<&Name>),
        draft: &Draft<'_>,
    ) -> Result<(QueueId, Move), Refusal> {
        let id = self.source(from, vhost, source)?;
        let invalid = |detail| refusal(RefusalKind::InvalidArgument, detail);
        let queue = self.queue(id).expect("a name leads to a queue");
        if !queue.declared.options.durable || crate::change::is_soft(id) {
            return Err(invalid("tasks move messages of durable queues"));
        }
        if let Some(target) = target {
            let to = self.source(from, vhost, target)?;
            let to = self.queue(to).expect("a name leads to a queue");
            if target == source {
                return Err(invalid("the messages are in that queue already"));
            }
            if to.attributes().fifo.is_some() != queue.attributes().fifo.is_some() {
                return Err(invalid(
                    "of a FIFO queue messages move to a FIFO queue, of others to others",
                ));
            }
        }
        let running = |(_, task): (u64, &Move)| task.state == MoveState::Running;
        if self.moves_of(id).any(running) {
            return Err(refusal(
                RefusalKind::InUse,
                "another task moves messages out of that queue",
            ));
        }
        if self.running_moves(vhost).count() >= MOVES_RUNNING_MAX {
            return Err(refusal(
                RefusalKind::QuotaExceeded,
                format!("{MOVES_RUNNING_MAX} tasks move messages already"),
            ));
        }
        Ok((
            id,
            Move {
                vhost,
                source: source.clone(),
                target: target.cloned(),
                below: self.soft_queue(id).next,
                planned: self.ready(id),
                started: draft.now,
                ..Move::default()
            },
        ))
    }

    /// The tasks of a virtual host that run.
    fn running_moves(&self, vhost: VhostId) -> impl Iterator<Item = (&(QueueId, u64), &Move)> {
        let all = self.soft.moving.keys();
        let all = all.filter_map(|key| self.durable.moves.get_key_value(key));
        all.filter(move |(_, task)| task.vhost == vhost)
    }

    /// The tasks of a queue that are remembered, the oldest first.
    fn moves_of(&self, queue: QueueId) -> impl DoubleEndedIterator<Item = (u64, &Move)> {
        let all = self.durable.moves.range((queue, 0)..=(queue, u64::MAX));
        all.map(|((_, number), task)| (*number, task))
    }

    /// The next slice of a task.
    pub(super) fn due_move(
        &self,
        timer: (message::Timestamp, Timer),
        (id, number): (QueueId, u64),
        draft: &mut Draft<'_>,
    ) {
        let running = |task: &&Move| task.state == MoveState::Running;
        let task = self.durable.moves.get(&(id, number)).filter(running);
        let (Some(task), Some(queue)) = (task, self.queue(id)) else {
            return postpone(timer, None, draft);
        };
        let slice = task.slice();
        let mut walk = self.ready_from_start(id);
        let mut free = match &self.soft_queue(id).order {
            Order::Groups(groups) => Some(groups.free_below(task.below)),
            _ => None,
        };
        let mut moved = 0;
        let mut looks = 0;
        let mut end = None;
        while moved < slice && looks < 2 * slice {
            let next = match &mut free {
                Some(free) => free.next(),
                None => walk.next().filter(|qseq| *qseq < task.below),
            };
            let Some(qseq) = next else {
                end = Some(Ok(()));
                break;
            };
            looks += 1;
            let Some(view) = self.entry(id, qseq) else {
                continue;
            };
            if draft.goes(id, qseq) || self.leaves_instead(id, queue, qseq, &view, draft) {
                continue;
            }
            match self.move_one(id, qseq, &view, task, draft) {
                Ok(()) => moved += 1,
                Err(stuck) => {
                    end = Some(Err(stuck));
                    break;
                }
            }
        }
        let (state, failure) = match end {
            Some(Ok(())) => (MoveState::Completed, None),
            Some(Err(Stuck::Failed(why))) => (MoveState::Failed, Some(Arc::from(why))),
            Some(Err(Stuck::Full)) if moved == 0 => {
                return postpone(timer, Some(draft.now.plus_ms(FULL_WAIT_MS)), draft);
            }
            Some(Err(Stuck::Full)) | None => (MoveState::Running, None),
        };
        draft.change(Kind::Moved(Box::new(Moved {
            queue: id,
            number,
            moved: task.moved + moved,
            state,
            failure,
        })));
    }

    fn move_one(
        &self,
        id: QueueId,
        qseq: u64,
        view: &View<'_>,
        task: &Move,
        draft: &mut Draft<'_>,
    ) -> Result<(), Stuck> {
        let came_from = || {
            let deaths = view.rare.and_then(|rare| rare.deaths.as_deref());
            deaths.and_then(|deaths| deaths.first())
        };
        let name = match &task.target {
            Some(name) => name,
            None => {
                &came_from()
                    .ok_or(Stuck::Failed("CouldNotDetermineMessageSource"))?
                    .queue
            }
        };
        let target = self
            .named(task.vhost, name)
            .ok_or(Stuck::Failed("DestinationQueueDoesNotExist"))?;
        let attributes = self
            .queue(target)
            .map(|queue| queue.attributes())
            .ok_or(Stuck::Failed("DestinationQueueDoesNotExist"))?;
        let (count, bytes) = draft.held(self, target);
        let over = attributes.length_max.is_some_and(|max| count + 1 > max)
            || attributes
                .bytes_max
                .is_some_and(|max| bytes + u64::from(view.len) > max);
        if over && target != id {
            return Err(Stuck::Full);
        }
        if draft.entry_goes(self, id, qseq, view.len) {
            let rare = Rare {
                deaths: None,
                readdressed: Some(Arc::new(Address::queue(task.vhost, name.clone()))),
                sent: None,
                ..view.rare.cloned().unwrap_or_default()
            };
            self.move_entry((id, qseq), view, target, rare, draft);
        }
        Ok(())
    }
}
