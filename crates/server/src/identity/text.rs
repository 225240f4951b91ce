//! Private keys as text.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use moorline_protocol::key::{Identity, KeyRole, StaticKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const PRIVATE_PREFIX: &str = "mlsec_";
const PUBLIC_PREFIX: &str = "mlpub_";
const SHARED_PREFIX: &str = "mlkey_";

/// Why a text is not the private key of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPrivateKey {
    /// It has no line with a key.
    Empty,
    /// It does not begin with `mlsec_`.
    NotAKey,
    /// It begins with `mlpub_`: the public half, which pages pin.
    PublicKey,
    /// It begins with `mlkey_`: a key that client and server share.
    SharedKey,
    /// It is cut, too long, or has a character that does not belong.
    Damaged,
    /// Its checksum does not fit: a character is wrong.
    Checksum,
    /// It has two keys of one role; a line without a word before the key is the current one.
    Several(KeyRole),
    /// It has no current key.
    NoCurrent,
    /// The word before a key is no role.
    UnknownRole,
    /// It is not text.
    NotText,
}

impl fmt::Display for InvalidPrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Several(KeyRole::Current) => {
                "it has two current keys; write \"next\" or \"previous\" and a space before one of them"
            }
            Self::Several(KeyRole::Next) => "it has two next keys",
            Self::Several(KeyRole::Previous) => "it has two previous keys",
            Self::NoCurrent => "none of its keys is the current one: that stands on a line of its own, without a word",
            Self::UnknownRole => "before a key stands nothing, \"current\", \"next\" or \"previous\"",
            Self::Empty => "it is empty",
            Self::NotAKey => "it does not begin with mlsec_",
            Self::PublicKey => "this is a public key (mlpub_), which is for pages; the private half begins with mlsec_",
            Self::SharedKey => "this is a shared key (mlkey_); the private key of a server begins with mlsec_",
            Self::Damaged => "it is not complete: mlsec_ and 48 characters",
            Self::Checksum => "it has a wrong character: its checksum does not fit",
            Self::NotText => "it is not text",
        })
    }
}

impl std::error::Error for InvalidPrivateKey {}

fn checksum(key: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::new().chain_update(PRIVATE_PREFIX).chain_update(key).finalize().into();
    [a, b, c, d]
}

/// The text of a key, which is as secret as the key.
pub fn to_text(key: &StaticKey) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 36]);
    bytes[..32].copy_from_slice(key.private());
    bytes[32..].copy_from_slice(&checksum(key.private()));
    let encoded = Zeroizing::new(Base64UrlUnpadded::encode_string(&*bytes));
    Zeroizing::new(format!("{PRIVATE_PREFIX}{}", *encoded))
}

/// The key of a text.
///
/// # Errors
/// What is wrong with it: mixed up, damaged, or no key at all.
pub fn from_text(text: &str) -> Result<StaticKey, InvalidPrivateKey> {
    let text = text.trim();
    if text.starts_with(PUBLIC_PREFIX) {
        return Err(InvalidPrivateKey::PublicKey);
    }
    if text.starts_with(SHARED_PREFIX) {
        return Err(InvalidPrivateKey::SharedKey);
    }
    let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(InvalidPrivateKey::NotAKey)?;
    let mut bytes = Zeroizing::new([0; 36]);
    let decoded = Base64UrlUnpadded::decode(encoded, &mut *bytes).map_err(|_| InvalidPrivateKey::Damaged)?;
    let (key, sum) = decoded.split_first_chunk::<32>().ok_or(InvalidPrivateKey::Damaged)?;
    match sum {
        [_, _, _, _] if sum == checksum(key) => Ok(StaticKey::from_private(*key)),
        [_, _, _, _] => Err(InvalidPrivateKey::Checksum),
        _ => Err(InvalidPrivateKey::Damaged),
    }
}

/// The keys among empty lines and comments: `mlsec_…` alone is the current one, a word before it says otherwise.
pub(super) fn from_lines(text: &str) -> Result<Identity, InvalidPrivateKey> {
    let [mut current, mut next, mut previous] = [const { None::<StaticKey> }; 3];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (role, key) = match line.split_once(char::is_whitespace) {
            None => (KeyRole::Current, line),
            Some((word, key)) => {
                let role = KeyRole::ALL.into_iter().find(|role| role.name() == word);
                (role.ok_or(InvalidPrivateKey::UnknownRole)?, key)
            }
        };
        let slot = match role {
            KeyRole::Current => &mut current,
            KeyRole::Next => &mut next,
            KeyRole::Previous => &mut previous,
        };
        if slot.replace(from_text(key)?).is_some() {
            return Err(InvalidPrivateKey::Several(role));
        }
    }
    match (current, &next, &previous) {
        (Some(current), _, _) => Ok(Identity::new(current).with_next(next).with_previous(previous)),
        (None, None, None) => Err(InvalidPrivateKey::Empty),
        (None, _, _) => Err(InvalidPrivateKey::NoCurrent),
    }
}

/// The lines of an identity, as [`from_lines`] reads them. Of one key alone it is the key's text.
pub(super) fn to_lines(identity: &Identity) -> Zeroizing<String> {
    // Room for all of it from the start: a text that grows leaves copies behind that nobody wipes.
    let mut lines = Zeroizing::new(String::with_capacity(3 * 80));
    for (role, key) in identity.keys() {
        match role {
            KeyRole::Current => {}
            KeyRole::Next | KeyRole::Previous => lines.extend([role.name(), " "]),
        }
        lines.extend([to_text(key).as_str(), "\n"]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privates(identity: &Identity) -> Vec<(KeyRole, [u8; 32])> {
        identity.keys().map(|(role, key)| (role, *key.private())).collect()
    }

    #[test]
    fn all_keys_of_an_identity_read_back_in_any_order_of_their_lines() {
        let [current, next, previous] = [[1; 32], [2; 32], [3; 32]].map(StaticKey::from_private);
        let identity = Identity::new(current).with_next(next).with_previous(previous);
        let text = to_lines(&identity);
        let reversed = text.lines().rev().collect::<Vec<_>>().join("\n");
        let named = format!("current  {}", *text).replace("next ", "next\t");
        for text in [text.as_str(), &reversed, &named] {
            assert_eq!(from_lines(text).map(|read| privates(&read)), Ok(privates(&identity)));
        }
    }

    #[test]
    fn a_private_key_reads_back_from_its_text() {
        let key = StaticKey::from_private([3; 32]);
        let text = to_text(&key);
        assert_eq!(text.len(), 54);
        for text in [text.to_string(), format!(" {}\r\n", *text), format!("# comment\n\n{}\n", *text)] {
            assert_eq!(from_lines(&text).map(|identity| privates(&identity)), Ok(vec![(KeyRole::Current, [3; 32])]));
        }
    }

    #[test]
    fn damage_is_told_from_mixing_up() {
        let key = StaticKey::from_private([3; 32]);
        let text = to_text(&key);
        let error = |text: &str| from_lines(text).map(|identity| privates(&identity));
        assert_eq!(error(&text[..53]), Err(InvalidPrivateKey::Damaged));
        assert_eq!(error(&format!("{}AAAA", *text)), Err(InvalidPrivateKey::Damaged));
        let mut mistyped = text.to_string();
        mistyped.replace_range(20..21, if text.as_bytes()[20] == b'A' { "B" } else { "A" });
        assert_eq!(error(&mistyped), Err(InvalidPrivateKey::Checksum));
        assert_eq!(error(&key.public().to_string()), Err(InvalidPrivateKey::PublicKey));
        assert_eq!(error("mlkey_x"), Err(InvalidPrivateKey::SharedKey));
        assert_eq!(error("hello"), Err(InvalidPrivateKey::NotAKey));
        assert_eq!(error("# nothing\n"), Err(InvalidPrivateKey::Empty));
        assert_eq!(error(&format!("{0}\n{0}", *text)), Err(InvalidPrivateKey::Several(KeyRole::Current)));
        assert_eq!(error(&format!("next {0}\nnext {0}", *text)), Err(InvalidPrivateKey::Several(KeyRole::Next)));
        assert_eq!(error(&format!("next {}", *text)), Err(InvalidPrivateKey::NoCurrent));
        assert_eq!(error(&format!("nxt {}", *text)), Err(InvalidPrivateKey::UnknownRole));
        assert_eq!(error(&format!("{0} {0}", *text)), Err(InvalidPrivateKey::UnknownRole));
        // The public half under the private prefix has another checksum.
        let renamed = key.public().to_string().replace(PUBLIC_PREFIX, PRIVATE_PREFIX);
        assert_eq!(error(&renamed), Err(InvalidPrivateKey::Checksum));
    }
}
