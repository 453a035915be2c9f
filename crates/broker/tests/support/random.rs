//! Seeds, and the search for the shortest history that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// SplitMix64: the same numbers from the same seed, everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Less than `end`.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    pub(crate) const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// The seeds to run: `BASCULE_SEEDS` says how many (30 without), `BASCULE_SEED` names the only one.
pub(crate) fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("BASCULE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("BASCULE_SEEDS").unwrap_or(30)).collect(),
    }
}

/// Runs a history; when it fails, leaves out steps for as long as it still fails, and panics with what is left.
///
/// Steps must mean something whatever is left out before them.
pub(crate) fn shortest<T: Clone + std::fmt::Debug>(
    seed: u64,
    steps: Vec<T>,
    run: impl Fn(&[T]) -> Result<(), String>,
) {
    let tried = |steps: &[T]| {
        catch_unwind(AssertUnwindSafe(|| run(steps))).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        })
    };
    let Err(mut why) = tried(&steps) else { return };
    let mut left = steps;
    let mut width = left.len().div_ceil(2);
    while width > 0 {
        let mut at = 0;
        let mut shrunk = false;
        while at < left.len() {
            let mut fewer = left.clone();
            fewer.drain(at..(at + width).min(fewer.len()));
            match tried(&fewer) {
                Err(reason) => {
                    left = fewer;
                    why = reason;
                    shrunk = true;
                }
                Ok(()) => at += width,
            }
        }
        if width == 1 && !shrunk {
            break;
        }
        width = if shrunk && width == 1 { 1 } else { width / 2 };
    }
    let dialogue: Vec<String> = left.iter().map(|step| format!("  {step:?}")).collect();
    panic!(
        "seed {seed}: {why}\nafter these {} steps:\n{}\nrun it again with BASCULE_SEED={seed}",
        left.len(),
        dialogue.join("\n")
    );
}
