//! Requests for services of Amazon that are not here: whoever sends one is told so, in the form that its client reads.
//!
//! | what it looks like | what is answered |
//! |---|---|
//! | `X-Amz-Target` | JSON (`route.rs`) |
//! | a form, or `Action` in the URL | `<ErrorResponse>` (`route.rs`) |
//! | REST, signed for S3 | `<Error>` |
//! | REST, signed for another service whose words are XML | `<ErrorResponse>` |
//! | REST, signed for any other | JSON, and its code in a header |
//!
//! What is not signed and names no operation might be for anything, and is told that.

use http::{HeaderValue, Method, header, request::Parts};
use session::Reply;

use super::{
    Served,
    answer::{self, Form},
    route::SMITHY_PROTOCOL,
};
use crate::{
    ApiError, Value,
    codec::{json, xml},
    signature::{Signature, TARGET},
};

/// The code of REST clients other than those of S3, which has one for it.
const CODE: &str = "UnknownOperationException";
/// The longest part of a service's name that is said again, in bytes.
const NAME_LEN_MAX: usize = 64;
/// Services of REST in XML, but for S3.
const IN_XML: [&str; 2] = ["route53", "cloudfront"];

/// What people are told.
pub(super) fn words(service: &str, services: &[Served]) -> String {
    let labels: Vec<&str> = services.iter().map(|it| it.label).collect();
    let here = match &labels[..] {
        [all @ .., last] if !all.is_empty() => format!("{} and {last} are", all.join(", ")),
        _ => format!("{} is", labels.concat()),
    };
    let service = &service[..service.floor_char_boundary(NAME_LEN_MAX)];
    format!("The service {service} is not offered here: {here}.")
}

/// The service that a signature is for, if that is not here.
pub(super) fn scope<'a>(signature: Option<&'a Signature>, services: &[Served]) -> Option<&'a str> {
    let scope = signature?.service();
    let is_here = services.iter().any(|it| it.service.name == scope);
    (!is_here).then_some(scope)
}

/// The answer to a request of REST for another service.
pub(super) fn answer(head: &Parts, services: &[Served], request_id: &str) -> Option<Reply> {
    if is_of_ours(head) {
        return None;
    }
    let signature = Signature::read(head).ok()?;
    let service = scope(signature.as_ref(), services)?;
    let words = words(service, services);
    Some(if service.starts_with("s3") {
        s3(request_id, &words)
    } else if IN_XML.contains(&service) {
        let error = ApiError::sender("InvalidAction", words);
        answer::error(Form::Query, None, request_id, &error)
    } else {
        rest(request_id, words)
    })
}

/// Whether it has the form of a request that is served here: its operation is named in a header, in a form, or in the URL's query.
fn is_of_ours(head: &Parts) -> bool {
    if head.headers.contains_key(&TARGET) {
        return true;
    }
    let query = head.uri.query().unwrap_or_default();
    let kind = head.headers.get(header::CONTENT_TYPE);
    let is_form = head.method == Method::POST
        && kind.is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
    is_form
        || head.headers.contains_key(&SMITHY_PROTOCOL)
        || query.split('&').any(|part| part.starts_with("Action="))
}

fn s3(request_id: &str, words: &str) -> Reply {
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml::enclose("Error", &mut body, |out| {
        xml::enclose("Code", out, |out| out.push_str("NotImplemented"));
        xml::enclose("Message", out, |out| xml::escape(words, out));
        xml::enclose("RequestId", out, |out| out.push_str(request_id));
    });
    answer::end(answer::begin(501, "application/xml", request_id), body)
}

fn rest(request_id: &str, words: String) -> Reply {
    let mut body = Vec::new();
    let value = Value::from([("__type", CODE.into()), ("message", words.into())]);
    json::encode(&value, &mut body);
    let mut head = answer::begin(400, "application/json", request_id);
    let code = HeaderValue::from_static(CODE);
    head.headers_mut().insert("x-amzn-errortype", code);
    answer::end(head, body)
}
