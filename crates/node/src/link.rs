//! A connection's way in and out of the node.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use broker::Broker;
use message::Message;
use session::{
    Authenticate, Command, Event, Link, Operation, Publish, PublishAll, Refusal, RefusalKind,
    SessionId, Submitted, UseReceipts,
};

use crate::{
    heads::Heads,
    node::Shared,
    outbox::Outbox,
    step::{Step, each_message},
};

/// Commands taken in one hold of the lock.
const COMMANDS_MAX: usize = 256;
/// Deliveries that no queue knows of, and that the publishes of one call may cause before those whom they are for have their
/// turn.
const DIRECT_MAX: usize = 4096;

/// See the module.
pub(crate) struct NodeLink {
    id: SessionId,
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    detached: AtomicBool,
    /// Nothing of what it published last was stored: heads are encoded only when they are asked for.
    stores_nothing: AtomicBool,
}

/// What the connections of a thread lend each other while they submit, so that an idle one holds none.
#[derive(Default)]
struct Scratch {
    heads: Heads,
    wakers: Vec<Waker>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl NodeLink {
    pub(crate) fn new(id: SessionId, shared: Arc<Shared>, outbox: Arc<Outbox>) -> Self {
        Self {
            id,
            shared,
            outbox,
            detached: AtomicBool::new(false),
            stores_nothing: AtomicBool::new(false),
        }
    }

    /// Takes up to [`COMMANDS_MAX`] commands in one hold of the lock. `true`: call again.
    fn take(
        &self,
        commands: &mut VecDeque<Command>,
        left: &mut VecDeque<Command>,
        scratch: &mut Scratch,
        direct: &mut usize,
    ) -> bool {
        scratch.heads.clear();
        if !self.stores_nothing.load(Ordering::Relaxed) {
            for command in commands.iter().take(COMMANDS_MAX) {
                encode_heads(command, &mut scratch.heads);
            }
        }
        if self.shared.reads_bodies.load(Ordering::Relaxed) {
            for command in commands.iter().take(COMMANDS_MAX) {
                each_message(command, |message| scratch.heads.add_body(message));
            }
        }
        let mut verify = Vec::new();
        let shared = &*self.shared;
        let mut core = shared.core();
        core.now = shared.clock.now();
        let mut step = Step::begin(
            &shared.journal,
            &scratch.heads,
            std::mem::take(&mut scratch.wakers),
            Some(self.id),
            Some(&self.outbox),
        );
        let may_all = core.may_all(self.id);
        // Bodies that were read are found by their commands.
        let gathers = may_all && !scratch.heads.has_bodies();
        let mut taken = 0;
        // Those at the front that the core has had: commands are large, so they stay where they are until all are done.
        let mut done = 0;
        // Those in front of this one are taken one by one.
        let mut single = 0;
        while taken < COMMANDS_MAX
            && *direct + step.direct < DIRECT_MAX
            && let Some(command) = commands.get(done)
        {
            if let Command::Publish(publish) = command
                && gathers
                && done >= single
                && Broker::may_come_together(publish)
                && left.is_empty()
                && step.stage.room()
            {
                let next = commands.range(done..).take(COMMANDS_MAX - taken);
                let count = publishes_together(next, step.stage.batch_len_max());
                let publishes = commands.range(done..done + count).filter_map(publish_of);
                let at_once = match count > 1 {
                    true => core.publishes(&mut step, self.id, publishes),
                    false => 0,
                };
                if at_once > 0 {
                    taken += at_once;
                    done += at_once;
                    continue;
                }
                single = done + count;
            }
            taken += match command {
                Command::PublishAll(all) => all.publishes.len().max(1),
                _ => 1,
            };
            let behind = !left.is_empty();
            let leaves = command.may_be_left() && (behind || !step.stage.room())
                || behind && keeps_order(command);
            if !leaves && !matches!(command, Command::Authenticate(_)) {
                core.command(&mut step, self.id, may_all, command);
                done += 1;
                continue;
            }
            commands.drain(..done);
            single = single.saturating_sub(done + 1);
            done = 0;
            match commands.pop_front() {
                Some(Command::Authenticate(authenticate)) if !leaves => verify.push(authenticate),
                command => left.extend(command),
            }
        }
        let more = core.deliver(&mut step);
        if !left.is_empty() {
            self.outbox.left();
            step.stage.on_room(Waker::from(Arc::clone(&self.outbox)));
        }
        *direct += step.direct;
        scratch.wakers = shared.finish(core, step);
        commands.drain(..done);
        if scratch.heads.was_asked() || !scratch.heads.is_empty() {
            let stores_nothing = !scratch.heads.was_asked();
            self.stores_nothing.store(stores_nothing, Ordering::Relaxed);
        }
        wake_all(&mut scratch.wakers);
        for authenticate in verify {
            self.verify(authenticate);
        }
        more || !commands.is_empty()
    }

    fn verify(&self, authenticate: Box<Authenticate>) {
        let token = authenticate.token;
        if !self.shared.verify(self.id, authenticate) {
            let refusal = Refusal::new(RefusalKind::QuotaExceeded, "too many logins at a time");
            self.shared.tell(self.id, Event::Refused { token, refusal });
        }
    }
}

impl Link for NodeLink {
    fn id(&self) -> SessionId {
        self.id
    }

    fn submit(&self, commands: &mut VecDeque<Command>) -> Submitted {
        if self.outbox.takes_no_more() {
            // There will be no room for them, and the goodbye must not wait for it.
            commands.clear();
            return Submitted::All;
        }
        let mut left = VecDeque::new();
        let mut scratch = SCRATCH.take();
        let mut direct = 0;
        while self.take(commands, &mut left, &mut scratch, &mut direct) {
            // What is always taken is taken here too.
            if direct >= DIRECT_MAX {
                if commands.iter().all(Command::may_be_left) && !commands.is_empty() {
                    self.outbox.left();
                    break;
                }
                direct = 0;
            }
        }
        scratch.heads.trim();
        SCRATCH.set(scratch);
        left.append(commands);
        if left.is_empty() {
            return Submitted::All;
        }
        *commands = left;
        Submitted::Left
    }

    fn poll_events(&self, cx: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<()> {
        let journal = &self.shared.journal;
        // A node that was frozen may have a successor: it shows nothing to anyone before its lease is renewed.
        if self.shared.lease_is_over() {
            journal.on_renewal(self.id.0, cx.waker().clone());
            if self.shared.lease_is_over() && self.outbox.await_goodbye(cx.waker()) {
                return Poll::Pending;
            }
        }
        self.outbox.poll(
            cx,
            || journal.committed(),
            || {
                let mut stage = journal.stage_of(self.id.0);
                let room = stage.room();
                // Somebody else may have taken the room that this connection was woken for: the next commit wakes it again.
                if !room && journal.failure().is_none() {
                    stage.on_room(Waker::from(Arc::clone(&self.outbox)));
                }
                room
            },
            &self.shared.stored,
            events,
        )
    }

    fn drained(&self) {
        let bytes = self.outbox.drained();
        if bytes > 0 {
            self.shared.stepped_by(Some(self.id), |core, step| {
                core.broker.returned_room(self.id, bytes);
                core.deliver(step)
            });
        }
    }

    fn detach(&self) {
        if self.detached.swap(true, Ordering::AcqRel) {
            return;
        }
        self.outbox.close();
        self.shared.journal.forget_renewal(self.id.0);
        self.shared.journal.forget_owner(self.id.0);
        self.shared.forget_logins(self.id);
        self.shared.stepped(|core, step| {
            let id = self.id;
            if core
                .connections
                .remove(&id)
                .is_some_and(|connection| connection.principal.is_some())
            {
                core.decided(step, |broker, cx, out| broker.decide_detach(id, cx, out));
            }
            core.deliver(step)
        });
    }
}

impl Drop for NodeLink {
    fn drop(&mut self) {
        self.detach();
    }
}

pub(crate) fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        waker.wake();
    }
}

/// What must not overtake commands of its connection that were left: it speaks of what came before it.
const fn keeps_order(command: &Command) -> bool {
    matches!(
        command,
        Command::Fence { .. }
            | Command::Cancel { .. }
            | Command::Unsubscribe { .. }
            | Command::CloseClient { .. }
    )
}

/// How many of these commands, from the first on, are publishes that may be decided together: no more than one command may bring,
/// and than a batch of `batch_len_max` bytes takes.
fn publishes_together<'a>(
    commands: impl Iterator<Item = &'a Command>,
    batch_len_max: usize,
) -> usize {
    let mut left = PublishAll::LEN_MAX.min(batch_len_max);
    let publishes = commands
        .take(PublishAll::PUBLISHES_MAX)
        .take_while(|command| {
            let Command::Publish(publish) = command else {
                return false;
            };
            let fits = left.checked_sub(publish.message_len());
            left = fits.unwrap_or(0);
            fits.is_some() && Broker::may_come_together(publish)
        });
    publishes.count()
}

const fn publish_of(command: &Command) -> Option<&Publish> {
    match command {
        Command::Publish(publish) => Some(publish),
        _ => None,
    }
}

/// Encodes the heads of messages that will probably be journaled; the others are encoded if they turn out to be.
fn encode_heads(command: &Command, heads: &mut Heads) {
    match command {
        Command::Publish(publish) if publish.token.is_some() => heads.add(&publish.message),
        Command::PublishAll(all) => {
            all.publishes
                .iter()
                .for_each(|publish| heads.add(&publish.message));
        }
        Command::Transact(transact) => {
            for operation in &transact.operations {
                if let Operation::Publish(publish) = operation {
                    heads.add(&publish.message);
                }
            }
        }
        _ => {}
    }
}

/// The longest head that is taken, in bytes: a record must fit a batch, and doors allow longer packets.
const HEAD_LEN_MAX: usize = 256 * 1024;

fn too_many() -> Refusal {
    let why = "more in one command than one may bring";
    Refusal::new(RefusalKind::TooLarge, why)
}

/// Whether a command is not too long, and the heads of its messages can be journaled.
pub(crate) fn measured(command: &Command) -> Result<(), Refusal> {
    let measure = |message: &Message| {
        if message::head_len_bound(message) <= HEAD_LEN_MAX {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalKind::TooLarge,
            "the properties of the message are longer than 256 KiB",
        ))
    };
    match command {
        Command::Publish(publish) => measure(&publish.message),
        Command::PublishAll(all) if !all.is_within_bounds() => Err(too_many()),
        Command::UseReceipts(all) if all.uses.len() > UseReceipts::USES_MAX => Err(too_many()),
        Command::PublishAll(all) => all
            .publishes
            .iter()
            .try_for_each(|publish| measure(&publish.message)),
        Command::Transact(transact) => {
            transact
                .operations
                .iter()
                .try_for_each(|operation| match operation {
                    Operation::Publish(publish) => measure(&publish.message),
                    Operation::Settle(_) => Ok(()),
                })
        }
        Command::OpenClient(open) => open
            .will
            .as_ref()
            .map_or(Ok(()), |will| measure(&will.message)),
        _ => Ok(()),
    }
}
