//! A lost session is one reset: it tells what is not known, and the rest goes on in the next session.

use moorline_protocol::{
    PeerEvent,
    frame::{CallId, ResetReason},
    session::{CallOptions, Outcome, Unconfirmed},
    subject::{Subject, Tenant},
};

use crate::{
    foreign::Foreign,
    pair::*,
    talk::{ACK_AFTER, SECOND, ask, ask_client, json, keyed, kinds, tell, tell_client, texts},
};

#[test]
fn after_a_restart_exactly_what_was_sent_and_not_confirmed_is_listed() {
    let mut pair = Setup::default().connect();
    tell(&mut pair, "confirmed");
    pair.run();
    pair.advance(ACK_AFTER);
    let answered = ask(&mut pair, "answered");
    pair.run();
    pair.server().answer(answered, Ok(json("1"))).expect("small");
    pair.run();
    let confirmed = ask(&mut pair, "confirmed and not answered");
    pair.run();
    pair.advance(ACK_AFTER);
    tell(&mut pair, "sent");
    let receipt = pair.client.notify_confirmed(name("receipt"), json("sent")).expect("room");
    let called = ask(&mut pair, "sent");
    pair.bend = Box::new(|_, _, _| Vec::new());
    pair.run();
    pair.congest(Up, true);
    tell(&mut pair, "never transmitted");
    let waiting = ask(&mut pair, "never transmitted");
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.restart();
    pair.advance(30 * SECOND);
    let resets = pair.resets();
    assert_eq!(resets.len(), 1);
    assert_eq!(resets[0].reason, ResetReason::Restart);
    let of = |name_of: &str, call, receipt| Unconfirmed { name: name(name_of), call, receipt };
    assert_eq!(
        resets[0].unconfirmed,
        [of("note", None, None), of("receipt", None, Some(receipt)), of("ask", Some(called), None)]
    );
    assert_eq!(pair.settled(), [(confirmed, Outcome::Unknown), (called, Outcome::Unknown)]);
    assert_eq!(texts(pair.take_server_peer()), ["never transmitted", "never transmitted?"]);
    pair.server().answer(CallId(waiting.0), Ok(json("2"))).expect("small");
    pair.run();
    assert_eq!(pair.settled().last(), Some(&(waiting, Outcome::Reply(json("2")))));
}

#[test]
fn after_a_reset_what_was_never_transmitted_and_what_has_a_key_goes_out_once_in_its_order() {
    let mut pair = Setup::default().connect();
    let again = keyed(&mut pair, "again");
    let unknown = ask(&mut pair, "unknown");
    pair.run();
    pair.congest(Up, true);
    tell(&mut pair, "first");
    let carried = ask(&mut pair, "second");
    tell(&mut pair, "third");
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.restart();
    pair.advance(30 * SECOND);
    assert!(pair.is_connected());
    assert_eq!(pair.settled(), [(unknown, Outcome::Unknown)]);
    assert_eq!(texts(pair.take_server_peer()), ["again?", "first", "second?", "third"]);
    assert_eq!(pair.resets()[0].unconfirmed.iter().map(|lost| lost.call).collect::<Vec<_>>(), [Some(unknown)]);

    pair.client_heard.clear();
    pair.reconnect();
    assert_eq!(texts(pair.take_server_peer()), [""; 0], "once");
    for id in [again, carried] {
        pair.server().answer(id, Ok(json("1"))).expect("small");
    }
    pair.advance(ACK_AFTER);
    let mut settled = pair.settled();
    settled.sort_by_key(|(id, _)| *id);
    assert_eq!(settled, [(again, Outcome::Reply(json("1"))), (carried, Outcome::Reply(json("1")))]);
}

#[test]
fn giving_up_a_call_that_waits_to_go_out_again_takes_it_out_and_says_nothing() {
    for gives_up in [true, false] {
        let mut ours = Foreign::client(Setup::plain());
        let mut options = CallOptions::default();
        options.key = Some(name("k"));
        let id = ours.call(options);
        // The session is lost before there is another connection that the call could go out on.
        ours.say_seq(1);
        assert_eq!(ours.resets.len(), 1);
        ours.frames();
        if gives_up {
            ours.cancel(id);
        }
        ours.cut();
        ours.welcome(None);
        let kinds: Vec<_> = ours.frames().into_iter().map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, if gives_up { vec![] } else { vec![0x10] }, "neither Call nor Cancel");
        assert_eq!(ours.heard(), []);
    }
}

/// A server knows a key again from the subject that it came from: who was somebody else after a reset had its call done
/// twice, the second time as that one.
#[test]
fn regression_what_has_a_key_does_not_go_out_again_as_somebody_else() {
    let subject = |name: &str| Some(Subject::new(Tenant::default(), name).expect("a name").mark());
    for (next, goes_again) in [(subject("ann"), true), (subject("bob"), false), (None, false)] {
        let mut pair = Pair::new(Setup::default());
        pair.granted.subject = subject("ann");
        pair.client.start(pair.now);
        pair.run();
        let call = keyed(&mut pair, "k");
        pair.run();
        pair.congest(Up, true);
        let waits = keyed(&mut pair, "never transmitted");
        pair.client_heard.clear();
        pair.server_heard.clear();
        pair.granted.subject = next;
        pair.restart();
        pair.advance(30 * SECOND);
        let (expected, unconfirmed, unknown) = match goes_again {
            true => (vec!["k?", "never transmitted?"], vec![], vec![]),
            false => (vec!["never transmitted?"], vec![Some(call)], vec![(call, Outcome::Unknown)]),
        };
        assert_eq!(texts(pair.take_server_peer()), expected);
        assert_eq!(pair.resets()[0].unconfirmed.iter().map(|lost| lost.call).collect::<Vec<_>>(), unconfirmed);
        assert_eq!(pair.settled(), unknown);
        assert_ne!(call, waits);
    }
}

#[test]
fn what_waits_to_go_out_again_is_unknown_once_the_client_is_somebody_else() {
    for (next, kinds) in [([1; 8], vec![0x10]), ([2; 8], vec![])] {
        let mut ours = Foreign::client(Setup::plain());
        ours.subject = Some([1; 8]);
        ours.cut();
        ours.welcome(None);
        ours.frames();
        let mut options = CallOptions::default();
        options.key = Some(name("k"));
        let id = ours.call(options);
        ours.say_seq(1);
        ours.frames();
        ours.heard();
        ours.subject = Some(next);
        ours.cut();
        ours.welcome(None);
        assert_eq!(ours.frames().into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>(), kinds);
        let settled = PeerEvent::Settled { id, outcome: Outcome::Unknown };
        assert_eq!(ours.heard(), if kinds.is_empty() { vec![settled] } else { vec![] });
    }
}

#[test]
fn a_call_with_a_key_carries_it_both_times() {
    let mut pair = Setup::default().connect();
    pair.server_heard.clear();
    keyed(&mut pair, "k");
    pair.run();
    pair.restart();
    pair.advance(30 * SECOND);
    let keys = pair.take_server_peer().into_iter().filter_map(|event| match event {
        PeerEvent::Call { key, .. } => key,
        _ => None,
    });
    assert_eq!(keys.collect::<Vec<_>>(), [name("k"), name("k")]);
}

#[test]
fn a_reset_comes_once_and_before_anything_of_the_next_session() {
    let mut pair = Setup::default().connect();
    ask(&mut pair, "1");
    ask_client(&mut pair, "2");
    pair.run();
    pair.client_heard.clear();
    pair.restart();
    pair.run();
    assert_eq!(kinds(&pair.client_heard), ["connecting"], "nothing is known yet");
    pair.client.retry_now(pair.now);
    pair.run();
    tell_client(&mut pair, "3");
    pair.run();
    assert_eq!(
        kinds(&pair.client_heard),
        ["connecting", "connecting", "reset", "settled", "cancelled", "session", "connected", "message"]
    );
    pair.client_heard.clear();
    pair.reconnect();
    assert_eq!(pair.resets(), []);
}

#[test]
fn a_server_that_takes_a_new_session_without_a_reason_is_a_reset_all_the_same() {
    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.welcome_with([99; 16], &[]);
    assert_eq!(ours.resets.len(), 1);
    assert_eq!((ours.resets[0].reason, ours.resets[0].unconfirmed.len()), (ResetReason::Unknown, 1));
}
