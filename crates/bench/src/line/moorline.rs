//! What is said to a Moorline server: the protocol's own client endpoint, driven by the same loop as the raw connection.
//!
//! Not `moorline-client`: its tasks and channels would ask the server in another rhythm than the raw connection does, and
//! the rhythm decides how much a server can take in one read.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    channel::{Authored, Kind, Offset},
    client::{
        ChannelEvent, ClientConfig, ClientEndpoint, ClientEvent, ClientInput, ClientOutput, Follow, SocketId,
        SocketInput, Status,
    },
    frame::RequestKind,
    payload::{Name, Payload},
    record::Suite,
    session::{CallOptions, Outcome},
    time::Timestamp,
    url::DialUrl,
};

use super::{ECHO, Heard, PUBLISH, TOPIC, url};
use crate::{server::Door, subject::Subject};

/// How long a call may wait, as the endpoint wants to know; a round is over before.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Moorline {
    endpoint: ClientEndpoint,
    socket: SocketId,
    origin: Instant,
    echo: Name,
    publish: Name,
}

impl Moorline {
    /// Up to where it wants a socket, with this subprotocol.
    pub(super) fn new(door: &Door) -> Result<(Self, &'static str)> {
        let mut config = ClientConfig::new(DialUrl::parse(&url(door))?);
        config.suite = (door.subject == Subject::Sealed).then_some(Suite::Aes256Gcm);
        config.server_keys = door.key.into_iter().collect();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let mut endpoint = ClientEndpoint::new(config, seed);
        endpoint.start(Timestamp::from_millis(0));
        let (socket, subprotocol) = wanted(&mut endpoint)?;
        let (echo, publish) = (Name::new(ECHO)?, Name::new(PUBLISH)?);
        Ok((Self { endpoint, socket, origin: Instant::now(), echo, publish }, subprotocol))
    }

    /// The socket is gone, and the next try begins at once, up to where it wants a socket with this subprotocol.
    pub(super) fn cut(&mut self) -> Result<&'static str> {
        self.input(SocketInput::Closed(1006));
        self.endpoint.retry_now(self.now());
        let (socket, subprotocol) = wanted(&mut self.endpoint)?;
        self.socket = socket;
        Ok(subprotocol)
    }

    /// The socket is there.
    pub(super) fn opened(&mut self) {
        self.input(SocketInput::Opened);
    }

    pub(super) fn call(&mut self, payload: &Bytes) -> Result<()> {
        let payload = Payload::bytes(payload.clone());
        self.endpoint.call(self.now(), self.echo.clone(), payload, CallOptions::within(CALL_TIMEOUT))?;
        Ok(())
    }

    pub(super) fn publish(&mut self, json: &Bytes) -> Result<()> {
        Ok(self.endpoint.notify(self.publish.clone(), Payload::json(json.clone()), false)?)
    }

    pub(super) fn follow(&mut self) -> Result<()> {
        let (kind, name) = (Kind::Topic, Name::new(TOPIC)?);
        self.endpoint.follow(Follow {
            kind,
            name,
            quiet: false,
            members: false,
            history: 0,
            since: None,
            past: Offset(0),
            data: None,
            instead: None,
        })?;
        Ok(())
    }

    pub(super) fn append(&mut self, topic: &str, json: &Bytes) -> Result<()> {
        let (what, name) = ((RequestKind::Append, Kind::Topic), Name::new(topic)?);
        let options = CallOptions::within(CALL_TIMEOUT);
        self.endpoint.request(self.now(), what, name, Payload::json(json.clone()), options)?;
        Ok(())
    }

    pub(super) fn handle(&mut self, record: Bytes, waiting: &mut Vec<Bytes>, heard: &mut Vec<Heard>) -> Result<()> {
        self.input(SocketInput::Record(record));
        self.drain(waiting, heard)
    }

    /// Takes out what is to be written and what was heard.
    pub(super) fn drain(&mut self, waiting: &mut Vec<Bytes>, heard: &mut Vec<Heard>) -> Result<()> {
        let mut resumed = false;
        loop {
            match self.endpoint.poll_output() {
                ClientOutput::Transmit(_, record) => waiting.push(record),
                ClientOutput::Event(ClientEvent::Peer(event)) => heard.push(heard_of(event)?),
                ClientOutput::Event(ClientEvent::Channel(_, event)) => match *event {
                    ChannelEvent::Opened { .. } => heard.push(Heard::Following),
                    ChannelEvent::Update { content, .. } => {
                        heard.push(Heard::Published(Authored::decode(&content)?.payload.bytes));
                    }
                    ChannelEvent::CaughtUp => {}
                    other => bail!("a topic that is open says {other:?}"),
                },
                ClientOutput::Event(ClientEvent::Status(Status::Connected)) => heard.push(Heard::Ready { resumed }),
                ClientOutput::Event(ClientEvent::Session(session)) => resumed = session.resumed,
                // A round is shorter than any deadline of an endpoint whose server answers.
                ClientOutput::Wait(_) => return Ok(()),
                ClientOutput::Event(ClientEvent::Status(status)) => bail!("a connection is {status:?}"),
                other => bail!("an endpoint on a socket wants {other:?}"),
            }
        }
    }

    fn input(&mut self, input: SocketInput) {
        self.endpoint.handle_input(self.now(), ClientInput::Socket(self.socket, input));
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The socket that an endpoint with a key wants before anything else, and its subprotocol.
fn wanted(endpoint: &mut ClientEndpoint) -> Result<(SocketId, &'static str)> {
    loop {
        match endpoint.poll_output() {
            ClientOutput::OpenSocket { socket, subprotocol, .. } => return Ok((socket, subprotocol)),
            ClientOutput::Event(_) => {}
            other => bail!("a client with a key wants a socket first, not {other:?}"),
        }
    }
}

fn heard_of(event: PeerEvent) -> Result<Heard> {
    match event {
        PeerEvent::Settled { outcome: Outcome::Reply(payload), .. } => Ok(Heard::Reply(payload.bytes)),
        PeerEvent::Message { payload, .. } => Ok(Heard::Published(payload.bytes)),
        other => bail!("a server said {other:?}"),
    }
}
