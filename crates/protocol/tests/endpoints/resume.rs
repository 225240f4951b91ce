//! A session survives its connections: nothing is lost, doubled or reordered, and where that cannot be, one reset says so.

use std::{cell::Cell, rc::Rc, time::Duration};

use moorline_protocol::{
    PeerEvent,
    client::{ClientEndpoint, ClientEvent, ClientInput, SocketInput, Status},
    code::Code,
    error::{Refused, Violation},
    frame::{CallId, ResetReason},
    payload::Payload,
    server::{Ended, ServerEvent},
    session::{Broadcast, CallOptions, Outcome, Sent, Unconfirmed},
    subject::{Subject, Tenant},
    time::UnixMillis,
};

use crate::{
    foreign::{CLIENT_ID, Foreign, frame, note, varint},
    pair::*,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const ACK_AFTER: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(120);

fn json(text: &str) -> Payload {
    Payload::json(text.to_owned())
}

fn broadcast(text: &str) -> Broadcast {
    Broadcast::new(name("note"), json(text), false).expect("small")
}

fn tell(pair: &mut Pair, text: &str) {
    pair.client.notify(name("note"), json(text), false).expect("room");
}

fn tell_client(pair: &mut Pair, text: &str) {
    pair.server().send(&broadcast(text)).expect("room");
}

fn ask(pair: &mut Pair, text: &str) -> CallId {
    pair.client.call(pair.now, name("ask"), json(text), CallOptions::default()).expect("room")
}

fn ask_client(pair: &mut Pair, text: &str) -> CallId {
    let now = pair.now;
    pair.server().call(now, name("ask"), json(text), CallOptions::default()).expect("room")
}

fn keyed(pair: &mut Pair, text: &str) -> CallId {
    let mut options = CallOptions::default();
    options.key = Some(name(text));
    pair.client.call(pair.now, name("ask"), json(text), options).expect("room")
}

/// What an application heard, as text, in order.
fn texts(heard: Vec<PeerEvent>) -> Vec<String> {
    let of = |payload: &Payload| String::from_utf8_lossy(&payload.bytes).into_owned();
    let texts = heard.iter().map(|event| match event {
        PeerEvent::Message { payload, .. } => of(payload),
        PeerEvent::Call { payload, .. } => format!("{}?", of(payload)),
        PeerEvent::Settled { id, outcome: Outcome::Reply(payload) } => format!("{} = {}", id.0, of(payload)),
        PeerEvent::Settled { id, outcome } => format!("{} {outcome:?}", id.0),
        PeerEvent::Cancelled(id) => format!("cancelled {}", id.0),
        PeerEvent::Confirmed(receipt) => format!("confirmed {}", receipt.0),
        PeerEvent::Item { id, payload } => format!("{}: {}", id.0, of(payload)),
        PeerEvent::Credit(id) => format!("credit {}", id.0),
        PeerEvent::Room => "room".to_owned(),
    });
    texts.collect()
}

fn kinds(heard: &[ClientEvent]) -> Vec<&'static str> {
    let kinds = heard.iter().map(|event| match event {
        ClientEvent::Status(Status::Connecting { .. }) => "connecting",
        ClientEvent::Status(Status::Connected) => "connected",
        ClientEvent::Status(Status::Closed(_)) => "closed",
        ClientEvent::Reset(_) => "reset",
        ClientEvent::Refused(..) => "refused",
        ClientEvent::Session(_) => "session",
        ClientEvent::Authenticated(..) => "authenticated",
        ClientEvent::Warned(..) => "warned",
        ClientEvent::Peer(PeerEvent::Message { .. }) => "message",
        ClientEvent::Peer(PeerEvent::Settled { .. }) => "settled",
        ClientEvent::Peer(PeerEvent::Cancelled(_)) => "cancelled",
        ClientEvent::Peer(_) => "peer",
    });
    kinds.collect()
}

/// What both applications heard in the conversation below.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    client: Vec<String>,
    server: Vec<String>,
    resets: usize,
}

/// A pair whose applications answer every call, and whose connection is cut as its test wants.
struct Conversation {
    pair: Pair,
    /// The connection is to be cut; until then nothing passes any more.
    cut: Rc<Cell<bool>>,
    heard: Heard,
    cuts: usize,
}

impl Conversation {
    /// Lets everything happen, answers what is asked, and comes back after every cut.
    fn settle(&mut self) {
        loop {
            self.pair.run();
            if self.cut.take() {
                self.cuts += 1;
                assert!(self.cuts < 1_000, "no rest");
                self.pair.reconnect();
                continue;
            }
            let (client, server) = self.take();
            if client.is_empty() && server.is_empty() {
                return;
            }
            for event in &server {
                if let PeerEvent::Call { id, payload, .. } = event {
                    self.pair.server().answer(*id, Ok(payload.clone())).expect("small");
                }
            }
            for event in &client {
                if let PeerEvent::Call { id, payload, .. } = event {
                    self.pair.client.answer(self.pair.now, *id, Ok(payload.clone())).expect("small");
                }
            }
            self.heard.client.extend(texts(client));
            self.heard.server.extend(texts(server));
        }
    }

    fn take(&mut self) -> (Vec<PeerEvent>, Vec<PeerEvent>) {
        self.heard.resets += self.pair.resets().len();
        (self.pair.take_client_peer(), self.pair.take_server_peer())
    }

    fn run(mut self) -> (Heard, usize) {
        for round in 0..5 {
            let text = |what: &str| format!("{what}{round}");
            tell(&mut self.pair, &text("a"));
            ask(&mut self.pair, &text("b"));
            tell(&mut self.pair, &text("c"));
            tell_client(&mut self.pair, &text("d"));
            ask_client(&mut self.pair, &text("e"));
            tell_client(&mut self.pair, &text("f"));
            self.settle();
            // One behind the other, so that there are more places to cut.
            tell(&mut self.pair, &text("g"));
            self.settle();
            tell_client(&mut self.pair, &text("h"));
            self.settle();
            ask(&mut self.pair, &text("i"));
            self.settle();
            ask_client(&mut self.pair, &text("j"));
            self.settle();
            self.pair.client.notify_confirmed(name("note"), json(&text("k"))).expect("room");
            self.settle();
            // What is owed is acknowledged.
            self.pair.advance(ACK_AFTER);
            self.settle();
        }
        (self.heard, self.cuts)
    }
}

/// The conversation, cut after every record of a direction that `is_cut` says so of (they are counted from 0 over all
/// connections), with that record delivered or not.
fn converse(
    setup: Setup,
    direction: Direction,
    delivered: bool,
    is_cut: impl Fn(usize) -> bool + 'static,
) -> (Heard, usize, usize) {
    let mut pair = setup.connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    let cut = Rc::new(Cell::new(false));
    let count = Rc::new(Cell::new(0));
    let (cutting, counting) = (cut.clone(), count.clone());
    pair.bend = Box::new(move |sent, _, record| {
        if cutting.get() {
            return Vec::new();
        }
        if sent == direction {
            let number = counting.replace(counting.get() + 1);
            cutting.set(is_cut(number));
            if cutting.get() && !delivered {
                return Vec::new();
            }
        }
        vec![record]
    });
    let (heard, cuts) = Conversation { pair, cut, heard: Heard::default(), cuts: 0 }.run();
    (heard, cuts, count.get())
}

/// The main lane in its order, and the rest, which may come between, by itself.
fn lanes(heard: &[String]) -> (Vec<&String>, Vec<&String>) {
    let (mut settled, main): (Vec<_>, Vec<_>) = heard.iter().partition(|text| text.contains('=') || text.contains(' '));
    settled.sort();
    (main, settled)
}

fn assert_same(heard: &Heard, expected: &Heard, case: &str) {
    assert_eq!(lanes(&heard.client), lanes(&expected.client), "{case}");
    assert_eq!(lanes(&heard.server), lanes(&expected.server), "{case}");
    assert_eq!(heard.resets, 0, "{case}");
}

#[test]
fn nothing_is_lost_doubled_or_reordered_wherever_the_connection_is_cut() {
    let (expected, _, _) = converse(Setup::plain(), Up, true, |_| false);
    assert_eq!(expected.server.iter().filter(|text| text.ends_with('?')).count(), 10);
    assert_eq!(expected.client.iter().filter(|text| text.contains('=')).count(), 10);
    assert_eq!(expected.client.iter().filter(|text| text.starts_with("confirmed")).count(), 5);
    for direction in [Up, Down] {
        let (_, _, records) = converse(Setup::plain(), direction, true, |_| false);
        assert!(records > 20, "only {records} places to cut");
        for place in 0..records {
            for delivered in [true, false] {
                let (heard, cuts, _) = converse(Setup::plain(), direction, delivered, move |number| number == place);
                assert_eq!(cuts, 1);
                assert_same(&heard, &expected, &format!("{direction:?} {place} delivered {delivered}"));
            }
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_however_often_the_connection_is_cut() {
    let (expected, _, _) = converse(Setup::default(), Up, true, |_| false);
    for direction in [Up, Down] {
        for every in 4..12 {
            for delivered in [true, false] {
                let (heard, cuts, _) =
                    converse(Setup::default(), direction, delivered, move |number| (number + 1) % every == 0);
                assert!(cuts > 1);
                assert_same(&heard, &expected, &format!("{direction:?} every {every} delivered {delivered}"));
            }
        }
    }
}

#[test]
fn a_welcome_that_is_lost_loses_nothing() {
    let mut pair = Setup::default().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.cut();
    pair.run();
    tell(&mut pair, "up");
    tell_client(&mut pair, "down");
    // HS2 arrives, Welcome and what is with it do not; the server hears of it late.
    pair.bend = Box::new(|direction, number, record| match (direction, number) {
        (Down, 1..) => Vec::new(),
        _ => vec![record],
    });
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.server_heard.contains(&ServerEvent::Resumed));
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.half_cut(1006);
    pair.run();
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.is_connected());
    assert_eq!(pair.resets(), []);
    assert_eq!(texts(pair.take_server_peer()), ["up"]);
    assert_eq!(texts(pair.take_client_peer()), ["down"]);
    assert_eq!(pair.sessions(), (1, 0));
}

#[test]
fn what_is_sent_again_though_it_arrived_is_dropped_and_acknowledged_again() {
    for mut ours in Foreign::both() {
        for text in ["1", "2", "3"] {
            ours.say(&note(text));
        }
        assert_eq!(ours.notes(), ["1", "2", "3"]);
        ours.resume(0);
        assert_eq!(ours.told, Some(3));
        ours.say_seq(1);
        ours.frames();
        for text in ["1", "2", "3", "4"] {
            ours.say(&note(text));
        }
        assert_eq!(ours.notes(), ["4"]);
        ours.advance(ACK_AFTER);
        assert_eq!(ours.acks(), [4]);
        ours.resume(0);
        ours.say_seq(3);
        ours.frames();
        ours.say(&note("3"));
        assert_eq!(ours.notes(), [""; 0]);
        ours.advance(ACK_AFTER);
        assert_eq!(ours.acks(), [3], "as far as this connection has carried it");
    }
}

#[test]
fn each_sides_first_frame_on_a_resumed_connection_is_its_next_number() {
    for mut ours in Foreign::both() {
        for (text, next) in [("1", 1), ("2", 1), ("3", 1)] {
            ours.notify(text);
            ours.resume(0);
            let frames: Vec<_> = ours.frames().into_iter().filter(|(kind, ..)| *kind != 0x01).collect();
            assert_eq!(frames[0], (0x05, 0, varint(next)));
        }
        ours.resume(2);
        let frames: Vec<_> = ours.frames().into_iter().filter(|(kind, ..)| *kind != 0x01).collect();
        assert_eq!(frames[0], (0x05, 0, varint(3)));
        assert_eq!(frames[1].0, 0x14, "what was not confirmed follows");
        assert_eq!(frames.len(), 2);
    }
}

/// Ours refuses what the test said, and the session is over on both of our sides.
fn assert_spoilt(mut ours: Foreign, case: &str) {
    assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION), "{case}");
    assert_eq!(ours.notes(), [""; 0], "{case}");
    if ours.is_server() {
        assert!(
            matches!(ours.ended, Some((Ended::Violation(Violation::WrongSequence), _))),
            "{case}: {:?}",
            ours.ended
        );
    } else {
        assert_eq!(ours.resets.len(), 1, "{case}");
        assert_eq!(ours.resets[0].reason, ResetReason::Unknown, "{case}");
    }
}

#[test]
fn a_number_that_does_not_fit_is_a_violation() {
    type Say = fn(&mut Foreign);
    let cases: [(&str, Say); 5] = [
        ("none", |ours| ours.say(&note("x"))),
        ("two", |ours| {
            ours.say_seq(2);
            ours.say_seq(2);
        }),
        ("a gap", |ours| ours.say_seq(3)),
        ("zero", |ours| ours.say_seq(0)),
        ("the largest", |ours| ours.say_seq(u64::MAX)),
    ];
    for (case, say) in cases {
        for mut ours in Foreign::both() {
            ours.say(&note("1"));
            ours.heard();
            ours.resume(0);
            assert_eq!(ours.closed, None);
            say(&mut ours);
            assert_spoilt(ours, case);
        }
    }
    for mut ours in Foreign::both() {
        ours.say_seq(1);
        assert_spoilt(ours, "a number in a new session");
    }
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
    for number in [3, 4, u64::MAX] {
        for mut ours in Foreign::both() {
            ours.notify("1");
            ours.notify("2");
            ours.say_ack(number);
            assert_spoilt(ours, "never sent");
        }
    }
    for mut ours in Foreign::both() {
        ours.notify("1");
        ours.notify("2");
        ours.say_ack(2);
        assert_eq!(ours.closed, None);
        ours.say_ack(1);
        assert_spoilt(ours, "taken back");
    }
}

#[test]
fn an_acknowledgement_of_what_this_connection_has_not_carried_is_a_violation() {
    for mut ours in Foreign::both() {
        ours.notify("1");
        ours.resume(0);
        ours.say_seq(1);
        ours.say_ack(1);
        assert_eq!(ours.closed, None, "it was sent again");
        ours.congest(true);
        ours.notify("2");
        ours.say_ack(2);
        assert_spoilt(ours, "it waits for the socket");
    }
    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.congest(true);
    ours.welcome(Some(0));
    ours.say_seq(1);
    assert_eq!(ours.closed, None);
    ours.say_ack(1);
    assert_spoilt(ours, "an earlier connection carried it, and the other side has just said that it did not come");
}

#[test]
fn a_resumption_nobody_asked_for_is_a_violation() {
    let mut ours = Foreign::connecting(Setup::plain());
    ours.welcome(Some(0));
    assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION));
    assert_eq!(ours.resets, [], "there is no session to lose");

    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.welcome_with([99; 16], &[7, 1, 0]);
    assert_spoilt(ours, "another session than the one that was asked for");
}

#[test]
fn a_welcome_that_has_received_what_was_never_sent_is_a_violation() {
    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.welcome(Some(2));
    assert_spoilt(ours, "more than was sent");
}

/// Replaces in every plain hello the bytes of the field that names a session.
fn alter_resume(pair: &mut Pair, alter: impl Fn(Vec<u8>) -> Vec<u8> + 'static) {
    // The field is the last before the client's id: tag 5, its length, the session (16), the run (8), the number (1), the attempt (1), the
    // secret (16).
    const LENGTH: usize = 16 + 8 + 1 + 1 + 16;
    pair.bend = Box::new(move |direction, number, record| {
        if (direction, number) != (Up, 0) {
            return vec![record];
        }
        let (before, id) = record.split_at(record.len() - CLIENT_ID);
        let (head, resume) = before.split_at(before.len() - LENGTH);
        assert_eq!(head[head.len() - 2..], [5, LENGTH as u8]);
        let resume = alter(resume.to_vec());
        vec![[&head[..head.len() - 1], &[resume.len() as u8], &resume, id].concat().into()]
    });
}

fn ended(pair: &Pair) -> Vec<(Ended, usize)> {
    let ended = pair.server_heard.iter().filter_map(|event| match event {
        ServerEvent::Ended(ended, undelivered) => Some((*ended, *undelivered)),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_client_that_has_received_what_the_server_never_sent_gets_a_reset_and_the_session_is_over() {
    let mut pair = Setup::plain().connect();
    tell_client(&mut pair, "1");
    pair.run();
    alter_resume(&mut pair, |mut resume| {
        resume[24] = 100;
        resume
    });
    pair.cut();
    pair.run();
    let id = ask_client(&mut pair, "2");
    pair.server_heard.clear();
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.is_connected());
    assert_eq!(pair.resets().iter().map(|reset| reset.reason).collect::<Vec<_>>(), [ResetReason::Unknown]);
    assert_eq!(ended(&pair), [(Ended::Lost(ResetReason::Unknown), 2)]);
    let unknown = PeerEvent::Settled { id, outcome: Outcome::NotSent };
    assert!(pair.server_heard.contains(&ServerEvent::Peer(unknown)));
    assert_eq!(pair.sessions(), (1, 0));
}

#[test]
fn without_its_secret_nobody_gets_a_plain_session() {
    let wrong = |mut resume: Vec<u8>| {
        resume[41] ^= 1;
        resume
    };
    let none = |mut resume: Vec<u8>| {
        resume.truncate(26);
        resume
    };
    for alter in [wrong as fn(Vec<u8>) -> Vec<u8>, none] {
        let mut pair = Setup::plain().connect();
        pair.server_heard.clear();
        alter_resume(&mut pair, alter);
        pair.reconnect();
        assert!(pair.is_connected());
        assert_eq!(pair.resets()[0].reason, ResetReason::Unknown);
        assert_eq!(ended(&pair), [], "the session still waits for its client");
        assert_eq!(pair.sessions(), (1, 1));

        // From a server that does not look at it, he has it.
        let mut pair = Setup::plain().connect();
        pair.careless = Some(Careless::Proof);
        alter_resume(&mut pair, alter);
        pair.reconnect();
        assert_eq!((pair.resets().len(), pair.sessions()), (0, (1, 0)), "it is not the secret that stopped him");
    }
}

/// Another client, which knows the name of the session of the first: it has one of the same name, at a server of the same
/// randomness. It comes back to the server of the first.
fn thief_of(pair: &mut Pair) {
    let mut other = Pair::new(Setup::default());
    other.client = ClientEndpoint::new(Setup::default().client, seed_of(2, 0));
    other.client.start(other.now);
    other.run();
    let id = |pair: &Pair| {
        pair.client_heard.iter().find_map(|event| match event {
            ClientEvent::Session(session) => Some(session.id),
            _ => None,
        })
    };
    assert!(id(pair).is_some());
    assert_eq!(id(pair), id(&other));
    let socket = other.socket_id();
    pair.cut();
    pair.run();
    pair.client = other.client;
    pair.client.handle_input(pair.now, ClientInput::Socket(socket, SocketInput::Closed(1006)));
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.is_connected());
}

#[test]
fn a_session_of_another_key_is_not_given() {
    let mut pair = Setup::default().connect();
    thief_of(&mut pair);
    let reasons: Vec<_> = pair.resets().iter().map(|reset| reset.reason).collect();
    assert_eq!(reasons, [ResetReason::Unknown]);
    assert_eq!(pair.sessions(), (1, 1));

    // From a server that does not look at the key, he has it.
    let mut pair = Setup::default().connect();
    pair.careless = Some(Careless::Proof);
    thief_of(&mut pair);
    assert_eq!((pair.resets().len(), pair.sessions()), (0, (1, 0)), "it is not the key that stopped him");
}

#[test]
fn a_session_is_not_given_to_another_subject_though_the_key_is_the_same() {
    let subject = |name: &str| Subject::new(Tenant::default(), name).expect("the name of a test");
    let come_back_as_bob = |careless| {
        let mut pair = Pair::new(Setup::default());
        pair.careless = careless;
        pair.subject = subject("ann");
        pair.client.start(pair.now);
        pair.run();
        pair.subject = subject("bob");
        pair.reconnect();
        assert!(pair.is_connected());
        pair
    };
    let pair = come_back_as_bob(None);
    assert_eq!(pair.resets().iter().map(|reset| reset.reason).collect::<Vec<_>>(), [ResetReason::Unknown]);
    assert_eq!(pair.sessions(), (1, 1));

    // From a server that does not look at who he is, he has hers.
    let pair = come_back_as_bob(Some(Careless::Subject));
    assert_eq!((pair.resets().len(), pair.sessions()), (0, (1, 0)), "it is not the subject that stopped him");
}

#[test]
fn the_newest_connection_fences_the_older() {
    for setup in [Setup::plain(), Setup::default()] {
        let mut pair = setup.connect();
        let old = pair.sockets;
        tell(&mut pair, "before");
        pair.run();
        let record = pair.sent(Up).pop().expect("the notification");
        pair.half_cut(1006);
        pair.run();
        pair.server_heard.clear();
        pair.client.retry_now(pair.now);
        pair.run();
        assert!(pair.is_connected());
        assert_eq!(pair.server_closed, [Code::SUPERSEDED]);
        assert_eq!(pair.late.len(), 1);
        assert_eq!(pair.late[0].0, old);
        if pair.late[0].1[0] == 0x11 {
            // Goaway, its length, 4504.
            assert_eq!(pair.late[0].1[1..6], [0x03, 0, 12, 0x98, 0x23]);
        }
        let parked = pair.server_heard.iter().any(|event| matches!(event, ServerEvent::Parked(_)));
        assert!(!parked, "the session never was without a connection");

        pair.server_heard.clear();
        pair.inject_late(old, record);
        pair.run();
        assert_eq!(pair.server_heard, []);
        tell(&mut pair, "after");
        pair.run();
        assert_eq!(texts(pair.take_server_peer()), ["after"]);
        assert_eq!(pair.sessions(), (1, 0));
    }
}

/// Two handshakes of one client finished in the other order: its first socket stalled behind HS3, the client gave it up
/// and resumed on a second one, and then the first HS3 arrived. Taken for the newest, it fenced the connection that the
/// client was using, and where the server had meanwhile been told of more than it asked for, it lost the session.
#[test]
fn regression_a_late_connection_neither_fences_the_newest_nor_loses_the_session() {
    for setup in [Setup::plain(), Setup::default()] {
        let mut pair = setup.connect();
        tell_client(&mut pair, "1");
        pair.run();
        pair.cut();
        pair.run();
        // The record that names the session is held back on the second socket.
        let held = Rc::new(Cell::new(None));
        let keep = held.clone();
        pair.bend = Box::new(move |direction, _, record| {
            if direction == Up && matches!(record[0], 0x03 | 0x04) {
                keep.set(Some(record));
                return Vec::new();
            }
            vec![record]
        });
        pair.client.retry_now(pair.now);
        pair.run();
        let late = pair.sockets;
        let record = held.take().expect("HS3 or HELLO");
        pair.bend = Box::new(|_, _, record| vec![record]);
        pair.half_cut(1006);
        pair.run();
        pair.client.retry_now(pair.now);
        pair.run();
        assert!(pair.is_connected());
        // What the late one says it has received is long confirmed: for anybody else that would be a lost session.
        for text in ["2", "3"] {
            tell_client(&mut pair, text);
        }
        pair.run();
        pair.advance(ACK_AFTER);
        assert_eq!(pair.server().undelivered(), 0);
        pair.server_heard.clear();
        let resumed = pair.sockets;

        pair.inject_late(late, record);
        pair.run();
        assert_eq!(pair.late.last().map(|(number, _)| *number), Some(late), "it is told so");
        let of_late = [ServerEvent::Ended(Ended::Closed(Code::SUPERSEDED), 0)];
        assert!(matches!(pair.server_heard[0], ServerEvent::Arrived(_)));
        assert_eq!(pair.server_heard[1..], of_late);
        assert!(pair.is_connected());
        assert_eq!((pair.sockets, pair.sessions()), (resumed, (1, 0)));
        pair.server_heard.clear();
        pair.client_heard.clear();
        tell(&mut pair, "up");
        tell_client(&mut pair, "down");
        pair.run();
        assert_eq!(texts(pair.take_server_peer()), ["up"]);
        assert_eq!(texts(pair.take_client_peer()), ["down"]);
        pair.reconnect();
        assert!(pair.is_connected());
        assert_eq!(reasons(&pair), []);
    }
}

#[test]
fn a_session_is_kept_until_exactly_the_end_of_its_window() {
    for (away, kept) in [(WINDOW - MILLISECOND, true), (WINDOW, false)] {
        let mut pair = Setup::default().connect();
        pair.run();
        pair.advance(ACK_AFTER);
        pair.reachable = false;
        pair.cut();
        pair.run();
        tell_client(&mut pair, "1");
        tell_client(&mut pair, "2");
        pair.client_heard.clear();
        pair.server_heard.clear();
        pair.advance(away);
        assert_eq!(ended(&pair), if kept { vec![] } else { vec![(Ended::Lost(ResetReason::Expired), 2)] });
        pair.reachable = true;
        pair.client.retry_now(pair.now);
        pair.run();
        pair.advance(30 * SECOND);
        assert!(pair.is_connected());
        let reasons: Vec<_> = pair.resets().iter().map(|reset| reset.reason).collect();
        assert_eq!(reasons, if kept { vec![] } else { vec![ResetReason::Expired] });
        assert_eq!(texts(pair.take_client_peer()), if kept { vec!["1", "2"] } else { vec![] });
    }
}

#[test]
fn a_window_that_is_told_is_the_one_that_is_kept() {
    let mut setup = Setup::default();
    setup.server.resume_window = 3 * SECOND;
    let mut pair = setup.connect();
    let told = pair.client_heard.iter().find_map(|event| match event {
        ClientEvent::Session(session) => Some(session.welcome.resume_window_ms),
        _ => None,
    });
    assert_eq!(told, Some(3_000));
    pair.reachable = false;
    pair.cut();
    pair.advance(3 * SECOND - MILLISECOND);
    assert_eq!(pair.sessions(), (0, 1));
    pair.advance(MILLISECOND);
    assert_eq!(pair.sessions(), (0, 0));
}

/// A pair whose server keeps little for its client: 3 frames, and far beyond that 7.
fn narrow() -> Pair {
    let mut setup = Setup::default();
    setup.client.limits.max_message = 100;
    setup.server.limits.max_outgoing_frames = 3;
    setup.server.limits.max_outgoing_bytes = 1_000;
    setup.server.limits.max_calls_in_flight = 1;
    let mut pair = setup.connect();
    pair.server_heard.clear();
    pair
}

fn reasons(pair: &Pair) -> Vec<ResetReason> {
    pair.resets().iter().map(|reset| reset.reason).collect()
}

#[test]
fn what_was_promised_room_is_kept_beyond_the_cap_and_far_beyond_it_the_session_is_lost() {
    for parked in [true, false] {
        let mut pair = narrow();
        if parked {
            pair.cut();
            pair.run();
            pair.server_heard.clear();
        } else {
            pair.congest(Down, true);
        }
        for number in 1..=16 {
            if number > 3 {
                assert_eq!(pair.server().send(&broadcast("0")), Err(Refused::Backpressure));
            }
            assert_eq!(pair.server().deliver(&broadcast(&number.to_string())), Ok(Sent::Queued));
            pair.run();
            assert_eq!(ended(&pair), []);
        }
        assert_eq!(pair.server().deliver(&broadcast("17")), Ok(Sent::Queued));
        pair.run();
        assert_eq!(ended(&pair), [(Ended::Lost(ResetReason::Overflow), 17)]);
        assert_eq!(pair.server_closed, if parked { vec![] } else { vec![Code::SLOW_CONSUMER] });
        pair.client_heard.clear();
        pair.advance(30 * SECOND);
        assert!(pair.is_connected());
        assert_eq!(reasons(&pair), [ResetReason::Overflow]);
    }
}

#[test]
fn what_was_promised_room_arrives_in_its_order() {
    let mut pair = narrow();
    pair.cut();
    pair.run();
    for text in ["1", "2", "3", "4", "5"] {
        assert_eq!(pair.server().deliver(&broadcast(text)), Ok(Sent::Queued));
    }
    pair.client_heard.clear();
    pair.advance(30 * SECOND);
    assert_eq!(reasons(&pair), []);
    assert_eq!(texts(pair.take_client_peer()), ["1", "2", "3", "4", "5"]);
}

#[test]
fn what_must_not_be_missing_and_does_not_fit_ends_a_parked_session() {
    let mut pair = narrow();
    pair.cut();
    pair.run();
    pair.server_heard.clear();
    for text in ["1", "2", "3"] {
        assert_eq!(pair.server().send(&broadcast(text)), Ok(Sent::Queued));
    }
    assert_eq!(pair.server().send(&broadcast("4")), Err(Refused::Backpressure));
    pair.server().lose(ResetReason::Overflow);
    pair.run();
    assert_eq!(ended(&pair), [(Ended::Lost(ResetReason::Overflow), 3)]);
    pair.client_heard.clear();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(reasons(&pair), [ResetReason::Overflow]);
    assert_eq!(texts(pair.take_client_peer()), [""; 0]);
}

#[test]
fn what_must_not_be_missing_and_does_not_fit_ends_a_live_session_and_its_client_comes_back() {
    let mut setup = Setup::default();
    setup.server.limits.max_outgoing_frames = 1;
    let mut pair = setup.connect();
    pair.server_heard.clear();
    pair.congest(Down, true);
    assert_eq!(pair.server().send(&broadcast("1")), Ok(Sent::Queued));
    assert_eq!(pair.server().send(&broadcast("2")), Err(Refused::Backpressure));
    pair.server().lose(ResetReason::Overflow);
    pair.run();
    assert_eq!(ended(&pair), [(Ended::Lost(ResetReason::Overflow), 1)]);
    assert_eq!(pair.server_closed, [Code::SLOW_CONSUMER]);
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(reasons(&pair), [ResetReason::Overflow]);
}

#[test]
fn after_a_restart_exactly_what_was_sent_and_not_confirmed_is_listed() {
    let mut pair = Setup::default().connect();
    tell(&mut pair, "confirmed");
    pair.run();
    pair.advance(ACK_AFTER);
    let answered = ask(&mut pair, "answered");
    pair.run();
    pair.server().answer(answered, Ok(json("1"))).expect("small");
    pair.run();
    let confirmed = ask(&mut pair, "confirmed and not answered");
    pair.run();
    pair.advance(ACK_AFTER);
    tell(&mut pair, "sent");
    let receipt = pair.client.notify_confirmed(name("receipt"), json("sent")).expect("room");
    let called = ask(&mut pair, "sent");
    pair.bend = Box::new(|_, _, _| Vec::new());
    pair.run();
    pair.congest(Up, true);
    tell(&mut pair, "never transmitted");
    let waiting = ask(&mut pair, "never transmitted");
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.restart();
    pair.advance(30 * SECOND);
    let resets = pair.resets();
    assert_eq!(resets.len(), 1);
    assert_eq!(resets[0].reason, ResetReason::Restart);
    let of = |name_of: &str, call, receipt| Unconfirmed { name: name(name_of), call, receipt };
    assert_eq!(
        resets[0].unconfirmed,
        [of("note", None, None), of("receipt", None, Some(receipt)), of("ask", Some(called), None)]
    );
    assert_eq!(pair.settled(), [(confirmed, Outcome::Unknown), (called, Outcome::Unknown)]);
    assert_eq!(texts(pair.take_server_peer()), ["never transmitted", "never transmitted?"]);
    pair.server().answer(CallId(waiting.0), Ok(json("2"))).expect("small");
    pair.run();
    assert_eq!(pair.settled().last(), Some(&(waiting, Outcome::Reply(json("2")))));
}

#[test]
fn after_a_reset_what_was_never_transmitted_and_what_has_a_key_goes_out_once_in_its_order() {
    let mut pair = Setup::default().connect();
    let again = keyed(&mut pair, "again");
    let unknown = ask(&mut pair, "unknown");
    pair.run();
    pair.congest(Up, true);
    tell(&mut pair, "first");
    let carried = ask(&mut pair, "second");
    tell(&mut pair, "third");
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.restart();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.settled(), [(unknown, Outcome::Unknown)]);
    assert_eq!(texts(pair.take_server_peer()), ["again?", "first", "second?", "third"]);
    assert_eq!(pair.resets()[0].unconfirmed.iter().map(|lost| lost.call).collect::<Vec<_>>(), [Some(unknown)]);

    pair.client_heard.clear();
    pair.reconnect();
    assert_eq!(texts(pair.take_server_peer()), [""; 0], "once");
    for id in [again, carried] {
        pair.server().answer(id, Ok(json("1"))).expect("small");
    }
    pair.advance(ACK_AFTER);
    let mut settled = pair.settled();
    settled.sort_by_key(|(id, _)| *id);
    assert_eq!(settled, [(again, Outcome::Reply(json("1"))), (carried, Outcome::Reply(json("1")))]);
}

#[test]
fn giving_up_a_call_that_waits_to_go_out_again_takes_it_out_and_says_nothing() {
    for gives_up in [true, false] {
        let mut ours = Foreign::client(Setup::plain());
        let mut options = CallOptions::default();
        options.key = Some(name("k"));
        let id = ours.call(options);
        // The session is lost before there is another connection that the call could go out on.
        ours.say_seq(1);
        assert_eq!(ours.resets.len(), 1);
        ours.frames();
        if gives_up {
            ours.cancel(id);
        }
        ours.cut();
        ours.welcome(None);
        let kinds: Vec<_> = ours.frames().into_iter().map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, if gives_up { vec![] } else { vec![0x10] }, "neither Call nor Cancel");
        assert_eq!(ours.heard(), []);
    }
}

#[test]
fn a_call_with_a_key_carries_it_both_times() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    keyed(&mut pair, "k");
    pair.run();
    pair.restart();
    pair.advance(30 * SECOND);
    let keys = pair.take_server_peer().into_iter().filter_map(|event| match event {
        PeerEvent::Call { key, .. } => key,
        _ => None,
    });
    assert_eq!(keys.collect::<Vec<_>>(), [name("k"), name("k")]);
}

#[test]
fn a_reset_comes_once_and_before_anything_of_the_next_session() {
    let mut pair = Setup::default().connect();
    ask(&mut pair, "1");
    ask_client(&mut pair, "2");
    pair.run();
    pair.client_heard.clear();
    pair.restart();
    pair.run();
    assert_eq!(kinds(&pair.client_heard), ["connecting"], "nothing is known yet");
    pair.client.retry_now(pair.now);
    pair.run();
    tell_client(&mut pair, "3");
    pair.run();
    assert_eq!(
        kinds(&pair.client_heard),
        ["connecting", "connecting", "reset", "settled", "cancelled", "session", "connected", "message"]
    );
    pair.client_heard.clear();
    pair.reconnect();
    assert_eq!(pair.resets(), []);
}

#[test]
fn a_server_that_takes_a_new_session_without_a_reason_is_a_reset_all_the_same() {
    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.welcome_with([99; 16], &[]);
    assert_eq!(ours.resets.len(), 1);
    assert_eq!((ours.resets[0].reason, ours.resets[0].unconfirmed.len()), (ResetReason::Unknown, 1));
}

#[test]
fn a_bye_ends_a_session_at_once_and_it_is_not_to_be_had_again() {
    let mut pair = Setup::plain().connect();
    pair.server_heard.clear();
    pair.inject(Up, vec![0x11, 0x04, 0, 0]);
    pair.run();
    assert_eq!(pair.server_heard, [ServerEvent::Ended(Ended::Bye, 0)]);
    assert_eq!(pair.sessions(), (0, 0));
    // The client knows nothing of what was said in its name, and asks for its session.
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.resets().iter().map(|reset| reset.reason).collect::<Vec<_>>(), [ResetReason::Unknown]);

    pair.server_heard.clear();
    pair.client.close();
    pair.run();
    assert_eq!(pair.server_heard, [ServerEvent::Ended(Ended::Bye, 0)]);
}

#[test]
fn a_bye_while_welcome_is_on_its_way_leaves_no_session_behind() {
    for setup in [Setup::plain(), Setup::default()] {
        let mut pair = Pair::new(setup);
        pair.admission = Admission::Silence;
        pair.client.start(pair.now);
        pair.run();
        assert!(pair.arrived(), "the client waits for Welcome");
        pair.server_heard.clear();
        pair.client.close();
        pair.run();
        assert_eq!(pair.client_closed, [Code::NORMAL]);
        assert_eq!(ended(&pair), [(Ended::Bye, 0)]);
        // The decision comes too late.
        let now = pair.now;
        pair.server().admit(now, UnixMillis(0), None, Default::default());
        pair.run();
        assert_eq!(pair.sessions(), (0, 0));
    }
    for (setup, plain) in [(Setup::plain(), true), (Setup::default(), false)] {
        let mut pair = Pair::new(setup);
        // The server has let it in; Welcome does not come through.
        pair.bend = Box::new(move |direction, number, record| match (direction, number) {
            (Down, number) if plain || number > 0 => Vec::new(),
            _ => vec![record],
        });
        pair.client.start(pair.now);
        pair.run();
        assert_eq!(pair.sessions(), (1, 0));
        pair.server_heard.clear();
        pair.client.close();
        pair.run();
        assert_eq!(pair.server_heard, [ServerEvent::Ended(Ended::Bye, 0)]);
        assert_eq!(pair.sessions(), (0, 0));
    }
}

/// The session stayed parked until its window was over, although its client had said that it would not come back.
#[test]
fn regression_a_bye_before_the_decision_ends_the_session_that_was_asked_for() {
    for setup in [Setup::plain, Setup::default] {
        let mut pair = setup().connect();
        pair.admission = Admission::Silence;
        pair.cut();
        tell_client(&mut pair, "undelivered");
        pair.reconnect();
        assert_eq!(pair.sessions(), (0, 1), "the client waits for Welcome");
        pair.client.close();
        pair.run();
        pair.admit_late();
        assert_eq!(ended(&pair), [(Ended::Bye, 1)]);
        assert_eq!(pair.sessions(), (0, 0));
    }
}

#[test]
fn a_bare_close_parks_and_a_second_end_of_the_socket_changes_nothing() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    pair.cut();
    pair.run();
    assert_eq!(pair.server_heard, [ServerEvent::Parked(Ended::SocketClosed)]);
    let now = pair.now;
    pair.server().handle_input(now, moorline_protocol::server::ServerInput::SocketClosed);
    pair.server().handle_input(now, moorline_protocol::server::ServerInput::Text);
    pair.run();
    assert_eq!(pair.server_heard, [ServerEvent::Parked(Ended::SocketClosed)]);
    assert_eq!(pair.sessions(), (0, 1));
}

#[test]
fn a_receipt_is_confirmed_once_after_the_server_has_handed_the_message_on() {
    let mut pair = Setup::default().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.bend = Box::new(|_, _, _| Vec::new());
    let receipt = pair.client.notify_confirmed(name("note"), json("1")).expect("room");
    pair.run();
    assert_eq!(pair.take_client_peer(), [], "it has not arrived");
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.reconnect();
    assert_eq!(texts(pair.take_server_peer()), ["1"]);
    assert_eq!(pair.take_client_peer(), [PeerEvent::Confirmed(receipt)]);
    pair.reconnect();
    pair.advance(SECOND);
    assert_eq!(pair.take_client_peer(), [], "once");
}

#[test]
fn a_receipt_whose_acknowledgement_was_lost_is_confirmed_by_the_next_welcome() {
    let mut pair = Setup::default().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.bend = Box::new(|direction, _, record| if direction == Down { Vec::new() } else { vec![record] });
    let receipt = pair.client.notify_confirmed(name("note"), json("1")).expect("room");
    pair.run();
    assert_eq!(texts(pair.take_server_peer()), ["1"]);
    assert_eq!(pair.take_client_peer(), []);
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.reconnect();
    assert_eq!(pair.take_client_peer(), [PeerEvent::Confirmed(receipt)]);
    assert_eq!(pair.take_server_peer(), [], "it is not sent again");
}

#[test]
fn a_receipt_that_waits_for_the_connection_is_confirmed_in_the_next_session() {
    let mut pair = Setup::default().connect();
    pair.cut();
    pair.run();
    let receipt = pair.client.notify_confirmed(name("note"), json("1")).expect("room");
    pair.restart();
    pair.client_heard.clear();
    pair.advance(30 * SECOND);
    assert_eq!(pair.resets()[0].unconfirmed, []);
    assert_eq!(pair.take_client_peer(), [PeerEvent::Confirmed(receipt)]);
}

#[test]
fn an_acknowledgement_waits_for_64_frames() {
    for mut ours in Foreign::both() {
        // The second time, too: they are counted from the last acknowledgement.
        for number in [64, 128] {
            for _ in 0..63 {
                ours.say(&note("1"));
            }
            assert_eq!(ours.acks(), []);
            ours.say(&note("1"));
            assert_eq!(ours.acks(), [number]);
        }
        ours.advance(SECOND);
        assert_eq!(ours.acks(), [], "it was said");
    }
}

#[test]
fn an_acknowledgement_waits_for_64_kib() {
    for mut ours in Foreign::both() {
        let body = [b"\x01n\x00".as_slice(), &[0; 16 * 1024 - 3]].concat();
        for number in [4, 8] {
            for _ in 0..3 {
                ours.say(&frame(0x14, 0, &body));
            }
            assert_eq!(ours.acks(), []);
            ours.say(&frame(0x14, 0, &body));
            assert_eq!(ours.acks(), [number]);
        }
    }
}

#[test]
fn an_acknowledgement_waits_for_half_a_second_from_the_first_frame() {
    for mut ours in Foreign::both() {
        ours.say(&note("1"));
        ours.advance(ACK_AFTER - MILLISECOND);
        ours.say(&note("2"));
        assert_eq!(ours.acks(), []);
        ours.advance(MILLISECOND);
        assert_eq!(ours.acks(), [2]);
    }
}

#[test]
fn an_acknowledgement_that_is_asked_for_comes_at_once_and_after_the_message_is_handed_on() {
    for mut ours in Foreign::both() {
        ours.order.clear();
        ours.say(&frame(0x14, 1, b"\x01n\x011"));
        assert_eq!(ours.acks(), [1]);
        assert_eq!(ours.order, [0, 1], "the event, then the record");
    }
}

#[test]
fn an_acknowledgement_travels_with_what_is_sent_anyway() {
    for mut ours in Foreign::both() {
        ours.say(&note("1"));
        ours.order.clear();
        ours.notify("2");
        assert_eq!(ours.acks(), [1]);
        assert_eq!(ours.order, [2]);
        ours.advance(SECOND);
        assert_eq!(ours.acks(), []);
    }
}

#[test]
fn nothing_is_acknowledged_where_nothing_reliable_came() {
    for mut ours in Foreign::both() {
        ours.say(&frame(0x15, 0, b"\x01n\x011"));
        ours.say(&frame(0x07, 0, &[9]));
        ours.notify("1");
        ours.say_ack(1);
        ours.advance(10 * SECOND);
        assert_eq!(ours.acks(), []);
    }
}

#[test]
fn what_is_not_handed_on_is_not_acknowledged() {
    for mut ours in Foreign::both() {
        // The second is broken, and the third comes too late.
        ours.say(&[note("1"), frame(0x14, 1, b"\x01n\x09"), note("3")].concat());
        assert_eq!(ours.notes(), ["1"]);
        assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION));
        ours.advance(SECOND);
        assert_eq!(ours.acks(), []);
    }
}

#[test]
fn a_client_says_at_a_resumption_how_much_it_has_handed_on() {
    let mut ours = Foreign::client(Setup::plain());
    ours.say(&[note("1"), note("2")].concat());
    ours.cut();
    assert_eq!(ours.told, Some(2));
    ours.reset(ResetReason::Expired);
    ours.say(&note("1"));
    ours.cut();
    assert_eq!(ours.told, Some(1), "a new session counts anew");
}
