//! Sealing and opening records under the keys that a handshake left, with Noise's nonce and rekey.
//!
//! Implements `docs/PROTOCOL.md` § Sealed records. The AEADs are driven here and not by snow's transport because that
//! expands the key anew for every message; a test holds the bytes equal to snow's. Nonces live here and nowhere else:
//! [`Nonce`] has no conversion to or from any other number.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace, KeyInit},
};
use bytes::BytesMut;
use chacha20poly1305::ChaCha20Poly1305;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    error::Violation,
    limits::{RekeyPolicy, TAG},
    record::Suite,
};

/// The number of a record under one direction's keys: from 0, by one, never back. A rekey keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Nonce(u64);

impl Nonce {
    /// Noise keeps this one for rekeying.
    const REKEY: Self = Self(u64::MAX);

    /// Four zero bytes and the number, in the byte order that the Noise specification gives each cipher (§ 12).
    fn bytes(self, suite: Suite) -> [u8; 12] {
        let number = match suite {
            Suite::Aes256Gcm => self.0.to_be_bytes(),
            Suite::ChaCha20Poly1305 => self.0.to_le_bytes(),
            #[cfg(feature = "testing")]
            Suite::Traced => self.0.to_be_bytes(),
        };
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&number);
        bytes
    }
}

/// An AEAD with its key expanded. Both implementations wipe it when it is dropped.
enum Aead {
    Aes(Box<Aes256Gcm>),
    ChaCha(Box<ChaCha20Poly1305>),
    #[cfg(feature = "testing")]
    Traced(crate::testing::Traced),
}

impl Aead {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        match suite {
            Suite::Aes256Gcm => Self::Aes(Box::new(Aes256Gcm::new(key.into()))),
            Suite::ChaCha20Poly1305 => Self::ChaCha(Box::new(ChaCha20Poly1305::new(key.into()))),
            #[cfg(feature = "testing")]
            Suite::Traced => Self::Traced(crate::testing::Traced::new(key)),
        }
    }
}

/// One direction's key, its nonce, and how much it has done.
struct Direction {
    suite: Suite,
    aead: Aead,
    nonce: Nonce,
    policy: RekeyPolicy,
    records: u64,
    bytes: u64,
}

impl Direction {
    fn new(suite: Suite, key: &Zeroizing<[u8; 32]>, policy: RekeyPolicy) -> Self {
        Self { suite, aead: Aead::new(suite, key), nonce: Nonce(0), policy, records: 0, bytes: 0 }
    }

    fn encrypt(&self, nonce: Nonce, buffer: &mut [u8]) -> Result<[u8; TAG], Violation> {
        let nonce = nonce.bytes(self.suite);
        let tag = match &self.aead {
            Aead::Aes(aead) => aead.encrypt_in_place_detached(&nonce.into(), &[], buffer),
            Aead::ChaCha(aead) => aead.encrypt_in_place_detached(&nonce.into(), &[], buffer),
            #[cfg(feature = "testing")]
            Aead::Traced(traced) => return Ok(traced.encrypt(nonce, buffer)),
        };
        tag.map(Into::into).map_err(|_| Violation::KeysSpent)
    }

    fn decrypt(&self, nonce: Nonce, buffer: &mut [u8], tag: [u8; TAG]) -> Result<(), Violation> {
        let nonce = nonce.bytes(self.suite);
        match &self.aead {
            Aead::Aes(aead) => aead.decrypt_in_place_detached(&nonce.into(), &[], buffer, &tag.into()),
            Aead::ChaCha(aead) => aead.decrypt_in_place_detached(&nonce.into(), &[], buffer, &tag.into()),
            #[cfg(feature = "testing")]
            Aead::Traced(traced) => return if traced.tag(nonce) == tag { Ok(()) } else { Err(Violation::Unopened) },
        }
        .map_err(|_| Violation::Unopened)
    }

    /// Moves to the next nonce, and to the next key when this one has done its share.
    fn advance(&mut self, plaintext: usize) -> Result<(), Violation> {
        self.nonce = Nonce(self.nonce.0 + 1);
        self.records += 1;
        self.bytes += plaintext as u64;
        if self.records >= self.policy.records || self.bytes >= self.policy.bytes {
            // REKEY(k): the first 32 bytes of ENCRYPT(k, 2^64 - 1, "", 32 zeros); Noise specification § 4.2.
            let mut key = Zeroizing::new([0; 32]);
            self.encrypt(Nonce::REKEY, &mut *key)?;
            self.aead = Aead::new(self.suite, &key);
            self.records = 0;
            self.bytes = 0;
        }
        Ok(())
    }
}

/// Seals what one side sends.
pub(crate) struct Sealer(Direction);

impl Sealer {
    /// Seals `record[1..]` in place and appends the tag; the type byte in front stays as it is and is not covered.
    ///
    /// # Errors
    /// When the nonces are used up, which no connection lives long enough to see.
    pub(crate) fn seal(&mut self, record: &mut BytesMut) -> Result<(), Violation> {
        if self.0.nonce == Nonce::REKEY {
            return Err(Violation::KeysSpent);
        }
        let plaintext = record.len() - 1;
        let tag = self.0.encrypt(self.0.nonce, &mut record[1..])?;
        record.extend_from_slice(&tag);
        self.0.advance(plaintext)
    }
}

/// Opens what the other side sealed, in the order it was sealed; anything else fails.
pub(crate) struct Opener(Option<Direction>);

impl Opener {
    /// Opens `record[1..]` in place and cuts off type byte and tag.
    ///
    /// # Errors
    /// When the record is not the next one of the other side. The key is gone then, and every later record fails too.
    pub(crate) fn open(&mut self, record: &mut BytesMut) -> Result<(), Violation> {
        let opened = self.0.as_mut().ok_or(Violation::Unopened).and_then(|direction| {
            let plaintext = record.len().checked_sub(1 + TAG).ok_or(Violation::Unopened)?;
            if direction.nonce == Nonce::REKEY {
                return Err(Violation::Unopened);
            }
            let (body, tag) = record[1..].split_last_chunk::<TAG>().ok_or(Violation::Unopened)?;
            debug_assert_eq!(body.len(), plaintext);
            let tag = *tag;
            direction.decrypt(direction.nonce, &mut record[1..=plaintext], tag)?;
            direction.advance(plaintext)?;
            Ok(plaintext)
        });
        match opened {
            Ok(plaintext) => {
                let _ = record.split_to(1);
                record.truncate(plaintext);
                Ok(())
            }
            Err(violation) => {
                self.0 = None;
                Err(violation)
            }
        }
    }
}

/// The two keys that a finished handshake leaves.
pub(crate) struct SplitKeys {
    /// From the client to the server.
    pub(crate) upward: Zeroizing<[u8; 32]>,
    /// From the server to the client.
    pub(crate) downward: Zeroizing<[u8; 32]>,
}

impl SplitKeys {
    pub(crate) fn new((mut upward, mut downward): ([u8; 32], [u8; 32])) -> Self {
        let keys = Self { upward: Zeroizing::new(upward), downward: Zeroizing::new(downward) };
        upward.zeroize();
        downward.zeroize();
        keys
    }

    pub(crate) fn for_client(&self, suite: Suite, policy: RekeyPolicy) -> (Sealer, Opener) {
        let upward = Direction::new(suite, &self.upward, policy);
        (Sealer(upward), Opener(Some(Direction::new(suite, &self.downward, policy))))
    }

    pub(crate) fn for_server(&self, suite: Suite, policy: RekeyPolicy) -> (Sealer, Opener) {
        let downward = Direction::new(suite, &self.downward, policy);
        (Sealer(downward), Opener(Some(Direction::new(suite, &self.upward, policy))))
    }
}

#[cfg(test)]
mod tests;
