//! Every cap of the protocol, in one place. `docs/PROTOCOL.md` § Limits gives the behaviour at each.

use std::time::Duration;

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

/// Longest name of a handler, and longest own name of an application's failure, in bytes of UTF-8.
pub const MAX_NAME: usize = 200;

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

/// Largest payload of one message, in bytes. It leaves room in a record for the largest head of a frame.
pub const MAX_PAYLOAD: usize = MAX_PLAINTEXT - 1_024;

/// Caps that a server may tune. The client learns the server's from Welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest payload accepted in one message, in bytes; at most [`MAX_PAYLOAD`].
    pub max_message: usize,
    /// Calls of one peer that may be open at once; one more fails with `too_many_calls`.
    pub max_calls_in_flight: usize,
    /// Bytes of frames that wait for the socket; beyond it calls and notifications fail with `backpressure`.
    pub max_outgoing_bytes: usize,
    /// Frames that wait for the socket; beyond it calls and notifications fail with `backpressure`.
    pub max_outgoing_frames: usize,
    /// Bytes that wait for the socket beyond which volatile messages are dropped; so they are when half of
    /// `max_outgoing_frames` wait, so that they never take the place of others.
    pub max_volatile_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: MAX_PAYLOAD,
            max_calls_in_flight: 1_024,
            max_outgoing_bytes: 1024 * 1024,
            max_outgoing_frames: 2_048,
            max_volatile_bytes: 64 * 1024,
        }
    }
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
