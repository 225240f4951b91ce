//! The outer shape of the wire: one WebSocket binary message is one record.
//!
//! Implements `docs/PROTOCOL.md` § Records. It knows nothing of keys.

use crate::{
    error::Malformed,
    key::{ServerKey, SharedKeyId},
    wire::Reader,
};

/// The version of the wire that this crate speaks.
pub const VERSION: u8 = 1;

/// The subprotocol of sealed connections.
pub const SUBPROTOCOL: &str = "moorline.v1";

/// The subprotocol of connections without inner encryption.
pub const SUBPROTOCOL_PLAIN: &str = "moorline.v1.plain";

/// First byte of a record. Numbers are never reused.
pub(crate) mod kind {
    pub(crate) const CLIENT_HELLO: u8 = 0x01;
    pub(crate) const SERVER_HELLO: u8 = 0x02;
    pub(crate) const CLIENT_FINISH: u8 = 0x03;
    pub(crate) const PLAIN_HELLO: u8 = 0x04;
    pub(crate) const SEALED: u8 = 0x10;
    pub(crate) const PLAIN: u8 = 0x11;
}

/// The pair of AEAD and its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// `Noise_XK_25519_AESGCM_SHA256`.
    Aes256Gcm = 1,
    /// `Noise_XK_25519_ChaChaPoly_SHA256`.
    ChaCha20Poly1305 = 2,
    /// Protects nothing: see [`crate::testing`].
    #[cfg(feature = "testing")]
    Traced = 255,
}

impl Suite {
    /// Every suite, in the order of preference.
    pub const ALL: [Self; 2] = [Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The name that configuration and programs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            #[cfg(feature = "testing")]
            Self::Traced => "traced",
        }
    }

    /// The suite of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    fn from_number(number: u8) -> Option<Self> {
        #[cfg(feature = "testing")]
        if number == Self::Traced as u8 {
            return Some(Self::Traced);
        }
        Self::ALL.into_iter().find(|suite| *suite as u8 == number)
    }
}

/// Everything of HS1 before the Noise message. All of it goes into the prologue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    pub(crate) suite: Suite,
    pub(crate) server_kid: [u8; 4],
    /// Which shared key the client has, if any.
    pub(crate) shared_key: Option<SharedKeyId>,
}

/// Bytes before the Noise message in HS1: kind, version, suite, mode, server kid, shared key id.
pub(crate) const CLIENT_HELLO_HEADER: usize = 12;

/// The mode byte of HS1 without a shared key; its id is zero then.
const MODE_XK: u8 = 0;
/// The mode byte of HS1 with one.
const MODE_XK_PSK3: u8 = 1;

impl ClientHello {
    pub(crate) fn new(suite: Suite, server_key: &ServerKey, shared_key: Option<SharedKeyId>) -> Self {
        Self { suite, server_kid: server_key.kid(), shared_key }
    }

    pub(crate) fn header(&self) -> [u8; CLIENT_HELLO_HEADER] {
        let [a, b, c, d] = self.server_kid;
        let (mode, SharedKeyId([e, f, g, h])) = match self.shared_key {
            None => (MODE_XK, SharedKeyId([0; 4])),
            Some(id) => (MODE_XK_PSK3, id),
        };
        [kind::CLIENT_HELLO, VERSION, self.suite as u8, mode, a, b, c, d, e, f, g, h]
    }

    /// Splits HS1 into its header and the Noise message.
    pub(crate) fn parse(record: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(record);
        let [first, version, suite, mode] = reader.array()?;
        let server_kid = reader.array()?;
        let shared_key = match (mode, reader.array()?) {
            (MODE_XK, [0, 0, 0, 0]) => None,
            (MODE_XK_PSK3, id) => Some(SharedKeyId(id)),
            _ => return Err(Malformed::UnknownValue),
        };
        let known = first == kind::CLIENT_HELLO && version == VERSION;
        let suite = Suite::from_number(suite).filter(|_| known).ok_or(Malformed::UnknownValue)?;
        Ok((Self { suite, server_kid, shared_key }, reader.rest()))
    }
}

/// What binds a handshake to its setting: a constant, the header of HS1 and the chosen subprotocol.
pub(crate) fn prologue(header: &[u8; CLIENT_HELLO_HEADER]) -> Vec<u8> {
    [b"moorline prologue 1\0".as_slice(), header, SUBPROTOCOL.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_hs1_reads_back_and_any_other_is_refused() {
        let hello = ClientHello { suite: Suite::ChaCha20Poly1305, server_kid: [9, 8, 7, 6], shared_key: None };
        let with_key = ClientHello { shared_key: Some(SharedKeyId([5, 4, 3, 2])), ..hello };
        assert_eq!(with_key.header(), [0x01, 0x01, 0x02, 0x01, 9, 8, 7, 6, 5, 4, 3, 2]);
        assert_eq!(ClientHello::parse(&with_key.header()), Ok((with_key, b"".as_slice())));
        // kind, version, suite, mode | server kid | shared key id (none)
        assert_eq!(hello.header(), [0x01, 0x01, 0x02, 0x00, 9, 8, 7, 6, 0, 0, 0, 0]);
        let mut record = hello.header().to_vec();
        record.extend_from_slice(b"noise");
        assert_eq!(ClientHello::parse(&record), Ok((hello, b"noise".as_slice())));
        for place in [0, 1, 2, 3, 8, 11] {
            let mut other = record.clone();
            other[place] ^= 0x40;
            assert_eq!(ClientHello::parse(&other), Err(Malformed::UnknownValue), "byte {place}");
        }
        assert_eq!(ClientHello::parse(&record[..11]), Err(Malformed::UnexpectedEnd));
    }
}
