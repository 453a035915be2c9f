//! Settling: `ack`, `nack`, `reject`, `recover` (AMQP 0-9-1, 1.8.3.13 to 1.8.3.16, and RabbitMQ's `basic.nack`).

use session::{DeliveryId, Outcome};

use super::{
    channel::{Channel, Mode},
    step::Step,
};
use crate::error::{Fault, ReplyCode};

impl Channel {
    /// Settles the delivery of that tag, or with `multiple` all up to it; tag 0 with `multiple` is all there are.
    /// [AMQP-basic.10].
    pub(crate) fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        if !multiple {
            let id = self.unsettled.take(tag).ok_or_else(|| unknown(tag))?;
            return self.settle_one(tag, id, outcome, step);
        }
        let taken = if tag == 0 {
            self.unsettled.take_all()
        } else {
            let taken = self.unsettled.take_upto(tag);
            taken.ok_or_else(|| unknown(tag))?
        };
        for (tag, id) in taken {
            self.settle_one(tag, id, outcome, step)?;
        }
        Ok(())
    }

    fn settle_one(
        &mut self,
        tag: u64,
        id: DeliveryId,
        outcome: Outcome,
        step: &mut Step<'_>,
    ) -> Result<(), Fault> {
        if matches!(self.mode, Mode::Transaction { .. }) {
            return self.stage_settle(tag, id, outcome, step);
        }
        step.settle(self.lane(), id, outcome);
        Ok(())
    }

    /// Makes everything that is out available again.
    /// [AMQP-basic.recover-async.01], [AMQP-basic.recover.01].
    pub(crate) fn recover(&mut self, requeue: bool, step: &mut Step<'_>) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::new(ReplyCode::NotImplemented, "requeue=false"));
        }
        for (_, id) in self.unsettled.take_all() {
            step.settle(self.lane(), id, Outcome::Release);
        }
        Ok(())
    }
}

/// [AMQP-delivery-tag.channel-local], [AMQP-basic.ack.multiple.exists].
fn unknown(tag: u64) -> Fault {
    Fault::new(
        ReplyCode::PreconditionFailed,
        format!("unknown delivery tag {tag}"),
    )
}
