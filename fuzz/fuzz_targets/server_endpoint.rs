//! Any inputs in any order to a server's end, before, during and after a handshake with a real client.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moorline_fuzz::{Ends, Script};
use moorline_protocol::{
    code::Code,
    frame::CallId,
    payload::{Name, Payload},
    server::{Rejection, ServerInput},
    session::CallOptions,
};

fuzz_target!(|input: &[u8]| {
    let mut script = Script(input);
    let start = script.byte();
    let mut ends = if start & 1 == 0 { Ends::new(start & 2 == 0) } else { Ends::connected(start & 2 == 0) };
    while !script.is_over() {
        let now = ends.now;
        match script.byte() % 12 {
            0..=3 => {
                let record = Ends::record(&mut script, &ends.upward);
                ends.to_server(ServerInput::Record(record));
            }
            4 => ends.to_server(ServerInput::Congested(script.byte() & 1 == 0)),
            5 => {
                ends.now = now + Duration::from_millis(script.number());
                ends.to_server(ServerInput::Wake);
            }
            6 => {
                if let Ok(name) = Name::new("n") {
                    let options = CallOptions::within(Duration::from_millis(script.number()));
                    let _ = ends.server.call(now, name, Payload::json("1"), options);
                }
            }
            7 => {
                let _ = ends.server.answer(CallId(u64::from(script.byte())), Ok(Payload::json("1")));
            }
            8 => ends.server.cancel(CallId(u64::from(script.byte()))),
            9 => drop(ends.server.close(Code(script.number() as u16), "text", Duration::ZERO)),
            10 => drop(ends.server.reject(Rejection::of(Code(script.number() as u16)))),
            _ => ends.to_server(match script.byte() % 3 {
                0 => ServerInput::Text,
                1 => ServerInput::Oversized,
                _ => ServerInput::SocketClosed,
            }),
        }
        ends.drain();
    }
});
