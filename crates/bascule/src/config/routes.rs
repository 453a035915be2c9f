//! Routes: topics that lead into queues and streams, as the configuration says.

use bytes::Bytes;
use md5::{Digest, Md5};
use message::{Filter, FilterLevel};
use serde::{Deserialize, Serialize};
use session::{Source, SubscriptionId, SubscriptionTarget};

use super::{Config, ConfigError};

/// Bytes of the name of a queue or a stream.
const NAME_LEN_MAX: usize = 255;

/// One route, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Route {
    /// What it reads: topics as MQTT writes filters.
    pub(crate) from: String,
    /// Where it leads: `queue:NAME` or `stream:NAME`.
    pub(crate) to: String,
    /// The partition key in a stream: `{1}` is what the first wildcard matched, `{0}` the topic. Without: the message's own.
    pub(crate) key: Option<String>,
    /// The virtual host; without, the first one.
    pub(crate) vhost: Option<String>,
}

/// A route, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Way {
    /// Follows from what the route says: one that says something else is another one.
    pub(crate) id: SubscriptionId,
    pub(crate) vhost: String,
    pub(crate) filter: Filter,
    pub(crate) target: SubscriptionTarget,
}

impl Config {
    /// The routes, in the order in which they are written.
    pub(crate) fn ways(&self) -> Result<Vec<Way>, ConfigError> {
        let mut ways: Vec<Way> = Vec::with_capacity(self.routes.len());
        for (route, number) in self.routes.iter().zip(1..) {
            let fault = |fault: String| ConfigError::Value {
                key: "routes",
                fault: format!("number {number} {fault}"),
            };
            let way = route.way(self).map_err(fault)?;
            if let Some(same) = ways.iter().position(|known| known.id == way.id) {
                return Err(fault(format!("is the same as number {}", same + 1)));
            }
            ways.push(way);
        }
        Ok(ways)
    }
}

impl Route {
    fn way(&self, config: &Config) -> Result<Way, String> {
        let from = Bytes::copy_from_slice(self.from.as_bytes());
        let source = mqtt::decode_source(&from, message::LEVELS_MAX);
        let filter = match source {
            Ok(Source::Topic { filter }) if filter.is_reserved() => {
                return Err(format!(
                    "has from = {:?}, where nobody publishes: what begins with $SYS is told to MQTT subscribers only, but for $SYS/broker/connection/NAME/state",
                    self.from
                ));
            }
            Ok(Source::Topic { filter }) => filter,
            Ok(_) => return Err(format!("has from = {:?}, which is no topic", self.from)),
            Err(error) => return Err(format!("has from = {:?}: {error}", self.from)),
        };
        let first = config.auth.vhosts.first().map_or("/", String::as_str);
        let vhost = self.vhost.as_deref().unwrap_or(first);
        if !config.auth.vhosts.iter().any(|known| known == vhost) {
            return Err(format!(
                "has vhost = {vhost:?}, which is not in auth.vhosts"
            ));
        }
        let (kind, name) = self.to.split_once(':').unwrap_or_default();
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(format!(
                "has to = {:?}, which is neither \"queue:NAME\" nor \"stream:NAME\"",
                self.to
            ));
        }
        let name = Bytes::copy_from_slice(name.as_bytes());
        let target = match kind {
            "queue" if self.key.is_some() => {
                return Err("has a key, which only streams have".to_owned());
            }
            "queue" => {
                broker::check_queue_name(&name)
                    .map_err(|refusal| format!("has to = {:?}: {refusal}", self.to))?;
                SubscriptionTarget::Queue { vhost: None, name }
            }
            "stream" => SubscriptionTarget::Stream {
                name,
                key: self.key.clone().unwrap_or_default().into(),
            },
            _ => {
                return Err(format!(
                    "has to = {:?}, which is neither \"queue:NAME\" nor \"stream:NAME\"",
                    self.to
                ));
            }
        };
        if let Some(key) = &self.key {
            check_key(key, wildcards(&filter))?;
        }
        Ok(Way {
            id: self.id(vhost),
            vhost: vhost.to_owned(),
            filter,
            target,
        })
    }

    fn id(&self, vhost: &str) -> SubscriptionId {
        let mut hash = Md5::new();
        let key = self.key.as_deref().unwrap_or_default();
        for part in ["bascule route", vhost, &self.from, &self.to, key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        SubscriptionId(hash.finalize().into())
    }
}

fn wildcards(filter: &Filter) -> usize {
    match filter {
        Filter::Pattern(pattern) => pattern
            .0
            .iter()
            .filter(|level| !matches!(level, FilterLevel::Exact(_)))
            .count(),
        _ => 0,
    }
}

/// Whether all that is in braces stands for something.
fn check_key(key: &str, wildcards: usize) -> Result<(), String> {
    if key.is_empty() {
        return Err("has an empty key".to_owned());
    }
    let mut rest = key;
    while let Some(at) = rest.find(['{', '}']) {
        let number = rest[at..].strip_prefix('{').and_then(|rest| {
            let (number, rest) = rest.split_once('}')?;
            let plain = number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
            Some((number.parse::<usize>().ok().filter(|_| plain)?, rest))
        });
        let Some((number, behind)) = number else {
            return Err(not_a_key(key));
        };
        if number > wildcards {
            return Err(format!(
                "has key = {key:?}, but from has {wildcards} wildcards, not {number}"
            ));
        }
        rest = behind;
    }
    Ok(())
}

fn not_a_key(key: &str) -> String {
    format!(
        "has key = {key:?}; {{0}} for the topic, and {{1}}, {{2}} and so on for what the wildcards matched, are what can be put in"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Sources;

    fn ways(routes: &str) -> Result<Vec<Way>, String> {
        let sources = Sources {
            set: vec![format!("routes=[{routes}]")],
            ..Sources::default()
        };
        let config = Config::load(&sources).map_err(|error| error.to_string())?;
        config.ways().map_err(|error| error.to_string())
    }

    #[test]
    fn routes_lead_to_queues_and_streams() {
        let ways = ways(
            "{from='sensors/+/temp',to='stream:telemetry',key='{1}'},{from='jobs/#',to='queue:a:b'},
             {from='$SYS/broker/connection/+/state',to='queue:bridges'}",
        )
        .expect("right");
        assert_eq!(ways.len(), 3);
        assert_ne!(ways[0].id, ways[1].id);
        assert_eq!(ways[1].vhost, "/");
        assert_eq!(
            ways[1].target,
            SubscriptionTarget::Queue {
                vhost: None,
                name: "a:b".into()
            }
        );
        assert_eq!(
            ways[0].target,
            SubscriptionTarget::Stream {
                name: "telemetry".into(),
                key: "{1}".into()
            }
        );
    }

    #[test]
    fn what_a_route_says_is_its_number() {
        let number = |route: &str| ways(route).expect("right")[0].id;
        let one = number("{from='a',to='stream:s',key='k'}");
        assert_eq!(one, number("{from='a',to='stream:s',key='k',vhost='/'}"));
        for other in [
            "{from='b',to='stream:s',key='k'}",
            "{from='a',to='stream:t',key='k'}",
            "{from='a',to='stream:s',key='l'}",
            "{from='a',to='stream:s'}",
        ] {
            assert_ne!(one, number(other), "{other}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_route_is_said() {
        for (routes, said) in [
            (
                "{from='a/#/b',to='queue:q'}",
                "number 1 has from = \"a/#/b\": a wildcard must stand alone",
            ),
            ("{to='queue:q'}", "topic filter is empty"),
            ("{from='$queue/q',to='queue:q'}", "which is no topic"),
            ("{from='$share/g/a',to='queue:q'}", "which is no topic"),
            ("{from='$SYS/#',to='queue:q'}", "where nobody publishes"),
            (
                "{from='$SYS/broker/uptime',to='queue:q'}",
                "where nobody publishes",
            ),
            ("{from='$topic/a',to='queue:q'}", "where nobody publishes"),
            ("{from='a',to='queue:amq.x'}", "the reserved prefix 'amq.'"),
            ("{from='a',to='queue:$topic/x'}", "cannot name a queue"),
            (
                "{from='a',to='q'}",
                "neither \"queue:NAME\" nor \"stream:NAME\"",
            ),
            (
                "{from='a',to='topic:q'}",
                "neither \"queue:NAME\" nor \"stream:NAME\"",
            ),
            (
                "{from='a',to='queue:'}",
                "neither \"queue:NAME\" nor \"stream:NAME\"",
            ),
            (
                "{from='a',to='queue:q',key='k'}",
                "a key, which only streams have",
            ),
            ("{from='a',to='stream:q',key=''}", "an empty key"),
            (
                "{from='a/+',to='stream:q',key='{2}'}",
                "but from has 1 wildcards, not 2",
            ),
            (
                "{from='a',to='stream:q',key='{a}'}",
                "key = \"{a}\"; {0} for the topic, and {1}, {2} and so on",
            ),
            ("{from='a',to='stream:q',key='{+0}'}", "{0} for the topic"),
            ("{from='a',to='stream:q',key='{0'}", "{0} for the topic"),
            ("{from='a',to='stream:q',key='}{0}'}", "{0} for the topic"),
            ("{from='a',to='stream:q',key='{0}}'}", "{0} for the topic"),
            (
                "{from='a',to='queue:q',vhost='x'}",
                "vhost = \"x\", which is not in auth.vhosts",
            ),
            (
                "{from='a',to='queue:q'},{from='a',to='queue:q'}",
                "number 2 is the same as number 1",
            ),
            ("{from='a',too='queue:q'}", "unknown key routes[0].too"),
        ] {
            let error = ways(routes).expect_err(routes);
            assert!(error.contains(said), "{routes}: {error}");
        }
    }
}
