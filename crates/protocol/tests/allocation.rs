//! What a stranger's bytes cost in memory. In a file of its own, for every allocation here is counted.
#![cfg(not(target_family = "wasm"))]

use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use moorline_protocol::{
    client::{ClientConfig, ClientEndpoint, ClientInput, ClientOutput, SocketId, SocketInput},
    frame::Epoch,
    limits::MAX_RECORD,
    server::{Encryption, ServerConfig, ServerEndpoint, ServerInput, ServerOutput},
    time::{Timestamp, UnixMillis},
    url::DialUrl,
};
use proptest::{collection::vec, prelude::*};

/// Bytes allocated at one time while a record of n bytes is taken and what it causes is drained: at most this many times
/// n, and a little for the endpoint. The worst are the smallest frames, each of which becomes an event or an answer.
const MULTIPLE: u64 = 64;
const CONSTANT: u64 = 16 * 1024;

const NOW: Timestamp = Timestamp::from_millis(0);

/// A server's end that has admitted a plain client.
fn server() -> ServerEndpoint {
    let mut server = ServerEndpoint::new(Arc::new(ServerConfig::new(Encryption::Off, Epoch([3; 8]))), [1; 32], NOW);
    server.handle_input(NOW, ServerInput::Record(Bytes::from_static(b"\x04\x01\x01\x08ws://h/m\x04\x01c")));
    server.admit(NOW, UnixMillis(0), None, Default::default());
    while !matches!(server.poll_output(), ServerOutput::Wait(_)) {}
    server
}

/// A client's end that such a server has admitted.
fn client() -> ClientEndpoint {
    let mut config = ClientConfig::new(DialUrl::parse("ws://h/m").expect("a URL"));
    config.suite = None;
    let mut client = ClientEndpoint::new(config, [2; 32]);
    client.start(NOW);
    let welcome =
        b"\x11\x01\x00\x34\x01\x10................\x02\x01\x01\x03\x01\x01\x04\x03\xef\xf7\x03\x05\x01\x01\x06\x01s\
        \x09\x08eeeeeeee\x0a\x03\xc0\xa9\x07";
    for input in [SocketInput::Opened, SocketInput::Record(Bytes::from_static(welcome))] {
        client.handle_input(NOW, ClientInput::Socket(SocketId(1), input));
        while !matches!(client.poll_output(), ClientOutput::Wait(_)) {}
    }
    client
}

fn assert_bounded(record: &[u8]) {
    let (mut server, mut client) = (server(), client());
    let most = MULTIPLE * record.len() as u64 + CONSTANT;
    let input = Bytes::copy_from_slice(record);
    let info = measure(|| {
        server.handle_input(NOW, ServerInput::Record(input));
        while !matches!(server.poll_output(), ServerOutput::Wait(_)) {}
    });
    assert!(info.bytes_max <= most, "the server held {} bytes for {}", info.bytes_max, record.len());
    let input = Bytes::copy_from_slice(record);
    let info = measure(|| {
        client.handle_input(NOW, ClientInput::Socket(SocketId(1), SocketInput::Record(input)));
        while !matches!(client.poll_output(), ClientOutput::Wait(_)) {}
    });
    assert!(info.bytes_max <= most, "the client held {} bytes for {}", info.bytes_max, record.len());
}

/// A full record of one frame again and again.
fn repeated(frame: &[u8]) -> Vec<u8> {
    [&[0x11], frame.repeat((MAX_RECORD - 1) / frame.len()).as_slice()].concat()
}

#[test]
fn the_smallest_frames_cost_a_stated_multiple_of_their_bytes() {
    let ping = [0x07, 0, 1, 0];
    let notify = [0x14, 0, 3, 1, b'n', 0];
    let cancel = [0x13, 0, 1, 1];
    let reply = [0x11, 0, 2, 1, 0];
    let ack = [0x06, 0, 1, 0];
    let credit = [0x17, 0, 2, 1, 1];
    let item = [0x16, 0, 2, 1, 0];
    for frame in [&ping[..], &notify, &cancel, &reply, &ack, &credit, &item] {
        assert_bounded(&repeated(frame));
    }
    let calls: Vec<u8> = (1..128).flat_map(|id| [0x10, 0, 4, id, 1, b'n', 0]).collect();
    assert_bounded(&[&[0x11], &calls[..]].concat());
}

#[test]
fn a_length_that_is_not_there_costs_nothing() {
    for length in [&[0xff, 0xff, 0x03][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 9]] {
        for kind in [0x01, 0x02, 0x03, 0x10, 0x12, 0x14] {
            assert_bounded(&[&[0x11, kind, 0], length].concat());
        }
    }
}

/// The first part of a notification of this length in all.
fn first(total: &[u8], body: &[u8]) -> Vec<u8> {
    let length = 2 + total.len() + body.len();
    [&[0x19, 0, length as u8, 0x14, 0], total, body].concat()
}

#[test]
fn a_message_in_parts_costs_what_came_of_it_and_not_what_was_announced() {
    // 4 MiB, a little more than is allowed, and as much as can be written.
    let few: &[u8] = b"\x01n\x00";
    for total in [&[0x80, 0x80, 0x80, 0x02][..], &[0x81, 0x88, 0x80, 0x02], &[0xff; 9]] {
        assert_bounded(&[&[0x11], &first(total, few)[..]].concat());
    }
    // One byte after the other.
    let more = [0x1a, 0, 1, 9].repeat(10_000);
    assert_bounded(&[&[0x11], &first(&[0x80, 0x80, 0x80, 0x02], few)[..], &more].concat());
}

#[test]
fn the_parts_of_a_message_are_kept_in_a_small_multiple_of_their_bytes() {
    let mut server = server();
    let part = [&[0x11, 0x1a, 0, 0x80, 0x80, 0x03][..], &[9; 3 * 16 * 1024]].concat();
    let begin = [&[0x11], &first(&[0x80, 0x80, 0x80, 0x02], b"\x01n\x00")[..]].concat();
    server.handle_input(NOW, ServerInput::Record(begin.into()));
    let mut came = 0;
    let mut kept = 0;
    // A little less than the whole.
    for _ in 0..85 {
        let record = Bytes::copy_from_slice(&part);
        came += part.len() as i64;
        let info = measure(|| {
            server.handle_input(NOW, ServerInput::Record(record));
            while !matches!(server.poll_output(), ServerOutput::Wait(_)) {}
        });
        // The record itself was allocated outside.
        kept += info.bytes_current + part.len() as i64;
        assert!(kept <= 2 * came + CONSTANT as i64, "{kept} bytes are kept of {came}");
        assert!(info.bytes_max <= 2 * came as u64 + CONSTANT, "{} bytes for {came}", info.bytes_max);
    }
    assert!(kept >= came / 2, "{kept} of {came}: this measures something else");
}

#[test]
fn a_hello_costs_a_stated_multiple_of_its_bytes() {
    for length in [0, 1, 60, 1_000, MAX_RECORD] {
        for first in [&[0x01, 0x01, 0x01, 0x00][..], &[0x04, 0x01, 0x01, 0xff, 0x7f]] {
            let mut record = first.to_vec();
            record.resize(length.max(first.len()), 0);
            let config = Arc::new(ServerConfig::new(Encryption::Off, Epoch([3; 8])));
            let mut server = ServerEndpoint::new(config, [1; 32], NOW);
            let input = Bytes::from(record);
            let most = MULTIPLE * length as u64 + CONSTANT;
            let info = measure(|| server.handle_input(NOW, ServerInput::Record(input)));
            assert!(info.bytes_max <= most, "{} bytes for {length}", info.bytes_max);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_records_cost_a_stated_multiple_of_their_bytes(
        frames in vec((0u8..0x20, vec(any::<u8>(), 0..12)), 0..400)
    ) {
        let frames = frames.into_iter().map(|(kind, body)| [&[kind, 0, body.len() as u8], &body[..]].concat());
        assert_bounded(&[vec![0x11], frames.collect::<Vec<_>>().concat()].concat());
    }
}
