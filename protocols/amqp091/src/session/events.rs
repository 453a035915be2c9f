//! What the core tells: each event to the channel that it is for.

use std::borrow::Cow;

use message::Timestamp;
use session::{
    Close, CloseReason, ConsumerId, Delivery, Event, Outcome, Output, Token, not_active_words,
};

use super::{
    AmqpSession, Phase,
    answer::After,
    channel::{Channel, Stage},
    handshake::Verdict,
    publish::refused_publish,
    step::{Step, channel_of},
};
use crate::error::{Fault, ReplyCode};

impl AmqpSession {
    pub(super) fn on_event(
        &mut self,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        match event {
            Event::Delivery(delivery) => self.on_delivery(&delivery, now, out),
            Event::Published { token, outcome } => {
                let published = |channel: &mut Channel, step: &mut Step<'_>| {
                    channel.on_published(token, outcome, step)
                };
                self.on_confirm(token, now, out, published);
            }
            Event::Accepted { tokens } => {
                for token in tokens {
                    self.on_confirm(token, now, out, |channel, step| {
                        channel.confirm(token, false, step);
                        Ok(())
                    });
                }
            }
            Event::PublishRefused { lane, refusal } => {
                let number = lane.0 as u16;
                let is_open = self
                    .channels
                    .get(number)
                    .is_some_and(|channel| channel.stage == Stage::Open);
                if is_open {
                    let fault = refused_publish(refusal, &self.step(now, out)).by((60, 40));
                    self.fail(number, fault, now, out);
                }
            }
            Event::Returned { lane, message, .. } => {
                let Ok(number) = u16::try_from(lane.0) else {
                    return Ok(());
                };
                let Self {
                    channels, shared, ..
                } = self;
                if let Some(channel) = channels.get(number)
                    && !matches!(channel.stage, Stage::Expelled { .. })
                {
                    channel.send_return(&message, &mut Step { shared, now, out });
                }
            }
            Event::Cancelled { consumer, .. } => {
                let Self {
                    channels, shared, ..
                } = self;
                let (channel, number) = consumer_parts(consumer);
                if let Some(channel) = channels.get_mut(channel)
                    && channel.stage == Stage::Open
                {
                    channel.on_cancelled(number, &mut Step { shared, now, out });
                }
            }
            Event::Blocked { blocked, reason } => {
                // It comes after the login already, when nothing has been published yet.
                self.shared.blocked = blocked.then_some(reason);
                self.step(now, out).tell_blocked();
            }
            Event::Closing { reason } => return self.on_closing(&reason, now, out),
            Event::Authenticated { token, .. }
            | Event::Refused { token, .. }
            | Event::Declared { token, .. }
            | Event::Subscribed { token }
            | Event::Unsubscribed { token, .. }
            | Event::Pulled { token, .. }
            | Event::Committed { token, .. }
            | Event::Stream { token, .. }
            | Event::Reached { token } => return self.on_answer(token, event, now, out),
            // No command of this session is answered so, and it has no client session.
            Event::Burst(_)
            | Event::Inspected { .. }
            | Event::Listed { .. }
            | Event::MoveTasks { .. }
            | Event::Records { .. }
            | Event::Group { .. }
            | Event::Topic { .. }
            | Event::Subscription { .. }
            | Event::ListedSubscriptions { .. }
            | Event::Settled { .. }
            | Event::SettledAll { .. }
            | Event::PublishedAll { .. }
            | Event::Opened { .. }
            | Event::Resumed { .. }
            | Event::InboundReleased { .. } => {}
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        token: Token,
        event: Event,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let number = channel_of(token).0;
        if number == 0 {
            match self.on_verdict(event, out) {
                Ok(()) => {}
                Err(Verdict::Close(close)) => return Err(close),
                Err(Verdict::Fault(fault)) => self.fail(0, fault, now, out),
            }
            let mut held = std::mem::take(&mut self.held);
            let result = self.read(&mut held, now, out);
            self.held = held;
            return result;
        }
        let result = self
            .with_channel(token, now, out, |channel, step| {
                channel.on_answer(token, event, step)
            })
            .and_then(|after| match after {
                After::Gone => self.remove_channel(number, now, out),
                After::Stays => self.resume_channel(number, now, out),
            });
        if let Err(fault) = result {
            self.fail(number, fault, now, out);
        }
        Ok(())
    }

    /// The core has answered a publish.
    fn on_confirm(
        &mut self,
        token: Token,
        now: Timestamp,
        out: &mut Output,
        published: impl FnOnce(&mut Channel, &mut Step<'_>) -> Result<(), Fault>,
    ) {
        let result = self.with_channel(token, now, out, |channel, step| {
            if matches!(channel.stage, Stage::Expelled { .. }) {
                return Ok(After::Stays);
            }
            published(channel, step).map(|()| After::Stays)
        });
        if let Err(fault) = result {
            self.fail(channel_of(token).0, fault, now, out);
        }
    }

    /// Runs `run` on the channel of a token, if that channel has not been succeeded by another.
    fn with_channel(
        &mut self,
        token: Token,
        now: Timestamp,
        out: &mut Output,
        run: impl FnOnce(&mut Channel, &mut Step<'_>) -> Result<After, Fault>,
    ) -> Result<After, Fault> {
        let (number, born) = channel_of(token);
        let Self {
            channels, shared, ..
        } = self;
        match channels.get_mut(number) {
            Some(channel) if channel.born <= born => run(channel, &mut Step { shared, now, out }),
            _ => Ok(After::Stays),
        }
    }

    fn on_delivery(&mut self, delivery: &Delivery, now: Timestamp, out: &mut Output) {
        let Self {
            channels, shared, ..
        } = self;
        let (number, consumer) = consumer_parts(delivery.consumer);
        let mut step = Step { shared, now, out };
        match channels.get_mut(number) {
            Some(channel) => channel.deliver(consumer, delivery, &mut step),
            None => {
                if let Some(id) = delivery.id {
                    step.settle(session::Lane(u32::from(number)), id, Outcome::Release);
                }
            }
        }
    }

    fn on_closing(
        &mut self,
        reason: &CloseReason,
        now: Timestamp,
        out: &mut Output,
    ) -> Result<(), Close> {
        let text: Cow<'static, str> = match reason {
            CloseReason::TakenOver => "taken over by another connection".into(),
            CloseReason::Shutdown => {
                "broker forced connection closure with reason 'shutdown'".into()
            }
            // 0-9-1 has no redirection, so people are told.
            CloseReason::NotActive(active) => not_active_words(active.as_deref(), self.listener),
            CloseReason::Administrative => "closed by an operator".into(),
            CloseReason::Internal => "internal error".into(),
        };
        if matches!(self.phase, Phase::Header | Phase::Start) {
            return Err(Close::done(text));
        }
        let code = match reason {
            CloseReason::Internal => ReplyCode::InternalError,
            _ => ReplyCode::ConnectionForced,
        };
        self.close(&Fault::new(code, text), now, out);
        Ok(())
    }

    pub(super) fn flush_held(&mut self, now: Timestamp, out: &mut Output) {
        let Self {
            channels, shared, ..
        } = self;
        let mut held = std::mem::take(&mut shared.held);
        for number in held.drain(..) {
            if let Some(channel) = channels.get_mut(number)
                && !matches!(channel.stage, Stage::Expelled { .. })
            {
                channel.flush(&mut Step {
                    shared: &mut *shared,
                    now,
                    out: &mut *out,
                });
            }
        }
        shared.held = held;
    }
}

/// The reverse of `step::consumer_id`.
const fn consumer_parts(consumer: ConsumerId) -> (u16, u32) {
    ((consumer.0 >> 32) as u16, consumer.0 as u32)
}
