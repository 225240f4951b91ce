//! The labels: each a closed set of values, all of them there from the start, so that a rate has a beginning.

use moorline_protocol::{
    code::{self, Code},
    frame::{RequestKind, ResetReason},
    key::KeyRole,
    server::{Ended, HandshakeFailure},
};

/// Which of a label's values something has.
pub(crate) trait Label {
    /// The label's name.
    const NAME: &'static str;

    /// Every value that it can have.
    fn values() -> Vec<&'static str>;

    /// The place of this value among them.
    fn place(self) -> usize;

    /// The label with this value.
    fn pair(self) -> (&'static str, &'static str)
    where
        Self: Sized,
    {
        (Self::NAME, Self::values()[self.place()])
    }
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $label:literal { $($(#[$of:meta])* $variant:ident $value:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$of])* $variant,)* }

        impl Label for $name {
            const NAME: &'static str = $label;

            fn values() -> Vec<&'static str> {
                vec![$($value),*]
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Which way something goes, as the server sees it.
    Direction, "direction" {
        In "in"
        Out "out"
    }
}

label! {
    /// Why there is no WebSocket.
    RefusedUpgrade, "reason" {
        Host "host"
        Proxy "proxy"
        Origin "origin"
        /// It is no request for a WebSocket as RFC 6455 has it, or for another version of it.
        Request "request"
        Query "query"
        Subprotocol "subprotocol"
        Full "full"
        /// By one of the limits on addresses and handshakes.
        Limited "limited"
    }
}

label! {
    /// Which limit somebody met.
    Limited, "limit" {
        ConnectionsPerAddress "connections_per_address"
        ConnectionsPerSubject "connections_per_subject"
        Handshakes "handshakes_per_second"
        HandshakesPerAddress "handshakes_per_second_per_address"
        FailedHandshakes "failed_handshakes_per_minute"
        FailedHandshakesPerAddress "failed_handshakes_per_minute_per_address"
        Messages "messages_per_second"
        Bytes "bytes_per_second"
        Handler "handler"
        Tokens "tokens"
    }
}

impl Limited {
    /// Its name: that of the setting.
    pub(crate) fn name(self) -> &'static str {
        self.pair().1
    }
}

label! {
    /// How a handshake ended.
    HandshakeResult, "result" {
        Completed "completed"
        ClientHello "client_hello"
        ClientFinish "client_finish"
        Record "record"
        Deadline "deadline"
        SocketClosed "socket_closed"
        WrongEndpoint "wrong_endpoint"
    }
}

/// The value of a handshake that did not fail.
pub(super) const COMPLETED: &str = "completed";

/// The value of a handshake in which no key was found, or none was needed.
pub(super) const NO_KEY: &str = "none";

label! {
    /// Which of the server's keys a client that came in had asked for.
    HandshakeKey, "key" {
        Current "current"
        Next "next"
        Previous "previous"
        /// It did not come in, or nothing is encrypted.
        None "none"
    }
}

impl HandshakeKey {
    pub(super) fn of(role: Option<KeyRole>) -> Self {
        match role {
            Some(KeyRole::Current) => Self::Current,
            Some(KeyRole::Next) => Self::Next,
            Some(KeyRole::Previous) => Self::Previous,
            None => Self::None,
        }
    }
}

label! {
    /// What a client wants of a channel.
    ChannelRequest, "request" {
        Append "append"
        Send "send"
        Present "present"
        History "history"
        Snapshot "snapshot"
        Keep "keep"
        Value "value"
        Volatile "volatile"
    }
}

impl ChannelRequest {
    pub(super) fn of(what: &RequestKind) -> Self {
        match what {
            RequestKind::Append => Self::Append,
            RequestKind::Send(_) => Self::Send,
            RequestKind::Present => Self::Present,
            RequestKind::History { .. } => Self::History,
            RequestKind::Snapshot(_) => Self::Snapshot,
            RequestKind::Keep(_) => Self::Keep,
            RequestKind::Value(_) => Self::Value,
        }
    }
}

label! {
    /// How a call ended.
    CallResult, "result" {
        Ok "ok"
        Failed "failed"
        /// Who called gave up, or is gone.
        Cancelled "cancelled"
        Timeout "timeout"
        /// The connection ended first.
        Unknown "unknown"
    }
}

label! {
    /// Whether a session has a connection.
    SessionState, "state" {
        Live "live"
        Parked "parked"
    }
}

label! {
    /// What became of a client that asked for its session.
    Resumption, "result" {
        Resumed "resumed"
        Expired "expired"
        Overflow "overflow"
        Restart "restart"
        Unknown "unknown"
    }
}

label! {
    /// Why a session ended.
    SessionEnd, "reason" {
        Bye "bye"
        Closed "closed"
        Violation "violation"
        Expired "expired"
        Overflow "overflow"
        Unknown "unknown"
    }
}

impl From<ResetReason> for Resumption {
    fn from(reason: ResetReason) -> Self {
        match reason {
            ResetReason::Expired => Self::Expired,
            ResetReason::Overflow => Self::Overflow,
            ResetReason::Restart => Self::Restart,
            ResetReason::Unknown => Self::Unknown,
        }
    }
}

impl From<Ended> for SessionEnd {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Bye => Self::Bye,
            // A session outlives its socket, so only one that never began ends so.
            Ended::SocketClosed | Ended::Closed(_) => Self::Closed,
            Ended::Violation(_) => Self::Violation,
            Ended::Lost(ResetReason::Expired) => Self::Expired,
            Ended::Lost(ResetReason::Overflow) => Self::Overflow,
            Ended::Lost(ResetReason::Restart | ResetReason::Unknown) => Self::Unknown,
        }
    }
}

impl HandshakeResult {
    pub(super) fn of(failure: HandshakeFailure) -> Self {
        match failure {
            HandshakeFailure::ClientHello => Self::ClientHello,
            HandshakeFailure::ClientFinish => Self::ClientFinish,
            HandshakeFailure::Record => Self::Record,
            HandshakeFailure::Deadline => Self::Deadline,
            HandshakeFailure::SocketClosed => Self::SocketClosed,
            HandshakeFailure::WrongEndpoint(_) => Self::WrongEndpoint,
        }
    }
}

/// The code of a sealed Reject.
#[derive(Clone, Copy, Debug)]
pub(super) struct RejectCode(pub(super) Code);

/// The code that a connection ended with.
#[derive(Clone, Copy, Debug)]
pub(super) struct CloseCode(Code);

impl CloseCode {
    pub(super) fn of(ended: Ended) -> Self {
        Self(match ended {
            Ended::Bye => Code::NORMAL,
            Ended::SocketClosed => Code::CONNECTION_LOST,
            Ended::Violation(violation) => violation.code(),
            Ended::Closed(code) => code,
            Ended::Lost(_) => Code::SLOW_CONSUMER,
        })
    }
}

/// What stands for a code that the registry does not have.
const OTHER: &str = "other";

/// The registry's codes that end a connection.
fn codes() -> impl Iterator<Item = &'static code::Entry> {
    code::ALL.iter().filter(|entry| (4000..5000).contains(&entry.code.0))
}

impl Label for RejectCode {
    const NAME: &'static str = "code";

    fn values() -> Vec<&'static str> {
        codes().map(|entry| entry.name).chain([OTHER]).collect()
    }

    fn place(self) -> usize {
        codes().position(|entry| entry.code == self.0).unwrap_or_else(|| codes().count())
    }
}

impl Label for CloseCode {
    const NAME: &'static str = "code";

    fn values() -> Vec<&'static str> {
        ["normal", "connection_lost"].into_iter().chain(RejectCode::values()).collect()
    }

    fn place(self) -> usize {
        match self.0 {
            Code::NORMAL => 0,
            Code::CONNECTION_LOST => 1,
            code => 2 + RejectCode(code).place(),
        }
    }
}

#[cfg(test)]
mod tests {
    use moorline_protocol::error::Violation;

    use super::*;

    fn value(label: impl Label + Copy) -> &'static str {
        fn values<L: Label>(_: L) -> Vec<&'static str> {
            L::values()
        }
        values(label)[label.place()]
    }

    #[test]
    fn every_end_of_a_connection_has_the_name_of_its_code() {
        for (ended, expected) in [
            (Ended::Bye, "normal"),
            (Ended::SocketClosed, "connection_lost"),
            (Ended::Violation(Violation::TextMessage), "protocol_violation"),
            (Ended::Violation(Violation::Unopened), "record_refused"),
            (Ended::Closed(Code::GOING_AWAY), "going_away"),
            (Ended::Closed(Code::CLOSED_BY_SERVER), "closed_by_server"),
            (Ended::Closed(Code(4999)), "other"),
        ] {
            assert_eq!(value(CloseCode::of(ended)), expected);
        }
        for entry in codes() {
            assert_eq!(value(RejectCode(entry.code)), entry.name);
            assert_eq!(value(CloseCode(entry.code)), entry.name);
        }
        assert_eq!(value(RejectCode(Code(1))), "other");
    }

    #[test]
    fn a_value_is_at_its_place() {
        assert_eq!((value(Direction::In), value(Direction::Out)), ("in", "out"));
        assert_eq!((value(CallResult::Ok), value(CallResult::Unknown)), ("ok", "unknown"));
        assert_eq!(value(HandshakeResult::of(HandshakeFailure::Deadline)), "deadline");
        assert_eq!(value(RefusedUpgrade::Full), "full");
        assert_eq!((value(HandshakeResult::Completed), value(HandshakeKey::None)), (COMPLETED, NO_KEY));
        for role in KeyRole::ALL {
            assert_eq!(value(HandshakeKey::of(Some(role))), role.name());
        }
    }
}
