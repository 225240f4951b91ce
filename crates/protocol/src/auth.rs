//! What a client says of itself, inside HS3 where only the server reads it.
//!
//! Implements `docs/PROTOCOL.md` § AUTH.

use std::fmt;

use crate::{
    error::Malformed,
    frame::cut,
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
        wire::put_field(&mut bytes, tag::CLIENT_VERSION, cut(&self.client_version, MAX_VERSION).as_bytes());
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
                tag::URL => url = Some(read_url(value.only_str(MAX_URL)?)?),
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

/// One endpoint has one form here, so that two are compared byte for byte.
fn read_url(text: &str) -> Result<DialUrl, Malformed> {
    DialUrl::parse(text).ok().filter(|url| url.as_str() == text).ok_or(Malformed::UnknownValue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(url: &str, version: &str) -> Auth {
        Auth { url: DialUrl::parse(url).expect("a URL"), client_version: version.to_owned() }
    }

    #[test]
    fn auth_reads_back_as_it_was_written_and_in_no_other_form() {
        for written in [auth("ws://h/", ""), auth("wss://example.com:8443/a/b", "moorline/0.1.0 é")] {
            let bytes = written.encode();
            assert_eq!(Auth::decode(&bytes), Ok(written));
            for place in 0..bytes.len() {
                for bit in 0..8 {
                    let mut other = bytes.clone();
                    other[place] ^= 1 << bit;
                    if let Ok(read) = Auth::decode(&other) {
                        assert_eq!(read.encode(), other);
                    }
                }
                assert!(Auth::decode(&bytes[..place]).is_err());
            }
        }
    }

    #[test]
    fn a_version_that_is_too_long_is_cut_and_not_refused() {
        let bytes = auth("ws://h/", &"v".repeat(MAX_VERSION + 1)).encode();
        assert_eq!(Auth::decode(&bytes).map(|auth| auth.client_version.len()), Ok(MAX_VERSION));
    }
}
