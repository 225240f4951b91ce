use super::*;
use crate::{
    client::{ClientConfig, ClientEndpoint, ClientInput, ClientOutput, SocketId, SocketInput},
    frame::Epoch,
    limits::Limits,
};

/// What a client in plain mode writes on its socket.
fn written(client: &mut ClientEndpoint) -> Vec<Bytes> {
    let mut records = Vec::new();
    loop {
        match client.poll_output() {
            ClientOutput::Transmit(_, record) => records.push(record),
            ClientOutput::Wait(_) => return records,
            _ => {}
        }
    }
}

/// A client in plain mode, and a server that is to decide about it.
fn arrived(now: Timestamp) -> (ClientEndpoint, ServerEndpoint) {
    let mut config = ClientConfig::new(DialUrl::parse("ws://localhost/").expect("a URL"));
    config.suite = None;
    let mut client = ClientEndpoint::new(config, [1; 32]);
    client.start(now);
    client.handle_input(now, ClientInput::Socket(SocketId(1), SocketInput::Opened));
    let mut server = ServerEndpoint::new(Arc::new(ServerConfig::new(Encryption::Off, Epoch([2; 8]))), [3; 32], now);
    written(&mut client).into_iter().for_each(|hello| server.handle_input(now, ServerInput::Record(hello)));
    assert!(matches!(server.poll_output(), ServerOutput::Event(ServerEvent::Arrived(_))));
    (client, server)
}

/// The simulation found it: a client that was closed while the server's application made up its mind said good-bye,
/// as it should, and was taken for one that breaks the protocol.
#[test]
fn regression_a_client_may_say_good_bye_before_it_is_let_in() {
    let now = Timestamp::from_millis(0);
    let (mut client, mut server) = arrived(now);
    client.close();
    written(&mut client).into_iter().for_each(|bye| server.handle_input(now, ServerInput::Record(bye)));
    assert_eq!(server.poll_output(), ServerOutput::Event(ServerEvent::Ended(Ended::Bye, 0)));
    assert_eq!(server.poll_output(), ServerOutput::CloseSocket(Code::NORMAL));
}

#[test]
fn a_parked_session_keeps_nothing_that_belonged_to_its_connection() {
    let now = Timestamp::from_millis(0);
    let (_, mut server) = arrived(now);
    server.handle_input(now, ServerInput::Congested(true));
    server.admit(now, UnixMillis(0), None, Admission::default());
    let volatile = Broadcast::new(Name::new("n").expect("a name"), Payload::json("1"), true).expect("small");
    assert_eq!(server.send(&volatile), Ok(Sent::Queued));
    assert!(server.session.has_output() && server.session.waiting_bytes() > 0);
    // It may be parked for two minutes, and Welcome and what is volatile are for nobody any more.
    server.handle_input(now, ServerInput::SocketClosed);
    assert!(server.is_parked());
    assert!(!server.session.has_output() && server.session.waiting_bytes() == 0);
}

/// What is answered to Open had no bound against a client that opens and never reads.
#[test]
fn regression_who_opens_channels_and_reads_nothing_is_ended() {
    let now = Timestamp::from_millis(0);
    let (_, mut server) = arrived(now);
    server.admit(now, UnixMillis(0), None, Admission::default());
    while !matches!(server.poll_output(), ServerOutput::Wait(_)) {}
    server.handle_input(now, ServerInput::Congested(true));
    let most = (1..20_000).find(|handle| {
        let open = frame::Open {
            handle: frame::Handle(*handle),
            kind: crate::channel::Kind::Topic,
            name: Name::new("n").expect("a name"),
            quiet: false,
            members: false,
            since: None,
            history: 0,
            past: crate::channel::Offset(0),
            data: None,
            instead: None,
        };
        let record = [&[kind::PLAIN], &ClientFrame::Open(open).encode()[..]].concat();
        server.handle_input(now, ServerInput::Record(record.into()));
        server.is_closed()
    });
    let limits = Limits::default();
    assert_eq!(most, Some((limits.max_channels + crate::limits::MAX_UPDATES + 2) as u64));
}

/// A client holds a channel again on each connection, together with opening it; or before it was told anything of it. Either
/// way nothing is read for it, and it is told of members.
#[test]
fn a_channel_that_is_held_before_it_is_told_is_told_of_its_members_alone() {
    use crate::{channel::Beginning, client::Follow};
    for is_held_at_once in [true, false] {
        let now = Timestamp::from_millis(0);
        let (mut client, mut server) = arrived(now);
        let follow = Follow {
            kind: crate::channel::Kind::Topic,
            name: Name::new("n").expect("a name"),
            quiet: false,
            history: 5,
            since: None,
            past: crate::channel::Offset(0),
            members: true,
            data: None,
            instead: None,
        };
        let subscription = client.follow(follow).expect("it is open");
        if is_held_at_once {
            client.hold(subscription);
        }
        server.admit(now, UnixMillis(0), None, Admission::default());
        let mut wishes = Vec::new();
        let mut exchange = |client: &mut ClientEndpoint, server: &mut ServerEndpoint| {
            for _ in 0..10 {
                for record in written(client) {
                    server.handle_input(now, ServerInput::Record(record));
                }
                loop {
                    match server.poll_output() {
                        ServerOutput::Transmit(record) => {
                            client.handle_input(now, ClientInput::Socket(SocketId(1), SocketInput::Record(record)));
                        }
                        ServerOutput::Event(ServerEvent::Channel(wish)) => match *wish {
                            ChannelWish::Open(open) => server.attach(open.handle, Beginning::Newest(5), true),
                            ChannelWish::Read(..) => wishes.push("read"),
                            ChannelWish::Members(..) => wishes.push("members"),
                            ChannelWish::Closed(_) => wishes.push("closed"),
                        },
                        ServerOutput::Wait(_) => break,
                        _ => {}
                    }
                }
            }
        };
        exchange(&mut client, &mut server);
        client.hold(subscription);
        exchange(&mut client, &mut server);
        let expected: &[_] = if is_held_at_once { &["members"] } else { &["read", "members"] };
        assert_eq!(wishes, expected, "held at once: {is_held_at_once}");
    }
}
