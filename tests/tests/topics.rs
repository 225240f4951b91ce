//! Topics between native clients and a real server.

use std::{collections::BTreeSet, path::Path, time::Duration};

use moorline_client::{Client, Error, Topic, TopicEvent, TopicMessage, TopicOptions};
use moorline_protocol::{
    channel::{MemberId, Start},
    code::Code,
    frame::Credentials,
    payload::{Name, Payload},
    session::CallOptions,
};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    channels::{PATIENCE, event, hasty, judge, opened, said, text},
    cutter::{Cutter, Direction, Harm, Place},
};
use serde_json::{Value, json};

/// Rooms that are not kept.
fn app() -> ServerBuilder {
    Server::builder()
        .topic("room:{id}", TopicPolicy::new())
        .topic("room:staff", TopicPolicy::new().subscribe(Guard::new().role("staff")))
}

#[tokio::test]
async fn what_is_published_is_heard_with_who_published_it_and_where() -> TestResult {
    let server = TestServer::start(app().auth(judge)).await?;
    let connect = |name: &str| server.client()?.auth(&(name, None::<String>))?.connect();
    let (ann, bob) = (connect("ann")?, connect("bob")?);
    let mut room = bob.topic("room:1", TopicOptions::history(10))?;
    assert_eq!(opened(&mut room).await?, Start::New);
    let position = ann.publish("room:1", &"hello").await?;
    let message = said(&mut room).await?;
    assert_eq!((text(&message), &*message.subject, message.position), ("hello".to_owned(), "ann", position));
    assert!(!message.before && message.at.0 > 1_700_000_000_000);
    let mut late = ann.topic("room:1", TopicOptions::history(10))?;
    assert_eq!(opened(&mut late).await?, Start::New);
    let before = said(&mut late).await?;
    assert!(before.before);
    assert_eq!(TopicMessage { before: false, ..before }, message);
    // What is the other's own is told, too, unless it does not want that.
    let mut quiet = ann.topic("room:1", TopicOptions::default().quiet())?;
    opened(&mut quiet).await?;
    ann.publish("room:1", &"mine").await?;
    bob.publish("room:1", &"another's").await?;
    assert_eq!(text(&said(&mut late).await?), "mine");
    assert_eq!(text(&said(&mut quiet).await?), "another's");
    assert_ne!(said(&mut late).await?.member, message.member, "the member is the session, not the subject");
    Ok(())
}

#[tokio::test]
async fn who_is_cut_off_again_and_again_misses_nothing() -> TestResult {
    const MESSAGES: usize = 3_000;
    let server = TestServer::start(app()).await?;
    // Each connection is cut a little later than the one before it, so that everybody gets somewhere.
    let cutter = Cutter::start(server.address(), |number| {
        let after = 3_000 + 600 * number;
        if number < 60 { Harm::Cut(Place { direction: Direction::Down, after }) } else { Harm::None }
    })
    .await?;
    let reader = hasty(server.client_at(&cutter.url())?).connect()?;
    let mut room = reader.topic("room:1", TopicOptions::history(0))?;
    assert_eq!(opened(&mut room).await?, Start::New);
    let writer = server.client()?.connect()?;
    let writing = async {
        for number in 0..MESSAGES {
            writer.publish("room:1", &number).await?;
        }
        Ok::<_, Error>(())
    };
    let reading = async {
        let mut next = 0;
        let mut recovered = 0;
        while next < MESSAGES {
            match event(&mut room).await? {
                TopicEvent::Opened(start) => {
                    assert_eq!(start, Start::Recovered);
                    recovered += 1;
                }
                TopicEvent::Message(message) => {
                    assert_eq!(message.data::<usize>()?, next);
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        Ok::<_, Error>(recovered)
    };
    let (written, recovered) = tokio::join!(writing, reading);
    written?;
    assert!(recovered? >= 10, "{} connections", cutter.connections());
    Ok(())
}

#[tokio::test]
async fn who_reads_too_slowly_reads_on_from_there_and_holds_up_nobody() -> TestResult {
    const MESSAGES: usize = 5_000;
    let server = TestServer::start(app()).await?;
    let (slow, quick, writer) = (server.client()?.connect()?, server.client()?.connect()?, server.client()?.connect()?);
    let (mut slowly, mut quickly) =
        (slow.topic("room:1", TopicOptions::default())?, quick.topic("room:1", TopicOptions::default())?);
    opened(&mut slowly).await?;
    opened(&mut quickly).await?;
    let mut heard = Vec::new();
    let publish = |number: usize| {
        let payload = Payload::json(number.to_string());
        writer.publish_raw("room:1", payload, CallOptions::within(PATIENCE))
    };
    for batch in (0..MESSAGES).collect::<Vec<_>>().chunks(100) {
        let sent = futures_util::future::join_all(batch.iter().map(|number| publish(*number))).await;
        sent.into_iter().collect::<Result<Vec<_>, _>>()?;
        for _ in batch {
            heard.push(said(&mut quickly).await?.position);
        }
    }
    // It had a place for 256.
    let mut next = heard.into_iter().peekable();
    while next.peek().is_some() {
        match event(&mut slowly).await? {
            TopicEvent::Opened(start) => assert_eq!(start, Start::Recovered),
            TopicEvent::Message(message) => assert_eq!(Some(message.position), next.next()),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_declared_or_not_permitted_is_refused_and_nothing_else() -> TestResult {
    let server = TestServer::start(app().auth(judge)).await?;
    let connect = |scopes: Option<&str>| server.client()?.auth(&("ann", scopes))?.connect();
    let refused = async |client: &Client, name: &str| match event(
        &mut client.topic(name, TopicOptions::default()).map_err(|error| error.to_string())?,
    )
    .await
    {
        Err(Error::ChannelClosed(code, _)) => Ok(Some(code)),
        Ok(TopicEvent::Opened(_)) => Ok(None),
        other => Err(format!("{other:?}")),
    };
    let publish = async |client: &Client, name: &str| match client.publish(name, &1).await {
        Err(Error::Failed(failure)) => Ok(Some(failure.code)),
        Ok(_) => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    let everything = connect(None)?;
    let rows = [
        ("room:1", None, None),
        ("room:staff", Some(Code::FORBIDDEN), None),
        ("room:", Some(Code::NO_SUCH_CHANNEL), Some(Code::NO_SUCH_CHANNEL)),
        ("elsewhere", Some(Code::NO_SUCH_CHANNEL), Some(Code::NO_SUCH_CHANNEL)),
    ];
    for (name, subscribed, published) in rows {
        assert_eq!(refused(&everything, name).await?, subscribed, "{name}");
        assert_eq!(publish(&everything, name).await?, published, "{name}");
    }
    let reader = connect(Some("topic.subscribe:room:*"))?;
    assert_eq!((refused(&reader, "room:1").await?, publish(&reader, "room:1").await?), (None, Some(Code::FORBIDDEN)));
    let writer = connect(Some("topic.publish:room:1"))?;
    assert_eq!((refused(&writer, "room:1").await?, publish(&writer, "room:1").await?), (Some(Code::FORBIDDEN), None));
    assert_eq!(publish(&writer, "room:2").await?, Some(Code::FORBIDDEN));
    Ok(())
}

#[tokio::test]
async fn who_becomes_somebody_else_follows_what_that_one_may() -> TestResult {
    let server = TestServer::start(app().auth(judge)).await?;
    let client = server.client()?.auth(&("ann", None::<String>))?.connect()?;
    let (mut one, mut two) =
        (client.topic("room:1", TopicOptions::default())?, client.topic("room:2", TopicOptions::default())?);
    opened(&mut one).await?;
    opened(&mut two).await?;
    let less = Credentials::data(Payload::json(r#"["ann", "topic.subscribe:room:2 topic.publish:room:*"]"#));
    client.authenticate(less).await?;
    assert!(matches!(event(&mut one).await, Err(Error::ChannelClosed(Code::FORBIDDEN, _))));
    client.publish("room:2", &1).await?;
    said(&mut two).await?;
    Ok(())
}

async fn at(directory: &Path, private: [u8; 32]) -> Result<TestServer, moorline_server::Error> {
    let app = app().topic("log:{id}", TopicPolicy::new().history(1_000, Duration::from_secs(3_600)));
    TestServer::start_again(app, private, |config| config.server.data_dir = directory.to_owned()).await
}

#[tokio::test]
async fn what_has_history_is_there_after_a_restart_and_who_comes_back_goes_on() -> TestResult {
    let directory = tempfile::tempdir()?;
    let private = moorline_tests::seed();
    let server = at(directory.path(), private).await?;
    let client = server.client()?.connect()?;
    let mut log = client.topic("log:1", TopicOptions::history(5))?;
    opened(&mut log).await?;
    let mut positions = Vec::new();
    for number in 0..10 {
        positions.push(client.publish("log:1", &number).await?);
        said(&mut log).await?;
    }
    let mut room = client.topic("room:1", TopicOptions::history(5))?;
    opened(&mut room).await?;
    client.publish("room:1", &"gone").await?;
    let of_room = said(&mut room).await?.position;
    client.close().await;
    server.stop().await?;

    let server = at(directory.path(), private).await?;
    let client = server.client()?.connect()?;
    let mut options = TopicOptions::history(5);
    options.since = Some(positions[3]);
    let mut log = client.topic("log:1", options.clone())?;
    assert_eq!(opened(&mut log).await?, Start::Recovered);
    for (number, position) in positions.into_iter().enumerate().skip(4) {
        let message = said(&mut log).await?;
        assert_eq!((message.data::<usize>()?, message.position), (number, position));
    }
    // What is kept in memory is another topic by now.
    options.since = Some(of_room);
    let mut room = client.topic("room:1", options)?;
    assert!(matches!(opened(&mut room).await?, Start::Gap(_)));
    Ok(())
}

#[tokio::test]
async fn a_message_with_a_key_is_published_once_however_often_it_is_sent() -> TestResult {
    let server = TestServer::start(app().auth(judge)).await?;
    let connect = |name: &str| server.client()?.auth(&(name, None::<String>))?.connect();
    let (ann, again, bob) = (connect("ann")?, connect("ann")?, connect("bob")?);
    let publish = async |client: &Client| {
        let mut options = CallOptions::within(PATIENCE);
        options.key = Some(Name::new("order 66").expect("a name"));
        client.publish_raw("room:1", Payload::json("1"), options).await
    };
    let first = publish(&ann).await?;
    assert_eq!(publish(&again).await?, first);
    assert_ne!(publish(&bob).await?, first, "another's key is another's");
    let mut room = ann.topic("room:1", TopicOptions::history(10))?;
    let heard = [said(&mut room).await?.position, said(&mut room).await?.position];
    assert_eq!(BTreeSet::from(heard).len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_handler_publishes_and_what_it_says_comes_before_its_reply() -> TestResult {
    async fn say(topics: Topics, Json(text): Json<String>) -> Result<Json<()>, Fail> {
        topics.publish("room:1", &text).await?;
        Ok(Json(()))
    }
    let schema = json!({ "type": "string", "maxLength": 5 });
    let app = Server::builder()
        .topic("room:{id}", TopicPolicy::new().publish(Guard::new().schema(&schema)))
        .handler("say", say);
    let server = TestServer::start(app).await?;
    let client = server.client()?.connect()?;
    let mut room = client.topic("room:1", TopicOptions::default())?;
    opened(&mut room).await?;
    client.call::<()>("say", &"hello").await?;
    let heard = tokio::time::timeout(Duration::ZERO, room.message()).await??;
    assert_eq!((text(&heard), heard.member, &*heard.subject), ("hello".to_owned(), MemberId::SERVER, ""));
    for (name, argument) in [("say", json!("far too long")), ("room:1", json!("far too long")), ("room:1", json!(7))] {
        let failed = match name {
            "say" => client.call::<Value>(name, &argument).await.map(drop),
            topic => client.publish(topic, &argument).await.map(drop),
        };
        assert!(matches!(failed, Err(Error::Failed(failure)) if failure.code == Code::INVALID_PARAMS));
    }
    Ok(())
}

#[tokio::test]
async fn many_who_publish_at_once_are_heard_by_all_in_one_order() -> TestResult {
    const WRITERS: usize = 8;
    const EACH: usize = 100;
    let server = TestServer::start(app()).await?;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let client = server.client()?.connect()?;
        let mut topic = client.topic("room:1", TopicOptions::default())?;
        opened(&mut topic).await?;
        readers.push(topic);
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client()?.connect()?;
        writers.spawn(async move {
            for number in 0..EACH {
                client.publish("room:1", &(writer, number)).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let mut orders = Vec::new();
    for mut reader in readers {
        let mut heard = Vec::new();
        while heard.len() < WRITERS * EACH {
            heard.push(said(&mut reader).await?.data::<(usize, usize)>()?);
        }
        orders.push(heard);
    }
    assert!(orders.iter().all(|order| *order == orders[0]));
    for writer in 0..WRITERS {
        assert!(orders[0].iter().filter(|(by, _)| *by == writer).map(|(_, number)| *number).eq(0..EACH));
    }
    Ok(())
}

#[tokio::test]
async fn a_topic_that_is_declared_wrong_stops_the_start() {
    for (app, said) in [
        (Server::builder().topic("room:{id", TopicPolicy::new()), "room:{id"),
        (Server::builder().topic("a", TopicPolicy::new().publish(Guard::new().scope("topics.x:y"))), "\"a\""),
    ] {
        let error = TestServer::start(app).await.err().expect("it does not start").to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn what_is_volatile_has_no_place_and_is_told_to_whoever_is_there() -> TestResult {
    let server = TestServer::start(app().auth(judge)).await?;
    let connect = |name: &str| server.client()?.auth(&(name, None::<String>))?.connect();
    let (ann, bob) = (connect("ann")?, connect("bob")?);
    let mut room = bob.topic("room:1", TopicOptions::default())?;
    let mut quiet = ann.topic("room:1", TopicOptions::default().quiet())?;
    opened(&mut room).await?;
    opened(&mut quiet).await?;
    ann.publish_volatile("room:1", &json!({ "x": 1 })).await?;
    let TopicEvent::Volatile(said) = event(&mut room).await? else { panic!("it is volatile") };
    assert_eq!((said.data::<Value>()?, &*said.subject), (json!({ "x": 1 }), "ann"));
    ann.publish("room:1", &"kept").await?;
    bob.publish("room:1", &"bob's").await?;
    // Its own neither as a message nor as what is volatile.
    assert_eq!(text(&said_by(&mut quiet).await?), "bob's");
    let mut late = ann.topic("room:1", TopicOptions::history(10))?;
    opened(&mut late).await?;
    assert_eq!(text(&said_by(&mut late).await?), "kept");
    let refused = ann.publish_volatile("room:1", &"x".repeat(20_000)).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    Ok(())
}

/// The next event, which must be a message.
async fn said_by(topic: &mut Topic) -> Result<TopicMessage, Error> {
    match event(topic).await? {
        TopicEvent::Message(message) => Ok(message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_past_is_read_page_by_page() -> TestResult {
    let server = TestServer::start(app()).await?;
    let ann = server.client()?.connect()?;
    for number in 0..60 {
        ann.publish("room:1", &number).await?;
    }
    let mut room = ann.topic("room:1", TopicOptions::history(10))?;
    opened(&mut room).await?;
    let mut before = said(&mut room).await?.position;
    let newest = room.history(None, 5).await?;
    assert_eq!(
        newest.messages.iter().map(|message| message.data().unwrap_or(-1)).collect::<Vec<i32>>(),
        [55, 56, 57, 58, 59]
    );
    let none = room.history(None, 0).await?;
    assert!(none.messages.is_empty() && none.more);
    let mut read = Vec::new();
    loop {
        let page = room.history(Some(before), 20).await?;
        let numbers: Vec<i32> = page.messages.iter().map(TopicMessage::data).collect::<Result<_, _>>()?;
        read.splice(0..0, numbers);
        before = page.messages[0].position;
        if !page.more {
            break;
        }
    }
    assert_eq!(read, (0..50).collect::<Vec<_>>());
    let elsewhere =
        moorline_protocol::channel::Position { epoch: moorline_protocol::channel::LogEpoch([9; 8]), ..before };
    let refused = room.history(Some(elsewhere), 5).await;
    assert!(matches!(&refused, Err(Error::Failed(failure)) if failure.code == Code::UNKNOWN_POSITION), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_topic_is_declared_once_by_the_program_or_by_the_configuration() {
    let twice = [
        (app().topic("room:*", TopicPolicy::new()), "", "the topics room:{id} and room:* are about the same names"),
        (
            app(),
            "[topics.'room:staff']",
            "the topic room:staff is declared twice: by the program and at line 1, column 9",
        ),
    ];
    for (app, file, said) in twice {
        let declared = Config::parse(file, "").expect("it reads").topics;
        let started = TestServer::start_with(app, |config| config.topics = declared).await;
        let error = started.err().expect("it does not start").to_string();
        assert!(error.starts_with(said) && error.ends_with("; leave one out"), "{error}");
    }
}

#[tokio::test]
async fn the_program_and_the_configuration_declare_side_by_side() -> TestResult {
    let file =
        "[topics.'log:{id}']\nsubscribe = { roles = ['staff'] }\n[topics.'room:quiet']\npublish = { scope = 'word' }";
    let declared = Config::parse(file, "")?.topics;
    let server = TestServer::start_with(app().auth(judge), |config| config.topics = declared).await?;
    let ann = server.client()?.auth(&("ann", None::<String>))?.connect()?;
    ann.publish("room:1", &1).await?;
    ann.publish("log:1", &1).await?;
    let mut log = ann.topic("log:1", TopicOptions::default())?;
    assert!(matches!(event(&mut log).await, Err(Error::ChannelClosed(Code::FORBIDDEN, _))));
    // A scope that is asked for is asked for of everybody with a list of them, and of who has none.
    let bob = server.client()?.auth(&("bob", Some("word")))?.connect()?;
    assert!(
        matches!(ann.publish("room:quiet", &1).await, Err(Error::Failed(failure)) if failure.code == Code::FORBIDDEN)
    );
    bob.publish("room:quiet", &1).await?;
    Ok(())
}
