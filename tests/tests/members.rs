//! Who is in a topic, and what is sent to one of them alone, between native clients and a real server.

use std::time::Duration;

use moorline_client::{Error, Topic, TopicEvent, TopicOptions};
use moorline_protocol::{
    channel::{Presence, Start},
    code::Code,
};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    channels::{event, hasty, judge, opened, text},
    cutter::{Cutter, Direction, Harm, Place},
};
use serde_json::{Value, json};

/// Rooms that have members.
fn rooms() -> ServerBuilder {
    Server::builder().auth(judge).topic("room:{id}", TopicPolicy::new().presence())
}

/// Waits until the members are these: the subject of each, with `~` before those who are away.
async fn members(topic: &mut moorline_client::Topic, expected: &[&str]) -> Result<(), Error> {
    loop {
        let members = topic.members();
        let mut names: Vec<_> = members
            .iter()
            .map(|member| {
                let away = matches!(member.presence, Presence::Away(_));
                format!("{}{}", if away { "~" } else { "" }, member.subject)
            })
            .collect();
        names.sort();
        if names == expected {
            return Ok(());
        }
        event(topic).await?;
    }
}

/// The next that was said to this client alone.
async fn direct(topic: &mut Topic) -> Result<(String, String), Error> {
    loop {
        if let TopicEvent::Direct(said) = event(topic).await? {
            return Ok((said.data()?, said.subject));
        }
    }
}

#[tokio::test]
async fn members_come_are_away_while_they_are_cut_off_come_back_and_leave() -> TestResult {
    let server = TestServer::start(rooms()).await?;
    let connect = |name: &str| server.client()?.auth(&(name, None::<String>))?.connect();
    let (ann, eve) = (connect("ann")?, connect("eve")?);
    let mut watching = ann.topic("room:1", TopicOptions::default().members())?;
    opened(&mut watching).await?;
    // Who says nothing for itself is none.
    members(&mut watching, &[]).await?;
    let cutter = Cutter::start(server.address(), |_| Harm::None).await?;
    let bob = hasty(server.client_at(&cutter.url())?).auth(&("bob", None::<String>))?.connect()?;
    let mut room = bob.topic("room:1", TopicOptions::default().members().presence(&json!({ "color": "red" }))?)?;
    opened(&mut room).await?;
    let mut other = eve.topic("room:1", TopicOptions::default().presence(&1)?)?;
    opened(&mut other).await?;
    members(&mut watching, &["bob", "eve"]).await?;
    members(&mut room, &["bob", "eve"]).await?;
    let said = |watching: &Topic| {
        let members = watching.members();
        let bob = members.iter().find(|member| member.subject == "bob").expect("he is there").clone();
        (serde_json::from_slice::<Value>(&bob.data.bytes).expect("JSON"), bob)
    };
    let (data, bob_was) = said(&watching);
    assert_eq!(data, json!({ "color": "red" }));
    assert!(bob_was.joined.0 > 1_700_000_000_000);
    room.present(&json!({ "color": "blue" })).await?;
    while said(&watching).0 != json!({ "color": "blue" }) {
        event(&mut watching).await?;
    }
    // Away while it is not there, and the same member when it is back, with what it said last.
    cutter.close().await;
    members(&mut watching, &["eve", "~bob"]).await?;
    cutter.open();
    members(&mut watching, &["bob", "eve"]).await?;
    let (data, bob_is) = said(&watching);
    assert_eq!((data, bob_is.id, bob_is.joined), (json!({ "color": "blue" }), bob_was.id, bob_was.joined));
    // It does not listen any more, and is told of no longer.
    drop(other);
    members(&mut watching, &["bob"]).await?;
    bob.close().await;
    members(&mut watching, &[]).await?;
    Ok(())
}

/// Its channel was closed and opened again, for all the others to see.
#[tokio::test]
async fn regression_who_reads_too_slowly_is_not_seen_to_leave() -> TestResult {
    const MESSAGES: usize = 1_500;
    let server = TestServer::start(rooms()).await?;
    let connect = |name: &str| server.client()?.auth(&(name, None::<String>))?.connect();
    let (ann, bob) = (connect("ann")?, connect("bob")?);
    let mut watching = ann.topic("room:1", TopicOptions::default().members())?;
    opened(&mut watching).await?;
    let mut slow = bob.topic("room:1", TopicOptions::default().members().presence(&1)?)?;
    opened(&mut slow).await?;
    members(&mut watching, &["bob"]).await?;
    members(&mut slow, &["bob"]).await?;
    let quick = async |watching: &mut Topic, number: usize| {
        ann.publish("room:1", &number).await?;
        // Nothing is said of members in between.
        match event(watching).await? {
            TopicEvent::Message(message) => assert_eq!(message.data::<usize>()?, number),
            other => panic!("{other:?}"),
        }
        Ok::<_, Error>(())
    };
    for number in 0..MESSAGES {
        quick(&mut watching, number).await?;
    }
    let (mut next, mut paused) = (0, 0);
    while next < MESSAGES {
        match event(&mut slow).await? {
            TopicEvent::Message(message) => {
                assert_eq!(message.data::<usize>()?, next);
                next += 1;
            }
            TopicEvent::Opened(start) => {
                assert_eq!(start, Start::Recovered);
                paused += 1;
            }
            TopicEvent::Members => assert_eq!(slow.members().len(), 1),
            other => panic!("{other:?}"),
        }
    }
    assert!(paused > 0, "it was never too slow");
    quick(&mut watching, MESSAGES).await?;
    drop(slow);
    members(&mut watching, &[]).await?;
    Ok(())
}

/// A client that came back without following a topic stayed there, away, for as long as its session lasted.
#[tokio::test]
async fn who_comes_back_and_does_not_take_its_place_leaves() -> TestResult {
    let server = TestServer::start(rooms()).await?;
    let ann = server.client()?.auth(&("ann", None::<String>))?.connect()?;
    let mut watching = ann.topic("room:1", TopicOptions::default().members())?;
    opened(&mut watching).await?;
    let cutter = Cutter::start(server.address(), |_| Harm::None).await?;
    let bob = hasty(server.client_at(&cutter.url())?).auth(&("bob", None::<String>))?.connect()?;
    let mut room = bob.topic("room:1", TopicOptions::default().presence(&1)?)?;
    opened(&mut room).await?;
    members(&mut watching, &["bob"]).await?;
    cutter.close().await;
    members(&mut watching, &["~bob"]).await?;
    drop(room);
    cutter.open();
    members(&mut watching, &[]).await?;
    assert!(bob.ready().await?.resumed);
    Ok(())
}

#[tokio::test]
async fn what_is_sent_to_one_reaches_it_alone_also_when_it_was_away() -> TestResult {
    let server = TestServer::start(rooms()).await?;
    let connect = |name: &str| server.client()?.auth(&(name, None::<String>))?.connect();
    let (ann, eve) = (connect("ann")?, connect("eve")?);
    let cutter = Cutter::start(server.address(), |_| Harm::None).await?;
    let bob = hasty(server.client_at(&cutter.url())?).auth(&("bob", None::<String>))?.connect()?;
    let mut here = ann.topic("room:1", TopicOptions::default().members().presence(&1)?)?;
    let mut there = bob.topic("room:1", TopicOptions::default().presence(&1)?)?;
    let mut elsewhere = eve.topic("room:1", TopicOptions::default().presence(&1)?)?;
    for topic in [&mut here, &mut there, &mut elsewhere] {
        opened(topic).await?;
    }
    members(&mut here, &["ann", "bob", "eve"]).await?;
    let member = here.members().iter().find(|member| member.subject == "bob").expect("he is there").id;
    here.send_to(member, &"offer").await?;
    assert_eq!(direct(&mut there).await?, ("offer".to_owned(), "ann".to_owned()));
    cutter.close().await;
    members(&mut here, &["ann", "eve", "~bob"]).await?;
    for candidate in 0..20 {
        here.send_to(member, &candidate.to_string()).await?;
    }
    cutter.open();
    for candidate in 0..20 {
        assert_eq!(direct(&mut there).await?.0, candidate.to_string());
    }
    // Nobody else has heard of it.
    ann.publish("room:1", &"end").await?;
    loop {
        match event(&mut elsewhere).await? {
            TopicEvent::Message(message) => break assert_eq!(text(&message), "end"),
            TopicEvent::Direct(said) => panic!("{said:?}"),
            _ => {}
        }
    }
    bob.close().await;
    members(&mut here, &["ann", "eve"]).await?;
    let refused = here.send_to(member, &"too late").await;
    assert!(matches!(&refused, Err(Error::Failed(failure)) if failure.code == Code::NO_SUCH_MEMBER), "{refused:?}");
    Ok(())
}

/// What was open on a connection stayed open when a newer one fenced it and it had not ended by itself.
#[tokio::test]
async fn regression_a_fenced_connection_leaves_nobody_in_a_topic() -> TestResult {
    let server = TestServer::start(rooms()).await?;
    let ann = server.client()?.auth(&("ann", None::<String>))?.connect()?;
    let mut watching = ann.topic("room:1", TopicOptions::default().members())?;
    opened(&mut watching).await?;
    // The client finds out that nothing comes any more; the server does not.
    let cutter = Cutter::start(server.address(), |number| {
        let place = Place { direction: Direction::Down, after: 6_000 };
        if number == 0 { Harm::Freeze(place) } else { Harm::None }
    })
    .await?;
    let client = hasty(server.client_at(&cutter.url())?).configure(|config| {
        (config.heartbeat.idle, config.heartbeat.grace) = (Duration::from_millis(300), Duration::from_millis(300));
    });
    let bob = client.auth(&("bob", None::<String>))?.connect()?;
    let mut room = bob.topic("room:1", TopicOptions::default().presence(&1)?)?;
    opened(&mut room).await?;
    members(&mut watching, &["bob"]).await?;
    ann.publish("room:1", &"x".repeat(10_000)).await?;
    while cutter.connections() < 2 {
        tokio::task::yield_now().await;
    }
    drop(room);
    members(&mut watching, &[]).await?;
    Ok(())
}

/// Whoever may publish could fill what is kept for one who was away, so that the server's next broadcast gave its session
/// up.
#[tokio::test]
async fn regression_what_members_send_costs_nobody_its_session() -> TestResult {
    let server = TestServer::start(rooms()).await?;
    let ann = server.client()?.auth(&("ann", None::<String>))?.connect()?;
    let cutter = Cutter::start(server.address(), |_| Harm::None).await?;
    let bob = hasty(server.client_at(&cutter.url())?).auth(&("bob", None::<String>))?.connect()?;
    let mut here = ann.topic("room:1", TopicOptions::default().members())?;
    let mut there = bob.topic("room:1", TopicOptions::default().presence(&1)?)?;
    opened(&mut there).await?;
    opened(&mut here).await?;
    members(&mut here, &["bob"]).await?;
    let member = here.members()[0].id;
    cutter.close().await;
    members(&mut here, &["~bob"]).await?;
    let mut sent = 0;
    let refused = loop {
        match here.send_to(member, &"x".repeat(10_000)).await {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, Error::Failed(failure) if failure.code == Code::BACKPRESSURE), "{refused:?}");
    assert!((10..30).contains(&sent), "{sent}");
    // The server has the rest.
    for _ in 0..40 {
        server.peers.broadcast("news", &"x".repeat(10_000))?;
    }
    cutter.open();
    for _ in 0..sent {
        direct(&mut there).await?;
    }
    assert!(bob.ready().await?.resumed);
    Ok(())
}
