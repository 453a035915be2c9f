//! Amazon SNS: topics over HTTP.
#![forbid(unsafe_code)]

use aws::{ApiError, Operation, Service};

/// The service.
pub static SERVICE: Service = Service {
    name: "sns",
    target: None,
    json_version: "1.1",
    cbor: false,
    query: Some(("2010-03-31", "http://sns.amazonaws.com/doc/2010-03-31/")),
    query_compatible: false,
    error_namespace: None,
    invalid_code: "ValidationError",
    violations,
    missing,
    operations: &[],
    pages: &[],
};

fn violations(all: &[String]) -> ApiError {
    let count = all.len();
    let errors = if count == 1 { "error" } else { "errors" };
    ApiError::sender(
        "ValidationError",
        format!("{count} validation {errors} detected: {}", all.join("; ")),
    )
}

fn missing(_: &Operation, member: &str) -> ApiError {
    ApiError::sender(
        "ValidationError",
        format!("The request must contain the parameter {member}."),
    )
}
