//! Any bytes as AUTH. What is taken is a URL in its normal form and a short version.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use moorline_protocol::{
    frame::Epoch,
    limits::{MAX_URL, MAX_VERSION},
    server::{Encryption, ServerConfig, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
    time::Timestamp,
    url::DialUrl,
};

fuzz_target!(|auth: &[u8]| {
    let now = Timestamp::from_millis(0);
    let mut server = ServerEndpoint::new(Arc::new(ServerConfig::new(Encryption::Off, Epoch([3; 8]))), [1; 32], now);
    server.handle_input(now, ServerInput::Record([&[0x04, 0x01], auth].concat().into()));
    while let output @ (ServerOutput::Event(_) | ServerOutput::CloseSocket(_)) = server.poll_output() {
        if let ServerOutput::Event(ServerEvent::Arrived(arrival)) = output {
            let url = arrival.auth.url.as_str();
            assert!(url.len() <= MAX_URL && arrival.auth.client_version.len() <= MAX_VERSION);
            assert_eq!(DialUrl::parse(url).as_ref(), Ok(&arrival.auth.url));
        }
    }
});
