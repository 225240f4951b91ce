//! Claims about any conversation over any connections, against a model: lists of what was said and what was heard.

use std::{collections::BTreeMap, mem, time::Duration};

use moorline_protocol::{
    PeerEvent,
    client::ClientEvent,
    code::Code,
    frame::{CallId, Failure},
    limits::{Limits, PART},
    payload::{Name, Payload},
    server::ServerEvent,
    session::{Broadcast, CallOptions, Outcome},
};
use proptest::{collection::vec, option, prelude::*};

use crate::pair::*;

/// One thing that happens. `up`: to or by the client.
#[derive(Clone, Debug)]
enum Step {
    Notify {
        up: bool,
        size: usize,
    },
    Confirmed,
    Call {
        up: bool,
        keyed: bool,
        credit: Option<u8>,
        timeout: Option<u16>,
        size: usize,
    },
    /// Of the calls that one side was handed, one ends: with a reply of this size, a failure or the end of a stream.
    Answer {
        up: bool,
        which: u8,
        how: u8,
        size: usize,
    },
    Item {
        up: bool,
        which: u8,
        size: usize,
    },
    Grant {
        up: bool,
        which: u8,
        more: u8,
    },
    Cancel {
        up: bool,
        which: u8,
    },
    Congest {
        up: bool,
        congested: bool,
    },
    Cut,
    HalfCut,
    Pass(u16),
    Restart,
    Expire,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..50usize, 1 => PART - 1..PART + 2, 1 => 0..3 * PART]
}

/// A step that loses no session.
fn step() -> impl Strategy<Value = Step> {
    let credit = || option::of(0..4u8);
    prop_oneof![
        6 => (any::<bool>(), size()).prop_map(|(up, size)| Step::Notify { up, size }),
        1 => Just(Step::Confirmed),
        6 => (any::<bool>(), any::<bool>(), credit(), option::of(0..3_000u16), size())
            .prop_map(|(up, keyed, credit, timeout, size)| Step::Call { up, keyed, credit, timeout, size }),
        6 => (any::<bool>(), any::<u8>(), 0..4u8, size())
            .prop_map(|(up, which, how, size)| Step::Answer { up, which, how, size }),
        5 => (any::<bool>(), any::<u8>(), size()).prop_map(|(up, which, size)| Step::Item { up, which, size }),
        2 => (any::<bool>(), any::<u8>(), 0..4u8).prop_map(|(up, which, more)| Step::Grant { up, which, more }),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(up, which)| Step::Cancel { up, which }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(up, congested)| Step::Congest { up, congested }),
        3 => Just(Step::Cut),
        1 => Just(Step::HalfCut),
        6 => (0..2_000u16).prop_map(Step::Pass),
    ]
}

fn step_or_loss() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step(), 1 => Just(Step::Restart), 1 => Just(Step::Expire)]
}

/// A call as the side that made it sees it.
#[derive(Debug, Default)]
struct Made {
    settled: usize,
    timed_out: bool,
    cancelled: bool,
    stream: bool,
    items: u64,
}

/// A call as the side that is to answer it sees it.
#[derive(Debug)]
struct Handed {
    id: CallId,
    number: u64,
    stream: bool,
    items: u64,
}

/// What one side said and heard.
#[derive(Debug, Default)]
struct Side {
    /// The numbers of its notifications and calls that were taken, ascending.
    said: Vec<u64>,
    /// The numbers of the other side's that it was handed, with whether they were calls with a key.
    heard: Vec<(u64, bool)>,
    made: BTreeMap<CallId, Made>,
    /// The number that each call was made under.
    numbers: BTreeMap<CallId, u64>,
    handed: Vec<Handed>,
    confirmed: usize,
}

struct World {
    pair: Pair,
    client: Side,
    server: Side,
    last: u64,
    receipts: usize,
    /// The numbers that resets listed.
    lost: Vec<u64>,
    resets: usize,
    losses: usize,
}

/// The first bytes say which, the rest fills.
fn numbered(number: u64, size: usize) -> Payload {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + size, number as u8);
    Payload::bytes(bytes)
}

fn number_of(payload: &Payload) -> u64 {
    let (first, rest) = payload.bytes.split_first_chunk().expect("every payload has a number");
    let number = u64::from_le_bytes(*first);
    assert!(rest.iter().all(|byte| *byte == number as u8), "the payload of {number} is whole");
    number
}

fn name_of(number: u64) -> Name {
    name(&format!("m{number}"))
}

impl Side {
    /// Whether it was a call that timed out or was cancelled.
    fn gave_up(&self, number: u64) -> bool {
        let call = self.numbers.iter().find(|(_, of)| **of == number).map(|(id, _)| &self.made[id]);
        call.is_some_and(|made| made.cancelled || made.timed_out)
    }

    /// Takes note of what this side's application heard.
    fn hear(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Call { id, name, key, credit, payload } => {
                let number = number_of(&payload);
                assert_eq!(name, name_of(number));
                self.heard.push((number, key.is_some()));
                self.handed.push(Handed { id, number, stream: credit.is_some(), items: 0 });
            }
            PeerEvent::Message { name, payload, .. } => {
                let number = number_of(&payload);
                assert_eq!(name, name_of(number));
                self.heard.push((number, false));
            }
            PeerEvent::Cancelled(id) => self.handed.retain(|handed| handed.id != id),
            PeerEvent::Credit(_) | PeerEvent::Room => {}
            PeerEvent::Confirmed(_) => self.confirmed += 1,
            PeerEvent::Item { id, payload } => {
                let made = self.made.get_mut(&id).expect("items come for calls that were made");
                assert!(made.stream && made.settled == 0 && !made.cancelled, "an item of {id:?} out of turn");
                assert_eq!(number_of(&payload), made.items, "items come in order");
                made.items += 1;
            }
            PeerEvent::Settled { id, outcome } => {
                let made = self.made.get_mut(&id).expect("calls that were made settle");
                made.settled += 1;
                made.timed_out = outcome == Outcome::TimedOut;
                assert!(made.settled == 1 && !made.cancelled, "{id:?} settled again: {outcome:?}");
                if let Outcome::Reply(payload) = outcome {
                    assert_eq!(Some(&number_of(&payload)), self.numbers.get(&id), "another call's reply");
                }
            }
        }
    }
}

impl World {
    fn new(seed: u64, limits: [(usize, usize); 2]) -> Self {
        let mut setup = Setup { seed, ..Setup::plain() };
        let set = |of: &mut Limits, (frames, bytes): (usize, usize)| {
            (of.max_outgoing_frames, of.max_outgoing_bytes) = (frames, bytes);
        };
        set(&mut setup.client.limits, limits[0]);
        set(&mut setup.server.limits, limits[1]);
        Self {
            pair: setup.connect(),
            client: Side::default(),
            server: Side::default(),
            last: 0,
            receipts: 0,
            lost: Vec::new(),
            resets: 0,
            losses: 0,
        }
    }

    fn side(&mut self, up: bool) -> &mut Side {
        if up { &mut self.client } else { &mut self.server }
    }

    fn take(&mut self, step: Step) {
        let now = self.pair.now;
        let number = self.last + 1;
        match step {
            Step::Notify { up, size } => {
                let payload = numbered(number, size);
                let taken = if up {
                    self.pair.client.notify(name_of(number), payload, false).is_ok()
                } else {
                    let broadcast = Broadcast::new(name_of(number), payload, false).expect("within the limit");
                    self.pair.server().send(&broadcast).is_ok()
                };
                self.said(up, number, taken);
            }
            Step::Confirmed => {
                let taken = self.pair.client.notify_confirmed(name_of(number), numbered(number, 1)).is_ok();
                self.receipts += usize::from(taken);
                self.said(true, number, taken);
            }
            Step::Call { up, keyed, credit, timeout, size } => {
                let mut options = CallOptions::default();
                options.key = keyed.then(|| name_of(number));
                options.credit = credit.map(u64::from);
                options.timeout = timeout.map(|timeout| Duration::from_millis(timeout.into()));
                let (name, payload) = (name_of(number), numbered(number, size));
                let called = if up {
                    self.pair.client.call(now, name, payload, options)
                } else {
                    self.pair.server().call(now, name, payload, options)
                };
                self.said(up, number, called.is_ok());
                if let Ok(id) = called {
                    let made = Made { stream: credit.is_some(), ..Made::default() };
                    let side = self.side(up);
                    side.numbers.insert(id, number);
                    assert!(side.made.insert(id, made).is_none(), "{id:?} was given twice");
                }
            }
            Step::Answer { up, which, how, size } => {
                let side = self.side(up);
                if side.handed.is_empty() {
                    return;
                }
                let handed = side.handed.remove(usize::from(which) % side.handed.len());
                let result = match how {
                    0 => Err(Failure::of(Code::INTERNAL)),
                    _ => Ok(numbered(handed.number, size)),
                };
                // Who asked for a reply gets one.
                let how = if handed.stream { how } else { how.min(2) };
                match (up, how) {
                    (true, 3) => self.pair.client.end(handed.id),
                    (false, 3) => self.pair.server().end_stream(handed.id),
                    (true, _) => self.pair.client.answer(now, handed.id, result).expect("within the limit"),
                    (false, _) => self.pair.server().answer(handed.id, result).expect("within the limit"),
                }
            }
            Step::Item { up, which, size } => {
                let side = if up { &mut self.client } else { &mut self.server };
                let count = side.handed.len().max(1);
                let Some(handed) = side.handed.get_mut(usize::from(which) % count) else { return };
                let payload = numbered(handed.items, size);
                let sent = if up {
                    self.pair.client.item(handed.id, payload)
                } else {
                    self.pair.server().item(handed.id, payload)
                };
                handed.items += u64::from(sent.is_ok());
            }
            Step::Grant { up, which, more } => {
                let Some(id) = self.open_call(up, which) else { return };
                if up {
                    self.pair.client.grant(id, more.into());
                } else {
                    self.pair.server().grant(id, more.into());
                }
            }
            Step::Cancel { up, which } => {
                let Some(id) = self.open_call(up, which) else { return };
                if up {
                    self.pair.client.cancel(id);
                } else {
                    self.pair.server().cancel(id);
                }
                self.side(up).made.get_mut(&id).expect("it is open").cancelled = true;
            }
            Step::Congest { up, congested } => self.pair.congest(if up { Up } else { Down }, congested),
            Step::Cut => self.pair.cut(),
            Step::HalfCut => drop(self.pair.half_cut(1006)),
            Step::Pass(millis) => self.pair.advance(Duration::from_millis(millis.into())),
            Step::Restart => {
                self.pair.run();
                self.hear();
                self.lose_server();
                self.pair.restart();
                self.pair.advance(Duration::from_secs(20));
            }
            Step::Expire => {
                self.pair.run();
                // Where only the client knew that the socket was gone, the server would count from later on.
                self.pair.client.retry_now(now);
                self.pair.run();
                self.pair.reachable = false;
                self.pair.cut();
                self.pair.advance(Duration::from_secs(120));
                self.hear();
                self.lose_server();
                self.pair.reachable = true;
                self.pair.advance(Duration::from_secs(20));
            }
        }
    }

    /// The server's application begins anew, and with it the numbers of its calls.
    fn lose_server(&mut self) {
        self.losses += 1;
        self.server.made.clear();
        self.server.numbers.clear();
        self.server.handed.clear();
    }

    fn said(&mut self, up: bool, number: u64, taken: bool) {
        if taken {
            self.last = number;
            self.side(up).said.push(number);
        }
    }

    fn open_call(&mut self, up: bool, which: u8) -> Option<CallId> {
        let made = &self.side(up).made;
        let open: Vec<_> = made.iter().filter(|(_, made)| made.settled == 0 && !made.cancelled).collect();
        open.get(usize::from(which) % open.len().max(1)).map(|(id, _)| **id)
    }

    fn hear(&mut self) {
        for event in mem::take(&mut self.pair.client_heard) {
            match event {
                ClientEvent::Peer(event) => self.client.hear(event),
                ClientEvent::Reset(reset) => {
                    self.resets += 1;
                    for lost in reset.unconfirmed {
                        self.lost.push(lost.name.as_str()[1..].parse().expect("a number"));
                        self.receipts -= usize::from(lost.receipt.is_some());
                    }
                }
                ClientEvent::Status(_)
                | ClientEvent::Session(_)
                | ClientEvent::Refused(..)
                | ClientEvent::Authenticated(..)
                | ClientEvent::Channel(..)
                | ClientEvent::Direct(_)
                | ClientEvent::Warned(..) => {}
            }
        }
        for event in mem::take(&mut self.pair.server_heard) {
            if let ServerEvent::Peer(event) = event {
                self.server.hear(event);
            }
        }
    }

    /// What was heard is the beginning of what was said, but for calls that were given up before they were transmitted.
    fn check_prefix(&self, whole: bool) {
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let heard: Vec<_> = to.heard.iter().map(|(number, _)| *number).collect();
            let end = if whole { u64::MAX } else { heard.last().copied().unwrap_or(0) };
            let said = from.said.iter().filter(|number| **number <= end);
            let expected: Vec<_> = said.filter(|number| heard.contains(number) || !from.gave_up(**number)).collect();
            assert!(heard.iter().eq(expected), "said {:?}, heard {heard:?}", from.said);
        }
        assert_eq!(self.resets, 0);
    }

    /// What was heard came in the order in which it was said, and once; calls with a key come again after a loss.
    fn check_order(&self) {
        for heard in [&self.server.heard, &self.client.heard] {
            let once: Vec<_> = heard.iter().filter(|(_, keyed)| !keyed).map(|(number, _)| *number).collect();
            assert!(once.is_sorted_by(|a, b| a < b), "heard {once:?}");
            for (number, _) in heard.iter().filter(|(_, keyed)| *keyed) {
                let times = heard.iter().filter(|(other, _)| other == number).count();
                assert!(times <= 1 + self.losses, "{number} came {times} times in {} sessions", 1 + self.losses);
            }
        }
        assert!(self.resets <= self.losses, "{} resets for {} losses", self.resets, self.losses);
    }

    /// Everything that bends is straightened, and time passes.
    fn heal(&mut self) {
        for _ in 0..5 {
            self.pair.congest(Up, false);
            self.pair.congest(Down, false);
            self.pair.advance(Duration::from_secs(30));
            self.hear();
        }
        assert!(self.pair.newest().is_some_and(|server| server.is_authenticated()));
    }

    /// Every call that a side was handed is answered.
    fn answer_all(&mut self) {
        for up in [true, false] {
            while !self.side(up).handed.is_empty() {
                self.take(Step::Answer { up, which: 0, how: 1, size: 1 });
                self.pair.advance(Duration::from_secs(1));
                self.hear();
            }
        }
        self.heal();
    }

    fn check_converged(&mut self, sides: &[bool]) {
        for up in sides {
            for (id, made) in &self.side(*up).made {
                assert_eq!(made.settled, usize::from(!made.cancelled), "{id:?} of the {up}: {made:?}");
            }
        }
        assert_eq!(self.pair.client.waiting_bytes(), 0);
        assert_eq!((self.pair.server().kept().0, self.pair.server().undelivered()), (0, 0));
        assert_eq!(self.client.confirmed, self.receipts, "every receipt is confirmed or listed, once");
    }
}

fn limits() -> impl Strategy<Value = [(usize, usize); 2]> {
    let one = || (prop_oneof![1..4usize, 1..100usize], prop_oneof![1..100usize, 1..100_000usize]);
    (one(), one()).prop_map(|(client, server)| [client, server])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn within_a_session_everything_arrives_once_and_in_order_and_every_call_settles_once(
        seed in any::<u64>(), limits in limits(), steps in vec(step(), 0..100)
    ) {
        let mut world = World::new(seed, limits);
        for step in steps {
            world.take(step);
            world.pair.run();
            world.hear();
            world.check_prefix(false);
        }
        world.heal();
        world.answer_all();
        world.check_prefix(true);
        world.check_converged(&[true, false]);
    }

    #[test]
    fn across_lost_sessions_nothing_comes_twice_and_what_may_be_missing_is_listed(
        seed in any::<u64>(), limits in limits(), steps in vec(step_or_loss(), 0..100)
    ) {
        let mut world = World::new(seed, limits);
        for step in steps {
            world.take(step);
            world.pair.run();
            world.hear();
            world.check_order();
        }
        world.heal();
        world.answer_all();
        world.check_order();
        for number in &world.client.said {
            let heard = world.server.heard.iter().any(|(heard, _)| heard == number);
            let missing_rightly = world.client.gave_up(*number) || world.lost.contains(number);
            prop_assert!(heard || missing_rightly, "{number} is nowhere");
        }
        world.check_converged(&[true]);
    }
}
