//! Which queue each operation is about, and whose it is: what its policy is asked for.

use aws::{Barred, Guard, Subject, Value};
use session::Object;

use crate::client::{Client, With as _, map, named};

const OTHER: &str = "222222222222";

fn guard() -> &'static Guard {
    sqs::SERVICE.guard.expect("queues have policies")
}

/// The queue that an operation is about, and the account that it names.
fn about(operation: &str, value: &Value) -> (Option<String>, Option<String>) {
    let operation = named(operation);
    let owner = (guard().owner)(operation, "/", value);
    let owner = owner.map(|(account, _)| account.to_owned());
    let subject = (guard().subject)(operation, &Client::default().input(value.clone()));
    let name = subject.map(|subject| {
        assert_eq!((subject.object, &subject.part), (Object::Queue, &None));
        String::from_utf8(subject.name.to_vec()).expect("text")
    });
    (name, owner)
}

#[test]
fn each_operation_is_about_the_queue_that_it_names() {
    let url = |url: &str| map([("QueueUrl", url.into())]);
    let arn = |account: &str| {
        let arn = format!("arn:aws:sqs:us-east-1:{account}:jobs");
        map([("SourceArn", arn.into())])
    };
    let text = |text: &str| Some(text.to_owned());
    for operation in sqs::SERVICE.operations {
        let (value, wanted) = match operation.name {
            "CreateQueue" | "GetQueueUrl" => (
                map([("QueueName", "jobs".into())]),
                (operation.name == "GetQueueUrl").then(|| "jobs".to_owned()),
            ),
            "ListQueues" => (map([]), None),
            // What is no handle is of no queue.
            "CancelMessageMoveTask" => (map([("TaskHandle", "x".into())]), None),
            "ListMessageMoveTasks" | "StartMessageMoveTask" => (arn("000000000000"), text("jobs")),
            _ => (url("http://h:1/000000000000/jobs"), text("jobs")),
        };
        let (name, owner) = about(operation.name, &value);
        assert_eq!(name, wanted, "{}", operation.name);
        let by_url = value.member("QueueUrl").is_some();
        assert_eq!(owner, by_url.then(|| "000000000000".to_owned()));
    }
    for (value, named, owner) in [
        (url("jobs"), text("jobs"), None),
        (url("http://h/queue/jobs"), text("jobs"), text("queue")),
        (url("/222222222222/jobs/"), None, text(OTHER)),
        (url("https://h/222222222222/jobs?x#y"), None, text(OTHER)),
    ] {
        assert_eq!(
            about("SendMessageBatch", &value),
            (named, owner),
            "{value:?}"
        );
    }
    let value = map([
        ("QueueName", "jobs".into()),
        ("QueueOwnerAWSAccountId", OTHER.into()),
    ]);
    assert_eq!(about("GetQueueUrl", &value).1, text(OTHER));
    // A task is for the caller's own queues.
    assert_eq!(about("StartMessageMoveTask", &arn(OTHER)), (None, None));
}

/// What AWS asks for beside the operation's own name.
#[test]
fn a_task_receives_deletes_and_sends() {
    let done = |operation: &str, value: Value| -> Vec<String> {
        let input = Client::default().input(value);
        let deeds = (guard().deeds)(named(operation), &input);
        let told = |(action, subject): (&str, Subject)| {
            format!("{action} {}", String::from_utf8_lossy(&subject.name))
        };
        deeds.into_iter().map(told).collect()
    };
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let source = || map([("SourceArn", arn("dead").into())]);
    let of_source = [
        "ReceiveMessage dead",
        "DeleteMessage dead",
        "GetQueueAttributes dead",
    ];
    assert_eq!(done("StartMessageMoveTask", source()), of_source);
    let with_target = source().with("DestinationArn", arn("jobs"));
    assert_eq!(
        done("StartMessageMoveTask", with_target),
        [&of_source[..], &["SendMessage jobs"]].concat()
    );
    assert_eq!(
        done("ListMessageMoveTasks", source()),
        ["GetQueueAttributes dead"]
    );
    let url = map([("QueueUrl", "http://h/000000000000/jobs".into())]);
    assert!(done("SendMessageBatch", url).is_empty());
}

#[test]
fn a_refusal_is_in_the_words_of_sqs() {
    let input = Client::default().input(map([]));
    let arn = "arn:aws:sqs:us-east-1:000000000000:jobs";
    let barred = |action: &str, why| (guard().barred)(&input.call, action, arn, why);
    let error = barred("sqs:SendMessage", Barred::Denied);
    assert_eq!((&*error.code, error.status), ("AccessDeniedException", 403));
    assert_eq!(error.query_code.as_deref(), Some("AccessDenied"));
    assert_eq!(
        error.message,
        format!(
            "User: arn:aws:iam::000000000000:user/guest is not authorized to perform: sqs:sendmessage on resource: {arn} with an \
             explicit deny in a resource-based policy"
        )
    );
    // Whether another account has a queue is not told.
    let error = barred("sqs:GetQueueUrl", Barred::NotAllowed);
    assert_eq!(&*error.code, "QueueDoesNotExist");
    let subject = Subject::whole(Object::Queue, "jobs".into());
    assert_eq!((guard().arn)(&input.call, &subject, &()), arn);
    assert_eq!((guard().note)(&subject), "sqs.Policy");
}
