//! The driver: one task that owns the endpoint, its socket and the handlers that run. It holds no protocol decision.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture, poll_fn},
    stream::FuturesUnordered,
};
use moorline_protocol::{
    PeerEvent,
    channel::Kind,
    client::{
        ChannelEvent, ClientConfig, ClientEndpoint, ClientEvent, ClientInput, ClientOutput, Follow, Reset, SocketId,
        SocketInput, Status, Subscription,
    },
    discovery::Discovery,
    error::Refused,
    frame::{Admission, AuthenticateId, CallId, Credentials, Denial, Failure, RequestKind},
    payload::{Name, Payload},
    session::{CallOptions, Outcome, Receipt},
    time::Timestamp,
    url::DialUrl,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, Sleep, sleep},
};

use crate::{Provider, View, discovery, handlers::Handlers, mailbox::Mailbox, socket::Socket, way::Way};

/// Stands for a deadline that is not there.
const NEVER: Duration = Duration::from_secs(31_536_000);

/// What a [`Client`](crate::Client) asks for.
pub(crate) enum Command {
    Call {
        name: Name,
        payload: Payload,
        options: CallOptions,
        settled: oneshot::Sender<Result<Outcome, Refused>>,
    },
    Notify {
        name: Name,
        payload: Payload,
        volatile: bool,
        queued: oneshot::Sender<Result<(), Refused>>,
    },
    Stream {
        name: Name,
        payload: Payload,
        options: CallOptions,
        begun: oneshot::Sender<Result<CallId, Refused>>,
        items: mpsc::UnboundedSender<Item>,
    },
    /// The reader of a stream takes more.
    Grant {
        id: CallId,
        more: u64,
    },
    Confirm {
        name: Name,
        payload: Payload,
        confirmed: oneshot::Sender<Result<bool, Refused>>,
    },
    Follow {
        follow: Box<Follow>,
        events: mpsc::Sender<ChannelEvent>,
        mailbox: Weak<Mailbox>,
        /// Ready when nobody reads them any more.
        gone: oneshot::Receiver<()>,
        followed: oneshot::Sender<Result<Subscription, Refused>>,
    },
    Request {
        channel: (RequestKind, Kind),
        name: Name,
        payload: Payload,
        options: CallOptions,
        settled: oneshot::Sender<Result<Outcome, Refused>>,
    },
    Volatile {
        kind: Kind,
        name: Name,
        payload: Payload,
        sent: oneshot::Sender<Result<(), Refused>>,
    },
    Authenticate {
        credentials: Credentials,
        settled: oneshot::Sender<Judgement>,
    },
    Ping,
    Close,
}

/// What came of what was shown on an open connection, or that it was not shown.
pub(crate) type Judgement = Result<Result<Admission, Denial>, Refused>;

/// What a stream came to.
pub(crate) enum Item {
    Next(Payload),
    /// Nothing comes behind it.
    Last(Outcome),
}

/// How something ended that ran beside the socket.
enum Done {
    Answer(CallId, Result<Payload, Failure>),
    CallerGone(CallId),
    FollowerGone(Subscription),
    Nothing,
}

enum Step {
    Command(Option<Command>),
    Opened(SocketId, Option<Box<Socket>>),
    Answered(ClientInput),
    Done(Done),
    Socket(SocketId, SocketInput),
    Wake,
}

struct Driver {
    endpoint: ClientEndpoint,
    /// The socket that the endpoint wants and that is not open yet. It goes when it is not wanted any more: whoever is
    /// dialled may never answer.
    opening: Option<(SocketId, BoxFuture<'static, Option<Box<Socket>>>)>,
    socket: Option<Socket>,
    /// The newest question: for the identity document, or for what is to be shown.
    asking: Option<BoxFuture<'static, ClientInput>>,
    /// What the end waits for: handlers and listeners, calls that are told how they ended, sockets that say good-bye.
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Of the calls of the server that are being answered.
    aborts: HashMap<CallId, AbortHandle>,
    /// Whether the readers of streams are still there.
    readers: FuturesUnordered<BoxFuture<'static, Done>>,
    asked: HashMap<CallId, oneshot::Sender<Result<Outcome, Refused>>>,
    /// Who waits for the confirmation of a notification: `true` when it has come, `false` when it never will.
    confirming: HashMap<Receipt, oneshot::Sender<Result<bool, Refused>>>,
    /// Who reads which stream. Credit bounds the queues.
    streams: HashMap<CallId, mpsc::UnboundedSender<Item>>,
    /// Who reads which channel.
    followers: HashMap<Subscription, mpsc::Sender<ChannelEvent>>,
    /// Who reads what somebody in which channel has for this client alone.
    mailboxes: Vec<(Kind, Name, Weak<Mailbox>)>,
    /// Who waits for what comes of what was shown.
    authenticating: HashMap<AuthenticateId, oneshot::Sender<Judgement>>,
    parts: Parts,
    origin: Instant,
}

/// What a driver shares with its [`Client`](crate::Client).
pub(crate) struct Parts {
    pub(crate) view: watch::Sender<View>,
    pub(crate) resets: broadcast::Sender<Reset>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) provider: Option<Provider>,
    /// Where to connect to, whatever the URL says.
    pub(crate) way: Way,
}

/// How long the end waits for listeners that still run, and for the socket. What is left then is dropped.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Runs a client until it is closed, its socket gone and its listeners have ended or had their time.
pub(crate) async fn run(config: ClientConfig, seed: [u8; 32], commands: mpsc::Receiver<Command>, parts: Parts) {
    Driver::new(config, seed, parts).run(commands).await;
}

impl Driver {
    fn new(config: ClientConfig, seed: [u8; 32], parts: Parts) -> Self {
        Self {
            endpoint: ClientEndpoint::new(config, seed),
            opening: None,
            socket: None,
            asking: None,
            running: FuturesUnordered::new(),
            aborts: HashMap::new(),
            readers: FuturesUnordered::new(),
            asked: HashMap::new(),
            confirming: HashMap::new(),
            streams: HashMap::new(),
            followers: HashMap::new(),
            mailboxes: Vec::new(),
            authenticating: HashMap::new(),
            parts,
            origin: Instant::now(),
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.endpoint.start(self.now());
        let mut timer = pin!(sleep(Duration::ZERO));
        let (mut end, mut gone) = (None, false);
        loop {
            let deadline = self.drain();
            let open = !matches!(self.parts.view.borrow().status, Status::Closed(_));
            let wake = if open {
                Instant::now() + deadline.map_or(NEVER, |deadline| deadline - self.now())
            } else {
                let end = *end.get_or_insert_with(|| Instant::now() + END_WITHIN);
                if self.running.is_empty() || Instant::now() >= end {
                    return;
                }
                end
            };
            timer.as_mut().reset(wake);
            let mut commands = (!gone).then_some(&mut commands);
            let step = poll_fn(|cx| self.poll_step(cx, commands.as_deref_mut(), timer.as_mut())).await;
            gone |= matches!(step, Step::Command(None));
            match step {
                // Whoever asks hears that it is over, though the end may take a while.
                Step::Command(_) if !open => {}
                step => self.handle(step),
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        commands: Option<&mut mpsc::Receiver<Command>>,
        timer: Pin<&mut Sleep>,
    ) -> Poll<Step> {
        if let Some(Poll::Ready(command)) = commands.map(|commands| commands.poll_recv(cx)) {
            return Poll::Ready(Step::Command(command));
        }
        for futures in [&mut self.running, &mut self.readers] {
            if let Poll::Ready(Some(done)) = futures.poll_next_unpin(cx) {
                return Poll::Ready(Step::Done(done));
            }
        }
        if let Some((socket, opening)) = &mut self.opening
            && let Poll::Ready(opened) = opening.poll_unpin(cx)
        {
            return Poll::Ready(Step::Opened(*socket, opened));
        }
        if let Some(Poll::Ready(input)) = self.asking.as_mut().map(|asking| asking.poll_unpin(cx)) {
            return Poll::Ready(Step::Answered(input));
        }
        if let Some(socket) = &mut self.socket
            && let Poll::Ready(input) = socket.poll(cx)
        {
            return Poll::Ready(Step::Socket(socket.id, input));
        }
        timer.poll(cx).map(|()| Step::Wake)
    }

    fn handle(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Command(Some(Command::Call { name, payload, options, settled })) => {
                match self.endpoint.call(now, name, payload, options) {
                    Ok(id) => self.await_outcome(id, settled),
                    Err(refused) => drop(settled.send(Err(refused))),
                }
            }
            Step::Command(Some(Command::Notify { name, payload, volatile, queued })) => {
                let _ = queued.send(self.endpoint.notify(name, payload, volatile));
            }
            Step::Command(Some(Command::Confirm { name, payload, confirmed })) => {
                match self.endpoint.notify_confirmed(name, payload) {
                    Ok(receipt) => drop(self.confirming.insert(receipt, confirmed)),
                    Err(refused) => drop(confirmed.send(Err(refused))),
                }
            }
            Step::Command(Some(Command::Stream { name, payload, options, begun, items })) => {
                let id = self.endpoint.call(now, name, payload, options);
                if let Ok(id) = id {
                    let closed = items.clone();
                    self.streams.insert(id, items);
                    self.readers.push(Box::pin(async move {
                        closed.closed().await;
                        Done::CallerGone(id)
                    }));
                }
                let _ = begun.send(id);
            }
            Step::Command(Some(Command::Follow { follow, events, mailbox, gone, followed })) => {
                let (kind, name) = (follow.kind, follow.name.clone());
                let followed_as = self.endpoint.follow(*follow);
                if let Ok(subscription) = followed_as {
                    self.followers.insert(subscription, events);
                    // Who was too slow has it already.
                    self.mailboxes.retain(|(.., known)| known.strong_count() > 0 && !known.ptr_eq(&mailbox));
                    self.mailboxes.push((kind, name, mailbox));
                    self.readers.push(gone.map(move |_| Done::FollowerGone(subscription)).boxed());
                }
                let _ = followed.send(followed_as);
            }
            Step::Command(Some(Command::Volatile { kind, name, payload, sent })) => {
                let _ = sent.send(self.endpoint.append_volatile(kind, name, payload));
            }
            Step::Command(Some(Command::Request { channel, name, payload, options, settled })) => {
                match self.endpoint.request(now, channel, name, payload, options) {
                    Ok(id) => self.await_outcome(id, settled),
                    Err(refused) => drop(settled.send(Err(refused))),
                }
            }
            Step::Command(Some(Command::Grant { id, more })) => self.endpoint.grant(id, more),
            Step::Command(Some(Command::Authenticate { credentials, settled })) => {
                match self.endpoint.authenticate(now, credentials) {
                    Ok(id) => drop(self.authenticating.insert(id, settled)),
                    Err(refused) => drop(settled.send(Err(refused))),
                }
            }
            Step::Command(Some(Command::Ping)) => self.endpoint.ping(now),
            Step::Command(Some(Command::Close) | None) => self.endpoint.close(),
            Step::Opened(socket, opened) => {
                self.opening = None;
                let input = if opened.is_some() { SocketInput::Opened } else { SocketInput::Closed(1006) };
                self.socket = opened.map(|socket| *socket);
                self.handle_socket(socket, input);
            }
            Step::Answered(input) => {
                self.asking = None;
                self.endpoint.handle_input(now, input);
            }
            Step::Done(Done::Answer(id, result)) => {
                self.aborts.remove(&id);
                // An answer that is too large has been told to the server as a failure.
                let _ = self.endpoint.answer(now, id, result);
            }
            Step::Done(Done::CallerGone(id)) => {
                self.asked.remove(&id);
                self.streams.remove(&id);
                self.endpoint.cancel(id);
            }
            Step::Done(Done::FollowerGone(subscription)) => {
                self.followers.remove(&subscription);
                self.endpoint.unfollow(subscription);
            }
            Step::Done(Done::Nothing) => {}
            Step::Socket(socket, input) => self.handle_socket(socket, input),
            Step::Wake => self.endpoint.handle_input(now, ClientInput::Wake),
        }
    }

    fn handle_socket(&mut self, socket: SocketId, input: SocketInput) {
        if matches!(input, SocketInput::Closed(_)) {
            self.socket = None;
        }
        self.endpoint.handle_input(self.now(), ClientInput::Socket(socket, input));
    }

    /// Hands the outcome on, or notices that nobody waits for it any more.
    fn await_outcome(&mut self, id: CallId, mut settled: oneshot::Sender<Result<Outcome, Refused>>) {
        let (relay, outcome) = oneshot::channel();
        self.asked.insert(id, relay);
        self.running.push(Box::pin(async move {
            tokio::select! {
                outcome = outcome => drop(settled.send(outcome.unwrap_or(Ok(Outcome::NotSent)))),
                () = settled.closed() => return Done::CallerGone(id),
            }
            Done::Nothing
        }));
    }

    fn confirm(&mut self, receipt: Receipt, arrived: bool) {
        if let Some(confirmed) = self.confirming.remove(&receipt) {
            let _ = confirmed.send(Ok(arrived));
        }
    }

    fn drain(&mut self) -> Option<Timestamp> {
        loop {
            match self.endpoint.poll_output() {
                ClientOutput::OpenSocket { socket, url, subprotocol } => {
                    let way = self.parts.way.clone();
                    let opening = async move { Socket::open(socket, url, way, subprotocol).await.ok().map(Box::new) };
                    self.opening = Some((socket, opening.boxed()));
                }
                ClientOutput::Transmit(_, record) => {
                    if let Some(socket) = &mut self.socket {
                        let (socket, input) = (socket.id, socket.transmit(record));
                        self.handle_socket(socket, input);
                    }
                }
                ClientOutput::CloseSocket(closing, code) => {
                    self.opening.take_if(|(socket, _)| *socket == closing);
                    if let Some(socket) = self.socket.take_if(|socket| socket.id == closing) {
                        self.running.push(socket.close(code).map(|()| Done::Nothing).boxed());
                    }
                }
                ClientOutput::Discover(ticket, url) => {
                    let way = self.parts.way.clone();
                    let asked = async move {
                        let found = match DialUrl::parse(&url) {
                            Ok(url) => discovery::discover(&url, &way).await,
                            Err(_) => Discovery::Unreachable,
                        };
                        ClientInput::Discovered(ticket, found)
                    };
                    self.asking = Some(asked.boxed());
                }
                ClientOutput::Authorize { ticket, reason, .. } => {
                    if let Some(provider) = &self.parts.provider {
                        let given = provider(reason);
                        self.asking = Some(given.map(move |given| ClientInput::Authorized(ticket, given)).boxed());
                    }
                }
                ClientOutput::Event(event) => self.deliver(event),
                ClientOutput::Wait(deadline) => {
                    let rtt = self.endpoint.rtt();
                    self.parts.view.send_if_modified(|view| std::mem::replace(&mut view.rtt, rtt) != rtt);
                    return deadline;
                }
            }
        }
    }

    /// Starts what the program wants done; it runs when the drain is over.
    fn deliver(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Status(status) => {
                if matches!(status, Status::Closed(_)) {
                    // Whoever reads a channel has read it to its end.
                    self.followers.clear();
                }
                self.parts.view.send_modify(|view| view.status = status);
            }
            ClientEvent::Session(session) => self.parts.view.send_modify(|view| {
                view.admission = Some(session.welcome.admission.clone());
                view.session = Some(*session);
            }),
            ClientEvent::Authenticated(id, result) => {
                if let Ok(admission) = &*result {
                    self.parts.view.send_modify(|view| view.admission = Some(admission.clone()));
                }
                if let Some(settled) = self.authenticating.remove(&id) {
                    let _ = settled.send(Ok(*result));
                }
            }
            ClientEvent::Warned(code, message) => tracing::warn!(%code, message, "the server warns"),
            ClientEvent::Reset(reset) => {
                for receipt in reset.unconfirmed.iter().filter_map(|unconfirmed| unconfirmed.receipt) {
                    self.confirm(receipt, false);
                }
                // Nobody has to listen.
                let _ = self.parts.resets.send(reset);
            }
            ClientEvent::Channel(subscription, event) => {
                let Some(events) = self.followers.get(&subscription) else { return };
                let ends = matches!(*event, ChannelEvent::Closed(..));
                // Who reads too slowly goes on when it has read what there is, from there.
                if events.try_send(*event).is_err() || ends {
                    self.followers.remove(&subscription);
                    self.endpoint.hold(subscription);
                }
            }
            ClientEvent::Direct(direct) => {
                let to_here = |(kind, name, _): &&(Kind, Name, _)| *kind == direct.kind && *name == direct.name;
                for mailbox in self.mailboxes.iter().filter(to_here).filter_map(|(.., mailbox)| mailbox.upgrade()) {
                    mailbox.put((*direct).clone());
                }
            }
            ClientEvent::Refused(receipt, refused) => {
                if let Some(confirmed) = self.confirming.remove(&receipt) {
                    let _ = confirmed.send(Err(refused));
                }
            }
            ClientEvent::Peer(PeerEvent::Confirmed(receipt)) => self.confirm(receipt, true),
            ClientEvent::Peer(PeerEvent::Call { id, name, payload, .. }) => {
                let run = self.parts.handlers.run(name.as_str(), payload);
                let (abort, registration) = AbortHandle::new_pair();
                self.aborts.insert(id, abort);
                let run = Abortable::new(run, registration);
                let done = move |ended: Result<_, _>| ended.map_or(Done::Nothing, |result| Done::Answer(id, result));
                self.running.push(run.map(done).boxed());
            }
            ClientEvent::Peer(PeerEvent::Message { name, payload, .. }) => {
                let listeners = self.parts.handlers.hear(name.as_str(), &payload);
                self.running.extend(listeners.into_iter().map(|run| run.map(|()| Done::Nothing).boxed()));
            }
            ClientEvent::Peer(PeerEvent::Item { id, payload }) => {
                if let Some(items) = self.streams.get(&id) {
                    let _ = items.send(Item::Next(payload));
                }
            }
            ClientEvent::Peer(PeerEvent::Settled { id, outcome }) if self.streams.contains_key(&id) => {
                if let Some(items) = self.streams.remove(&id) {
                    let _ = items.send(Item::Last(outcome));
                }
            }
            ClientEvent::Peer(PeerEvent::Settled { id, outcome }) => {
                if let Some(settled) = self.asked.remove(&id) {
                    let _ = settled.send(Ok(outcome));
                }
            }
            ClientEvent::Peer(PeerEvent::Cancelled(id)) => {
                if let Some(abort) = self.aborts.remove(&id) {
                    abort.abort();
                }
            }
            // This client answers with no streams, and who is refused for want of room decides what then.
            ClientEvent::Peer(PeerEvent::Credit(_) | PeerEvent::Room) => {}
        }
    }
}

#[cfg(test)]
mod tests;
