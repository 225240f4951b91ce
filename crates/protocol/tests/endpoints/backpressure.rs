//! What waits for the socket has caps, and something definite happens at each.

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::Refused,
    frame::CallId,
    limits::{Limits, MAX_PAYLOAD},
    payload::Payload,
    server::{Ended, ServerEvent},
    session::{Broadcast, Sent},
};

use crate::pair::*;

fn limited(change: impl Fn(&mut Limits)) -> Pair {
    let mut setup = Setup::default();
    change(&mut setup.client.limits);
    change(&mut setup.server.limits);
    let mut pair = setup.connect();
    pair.server_heard.clear();
    pair.client_heard.clear();
    pair
}

fn one() -> Payload {
    Payload::json("1")
}

fn notify(pair: &mut Pair, text: &str, volatile: bool) -> Result<(), Refused> {
    pair.client.notify(name(text), one(), volatile)
}

fn names(heard: Vec<PeerEvent>) -> Vec<String> {
    let names = heard.into_iter().filter_map(|event| match event {
        PeerEvent::Message { name, .. } | PeerEvent::Call { name, .. } => Some(name.as_str().to_owned()),
        PeerEvent::Cancelled(_) | PeerEvent::Settled { .. } => None,
    });
    names.collect()
}

#[test]
fn at_the_cap_on_frames_requests_are_refused_until_the_socket_takes_more() {
    let mut pair = limited(|limits| limits.max_outgoing_frames = 1);
    pair.congest(Up, true);
    assert_eq!(notify(&mut pair, "first", false), Ok(()));
    assert_eq!(notify(&mut pair, "second", false), Err(Refused::Backpressure));
    let call = pair.client.call(pair.now, name("call"), one(), None);
    assert_eq!(call, Err(Refused::Backpressure));
    pair.run();
    assert_eq!(pair.take_server_peer(), []);
    pair.congest(Up, false);
    pair.run();
    assert_eq!(names(pair.take_server_peer()), ["first"]);
    assert_eq!(notify(&mut pair, "third", false), Ok(()));
}

#[test]
fn at_the_cap_on_bytes_requests_are_refused_on_either_side() {
    let mut pair = limited(|limits| limits.max_outgoing_bytes = 20);
    pair.congest(Up, true);
    pair.congest(Down, true);
    let broadcast = Broadcast::new(name("note"), one(), false).expect("small");
    for expected in [Ok(()), Ok(()), Err(Refused::Backpressure)] {
        // 2 + 1 + 1 + 4 + 1 + 1 bytes
        assert_eq!(notify(&mut pair, "note", false), expected);
        assert_eq!(pair.server().send(&broadcast).map(drop), expected);
    }
    assert_eq!(pair.client.waiting_bytes(), 20);
}

#[test]
fn a_congested_socket_is_sent_nothing() {
    let mut pair = limited(|_| {});
    for direction in [Up, Down] {
        pair.congest(direction, true);
    }
    let before = pair.sent.len();
    notify(&mut pair, "up", false).expect("room");
    let broadcast = Broadcast::new(name("down"), one(), false).expect("small");
    pair.server().send(&broadcast).expect("room");
    pair.run();
    assert_eq!(pair.sent.len(), before);
    for direction in [Up, Down] {
        pair.congest(direction, false);
    }
    pair.run();
    assert_eq!(names(pair.take_server_peer()), ["up"]);
    assert_eq!(names(pair.take_client_peer()), ["down"]);
}

/// The sign used to be lost when it came before Welcome, and the first messages went to a socket that took none.
#[test]
fn regression_congestion_before_welcome_counts() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = Admission::Silence;
    pair.client.start(pair.now);
    pair.run();
    pair.congest(Down, true);
    let now = pair.now;
    pair.server().admit(now, moorline_protocol::time::UnixMillis(0));
    pair.run();
    assert_eq!(pair.sent(Down).len(), 1, "HS2, and no Welcome");
    pair.congest(Down, false);
    pair.run();
    assert!(pair.is_connected());
}

#[test]
fn what_waited_is_packed_into_few_records() {
    let mut pair = limited(|_| {});
    pair.congest(Up, true);
    for _ in 0..1_000 {
        notify(&mut pair, "note", false).expect("room");
    }
    let before = pair.sent(Up).len();
    pair.congest(Up, false);
    pair.run();
    assert_eq!(pair.sent(Up).len(), before + 1);
    assert_eq!(pair.take_server_peer().len(), 1_000);
}

#[test]
fn volatile_messages_are_dropped_while_too_much_waits() {
    let mut pair = limited(|limits| limits.max_volatile_bytes = 1);
    pair.congest(Up, true);
    for text in ["first", "second", "third"] {
        assert_eq!(notify(&mut pair, text, true), Ok(()), "dropping is no error");
    }
    assert_eq!(notify(&mut pair, "reliable", false), Ok(()));
    pair.congest(Up, false);
    pair.run();
    assert_eq!(names(pair.take_server_peer()), ["first", "reliable"]);
}

#[test]
fn a_server_is_told_which_volatile_messages_were_dropped() {
    let mut pair = limited(|limits| limits.max_volatile_bytes = 1);
    pair.congest(Down, true);
    let message = |volatile| Broadcast::new(name("note"), one(), volatile).expect("small");
    let sent = [true, true, false].map(|volatile| pair.server().send(&message(volatile)));
    assert_eq!(sent, [Ok(Sent::Queued), Ok(Sent::Dropped), Ok(Sent::Queued)]);
}

/// Small volatile messages used to fill the queue; reliable ones were then refused, and volatile ones an error.
#[test]
fn regression_volatile_messages_never_take_the_place_of_others() {
    let mut pair = limited(|limits| limits.max_outgoing_frames = 10);
    pair.congest(Up, true);
    for _ in 0..100 {
        assert_eq!(notify(&mut pair, "volatile", true), Ok(()));
    }
    for _ in 0..5 {
        assert_eq!(notify(&mut pair, "reliable", false), Ok(()));
    }
    assert_eq!(notify(&mut pair, "reliable", false), Err(Refused::Backpressure));
    assert_eq!(notify(&mut pair, "volatile", true), Ok(()));
    pair.congest(Up, false);
    pair.run();
    assert_eq!(pair.take_server_peer().len(), 10);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_queued() {
    let mut pair = limited(|_| {});
    let large = || Payload::bytes(Bytes::from(vec![0; MAX_PAYLOAD + 1]));
    assert_eq!(pair.client.notify(name("n"), large(), false), Err(Refused::TooLarge));
    assert_eq!(pair.client.notify(name("n"), large(), true), Err(Refused::TooLarge));
    assert_eq!(Broadcast::new(name("n"), large(), false).map(|_| ()), Err(Refused::TooLarge));
    assert_eq!(pair.client.waiting_bytes(), 0);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_closed() {
    let mut pair = limited(|limits| limits.max_outgoing_frames = 4);
    pair.congest(Down, true);
    for _ in 0..9 {
        pair.client.ping(pair.now);
        pair.run();
    }
    assert_eq!(pair.server_closed, [Code::SLOW_CONSUMER]);
    assert_eq!(pair.server_heard, [ServerEvent::Ended(Ended::Closed(Code::SLOW_CONSUMER))]);
}

#[test]
fn a_server_sends_only_to_who_is_connected() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = Admission::Silence;
    pair.client.start(pair.now);
    pair.run();
    let now = pair.now;
    let broadcast = Broadcast::new(name("note"), one(), false).expect("small");
    assert_eq!(pair.server().send(&broadcast), Err(Refused::NotConnected));
    assert_eq!(pair.server().call(now, name("ask"), one(), None), Err(Refused::NotConnected));
    assert_eq!(pair.server().answer(CallId(1), Ok(one())), Ok(()));
    pair.cut();
    pair.run();
    assert_eq!(pair.server().send(&broadcast), Err(Refused::Closed));
    assert_eq!(pair.server().call(now, name("ask"), one(), None), Err(Refused::Closed));
}
