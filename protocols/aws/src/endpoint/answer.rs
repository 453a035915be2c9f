//! Answers and errors as they are sent, in each form.

use std::sync::Arc;

use bytes::Bytes;
use crc_fast::crc32_iso_hdlc;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use session::Reply;

use super::Served;
use crate::{
    Answer, ApiError, Operation, Service, Shape, Value,
    codec::{Pieces, Sink, cbor, event_stream, json, xml},
    signature::TARGET,
};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
static CHECKSUM: HeaderName = HeaderName::from_static("x-amz-crc32");
const JSON_1_0: &str = "application/x-amz-json-1.0";
const JSON_1_1: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";
const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";
/// Error documents of no service.
const NO_SERVICE: &str = "http://webservices.amazon.com/AWSFault/2005-15-09";

/// What requests and answers are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Cbor,
    Query,
}

impl Form {
    /// The form of a request, as far as its head tells.
    pub(super) fn of(head: &Parts, services: &[Served]) -> Self {
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case(CBOR) && services.iter().any(|it| it.service.cbor) {
            Self::Cbor
        } else if head.headers.contains_key(&TARGET)
            || kind
                .to_ascii_lowercase()
                .starts_with("application/x-amz-json")
        {
            Self::Json
        } else {
            Self::Query
        }
    }

    fn encode(self, value: &Value) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len_hint());
        self.encode_into(value, &mut out);
        out
    }

    fn encode_into(self, value: &Value, out: &mut impl Sink) {
        match self {
            Self::Cbor => cbor::encode(value, out),
            Self::Json | Self::Query => json::encode(value, out),
        }
    }

    const fn content_type(self, service: Option<&Service>) -> &'static str {
        match self {
            Self::Cbor => CBOR,
            Self::Query => "text/xml",
            Self::Json => match service {
                Some(service) if matches!(service.json_version.as_bytes(), b"1.0") => JSON_1_0,
                _ => JSON_1_1,
            },
        }
    }
}

/// Headers of most answers.
const HEADERS: usize = 3;

pub(super) fn begin(status: u16, content_type: &'static str, request_id: &str) -> Response<()> {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    let content_type = HeaderValue::from_static(content_type);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(&REQUEST_ID, visible(request_id));
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *head.headers_mut() = headers;
    head
}

fn visible(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("the headers are visible ASCII")
}

pub(super) fn end(head: Response<()>, body: impl Into<Bytes>) -> Reply {
    Reply::Head(Box::new(head.map(|()| body.into())))
}

/// An error.
pub(super) fn error(
    form: Form,
    service: Option<&Service>,
    request_id: &str,
    error: &ApiError,
) -> Reply {
    let content_type = form.content_type(service);
    let mut head = begin(error.status, content_type, request_id);
    if form == Form::Query {
        let body = error_document(service, request_id, error);
        return end(head, body);
    }
    if service.is_some_and(|service| service.query_compatible) {
        let code = error.query_code.as_deref().unwrap_or(&error.code);
        let fault = if error.receiver { "Receiver" } else { "Sender" };
        let told = visible(&format!("{code};{fault}"));
        head.headers_mut().insert("x-amzn-query-error", told);
    }
    let body = form.encode(&error_value(service, error));
    let check = is_checked(service).then(|| crc32_iso_hdlc(&body));
    end(checked(head, check), body)
}

/// A body in pieces. The last one may be the only one.
fn end_pieces(head: Response<()>, mut before: Vec<Bytes>, last: Bytes) -> Reply {
    if before.is_empty() {
        return end(head, last);
    }
    before.push(last);
    Reply::Pieces(Box::new(head.map(|()| before)))
}

/// Whether answers bear the checksum that Kinesis's clients look at.
fn is_checked(service: Option<&Service>) -> bool {
    service.is_some_and(|service| service.cbor)
}

fn checked(mut head: Response<()>, check: Option<u32>) -> Response<()> {
    if let Some(check) = check {
        head.headers_mut().insert(&CHECKSUM, check.into());
    }
    head
}

fn error_value(service: Option<&Service>, error: &ApiError) -> Value {
    let kind = match service.and_then(|service| service.error_namespace) {
        Some(namespace) => format!("{namespace}#{}", error.code),
        None => error.code.to_string(),
    };
    Value::from([
        ("__type", kind.into()),
        ("message", error.message.to_string().into()),
    ])
}

fn error_document(service: Option<&Service>, request_id: &str, error: &ApiError) -> String {
    let namespace = service
        .and_then(|it| it.query)
        .map_or(NO_SERVICE, |it| it.1);
    let code = error.query_code.as_deref().unwrap_or(&error.code);
    let mut out = String::from("<?xml version=\"1.0\"?>\n<ErrorResponse xmlns=\"");
    xml::escape(namespace, &mut out);
    out.push_str("\">");
    xml::enclose("Error", &mut out, |out| {
        let fault = if error.receiver { "Receiver" } else { "Sender" };
        xml::enclose("Type", out, |out| out.push_str(fault));
        xml::enclose("Code", out, |out| xml::escape(code, out));
        xml::enclose("Message", out, |out| xml::escape(&error.message, out));
        out.push_str("<Detail/>");
    });
    xml::enclose("RequestId", &mut out, |out| out.push_str(request_id));
    out.push_str("</ErrorResponse>");
    out
}

fn output_document(
    service: &Service,
    operation: &Operation,
    request_id: &str,
    value: &Value,
) -> String {
    let name = operation.name;
    let namespace = service.query.map_or(NO_SERVICE, |it| it.1);
    let mut out = format!("<?xml version=\"1.0\"?>\n<{name}Response xmlns=\"{namespace}\">");
    if let Shape::Structure(members @ [_, ..]) = operation.output {
        xml::enclose(&format!("{name}Result"), &mut out, |out| {
            xml::encode_members(value, members, out);
        });
    }
    xml::enclose("ResponseMetadata", &mut out, |out| {
        xml::enclose("RequestId", out, |out| out.push_str(request_id));
    });
    out.push_str(&format!("</{name}Response>"));
    out
}

/// Writes the answers of one request.
pub(super) struct Writer {
    form: Form,
    service: &'static Service,
    operation: &'static Operation,
    request_id: Arc<str>,
    /// An event stream has begun.
    streaming: bool,
}

impl Writer {
    pub(super) const fn new(
        form: Form,
        service: &'static Service,
        operation: &'static Operation,
        request_id: Arc<str>,
    ) -> Self {
        Self {
            form,
            service,
            operation,
            request_id,
            streaming: false,
        }
    }

    /// The last answer, or the only one.
    pub(super) fn last(&mut self, answer: Answer) -> Reply {
        if self.streaming {
            return self.part(answer);
        }
        match answer {
            Answer::Error(error) => {
                self::error(self.form, Some(self.service), &self.request_id, &error)
            }
            Answer::Output(value) => self.output(&value),
            Answer::Event(..) | Answer::End => self.output(&Value::empty()),
        }
    }

    fn output(&self, value: &Value) -> Reply {
        let content_type = self.form.content_type(Some(self.service));
        let head = begin(200, content_type, &self.request_id);
        if self.form == Form::Query {
            let body = output_document(self.service, self.operation, &self.request_id, value);
            return end(head, body);
        }
        // An operation without output answers with nothing at all.
        let nothing = matches!(self.operation.output, Shape::Structure([]))
            && self.form == Form::Json
            && !self.service.query_compatible;
        let mut body = Pieces::with_hint(if nothing { 0 } else { value.len_hint() })
            .checked(is_checked(Some(self.service)));
        if !nothing {
            self.form.encode_into(value, &mut body);
        }
        let (before, last, check) = body.take();
        end_pieces(checked(head, check), before, last)
    }

    /// A part of an event stream.
    pub(super) fn part(&mut self, answer: Answer) -> Reply {
        let content_type = self.form.content_type(Some(self.service));
        let event = |kind: &str, value: &Value| {
            let headers = [
                (":message-type", "event"),
                (":event-type", kind),
                (":content-type", content_type),
            ];
            event_stream::encode(&headers, &self.form.encode(value))
        };
        let message = match &answer {
            Answer::Output(value) => event("initial-response", value),
            Answer::Event(kind, value) => event(kind, value),
            Answer::Error(error) => {
                let headers = [
                    (":message-type", "exception"),
                    (":exception-type", &*error.code),
                    (":content-type", content_type),
                ];
                let value = Value::from([("message", error.message.to_string().into())]);
                event_stream::encode(&headers, &self.form.encode(&value))
            }
            Answer::End => Vec::new(),
        };
        if std::mem::replace(&mut self.streaming, true) {
            return Reply::More(message.into());
        }
        end(begin(200, EVENT_STREAM, &self.request_id), message)
    }
}
