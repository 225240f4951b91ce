//! Who a client is: what it shows, when it is asked for more, and how long that holds.

use std::time::Duration;

use moorline_protocol::{
    client::{AuthorizeReason, ClientEvent, Status},
    code::Code,
    discovery::Discovery,
    entropy::Entropy,
    error::Refused,
    frame::{Admission, AuthenticateId, Credentials, Denial},
    key::{Identity, SharedKey, SharedKeyId, StaticKey},
    limits::{MAX_GIVEN, MAX_IDENTITY},
    payload::Payload,
    record::Suite,
    server::{Encryption, Ended, HandshakeFailure, Rejection, ServerEvent},
};

use crate::pair::{
    self,
    Direction::{Down, Up},
    Pair, Setup,
};

const SECOND: Duration = Duration::from_secs(1);

fn asking() -> Setup {
    let mut setup = Setup::default();
    setup.client.asks_for_credentials = true;
    setup
}

fn asking_with(token: &str) -> Pair {
    let mut pair = Pair::new(asking());
    pair.shown = Some(Some(Credentials::token(token)));
    pair
}

fn start(mut pair: Pair) -> Pair {
    pair.client.start(pair.now);
    pair.run();
    pair
}

fn ann(expires_in: Option<Duration>) -> Admission {
    let expires_in_ms = expires_in.map(|expires| expires.as_millis() as u64);
    Admission { identity: r#"{"subject":"ann"}"#.into(), expires_in_ms, ..Admission::default() }
}

fn authenticated(pair: &Pair) -> Vec<(AuthenticateId, Result<Admission, Denial>)> {
    let told = pair.client_heard.iter().filter_map(|event| match event {
        ClientEvent::Authenticated(id, result) => Some((*id, result.as_ref().clone())),
        _ => None,
    });
    told.collect()
}

/// What the newest connection has shown.
fn shown(pair: &Pair) -> Option<Credentials> {
    pair.server_heard.iter().rev().find_map(|event| match event {
        ServerEvent::Arrived(arrival) => Some(arrival.auth.credentials.clone()),
        _ => None,
    })
}

#[test]
fn what_the_client_shows_reaches_the_server_sealed_and_what_it_is_comes_back() {
    let mut pair = Pair::new(asking());
    let credentials =
        Credentials { data: Some(Payload::json(r#"{"name":"ann"}"#)), ..Credentials::token("canary.token.x") };
    pair.shown = Some(Some(credentials.clone()));
    pair.granted = Admission { data: Some(Payload::json("7")), ..ann(None) };
    let pair = start(pair);
    let arrived = pair.server_heard.iter().find_map(|event| match event {
        ServerEvent::Arrived(arrival) => Some(arrival.auth.credentials.clone()),
        _ => None,
    });
    assert_eq!(arrived, Some(credentials));
    let told = pair.client_heard.iter().find_map(|event| match event {
        ClientEvent::Session(info) => Some(info.welcome.admission.clone()),
        _ => None,
    });
    assert_eq!(told, Some(pair.granted.clone()));
    assert_eq!(pair.authorized, [(1, AuthorizeReason::Connect)]);
    let all: Vec<u8> = [pair.sent(Up), pair.sent(Down)].concat().concat();
    assert!(!all.windows(6).any(|bytes| bytes == b"canary"), "a token on the wire");
}

#[test]
fn a_client_that_has_nothing_to_show_says_so_and_tries_again() {
    let mut pair = Pair::new(asking());
    pair.shown = Some(None);
    let mut pair = start(pair);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::CREDENTIALS_UNAVAILABLE));
    assert_eq!(pair.sockets, 0, "nothing was opened for it");
    pair.shown = Some(Some(Credentials::token("t")));
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.authorized, [(1, AuthorizeReason::Connect), (2, AuthorizeReason::Reconnect)]);
}

#[test]
fn a_question_that_is_never_answered_is_a_failed_try_and_a_late_answer_means_nothing() {
    let mut pair = start(Pair::new(asking()));
    pair.advance(11 * SECOND);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::CREDENTIALS_UNAVAILABLE));
    assert_eq!(pair.sockets, 0);
}

#[test]
fn credentials_that_do_not_fit_stop_the_client_before_a_socket_is_opened() {
    let pair = start(asking_with(&"t".repeat(8_200)));
    assert!(
        matches!(pair.last_status(), Some(Status::Closed(Some(failure))) if failure.code == Code::CREDENTIALS_TOO_LARGE)
    );
    assert_eq!(pair.sockets, 0);
}

#[test]
fn a_server_that_says_expired_is_shown_a_fresh_token() {
    let mut pair = asking_with("old");
    pair.admission = pair::Admission::Reject(Rejection::of(Code::TOKEN_EXPIRED));
    let mut pair = start(pair);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::TOKEN_EXPIRED));
    pair.admission = pair::Admission::Admit;
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.authorized[1].1, AuthorizeReason::Expired);
}

#[test]
fn a_fresh_token_is_shown_on_the_open_connection_before_the_last_expires() {
    let mut pair = asking_with("first");
    pair.granted = ann(Some(600 * SECOND));
    let mut pair = start(pair);
    pair.shown = Some(Some(Credentials::token("second")));
    pair.advance(539 * SECOND);
    assert_eq!(pair.authorized.len(), 1);
    pair.advance(SECOND);
    assert_eq!(pair.authorized.last(), Some(&(0, AuthorizeReason::Expiring)));
    let shown = pair.asked_in.pop().expect("it is shown");
    assert_eq!(shown.credentials, Credentials::token("second"));
    let now = pair.now;
    pair.server().authenticated(now, shown.id, Ok(ann(Some(600 * SECOND))));
    pair.run();
    assert_eq!(authenticated(&pair), [(shown.id, Ok(ann(Some(600 * SECOND))))]);
    pair.advance(200 * SECOND);
    assert_eq!((pair.sockets, pair.is_connected()), (1, true), "no drop");
}

#[test]
fn what_has_expired_ends_the_connection_and_not_the_session() {
    let mut pair = asking_with("first");
    pair.granted = ann(Some(100 * SECOND));
    let mut pair = start(pair);
    pair.shown = Some(None);
    pair.server_heard.clear();
    pair.advance(100 * SECOND - Duration::from_millis(1));
    assert!(pair.is_connected());
    pair.advance(Duration::from_millis(1));
    assert_eq!(pair.server_heard, [ServerEvent::Parked(Ended::Closed(Code::TOKEN_EXPIRED))]);
    assert_eq!(pair.failure().map(|failure| failure.code), Some(Code::TOKEN_EXPIRED));
    pair.shown = Some(Some(Credentials::token("second")));
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.authorized.last().map(|(_, reason)| *reason), Some(AuthorizeReason::Expired));
    assert!(pair.resets().is_empty(), "the session went on");
}

#[test]
fn a_client_becomes_somebody_else_on_the_open_connection_or_stays_who_it_is() {
    let mut pair = Setup::default().connect();
    let first = pair.client.authenticate(pair.now, Credentials::token("a")).expect("connected");
    assert_eq!(
        pair.client.authenticate(pair.now, Credentials::token("b")),
        Err(Refused::Backpressure),
        "one at a time"
    );
    pair.run();
    let denial = Denial { code: Code::REFUSED, name: "banned".into(), message: "Not you".into() };
    let now = pair.now;
    pair.server().authenticated(now, AuthenticateId(99), Ok(ann(None)));
    pair.server().authenticated(now, first, Err(denial.clone()));
    pair.server().authenticated(now, first, Ok(ann(None)));
    pair.run();
    assert_eq!(authenticated(&pair), [(first, Err(denial))], "it is answered once, and nothing else is");
    let second = pair.client.authenticate(pair.now, Credentials::token("b")).expect("connected");
    pair.run();
    pair.server().authenticated(now, second, Ok(ann(None)));
    pair.run();
    assert_eq!(authenticated(&pair)[1], (second, Ok(ann(None))));
}

#[test]
fn what_was_shown_and_not_answered_is_answered_by_the_next_connection() {
    for admitted in [true, false] {
        let mut pair = Setup::default().connect();
        let id = pair.client.authenticate(pair.now, Credentials::token("a")).expect("connected");
        pair.run();
        pair.granted = ann(None);
        if !admitted {
            pair.admission = pair::Admission::Reject(Rejection::of(Code::UNAUTHORIZED));
        }
        pair.reconnect();
        let told = authenticated(&pair);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, told[0].1.is_ok()), (id, admitted));
        // What is refused so does not stop a client that was let in as somebody before.
        pair.admission = pair::Admission::Admit;
        assert_eq!(shown(&pair), Some(Credentials::token("a")));
        pair.advance(30 * SECOND);
        assert!(pair.is_connected());
    }
}

/// The simulation found it: a server that was about to stop refused the connection, and that was taken for its judgement
/// of what the client had shown on the one before.
#[test]
fn regression_a_server_that_takes_nobody_has_not_judged_what_was_shown() {
    let mut pair = Setup::default().connect();
    let id = pair.client.authenticate(pair.now, Credentials::token("a")).expect("connected");
    pair.run();
    pair.admission = pair::Admission::Reject(Rejection::of(Code::SERVER_FULL));
    pair.reconnect();
    assert_eq!(authenticated(&pair), []);
    pair.admission = pair::Admission::Admit;
    pair.granted = ann(None);
    pair.advance(30 * SECOND);
    assert_eq!(authenticated(&pair), [(id, Ok(ann(None)))]);
}

/// What a server had refused was shown to every connection from then on, and stopped the client at the first.
#[test]
fn regression_what_was_refused_is_not_shown_again() {
    let mut pair = asking_with("good");
    pair = start(pair);
    let id = pair.client.authenticate(pair.now, Credentials::token("bad")).expect("connected");
    pair.run();
    let (now, denial) = (pair.now, Denial { code: Code::UNAUTHORIZED, name: String::new(), message: String::new() });
    pair.server().authenticated(now, id, Err(denial));
    pair.run();
    pair.reconnect();
    assert_eq!((shown(&pair), pair.is_connected()), (Some(Credentials::token("good")), true));
}

/// A provider that has only the same token still was asked at 80 % of what was left, again and again.
#[test]
fn regression_who_gives_the_same_token_again_is_not_asked_faster_and_faster() {
    let mut pair = asking_with("only");
    pair.granted = ann(Some(100 * SECOND));
    let mut pair = start(pair);
    pair.advance(80 * SECOND);
    let shown = pair.asked_in.pop().expect("it is shown");
    let now = pair.now;
    pair.server().authenticated(now, shown.id, Ok(ann(Some(20 * SECOND))));
    pair.run();
    pair.advance(19 * SECOND);
    assert_eq!(pair.authorized.len(), 2);
}

/// What is shown has to fit a record beside the session that is asked for. A token that just fitted came in, and stopped
/// the client for good at the first lost connection, which had that session to name besides.
#[test]
fn regression_who_comes_in_with_a_long_token_can_come_back() {
    let shows = |length: usize| {
        let mut pair = start(asking_with(&"t".repeat(length)));
        let came_in = pair.is_connected();
        if came_in {
            assert_eq!(pair.client.authenticate(pair.now, Credentials::token(&"u".repeat(length))).map(drop), Ok(()));
            let longer = Credentials::token(&"u".repeat(8_127));
            pair.run();
            let (now, shown) = (pair.now, pair.asked_in.pop().expect("it is shown"));
            pair.server().authenticated(now, shown.id, Ok(ann(None)));
            pair.run();
            assert_eq!(pair.client.authenticate(pair.now, longer), Err(Refused::TooLarge));
            pair.reconnect();
            pair.advance(30 * SECOND);
            assert!(pair.is_connected() && pair.resets().is_empty(), "{length} bytes");
        }
        came_in
    };
    let longest = (7_900..8_127).take_while(|length| shows(*length)).last();
    assert!(longest.is_some_and(|longest| longest < 8_126), "{longest:?}");
}

/// The frame that told of it fitted no record, and the server made empty ones without end.
#[test]
fn regression_what_is_too_large_to_be_given_is_left_out() {
    for (size, arrives) in [(MAX_GIVEN, true), (MAX_GIVEN + 1, false), (100_000, false)] {
        let given = Admission {
            identity: vec![b'x'; MAX_IDENTITY].into(),
            data: Some(Payload::json(vec![b'1'; size])),
            ..Admission::default()
        };
        let mut pair = Pair::new(Setup::default());
        pair.granted = given.clone();
        let mut pair = start(pair);
        assert!(pair.is_connected());
        let id = pair.client.authenticate(pair.now, Credentials::token("a")).expect("connected");
        pair.run();
        let now = pair.now;
        assert!(pair.server().authenticated(now, id, Ok(given.clone())));
        pair.run();
        let told = authenticated(&pair).pop().and_then(|(_, result)| result.ok()).expect("it is answered");
        assert_eq!((told.identity.len(), told.data.is_some()), (MAX_IDENTITY, arrives), "{size} bytes");
    }
}

/// An answer that came when the session had gone on to the next socket, or was over, counted as given.
#[test]
fn regression_an_answer_that_comes_too_late_makes_nobody_somebody_else() {
    let shown = || {
        let mut pair = Setup::default().connect();
        let id = pair.client.authenticate(pair.now, Credentials::token("a")).expect("connected");
        pair.run();
        (pair, id)
    };
    type End = fn(&mut Pair);
    let ends: [(&str, End); 4] = [
        ("parked", |pair| pair.cut()),
        ("a good-bye", |pair| pair.client.close()),
        ("closed", |pair| _ = pair.server().close(Code::CLOSED_BY_SERVER, "", Duration::ZERO)),
        ("taken", |pair| drop(pair.server().take_session().expect("it has one"))),
    ];
    for (case, end) in ends {
        let (mut pair, id) = shown();
        end(&mut pair);
        pair.run();
        let now = pair.now;
        assert!(!pair.server().authenticated(now, id, Ok(ann(None))), "{case}");
    }
}

/// A token that was over was shown to every connection for ever, and a fresh one waited for a connection that never came.
#[test]
fn regression_what_is_shown_without_a_connection_is_shown_to_the_next_one_at_once() {
    let mut pair = Setup::default().connect();
    pair.admission = pair::Admission::Reject(Rejection::of(Code::TOKEN_EXPIRED));
    pair.reconnect();
    pair.admission = pair::Admission::Admit;
    pair.granted = ann(None);
    let id = pair.client.authenticate(pair.now, Credentials::token("fresh")).expect("not closed");
    pair.run();
    assert!(pair.is_connected(), "no time has passed");
    assert_eq!(authenticated(&pair), [(id, Ok(ann(None)))]);
    assert_eq!(shown(&pair), Some(Credentials::token("fresh")));
}

#[test]
fn what_is_shown_does_not_hurry_a_client_that_was_told_when_to_come_back() {
    let mut pair = Setup::default().connect();
    let now = pair.now;
    pair.server().part(now, Code::RATE_LIMITED, "", 60 * SECOND);
    pair.run();
    let id = pair.client.authenticate(pair.now, Credentials::token("a")).expect("not closed");
    pair.advance(59 * SECOND);
    assert_eq!((pair.sockets, authenticated(&pair).len()), (1, 0));
    pair.advance(SECOND);
    assert_eq!((authenticated(&pair)[0].0, pair.is_connected()), (id, true));
}

#[test]
fn what_is_shown_while_somebody_is_asked_what_to_show_is_shown_instead() {
    let mut pair = start(Pair::new(asking()));
    assert_eq!((pair.authorized.len(), pair.sockets), (1, 0));
    let id = pair.client.authenticate(pair.now, Credentials::token("mine")).expect("not closed");
    pair.run();
    assert!(pair.is_connected());
    assert_eq!((authenticated(&pair).len(), authenticated(&pair)[0].0), (1, id));
    assert_eq!(shown(&pair), Some(Credentials::token("mine")));
}

#[test]
fn what_is_refused_on_the_way_to_a_connection_gives_way_to_what_is_asked_for() {
    let mut pair = asking_with("good");
    pair.admission = pair::Admission::Reject(Rejection::of(Code::UNAUTHORIZED));
    let id = pair.client.authenticate(pair.now, Credentials::token("bad")).expect("not started is not closed");
    let mut pair = start(pair);
    assert_eq!((authenticated(&pair)[0].0, authenticated(&pair)[0].1.is_err()), (id, true));
    assert_eq!(pair.authorized, [], "it was known what to show");
    pair.admission = pair::Admission::Admit;
    pair.advance(30 * SECOND);
    assert_eq!((shown(&pair), pair.is_connected()), (Some(Credentials::token("good")), true));
}

#[test]
fn nothing_is_shown_while_the_answer_to_something_else_is_on_its_way_or_after_the_end() {
    let mut pair = Pair::new(Setup::default());
    pair.admission = pair::Admission::Silence;
    let mut pair = start(pair);
    assert_eq!(pair.client.authenticate(pair.now, Credentials::token("a")), Err(Refused::NotConnected));
    pair.client.close();
    assert_eq!(pair.client.authenticate(pair.now, Credentials::token("a")), Err(Refused::Closed));
}

#[test]
fn what_was_to_be_shown_can_be_taken_back_until_a_socket_is_opened_for_it() {
    let mut pair = Pair::new(Setup::default());
    let id = pair.client.authenticate(pair.now, Credentials::token("a")).expect("not closed");
    assert!(!pair.client.withdraw(AuthenticateId(99)) && pair.client.withdraw(id));
    let mut pair = start(pair);
    assert_eq!((shown(&pair), authenticated(&pair)), (Some(Credentials::default()), vec![]));
    let id = pair.client.authenticate(pair.now, Credentials::token("b")).expect("connected");
    assert!(!pair.client.withdraw(id), "it is on its way");
    pair.run();
    let now = pair.now;
    pair.server().authenticated(now, id, Ok(ann(None)));
    pair.run();
    assert_eq!(authenticated(&pair), [(id, Ok(ann(None)))]);
}

/// A token for five minutes, shown by the application where one for an hour was before, was taken for a renewal that is none:
/// nobody was asked for another, and the connection ended with it.
#[test]
fn regression_what_lasts_shorter_than_what_was_before_is_renewed_when_the_application_has_shown_it() {
    let mut pair = asking_with("long");
    pair.granted = ann(Some(3_600 * SECOND));
    let mut pair = start(pair);
    let id = pair.client.authenticate(pair.now, Credentials::token("short")).expect("connected");
    pair.run();
    let now = pair.now;
    pair.server().authenticated(now, id, Ok(ann(Some(600 * SECOND))));
    pair.run();
    pair.advance(540 * SECOND);
    assert_eq!(pair.authorized.last(), Some(&(0, AuthorizeReason::Expiring)));
}

#[test]
fn a_server_warns_a_client_that_is_there() {
    let mut pair = Setup::default().connect();
    pair.server().warn(Code::RATE_LIMITED, "slow down");
    pair.run();
    assert_eq!(pair.client_heard.last(), Some(&ClientEvent::Warned(Code::RATE_LIMITED, "slow down".into())));
}

#[test]
fn who_is_parted_from_comes_back_when_it_was_told_to_and_hears_the_reference_of_the_log() {
    let mut pair = Setup::default().connect();
    let now = pair.now;
    let reference = pair.server().part(now, Code::RATE_LIMITED, "", 60 * SECOND);
    assert!(reference.is_some() && pair.server().told() == reference);
    pair.run();
    assert_eq!(pair.failure().and_then(|failure| failure.reference), reference);
    assert_eq!(pair.retry_in(), Some(60 * SECOND));
    pair.advance(59 * SECOND);
    assert_eq!(pair.sockets, 1);
    pair.advance(SECOND);
    assert!(pair.is_connected());
}

// ---- shared keys ----

fn shared(id: u8, key: u8) -> SharedKey {
    SharedKey::new(SharedKeyId([id; 4]), [key; 32])
}

fn with_keys(client: Option<SharedKey>, server: &[SharedKey], required: bool) -> Pair {
    let mut setup = Setup::default();
    setup.client.shared_key = client;
    setup.server.shared_keys = server.to_vec();
    setup.server.requires_shared_key = required;
    setup.start()
}

fn handshake_failures(pair: &Pair) -> Vec<HandshakeFailure> {
    let failures = pair.server_heard.iter().filter_map(|event| match event {
        ServerEvent::HandshakeFailed(failure) => Some(*failure),
        _ => None,
    });
    failures.collect()
}

#[test]
fn who_has_the_shared_key_comes_in_and_the_server_knows_by_which() {
    let pair = with_keys(Some(shared(2, 20)), &[shared(1, 10), shared(2, 20)], true);
    assert!(pair.is_connected());
    let by = pair.server_heard.iter().find_map(|event| match event {
        ServerEvent::Arrived(arrival) => arrival.shared_key,
        _ => None,
    });
    assert_eq!(by, Some(SharedKeyId([2; 4])));
}

#[test]
fn a_wrong_key_and_an_unknown_name_fail_alike_at_the_third_message() {
    for client in [shared(1, 11), shared(9, 10)] {
        let pair = with_keys(Some(client), &[shared(1, 10)], true);
        assert!(!pair.is_connected());
        assert_eq!(handshake_failures(&pair), [HandshakeFailure::ClientFinish]);
        assert_eq!(pair.sent(Down).len(), 1, "HS2 came for both");
    }
}

#[test]
fn without_the_key_nobody_comes_in_where_it_is_required_and_anybody_else_does() {
    let pair = with_keys(None, &[shared(1, 10)], true);
    assert_eq!((pair.is_connected(), pair.sent(Down).len()), (false, 0));
    assert!(with_keys(None, &[shared(1, 10)], false).is_connected());
}

/// Who listens learns nothing about the key before all three Diffie-Hellmans are done, so that there is nothing to test
/// guesses against.
#[test]
fn hs1_and_hs2_are_the_same_under_two_keys_of_one_name() {
    let [one, other] = [10, 20].map(|key| with_keys(Some(shared(1, key)), &[shared(1, key)], true));
    assert!(one.is_connected() && other.is_connected());
    assert_eq!(one.sent(Up)[0], other.sent(Up)[0]);
    assert_eq!(one.sent(Down)[0], other.sent(Down)[0]);
    assert_ne!(one.sent(Up)[1], other.sent(Up)[1]);
}

/// An impostor has the shared key, and not the server's own: the client that pins that one is not fooled, whether it sends
/// the name of the key that it pins or the impostor says that it has that name. Who pins nothing and asks whoever answers
/// is: to him the shared key is all that there is to know a server by.
#[test]
fn who_has_only_the_shared_key_cannot_pose_as_a_pinned_server() {
    let impostor = |pinned: bool| {
        let mut setup = Setup::default();
        setup.client.shared_key = Some(shared(1, 10));
        setup.server.shared_keys = vec![shared(1, 10)];
        let theirs = StaticKey::generate(&mut Entropy::new([66; 32]));
        let document = Discovery::document([theirs.public().to_string().as_str()], ["aes-256-gcm"], "on");
        setup.server.encryption =
            Encryption::On { identity: Identity::new(theirs).into(), suites: Suite::ALL.to_vec() };
        if !pinned {
            setup.client.server_keys.clear();
        }
        let mut pair = Pair::new(setup);
        pair.discovery = document;
        pair
    };
    let pair = start(impostor(true));
    assert!(!pair.is_connected());
    assert_eq!((pair.sent(Down).len(), pair.sent(Up).len()), (0, 1), "no HS2, and no HS3 with what the client shows");

    // He takes HS1 for one that was meant for him: what follows from it does not open.
    let mut pair = impostor(true);
    let kid = StaticKey::generate(&mut Entropy::new([66; 32])).public().kid();
    pair.bend = Box::new(move |direction, number, record| {
        let mut record = record.to_vec();
        if (direction, number) == (Up, 0) {
            record[4..8].copy_from_slice(&kid);
        }
        vec![record.into()]
    });
    let pair = start(pair);
    assert!(!pair.is_connected() && !pair.arrived());
    assert_eq!((pair.sent(Down).len(), pair.sent(Up).len()), (0, 1));

    // Without the pin he is the server.
    let pair = start(impostor(false));
    assert!(pair.is_connected() && pair.arrived(), "it is not the pin that stopped him");
}
