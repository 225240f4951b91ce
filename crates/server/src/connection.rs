//! The driver of one socket: one task that owns the WebSocket, the endpoint and the handlers that run for it.
//!
//! It holds no protocol decision. Its own business is the write policy: handle every message of one read, run what can
//! run at once, then write everything in one go.

mod greeting;

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
    future::{AbortHandle, Abortable, BoxFuture, join, join_all, poll_fn},
    stream::FuturesUnordered,
    task::noop_waker_ref,
};
use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::Refused,
    frame::{CallId, Failure, SessionId},
    limits::{MAX_RECORD, MAX_RECORD_BEFORE_AUTH},
    payload::{Name, Payload},
    server::{Ended, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
    session::Outcome,
    time::Timestamp,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::{Sleep, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message, protocol::Role},
};

pub(crate) use self::greeting::open_websocket;
use self::greeting::{close, greet, input_of, websocket_config};
use crate::{
    Peer,
    handler::{BoxedHandler, Context},
    metrics::Direction,
    peer::{Closing, Command, Mailbox},
    shared::Shared,
};

/// Messages, commands and finished handlers that are taken in one go before anything is written.
const BATCH: usize = 64;

/// How long a hook may run after its connection has ended.
const HOOK_WAIT: Duration = Duration::from_secs(10);

/// Serves an upgraded socket until it is over. `read` is what came behind the head of the request.
pub(crate) async fn serve<S>(socket: S, read: Bytes, shared: Arc<Shared>, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let websocket = open_websocket(socket, read, MAX_RECORD_BEFORE_AUTH, MAX_RECORD).await;
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return;
    }
    let endpoint = ServerEndpoint::new(shared.endpoint.clone(), seed, shared.now());
    let Some((websocket, endpoint)) = greet(websocket, endpoint, &shared, address).await else { return };
    // From here on full-sized messages may come. Nothing is lost with the old buffers: a client that is waiting for
    // Welcome has nothing to say, and what this side said before has been flushed, or there would be no HS3.
    let limits = &shared.endpoint.limits;
    let config = websocket_config(MAX_RECORD, 4 * limits.max_outgoing_bytes + MAX_RECORD);
    let websocket = WebSocketStream::from_raw_socket(websocket.into_inner(), Role::Server, Some(config)).await;
    Driver::new(websocket, endpoint, shared, address).run().await;
}

/// A handler that has ended: which call it was for, and with what.
type Finished = (Option<CallId>, Result<Payload, Failure>);

/// What woke the task.
enum Step {
    Input(ServerInput),
    Command(Command),
    Closing(Closing),
    Finished(Finished),
    Flushed(Result<(), WsError>),
}

struct Driver<S> {
    websocket: WebSocketStream<S>,
    endpoint: ServerEndpoint,
    shared: Arc<Shared>,
    address: SocketAddr,
    /// There from `Connected` on.
    peer: Option<(Peer, Mailbox)>,
    running: FuturesUnordered<Abortable<BoxFuture<'static, Finished>>>,
    /// A handler that has ended and whose answer waits for what it had sent before.
    finished: Option<Finished>,
    aborts: HashMap<CallId, AbortHandle>,
    asked: HashMap<CallId, (u64, oneshot::Sender<Outcome>)>,
    /// Whether everything written has reached the system.
    flushed: bool,
    congested: bool,
    /// The socket is to be closed with this code; `None` inside when it is gone already.
    over: Option<Option<Code>>,
    deadline: Option<Timestamp>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(websocket: WebSocketStream<S>, endpoint: ServerEndpoint, shared: Arc<Shared>, address: SocketAddr) -> Self {
        Self {
            websocket,
            endpoint,
            shared,
            address,
            peer: None,
            running: FuturesUnordered::new(),
            finished: None,
            aborts: HashMap::new(),
            asked: HashMap::new(),
            flushed: true,
            congested: false,
            over: None,
            deadline: None,
        }
    }

    async fn run(mut self) {
        let mut timer = std::pin::pin!(sleep(Duration::ZERO));
        loop {
            self.drain();
            self.take_ready();
            self.drain();
            if let Some(code) = self.over {
                return self.finish(code).await;
            }
            if let Some(deadline) = self.deadline {
                timer.as_mut().reset(self.shared.instant(deadline));
            }
            let step = poll_fn(|cx| self.poll_step(cx, timer.as_mut())).await;
            self.handle(step);
        }
    }

    /// Takes what is there already, without writing in between.
    fn take_ready(&mut self) {
        for _ in 0..BATCH {
            let mut cx = TaskContext::from_waker(noop_waker_ref());
            match self.poll_work(&mut cx) {
                Poll::Ready(step) if self.over.is_none() => self.handle(step),
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
    }

    fn poll_step(&mut self, cx: &mut TaskContext<'_>, timer: Pin<&mut Sleep>) -> Poll<Step> {
        if let Poll::Ready(step) = self.poll_work(cx) {
            return Poll::Ready(step);
        }
        if !self.flushed
            && let Poll::Ready(flushed) = self.websocket.poll_flush_unpin(cx)
        {
            return Poll::Ready(Step::Flushed(flushed));
        }
        match timer.poll(cx) {
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
            if let Some(finished) = self.finished.take() {
                return Poll::Ready(Step::Finished(finished));
            }
            match self.running.poll_next_unpin(cx) {
                // Once more around: the handler may have sent something in its last moment.
                Poll::Ready(Some(Ok(finished))) => self.finished = Some(finished),
                Poll::Ready(Some(Err(_aborted))) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        // Too much running already: what more there is stays in the socket.
        if self.running.len() < 2 * self.shared.endpoint.limits.max_calls_in_flight
            && let Poll::Ready(message) = self.websocket.poll_next_unpin(cx)
        {
            // The library has queued its pong.
            self.flushed &= !matches!(message, Some(Ok(Message::Ping(_))));
            return Poll::Ready(Step::Input(message.map_or(ServerInput::SocketClosed, input_of)));
        }
        Poll::Pending
    }

    fn handle(&mut self, step: Step) {
        let now = self.shared.now();
        match step {
            Step::Input(input) => {
                if let ServerInput::Record(record) = &input {
                    self.shared.metrics.record(Direction::In, record.len());
                }
                self.endpoint.handle_input(now, input);
            }
            Step::Command(command) => self.handle_command(now, command),
            Step::Closing(Closing { code, message }) => {
                let reference = self.endpoint.close(code, &message, Duration::ZERO);
                tracing::info!(address = %self.address, %code, ?reference, "a connection is closed");
            }
            Step::Finished((Some(id), result)) => {
                // None: the call was cancelled, so that this is no answer any more.
                if self.aborts.remove(&id).is_some() {
                    self.shared.metrics.send_message();
                }
                if self.endpoint.answer(id, result) == Err(Refused::TooLarge) {
                    tracing::error!("the reply of a handler is above the limit");
                }
            }
            Step::Finished((None, _)) => {}
            Step::Flushed(Ok(())) => {
                self.flushed = true;
                if self.congested {
                    self.congested = false;
                    self.endpoint.handle_input(now, ServerInput::Congested(false));
                }
            }
            Step::Flushed(Err(_)) => self.endpoint.handle_input(now, ServerInput::SocketClosed),
        }
    }

    fn handle_command(&mut self, now: Timestamp, command: Command) {
        match command {
            Command::Send(message) => {
                // The queue is full: who asked is not here any more to be told, so a gap is not an option.
                match self.endpoint.send(&message) {
                    Ok(sent) => self.shared.metrics.notify(sent),
                    Err(Refused::Backpressure) => drop(self.endpoint.close(Code::SLOW_CONSUMER, "", Duration::ZERO)),
                    Err(_) => {}
                }
            }
            Command::Call { ticket, name, payload, timeout, settled } => {
                match self.endpoint.call(now, name, payload, Some(timeout)) {
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
            }
        }
    }

    /// Drains the endpoint: records to the socket, then events to the application, until nothing is left.
    fn drain(&mut self) {
        loop {
            let mut events = Vec::new();
            loop {
                match self.endpoint.poll_output() {
                    ServerOutput::Transmit(record) => self.transmit(record),
                    ServerOutput::Event(event) => events.push(event),
                    ServerOutput::CloseSocket(code) => self.over = Some(Some(code)),
                    ServerOutput::Wait(deadline) => {
                        self.deadline = deadline;
                        break;
                    }
                }
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
        if self.websocket.start_send_unpin(Message::Binary(record)).is_err() {
            return self.endpoint.handle_input(now, ServerInput::SocketClosed);
        }
        self.flushed = false;
        let mut cx = TaskContext::from_waker(noop_waker_ref());
        if !self.congested && self.websocket.poll_ready_unpin(&mut cx).is_pending() {
            self.congested = true;
            self.endpoint.handle_input(now, ServerInput::Congested(true));
        }
    }

    fn deliver(&mut self, event: ServerEvent) {
        self.shared.metrics.hear(&event);
        match event {
            ServerEvent::Connected(session) => self.connected(session),
            ServerEvent::Peer(PeerEvent::Call { id, name, payload }) => self.run_call(id, &name, payload),
            ServerEvent::Peer(PeerEvent::Cancelled(id)) => {
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
            ServerEvent::Ended(ended) => self.ended(ended),
            // Both belong to the handshake, which is over.
            ServerEvent::Arrived(_) | ServerEvent::HandshakeFailed(_) => {}
        }
    }

    fn connected(&mut self, session: SessionId) {
        let (peer, mailbox) = Peer::new(session, self.address, self.shared.metrics.clone());
        tracing::debug!(%session, address = %self.address, "a client is connected");
        self.shared.peers.enter(peer.clone());
        self.peer = Some((peer, mailbox));
        let shared = self.shared.clone();
        for hook in &shared.router.on_connect {
            self.start(None, hook, "on_connect".into(), null());
        }
    }

    fn run_call(&mut self, id: CallId, name: &Name, payload: Payload) {
        let shared = self.shared.clone();
        match shared.router.handlers.find(name.as_str()) {
            Some((name, handler)) => self.start(Some(id), handler, name.clone(), payload),
            None => {
                self.shared.metrics.miss_handler();
                // A failure is never too large.
                let _ = self.endpoint.answer(id, Err(Failure::of(Code::NOT_FOUND)));
            }
        }
    }

    /// Starts a handler. Its panic fails this call only.
    fn start(&mut self, id: Option<CallId>, handler: &BoxedHandler, name: Arc<str>, payload: Payload) {
        let Some((peer, _)) = &self.peer else { return };
        let run = handler.run(context(&self.shared, peer, name, payload));
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.extend(id.map(|id| (id, abort)));
        self.running.push(Abortable::new(run.map(move |result| (id, result)).boxed(), registration));
    }

    fn ended(&mut self, ended: Ended) {
        if self.over.is_none() {
            self.over = Some(None);
        }
        // What still ran for this client has nobody left to answer to.
        self.aborts.drain().for_each(|(_, abort)| abort.abort());
        let Some((peer, _)) = &self.peer else { return };
        tracing::debug!(session = %peer.id(), address = %self.address, reason = ?ended, "a client has gone");
        self.shared.peers.leave(peer.id());
    }

    /// Closes the socket and runs the hooks, side by side, so that neither waits for the other.
    async fn finish(mut self, code: Option<Code>) {
        let shared = self.shared.clone();
        let hooks: Vec<_> = match &self.peer {
            Some((peer, _)) => {
                let run = |hook: &BoxedHandler| hook.run(context(&shared, peer, "on_disconnect".into(), null()));
                shared.router.on_disconnect.iter().map(run).collect()
            }
            None => Vec::new(),
        };
        let farewell = async {
            if let Some(code) = code {
                close(&mut self.websocket, code).await;
            }
        };
        let _ = join(timeout(HOOK_WAIT, join_all(hooks)), farewell).await;
    }
}

fn null() -> Payload {
    Payload::json(Bytes::from_static(b"null"))
}

fn context(shared: &Shared, peer: &Peer, name: Arc<str>, payload: Payload) -> Context {
    Context { name, payload, peer: peer.clone(), peers: shared.peers.clone(), states: shared.states.clone() }
}
