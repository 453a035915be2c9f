//! Purging and deleting queues, in slices: however much is in one, nobody else waits for it (RULES 9).
//!
//! A purge drops what is there when it begins and is answered at its end; a crash on the way leaves a part of it undone,
//! and nobody told. A queue with much in it that is deleted is *doomed* first: nobody finds it any more, which is what
//! the answer says, and its messages go by records of their own, the last of which ends it. That goes on after a crash.

use message::{Name, VhostId};
use session::{Event, Lane, QueueId, Refusal, RefusalKind, SessionId, Token};

use super::{draft::Draft, refusal, shown};
use crate::{
    Broker, OutLane, Wait,
    change::{Kind, QueueDeleted, QueuePurged, Ranges},
    queue::flag,
    soft::{Out, Waiter},
};

/// Numbers looked at for each message that may be dropped.
const LOOKS_EACH: usize = 4;

impl Broker {
    /// Whether what is in a queue goes in more than one go.
    pub(super) fn empties_slowly(&self, id: QueueId) -> bool {
        self.total(id) > u64::from(self.config.empty_slice)
    }

    pub(super) fn declare_purged(
        &self,
        from: SessionId,
        (lane, token): (Lane, Token),
        vhost: VhostId,
        (name, all): (&Name, bool),
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let Some(id) = self.named(vhost, name) else {
            return Err(refusal(
                RefusalKind::NotFound,
                format!("no queue '{}'", shown(name)),
            ));
        };
        self.check_owner(id, from)?;
        let count = if all {
            // Not looked through for what is out to connections, which stays: nobody who asks for this is shown the number.
            self.total(id)
        } else {
            self.held(id).0
        };
        let waiter = Waiter {
            session: from,
            lane,
            token,
            count,
        };
        if self.empties_slowly(id) {
            draft.change(Kind::Empties {
                queue: id,
                all,
                waiter,
            });
            return Ok(());
        }
        if count > 0 {
            self.drop_slice(id, (0, self.soft_queue(id).next), all, draft);
        }
        emptied(name, &waiter, draft);
        Ok(())
    }

    /// The next slice of a queue that is being emptied.
    pub(super) fn go_on_emptying(&self, id: QueueId, draft: &mut Draft<'_>) {
        let done = Kind::Emptied {
            queue: id,
            upto: None,
        };
        let (Some(queue), Some(emptying)) = (
            self.any_queue(id),
            self.soft
                .queues
                .get(&id)
                .and_then(|soft| soft.emptying.as_ref()),
        ) else {
            return draft.change(done);
        };
        let span = (emptying.next, emptying.below);
        if let Some(upto) = self.drop_slice(id, span, emptying.all, draft) {
            return draft.change(Kind::Emptied {
                queue: id,
                upto: Some(upto),
            });
        }
        for waiter in &emptying.waiters {
            emptied(&queue.declared.name, waiter, draft);
        }
        draft.change(done);
        if queue.declared.doomed {
            draft.change(Kind::QueueDeleted(QueueDeleted {
                queue: id,
                doomed: false,
            }));
        }
    }

    /// Drops what is available between two numbers, as far as a slice goes; `all`: also what is out under a lease with a
    /// deadline; of a doomed queue whatever is out. Returns where it goes on.
    fn drop_slice(
        &self,
        id: QueueId,
        (from, below): (u64, u64),
        all: bool,
        draft: &mut Draft<'_>,
    ) -> Option<u64> {
        let doomed = self.any_queue(id)?.declared.doomed;
        let soft = self.soft_queue(id);
        let mut kept = Ranges::default();
        let mut drops = 0;
        let mut looks = 0;
        let mut at = from;
        let slice = self.config.empty_slice.max(1) as usize;
        let mut more = false;
        while let Some(qseq) = self.next_entry(id, at).filter(|qseq| *qseq < below) {
            if drops == slice || looks == slice * LOOKS_EACH {
                more = true;
                break;
            }
            looks += 1;
            at = qseq + 1;
            let out = soft.out.get(qseq);
            let stays = out.is_some_and(|out| !(all && self.is_lease(id, qseq, out)))
                || soft.aside.contains(&qseq);
            if !doomed && stays {
                kept.push(qseq);
            } else {
                drops += 1;
            }
        }
        if drops > 0 {
            draft.change(Kind::QueuePurged(Box::new(QueuePurged {
                queue: id,
                below: at,
                kept,
                from,
            })));
        }
        more.then_some(at)
    }

    /// Whether an entry is out until a deadline, and to nobody in particular.
    fn is_lease(&self, id: QueueId, qseq: u64, out: &Out) -> bool {
        out.receiver.is_none()
            && self
                .entry(id, qseq)
                .is_some_and(|view| view.flags & (flag::LINKED | flag::RECEIVED) == 0)
    }

    /// What waits for the end of a purge of a queue that is deleted is over.
    pub(super) fn tell_emptied(&self, id: QueueId, draft: &mut Draft<'_>) {
        let (Some(queue), Some(emptying)) = (self.queue(id), &self.soft_queue(id).emptying) else {
            return;
        };
        for waiter in &emptying.waiters {
            emptied(&queue.declared.name, waiter, draft);
        }
    }
}

fn emptied(name: &Name, waiter: &Waiter, draft: &mut Draft<'_>) {
    draft.tell(
        waiter.session,
        OutLane::Reply(waiter.lane),
        Wait::Durable,
        Event::Declared {
            token: waiter.token,
            name: name.clone(),
            messages: waiter.count,
            consumers: 0,
        },
    );
}
