//! What the API asks of the core, and what it makes of the answers.

use std::sync::Arc;

use admin::{Door, Operator, Reply, Request, answer, health, is_ready};
use bytes::Bytes;
use message::{Address, Levels, Message, Timestamp, VhostId};
use serde_json::{Value, json};
use session::{
    Active, Asked, Cluster, Command, Event, Exchange as _, Flow, GroupInfo, GroupShard, GroupTo,
    Lag, Listed, LoggedIn, Peer, QueueId, QueueInfo, QueueOptions, Records, Refusal, RefusalKind,
    Role, Secret, ShardInfo, ShardNo, StandbyView, StreamId, StreamRecord, StreamStart, StreamTo,
    Takeover, Token,
};

fn request(line: &str, body: &str) -> Request {
    let (method, rest) = line.split_once(' ').expect("method and path");
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// The one command that a request asks, and the reply to `event`.
fn asked(line: &str, body: &str, event: Event) -> (Command, Reply) {
    match answer(&request(line, body)) {
        Flow::Ask(mut commands, then) => {
            assert_eq!(commands.len(), 1);
            let Flow::Done(reply) = then(vec![event], Timestamp(0)) else {
                panic!("one question is enough")
            };
            (commands.remove(0), reply)
        }
        Flow::Done(reply) => panic!("answered at once: {reply:?}"),
        _ => panic!("neither asked nor answered"),
    }
}

/// The reply to what asks the core nothing.
fn refused(line: &str, body: &str) -> (u16, String) {
    let Flow::Done(reply) = answer(&request(line, body)) else {
        panic!("{line} is asked of the core")
    };
    let body = reply.body.expect("an error has a body");
    (
        reply.status,
        body["error"].as_str().expect("a word").to_owned(),
    )
}

fn shard(number: u32) -> ShardInfo {
    ShardInfo {
        shard: ShardNo(number),
        parents: Default::default(),
        first_hash: 0,
        last_hash: u128::MAX,
        opened: Timestamp(5),
        first_offset: 0,
        closed: None,
        records: 2,
    }
}

fn group() -> Event {
    Event::Group {
        token: Token(0),
        group: Box::new(GroupInfo {
            stream: "clicks".into(),
            group: "readers".into(),
            shards: vec![GroupShard {
                shard: ShardNo(3),
                next: 42,
                lease: Some(("w1".into(), Timestamp(9_000))),
                counter: 2,
                ready: true,
                done: false,
            }],
        }),
    }
}

fn shown() -> Value {
    json!({"shard":3,"next":42,"owner":"w1","until_ms":9000,"counter":2,"ready":true,"done":false})
}

fn queue(name: &str, available: u64) -> Event {
    let queue = QueueInfo {
        id: QueueId(1),
        name: name.to_owned().into(),
        options: Arc::new(QueueOptions {
            durable: true,
            ..QueueOptions::default()
        }),
        notes: Vec::new(),
        created: Timestamp(5),
        changed: Timestamp(5),
        version: 0,
        available,
        delayed: 1,
        out: 2,
        consumers: 3,
    };
    Event::Inspected {
        token: Token(0),
        queue: Box::new(queue),
    }
}

fn shown_queue(name: &str, available: u64) -> Value {
    json!({
        "name": name, "durable": true, "available": available, "delayed": 1, "out": 2, "consumers": 3, "created_ms": 5
    })
}

#[test]
fn queues_are_listed_with_their_counts() {
    let Flow::Ask(commands, then) = answer(&request("GET /api/queues?after=a&limit=3", "")) else {
        panic!("it is asked of the core")
    };
    let [Command::List { list, .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!((&list.of, list.limit), (&Listed::Queues, 3));
    assert_eq!(list.after.as_deref(), Some(&b"a"[..]));
    let listed = Event::Listed {
        token: Token(0),
        names: vec!["jobs".into(), "secret".into()],
        more: true,
    };
    let Flow::Ask(commands, then) = then(vec![listed], Timestamp(0)) else {
        panic!("each is looked at")
    };
    let names: Vec<_> = commands
        .iter()
        .map(|command| match command {
            Command::Inspect { name, .. } => &name[..],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, [&b"jobs"[..], b"secret"]);
    let refused = Event::Refused {
        token: Token(0),
        refusal: Refusal::new(RefusalKind::AccessDenied, "refused"),
    };
    let Flow::Done(reply) = then(vec![queue("jobs", 7), refused], Timestamp(0)) else {
        panic!("that is all")
    };
    let expected =
        json!({ "queues": [shown_queue("jobs", 7), { "name": "secret" }], "more": true });
    assert_eq!((reply.status, reply.body), (200, Some(expected)));
}

#[test]
fn no_queues_are_an_empty_list() {
    let nothing = Event::Listed {
        token: Token(0),
        names: Vec::new(),
        more: false,
    };
    let (_, reply) = asked("GET /api/queues", "", nothing);
    assert_eq!(reply.body, Some(json!({ "queues": [], "more": false })));
}

#[test]
fn a_queue_is_shown_and_not_changed() {
    let (command, reply) = asked("GET /api/queues/a%2Fb", "", queue("a/b", 0));
    assert!(matches!(command, Command::Inspect { name, .. } if name == "a/b"));
    assert_eq!(reply.body, Some(shown_queue("a/b", 0)));
    let missing = Event::Refused {
        token: Token(0),
        refusal: Refusal::new(RefusalKind::NotFound, "no queue 'x' in vhost '/'"),
    };
    assert_eq!(asked("GET /api/queues/x", "", missing).1.status, 404);
    for line in ["DELETE /api/queues/x", "POST /api/queues"] {
        assert_eq!(refused(line, "").0, 405, "{line}");
    }
}

#[test]
fn a_lease_is_taken_and_the_shard_shown() {
    let path = "POST /api/streams/clicks/groups/readers/shards/3/lease";
    let (command, reply) = asked(path, r#"{"owner":"w1","ms":30000}"#, group());
    let Command::Group {
        stream, group, to, ..
    } = command
    else {
        panic!("{command:?}")
    };
    assert_eq!((&stream[..], &group[..]), (&b"clicks"[..], &b"readers"[..]));
    let lease = GroupTo::Lease {
        shard: ShardNo(3),
        owner: "w1".into(),
        ms: 30_000,
    };
    assert_eq!(*to, lease);
    assert_eq!((reply.status, reply.body), (200, Some(shown())));
}

#[test]
fn a_checkpoint_of_another_owner_is_a_conflict() {
    let path = "POST /api/streams/clicks/groups/readers/shards/3/checkpoint";
    let refusal = Refusal::new(RefusalKind::NotOut, "the lease is not that owner's");
    let event = Event::Refused {
        token: Token(0),
        refusal,
    };
    let (command, reply) = asked(path, r#"{"owner":"w2","next":7}"#, event);
    let Command::Group { to, .. } = command else {
        panic!("{command:?}")
    };
    assert!(matches!(*to, GroupTo::Checkpoint { next: 7, .. }));
    assert_eq!(reply.status, 409);
}

#[test]
fn groups_begin_where_they_are_told() {
    let cases = [
        ("", StreamStart::First),
        (r#"{"start":"next"}"#, StreamStart::Next),
        (
            r#"{"start":{"time_ms":77}}"#,
            StreamStart::Time(Timestamp(77)),
        ),
    ];
    for (body, wanted) in cases {
        let (command, reply) = asked("PUT /api/streams/a%2Fb/groups/g", body, group());
        let Command::Group { stream, to, .. } = command else {
            panic!("{command:?}")
        };
        assert_eq!(&stream[..], b"a/b");
        assert_eq!(*to, GroupTo::Create { start: wanted });
        assert_eq!(reply.body.expect("a group")["shards"][0], shown());
    }
    let (_, reply) = asked("DELETE /api/streams/s/groups/g", "", group());
    assert_eq!((reply.status, reply.body), (204, None));
}

#[test]
fn records_are_shown_as_text_or_base64() {
    let record = |offset, body: &'static [u8]| {
        let key = Levels::one(Bytes::from_static(b"k"));
        let address = Address::stream(VhostId::ROOT, "s", key);
        StreamRecord {
            offset,
            time: Timestamp(6),
            message: Arc::new(Message::new(address, Bytes::from_static(body))),
        }
    };
    let event = Event::Records {
        token: Token(0),
        records: Box::new(Records {
            stream: StreamId(1),
            shard: shard(0),
            records: vec![record(4, b"hello"), record(5, b"\xFF")],
            next: 6,
            ended: true,
            children: vec![shard(1), shard(2)],
            behind_ms: 0,
        }),
    };
    let path = "GET /api/streams/s/shards/0/records?from=offset:4&limit=2&wait_ms=50";
    let (command, reply) = asked(path, "", event);
    let Command::ReadStream(read) = command else {
        panic!("{command:?}")
    };
    assert_eq!(
        (read.from, read.count, read.wait_ms),
        (StreamStart::Offset(4), 2, 50)
    );
    let wanted = json!({
        "records": [
            {"offset":4,"time_ms":6,"key":"k","text":"hello"},
            {"offset":5,"time_ms":6,"key":"k","base64":"/w=="},
        ],
        "next": 6, "ended": true, "children": [1, 2], "behind_ms": 0,
    });
    assert_eq!(reply.body, Some(wanted));
}

#[test]
fn names_are_listed_in_pages() {
    let event = Event::Listed {
        token: Token(0),
        names: vec!["g".into()],
        more: true,
    };
    let (command, reply) = asked("GET /api/streams/s/groups?after=f+f&limit=1", "", event);
    let Command::List { list, .. } = command else {
        panic!("{command:?}")
    };
    assert_eq!(list.of, Listed::Groups("s".into()));
    assert_eq!((list.after, list.limit), (Some("f f".into()), 1));
    assert_eq!(reply.body, Some(json!({"names":["g"],"more":true})));
}

#[test]
fn a_stream_is_made_with_what_was_said() {
    let refusal = Refusal::new(RefusalKind::Inequivalent, "there is one");
    let event = Event::Refused {
        token: Token(0),
        refusal,
    };
    let (command, reply) = asked("PUT /api/streams/s", r#"{"shards":4,"bytes_max":9}"#, event);
    let Command::Stream { to, .. } = command else {
        panic!("{command:?}")
    };
    let StreamTo::Create {
        attributes, shards, ..
    } = *to
    else {
        panic!("{to:?}")
    };
    assert_eq!((shards, attributes.bytes_max), (4, Some(9)));
    assert_eq!(attributes.retention_ms, 86_400_000);
    assert_eq!(reply.status, 409);
}

#[test]
fn a_method_that_there_is_not_is_answered_with_those_that_there_are() {
    for (line, methods) in [
        ("POST /api/streams", "GET"),
        ("POST /api/streams/s", "GET, PUT, DELETE"),
        ("PUT /api/streams/s/shards/0/records", "GET"),
        ("POST /api/streams/s/groups/g", "GET, PUT, DELETE"),
        ("GET /api/streams/s/groups/g/shards/0/lease", "POST"),
    ] {
        let Flow::Done(reply) = answer(&request(line, "")) else {
            panic!("{line} is asked of the core")
        };
        assert_eq!((reply.status, reply.allow), (405, Some(methods)), "{line}");
    }
}

#[test]
fn an_empty_part_of_a_path_is_called_so() {
    for (line, reason) in [
        ("GET /api/", "a part of the path is empty"),
        ("GET /api/streams/", "a part of the path is empty"),
        (
            "GET /api/streams/%zz",
            "the path is not percent-encoded UTF-8",
        ),
    ] {
        let Flow::Done(reply) = answer(&request(line, "")) else {
            panic!("{line} is asked of the core")
        };
        let body = reply.body.expect("an error has a body");
        assert_eq!(
            (reply.status, &body["reason"]),
            (400, &reason.into()),
            "{line}"
        );
    }
}

#[test]
fn what_is_malformed_is_refused_before_the_core_is_asked() {
    let cases = [
        ("GET /api/nothing", "", 404, "not_found"),
        ("PATCH /api/streams/s", "", 405, "method_not_allowed"),
        ("GET /api/streams//groups", "", 400, "bad_request"),
        ("GET /api/streams/%zz", "", 400, "bad_request"),
        ("GET /api/streams?limit=0", "", 400, "bad_request"),
        ("GET /api/streams?limits=5", "", 400, "bad_request"),
        ("PUT /api/streams/s?shards=4", "", 400, "bad_request"),
        ("DELETE /api/streams/s?vhost=a&x", "", 400, "bad_request"),
        (
            "GET /api/streams/s/shards/0/records?form=last",
            "",
            400,
            "bad_request",
        ),
        ("PUT /api/streams/s", "{", 400, "bad_request"),
        (
            "PUT /api/streams/s",
            r#"{"color":"red"}"#,
            400,
            "bad_request",
        ),
        (
            "PUT /api/streams/s/groups/g",
            r#"{"start":"last"}"#,
            400,
            "bad_request",
        ),
        (
            "POST /api/streams/s/groups/g/shards/x/lease",
            r#"{"owner":"a","ms":5}"#,
            400,
            "bad_request",
        ),
        (
            "POST /api/streams/s/groups/g/shards/0/lease",
            r#"{"owner":"a"}"#,
            400,
            "bad_request",
        ),
        (
            "POST /api/streams/s/groups/g/shards/0/steal",
            "",
            404,
            "not_found",
        ),
        (
            "GET /api/streams/s/shards/0/records?from=somewhere",
            "",
            400,
            "bad_request",
        ),
    ];
    for (line, body, status, error) in cases {
        assert_eq!(refused(line, body), (status, error.to_owned()), "{line}");
    }
}

/// A pair as one of its nodes sees it.
fn cluster(role: Role) -> Cluster {
    let addresses = [("mqtt", "other:1883"), ("http", "other:8161")];
    let other = Arc::new(Active {
        addresses: addresses.map(|(name, at)| (name.into(), at.into())).into(),
    });
    let standby = StandbyView {
        node: "bb".repeat(16),
        lag_batches: 3,
        seen_ms_ago: 40,
        addresses: Arc::clone(&other),
        can_take_over: true,
    };
    Cluster {
        role,
        node: "aa".repeat(16),
        epoch: 7,
        committed: 1000,
        lag: (role == Role::Standby).then_some(Lag {
            batches: 2,
            bytes: 8192,
            ms: 5,
        }),
        active: Some(other),
        standbys: (role == Role::Active)
            .then_some(standby)
            .into_iter()
            .collect(),
        clock_ahead_ms: -7,
        takeovers: 1,
        last_takeover: Some(Takeover {
            at: Timestamp(1_234),
            reason: "the active node was gone".to_owned(),
            detect_us: 1,
            fence_us: 2,
            tail_us: 3,
            publish_us: 4,
            activate_us: 5,
        }),
        journal: session::JournalView {
            given_up: vec![session::Damage {
                file: "seg/1-2-00".to_owned(),
                offset: 8192,
                what: "no batch header".to_owned(),
                batches: Some((3, 4)),
                records: 9,
                given_up: Some(Timestamp(77)),
                kept: Some("lost/1-2-00.damaged".to_owned()),
            }],
            losses: 1,
            passed_over: 5,
            disk: Some(session::DiskView {
                free_bytes: 4096,
                low: Some(true),
            }),
            ..session::JournalView::default()
        },
    }
}

/// What a node of that role answers to a request at its door: the core knows `user` or refuses.
fn at_the_door(
    role: Role,
    line: &str,
    user: Option<&str>,
    known: Result<&str, Refusal>,
    switching: Result<(), String>,
) -> (u16, Value) {
    let door = Door::new(Operator {
        cluster: Box::new(move || cluster(role)),
        switch_over: Box::new(move || switching.clone()),
        is_administrator: Box::new(|user| user == "root"),
    });
    let (method, path) = line.split_once(' ').expect("method and path");
    let mut head = http::Request::builder().method(method).uri(path);
    if let Some(user) = user {
        let login = message::base64::encode(format!("{user}:secret").as_bytes());
        head = head.header("Authorization", format!("Basic {login}"));
    }
    let (head, ()) = head.body(()).expect("a request").into_parts();
    let peer = Peer {
        address: "127.0.0.1:1".parse().expect("an address"),
        listener: "http",
        default_vhost: "/".into(),
    };
    let begun = door.begin(head, &peer, Timestamp(0)).expect("begun");
    let Asked::Login(login) = begun.request.take(Bytes::new(), Timestamp(0)) else {
        panic!("who asks is to be known")
    };
    // What a standby answers anyhow costs it no password.
    assert_eq!(
        login.authenticate.verified_anywhere,
        path.starts_with("/api/cluster")
    );
    let known = known
        .map(|user| LoggedIn {
            vhost: VhostId::ROOT,
            vhost_name: "/".into(),
            user: user.into(),
            secret: Secret([0; 32]),
        })
        .map_err(|refusal| refusal.naming(peer.listener));
    let Flow::Done(session::Reply::Head(response)) = (login.then)(known, Timestamp(0)) else {
        panic!("answered at once")
    };
    let body = serde_json::from_slice(response.body()).expect("JSON");
    (response.status().as_u16(), body)
}

fn not_active() -> Refusal {
    Refusal::not_active(cluster(Role::Standby).active)
}

#[test]
fn a_node_that_is_not_active_says_where_the_active_one_is() {
    let line = "GET /api/streams";
    let (status, body) = at_the_door(Role::Standby, line, None, Err(not_active()), Ok(()));
    assert_eq!(status, 503);
    assert_eq!(
        body,
        json!({
            "error": "unavailable",
            "reason": "this node is not the active one; other:8161 is",
            "active": "other:8161",
        })
    );
}

#[test]
fn the_pair_as_either_node_sees_it() {
    let line = "GET /api/cluster";
    let addresses = json!({ "mqtt": "other:1883", "http": "other:8161" });
    let takeover = json!({
        "at_ms": 1234,
        "reason": "the active node was gone",
        "phases_us": { "detect": 1, "fence": 2, "tail": 3, "publish": 4, "activate": 5 },
    });
    let (status, body) = at_the_door(Role::Active, line, Some("ada"), Ok("ada"), Ok(()));
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({
            "role": "active",
            "node": "aa".repeat(16),
            "epoch": 7,
            "committed": 1000,
            "lag": null,
            "active": addresses,
            "standbys": [{
                "node": "bb".repeat(16),
                "lag_batches": 3,
                "seen_ms_ago": 40,
                "can_take_over": true,
                "addresses": addresses,
            }],
            "clock_ahead_ms": -7,
            "takeovers": 1,
            "last_takeover": takeover,
            "journal": {
                "given_up": [{
                    "file": "seg/1-2-00",
                    "offset": 8192,
                    "what": "no batch header",
                    "first_batch": 3,
                    "last_batch": 4,
                    "records": 9,
                    "given_up_ms": 77,
                    "kept": "lost/1-2-00.damaged",
                }],
                "losses": 1,
                "passed_over_records": 5,
                "damaged": [],
                "damages": 0,
                "damages_beyond": false,
                "repaired_records": 0,
                "scrubbed_bytes": 0,
                "scrub_passes": 0,
                "disk": { "free_bytes": 4096, "low": true },
            },
        })
    );
    // A standby refuses as such only who has the right login.
    let (status, body) = at_the_door(Role::Standby, line, Some("ada"), Err(not_active()), Ok(()));
    assert_eq!((status, &body["role"]), (200, &json!("standby")));
    assert_eq!(body["lag"], json!({ "batches": 2, "bytes": 8192, "ms": 5 }));
    assert_eq!(body["active"], addresses);
    for role in [Role::Active, Role::Standby] {
        let wrong = Refusal::new(RefusalKind::BadCredentials, "no");
        let (status, body) = at_the_door(role, line, Some("eve"), Err(wrong), Ok(()));
        assert_eq!((status, &body["epoch"]), (401, &Value::Null));
    }
    let (status, _) = at_the_door(Role::Active, "PUT /api/cluster", None, Ok("ada"), Ok(()));
    assert_eq!(status, 405);
}

#[test]
fn a_change_of_places_is_for_administrators_with_a_password() {
    let line = "POST /api/cluster/switchover";
    let ask = |user: Option<&str>, known: &str, switching| {
        at_the_door(Role::Active, line, user, Ok(known), switching).0
    };
    assert_eq!(ask(Some("root"), "root", Ok(())), 202);
    assert_eq!(ask(Some("ada"), "ada", Ok(())), 403);
    // Whoever comes without a password is no administrator, whatever user that counts as.
    assert_eq!(ask(None, "root", Ok(())), 403);
    assert_eq!(
        ask(Some("root"), "root", Err("no standby is ready".to_owned())),
        409
    );
    let (status, body) = at_the_door(Role::Standby, line, Some("root"), Err(not_active()), Ok(()));
    assert_eq!((status, &body["active"]), (503, &json!("other:8161")));
}

#[test]
fn health_is_what_a_balancer_needs() {
    assert!(is_ready(&cluster(Role::Active)));
    assert!(!is_ready(&cluster(Role::Standby)));
    let addresses = json!({ "mqtt": "other:1883", "http": "other:8161" });
    assert_eq!(
        health(&cluster(Role::Standby), false),
        json!({
            "role": "standby", "epoch": 7, "active": addresses,
            "lag_batches": 2, "lag_bytes": 8192, "lag_ms": 5,
        })
    );
    assert_eq!(
        health(&cluster(Role::Active), true),
        json!({
            "role": "draining", "epoch": 7, "active": addresses,
            "lag_batches": null, "lag_bytes": null, "lag_ms": null,
        })
    );
}
