//! The protocols of the journal, and whole nodes over one store, tried out before anyone else does.
//!
//! A run is one seed: one to three nodes (the node's own code, stepped) over one simulated store, clients, a clock of its own,
//! and faults at rates that the seed chooses. Pauses, deaths and stalls fall between any two file operations. What clients
//! were told and given is checked as it comes; at the end nothing goes wrong any more, and everything that was confirmed must
//! turn up. The same seed gives the same run, wherever and whenever.
//!
//! | where | what |
//! |---|---|
//! | `simulation.rs` | a run: starts, faults, the calm end |
//! | `world.rs` | the clock, the events, whose turn it is |
//! | `store.rs`, `vfs.rs` | the one store; a node's view of it, and what goes wrong there |
//! | `process.rs` | a node's process |
//! | `client.rs`, `client/state.rs`, `client/steps.rs` | clients: of messages; of what outlives connections besides; exactly once |
//! | `history.rs`, `history/` | what must hold, and altered histories that show that it is looked at |
//! | `rates.rs`, `random.rs` | what goes wrong how often, and the themes of some runs; chance |
//! | `caught.txt` | seeds that miss the parts of the protocol that the mutation gate takes out (`cargo xtask sim --mutations`) |
//! | `tests/models/` | the fence protocol and the lease mode as small state machines, every interleaving of them |
#![forbid(unsafe_code)]

mod client;
mod history;
mod process;
mod random;
mod rates;
mod simulation;
mod store;
mod vfs;
mod world;

pub use simulation::{Report, run};
