//! What a command comes to: reads, changes nothing. Only here are soft state, routing, limits and choices looked at (RULES 2).
//!
//! | file | what |
//! |---|---|
//! | `draft.rs` | a decision in the making, and what it has already promised |
//! | `route.rs` | who gets a message |
//! | `direct.rs` | deliveries that no queue knows of |
//! | `many.rs` | several publishes, or several receipts, in one command |
//! | `publish.rs` | publishes, admission to queues, retained messages |
//! | `dead_letter.rs` | dead-lettering, expiry, drops from full queues |
//! | `declare.rs` | queues, exchanges, bindings |
//! | `inspect.rs` | queues looked at, listed, made with notes, altered |
//! | `lost.rs` | what was lost to damage and given up |
//! | `moves.rs` | tasks that move messages out of a dead-letter queue |
//! | `empty.rs` | queues purged and deleted, in slices |
//! | `topic/` | topic objects, subscriptions, and what passes them |
//! | `subscribe.rs` | consumers, subscriptions, retained replay |
//! | `replay.rs` | retained messages for new subscriptions, in slices |
//! | `settle.rs` | settlements |
//! | `pull.rs` | pulls, and pulls that wait |
//! | `receipt.rs` | settlements by receipt |
//! | `pump.rs` | deliveries |
//! | `revoke.rs` | what a connection may not read any more |
//! | `client.rs` | client sessions, wills, connections that come and go |
//! | `transact.rs` | transactions |
//! | `stream/` | streams, their records, reads |
//! | `tick.rs` | what is due |

mod client;
mod dead_letter;
mod declare;
mod direct;
mod draft;
mod empty;
mod inspect;
mod lost;
mod many;
mod moves;
mod publish;
mod pull;
mod pump;
mod receipt;
mod replay;
mod revoke;
mod route;
mod settle;
mod stream;
mod subscribe;
mod tick;
mod topic;
mod transact;

use std::sync::Arc;

use message::{Message, PolicyBody, VhostId};
use session::{Command, Event, Lane, Refusal, RefusalKind, Secret, SessionId, Token};

use crate::{
    Broker, Context, Decision, OutLane, Wait,
    apply::ROOT_NAME,
    change::{EpochOpen, Kind, Vhosts},
    counters::Tally,
};

use draft::Draft;

pub use declare::check_queue_name;
pub use lost::Lost;
pub use revoke::Reading;
pub(crate) use route::Routed;
pub use route::queue_name;
pub use topic::SubscriptionPlace;

impl Broker {
    /// Decides a command of a connection that has been attached. `Authenticate` is not for the core.
    pub fn decide(&self, from: SessionId, command: &Command, cx: &Context, out: &mut Decision) {
        self.decide_with(from, command, &[], cx, out);
    }

    /// The same, with bodies of its messages that have been read for filter policies.
    pub fn decide_with(
        &self,
        from: SessionId,
        command: &Command,
        bodies: &[(Arc<Message>, PolicyBody)],
        cx: &Context,
        out: &mut Decision,
    ) {
        let mut draft = Draft::new(cx, out);
        draft.bodies = bodies;
        let Some(attached) = self.attached(from) else {
            return;
        };
        match command {
            Command::Authenticate(_) => {}
            Command::OpenClient(open) => self.decide_open(from, open, &mut draft),
            Command::CloseClient {
                publish_will,
                expiry,
            } => self.decide_close(from, *publish_will, *expiry, &mut draft),
            Command::Declare {
                token,
                lane,
                declare,
            } => self.decide_declare(from, *token, *lane, declare, &mut draft),
            Command::Publish(publish) => {
                self.decide_publish((from, attached.client), publish, &mut draft);
            }
            Command::PublishAll(all) => {
                self.decide_publish_all((from, attached.client), all, &mut draft);
            }
            Command::ReleaseInbound { id } => self.decide_release_inbound(from, *id, &mut draft),
            Command::Subscribe(subscribe) => self.decide_subscribe(from, subscribe, &mut draft),
            Command::Cancel {
                token,
                lane,
                consumer,
            } => self.decide_cancel(from, *token, *lane, *consumer, &mut draft),
            Command::Unsubscribe { token, source } => {
                self.decide_unsubscribe(from, *token, source, &mut draft);
            }
            Command::Credit { consumer, credit } => draft.change(Kind::CreditSet {
                session: from,
                consumer: *consumer,
                credit: *credit,
            }),
            Command::GroupWindow { group, window } => {
                // Group 0 never has a window.
                if *group != 0 {
                    draft.change(Kind::GroupWindow {
                        session: from,
                        group: *group,
                        window: *window,
                    });
                }
            }
            Command::GroupFlow { group, active } => draft.change(Kind::GroupFlow {
                session: from,
                group: *group,
                active: *active,
            }),
            Command::Settle(settle) => self.decide_settle(from, settle, &mut draft),
            Command::Pull(pull) => self.decide_pull(from, pull, &mut draft),
            Command::Inspect { token, lane, name } => {
                self.decide_inspect(from, *token, *lane, name, &mut draft);
            }
            Command::List { token, lane, list } => {
                self.decide_list(from, *token, *lane, list, &mut draft);
            }
            Command::CancelPull { token } => self.decide_cancel_pull(from, *token, &mut draft),
            Command::UseReceipt(it) => self.decide_receipt(from, it, &mut draft),
            Command::UseReceipts(all) => self.decide_receipts(from, all, &mut draft),
            Command::CancelRead { token } => self.decide_cancel_read(from, *token, &mut draft),
            Command::ReadStream(it) => self.decide_read(from, it, &mut draft),
            Command::Stream {
                token,
                lane,
                name,
                to,
            } => self.decide_stream(from, (*token, *lane), name, to, &mut draft),
            Command::Topic {
                token,
                lane,
                name,
                to,
            } => self.decide_topic(from, (*token, *lane), name, to, &mut draft),
            Command::Subscription { token, lane, to } => {
                self.decide_subscription(from, (*token, *lane), to, &mut draft);
            }
            Command::ListSubscriptions(it) => self.decide_list_subscriptions(from, it, &mut draft),
            Command::Group {
                token,
                lane,
                stream,
                group,
                to,
            } => self.decide_group(from, (*token, *lane), stream, group, to, &mut draft),
            Command::MoveTask { token, lane, to } => {
                self.decide_move(from, (*token, *lane), to, &mut draft);
            }
            Command::Transact(transact) => self.decide_transact(from, transact, &mut draft),
            Command::Fence { token, lane } => {
                draft.reply(from, *lane, Wait::Durable, Event::Reached { token: *token })
            }
        }
        self.make_room(&mut draft);
    }

    /// The first change of an epoch: ends every connection (RULES 8), and with them the shared queues that nobody durable reads.
    pub fn decide_epoch(&self, epoch: u64, cx: &Context, out: &mut Decision) {
        let mut draft = Draft::new(cx, out);
        draft.change(Kind::EpochOpen(EpochOpen { epoch }));
        for queue in self.soft.shares.values() {
            if !self.soft.sharers.contains_key(queue) {
                self.delete_queue(*queue, &mut draft);
            }
        }
    }

    /// Makes sure that these virtual hosts exist. `/` is always the first and has number 0.
    pub fn decide_vhosts(&self, names: &[&str], cx: &Context, out: &mut Decision) {
        let mut draft = Draft::new(cx, out);
        let mut new: Vec<Arc<str>> = Vec::new();
        for name in std::iter::once(&ROOT_NAME).chain(names) {
            let room = ((self.durable.vhosts.len() + new.len()) as u64) < self.config.vhosts_max;
            if self.vhost(name).is_none() && !new.iter().any(|known| &**known == *name) && room {
                new.push((*name).into());
            }
        }
        let mut first = self.durable.vhosts.len() as u32;
        for names in new.chunks(1000) {
            draft.change(Kind::Vhosts(Vhosts {
                first: Some(VhostId(first)),
                names: names.to_vec(),
            }));
            first += names.len() as u32;
        }
    }

    /// Makes these bytes the store's secret, unless it has one.
    pub fn decide_secret(&self, fresh: Secret, cx: &Context, out: &mut Decision) {
        if self.durable.secret.is_none() {
            Draft::new(cx, out).change(Kind::Secret(fresh));
        }
    }

    /// A refusal. It may rest on durable state, so it waits for that (RULES 3).
    fn refuse(
        &self,
        to: SessionId,
        lane: Lane,
        token: Token,
        refusal: Refusal,
        draft: &mut Draft<'_>,
    ) {
        draft.count(Tally::Refused, 1);
        draft.reply(to, lane, Wait::Durable, Event::Refused { token, refusal });
    }
}

/// A refusal in the core's words.
fn refusal(kind: RefusalKind, detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(kind, detail)
}

/// A name as people read it.
fn shown(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// The lane of what is said about a consumer: a consume-ok precedes the first delivery.
const fn consumer_lane(consumer: session::ConsumerId) -> OutLane {
    OutLane::Consumer(consumer)
}
