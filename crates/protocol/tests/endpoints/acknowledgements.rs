//! When what has come is acknowledged, and how far.

use moorline_protocol::{code::Code, frame::ResetReason};

use crate::{
    foreign::{Foreign, frame, note},
    pair::*,
    talk::{ACK_AFTER, MILLISECOND, SECOND},
};

#[test]
fn an_acknowledgement_waits_for_64_frames() {
    for mut ours in Foreign::both() {
        // The second time, too: they are counted from the last acknowledgement.
        for number in [64, 128] {
            for _ in 0..63 {
                ours.say(&note("1"));
            }
            assert_eq!(ours.acks(), []);
            ours.say(&note("1"));
            assert_eq!(ours.acks(), [number]);
        }
        ours.advance(SECOND);
        assert_eq!(ours.acks(), [], "it was said");
    }
}

#[test]
fn an_acknowledgement_waits_for_64_kib() {
    for mut ours in Foreign::both() {
        let body = [b"\x01n\x00".as_slice(), &[0; 16 * 1024 - 3]].concat();
        for number in [4, 8] {
            for _ in 0..3 {
                ours.say(&frame(0x14, 0, &body));
            }
            assert_eq!(ours.acks(), []);
            ours.say(&frame(0x14, 0, &body));
            assert_eq!(ours.acks(), [number]);
        }
    }
}

#[test]
fn an_acknowledgement_waits_for_half_a_second_from_the_first_frame() {
    for mut ours in Foreign::both() {
        ours.say(&note("1"));
        ours.advance(ACK_AFTER - MILLISECOND);
        ours.say(&note("2"));
        assert_eq!(ours.acks(), []);
        ours.advance(MILLISECOND);
        assert_eq!(ours.acks(), [2]);
    }
}

#[test]
fn an_acknowledgement_that_is_asked_for_comes_at_once_and_after_the_message_is_handed_on() {
    for mut ours in Foreign::both() {
        ours.order.clear();
        ours.say(&frame(0x14, 1, b"\x01n\x011"));
        assert_eq!(ours.acks(), [1]);
        assert_eq!(ours.order, [0, 1], "the event, then the record");
    }
}

#[test]
fn an_acknowledgement_travels_with_what_is_sent_anyway() {
    for mut ours in Foreign::both() {
        ours.say(&note("1"));
        ours.order.clear();
        ours.notify("2");
        assert_eq!(ours.acks(), [1]);
        assert_eq!(ours.order, [2]);
        ours.advance(SECOND);
        assert_eq!(ours.acks(), []);
    }
}

#[test]
fn nothing_is_acknowledged_where_nothing_reliable_came() {
    for mut ours in Foreign::both() {
        ours.say(&frame(0x15, 0, b"\x01n\x011"));
        ours.say(&frame(0x07, 0, &[9]));
        ours.notify("1");
        ours.say_ack(1);
        ours.advance(10 * SECOND);
        assert_eq!(ours.acks(), []);
    }
}

#[test]
fn what_is_not_handed_on_is_not_acknowledged() {
    for mut ours in Foreign::both() {
        // The second is broken, and the third comes too late.
        ours.say(&[note("1"), frame(0x14, 1, b"\x01n\x09"), note("3")].concat());
        assert_eq!(ours.notes(), ["1"]);
        assert_eq!(ours.closed, Some(Code::PROTOCOL_VIOLATION));
        ours.advance(SECOND);
        assert_eq!(ours.acks(), []);
    }
}

#[test]
fn a_client_says_at_a_resumption_how_much_it_has_handed_on() {
    let mut ours = Foreign::client(Setup::plain());
    ours.say(&[note("1"), note("2")].concat());
    ours.cut();
    assert_eq!(ours.told, Some(2));
    ours.reset(ResetReason::Expired);
    ours.say(&note("1"));
    ours.cut();
    assert_eq!(ours.told, Some(1), "a new session counts anew");
}
