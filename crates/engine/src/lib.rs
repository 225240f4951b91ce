//! Where channels live: for each an ordered log of entries, an optional snapshot and values beside it.
//!
//! ```text
//!   server ── append, read, snapshot ──▶ Engine ── MemoryEngine: gone with the process
//!      ▲                                   │   └── SqliteEngine: committed to the disk before it says so
//!      └───────── Watcher: every new entry ┘
//! ```
//!
//! An engine numbers entries, keeps them and tells of them. It does not know who may do what, what an entry means, or
//! who listens. It has no clock and no random source: both come in.
//!
//! # The contract
//!
//! **Told once it is true.** [`Engine::append`] resolves when the entry is kept as the engine keeps things (SQLite:
//! written and synced), and watchers have been told of it before. Entries of one channel are told in their order.
//! What a watcher hears may have holes where an engine spans machines; each entry carries the offset before it
//! ([`Entry::prev`](moorline_protocol::channel::Entry::prev)), so that a hole is seen, and [`Engine::read`] fills it.
//!
//! **Nothing half.** An operation that fails has changed nothing.
//!
//! # Modules
//!
//! | module | what it owns |
//! |---|---|
//! | [`Engine`] and its types | what there is to ask for |
//! | `memory` | the engine for tests, and for channels that need not outlive the process |
//! | `sqlite` | the engine on a disk: one writer, group commit, readers beside it; and its file without an engine: to look at ([`SqliteView`]), to look after ([`SqliteFile`]), to carry a channel elsewhere ([`Archive`]) |
//! | `testing` | the suite that any engine must pass, a wrapper that loses what it tells (feature `testing`) |
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use moorline_engine::{Append, Engine, Limit, MemoryEngine, Retention};
//! use moorline_protocol::{channel::{ChannelId, Kind, Range}, payload::Name, subject::Tenant, time::UnixMillis};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = MemoryEngine::new([7; 32]);
//! let room = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room:lobby")?);
//! let hello = Append::new(Bytes::from("hello"), UnixMillis(1_700_000_000_000), Retention::default());
//! let first = engine.append(&room, hello).await?.position;
//! let page = engine.read(&room, Range::Oldest, Limit::default()).await?;
//! assert_eq!(page.entries[0].mark, first.mark);
//! # Ok(())
//! # }
//! ```

mod error;
mod memory;
mod model;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;

use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Bounds, ChannelId, Entry, Kind, LogEpoch, Page, Range, Snapshot},
    subject::Tenant,
    time::UnixMillis,
};

pub use error::EngineError;
pub use memory::MemoryEngine;
use model::Room;
pub use model::*;
pub use moorline_protocol::channel::ValueHash;
#[cfg(all(feature = "sqlite", feature = "testing"))]
pub use sqlite::Tuning;
#[cfg(feature = "sqlite")]
pub use sqlite::{
    Archive, ArchiveError, ArchiveHeader, Compacted, ExportError, Fault, Finding, ImportError, Imported, OpenError,
    Outline, OutlinedSnapshot, SqliteEngine, SqliteFile, SqliteView,
};

/// What an engine answers, in its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Whether somebody has a channel open. It is asked from within the engine, as a [`Watcher`] is told.
pub type IsOpen = Arc<dyn Fn(&ChannelId) -> bool + Send + Sync>;

/// Who wants to know of new entries, on this node and others.
pub trait Watcher: Send + Sync {
    /// There is a new entry. Called in the order of the entries of a channel, before [`Engine::append`] resolves, from
    /// within the engine: it must be short, and must not ask the engine for anything.
    fn appended(&self, channel: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>);

    /// The log is gone, and whoever asks for it finds another.
    fn removed(&self, channel: &ChannelId);
}

/// A keeper of channels.
///
/// A channel that nobody has written to is an empty log. It is made by being asked for, so that who has seen it empty
/// can be told what came since.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Tells `watcher` of everything that is appended from now on, as long as the engine lives.
    fn watch(&self, watcher: Arc<dyn Watcher>);

    /// Adds an entry at the end.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when the log does not end where [`Append::expected`] says; [`EngineError::TooMuch`] when
    /// the channel would need more bytes than [`Append::most`], [`EngineError::TooManyChannels`] when there would be more of
    /// them; [`EngineError::Full`] and [`EngineError::Storage`] when the entry could not be kept.
    fn append<'a>(&'a self, channel: &'a ChannelId, append: Append) -> Answer<'a, Appended>;

    /// What there is of the log.
    fn bounds<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Bounds>;

    /// Some of the entries, in their order.
    fn read<'a>(&'a self, channel: &'a ChannelId, range: Range, limit: Limit) -> Answer<'a, Page>;

    /// The newest snapshot, and what there is of the log at the same moment.
    fn snapshot<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, (Bounds, Option<Arc<Snapshot>>)>;

    /// Keeps a snapshot, and drops what that makes superfluous: snapshots but the one before it, and the entries that
    /// the one before it covers. So there is always one to go back to.
    ///
    /// # Errors
    /// [`EngineError::UnknownPosition`] when the log does not have, or never had, what the snapshot covers;
    /// [`EngineError::Superseded`] when there is one that covers as much or more; otherwise as [`Self::append`].
    fn keep_snapshot<'a>(&'a self, channel: &'a ChannelId, snapshot: Snapshot, most: Most) -> Answer<'a, ()>;

    /// Keeps a value beside the log, under its hash. That the hash is its own is the caller's to check. One that is
    /// there already stays.
    ///
    /// # Errors
    /// As [`Self::append`].
    fn keep_value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash, value: Bytes, most: Most) -> Answer<'a, ()>;

    /// A value.
    fn value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash) -> Answer<'a, Option<Bytes>>;

    /// How much a channel takes.
    fn usage<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Usage>;

    /// Channels of a kind in the order of their names, those after `after`; at most `most`. `tenant` restricts them to
    /// one tenant; without it they are ordered by tenant first.
    fn channels<'a>(
        &'a self,
        kind: Kind,
        tenant: Option<Tenant>,
        after: Option<ChannelId>,
        most: usize,
    ) -> Answer<'a, Vec<ChannelId>>;

    /// Removes a channel and everything in it. Gives whether there was one.
    fn remove<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, bool>;

    /// Drops what is older than its log keeps it, operations that are too old to come again, and channels that nobody has
    /// open and that were asked for and no more: whoever asks for names must not fill what an engine keeps them on. An
    /// engine that does not outlive the process drops those that have nothing left, too.
    fn sweep(&self, now: UnixMillis, is_open: IsOpen) -> Answer<'_, ()>;

    /// A value of the application's.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>>;

    /// Sets a value of the application's, and gives its version.
    ///
    /// # Errors
    /// [`EngineError::Changed`] when it is not as `expected`; [`EngineError::Full`] and [`EngineError::Storage`].
    fn put<'a>(&'a self, key: &'a Key, value: Bytes, expected: Expected) -> Answer<'a, Version>;

    /// Removes a value of the application's. Gives whether there was one.
    ///
    /// # Errors
    /// As [`Self::put`].
    fn delete<'a>(&'a self, key: &'a Key, expected: Expected) -> Answer<'a, bool>;

    /// Keys of a namespace that begin with `prefix`, in order, those after `after`; at most `most`.
    fn keys<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<(String, Versioned)>>;
}
