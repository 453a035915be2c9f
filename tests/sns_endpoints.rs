//! SNS delivers to servers: HTTPS with signatures that hold, mail over each kind of connection, gateways for text messages and
//! push notifications.
//!
//! `certificates/` holds an authority that was made for these tests and a certificate of its for `localhost`, good for a
//! hundred years; the authority's key is thrown away.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
};

use anyhow::{Context as _, ensure};
use message::base64;
use rsa::{BoxedUint, Pkcs1v15Sign, PublicKey};
use serde_json::Value as Json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    client::{
        aws::{Sqs, sns_of},
        get, wait,
    },
    policies::url_now,
    server::{LIMIT, Server, until},
    sns::{Endpoint, Query, element},
};

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/certificates");

/// An account that nobody has configured.
const ACCOUNT: &str = "222222222222";

/// What is read from and written to, with or without TLS.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// TLS as the server of `localhost`.
pub(crate) fn tls() -> impl Fn(TcpStream) -> Box<dyn Stream> + Send + Clone + 'static {
    let file = |name| format!("{CERTIFICATES}/{name}");
    let chain = CertificateDer::from_pem_file(file("localhost.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("localhost.key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("they belong together");
    let config = Arc::new(config);
    move |socket| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a server");
        Box::new(StreamOwned::new(connection, socket))
    }
}

fn settings(more: &[&str]) -> Vec<String> {
    let mut all = vec![
        "aws.signatures=accept".to_owned(),
        "aws.minute_rules=false".to_owned(),
        "sns.endpoints=['http://127.0.0.1:*','https://localhost:*','https://127.0.0.1:*']"
            .to_owned(),
        format!("sns.ca_file={CERTIFICATES}/authority.pem"),
    ];
    all.extend(more.iter().map(|&text| text.to_owned()));
    all
}

fn start(more: &[&str]) -> Server {
    let settings = settings(more);
    let settings: Vec<&str> = settings.iter().map(|text| &text[..]).collect();
    Server::start_with(&settings)
}

#[test]
fn endpoints_that_the_operator_does_not_allow_cannot_be_subscribed() -> anyhow::Result<()> {
    let server = Server::start_with(&[
        "aws.signatures=accept",
        "sns.endpoints=['http://127.0.0.1:*','https://*','https://10.1.2.3','https://*:8443']",
    ]);
    let aws = Query(server.door("aws"));
    let topic = aws.topic("orders")?;
    let subscribe = |url: &str| aws.subscribe(&topic, &url[..url.find(':').unwrap_or(0)], url, &[]);
    for bad in [
        "http://localhost:9/",
        "http://example.org/",
        "http://127.0.0.2/",
        "https://10.1.2.4/",
        "https://[::1]/",
        "https://localhost/",
        "https://app.localhost:8443/",
        "https://user:word@169.254.169.254/",
    ] {
        let refused = subscribe(bad).expect_err(bad).to_string();
        assert!(
            refused.contains(": 400 ") && refused.contains("sns.endpoints"),
            "{bad}: {refused}"
        );
    }
    for bad in [
        "http://127.0.0.1:99999/",
        "https://a:b:c/",
        "https:///x",
        "https://127.1/",
    ] {
        let refused = subscribe(bad).expect_err(bad).to_string();
        assert!(refused.contains("not a URL"), "{bad}: {refused}");
    }
    for good in [
        "http://user:word@127.0.0.1:9/x?y",
        "https://10.1.2.3/",
        "https://name.invalid/",
    ] {
        subscribe(good)?;
    }
    // Nobody would ever confirm these: why is told once, without the password.
    for (endpoint, why) in [
        ("http://user:****@127.0.0.1:9/x?y", "refused"),
        ("https://name.invalid/", "its name has no address"),
    ] {
        let told = |log: &str| {
            let is_it = |line: &&str| {
                line.contains("was not asked to confirm")
                    && line.contains(endpoint)
                    && line.contains(why)
            };
            log.lines().filter(is_it).count() == 1
        };
        until(endpoint, || told(&server.log()).then_some(()));
    }
    server.stop();
    Ok(())
}

/// The key in a certificate: the modulus and the exponent, behind the name of the algorithm (RFC 3279, 2.3.1). And whether
/// that key has signed the certificate.
fn key_of(pem: &str) -> anyhow::Result<PublicKey> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::decode(lines.as_bytes()).context("base64")?;
    // SEQUENCE { to be signed, algorithm, BIT STRING }
    let (_, whole, _) = element_of(&der)?;
    let (to_be_signed, _, rest) = element_of(whole)?;
    let (_, _, rest) = element_of(rest)?;
    let (_, signature, rest) = element_of(rest)?;
    ensure!(rest.is_empty());
    const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let at = to_be_signed
        .windows(RSA.len())
        .position(|window| window == RSA)
        .context("a key of RSA")?;
    let (_, bits, _) = element_of(&to_be_signed[at + RSA.len()..])?;
    let (_, numbers, _) = element_of(bits.get(1..).context("bits")?)?;
    let (_, modulus, rest) = element_of(numbers)?;
    let (_, exponent, _) = element_of(rest)?;
    let number = |bytes: &[u8]| {
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        BoxedUint::from_be_slice(bytes, 8 * bytes.len() as u32)
    };
    let key = PublicKey::new(number(modulus)?, number(exponent)?)?;
    let scheme = Pkcs1v15Sign::new::<Sha256>();
    key.verify(scheme, &Sha256::digest(to_be_signed), &signature[1..])
        .context("the certificate is signed with its own key")?;
    Ok(key)
}

/// An element of DER: with its head, its content, and what is behind it.
fn element_of(der: &[u8]) -> anyhow::Result<(&[u8], &[u8], &[u8])> {
    let (head, len) = match der {
        [_, short @ 0..=0x7f, ..] => (2, usize::from(*short)),
        [_, 0x81, len, ..] => (3, usize::from(*len)),
        [_, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => anyhow::bail!("no DER"),
    };
    ensure!(der.len() >= head + len, "DER that is cut short");
    Ok((
        &der[..head + len],
        &der[head..head + len],
        &der[head + len..],
    ))
}

/// Whether what a post says is signed with that key, as AWS says how (names and values, a line each).
fn verify(json: &Json, key: &PublicKey) -> anyhow::Result<()> {
    let mut text = String::new();
    for name in [
        "Message",
        "MessageId",
        "Subject",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ] {
        if let Some(value) = json[name].as_str() {
            text.push_str(&format!("{name}\n{value}\n"));
        }
    }
    let signature = json["Signature"].as_str().context("a signature")?;
    let signature = base64::decode(signature.as_bytes()).context("base64")?;
    match json["SignatureVersion"].as_str() {
        Some("1") => key.verify(
            Pkcs1v15Sign::new::<Sha1>(),
            &Sha1::digest(&text),
            &signature,
        ),
        Some("2") => key.verify(
            Pkcs1v15Sign::new::<Sha256>(),
            &Sha256::digest(&text),
            &signature,
        ),
        other => anyhow::bail!("version {other:?}"),
    }
    .with_context(|| format!("the signature of {text}"))
}

#[test]
fn an_https_endpoint_is_trusted_confirms_with_its_token_and_verifies_what_it_is_sent()
-> anyhow::Result<()> {
    let mut server = start(&[]);
    let aws = Query(server.door("aws"));
    let endpoint = Endpoint::open_as("https", "localhost", tls());
    let topic = aws.topic("news")?;
    let place = endpoint.url.strip_prefix("https://").context("https")?;
    let with_login = format!("https://ada:s%40cret@{place}");
    let subscription = aws.subscribe(&topic, "https", &with_login, &[])?;
    let (status, pem) = aws.exchange("GET /SimpleNotificationService.pem", "")?;
    ensure!(status == 200);
    let key = key_of(&pem)?;

    let question = endpoint.next()?;
    ensure!(question.header("x-amz-sns-message-type") == "SubscriptionConfirmation");
    let expected = format!("Basic {}", base64::encode(b"ada:s@cret"));
    ensure!(question.header("authorization") == expected);
    let json = question.json()?;
    verify(&json, &key)?;
    let token = json["Token"].as_str().context("a token")?;
    let wrong = [("TopicArn", &topic[..]), ("Token", &token[2..])];
    ensure!(aws.sns("ConfirmSubscription", &wrong).is_err());
    let right = [("TopicArn", &topic[..]), ("Token", token)];
    let xml = aws.sns("ConfirmSubscription", &right)?;
    ensure!(element(&xml, "SubscriptionArn") == Some(subscription));

    // Both versions of signatures; the same key after a restart, from the first notification on.
    for (version, restarts) in [("1", true), ("2", false)] {
        let set = [
            ("TopicArn", &topic[..]),
            ("AttributeName", "SignatureVersion"),
            ("AttributeValue", version),
        ];
        aws_of(&server).sns("SetTopicAttributes", &set)?;
        if restarts {
            server = server.restart();
        }
        let members = [
            ("TopicArn", &topic[..]),
            ("Message", "zwei\nZeilen \u{fc}"),
            ("Subject", "news"),
        ];
        aws_of(&server).sns("Publish", &members)?;
        let json = endpoint.next()?.json()?;
        ensure!(json["SignatureVersion"] == version, "{json}");
        ensure!(json["Message"] == "zwei\nZeilen \u{fc}", "{json}");
        verify(&json, &key)?;
        let mut forged = json;
        forged["Message"] = "other".into();
        ensure!(verify(&forged, &key).is_err());
    }
    Ok(())
}

fn aws_of(server: &Server) -> Query {
    Query(server.door("aws"))
}

#[test]
fn an_https_endpoint_of_another_name_is_not_trusted_and_what_was_for_it_is_a_dead_letter()
-> anyhow::Result<()> {
    let server = start(&["aws.transitions=instant"]);
    let aws = Query(server.door("aws"));
    // The certificate is for localhost.
    let endpoint = Endpoint::open_as("https", "127.0.0.1", tls());
    let topic = aws.topic("news")?;
    let (dead, dead_arn) = aws.queue("dead")?;
    let redrive = format!("{{\"deadLetterTargetArn\":\"{dead_arn}\"}}");
    let policy = r#"{"healthyRetryPolicy":{"numRetries":2,"numNoDelayRetries":2}}"#;
    let attributes = [("RedrivePolicy", &redrive[..]), ("DeliveryPolicy", policy)];
    aws.subscribe(&topic, "https", &endpoint.url, &attributes)?;
    aws.publish(&topic, "secret")?;
    let body: Json = serde_json::from_str(&aws.receive(&dead)?)?;
    ensure!(body["Message"] == "secret", "{body}");
    ensure!(
        endpoint.posts.try_recv().is_err(),
        "the endpoint was sent something"
    );
    Ok(())
}

/// Messages for endpoints that no dead-letter queue has taken.
fn lost(server: &Server) -> anyhow::Result<u64> {
    let (_, text) = get(server.door("http"), "/metrics")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("bascule_sns_lost_total "));
    Ok(line.context("it is counted")?.parse()?)
}

#[test]
fn a_dead_letter_for_an_account_that_is_not_there_is_lost_and_keeps_nobody_from_theirs()
-> anyhow::Result<()> {
    let server = start(&[
        "aws.transitions=instant",
        "aws.vhosts_on_first_use=true",
        "sns.request_timeout_ms=1000",
    ]);
    let aws = aws_of(&server);
    let (deaf, other) = (Endpoint::open(), Endpoint::open());
    let (topic, others) = (aws.topic("news")?, aws.topic("others")?);
    let redrive = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:999999999999:dead"}"#;
    aws.subscribe(&topic, "http", &deaf.url, &[("RedrivePolicy", redrive)])?;
    aws.subscribe(&others, "http", &other.url, &[])?;
    deaf.is_asked()?;
    other.is_asked()?;
    deaf.answers(&[404]);
    aws.publish(&topic, "nobody takes it")?;
    deaf.next()?;
    until("it is given up", || {
        (lost(&server).ok()? == 1).then_some(())
    })
    .context("it is lost")?;
    aws.publish(&others, "hello")?;
    ensure!(other.next()?.json()?["Message"] == "hello");
    ensure!(deaf.posts.try_recv().is_err(), "it was sent again");
    server.stop();
    Ok(())
}

/// Virtual hosts that were made on first use are not listed anywhere: after a restart nobody has used them yet.
#[test]
fn what_waits_for_an_endpoint_needs_nobody_to_use_its_virtual_host_first() -> anyhow::Result<()> {
    let server = start(&[
        "aws.transitions=instant",
        "aws.vhosts_on_first_use=true",
        "sns.request_timeout_ms=1000",
    ]);
    let sqs = Sqs::of_account(&server, ACCOUNT, "us-east-1");
    let sns = sns_of(&server, ACCOUNT);
    let endpoint = Endpoint::open();
    let url = wait(async {
        let url = sqs.make("dead", &[]).await?;
        let arn = sqs.attribute(&url, "QueueArn").await?;
        let topic = sns.create_topic().name("news").send().await?;
        let topic = topic.topic_arn.context("a topic has an ARN")?;
        let request = sns.subscribe().topic_arn(&topic).protocol("http");
        let request = request.endpoint(&endpoint.url);
        let redrive = format!("{{\"deadLetterTargetArn\":\"{arn}\"}}");
        let request = request.attributes("RedrivePolicy", redrive);
        let policy =
            r#"{"healthyRetryPolicy":{"numRetries":9,"minDelayTarget":5,"maxDelayTarget":5}}"#;
        request.attributes("DeliveryPolicy", policy).send().await?;
        endpoint.is_asked()?;
        endpoint.answers(&[503, 404]);
        sns.publish().topic_arn(&topic).message("m").send().await?;
        anyhow::Ok(url)
    })?;
    endpoint.next()?;
    let server = server.restart();
    endpoint.next()?;
    until("the outcome is known", || {
        let (_, text) = get(server.door("http"), "/metrics").ok()?;
        text.contains("bascule_sns_dead_lettered_total 1\n")
            .then_some(())
    })
    .context("the dead-letter queue has it")?;
    let sqs = Sqs::of_account(&server, ACCOUNT, "us-east-1");
    wait(async {
        let got = sqs.receive(&url_now(&url, &server)?).await?;
        ensure!(got.len() == 1);
        Ok(())
    })?;
    server.stop();
    Ok(())
}

#[test]
fn one_signature_is_made_for_all_queues_of_a_topic_and_holds_in_each() -> anyhow::Result<()> {
    let server = start(&[]);
    let aws = Query(server.door("aws"));
    let topic = aws.topic("news")?;
    let mut queues = Vec::new();
    for number in 0..3 {
        let (url, arn) = aws.queue(&format!("q{number}"))?;
        aws.subscribe(&topic, "sqs", &arn, &[])?;
        queues.push(url);
    }
    aws.publish(&topic, "hello")?;
    let (_, pem) = aws.exchange("GET /SimpleNotificationService.pem", "")?;
    let key = key_of(&pem)?;
    let mut signatures = Vec::new();
    for url in &queues {
        let json: Json = serde_json::from_str(&aws.receive(url)?)?;
        verify(&json, &key)?;
        signatures.push(json["Signature"].clone());
    }
    ensure!(signatures.iter().all(|it| *it == signatures[0]));
    Ok(())
}

#[test]
fn a_message_is_no_longer_than_the_operator_says() -> anyhow::Result<()> {
    let server = start(&["aws.message_bytes_max=2048"]);
    let aws = Query(server.door("aws"));
    let topic = aws.topic("news")?;
    aws.publish(&topic, &"x".repeat(2048))?;
    let refused = aws.publish(&topic, &"x".repeat(2049));
    let refused = format!("{:#}", refused.expect_err("it is too long"));
    ensure!(refused.contains("Message too long"), "{refused}");
    Ok(())
}

/// How a connection to a mail server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    None,
    StartTls,
    Tls,
}

/// A mail, and how it came.
#[derive(Debug, Default)]
struct Mail {
    login: String,
    secured: bool,
    from: String,
    to: String,
    head: String,
    text: String,
}

/// A mail server. It refuses mailboxes that begin with `nobody`.
struct MailServer {
    port: u16,
    mails: Receiver<Mail>,
}

impl MailServer {
    fn open(security: Security) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, mails) = channel();
        thread::spawn(move || {
            let secure = tls();
            for socket in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                let secure = secure.clone();
                // A connection that is cut short brings no mail, which is what the test sees.
                thread::spawn(move || {
                    let _ = take_mails(socket, security, &secure, &sender);
                });
            }
        });
        Self { port, mails }
    }

    fn next(&self) -> anyhow::Result<Mail> {
        self.mails
            .recv_timeout(LIMIT)
            .context("the mail server is sent something")
    }
}

/// A line, a byte at a time: what is behind it may be TLS.
fn line(stream: &mut impl Read) -> anyhow::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8(line)?)
}

fn reply(stream: &mut impl Write, text: &str) -> anyhow::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()?;
    Ok(())
}

fn take_mails(
    mut socket: TcpStream,
    security: Security,
    secure: &dyn Fn(TcpStream) -> Box<dyn Stream>,
    mails: &std::sync::mpsc::Sender<Mail>,
) -> anyhow::Result<()> {
    let mut stream: Box<dyn Stream> = match security {
        Security::None => Box::new(socket),
        Security::Tls => secure(socket),
        Security::StartTls => {
            reply(&mut socket, "220 mail.test\r\n")?;
            ensure!(line(&mut socket)?.starts_with("EHLO "));
            reply(&mut socket, "250-mail.test\r\n250 STARTTLS\r\n")?;
            // No password before that.
            ensure!(line(&mut socket)? == "STARTTLS");
            reply(&mut socket, "220 go ahead\r\n")?;
            secure(socket)
        }
    };
    if security != Security::StartTls {
        reply(&mut stream, "220 mail.test\r\n")?;
    }
    let mut mail = Mail {
        secured: security != Security::None,
        ..Mail::default()
    };
    loop {
        let command = line(&mut stream)?;
        let (verb, rest) = command.split_once([' ', ':']).unwrap_or((&command, ""));
        let answer = match verb {
            "EHLO" => "250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH" => {
                let shown = rest.strip_prefix("PLAIN ").context("AUTH PLAIN")?;
                let login = base64::decode(shown.as_bytes()).context("base64")?;
                mail.login = String::from_utf8(login)?.replace('\0', "|");
                "235 welcome\r\n"
            }
            "MAIL" => {
                rest.clone_into(&mut mail.from);
                "250 ok\r\n"
            }
            "RCPT" => {
                rest.clone_into(&mut mail.to);
                if rest.contains("<nobody") {
                    "550 no such mailbox\r\n"
                } else {
                    "250 ok\r\n"
                }
            }
            "DATA" => {
                reply(&mut stream, "354 go on\r\n")?;
                let mut body = String::new();
                loop {
                    let line = line(&mut stream)?;
                    if line == "." {
                        break;
                    }
                    body.push_str(&line);
                    body.push('\n');
                }
                let (head, text) = body.split_once("\n\n").context("a body")?;
                head.clone_into(&mut mail.head);
                let text = base64::decode(text.replace('\n', "").as_bytes()).context("base64")?;
                mail.text = String::from_utf8(text)?;
                mails.send(std::mem::take(&mut mail))?;
                "250 taken\r\n"
            }
            "QUIT" => return Ok(()),
            _ => "502 what?\r\n",
        };
        reply(&mut stream, answer)?;
    }
}

/// The path of the first link in a text to our door.
fn link(text: &str, server: &Server) -> anyhow::Result<String> {
    let base = format!("http://{}", server.door("aws"));
    let (_, behind) = text.split_once(&base).context("a link")?;
    let end = behind.find(['\n', ' ', '"']).unwrap_or(behind.len());
    Ok(behind[..end].to_owned())
}

#[test]
fn mail_goes_in_plain_text_with_starttls_and_in_tls_each_with_a_login() -> anyhow::Result<()> {
    for (scheme, security) in [
        ("smtp", Security::None),
        ("smtp+starttls", Security::StartTls),
        ("smtps", Security::Tls),
    ] {
        let mails = MailServer::open(security);
        let server = start(&[
            &format!("sns.email={scheme}://localhost:{}", mails.port),
            "sns.email_user=bascule",
            "sns.email_password=pass word",
            "sns.email_from=sns@example.org",
        ]);
        let aws = Query(server.door("aws"));
        let topic = aws.topic("news")?;
        let name = [
            ("TopicArn", &topic[..]),
            ("AttributeName", "DisplayName"),
            ("AttributeValue", "Die \u{dc}bersicht"),
        ];
        aws.sns("SetTopicAttributes", &name)?;
        aws.subscribe(&topic, "email", "ada@example.org", &[])?;
        let mail = mails.next().context(scheme)?;
        ensure!(mail.login == "|bascule|pass word", "{mail:?}");
        ensure!(mail.secured == (security != Security::None), "{mail:?}");
        ensure!(mail.from == "FROM:<sns@example.org>", "{mail:?}");
        ensure!(mail.to == "TO:<ada@example.org>", "{mail:?}");
        ensure!(
            mail.head
                .contains("Subject: AWS Notification - Subscription Confirmation"),
            "{mail:?}"
        );
        let (status, page) = aws.exchange(&format!("GET {}", link(&mail.text, &server)?), "")?;
        ensure!(status == 200, "{page}");

        aws.publish(&topic, "\u{dc}ber alles\n.\nwas geschah")?;
        let mail = mails.next()?;
        ensure!(
            mail.text
                .starts_with("\u{dc}ber alles\n.\nwas geschah\n\n--\n"),
            "{mail:?}"
        );
        let shown = base64::encode("Die \u{dc}bersicht".as_bytes());
        ensure!(
            mail.head
                .contains(&format!("From: =?utf-8?B?{shown}?= <sns@example.org>")),
            "{mail:?}"
        );
        // The link at its end ends it.
        let (status, _) = aws.exchange(&format!("GET {}", link(&mail.text, &server)?), "")?;
        ensure!(status == 200);
        let xml = aws.sns("ListSubscriptionsByTopic", &[("TopicArn", &topic)])?;
        ensure!(!xml.contains("ada@example.org"), "{xml}");
    }
    Ok(())
}

#[test]
fn mail_with_the_envelope_and_mail_that_nobody_takes() -> anyhow::Result<()> {
    let mails = MailServer::open(Security::None);
    let server = start(&[
        "aws.transitions=instant",
        &format!("sns.email=smtp://localhost:{}", mails.port),
    ]);
    let aws = Query(server.door("aws"));
    let topic = aws.topic("news")?;
    let (dead, dead_arn) = aws.queue("dead")?;
    let redrive = format!("{{\"deadLetterTargetArn\":\"{dead_arn}\"}}");
    aws.subscribe(&topic, "email-json", "ada@example.org", &[])?;
    let question: Json = serde_json::from_str(&mails.next()?.text)?;
    ensure!(question["Type"] == "SubscriptionConfirmation", "{question}");
    let refused = [("RedrivePolicy", &redrive[..])];
    aws.subscribe(&topic, "email-json", "nobody@example.org", &refused)?;
    aws.publish(&topic, "hello")?;
    let (_, pem) = aws.exchange("GET /SimpleNotificationService.pem", "")?;
    let mail = mails.next()?;
    ensure!(mail.login.is_empty(), "{mail:?}");
    let json: Json = serde_json::from_str(&mail.text)?;
    ensure!(json["Message"] == "hello", "{json}");
    verify(&json, &key_of(&pem)?)?;
    let body: Json = serde_json::from_str(&aws.receive(&dead)?)?;
    ensure!(body["Message"] == "hello", "{body}");
    Ok(())
}

#[test]
fn text_messages_go_through_the_gateway_which_says_who_has_opted_out() -> anyhow::Result<()> {
    let gateway = Endpoint::open();
    let server = start(&[
        &format!("sns.sms={}", gateway.url),
        "sns.gateway_authorization=Bearer token",
    ]);
    let aws = Query(server.door("aws"));
    aws.sns(
        "SetSMSAttributes",
        &[
            ("attributes.entry.1.key", "DefaultSenderID"),
            ("attributes.entry.1.value", "Ada"),
        ],
    )?;
    let publish = |text| {
        let members = [("PhoneNumber", "+15550001111"), ("Message", text)];
        aws.sns("Publish", &members)
    };
    let xml = publish("ring")?;
    let post = gateway.next()?;
    ensure!(post.header("authorization") == "Bearer token");
    ensure!(post.header("content-type") == "application/json");
    let json = post.json()?;
    ensure!(
        json["PhoneNumber"] == "+15550001111" && json["Message"] == "ring",
        "{json}"
    );
    ensure!(json["SMSAttributes"]["DefaultSenderID"] == "Ada", "{json}");
    ensure!(json["MessageId"].as_str() == element(&xml, "MessageId").as_deref());

    // A subscription, with a text of its own; taken at the second attempt is taken.
    let topic = aws.topic("news")?;
    aws.subscribe(&topic, "sms", "+15550002222", &[])?;
    aws.sns(
        "Publish",
        &[
            ("TopicArn", &topic),
            ("MessageStructure", "json"),
            ("Message", r#"{"default":"long","sms":"short"}"#),
        ],
    )?;
    let json = gateway.next()?.json()?;
    ensure!(
        json["PhoneNumber"] == "+15550002222" && json["Message"] == "short",
        "{json}"
    );

    gateway.answers(&[410]);
    publish("stop")?;
    gateway.next()?;
    until("the number has opted out", || {
        let asked = [("phoneNumber", "+15550001111")];
        let xml = aws.sns("CheckIfPhoneNumberIsOptedOut", &asked).ok()?;
        (element(&xml, "isOptedOut")? == "true").then_some(())
    });
    aws.sns("OptInPhoneNumber", &[("phoneNumber", "+15550001111")])?;
    publish("again")?;
    ensure!(gateway.next()?.json()?["Message"] == "again");
    Ok(())
}

#[test]
fn push_notifications_go_through_the_gateway_which_says_which_tokens_are_gone() -> anyhow::Result<()>
{
    let gateway = Endpoint::open();
    let server = start(&[&format!("sns.push={}", gateway.url)]);
    let aws = Query(server.door("aws"));
    let xml = aws.sns(
        "CreatePlatformApplication",
        &[
            ("Name", "app"),
            ("Platform", "GCM"),
            ("Attributes.entry.1.key", "PlatformCredential"),
            ("Attributes.entry.1.value", "x"),
        ],
    )?;
    let application = element(&xml, "PlatformApplicationArn").context(xml)?;
    let endpoint = |token: &str| {
        let members = [
            ("PlatformApplicationArn", &application[..]),
            ("Token", token),
        ];
        let xml = aws.sns("CreatePlatformEndpoint", &members)?;
        element(&xml, "EndpointArn").context(xml)
    };
    let (device, other) = (endpoint("one")?, endpoint("two")?);
    let publish = || {
        aws.sns(
            "Publish",
            &[
                ("TargetArn", &device[..]),
                ("MessageStructure", "json"),
                ("Message", r#"{"default":"d","GCM":"{\"data\":1}"}"#),
            ],
        )
    };
    publish()?;
    let json = gateway.next()?.json()?;
    ensure!(
        json["Platform"] == "GCM" && json["Application"] == "app" && json["Token"] == "one",
        "{json}"
    );
    ensure!(json["Payload"] == "{\"data\":1}", "{json}");

    // A device with another token; what another has cannot be taken.
    let token = |token| {
        aws.sns(
            "SetEndpointAttributes",
            &[
                ("EndpointArn", &device[..]),
                ("Attributes.entry.1.key", "Token"),
                ("Attributes.entry.1.value", token),
            ],
        )
    };
    let taken = token("two").expect_err("another endpoint has that token");
    ensure!(format!("{taken:#}").contains("same Token"), "{taken:#}");
    token("three")?;
    ensure!(endpoint("three")? == device && endpoint("two")? == other);
    publish()?;
    ensure!(gateway.next()?.json()?["Token"] == "three");

    gateway.answers(&[410]);
    publish()?;
    gateway.next()?;
    let asked = [("EndpointArn", &device[..])];
    until("the endpoint is disabled", || {
        let xml = aws.sns("GetEndpointAttributes", &asked).ok()?;
        xml.contains("<key>Enabled</key><value>false</value>")
            .then_some(())
    });
    let refused = publish().expect_err("the endpoint is disabled");
    ensure!(
        format!("{refused:#}").contains("EndpointDisabled"),
        "{refused:#}"
    );
    Ok(())
}
