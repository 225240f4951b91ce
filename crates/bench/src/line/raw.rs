//! What is said to the raw server: a byte that tells what it is, the number of the call if it is one, the payload.

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};

use super::Heard;

/// The first byte of a message.
pub(crate) mod kind {
    /// A call; it comes back as it is, which is the least that a server can do.
    pub(crate) const CALL: u8 = 1;
    /// To go to everybody else as it is.
    pub(crate) const PUBLISH: u8 = 2;
    /// A call; it comes back as it is when it is on the disk.
    pub(crate) const KEEP: u8 = 3;
}

/// What the client remembers: calls are answered in their order.
#[derive(Default)]
pub(super) struct Raw {
    asked: u64,
    answered: u64,
}

impl Raw {
    pub(super) fn call(&mut self, payload: &Bytes, waiting: &mut Vec<Bytes>) {
        self.ask(kind::CALL, payload, waiting);
    }

    pub(super) fn keep(&mut self, payload: &Bytes, waiting: &mut Vec<Bytes>) {
        self.ask(kind::KEEP, payload, waiting);
    }

    fn ask(&mut self, kind: u8, payload: &Bytes, waiting: &mut Vec<Bytes>) {
        let mut message = BytesMut::with_capacity(1 + 8 + payload.len());
        message.put_u8(kind);
        message.put_u64_le(self.asked);
        message.put_slice(payload);
        self.asked += 1;
        waiting.push(message.freeze());
    }

    pub(super) fn publish(&mut self, payload: &Bytes, waiting: &mut Vec<Bytes>) {
        let mut message = BytesMut::with_capacity(1 + payload.len());
        message.put_u8(kind::PUBLISH);
        message.put_slice(payload);
        waiting.push(message.freeze());
    }

    pub(super) fn handle(&mut self, message: &Bytes, heard: &mut Vec<Heard>) -> Result<()> {
        match message.first() {
            Some(&(kind::CALL | kind::KEEP)) => {
                let number = message.get(1..9).context("a reply has a number")?;
                ensure!(number == self.answered.to_le_bytes(), "a reply is out of its order");
                self.answered += 1;
                heard.push(Heard::Reply(message.slice(9..)));
            }
            Some(&kind::PUBLISH) => heard.push(Heard::Published(message.slice(1..))),
            Some(_) | None => bail!("the raw server never sends this"),
        }
        Ok(())
    }
}
