//! What must not be missing is kept beyond the caps, and far beyond them the session is lost.

use moorline_protocol::{code::Code, error::Refused, frame::ResetReason, server::Ended, session::Sent};

use crate::{
    pair::*,
    talk::{SECOND, broadcast, ended, reasons, texts},
};

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
