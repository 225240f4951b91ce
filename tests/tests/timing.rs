//! Whether the time that a refusal takes tells what was wrong, where that would tell of a secret or of who is there.
//!
//! A short look that fails only for what is large: `MOORLINE_TIMING` multiplies the samples, and prints what came of it.
//! What the long run found is in `SECURITY.md` § Timing. Each kind of measurement has a control that it must find.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt as _;
use moorline_protocol::{
    auth::Resume,
    client::{ClientConfig, ClientEndpoint, ClientInput, ClientOutput, SocketInput},
    entropy::Entropy,
    frame::{Epoch, ResumeSecret, Seq, SessionId},
    key::{Identity, SharedKey, SharedKeyId, StaticKey},
    record::Suite,
    server::{Encryption, ServerConfig, ServerEndpoint, ServerInput, ServerOutput},
    session::{Claim, Owner, Proof, Registry},
    subject::{Subject, Tenant},
    time::Timestamp,
    url::DialUrl,
};
use moorline_server::{
    Config,
    config::{JwtAlgorithm, Secret},
    token::{self, Grant},
};
use moorline_tests::timing::{Comparison, time};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const EPOCH: Epoch = Epoch([7; 8]);

/// A comparison, until one of three finds no difference: what a moment of the machine makes is not there each time. With
/// `MOORLINE_TIMING` one, with so many times the samples.
fn compare(name: &str, samples: usize, mut measure: impl FnMut(bool) -> Duration) -> Comparison {
    let longer = std::env::var("MOORLINE_TIMING").ok().and_then(|times| times.parse::<usize>().ok());
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let mut found = Comparison::of(samples * longer.unwrap_or(1), seed, &mut measure);
    for again in 1..3 {
        if longer.is_some() || !found.differs() {
            break;
        }
        found = Comparison::of(samples, seed.wrapping_mul(again + 2), &mut measure);
    }
    println!("{name}: {found} (seed {seed})");
    found
}

// ---- handshakes ----

/// How long a server works on the two records of a client, up to its refusal.
struct Handshakes {
    server: Arc<ServerConfig>,
    client: ClientConfig,
    entropy: Entropy,
}

impl Handshakes {
    fn new(keys: Vec<SharedKey>) -> Self {
        let identity = Identity::new(StaticKey::from_private([7; 32]));
        let mut client = ClientConfig::new(DialUrl::parse("ws://localhost:2667/moorline").expect("a URL"));
        client.server_keys = identity.public_keys().collect();
        let encryption = Encryption::On { identity: identity.into(), suites: Suite::ALL.to_vec() };
        let mut server = ServerConfig::new(encryption, EPOCH);
        server.shared_keys = keys;
        Self { server: server.into(), client, entropy: Entropy::new([9; 32]) }
    }

    fn refusal_of(&mut self, key: SharedKey) -> Duration {
        self.client.shared_key = Some(key);
        let mut client = ClientEndpoint::new(self.client.clone(), self.entropy.array());
        let mut server = ServerEndpoint::new(self.server.clone(), self.entropy.array(), NOW);
        let mut took = Duration::ZERO;
        client.start(NOW);
        loop {
            match client.poll_output() {
                ClientOutput::OpenSocket { socket, .. } => {
                    client.handle_input(NOW, ClientInput::Socket(socket, SocketInput::Opened));
                }
                ClientOutput::Transmit(socket, record) => {
                    let began = Instant::now();
                    server.handle_input(NOW, ServerInput::Record(record));
                    let mut answers = Vec::new();
                    let closed = loop {
                        match server.poll_output() {
                            ServerOutput::Transmit(record) => answers.push(record),
                            ServerOutput::CloseSocket(_) => break true,
                            ServerOutput::Event(_) => {}
                            ServerOutput::Wait(_) => break false,
                        }
                    };
                    took += began.elapsed();
                    if closed {
                        return took;
                    }
                    for record in answers {
                        client.handle_input(NOW, ClientInput::Socket(socket, SocketInput::Record(record)));
                    }
                }
                ClientOutput::Wait(_) => panic!("it was not refused"),
                ClientOutput::Event(_)
                | ClientOutput::CloseSocket(..)
                | ClientOutput::Discover(..)
                | ClientOutput::Authorize { .. } => {}
            }
        }
    }
}

/// As many shared keys as a server may have. The one that is guessed at is the first, the unknown one is behind all.
fn keys() -> Vec<SharedKey> {
    (0..64).map(|name| SharedKey::new(SharedKeyId([name; 4]), [name; 32])).collect()
}

#[test]
fn the_name_of_a_shared_key_is_not_told_by_the_time_of_the_refusal() {
    let mut handshakes = Handshakes::new(keys());
    let guess = |known: bool| SharedKey::new(SharedKeyId([if known { 0 } else { 200 }; 4]), [99; 32]);
    let found = compare("a known name of a shared key, and none", 500, |known| handshakes.refusal_of(guess(known)));
    assert!(!found.differs(), "{found}");
}

/// Control: what is refused before the cryptography, as a client that asks for another server's key.
#[test]
fn control_a_refusal_before_the_cryptography_is_told_by_its_time() {
    let mut handshakes = Handshakes::new(keys());
    let right = handshakes.client.server_keys.clone();
    let wrong = vec![StaticKey::from_private([8; 32]).public()];
    let found = compare("control: a key of the server's, and none", 100, |known| {
        handshakes.client.server_keys = if known { right.clone() } else { wrong.clone() };
        handshakes.refusal_of(SharedKey::new(SharedKeyId([0; 4]), [99; 32]))
    });
    assert!(found.differs() && found.t > 0.0, "{found}");
}

// ---- sessions ----

/// One is too short to be measured.
const AT_ONCE: usize = 100;

const SECRET: [u8; 16] = [0x5a; 16];

fn owner(secret: [u8; 16]) -> Owner {
    Owner { proof: Proof::Secret(ResumeSecret(secret)), subject: Subject::anonymous(Tenant::default()) }
}

/// A thousand sessions with the one secret.
fn registry() -> Registry<u32> {
    let mut registry = Registry::new(EPOCH, 0);
    for number in 0..1_000_u32 {
        registry.enter(session(number), owner(SECRET), number);
    }
    registry
}

fn session(number: u32) -> SessionId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    SessionId(id)
}

fn resume(session: SessionId) -> Resume {
    Resume { session, received: Seq(0), attempt: 1, epoch: EPOCH, secret: None }
}

/// The secret with one byte changed: the first, or the last.
fn wrong(first: bool) -> [u8; 16] {
    let mut secret = SECRET;
    secret[if first { 0 } else { 15 }] ^= 1;
    secret
}

#[test]
fn how_much_of_a_resume_secret_is_right_is_not_told_by_the_time_of_the_refusal() {
    let registry = registry();
    let (asked, owners) = (resume(session(500)), [true, false].map(|first| owner(wrong(first))));
    assert_eq!(registry.claim(Some(&asked), &owner(SECRET)), Claim::Resume(500));
    let found = compare("a resume secret that is wrong in its first byte, and in its last", 2_000, |first| {
        let owner = &owners[usize::from(!first)];
        time(AT_ONCE, || registry.claim(Some(black_box(&asked)), black_box(owner)))
    });
    assert!(!found.differs(), "{found}");
}

/// It is told, and tells nothing: a name of a session is 16 random bytes, and who has got hold of one has seen it.
#[test]
fn whether_a_session_is_there_is_told_by_the_time_to_who_knows_its_name() {
    let (registry, owner) = (registry(), owner(wrong(true)));
    let asked = [500, 1_500].map(|number| resume(session(number)));
    let found = compare("a session of somebody else's, and none", 2_000, |there| {
        time(AT_ONCE, || registry.claim(Some(black_box(&asked[usize::from(!there)])), black_box(&owner)))
    });
    assert!(found.t > 0.0, "{found}");
}

/// Control: a comparison that ends where the two differ.
#[test]
fn control_a_comparison_that_ends_early_is_told_by_its_time() {
    let equal = |ours: &[u8; 16], theirs: &[u8; 16]| {
        for (one, other) in ours.iter().zip(theirs) {
            if black_box(one) != other {
                return false;
            }
        }
        true
    };
    let secrets = [true, false].map(wrong);
    let found = compare("control: a comparison that ends early", 2_000, |first| {
        let secret = &secrets[usize::from(!first)];
        time(AT_ONCE, || equal(black_box(&SECRET), black_box(secret)))
    });
    assert!(found.differs() && found.t < 0.0, "{found}");
}

// ---- tokens ----

fn settings(key_id: &str) -> Config {
    let mut config = Config::default();
    config.server.data_dir = "/nowhere/at/all".into();
    config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
    config.auth.jwt.secret = Some(Secret::new("a secret of thirty-two bytes or more"));
    config.auth.jwt.key_id = Some(key_id.into());
    config
}

fn issued(config: &Config) -> String {
    token::issue(config, &Grant::new(config, "ann")).expect("a token").token
}

/// The token with one character of its signature changed. Every character but the last is six bits of it.
fn forged(token: &str, from_end: usize) -> String {
    let at = token.len() - from_end;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn refusal_of(config: &Config, token: &str) -> Duration {
    let began = Instant::now();
    let refused = token::verify(config, token, None).now_or_never().expect("nothing is waited for");
    let took = began.elapsed();
    assert!(refused.is_err());
    took
}

#[test]
fn how_much_of_a_signature_is_right_is_not_told_by_the_time_of_the_refusal() {
    let config = settings("main");
    let token = issued(&config);
    // 43 characters of a signature of 32 bytes.
    let tokens = [43, 2].map(|from_end| forged(&token, from_end));
    let found = compare("a signature that is wrong in its first byte, and in its last", 2_000, |first| {
        refusal_of(&config, &tokens[usize::from(!first)])
    });
    assert!(!found.differs(), "{found}");
}

/// Control, and no secret: the names of keys stand in every token and in every key set.
#[test]
fn control_a_token_of_an_unknown_key_is_told_by_its_time_from_one_with_a_wrong_signature() {
    let config = settings("main");
    let (wrong, unknown) = (forged(&issued(&config), 43), issued(&settings("m41n")));
    let found = compare("control: a wrong signature, and a key of an unknown name", 2_000, |known| {
        refusal_of(&config, if known { &wrong } else { &unknown })
    });
    assert!(found.differs() && found.t > 0.0, "{found}");
}
