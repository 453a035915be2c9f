//! Requests for services that are not here.

use super::*;

/// What a client of a service is answered by an endpoint of two.
fn told(service: &str, request: http::request::Builder, body: &str) -> Answered {
    let services = ["Toys", "Dolls"].map(|label| Served {
        service: &SERVICE,
        label,
        body_len_max: 1000,
    });
    let endpoint = endpoint_serving(services.into(), settings(false, false));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=ID1/20200102/us-east-1/{service}/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
    );
    let request = request
        .header("Host", "broker.example:4566")
        .header("X-Amz-Date", NOW)
        .header("Authorization", authorization);
    let (head, ()) = request.body(()).expect("a request").into_parts();
    ask(&endpoint, (head, body.to_owned().into()))
}

fn is_words(text: &str, service: &str) {
    let words = format!("The service {service} is not offered here: Toys and Dolls are.");
    assert!(text.contains(&words), "{text}");
}

#[test]
fn a_client_of_another_service_is_told_so_in_the_form_that_it_reads() {
    let post = || http::Request::post("/");
    let json = post()
        .header("Content-Type", "application/x-amz-json-1.0")
        .header("X-Amz-Target", "DynamoDB_20120810.ListTables");
    let answer = told("dynamodb", json, "{}");
    assert_eq!(
        (answer.status, &*answer.kind),
        (400, "application/x-amz-json-1.1")
    );
    let begin = r#"{"__type":"UnknownOperationException","message":"#;
    assert!(answer.text().starts_with(begin), "{}", answer.text());
    is_words(answer.text(), "dynamodb");

    let form = post().header("Content-Type", "application/x-www-form-urlencoded");
    let answer = told("sts", form, "Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!((answer.status, &*answer.kind), (400, "text/xml"));
    assert!(answer.text().contains("<Code>InvalidAction</Code>"));
    is_words(answer.text(), "sts");
    // An action of the name of one of ours.
    let form = post().header("Content-Type", "application/x-www-form-urlencoded");
    let answer = told("iam", form, "Action=Echo&Version=2010-05-08&Text=a");
    is_words(answer.text(), "iam");

    for request in [
        http::Request::get("/"),
        http::Request::put("/bucket/key"),
        http::Request::delete("/bucket/key?versionId=1"),
        http::Request::head("/bucket"),
        http::Request::post("/bucket/key?uploads"),
    ] {
        let answer = told("s3", request, "");
        assert_eq!((answer.status, &*answer.kind), (501, "application/xml"));
        assert!(
            answer
                .text()
                .contains("<Error><Code>NotImplemented</Code><Message>"),
            "{}",
            answer.text()
        );
        is_words(answer.text(), "s3");
    }

    let answer = told("lambda", http::Request::get("/2015-03-31/functions"), "");
    assert_eq!((answer.status, &*answer.kind), (400, "application/json"));
    assert_eq!(
        answer.headers["x-amzn-errortype"],
        "UnknownOperationException"
    );
    is_words(answer.text(), "lambda");

    let answer = told("route53", http::Request::get("/2013-04-01/hostedzone"), "");
    assert!(answer.text().contains("<Code>InvalidAction</Code>"));
    is_words(answer.text(), "route53");
}

#[test]
fn who_names_no_service_is_told_what_is_wrong_with_the_request() {
    let endpoint = endpoint(false, false);
    let (head, ()) = http::Request::get("/")
        .body(())
        .expect("a request")
        .into_parts();
    let answer = ask(&endpoint, (head, Bytes::new()));
    assert!(answer.text().contains("<Code>MissingAction</Code>"));
    // What is signed for a service that is here is one of its requests.
    let answer = ask(&endpoint, form("Nix=1").right());
    assert!(answer.text().contains("<Code>MissingAction</Code>"));
    let (mut head, body) = json("", "{}").parts();
    for target in ["Toys_1", "Toys_1."] {
        head.headers
            .insert("x-amz-target", target.parse().expect("visible ASCII"));
        let open = endpoint_with(settings(true, false));
        let answer = ask(&open, (head.clone(), body.clone()));
        assert!(
            answer.text().contains("names no operation of Toys"),
            "{}",
            answer.text()
        );
    }
    let answer = ask(&endpoint, json("Nix", "{}").right());
    assert!(
        answer.text().contains("Toys has no operation Nix"),
        "{}",
        answer.text()
    );
}
