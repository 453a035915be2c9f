//! One MQTT connection, of any version.
//!
//! ```text
//!  Waiting -- CONNECT --> Authenticating -- Authenticated --> Opening -- Opened, CONNACK --> Open
//!     |                        |                                 |                            |
//!     | no CONNECT in time,    | Refused: CONNACK with the reason, close                      | DISCONNECT, a fault,
//!     | anything else: close   |                                 |                            | silence, Closing
//!     +------------------------+---------------------------------+----------------------------+--> Closed
//! ```
//! Invariants
//! - Nothing behind CONNECT is looked at before CONNACK is written: those bytes wait in `held`.
//! - A PUBACK, PUBREC or PUBCOMP is written only on the core's word (*safe before confirm*), in the order of the PUBLISHes.
//! - After a fault an MQTT 5 client is told the reason in DISCONNECT; before MQTT 5 the connection is just closed.
//!
//! Deliberately absent: rights, routing, queues, windows, and everything else that outlives the connection: the core's.

mod handshake;
mod inbound;
mod keep_alive;
mod outbound;
mod reply;
mod subscriptions;
mod topics;
mod wire;

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use message::{Timestamp, VhostId};
use session::{
    ClientExpiry, Close, CloseReason, Command, Event, Output, PublishOutcome, Refusal, RefusalKind,
    Session, Token,
};

use crate::{
    Config, DecodeError, Manners,
    codec::{Decoder, Farewell, Frame, Limits, Packet, Property, ReasonCode, Version},
};
use handshake::{Handshake, client_expiry, connect_reason, refuse, refuse_malformed};
use inbound::Inbound;
use keep_alive::KeepAlive;
use outbound::Outbound;
use reply::Reply;
use subscriptions::{Answer, Subscriptions};
use wire::{AckKind, Peer, put_packet};

/// Why a connection must end, as the client is told.
#[derive(Debug)]
struct Fault {
    reason: ReasonCode,
    why: Cow<'static, str>,
    /// The client did nothing wrong.
    ours: bool,
    /// Mosquitto closes without a CONNACK.
    silent: bool,
    /// Another server to use, as `host:port`.
    server: Option<Arc<str>>,
}

impl Fault {
    fn new(reason: ReasonCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            why: why.into(),
            ours: false,
            silent: false,
            server: None,
        }
    }

    fn ours(reason: ReasonCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            ours: true,
            ..Self::new(reason, why)
        }
    }

    /// About a packet that cannot be read, on an open connection.
    fn of_packet(error: &DecodeError, manners: Manners) -> Self {
        let reason = match error.reason_in(manners) {
            // Only a CONNECT has a version, and here it is the second one [MQTT-3.1.0-2]; DISCONNECT has no such code
            // (MQTT 5, table 3-10).
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => ReasonCode::PROTOCOL_ERROR,
            reason => reason,
        };
        Self::new(reason, error.to_string())
    }

    /// About the will of a CONNECT.
    fn of_will(reason: ReasonCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            silent: true,
            ..Self::new(reason, why)
        }
    }

    fn close(self) -> Close {
        if self.ours {
            Close::done(self.why)
        } else {
            Close::fault(self.why)
        }
    }
}

#[derive(Debug)]
enum State {
    Waiting { deadline: Timestamp },
    Authenticating(Box<Handshake>),
    Opening(Box<Handshake>, VhostId),
    Open(Box<Open>),
    Closed,
}

/// A connection after CONNACK.
#[derive(Debug)]
struct Open {
    peer: Peer,
    session_expiry_s: u32,
    keep_alive: KeepAlive,
    inbound: Inbound,
    outbound: Outbound,
    subscriptions: Subscriptions,
}

/// One MQTT connection.
#[derive(Debug)]
pub struct MqttSession {
    config: Arc<Config>,
    decoder: Decoder,
    state: State,
    /// What came behind CONNECT before CONNACK could be written.
    held: Option<Box<BytesMut>>,
    /// Which listener it came through, as the configuration names it.
    listener: &'static str,
}

impl MqttSession {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(config: impl Into<Arc<Config>>, now: Timestamp) -> Self {
        let config = config.into();
        let limits = Limits {
            packet_len_max: config.connect_len_max,
            properties_max: config.properties_max,
            filters_max: config.filters_max,
        };
        Self {
            decoder: Decoder::new(Version::V311, limits),
            state: State::Waiting {
                deadline: now.plus_ms(config.connect_timeout_ms),
            },
            held: None,
            listener: "mqtt",
            config,
        }
    }

    /// One that came through that listener: the same of another node is what it may be told to use instead. `mqtt` unless set.
    #[must_use]
    pub const fn through(mut self, listener: &'static str) -> Self {
        self.listener = listener;
        self
    }

    /// Takes packets off `input` for as long as the state wants any.
    fn read(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        loop {
            match &mut self.state {
                State::Waiting { .. } => {
                    // Said at once, before a length is believed. [MQTT-3.1.0-1]
                    if input.first().is_some_and(|first| *first != 0x10) {
                        return Err(Close::fault("the first packet is not a CONNECT"));
                    }
                    let packet = match self.decoder.decode(input) {
                        Ok(Some(packet)) => packet,
                        Ok(None) => return Ok(()),
                        Err(error) => {
                            refuse_malformed(self.decoder.announced(), &error, &self.config, out);
                            return Err(Close::fault(error.to_string()));
                        }
                    };
                    let Packet::Connect(connect) = packet else {
                        unreachable!("the first byte says CONNECT");
                    };
                    let peer = Peer::of(&connect, &self.config);
                    match Handshake::begin(*connect, &self.config, out) {
                        Ok(handshake) => self.state = State::Authenticating(Box::new(handshake)),
                        Err(fault) => {
                            refuse(&peer, &fault, out);
                            return Err(fault.close());
                        }
                    }
                }
                // [MQTT-3.1.4-6]: dropped if CONNECT is refused.
                State::Authenticating(_) | State::Opening(..) => {
                    // Copied, as what is split off a read buffer keeps all of it, even if it is nothing.
                    if !input.is_empty() {
                        self.held.get_or_insert_default().extend_from_slice(input);
                    }
                    input.clear();
                    return Ok(());
                }
                State::Open(open) => match self.decoder.frame(input) {
                    Ok(Some(frame)) => {
                        open.keep_alive.on_packet(now);
                        if let Err(fault) = open.on_frame(frame, &mut self.decoder, now, out)? {
                            return Err(open.fail(fault, out));
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        let fault = Fault::of_packet(&error, self.config.manners);
                        return Err(open.fail(fault, out));
                    }
                },
                State::Closed => return Ok(()),
            }
        }
    }

    fn on_opened(
        &mut self,
        client_id: &Bytes,
        present: bool,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let State::Opening(handshake, vhost) = &self.state else {
            return Ok(());
        };
        handshake
            .accept(client_id, present, &self.config, out)
            .map_err(Fault::close)?;
        let open = Open {
            peer: handshake.peer,
            session_expiry_s: handshake.session_expiry_s,
            keep_alive: KeepAlive::new(handshake.keep_alive_s, now),
            inbound: Inbound::new(&self.config, *vhost, Arc::clone(&handshake.user), present),
            outbound: Outbound::new(handshake.alias_out_max, &self.config),
            subscriptions: Subscriptions::new(Arc::clone(&self.config), handshake.window),
        };
        self.decoder.set_limits(Limits {
            packet_len_max: self.config.packet_len_max,
            properties_max: self.config.properties_max,
            filters_max: self.config.filters_max,
        });
        self.state = State::Open(Box::new(open));
        let Some(mut held) = self.held.take() else {
            return Ok(());
        };
        let read = self.read(&mut held, now, out);
        if !held.is_empty() {
            self.held = Some(held);
        }
        read
    }

    fn on_refused(
        &mut self,
        token: Token,
        refusal: &Refusal,
        out: &mut Output,
    ) -> Result<(), Close> {
        let opening = matches!(self.state, State::Opening(..));
        match &mut self.state {
            State::Authenticating(handshake) | State::Opening(handshake, _) => {
                let mut fault = Fault::new(connect_reason(refusal), refusal.detail.clone());
                fault.server = refusal.active_at(self.listener).cloned();
                // The user is known, so this is about the will.
                fault.silent = opening && refusal.kind == RefusalKind::AccessDenied;
                refuse(&handshake.peer, &fault, out);
                Err(Close::done(refusal.detail.to_string()))
            }
            State::Open(open) => {
                match Reply::of(token) {
                    Some(Reply::Filter { serial, index }) => {
                        let answer = Answer::Refused(refusal);
                        return open
                            .subscriptions
                            .on_answer(serial, index, answer, &open.peer, out)
                            .map_err(|fault| open.fail(fault, out));
                    }
                    // The deliveries are gone from the core; the client must still be let out of its handshake.
                    Some(Reply::Received(batch)) => {
                        open.outbound.on_settled(batch, &open.peer, out);
                    }
                    _ => {}
                }
                Ok(())
            }
            State::Waiting { .. } | State::Closed => Ok(()),
        }
    }

    fn on_closing(&self, reason: &CloseReason, out: &mut Output) -> Close {
        let server = match reason {
            CloseReason::NotActive(Some(active)) => active.at(self.listener),
            _ => None,
        };
        let code = match reason {
            CloseReason::TakenOver => ReasonCode::SESSION_TAKEN_OVER,
            CloseReason::Shutdown => ReasonCode::SERVER_SHUTTING_DOWN,
            CloseReason::NotActive(_) => ReasonCode::USE_ANOTHER_SERVER,
            CloseReason::Administrative => ReasonCode::ADMINISTRATIVE_ACTION,
            CloseReason::Internal => ReasonCode::IMPLEMENTATION_SPECIFIC,
        };
        match &self.state {
            // [MQTT-3.1.4-3] among others.
            State::Open(open) => open.put_disconnect(code, code.words(), server, out),
            State::Authenticating(handshake) | State::Opening(handshake, _) => {
                // MQTT 5, table 3-1: CONNACK has other words; and no DISCONNECT before it [MQTT-3.14.0-1].
                let code = match reason {
                    CloseReason::NotActive(_) => ReasonCode::USE_ANOTHER_SERVER,
                    _ => ReasonCode::SERVER_UNAVAILABLE,
                };
                let mut fault = Fault::new(code, code.words());
                fault.server = server.cloned();
                refuse(&handshake.peer, &fault, out);
            }
            State::Waiting { .. } | State::Closed => {}
        }
        Close::done(code.words())
    }

    /// Any event but a delivery to an open connection. Apart, so that deliveries need no room for it.
    #[inline(never)]
    fn on_other(&mut self, event: Event, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        self.step(out, |session, out| match event {
            Event::Closing { reason } => Err(session.on_closing(&reason, out)),
            Event::Refused { token, refusal } => session.on_refused(token, &refusal, out),
            Event::Opened {
                client_id, present, ..
            } => session.on_opened(&client_id, present, now, out),
            Event::Authenticated { vhost, user, .. } => {
                let State::Authenticating(mut handshake) =
                    std::mem::replace(&mut session.state, State::Closed)
                else {
                    unreachable!("authentication is asked for once and waited for");
                };
                if let Err(fault) =
                    handshake.on_authenticated(vhost, user, &session.config, now, out)
                {
                    refuse(&handshake.peer, &fault, out);
                    return Err(fault.close());
                }
                session.state = State::Opening(handshake, vhost);
                Ok(())
            }
            event => match &mut session.state {
                State::Open(open) => open
                    .on_event(event, out)
                    .map_err(|fault| open.fail(fault, out)),
                _ => Ok(()),
            },
        })
    }

    fn step(
        &mut self,
        out: &mut Output,
        work: impl FnOnce(&mut Self, &mut Output) -> Result<(), Close>,
    ) -> Result<(), Close> {
        let done = work(self, out);
        // What the client acknowledged before it failed is acknowledged all the same.
        if let State::Open(open) = &mut self.state {
            open.outbound.flush(out);
        }
        if done.is_err() {
            self.state = State::Closed;
            self.held = None;
        }
        done
    }
}

impl Open {
    /// The one place where a packet meets an open connection. The outer error ends it in order, the inner one as a fault.
    fn on_frame(
        &mut self,
        frame: Frame,
        decoder: &mut Decoder,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<Result<(), Fault>, Close> {
        let peer = &self.peer;
        if frame.is_publish() {
            return Ok(self.inbound.on_publish(frame, decoder, peer, now, out));
        }
        let packet = match decoder.packet(frame) {
            Ok(packet) => packet,
            Err(error) => return Ok(Err(Fault::of_packet(&error, peer.manners))),
        };
        // What this read acknowledged must reach the core before what may end a subscription or the session.
        if matches!(
            packet,
            Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Disconnect(_)
        ) {
            self.outbound.flush(out);
        }
        Ok(match packet {
            Packet::Publish(_) => unreachable!("taken before it was read"),
            Packet::PubAck(ack) => self.outbound.on_puback(&ack, out),
            Packet::PubRec(ack) => self.outbound.on_pubrec(&ack, peer, out),
            Packet::PubComp(ack) => self.outbound.on_pubcomp(&ack, out),
            Packet::PubRel(ack) => {
                out.commands
                    .push_back(Command::ReleaseInbound { id: ack.packet_id });
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscriptions.on_subscribe(subscribe, peer, out),
            Packet::Unsubscribe(unsubscribe) => {
                self.subscriptions.on_unsubscribe(&unsubscribe, peer, out)
            }
            // [MQTT-3.12.4-1]
            Packet::PingReq => {
                put_packet(&Packet::PingResp, peer.version, out);
                Ok(())
            }
            Packet::Disconnect(farewell) => match self.on_disconnect(&farewell, out) {
                Ok(()) => return Err(Close::done("the client disconnected")),
                Err(fault) => Err(fault),
            },
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => Err(Fault::new(ReasonCode::PROTOCOL_ERROR, "second CONNECT")),
            // [MQTT-4.12.0-7], [MQTT-4.12.0-6]: no CONNECT with an authentication method was accepted.
            Packet::Auth(_) => Err(Fault::new(
                ReasonCode::PROTOCOL_ERROR,
                "AUTH without an authentication method",
            )),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Fault::new(
                    ReasonCode::PROTOCOL_ERROR,
                    format!("{} from a client", packet.name()),
                ))
            }
        })
    }

    fn on_disconnect(&self, farewell: &Farewell, out: &mut Output) -> Result<(), Fault> {
        // One that was kept for nothing but its will delay ends here.
        let ends = self.peer.manners == Manners::Mosquitto && self.session_expiry_s == 0;
        let mut expiry = ends.then_some(ClientExpiry::WithConnection);
        for property in &farewell.properties.0 {
            match property {
                Property::SessionExpiryInterval(seconds) => {
                    // MQTT 5, 3.14.2.2.2: what was 0 in CONNECT stays 0.
                    if self.session_expiry_s == 0 && *seconds != 0 {
                        return Err(Fault::new(
                            ReasonCode::PROTOCOL_ERROR,
                            "session expiry was 0 and may not be raised",
                        ));
                    }
                    expiry = Some(client_expiry(*seconds));
                }
                // MQTT 5, 3.14.2.2.5: only servers refer to servers.
                Property::ServerReference(_) => {
                    return Err(Fault::new(
                        ReasonCode::PROTOCOL_ERROR,
                        "server reference from a client",
                    ));
                }
                _ => {}
            }
        }
        out.commands.push_back(Command::CloseClient {
            // [MQTT-3.14.4-3], [MQTT-3.1.2-10]
            publish_will: farewell.reason != ReasonCode::SUCCESS,
            expiry,
        });
        Ok(())
    }

    /// The last words of a connection that must end.
    /// [MQTT-4.13.1-1], [MQTT-4.13.2-1]; nothing follows DISCONNECT but the end [MQTT-3.14.4-1], [MQTT-3.14.4-2].
    /// [MQTT3-4.8.0-2]: nor does 3.1.1 go on after a passing fault.
    fn fail(&self, fault: Fault, out: &mut Output) -> Close {
        self.put_disconnect(fault.reason, &fault.why, None, out);
        fault.close()
    }

    fn put_disconnect(
        &self,
        reason: ReasonCode,
        why: &str,
        server: Option<&Arc<str>>,
        out: &mut Output,
    ) {
        if self.peer.version == Version::V5 {
            // [MQTT-3.14.2-2], [MQTT-3.14.2-3]: a reason string and another server at most.
            let farewell = Farewell {
                reason,
                properties: self.peer.reasons(why, server),
            };
            put_packet(&Packet::Disconnect(farewell), Version::V5, out);
        }
    }

    fn on_event(&mut self, event: Event, out: &mut Output) -> Result<(), Fault> {
        let peer = &self.peer;
        match event {
            Event::Published { token, outcome } => self.on_published(token, &outcome, out)?,
            Event::Accepted { tokens } => {
                let outcome = PublishOutcome::Accepted {
                    matched: 1,
                    place: None,
                    record: None,
                    sequence: None,
                };
                for token in tokens {
                    self.on_published(token, &outcome, out)?;
                }
            }
            Event::InboundReleased { id, known } => self.inbound.on_released(id, known, peer, out),
            Event::Settled { token, .. } => {
                if let Some(Reply::Received(batch)) = Reply::of(token) {
                    self.outbound.on_settled(batch, peer, out);
                }
            }
            Event::Resumed { received } => self.outbound.on_resumed(&received, peer, out),
            Event::Subscribed { token } => self.on_filter(token, Answer::Subscribed, out)?,
            Event::Unsubscribed { token, existed } => {
                self.on_filter(token, Answer::Unsubscribed { existed }, out)?;
            }
            // The queue was deleted. MQTT has no word for that; the subscription is just over.
            Event::Cancelled { consumer, .. } => self.subscriptions.on_cancelled(consumer),
            // QoS 0 has no acknowledgement to refuse with: dropped, and counted where it was refused (MQTT 5, 3.3.5).
            Event::PublishRefused { .. } => {}
            // Publishes are refused one by one while storage is short.
            Event::Blocked { .. } => {}
            // Deliveries do not come here, and no answers to commands that this protocol does not give, or that come before CONNACK.
            Event::Delivery(_)
            | Event::Burst(_)
            | Event::Authenticated { .. }
            | Event::Refused { .. }
            | Event::Opened { .. }
            | Event::Declared { .. }
            | Event::Returned { .. }
            | Event::Pulled { .. }
            | Event::Inspected { .. }
            | Event::Listed { .. }
            | Event::MoveTasks { .. }
            | Event::Stream { .. }
            | Event::Records { .. }
            | Event::Group { .. }
            | Event::Topic { .. }
            | Event::Subscription { .. }
            | Event::ListedSubscriptions { .. }
            | Event::PublishedAll { .. }
            | Event::SettledAll { .. }
            | Event::Reached { .. }
            | Event::Committed { .. }
            | Event::Closing { .. } => {}
        }
        Ok(())
    }

    fn on_published(
        &mut self,
        token: Token,
        outcome: &PublishOutcome,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let (kind, id) = match Reply::of(token) {
            Some(Reply::PubAck(id)) => (AckKind::Ack, id),
            Some(Reply::PubRec(id)) => (AckKind::Rec, id),
            _ => return Ok(()),
        };
        self.inbound
            .on_published(kind, id, outcome, &self.peer, out)
    }

    fn on_filter(
        &mut self,
        token: Token,
        answer: Answer<'_>,
        out: &mut Output,
    ) -> Result<(), Fault> {
        match Reply::of(token) {
            Some(Reply::Filter { serial, index }) => self
                .subscriptions
                .on_answer(serial, index, answer, &self.peer, out),
            _ => Ok(()),
        }
    }
}

impl Session for MqttSession {
    fn handle_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        self.step(out, |session, out| {
            if let Some(mut held) = session.held.take() {
                held.unsplit(input.split());
                *input = *held;
            }
            session.read(input, now, out)
        })
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        // Nearly every event.
        if let (Event::Delivery(_) | Event::Burst(_), State::Open(open)) = (&event, &mut self.state)
        {
            match &event {
                Event::Delivery(one) => open.outbound.on_delivery(one, &open.peer, now, out),
                Event::Burst(burst) => open.outbound.on_burst(burst, &open.peer, now, out),
                _ => {}
            }
            open.outbound.flush(out);
            return Ok(());
        }
        self.on_other(event, now, out)
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Output) -> Result<(), Close> {
        self.step(out, |session, out| match &session.state {
            State::Waiting { deadline } if now >= *deadline => {
                Err(Close::fault("no CONNECT in time"))
            }
            // [MQTT-3.1.2-22]
            State::Open(open) if open.keep_alive.is_over(now) => Err(open.fail(
                Fault::new(ReasonCode::KEEP_ALIVE_TIMEOUT, "keep alive timeout"),
                out,
            )),
            _ => Ok(()),
        })
    }

    fn handle_unread(&mut self, now: Timestamp) {
        if let State::Open(open) = &mut self.state {
            open.keep_alive.on_packet(now);
        }
    }

    fn handle_hangup(&mut self, _now: Timestamp, _out: &mut Output) {
        self.state = State::Closed;
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.state {
            State::Waiting { deadline } => Some(*deadline),
            State::Open(open) => open.keep_alive.deadline(),
            State::Authenticating(_) | State::Opening(..) | State::Closed => None,
        }
    }

    fn wants_bytes(&self) -> bool {
        !matches!(self.state, State::Authenticating(_) | State::Opening(..))
    }
}
