//! Replaying the records gives the durable state, whatever happened (STYLE 1.4, RULES 1): after random histories the
//! snapshot of a core that was told the records equals, byte for byte, the snapshot of the one that lived through them.

mod support;

use broker::{Broker, Config};
use support::{Node, Play, Theme, encoded, history, play_on, seeds, shortest};

const THEMES: [Theme; 4] = [
    Theme::Queues,
    Theme::Exchanges,
    Theme::Clients,
    Theme::Everything,
];

fn theme(seed: u64) -> Theme {
    THEMES[seed as usize % THEMES.len()]
}

fn small() -> Config {
    Config {
        // Some messages are in memory, most must be read back.
        recent_count_max: 3,
        ..Config::default()
    }
}

/// A follower that is told each record as it is written agrees after every step.
#[test]
fn random_histories_replay_to_the_same_state_at_every_step() {
    for seed in seeds() {
        shortest(seed, history(seed, theme(seed), 200), |steps| {
            let mut node = Node::with(small());
            node.part_len = 25;
            node.follow();
            let mut play = Play::new();
            for step in steps {
                play_on(&mut node, &mut play, step);
                node.check_references();
            }
            Ok(())
        });
    }
}

/// What is replayed of a history of which a part is lost is something whole: it goes into a snapshot and comes back.
#[test]
fn histories_with_a_part_lost_are_replayed_to_something_whole() {
    for seed in seeds() {
        shortest(seed, history(seed, theme(seed), 120), |steps| {
            let mut node = Node::with(small());
            node.part_len = 25;
            let mut play = Play::new();
            for step in steps {
                play_on(&mut node, &mut play, step);
            }
            let len = node.records.len();
            for from in (1..len).step_by(len / 9 + 1) {
                for lost in [1, 4, len / 2 + 1] {
                    let broker = node.replayed_without(from..(from + lost).min(len));
                    let bytes = encoded(&broker);
                    let again = Broker::decode_snapshot(small(), &mut &bytes[..])
                        .map_err(|error| format!("without {lost} from {from}: {error}"))?;
                    if encoded(&again) != bytes {
                        return Err(format!(
                            "without {lost} from {from} it comes back otherwise"
                        ));
                    }
                }
            }
            Ok(())
        });
    }
}

/// A snapshot taken anywhere, decoded, and told the records behind it, comes to the same state.
#[test]
fn random_histories_continue_from_a_snapshot_at_many_cuts() {
    for seed in seeds() {
        shortest(seed, history(seed, theme(seed), 160), |steps| {
            let mut node = Node::with(small());
            node.part_len = 25;
            let mut play = Play::new();
            let mut snapshots = Vec::new();
            for (at, step) in steps.iter().enumerate() {
                play_on(&mut node, &mut play, step);
                if at % 7 == 0 {
                    snapshots.push((node.records.len(), node.snapshot()));
                }
            }
            let last = node.snapshot();
            for (cut, snapshot) in snapshots {
                if encoded(&node.replayed_from(&snapshot, cut)) != last {
                    return Err(format!("the snapshot at record {cut} leads elsewhere"));
                }
            }
            if encoded(&node.replayed()) != last {
                return Err("replaying everything leads elsewhere".to_owned());
            }
            Ok(())
        });
    }
}
