//! Somebody who reads the wire, where that can be read, and keeps count of its own.

use bytes::Bytes;
use moorline_protocol::{
    limits::MAX_PLAINTEXT,
    testing::{self, Inspection, Seen},
};

use super::*;

impl World<'_> {
    /// A record leaves an endpoint, which looks so afterwards.
    pub(super) fn frames_leave(&mut self, number: usize, from: End, record: &Bytes, after: &Inspection) -> Held {
        let side = usize::from(from == End::Server);
        if self.script.setting.cipher == Cipher::Traced
            && let Some((key, nonce)) = testing::trace(record)
        {
            if let Some(last) = self.nonces.insert(key, nonce) {
                hold!(nonce == last + 1, "S8", "nonce {nonce} comes after {last} under one key");
            }
            let socket = &mut self.sockets[number];
            if socket.key[side].replace(key).is_some_and(|last| last != key) {
                let resumed = socket.resumed;
                self.counters.add(Counter::Rekey);
                if resumed {
                    self.counters.add(Counter::RekeyResumed);
                }
            }
        }
        if !self.precise {
            return Ok(());
        }
        let frames = testing::frames(record, self.script.setting.cipher == Cipher::Traced);
        let client = self.sockets[number].client;
        let book = match from {
            End::Client => self.clients[client].book,
            End::Server => self.sockets[number].book,
        };
        let mut volatile = 0;
        for frame in &frames {
            match frame {
                Seen::Reliable { name: Some(name), .. } => {
                    let Some(label) = Label::read(name) else { continue };
                    let app = match (from, book) {
                        (End::Client, _) => &mut self.clients[client].app,
                        (End::Server, Some(book)) => &mut self.books[book].app,
                        (End::Server, None) => continue,
                    };
                    if app.carried(label, number as u64)? {
                        self.counters.add(Counter::Replay);
                    }
                }
                Seen::Volatile { len, .. } => volatile += len,
                Seen::Ack(seq) => {
                    // The server has taken what the client sent, and the other way round.
                    let taken = book.map_or(0, |book| self.books[book].received[1 - side]);
                    if let Some(book) = book {
                        let acked = &mut self.books[book].acked[1 - side];
                        *acked = (*acked).max(*seq);
                    }
                    hold!(*seq <= taken, "S4", "{from:?} of socket {number} acknowledges {seq} of {taken}");
                }
                Seen::Reliable { name: None, .. } | Seen::Part | Seen::Seq(_) | Seen::Welcome | Seen::Other(_) => {}
            }
        }
        if volatile > 0
            && let Some(next) = after.next_frame
        {
            let room = MAX_PLAINTEXT.saturating_sub(record.len());
            hold!(next > room + volatile, "S9", "{volatile} volatile bytes took the place of a frame of {next}");
        }
        Ok(())
    }

    /// A record reaches an endpoint.
    pub(super) fn frames_arrive(&mut self, number: usize, at: End, record: &Bytes) {
        if !self.precise {
            self.sockets[number].heard[usize::from(at == End::Client)] = self.now;
            if at == End::Client {
                self.sockets[number].welcomed = true;
            }
            return;
        }
        let side = usize::from(at == End::Client);
        self.sockets[number].heard[side] = self.now;
        let Some(book) = self.sockets[number].book else { return };
        // The server may have given the session to another socket.
        let counts = at == End::Client || self.books[book].socket == number;
        for frame in testing::frames(record, self.script.setting.cipher == Cipher::Traced) {
            match frame {
                Seen::Welcome => self.sockets[number].welcomed = true,
                Seen::Seq(seq) => {
                    self.sockets[number].next[side] = Some(seq);
                }
                Seen::Reliable { .. } | Seen::Part => {
                    let Some(next) = self.sockets[number].next[side].as_mut().filter(|_| counts) else { continue };
                    let received = &mut self.books[book].received[side];
                    if *next <= *received {
                        self.counters.add(Counter::Duplicate);
                    } else {
                        *received = *next;
                        if matches!(frame, Seen::Reliable { first_part: true, .. }) {
                            self.counters.add(Counter::LargeDelivered);
                        }
                    }
                    *next += 1;
                }
                Seen::Volatile { .. } | Seen::Ack(_) | Seen::Other(_) => {}
            }
        }
    }
}
