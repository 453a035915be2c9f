//! Records in stream files (RULES 14, 25): deciding reads none, whoever needs some waits, and memory knows runs only.

use message::Timestamp;
use session::*;

use crate::{
    rig::{Rig, body},
    streams::read,
};

/// A stream of so many records, one every 10 ms.
fn filled(count: u64) -> (Rig, SessionId, Timestamp) {
    let mut rig = Rig::new();
    let a = rig.attach(1);
    rig.make(a, "s", 1);
    let began = rig.now;
    for number in 0..count {
        rig.write(a, "s", "key", &number.to_string());
        rig.tick(10);
    }
    (rig, a, began)
}

fn reader(rig: &mut Rig, of: u64, from: StreamStart, group: Option<&'static str>) -> SessionId {
    let session = rig.attach(of);
    let mut subscribe = rig.consumer(1, "", Credit::Window(3));
    subscribe.source = Source::Stream {
        name: "s".into(),
        from,
        group: group.map(Into::into),
    };
    let event = rig.subscribe(session, subscribe);
    assert!(matches!(event, Event::Subscribed { .. }), "{event:?}");
    session
}

/// Everything that a reader is given, each settled as it comes.
fn drained(rig: &mut Rig, session: SessionId) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let deliveries = rig.deliveries(session);
        if deliveries.is_empty() {
            return found;
        }
        for delivery in deliveries {
            found.push(body(&delivery));
            let id = delivery.id.expect("it is to be settled");
            rig.settle(session, &[id], Outcome::Accept);
        }
    }
}

fn texts(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

#[test]
fn rules_25_what_lies_in_files_costs_memory_by_the_run_not_by_the_record() {
    let (mut rig, _, _) = filled(6000);
    let before = rig.snapshot().len();
    rig.file(6000);
    let after = rig.snapshot().len();
    let counters = rig.broker.counters();
    assert_eq!(
        (counters.stream_records, counters.stream_records_filed),
        (6000, 6000)
    );
    assert!(
        before > 6000 * 3 && after < 1000,
        "{before} bytes, then {after}"
    );
    let mut stored = 0;
    rig.broker.for_each_stored(|_| stored += 1);
    assert_eq!(stored, 0, "the originals are dead");
    rig.check_replay();
}

#[test]
fn rules_14_a_read_that_needs_a_file_waits_for_it_and_ends_with_its_stream() {
    let (mut rig, a, _) = filled(10);
    rig.file(6);
    rig.loads = false;
    let token = rig.begin_read(a, read("s", 0, StreamStart::First, 100));
    assert!(rig.found(a, token).is_none(), "deciding reads no file");
    let load = rig.wanted.remove(0);
    assert_eq!((load.upto, load.shards[0]), (6, (ShardNo(0), 0)));
    // It is answered once, with what the file has; the next one goes on in the journal.
    rig.load(&load);
    let Some(Event::Records { records, .. }) = rig.found(a, token) else {
        panic!("no answer");
    };
    assert_eq!((records.records.len(), records.next), (6, 6));
    rig.load(&load);
    let token = rig.begin_read(a, read("s", 0, StreamStart::Offset(6), 100));
    let Some(Event::Records { records, .. }) = rig.found(a, token) else {
        panic!("no answer");
    };
    assert_eq!(records.records.len(), 4);
    // One that waits is refused with its stream, and what comes too late finds nobody.
    let token = rig.begin_read(a, read("s", 0, StreamStart::First, 100));
    let load = rig.wanted.remove(0);
    rig.info(a, "s", StreamTo::Delete);
    assert!(matches!(rig.found(a, token), Some(Event::Refused { .. })));
    rig.load(&load);
    assert!(rig.closed.is_empty());
}

#[test]
fn a_file_that_cannot_be_read_ends_the_connection_unless_it_is_not_needed_any_more() {
    let (mut rig, a, _) = filled(10);
    let file = rig.file(6);
    let b = reader(&mut rig, 2, StreamStart::Offset(10), None);
    rig.loads = false;
    let token = rig.begin_read(a, read("s", 0, StreamStart::First, 100));
    let load = rig.wanted.remove(0);
    // Meanwhile all of it has become too old: the read looks again.
    rig.alter(a, "s", |it| it.retention_ms = 45);
    rig.tick(0);
    assert!(rig.broker.stream_files().is_empty());
    rig.files.remove(&file);
    rig.load(&load);
    let Some(Event::Records { records, .. }) = rig.found(a, token) else {
        panic!("no answer");
    };
    assert_eq!(records.records.first().map(|it| it.offset), Some(6));
    assert!(rig.closed.is_empty());
    // One that is needed is missing: nothing is passed over.
    let file = rig.file(2);
    rig.files.remove(&file);
    rig.begin_read(a, read("s", 0, StreamStart::First, 100));
    let load = rig.wanted.remove(0);
    rig.load(&load);
    let c = reader(&mut rig, 3, StreamStart::First, None);
    let load = rig.wanted.remove(0);
    rig.load(&load);
    let closed: Vec<_> = rig.closed.iter().map(|(session, _)| *session).collect();
    assert_eq!(closed, [a, c]);
    assert!(rig.deliveries(b).is_empty() && rig.deliveries(c).is_empty());
}

#[test]
fn a_consumer_goes_from_file_to_file_into_the_journal_and_what_it_gives_back_comes_again() {
    let (mut rig, _, _) = filled(30);
    rig.file(7);
    rig.file(11);
    let b = reader(&mut rig, 2, StreamStart::First, None);
    let first = rig.deliveries(b);
    assert_eq!(first.len(), 3);
    // The window that it lay in may be gone by then.
    let kept = first[0].id.expect("to be settled");
    rig.settle(
        b,
        &[first[1].id.expect("one"), first[2].id.expect("two")],
        Outcome::Accept,
    );
    let mut found = Vec::new();
    while found.len() < 24 {
        let deliveries = rig.deliveries(b);
        assert!(!deliveries.is_empty(), "it goes no further than {found:?}");
        for delivery in deliveries {
            found.push(body(&delivery));
            rig.settle(b, &[delivery.id.expect("one")], Outcome::Accept);
        }
    }
    assert_eq!(found[..24], texts(3..27));
    rig.settle(b, &[kept], Outcome::Release);
    let mut again = Vec::new();
    for delivery in rig.deliveries(b) {
        again.push((body(&delivery), delivery.redelivered));
        rig.settle(b, &[delivery.id.expect("one")], Outcome::Accept);
    }
    assert!(again.contains(&("0".to_owned(), true)), "{again:?}");
    drained(&mut rig, b);
}

#[test]
fn readers_and_groups_that_begin_at_a_time_within_a_file_pass_over_what_came_before() {
    let (mut rig, _, began) = filled(30);
    rig.file(20);
    let time = began.plus_ms(105);
    let start = StreamStart::Time(time);
    let b = reader(&mut rig, 2, start, None);
    assert_eq!(drained(&mut rig, b), texts(11..30));
    let c = reader(&mut rig, 3, start, Some("g"));
    let mut seen = drained(&mut rig, c);
    assert_eq!(seen, texts(11..30));
    // A group remembers it over a restart, from a snapshot too.
    let d = reader(&mut rig, 4, start, Some("other"));
    assert_eq!(rig.deliveries(d).len(), 3);
    for from_snapshot in [false, true] {
        if from_snapshot {
            let bytes = rig.snapshot();
            let broker =
                broker::Broker::decode_snapshot(broker::Config::default(), &mut &bytes[..]);
            rig.restart_as(broker.expect("a snapshot"));
        } else {
            rig.restart();
        }
        rig.attach(1);
        let e = reader(&mut rig, 5, StreamStart::First, Some("other"));
        seen = rig.deliveries(e).iter().map(body).collect();
        assert_eq!(seen, texts(11..14));
    }
}

#[test]
fn a_limit_on_bytes_lets_go_of_files_too() {
    let (mut rig, a, _) = filled(40);
    rig.file(15);
    rig.file(15);
    let bytes = |rig: &Rig| rig.broker.counters().stream_bytes;
    let all = bytes(&rig);
    rig.alter(a, "s", |it| it.bytes_max = Some(all / 2));
    rig.tick(0);
    assert!(bytes(&rig) <= all / 2);
    assert_eq!(rig.broker.stream_files().len(), 1, "the older file is gone");
    let first = rig.info(a, "s", StreamTo::Inspect).first_offset;
    assert!((16..25).contains(&first), "{first}");
    let b = reader(&mut rig, 2, StreamStart::First, None);
    assert_eq!(drained(&mut rig, b), texts(first..40));
    rig.check_replay();
    // Down to the last one, which stays however long.
    rig.alter(a, "s", |it| it.bytes_max = Some(1));
    rig.tick(0);
    assert_eq!(rig.broker.counters().stream_records, 1);
    assert!(rig.broker.stream_files().is_empty());
}
