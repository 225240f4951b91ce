//! Each side notices on its own that the other is silently gone.

use std::time::Duration;

use moorline_protocol::{
    code::Code,
    heartbeat::HeartbeatConfig,
    payload::Payload,
    server::{Ended, ServerEvent},
    session::Broadcast,
};

use crate::pair::*;

const SECOND: Duration = Duration::from_secs(1);

/// A connected pair whose wire swallows everything from now on.
fn half_open() -> Pair {
    let mut pair = Setup::default().connect();
    pair.bend = Box::new(|_, _, _| Vec::new());
    pair
}

#[test]
fn a_silent_connection_holds_with_few_pings() {
    let mut pair = Setup::default().connect();
    let before = pair.sent.len();
    pair.advance(3_600 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.sockets, 1);
    // A ping and its pong every 25 s; the client, at 30 s, never has to ask.
    assert_eq!(pair.sent.len() - before, 2 * 3_600 / 25);
}

#[test]
fn the_server_asks_after_25_seconds_and_gives_up_10_later() {
    let mut pair = half_open();
    pair.server_heard.clear();
    pair.advance(25 * SECOND - Duration::from_millis(1));
    let before = pair.sent(Down).len();
    pair.advance(Duration::from_millis(1));
    assert_eq!(pair.sent(Down).len(), before + 1);
    pair.advance(10 * SECOND - Duration::from_millis(1));
    assert_eq!(pair.server_closed, []);
    pair.advance(Duration::from_millis(1));
    assert_eq!(pair.server_closed, [Code::LIVENESS_TIMEOUT]);
    assert_eq!(pair.server_heard, [ServerEvent::Parked(Ended::Closed(Code::LIVENESS_TIMEOUT))]);
}

#[test]
fn the_client_asks_after_30_seconds_and_gives_up_10_later() {
    let mut setup = Setup::default();
    setup.server.heartbeat = HeartbeatConfig { idle: 3_600 * SECOND, grace: 3_600 * SECOND };
    let mut pair = setup.connect();
    pair.bend = Box::new(|_, _, _| Vec::new());
    let before = pair.sent(Up).len();
    pair.advance(30 * SECOND);
    assert_eq!(pair.sent(Up).len(), before + 1);
    pair.advance(10 * SECOND - Duration::from_millis(1));
    assert!(pair.is_connected());
    pair.advance(Duration::from_millis(1));
    assert_eq!(pair.client_closed, [Code::LIVENESS_TIMEOUT]);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::LIVENESS_TIMEOUT));
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.advance(SECOND);
    assert!(pair.is_connected(), "and connects again");
}

#[test]
fn any_record_is_a_sign_of_life() {
    let mut pair = Setup::default().connect();
    let before = pair.sent.len();
    let note = Broadcast::new(name("note"), Payload::json("1"), false).expect("small");
    for _ in 0..20 {
        pair.advance(20 * SECOND);
        pair.client.notify(name("note"), Payload::json("1"), false).expect("room");
        pair.server().send(&note).expect("room");
        pair.run();
    }
    pair.advance(SECOND);
    assert_eq!(pair.sent.len() - before, 80, "the notifications and their acknowledgements, and nobody had to ask");
}

#[test]
fn a_record_that_does_not_open_is_no_sign_of_life() {
    let mut pair = half_open();
    pair.advance(24 * SECOND);
    pair.inject(Up, vec![0x10; 40]);
    pair.run();
    assert_eq!(pair.server_closed, [Code::RECORD_REFUSED]);
}

#[test]
fn a_machine_that_slept_asks_once_before_it_gives_up() {
    let mut pair = half_open();
    let before = (pair.sent(Up).len(), pair.sent(Down).len());
    pair.now = pair.now + 8 * 3_600 * SECOND;
    pair.wake();
    assert!(pair.is_connected());
    assert_eq!((pair.sent(Up).len(), pair.sent(Down).len()), (before.0 + 1, before.1 + 1), "one ping each, no burst");
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.advance(10 * SECOND);
    assert!(!pair.is_connected(), "what was swallowed leaves a gap that no record passes");
}

#[test]
fn the_round_trip_is_known_after_welcome_and_when_asked() {
    let mut pair = Setup::default().connect();
    assert_eq!(pair.client.rtt(), Some(Duration::ZERO));
    pair.congest(Up, true);
    pair.client.ping(pair.now);
    pair.advance(Duration::from_millis(70));
    pair.congest(Up, false);
    pair.run();
    assert_eq!(pair.client.rtt(), Some(Duration::from_millis(70)));
    pair.cut();
    pair.run();
    assert_eq!(pair.client.rtt(), None);
}
