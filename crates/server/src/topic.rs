//! Topics: what is declared of them ([`TopicPolicy`]), and publishing from the server ([`Topics`]).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moorline_engine::{Append, EngineError, OpId, Retention};
use moorline_protocol::{
    channel::{Authored, ChannelId, Kind, MemberId, Position},
    code::Code,
    frame::{Failure, SessionId},
    pattern::Pattern,
    payload::{Name, Payload},
    scope::Verb,
    subject::{Subject, Tenant},
    time::UnixMillis,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Error, Fail, Guard, Principal,
    channels::Channels,
    config::Place,
    handler::{Context, FromCall},
    limits::Turns,
    server::TopicCounts,
    undeclared::Undeclared,
};

/// What topics of a pattern are like. Declaring them lets whoever has signed in subscribe and publish, as scopes permit.
#[derive(Clone, Debug, Default)]
pub struct TopicPolicy {
    pub(crate) subscribe: Guard,
    pub(crate) publish: Guard,
    history: Option<Retention>,
    presence: bool,
}

/// Bytes of messages that a history keeps unless it says otherwise.
const HISTORY_BYTES: u64 = 64 << 20;

impl TopicPolicy {
    /// No history beyond what who was away for a moment needs: 120 s and 1 MiB, in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps so many messages, no longer than `age`, and no more than 64 MiB of them, over restarts too: what is
    /// published is on the disk before its publisher is told so.
    #[must_use]
    pub fn history(self, count: u64, age: Duration) -> Self {
        self.history_within(count, age, HISTORY_BYTES)
    }

    /// The same, and no more than so many bytes of them instead of 64 MiB.
    #[must_use]
    pub fn history_within(mut self, count: u64, age: Duration, bytes: u64) -> Self {
        self.history = Some(Retention { entries: count, bytes, age });
        self
    }

    /// Tells whoever asks for it who is there.
    #[must_use]
    pub fn presence(mut self) -> Self {
        self.presence = true;
        self
    }

    /// What it takes to subscribe.
    #[must_use]
    pub fn subscribe(mut self, guard: Guard) -> Self {
        self.subscribe = guard;
        self
    }

    /// What it takes to publish; its schema is the messages'.
    #[must_use]
    pub fn publish(mut self, guard: Guard) -> Self {
        self.publish = guard;
        self
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.history.is_some()
    }

    pub(crate) fn has_presence(&self) -> bool {
        self.presence
    }

    pub(crate) fn guard(&self, verb: Verb) -> &Guard {
        if verb == Verb::TopicPublish { &self.publish } else { &self.subscribe }
    }
}

/// Topics of one pattern.
pub(crate) struct Declared {
    pub(crate) policy: TopicPolicy,
    /// Where it is declared: the configuration, otherwise the program.
    place: Place,
    /// How often one may publish.
    pub(crate) turns: Option<Turns>,
}

impl Declared {
    pub(crate) fn new(policy: TopicPolicy) -> Self {
        Self { turns: policy.publish.turns(), policy, place: Place::Program }
    }
}

/// The topics of the caller's tenant, as handlers take them.
#[derive(Clone)]
pub struct Topics {
    channels: Arc<Channels>,
    declared: Arc<Declarations>,
    tenant: Tenant,
}

/// Which topics there are.
#[derive(Default)]
pub(crate) struct Declarations {
    by_pattern: Vec<(Pattern, Arc<Declared>)>,
    /// The first two that are about the same names, where they stand.
    twice: Option<[(Pattern, Place); 2]>,
    /// What makes those that nobody has declared.
    undeclared: Option<Undeclared>,
}

impl Declarations {
    pub(crate) fn insert(&mut self, pattern: Pattern, policy: TopicPolicy, place: Place) {
        let same = self.by_pattern.iter().find(|(other, _)| other.covers(&pattern) && pattern.covers(other));
        if let Some((other, declared)) = same {
            let other = (other.clone(), declared.place.clone());
            self.twice.get_or_insert_with(|| [other, (pattern.clone(), place.clone())]);
        }
        self.by_pattern.push((pattern, Arc::new(Declared { place, ..Declared::new(policy) })));
        // The more a pattern says of a name, the earlier it is asked.
        self.by_pattern.sort_by(|(one, _), (other, _)| other.specificity(one));
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Declared>> {
        let declared = self.by_pattern.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, declared)| declared);
        declared.or_else(|| self.undeclared.as_ref()?.find(name))
    }

    /// Has topics that are not declared made when they are asked for.
    pub(crate) fn make_undeclared(&mut self, undeclared: Undeclared) {
        self.undeclared = Some(undeclared);
    }

    /// How many there are, for the banner.
    pub(crate) fn counts(&self) -> TopicCounts {
        let count = |is: fn(&TopicPolicy) -> bool| self.by_pattern.iter().filter(|(_, one)| is(&one.policy)).count();
        TopicCounts {
            declared: self.by_pattern.len(),
            with_history: count(TopicPolicy::is_durable),
            with_presence: count(TopicPolicy::has_presence),
            undeclared: self.undeclared.is_some(),
        }
    }

    pub(crate) fn any_is_durable(&self) -> bool {
        self.by_pattern.iter().any(|(_, declared)| declared.policy.is_durable())
    }

    /// Finds at the start what was declared wrong.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(twice) = &self.twice {
            return Err(Error::TopicTwice(Box::new(twice.clone())));
        }
        self.by_pattern.iter().try_for_each(|(pattern, declared)| {
            let Declared { policy, .. } = &**declared;
            match policy.subscribe.error().or_else(|| policy.publish.error()) {
                Some(error) => Err(Error::InvalidTopic { pattern: pattern.to_string(), error: error.to_owned() }),
                None => Ok(()),
            }
        })
    }
}

/// By whom something is published.
pub(crate) struct Author {
    pub(crate) member: MemberId,
    pub(crate) subject: String,
}

impl Author {
    /// A client, by its session.
    pub(crate) fn client(session: SessionId, principal: &Principal) -> Self {
        Self { member: member(session), subject: principal.subject.name().to_owned() }
    }
}

/// The name of a session among those in a channel. It cannot be turned back into the session's.
pub(crate) fn member(session: SessionId) -> MemberId {
    let hash: [u8; 32] = Sha256::digest([&b"moorline member"[..], &session.0].concat()).into();
    let mut member = [0; 8];
    member.copy_from_slice(&hash[..8]);
    MemberId(member)
}

/// One operation of a subject's, by the key that its client made up: another subject's never is the same.
pub(crate) fn operation(subject: &Subject, key: &Name) -> OpId {
    let subject = subject.name();
    let hash = Sha256::new()
        .chain_update(b"moorline operation")
        .chain_update((subject.len() as u64).to_be_bytes())
        .chain_update(subject)
        .chain_update(key.as_str())
        .finalize();
    let mut op = [0; 16];
    op.copy_from_slice(&hash[..16]);
    OpId(op)
}

/// Adds a message to a topic.
pub(crate) async fn publish(
    channels: Arc<Channels>,
    channel: ChannelId,
    declared: Arc<Declared>,
    author: Author,
    payload: Payload,
    op: Option<OpId>,
) -> Result<Position, Failure> {
    let TopicPolicy { history, .. } = &declared.policy;
    let content = Authored { member: author.member, subject: author.subject, payload }.encode();
    let append = Append { op, ..Append::new(content, now(), history.unwrap_or_default()) };
    let appended = channels.engine(history.is_some()).append(&channel, append).await;
    appended.map(|appended| appended.position).map_err(|error| failure(&channel, &error))
}

/// What a client is told when an engine fails. The log has the rest.
pub(crate) fn failure(channel: &ChannelId, error: &EngineError) -> Failure {
    tracing::error!(channel = channel.name.as_str(), kind = channel.kind.name(), %error, "the engine failed");
    Failure::of(Code::INTERNAL)
}

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Topics {
    /// Publishes to a topic as the server itself, and gives where the message is. It is told to whoever is subscribed
    /// before this resolves.
    ///
    /// # Errors
    /// `no_such_channel` when no topic of this name is declared; `invalid_params` when the message does not fit its
    /// schema; `internal` when it could not be kept.
    pub async fn publish(&self, name: &str, data: &impl Serialize) -> Result<Position, Fail> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        let declared = self.declared.find(name).ok_or_else(|| Fail::of(Code::NO_SUCH_CHANNEL))?;
        let name = Name::new(name).map_err(|_| Fail::of(Code::INVALID_NAME))?;
        declared.policy.publish.check(&payload).map_err(|failure| Fail::with_message(failure.code, failure.message))?;
        let channel = ChannelId::new(self.tenant.clone(), Kind::Topic, name);
        let author = Author { member: MemberId::SERVER, subject: String::new() };
        publish(self.channels.clone(), channel, declared.clone(), author, payload, None)
            .await
            .map_err(|failure| Fail::of(failure.code))
    }
}

impl FromCall for Topics {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        let tenant = context.entry.principal.subject.tenant().clone();
        Ok(Self { channels: context.channels.clone(), declared: context.topics.clone(), tenant })
    }
}
