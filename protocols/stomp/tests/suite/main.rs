//! Dialogues, golden frames and properties of the STOMP crate.

mod crossing;
mod dialogue;
mod frames;
mod hostile;
mod properties;
mod show;
