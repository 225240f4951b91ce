//! What a plain GET on the endpoint's own URL says: the server's keys, or why a socket would be refused.
//!
//! Implements `docs/PROTOCOL.md` § Identity document. The driver fetches and parses JSON; what follows from it is
//! decided here.

use crate::{code::Code, key::ServerKey, record::Suite};

/// Where the trust in a server's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The program has the key from somewhere else.
    Pinned,
    /// The server was asked; as strong as the way it was asked over.
    Discovered,
    /// The server was asked, and has shown that it has the shared key.
    Shared,
    /// There is no key: the inner encryption is off.
    None,
}

impl Trust {
    /// The name that programs compare.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Discovered => "discovered",
            Self::Shared => "shared_key",
            Self::None => "none",
        }
    }
}

/// What came of the GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Nothing answered.
    Unreachable,
    /// Something answered that is not an identity document.
    NotMoorline,
    /// The server says that a socket would be refused, and why.
    Refuses(Code),
    /// The identity document.
    Document {
        /// The server's keys, the current one first. Those that do not parse are left out.
        keys: Vec<ServerKey>,
        /// Whether the server seals records.
        encryption: bool,
        /// The suites it takes.
        suites: Vec<Suite>,
    },
}

impl Discovery {
    /// The identity document from its parts: `encryption` is `"on"` or `"off"`.
    pub fn document<'a>(
        keys: impl IntoIterator<Item = &'a str>,
        suites: impl IntoIterator<Item = &'a str>,
        encryption: &str,
    ) -> Self {
        Self::Document {
            keys: keys.into_iter().filter_map(|key| key.parse().ok()).collect(),
            suites: suites.into_iter().filter_map(Suite::from_name).collect(),
            encryption: encryption != "off",
        }
    }

    /// A refusal by the code's name. A name that is not known says nothing.
    pub fn refusal(name: &str) -> Self {
        Code::from_name(name).map_or(Self::NotMoorline, Self::Refuses)
    }

    /// An answer that is neither, by its HTTP status: 0 where that is hidden. A gateway answers so for a server that it
    /// does not reach, which is no other kind of server.
    pub fn foreign(status: u16) -> Self {
        if matches!(status, 502..=504) { Self::Unreachable } else { Self::NotMoorline }
    }

    pub(crate) fn keys(&self) -> &[ServerKey] {
        match self {
            Self::Document { keys, .. } => keys,
            Self::Unreachable | Self::NotMoorline | Self::Refuses(_) => &[],
        }
    }

    /// The key to use, for a client that asked for one.
    pub(crate) fn key_for(&self, suite: Option<Suite>) -> Result<ServerKey, Code> {
        match self {
            Self::Document { encryption: false, .. } => Err(Code::ENCRYPTION_MISMATCH),
            Self::Document { suites, .. } if suite.is_some_and(|suite| !suites.contains(&suite)) => {
                Err(Code::ENCRYPTION_MISMATCH)
            }
            Self::Document { keys, .. } => keys.first().copied().ok_or(Code::NOT_MOORLINE),
            Self::Unreachable => Err(Code::SERVER_UNREACHABLE),
            Self::NotMoorline => Err(Code::NOT_MOORLINE),
            Self::Refuses(code) => Err(*code),
        }
    }

    /// Names the cause of a try that failed with `failure`. Nobody has proven to be the server here, so this helps a
    /// person and decides nothing else.
    pub(crate) fn diagnose(&self, failure: Code, suite: Option<Suite>, pins: &[ServerKey]) -> Code {
        match self {
            Self::Unreachable => Code::SERVER_UNREACHABLE,
            Self::NotMoorline => Code::NOT_MOORLINE,
            Self::Refuses(code) => *code,
            Self::Document { encryption, .. } if *encryption != suite.is_some() => Code::ENCRYPTION_MISMATCH,
            Self::Document { keys, .. } if !pins.is_empty() && !pins.iter().any(|pin| keys.contains(pin)) => {
                Code::SERVER_KEY_CHANGED
            }
            Self::Document { suites, .. } if suite.is_some_and(|suite| !suites.contains(&suite)) => {
                Code::ENCRYPTION_MISMATCH
            }
            Self::Document { .. } => failure,
        }
    }
}
