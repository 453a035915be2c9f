//! What each protocol makes of each other's messages and names: the protocols' own sessions, bytes in and bytes out, with
//! nothing between them but the common message, which goes through the form that the journal stores.
//!
//! | file | what |
//! |---|---|
//! | `peer.rs` | a session, logged in, with a core that says yes |
//! | `head.rs` | what stands around a body, as a client of each protocol says and sees it |
//! | `samples.rs` | each field and type that each protocol has |
//! | `page.rs` | the tables of `protocols/CONVERSIONS.md`, and whether they are up to date |
//! | `whole.rs` | a message with everything set, from each protocol to each other, against `whole.txt` |
//! | `names.rs` | names of topics and queues, from each protocol to each other and back |
//! | `rules.rs` | one test for each rule of conversion |
//! | `defects.rs` | one test for each defect that other brokers have had |
//!
//! `cargo xtask conversions` writes the page and the golden text anew; the tests fail while they differ.
#![forbid(unsafe_code)]

mod defects;
mod head;
mod names;
mod page;
mod peer;
mod rules;
mod samples;
mod whole;
