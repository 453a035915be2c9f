//! How far queues have been emptied, and whose turn that is: queues that are purged or were deleted with much in them are
//! in the round beside those that have something to deliver.

use session::QueueId;

use crate::{
    Broker,
    soft::{Emptying, Waiter},
};

impl Broker {
    pub(super) fn apply_empties(&mut self, id: QueueId, all: bool, waiter: Waiter) {
        let Some(soft) = self.soft.queues.get_mut(&id) else {
            return;
        };
        let below = soft.next;
        match &mut soft.emptying {
            // What came since the other purge began goes with this one.
            Some(emptying) => {
                emptying.below = below;
                if all && !emptying.all {
                    // What is out was left so far.
                    emptying.all = true;
                    emptying.next = 0;
                }
                emptying.waiters.push(waiter);
            }
            None => {
                soft.emptying = Some(Box::new(Emptying {
                    below,
                    all,
                    waiters: vec![waiter],
                    ..Emptying::default()
                }));
                self.enter_emptying_round(id);
            }
        }
    }

    /// Everything in a doomed queue is to go.
    pub(crate) fn empty_doomed(&mut self, id: QueueId) {
        self.leave_emptying_round(id);
        let soft = self.soft_queue_mut(id);
        soft.emptying = Some(Box::new(Emptying {
            below: u64::MAX,
            ..Emptying::default()
        }));
        self.enter_emptying_round(id);
    }

    pub(super) fn apply_emptied(&mut self, id: QueueId, upto: Option<u64>) {
        self.leave_emptying_round(id);
        let Some(soft) = self.soft.queues.get_mut(&id) else {
            return;
        };
        match upto {
            Some(upto) => {
                if let Some(emptying) = &mut soft.emptying {
                    emptying.next = upto;
                    self.enter_emptying_round(id);
                }
            }
            None => soft.emptying = None,
        }
    }

    fn enter_emptying_round(&mut self, id: QueueId) {
        let place = self.soft.next_place;
        self.soft.next_place += 1;
        if let Some(emptying) = &mut self.soft_queue_mut(id).emptying {
            emptying.place = place;
            self.soft.emptying.insert(place, id);
        }
    }

    pub(super) fn leave_emptying_round(&mut self, id: QueueId) {
        let soft = self.soft.queues.get(&id);
        if let Some(place) = soft.and_then(|soft| Some(soft.emptying.as_ref()?.place)) {
            self.soft.emptying.remove(&place);
        }
    }
}
