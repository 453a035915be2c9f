//! Replaying the records gives the durable state, whatever happened (STYLE 1.4, RULES 1): after random histories the
//! snapshot of a core that was told the records equals, byte for byte, the snapshot of the one that lived through them.

mod support;

use broker::{BodyAt, Broker, Change, Config, Context, Decision};
use message::{Timestamp, VhostId};
use support::{
    Node, Play, Record, Theme, encoded, history, mend, mended, play_on,
    sections::{check_counts, differences},
    seeds, shortest,
};

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

/// Kinds of record that touch everything: a new epoch, and virtual hosts.
const OF_ALL: [u8; 2] = [2, 3];

/// What is replayed of a history of which a part is lost is something whole: all that is counted is there, and it goes into a snapshot
/// and comes back. And what the lost part had not touched is what it would be without the loss.
#[test]
fn histories_with_a_part_lost_are_replayed_to_something_whole_and_exact() {
    let compared = std::cell::Cell::new(0);
    for seed in seeds() {
        shortest(seed, history(seed, theme(seed), 120), |steps| {
            let mut node = Node::with(small());
            node.part_len = 25;
            let mut play = Play::new();
            for step in steps {
                play_on(&mut node, &mut play, step);
            }
            let whole = node.replayed();
            let len = node.records.len();
            for from in (1..len).step_by(len / 9 + 1) {
                for lost in [1, 4, len / 2 + 1] {
                    let gap = from..(from + lost).min(len);
                    let fault = |what| format!("without {gap:?}: {what}");
                    let (mut broker, mut effects) = node.replayed_without(gap.clone());
                    let loss = broker.pending_loss().expect("something is lost");
                    if !node.records[gap.clone()]
                        .iter()
                        .any(|record| OF_ALL.contains(&record.kind.0))
                    {
                        let around = [gap.start, gap.end].map(|upto| node.replayed_upto(upto));
                        let others = differences(
                            (&around[0], &around[1]),
                            (&whole, &broker),
                            loss.passed_over == 0,
                        );
                        if !others.is_empty() {
                            return Err(fault(format!("{others:?} differ, {loss:?}")));
                        }
                        compared.set(compared.get() + 1);
                    }
                    mend(&mut broker, &mut effects);
                    check_counts(&broker, &effects).map_err(fault)?;
                    let bytes = encoded(&broker);
                    let again = Broker::decode_snapshot(small(), &mut &bytes[..])
                        .map_err(|error| fault(error.to_string()))?;
                    if encoded(&again) != bytes {
                        return Err(fault("it comes back otherwise".to_owned()));
                    }
                }
            }
            Ok(())
        });
    }
    assert!(compared.get() > 0, "no part was without a new epoch");
}

/// The records with which virtual hosts are made, one after the other: `/`, then one each.
fn made(names: &[&str]) -> Vec<Record> {
    let mut broker = Broker::new(small());
    let mut records = Vec::new();
    let cx = Context {
        now: Timestamp(1),
        random: 0,
    };
    for upto in 0..=names.len() {
        let mut out = Decision::default();
        broker.decide_vhosts(&names[..upto], &cx, &mut out);
        for change in out.changes {
            let mut payload = Vec::new();
            let kind = change.encode(cx.now, &[], BodyAt::None, &mut payload);
            broker.apply(&change, cx.now, None, &mut Vec::new());
            let payload = payload.into();
            records.push(Record { kind, payload });
        }
    }
    records
}

fn told(broker: &mut Broker, records: &[Record]) {
    for record in records {
        let (time, change) = Change::decode(record.kind, record.payload.clone()).expect("a record");
        broker.apply(&change, time, None, &mut Vec::new());
    }
}

fn numbers(broker: &Broker, names: &[&str]) -> Vec<Option<u32>> {
    let number = |name: &&str| broker.vhost(name).map(|VhostId(number)| number);
    names.iter().map(number).collect()
}

/// Nobody's virtual host gets the number of one whose record is lost: its queues would be shown to another tenant.
#[test]
fn a_virtual_host_that_is_lost_leaves_its_number_to_nobody() {
    let records = made(&["lost", "kept"]);
    let names = ["/", "lost", "kept", "later"];
    let mut broker = Broker::new(small());
    told(&mut broker, &records[..1]);
    broker.after_loss(1);
    told(&mut broker, &records[2..]);
    mend(&mut broker, &mut Vec::new());
    assert_eq!(numbers(&broker, &names), [Some(0), None, Some(2), None]);
    assert_eq!(broker.vhost_name(VhostId(1)), None);
    assert_eq!(broker.vhost(""), None);
    let mut broker = Broker::decode_snapshot(small(), &mut &encoded(&broker)[..]).expect("whole");
    let mut out = Decision::default();
    let cx = Context {
        now: Timestamp(2),
        random: 0,
    };
    broker.decide_vhosts(&["later", "kept", "lost"], &cx, &mut out);
    for change in out.changes {
        broker.apply(&change, cx.now, None, &mut Vec::new());
    }
    assert_eq!(
        numbers(&broker, &names),
        [Some(0), Some(4), Some(2), Some(3)]
    );
}

/// Damage that is found later, in front of the record of a loss that was given up before, is not made good by that record.
#[test]
fn a_loss_in_front_of_the_record_of_another_is_not_that_ones() {
    let records = made(&["lost", "kept"]);
    let mut broker = Broker::new(small());
    told(&mut broker, &records[..1]);
    broker.after_loss(1);
    let mended = mended(&broker);
    let mut broker = Broker::new(small());
    told(&mut broker, &records[..1]);
    broker.after_loss(1);
    broker.after_loss(1);
    told(&mut broker, std::slice::from_ref(&mended));
    assert_eq!(broker.pending_loss().map(|loss| loss.records), Some(1));
    told(&mut broker, &records[2..]);
    mend(&mut broker, &mut Vec::new());
    let names = ["/", "lost", "kept"];
    assert_eq!(numbers(&broker, &names), [Some(0), None, Some(2)]);
}

/// The version of a snapshot says whether there is a place of something lost in it, which the version before knows nothing of.
#[test]
fn a_snapshot_with_a_place_of_something_lost_is_of_another_version() {
    const VERSION: usize = "BASCORE".len();
    let records = made(&["lost", "kept"]);
    let mut broker = Broker::new(small());
    told(&mut broker, &records);
    assert_eq!(encoded(&broker)[VERSION], 1);
    let mut broker = Broker::new(small());
    told(&mut broker, &records[..1]);
    broker.after_loss(1);
    told(&mut broker, &records[2..]);
    mend(&mut broker, &mut Vec::new());
    let mut bytes = encoded(&broker);
    assert_eq!(bytes[VERSION], 2);
    assert!(Broker::decode_snapshot(small(), &mut &bytes[..]).is_ok());
    bytes[VERSION] = 3;
    assert!(Broker::decode_snapshot(small(), &mut &bytes[..]).is_err());
}

/// The first record of all is lost: `/` is there.
#[test]
fn the_root_has_its_number_without_its_record() {
    let records = made(&["kept"]);
    let mut broker = Broker::new(small());
    broker.after_loss(1);
    told(&mut broker, &records[1..]);
    assert_eq!(numbers(&broker, &["/", "kept"]), [Some(0), Some(1)]);
    // And where its record comes only then, it is the same.
    let mut broker = Broker::new(small());
    broker.after_loss(1);
    told(&mut broker, &records);
    assert_eq!(numbers(&broker, &["/", "kept"]), [Some(0), Some(1)]);
    assert_eq!(broker.pending_loss().map(|loss| loss.passed_over), Some(0));
}

/// A record of the version before does not say where it begins: it goes on where the one in front of it ends, unless that is lost.
#[test]
fn virtual_hosts_of_the_version_before_are_read() {
    let before: Vec<Record> = made(&["a", "b"])
        .into_iter()
        .enumerate()
        .map(|(number, mut record)| {
            // Behind the names: the field, its length, a number that is there, the end.
            let field = [1, 2, 1, number as u8, 0];
            let names = record.payload.len() - field.len();
            assert_eq!(record.payload[names..], field);
            record.payload.truncate(names);
            record
        })
        .collect();
    let mut broker = Broker::new(small());
    told(&mut broker, &before);
    assert_eq!(
        numbers(&broker, &["/", "a", "b"]),
        [Some(0), Some(1), Some(2)]
    );
    let mut broker = Broker::new(small());
    broker.after_loss(1);
    told(&mut broker, &before[..1]);
    told(&mut broker, &before[2..]);
    assert_eq!(numbers(&broker, &["/", "a", "b"]), [Some(0), None, None]);
    assert_eq!(broker.pending_loss().map(|loss| loss.passed_over), Some(1));
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
