//! Following a channel of the server's, of whatever kind: what happens in it, in order, over every connection.

use std::sync::Arc;

use moorline_protocol::{
    channel::{Authored, Kind, Member, MemberId, Members, Position, Start},
    client::{ChannelEvent, Follow, Subscription},
    frame::RequestKind,
    payload::{Name, Payload},
    session::CallOptions,
    time::UnixMillis,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    CALL_TIMEOUT, Client, Error,
    driver::Command,
    mailbox::{Mailbox, Posted},
    reply,
};

/// Events that wait for their reader. A slower one loses nothing: it reads on from where it was.
const EVENTS: usize = 256;

/// Something that somebody in a channel has said, and that stands in no log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// When it was said, by the server's clock.
    pub at: UnixMillis,
    /// The session that said it.
    pub member: MemberId,
    /// Its subject; empty for the server.
    pub subject: String,
    /// What it says.
    pub payload: Payload,
}

/// What happens, until the reader is too slow or the channel is closed.
struct Events {
    events: mpsc::Receiver<ChannelEvent>,
    subscription: Subscription,
    /// Dropped with it, so that the driver knows.
    _reader: oneshot::Sender<()>,
}

/// A channel that is followed over every connection, until this is dropped.
pub(crate) struct Following {
    pub(crate) client: Client,
    pub(crate) follow: Follow,
    members: Members,
    /// `None` until it is read.
    events: Option<Events>,
    /// What comes for this client alone, from when it is first read.
    mailbox: Arc<Mailbox>,
    ended: bool,
}

/// What happens in a channel.
pub(crate) enum Happened {
    Opened(Start),
    Snapshot { position: Position, at: UnixMillis, content: bytes::Bytes },
    Entry { position: Position, before: bool, said: Aside },
    Volatile(Aside),
    Direct(Aside),
    Missed(u64),
    Members,
}

fn aside(at: UnixMillis, content: &bytes::Bytes) -> Option<Aside> {
    // One that a later server has written, in a way that is not known here, is passed over.
    let Authored { member, subject, payload } = Authored::decode(content).ok()?;
    Some(Aside { at, member, subject, payload })
}

impl Following {
    pub(crate) fn new(client: Client, follow: Follow) -> Self {
        Self { client, follow, members: Members::default(), events: None, mailbox: Arc::default(), ended: false }
    }

    /// What happens next; `None` after an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Happened, Error>> {
        loop {
            if self.ended {
                return None;
            }
            let event = match &mut self.events {
                Some(Events { events, .. }) => tokio::select! {
                    biased;
                    posted = self.mailbox.next() => match posted {
                        Posted::Direct(direct) => match aside(direct.at, &direct.content) {
                            Some(said) => return Some(Ok(Happened::Direct(said))),
                            None => continue,
                        },
                        Posted::Missed(count) => return Some(Ok(Happened::Missed(count))),
                    },
                    event = events.recv() => event,
                },
                None => None,
            };
            let happened = match event {
                None => match self.begin().await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Some(ChannelEvent::Opened { start, seen, past, .. }) => {
                    (self.follow.since, self.follow.past) = (seen, past);
                    Ok(Happened::Opened(start))
                }
                Some(ChannelEvent::Snapshot { position, at, content }) => {
                    self.follow.since = Some(position);
                    Ok(Happened::Snapshot { position, at, content })
                }
                Some(ChannelEvent::Update { position, at, content, before }) => {
                    self.follow.since = Some(position);
                    match aside(at, &content) {
                        Some(said) => Ok(Happened::Entry { position, before, said }),
                        None => continue,
                    }
                }
                Some(ChannelEvent::CaughtUp) => continue,
                Some(ChannelEvent::Volatile { at, content }) => match aside(at, &content) {
                    Some(said) => Ok(Happened::Volatile(said)),
                    None => continue,
                },
                Some(ChannelEvent::Members(changes)) => {
                    self.members.handle(changes);
                    Ok(Happened::Members)
                }
                Some(ChannelEvent::Closed(code, message)) => Err(Error::ChannelClosed(code, message)),
            };
            self.ended = happened.is_err();
            return Some(happened);
        }
    }

    /// Follows, from where it has been read.
    async fn begin(&mut self) -> Result<(), Error> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let ((followed, is_followed), (reader, gone)) = (oneshot::channel(), oneshot::channel());
        let instead = self.events.as_ref().map(|events| events.subscription);
        let (follow, mailbox) = (Follow { instead, ..self.follow.clone() }, Arc::downgrade(&self.mailbox));
        self.client.command(Command::Follow { follow: Box::new(follow), events, mailbox, gone, followed }).await?;
        let subscription = is_followed.await.map_err(|_| self.client.closed())??;
        self.events = Some(Events { events: receiver, subscription, _reader: reader });
        Ok(())
    }

    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.members.all().map(Arc::clone).collect()
    }

    /// Wants something of the channel.
    pub(crate) async fn request(&mut self, what: RequestKind, payload: Payload) -> Result<Payload, Error> {
        let says = (what == RequestKind::Present && self.follow.data.is_some()).then(|| payload.clone());
        let (kind, name) = (self.follow.kind, self.follow.name.clone());
        let answer = self.client.request(what, kind, name, payload, CallOptions::within(CALL_TIMEOUT)).await;
        // When it is followed again, too: unless it was nothing that could be said.
        if let Some(says) = says.filter(|_| !matches!(answer, Err(Error::Refused(_)))) {
            self.follow.data = Some(says);
        }
        answer
    }
}

impl Client {
    pub(crate) async fn request(
        &self,
        what: RequestKind,
        kind: Kind,
        name: Name,
        payload: Payload,
        options: CallOptions,
    ) -> Result<Payload, Error> {
        let (settled, outcome) = oneshot::channel();
        self.command(Command::Request { channel: (what, kind), name, payload, options, settled }).await?;
        reply(outcome).await
    }
}

/// The position that a request was answered with.
pub(crate) fn position(answer: &Payload) -> Result<Position, Error> {
    Position::from_bytes(&answer.bytes).ok_or_else(|| Error::Json(serde::de::Error::custom("no position")))
}
