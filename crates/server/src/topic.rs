//! Topics: what is declared of them ([`TopicPolicy`]), and publishing from the server ([`Topics`]).

use std::{sync::Arc, time::Duration};

use moorline_engine::{Append, Most, OpId, Retention};
use moorline_protocol::{
    channel::{ChannelId, Kind, MemberId, Position, Presence},
    code::Code,
    frame::Failure,
    limits::PART,
    payload::{Name, Payload},
    subject::Tenant,
    time::UnixMillis,
};
use serde::Serialize;

use crate::{
    access::Guard,
    author::Author,
    channels::Channels,
    clock::now,
    fail::Fail,
    handler::{Context, FromCall},
    peer::Peer,
    policy::{Declarations, Declared, Policy},
};

/// What topics of a pattern are like. Declaring them lets whoever has signed in subscribe and publish, as scopes permit.
#[derive(Clone, Debug, Default)]
pub struct TopicPolicy(pub(crate) Policy);

/// Bytes of messages that a history keeps unless it says otherwise.
const HISTORY_BYTES: u64 = 64 << 20;

impl TopicPolicy {
    /// No history beyond what who was away for a moment needs: 120 s and 1 MiB, in memory. No members.
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
        self.0.kept = Some(Retention { entries: count, bytes, age });
        self
    }

    /// Has members: whoever says something for itself when it subscribes, and is there or away until its session ends.
    /// At most 4,096 in one topic.
    #[must_use]
    pub fn presence(mut self) -> Self {
        self.0.presence = true;
        self
    }

    /// What it takes to subscribe, to read the history, and to be a member.
    #[must_use]
    pub fn subscribe(mut self, guard: Guard) -> Self {
        self.0.read = guard;
        self
    }

    /// What it takes to publish, and to send to one of those who are there; its schema is the messages', its rate one's
    /// for all of that and for saying something else for oneself.
    #[must_use]
    pub fn publish(mut self, guard: Guard) -> Self {
        self.0.write = guard;
        self
    }
}

/// The topics of the caller's tenant, as handlers take them.
#[derive(Clone)]
pub struct Topics {
    channels: Arc<Channels>,
    declared: Arc<Declarations>,
    tenant: Tenant,
}

/// One who is in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicMember {
    /// The name of its session among those in the topic.
    pub id: MemberId,
    /// Its subject.
    pub subject: String,
    /// Since when its client has not been connected; `None` while it is.
    pub away_since: Option<UnixMillis>,
    /// Since when it is a member.
    pub joined: UnixMillis,
    /// What it says for itself.
    pub data: Payload,
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
    let kept = declared.policy.kept;
    let most = Most { channels: channels.most(kept.is_some()), ..Most::default() };
    let append = Append { op, most, ..Append::new(author.says(payload), now(), kept.unwrap_or_default()) };
    let appended = channels.engine(kept.is_some()).append(&channel, append).await;
    appended.map(|appended| appended.position).map_err(|error| channels.failure(&channel, &error))
}

impl Topics {
    /// Publishes to a topic as the server itself, and gives where the message is. It is told to whoever is subscribed
    /// before this resolves.
    ///
    /// # Errors
    /// `no_such_channel` when no topic of this name is declared; `invalid_params` when the message does not fit its
    /// schema; `too_large` when it is above `[limits] max_message`; `too_many_names` when its tenant has as many topics with a
    /// history as it may; `storage_full` or `internal` when it could not be kept.
    pub async fn publish(&self, name: &str, data: &impl Serialize) -> Result<Position, Fail> {
        self.publish_by(Author::server(), name, data).await
    }

    /// Publishes to a topic in the name of a client, as if it had done so itself; whether it may is not asked.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_as(&self, peer: &Peer, name: &str, data: &impl Serialize) -> Result<Position, Fail> {
        self.publish_by(Author::client(peer.id(), &peer.principal()), name, data).await
    }

    async fn publish_by(&self, author: Author, name: &str, data: &impl Serialize) -> Result<Position, Fail> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        let (channel, declared) = self.find(name)?;
        declared.policy.write.check(&payload).map_err(Fail::failed)?;
        self.channels.check_size(&payload).map_err(Fail::failed)?;
        publish(self.channels.clone(), channel, declared, author, payload, None).await.map_err(Fail::failed)
    }

    /// Says something to whoever is subscribed at this moment. It is kept nowhere, has no position, and whoever does not
    /// keep up misses it.
    ///
    /// # Errors
    /// As [`Self::publish`]; `too_large` above 16 KiB.
    pub fn publish_volatile(&self, name: &str, data: &impl Serialize) -> Result<(), Fail> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        let (channel, declared) = self.find(name)?;
        declared.policy.write.check(&payload).map_err(Fail::failed)?;
        if payload.bytes.len() > PART {
            return Err(Fail::of(Code::TOO_LARGE));
        }
        self.channels.tell_volatile(&channel, &Author::server().says(payload));
        Ok(())
    }

    /// Who is in a topic, in no order that means anything.
    ///
    /// # Errors
    /// `no_such_channel` when no topic of this name is declared.
    pub fn members(&self, name: &str) -> Result<Vec<TopicMember>, Fail> {
        let (channel, _) = self.find(name)?;
        let members = self.channels.members(&channel).into_iter().map(|member| TopicMember {
            id: member.id,
            subject: member.subject.clone(),
            away_since: match member.presence {
                Presence::Here => None,
                Presence::Away(since) => Some(since),
            },
            joined: member.joined,
            data: member.data.clone(),
        });
        Ok(members.collect())
    }

    fn find(&self, name: &str) -> Result<(ChannelId, Arc<Declared>), Fail> {
        let declared = self
            .declared
            .find(Kind::Topic, name)
            .ok_or_else(|| Fail::failed(self.declared.missing(Kind::Topic, name)))?;
        let channel = Name::new(name).map_err(|_| Fail::of(Code::INVALID_NAME))?;
        Ok((ChannelId::new(self.tenant.clone(), Kind::Topic, channel), declared.clone()))
    }
}

impl FromCall for Topics {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        let tenant = context.entry.principal.subject.tenant().clone();
        Ok(Self { channels: context.channels.clone(), declared: context.declared.clone(), tenant })
    }
}

#[cfg(test)]
mod tests {
    use moorline_protocol::pattern::Pattern;

    use super::*;
    use crate::{channels::tests::in_memory, config::Place};

    /// It was published, and every subscriber's topic ended with `too_large`, for as long as the history had it.
    #[tokio::test]
    async fn regression_what_no_client_could_take_is_not_published() {
        let mut declared = Declarations::default();
        declared.insert(Kind::Topic, Pattern::parse("room").expect("a pattern"), Policy::default(), Place::Program);
        let (channels, declared) = (Arc::new(in_memory()), Arc::new(declared));
        let topics = Topics { channels, declared, tenant: Tenant::default() };
        let code = |published: Result<_, Fail>| published.map_err(|fail| fail.into_failure("").code).err();
        // In memory a test's clients take 1 KiB. A text has its quotes.
        assert_eq!(code(topics.publish("room", &"x".repeat(1022)).await), None);
        assert_eq!(code(topics.publish("room", &"x".repeat(1023)).await), Some(Code::TOO_LARGE));
    }
}
