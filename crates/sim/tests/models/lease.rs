//! The lease mode: a commit does not read the fence, only the renewal of the lease does.
//!
//! One holder with one message to confirm, one standby, each with a clock of its own rate; pauses are as long as they
//! like, and a renewal may reach the disk late. Wrong is: the message is confirmed, and the standby took over without it.

use super::search::{Found, Model, fails, holds, search};

/// The length of a lease on the holder's clock.
const LEASE: u16 = 12;
/// How long the standby sees a counter stand still: `LEASE * (1 + rho) / (1 - rho)`, with clocks wrong by a fifth.
const WAIT: u16 = 18;
/// Time ends here.
const TIME_MAX: u16 = 11;
/// Renewals, the first among them.
const COUNTER_MAX: u8 = 3;
/// Clock rates, in fifths of true time.
const RATES: [u16; 3] = [4, 5, 6];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    No,
    /// A renewal extends the lease without looking whether somebody claimed it meanwhile.
    BlindRenewal,
    /// The standby does not look at the counter again after its claim.
    NoSecondLook,
    /// The lease runs from when the renewal was written, not from before.
    StampAfterWrite,
    /// The holder looks at its lease first, and syncs then.
    CheckBeforeSync,
    /// The standby reads the tail, and waits then.
    TailBeforeWait,
}

struct Lease {
    spoilt: Spoilt,
    holder_rate: u16,
    standby_rate: u16,
    wait: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Renewal {
    Resting,
    /// Its time was taken, on the holder's clock.
    Stamped(u16),
    /// The counter is on the disk.
    Written(u16),
    /// The claim was looked for, and was not there.
    Clear(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Commit {
    Resting,
    Written,
    Checked,
    Durable,
    Confirmed,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standby {
    Watching,
    /// The counter stood still for long enough.
    Patient,
    Claimed,
    LookedAgain,
    ReadTail,
    Active,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    time: u16,
    /// The holder's lease, on its clock.
    until: u16,
    renewal: Renewal,
    commit: Commit,
    /// The message is durable.
    durable: bool,
    /// On the disk.
    counter: u8,
    claimed: bool,
    standby: Standby,
    /// What the standby saw of the counter, and when on its clock.
    seen: u8,
    seen_at: u16,
    /// Whether the tail that it read had the message.
    tail: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    TimePasses,
    RenewalIsStamped,
    RenewalIsWritten,
    RenewalLooksForTheClaim,
    LeaseIsExtended,
    MessageIsWritten,
    LeaseIsChecked,
    MessageIsSynced,
    MessageIsConfirmed,
    StandbySeesTheCounterMove,
    StandbyHasWaited,
    StandbyClaims,
    StandbyLooksAgain,
    StandbyReadsTheTail,
    StandbyTakesOver,
}

impl Lease {
    fn renew(&self, state: &State, now: u16, steps: &mut Vec<(Action, State)>) {
        let step = |renewal| State {
            renewal,
            ..state.clone()
        };
        match state.renewal {
            Renewal::Resting if state.counter < COUNTER_MAX => {
                steps.push((Action::RenewalIsStamped, step(Renewal::Stamped(now))));
            }
            Renewal::Resting => {}
            Renewal::Stamped(at) => {
                let next = State {
                    counter: state.counter + 1,
                    ..step(Renewal::Written(at))
                };
                steps.push((Action::RenewalIsWritten, next));
            }
            Renewal::Written(at) => {
                let next = if state.claimed && self.spoilt != Spoilt::BlindRenewal {
                    State {
                        commit: Commit::Ended,
                        ..step(Renewal::Resting)
                    }
                } else {
                    step(Renewal::Clear(at))
                };
                steps.push((Action::RenewalLooksForTheClaim, next));
            }
            Renewal::Clear(at) => {
                let from = if self.spoilt == Spoilt::StampAfterWrite {
                    now
                } else {
                    at
                };
                let next = State {
                    until: state.until.max(from + LEASE),
                    ..step(Renewal::Resting)
                };
                steps.push((Action::LeaseIsExtended, next));
            }
        }
    }

    fn commit(&self, state: &State, now: u16, steps: &mut Vec<(Action, State)>) {
        let step = |commit| State {
            commit,
            ..state.clone()
        };
        let synced = |commit| State {
            durable: true,
            ..step(commit)
        };
        let checked = |commit| {
            step(if now < state.until {
                commit
            } else {
                Commit::Ended
            })
        };
        let early = self.spoilt == Spoilt::CheckBeforeSync;
        steps.push(match state.commit {
            Commit::Resting => (Action::MessageIsWritten, step(Commit::Written)),
            Commit::Written if early => (Action::LeaseIsChecked, checked(Commit::Checked)),
            Commit::Checked if early => (Action::MessageIsSynced, synced(Commit::Durable)),
            Commit::Durable if early => (Action::MessageIsConfirmed, step(Commit::Confirmed)),
            Commit::Written => (Action::MessageIsSynced, synced(Commit::Durable)),
            Commit::Durable => (Action::LeaseIsChecked, checked(Commit::Checked)),
            Commit::Checked => (Action::MessageIsConfirmed, step(Commit::Confirmed)),
            Commit::Confirmed | Commit::Ended => return,
        });
    }

    fn stand_by(&self, state: &State, now: u16, steps: &mut Vec<(Action, State)>) {
        let step = |standby| State {
            standby,
            ..state.clone()
        };
        let looked = |standby| State {
            seen: state.counter,
            seen_at: if state.seen == state.counter {
                state.seen_at
            } else {
                now
            },
            ..step(standby)
        };
        let read = |standby| State {
            tail: state.tail.or(Some(state.durable)),
            ..step(standby)
        };
        let waited = now - state.seen_at >= self.wait;
        match state.standby {
            Standby::Watching if state.seen != state.counter => {
                steps.push((Action::StandbySeesTheCounterMove, looked(Standby::Watching)));
            }
            Standby::Watching if waited => {
                steps.push((Action::StandbyHasWaited, step(Standby::Patient)));
            }
            Standby::Patient => {
                let next = match self.spoilt {
                    Spoilt::TailBeforeWait => read(Standby::Claimed),
                    Spoilt::NoSecondLook => step(Standby::LookedAgain),
                    _ => step(Standby::Claimed),
                };
                let next = State {
                    claimed: true,
                    ..next
                };
                steps.push((Action::StandbyClaims, next));
            }
            Standby::Claimed => {
                steps.push((Action::StandbyLooksAgain, looked(Standby::LookedAgain)));
            }
            Standby::LookedAgain if waited => {
                steps.push((Action::StandbyReadsTheTail, read(Standby::ReadTail)));
            }
            Standby::ReadTail => steps.push((Action::StandbyTakesOver, step(Standby::Active))),
            Standby::Watching | Standby::LookedAgain | Standby::Active => {}
        }
    }
}

impl Model for Lease {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State {
            time: 0,
            until: LEASE,
            renewal: Renewal::Resting,
            commit: Commit::Resting,
            durable: false,
            counter: 1,
            claimed: false,
            standby: Standby::Watching,
            seen: 1,
            seen_at: 0,
            tail: None,
        }
    }

    fn next(&self, state: &State, steps: &mut Vec<(Action, State)>) {
        if state.time < TIME_MAX {
            let next = State {
                time: state.time + 1,
                ..state.clone()
            };
            steps.push((Action::TimePasses, next));
        }
        if state.commit != Commit::Ended {
            self.renew(state, state.time * self.holder_rate, steps);
            self.commit(state, state.time * self.holder_rate, steps);
        }
        self.stand_by(state, state.time * self.standby_rate, steps);
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        let lost = state.commit == Commit::Confirmed
            && state.standby == Standby::Active
            && state.tail == Some(false);
        lost.then_some("a confirmed message is lost")
    }
}

/// The model at every pair of clock rates.
fn at_all_rates(spoilt: Spoilt, wait: u16) -> impl Iterator<Item = Lease> {
    RATES.into_iter().flat_map(move |holder_rate| {
        RATES.into_iter().map(move |standby_rate| Lease {
            spoilt,
            holder_rate,
            standby_rate,
            wait,
        })
    })
}

const STATES_MAX: usize = 2_000_000;

/// Caught whatever the clocks are.
fn caught(spoilt: Spoilt) {
    for model in at_all_rates(spoilt, WAIT) {
        let name = format!(
            "{spoilt:?} at {} and {}",
            model.holder_rate, model.standby_rate
        );
        fails(&name, &model, STATES_MAX);
    }
}

#[test]
fn the_lease_mode_holds_with_clocks_that_are_wrong_by_a_fifth() {
    for model in at_all_rates(Spoilt::No, WAIT) {
        let name = format!("lease at {} and {}", model.holder_rate, model.standby_rate);
        holds(&name, &model, STATES_MAX);
    }
}

#[test]
fn a_blind_renewal_is_caught() {
    caught(Spoilt::BlindRenewal);
}

#[test]
fn no_second_look_at_the_counter_is_caught() {
    caught(Spoilt::NoSecondLook);
}

#[test]
fn a_stamp_after_the_write_is_caught() {
    caught(Spoilt::StampAfterWrite);
}

#[test]
fn a_lease_checked_before_the_sync_is_caught() {
    caught(Spoilt::CheckBeforeSync);
}

#[test]
fn a_tail_read_before_the_wait_is_caught() {
    caught(Spoilt::TailBeforeWait);
}

/// A wait of the lease's own length is too short as soon as the standby's clock is the faster one.
#[test]
fn too_short_a_wait_is_caught() {
    let found: Vec<(u16, u16)> = at_all_rates(Spoilt::No, LEASE)
        .filter(|model| matches!(search(model, STATES_MAX), Found::Violation(..)))
        .map(|model| (model.holder_rate, model.standby_rate))
        .collect();
    assert_eq!(found, [(4, 6), (5, 6)]);
}
