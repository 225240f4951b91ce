//! Following a topic of the server's, and publishing to it.

use std::sync::Arc;

use moorline_protocol::{
    channel::{Authored, Kind, Member, MemberId, Offset, Position, Start},
    client::Follow,
    error::Refused,
    frame::{History, RequestKind},
    payload::{Encoding, Name, Payload},
    session::CallOptions,
    time::UnixMillis,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::{
    Aside, CALL_TIMEOUT, Client, Error,
    channel::{Following, Happened, position},
    driver::Command,
};

/// How a topic is to be followed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TopicOptions {
    /// How many of the newest messages to begin with, and again where it cannot be gone on; at most 256.
    pub history: u64,
    /// Whether what this client publishes is left out.
    pub quiet: bool,
    /// Whether to be told who is in it.
    pub members: bool,
    /// What this client says for itself to the others: with it, it is a member.
    pub presence: Option<Payload>,
    /// From where the program has it already.
    pub since: Option<Position>,
}

impl TopicOptions {
    /// Begins with so many of the newest messages.
    pub fn history(count: u64) -> Self {
        Self { history: count, ..Self::default() }
    }

    /// Leaves out what this client publishes.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Wants to know who is in it.
    #[must_use]
    pub fn members(mut self) -> Self {
        self.members = true;
        self
    }

    /// Is a member, and says this for itself.
    ///
    /// # Errors
    /// [`Error::Json`] when it cannot be written as JSON.
    pub fn presence(mut self, data: &impl Serialize) -> Result<Self, Error> {
        self.presence = Some(Payload::json(serde_json::to_vec(data)?));
        Ok(self)
    }
}

/// What happens in a topic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TopicEvent {
    /// It goes on: with everything that was missed, or anew.
    Opened(Start),
    /// Somebody has published something.
    Message(TopicMessage),
    /// Somebody has said something that is kept nowhere.
    Volatile(Aside),
    /// Somebody has sent something to this client alone.
    Direct(Aside),
    /// So much was sent to this client alone for which there was no room: 1,024 messages, or 4 MiB of them, waited to be
    /// read here. It is lost.
    Missed(u64),
    /// Who is in it has changed: [`Topic::members`].
    Members,
}

/// A message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMessage {
    /// Where it is.
    pub position: Position,
    /// When it was published, by the server's clock.
    pub at: UnixMillis,
    /// The session that published it.
    pub member: MemberId,
    /// Its subject; empty for the server.
    pub subject: String,
    /// It had been published before the topic was opened on this connection.
    pub before: bool,
    /// What it says.
    pub payload: Payload,
}

impl TopicMessage {
    /// What it says, as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] when it is not, or has another shape.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read(&self.payload)
    }
}

impl Aside {
    /// What it says, as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] when it is not, or has another shape.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read(&self.payload)
    }
}

fn read<T: DeserializeOwned>(payload: &Payload) -> Result<T, Error> {
    match payload.encoding {
        Encoding::Json => Ok(serde_json::from_slice(&payload.bytes)?),
        Encoding::Bytes => Err(Error::Json(serde::de::Error::custom("the message is bytes"))),
    }
}

/// Messages from the past of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicHistory {
    /// In ascending order.
    pub messages: Vec<TopicMessage>,
    /// Whether there are older ones.
    pub more: bool,
}

/// A topic that is followed over every connection, until this is dropped.
pub struct Topic(Following);

impl Topic {
    /// What happens next; `None` after an error.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] when the server does not tell of the topic, or no longer; [`Error::Closed`].
    pub async fn next(&mut self) -> Option<Result<TopicEvent, Error>> {
        loop {
            let event = self.0.next().await?.map(|happened| match happened {
                Happened::Opened(start) => Some(TopicEvent::Opened(start)),
                Happened::Entry { position, before, said } => {
                    let Aside { at, member, subject, payload } = said;
                    Some(TopicEvent::Message(TopicMessage { position, at, member, subject, before, payload }))
                }
                Happened::Volatile(said) => Some(TopicEvent::Volatile(said)),
                Happened::Direct(said) => Some(TopicEvent::Direct(said)),
                Happened::Missed(count) => Some(TopicEvent::Missed(count)),
                Happened::Members => Some(TopicEvent::Members),
                // Topics have none.
                Happened::Snapshot { .. } => None,
            });
            if let Some(event) = event.transpose() {
                return Some(event);
            }
        }
    }

    /// The next message, whatever else happens.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn message(&mut self) -> Result<TopicMessage, Error> {
        loop {
            match self.next().await {
                Some(Ok(TopicEvent::Message(message))) => return Ok(message),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Error::Closed(None)),
            }
        }
    }

    /// Up to where it has been read. A new client can go on from there: [`TopicOptions::since`].
    pub fn position(&self) -> Option<Position> {
        self.0.follow.since
    }

    /// Who is in it, as far as has been read; nobody unless [`TopicOptions::members`] was set.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.0.members()
    }

    /// Publishes to the topic, and gives where the message is.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish(&self, data: &impl Serialize) -> Result<Position, Error> {
        self.0.client.publish(self.0.follow.name.as_str(), data).await
    }

    /// Says something to whoever is subscribed at this moment, which is kept nowhere and may be dropped.
    ///
    /// # Errors
    /// As [`Client::publish_volatile`].
    pub async fn publish_volatile(&self, data: &impl Serialize) -> Result<(), Error> {
        self.0.client.publish_volatile(self.0.follow.name.as_str(), data).await
    }

    /// Sends something to one who is in the topic, alone. It resolves when it waits for that one's session, which gets it
    /// although its client may be away for a moment.
    ///
    /// # Errors
    /// [`Error::Failed`] with `no_such_member`, or why else it was not sent.
    pub async fn send_to(&mut self, member: MemberId, data: &impl Serialize) -> Result<(), Error> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        self.0.request(RequestKind::Send(member), payload).await.map(drop)
    }

    /// Says something else for this client to the others, from now on.
    ///
    /// # Errors
    /// [`Error::Failed`] with `no_such_member` when it is none.
    pub async fn present(&mut self, data: &impl Serialize) -> Result<(), Error> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        self.0.request(RequestKind::Present, payload).await.map(drop)
    }

    /// The newest messages of those before a position, or of all: so many at most, and at most 256 or 256 KiB.
    ///
    /// # Errors
    /// [`Error::Failed`] with `unknown_position` when the topic was made anew since.
    pub async fn history(&mut self, before: Option<Position>, count: u64) -> Result<TopicHistory, Error> {
        let answer = self.0.request(RequestKind::History { before, count }, Payload::bytes("")).await?;
        let no_page = |_| Error::Json(serde::de::Error::custom("no page"));
        let History { more, entries, .. } = History::decode(&answer.bytes).map_err(no_page)?;
        let message = |(position, at, content): (Position, UnixMillis, _)| {
            let Authored { member, subject, payload } = Authored::decode(&content).ok()?;
            Some(TopicMessage { position, at, member, subject, before: true, payload })
        };
        Ok(TopicHistory { messages: entries.into_iter().filter_map(message).collect(), more })
    }
}

impl Client {
    /// Follows a topic, over every connection: from its first [`Topic::next`] on.
    ///
    /// # Errors
    /// [`Error::Refused`] when the name is none.
    pub fn topic(&self, name: &str, options: TopicOptions) -> Result<Topic, Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let TopicOptions { history, quiet, members, presence, since } = options;
        let follow = Follow {
            kind: Kind::Topic,
            name,
            quiet,
            members,
            history,
            since,
            past: Offset(0),
            data: presence,
            instead: None,
        };
        Ok(Topic(Following::new(self.clone(), follow)))
    }

    /// Publishes to a topic, and gives where the message is. It waits up to 10 s, for a connection, too.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the session was lost before the answer came; else why it was not published.
    pub async fn publish(&self, name: &str, data: &impl Serialize) -> Result<Position, Error> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        self.publish_raw(name, payload, CallOptions::within(CALL_TIMEOUT)).await
    }

    /// Publishes a payload as it is. With a key it is published once, however often it is sent.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_raw(&self, name: &str, payload: Payload, options: CallOptions) -> Result<Position, Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        position(&self.request(RequestKind::Append, Kind::Topic, name, payload, options).await?)
    }

    /// Says something to whoever is subscribed to a topic at this moment: at most 16 KiB, kept nowhere, dropped without a
    /// connection and for whoever does not keep up. What the server refuses it warns of.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn publish_volatile(&self, name: &str, data: &impl Serialize) -> Result<(), Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let payload = Payload::json(serde_json::to_vec(data)?);
        let (sent, is_sent) = oneshot::channel();
        self.command(Command::Volatile { kind: Kind::Topic, name, payload, sent }).await?;
        Ok(is_sent.await.map_err(|_| self.closed())??)
    }
}
