//! That tenants know nothing of each other, whatever they are called: a test of everything that is found by a subject.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use moorline_protocol::{
    auth::Resume,
    frame::{Epoch, Seq, SessionId},
    limits::MAX_NAME,
    session::{Claim, Owner, Proof, Registry},
    subject::{Subject, Tenant},
};

use super::{
    Principal,
    revocation::{Revocation, Revocations},
    verified::Verified,
};
use crate::{limits::Caller, once::Key};

/// Operations of each kind that is in memory, and of the one that waits for the disk.
const OPERATIONS: usize = 100_000;
const REVOCATIONS: usize = 300;

/// Pieces of names that would reach across if names were ever put together: separators, wildcards, control characters,
/// letters that look alike (Latin and Cyrillic), and one letter composed and decomposed.
const PIECES: [&str; 22] = [
    "a",
    "b",
    "A",
    "а",
    "é",
    "e\u{301}",
    ":",
    "/",
    "*",
    "**",
    "{name}",
    ".",
    "..",
    "\0",
    "\n",
    "\u{1b}[0m",
    " ",
    "%2f",
    "\\",
    "default",
    "anonymous",
    "\u{202e}",
];

struct Draw(u64);

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        // Xorshift (Marsaglia 2003): the same names in every run.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn name(&mut self) -> String {
        let pieces = 1 + self.below(4);
        let name: String = (0..pieces).map(|_| PIECES[self.below(PIECES.len())]).collect();
        assert!(name.len() <= MAX_NAME);
        name
    }

    fn subject(&mut self, tenants: &[Tenant; 2]) -> Subject {
        let tenant = tenants[self.below(2)].clone();
        Subject::new(tenant, &self.name()).expect("a name")
    }
}

#[test]
fn a_hundred_thousand_operations_of_two_tenants_never_cross() {
    let mut draw = Draw(0x6d6f_6f72_6c69_6e65);
    let mut names = [draw.name(), draw.name()];
    while names[0] == names[1] {
        names[1] = draw.name();
    }
    let tenants = names.map(|name| Tenant::new(&name).expect("a name"));
    let epoch = Epoch([1; 8]);
    let mut registry: Registry<Subject> = Registry::new(epoch, OPERATIONS);
    let mut answers: HashMap<Key, Subject> = HashMap::new();
    let session = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        SessionId(id)
    };
    for number in 0..OPERATIONS {
        let subject = draw.subject(&tenants);
        // One client for all of them: only the subject keeps them apart.
        let owner = |subject: &Subject| Owner { proof: Proof::Key([7; 32]), subject: subject.clone() };
        registry.enter(session(number), owner(&subject), subject.clone());
        let asked = draw.below(number + 1);
        let resume = Resume { session: session(asked), received: Seq(0), epoch, attempt: 1, secret: None };
        if let Claim::Resume(whose) = registry.claim(Some(&resume), &owner(&subject)) {
            assert_eq!(whose, subject, "somebody else's session");
        }
        let handler: Arc<str> = "pay".into();
        let caller = Caller { subject: subject.clone(), client: None };
        let key = Key { caller, handler, key: draw.name() };
        let first = answers.entry(key).or_insert_with(|| subject.clone());
        assert_eq!(*first, subject, "somebody else's answer");
    }
}

#[test]
fn a_revocation_reaches_its_own_tenant_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let revocations = Revocations::load(&directory.path().join("revocations")).expect("none yet");
    let mut draw = Draw(0x7465_6e61_6e74_7321);
    let tenants = [draw.name(), draw.name()].map(|name| Tenant::new(&name).expect("a name"));
    assert_ne!(tenants[0], tenants[1]);
    let now = SystemTime::now();
    let token = |subject: &Subject| {
        let expires = now + Duration::from_secs(3_600);
        Verified::of(
            Principal::new(subject.clone()),
            expires,
            None,
            Some(now - Duration::from_secs(1)),
            serde_json::Map::new(),
        )
    };
    let mut revoked = std::collections::BTreeSet::new();
    for _ in 0..REVOCATIONS {
        let subject = draw.subject(&tenants);
        revocations
            .revoke_blocking(&Revocation::Subject { subject: subject.clone(), before: now }, now)
            .expect("it is written");
        revoked.insert(subject);
        for _ in 0..20 {
            let asked = draw.subject(&tenants);
            assert_eq!(revocations.is_revoked(&token(&asked)), revoked.contains(&asked), "{asked:?}");
        }
    }
}
