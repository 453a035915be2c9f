//! Lanes: what goes to one endpoint, a few at a time and so many a second, in the order of its coming.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Something for a lane.
pub(super) struct Entry<T> {
    pub(super) lane: String,
    pub(super) per_second: Option<u32>,
    pub(super) item: T,
}

struct Lane<T> {
    waiting: VecDeque<T>,
    running: usize,
    /// The next may begin then, and so long after one another.
    next: Option<Instant>,
    pause: Duration,
}

/// All lanes that have something waiting or running.
pub(super) struct Lanes<T> {
    lanes: BTreeMap<String, Lane<T>>,
    running_max: usize,
    waiting_max: usize,
}

impl<T> Lanes<T> {
    pub(super) const fn new(running_max: usize, waiting_max: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            running_max,
            waiting_max,
        }
    }

    /// Adds to a lane; what does not fit comes back.
    pub(super) fn push(&mut self, entry: Entry<T>) -> Result<(), T> {
        let lane = self.lanes.entry(entry.lane).or_insert_with(|| Lane {
            waiting: VecDeque::new(),
            running: 0,
            next: None,
            pause: Duration::ZERO,
        });
        if lane.waiting.len() >= self.waiting_max {
            return Err(entry.item);
        }
        // As the newest one knows it: the policy may have changed.
        lane.pause = entry
            .per_second
            .map_or(Duration::ZERO, |most| Duration::from_secs(1) / most.max(1));
        lane.waiting.push_back(entry.item);
        Ok(())
    }

    /// Takes out what may begin.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, T)> {
        let mut due = Vec::new();
        for (name, lane) in &mut self.lanes {
            while lane.running < self.running_max && lane.next.is_none_or(|next| next <= now) {
                let Some(item) = lane.waiting.pop_front() else {
                    break;
                };
                lane.running += 1;
                lane.next = (!lane.pause.is_zero()).then(|| now + lane.pause);
                due.push((name.clone(), item));
            }
        }
        due
    }

    /// Everything that waits.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = &mut T> {
        self.lanes.values_mut().flat_map(|lane| &mut lane.waiting)
    }

    /// When something that waits for its second may begin.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let waits = |lane: &&Lane<T>| !lane.waiting.is_empty() && lane.running < self.running_max;
        self.lanes
            .values()
            .filter(waits)
            .filter_map(|lane| lane.next)
            .min()
    }

    /// One that was taken out has ended.
    pub(super) fn ended(&mut self, name: &str) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        lane.running = lane.running.saturating_sub(1);
        let limited = lane.next.is_some_and(|next| next > Instant::now());
        if lane.running == 0 && lane.waiting.is_empty() && !limited {
            self.lanes.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(lane: &str, per_second: Option<u32>, item: u32) -> Entry<u32> {
        Entry {
            lane: lane.to_owned(),
            per_second,
            item,
        }
    }

    fn items(due: Vec<(String, u32)>) -> Vec<u32> {
        due.into_iter().map(|(_, item)| item).collect()
    }

    #[test]
    fn a_full_lane_holds_up_no_other() {
        let mut lanes = Lanes::new(2, 3);
        let now = Instant::now();
        for item in 0..3 {
            assert!(lanes.push(entry("slow", None, item)).is_ok());
        }
        assert_eq!(lanes.push(entry("slow", None, 3)), Err(3));
        assert!(lanes.push(entry("other", None, 9)).is_ok());
        assert_eq!(items(lanes.due(now)), [9, 0, 1]);
        assert_eq!(items(lanes.due(now)), [0; 0]);
        lanes.ended("slow");
        assert_eq!(items(lanes.due(now)), [2]);
    }

    #[test]
    fn so_many_a_second() {
        let mut lanes = Lanes::new(10, 10);
        let now = Instant::now();
        for item in 0..3 {
            assert!(lanes.push(entry("lane", Some(10), item)).is_ok());
        }
        assert_eq!(items(lanes.due(now)), [0]);
        let next = lanes.next_due().expect("two wait");
        assert_eq!(next - now, Duration::from_millis(100));
        assert_eq!(items(lanes.due(next)), [1]);
    }
}
