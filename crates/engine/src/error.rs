//! Why an engine did not do what it was asked for.

use std::fmt;

use moorline_protocol::channel::Mark;

/// Why an operation failed. It has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// The log ends at this entry, and not where the caller expected.
    Conflict(Mark),
    /// The value was changed, made or removed by somebody else.
    Changed,
    /// The log does not have the entry that is spoken of.
    UnknownPosition,
    /// There is a snapshot that covers as much.
    Superseded,
    /// With it, the channel would need more than it may.
    TooMuch,
    /// With it, its tenant would have more channels of its kind than it may.
    TooManyChannels,
    /// There is no room left where the engine keeps things. What is there can still be read.
    Full,
    /// What the engine keeps things on failed: the system's own word for it.
    Storage(StorageFault),
    /// The engine is closed.
    Closed,
}

/// What the storage said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageFault(pub(crate) Box<str>);

impl fmt::Display for StorageFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(head) => write!(formatter, "the log ends at {} by now", head.offset.0),
            Self::Changed => formatter.write_str("somebody else has changed the value"),
            Self::UnknownPosition => formatter.write_str("the log has no such entry"),
            Self::Superseded => formatter.write_str("there is a snapshot that covers as much"),
            Self::TooMuch => formatter.write_str("the channel would need more than it may"),
            Self::TooManyChannels => formatter.write_str("the tenant has as many channels of this kind as it may"),
            Self::Full => formatter.write_str("there is no room left on the disk"),
            Self::Storage(fault) => write!(formatter, "the storage failed: {fault}"),
            Self::Closed => formatter.write_str("the engine is closed"),
        }
    }
}

impl std::error::Error for EngineError {}
