//! Messages that are too large for one frame travel in parts, and leave room for others.

use std::time::Duration;

use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::{Malformed, Violation},
    frame::CallId,
    limits::{DEFAULT_MAX_MESSAGE, MAX_RECORD, PART},
    payload::Payload,
    server::{Ended, ServerEvent},
    session::{Broadcast, CallOptions, Outcome, Sent},
};

use crate::{
    foreign::{Foreign, frame, note, varint},
    pair::*,
};

const MIB: usize = 1024 * 1024;
const ACK_AFTER: Duration = Duration::from_millis(500);

/// Bytes of which none is like the one 251 places away.
fn pattern(size: usize) -> Payload {
    Payload::bytes((0..size).map(|place| (place % 251) as u8).collect::<Vec<_>>())
}

fn pair() -> Pair {
    let mut pair = Setup::plain().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair
}

fn message(payload: &Payload) -> PeerEvent {
    PeerEvent::Message { name: name("n"), payload: payload.clone(), volatile: false }
}

fn broadcast(payload: &Payload) -> Broadcast {
    Broadcast::new(name("n"), payload.clone(), false).expect("within the limit")
}

#[test]
fn a_message_up_to_the_limit_arrives_whole_both_ways() {
    for size in [PART, PART + 1, 2 * PART, 2 * PART + 1, MAX_RECORD, MIB, DEFAULT_MAX_MESSAGE] {
        let mut pair = pair();
        let payload = pattern(size);
        pair.client.notify(name("n"), payload.clone(), false).expect("room");
        pair.server().send(&broadcast(&payload)).expect("room");
        pair.run();
        // Not by assert_eq!: it would print megabytes.
        assert!(pair.take_server_peer() == [message(&payload)], "{size} up");
        assert!(pair.take_client_peer() == [message(&payload)], "{size} down");
        pair.advance(ACK_AFTER);
        assert_eq!((pair.client.waiting_bytes(), pair.server().kept().0), (0, 0));
        assert!(pair.sent.iter().all(|(_, record)| record.len() <= MAX_RECORD));
    }
}

#[test]
fn a_sealed_message_of_the_largest_size_arrives_whole() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    let payload = pattern(MIB);
    pair.client.notify(name("n"), payload.clone(), false).expect("room");
    pair.run();
    assert!(pair.take_server_peer() == [message(&payload)]);
    assert!(pair.sent.iter().all(|(_, record)| record.len() <= MAX_RECORD));
}

/// What may stand out beyond the cap was taken for answers that pile up, and the session was given up.
#[test]
fn regression_the_largest_call_reply_and_item_arrive_whole_both_ways() {
    let payload = pattern(DEFAULT_MAX_MESSAGE);
    let mut pair = pair();
    let mut options = CallOptions::default();
    options.credit = Some(1);
    let id = pair.client.call(pair.now, name("n"), payload.clone(), options.clone()).expect("room");
    pair.run();
    let heard = pair.take_server_peer();
    assert!(matches!(&heard[..], [PeerEvent::Call { payload: whole, .. }] if *whole == payload));
    pair.server().item(id, payload.clone()).expect("credit");
    pair.server().answer(id, Ok(payload.clone())).expect("within the limit");
    pair.run();
    let item = PeerEvent::Item { id, payload: payload.clone() };
    let settled = PeerEvent::Settled { id, outcome: Outcome::Reply(payload.clone()) };
    assert!(pair.take_client_peer() == [item, settled]);

    pair.advance(ACK_AFTER);
    let now = pair.now;
    let id = pair.server().call(now, name("n"), payload.clone(), options).expect("room");
    pair.run();
    pair.client_heard.clear();
    pair.client.item(CallId(1), payload.clone()).expect("credit");
    pair.client.answer(now, CallId(1), Ok(payload.clone())).expect("within the limit");
    pair.run();
    let item = PeerEvent::Item { id, payload: payload.clone() };
    let settled = PeerEvent::Settled { id, outcome: Outcome::Reply(payload.clone()) };
    assert!(pair.take_server_peer() == [item, settled]);
    assert_eq!(pair.resets(), []);
}

#[test]
fn a_large_message_is_whole_after_a_cut_at_any_of_its_records() {
    let payload = pattern(20 * PART + 7);
    let records = payload.bytes.len() / (3 * PART) + 1;
    for direction in [Up, Down] {
        for place in 0..=records {
            let mut pair = pair();
            let mut passed = 0;
            pair.bend = Box::new(move |sent, _, record| {
                passed += usize::from(sent == direction);
                if sent == direction && passed > place { Vec::new() } else { vec![record] }
            });
            if direction == Up {
                pair.client.notify(name("n"), payload.clone(), false).expect("room");
                pair.client.notify(name("n"), Payload::json("after"), false).expect("room");
            } else {
                pair.server().send(&broadcast(&payload)).expect("room");
                pair.server().send(&broadcast(&Payload::json("after"))).expect("room");
            }
            pair.run();
            pair.bend = Box::new(|_, _, record| vec![record]);
            pair.reconnect();
            let heard = if direction == Up { pair.take_server_peer() } else { pair.take_client_peer() };
            assert!(heard == [message(&payload), message(&Payload::json("after"))], "{direction:?} {place}");
        }
    }
}

#[test]
fn parts_that_arrived_are_not_sent_again() {
    let payload = pattern(MIB);
    let mut pair = pair();
    let mut passed = 0;
    pair.bend = Box::new(move |sent, _, record| {
        passed += usize::from(sent == Up);
        if sent == Up && passed > 15 { Vec::new() } else { vec![record] }
    });
    pair.client.notify(name("n"), payload.clone(), false).expect("room");
    pair.run();
    pair.bend = Box::new(|_, _, record| vec![record]);
    let before = pair.sent(Up).concat().len();
    pair.reconnect();
    assert!(pair.take_server_peer() == [message(&payload)]);
    let again = pair.sent(Up).concat().len() - before;
    assert!(again < MIB - 14 * 3 * PART + 1_000, "{again} bytes");
}

#[test]
fn a_reply_passes_a_large_notification_and_a_call_behind_it_waits_for_it() {
    let mut pair = pair();
    let id = pair.call("1");
    pair.run();
    pair.server_heard.clear();
    let large = pattern(MIB);
    pair.congest(Down, true);
    let now = pair.now;
    pair.server().send(&broadcast(&large)).expect("room");
    pair.server().answer(id, Ok(Payload::json("2"))).expect("small");
    // The cap is for what is not confirmed, and this is all of it: one more waits behind.
    let behind = pair.server().call(now, name("ask"), Payload::json("3"), CallOptions::default());
    assert!(behind.is_err(), "the large one fills the window");
    pair.congest(Down, false);
    pair.run();
    let settled = PeerEvent::Settled { id, outcome: Outcome::Reply(Payload::json("2")) };
    assert!(pair.take_client_peer() == [settled, message(&large)]);

    let mut setup = Setup::plain();
    setup.client.limits.max_outgoing_bytes = 2 * MIB;
    let mut pair = setup.connect();
    pair.server_heard.clear();
    pair.client.notify(name("n"), large.clone(), false).expect("room");
    pair.client.call(pair.now, name("n"), Payload::json("3"), CallOptions::default()).expect("room");
    pair.client.notify(name("n"), Payload::json("4"), false).expect("room");
    pair.run();
    let heard = pair.take_server_peer();
    assert_eq!(heard.len(), 3);
    assert!(heard[0] == message(&large));
    assert!(matches!(&heard[1], PeerEvent::Call { payload, .. } if *payload == Payload::json("3")));
    assert_eq!(heard[2], message(&Payload::json("4")));
}

#[test]
fn items_of_a_stream_wait_for_a_large_one_of_theirs_and_pass_that_of_another() {
    let mut setup = Setup::plain();
    setup.server.limits.max_outgoing_bytes = 4 * MIB;
    let mut pair = setup.connect();
    pair.server_heard.clear();
    let mut options = CallOptions::default();
    options.credit = Some(10);
    let ids = [0; 2].map(|_| {
        let payload = Payload::json("1");
        pair.client.call(pair.now, name("ticks"), payload, options.clone()).expect("room")
    });
    pair.run();
    pair.client_heard.clear();
    let large = pattern(MIB);
    pair.congest(Down, true);
    pair.server().item(ids[0], large.clone()).expect("credit");
    pair.server().item(ids[0], Payload::json("small")).expect("credit");
    pair.server().item(ids[1], Payload::json("other")).expect("credit");
    pair.server().item(ids[1], large.clone()).expect("credit");
    pair.server().end_stream(ids[0]);
    pair.server().end_stream(ids[1]);
    pair.congest(Down, false);
    pair.run();
    let item = |id, payload: &Payload| PeerEvent::Item { id, payload: payload.clone() };
    let end = |id| PeerEvent::Settled { id, outcome: Outcome::End };
    let heard = pair.take_client_peer();
    let of = |id: CallId| {
        let of = heard.iter().filter(|event| match event {
            PeerEvent::Item { id: of, .. } | PeerEvent::Settled { id: of, .. } => *of == id,
            _ => false,
        });
        of.cloned().collect::<Vec<_>>()
    };
    assert_eq!(heard.len(), 6);
    assert!(of(ids[0]) == [item(ids[0], &large), item(ids[0], &Payload::json("small")), end(ids[0])]);
    assert!(of(ids[1]) == [item(ids[1], &Payload::json("other")), item(ids[1], &large), end(ids[1])]);
    assert!(heard[0] == item(ids[1], &Payload::json("other")), "it need not wait");
}

#[test]
fn a_large_message_leaves_room_for_small_ones_and_small_ones_for_it() {
    let mut setup = Setup::plain();
    setup.server.limits.max_calls_in_flight = 10_000;
    setup.server.limits.max_outgoing_frames = 20_000;
    setup.client.limits.max_outgoing_frames = 20_000;
    let mut pair = setup.connect();
    let ids: Vec<_> = (0..4_000).map(|_| pair.call("1")).collect();
    pair.run();
    pair.client_heard.clear();
    let large = pattern(8 * PART);
    pair.congest(Down, true);
    pair.server().send(&broadcast(&large)).expect("room");
    for id in &ids {
        pair.server().answer(*id, Ok(Payload::bytes(vec![0; 100]))).expect("small");
    }
    pair.congest(Down, false);
    pair.run();
    let heard = pair.take_client_peer();
    let place = heard.iter().position(|event| *event == message(&large)).expect("it arrived");
    assert!((1_000..3_000).contains(&place), "{place} small ones before it, of 4,000");
}

/// A transfer of more than 64 KiB used to count as a whole, so that nobody's cursor moved until it was over.
#[test]
fn regression_volatile_messages_pass_a_large_one() {
    for direction in [Up, Down] {
        let mut pair = pair();
        let large = pattern(MIB);
        pair.congest(direction, true);
        let say = |pair: &mut Pair, payload: &Payload, volatile| {
            let message = Broadcast::new(name("n"), payload.clone(), volatile).expect("within the limit");
            match direction {
                Up => pair.client.notify(name("n"), payload.clone(), volatile).expect("room"),
                Down => drop(pair.server().send(&message).expect("room")),
            }
        };
        say(&mut pair, &large, false);
        for _ in 0..3 {
            say(&mut pair, &Payload::json("1"), true);
        }
        pair.congest(direction, false);
        pair.run();
        let heard = if direction == Up { pair.take_server_peer() } else { pair.take_client_peer() };
        let volatile = PeerEvent::Message { name: name("n"), payload: Payload::json("1"), volatile: true };
        assert!(heard == [volatile.clone(), volatile.clone(), volatile, message(&large)], "{direction:?}");
    }
}

#[test]
fn volatile_messages_are_dropped_behind_what_goes_out_before_them_and_only_behind_that() {
    // 48 KiB of the large one, and the rest of 64 KiB.
    for (small, sent) in [(16_300, Sent::Queued), (PART, Sent::Dropped)] {
        let mut pair = pair();
        let id = pair.call("1");
        pair.run();
        pair.congest(Down, true);
        pair.server().send(&broadcast(&pattern(MIB - 1_024))).expect("room");
        pair.server().answer(id, Ok(pattern(small))).expect("within the limit");
        let volatile = Broadcast::new(name("n"), Payload::json("1"), true).expect("small");
        assert_eq!(pair.server().send(&volatile), Ok(sent), "{small}");
    }
}

#[test]
fn a_call_that_is_cancelled_on_its_way_ends_and_nobody_waits_for_it() {
    let mut pair = pair();
    let mut passed = 0;
    pair.bend = Box::new(move |sent, _, record| {
        passed += usize::from(sent == Up);
        if sent == Up && passed > 2 { Vec::new() } else { vec![record] }
    });
    let id = pair.client.call(pair.now, name("n"), pattern(MIB), CallOptions::default()).expect("room");
    pair.run();
    pair.client.cancel(id);
    pair.run();
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.reconnect();
    let heard = pair.take_server_peer();
    assert!(matches!(&heard[..], [PeerEvent::Call { id: called, .. }, PeerEvent::Cancelled(of)] if called == of));
    assert_eq!(pair.settled(), []);
}

#[test]
fn a_large_message_that_was_on_its_way_is_listed_once_at_a_reset() {
    let mut pair = pair();
    let mut passed = 0;
    pair.bend = Box::new(move |sent, _, record| {
        passed += usize::from(sent == Up);
        if sent == Up && passed > 2 { Vec::new() } else { vec![record] }
    });
    let id = pair.client.call(pair.now, name("n"), pattern(MIB), CallOptions::default()).expect("room");
    pair.run();
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.restart();
    pair.advance(Duration::from_secs(30));
    assert!(pair.is_connected());
    assert_eq!(pair.resets()[0].unconfirmed.iter().map(|lost| lost.call).collect::<Vec<_>>(), [Some(id)]);
    assert_eq!(pair.settled(), [(id, Outcome::Unknown)]);
    assert_eq!(pair.take_server_peer(), []);
}

/// A First of a Notify, with this total and this much of it.
fn first(total: u64, body: &[u8]) -> Vec<u8> {
    frame(0x19, 0, &[&[0x14, 0][..], &varint(total), body].concat())
}

fn more(body: &[u8]) -> Vec<u8> {
    frame(0x1a, 0, body)
}

#[test]
fn parts_of_any_size_make_a_message() {
    for mut ours in Foreign::both() {
        ours.say(&first(5, b"\x01n"));
        ours.say(&[more(b"\x01"), frame(0x15, 0, b"\x01n\x01v"), frame(0x07, 0, &[7]), more(b"12")].concat());
        assert_eq!(ours.notes(), ["v", "12"], "what is not numbered may stand between");
        ours.say(&first(4, b"\x01n\x013"));
        assert_eq!(ours.notes(), ["3"], "the first may be all");
    }
}

#[test]
fn what_stands_between_the_parts_is_handed_on_first() {
    for mut ours in Foreign::both() {
        ours.say(&[first(5, b"\x01n"), note("small"), more(b"\x0112")].concat());
        assert_eq!(ours.notes(), ["small", "12"]);
    }
}

#[test]
fn parts_that_do_not_fit_together_are_violations() {
    let too_long = Violation::Malformed(Malformed::TooLong);
    let most = DEFAULT_MAX_MESSAGE as u64 + 1_024;
    let in_parts = |kind: u8, flags: u8| frame(0x19, 0, &[kind, flags, 10, 1]);
    let mut cases = vec![
        ("a second first", [first(10, b"1"), first(10, b"1")].concat(), Violation::UnexpectedFrame),
        ("no first", more(b"1"), Violation::UnexpectedFrame),
        ("more than there is", [first(3, b"12"), more(b"34")].concat(), too_long),
        ("a first of more than there is", first(3, b"1234"), too_long),
        ("nothing of nothing", first(0, b""), too_long),
        ("a first of nothing", first(3, b""), too_long),
        ("nothing more", [first(3, b"1"), more(b"")].concat(), too_long),
        ("above the limit", first(most + 1, b"1"), Violation::PayloadTooLarge),
        ("far above the limit", first(u64::MAX, b"1"), Violation::PayloadTooLarge),
        (
            "one more than was announced",
            [first(4, b"\x01n\x01"), more(b"1"), more(b"2")].concat(),
            Violation::UnexpectedFrame,
        ),
    ];
    // Call, Reply, Fail, Notify and Item may come in parts; nothing else may.
    for kind in [0x00, 0x01, 0x05, 0x06, 0x07, 0x13, 0x15, 0x17, 0x18, 0x19, 0x1a, 0xff] {
        cases.push(("a kind that may not come in parts", in_parts(kind, 0), Violation::UnknownFrame));
    }
    cases.push(("the whole may not ask", in_parts(0x14, 1), Violation::UnknownFrame));
    cases.push(("a flag of calls", in_parts(0x14, 2), Violation::UnknownFrame));
    for (case, frames, violation) in cases {
        for mut ours in Foreign::both() {
            ours.say(&frames);
            assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION), "{case}");
            if ours.is_server() {
                assert_eq!(ours.ended, Some((Ended::Violation(violation), 0)), "{case}");
            }
        }
    }
}

#[test]
fn the_payload_of_a_whole_counts_against_the_limit_and_not_its_name() {
    let mut setup = Setup::plain();
    setup.server.limits.max_message = 2 * PART;
    for (size, taken) in [(2 * PART, true), (2 * PART + 1, false)] {
        let mut ours = Foreign::server(setup_of(&setup));
        let body = [b"\x01n\x00".as_slice(), &vec![9; size]].concat();
        ours.say(&first(body.len() as u64, &body[..PART]));
        ours.say(&more(&body[PART..2 * PART]));
        assert_eq!(ours.closed, None);
        ours.say(&more(&body[2 * PART..]));
        assert_eq!(ours.closed.is_none(), taken);
        assert_eq!(ours.heard().len(), usize::from(taken));
    }
}

fn setup_of(setup: &Setup) -> Setup {
    Setup { seed: setup.seed, client: setup.client.clone(), server: setup.server.clone() }
}

#[test]
fn parts_are_acknowledged_one_by_one_and_the_rest_comes_in_the_next_connection() {
    for mut ours in Foreign::both() {
        ours.say(&[first(6, b"\x01n"), more(b"\x01")].concat());
        ours.advance(ACK_AFTER);
        assert_eq!(ours.acks(), [2]);
        ours.resume(0);
        assert_eq!(ours.told, Some(2));
        ours.say_seq(2);
        ours.say(&[more(b"\x01"), more(b"123")].concat());
        assert_eq!(ours.notes(), ["123"], "the part that came again is dropped");
    }
}

#[test]
fn parts_of_a_lost_session_are_forgotten() {
    let mut pair = pair();
    let mut passed = 0;
    pair.bend = Box::new(move |sent, _, record| {
        passed += usize::from(sent == Down);
        if sent == Down && passed > 2 { Vec::new() } else { vec![record] }
    });
    pair.server().send(&broadcast(&pattern(MIB))).expect("room");
    pair.run();
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.restart();
    pair.advance(Duration::from_secs(30));
    let payload = pattern(2 * PART);
    pair.server().send(&broadcast(&payload)).expect("room");
    pair.run();
    assert!(pair.take_client_peer() == [message(&payload)]);
    assert!(!pair.server_heard.iter().any(|event| matches!(event, ServerEvent::Ended(Ended::Violation(_), _))));
}
