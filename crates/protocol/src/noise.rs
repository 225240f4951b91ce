//! The handshake: Noise XK through snow, with randomness from the driver's seed.
//!
//! Implements `docs/PROTOCOL.md` § Handshake. Nothing of the key schedule is made here; what is ours is which bytes go
//! into the prologue and payloads. Until HS3 has opened, every failure is the same failure.

mod primitives;
#[cfg(feature = "testing")]
mod traced;

use snow::{
    Builder, HandshakeState,
    params::{
        BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifier, HandshakeModifierList,
        HandshakePattern, HashChoice, NoiseParams,
    },
};
use zeroize::Zeroizing;

use self::primitives::Primitives;
use crate::{
    cipher::SplitKeys,
    entropy::Entropy,
    key::{Identity, KeyRole, ServerKey, SharedKey, SharedKeyId, StaticKey},
    limits::{MAX_RECORD_BEFORE_AUTH, TAG},
    record::{self, CLIENT_HELLO_HEADER, ClientHello, Suite, kind},
};

/// Length of an X25519 public key.
const DH: usize = 32;

/// The handshake failed. There is nothing more to know: not for the peer, and so not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandshakeFailed;

impl From<snow::Error> for HandshakeFailed {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

/// A handshake of this suite; with a shared key, whose 32 bytes go into its third message, XKpsk3.
pub(crate) fn builder<'a>(
    suite: Suite,
    shared_key: Option<&'a [u8; 32]>,
    entropy: &mut Entropy,
) -> Result<Builder<'a>, HandshakeFailed> {
    let (name, cipher) = match (suite, shared_key) {
        (Suite::Aes256Gcm, None) => ("Noise_XK_25519_AESGCM_SHA256", CipherChoice::AESGCM),
        (Suite::Aes256Gcm, Some(_)) => ("Noise_XKpsk3_25519_AESGCM_SHA256", CipherChoice::AESGCM),
        (Suite::ChaCha20Poly1305, None) => ("Noise_XK_25519_ChaChaPoly_SHA256", CipherChoice::ChaChaPoly),
        (Suite::ChaCha20Poly1305, Some(_)) => ("Noise_XKpsk3_25519_ChaChaPoly_SHA256", CipherChoice::ChaChaPoly),
        #[cfg(feature = "testing")]
        (Suite::Traced, _) => return Err(HandshakeFailed),
    };
    let list = shared_key.map(|_| HandshakeModifier::Psk(3)).into_iter().collect();
    let handshake = HandshakeChoice { pattern: HandshakePattern::XK, modifiers: HandshakeModifierList { list } };
    let params =
        NoiseParams::new(name.into(), BaseChoice::Noise, handshake, DHChoice::Curve25519, cipher, HashChoice::SHA256);
    let builder = Builder::with_resolver(params, Box::new(Primitives::new(Entropy::new(entropy.array()))));
    Ok(match shared_key {
        Some(key) => builder.psk(3, key)?,
        None => builder,
    })
}

/// Writes the next Noise message behind `header`.
fn write(noise: &mut HandshakeState, header: &[u8], payload: &[u8]) -> Result<Vec<u8>, HandshakeFailed> {
    let mut record = vec![0; header.len() + 2 * DH + 2 * TAG + payload.len()];
    record[..header.len()].copy_from_slice(header);
    let written = noise.write_message(payload, &mut record[header.len()..])?;
    record.truncate(header.len() + written);
    Ok(record)
}

/// Reads the Noise message of a record of this kind and gives its payload.
fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, HandshakeFailed> {
    let mut payload = Zeroizing::new(vec![0; message.len()]);
    let read = noise.read_message(message, &mut payload)?;
    payload.truncate(read);
    Ok(payload)
}

fn message_of(record: &[u8], expected: u8) -> Result<&[u8], HandshakeFailed> {
    match record.split_first() {
        Some((kind, message)) if *kind == expected => Ok(message),
        _ => Err(HandshakeFailed),
    }
}

/// A handshake under way.
#[cfg_attr(feature = "testing", expect(clippy::large_enum_variant, reason = "nobody boxes for a test's sake"))]
enum State {
    Noise(HandshakeState),
    #[cfg(feature = "testing")]
    Traced(traced::Handshake),
}

/// The client's side, between HS1 and HS2.
pub(crate) struct Initiator(State);

impl Initiator {
    /// Begins a handshake with the holder of `server_key` and gives HS1.
    pub(crate) fn start(
        suite: Suite,
        server_key: &ServerKey,
        client_key: &StaticKey,
        shared_key: Option<&SharedKey>,
        entropy: &mut Entropy,
    ) -> Result<(Self, Vec<u8>), HandshakeFailed> {
        let header = ClientHello::new(suite, server_key, shared_key.map(SharedKey::id)).header();
        #[cfg(feature = "testing")]
        if suite == Suite::Traced {
            let (handshake, hello) = traced::Handshake::start(&header, client_key, entropy);
            return Ok((Self(State::Traced(handshake)), hello));
        }
        let prologue = record::prologue(&header);
        let mut noise = builder(suite, shared_key.map(SharedKey::secret), entropy)?
            .prologue(&prologue)?
            .local_private_key(client_key.private())?
            .remote_public_key(&server_key.0)?
            .build_initiator()?;
        let hello = write(&mut noise, &header, &[])?;
        Ok((Self(State::Noise(noise)), hello))
    }

    /// Takes HS2 and gives HS3 with `auth` inside, and the keys.
    pub(crate) fn finish(self, hello: &[u8], auth: &[u8]) -> Result<(Vec<u8>, SplitKeys), HandshakeFailed> {
        let message = message_of(hello, kind::SERVER_HELLO)?;
        #[cfg_attr(not(feature = "testing"), expect(clippy::infallible_destructuring_match))]
        let mut noise = match self.0 {
            State::Noise(noise) => noise,
            #[cfg(feature = "testing")]
            State::Traced(handshake) => return handshake.finish(message, auth),
        };
        let payload = read(&mut noise, message)?;
        if !payload.is_empty() {
            return Err(HandshakeFailed);
        }
        let finish = write(&mut noise, &[kind::CLIENT_FINISH], auth)?;
        Ok((finish, SplitKeys::new(noise.dangerously_get_raw_split())))
    }
}

/// The server's side, between HS2 and HS3.
pub(crate) struct Responder {
    state: State,
    pub(crate) suite: Suite,
    /// The shared key that the client says it has. Only HS3 shows whether it has it.
    pub(crate) shared_key: Option<SharedKeyId>,
    /// Which of the server's keys the client asked for.
    pub(crate) key: KeyRole,
}

/// What a server knows when HS3 has opened.
pub(crate) struct Finished {
    pub(crate) keys: SplitKeys,
    pub(crate) client_key: [u8; 32],
    /// The opened AUTH, which nobody has looked into yet.
    pub(crate) auth: Zeroizing<Vec<u8>>,
}

impl Responder {
    /// Takes HS1 and gives HS2.
    pub(crate) fn start(
        hello: &[u8],
        identity: &Identity,
        suites: &[Suite],
        shared_keys: &[SharedKey],
        entropy: &mut Entropy,
    ) -> Result<(Self, Vec<u8>), HandshakeFailed> {
        let (client_hello, message) = ClientHello::parse(hello).map_err(|_| HandshakeFailed)?;
        let suite = client_hello.suite;
        if !suites.contains(&suite) || message.len() != DH + TAG {
            return Err(HandshakeFailed);
        }
        let (role, key) = identity.find(client_hello.server_kid).ok_or(HandshakeFailed)?;
        #[cfg(feature = "testing")]
        if suite == Suite::Traced {
            let (handshake, hello) = traced::Handshake::answer(message, entropy)?;
            return Ok((Self { state: State::Traced(handshake), suite, shared_key: None, key: role }, hello));
        }
        let header: &[u8; CLIENT_HELLO_HEADER] = hello.first_chunk().ok_or(HandshakeFailed)?;
        let prologue = record::prologue(header);
        // A name that is not known goes on with a key that nobody has, and fails where a wrong key does: a stranger does
        // not learn which names there are.
        let shared_key = client_hello.shared_key;
        let nobodys = Zeroizing::new(shared_key.map_or([0; 32], |_| entropy.array()));
        let secret =
            shared_key.map(|id| shared_keys.iter().find(|key| key.id() == id).map_or(&*nobodys, SharedKey::secret));
        let mut noise = builder(suite, secret, entropy)?
            .prologue(&prologue)?
            .local_private_key(key.private())?
            .build_responder()?;
        read(&mut noise, message)?;
        let hello = write(&mut noise, &[kind::SERVER_HELLO], &[])?;
        Ok((Self { state: State::Noise(noise), suite, shared_key, key: role }, hello))
    }

    /// Takes HS3.
    pub(crate) fn finish(self, finish: &[u8]) -> Result<Finished, HandshakeFailed> {
        if finish.len() > MAX_RECORD_BEFORE_AUTH {
            return Err(HandshakeFailed);
        }
        let message = message_of(finish, kind::CLIENT_FINISH)?;
        #[cfg_attr(not(feature = "testing"), expect(clippy::infallible_destructuring_match))]
        let mut noise = match self.state {
            State::Noise(noise) => noise,
            #[cfg(feature = "testing")]
            State::Traced(handshake) => return handshake.finished(message),
        };
        let auth = read(&mut noise, message)?;
        let client_key = noise.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(HandshakeFailed)?;
        Ok(Finished { keys: SplitKeys::new(noise.dangerously_get_raw_split()), client_key, auth })
    }
}

#[cfg(test)]
mod tests;
