//! Amazon Kinesis Data Streams: streams over HTTP.
#![forbid(unsafe_code)]
