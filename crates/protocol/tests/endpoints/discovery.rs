//! Whom a client asks for the server's key, and what it makes of a try that failed.

use std::time::Duration;

use moorline_protocol::{
    client::{ClientConfig, ClientEvent, ClientInput, SessionInfo, Status, Ticket},
    code::Code,
    discovery::{Discovery, Trust},
    key::{Identity, StaticKey},
    record::Suite,
    server::Encryption,
};

use crate::pair::*;

fn document(encryption: &str) -> Discovery {
    let key = server_key().to_string();
    Discovery::document([key.as_str()], ["aes-256-gcm", "chacha20-poly1305"], encryption)
}

/// A client without a pin.
fn unpinned(address: &str) -> Setup {
    Setup { client: ClientConfig::new(url(address)), ..Setup::default() }
}

fn discovering(setup: Setup, discovery: Discovery) -> Pair {
    let mut pair = Pair::new(setup);
    pair.discovery = discovery;
    pair.client.start(pair.now);
    pair.run();
    pair
}

fn session(pair: &Pair) -> &SessionInfo {
    let session = pair.client_heard.iter().find_map(|event| match event {
        ClientEvent::Session(session) => Some(session),
        _ => None,
    });
    session.expect("a session")
}

#[test]
fn the_key_is_asked_for_over_tls_and_on_this_machine() {
    for (address, asked) in [
        ("wss://example.com/moorline", "https://example.com/moorline"),
        ("ws://localhost:2667/moorline", "http://localhost:2667/moorline"),
        ("ws://app.localhost/moorline", "http://app.localhost/moorline"),
        ("ws://127.0.0.1:2667/moorline", "http://127.0.0.1:2667/moorline"),
        ("ws://[::1]:2667/moorline", "http://[::1]:2667/moorline"),
    ] {
        let pair = discovering(unpinned(address), document("on"));
        assert_eq!(pair.asked, [asked]);
        assert!(pair.is_connected());
        assert_eq!((session(&pair).trust, session(&pair).server_key), (Trust::Discovered, Some(server_key())));
    }
}

#[test]
fn the_key_is_not_asked_for_over_an_insecure_way() {
    for address in ["ws://example.com/m", "ws://10.0.0.1/m", "ws://localhost.example.com/m", "ws://0.0.0.0/m"] {
        let pair = discovering(unpinned(address), document("on"));
        let Some(Status::Closed(Some(failure))) = pair.last_status() else { panic!("{:?}", pair.last_status()) };
        assert_eq!(failure.code, Code::SERVER_KEY_REQUIRED);
        assert_eq!((pair.asked.len(), pair.sockets), (0, 0), "{address}");
    }
}

#[test]
fn the_key_is_asked_for_anywhere_when_the_program_says_so() {
    let mut setup = unpinned("ws://example.com/m");
    setup.client.allow_insecure_discovery = true;
    assert!(discovering(setup, document("on")).is_connected());
}

#[test]
fn a_pinned_key_is_used_over_any_way_and_nobody_is_asked() {
    let mut setup = unpinned("ws://example.com/m");
    setup.client.server_keys = vec![server_key()];
    let pair = discovering(setup, Discovery::Unreachable);
    assert!(pair.is_connected());
    assert_eq!((session(&pair).trust, pair.asked.len()), (Trust::Pinned, 0));
}

#[test]
fn a_key_that_cannot_be_had_names_the_cause_and_is_asked_for_again() {
    for (discovery, code) in [
        (Discovery::Unreachable, Code::SERVER_UNREACHABLE),
        (Discovery::NotMoorline, Code::NOT_MOORLINE),
        (Discovery::foreign(404), Code::NOT_MOORLINE),
        (Discovery::foreign(502), Code::SERVER_UNREACHABLE),
        (Discovery::foreign(503), Code::SERVER_UNREACHABLE),
        (Discovery::foreign(504), Code::SERVER_UNREACHABLE),
        (Discovery::refusal("origin_refused"), Code::ORIGIN_REFUSED),
        (Discovery::refusal("host_refused"), Code::HOST_REFUSED),
        (Discovery::refusal("hello"), Code::NOT_MOORLINE),
        (document("off"), Code::ENCRYPTION_MISMATCH),
        (Discovery::document(["mlpub_x"], ["aes-256-gcm"], "on"), Code::NOT_MOORLINE),
        (Discovery::document([server_key().to_string().as_str()], ["rot13"], "on"), Code::ENCRYPTION_MISMATCH),
    ] {
        let mut pair = discovering(unpinned("ws://localhost/m"), discovery);
        assert_eq!(pair.failure().map(|failure| failure.code), Some(code));
        assert_eq!(pair.sockets, 0);
        pair.discovery = document("on");
        pair.advance(Duration::from_secs(1));
        assert!(pair.is_connected(), "{code:?}");
    }
}

#[test]
fn a_socket_that_does_not_open_is_explained_by_the_identity_document() {
    let other = Discovery::document([StaticKey::from_private([9; 32]).public().to_string().as_str()], [], "on");
    for (discovery, code) in [
        (Discovery::Unreachable, Code::SERVER_UNREACHABLE),
        (Discovery::NotMoorline, Code::NOT_MOORLINE),
        (Discovery::refusal("origin_refused"), Code::ORIGIN_REFUSED),
        (document("off"), Code::ENCRYPTION_MISMATCH),
        (other, Code::SERVER_KEY_CHANGED),
        (document("on"), Code::UPGRADE_REFUSED),
    ] {
        let mut pair = Pair::new(Setup::default());
        pair.reachable = false;
        pair.discovery = discovery;
        pair.client.start(pair.now);
        pair.run();
        assert_eq!(pair.failure().map(|failure| failure.code), Some(code));
        pair.reachable = true;
        pair.advance(Duration::from_secs(1));
        assert!(pair.is_connected(), "{code:?} stopped the client");
    }
}

/// A server that was started again between a try and the question after it was said to have refused the upgrade. One that
/// goes on refusing it is still named.
#[test]
fn regression_a_server_that_comes_up_before_it_is_asked_has_refused_nothing() {
    let mut pair = Pair::new(Setup::default());
    pair.reachable = false;
    pair.discovery = Discovery::Unreachable;
    pair.client.start(pair.now);
    pair.run();
    pair.discovery = document("on");
    for code in [Code::SERVER_UNREACHABLE, Code::UPGRADE_REFUSED, Code::UPGRADE_REFUSED] {
        let wait = pair.retry_in().expect("it waits");
        pair.advance(wait);
        assert_eq!(pair.failure().map(|failure| failure.code), Some(code));
    }
}

#[test]
fn a_changed_key_is_named_and_retried_but_never_trusted() {
    let mut setup = Setup::default();
    setup.server.encryption = Encryption::On {
        identity: Identity::new(StaticKey::from_private([9; 32])).into(),
        suites: Suite::ALL.to_vec(),
    };
    let other = StaticKey::from_private([9; 32]).public().to_string();
    let mut pair = discovering(setup, Discovery::document([other.as_str()], ["aes-256-gcm"], "on"));
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::SERVER_KEY_CHANGED));
    pair.advance(Duration::from_secs(120));
    assert!(!pair.arrived());
    assert!(pair.sockets > 2);
}

#[test]
fn encryption_on_one_side_only_is_named() {
    let sealing = Setup { server: Setup::plain().server, ..Setup::default() };
    let plain = Setup { server: Setup::default().server, ..Setup::plain() };
    for (setup, discovery) in [(sealing, document("off")), (plain, document("on"))] {
        let mut pair = discovering(setup, discovery);
        pair.advance(Duration::from_secs(30));
        assert!(!pair.arrived());
        let named = pair.client_heard.iter().any(|event| {
            matches!(event, ClientEvent::Status(Status::Connecting { error: Some(failure), .. })
                if failure.code == Code::ENCRYPTION_MISMATCH)
        });
        assert!(named, "{:?}", pair.client_heard);
    }
}

#[test]
fn a_discovered_key_that_no_longer_fits_is_asked_for_anew() {
    let mut setup = unpinned("ws://localhost/m");
    let new = StaticKey::from_private([9; 32]);
    let discovery = Discovery::document([new.public().to_string().as_str()], ["aes-256-gcm"], "on");
    setup.server.encryption = Encryption::On { identity: Identity::new(new).into(), suites: Suite::ALL.to_vec() };
    let mut pair = discovering(setup, document("on"));
    assert!(!pair.is_connected());
    pair.discovery = discovery;
    pair.advance(Duration::from_secs(5));
    assert!(pair.is_connected());
}

/// Whoever pins asks nobody beforehand; that the server does not take the suite was called a failed handshake.
#[test]
fn regression_a_suite_that_the_server_lacks_is_named_to_a_pinned_client() {
    let mut setup = Setup::default();
    let Encryption::On { identity, .. } = setup.server.encryption else { panic!("encryption is on by default") };
    setup.server.encryption = Encryption::On { identity, suites: vec![Suite::ChaCha20Poly1305] };
    let document = Discovery::document([server_key().to_string().as_str()], ["chacha20-poly1305"], "on");
    let mut pair = discovering(setup, document);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::ENCRYPTION_MISMATCH));
    pair.advance(Duration::from_secs(30));
    assert!(!pair.arrived());
}

fn two_pins() -> Setup {
    let mut setup = Setup::default();
    setup.client.server_keys = vec![StaticKey::from_private([9; 32]).public(), server_key()];
    setup
}

#[test]
fn the_next_try_takes_the_pinned_key_that_the_server_says_it_has() {
    let mut pair = discovering(two_pins(), document("on"));
    pair.advance(Duration::from_secs(1));
    assert!(pair.is_connected());
    assert_eq!(pair.sockets, 2);
}

#[test]
fn every_pinned_key_gets_its_try_when_the_server_cannot_be_asked() {
    let mut pair = discovering(two_pins(), Discovery::Unreachable);
    pair.advance(Duration::from_secs(5));
    assert!(pair.is_connected());
}

/// A GET that never ended left the client with the first of its keys for ever.
#[test]
fn regression_every_pinned_key_gets_its_try_when_the_question_is_never_answered() {
    let mut pair = Pair::new(two_pins());
    pair.deaf = true;
    pair.client.start(pair.now);
    pair.advance(Duration::from_secs(60));
    assert!(pair.is_connected());
}

#[test]
fn an_answer_to_an_older_question_is_passed_over() {
    let mut pair = Pair::new(unpinned("ws://localhost/m"));
    pair.deaf = true;
    pair.client.start(pair.now);
    pair.run();
    for stale in [0, 2, u64::MAX] {
        pair.client.handle_input(pair.now, ClientInput::Discovered(Ticket(stale), document("on")));
    }
    pair.run();
    assert_eq!(pair.sockets, 0);
    pair.client.handle_input(pair.now, ClientInput::Discovered(Ticket(1), document("on")));
    pair.run();
    assert!(pair.is_connected());
    pair.client.handle_input(pair.now, ClientInput::Discovered(Ticket(1), Discovery::Unreachable));
    pair.run();
    assert!(pair.is_connected());
}

#[test]
fn a_question_that_is_never_answered_times_out_and_is_asked_again() {
    let mut pair = Pair::new(unpinned("ws://localhost/m"));
    pair.deaf = true;
    pair.client.start(pair.now);
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::CONNECT_TIMEOUT));
    pair.deaf = false;
    pair.discovery = document("on");
    pair.advance(Duration::from_secs(1));
    assert!(pair.is_connected());
}
