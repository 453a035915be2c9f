//! Users, passwords, virtual hosts and rights: answers questions, opens no sockets.
//!
//! [`Users`] is built once from its [`Config`] and a random key, and is immutable: changing users means building another.
//! [`Users::verify`] is blocking CPU work (Argon2id) and belongs on a bounded pool outside the core's lock; a user's right
//! password is remembered as a keyed hash, so that a reconnect costs microseconds.
//!
//! Invariants: a wrong password, an unknown user and a user without a password hash cost the same; passwords are compared in
//! constant time; no password reaches a log or a `Debug`.
//!
//! Deliberately absent: permission rules (the question is asked everywhere through [`Rights::permits`]; it says yes), tokens
//! and access keys, randomness and clocks (the key and the salt are arguments).
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | [`Config`]: what the operator says |
//! | `users.rs` | [`Users`], [`Principal`]: who it is, and in which virtual host |
//! | `password.rs` | Argon2id and its PHC strings, [`hash_password`] |
//! | `rights.rs` | [`Rights`]: who may do what |
#![forbid(unsafe_code)]

mod config;
mod password;
mod rights;
mod users;

pub use config::{Anonymous, Config, ConfigError, USERS_MAX, User, VHOST_LEN_MAX, VHOSTS_MAX};
pub use password::{HashError, SALT_LEN, hash_password};
pub use rights::{Action, Rights, What};
pub use users::{KEY_LEN, Principal, Users};
