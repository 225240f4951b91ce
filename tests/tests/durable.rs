//! What is kept is kept: a server that is killed again and again in the middle of everything.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use moorline_client::{Client, Error, Topic, TopicEvent, TopicOptions};
use moorline_protocol::{
    channel::{Offset, Position, Start},
    payload::{Name, Payload},
    session::CallOptions,
};
use moorline_tests::{TestResult, channels::hasty};
use tokio::{sync::watch, time::timeout};

/// How often it is killed.
const KILLS: usize = 200;
const WRITERS: usize = 8;
/// Messages of a writer that are under way at one time.
const BURST: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a process of its own. It ends with this.
struct Fixture {
    child: Child,
    port: u16,
    key: String,
}

impl Fixture {
    fn start(port: u16, directory: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fixture"))
            .args(["--port", &port.to_string(), "--topics", directory])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        let told: serde_json::Value = serde_json::from_str(&line)?;
        let text = |name: &str| told[name].as_str().ok_or_else(|| format!("no {name}: {line}"));
        let port = text("http")?.rsplit(':').next().ok_or("no port")?.parse()?;
        Ok(Self { port, key: text("key")?.to_owned(), child })
    }
}

impl Drop for Fixture {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(server: &Fixture) -> Result<Client, Error> {
    let url = format!("ws://127.0.0.1:{}/moorline", server.port);
    hasty(Client::builder(&url)?.server_key(&server.key)?).connect()
}

/// Publishes until nobody counts any more, each message with a key, so that it is sent again when the server has lost the
/// session. Gives where each is.
async fn write(client: Client, writer: usize, count: watch::Sender<usize>) -> Result<Vec<Position>, Error> {
    let mut acknowledged = Vec::new();
    while !count.is_closed() {
        let burst = (0..BURST).map(|number| {
            let number = acknowledged.len() + number;
            let mut options = CallOptions::within(PATIENCE);
            options.key = Some(Name::new(&format!("{writer} {number}")).expect("a name"));
            client.publish_raw("log:1", Payload::json(format!("[{writer},{number}]")), options)
        });
        let burst = futures_util::future::join_all(burst).await;
        acknowledged.append(&mut burst.into_iter().collect::<Result<Vec<_>, _>>()?);
        count.send_modify(|bursts| *bursts += 1);
    }
    Ok(acknowledged)
}

/// Reads everything up to a position, in order, once.
async fn read(mut log: Topic, upto: Offset) -> Result<BTreeMap<(usize, usize), Position>, Error> {
    let mut heard = BTreeMap::new();
    let mut last = Offset(0);
    while last < upto {
        match timeout(PATIENCE, log.next()).await.map_err(|_| Error::TimedOut)? {
            Some(Ok(TopicEvent::Message(message))) => {
                assert!(message.position.mark.offset > last, "in order");
                last = message.position.mark.offset;
                let number = message.data::<(usize, usize)>()?;
                assert_eq!(heard.insert(number, message.position), None, "{number:?} twice");
            }
            Some(Ok(TopicEvent::Opened(start))) => assert!(matches!(start, Start::New | Start::Recovered), "{start:?}"),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::Closed(None)),
        }
    }
    Ok(heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_in_order_and_once_however_often_the_server_is_killed() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().to_str().ok_or("the path is no text")?;
    let mut server = Fixture::start(0, path)?;
    let reader = client(&server)?;
    // From the first message on, whoever was there when.
    let mut log = reader.topic("log:1", TopicOptions::default())?;
    let opened = timeout(PATIENCE, log.next()).await?.ok_or("it ended")??;
    assert_eq!(opened, TopicEvent::Opened(Start::New));
    let (count, mut counted) = watch::channel(0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let writing = write(client(&server)?, writer, count.clone());
        writers.spawn(async move { (writer, writing.await) });
    }
    let port = server.port;
    for kill in 0..KILLS {
        // In the middle of the bursts of the others, sooner and later.
        let so_far = *counted.borrow();
        timeout(PATIENCE, counted.wait_for(|bursts| *bursts > so_far + kill % 7)).await??;
        drop(server);
        server = Fixture::start(port, path)?;
    }
    drop(counted);
    let mut acknowledged = BTreeMap::new();
    while let Some(written) = timeout(PATIENCE, writers.join_next()).await? {
        let (writer, positions) = written?;
        for (number, position) in positions?.into_iter().enumerate() {
            acknowledged.insert((writer, number), position);
        }
    }
    let last = acknowledged.values().map(|position| position.mark.offset).max().ok_or("nothing was written")?;
    let heard = read(log, last).await?;
    println!("{} messages over {KILLS} kills", acknowledged.len());
    assert!(acknowledged.len() >= KILLS, "too little was written in between");
    for (number, position) in &acknowledged {
        assert_eq!(heard.get(number), Some(position), "{number:?}");
    }
    assert_eq!(heard.len(), acknowledged.len(), "nothing that nobody wrote");
    drop(reader);
    Ok(())
}
