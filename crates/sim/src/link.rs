//! Sockets that can be cut. A WebSocket is ordered and breaks as a whole: what is lost is lost from some point on.

use std::collections::VecDeque;

use bytes::Bytes;
use moorline_protocol::client::SocketId;

use crate::agenda::End;

/// Bytes under way from which on a socket takes no more.
const HIGH: usize = 192 * 1024;

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Record {
        bytes: Bytes,
        corrupt: bool,
    },
    /// The other end has closed.
    Close,
}

/// One direction of a socket.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    items: VecDeque<(u64, Item)>,
    last: u64,
    /// What is sent is lost, and nobody is told.
    pub(crate) dead: bool,
    pub(crate) stalled_until: u64,
    bytes: usize,
    /// The script says that it takes no more.
    pub(crate) forced: bool,
    full: bool,
    /// What the sending endpoint was told last.
    pub(crate) told: bool,
    corrupt_next: bool,
}

impl Pipe {
    /// Takes a record or the end. Gives when it arrives, if it does.
    pub(crate) fn send(&mut self, now: u64, delay: u64, mut item: Item) -> Option<u64> {
        if let Item::Record { bytes, corrupt } = &mut item {
            self.bytes += bytes.len();
            if std::mem::take(&mut self.corrupt_next) {
                (*bytes, *corrupt) = (damaged(bytes), true);
            }
        }
        self.full |= self.bytes > HIGH;
        if self.dead {
            return None;
        }
        self.last = (now + delay).max(self.last).max(self.stalled_until);
        self.items.push_back((self.last, item));
        Some(self.last)
    }

    /// What has arrived, or else when to look again.
    pub(crate) fn receive(&mut self, now: u64) -> Result<Option<Item>, u64> {
        if self.stalled_until > now && !self.items.is_empty() {
            return Err(self.stalled_until);
        }
        let item = self.items.pop_front_if(|(at, _)| *at <= now).map(|(_, item)| item);
        if let Some(Item::Record { bytes, .. }) = &item {
            self.bytes -= bytes.len();
            self.full &= self.bytes > HIGH / 2;
        }
        Ok(item)
    }

    pub(crate) fn takes_no_more(&self) -> bool {
        self.forced || self.full
    }

    /// Loses all but the first items under way, and everything from now on.
    pub(crate) fn cut(&mut self, keep: usize) {
        self.items.truncate(keep);
        self.dead = true;
    }

    /// Alters a byte that every way of protection looks at.
    pub(crate) fn corrupt(&mut self) {
        for (_, item) in &mut self.items {
            if let Item::Record { bytes, corrupt: corrupt @ false } = item {
                (*bytes, *corrupt) = (damaged(bytes), true);
                return;
            }
        }
        self.corrupt_next = true;
    }
}

fn damaged(record: &Bytes) -> Bytes {
    let mut bytes = record.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x10;
    }
    bytes.into()
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) client: usize,
    pub(crate) id: SocketId,
    /// The server's run that it reached.
    pub(crate) run: usize,
    pub(crate) client_open: bool,
    pub(crate) server_open: bool,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// The session that came to be on it.
    pub(crate) book: Option<usize>,
    pub(crate) resumed: bool,
    pub(crate) welcomed: bool,
    /// The number of the next reliable frame to arrive at the server, at the client; known once it was said.
    pub(crate) next: [Option<u64>; 2],
    /// When the server, when the client last heard something on it.
    pub(crate) heard: [u64; 2],
    /// The key that each end sealed with last.
    pub(crate) key: [Option<u64>; 2],
}

impl Socket {
    pub(crate) fn new(client: usize, id: SocketId) -> Self {
        Self {
            client,
            id,
            run: 0,
            client_open: true,
            server_open: false,
            up: Pipe::default(),
            down: Pipe::default(),
            book: None,
            resumed: false,
            welcomed: false,
            next: [None; 2],
            heard: [0; 2],
            key: [None; 2],
        }
    }

    /// The direction in which this end sends.
    pub(crate) fn from(&mut self, end: End) -> &mut Pipe {
        match end {
            End::Client => &mut self.up,
            End::Server => &mut self.down,
        }
    }

    /// The direction in which this end receives.
    pub(crate) fn to(&mut self, end: End) -> &mut Pipe {
        match end {
            End::Client => &mut self.down,
            End::Server => &mut self.up,
        }
    }
}
