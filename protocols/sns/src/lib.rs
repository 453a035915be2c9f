//! Amazon SNS: topics over HTTP.
#![forbid(unsafe_code)]
