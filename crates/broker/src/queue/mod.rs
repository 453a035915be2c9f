//! What a queue holds and in which order it gives it out.
//!
//! | file | what |
//! |---|---|
//! | `entries.rs` | the stored messages of a durable queue, 24 bytes each, in chunks |
//! | `order.rs` | which entry is next: plain, by priority, by group |
//! | `near.rs` | what is out, by number |
//! | `runs.rs` | numbers that follow each other |
//! | `fair.rs` | groups of a plain queue, so that one with very many out does not hold up others |
//! | `rare.rs` | what few entries have: expiry, deaths, identifiers |

mod entries;
mod fair;
mod near;
mod order;
mod rare;
mod runs;

pub(crate) use entries::{Entries, Entry};
pub(crate) use fair::FAIR_GROUP_LEN_MAX;
pub(crate) use near::Near;
pub(crate) use order::{Groups, Order, Receiver};
pub(crate) use rare::{Rare, death_len_bound, flag};
pub(crate) use runs::Runs;
