//! Calls on one side of a connection: what this side asked ([`Asked`]) and what it was asked ([`Serving`]).
//!
//! I4: a call that was opened settles exactly once, whatever comes in whatever order: reply, failure, timeout, cancel or
//! the end of the connection. Settling takes the call out, so a second cause finds nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{error::Violation, frame::CallId, time::Timestamp};

#[derive(Debug)]
struct Open {
    deadline: Option<Timestamp>,
    /// Whether any byte of it may have reached the other side.
    transmitted: bool,
}

/// The calls that this side waits for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    last: u64,
    open: BTreeMap<CallId, Open>,
    deadlines: BTreeSet<(Timestamp, CallId)>,
}

impl Asked {
    /// Opens a call under the next number.
    pub(crate) fn open(&mut self, now: Timestamp, timeout: Option<Duration>) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        let deadline = timeout.map(|timeout| now + timeout);
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        self.open.insert(id, Open { deadline, transmitted: false });
        id
    }

    /// The call is on its way; from here on nobody can say that it did not run.
    pub(crate) fn transmitted(&mut self, id: CallId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.transmitted = true;
        }
    }

    /// Takes the call out if it is still open, and tells whether it had been transmitted.
    pub(crate) fn settle(&mut self, id: CallId) -> Option<bool> {
        let open = self.open.remove(&id)?;
        if let Some(deadline) = open.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(open.transmitted)
    }

    /// The next call whose time is over, taken out.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<(CallId, bool)> {
        let (_, id) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.settle(id).map(|transmitted| (id, transmitted))
    }

    /// Takes out every call that had been transmitted: its connection is gone.
    pub(crate) fn lose_transmitted(&mut self) -> Vec<CallId> {
        let lost: Vec<CallId> = self.open.iter().filter(|(_, open)| open.transmitted).map(|(id, _)| *id).collect();
        lost.iter().for_each(|id| {
            self.settle(*id);
        });
        lost
    }

    /// Takes out every call, each with whether it had been transmitted.
    pub(crate) fn lose_all(&mut self) -> Vec<(CallId, bool)> {
        self.deadlines.clear();
        std::mem::take(&mut self.open).into_iter().map(|(id, open)| (id, open.transmitted)).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}

/// The calls that this side is to answer.
#[derive(Debug)]
pub(crate) struct Serving {
    last: Option<CallId>,
    open: BTreeSet<CallId>,
    most: usize,
}

impl Serving {
    pub(crate) fn new(most: usize) -> Self {
        Self { last: None, open: BTreeSet::new(), most }
    }

    /// A call came in. `false` when there are too many already.
    ///
    /// # Errors
    /// When the number does not ascend: answering would settle another call.
    pub(crate) fn begin(&mut self, id: CallId) -> Result<bool, Violation> {
        if self.last.is_some_and(|last| id <= last) {
            return Err(Violation::CallReused);
        }
        self.last = Some(id);
        Ok(self.open.len() < self.most && self.open.insert(id))
    }

    /// The call is answered or cancelled. `false` when it already was.
    pub(crate) fn end(&mut self, id: CallId) -> bool {
        self.open.remove(&id)
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
        let mut serving = Serving::new(1);
        assert_eq!(serving.begin(CallId(1)), Ok(true));
        assert_eq!(serving.begin(CallId(2)), Ok(false));
        assert_eq!(serving.begin(CallId(2)), Err(Violation::CallReused));
        assert!(serving.end(CallId(1)) && !serving.end(CallId(1)));
        assert_eq!(serving.begin(CallId(3)), Ok(true));
    }
}
