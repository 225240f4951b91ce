//! The driver of one session: one task that owns the endpoint, the client's WebSocket while there is one, and the
//! handlers that run for it.
//!
//! It holds no protocol decision. Its own business is the write policy: handle every message of one read, run what can
//! run at once, then write everything in one go.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt, SinkExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture, join_all, poll_fn},
    stream::FuturesUnordered,
    task::noop_waker_ref,
};
use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::Refused,
    frame::{CallId, Failure, ResetReason, SessionId},
    payload::{Name, Payload},
    server::{Ended, Rejection, Resumable, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
    session::{CallOptions, Outcome, Proof},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Sleep, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message},
};

use crate::{
    Peer,
    connection::{Attachment, Io, Place, close, input_of, owner, wall_clock},
    handler::{BoxedHandler, Context},
    metrics::Direction,
    once::Key,
    peer::{Closing, Command, Mailbox},
    router::Served,
    shared::Shared,
    stream::Streaming,
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

/// The way to a session's task.
#[derive(Clone)]
pub(crate) struct SessionHandle {
    peer: Peer,
    // In boxes: a channel has room for 32 from the beginning, in every session, and most sessions never adopt one.
    sockets: mpsc::Sender<Box<Attachment>>,
}

impl SessionHandle {
    /// Hands over a newer socket of the session's client; gives it back when the session is over.
    pub(crate) async fn adopt(&self, attachment: Box<Attachment>) -> Result<(), Box<Attachment>> {
        self.sockets.send(attachment).await.map_err(|back| back.0)
    }
}

/// Begins a new session with a client that has come in, and serves it until it is over. With `reset` it is not the
/// session that the client asked for.
pub(crate) fn begin(attachment: Attachment, reset: Option<ResetReason>, shared: Arc<Shared>) -> BoxFuture<'static, ()> {
    let Attachment { websocket, mut endpoint, address, place, .. } = attachment;
    if let Some(reason) = reset {
        shared.metrics.reset(reason);
    }
    endpoint.admit(shared.now(), wall_clock(), reset);
    Driver::new(Line::new(websocket, place), endpoint, shared, address).run().boxed()
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
    /// A listener or hook has ended.
    Heard,
}

/// What woke the task.
enum Step {
    Input(ServerInput),
    Command(Command),
    Closing(Closing),
    Adopt(Box<Attachment>),
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
    /// There from `Connected` on.
    peer: Option<(Peer, Mailbox)>,
    adoptions: mpsc::Receiver<Box<Attachment>>,
    sockets: Option<mpsc::Sender<Box<Attachment>>>,
    running: FuturesUnordered<Abortable<BoxFuture<'static, Done>>>,
    /// What a handler came to, while it waits for what the handler had sent before.
    done: Option<Done>,
    /// Streams with an item that the client does not take yet.
    held: HashMap<CallId, (Payload, Streaming)>,
    aborts: HashMap<CallId, AbortHandle>,
    asked: HashMap<CallId, (u64, oneshot::Sender<Outcome>)>,
    deadline: Option<Timestamp>,
    drain: Option<Drain>,
    departure: Option<Departure>,
}

impl Driver {
    fn new(line: Line, endpoint: ServerEndpoint, shared: Arc<Shared>, address: SocketAddr) -> Self {
        let (sockets, adoptions) = mpsc::channel(ADOPTIONS);
        Self {
            line: Some(line),
            endpoint,
            shared,
            address,
            peer: None,
            adoptions,
            sockets: Some(sockets),
            running: FuturesUnordered::new(),
            done: None,
            held: HashMap::new(),
            aborts: HashMap::new(),
            asked: HashMap::new(),
            deadline: None,
            drain: None,
            departure: None,
        }
    }

    async fn run(mut self) {
        let mut timer = std::pin::pin!(sleep(Duration::ZERO));
        loop {
            self.drain_endpoint();
            self.take_ready();
            self.drain_endpoint();
            if self.endpoint.is_closed() {
                return self.finish().await;
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
        [self.deadline, drain].into_iter().flatten().min()
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
            Poll::Ready(()) if self.deadline.is_some() => Poll::Ready(Step::Input(ServerInput::Wake)),
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
        if let Poll::Ready(Some(attachment)) = self.adoptions.poll_recv(cx) {
            return Poll::Ready(Step::Adopt(attachment));
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
        match step {
            Step::Input(input) => {
                match &input {
                    ServerInput::Record(record) => self.shared.metrics.record(Direction::In, record.len()),
                    ServerInput::SocketClosed => self.line = None,
                    ServerInput::Text | ServerInput::Oversized | ServerInput::Congested(_) | ServerInput::Wake => {}
                }
                self.endpoint.handle_input(now, input);
                self.retry_held();
            }
            Step::Command(command) => self.handle_command(now, command),
            Step::Closing(closing) => self.handle_closing(now, closing),
            Step::Adopt(attachment) => self.adopt(now, *attachment),
            Step::Done(Done::Answer(id, result)) => {
                // None: the call was cancelled, so that this is no answer any more.
                if self.aborts.remove(&id).is_some() {
                    self.shared.metrics.send_message();
                }
                if self.endpoint.answer(id, result) == Err(Refused::TooLarge) {
                    tracing::error!("the reply of a handler is above the limit");
                }
                self.go_on_stopping(now);
            }
            Step::Done(Done::Item(id, item, stream)) => self.send_item(id, item, stream),
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

    fn handle_command(&mut self, now: Timestamp, command: Command) {
        let bytes = command.bytes();
        match command {
            Command::Send(message) => match self.endpoint.deliver(&message) {
                Ok(sent) => self.shared.metrics.notify(sent),
                Err(Refused::TooLarge) => tracing::error!("a notification is above the limit"),
                Err(_) => {}
            },
            Command::Call { ticket, name, payload, timeout, settled } => {
                match self.endpoint.call(now, name, payload, CallOptions::within(timeout)) {
                    Ok(id) => {
                        self.shared.metrics.send_message();
                        self.asked.insert(id, (ticket, settled));
                    }
                    Err(refused) => {
                        let _ = settled.send(Outcome::Failed(Failure::of(refused.code())));
                    }
                }
            }
            Command::Cancel { ticket } => {
                let id = self.asked.iter().find(|(_, (asked, _))| *asked == ticket).map(|(id, _)| *id);
                if let Some(id) = id {
                    self.asked.remove(&id);
                    self.shared.metrics.cancel_call();
                    self.endpoint.cancel(id);
                }
                // It took no place.
                return;
            }
        }
        // In this order there never seems to be more room than there is.
        if let Some((peer, _)) = &self.peer {
            peer.keeps(self.endpoint.kept());
            peer.taken(bytes);
        }
    }

    fn handle_closing(&mut self, now: Timestamp, closing: Closing) {
        match closing {
            Closing::Told { code, message } => {
                let reference = self.endpoint.close(code, &message, Duration::ZERO);
                tracing::info!(address = %self.address, %code, ?reference, "a session is closed");
            }
            Closing::Lost(reason) => self.endpoint.lose(reason),
            Closing::Drain { after, retry_after } => {
                let (from, grace) = (now + after, self.shared.config.timeouts.shutdown.mul_f32(0.8));
                self.drain = Some(Drain { from, until: now + grace.max(after), retry_after });
                self.go_on_stopping(now);
            }
        }
    }

    /// The server stops: ends the session as soon as nothing is left to wait for.
    fn go_on_stopping(&mut self, now: Timestamp) {
        if let Some(Drain { from, until, retry_after }) = &self.drain
            && *from <= now
            && ((self.aborts.is_empty() && self.held.is_empty()) || *until <= now)
        {
            self.endpoint.close(Code::GOING_AWAY, "", *retry_after);
        }
    }

    /// A newer socket of the same client: the session goes on there, and the older one is fenced.
    fn adopt(&mut self, now: Timestamp, attachment: Attachment) {
        let asked = attachment.arrival.auth.resume.as_ref().map(|asked| self.endpoint.can_resume(asked));
        if asked == Some(Resumable::Stale) {
            // Its client has gone on without it.
            return refuse(attachment, &self.shared);
        }
        let Some(saved) = self.endpoint.take_session() else {
            return self.shared.tasks.spawn(begin(attachment, Some(ResetReason::Unknown), self.shared.clone()));
        };
        // The older socket hears that it is superseded.
        self.drain_endpoint();
        let Attachment { websocket, mut endpoint, arrival, address, place } = attachment;
        match endpoint.resume(now, wall_clock(), saved) {
            Ok(()) => {
                self.endpoint = endpoint;
                self.line = Some(Line::new(websocket, place));
                self.address = address;
            }
            Err(saved) => {
                self.endpoint.lose_session(*saved);
                let attachment = Attachment { websocket, endpoint, arrival, address, place };
                self.shared.tasks.spawn(begin(attachment, Some(ResetReason::Unknown), self.shared.clone()));
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

    fn deliver(&mut self, event: ServerEvent) {
        self.shared.metrics.hear(&event, self.peer.as_ref().is_some_and(|(peer, _)| peer.is_connected()));
        match event {
            ServerEvent::Connected(session) => self.connected(session),
            ServerEvent::Resumed => {
                let Some((peer, _)) = &self.peer else { return };
                tracing::debug!(session = %peer.id(), address = %self.address, "a client is back");
                peer.moved(Some(self.address));
                self.shared.sessions().attach(peer.id());
                let shared = self.shared.clone();
                self.start_hooks(&shared.router.on_return, "on_return");
            }
            ServerEvent::Parked(because) => {
                let Some((peer, _)) = &self.peer else { return };
                tracing::debug!(session = %peer.id(), reason = ?because, "a client is away");
                peer.moved(None);
                let longest_away = self.shared.sessions().park(peer.id());
                if let Some(handle) = longest_away {
                    handle.peer.end(Closing::Lost(ResetReason::Expired));
                }
                let shared = self.shared.clone();
                self.start_hooks(&shared.router.on_away, "on_away");
            }
            ServerEvent::Peer(PeerEvent::Call { id, name, key, credit, payload }) => {
                self.run_call(id, &name, key.as_ref(), credit.is_some(), payload);
            }
            ServerEvent::Peer(PeerEvent::Cancelled(id)) => {
                self.held.remove(&id);
                if let Some(abort) = self.aborts.remove(&id) {
                    abort.abort();
                }
            }
            ServerEvent::Peer(PeerEvent::Message { name, payload, .. }) => {
                let shared = self.shared.clone();
                match shared.router.listeners.find(name.as_str()) {
                    Some((name, listener)) => self.start(None, listener, name.clone(), payload),
                    None => tracing::debug!(?name, "a notification has no listener"),
                }
            }
            ServerEvent::Peer(PeerEvent::Settled { id, outcome }) => {
                if let Some((_, settled)) = self.asked.remove(&id) {
                    let _ = settled.send(outcome);
                }
            }
            // Every input is followed by a look at what is held.
            ServerEvent::Peer(PeerEvent::Credit(_)) => {}
            // Nobody here asks for streams or receipts.
            ServerEvent::Peer(PeerEvent::Item { .. } | PeerEvent::Confirmed(_)) => {}
            ServerEvent::Ended(ended, undelivered) => self.ended(ended, undelivered),
            // Both belong to the handshake, which is over.
            ServerEvent::Arrived(_) | ServerEvent::HandshakeFailed(_) => {}
        }
    }

    fn connected(&mut self, session: SessionId) {
        let (peer, mailbox) =
            Peer::new(session, self.address, &self.shared.endpoint.limits, self.shared.metrics.clone());
        tracing::debug!(%session, address = %self.address, "a client is connected");
        if let (Some(proof), Some(sockets)) = (self.endpoint.proof(), self.sockets.take()) {
            let handle = SessionHandle { peer: peer.clone(), sockets };
            self.shared.sessions().enter(session, owner(proof.clone()), handle);
        }
        self.shared.peers.enter(peer.clone());
        self.peer = Some((peer, mailbox));
        let shared = self.shared.clone();
        self.start_hooks(&shared.router.on_connect, "on_connect");
    }

    fn start_hooks(&mut self, hooks: &[BoxedHandler], name: &str) {
        for hook in hooks {
            self.start(None, hook, name.into(), null());
        }
    }

    fn run_call(&mut self, id: CallId, name: &Name, key: Option<&Name>, wants_stream: bool, payload: Payload) {
        let shared = self.shared.clone();
        let failure = match (shared.router.handlers.find(name.as_str()), wants_stream) {
            (Some((name, Served::Once(handler))), false) => {
                return match key {
                    Some(key) => self.start_once(id, key, handler, name.clone(), payload),
                    None => self.start(Some(id), handler, name.clone(), payload),
                };
            }
            (Some((name, Served::Stream(handler))), true) => {
                let Some((peer, _)) = &self.peer else { return };
                let stream = handler.run(context(&self.shared, peer, name.clone(), payload));
                return self.await_item(id, stream);
            }
            (Some((_, Served::Once(_))), true) => {
                Failure::with_message(Code::INVALID_PARAMS, "this handler answers once: call it")
            }
            (Some((_, Served::Stream(_))), false) => {
                Failure::with_message(Code::INVALID_PARAMS, "this handler answers with a stream: read it as one")
            }
            (None, _) => Failure::of(Code::NOT_FOUND),
        };
        self.shared.metrics.miss_handler();
        // A failure is never too large.
        let _ = self.endpoint.answer(id, Err(failure));
    }

    /// Starts a handler, unless it has been started for the same call before: then its answer is that of the first time.
    fn start_once(&mut self, id: CallId, key: &Name, handler: &BoxedHandler, name: Arc<str>, payload: Payload) {
        let Some((peer, _)) = &self.peer else { return };
        let owner = match self.endpoint.proof() {
            Some(Proof::Key(key)) => *key,
            Some(Proof::Secret(secret)) => {
                let mut owner = [0; 32];
                owner[..16].copy_from_slice(&secret.0);
                owner
            }
            None => return,
        };
        let key = Key { owner, handler: name.clone(), key: key.as_str().to_owned() };
        let context = context(&self.shared, peer, name, payload);
        let answer = self.shared.once.answer(key, &self.shared.tasks, || handler.run(context).boxed());
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, abort);
        self.running.push(Abortable::new(answer.map(move |result| Done::Answer(id, result)).boxed(), registration));
    }

    /// Waits for the next item beside everything else.
    fn await_item(&mut self, id: CallId, mut stream: Streaming) {
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, abort);
        let next = async move {
            let item = stream.next().await;
            Done::Item(id, item, stream)
        };
        self.running.push(Abortable::new(next.boxed(), registration));
    }

    fn send_item(&mut self, id: CallId, item: Option<Result<Payload, Failure>>, stream: Streaming) {
        self.aborts.remove(&id);
        let refused = match item {
            Some(Ok(payload)) => match self.endpoint.item(id, payload.clone()) {
                Ok(()) => {
                    self.shared.metrics.send_message();
                    return self.await_item(id, stream);
                }
                Err(Refused::Backpressure) => {
                    self.held.insert(id, (payload, stream));
                    return;
                }
                Err(refused) => Failure::of(refused.code()),
            },
            Some(Err(failure)) => failure,
            None => return self.endpoint.end_stream(id),
        };
        let _ = self.endpoint.answer(id, Err(refused));
    }

    /// Offers what is held again: the client may take more, or have confirmed enough.
    fn retry_held(&mut self) {
        for (id, (payload, stream)) in std::mem::take(&mut self.held) {
            self.send_item(id, Some(Ok(payload)), stream);
        }
    }

    /// Starts a handler. Its panic fails this call only.
    fn start(&mut self, id: Option<CallId>, handler: &BoxedHandler, name: Arc<str>, payload: Payload) {
        let Some((peer, _)) = &self.peer else { return };
        let run = handler.run(context(&self.shared, peer, name, payload));
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.extend(id.map(|id| (id, abort)));
        let done = move |result| id.map_or(Done::Heard, |id| Done::Answer(id, result));
        self.running.push(Abortable::new(run.map(done).boxed(), registration));
    }

    fn ended(&mut self, ended: Ended, undelivered: usize) {
        // What still ran for this client has nobody left to answer to.
        self.aborts.drain().for_each(|(_, abort)| abort.abort());
        self.held.clear();
        let Some((peer, _)) = &self.peer else { return };
        if undelivered > 0 {
            tracing::info!(session = %peer.id(), reason = ?ended, undelivered, "a session is lost");
        } else {
            tracing::debug!(session = %peer.id(), reason = ?ended, "a client has gone");
        }
        peer.moved(None);
        self.shared.sessions().leave(peer.id(), ended.reset_reason());
        self.shared.peers.leave(peer.id());
        self.departure = Some(Departure::new(ended, undelivered));
    }

    /// Runs the hooks. A socket that was handed over in the last moment gets a session of its own.
    async fn finish(mut self) {
        self.adoptions.close();
        while let Ok(attachment) = self.adoptions.try_recv() {
            self.shared.tasks.spawn(begin(*attachment, Some(ResetReason::Unknown), self.shared.clone()));
        }
        let (shared, Some((peer, _)), Some(departure)) = (self.shared.clone(), &self.peer, &self.departure) else {
            return;
        };
        let departure = serde_json::to_vec(departure).map_or_else(|_| null(), Payload::json);
        let run = |hook: &BoxedHandler| hook.run(context(&shared, peer, "on_disconnect".into(), departure.clone()));
        let hooks: Vec<_> = shared.router.on_disconnect.iter().map(run).collect();
        let _ = timeout(HOOK_WAIT, join_all(hooks)).await;
    }
}

/// Closes a socket whose client has made a newer one.
fn refuse(Attachment { mut websocket, mut endpoint, place, .. }: Attachment, shared: &Shared) {
    endpoint.reject(Rejection::of(Code::SUPERSEDED));
    shared.tasks.spawn(async move {
        close(&mut websocket, Code::SUPERSEDED).await;
        drop(place);
    });
}

fn null() -> Payload {
    Payload::json(Bytes::from_static(b"null"))
}

fn context(shared: &Shared, peer: &Peer, name: Arc<str>, payload: Payload) -> Context {
    Context { name, payload, peer: peer.clone(), peers: shared.peers.clone(), states: shared.states.clone() }
}
