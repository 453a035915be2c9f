//! The members of a consumer group, who lease its shard and say how far they have come.
//!
//! *One worker*: until a lease lapses or is given back nobody else has the shard; a number of the hand that it is in stands for
//! one owner for ever, and never goes back. *Checkpoint*: what was confirmed to be worked on is not given out again, and nothing
//! is passed over that nobody said.

use std::collections::BTreeMap;

use session::GroupShard;

use super::{Origin, Trust};

struct Lease {
    owner: usize,
    hand: u64,
    asked: u64,
    ms: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Workers {
    /// The hand that each number stands for.
    hands: BTreeMap<u64, Vec<u8>>,
    /// The last number that was shown, when first, and in which epoch.
    hand: (u64, u64, u64),
    lease: Option<Lease>,
    /// Checkpoints that were confirmed, or shown: how far, when, in which epoch.
    confirmed: Vec<(u64, u64, u64)>,
    /// The furthest one that was asked for.
    asked_max: u64,
}

impl Workers {
    /// What an answer shows of the shard, which was asked for at `asked`.
    pub(crate) fn see(
        &mut self,
        shard: &GroupShard,
        (asked, now): (u64, u64),
        from: Origin,
    ) -> Result<(), String> {
        let known = |at: u64, epoch: u64| at <= asked && epoch <= from.epoch;
        let before = self
            .confirmed
            .iter()
            .filter(|(_, at, epoch)| known(*at, *epoch));
        let least = before.map(|(next, ..)| *next).max().unwrap_or(0);
        if shard.next < least || shard.next > self.asked_max {
            return Err(format!(
                "checkpoint: a group goes on at {}, of which {least} was confirmed and {} asked for",
                shard.next, self.asked_max
            ));
        }
        if shard.next > self.next() {
            self.confirm(shard.next, from, now);
        }
        let (hand, at, epoch) = self.hand;
        if shard.counter < hand && known(at, epoch) {
            return Err(format!(
                "one worker: the shard was in hand {hand}, and is in {}",
                shard.counter
            ));
        }
        if shard.counter > hand {
            self.hand = (shard.counter, now, from.epoch);
        }
        if let Some((owner, _)) = &shard.lease {
            let first = self
                .hands
                .entry(shard.counter)
                .or_insert_with(|| owner.to_vec());
            if first[..] != owner[..] {
                return Err(format!(
                    "one worker: hand {} is {first:?} and {owner:?}",
                    shard.counter
                ));
            }
        }
        Ok(())
    }

    /// The lease that was asked for at `asked` is somebody's, for so many ms.
    pub(crate) fn lease(
        &mut self,
        (owner, hand): (usize, u64),
        (asked, now): (u64, u64),
        ms: u64,
        trust: Trust,
    ) -> Result<(), String> {
        // Answers may come late.
        if self.lease.as_ref().is_some_and(|last| last.hand > hand) {
            return Ok(());
        }
        if let Some(last) = &self.lease
            && last.owner != owner
            && trust
                .least_us(last.ms)
                .is_some_and(|least| now < last.asked + least)
        {
            return Err(format!(
                "one worker: {owner} has the shard, that {} leased for {} ms {} us ago",
                last.owner,
                last.ms,
                now - last.asked
            ));
        }
        self.lease = Some(Lease {
            owner,
            hand,
            asked,
            ms,
        });
        Ok(())
    }

    /// Somebody gives its lease back.
    pub(crate) fn give_back(&mut self, owner: usize) {
        self.lease = self.lease.take().filter(|lease| lease.owner != owner);
    }

    /// Somebody says how far it has come.
    pub(crate) fn ask(&mut self, next: u64) {
        self.asked_max = self.asked_max.max(next);
    }

    pub(crate) fn confirm(&mut self, next: u64, from: Origin, now: u64) {
        self.confirmed.push((next, now, from.epoch));
    }

    /// The first offset that is not known to be worked on.
    pub(crate) fn next(&self) -> u64 {
        self.confirmed
            .iter()
            .map(|(next, ..)| *next)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use message::Timestamp;
    use session::ShardNo;

    use super::super::tests::origin;
    use super::*;

    fn shard(next: u64, counter: u64, owner: &'static str) -> GroupShard {
        GroupShard {
            shard: ShardNo(0),
            next,
            lease: Some((owner.into(), Timestamp(1))),
            counter,
            ready: true,
            done: false,
        }
    }

    #[test]
    fn a_shard_is_one_members_at_a_time() {
        let mut workers = Workers::default();
        let mut is_had = |by, asked, heard| {
            let trust = Trust::default();
            workers.lease(by, (asked, heard), 8_000, trust).is_ok()
        };
        assert!(is_had((1, 1), 1_000_000, 1_100_000));
        assert!(is_had((1, 1), 2_000_000, 2_100_000));
        assert!(!is_had((2, 2), 5_800_000, 5_900_000));
        assert!(is_had((2, 2), 5_900_000, 6_100_000));
        assert!(is_had((1, 1), 5_700_000, 6_200_000), "it came late");
        workers.give_back(2);
        let trust = Trust::default();
        let at = (6_100_000, 6_100_000);
        assert!(workers.lease((3, 3), at, 8_000, trust).is_ok());
    }

    #[test]
    fn a_checkpoint_does_not_go_back_nor_further_than_anyone_said() {
        let mut workers = Workers::default();
        workers.ask(5);
        workers.confirm(5, origin(2), 100);
        assert_eq!(workers.next(), 5);
        assert!(
            workers
                .see(&shard(4, 1, "a"), (200, 300), origin(2))
                .is_err()
        );
        assert!(workers.see(&shard(4, 1, "a"), (50, 300), origin(2)).is_ok());
        assert!(
            workers
                .see(&shard(4, 1, "a"), (200, 300), origin(1))
                .is_ok()
        );
        assert!(
            workers
                .see(&shard(6, 1, "a"), (200, 300), origin(2))
                .is_err()
        );
        assert!(
            workers
                .see(&shard(5, 1, "a"), (200, 300), origin(2))
                .is_ok()
        );
        workers.ask(7);
        assert!(
            workers
                .see(&shard(7, 1, "a"), (200, 300), origin(2))
                .is_ok()
        );
        assert_eq!(workers.next(), 7, "that was shown");
        assert!(
            workers
                .see(&shard(5, 1, "a"), (400, 500), origin(2))
                .is_err()
        );
    }

    #[test]
    fn a_hand_is_one_owners_and_none_comes_again() {
        let mut workers = Workers::default();
        assert!(
            workers
                .see(&shard(0, 2, "a"), (100, 200), origin(1))
                .is_ok()
        );
        assert!(
            workers
                .see(&shard(0, 2, "b"), (300, 400), origin(1))
                .is_err()
        );
        assert!(
            workers
                .see(&shard(0, 1, "c"), (150, 400), origin(1))
                .is_ok()
        );
        assert!(
            workers
                .see(&shard(0, 1, "c"), (300, 400), origin(1))
                .is_err()
        );
        assert!(
            workers
                .see(&shard(0, 3, "b"), (300, 400), origin(1))
                .is_ok()
        );
    }
}
