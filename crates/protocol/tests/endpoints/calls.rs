//! Calls, both ways: each settles once, and never as another.

use std::time::Duration;

use moorline_protocol::{
    PeerEvent,
    client::ClientEvent,
    code::Code,
    error::Refused,
    frame::{CallId, Failure},
    limits::{DEFAULT_MAX_MESSAGE, PART},
    payload::Payload,
    server::ServerEvent,
    session::{CallOptions, Outcome},
};

use crate::pair::*;

const SECOND: Duration = Duration::from_secs(1);

fn ok(text: &str) -> Payload {
    Payload::json(text.to_owned())
}

/// The calls that the server's application was handed, taken out.
fn handed(pair: &mut Pair) -> Vec<CallId> {
    let calls = pair.take_server_peer().into_iter();
    calls.filter_map(|event| if let PeerEvent::Call { id, .. } = event { Some(id) } else { None }).collect()
}

fn answer(pair: &mut Pair, id: CallId, text: &str) {
    pair.server().answer(id, Ok(ok(text))).expect("small");
    pair.run();
}

#[test]
fn a_call_is_answered_by_the_other_side_both_ways() {
    for mut pair in [Setup::default().connect(), Setup::plain().connect()] {
        let id = pair.call("\"hello\"");
        pair.run();
        let call = PeerEvent::Call { id, name: name("echo"), key: None, credit: None, payload: ok("\"hello\"") };
        assert_eq!(pair.take_server_peer(), [call]);
        answer(&mut pair, id, "\"back\"");
        assert_eq!(pair.settled(), [(id, Outcome::Reply(ok("\"back\"")))]);

        let now = pair.now;
        pair.client_heard.clear();
        let id = pair.server().call(now, name("ask"), ok("1"), CallOptions::default()).expect("connected");
        pair.run();
        assert_eq!(
            pair.take_client_peer(),
            [PeerEvent::Call { id, name: name("ask"), key: None, credit: None, payload: ok("1") }]
        );
        pair.client.answer(pair.now, id, Ok(ok("2"))).expect("small");
        pair.run();
        assert_eq!(pair.take_server_peer(), [PeerEvent::Settled { id, outcome: Outcome::Reply(ok("2")) }]);
    }
}

#[test]
fn a_failure_arrives_as_it_was_told() {
    let mut pair = Setup::default().connect();
    let id = pair.call("1");
    pair.run();
    let failure = Failure {
        code: Code::APPLICATION,
        name: "out_of_stock".to_owned(),
        message: "none left".to_owned(),
        data: Some(ok("{\"left\":0}")),
    };
    pair.server().answer(id, Err(failure.clone())).expect("small");
    pair.run();
    assert_eq!(pair.settled(), [(id, Outcome::Failed(failure))]);
}

#[test]
fn a_second_answer_is_passed_over() {
    let mut pair = Setup::default().connect();
    let id = pair.call("1");
    pair.run();
    answer(&mut pair, id, "1");
    answer(&mut pair, id, "2");
    assert_eq!(pair.settled(), [(id, Outcome::Reply(ok("1")))]);
}

#[test]
fn a_call_made_while_connecting_is_sent_once_connected() {
    let mut pair = Pair::new(Setup::default());
    let id = pair.call("1");
    pair.client.start(pair.now);
    pair.run();
    assert_eq!(handed(&mut pair), [id]);
}

#[test]
fn a_call_stays_open_across_a_lost_connection_and_its_handler_runs_once() {
    let mut pair = Setup::default().connect();
    let id = pair.call("1");
    pair.run();
    assert_eq!(handed(&mut pair), [id]);
    pair.cut();
    pair.run();
    assert_eq!(pair.settled(), []);
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(handed(&mut pair), []);
    answer(&mut pair, id, "2");
    assert_eq!(pair.settled(), [(id, Outcome::Reply(ok("2")))]);
}

#[test]
fn a_call_that_was_transmitted_settles_unknown_when_the_session_is_lost_and_is_not_sent_again() {
    let mut pair = Setup::default().connect();
    let id = pair.call("1");
    pair.run();
    assert_eq!(handed(&mut pair), [id]);
    pair.restart();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.settled(), [(id, Outcome::Unknown)]);
    assert_eq!(handed(&mut pair), []);
    pair.advance(30 * SECOND);
    assert_eq!(pair.settled().len(), 1);
}

#[test]
fn an_answer_that_is_given_while_nobody_is_connected_arrives_with_the_next_connection() {
    let mut pair = Setup::default().connect();
    let id = pair.call("1");
    pair.run();
    pair.cut();
    pair.run();
    pair.server().answer(id, Ok(ok("2"))).expect("small");
    pair.advance(30 * SECOND);
    assert_eq!(pair.settled(), [(id, Outcome::Reply(ok("2")))]);
}

#[test]
fn a_call_that_was_not_transmitted_goes_out_on_the_next_connection() {
    let mut pair = Setup::default().connect();
    pair.congest(Up, true);
    let id = pair.call("1");
    pair.run();
    pair.cut();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(handed(&mut pair), [id]);
    assert_eq!(pair.settled(), []);
    answer(&mut pair, id, "2");
    assert_eq!(pair.settled(), [(id, Outcome::Reply(ok("2")))]);
}

#[test]
fn a_call_times_out_once_and_the_other_side_may_stop() {
    let mut pair = Setup::default().connect();
    let id = pair.client.call(pair.now, name("slow"), ok("1"), CallOptions::within(SECOND)).expect("room");
    pair.run();
    pair.server_heard.clear();
    pair.advance(SECOND - Duration::from_millis(1));
    assert_eq!(pair.settled(), []);
    pair.advance(Duration::from_millis(1));
    assert_eq!(pair.settled(), [(id, Outcome::TimedOut)]);
    assert_eq!(pair.take_server_peer(), [PeerEvent::Cancelled(id)]);
    answer(&mut pair, id, "late");
    assert_eq!(pair.settled().len(), 1);
}

#[test]
fn a_call_times_out_without_a_connection_and_is_then_not_sent() {
    let mut pair = Pair::new(Setup::default());
    pair.reachable = false;
    let id = pair.client.call(pair.now, name("slow"), ok("1"), CallOptions::within(SECOND)).expect("room");
    pair.client.start(pair.now);
    pair.advance(2 * SECOND);
    assert_eq!(pair.settled(), [(id, Outcome::TimedOut)]);
    pair.reachable = true;
    pair.advance(60 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(handed(&mut pair), []);
}

#[test]
fn a_cancelled_call_never_settles_and_the_other_side_hears_of_it() {
    let mut pair = Setup::default().connect();
    let id = pair.call("1");
    pair.run();
    pair.server_heard.clear();
    pair.client.cancel(id);
    pair.run();
    assert_eq!(pair.take_server_peer(), [PeerEvent::Cancelled(id)]);
    answer(&mut pair, id, "late");
    pair.restart();
    pair.advance(30 * SECOND);
    assert_eq!(pair.resets().len(), 1);
    assert_eq!(pair.settled(), []);
}

#[test]
fn a_call_cancelled_before_it_was_transmitted_leaves_no_trace() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    pair.congest(Up, true);
    let id = pair.call("1");
    pair.client.cancel(id);
    pair.congest(Up, false);
    pair.run();
    assert_eq!(pair.take_server_peer(), []);
    assert_eq!(pair.client.waiting_bytes(), 0);
}

#[test]
fn closing_settles_every_call_by_whether_it_was_transmitted() {
    let mut pair = Setup::default().connect();
    let sent = pair.call("1");
    pair.run();
    pair.client.close();
    pair.run();
    assert_eq!(pair.settled(), [(sent, Outcome::Unknown)]);

    let mut pair = Pair::new(Setup::default());
    let waiting = pair.call("1");
    pair.client.close();
    pair.run();
    assert_eq!(pair.settled(), [(waiting, Outcome::NotSent)]);
    let refused = pair.client.call(pair.now, name("echo"), ok("1"), CallOptions::default());
    assert_eq!(refused, Err(Refused::Closed));
}

/// A call with a key that waits to go out again after a reset counted as one of which no byte was ever transmitted. Whoever
/// closed the client then, or came back to a server that takes less, was told that it had not run, though it had.
#[test]
fn regression_a_call_that_an_earlier_session_had_is_never_said_not_to_have_run() {
    let keyed = |pair: &mut Pair| {
        let mut options = CallOptions::default();
        options.key = Some(name("key"));
        let id = pair.client.call(pair.now, name("pay"), ok("100000"), options).expect("room");
        pair.run();
        assert_eq!(handed(pair), [id], "it runs");
        id
    };
    let mut pair = Setup::plain().connect();
    let id = keyed(&mut pair);
    // A number that does not fit: the client gives the session up, and waits for the next.
    pair.inject(Down, vec![0x11, 0x05, 0, 1, 9]);
    pair.run();
    assert_eq!((pair.resets().len(), pair.settled()), (1, vec![]));
    pair.client.close();
    pair.run();
    assert_eq!(pair.settled(), [(id, Outcome::Unknown)]);

    let mut pair = Setup::default().connect();
    let id = keyed(&mut pair);
    pair.restart_with(|config| config.limits.max_message = 4);
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.settled(), [(id, Outcome::Unknown)]);
}

#[test]
fn what_waits_goes_out_before_a_good_bye() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    pair.client.notify(name("last"), ok("words"), false).expect("room");
    pair.client.close();
    pair.run();
    let expected = PeerEvent::Message { name: name("last"), payload: ok("words"), volatile: false };
    let ended = moorline_protocol::server::Ended::Bye;
    assert_eq!(pair.server_heard, [ServerEvent::Peer(expected), ServerEvent::Ended(ended, 0)]);
}

#[test]
fn the_servers_calls_settle_when_the_client_goes_for_good() {
    for polite in [true, false] {
        let mut pair = Setup::default().connect();
        let now = pair.now;
        let id = pair.server().call(now, name("ask"), ok("1"), CallOptions::default()).expect("connected");
        pair.run();
        pair.server_heard.clear();
        if polite {
            pair.client.close()
        } else {
            pair.cut();
            pair.client.close();
        }
        pair.advance(120 * SECOND);
        if !polite {
            let parked = ServerEvent::Parked(moorline_protocol::server::Ended::SocketClosed);
            assert_eq!(pair.server_heard.remove(0), parked, "not before its time is over");
        }
        let settled = ServerEvent::Peer(PeerEvent::Settled { id, outcome: Outcome::Unknown });
        assert_eq!(pair.server_heard[0], settled);
        assert!(matches!(pair.server_heard[1..], [ServerEvent::Ended(..)]), "Ended comes once, and last");
    }
}

/// In every session the server counts its calls from 1. A handler that had begun under the old one and answered under
/// the new one used to answer the new one's first call, whatever that was.
#[test]
fn regression_a_late_answer_does_not_settle_a_call_of_the_next_session() {
    let mut pair = Setup::default().connect();
    let ask = |pair: &mut Pair| {
        let now = pair.now;
        pair.client_heard.clear();
        let theirs = pair.server().call(now, name("ask"), ok("1"), CallOptions::default()).expect("connected");
        pair.run();
        let ours = pair.take_client_peer().into_iter().find_map(|event| match event {
            PeerEvent::Call { id, .. } => Some(id),
            _ => None,
        });
        (theirs, ours.expect("the client was asked"))
    };
    let (_, old) = ask(&mut pair);
    pair.restart();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    pair.server_heard.clear();
    let (theirs, new) = ask(&mut pair);
    assert_ne!(old, new);
    pair.client.answer(pair.now, old, Ok(ok("old"))).expect("passed over");
    pair.run();
    assert_eq!(pair.take_server_peer(), []);
    pair.client.answer(pair.now, new, Ok(ok("new"))).expect("small");
    pair.run();
    let outcome = Outcome::Reply(ok("new"));
    assert_eq!(pair.take_server_peer(), [PeerEvent::Settled { id: theirs, outcome }]);
}

#[test]
fn a_handler_on_the_client_is_cancelled_when_its_session_ends_and_not_when_its_connection_does() {
    for close in [false, true] {
        let mut pair = Setup::default().connect();
        let now = pair.now;
        let id = pair.server().call(now, name("ask"), ok("1"), CallOptions::default()).expect("connected");
        pair.run();
        pair.client_heard.clear();
        if close {
            pair.client.close();
            pair.run();
        } else {
            pair.reconnect();
            assert_eq!(pair.take_client_peer(), []);
            pair.restart();
            pair.advance(30 * SECOND);
        }
        let cancelled = ClientEvent::Peer(PeerEvent::Cancelled(id));
        assert_eq!(pair.client_heard.iter().filter(|event| **event == cancelled).count(), 1);
    }
}

/// A failure with long texts and nearly the largest payload did not fit a record; the queue then gave records without
/// a frame for ever.
#[test]
fn regression_the_largest_failure_arrives() {
    for size in [PART, PART + 1, DEFAULT_MAX_MESSAGE] {
        assert_failure_arrives(size);
    }
}

fn assert_failure_arrives(size: usize) {
    let mut pair = Setup::plain().connect();
    let id = pair.call("1");
    pair.run();
    let data = Some(Payload::bytes(vec![7; size]));
    let (name, message) = ("n".repeat(5_000), "m".repeat(5_000));
    pair.server().answer(id, Err(Failure { code: Code(u16::MAX), name, message, data })).expect("cut, not refused");
    pair.run();
    let (_, outcome) = pair.settled().remove(0);
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failure.name.len(), failure.message.len()), (200, 700));
    assert_eq!(failure.data.map(|data| data.bytes.len()), Some(size));
}

#[test]
fn the_largest_payload_of_one_frame_with_the_longest_name_fits_a_record() {
    let mut pair = Setup::default().connect();
    let before = pair.sent(Up).len();
    let name = moorline_protocol::payload::Name::new(&"n".repeat(200)).expect("as long as a name may be");
    let payload = Payload::bytes(vec![7; PART]);
    pair.client.call(pair.now, name.clone(), payload.clone(), CallOptions::default()).expect("room");
    pair.run();
    let call = PeerEvent::Call { id: CallId(1), name: name.clone(), key: None, credit: None, payload: payload.clone() };
    assert_eq!(pair.take_server_peer(), [call]);
    assert_eq!(pair.sent(Up).len(), before + 1);
    let larger = Payload::bytes(vec![7; DEFAULT_MAX_MESSAGE + 1]);
    assert_eq!(pair.client.call(pair.now, name, larger, CallOptions::default()), Err(Refused::TooLarge));
}

/// The client does not know the server's limit before Welcome. It used to send what was too large all the same, for
/// which the server closed the connection and with it everything else.
#[test]
fn regression_a_call_above_the_servers_limit_that_waited_for_the_connection_fails_alone() {
    let mut setup = Setup::default();
    setup.server.limits.max_message = 10;
    let mut pair = Pair::new(setup);
    let (small, large) = (pair.call("1"), pair.call("\"0123456789\""));
    pair.client.notify(name("note"), ok("\"0123456789\""), false).expect("room");
    pair.client.start(pair.now);
    pair.run();
    assert!(pair.is_connected());
    let failed = (large, Outcome::Failed(Failure::of(Code::TOO_LARGE)));
    assert_eq!(pair.settled(), std::slice::from_ref(&failed));
    assert_eq!(handed(&mut pair), [small]);
    pair.client.close();
    pair.run();
    assert_eq!(pair.settled(), [failed, (small, Outcome::Unknown)], "once");
}

/// Whoever waited for its confirmation waited for ever: the notification was dropped without a word.
#[test]
fn regression_a_receipt_above_the_servers_limit_that_waited_for_the_connection_is_refused_once() {
    let mut setup = Setup::default();
    setup.server.limits.max_message = 10;
    let mut pair = Pair::new(setup);
    let small = pair.client.notify_confirmed(name("note"), ok("1")).expect("room");
    let large = pair.client.notify_confirmed(name("note"), ok("\"0123456789\"")).expect("room");
    pair.client.start(pair.now);
    pair.run();
    pair.reconnect();
    let told: Vec<_> = pair
        .client_heard
        .iter()
        .filter(|event| matches!(event, ClientEvent::Refused(..) | ClientEvent::Peer(PeerEvent::Confirmed(_))))
        .collect();
    let refused = ClientEvent::Refused(large, Refused::TooLarge);
    assert_eq!(told, [&refused, &ClientEvent::Peer(PeerEvent::Confirmed(small))]);
}
