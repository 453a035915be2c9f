//! Replaying the records gives the durable state, whatever happened (STYLE 1.4, RULES 1): after random histories the
//! snapshot of a core that was told the records equals, byte for byte, the snapshot of the one that lived through them.

mod support;

use broker::Config;
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
