//! Who it is, and in which virtual host.
//!
//! ```text
//! verify: remembered? -> yes, microseconds
//!         else, one at a time per gate: remembered by now? -> yes
//!                                       Argon2id -> yes (remember) | no
//! ```
//! The gates keep a reconnect storm of one user from paying for Argon2id more than once. They are chosen by name alone, so
//! that a known name waits no longer than an unknown one.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use argon2::Params;
use blake2::{
    Blake2bMac512,
    digest::{KeyInit as _, Mac as _},
};
use rustc_hash::{FxHashMap, FxHasher};
use session::{Authenticate, Credentials, Peer, Refusal, RefusalKind};

use crate::{
    Action, Anonymous, Config, ConfigError, Otherwise, Rights, Rule, VHOST_LEN_MAX, VHOSTS_MAX,
    password::{Hash, costlier, waste},
    rights::Rules,
    rule::Compiled,
};

/// The length of the key that remembered passwords are hashed with, in bytes.
pub const KEY_LEN: usize = 32;
/// The name of the broker's own parts, as they are shown.
const BROKER: &str = "bascule";
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
    /// The user gave no password: see [`Users::readmit`].
    pub anonymous: bool,
    /// A part of the broker itself, for which no rule holds.
    pub broker: bool,
}

type Tag = [u8; 64];

struct Entry {
    name: Arc<str>,
    /// `None`: the password stands in the configuration; its tag is there from the start, and nothing else is right.
    hash: Option<Hash>,
    /// What `hash` was read from.
    hash_text: Option<String>,
    vhosts: Option<Vec<Arc<str>>>,
    loopback_only: bool,
    administrator: bool,
    /// The keyed hash of the right password, once it was seen.
    remembered: OnceLock<Tag>,
    rules: Vec<OwnRule>,
}

/// A rule, for whom, and what it says.
struct OwnRule {
    users: Option<Vec<String>>,
    vhosts: Option<Vec<String>>,
    allow: Vec<Action>,
    deny: Vec<Action>,
    compiled: Arc<Compiled>,
}

impl OwnRule {
    fn is_for(&self, user: &str, vhost: &str) -> bool {
        let names = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|one| one == name))
        };
        names(&self.users, user) && names(&self.vhosts, vhost)
    }
}

/// The rules of each user in each virtual host, made at the first login there.
type Compilations = FxHashMap<(Arc<str>, Arc<str>), Arc<Rules>>;

/// All users and virtual hosts. Immutable; what it remembers goes with it.
pub struct Users {
    key: [u8; KEY_LEN],
    entries: FxHashMap<Arc<str>, Entry>,
    vhosts: Vec<Arc<str>>,
    /// Those that were made on first use ([`Authenticate::vhost_create`]).
    made: Mutex<BTreeSet<Arc<str>>>,
    anonymous: Anonymous,
    anonymous_name: Arc<str>,
    /// For everyone, or those that they name.
    rules: Vec<OwnRule>,
    default: Otherwise,
    compilations: Mutex<Compilations>,
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
            made: Mutex::default(),
            anonymous: config.anonymous.clone(),
            anonymous_name: Arc::from(&*config.anonymous.user),
            rules: own_rules(&config.rules, "auth.rules")?,
            default: config.default,
            compilations: Mutex::default(),
            cost: Params::default(),
            gates: std::array::from_fn(|_| Mutex::new(())),
        };
        if config.guest {
            users.insert(&crate::User {
                name: "guest".to_owned(),
                password: Some("guest".to_owned()),
                loopback_only: true,
                administrator: true,
                ..crate::User::default()
            })?;
        }
        for user in &config.users {
            users.insert(user)?;
        }
        Ok(users)
    }

    /// Those that take the place of these. Passwords that were right before and have not changed need not be verified again.
    pub fn succeeded_by(&self, config: &Config) -> Result<Self, ConfigError> {
        let next = Self::new(config, self.key)?;
        *next.made() = self.made().clone();
        for user in &config.users {
            if let Some(entry) = next.entries.get(&*user.name)
                && entry.hash.is_some()
                && let Some(before) = self.entries.get(&*user.name)
                && before.hash_text == entry.hash_text
                && let Some(tag) = before.remembered.get()
            {
                entry.remembered.get_or_init(|| *tag);
            }
        }
        Ok(next)
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
            hash_text: user.password_hash.clone(),
            vhosts: user
                .vhosts
                .as_ref()
                .map(|vhosts| vhosts.iter().map(|v| Arc::from(&**v)).collect()),
            loopback_only: user.loopback_only,
            administrator: user.administrator,
            remembered,
            rules: own_rules(&user.rules, &format!("user {}", user.name))?,
        };
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Whether a user who has given a password may do what is about the broker itself.
    #[must_use]
    pub fn is_administrator(&self, user: &str) -> bool {
        self.entries
            .get(user)
            .is_some_and(|entry| entry.administrator)
    }

    /// The virtual hosts, in the order of the configuration.
    #[must_use]
    pub fn vhosts(&self) -> &[Arc<str>] {
        &self.vhosts
    }

    /// Who it is. Blocks for as long as Argon2id takes, unless that password was right before.
    pub fn verify(&self, request: &Authenticate, peer: &Peer) -> Result<Principal, Refusal> {
        let (entry, named) = match &request.credentials {
            Credentials::Anonymous => (None, None),
            // It looks after what is stored, also in virtual hosts that are closed or that nobody has used since the start:
            // the core knows which there are.
            Credentials::Broker => {
                let vhost = request.vhost.as_deref().unwrap_or(&peer.default_vhost);
                return Ok(self.broker(Arc::from(vhost)));
            }
            Credentials::Vouched { user } => {
                let entry = self
                    .entries
                    .get(&**user)
                    .ok_or_else(|| refuse("the user does not exist"))?;
                (Some(entry), None)
            }
            Credentials::Plain { user, password } => {
                let (named, user) = self.split_user(request, user);
                let entry = self
                    .right_password(user, password)
                    .ok_or_else(|| refuse("user or password is wrong"))?;
                (Some(entry), named)
            }
        };
        self.check_place(entry, request.protocol, peer)?;
        let vhost = match named {
            Some(vhost) => vhost,
            None => self.vhost(request, peer)?,
        };
        self.admit(entry, vhost, &request.client)
    }

    /// The virtual host within a user's name, if the protocol puts one there, and the rest of the name.
    fn split_user<'a>(&self, request: &Authenticate, user: &'a str) -> (Option<Arc<str>>, &'a str) {
        let named = user
            .rsplit_once(':')
            .filter(|_| request.vhost_in_user && !self.entries.contains_key(user))
            .and_then(|(vhost, user)| Some((self.known_vhost(vhost)?, user)));
        match named {
            Some((vhost, user)) => (Some(vhost), user),
            None => (None, user),
        }
    }

    /// Whether who was verified under other users may stay, and with which rights. Passwords are not asked for again.
    pub fn readmit(
        &self,
        principal: &Principal,
        protocol: &str,
        client: &[u8],
        peer: &Peer,
    ) -> Result<Principal, Refusal> {
        if principal.broker {
            return Ok(self.broker(Arc::clone(&principal.vhost)));
        }
        let entry = if principal.anonymous {
            None
        } else {
            Some(self.entries.get(&principal.user).ok_or_else(|| {
                denied(format!("user '{}' does not exist any more", principal.user))
            })?)
        };
        if principal.anonymous && principal.user != self.anonymous_name {
            return Err(refuse("user and password are required"));
        }
        self.check_place(entry, protocol, peer)?;
        let vhost = self
            .known_vhost(&principal.vhost)
            .ok_or_else(|| gone(&principal.vhost))?;
        self.admit(entry, vhost, client)
    }

    /// The user as whom something is kept that outlives its connection. `None`: the virtual host does not exist any more.
    #[must_use]
    pub fn absent(&self, user: &Arc<str>, vhost: &str, client: &[u8]) -> Option<Principal> {
        let vhost = self.known_vhost(vhost)?;
        let own = self
            .entries
            .get(user)
            .map_or(&[][..], |listed| &listed.rules);
        Some(Principal {
            user: Arc::clone(user),
            rights: Rights::new(&self.rules_of(user, &vhost, own), user, client),
            vhost,
            anonymous: false,
            broker: false,
        })
    }

    /// Who somebody is in another virtual host, into which a subscription of theirs is to deliver; it need not exist yet.
    pub fn elsewhere(&self, principal: &Principal, vhost: &str) -> Result<Principal, Refusal> {
        if principal.broker {
            return Ok(self.broker(Arc::from(vhost)));
        }
        let listed = self.entries.get(&principal.user);
        let entry = listed.filter(|_| !principal.anonymous);
        self.admit(entry, Arc::from(vhost), &[])
    }

    /// The broker itself, in a virtual host.
    fn broker(&self, vhost: Arc<str>) -> Principal {
        Principal {
            user: Arc::from(BROKER),
            vhost,
            rights: Rights::all(),
            anonymous: false,
            broker: true,
        }
    }

    /// Whether the user may come from where the peer is. Without an entry: whether anybody may.
    fn check_place(
        &self,
        entry: Option<&Entry>,
        protocol: &str,
        peer: &Peer,
    ) -> Result<(), Refusal> {
        let loopback = peer.address.ip().to_canonical().is_loopback();
        match entry {
            None if !self.admits_anonymous(protocol) => {
                Err(refuse("user and password are required"))
            }
            None if self.anonymous.loopback_only && !loopback => Err(denied(
                "user and password are required, except from the broker's own machine",
            )),
            Some(entry) if entry.loopback_only && !loopback => Err(denied(format!(
                "user '{}' may connect from the broker's own machine only",
                entry.name
            ))),
            _ => Ok(()),
        }
    }

    fn admit(
        &self,
        entry: Option<&Entry>,
        vhost: Arc<str>,
        client: &[u8],
    ) -> Result<Principal, Refusal> {
        let user = entry.map_or(&self.anonymous_name, |entry| &entry.name);
        // Who comes without a login counts as the user of that name, if there is one.
        let listed = self.entries.get(user);
        if let Some(open) = listed.and_then(|listed| listed.vhosts.as_ref())
            && !open.contains(&vhost)
        {
            return Err(denied(format!(
                "access to virtual host '{vhost}' refused for user '{user}'"
            )));
        }
        let own = listed.map_or(&[][..], |listed| &listed.rules);
        Ok(Principal {
            user: Arc::clone(user),
            rights: Rights::new(&self.rules_of(user, &vhost, own), user, client),
            vhost,
            anonymous: entry.is_none(),
            broker: false,
        })
    }

    fn rules_of(&self, user: &Arc<str>, vhost: &Arc<str>, own: &[OwnRule]) -> Arc<Rules> {
        let key = (Arc::clone(user), Arc::clone(vhost));
        let build = || {
            let rules = own
                .iter()
                .chain(&self.rules)
                .filter(|rule| rule.is_for(user, vhost))
                .map(|rule| (&rule.compiled, &*rule.allow, &*rule.deny));
            Arc::new(Rules::new(rules, self.default == Otherwise::Allow))
        };
        let mut known = self
            .compilations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(key).or_insert_with(build))
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

    fn known_vhost(&self, name: &str) -> Option<Arc<str>> {
        let configured = self.vhosts.iter().find(|v| &***v == name).map(Arc::clone);
        configured.or_else(|| self.made().get(name).map(Arc::clone))
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a virtual host on its first use.
    fn make_vhost(&self, name: &str) -> Result<Arc<str>, Refusal> {
        let mut made = self.made();
        if name.is_empty() || name.len() > VHOST_LEN_MAX || name.chars().any(char::is_control) {
            return Err(Refusal::new(
                RefusalKind::InvalidName,
                "the name of a virtual host has 1 to 255 bytes and no control characters",
            ));
        }
        if self.vhosts.len() + made.len() >= VHOSTS_MAX {
            return Err(Refusal::new(
                RefusalKind::QuotaExceeded,
                format!("there are {VHOSTS_MAX} virtual hosts already"),
            ));
        }
        let name: Arc<str> = Arc::from(name);
        made.insert(Arc::clone(&name));
        Ok(name)
    }

    fn vhost(&self, request: &Authenticate, peer: &Peer) -> Result<Arc<str>, Refusal> {
        let default = &*peer.default_vhost;
        let asked = request.vhost.as_deref().unwrap_or(default);
        let found = match self.known_vhost(asked) {
            None if request.vhost_create => return self.make_vhost(asked),
            None if request.vhost_fallback => self.known_vhost(default),
            found => found,
        };
        found.ok_or_else(|| {
            let detail = format!("virtual host '{asked}' does not exist");
            Refusal::new(RefusalKind::NotFound, detail)
        })
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("users", &self.entries.len())
            .field("vhosts", &self.vhosts)
            .finish_non_exhaustive()
    }
}

fn own_rules(rules: &[Rule], owner: &str) -> Result<Vec<OwnRule>, ConfigError> {
    let own = |(number, rule): (usize, &Rule)| {
        let compiled = rule.compile().map_err(|fault| ConfigError::Rule {
            number,
            owner: owner.to_owned(),
            fault,
        })?;
        Ok(OwnRule {
            users: rule.users.clone(),
            vhosts: rule.vhosts.clone(),
            allow: rule.allow.clone(),
            deny: rule.deny.clone(),
            compiled: Arc::new(compiled),
        })
    };
    (1..).zip(rules).map(own).collect()
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

fn gone(vhost: &str) -> Refusal {
    let detail = format!("virtual host '{vhost}' does not exist any more");
    Refusal::new(RefusalKind::NotFound, detail)
}

fn denied(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(RefusalKind::AccessDenied, detail)
}

const fn refuse(detail: &'static str) -> Refusal {
    Refusal {
        kind: RefusalKind::BadCredentials,
        detail: std::borrow::Cow::Borrowed(detail),
        known: None,
        unlike: None,
        active: None,
    }
}
