//! What the operator says about users and virtual hosts. Values only; checked by [`Config::check`], used by `Users`.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::password::Hash;

/// The most users that a configuration may name.
pub const USERS_MAX: usize = 100_000;
/// The most virtual hosts that a configuration may name.
pub const VHOSTS_MAX: usize = 10_000;
/// The longest name of a user or virtual host, in bytes (an AMQP 0-9-1 short string).
pub const VHOST_LEN_MAX: usize = 255;

/// Users, virtual hosts, and who may come without a password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The virtual hosts that exist.
    pub vhosts: Vec<String>,
    /// Whether there is a user `guest` with password `guest`, from loopback only. A user `guest` of one's own replaces it.
    pub guest: bool,
    /// Who may come without user and password.
    pub anonymous: Anonymous,
    /// The users.
    pub users: Vec<User>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vhosts: vec!["/".to_owned()],
            guest: true,
            anonymous: Anonymous::default(),
            users: Vec::new(),
        }
    }
}

/// Who may come without user and password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anonymous {
    /// The protocols, in lower case and without version (`mqtt`), on their own port and over WebSocket alike. Empty: nobody.
    pub protocols: Vec<String>,
    /// Only from the machine itself.
    pub loopback_only: bool,
    /// The user that such a connection counts as.
    pub user: String,
}

impl Default for Anonymous {
    fn default() -> Self {
        Self {
            protocols: vec!["mqtt".to_owned()],
            loopback_only: true,
            user: "anonymous".to_owned(),
        }
    }
}

/// One user. Exactly one of `password_hash` and `password` is given.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: String,
    /// The Argon2id PHC string of the password, as `bascule user hash` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// The password itself: for trying things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The virtual hosts open to the user; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhosts: Option<Vec<String>>,
    /// Only from the machine itself.
    #[serde(default)]
    pub loopback_only: bool,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("vhosts", &self.vhosts)
            .field("loopback_only", &self.loopback_only)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A user or virtual host whose name is empty or too long, or holds a control character.
    #[error("{what} name {name:?} must have 1 to {VHOST_LEN_MAX} bytes and no control characters")]
    Name {
        /// `user` or `virtual host`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two of one name.
    #[error("{what} {name:?} is given twice")]
    Twice {
        /// `user` or `virtual host`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Too many.
    #[error("{count} {what}s are more than the {max} allowed")]
    TooMany {
        /// `user` or `virtual host`.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// No virtual host at all.
    #[error("at least one virtual host is needed")]
    NoVhost,
    /// A user limited to no virtual host, or to one that does not exist.
    #[error("user {user:?} is limited to virtual hosts {vhosts:?}, which do not all exist")]
    UserVhosts {
        /// The user.
        user: String,
        /// What was given.
        vhosts: Vec<String>,
    },
    /// Neither or both of `password_hash` and `password`.
    #[error("user {user:?} needs either password_hash or password")]
    Password {
        /// The user.
        user: String,
    },
    /// A hash that is not one of ours.
    #[error("password_hash of user {user:?} {fault}")]
    PasswordHash {
        /// The user.
        user: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Config {
    /// Whether everything in it is possible.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_names("virtual host", VHOSTS_MAX, &self.vhosts)?;
        check_names("user", USERS_MAX, self.users.iter().map(|user| &user.name))?;
        check_name("user", &self.anonymous.user)?;
        if self.vhosts.is_empty() {
            return Err(ConfigError::NoVhost);
        }
        let known: BTreeSet<&str> = self.vhosts.iter().map(String::as_str).collect();
        for user in &self.users {
            if let Some(vhosts) = &user.vhosts
                && (vhosts.is_empty() || vhosts.iter().any(|v| !known.contains(v.as_str())))
            {
                return Err(ConfigError::UserVhosts {
                    user: user.name.clone(),
                    vhosts: vhosts.clone(),
                });
            }
            match (&user.password_hash, &user.password) {
                (Some(hash), None) => {
                    Hash::parse(hash).map_err(|fault| ConfigError::PasswordHash {
                        user: user.name.clone(),
                        fault,
                    })?;
                }
                (None, Some(_)) => {}
                (None, None) | (Some(_), Some(_)) => {
                    return Err(ConfigError::Password {
                        user: user.name.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The users whose password stands in the configuration itself: worth a warning.
    pub fn plain_passwords(&self) -> impl Iterator<Item = &str> {
        self.users
            .iter()
            .filter(|user| user.password.is_some())
            .map(|user| user.name.as_str())
    }
}

fn check_names<'a>(
    what: &'static str,
    max: usize,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            let name = name.clone();
            return Err(ConfigError::Twice { what, name });
        }
    }
    if seen.len() > max {
        let count = seen.len();
        return Err(ConfigError::TooMany { what, count, max });
    }
    Ok(())
}

fn check_name(what: &'static str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.len() > VHOST_LEN_MAX || name.chars().any(char::is_control) {
        let name = name.to_owned();
        return Err(ConfigError::Name { what, name });
    }
    Ok(())
}
