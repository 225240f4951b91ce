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
    /// What was there when it began with nothing.
    past: Offset,
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
    /// It has been said that all of that has come.
    is_caught_up: bool,
}

impl Replica {
    /// For one that has seen the channel up to `since`, or nothing of it, and began with what was there up to `past`.
    pub fn new(since: Option<Position>, past: Offset) -> Self {
        Self { seen: since, past, open: None }
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

    /// What was there when it began with nothing.
    pub fn past(&self) -> Offset {
        self.past
    }

    /// The same, if it has not seen all of that: what it has written itself is then to be told, too.
    pub fn missing_past(&self) -> Offset {
        let is_missing = self.seen.is_some_and(|seen| seen.mark.offset < self.past);
        if is_missing { self.past } else { Offset(0) }
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
        if opened.start != Start::Recovered {
            self.past = head;
        }
        // A snapshot that is announced and does not come must not be taken for one that was seen.
        self.seen = position.filter(|_| !opened.snapshot);
        self.open =
            Some(Open { epoch, last: from, head, covers: position.filter(|_| opened.snapshot), is_caught_up: false });
        Ok(())
    }

    /// Whether everything has come that was there when the channel was opened. Says so once.
    pub fn take_caught_up(&mut self) -> bool {
        self.open.as_mut().is_some_and(|open| {
            let all_is_there = open.covers.is_none() && open.last >= open.head;
            all_is_there && !std::mem::replace(&mut open.is_caught_up, true)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Tag;

    fn opened(from: u64, head: u64, snapshot: bool) -> Opened {
        let (epoch, from, head, tag) = (LogEpoch([1; 8]), Offset(from), Offset(head), Some(Tag([0; 8])));
        Opened { start: Start::New, epoch, from, tag, head, snapshot }
    }

    fn mark(offset: u64) -> Mark {
        Mark { offset: Offset(offset), tag: Tag([2; 8]) }
    }

    #[test]
    fn one_is_caught_up_with_the_last_that_was_there_and_hears_it_once() {
        let mut replica = Replica::new(None, Offset(0));
        assert!(!replica.take_caught_up(), "it is not open");
        replica.handle_opened(&opened(0, 3, false)).expect("it begins");
        replica.handle_update(Offset(0), mark(1)).expect("the first");
        assert!(!replica.take_caught_up());
        replica.handle_advance(mark(3)).expect("the others are not for it");
        assert!(replica.take_caught_up() && !replica.take_caught_up());
        replica.handle_update(Offset(3), mark(4)).expect("a new one");
        assert!(!replica.take_caught_up());
        replica.handle_opened(&opened(4, 4, false)).expect("it begins anew");
        assert!(replica.take_caught_up(), "there is nothing to come");
    }

    #[test]
    fn one_is_not_caught_up_before_the_snapshot_is_there() {
        let mut replica = Replica::new(None, Offset(0));
        replica.handle_opened(&opened(4, 4, true)).expect("it begins");
        assert!(!replica.take_caught_up());
        replica.handle_snapshot().expect("it was announced");
        assert!(replica.take_caught_up());
    }
}
