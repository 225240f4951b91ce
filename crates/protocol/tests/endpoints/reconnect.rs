//! Sockets come and go; the client stays.

use std::{collections::BTreeSet, time::Duration};

use moorline_protocol::{
    PeerEvent,
    backoff::BackoffConfig,
    client::{ClientEvent, ClientInput, SocketId, SocketInput, Status},
    code::Code,
    payload::Payload,
    server::{HandshakeFailure, ServerEvent},
};

use crate::pair::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_happens_before_the_start_and_a_second_start_does_nothing() {
    let mut pair = Pair::new(Setup::default());
    pair.advance(3_600 * SECOND);
    assert_eq!((pair.sockets, pair.client_heard.len()), (0, 0));
    pair.client.start(pair.now);
    pair.client.start(pair.now);
    pair.run();
    pair.client.start(pair.now);
    pair.run();
    assert_eq!(pair.sockets, 1);
    assert!(pair.is_connected());
}

#[test]
fn a_client_closed_before_anything_was_drained_opens_no_socket_that_stays() {
    let mut pair = Pair::new(Setup::default());
    pair.client.close();
    pair.client.start(pair.now);
    pair.advance(60 * SECOND);
    assert_eq!(pair.sockets, 0);
    assert_eq!(pair.client_heard, [ClientEvent::Status(Status::Closed(None))]);
}

#[test]
fn what_an_older_socket_says_is_passed_over() {
    let mut pair = Setup::default().connect();
    let old = pair.socket_id();
    let record = pair.sent(Down)[1].clone();
    pair.cut();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected() && pair.socket_id() != old);
    let heard = pair.client_heard.len();
    for socket in [old, SocketId(0), SocketId(u64::MAX)] {
        for input in [
            SocketInput::Opened,
            SocketInput::Record(record.clone()),
            SocketInput::Text,
            SocketInput::Oversized,
            SocketInput::Congested(true),
            SocketInput::Closed(1006),
        ] {
            pair.client.handle_input(pair.now, ClientInput::Socket(socket, input));
            pair.run();
        }
    }
    assert_eq!(pair.client_heard.len(), heard);
    pair.server_heard.clear();
    pair.call("1");
    pair.run();
    assert_eq!(pair.take_server_peer().len(), 1, "the newest socket is neither gone nor congested");
}

#[test]
fn a_lost_connection_is_made_again_for_the_same_key_and_session() {
    let mut pair = Setup::default().connect();
    for _ in 0..5 {
        pair.cut();
        pair.advance(30 * SECOND);
        assert!(pair.is_connected());
    }
    let keys = pair.server_heard.iter().filter_map(|event| match event {
        ServerEvent::Arrived(arrival) => arrival.client_key,
        _ => None,
    });
    let sessions = pair.client_heard.iter().filter_map(|event| match event {
        ClientEvent::Session(session) => Some(session),
        _ => None,
    });
    let (keys, sessions): (Vec<_>, Vec<_>) = (keys.collect(), sessions.collect());
    assert_eq!((keys.len(), sessions.len()), (6, 6));
    assert_eq!(BTreeSet::from_iter(keys).len(), 1);
    assert_eq!(sessions.iter().map(|session| session.id).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(
        sessions.iter().map(|session| session.resumed).collect::<Vec<_>>(),
        [false, true, true, true, true, true]
    );
    assert_eq!(pair.sessions(), (1, 0));
    assert_eq!(pair.resets(), []);
}

#[test]
fn tries_are_counted_from_the_last_connection() {
    let mut pair = Pair::new(Setup::default());
    pair.reachable = false;
    pair.client.start(pair.now);
    pair.advance(5 * SECOND);
    let tries = |pair: &Pair| {
        let numbers = pair.client_heard.iter().filter_map(|event| match event {
            ClientEvent::Status(Status::Connecting { attempt, retry_in: None, .. }) => Some(*attempt),
            _ => None,
        });
        numbers.collect::<Vec<_>>()
    };
    let numbers = tries(&pair);
    assert!(numbers.len() > 3);
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
    pair.reachable = true;
    pair.advance(60 * SECOND);
    assert!(pair.is_connected());
    pair.client_heard.clear();
    pair.cut();
    pair.advance(30 * SECOND);
    assert_eq!(tries(&pair), [1]);
}

#[test]
fn no_wait_is_longer_than_the_cap() {
    let mut pair = Pair::new(Setup::default());
    pair.reachable = false;
    pair.client.start(pair.now);
    pair.advance(3_600 * SECOND);
    let waits: Vec<_> = pair
        .client_heard
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Status(Status::Connecting { retry_in, .. }) => *retry_in,
            _ => None,
        })
        .collect();
    assert!(waits.iter().all(|wait| *wait <= 20 * SECOND), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 10 * SECOND), "{waits:?}");
    assert!(waits.len() > 180, "{} tries in an hour", waits.len());
}

#[test]
fn a_wait_ends_at_once_when_asked() {
    let mut pair = Setup::default().connect();
    pair.cut();
    pair.run();
    assert!(!pair.is_connected());
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.is_connected());
    pair.client.retry_now(pair.now);
    pair.run();
    assert_eq!(pair.sockets, 2, "asked for while connected it does nothing");
}

#[test]
fn without_back_off_the_first_failure_is_the_last() {
    let mut setup = Setup::default();
    setup.client.backoff = None;
    let mut pair = Pair::new(setup);
    pair.reachable = false;
    pair.client.start(pair.now);
    pair.advance(60 * SECOND);
    assert!(matches!(pair.last_status(), Some(Status::Closed(Some(_)))));
}

#[test]
fn a_back_off_of_nothing_is_no_busy_loop() {
    let mut setup = Setup::default();
    setup.client.backoff = Some(BackoffConfig { base: Duration::ZERO, cap: Duration::ZERO, stable: Duration::ZERO });
    let mut pair = setup.connect();
    for _ in 0..100 {
        pair.cut();
        pair.advance(Duration::from_millis(1));
        assert!(pair.is_connected());
    }
}

#[test]
fn a_try_that_takes_too_long_is_given_up_whatever_it_waits_for() {
    // HS1 lost, HS2 lost, HS3 lost, Welcome lost
    for lost in [(Up, 0), (Down, 0), (Up, 1), (Down, 1)] {
        let mut pair = Pair::new(Setup::default());
        pair.bend = Box::new(
            move |direction, number, record| {
                if (direction, number) == lost { Vec::new() } else { vec![record] }
            },
        );
        pair.client.start(pair.now);
        pair.advance(10 * SECOND);
        assert!(pair.sockets >= 1 && !pair.is_connected(), "{lost:?}");
        pair.bend = Box::new(|_, _, record| vec![record]);
        pair.advance(30 * SECOND);
        assert!(pair.is_connected(), "{lost:?}");
    }
}

#[test]
fn the_server_gives_a_handshake_five_seconds() {
    for lost in [(Up, 0), (Down, 0), (Up, 1)] {
        let mut pair = Pair::new(Setup::default());
        pair.bend = Box::new(
            move |direction, number, record| {
                if (direction, number) == lost { Vec::new() } else { vec![record] }
            },
        );
        pair.client.start(pair.now);
        pair.advance(5 * SECOND - Duration::from_millis(1));
        assert_eq!(pair.server_closed, []);
        pair.advance(Duration::from_millis(1));
        assert_eq!(pair.server_closed, [Code::HANDSHAKE_FAILED]);
        assert_eq!(pair.server_heard, [ServerEvent::HandshakeFailed(HandshakeFailure::Deadline)]);
    }
}

#[test]
fn a_reliable_notification_waits_for_a_connection_and_a_volatile_one_does_not() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    pair.cut();
    pair.run();
    pair.client.notify(name("kept"), Payload::json("1"), false).expect("room");
    pair.client.notify(name("dropped"), Payload::json("1"), true).expect("dropping is no error");
    pair.advance(30 * SECOND);
    let expected = PeerEvent::Message { name: name("kept"), payload: Payload::json("1"), volatile: false };
    assert_eq!(pair.take_server_peer(), [expected]);
}

#[test]
fn a_socket_cut_at_any_record_of_the_handshake_is_made_again() {
    for suite in moorline_protocol::record::Suite::ALL {
        for cut_at in 0..6usize {
            let mut pair = Pair::new(Setup::suite(suite));
            let mut sent = 0;
            pair.bend = Box::new(move |_, _, record| {
                sent += 1;
                if sent > cut_at { Vec::new() } else { vec![record] }
            });
            pair.client.start(pair.now);
            pair.run();
            pair.cut();
            pair.run();
            pair.bend = Box::new(|_, _, record| vec![record]);
            pair.advance(30 * SECOND);
            assert!(pair.is_connected(), "{suite:?} cut at {cut_at}");
        }
    }
}
