//! A client or server that is not ours: snow itself, told byte by byte what to say.

use moorline_protocol::{key::ServerKey, record::Suite};
use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};

use crate::pair::server_key;

/// snow's primitives without a random source: every ephemeral here is fixed.
struct NoRandomness;

impl Random for NoRandomness {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::Rng)
    }
}

impl CryptoResolver for NoRandomness {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Self))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn builder<'a>(suite: Suite, private: &'a [u8; 32], ephemeral: &'a [u8; 32], prologue: &'a [u8]) -> Builder<'a> {
    let name = match suite {
        Suite::Aes256Gcm => "Noise_XK_25519_AESGCM_SHA256",
        Suite::ChaCha20Poly1305 => "Noise_XK_25519_ChaChaPoly_SHA256",
        #[cfg(feature = "testing")]
        Suite::Traced => unreachable!("it has no handshake"),
    };
    Builder::with_resolver(name.parse().expect("a Noise name"), Box::new(NoRandomness))
        .local_private_key(private)
        .and_then(|builder| builder.prologue(prologue))
        .expect("a key and a prologue")
        .fixed_ephemeral_key_for_testing_only(ephemeral)
}

/// The header of HS1: type, version, suite, mode | kid | shared key id (none).
pub(crate) fn header(suite: Suite, key: ServerKey) -> Vec<u8> {
    [&[0x01, 0x01, suite as u8, 0x00][..], &key.kid(), &[0; 4]].concat()
}

pub(crate) fn prologue(header: &[u8]) -> Vec<u8> {
    [b"moorline prologue 1\0", header, b"moorline.v1"].concat()
}

pub(crate) fn initiator(suite: Suite, private: &[u8; 32], ephemeral: &[u8; 32], prologue: &[u8]) -> HandshakeState {
    let key = server_key().0;
    let builder = builder(suite, private, ephemeral, prologue).remote_public_key(&key);
    builder.and_then(Builder::build_initiator).expect("an initiator")
}

pub(crate) fn responder(suite: Suite, private: &[u8; 32], ephemeral: &[u8; 32], prologue: &[u8]) -> HandshakeState {
    builder(suite, private, ephemeral, prologue).build_responder().expect("a responder")
}

/// The next handshake message behind `header`.
pub(crate) fn write(noise: &mut HandshakeState, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; payload.len() + 96];
    let length = noise.write_message(payload, &mut message).expect("the next message");
    [header, &message[..length]].concat()
}

/// The payload of a handshake message, if it opens.
pub(crate) fn read(noise: &mut HandshakeState, message: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(message, &mut payload).ok()?;
    payload.truncate(length);
    Some(payload)
}
