//! SNS over the real server: one topic in all protocols, and delivery to an HTTP endpoint: confirmation, retries, dead letters, restarts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use ::mqtt::codec::Version as MqttVersion;
use ::stomp::Version as StompVersion;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value as Json;

use crate::{
    client::{Amqp, Mqtt, Stomp, Transport, dial, wait},
    server::{LIMIT, Server},
    sns_endpoints::Stream,
};

const SETTINGS: [&str; 3] = [
    "aws.signatures=accept",
    "aws.minute_rules=false",
    "sns.endpoints=['http://127.0.0.1:*']",
];

/// A client of the query protocol.
pub(crate) struct Query(pub(crate) SocketAddr);

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The text of the first element of that name.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, behind) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = behind.split_once(&format!("</{name}>"))?;
    let text = text.replace("&quot;", "\"").replace("&#34;", "\"");
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    Some(
        text.replace("&#10;", "\n")
            .replace("&#xA;", "\n")
            .replace("&amp;", "&"),
    )
}

impl Query {
    pub(crate) fn exchange(&self, head: &str, body: &str) -> anyhow::Result<(u16, String)> {
        let mut socket = dial(self.0);
        let len = body.len();
        write!(
            socket,
            "{head} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {len}\r\n{body}",
            self.0,
            body = if head.starts_with("POST") {
                format!(
                    "Content-Type: application/x-www-form-urlencoded\r\nX-Amz-Date: 20260101T000000Z\r\n\
                     Authorization: AWS4-HMAC-SHA256 Credential=guest/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, \
                     Signature=00\r\n\r\n{body}",
                    if body.contains("2012-11-05") {
                        "sqs"
                    } else {
                        "sns"
                    }
                )
            } else {
                "\r\n".to_owned()
            }
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).context("a status")?.parse()?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
        Ok((status, body.to_owned()))
    }

    fn ask(
        &self,
        version: &str,
        action: &str,
        members: &[(&str, &str)],
    ) -> anyhow::Result<(u16, String)> {
        let mut body = format!("Action={action}&Version={version}");
        for (name, value) in members {
            body.push_str(&format!("&{name}={}", escaped(value)));
        }
        self.exchange("POST /", &body)
    }

    fn call(
        &self,
        version: &str,
        action: &str,
        members: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let (status, xml) = self.ask(version, action, members)?;
        ensure!(status == 200, "{action} {members:?}: {status} {xml}");
        Ok(xml)
    }

    pub(crate) fn sns(&self, action: &str, members: &[(&str, &str)]) -> anyhow::Result<String> {
        self.call("2010-03-31", action, members)
    }

    fn sqs(&self, action: &str, members: &[(&str, &str)]) -> anyhow::Result<String> {
        self.call("2012-11-05", action, members)
    }

    pub(crate) fn topic(&self, name: &str) -> anyhow::Result<String> {
        let xml = self.sns("CreateTopic", &[("Name", name)])?;
        element(&xml, "TopicArn").context(xml)
    }

    /// A queue: its URL and its ARN.
    pub(crate) fn queue(&self, name: &str) -> anyhow::Result<(String, String)> {
        let xml = self.sqs("CreateQueue", &[("QueueName", name)])?;
        let url = element(&xml, "QueueUrl").context(xml)?;
        Ok((url, format!("arn:aws:sqs:us-east-1:000000000000:{name}")))
    }

    /// The body of the next message.
    pub(crate) fn receive(&self, url: &str) -> anyhow::Result<String> {
        let members = [
            ("QueueUrl", url),
            ("WaitTimeSeconds", "20"),
            ("MessageAttributeName.1", "All"),
        ];
        let xml = self.sqs("ReceiveMessage", &members)?;
        let handle = element(&xml, "ReceiptHandle").context(xml.clone())?;
        self.sqs(
            "DeleteMessage",
            &[("QueueUrl", url), ("ReceiptHandle", &handle)],
        )?;
        element(&xml, "Body").context(xml)
    }

    pub(crate) fn subscribe(
        &self,
        topic: &str,
        protocol: &str,
        endpoint: &str,
        attributes: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let mut members = vec![
            ("TopicArn".to_owned(), topic),
            ("Protocol".to_owned(), protocol),
            ("Endpoint".to_owned(), endpoint),
            ("ReturnSubscriptionArn".to_owned(), "true"),
        ];
        for (at, (name, value)) in (1..).zip(attributes) {
            members.push((format!("Attributes.entry.{at}.key"), name));
            members.push((format!("Attributes.entry.{at}.value"), value));
        }
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| (&name[..], *value))
            .collect();
        let xml = self.sns("Subscribe", &members)?;
        element(&xml, "SubscriptionArn").context(xml)
    }

    pub(crate) fn publish(&self, topic: &str, message: &str) -> anyhow::Result<String> {
        let xml = self.sns("Publish", &[("TopicArn", topic), ("Message", message)])?;
        element(&xml, "MessageId").context(xml)
    }
}

/// What an endpoint was sent.
pub(crate) struct Post {
    headers: Vec<(String, String)>,
    body: String,
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> anyhow::Result<Json> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }
}

/// An HTTP endpoint that answers with the statuses that it is told, one after the other, and then with 200.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) posts: Receiver<Post>,
    statuses: Sender<u16>,
}

impl Endpoint {
    pub(crate) fn open() -> Self {
        Self::open_as("http", "127.0.0.1", |socket| Box::new(socket))
    }

    /// With a URL of that scheme and host.
    pub(crate) fn open_as(
        scheme: &str,
        host: &str,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = format!("{scheme}://{host}:{port}/hook");
        let (sender, posts) = channel();
        let (statuses, told) = channel();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let status = told.try_recv().unwrap_or(200);
                let Ok(post) = answer(wrap(socket), status) else {
                    continue;
                };
                if sender.send(post).is_err() {
                    return;
                }
            }
        });
        Self {
            url,
            posts,
            statuses,
        }
    }

    pub(crate) fn answers(&self, statuses: &[u16]) {
        for status in statuses {
            self.statuses.send(*status).expect("the endpoint is open");
        }
    }

    /// It is asked to confirm a subscription.
    pub(crate) fn is_asked(&self) -> anyhow::Result<()> {
        let kind = self.next()?.header("x-amz-sns-message-type").to_owned();
        ensure!(kind == "SubscriptionConfirmation", "it is sent a {kind}");
        Ok(())
    }

    pub(crate) fn next(&self) -> anyhow::Result<Post> {
        self.posts
            .recv_timeout(LIMIT)
            .context("the endpoint is sent something")
    }
}

fn answer(socket: Box<dyn Stream>, status: u16) -> anyhow::Result<Post> {
    let mut input = BufReader::new(socket);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut post = Post {
        headers,
        body: String::new(),
    };
    let mut body = vec![0; post.header("content-length").parse()?];
    input.read_exact(&mut body)?;
    post.body = String::from_utf8(body)?;
    write!(
        input.get_mut(),
        "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"
    )?;
    input.get_mut().flush()?;
    Ok(post)
}

#[test]
fn doors_a8_a_topic_of_one_name_is_one_topic_in_all_protocols() -> anyhow::Result<()> {
    let server = Server::start_with(&SETTINGS);
    let aws = Query(server.door("aws"));
    let topic = aws.topic("orders")?;
    let (wrapped, wrapped_arn) = aws.queue("wrapped")?;
    let (raw, raw_arn) = aws.queue("raw")?;
    aws.subscribe(&topic, "sqs", &wrapped_arn, &[])?;
    aws.subscribe(&topic, "sqs", &raw_arn, &[("RawMessageDelivery", "true")])?;
    let mut mqtt = Mqtt::clean(
        Transport::tcp(server.door("mqtt")),
        MqttVersion::V5,
        "reader",
    )?;
    mqtt.subscribe("orders", 1)?;
    let mut stomp = Stomp::open(Transport::tcp(server.door("stomp")), StompVersion::V1_2)?;
    stomp.subscribe("/topic/orders", "1", "auto")?;

    // From SNS to everybody.
    aws.sns(
        "Publish",
        &[
            ("TopicArn", &topic),
            ("Message", "from SNS"),
            ("Subject", "news"),
            ("MessageAttributes.entry.1.Name", "colour"),
            ("MessageAttributes.entry.1.Value.DataType", "String"),
            ("MessageAttributes.entry.1.Value.StringValue", "blue"),
        ],
    )?;
    let envelope: Json = serde_json::from_str(&aws.receive(&wrapped)?)?;
    ensure!(
        envelope["Message"] == "from SNS" && envelope["Subject"] == "news",
        "{envelope}"
    );
    ensure!(
        envelope["MessageAttributes"]["colour"]["Value"] == "blue",
        "{envelope}"
    );
    ensure!(envelope["TopicArn"] == topic, "{envelope}");
    ensure!(aws.receive(&raw)? == "from SNS");
    let publish = mqtt.next()?;
    ensure!(&publish.payload[..] == b"from SNS", "{publish:?}");
    ensure!(
        format!("{:?}", publish.properties).contains("colour"),
        "{publish:?}"
    );
    let frame = stomp.next()?;
    ensure!(&frame.body[..] == b"from SNS", "{frame:?}");
    ensure!(format!("{frame:?}").contains("colour"), "{frame:?}");

    // From everybody to SNS.
    mqtt.publish("orders", &b"from MQTT"[..], 1)?;
    let envelope: Json = serde_json::from_str(&aws.receive(&wrapped)?)?;
    ensure!(envelope["Message"] == "from MQTT", "{envelope}");
    ensure!(aws.receive(&raw)? == "from MQTT");
    stomp.publish("/topic/orders", &b"from STOMP"[..])?;
    ensure!(aws.receive(&raw)? == "from STOMP");
    wait(async {
        let amqp = Amqp::open(server.door("amqp")).await?;
        amqp.publish("amq.topic", "orders", b"from AMQP").await
    })?;
    ensure!(aws.receive(&raw)? == "from AMQP");
    Ok(())
}

#[test]
fn a_message_of_mqtt_has_an_id_of_its_own_and_it_is_the_same_in_every_envelope()
-> anyhow::Result<()> {
    let mut settings = SETTINGS.to_vec();
    settings.push("aws.transitions=instant");
    let server = Server::start_with(&settings);
    let aws = Query(server.door("aws"));
    let topic = aws.topic("mid")?;
    let (first, arn) = aws.queue("first")?;
    aws.subscribe(&topic, "sqs", &arn, &[])?;
    let (second, arn) = aws.queue("second")?;
    aws.subscribe(&topic, "sqs", &arn, &[])?;
    let endpoint = Endpoint::open();
    let policy = r#"{"healthyRetryPolicy":{"numRetries":3,"numNoDelayRetries":3}}"#;
    let attributes = [("DeliveryPolicy", policy)];
    aws.subscribe(&topic, "http", &endpoint.url, &attributes)?;
    let question = endpoint.next()?;
    ensure!(question.header("x-amz-sns-message-type") == "SubscriptionConfirmation");
    let mut mqtt = Mqtt::clean(
        Transport::tcp(server.door("mqtt")),
        MqttVersion::V5,
        "sensor",
    )?;
    let mut seen = Vec::new();
    for qos in [1, 1, 0] {
        // One of each is tried twice.
        endpoint.answers(&[500]);
        mqtt.publish("mid", &b"21.5"[..], qos)?;
        let mut shown = Vec::new();
        for queue in [&first, &second] {
            shown.push(serde_json::from_str::<Json>(&aws.receive(queue)?)?);
        }
        for _ in 0..2 {
            shown.push(endpoint.next()?.json()?);
        }
        for json in &shown {
            for name in ["MessageId", "Timestamp", "Signature"] {
                ensure!(
                    json[name].is_string() && json[name] == shown[0][name],
                    "{name}: {shown:?}"
                );
            }
        }
        ensure!(!seen.contains(&shown[0]["MessageId"]), "{seen:?}");
        seen.push(shown[0]["MessageId"].clone());
    }
    Ok(())
}

#[test]
fn an_http_endpoint_confirms_and_is_tried_again_and_what_it_refuses_is_a_dead_letter()
-> anyhow::Result<()> {
    let server = Server::start_with(&SETTINGS);
    let aws = Query(server.door("aws"));
    let endpoint = Endpoint::open();
    let topic = aws.topic("news")?;
    let (dead, dead_arn) = aws.queue("dead")?;
    let redrive = format!("{{\"deadLetterTargetArn\":\"{dead_arn}\"}}");
    let policy = r#"{"healthyRetryPolicy":{"numRetries":3,"numNoDelayRetries":3}}"#;
    let attributes = [("RedrivePolicy", &redrive[..]), ("DeliveryPolicy", policy)];
    let subscription = aws.subscribe(&topic, "http", &endpoint.url, &attributes)?;

    // Until it confirms it gets nothing but the question.
    aws.publish(&topic, "too early")?;
    let question = endpoint.next()?;
    ensure!(question.header("x-amz-sns-message-type") == "SubscriptionConfirmation");
    let json = question.json()?;
    let url = json["SubscribeURL"].as_str().context("a URL")?;
    let (_, path) = url
        .rsplit_once(&format!("{}", server.door("aws")))
        .context("our URL")?;
    let (status, xml) = aws.exchange(&format!("GET {path}"), "")?;
    ensure!(
        status == 200 && element(&xml, "SubscriptionArn") == Some(subscription.clone()),
        "{xml}"
    );

    // Twice in vain, then taken.
    endpoint.answers(&[500, 429]);
    let id = aws.publish(&topic, "again and again")?;
    for _ in 0..3 {
        let post = endpoint.next()?;
        ensure!(post.header("x-amz-sns-message-type") == "Notification");
        ensure!(post.header("x-amz-sns-message-id") == id);
        ensure!(post.header("x-amz-sns-subscription-arn") == subscription);
        let json = post.json()?;
        ensure!(
            json["Message"] == "again and again" && json["MessageId"] == id,
            "{json}"
        );
        ensure!(
            json["SignatureVersion"] == "1" && json["Signature"].is_string(),
            "{json}"
        );
        let url = json["SigningCertURL"].as_str().context("a URL")?;
        ensure!(url.ends_with("/SimpleNotificationService.pem"), "{url}");
    }
    let (status, pem) = aws.exchange("GET /SimpleNotificationService.pem", "")?;
    ensure!(
        status == 200 && pem.starts_with("-----BEGIN CERTIFICATE-----"),
        "{status} {pem}"
    );

    // Refused for good, and refused too often.
    endpoint.answers(&[404]);
    aws.publish(&topic, "unwanted")?;
    let body: Json = serde_json::from_str(&aws.receive(&dead)?)?;
    ensure!(body["Message"] == "unwanted" && endpoint.next()?.json()?["Message"] == "unwanted");
    endpoint.answers(&[500, 500, 500, 500]);
    aws.publish(&topic, "hopeless")?;
    let body: Json = serde_json::from_str(&aws.receive(&dead)?)?;
    ensure!(body["Message"] == "hopeless", "{body}");
    for _ in 0..4 {
        endpoint.next()?;
    }

    // The end, told to the endpoint.
    aws.sns("Unsubscribe", &[("SubscriptionArn", &subscription)])?;
    let post = endpoint.next()?;
    ensure!(post.header("x-amz-sns-message-type") == "UnsubscribeConfirmation");
    Ok(())
}

#[test]
fn what_waits_for_an_endpoint_survives_a_kill() -> anyhow::Result<()> {
    let settings = ["aws.transitions=instant", "sns.request_timeout_ms=1000"];
    let settings = [&SETTINGS[..], &settings].concat();
    let mut server = Server::start_with(&settings);
    let aws = Query(server.door("aws"));
    let endpoint = Endpoint::open();
    let topic = aws.topic("news")?;
    let policy =
        r#"{"healthyRetryPolicy":{"numRetries":100,"minDelayTarget":1,"maxDelayTarget":1}}"#;
    let attributes = [("DeliveryPolicy", policy), ("RawMessageDelivery", "true")];
    aws.subscribe(&topic, "http", &endpoint.url, &attributes)?;
    endpoint.is_asked()?;
    endpoint.answers(&[503]);
    aws.publish(&topic, "patience")?;
    ensure!(endpoint.next()?.body == "patience");
    server.kill();
    let _server = server.restart();
    let mut post = endpoint.next()?;
    // That it was answered may not have been written down yet when the server was killed: then it is asked again.
    while post.header("x-amz-sns-message-type") == "SubscriptionConfirmation" {
        post = endpoint.next()?;
    }
    ensure!(
        post.body == "patience" && post.header("x-amz-sns-rawdelivery") == "true",
        "{}",
        post.body
    );
    Ok(())
}

#[test]
fn endpoints_that_the_operator_does_not_allow_get_nothing() -> anyhow::Result<()> {
    // By default nothing on this machine may be reached.
    let server = Server::start_with(&["aws.signatures=accept", "aws.transitions=instant"]);
    let aws = Query(server.door("aws"));
    let endpoint = Endpoint::open();
    let topic = aws.topic("news")?;
    let Err(refused) = aws.subscribe(&topic, "http", &endpoint.url, &[]) else {
        bail!("{} was taken", endpoint.url);
    };
    ensure!(
        format!("{refused:#}").contains("sns.endpoints"),
        "{refused:#}"
    );
    // A name says only when it is looked up where it leads.
    let own = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let is_private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    let leads_here = [own.trim(), "ip6-localhost"].into_iter().find(|name| {
        let addresses = (*name, 80).to_socket_addrs();
        addresses.is_ok_and(|mut found| found.all(|it| is_private(it.ip())))
    });
    let name = leads_here.context("this machine has no name with an address of its own")?;
    let leads_here = endpoint.url.replace("127.0.0.1", name);
    let (dead, dead_arn) = aws.queue("dead")?;
    let redrive = format!("{{\"deadLetterTargetArn\":\"{dead_arn}\"}}");
    aws.subscribe(&topic, "http", &leads_here, &[("RedrivePolicy", &redrive)])?;
    aws.publish(&topic, "secret")?;
    let body: Json = serde_json::from_str(&aws.receive(&dead)?)?;
    ensure!(body["Message"] == "secret", "{body}");
    ensure!(
        endpoint.posts.try_recv().is_err(),
        "the endpoint was sent something"
    );
    Ok(())
}

#[test]
fn the_repeat_of_a_publish_to_a_fifo_topic_is_answered_as_the_first_one() -> anyhow::Result<()> {
    let server = Server::start_with(&SETTINGS);
    let aws = Query(server.door("aws"));
    let fifo = [
        ("Name", "orders.fifo"),
        ("Attributes.entry.1.key", "FifoTopic"),
        ("Attributes.entry.1.value", "true"),
    ];
    let xml = aws.sns("CreateTopic", &fifo)?;
    let topic = element(&xml, "TopicArn").context(xml)?;
    let publish = |dedup: &str| -> anyhow::Result<(String, String)> {
        let members = [
            ("TopicArn", &*topic),
            ("Message", "hello"),
            ("MessageGroupId", "g"),
            ("MessageDeduplicationId", dedup),
        ];
        let xml = aws.sns("Publish", &members)?;
        let id = element(&xml, "MessageId").context(xml.clone())?;
        let number =
            element(&xml, "SequenceNumber").with_context(|| format!("no number: {xml}"))?;
        Ok((id, number))
    };
    let first = publish("one")?;
    let second = publish("two")?;
    ensure!(first != second, "{first:?} {second:?}");
    let repeat = publish("one")?;
    ensure!(repeat == first, "{repeat:?} is not {first:?}");
    Ok(())
}

/// The numbers that AWS sets for an account are the operator's to set, and are told in its words.
#[test]
fn topics_and_subscriptions_are_as_many_as_the_operator_says() -> anyhow::Result<()> {
    let limits = [
        "sns.fifo_topics_max=1",
        "sns.fifo_subscriptions_max=1",
        "sns.topic_filter_policies_max=1",
        "sns.pending_subscriptions_max=1",
    ];
    let server = Server::start_with(&[&SETTINGS[..], &limits[..]].concat());
    let aws = Query(server.door("aws"));
    let refused = |action: &str, members: &[(&str, &str)], code: &str| -> anyhow::Result<()> {
        let (status, xml) = aws.ask("2010-03-31", action, members)?;
        let told = element(&xml, "Code");
        ensure!(
            (status, told.as_deref()) == (403, Some(code)),
            "{action} {members:?}: {status} {xml}"
        );
        Ok(())
    };
    let fifo = |name: &'static str| {
        [
            ("Name", name),
            ("Attributes.entry.1.key", "FifoTopic"),
            ("Attributes.entry.1.value", "true"),
        ]
    };
    let xml = aws.sns("CreateTopic", &fifo("one.fifo"))?;
    let one = element(&xml, "TopicArn").context(xml)?;
    aws.sns("CreateTopic", &fifo("one.fifo"))?;
    refused("CreateTopic", &fifo("two.fifo"), "TopicLimitExceeded")?;

    let (_, first) = aws.queue("first")?;
    let (_, second) = aws.queue("second")?;
    let subscribe = |topic, endpoint| {
        [
            ("TopicArn", topic),
            ("Protocol", "sqs"),
            ("Endpoint", endpoint),
            ("Attributes.entry.1.key", "FilterPolicy"),
            ("Attributes.entry.1.value", r#"{"a":["b"]}"#),
        ]
    };
    aws.sns("Subscribe", &subscribe(&one, &first)[..3])?;
    let another = subscribe(&one, &second);
    refused("Subscribe", &another[..3], "SubscriptionLimitExceeded")?;

    let plain = aws.topic("plain")?;
    aws.sns("Subscribe", &subscribe(&plain, &first))?;
    let another = subscribe(&plain, &second);
    refused("Subscribe", &another, "FilterPolicyLimitExceeded")?;
    let unfiltered = aws.subscribe(&plain, "sqs", &second, &[])?;
    let set = [
        ("SubscriptionArn", &*unfiltered),
        ("AttributeName", "FilterPolicy"),
        ("AttributeValue", r#"{"a":["b"]}"#),
    ];
    refused(
        "SetSubscriptionAttributes",
        &set,
        "FilterPolicyLimitExceeded",
    )?;

    // Nobody confirms these.
    let hook = |endpoint| {
        let members = &subscribe(&plain, endpoint)[..3];
        members
            .iter()
            .map(|(name, value)| (*name, if *value == "sqs" { "http" } else { *value }))
            .collect::<Vec<_>>()
    };
    aws.sns("Subscribe", &hook("http://127.0.0.1:1/a"))?;
    aws.sns("Subscribe", &hook("http://127.0.0.1:1/a"))?;
    let another = hook("http://127.0.0.1:1/b");
    refused("Subscribe", &another, "SubscriptionLimitExceeded")?;
    Ok(())
}
