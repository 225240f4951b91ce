//! Streams of a server's handler, read by the native client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use moorline_client::Error;
use moorline_protocol::{code::Code, limits::DEFAULT_CREDIT};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    cutter::{Cutter, Direction::Down, Harm, Place},
    raw::PATIENCE,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

async fn count(Json(to): Json<u64>) -> impl Stream<Item = Result<u64, Fail>> {
    stream::iter((0..to).map(Ok))
}

/// How far a handler has come.
#[derive(Clone, Default)]
struct Reached(Arc<AtomicU64>);

async fn endless(State(reached): State<Reached>) -> impl Stream<Item = Result<u64, Fail>> {
    stream::iter(0u64..).map(move |number| {
        reached.0.store(number, Ordering::SeqCst);
        Ok(number)
    })
}

#[tokio::test]
async fn items_come_in_order_and_the_end_ends_the_loop() -> TestResult {
    let server = TestServer::start(Server::builder().stream("count", count)).await?;
    let client = server.client()?.connect()?;
    for to in [0, 1, 1_000] {
        let mut items = client.stream::<u64>("count", &to).await?;
        let mut got = Vec::new();
        while let Some(item) = items.next().await {
            got.push(item?);
        }
        assert_eq!(got, (0..to).collect::<Vec<_>>());
        assert!(items.next().await.is_none(), "it stays over");
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_is_not_ahead_of_its_reader_by_more_than_it_takes() -> TestResult {
    let reached = Reached::default();
    let app = Server::builder().with_state(reached.clone()).stream("endless", endless).handler("here", || async {});
    let server = TestServer::start(app).await?;
    let client = server.client()?.connect()?;
    let mut items = client.stream::<u64>("endless", &()).await?;
    for expected in 0..300 {
        assert_eq!(items.next().await.ok_or("it ended")??, expected);
    }
    // Whatever was allowed has come once a call has gone there and back.
    client.call::<()>("here", &()).await?;
    let ahead = reached.0.load(Ordering::SeqCst) - 299;
    assert!(ahead <= DEFAULT_CREDIT + 1, "{ahead} items ahead");
    Ok(())
}

#[tokio::test]
async fn leaving_the_loop_drops_the_servers_stream() -> TestResult {
    struct OnDrop(Option<oneshot::Sender<()>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.take().map(|dropped| dropped.send(()));
        }
    }
    #[derive(Clone)]
    struct App(mpsc::Sender<oneshot::Receiver<()>>);
    async fn hangs(State(app): State<App>) -> impl Stream<Item = Result<u64, Fail>> {
        let (dropped, is_dropped) = oneshot::channel();
        let guard = OnDrop(Some(dropped));
        let _ = app.0.try_send(is_dropped);
        stream::iter([Ok(1)]).chain(stream::once(async move {
            let _guard = guard;
            std::future::pending().await
        }))
    }
    let (started, mut starts) = mpsc::channel(4);
    let server = TestServer::start(Server::builder().with_state(App(started)).stream("hangs", hangs)).await?;
    let client = server.client()?.connect()?;
    let mut items = client.stream::<u64>("hangs", &()).await?;
    assert_eq!(items.next().await.ok_or("it ended")??, 1);
    let dropped = starts.recv().await.ok_or("not started")?;
    drop(items);
    dropped.await?;
    Ok(())
}

#[tokio::test]
async fn errors_and_panics_end_a_stream_and_only_it() -> TestResult {
    async fn fails() -> impl Stream<Item = Result<u64, Fail>> {
        stream::iter([Ok(1), Err(Fail::new("broken", "It broke")), Ok(2)])
    }
    async fn panics() -> impl Stream<Item = Result<u64, Fail>> {
        stream::iter([1, 2]).map(|number| if number == 2 { panic!("a bug") } else { Ok(number) })
    }
    let app = Server::builder().stream("fails", fails).stream("panics", panics).stream("count", count);
    let server = TestServer::start(app.handler("once", || async { Json(1) })).await?;
    let client = server.client()?.connect()?;
    for (name, expected) in [("fails", "broken"), ("panics", "internal")] {
        let mut items = client.stream::<u64>(name, &()).await?;
        assert_eq!(items.next().await.ok_or("it ended")??, 1);
        match items.next().await {
            Some(Err(Error::Failed(failure))) => assert_eq!(failure.name(), expected),
            other => return Err(format!("{name}: {other:?}").into()),
        }
        assert!(items.next().await.is_none());
    }
    // Whoever asks in the wrong way is told.
    let called = client.call::<u64>("count", &1).await;
    assert!(matches!(&called, Err(Error::Failed(failure)) if failure.code == Code::INVALID_PARAMS), "{called:?}");
    let read = client.stream::<u64>("once", &()).await?.next().await;
    assert!(matches!(&read, Some(Err(Error::Failed(failure))) if failure.code == Code::INVALID_PARAMS), "{read:?}");
    Ok(())
}

#[tokio::test]
async fn a_stream_goes_on_across_cuts() -> TestResult {
    let server = TestServer::start(Server::builder().stream("count", count)).await?;
    let harm = |number| match number {
        0..20 => Harm::Cut(Place { direction: Down, after: 1_500 + 977 * number }),
        _ => Harm::None,
    };
    let cutter = Cutter::start(server.address(), harm).await?;
    let quick = |config: &mut moorline_protocol::client::ClientConfig| {
        config.backoff = Some(moorline_protocol::backoff::BackoffConfig {
            base: Duration::from_millis(5),
            cap: Duration::from_millis(20),
            ..Default::default()
        });
    };
    let client = server.client_at(&cutter.url())?.configure(quick).connect()?;
    let mut items = client.stream::<u64>("count", &20_000).await?;
    for expected in 0..20_000 {
        assert_eq!(items.next().await.ok_or("it ended")??, expected);
    }
    assert!(items.next().await.is_none());
    assert!(cutter.connections() > 10, "only {} connections", cutter.connections());
    Ok(())
}

/// The end waited until the reader had gone, who may wait for the end.
#[tokio::test]
async fn regression_a_client_closes_while_somebody_still_holds_a_stream() -> TestResult {
    let app = Server::builder().with_state(Reached::default()).stream("endless", endless);
    let server = TestServer::start(app).await?;
    let client = server.client()?.connect()?;
    let mut items = client.stream::<u64>("endless", &()).await?;
    assert_eq!(items.next().await.ok_or("it ended")??, 0);
    timeout(PATIENCE, client.close()).await?;
    let last = async {
        loop {
            match items.next().await {
                Some(Ok(_)) => {}
                last => return last,
            }
        }
    };
    assert!(
        matches!(timeout(PATIENCE, last).await?, Some(Err(Error::Unknown))),
        "what came is read, then why it ended"
    );
    Ok(())
}
