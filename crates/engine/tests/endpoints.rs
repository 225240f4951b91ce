//! Channels over the endpoints of both sides, with an engine behind the server's: what a client is told, whatever
//! happens to its connection.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use moorline_engine::{Answer, Append, Engine, Limit, MemoryEngine, OpId, Retention};
use moorline_protocol::{
    channel::{
        Beginning, ChannelId, Entry, Kind, LogEpoch, Member, MemberChange, MemberId, Offset, Position, Presence,
        Roster, Start, Want,
    },
    client::{
        ChannelEvent, ClientConfig, ClientEndpoint, ClientEvent, ClientInput, ClientOutput, Follow, SocketId,
        SocketInput, Subscription,
    },
    code::Code,
    error::Refused,
    frame::{Admission, Epoch, Failure, Handle, RequestKind},
    payload::{Name, Payload},
    server::{
        ChannelWish, Encryption, Resumable, ServerConfig, ServerEndpoint, ServerEvent, ServerInput, ServerOutput,
    },
    session::{CallOptions, Outcome, PeerEvent, Sent},
    subject::Tenant,
    time::{Timestamp, UnixMillis},
    url::DialUrl,
};

/// A memory engine's answers are there at once.
fn now<T>(mut answer: Answer<'_, T>) -> T {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => found.unwrap_or_else(|error| panic!("{error}")),
        Poll::Pending => panic!("a memory engine waits"),
    }
}

#[derive(Default)]
struct Words(Mutex<Vec<(ChannelId, LogEpoch, Arc<Entry>)>>);

impl moorline_engine::Watcher for Words {
    fn appended(&self, channel: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>) {
        self.0.lock().unwrap().push((channel.clone(), epoch, Arc::clone(entry)));
    }

    fn removed(&self, _: &ChannelId) {}
}

/// A client and a server, in plain mode, and an engine.
struct Scene {
    at: u64,
    client: ClientEndpoint,
    socket: Option<SocketId>,
    server: Option<ServerEndpoint>,
    saved: Option<ServerEndpoint>,
    config: Arc<ServerConfig>,
    engine: MemoryEngine,
    words: Arc<Words>,
    retention: Retention,
    beginning: Beginning,
    open: BTreeMap<Handle, ChannelId>,
    roster: Roster,
    /// The server does not answer wishes.
    silent: bool,
    heard: Vec<(Subscription, ChannelEvent)>,
    settled: Vec<Outcome>,
    connections: u8,
    /// Bytes that the socket takes until it is congested; `None` takes everything.
    room: Option<usize>,
}

impl Scene {
    fn new(beginning: Beginning) -> Self {
        let mut config = ClientConfig::new(DialUrl::parse("ws://localhost/").unwrap());
        config.suite = None;
        let words = Arc::new(Words::default());
        let engine = MemoryEngine::new([7; 32]);
        engine.watch(Arc::clone(&words) as _);
        let mut server_config = ServerConfig::new(Encryption::Off, Epoch([2; 8]));
        server_config.limits.max_channels = 3;
        Self {
            at: 0,
            client: ClientEndpoint::new(config, [1; 32]),
            socket: None,
            server: None,
            saved: None,
            config: Arc::new(server_config),
            engine,
            words,
            retention: Retention::ALL,
            beginning,
            open: BTreeMap::new(),
            roster: Roster::default(),
            silent: false,
            heard: Vec::new(),
            settled: Vec::new(),
            connections: 0,
            room: None,
        }
    }

    fn connected(beginning: Beginning) -> Self {
        let mut scene = Self::new(beginning);
        scene.client.start(scene.time());
        scene.run();
        scene
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }

    fn follow(&mut self, name: &str) -> Subscription {
        let history = match self.beginning {
            Beginning::Newest(most) => most as u64,
            Beginning::Snapshot => 0,
        };
        let (name, since, data) = (Name::new(name).unwrap(), None, None);
        let follow = Follow {
            kind: Kind::Topic,
            name,
            quiet: false,
            members: false,
            history,
            since,
            past: Offset(0),
            data,
            instead: None,
        };
        let subscription = self.client.follow(follow).unwrap();
        self.run();
        subscription
    }

    fn write(&mut self, name: &str, content: &str, key: Option<&str>) {
        let mut options = CallOptions::default();
        options.key = key.map(|key| Name::new(key).unwrap());
        let (time, payload) = (self.time(), Payload::bytes(content.to_owned()));
        let channel = (RequestKind::Append, Kind::Topic);
        self.client.request(time, channel, Name::new(name).unwrap(), payload, options).unwrap();
    }

    fn append(&self, name: &str, content: impl Into<Bytes>) -> Position {
        let append = Append::new(content.into(), UnixMillis(5), self.retention);
        now(self.engine.append(&id(name), append)).position
    }

    /// Cuts the connection; the client makes the next one when it is run.
    fn cut(&mut self) {
        let time = self.time();
        if let (Some(socket), Some(server)) = (self.socket.take(), &mut self.server) {
            self.client.handle_input(time, ClientInput::Socket(socket, SocketInput::Closed(1006)));
            server.handle_input(time, ServerInput::SocketClosed);
            self.drain_server();
            self.open.clear();
            self.saved = self.server.take();
        }
    }

    fn reconnect(&mut self) {
        self.cut();
        self.run();
        self.at += 30_000;
        self.client.handle_input(self.time(), ClientInput::Wake);
        self.run();
    }

    /// Until nobody has anything to do.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let busy = [self.drain_client(), self.tell_entries(), self.drain_server()];
            if !busy.contains(&true) {
                return;
            }
        }
        panic!("it never ends");
    }

    fn tell_entries(&mut self) -> bool {
        let words = std::mem::take(&mut *self.words.0.lock().unwrap());
        let Some(server) = &mut self.server else { return false };
        for (channel, epoch, entry) in &words {
            for (handle, _) in self.open.iter().filter(|(_, open)| *open == channel) {
                server.tell_entry(*handle, *epoch, entry, true);
            }
        }
        !words.is_empty()
    }

    fn drain_client(&mut self) -> bool {
        let mut busy = false;
        loop {
            match self.client.poll_output() {
                ClientOutput::OpenSocket { socket, .. } => {
                    self.connections += 1;
                    self.socket = Some(socket);
                    let seed = [self.connections; 32];
                    self.server = Some(ServerEndpoint::new(Arc::clone(&self.config), seed, self.time()));
                    self.client.handle_input(self.time(), ClientInput::Socket(socket, SocketInput::Opened));
                }
                ClientOutput::Transmit(_, record) => {
                    let time = self.time();
                    if let Some(server) = &mut self.server {
                        server.handle_input(time, ServerInput::Record(record));
                    }
                }
                ClientOutput::Event(ClientEvent::Channel(subscription, event)) => {
                    self.heard.push((subscription, *event));
                }
                ClientOutput::Event(ClientEvent::Peer(PeerEvent::Settled { outcome, .. })) => {
                    self.settled.push(outcome)
                }
                ClientOutput::Event(_) => {}
                ClientOutput::Wait(_) => return busy,
                other => panic!("{other:?}"),
            }
            busy = true;
        }
    }

    fn drain_server(&mut self) -> bool {
        let (mut busy, time) = (false, self.time());
        while let Some(server) = &mut self.server {
            match server.poll_output() {
                ServerOutput::Transmit(record) => {
                    if let Some(room) = &mut self.room {
                        *room = room.saturating_sub(record.len());
                        server.handle_input(time, ServerInput::Congested(*room == 0));
                    }
                    if let Some(socket) = self.socket {
                        let input = SocketInput::Record(record);
                        self.client.handle_input(time, ClientInput::Socket(socket, input));
                    }
                }
                ServerOutput::Event(ServerEvent::Arrived(arrival)) => {
                    let saved = self.saved.as_mut().and_then(|saved| match &arrival.auth.resume {
                        Some(resume) if saved.can_resume(resume) == Resumable::Yes => saved.take_session(),
                        _ => None,
                    });
                    match saved {
                        Some(saved) => {
                            assert!(server.resume(time, UnixMillis(0), saved, Admission::default()).is_ok());
                        }
                        None => server.admit(time, UnixMillis(0), None, Admission::default()),
                    }
                }
                ServerOutput::Event(ServerEvent::Channel(wish)) => self.wish(*wish),
                ServerOutput::Event(ServerEvent::Request(request)) => {
                    let op = request.key.map(|key| OpId(key.as_str().as_bytes().try_into().unwrap()));
                    let append = Append::new(request.payload.bytes, UnixMillis(5), self.retention);
                    let channel = id(request.name.as_str());
                    let position = now(self.engine.append(&channel, Append { op, ..append })).position;
                    self.tell_entries();
                    let answer = Payload::bytes(position.to_bytes());
                    self.server.as_mut().unwrap().answer(request.id, Ok(answer)).unwrap();
                }
                ServerOutput::Event(_) => {}
                ServerOutput::CloseSocket(code) => panic!("{code}"),
                ServerOutput::Wait(_) => return busy,
            }
            busy = true;
        }
        busy
    }

    fn wish(&mut self, wish: ChannelWish) {
        let server = self.server.as_mut().unwrap();
        match wish {
            ChannelWish::Open(_) if self.silent => {}
            ChannelWish::Open(open) if open.name.as_str() == "secret" => {
                server.close_channel(open.handle, Code::FORBIDDEN, "not yours");
            }
            ChannelWish::Open(open) => {
                open.instead.inspect(|instead| assert!(self.open.remove(instead).is_some(), "{instead:?} is not open"));
                self.open.insert(open.handle, id(open.name.as_str()));
                let beginning = match self.beginning {
                    Beginning::Newest(_) => Beginning::Newest(open.history as usize),
                    Beginning::Snapshot => Beginning::Snapshot,
                };
                server.attach(open.handle, beginning, open.members);
            }
            ChannelWish::Read(handle, Want::Page { range, entries, bytes }) => {
                let page = now(self.engine.read(&self.open[&handle], range, Limit { entries, bytes }));
                server.give_page(handle, page, |_, _| true);
            }
            ChannelWish::Read(handle, Want::Snapshot) => {
                let (bounds, snapshot) = now(self.engine.snapshot(&self.open[&handle]));
                server.give_snapshot(handle, bounds, snapshot);
            }
            ChannelWish::Members(handle, revision) => {
                let changes = self.roster.since(revision);
                server.give_members(handle, &changes);
            }
            ChannelWish::Closed(handle) => {
                self.open.remove(&handle);
            }
        }
    }

    /// What was heard since the last time, in short.
    fn heard(&mut self) -> Vec<String> {
        let heard = std::mem::take(&mut self.heard).into_iter().map(|(_, event)| match event {
            ChannelEvent::Opened { start, snapshot, .. } => {
                let with = if snapshot { " with snapshot" } else { "" };
                match start {
                    Start::New => format!("new{with}"),
                    Start::Recovered => format!("recovered{with}"),
                    Start::Gap(gap) => format!("{gap:?}{with}").to_lowercase(),
                }
            }
            ChannelEvent::Snapshot { content, .. } => format!("snapshot {}", short(&content)),
            ChannelEvent::Update { content, before, .. } => {
                format!("{}{}", short(&content), if before { " before" } else { "" })
            }
            ChannelEvent::CaughtUp => "all".to_owned(),
            ChannelEvent::Volatile { content, .. } => format!("volatile {}", short(&content)),
            ChannelEvent::Members(changes) => {
                let change = |change| match change {
                    MemberChange::Is(member) => match member.presence {
                        Presence::Here => format!(" +{}", member.subject),
                        Presence::Away(_) => format!(" ~{}", member.subject),
                    },
                    MemberChange::Left(member) => format!(" -{}", member.0[7]),
                };
                let changed: String = changes.changes.into_iter().map(change).collect();
                format!("{}{changed}", if changes.whole { "members" } else { "change" })
            }
            ChannelEvent::Closed(code, message) => format!("closed: {code} {message}").trim().to_owned(),
        });
        heard.collect()
    }
}

fn short(content: &Bytes) -> String {
    if content.len() > 20 { format!("{} bytes", content.len()) } else { String::from_utf8_lossy(content).into_owned() }
}

fn id(name: &str) -> ChannelId {
    ChannelId::new(Tenant::default(), Kind::Topic, Name::new(name).unwrap())
}

#[test]
fn who_opens_a_channel_hears_its_history_and_what_comes() {
    let mut scene = Scene::connected(Beginning::Newest(2));
    for content in ["a", "b", "c"] {
        scene.append("room", content);
    }
    scene.follow("room");
    assert_eq!(scene.heard(), ["new", "b before", "c before", "all"]);
    scene.append("room", "d");
    scene.append("elsewhere", "x");
    scene.run();
    assert_eq!(scene.heard(), ["d"]);
}

#[test]
fn who_comes_back_hears_what_was_missed_and_only_that() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.append("room", "a");
    let subscription = scene.follow("room");
    scene.heard();
    scene.reconnect();
    assert_eq!(scene.heard(), ["recovered", "all"]);
    scene.cut();
    let last = scene.append("room", "b");
    scene.words.0.lock().unwrap().clear();
    scene.reconnect();
    assert_eq!(scene.heard(), ["recovered", "b before", "all"]);
    assert_eq!(scene.client.seen(subscription), Some(last));
}

#[test]
fn who_cannot_go_on_is_told_why_and_begins_anew() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.retention = Retention { entries: 2, ..Retention::ALL };
    scene.append("room", "a");
    scene.follow("room");
    scene.heard();
    scene.cut();
    for content in ["b", "c", "d", "e"] {
        scene.append("room", content);
    }
    scene.words.0.lock().unwrap().clear();
    scene.reconnect();
    assert_eq!(scene.heard(), ["trimmed", "d before", "e before", "all"]);
    now(scene.engine.remove(&id("room")));
    scene.reconnect();
    assert_eq!(scene.heard(), ["recreated", "all"]);
}

#[test]
fn what_is_large_comes_whole_and_calls_go_in_between() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("room");
    scene.heard();
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 65_000, 1_000_000, 3 * 1024 * 1024] {
        scene.append("room", vec![7; size]);
        scene.run();
        let expected = if size > 20 { format!("{size} bytes") } else { "\u{7}".repeat(size) };
        assert_eq!(scene.heard(), [expected]);
    }
    // Cut in the middle of one, it comes whole by the next connection.
    scene.room = Some(200_000);
    scene.append("room", vec![7; 1_000_000]);
    scene.run();
    assert_eq!(scene.heard(), Vec::<String>::new());
    scene.room = None;
    scene.reconnect();
    assert_eq!(scene.heard(), ["recovered", "1000000 bytes before", "all"]);
}

#[test]
fn what_the_client_does_not_take_closes_the_channel_alone() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("room");
    scene.follow("other");
    scene.heard();
    scene.append("room", vec![7; 5 * 1024 * 1024]);
    scene.append("other", "x");
    scene.run();
    let mut heard = scene.heard();
    heard.sort();
    assert_eq!(heard, ["closed: too_large", "x"]);
    assert_eq!(scene.open.len(), 1, "the application hears of it");
}

#[test]
fn a_write_is_answered_with_its_position_after_it_is_told() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let subscription = scene.follow("room");
    scene.heard();
    scene.write("room", "mine", None);
    scene.run();
    assert_eq!(scene.heard(), ["mine"]);
    let Some(Outcome::Reply(payload)) = scene.settled.pop() else { panic!("it is answered") };
    assert_eq!(Position::from_bytes(&payload.bytes), scene.client.seen(subscription));
}

#[test]
fn a_write_with_a_key_is_done_once_over_a_lost_session() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("room");
    scene.heard();
    scene.write("room", "once", Some("0123456789abcdef"));
    // It gets there, and its answer does not come back.
    scene.drain_client();
    scene.drain_server_without_the_client();
    scene.cut();
    scene.saved = None;
    scene.reconnect();
    assert!(matches!(scene.settled[..], [Outcome::Reply(_)]), "{:?}", scene.settled);
    let entries = now(scene.engine.usage(&id("room"))).entries;
    assert_eq!(entries, 1);
}

impl Scene {
    /// What the server says is lost on its way.
    fn drain_server_without_the_client(&mut self) {
        let socket = self.socket.take();
        self.drain_server();
        self.socket = socket;
    }
}

#[test]
fn one_that_is_refused_leaves_the_others_alone() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("secret");
    scene.follow("room");
    assert_eq!(scene.heard(), ["closed: forbidden not yours", "new", "all"]);
    scene.reconnect();
    assert_eq!(scene.heard(), ["recovered", "all"], "what is closed is not opened again");
}

#[test]
fn more_channels_than_may_be_are_refused() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let first = scene.follow("1");
    for name in ["2", "3", "4"] {
        scene.follow(name);
    }
    assert_eq!(scene.heard(), ["new", "all", "new", "all", "new", "all", "closed: too_many_channels"]);
    scene.client.unfollow(first);
    scene.follow("5");
    assert_eq!(scene.heard(), ["new", "all"]);
    assert_eq!(scene.open.len(), 3);
}

fn from_nothing(name: &str) -> Follow {
    Follow {
        kind: Kind::Topic,
        name: Name::new(name).unwrap(),
        quiet: false,
        members: true,
        history: 10,
        since: None,
        past: Offset(0),
        data: None,
        instead: None,
    }
}

#[test]
fn who_holds_a_channel_is_told_of_its_members_only_and_goes_on_from_where_it_says() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let subscription = scene.client.follow(from_nothing("room")).unwrap();
    scene.run();
    let a = scene.append("room", "a");
    scene.run();
    assert_eq!(scene.heard(), ["new", "all", "members", "a"]);
    scene.client.hold(subscription);
    scene.client.hold(subscription);
    // This one the server tells before it knows.
    scene.append("room", "b");
    scene.tell_entries();
    scene.drain_server();
    scene.append("room", "c");
    scene.enter(1, "ann");
    scene.run();
    assert_eq!(scene.heard(), ["members +ann"]);
    scene.append("room", "d");
    scene.reconnect();
    scene.append("room", "e");
    let handle = *scene.open.keys().next().unwrap();
    let server = scene.server.as_mut().unwrap();
    assert_eq!(server.tell_volatile(handle, UnixMillis(1), &Bytes::from("v")), Sent::Dropped);
    scene.run();
    assert_eq!(scene.heard(), ["members +ann"]);
    scene.client.follow(Follow { since: Some(a), instead: Some(subscription), ..from_nothing("room") }).unwrap();
    scene.run();
    assert_eq!(scene.heard(), ["recovered", "b before", "c before", "d before", "e before", "all", "members +ann"]);
    assert_eq!(scene.open.len(), 1);
    scene.append("room", "f");
    scene.run();
    assert_eq!(scene.heard(), ["f"]);
}

#[test]
fn a_channel_that_is_followed_in_another_way_takes_no_more_room_than_before() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let first = scene.follow("1");
    let _ = ["2", "3"].map(|name| scene.follow(name));
    scene.append("1", "a");
    scene.run();
    assert_eq!(scene.heard(), ["new", "all", "new", "all", "new", "all", "a"]);
    let second = scene.client.follow(Follow { instead: Some(first), ..from_nothing("1") }).unwrap();
    // Before it was opened.
    scene.client.follow(Follow { instead: Some(second), ..from_nothing("1") }).unwrap();
    scene.run();
    assert_eq!(scene.heard(), ["new", "a before", "all", "members"]);
    assert_eq!(scene.open.len(), 3);
    // One that is not followed any more is as good as none.
    scene.client.follow(Follow { instead: Some(first), ..from_nothing("4") }).unwrap();
    scene.run();
    assert_eq!(scene.heard(), ["closed: too_many_channels"]);
}

#[test]
fn a_channel_that_takes_the_place_of_another_and_is_left_before_it_is_opened_leaves_nothing_open() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let first = scene.follow("room");
    let second = scene.client.follow(Follow { instead: Some(first), ..from_nothing("room") }).unwrap();
    scene.client.unfollow(second);
    scene.run();
    assert!(scene.open.is_empty());
    assert_eq!(scene.heard(), ["new", "all"]);
}

#[test]
fn who_follows_no_longer_is_told_nothing_more() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let subscription = scene.follow("room");
    scene.heard();
    scene.append("room", "a");
    scene.client.unfollow(subscription);
    scene.run();
    assert_eq!(scene.heard(), Vec::<String>::new());
    assert!(scene.open.is_empty());
    scene.reconnect();
    assert_eq!(scene.heard(), Vec::<String>::new());
}

#[test]
fn a_slow_client_costs_what_one_page_costs_and_hears_everything() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("room");
    scene.heard();
    scene.room = Some(1);
    scene.append("room", "first");
    scene.run();
    for _ in 0..2_000 {
        scene.append("room", vec![7; 1_000]);
        scene.run();
    }
    assert_eq!(scene.heard(), ["first"]);
    scene.room = None;
    let time = scene.time();
    scene.server.as_mut().unwrap().handle_input(time, ServerInput::Congested(false));
    scene.run();
    assert_eq!(scene.heard().len(), 2_000);
}

#[test]
fn an_application_that_does_not_decide_leaves_a_channel_open_to_its_end() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.silent = true;
    let subscription = scene.follow("room");
    assert_eq!((scene.heard(), scene.open.len()), (Vec::<String>::new(), 0));
    scene.client.unfollow(subscription);
    scene.run();
    scene.silent = false;
    scene.reconnect();
    assert_eq!(scene.heard(), Vec::<String>::new());
}

#[test]
fn what_a_write_fails_with_is_its_own() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.write("room", "a", None);
    scene.drain_client();
    let server = scene.server.as_mut().unwrap();
    loop {
        match server.poll_output() {
            ServerOutput::Event(ServerEvent::Request(request)) => {
                server.answer(request.id, Err(Failure::of(Code::FORBIDDEN))).unwrap();
                break;
            }
            ServerOutput::Wait(_) => panic!("it wants something"),
            _ => {}
        }
    }
    scene.run();
    assert!(matches!(&scene.settled[..], [Outcome::Failed(failure)] if failure.code == Code::FORBIDDEN));
}

impl Scene {
    fn enter(&mut self, number: u8, name: &str) {
        let (id, subject, joined) = (MemberId([0, 0, 0, 0, 0, 0, 0, number]), name.to_owned(), UnixMillis(1));
        let member = Member { id, subject, presence: Presence::Here, joined, data: Payload::json("{}") };
        self.roster.enter(member).unwrap();
        self.members_changed();
    }

    fn members_changed(&mut self) {
        let handles: Vec<_> = self.open.keys().copied().collect();
        if let Some(server) = &mut self.server {
            handles.into_iter().for_each(|handle| server.members_changed(handle));
        }
    }

    fn follow_members(&mut self, name: &str) -> Subscription {
        let (name, since, data) = (Name::new(name).unwrap(), None, None);
        let follow = Follow {
            kind: Kind::Topic,
            name,
            quiet: false,
            members: true,
            history: 0,
            since,
            past: Offset(0),
            data,
            instead: None,
        };
        let subscription = self.client.follow(follow).unwrap();
        self.run();
        subscription
    }
}

#[test]
fn members_are_told_whole_and_then_what_changes_and_whole_again_on_the_next_connection() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.enter(1, "ann");
    scene.follow_members("room");
    assert_eq!(scene.heard(), ["new", "all", "members +ann"]);
    scene.enter(2, "bob");
    scene.run();
    assert_eq!(scene.heard(), ["change +bob"]);
    scene.roster.change(MemberId([0, 0, 0, 0, 0, 0, 0, 1]), |member| member.presence = Presence::Away(UnixMillis(7)));
    scene.roster.leave(MemberId([0, 0, 0, 0, 0, 0, 0, 2]));
    scene.members_changed();
    scene.run();
    assert_eq!(scene.heard(), ["change ~ann -2"]);
    scene.reconnect();
    assert_eq!(scene.heard(), ["recovered", "all", "members ~ann"]);
}

#[test]
fn who_did_not_ask_for_members_is_not_told() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("room");
    scene.enter(1, "ann");
    scene.run();
    assert_eq!(scene.heard(), ["new", "all"]);
}

#[test]
fn a_slow_client_is_told_once_what_became_of_a_member_that_changed_often() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow_members("room");
    scene.enter(1, "ann");
    scene.run();
    scene.heard();
    let time = scene.time();
    scene.server.as_mut().unwrap().handle_input(time, ServerInput::Congested(true));
    for round in 0..1_000 {
        let id = MemberId([0, 0, 0, 0, 0, 0, 0, 1]);
        scene.roster.change(id, |member| member.data = Payload::json(round.to_string()));
        scene.members_changed();
        scene.run();
    }
    scene.server.as_mut().unwrap().handle_input(time, ServerInput::Congested(false));
    scene.run();
    assert_eq!(scene.heard(), ["change +ann"]);
}

#[test]
fn what_is_volatile_is_told_to_whoever_keeps_up_and_dropped_for_who_does_not() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    scene.follow("room");
    scene.heard();
    let handle = *scene.open.keys().next().unwrap();
    let server = scene.server.as_mut().unwrap();
    assert_eq!(server.tell_volatile(handle, UnixMillis(1), &Bytes::from("a")), Sent::Queued);
    assert_eq!(server.tell_volatile(Handle(99), UnixMillis(1), &Bytes::from("a")), Sent::Dropped);
    scene.run();
    assert_eq!(scene.heard(), ["volatile a"]);
    let time = scene.time();
    let server = scene.server.as_mut().unwrap();
    server.handle_input(time, ServerInput::Congested(true));
    let large = Bytes::from(vec![b'x'; 16_000]);
    let sent = (0..100).filter(|_| server.tell_volatile(handle, UnixMillis(1), &large) == Sent::Queued).count();
    assert!((1..=6).contains(&sent), "{sent}");
    server.handle_input(time, ServerInput::Congested(false));
    scene.run();
    assert_eq!(scene.heard().len(), sent);
}

/// What waited for a client that reads nothing was bounded for each of its channels, and not for all of them together:
/// 1,024 times 320 KiB.
#[test]
fn regression_what_waits_for_all_channels_of_a_client_that_reads_nothing_is_bounded() {
    let mut scene = Scene::new(Beginning::Newest(256));
    Arc::get_mut(&mut scene.config).unwrap().limits.max_channels = 300;
    scene.client.start(scene.time());
    scene.run();
    let content = Bytes::from(vec![7; 8 * 1024]);
    for room in 0..200 {
        for _ in 0..40 {
            scene.append(&format!("room {room}"), content.clone());
        }
    }
    let time = scene.time();
    scene.server.as_mut().unwrap().handle_input(time, ServerInput::Congested(true));
    for room in 0..200 {
        scene.follow(&format!("room {room}"));
    }
    // New ones for everybody do not change that.
    for room in 0..200 {
        scene.append(&format!("room {room}"), content.clone());
        scene.run();
    }
    let waiting = scene.server.as_ref().unwrap().waiting_in_channels();
    assert!((1 << 20..(1 << 20) + 8 * (256 + 64) * 1024).contains(&waiting), "{waiting}");
    scene.server.as_mut().unwrap().handle_input(time, ServerInput::Congested(false));
    scene.run();
    assert_eq!(scene.server.as_ref().unwrap().waiting_in_channels(), 0);
    let heard = std::mem::take(&mut scene.heard);
    let updates = heard.iter().filter(|(_, event)| matches!(event, ChannelEvent::Update { .. })).count();
    // 256 KiB of each history, the last may stand out, and the one that came after.
    assert!((200 * 32..=200 * 41).contains(&updates), "{updates}");
}

#[test]
fn a_client_asks_for_what_is_past_and_says_what_is_new_of_it() {
    let mut scene = Scene::connected(Beginning::Newest(10));
    let (time, room) = (scene.time(), Name::new("room").unwrap());
    let data = Some(Payload::json("1"));
    let follow = Follow {
        kind: Kind::Topic,
        name: room.clone(),
        quiet: false,
        members: true,
        history: 0,
        since: None,
        past: Offset(0),
        data,
        instead: None,
    };
    scene.client.follow(follow).unwrap();
    let options = || CallOptions::default();
    let large = Payload::bytes(vec![0; 4_097]);
    let present = (RequestKind::Present, Kind::Topic);
    assert_eq!(scene.client.request(time, present.clone(), room.clone(), large, options()), Err(Refused::TooLarge));
    scene.client.request(time, present, room.clone(), Payload::json("2"), options()).unwrap();
    scene.silent = true;
    scene.cut();
    // On the next connection it says the newer.
    scene.run();
    scene.at += 30_000;
    scene.client.handle_input(scene.time(), ClientInput::Wake);
    let mut said = None;
    for _ in 0..100 {
        scene.drain_client();
        let Some(server) = &mut scene.server else { continue };
        match server.poll_output() {
            ServerOutput::Event(ServerEvent::Channel(wish)) => {
                let ChannelWish::Open(open) = *wish else { continue };
                said = open.data;
                break;
            }
            ServerOutput::Event(ServerEvent::Arrived(_)) => {
                server.admit(time, UnixMillis(0), None, Admission::default());
            }
            ServerOutput::Transmit(record) => {
                let socket = scene.socket.unwrap();
                scene.client.handle_input(time, ClientInput::Socket(socket, SocketInput::Record(record)));
            }
            _ => {}
        }
    }
    assert_eq!(said, Some(Payload::json("2")));
}
