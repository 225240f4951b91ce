//! Who may come how often, and hold how much: the limits that are about time and about one address or one subject.
//!
//! Whoever is refused by address is refused at the upgrade, before any Diffie-Hellman, or before HS1 is read where his
//! other sockets have failed meanwhile. Everything that is kept about strangers is bounded. Implements
//! `docs/OPERATING.md` § Limits.

mod bucket;
mod held;
mod lines;
mod pace;
mod turns;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moorline_protocol::subject::Subject;
use tokio::time::Instant;

pub(crate) use self::{
    bucket::{Bucket, Buckets},
    held::{Counts, Held},
    lines::Lines,
    pace::{Pace, Verdict},
    turns::{Caller, Turns},
};
use crate::{config::LimitsSection, metrics::Limited, rate::Rate};

/// Addresses whose handshakes are counted, in each of two generations: about 5 MB with both full.
const ADDRESSES: usize = 32_768;

/// Handshakes that may come at once, in seconds of their rate: after a restart everybody comes back.
const BURST: Duration = Duration::from_secs(5);

const MINUTE: Duration = Duration::from_secs(60);

/// Requests for a token in a second, of one address and of everybody: each costs a signature to be checked and one to be
/// made. One address is usually one service that signs people in.
const TOKENS_PER_ADDRESS: usize = 10;
const TOKENS: usize = 100;

/// Requests for a token that may come at once, in seconds of their rate.
const TOKENS_BURST: Duration = Duration::from_secs(3);

/// How long an address with too many open connections is asked to wait: somebody else must go first.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(5);

/// TCP connections of one address that are no WebSocket yet, beside as many as it may have of those: for pages, documents
/// and refusals.
const SPARE_SOCKETS: usize = 256;

/// How long an address is asked to wait of whom as many are being judged as may fail.
const WAIT_FOR_JUDGEMENT: Duration = Duration::from_secs(1);

/// Who somebody is as far as his address says. Of IPv6 it is the network: a host has all of a /64 to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

/// Why somebody is not taken now, and when he might be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TooMuch {
    pub(crate) limit: Limited,
    pub(crate) retry_after: Duration,
}

/// A rate for each address, and one for all of them.
struct Pair {
    each: Option<Buckets<Origin>>,
    all: Option<(Rate, Bucket)>,
}

impl Pair {
    fn new(each: Option<Rate>, all: Option<Rate>, now: Instant) -> Self {
        Self {
            each: each.map(|rate| Buckets::new(rate, ADDRESSES)),
            all: all.map(|rate| (rate, Bucket::full(rate, now))),
        }
    }
}

impl Pair {
    /// Takes one of this address and of all; `limits` are the names of the two.
    fn take(&mut self, origin: &Origin, limits: [Limited; 2], now: Instant) -> Result<(), TooMuch> {
        let mut own = self.each.as_mut().map(|each| (each.rate(), each.of(origin, now)));
        // Both are asked before either is taken from: what one address is refused takes nothing from all, and what is
        // refused for the sake of all takes nothing from its own.
        if let Some((rate, bucket)) = &mut own
            && !bucket.has_one(*rate, now)
        {
            return Err(TooMuch { limit: limits[0], retry_after: bucket.wait(*rate) });
        }
        if let Some((rate, bucket)) = &mut self.all
            && !bucket.take(*rate, now)
        {
            return Err(TooMuch { limit: limits[1], retry_after: bucket.wait(*rate) });
        }
        own.map(|(rate, bucket)| bucket.take(rate, now));
        Ok(())
    }

    /// Of what is counted when it fails: how often more it may for this address, which is once at least. An address that
    /// nothing was counted of lately is not asked for the whole.
    fn may_fail(&mut self, origin: &Origin, now: Instant) -> Result<usize, TooMuch> {
        let Some(each) = &mut self.each else { return Ok(usize::MAX) };
        let rate = each.rate();
        let Some(bucket) = each.find(origin, now) else { return Ok(rate.at_once()) };
        if !bucket.has_one(rate, now) {
            return Err(TooMuch { limit: Limited::FailedHandshakesPerAddress, retry_after: bucket.wait(rate) });
        }
        if let Some((whole, spent)) = &mut self.all
            && !spent.has_one(*whole, now)
            && !bucket.is_full(rate, now)
        {
            return Err(TooMuch { limit: Limited::FailedHandshakes, retry_after: spent.wait(*whole) });
        }
        Ok(bucket.left(rate, now))
    }
}

/// The limits of one server.
pub(crate) struct Limits {
    per_address: usize,
    per_subject: usize,
    addresses: Counts<Origin>,
    /// TCP connections.
    sockets: Counts<Origin>,
    subjects: Counts<Subject>,
    handshakes: Mutex<Pair>,
    failures: Mutex<Pair>,
    /// Those who have shown something and are not judged yet.
    undecided: Counts<Origin>,
    tokens: Mutex<Pair>,
}

impl Limits {
    pub(crate) fn new(config: &LimitsSection, now: Instant) -> Self {
        let a_second = |count| Rate::new(count, Duration::from_secs(1), BURST);
        let a_minute = |count| Rate::new(count, MINUTE, MINUTE);
        Self {
            per_address: config.connections_per_address,
            per_subject: config.connections_per_subject,
            addresses: Counts::default(),
            sockets: Counts::default(),
            subjects: Counts::default(),
            handshakes: Mutex::new(Pair::new(
                a_second(config.handshakes_per_second_per_address),
                a_second(config.handshakes_per_second),
                now,
            )),
            failures: Mutex::new(Pair::new(
                a_minute(config.failed_handshakes_per_minute_per_address),
                a_minute(config.failed_handshakes_per_minute),
                now,
            )),
            undecided: Counts::default(),
            tokens: Mutex::new(Pair::new(
                Rate::new(TOKENS_PER_ADDRESS, Duration::from_secs(1), TOKENS_BURST),
                Rate::new(TOKENS, Duration::from_secs(1), TOKENS_BURST),
                now,
            )),
        }
    }

    /// A place for a TCP connection of this address, before anything is read of it. `None`: there is no limit.
    pub(crate) fn connect(&self, address: IpAddr) -> Result<Option<Held<Origin>>, TooMuch> {
        match self.per_address {
            0 => Ok(None),
            most => self.sockets.take(address.into(), most + SPARE_SOCKETS).map(Some).ok_or(CONNECTIONS),
        }
    }

    /// Lets a socket in as far as its handshake, and holds its place among those of its address. `None` in the place:
    /// there is no limit.
    pub(crate) fn enter(&self, address: IpAddr, now: Instant) -> Result<Option<Held<Origin>>, TooMuch> {
        let origin = Origin::from(address);
        self.check_failures(address, now)?;
        let held = match self.per_address {
            0 => None,
            most => Some(self.addresses.take(origin, most).ok_or(CONNECTIONS)?),
        };
        lock(&self.handshakes).take(&origin, [Limited::HandshakesPerAddress, Limited::Handshakes], now)?;
        Ok(held)
    }

    /// Lets this address ask for a token.
    pub(crate) fn ask_for_token(&self, address: IpAddr, now: Instant) -> Result<(), TooMuch> {
        lock(&self.tokens).take(&Origin::from(address), [Limited::Tokens; 2], now)
    }

    /// Whether a socket of this address would be let in now; for who asks why it was not.
    pub(crate) fn would_enter(&self, address: IpAddr, now: Instant) -> Result<(), TooMuch> {
        let origin = Origin::from(address);
        self.check_failures(address, now)?;
        if self.per_address > 0 && self.addresses.count(&origin) >= self.per_address {
            return Err(CONNECTIONS);
        }
        let mut handshakes = lock(&self.handshakes);
        if let Some(each) = &mut handshakes.each {
            let rate = each.rate();
            if let Some(bucket) = each.find(&origin, now)
                && !bucket.has_one(rate, now)
            {
                return Err(TooMuch { limit: Limited::HandshakesPerAddress, retry_after: bucket.wait(rate) });
            }
        }
        if let Some((rate, bucket)) = &mut handshakes.all
            && !bucket.has_one(*rate, now)
        {
            return Err(TooMuch { limit: Limited::Handshakes, retry_after: bucket.wait(*rate) });
        }
        Ok(())
    }

    /// Whether the handshakes of this address have failed too often.
    ///
    /// What fails is counted by address, and in all. The latter must not become a way to lock everybody out, by failing
    /// on purpose from many addresses: so an address that has not failed of late is let in however many others have. With
    /// the whole spent, each address has one failure a minute instead of its own number: that slows a guesser down who
    /// has many addresses, and costs nobody anything who has the right key.
    pub(crate) fn check_failures(&self, address: IpAddr, now: Instant) -> Result<(), TooMuch> {
        lock(&self.failures).may_fail(&Origin::from(address), now).map(drop)
    }

    /// Lets this address show what could be a guess, a token or a password, if it has not failed too often.
    ///
    /// Until what this gives is dropped, which is to be after [`Self::fail`], it counts as if it had failed: otherwise
    /// a thousand that are shown at once would be a thousand guesses, because judging takes its time.
    pub(crate) fn attempt(&self, address: IpAddr, now: Instant) -> Result<Held<Origin>, TooMuch> {
        let origin = Origin::from(address);
        let mut failures = lock(&self.failures);
        let most = failures.may_fail(&origin, now)?;
        let busy = TooMuch { limit: Limited::FailedHandshakesPerAddress, retry_after: WAIT_FOR_JUDGEMENT };
        self.undecided.take(origin, most).ok_or(busy)
    }

    /// A handshake of this address failed, or what was shown behind it, by something that only who is wrong or guesses
    /// does.
    pub(crate) fn fail(&self, address: IpAddr, now: Instant) {
        let mut failures = lock(&self.failures);
        if let Some(each) = &mut failures.each {
            let rate = each.rate();
            each.of(&Origin::from(address), now).take(rate, now);
        }
        if let Some((rate, bucket)) = &mut failures.all {
            bucket.take(*rate, now);
        }
    }

    /// A place among the connections of somebody who has signed in. `Ok(None)`: there is no limit for him. `over`: an
    /// older one of his goes for it, so that he gets it in any case.
    pub(crate) fn hold(&self, subject: &Subject, over: bool) -> Result<Option<Held<Subject>>, TooMuch> {
        if self.per_subject == 0 || subject.is_anonymous() {
            return Ok(None);
        }
        let most = if over { usize::MAX } else { self.per_subject };
        let full = TooMuch { limit: Limited::ConnectionsPerSubject, retry_after: WAIT_FOR_ROOM };
        self.subjects.take(subject.clone(), most).map(Some).ok_or(full)
    }
}

const CONNECTIONS: TooMuch = TooMuch { limit: Limited::ConnectionsPerAddress, retry_after: WAIT_FOR_ROOM };

fn lock(pair: &Mutex<Pair>) -> MutexGuard<'_, Pair> {
    pair.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use moorline_protocol::subject::Tenant;

    use super::*;

    fn limits(change: impl FnOnce(&mut LimitsSection)) -> (Limits, Instant) {
        let mut config = LimitsSection::default();
        change(&mut config);
        let now = Instant::now();
        (Limits::new(&config, now), now)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn refused<T>(entered: Result<T, TooMuch>) -> Option<Limited> {
        entered.err().map(|too_much| too_much.limit)
    }

    #[test]
    fn an_address_of_ipv6_is_its_network_and_a_mapped_one_its_ipv4() {
        let origin = |text| Origin::from(address(text));
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:0:0:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn an_address_holds_so_many_and_another_one_its_own() {
        let (limits, now) = limits(|config| config.connections_per_address = 2);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let held = [limits.enter(one, now), limits.enter(one, now)];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(refused(limits.enter(one, now)), Some(Limited::ConnectionsPerAddress));
        assert_eq!(refused(limits.would_enter(one, now)), Some(Limited::ConnectionsPerAddress));
        assert!(limits.enter(other, now).is_ok());
        drop(held);
        assert!(limits.enter(one, now).is_ok());
    }

    #[test]
    fn one_address_cannot_take_what_is_for_all() {
        let (limits, now) = limits(|config| {
            (config.handshakes_per_second_per_address, config.handshakes_per_second) = (2, 4);
        });
        let (one, other, third) = (address("192.0.2.1"), address("192.0.2.2"), address("192.0.2.3"));
        let come = |from| (0..1_000).filter(|_| limits.enter(from, now).is_ok()).count();
        assert_eq!((come(one), come(other), come(third)), (10, 10, 0));
        assert_eq!(refused(limits.enter(one, now)), Some(Limited::HandshakesPerAddress));
        assert_eq!(refused(limits.would_enter(one, now)), Some(Limited::HandshakesPerAddress));
        assert_eq!(refused(limits.enter(third, now)), Some(Limited::Handshakes));
        assert!(limits.enter(third, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn an_address_asks_for_so_many_tokens_and_none_for_all_that_there_are() {
        let (limits, now) = limits(|_| {});
        let asked =
            |last: u8, now| (0..1_000).filter(|_| limits.ask_for_token([192, 0, 2, last].into(), now).is_ok()).count();
        assert_eq!((asked(1, now), asked(2, now)), (30, 30));
        assert_eq!(asked(1, now + Duration::from_secs(1)), 10);
        // Of everybody together, however many addresses they have.
        let later = now + Duration::from_secs(100);
        assert_eq!((0..=255).map(|last| asked(last, later)).sum::<usize>(), 300);
        let refused = limits.ask_for_token([198, 51, 100, 7].into(), later).expect_err("there is none left");
        assert!(refused.limit == Limited::Tokens && refused.retry_after <= Duration::from_millis(11), "{refused:?}");
        // What was refused for the sake of all took nothing from its own.
        assert!(limits.ask_for_token([198, 51, 100, 7].into(), later + Duration::from_millis(11)).is_ok());
    }

    #[test]
    fn who_fails_too_often_waits_and_others_do_not() {
        let (limits, now) = limits(|config| config.failed_handshakes_per_minute_per_address = 3);
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..3 {
            assert!(limits.enter(guesser, now).is_ok());
            limits.fail(guesser, now);
        }
        assert_eq!(refused(limits.enter(guesser, now)), Some(Limited::FailedHandshakesPerAddress));
        assert!(limits.enter(other, now).is_ok());
        assert!(limits.enter(guesser, now + Duration::from_secs(21)).is_ok());
    }

    #[test]
    fn what_is_shown_at_once_is_no_more_guesses_than_one_after_the_other() {
        let (limits, now) = limits(|config| config.failed_handshakes_per_minute_per_address = 3);
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let shown: Vec<_> = (0..100).filter_map(|_| limits.attempt(guesser, now).ok()).collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(refused(limits.attempt(guesser, now)), Some(Limited::FailedHandshakesPerAddress));
        assert!(limits.check_failures(guesser, now).is_ok(), "none of them has failed");
        assert!(limits.attempt(other, now).is_ok());
        // One was right; the other two were not.
        limits.fail(guesser, now);
        limits.fail(guesser, now);
        drop(shown);
        let again = limits.attempt(guesser, now);
        assert!(again.is_ok() && limits.attempt(guesser, now).is_err());
        drop(again);
        limits.fail(guesser, now);
        assert!(limits.attempt(guesser, now).is_err() && limits.attempt(other, now).is_ok());
        assert_eq!(limits.undecided.count(&Origin::from(guesser)), 0);
    }

    #[test]
    fn however_many_fail_an_address_that_has_not_is_let_in() {
        let (limits, now) = limits(|config| {
            (config.failed_handshakes_per_minute_per_address, config.failed_handshakes_per_minute) = (10, 100);
        });
        let guessers: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let guess = |from: &IpAddr| {
            let entered = limits.enter(*from, now);
            limits.fail(*from, now);
            refused(entered)
        };
        // The first hundred spend the whole; from then on each has one.
        assert!(guessers.iter().all(|from| guess(from).is_none()));
        assert!(guessers.iter().all(|from| guess(from) == Some(Limited::FailedHandshakes)));
        assert!(limits.enter(address("198.51.100.7"), now).is_ok());
    }

    #[test]
    fn who_has_signed_in_holds_so_many_and_everybody_else_what_he_likes() -> Result<(), Box<dyn std::error::Error>> {
        let (limits, _) = limits(|config| config.connections_per_subject = 1);
        let ann = Subject::new(Tenant::default(), "ann")?;
        let held = limits.hold(&ann, false).map_err(|_| "refused")?;
        assert!(held.is_some());
        assert_eq!(refused(limits.hold(&ann, false)), Some(Limited::ConnectionsPerSubject));
        assert!(limits.hold(&ann, true).is_ok_and(|held| held.is_some()), "the older one goes for it");
        let nobody = Subject::anonymous(Tenant::default());
        assert!((0..9).all(|_| limits.hold(&nobody, false).is_ok_and(|held| held.is_none())));
        Ok(())
    }

    #[test]
    fn nothing_is_limited_that_is_set_to_zero() {
        let (limits, now) = limits(|config| {
            (config.connections_per_address, config.connections_per_subject) = (0, 0);
            (config.handshakes_per_second, config.handshakes_per_second_per_address) = (0, 0);
            (config.failed_handshakes_per_minute, config.failed_handshakes_per_minute_per_address) = (0, 0);
        });
        let one = address("192.0.2.1");
        for _ in 0..100_000 {
            assert!(limits.enter(one, now).is_ok());
            limits.fail(one, now);
        }
    }
}
