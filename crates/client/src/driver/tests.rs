use std::future::pending;

use moorline_protocol::channel::Offset;

use super::*;
use crate::mailbox::Posted;

fn driver() -> (Driver, mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    let config = ClientConfig::new(DialUrl::parse("ws://127.0.0.1/moorline").expect("a URL"));
    let (commands, commands_in) = mpsc::channel(1);
    let view = watch::channel(View::default()).0;
    let (resets, handlers) = (broadcast::channel(1).0, Arc::default());
    let parts = Parts { view, resets, handlers, provider: None, way: Way::default() };
    (Driver::new(config, [7; 32], parts), commands, commands_in)
}

/// A handler whose caller had given up ran on, for as long as it liked.
#[tokio::test]
async fn regression_a_cancelled_call_drops_its_handler_and_no_other() {
    let (mut driver, _commands, _commands_in) = driver();
    let (dropped, mut drops) = mpsc::channel(2);
    driver.parts.handlers.handle("hang", move |number: u64| {
        let sender = dropped.clone();
        // Dropped with the future, whether that ends or not.
        let tells = Tells(number, sender);
        async move {
            pending::<()>().await;
            drop(tells);
            Ok(())
        }
    });
    let call = |number: u64| PeerEvent::Call {
        id: CallId(number),
        name: Name::new("hang").expect("a name"),
        payload: Payload::json(number.to_string()),
        key: None,
        credit: None,
    };
    driver.deliver(ClientEvent::Peer(call(1)));
    driver.deliver(ClientEvent::Peer(call(2)));
    assert!(driver.running.next().now_or_never().is_none());
    assert!(drops.try_recv().is_err(), "both run");
    driver.deliver(ClientEvent::Peer(PeerEvent::Cancelled(CallId(1))));
    assert!(matches!(driver.running.next().now_or_never(), Some(Some(Done::Nothing))));
    assert_eq!(drops.try_recv(), Ok(1));
    assert!(drops.try_recv().is_err(), "the other goes on");
    assert_eq!(driver.aborts.len(), 1);
}

struct Tells(u64, mpsc::Sender<u64>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.1.try_send(self.0);
    }
}

/// `Client::close` waited for as long as a handler ran: one that never ended kept a program from ending.
#[tokio::test(start_paused = true)]
async fn regression_the_end_waits_for_handlers_and_no_longer_than_it_says() {
    for (takes, waits) in [(Some(3), 3), (None, 10)] {
        let (driver, commands, commands_in) = driver();
        driver.running.push(Box::pin(async move {
            match takes {
                Some(seconds) => sleep(Duration::from_secs(seconds)).await,
                None => pending().await,
            }
            Done::Nothing
        }));
        let begun = Instant::now();
        commands.send(Command::Close).await.expect("somebody takes it");
        driver.run(commands_in).await;
        assert_eq!(begun.elapsed().as_secs(), waits);
        commands.closed().await;
    }
}

/// One who was too slow for a channel was told nothing that was for him alone until he followed it again: it was gone
/// without a word.
#[tokio::test]
async fn regression_what_is_for_this_client_alone_comes_while_its_reader_is_too_slow_for_the_channel() {
    let (mut driver, _commands, _commands_in) = driver();
    let mailbox = Arc::<Mailbox>::default();
    let follow = |driver: &mut Driver| {
        let ((events, events_out), (reader, gone)) = (mpsc::channel(1), oneshot::channel());
        let name = Name::new("room").expect("a name");
        let follow = Follow {
            kind: Kind::Topic,
            name,
            quiet: false,
            history: 0,
            since: None,
            past: Offset(0),
            members: false,
            data: None,
            instead: None,
        };
        let (mailbox, followed) = (Arc::downgrade(&mailbox), oneshot::channel().0);
        driver.handle(Step::Command(Some(Command::Follow { follow: follow.into(), events, mailbox, gone, followed })));
        (events_out, reader)
    };
    let (mut events, _reader) = follow(&mut driver);
    let subscription = *driver.followers.keys().next().expect("it is followed");
    for _ in 0..2 {
        driver.deliver(ClientEvent::Channel(subscription, Box::new(ChannelEvent::CaughtUp)));
    }
    assert!(driver.followers.is_empty(), "it was too slow");
    let direct = || ClientEvent::Direct(Box::new(crate::mailbox::tests::direct("hello")));
    driver.deliver(direct());
    assert!(matches!(mailbox.next().now_or_never(), Some(Posted::Direct(_))));
    assert!(events.recv().await.is_some() && events.recv().await.is_none());
    let (_events, _reader) = follow(&mut driver);
    driver.deliver(direct());
    assert!(mailbox.next().now_or_never().is_some() && mailbox.next().now_or_never().is_none(), "once");
    // Nobody reads it any more.
    drop(mailbox);
    driver.deliver(direct());
    assert!(driver.mailboxes.iter().all(|(.., mailbox)| mailbox.strong_count() == 0));
}

/// While a listener still ran at the end, who read a channel, or asked for something, waited for that, too.
#[tokio::test(start_paused = true)]
async fn regression_whoever_reads_or_asks_hears_at_once_that_it_is_over() {
    let (mut driver, commands, commands_in) = driver();
    let (events, mut reads) = mpsc::channel(1);
    driver.followers.insert(Subscription(9), events);
    driver.running.push(Box::pin(pending()));
    let begun = Instant::now();
    commands.send(Command::Close).await.expect("somebody takes it");
    let asks = async {
        assert!(reads.recv().await.is_none());
        let (queued, is_queued) = oneshot::channel();
        let (name, payload) = (Name::new("late").expect("a name"), Payload::json("1"));
        commands.send(Command::Notify { name, payload, volatile: false, queued }).await.expect("it is there still");
        assert!(is_queued.await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    };
    tokio::join!(driver.run(commands_in), asks);
    assert_eq!(begun.elapsed(), END_WITHIN);
}
