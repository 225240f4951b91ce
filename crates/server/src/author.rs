//! What is written to channels, whatever their kind: by whom, and as which operation.

use bytes::Bytes;
use moorline_engine::OpId;
use moorline_protocol::{
    channel::{Authored, MemberId},
    frame::SessionId,
    payload::{Name, Payload},
    subject::Subject,
};
use sha2::{Digest, Sha256};

use crate::access::Principal;

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
