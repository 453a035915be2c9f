//! The memory that the protocol engine takes for a socket.
//!
//! The engine makes room for a frame as soon as it knows the frame's length. A length costs its sender fourteen bytes, so a
//! long frame is kept back here until all of it has come: what is held grows with what was sent, never with what was
//! announced. A frame longer than the limit is not kept back: its head is enough for the engine to refuse it.

use std::io::{self, Read, Write};

use bytes::{Buf, BytesMut};

/// Frames up to this length, in bytes, reach the engine as they come.
pub(crate) const PROMPT_LEN_MAX: u64 = 16 * 1024;

/// Bytes that have come, and bytes that are to go.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) incoming: BytesMut,
    pub(crate) outgoing: BytesMut,
    /// The longest frame that the engine takes, in bytes.
    pub(crate) frame_len_max: u64,
    /// What the engine may still read before the next frame begins, in bytes.
    released: u64,
}

/// The lengths of a frame's head and of its payload (RFC 6455, 5.2), once they can be told.
fn frame_lens(bytes: &[u8]) -> Option<(u64, u64)> {
    let [_, second, rest @ ..] = bytes else {
        return None;
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    match second & 0x7f {
        126 => {
            let len = rest.first_chunk()?;
            Some((4 + mask, u64::from(u16::from_be_bytes(*len))))
        }
        127 => {
            let len = rest.first_chunk()?;
            Some((10 + mask, u64::from_be_bytes(*len)))
        }
        len => Some((2 + mask, u64::from(len))),
    }
}

impl Pipe {
    /// With that limit.
    pub(crate) fn new(frame_len_max: usize) -> Self {
        Self {
            frame_len_max: frame_len_max as u64,
            ..Self::default()
        }
    }

    /// Lets the next frame go, if it may.
    fn release(&mut self) {
        let Some((head, payload)) = frame_lens(&self.incoming) else {
            return;
        };
        let whole = head.saturating_add(payload);
        let is_prompt = payload <= PROMPT_LEN_MAX || payload > self.frame_len_max;
        if is_prompt || self.incoming.len() as u64 >= whole {
            self.released = whole;
        }
    }
}

impl Read for Pipe {
    /// Empty is "not yet", never the end: the connection loop reports the end by `handle_hangup`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.released == 0 {
            self.release();
        }
        let ready = (self.incoming.len() as u64).min(self.released) as usize;
        if ready == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buffer.len().min(ready);
        self.incoming.copy_to_slice(&mut buffer[..len]);
        self.released -= len as u64;
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    /// A masked binary frame, with a zero mask.
    fn frame(len: u64) -> Vec<u8> {
        let mut bytes = vec![0x82];
        match len {
            ..=125 => bytes.push(0x80 | len as u8),
            126..=0xffff => {
                bytes.push(0xfe);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend(len.to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes
    }

    /// What the engine gets of those bytes.
    fn got(pipe: &mut Pipe, bytes: &[u8]) -> usize {
        pipe.incoming.extend_from_slice(bytes);
        let mut buffer = [0; 4096];
        let mut sum = 0;
        while let Ok(len) = pipe.read(&mut buffer) {
            sum += len;
        }
        sum
    }

    #[test]
    fn a_long_frame_is_kept_back_until_it_is_whole() {
        for len in [PROMPT_LEN_MAX + 1, 0xffff, 0x1_0000, LIMIT as u64] {
            let mut pipe = Pipe::new(LIMIT);
            let head = frame(len);
            let body = vec![0; len as usize];
            assert_eq!(got(&mut pipe, &head), 0, "{len}");
            assert_eq!(got(&mut pipe, &body[1..]), 0, "{len}");
            assert_eq!(got(&mut pipe, &body[..1]), head.len() + body.len());
            assert_eq!(got(&mut pipe, &frame(3)), 6, "the next one is read again");
        }
    }

    #[test]
    fn short_frames_and_frames_over_the_limit_come_at_once() {
        for len in [
            0,
            125,
            126,
            PROMPT_LEN_MAX,
            LIMIT as u64 + 1,
            u64::MAX - 3,
            u64::MAX,
        ] {
            let mut pipe = Pipe::new(LIMIT);
            let head = frame(len);
            assert_eq!(got(&mut pipe, &head), head.len(), "{len}");
        }
    }

    #[test]
    fn a_head_may_come_byte_by_byte() {
        let mut pipe = Pipe::new(LIMIT);
        let head = frame(200);
        let all: usize = head.iter().map(|byte| got(&mut pipe, &[*byte])).sum();
        assert_eq!(all, head.len());
        assert_eq!(got(&mut pipe, &[0; 150]), 150);
        assert_eq!(got(&mut pipe, &[0; 51]), 50);
    }
}
