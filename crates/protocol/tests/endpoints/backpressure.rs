//! What is not confirmed has caps, and something definite happens at each.

use std::time::Duration;

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::Refused,
    frame::{CallId, Failure, ResetReason},
    limits::{DEFAULT_MAX_MESSAGE, Limits, MAX_PAYLOAD, MAX_VOLATILE},
    payload::Payload,
    server::{Ended, ServerEvent},
    session::{Broadcast, CallOptions, Outcome, Sent},
};

use crate::pair::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const ACK_AFTER: Duration = Duration::from_millis(500);

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
        PeerEvent::Cancelled(_)
        | PeerEvent::Settled { .. }
        | PeerEvent::Credit(_)
        | PeerEvent::Confirmed(_)
        | PeerEvent::Item { .. } => None,
    });
    names.collect()
}

#[test]
fn at_the_cap_on_frames_requests_are_refused_until_the_other_side_has_confirmed() {
    let mut pair = limited(|limits| limits.max_outgoing_frames = 1);
    pair.congest(Up, true);
    assert_eq!(notify(&mut pair, "first", false), Ok(()));
    assert_eq!(notify(&mut pair, "second", false), Err(Refused::Backpressure));
    let call = pair.client.call(pair.now, name("call"), one(), CallOptions::default());
    assert_eq!(call, Err(Refused::Backpressure));
    pair.run();
    assert_eq!(pair.take_server_peer(), []);
    pair.congest(Up, false);
    pair.run();
    assert_eq!(names(pair.take_server_peer()), ["first"]);
    assert_eq!(notify(&mut pair, "third", false), Err(Refused::Backpressure), "it is sent and not confirmed");
    pair.advance(ACK_AFTER - MILLISECOND);
    assert_eq!(notify(&mut pair, "third", false), Err(Refused::Backpressure));
    pair.advance(MILLISECOND);
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
    pair.congest(Up, false);
    pair.congest(Down, false);
    pair.run();
    assert_eq!(pair.client.waiting_bytes(), 0);
    assert_eq!(pair.server().kept().0, 20);
    assert_eq!(notify(&mut pair, "note", false), Err(Refused::Backpressure), "what is unconfirmed counts");
    assert_eq!(pair.server().send(&broadcast), Err(Refused::Backpressure));
    pair.advance(ACK_AFTER);
    assert_eq!(pair.server().kept().0, 0);
    assert_eq!(notify(&mut pair, "note", false), Ok(()));
    assert_eq!(pair.server().send(&broadcast), Ok(Sent::Queued));
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
    pair.server().admit(now, moorline_protocol::time::UnixMillis(0), None);
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
    assert_eq!(names(pair.take_server_peer()), ["reliable", "first"]);
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
    for _ in 0..10 {
        assert_eq!(notify(&mut pair, "reliable", false), Ok(()));
    }
    assert_eq!(notify(&mut pair, "reliable", false), Err(Refused::Backpressure));
    assert_eq!(notify(&mut pair, "volatile", true), Ok(()));
    pair.congest(Up, false);
    pair.run();
    assert_eq!(pair.take_server_peer().len(), 15, "half as many volatile ones as there is room for others");
}

#[test]
fn volatile_messages_that_wait_go_with_their_connection() {
    let mut pair = limited(|_| {});
    pair.congest(Up, true);
    notify(&mut pair, "volatile", true).expect("room");
    assert_ne!(pair.client.waiting_bytes(), 0);
    pair.cut();
    pair.run();
    assert_eq!(pair.client.waiting_bytes(), 0, "nobody waits for them any more");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_queued() {
    let mut pair = limited(|_| {});
    let zeros = |size: usize| Payload::bytes(Bytes::from(vec![0; size]));
    let large = || zeros(DEFAULT_MAX_MESSAGE + 1);
    assert_eq!(pair.client.notify(name("n"), large(), false), Err(Refused::TooLarge));
    assert_eq!(pair.client.notify_confirmed(name("n"), large()), Err(Refused::TooLarge));
    assert_eq!(
        pair.client.notify(name("n"), zeros(MAX_VOLATILE + 1), true),
        Err(Refused::TooLarge),
        "one frame or none"
    );
    let call = pair.client.call(pair.now, name("n"), large(), CallOptions::default());
    assert_eq!(call, Err(Refused::TooLarge));
    assert_eq!(Broadcast::new(name("n"), zeros(MAX_PAYLOAD + 1), false).map(|_| ()), Err(Refused::TooLarge));
    assert_eq!(Broadcast::new(name("n"), zeros(MAX_VOLATILE + 1), true).map(|_| ()), Err(Refused::TooLarge));
    let broadcast = Broadcast::new(name("n"), large(), false).expect("some peer may take it");
    assert_eq!(pair.server().send(&broadcast), Err(Refused::TooLarge), "a client takes no more than the default");
    let now = pair.now;
    let call = pair.server().call(now, name("n"), large(), CallOptions::default());
    assert_eq!(call, Err(Refused::TooLarge));
    assert_eq!(pair.client.waiting_bytes(), 0);
    assert_eq!(pair.server().kept().0, 0);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_given_up() {
    let mut pair = limited(|limits| limits.max_outgoing_frames = 40);
    pair.congest(Down, true);
    for _ in 0..41 {
        pair.client.ping(pair.now);
        pair.run();
    }
    assert_eq!(pair.server_closed, [Code::SLOW_CONSUMER]);
    assert_eq!(pair.server_heard, [ServerEvent::Ended(Ended::Lost(ResetReason::Overflow), 0)]);
}

#[test]
fn a_server_sends_only_to_who_is_admitted() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = Admission::Silence;
    pair.client.start(pair.now);
    pair.run();
    let now = pair.now;
    let broadcast = Broadcast::new(name("note"), one(), false).expect("small");
    assert_eq!(pair.server().send(&broadcast), Err(Refused::NotConnected));
    assert_eq!(pair.server().call(now, name("ask"), one(), CallOptions::default()), Err(Refused::NotConnected));
    assert_eq!(pair.server().answer(CallId(1), Ok(one())), Ok(()));
    pair.cut();
    pair.run();
    assert_eq!(pair.server().send(&broadcast), Err(Refused::Closed));
    assert_eq!(pair.server().call(now, name("ask"), one(), CallOptions::default()), Err(Refused::Closed));
}

#[test]
fn what_a_server_says_to_a_parked_session_waits_for_its_client() {
    let mut pair = limited(|_| {});
    let now = pair.now;
    pair.cut();
    pair.run();
    let reliable = Broadcast::new(name("kept"), one(), false).expect("small");
    let volatile = Broadcast::new(name("dropped"), one(), true).expect("small");
    assert_eq!(pair.server().send(&reliable), Ok(Sent::Queued));
    assert_eq!(pair.server().send(&volatile), Ok(Sent::Dropped), "dropping is no error");
    pair.server().call(now, name("asked"), one(), CallOptions::default()).expect("a parked session has room");
    pair.advance(Duration::from_secs(30));
    assert!(pair.is_connected());
    assert_eq!(names(pair.take_client_peer()), ["kept", "asked"]);
}

/// At the smallest limits the greeting of a resumed session (Seq and Ping) was taken for a peer that never reads.
#[test]
fn regression_the_smallest_limits_do_not_lose_a_session() {
    let mut pair = limited(|limits| (limits.max_outgoing_frames, limits.max_outgoing_bytes) = (1, 1));
    for round in 0..3 {
        let text = format!("note {round}");
        assert_eq!(notify(&mut pair, &text, false), Ok(()));
        let broadcast = Broadcast::new(name(&text), one(), false).expect("small");
        assert_eq!(pair.server().send(&broadcast), Ok(Sent::Queued));
        pair.reconnect();
        assert!(pair.is_connected());
        pair.advance(ACK_AFTER);
        assert_eq!(pair.resets(), []);
        assert_eq!(names(pair.take_server_peer()), [text.as_str()]);
        assert_eq!(names(pair.take_client_peer()), [text.as_str()]);
    }
}

/// Acknowledgements that came due while the socket took nothing used to pile up, one behind the other.
#[test]
fn regression_one_acknowledgement_waits_for_a_congested_socket_and_it_is_the_newest() {
    let mut pair = limited(|limits| limits.max_outgoing_frames = 2_048);
    pair.congest(Down, true);
    for _ in 0..50 {
        notify(&mut pair, "note", false).expect("room");
        pair.advance(ACK_AFTER);
    }
    let before = pair.sent(Down).len();
    let bytes = |pair: &Pair| pair.sent(Down)[before..].concat().len();
    pair.congest(Down, false);
    pair.run();
    assert_eq!(pair.sent(Down).len(), before + 1);
    // A sealed record's type and tag, an Ack of four bytes, the Pong of four bytes that came before.
    assert!(bytes(&pair) <= 1 + 16 + 4 + 4, "{} bytes", bytes(&pair));
    assert_eq!(pair.client.waiting_bytes(), 0);
    for _ in 0..2_048 {
        notify(&mut pair, "note", false).expect("everything is confirmed");
    }
}

/// Three of the largest replies at once were taken for a peer that never reads, and cost it its session.
#[test]
fn regression_several_of_the_largest_replies_at_once_reach_a_client_that_reads() {
    let mut pair = Setup::plain().connect();
    pair.server_heard.clear();
    let ids: Vec<_> = (0..6).map(|_| pair.call("1")).collect();
    pair.run();
    pair.client_heard.clear();
    let payload = Payload::bytes(vec![7; DEFAULT_MAX_MESSAGE]);
    for id in &ids {
        assert_eq!(pair.server().answer(*id, Ok(payload.clone())), Ok(()));
    }
    pair.run();
    let settled = pair.settled();
    assert!(settled.iter().map(|(id, _)| id).eq(&ids));
    assert!(settled.iter().all(|(_, outcome)| *outcome == Outcome::Reply(payload.clone())));
    assert_eq!(pair.server_closed, []);
}

#[test]
fn answers_for_a_peer_that_never_reads_are_bounded_and_each_call_settles_alone() {
    for parked in [true, false] {
        let mut setup = Setup::default();
        (setup.client.limits.max_message, setup.server.limits.max_outgoing_bytes) = (1_000, 1_000);
        let mut pair = setup.connect();
        pair.server_heard.clear();
        let ids: Vec<_> = (0..100).map(|_| pair.call("1")).collect();
        pair.run();
        if parked {
            pair.cut();
            pair.run();
        }
        pair.congest(Down, true);
        let payload = Payload::bytes(vec![7; 1_000]);
        let answered: Vec<_> = ids.iter().map(|id| pair.server().answer(*id, Ok(payload.clone()))).collect();
        let kept = answered.iter().filter(|answered| answered.is_ok()).count();
        assert_eq!(kept, 15, "8 * (1,000 + 1,000) bytes, with what stands around each");
        assert!(answered[kept..].iter().all(|refused| *refused == Err(Refused::TooLarge)));
        assert!(pair.server().kept().0 < 18_000);
        pair.congest(Down, false);
        pair.advance(Duration::from_secs(30));
        assert!(pair.is_connected());
        let settled = pair.settled();
        assert_eq!(settled.len(), 100);
        for (place, id) in ids.iter().enumerate() {
            let outcome = match place < kept {
                true => Outcome::Reply(payload.clone()),
                false => Outcome::Failed(Failure::of(Code::TOO_LARGE)),
            };
            assert!(settled.contains(&(*id, outcome)));
        }
    }
}

#[test]
fn a_client_says_its_largest_message_and_the_server_keeps_to_it() {
    for (says, takes) in [(10, 10), (DEFAULT_MAX_MESSAGE, DEFAULT_MAX_MESSAGE), (MAX_PAYLOAD, DEFAULT_MAX_MESSAGE)] {
        let mut setup = Setup::default();
        setup.client.limits.max_message = says;
        let mut pair = setup.connect();
        let broadcast = |size| Broadcast::new(name("n"), Payload::bytes(vec![7; size]), false).expect("a message");
        for _ in 0..2 {
            pair.client_heard.clear();
            assert_eq!(pair.server().send(&broadcast(takes + 1)), Err(Refused::TooLarge));
            assert_eq!(pair.server().send(&broadcast(takes)), Ok(Sent::Queued));
            pair.run();
            assert_eq!(pair.take_client_peer().len(), 1);
            // It stays so when the session goes on.
            pair.reconnect();
            pair.advance(ACK_AFTER);
            assert_eq!(pair.resets(), []);
        }
    }
    let mut setup = Setup::default();
    (setup.client.limits.max_message, setup.server.limits.max_message) = (MAX_PAYLOAD, 2 * DEFAULT_MAX_MESSAGE);
    let mut pair = setup.connect();
    let broadcast = |size| Broadcast::new(name("n"), Payload::bytes(vec![7; size]), false).expect("a message");
    let most = 2 * DEFAULT_MAX_MESSAGE;
    assert_eq!(pair.server().send(&broadcast(most + 1)), Err(Refused::TooLarge), "the server's own limit bounds it");
    assert_eq!(pair.server().send(&broadcast(most)), Ok(Sent::Queued));
}
