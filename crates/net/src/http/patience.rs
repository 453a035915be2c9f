//! A stream whose peer must take what is written within a time, and whose bytes are counted. hyper times only what it reads.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::Traffic;

/// Fails a write that has made no progress for `limit`.
pub(crate) struct Patient<I> {
    inner: I,
    limit: Duration,
    traffic: Arc<Traffic>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<I> Patient<I> {
    pub(crate) const fn new(inner: I, limit: Duration, traffic: Arc<Traffic>) -> Self {
        Self {
            inner,
            limit,
            traffic,
            waiting: None,
        }
    }

    pub(crate) fn into_inner(self) -> I {
        self.inner
    }

    fn time(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &polled {
            Traffic::add(&self.traffic.bytes_out, *written.as_ref().unwrap_or(&0));
            self.waiting = None;
            return polled;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(self.limit)));
        waiting
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        Traffic::add(&self.traffic.bytes_in, buf.filled().len() - before);
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.time(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.time(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut peer, ours) = tokio::io::duplex(10);
        let mut patient = Patient::new(ours, Duration::from_secs(30), Arc::default());
        let start = Instant::now();
        let writing = async { patient.write_all(&[7; 25]).await };
        let reading = async {
            tokio::time::advance(Duration::from_secs(29)).await;
            peer.read_exact(&mut [0; 10]).await.expect("ten bytes");
        };
        let (written, ()) = tokio::join!(writing, reading);
        let error = written.expect_err("the last five do not fit");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Progress starts it anew.
        assert!(
            start.elapsed() >= Duration::from_secs(59),
            "{:?}",
            start.elapsed()
        );
    }
}
