//! The protocols of the journal, and whole nodes over one store, tried out before anyone else does.
//!
//! | where | what |
//! |---|---|
//! | `tests/models/` | the fence protocol and the lease mode as small state machines, every interleaving of them |
#![forbid(unsafe_code)]
