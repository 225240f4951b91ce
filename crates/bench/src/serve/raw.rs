//! What the others are measured by: tokio-tungstenite as well as we can write it, for the same work and nothing else.
//!
//! It has the tuning that is worth something: buffers of 4 KiB, one task a connection, everything of one read handled
//! and then written in one go, a broadcast encoded once. It has no names, no handlers, no heartbeat, no limits, no
//! session, no encryption.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Error as WsError, Message},
};

use super::disk::Disk;
use crate::line::{raw::kind, websocket_config};

/// Broadcasts that may wait for one connection; as many as the server under test has room for.
const MAILBOX: usize = 1_024;

/// Sockets that may wait to be accepted. The library's own 128 are fewer than come at once in `connect-burst`; who finds the
/// queue full tries again after a second.
const BACKLOG: u32 = 1_024;

/// Starts it, and prints its address.
pub(super) async fn start(data: Option<&Path>) -> Result<()> {
    let disk = data.map(Disk::open).transpose()?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move {
        let hub = Hub::default();
        while let Ok((socket, _)) = listener.accept().await {
            let (hub, disk) = (hub.clone(), disk.clone());
            tokio::spawn(async move {
                // It ends with its socket; the generator notices what is missing.
                let _ = serve(socket, hub, disk).await;
            });
        }
    });
    Ok(())
}

/// Everybody who is connected.
#[derive(Clone, Default)]
struct Hub(Arc<Present>);

#[derive(Default)]
struct Present {
    next: AtomicU64,
    mailboxes: RwLock<HashMap<u64, mpsc::Sender<Bytes>>>,
}

/// One's place among those who are connected, until it is dropped.
struct Place {
    id: u64,
    hub: Hub,
}

impl Hub {
    fn enter(&self) -> (Place, mpsc::Receiver<Bytes>) {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        self.0.mailboxes.write().unwrap_or_else(PoisonError::into_inner).insert(id, mailbox);
        (Place { id, hub: self.clone() }, messages)
    }
}

impl Place {
    fn broadcast(&self, message: &Bytes) {
        let mailboxes = self.hub.0.mailboxes.read().unwrap_or_else(PoisonError::into_inner);
        for (_, mailbox) in mailboxes.iter().filter(|(id, _)| **id != self.id) {
            // The generator never has so many under way; if it had, it would wait in vain and say so.
            let _ = mailbox.try_send(message.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.0.mailboxes.write().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

async fn serve(socket: TcpStream, hub: Hub, disk: Option<Disk>) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut websocket = accept_async_with_config(socket, Some(websocket_config())).await?;
    let (place, mut mailbox) = hub.enter();
    loop {
        tokio::select! {
            message = websocket.next() => take(&mut websocket, &place, disk.as_ref(), message).await?,
            Some(message) = mailbox.recv() => websocket.feed(Message::Binary(message)).await?,
        }
        while let Some(message) = websocket.next().now_or_never() {
            take(&mut websocket, &place, disk.as_ref(), message).await?;
        }
        while let Ok(message) = mailbox.try_recv() {
            websocket.feed(Message::Binary(message)).await?;
        }
        websocket.flush().await?;
    }
}

async fn take(
    websocket: &mut WebSocketStream<TcpStream>,
    place: &Place,
    disk: Option<&Disk>,
    message: Option<Result<Message, WsError>>,
) -> Result<()> {
    let Message::Binary(message) = message.context("the client has gone")?? else { return Ok(()) };
    match message.first() {
        Some(&kind::CALL) => websocket.feed(Message::Binary(message)).await?,
        Some(&kind::PUBLISH) => place.broadcast(&message),
        Some(&kind::KEEP) => {
            disk.context("there is a disk where something is to be kept")?.keep(message.slice(9..)).await?;
            websocket.feed(Message::Binary(message)).await?;
        }
        Some(_) | None => bail!("the generator never sends this"),
    }
    Ok(())
}
