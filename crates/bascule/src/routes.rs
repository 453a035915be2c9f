//! Puts the configured routes in force: as durable subscriptions of the broker itself, and their queues and streams with them.
//!
//! A route's number follows from what it says. So those that are there already stay as they are, those that are not configured any
//! more go, and one that says something else is another one, which comes before the old one goes. A queue or stream that a
//! route no longer leads to stays, with what is in it. Routes of a virtual host that was taken away stay too, as all that is in it.

use std::{
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use message::Name;
use node::Node;
use session::{
    Authenticate, Command, Credentials, Declare, Event, Lane, Link, ListSubscriptions,
    NewSubscription, Peer, Port as _, Refusal, RefusalKind, StreamAttributes, StreamTo, Submitted,
    SubscriptionId, SubscriptionSettings, SubscriptionTarget, SubscriptionTo, Token,
};

use crate::config::{Config, Way};

/// What one answer may take: a disk that hangs must not hang the start without a word.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Routes listed at a time.
const PAGE: u32 = 1000;

/// What changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) made: u64,
    pub(crate) gone: u64,
}

/// See the module.
pub(crate) async fn put_in_force(node: &Arc<Node>, config: &Config) -> anyhow::Result<Changed> {
    let ways = config.ways()?;
    let routed = node.routed_vhosts();
    let mut vhosts: BTreeSet<&str> = ways.iter().map(|way| &*way.vhost).collect();
    let open = |vhost: &&str| config.auth.vhosts.iter().any(|known| known == vhost);
    vhosts.extend(routed.iter().map(|vhost| &**vhost).filter(open));
    let mut changed = Changed::default();
    for vhost in vhosts {
        let mut talk = Talk::begin(node, vhost).await?;
        let there = talk.routes().await?;
        for way in ways.iter().filter(|way| way.vhost == vhost) {
            let words = || format!("failed to put a route into virtual host {vhost:?} in force");
            talk.make_target(way).await.with_context(words)?;
            if !there.contains(&way.id) {
                talk.make(way).await.with_context(words)?;
                changed.made += 1;
            }
        }
        for id in there {
            if !ways.iter().any(|way| way.id == id) {
                let to = Box::new(SubscriptionTo::Delete { id });
                talk.ask(|token| subscription(token, to)).await?;
                changed.gone += 1;
            }
        }
    }
    Ok(changed)
}

const LANE: Lane = Lane(0);

const fn subscription(token: Token, to: Box<SubscriptionTo>) -> Command {
    let lane = LANE;
    Command::Subscription { token, lane, to }
}

/// A connection of the broker itself: one question, one answer.
struct Talk {
    link: Arc<dyn Link>,
    asked: u64,
}

impl Talk {
    async fn begin(node: &Arc<Node>, vhost: &str) -> anyhow::Result<Self> {
        let peer = Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            listener: "routes",
            default_vhost: Arc::from(vhost),
        };
        let link = node.attach(peer).context("the node takes no connections")?;
        let mut talk = Self { link, asked: 0 };
        let vhost = Some(vhost.to_owned());
        talk.ask(|token| {
            Command::Authenticate(Box::new(Authenticate {
                token,
                credentials: Credentials::Broker,
                vhost,
                vhost_fallback: false,
                vhost_in_user: false,
                vhost_follows: false,
                vhost_create: false,
                verified_anywhere: false,
                protocol: "routes",
                client: bytes::Bytes::new(),
            }))
        })
        .await?;
        Ok(talk)
    }

    async fn ask(&mut self, command: impl FnOnce(Token) -> Command) -> anyhow::Result<Event> {
        self.asked += 1;
        let token = Token(self.asked);
        let mut commands = VecDeque::from([command(token)]);
        let answer = async {
            let mut left = self.link.submit(&mut commands) == Submitted::Left;
            loop {
                let mut events = Vec::new();
                poll_fn(|cx| self.link.poll_events(cx, &mut events)).await;
                self.link.drained();
                if left {
                    left = self.link.submit(&mut commands) == Submitted::Left;
                }
                for event in events {
                    match event {
                        Event::Closing { reason } => bail!("the node is ending: {reason:?}"),
                        Event::Refused { refusal, .. } => return Err(anyhow!(refusal)),
                        event if event.token() == Some(token) => return Ok(event),
                        _ => {}
                    }
                }
            }
        };
        let answer = tokio::time::timeout(ANSWER_LIMIT, answer).await;
        answer.context("the node does not answer")?
    }

    /// The numbers of the routes that are there.
    async fn routes(&mut self) -> anyhow::Result<BTreeSet<SubscriptionId>> {
        let mut ids = BTreeSet::new();
        loop {
            let after = ids.last().map(|last| (Name::new(), *last));
            let event = self
                .ask(|token| {
                    Command::ListSubscriptions(Box::new(ListSubscriptions {
                        token,
                        lane: LANE,
                        topic: Some(Name::new()),
                        after,
                        limit: PAGE,
                    }))
                })
                .await?;
            let Event::ListedSubscriptions {
                subscriptions,
                more,
                ..
            } = event
            else {
                bail!("a list was answered by something else");
            };
            ids.extend(subscriptions.iter().map(|subscription| subscription.id));
            if !more {
                return Ok(ids);
            }
        }
    }

    /// A queue or a stream that is there stays as it is.
    async fn make_target(&mut self, way: &Way) -> anyhow::Result<()> {
        let lane = LANE;
        match &way.target {
            SubscriptionTarget::Queue { name, .. } => {
                let declare = Declare::NewQueue {
                    name: name.clone(),
                    unless_deleted_ms: 0,
                    attributes: Box::default(),
                    notes: Vec::new(),
                };
                let made = self.ask(|token| Command::Declare {
                    token,
                    lane,
                    declare,
                });
                let is_there = |error: &anyhow::Error| {
                    error
                        .downcast_ref::<Refusal>()
                        .is_some_and(|refusal| refusal.kind == RefusalKind::Inequivalent)
                };
                if let Err(error) = made.await
                    && !is_there(&error)
                {
                    return Err(error);
                }
            }
            SubscriptionTarget::Stream { name, .. } => {
                let name = name.clone();
                let to = Box::new(StreamTo::Ensure {
                    attributes: StreamAttributes::default(),
                    shards: 1,
                    notes: Vec::new(),
                    bare_name: false,
                });
                self.ask(|token| Command::Stream {
                    token,
                    lane,
                    name,
                    to,
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn make(&mut self, way: &Way) -> anyhow::Result<()> {
        let new = NewSubscription {
            id: way.id,
            topic: None,
            filter: Some(way.filter.clone()),
            target: way.target.clone(),
            settings: SubscriptionSettings {
                raw: true,
                ..SubscriptionSettings::default()
            },
            confirmed: true,
            identity: bytes::Bytes::new(),
            notes: Vec::new(),
        };
        let to = Box::new(SubscriptionTo::Create(Box::new(new)));
        self.ask(|token| subscription(token, to)).await?;
        Ok(())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.link.detach();
    }
}
