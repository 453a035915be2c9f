//! The API as an HTTP protocol: who asks, how long a body may be, how an answer is written.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
    request::Parts,
};
use message::{Timestamp, base64};
use session::{
    Asked, Authenticate, Begun, Credentials, Exchange, Flow, Login, Peer, Token, Unserved,
};

use crate::{
    Operator, Reply, Request, answer,
    cluster::{self, Asker},
};

/// The longest body that is taken, in bytes.
const BODY_LEN_MAX: usize = 64 * 1024;

/// See the module.
#[derive(Clone)]
pub struct Door(Arc<Operator>);

impl Door {
    /// One that asks the node about the pair, and the core about everything else.
    #[must_use]
    pub fn new(operator: Operator) -> Self {
        Self(Arc::new(operator))
    }
}

impl Exchange for Door {
    fn begin(&self, head: Parts, peer: &Peer, _: Timestamp) -> Result<Begun, session::Reply> {
        if ![Method::GET, Method::PUT, Method::POST, Method::DELETE].contains(&head.method) {
            let reason = format!("{} is not allowed here", head.method);
            return Err(write(Reply {
                allow: Some("GET, PUT, POST, DELETE"),
                ..Reply::error(405, "method_not_allowed", &reason)
            }));
        }
        let credentials = match head.headers.get(AUTHORIZATION) {
            None => Credentials::Anonymous,
            Some(value) => basic(value).ok_or_else(|| {
                write(Reply::error(
                    401,
                    "not_authorised",
                    "the header Authorization is not Basic",
                ))
            })?,
        };
        Ok(Begun {
            body_len_max: BODY_LEN_MAX,
            request: Box::new(Waiting {
                operator: Arc::clone(&self.0),
                credentials,
                listener: peer.listener,
                request: Request {
                    method: head.method.as_str().to_owned(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    body: Bytes::new(),
                },
            }),
        })
    }
}

/// A request whose body is to come.
struct Waiting {
    operator: Arc<Operator>,
    credentials: Credentials,
    listener: &'static str,
    request: Request,
}

impl session::Request for Waiting {
    fn take(mut self: Box<Self>, body: Bytes, _: Timestamp) -> Asked {
        self.request.body = body;
        let Self {
            operator,
            credentials,
            listener,
            request,
        } = *self;
        let named = !matches!(credentials, Credentials::Anonymous);
        Asked::Login(Box::new(Login {
            authenticate: Authenticate {
                token: Token(0),
                credentials,
                vhost: request.vhost(),
                vhost_fallback: false,
                vhost_in_user: false,
                vhost_follows: false,
                vhost_create: false,
                verified_anywhere: cluster::is_about_pair(&request),
                protocol: "admin",
                client: Bytes::new(),
            },
            then: Box::new(move |known, _| {
                let asker = match &known {
                    Ok(who) if named => Asker::User(&who.user),
                    Ok(_) => Asker::Anybody,
                    Err(refusal) => Asker::Refused(listener, refusal),
                };
                if let Some(reply) = cluster::answer(&operator, &request, &asker) {
                    return Flow::Done(write(reply));
                }
                match &known {
                    Ok(_) => answer(&request).map(write),
                    Err(refusal) => Flow::Done(write(Reply::refused_at(listener, refusal))),
                }
            }),
            refuse: Box::new(|why| write(unserved(&why))),
        }))
    }

    fn refuse(self: Box<Self>, why: Unserved) -> session::Reply {
        write(unserved(&why))
    }
}

/// User and password of `Basic` (RFC 7617).
fn basic(value: &HeaderValue) -> Option<Credentials> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64::decode(rest.trim().as_bytes())?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials::Plain {
        user: user.to_owned(),
        password: Bytes::copy_from_slice(password.as_bytes()),
    })
}

fn unserved(why: &Unserved) -> Reply {
    let (status, error, reason): (_, _, Cow<'_, str>) = match why {
        Unserved::TooLong => (
            413,
            "too_large",
            format!("a body has at most {BODY_LEN_MAX} bytes").into(),
        ),
        Unserved::TooSlow => (408, "timeout", "the body did not come in time".into()),
        Unserved::Busy => (503, "unavailable", "too many requests at a time".into()),
        Unserved::Stopping => (503, "unavailable", "the broker does not serve".into()),
        Unserved::Internal => (500, "internal_error", "a defect of the broker".into()),
    };
    Reply::error(status, error, &reason)
}

fn write(reply: Reply) -> session::Reply {
    let status = StatusCode::from_u16(reply.status).expect("our own statuses are statuses");
    let body = reply
        .body
        .map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        let realm = HeaderValue::from_static("Basic realm=\"bascule\"");
        headers.insert(WWW_AUTHENTICATE, realm);
    }
    if let Some(methods) = reply.allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    session::Reply::Head(Box::new(response))
}
