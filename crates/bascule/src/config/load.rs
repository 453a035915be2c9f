//! From the sources to one checked [`Config`]: file, then `--set`, then `--data`, over the defaults.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{
    Config, Route,
    aws::{AccessKey, AwsVhost},
    suggest,
};
use crate::cli::{Profile, Sources};

/// Keys of `auth` that may stand at the top.
const AT_THE_TOP: [&str; 2] = ["users", "rules"];

/// What is wrong with a configuration. One line each: what, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {fault}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong there.
        fault: String,
    },
    /// `--set` without a key and a value.
    #[error(
        "--set {given:?} is not KEY=VALUE with a dotted key, such as listeners.mqtt=127.0.0.1:1883"
    )]
    Set {
        /// What was given.
        given: String,
    },
    /// A key that does not exist.
    #[error("unknown key {path} in {origin}{}", did_you_mean(meant.as_deref()))]
    Unknown {
        /// Its path.
        path: String,
        /// What was probably meant.
        meant: Option<String>,
        /// The file or `--set`.
        origin: String,
    },
    /// A value of the wrong type or form.
    #[error("{origin}: {fault}")]
    Type {
        /// The file or `--set`.
        origin: String,
        /// What is wrong.
        fault: String,
    },
    /// A number out of its bounds.
    #[error("{key} = {value} is out of bounds: {min} to {max}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A value that cannot be.
    #[error("{key} {fault}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// Users and virtual hosts.
    #[error("auth: {0}")]
    Auth(auth::ConfigError),
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

impl Config {
    /// Reads the sources and checks the result.
    pub(crate) fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut table = sources.profile.map_or_else(Table::new, Profile::settings);
        let mut origin = "--set".to_owned();
        if let Some(path) = &sources.config {
            let given = read(path)?;
            origin = path.display().to_string();
            known(&given, &origin)?;
            // Its types are checked on their own, so that the error names the file.
            compose(given.clone(), &origin)?;
            // What the file says goes before the profile.
            overlay(&mut table, given);
        }
        for given in &sources.set {
            let origin = format!("--set {given}");
            let setting = parse_setting(given)?;
            known(&setting, &origin)?;
            overlay(&mut table, setting);
            compose(table.clone(), &origin)?;
        }
        let mut config = compose(table, &origin)?;
        if let Some(data) = &sources.data {
            config.data.clone_from(data);
        }
        config.check()?;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
        path: path.to_owned(),
        error,
    })?;
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        ConfigError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            fault: error.message().replace('\n', " "),
        }
    })
}

/// `a.b=c` as a table. The value is TOML if it can be, else text.
fn parse_setting(given: &str) -> Result<Table, ConfigError> {
    let fault = || ConfigError::Set {
        given: given.to_owned(),
    };
    let (key, value) = given.split_once('=').ok_or_else(fault)?;
    let one = |table: &Table| table.len() == 1;
    given
        .parse()
        .ok()
        .filter(one)
        .or_else(|| {
            let text = Value::String(value.to_owned());
            format!("{key}={text}").parse().ok().filter(one)
        })
        .ok_or_else(fault)
}

/// Tables are merged; anything else is replaced.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn known(table: &Table, origin: &str) -> Result<(), ConfigError> {
    match suggest::first_unknown(table, &sample()) {
        None => Ok(()),
        Some(suggest::Unknown { path, meant }) => Err(ConfigError::Unknown {
            path,
            meant,
            origin: origin.to_owned(),
        }),
    }
}

/// Every key there is.
fn sample() -> Table {
    let mut config = Config::default();
    config.auth.users.push(auth::User {
        name: String::new(),
        password_hash: Some(String::new()),
        password: Some(String::new()),
        vhosts: Some(Vec::new()),
        loopback_only: false,
        administrator: false,
        rules: vec![every_rule()],
    });
    config.auth.rules.push(every_rule());
    config.aws.keys.push(AccessKey {
        account: Some(String::new()),
        ..AccessKey::default()
    });
    config.aws.vhosts.push(AwsVhost::default());
    config.routes.push(Route {
        key: Some(String::new()),
        vhost: Some(String::new()),
        ..Route::default()
    });
    let mut table = Table::try_from(config).expect("the settings are TOML");
    for key in AT_THE_TOP {
        let value = table["auth"][key].clone();
        table.insert(key.to_owned(), value);
    }
    table
}

/// A rule with every key.
fn every_rule() -> auth::Rule {
    let text = || Some(String::new());
    auth::Rule {
        users: Some(Vec::new()),
        vhosts: Some(Vec::new()),
        topic: text(),
        queue: text(),
        exchange: text(),
        key: text(),
        stream: text(),
        everything: true,
        reason: Some(0),
        ..auth::Rule::default()
    }
}

/// Types the table. `users` and `rules` at the top are a shorter spelling of `auth.users` and `auth.rules`.
fn compose(mut table: Table, origin: &str) -> Result<Config, ConfigError> {
    let fault = |fault: String| ConfigError::Type {
        origin: origin.to_owned(),
        fault,
    };
    for key in AT_THE_TOP {
        let Some(value) = table.remove(key) else {
            continue;
        };
        let auth = table
            .entry("auth")
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(auth) = auth
            && auth.insert(key.to_owned(), value).is_some()
        {
            return Err(fault(format!("{key} and auth.{key} are both given")));
        }
    }
    table.try_into().map_err(|error: toml::de::Error| {
        let words: Vec<String> = error
            .to_string()
            .lines()
            .map(|l| l.trim().to_owned())
            .collect();
        fault(words.join(" ").trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        DEFAULT_TOML,
        listeners::{Endpoint, Place},
        sections::LogFormat,
    };

    fn with(set: &[&str]) -> Result<Config, String> {
        let sources = Sources {
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            ..Sources::default()
        };
        Config::load(&sources).map_err(|error| error.to_string())
    }

    fn samples() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let mut samples: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|e| e == "toml"))
            .collect();
        samples.sort();
        samples
    }

    #[test]
    fn default_toml_is_the_default_and_says_every_key() {
        let table: Table = DEFAULT_TOML.parse().expect("TOML");
        assert_eq!(
            compose(table.clone(), "default.toml").expect("composes"),
            Config::default()
        );
        let defaults = Table::try_from(Config::default()).expect("the settings are TOML");
        assert_eq!(table, defaults, "a key is missing in config/default.toml");
    }

    #[test]
    fn every_sample_is_right() {
        let samples = samples();
        assert!(samples.len() >= 2);
        for sample in samples {
            let sources = Sources {
                config: Some(sample.clone()),
                ..Sources::default()
            };
            Config::load(&sources).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
        }
    }

    #[test]
    fn settings_are_laid_over() {
        let config = with(&[
            "listeners.mqtt=0.0.0.0:0",
            "listeners.http=off",
            "listeners.amqp=['localhost:5673', 'broker.example:5672']",
            "memory.bodies_bytes_max=4_194_304",
            "log.format=json",
            "log = { level = 'debug' }",
            "websocket.origins=[\"https://example.org\"]",
            "data=/var/lib/x",
            "data=/var/lib/y",
        ])
        .expect("right");
        assert_eq!(
            config.listeners.mqtt,
            Endpoint(vec![Place::At("0.0.0.0:0".parse().expect("an address"))])
        );
        assert_eq!(config.listeners.http, Endpoint::default());
        assert_eq!(
            config.listeners.amqp.0,
            [
                Place::Loopback(5673),
                Place::Named("broker.example".to_owned(), 5672)
            ]
        );
        assert_eq!(config.memory.bodies_bytes_max, 4 << 20);
        assert_eq!(
            (config.log.format, &*config.log.level),
            (LogFormat::Json, "debug")
        );
        assert_eq!(config.websocket.origins, ["https://example.org"]);
        assert_eq!(config.data, Path::new("/var/lib/y"));
    }

    #[test]
    fn users_may_stand_at_the_top() {
        let config = with(&["users=[{name='ada',password='x'}]"]).expect("right");
        assert_eq!(config.auth.users[0].name, "ada");
        let both = with(&["users=[{name='ada',password='x'}]", "auth.users=[]"]);
        assert!(both.expect_err("both").contains("both given"));
        let config = with(&["rules=[{deny=['publish'],topic='a'}]"]).expect("right");
        assert_eq!(config.auth.rules[0].topic.as_deref(), Some("a"));
    }

    #[test]
    fn bounds_hold_at_both_ends() {
        for (key, _, range) in Config::default().bounds() {
            let (min, max) = range.into_inner();
            // What the other one of the two allows.
            let beside = match key {
                "journal.reserve_bytes" => "journal.segment_bytes=4194304",
                _ => "journal.reserve_bytes=1073741824",
            };
            let set = |value: u64| with(&[beside, &format!("{key}={value}")]);
            assert!(set(min).is_ok() && set(max).is_ok(), "{key}");
            let error = set(max + 1).expect_err(key);
            assert!(
                error.contains(&format!(
                    "{key} = {} is out of bounds: {min} to {max}",
                    max + 1
                )),
                "{error}"
            );
            if let Some(less) = min.checked_sub(1) {
                assert!(set(less).is_err(), "{key}");
            }
        }
    }

    #[test]
    fn a_product_is_1_to_255_bytes_and_its_version_at_most_255() {
        for (key, len, right) in [
            ("product", 1, true),
            ("product", 255, true),
            ("product", 256, false),
            ("product_version", 0, true),
            ("product_version", 255, true),
            ("product_version", 256, false),
        ] {
            let setting = format!("amqp.{key}='{}'", "x".repeat(len));
            assert_eq!(with(&[&setting]).is_ok(), right, "{key} of {len} bytes");
        }
    }

    #[test]
    fn channel_flow_is_honour_or_refuse() {
        for (said, right) in [("honour", true), ("refuse", true), ("ignore", false)] {
            let setting = format!("amqp.channel_flow={said}");
            assert_eq!(with(&[&setting]).is_ok(), right, "{said}");
        }
    }

    #[test]
    fn an_error_says_what_and_where() {
        for (set, said) in [
            (
                &["listeners.mqt=off"][..],
                "unknown key listeners.mqt in --set listeners.mqt=off; did you mean listeners.mqtt?",
            ),
            (&["listeners.mqtt=1883"], "listeners.mqtt"),
            (
                &["listeners.mqtt=localhost"],
                "\"localhost\" is not a host and a port",
            ),
            (
                &["websocket.origins=['example.org']"],
                "websocket.origins has \"example.org\", which is neither an origin",
            ),
            (
                &[
                    "memory.requests_bytes_max=16777216",
                    "aws.message_bytes_max=16777216",
                ],
                "memory.requests_bytes_max leaves no room for one request",
            ),
            (
                &["pair.advertise='0.0.0.0'"],
                "pair.advertise \"0.0.0.0\" is every address",
            ),
            (
                &["pair.peers=['a.example:0']"],
                "pair.peers \"a.example:0\" has port 0",
            ),
            (
                &["sns.email_password=x"],
                "sns.email_password is given without sns.email_user",
            ),
            (
                &["routes=[{from='$SYS/#',to='queue:q'}]"],
                "routes number 1 has from = \"$SYS/#\", where nobody publishes",
            ),
            (
                &["rules=[{deny=['publish'],topic='$queue/jobs'}]"],
                "which names no topic: write queue = \"..\", without $queue",
            ),
            (&["amqp.product="], "amqp.product must be 1 to 255 bytes"),
            (&["listeners.mqtt=[]"], "an empty list says nowhere"),
            (
                &["listeners.mqtt=['localhost:1883', '[::1]:1883']"],
                "listeners mqtt names the address [::1]:1883 twice",
            ),
            (&["threads=many"], "threads"),
            (&["threads"], "--set \"threads\" is not KEY=VALUE"),
            (&["=1"], "is not KEY=VALUE"),
            (&["log.level=loud,,="], "log.level"),
            (&["log.level=loud"], "\"loud\" is not a level"),
            (
                &["auth.anonymous.protocols=['mqt']"],
                "\"mqt\" is none of mqtt, amqp, stomp",
            ),
            (&["data="], "data must name a directory"),
            (
                &["pair.advertise='a.example:1883'"],
                "pair.advertise \"a.example:1883\" is not a host without a port",
            ),
            (
                &["pair.peers=['a.example']"],
                "pair.peers \"a.example\" is not a host and a port",
            ),
            (&["journal.segment_bytes=4194305"], "multiple of 4096"),
            (
                &["journal.reserve_bytes=33554431"],
                "journal.reserve_bytes must be at least half of journal.segment_bytes, 33554432",
            ),
            (
                &["listeners.mqtt=127.0.0.1:5672"],
                "listeners mqtt and amqp have the same address 127.0.0.1:5672",
            ),
            (
                &["listeners.mqtt=0.0.0.0:5672"],
                "listeners mqtt and amqp have the same address 127.0.0.1:5672",
            ),
            (
                &["listeners.mqtt=['localhost:1883', '[::]:1883']"],
                "listeners mqtt names the address [::]:1883 twice",
            ),
            (
                &["listeners={mqtt='off',amqp='off',stomp='off',http='off',aws='off'}"],
                "listeners are all off",
            ),
            (&["auth.vhosts=[]"], "at least one virtual host"),
            (&["users=[{name='ada',pasword='x'}]"], "users[0].pasword"),
            (
                &["rules=[{deny=['publish'],topc='a'}]"],
                "unknown key rules[0].topc in --set rules=[{deny=['publish'],topc='a'}]; did you mean rules[0].topic?",
            ),
            (
                &["users=[{name='ada',password='x',rules=[{users=['a'],dney=[]}]}]"],
                "users[0].rules[0].dney",
            ),
            (
                &["rules=[{users=['eve'],deny=['publish'],topic='a'}]"],
                "auth: rule 1 of auth.rules is for user \"eve\", which does not exist",
            ),
            (
                &["rules=[{deny=['publish'],topic='a/#/b'}]"],
                "rule 1 of auth.rules has topic = \"a/#/b\", which has a \"#\" before its last level",
            ),
            (
                &["rules=[{deny=['publish'],topic='a',reason=0x97}]"],
                "reason = 0x97; it can be 0x80 (unspecified error) or 0x87",
            ),
            (&["auth.default=maybe"], "auth.default"),
            (&["journal.direct=always"], "journal.direct"),
            (&["aws.account='1'"], "aws.account must be twelve digits"),
            (&["aws.region=US"], "aws.region must be"),
            (&["aws.signatures=maybe"], "aws.signatures"),
            (
                &["aws.signatures=accept", "listeners.aws=0.0.0.0:4566"],
                "aws.signatures \"accept\" lets anybody in",
            ),
            (
                &["aws.signatures=accept", "listeners.aws=broker.example:4566"],
                "loopback addresses only",
            ),
            (
                &["aws.keys=[{id='a/b',secret='s',user='guest'}]"],
                "aws.keys has the key \"a/b\"",
            ),
            (
                &["aws.keys=[{id='a',secret='s',user='eve'}]"],
                "of user \"eve\", who does not exist",
            ),
            (
                &["aws.keys=[{id='a',secret='s',user='guest'},{id='a',secret='t',user='guest'}]"],
                "has the key \"a\" twice",
            ),
            (
                &["aws.keys=[{id='a',secret='s',user='guest',account='1'}]"],
                "account is not twelve digits",
            ),
            (
                &["aws.keys=[{id='a',secret='s',user='guest',account='111111111111'}]"],
                "has the key \"a\" of account 111111111111, which no virtual host is",
            ),
            (
                &["aws.keys=[{id='a',sceret='s',user='guest'}]"],
                "did you mean aws.keys[0].secret?",
            ),
            (
                &["aws.vhosts=[{name='b',account='111111111111',region='eu-west-1'}]"],
                "aws.vhosts names \"b\", which is not in auth.vhosts",
            ),
            (
                &["aws.vhosts=[{name='/',account='111111111111',region='eu-west-1'}]"],
                "the first virtual host has aws.account",
            ),
            (
                &[
                    "auth.vhosts=['/','b']",
                    "aws.vhosts=[{name='b',account='000000000000',region='us-east-1'}]",
                ],
                "have already",
            ),
            (
                &[
                    "auth.vhosts=['/','b']",
                    "aws.regions=merge",
                    "aws.vhosts=[{name='b',account='000000000000',region='eu-west-1'}]",
                ],
                "with aws.regions \"merge\" an account is one virtual host",
            ),
            (
                &[
                    "auth.vhosts=['/','b']",
                    "users=[{name='eve',password='x',vhosts=['b']}]",
                    "aws.keys=[{id='a',secret='s',user='eve'}]",
                ],
                "has the key \"a\" of user \"eve\", to whom no virtual host of its account is open",
            ),
        ] {
            let error = with(set).expect_err(set[0]);
            assert!(error.contains(said), "{set:?}: {error}");
            assert!(!error.contains('\n'), "{error:?} is more than one line");
        }
    }
}
