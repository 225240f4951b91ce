//! What snow computes with: the primitives of the one protocol family that we speak, and randomness from a seed.
//!
//! snow's own set would do, but it brings along what it may never use here: SHA-512, BLAKE2's place, a second way
//! through the curve. In a page that is a fifth of the whole module. The functions are the very ones that snow calls.

use std::cell::Cell;

use curve25519_dalek::montgomery::MontgomeryPoint;
use sha2::{Digest, Sha256};
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{entropy::Entropy, key};

/// X25519, SHA-256, snow's two ciphers, and one generator.
pub(super) struct Primitives(Cell<Option<Entropy>>);

impl Primitives {
    pub(super) fn new(entropy: Entropy) -> Self {
        Self(Cell::new(Some(entropy)))
    }
}

impl CryptoResolver for Primitives {
    /// Hands the generator out once: two that draw the same would be worse than none.
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom(self.0.take()?)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::<X25519>::default()),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::<HashSha256>::default()),
            HashChoice::SHA512 | HashChoice::Blake2s | HashChoice::Blake2b => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SeededRandom(Entropy);

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.0.fill(out);
        Ok(())
    }
}

/// X25519 (RFC 7748) by curve25519-dalek, on the Montgomery ladder for public keys too.
#[derive(Default)]
pub(super) struct X25519 {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        // snow has compared the length with `priv_len`.
        self.private.copy_from_slice(private);
        self.public = key::public_of(&self.private);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        random.try_fill_bytes(&mut *self.private)?;
        self.public = key::public_of(&self.private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        // snow hands over the longest key of all its curves.
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let mut shared = MontgomeryPoint(*public).mul_clamped(*self.private).to_bytes();
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(&shared);
        shared.zeroize();
        Ok(())
    }
}

/// SHA-256 by RustCrypto.
#[derive(Default)]
struct HashSha256(Sha256);

impl Hash for HashSha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}
