//! The servers that are measured.

use anyhow::{Context, Result};

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// tokio-tungstenite by itself, tuned: what the others are measured by.
    Raw,
    /// Moorline as it comes.
    Sealed,
    /// Moorline without encryption.
    Plain,
}

impl Subject {
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Sealed, Self::Plain];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Sealed => "sealed",
            Self::Plain => "plain",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|subject| subject.name() == name)
            .with_context(|| format!("there is no server {name:?}"))
    }
}
