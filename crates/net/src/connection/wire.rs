//! Reading and writing without blocking: one system call a poll, no buffer beyond the caller's.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, BytesMut};
use session::Wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Parts of the wire given to one vectored write.
const PARTS_MAX: usize = 64;
/// Most bytes of one read, however much room a session made.
const READ_LEN_MAX: usize = 256 * 1024;

/// Reads into the room behind `input`, which must be there. 0: the peer has ended its side.
pub(super) fn poll_read(
    io: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut room = input.limit(READ_LEN_MAX);
    pin!(io.read_buf(&mut room)).poll(cx)
}

/// Writes as much as the socket takes and flushes. Adds what it wrote to `written`.
pub(super) fn poll_write(
    io: &mut (impl AsyncWrite + Unpin),
    wire: &mut Wire,
    cx: &mut Context<'_>,
    written: &mut usize,
) -> Poll<io::Result<()>> {
    while wire.has_remaining() {
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let used = if io.is_write_vectored() {
            wire.chunks_vectored(&mut parts)
        } else {
            1
        };
        let count = ready!(if used > 1 {
            Pin::new(&mut *io).poll_write_vectored(cx, &parts[..used])
        } else {
            Pin::new(&mut *io).poll_write(cx, wire.chunk())
        })?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        wire.advance(count);
        *written += count;
    }
    Pin::new(io).poll_flush(cx)
}
