//! One of our endpoints over the plain wire, and a test in the place of the other: it writes frames byte by byte.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    auth::Resume,
    client::*,
    code::Code,
    frame::{CallId, ResetReason, ResumeSecret, Seq, SessionId},
    payload::Payload,
    server::*,
    session::{Broadcast, CallOptions, Proof},
    time::{Timestamp, UnixMillis},
};

use crate::pair::*;

enum Ours {
    Client(Box<ClientEndpoint>),
    Server(Box<ServerEndpoint>),
}

/// The field of a plain hello that names the client, the last: tag, length, id.
pub(crate) const CLIENT_ID: usize = 2 + 16;

/// A frame as it came: kind, flags, body.
pub(crate) type Frame = (u8, u8, Vec<u8>);

pub(crate) struct Foreign {
    ours: Ours,
    config: Arc<ServerConfig>,
    pub(crate) now: Timestamp,
    socket: SocketId,
    /// The session's name, and what proves that it is one's own.
    session: ([u8; 16], [u8; 16]),
    /// Which subject our client is told that it is.
    pub(crate) subject: Option<[u8; 8]>,
    /// How often the test in a client's place has asked for the session.
    attempt: u64,
    /// The number that ours says it has received, when it asks for a session or gives one back.
    pub(crate) told: Option<u64>,
    frames: Vec<Frame>,
    heard: Vec<PeerEvent>,
    pub(crate) resets: Vec<Reset>,
    pub(crate) ended: Option<(Ended, usize)>,
    pub(crate) closed: Option<Code>,
    /// What ours did, in order: the number of frames of a record, or 0 for an event.
    pub(crate) order: Vec<usize>,
    wakes: Option<Timestamp>,
}

pub(crate) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

pub(crate) fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, flags][..], &varint(body.len() as u64), body].concat()
}

fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag], &varint(value.len() as u64)[..], value].concat()
}

/// The number in a frame that has nothing else.
pub(crate) fn number(body: &[u8]) -> u64 {
    body.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

/// A notification of name "n" with this text.
pub(crate) fn note(text: &str) -> Vec<u8> {
    frame(0x14, 0, &[b"\x01n\x01", text.as_bytes()].concat())
}

fn frames_of(mut plaintext: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [kind, flags, rest @ ..] = plaintext {
        let digits = 1 + rest.iter().take_while(|byte| **byte >= 0x80).count();
        let (body, left) = rest[digits..].split_at(number(&rest[..digits]) as usize);
        frames.push((*kind, *flags, body.to_vec()));
        plaintext = left;
    }
    frames
}

impl Foreign {
    /// One of our servers, and one of our clients: each connected with a new session.
    pub(crate) fn both() -> [Self; 2] {
        [Self::server(Setup::plain()), Self::client(Setup::plain())]
    }

    fn new(ours: Ours, config: ServerConfig) -> Self {
        Self {
            ours,
            config: Arc::new(config),
            now: Timestamp::from_millis(1_000),
            socket: SocketId(0),
            session: ([7; 16], [8; 16]),
            subject: None,
            attempt: 0,
            told: None,
            frames: Vec::new(),
            heard: Vec::new(),
            resets: Vec::new(),
            ended: None,
            closed: None,
            order: Vec::new(),
            wakes: None,
        }
    }

    fn endpoint(config: &ServerConfig, now: Timestamp) -> Ours {
        Ours::Server(Box::new(ServerEndpoint::new(Arc::new(config.clone()), [3; 32], now)))
    }

    /// Our server, whose client is the test.
    pub(crate) fn server(setup: Setup) -> Self {
        let mut foreign = Self::new(Self::endpoint(&setup.server, Timestamp::from_millis(1_000)), setup.server);
        foreign.say_hello(None);
        let Ours::Server(server) = &mut foreign.ours else { unreachable!("it was made") };
        server.admit(foreign.now, UnixMillis(0), None, Default::default());
        foreign.drain();
        foreign.frames.clear();
        foreign
    }

    /// Our client before Welcome, whose server is the test.
    pub(crate) fn connecting(setup: Setup) -> Self {
        let client = Box::new(ClientEndpoint::new(setup.client, [4; 32]));
        let mut foreign = Self::new(Ours::Client(client), setup.server);
        let Ours::Client(client) = &mut foreign.ours else { unreachable!("it was made") };
        client.start(foreign.now);
        foreign.drain();
        foreign.socket_input(SocketInput::Opened);
        foreign
    }

    /// Our client, whose server is the test.
    pub(crate) fn client(setup: Setup) -> Self {
        let mut foreign = Self::connecting(setup);
        foreign.welcome(None);
        foreign.frames.clear();
        foreign
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.ours, Ours::Server(_))
    }

    fn say_hello(&mut self, received: Option<u64>) {
        let resume = received.map(|received| {
            let (id, secret) = self.session;
            field(5, &[&id[..], &EPOCH.0, &varint(received), &varint(self.attempt), &secret].concat())
        });
        let auth = [field(1, b"ws://h/m"), field(4, b"c"), resume.unwrap_or_default()].concat();
        self.input(&[&[0x04, 0x01][..], &auth].concat());
    }

    /// The test's Welcome: for the session that was asked for, of which it has received so much, or for a new one.
    pub(crate) fn welcome(&mut self, resumed: Option<u64>) {
        let resumption = resumed.map(|received| field(7, &varint(received))).unwrap_or_default();
        self.welcome_with(self.session.0, &resumption);
    }

    pub(crate) fn reset(&mut self, reason: ResetReason) {
        self.session.0[0] += 1;
        self.welcome_with(self.session.0, &field(8, &[reason as u8]));
    }

    pub(crate) fn welcome_with(&mut self, id: [u8; 16], resumption: &[u8]) {
        let max_message = varint(self.config.limits.max_message as u64);
        let fields = [
            field(1, &id),
            field(2, &[0]),
            field(3, &varint(25_000)),
            field(4, &max_message),
            field(5, &varint(1_024)),
            field(6, b"s"),
            resumption.to_vec(),
            field(9, &EPOCH.0),
            field(10, &varint(120_000)),
            field(11, &self.session.1),
            self.subject.map(|subject| field(17, &subject)).unwrap_or_default(),
        ];
        self.say(&frame(0x01, 0, &fields.concat()));
    }

    /// The socket goes, and the next one comes as far as the greeting of the session.
    pub(crate) fn cut(&mut self) {
        self.closed = None;
        match &mut self.ours {
            Ours::Client(_) => {
                self.socket_input(SocketInput::Closed(1006));
                let Ours::Client(client) = &mut self.ours else { return };
                client.retry_now(self.now);
                self.drain();
                self.socket_input(SocketInput::Opened);
            }
            Ours::Server(server) => {
                server.handle_input(self.now, ServerInput::SocketClosed);
                self.drain();
            }
        }
    }

    /// Ours goes on with its session, on a new connection with a peer that has received so much. What that peer's next
    /// number is, the test still has to say.
    pub(crate) fn resume(&mut self, received: u64) {
        self.cut();
        self.frames.clear();
        if let Ours::Server(_) = self.ours {
            let next = Self::endpoint(&self.config, self.now);
            let Ours::Server(mut old) = std::mem::replace(&mut self.ours, next) else { unreachable!("it is one") };
            self.attempt += 1;
            self.say_hello(Some(received));
            let (id, secret) = self.session;
            let asked = Resume {
                session: SessionId(id),
                received: Seq(received),
                epoch: EPOCH,
                attempt: self.attempt,
                secret: Some(ResumeSecret(secret)),
            };
            assert_eq!(old.can_resume(&asked), Resumable::Yes);
            let saved = old.take_session().expect("a parked session");
            let Ours::Server(server) = &mut self.ours else { unreachable!("it is one") };
            server
                .resume(self.now, UnixMillis(0), saved, Default::default())
                .map_err(drop)
                .expect("the session goes on");
            self.drain();
        } else {
            self.welcome(Some(received));
        }
    }

    /// The test says these frames, in one record.
    pub(crate) fn say(&mut self, frames: &[u8]) {
        self.input(&[&[0x11], frames].concat());
    }

    pub(crate) fn say_seq(&mut self, seq: u64) {
        self.say(&frame(0x05, 0, &varint(seq)));
    }

    pub(crate) fn say_ack(&mut self, seq: u64) {
        self.say(&frame(0x06, 0, &varint(seq)));
    }

    fn input(&mut self, record: &[u8]) {
        let record = Bytes::copy_from_slice(record);
        match &mut self.ours {
            Ours::Client(_) => self.socket_input(SocketInput::Record(record)),
            Ours::Server(server) => {
                server.handle_input(self.now, ServerInput::Record(record));
                self.drain();
            }
        }
    }

    fn socket_input(&mut self, input: SocketInput) {
        if let Ours::Client(client) = &mut self.ours {
            client.handle_input(self.now, ClientInput::Socket(self.socket, input));
        }
        self.drain();
    }

    pub(crate) fn congest(&mut self, congested: bool) {
        match &mut self.ours {
            Ours::Client(_) => self.socket_input(SocketInput::Congested(congested)),
            Ours::Server(server) => server.handle_input(self.now, ServerInput::Congested(congested)),
        }
        self.drain();
    }

    /// Ours sends a notification.
    pub(crate) fn notify(&mut self, text: &str) {
        let payload = Payload::json(text.to_owned());
        match &mut self.ours {
            Ours::Client(client) => client.notify(name("n"), payload, false).expect("room"),
            Ours::Server(server) => {
                let broadcast = Broadcast::new(name("n"), payload, false).expect("small");
                server.send(&broadcast).expect("room");
            }
        }
        self.drain();
    }

    /// Ours calls.
    pub(crate) fn call(&mut self, options: CallOptions) -> CallId {
        let payload = Payload::json("1");
        let called = match &mut self.ours {
            Ours::Client(client) => client.call(self.now, name("n"), payload, options),
            Ours::Server(server) => server.call(self.now, name("n"), payload, options),
        };
        self.drain();
        called.expect("room")
    }

    /// Ours gives up on a call.
    pub(crate) fn cancel(&mut self, id: CallId) {
        match &mut self.ours {
            Ours::Client(client) => client.cancel(id),
            Ours::Server(server) => server.cancel(id),
        }
        self.drain();
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        self.drain();
        while let Some(due) = self.wakes.filter(|due| *due <= end) {
            self.now = self.now.max(due);
            match &mut self.ours {
                Ours::Client(client) => client.handle_input(self.now, ClientInput::Wake),
                Ours::Server(server) => server.handle_input(self.now, ServerInput::Wake),
            }
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        let mut records = VecDeque::new();
        for step in 0.. {
            assert!(step < 20_000, "no rest");
            let event = match &mut self.ours {
                Ours::Client(client) => match client.poll_output() {
                    ClientOutput::OpenSocket { socket, .. } => {
                        self.socket = socket;
                        continue;
                    }
                    ClientOutput::Transmit(_, record) => {
                        records.push_back(record);
                        None
                    }
                    ClientOutput::CloseSocket(_, code) => {
                        self.closed = Some(code);
                        continue;
                    }
                    ClientOutput::Discover(..) | ClientOutput::Authorize { .. } => continue,
                    ClientOutput::Event(ClientEvent::Peer(event)) => Some(event),
                    ClientOutput::Event(ClientEvent::Reset(reset)) => {
                        self.resets.push(reset);
                        continue;
                    }
                    ClientOutput::Event(_) => continue,
                    ClientOutput::Wait(until) => {
                        self.wakes = until;
                        return;
                    }
                },
                Ours::Server(server) => match server.poll_output() {
                    ServerOutput::Transmit(record) => {
                        records.push_back(record);
                        None
                    }
                    ServerOutput::CloseSocket(code) => {
                        self.closed = Some(code);
                        continue;
                    }
                    ServerOutput::Event(ServerEvent::Peer(event)) => Some(event),
                    ServerOutput::Event(ServerEvent::Connected(id)) => {
                        let Some(Proof::Secret(secret)) = server.proof() else {
                            panic!("a plain session has a secret")
                        };
                        self.session = (id.0, secret.0);
                        continue;
                    }
                    ServerOutput::Event(ServerEvent::Ended(ended, undelivered)) => {
                        self.ended = Some((ended, undelivered));
                        continue;
                    }
                    ServerOutput::Event(_) => continue,
                    ServerOutput::Wait(until) => {
                        self.wakes = until;
                        return;
                    }
                },
            };
            match event {
                Some(event) => {
                    self.order.push(0);
                    self.heard.push(event);
                }
                None => {
                    let record = records.pop_front().expect("it was pushed");
                    self.take_record(&record);
                }
            }
        }
    }

    fn take_record(&mut self, record: &[u8]) {
        if record[0] == 0x04 {
            // The client's hello: what it resumes is the last field before its id. Between the epoch and the secret stand
            // the number and the attempt, of one byte each.
            let at = record.len().checked_sub(2 + 16 + 8 + 1 + 1 + 16 + CLIENT_ID).filter(|at| record[*at] == 5);
            self.told = at.map(|at| u64::from(record[at + 2 + 16 + 8]));
            return;
        }
        let frames = frames_of(&record[1..]);
        for (_, _, body) in frames.iter().filter(|(kind, ..)| *kind == 0x01) {
            let mut rest = &body[..];
            while let [tag, length, value @ ..] = rest {
                let (value, left) = value.split_at(usize::from(*length));
                if *tag == 7 {
                    self.told = Some(number(value));
                }
                rest = left;
            }
        }
        self.order.push(frames.len());
        self.frames.extend(frames);
    }

    /// What our application heard, taken out.
    pub(crate) fn heard(&mut self) -> Vec<PeerEvent> {
        std::mem::take(&mut self.heard)
    }

    /// The texts of the notifications that our application heard, taken out.
    pub(crate) fn notes(&mut self) -> Vec<String> {
        let heard = self.heard().into_iter();
        let notes = heard.filter_map(|event| match event {
            PeerEvent::Message { payload, .. } => Some(String::from_utf8_lossy(&payload.bytes).into_owned()),
            _ => None,
        });
        notes.collect()
    }

    /// The frames that ours sent, taken out, without pings and pongs.
    pub(crate) fn frames(&mut self) -> Vec<Frame> {
        let frames = std::mem::take(&mut self.frames).into_iter();
        frames.filter(|(kind, ..)| !matches!(kind, 0x07 | 0x08)).collect()
    }

    /// The numbers of the acknowledgements that ours sent, taken out with everything else.
    pub(crate) fn acks(&mut self) -> Vec<u64> {
        let frames = self.frames().into_iter();
        frames.filter(|(kind, ..)| *kind == 0x06).map(|(_, _, body)| number(&body)).collect()
    }
}
