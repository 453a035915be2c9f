//! Amazon Kinesis Data Streams: streams over HTTP.
#![forbid(unsafe_code)]

use aws::{ApiError, Operation, Service};

/// The service.
pub static SERVICE: Service = Service {
    name: "kinesis",
    target: Some("Kinesis_20131202"),
    json_version: "1.1",
    cbor: true,
    query: None,
    query_compatible: false,
    error_namespace: None,
    invalid_code: "ValidationException",
    violations,
    missing,
    operations: &[],
    pages: &[],
};

fn violations(all: &[String]) -> ApiError {
    let count = all.len();
    let errors = if count == 1 { "error" } else { "errors" };
    ApiError::sender(
        "ValidationException",
        format!("{count} validation {errors} detected: {}", all.join("; ")),
    )
}

fn missing(_: &Operation, member: &str) -> ApiError {
    ApiError::sender(
        "ValidationException",
        format!("The request must contain the parameter {member}."),
    )
}
