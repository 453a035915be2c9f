//! Resource policies of AWS over the real doors: two accounts, and two users of one, through the AWS SDK for Rust.
//!
//! Deliberately absent: what documents say to questions, which the tables of `protocols/aws/src/policy/tests.rs` show.

use anyhow::{Context as _, ensure};
use aws_sdk_kinesis::{primitives::Blob, types::ShardIteratorType};
use aws_sdk_sqs::{
    error::{ProvideErrorMetadata, SdkError},
    types::{QueueAttributeName, SendMessageBatchRequestEntry},
};

use crate::{
    client::{
        aws::{Sqs, bodies, kinesis_of, sns_of},
        get, wait,
    },
    server::{Server, until},
    sns::Endpoint,
};

const HOME: &str = "000000000000";
const REGION: &str = "us-east-1";
/// The key of `ann`, who is of another account, and of `cal`, who is of the account at home, as `guest` is.
const ANN: &str = "ANN";
const CAL: &str = "CAL";

fn start() -> Server {
    start_with(&[])
}

fn start_with(more: &[&str]) -> Server {
    let own = [
        "auth.vhosts=['/','other']",
        "users=[{name='ann',password='x'},{name='cal',password='x'}]",
        "aws.keys=[{id='ANN',secret='guest',user='ann',account='222222222222'},{id='CAL',secret='guest',user='cal'}]",
        "aws.vhosts=[{name='other',account='222222222222',region='us-east-1'}]",
    ];
    Server::start_with(&[&own[..], more].concat())
}

/// The status and the code that a request was refused with.
fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    answer: Result<T, SdkError<E>>,
) -> (u16, String) {
    let error = answer.expect_err("it is refused");
    let status = error.raw_response().map_or(0, |it| it.status().as_u16());
    (status, error.code().unwrap_or_default().to_owned())
}

fn denied() -> (u16, String) {
    (403, "AccessDenied".to_owned())
}

/// A policy of one statement.
fn statement(effect: &str, principal: &str, action: &str, rest: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{principal},"Action":"{action}"{rest}}}]}}"#
    )
}

/// The URL of a queue of an earlier start, whose port was another one.
pub(crate) fn url_now(url: &str, server: &Server) -> anyhow::Result<String> {
    let host = url.split('/').nth(2).context("a host")?;
    Ok(url.replace(host, &server.door("aws").to_string()))
}

const TO_ANN: &str = r#"{"AWS":"222222222222"}"#;
const TO_CAL: &str = r#"{"AWS":"arn:aws:iam::000000000000:user/cal"}"#;

impl Sqs {
    async fn guard(&self, url: &str, policy: &str) -> anyhow::Result<()> {
        let request = self.0.set_queue_attributes().queue_url(url);
        let request = request.attributes(QueueAttributeName::Policy, policy);
        request.send().await?;
        Ok(())
    }

    async fn refused_send(&self, url: &str) -> (u16, String) {
        let request = self.0.send_message().queue_url(url).message_body("no");
        refusal(request.send().await)
    }

    async fn refused_receive(&self, url: &str) -> (u16, String) {
        refusal(self.0.receive_message().queue_url(url).send().await)
    }

    async fn send_both(&self, url: &str) -> Result<(), (u16, String)> {
        let mut request = self.0.send_message_batch().queue_url(url);
        for id in ["a", "b"] {
            let entry = SendMessageBatchRequestEntry::builder().id(id);
            let entry = entry.message_body(id).build().expect("all is said");
            request = request.entries(entry);
        }
        match request.send().await {
            Ok(answer) => {
                assert_eq!((answer.successful().len(), answer.failed().len()), (2, 0));
                Ok(())
            }
            refused => Err(refusal(refused)),
        }
    }
}

#[test]
fn a_policy_denies_what_the_rules_of_ones_own_account_allow() -> anyhow::Result<()> {
    let server = start();
    let (home, cal) = (Sqs::of(&server), Sqs::of_account(&server, CAL, REGION));
    wait(async {
        let url = home.make("jobs", &[]).await?;
        cal.send(&url, "before").await?;
        home.guard(&url, &statement("Deny", TO_CAL, "sqs:SendMessage", ""))
            .await?;
        assert_eq!(cal.refused_send(&url).await, denied());
        // A batch is so many times the single action.
        assert_eq!(cal.send_both(&url).await, Err(denied()));
        home.send(&url, "others may").await?;
        // And he may do what is not denied.
        let got = cal.receive(&url).await?;
        assert_eq!(bodies(&got), ["before", "others may"]);
        home.guard(&url, &statement("Deny", TO_CAL, "sqs:*", ""))
            .await?;
        assert_eq!(cal.refused_receive(&url).await, denied());
        let handle = got[0].receipt_handle().context("a receipt handle")?;
        let delete = cal
            .0
            .delete_message()
            .queue_url(&url)
            .receipt_handle(handle);
        assert_eq!(refusal(delete.send().await), denied());
        // An allowance changes nothing for one's own, as the rules allow it anyway.
        home.guard(&url, &statement("Allow", TO_ANN, "sqs:*", ""))
            .await?;
        cal.send(&url, "again").await?;
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// A task is judged by what it does: it receives and deletes at its source, and sends where its messages go.
#[test]
fn a_move_task_is_judged_at_both_of_its_ends() -> anyhow::Result<()> {
    let server = start();
    let (home, cal) = (Sqs::of(&server), Sqs::of_account(&server, CAL, REGION));
    let arn = |name: &str| format!("arn:aws:sqs:{REGION}:{HOME}:{name}");
    wait(async {
        let dead = home.make("dead", &[]).await?;
        let redrive = format!(
            r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":1}}"#,
            arn("dead")
        );
        let redrive = (QueueAttributeName::RedrivePolicy, &*redrive);
        let jobs = home.make("jobs", &[redrive]).await?;
        let other = home.make("other", &[]).await?;
        for body in ["a", "b", "c", "d"] {
            home.send(&dead, body).await?;
        }
        let start = |target: Option<&str>| {
            let request = cal.0.start_message_move_task().source_arn(arn("dead"));
            request
                .set_destination_arn(target.map(arn))
                .max_number_of_messages_per_second(1)
                .send()
        };
        let deny = |action: &str| statement("Deny", TO_CAL, action, "");
        for action in ["StartMessageMoveTask", "ReceiveMessage", "DeleteMessage"] {
            home.guard(&dead, &deny(&format!("sqs:{action}"))).await?;
            assert_eq!(refusal(start(Some("other")).await), denied(), "{action}");
        }
        home.guard(&dead, "").await?;
        home.guard(&other, &deny("sqs:SendMessage")).await?;
        assert_eq!(refusal(start(Some("other")).await), denied());
        home.guard(&other, "").await?;
        // Without a destination messages go back to where they came from.
        home.guard(&jobs, &deny("sqs:SendMessage")).await?;
        assert_eq!(refusal(start(None).await), denied());

        let started = start(Some("other")).await?;
        let handle = started.task_handle().context("it runs")?;
        for action in ["CancelMessageMoveTask", "ReceiveMessage"] {
            home.guard(&dead, &deny(&format!("sqs:{action}"))).await?;
            let cancel = cal.0.cancel_message_move_task().task_handle(handle);
            assert_eq!(refusal(cancel.send().await), denied(), "{action}");
        }
        home.guard(&dead, &deny("sqs:GetQueueAttributes")).await?;
        let list = cal.0.list_message_move_tasks().source_arn(arn("dead"));
        assert_eq!(refusal(list.send().await), denied());
        let cancel = home.0.cancel_message_move_task().task_handle(handle);
        cancel.send().await?;
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_policy_opens_a_queue_to_another_account() -> anyhow::Result<()> {
    let server = start();
    let home = Sqs::of(&server);
    let ann = Sqs::of_account(&server, ANN, REGION);
    let url = wait(async {
        let url = home.make("jobs", &[]).await?;
        assert_eq!(ann.refused_send(&url).await, denied());
        let look = || ann.0.get_queue_url().queue_name("jobs");
        let look_at_home = || look().queue_owner_aws_account_id(HOME);
        let nothing = (400, "AWS.SimpleQueueService.NonExistentQueue".to_owned());
        assert_eq!(refusal(look_at_home().send().await), nothing);

        home.guard(&url, &statement("Allow", TO_ANN, "sqs:SendMessage", ""))
            .await?;
        ann.send(&url, "from ann").await?;
        ann.send_both(&url)
            .await
            .expect("the single action is allowed");
        assert_eq!(ann.refused_receive(&url).await, denied());

        home.guard(&url, &statement("Allow", TO_ANN, "sqs:*", ""))
            .await?;
        let found = look_at_home().send().await?;
        assert_eq!(found.queue_url(), Some(&url[..]));
        let got = ann.receive(&url).await?;
        assert_eq!(bodies(&got), ["from ann", "a", "b"]);
        ann.delete(&url, &got[0]).await?;
        // What AWS lets nobody do in another account.
        let delete = ann.0.delete_queue().queue_url(&url).send().await;
        assert_eq!(refusal(delete), denied());
        let tag = ann.0.tag_queue().queue_url(&url).tags("k", "v");
        assert_eq!(refusal(tag.send().await), denied());
        let set = ann.0.set_queue_attributes().queue_url(&url);
        let set = set.attributes(QueueAttributeName::DelaySeconds, "1");
        assert_eq!(refusal(set.send().await), denied());
        // And her own account has no such queue still.
        assert_eq!(refusal(look().send().await), nothing);

        let from = |network: &str| {
            let condition = format!(
                r#","Condition":{{"IpAddress":{{"aws:SourceIp":"{network}"}},"Bool":{{"aws:SecureTransport":"false"}}}}"#
            );
            statement("Allow", r#""*""#, "sqs:SendMessage", &condition)
        };
        home.guard(&url, &from("10.0.0.0/8")).await?;
        assert_eq!(ann.refused_send(&url).await, denied());
        home.guard(&url, &from("127.0.0.0/8")).await?;
        ann.send(&url, "from here").await?;
        anyhow::Ok(url)
    })?;
    let server = server.restart();
    let home = Sqs::of(&server);
    let ann = Sqs::of_account(&server, ANN, REGION);
    let url = url_now(&url, &server)?;
    wait(async {
        ann.send(&url, "after the restart").await?;
        home.guard(&url, "").await?;
        assert_eq!(ann.refused_send(&url).await, denied());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// The rules of the configuration bound what a policy can open.
#[test]
fn a_policy_opens_nothing_that_the_rules_close() -> anyhow::Result<()> {
    let server = Server::start_with(&[
        "auth.vhosts=['/','other']",
        "users=[{name='ann',password='x',vhosts=['other']}]",
        "aws.keys=[{id='ANN',secret='guest',user='ann',account='222222222222'}]",
        "aws.vhosts=[{name='other',account='222222222222',region='us-east-1'}]",
    ]);
    let home = Sqs::of(&server);
    let ann = Sqs::of_account(&server, ANN, REGION);
    wait(async {
        let url = home.make("jobs", &[]).await?;
        home.guard(&url, &statement("Allow", r#""*""#, "sqs:*", ""))
            .await?;
        assert_eq!(ann.refused_send(&url).await, denied());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_policy_opens_a_topic_to_another_account() -> anyhow::Result<()> {
    let server = start();
    let (home, ann) = (sns_of(&server, "guest"), sns_of(&server, ANN));
    let cal = sns_of(&server, CAL);
    let her_queues = Sqs::of_account(&server, ANN, REGION);
    wait(async {
        let forbidden = (403, "AuthorizationError".to_owned());
        let topic = home.create_topic().name("news").send().await?;
        let topic = topic.topic_arn.context("a topic has an ARN")?;
        let publish = |by: &aws_sdk_sns::Client| by.publish().topic_arn(&topic).message("m").send();
        assert_eq!(refusal(publish(&ann).await), forbidden);
        let request = home.add_permission().topic_arn(&topic).label("ann");
        let request = request.aws_account_id("222222222222");
        request.action_name("Publish").send().await?;
        publish(&ann).await?;
        let url = her_queues.make("inbox", &[]).await?;
        let queue = her_queues.attribute(&url, "QueueArn").await?;
        let subscribe = || {
            let request = ann.subscribe().topic_arn(&topic).protocol("sqs");
            request.endpoint(&queue).send()
        };
        assert_eq!(refusal(subscribe().await), forbidden);
        // What may be subscribed can be said by its kind.
        let by_kind = statement(
            "Allow",
            TO_ANN,
            "SNS:Subscribe",
            r#","Condition":{"StringEquals":{"sns:Protocol":"sqs"}}"#,
        );
        let request = home.set_topic_attributes().topic_arn(&topic);
        let request = request.attribute_name("Policy").attribute_value(by_kind);
        request.send().await?;
        assert_eq!(refusal(publish(&ann).await), forbidden);
        let subscription = subscribe().await?;
        let subscription = subscription.subscription_arn.context("it has an ARN")?;
        let request = ann.get_subscription_attributes();
        let shown = request.subscription_arn(&subscription).send().await?;
        let shown = shown.attributes.context("attributes")?;
        assert_eq!(shown["Owner"], "222222222222");
        // She has made it, so she may end it; what others have made she may not even see.
        let others = home.subscribe().topic_arn(&topic).protocol("http");
        let others = others
            .endpoint("http://nowhere.example/")
            .return_subscription_arn(true);
        let others = others.send().await?.subscription_arn.context("an ARN")?;
        let look = ann.get_subscription_attributes().subscription_arn(&others);
        assert_eq!(refusal(look.send().await), forbidden);
        let end = |arn: &str| ann.unsubscribe().subscription_arn(arn).send();
        assert_eq!(refusal(end(&others).await), forbidden);
        end(&subscription).await?;

        let deny = statement("Deny", TO_CAL, "SNS:Publish", "");
        publish(&cal).await?;
        let request = home.set_topic_attributes().topic_arn(&topic);
        request
            .attribute_name("Policy")
            .attribute_value(deny)
            .send()
            .await?;
        assert_eq!(refusal(publish(&cal).await), forbidden);
        publish(&home).await?;
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// Nothing of the topic's account comes into the queue of another one but what its policy lets in. The rest is the subscription's loss.
#[test]
fn what_a_topic_brings_is_judged_by_the_policy_of_the_queue() -> anyhow::Result<()> {
    let server = start();
    let ann = Sqs::of_account(&server, ANN, REGION);
    let (home, topics) = (Sqs::of(&server), sns_of(&server, "guest"));
    let (topic, url) = wait(async {
        let topic = topics.create_topic().name("news").send().await?;
        let topic = topic.topic_arn.context("a topic has an ARN")?;
        let url = ann.make("inbox", &[]).await?;
        let lost = home.make("lost", &[]).await?;
        let lost_arn = home.attribute(&lost, "QueueArn").await?;
        let request = topics.subscribe().topic_arn(&topic).protocol("sqs");
        let request = request.endpoint(ann.attribute(&url, "QueueArn").await?);
        let request = request.attributes("RawMessageDelivery", "true");
        let redrive = format!("{{\"deadLetterTargetArn\":\"{lost_arn}\"}}");
        request.attributes("RedrivePolicy", redrive).send().await?;
        let publish = |text: &str| topics.publish().topic_arn(&topic).message(text).send();
        let by_sns = |effect: &str, arn: &str| {
            let condition = format!(r#","Condition":{{"ArnEquals":{{"aws:SourceArn":"{arn}"}}}}"#);
            let sns = r#"{"Service":"sns.amazonaws.com"}"#;
            statement(effect, sns, "sqs:SendMessage", &condition)
        };

        publish("nobody lets it in").await?;
        ann.guard(&url, &by_sns("Allow", &format!("{topic}-others")))
            .await?;
        publish("another topic's may").await?;
        ann.guard(&url, &by_sns("Allow", &topic)).await?;
        publish("it may").await?;
        ann.guard(&url, &by_sns("Deny", &topic)).await?;
        publish("it may not").await?;
        ann.guard(
            &url,
            &statement("Allow", r#"{"AWS":"000000000000"}"#, "sqs:SendMessage", ""),
        )
        .await?;
        publish("its account may").await?;
        assert_eq!(
            bodies(&ann.receive(&url).await?),
            ["it may", "its account may"]
        );
        let got = home.receive(&lost).await?;
        let refused = ["nobody lets it in", "another topic's may", "it may not"];
        assert_eq!(bodies(&got), refused);

        // At home a denial counts, and nothing need be allowed.
        let own = home.make("own", &[]).await?;
        let request = topics.subscribe().topic_arn(&topic).protocol("sqs");
        let request = request.attributes("RawMessageDelivery", "true");
        let arn = home.attribute(&own, "QueueArn").await?;
        request.endpoint(arn).send().await?;
        publish("to one's own").await?;
        home.guard(&own, &by_sns("Deny", &topic)).await?;
        publish("denied at home").await?;
        home.guard(&own, "").await?;
        publish("to one's own again").await?;
        assert_eq!(
            bodies(&home.receive(&own).await?),
            ["to one's own", "to one's own again"]
        );
        anyhow::Ok((topic, url))
    })?;
    let server = server.restart();
    let ann = Sqs::of_account(&server, ANN, REGION);
    let topics = sns_of(&server, "guest");
    let url = url_now(&url, &server)?;
    wait(async {
        let publish = |text: &str| topics.publish().topic_arn(&topic).message(text).send();
        publish("after the restart").await?;
        ann.guard(&url, "").await?;
        publish("not any more").await?;
        let mut got = Vec::new();
        while !got.contains(&"after the restart".to_owned()) {
            let messages = ann.receive(&url).await?;
            ensure!(!messages.is_empty(), "{got:?} came and no more");
            got.extend(bodies(&messages).into_iter().map(str::to_owned));
        }
        assert!(ann.receive_within(&url, 0).await?.is_empty());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

/// So is what an endpoint does not take, on its way into the dead-letter queue of its subscription.
#[test]
fn a_dead_letter_of_an_endpoint_is_judged_by_the_policy_of_the_queue() -> anyhow::Result<()> {
    let server = start_with(&[
        "aws.transitions=instant",
        "sns.endpoints=['http://127.0.0.1:*']",
    ]);
    let ann = Sqs::of_account(&server, ANN, REGION);
    let topics = sns_of(&server, "guest");
    let endpoint = Endpoint::open();
    let counted = |name: &str| {
        let (_, text) = get(server.door("http"), "/metrics").expect("metrics are served");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.trim().parse::<u64>().expect("a number"))
    };
    wait(async {
        let topic = topics.create_topic().name("news").send().await?;
        let topic = topic.topic_arn.context("a topic has an ARN")?;
        let url = ann.make("inbox", &[]).await?;
        let arn = ann.attribute(&url, "QueueArn").await?;
        let request = topics.subscribe().topic_arn(&topic).protocol("http");
        let request = request.endpoint(&endpoint.url);
        let request = request.attributes("RawMessageDelivery", "true");
        let redrive = format!("{{\"deadLetterTargetArn\":\"{arn}\"}}");
        request.attributes("RedrivePolicy", redrive).send().await?;
        endpoint.is_asked()?;
        let publish = |text: &str| topics.publish().topic_arn(&topic).message(text).send();
        let by_sns = |effect: &str| {
            let condition =
                format!(r#","Condition":{{"ArnEquals":{{"aws:SourceArn":"{topic}"}}}}"#);
            let sns = r#"{"Service":"sns.amazonaws.com"}"#;
            statement(effect, sns, "sqs:SendMessage", &condition)
        };
        let steps = [
            ("nobody lets it in", None, (1, 0)),
            ("it may", Some("Allow"), (1, 1)),
            ("it may not", Some("Deny"), (2, 1)),
        ];
        for (text, effect, outcome) in steps {
            if let Some(effect) = effect {
                ann.guard(&url, &by_sns(effect)).await?;
            }
            endpoint.answers(&[404]);
            publish(text).await?;
            let settled = until(text, || {
                let now = (
                    counted("bascule_sns_lost_total "),
                    counted("bascule_sns_dead_lettered_total "),
                );
                (now.0 + now.1 == outcome.0 + outcome.1).then_some(now)
            });
            assert_eq!(settled, Some(outcome), "{text}");
        }
        assert_eq!(bodies(&ann.receive(&url).await?), ["it may"]);
        assert!(ann.receive_within(&url, 0).await?.is_empty());
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn a_policy_opens_a_stream_to_another_account() -> anyhow::Result<()> {
    let server = start();
    let (home, ann) = (kinesis_of(&server, "guest"), kinesis_of(&server, ANN));
    let cal = kinesis_of(&server, CAL);
    wait(async {
        let denied = (400, "AccessDeniedException".to_owned());
        home.create_stream()
            .stream_name("clicks")
            .shard_count(1)
            .send()
            .await?;
        let arn = loop {
            let shown = home
                .describe_stream_summary()
                .stream_name("clicks")
                .send()
                .await?;
            let shown = shown.stream_description_summary.context("a stream")?;
            if shown.stream_status.as_str() == "ACTIVE" {
                break shown.stream_arn;
            }
        };
        let put = |by: &aws_sdk_kinesis::Client| {
            let request = by.put_record().stream_arn(&arn).partition_key("k");
            request.data(Blob::new("r")).send()
        };
        assert_eq!(refusal(put(&ann).await), denied);
        let guard = |policy: String| {
            let request = home.put_resource_policy().resource_arn(&arn);
            request.policy(policy).send()
        };
        let rest = format!(r#","Resource":"{arn}""#);
        guard(statement("Allow", TO_ANN, "kinesis:Put*", &rest)).await?;
        put(&ann).await?;
        let iterator = || {
            let request = ann.get_shard_iterator().stream_arn(&arn);
            let request = request.shard_id("shardId-000000000000");
            request
                .shard_iterator_type(ShardIteratorType::TrimHorizon)
                .send()
        };
        assert_eq!(refusal(iterator().await), denied);
        guard(statement("Allow", TO_ANN, "kinesis:*", &rest)).await?;
        let at = iterator().await?.shard_iterator;
        let read = |by: &aws_sdk_kinesis::Client| {
            let request = by.get_records().stream_arn(&arn);
            request.set_shard_iterator(at.clone()).send()
        };
        assert_eq!(read(&ann).await?.records.len(), 1);
        let delete = ann.delete_stream().stream_arn(&arn).send().await;
        assert_eq!(refusal(delete), denied);

        // An iterator names its stream, also to who does not.
        guard(statement("Deny", TO_CAL, "kinesis:GetRecords", "")).await?;
        let request = cal.get_records().set_shard_iterator(at.clone());
        assert_eq!(refusal(request.send().await), denied);
        put(&cal).await?;
        assert_eq!(refusal(read(&ann).await), denied);

        // A consumer has a policy of its own.
        let request = home.register_stream_consumer().stream_arn(&arn);
        let made = request.consumer_name("pushed").send().await?;
        let consumer = made.consumer.context("a consumer")?.consumer_arn;
        let look = |by: &aws_sdk_kinesis::Client| {
            by.describe_stream_consumer().consumer_arn(&consumer).send()
        };
        assert_eq!(refusal(look(&ann).await), denied);
        let rest = format!(r#","Resource":"{consumer}""#);
        let policy = statement("Allow", TO_ANN, "kinesis:DescribeStreamConsumer", &rest);
        let request = home.put_resource_policy().resource_arn(&consumer);
        request.policy(policy).send().await?;
        look(&ann).await?;
        let policy = statement("Deny", TO_CAL, "kinesis:*", &rest);
        let request = home.put_resource_policy().resource_arn(&consumer);
        request.policy(policy).send().await?;
        let by_name = cal.describe_stream_consumer().stream_arn(&arn);
        let by_name = by_name.consumer_name("pushed").send().await;
        assert_eq!(refusal(by_name), denied);
        anyhow::Ok(())
    })?;
    server.stop();
    Ok(())
}
