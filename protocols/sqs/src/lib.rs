//! Amazon SQS: queues over HTTP.
#![forbid(unsafe_code)]
