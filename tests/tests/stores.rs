//! Stores between native clients and a real server: what a store must not lose, and who may do what in it. The names of
//! several tests are faults of a system that was looked at before this one was made.

use std::{collections::BTreeSet, path::Path, time::Duration};

use bytes::Bytes;
use moorline_client::{Client, Error, Store, StoreEvent, StoreOptions, StorePatch};
use moorline_protocol::{
    channel::{LogEpoch, Mark, Offset, Position, Start, Tag, ValueHash},
    code::Code,
    frame::Credentials,
    payload::Payload,
};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    channels::{PATIENCE, hasty, judge},
    cutter::{Cutter, Direction, Harm, Place},
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

async fn at(directory: &Path) -> Result<TestServer, moorline_server::Error> {
    let app = Server::builder().auth(judge).store("notes/{id}", StorePolicy::default());
    TestServer::start_with(app, |config| config.server.data_dir = directory.to_owned()).await
}

const ALL: &str = "store.read:notes/* store.write:notes/* store.admin:notes/*";

fn client(server: &TestServer, name: &str, scopes: &str) -> Result<Client, Error> {
    server.client()?.auth(&(name, scopes))?.connect()
}

async fn next(store: &mut Store) -> Result<StoreEvent, Error> {
    match timeout(PATIENCE, store.next()).await.map_err(|_| Error::TimedOut)? {
        Some(event) => event,
        None => Err(Error::Closed(None)),
    }
}

async fn opened(store: &mut Store) -> Result<Start, Error> {
    match next(store).await? {
        StoreEvent::Opened(start) => Ok(start),
        other => panic!("{other:?}"),
    }
}

async fn patch(store: &mut Store) -> Result<StorePatch, Error> {
    match next(store).await? {
        StoreEvent::Patch(patch) => Ok(patch),
        other => panic!("{other:?}"),
    }
}

/// Everything that a store has for one who opens it now: the snapshot, and so many patches.
async fn late(client: &Client, name: &str, patches: usize) -> Result<(Option<Bytes>, Vec<Bytes>), Error> {
    let mut store = client.store(name, StoreOptions::default())?;
    assert_eq!(opened(&mut store).await?, Start::New);
    let (mut snapshot, mut found) = (None, Vec::new());
    while found.len() < patches {
        match next(&mut store).await? {
            StoreEvent::Snapshot { data, .. } => snapshot = Some(data),
            StoreEvent::Patch(patch) => found.push(patch.data),
            other => panic!("{other:?}"),
        }
    }
    Ok((snapshot, found))
}

fn code<T>(result: Result<T, Error>) -> Option<Code> {
    match result {
        Err(Error::Failed(failure)) => Some(failure.code),
        Err(Error::ChannelClosed(code, _)) => Some(code),
        Ok(_) | Err(_) => None,
    }
}

/// A value in its form, and its hash.
fn value(bytes: &[u8]) -> (ValueHash, Bytes) {
    let kept = [&[0], bytes].concat();
    (ValueHash(Sha256::digest(&kept).into()), kept.into())
}

/// Patches had the time as their key there: of a burst of 100 a late joiner got 4.
#[tokio::test]
async fn a_burst_of_patches_is_all_there_for_who_joins_late_with_nobody_else() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let writer = client(&server, "ann", ALL)?;
    let writes = (0..100).map(|number: u32| writer.append("notes/1", number.to_be_bytes().to_vec(), None));
    let positions = futures_util::future::try_join_all(writes).await?;
    assert_eq!(positions.iter().map(|position| position.mark.offset).collect::<BTreeSet<_>>().len(), 100);
    writer.close().await;
    let (snapshot, patches) = late(&client(&server, "bob", ALL)?, "notes/1", 100).await?;
    let expected: Vec<_> = (0..100_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!((snapshot, patches), (None, expected.into_iter().map(Bytes::from).collect()));
    server.stop().await?;
    // And after a restart.
    let server = at(directory.path()).await?;
    assert_eq!(late(&client(&server, "bob", ALL)?, "notes/1", 100).await?.1.len(), 100);
    Ok(())
}

/// A value was taken for a snapshot there, and pruned every patch.
#[tokio::test]
async fn a_value_prunes_nothing_and_is_served_by_the_server_alone_at_any_size() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let writer = client(&server, "ann", ALL)?;
    let mut store = writer.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    for number in 0..10_u8 {
        store.append(vec![number]).await?;
    }
    let mut kept = Vec::new();
    // Those above 128 Ki lost bytes there, and were kept under a hash that nobody could ask for.
    for size in [0, 1, 128 * 1024, 200_000, 1 << 20] {
        let (hash, stored) = value(&vec![size as u8; size]);
        store.keep_value(hash, stored.clone()).await?;
        kept.push((hash, stored));
    }
    writer.close().await;
    let reader = client(&server, "bob", "store.read:notes/*")?;
    assert_eq!(
        late(&reader, "notes/1", 10).await?,
        (None, (0..10_u8).map(|number| Bytes::from(vec![number])).collect())
    );
    let mut store = reader.store("notes/1", StoreOptions::default())?;
    for (hash, stored) in kept {
        assert_eq!(store.value(hash).await?, stored);
    }
    assert_eq!(code(store.value(ValueHash([9; 32])).await), Some(Code::NO_SUCH_VALUE));
    // Of this store, and no other.
    let mut other = reader.store("notes/2", StoreOptions::default())?;
    assert_eq!(code(other.value(value(&[1]).0).await), Some(Code::NO_SUCH_VALUE));
    Ok(())
}

#[tokio::test]
async fn what_is_no_value_is_refused_before_it_is_kept() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let writer = client(&server, "ann", ALL)?;
    let mut store = writer.store("notes/1", StoreOptions::default())?;
    let hash = |bytes: &[u8]| ValueHash(Sha256::digest(bytes).into());
    let false_total = [&[1, 0x80, 0x80, 0x80, 0x01][..], &[7; 32]].concat();
    for (what, name, bytes) in [
        ("another's hash", ValueHash([1; 32]), value(b"x").1.to_vec()),
        ("of no form", hash(b"x"), b"x".to_vec()),
        ("chunks with a false total", hash(&false_total), false_total.clone()),
        ("too large", hash(&[0; (1 << 20) + 2]), vec![0; (1 << 20) + 2]),
    ] {
        assert_eq!(code(store.keep_value(name, bytes).await), Some(Code::INVALID_PARAMS), "{what}");
    }
    assert_eq!(code(store.value(hash(&false_total)).await), Some(Code::NO_SUCH_VALUE));
    Ok(())
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_what_it_covers_and_of_nothing_else() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let (writer, reader) = (client(&server, "ann", ALL)?, client(&server, "bob", ALL)?);
    let mut store = writer.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    let mut positions = Vec::new();
    for number in 0..30_u8 {
        positions.push(store.append(vec![number]).await?);
    }
    let rest = |from: u8, to: u8| (from..to).map(|number| Bytes::from(vec![number])).collect::<Vec<_>>();
    store.keep_snapshot(positions[9], "up to 9").await?;
    assert_eq!(late(&reader, "notes/1", 20).await?, (Some("up to 9".into()), rest(10, 30)));
    store.keep_snapshot(positions[19], "up to 19").await?;
    assert_eq!(late(&reader, "notes/1", 10).await?, (Some("up to 19".into()), rest(20, 30)));
    // Who has seen the store up to 15 goes on, since that is kept until the next snapshot; who has seen it up to 5 begins
    // anew, with the snapshot.
    let mut back = reader.store("notes/1", StoreOptions::since(positions[15]))?;
    assert_eq!(opened(&mut back).await?, Start::Recovered);
    assert_eq!(patch(&mut back).await?.data, vec![16]);
    let mut back = reader.store("notes/1", StoreOptions::since(positions[5]))?;
    assert!(matches!(opened(&mut back).await?, Start::Gap(_)));
    assert!(matches!(next(&mut back).await?, StoreEvent::Snapshot { data, .. } if data == "up to 19"));
    assert_eq!(patch(&mut back).await?.data, vec![20]);
    // Snapshots that are none.
    let Position { epoch, mark } = positions[25];
    let future = Position { epoch, mark: Mark { offset: Offset(mark.offset.0 + 100), tag: mark.tag } };
    let foreign = Position { epoch: LogEpoch([1; 8]), mark };
    let forged = Position { epoch, mark: Mark { offset: mark.offset, tag: Tag([1; 8]) } };
    for position in [future, foreign, forged, positions[3]] {
        assert_eq!(code(store.keep_snapshot(position, "x").await), Some(Code::UNKNOWN_POSITION), "{position:?}");
    }
    assert_eq!(code(store.keep_snapshot(positions[19], "x").await), Some(Code::SUPERSEDED_SNAPSHOT));
    assert_eq!(code(store.keep_snapshot(positions[12], "x").await), Some(Code::SUPERSEDED_SNAPSHOT));
    assert_eq!(late(&reader, "notes/1", 10).await?, (Some("up to 19".into()), rest(20, 30)));
    Ok(())
}

/// Reading scopes could write there, as anybody, and a token counted for as long as its socket was open.
#[tokio::test]
async fn scopes_count_for_every_operation_and_at_every_moment() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let position = client(&server, "root", ALL)?.append("notes/1", "x", None).await?;
    let (hash, stored) = value(b"x");
    // Scopes, and what they let do: open, append, snapshot, keep a value, read one.
    let table = [
        ("store.read:notes/*", [true, false, false, false, true]),
        ("store.write:notes/*", [false, true, false, true, false]),
        ("store.admin:notes/*", [false, false, true, false, false]),
        ("store.read:notes/2", [false; 5]),
        ("topic.publish:** topic.subscribe:** call:**", [false; 5]),
        (ALL, [true; 5]),
    ];
    client(&server, "root", ALL)?.store("notes/1", StoreOptions::default())?.keep_value(hash, stored.clone()).await?;
    for (scopes, may) in table {
        let client = client(&server, "ann", scopes)?;
        let mut store = client.store("notes/1", StoreOptions::default())?;
        let open = code(next(&mut store).await) != Some(Code::FORBIDDEN);
        let append = code(client.append("notes/1", "x", None).await) != Some(Code::FORBIDDEN);
        let snapshot = code(store.keep_snapshot(position, "s").await) != Some(Code::FORBIDDEN);
        let keep = code(store.keep_value(hash, stored.clone()).await) != Some(Code::FORBIDDEN);
        let read = code(store.value(hash).await) != Some(Code::FORBIDDEN);
        assert_eq!([open, append, snapshot, keep, read], may, "{scopes}");
    }
    // Taken away on the open connection.
    let client = client(&server, "ann", ALL)?;
    let mut store = client.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    let less = Credentials::data(Payload::json(r#"["ann", "store.write:notes/*"]"#));
    client.authenticate(less).await?;
    loop {
        match next(&mut store).await {
            Ok(StoreEvent::Snapshot { .. } | StoreEvent::Patch(_)) => {}
            ended => break assert_eq!(code(ended), Some(Code::FORBIDDEN)),
        }
    }
    client.append("notes/1", "x", None).await?;
    Ok(())
}

/// Two first connections to a store at once made two of it there, whose clients never saw each other.
#[tokio::test]
async fn who_opens_a_store_first_at_the_same_moment_opens_the_same_one() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let (ann, bob) = (client(&server, "ann", ALL)?, client(&server, "bob", ALL)?);
    for round in 0..100 {
        let name = format!("notes/{round}");
        let mut one = ann.store(&name, StoreOptions::default())?;
        let mut two = bob.store(&name, StoreOptions::default())?;
        let (first, second) = tokio::join!(opened(&mut one), opened(&mut two));
        assert_eq!((first?, second?), (Start::New, Start::New));
        let (from_ann, from_bob) = tokio::join!(one.append("ann"), two.append("bob"));
        assert_eq!(from_ann?.epoch, from_bob?.epoch);
        // Each hears the other, and not itself.
        assert_eq!((patch(&mut one).await?.data, patch(&mut two).await?.data), ("bob".into(), "ann".into()));
    }
    Ok(())
}

/// Names became the names of files there, in which several fell together.
#[tokio::test]
async fn names_that_look_alike_are_different_stores_and_none_is_a_file() -> TestResult {
    let directory = tempfile::tempdir()?;
    let app = Server::builder().auth(judge).store("**", StorePolicy::default());
    let server = TestServer::start_with(app, |config| config.server.data_dir = directory.path().to_owned()).await?;
    let client = client(&server, "ann", "store.read:** store.write:**")?;
    let names = ["a.b", "a_b", "a/b", "a:b", "A.b", "a.b ", "../a.b", "/etc/passwd", "a\\b", "ä.b", "a'b\"--"];
    for name in names {
        client.append(name, name.as_bytes().to_vec(), None).await?;
    }
    for name in names {
        assert_eq!(late(&client, name, 1).await?.1, [Bytes::from(name)]);
    }
    let files: BTreeSet<_> = std::fs::read_dir(directory.path())?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    assert!(files.iter().all(|file| !file.contains("a.b") && !file.contains("passwd")), "{files:?}");
    Ok(())
}

/// A patch that was sent just before a connection was lost went with it there.
#[tokio::test]
async fn what_is_written_over_connections_that_are_cut_is_there_once_and_in_order() -> TestResult {
    const PATCHES: usize = 500;
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let cutter = Cutter::start(server.address(), |number| {
        let direction = if number % 2 == 0 { Direction::Up } else { Direction::Down };
        let place = Place { direction, after: 1_500 + 100 * number };
        if number < 40 { Harm::Cut(place) } else { Harm::None }
    })
    .await?;
    let writer = hasty(server.client_at(&cutter.url())?).auth(&("ann", ALL))?.connect()?;
    let reader = client(&server, "bob", ALL)?;
    let mut store = reader.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    for number in 0..PATCHES {
        let key = format!("op {number}");
        // Whatever came of it, as after a reload of a page.
        let (bytes, again) = (number.to_string().into_bytes(), number.to_string().into_bytes());
        let position = writer.append("notes/1", bytes, Some(&key)).await?;
        if number % 10 == 0 {
            assert_eq!(writer.append("notes/1", again, Some(&key)).await?, position);
        }
    }
    let mut heard = 0;
    while heard < PATCHES {
        match next(&mut store).await? {
            StoreEvent::Patch(patch) => {
                assert_eq!(patch.data, heard.to_string());
                heard += 1;
            }
            // It read nothing for a while.
            StoreEvent::Opened(start) => assert_eq!(start, Start::Recovered),
            other => panic!("{other:?}"),
        }
    }
    assert!(cutter.connections() > 10);
    Ok(())
}

/// A client that opened a store a second time was not told what it had written itself, although what opened it had none
/// of it: another document on the same page.
#[tokio::test]
async fn regression_who_opens_a_store_again_is_told_its_own_patches_too() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let client = client(&server, "ann", ALL)?;
    let mut first = client.store("notes/1", StoreOptions::default())?;
    opened(&mut first).await?;
    let one = first.append("one").await?;
    first.append("two").await?;
    first.keep_snapshot(one, "snapshot").await?;
    assert_eq!(late(&client, "notes/1", 1).await?, (Some("snapshot".into()), vec!["two".into()]));
    // From where it has seen it on it has its own.
    let mut second = client.store("notes/1", StoreOptions::since(one))?;
    assert_eq!(opened(&mut second).await?, Start::Recovered);
    client.append("notes/1", "three", None).await?;
    let other = server.client()?.auth(&("bob", ALL))?.connect()?;
    other.append("notes/1", "four", None).await?;
    assert_eq!(patch(&mut second).await?.data, "four");
    assert_eq!(patch(&mut first).await?.data, "four");
    Ok(())
}

/// Signals went to everybody there, although they named one.
#[tokio::test]
async fn what_is_sent_to_a_member_of_a_store_reaches_it_alone() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let mut options = StoreOptions::default();
    (options.members, options.presence) = (true, Some(Payload::json("{}")));
    let clients = [client(&server, "ann", ALL)?, client(&server, "bob", ALL)?, client(&server, "eve", ALL)?];
    let open = |place: usize| clients[place].store("notes/1", options.clone());
    let (mut ann, mut bob, mut eve) = (open(0)?, open(1)?, open(2)?);
    for store in [&mut ann, &mut bob, &mut eve] {
        opened(store).await?;
    }
    while ann.members().len() < 3 {
        next(&mut ann).await?;
    }
    let to = ann.members().iter().find(|member| member.subject == "bob").expect("he is there").id;
    ann.send_to(to, &"offer").await?;
    loop {
        match next(&mut bob).await? {
            StoreEvent::Direct(said) => {
                break assert_eq!((said.data::<String>()?, said.subject), ("offer".into(), "ann".into()));
            }
            StoreEvent::Members => {}
            other => panic!("{other:?}"),
        }
    }
    ann.append("end").await?;
    loop {
        match next(&mut eve).await? {
            StoreEvent::Patch(patch) => break assert_eq!(patch.data, "end"),
            StoreEvent::Members => {}
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

/// Whoever may write to `notes/{id}` could make names without end, and fill the disk with them.
#[tokio::test]
async fn a_tenant_makes_no_more_stores_and_topics_with_history_than_it_may() -> TestResult {
    let directory = tempfile::tempdir()?;
    let app = Server::builder()
        .auth(judge)
        .store("notes/{id}", StorePolicy::new().writers_keep_snapshots())
        .topic("room:{id}", TopicPolicy::new().history(10, Duration::from_secs(60)))
        .topic("news:{id}", TopicPolicy::new());
    let server = TestServer::start_with(app, |config| {
        config.server.data_dir = directory.path().to_owned();
        config.limits.channels_per_tenant = 2;
    })
    .await?;
    let client = client(&server, "ann", &format!("{ALL} topic.publish:** topic.subscribe:**"))?;
    let mut stores = Vec::new();
    for number in 0..3 {
        let mut store = client.store(&format!("notes/{number}"), StoreOptions::default())?;
        assert_eq!(opened(&mut store).await?, Start::New, "reading makes none");
        stores.push(store);
    }
    stores[0].append("a").await?;
    let (hash, stored) = value(b"v");
    stores[1].keep_value(hash, stored.clone()).await?;
    let start = stores[2].append("a").await;
    assert_eq!(code(start), Some(Code::TOO_MANY_NAMES));
    assert_eq!(code(stores[2].keep_value(hash, stored).await), Some(Code::TOO_MANY_NAMES));
    // Those that are there go on, and what is not kept is not counted.
    stores[0].append("b").await?;
    for number in 0..5 {
        client.publish(&format!("news:{number}"), &1).await?;
    }
    for number in 0..2 {
        client.publish(&format!("room:{number}"), &1).await?;
    }
    assert_eq!(code(client.publish("room:2", &1).await), Some(Code::TOO_MANY_NAMES));
    client.publish("room:1", &2).await?;
    Ok(())
}

#[tokio::test]
async fn a_full_store_refuses_patches_until_a_snapshot_makes_room() -> TestResult {
    let directory = tempfile::tempdir()?;
    let app = Server::builder().auth(judge).store("notes/{id}", StorePolicy::new().max_bytes(10_000));
    let server = TestServer::start_with(app, |config| config.server.data_dir = directory.path().to_owned()).await?;
    let client = client(&server, "ann", ALL)?;
    let mut store = client.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    let mut last = None;
    let mut kept = 0;
    let refused = loop {
        match store.append(vec![7; 1_000]).await {
            Ok(position) => (last, kept) = (Some(position), kept + 1),
            refused => break code(refused),
        }
    };
    assert_eq!((refused, kept), (Some(Code::STORE_FULL), 9), "who wrote it takes some bytes, too");
    let (hash, stored) = value(&[1; 2_000]);
    assert_eq!(code(store.keep_value(hash, stored).await), Some(Code::STORE_FULL));
    store.keep_snapshot(last.expect("some"), "all").await?;
    for _ in 0..9 {
        store.append(vec![7; 1_000]).await?;
    }
    assert_eq!(code(store.append(vec![7; 1_000]).await), Some(Code::STORE_FULL));
    Ok(())
}

#[tokio::test]
async fn a_handler_reads_a_store_and_adds_to_it() -> TestResult {
    async fn add(stores: Stores, Json(patch): Json<String>) -> Result<Json<usize>, Fail> {
        stores.append("notes/1", patch).await?;
        let contents = stores.contents("notes/1").await?;
        assert!(stores.append("elsewhere", "x").await.is_err());
        Ok(Json(contents.snapshot.map_or(0, |snapshot| snapshot.len()) + contents.patches.len()))
    }
    let directory = tempfile::tempdir()?;
    let app = Server::builder().auth(judge).store("notes/{id}", StorePolicy::default()).handler("add", add);
    let server = TestServer::start_with(app, |config| config.server.data_dir = directory.path().to_owned()).await?;
    let client = client(&server, "ann", &format!("{ALL} call:add"))?;
    let mut store = client.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    assert_eq!(client.call::<usize>("add", &"one").await?, 1);
    let first = patch(&mut store).await?;
    assert_eq!((&first.data[..], &*first.subject), (&b"one"[..], ""));
    store.keep_snapshot(first.position, "1234567890").await?;
    assert_eq!(client.call::<usize>("add", &"two").await?, 11);
    Ok(())
}

/// There was no bound on anything there.
#[tokio::test]
async fn what_cannot_be_asked_for_is_a_typed_error_each_and_nothing_is_lost() -> TestResult {
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let client = client(&server, "ann", "store.read:** store.write:** store.admin:**")?;
    let mut undeclared = client.store("other/1", StoreOptions::default())?;
    assert_eq!(code(next(&mut undeclared).await), Some(Code::NO_SUCH_CHANNEL));
    assert_eq!(code(client.append("other/1", "x", None).await), Some(Code::NO_SUCH_CHANNEL));
    let large = client.append("notes/1", vec![0; 5 << 20], None).await;
    assert!(matches!(large, Err(Error::Refused(_))), "{large:?}");
    let mut options = StoreOptions::default();
    options.presence = Some(Payload::bytes(vec![0; 1 << 20]));
    let mut shouting = client.store("notes/1", options)?;
    assert!(matches!(next(&mut shouting).await, Err(Error::Refused(_))));
    // Names that nobody has heard of make nothing that stays: what is opened and empty.
    for number in 0..3_000 {
        let mut store = client.store(&format!("notes/{number}"), StoreOptions::default())?;
        opened(&mut store).await?;
    }
    client.append("notes/1", "x", None).await?;
    assert_eq!(late(&client, "notes/1", 1).await?.1, [Bytes::from("x")]);
    Ok(())
}

/// What was answered while the server stopped is on its disk, in the order in which it was asked for, and of the rest
/// nobody is told that it is.
#[tokio::test]
async fn what_is_acknowledged_while_the_server_stops_is_kept_and_the_rest_is_said_to_be_unknown() -> TestResult {
    const PATCHES: usize = 400;
    let directory = tempfile::tempdir()?;
    let server = at(directory.path()).await?;
    let ann = client(&server, "ann", ALL)?;
    ann.ready().await?;
    // All are under way; the server is asked to stop when the first is answered.
    let append = |number: usize| {
        let ann = ann.clone();
        tokio::spawn(async move { ann.append("notes/1", number.to_string(), None).await })
    };
    let mut appends = (0..PATCHES).map(append).collect::<Vec<_>>().into_iter();
    appends.next().expect("there is one").await??;
    server.stop().await?;
    ann.close().await;
    let mut kept = vec![0];
    for (number, append) in (1..).zip(appends) {
        match append.await? {
            Ok(_) => kept.push(number),
            // Sent and not answered; or not sent any more.
            Err(Error::Unknown | Error::Closed(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let server = at(directory.path()).await?;
    let eve = client(&server, "eve", ALL)?;
    let mut store = eve.store("notes/1", StoreOptions::default())?;
    opened(&mut store).await?;
    client(&server, "bob", ALL)?.append("notes/1", PATCHES.to_string(), None).await?;
    let mut found = Vec::new();
    while found.last() != Some(&PATCHES) {
        // It is told again how it goes on where it was too slow.
        if let StoreEvent::Patch(patch) = next(&mut store).await? {
            found.push(String::from_utf8_lossy(&patch.data).parse::<usize>()?);
        }
    }
    assert!(found.is_sorted_by(|one, next| one < next), "{found:?}");
    // What is not known may be there.
    assert!(kept.iter().all(|number| found.contains(number)), "{kept:?} {found:?}");
    Ok(())
}
