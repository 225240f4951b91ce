//! What is still to happen, in the order of time.

use std::collections::BTreeMap;

use moorline_protocol::{client::Ticket, frame::CallId};

/// An application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Client(usize),
    /// The server's, in the session of this number in the world.
    Session(usize),
}

/// One end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Later {
    /// The script's event of this number.
    Script(usize),
    /// Something may have arrived at this end of a socket.
    Arrive(usize, End),
    /// A socket reaches the server.
    Accept(usize),
    /// The client learns that its socket is open.
    Opened(usize),
    /// An end learns that its socket is gone.
    Gone(usize, End),
    Discovered(usize, Ticket),
    /// The client's application answers what it was asked to show, or has nothing (`false`).
    Authorized(usize, Ticket, bool),
    /// The server has made up its mind about what a client showed on this socket.
    Judge(usize),
    ClientWake(usize),
    ServerWake(usize),
    /// The server has made up its mind about who came on this socket.
    Decide(usize),
    Work(Who, CallId),
    Cancel(Who, CallId),
    /// A fault is over.
    Uncongest(usize, End),
    /// The server does what it has in hand for channels.
    Job(u64),
    /// The session on a socket hears of new entries.
    Hear(usize),
    /// Sessions are told where their channels end.
    TellEnds,
    /// A client tries to follow a channel that it was not let follow.
    FollowAgain(usize, usize),
    /// A client goes on with a channel that it held, or follows it in another way.
    GoOn(usize, usize),
    /// A session that is back has had its time to open again what it is a member of.
    Members(usize),
    Heal,
}

#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<(u64, u64), Later>,
    count: u64,
}

impl Agenda {
    pub(crate) fn at(&mut self, time: u64, later: Later) {
        self.count += 1;
        self.entries.insert((time, self.count), later);
    }

    pub(crate) fn next(&mut self) -> Option<(u64, Later)> {
        self.entries.pop_first().map(|((time, _), later)| (time, later))
    }
}
