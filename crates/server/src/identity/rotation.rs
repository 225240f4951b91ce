//! From one key to the next without losing those who pin the old one: which step may follow which.

use std::{error, fmt};

use moorline_protocol::{
    entropy::Entropy,
    key::{Identity, KeyRole, ServerKey, StaticKey},
};

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Makes a next key, which is published and accepted beside the current one.
    Next,
    /// The next key becomes the current one, and the current one the previous.
    Promote,
    /// The previous key is accepted no longer.
    Retire,
}

/// Why a step cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotationError {
    /// There is a next key already.
    NextIsThere(ServerKey),
    /// There is no next key to promote.
    NoNext,
    /// The previous key of an earlier rotation is still accepted; promoting would cut off who pins it.
    PreviousIsThere(ServerKey),
    /// There is no previous key to retire.
    NoPrevious,
}

impl fmt::Display for RotationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NextIsThere(key) => write!(
                formatter,
                "there is a next key already, {key}; give it to your pages, then: moorline identity promote"
            ),
            Self::NoNext => formatter.write_str("there is no next key; make one first: moorline identity next"),
            Self::PreviousIsThere(key) => write!(
                formatter,
                "the previous key {key} is still accepted, and whoever pins it alone would be cut off; when nobody does \
                 any more: moorline identity retire"
            ),
            Self::NoPrevious => formatter.write_str("there is no previous key to retire"),
        }
    }
}

impl error::Error for RotationError {}

impl Rotation {
    /// The keys after this step.
    pub(super) fn apply(self, identity: &Identity, entropy: &mut Entropy) -> Result<Identity, RotationError> {
        let public = |role| identity.key(role).map(StaticKey::public);
        match (self, identity.key(KeyRole::Next), identity.key(KeyRole::Previous)) {
            (Self::Next, Some(next), _) => Err(RotationError::NextIsThere(next.public())),
            (Self::Next, None, _) => Ok(identity.clone().with_next(fresh(identity, entropy))),
            (Self::Promote, None, _) => Err(RotationError::NoNext),
            (Self::Promote, Some(_), Some(previous)) => Err(RotationError::PreviousIsThere(previous.public())),
            (Self::Promote, Some(next), None) => {
                Ok(Identity::new(next.clone()).with_previous(identity.key(KeyRole::Current).cloned()))
            }
            (Self::Retire, _, _) => match public(KeyRole::Previous) {
                Some(_) => Ok(identity.clone().with_previous(None)),
                None => Err(RotationError::NoPrevious),
            },
        }
    }
}

/// A key that no client mistakes for one that is there: HS1 names keys by four bytes.
fn fresh(identity: &Identity, entropy: &mut Entropy) -> StaticKey {
    loop {
        let key = StaticKey::generate(entropy);
        if identity.public_keys().all(|other| other.kid() != key.public().kid()) {
            return key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(identity: &Identity) -> Vec<(KeyRole, ServerKey)> {
        identity.keys().map(|(role, key)| (role, key.public())).collect()
    }

    #[test]
    fn a_whole_rotation_ends_with_the_next_key_alone_and_never_drops_one_that_was_not_retired() {
        let mut entropy = Entropy::new([1; 32]);
        let old = StaticKey::from_private([9; 32]);
        let first = Identity::new(old.clone());
        let second = Rotation::Next.apply(&first, &mut entropy).unwrap();
        let [(KeyRole::Current, current), (KeyRole::Next, next)] = names(&second)[..] else { panic!("two keys") };
        assert!(current == old.public() && next != current);
        let third = Rotation::Promote.apply(&second, &mut entropy).unwrap();
        assert_eq!(names(&third), [(KeyRole::Current, next), (KeyRole::Previous, current)]);
        // The next rotation may begin, and waits with its second step.
        let early = Rotation::Next.apply(&third, &mut entropy).unwrap();
        let refused = Rotation::Promote.apply(&early, &mut entropy).err();
        assert_eq!(refused, Some(RotationError::PreviousIsThere(current)));
        let last = Rotation::Retire.apply(&third, &mut entropy).unwrap();
        assert_eq!(names(&last), [(KeyRole::Current, next)]);
    }

    #[test]
    fn a_step_out_of_order_is_refused_with_what_comes_first() {
        let mut entropy = Entropy::new([1; 32]);
        let one = Identity::new(StaticKey::from_private([9; 32]));
        assert_eq!(Rotation::Promote.apply(&one, &mut entropy).err(), Some(RotationError::NoNext));
        assert_eq!(Rotation::Retire.apply(&one, &mut entropy).err(), Some(RotationError::NoPrevious));
        let two = Rotation::Next.apply(&one, &mut entropy).unwrap();
        let again = Rotation::Next.apply(&two, &mut entropy).err().unwrap();
        assert!(again.to_string().contains("mlpub_") && again.to_string().ends_with("moorline identity promote"));
    }
}
