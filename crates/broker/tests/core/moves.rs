//! Tasks that move messages out of a dead-letter queue: where to, how fast, how far, and through a kill.

use std::collections::BTreeMap;

use session::{
    Command, Declare, Event, Lane, MoveState, MoveTask, MoveTo, Pull, QueueAttributes, Redrive,
    RefusalKind, SessionId,
};

use crate::{
    pulls::{pull, receive},
    receives::{fifo, send_in, take},
    rig::{Rig, body},
};

/// Queues `a` and `b` with the dead-letter queue `q`.
fn rig(kind: &QueueAttributes) -> (Rig, SessionId) {
    let mut rig = Rig::new();
    let by = rig.attach(1);
    rig.durable_queue(by, "q", kind.clone());
    for name in ["a", "b"] {
        let source = QueueAttributes {
            deliveries_max: Some(1),
            redrive: Some(Redrive { target: "q".into() }),
            ..kind.clone()
        };
        rig.durable_queue(by, name, source);
    }
    (rig, by)
}

/// Lets so many messages die in each of the queues `a` and `b`.
fn die(rig: &mut Rig, by: SessionId, each: u32) {
    for queue in ["a", "b"] {
        for number in 0..each {
            send_in(rig, by, queue, "g", &format!("{queue}{number}"));
        }
        let all = from(rig, queue, each);
        assert_eq!(take(rig, by, all).len() as u32, each);
    }
    rig.tick(10);
}

fn from(rig: &mut Rig, queue: &str, count: u32) -> Pull {
    Pull {
        queue: queue.to_owned().into(),
        ..pull(rig, count, 10, 0)
    }
}

pub(crate) fn ask(rig: &mut Rig, by: SessionId, to: MoveTo) -> Result<Vec<MoveTask>, RefusalKind> {
    let (token, lane) = (rig.token(), Lane(0));
    rig.command(by, Command::MoveTask { token, lane, to });
    let answer = rig.told[&by]
        .iter()
        .rev()
        .find_map(|told| match &told.event {
            Event::MoveTasks { token: to, tasks } if *to == token => Some(Ok(tasks.clone())),
            Event::Refused { token: to, refusal } if *to == token => Some(Err(refusal.kind)),
            _ => None,
        });
    answer.expect("every command is answered")
}

fn start(
    rig: &mut Rig,
    by: SessionId,
    id: u8,
    target: Option<&str>,
    per_second: Option<u32>,
) -> Result<Vec<MoveTask>, RefusalKind> {
    let start = MoveTo::Start {
        id: [id; 16],
        source: "q".into(),
        target: target.map(|name| name.to_owned().into()),
        per_second,
    };
    ask(rig, by, start)
}

fn listed(rig: &mut Rig, by: SessionId) -> Vec<MoveTask> {
    ask(rig, by, MoveTo::List { source: "q".into() }).expect("the queue is there")
}

/// Time goes on as it does: nothing that is due waits.
fn pass(rig: &mut Rig, ms: u64) {
    rig.tick(0);
    for _ in 0..ms {
        rig.tick(1);
    }
}

fn texts(rig: &mut Rig, by: SessionId, queue: &str) -> Vec<String> {
    let all = from(rig, queue, 1000);
    take(rig, by, all).iter().map(body).collect()
}

#[test]
fn messages_go_back_to_where_each_came_from_as_new_ones() {
    for kind in [QueueAttributes::default(), fifo()] {
        let (mut rig, by) = rig(&kind);
        die(&mut rig, by, 3);
        let started = start(&mut rig, by, 1, None, None).expect("started");
        assert_eq!((started[0].planned, started[0].moved), (6, 0));
        let at = rig.now;
        rig.tick(0);
        let done = listed(&mut rig, by).remove(0);
        assert_eq!(
            (done.state, done.moved, done.started, done.failure),
            (MoveState::Completed, 6, at, None)
        );
        rig.check_replay();
        for queue in ["a", "b"] {
            let all = from(&mut rig, queue, 10);
            let got = take(&mut rig, by, all);
            let want = ["0", "1", "2"].map(|number| format!("{queue}{number}"));
            assert_eq!(got.iter().map(body).collect::<Vec<_>>(), want);
            assert!(got.iter().all(|it| it.count == 1 && it.deaths.is_none()));
            assert!(got.iter().all(|it| it.enqueued == at));
        }
        // They die as before.
        rig.tick(10);
        assert_eq!(texts(&mut rig, by, "q").len(), 6);
        rig.check_replay();
    }
}

#[test]
fn a_task_with_a_target_takes_whatever_is_available_and_leaves_what_is_out_and_what_comes_later() {
    let (mut rig, by) = rig(&QueueAttributes::default());
    rig.durable_queue(by, "other", QueueAttributes::default());
    for text in ["1", "2", "3"] {
        rig.send(by, "q", text);
    }
    assert_eq!(receive(&mut rig, by, 1, 2_700)[0].0, "1");
    start(&mut rig, by, 1, Some("other"), Some(1)).expect("started");
    rig.send(by, "q", "late");
    pass(&mut rig, 2500);
    assert_eq!(texts(&mut rig, by, "other"), ["2", "3"]);
    let done = listed(&mut rig, by).remove(0);
    assert_eq!(
        (done.state, done.planned, done.moved),
        (MoveState::Completed, 2, 2)
    );
    rig.tick(200);
    assert_eq!(texts(&mut rig, by, "q"), ["1", "late"]);
    rig.check_replay();
}

#[test]
fn in_no_second_are_more_moved_than_may_be_also_across_a_kill() {
    for rate in [1, 7, 15, 30, 500] {
        let (mut rig, by) = rig(&QueueAttributes::default());
        let mut by = by;
        rig.durable_queue(by, "other", QueueAttributes::default());
        let count = 3 * rate;
        for number in 0..count {
            rig.send(by, "q", &number.to_string());
        }
        start(&mut rig, by, 1, Some("other"), Some(rate)).expect("started");
        let mut moved: BTreeMap<u64, u64> = BTreeMap::new();
        for ms in 0..4000 {
            let state = listed(&mut rig, by).remove(0);
            moved.insert(ms, state.moved);
            let before = ms.checked_sub(999).map_or(0, |at| moved[&at]);
            assert!(
                state.moved - before <= u64::from(rate),
                "{before} to {} by {ms} ms, of {rate} a second",
                state.moved
            );
            if ms == 1234 {
                rig.restart();
                by = rig.attach(2);
            }
            rig.tick(1);
        }
        let done = listed(&mut rig, by).remove(0);
        assert_eq!(
            (done.state, done.moved),
            (MoveState::Completed, u64::from(count))
        );
        assert_eq!(texts(&mut rig, by, "other").len() as u32, count.min(1000));
        rig.check_replay();
    }
}

#[test]
fn a_message_of_which_nobody_knows_where_it_came_from_fails_the_task() {
    let (mut rig, by) = rig(&QueueAttributes::default());
    die(&mut rig, by, 1);
    rig.send(by, "q", "sent here");
    start(&mut rig, by, 1, None, None).expect("started");
    rig.tick(1);
    let failed = listed(&mut rig, by).remove(0);
    assert_eq!((failed.state, failed.moved), (MoveState::Failed, 2));
    assert_eq!(
        failed.failure.as_deref(),
        Some("CouldNotDetermineMessageSource")
    );
    assert_eq!(texts(&mut rig, by, "q"), ["sent here"]);
    rig.check_replay();
}

#[test]
fn a_target_that_goes_fails_the_task_and_a_full_one_holds_it_up() {
    let (mut rig, by) = rig(&QueueAttributes::default());
    let small = QueueAttributes {
        length_max: Some(1),
        ..QueueAttributes::default()
    };
    rig.durable_queue(by, "other", small);
    for text in ["1", "2", "3"] {
        rig.send(by, "q", text);
    }
    start(&mut rig, by, 1, Some("other"), None).expect("started");
    pass(&mut rig, 5000);
    let waits = listed(&mut rig, by).remove(0);
    assert_eq!((waits.state, waits.moved), (MoveState::Running, 1));
    // Nothing was dropped for it; what is out makes room.
    assert_eq!(texts(&mut rig, by, "other"), ["1"]);
    rig.tick(9);
    let delete = Declare::DeleteQueue {
        name: "other".into(),
        if_unused: false,
        if_empty: false,
    };
    rig.declare(by, delete);
    pass(&mut rig, 1000);
    let failed = listed(&mut rig, by).remove(0);
    assert_eq!(failed.state, MoveState::Failed);
    assert!(failed.failure.is_some());
    assert_eq!(texts(&mut rig, by, "q").len() as u64, 3 - failed.moved);
    rig.check_replay();
}

#[test]
fn one_task_of_a_queue_runs_at_a_time_and_ten_are_remembered() {
    let (mut rig, by) = rig(&QueueAttributes::default());
    rig.durable_queue(by, "other", QueueAttributes::default());
    for number in 0..20 {
        rig.send(by, "q", &number.to_string());
    }
    start(&mut rig, by, 0, Some("other"), Some(1)).expect("started");
    assert_eq!(
        start(&mut rig, by, 9, Some("other"), Some(1)),
        Err(RefusalKind::InUse)
    );
    pass(&mut rig, 1000);
    let cancelled = ask(&mut rig, by, MoveTo::Cancel { id: [0; 16] }).expect("it runs");
    assert_eq!(
        (cancelled[0].state, cancelled[0].moved),
        (MoveState::Cancelled, 2)
    );
    assert_eq!(
        ask(&mut rig, by, MoveTo::Cancel { id: [0; 16] }),
        Err(RefusalKind::NotFound)
    );
    pass(&mut rig, 5000);
    assert_eq!(
        texts(&mut rig, by, "q").len(),
        18,
        "what was moved stays moved"
    );
    rig.tick(10);
    for id in 1..=11 {
        start(&mut rig, by, id, Some("other"), None).expect("started");
        pass(&mut rig, 2);
    }
    rig.check_replay();
    rig.restart();
    let by = rig.attach(2);
    let ids: Vec<u8> = listed(&mut rig, by).iter().map(|task| task.id[0]).collect();
    assert_eq!(ids, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
}

#[test]
fn what_cannot_be_is_refused_and_a_queue_that_goes_takes_its_tasks_along() {
    let (mut rig, by) = rig(&QueueAttributes::default());
    rig.durable_queue(by, "f", fifo());
    for (target, why) in [
        ("none", RefusalKind::NotFound),
        ("q", RefusalKind::InvalidArgument),
        ("f", RefusalKind::InvalidArgument),
    ] {
        assert_eq!(start(&mut rig, by, 1, Some(target), None), Err(why));
    }
    let missing = MoveTo::List {
        source: "none".into(),
    };
    assert_eq!(ask(&mut rig, by, missing), Err(RefusalKind::NotFound));
    die(&mut rig, by, 5);
    start(&mut rig, by, 1, Some("a"), Some(1)).expect("started");
    let delete = Declare::DeleteQueue {
        name: "q".into(),
        if_unused: false,
        if_empty: false,
    };
    rig.declare(by, delete);
    pass(&mut rig, 5000);
    rig.durable_queue(by, "q", QueueAttributes::default());
    assert!(listed(&mut rig, by).is_empty());
    rig.check_replay();
}

#[test]
fn a_virtual_host_has_a_hundred_tasks_that_run() {
    let mut rig = Rig::new();
    let by = rig.attach(1);
    rig.durable_queue(by, "to", QueueAttributes::default());
    let begin = |rig: &mut Rig, number: u8| {
        let start = MoveTo::Start {
            id: [number; 16],
            source: format!("q{number}").into(),
            target: Some("to".into()),
            per_second: Some(1),
        };
        ask(rig, by, start)
    };
    for number in 0..=100 {
        rig.durable_queue(by, &format!("q{number}"), QueueAttributes::default());
        for text in ["1", "2", "3"] {
            rig.send(by, &format!("q{number}"), text);
        }
        let begun = begin(&mut rig, number);
        match number {
            100 => assert_eq!(begun, Err(RefusalKind::QuotaExceeded)),
            _ => assert!(begun.is_ok(), "{begun:?}"),
        }
    }
    // One that is over makes room, and those that go on after a kill count.
    rig.restart();
    let by = rig.attach(2);
    let start = |rig: &mut Rig| {
        let start = MoveTo::Start {
            id: [100; 16],
            source: "q100".into(),
            target: Some("to".into()),
            per_second: Some(1),
        };
        ask(rig, by, start)
    };
    assert_eq!(start(&mut rig), Err(RefusalKind::QuotaExceeded));
    ask(&mut rig, by, MoveTo::Cancel { id: [7; 16] }).expect("it runs");
    assert_eq!(
        ask(&mut rig, by, MoveTo::Cancel { id: [7; 16] }),
        Err(RefusalKind::NotFound)
    );
    start(&mut rig).expect("there is room");
}
