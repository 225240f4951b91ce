//! The channels that the application follows: opened on every connection, each from where it was seen.
//!
//! Implements `docs/PROTOCOL.md` § Following a channel.

use std::collections::VecDeque;

use super::*;
use crate::{
    channel::{Changes, Collected, Kind, Offset, OutOfOrder, Position, Replica, Start},
    connection::Updates,
    frame::{ChannelFrame, Handle, Open, Piece, RequestKind, VolatileAppend},
    limits::MAX_CHANNEL_DATA,
    time::UnixMillis,
};

/// A channel that the application follows, for as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscription(pub u64);

/// How a channel is to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Of which kind it is.
    pub kind: Kind,
    /// Which channel.
    pub name: Name,
    /// Whether what this client writes is left out.
    pub quiet: bool,
    /// How many of the newest entries to begin with, and again where it cannot go on.
    pub history: u64,
    /// From where the application has it already.
    pub since: Option<Position>,
    /// What [`ChannelEvent::Opened`] said of it before.
    pub past: Offset,
    /// Whether to be told who is in it.
    pub members: bool,
    /// What this client says for itself to the others in the channel: with it, it is a member.
    pub data: Option<Payload>,
    /// This takes the place of that one, of which nothing more is told: it is followed in another way, or gone on with from
    /// elsewhere. Who is a member by both stays one.
    pub instead: Option<Subscription>,
}

/// What the application hears of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// It goes on, on this connection: from where it was seen, or anew. With `snapshot` a snapshot comes first.
    Opened {
        /// How it goes on.
        start: Start,
        /// Whether a snapshot comes first.
        snapshot: bool,
        /// From where, where that is known before the first entry.
        seen: Option<Position>,
        /// What was there when it last began with nothing.
        past: Offset,
    },
    /// Everything up to a position.
    Snapshot {
        /// What it covers.
        position: Position,
        /// When it was made.
        at: UnixMillis,
        /// What it says.
        content: Bytes,
    },
    /// An entry.
    Update {
        /// Where it is.
        position: Position,
        /// When it was written.
        at: UnixMillis,
        /// What it says.
        content: Bytes,
        /// It had been written before the channel was opened on this connection.
        before: bool,
    },
    /// Everything has been told that was there when it was opened on this connection. Once after each `Opened`.
    CaughtUp,
    /// Something that was said to whoever is there, and is kept nowhere.
    Volatile {
        /// When it was said.
        at: UnixMillis,
        /// What it says.
        content: Bytes,
    },
    /// What has changed of who is in it. On each connection everything is told anew.
    Members(Changes),
    /// The server does not tell of it any more. Nothing comes after this.
    Closed(Code, String),
}

#[derive(Debug)]
struct Followed {
    subscription: Subscription,
    follow: Follow,
    replica: Replica,
    /// What is told of members, as far as it has come.
    members: Collected,
    /// Under which it is open on this connection, or was, until it is opened again.
    handle: Option<Handle>,
    /// The application wants nothing more of its log for now.
    held: bool,
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    /// By their numbers, which ascend, as do handles. Few, so that a search through a list is as good as a tree, and
    /// smaller.
    followed: Vec<Followed>,
    by_handle: Vec<(Handle, Subscription)>,
    /// Each once: those that are not among `by_handle`.
    to_open: VecDeque<Subscription>,
    last: u64,
    last_handle: u64,
}

impl Channels {
    /// There is a connection.
    pub(super) fn connected(&mut self) {
        self.last_handle = 0;
        self.to_open = self.followed.iter().map(|followed| followed.subscription).collect();
    }

    /// There is none any more.
    pub(super) fn disconnected(&mut self) {
        self.by_handle.clear();
        self.to_open.clear();
        self.followed.iter_mut().for_each(|followed| followed.handle = None);
    }

    fn place(&self, subscription: Subscription) -> Option<usize> {
        self.followed.binary_search_by_key(&subscription, |followed| followed.subscription).ok()
    }

    fn remove(&mut self, subscription: Subscription) -> Option<Followed> {
        let followed = self.followed.remove(self.place(subscription)?);
        self.forget(followed.handle);
        Some(followed)
    }

    /// The handle is of no use any more.
    fn forget(&mut self, handle: Option<Handle>) {
        self.by_handle.retain(|(known, _)| Some(*known) != handle);
    }

    fn by_handle(&mut self, handle: Handle) -> Option<&mut Followed> {
        let found = self.by_handle.binary_search_by_key(&handle, |(known, _)| *known).ok()?;
        let place = self.place(self.by_handle.get(found)?.1)?;
        self.followed.get_mut(place)
    }

    /// Moves into `updates` what is to be opened, about a record of it.
    pub(super) fn fill(&mut self, updates: &mut Updates) {
        while updates.has_room()
            && let Some(subscription) = self.to_open.pop_front()
        {
            let Some(followed) = self.place(subscription).and_then(|place| self.followed.get_mut(place)) else {
                continue;
            };
            self.last_handle += 1;
            let handle = Handle(self.last_handle);
            let instead = followed.handle.replace(handle);
            followed.members = Collected::default();
            self.by_handle.push((handle, subscription));
            let Follow { kind, ref name, quiet, members, history, ref data, .. } = followed.follow;
            let (name, data) = (name.clone(), data.clone());
            let (past, since) = (followed.replica.missing_past(), followed.replica.open());
            let past = if quiet { past } else { Offset(0) };
            let held = followed.held;
            let open = Open { handle, kind, name, quiet, members, since, history, past, data, instead };
            updates.push(said(&ClientFrame::Open(open)));
            if held {
                updates.push(said(&ClientFrame::Hold(handle)));
            }
        }
    }
}

fn said(frame: &ClientFrame) -> Piece {
    Piece { head: frame.encode(), content: Bytes::new() }
}

impl ClientEndpoint {
    /// Follows a channel from now on, over every connection. What there is of it comes as [`ClientEvent::Channel`].
    ///
    /// # Errors
    /// [`Refused::Closed`]; [`Refused::TooLarge`] when the data is more than [`MAX_CHANNEL_DATA`]. Then everything is as it
    /// was.
    pub fn follow(&mut self, follow: Follow) -> Result<Subscription, Refused> {
        self.open()?;
        if follow.data.as_ref().is_some_and(|data| data.bytes.len() > MAX_CHANNEL_DATA) {
            return Err(Refused::TooLarge);
        }
        let channels = &mut self.channels;
        let handle = follow.instead.and_then(|instead| channels.remove(instead)?.handle);
        channels.last += 1;
        let subscription = Subscription(channels.last);
        let (replica, members) = (Replica::new(follow.since, follow.past), Collected::default());
        channels.followed.push(Followed { subscription, follow, replica, members, handle, held: false });
        if matches!(self.phase, Phase::Connected { .. }) {
            channels.to_open.push_back(subscription);
        }
        Ok(subscription)
    }

    /// Wants nothing more of the log of a channel for now, on no connection. It stays a member, and is told of the others.
    /// To go on, follow instead of it, from where it has been seen.
    pub fn hold(&mut self, subscription: Subscription) {
        let place = self.channels.place(subscription);
        let Some(followed) = place.and_then(|place| self.channels.followed.get_mut(place)) else { return };
        followed.held = true;
        if let (Some(handle), Phase::Connected { connection, .. }) = (followed.handle, &mut self.phase) {
            connection.updates.push(said(&ClientFrame::Hold(handle)));
        }
    }

    /// Follows a channel no longer. Nothing more is told of it.
    pub fn unfollow(&mut self, subscription: Subscription) {
        let handle = self.channels.remove(subscription).and_then(|followed| followed.handle);
        if let (Some(handle), Phase::Connected { connection, .. }) = (handle, &mut self.phase) {
            connection.updates.push(said(&ClientFrame::Close(handle)));
        }
    }

    /// Up to where a channel has been seen.
    pub fn seen(&self, subscription: Subscription) -> Option<Position> {
        self.channels.followed.get(self.channels.place(subscription)?)?.replica.seen()
    }

    /// Wants something of a channel. It settles like a call; with a key it is done once however often it is sent. What
    /// the client says for itself from now on it says on later connections, too.
    ///
    /// # Errors
    /// When nothing was sent, and why.
    pub fn request(
        &mut self,
        now: Timestamp,
        (what, kind): (RequestKind, Kind),
        name: Name,
        payload: Payload,
        options: CallOptions,
    ) -> Result<CallId, Refused> {
        self.open()?;
        if what == RequestKind::Present {
            if payload.bytes.len() > MAX_CHANNEL_DATA {
                return Err(Refused::TooLarge);
            }
            for Followed { follow, .. } in &mut self.channels.followed {
                if follow.kind == kind && follow.name == name && follow.data.is_some() {
                    follow.data = Some(payload.clone());
                }
            }
        }
        self.session.request(now, (what, kind), name, payload, options)
    }

    /// Says something to whoever is in a channel. It is dropped without a connection, and where it would come late.
    ///
    /// # Errors
    /// [`Refused::Closed`], [`Refused::TooLarge`].
    pub fn append_volatile(&mut self, kind: Kind, name: Name, payload: Payload) -> Result<(), Refused> {
        self.open()?;
        let message = Broadcast::volatile_append(VolatileAppend { kind, name, payload })?;
        if !matches!(self.phase, Phase::Connected { .. }) {
            return Ok(());
        }
        self.session.send(&message).map(drop)
    }

    /// What is told under a handle that is not in use belongs to a channel that was closed, or opened again, since.
    pub(super) fn handle_channel(&mut self, frame: ChannelFrame) {
        let (ChannelFrame::Opened(handle, _)
        | ChannelFrame::Snapshot(handle, ..)
        | ChannelFrame::Update(handle, _)
        | ChannelFrame::Advance(handle, _)
        | ChannelFrame::Volatile(handle, ..)
        | ChannelFrame::Members(handle, _)
        | ChannelFrame::Closed(handle, ..)) = &frame;
        let handle = *handle;
        let Some(Followed { subscription, replica, members, held, .. }) = self.channels.by_handle(handle) else {
            return;
        };
        let subscription = *subscription;
        // What was under way when it was held comes again, from where the application will say.
        if *held && !matches!(frame, ChannelFrame::Members(..) | ChannelFrame::Closed(..)) {
            return;
        }
        let event = match frame {
            ChannelFrame::Opened(_, opened) => replica.handle_opened(&opened).map(|()| {
                let (seen, past) = (replica.seen(), replica.past());
                Some(ChannelEvent::Opened { start: opened.start, snapshot: opened.snapshot, seen, past })
            }),
            ChannelFrame::Snapshot(_, at, content) => {
                replica.handle_snapshot().map(|position| Some(ChannelEvent::Snapshot { position, at, content }))
            }
            ChannelFrame::Update(_, entry) => {
                replica.handle_update(entry.prev, entry.mark).map(|(position, before)| {
                    Some(ChannelEvent::Update { position, at: entry.at, content: entry.content, before })
                })
            }
            ChannelFrame::Advance(_, mark) => replica.handle_advance(mark).map(|()| None),
            ChannelFrame::Volatile(_, at, content) => Ok(Some(ChannelEvent::Volatile { at, content })),
            ChannelFrame::Members(_, changes) => members.take(changes).map(|all| all.map(ChannelEvent::Members)),
            ChannelFrame::Closed(_, code, message) => {
                self.channels.remove(subscription);
                Ok(Some(ChannelEvent::Closed(code, message)))
            }
        };
        match event {
            Ok(event) => {
                if let Some(event) = event {
                    self.event(ClientEvent::Channel(subscription, Box::new(event)));
                }
                let is_caught_up =
                    self.channels.by_handle(handle).is_some_and(|followed| followed.replica.take_caught_up());
                if is_caught_up {
                    self.event(ClientEvent::Channel(subscription, Box::new(ChannelEvent::CaughtUp)));
                }
            }
            // Nothing must be told that has a hole: the server finds out what is missing when it is asked again.
            Err(OutOfOrder) => {
                self.channels.forget(Some(handle));
                self.channels.to_open.push_back(subscription);
            }
        }
    }
}
