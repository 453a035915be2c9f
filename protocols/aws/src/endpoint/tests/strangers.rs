//! Who is not known: requests without a signature, and those that a browser sends for a page of others.

use super::*;

#[test]
fn who_has_no_signature_may_not_send_a_long_body() {
    let peer = Peer {
        address: "127.0.0.1:1".parse().expect("an address"),
        listener: "aws",
        default_vhost: "/".into(),
    };
    let long = 1 << 20;
    let begin = |any_signature, asking: (Parts, Bytes)| {
        let endpoint = endpoint_of(settings(any_signature, false), long);
        endpoint.begin(asking.0, &peer, now())
    };
    let cbor = || {
        let mut asking = json("Echo", "").parts();
        let kind = http::HeaderValue::from_static("application/x-amz-cbor-1.1");
        asking.0.headers.insert(header::CONTENT_TYPE, kind);
        asking
    };
    // Without any body.
    for asking in [json("Echo", "").parts(), cbor(), json("Nix", "").parts()] {
        let Err(Reply::Head(answer)) = begin(false, asking) else {
            panic!("nothing of JSON or CBOR may be unsigned");
        };
        assert_eq!(answer.status(), 400);
        let said = String::from_utf8_lossy(answer.body());
        assert!(said.contains("MissingAuthenticationToken"), "{said}");
    }
    let taken = |begun: Result<Begun, Reply>| begun.ok().map(|begun| begun.body_len_max);
    let any = || form("").parts();
    assert_eq!(taken(begin(false, any())), Some(UNSIGNED_BODY_LEN_MAX));
    assert_eq!(taken(begin(false, form("").right())), Some(long));
    assert_eq!(taken(begin(false, json("Echo", "").right())), Some(long));
    // Where no signature is needed, all are alike.
    for asking in [any(), json("Echo", "").parts(), cbor()] {
        assert_eq!(taken(begin(true, asking)), Some(long));
    }
    // What is too long for a stranger might not be for who signs.
    let endpoint = endpoint_of(settings(false, false), long);
    let text = "x".repeat(UNSIGNED_BODY_LEN_MAX);
    let asking = form(&format!("Action=Echo&Text={text}")).parts();
    let answer = ask(&endpoint, asking);
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("MissingAuthenticationToken"));
}

#[test]
fn pages_of_other_hosts_are_not_let_in_where_anybody_is() {
    let ask_as = |host: &str, more: &[(&str, &str)]| {
        let requests = [
            json("Echo", r#"{"Text":"a"}"#).parts(),
            form("Action=Echo&Text=a").right(),
        ];
        let answers = requests.map(|(mut head, body)| {
            head.headers.insert("host", host.parse().expect("a host"));
            for (name, value) in more {
                let name: header::HeaderName = name.parse().expect("a name");
                head.headers.insert(name, value.parse().expect("a value"));
            }
            ask(&endpoint(true, false), (head, body))
        });
        let [first, second] = answers;
        assert_eq!(first.status == 403, second.status == 403, "{more:?}");
        if first.status == 403 {
            assert!(first.text().contains("#AccessDeniedException"));
            assert!(first.text().contains("aws.signatures"));
            assert!(second.text().contains("<Code>AccessDenied</Code>"));
        }
        second.status
    };
    let own = "127.0.0.1:4566";
    for (host, origin, status) in [
        (own, "http://127.0.0.1:4566", 200),
        (own, "http://127.0.0.1:3000", 200),
        (own, "http://localhost:3000", 200),
        (own, "https://app.localhost", 200),
        ("[::1]:4566", "http://[::1]:3000", 200),
        ("192.0.2.1:4566", "http://192.0.2.1", 200),
        (own, "http://evil.example", 403),
        (own, "https://127.0.0.1.evil.example", 403),
        (own, "null", 403),
        (own, "", 403),
        ("localhost:4566", "http://evil.example:4566", 403),
        ("192.0.2.1:4566", "http://192.0.2.2", 403),
        // A name that somebody has pointed here.
        ("evil.example:4566", "http://evil.example:4566", 403),
    ] {
        let answered = ask_as(host, &[("origin", origin)]);
        assert_eq!(answered, status, "{host} {origin}");
    }
    // Where keys are asked for, a signature is enough.
    let (mut head, body) = form("Action=Echo&Text=a").right();
    let origin = header::HeaderValue::from_static("http://evil.example");
    head.headers.insert(header::ORIGIN, origin);
    assert_eq!(ask(&endpoint(false, false), (head, body)).status, 200);
    // Programs do not say.
    assert_eq!(ask_as(own, &[]), 200);
    assert_eq!(ask_as("broker.example:4566", &[]), 200);
    // A plain GET of another's page, and a link that somebody has followed.
    let cross = ("sec-fetch-site", "cross-site");
    assert_eq!(ask_as(own, &[cross]), 403);
    assert_eq!(ask_as(own, &[cross, ("sec-fetch-user", "?1")]), 200);
    assert_eq!(ask_as(own, &[("sec-fetch-site", "same-site")]), 200);
    assert_eq!(ask_as(own, &[cross, ("origin", "http://localhost")]), 200);
}
