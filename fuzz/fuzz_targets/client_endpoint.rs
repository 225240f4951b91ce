//! Any inputs in any order to a client's end, before, during and after a handshake with a real server.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moorline_fuzz::{Ends, Script};
use moorline_protocol::{
    client::{ClientInput, SocketId, SocketInput, Ticket},
    discovery::Discovery,
    frame::CallId,
    payload::{Name, Payload},
    session::CallOptions,
};

fuzz_target!(|input: &[u8]| {
    let mut script = Script(input);
    let start = script.byte();
    let mut ends = if start & 1 == 0 { Ends::new(start & 2 == 0) } else { Ends::connected(start & 2 == 0) };
    while !script.is_over() {
        let now = ends.now;
        match script.byte() % 13 {
            0..=3 => {
                let record = Ends::record(&mut script, &ends.downward);
                ends.to_client(SocketInput::Record(record));
            }
            4 => ends.to_client(SocketInput::Congested(script.byte() & 1 == 0)),
            5 => {
                ends.now = now + Duration::from_millis(script.number());
                ends.client.handle_input(ends.now, ClientInput::Wake);
            }
            6 => {
                if let Ok(name) = Name::new("n") {
                    let options = CallOptions::within(Duration::from_millis(script.number()));
                    let _ = ends.client.call(now, name, Payload::json("1"), options);
                }
            }
            7 => {
                let _ = ends.client.answer(now, CallId(u64::from(script.byte())), Ok(Payload::json("1")));
            }
            8 => ends.client.cancel(CallId(u64::from(script.byte()))),
            9 => {
                let ticket = Ticket(u64::from(script.byte()));
                let discovery = match script.byte() % 4 {
                    0 => Discovery::Unreachable,
                    1 => Discovery::NotMoorline,
                    2 => Discovery::refusal("origin_refused"),
                    _ => Discovery::document([], ["aes-256-gcm"], "on"),
                };
                ends.client.handle_input(now, ClientInput::Discovered(ticket, discovery));
            }
            10 => ends.client.retry_now(now),
            11 => {
                let socket = SocketId(u64::from(script.byte()));
                ends.client.handle_input(now, ClientInput::Socket(socket, SocketInput::Opened));
            }
            _ => match script.byte() % 8 {
                0 => ends.client.close(),
                1 => ends.to_client(SocketInput::Text),
                _ => ends.to_client(SocketInput::Closed(script.number() as u16)),
            },
        }
        ends.drain();
    }
});
