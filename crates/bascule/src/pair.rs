//! The pair as this process shows it: where its doors are for clients of the other node, what it knows, and that as metrics.

use std::{fmt::Write as _, net::IpAddr};

use net::Listener;
use session::{Active, Cluster, JournalView, Role};

use crate::config::{Config, Place};

/// Where the doors of this node are, as clients of the other one are told: `host:port` for each listener that is open.
///
/// The host is `pair.advertise`; without that it is what the configuration listens on, the machine's own name where that is
/// every address. Of several places the first counts that others can reach.
pub(crate) fn addresses(config: &Config, listeners: &[Listener]) -> Active {
    let mut active = Active::default();
    for (name, endpoint) in config.listeners.by_name() {
        let bound = listeners.iter().find(|listener| listener.name() == name);
        let reachable = |place: &&Place| !is_loopback(place);
        let places = &endpoint.0;
        let place = places.iter().find(reachable).or_else(|| places.first());
        let (Some(bound), Some(place)) = (bound, place) else {
            continue;
        };
        let (host, port) = match place {
            Place::Loopback(port) => ("localhost".to_owned(), *port),
            Place::Named(host, port) => (host.clone(), *port),
            Place::At(address) if address.ip().is_unspecified() => (own_name(), address.port()),
            Place::At(address) => (address.ip().to_string(), address.port()),
        };
        let advertised = &config.pair.advertise;
        let host = if advertised.is_empty() {
            &host
        } else {
            advertised
        };
        // Port 0 was the system's choice.
        let port = if port == 0 {
            bound.address().port()
        } else {
            port
        };
        let address = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        active.addresses.push((name.into(), address.into()));
    }
    active
}

fn is_loopback(place: &Place) -> bool {
    match place {
        Place::Loopback(_) => true,
        Place::At(address) => address.ip().is_loopback(),
        Place::Named(..) => false,
    }
}

/// The machine's own name, by which the other one knows it.
fn own_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Appends what is known of the pair in the Prometheus text format. The lags have the label `standby` with the node's number: the standby's
/// own, or those that the active one sees.
pub(crate) fn write_metrics(cluster: &Cluster, text: &mut String) {
    family(text, "role", "gauge", "1 for what this node is.");
    for role in Role::ALL {
        let is = u64::from(role == cluster.role);
        sample(text, "role", &[("role", role.as_str())], is as f64);
    }
    family(
        text,
        "epoch",
        "gauge",
        "The newest epoch of the journal that this node knows of.",
    );
    sample(text, "epoch", &[], cluster.epoch as f64);
    let own = cluster.lag.map(|lag| (&*cluster.node, lag.batches));
    let seen = cluster
        .standbys
        .iter()
        .map(|standby| (&*standby.node, standby.lag_batches));
    family(
        text,
        "standby_lag_batches",
        "gauge",
        "Committed batches that a standby has not applied.",
    );
    for (node, batches) in own.into_iter().chain(seen) {
        sample(
            text,
            "standby_lag_batches",
            &[("standby", node)],
            batches as f64,
        );
    }
    if let Some(lag) = cluster.lag {
        let labels = [("standby", &*cluster.node)];
        let help = "Their bytes, as the standby itself knows.";
        family(text, "standby_lag_bytes", "gauge", help);
        sample(text, "standby_lag_bytes", &labels, lag.bytes as f64);
        let help = "For how long it has been behind.";
        family(text, "standby_lag_seconds", "gauge", help);
        let seconds = lag.ms as f64 / 1e3;
        sample(text, "standby_lag_seconds", &labels, seconds);
    }
    family(
        text,
        "standby_can_take_over",
        "gauge",
        "1 for a standby that is ready to take over, as the active node sees it.",
    );
    for standby in &cluster.standbys {
        let labels = [("standby", &*standby.node)];
        let can = u64::from(standby.can_take_over);
        sample(text, "standby_can_take_over", &labels, can as f64);
    }
    family(
        text,
        "clock_ahead_seconds",
        "gauge",
        "How far the machine's clock is ahead of the broker's time; negative: behind.",
    );
    let seconds = cluster.clock_ahead_ms as f64 / 1e3;
    sample(text, "clock_ahead_seconds", &[], seconds);
    family(
        text,
        "takeovers_total",
        "counter",
        "Takeovers by this process.",
    );
    sample(text, "takeovers_total", &[], cluster.takeovers as f64);
    family(
        text,
        "takeover_seconds",
        "gauge",
        "How long each phase of the last takeover took.",
    );
    for (phase, us) in cluster.last_takeover.iter().flat_map(|it| it.phases()) {
        sample(
            text,
            "takeover_seconds",
            &[("phase", phase)],
            us as f64 / 1e6,
        );
    }
    write_journal(&cluster.journal, text);
}

/// Appends how the journal is.
fn write_journal(journal: &JournalView, text: &mut String) {
    let rows = [
        (
            "journal_given_up",
            "gauge",
            "Places of the journal that operators gave up.",
            journal.losses,
        ),
        (
            "journal_passed_over_records",
            "gauge",
            "Records that were passed over because they rest on what was given up.",
            journal.passed_over,
        ),
        (
            "journal_damage_total",
            "counter",
            "Places of the journal that were found damaged since the start.",
            journal.damages,
        ),
        (
            "journal_repaired_records_total",
            "counter",
            "Records that were copied forward out of what is damaged.",
            journal.repaired,
        ),
        (
            "journal_scrubbed_bytes_total",
            "counter",
            "Bytes of the journal that were read again to find damage.",
            journal.scrubbed_bytes,
        ),
        (
            "journal_scrub_passes_total",
            "counter",
            "How often all of the journal was read again.",
            journal.scrub_passes,
        ),
    ];
    for (name, kind, help, value) in rows {
        family(text, name, kind, help);
        sample(text, name, &[], value as f64);
    }
    if let Some(disk) = journal.disk {
        let help = "Free on the disk that the journal lies on.";
        family(text, "disk_free_bytes", "gauge", help);
        sample(text, "disk_free_bytes", &[], disk.free_bytes as f64);
        if let Some(low) = disk.low {
            let help = "1 while that is so little that publishes are refused.";
            family(text, "disk_low", "gauge", help);
            sample(text, "disk_low", &[], f64::from(u8::from(low)));
        }
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(
        text,
        "# HELP bascule_{name} {help}\n# TYPE bascule_{name} {kind}"
    )
    .expect("writing to a string succeeds");
}

/// The values of labels are numbers and words of ours, which need no escapes.
fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    writeln!(text, "bascule_{name}{labels} {value}").expect("writing to a string succeeds");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use message::Timestamp;
    use session::{DiskView, Lag, StandbyView, Takeover};

    use super::*;
    use crate::cli::Sources;

    fn told(set: &[&str]) -> Vec<(String, String)> {
        let sources = Sources {
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            ..Sources::default()
        };
        let mut config = Config::load(&sources).expect("right");
        let bind = |name| Listener::bind(name, "127.0.0.1:0").expect("a free port");
        let listeners = [bind("mqtt"), bind("http")];
        // Only what is bound is told.
        config.listeners.amqp.0.clear();
        let active = addresses(&config, &listeners);
        let bound = listeners[0].address().port().to_string();
        active
            .addresses
            .iter()
            .map(|(name, at)| (name.to_string(), at.replace(&bound, "PORT")))
            .collect()
    }

    fn mqtt(set: &[&str]) -> String {
        let told = told(set);
        assert_eq!(told.len(), 2, "{told:?}");
        told[0].1.clone()
    }

    #[tokio::test]
    async fn the_doors_are_where_they_are_reached() {
        assert_eq!(mqtt(&["listeners.mqtt=127.0.0.1:0"]), "127.0.0.1:PORT");
        assert_eq!(mqtt(&["listeners.mqtt=localhost:1883"]), "localhost:1883");
        assert_eq!(
            mqtt(&["listeners.mqtt=['localhost:1883','[2001:db8::7]:1884']"]),
            "[2001:db8::7]:1884"
        );
        assert_eq!(mqtt(&["listeners.mqtt=a.example:1883"]), "a.example:1883");
        assert_eq!(
            mqtt(&["listeners.mqtt=0.0.0.0:1883"]),
            format!("{}:1883", own_name())
        );
        assert_eq!(
            mqtt(&["listeners.mqtt=0.0.0.0:1883", "pair.advertise=b.example"]),
            "b.example:1883"
        );
        assert_eq!(
            mqtt(&["listeners.mqtt=[::]:1883", "pair.advertise=2001:db8::1"]),
            "[2001:db8::1]:1883"
        );
    }

    #[test]
    fn metrics_of_either_node() {
        let mut cluster = Cluster {
            role: Role::Standby,
            node: "aa".to_owned(),
            epoch: 7,
            committed: 1,
            lag: Some(Lag {
                batches: 2,
                bytes: 8192,
                ms: 1500,
            }),
            active: None,
            standbys: Vec::new(),
            clock_ahead_ms: -2_500,
            takeovers: 1,
            last_takeover: Some(Takeover {
                at: Timestamp(1),
                reason: String::new(),
                detect_us: 1_500_000,
                fence_us: 2,
                tail_us: 3,
                publish_us: 4,
                activate_us: 5,
            }),
            journal: JournalView {
                losses: 2,
                passed_over: 6,
                damages: 3,
                repaired: 4,
                scrubbed_bytes: 5,
                disk: Some(DiskView {
                    free_bytes: 4096,
                    low: Some(true),
                }),
                ..JournalView::default()
            },
        };
        let mut text = String::new();
        write_metrics(&cluster, &mut text);
        for line in [
            "bascule_role{role=\"standby\"} 1",
            "bascule_role{role=\"active\"} 0",
            "bascule_epoch 7",
            "bascule_standby_lag_batches{standby=\"aa\"} 2",
            "bascule_standby_lag_bytes{standby=\"aa\"} 8192",
            "bascule_standby_lag_seconds{standby=\"aa\"} 1.5",
            "bascule_clock_ahead_seconds -2.5",
            "bascule_takeovers_total 1",
            "bascule_takeover_seconds{phase=\"detect\"} 1.5",
            "bascule_takeover_seconds{phase=\"fence\"} 0.000002",
            "bascule_journal_given_up 2",
            "bascule_journal_passed_over_records 6",
            "bascule_journal_damage_total 3",
            "bascule_journal_repaired_records_total 4",
            "bascule_journal_scrubbed_bytes_total 5",
            "bascule_disk_free_bytes 4096",
            "bascule_disk_low 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        cluster.role = Role::Active;
        cluster.lag = None;
        cluster.standbys.push(StandbyView {
            node: "bb".to_owned(),
            lag_batches: 9,
            seen_ms_ago: 1,
            addresses: Arc::default(),
            can_take_over: true,
        });
        let mut text = String::new();
        write_metrics(&cluster, &mut text);
        for line in [
            "bascule_role{role=\"active\"} 1",
            "bascule_standby_lag_batches{standby=\"bb\"} 9",
            "bascule_standby_can_take_over{standby=\"bb\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
    }
}
