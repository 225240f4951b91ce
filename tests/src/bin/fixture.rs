//! A small server for the browser tests and Autobahn's: one handler for each thing that they look at.
//!
//! It prints one line of JSON, `{ "url", "http", "key" }`, and runs until SIGTERM or the end of its standard input, so
//! that it never outlives the test that started it.
//!
//! | flag | |
//! |---|---|
//! | `--port N` | default 0: a free one |
//! | `--key-seed N` | the identity, 1 to 255; default 1. The same number gives the same key |
//! | `--encryption off` | default on |
//! | `--public DIR` | static files |
//! | `--echo exact` or `flipped` | WebSockets at `/echo` that say everything back, for Autobahn |
//! | `--resume-window-ms N` | how long sessions wait for their client; default as the server's |
//! | `--toml TEXT` | a configuration instead of the tests' own, to which the other flags apply |
//! | `--allowed-origin ORIGIN`, `--public-url URL` | may stand several times; the latter lets everybody in |
//! | `--jwt-secret SECRET` | believes tokens of HS256 by this secret, without leeway, so that tests need not wait for it |
//! | `--shared-key KEY` | takes who has this key (`mlkey_…`), in the role `service`, and nobody without it |
//! | `--auth doorman` | an auth handler that takes a name: not an empty one |
//! | `--topics DIR` | topics with members: `log:{id}` and `short:{id}`, which keep everything and five messages in this data directory, and `room:{id}` in memory |
//! | `--stores DIR` | stores in this data directory: `notes/{id}`, and `small/{id}`, which have room for 4,000 bytes |
//! | `--guests on` | a handler that takes everybody, `lobby`: who shows nothing is a guest |

use std::{
    collections::BTreeMap,
    error::Error,
    io::Read as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, stream};
use moorline_protocol::{
    key::{Identity, StaticKey},
    payload::{Encoding, Payload},
    subject::{Subject, Tenant},
};
use moorline_server::{
    Admit, SendError,
    config::{JwtAlgorithm, Secret},
    prelude::*,
    testing::Echo,
};
use serde_json::{Value, json};
use tokio::{signal::unix, sync::oneshot};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { config, identity, echo, doorman, guests, topics, stores } = arguments(std::env::args().skip(1))?;
    let key = config.server.encryption.then(|| identity.public_keys().next().map(|key| key.to_string())).flatten();
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut builder = handlers(Server::builder()).config(config).identity(identity);
    if let Some(echo) = echo {
        builder = builder.echo(echo);
    }
    if doorman {
        builder = builder.auth(door);
    }
    if topics {
        let kept = |count| TopicPolicy::new().presence().history(count, Duration::from_secs(86_400));
        builder = builder.topic("log:{id}", kept(1_000_000));
        builder = builder.topic("short:{id}", kept(5));
        builder = builder.topic("room:{id}", TopicPolicy::new().presence());
    }
    if stores {
        builder = builder.store("notes/{id}", StorePolicy::new());
        builder = builder.store("small/{id}", StorePolicy::new().max_bytes(4_000));
        builder = builder.handler("contents", contents);
    }
    if guests {
        builder = builder.handler("lobby", lobby.skip_auth());
    }
    let server = builder.build().await?;
    let authority = server.local_addr();
    let (url, http) = (format!("ws://{authority}/moorline"), format!("http://{authority}"));
    println!("{}", json!({ "url": url, "http": http, "key": key }));

    let input_ends = end_of_input();
    server
        .serve(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = input_ends => {}
            }
        })
        .await?;
    Ok(())
}

/// Ready when whoever started us has gone. A thread, because standard input cannot be waited for otherwise.
fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, ends) = oneshot::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while input.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        ended.send(())
    });
    ends
}

struct Arguments {
    config: Config,
    identity: Identity,
    echo: Option<Echo>,
    doorman: bool,
    guests: bool,
    topics: bool,
    stores: bool,
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
    let mut flags = Vec::new();
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        flags.push((flag, value));
    }
    let toml = flags.iter().find(|(flag, _)| flag == "--toml");
    let mut config = toml.map_or_else(|| Ok(moorline_tests::unhurried()), |(_, text)| Config::parse(text, ""))?;
    config.server.listen = ([127, 0, 0, 1], 0).into();
    let (mut seed, mut echo) = (1, None);
    let (mut doorman, mut guests, mut topics, mut stores) = (false, false, false, false);
    for (flag, value) in flags {
        let server = &mut config.server;
        match flag.as_str() {
            "--toml" => {}
            "--port" => server.listen.set_port(value.parse()?),
            "--key-seed" => seed = value.parse()?,
            "--encryption" => server.encryption = value != "off",
            "--resume-window-ms" => config.session.resume_window = Duration::from_millis(value.parse()?),
            "--public" => server.public = Some(value.into()),
            "--echo" if value == "exact" => echo = Some(Echo::Exact),
            "--echo" if value == "flipped" => echo = Some(Echo::Flipped),
            "--allowed-origin" => server.allowed_origins.push(value.parse()?),
            "--public-url" => {
                server.public_urls.push(moorline_protocol::url::DialUrl::parse(&value)?);
                config.auth.anonymous = true;
            }
            "--jwt-secret" => {
                config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
                config.auth.jwt.secret = Some(Secret::new(&value));
                config.auth.jwt.leeway = Duration::ZERO;
            }
            "--shared-key" => {
                config.auth.shared_key.keys = Some(Secret::new(&value));
                config.auth.shared_key.role = Some("service".into());
                config.auth.shared_key.required = true;
            }
            "--auth" if value == "doorman" => doorman = true,
            "--guests" => guests = value == "on",
            "--topics" => {
                server.data_dir = value.into();
                topics = true;
            }
            "--stores" => {
                server.data_dir = value.into();
                stores = true;
            }
            unknown => return Err(format!("unknown flag {unknown}").into()),
        }
    }
    let identity = Identity::new(StaticKey::from_private([seed; 32]));
    Ok(Arguments { config, identity, echo, doorman, guests, topics, stores })
}

fn handlers(builder: ServerBuilder) -> ServerBuilder {
    builder
        .handler("echo", echo)
        .handler("reverse", reverse)
        .handler("describe", describe)
        .handler("bytes", bytes)
        .handler("double", double)
        .handler("hang", hang)
        .handler("once", once)
        .stream("ticks", ticks)
        .handler("fail", fail)
        .handler("broken", broken)
        .handler("panic", panics)
        .handler("whoami", whoami)
        .handler("who", who)
        .handler("say", say)
        .handler("ask", ask)
        .handler("read", read)
        .handler("close_me", close_me)
        .listener("note", note)
}

async fn echo(payload: Payload) -> Payload {
    payload
}

/// Only bytes come back the other way round.
async fn reverse(data: Bytes) -> Bytes {
    data.iter().rev().copied().collect()
}

/// What really arrived.
async fn describe(payload: Payload) -> Json<Value> {
    let encoding = match payload.encoding {
        Encoding::Bytes => "bytes",
        Encoding::Json => "json",
    };
    Json(json!({ "encoding": encoding, "length": payload.bytes.len() }))
}

/// As many bytes as asked for.
async fn bytes(Json(length): Json<usize>) -> Bytes {
    vec![7; length].into()
}

async fn double(Json(n): Json<i64>) -> Json<i64> {
    Json(2 * n)
}

/// Tells that it began, and that it was dropped, which is the only way it ends.
async fn hang(peer: Peer, Json(label): Json<Value>) -> Result<(), Fail> {
    struct TellDropped(Peer, Value);
    impl Drop for TellDropped {
        fn drop(&mut self) {
            // The connection may be what ended.
            let _ = self.0.notify("hang.dropped", &self.1);
        }
    }
    peer.notify("hang.started", &label)?;
    let _dropped = TellDropped(peer, label);
    std::future::pending().await
}

/// 0, 1, 2 and so on: as many as asked for, or without end. Tells how far it came when it is dropped.
async fn ticks(peer: Peer, Json(to): Json<Option<u64>>) -> impl Stream<Item = Result<u64, Fail>> {
    struct TellDropped(Peer, u64);
    impl Drop for TellDropped {
        fn drop(&mut self) {
            let _ = self.0.notify("ticks.dropped", &self.1);
        }
    }
    stream::unfold(TellDropped(peer, 0), move |mut state| async move {
        let n = state.1;
        if to == Some(n) {
            return None;
        }
        state.1 += 1;
        Some((if n == 500 { Err(Fail::new("enough", "500 are enough")) } else { Ok(n) }, state))
    })
}

/// How often it was called with this number, this time among them.
async fn once(Json(n): Json<u64>) -> Json<u64> {
    static CALLED: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());
    let mut called = CALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = called.entry(n).or_default();
    *times += 1;
    Json(*times)
}

/// Fails as it is told to.
async fn fail(Json(failure): Json<Value>) -> Result<(), Fail> {
    let text = |name: &str| failure[name].as_str().unwrap_or_default().to_owned();
    Err(Fail::new(&text("code"), text("message")).data(&failure["data"]))
}

async fn broken() -> Result<(), Fail> {
    Err(std::io::Error::other("the password is swordfish"))?;
    Ok(())
}

async fn panics() -> Json<i64> {
    panic!("a bug of the fixture's, on purpose")
}

async fn whoami(peer: Peer, peers: Peers) -> Json<Value> {
    Json(json!({ "id": peer.id().to_string(), "connected": peers.count() }))
}

/// Who the caller is by now, as the server has it.
async fn who(principal: Principal) -> Json<Value> {
    Json(json!({ "subject": principal.subject.name(), "role": principal.role }))
}

/// What guests may use.
async fn lobby() -> Json<&'static str> {
    Json("welcome")
}

/// What a store really has: `{ snapshot, patches }` in hex, without a snapshot `null`.
async fn contents(stores: Stores, Json(name): Json<String>) -> Result<Json<Value>, Fail> {
    let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let contents = stores.contents(&name).await?;
    let patches: Vec<_> = contents.patches.iter().map(hex).collect();
    Ok(Json(json!({ "snapshot": contents.snapshot.as_ref().map(hex), "patches": patches })))
}

/// Lets in whoever tells a name.
async fn door(attempt: Attempt) -> Result<Admit, Fail> {
    let name: String = attempt.data()?;
    if name.is_empty() {
        return Err(Fail::new("name_required", "Tell us your name first"));
    }
    let subject = Subject::new(Tenant::default(), &name).map_err(|error| Fail::new("bad_name", error.to_string()))?;
    Admit::new(Principal::new(subject)).with_data(&json!({ "welcome": name }))
}

/// A chat: everybody hears it, who said it too.
async fn say(peers: Peers, Json(message): Json<Value>) -> Result<(), Fail> {
    Ok(peers.broadcast("said", &message)?)
}

/// Calls back: `{ name, data, timeoutMs }`. Answers with what came of it.
async fn ask(peer: Peer, Json(question): Json<Value>) -> Json<Value> {
    let name = question["name"].as_str().unwrap_or_default();
    let timeout = Duration::from_millis(question["timeoutMs"].as_u64().unwrap_or(10_000));
    Json(match peer.call_within::<Value>(name, &question["data"], timeout).await {
        Ok(value) => json!({ "ok": value }),
        Err(SendError::Failed(failure)) => {
            let data = failure.data.as_ref().and_then(|data| serde_json::from_slice::<Value>(&data.bytes).ok());
            json!({ "failed": { "code": failure.name(), "message": failure.message, "data": data } })
        }
        Err(error) => json!({ "error": error.to_string() }),
    })
}

/// Reads a stream of the caller's: `{ name, data, take }`, to its end or so many items. Answers with what came of it.
async fn read(peer: Peer, Json(question): Json<Value>) -> Result<Json<Value>, Fail> {
    let name = question["name"].as_str().unwrap_or_default();
    let take = question["take"].as_u64().unwrap_or(u64::MAX);
    let mut stream = peer.stream::<Value>(name, &question["data"])?;
    let mut items = Vec::new();
    while (items.len() as u64) < take {
        match stream.next().await {
            Some(Ok(item)) => items.push(item),
            Some(Err(SendError::Failed(failure))) => {
                return Ok(Json(json!({ "items": items, "failed": failure.name() })));
            }
            Some(Err(error)) => return Ok(Json(json!({ "items": items, "error": error.to_string() }))),
            None => return Ok(Json(json!({ "items": items, "ended": true }))),
        }
    }
    Ok(Json(json!({ "items": items })))
}

async fn close_me(peer: Peer, Json(text): Json<String>) {
    peer.close(&text);
}

/// A notification comes back as one.
async fn note(peer: Peer, Json(value): Json<Value>) -> Result<(), Fail> {
    Ok(peer.notify("noted", &value)?)
}
