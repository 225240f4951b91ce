//! What is declared of channels: which there are, who may do what in them, and what is kept.

use std::sync::Arc;

use moorline_engine::Retention;
use moorline_protocol::{
    channel::Kind,
    code::Code,
    frame::{Failure, RequestKind},
    pattern::Pattern,
    scope::Verb,
};

use crate::{access::Guard, config::Place, limits::Turns, undeclared::Undeclared};

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
            Verb::TopicSubscribe
            | Verb::StoreRead
            | Verb::Call
            | Verb::FeedOpen
            | Verb::StateCreate
            | Verb::StateAttach
            | Verb::StateWrite => &self.read,
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
    /// Where it is declared: the configuration, otherwise the program.
    place: Place,
    /// How often one may add to them.
    pub(crate) turns: Option<Turns>,
}

impl Declared {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { turns: policy.write.turns(), policy, place: Place::Program }
    }
}

/// How many declarations of channels there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelCounts {
    /// Of topics, by the program and by the configuration.
    pub topics: usize,
    /// Those whose messages are kept over restarts.
    pub with_history: usize,
    /// Those that tell who is there.
    pub with_presence: usize,
    /// Whether any other topic is made when it is asked for: see [`ServerBuilder::dev`](crate::ServerBuilder::dev).
    pub undeclared: bool,
    /// Of stores, by the program and by the configuration.
    pub stores: usize,
    /// Those of them that tell who is there.
    pub stores_with_presence: usize,
}

/// Which channels there are.
#[derive(Default)]
pub(crate) struct Declarations {
    by_pattern: Vec<(Kind, Pattern, Arc<Declared>)>,
    /// The first two that are about the same names, where they stand.
    twice: Option<(Kind, [(Pattern, Place); 2])>,
    /// What is done about channels that nobody has declared, and what the topics among them are like.
    undeclared: Option<(Undeclared, Arc<Declared>)>,
}

impl Declarations {
    pub(crate) fn insert(&mut self, kind: Kind, pattern: Pattern, policy: Policy, place: Place) {
        let is_same =
            |(of, other, _): &&(Kind, Pattern, _)| *of == kind && other.covers(&pattern) && pattern.covers(other);
        if let Some((_, other, declared)) = self.by_pattern.iter().find(is_same) {
            let other = (other.clone(), declared.place.clone());
            self.twice.get_or_insert_with(|| (kind, [other, (pattern.clone(), place.clone())]));
        }
        self.by_pattern.push((kind, pattern, Arc::new(Declared { place, ..Declared::new(policy) })));
        // The more a pattern says of a name, the earlier it is asked.
        self.by_pattern.sort_by(|(_, one, _), (_, other, _)| other.specificity(one));
    }

    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<&Arc<Declared>> {
        let found = self.by_pattern.iter().find(|(of, pattern, _)| *of == kind && pattern.matches(name));
        let made = || {
            let (undeclared, declared) = self.undeclared.as_ref().filter(|_| kind == Kind::Topic)?;
            undeclared.makes_topic(name).then_some(declared)
        };
        found.map(|(_, _, declared)| declared).or_else(made)
    }

    /// What whoever asks for a channel that is not declared is told.
    pub(crate) fn missing(&self, kind: Kind, name: &str) -> Failure {
        let remedy = match kind {
            Kind::Store => self.undeclared.as_ref().and_then(|(undeclared, _)| undeclared.refuse_store(name)),
            Kind::Topic | Kind::Feed | Kind::State => None,
        };
        Failure::with_message(Code::NO_SUCH_CHANNEL, remedy.unwrap_or_default())
    }

    /// Has topics that are not declared made when they are asked for, and says of stores what declares them.
    pub(crate) fn make_undeclared(&mut self, undeclared: Undeclared) {
        let declared = Declared::new(Policy { presence: true, ..Policy::default() });
        self.undeclared = Some((undeclared, Arc::new(declared)));
    }

    /// How many there are, for the banner.
    pub(crate) fn counts(&self) -> ChannelCounts {
        let count = |of: Kind, is: fn(&Policy) -> bool| {
            self.by_pattern.iter().filter(|(kind, _, one)| *kind == of && is(&one.policy)).count()
        };
        ChannelCounts {
            topics: count(Kind::Topic, |_| true),
            with_history: count(Kind::Topic, Policy::is_durable),
            with_presence: count(Kind::Topic, |policy| policy.presence),
            undeclared: self.undeclared.is_some(),
            stores: count(Kind::Store, |_| true),
            stores_with_presence: count(Kind::Store, |policy| policy.presence),
        }
    }

    pub(crate) fn any_is_durable(&self) -> bool {
        self.by_pattern.iter().any(|(_, _, declared)| declared.policy.is_durable())
    }

    /// The first two declarations that are about the same names, and where they stand.
    pub(crate) fn twice(&self) -> Option<&(Kind, [(Pattern, Place); 2])> {
        self.twice.as_ref()
    }

    /// The first that asks for what cannot be, and why.
    pub(crate) fn wrong(&self) -> Option<(Kind, &Pattern, &str)> {
        self.by_pattern.iter().find_map(|(kind, pattern, one)| Some((*kind, pattern, one.policy.error()?)))
    }
}
