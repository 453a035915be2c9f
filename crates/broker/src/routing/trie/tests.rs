//! Tests of `trie.rs`.
