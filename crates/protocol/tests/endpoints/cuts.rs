//! Nothing is lost, doubled or reordered, wherever and however often a connection is cut.

use std::{cell::Cell, rc::Rc};

use moorline_protocol::{PeerEvent, server::ServerEvent};

use crate::{
    pair::*,
    talk::{ACK_AFTER, ask, ask_client, json, tell, tell_client, texts},
};

/// What both applications heard in the conversation below.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    client: Vec<String>,
    server: Vec<String>,
    resets: usize,
}

/// A pair whose applications answer every call, and whose connection is cut as its test wants.
struct Conversation {
    pair: Pair,
    /// The connection is to be cut; until then nothing passes any more.
    cut: Rc<Cell<bool>>,
    heard: Heard,
    cuts: usize,
}

impl Conversation {
    /// Lets everything happen, answers what is asked, and comes back after every cut.
    fn settle(&mut self) {
        loop {
            self.pair.run();
            if self.cut.take() {
                self.cuts += 1;
                assert!(self.cuts < 1_000, "no rest");
                self.pair.reconnect();
                continue;
            }
            let (client, server) = self.take();
            if client.is_empty() && server.is_empty() {
                return;
            }
            for event in &server {
                if let PeerEvent::Call { id, payload, .. } = event {
                    self.pair.server().answer(*id, Ok(payload.clone())).expect("small");
                }
            }
            for event in &client {
                if let PeerEvent::Call { id, payload, .. } = event {
                    self.pair.client.answer(self.pair.now, *id, Ok(payload.clone())).expect("small");
                }
            }
            self.heard.client.extend(texts(client));
            self.heard.server.extend(texts(server));
        }
    }

    fn take(&mut self) -> (Vec<PeerEvent>, Vec<PeerEvent>) {
        self.heard.resets += self.pair.resets().len();
        (self.pair.take_client_peer(), self.pair.take_server_peer())
    }

    fn run(mut self) -> (Heard, usize) {
        for round in 0..5 {
            let text = |what: &str| format!("{what}{round}");
            tell(&mut self.pair, &text("a"));
            ask(&mut self.pair, &text("b"));
            tell(&mut self.pair, &text("c"));
            tell_client(&mut self.pair, &text("d"));
            ask_client(&mut self.pair, &text("e"));
            tell_client(&mut self.pair, &text("f"));
            self.settle();
            // One behind the other, so that there are more places to cut.
            tell(&mut self.pair, &text("g"));
            self.settle();
            tell_client(&mut self.pair, &text("h"));
            self.settle();
            ask(&mut self.pair, &text("i"));
            self.settle();
            ask_client(&mut self.pair, &text("j"));
            self.settle();
            self.pair.client.notify_confirmed(name("note"), json(&text("k"))).expect("room");
            self.settle();
            // What is owed is acknowledged.
            self.pair.advance(ACK_AFTER);
            self.settle();
        }
        (self.heard, self.cuts)
    }
}

/// The conversation, cut after every record of a direction that `is_cut` says so of (they are counted from 0 over all
/// connections), with that record delivered or not.
fn converse(
    setup: Setup,
    direction: Direction,
    delivered: bool,
    is_cut: impl Fn(usize) -> bool + 'static,
) -> (Heard, usize, usize) {
    let mut pair = setup.connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    let cut = Rc::new(Cell::new(false));
    let count = Rc::new(Cell::new(0));
    let (cutting, counting) = (cut.clone(), count.clone());
    pair.bend = Box::new(move |sent, _, record| {
        if cutting.get() {
            return Vec::new();
        }
        if sent == direction {
            let number = counting.replace(counting.get() + 1);
            cutting.set(is_cut(number));
            if cutting.get() && !delivered {
                return Vec::new();
            }
        }
        vec![record]
    });
    let (heard, cuts) = Conversation { pair, cut, heard: Heard::default(), cuts: 0 }.run();
    (heard, cuts, count.get())
}

/// The main lane in its order, and the rest, which may come between, by itself.
fn lanes(heard: &[String]) -> (Vec<&String>, Vec<&String>) {
    let (mut settled, main): (Vec<_>, Vec<_>) = heard.iter().partition(|text| text.contains('=') || text.contains(' '));
    settled.sort();
    (main, settled)
}

fn assert_same(heard: &Heard, expected: &Heard, case: &str) {
    assert_eq!(lanes(&heard.client), lanes(&expected.client), "{case}");
    assert_eq!(lanes(&heard.server), lanes(&expected.server), "{case}");
    assert_eq!(heard.resets, 0, "{case}");
}

#[test]
fn nothing_is_lost_doubled_or_reordered_wherever_the_connection_is_cut() {
    let (expected, _, _) = converse(Setup::plain(), Up, true, |_| false);
    assert_eq!(expected.server.iter().filter(|text| text.ends_with('?')).count(), 10);
    assert_eq!(expected.client.iter().filter(|text| text.contains('=')).count(), 10);
    assert_eq!(expected.client.iter().filter(|text| text.starts_with("confirmed")).count(), 5);
    for direction in [Up, Down] {
        let (_, _, records) = converse(Setup::plain(), direction, true, |_| false);
        assert!(records > 20, "only {records} places to cut");
        for place in 0..records {
            for delivered in [true, false] {
                let (heard, cuts, _) = converse(Setup::plain(), direction, delivered, move |number| number == place);
                assert_eq!(cuts, 1);
                assert_same(&heard, &expected, &format!("{direction:?} {place} delivered {delivered}"));
            }
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_however_often_the_connection_is_cut() {
    let (expected, _, _) = converse(Setup::default(), Up, true, |_| false);
    for direction in [Up, Down] {
        for every in 4..12 {
            for delivered in [true, false] {
                let (heard, cuts, _) =
                    converse(Setup::default(), direction, delivered, move |number| (number + 1) % every == 0);
                assert!(cuts > 1);
                assert_same(&heard, &expected, &format!("{direction:?} every {every} delivered {delivered}"));
            }
        }
    }
}

#[test]
fn a_welcome_that_is_lost_loses_nothing() {
    let mut pair = Setup::default().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.cut();
    pair.run();
    tell(&mut pair, "up");
    tell_client(&mut pair, "down");
    // HS2 arrives, Welcome and what is with it do not; the server hears of it late.
    pair.bend = Box::new(|direction, number, record| match (direction, number) {
        (Down, 1..) => Vec::new(),
        _ => vec![record],
    });
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.server_heard.contains(&ServerEvent::Resumed));
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.half_cut(1006);
    pair.run();
    pair.client.retry_now(pair.now);
    pair.run();
    assert!(pair.is_connected());
    assert_eq!(pair.resets(), []);
    assert_eq!(texts(pair.take_server_peer()), ["up"]);
    assert_eq!(texts(pair.take_client_peer()), ["down"]);
    assert_eq!(pair.sessions(), (1, 0));
}
