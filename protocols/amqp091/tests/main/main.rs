//! The tests of the crate: golden frames, dialogues, properties.
//!
//! | file | what |
//! |---|---|
//! | `golden.rs` | `../frames/*.txt`: bytes to value to the same bytes, and what each bad byte causes |
//! | `dialogues.rs` | `../scripts/*.txt`: whole conversations, each also byte by byte |
//! | `script.rs` | the language of those scripts: reading lines |
//! | `show.rs` | the same language: writing lines |
//! | `properties.rs` | round trips of random methods, tables and properties; any split gives the same |

mod dialogues;
mod golden;
mod properties;
mod script;
mod show;
