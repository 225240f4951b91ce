//! Channels: what people share, each a named, ordered log with an optional snapshot.
//!
//! Implements `docs/PROTOCOL.md` § Channels. A channel is of one [`Kind`], has a name, and belongs to a tenant; who holds
//! its log is not known here.

mod attachment;
mod authored;
mod log;
mod position;
mod replica;
mod roster;

pub use attachment::*;
pub use authored::*;
pub use log::*;
pub use position::*;
pub use replica::*;
pub use roster::*;

use crate::{payload::Name, subject::Tenant};

/// As what the entries of a channel are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Messages that are published and subscribed to.
    Topic = 1,
    /// A state that the server owns, and what it reveals of its changes.
    Feed = 2,
    /// Parameters that are shared.
    State = 3,
    /// Patches that only the clients understand.
    Store = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Topic, Self::Feed, Self::State, Self::Store];

    /// The kind of a number of the wire.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }

    /// Its name in scopes, settings and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Feed => "feed",
            Self::State => "state",
            Self::Store => "store",
        }
    }
}

/// Which channel. Made of its parts, so that no name reaches into another tenant or kind. Cloning shares the names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// Whose.
    pub tenant: Tenant,
    /// Of which kind.
    pub kind: Kind,
    /// How it is called among those of its kind.
    pub name: Name,
}

impl ChannelId {
    /// The channel of this kind and name that belongs to `tenant`.
    pub fn new(tenant: Tenant, kind: Kind, name: Name) -> Self {
        Self { tenant, kind, name }
    }
}
