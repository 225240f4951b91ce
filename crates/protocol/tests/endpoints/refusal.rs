//! The server says no, or that it ends it: what is sealed counts, what anybody on the way can write does not.

use std::time::Duration;

use moorline_protocol::{
    client::{ClientInput, SocketInput, Status},
    code::Code,
    server::{Ended, HandshakeFailure, Rejection, ServerEvent},
};

use crate::pair::*;

const SECOND: Duration = Duration::from_secs(1);

fn rejection(code: Code) -> Rejection {
    Rejection::of(code)
}

fn rejected(setup: Setup, rejection: Rejection) -> Pair {
    let mut pair = Pair::new(setup);
    pair.admission = Admission::Reject(rejection);
    pair.client.start(pair.now);
    pair.run();
    pair
}

/// The length of the one record that says no.
fn length_of_refusal(pair: &Pair) -> usize {
    let sent = pair.sent(Down);
    assert_eq!(sent.len(), 2, "HS2 and the Reject");
    assert_eq!(pair.server_closed, [Code::REJECTED]);
    sent[1].len()
}

#[test]
fn every_sealed_reject_has_one_length() {
    let expected = length_of_refusal(&rejected(Setup::default(), rejection(Code::UNAUTHORIZED)));
    for code in moorline_protocol::code::ALL.iter().map(|entry| entry.code).filter(|code| code.0 >= 4000) {
        for text in ["", "x", "é", &"é".repeat(5_000)] {
            for retry_after in [Duration::ZERO, SECOND, Duration::MAX] {
                let (name, message) = (text.to_owned(), text.to_owned());
                let rejection = Rejection { code, name, message, retry_after };
                assert_eq!(length_of_refusal(&rejected(Setup::default(), rejection)), expected, "{code:?}");
            }
        }
    }
}

#[test]
fn a_wrong_endpoint_is_named_with_the_right_ones_in_a_reject_of_the_same_length() {
    let expected = length_of_refusal(&rejected(Setup::default(), rejection(Code::UNAUTHORIZED)));
    for public in ["wss://example.com/m".to_owned(), format!("wss://example.com/{}", "x".repeat(2_000))] {
        let mut setup = Setup::default();
        setup.server.public_urls = vec![url(&public)];
        let pair = setup.start();
        assert_eq!(length_of_refusal(&pair), expected);
        assert!(!pair.arrived());
        assert!(matches!(pair.server_heard[..], [ServerEvent::HandshakeFailed(HandshakeFailure::WrongEndpoint(_))]));
        let failure = pair.failure().expect("a failure");
        assert_eq!(failure.code, Code::WRONG_ENDPOINT);
        assert!(failure.message.contains("ws://localhost:2667/moorline"), "{}", failure.message);
        assert!(failure.message.contains("wss://example.com/"), "{}", failure.message);
    }
}

#[test]
fn a_public_url_that_the_client_dialled_lets_it_in() {
    let mut setup = Setup::default();
    setup.server.public_urls = vec![url("wss://example.com/m"), url("http://LOCALHOST:2667/moorline")];
    setup.connect();
}

#[test]
fn a_sealed_reject_with_a_stop_code_stops_the_client() {
    for code in [Code::UNAUTHORIZED, Code::TOKEN_MISSING, Code::REFUSED, Code(4_999)] {
        let mut pair = rejected(Setup::default(), rejection(code));
        let Some(Status::Closed(Some(failure))) = pair.last_status() else { panic!("{:?}", pair.last_status()) };
        assert_eq!(failure.code, code);
        assert!(failure.reference.is_some());
        pair.advance(3_600 * SECOND);
        assert_eq!(pair.sockets, 1);
    }
}

#[test]
fn what_an_auth_handler_says_reaches_the_client() {
    let name = "banned".to_owned();
    let message = "until Monday".to_owned();
    let pair = rejected(Setup::default(), Rejection { name, message, ..rejection(Code::REFUSED) });
    let failure = pair.failure().expect("a failure");
    assert_eq!((failure.name().as_str(), failure.message.as_str()), ("banned", "until Monday"));
    let Some(ServerEvent::Ended(ended, 0)) = pair.server_heard.last() else { panic!("{:?}", pair.server_heard) };
    assert_eq!(*ended, Ended::Closed(Code::REFUSED));
}

#[test]
fn the_reference_of_a_reject_is_the_one_that_the_server_logs() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = Admission::Silence;
    pair.client.start(pair.now);
    pair.run();
    let logged = pair.server().reject(rejection(Code::UNAUTHORIZED));
    pair.run();
    assert!(logged.is_some());
    assert_eq!(pair.failure().and_then(|failure| failure.reference), logged);
    assert_eq!(pair.server().reject(rejection(Code::UNAUTHORIZED)), None, "it is over");
}

#[test]
fn a_reject_to_come_again_is_tried_again_and_not_before_the_time_it_names() {
    for code in [Code::SERVER_FULL, Code::RATE_LIMITED, Code::DRAINING, Code::TOKEN_EXPIRED] {
        let mut pair = rejected(Setup::default(), Rejection { retry_after: 60 * SECOND, ..rejection(code) });
        assert_eq!(pair.retry_in(), Some(60 * SECOND));
        pair.admission = Admission::Admit;
        pair.advance(59 * SECOND);
        assert_eq!(pair.sockets, 1, "{code:?}");
        pair.advance(SECOND);
        assert!(pair.is_connected(), "{code:?}");
    }
}

/// The network's return or a page that was shown ended any wait: whoever switched between pages came to a full server, or
/// to one that had parted from him for sending too fast, as often as he liked.
#[test]
fn regression_a_wait_that_the_server_asked_for_is_kept_whoever_wants_it_over() {
    for by_reject in [true, false] {
        let mut pair = if by_reject {
            rejected(Setup::default(), Rejection { retry_after: 60 * SECOND, ..rejection(Code::SERVER_FULL) })
        } else {
            let mut pair = Setup::default().connect();
            let now = pair.now;
            pair.server().part(now, Code::RATE_LIMITED, "", 60 * SECOND);
            pair.run();
            pair
        };
        pair.admission = Admission::Admit;
        assert_eq!(pair.retry_in(), Some(60 * SECOND));
        let (sockets, heard) = (pair.sockets, pair.client_heard.len());
        for second in 1..60 {
            pair.advance(SECOND);
            pair.client.retry_now(pair.now);
            pair.run();
            assert_eq!((pair.sockets, pair.client_heard.len()), (sockets, heard), "after {second} s");
        }
        pair.advance(SECOND);
        assert!(pair.is_connected());
    }
}

#[test]
fn of_a_wait_that_is_longer_than_the_server_asked_for_the_rest_is_cut_off() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = Admission::Reject(Rejection { retry_after: SECOND, ..rejection(Code::SERVER_FULL) });
    pair.client.start(pair.now);
    pair.run();
    // Until the back-off is the longer one.
    while pair.retry_in().expect("a wait") <= SECOND {
        pair.now = pair.now + SECOND;
        pair.wake();
    }
    let sockets = pair.sockets;
    pair.admission = Admission::Admit;
    pair.client.retry_now(pair.now);
    pair.run();
    assert_eq!((pair.retry_in(), pair.sockets), (Some(SECOND), sockets), "and the user is told so");
    pair.client.retry_now(pair.now);
    pair.advance(SECOND - Duration::from_millis(1));
    assert_eq!(pair.sockets, sockets);
    pair.advance(Duration::from_millis(1));
    assert!(pair.is_connected());
}

/// A Reject comes after the handshake, and was counted as the loss of a connection: the number of the try stood still.
#[test]
fn regression_tries_that_are_rejected_are_counted() {
    let mut pair = rejected(Setup::default(), rejection(Code::SERVER_FULL));
    for expected in 2..6 {
        let Some(Status::Connecting { attempt, .. }) = pair.last_status() else { panic!("{:?}", pair.last_status()) };
        assert_eq!(*attempt, expected);
        pair.now = pair.now + pair.retry_in().expect("a wait");
        pair.wake();
    }
}

#[test]
fn nobody_decides_for_too_long_and_the_client_is_told_to_come_again() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = Admission::Silence;
    pair.client.start(pair.now);
    pair.advance(10 * SECOND);
    assert_eq!(pair.server_closed.first(), Some(&Code::REJECTED));
    let ended = ServerEvent::Ended(Ended::Closed(Code::SERVER_FULL), 0);
    assert!(pair.server_heard.contains(&ended));
}

#[test]
fn a_bare_close_never_stops_a_client() {
    for number in [1000, 1001, 1006, 1012, 3000, 4000, 4400, 4500, 4501, 4505, 4999, u16::MAX] {
        let mut pair = Setup::default().connect();
        pair.close_socket(number);
        pair.run();
        let failure = pair.failure().expect("a failure");
        let believed = if number == 4000 { Code::HANDSHAKE_FAILED } else { Code::CONNECTION_LOST };
        assert_eq!((failure.code, failure.reference), (believed, None), "{number}");
        pair.advance(30 * SECOND);
        assert!(pair.is_connected(), "{number}");
    }
}

#[test]
fn a_bare_close_while_connecting_never_stops_a_client() {
    for number in [1000, 1006, 4500] {
        for after in 0..3 {
            let mut pair = Pair::new(Setup::default());
            pair.bend = Box::new(|_, _, _| Vec::new());
            pair.client.start(pair.now);
            if after > 0 {
                let opened = pair.client.poll_output();
                assert!(matches!(opened, moorline_protocol::client::ClientOutput::Event(_)));
                pair.run();
            }
            pair.close_socket(number);
            pair.run();
            pair.bend = Box::new(|_, _, record| vec![record]);
            pair.advance(40 * SECOND);
            assert!(pair.is_connected(), "{number} after {after}");
        }
    }
}

#[test]
fn a_goaway_with_a_stop_code_stops_and_another_is_tried_again() {
    for (code, socket_code, stops) in [
        (Code::CLOSED_BY_SERVER, Code::CLOSED_BY_SERVER, true),
        (Code::SUPERSEDED, Code::SUPERSEDED, true),
        (Code::GOING_AWAY, Code::SERVICE_RESTART, false),
        (Code::RATE_LIMITED, Code::RATE_LIMITED, false),
    ] {
        let mut pair = Setup::default().connect();
        let logged = pair.server().close(code, "good night", 40 * SECOND);
        pair.run();
        let failure = pair.failure().expect("a failure").clone();
        assert_eq!((failure.code, failure.reference, failure.message.as_str()), (code, logged, "good night"));
        assert_eq!(pair.server_closed, [socket_code]);
        pair.advance(39 * SECOND);
        assert_eq!(pair.sockets, 1);
        pair.advance(SECOND);
        assert_eq!(pair.is_connected(), !stops, "{code:?}");
    }
}

#[test]
fn a_server_that_closes_before_hs3_says_only_that_the_handshake_failed() {
    let mut pair = Pair::new(Setup::default());
    pair.bend = Box::new(|_, _, _| Vec::new());
    pair.client.start(pair.now);
    pair.run();
    assert_eq!(pair.server().close(Code::GOING_AWAY, "secret", SECOND), None);
    pair.run();
    assert_eq!(pair.server_closed, [Code::HANDSHAKE_FAILED]);
    assert_eq!(pair.sent(Down).len(), 0);
}

#[test]
fn a_record_after_a_close_is_passed_over_on_both_sides() {
    let mut pair = Setup::default().connect();
    let (socket, record) = (pair.socket_id(), pair.sent(Down)[1].clone());
    pair.client.close();
    pair.run();
    let heard = (pair.client_heard.len(), pair.server_heard.len());
    pair.client.handle_input(pair.now, ClientInput::Socket(socket, SocketInput::Record(record.clone())));
    let now = pair.now;
    pair.server().handle_input(now, moorline_protocol::server::ServerInput::Record(record));
    pair.run();
    assert_eq!((pair.client_heard.len(), pair.server_heard.len()), heard);
}
