//! The Bascule broker.
fn main() {}
