//! Who gets a message: the indexes that answer it, without any policy.
//!
//! Everything here is plain data in memory. What is bound, retained or subscribed is decided and recorded elsewhere;
//! these structures only find. Results come in an order that follows from the content alone, never from a hash or from
//! the history of inserts and removes, so that live traffic, replay and the standby see the same.
//!
//! | file | what |
//! |---|---|
//! | `trie.rs` | [`trie::Trie`]: patterns of MQTT and AMQP, found by topic |
//! | `retained.rs` | [`RetainedTree`]: topics, found by pattern |
//! | `exchange.rs` | [`Exchange`]: the bindings of one exchange |
//! | `headers.rs` | how a headers binding compares properties |
//! | `children.rs` | the named children of a node, and small ordered sets |
//! | `known.rs` | [`Known`]: routes that were found before |
//! | `positions.rs` | a set of positions in a topic or a pattern |
//!
//! Two properties hold throughout:
//! - *Bounded work.* A walk visits a node at most once, however many `#` a pattern holds.
//! - *Bounded stack.* Recursion goes no deeper than a topic has levels, whatever a pattern looks like.
//!
//! Absent on purpose: permissions, virtual hosts, reserved names, exchange-to-exchange hops and alternate exchanges.

mod children;
mod exchange;
mod headers;
mod known;
mod positions;
mod retained;
#[cfg(test)]
mod samples;
mod trie;

pub(crate) use children::make_set;
pub(crate) use exchange::Exchange;
pub(crate) use known::Known;
pub(crate) use retained::RetainedTree;
pub(crate) use trie::Trie;

/// Whether a leading wildcard must not match `topic`: in the root space, its first level starts with `$`.
/// MQTT says so of its own filters ([MQTT-4.7.2-1]); in the root space it holds for every protocol.
fn hides_from_wildcards(first: Option<&[u8]>) -> bool {
    first.is_some_and(|level| level.starts_with(b"$"))
}
