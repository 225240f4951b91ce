//! A call may ask for a stream: items in order, no more than were asked for, and one end.

use std::time::Duration;

use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::{Refused, Violation},
    frame::{CallId, Failure},
    payload::Payload,
    server::Ended,
    session::{CallOptions, Outcome},
};

use crate::{
    foreign::{Foreign, frame},
    pair::*,
};

const SECOND: Duration = Duration::from_secs(1);

fn json(text: &str) -> Payload {
    Payload::json(text.to_owned())
}

fn stream(credit: u64) -> CallOptions {
    let mut options = CallOptions::default();
    options.credit = Some(credit);
    options
}

/// A pair whose client has called for a stream, and the number that the server's application has for it.
fn streaming(options: CallOptions) -> (Pair, CallId, CallId) {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    let id = pair.client.call(pair.now, name("ticks"), json("1"), options).expect("room");
    pair.run();
    let heard = pair.take_server_peer();
    let [PeerEvent::Call { id: theirs, .. }] = heard[..] else { panic!("{heard:?}") };
    pair.client_heard.clear();
    (pair, id, theirs)
}

fn send(pair: &mut Pair, id: CallId, text: &str) -> Result<(), Refused> {
    let sent = pair.server().item(id, json(text));
    pair.run();
    sent
}

fn item(id: CallId, text: &str) -> PeerEvent {
    PeerEvent::Item { id, payload: json(text) }
}

#[test]
fn items_come_in_order_and_then_the_end_both_ways() {
    let (mut pair, id, theirs) = streaming(stream(10));
    for text in ["1", "2", "3"] {
        pair.server().item(theirs, json(text)).expect("credit");
    }
    pair.server().end_stream(theirs);
    pair.run();
    let ended = PeerEvent::Settled { id, outcome: Outcome::End };
    assert_eq!(pair.take_client_peer(), [item(id, "1"), item(id, "2"), item(id, "3"), ended]);
    assert_eq!(send(&mut pair, theirs, "4"), Ok(()), "a stream that is over is passed over");
    assert_eq!(pair.take_client_peer(), []);

    let now = pair.now;
    let id = pair.server().call(now, name("ticks"), json("1"), stream(2)).expect("room");
    pair.run();
    let heard = pair.take_client_peer();
    let [PeerEvent::Call { id: theirs, credit: Some(2), .. }] = heard[..] else { panic!("{heard:?}") };
    pair.client.item(theirs, json("1")).expect("credit");
    pair.client.end(theirs);
    pair.run();
    let ended = PeerEvent::Settled { id, outcome: Outcome::End };
    assert_eq!(pair.take_server_peer(), [item(id, "1"), ended]);
}

#[test]
fn no_more_items_are_taken_than_were_asked_for() {
    let (mut pair, id, theirs) = streaming(stream(2));
    assert_eq!(send(&mut pair, theirs, "1"), Ok(()));
    assert_eq!(send(&mut pair, theirs, "2"), Ok(()));
    assert_eq!(send(&mut pair, theirs, "3"), Err(Refused::Backpressure));
    pair.client.grant(id, 1);
    pair.run();
    assert_eq!(pair.take_server_peer(), [PeerEvent::Credit(theirs)]);
    assert_eq!(send(&mut pair, theirs, "3"), Ok(()));
    assert_eq!(send(&mut pair, theirs, "4"), Err(Refused::Backpressure));
    pair.client.grant(id, 0);
    pair.run();
    assert_eq!(pair.take_server_peer(), [], "nothing more was granted");
    assert_eq!(pair.take_client_peer(), [item(id, "1"), item(id, "2"), item(id, "3")]);
}

#[test]
fn a_stream_may_begin_without_credit() {
    let (mut pair, id, theirs) = streaming(stream(0));
    assert_eq!(send(&mut pair, theirs, "1"), Err(Refused::Backpressure));
    pair.client.grant(id, u64::MAX);
    pair.client.grant(id, u64::MAX);
    pair.run();
    assert_eq!(send(&mut pair, theirs, "1"), Ok(()));
    assert_eq!(pair.take_client_peer(), [item(id, "1")]);
}

/// Item or Reply of the test's, to the call 1 of ours.
fn item_frame() -> Vec<u8> {
    frame(0x16, 0, &[1, 1, b'1'])
}

fn assert_no_credit(ours: &Foreign) {
    assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION));
    if ours.is_server() {
        assert!(matches!(ours.ended, Some((Ended::Violation(Violation::NoCredit), _))), "{:?}", ours.ended);
    }
}

#[test]
fn a_peer_that_sends_beyond_its_credit_violates() {
    for mut ours in Foreign::both() {
        let id = ours.call(stream(1));
        ours.say(&item_frame());
        assert_eq!(ours.heard(), [item(id, "1")]);
        ours.say(&item_frame());
        assert_no_credit(&ours);
        assert!(!ours.heard().contains(&item(id, "1")));
    }
}

#[test]
fn an_item_for_a_call_that_asked_for_one_reply_violates() {
    for mut ours in Foreign::both() {
        let id = ours.call(CallOptions::default());
        ours.say(&item_frame());
        assert_no_credit(&ours);
        assert!(!ours.heard().contains(&item(id, "1")));
    }
}

#[test]
fn an_item_for_no_call_is_passed_over() {
    for mut ours in Foreign::both() {
        let id = ours.call(stream(1));
        ours.say(&[frame(0x18, 0, &[1]), item_frame(), frame(0x18, 0, &[1]), frame(0x16, 0, &[9, 1, b'1'])].concat());
        assert_eq!(ours.heard(), [PeerEvent::Settled { id, outcome: Outcome::End }]);
        assert_eq!(ours.closed, None);
    }
}

#[test]
fn a_reply_ends_a_stream_and_an_end_for_a_call_for_one_reply_is_a_violation() {
    for mut ours in Foreign::both() {
        let id = ours.call(stream(1));
        ours.say(&frame(0x11, 0, &[1, 1, b'1']));
        assert_eq!(ours.heard(), [PeerEvent::Settled { id, outcome: Outcome::Reply(json("1")) }]);
        ours.say(&frame(0x18, 0, &[1]));
        assert_eq!((ours.heard(), ours.closed), (vec![], None), "a call that is over is passed over");
        let id = ours.call(CallOptions::default());
        ours.say(&frame(0x18, 0, &[2]));
        assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION));
        // The session is lost with it, so that the call settles all the same.
        assert_eq!(ours.heard(), [PeerEvent::Settled { id, outcome: Outcome::Unknown }]);
        if ours.is_server() {
            assert_eq!(ours.ended, Some((Ended::Violation(Violation::UnexpectedFrame), 2)));
        } else {
            assert_eq!(ours.resets.len(), 1);
        }
    }
}

#[test]
fn credit_for_a_call_that_wants_one_reply_or_is_over_is_passed_over() {
    for mut ours in Foreign::both() {
        ours.say(&frame(0x10, 0, &[1, 1, b'n', 0]));
        ours.heard();
        ours.say(&[frame(0x17, 0, &[1, 5]), frame(0x17, 0, &[7, 5])].concat());
        assert_eq!(ours.heard(), []);
        assert_eq!(ours.closed, None);
    }
}

#[test]
fn a_stream_fails_with_what_its_handler_says() {
    let (mut pair, id, theirs) = streaming(stream(5));
    send(&mut pair, theirs, "1").expect("credit");
    pair.server().answer(theirs, Err(Failure::of(Code::INTERNAL))).expect("small");
    pair.run();
    let failed = PeerEvent::Settled { id, outcome: Outcome::Failed(Failure::of(Code::INTERNAL)) };
    assert_eq!(pair.take_client_peer(), [item(id, "1"), failed]);
}

#[test]
fn a_cancelled_stream_is_over_for_both() {
    let (mut pair, id, theirs) = streaming(stream(5));
    send(&mut pair, theirs, "1").expect("credit");
    pair.client_heard.clear();
    pair.client.cancel(id);
    // On its way while the cancellation is.
    pair.server().item(theirs, json("2")).expect("credit");
    pair.run();
    assert_eq!(pair.take_server_peer(), [PeerEvent::Cancelled(theirs)]);
    assert_eq!(send(&mut pair, theirs, "3"), Ok(()));
    pair.client.grant(id, 5);
    pair.run();
    assert_eq!((pair.take_client_peer(), pair.take_server_peer()), (vec![], vec![]));
    assert!(pair.is_connected() || pair.client_closed.is_empty());
}

#[test]
fn the_first_item_is_an_answer_in_time() {
    let mut options = stream(5);
    options.timeout = Some(SECOND);
    let (mut pair, id, theirs) = streaming(options.clone());
    send(&mut pair, theirs, "1").expect("credit");
    pair.advance(60 * SECOND);
    assert_eq!(pair.settled(), []);
    pair.server().end_stream(theirs);
    pair.run();
    assert_eq!(pair.settled(), [(id, Outcome::End)]);

    let (mut pair, id, theirs) = streaming(options);
    pair.advance(SECOND);
    assert_eq!(pair.settled(), [(id, Outcome::TimedOut)]);
    assert_eq!(pair.take_server_peer(), [PeerEvent::Cancelled(theirs)]);
}

#[test]
fn a_stream_survives_a_cut_with_its_credit() {
    let (mut pair, id, theirs) = streaming(stream(2));
    send(&mut pair, theirs, "1").expect("credit");
    pair.bend = Box::new(|_, _, _| Vec::new());
    send(&mut pair, theirs, "2").expect("credit");
    pair.client.grant(id, 1);
    pair.run();
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.reconnect();
    assert_eq!(send(&mut pair, theirs, "3"), Ok(()));
    assert_eq!(send(&mut pair, theirs, "4"), Err(Refused::Backpressure));
    pair.cut();
    pair.run();
    pair.client.grant(id, 1);
    pair.server().end_stream(theirs);
    pair.client.retry_now(pair.now);
    pair.run();
    let ended = PeerEvent::Settled { id, outcome: Outcome::End };
    assert_eq!(pair.take_client_peer(), [item(id, "1"), item(id, "2"), item(id, "3"), ended]);
    assert_eq!(pair.resets(), []);
}

#[test]
fn a_stream_that_had_begun_is_unknown_after_a_reset_even_with_a_key() {
    let mut options = stream(2);
    options.key = Some(name("k"));
    let (mut pair, id, theirs) = streaming(options);
    send(&mut pair, theirs, "1").expect("credit");
    pair.restart();
    pair.advance(30 * SECOND);
    assert_eq!(pair.take_client_peer(), [item(id, "1"), PeerEvent::Settled { id, outcome: Outcome::Unknown }]);
    assert_eq!(pair.take_server_peer(), [], "its first item would come twice");
}

/// The frames that granted more went with the session, while the calls went on: a stream stood still, or its first
/// item beyond the old credit was a violation.
#[test]
fn regression_credit_that_was_granted_is_kept_by_a_stream_that_goes_out_again() {
    let mut with_key = stream(0);
    with_key.key = Some(name("k"));
    for (options, transmitted) in [(with_key, true), (stream(0), false)] {
        let mut pair = Setup::default().connect();
        if !transmitted {
            pair.congest(Up, true);
        }
        let id = pair.client.call(pair.now, name("ticks"), json("1"), options).expect("room");
        pair.run();
        pair.client.grant(id, 2);
        pair.run();
        pair.restart();
        pair.server_heard.clear();
        pair.advance(30 * SECOND);
        let heard = pair.take_server_peer();
        let [PeerEvent::Call { id: theirs, credit: Some(0), .. }, PeerEvent::Credit(more)] = heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(theirs, more);
        pair.client_heard.clear();
        for expected in [Ok(()), Ok(()), Err(Refused::Backpressure)] {
            assert_eq!(send(&mut pair, theirs, "1"), expected);
        }
        assert_eq!(pair.take_client_peer(), [item(id, "1"), item(id, "1")]);
    }
}

#[test]
fn an_item_above_the_limit_is_refused_and_costs_no_credit() {
    let (mut pair, id, theirs) = streaming(stream(1));
    let large = Payload::bytes(vec![0; moorline_protocol::limits::DEFAULT_MAX_MESSAGE + 1]);
    assert_eq!(pair.server().item(theirs, large), Err(Refused::TooLarge));
    assert_eq!(send(&mut pair, theirs, "1"), Ok(()));
    assert_eq!(pair.take_client_peer(), [item(id, "1")]);
}
