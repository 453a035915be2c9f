//! Which service and operation a request is for.
//!
//! | what there is | form | service | operation |
//! |---|---|---|---|
//! | `X-Amz-Target: PREFIX.Operation` | JSON, or CBOR by the content type | by the prefix | behind the prefix |
//! | else | query, in the URL or in a form | by the scope of the signature, else by `Version`, else by `Action` | `Action` |

use http::{HeaderName, Method, header, request::Parts};

use super::{Served, answer::Form, elsewhere};
use crate::{
    ApiError, Operation,
    codec::query,
    signature::{Signature, TARGET},
};

/// Newer clients say in it what they speak.
pub(super) static SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");

/// How far it is known.
pub(super) struct Route {
    pub(super) form: Form,
    /// The place of the service among those that are served.
    pub(super) served: Option<usize>,
    /// The operation, if the head names one that there is.
    found: Option<&'static Operation>,
    /// The name of the operation, where it is still to be found.
    operation: Option<String>,
    /// `Version` in the query protocol.
    version: Option<String>,
}

impl Route {
    /// What the head says, whose form is known.
    pub(super) fn of_head(head: &Parts, form: Form, services: &[Served]) -> Result<Self, ApiError> {
        if head.headers.contains_key(&SMITHY_PROTOCOL) {
            return Err(ApiError::sender(
                "UnsupportedProtocolException",
                "The protocol of the header Smithy-Protocol is not spoken here: use AWS JSON, CBOR 1.1 or the query protocol.",
            )
            .with_status(415));
        }
        let Some(target) = head.headers.get(&TARGET) else {
            return Self::of_query(head);
        };
        if head.method != Method::POST {
            return Err(method_not_allowed());
        }
        let target = target.to_str().unwrap_or_default();
        let (prefix, operation) = target.split_once('.').unwrap_or((target, ""));
        let found = services
            .iter()
            .position(|served| served.service.target == Some(prefix));
        let at = found.ok_or_else(|| {
            let signature = Signature::read(head).ok().flatten();
            let service = elsewhere::scope(signature.as_ref(), services).unwrap_or(prefix);
            unknown_target(elsewhere::words(service, services))
        })?;
        let mut known = services[at].service.operations.iter();
        let found = known.find(|it| it.name == operation);
        Ok(Self {
            form,
            served: Some(at),
            found,
            operation: found.is_none().then(|| operation.to_owned()),
            version: None,
        })
    }

    fn of_query(head: &Parts) -> Result<Self, ApiError> {
        let route = Self {
            form: Form::Query,
            served: None,
            found: None,
            operation: None,
            version: None,
        };
        match head.method {
            Method::GET | Method::HEAD => Ok(route),
            Method::POST => {
                let kind = head.headers.get(header::CONTENT_TYPE);
                let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                let kind = kind.split(';').next().unwrap_or_default().trim();
                if kind.is_empty() || kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
                {
                    return Ok(route);
                }
                Err(ApiError::sender(
                    "UnknownOperationException",
                    "The request names no operation: there is no X-Amz-Target, and its body is no form.",
                )
                .in_query("MissingAction"))
            }
            _ => Err(method_not_allowed()),
        }
    }

    /// The rest, from the parameters of a query.
    pub(super) fn complete(
        &mut self,
        parameters: &query::Form<'_>,
        signature: Option<&Signature>,
        services: &[Served],
    ) -> Result<(), ApiError> {
        let speaks = |served: &&Served| served.service.query.is_some();
        let place = |found: Option<&Served>| {
            let name = found?.service.name;
            services.iter().position(|it| it.service.name == name)
        };
        self.operation = parameters.get("Action").map(str::to_owned);
        self.version = parameters.get("Version").map(str::to_owned);
        let scoped = signature.map(Signature::service);
        let by_scope = services
            .iter()
            .filter(speaks)
            .find(|it| Some(it.service.name) == scoped);
        let by_version = || {
            let of = |it: &&Served| it.service.query.map(|(version, _)| version);
            services
                .iter()
                .find(|it| of(it).is_some() && of(it) == self.version.as_deref())
        };
        // Other services have actions of the same names.
        let by_action = || {
            let name = self
                .operation
                .as_deref()
                .filter(|_| self.version.is_none())?;
            let of = |it: &&Served| it.service.operations.iter().any(|it| it.name == name);
            services.iter().filter(speaks).find(of)
        };
        self.served = place(by_scope.or_else(by_version).or_else(by_action));
        if let (None, Some(service)) = (self.served, elsewhere::scope(signature, services)) {
            let words = elsewhere::words(service, services);
            return Err(ApiError::sender("InvalidAction", words));
        }
        if self.operation.is_none() {
            return Err(ApiError::sender(
                "MissingAction",
                "The request must contain the parameter Action.",
            ));
        }
        Ok(())
    }

    /// The operation.
    pub(super) fn operation(
        &self,
        services: &[Served],
    ) -> Result<(usize, &'static Operation), ApiError> {
        if let (Some(at), Some(found)) = (self.served, self.found) {
            return Ok((at, found));
        }
        let name = self.operation.as_deref().unwrap_or_default();
        let found = self.served.and_then(|at| {
            let service = services[at].service;
            let known = |version: &str| service.query.is_some_and(|(it, _)| it == version);
            // Who names no version means the one that there is.
            if self.version.as_deref().is_some_and(|it| !known(it)) {
                return None;
            }
            let found = service.operations.iter().find(|it| it.name == name)?;
            Some((at, found))
        });
        found.ok_or_else(|| match self.form {
            Form::Query => {
                let name = &name[..name.floor_char_boundary(128)];
                let words = match &self.version {
                    Some(version) => {
                        format!("Could not find operation {name} for version {version}")
                    }
                    None => format!("The action {name} is not valid for this endpoint."),
                };
                ApiError::sender("InvalidAction", words)
            }
            Form::Json | Form::Cbor => {
                let label = self.served.map_or("It", |at| services[at].label);
                let words = match &name[..name.floor_char_boundary(128)] {
                    "" => format!("The header X-Amz-Target names no operation of {label}."),
                    name => format!("{label} has no operation {name}."),
                };
                unknown_target(words)
            }
        })
    }
}

fn unknown_target(words: String) -> ApiError {
    ApiError::sender("UnknownOperationException", words).in_query("InvalidAction")
}

fn method_not_allowed() -> ApiError {
    ApiError::sender(
        "UnsupportedOperation",
        "Requests are sent with POST, and queries with GET too.",
    )
    .with_status(405)
}
