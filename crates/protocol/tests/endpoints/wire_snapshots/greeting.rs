//! What opens and ends a connection in clear.

use super::*;

#[test]
fn hello_of_a_plain_connection() {
    assert_wire(
        &plain().sent(Up)[0],
        "
        04                              | hello of a plain connection
        01                              | version
        01 08  77 73 3a 2f 2f 68 2f 6d  | AUTH 1, the URL: ws://h/m
        04 01  63                       | AUTH 4, the client's version: c
        07 10  c1 f4 e7 1a 07 bb dc 0a  | AUTH 7, the client's id
               ef 72 58 27 1f 8e 35 5c
    ",
    );
}

#[test]
fn welcome() {
    assert_wire(
        &plain().sent(Down)[0],
        "
        11                              | plain record
        01 00 4d                        | Welcome, 77 bytes
        01 10  ca a9 ef 5d a7 62 56 8b  | 1, the session
               bc 5e d7 81 b1 28 2f fa
        02 06  80 d0 95 ff bc 31        | 2, the server's time: 1,700,000,000,000
        03 03  a8 c3 01                 | 3, heartbeat: 25,000 ms
        04 04  80 80 80 02              | 4, largest payload: 4 MiB
        05 02  80 08                    | 5, calls in flight: 1,024
        06 01  73                       | 6, the server's version: s
        09 08  e0 e1 e2 e3 e4 e5 e6 e7  | 9, the run of the server
        0a 03  c0 a9 07                 | 10, resume window: 120,000 ms
        0b 10  74 95 30 b8 09 31 cb 7f  | 11, the secret of a plain session
               1c 02 97 f7 bd 50 15 3a
    ",
    );
}

#[test]
fn welcome_of_a_server_that_limits_how_much_is_sent() {
    let mut setup = setup(Setup::plain());
    setup.server.pace =
        Pace { messages_per_second: NonZeroU64::new(1_000), bytes_per_second: NonZeroU64::new(8 * 1024 * 1024) };
    assert_wire(
        &setup.connect().sent(Down)[0],
        "
        11                              | plain record
        01 00 57                        | Welcome, 87 bytes
        01 10  ca a9 ef 5d a7 62 56 8b  | 1, the session
               bc 5e d7 81 b1 28 2f fa
        02 06  80 d0 95 ff bc 31        | 2, the server's time: 1,700,000,000,000
        03 03  a8 c3 01                 | 3, heartbeat: 25,000 ms
        04 04  80 80 80 02              | 4, largest payload: 4 MiB
        05 02  80 08                    | 5, calls in flight: 1,024
        06 01  73                       | 6, the server's version: s
        09 08  e0 e1 e2 e3 e4 e5 e6 e7  | 9, the run of the server
        0a 03  c0 a9 07                 | 10, resume window: 120,000 ms
        0b 10  74 95 30 b8 09 31 cb 7f  | 11, the secret of a plain session
               1c 02 97 f7 bd 50 15 3a
        0f 02  e8 07                    | 15, messages a second: 1,000
        10 04  80 80 80 04              | 16, bytes a second: 8 MiB
    ",
    );
}

#[test]
fn the_greeting_of_a_resumed_session() {
    let mut pair = plain();
    pair.client.notify(name("n"), Payload::json("1"), false).expect("room");
    pair.run();
    let before = (pair.sent(Up).len(), pair.sent(Down).len());
    pair.reconnect();
    let (up, down) = (&pair.sent(Up)[before.0..], &pair.sent(Down)[before.1..]);
    assert_wire(
        &up[0],
        "
        04                              | hello of a plain connection
        01                              | version
        01 08  77 73 3a 2f 2f 68 2f 6d  | AUTH 1, the URL: ws://h/m
        04 01  63                       | AUTH 4, the client's version: c
        05 2a                           | AUTH 5, the session to go on with:
            ca a9 ef 5d a7 62 56 8b     |     its name
            bc 5e d7 81 b1 28 2f fa
            e0 e1 e2 e3 e4 e5 e6 e7     |     the run of the server
            00                          |     received: nothing
            02                          |     the client's second connection
            74 95 30 b8 09 31 cb 7f     |     the secret
            1c 02 97 f7 bd 50 15 3a
        07 10  c1 f4 e7 1a 07 bb dc 0a  | AUTH 7, the client's id
               ef 72 58 27 1f 8e 35 5c
    ",
    );
    assert_wire(
        &down[0],
        "
        11                              | plain record
        01 00 50                        | Welcome, 80 bytes
        01 10  ca a9 ef 5d a7 62 56 8b  | 1, the session
               bc 5e d7 81 b1 28 2f fa
        02 06  80 d0 95 ff bc 31        | 2, the server's time: 1,700,000,000,000
        03 03  a8 c3 01                 | 3, heartbeat: 25,000 ms
        04 04  80 80 80 02              | 4, largest payload: 4 MiB
        05 02  80 08                    | 5, calls in flight: 1,024
        06 01  73                       | 6, the server's version: s
        07 01  01                       | 7, the session goes on; received: 1
        09 08  e0 e1 e2 e3 e4 e5 e6 e7  | 9, the run of the server
        0a 03  c0 a9 07                 | 10, resume window: 120,000 ms
        0b 10  74 95 30 b8 09 31 cb 7f  | 11, the secret of a plain session
               1c 02 97 f7 bd 50 15 3a
        05 00 01                        | Seq, 1 byte
        01                              | the server's next number: 1
    ",
    );
    assert_wire(
        &up[1],
        "
        11        | plain record
        05 00 01  | Seq, 1 byte
        02        | the client's next number: 2
        07 00 01  | Ping, 1 byte
        00        | number
    ",
    );
}

#[test]
fn welcome_to_another_session_than_the_one_that_was_asked_for() {
    let mut pair = plain();
    let before = pair.sent(Down).len();
    pair.restart();
    pair.run();
    pair.client.retry_now(pair.now);
    pair.run();
    // As the first Welcome, but for 8; the name, the run and the secret are new.
    let welcome = &pair.sent(Down)[before];
    assert_wire(&welcome[1..4], "01 00 50  | Welcome, 80 bytes");
    assert_wire(
        &welcome[45..61],
        "
        06 01  73                       | 6, the server's version: s
        08 01  03                       | 8, why: restart
        09 08  e1 e2 e3 e4 e5 e6 e7 e8  | 9, the run of the server
    ",
    );
}

#[test]
fn bye() {
    let mut pair = plain();
    pair.client.close();
    assert_wire(
        &newest(&mut pair, Up),
        "
        11        | plain record
        04 00 00  | Bye, nothing
    ",
    );
}

#[test]
fn goaway() {
    let mut pair = plain();
    pair.server().close(Code::GOING_AWAY, "gone", Duration::from_millis(300));
    assert_wire(
        &newest(&mut pair, Down),
        "
        11                       | plain record
        03 00 11                 | Goaway, 17 bytes
        aa 1f                    | code 4010, going_away
        21 c6 95 0d 5e 0b 9f 7c  | reference
        ac 02                    | come again in 300 ms
        04  67 6f 6e 65          | message: gone
    ",
    );
}

#[test]
fn reject_is_padded_with_zeros_to_1024_bytes() {
    let mut pair = Pair::new(setup(Setup::plain()));
    let (name, message, retry_after) = ("n".to_owned(), "no".to_owned(), Duration::from_millis(300));
    pair.admission = Admission::Reject(Rejection { name, message, retry_after, ..Rejection::of(Code::REFUSED) });
    pair.client.start(pair.now);
    let record = newest(&mut pair, Down);
    let (head, padding) = record.split_at(22);
    assert_wire(
        head,
        "
        11                       | plain record
        02 00 80 08              | Reject, 1,024 bytes
        99 23                    | code 4505, refused
        ca a9 ef 5d a7 62 56 8b  | reference
        ac 02                    | come again in 300 ms
        01  6e                   | name: n
        02  6e 6f                | message: no
    ",
    );
    assert_eq!(record.len(), 1 + 4 + 1_024);
    assert!(padding.iter().all(|byte| *byte == 0));
}
