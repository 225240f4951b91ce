//! Failures, split by whose fault they are.

use std::fmt;

use crate::code::Code;

/// Bytes that do not parse. It names the shape of the fault and never quotes the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The input ended inside a value.
    UnexpectedEnd,
    /// Bytes were left over where none may be.
    TrailingBytes,
    /// An integer had more bytes than it needs.
    OverlongInteger,
    /// An integer did not fit its type.
    IntegerTooLarge,
    /// A length was above its cap.
    TooLong,
    /// A string was not UTF-8.
    NotUtf8,
    /// Fields of a list did not ascend.
    FieldOutOfOrder,
    /// A field that must be there was not.
    FieldMissing,
    /// A number stood for nothing in this version.
    UnknownValue,
    /// A name was empty, too long, or held a control character.
    InvalidName,
    /// Padding was not zero or not of its length.
    BadPadding,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::UnexpectedEnd => "the bytes end inside a value",
            Self::TrailingBytes => "bytes are left over",
            Self::OverlongInteger => "an integer is longer than it needs to be",
            Self::IntegerTooLarge => "an integer is too large",
            Self::TooLong => "a length is above its limit",
            Self::NotUtf8 => "a string is not UTF-8",
            Self::FieldOutOfOrder => "fields are out of order",
            Self::FieldMissing => "a field is missing",
            Self::UnknownValue => "a number stands for nothing here",
            Self::InvalidName => "a name is not valid",
            Self::BadPadding => "padding is not zero",
        })
    }
}

impl std::error::Error for Malformed {}

/// What a peer did that the protocol does not allow. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Bytes did not parse.
    Malformed(Malformed),
    /// A record of this type may not come in this phase.
    UnexpectedRecord,
    /// A text message: Moorline speaks only binary ones.
    TextMessage,
    /// A record without a frame.
    EmptyRecord,
    /// A record above its cap.
    OversizedRecord,
    /// A record that the keys of this connection do not open. Nothing more is ever said about it.
    Unopened,
    /// A frame number or flag that this version does not have, or not from this side.
    UnknownFrame,
    /// A frame that may not come in this phase.
    UnexpectedFrame,
    /// A call's number did not ascend, or was 0.
    CallReused,
    /// A channel's number did not ascend, or was 0.
    ChannelReused,
    /// A payload above the limit that Welcome told.
    PayloadTooLarge,
    /// Numbers of a session that do not fit: a gap, an acknowledgement of what was never sent, a resumption nobody
    /// asked for.
    WrongSequence,
    /// More items of a stream than were asked for.
    NoCredit,
    /// The keys have sealed all they may. Not the peer's fault, but the end of the connection all the same.
    KeysSpent,
}

impl Violation {
    /// The close code that tells the peer, as far as it is told.
    pub fn code(self) -> Code {
        match self {
            Self::Unopened => Code::RECORD_REFUSED,
            Self::Malformed(_)
            | Self::UnexpectedRecord
            | Self::TextMessage
            | Self::EmptyRecord
            | Self::OversizedRecord
            | Self::UnknownFrame
            | Self::UnexpectedFrame
            | Self::CallReused
            | Self::ChannelReused
            | Self::PayloadTooLarge
            | Self::WrongSequence
            | Self::NoCredit
            | Self::KeysSpent => Code::PROTOCOL_VIOLATION,
        }
    }
}

impl Violation {
    /// Whether it was inside a record that opened, so that the same would come again in the next connection. What
    /// anybody on the way can cause costs a connection and no session.
    pub(crate) fn spoils_session(self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::UnknownFrame
            | Self::UnexpectedFrame
            | Self::CallReused
            | Self::ChannelReused
            | Self::PayloadTooLarge
            | Self::WrongSequence
            | Self::NoCredit => true,
            Self::UnexpectedRecord
            | Self::TextMessage
            | Self::EmptyRecord
            | Self::OversizedRecord
            | Self::Unopened
            | Self::KeysSpent => false,
        }
    }
}

impl From<Malformed> for Violation {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(formatter),
            Self::UnexpectedRecord => formatter.write_str("a record came out of turn"),
            Self::TextMessage => formatter.write_str("a text message came"),
            Self::EmptyRecord => formatter.write_str("a record had no frame"),
            Self::OversizedRecord => formatter.write_str("a record was too large"),
            Self::Unopened => formatter.write_str("a record did not open"),
            Self::UnknownFrame => formatter.write_str("a frame of an unknown kind came"),
            Self::UnexpectedFrame => formatter.write_str("a frame came out of turn"),
            Self::CallReused => formatter.write_str("a call's number did not ascend"),
            Self::ChannelReused => formatter.write_str("a channel's number did not ascend"),
            Self::PayloadTooLarge => formatter.write_str("a payload was above the limit"),
            Self::WrongSequence => formatter.write_str("a number of the session did not fit"),
            Self::NoCredit => formatter.write_str("a stream sent more than it was asked for"),
            Self::KeysSpent => formatter.write_str("the keys are spent"),
        }
    }
}

impl std::error::Error for Violation {}

/// The request was refused before anything was sent: the caller can change it or wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The payload is above the limit.
    TooLarge,
    /// Too much already waits for the socket.
    Backpressure,
    /// The endpoint is closed for good.
    Closed,
    /// There is no connection to send it on, and this kind of message does not wait for one.
    NotConnected,
    /// The name is empty, longer than 200 bytes, or holds a control character.
    InvalidName,
}

impl Refused {
    /// The code that names it to the application.
    pub fn code(self) -> Code {
        match self {
            Self::TooLarge => Code::TOO_LARGE,
            Self::Backpressure => Code::BACKPRESSURE,
            Self::Closed => Code::CLOSED,
            Self::NotConnected => Code::CONNECTION_LOST,
            Self::InvalidName => Code::INVALID_NAME,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code().entry().map_or("refused", |entry| entry.summary))
    }
}

impl std::error::Error for Refused {}
