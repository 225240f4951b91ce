//! Following a store of the server's, and writing to it. What a patch or a snapshot means is the program's business.

use std::sync::Arc;

use bytes::Bytes;
use moorline_protocol::{
    channel::{Kind, Member, MemberId, Offset, Position, Start, ValueHash},
    client::Follow,
    error::Refused,
    frame::RequestKind,
    payload::{Name, Payload},
    session::CallOptions,
    time::UnixMillis,
};
use serde::Serialize;

use crate::{
    Aside, CALL_TIMEOUT, Client, Error,
    channel::{Following, Happened, position},
};

/// How a store is to be followed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Whether to be told who is in it.
    pub members: bool,
    /// What this client says for itself to the others: with it, it is a member.
    pub presence: Option<Payload>,
    /// From where the program has it already.
    pub since: Option<Position>,
}

impl StoreOptions {
    /// Goes on from where the program has it already.
    pub fn since(position: Position) -> Self {
        Self { since: Some(position), ..Self::default() }
    }
}

/// What happens in a store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// It goes on: with everything that was missed, or anew. Whatever the program has of it is then to be forgotten, or
    /// merged, with what follows: a snapshot, if there is one, and every patch that is not in it.
    Opened(Start),
    /// Everything up to a position.
    Snapshot {
        /// What it covers.
        position: Position,
        /// When it was made, by the server's clock.
        at: UnixMillis,
        /// What it says.
        data: Bytes,
    },
    /// Another client has changed something. One's own patches are not told.
    Patch(StorePatch),
    /// Somebody has said something that is kept nowhere.
    Volatile(Aside),
    /// Somebody has sent something to this client alone.
    Direct(Aside),
    /// So much was sent to this client alone for which there was no room: 1,024 messages, or 4 MiB of them, waited to be
    /// read here. It is lost.
    Missed(u64),
    /// Who is in it has changed: [`Store::members`].
    Members,
}

/// A patch of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePatch {
    /// Where it is.
    pub position: Position,
    /// When it was written, by the server's clock.
    pub at: UnixMillis,
    /// The session that wrote it.
    pub member: MemberId,
    /// Its subject; empty for the server.
    pub subject: String,
    /// What it says.
    pub data: Bytes,
}

/// A store that is followed over every connection, until this is dropped.
pub struct Store(Following);

impl Store {
    /// What happens next; `None` after an error.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] when the server does not tell of the store, or no longer; [`Error::Closed`].
    pub async fn next(&mut self) -> Option<Result<StoreEvent, Error>> {
        Some(self.0.next().await?.map(|happened| match happened {
            Happened::Opened(start) => StoreEvent::Opened(start),
            Happened::Snapshot { position, at, content } => StoreEvent::Snapshot { position, at, data: content },
            Happened::Entry { position, said: Aside { at, member, subject, payload }, .. } => {
                StoreEvent::Patch(StorePatch { position, at, member, subject, data: payload.bytes })
            }
            Happened::Volatile(said) => StoreEvent::Volatile(said),
            Happened::Direct(said) => StoreEvent::Direct(said),
            Happened::Missed(count) => StoreEvent::Missed(count),
            Happened::Members => StoreEvent::Members,
        }))
    }

    /// Up to where it has been read.
    pub fn position(&self) -> Option<Position> {
        self.0.follow.since
    }

    /// Who is in it, as far as has been read; nobody unless [`StoreOptions::members`] was set.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.0.members()
    }

    /// Adds a patch. It resolves when the server has it on its disk.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the session was lost before the answer came; else why it was not written.
    pub async fn append(&mut self, patch: impl Into<Bytes>) -> Result<Position, Error> {
        position(&self.0.request(RequestKind::Append, Payload::bytes(patch)).await?)
    }

    /// Keeps what everything up to a position comes to, in place of the patches that say so.
    ///
    /// # Errors
    /// [`Error::Failed`] with `superseded_snapshot` when there is one that covers as much, `unknown_position`,
    /// `forbidden`.
    pub async fn keep_snapshot(&mut self, covers: Position, data: impl Into<Bytes>) -> Result<(), Error> {
        self.0.request(RequestKind::Snapshot(covers), Payload::bytes(data)).await.map(drop)
    }

    /// Keeps a value in the form that the protocol has for them, by its hash.
    ///
    /// # Errors
    /// [`Error::Failed`] with `invalid_params` when it is none, or not of this hash.
    pub async fn keep_value(&mut self, hash: ValueHash, value: impl Into<Bytes>) -> Result<(), Error> {
        self.0.request(RequestKind::Keep(hash), Payload::bytes(value)).await.map(drop)
    }

    /// A value.
    ///
    /// # Errors
    /// [`Error::Failed`] with `no_such_value`.
    pub async fn value(&mut self, hash: ValueHash) -> Result<Bytes, Error> {
        self.0.request(RequestKind::Value(hash), Payload::bytes("")).await.map(|value| value.bytes)
    }

    /// Sends something to one who is in the store, alone: as [`Topic::send_to`](crate::Topic::send_to).
    ///
    /// # Errors
    /// [`Error::Failed`] with `no_such_member`, or why else it was not sent.
    pub async fn send_to(&mut self, member: MemberId, data: &impl Serialize) -> Result<(), Error> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        self.0.request(RequestKind::Send(member), payload).await.map(drop)
    }
}

impl Client {
    /// Follows a store, over every connection: from its first [`Store::next`] on.
    ///
    /// # Errors
    /// [`Error::Refused`] when the name is none.
    pub fn store(&self, name: &str, options: StoreOptions) -> Result<Store, Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let StoreOptions { members, presence, since } = options;
        let follow = Follow {
            kind: Kind::Store,
            name,
            quiet: true,
            members,
            history: 0,
            since,
            past: Offset(0),
            data: presence,
            instead: None,
        };
        Ok(Store(Following::new(self.clone(), follow)))
    }

    /// Adds a patch to a store. With a key it is added once, however often it is sent within a day.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the session was lost before the answer came; else why it was not written.
    pub async fn append(&self, store: &str, patch: impl Into<Bytes>, key: Option<&str>) -> Result<Position, Error> {
        let name = Name::new(store).map_err(|_| Refused::InvalidName)?;
        let mut options = CallOptions::within(CALL_TIMEOUT);
        options.key = key.map(Name::new).transpose().map_err(|_| Refused::InvalidName)?;
        let payload = Payload::bytes(patch);
        position(&self.request(RequestKind::Append, Kind::Store, name, payload, options).await?)
    }
}
