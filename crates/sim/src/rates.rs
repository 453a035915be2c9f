//! How often what goes wrong, chosen anew for each run: a run with everything at once finds less than many with a few things
//! each. Some runs have a theme: what chance alone would bring together in one of many thousands.

use crate::random::Random;

const YEAR_MS: u64 = 31_536_000_000;

/// Where the store is, and what that makes of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On one machine: a lock that is held proves that its process lives.
    Local,
    /// On another machine: locks prove nothing, and whoever starts waits for the lease to stand still. Writes of the dead may
    /// still arrive.
    Remote,
    /// As `Remote`, but nobody waits: whoever starts takes over from who is active, whatever that one is in the middle of.
    /// Nothing of what must hold rests on waiting.
    Reckless,
}

/// What a run is after. The seed itself says so, and what a theme draws comes from a generator of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Nothing in particular.
    Any,
    /// Leases: the way of one node to the store is slow for seconds, just as long as leases last, while others want its place and some of
    /// its clients stay whatever it does not say.
    Leases,
    /// The house: little segments, many snapshots, and deaths as soon as a file is gone or has another name; or, in half of these runs, writes
    /// of who was succeeded or died that arrive when what they were for is long given back.
    House,
    /// What outlives connections besides messages: retained messages, wills, dead letters, dedup ids that are used again, receipts that are
    /// used late, consumer groups.
    State,
    /// A bit of a segment or a snapshot at rest turns while nodes run, that read again what is sealed.
    Rot,
    /// What is handed over in steps, while nodes take over from one another: exactly-once publishes and deliveries, deliveries that are not
    /// settled.
    Steps,
}

impl Theme {
    pub(crate) const fn of(seed: u64) -> Self {
        match seed % 40 {
            13 | 24 | 33 | 35 => Self::Steps,
            other => match other % 10 {
                1 | 2 => Self::Leases,
                7 => Self::House,
                3 | 8 => Self::State,
                9 => Self::Rot,
                _ => Self::Any,
            },
        }
    }

    /// What only a theme draws comes from here.
    pub(crate) fn random(seed: u64) -> Random {
        Random::new(!seed)
    }

    fn bend(self, rates: &mut Rates, random: &mut Random) {
        match self {
            Self::Any => {}
            Self::Leases => {
                rates.place = Place::Remote;
                rates.nodes = *random.pick(&[2, 2, 3]);
                rates.slow = random.spread(50_000, 500_000) as u32;
                rates.slow_call_max = random.spread(100_000, 5_000_000);
                rates.slow_for_max = random.spread(1_000_000, 15_000_000);
                rates.takeover = random.spread(100_000, 800_000) as u32;
                rates.kill /= 10;
                rates.write_fails = 0;
                rates.power_loss = 0;
                rates.kill_all = 0;
                rates.clocks_stop = false;
                rates.chaos = random.between(15_000_000, 40_000_000);
                rates.slow_fence = *random.pick(&[0, 500_000, 900_000]);
            }
            Self::House => {
                rates.nodes = *random.pick(&[1, 1, 2]);
                rates.kill_names = random.spread(10_000, 200_000) as u32;
                rates.latency_max = random.spread(500, 20_000);
                rates.chaos = random.between(5_000_000, 20_000_000);
                if random.percent(50) {
                    rates.nodes = 2;
                    rates.place = Place::Reckless;
                    rates.stands_by = 0;
                    rates.kill_names = 0;
                    rates.kill = random.spread(200, 1_000) as u32;
                    rates.late_percent = 90;
                    rates.pause = random.spread(1_000, 10_000) as u32;
                    rates.pause_max = random.spread(500_000, 5_000_000);
                    rates.takeover = random.spread(400_000, 1_000_000) as u32;
                    rates.latency_max = random.spread(20, 500);
                }
            }
            Self::State => {
                rates.nodes = *random.pick(&[2, 2, 3]);
                rates.latency_max = random.spread(20, 2_000);
                rates.pause_max = random.spread(10_000, 10_000_000);
                rates.takeover = random.spread(50_000, 500_000) as u32;
                rates.chaos = random.between(4_000_000, 20_000_000);
                // Damage excuses too much.
                rates.rot = 0;
                rates.stray = 0;
                let dedup_ms = *random.pick(&[8_000, 15_000, 300_000]);
                if rates.clock_jump == 0 && !rates.clocks_stop {
                    rates.dedup_ms = dedup_ms;
                    rates.clock_jump_max = 2_000;
                }
                rates.replay_slice = *random.pick(&[1, 2, 256]);
            }
            Self::Steps => {
                rates.nodes = *random.pick(&[2, 2, 3]);
                rates.latency_max = random.spread(20, 2_000);
                rates.pause_max = random.spread(10_000, 5_000_000);
                rates.takeover = random.spread(100_000, 800_000) as u32;
                rates.chaos = random.between(4_000_000, 20_000_000);
                // Damage excuses too much.
                rates.rot = 0;
                rates.stray = 0;
            }
            Self::Rot => {
                rates.nodes = *random.pick(&[1, 2, 2]);
                rates.latency_max = random.spread(20, 1_000);
                rates.pause_max = random.spread(10_000, 10_000_000);
                rates.kill = random.spread(20, 300) as u32;
                rates.rot = random.spread(50_000, 300_000) as u32;
                rates.stray = 0;
                rates.chaos = random.between(3_000_000, 15_000_000);
            }
        }
    }
}

/// Chances are per million file operations or clock ticks.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    pub(crate) theme: Theme,
    pub(crate) nodes: usize,
    pub(crate) place: Place,
    /// Of all processes so many, in percent, begin as a standby.
    pub(crate) stands_by: u32,
    /// A file operation takes so long at most, in µs.
    pub(crate) latency_max: u64,
    /// Of a file operation: the process stands still meanwhile.
    pub(crate) pause: u32,
    /// Of a file operation: it takes long, and the rest goes on.
    pub(crate) stall: u32,
    /// Of a file operation: the process is killed meanwhile.
    pub(crate) kill: u32,
    /// Of a file that got another name or is unlinked: the process is killed right after it.
    pub(crate) kill_names: u32,
    /// The longest pause or stall, in µs.
    pub(crate) pause_max: u64,
    /// Of every half second: the way of one node to the store gets slow.
    pub(crate) slow: u32,
    /// How long each second call takes there at most, in µs, before and after it has its effect.
    pub(crate) slow_call_max: u64,
    /// And for how long that goes on, in µs.
    pub(crate) slow_for_max: u64,
    /// Of a write of a fence: that call alone takes long, as whatever lies between a look at a lease and the fence may.
    pub(crate) slow_fence: u32,
    /// Of a write or sync.
    pub(crate) write_fails: u32,
    /// Of a link: it happens, and the answer says that it did not.
    pub(crate) link_reply_lost: u32,
    /// Of every half second.
    pub(crate) power_loss: u32,
    pub(crate) takeover: u32,
    pub(crate) kill_all: u32,
    pub(crate) clock_jump: u32,
    /// How wrong a wall clock is at most, in ms. Far ahead, the time for which dedup ids are remembered is over at the next start; still
    /// further off, a start is refused.
    pub(crate) clock_jump_max: u64,
    pub(crate) disk_full: u32,
    /// The store's machine starts anew; where that is another one.
    pub(crate) store_restart: u32,
    /// Of a durable write: everyone sees it before it is durable.
    pub(crate) early_sight: u32,
    /// Of a write that its process did not see the end of, in percent: it is still on its way.
    pub(crate) late_percent: u32,
    /// Of a renewal of a lease: it arrives a second time, later.
    pub(crate) late_renewal: u32,
    /// Of a read of what another machine may have written: what a cache has is as good as a close and an open allow.
    pub(crate) stale: u32,
    /// Of a write of a batch, at most once in a run: a copy of it lands in front of where it belongs.
    pub(crate) stray: u32,
    /// A sector that is being written when power fails may hold anything.
    pub(crate) shorn: bool,
    /// How wrong the nodes' clocks run at most, in parts per thousand.
    pub(crate) clock_rate_max: u64,
    /// A machine that stands still has no clock that goes on: a virtual one.
    pub(crate) clocks_stop: bool,
    /// A bit of a file at rest turns, at most once in a run.
    pub(crate) rot: u32,
    /// How long things go wrong, in µs.
    pub(crate) chaos: u64,
    /// How long dedup ids are remembered, in ms.
    pub(crate) dedup_ms: u64,
    /// Retained messages that are shown in one go.
    pub(crate) replay_slice: u32,
    /// Clients hand in several publishes in one command.
    pub(crate) batches: bool,
}

impl Rates {
    /// The rates of a seed, of whose generator so much is drawn.
    pub(crate) fn of(seed: u64, random: &mut Random) -> Self {
        let theme = Theme::of(seed);
        let mut rates = Self::any(random);
        rates.theme = theme;
        // Of those of the theme of states some, so that receipts that several nodes gave are used by one command.
        rates.batches = matches!(seed % 40, 0 | 8 | 14..=16 | 23 | 25 | 26 | 36);
        theme.bend(&mut rates, &mut Theme::random(seed));
        rates
    }

    /// For how long a repeat with the same dedup id is safe, in µs: less than the broker remembers, by as much as clocks go wrong.
    pub(crate) const fn repeats_max(&self) -> u64 {
        (self.dedup_ms * 1000 * 2 / 3).saturating_sub(self.clock_jump_max * 1000)
    }

    fn any(random: &mut Random) -> Self {
        let mut maybe = |percent: u32, from: u64, to: u64| -> u32 {
            if random.percent(percent) {
                u32::try_from(random.spread(from, to)).expect("rates are small")
            } else {
                0
            }
        };
        let pause = maybe(60, 200, 5_000);
        let stall = maybe(40, 200, 5_000);
        let kill = maybe(60, 100, 3_000);
        let write_fails = maybe(25, 50, 1_000);
        let link_reply_lost = maybe(30, 50_000, 500_000);
        let power_loss = maybe(40, 10_000, 100_000);
        let takeover = maybe(70, 20_000, 400_000);
        let kill_all = maybe(25, 10_000, 60_000);
        let clock_jump = maybe(30, 10_000, 200_000);
        let disk_full = maybe(15, 10_000, 100_000);
        let rot = maybe(8, 20_000, 100_000);
        let store_restart = maybe(40, 10_000, 200_000);
        let early_sight = maybe(60, 20_000, 500_000);
        let late_percent = maybe(60, 10, 90);
        let late_renewal = maybe(30, 10_000, 300_000);
        let stale = maybe(30, 10_000, 500_000);
        let stray = maybe(10, 2_000, 50_000);
        let shorn = random.percent(30);
        let clock_rate_max = random.below(3) * 50;
        let clocks_stop = random.percent(15);
        Self {
            theme: Theme::Any,
            nodes: *random.pick(&[1, 2, 2, 3, 3]),
            place: match random.below(4) {
                0 => Place::Local,
                1 => Place::Remote,
                _ => Place::Reckless,
            },
            stands_by: *random.pick(&[0, 40, 70, 95]),
            latency_max: random.spread(20, 20_000),
            pause,
            stall,
            kill,
            kill_names: 0,
            pause_max: random.spread(10_000, 60_000_000),
            slow: 0,
            slow_call_max: 0,
            slow_for_max: 0,
            slow_fence: 0,
            write_fails,
            link_reply_lost,
            power_loss,
            takeover,
            kill_all,
            clock_jump,
            clock_jump_max: match random.below(1_000_000) {
                0..500_000 => 30_000,
                500_000..750_000 => 3_600_000,
                _ => 10 * YEAR_MS,
            },
            disk_full,
            store_restart,
            early_sight,
            late_percent,
            late_renewal,
            stale,
            stray,
            shorn,
            clock_rate_max,
            clocks_stop,
            rot,
            chaos: random.spread(2_000_000, 30_000_000),
            dedup_ms: 300_000,
            replay_slice: 256,
            batches: false,
        }
    }
}
