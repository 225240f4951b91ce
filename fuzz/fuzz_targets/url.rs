//! Any text as a URL. What is taken is in normal form, and its parts are parts of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline_protocol::{limits::MAX_URL, url::DialUrl};

fuzz_target!(|text: &str| {
    if let Ok(url) = DialUrl::parse(text) {
        assert_eq!(DialUrl::parse(url.as_str()).as_ref(), Ok(&url));
        let http = url.http();
        assert!(http.len() > MAX_URL || DialUrl::parse(&http).as_ref() == Ok(&url));
        assert!(url.as_str().len() <= MAX_URL && !url.host().is_empty());
        assert!(url.authority().starts_with(url.host()) && url.as_str().contains(url.authority()));
        let _ = url.is_loopback();
    }
});
