//! Other users, virtual hosts and rules while connections go on.
//!
//! | what changed | what becomes of a connection |
//! |---|---|
//! | its user's password | nothing: who is in stays in |
//! | its user or virtual host is gone, or no longer open to it, or not from where it is | closed, in its protocol's words |
//! | rules | its next command is judged by the new ones |
//! | a consumer may not read its queue any more, or a queue of its own not what it is bound to | the consumer is cancelled, in its protocol's words |
//! | a subscription of its client session is not allowed any more | it ends, and the connection is closed: there is no word for it |
//! | its will, by rules or because its user may not be there any more | it is dropped |
//!
//! Client sessions that are away lose what they may not have any more too, also when the rules have changed while the node
//! was not running. What was queued for one while it was allowed is delivered.
//!
//! A virtual host that was taken away is closed to everyone, and what is in it stays: given back, it is as it was.
//!
//! Connections are looked at in slices, so that no hold of the lock is long. The users are replaced first: whoever logs in
//! meanwhile is judged by the new ones.

use std::sync::Arc;

use auth::Users;
use broker::{ClientNo, Reading};
use session::{CloseReason, Event, SessionId};

use crate::{
    audit::Closed,
    node::Shared,
    permission::Asker,
    step::{Core, Step},
};

/// Connections looked at in one hold of the lock.
const SLICE: usize = 256;
/// No connection has this number.
const NOBODY: SessionId = SessionId(0);

/// What a reload came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Connections that were closed because their user may not be there any more.
    pub closed: u64,
    /// Connections that lost something that they read.
    pub curtailed: u64,
}

/// See the module.
pub(crate) fn reload(shared: &Shared, users: Arc<Users>) -> Reloaded {
    let mut ids: Vec<SessionId> = Vec::new();
    shared.stepped(|core, step| {
        let vhosts: Vec<&str> = users.vhosts().iter().map(|vhost| &**vhost).collect();
        core.decided(step, |broker, cx, out| {
            broker.decide_vhosts(&vhosts, cx, out)
        });
        core.users = Arc::clone(&users);
        ids = core.connections.keys().copied().collect();
        false
    });
    ids.sort_unstable();
    let mut closed = Vec::new();
    let mut reloaded = Reloaded::default();
    for slice in ids.chunks(SLICE) {
        shared.stepped(|core, step| {
            for id in slice {
                look_again(core, step, &users, *id, &mut reloaded, &mut closed);
            }
            core.deliver(step)
        });
        for closed in closed.drain(..) {
            shared.audit.closed(&closed, shared.clock.now());
        }
    }
    look_at_absent(shared, &users);
    reloaded
}

/// Ends what client sessions that are away may not have under these users.
pub(crate) fn look_at_absent(shared: &Shared, users: &Users) {
    let mut clients = Vec::new();
    shared.stepped(|core, _| {
        clients = core.broker.client_sessions();
        false
    });
    clients.sort_unstable();
    for slice in clients.chunks(SLICE) {
        shared.stepped(|core, step| {
            for client in slice {
                core.curtail_absent(step, users, *client);
            }
            false
        });
    }
}

fn look_again(
    core: &mut Core,
    step: &mut Step<'_, '_>,
    users: &Users,
    id: SessionId,
    reloaded: &mut Reloaded,
    closed: &mut Vec<Closed>,
) {
    let Some(connection) = core.connections.get_mut(&id) else {
        return;
    };
    let Some(principal) = &connection.principal else {
        return;
    };
    let again = users.readmit(
        principal,
        connection.protocol,
        &connection.client,
        &connection.peer,
    );
    match again {
        Ok(again) => {
            // Those whose rights are what they were read what they did.
            let same = again.rights == principal.rights;
            connection.principal = Some(Arc::new(again));
            if !same && core.curtail(step, id) {
                reloaded.curtailed += 1;
            }
        }
        Err(refusal) => {
            closed.push(Closed {
                peer: connection.peer.address,
                protocol: connection.protocol,
                principal: Arc::clone(principal),
                refusal,
            });
            reloaded.closed += 1;
            // Its will would be the word of somebody who may not speak.
            core.decided(step, |broker, cx, out| {
                let may = |reading: Reading<'_>| !matches!(reading, Reading::Will(_));
                broker.decide_revoke(id, &may, cx, out);
            });
            let reason = CloseReason::Administrative;
            core.tell(step, id, Event::Closing { reason });
        }
    }
}

impl Core {
    /// Ends what a connection reads and may not. `true`: there was something.
    fn curtail(&mut self, step: &mut Step<'_, '_>, id: SessionId) -> bool {
        let Some(connection) = self.connections.get(&id) else {
            return false;
        };
        let (Some(principal), vhost) = (connection.principal.clone(), connection.vhost) else {
            return false;
        };
        if principal.rights.is_all() {
            return false;
        }
        let users = Arc::clone(&self.users);
        let mut closes = false;
        let mut ended = false;
        self.decided(step, |broker, cx, out| {
            let asker = Asker {
                session: id,
                vhost,
                principal: &principal,
                broker,
                users: &users,
            };
            closes = broker.decide_revoke(id, &|reading| asker.may_read(reading), cx, out);
            ended = !out.changes.is_empty();
        });
        if closes {
            let reason = CloseReason::Administrative;
            self.tell(step, id, Event::Closing { reason });
        }
        ended
    }

    fn curtail_absent(&mut self, step: &mut Step<'_, '_>, users: &Users, client: ClientNo) {
        let Some((vhost, user, client_id)) = self.broker.away(client) else {
            return;
        };
        let vhost_name = self.broker.vhost_name(vhost);
        let principal = vhost_name.and_then(|name| users.absent(&user, &name, &client_id));
        let Some(principal) = principal.filter(|principal| !principal.rights.is_all()) else {
            return;
        };
        self.decided(step, |broker, cx, out| {
            let asker = Asker {
                session: NOBODY,
                vhost,
                principal: &principal,
                broker,
                users,
            };
            broker.decide_revoke_away(client, &|reading| asker.may_read(reading), cx, out);
        });
    }

    /// A client session was opened: its id may have been made up, and what it resumes may not be allowed any more. The client
    /// is told nothing of that: it subscribes again, or does not care.
    pub(crate) fn opened(&mut self, step: &mut Step<'_, '_>, id: SessionId, asked: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(principal) = connection.principal.clone() else {
            return;
        };
        if principal.rights.is_all() {
            return;
        }
        if asked.is_empty()
            && let Some(client) = self.broker.client_id(id)
        {
            connection.client = Box::from(&client[..]);
            connection.principal = Some(Arc::new(auth::Principal {
                rights: principal.rights.with_client(&client),
                ..(*principal).clone()
            }));
        }
        let (Some(principal), vhost) = (connection.principal.clone(), connection.vhost) else {
            return;
        };
        let users = Arc::clone(&self.users);
        self.decided(step, |broker, cx, out| {
            let asker = Asker {
                session: id,
                vhost,
                principal: &principal,
                broker,
                users: &users,
            };
            broker.decide_revoke(id, &|reading| asker.may_read(reading), cx, out);
        });
    }
}
