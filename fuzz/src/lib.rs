//! What the fuzz targets share: both ends, a wire between them, and an input read as a script.

use std::sync::Arc;

use bytes::Bytes;
use moorline_protocol::{
    client::{ClientConfig, ClientEndpoint, ClientInput, ClientOutput, SocketId, SocketInput},
    frame::Epoch,
    key::{Identity, StaticKey},
    record::Suite,
    server::{Encryption, ServerConfig, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
    time::{Timestamp, UnixMillis},
    url::DialUrl,
};

/// More outputs than any input makes; beyond it a drain has no end.
const MOST_OUTPUTS: usize = 100_000;

/// An input of the fuzzer's, read from the front. At its end every number is 0 and every slice empty.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.slice(1).first().copied().unwrap_or(0)
    }

    pub fn number(&mut self) -> u64 {
        self.slice(2).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The next so many bytes, or what is left.
    pub fn slice(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Both ends, and what each has sent that the other has not been given.
pub struct Ends {
    pub now: Timestamp,
    pub client: ClientEndpoint,
    pub server: ServerEndpoint,
    pub socket: SocketId,
    pub upward: Vec<Bytes>,
    pub downward: Vec<Bytes>,
    arrived: bool,
}

impl Ends {
    pub fn new(sealed: bool) -> Self {
        let identity = Identity::new(StaticKey::from_private([7; 32]));
        let mut config = ClientConfig::new(DialUrl::parse("ws://localhost/m").expect("a URL"));
        config.server_keys = identity.public_keys().collect();
        let encryption = if sealed {
            Encryption::On { identity: identity.into(), suites: Suite::ALL.to_vec() }
        } else {
            config.suite = None;
            Encryption::Off
        };
        let now = Timestamp::from_millis(0);
        let mut ends = Self {
            now,
            client: ClientEndpoint::new(config, [1; 32]),
            server: ServerEndpoint::new(Arc::new(ServerConfig::new(encryption, Epoch([3; 8]))), [2; 32], now),
            socket: SocketId(0),
            upward: Vec::new(),
            downward: Vec::new(),
            arrived: false,
        };
        ends.client.start(now);
        ends.drain();
        ends.to_client(SocketInput::Opened);
        ends
    }

    /// Both ends after an undisturbed handshake.
    pub fn connected(sealed: bool) -> Self {
        let mut ends = Self::new(sealed);
        while !(ends.upward.is_empty() && ends.downward.is_empty()) {
            for record in std::mem::take(&mut ends.upward) {
                ends.to_server(ServerInput::Record(record));
            }
            for record in std::mem::take(&mut ends.downward) {
                ends.to_client(SocketInput::Record(record));
            }
        }
        assert!(ends.server.is_authenticated());
        ends
    }

    pub fn to_client(&mut self, input: SocketInput) {
        self.client.handle_input(self.now, ClientInput::Socket(self.socket, input));
        self.drain();
    }

    pub fn to_server(&mut self, input: ServerInput) {
        self.server.handle_input(self.now, input);
        self.drain();
    }

    /// Drains both. The newest socket of the client's is the one that inputs come from.
    pub fn drain(&mut self) {
        for outputs in 0.. {
            assert!(outputs < MOST_OUTPUTS, "the client finds no rest");
            match self.client.poll_output() {
                ClientOutput::OpenSocket { socket, .. } => self.socket = socket,
                ClientOutput::Transmit(_, record) => self.upward.push(record),
                ClientOutput::CloseSocket(..) | ClientOutput::Discover(..) | ClientOutput::Event(_) => {}
                // It has nothing to show, and so is not asked.
                ClientOutput::Authorize { .. } => {}
                ClientOutput::Wait(_) => break,
            }
        }
        for outputs in 0.. {
            assert!(outputs < MOST_OUTPUTS, "the server finds no rest");
            match self.server.poll_output() {
                ServerOutput::Transmit(record) => self.downward.push(record),
                ServerOutput::Event(ServerEvent::Arrived(_)) => self.arrived = true,
                ServerOutput::Event(_) | ServerOutput::CloseSocket(_) => {}
                ServerOutput::Wait(_) if std::mem::take(&mut self.arrived) => {
                    self.server.admit(self.now, UnixMillis(0), None, Default::default())
                }
                ServerOutput::Wait(_) => break,
            }
        }
    }

    /// A record as a script has it: bytes of its own, or one that an end has sent, as it was or with one byte changed.
    pub fn record(script: &mut Script<'_>, sent: &[Bytes]) -> Bytes {
        let choice = script.byte();
        let genuine = sent.get(usize::from(script.byte()) % sent.len().max(1)).cloned();
        match (choice % 3, genuine) {
            (0, Some(genuine)) => genuine,
            (1, Some(genuine)) => {
                let mut altered = genuine.to_vec();
                let place = script.number() as usize % altered.len().max(1);
                if let Some(byte) = altered.get_mut(place) {
                    *byte ^= script.byte();
                }
                altered.into()
            }
            _ => {
                let length = script.number() as usize % 2_048;
                Bytes::copy_from_slice(script.slice(length))
            }
        }
    }
}
