//! `GET /_localstack/health`: what programs that were written for LocalStack ask, again and again, before they begin.
//!
//! ```text
//! {"services": {"sqs": "running", "sns": "running", "kinesis": "running"}, "edition": "bascule", "version": "..."}
//! ```
//! As there it takes no signature, and it says nothing that a connection does not show. A node that does not serve answers 503, and its services
//! are `stopped`. Not here: what else LocalStack has under `/_localstack`, and its `POST` and `PUT`.

use http::{Method, Response, StatusCode, header, request::Parts};
use session::Reply;

use super::Inner;
use crate::{Value, codec::json};

const PATH: &str = "/_localstack/health";
/// Where LocalStack says `community` or `pro`.
const EDITION: &str = "bascule";

/// The answer, if that is what was asked.
pub(super) fn answer(head: &Parts, inner: &Inner) -> Option<Reply> {
    if head.uri.path() != PATH || !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    let serves = (inner.serves)();
    let (status, state) = match serves {
        true => (StatusCode::OK, "running"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
    };
    let services = inner.services.iter();
    let services = services.map(|it| (it.service.name.into(), state.into()));
    let said = Value::from([
        ("services", Value::Map(services.collect())),
        ("edition", EDITION.into()),
        ("version", inner.version.into()),
    ]);
    let mut body = Vec::new();
    json::encode(&said, &mut body);
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CACHE_CONTROL, "no-store")
        .body(body.into())
        .expect("our own headers are right");
    Some(Reply::Head(Box::new(response)))
}
