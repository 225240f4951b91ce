//! Every frame of channels as it stands on the wire, and what is no frame.

use std::sync::Arc;

use super::*;
use crate::{
    channel::{Member, MemberChange, MemberId, Presence, ValueHash},
    frame::{CallId, ClientFrame, ServerFrame, next_frame},
};

const MARK: Mark = Mark { offset: Offset(300), tag: Tag(*b"\x11\x12\x13\x14\x15\x16\x17\x18") };
const EPOCH: LogEpoch = LogEpoch([0xe0; 8]);

fn name() -> Name {
    Name::new("room:1").expect("a name")
}

fn raw(bytes: &[u8]) -> RawFrame {
    let mut plaintext = Bytes::copy_from_slice(bytes);
    let frame = next_frame(&mut plaintext).expect("it parses").expect("there is one");
    assert!(plaintext.is_empty());
    frame
}

/// The bytes of a snapshot: hexadecimal, with a comment behind each `#`.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter_map(|line| line.split('#').next()).collect();
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn client_frame(frame: &ClientFrame, snapshot: &str) {
    assert_eq!(frame.encode()[..], hex(snapshot), "{frame:?}");
    assert_eq!(ClientFrame::read(&raw(&hex(snapshot))).as_ref(), Ok(frame));
}

fn server_frame(frame: ChannelFrame, snapshot: &str) {
    let frame = ServerFrame::Channel(frame);
    assert_eq!(frame.encode()[..], hex(snapshot), "{frame:?}");
    assert_eq!(ServerFrame::read(&raw(&hex(snapshot))).as_ref(), Ok(&frame));
}

#[test]
fn a_client_opens_closes_and_asks() {
    client_frame(
        &ClientFrame::Open(Open {
            handle: Handle(1),
            kind: Kind::Topic,
            name: name(),
            quiet: true,
            members: true,
            since: Some(Position { epoch: EPOCH, mark: MARK }),
            history: 50,
            past: Offset(300),
            data: Some(Payload::json("{}")),
            instead: Some(Handle(7)),
        }),
        "20 18 2c               # Open, QUIET, MEMBERS, 44 bytes
         01 01 06 726f6f6d3a31  # handle 1, topic, 'room:1'
         01 12                  # since, 18 bytes
           e0e0e0e0e0e0e0e0     #   epoch
           ac02 1112131415161718 #  offset 300, tag
         02 01 32               # history 50
         03 03 01 7b7d          # data: JSON {}
         04 02 ac02             # its own up to 300
         05 01 07               # instead of handle 7",
    );
    client_frame(
        &ClientFrame::Open(Open {
            handle: Handle(2),
            kind: Kind::Store,
            name: name(),
            quiet: false,
            members: false,
            since: None,
            history: 0,
            past: Offset(0),
            data: None,
            instead: None,
        }),
        "20 00 09 02 04 06 726f6f6d3a31 # handle 2, store, nothing seen",
    );
    client_frame(&ClientFrame::Close(Handle(300)), "26 00 02 ac02");
    client_frame(&ClientFrame::Hold(Handle(300)), "2e 00 02 ac02");
    client_frame(
        &ClientFrame::Request(Request {
            id: CallId(7),
            what: RequestKind::Append,
            kind: Kind::Topic,
            name: name(),
            key: Some(Name::new("k").expect("a name")),
            payload: Payload::json("1"),
        }),
        "25 02 0e               # Request, KEYED, 14 bytes
         07 01 01 06 726f6f6d3a31 # id 7, append, topic, 'room:1'
         01 6b                  # key 'k'
         01 31                  # JSON 1",
    );
}

#[test]
fn every_request_has_its_arguments_before_the_payload() {
    let position = Position { epoch: EPOCH, mark: MARK };
    let (member, hash) = (MemberId([0xaa; 8]), ValueHash([0xbb; 32]));
    for (what, number, arguments) in [
        (RequestKind::Append, "01", String::new()),
        (RequestKind::Send(member), "02", "aa".repeat(8)),
        (RequestKind::Present, "03", String::new()),
        (RequestKind::History { before: None, count: 50 }, "04", "3200".to_owned()),
        (
            RequestKind::History { before: Some(position), count: 2 },
            "04",
            "0201e0e0e0e0e0e0e0e0ac021112131415161718".into(),
        ),
        (RequestKind::Snapshot(position), "05", "e0e0e0e0e0e0e0e0ac021112131415161718".into()),
        (RequestKind::Keep(hash), "06", "bb".repeat(32)),
        (RequestKind::Value(hash), "07", "bb".repeat(32)),
    ] {
        let (id, kind, key, payload) = (CallId(7), Kind::Store, None, Payload::bytes("x"));
        let request = Request { id, what, kind, name: name(), key, payload };
        let length = format!("{:02x}", 12 + arguments.len() / 2);
        client_frame(
            &ClientFrame::Request(request),
            &format!("25 00 {length} 07 {number} 04 06726f6f6d3a31 {arguments} 00 78"),
        );
    }
}

#[test]
fn members_are_told_with_what_they_say() {
    let is = |presence, data| {
        MemberChange::Is(Arc::new(Member {
            id: MemberId([0xaa; 8]),
            subject: "Ann".to_owned(),
            presence,
            joined: UnixMillis(5),
            data,
        }))
    };
    let changes = vec![
        is(Presence::Here, Payload::json("{}")),
        is(Presence::Away(UnixMillis(300)), Payload::bytes("")),
        MemberChange::Left(MemberId([0xbb; 8])),
    ];
    server_frame(
        ChannelFrame::Members(Handle(1), Changes { whole: true, more: false, revision: 0, changes }),
        "24 20 2e               # Members, WHOLE, 46 bytes
         01                     # handle 1
         aaaaaaaaaaaaaaaa 01    # a member, here
           03 416e6e            #   'Ann'
           05 03 01 7b7d        #   since 5, JSON {}
         aaaaaaaaaaaaaaaa 02    # a member, away
           ac02                 #   since 300
           03 416e6e 05 01 00   #   'Ann', since 5, no bytes
         bbbbbbbbbbbbbbbb 00    # one who has left",
    );
    let none = Changes { whole: false, more: true, revision: 0, changes: Vec::new() };
    server_frame(ChannelFrame::Members(Handle(1), none), "24 40 01 01 # GOES_ON");
}

#[test]
fn what_is_for_one_alone_and_what_is_volatile() {
    client_frame(
        &ClientFrame::Volatile(VolatileAppend { kind: Kind::Topic, name: name(), payload: Payload::json("1") }),
        "2c 00 0a 01 06 726f6f6d3a31 01 31 # topic, 'room:1', JSON 1",
    );
    server_frame(
        ChannelFrame::Volatile(Handle(1), UnixMillis(5), Bytes::from("hi")),
        "2d 00 04 01 05 6869    # handle 1, time, content",
    );
    let direct = Direct { kind: Kind::Topic, name: name(), at: UnixMillis(5), content: Bytes::from("hi") };
    let frame = ServerFrame::Direct(direct);
    let snapshot = hex("2b 00 0b 01 06 726f6f6d3a31 05 6869 # topic, 'room:1', time, content");
    assert_eq!(frame.encode()[..], snapshot);
    assert_eq!(ServerFrame::read(&raw(&snapshot)), Ok(frame));
}

#[test]
fn history_reads_back_as_it_was_written() {
    let entry = |offset: u64, content: &'static str| Entry {
        prev: Offset(offset - 1),
        mark: Mark { offset: Offset(offset), tag: MARK.tag },
        at: UnixMillis(offset * 10),
        content: Bytes::from(content),
    };
    let entries = [entry(7, "one"), entry(9, "")];
    let bytes = History::encode(true, EPOCH, &entries);
    let read = History::decode(&bytes).expect("it is one");
    let position = |entry: &Entry| Position { epoch: EPOCH, mark: entry.mark };
    let expected: Vec<_> = entries.iter().map(|entry| (position(entry), entry.at, entry.content.clone())).collect();
    assert_eq!(read, History { more: true, epoch: EPOCH, entries: expected });
    for length in 0..bytes.len() {
        // One that ends between two entries is a shorter one.
        let read = History::decode(&bytes.slice(..length));
        assert!(read.is_err() || read.is_ok_and(|read| read.entries.len() < 2), "{length}");
    }
}

#[test]
fn a_server_tells() {
    server_frame(
        ChannelFrame::Opened(
            Handle(1),
            Opened {
                start: Start::Gap(Gap::Trimmed),
                epoch: EPOCH,
                from: Offset(3),
                tag: Some(MARK.tag),
                head: Offset(300),
                snapshot: true,
            },
        ),
        "21 00 19               # Opened, 25 bytes
         01 04 e0e0e0e0e0e0e0e0 # handle 1, trimmed, epoch
         03 ac02                # from 3, head 300
         01 08 1112131415161718 # tag of 3
         02 00                  # a snapshot comes first",
    );
    server_frame(
        ChannelFrame::Update(
            Handle(1),
            Entry { prev: Offset(298), mark: MARK, at: UnixMillis(1_700_000_000_000), content: Bytes::from("hi") },
        ),
        "22 00 14               # Update, 20 bytes
         01 ac02 1112131415161718 # handle 1, offset 300, tag
         02                     # two after the one before it
         80d095ffbc31           # time
         6869                   # content",
    );
    server_frame(ChannelFrame::Advance(Handle(1), MARK), "23 00 0b 01 ac02 1112131415161718");
    server_frame(
        ChannelFrame::Snapshot(Handle(1), UnixMillis(5), Bytes::from("all")),
        "28 00 05 01 05 616c6c   # handle 1, time, content",
    );
    server_frame(
        ChannelFrame::Closed(Handle(1), Code::FORBIDDEN, "no".to_owned()),
        "27 00 06 01 d908 02 6e6f # handle 1, 1113, 'no'",
    );
}

#[test]
fn what_cannot_be_is_refused() {
    for (what, bytes) in [
        ("an entry after itself", "22 00 0d 01 ac02 1112131415161718 00 05"),
        ("an entry before the beginning", "22 00 0e 01 ac02 1112131415161718 ad02 05"),
        ("a start that is none", "21 00 0c 01 05 e0e0e0e0e0e0e0e0 03 04"),
        ("more behind an Advance", "23 00 0c 01 ac02 1112131415161718 00"),
    ] {
        assert!(ServerFrame::read(&raw(&hex(bytes))).is_err(), "{what}");
    }
    for (what, bytes) in [
        ("a kind that is none", "20 00 09 02 05 06 726f6f6d3a31"),
        ("a channel without a name", "20 00 03 02 04 00"),
        ("a position that is too short", "20 00 0c 02 04 06 726f6f6d3a31 01 01 e0"),
        ("a request of no kind", "25 00 0c 07 08 01 06 726f6f6d3a31 01 31"),
        ("a member that is cut off", "25 00 0c 07 02 01 06 726f6f6d3a31 01 31"),
        ("a frame of the server's", "23 00 0b 01 ac02 1112131415161718"),
    ] {
        assert!(ClientFrame::read(&raw(&hex(bytes))).is_err(), "{what}");
    }
    for length in 0..18 {
        let position = Position { epoch: EPOCH, mark: MARK }.to_bytes();
        assert_eq!(Position::from_bytes(&position[..length]), None);
        assert_eq!(Position::from_bytes(&position), Some(Position { epoch: EPOCH, mark: MARK }));
    }
}

fn put_together(kind: u8, head: &[u8], content: &Bytes, most: usize) -> Result<Vec<RawFrame>, Violation> {
    let mut assembly = Assembly::default();
    let mut whole = Vec::new();
    for piece in pieces(kind, head, content) {
        let mut record = BytesMut::new();
        piece.put(&mut record);
        assert_eq!(record.len(), piece.len());
        assert!(piece.content.len() <= PART);
        whole.extend(assembly.take(raw(&record), most)?);
    }
    Ok(whole)
}

#[test]
fn a_frame_in_parts_is_the_same_frame() {
    let head = [1, 2, 3];
    for size in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 10 * PART] {
        let content = Bytes::from(vec![7; size]);
        let whole = put_together(kind::UPDATE, &head, &content, size + 3).expect("it fits");
        let [frame] = &whole[..] else { panic!("{} frames of {size} bytes", whole.len()) };
        assert_eq!((frame.kind, &frame.body[..3], &frame.body[3..]), (kind::UPDATE, &head[..], &content[..]));
        let parts = pieces(kind::UPDATE, &head, &content).count();
        assert_eq!(parts, size.div_ceil(PART).max(1));
        if parts > 1 {
            let refused = put_together(kind::UPDATE, &head, &content, size + 2);
            assert_eq!(refused.err(), Some(Violation::PayloadTooLarge), "before anything of it is kept");
        }
    }
}

/// What many follow is encoded once: each has a head of its own, and the content of all is the one in the log.
#[test]
fn a_thousand_subscribers_share_the_bytes_of_an_entry() {
    for size in [1, 128, PART, PART + 1, 3 * PART] {
        let content = Bytes::from(vec![7; size]);
        let entry = Entry { prev: Offset(299), mark: MARK, at: UnixMillis(1_700_000_000_000), content };
        for handle in (1..=1_000).map(Handle) {
            let head = update_head(handle, &entry);
            let pieces: Vec<Piece> = pieces(kind::UPDATE, &head, &entry.content).collect();
            let mut at = 0;
            for piece in &pieces {
                assert_eq!(piece.content.as_ptr(), entry.content[at..].as_ptr(), "nothing is copied");
                at += piece.content.len();
            }
            assert_eq!(at, size);
            let mut whole = Vec::new();
            let mut assembly = Assembly::default();
            for piece in &pieces {
                let mut record = BytesMut::new();
                piece.put(&mut record);
                whole.extend(assembly.take(raw(&record), size + 100).expect("it fits"));
            }
            let [frame] = &whole[..] else { panic!("{} frames", whole.len()) };
            assert_eq!(ChannelFrame::read(frame), Ok(Some(ChannelFrame::Update(handle, entry.clone()))));
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let take = |frames: &[&str]| {
        let mut assembly = Assembly::default();
        frames.iter().try_for_each(|bytes| assembly.take(raw(&hex(bytes)), 100).map(drop))
    };
    assert_eq!(take(&["29 00 04 22 05 aabb", "2a 00 03 ccddee"]), Ok(()));
    for (what, frames) in [
        ("one that continues nothing", &["2a 00 01 aa"][..]),
        ("a second one", &["29 00 04 22 05 aabb", "29 00 04 22 05 aabb"]),
        ("more than was announced", &["29 00 04 22 05 aabb", "2a 00 04 ccddeeff"]),
        ("nothing", &["29 00 04 22 05 aabb", "2a 00 00"]),
        ("another kind", &["29 00 04 10 05 aabb"]),
    ] {
        assert!(take(frames).is_err(), "{what}");
    }
}
