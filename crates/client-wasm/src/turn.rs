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

#[cfg(test)]
mod tests {
    use moorline_protocol::{
        client::{ClientConfig, ClientInput, SocketInput, Status},
        payload::{Name, Payload},
        url::DialUrl,
    };

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(0);

    fn turn() -> Turn {
        let mut config = ClientConfig::new(DialUrl::parse("ws://localhost/moorline").unwrap());
        config.suite = None;
        Turn::new(ClientEndpoint::new(config, [7; 32]))
    }

    #[test]
    fn effects_from_within_come_after_those_that_wait_and_nobody_else_carries_them_out() {
        let mut turn = turn();
        turn.change(|endpoint| endpoint.start(NOW));
        assert!(turn.begin());
        assert!(matches!(turn.next(), ClientOutput::Event(ClientEvent::Status(Status::Connecting { .. }))));
        turn.change(ClientEndpoint::close);
        assert!(!turn.begin());
        let ClientOutput::OpenSocket { socket, .. } = turn.next() else { panic!("what came first is first") };
        assert!(matches!(turn.next(), ClientOutput::CloseSocket(closed, _) if closed == socket));
        assert!(matches!(turn.next(), ClientOutput::Event(ClientEvent::Status(Status::Closed(None)))));
        assert!(matches!(turn.next(), ClientOutput::Wait(None)));
        assert!(turn.begin());
    }

    #[test]
    fn a_cancelled_call_takes_its_outcome_out_of_the_queue() {
        let mut turn = turn();
        let payload = Payload::bytes(Vec::new());
        let mut call = || turn.change(|endpoint| endpoint.call(NOW, Name::new("x").unwrap(), payload.clone(), None));
        let (kept, cancelled) = (call().unwrap(), call().unwrap());
        turn.change(ClientEndpoint::close);
        turn.cancel(cancelled);
        turn.begin();
        let settled = turn.next();
        assert!(matches!(settled, ClientOutput::Event(ClientEvent::Peer(PeerEvent::Settled { id, .. })) if id == kept));
        assert!(matches!(turn.next(), ClientOutput::Event(ClientEvent::Status(Status::Closed(None)))));
    }

    #[test]
    fn the_deadline_is_the_one_of_the_last_drain() {
        let mut turn = turn();
        turn.change(|endpoint| endpoint.start(NOW));
        turn.begin();
        let mut socket = None;
        let deadline = loop {
            match turn.next() {
                ClientOutput::OpenSocket { socket: opened, .. } => socket = Some(opened),
                ClientOutput::Wait(deadline) => break deadline,
                _ => {}
            }
        };
        assert_eq!(deadline, Some(Timestamp::from_millis(10_000)));
        let gone = ClientInput::Socket(socket.unwrap(), SocketInput::Closed(1006));
        turn.change(|endpoint| endpoint.handle_input(Timestamp::from_millis(5), gone));
        turn.begin();
        assert!(matches!(turn.next(), ClientOutput::Discover(..)));
        assert!(matches!(turn.next(), ClientOutput::Wait(Some(later)) if Some(later) > deadline));
    }
}
