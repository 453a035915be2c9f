//! What a message costs, in numbers that do not depend on how fast the machine is: allocations, bytes copied, durable writes,
//! and, under `valgrind --tool=callgrind`, instructions. `cargo xtask counts` runs it, and compares with `recorded.toml`.
//!
//! The whole road is here, in one process and one thread: sockets, the connections' tasks, the sessions, the node, the journal
//! on real files. The node is stepped, clients send bursts of a fixed size and wait for all that they cause, so each run does
//! the same in the same order. Nothing is counted but what the server does ([`served::Served::turn`]).
//!
//! Not counted: what comes once in many messages (snapshots, another segment, a renewed lease), and what threads cost each
//! other; the counts of a whole server (`cargo xtask counts`) have the latter.
//!
//! ```text
//! counts NAME | list          counts of one workload as `key value` lines; the names of all
//! ```
//!
//! | file | what |
//! |---|---|
//! | `workloads.rs` | what is measured |
//! | `served.rs` | the server in this process |
//! | `client.rs`, `client/` | clients that never wait |
//! | `disk.rs` | the journal's files, counted |
//! | `meter.rs` | allocations and copies, counted |
//! | `idle.rs` | a test: what a connection that says nothing holds |
#![deny(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on stdout")]
#![expect(
    clippy::disallowed_methods,
    reason = "it is composed here, with the tasks of its listeners and the date that requests are signed with"
)]

mod client;
mod disk;
#[cfg(test)]
mod idle;
mod meter;
mod served;
mod workloads;

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("which workload?")?;
    if name == "list" {
        for workload in workloads::ALL {
            println!("{}\t{}", workload.name, workload.title);
        }
        return Ok(());
    }
    let Some(workload) = workloads::ALL.iter().find(|one| one.name == name) else {
        bail!("there is no workload {name}; `list` names them");
    };
    let counted = (workload.run)()?;
    println!("messages {}", counted.messages);
    println!("turns {}", counted.turns);
    println!("allocations {}", counted.allocations);
    println!("allocated_bytes {}", counted.allocated_bytes);
    println!("copied_bytes {}", counted.copied_bytes);
    println!("durable_writes {}", counted.durable_writes);
    println!("durable_bytes {}", counted.durable_bytes);
    Ok(())
}
