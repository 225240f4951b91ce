//! The bytes of the wire, version 1, one claim a test. A snapshot that changes is a change of the wire: old clients and
//! servers must still read it, or the version goes up.

mod greeting;

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    code::Code,
    frame::{CallId, Failure},
    limits::Pace,
    payload::Payload,
    record::Suite,
    server::Rejection,
    session::CallOptions,
};
use std::{num::NonZeroU64, time::Duration};

use crate::pair::*;

/// The bytes of a snapshot: hex, with a comment behind `|` on each line.
fn hex(snapshot: &str) -> Vec<u8> {
    let digits = snapshot.lines().flat_map(|line| line.split('|').next()).flat_map(str::chars);
    let digits: Vec<_> = digits.filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

fn assert_wire(bytes: &[u8], snapshot: &str) {
    let text: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(bytes == hex(snapshot), "the wire has\n{}", text.join(" "));
}

fn setup(mut setup: Setup) -> Setup {
    setup.client.url = url("ws://h/m");
    setup.client.version = "c".to_owned();
    setup.server.version = "s".to_owned();
    setup
}

fn plain() -> Pair {
    setup(Setup::plain()).connect()
}

/// The newest record of a direction.
fn newest(pair: &mut Pair, direction: Direction) -> Bytes {
    pair.run();
    pair.sent(direction).pop().expect("a record")
}

#[test]
fn ping() {
    assert_wire(
        &plain().sent(Up)[1],
        "
        11        | plain record
        07 00 01  | Ping, 1 byte
        00        | number
    ",
    );
}

#[test]
fn pong() {
    assert_wire(
        &plain().sent(Down)[1],
        "
        11        | plain record
        08 00 01  | Pong, 1 byte
        00        | the Ping's number
    ",
    );
}

#[test]
fn call() {
    let mut pair = plain();
    pair.call("42");
    assert_wire(
        &newest(&mut pair, Up),
        "
        11                  | plain record
        10 00 09            | Call, 9 bytes
        01                  | its number
        04  65 63 68 6f     | name: echo
        01                  | encoding: JSON
        34 32               | 42
    ",
    );
}

#[test]
fn call_with_a_key_that_asks_for_a_stream() {
    let mut pair = plain();
    let mut options = CallOptions::default();
    options.key = Some(name("k"));
    options.credit = Some(300);
    pair.client.call(pair.now, name("n"), Payload::json("42"), options).expect("room");
    assert_wire(
        &newest(&mut pair, Up),
        "
        11            | plain record
        10 06 0a      | Call, keyed and a stream, 10 bytes
        01            | its number
        01  6e        | name: n
        01  6b        | key: k
        ac 02         | items that the caller takes: 300
        01            | encoding: JSON
        34 32         | 42
    ",
    );
}

#[test]
fn credit_item_and_end() {
    let mut pair = plain();
    let mut options = CallOptions::default();
    options.credit = Some(1);
    let id = pair.client.call(pair.now, name("n"), Payload::json("42"), options).expect("room");
    pair.run();
    pair.client.grant(id, 300);
    assert_wire(
        &newest(&mut pair, Up),
        "
        11        | plain record
        17 00 03  | Credit, 3 bytes
        01        | the call's number
        ac 02     | items that the caller takes beside the others: 300
    ",
    );
    pair.server().item(id, Payload::json("7")).expect("credit");
    pair.server().end_stream(id);
    assert_wire(
        &newest(&mut pair, Down),
        "
        11        | plain record
        06 00 01  | Ack, 1 byte
        02        | everything up to 2
        16 00 03  | Item, 3 bytes
        01        | the call's number
        01        | encoding: JSON
        37        | 7
        18 00 01  | End, 1 byte
        01        | the call's number
    ",
    );
}

#[test]
fn a_notification_that_asks_for_its_acknowledgement_and_that() {
    let mut pair = plain();
    pair.client.notify_confirmed(name("n"), Payload::json("42")).expect("room");
    assert_wire(
        &newest(&mut pair, Up),
        "
        11        | plain record
        14 01 05  | Notify, asks, 5 bytes
        01  6e    | name: n
        01        | encoding: JSON
        34 32     | 42
    ",
    );
    assert_wire(
        &newest(&mut pair, Down),
        "
        11        | plain record
        06 00 01  | Ack, 1 byte
        01        | everything up to 1
    ",
    );
}

#[test]
fn a_notification_in_parts() {
    let mut pair = plain();
    pair.client.notify(name("n"), Payload::bytes(vec![7; 16_384]), false).expect("room");
    let whole = newest(&mut pair, Up);
    let before = pair.sent(Up).len();
    // name: n | encoding: bytes | the bytes
    let body = [b"\x01n\x00".as_slice(), &[7; 16_384]].concat();
    assert_wire(&whole[..5], "11  14 00 83 80  | Notify in one frame");
    pair.client.notify(name("n"), Payload::bytes(vec![7; 16_385]), false).expect("room");
    let parts = newest(&mut pair, Up);
    assert_eq!(pair.sent(Up).len(), before + 1);
    let (first, more) = parts.split_at(1 + 10 + 16_384);
    assert_wire(
        &first[..11],
        "
        11              | plain record
        19 00 85 80 01  | First, 16,389 bytes
        14 00           | what the parts make: a Notify without flags
        84 80 01        | of 16,388 bytes
    ",
    );
    assert_eq!(first[11..], body[..16_384]);
    assert_wire(
        more,
        "
        1a 00 04     | More, 4 bytes
        07 07 07 07  | the rest of the body
    ",
    );
}

#[test]
fn reply() {
    let mut pair = plain();
    pair.call("42");
    pair.run();
    pair.server().answer(CallId(1), Ok(Payload::bytes(&[0xff, 0x00][..]))).expect("small");
    assert_wire(
        &newest(&mut pair, Down),
        "
        11        | plain record
        06 00 01  | Ack, 1 byte
        01        | everything up to 1
        11 00 04  | Reply, 4 bytes
        01        | the call's number
        00        | encoding: bytes
        ff 00     | the bytes
    ",
    );
}

#[test]
fn fail() {
    let mut pair = plain();
    pair.call("42");
    pair.run();
    let failure = Failure {
        code: Code::APPLICATION,
        name: "bad".to_owned(),
        message: "é".to_owned(),
        data: Some(Payload::json("{}")),
    };
    pair.server().answer(CallId(1), Err(failure)).expect("small");
    assert_wire(
        &newest(&mut pair, Down),
        "
        11            | plain record
        06 00 01      | Ack, 1 byte
        01            | everything up to 1
        12 00 0d      | Fail, 13 bytes
        01            | the call's number
        cc 08         | code 1100, the application's own
        03  62 61 64  | name: bad
        02  c3 a9     | message: é
        01            | encoding of the data: JSON
        7b 7d         | {}
    ",
    );
}

#[test]
fn fail_without_data() {
    let mut pair = plain();
    pair.call("42");
    pair.run();
    pair.server().answer(CallId(1), Err(Failure::of(Code::NOT_FOUND))).expect("small");
    assert_wire(
        &newest(&mut pair, Down),
        "
        11        | plain record
        06 00 01  | Ack, 1 byte
        01        | everything up to 1
        12 00 05  | Fail, 5 bytes
        01        | the call's number
        cd 08     | code 1101, not_found
        00        | no name
        00        | no message
    ",
    );
}

#[test]
fn cancel() {
    let mut pair = plain();
    let id = pair.call("42");
    pair.run();
    pair.client.cancel(id);
    assert_wire(
        &newest(&mut pair, Up),
        "
        11        | plain record
        13 00 01  | Cancel, 1 byte
        01        | the call's number
    ",
    );
}

#[test]
fn notify() {
    let mut pair = plain();
    pair.client.notify(name("n"), Payload::json("42"), false).expect("room");
    assert_wire(
        &newest(&mut pair, Up),
        "
        11        | plain record
        14 00 05  | Notify, 5 bytes
        01  6e    | name: n
        01        | encoding: JSON
        34 32     | 42
    ",
    );
}

#[test]
fn volatile() {
    let mut pair = plain();
    pair.client.notify(name("n"), Payload::json("42"), true).expect("room");
    assert_wire(
        &newest(&mut pair, Up),
        "
        11        | plain record
        15 00 05  | Volatile, 5 bytes
        01  6e    | name: n
        01        | encoding: JSON
        34 32     | 42
    ",
    );
}

#[test]
fn several_frames_in_a_record() {
    let mut pair = plain();
    pair.client.notify(name("a"), Payload::json("1"), false).expect("room");
    pair.client.notify(name("b"), Payload::json("2"), false).expect("room");
    assert_wire(
        &newest(&mut pair, Up),
        "
        11                      | plain record
        14 00 04  01 61  01 31  | Notify a, 1
        14 00 04  01 62  01 32  | Notify b, 2
    ",
    );
    assert!(matches!(pair.take_server_peer()[..], [PeerEvent::Message { .. }, PeerEvent::Message { .. }]));
}

fn sealed(suite: Suite) -> Pair {
    setup(Setup::suite(suite)).connect()
}

#[test]
fn hs1_with_aes_256_gcm() {
    assert_wire(
        &sealed(Suite::Aes256Gcm).sent(Up)[0],
        "
        01                                               | HS1
        01                                               | version
        01                                               | suite: AES-256-GCM
        00                                               | mode: XK
        0f 6d 25 53                                      | kid
        00 00 00 00                                      | shared key: none
        bf ec 9e 26 44 d4 94 a2 44 6f 0c e1 a2 b2 2f 72  | e
        fa 6a 76 d4 01 cb 81 ac 0f 19 8b 13 90 f9 c7 46
        04 55 c2 3d fc 21 77 40 4f fd f7 90 c3 67 f0 3e  | tag of the empty payload
    ",
    );
}

#[test]
fn hs1_with_chacha20_poly1305() {
    assert_wire(
        &sealed(Suite::ChaCha20Poly1305).sent(Up)[0],
        "
        01                                               | HS1
        01                                               | version
        02                                               | suite: ChaCha20-Poly1305
        00                                               | mode: XK
        0f 6d 25 53                                      | kid
        00 00 00 00                                      | shared key: none
        bf ec 9e 26 44 d4 94 a2 44 6f 0c e1 a2 b2 2f 72  | e
        fa 6a 76 d4 01 cb 81 ac 0f 19 8b 13 90 f9 c7 46
        0e f1 8c 2d e5 d5 67 88 4c 00 be 6a 14 9f 7c f3  | tag of the empty payload
    ",
    );
}

#[test]
fn hs2() {
    assert_wire(
        &sealed(Suite::Aes256Gcm).sent(Down)[0],
        "
        02                                               | HS2
        de 17 dc cf 9f 1a 5a d2 e3 1c 07 b2 e3 02 af 98  | e
        72 0f c1 a5 64 ed 33 6f 72 0c 48 36 2b 53 3e 33
        24 2a 1c c3 87 34 60 42 09 d6 b6 58 9d d7 23 b3  | tag of the empty payload
    ",
    );
}

#[test]
fn hs3() {
    assert_wire(
        &sealed(Suite::Aes256Gcm).sent(Up)[1],
        "
        03                                               | HS3
        31 7e 66 b4 30 ea 47 c3 8f 5a c2 e5 d7 5d a9 e1  | s, sealed
        eb 6f 53 f6 69 59 2f 26 d4 5f 77 4f d4 e5 70 0a
        56 4a d4 c3 b3 08 77 0f d6 59 c5 d7 f1 86 4f a2  | its tag
        04 03 c0 39 78 2f a7 33 55 b9 5b 7f 95           | AUTH, sealed: 13 bytes
        95 2f e0 4d a6 a0 f8 69 2c fd 5a 61 96 93 53 0a  | its tag
    ",
    );
}

#[test]
fn a_sealed_record() {
    // The Ping that a client sends after Welcome: four bytes of frame.
    assert_wire(
        &sealed(Suite::Aes256Gcm).sent(Up)[2],
        "
        10                                               | sealed record
        7c 31 19 b7                                      | a frame, sealed: Ping 0
        93 dc 3b fa 19 b5 c4 ed f1 82 b1 db 39 67 9a 79  | tag
    ",
    );
}
