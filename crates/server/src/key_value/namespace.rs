//! The namespaces that a program declares, each by a name and by a type.

use std::{
    any::{TypeId, type_name},
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    marker::PhantomData,
    sync::Arc,
};

use moorline_protocol::subject::Tenant;
use tokio::sync::Mutex;

use crate::states::States;

/// Longest name of a namespace, in bytes.
const MAX_NAMESPACE: usize = 64;

/// Updates of a namespace that may run at once; those whose keys fall together wait for each other.
const LANES: usize = 64;

/// Why a namespace was declared wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceError {
    /// It is no name.
    Name(Box<str>),
    /// Two types have it.
    NameTwice {
        /// The namespace.
        namespace: Box<str>,
        /// The types.
        types: [&'static str; 2],
    },
    /// One type has two.
    TypeTwice {
        /// The type.
        name: &'static str,
        /// The namespaces.
        namespaces: [Box<str>; 2],
    },
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(namespace) => write!(
                formatter,
                "{namespace:?} is no name for a namespace: 1 to {MAX_NAMESPACE} letters, digits and . _ -, and what begins \
                 with moorline. is reserved"
            ),
            Self::NameTwice { namespace, types: [one, other] } => write!(
                formatter,
                "the namespace {namespace:?} is declared twice, for {one} and for {other}; give each its own"
            ),
            Self::TypeTwice { name, namespaces: [one, other] } => {
                write!(formatter, "{name} has two namespaces, {one:?} and {other:?}; declare a type for each")
            }
        }
    }
}

impl std::error::Error for NamespaceError {}

/// A namespace, as it is kept among the states.
pub(super) struct Namespace<N> {
    pub(super) name: Arc<str>,
    lanes: Arc<[Mutex<()>]>,
    of: PhantomData<fn() -> N>,
}

impl<N> Namespace<N> {
    /// Where updates of this key wait for each other.
    pub(super) fn lane(&self, tenant: &Tenant, key: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        (tenant, key).hash(&mut hasher);
        &self.lanes[hasher.finish() as usize % LANES]
    }
}

impl<N> Clone for Namespace<N> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), lanes: self.lanes.clone(), of: PhantomData }
    }
}

/// The namespaces that are declared.
#[derive(Default)]
pub(crate) struct Namespaces {
    by_name: BTreeMap<Arc<str>, (TypeId, &'static str)>,
    /// The first thing that was declared wrong.
    error: Option<NamespaceError>,
}

impl Namespaces {
    pub(crate) fn declare<N: 'static>(&mut self, name: &str, states: &mut States) {
        if let Err(error) = self.check::<N>(name) {
            self.error.get_or_insert(error);
            return;
        }
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), (TypeId::of::<N>(), type_name::<N>()));
        let lanes = (0..LANES).map(|_| Mutex::default()).collect();
        states.insert(Namespace::<N> { name, lanes, of: PhantomData });
    }

    fn check<N: 'static>(&self, name: &str) -> Result<(), NamespaceError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_NAMESPACE).contains(&name.len()) || !name.bytes().all(plain) || name.starts_with("moorline.") {
            return Err(NamespaceError::Name(name.into()));
        }
        if let Some((_, other)) = self.by_name.get(name) {
            return Err(NamespaceError::NameTwice { namespace: name.into(), types: [other, type_name::<N>()] });
        }
        match self.by_name.iter().find(|(_, (of, _))| *of == TypeId::of::<N>()) {
            Some((other, (_, of))) => {
                Err(NamespaceError::TypeTwice { name: of, namespaces: [(**other).into(), name.into()] })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn error(&self) -> Option<&NamespaceError> {
        self.error.as_ref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scores;
    struct Settings;

    #[test]
    fn a_namespace_is_declared_once_by_name_and_by_type() {
        let error = |declare: fn(&mut Namespaces, &mut States)| {
            let mut namespaces = Namespaces::default();
            declare(&mut namespaces, &mut States::default());
            namespaces.error().map(ToString::to_string).unwrap_or_default()
        };
        let by_name = error(|namespaces, states| {
            namespaces.declare::<Scores>("scores", states);
            namespaces.declare::<Settings>("scores", states);
        });
        assert!(by_name.contains("\"scores\" is declared twice, for") && by_name.contains("Settings"), "{by_name}");
        let by_type = error(|namespaces, states| {
            namespaces.declare::<Scores>("scores", states);
            namespaces.declare::<Scores>("points", states);
        });
        assert!(by_type.contains("Scores has two namespaces, \"scores\" and \"points\""), "{by_type}");
        for name in ["", "a b", "ä", "moorline.x", &"x".repeat(65)] {
            let mut namespaces = Namespaces::default();
            namespaces.declare::<Scores>(name, &mut States::default());
            assert_eq!(namespaces.error(), Some(&NamespaceError::Name(name.into())));
        }
    }
}
