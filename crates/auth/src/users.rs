//! Who it is, and in which virtual host.
//!
//! ```text
//! verify: remembered? -> yes, microseconds
//!         else, one at a time per gate: remembered by now? -> yes
//!                                       Argon2id -> yes (remember) | no
//! ```
//! The gates keep a reconnect storm of one user from paying for Argon2id more than once. They are chosen by name alone, so
//! that a known name waits no longer than an unknown one.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use argon2::Params;
use blake2::{
    Blake2bMac512,
    digest::{KeyInit as _, Mac as _},
};
use rustc_hash::{FxHashMap, FxHasher};
use session::{Authenticate, Credentials, Peer, Refusal, RefusalKind};

use crate::{
    Anonymous, Config, ConfigError, Rights,
    password::{Hash, costlier, waste},
};

/// The length of the key that remembered passwords are hashed with, in bytes.
pub const KEY_LEN: usize = 32;
/// How many names may be verified side by side at most.
const GATES: usize = 64;

/// A verified user in a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: Arc<str>,
    /// The virtual host.
    pub vhost: Arc<str>,
    /// What the user may do there.
    pub rights: Rights,
}

type Tag = [u8; 64];

struct Entry {
    name: Arc<str>,
    /// `None`: the password stands in the configuration; its tag is there from the start, and nothing else is right.
    hash: Option<Hash>,
    vhosts: Option<Vec<Arc<str>>>,
    loopback_only: bool,
    /// The keyed hash of the right password, once it was seen.
    remembered: OnceLock<Tag>,
}

/// All users and virtual hosts. Immutable; what it remembers goes with it.
pub struct Users {
    key: [u8; KEY_LEN],
    entries: FxHashMap<Arc<str>, Entry>,
    vhosts: Vec<Arc<str>>,
    anonymous: Anonymous,
    anonymous_name: Arc<str>,
    /// What the costliest user's password costs: what unknown users pay.
    cost: Params,
    gates: [Mutex<()>; GATES],
}

impl Users {
    /// Builds them. `key` is random and of this process alone.
    pub fn new(config: &Config, key: [u8; KEY_LEN]) -> Result<Self, ConfigError> {
        config.check()?;
        let vhosts: Vec<Arc<str>> = config.vhosts.iter().map(|v| Arc::from(&**v)).collect();
        let mut users = Self {
            key,
            entries: FxHashMap::default(),
            vhosts,
            anonymous: config.anonymous.clone(),
            anonymous_name: Arc::from(&*config.anonymous.user),
            cost: Params::default(),
            gates: std::array::from_fn(|_| Mutex::new(())),
        };
        if config.guest {
            users.insert(&crate::User {
                name: "guest".to_owned(),
                password: Some("guest".to_owned()),
                loopback_only: true,
                ..crate::User::default()
            })?;
        }
        for user in &config.users {
            users.insert(user)?;
        }
        Ok(users)
    }

    fn insert(&mut self, user: &crate::User) -> Result<(), ConfigError> {
        let name: Arc<str> = Arc::from(&*user.name);
        let hash = match &user.password_hash {
            Some(text) => Some(
                Hash::parse(text).map_err(|fault| ConfigError::PasswordHash {
                    user: user.name.clone(),
                    fault,
                })?,
            ),
            None => None,
        };
        if let Some(hash) = &hash {
            self.cost = costlier(&self.cost, hash.cost()).clone();
        }
        let remembered = OnceLock::new();
        if let Some(password) = &user.password {
            remembered.get_or_init(|| tag(self.mac(&name, password.as_bytes())));
        }
        let entry = Entry {
            name: Arc::clone(&name),
            hash,
            vhosts: user
                .vhosts
                .as_ref()
                .map(|vhosts| vhosts.iter().map(|v| Arc::from(&**v)).collect()),
            loopback_only: user.loopback_only,
            remembered,
        };
        self.entries.insert(name, entry);
        Ok(())
    }

    /// The virtual hosts, in the order of the configuration.
    #[must_use]
    pub fn vhosts(&self) -> &[Arc<str>] {
        &self.vhosts
    }

    /// Who it is. Blocks for as long as Argon2id takes, unless that password was right before.
    pub fn verify(&self, request: &Authenticate, peer: &Peer) -> Result<Principal, Refusal> {
        let loopback = peer.address.ip().to_canonical().is_loopback();
        match &request.credentials {
            Credentials::Anonymous => {
                if !self.admits_anonymous(request.protocol) {
                    return Err(refuse("user and password are required"));
                }
                if self.anonymous.loopback_only && !loopback {
                    return Err(Refusal::new(
                        RefusalKind::AccessDenied,
                        "user and password are required, except from the broker's own machine",
                    ));
                }
                Ok(Principal {
                    user: Arc::clone(&self.anonymous_name),
                    vhost: self.vhost(request, peer)?,
                    rights: Rights::all(),
                })
            }
            Credentials::Plain { user, password } => {
                let entry = self
                    .right_password(user, password)
                    .ok_or_else(|| refuse("user or password is wrong"))?;
                if entry.loopback_only && !loopback {
                    return Err(Refusal::new(
                        RefusalKind::AccessDenied,
                        format!("user '{user}' may connect from the broker's own machine only"),
                    ));
                }
                let vhost = self.vhost(request, peer)?;
                if let Some(open) = &entry.vhosts
                    && !open.contains(&vhost)
                {
                    return Err(Refusal::new(
                        RefusalKind::AccessDenied,
                        format!("access to virtual host '{vhost}' refused for user '{user}'"),
                    ));
                }
                Ok(Principal {
                    user: Arc::clone(&entry.name),
                    vhost,
                    rights: Rights::all(),
                })
            }
        }
    }

    /// `protocol` is a name and a version: `MQTT 5`, `AMQP 0-9-1`.
    fn admits_anonymous(&self, protocol: &str) -> bool {
        let name = protocol.split(' ').next().unwrap_or_default();
        self.anonymous
            .protocols
            .iter()
            .any(|admitted| admitted.eq_ignore_ascii_case(name))
    }

    fn right_password(&self, user: &str, password: &[u8]) -> Option<&Entry> {
        let entry = self.entries.get(user);
        let remembered = |entry: Option<&Entry>| {
            // An unknown user is hashed too, so that its absence does not show.
            let mac = self.mac(user, password);
            let tag = entry.and_then(|entry| entry.remembered.get());
            tag.is_some_and(|tag| mac.verify_slice(tag).is_ok())
        };
        if remembered(entry) {
            return entry;
        }
        let gate = &self.gates[gate(user)];
        let _one_at_a_time = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered(entry) {
            return entry;
        }
        let Some((entry, hash)) = entry.and_then(|entry| Some((entry, entry.hash.as_ref()?)))
        else {
            waste(password, &self.cost);
            return None;
        };
        if !hash.verify(password) {
            return None;
        }
        entry
            .remembered
            .get_or_init(|| tag(self.mac(user, password)));
        Some(entry)
    }

    fn mac(&self, user: &str, password: &[u8]) -> Blake2bMac512 {
        let mut mac = Blake2bMac512::new_from_slice(&self.key).expect("BLAKE2b takes 32-byte keys");
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        mac
    }

    fn vhost(&self, request: &Authenticate, peer: &Peer) -> Result<Arc<str>, Refusal> {
        let find = |name: &str| self.vhosts.iter().find(|v| &***v == name).map(Arc::clone);
        let default = &*peer.default_vhost;
        let asked = request.vhost.as_deref().unwrap_or(default);
        let found = match find(asked) {
            None if request.vhost_fallback => find(default),
            found => found,
        };
        found.ok_or_else(|| {
            let detail = format!("virtual host '{asked}' does not exist");
            Refusal::new(RefusalKind::NotFound, detail)
        })
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("users", &self.entries.len())
            .field("vhosts", &self.vhosts)
            .finish_non_exhaustive()
    }
}

fn tag(mac: Blake2bMac512) -> Tag {
    mac.finalize().into_bytes().into()
}

fn gate(user: &str) -> usize {
    use std::hash::Hasher as _;
    let mut hasher = FxHasher::default();
    hasher.write(user.as_bytes());
    (hasher.finish() >> 32) as usize % GATES
}

const fn refuse(detail: &'static str) -> Refusal {
    Refusal {
        kind: RefusalKind::BadCredentials,
        detail: std::borrow::Cow::Borrowed(detail),
        known: None,
    }
}
