//! Whose something is: the tenant, and the subject within it.
//!
//! What belongs to somebody is found by a [`Subject`], and a `Subject` is made of a [`Tenant`] and a name, each kept by
//! itself. So no name, whatever characters it has, ever means something in another tenant.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

use crate::limits::MAX_NAME;

/// The subject of everybody who has not signed in.
pub const ANONYMOUS: &str = "anonymous";

/// A name is empty or longer than [`MAX_NAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSubject;

impl fmt::Display for InvalidSubject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a tenant or subject has 1 to {MAX_NAME} bytes")
    }
}

impl std::error::Error for InvalidSubject {}

fn checked(name: &str) -> Result<Arc<str>, InvalidSubject> {
    if name.is_empty() || name.len() > MAX_NAME { Err(InvalidSubject) } else { Ok(name.into()) }
}

/// One of several parties that a server serves, and that must know nothing of each other. Cloning shares the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant of this name, which may have any characters.
    ///
    /// # Errors
    /// When the name is empty or too long.
    pub fn new(name: &str) -> Result<Self, InvalidSubject> {
        checked(name).map(Self)
    }

    /// Its name: to be shown, and not to be made a part of other names.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    /// The tenant of servers that have only one: `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

/// Somebody in a tenant. Cloning shares the names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    tenant: Tenant,
    name: Arc<str>,
}

impl Subject {
    /// Who is called so in this tenant.
    ///
    /// # Errors
    /// When the name is empty or too long.
    pub fn new(tenant: Tenant, name: &str) -> Result<Self, InvalidSubject> {
        Ok(Self { tenant, name: checked(name)? })
    }

    /// Everybody in this tenant who has not signed in.
    pub fn anonymous(tenant: Tenant) -> Self {
        Self { tenant, name: ANONYMOUS.into() }
    }

    /// Whether it is everybody who has not signed in.
    pub fn is_anonymous(&self) -> bool {
        &*self.name == ANONYMOUS
    }

    /// The tenant.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The name within the tenant.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells it from any other.
    pub fn mark(&self) -> SubjectMark {
        let tenant = self.tenant.as_str();
        let hash = Sha256::new().chain_update("moorline subject").chain_update((tenant.len() as u64).to_be_bytes());
        let hash: [u8; 32] = hash.chain_update(tenant).chain_update(&*self.name).finalize().into();
        let mut mark = [0; 8];
        mark.copy_from_slice(&hash[..8]);
        SubjectMark(mark)
    }
}

/// Which subject it is, for whoever must only see whether it is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectMark(pub [u8; 8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_reaches_into_another_tenant() -> Result<(), InvalidSubject> {
        let subject = |tenant: &str, name: &str| Subject::new(Tenant::new(tenant)?, name);
        assert_ne!(subject("a", "b:c")?, subject("a:b", "c")?);
        assert_ne!(subject("a", "\0b")?, subject("a\0", "b")?);
        assert_ne!(subject("a", "\0b")?.mark(), subject("a\0", "b")?.mark());
        assert_eq!(subject("a", "b")?.mark(), subject("a", "b")?.mark());
        assert_ne!(subject("a", "b")?, subject("a", "B")?);
        assert_eq!(subject("*", "**")?, subject("*", "**")?);
        assert_eq!(Tenant::new(""), Err(InvalidSubject));
        assert_eq!(Tenant::new(&"x".repeat(MAX_NAME + 1)), Err(InvalidSubject));
        Ok(())
    }
}
