//! The memory that the protocol engine takes for a socket.

use std::io::{self, Read, Write};

use bytes::{Buf, BytesMut};

/// Bytes that have come, and bytes that are to go.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) incoming: BytesMut,
    pub(crate) outgoing: BytesMut,
}

impl Read for Pipe {
    /// Empty is "not yet", never the end: the connection loop reports the end by `handle_hangup`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buffer.len().min(self.incoming.len());
        self.incoming.copy_to_slice(&mut buffer[..len]);
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
