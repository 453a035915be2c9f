//! The protocols as small state machines, searched exhaustively: any pause, any order of steps. What holds must hold in
//! every state; and with each part of a protocol taken out, a violation must be found, or the model would show nothing.
//!
//! `cargo test -p sim --test models -- --nocapture` prints the shortest story of each violation; `--ignored` searches
//! larger bounds.

#![allow(
    clippy::print_stdout,
    reason = "a test tells the story of what it found"
)]

mod fence;
mod lease;
mod search;
