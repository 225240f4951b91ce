//! Calls on one side of a connection: what this side asked ([`Asked`]) and what it was asked ([`Serving`]).
//!
//! I4: a call that was opened settles exactly once, whatever comes in whatever order: reply, failure, timeout, cancel or
//! the end of the connection. Settling takes the call out, so a second cause finds nothing.

use std::{collections::VecDeque, time::Duration};

use crate::{
    error::{Malformed, Violation},
    frame::CallId,
    time::Timestamp,
};

#[derive(Debug)]
struct Open {
    id: CallId,
    deadline: Option<Timestamp>,
    /// Whether any byte of it may have reached the other side.
    transmitted: bool,
}

/// The calls that this side waits for.
// Sorted queues and not trees: numbers ascend, calls settle roughly in their order, and the browser pays for every tree
// by the kilobyte.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    last: u64,
    /// By ascending number.
    open: VecDeque<Open>,
    /// No open call is due before this. It may be the deadline of one that has settled; then it is found out once.
    due: Option<Timestamp>,
}

impl Asked {
    /// Opens a call under the next number.
    pub(crate) fn open(&mut self, now: Timestamp, timeout: Option<Duration>) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        let deadline = timeout.map(|timeout| now + timeout);
        self.due = [self.due, deadline].into_iter().flatten().min();
        self.open.push_back(Open { id, deadline, transmitted: false });
        id
    }

    fn place(&self, id: CallId) -> Option<usize> {
        self.open.binary_search_by_key(&id, |open| open.id).ok()
    }

    /// The call is on its way; from here on nobody can say that it did not run.
    pub(crate) fn transmitted(&mut self, id: CallId) {
        if let Some(place) = self.place(id) {
            self.open[place].transmitted = true;
        }
    }

    /// Takes the call out if it is still open, and tells whether it had been transmitted.
    pub(crate) fn settle(&mut self, id: CallId) -> Option<bool> {
        let open = self.open.remove(self.place(id)?)?;
        if self.open.is_empty() {
            self.due = None;
        }
        Some(open.transmitted)
    }

    /// The next call whose time is over, taken out.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<(CallId, bool)> {
        self.due.filter(|due| *due <= now)?;
        let over = |open: &&Open| open.deadline.is_some_and(|deadline| deadline <= now);
        if let Some(id) = self.open.iter().filter(over).min_by_key(|open| open.deadline).map(|open| open.id) {
            return self.settle(id).map(|transmitted| (id, transmitted));
        }
        self.due = self.open.iter().filter_map(|open| open.deadline).min();
        None
    }

    /// Takes out every call that had been transmitted: its connection is gone.
    pub(crate) fn lose_transmitted(&mut self) -> Vec<CallId> {
        let lost = self.open.iter().filter(|open| open.transmitted).map(|open| open.id).collect();
        self.open.retain(|open| !open.transmitted);
        lost
    }

    /// Takes out every call, each with whether it had been transmitted.
    pub(crate) fn lose_all(&mut self) -> Vec<(CallId, bool)> {
        self.due = None;
        self.open.drain(..).map(|open| (open.id, open.transmitted)).collect()
    }

    /// When to look for calls whose time is over.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.due
    }
}

/// The calls that this side is to answer.
///
/// The other side counts anew on every connection. What the application sees goes on from `before`, so that a late
/// answer to a call of an earlier connection never settles one of this.
#[derive(Debug)]
pub(crate) struct Serving {
    before: u64,
    /// The newest number of the other side's.
    last: Option<CallId>,
    /// The other side's numbers, ascending.
    open: VecDeque<CallId>,
    most: usize,
}

impl Serving {
    pub(crate) fn new(most: usize, before: u64) -> Self {
        Self { before, last: None, open: VecDeque::new(), most }
    }

    /// A call came in. Gives the application's number for it, `None` when there are too many already.
    ///
    /// # Errors
    /// When the number does not ascend: answering would settle another call.
    pub(crate) fn begin(&mut self, id: CallId) -> Result<Option<CallId>, Violation> {
        if self.last.is_some_and(|last| id <= last) {
            return Err(Violation::CallReused);
        }
        let known_as = self.before.checked_add(id.0).map(CallId).ok_or(Malformed::IntegerTooLarge)?;
        self.last = Some(id);
        if self.open.len() >= self.most {
            return Ok(None);
        }
        self.open.push_back(id);
        Ok(Some(known_as))
    }

    fn take(&mut self, id: CallId) -> Option<CallId> {
        self.open.remove(self.open.binary_search(&id).ok()?)
    }

    /// The other side cancelled. Gives the application's number, `None` when the call was already answered.
    pub(crate) fn cancel(&mut self, id: CallId) -> Option<CallId> {
        self.take(id).map(|id| CallId(self.before + id.0))
    }

    /// The application answers. Gives the other side's number, `None` when the call is not open any more.
    pub(crate) fn answer(&mut self, known_as: CallId) -> Option<CallId> {
        self.take(CallId(known_as.0.checked_sub(self.before)?))
    }

    /// Takes out every call that is still open, by the application's numbers.
    pub(crate) fn abandon(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.open).into_iter().map(|id| CallId(self.before + id.0)).collect()
    }

    /// The newest of the application's numbers.
    pub(crate) fn newest(&self) -> u64 {
        self.before + self.last.map_or(0, |last| last.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_cause_finds_nothing_to_settle() {
        let mut asked = Asked::default();
        let now = Timestamp::from_millis(0);
        let id = asked.open(now, Some(Duration::from_millis(10)));
        asked.transmitted(id);
        assert_eq!(asked.settle(id), Some(true));
        assert_eq!(asked.settle(id), None);
        assert_eq!(asked.expire(Timestamp::from_millis(10)), None);
        assert_eq!(asked.deadline(), None);
    }

    #[test]
    fn only_what_was_transmitted_is_lost_with_its_connection() {
        let mut asked = Asked::default();
        let now = Timestamp::from_millis(0);
        let (sent, waiting) = (asked.open(now, None), asked.open(now, None));
        asked.transmitted(sent);
        assert_eq!(asked.lose_transmitted(), [sent]);
        assert_eq!(asked.lose_all(), [(waiting, false)]);
    }

    #[test]
    fn served_calls_ascend_and_are_capped() {
        let mut serving = Serving::new(1, 0);
        assert_eq!(serving.begin(CallId(1)), Ok(Some(CallId(1))));
        assert_eq!(serving.begin(CallId(2)), Ok(None));
        assert_eq!(serving.begin(CallId(2)), Err(Violation::CallReused));
        assert_eq!((serving.answer(CallId(1)), serving.answer(CallId(1))), (Some(CallId(1)), None));
        assert_eq!(serving.begin(CallId(3)), Ok(Some(CallId(3))));
    }

    #[test]
    fn the_applications_numbers_go_on_where_the_other_sides_begin_anew() {
        let mut serving = Serving::new(8, 40);
        assert_eq!(serving.begin(CallId(1)), Ok(Some(CallId(41))));
        assert_eq!(serving.begin(CallId(2)), Ok(Some(CallId(42))));
        assert_eq!(serving.answer(CallId(1)), None, "a call of an earlier connection");
        assert_eq!(serving.answer(CallId(41)), Some(CallId(1)));
        assert_eq!(serving.cancel(CallId(2)), Some(CallId(42)));
        assert_eq!(serving.newest(), 42);
        assert_eq!(serving.begin(CallId(u64::MAX)), Err(Malformed::IntegerTooLarge.into()));
    }
}
