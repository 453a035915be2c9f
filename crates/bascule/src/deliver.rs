//! Delivery to endpoints: takes messages out of the queue `$sns`, sends them, and settles them. What is sent, when again and what an
//! outcome means is decided in `sns::deliver`; here are the sockets and the order of things.
//!
//! ```text
//! $sns ─ pull, under a lease ─► look at the subscription ─► its lane ─► attempt ─► delete | later again | dead-letter queue
//!   ▲                                                        │ few at a time, so many a second
//!   └── a lane with too many waiting puts them back ◄────────┘
//! ```
//! Everything that must survive is in the queue: a restart or a takeover loses what is in here, the leases lapse, and it comes
//! again. So everything is sent at least once. One endpoint that is slow or gone fills its own lane and no other.

mod ask;
mod client;
mod counters;
mod lanes;
mod smtp;

use std::{collections::HashMap, sync::Arc, time::Duration};

use message::Address;
use session::{
    Brought, Command, Declare, Delivery, Event, Gate, Lane, Lease, LogRate, Port, Publish,
    PublishOutcome, Pull, Receipt, ReceiptUse, RefusalKind, Secret, SubscriptionInfo,
    SubscriptionTo, Token, TopicInfo, TopicTo, UseReceipt,
};
use sns::{
    DELIVERY_QUEUE, DELIVERY_VHOST, Signing,
    deliver::{
        self, DeadLetter, Dropped, Gone, Known, Needs, Plan, Send, Task, Verdict, dead_message,
        judge,
    },
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

pub(crate) use self::counters::Counters;
use self::{
    ask::{Asker, Lost},
    client::{Client, Sent},
    lanes::{Entry, Lanes},
    smtp::Smtp,
};
use crate::config::{Gateway, Sns};

/// How long a message is ours, beyond twice what an attempt may take. Those that wait in here are ours for longer: see
/// [`Work::renew`]. After a crash it takes so long until a message that was out comes again.
const LEASE_BEYOND: Duration = Duration::from_secs(5);
/// How often leases are looked at, and how many are renewed at once.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Messages in here at a time.
const WINDOW: usize = 1000;
/// Bytes of their bodies.
const WINDOW_BYTES: u64 = 64 << 20;
/// Messages of one pull.
const PULL_MAX: u32 = 100;
/// How long a pull waits for the first.
const PULL_WAIT_MS: u64 = 10_000;
/// How long a message stays away whose lane is full, times how often that has happened, at most a minute.
const PUT_BACK_MS: u64 = 2_000;
const PUT_BACK_MAX_MS: u64 = 60_000;
/// Messages whose put-backs are remembered.
const PUT_BACKS_MAX: usize = 100_000;
/// How long a message stays away whose dead-letter queue has no room.
const NO_ROOM_MS: u64 = 30_000;
/// The pause after something that should not happen.
const PAUSE: Duration = Duration::from_secs(1);

/// What delivers.
pub(crate) struct Deliverer(Arc<Shared>);

impl Deliverer {
    /// Makes the queue and derives the key: whoever subscribes or reads is not to come before them.
    pub(crate) async fn open(
        port: Arc<dyn Port>,
        gate: Option<Arc<dyn Gate>>,
        settings: Sns,
        signing: Arc<Signing>,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Self> {
        let links = Links::open(port).await?;
        let main = links.main().await;
        let (signer, secret) = (signing.signer(), main.secret());
        tokio::task::spawn_blocking(move || signing.open(&secret)).await?;
        let made = main
            .ask(Command::Declare {
                token: Token(0),
                lane: Lane(0),
                declare: Declare::NewQueue {
                    name: DELIVERY_QUEUE.into(),
                    attributes: Box::default(),
                    notes: Vec::new(),
                    unless_deleted_ms: 0,
                },
            })
            .await?;
        match made {
            Event::Refused { refusal, .. } if refusal.kind != RefusalKind::Inequivalent => {
                anyhow::bail!("failed to make the queue {DELIVERY_QUEUE}: {refusal}");
            }
            _ => {}
        }
        Ok(Self(Arc::new(Shared {
            secret,
            signer,
            smtp: Smtp::new(&settings),
            client: Client::new(&settings)?,
            links,
            gate,
            settings,
            counters,
            unasked: LogRate::new(),
        })))
    }

    /// Delivers until the process ends.
    pub(crate) async fn run(self) {
        loop {
            match Work::new(Arc::clone(&self.0)).run().await {
                Ok(()) => return,
                Err(Lost) => {
                    // The node has ended, or has dropped the link; the first is the usual one.
                    sleep(PAUSE).await;
                    if self.0.links.reopen().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The links to the core, one a virtual host: each is a part of the broker, for which no rule holds.
struct Links {
    port: Arc<dyn Port>,
    open: tokio::sync::Mutex<HashMap<Arc<str>, Asker>>,
}

impl Links {
    async fn open(port: Arc<dyn Port>) -> Result<Self, Lost> {
        let links = Self {
            port,
            open: tokio::sync::Mutex::default(),
        };
        links.reopen().await?;
        Ok(links)
    }

    async fn reopen(&self) -> Result<(), Lost> {
        self.open.lock().await.clear();
        // The core always has that one.
        self.to(DELIVERY_VHOST).await?.map(|_| ()).ok_or(Lost)
    }

    /// `None`: there is no such virtual host. Names come from messages, subscriptions and policies that anybody may have made.
    async fn to(&self, vhost: &str) -> Result<Option<Asker>, Lost> {
        let mut open = self.open.lock().await;
        if let Some(asker) = open.get(vhost).filter(|asker| asker.is_open()) {
            return Ok(Some(asker.clone()));
        }
        let asker = Asker::open(&*self.port, vhost).await?;
        if let Some(asker) = &asker {
            open.insert(vhost.into(), asker.clone());
        }
        Ok(asker)
    }

    /// That of the queue.
    async fn main(&self) -> Asker {
        let mut open = self.open.lock().await;
        open.entry(DELIVERY_VHOST.into())
            .or_insert_with(Asker::lost)
            .clone()
    }
}

struct Shared {
    links: Links,
    /// Whether queues take dead letters: the one that the core asks.
    gate: Option<Arc<dyn Gate>>,
    secret: Secret,
    signer: aws::Signer,
    client: Client,
    smtp: Smtp,
    settings: Sns,
    counters: Arc<Counters>,
    /// Lines about endpoints that were not asked to confirm.
    unasked: LogRate,
}

/// A message that has been pulled.
struct Job {
    delivery: Delivery,
    receipt: Receipt,
    bytes: u64,
    leased_until: Instant,
}

/// What has come to an end.
enum Done {
    /// What was pulled, and in which epoch.
    Pulled(Vec<Delivery>, u64),
    /// It is to be sent, like that.
    Planned(Box<(Job, Plan)>),
    /// Nothing is sent, or everything is settled: so many bytes are free.
    Settled(u64),
    /// A message that waits is ours for longer.
    Renewed,
    /// The same as `Settled`, and its lane has room.
    Attempted(String, u64),
}

/// What a task has of the loop's, for when it ends without a word.
enum Has {
    /// The one pull.
    Pull,
    /// A message of so many bytes.
    Message(u64),
    /// The same, and a place in its lane.
    Place(String, u64),
    /// Nothing.
    Nothing,
}

/// One run of the loop.
struct Work {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<Done, Lost>>,
    has: HashMap<Id, Has>,
    lanes: Lanes<(Job, Plan)>,
    /// By sequence number: how often it was put back because its lane was full, for how long it rests then.
    put_backs: HashMap<u64, u32>,
    renew_at: Instant,
    pulling: bool,
    held: usize,
    held_bytes: u64,
}

impl Work {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            renew_at: Instant::now() + RENEW_EVERY,
            lanes: Lanes::new(
                shared.settings.lane_concurrency as usize,
                shared.settings.lane_waiting_max as usize,
            ),
            shared,
            tasks: JoinSet::new(),
            has: HashMap::new(),
            put_backs: HashMap::new(),
            pulling: false,
            held: 0,
            held_bytes: 0,
        }
    }

    async fn run(mut self) -> Result<(), Lost> {
        loop {
            self.pull();
            for (lane, (job, plan)) in self.lanes.due(Instant::now()) {
                let (shared, attempt) = (Arc::clone(&self.shared), job.delivery.count);
                let bytes = job.bytes;
                self.spawn(Has::Place(lane.clone(), bytes), async move {
                    shared.attempt(&job, &plan, attempt).await?;
                    Ok(Done::Attempted(lane, bytes))
                });
            }
            self.shared.counters.held(self.held);
            let next = self.lanes.next_due();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = sleep_until(self.renew_at) => self.renew(),
                ended = self.tasks.join_next_with_id() => match ended {
                    Some(ended) => self.ended(ended)?,
                    None => sleep(PAUSE).await,
                },
            }
        }
    }

    fn spawn(
        &mut self,
        has: Has,
        task: impl Future<Output = Result<Done, Lost>> + std::marker::Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.has.insert(id, has);
    }

    fn ended(&mut self, ended: Result<(Id, Result<Done, Lost>), JoinError>) -> Result<(), Lost> {
        let error = match ended {
            Ok((id, done)) => {
                self.has.remove(&id);
                self.done(done?);
                return Ok(());
            }
            Err(error) => error,
        };
        // A defect of ours in one delivery, which costs no other: its lease lapses, and it comes again.
        tracing::error!(%error, "a delivery to an endpoint failed in an unforeseen way");
        match self.has.remove(&error.id()) {
            // Everything hangs on it: begin anew, after a pause.
            Some(Has::Pull) => return Err(Lost),
            Some(Has::Message(bytes)) => self.settled(bytes),
            Some(Has::Place(lane, bytes)) => self.done(Done::Attempted(lane, bytes)),
            Some(Has::Nothing) | None => {}
        }
        Ok(())
    }

    /// Keeps what waits in here from coming again meanwhile: that would count as an attempt.
    fn renew(&mut self) {
        let now = Instant::now();
        self.renew_at = now + RENEW_EVERY;
        let lease = self.shared.lease();
        let mut receipts = Vec::new();
        for (job, _) in self.lanes.waiting() {
            if job.leased_until.saturating_duration_since(now) > lease / 2 {
                continue;
            }
            job.leased_until = now + lease;
            receipts.push(job.receipt);
        }
        for receipt in receipts {
            let shared = Arc::clone(&self.shared);
            self.spawn(Has::Nothing, async move {
                let ms = lease.as_millis() as u64;
                let to = ReceiptUse::Visibility { ms };
                shared.use_receipt(receipt, to).await.map(|_| Done::Renewed)
            });
        }
    }

    fn pull(&mut self) {
        let room = WINDOW.saturating_sub(self.held);
        let room_bytes = WINDOW_BYTES.saturating_sub(self.held_bytes);
        if self.pulling || room == 0 || room_bytes == 0 {
            return;
        }
        self.pulling = true;
        let shared = Arc::clone(&self.shared);
        let count = PULL_MAX.min(room as u32);
        self.spawn(
            Has::Pull,
            async move { shared.pull(count, room_bytes).await },
        );
    }

    fn settled(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Pulled(deliveries, epoch) => {
                self.pulling = false;
                for delivery in deliveries {
                    let Some(id) = delivery.id else { continue };
                    let job = Job {
                        receipt: Receipt {
                            queue: id.queue,
                            qseq: id.qseq,
                            count: delivery.count,
                            epoch,
                        },
                        bytes: delivery.message.body.len() as u64,
                        leased_until: Instant::now() + self.shared.lease(),
                        delivery,
                    };
                    self.held += 1;
                    self.held_bytes += job.bytes;
                    let shared = Arc::clone(&self.shared);
                    self.spawn(
                        Has::Message(job.bytes),
                        async move { shared.prepare(job).await },
                    );
                }
            }
            Done::Planned(planned) => {
                let (job, plan) = *planned;
                let entry = Entry {
                    lane: plan.lane.clone(),
                    per_second: plan.per_second,
                    item: (job, plan),
                };
                match self.lanes.push(entry) {
                    Ok(()) => {}
                    Err((job, _)) => self.put_back(job),
                }
            }
            Done::Settled(bytes) => self.settled(bytes),
            Done::Renewed => {}
            Done::Attempted(lane, bytes) => {
                self.lanes.ended(&lane);
                self.settled(bytes);
            }
        }
    }

    fn put_back(&mut self, job: Job) {
        if self.put_backs.len() >= PUT_BACKS_MAX {
            // Whoever was forgotten rests as briefly as at first.
            self.put_backs.clear();
        }
        let times = self.put_backs.entry(job.receipt.qseq).or_insert(0);
        *times += 1;
        let ms = (PUT_BACK_MS * u64::from(*times)).min(PUT_BACK_MAX_MS);
        self.shared.counters.put_back();
        let shared = Arc::clone(&self.shared);
        self.spawn(Has::Message(job.bytes), async move {
            shared
                .use_receipt(job.receipt, ReceiptUse::PutBack { ms })
                .await?;
            Ok(Done::Settled(job.bytes))
        });
    }
}

impl Shared {
    /// How long an attempt may take.
    const fn limit(&self) -> Duration {
        Duration::from_millis(self.settings.request_timeout_ms)
    }

    /// How long a message is ours.
    fn lease(&self) -> Duration {
        2 * self.limit() + LEASE_BEYOND
    }

    async fn pull(&self, count: u32, bytes_max: u64) -> Result<Done, Lost> {
        let pull = Pull {
            token: Token(0),
            lane: Lane(0),
            queue: DELIVERY_QUEUE.into(),
            count,
            lease: Lease::Ms(self.lease().as_millis() as u64),
            wait_ms: PULL_WAIT_MS,
            out_max: None,
            bytes_max: Some(bytes_max),
            attempt: None,
        };
        match self.links.main().await.ask(Command::Pull(pull)).await? {
            Event::Pulled {
                deliveries, epoch, ..
            } => Ok(Done::Pulled(deliveries, epoch)),
            Event::Refused { refusal, .. } => {
                tracing::warn!(%refusal, "failed to take messages for endpoints");
                sleep(PAUSE).await;
                Ok(Done::Pulled(Vec::new(), 0))
            }
            _ => Err(Lost),
        }
    }

    /// Settles by receipt. `false`: the message is not ours any more.
    async fn use_receipt(&self, receipt: Receipt, to: ReceiptUse) -> Result<bool, Lost> {
        let command = Command::UseReceipt(UseReceipt {
            token: Token(0),
            lane: Lane(0),
            receipt,
            to,
        });
        let event = self.links.main().await.ask(command).await?;
        Ok(!matches!(event, Event::Refused { .. }))
    }

    async fn inspect(&self, id: session::SubscriptionId) -> Result<Option<SubscriptionInfo>, Lost> {
        let command = Command::Subscription {
            token: Token(0),
            lane: Lane(0),
            to: Box::new(SubscriptionTo::Inspect { id }),
        };
        Ok(match self.links.main().await.ask(command).await? {
            Event::Subscription { subscription, .. } => Some(*subscription),
            _ => None,
        })
    }

    async fn topic(&self, vhost: &str, name: message::Name) -> Result<Option<TopicInfo>, Lost> {
        let Some(link) = self.links.to(vhost).await? else {
            return Ok(None);
        };
        let command = Command::Topic {
            token: Token(0),
            lane: Lane(0),
            name,
            to: Box::new(TopicTo::Inspect),
        };
        Ok(match link.ask(command).await? {
            Event::Topic { topic, .. } => Some(*topic),
            _ => None,
        })
    }

    /// Finds out what is to be sent.
    async fn prepare(&self, job: Job) -> Result<Done, Lost> {
        let planned = match Task::of(&job.delivery, &self.secret) {
            Some(task) => self.plan(&task, &job.delivery).await?,
            None => Err(Dropped::Forged),
        };
        match planned {
            Ok(plan) => Ok(Done::Planned(Box::new((job, plan)))),
            Err(why) => {
                self.counters.dropped(why);
                tracing::debug!(?why, "a message for an endpoint is not sent");
                let done = match why {
                    Dropped::Lapsed(id) => self.lapse(id).await?,
                    _ => true,
                };
                let to = if done {
                    ReceiptUse::Delete
                } else {
                    ReceiptUse::Visibility { ms: NO_ROOM_MS }
                };
                self.use_receipt(job.receipt, to).await?;
                Ok(Done::Settled(job.bytes))
            }
        }
    }

    /// Ends a subscription that nobody has confirmed. `false`: that is to be tried again.
    async fn lapse(&self, id: session::SubscriptionId) -> Result<bool, Lost> {
        let command = |to| Command::Subscription {
            token: Token(0),
            lane: Lane(0),
            to: Box::new(to),
        };
        let Some(found) = self.inspect(id).await?.filter(|found| !found.confirmed) else {
            return Ok(true);
        };
        let Some(link) = self.links.to(&found.vhost).await? else {
            return Ok(true);
        };
        let claimed = link.ask(command(deliver::lapsed(&found))).await?;
        if matches!(claimed, Event::Refused { .. }) {
            return Ok(false);
        }
        link.ask(command(SubscriptionTo::Delete { id })).await?;
        Ok(true)
    }

    async fn plan(&self, task: &Task, delivery: &Delivery) -> Result<Result<Plan, Dropped>, Lost> {
        let (mut subscription, mut topic) = (None, None);
        match task.needs(delivery) {
            Needs::Nothing => {}
            Needs::Subscription(id) => {
                subscription = self.inspect(id).await?;
                if let Some(found) = &subscription
                    && let Some(name) = found.topic.clone()
                {
                    topic = self.topic(&found.vhost, name).await?;
                }
            }
            Needs::Phones(vhost, name) => topic = self.topic(&vhost, name).await?,
        }
        let known = Known {
            subscription: subscription.as_ref(),
            topic: topic.as_ref(),
            secret: self.secret,
            signer: Some(&self.signer),
            mail_from: &self.settings.email_from,
        };
        // A subscription of an endpoint of a platform application: that is looked at too.
        if let Some(through) = &subscription
            && let Some(endpoint) = deliver::pushed_through(through)
        {
            return Ok(match self.inspect(endpoint).await? {
                Some(endpoint) => deliver::plan_push(delivery, through, &endpoint, &known),
                None => Err(Dropped::Gone),
            });
        }
        Ok(task.plan(delivery, &known))
    }

    /// One attempt, and what follows from it.
    async fn attempt(&self, job: &Job, plan: &Plan, attempt: u32) -> Result<(), Lost> {
        let left = job.leased_until.saturating_duration_since(Instant::now());
        let limit = self.limit();
        if left < limit + LEASE_BEYOND / 2 {
            let ms = self.lease().as_millis() as u64;
            let to = ReceiptUse::Visibility { ms };
            if !self.use_receipt(job.receipt, to).await? {
                // It has waited too long in here and comes again.
                return Ok(());
            }
        }
        let sent = timeout(limit, self.send(&plan.send)).await;
        let Sent { outcome, why } =
            sent.unwrap_or_else(|_| Sent::no_answer("it does not answer in time"));
        let verdict = judge(outcome, attempt, &plan.retries);
        tracing::debug!(
            lane = plan.lane,
            attempt,
            %why,
            ?verdict,
            "sent to an endpoint"
        );
        if attempt == 1 && verdict != Verdict::Done {
            self.tell_unasked(plan, &why, verdict);
        }
        self.counters.attempted(&plan.send, verdict);
        match verdict {
            Verdict::Done => {}
            Verdict::Again(ms) => {
                let later = ReceiptUse::Visibility { ms };
                self.use_receipt(job.receipt, later).await?;
                return Ok(());
            }
            Verdict::Dead => {}
            Verdict::Gone => self.note_gone(job, &plan.gone).await?,
        }
        let settled = verdict == Verdict::Done || self.give_up(job, plan).await?;
        let to = if settled {
            ReceiptUse::Delete
        } else {
            ReceiptUse::Visibility { ms: NO_ROOM_MS }
        };
        self.use_receipt(job.receipt, to).await?;
        Ok(())
    }

    /// One line in the log for a subscription whose endpoint does not even hear that it is to confirm it: nobody else learns why it stays
    /// pending.
    fn tell_unasked(&self, plan: &Plan, why: &str, verdict: Verdict) {
        let (Some((topic, endpoint)), Some(left_out)) =
            (&plan.asks, self.unasked.admit(self.links.port.now()))
        else {
            return;
        };
        let next = if matches!(verdict, Verdict::Again(_)) {
            "tried again"
        } else {
            "given up"
        };
        tracing::warn!(
            topic,
            endpoint,
            why,
            next,
            left_out,
            "an endpoint was not asked to confirm its subscription"
        );
    }

    async fn send(&self, send: &Send) -> Sent {
        match send {
            Send::Http { url, headers, body } => self.client.endpoint(url, headers, body).await,
            Send::Mail(mail) => self.smtp.send(mail, &self.client).await,
            Send::Sms(json) => self.gateway(&self.settings.sms, json).await,
            Send::Push(json) => self.gateway(&self.settings.push, json).await,
        }
    }

    async fn gateway(&self, gateway: &Gateway, json: &str) -> Sent {
        match gateway {
            // Switched off since: nobody is there to take it.
            Gateway::Off => Sent::never("its gateway is off"),
            Gateway::Discard => Sent::taken(),
            Gateway::Url(url) => {
                let authorization = &self.settings.gateway_authorization;
                self.client.gateway(url, authorization, json).await
            }
        }
    }

    /// Into the dead-letter queue, if there is one and it takes it. `false`: it has no room, so the message stays for now.
    async fn give_up(&self, job: &Job, plan: &Plan) -> Result<bool, Lost> {
        let Some((dead, link)) = self.dead_letter_queue(job, plan).await? else {
            self.counters.lost();
            return Ok(true);
        };
        let address = Address::queue(link.vhost(), dead.queue.clone());
        let message = dead_message(&job.delivery, address, dead.body.clone());
        let publish = Command::Publish(Publish {
            token: Some(Token(0)),
            lane: Lane(0),
            message: Arc::new(message),
            mandatory: false,
            create: false,
            inbound_id: None,
            hash_key: None,
            folds: false,
            or_stream: false,
        });
        let taken = match link.ask(publish).await? {
            Event::Published { outcome, .. } => match outcome {
                PublishOutcome::Accepted { matched, .. } => matched > 0,
                PublishOutcome::Duplicate { .. } => true,
                PublishOutcome::Refused(refusal) => {
                    if refusal.kind.is_want_of_room() {
                        tracing::warn!(%refusal, "a dead-letter queue of SNS has no room");
                        return Ok(false);
                    }
                    false
                }
            },
            _ => false,
        };
        if taken {
            self.counters.dead_lettered();
        } else {
            self.counters.lost();
        }
        Ok(true)
    }

    /// The dead-letter queue, if it is there and lets the topic's messages in, and the link to it. Its policy is asked here, as
    /// the core does for what no queue takes: no rule holds for the link.
    async fn dead_letter_queue<'a>(
        &self,
        job: &Job,
        plan: &'a Plan,
    ) -> Result<Option<(&'a DeadLetter, Asker)>, Lost> {
        let (Some(dead), Some(via)) = (&plan.dead_letter, &job.delivery.via) else {
            return Ok(None);
        };
        let Some(link) = self.links.to(&dead.vhost).await? else {
            return Ok(None);
        };
        let Some(gate) = &self.gate else {
            return Ok(Some((dead, link)));
        };
        let look = Command::Inspect {
            token: Token(0),
            lane: Lane(0),
            name: dead.queue.clone(),
        };
        let Event::Inspected { queue, .. } = link.ask(look).await? else {
            return Ok(None);
        };
        let taken = gate.takes(&Brought {
            from: &via.vhost,
            topic: &via.topic,
            to: &dead.vhost,
            queue: &queue.name,
            notes: &queue.notes,
            now: self.links.port.now(),
        });
        Ok(taken.then_some((dead, link)))
    }

    /// What `410 Gone` of a gateway means for what comes next.
    async fn note_gone(&self, job: &Job, gone: &Gone) -> Result<(), Lost> {
        match gone {
            Gone::Refused => {}
            Gone::Endpoint(endpoint) => {
                let command = Command::Subscription {
                    token: Token(0),
                    lane: Lane(0),
                    to: Box::new(deliver::disable(endpoint)),
                };
                // Changed meanwhile by its owner: then its owner knows better.
                if let Some(link) = self.links.to(&endpoint.vhost).await? {
                    link.ask(command).await?;
                }
            }
            Gone::Number(number) => {
                let vhost = job.delivery.via.as_ref().map(|via| Arc::clone(&via.vhost));
                let vhost = vhost.unwrap_or_else(|| DELIVERY_VHOST.into());
                let name = deliver::phones();
                let Some(link) = self.links.to(&vhost).await? else {
                    return Ok(());
                };
                link.ask(command_of(&name, deliver::make_phones())).await?;
                if let Some(found) = self.topic(&vhost, name.clone()).await? {
                    let mut notes = found.notes;
                    deliver::opt_out(&mut notes, number);
                    let alter = TopicTo::Alter {
                        version: found.version,
                        fifo: None,
                        notes,
                    };
                    link.ask(command_of(&name, alter)).await?;
                }
            }
        }
        Ok(())
    }
}

fn command_of(name: &message::Name, to: TopicTo) -> Command {
    Command::Topic {
        token: Token(0),
        lane: Lane(0),
        name: name.clone(),
        to: Box::new(to),
    }
}

#[cfg(test)]
mod tests;
