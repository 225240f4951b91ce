//! What goes wrong, and that it stops going wrong.

use moorline_protocol::{error::Refused, frame::ResetReason};

use super::*;

impl World<'_> {
    pub(super) fn fault(&mut self, client: usize, fault: Fault) -> Held {
        let socket = self.clients[client].socket;
        match fault {
            Fault::Cut { up, down, client: client_after, server: server_after } => {
                let Some(number) = socket else { return Ok(()) };
                self.sockets[number].up.cut(up);
                self.sockets[number].down.cut(down);
                for (after, end) in [(client_after, End::Client), (server_after, End::Server)] {
                    if let Some(after) = after {
                        self.agenda.at(self.now + after, Later::Gone(number, end));
                    }
                }
            }
            Fault::BlackHole { up, down } => {
                let Some(number) = socket else { return Ok(()) };
                for (pipe, lost) in [(End::Client, up), (End::Server, down)] {
                    if lost {
                        self.sockets[number].from(pipe).cut(0);
                    }
                }
            }
            Fault::Stall { up, down, time } => {
                let Some(number) = socket else { return Ok(()) };
                for (end, stalls) in [(End::Client, up), (End::Server, down)] {
                    if stalls {
                        self.sockets[number].from(end).stalled_until = self.now + time;
                    }
                }
            }
            Fault::Latency(latency) => self.clients[client].latency = latency,
            Fault::CongestClient(time) => return self.congest(socket, End::Client, time),
            Fault::CongestServer(time) => return self.congest(socket, End::Server, time),
            Fault::Suspend(time) => {
                self.clients[client].asleep_until = self.now + time;
                self.counters.add(Counter::Suspended);
            }
            Fault::Corrupt { up } => {
                if let Some(number) = socket.filter(|_| self.script.setting.cipher != Cipher::Plain) {
                    let end = if up { End::Client } else { End::Server };
                    self.sockets[number].from(end).corrupt();
                    self.clients[client].tampered = true;
                }
            }
            Fault::Pretend(other) => {
                let book = self.books.iter().rev().find(|book| book.client == other && other != client);
                // Not between its hello and the server's answer to that.
                if let Some(id) = book.map(|book| book.id).filter(|_| self.clients[client].connected) {
                    self.clients[client].endpoint.pretend(id);
                    self.clients[client].pretends = true;
                }
            }
            Fault::HoldHello(time) => self.clients[client].hold_hello = time,
            Fault::Subject => self.clients[client].subject += 1,
            Fault::Kill { away, silent } => {
                self.counters.add(Counter::Kill);
                self.kill(away, silent, Disk::Same);
            }
            Fault::Drain { retry_after, restart } => {
                self.counters.add(Counter::Drain);
                let numbers: Vec<_> = self.endpoints.keys().copied().collect();
                for number in numbers {
                    if let Some(served) = self.endpoints.get_mut(&number) {
                        served.endpoint.close(Code::GOING_AWAY, "", Duration::from_millis(retry_after));
                        self.turn_server(number)?;
                    }
                }
                if let Some(away) = restart {
                    self.kill(away, false, Disk::Same);
                }
            }
            Fault::WallClock(time) => self.wall_clock = time,
            Fault::Broadcast { size, volatile, count } => {
                for _ in 0..count {
                    self.broadcast(size, volatile)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn congest(&mut self, socket: Option<usize>, end: End, time: u64) -> Held {
        let Some(number) = socket else { return Ok(()) };
        self.sockets[number].from(end).forced = true;
        self.agenda.at(self.now + time, Later::Uncongest(number, end));
        self.tell_congestion(number, end)
    }

    /// The server forgets everything but what is on its disk.
    pub(super) fn kill(&mut self, away: u64, silent: bool, disk: Disk) {
        self.endpoints.clear();
        self.dirty.clear();
        self.deciding.clear();
        for number in 0..self.sockets.len() {
            if !std::mem::take(&mut self.sockets[number].server_open) {
                continue;
            }
            self.sockets[number].down.cut(if silent { 0 } else { 2 });
            self.sockets[number].up.cut(0);
            if !silent {
                let client = self.sockets[number].client;
                let delay = self.delay(client);
                self.agenda.at(self.now + delay, Later::Gone(number, End::Client));
            }
        }
        for book in self.books.iter_mut().filter(|book| !book.over) {
            (book.over, book.killed) = (true, true);
            book.app.forget();
        }
        self.runs += 1;
        self.config = Arc::new(Self::server_config(self.script, &self.identity, self.runs));
        self.registry = Registry::new(self.config.epoch, self.script.setting.most_parked);
        self.keys.clear();
        if let Some(channels) = &mut self.channels {
            channels.restart(disk, self.script.seed);
        }
        (self.down_until, self.down_silently) = (self.now + away, silent);
    }

    pub(super) fn heal(&mut self) -> Held {
        self.down_until = self.now;
        for number in 0..self.sockets.len() {
            for end in [End::Client, End::Server] {
                let pipe = self.sockets[number].from(end);
                (pipe.stalled_until, pipe.forced) = (self.now, false);
                self.tell_congestion(number, end)?;
            }
        }
        for client in &mut self.clients {
            client.asleep_until = client.asleep_until.min(self.now);
            client.latency = client.latency.min(400);
        }
        if self.channels.is_some() {
            for client in 0..self.clients.len() {
                self.grant(client, 0xff, 0xff)?;
            }
        }
        Ok(())
    }

    pub(super) fn broadcast(&mut self, size: usize, volatile: bool) -> Held {
        let count = &mut self.broadcasts[usize::from(volatile)];
        *count += 1;
        let lane = if volatile { Lane::VolatileBroadcast } else { Lane::Broadcast };
        let label = Label { lane, owner: 0, number: *count };
        // In its head stands its place in the lane of each session, which is another in every one; so the number that
        // all have in common is looked at by its name.
        let numbers: Vec<_> = self.endpoints.keys().copied().collect();
        for number in numbers {
            let Some(served) = self.endpoints.get_mut(&number) else { continue };
            let Some(book) = served.book.filter(|book| self.books[*book].socket == number) else { continue };
            if self.books[book].over {
                continue;
            }
            let payload = Head { number: label.number, ..Head::default() }.payload(size);
            let message = Broadcast::new(label.name(), payload, volatile);
            let Ok(message) = message else { continue };
            // Whether there is room is known to who sends, or was there when he last looked.
            let sent = match self.rng.percent(50) {
                true => served.endpoint.deliver(&message),
                false => served.endpoint.send(&message),
            };
            match sent {
                Ok(_) => {}
                // A gap is no option.
                Err(Refused::Backpressure) if !volatile => {
                    self.books[book].overflows = true;
                    served.endpoint.lose(ResetReason::Overflow);
                    self.turn_server(number)?;
                    continue;
                }
                Err(_) => continue,
            }
            let app = &mut self.books[book].app;
            match volatile {
                true => app.volatile_said += 1,
                false => app.keep_broadcast(label.number, number as u64),
            }
            self.turn_server(number)?;
        }
        Ok(())
    }
}
