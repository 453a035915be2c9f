//! Against the published examples of Signature Version 4 (the key, the date and the requests of AWS's test suite).

use super::*;

const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const AT: &str = "20150830T123600Z";

fn key() -> Key {
    Key {
        id: ID.into(),
        secret: SECRET.into(),
        user: "ada".into(),
        account: "000000000000".into(),
    }
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("a request").into_parts().0
}

fn authorization(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ID}/20150830/us-east-1/service/aws4_request, SignedHeaders={signed}, Signature={signature}"
    )
}

fn now() -> Timestamp {
    time::read_basic(AT).expect("a time")
}

fn verify(head: &Parts, body: &[u8]) -> Result<(), Fault> {
    let signature = Signature::read(head)?.ok_or(Fault::Missing)?;
    signature.check_time(now())?;
    let keys = Keys::new(vec![key()]);
    let key = keys.find(signature.key_id()).ok_or(Fault::UnknownKey)?;
    keys.verify(key, &signature, head, body)?;
    // And once more with the remembered key.
    keys.verify(key, &signature, head, body)
}

#[test]
fn the_published_examples_are_right() {
    let host = ("Host", "example.amazonaws.com");
    let date = ("X-Amz-Date", AT);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &str, &str, Headers<'_>, &str, &str, &str); 12] = [
        (
            "get-vanilla",
            "GET",
            "/",
            &[],
            "host;x-amz-date",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "host;x-amz-date",
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &[],
            "host;x-amz-date",
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-unreserved",
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &[],
            "host;x-amz-date",
            "",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "get-relative",
            "GET",
            "/example/..",
            &[],
            "host;x-amz-date",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-slashes",
            "GET",
            "//example//",
            &[],
            "host;x-amz-date",
            "",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "get-header-key-duplicate",
            "GET",
            "/",
            &[
                ("My-Header1", "value2"),
                ("My-Header1", "value2"),
                ("My-Header1", "value1"),
            ],
            "host;my-header1;x-amz-date",
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "get-header-value-order",
            "GET",
            "/",
            &[
                ("My-Header1", "value4"),
                ("My-Header1", "value1"),
                ("My-Header1", "value3"),
                ("My-Header1", "value2"),
            ],
            "host;my-header1;x-amz-date",
            "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "get-header-value-trim",
            "GET",
            "/",
            &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            "host;my-header1;my-header2;x-amz-date",
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "post-vanilla",
            "POST",
            "/",
            &[],
            "host;x-amz-date",
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            "content-type;host;x-amz-date",
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "post-vanilla-query",
            "POST",
            "/?Param1=value1",
            &[],
            "host;x-amz-date",
            "",
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
    ];
    for (name, method, uri, more, signed, body, signature) in cases {
        let authorization = authorization(signed, signature);
        let mut headers = vec![host, date];
        headers.extend_from_slice(more);
        headers.push(("Authorization", &authorization));
        let head = request(method, uri, &headers);
        assert_eq!(verify(&head, body.as_bytes()), Ok(()), "{name}");
        assert!(
            matches!(verify(&head, b"another"), Err(Fault::Mismatch(_))),
            "{name}"
        );
    }
}

#[test]
fn the_scope_is_read_from_its_end() {
    let read = |scope: &str| Signature::of_parts(scope, "host", "0", AT, None);
    let signature = read("a/b//20150830/us-east-1/service/aws4_request").expect("a scope");
    assert_eq!(
        [
            signature.key_id(),
            signature.date(),
            signature.region(),
            signature.service()
        ],
        ["a/b/", "20150830", "us-east-1", "service"]
    );
    let signature = read("////aws4_request").expect("a scope");
    assert_eq!(signature.key_id(), "");
    for short in [
        "",
        "aws4_request",
        "20150830/us-east-1/service/aws4_request",
    ] {
        assert!(matches!(read(short), Err(Fault::Incomplete(_))), "{short}");
    }
    assert!(matches!(read("a/b/c/d/e"), Err(Fault::Mismatch(_))));
}

#[test]
fn a_header_is_signed_once_whatever_the_order_of_names() {
    let read = |signed: &str| {
        let scope = format!("{ID}/20150830/us-east-1/service/aws4_request");
        Signature::of_parts(&scope, signed, "0", AT, None).map(|_| ())
    };
    for signed in ["host", "host;x-amz-date", "x-amz-date;host", "b;host;a"] {
        assert_eq!(read(signed), Ok(()), "{signed}");
    }
    let hundred = vec!["x-long"; SIGNED_HEADERS_MAX - 1].join(";");
    for (signed, name) in [
        ("host;host", "host"),
        ("Host;host", "host"),
        ("host;x-amz-date;host", "host"),
        ("a;b;B;host", "B"),
        (&format!("host;{hundred}"), "x-long"),
    ] {
        let words = format!("SignedHeaders names a header more than once: '{name}'.");
        assert_eq!(read(signed), Err(Fault::Incomplete(words)), "{signed}");
    }
}
