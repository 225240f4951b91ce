//! What is declared of channels: which there are, who may do what in them, and what is kept.

use std::sync::Arc;

use moorline_engine::Retention;
use moorline_protocol::{channel::Kind, frame::RequestKind, pattern::Pattern, scope::Verb};

use crate::{Guard, limits::Turns};

/// What channels of a pattern are like, whatever their kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// What it takes to be told of it.
    pub(crate) read: Guard,
    /// What it takes to add to it.
    pub(crate) write: Guard,
    /// What it takes to replace its past.
    pub(crate) admin: Guard,
    /// What is kept over restarts; `None` for what lives in memory.
    pub(crate) kept: Option<Retention>,
    /// Whether it has members.
    pub(crate) presence: bool,
    /// Whether who may add to it may replace its past, too.
    pub(crate) writers_snapshot: bool,
    /// Most bytes of one channel; only for those of which everything is kept.
    pub(crate) most: Option<u64>,
}

impl Policy {
    pub(crate) fn guard(&self, verb: Verb) -> &Guard {
        match verb {
            Verb::TopicPublish | Verb::StoreWrite => &self.write,
            Verb::StoreAdmin => &self.admin,
            _ => &self.read,
        }
    }

    /// What it takes to have this done.
    pub(crate) fn verb(&self, kind: Kind, what: &RequestKind) -> Option<Verb> {
        Some(match (kind, what) {
            (Kind::Topic, RequestKind::Append | RequestKind::Send(_)) => Verb::TopicPublish,
            (Kind::Topic, RequestKind::Present | RequestKind::History { .. }) => Verb::TopicSubscribe,
            (Kind::Store, RequestKind::Append | RequestKind::Send(_) | RequestKind::Keep(_)) => Verb::StoreWrite,
            (Kind::Store, RequestKind::Snapshot(_)) if self.writers_snapshot => Verb::StoreWrite,
            (Kind::Store, RequestKind::Snapshot(_)) => Verb::StoreAdmin,
            (Kind::Store, RequestKind::Present | RequestKind::History { .. } | RequestKind::Value(_)) => {
                Verb::StoreRead
            }
            (Kind::Topic, RequestKind::Snapshot(_) | RequestKind::Keep(_) | RequestKind::Value(_))
            | (Kind::Feed | Kind::State, _) => return None,
        })
    }

    /// What it takes to be told of a channel of this kind.
    pub(crate) fn verb_to_open(kind: Kind) -> Option<Verb> {
        match kind {
            Kind::Topic => Some(Verb::TopicSubscribe),
            Kind::Store => Some(Verb::StoreRead),
            Kind::Feed | Kind::State => None,
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.kept.is_some()
    }

    pub(crate) fn error(&self) -> Option<&str> {
        [&self.read, &self.write, &self.admin].into_iter().find_map(Guard::error)
    }
}

/// Channels of one pattern.
pub(crate) struct Declared {
    pub(crate) policy: Policy,
    /// How often one may add to them.
    pub(crate) turns: Option<Turns>,
}

impl Declared {
    pub(crate) fn new(policy: Policy) -> Self {
        let turns = policy.write.turns();
        Self { policy, turns }
    }
}

/// Which channels there are.
#[derive(Default)]
pub(crate) struct Declarations(Vec<(Kind, Pattern, Arc<Declared>)>);

impl Declarations {
    pub(crate) fn insert(&mut self, kind: Kind, pattern: Pattern, policy: Policy) {
        self.0.push((kind, pattern, Arc::new(Declared::new(policy))));
        // The more a pattern says of a name, the earlier it is asked.
        self.0.sort_by(|(_, one, _), (_, other, _)| other.specificity(one));
    }

    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<&Arc<Declared>> {
        let found = self.0.iter().find(|(of, pattern, _)| *of == kind && pattern.matches(name));
        found.map(|(_, _, declared)| declared)
    }

    pub(crate) fn any_is_durable(&self) -> bool {
        self.0.iter().any(|(_, _, declared)| declared.policy.is_durable())
    }

    /// The first that is declared wrong.
    pub(crate) fn error(&self) -> Option<(Kind, &str, &str)> {
        self.0.iter().find_map(|(kind, pattern, declared)| {
            let error = declared.policy.error()?;
            Some((*kind, pattern.as_str(), error))
        })
    }
}
