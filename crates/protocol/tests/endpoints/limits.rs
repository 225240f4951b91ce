//! What a peer may not send, and the code that each costs it. Over a plain connection, where a test can write frames.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    client::{ClientEvent, ClientInput, SocketInput},
    code::Code,
    error::{Malformed, Violation},
    frame::{CallId, Failure, ResetReason},
    limits::{MAX_AUTH, MAX_RECORD, Pace},
    payload::Payload,
    record::Suite,
    server::{Ended, HandshakeFailure, ServerConfig, ServerEvent, ServerInput},
    session::{Broadcast, CallOptions, Outcome},
};

use crate::{
    pair::*,
    stranger::{header, initiator, prologue, read, write},
};

const PLAIN: u8 = 0x11;
const SEALED: u8 = 0x10;

fn plain(frames: &[u8]) -> Bytes {
    [&[PLAIN], frames].concat().into()
}

/// Whether it was said by the peer itself, which would say it again, or may have been anybody on the way.
fn spoils_session(violation: Violation) -> bool {
    !matches!(violation, Violation::OversizedRecord | Violation::EmptyRecord | Violation::UnexpectedRecord)
}

/// What a connected side of the plain wire makes of a record, from the server's and the client's point of view.
fn assert_violates(record: impl Into<Bytes>, violation: Violation) {
    let record = record.into();
    let mut pair = Setup::plain().connect();
    pair.server_heard.clear();
    pair.inject(Up, record.clone());
    pair.run();
    let ended = Ended::Violation(violation);
    let spoilt = ServerEvent::Ended(ended, 0);
    assert_eq!(pair.server_heard, [if spoils_session(violation) { spoilt } else { ServerEvent::Parked(ended) }]);
    assert_eq!(pair.server_closed, [violation.code()]);

    let mut pair = Setup::plain().connect();
    pair.client_heard.clear();
    pair.inject(Down, record);
    pair.run();
    assert_eq!(pair.client_closed, [violation.code()]);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(violation.code()));
    let reasons: Vec<_> = pair.resets().iter().map(|reset| reset.reason).collect();
    assert_eq!(reasons, if spoils_session(violation) { vec![ResetReason::Unknown] } else { vec![] });
    assert_eq!(pair.take_client_peer(), []);
}

/// A frame that only one side may send, from the other.
fn assert_wrong_side(direction: Direction, frame: &[u8], violation: Violation) {
    let mut pair = Setup::plain().connect();
    pair.inject(direction, plain(frame));
    pair.run();
    let closed = if direction == Up { &pair.server_closed } else { &pair.client_closed };
    assert_eq!(closed, &[violation.code()]);
}

#[test]
fn an_oversized_record_is_a_violation() {
    assert_violates(vec![PLAIN; MAX_RECORD + 1], Violation::OversizedRecord);
    let mut pair = Setup::default().connect();
    pair.inject(Up, vec![SEALED; MAX_RECORD + 1]);
    pair.run();
    assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION]);
    let mut pair = Setup::default().connect();
    let now = pair.now;
    pair.server().handle_input(now, ServerInput::Oversized);
    pair.run();
    assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION]);
}

/// The native client's WebSocket library stops at the cap; that counted as a connection that was merely lost.
#[test]
fn regression_a_record_too_large_to_be_read_is_a_violation_for_the_client_too() {
    let mut pair = Setup::default().connect();
    let oversized = ClientInput::Socket(pair.socket_id(), SocketInput::Oversized);
    pair.client.handle_input(pair.now, oversized);
    pair.run();
    assert_eq!(pair.client_closed, [Code::PROTOCOL_VIOLATION]);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::PROTOCOL_VIOLATION));
}

#[test]
fn a_record_of_the_full_size_is_taken() {
    // A notification: name "n", encoding, and as many bytes as fill the record, in two frames.
    let mut pair = Setup::plain().connect();
    pair.server_heard.clear();
    let room = MAX_RECORD - 1;
    let frame = |length: usize| {
        let body = length - 5;
        let size = [(body & 0x7f) as u8 | 0x80, (body >> 7 & 0x7f) as u8 | 0x80, (body >> 14) as u8];
        [&[0x14, 0][..], &size, &[1, b'n', 0], &vec![9; body - 3]].concat()
    };
    let record = plain(&[frame(room / 2), frame(room - room / 2)].concat());
    assert_eq!(record.len(), MAX_RECORD);
    pair.inject(Up, record);
    pair.run();
    assert_eq!(pair.take_server_peer().len(), 2);
}

#[test]
fn an_empty_record_is_a_violation() {
    assert_violates(Bytes::new(), Violation::EmptyRecord);
    assert_violates(vec![PLAIN], Violation::EmptyRecord);
}

#[test]
fn a_text_message_is_a_violation() {
    let mut pair = Setup::default().connect();
    let now = pair.now;
    pair.server().handle_input(now, ServerInput::Text);
    pair.run();
    assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION]);

    let mut pair = Setup::default().connect();
    let text = ClientInput::Socket(pair.socket_id(), SocketInput::Text);
    pair.client.handle_input(pair.now, text);
    pair.run();
    assert_eq!(pair.client_closed, [Code::PROTOCOL_VIOLATION]);
}

#[test]
fn an_unknown_frame_is_a_violation() {
    for kind in [0x00, 0x09, 0x0b, 0x0c, 0x0f, 0x1b, 0x1f, 0x24, 0x2b, 0x80, 0xff] {
        assert_violates(plain(&[kind, 0, 0]), Violation::UnknownFrame);
    }
}

#[test]
fn a_flag_that_the_kind_does_not_have_is_a_violation() {
    for flag in 0..8 {
        assert_violates(plain(&[0x07, 1 << flag, 1, 5]), Violation::UnknownFrame);
        assert_violates(plain(&[0x15, 1 << flag, 3, 1, b'n', 0]), Violation::UnknownFrame);
        if flag > 0 {
            assert_violates(plain(&[0x14, 1 << flag, 3, 1, b'n', 0]), Violation::UnknownFrame);
        }
        if flag > 2 {
            assert_violates(plain(&[0x10, 1 << flag, 4, 1, 1, b'n', 0]), Violation::UnknownFrame);
        }
    }
}

#[test]
fn a_frame_of_the_wrong_side_is_a_violation() {
    for kind in [0x01, 0x02, 0x03] {
        assert_wrong_side(Up, &[kind, 0, 0], Violation::UnknownFrame);
    }
    assert_wrong_side(Down, &[0x04, 0, 0], Violation::UnknownFrame);
}

#[test]
fn a_second_welcome_is_a_violation() {
    let mut pair = Setup::plain().connect();
    let welcome = pair.sent(Down)[0].clone();
    pair.inject(Down, welcome);
    pair.run();
    assert_eq!(pair.client_closed, [Code::PROTOCOL_VIOLATION]);
}

#[test]
fn a_message_before_welcome_is_a_violation() {
    // A notification, the first part of one, an acknowledgement, a number.
    for frame in [&[0x14, 0, 3, 1, b'n', 0][..], &[0x19, 0, 4, 0x14, 0, 100, 9], &[0x06, 0, 1, 0], &[0x05, 0, 1, 1]] {
        let mut pair = Pair::new(Setup::plain());
        pair.bend = Box::new(|direction, _, record| match direction {
            Up => vec![record],
            Down => vec![plain(frame)],
        });
        pair.client.start(pair.now);
        pair.run();
        assert_eq!(pair.client_closed, [Code::PROTOCOL_VIOLATION], "frame {:#x}", frame[0]);
        assert_eq!(pair.take_client_peer(), []);
    }
}

/// What came before Welcome was refused, and counted all the same: the next session began with wrong numbers.
#[test]
fn regression_what_came_before_welcome_is_not_counted() {
    for frame in [&[0x14, 0, 3, 1, b'n', 0][..], &[0x19, 0, 4, 0x14, 0, 100, 9]] {
        let mut pair = Pair::new(Setup::plain());
        let early = plain(frame);
        pair.bend = Box::new(move |direction, number, record| match (direction, number) {
            (Down, 0) => vec![early.clone(), record],
            _ => vec![record],
        });
        pair.client.start(pair.now);
        pair.run();
        pair.bend = Box::new(|_, _, record| vec![record]);
        pair.advance(Duration::from_secs(30));
        assert!(pair.is_connected());
        let sockets = pair.sockets;
        let broadcast = Broadcast::new(name("n"), Payload::json("1"), false).expect("small");
        pair.server().send(&broadcast).expect("room");
        pair.advance(Duration::from_secs(1));
        assert_eq!(pair.sockets, sockets, "the server was told of what it had never sent");
        assert_eq!(pair.resets(), []);
        assert_eq!(pair.take_client_peer().len(), 1);
    }
}

#[test]
fn a_record_before_the_decision_is_a_violation() {
    let mut pair = Pair::new(Setup::plain());
    pair.admission = Admission::Silence;
    pair.client.start(pair.now);
    pair.run();
    pair.inject(Up, plain(&[0x07, 0, 1, 5]));
    pair.run();
    let ended = ServerEvent::Ended(Ended::Violation(Violation::UnexpectedRecord), 0);
    assert_eq!(pair.server_heard.last(), Some(&ended));
    assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION]);
}

#[test]
fn malformed_frames_are_violations() {
    let malformed = Violation::Malformed;
    let end = malformed(Malformed::UnexpectedEnd);
    assert_violates(plain(&[0x07]), end);
    assert_violates(plain(&[0x07, 0]), end);
    assert_violates(plain(&[0x07, 0, 2, 5]), end);
    assert_violates(plain(&[0x07, 0, 0]), end);
    assert_violates(plain(&[0x07, 0, 2, 5, 5]), malformed(Malformed::TrailingBytes));
    assert_violates(plain(&[0x07, 0, 2, 0x85, 0]), malformed(Malformed::OverlongInteger));
    assert_violates(plain(&[0x07, 0, 0x81, 0, 5]), malformed(Malformed::OverlongInteger));
    assert_violates(plain(&[0x07, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), malformed(Malformed::TooLong));
    // call 1 | name | encoding | payload
    assert_violates(plain(&[0x10, 0, 3, 1, 0, 0]), malformed(Malformed::InvalidName));
    assert_violates(plain(&[0x10, 0, 4, 1, 1, b'\n', 0]), malformed(Malformed::InvalidName));
    assert_violates(plain(&[0x10, 0, 4, 1, 1, 0xff, 0]), malformed(Malformed::NotUtf8));
    assert_violates(plain(&[0x10, 0, 4, 1, 1, b'n', 2]), malformed(Malformed::UnknownValue));
    assert_violates(plain(&[0x10, 0, 3, 1, 1, b'n']), end);
    // fail 1 | code above 65,535
    assert_violates(plain(&[0x12, 0, 6, 1, 0x80, 0x80, 0x04, 0, 0]), malformed(Malformed::IntegerTooLarge));
}

#[test]
fn what_came_before_a_malformed_frame_in_its_record_counts() {
    let mut pair = Setup::plain().connect();
    pair.server_heard.clear();
    pair.inject(Up, plain(&[0x14, 0, 3, 1, b'n', 0, 0xff]));
    pair.run();
    assert_eq!(pair.take_server_peer().len(), 1);
    assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION]);
}

#[test]
fn a_number_used_for_a_second_call_is_a_violation() {
    for second in [4, 5] {
        let mut pair = Setup::plain().connect();
        pair.server_heard.clear();
        pair.inject(Up, plain(&[0x10, 0, 4, 5, 1, b'n', 0]));
        pair.inject(Up, plain(&[0x10, 0, 4, second, 1, b'n', 0]));
        pair.run();
        let heard = pair.take_server_peer();
        let first = heard.iter().filter(|event| matches!(event, PeerEvent::Call { .. })).count();
        assert_eq!(first, 1, "{heard:?}");
        assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION]);
    }
}

#[test]
fn a_client_is_told_every_limit_that_it_has_to_keep() {
    let told = |change: fn(&mut ServerConfig)| {
        let mut setup = Setup::default();
        change(&mut setup.server);
        let pair = setup.connect();
        let told = pair.client_heard.iter().find_map(|event| match event {
            ClientEvent::Session(info) => Some(info.welcome.clone()),
            _ => None,
        });
        let welcome = told.expect("it is in");
        (welcome.max_message, welcome.max_calls_in_flight, welcome.pace)
    };
    assert_eq!(told(|_| {}), (4 * 1024 * 1024, 1_024, Pace::default()));
    let slow = |server: &mut ServerConfig| {
        (server.limits.max_message, server.limits.max_calls_in_flight) = (1_000, 7);
        server.pace.messages_per_second = NonZeroU64::new(20);
        server.pace.bytes_per_second = NonZeroU64::new(u64::MAX);
    };
    let pace = Pace { messages_per_second: NonZeroU64::new(20), bytes_per_second: NonZeroU64::new(u64::MAX) };
    assert_eq!(told(slow), (1_000, 7, pace));
}

#[test]
fn a_payload_above_the_limit_is_a_violation() {
    // call, reply, fail with data, notify, volatile: each with eleven bytes of payload
    let payload = [&[0][..], &[9; 11]].concat();
    let call = [&[0x10, 0, 15, 1, 1, b'n'][..], &payload].concat();
    let reply = [&[0x11, 0, 13, 1][..], &payload].concat();
    let fail = [&[0x12, 0, 17, 1, 0xcc, 0x08, 0, 0][..], &payload].concat();
    let notify = [&[0x14, 0, 14, 1, b'n'][..], &payload].concat();
    let volatile = [&[0x15, 0, 14, 1, b'n'][..], &payload].concat();
    for (limit, taken) in [(11, true), (10, false)] {
        for frame in [&call, &reply, &fail, &notify, &volatile] {
            let mut setup = Setup::plain();
            setup.server.limits.max_message = limit;
            let mut pair = setup.connect();
            pair.inject(Up, plain(frame));
            pair.run();
            let expected: &[Code] = if taken { &[] } else { &[Code::PROTOCOL_VIOLATION] };
            assert_eq!(pair.server_closed, expected, "frame {:#x} under a limit of {limit}", frame[0]);
        }
    }
}

#[test]
fn a_call_too_many_fails_alone() {
    let mut setup = Setup::default();
    setup.server.limits.max_calls_in_flight = 1;
    let mut pair = setup.connect();
    pair.server_heard.clear();
    let (first, second) = (pair.call("1"), pair.call("2"));
    pair.run();
    assert_eq!(pair.take_server_peer().len(), 1);
    assert_eq!(pair.settled(), [(second, Outcome::Failed(Failure::of(Code::TOO_MANY_CALLS)))]);
    pair.server().answer(first, Ok(Payload::json("1"))).expect("small");
    let third = pair.call("3");
    pair.run();
    assert!(matches!(&pair.take_server_peer()[..], [PeerEvent::Call { id, .. }] if *id == third));
}

#[test]
fn an_answer_above_the_callers_limit_becomes_a_failure() {
    let mut setup = Setup::default();
    setup.server.limits.max_message = 10;
    let mut pair = setup.connect();
    let now = pair.now;
    let id = pair.server().call(now, name("ask"), Payload::json("1"), CallOptions::default()).expect("connected");
    pair.run();
    pair.server_heard.clear();
    let refused = pair.client.answer(pair.now, CallId(1), Ok(Payload::json("\"0123456789\"")));
    assert_eq!(refused, Err(moorline_protocol::error::Refused::TooLarge));
    pair.run();
    let outcome = Outcome::Failed(Failure::of(Code::TOO_LARGE));
    assert_eq!(pair.take_server_peer(), [PeerEvent::Settled { id, outcome }]);
}

/// AUTH as the client writes it: field 1 the URL, field 4 the version.
const AUTH: &[u8] = b"\x01\x0cws://a/socket\x04\x01x";

/// What the server makes of an AUTH: over the plain wire, and in a real HS3 of a client that is not ours.
fn auth_is_taken(auth: &[u8]) -> bool {
    let mut plain = Pair::new(Setup::plain());
    let hello = [&[0x04, 0x01], auth].concat();
    plain.bend = Box::new(move |_, number, record| vec![if number == 0 { hello.clone().into() } else { record }]);
    plain.client.start(plain.now);
    plain.run();

    let suite = Suite::Aes256Gcm;
    let header = header(suite, server_key());
    let mut noise = initiator(suite, &[5; 32], &[6; 32], &prologue(&header));
    let mut sealed = Pair::new(Setup::default());
    sealed.bend = Box::new(|_, _, _| Vec::new());
    sealed.client.start(sealed.now);
    sealed.run();
    sealed.inject(Up, write(&mut noise, &header, &[]));
    sealed.run();
    read(&mut noise, &sealed.sent(Down)[0][1..]).expect("HS2 opens");
    sealed.inject(Up, write(&mut noise, &[0x03], auth));
    sealed.run();

    for (pair, failure) in [(&plain, HandshakeFailure::ClientHello), (&sealed, HandshakeFailure::ClientFinish)] {
        if !pair.arrived() {
            assert_eq!(pair.server_closed, [Code::HANDSHAKE_FAILED]);
            assert_eq!(pair.server_heard, [ServerEvent::HandshakeFailed(failure)]);
        }
    }
    assert_eq!(plain.arrived(), sealed.arrived());
    sealed.arrived()
}

/// One field: tag, length in two bytes where it needs them, value.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let size = if length < 128 { vec![length as u8] } else { vec![(length & 0x7f) as u8 | 0x80, (length >> 7) as u8] };
    [&[tag], &size[..], value].concat()
}

#[test]
fn auth_is_taken_in_its_one_form_only() {
    let url = field(1, b"ws://a/socket");
    let version = field(4, b"x");
    assert!(auth_is_taken(&[url.clone(), version.clone()].concat()));
    assert!(auth_is_taken(&[url.clone(), field(2, b"kept"), version.clone(), field(9, b"later")].concat()));
    let bad: &[(&str, Vec<u8>)] = &[
        ("nothing", Vec::new()),
        ("no version", url.clone()),
        ("no URL", version.clone()),
        ("fields out of order", [version.clone(), url.clone()].concat()),
        ("a field twice", [url.clone(), url.clone(), version.clone()].concat()),
        ("a field cut short", AUTH[..AUTH.len() - 1].to_vec()),
        ("not a URL", [field(1, b"hello"), version.clone()].concat()),
        ("a URL in another form", [field(1, b"WS://A/socket"), version.clone()].concat()),
        ("a URL that is too long", [field(1, format!("ws://a/{}", "x".repeat(2_048)).as_bytes()), version].concat()),
        ("a version that is too long", [url.clone(), field(4, &[b'x'; 65])].concat()),
        ("a version that is not UTF-8", [url, field(4, &[0xff])].concat()),
    ];
    for (case, auth) in bad {
        assert!(!auth_is_taken(auth), "{case}");
    }
}

#[test]
fn hs3_is_taken_up_to_8_kib_and_not_beyond() {
    let start = [field(1, b"ws://a/socket"), field(4, b"x")].concat();
    let filled = |length: usize| [&start[..], &field(9, &vec![0; length - start.len() - 3])].concat();
    assert_eq!(filled(MAX_AUTH).len(), MAX_AUTH);
    assert!(auth_is_taken(&filled(MAX_AUTH)));
    assert!(!auth_is_taken(&filled(MAX_AUTH + 1)));
}

#[test]
fn a_client_whose_prologue_has_another_subprotocol_is_refused_before_hs3() {
    let suite = Suite::Aes256Gcm;
    let header = header(suite, server_key());
    for (subprotocol, answered) in [("moorline.v1", 1), ("moorline.v1.plain", 0), ("", 0)] {
        let prologue = [b"moorline prologue 1\0", &header[..], subprotocol.as_bytes()].concat();
        let mut noise = initiator(suite, &[5; 32], &[6; 32], &prologue);
        let mut pair = Pair::new(Setup::default());
        pair.bend = Box::new(|_, _, _| Vec::new());
        pair.client.start(pair.now);
        pair.run();
        pair.inject(Up, write(&mut noise, &header, &[]));
        pair.run();
        assert_eq!(pair.sent(Down).len(), answered, "{subprotocol:?}");
        assert_eq!(pair.server_closed.len(), 1 - answered, "{subprotocol:?}");
        assert!(!pair.arrived());
    }
}
