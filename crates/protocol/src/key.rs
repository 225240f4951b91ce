//! Keys of a server's identity, keys that both sides share, and their text forms.
//!
//! Implements `docs/PROTOCOL.md` § Keys as text.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use curve25519_dalek::constants::X25519_BASEPOINT;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{entropy::Entropy, text};

const PUBLIC_PREFIX: &str = "mlpub_";
const SHARED_PREFIX: &str = "mlkey_";
/// Bytes of a shared key's text form, and characters of it in base64url.
const SHARED_BYTES: usize = 42;
const SHARED_TEXT: usize = 56;

/// The public half of a server's identity: an X25519 public key (RFC 7748).
///
/// As text `mlpub_` and 48 characters of base64url: the key and the first four bytes of SHA-256 over the prefix and
/// the key, so that a cut or mistyped key is told from a wrong one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(pub [u8; 32]);

impl ServerKey {
    /// The first four bytes of SHA-256 of the key: which of its keys a server is to use.
    pub fn kid(&self) -> [u8; 4] {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// The text form.
    pub fn text(&self) -> String {
        let mut bytes = [0; 36];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&checksum::<4>(PUBLIC_PREFIX, &self.0));
        let mut text = PUBLIC_PREFIX.to_owned();
        text::push_base64url(&mut text, &bytes);
        text
    }
}

fn checksum<const N: usize>(prefix: &str, key: &[u8]) -> [u8; N] {
    let digest: [u8; 32] = Sha256::new().chain_update(prefix).chain_update(key).finalize().into();
    std::array::from_fn(|place| digest[place])
}

impl fmt::Display for ServerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The name of a shared key: random, and no part of the key follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedKeyId(pub [u8; 4]);

impl fmt::Display for SharedKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text::hex(&self.0))
    }
}

/// A secret that clients and server share: who has it may come in, and a server that has it not is none.
///
/// As text `mlkey_` and 56 characters of base64url: the id (4 bytes), the key (32), and the first six bytes of SHA-256
/// over the prefix, the id and the key.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey {
    id: SharedKeyId,
    key: Zeroizing<[u8; 32]>,
}

impl SharedKey {
    /// A key of 32 bytes that nobody can guess, under its name.
    pub fn new(id: SharedKeyId, key: [u8; 32]) -> Self {
        Self { id, key: Zeroizing::new(key) }
    }

    /// A new key under a new name.
    pub fn generate(entropy: &mut Entropy) -> Self {
        Self::new(SharedKeyId(entropy.array()), entropy.array())
    }

    /// Its name.
    pub fn id(&self) -> SharedKeyId {
        self.id
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.key
    }

    fn body(&self) -> Zeroizing<[u8; 36]> {
        let mut body = Zeroizing::new([0; 36]);
        body[..4].copy_from_slice(&self.id.0);
        body[4..].copy_from_slice(&self.key[..]);
        body
    }

    /// The text form.
    pub fn text(&self) -> Zeroizing<String> {
        let body = self.body();
        let mut bytes = Zeroizing::new([0; SHARED_BYTES]);
        bytes[..36].copy_from_slice(&body[..]);
        bytes[36..].copy_from_slice(&checksum::<6>(SHARED_PREFIX, &body[..]));
        // As long as it will be, so that no copy of it is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(SHARED_PREFIX.len() + SHARED_TEXT));
        text.push_str(SHARED_PREFIX);
        text::push_base64url(&mut text, &bytes[..]);
        text
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedKey({})", self.id)
    }
}

/// Why a text is not a shared key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidSharedKey {
    /// It does not begin with `mlkey_`.
    NotAKey,
    /// It begins with `mlpub_`: the key of a server, which everybody may know.
    ServerKey,
    /// It is cut, too long, or has a character that does not belong.
    Damaged,
    /// Its checksum does not fit: a character is wrong.
    Checksum,
}

impl InvalidSharedKey {
    /// What is wrong, in a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::NotAKey => "a shared key begins with mlkey_; `moorline key new` makes one",
            Self::ServerKey => "this is a server key (mlpub_), which is public; a shared key begins with mlkey_",
            Self::Damaged => "the shared key is not complete: mlkey_ and 56 characters",
            Self::Checksum => "the shared key has a wrong character: its checksum does not fit",
        }
    }
}

impl fmt::Display for InvalidSharedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for InvalidSharedKey {}

impl FromStr for SharedKey {
    type Err = InvalidSharedKey;

    fn from_str(text: &str) -> Result<Self, InvalidSharedKey> {
        let text = text.trim_ascii();
        if text.starts_with(PUBLIC_PREFIX) {
            return Err(InvalidSharedKey::ServerKey);
        }
        let encoded = text.strip_prefix(SHARED_PREFIX).ok_or(InvalidSharedKey::NotAKey)?;
        let mut bytes = Zeroizing::new([0; SHARED_BYTES]);
        text::base64url(encoded, &mut bytes[..]).ok_or(InvalidSharedKey::Damaged)?;
        let (body, sum) = bytes.split_at(36);
        if sum != checksum::<6>(SHARED_PREFIX, body) {
            return Err(InvalidSharedKey::Checksum);
        }
        let (id, key) = body.split_first_chunk::<4>().ok_or(InvalidSharedKey::Damaged)?;
        let key = key.try_into().map_err(|_| InvalidSharedKey::Damaged)?;
        Ok(Self::new(SharedKeyId(*id), key))
    }
}

/// Why a text is not a server key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It does not begin with `mlpub_`.
    NotAKey,
    /// It begins with `mlkey_`: a shared key, which is secret and does not belong here.
    SharedKey,
    /// It is cut, too long, or has a character that does not belong.
    Damaged,
    /// Its checksum does not fit: a character is wrong.
    Checksum,
}

impl InvalidKey {
    /// What is wrong, in a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::NotAKey => "a server key begins with mlpub_",
            Self::SharedKey => "this is a shared key (mlkey_), which is secret; a server key begins with mlpub_",
            Self::Damaged => "the server key is not complete: mlpub_ and 48 characters",
            Self::Checksum => "the server key has a wrong character: its checksum does not fit",
        }
    }
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for InvalidKey {}

impl FromStr for ServerKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim_ascii();
        if text.starts_with(SHARED_PREFIX) {
            return Err(InvalidKey::SharedKey);
        }
        let encoded = text.strip_prefix(PUBLIC_PREFIX).ok_or(InvalidKey::NotAKey)?;
        let mut bytes = [0; 36];
        text::base64url(encoded, &mut bytes).ok_or(InvalidKey::Damaged)?;
        let (key, sum) = bytes.split_first_chunk::<32>().ok_or(InvalidKey::Damaged)?;
        if sum == checksum::<4>(PUBLIC_PREFIX, key) { Ok(Self(*key)) } else { Err(InvalidKey::Checksum) }
    }
}

/// The public half of a private key: RFC 7748 § 5, X25519(k, 9).
pub(crate) fn public_of(private: &[u8; 32]) -> [u8; 32] {
    X25519_BASEPOINT.mul_clamped(*private).to_bytes()
}

/// Both halves of an X25519 key. The private half is wiped when it is dropped.
#[derive(Clone)]
pub struct StaticKey {
    private: Zeroizing<[u8; 32]>,
    public: ServerKey,
}

impl StaticKey {
    /// The key of 32 secret bytes.
    pub fn from_private(private: [u8; 32]) -> Self {
        let private = Zeroizing::new(private);
        let public = public_of(&private);
        Self { private, public: ServerKey(public) }
    }

    /// A new key.
    pub fn generate(entropy: &mut Entropy) -> Self {
        Self::from_private(entropy.array())
    }

    /// The public half.
    pub fn public(&self) -> ServerKey {
        self.public
    }

    /// The private half, for the file that keeps it.
    pub fn private(&self) -> &[u8; 32] {
        &self.private
    }
}

/// What a key is among those of a server. All are accepted alike; they differ in what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// The one that a client discovers.
    Current,
    /// It is published and accepted already, and will be the current one.
    Next,
    /// It was the current one, and is accepted until nobody pins it any more.
    Previous,
}

impl KeyRole {
    /// All of them, in the order in which keys are published.
    pub const ALL: [Self; 3] = [Self::Current, Self::Next, Self::Previous];

    /// The name that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Previous => "previous",
        }
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The keys that a server answers with: the current one, and during a rotation the next, the previous, or both.
#[derive(Clone)]
pub struct Identity {
    current: StaticKey,
    next: Option<StaticKey>,
    previous: Option<StaticKey>,
}

impl Identity {
    /// An identity of one key.
    pub fn new(current: StaticKey) -> Self {
        Self { current, next: None, previous: None }
    }

    /// With this key as the next one, or without any.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<Option<StaticKey>>) -> Self {
        self.next = next.into();
        self
    }

    /// With this key as the previous one, or without any.
    #[must_use]
    pub fn with_previous(mut self, previous: impl Into<Option<StaticKey>>) -> Self {
        self.previous = previous.into();
        self
    }

    /// The key of this role.
    pub fn key(&self, role: KeyRole) -> Option<&StaticKey> {
        match role {
            KeyRole::Current => Some(&self.current),
            KeyRole::Next => self.next.as_ref(),
            KeyRole::Previous => self.previous.as_ref(),
        }
    }

    /// The keys that there are, in the order of [`KeyRole::ALL`].
    pub fn keys(&self) -> impl Iterator<Item = (KeyRole, &StaticKey)> {
        KeyRole::ALL.into_iter().filter_map(|role| Some((role, self.key(role)?)))
    }

    /// The public keys, the current one first.
    pub fn public_keys(&self) -> impl Iterator<Item = ServerKey> {
        self.keys().map(|(_, key)| key.public())
    }

    pub(crate) fn find(&self, kid: [u8; 4]) -> Option<(KeyRole, &StaticKey)> {
        self.keys().find(|(_, key)| key.public.kid() == kid)
    }
}

/// The identity that a server has just now. Clones are the same cell: who replaces it in one replaces it for every
/// handshake that begins from then on, and for none that has begun.
#[derive(Clone)]
pub struct IdentityCell(Arc<RwLock<Arc<Identity>>>);

impl IdentityCell {
    /// What is in it.
    pub fn load(&self) -> Arc<Identity> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another in its place.
    pub fn replace(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }
}

impl From<Identity> for IdentityCell {
    fn from(identity: Identity) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(identity))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_key_reads_back_from_its_text() {
        let key = StaticKey::from_private([3; 32]).public();
        let text = key.to_string();
        assert_eq!(text.len(), 54);
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(format!(" {text}\n").parse(), Ok(key));
    }

    #[test]
    fn damage_is_told_from_mixing_up() {
        let text = StaticKey::from_private([3; 32]).public().to_string();
        assert_eq!(text[..53].parse::<ServerKey>(), Err(InvalidKey::Damaged));
        assert_eq!(format!("{text}A").parse::<ServerKey>(), Err(InvalidKey::Damaged));
        let other = if text.as_bytes()[20] == b'A' { "B" } else { "A" };
        let mut mistyped = text.clone();
        mistyped.replace_range(20..21, other);
        assert_eq!(mistyped.parse::<ServerKey>(), Err(InvalidKey::Checksum));
        assert_eq!(text.replace("mlpub_", "mlkey_").parse::<ServerKey>(), Err(InvalidKey::SharedKey));
        assert_eq!("hello".parse::<ServerKey>(), Err(InvalidKey::NotAKey));
    }

    #[test]
    fn a_shared_key_reads_back_from_its_text_and_damage_is_told() {
        let key = SharedKey::new(SharedKeyId([1, 2, 3, 4]), [7; 32]);
        let text = key.text();
        assert_eq!(text.len(), SHARED_PREFIX.len() + SHARED_TEXT);
        assert_eq!(text.parse(), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "SharedKey(01020304)", "the key is not in the debug text");
        assert_eq!(text[..50].parse::<SharedKey>(), Err(InvalidSharedKey::Damaged));
        let other = if text.as_bytes()[20] == b'A' { "B" } else { "A" };
        let mut mistyped = text.to_string();
        mistyped.replace_range(20..21, other);
        assert_eq!(mistyped.parse::<SharedKey>(), Err(InvalidSharedKey::Checksum));
        let public = StaticKey::from_private([3; 32]).public().to_string();
        assert_eq!(public.parse::<SharedKey>(), Err(InvalidSharedKey::ServerKey));
        assert_eq!("hunter2".parse::<SharedKey>(), Err(InvalidSharedKey::NotAKey));
    }

    #[test]
    fn a_key_is_found_by_its_kid_with_its_role_and_the_current_one_is_published_first() {
        let [current, next, previous] = [[1; 32], [2; 32], [3; 32]].map(StaticKey::from_private);
        let keys = [current.public(), next.public(), previous.public()];
        let identity = Identity::new(current).with_previous(previous).with_next(next);
        assert_eq!(identity.public_keys().collect::<Vec<_>>(), keys);
        for (role, key) in KeyRole::ALL.into_iter().zip(keys) {
            let found = identity.find(key.kid()).map(|(role, key)| (role, key.public()));
            assert_eq!(found, Some((role, key)));
        }
        assert!(identity.with_previous(None).find(keys[2].kid()).is_none());
    }

    #[test]
    fn clones_of_a_cell_see_what_one_of_them_is_given() {
        let cell = IdentityCell::from(Identity::new(StaticKey::from_private([1; 32])));
        let (other, before) = (cell.clone(), cell.load());
        cell.replace(Identity::new(StaticKey::from_private([2; 32])));
        assert_eq!(other.load().public_keys().next(), Some(StaticKey::from_private([2; 32]).public()));
        assert_eq!(before.public_keys().next(), Some(StaticKey::from_private([1; 32]).public()));
    }

    #[test]
    fn the_public_half_is_that_of_rfc_7748() {
        let alice = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
            0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        assert_eq!(StaticKey::from_private(alice).public().0[..4], [0x85, 0x20, 0xf0, 0x09]);
    }
}
