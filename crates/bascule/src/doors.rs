//! Which session speaks at which door: the one place that names every protocol.
//!
//! | door | sessions |
//! |---|---|
//! | `mqtt`, `amqp`, `stomp` | the protocol's own |
//! | `aws` | SQS, SNS and Kinesis behind one endpoint, by what a request asks for |
//! | `http` | any of them inside WebSocket: by subprotocol, else by the path, else by the first bytes (DOORS 28) |

use std::sync::Arc;

use aws::{Endpoint, EndpointConfig, Served, Serves};
use bytes::BytesMut;
use message::Timestamp;
use net::{Offer, UpgradeRefusal, Upgraded};
use session::{Close, Event, Kept, Output, Session};
use sns::Signing;
use websocket::{Kind, Protocol, Sniff, WebSocket, choose_subprotocol};

use crate::{config::Config, deliver};

/// Where WebSocket is spoken.
pub(crate) const UPGRADE_PATHS: &[&str] = &["/", "/ws", "/mqtt", "/stomp", "/amqp"];
/// Room for a head beside the longest body in one WebSocket message.
const HEAD_ROOM: usize = 1 << 20;

/// What a record of a stream may be with its text around it: 10 MiB in base64, and as many partition keys as there can be.
const STREAM_REQUEST_LEN_MAX: usize = 15 << 20;
/// The same for a message of a queue or topic, beside thrice its length: percent-encoding makes three bytes of one.
const MESSAGE_ROOM: usize = 256 * 1024;

/// A policy that an earlier program has kept.
pub(crate) fn unreadable(text: &str, fault: &aws::policy::PolicyFault) {
    tracing::warn!(policy = text, %fault, "a resource policy cannot be read: it lets no other account in, and denies nothing");
}

/// The longest request of the AWS doors, in bytes.
pub(crate) fn request_len_max(config: &Config) -> usize {
    message_request_len_max(config).max(STREAM_REQUEST_LEN_MAX)
}

fn message_request_len_max(config: &Config) -> usize {
    config.aws.message_bytes_max as usize * 3 + MESSAGE_ROOM
}

fn aws_endpoint(
    config: &Config,
    seed: [u8; 32],
    signing: &Arc<Signing>,
    kept: Arc<dyn Kept>,
    serves: Serves,
) -> Endpoint {
    let settings = aws::Settings {
        signer: Some(signing.signer()),
        ..config.for_aws()
    };
    let message = message_request_len_max(config);
    let serve = |service, label, body_len_max| Served {
        service,
        label,
        body_len_max,
    };
    Endpoint::new(EndpointConfig {
        services: vec![
            serve(&sqs::SERVICE, "SQS", message),
            serve(&sns::SERVICE, "SNS", message),
            serve(&kinesis::SERVICE, "Kinesis", STREAM_REQUEST_LEN_MAX),
        ],
        keys: config.access_keys(),
        any_user: config.any_user(),
        settings: Arc::new(settings),
        seed,
        kept,
        unreadable,
        version: env!("CARGO_PKG_VERSION"),
        serves,
    })
}

/// Makes sessions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Doors {
    mqtt: Arc<mqtt::Config>,
    amqp: amqp091::Config,
    stomp: Arc<stomp::Config>,
    websocket: websocket::Config,
    aws: Endpoint,
    signing: Arc<Signing>,
    sns_counters: Arc<deliver::Counters>,
    login_timeout_ms: u64,
}

impl Doors {
    /// `seed`: random, and of this process alone. `kept`: what the core keeps for the doors. `serves`: whether this node is the active one.
    pub(crate) fn new(
        config: &Config,
        seed: [u8; 32],
        kept: Arc<dyn Kept>,
        serves: Serves,
    ) -> Self {
        let signing = Arc::default();
        let len_max = config.limits.message_bytes_max as usize + HEAD_ROOM;
        Self {
            mqtt: Arc::new(config.for_mqtt()),
            amqp: config.for_amqp(),
            stomp: Arc::new(config.for_stomp()),
            websocket: websocket::Config {
                message_len_max: len_max,
                frame_len_max: len_max,
                login_len_max: config.limits.login_bytes_max as usize,
            },
            aws: aws_endpoint(config, seed, &signing, kept, serves),
            signing,
            sns_counters: Arc::default(),
            login_timeout_ms: config.limits.login_timeout_ms,
        }
    }

    /// The AWS door.
    pub(crate) const fn aws(&self) -> &Endpoint {
        &self.aws
    }

    /// Signs notifications of SNS.
    pub(crate) const fn signing(&self) -> &Arc<Signing> {
        &self.signing
    }

    /// What delivery to endpoints of SNS counts.
    pub(crate) const fn sns_counters(&self) -> &Arc<deliver::Counters> {
        &self.sns_counters
    }

    /// What the MQTT sessions count.
    pub(crate) fn mqtt_counters(&self) -> &mqtt::Counters {
        &self.mqtt.counters
    }

    /// What the STOMP sessions count.
    pub(crate) fn stomp_counters(&self) -> &stomp::Counters {
        &self.stomp.counters
    }

    /// The session of a connection that was accepted at `now`, through the listener of that name.
    pub(crate) fn open(
        &self,
        protocol: Protocol,
        listener: &'static str,
        now: Timestamp,
    ) -> Spoken {
        match protocol {
            Protocol::Mqtt => {
                let session = mqtt::MqttSession::new(Arc::clone(&self.mqtt), now);
                Spoken::Mqtt(Box::new(session.through(listener)))
            }
            Protocol::Amqp => {
                let session = amqp091::AmqpSession::new(self.amqp.clone());
                Spoken::Amqp(Box::new(session.through(listener)))
            }
            Protocol::Stomp => {
                let session = stomp::StompSession::new(Arc::clone(&self.stomp));
                Spoken::Stomp(Box::new(session.through(listener)))
            }
        }
    }

    /// The session of a WebSocket that was upgraded at `now`.
    pub(crate) fn upgrade(
        &self,
        offer: &Offer<'_>,
        now: Timestamp,
    ) -> Result<Upgraded, UpgradeRefusal> {
        let listener = offer.peer.listener;
        let by_path = match offer.path {
            "/mqtt" => Some(Protocol::Mqtt),
            "/amqp" => Some(Protocol::Amqp),
            "/stomp" => Some(Protocol::Stomp),
            _ => None,
        };
        if let Some(offered) = offer.protocols {
            // RFC 6455, 4.1: a client that names subprotocols and is given none of them fails the connection.
            let chosen = choose_subprotocol(offered).ok_or_else(|| {
                UpgradeRefusal(format!(
                    "none of the subprotocols {offered} is spoken here: mqtt, mqttv3.1, amqp, v12.stomp, v11.stomp, v10.stomp"
                ))
            })?;
            let protocol = chosen.protocol();
            if by_path.is_some_and(|named| named != protocol) {
                return Err(UpgradeRefusal(format!(
                    "{} is not spoken at {}",
                    chosen.as_str(),
                    offer.path
                )));
            }
            return Ok(Upgraded {
                protocol: Some(chosen.as_str()),
                session: self.wrap(self.open(protocol, listener, now), protocol.kind()),
            });
        }
        let session = if let Some(protocol) = by_path {
            self.wrap(self.open(protocol, listener, now), protocol.kind())
        } else {
            let doors = self.clone();
            let sniff = Sniff::new(
                move |protocol| doors.open(protocol, listener, now),
                self.login_timeout_ms,
            );
            self.wrap(sniff, Kind::AsPeer)
        };
        Ok(Upgraded {
            protocol: None,
            session,
        })
    }

    fn wrap(&self, inner: impl Session + Send + 'static, kind: Kind) -> Box<dyn Session + Send> {
        Box::new(WebSocket::new(inner, kind, self.websocket))
    }
}

/// A session of any protocol.
pub(crate) enum Spoken {
    Mqtt(Box<mqtt::MqttSession>),
    Amqp(Box<amqp091::AmqpSession>),
    Stomp(Box<stomp::StompSession>),
}

impl Spoken {
    fn session(&mut self) -> &mut dyn Session {
        match self {
            Self::Mqtt(session) => &mut **session,
            Self::Amqp(session) => &mut **session,
            Self::Stomp(session) => &mut **session,
        }
    }

    fn seen(&self) -> &dyn Session {
        match self {
            Self::Mqtt(session) => &**session,
            Self::Amqp(session) => &**session,
            Self::Stomp(session) => &**session,
        }
    }
}

impl Session for Spoken {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        self.session().handle_bytes(input, now, out)
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        self.session().handle_event(event, now, out)
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        self.session().handle_timeout(now, out)
    }

    fn handle_unread(&mut self, now: Timestamp) {
        self.session().handle_unread(now);
    }

    fn handle_hangup(&mut self, now: Timestamp, out: &mut Output) {
        self.session().handle_hangup(now, out);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.seen().poll_timeout()
    }

    fn wants_bytes(&self) -> bool {
        self.seen().wants_bytes()
    }

    fn flush(&mut self, now: Timestamp, out: &mut Output) {
        self.session().flush(now, out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use net::{Health, Http, Limits, Listener, Origins, Server};
    use session::{Active, Cluster, Link, NotActive, Peer, Port, Refusal, Role, SessionId};

    use super::*;
    use crate::client;

    /// A node that is not the active one.
    struct Standby(Arc<Active>);

    impl Port for Standby {
        fn attach(&self, _: Peer) -> Option<Arc<dyn Link>> {
            let active = Arc::clone(&self.0);
            let find = Arc::new(move || Some(Arc::clone(&active)));
            Some(Arc::new(NotActive::new(SessionId(1), find)))
        }

        fn now(&self) -> Timestamp {
            Timestamp(1_600_000_000_000)
        }
    }

    fn cluster(active: &Arc<Active>) -> Cluster {
        Cluster {
            role: Role::Standby,
            node: "aa".repeat(16),
            epoch: 7,
            committed: 1,
            lag: Some(session::Lag::default()),
            active: Some(Arc::clone(active)),
            standbys: Vec::new(),
            clock_ahead_ms: 0,
            takeovers: 0,
            last_takeover: None,
            journal: session::JournalView::default(),
        }
    }

    fn http(doors: &Doors, active: &Arc<Active>, port: &Arc<Standby>) -> Http {
        let (known, asked) = (Arc::clone(active), Arc::clone(active));
        let (doors, port) = (doors.clone(), Arc::clone(port));
        let operator = admin::Operator {
            cluster: Box::new(move || cluster(&asked)),
            switch_over: Box::new(|| unreachable!("only the active one is asked")),
            is_administrator: Box::new(|_| true),
        };
        Http {
            health: Box::new(move |draining| Health {
                ready: admin::is_ready(&cluster(&known)),
                body: admin::health(&cluster(&known), draining).to_string(),
            }),
            metrics: Box::new(String::new),
            upgrade_paths: UPGRADE_PATHS,
            origins: Origins::Own,
            choose: Box::new(move |offer| doors.upgrade(offer, port.now())),
            api: (admin::PREFIX, Arc::new(admin::Door::new(operator))),
            accept_key: websocket::accept_key,
        }
    }

    /// Opens the doors of a standby. Their addresses, in the order mqtt, amqp, stomp, http, aws.
    fn start() -> Vec<String> {
        let addresses = ["mqtt", "amqp", "stomp", "http", "aws"]
            .map(|name| (name.into(), format!("other.example:{}", name.len()).into()));
        let active = Arc::new(Active {
            addresses: addresses.into(),
        });
        let port = Arc::new(Standby(Arc::clone(&active)));
        let server = Server::new(Arc::clone(&port) as _, Limits::default());
        let serves = Arc::new(|| false);
        let doors = Doors::new(&Config::default(), [7; 32], Arc::new(()), serves);
        let http = Arc::new(http(&doors, &active, &port));
        let mut places = Vec::new();
        for (name, _) in Config::default().listeners.by_name() {
            let listener = Listener::bind(name, "127.0.0.1:0").expect("a free port");
            places.push(listener.address().to_string());
            let (server, doors) = (Arc::clone(&server), doors.clone());
            let protocol = match name {
                "mqtt" => Protocol::Mqtt,
                "amqp" => Protocol::Amqp,
                "stomp" => Protocol::Stomp,
                "aws" => {
                    let aws = Arc::new(doors.aws().clone());
                    tokio::spawn(listener.serve_exchange(server, aws));
                    continue;
                }
                _ => {
                    tokio::spawn(listener.serve_http(server, Arc::clone(&http)));
                    continue;
                }
            };
            let now = port.now();
            tokio::spawn(
                listener.serve(server, move |peer| doors.open(protocol, peer.listener, now)),
            );
        }
        places
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_door_of_a_standby_names_the_same_door_of_the_active_node() {
        let places = start();
        let asked = tokio::task::spawn_blocking(move || {
            let login = |url: String| {
                let error = client::log_in(&url).expect_err("a standby lets nobody in");
                format!("{error:#}")
            };
            let said = [
                login(format!("mqtt://{}/t", places[0])),
                login(format!("amqp://{}/q", places[1])),
                login(format!("stomp://{}/queue/q", places[2])),
            ];
            let node: client::Endpoint = places[3].parse().expect("an endpoint");
            let deadline = Instant::now() + Duration::from_secs(60);
            let ask = |path| node.ask("GET", path, deadline).expect("answered");
            let streams = ask("/api/streams");
            (said, ask("/health/ready"), ask("/api/cluster"), streams)
        });
        let (said, health, cluster, streams) = asked.await.expect("no panic");
        for (said, place) in said.iter().zip([4, 4, 5]) {
            let place = format!("other.example:{place}");
            assert!(said.contains(&place), "{place} in {said}");
        }
        assert_eq!((health.0, &health.1["role"]), (503, &"standby".into()));
        assert_eq!((cluster.0, &cluster.1["epoch"]), (200, &7.into()));
        let refusal = Refusal::not_active(None).naming("http");
        assert_eq!(streams.0, 503);
        assert_eq!(streams.1["active"], "other.example:4");
        assert_eq!(
            streams.1["reason"],
            format!("{}; other.example:4 is", refusal.detail)
        );
    }
}
