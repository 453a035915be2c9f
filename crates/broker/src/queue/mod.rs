//! What a queue holds and in which order it gives it out.
//!
//! | file | what |
//! |---|---|
//! | `entries.rs` | the stored messages of a durable queue, 24 bytes each, in chunks |
//! | `order.rs` | which entry is next: plain, by priority, by group |
//! | `rare.rs` | what few entries have: expiry, deaths, identifiers |

mod entries;
mod order;
mod rare;

pub(crate) use entries::{Entries, Entry};
pub(crate) use order::{Groups, Order, Receiver};
pub(crate) use rare::{Rare, death_len_bound, flag};
