//! The client's side of a channel: up to where it has seen it.
//!
//! Implements `docs/PROTOCOL.md` § Following a channel. It outlives connections: on each new one the client opens the
//! channel again and says what it has seen.

use super::{LogEpoch, Mark, Offset, Opened, Position, Start};

/// What was told does not follow on what was told before. The client opens the channel again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder;

/// Up to where a client has seen a channel.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// From where it can go on.
    seen: Option<Position>,
    /// On this connection.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    epoch: LogEpoch,
    last: Offset,
    /// What was there when the channel was opened.
    head: Offset,
    /// What the snapshot covers that is to come first.
    covers: Option<Position>,
}

impl Replica {
    /// For one that has seen the channel up to `since`, or nothing of it.
    pub fn new(since: Option<Position>) -> Self {
        Self { seen: since, open: None }
    }

    /// What to open the channel with, on a new connection or again on this one.
    pub fn open(&mut self) -> Option<Position> {
        self.open = None;
        self.seen
    }

    /// From where it can go on.
    pub fn seen(&self) -> Option<Position> {
        self.seen
    }

    /// The server says how it goes on.
    ///
    /// # Errors
    /// When it says that it goes on from where the client is not.
    pub fn handle_opened(&mut self, opened: &Opened) -> Result<(), OutOfOrder> {
        let Opened { epoch, from, tag, head, .. } = *opened;
        let position = tag.map(|tag| Position { epoch, mark: Mark { offset: from, tag } });
        let goes_on = opened.start != Start::Recovered || (position == self.seen && self.open.is_none());
        if !goes_on || (opened.snapshot && position.is_none()) {
            return Err(OutOfOrder);
        }
        // A snapshot that is announced and does not come must not be taken for one that was seen.
        self.seen = position.filter(|_| !opened.snapshot);
        self.open = Some(Open { epoch, last: from, head, covers: position.filter(|_| opened.snapshot) });
        Ok(())
    }

    /// The snapshot that was announced is there. Gives what it covers.
    ///
    /// # Errors
    /// When none was.
    pub fn handle_snapshot(&mut self) -> Result<Position, OutOfOrder> {
        let open = self.open.as_mut().ok_or(OutOfOrder)?;
        let covers = open.covers.take().ok_or(OutOfOrder)?;
        self.seen = Some(covers);
        Ok(covers)
    }

    /// An entry has come. Gives where it is, and whether it was there already when the channel was opened.
    ///
    /// # Errors
    /// When something is missing before it.
    pub fn handle_update(&mut self, prev: Offset, mark: Mark) -> Result<(Position, bool), OutOfOrder> {
        let open = self.open.as_mut().ok_or(OutOfOrder)?;
        if open.covers.is_some() || prev != open.last || mark.offset <= open.last {
            return Err(OutOfOrder);
        }
        open.last = mark.offset;
        let position = Position { epoch: open.epoch, mark };
        self.seen = Some(position);
        Ok((position, mark.offset <= open.head))
    }

    /// Entries that are not for this client have been left out, up to this one.
    ///
    /// # Errors
    /// When it has seen that one already.
    pub fn handle_advance(&mut self, mark: Mark) -> Result<(), OutOfOrder> {
        let open = self.open.as_mut().ok_or(OutOfOrder)?;
        if open.covers.is_some() || mark.offset <= open.last {
            return Err(OutOfOrder);
        }
        open.last = mark.offset;
        self.seen = Some(Position { epoch: open.epoch, mark });
        Ok(())
    }
}
