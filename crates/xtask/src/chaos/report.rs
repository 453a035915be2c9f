//! What came of it, by kind of fault: as a table, and as JSON.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Round,
    faults::Fault,
    history::{Counts, Track},
};

/// Everything that is told.
#[derive(Serialize)]
pub(crate) struct Report {
    seed: u64,
    rounds: Vec<RoundReport>,
    kinds: Vec<Kind>,
    /// With what happened before the first fault.
    total: Counts,
    tracks: Vec<TrackReport>,
    /// Changes of the history that were tried, and that the checkers saw.
    changes_seen: u64,
    /// The first violations one by one, and what else went wrong.
    wrong: Vec<String>,
}

#[derive(Serialize)]
struct RoundReport {
    fault: Fault,
    pause_ms: Option<u64>,
    /// How many began.
    tenures: u64,
    first_us: Option<u64>,
    all_us: Option<u64>,
    phases_us: BTreeMap<String, u64>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Kind {
    fault: Fault,
    count: usize,
    tenures: u64,
    /// From the fault to the first newly confirmed publish.
    first: Quantiles,
    /// To that of the client that waited longest.
    all: Quantiles,
    /// Of the takeovers, by phase.
    phases: BTreeMap<String, Quantiles>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct TrackReport {
    name: &'static str,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Quantiles {
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Quantiles {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        // The least value that the given part of them does not exceed.
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self {
            p50_us: at(50),
            p99_us: at(99),
            max_us: at(100),
        }
    }
}

fn us(time: Option<Duration>) -> Option<u64> {
    time.map(|time| time.as_micros() as u64)
}

impl Report {
    /// `changes_seen`: by the checkers. `wrong`: what else went wrong.
    pub(crate) fn new(
        seed: u64,
        rounds: &[Round],
        tracks: &[&Arc<Track>],
        changes_seen: u64,
        mut wrong: Vec<String>,
    ) -> Self {
        let faults: Vec<_> = rounds.iter().map(|round| round.at).collect();
        let mut slots = vec![Counts::default(); rounds.len() + 1];
        let mut by_track = Vec::new();
        for track in tracks {
            let mut counts = Counts::default();
            for (slot, of_track) in slots.iter_mut().zip(track.judge(&faults, &mut wrong)) {
                slot.add(&of_track);
                counts.add(&of_track);
            }
            by_track.push(TrackReport {
                name: track.name,
                counts,
            });
        }
        let mut total = Counts::default();
        slots.iter().for_each(|slot| total.add(slot));
        let rounds: Vec<RoundReport> = rounds
            .iter()
            .zip(slots.split_off(1))
            .map(|(round, counts)| RoundReport {
                fault: round.fault,
                pause_ms: round.pause.map(|pause| pause.as_millis() as u64),
                tenures: round.tenures,
                first_us: us(round.first),
                all_us: us(round.all),
                phases_us: round.phases_us.clone(),
                counts,
            })
            .collect();
        let kinds = Fault::ALL
            .into_iter()
            .map(|fault| Kind::of(fault, &rounds))
            .filter(|kind| kind.count > 0)
            .collect();
        Self {
            seed,
            rounds,
            kinds,
            total,
            tracks: by_track,
            changes_seen,
            wrong,
        }
    }

    /// Whether nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.wrong.is_empty() && self.total.violations() == 0
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<11} {:>5} {:>9} | {:>6} {:>6} {:>6} {:>6} | {HEAD}",
            "fault", "count", "tenures", "p50 ms", "p99", "max", "all"
        );
        for kind in &self.kinds {
            let ms = |us: u64| us as f64 / 1e3;
            println!(
                "{:<11} {:>5} {:>9} | {:>6.0} {:>6.0} {:>6.0} {:>6.0} | {}",
                kind.fault.as_str(),
                kind.count,
                kind.tenures,
                ms(kind.first.p50_us),
                ms(kind.first.p99_us),
                ms(kind.first.max_us),
                ms(kind.all.max_us),
                row(&kind.counts)
            );
        }
        println!("\nphases of a takeover, ms: p50 p99 max");
        for kind in &self.kinds {
            let each = kind.phases.iter().map(|(name, us)| {
                let [p50, p99, max] = [us.p50_us, us.p99_us, us.max_us].map(|us| us as f64 / 1e3);
                format!("{name} {p50:.1} {p99:.1} {max:.1}")
            });
            let each: Vec<_> = each.collect();
            println!("{:<11} | {}", kind.fault.as_str(), each.join("; "));
        }
        println!("\n{:<11} | {HEAD}", "clients");
        for track in &self.tracks {
            println!("{:<11} | {}", track.name, row(&track.counts));
        }
        println!("{:<11} | {}", "all", row(&self.total));
        println!(
            "changes of this history, one at a time, that the checkers see: {}, all that were tried",
            self.changes_seen
        );
        for wrong in &self.wrong {
            println!("WRONG: {wrong}");
        }
    }
}

impl Kind {
    fn of(fault: Fault, rounds: &[RoundReport]) -> Self {
        let rounds: Vec<&RoundReport> = rounds.iter().filter(|one| one.fault == fault).collect();
        let mut counts = Counts::default();
        rounds.iter().for_each(|round| counts.add(&round.counts));
        Self {
            fault,
            count: rounds.len(),
            tenures: rounds.iter().map(|round| round.tenures).sum(),
            first: Quantiles::of(rounds.iter().filter_map(|round| round.first_us).collect()),
            all: Quantiles::of(rounds.iter().filter_map(|round| round.all_us).collect()),
            phases: phases(&rounds),
            counts,
        }
    }
}

/// The phases of all takeovers.
fn phases(rounds: &[&RoundReport]) -> BTreeMap<String, Quantiles> {
    let mut phases: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (name, us) in rounds.iter().flat_map(|round| &round.phases_us) {
        phases.entry(name.clone()).or_default().push(*us);
    }
    let quantiles = phases.into_iter();
    quantiles
        .map(|(name, values)| (name, Quantiles::of(values)))
        .collect()
}

const HEAD: &str = "confirmed  lost invented disordered duplicates  repeats (marked)";

fn row(counts: &Counts) -> String {
    format!(
        "{:>9} {:>5} {:>8} {:>10} {:>10} {:>8} {:>8}",
        counts.confirmed,
        counts.lost,
        counts.invented,
        counts.disordered,
        counts.duplicates,
        counts.repeats,
        counts.marked
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let of = |values: Vec<u64>| {
            let all = Quantiles::of(values);
            (all.p50_us, all.p99_us, all.max_us)
        };
        assert_eq!(of(Vec::new()), (0, 0, 0));
        assert_eq!(of(vec![7]), (7, 7, 7));
        assert_eq!(of((1..=200).rev().collect()), (100, 198, 200));
    }
}
