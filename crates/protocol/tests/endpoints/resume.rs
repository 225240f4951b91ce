//! Who gets a session back on its next connection, how long it waits for that, and what ends it.

use std::{cell::Cell, rc::Rc};

use moorline_protocol::{
    PeerEvent,
    client::{ClientEndpoint, ClientEvent, ClientInput, SocketInput},
    code::Code,
    frame::ResetReason,
    server::{Ended, ServerEvent},
    session::Outcome,
    subject::{Subject, Tenant},
    time::UnixMillis,
};

use crate::{
    foreign::CLIENT_ID,
    pair::*,
    talk::{ACK_AFTER, MILLISECOND, SECOND, WINDOW, ask_client, ended, reasons, tell, tell_client, texts},
};

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
