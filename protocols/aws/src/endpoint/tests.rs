//! Requests as they come, with a service of three operations behind the endpoint.

mod elsewhere;
mod rows;
mod strangers;

use message::VhostId;
use proptest::prelude::*;
use session::{Active, Command, Event, Lane, Secret};

use super::*;
use crate::{Guard, Member, Network, Page, Places, codec::json::decode as read_json, time};

static ECHO_IN: Shape = Shape::Structure(&[
    Member::required("Text", &Shape::text(1, 5)),
    Member::new("Data", &Shape::BLOB),
    Member::new("At", &Shape::Time),
]);
static ECHO_OUT: Shape = Shape::Structure(&[
    Member::new("Text", &Shape::TEXT),
    Member::new("Data", &Shape::BLOB),
    Member::new("At", &Shape::Time),
    Member::new("Who", &Shape::TEXT),
    Member::new("Url", &Shape::TEXT),
]);
static LINK_IN: Shape = Shape::Structure(&[Member::new("Arn", &Shape::TEXT)]);

static OPERATIONS: &[Operation] = &[
    Operation::new("Echo", &ECHO_IN, &ECHO_OUT, echo),
    Operation::new("Fail", &Shape::EMPTY, &Shape::EMPTY, |_| {
        let error = ApiError::sender("Nothing", "<nothing>").in_query("Old.Nothing");
        Flow::Done(Answer::Error(error))
    }),
    Operation::new("Stream", &Shape::EMPTY, &Shape::EMPTY, |_| {
        Flow::part(Answer::Output(Value::empty()), |_| {
            Flow::part(
                Answer::Event("Tick", Value::from([("N", 1.into())])),
                |_| Flow::Done(Answer::Error(ApiError::sender("Gone", "gone"))),
            )
        })
    }),
    Operation::new("Link", &LINK_IN, &ECHO_OUT, echo).without_signature(|value| {
        let mut parts = value.text("Arn")?.split(':').skip(3);
        let region = parts.next()?.to_owned();
        Some((parts.next()?.to_owned(), region))
    }),
];

fn echo(Input { call, value }: Input) -> Flow<Answer> {
    let fence = Command::Fence {
        token: Token(0),
        lane: Lane(0),
    };
    Flow::ask(fence, move |_, _| {
        let member = |name: &str| value.member(name).cloned().unwrap_or(Value::Null);
        let who = format!(
            "{} {} {} {}",
            call.user, call.account, call.region, call.vhost_name
        );
        Flow::Done(Answer::Output(Value::from([
            ("Text", member("Text")),
            ("Data", member("Data")),
            ("At", member("At")),
            ("Who", who.into()),
            ("Url", format!("{}{}", call.base_url, call.path).into()),
        ])))
    })
}

/// Links are of the account that they name, and see for themselves whom they serve.
static GUARD: Guard = Guard {
    owner: |_, _, value| {
        let mut parts = value.text("Arn")?.split(':').skip(3);
        let region = parts.next()?;
        Some((parts.next()?, Some(region)))
    },
    subject: |_, _| None,
    deeds: |_, _| Vec::new(),
    note: |_| "policy".into(),
    arn: |_, _, _| "arn".to_owned(),
    opened: &[],
    seeing: &["Link"],
    keys: &[],
    barred: |_, _, _, _| ApiError::sender("Barred", "barred"),
};

static SERVICE: Service = Service {
    name: "toys",
    target: Some("Toys_1"),
    json_version: "1.0",
    cbor: true,
    query: Some(("2020-01-01", "http://toys.example/doc/2020-01-01/")),
    query_compatible: true,
    error_namespace: Some("com.example.toys"),
    invalid_code: "ValidationException",
    violations: |all| ApiError::sender("ValidationException", all.join("; ")),
    missing: |_, member| ApiError::sender("MissingParameter", member.to_owned()),
    operations: OPERATIONS,
    guard: Some(&GUARD),
    pages: &[Page {
        path: "/certificate",
        content_type: "text/plain",
        body: |_| Bytes::from_static(b"page"),
    }],
};

const NOW: &str = "20200102T030405Z";

fn now() -> Timestamp {
    time::read_basic(NOW).expect("a time")
}

fn settings(any_signature: bool, made: bool) -> Settings {
    let first = Places::default().first().clone();
    let billing = Placed {
        account: "111111111111".into(),
        region: "eu-west-1".into(),
        vhost: "billing".into(),
    };
    Settings {
        any_signature,
        places: Places::new(vec![first, billing], false, made),
        ..Settings::default()
    }
}

fn endpoint(any_signature: bool, made: bool) -> Endpoint {
    endpoint_with(settings(any_signature, made))
}

fn endpoint_with(settings: Settings) -> Endpoint {
    endpoint_of(settings, 1000)
}

fn endpoint_of(settings: Settings, body_len_max: usize) -> Endpoint {
    let served = Served {
        service: &SERVICE,
        label: "Toys",
        body_len_max,
    };
    endpoint_serving(vec![served], settings)
}

fn endpoint_serving(services: Vec<Served>, settings: Settings) -> Endpoint {
    endpoint_of_pair(services, settings, true)
}

/// `serves`: this node is the active one.
fn endpoint_of_pair(services: Vec<Served>, settings: Settings, serves: bool) -> Endpoint {
    let key = |id: &str, account: &str| Key {
        id: id.into(),
        secret: "secret".into(),
        user: "ada".into(),
        account: account.into(),
    };
    Endpoint::new(EndpointConfig {
        services,
        keys: vec![key("ID1", "000000000000"), key("ID2", "111111111111")],
        any_user: "guest".into(),
        settings: Arc::new(settings),
        seed: [7; 32],
        kept: Arc::new(()),
        unreadable: |_, _| {},
        version: "1.2.3",
        serves: Arc::new(move || serves),
    })
}

/// A request, before it is signed.
struct Asking {
    head: http::request::Builder,
    body: Vec<u8>,
}

fn json(operation: &str, body: &str) -> Asking {
    Asking {
        head: http::Request::post("/")
            .header("Host", "broker.example:4566")
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Target", format!("Toys_1.{operation}")),
        body: body.into(),
    }
}

fn form(body: &str) -> Asking {
    Asking {
        head: http::Request::post("/queue/x")
            .header("Host", "broker.example:4566")
            .header(
                "Content-Type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
        body: body.into(),
    }
}

impl Asking {
    fn parts(self) -> (Parts, Bytes) {
        let (head, ()) = self.head.body(()).expect("a request").into_parts();
        (head, self.body.into())
    }

    /// As the owner of a key signs it.
    fn signed(self, id: &str, region: &str, at: &str) -> (Parts, Bytes) {
        let (mut head, body) = self.parts();
        head.headers
            .insert("x-amz-date", at.parse().expect("visible ASCII"));
        let scope = format!("{id}/{}/{region}/toys/aws4_request", &at[..8]);
        let covered = if head.headers.contains_key("x-amz-target") {
            "host;x-amz-date;x-amz-target"
        } else {
            "host;x-amz-date"
        };
        let made = crate::signature::sign(&head, &body, &scope, covered, at, "secret");
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={covered}, Signature={made}"
        );
        head.headers
            .insert("authorization", value.parse().expect("visible ASCII"));
        (head, body)
    }

    fn right(self) -> (Parts, Bytes) {
        self.signed("ID1", "us-east-1", NOW)
    }
}

/// What was answered: status, content type, all parts of the body.
struct Answered {
    status: u16,
    kind: String,
    headers: http::HeaderMap,
    body: Vec<u8>,
    /// As whom it was logged in.
    login: Option<Authenticate>,
}

impl Answered {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// Drives a request to its end; the core says yes to everything.
fn ask(endpoint: &Endpoint, request: (Parts, Bytes)) -> Answered {
    ask_of(endpoint, request, None)
}

/// Drives a request to its end; the core says yes to everything, unless it refuses the login.
fn ask_of(endpoint: &Endpoint, (head, body): (Parts, Bytes), refused: Option<Refusal>) -> Answered {
    let peer = Peer {
        address: "127.0.0.1:1".parse().expect("an address"),
        listener: "aws",
        default_vhost: "/".into(),
    };
    let mut login = None;
    let mut replies = Vec::new();
    match endpoint.begin(head, &peer, now()) {
        Err(reply) => replies.push(reply),
        Ok(begun) if body.len() > begun.body_len_max => {
            replies.push(begun.request.refuse(Unserved::TooLong));
        }
        Ok(begun) => match begun.request.take(body, now()) {
            Asked::Reply(reply) => replies.push(reply),
            Asked::Login(asked) => {
                login = Some(asked.authenticate.clone());
                let logged_in = LoggedIn {
                    vhost: VhostId::ROOT,
                    vhost_name: asked.authenticate.vhost.clone().unwrap_or_default().into(),
                    user: "x".into(),
                    secret: Secret([0; 32]),
                };
                let mut flow = (asked.then)(refused.map_or(Ok(logged_in), Err), now());
                loop {
                    flow = match flow {
                        Flow::Done(reply) => {
                            replies.push(reply);
                            break;
                        }
                        Flow::Part(reply, then) => {
                            replies.push(reply);
                            then(now())
                        }
                        Flow::Until(at, then) => then(at),
                        Flow::Ask(commands, then) => {
                            let reached = |_| Event::Reached { token: Token(0) };
                            then(commands.iter().map(reached).collect(), now())
                        }
                    };
                }
            }
        },
    }
    let mut replies = replies.into_iter();
    let Some(Reply::Head(first)) = replies.next() else {
        panic!("an answer begins with a head");
    };
    let (head, first) = first.into_parts();
    let mut body = first.to_vec();
    for reply in replies {
        match reply {
            Reply::More(more) => body.extend_from_slice(&more),
            Reply::Head(_) | Reply::Pieces(_) => panic!("an answer has one head"),
        }
    }
    let kind = head.headers["content-type"]
        .to_str()
        .expect("ASCII")
        .to_owned();
    Answered {
        status: head.status.as_u16(),
        kind,
        headers: head.headers,
        body,
        login,
    }
}

#[test]
fn an_operation_in_each_form() {
    let endpoint = endpoint(false, false);
    let answer = ask(
        &endpoint,
        json("Echo", r#"{"Text":"a","Data":"AAE=","At":1.5}"#).right(),
    );
    assert_eq!(
        (answer.status, &*answer.kind),
        (200, "application/x-amz-json-1.0")
    );
    assert_eq!(
        answer.text(),
        r#"{"Text":"a","Data":"AAE=","At":1.500,"Who":"ada 000000000000 us-east-1 /","Url":"http://broker.example:4566/"}"#
    );
    assert!(answer.headers.contains_key("x-amzn-requestid"));
    let login = answer.login.expect("it asks the core");
    assert_eq!(login.credentials, vouched(&"ada".into()));
    assert_eq!(
        (login.vhost.as_deref(), login.protocol),
        (Some("/"), "Toys")
    );

    let answer = ask(
        &endpoint,
        form("Action=Echo&Version=2020-01-01&Text=a%3C&At=2020-01-02T03:04:05Z").right(),
    );
    assert_eq!((answer.status, &*answer.kind), (200, "text/xml"));
    let id = answer.headers["x-amzn-requestid"].to_str().expect("ASCII");
    assert_eq!(
        answer.text(),
        format!(
            "<?xml version=\"1.0\"?>\n<EchoResponse xmlns=\"http://toys.example/doc/2020-01-01/\"><EchoResult><Text>a&lt;</Text>\
             <At>2020-01-02T03:04:05.000Z</At><Who>ada 000000000000 us-east-1 /</Who><Url>http://broker.example:4566/queue/x</Url>\
             </EchoResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></EchoResponse>"
        )
    );

    let mut asking = json("Echo", "");
    asking.head = http::Request::post("/")
        .header("Host", "x")
        .header("Content-Type", "application/x-amz-cbor-1.1")
        .header("X-Amz-Target", "Toys_1.Echo");
    let mut body = Vec::new();
    cbor::encode(&Value::from([("Text", "c".into())]), &mut body);
    asking.body = body;
    let answer = ask(&endpoint, asking.right());
    assert_eq!(
        (answer.status, &*answer.kind),
        (200, "application/x-amz-cbor-1.1")
    );
    let value = cbor::decode(&answer.body.into(), &ECHO_OUT).expect("CBOR");
    assert_eq!(value.text("Text"), Some("c"));
}

#[test]
fn behind_a_proxy_that_ends_tls_urls_are_https() {
    let behind = |proxies: &[&str]| {
        let read = |it: &&str| Network::read(it).expect("a network");
        endpoint_with(Settings {
            proxies: proxies.iter().map(read).collect(),
            ..settings(false, false)
        })
    };
    for (proxies, told, scheme) in [
        (&["127.0.0.0/8"][..], "https", "https"),
        (&["10.0.0.1", "127.0.0.1"], "HTTPS", "https"),
        (&["127.0.0.1"], "http", "http"),
        (&["127.0.0.1"], "gopher", "http"),
        // Whoever is no proxy may say what he likes.
        (&[], "https", "http"),
        (&["10.0.0.0/8", "::1"], "https", "http"),
    ] {
        let endpoint = behind(proxies);
        let mut asking = json("Echo", r#"{"Text":"a"}"#);
        asking.head = asking.head.header("X-Forwarded-Proto", told);
        let answer = ask(&endpoint, asking.right());
        let url = format!("\"Url\":\"{scheme}://broker.example:4566/\"");
        assert!(answer.text().contains(&url), "{}", answer.text());
    }
}

#[test]
fn urls_are_those_by_which_each_request_came() {
    let endpoint = endpoint(false, false);
    for host in [
        "a.example",
        "a.example",
        "b.example:1",
        "a.example",
        "a.example:1",
    ] {
        let mut asking = json("Echo", r#"{"Text":"a"}"#);
        let headers = asking.head.headers_mut().expect("a request");
        headers.insert("host", host.parse().expect("visible ASCII"));
        let answer = ask(&endpoint, asking.right());
        let url = format!("\"Url\":\"http://{host}/\"");
        assert!(answer.text().contains(&url), "{}", answer.text());
    }
}

#[test]
fn doors_7_the_key_and_the_region_choose_the_virtual_host() {
    let verified = endpoint(false, false);
    let who = |answer: &Answered| {
        let value = read_json(&answer.body, &ECHO_OUT).expect("JSON");
        value.text("Who").map(str::to_owned)
    };
    let text = r#"{"Text":"a"}"#;
    let answer = ask(
        &verified,
        json("Echo", text).signed("ID2", "eu-west-1", NOW),
    );
    assert_eq!(
        who(&answer).as_deref(),
        Some("ada 111111111111 eu-west-1 billing")
    );
    let answer = ask(
        &verified,
        json("Echo", text).signed("ID2", "us-east-1", NOW),
    );
    assert!(
        answer
            .text()
            .contains("no virtual host is configured for account 111111111111")
    );
    // In tests of programs whoever comes is let in, and twelve digits are an account.
    let accepting = endpoint(true, true);
    let answer = ask(
        &accepting,
        json("Echo", text).signed("222222222222", "us-west-2", "19990101T000000Z"),
    );
    assert_eq!(
        who(&answer).as_deref(),
        Some("guest 222222222222 us-west-2 222222222222/us-west-2")
    );
    assert!(answer.login.expect("a login").vhost_create);
    let answer = ask(
        &accepting,
        json("Echo", text).signed("whoever", "us-east-1", NOW),
    );
    assert_eq!(
        who(&answer).as_deref(),
        Some("guest 000000000000 us-east-1 /")
    );
    let answer = ask(&accepting, json("Echo", text).parts());
    assert_eq!(
        who(&answer).as_deref(),
        Some("guest 000000000000 us-east-1 /")
    );
}

#[test]
fn what_is_of_another_account_is_asked_for_in_its_virtual_host_and_makes_none() {
    let endpoint = endpoint(false, true);
    let link = |account: &str, region: &str| {
        let arn = format!(r#"{{"Arn":"arn:aws:toys:{region}:{account}:x"}}"#);
        json("Link", &arn).signed("ID1", "eu-west-1", NOW)
    };
    let whose = |account: &str, region: &str| {
        let answer = ask(&endpoint, link(account, region));
        let value = read_json(&answer.body, &ECHO_OUT).expect("JSON");
        let login = answer.login.expect("it asks the core");
        assert_eq!(login.credentials, vouched(&"ada".into()));
        let who = value.text("Who").unwrap_or_default().to_owned();
        (who, login.vhost_create)
    };
    let own = "ada 000000000000 eu-west-1 000000000000/eu-west-1";
    let other = "ada 111111111111 eu-west-1 billing";
    assert_eq!(whose("000000000000", "eu-west-1"), (own.to_owned(), true));
    assert_eq!(
        whose("111111111111", "eu-west-1"),
        (other.to_owned(), false)
    );
    // In another region than the one that was asked there is nothing of anybody else.
    assert_eq!(whose("111111111111", "us-east-1"), (own.to_owned(), true));
    assert_eq!(whose("nobody", "eu-west-1"), (own.to_owned(), true));
    let nowhere = Refusal::new(RefusalKind::NotFound, "there is none");
    let answer = ask_of(&endpoint, link("111111111111", "eu-west-1"), Some(nowhere));
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("AccessDeniedException"));
}

#[test]
fn a_node_that_is_not_active_answers_503_so_that_sdks_try_again() {
    let endpoint = endpoint(false, false);
    let active = Active {
        addresses: vec![("aws".into(), "other:4566".into())],
    };
    let refusal = Refusal::not_active(Some(active.into())).naming("aws");
    let echo = json("Echo", r#"{"Text":"a"}"#).right();
    let answer = ask_of(&endpoint, echo, Some(refusal.clone()));
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.text(),
        r#"{"__type":"com.example.toys#ServiceUnavailable","message":"this node is not the active one; other:4566 is"}"#
    );
    let echo = form("Action=Echo&Version=2020-01-01&Text=a").right();
    let answer = ask_of(&endpoint, echo, Some(refusal));
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains(
        "<Type>Receiver</Type><Code>ServiceUnavailable</Code><Message>this node is not the active one; other:4566 is</Message>"
    ));
}

#[test]
fn errors_are_in_the_words_of_the_form() {
    let endpoint = endpoint(false, false);
    let answer = ask(&endpoint, json("Fail", "{}").right());
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.text(),
        r#"{"__type":"com.example.toys#Nothing","message":"<nothing>"}"#
    );
    assert_eq!(answer.headers["x-amzn-query-error"], "Old.Nothing;Sender");
    let answer = ask(&endpoint, form("Action=Fail&Version=2020-01-01").right());
    assert!(
        answer.text().contains(
            "<Type>Sender</Type><Code>Old.Nothing</Code><Message>&lt;nothing&gt;</Message>"
        )
    );
    let cases: [(&str, (Parts, Bytes), u16, &str); 15] = [
        (
            "too long a text",
            json("Echo", r#"{"Text":"abcdef"}"#).right(),
            400,
            "Value 'abcdef' at 'text' failed to satisfy constraint: Member must have length less than or equal to 5",
        ),
        (
            "missing",
            json("Echo", "{}").right(),
            400,
            r#"#MissingParameter","message":"Text"}"#,
        ),
        (
            "no JSON",
            json("Echo", "{").right(),
            400,
            "#SerializationException",
        ),
        (
            "another type",
            json("Echo", r#"{"Text":1}"#).right(),
            400,
            "NUMBER_VALUE can not be converted to a String",
        ),
        (
            "no operation",
            json("Nix", "{}").right(),
            400,
            "#UnknownOperationException",
        ),
        (
            "no action",
            form("Action=Nix&Version=2020-01-01").right(),
            400,
            "<Code>InvalidAction</Code><Message>Could not find operation Nix for version 2020-01-01</Message>",
        ),
        (
            "no such version",
            form("Action=Echo&Version=2019-01-01&Text=a").right(),
            400,
            "<Code>InvalidAction</Code><Message>Could not find operation Echo for version 2019-01-01</Message>",
        ),
        (
            "nothing",
            form("").right(),
            400,
            "<Code>MissingAction</Code>",
        ),
        (
            "no query",
            form("Action=Echo&Text=%zz").right(),
            404,
            "<Code>MalformedQueryString</Code>",
        ),
        (
            "no signature",
            json("Echo", r#"{"Text":"a"}"#).parts(),
            400,
            "#MissingAuthenticationTokenException",
        ),
        (
            "no signature",
            form("Action=Echo&Text=a").parts(),
            403,
            "<Code>MissingAuthenticationToken</Code>",
        ),
        (
            "no such key",
            json("Echo", "{}").signed("ID3", "us-east-1", NOW),
            400,
            "#UnrecognizedClientException",
        ),
        (
            "no such key",
            form("Action=Echo").signed("ID3", "us-east-1", NOW),
            403,
            "<Code>InvalidClientTokenId</Code>",
        ),
        (
            "long ago",
            form("Action=Echo").signed("ID1", "us-east-1", "20200102T024904Z"),
            403,
            "<Code>SignatureDoesNotMatch</Code><Message>Signature expired: 20200102T024904Z is now earlier than 20200102T024905Z (20200102T030405Z - 15 min.)</Message>",
        ),
        (
            "too early",
            json("Echo", "{}").signed("ID1", "us-east-1", "20200102T031906Z"),
            400,
            r#"#InvalidSignatureException","message":"Signature not yet current: 20200102T031906Z is still later than 20200102T031905Z (20200102T030405Z + 15 min.)"}"#,
        ),
    ];
    for (name, asking, status, said) in cases {
        let answer = ask(&endpoint, asking);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(said), "{name}: {}", answer.text());
    }
    let long = " ".repeat(1001);
    let answer = ask(&endpoint, json("Echo", &long).right());
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("#RequestEntityTooLargeException"));
}

#[test]
fn nothing_may_be_changed_once_it_is_signed() {
    let endpoint = endpoint(false, false);
    let good = || json("Echo", r#"{"Text":"a"}"#).right();
    assert_eq!(ask(&endpoint, good()).status, 200);
    let refused = |asking, said: &str| {
        let answer = ask(&endpoint, asking);
        assert!(
            answer.status == 400 && answer.text().contains(said),
            "{}",
            answer.text()
        );
    };
    let mismatch = "#InvalidSignatureException\",\"message\":\"The request signature we calculated";
    let (head, _) = good();
    refused((head, Bytes::from_static(br#"{"Text":"b"}"#)), mismatch);
    let (mut head, body) = good();
    head.headers.insert("host", "other".parse().expect("ASCII"));
    refused((head, body), mismatch);
    let (mut head, body) = good();
    head.uri = "/?x=y".parse().expect("a URI");
    refused((head, body), mismatch);
    let with = |from: &str, to: &str| {
        let (mut head, body) = good();
        let value = head.headers["authorization"].to_str().expect("ASCII");
        let value = value.replace(from, to);
        head.headers
            .insert("authorization", value.parse().expect("ASCII"));
        (head, body)
    };
    refused(with("us-east-1", "eu-west-1"), mismatch);
    refused(with("Signature=", "Signature=0"), mismatch);
    refused(
        with("/toys/", "/sqs/"),
        "Credential should be scoped to correct service: 'toys'.",
    );
    refused(
        with("20200102/", "20200101/"),
        "Date in Credential scope does not match",
    );
    refused(with("aws4_request", "aws3"), "valid terminator");
    refused(
        with("host;x-amz-date", "x-amz-date"),
        "'Host' or ':authority' must be",
    );
    refused(
        with(";x-amz-target", ""),
        "'X-Amz-Target' must be a 'SignedHeader'",
    );
    refused(
        with("SignedHeaders", "Signed"),
        "requires 'SignedHeaders' parameter",
    );
    refused(
        with("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        "Signature Version 4A",
    );
    refused(
        with("AWS4-HMAC-SHA256", "Basic"),
        "Unsupported AWS 'algorithm': 'Basic'",
    );
    refused(
        with("ID1/", ""),
        "Credential must have exactly 5 slash-delimited elements",
    );
}

#[test]
fn a_request_may_say_its_time_in_the_header_date_alone() {
    let endpoint = endpoint(false, false);
    let dated = |date: &str, at: &str| {
        let (mut head, body) = json("Echo", r#"{"Text":"a"}"#).parts();
        head.headers
            .insert("date", date.parse().expect("visible ASCII"));
        let scope = format!("ID1/{}/us-east-1/toys/aws4_request", &at[..8]);
        let covered = "date;host;x-amz-target";
        let made = crate::signature::sign(&head, &body, &scope, covered, at, "secret");
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={covered}, Signature={made}"
        );
        head.headers
            .insert("authorization", value.parse().expect("visible ASCII"));
        ask(&endpoint, (head, body))
    };
    for date in ["Thu, 02 Jan 2020 03:04:05 GMT", NOW] {
        let answer = dated(date, NOW);
        assert_eq!(answer.status, 200, "{date}: {}", answer.text());
    }
    let answer = dated("Thu, 02 Jan 2020 02:04:05 GMT", "20200102T020405Z");
    assert!(
        answer
            .text()
            .contains("Signature expired: 20200102T020405Z")
    );
    let answer = dated("yesterday", NOW);
    assert!(answer.text().contains("Got 'yesterday'"));
    let (mut head, body) = json("Echo", "{}").right();
    head.headers.remove("x-amz-date");
    let answer = ask(&endpoint, (head, body));
    assert!(
        answer
            .text()
            .contains("either a 'X-Amz-Date' or a 'Date' header")
    );
}

#[test]
fn a_url_that_was_signed_beforehand() {
    let endpoint = endpoint(false, false);
    let signed_text = |method: &str, text: &str, expires: u64, at: &str| {
        let scope = format!("ID1/{}/us-east-1/toys/aws4_request", &at[..8]);
        let query = format!(
            "/?Action=Echo&Version=2020-01-01&Text={text}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={at}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host",
            scope.replace('/', "%2F")
        );
        let request = |uri: &str| http::Request::builder().method(method).uri(uri);
        let head = request(&query).header("Host", "x");
        let (head, _) = Asking {
            head,
            body: Vec::new(),
        }
        .parts();
        let made = crate::signature::sign(&head, b"", &scope, "host", at, "secret");
        let head = request(&format!("{query}&X-Amz-Signature={made}")).header("Host", "x");
        Asking {
            head,
            body: Vec::new(),
        }
        .parts()
    };
    let signed = |method, expires, at| signed_text(method, "a%20b", expires, at);
    let url = |expires, at| signed("GET", expires, at);
    let answer = ask(&endpoint, url(60, NOW));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("<Text>a b</Text>"));
    let answer = ask(&endpoint, url(60, "20200102T030304Z"));
    assert!(
        answer.status == 400 && answer.text().contains("<Code>RequestExpired</Code>"),
        "{}",
        answer.text()
    );
    // Older than 15 minutes, and still good.
    assert_eq!(ask(&endpoint, url(3600, "20200102T023405Z")).status, 200);
    let answer = ask(&endpoint, url(0, NOW));
    assert!(answer.text().contains("<Code>IncompleteSignature</Code>"));
    let (mut head, body) = url(60, NOW);
    head.uri = head
        .uri
        .to_string()
        .replace("a%20b", "a%20c")
        .parse()
        .expect("a URI");
    assert!(
        ask(&endpoint, (head, body))
            .text()
            .contains("<Code>SignatureDoesNotMatch</Code>")
    );
    // What is read is what was signed: the same with an escape, and not a space.
    let (head, body) = signed_text("GET", "a+b", 60, NOW);
    let answer = ask(&endpoint, (head.clone(), body.clone()));
    assert!(answer.text().contains("<Text>a+b</Text>"));
    for (other, text) in [("a%2Bb", Some("<Text>a+b</Text>")), ("a%20b", None)] {
        let uri = head.uri.to_string().replace("a+b", other);
        let mut head = head.clone();
        head.uri = uri.parse().expect("a URI");
        let answer = ask(&endpoint, (head, body.clone()));
        let said = text.unwrap_or("<Code>SignatureDoesNotMatch</Code>");
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    // Who was given the URL has no other operation done with it.
    let (mut head, body) = signed("POST", 60, NOW);
    assert_eq!(ask(&endpoint, (head.clone(), body.clone())).status, 200);
    let target = "Toys_1.Fail".parse().expect("visible ASCII");
    head.headers.insert("x-amz-target", target);
    let text = ask(&endpoint, (head, body)).text().to_owned();
    assert!(
        text.contains("'X-Amz-Target' must be a 'SignedHeader'"),
        "{text}"
    );
}

#[test]
fn pages_and_links_need_no_signature() {
    let endpoint = endpoint(false, false);
    let get = |uri: &str| Asking {
        head: http::Request::get(uri).header("Host", "x"),
        body: Vec::new(),
    };
    let answer = ask(&endpoint, get("/certificate").parts());
    assert_eq!((answer.status, answer.text()), (200, "page"));
    let link = "/?Action=Link&Version=2020-01-01&Arn=arn:aws:toys:eu-west-1:111111111111:x";
    let answer = ask(&endpoint, get(link).parts());
    assert!(
        answer.text().contains("111111111111 eu-west-1 billing"),
        "{}",
        answer.text()
    );
    let login = answer.login.expect("a login");
    assert_eq!(login.credentials, Credentials::Broker);
    // Whatever account a link names, it makes nothing.
    let made = link.replace("111111111111", "333333333333");
    let making = endpoint_with(settings(false, true));
    let answer = ask(&making, get(&made).parts());
    let login = answer.login.expect("a login");
    assert_eq!(login.vhost.as_deref(), Some("333333333333/eu-west-1"));
    assert!(!login.vhost_create);
    let answer = ask(
        &endpoint,
        get("/?Action=Echo&Version=2020-01-01&Text=a").parts(),
    );
    assert_eq!(answer.status, 403);
}

#[test]
fn who_waits_for_localstack_is_told_what_runs_without_a_signature() {
    let ask_health = |serves: bool, method: &str, uri: &str| {
        let served = Served {
            service: &SERVICE,
            label: "Toys",
            body_len_max: 1 << 20,
        };
        let endpoint = endpoint_of_pair(vec![served], settings(false, false), serves);
        let asking = Asking {
            head: http::Request::builder()
                .method(method)
                .uri(uri)
                .header("Host", "x"),
            body: Vec::new(),
        };
        let answer = ask(&endpoint, asking.parts());
        (answer.status, answer.text().to_owned())
    };
    let said = |state: &str| {
        format!(r#"{{"services":{{"toys":"{state}"}},"edition":"bascule","version":"1.2.3"}}"#)
    };
    let path = "/_localstack/health";
    assert_eq!(ask_health(true, "GET", path), (200, said("running")));
    assert_eq!(ask_health(true, "HEAD", path).0, 200);
    // Whatever stands behind it: LocalStack was once asked to look again so.
    let reload = "/_localstack/health?reload";
    assert_eq!(ask_health(true, "GET", reload), (200, said("running")));
    assert_eq!(ask_health(false, "GET", path), (503, said("stopped")));
    // Nothing else of it is here.
    assert!(ask_health(true, "POST", path).0 >= 400);
    assert!(ask_health(true, "GET", "/_localstack/init").0 >= 400);
}

#[test]
fn a_plus_in_a_form_is_a_space() {
    let endpoint = endpoint(false, false);
    let answer = ask(&endpoint, form("Action=Echo&Text=a+b").right());
    assert!(answer.text().contains("<Text>a b</Text>"));
}

#[test]
fn an_event_stream_has_a_head_events_and_an_end() {
    let endpoint = endpoint(false, false);
    let answer = ask(&endpoint, json("Stream", "{}").right());
    assert_eq!(
        (answer.status, &*answer.kind),
        (200, "application/vnd.amazon.eventstream")
    );
    let mut rest = &answer.body[..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        messages.push(String::from_utf8_lossy(&rest[12..len - 4]).into_owned());
        rest = &rest[len..];
    }
    for (message, said) in messages.iter().zip([
        ["initial-response", "{}"],
        ["Tick", r#"{"N":1}"#],
        ["exception", r#"{"message":"gone"}"#],
    ]) {
        assert!(
            said.iter().all(|part| message.contains(part)),
            "{message:?}"
        );
    }
    assert_eq!(messages.len(), 3);
}

#[test]
fn keys_can_be_replaced_and_answers_are_counted() {
    let endpoint = endpoint(false, false);
    assert_eq!(
        ask(&endpoint, json("Echo", r#"{"Text":"a"}"#).right()).status,
        200
    );
    endpoint.replace_keys(Vec::new());
    assert_eq!(
        ask(&endpoint, json("Echo", r#"{"Text":"a"}"#).right()).status,
        400
    );
    let counts: Vec<_> = endpoint.counts().collect();
    assert_eq!(
        counts,
        [
            ("Toys", "served", 1),
            ("Toys", "refused", 1),
            ("Toys", "failed", 0)
        ]
    );
}

proptest! {
    #[test]
    fn whatever_comes_is_answered(
        target in prop::option::of("Toys_1\\.(Echo|Fail|Stream|Link|X)|.{0,20}"),
        kind in "application/x-(amz-json-1.0|amz-cbor-1.1|www-form-urlencoded)|.{0,10}",
        authorization in prop::option::of("AWS4-HMAC-SHA256 Credential=[A-Z0-9/_a-z-]{0,40}, ?SignedHeaders=[a-z;-]{0,20}, ?Signature=[0-9a-f]{0,70}|.{0,40}"),
        query in "(X-Amz-[A-Z][a-z]{0,9}=[!-~&&[^#]]{0,9}&?|[!-~&&[^#]]{0,5}){0,6}",
        body in prop::collection::vec(any::<u8>(), 0..200),
        accepts in any::<bool>(),
    ) {
        let mut head = http::Request::post(format!("/?{query}")).header("Content-Type", kind);
        if let Some(target) = target {
            head = head.header("X-Amz-Target", target);
        }
        if let Some(authorization) = authorization {
            head = head.header("Authorization", authorization).header("X-Amz-Date", NOW);
        }
        // What is no request never gets here.
        if let Ok(request) = head.body(()) {
            let (head, ()) = request.into_parts();
            let answer = ask(&endpoint(accepts, accepts), (head, body.into()));
            prop_assert!(matches!(answer.status, 200..=599));
        }
    }
}
