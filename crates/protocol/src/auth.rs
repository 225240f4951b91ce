//! What a client says of itself, inside HS3 where only the server reads it.
//!
//! Implements `docs/PROTOCOL.md` § AUTH.

use std::fmt;

use crate::{
    error::Malformed,
    frame::{Credentials, Epoch, ResumeSecret, Seq, SessionId, cut},
    limits::{MAX_AUTH, MAX_URL, MAX_VERSION},
    url::DialUrl,
    wire::{self, Reader},
};

/// Fields of AUTH. 2 and 3 are those of [`Credentials`].
mod tag {
    pub(super) const URL: u64 = 1;
    pub(super) const CLIENT_VERSION: u64 = 4;
    pub(super) const RESUME: u64 = 5;
    pub(super) const MAX_MESSAGE: u64 = 6;
    pub(super) const CLIENT_ID: u64 = 7;
}

/// Most that the field for a resumption takes up in AUTH: tag and length, session, epoch, two numbers and the secret.
pub(crate) const MAX_RESUME: usize = 2 + 16 + 8 + 2 * 10 + 16;

/// Which session a client wants to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The session's name.
    pub session: SessionId,
    /// The newest of the server's frames that the client has handed on.
    pub received: Seq,
    /// The run of the server that the session belongs to.
    pub epoch: Epoch,
    /// Ascends with every connection that the client tries, so that the server knows the newest of several.
    pub attempt: u64,
    /// In plain mode, what Welcome gave.
    pub secret: Option<ResumeSecret>,
}

impl Resume {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&self.session.0[..], &self.epoch.0].concat();
        wire::put_varint(&mut bytes, self.received.0);
        wire::put_varint(&mut bytes, self.attempt);
        if let Some(secret) = &self.secret {
            bytes.extend_from_slice(&secret.0);
        }
        bytes
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            session: SessionId(reader.array()?),
            epoch: Epoch(reader.array()?),
            received: Seq(reader.varint()?),
            attempt: reader.varint()?,
            secret: if reader.is_empty() { None } else { Some(ResumeSecret(reader.only_array()?)) },
        })
    }
}

/// What a client says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The URL that the client dialled, in its normal form.
    pub url: DialUrl,
    /// What the client shows for itself.
    pub credentials: Credentials,
    /// The client's own name and version, for the log.
    pub client_version: Box<str>,
    /// The session that the client wants to go on with.
    pub resume: Option<Resume>,
    /// The largest payload that the client takes, in bytes; `None` is
    /// [`DEFAULT_MAX_MESSAGE`](crate::limits::DEFAULT_MAX_MESSAGE).
    pub max_message: Option<u32>,
    /// In plain mode a random name of the client's, which outlives its sessions; in sealed mode that is its key.
    pub client_id: Option<[u8; 16]>,
}

impl fmt::Debug for Auth {
    /// The URL only: what else comes to stand here is secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Auth").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // As long as it may be, so that no copy of a token is left behind by growing.
        let mut bytes = Vec::with_capacity(MAX_AUTH);
        wire::put_field(&mut bytes, tag::URL, self.url.as_str().as_bytes());
        self.credentials.write(&mut bytes);
        wire::put_field(&mut bytes, tag::CLIENT_VERSION, cut(&self.client_version, MAX_VERSION).as_bytes());
        if let Some(resume) = &self.resume {
            wire::put_field(&mut bytes, tag::RESUME, &resume.encode());
        }
        if let Some(most) = self.max_message {
            wire::put_varint_field(&mut bytes, tag::MAX_MESSAGE, most.into());
        }
        if let Some(id) = &self.client_id {
            wire::put_field(&mut bytes, tag::CLIENT_ID, id);
        }
        bytes
    }

    /// Fields with an unknown tag are passed over, so that a newer client can say more.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_AUTH {
            return Err(Malformed::TooLong);
        }
        let (mut reader, mut last) = (Reader::new(bytes), None);
        let (mut url, mut client_version, mut credentials) = (None, None, Credentials::default());
        let (mut resume, mut max_message, mut client_id) = (None, None, None);
        while let Some((tag, value)) = reader.field(&mut last)? {
            match tag {
                tag::URL => url = Some(read_url(value.only_str(MAX_URL)?)?),
                tag::CLIENT_VERSION => client_version = Some(value.only_str(MAX_VERSION)?.into()),
                tag::RESUME => resume = Some(Resume::read(value)?),
                tag::MAX_MESSAGE => {
                    max_message = Some(u32::try_from(value.only_varint()?).map_err(|_| Malformed::IntegerTooLarge)?);
                }
                tag::CLIENT_ID => client_id = Some(value.only_array()?),
                _ => _ = credentials.read_field(tag, value)?,
            }
        }
        Ok(Self {
            credentials,
            resume,
            max_message,
            client_id,
            url: url.ok_or(Malformed::FieldMissing)?,
            client_version: client_version.ok_or(Malformed::FieldMissing)?,
        })
    }
}

/// One endpoint has one form here, so that two are compared byte for byte.
fn read_url(text: &str) -> Result<DialUrl, Malformed> {
    DialUrl::parse(text).ok().filter(|url| url.as_str() == text).ok_or(Malformed::UnknownValue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn auth(url: &str, version: &str) -> Auth {
        let url = DialUrl::parse(url).expect("a URL");
        let (credentials, client_version) = (Credentials::default(), version.into());
        Auth { url, credentials, client_version, resume: None, max_message: None, client_id: None }
    }

    fn resuming(secret: Option<ResumeSecret>) -> Auth {
        let resume =
            Resume { session: SessionId([7; 16]), received: Seq(300), attempt: 3, epoch: Epoch([9; 8]), secret };
        Auth { resume: Some(resume), ..auth("ws://h/", "v") }
    }

    #[test]
    fn auth_reads_back_as_it_was_written_and_in_no_other_form() {
        for written in [
            auth("ws://h/", ""),
            auth("wss://example.com:8443/a/b", "moorline/0.1.0 é"),
            resuming(None),
            resuming(Some(ResumeSecret([3; 16]))),
            Auth { max_message: Some(300), ..auth("ws://h/", "v") },
            Auth { client_id: Some([5; 16]), ..auth("ws://h/", "v") },
            Auth { credentials: Credentials::token("a.b.c"), ..auth("ws://h/", "v") },
            Auth { credentials: Credentials::data(Payload::json("{}")), ..auth("ws://h/", "v") },
        ] {
            let bytes = written.encode();
            assert_eq!(Auth::decode(&bytes).as_ref(), Ok(&written));
            for place in 0..bytes.len() {
                for bit in 0..8 {
                    let mut other = bytes.clone();
                    other[place] ^= 1 << bit;
                    // Under another tag the field is one of a later version, and is passed over.
                    if let Ok(read) = Auth::decode(&other)
                        && read.resume.is_some() == written.resume.is_some()
                        && read.max_message.is_some() == written.max_message.is_some()
                        && read.client_id.is_some() == written.client_id.is_some()
                        && read.credentials.token.is_some() == written.credentials.token.is_some()
                        && read.credentials.data.is_some() == written.credentials.data.is_some()
                    {
                        assert_eq!(read.encode(), other);
                    }
                }
                let cut = Auth::decode(&bytes[..place]);
                let bare = Auth { resume: None, max_message: None, client_id: None, ..written.clone() };
                assert!(cut.is_err() || cut == Ok(bare));
            }
        }
    }

    #[test]
    fn a_resumption_never_takes_up_more_than_is_kept_free_for_it() {
        let most = Resume {
            session: SessionId([7; 16]),
            received: Seq(u64::MAX),
            attempt: u64::MAX,
            epoch: Epoch([9; 8]),
            secret: Some(ResumeSecret([3; 16])),
        };
        let resuming = Auth { resume: Some(most), ..auth("ws://h/", "v") };
        assert_eq!(resuming.encode().len(), auth("ws://h/", "v").encode().len() + MAX_RESUME);
    }

    #[test]
    fn a_version_that_is_too_long_is_cut_and_not_refused() {
        let bytes = auth("ws://h/", &"v".repeat(MAX_VERSION + 1)).encode();
        assert_eq!(Auth::decode(&bytes).map(|auth| auth.client_version.len()), Ok(MAX_VERSION));
    }
}
