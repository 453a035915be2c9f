//! The buffers that connections of one thread lend each other, so that an idle connection holds none.
//!
//! A task borrows them when it is polled and gives them back before it returns. What a session has not used up stays with
//! its connection; only empty buffers change hands. A read buffer is 64 KiB: messages split off its front keep it alive, the
//! next reads use the rest, and when every message has let go of it, it is used again from its start.

use std::cell::Cell;

use bytes::{Buf, BytesMut};
use session::{Event, Output};

/// The size of a fresh read buffer.
pub(crate) const READ_LEN: usize = 64 * 1024;
/// The least room for a read.
pub(crate) const READ_LEN_MIN: usize = 16 * 1024;
/// An unfinished frame up to this length is moved out of a buffer four times its size, or a few bytes would pin it.
const MOVED_LEN_MAX: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// The buffers of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    input: BytesMut,
    out: Option<Output>,
    pub(crate) events: Vec<Event>,
}

impl Scratch {
    /// This thread's buffers; fresh ones when somebody up the stack has them.
    pub(crate) fn borrow() -> Box<Self> {
        SCRATCH.take().unwrap_or_default()
    }

    /// Gives them back.
    pub(crate) fn give_back(self: Box<Self>) {
        SCRATCH.set(Some(self));
    }

    /// Lends an output to a connection that has nothing waiting in its own.
    pub(crate) fn lend_output(&mut self, out: &mut Output) {
        if is_empty(out)
            && let Some(spare) = self.out.take()
        {
            *out = spare;
        }
    }

    /// Takes back an output that is empty.
    pub(crate) fn reclaim_output(&mut self, out: &mut Output) {
        if is_empty(out) {
            self.out = Some(std::mem::take(out));
        }
    }

    /// Makes room to read behind what is in `input`.
    pub(crate) fn lend_input(&mut self, input: &mut BytesMut) {
        if input.is_empty() && input.capacity() < READ_LEN_MIN {
            std::mem::swap(input, &mut self.input);
            if input.capacity() == 0 {
                *input = BytesMut::with_capacity(READ_LEN);
            }
        }
        // A long frame is read in larger and larger steps.
        input.reserve(input.len().clamp(READ_LEN_MIN, READ_LEN));
    }

    /// Takes back the room behind what is in `input`, as far as that is worth it.
    pub(crate) fn reclaim_input(&mut self, input: &mut BytesMut) {
        if input.is_empty() {
            let spare = std::mem::take(input);
            if spare.capacity() > self.input.capacity() {
                self.input = spare;
            }
        } else if input.len() <= MOVED_LEN_MAX && input.capacity() / 4 >= input.len() {
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
        let mut input = BytesMut::new();
        scratch.lend_input(&mut input);
        assert!(input.capacity() >= READ_LEN);
        scratch.reclaim_input(&mut input);
        assert_eq!(input.capacity(), 0);

        let mut out = Output::default();
        out.wire.put(&[1; 4000]);
        out.wire.advance(4000);
        scratch.reclaim_output(&mut out);
        assert_eq!(out.commands.capacity(), 0);
    }

    #[test]
    fn an_unfinished_frame_pins_at_most_four_times_its_length() {
        let mut scratch = Scratch::default();
        let mut input = BytesMut::new();
        for len in [1, 100, 4000, 16_000] {
            scratch.lend_input(&mut input);
            input.extend_from_slice(&vec![7; len - input.len()]);
            scratch.reclaim_input(&mut input);
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
    fn the_rest_of_a_read_buffer_serves_the_next_connection() {
        let mut scratch = Scratch::default();
        let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
        scratch.lend_input(&mut one);
        one.extend_from_slice(&[1; 1000]);
        let message = one.split_to(1000).freeze();
        let end = message.as_ptr().wrapping_add(1000);
        scratch.reclaim_input(&mut one);
        scratch.lend_input(&mut two);
        two.extend_from_slice(&[2; 10]);
        assert_eq!(
            two.as_ptr(),
            end,
            "the second read starts where the first ended"
        );
        assert!(message.iter().all(|&byte| byte == 1));
    }
}
