//! Who may come, and how fast.
//!
//! | limit | beyond it |
//! |---|---|
//! | [`Limits::accepts_per_s`], all listeners together | the listener pauses; who comes waits in the kernel's queue |
//! | [`Limits::address_accepts_per_s`] | closed at once, counted as limited |
//! | [`Limits::address_connections_max`] | the same |
//!
//! Each rate is a bucket of one second's connections for all, of four seconds' for one address, so that a fleet that comes
//! back together is not turned away for it. An IPv6 peer chooses freely within its /64: that prefix counts as one address.
//! Loopback is exempt unless [`Limits::loopback_limited`] is set: whoever is on this machine can do worse.
//!
//! Invariant: an address is remembered only while it has connections or its bucket is not full again, so with a limit on
//! all together the table is bounded by it; without one, [`ADDRESSES_MAX`] addresses are remembered, and further ones are let in.
//!
//! Not here: the number of all connections ([`crate::Server::seat`]), and what a peer may do once it is in.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use message::Timestamp;

use crate::Limits;

/// Addresses remembered at a time.
const ADDRESSES_MAX: usize = 100_000;
/// Addresses at which forgetting is tried for the first time.
const FORGET_FROM: usize = 1_024;
/// A shorter pause is not worth a timer, whose grain is a millisecond: a few connections come at a stroke instead.
const PAUSE_MS_MIN: u64 = 10;
/// The bucket of one address, in seconds of its rate.
const ADDRESS_BURST_S: u64 = 4;

/// What becomes of a connection that has just been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It may stay. The next one is not to be accepted within so many ms.
    Yes { pause_ms: u64 },
    /// Its address opens connections too fast, or has too many.
    No(Limited),
}

/// Which limit of an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    Rate,
    Count,
}

impl Limited {
    /// As the configuration names it.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Rate => "limits.address_accepts_per_s",
            Self::Count => "limits.address_connections_max",
        }
    }
}

/// What the listeners of a server share about who comes.
#[derive(Debug, Default)]
pub(crate) struct Admission(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    all: Bucket,
    addresses: HashMap<IpAddr, Tally>,
    /// Addresses at which those that need not be remembered are looked for.
    forget_at: usize,
    /// And when they were looked for last.
    forgot_us: u64,
}

#[derive(Debug, Default)]
struct Tally {
    rate: Bucket,
    open: usize,
}

/// Holds `burst` connections and refills at `per_s`.
#[derive(Debug, Default)]
struct Bucket {
    /// When it will be full again, in microseconds.
    full_at_us: u64,
}

impl Bucket {
    /// How long until it is no longer overdrawn, in microseconds, were one more taken.
    const fn lack_us(&self, now_us: u64, per_s: u64, burst: u64) -> u64 {
        let owed = self.full_at_us.saturating_sub(now_us);
        owed.saturating_sub((burst - 1) * 1_000_000 / per_s)
    }

    fn take(&mut self, now_us: u64, per_s: u64) {
        self.full_at_us = self.full_at_us.max(now_us) + 1_000_000 / per_s;
    }
}

/// What counts as one address; `None`: it is exempt.
fn origin(address: IpAddr, limits: &Limits) -> Option<IpAddr> {
    let address = address.to_canonical();
    if address.is_loopback() && !limits.loopback_limited {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    })
}

impl Admission {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted. If it may stay, it counts for its address until [`Admission::leave`].
    pub(crate) fn come(&self, address: IpAddr, limits: &Limits, now: Timestamp) -> Admitted {
        let Some(origin) = origin(address, limits) else {
            return Admitted::Yes { pause_ms: 0 };
        };
        let now_us = now.0.saturating_mul(1_000);
        let mut book = self.book();
        if let Some(limited) = book.count_address(origin, limits, now_us) {
            return Admitted::No(limited);
        }
        let per_s = u64::from(limits.accepts_per_s);
        if per_s == 0 {
            return Admitted::Yes { pause_ms: 0 };
        }
        book.all.take(now_us, per_s);
        let pause_ms = book.all.lack_us(now_us, per_s, per_s).div_ceil(1_000);
        Admitted::Yes {
            pause_ms: if pause_ms < PAUSE_MS_MIN { 0 } else { pause_ms },
        }
    }

    /// A connection that was let in has gone.
    pub(crate) fn leave(&self, address: IpAddr, limits: &Limits) {
        if limits.address_connections_max == 0 {
            return;
        }
        if let Some(origin) = origin(address, limits)
            && let Some(tally) = self.book().addresses.get_mut(&origin)
        {
            tally.open = tally.open.saturating_sub(1);
        }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.book().addresses.len()
    }
}

impl Book {
    /// Takes the connection into its address's account, unless a limit is reached.
    fn count_address(&mut self, origin: IpAddr, limits: &Limits, now_us: u64) -> Option<Limited> {
        let per_s = u64::from(limits.address_accepts_per_s);
        let open_max = limits.address_connections_max;
        if per_s == 0 && open_max == 0 {
            return None;
        }
        self.forget(now_us);
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&origin) {
            return None;
        }
        let tally = self.addresses.entry(origin).or_default();
        if open_max > 0 && tally.open >= open_max {
            return Some(Limited::Count);
        }
        if per_s > 0 {
            if tally.rate.lack_us(now_us, per_s, per_s * ADDRESS_BURST_S) > 0 {
                return Some(Limited::Rate);
            }
            tally.rate.take(now_us, per_s);
        }
        if open_max > 0 {
            tally.open += 1;
        }
        None
    }

    /// Forgets who need not be remembered, whenever the table has doubled; while it is full, once a second.
    fn forget(&mut self, now_us: u64) {
        let len = self.addresses.len();
        let is_full = len >= ADDRESSES_MAX;
        if len < self.forget_at.max(FORGET_FROM) || (is_full && now_us < self.forgot_us + 1_000_000)
        {
            return;
        }
        self.forgot_us = now_us;
        self.addresses
            .retain(|_, tally| tally.open > 0 || tally.rate.full_at_us > now_us);
        self.forget_at = (self.addresses.len() * 2).min(ADDRESSES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn limits(all: u32, address: u32, open: usize) -> Limits {
        Limits {
            accepts_per_s: all,
            address_accepts_per_s: address,
            address_connections_max: open,
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_that_comes_too_fast_is_turned_away_and_others_are_not() {
        let (admission, limits) = (Admission::default(), limits(0, 50, 0));
        let (one, two) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let admitted = |address, now, count: usize| {
            let verdicts = (0..count).map(|_| admission.come(address, &limits, now));
            verdicts
                .filter(|it| matches!(it, Admitted::Yes { .. }))
                .count()
        };
        assert_eq!(admitted(one, START, 1_000), 200);
        assert_eq!(
            admission.come(one, &limits, START),
            Admitted::No(Limited::Rate)
        );
        assert_eq!(admitted(two, START, 10), 10);
        // Fifty a second from then on; a pause fills the bucket and no more.
        assert_eq!(admitted(one, START.plus_ms(1_000), 1_000), 50);
        assert_eq!(admitted(one, START.plus_ms(1_019), 1_000), 0);
        assert_eq!(admitted(one, START.plus_ms(1_020), 1_000), 1);
        assert_eq!(admitted(one, START.plus_ms(1_000_000), 1_000), 200);
    }

    #[test]
    fn beyond_the_rate_of_all_the_listener_pauses() {
        let (admission, limits) = (Admission::default(), limits(1_000, 0, 0));
        let mut pauses = (0..2_000).map(|number: u32| {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            match admission.come(address, &limits, START) {
                Admitted::Yes { pause_ms } => pause_ms,
                Admitted::No(limited) => panic!("turned away: {limited:?}"),
            }
        });
        assert!(pauses.by_ref().take(999 + 9).all(|pause_ms| pause_ms == 0));
        assert_eq!(pauses.next(), Some(10));
        // Were nobody to wait, the debt would grow.
        assert_eq!(pauses.last(), Some(1_001));
    }

    #[test]
    fn an_address_has_only_so_many_connections() {
        let (admission, limits) = (Admission::default(), limits(0, 0, 2));
        let address = ip("10.0.0.1");
        let come = |address| admission.come(address, &limits, START);
        let (yes, no) = (Admitted::Yes { pause_ms: 0 }, Admitted::No(Limited::Count));
        assert_eq!(
            [come(address), come(address), come(address)],
            [yes, yes, no]
        );
        assert_eq!(come(ip("10.0.0.2")), yes);
        admission.leave(address, &limits);
        assert_eq!([come(address), come(address)], [yes, no]);
    }

    #[test]
    fn a_prefix_of_64_bits_is_one_address_and_loopback_is_exempt() {
        let (admission, mut limits) = (Admission::default(), limits(0, 0, 1));
        let (yes, no) = (Admitted::Yes { pause_ms: 0 }, Admitted::No(Limited::Count));
        for exempt in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            for _ in 0..3 {
                assert_eq!(admission.come(ip(exempt), &limits, START), yes, "{exempt}");
            }
        }
        assert_eq!(admission.come(ip("2001:db8::1"), &limits, START), yes);
        assert_eq!(admission.come(ip("2001:db8::2"), &limits, START), no);
        assert_eq!(admission.come(ip("2001:db8:0:1::2"), &limits, START), yes);
        // The same peer through a socket of both families.
        assert_eq!(admission.come(ip("10.0.0.1"), &limits, START), yes);
        assert_eq!(admission.come(ip("::ffff:10.0.0.1"), &limits, START), no);
        limits.loopback_limited = true;
        assert_eq!(admission.come(ip("127.0.0.1"), &limits, START), yes);
        assert_eq!(admission.come(ip("127.0.0.1"), &limits, START), no);
    }

    #[test]
    fn addresses_are_forgotten() {
        let (admission, limits) = (Admission::default(), limits(0, 50, 0));
        for number in 0..200_000_u32 {
            // A thousand new addresses each millisecond; a bucket is full again after 20.
            let now = START.plus_ms(u64::from(number / 1_000));
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            assert_eq!(
                admission.come(address, &limits, now),
                Admitted::Yes { pause_ms: 0 }
            );
            assert!(admission.remembered() <= 64_000, "after {number}");
        }
        // All at once: remembered up to the most there may be, let in beyond.
        for number in 0..300_000_u32 {
            let address = IpAddr::V4((0x0b00_0000 + number).into());
            let now = START.plus_ms(10_000);
            assert_eq!(
                admission.come(address, &limits, now),
                Admitted::Yes { pause_ms: 0 }
            );
        }
        assert_eq!(admission.remembered(), ADDRESSES_MAX);
    }
}
