//! Claims about any sequence of inputs. What proptest prints on a failure is the seed and the smallest sequence.

use std::{collections::BTreeMap, time::Duration};

use moorline_protocol::{
    PeerEvent,
    client::*,
    code::Code,
    discovery::Discovery,
    frame::{CallId, Failure},
    payload::Payload,
    server::*,
    session::{Broadcast, CallOptions},
    time::UnixMillis,
};
use proptest::{collection::vec, prelude::*};

use crate::pair::*;

/// One thing that happens to a pair.
#[derive(Clone, Debug)]
enum Step {
    Call { timeout: Option<u16> },
    CallClient,
    Cancel(u8),
    Answer { call: u8, fails: bool },
    AnswerServer(u8),
    Notify { volatile: bool, size: u16 },
    Broadcast { volatile: bool },
    Congest { up: bool, congested: bool },
    Cut,
    CloseSocket(u16),
    Reachable(bool),
    Admission(u8),
    Discovery(u8),
    Garbage { up: bool, bytes: Vec<u8> },
    Replay { up: bool, which: u8 },
    Swallow(bool),
    Stale(u8),
    ServerCloses(u16),
    RetryNow,
    Ping,
    Wake,
    Pass(u16),
    Sleep,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let garbage = prop_oneof![
        vec(any::<u8>(), 0..64),
        (prop_oneof![Just(0x10u8), Just(0x11), Just(0x02)], vec(any::<u8>(), 0..64)).prop_map(|(kind, rest)| [
            vec![kind],
            rest
        ]
        .concat()),
    ];
    prop_oneof![
        6 => proptest::option::of(0..3_000u16).prop_map(|timeout| Step::Call { timeout }),
        2 => Just(Step::CallClient),
        2 => any::<u8>().prop_map(Step::Cancel),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(call, fails)| Step::Answer { call, fails }),
        2 => any::<u8>().prop_map(Step::AnswerServer),
        2 => (any::<bool>(), any::<u16>()).prop_map(|(volatile, size)| Step::Notify { volatile, size }),
        1 => any::<bool>().prop_map(|volatile| Step::Broadcast { volatile }),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(up, congested)| Step::Congest { up, congested }),
        2 => Just(Step::Cut),
        1 => any::<u16>().prop_map(Step::CloseSocket),
        1 => any::<bool>().prop_map(Step::Reachable),
        1 => any::<u8>().prop_map(Step::Admission),
        1 => any::<u8>().prop_map(Step::Discovery),
        1 => (any::<bool>(), garbage).prop_map(|(up, bytes)| Step::Garbage { up, bytes }),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(up, which)| Step::Replay { up, which }),
        1 => any::<bool>().prop_map(Step::Swallow),
        1 => any::<u8>().prop_map(Step::Stale),
        1 => (3_999..4_510u16).prop_map(Step::ServerCloses),
        1 => Just(Step::RetryNow),
        1 => Just(Step::Ping),
        2 => Just(Step::Wake),
        6 => (0..5_000u16).prop_map(Step::Pass),
        1 => Just(Step::Sleep),
        1 => Just(Step::Close),
    ]
}

/// The client's calls: how many settlements each has had, and whether it was cancelled.
#[derive(Default)]
struct Ledger {
    settled: BTreeMap<CallId, usize>,
    cancelled: Vec<CallId>,
    /// Calls that each application was handed and may answer.
    server_handed: Vec<CallId>,
    client_handed: Vec<CallId>,
}

impl Ledger {
    fn hear(&mut self, pair: &mut Pair) {
        for event in std::mem::take(&mut pair.client_heard) {
            match event {
                ClientEvent::Peer(PeerEvent::Settled { id, .. }) => {
                    *self.settled.get_mut(&id).expect("only calls that were made settle") += 1;
                }
                ClientEvent::Peer(PeerEvent::Call { id, .. }) => self.client_handed.push(id),
                _ => {}
            }
        }
        for event in std::mem::take(&mut pair.server_heard) {
            if let ServerEvent::Peer(PeerEvent::Call { id, .. }) = event {
                self.server_handed.push(id);
            }
        }
    }

    fn check(&self) {
        for (id, times) in &self.settled {
            let most = usize::from(!self.cancelled.contains(id));
            assert!(*times <= most, "{id:?} settled {times} times, of at most {most}");
        }
    }

    fn check_all_settled(&self) {
        for (id, times) in &self.settled {
            assert!(*times == 1 || self.cancelled.contains(id), "{id:?} settled {times} times");
        }
    }
}

fn pick(from: &[CallId], which: u8) -> CallId {
    from.get(usize::from(which) % from.len().max(1)).copied().unwrap_or(CallId(u64::from(which)))
}

fn take(pair: &mut Pair, ledger: &mut Ledger, step: Step) {
    let now = pair.now;
    match step {
        Step::Call { timeout } => {
            let mut options = CallOptions::default();
            options.timeout = timeout.map(|timeout| Duration::from_millis(timeout.into()));
            if let Ok(id) = pair.client.call(now, name("echo"), Payload::json("1"), options) {
                assert_eq!(ledger.settled.insert(id, 0), None, "{id:?} was given twice");
            }
        }
        Step::CallClient => {
            if let Some(server) = pair.newest() {
                let _ = server.call(now, name("ask"), Payload::json("1"), CallOptions::within(Duration::from_secs(1)));
            }
        }
        Step::Cancel(which) => {
            let open: Vec<_> = ledger.settled.iter().filter(|(_, times)| **times == 0).map(|(id, _)| *id).collect();
            if !open.is_empty() {
                let id = pick(&open, which);
                pair.client.cancel(id);
                ledger.cancelled.push(id);
            }
        }
        Step::Answer { call, fails } => {
            let id = pick(&ledger.server_handed, call);
            let result = if fails { Err(Failure::of(Code::INTERNAL)) } else { Ok(Payload::json("1")) };
            if let Some(server) = pair.newest() {
                let _ = server.answer(id, result);
            }
        }
        Step::AnswerServer(which) => {
            let _ = pair.client.answer(pair.now, pick(&ledger.client_handed, which), Ok(Payload::json("1")));
        }
        Step::Notify { volatile, size } => {
            let _ = pair.client.notify(name("n"), Payload::bytes(vec![0; size.into()]), volatile);
        }
        Step::Broadcast { volatile } => {
            let broadcast = Broadcast::new(name("n"), Payload::json("1"), volatile).expect("small");
            if let Some(server) = pair.newest() {
                let _ = server.send(&broadcast);
            }
        }
        Step::Congest { up, congested } => pair.congest(if up { Up } else { Down }, congested),
        Step::Cut => pair.cut(),
        Step::CloseSocket(number) => pair.close_socket(number),
        Step::Reachable(reachable) => pair.reachable = reachable,
        Step::Admission(which) => {
            pair.admission = match which {
                0..128 => Admission::Admit,
                128..192 => Admission::Silence,
                192..250 => Admission::Reject(Rejection::of(Code::SERVER_FULL)),
                250.. => Admission::Reject(Rejection::of(Code::UNAUTHORIZED)),
            };
        }
        Step::Discovery(which) => {
            pair.discovery = match which % 4 {
                0 => Discovery::Unreachable,
                1 => Discovery::NotMoorline,
                2 => Discovery::refusal("origin_refused"),
                _ => Discovery::document([server_key().to_string().as_str()], ["aes-256-gcm"], "on"),
            };
            pair.deaf = which > 250;
        }
        Step::Garbage { up, bytes } => pair.inject(if up { Up } else { Down }, bytes),
        Step::Replay { up, which } => {
            let direction = if up { Up } else { Down };
            let sent = pair.sent(direction);
            if let Some(record) = sent.get(usize::from(which) % sent.len().max(1)) {
                pair.inject(direction, record.clone());
            }
        }
        Step::Swallow(true) => pair.bend = Box::new(|_, _, _| Vec::new()),
        Step::Swallow(false) => pair.bend = Box::new(|_, _, record| vec![record]),
        Step::Stale(socket) => {
            // A number that may be the newest socket's, an older one's, a question's or nobody's.
            for input in [SocketInput::Opened, SocketInput::Text, SocketInput::Closed(1006)] {
                let socket = SocketId(u64::from(socket));
                pair.client.handle_input(now, ClientInput::Socket(socket, input));
            }
        }
        Step::ServerCloses(code) => {
            if let Some(server) = pair.newest() {
                server.close(Code(code), "closed", Duration::from_millis(10));
                server.admit(now, UnixMillis(0), None, Default::default());
            }
        }
        Step::RetryNow => pair.client.retry_now(now),
        Step::Ping => pair.client.ping(now),
        Step::Wake => pair.wake(),
        Step::Pass(millis) => pair.advance(Duration::from_millis(millis.into())),
        Step::Sleep => {
            pair.now = pair.now + Duration::from_secs(3_600);
            pair.wake();
        }
        Step::Close => pair.client.close(),
    }
}

fn live(setup: Setup, steps: Vec<Step>) {
    let mut pair = Pair::new(setup);
    let mut ledger = Ledger::default();
    pair.client.start(pair.now);
    for step in steps {
        take(&mut pair, &mut ledger, step);
        // The harness fails when a side finds no rest, in `run` as in `advance`.
        pair.run();
        ledger.hear(&mut pair);
        ledger.check();
    }
    pair.client.close();
    pair.run();
    ledger.hear(&mut pair);
    ledger.check_all_settled();
    assert_eq!(pair.client.waiting_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_settle_exactly_once_and_nothing_panics_whatever_happens_to_a_sealed_pair(
        seed in any::<u64>(), steps in vec(step(), 0..80)
    ) {
        let mut setup = Setup { seed, ..Setup::default() };
        setup.client.limits.max_outgoing_frames = 8;
        setup.server.limits.max_calls_in_flight = 4;
        live(setup, steps);
    }

    #[test]
    fn calls_settle_exactly_once_and_nothing_panics_whatever_happens_to_a_plain_pair(
        seed in any::<u64>(), steps in vec(step(), 0..80)
    ) {
        live(Setup { seed, ..Setup::plain() }, steps);
    }

    #[test]
    fn calls_settle_exactly_once_when_the_key_is_discovered(seed in any::<u64>(), steps in vec(step(), 0..40)) {
        let mut setup = Setup { seed, ..Setup::default() };
        setup.client.server_keys.clear();
        live(setup, steps);
    }

    #[test]
    fn no_frames_of_a_connected_peer_panic_either_side(records in vec(vec(any::<u8>(), 0..200), 1..20)) {
        let mut pair = Setup::plain().connect();
        for record in records {
            for direction in [Up, Down] {
                pair.inject(direction, [&[0x11], &record[..]].concat());
            }
            pair.run();
            pair.client.retry_now(pair.now);
            pair.run();
        }
    }
}
