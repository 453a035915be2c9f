//! The buffers that connections of one thread lend each other, so that an idle connection holds none.
//!
//! A task borrows them when it is polled and gives them back before it returns. What a session has not used up stays with
//! its connection; only empty buffers change hands. A read buffer is 64 KiB: messages split off its front keep it alive, the
//! next reads use the rest, and when every message has let go of it, it is used again from its start.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

use bytes::{Buf, BytesMut};
use session::{Event, Output};

/// The size of a fresh read buffer.
pub(crate) const READ_LEN: usize = 64 * 1024;
/// The least room for a read.
pub(crate) const READ_LEN_MIN: usize = 16 * 1024;
/// The same for a stranger that has begun to send.
const STRANGER_READ_LEN_MIN: usize = 1024;
/// An unfinished frame up to this length is moved out of a buffer that was lent, or four times its size, or a few bytes would
/// pin it.
const MOVED_LEN_MAX: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// What a connection works with.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Read and not used up.
    pub(crate) input: BytesMut,
    /// Not sent or not handed in.
    pub(crate) out: Output,
}

/// A connection's buffers: there while it is polled, and as long as something is in them.
pub(crate) struct Lent(Option<Box<Buffers>>);

impl Lent {
    /// Those of a connection of which so much was read already.
    pub(crate) fn of(input: BytesMut) -> Self {
        Self((!input.is_empty()).then(|| {
            let out = Output::default();
            Box::new(Buffers { input, out })
        }))
    }
}

impl Deref for Lent {
    type Target = Buffers;

    fn deref(&self) -> &Buffers {
        self.0.as_deref().expect("lent for the time of a poll")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Buffers {
        self.0.as_deref_mut().expect("lent for the time of a poll")
    }
}

/// The buffers of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    input: BytesMut,
    /// `input` was lent since these were borrowed: what holds bytes now may be a part of it.
    lent: bool,
    buffers: Option<Box<Buffers>>,
    pub(crate) events: Vec<Event>,
}

impl Scratch {
    /// This thread's buffers; fresh ones when somebody up the stack has them.
    pub(crate) fn borrow() -> Box<Self> {
        let mut scratch = SCRATCH.take().unwrap_or_default();
        scratch.lent = false;
        scratch
    }

    /// Gives them back.
    pub(crate) fn give_back(self: Box<Self>) {
        SCRATCH.set(Some(self));
    }

    /// Lends buffers to a connection that has nothing in its own.
    pub(crate) fn lend(&mut self, lent: &mut Lent) {
        match &mut lent.0 {
            none @ None => *none = Some(self.buffers.take().unwrap_or_default()),
            Some(own) => {
                if is_empty(&own.out)
                    && let Some(spare) = &mut self.buffers
                {
                    std::mem::swap(&mut own.out, &mut spare.out);
                }
            }
        }
    }

    /// Takes back what is empty.
    pub(crate) fn reclaim(&mut self, lent: &mut Lent, is_known: bool) {
        let Some(buffers) = &mut lent.0 else { return };
        self.reclaim_input(&mut buffers.input, is_known);
        if is_empty(&buffers.out) {
            if buffers.input.is_empty() {
                self.buffers = lent.0.take();
            } else {
                // Only a part of a frame has come: what was written before left its room behind.
                let spare = self.buffers.get_or_insert_default();
                spare.out = std::mem::take(&mut buffers.out);
            }
        }
    }

    /// Makes room to read behind what is in `input`. A stranger's own buffer grows only by doubling: nothing is known of it
    /// that would be worth more.
    pub(crate) fn lend_input(&mut self, input: &mut BytesMut, is_known: bool) {
        if !is_known && !input.is_empty() {
            if input.capacity() - input.len() < STRANGER_READ_LEN_MIN {
                input.reserve(input.len().clamp(STRANGER_READ_LEN_MIN, READ_LEN));
            }
            return;
        }
        if input.is_empty() && input.capacity() < READ_LEN_MIN {
            std::mem::swap(input, &mut self.input);
            self.lent = true;
            if input.capacity() == 0 {
                *input = BytesMut::with_capacity(READ_LEN);
            }
        }
        // A long frame is read in larger and larger steps.
        input.reserve(input.len().clamp(READ_LEN_MIN, READ_LEN));
    }

    /// Takes back the room behind what is in `input`, as far as that is worth it. A stranger keeps nothing that was lent, but
    /// a copy.
    fn reclaim_input(&mut self, input: &mut BytesMut, is_known: bool) {
        if input.is_empty() {
            let spare = std::mem::take(input);
            if spare.capacity() > self.input.capacity() {
                self.input = spare;
            }
        } else if (self.lent && (!is_known || input.len() <= MOVED_LEN_MAX))
            || (input.len() <= MOVED_LEN_MAX && input.capacity() / 4 >= input.len())
        {
            let mut spare = std::mem::replace(input, BytesMut::from(&input[..]));
            spare.clear();
            if spare.capacity() > self.input.capacity() {
                self.input = spare;
            }
        }
    }
}

fn is_empty(out: &Output) -> bool {
    out.commands.is_empty() && !out.wire.has_remaining()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_holds_no_buffer() {
        let mut scratch = Scratch::default();
        let mut lent = Lent::of(BytesMut::new());
        scratch.lend(&mut lent);
        scratch.lend_input(&mut lent.input, true);
        assert!(lent.input.capacity() >= READ_LEN);
        lent.out.wire.put(&[1; 4000]);
        scratch.reclaim(&mut lent, true);
        assert!(lent.0.is_some(), "something waits for the socket");
        scratch.lend(&mut lent);
        lent.out.wire.advance(4000);
        scratch.reclaim(&mut lent, true);
        assert!(lent.0.is_none());
    }

    #[test]
    fn a_stranger_keeps_no_more_than_twice_what_it_sent() {
        let mut scratch = Scratch::default();
        let mut input = BytesMut::new();
        // The buffer that is lent has been used by others: only its end is left.
        scratch.lend_input(&mut input, true);
        input.extend_from_slice(&vec![1; READ_LEN - READ_LEN_MIN]);
        let others = input.split();
        scratch.reclaim_input(&mut input, true);
        let mut reads = 0;
        for len in [1, 9_000, 9_001, 9_002, 12_000, 100_000, 250_000] {
            scratch.lent = false;
            scratch.lend_input(&mut input, false);
            reads += 1;
            input.extend_from_slice(&vec![7; len - input.len()]);
            scratch.reclaim_input(&mut input, false);
            assert!(
                input.capacity() <= 2 * (len + STRANGER_READ_LEN_MIN),
                "{len}: {}",
                input.capacity()
            );
            let end = others.as_ptr().wrapping_add(READ_LEN);
            assert!(
                !(others.as_ptr()..end).contains(&input.as_ptr()),
                "it pins a buffer that others use"
            );
        }
        assert_eq!((reads, input.len()), (7, 250_000));
    }

    #[test]
    fn an_unfinished_frame_pins_at_most_four_times_its_length() {
        let mut scratch = Scratch::default();
        let mut input = BytesMut::new();
        for len in [1, 100, 4000, 16_000] {
            scratch.lend_input(&mut input, true);
            input.extend_from_slice(&vec![7; len - input.len()]);
            scratch.reclaim_input(&mut input, true);
            assert_eq!(input.len(), len);
            assert!(
                input.capacity() < 4 * len.max(16),
                "{len}: {}",
                input.capacity()
            );
        }
        assert!(input.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn an_unfinished_frame_at_the_end_of_a_buffer_does_not_pin_it() {
        let mut scratch = Scratch::default();
        let mut input = BytesMut::new();
        scratch.lend_input(&mut input, true);
        let (start, end) = (input.as_ptr(), input.as_ptr().wrapping_add(READ_LEN));
        input.extend_from_slice(&[1; READ_LEN]);
        drop(input.split_to(READ_LEN - 900));
        scratch.reclaim_input(&mut input, true);
        assert_eq!(input, [1; 900][..]);
        assert!(!(start..end).contains(&input.as_ptr()));
    }

    #[test]
    fn the_rest_of_a_read_buffer_serves_the_next_connection() {
        let mut scratch = Scratch::default();
        let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
        scratch.lend_input(&mut one, true);
        one.extend_from_slice(&[1; 1000]);
        let message = one.split_to(1000).freeze();
        let end = message.as_ptr().wrapping_add(1000);
        scratch.reclaim_input(&mut one, true);
        scratch.lend_input(&mut two, true);
        two.extend_from_slice(&[2; 10]);
        assert_eq!(
            two.as_ptr(),
            end,
            "the second read starts where the first ended"
        );
        assert!(message.iter().all(|&byte| byte == 1));
    }
}
