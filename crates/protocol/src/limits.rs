//! Every cap of the protocol, in one place. `docs/PROTOCOL.md` § Limits gives the behaviour at each.

use std::{num::NonZeroU64, time::Duration};

/// Largest record, so largest WebSocket message, in bytes.
pub const MAX_RECORD: usize = 65_536;

/// Length of an AEAD tag, in bytes.
pub const TAG: usize = 16;

/// Most plaintext in one sealed record: a record without its type byte and tag.
pub const MAX_PLAINTEXT: usize = MAX_RECORD - 1 - TAG;

/// Largest record a server reads before it knows who is there.
pub const MAX_RECORD_BEFORE_AUTH: usize = 8 * 1024;

/// Largest encoded AUTH: what fits HS3 beside the sealed static key (48 bytes), its type byte and tag.
pub const MAX_AUTH: usize = MAX_RECORD_BEFORE_AUTH - 1 - 48 - TAG;

/// Longest identity that a client is told, in bytes of JSON.
pub const MAX_IDENTITY: usize = 8 * 1024;

/// Largest value that an auth handler gives a client, in bytes of payload: beside the identity it fits one record.
pub const MAX_GIVEN: usize = 48 * 1024;

/// Longest name of a handler, and longest own name of an application's failure, in bytes of UTF-8.
pub const MAX_NAME: usize = 200;

/// Longest pattern of names, in bytes of UTF-8: as long as the longest name.
pub const MAX_PATTERN: usize = MAX_NAME;

/// Most scopes of one identity: each may be compared with the name of an operation.
pub const MAX_SCOPES: usize = 256;

/// Longest own name of an application's refusal in a Reject, in bytes of UTF-8; longer ones are cut at a character.
pub const MAX_REFUSAL_NAME: usize = 64;

/// Longest text of a failure, in bytes of UTF-8; longer ones are cut at a character.
pub const MAX_TEXT: usize = 700;

/// Longest URL in AUTH, in bytes.
pub const MAX_URL: usize = 2_048;

/// Longest version string of either side, in bytes.
pub const MAX_VERSION: usize = 64;

/// Body of every Reject, in bytes: padded, so that its length tells nothing.
pub const REJECT_BODY: usize = 1_024;

/// Largest that a message may be allowed to be, in bytes of payload.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;

/// Largest message unless a side says otherwise, in bytes of payload. A client that takes this much says nothing of it.
pub const DEFAULT_MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Most that stands in a frame beside the payload, in bytes.
pub(crate) const MAX_HEAD: usize = 1_024;

/// Most that stands before the payload in the content of an entry: who wrote it.
pub(crate) const MAX_AUTHORED: usize = 256;

/// Frames about channels that wait for one connection, and parts of them.
pub(crate) const MAX_UPDATES: usize = 8_192;

/// Bytes that wait for one connection in all the channels that it has open, before none of them reads more; about as
/// much again may be on its way from an engine.
pub(crate) const MAX_WAITING: usize = 1024 * 1024;

/// Channels of one connection that are read for at once.
pub(crate) const MAX_READING: usize = 8;

/// Most that a client says for itself to the others in a channel, in bytes.
pub const MAX_CHANNEL_DATA: usize = 4 * 1024;

/// Largest payload of a volatile message, in bytes: it travels in one frame or not at all.
pub const MAX_VOLATILE: usize = MAX_PLAINTEXT - MAX_HEAD;

/// Largest payload of a reliable message that travels in one frame, and largest part of a larger one, in bytes.
pub const PART: usize = 16 * 1024;

/// Parts in one record, so that a large message leaves room for others.
pub(crate) const PARTS_A_RECORD: usize = 3;

/// The protocol's own frames that may wait for the socket whatever the caps are: a greeting, pings and their answers.
pub(crate) const CONTROL_FRAMES: usize = 32;

/// Reliable frames after which an acknowledgement is sent at once.
pub(crate) const ACK_FRAMES: usize = 64;

/// Bytes of reliable frames after which an acknowledgement is sent at once.
pub(crate) const ACK_BYTES: usize = 64 * 1024;

/// How long an acknowledgement may wait for a record that goes out anyway.
pub(crate) const ACK_AFTER: Duration = Duration::from_millis(500);

/// How many times the cap on what is unconfirmed and a largest message together answers may take up. It is for several
/// large ones at once: a client that reads well gets them all. An answer that comes on top fails its call alone, with
/// `too_large`. A peer that makes calls and never reads costs this much and no more; once more of it, for what was
/// promised room, and the session is lost.
pub(crate) const ANSWERS: usize = 8;

/// How much a stream may send ahead of who reads it, in items, unless the reader says otherwise.
pub const DEFAULT_CREDIT: u64 = 64;

/// Caps that a side may tune. The client learns the server's from Welcome, the server the client's largest message
/// from AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest payload accepted in one message, in bytes; at most [`MAX_PAYLOAD`].
    pub max_message: usize,
    /// Calls of one peer that may be open at once; one more fails with `too_many_calls`.
    pub max_calls_in_flight: usize,
    /// Channels that one client may have open at once on its connection; one more is refused with `too_many_channels`.
    pub max_channels: usize,
    /// Bytes of messages that the other side has not confirmed; from there on calls and notifications fail with
    /// `backpressure`. The last message may stand out beyond it.
    pub max_outgoing_bytes: usize,
    /// Frames that the other side has not confirmed; from there on calls and notifications fail with `backpressure`.
    pub max_outgoing_frames: usize,
    /// Bytes that go out before a volatile message beyond which it is dropped; of what travels in parts only those of
    /// one record count. So it is when half of `max_outgoing_frames` wait, so that they never take the place of others.
    pub max_volatile_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: DEFAULT_MAX_MESSAGE,
            max_calls_in_flight: 1_024,
            max_channels: 1_024,
            max_outgoing_bytes: 1024 * 1024,
            max_outgoing_frames: 2_048,
            max_volatile_bytes: 64 * 1024,
        }
    }
}

/// How much a client may send in a second, five seconds' worth at once; `None` is no limit.
///
/// Welcome tells it. The server's driver looks that it is kept: the endpoint has no part in that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Messages: calls, notifications, what is shown by Authenticate, and records that have none of these.
    pub messages_per_second: Option<NonZeroU64>,
    /// Bytes of records, as they are on the wire.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// How much one key seals before it is replaced, each direction alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RekeyPolicy {
    /// Records after which the key is replaced.
    pub records: u64,
    /// Plaintext bytes after which the key is replaced.
    pub bytes: u64,
}

impl Default for RekeyPolicy {
    /// The values of the protocol. Both ends must agree, so only tests have a reason to differ.
    fn default() -> Self {
        Self { records: 65_536, bytes: 1 << 28 }
    }
}

/// How long each phase before the established connection may take on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the open socket to a valid HS3.
    pub handshake: Duration,
    /// From HS3 to the application's decision.
    pub decision: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(5), decision: Duration::from_secs(10) }
    }
}
