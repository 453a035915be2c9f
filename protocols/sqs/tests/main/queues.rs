//! Operations on queues.

use aws::{Manners, Settings, Value};
use session::{
    Command, Declare, Event, Fifo, List, QueueAttributes, QueueInfo, QueueOptions, Redrive,
    RefusalKind,
};

use crate::client::{Client, NOW, TOKEN, With, made, map, queue, refused};

const FIFO: Option<Fifo> = Some(Fifo {
    dedup_by_content: false,
    dedup_per_group: false,
});

fn create(name: &str, attributes: Value) -> Value {
    map([("QueueName", name.into()), ("Attributes", attributes)])
}

/// A queue that CreateQueue makes with these attributes.
fn created(client: &Client, name: &str, attributes: Value) -> QueueInfo {
    let mut dialogue = client.call("CreateQueue", create(name, attributes));
    let declared = dialogue.declares();
    dialogue.output();
    made(&declared)
}

fn shown(client: &Client, queue: &QueueInfo, names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| (*name).into()).collect();
    let input = map([("QueueUrl", "q".into()), ("AttributeNames", names.into())]);
    let mut dialogue = client.call("GetQueueAttributes", input);
    let mut queue = queue.clone();
    queue.name = "q".into();
    dialogue.look(&queue);
    let output = dialogue.output();
    output.member("Attributes").cloned().unwrap_or(Value::Null)
}

#[test]
fn a_new_queue_has_the_defaults_of_sqs() {
    let client = Client::default();
    let mut dialogue = client.call("CreateQueue", map([("QueueName", "jobs".into())]));
    let declared = dialogue.declares();
    assert_eq!(
        dialogue.output(),
        map([("QueueUrl", "http://127.0.0.1:4566/000000000000/jobs".into())])
    );
    let Declare::NewQueue {
        unless_deleted_ms, ..
    } = declared
    else {
        panic!("{declared:?}");
    };
    assert_eq!(unless_deleted_ms, 60_000);
    let queue = made(&declared);
    assert_eq!(
        shown(&client, &queue, &["All"]),
        map([
            ("QueueArn", "arn:aws:sqs:us-east-1:000000000000:q".into()),
            ("ApproximateNumberOfMessages", "3".into()),
            ("ApproximateNumberOfMessagesNotVisible", "1".into()),
            ("ApproximateNumberOfMessagesDelayed", "2".into()),
            ("CreatedTimestamp", "1600000000".into()),
            ("LastModifiedTimestamp", "1650000000".into()),
            ("VisibilityTimeout", "30".into()),
            ("MaximumMessageSize", "1048576".into()),
            ("MessageRetentionPeriod", "345600".into()),
            ("DelaySeconds", "0".into()),
            ("ReceiveMessageWaitTimeSeconds", "0".into()),
            ("SqsManagedSseEnabled", "false".into()),
        ])
    );
    assert_eq!(shown(&client, &queue, &[]), Value::Null);
    assert_eq!(shown(&client, &queue, &["Policy"]), Value::Null);
    let mut dialogue = client.call(
        "GetQueueAttributes",
        map([
            ("QueueUrl", "q".into()),
            ("AttributeNames", vec!["Arn".into()].into()),
        ]),
    );
    dialogue.look(&crate::client::queue("q", QueueAttributes::default()));
    assert_eq!(dialogue.error().message, "Unknown Attribute Arn.");
}

#[test]
fn attributes_are_the_cores_where_it_acts_on_them() {
    let client = Client::default();
    let queue = created(
        &client,
        "jobs",
        map([
            ("VisibilityTimeout ", "10".into()),
            ("DelaySeconds", "5".into()),
            ("MessageRetentionPeriod", "60".into()),
            ("MaximumMessageSize", "2048".into()),
            ("ReceiveMessageWaitTimeSeconds", "20".into()),
            ("KmsMasterKeyId", "alias/k".into()),
        ]),
    );
    let attributes = &queue.options.attributes;
    assert_eq!(attributes.visibility_timeout_ms, Some(10_000));
    assert_eq!(attributes.delay_ms, 5000);
    assert_eq!(attributes.retention_ms, Some(60_000));
    // DOORS 15: it binds SendMessage only.
    assert_eq!(attributes.message_len_max, None);
    assert_eq!(
        shown(
            &client,
            &queue,
            &[
                "KmsDataKeyReusePeriodSeconds",
                "MaximumMessageSize",
                "ReceiveMessageWaitTimeSeconds"
            ]
        ),
        map([
            ("MaximumMessageSize", "2048".into()),
            ("ReceiveMessageWaitTimeSeconds", "20".into()),
            ("KmsDataKeyReusePeriodSeconds", "300".into()),
        ])
    );
}

#[test]
fn doors_b12_a_queue_without_retention_shows_the_longest_and_says_unlimited() {
    let client = Client::default();
    let unlimited = created(
        &client,
        "q",
        map([("bascule.retention", "unlimited".into())]),
    );
    assert_eq!(unlimited.options.attributes.retention_ms, None);
    assert_eq!(
        shown(
            &client,
            &unlimited,
            &["MessageRetentionPeriod", "bascule.retention"]
        ),
        map([
            ("MessageRetentionPeriod", "1209600".into()),
            ("bascule.retention", "unlimited".into()),
        ])
    );
    // As it shows itself it can be made again, in any order; anything else contradicts itself.
    let both = |period: &str| {
        let unlimited = ("bascule.retention", "unlimited".into());
        map([unlimited, ("MessageRetentionPeriod", period.into())])
    };
    let again = created(&client, "q", both("1209600"));
    assert_eq!(again.options.attributes.retention_ms, None);
    let refused = client.error("CreateQueue", create("q", both("60")));
    assert_eq!(refused.code, "InvalidAttributeValue");
    // Its time to live is another attribute.
    let other = queue(
        "q",
        QueueAttributes {
            ttl_ms: Some(1000),
            ..QueueAttributes::default()
        },
    );
    assert_eq!(
        shown(&client, &other, &["MessageRetentionPeriod"]),
        map([("MessageRetentionPeriod", "1209600".into())])
    );
}

#[test]
fn what_an_attribute_may_not_be_is_refused() {
    let client = Client::default();
    let code = |name: &'static str, value: &str| {
        let input = create("q", map([(name, value.into())]));
        client.error("CreateQueue", input).code.into_owned()
    };
    for (name, least, most) in [
        ("VisibilityTimeout", -1, 43_201),
        ("DelaySeconds", -1, 901),
        ("MessageRetentionPeriod", 59, 1_209_601),
        ("MaximumMessageSize", 1023, 1_048_577),
        ("ReceiveMessageWaitTimeSeconds", -1, 21),
        ("KmsDataKeyReusePeriodSeconds", 59, 86_401),
    ] {
        for value in [
            least.to_string(),
            most.to_string(),
            "x".into(),
            String::new(),
            "+1".into(),
        ] {
            assert_eq!(
                code(name, &value),
                "InvalidAttributeValue",
                "{name} {value}"
            );
        }
    }
    for (name, value) in [
        ("SqsManagedSseEnabled", "yes"),
        ("Policy", "{"),
        ("FifoQueue", "tru"),
        ("bascule.body", "hex"),
        ("bascule.retention", "4"),
    ] {
        assert_eq!(code(name, value), "InvalidAttributeValue", "{name}");
    }
    for (name, value) in [
        ("Colour", "red"),
        ("ContentBasedDeduplication", "true"),
        ("QueueArn", "x"),
        ("bascule.colour", "red"),
        ("Bascule.body", "base64"),
    ] {
        assert_eq!(code(name, value), "InvalidAttributeName", "{name}");
    }
    let both = map([
        ("SqsManagedSseEnabled", "true".into()),
        ("KmsMasterKeyId", "k".into()),
    ]);
    let error = client.error("CreateQueue", create("q", both));
    assert!(error.message.contains("one type of server-side encryption"));
    // With the manners of moto it is not so strict.
    let lenient = Client {
        settings: Settings {
            manners: Manners::Moto,
            ..Settings::default()
        },
        ..Client::default()
    };
    let queue = created(
        &lenient,
        "q",
        map([
            ("MessageRetentionPeriod", "1".into()),
            ("FifoQueue", "tru".into()),
        ]),
    );
    assert_eq!(queue.options.attributes.retention_ms, Some(1000));
    assert_eq!(queue.options.attributes.fifo, None);
}

#[test]
fn names_are_those_that_sqs_knows() {
    let client = Client::default();
    for name in ["", "a/b", "a.b", "a.fifo", "größe", &"a".repeat(81)] {
        let error = client.error("CreateQueue", map([("QueueName", name.into())]));
        assert_eq!(error.code, "InvalidParameterValue");
        assert_eq!(
            error.message,
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        );
    }
    let fifo = || map([("FifoQueue", "true".into())]);
    for name in ["a", ".fifo", &format!("{}.fifo", "a".repeat(76))] {
        let error = client.error("CreateQueue", create(name, fifo()));
        assert!(
            error.message.contains("must end with .fifo suffix"),
            "{name}"
        );
    }
    created(&client, &format!("{}.fifo", "a".repeat(75)), fifo());
}

#[test]
fn doors_a8_an_address_names_a_queue_where_the_alphabet_is_too_small() {
    let client = Client::default();
    let input = create(
        "billing-invoices",
        map([("bascule.address", "billing.invoices".into())]),
    );
    let mut dialogue = client.call("CreateQueue", input);
    let declared = dialogue.declares();
    assert_eq!(made(&declared).name, "billing.invoices");
    let url = "http://127.0.0.1:4566/000000000000/billing.invoices";
    assert_eq!(dialogue.output(), map([("QueueUrl", url.into())]));
    let wrong = create(
        "invoices",
        map([("bascule.address", "billing.invoices".into())]),
    );
    assert!(
        client
            .error("CreateQueue", wrong)
            .message
            .contains("billing-invoices")
    );
    // What a URL cannot hold is escaped in it.
    let mut dialogue = client.call(
        "ListQueueTags",
        map([(
            "QueueUrl",
            "http://h/000000000000/sensors%2F1%2Ftemp".into(),
        )]),
    );
    dialogue.look(&queue("sensors/1/temp", QueueAttributes::default()));
    dialogue.output();
}

#[test]
fn a_queue_is_named_by_any_url_by_its_name_or_by_the_path() {
    let mut client = Client::default();
    for url in [
        "http://127.0.0.1:4566/000000000000/q",
        "https://sqs.us-east-1.amazonaws.com/000000000000/q",
        "https://queue.amazonaws.com/000000000000/q/",
        "q",
        "/000000000000/q",
        "http://localhost/queue/us-east-1/000000000000/q",
    ] {
        let mut dialogue = client.call("ListQueueTags", map([("QueueUrl", url.into())]));
        dialogue.look(&queue("q", QueueAttributes::default()));
        assert_eq!(dialogue.output(), Value::empty(), "{url}");
    }
    for url in [
        "http://whatever",
        "http://h/111111111111/q",
        "",
        "http://h/000000000000/%",
    ] {
        let error = client.error("ListQueueTags", map([("QueueUrl", url.into())]));
        assert_eq!(error.code, "QueueDoesNotExist", "{url}");
    }
    assert_eq!(
        client.error("ListQueueTags", map([])).code,
        "MissingParameter"
    );
    client.path = "/000000000000/q";
    let mut dialogue = client.call("ListQueueTags", map([]));
    dialogue.look(&queue("q", QueueAttributes::default()));
    dialogue.output();
}

#[test]
fn doors_b11_create_queue_compares_only_the_attributes_that_it_names() {
    let client = Client::default();
    let known = queue(
        "q",
        QueueAttributes {
            visibility_timeout_ms: Some(10_000),
            delay_ms: 7000,
            ..QueueAttributes::default()
        },
    );
    let again = |attributes| {
        let mut dialogue = client.call("CreateQueue", create("q", attributes));
        dialogue.refuse(RefusalKind::Inequivalent);
        dialogue.look(&known);
        dialogue
    };
    again(map([])).output();
    again(map([
        ("VisibilityTimeout", "10".into()),
        ("MaximumMessageSize", "1048576".into()),
    ]))
    .output();
    let error = again(map([("VisibilityTimeout", "30".into())])).error();
    assert_eq!(error.code, "QueueNameExists");
    assert_eq!(error.query_code.as_deref(), Some("QueueAlreadyExists"));
    assert!(
        error
            .message
            .ends_with("a different value for attribute VisibilityTimeout")
    );
    // One that is nobody's business (DOORS 8).
    let mut own = known.clone();
    own.options = QueueOptions {
        durable: true,
        auto_delete: true,
        ..QueueOptions::default()
    }
    .into();
    let mut dialogue = client.call("CreateQueue", create("q", map([])));
    dialogue.refuse(RefusalKind::Inequivalent);
    dialogue.look(&own);
    assert_eq!(dialogue.error().code, "QueueNameExists");
}

#[test]
fn a_queue_is_found_by_its_url_whoever_made_that_up() {
    let client = Client::default();
    for url in [
        "jobs",
        "http://127.0.0.1:4566/000000000000/jobs",
        "https://sqs.us-east-1.amazonaws.com/000000000000/jobs",
        "http://localhost:4566/queue/us-east-1/000000000000/jobs",
        "http://localhost:9324/queue/jobs",
    ] {
        let mut dialogue = client.call("DeleteQueue", map([("QueueUrl", url.into())]));
        dialogue.look(&queue("jobs", QueueAttributes::default()));
        let declared = dialogue.declares();
        assert!(
            matches!(&declared, Declare::DeleteQueue { name, .. } if name == "jobs"),
            "{url}: {declared:?}"
        );
        dialogue.output();
    }
    let other = "http://127.0.0.1:4566/queues/jobs";
    let dialogue = client.call("DeleteQueue", map([("QueueUrl", other.into())]));
    assert_eq!(dialogue.error().code, "QueueDoesNotExist");
}

#[test]
fn the_rules_of_a_minute_can_be_off() {
    let mut client = Client::default();
    let mut dialogue = client.call("CreateQueue", create("q", map([])));
    dialogue.refuse(RefusalKind::InUse);
    let error = dialogue.error();
    assert_eq!(
        error.query_code.as_deref(),
        Some("AWS.SimpleQueueService.QueueDeletedRecently")
    );

    let purge = || map([("QueueUrl", "q".into())]);
    let mut dialogue = client.call("PurgeQueue", purge());
    dialogue.look(&queue("q", QueueAttributes::default()));
    // Somebody tags it meanwhile.
    dialogue.refuse(RefusalKind::Inequivalent);
    let mut marked = queue("q", QueueAttributes::default());
    marked.version = 9;
    dialogue.look(&marked);
    let Declare::PurgeAll {
        name,
        noted: Some((9, notes)),
    } = dialogue.declares()
    else {
        panic!("a purge with its note");
    };
    assert_eq!(name, "q");
    marked.notes = notes;
    dialogue.output();
    client.now = NOW.plus_ms(59_999);
    let mut dialogue = client.call("PurgeQueue", purge());
    dialogue.look(&marked);
    assert_eq!(dialogue.error().code, "PurgeQueueInProgress");
    client.now = NOW.plus_ms(60_000);
    let mut dialogue = client.call("PurgeQueue", purge());
    dialogue.look(&marked);
    dialogue.declares();
    dialogue.output();

    client.settings.minute_rules = false;
    let mut dialogue = client.call("PurgeQueue", purge());
    dialogue.look(&marked);
    let declared = dialogue.declares();
    assert!(matches!(declared, Declare::PurgeAll { noted: None, .. }));
    dialogue.output();
    let mut dialogue = client.call("CreateQueue", create("q", map([])));
    let declared = dialogue.declares();
    assert!(matches!(
        declared,
        Declare::NewQueue {
            unless_deleted_ms: 0,
            ..
        }
    ));
}

#[test]
fn set_attributes_changes_what_it_names_and_tries_again() {
    let client = Client::default();
    let mut known = queue(
        "q",
        QueueAttributes {
            delay_ms: 7000,
            ..QueueAttributes::default()
        },
    );
    known.notes = vec![("other.door".into(), "kept".into())];
    let set = |attributes| map([("QueueUrl", "q".into()), ("Attributes", attributes)]);
    let mut dialogue = client.call(
        "SetQueueAttributes",
        set(map([("VisibilityTimeout", "45".into())])),
    );
    dialogue.look(&known);
    dialogue.refuse(RefusalKind::Inequivalent);
    known.version = 9;
    dialogue.look(&known);
    let declared = dialogue.declares();
    dialogue.output();
    assert!(matches!(declared, Declare::Alter { version: 9, .. }));
    let altered = made(&declared);
    assert_eq!(altered.options.attributes.delay_ms, 7000);
    assert_eq!(
        altered.options.attributes.visibility_timeout_ms,
        Some(45_000)
    );
    assert_eq!(altered.notes, known.notes);
    // The type stays.
    let mut dialogue = client.call(
        "SetQueueAttributes",
        set(map([("FifoQueue", "true".into())])),
    );
    dialogue.look(&known);
    assert_eq!(dialogue.error().code, "InvalidAttributeValue");
    assert_eq!(
        client.error("SetQueueAttributes", set(map([]))).code,
        "MissingParameter"
    );
}

#[test]
fn fifo_attributes_agree_with_each_other() {
    let client = Client::default();
    let fifo = |more: &[(&str, &str)]| {
        let attributes = map([("FifoQueue", "true".into())]);
        let attributes = more
            .iter()
            .fold(attributes, |all, (name, value)| all.with(name, *value));
        create("q.fifo", attributes)
    };
    let mut dialogue = client.call(
        "CreateQueue",
        fifo(&[
            ("DeduplicationScope", "messageGroup"),
            ("FifoThroughputLimit", "perMessageGroupId"),
            ("ContentBasedDeduplication", "true"),
        ]),
    );
    let queue = made(&dialogue.declares());
    let wanted = Fifo {
        dedup_by_content: true,
        dedup_per_group: true,
    };
    assert_eq!(queue.options.attributes.fifo, Some(wanted));
    for more in [
        &[("FifoThroughputLimit", "perMessageGroupId")][..],
        &[("FifoThroughputLimit", "perShard")],
        &[("DeduplicationScope", "world")],
    ] {
        assert_eq!(
            client.error("CreateQueue", fifo(more)).code,
            "InvalidAttributeValue"
        );
    }
    let plain = crate::client::queue(
        "q",
        QueueAttributes {
            fifo: FIFO,
            ..QueueAttributes::default()
        },
    );
    let names = [
        "FifoQueue",
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoThroughputLimit",
    ];
    assert_eq!(
        shown(&client, &plain, &names),
        map([
            ("FifoQueue", "true".into()),
            ("ContentBasedDeduplication", "false".into()),
            ("DeduplicationScope", "queue".into()),
            ("FifoThroughputLimit", "perQueue".into()),
        ])
    );
}

fn redrive(count: &str) -> Value {
    let policy = format!(
        "{{\"deadLetterTargetArn\": \"arn:aws:sqs:us-east-1:000000000000:dead\", \"maxReceiveCount\": {count}}}"
    );
    map([("RedrivePolicy", policy.into())])
}

#[test]
fn doors_b13_the_receive_count_of_a_redrive_policy_is_the_cores_greatest_count() {
    let client = Client::default();
    let dead = queue("dead", QueueAttributes::default());
    for (count, shown_as) in [
        (
            "5",
            "{\"deadLetterTargetArn\": \"arn:aws:sqs:us-east-1:000000000000:dead\", \"maxReceiveCount\": 5}",
        ),
        (
            "\"5\"",
            "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\",\"maxReceiveCount\":5}",
        ),
    ] {
        let mut dialogue = client.call("CreateQueue", create("q", redrive(count)));
        dialogue.look(&dead);
        let queue = made(&dialogue.declares());
        dialogue.output();
        let attributes = &queue.options.attributes;
        assert_eq!(attributes.deliveries_max, Some(5));
        assert_eq!(
            attributes.redrive,
            Some(Redrive {
                target: "dead".into()
            })
        );
        assert_eq!(
            shown(&client, &queue, &["RedrivePolicy"]),
            map([("RedrivePolicy", shown_as.into())])
        );
        // Taken away.
        let none = map([
            ("QueueUrl", "q".into()),
            ("Attributes", map([("RedrivePolicy", "".into())])),
        ]);
        let mut dialogue = client.call("SetQueueAttributes", none);
        let mut known = queue.clone();
        known.name = "q".into();
        dialogue.look(&known);
        let altered = made(&dialogue.declares());
        assert_eq!(
            altered.options.attributes,
            QueueAttributes {
                retention_ms: Some(345_600_000),
                ..QueueAttributes::default()
            }
        );
        assert_eq!(altered.notes, []);
    }
}

#[test]
fn a_redrive_policy_must_be_possible() {
    let client = Client::default();
    for policy in [
        "x",
        "[]",
        "{\"maxReceiveCount\":1}",
        "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\"}",
        "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\",\"maxReceiveCount\":0}",
        "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\",\"maxReceiveCount\":1001}",
        "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\",\"maxReceiveCount\":1,\"x\":2}",
        "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:111111111111:dead\",\"maxReceiveCount\":1}",
    ] {
        let input = create("q", map([("RedrivePolicy", policy.into())]));
        assert_eq!(
            client.error("CreateQueue", input).code,
            "InvalidParameterValue",
            "{policy}"
        );
    }
    let mut dialogue = client.call("CreateQueue", create("q", redrive("1")));
    dialogue.refuse(RefusalKind::NotFound);
    assert!(
        dialogue
            .error()
            .message
            .ends_with("Dead letter target does not exist.")
    );
    let mut dialogue = client.call("CreateQueue", create("q", redrive("1")));
    dialogue.look(&queue(
        "dead",
        QueueAttributes {
            fifo: FIFO,
            ..QueueAttributes::default()
        },
    ));
    assert!(dialogue.error().message.contains("same type of queue"));
    let allow = |policy: &'static str| {
        let mut dead = queue("dead", QueueAttributes::default());
        dead.notes = vec![("sqs.RedriveAllowPolicy".into(), policy.into())];
        let mut dialogue = client.call("CreateQueue", create("q", redrive("1")));
        dialogue.look(&dead);
        dialogue
    };
    allow("{\"redrivePermission\":\"allowAll\"}").declares();
    assert!(
        allow("{\"redrivePermission\":\"denyAll\"}")
            .error()
            .message
            .contains("RedriveAllowPolicy")
    );
    let by = |name| {
        format!(
            "{{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[\"arn:aws:sqs:us-east-1:000000000000:{name}\"]}}"
        )
    };
    allow(by("q").leak()).declares();
    allow(by("p").leak()).error();
    for policy in [
        "{}x",
        "{\"redrivePermission\":\"some\"}",
        "{\"redrivePermission\":\"byQueue\"}",
        "{\"redrivePermission\":\"allowAll\",\"sourceQueueArns\":[]}",
    ] {
        let input = create("q", map([("RedriveAllowPolicy", policy.into())]));
        assert_eq!(
            client.error("CreateQueue", input).code,
            "InvalidParameterValue",
            "{policy}"
        );
    }
}

fn listed(names: &[&'static str], more: bool) -> Event {
    Event::Listed {
        token: TOKEN,
        names: names.iter().map(|name| (*name).into()).collect(),
        more,
    }
}

fn list_of(command: &Command) -> List {
    match command {
        Command::List { list, .. } => (**list).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lists_show_legal_names_in_pages() {
    let client = Client::default();
    let mut dialogue = client.call("ListQueues", map([]));
    dialogue.answer(|command| {
        assert_eq!(list_of(command).limit, 1000);
        listed(&["a", "billing.invoices", "c.fifo"], false)
    });
    let urls = |names: &[&str]| -> Value {
        let url = |name: &&str| format!("http://127.0.0.1:4566/000000000000/{name}").into();
        Value::List(names.iter().map(url).collect())
    };
    assert_eq!(
        dialogue.output(),
        map([("QueueUrls", urls(&["a", "c.fifo"]))])
    );
    let mut dialogue = client.call("ListQueues", map([("QueueNamePrefix", "zz".into())]));
    dialogue.answer(|command| {
        assert_eq!(list_of(command).prefix, "zz");
        listed(&[], false)
    });
    assert_eq!(dialogue.output(), Value::empty());

    let page = || map([("MaxResults", 2i64.into())]);
    let mut dialogue = client.call("ListQueues", page());
    dialogue.answer(|_| listed(&["a", "x.y"], true));
    dialogue.answer(|command| {
        let list = list_of(command);
        assert_eq!((list.after.as_deref(), list.limit), (Some(&b"x.y"[..]), 1));
        listed(&["z"], true)
    });
    let output = dialogue.output();
    assert_eq!(output.member("QueueUrls"), Some(&urls(&["a", "z"])));
    let token = output.text("NextToken").expect("there is more").to_owned();
    let mut dialogue = client.call("ListQueues", page().with("NextToken", token.clone()));
    dialogue.answer(|command| {
        assert_eq!(list_of(command).after.as_deref(), Some(&b"z"[..]));
        listed(&["zz"], false)
    });
    assert_eq!(dialogue.output(), map([("QueueUrls", urls(&["zz"]))]));
    // A token is good for its own list only.
    let other = page().with("NextToken", token).with("QueueNamePrefix", "a");
    assert_eq!(
        client.error("ListQueues", other).code,
        "InvalidParameterValue"
    );
    for max in [0i64, 1001] {
        let error = client.error("ListQueues", map([("MaxResults", max.into())]));
        assert_eq!(error.code, "InvalidParameterValue");
    }
}

#[test]
fn the_sources_of_a_dead_letter_queue_are_those_that_name_it() {
    let client = Client::default();
    let mut dialogue = client.call(
        "ListDeadLetterSourceQueues",
        map([("QueueUrl", "dead".into())]),
    );
    dialogue.look(&queue("dead", QueueAttributes::default()));
    dialogue.answer(|command| {
        assert_eq!(list_of(command).feeding.as_deref(), Some(&b"dead"[..]));
        // The last name was only looked at, as far as the core went.
        listed(&["a", "b"], true)
    });
    dialogue.look(&queue("b", QueueAttributes::default()));
    dialogue.answer(|command| {
        assert_eq!(list_of(command).after.as_deref(), Some(&b"b"[..]));
        listed(&[], false)
    });
    let url: Value = "http://127.0.0.1:4566/000000000000/a".into();
    assert_eq!(dialogue.output(), map([("queueUrls", vec![url].into())]));
}

#[test]
fn a_queue_has_at_most_fifty_tags() {
    let client = Client::default();
    let q = || map([("QueueUrl", "q".into())]);
    let mut dialogue = client.call(
        "TagQueue",
        q().with("Tags", map([("a", "1".into()), ("b", "".into())])),
    );
    dialogue.look(&queue("q", QueueAttributes::default()));
    let tagged = made(&dialogue.declares());
    let mut dialogue = client.call("ListQueueTags", q());
    dialogue.look(&tagged);
    assert_eq!(
        dialogue.output(),
        map([("Tags", map([("a", "1".into()), ("b", "".into())]))])
    );
    let mut dialogue = client.call(
        "UntagQueue",
        q().with("TagKeys", vec![Value::from("a"), "c".into()]),
    );
    dialogue.look(&tagged);
    let left = made(&dialogue.declares());
    assert_eq!(left.notes, [("sqs.tag.b".into(), "".into())]);
    let many = Value::Map(
        (0..50)
            .map(|n| (format!("k{n}").into(), "v".into()))
            .collect(),
    );
    let mut dialogue = client.call("TagQueue", q().with("Tags", many));
    dialogue.look(&left);
    assert_eq!(dialogue.error().message, "Too many tags added for queue q.");
    let error = client.error("TagQueue", q().with("Tags", map([])));
    assert_eq!(
        error.message,
        "The request must contain the parameter Tags."
    );
    let mut dialogue = client.call("UntagQueue", q().with("TagKeys", Value::List(vec![])));
    dialogue.look(&left);
    assert_eq!(
        dialogue.error().message,
        "Tag keys must be between 1 and 128 characters in length."
    );
}

#[test]
fn queue_urls_are_told_of_own_queues_only() {
    let client = Client::default();
    let mut dialogue = client.call("GetQueueUrl", map([("QueueName", "q".into())]));
    dialogue.look(&queue("q", QueueAttributes::default()));
    assert_eq!(
        dialogue.output().text("QueueUrl"),
        Some("http://127.0.0.1:4566/000000000000/q")
    );
    let other = map([
        ("QueueName", "q".into()),
        ("QueueOwnerAWSAccountId", "111111111111".into()),
    ]);
    assert_eq!(client.error("GetQueueUrl", other).code, "QueueDoesNotExist");
    let mut dialogue = client.call("GetQueueUrl", map([("QueueName", "q".into())]));
    dialogue.answer(|_| refused(RefusalKind::AccessDenied));
    assert_eq!(dialogue.error().code, "AccessDeniedException");
}
