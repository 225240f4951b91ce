//! Calls and notifications between the native client and a real server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use moorline_client::Error;
use moorline_protocol::{
    code::Code,
    frame::Failure,
    payload::{Name, Payload},
    record::Suite,
    session::CallOptions,
};
use moorline_server::prelude::*;
use moorline_tests::{TestResult, TestServer};
use tokio::sync::{mpsc, oneshot};

async fn double(Json(n): Json<i64>) -> Json<i64> {
    Json(2 * n)
}

#[tokio::test]
async fn a_call_is_answered_under_either_suite_and_without_encryption() -> TestResult {
    for suite in [Some(Suite::Aes256Gcm), Some(Suite::ChaCha20Poly1305), None] {
        let app = Server::builder().handler("double", double);
        let server = TestServer::start_with(app, |config| config.server.encryption = suite.is_some()).await?;
        let client = server.client()?.encryption(suite).connect()?;
        assert_eq!(client.call::<i64>("double", &21).await?, 42);
        assert_eq!(client.ready().await?.suite, suite);
        client.close().await;
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_key_is_discovered_where_none_is_pinned() -> TestResult {
    let server = TestServer::start(Server::builder()).await?;
    let client = moorline_client::Client::builder(&server.url())?.connect()?;
    let session = client.ready().await?;
    assert_eq!(session.trust.name(), "discovered");
    assert_eq!(session.server_key.map(|key| key.to_string()).as_deref(), Some(server.key()));
    Ok(())
}

/// A call with a key goes on when its caller gives it up, and did not count from then on: whoever called and cancelled had
/// any number of handlers running.
#[tokio::test]
async fn regression_calls_with_a_key_that_were_given_up_count_while_they_run() -> TestResult {
    const MOST: usize = 4;
    let running = Arc::new(AtomicUsize::new(0));
    let count = running.clone();
    let (open, gate) = tokio::sync::watch::channel(false);
    let pay = move || {
        let (count, mut gate) = (count.clone(), gate.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = gate.wait_for(|open| *open).await;
        }
    };
    let app = Server::builder().handler("pay", pay).handler("double", double);
    let server = TestServer::start_with(app, |config| config.limits.calls_in_flight = MOST).await?;
    let client = server.client()?.connect()?;
    let pay = async |key: usize| {
        let mut options = CallOptions::within(Duration::from_secs(20));
        options.key = Some(Name::new(&key.to_string()).expect("a name"));
        client.call_raw("pay", Payload::json("null"), options).await
    };
    for key in 0..MOST {
        // Given up as soon as it runs.
        let began = async {
            while running.load(Ordering::SeqCst) <= key {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            paid = pay(key) => return Err(format!("{paid:?}").into()),
            () = began => {}
        }
    }
    // What was given up is cancelled by now, since it went before.
    assert_eq!(client.call::<i64>("double", &4).await?, 8);
    let refused = pay(MOST).await;
    assert!(matches!(&refused, Err(Error::Failed(failure)) if failure.code == Code::TOO_MANY_CALLS), "{refused:?}");
    assert_eq!(running.load(Ordering::SeqCst), MOST);
    open.send(true)?;
    let again = async { while pay(MOST).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), again).await?;
    Ok(())
}

#[tokio::test]
async fn failures_reach_the_caller_with_code_text_and_data_but_never_an_inner_error() -> TestResult {
    async fn refuse() -> Result<(), Fail> {
        Err(Fail::new("illegal_move", "Move 3 is not allowed").data(&3))
    }
    async fn broken() -> Result<(), Fail> {
        Err(std::io::Error::other("the password is swordfish"))?;
        Ok(())
    }
    async fn panics() -> Json<i64> {
        panic!("a bug")
    }
    let app = Server::builder()
        .handler("refuse", refuse)
        .handler("broken", broken)
        .handler("panics", panics)
        .handler("double", double);
    let server = TestServer::start(app).await?;
    let client = server.client()?.connect()?;
    fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> Failure {
        match result {
            Err(Error::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
    let refused = failure(client.call::<()>("refuse", &()).await);
    assert_eq!((refused.name().as_str(), refused.message.as_str()), ("illegal_move", "Move 3 is not allowed"));
    assert_eq!(refused.data.as_ref().map(|data| &data.bytes[..]), Some(b"3".as_slice()));
    let broken = failure(client.call::<()>("broken", &()).await);
    assert_eq!((broken.code, broken.message.as_str()), (Code::INTERNAL, ""));
    assert_eq!(failure(client.call::<i64>("panics", &()).await).code, Code::INTERNAL);
    assert_eq!(failure(client.call::<i64>("missing", &()).await).code, Code::NOT_FOUND);
    let wrong = failure(client.call::<i64>("double", &"two").await);
    assert_eq!(wrong.code, Code::INVALID_PARAMS);
    assert!(wrong.message.contains("expected i64"), "{}", wrong.message);
    // The connection has taken no harm.
    assert_eq!(client.call::<i64>("double", &4).await?, 8);
    Ok(())
}

#[tokio::test]
async fn what_a_handler_sends_arrives_before_its_reply() -> TestResult {
    async fn bump(peers: Peers, Json(n): Json<u64>) -> Result<(), Fail> {
        peers.broadcast("bumped", &n)?;
        Ok(())
    }
    let server = TestServer::start(Server::builder().handler("bump", bump)).await?;
    let client = server.client()?.connect()?;
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    client.listen("bumped", move |_: u64| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    });
    for n in 1..=200usize {
        client.call::<()>("bump", &n).await?;
        assert_eq!(heard.load(Ordering::SeqCst), n);
    }
    Ok(())
}

#[tokio::test]
async fn the_server_calls_the_client_and_notifies_one_or_all() -> TestResult {
    async fn ask(peer: Peer) -> Result<Json<String>, Fail> {
        let name: String = peer.call("name", &()).await?;
        peer.notify("heard", &name)?;
        Ok(Json(name))
    }
    let server = TestServer::start(Server::builder().handler("ask", ask)).await?;
    let (ann, bob) = (server.client()?.connect()?, server.client()?.connect()?);
    let (heard, mut hears) = mpsc::channel(64);
    for (client, name) in [(&ann, "ann"), (&bob, "bob")] {
        client.handle("name", move |()| std::future::ready(Ok(name)));
        let heard = heard.clone();
        client.listen("heard", move |text: String| {
            let _ = heard.try_send((name, text));
            std::future::ready(())
        });
        assert_eq!(client.call::<String>("ask", &()).await?, name);
    }
    assert_eq!(hears.recv().await, Some(("ann", "ann".into())));
    assert_eq!(hears.recv().await, Some(("bob", "bob".into())));
    server.peers.broadcast("heard", &"all")?;
    let mut everybody = [hears.recv().await, hears.recv().await];
    everybody.sort();
    assert_eq!(everybody, [Some(("ann", "all".into())), Some(("bob", "all".into()))]);
    let id = ann.ready().await?.id;
    server.peers.send_to(id, "heard", &"one")?;
    assert_eq!(hears.recv().await, Some(("ann", "one".into())));
    Ok(())
}

#[tokio::test]
async fn a_cancelled_call_drops_the_handlers_future() -> TestResult {
    struct OnDrop(Option<oneshot::Sender<()>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.take().map(|dropped| dropped.send(()));
        }
    }
    #[derive(Clone)]
    struct App(mpsc::Sender<oneshot::Receiver<()>>);
    async fn hang(State(app): State<App>) {
        let (dropped, is_dropped) = oneshot::channel();
        let _guard = OnDrop(Some(dropped));
        let _ = app.0.try_send(is_dropped);
        std::future::pending::<()>().await;
    }
    let (started, mut starts) = mpsc::channel(64);
    let server = TestServer::start(Server::builder().with_state(App(started)).handler("hang", hang)).await?;
    let client = server.client()?.connect()?;

    // By the caller's dropping of the future,
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call::<()>("hang", &()).await }
    });
    let dropped = starts.recv().await.ok_or("not started")?;
    call.abort();
    dropped.await?;
    // by its timeout,
    let result = client.call_within::<()>("hang", &(), Duration::from_millis(20)).await;
    assert!(matches!(result, Err(Error::TimedOut)), "{result:?}");
    starts.recv().await.ok_or("not started")?.await?;
    // and by the end of the connection.
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call::<()>("hang", &()).await }
    });
    let dropped = starts.recv().await.ok_or("not started")?;
    client.close().await;
    dropped.await?;
    assert!(matches!(call.await?, Err(Error::Unknown)));
    Ok(())
}

#[tokio::test]
async fn hooks_run_once_for_every_connection() -> TestResult {
    #[derive(Clone)]
    struct Seen(mpsc::Sender<(&'static str, usize)>);
    async fn came(State(seen): State<Seen>, peers: Peers) {
        let _ = seen.0.try_send(("came", peers.count()));
    }
    async fn went(State(seen): State<Seen>, peers: Peers) {
        let _ = seen.0.try_send(("went", peers.count()));
    }
    let (seen, mut sees) = mpsc::channel(64);
    let server =
        TestServer::start(Server::builder().with_state(Seen(seen)).on_connect(came).on_disconnect(went)).await?;
    let client = server.client()?.connect()?;
    assert_eq!(sees.recv().await, Some(("came", 1)));
    client.close().await;
    assert_eq!(sees.recv().await, Some(("went", 0)));
    server.stop().await?;
    assert_eq!(sees.recv().await, None);
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_says_good_bye_and_the_client_finds_the_next() -> TestResult {
    let server = TestServer::start(Server::builder().handler("double", double)).await?;
    let address = server.address();
    let client = server.client()?.connect()?;
    client.ready().await?;
    let status = client.clone();
    let lost = tokio::spawn(async move {
        status
            .wait_for(|status| matches!(status, moorline_protocol::client::Status::Connecting { error: Some(_), .. }))
            .await
    });
    server.stop().await?;
    let moorline_protocol::client::Status::Connecting { error: Some(error), .. } = lost.await?? else {
        return Err("no error".into());
    };
    assert_eq!(error.code, Code::GOING_AWAY);
    assert!(error.reference.is_some(), "it was sealed");

    // A new server, with another key, at the same address: a client without a pin finds its way.
    let finder = moorline_client::Client::builder(&format!("ws://{address}/moorline"))?.connect()?;
    let app = Server::builder().handler("double", double);
    let _next = TestServer::start_with(app, |config| config.server.listen = address).await?;
    assert_eq!(finder.call::<i64>("double", &1).await?, 2);
    // The one with the pin names what is wrong.
    let changed = |status: &moorline_protocol::client::Status| {
        matches!(status, moorline_protocol::client::Status::Connecting { error: Some(error), .. }
            if error.code == Code::SERVER_KEY_CHANGED)
    };
    client.wait_for(changed).await?;
    Ok(())
}
