//! The driver of one session: one task that owns the endpoint, the client's WebSocket while there is one, and the
//! handlers that run for it.
//!
//! It holds no protocol decision. Its own business is the write policy: handle every message of one read, run what can
//! run at once, then write everything in one go.

mod channels;
mod commands;
mod events;
mod identity;
mod pace;
mod requests;
mod work;

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{
    FutureExt, SinkExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture, join_all, poll_fn},
    stream::FuturesUnordered,
    task::noop_waker_ref,
};
use moorline_engine::EngineError;
use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::Refused,
    frame::{Authenticate, AuthenticateId, CallId, Failure, ResetReason, SessionId},
    payload::{Name, Payload},
    scope::Operation,
    server::{Arrival, Ended, Rejection, Resumable, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
    session::Outcome,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message},
};

use self::work::{context, null};
use crate::{
    access::{
        Attempt, Guard,
        gate::{Entry, Outside, TurnedAway},
    },
    audit::About,
    channels::Word,
    clock,
    fail::Fail,
    handler::{BoxedHandler, Context},
    limits::{Caller, Pace, TooMuch, Turns, Verdict},
    metrics::{Direction, Limited},
    newcomer::{Io, Newcomer, Place, SessionHandle, owner},
    once::Key,
    peer::{Asker, Closing, Command, Item, Mailbox, Peer},
    router::{Declared, Served},
    shared::Shared,
    stream::Streaming,
    websocket::{close, input_of},
};

/// Messages, commands and finished handlers that are taken in one go before anything is written.
const BATCH: usize = 64;

/// How long a hook may run after its session has ended.
const HOOK_WAIT: Duration = Duration::from_secs(10);

/// Sockets of one client that may wait for its session's task.
const ADOPTIONS: usize = 4;

/// Why a session is over, for `on_disconnect`: take it as `Json<Departure>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Departure {
    /// `bye`, `expired`, `overflow`, `violation`, or the name of the code that this side closed with.
    pub reason: String,
    /// Messages that the client has not confirmed, and will not get any more.
    pub undelivered: usize,
}

impl Departure {
    fn new(ended: Ended, undelivered: usize) -> Self {
        let reason = match ended {
            Ended::Bye => "bye".to_owned(),
            Ended::SocketClosed => "socket_closed".to_owned(),
            Ended::Violation(_) => "violation".to_owned(),
            Ended::Closed(code) => code.to_string(),
            Ended::Lost(reason) => reason.name().to_owned(),
        };
        Self { reason, undelivered }
    }
}

/// Begins a new session with a client that has come in, and serves it until it is over. With `reset` it is not the
/// session that the client asked for.
pub(crate) fn begin(newcomer: Newcomer, reset: Option<ResetReason>, shared: Arc<Shared>) -> BoxFuture<'static, ()> {
    let Newcomer { websocket, mut endpoint, arrival, entry, address, place } = newcomer;
    if let Some(reason) = reset {
        shared.metrics.reset(reason);
    }
    endpoint.admit(shared.now(), clock::now(), reset, entry.admission(SystemTime::now()));
    Driver::new(Line::new(websocket, place), endpoint, shared, arrival, entry, address).run().boxed()
}

/// The client's WebSocket, and how it stands.
struct Line {
    websocket: WebSocketStream<Io>,
    place: Place,
    /// Whether everything written has reached the system.
    flushed: bool,
    congested: bool,
}

impl Line {
    fn new(websocket: WebSocketStream<Io>, place: Place) -> Self {
        Self { websocket, place, flushed: true, congested: false }
    }
}

/// What a handler came to.
enum Done {
    /// The answer to a call.
    Answer(CallId, Result<Payload, Failure>),
    /// The next item of a stream, or its end.
    Item(CallId, Option<Result<Payload, Failure>>, Streaming),
    /// What was read for a channel.
    Found(channels::Reader, Result<channels::Found, EngineError>),
    /// What the client showed on its open connection makes it this, or nothing.
    Judged(AuthenticateId, Result<Entry, Outside>),
    /// A listener or hook has ended.
    Heard,
}

/// What woke the task.
enum Step {
    Input(ServerInput),
    Command(Command),
    /// Something has happened in a channel that the client follows.
    Word(Word),
    Closing(Closing),
    Adopt(Box<Newcomer>),
    Done(Done),
    Flushed(Result<(), WsError>),
    /// It is time to think of stopping again.
    Drain,
}

/// The server stops: the session ends when no call is open any more, or its time is over.
struct Drain {
    from: Timestamp,
    until: Timestamp,
    retry_after: Duration,
}

struct Driver {
    /// `None` while the client is away.
    line: Option<Line>,
    endpoint: ServerEndpoint,
    shared: Arc<Shared>,
    address: SocketAddr,
    /// How the client came, the last time.
    arrival: Box<Arrival>,
    /// Who it is.
    entry: Entry,
    /// There from `Connected` on.
    peer: Option<(Peer, Mailbox)>,
    adoptions: mpsc::Receiver<Box<Newcomer>>,
    sockets: mpsc::Sender<Box<Newcomer>>,
    running: FuturesUnordered<Abortable<BoxFuture<'static, Done>>>,
    /// What a handler came to, while it waits for what the handler had sent before.
    done: Option<Done>,
    /// Held by every call with a key that runs, which goes on when its caller gives it up.
    keyed: Arc<()>,
    /// The channels that the client has open.
    opened: channels::Opened,
    /// Streams with an item that the client does not take yet.
    held: HashMap<CallId, (Payload, Streaming)>,
    aborts: HashMap<CallId, AbortHandle>,
    /// Who waits for which call of this side, by the ticket that it has.
    asked: HashMap<CallId, (u64, Asker)>,
    deadline: Option<Timestamp>,
    drain: Option<Drain>,
    departure: Option<Departure>,
    /// The token by which the client came in was taken back, which is why the session ends.
    revoked: bool,
    /// How fast the client sends.
    pace: Pace,
    /// Records whose first message is counted with them, until they are drained.
    counted: usize,
}

impl Driver {
    fn new(
        line: Line,
        endpoint: ServerEndpoint,
        shared: Arc<Shared>,
        arrival: Box<Arrival>,
        entry: Entry,
        address: SocketAddr,
    ) -> Self {
        let (sockets, adoptions) = mpsc::channel(ADOPTIONS);
        let most = shared.endpoint.limits.max_channels;
        let opened = channels::Opened::new(shared.channels.clone(), shared.metrics.followed(), most);
        let pace = Pace::new(&shared.config.limits, Instant::now());
        Self {
            line: Some(line),
            endpoint,
            shared,
            address,
            arrival,
            entry,
            peer: None,
            adoptions,
            sockets,
            running: FuturesUnordered::new(),
            done: None,
            keyed: Arc::default(),
            opened,
            held: HashMap::new(),
            aborts: HashMap::new(),
            asked: HashMap::new(),
            deadline: None,
            drain: None,
            departure: None,
            revoked: false,
            pace,
            counted: 0,
        }
    }

    async fn run(mut self) {
        let mut timer = std::pin::pin!(sleep(Duration::ZERO));
        loop {
            self.drain_endpoint();
            self.take_ready();
            self.drain_endpoint();
            if self.endpoint.is_closed() {
                // In a box: otherwise every session has room for its own end from the beginning, half of this future.
                return Box::pin(self.finish()).await;
            }
            if let Some(wake) = self.wake() {
                timer.as_mut().reset(self.shared.instant(wake));
            }
            let step = poll_fn(|cx| self.poll_step(cx, timer.as_mut())).await;
            self.handle(step);
        }
    }

    /// When there is something to do, whatever happens.
    fn wake(&self) -> Option<Timestamp> {
        let drain =
            self.drain.as_ref().map(|drain| if self.shared.now() < drain.from { drain.from } else { drain.until });
        [self.deadline, drain, self.opened.deadline()].into_iter().flatten().min()
    }

    /// Takes what is there already, without writing in between.
    fn take_ready(&mut self) {
        for _ in 0..BATCH {
            let mut cx = TaskContext::from_waker(noop_waker_ref());
            match self.poll_work(&mut cx) {
                Poll::Ready(step) if !self.endpoint.is_closed() => self.handle(step),
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
    }

    fn poll_step(&mut self, cx: &mut TaskContext<'_>, timer: Pin<&mut Sleep>) -> Poll<Step> {
        // Before more is taken, so that whoever always has something to do still writes once a batch.
        if let Some(line) = self.line.as_mut().filter(|line| !line.flushed)
            && let Poll::Ready(flushed) = line.websocket.poll_flush_unpin(cx)
        {
            return Poll::Ready(Step::Flushed(flushed));
        }
        if let Poll::Ready(step) = self.poll_work(cx) {
            return Poll::Ready(step);
        }
        match timer.poll(cx) {
            Poll::Ready(()) if self.drain.is_some() => Poll::Ready(Step::Drain),
            Poll::Ready(()) if self.deadline.is_some() || self.opened.deadline().is_some() => {
                Poll::Ready(Step::Input(ServerInput::Wake))
            }
            Poll::Ready(()) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whatever is there to be done. What the application sends goes before the answers of handlers, so that what a
    /// handler sends arrives before its reply.
    fn poll_work(&mut self, cx: &mut TaskContext<'_>) -> Poll<Step> {
        loop {
            if let Some((_, mailbox)) = &mut self.peer {
                if let Poll::Ready(Some(command)) = mailbox.commands.poll_recv(cx) {
                    return Poll::Ready(Step::Command(command));
                }
                if let Poll::Ready(word) = self.opened.inbox.poll(cx) {
                    return Poll::Ready(Step::Word(word));
                }
                if let Poll::Ready(closing) = mailbox.closing.poll_unpin(cx) {
                    return Poll::Ready(Step::Closing(closing));
                }
            }
            if let Some(done) = self.done.take() {
                return Poll::Ready(Step::Done(done));
            }
            match self.running.poll_next_unpin(cx) {
                // Once more around: the handler may have sent something in its last moment.
                Poll::Ready(Some(Ok(done))) => self.done = Some(done),
                Poll::Ready(Some(Err(_aborted))) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Poll::Ready(Some(newcomer)) = self.adoptions.poll_recv(cx) {
            return Poll::Ready(Step::Adopt(newcomer));
        }
        // Too much running already: what more there is stays in the socket.
        if self.running.len() < 2 * self.shared.endpoint.limits.max_calls_in_flight
            && let Some(line) = &mut self.line
            && let Poll::Ready(message) = line.websocket.poll_next_unpin(cx)
        {
            // The library has queued its pong.
            line.flushed &= !matches!(message, Some(Ok(Message::Ping(_))));
            return Poll::Ready(Step::Input(message.map_or(ServerInput::SocketClosed, input_of)));
        }
        Poll::Pending
    }

    fn handle(&mut self, step: Step) {
        let now = self.shared.now();
        self.opened.handle_time(now);
        match step {
            Step::Input(input) => {
                let bytes = match &input {
                    ServerInput::Record(record) => Some(record.len()),
                    ServerInput::SocketClosed => {
                        self.line = None;
                        None
                    }
                    ServerInput::Text | ServerInput::Oversized | ServerInput::Congested(_) | ServerInput::Wake => None,
                };
                self.endpoint.handle_input(now, input);
                if let Some(bytes) = bytes {
                    self.shared.metrics.record(Direction::In, bytes);
                    self.counted += 1;
                    self.keep_pace(1, bytes);
                }
            }
            Step::Command(command) => self.handle_command(now, command),
            Step::Word(word) => self.handle_word(word),
            Step::Closing(closing) => self.handle_closing(now, closing),
            Step::Adopt(newcomer) => self.adopt(now, *newcomer),
            Step::Done(Done::Answer(id, result)) => {
                // None: the call was cancelled, so that this is no answer any more.
                if self.aborts.remove(&id).is_some() {
                    self.shared.metrics.send_message();
                }
                if self.endpoint.answer(id, result) == Err(Refused::TooLarge) {
                    self.is_too_large("an answer");
                }
                self.go_on_stopping(now);
            }
            Step::Done(Done::Item(id, item, stream)) => self.send_item(id, item, stream),
            Step::Done(Done::Judged(id, judged)) => self.judged(now, id, judged),
            Step::Done(Done::Found(reader, found)) => self.found(&reader, found),
            Step::Done(Done::Heard) => {}
            Step::Flushed(Ok(())) => {
                if let Some(line) = &mut self.line {
                    line.flushed = true;
                    if std::mem::take(&mut line.congested) {
                        self.endpoint.handle_input(now, ServerInput::Congested(false));
                    }
                }
            }
            Step::Flushed(Err(_)) => {
                self.line = None;
                self.endpoint.handle_input(now, ServerInput::SocketClosed);
            }
            Step::Drain => {
                self.endpoint.handle_input(now, ServerInput::Wake);
                self.go_on_stopping(now);
            }
        }
    }

    /// What the application has for the client is above what that takes.
    fn is_too_large(&self, what: &str) {
        if let Some(left_out) = self.shared.warnings.too_large.next(Instant::now()) {
            tracing::error!(left_out, "{what} is above what its client takes");
        }
    }

    /// A newer socket of the same client: the session goes on there, and the older one is fenced.
    fn adopt(&mut self, now: Timestamp, newcomer: Newcomer) {
        let asked = newcomer.arrival.auth.resume.as_ref().map(|asked| self.endpoint.can_resume(asked));
        if asked == Some(Resumable::Stale) {
            // Its client has gone on without it.
            return refuse(newcomer, &self.shared);
        }
        let Some(saved) = self.endpoint.take_session() else {
            return self.shared.tasks.spawn(begin(newcomer, Some(ResetReason::Unknown), self.shared.clone()));
        };
        // The older socket hears that it is superseded.
        self.drain_endpoint();
        // The newer one has handles of its own, which begin from 1 again: nothing that was read for the older may come.
        self.opened.disconnect();
        let Newcomer { websocket, mut endpoint, arrival, entry, address, place } = newcomer;
        match endpoint.resume(now, clock::now(), saved, entry.admission(SystemTime::now())) {
            Ok(()) => {
                self.endpoint = endpoint;
                self.arrival = arrival;
                // The same subject: that was asked. What it may do may have changed.
                self.becomes(entry);
                self.check_channels();
                self.line = Some(Line::new(websocket, place));
                self.address = address;
            }
            Err(saved) => {
                self.endpoint.lose_session(*saved);
                let newcomer = Newcomer { websocket, endpoint, arrival, entry, address, place };
                self.shared.tasks.spawn(begin(newcomer, Some(ResetReason::Unknown), self.shared.clone()));
            }
        }
    }

    /// Drains the endpoint: records to the socket, then events to the application, until nothing is left.
    fn drain_endpoint(&mut self) {
        loop {
            let mut events = Vec::new();
            loop {
                match self.endpoint.poll_output() {
                    ServerOutput::Transmit(record) => self.transmit(record),
                    ServerOutput::Event(event) => events.push(event),
                    ServerOutput::CloseSocket(code) => self.close_socket(code),
                    ServerOutput::Wait(deadline) => {
                        self.deadline = deadline;
                        break;
                    }
                }
            }
            if let Some((peer, _)) = &self.peer {
                peer.keeps(self.endpoint.kept());
            }
            if events.is_empty() {
                self.counted = 0;
                return;
            }
            events.into_iter().for_each(|event| self.deliver(event));
        }
    }

    fn transmit(&mut self, record: Bytes) {
        let now = self.shared.now();
        self.shared.metrics.record(Direction::Out, record.len());
        let Some(line) = &mut self.line else { return };
        if line.websocket.start_send_unpin(Message::Binary(record)).is_err() {
            self.line = None;
            return self.endpoint.handle_input(now, ServerInput::SocketClosed);
        }
        line.flushed = false;
        let mut cx = TaskContext::from_waker(noop_waker_ref());
        if !line.congested && line.websocket.poll_ready_unpin(&mut cx).is_pending() {
            line.congested = true;
            self.endpoint.handle_input(now, ServerInput::Congested(true));
        }
    }

    /// Says good-bye on the WebSocket beside everything else: the session may go on without it.
    fn close_socket(&mut self, code: Code) {
        if let Some(Line { mut websocket, place, .. }) = self.line.take() {
            self.shared.tasks.spawn(async move {
                close(&mut websocket, code).await;
                drop(place);
            });
        }
    }
}

/// Closes a socket whose client has made a newer one.
fn refuse(newcomer: Newcomer, shared: &Shared) {
    let Newcomer { mut websocket, mut endpoint, entry, address, place, .. } = newcomer;
    let reference = endpoint.reject(Rejection::of(Code::SUPERSEDED));
    let subject = Some(&entry.principal.subject);
    let about = About { reference, subject, way: Some(entry.way), ..About::address(address) };
    shared.audit.refuse(about, "superseded", "its client has made a newer connection");
    shared.tasks.spawn(async move {
        close(&mut websocket, Code::SUPERSEDED).await;
        drop(place);
    });
}
