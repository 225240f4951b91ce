//! The endpoint and the queues of what it wants done, so that the drain contract is kept in one place.
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
    /// What concerns sockets and discovery.
    effects: VecDeque<ClientOutput>,
    /// What the host is to hear once the effects are carried out: events, and `Wait` in the place of one that it is not
    /// to hear any more. A queue of another type would be the code of a queue once more.
    events: VecDeque<ClientOutput>,
    deadline: Option<Timestamp>,
    /// Somebody carries out effects: whoever comes meanwhile leaves theirs in the queue.
    acting: bool,
    /// Somebody tells events.
    telling: bool,
}

impl Turn {
    pub(crate) fn new(endpoint: ClientEndpoint) -> Self {
        Self {
            endpoint,
            effects: VecDeque::new(),
            events: VecDeque::new(),
            deadline: None,
            acting: false,
            telling: false,
        }
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
                event @ ClientOutput::Event(_) => self.events.push_back(event),
                effect => self.effects.push_back(effect),
            }
        }
    }

    /// Gives up on a call, also where items of it or its outcome are in the queue already.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.change(|endpoint| endpoint.cancel(call));
        for output in &mut self.events {
            if let ClientOutput::Event(ClientEvent::Peer(PeerEvent::Settled { id, .. } | PeerEvent::Item { id, .. })) =
                output
                && *id == call
            {
                *output = ClientOutput::Wait(None);
            }
        }
    }

    /// The host is not to hear anything any more.
    pub(crate) fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Whether the caller is the one to carry out effects: with [`Self::next_effect`], until it says `Wait`.
    pub(crate) fn begin_effects(&mut self) -> bool {
        !mem::replace(&mut self.acting, true)
    }

    /// The next thing to do. `Wait` ends what [`Self::begin_effects`] began.
    pub(crate) fn next_effect(&mut self) -> ClientOutput {
        self.effects.pop_front().unwrap_or_else(|| {
            self.acting = false;
            ClientOutput::Wait(self.deadline)
        })
    }

    /// Whether there are events and the caller is the one to tell them: with [`Self::next_event`], until it says `None`.
    pub(crate) fn begin_events(&mut self) -> bool {
        !self.events.is_empty() && !mem::replace(&mut self.telling, true)
    }

    /// Whether there are events that nobody tells.
    pub(crate) fn has_untold_events(&self) -> bool {
        !self.events.is_empty() && !self.telling
    }

    /// The next thing to tell. `None` ends what [`Self::begin_events`] began.
    pub(crate) fn next_event(&mut self) -> Option<ClientEvent> {
        while let Some(output) = self.events.pop_front() {
            if let ClientOutput::Event(event) = output {
                return Some(event);
            }
        }
        self.telling = false;
        None
    }
}

#[cfg(test)]
mod tests {
    use moorline_protocol::{
        client::{ClientConfig, ClientInput, SocketInput, Status},
        payload::{Name, Payload},
        session::CallOptions,
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
        assert!(turn.begin_effects());
        turn.change(ClientEndpoint::close);
        assert!(!turn.begin_effects());
        let ClientOutput::OpenSocket { socket, .. } = turn.next_effect() else { panic!("what came first is first") };
        assert!(matches!(turn.next_effect(), ClientOutput::CloseSocket(closed, _) if closed == socket));
        assert!(matches!(turn.next_effect(), ClientOutput::Wait(None)));
        assert!(turn.begin_effects());
    }

    #[test]
    fn events_are_told_in_order_by_one_at_a_time() {
        let mut turn = turn();
        assert!(!turn.begin_events());
        turn.change(|endpoint| endpoint.start(NOW));
        assert!(turn.has_untold_events() && turn.begin_events());
        assert!(matches!(turn.next_event(), Some(ClientEvent::Status(Status::Connecting { .. }))));
        turn.change(ClientEndpoint::close);
        assert!(!turn.has_untold_events() && !turn.begin_events());
        assert_eq!(turn.next_event(), Some(ClientEvent::Status(Status::Closed(None))));
        assert_eq!(turn.next_event(), None);
    }

    #[test]
    fn a_cancelled_call_takes_its_outcome_out_of_the_queue() {
        let mut turn = turn();
        let payload = Payload::bytes(Vec::new());
        let mut call = || {
            let name = Name::new("x").unwrap();
            turn.change(|endpoint| endpoint.call(NOW, name, payload.clone(), CallOptions::default()))
        };
        let (kept, cancelled) = (call().unwrap(), call().unwrap());
        turn.change(ClientEndpoint::close);
        turn.cancel(cancelled);
        turn.begin_events();
        let settled = turn.next_event();
        assert!(matches!(settled, Some(ClientEvent::Peer(PeerEvent::Settled { id, .. })) if id == kept));
        assert_eq!(turn.next_event(), Some(ClientEvent::Status(Status::Closed(None))));
    }

    #[test]
    fn the_deadline_is_the_one_of_the_last_drain() {
        let mut turn = turn();
        turn.change(|endpoint| endpoint.start(NOW));
        turn.begin_effects();
        let ClientOutput::OpenSocket { socket, .. } = turn.next_effect() else { panic!("plain mode opens at once") };
        let ClientOutput::Wait(Some(deadline)) = turn.next_effect() else { panic!("a try has a deadline") };
        assert_eq!(deadline, Timestamp::from_millis(10_000));
        let gone = ClientInput::Socket(socket, SocketInput::Closed(1006));
        turn.change(|endpoint| endpoint.handle_input(Timestamp::from_millis(5), gone));
        turn.begin_effects();
        assert!(matches!(turn.next_effect(), ClientOutput::Discover(..)));
        assert!(matches!(turn.next_effect(), ClientOutput::Wait(Some(later)) if later > deadline));
    }
}
