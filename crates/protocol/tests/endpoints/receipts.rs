//! The confirmation of a notification comes once, and not before the server has handed it on.

use moorline_protocol::PeerEvent;

use crate::{
    pair::*,
    talk::{SECOND, json, texts},
};

#[test]
fn a_receipt_is_confirmed_once_after_the_server_has_handed_the_message_on() {
    let mut pair = Setup::default().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.bend = Box::new(|_, _, _| Vec::new());
    let receipt = pair.client.notify_confirmed(name("note"), json("1")).expect("room");
    pair.run();
    assert_eq!(pair.take_client_peer(), [], "it has not arrived");
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.reconnect();
    assert_eq!(texts(pair.take_server_peer()), ["1"]);
    assert_eq!(pair.take_client_peer(), [PeerEvent::Confirmed(receipt)]);
    pair.reconnect();
    pair.advance(SECOND);
    assert_eq!(pair.take_client_peer(), [], "once");
}

#[test]
fn a_receipt_whose_acknowledgement_was_lost_is_confirmed_by_the_next_welcome() {
    let mut pair = Setup::default().connect();
    pair.client_heard.clear();
    pair.server_heard.clear();
    pair.bend = Box::new(|direction, _, record| if direction == Down { Vec::new() } else { vec![record] });
    let receipt = pair.client.notify_confirmed(name("note"), json("1")).expect("room");
    pair.run();
    assert_eq!(texts(pair.take_server_peer()), ["1"]);
    assert_eq!(pair.take_client_peer(), []);
    pair.bend = Box::new(|_, _, record| vec![record]);
    pair.reconnect();
    assert_eq!(pair.take_client_peer(), [PeerEvent::Confirmed(receipt)]);
    assert_eq!(pair.take_server_peer(), [], "it is not sent again");
}

#[test]
fn a_receipt_that_waits_for_the_connection_is_confirmed_in_the_next_session() {
    let mut pair = Setup::default().connect();
    pair.cut();
    pair.run();
    let receipt = pair.client.notify_confirmed(name("note"), json("1")).expect("room");
    pair.restart();
    pair.client_heard.clear();
    pair.advance(30 * SECOND);
    assert_eq!(pair.resets()[0].unconfirmed, []);
    assert_eq!(pair.take_client_peer(), [PeerEvent::Confirmed(receipt)]);
}
