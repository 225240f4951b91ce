//! Any bytes as the frames of a connected peer, to either side.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline_fuzz::Ends;
use moorline_protocol::{client::SocketInput, server::ServerInput};

fuzz_target!(|frames: &[u8]| {
    let record = [&[0x11], frames].concat();
    let mut ends = Ends::connected(false);
    ends.to_server(ServerInput::Record(record.clone().into()));
    let mut ends = Ends::connected(false);
    ends.to_client(SocketInput::Record(record.into()));
});
