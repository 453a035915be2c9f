//! Who may do what, to which address (DOORS: permissions). The question is asked on every publish, subscribe and declare.
//!
//! ```text
//! a deny rule speaks of it ──────────► refused      (of a filter: of anything that it could match)
//! an allow rule speaks of it ────────► allowed      (of a filter: of all that it could match)
//! the user has any allow rule ───────► refused
//! none ──────────────────────────────► `auth.default`
//! ```
//! The order of rules means nothing. Who has no rule at all, and is allowed everything, is not asked anything: no rule is
//! held, and no memory.
//!
//! | action | for |
//! |---|---|
//! | publish | messages, wills, reply-tos; into what a binding, a dead letter or an alternate exchange leads |
//! | subscribe | consuming, getting, purging, topic filters; a binding's source; a queue that dead-letters |
//! | declare | making, changing, deleting |

use std::{fmt, sync::Arc};

use bytes::Bytes;
use message::{Address, Filter, Kind, Levels};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    pattern::{Pattern, Who, Word, Words, words_of},
    rule::{Compiled, Place},
};

/// The name of the exchange that is the topics.
const ROOT: &[u8] = b"amq.topic";

/// What someone wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Send to an address: wills and reply-tos too.
    Publish,
    /// Read: consume from a queue, or bind a filter.
    Subscribe,
    /// Make, change or delete.
    Declare,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Subscribe, Self::Declare];

    /// As the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Declare => "declare",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of a place's keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keys<'a> {
    /// One.
    One(&'a Levels),
    /// All that a filter matches.
    Of(&'a Filter),
    /// All there are.
    All,
}

/// What someone wants to do it to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What<'a> {
    /// Topics of the root space.
    Topic(Keys<'a>),
    /// A queue.
    Queue(&'a [u8]),
    /// Whatever queue a message's own key names.
    EveryQueue,
    /// An exchange; the default one and the root space have entries of their own.
    Exchange(&'a [u8], Keys<'a>),
    /// A stream.
    Stream(&'a [u8]),
}

impl<'a> What<'a> {
    /// Where a message is published to.
    #[must_use]
    pub fn address(address: &'a Address) -> Self {
        match address.kind {
            Kind::Queue => Self::Queue(&address.name),
            Kind::Topic => Self::Topic(Keys::One(&address.key)),
            Kind::Stream => Self::Stream(&address.name),
            Kind::Exchange => Self::exchange(&address.name, Keys::One(&address.key)),
        }
    }

    /// An exchange, by the name that AMQP has for it.
    #[must_use]
    pub fn exchange(name: &'a [u8], keys: Keys<'a>) -> Self {
        if name == ROOT {
            Self::Topic(keys)
        } else {
            Self::Exchange(name, keys)
        }
    }
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        match self {
            Self::Topic(Keys::All) => f.write_str("all topics"),
            Self::Topic(keys) => write!(f, "topic '{}'", shown(*keys, "/", "+")),
            Self::Queue(name) => write!(f, "queue '{}'", text(name)),
            Self::EveryQueue => f.write_str("every queue"),
            Self::Stream(name) => write!(f, "stream '{}'", text(name)),
            Self::Exchange(name, Keys::All) => write!(f, "exchange '{}'", text(name)),
            Self::Exchange(name, keys) => write!(
                f,
                "key '{}' of exchange '{}'",
                shown(*keys, ".", "*"),
                text(name)
            ),
        }
    }
}

fn shown(keys: Keys<'_>, separator: &str, one: &str) -> String {
    let words = words(keys);
    let levels: Vec<_> = words
        .iter()
        .map(|word| match word {
            Word::Exact(text) => String::from_utf8_lossy(text),
            Word::One => one.into(),
            Word::Many | Word::Never => "#".into(),
        })
        .collect();
    levels.join(separator)
}

fn words(keys: Keys<'_>) -> Words<'_> {
    match keys {
        Keys::One(levels) => levels.iter().map(Word::Exact).collect(),
        Keys::Of(filter) => words_of(filter),
        Keys::All => Words::from_iter([Word::Many]),
    }
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The rule says that the peer is not to be told why.
    pub withheld: bool,
}

/// The rules for one user in one virtual host. Shared by the user's connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    rules: Vec<Arc<Compiled>>,
    /// By [`Action`]: the rules that deny and that allow it.
    by_action: [(Vec<u32>, Vec<u32>); 3],
    /// What no rule speaks of is allowed.
    otherwise: bool,
}

impl Rules {
    /// `rules`: each with what it allows and denies. `default`: what is not spoken of is allowed to who has no allow rule.
    pub(crate) fn new<'a>(
        rules: impl Iterator<Item = (&'a Arc<Compiled>, &'a [Action], &'a [Action])>,
        default: bool,
    ) -> Self {
        let mut all = Self {
            otherwise: default,
            ..Self::default()
        };
        for (at, (rule, allow, deny)) in rules.enumerate() {
            all.rules.push(Arc::clone(rule));
            for action in deny {
                all.by_action[*action as usize].0.push(at as u32);
            }
            for action in allow {
                all.by_action[*action as usize].1.push(at as u32);
                all.otherwise = false;
            }
        }
        all
    }

    /// Whether there is nothing to ask.
    pub(crate) fn allows_everything(&self) -> bool {
        self.rules.is_empty() && self.otherwise
    }
}

/// What one connection may do. Cheap to clone; empty for who may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Option<Arc<Held>>);

#[derive(Debug, PartialEq, Eq)]
struct Held {
    rules: Arc<Rules>,
    user: Arc<str>,
    client: Bytes,
}

impl Rights {
    /// Everything.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    pub(crate) fn new(rules: &Arc<Rules>, user: &Arc<str>, client: &[u8]) -> Self {
        if rules.allows_everything() {
            return Self(None);
        }
        Self(Some(Arc::new(Held {
            rules: Arc::clone(rules),
            user: Arc::clone(user),
            client: Bytes::copy_from_slice(client),
        })))
    }

    /// Whether everything is allowed.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The same for a client whose id has become known.
    #[must_use]
    pub fn with_client(&self, client: &[u8]) -> Self {
        self.0.as_ref().map_or(Self(None), |held| {
            Self::new(&held.rules, &held.user, client)
        })
    }

    /// Whether the action is allowed.
    #[must_use]
    pub fn permits(&self, action: Action, what: What<'_>) -> bool {
        self.ask(action, what).is_ok()
    }

    /// The same, with what a refusal says.
    pub fn ask(&self, action: Action, what: What<'_>) -> Result<(), Denied> {
        let Some(held) = &self.0 else {
            return Ok(());
        };
        let who = Who {
            user: held.user.as_bytes(),
            client: &held.client,
        };
        let rules = &held.rules;
        let (deny, allow) = &rules.by_action[action as usize];
        let asked = Asked::new(what);
        let rule = |at: &&u32| &*rules.rules[**at as usize];
        if let Some(at) = deny.iter().find(|at| rule(at).denies(&asked, who)) {
            let withheld = rule(&at).withheld;
            return Err(Denied { withheld });
        }
        if rules.otherwise || allow.iter().any(|at| rule(&at).allows(&asked, who)) {
            return Ok(());
        }
        Err(Denied { withheld: false })
    }
}

/// A question, cut into words once for all rules.
struct Asked<'a> {
    what: What<'a>,
    /// Of the name of a queue, exchange or stream.
    name: SmallVec<[&'a [u8]; 8]>,
    /// Of the keys, unless they are one.
    keys: Words<'a>,
}

impl<'a> Asked<'a> {
    fn new(what: What<'a>) -> Self {
        let (name, keys) = match what {
            What::Topic(keys) => (None, keys),
            What::Queue(name) | What::Stream(name) => (Some(name), Keys::All),
            What::EveryQueue => (None, Keys::All),
            What::Exchange(name, keys) => (Some(name), keys),
        };
        Self {
            what,
            name: name.map_or_else(SmallVec::new, |name| {
                name.split(|byte| *byte == b'.').collect()
            }),
            keys: match keys {
                Keys::One(_) => Words::new(),
                keys => words(keys),
            },
        }
    }

    fn named(&self, pattern: &Pattern, who: Who<'_>) -> bool {
        pattern.matches(|at| self.name.get(at).copied(), who)
    }
}

impl Compiled {
    /// Whether it speaks of all that is asked about.
    fn allows(&self, asked: &Asked<'_>, who: Who<'_>) -> bool {
        self.speaks(asked, who, |pattern| pattern.covers(&asked.keys, who))
    }

    /// Whether it speaks of any of it.
    fn denies(&self, asked: &Asked<'_>, who: Who<'_>) -> bool {
        // Only filters in the root space keep away from what starts with `$`.
        let rooted = matches!(asked.what, What::Topic(_));
        self.speaks(asked, who, |pattern| {
            pattern.overlaps(&asked.keys, rooted, who)
        })
    }

    fn speaks(&self, asked: &Asked<'_>, who: Who<'_>, filter: impl Fn(&Pattern) -> bool) -> bool {
        let keyed = |pattern: &Pattern, keys| match keys {
            Keys::One(levels) => pattern.matches(|at| levels.level(at), who),
            Keys::Of(_) | Keys::All => filter(pattern),
        };
        match (&self.place, asked.what) {
            (Place::Everything, _) => true,
            (Place::Topic(pattern), What::Topic(keys)) => keyed(pattern, keys),
            (Place::Queue(pattern), What::EveryQueue) => filter(pattern),
            (Place::Queue(pattern), What::Queue(_))
            | (Place::Stream(pattern), What::Stream(_))
            | (Place::Exchange(pattern, None), What::Exchange(..)) => asked.named(pattern, who),
            (Place::Exchange(pattern, Some(key)), What::Exchange(_, keys)) => {
                asked.named(pattern, who) && keyed(key, keys)
            }
            _ => false,
        }
    }
}
