//! How far subscriptions have been shown the retained messages that were there before them, and whose turn it is.
//!
//! A client session with something left to be shown is in the *round* beside the queues that have something to deliver;
//! it *rests*, out of the round, while its queue or its outbox is full, and leaves both while it is away.

use crate::{
    Broker,
    change::{ClientNo, Replayed},
};

impl Broker {
    pub(super) fn apply_replayed(&mut self, it: &Replayed) {
        let Some(client) = self.client_mut(it.client) else {
            return;
        };
        client.rare.change(|rare| match &it.upto {
            Some(upto) => rare.replays.insert(it.pattern.clone(), upto.clone()),
            None => rare.replays.remove(&it.pattern),
        });
        self.leave_replay_round(it.client);
        self.enter_replay_round(it.client);
    }

    /// Puts a client session at the end of the round, if there is anything left to show it and it is there.
    pub(super) fn enter_replay_round(&mut self, number: ClientNo) {
        if self
            .client(number)
            .is_none_or(|client| client.rare.replays.is_empty())
        {
            return;
        }
        if let Some(connected) = self.soft.connected.get_mut(&number)
            && connected.replay_at.is_none()
        {
            let place = self.soft.next_place;
            self.soft.next_place += 1;
            connected.replay_at = Some(place);
            self.soft.replaying.insert(place, number);
            self.soft.resting.remove(&number);
        }
    }

    /// Takes a client session out of the round.
    pub(super) fn leave_replay_round(&mut self, number: ClientNo) {
        self.soft.resting.remove(&number);
        if let Some(connected) = self.soft.connected.get_mut(&number)
            && let Some(place) = connected.replay_at.take()
        {
            self.soft.replaying.remove(&place);
        }
    }

    pub(super) fn replay_rests(&mut self, number: ClientNo) {
        self.leave_replay_round(number);
        if self.soft.connected.contains_key(&number) {
            self.soft.resting.insert(number);
        }
    }

    /// There may be room again for a client session that rests: when half of it is free, so that it pays to go on.
    pub(super) fn replay_may_go_on(&mut self, number: ClientNo) {
        if !self.soft.resting.contains(&number) {
            return;
        }
        let Some(client) = self.client(number) else {
            return;
        };
        let held = self.held(client.queue).0;
        let used = self
            .connection_of(number)
            .and_then(|session| self.soft.sessions.get(&session))
            .map_or(0, |attached| attached.room_used);
        if held <= self.config.replay_held_max / 2 && used <= self.config.outbox_qos0_bytes_max / 2
        {
            self.enter_replay_round(number);
        }
    }
}
