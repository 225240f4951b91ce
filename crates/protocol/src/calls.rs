//! Calls on one side of a session: what this side asked ([`Asked`]) and what it was asked ([`Serving`]).
//!
//! I4: a call that was opened settles exactly once, whatever comes in whatever order: reply, failure, timeout, cancel,
//! a reset or the end of the client. Settling takes the call out, so a second cause finds nothing.

use std::{collections::VecDeque, time::Duration};

use crate::{
    error::{Malformed, Refused, Violation},
    frame::CallId,
    session::outbox::Message,
    time::Timestamp,
};

/// How far a call has come on its way to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// No byte of it was ever transmitted: it did not run.
    Waits,
    /// A session that is lost had transmitted it, so that it may have run. It waits to go out again.
    WaitsAgain,
    /// The other side of this session may have it.
    Transmitted,
}

#[derive(Debug)]
struct Open {
    id: CallId,
    deadline: Option<Timestamp>,
    way: Way,
    /// What may be sent again to another session, because the other side knows it again.
    again: Option<Message>,
    /// For a stream, items that the other side may still send.
    credit: Option<u64>,
    /// How many of those were granted since the call was made.
    granted: u64,
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

/// What a reset makes of the calls that had been transmitted.
#[derive(Debug, Default)]
pub(crate) struct AfterReset {
    /// They may have run or not.
    pub(crate) unknown: Vec<CallId>,
    /// They go out again.
    pub(crate) again: Vec<Message>,
    /// Streams that go on, and what was granted to each beyond what its call says.
    pub(crate) credit: Vec<(CallId, u64)>,
}

impl Asked {
    /// The number of the next call.
    pub(crate) fn next(&self) -> CallId {
        CallId(self.last + 1)
    }

    /// Opens the call under the next number.
    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        timeout: Option<Duration>,
        credit: Option<u64>,
        again: Option<Message>,
    ) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        let deadline = timeout.map(|timeout| now + timeout);
        self.due = [self.due, deadline].into_iter().flatten().min();
        self.open.push_back(Open { id, deadline, way: Way::Waits, again, credit, granted: 0 });
        id
    }

    fn place(&self, id: CallId) -> Option<usize> {
        self.open.binary_search_by_key(&id, |open| open.id).ok()
    }

    fn find(&mut self, id: CallId) -> Option<&mut Open> {
        let place = self.place(id)?;
        self.open.get_mut(place)
    }

    /// The call is on its way; from here on nobody can say that it did not run.
    pub(crate) fn transmitted(&mut self, id: CallId) {
        if let Some(open) = self.find(id) {
            open.way = Way::Transmitted;
        }
    }

    /// An item of a stream came; `false` when nobody waits for it any more.
    pub(crate) fn item(&mut self, id: CallId) -> Result<bool, Violation> {
        let Some(open) = self.find(id) else { return Ok(false) };
        let credit = open.credit.as_mut().filter(|credit| **credit > 0).ok_or(Violation::NoCredit)?;
        *credit -= 1;
        // The first item is an answer in time; how long the rest takes is the stream's own business.
        open.deadline = None;
        // Sent again, the stream would begin anew, and its first items would come twice.
        open.again = None;
        Ok(true)
    }

    /// Whether it is an open call for one reply.
    pub(crate) fn is_unary(&mut self, id: CallId) -> bool {
        self.find(id).is_some_and(|open| open.credit.is_none())
    }

    /// The application takes more items; `false` when the stream is over.
    pub(crate) fn grant(&mut self, id: CallId, more: u64) -> bool {
        let Some(open) = self.find(id) else { return false };
        let Some(credit) = open.credit.as_mut() else { return false };
        *credit = credit.saturating_add(more);
        open.granted = open.granted.saturating_add(more);
        true
    }

    /// Takes the call out if it is still open, and tells how far it had come.
    pub(crate) fn settle(&mut self, id: CallId) -> Option<Way> {
        let open = self.open.remove(self.place(id)?)?;
        if self.open.is_empty() {
            self.due = None;
        }
        Some(open.way)
    }

    /// The next call whose time is over, taken out.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<(CallId, Way)> {
        self.due.filter(|due| *due <= now)?;
        let over = |open: &&Open| open.deadline.is_some_and(|deadline| deadline <= now);
        if let Some(id) = self.open.iter().filter(over).min_by_key(|open| open.deadline).map(|open| open.id) {
            return self.settle(id).map(|way| (id, way));
        }
        self.due = self.open.iter().filter_map(|open| open.deadline).min();
        None
    }

    /// The other side has forgotten the session: what had been transmitted is taken out, or goes out again.
    pub(crate) fn reset(&mut self) -> AfterReset {
        let mut after = AfterReset::default();
        self.open.retain_mut(|open| {
            match (open.way, &open.again) {
                (Way::Waits | Way::WaitsAgain, _) => {}
                (Way::Transmitted, Some(message)) => {
                    open.way = Way::WaitsAgain;
                    after.again.push(message.clone());
                }
                (Way::Transmitted, None) => {
                    after.unknown.push(open.id);
                    return false;
                }
            }
            if open.granted > 0 {
                after.credit.push((open.id, open.granted));
            }
            true
        });
        after
    }

    /// The other side knows none of them again, since this side is somebody else by now. Takes out those that wait to go out
    /// again: they may have run.
    pub(crate) fn become_unknown(&mut self) -> Vec<CallId> {
        let mut unknown = Vec::new();
        for open in &mut self.open {
            match open.way {
                Way::Waits => {}
                Way::WaitsAgain => unknown.push(open.id),
                Way::Transmitted => open.again = None,
            }
        }
        for id in &unknown {
            self.settle(*id);
        }
        unknown
    }

    /// Takes out every call, each with how far it had come.
    pub(crate) fn lose_all(&mut self) -> Vec<(CallId, Way)> {
        self.due = None;
        self.open.drain(..).map(|open| (open.id, open.way)).collect()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// When to look for calls whose time is over.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.due
    }
}

#[derive(Debug)]
struct Asking {
    id: CallId,
    /// For a stream, items that the other side takes.
    credit: Option<u64>,
}

/// The calls that this side is to answer.
///
/// The other side counts anew in every session. What the application sees goes on from `before`, so that a late
/// answer to a call of an earlier session never settles one of this.
#[derive(Debug)]
pub(crate) struct Serving {
    before: u64,
    /// The newest number of the other side's; 0 before the first.
    last: CallId,
    /// The other side's numbers, ascending.
    open: VecDeque<Asking>,
    most: usize,
}

impl Serving {
    pub(crate) fn new(most: usize, before: u64) -> Self {
        Self { before, last: CallId(0), open: VecDeque::new(), most }
    }

    /// A call came in. Gives the application's number for it, `None` when there are too many already.
    ///
    /// # Errors
    /// When the number does not ascend: answering would settle another call.
    pub(crate) fn begin(&mut self, id: CallId, credit: Option<u64>) -> Result<Option<CallId>, Violation> {
        if id <= self.last {
            return Err(Violation::CallReused);
        }
        let known_as = self.before.checked_add(id.0).map(CallId).ok_or(Malformed::IntegerTooLarge)?;
        self.last = id;
        if self.open.len() >= self.most {
            return Ok(None);
        }
        self.open.push_back(Asking { id, credit });
        Ok(Some(known_as))
    }

    fn place(&self, id: CallId) -> Option<usize> {
        self.open.binary_search_by_key(&id, |asking| asking.id).ok()
    }

    fn take(&mut self, id: CallId) -> Option<CallId> {
        self.open.remove(self.place(id)?).map(|asking| asking.id)
    }

    fn known_as(&self, id: CallId) -> CallId {
        CallId(self.before + id.0)
    }

    /// The other side's number for what the application knows as `known_as`.
    fn theirs(&self, known_as: CallId) -> Option<CallId> {
        known_as.0.checked_sub(self.before).map(CallId)
    }

    /// The other side cancelled. Gives the application's number, `None` when the call was already answered.
    pub(crate) fn cancel(&mut self, id: CallId) -> Option<CallId> {
        self.take(id).map(|id| self.known_as(id))
    }

    /// The other side takes more items. Gives the application's number, `None` when the stream is over.
    pub(crate) fn credit(&mut self, id: CallId, more: u64) -> Option<CallId> {
        let place = self.place(id)?;
        let credit = self.open.get_mut(place)?.credit.as_mut()?;
        *credit = credit.saturating_add(more);
        Some(self.known_as(id))
    }

    /// The application has an item. Gives the other side's number, `None` when the stream is over.
    pub(crate) fn item(&mut self, known_as: CallId) -> Result<Option<CallId>, Refused> {
        let Some(place) = self.theirs(known_as).and_then(|id| self.place(id)) else { return Ok(None) };
        let Asking { id, credit } = &mut self.open[place];
        let credit = credit.as_mut().filter(|credit| **credit > 0).ok_or(Refused::Backpressure)?;
        *credit -= 1;
        Ok(Some(*id))
    }

    /// The application answers. Gives the other side's number, `None` when the call is not open any more.
    pub(crate) fn answer(&mut self, known_as: CallId) -> Option<CallId> {
        self.take(self.theirs(known_as)?)
    }

    /// Takes out every call that is still open, by the application's numbers.
    pub(crate) fn abandon(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.open).into_iter().map(|asking| self.known_as(asking.id)).collect()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The newest of the application's numbers.
    pub(crate) fn newest(&self) -> u64 {
        self.before + self.last.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_cause_finds_nothing_to_settle() {
        let mut asked = Asked::default();
        let now = Timestamp::from_millis(0);
        let id = asked.open(now, Some(Duration::from_millis(10)), None, None);
        asked.transmitted(id);
        assert_eq!(asked.settle(id), Some(Way::Transmitted));
        assert_eq!(asked.settle(id), None);
        assert_eq!(asked.expire(Timestamp::from_millis(10)), None);
        assert_eq!(asked.deadline(), None);
    }

    #[test]
    fn calls_expire_when_and_in_the_order_in_which_they_are_due() {
        let mut asked = Asked::default();
        let at = Timestamp::from_millis;
        let [third, first, second] =
            [30, 10, 20].map(|due| asked.open(at(0), Some(Duration::from_millis(due)), None, None));
        asked.open(at(0), None, None, None);
        assert_eq!((asked.deadline(), asked.expire(at(9))), (Some(at(10)), None));
        assert_eq!((asked.expire(at(10)), asked.expire(at(10))), (Some((first, Way::Waits)), None));
        assert_eq!(asked.deadline(), Some(at(20)));
        let over = [second, third].map(|id| Some((id, Way::Waits)));
        assert_eq!([asked.expire(at(40)), asked.expire(at(40))], over);
        assert_eq!((asked.expire(at(40)), asked.deadline()), (None, None));
    }

    #[test]
    fn only_what_was_transmitted_is_unknown_after_a_reset() {
        let mut asked = Asked::default();
        let now = Timestamp::from_millis(0);
        let (sent, waiting) = (asked.open(now, None, None, None), asked.open(now, None, None, None));
        asked.transmitted(sent);
        assert_eq!(asked.reset().unknown, [sent]);
        assert_eq!(asked.lose_all(), [(waiting, Way::Waits)]);
    }

    #[test]
    fn served_calls_ascend_and_are_capped() {
        let mut serving = Serving::new(1, 0);
        assert_eq!(serving.begin(CallId(0), None), Err(Violation::CallReused), "numbers begin at 1");
        assert_eq!(serving.begin(CallId(1), None), Ok(Some(CallId(1))));
        assert_eq!(serving.begin(CallId(2), None), Ok(None));
        assert_eq!(serving.begin(CallId(2), None), Err(Violation::CallReused));
        assert_eq!((serving.answer(CallId(1)), serving.answer(CallId(1))), (Some(CallId(1)), None));
        assert_eq!(serving.begin(CallId(3), None), Ok(Some(CallId(3))));
    }

    #[test]
    fn a_stream_takes_as_many_items_as_were_asked_for() {
        let mut asked = Asked::default();
        let id = asked.open(Timestamp::from_millis(0), None, Some(1), None);
        assert_eq!((asked.item(id), asked.item(id)), (Ok(true), Err(Violation::NoCredit)));
        assert!(asked.grant(id, 1));
        assert_eq!(asked.item(id), Ok(true));
        asked.settle(id);
        assert_eq!((asked.item(id), asked.grant(id, 1)), (Ok(false), false), "the stream is over");

        let mut serving = Serving::new(1, 0);
        assert_eq!(serving.begin(CallId(1), Some(1)), Ok(Some(CallId(1))));
        assert_eq!(serving.item(CallId(1)), Ok(Some(CallId(1))));
        assert_eq!(serving.item(CallId(1)), Err(Refused::Backpressure));
        assert_eq!(serving.credit(CallId(1), 1), Some(CallId(1)));
        assert_eq!(serving.credit(CallId(1), 2), Some(CallId(1)), "beside what there is");
        for expected in [Ok(Some(CallId(1))), Ok(Some(CallId(1))), Ok(Some(CallId(1))), Err(Refused::Backpressure)] {
            assert_eq!(serving.item(CallId(1)), expected);
        }
        assert_eq!(serving.cancel(CallId(1)), Some(CallId(1)));
        assert_eq!(serving.item(CallId(1)), Ok(None));
    }

    #[test]
    fn a_call_without_a_number_is_refused() {
        // It would be known to the application by the number of the last call of the session before.
        assert_eq!(Serving::new(8, 40).begin(CallId(0), None), Err(Violation::CallReused));
    }

    #[test]
    fn the_applications_numbers_go_on_where_the_other_sides_begin_anew() {
        let mut serving = Serving::new(8, 40);
        assert_eq!(serving.begin(CallId(1), None), Ok(Some(CallId(41))));
        assert_eq!(serving.begin(CallId(2), None), Ok(Some(CallId(42))));
        assert_eq!(serving.answer(CallId(1)), None, "a call of an earlier connection");
        assert_eq!(serving.answer(CallId(41)), Some(CallId(1)));
        assert_eq!(serving.cancel(CallId(2)), Some(CallId(42)));
        assert_eq!(serving.newest(), 42);
        assert_eq!(serving.begin(CallId(u64::MAX), None), Err(Malformed::IntegerTooLarge.into()));
    }
}
