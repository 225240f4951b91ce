//! The numbers of a session: what comes twice is dropped, and a number that does not fit is a violation.

use moorline_protocol::{code::Code, error::Violation, frame::ResetReason, server::Ended};

use crate::{
    foreign::{Foreign, note, varint},
    pair::*,
    talk::ACK_AFTER,
};

#[test]
fn what_is_sent_again_though_it_arrived_is_dropped_and_acknowledged_again() {
    for mut ours in Foreign::both() {
        for text in ["1", "2", "3"] {
            ours.say(&note(text));
        }
        assert_eq!(ours.notes(), ["1", "2", "3"]);
        ours.resume(0);
        assert_eq!(ours.told, Some(3));
        ours.say_seq(1);
        ours.frames();
        for text in ["1", "2", "3", "4"] {
            ours.say(&note(text));
        }
        assert_eq!(ours.notes(), ["4"]);
        ours.advance(ACK_AFTER);
        assert_eq!(ours.acks(), [4]);
        ours.resume(0);
        ours.say_seq(3);
        ours.frames();
        ours.say(&note("3"));
        assert_eq!(ours.notes(), [""; 0]);
        ours.advance(ACK_AFTER);
        assert_eq!(ours.acks(), [3], "as far as this connection has carried it");
    }
}

#[test]
fn each_sides_first_frame_on_a_resumed_connection_is_its_next_number() {
    for mut ours in Foreign::both() {
        for (text, next) in [("1", 1), ("2", 1), ("3", 1)] {
            ours.notify(text);
            ours.resume(0);
            let frames: Vec<_> = ours.frames().into_iter().filter(|(kind, ..)| *kind != 0x01).collect();
            assert_eq!(frames[0], (0x05, 0, varint(next)));
        }
        ours.resume(2);
        let frames: Vec<_> = ours.frames().into_iter().filter(|(kind, ..)| *kind != 0x01).collect();
        assert_eq!(frames[0], (0x05, 0, varint(3)));
        assert_eq!(frames[1].0, 0x14, "what was not confirmed follows");
        assert_eq!(frames.len(), 2);
    }
}

/// Ours refuses what the test said, and the session is over on both of our sides.
fn assert_spoilt(mut ours: Foreign, case: &str) {
    assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION), "{case}");
    assert_eq!(ours.notes(), [""; 0], "{case}");
    if ours.is_server() {
        assert!(
            matches!(ours.ended, Some((Ended::Violation(Violation::WrongSequence), _))),
            "{case}: {:?}",
            ours.ended
        );
    } else {
        assert_eq!(ours.resets.len(), 1, "{case}");
        assert_eq!(ours.resets[0].reason, ResetReason::Unknown, "{case}");
    }
}

#[test]
fn a_number_that_does_not_fit_is_a_violation() {
    type Say = fn(&mut Foreign);
    let cases: [(&str, Say); 5] = [
        ("none", |ours| ours.say(&note("x"))),
        ("two", |ours| {
            ours.say_seq(2);
            ours.say_seq(2);
        }),
        ("a gap", |ours| ours.say_seq(3)),
        ("zero", |ours| ours.say_seq(0)),
        ("the largest", |ours| ours.say_seq(u64::MAX)),
    ];
    for (case, say) in cases {
        for mut ours in Foreign::both() {
            ours.say(&note("1"));
            ours.heard();
            ours.resume(0);
            assert_eq!(ours.closed, None);
            say(&mut ours);
            assert_spoilt(ours, case);
        }
    }
    for mut ours in Foreign::both() {
        ours.say_seq(1);
        assert_spoilt(ours, "a number in a new session");
    }
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
    for number in [3, 4, u64::MAX] {
        for mut ours in Foreign::both() {
            ours.notify("1");
            ours.notify("2");
            ours.say_ack(number);
            assert_spoilt(ours, "never sent");
        }
    }
    for mut ours in Foreign::both() {
        ours.notify("1");
        ours.notify("2");
        ours.say_ack(2);
        assert_eq!(ours.closed, None);
        ours.say_ack(1);
        assert_spoilt(ours, "taken back");
    }
}

#[test]
fn an_acknowledgement_of_what_this_connection_has_not_carried_is_a_violation() {
    for mut ours in Foreign::both() {
        ours.notify("1");
        ours.resume(0);
        ours.say_seq(1);
        ours.say_ack(1);
        assert_eq!(ours.closed, None, "it was sent again");
        ours.congest(true);
        ours.notify("2");
        ours.say_ack(2);
        assert_spoilt(ours, "it waits for the socket");
    }
    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.congest(true);
    ours.welcome(Some(0));
    ours.say_seq(1);
    assert_eq!(ours.closed, None);
    ours.say_ack(1);
    assert_spoilt(ours, "an earlier connection carried it, and the other side has just said that it did not come");
}

#[test]
fn a_resumption_nobody_asked_for_is_a_violation() {
    let mut ours = Foreign::connecting(Setup::plain());
    ours.welcome(Some(0));
    assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION));
    assert_eq!(ours.resets, [], "there is no session to lose");

    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.welcome_with([99; 16], &[7, 1, 0]);
    assert_spoilt(ours, "another session than the one that was asked for");
}

#[test]
fn a_welcome_that_has_received_what_was_never_sent_is_a_violation() {
    let mut ours = Foreign::client(Setup::plain());
    ours.notify("1");
    ours.cut();
    ours.welcome(Some(2));
    assert_spoilt(ours, "more than was sent");
}
