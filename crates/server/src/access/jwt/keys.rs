//! The keys that tokens are judged by. Each has one algorithm, of its own and never of a token.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::SystemTime,
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::TokenSettingError;
use crate::{
    config::{JwtAlgorithm, JwtSection, Place, Secret},
    data_dir,
};

/// Shortest secret of HS256, in bytes: as long as the hash (RFC 7518 § 3.2).
const LEAST_SECRET: usize = 32;

/// RSA keys from here on cannot be broken today; beyond that the library takes none.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// Most keys of one set.
const MOST_KEYS: usize = 64;

/// What is read of a file of keys, and of a key set from elsewhere, in bytes.
pub(super) const MOST_BYTES: usize = 256 * 1024;

type DecodePem = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

/// A key and what it may judge.
pub(crate) struct Key {
    /// What tokens call it; without, it is tried on every token.
    pub(crate) id: Option<Box<str>>,
    pub(crate) algorithm: JwtAlgorithm,
    decoding: DecodingKey,
    /// From then on it counts no more.
    pub(crate) until: Option<SystemTime>,
    /// What everybody may know of it, as an attacker would use it.
    #[cfg(test)]
    pub(super) published: Vec<u8>,
}

impl Key {
    /// `None` when the library's key is not one of the algorithm.
    pub(crate) fn new(id: Option<&str>, algorithm: JwtAlgorithm, decoding: DecodingKey) -> Option<Self> {
        fits(algorithm, &decoding).then(|| Self {
            id: id.map(Into::into),
            algorithm,
            decoding,
            until: None,
            #[cfg(test)]
            published: Vec::new(),
        })
    }

    /// Whether this is the key's signature, in base64url, under these bytes.
    pub(crate) fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, signed, &self.decoding, library(self.algorithm))
            .is_ok_and(|valid| valid)
    }

    fn of_secret(
        setting: &'static str,
        algorithm: JwtAlgorithm,
        secret: &Secret,
        id: Option<&str>,
    ) -> Result<Self, TokenSettingError> {
        let bytes = secret.expose().trim().as_bytes();
        if bytes.len() < LEAST_SECRET {
            return Err(TokenSettingError::ShortSecret { place: secret.place().clone() });
        }
        let key = Self::new(id, algorithm, DecodingKey::from_secret(bytes));
        key.ok_or(TokenSettingError::Unfit { setting, algorithm })
    }

    fn of_pem(
        setting: &'static str,
        algorithm: JwtAlgorithm,
        path: &Path,
        id: Option<&str>,
    ) -> Result<Self, TokenSettingError> {
        let (decode, wanted): (DecodePem, _) = match algorithm {
            JwtAlgorithm::Hs256 => return Err(TokenSettingError::Unfit { setting, algorithm }),
            JwtAlgorithm::Rs256 => (DecodingKey::from_rsa_pem, "public key of RSA with 2048 to 4096 bits in PEM"),
            JwtAlgorithm::Es256 => (DecodingKey::from_ec_pem, "public key of P-256 in PEM"),
            JwtAlgorithm::EdDsa => (DecodingKey::from_ed_pem, "public key of Ed25519 in PEM"),
        };
        let pem = read(setting, path)?;
        // The library takes private keys and certificates for public ones, too, and finds something in them.
        let public = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"];
        let is_public = public.iter().any(|label| pem.windows(label.len()).any(|bytes| bytes == label.as_bytes()));
        let key = decode(&pem).ok().filter(|_| is_public).and_then(|decoding| Self::new(id, algorithm, decoding));
        #[cfg(test)]
        let key = key.map(|key| Self { published: pem.to_vec(), ..key });
        key.ok_or_else(|| TokenSettingError::InvalidKey { setting, path: path.to_owned(), wanted })
    }
}

/// The library's name of an algorithm.
pub(crate) fn library(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// Whether a key is one that the algorithm is safe with. The library looks at it only when it judges by it, and panics
/// on an Ed25519 key that is too short.
fn fits(algorithm: JwtAlgorithm, key: &DecodingKey) -> bool {
    if library(algorithm).family() != key.family() {
        return false;
    }
    match (algorithm, Jwk::from_decoding_key(key, None).map(|jwk| jwk.algorithm)) {
        (JwtAlgorithm::Hs256, _) => key.try_get_as_bytes().is_ok_and(|secret| secret.len() >= LEAST_SECRET),
        (JwtAlgorithm::Rs256, Ok(AlgorithmParameters::RSA(rsa))) => {
            let number =
                |text: &str| Base64UrlUnpadded::decode_vec(text).ok().map(|bytes| significant(&bytes).to_vec());
            let bits = |bytes: &[u8]| {
                bytes.first().map_or(0, |first| 8 * bytes.len() - usize::try_from(first.leading_zeros()).unwrap_or(0))
            };
            let fits = |modulus: &[u8], exponent: &[u8]| {
                let odd = exponent.last().is_some_and(|last| last % 2 == 1);
                RSA_BITS.contains(&bits(modulus)) && odd && (2..=33).contains(&bits(exponent))
            };
            number(&rsa.n).zip(number(&rsa.e)).is_some_and(|(modulus, exponent)| fits(&modulus, &exponent))
        }
        (JwtAlgorithm::Es256, Ok(AlgorithmParameters::EllipticCurve(_))) => {
            key.try_get_as_bytes().is_ok_and(|point| point.len() == 65)
        }
        (JwtAlgorithm::EdDsa, Ok(AlgorithmParameters::OctetKeyPair(_))) => true,
        (JwtAlgorithm::Rs256 | JwtAlgorithm::Es256 | JwtAlgorithm::EdDsa, _) => false,
    }
}

fn significant(bytes: &[u8]) -> &[u8] {
    bytes.get(bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..).unwrap_or_default()
}

/// The keys that the configuration has, other than those of a key set.
pub(crate) fn configured(jwt: &JwtSection, algorithm: JwtAlgorithm) -> Result<Vec<Key>, TokenSettingError> {
    let mut keys = Vec::new();
    let id = jwt.key_id.as_deref();
    if let Some(secret) = secret(jwt)? {
        keys.push(Key::of_secret("secret", algorithm, &secret, id)?);
    }
    if let Some(path) = &jwt.public_key_file {
        keys.push(Key::of_pem("public_key_file", algorithm, path, id)?);
    }
    let id = jwt.previous_key_id.as_deref();
    let mut previous = Vec::new();
    if let Some(secret) = secret_of("previous_secret_file", &jwt.previous_secret, &jwt.previous_secret_file)? {
        previous.push(Key::of_secret("previous_secret", algorithm, &secret, id)?);
    }
    if let Some(path) = &jwt.previous_public_key_file {
        previous.push(Key::of_pem("previous_public_key_file", algorithm, path, id)?);
    }
    if !previous.is_empty() && jwt.previous_until.is_none() {
        return Err(TokenSettingError::PreviousForGood);
    }
    keys.extend(previous.into_iter().map(|key| Key { until: jwt.previous_until, ..key }));
    Ok(keys)
}

/// The secret of HS256 that tokens are signed with now.
pub(crate) fn secret(jwt: &JwtSection) -> Result<Option<Secret>, TokenSettingError> {
    secret_of("secret_file", &jwt.secret, &jwt.secret_file)
}

fn secret_of(
    setting: &'static str,
    secret: &Option<Secret>,
    file: &Option<std::path::PathBuf>,
) -> Result<Option<Secret>, TokenSettingError> {
    let Some(path) = file.as_deref().filter(|_| secret.is_none()) else { return Ok(secret.clone()) };
    refuse_readable_by_all(setting, path)?;
    let bytes = read(setting, path)?;
    let wanted = "secret that is text";
    let text = std::str::from_utf8(&bytes).map_err(|_| TokenSettingError::InvalidKey {
        setting,
        path: path.to_owned(),
        wanted,
    })?;
    Ok(Some(Secret::found(text, Place::File { path: Some(path.to_owned()), line: 1, column: 1 })))
}

/// What a file of keys holds, wiped when it is dropped.
pub(crate) fn read(setting: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TokenSettingError> {
    read_bounded(path).map_err(|source| TokenSettingError::Read { setting, path: path.to_owned(), source })
}

pub(super) fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

pub(crate) fn refuse_readable_by_all(setting: &'static str, path: &Path) -> Result<(), TokenSettingError> {
    match data_dir::open_to_all(path) {
        Ok(None) => Ok(()),
        Ok(Some(mode)) => Err(TokenSettingError::ReadableByAll { path: path.to_owned(), mode }),
        Err(source) => Err(TokenSettingError::Read { setting, path: path.to_owned(), source }),
    }
}

/// Why a key set is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidKeySet {
    NotJson,
    TooMany,
    /// None of its keys is one of the algorithm and for signatures.
    NoneFits,
}

impl std::fmt::Display for InvalidKeySet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotJson => formatter.write_str("it is no JSON Web Key Set"),
            Self::TooMany => write!(formatter, "it has more than {MOST_KEYS} keys"),
            Self::NoneFits => formatter.write_str("it has no key of [auth.jwt] algorithm"),
        }
    }
}

/// The keys of a JSON Web Key Set (RFC 7517 § 5) that are of this algorithm. Others are passed over, as the RFC asks;
/// so are secrets, which have no business in a set that is handed around.
pub(super) fn of_set(json: &[u8], algorithm: JwtAlgorithm) -> Result<Vec<Key>, InvalidKeySet> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }

    let set: Set = serde_json::from_slice(json).map_err(|_| InvalidKeySet::NotJson)?;
    if set.keys.len() > MOST_KEYS {
        return Err(InvalidKeySet::TooMany);
    }
    let keys: Vec<_> = set.keys.into_iter().filter_map(|key| of_set_member(key, algorithm)).collect();
    if keys.is_empty() { Err(InvalidKeySet::NoneFits) } else { Ok(keys) }
}

fn of_set_member(json: serde_json::Value, algorithm: JwtAlgorithm) -> Option<Key> {
    #[derive(Deserialize)]
    struct Member {
        kty: String,
        kid: Option<String>,
        alg: Option<String>,
        r#use: Option<String>,
        key_ops: Option<Vec<String>>,
        crv: Option<String>,
        n: Option<String>,
        e: Option<String>,
        x: Option<String>,
        y: Option<String>,
    }

    let key: Member = serde_json::from_value(json).ok()?;
    let for_signatures = key.r#use.is_none_or(|r#use| r#use == "sig")
        && key.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
        && key.alg.is_none_or(|name| name == algorithm.as_str());
    if !for_signatures {
        return None;
    }
    let decoding = match (algorithm, key.kty.as_str(), key.crv.as_deref()) {
        (JwtAlgorithm::Rs256, "RSA", _) => DecodingKey::from_rsa_components(&key.n?, &key.e?),
        (JwtAlgorithm::Es256, "EC", Some("P-256")) => DecodingKey::from_ec_components(&key.x?, &key.y?),
        (JwtAlgorithm::EdDsa, "OKP", Some("Ed25519")) => DecodingKey::from_ed_components(&key.x?),
        _ => return None,
    };
    Key::new(key.kid.as_deref(), algorithm, decoding.ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RSA: &str = include_str!("testdata/rsa.pub.pem");
    const EC: &str = include_str!("testdata/ec.pub.pem");
    const ED: &str = include_str!("testdata/ed.pub.pem");

    fn of_pem(pem: &str, algorithm: JwtAlgorithm) -> Option<Key> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), pem).unwrap();
        Key::of_pem("public_key_file", algorithm, file.path(), None).ok()
    }

    #[test]
    fn a_key_is_taken_for_its_own_algorithm_only() {
        use JwtAlgorithm::{EdDsa, Es256, Hs256, Rs256};
        for (pem, own) in [(RSA, Rs256), (EC, Es256), (ED, EdDsa)] {
            for algorithm in JwtAlgorithm::ALL {
                assert_eq!(of_pem(pem, algorithm).is_some(), algorithm == own, "{own} as {algorithm}");
            }
        }
        for (pem, algorithm) in [
            (include_str!("testdata/rsa1024.pub.pem"), Rs256),
            (include_str!("testdata/p384.pub.pem"), Es256),
            (include_str!("testdata/rsa.pem"), Rs256),
            (include_str!("testdata/ec.pem"), Es256),
            (include_str!("testdata/ed.pem"), EdDsa),
            ("", EdDsa),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", EdDsa),
        ] {
            assert!(of_pem(pem, algorithm).is_none(), "{algorithm}: {pem}");
        }
        assert!(Key::new(None, Hs256, DecodingKey::from_secret(&[b'x'; 32])).is_some());
        assert!(Key::new(None, Hs256, DecodingKey::from_secret(&[b'x'; 31])).is_none());
        assert!(Key::new(None, Es256, DecodingKey::from_secret(&[b'x'; 65])).is_none());
    }

    fn member(pem: &str, algorithm: JwtAlgorithm) -> serde_json::Value {
        let key = of_pem(pem, algorithm).unwrap();
        serde_json::to_value(Jwk::from_decoding_key(&key.decoding, None).unwrap()).unwrap()
    }

    fn with(mut member: serde_json::Value, name: &str, value: serde_json::Value) -> serde_json::Value {
        member[name] = value;
        member
    }

    fn set(members: &[serde_json::Value], algorithm: JwtAlgorithm) -> Result<Vec<Option<Box<str>>>, InvalidKeySet> {
        let json = serde_json::json!({ "keys": members }).to_string();
        of_set(json.as_bytes(), algorithm).map(|keys| keys.into_iter().map(|key| key.id).collect())
    }

    #[test]
    fn of_a_key_set_only_what_fits_the_algorithm_is_taken() {
        use JwtAlgorithm::{EdDsa, Es256, Hs256, Rs256};
        let named = |pem, algorithm, id: &str| with(member(pem, algorithm), "kid", id.into());
        let all = [
            named(RSA, Rs256, "r"),
            named(EC, Es256, "c"),
            named(ED, EdDsa, "d"),
            serde_json::json!({ "kty": "oct", "kid": "s", "k": "eA".repeat(32) }),
            serde_json::json!({ "kty": "new", "kid": "n" }),
            serde_json::json!(7),
        ];
        for (algorithm, id) in [(Rs256, "r"), (Es256, "c"), (EdDsa, "d")] {
            assert_eq!(set(&all, algorithm), Ok(vec![Some(id.into())]), "{algorithm}");
        }
        assert_eq!(set(&all, Hs256), Err(InvalidKeySet::NoneFits));
        let ed = member(ED, EdDsa);
        for (name, value) in [
            ("use", "enc".into()),
            ("alg", "ES256".into()),
            ("key_ops", serde_json::json!(["sign"])),
            ("crv", "Ed448".into()),
            ("x", "AAAA".into()),
            ("x", "A".repeat(44).into()),
            ("x", "*".into()),
            ("kid", 7.into()),
        ] {
            assert_eq!(set(&[with(ed.clone(), name, value)], EdDsa), Err(InvalidKeySet::NoneFits), "{name}");
        }
        for (name, value) in
            [("use", "sig".into()), ("alg", "EdDSA".into()), ("key_ops", serde_json::json!(["verify"]))]
        {
            assert_eq!(set(&[with(ed.clone(), name, value)], EdDsa), Ok(vec![None]), "{name}");
        }
        assert_eq!(set(&[with(member(RSA, Rs256), "e", "Ag".into())], Rs256), Err(InvalidKeySet::NoneFits), "even");
        assert_eq!(set(&vec![ed; MOST_KEYS + 1], EdDsa), Err(InvalidKeySet::TooMany));
        for json in ["", "[]", "{}", r#"{"keys":{}}"#] {
            assert_eq!(of_set(json.as_bytes(), EdDsa).err(), Some(InvalidKeySet::NotJson), "{json}");
        }
    }
}
