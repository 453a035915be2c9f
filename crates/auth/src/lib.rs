//! Users, passwords, virtual hosts and rights: answers questions, opens no sockets.
//!
//! [`Users`] is built once from its [`Config`] and a random key, and is immutable: changing users means building another
//! ([`Users::succeeded_by`]) and looking at who is connected again ([`Users::readmit`]).
//! [`Users::verify`] is blocking CPU work (Argon2id) and belongs on a bounded pool outside the core's lock; a user's right
//! password is remembered as a keyed hash, so that a reconnect costs microseconds.
//!
//! Invariants: a wrong password, an unknown user and a user without a password hash cost the same; passwords are compared in
//! constant time; no password reaches a log or a `Debug`.
//!
//! Deliberately absent: tokens and access keys, randomness and clocks (the key and the salt are arguments), the audit log.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | [`Config`]: what the operator says |
//! | `users.rs` | [`Users`], [`Principal`]: who it is, and in which virtual host |
//! | `password.rs` | Argon2id and its PHC strings, [`hash_password`] |
//! | `rights.rs` | [`Rights`]: who may do what |
//! | `rule.rs` | [`Rule`]: a permission rule as the operator writes it |
//! | `pattern.rs` | what a rule names |
#![forbid(unsafe_code)]

mod config;
mod password;
mod pattern;
mod rights;
mod rule;
mod users;

pub use config::{
    Anonymous, Config, ConfigError, Otherwise, RULES_MAX, USER_RULES_MAX, USERS_MAX, User,
    VHOST_LEN_MAX, VHOSTS_MAX,
};
pub use password::{HashError, SALT_LEN, hash_password};
pub use rights::{Action, Denied, Keys, Rights, What};
pub use rule::{Rule, RuleError};
pub use users::{KEY_LEN, Principal, Users};
