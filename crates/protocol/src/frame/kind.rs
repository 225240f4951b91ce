//! The numbers of frames, their flags, and what each kind is.
//!
//! Numbers are never reused; those in comments are kept for what is to come.

pub(crate) const WELCOME: u8 = 0x01;
pub(crate) const REJECT: u8 = 0x02;
pub(crate) const GOAWAY: u8 = 0x03;
pub(crate) const BYE: u8 = 0x04;
pub(crate) const SEQ: u8 = 0x05;
pub(crate) const ACK: u8 = 0x06;
pub(crate) const PING: u8 = 0x07;
pub(crate) const PONG: u8 = 0x08;
pub(crate) const WARN: u8 = 0x09;
pub(crate) const AUTHENTICATE: u8 = 0x0a;
pub(crate) const AUTHENTICATED: u8 = 0x0b;
pub(crate) const CALL: u8 = 0x10;
pub(crate) const REPLY: u8 = 0x11;
pub(crate) const FAIL: u8 = 0x12;
pub(crate) const CANCEL: u8 = 0x13;
pub(crate) const NOTIFY: u8 = 0x14;
pub(crate) const VOLATILE: u8 = 0x15;
pub(crate) const ITEM: u8 = 0x16;
pub(crate) const CREDIT: u8 = 0x17;
pub(crate) const END: u8 = 0x18;
pub(crate) const FIRST: u8 = 0x19;
pub(crate) const MORE: u8 = 0x1a;
pub(crate) const OPEN: u8 = 0x20;
pub(crate) const OPENED: u8 = 0x21;
pub(crate) const UPDATE: u8 = 0x22;
pub(crate) const ADVANCE: u8 = 0x23;
pub(crate) const MEMBERS: u8 = 0x24;
pub(crate) const REQUEST: u8 = 0x25;
pub(crate) const CLOSE: u8 = 0x26;
pub(crate) const CLOSED: u8 = 0x27;
pub(crate) const SNAPSHOT: u8 = 0x28;
pub(crate) const CHANNEL_FIRST: u8 = 0x29;
pub(crate) const CHANNEL_MORE: u8 = 0x2a;
pub(crate) const DIRECT: u8 = 0x2b;
pub(crate) const VOLATILE_APPEND: u8 = 0x2c;
pub(crate) const VOLATILE_UPDATE: u8 = 0x2d;
pub(crate) const HOLD: u8 = 0x2e;

/// The bits of a frame's second byte.
pub(crate) mod flag {
    /// The sender waits for the acknowledgement: send it at once.
    pub(crate) const ASK: u8 = 0x01;
    /// A Call has an idempotency key.
    pub(crate) const KEYED: u8 = 0x02;
    /// A Call wants a stream, and says how many items it takes.
    pub(crate) const STREAM: u8 = 0x04;
    /// Who opens a channel does not want to hear what it has written itself.
    pub(crate) const QUIET: u8 = 0x08;
    /// Who opens a channel wants to know who is in it.
    pub(crate) const MEMBERS: u8 = 0x10;
    /// Members who are not told of have left.
    pub(crate) const WHOLE: u8 = 0x20;
    /// What is told of members goes on.
    pub(crate) const GOES_ON: u8 = 0x40;
}

/// Whether frames of this kind are numbered, acknowledged and sent again.
pub(super) fn is_reliable(kind: u8) -> bool {
    matches!(kind, CALL | REPLY | FAIL | CANCEL | NOTIFY | ITEM | CREDIT | END | FIRST | MORE | REQUEST | DIRECT)
}

/// The flags that a kind may have.
pub(super) fn flags_of(kind: u8) -> u8 {
    match kind {
        CALL => flag::ASK | flag::KEYED | flag::STREAM,
        REQUEST => flag::ASK | flag::KEYED,
        OPEN => flag::QUIET | flag::MEMBERS,
        MEMBERS => flag::WHOLE | flag::GOES_ON,
        kind if is_reliable(kind) => flag::ASK,
        _ => 0,
    }
}

/// Whether a message of this kind may come in parts.
pub(super) fn may_be_in_parts(kind: u8) -> bool {
    matches!(kind, CALL | REPLY | FAIL | NOTIFY | ITEM | REQUEST | DIRECT)
}
