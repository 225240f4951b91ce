//! The server's driver: one endpoint for each socket, one registry for all, sessions that move from one to the next.

use bytes::Bytes;
use moorline_protocol::{
    error::Violation,
    frame::{Admission, Credentials, Denial, ResetReason, Seq},
    server::{HandshakeFailure, Rejection, Resumable, ServerEvent, ServerInput, ServerOutput},
    session::{Claim, Owner, PeerEvent, Proof},
    subject::{Subject, Tenant},
    testing::Inspection,
};

use super::*;

impl World<'_> {
    pub(super) fn server_input(&mut self, number: usize, input: ServerInput) -> Held {
        let now = self.server_time();
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        served.endpoint.handle_input(now, input);
        self.turn_server(number)
    }

    pub(super) fn server_wake(&mut self, number: usize) -> Held {
        let now = self.server_time();
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        if served.scheduled != Some(self.now) {
            return Ok(());
        }
        served.scheduled = None;
        if served.deadline.is_some_and(|deadline| deadline <= now) {
            self.server_input(number, ServerInput::Wake)?;
            let deadline = self.endpoints.get(&number).and_then(|served| served.deadline);
            hold!(deadline.is_none_or(|deadline| deadline > now), "S11", "a server's timer does not move on");
        }
        self.arm_server(number);
        Ok(())
    }

    fn arm_server(&mut self, number: usize) {
        let Some(served) = self.endpoints.get_mut(&number) else { return };
        let at = served.deadline.and_then(|deadline| world_time(deadline, 0, self.now));
        if let Some(at) = at.filter(|at| served.scheduled.is_none_or(|scheduled| *at < scheduled)) {
            served.scheduled = Some(at);
            self.agenda.at(at, Later::ServerWake(number));
        }
    }

    /// Lets the server's application do something in a session, if that still is.
    pub(super) fn session_does(
        &mut self,
        number: usize,
        what: impl FnOnce(&mut App, &mut Ctx<'_>, &mut At<'_, ServerEndpoint>) -> Held,
    ) -> Held {
        let now = self.server_time();
        let Book { app, socket, over, .. } = &mut self.books[number];
        let socket = *socket;
        let Some(served) = self.endpoints.get_mut(&socket).filter(|_| !*over) else { return Ok(()) };
        let mut ctx = lend!(self, Who::Session(number), number, socket, Some(&mut self.keys));
        what(app, &mut ctx, &mut At(&mut served.endpoint, now))?;
        self.turn_server(socket)
    }

    pub(super) fn server_says(&mut self, client: usize, say: Say) -> Held {
        let Some(book) = self.books.iter().rposition(|book| book.client == client && !book.over) else { return Ok(()) };
        match say {
            Say::Close(stops) => {
                let socket = self.books[book].socket;
                let code = if stops { Code::CLOSED_BY_SERVER } else { Code::GOING_AWAY };
                if let Some(served) = self.endpoints.get_mut(&socket) {
                    served.endpoint.close(code, "", Duration::ZERO);
                }
                self.turn_server(socket)
            }
            Say::RetryNow | Say::Ping => Ok(()),
            Say::Notify { .. } | Say::Volatile { .. } | Say::Call(..) => {
                self.session_does(book, |app, ctx, port| app.say(ctx, port, say))
            }
        }
    }

    pub(super) fn record_at_server(&mut self, socket: usize, record: Bytes, corrupt: bool) -> Held {
        if !self.sockets[socket].server_open {
            self.counters.add(Counter::LateRecord);
            return Ok(());
        }
        if !corrupt {
            self.frames_arrive(socket, End::Server, &record);
        }
        self.server_input(socket, ServerInput::Record(record))
    }

    /// The server has made up its mind about who came on a socket.
    pub(super) fn decide(&mut self, number: usize) -> Held {
        let (now, wall_clock) = (self.server_time(), self.wall_clock());
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        let Some(arrival) = served.arrival.take() else { return Ok(()) };
        let client = served.client;
        let (subject, left) = match self.judgement(&arrival.auth.credentials, self.clients[client].subject) {
            Ok(judged) => judged,
            Err(code) => {
                self.counters.add(Counter::Refused);
                if let Some(served) = self.endpoints.get_mut(&number) {
                    served.endpoint.reject(Rejection::of(code));
                }
                return self.turn_server(number);
            }
        };
        let (admission, expires) = (admission(subject, left), left.map(|left| self.now + left));
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        (served.subject, served.expires) = (subject, expires);
        let owner = arrival.proof().map(|proof| owner(proof, subject));
        let asked = arrival.auth.resume.as_ref();
        let claim = match &owner {
            Some(owner) => self.registry.claim(asked, owner),
            None => Claim::New(asked.map(|_| ResetReason::Unknown)),
        };
        let known = asked.and_then(|resume| self.by_id.get(&resume.session)).map(|book| (*book, &self.books[*book]));
        if let Some((_, book)) = known {
            let own = book.client == client && book.subject == subject;
            let goes_on = matches!(claim, Claim::Resume(_));
            hold!(goes_on == (own && !book.over), "S6", "client {client} asked for {}: {claim:?}", book.id);
            if book.client != client {
                self.counters.add(Counter::Stranger);
            } else if book.subject != subject {
                self.counters.add(Counter::OtherSubject);
            } else if self.precise
                && let Some(resume) = asked
            {
                let taken = book.received[1];
                hold!(resume.received.0 <= taken, "S4", "client {client} has {:?} and took {taken}", resume.received);
            }
        }
        let Claim::Resume(old) = claim else {
            let Claim::New(reason) = claim else { return Ok(()) };
            let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
            served.endpoint.admit(now, wall_clock, reason, admission);
            return self.turn_server(number);
        };
        let (Some((book, _)), Some(owner)) = (known, owner) else {
            return Err(Broken { invariant: "S6", detail: "a session out of nowhere".to_owned(), at: 0 });
        };
        let Some(served) = self.endpoints.get_mut(&old) else {
            return Err(Broken { invariant: "S6", detail: "a session without an endpoint".to_owned(), at: 0 });
        };
        if asked.map(|asked| served.endpoint.can_resume(asked)) == Some(Resumable::Stale) {
            self.counters.add(Counter::Stale);
            hold!(self.clients[client].socket != Some(number), "S14", "client {client} is told that it is late");
            if let Some(served) = self.endpoints.get_mut(&number) {
                served.endpoint.reject(Rejection::of(Code::SUPERSEDED));
            }
            return self.turn_server(number);
        }
        if !served.endpoint.is_parked() {
            self.counters.add(Counter::Fenced);
        }
        if self.precise && self.script.setting.forgetful {
            served.endpoint.understate(Seq(self.books[book].acked[0]));
        }
        let Some(saved) = served.endpoint.take_session() else {
            return Err(Broken { invariant: "S6", detail: "an endpoint without its session".to_owned(), at: 0 });
        };
        served.book = None;
        self.channels_end(old, book)?;
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        match served.endpoint.resume(now, wall_clock, saved, admission.clone()) {
            Ok(()) => {
                self.counters.add(Counter::Resumed);
                let id = self.books[book].id;
                self.registry.attach(id);
                self.registry.enter(id, owner, number);
                served.book = Some(book);
                self.books[book].socket = number;
                (self.sockets[number].book, self.sockets[number].resumed) = (Some(book), true);
                self.members_return(book);
                self.turn_server(old)?;
            }
            Err(saved) => {
                hold!(false, "S14", "a session of client {client} could not go on");
                if let Some(served) = self.endpoints.get_mut(&old) {
                    served.book = Some(book);
                    served.endpoint.lose_session(*saved);
                }
                self.turn_server(old)?;
                if let Some(served) = self.endpoints.get_mut(&number) {
                    served.endpoint.admit(now, wall_clock, Some(ResetReason::Unknown), admission);
                }
            }
        }
        self.turn_server(number)
    }

    /// Whom credentials make somebody, and for how long; where nobody shows anything it is as the client says.
    fn judgement(&self, credentials: &Credentials, otherwise: u64) -> Result<(u64, Option<u64>), Code> {
        let lives = self.script.setting.lives;
        if lives == 0 {
            return Ok((otherwise, None));
        }
        let token = credentials.token.as_ref().and_then(|token| token.split_once(':'));
        let read = |text: &str| text.parse::<u64>().map_err(|_| Code::UNAUTHORIZED);
        let (subject, minted) = token.ok_or(Code::TOKEN_MISSING)?;
        let (subject, end) = (read(subject)?, read(minted)? + lives);
        if end <= self.now { Err(Code::TOKEN_EXPIRED) } else { Ok((subject, Some(end - self.now))) }
    }

    /// The server has made up its mind about what a client showed on its open connection.
    pub(super) fn judge(&mut self, number: usize) -> Held {
        let now = self.server_time();
        let Some(shown) = self.endpoints.get_mut(&number).and_then(|served| served.shown.take()) else { return Ok(()) };
        let judged = self.judgement(&shown.credentials, 0);
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        match judged {
            Ok((subject, left)) => {
                if !served.endpoint.authenticated(now, shown.id, Ok(admission(subject, left))) {
                    return Ok(());
                }
                let before = std::mem::replace(&mut served.subject, subject);
                served.expires = left.map(|left| self.now + left);
                if let (true, Some(book), Some(proof)) = (before != subject, served.book, served.endpoint.proof()) {
                    self.counters.add(Counter::Became);
                    self.books[book].subject = subject;
                    self.registry.enter(self.books[book].id, owner(proof.clone(), subject), number);
                }
            }
            Err(code) => {
                let denial = Denial { code, name: String::new(), message: String::new() };
                served.endpoint.authenticated(now, shown.id, Err(denial));
            }
        }
        self.turn_server(number)
    }

    /// Drains an endpoint of the server's and does what it says.
    pub(super) fn turn_server(&mut self, number: usize) -> Held {
        loop {
            let mut outputs = Vec::new();
            let mut waiting = 0;
            let now = self.server_time();
            loop {
                let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
                match served.endpoint.poll_output() {
                    ServerOutput::Wait(deadline) => {
                        served.deadline = deadline;
                        break;
                    }
                    ServerOutput::Transmit(record) => {
                        waiting += record.len();
                        if waiting > 200_000 && !self.sockets[number].down.told {
                            self.sockets[number].down.told = true;
                            served.endpoint.handle_input(now, ServerInput::Congested(true));
                        }
                        // What is said before a parting was packed before everything was put back for the next connection.
                        let parted = served.endpoint.is_parked();
                        let inspection = if parted { Inspection::default() } else { served.endpoint.inspect() };
                        outputs.push((ServerOutput::Transmit(record), inspection));
                    }
                    output => outputs.push((output, Inspection::default())),
                }
                hold!(outputs.len() < 100_000, "S11", "a drain does not end");
            }
            if outputs.is_empty() {
                break;
            }
            for (output, inspection) in outputs {
                self.server_output(number, output, &inspection)?;
            }
            let pipe = &mut self.sockets[number].down;
            if pipe.told && !pipe.takes_no_more() {
                pipe.told = false;
                if let Some(served) = self.endpoints.get_mut(&number) {
                    served.endpoint.handle_input(now, ServerInput::Congested(false));
                }
            }
        }
        let setting = &self.script.setting;
        let Some(served) = self.endpoints.get(&number) else { return Ok(()) };
        let inspection = served.endpoint.inspect();
        self.check_caps(&inspection, &setting.server, setting.client.message)?;
        self.check_channels(number, &inspection, served)?;
        let over = served.endpoint.is_authenticated() && served.expires.is_some_and(|expires| expires < self.now);
        hold!(!over, "S16", "client {} goes on with what has expired", served.client);
        if served.endpoint.is_closed() {
            self.endpoints.remove(&number);
        }
        self.arm_server(number);
        Ok(())
    }

    fn server_output(&mut self, number: usize, output: ServerOutput, inspection: &Inspection) -> Held {
        match output {
            ServerOutput::Transmit(record) => {
                self.frames_leave(number, End::Server, &record, inspection)?;
                if self.sockets[number].server_open {
                    self.send(number, End::Server, Item::Record { bytes: record, corrupt: false });
                }
            }
            ServerOutput::CloseSocket(code) => {
                self.transcript.note(self.now, &[5, number as u64, u64::from(code.0)]);
                if std::mem::take(&mut self.sockets[number].server_open) {
                    self.send(number, End::Server, Item::Close);
                }
            }
            ServerOutput::Event(event) => self.server_event(number, event)?,
            ServerOutput::Wait(_) => {}
        }
        Ok(())
    }

    fn check_end(&mut self, client: usize, ended: Ended) -> Held {
        match ended {
            Ended::Violation(violation) => {
                // Before Welcome a record that does not open is one that may not come.
                let harmless = matches!(violation, Violation::Unopened | Violation::UnexpectedRecord);
                let may = self.clients[client].tampered && harmless;
                hold!(may, "S12", "the server says that client {client} broke the protocol: {violation:?}");
                self.counters.add(Counter::Corrupted);
            }
            Ended::Closed(Code::LIVENESS_TIMEOUT) => self.counters.add(Counter::DeadToServer),
            Ended::Closed(Code::SERVER_FULL) => self.counters.add(Counter::DecisionTimeout),
            Ended::Bye | Ended::SocketClosed | Ended::Closed(_) | Ended::Lost(_) => {}
        }
        Ok(())
    }

    fn server_event(&mut self, number: usize, event: ServerEvent) -> Held {
        let now = self.server_time();
        let Some(served) = self.endpoints.get_mut(&number) else { return Ok(()) };
        let client = served.client;
        match event {
            ServerEvent::Arrived(arrival) => {
                served.arrival = Some(arrival);
                let most = self.script.setting.decision;
                match self.rng.below(most + 1) {
                    0 => self.deciding.push(number),
                    after => self.agenda.at(self.now + after, Later::Decide(number)),
                }
            }
            ServerEvent::Connected(id) => {
                let subject = served.subject;
                let Some(proof) = served.endpoint.proof().cloned() else {
                    return Err(Broken { invariant: "S6", detail: "a session without a proof".to_owned(), at: 0 });
                };
                self.registry.enter(id, owner(proof, subject), number);
                let book = self.books.len();
                hold!(self.by_id.insert(id, book).is_none(), "S6", "a second session {id}");
                served.book = Some(book);
                self.sockets[number].book = Some(book);
                self.sockets[number].next = [Some(1); 2];
                self.books.push(Book {
                    id,
                    client,
                    subject,
                    app: App::new(
                        Lane::Down,
                        book as u64,
                        &self.script.setting.client,
                        self.script.setting.server.message,
                    ),
                    up: Reading::default(),
                    down: Reading::default(),
                    received: [0; 2],
                    acked: [0; 2],
                    socket: number,
                    over: false,
                    killed: false,
                    run: self.runs,
                    ended: None,
                    parked: 0,
                    evicted: false,
                    overflows: false,
                });
                self.transcript.note(self.now, &[6, number as u64, client as u64]);
                let mut ctx = lend!(self, Who::Session(book), book, number, Some(&mut self.keys));
                let mut port = At(&mut served.endpoint, now);
                self.books[book].app.greet(&mut ctx, &mut port, self.script.setting.greetings)?;
            }
            ServerEvent::Authenticate(shown) => {
                hold!(served.shown.is_none(), "S16", "client {client} shows two things at once");
                served.shown = Some(shown);
                let delay = self.rng.below(300);
                self.agenda.at(self.now + delay, Later::Judge(number));
            }
            ServerEvent::Channel(wish) => self.wish(number, *wish)?,
            ServerEvent::Request(write) => {
                let Some(book) = served.book else {
                    return Err(Broken { invariant: "S2", detail: format!("{write:?} without a session"), at: 0 });
                };
                self.write_arrives(book, *write)?;
            }
            ServerEvent::Volatile(said) => {
                let detail = format!("client {client} says {said:?}");
                return Err(Broken { invariant: "S12", detail, at: 0 });
            }
            ServerEvent::Resumed => self.transcript.note(self.now, &[7, number as u64, client as u64]),
            ServerEvent::Parked(because) => {
                self.transcript.note(self.now, &[8, number as u64, client as u64]);
                let Some(book) = served.book else {
                    return Err(Broken { invariant: "S6", detail: "nothing was parked".to_owned(), at: 0 });
                };
                if !self.sockets[number].welcomed {
                    self.counters.add(Counter::LostWelcome);
                }
                self.check_end(client, because)?;
                served_parks(self.endpoints.get_mut(&number), because, self.now)?;
                if because == Ended::Closed(Code::TOKEN_EXPIRED) {
                    self.counters.add(Counter::Lapsed);
                }
                if because == Ended::Closed(Code::LIVENESS_TIMEOUT) {
                    let silence = self.now - self.sockets[number].heard[0];
                    hold!(silence >= 35_000, "S15", "client {client} was silent for {silence} ms only");
                }
                self.books[book].parked = self.now;
                self.channels_end(number, book)?;
                self.count_partial(number, End::Server);
                if let Some(evicted) = self.registry.park(self.books[book].id) {
                    self.counters.add(Counter::Evicted);
                    let Some(served) = self.endpoints.get_mut(&evicted) else {
                        return Err(Broken {
                            invariant: "S6",
                            detail: "who is evicted is not there".to_owned(),
                            at: 0,
                        });
                    };
                    served.endpoint.lose(ResetReason::Expired);
                    if let Some(book) = served.book {
                        self.books[book].evicted = true;
                    }
                    self.dirty.push(evicted);
                }
            }
            ServerEvent::Peer(event) => {
                let Some(number) = served.book else {
                    return Err(Broken { invariant: "S2", detail: format!("{event:?} without a session"), at: 0 });
                };
                let Book { app, up, socket, over, subject, .. } = &mut self.books[number];
                hold!(!*over, "S2", "{event:?} after the end of a session");
                if let PeerEvent::Call { key: Some(key), .. } = &event {
                    // Servers know a key again from one subject only.
                    let first = *self.keyed_by.entry(key.as_str().to_owned()).or_insert(*subject);
                    hold!(first == *subject, "S7", "{key:?} was a call of {first}, and comes again of {subject}");
                }
                let mut ctx = lend!(self, Who::Session(number), number, *socket, Some(&mut self.keys));
                let mut port = At(&mut served.endpoint, now);
                app.hear(&mut ctx, &mut port, event, &mut self.clients[client].app, up)?;
            }
            ServerEvent::Ended(ended, undelivered) => {
                self.transcript.note(self.now, &[9, number as u64, undelivered as u64]);
                let book = served.book;
                self.check_end(client, ended)?;
                let Some(book) = book else { return Ok(()) };
                self.channels_end(number, book)?;
                self.members_end(book)?;
                let Book { id, app, over, ended: last, parked, evicted, overflows, .. } = &mut self.books[book];
                hold!(!*over, "S2", "a second end of a session");
                *over = true;
                *last = Some(ended);
                match ended {
                    Ended::Lost(ResetReason::Expired) => {
                        let away = self.now - *parked;
                        let may = *evicted || away >= self.script.setting.window;
                        hold!(may, "S14", "a session expired after {away} ms");
                    }
                    Ended::Lost(ResetReason::Overflow) => {
                        hold!(*overflows || undelivered > 1, "S14", "a session overflowed with {undelivered}");
                    }
                    Ended::Bye | Ended::Closed(_) => {}
                    Ended::Lost(_) | Ended::SocketClosed | Ended::Violation(_) => {
                        hold!(false, "S14", "a session ended by {ended:?}");
                    }
                }
                let missing = app.missing(self.precise).count();
                hold!(undelivered >= missing, "S2", "{undelivered} undelivered, and {missing} are missing");
                self.registry.leave(*id, ended.reset_reason());
            }
            ServerEvent::HandshakeFailed(failure) => {
                let harmless = matches!(failure, HandshakeFailure::SocketClosed | HandshakeFailure::Deadline);
                let may = harmless || self.clients[client].tampered;
                hold!(may, "S12", "a handshake of client {client} failed: {failure:?}");
            }
        }
        Ok(())
    }
}

/// A connection that ends for what has expired ends when it has, and what was shown on it is forgotten.
fn served_parks(served: Option<&mut Served>, because: Ended, now: u64) -> Held {
    let Some(served) = served else { return Ok(()) };
    served.shown = None;
    let expires = served.expires.take();
    let lapsed = because == Ended::Closed(Code::TOKEN_EXPIRED);
    hold!(!lapsed || expires.is_some_and(|expires| expires <= now), "S16", "ended before {expires:?}");
    Ok(())
}

fn admission(subject: u64, left: Option<u64>) -> Admission {
    Admission { expires_in_ms: left, subject: Some(subject_of(subject).mark()), ..Admission::default() }
}

fn subject_of(number: u64) -> Subject {
    let anonymous = Subject::anonymous(Tenant::default());
    Subject::new(Tenant::default(), &number.to_string()).unwrap_or(anonymous)
}

/// Whose session it is: clients come back as others now and then, who are counted.
fn owner(proof: Proof, subject: u64) -> Owner {
    Owner { proof, subject: subject_of(subject) }
}
