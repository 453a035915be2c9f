//! Tests of `headers.rs`.
