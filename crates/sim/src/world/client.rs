//! A client's driver.

use bytes::Bytes;
use moorline_protocol::{
    client::{ClientEndpoint, ClientEvent, ClientInput, ClientOutput, SocketInput, Status},
    code::Code,
    frame::{ResetReason, Seq},
    session::PeerEvent,
    testing::{self, Inspection},
};

use super::*;

impl World<'_> {
    pub(super) fn client_input(&mut self, number: usize, input: ClientInput) -> Held {
        let now = self.client_time(number);
        self.clients[number].endpoint.handle_input(now, input);
        self.turn_client(number)
    }

    pub(super) fn client_wake(&mut self, number: usize) -> Held {
        if self.clients[number].scheduled != Some(self.now) {
            return Ok(());
        }
        self.clients[number].scheduled = None;
        let now = self.client_time(number);
        if self.clients[number].deadline.is_some_and(|deadline| deadline <= now) {
            let (at, times) = &mut self.clients[number].woken;
            (*at, *times) = (self.now, if *at == self.now { *times + 1 } else { 0 });
            // A wait that was drawn as nothing ends in the millisecond in which it began.
            hold!(*times < 4, "S11", "a client's timer does not move on");
            self.client_input(number, ClientInput::Wake)?;
        }
        self.arm_client(number);
        Ok(())
    }

    fn arm_client(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let at = client.deadline.and_then(|deadline| world_time(deadline, client.ahead, self.now));
        if let Some(at) = at.filter(|at| client.scheduled.is_none_or(|scheduled| *at < scheduled)) {
            client.scheduled = Some(at);
            self.agenda.at(at, Later::ClientWake(number));
        }
    }

    /// Lets the application of a client do something.
    pub(super) fn client_does(
        &mut self,
        number: usize,
        what: impl FnOnce(&mut App, &mut Ctx<'_>, &mut At<'_, ClientEndpoint>) -> Held,
    ) -> Held {
        let now = self.client_time(number);
        let client = &mut self.clients[number];
        let session = client.book.map_or(u64::MAX, |book| book as u64);
        let connection = client.socket.map_or(u64::MAX, |socket| socket as u64);
        let mut ctx = lend!(self, Who::Client(number), session, connection, None);
        what(&mut client.app, &mut ctx, &mut At(&mut client.endpoint, now))?;
        self.turn_client(number)
    }

    pub(super) fn client_says(&mut self, number: usize, say: Say) -> Held {
        let now = self.client_time(number);
        let endpoint = &mut self.clients[number].endpoint;
        match say {
            Say::Close(_) => {
                self.counters.add(Counter::Closed);
                endpoint.close();
                self.turn_client(number)
            }
            Say::RetryNow => {
                endpoint.retry_now(now);
                self.turn_client(number)
            }
            Say::Ping => {
                endpoint.ping(now);
                self.turn_client(number)
            }
            Say::Notify { .. } | Say::Volatile { .. } | Say::Call(..) => {
                self.client_does(number, |app, ctx, port| app.say(ctx, port, say))
            }
        }
    }

    pub(super) fn record_at_client(&mut self, socket: usize, record: Bytes, corrupt: bool) -> Held {
        let Socket { client, id, client_open, .. } = self.sockets[socket];
        if !client_open {
            self.counters.add(Counter::LateRecord);
            return Ok(());
        }
        if !corrupt {
            self.frames_arrive(socket, End::Client, &record);
        }
        self.client_input(client, ClientInput::Socket(id, SocketInput::Record(record)))
    }

    /// Drains a client's endpoint and does what it says.
    pub(super) fn turn_client(&mut self, number: usize) -> Held {
        loop {
            let mut outputs = Vec::new();
            let mut waiting = 0;
            loop {
                let client = &mut self.clients[number];
                match client.endpoint.poll_output() {
                    ClientOutput::Wait(deadline) => {
                        client.deadline = deadline;
                        break;
                    }
                    ClientOutput::Transmit(socket, record) => {
                        waiting += record.len();
                        let place = client.sockets[&socket];
                        let now = Timestamp::from_millis(self.now + client.ahead);
                        // As much as a socket takes at once.
                        if waiting > 200_000 && !self.sockets[place].up.told {
                            self.sockets[place].up.told = true;
                            let full = ClientInput::Socket(socket, SocketInput::Congested(true));
                            client.endpoint.handle_input(now, full);
                        }
                        let inspection = client.endpoint.inspect();
                        outputs.push((ClientOutput::Transmit(socket, record), inspection));
                    }
                    output => outputs.push((output, Inspection::default())),
                }
                hold!(outputs.len() < 100_000, "S11", "a drain does not end");
            }
            if outputs.is_empty() {
                break;
            }
            for (output, inspection) in outputs {
                self.client_output(number, output, &inspection)?;
            }
            if let Some(socket) = self.clients[number].socket.filter(|socket| self.sockets[*socket].client_open) {
                self.sockets[socket].up.told |= waiting > 200_000;
                let pipe = &mut self.sockets[socket].up;
                if pipe.told && !pipe.takes_no_more() {
                    pipe.told = false;
                    let id = self.sockets[socket].id;
                    let now = self.client_time(number);
                    let more = ClientInput::Socket(id, SocketInput::Congested(false));
                    self.clients[number].endpoint.handle_input(now, more);
                }
            }
        }
        let setting = &self.script.setting;
        let inspection = self.clients[number].endpoint.inspect();
        self.check_caps(&inspection, &setting.client, setting.server.message)?;
        if inspection.kept_frames == 0 {
            self.clients[number].app.answers = 0;
        }
        self.look_at_channels(number);
        self.arm_client(number);
        Ok(())
    }

    fn client_output(&mut self, number: usize, output: ClientOutput, inspection: &Inspection) -> Held {
        match output {
            ClientOutput::OpenSocket { socket, .. } => {
                let client = &mut self.clients[number];
                if let Some(book) = client.book.filter(|_| self.precise && self.script.setting.forgetful) {
                    client.endpoint.understate(Seq(self.books[book].acked[1]));
                }
                self.open_socket(number, socket);
            }
            ClientOutput::Transmit(socket, record) => {
                let place = self.clients[number].sockets[&socket];
                self.frames_leave(place, End::Client, &record, inspection)?;
                if testing::names_session(&record) {
                    let held = std::mem::take(&mut self.clients[number].hold_hello);
                    let pipe = &mut self.sockets[place].up;
                    pipe.stalled_until = pipe.stalled_until.max(self.now + held);
                }
                if self.sockets[place].client_open {
                    self.send(place, End::Client, Item::Record { bytes: record, corrupt: false });
                }
            }
            ClientOutput::CloseSocket(socket, code) => {
                self.transcript.note(self.now, &[2, number as u64, u64::from(code.0)]);
                hold!(!is_violation(code), "S12", "client {number} says that the server broke the protocol");
                let tampered = self.clients[number].tampered;
                hold!(code != Code::RECORD_REFUSED || tampered, "S12", "a record did not open at client {number}");
                if code == Code::RECORD_REFUSED {
                    self.counters.add(Counter::Corrupted);
                } else if code == Code::LIVENESS_TIMEOUT {
                    self.counters.add(Counter::DeadToClient);
                    let silence = self.now - self.sockets[self.clients[number].sockets[&socket]].heard[1];
                    hold!(silence >= 40_000, "S15", "the server was silent for {silence} ms only");
                } else if code == Code::CONNECT_TIMEOUT {
                    self.counters.add(Counter::ConnectTimeout);
                }
                let place = self.clients[number].sockets[&socket];
                if std::mem::take(&mut self.sockets[place].client_open) {
                    self.count_partial(place, End::Client);
                    self.send(place, End::Client, Item::Close);
                }
            }
            ClientOutput::Discover(ticket, _) => {
                let delay = 2 * self.delay(number);
                self.agenda.at(self.now + delay, Later::Discovered(number, ticket));
            }
            ClientOutput::Authorize { ticket, .. } => {
                let troubled = self.now < self.script.until && self.rng.percent(15);
                if troubled {
                    self.counters.add(Counter::NothingToShow);
                }
                // Sometimes there is nothing, sometimes no answer for so long that nobody waits any more.
                let delay = if troubled { self.rng.pick(&[0, 200, 12_000]) } else { self.rng.below(200) };
                self.agenda.at(self.now + delay, Later::Authorized(number, ticket, !troubled));
            }
            ClientOutput::Event(event) => self.client_event(number, event)?,
            ClientOutput::Wait(_) => {}
        }
        Ok(())
    }

    fn client_event(&mut self, number: usize, event: ClientEvent) -> Held {
        let now = self.client_time(number);
        let connection = self.clients[number].socket.map_or(u64::MAX, |socket| socket as u64);
        let client = &mut self.clients[number];
        hold!(!client.closed, "S2", "client {number} hears {event:?} after its end");
        match event {
            ClientEvent::Status(status) => {
                self.transcript.note(self.now, &[3, number as u64, u64::from(status == Status::Connected)]);
                client.connected = status == Status::Connected;
                if let Status::Closed(failure) = status {
                    client.closed = true;
                    if let Some(failure) = failure {
                        let may = failure.code == Code::CLOSED_BY_SERVER;
                        hold!(may, "S12", "client {number} has stopped for good: {failure:?}");
                        self.counters.add(Counter::ClosedByServer);
                    }
                }
            }
            ClientEvent::Reset(reset) => {
                self.transcript.note(self.now, &[4, number as u64, reset.reason as u64]);
                hold!(client.book.is_some(), "S2", "client {number} hears of a second reset: {reset:?}");
                let Some(book) = client.book.take() else { return Ok(()) };
                let session = book as u64;
                let (book, answers) = (&self.books[book], client.app.answers);
                let told = book.subject != client.subject || client.pretends;
                let explained = match (reset.reason, book.ended) {
                    (ResetReason::Restart, _) => book.run < self.runs,
                    (ResetReason::Expired, ended) => ended == Some(Ended::Lost(ResetReason::Expired)),
                    // Either end may find that there is no room.
                    (ResetReason::Overflow, Some(Ended::Lost(ResetReason::Overflow))) => true,
                    (ResetReason::Overflow, _) => {
                        // Calls that are too many are answered, too.
                        answers > 1 || self.script.setting.client.calls < 1_024
                    }
                    (ResetReason::Unknown, Some(Ended::Bye | Ended::Closed(_))) => true,
                    (ResetReason::Unknown, _) => told,
                };
                hold!(explained, "S14", "client {number} lost its session: {:?}, {:?}", reset.reason, book.ended);
                self.counters.add(match reset.reason {
                    ResetReason::Expired => Counter::Expired,
                    ResetReason::Overflow => Counter::Overflow,
                    ResetReason::Restart => Counter::Restart,
                    ResetReason::Unknown => Counter::Unknown,
                });
                let mut ctx = lend!(self, Who::Client(number), session, connection, None);
                let ours = &client.channels;
                let unconfirmed = reset.unconfirmed.iter();
                let unconfirmed = unconfirmed.filter(|one| !one.call.is_some_and(|call| ours.is_write(call)));
                client.app.reset(&mut ctx, &unconfirmed.cloned().collect::<Vec<_>>())?;
            }
            ClientEvent::Session(info) => {
                client.app.session_begins(self.precise)?;
                let book = self.by_id.get(&info.id).copied();
                let Some(book) = book else {
                    return Err(Broken { invariant: "S6", detail: format!("no server made {}", info.id), at: 0 });
                };
                hold!(self.books[book].client == number, "S6", "client {number} got another's session");
                match client.book {
                    Some(known) => {
                        hold!(info.resumed && known == book, "S2", "client {number} heard of no reset: {info:?}");
                    }
                    None => hold!(!info.resumed, "S2", "client {number} goes on with what it has not: {info:?}"),
                }
                client.book = Some(book);
                client.pretends = false;
                if !info.resumed {
                    let mut ctx = lend!(self, Who::Client(number), book, connection, None);
                    let mut port = At(&mut client.endpoint, now);
                    client.app.greet(&mut ctx, &mut port, self.script.setting.greetings)?;
                }
            }
            ClientEvent::Authenticated(_, result) => {
                let lives = self.script.setting.lives;
                hold!(lives > 0, "S16", "client {number} hears {result:?}, and showed nothing");
                hold!(client.book.is_some(), "S16", "client {number} is somebody without a session");
                match *result {
                    Ok(_) => self.counters.add(Counter::Renewed),
                    Err(denial) => hold!(denial.code == Code::TOKEN_EXPIRED, "S16", "client {number}: {denial:?}"),
                }
            }
            ClientEvent::Channel(subscription, event) => self.channel_event(number, subscription, *event)?,
            ClientEvent::Direct(direct) => {
                let detail = format!("client {number} is sent {direct:?}");
                return Err(Broken { invariant: "S12", detail, at: 0 });
            }
            ClientEvent::Warned(code, _) => {
                let detail = format!("client {number} is warned of {code:?}");
                return Err(Broken { invariant: "S12", detail, at: 0 });
            }
            ClientEvent::Refused(receipt, refused) => {
                // Nothing here is larger than what every server takes.
                let detail = format!("client {number}: {receipt:?} is refused, {refused:?}");
                return Err(Broken { invariant: "S3", detail, at: 0 });
            }
            ClientEvent::Peer(PeerEvent::Settled { id, outcome }) if client.channels.is_write(id) => {
                self.write_settled(number, id, &outcome)?;
            }
            ClientEvent::Peer(event) => {
                let Some(book) = client.book else {
                    // Only what this side settles by itself comes without a session.
                    let mut nobody = App::new(Lane::Down, u64::MAX, &self.script.setting.client, 0);
                    let mut ctx = lend!(self, Who::Client(number), u64::MAX, connection, None);
                    let mut port = At(&mut client.endpoint, now);
                    return client.app.hear(&mut ctx, &mut port, event, &mut nobody, &mut Reading::default());
                };
                let mut ctx = lend!(self, Who::Client(number), book, connection, None);
                let Book { app, down, .. } = &mut self.books[book];
                let mut port = At(&mut client.endpoint, now);
                client.app.hear(&mut ctx, &mut port, event, app, down)?;
            }
        }
        Ok(())
    }
}
