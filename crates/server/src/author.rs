//! What is written to channels, whatever their kind: by whom, when, and as which operation.

use std::time::SystemTime;

use bytes::Bytes;
use moorline_engine::{EngineError, OpId};
use moorline_protocol::{
    channel::{Authored, ChannelId, MemberId},
    code::Code,
    frame::{Failure, SessionId},
    payload::{Name, Payload},
    subject::Subject,
    time::UnixMillis,
};
use sha2::{Digest, Sha256};

use crate::Principal;

/// By whom something is published.
pub(crate) struct Author {
    pub(crate) member: MemberId,
    pub(crate) subject: String,
}

impl Author {
    /// A client, by its session.
    pub(crate) fn client(session: SessionId, principal: &Principal) -> Self {
        Self { member: MemberId::of(&session), subject: principal.subject.name().to_owned() }
    }

    /// The server itself.
    pub(crate) fn server() -> Self {
        Self { member: MemberId::SERVER, subject: String::new() }
    }

    /// What he says, as the content of an entry.
    pub(crate) fn says(self, payload: Payload) -> Bytes {
        Authored { member: self.member, subject: self.subject, payload }.encode()
    }
}

/// One operation of a subject's, by the key that its client made up: another subject's never is the same.
pub(crate) fn operation(subject: &Subject, key: &Name) -> OpId {
    let subject = subject.name();
    let hash = Sha256::new()
        .chain_update(b"moorline operation")
        .chain_update((subject.len() as u64).to_be_bytes())
        .chain_update(subject)
        .chain_update(key.as_str())
        .finalize();
    let mut op = [0; 16];
    op.copy_from_slice(&hash[..16]);
    OpId(op)
}

/// What a client is told when an engine does not do what it was asked for. Where that is a failure the log has the rest.
pub(crate) fn failure(channel: &ChannelId, error: &EngineError) -> Failure {
    if matches!(error, EngineError::TooManyChannels) {
        return Failure::of(Code::TOO_MANY_NAMES);
    }
    tracing::error!(channel = channel.name.as_str(), kind = channel.kind.name(), %error, "the engine failed");
    Failure::of(if matches!(error, EngineError::Full) { Code::STORAGE_FULL } else { Code::INTERNAL })
}

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
