//! Tests of `exchange.rs`.
