//! What an entry of a topic or store says: who wrote it, and what.
//!
//! Implements `docs/PROTOCOL.md` § Content. The server writes it, so that who is named in it did write it.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    error::Malformed,
    frame::SessionId,
    limits::MAX_NAME,
    payload::Payload,
    wire::{self, Reader, Sink},
};

/// One session among those in a channel: known to all of them, and nothing that opens the session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 8]);

impl MemberId {
    /// The server itself.
    pub const SERVER: Self = Self([0; 8]);

    /// The member that a session is, the same in every channel. It cannot be turned back into the session's name.
    pub fn of(session: &SessionId) -> Self {
        let hash: [u8; 32] = Sha256::new().chain_update("moorline member").chain_update(session.0).finalize().into();
        let mut member = [0; 8];
        member.copy_from_slice(&hash[..8]);
        Self(member)
    }

    /// It in hexadecimal.
    pub fn text(&self) -> String {
        crate::text::hex(&self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

/// What was written to a channel, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authored {
    /// The session.
    pub member: MemberId,
    /// The name of its subject; empty for the server.
    pub subject: String,
    /// What it says.
    pub payload: Payload,
}

impl Authored {
    /// As the content of an entry.
    pub fn encode(&self) -> Bytes {
        let mut content = Vec::with_capacity(8 + 2 + self.subject.len() + 1 + self.payload.bytes.len());
        content.put(&self.member.0);
        wire::put_bytes(&mut content, self.subject.as_bytes());
        self.payload.write(&mut content);
        content.into()
    }

    /// Reads the content of an entry. The payload shares its memory.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(content: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        Ok(Self {
            member: MemberId(reader.array()?),
            subject: reader.str(MAX_NAME)?.to_owned(),
            payload: Payload::read(content, &mut reader)?,
        })
    }

    /// Who wrote it, without reading the rest.
    pub fn member_of(content: &Bytes) -> Option<MemberId> {
        content.first_chunk().map(|member| MemberId(*member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_says_who_wrote_what() {
        let written = Authored {
            member: MemberId([1, 2, 3, 4, 5, 6, 7, 8]),
            subject: "Ann".to_owned(),
            payload: Payload::json("{}"),
        };
        let content = written.encode();
        assert_eq!(&content[..], b"\x01\x02\x03\x04\x05\x06\x07\x08\x03Ann\x01{}");
        assert_eq!(Authored::decode(&content), Ok(written.clone()));
        assert_eq!(Authored::member_of(&content), Some(written.member));
        for length in 0..13 {
            assert!(Authored::decode(&content.slice(..length)).is_err());
        }
    }
}
