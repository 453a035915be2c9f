//! What the operator says about users and virtual hosts. Values only; checked by [`Config::check`], used by `Users`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{Rule, RuleError, password::Hash};

/// The most users that a configuration may name.
pub const USERS_MAX: usize = 100_000;
/// The most virtual hosts that a configuration may name.
pub const VHOSTS_MAX: usize = 10_000;
/// The most rules that a configuration may hold, users' own included.
pub const RULES_MAX: usize = 100_000;
/// The most rules that may be for one user, those for everyone included: each is looked at for each message.
pub const USER_RULES_MAX: usize = 1_000;
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
    /// What users may do of whom no allow rule speaks.
    pub default: Otherwise,
    /// The users.
    pub users: Vec<User>,
    /// Permission rules for everyone, or for the users that they name.
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vhosts: vec!["/".to_owned()],
            guest: true,
            anonymous: Anonymous::default(),
            default: Otherwise::default(),
            users: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// What is done about what no rule speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// It is allowed, unless the user has a rule that allows something.
    #[default]
    Allow,
    /// It is refused.
    Deny,
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
    /// May do what is about the broker itself: have the nodes of a pair change places. The user `guest` that needs no configuration may.
    #[serde(default)]
    pub administrator: bool,
    /// What the user may do, beside the rules for everyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("vhosts", &self.vhosts)
            .field("loopback_only", &self.loopback_only)
            .field("administrator", &self.administrator)
            .field("rules", &self.rules)
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
    /// A permission rule that cannot be.
    #[error("rule {number} of {owner} {fault}")]
    Rule {
        /// Counted from 1.
        number: usize,
        /// `user ada`, or `auth.rules`.
        owner: String,
        /// What is wrong with it.
        fault: RuleError,
    },
    /// Too many rules for one user.
    #[error(
        "{count} rules are for user {user:?}, those for everyone included; {USER_RULES_MAX} may be"
    )]
    UserRules {
        /// The user.
        user: String,
        /// How many.
        count: usize,
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
        self.check_rules(&known)
    }

    fn check_rules(&self, vhosts: &BTreeSet<&str>) -> Result<(), ConfigError> {
        let own = self.users.iter().map(|user| user.rules.len());
        let count = self.rules.len() + own.sum::<usize>();
        if count > RULES_MAX {
            return Err(ConfigError::TooMany {
                what: "rule",
                count,
                max: RULES_MAX,
            });
        }
        let users: BTreeSet<&str> = self.user_names().collect();
        for (number, rule) in (1..).zip(&self.rules) {
            check_rule(rule, &users, vhosts).map_err(|fault| ConfigError::Rule {
                number,
                owner: "auth.rules".to_owned(),
                fault,
            })?;
        }
        for user in &self.users {
            for (number, rule) in (1..).zip(&user.rules) {
                let checked = match rule.users {
                    Some(_) => Err(RuleError::Users),
                    None => check_rule(rule, &users, vhosts),
                };
                checked.map_err(|fault| ConfigError::Rule {
                    number,
                    owner: format!("user {}", user.name),
                    fault,
                })?;
            }
        }
        // Of each user once, without walking the common rules for each.
        let everyone = self
            .rules
            .iter()
            .filter(|rule| rule.users.is_none())
            .count();
        let mut counts: BTreeMap<&str, usize> =
            users.iter().map(|user| (*user, everyone)).collect();
        for user in &self.users {
            *counts.entry(&user.name).or_default() += user.rules.len();
        }
        for name in self
            .rules
            .iter()
            .flat_map(|rule| rule.users.iter().flatten())
        {
            *counts.entry(name).or_default() += 1;
        }
        match counts
            .into_iter()
            .find(|(_, count)| *count > USER_RULES_MAX)
        {
            Some((user, count)) => Err(ConfigError::UserRules {
                user: user.to_owned(),
                count,
            }),
            None => Ok(()),
        }
    }

    /// The users that there are: those given, `guest`, and the one without a login.
    fn user_names(&self) -> impl Iterator<Item = &str> {
        let given = self.users.iter().map(|user| &*user.name);
        given
            .chain(self.guest.then_some("guest"))
            .chain([&*self.anonymous.user])
    }

    /// The users whose password stands in the configuration itself: worth a warning.
    pub fn plain_passwords(&self) -> impl Iterator<Item = &str> {
        self.users
            .iter()
            .filter(|user| user.password.is_some())
            .map(|user| user.name.as_str())
    }
}

fn check_rule(
    rule: &Rule,
    users: &BTreeSet<&str>,
    vhosts: &BTreeSet<&str>,
) -> Result<(), RuleError> {
    rule.compile()?;
    for (what, known, named) in [
        ("user", users, &rule.users),
        ("virtual host", vhosts, &rule.vhosts),
    ] {
        let unknown = named
            .iter()
            .flatten()
            .find(|name| !known.contains(&***name));
        if let Some(name) = unknown {
            let name = name.clone();
            return Err(RuleError::Unknown { what, name });
        }
    }
    Ok(())
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
