//! The sockets between clients and server.

use super::*;

impl World<'_> {
    pub(super) fn delay(&mut self, client: usize) -> u64 {
        let jitter = self.script.setting.jitter;
        let drawn = if jitter == 0 { 0 } else { self.rng.below(jitter + 1) };
        self.clients[client].latency + drawn
    }

    pub(super) fn open_socket(&mut self, client: usize, id: SocketId) {
        let number = self.sockets.len();
        self.sockets.push(Socket::new(client, id));
        self.clients[client].sockets.insert(id, number);
        self.clients[client].socket = Some(number);
        let delay = self.delay(client);
        self.agenda.at(self.now + delay, Later::Accept(number));
    }

    pub(super) fn accept(&mut self, number: usize) -> Held {
        let client = self.sockets[number].client;
        let delay = self.delay(client);
        if self.sockets[number].up.dead || !self.sockets[number].client_open {
            return Ok(());
        }
        if !self.is_up() {
            if !self.down_silently {
                self.agenda.at(self.now + delay, Later::Gone(number, End::Client));
            }
            return Ok(());
        }
        let seed = Rng::of(self.script.seed, 6, number as u64).array();
        let endpoint = ServerEndpoint::new(self.config.clone(), seed, self.server_time());
        let served = Served {
            endpoint,
            client,
            book: None,
            arrival: None,
            shown: None,
            subject: 0,
            expires: None,
            deadline: None,
            scheduled: None,
        };
        self.endpoints.insert(number, served);
        self.sockets[number].server_open = true;
        self.sockets[number].run = self.runs as usize;
        if !self.sockets[number].down.dead {
            self.agenda.at(self.now + delay, Later::Opened(number));
        }
        self.turn_server(number)
    }

    pub(super) fn send(&mut self, number: usize, from: End, item: Item) {
        let client = self.sockets[number].client;
        let delay = self.delay(client);
        let to = if from == End::Client { End::Server } else { End::Client };
        if let Some(at) = self.sockets[number].from(from).send(self.now, delay, item) {
            self.agenda.at(at, Later::Arrive(number, to));
        }
    }

    pub(super) fn arrive(&mut self, number: usize, end: End) -> Held {
        let item = match self.sockets[number].to(end).receive(self.now) {
            Ok(item) => item,
            Err(later) => {
                self.agenda.at(later, Later::Arrive(number, end));
                return Ok(());
            }
        };
        match item {
            None => {}
            Some(Item::Close) => self.gone(number, end)?,
            Some(Item::Record { bytes, corrupt }) => {
                self.transcript.record(self.now, number as u64 * 2 + u64::from(end == End::Client), &bytes);
                match end {
                    End::Client => self.record_at_client(number, bytes, corrupt)?,
                    End::Server => self.record_at_server(number, bytes, corrupt)?,
                }
            }
        }
        let sender = if end == End::Client { End::Server } else { End::Client };
        self.tell_congestion(number, sender)
    }

    /// Tells an endpoint whether its socket takes more, if that has changed.
    pub(super) fn tell_congestion(&mut self, number: usize, end: End) -> Held {
        let Socket { client, id, client_open, server_open, .. } = self.sockets[number];
        let pipe = self.sockets[number].from(end);
        let full = pipe.takes_no_more();
        if full == pipe.told {
            return Ok(());
        }
        pipe.told = full;
        if full {
            self.counters.add(Counter::Congested);
        }
        match end {
            End::Client if client_open => {
                self.client_input(client, ClientInput::Socket(id, SocketInput::Congested(full)))
            }
            End::Server if server_open => self.server_input(number, ServerInput::Congested(full)),
            End::Client | End::Server => Ok(()),
        }
    }

    /// An end learns that its socket is gone.
    pub(super) fn gone(&mut self, number: usize, end: End) -> Held {
        let Socket { client, id, client_open, server_open, .. } = self.sockets[number];
        match end {
            End::Client if client_open => {
                self.sockets[number].client_open = false;
                self.count_partial(number, End::Client);
                self.client_input(client, ClientInput::Socket(id, SocketInput::Closed(1006)))
            }
            End::Server if server_open => {
                self.sockets[number].server_open = false;
                self.server_input(number, ServerInput::SocketClosed)
            }
            End::Client | End::Server => Ok(()),
        }
    }

    pub(super) fn count_partial(&mut self, number: usize, end: End) {
        let partial = match end {
            End::Client => self.clients[self.sockets[number].client].endpoint.inspect().partial,
            End::Server => self.endpoints.get(&number).is_some_and(|served| served.endpoint.inspect().partial),
        };
        if partial {
            self.counters.add(Counter::CutInParts);
        }
        if end == End::Client && self.clients[self.sockets[number].client].endpoint.inspect().channel_partial {
            self.counters.add(Counter::CutInEntry);
        }
    }
}
