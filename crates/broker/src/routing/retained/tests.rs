//! Tests of `retained.rs`.
