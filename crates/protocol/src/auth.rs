//! What a client says of itself, inside HS3 where only the server reads it.
//!
//! Implements `docs/PROTOCOL.md` § AUTH.

use std::fmt;

use crate::{
    error::Malformed,
    limits::{MAX_AUTH, MAX_URL, MAX_VERSION},
    url::DialUrl,
    wire::{self, Reader},
};

/// Fields of AUTH. 2 (token), 3 (data for the auth handler) and 5 (resumption) are kept for later versions of this list.
mod tag {
    pub(super) const URL: u64 = 1;
    pub(super) const CLIENT_VERSION: u64 = 4;
}

/// What a client says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The URL that the client dialled, in its normal form.
    pub url: DialUrl,
    /// The client's own name and version, for the log.
    pub client_version: String,
}

impl fmt::Debug for Auth {
    /// The URL only: what else comes to stand here is secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Auth").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::put_field(&mut bytes, tag::URL, self.url.as_str().as_bytes());
        wire::put_field(&mut bytes, tag::CLIENT_VERSION, self.client_version.as_bytes());
        bytes
    }

    /// Fields with an unknown tag are passed over, so that a newer client can say more.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_AUTH {
            return Err(Malformed::TooLong);
        }
        let (mut reader, mut last) = (Reader::new(bytes), None);
        let (mut url, mut client_version) = (None, None);
        while let Some((tag, value)) = reader.field(&mut last)? {
            match tag {
                tag::URL => url = Some(DialUrl::parse(value.only_str(MAX_URL)?).map_err(|_| Malformed::UnknownValue)?),
                tag::CLIENT_VERSION => client_version = Some(value.only_str(MAX_VERSION)?.to_owned()),
                _ => {}
            }
        }
        Ok(Self {
            url: url.ok_or(Malformed::FieldMissing)?,
            client_version: client_version.ok_or(Malformed::FieldMissing)?,
        })
    }
}
