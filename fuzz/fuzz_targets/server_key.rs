//! Any text as a server key. What is taken has one form, but for white space around it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline_protocol::key::ServerKey;

fuzz_target!(|text: &str| {
    if let Ok(key) = text.parse::<ServerKey>() {
        assert_eq!(key.to_string(), text.trim());
    }
});
