//! The AWS doors: accounts, regions, access keys, and what is otherwise than with AWS.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Place};

/// The longest id and secret of an access key, in bytes.
const KEY_LEN_MAX: usize = 128;

/// SQS, SNS and Kinesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Aws {
    /// The account that the first virtual host is, and that keys without one are of: twelve digits.
    pub(crate) account: String,
    /// The region that the first virtual host is.
    pub(crate) region: String,
    /// What is done about signatures.
    pub(crate) signatures: Signatures,
    /// How long changes of state take.
    pub(crate) transitions: Transitions,
    /// A deleted queue's name is free after a minute, and a queue is purged once in a minute.
    pub(crate) minute_rules: bool,
    /// Where proxies that end TLS are: what they say in `X-Forwarded-Proto` is believed.
    pub(crate) proxies: Vec<String>,
    /// Whether regions are apart.
    pub(crate) regions: Regions,
    /// Accounts and regions that are not listed become virtual hosts on first use.
    pub(crate) vhosts_on_first_use: bool,
    /// The largest SQS message, in bytes. One of SNS is no larger either.
    pub(crate) message_bytes_max: u64,
    /// Streams have the write and read limits of AWS.
    pub(crate) shard_limits: bool,
    /// Shards of all streams of one virtual host.
    pub(crate) shards_max: u64,
    /// Whose ways are followed where there are several.
    pub(crate) manners: Manners,
    /// The access keys.
    pub(crate) keys: Vec<AccessKey>,
    /// Which account and region other virtual hosts are.
    pub(crate) vhosts: Vec<AwsVhost>,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            signatures: Signatures::Verify,
            transitions: Transitions::Brief,
            minute_rules: true,
            proxies: Vec::new(),
            regions: Regions::Separate,
            vhosts_on_first_use: false,
            message_bytes_max: 1 << 20,
            shard_limits: true,
            shards_max: 6_000,
            manners: Manners::Standard,
            keys: Vec::new(),
            vhosts: Vec::new(),
        }
    }
}

/// What is done about signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signatures {
    /// They must be right.
    Verify,
    /// Whoever comes is let in. On loopback only.
    Accept,
}

/// How long changes of state take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transitions {
    /// A moment, as with AWS.
    Brief,
    /// None.
    Instant,
}

/// Whether regions are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Regions {
    /// Each is a virtual host of its own.
    Separate,
    /// All regions of an account are one.
    Merge,
}

/// Whose ways are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Manners {
    /// Those that AWS documents.
    Standard,
    /// Those of moto.
    Moto,
}

/// An access key.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessKey {
    /// Its id.
    pub(crate) id: String,
    /// Its secret. Not shown by `Debug`.
    pub(crate) secret: String,
    /// The user that it is of.
    pub(crate) user: String,
    /// The account that it is of; absent: `aws.account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Which account and region a virtual host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AwsVhost {
    /// The virtual host.
    pub(crate) name: String,
    /// The account.
    pub(crate) account: String,
    /// The region.
    pub(crate) region: String,
}

impl Config {
    /// Whether the AWS doors can be as they are configured.
    pub(super) fn check_aws(&self) -> Result<(), ConfigError> {
        let fault = |key: &'static str, fault: String| Err(ConfigError::Value { key, fault });
        let this = &self.aws;
        if !aws::is_account(&this.account) {
            return fault("aws.account", "must be twelve digits".to_owned());
        }
        if !aws::is_region(&this.region) {
            let words = "must be 1 to 32 small letters, digits and hyphens";
            return fault("aws.region", words.to_owned());
        }
        let loopback = self.listeners.aws.0.iter().all(|place| match place {
            Place::At(address) => address.ip().to_canonical().is_loopback(),
            Place::Loopback(_) => true,
            Place::Named(..) => false,
        });
        if this.signatures == Signatures::Accept && !loopback {
            let words =
                "\"accept\" lets anybody in: then listeners.aws may have loopback addresses only";
            return fault("aws.signatures", words.to_owned());
        }
        if let Some(wrong) = this
            .proxies
            .iter()
            .find(|it| aws::Network::read(it).is_none())
        {
            let words = format!(
                "has {wrong:?}, which is neither an address nor a network such as \"10.1.0.0/16\""
            );
            return fault("aws.proxies", words);
        }
        let mut ids = BTreeSet::new();
        for key in &this.keys {
            let visible = |text: &str| {
                (1..=KEY_LEN_MAX).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic())
            };
            if !visible(&key.id) || key.id.contains(['/', ',', '=']) || !visible(&key.secret) {
                let words = format!(
                    "has the key {:?}: id and secret are 1 to {KEY_LEN_MAX} visible ASCII characters, the id without / , and =",
                    key.id
                );
                return fault("aws.keys", words);
            }
            if !ids.insert(&key.id) {
                return fault("aws.keys", format!("has the key {:?} twice", key.id));
            }
            let known = self.auth.users.iter().any(|user| user.name == key.user)
                || self.auth.guest && key.user == "guest";
            if !known {
                let words = format!(
                    "has the key {:?} of user {:?}, who does not exist",
                    key.id, key.user
                );
                return fault("aws.keys", words);
            }
            if key.account.as_ref().is_some_and(|it| !aws::is_account(it)) {
                let words = format!(
                    "has the key {:?} whose account is not twelve digits",
                    key.id
                );
                return fault("aws.keys", words);
            }
            if !self.may_enter(key) {
                let words = format!(
                    "has the key {:?} of user {:?}, to whom no virtual host of its account is open",
                    key.id, key.user
                );
                return fault("aws.keys", words);
            }
            if let Some(account) = &key.account
                && !self.is_place_of(account)
            {
                let words = format!(
                    "has the key {:?} of account {account}, which no virtual host is: aws.account and aws.vhosts say which there are, \
                     unless aws.vhosts_on_first_use makes others",
                    key.id
                );
                return fault("aws.keys", words);
            }
        }
        let mut names = BTreeSet::new();
        let mut places = BTreeSet::from([(&*this.account, &*this.region)]);
        for vhost in &this.vhosts {
            let name = &vhost.name;
            if !self.auth.vhosts.contains(name) {
                return fault(
                    "aws.vhosts",
                    format!("names {name:?}, which is not in auth.vhosts"),
                );
            }
            if !aws::is_account(&vhost.account) || !aws::is_region(&vhost.region) {
                let words = format!(
                    "gives {name:?} an account that is not twelve digits, or a region that is not 1 to 32 small letters, digits and hyphens"
                );
                return fault("aws.vhosts", words);
            }
            let first = self.auth.vhosts.first() == Some(name);
            if first || !names.insert(name) || !places.insert((&vhost.account, &vhost.region)) {
                let words = format!(
                    "gives {name:?} an account and region that it or they have already (the first virtual host has aws.account and aws.region)"
                );
                return fault("aws.vhosts", words);
            }
        }
        if this.regions == Regions::Merge {
            let mut accounts = BTreeSet::from([&this.account]);
            let second = this.vhosts.iter().find(|it| !accounts.insert(&it.account));
            if let Some(second) = second {
                let words = format!(
                    "gives {:?} the account {}, which another one has: with aws.regions \"merge\" an account is one virtual host",
                    second.name, second.account
                );
                return fault("aws.vhosts", words);
            }
        }
        Ok(())
    }

    /// Whether a key's user may log in to a virtual host of the key's account, or there is one to be made.
    fn may_enter(&self, key: &AccessKey) -> bool {
        let this = &self.aws;
        let user = self.auth.users.iter().find(|user| user.name == key.user);
        let Some(open) = user.and_then(|user| user.vhosts.as_ref()) else {
            return true;
        };
        let account = key.account.as_ref().unwrap_or(&this.account);
        let first = self
            .auth
            .vhosts
            .first()
            .filter(|_| this.account == *account);
        let others = this.vhosts.iter().filter(|it| it.account == *account);
        let mut places = first
            .into_iter()
            .chain(others.map(|it| &it.name))
            .peekable();
        // Of an account without one something else is said.
        this.vhosts_on_first_use
            || places.peek().is_none()
            || places.any(|name| open.contains(name))
    }

    /// Whether a virtual host is of an account, or can become so.
    fn is_place_of(&self, account: &str) -> bool {
        let this = &self.aws;
        this.vhosts_on_first_use
            || this.account == account
            || this.vhosts.iter().any(|vhost| vhost.account == account)
    }

    /// The AWS settings in their crate's words.
    pub(crate) fn for_aws(&self) -> aws::Settings {
        let this = &self.aws;
        let first = self.auth.vhosts.first().map_or("/", String::as_str);
        let mut places = vec![aws::Placed {
            account: this.account.as_str().into(),
            region: this.region.as_str().into(),
            vhost: first.into(),
        }];
        places.extend(this.vhosts.iter().map(|vhost| aws::Placed {
            account: vhost.account.as_str().into(),
            region: vhost.region.as_str().into(),
            vhost: vhost.name.as_str().into(),
        }));
        let merged = this.regions == Regions::Merge;
        aws::Settings {
            transitions: match this.transitions {
                Transitions::Brief => aws::Transitions::Brief,
                Transitions::Instant => aws::Transitions::Instant,
            },
            minute_rules: this.minute_rules,
            any_signature: this.signatures == Signatures::Accept,
            proxies: this
                .proxies
                .iter()
                .map(|it| aws::Network::read(it).expect("checked at the start"))
                .collect(),
            places: aws::Places::new(places, merged, this.vhosts_on_first_use),
            message_len_max: u32::try_from(this.message_bytes_max).expect("checked at the start"),
            shard_limits: this.shard_limits,
            shards_max: u32::try_from(this.shards_max).expect("checked at the start"),
            manners: match this.manners {
                Manners::Standard => aws::Manners::Standard,
                Manners::Moto => aws::Manners::Moto,
            },
            sns: self.for_sns(),
            ..aws::Settings::default()
        }
    }

    /// The access keys: those of the configuration, and the guest's, as long as there is the guest.
    pub(crate) fn access_keys(&self) -> Vec<aws::Key> {
        let account: Arc<str> = self.aws.account.as_str().into();
        let mut keys: Vec<aws::Key> = self
            .aws
            .keys
            .iter()
            .map(|key| aws::Key {
                id: key.id.as_str().into(),
                secret: key.secret.as_str().into(),
                user: key.user.as_str().into(),
                account: key
                    .account
                    .as_deref()
                    .map_or_else(|| Arc::clone(&account), Into::into),
            })
            .collect();
        let own_guest = self.auth.users.iter().any(|user| user.name == "guest");
        let own_key = keys.iter().any(|key| &*key.id == "guest");
        if self.auth.guest && !own_guest && !own_key {
            keys.push(aws::Key {
                id: "guest".into(),
                secret: "guest".into(),
                user: "guest".into(),
                account,
            });
        }
        keys
    }

    /// The user that unknown keys are of where any signature is accepted: the guest, else the first one that there is.
    pub(crate) fn any_user(&self) -> Arc<str> {
        let first = self.auth.users.first().map(|user| user.name.as_str());
        let guest = (self.auth.guest || first.is_none()).then_some("guest");
        guest.or(first).unwrap_or_default().into()
    }
}
