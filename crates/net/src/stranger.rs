//! What a peer may cost before the core knows it.
//!
//! Bytes are counted as they are read, whatever a session does with them, so nothing that is built of them can be larger:
//! neither an unfinished frame nor a WebSocket message of many fragments. Time is the sessions' business: each has one
//! deadline from the first byte to the login, which is the least rate too at which a peer may send.
//!
//! ```text
//! heard:  0 ······· 8 KiB ················ Limits::login_len_max ── closed
//!           free        from the pool of all strangers,
//!                       Limits::login_pool_len_max; closed when it is empty
//! ```
//! Invariant: strangers together hold at most 8 KiB each, twice over for buffers that grow by doubling, and the pool.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Limits;

/// What every stranger may send.
const FREE_LEN: u32 = 8 * 1024;

/// One peer's account. Kept in its seat, so that it is given back with it.
#[derive(Debug, Default)]
pub(crate) struct Stranger {
    heard: u32,
    /// Of these bytes, those from the pool.
    pooled: u32,
    /// The core knows the peer: nothing is counted any more.
    known: bool,
}

/// Why a stranger is heard no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// More than a login can have.
    Own,
    /// The pool is empty.
    Pool,
}

impl Stranger {
    pub(crate) const fn is_known(&self) -> bool {
        self.known
    }

    /// Whether it may send more.
    pub(crate) const fn check(&self, limits: &Limits) -> Result<(), TooMuch> {
        if !self.known && self.heard as usize >= limits.login_len_max {
            return Err(TooMuch::Own);
        }
        Ok(())
    }

    /// So many more bytes were read.
    pub(crate) fn hear(
        &mut self,
        len: usize,
        pool: &AtomicUsize,
        limits: &Limits,
    ) -> Result<(), TooMuch> {
        if self.known {
            return Ok(());
        }
        self.heard = self
            .heard
            .saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        let wanted = (self.heard.saturating_sub(FREE_LEN) - self.pooled) as usize;
        if wanted == 0 {
            return Ok(());
        }
        let before = pool.fetch_add(wanted, Ordering::AcqRel);
        self.pooled += wanted as u32;
        if before + wanted > limits.login_pool_len_max {
            return Err(TooMuch::Pool);
        }
        Ok(())
    }

    /// The core knows it, or it has gone.
    pub(crate) fn give_back(&mut self, pool: &AtomicUsize) {
        self.known = true;
        let pooled = std::mem::take(&mut self.pooled) as usize;
        if pooled > 0 {
            pool.fetch_sub(pooled, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(own: usize, pool: usize) -> Limits {
        Limits {
            login_len_max: own,
            login_pool_len_max: pool,
            ..Limits::default()
        }
    }

    #[test]
    fn a_stranger_is_heard_so_far_and_no_further() {
        let (pool, limits) = (AtomicUsize::new(0), limits(20_000, 1 << 20));
        let mut stranger = Stranger::default();
        for _ in 0..20_000 {
            assert_eq!(stranger.check(&limits), Ok(()));
            assert_eq!(stranger.hear(1, &pool, &limits), Ok(()));
        }
        assert_eq!(stranger.check(&limits), Err(TooMuch::Own));
        assert_eq!(pool.load(Ordering::Relaxed), 20_000 - FREE_LEN as usize);
        stranger.give_back(&pool);
        assert_eq!(pool.load(Ordering::Relaxed), 0);
        assert_eq!(stranger.hear(1 << 30, &pool, &limits), Ok(()));
        assert_eq!(stranger.check(&limits), Ok(()));
        assert_eq!(pool.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn long_logins_share_a_pool_and_short_ones_need_none() {
        let (pool, limits) = (AtomicUsize::new(0), limits(1 << 20, 100_000));
        let mut long: Vec<Stranger> = (0..3).map(|_| Stranger::default()).collect();
        assert_eq!(
            long[0].hear(FREE_LEN as usize + 60_000, &pool, &limits),
            Ok(())
        );
        assert_eq!(
            long[1].hear(FREE_LEN as usize + 40_000, &pool, &limits),
            Ok(())
        );
        assert_eq!(
            long[2].hear(FREE_LEN as usize + 1, &pool, &limits),
            Err(TooMuch::Pool)
        );
        let mut short = Stranger::default();
        assert_eq!(short.hear(FREE_LEN as usize, &pool, &limits), Ok(()));
        for stranger in &mut long {
            stranger.give_back(&pool);
        }
        assert_eq!(pool.load(Ordering::Relaxed), 0);
        assert_eq!(short.hear(1, &pool, &limits), Ok(()));
    }
}
