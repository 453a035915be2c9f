//! Wills: a message for when a connection ends without a goodbye.
//!
//! *Will*: it is sent, once, when its client is gone, and no sooner; never while its connection stands in the epoch that speaks of
//! it, nor after a goodbye that was answered. That it comes at all is *confirmed is there*, that it comes once *once*.

use std::collections::BTreeMap;

use super::{Origin, Trust};

#[derive(Clone, Copy, Debug)]
enum State {
    /// It was asked for.
    Asked,
    /// The client session is open, in this connection.
    Open(Origin),
    /// The connection ended then, and the will is due so many ms later.
    Left { at: u64, epoch: u64, after_ms: u64 },
    /// Whether it is sent nobody can tell.
    Unknown,
    /// It must not be sent any more.
    Discarded,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Wills {
    /// By the message.
    wills: BTreeMap<u64, (State, u64)>,
}

impl Wills {
    /// A client session with a will is asked for. It is due so many ms after the connection.
    pub(crate) fn ask(&mut self, number: u64, after_ms: u64) {
        self.wills.insert(number, (State::Asked, after_ms));
    }

    pub(crate) fn opened(&mut self, number: u64, from: Origin) {
        if let Some((state @ State::Asked, _)) = self.wills.get_mut(&number) {
            *state = State::Open(from);
        }
    }

    /// A goodbye is said, or the client is back: it may be dropped, or sent.
    pub(crate) fn in_doubt(&mut self, number: u64) {
        if let Some((state, _)) = self.wills.get_mut(&number)
            && !matches!(state, State::Discarded)
        {
            *state = State::Unknown;
        }
    }

    /// Its client is gone, and it was due at once. (Any delay begins anew with whoever takes over.)
    pub(crate) fn is_due(&self, number: u64) -> bool {
        let will = self.wills.get(&number);
        matches!(will, Some((State::Left { after_ms: 0, .. }, _)))
    }

    /// The connection ends, and what was to be sent then is. Returns the epoch that knew of it, if it must be sent.
    pub(crate) fn left(&mut self, number: u64, now: u64) -> Option<u64> {
        let (state, after_ms) = self.wills.get_mut(&number)?;
        let State::Open(from) = *state else {
            if matches!(state, State::Asked) {
                *state = State::Unknown;
            }
            return None;
        };
        *state = State::Left {
            at: now,
            epoch: from.epoch,
            after_ms: *after_ms,
        };
        Some(from.epoch)
    }

    /// The goodbye was answered: it is not sent.
    pub(crate) fn discarded(&mut self, number: u64) {
        if let Some((state, _)) = self.wills.get_mut(&number) {
            *state = State::Discarded;
        }
    }

    /// It is received.
    pub(crate) fn receive(
        &self,
        number: u64,
        from: Origin,
        now: u64,
        trust: Trust,
    ) -> Result<(), String> {
        let early = |why: &str| {
            let (state, after_ms) = self.wills[&number];
            Err(format!(
                "will: {number} is received {why}; {state:?}, due after {after_ms} ms"
            ))
        };
        match self.wills.get(&number) {
            Some((State::Open(open), _))
                if open.epoch == from.epoch && open.incarnation == from.incarnation =>
            {
                early("while its client is there")
            }
            Some((State::Discarded, _)) => early("after a goodbye"),
            Some((
                State::Left {
                    at,
                    epoch,
                    after_ms,
                },
                _,
            )) if *epoch == from.epoch
                && trust
                    .least_us(*after_ms)
                    .is_some_and(|least| now < at + least) =>
            {
                early("before its time")
            }
            Some(_) => Ok(()),
            None => Err(format!("nothing from nowhere: {number} is no will")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Origin = Origin {
        epoch: 1,
        node: 0,
        incarnation: 1,
    };
    const B: Origin = Origin {
        epoch: 2,
        node: 1,
        incarnation: 2,
    };

    fn open() -> Wills {
        let mut wills = Wills::default();
        wills.ask(3, 8_000);
        wills.opened(3, A);
        wills
    }

    #[test]
    fn a_will_is_not_sent_while_its_client_is_there() {
        let wills = open();
        let trust = Trust::default();
        assert!(wills.receive(3, A, 100, trust).is_err());
        assert!(wills.receive(3, B, 100, trust).is_ok(), "a successor knows");
        assert!(wills.receive(4, A, 100, trust).is_err(), "of nobody");
    }

    #[test]
    fn a_will_waits_for_its_delay() {
        let mut wills = open();
        assert_eq!(wills.left(3, 1_000_000), Some(1));
        let trust = Trust::default();
        assert!(wills.receive(3, A, 4_900_000, trust).is_err());
        assert!(wills.receive(3, A, 5_100_000, trust).is_ok());
        let trust = Trust::new(true, 0);
        assert!(wills.receive(3, A, 4_900_000, trust).is_ok(), "who knows");
    }

    #[test]
    fn a_will_is_gone_with_a_goodbye_that_was_answered() {
        let mut wills = open();
        wills.in_doubt(3);
        assert!(wills.receive(3, A, 100, Trust::default()).is_ok());
        assert_eq!(wills.left(3, 100), None);
        wills.discarded(3);
        assert!(wills.receive(3, B, 100, Trust::default()).is_err());
    }
}
