//! What is due when: a hierarchical wheel, so that a million delayed or leased messages cost no more each than one.
//!
//! ```text
//! level 0   64 slots of 1 ms          a timer lies at the level of the highest digit (base 64) in which its time
//! level 1   64 slots of 64 ms         differs from the wheel's own, in the slot of that digit; when the wheel comes to a
//! level 2   64 slots of 4,096 ms      slot, what is in it moves to lower levels, or is due
//! ...
//! ```
//! Setting and cancelling are O(1); coming due is a move per level, at most, and a place among those of the same
//! millisecond. What is due is read in the order of its time, then of the timers themselves, whatever the order in which
//! they were set: a core that was rebuilt reads the same as one that lived through it. The wheel is filled by `apply` and
//! turned by a change of its own, in slices (RULES 8, 9).
//!
//! A timer takes 48 bytes and a place of 4 in the table by which it is found again; both stay in use for as many as were
//! ever set at once. Neither is moved as a whole when there are more.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hash},
};

use message::Timestamp;
use rustc_hash::FxBuildHasher;

/// Bits of a digit.
const BITS: usize = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 64_usize.div_ceil(BITS);
const NONE: u32 = u32::MAX;
const CHUNK: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    at: u64,
    timer: T,
    next: u32,
    prev: u32,
    /// The next one of the same hash.
    chain: u32,
    slot: u16,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// What is due by then is in `due`.
    elapsed: u64,
    nodes: Vec<Vec<Node<T>>>,
    free: u32,
    len: usize,
    heads: Vec<u32>,
    /// Which slots of a level have something in them.
    occupied: [u64; LEVELS],
    buckets: Vec<u32>,
    /// The slot that is being emptied.
    partial: Option<usize>,
    due: BTreeSet<(Timestamp, T)>,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self {
            elapsed: 0,
            nodes: Vec::new(),
            free: NONE,
            len: 0,
            heads: vec![NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            buckets: vec![NONE; 64],
            partial: None,
            due: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Eq + Ord + Hash> Wheel<T> {
    /// Sets a timer; again at the same time is nothing.
    pub(crate) fn insert(&mut self, (at, timer): (Timestamp, T)) {
        if at.0 <= self.elapsed {
            self.due.insert((at, timer));
            return;
        }
        if self.find(at.0, &timer).is_some() {
            return;
        }
        let index = self.allocate(at.0, timer);
        let bucket = self.bucket(at.0, &timer);
        self.node_mut(index).chain = self.buckets[bucket];
        self.buckets[bucket] = index;
        self.len += 1;
        if self.len > self.buckets.len() {
            self.split();
        }
        self.link(index);
    }

    /// Cancels a timer, if it is set.
    pub(crate) fn remove(&mut self, (at, timer): &(Timestamp, T)) {
        if let Some(index) = self.find(at.0, timer) {
            self.unlink(index);
            self.release(index);
        } else {
            self.due.remove(&(*at, *timer));
        }
    }

    pub(crate) fn extend(&mut self, timers: impl Iterator<Item = (Timestamp, T)>) {
        for timer in timers {
            self.insert(timer);
        }
    }

    /// When something is due, or the wheel must be turned to know what.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let due = self.due.first().map(|(at, _)| *at);
        due.or_else(|| self.first_slot().map(|(_, start)| Timestamp(start)))
    }

    /// Whether what is due by `now` may be read: of the times in [`Wheel::due`] nothing is missing, nor before them.
    pub(crate) fn is_ready(&self, now: Timestamp) -> bool {
        self.partial.is_none() && (!self.due.is_empty() || self.elapsed >= now.0)
    }

    /// Whether the wheel has come to that time.
    pub(crate) const fn has_come_to(&self, now: Timestamp) -> bool {
        self.partial.is_none() && self.elapsed >= now.0
    }

    /// What is due, in order.
    pub(crate) fn due(&self) -> impl Iterator<Item = &(Timestamp, T)> {
        self.due.iter()
    }

    /// Turns the wheel towards `now`, moving about so many timers at most.
    pub(crate) fn turn(&mut self, now: Timestamp, moves: usize) {
        let mut left = moves.max(1);
        while left > 0 {
            let Some((slot, start)) = self.first_slot().filter(|(_, start)| *start <= now.0) else {
                self.elapsed = self.elapsed.max(now.0);
                return;
            };
            self.elapsed = start;
            self.partial = Some(slot);
            while left > 0 && self.heads[slot] != NONE {
                left -= 1;
                let index = self.heads[slot];
                self.unlink(index);
                let node = *self.node(index);
                if node.at <= self.elapsed {
                    self.release(index);
                    self.due.insert((Timestamp(node.at), node.timer));
                } else {
                    self.link(index);
                }
            }
            if self.heads[slot] == NONE {
                self.partial = None;
            }
        }
    }

    /// The slot that the wheel comes to next, and when that is.
    fn first_slot(&self) -> Option<(usize, u64)> {
        if let Some(slot) = self.partial {
            return Some((slot, self.elapsed));
        }
        // What is at a lower level is due before everything at a higher one.
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let digit = self.occupied[level].trailing_zeros() as usize;
        let above = (level + 1) * BITS;
        let prefix = if above < 64 {
            self.elapsed >> above << above
        } else {
            0
        };
        Some((
            level * SLOTS + digit,
            prefix | (digit as u64) << (level * BITS),
        ))
    }

    fn link(&mut self, index: u32) {
        let at = self.node(index).at;
        let level = (at ^ self.elapsed).ilog2() as usize / BITS;
        let digit = (at >> (level * BITS)) as usize % SLOTS;
        let slot = level * SLOTS + digit;
        let head = self.heads[slot];
        let node = self.node_mut(index);
        node.slot = slot as u16;
        node.prev = NONE;
        node.next = head;
        if head != NONE {
            self.node_mut(head).prev = index;
        }
        self.heads[slot] = index;
        self.occupied[level] |= 1 << digit;
    }

    fn unlink(&mut self, index: u32) {
        let Node {
            next, prev, slot, ..
        } = *self.node(index);
        let slot = usize::from(slot);
        if next != NONE {
            self.node_mut(next).prev = prev;
        }
        if prev != NONE {
            self.node_mut(prev).next = next;
        } else {
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
            }
        }
    }

    fn allocate(&mut self, at: u64, timer: T) -> u32 {
        let node = Node {
            at,
            timer,
            next: NONE,
            prev: NONE,
            chain: NONE,
            slot: 0,
        };
        if self.free != NONE {
            let index = self.free;
            self.free = self.node(index).next;
            *self.node_mut(index) = node;
            return index;
        }
        if self.nodes.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.nodes.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.nodes.len();
        let chunk = self.nodes.last_mut().expect("pushed above");
        chunk.push(node);
        u32::try_from((chunks - 1) * CHUNK + chunk.len() - 1).expect("memory ends before")
    }

    /// Takes a node that is in no slot out of the table, and gives it back.
    fn release(&mut self, index: u32) {
        let node = *self.node(index);
        let bucket = self.bucket(node.at, &node.timer);
        if self.buckets[bucket] == index {
            self.buckets[bucket] = node.chain;
        } else {
            let mut at = self.buckets[bucket];
            while self.node(at).chain != index {
                at = self.node(at).chain;
            }
            self.node_mut(at).chain = node.chain;
        }
        let free = self.free;
        self.node_mut(index).next = free;
        self.free = index;
        self.len -= 1;
    }

    fn find(&self, at: u64, timer: &T) -> Option<u32> {
        let mut index = self.buckets[self.bucket(at, timer)];
        while index != NONE {
            let node = self.node(index);
            if node.at == at && node.timer == *timer {
                return Some(index);
            }
            index = node.chain;
        }
        None
    }

    /// Linear hashing: the table grows by one bucket at a time, and one is divided for it.
    fn bucket(&self, at: u64, timer: &T) -> usize {
        let hash = FxBuildHasher.hash_one((at, timer)) as usize;
        let count = self.buckets.len();
        let mask = count.next_power_of_two() - 1;
        if hash & mask < count {
            hash & mask
        } else {
            hash & (mask >> 1)
        }
    }

    fn split(&mut self) {
        let fresh = self.buckets.len();
        let old = fresh - (1 << fresh.ilog2());
        self.buckets.push(NONE);
        let mut index = std::mem::replace(&mut self.buckets[old], NONE);
        while index != NONE {
            let node = *self.node(index);
            let bucket = self.bucket(node.at, &node.timer);
            self.node_mut(index).chain = self.buckets[bucket];
            self.buckets[bucket] = index;
            index = node.chain;
        }
    }

    fn node(&self, index: u32) -> &Node<T> {
        &self.nodes[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node<T> {
        &mut self.nodes[index as usize / CHUNK][index as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Turns the wheel and takes what is due by then.
    fn take(wheel: &mut Wheel<u64>, now: u64, moves: usize) -> Vec<(Timestamp, u64)> {
        let mut taken = Vec::new();
        let now = Timestamp(now);
        while wheel.next().is_some_and(|at| at <= now) {
            if !wheel.is_ready(now) {
                wheel.turn(now, moves);
                continue;
            }
            let due: Vec<_> = wheel.due().copied().collect();
            for timer in &due {
                wheel.remove(timer);
            }
            taken.extend(due);
        }
        taken
    }

    #[test]
    fn a_timer_of_the_core_takes_48_bytes() {
        assert_eq!(size_of::<Node<crate::soft::Timer>>(), 48);
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_set(
            moves in 1_usize..4,
            steps in prop::collection::vec((0_u8..6, 0_u64..6, prop_oneof![0_u64..70, 0_u64..5000, 0_u64..1 << 40]), 0..300),
        ) {
            let (mut wheel, mut naive) = (Wheel::default(), BTreeSet::new());
            let mut now = 0;
            for (what, timer, ms) in steps {
                match what {
                    0..3 => {
                        // Also what is due already.
                        let at = Timestamp((now + ms).saturating_sub(20));
                        wheel.insert((at, timer));
                        naive.insert((at, timer));
                    }
                    3 => {
                        let some = naive.iter().nth(ms as usize % naive.len().max(1)).copied();
                        if let Some(timer) = some {
                            wheel.remove(&timer);
                            naive.remove(&timer);
                        }
                        wheel.remove(&(Timestamp(ms), 99));
                    }
                    _ => {
                        now += ms;
                        let later = naive.split_off(&(Timestamp(now + 1), 0));
                        let due: Vec<_> = std::mem::replace(&mut naive, later).into_iter().collect();
                        prop_assert_eq!(take(&mut wheel, now, moves), due);
                    }
                }
                // Never late, and never without reason.
                let (next, first) = (wheel.next(), naive.first().map(|(at, _)| *at));
                prop_assert_eq!(next.is_some(), first.is_some());
                prop_assert!(next <= first);
            }
            let rest: Vec<_> = naive.into_iter().collect();
            prop_assert_eq!(take(&mut wheel, u64::MAX, 7), rest);
            prop_assert_eq!((wheel.len, wheel.next()), (0, None));
            prop_assert!(wheel.buckets.iter().all(|bucket| *bucket == NONE));
        }
    }
}
