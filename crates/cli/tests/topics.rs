//! Topics that the configuration declares, and those that nobody has, by the built program.

mod support;

use std::{fs, time::Duration};

use moorline_client::{Client, Error, Topic, TopicMessage, TopicOptions, protocol::code::Code};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use support::{PATIENCE, Running, SERVE, TestResult, finished, moorline};

const ROOMS: &str = r#"
[topics."room:{id}"]
history = { count = 2, age = "7d" }
presence = true
publish = { schema_file = "said.json" }
[topics."news:*"]
publish = { roles = ["editor"] }
[topics.loud]
publish = { rate = "1/m" }
[auth]
anonymous = true
"#;

/// A directory with this configuration, and with the schema that it may name.
fn directory(config: &str) -> TestResult<TempDir> {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("moorline.toml"), config)?;
    fs::write(dir.path().join("said.json"), r#"{ "required": ["text"] }"#)?;
    Ok(dir)
}

fn client(server: &Running) -> TestResult<Client> {
    let url = format!("ws://{}/moorline", server.authority());
    Ok(Client::builder(&url)?.server_key(server.text("/identity/0"))?.connect()?)
}

async fn said(topic: &mut Topic) -> TestResult<TopicMessage> {
    Ok(timeout(PATIENCE, topic.message()).await??)
}

fn code<T>(result: Result<T, Error>) -> Code {
    match result {
        Err(Error::Failed(failure)) => failure.code,
        Err(Error::ChannelClosed(code, _)) => code,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it worked"),
    }
}

#[tokio::test]
async fn topics_of_the_configuration_are_served_as_they_are_declared() -> TestResult {
    let dir = directory(ROOMS)?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let counts = json!({ "declared": 3, "with_history": 1, "with_presence": 1, "undeclared": false });
    assert_eq!(server.banner["topics"], counts);
    assert_eq!(server.text("/channels"), "moorline-data/channels.sqlite");
    let ann = client(&server)?;
    let mut room = ann.topic("room:1", TopicOptions::history(1))?;
    for number in 0..3 {
        ann.publish("room:1", &json!({ "text": number })).await?;
        assert_eq!(said(&mut room).await?.data::<Value>()?, json!({ "text": number }));
    }
    assert_eq!(code(ann.publish("room:1", &json!({})).await), Code::INVALID_PARAMS);
    assert_eq!(code(ann.publish("news:1", &1).await), Code::FORBIDDEN);
    ann.publish("loud", &1).await?;
    assert_eq!(code(ann.publish("loud", &1).await), Code::TOO_MANY_REQUESTS);
    assert_eq!(code(ann.publish("rooms:1", &1).await), Code::NO_SUCH_CHANNEL);
    ann.close().await;
    drop(server);
    // The history outlives the server, and the two newest of it are all that was to be kept.
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let bob = client(&server)?;
    let mut room = bob.topic("room:1", TopicOptions::history(10))?;
    for number in 1..3 {
        let message = said(&mut room).await?;
        assert_eq!((message.data::<Value>()?, message.before), (json!({ "text": number }), true));
    }
    Ok(())
}

#[tokio::test]
async fn in_development_undeclared_topics_are_made_and_the_log_says_what_declares_them() -> TestResult {
    let dir = directory("")?;
    let server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--dev"]].concat()))?;
    assert_eq!(server.banner["topics"]["undeclared"], json!(true));
    let ann = client(&server)?;
    let mut room = ann.topic("room:lobby", TopicOptions::history(1))?;
    ann.publish("room:lobby", &"hello").await?;
    assert_eq!(said(&mut room).await?.data::<String>()?, "hello");
    let line: Value = serde_json::from_str(&server.next_with(&["is not declared"])?)?;
    let message = line["message"].as_str().ok_or("no message")?;
    let (said, lines) = message.split_once("moorline.toml:\n").ok_or(message)?;
    assert_eq!(
        said,
        "the topic \"room:lobby\" is not declared; it is made because of --dev. To have it without, add to "
    );
    // Once for its kind.
    ann.publish("room:kitchen", &"hello").await?;
    ann.publish("game:7:moves", &"hello").await?;
    let next: Value = serde_json::from_str(&server.next_with(&["is not declared"])?)?;
    assert!(next["message"].as_str().is_some_and(|text| text.contains("[topics.\"game:{id}:moves\"]")), "{next}");
    assert_eq!(code(ann.publish("room:", &1).await), Code::NO_SUCH_CHANNEL);
    ann.close().await;
    drop(server);
    // What it said does.
    fs::write(dir.path().join("moorline.toml"), lines)?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let ann = client(&server)?;
    ann.publish("room:kitchen", &"hello").await?;
    assert_eq!(code(ann.publish("game:7:moves", &1).await), Code::NO_SUCH_CHANNEL);
    Ok(())
}

/// Whoever lets others in has not asked them to make topics.
#[tokio::test]
async fn beyond_this_machine_development_makes_no_topics_and_says_so() -> TestResult {
    let dir = directory("[auth]\nanonymous = true")?;
    let server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--dev"]].concat()))?;
    let warned = server.banner["warnings"].to_string();
    assert!(warned.contains("do not exist in spite of --dev"), "{warned}");
    let ann = client(&server)?;
    assert_eq!(code(timeout(Duration::from_secs(20), ann.publish("room:1", &1)).await?), Code::NO_SUCH_CHANNEL);
    Ok(())
}

#[test]
fn a_topic_that_is_declared_wrong_keeps_it_from_starting() -> TestResult {
    for (config, expected) in [
        (
            "[topics.\"room:{id}\"]\n[topics.\"room:*\"]",
            "error: the topics room:{id} and room:* are about the same names: at moorline.toml:1:9 and at \
             moorline.toml:2:9; leave one out\n",
        ),
        (
            "[topics.a]\npublish = { schema_file = 'none.json' }",
            "error: moorline.toml:1:9: publish.schema_file: none.json cannot be read\n",
        ),
        ("[topics.a]\npublish = { schema_file = 'moorline.toml' }", "moorline.toml is not JSON: "),
        ("[topics.a]\npublish = { schema_file = 'bad.json' }", "bad.json is no JSON Schema: "),
        ("[topics.a]\nhistory = { age = '7 days' }", "error: moorline.toml:2:19: [topics.\"a\"] history.age: "),
    ] {
        let dir = directory(config)?;
        fs::write(dir.path().join("bad.json"), r#"{ "type": "sting" }"#)?;
        let (code, _, errors) = finished(&mut moorline(dir.path(), SERVE))?;
        assert_eq!(code, Some(1));
        assert!(errors.contains(expected), "{errors}");
    }
    Ok(())
}
