//! The common message as a stranger sees it: what goes in comes out, and nothing that comes from a disk or a peer does harm.

mod escape;
mod golden;
mod head;
mod levels;
mod pattern;
mod policy;
mod samples;
mod selector;
mod text;
mod value;
