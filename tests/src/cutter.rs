//! A TCP proxy that harms the connections through it: cut after any number of bytes, stalled, deaf in one direction.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// Where in a connection something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose bytes are counted.
    pub direction: Direction,
    /// When so many have passed.
    pub after: usize,
}

/// What becomes of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Nothing.
    None,
    /// Both ends are closed.
    Cut(Place),
    /// Both ends are reset (TCP RST).
    Reset(Place),
    /// Nothing passes any more, in either direction, and nobody is told.
    Freeze(Place),
    /// Nothing goes up any more, and nobody is told.
    DeafServer(Place),
    /// Nothing comes down any more, and nobody is told.
    DeafClient(Place),
    /// The bytes that are counted wait for so long, then go on; both ends are closed when as many again have passed.
    Stall(Place, Duration),
}

/// The proxy. Dropping it ends every connection.
pub struct Cutter {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Every connection listens to the one that was here when it came, and ends with it.
    cutting: Arc<Mutex<watch::Sender<()>>>,
    /// Whoever comes is sent away.
    closed: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Cutter {
    /// Begins to listen in front of `server`. `harm` is asked for each connection, by its number from 0.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(
        server: SocketAddr,
        mut harm: impl FnMut(usize) -> Harm + Send + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let cutting = Arc::new(Mutex::new(watch::Sender::new(())));
        let cut = cutting.clone();
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = closed.clone();
        let accepting = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if is_closed.load(Ordering::SeqCst) {
                    continue;
                }
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let mut cut = cut.lock().unwrap_or_else(PoisonError::into_inner).subscribe();
                let serve = serve(client, server, harm(number));
                serving.spawn(async move {
                    tokio::select! {
                        () = serve => {}
                        _ = cut.changed() => {}
                    }
                });
                while serving.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, connections, cutting, closed, accepting })
    }

    /// The URL of the WebSocket behind it.
    pub fn url(&self) -> String {
        format!("ws://{}/moorline", self.address)
    }

    /// Closes both ends of every connection that there is, and returns when they are closed. Those that come later are
    /// not concerned.
    pub async fn cut(&self) {
        let those = {
            let mut cutting = self.cutting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *cutting, watch::Sender::new(()))
        };
        those.send_replace(());
        those.closed().await;
    }

    /// Closes every connection that there is, and those that come until [`Self::open`].
    pub async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.cut().await;
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(client: TcpStream, server: SocketAddr, harm: Harm) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    if let Harm::Reset(_) = harm {
        let zero = Some(Duration::ZERO);
        let _ = (socket2::SockRef::from(&client).set_linger(zero), socket2::SockRef::from(&server).set_linger(zero));
    }
    let deaf = [const { AtomicBool::new(false) }; 2];
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(Direction::Up, from_client, to_server, harm, &deaf) => {}
        () = pass(Direction::Down, from_server, to_client, harm, &deaf) => {}
    }
}

/// Passes bytes on until an end closes or the harm closes both. `deaf` says of each direction that nothing passes.
async fn pass(
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    harm: Harm,
    deaf: &[AtomicBool; 2],
) {
    let place = match harm {
        Harm::None => None,
        Harm::Cut(place)
        | Harm::Reset(place)
        | Harm::Freeze(place)
        | Harm::DeafServer(place)
        | Harm::DeafClient(place)
        | Harm::Stall(place, _) => Some(place),
    };
    let mut left = place.filter(|place| place.direction == direction).map(|place| place.after);
    let (mut buffer, mut stalled) = (vec![0; 4096], false);
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let before = left.map_or(read, |left| left.min(read));
        if !write(&mut to, &buffer[..before], &deaf[direction as usize]).await {
            return;
        }
        left = left.map(|left| left - before);
        if left == Some(0) {
            left = None;
            if std::mem::take(&mut stalled) {
                return;
            }
            match harm {
                Harm::None => {}
                Harm::Cut(_) | Harm::Reset(_) => return,
                Harm::Freeze(_) => deaf.iter().for_each(|deaf| deaf.store(true, Ordering::SeqCst)),
                Harm::DeafServer(_) => deaf[Direction::Up as usize].store(true, Ordering::SeqCst),
                Harm::DeafClient(_) => deaf[Direction::Down as usize].store(true, Ordering::SeqCst),
                Harm::Stall(Place { after, .. }, pause) => {
                    sleep(pause).await;
                    (left, stalled) = (Some(after), true);
                }
            }
        }
        if !write(&mut to, &buffer[before..read], &deaf[direction as usize]).await {
            return;
        }
    }
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8], deaf: &AtomicBool) -> bool {
    deaf.load(Ordering::SeqCst) || to.write_all(bytes).await.is_ok()
}
