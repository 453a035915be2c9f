//! Driving one request's flow over a link, by hand: polled by whoever waits for the answer or for its next part.
//!
//! ```text
//! New ─► LoggingIn ─► Ready ─┬─► Waiting (for the core) ───┐
//!  └─ an idle link ───► ▲    ├─► Sleeping (until a time) ──┤
//!                       │    ├─► Paused (a part was sent) ─┤
//!                       └────┼─────────────────────────────┘
//!                            └─► Over
//! ```
//! To drop it before it is over drops its link: the core gives up what waits, and lets go of what was leased to the connection.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use message::Timestamp;
use session::{
    AfterLogin, Authenticate, CloseReason, Command, Event, Flow, Later, Link, LoggedIn, Login,
    Reply, Then, Token, Unserved,
};
use tokio::time::{Sleep, sleep};

use super::{Idle, Shared, untaken::Piece};
use crate::{
    Traffic,
    server::{Phase, Watch},
};

/// What a request answers next.
pub(super) enum Step {
    /// A part; there is more.
    Part(Reply),
    /// The end, or all of it.
    Last(Reply),
}

/// See the module.
pub(super) struct Drive {
    shared: Arc<Shared>,
    state: State,
    authenticate: Option<Authenticate>,
    refuse: Option<Box<dyn FnOnce(Unserved) -> Reply + Send>>,
    link: Option<Arc<dyn Link>>,
    logged_in: Option<LoggedIn>,
    /// Commands that found no room.
    left: VecDeque<Command>,
    /// The token of the first command that was asked last.
    first: u64,
    answers: Vec<Option<Event>>,
    missing: usize,
    events: Vec<Event>,
    /// A part has gone out.
    begun: bool,
    watch: Watch,
    timer: Option<Pin<Box<Sleep>>>,
}

enum State {
    New(AfterLogin),
    LoggingIn(AfterLogin),
    Ready(Flow<Reply>),
    Waiting(Then<Reply>),
    Sleeping(Timestamp, Later<Reply>),
    Paused(Later<Reply>),
    Over,
}

impl Drive {
    pub(super) fn new(shared: Arc<Shared>, login: Login) -> Self {
        let Login {
            authenticate,
            then,
            refuse,
        } = login;
        Self {
            watch: Watch::new(Arc::clone(&shared.server)),
            shared,
            state: State::New(then),
            authenticate: Some(authenticate),
            refuse: Some(refuse),
            link: None,
            logged_in: None,
            left: VecDeque::new(),
            first: 0,
            answers: Vec::new(),
            missing: 0,
            events: Vec::new(),
            begun: false,
            timer: None,
        }
    }

    /// The next step. Not to be called after the last.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Over);
            self.state = match state {
                State::New(then) => match self.find_link(cx) {
                    Ok(Some(logged_in)) => match self.guarded(|now| then(Ok(logged_in), now)) {
                        Ok(flow) => State::Ready(flow),
                        Err(why) => return self.fail(why),
                    },
                    Ok(None) => State::LoggingIn(then),
                    Err(why) => return self.fail(why),
                },
                State::LoggingIn(then) => match self.poll_answers(cx) {
                    Ok(false) => {
                        self.state = State::LoggingIn(then);
                        return Poll::Pending;
                    }
                    Ok(true) => {
                        let answer = self.logged_in();
                        match self.guarded(|now| then(answer, now)) {
                            Ok(flow) => State::Ready(flow),
                            Err(why) => return self.fail(why),
                        }
                    }
                    Err(why) => return self.fail(why),
                },
                State::Ready(Flow::Done(reply)) => {
                    self.give_back();
                    return Poll::Ready(Step::Last(reply));
                }
                State::Ready(Flow::Part(reply, later)) => {
                    self.begun = true;
                    self.state = State::Paused(later);
                    return Poll::Ready(Step::Part(reply));
                }
                State::Ready(Flow::Until(at, later)) => State::Sleeping(at, later),
                State::Ready(Flow::Ask(commands, then)) => {
                    self.submit(commands);
                    State::Waiting(then)
                }
                State::Waiting(then) => match self.poll_answers(cx) {
                    Ok(false) => {
                        self.state = State::Waiting(then);
                        return Poll::Pending;
                    }
                    Ok(true) => {
                        let mut answers = Vec::with_capacity(self.answers.len());
                        answers.extend(self.answers.drain(..).flatten());
                        match self.guarded(|now| then(answers, now)) {
                            Ok(flow) => State::Ready(flow),
                            Err(why) => return self.fail(why),
                        }
                    }
                    Err(why) => return self.fail(why),
                },
                State::Sleeping(at, later) => match self.poll_sleep(at, cx) {
                    Ok(false) => {
                        self.state = State::Sleeping(at, later);
                        return Poll::Pending;
                    }
                    Ok(true) => match self.guarded(later) {
                        Ok(flow) => State::Ready(flow),
                        Err(why) => return self.fail(why),
                    },
                    Err(why) => return self.fail(why),
                },
                State::Paused(later) => match self.guarded(later) {
                    Ok(flow) => State::Ready(flow),
                    Err(why) => return self.fail(why),
                },
                State::Over => {
                    // Asked once more than there was to say.
                    return Poll::Ready(Step::Last(Reply::More(Bytes::new())));
                }
            };
        }
    }

    /// What stands in the place of an answer for which there is no room.
    pub(super) fn refuse(mut self, why: Unserved) -> Reply {
        let refuse = self.refuse.take();
        refuse.map_or_else(|| Reply::More(Bytes::new()), |refuse| refuse(why))
    }

    /// Bytes of its answer on their way. `None`: there is no room for them.
    pub(super) fn hold(&self, piece: Piece) -> Option<Piece> {
        self.shared.hold(piece)
    }

    fn now(&self) -> Timestamp {
        self.shared.server.port().now()
    }

    /// Runs a step of the request. RULES 15: a panic in it costs this request only.
    fn guarded(
        &self,
        step: impl FnOnce(Timestamp) -> Flow<Reply>,
    ) -> Result<Flow<Reply>, Unserved> {
        let now = self.now();
        catch_unwind(AssertUnwindSafe(|| step(now))).map_err(|_| {
            Traffic::add(&self.shared.traffic.panics, 1);
            tracing::error!(
                peer = %self.shared.peer.address,
                listener = self.shared.peer.listener,
                "a request panicked; it is answered with an error of ours"
            );
            Unserved::Internal
        })
    }

    /// Ends with an error. A link that has something outstanding is not used again.
    fn fail(&mut self, why: Unserved) -> Poll<Step> {
        self.state = State::Over;
        self.link = None;
        let reply = match self.refuse.take() {
            Some(refuse) if !self.begun => refuse(why),
            // An answer that has begun is cut short.
            _ => Reply::More(Bytes::new()),
        };
        Poll::Ready(Step::Last(reply))
    }

    /// Takes a link that is logged in, or begins a login over another one (`None`).
    fn find_link(&mut self, cx: &mut Context<'_>) -> Result<Option<LoggedIn>, Unserved> {
        let Some(authenticate) = &self.authenticate else {
            return Err(Unserved::Internal);
        };
        while let Some(idle) = self.shared.take_idle(authenticate) {
            let mut closed = false;
            while idle.link.poll_events(cx, &mut self.events).is_ready() {
                closed |= self.events.drain(..).any(|event| closing(&event).is_some());
            }
            if closed {
                continue;
            }
            self.link = Some(idle.link);
            self.logged_in = Some(idle.logged_in.clone());
            return Ok(Some(idle.logged_in));
        }
        let attached = self.shared.server.port().attach(self.shared.peer.clone());
        let Some(link) = attached else {
            Traffic::add(&self.shared.traffic.refused, 1);
            return Err(Unserved::Busy);
        };
        self.link = Some(link);
        let authenticate = Box::new(authenticate.clone());
        self.submit(vec![Command::Authenticate(authenticate)]);
        Ok(None)
    }

    /// What the core said to the login.
    fn logged_in(&mut self) -> Result<LoggedIn, session::Refusal> {
        match self.answers.drain(..).flatten().next() {
            Some(Event::Authenticated {
                vhost,
                vhost_name,
                user,
                secret,
                ..
            }) => {
                let logged_in = LoggedIn {
                    vhost,
                    vhost_name,
                    user,
                    secret,
                };
                self.logged_in = Some(logged_in.clone());
                Ok(logged_in)
            }
            Some(Event::Refused { refusal, .. }) => Err(refusal.naming(self.shared.peer.listener)),
            _ => unreachable!("a login is answered by one of these"),
        }
    }

    /// Gives commands their tokens and hands them in.
    fn submit(&mut self, mut commands: Vec<Command>) {
        let count = commands.len() as u64;
        self.first = self.shared.count.fetch_add(count, Ordering::Relaxed);
        self.missing = commands.len();
        self.answers.clear();
        self.answers.resize_with(commands.len(), || None);
        self.events.reserve(commands.len());
        for (number, command) in (self.first..).zip(&mut commands) {
            let token = command.token_mut();
            *token.expect("a flow asks only what is answered") = Token(number);
        }
        // Commands are long, and nothing is left of those before once all are answered: the memory is taken as it is.
        let mut commands = VecDeque::from(commands);
        if self.left.is_empty() {
            self.left = commands;
        } else {
            self.left.append(&mut commands);
        }
        if let Some(link) = &self.link {
            // What was delivered before has been made into an answer: its room is free.
            link.drained();
            link.submit(&mut self.left);
        }
    }

    /// Takes events. `true`: each command has been answered.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Result<bool, Unserved> {
        loop {
            if self.missing == 0 {
                return Ok(true);
            }
            let Some(link) = &self.link else {
                return Err(Unserved::Internal);
            };
            if link.poll_events(cx, &mut self.events).is_pending() {
                return match self.watch.poll_phase(cx) {
                    Phase::Open | Phase::Quiet => Ok(false),
                    Phase::Closing | Phase::Abort => Err(Unserved::Stopping),
                };
            }
            if !self.left.is_empty() {
                link.submit(&mut self.left);
            }
            for event in self.events.drain(..) {
                if let Some(why) = closing(&event) {
                    return Err(why);
                }
                let place = event.token().and_then(|Token(number)| {
                    let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
                    self.answers.get_mut(at)
                });
                if let Some(place) = place
                    && place.is_none()
                {
                    *place = Some(event);
                    self.missing -= 1;
                }
            }
        }
    }

    /// `true`: the time has come.
    fn poll_sleep(&mut self, at: Timestamp, cx: &mut Context<'_>) -> Result<bool, Unserved> {
        loop {
            let now = self.now();
            if now >= at {
                self.timer = None;
                return Ok(true);
            }
            while let Some(link) = &self.link
                && link.poll_events(cx, &mut self.events).is_ready()
            {
                if let Some(why) = self.events.drain(..).find_map(|event| closing(&event)) {
                    return Err(why);
                }
            }
            if self.watch.poll_phase(cx) >= Phase::Closing {
                return Err(Unserved::Stopping);
            }
            // The core's clock may be slower than the timer's, so it is asked again.
            let wait = Duration::from_millis(at.since(now).clamp(1, 86_400_000));
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(wait)));
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            self.timer = None;
        }
    }

    /// Keeps the link for the next request.
    fn give_back(&mut self) {
        let parts = (
            self.authenticate.take(),
            self.link.take(),
            self.logged_in.take(),
        );
        let (Some(authenticate), Some(link), Some(logged_in)) = parts else {
            return;
        };
        link.drained();
        self.shared.give_back(Idle {
            authenticate,
            logged_in,
            link,
        });
    }
}

/// Why a link is of no use any more.
const fn closing(event: &Event) -> Option<Unserved> {
    match event {
        Event::Closing {
            reason: CloseReason::Internal,
        } => Some(Unserved::Internal),
        Event::Closing { .. } => Some(Unserved::Stopping),
        _ => None,
    }
}
