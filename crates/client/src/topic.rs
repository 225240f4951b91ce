//! Following a topic of the server's, and publishing to it.

use moorline_protocol::{
    channel::{Authored, Kind, MemberId, Position, Start},
    client::{ChannelEvent, Follow},
    error::Refused,
    frame::WriteKind,
    payload::{Encoding, Name, Payload},
    session::CallOptions,
    time::UnixMillis,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

use crate::{CALL_TIMEOUT, Client, Error, driver::Command, reply};

/// Events that wait for their reader. A slower one loses nothing: it reads on from where it was.
const EVENTS: usize = 256;

/// How a topic is to be followed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TopicOptions {
    /// How many of the newest messages to begin with, and again where it cannot be gone on; at most 256.
    pub history: u64,
    /// Whether what this client publishes is left out.
    pub quiet: bool,
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
}

/// What happens in a topic.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicEvent {
    /// It goes on: with everything that was missed, or anew.
    Opened(Start),
    /// Somebody has published something.
    Message(TopicMessage),
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
        match self.payload.encoding {
            Encoding::Json => Ok(serde_json::from_slice(&self.payload.bytes)?),
            Encoding::Bytes => Err(Error::Json(serde::de::Error::custom("the message is bytes"))),
        }
    }
}

/// What happens, until the reader is too slow or the channel is closed.
struct Events {
    events: mpsc::Receiver<ChannelEvent>,
    /// Dropped with it, so that the driver knows.
    _reader: oneshot::Sender<()>,
}

/// A topic that is followed over every connection, until this is dropped.
pub struct Topic {
    client: Client,
    follow: Follow,
    /// `None` until it is read.
    events: Option<Events>,
    ended: bool,
}

impl Topic {
    /// What happens next; `None` after an error.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] when the server does not tell of the topic, or no longer; [`Error::Closed`].
    pub async fn next(&mut self) -> Option<Result<TopicEvent, Error>> {
        loop {
            if self.ended {
                return None;
            }
            let event = match &mut self.events {
                Some(Events { events, .. }) => events.recv().await,
                None => None,
            };
            let happened = match event {
                None => match self.begin().await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Some(ChannelEvent::Opened { start, seen, .. }) => {
                    self.follow.since = seen;
                    Ok(TopicEvent::Opened(start))
                }
                Some(ChannelEvent::Update { position, at, content, before }) => {
                    self.follow.since = Some(position);
                    match Authored::decode(&content) {
                        Ok(Authored { member, subject, payload }) => {
                            Ok(TopicEvent::Message(TopicMessage { position, at, member, subject, before, payload }))
                        }
                        // One that a later server has written, in a way that is not known here.
                        Err(_) => continue,
                    }
                }
                // Topics have none.
                Some(ChannelEvent::Snapshot { .. }) => continue,
                Some(ChannelEvent::Closed(code, message)) => Err(Error::ChannelClosed(code, message)),
            };
            self.ended = happened.is_err();
            return Some(happened);
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
                Some(Ok(TopicEvent::Opened(_))) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Error::Closed(None)),
            }
        }
    }

    /// Up to where it has been read. A new client can go on from there: [`TopicOptions::since`].
    pub fn position(&self) -> Option<Position> {
        self.follow.since
    }

    /// Publishes to the topic, and gives where the message is.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish(&self, data: &impl Serialize) -> Result<Position, Error> {
        self.client.publish(self.follow.name.as_str(), data).await
    }

    /// Follows, from where it has been read.
    async fn begin(&mut self) -> Result<(), Error> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let ((followed, is_followed), (reader, gone)) = (oneshot::channel(), oneshot::channel());
        let follow = Box::new(self.follow.clone());
        self.client.command(Command::Follow { follow, events, gone, followed }).await?;
        is_followed.await.map_err(|_| Error::Closed(None))??;
        self.events = Some(Events { events: receiver, _reader: reader });
        Ok(())
    }
}

impl Client {
    /// Follows a topic, over every connection: from its first [`Topic::next`] on.
    ///
    /// # Errors
    /// [`Error::Refused`] when the name is none.
    pub fn topic(&self, name: &str, options: TopicOptions) -> Result<Topic, Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let TopicOptions { history, quiet, since } = options;
        let follow = Follow { kind: Kind::Topic, name, quiet, history, since, data: None };
        Ok(Topic { client: self.clone(), follow, events: None, ended: false })
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
        let (settled, outcome) = oneshot::channel();
        let channel = (WriteKind::Append, Kind::Topic);
        self.command(Command::Write { channel, name, payload, options, settled }).await?;
        let answer = reply(outcome).await?;
        Position::from_bytes(&answer.bytes).ok_or_else(|| Error::Json(serde::de::Error::custom("no position")))
    }
}
