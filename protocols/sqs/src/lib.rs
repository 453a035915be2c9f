//! Amazon SQS: queues over HTTP.
#![forbid(unsafe_code)]

use aws::{ApiError, Operation, Service};

/// The service.
pub static SERVICE: Service = Service {
    name: "sqs",
    target: Some("AmazonSQS"),
    json_version: "1.0",
    cbor: false,
    query: Some(("2012-11-05", "http://queue.amazonaws.com/doc/2012-11-05/")),
    query_compatible: true,
    error_namespace: Some("com.amazonaws.sqs"),
    invalid_code: "InvalidParameterValue",
    violations,
    missing,
    operations: &[],
    pages: &[],
};

fn violations(all: &[String]) -> ApiError {
    let count = all.len();
    let errors = if count == 1 { "error" } else { "errors" };
    ApiError::sender(
        "InvalidParameterValue",
        format!("{count} validation {errors} detected: {}", all.join("; ")),
    )
}

fn missing(_: &Operation, member: &str) -> ApiError {
    ApiError::sender(
        "MissingParameter",
        format!("The request must contain the parameter {member}."),
    )
}
