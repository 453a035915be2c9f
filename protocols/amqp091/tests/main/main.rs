//! The tests of the crate: golden frames, dialogues, properties.
//!
//! | file | what |
//! |---|---|
//! | `golden.rs` | `../frames/*.txt`: bytes to value to the same bytes, and what each bad byte causes |
//! | `clauses.rs` | statements that no dialogue shows |
//! | `dialogues.rs` | `../scripts/*.txt`: whole conversations, each also byte by byte |
//! | `script.rs` | the language of those scripts: reading lines |
//! | `show.rs` | the same language: writing lines |
//! | `hostile.rs` | lengths that lie, tables without a bottom, floods |
//! | `oracle.rs` | our bytes through another codec |
//! | `random.rs` | random frames and answers: never a panic, never half a frame |
//! | `properties.rs` | round trips of random methods, tables and properties; any split gives the same |

mod clauses;
mod dialogues;
mod golden;
mod hostile;
mod oracle;
mod properties;
mod random;
mod script;
mod show;
