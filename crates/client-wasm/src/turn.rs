//! The endpoint and the queue of what it wants done, so that the drain contract is kept in one place.
//!
//! It never calls JavaScript, and whoever borrows it never does while the borrow lasts.

use std::{collections::VecDeque, mem};

use moorline_protocol::{
    PeerEvent,
    client::{ClientEndpoint, ClientEvent, ClientOutput},
    frame::CallId,
    time::Timestamp,
};

pub(crate) struct Turn {
    endpoint: ClientEndpoint,
    effects: VecDeque<ClientOutput>,
    deadline: Option<Timestamp>,
    /// Somebody is carrying out effects: whoever comes meanwhile leaves theirs in the queue.
    taken: bool,
}

impl Turn {
    pub(crate) fn new(endpoint: ClientEndpoint) -> Self {
        Self { endpoint, effects: VecDeque::new(), deadline: None, taken: false }
    }

    pub(crate) fn endpoint(&self) -> &ClientEndpoint {
        &self.endpoint
    }

    /// Mutate, then drain.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut ClientEndpoint) -> T) -> T {
        let result = change(&mut self.endpoint);
        self.drain();
        result
    }

    fn drain(&mut self) {
        loop {
            match self.endpoint.poll_output() {
                ClientOutput::Wait(deadline) => return self.deadline = deadline,
                effect => self.effects.push_back(effect),
            }
        }
    }

    /// Gives up on a call, also where its outcome is in the queue already.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.change(|endpoint| endpoint.cancel(call));
        self.effects.retain(|effect| {
            !matches!(effect, ClientOutput::Event(ClientEvent::Peer(PeerEvent::Settled { id, .. })) if *id == call)
        });
    }

    /// Whether the caller is the one to carry out effects: with [`Self::next`], until it says `Wait`.
    pub(crate) fn begin(&mut self) -> bool {
        !mem::replace(&mut self.taken, true)
    }

    /// The next thing to do. `Wait` ends what [`Self::begin`] began.
    pub(crate) fn next(&mut self) -> ClientOutput {
        self.effects.pop_front().unwrap_or_else(|| {
            self.taken = false;
            ClientOutput::Wait(self.deadline)
        })
    }
}
