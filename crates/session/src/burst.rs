//! Deliveries that came together: what one step of the core shows to the same connections, one behind the other.
//!
//! A fan-out shows nearly everyone the same bytes. So the first reader encodes them, and whoever reads the same form copies
//! them as they are: a door owns its forms, and says itself what of a delivery is the same for all.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::Delivery;

const FORMS: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Burst {
    deliveries: Vec<Arc<Delivery>>,
    /// One connection has it to itself.
    alone: bool,
    /// Made by the first who asks for that form; none where not all are sent the same.
    frames: [OnceLock<Option<Frames>>; FORMS],
}

impl Burst {
    /// How many forms of its frames are kept.
    pub const FORMS: usize = FORMS;

    /// So many connections, at least one, are shown these.
    #[must_use]
    pub fn new(deliveries: Vec<Arc<Delivery>>, connections: usize) -> Self {
        Self {
            deliveries,
            alone: connections == 1,
            frames: Default::default(),
        }
    }

    /// The deliveries, in order.
    #[must_use]
    pub fn deliveries(&self) -> &[Arc<Delivery>] {
        &self.deliveries
    }

    /// What everyone is sent who reads that form, below [`Self::FORMS`]. `encode` is called once for all; `None`: there is no
    /// such thing, or only one connection that would have it.
    pub fn frames(
        &self,
        form: usize,
        encode: impl FnOnce(&[Arc<Delivery>]) -> Option<Frames>,
    ) -> Option<&Frames> {
        if self.alone {
            return None;
        }
        let frames = self.frames[form].get_or_init(|| encode(&self.deliveries));
        frames.as_ref()
    }
}

impl PartialEq for Burst {
    fn eq(&self, other: &Self) -> bool {
        self.deliveries == other.deliveries
    }
}

/// Whole frames, one behind the other.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Bytes,
    /// Where each ends.
    ends: Vec<usize>,
    len_max: usize,
}

impl Frames {
    /// Those that are written one by one, each by a call of `write` for one of `each`. `None` as soon as one of them is.
    pub fn of<T>(
        each: impl IntoIterator<Item = T>,
        mut write: impl FnMut(T, &mut Vec<u8>) -> Option<()>,
    ) -> Option<Self> {
        let (mut bytes, mut ends, mut len_max) = (Vec::new(), Vec::new(), 0);
        for one in each {
            let start = bytes.len();
            write(one, &mut bytes)?;
            len_max = len_max.max(bytes.len() - start);
            ends.push(bytes.len());
        }
        Some(Self {
            bytes: bytes.into(),
            ends,
            len_max,
        })
    }

    /// The bytes of all.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each ends in [`Self::bytes`].
    #[must_use]
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// The length of the longest.
    #[must_use]
    pub const fn len_max(&self) -> usize {
        self.len_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConsumerId;
    use bytes::BufMut as _;
    use message::{Address, Message, Timestamp, VhostId};

    fn deliveries(count: usize) -> Vec<Arc<Delivery>> {
        let each = (0..count).map(|at| {
            let address = Address::queue(VhostId::ROOT, "q");
            let message = Message::new(address, vec![b'x'; at].into());
            Arc::new(Delivery::first(
                ConsumerId::CLIENT,
                Arc::new(message),
                Timestamp(0),
            ))
        });
        each.collect()
    }

    fn bodies(deliveries: &[Arc<Delivery>]) -> Option<Frames> {
        Frames::of(deliveries, |delivery, out| {
            out.put_slice(&delivery.message.body);
            Some(())
        })
    }

    #[test]
    fn frames_are_made_once_a_form_and_only_where_several_read_them() {
        let burst = Burst::new(deliveries(4), 2);
        let first = burst.frames(1, bodies).expect("frames");
        assert_eq!((first.bytes(), first.len_max()), (&b"xxxxxx"[..], 3));
        assert_eq!(first.ends(), [0, 1, 3, 6]);
        let again = burst
            .frames(1, |_| panic!("they were made"))
            .expect("frames");
        assert!(std::ptr::eq(first, again));
        assert!(burst.frames(0, |_| None).is_none());
        assert!(burst.frames(0, |_| panic!("it was asked")).is_none());
        let alone = Burst::new(deliveries(4), 1);
        assert!(alone.frames(1, |_| panic!("nobody shares it")).is_none());
        assert_eq!((alone.deliveries().len(), &alone), (4, &burst));
    }

    #[test]
    fn there_are_no_frames_if_one_cannot_be_written() {
        let one = deliveries(3);
        assert!(Frames::of(&one, |it, _| (it.message.body.len() < 2).then_some(())).is_none());
    }
}
