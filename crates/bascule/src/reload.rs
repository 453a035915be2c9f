//! SIGHUP: reads the sources again and puts users, virtual hosts, rules, access keys and routes in force, without dropping a
//! connection.
//!
//! What has an error changes nothing and says so in the log. What cannot change while serving is named in the log, at each
//! reload, until a restart takes it up or the file takes it back.

use std::{collections::BTreeSet, sync::Arc};

use node::{Pair, Reloaded};
use tokio::runtime::Handle;
use toml::{Table, Value};

use crate::{cli::Sources, config::Config, routes};

/// What is in force.
pub(crate) struct Running {
    sources: Sources,
    config: Config,
    aws: aws::Endpoint,
}

impl Running {
    pub(crate) fn new(sources: &Sources, config: Config, aws: aws::Endpoint) -> Self {
        Self {
            sources: sources.clone(),
            config,
            aws,
        }
    }

    /// The configuration that is in force.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Takes up what has changed. Blocks for as long as looking at each connection takes. On a standby it counts once that
    /// takes over.
    pub(crate) fn reload(&mut self, pair: &Arc<Pair>) {
        let config = match Config::load(&self.sources) {
            Ok(config) => config,
            Err(error) => {
                return tracing::error!(%error, "the configuration was not reloaded: nothing has changed");
            }
        };
        let users = match pair.users().succeeded_by(&config.auth) {
            Ok(users) => users,
            Err(error) => {
                return tracing::error!(%error, "the configuration was not reloaded: nothing has changed");
            }
        };
        warn_of_passwords(&config);
        for vhost in &self.config.auth.vhosts {
            if !config.auth.vhosts.contains(vhost) {
                tracing::warn!(
                    vhost,
                    "a virtual host was taken away: nobody can use it; what is in it stays"
                );
            }
        }
        let keys = needing_restart(&self.config, &config);
        if !keys.is_empty() {
            tracing::warn!(keys = %keys.join(", "), "changed keys that need a restart");
        }
        let users = Arc::new(users);
        pair.replace_users(&users, &config.auth.vhosts);
        let node = pair.node();
        let reloaded = node
            .as_ref()
            .map_or_else(Reloaded::default, |node| node.reload(users));
        self.aws.replace_keys(config.access_keys());
        self.config.aws.keys.clone_from(&config.aws.keys);
        self.config.auth = auth::Config {
            // The listeners keep the default that they were opened with.
            vhosts: kept_default(&self.config.auth.vhosts, config.auth.vhosts),
            ..config.auth
        };
        self.config.routes = config.routes;
        let mut routes = routes::Changed::default();
        if let Some(node) = &node {
            let put = Handle::current().block_on(routes::put_in_force(node, &self.config));
            routes = put.unwrap_or_else(|error| {
                tracing::error!(error = format!("{error:#}"), "not all routes are in force");
                routes
            });
        }
        let auth = &self.config.auth;
        tracing::info!(
            routes = self.config.routes.len(),
            routes_made = routes.made,
            routes_gone = routes.gone,
            users = auth.users.len(),
            vhosts = auth.vhosts.len(),
            rules = auth.rules.len()
                + auth
                    .users
                    .iter()
                    .map(|user| user.rules.len())
                    .sum::<usize>(),
            connections_closed = reloaded.closed,
            connections_curtailed = reloaded.curtailed,
            "reloaded users, virtual hosts, rules and routes"
        );
    }
}

/// A password in plain text is for trying things.
pub(crate) fn warn_of_passwords(config: &Config) {
    for user in config.auth.plain_passwords() {
        tracing::warn!(
            user,
            "the password stands in the configuration in plain text; `bascule user hash` makes a hash"
        );
    }
}

/// The virtual hosts as they are in force, the first one that of the start.
fn kept_default(before: &[String], now: Vec<String>) -> Vec<String> {
    let first = before.first().into_iter().cloned();
    let rest = now.into_iter();
    let mut seen = BTreeSet::new();
    first
        .chain(rest)
        .filter(|name| seen.insert(name.clone()))
        .collect()
}

/// The keys whose values differ, and do not take effect while serving.
fn needing_restart(before: &Config, now: &Config) -> Vec<String> {
    let table = |config: &Config| {
        let mut table = Table::try_from(config).expect("the settings are TOML");
        table.remove("auth");
        if let Some(Value::Table(aws)) = table.get_mut("aws") {
            aws.remove("keys");
        }
        table.remove("routes");
        table
    };
    let mut keys = Vec::new();
    differing(&table(before), &table(now), "", &mut keys);
    if before.auth.vhosts.first() != now.auth.vhosts.first() {
        keys.push("auth.vhosts (the first one, for clients that name none)".to_owned());
    }
    keys
}

fn differing(before: &Table, now: &Table, prefix: &str, keys: &mut Vec<String>) {
    let all: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for key in all {
        let path = format!("{prefix}{key}");
        match (before.get(key), now.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(now))) => {
                differing(before, now, &format!("{path}."), keys);
            }
            (before, now) if before != now => keys.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named_and_what_does_not_is_not() {
        let before = Config::default();
        let mut now = before.clone();
        assert!(needing_restart(&before, &now).is_empty());
        now.auth.vhosts.push("b".to_owned());
        now.auth.guest = false;
        now.aws.keys.push(crate::config::AccessKey::default());
        now.auth.default = auth::Otherwise::Deny;
        now.routes.push(crate::config::Route::default());
        assert!(needing_restart(&before, &now).is_empty());
        now.limits.connections_max = 7;
        now.threads = 3;
        assert_eq!(
            needing_restart(&before, &now),
            ["limits.connections_max", "threads"]
        );
        now = before.clone();
        now.auth.vhosts = vec!["b".to_owned(), "/".to_owned()];
        assert_eq!(needing_restart(&before, &now).len(), 1);
        let kept = kept_default(&before.auth.vhosts, now.auth.vhosts);
        assert_eq!(kept, ["/", "b"]);
    }
}
