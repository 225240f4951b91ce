//! Calls with an idempotency key: whoever asks again under the same key gets the answer of the first time.
//!
//! The call runs in a task of its own, so that it goes on when the session that asked is lost: the client asks again in
//! its next one. Answers are kept for ten minutes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use moorline_protocol::{code::Code, frame::Failure, payload::Payload};
use tokio::{sync::oneshot, time::Instant};

use crate::{limits::Caller, tasks::Tasks};

/// How long an answer is kept, from the first time that it was asked for.
const KEPT: Duration = Duration::from_secs(600);

/// Answers kept at most, and bytes in them; with more, the oldest of whoever has most of them goes.
const MOST: usize = 65_536;
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What one caller may have of that, so that his answers are of use to him and most of the room is left to others.
/// The largest message that may be configured still fits.
const MOST_OF_ONE: usize = MOST / 4;
const MOST_BYTES_OF_ONE: usize = MOST_BYTES / 4;

/// Whose call it is, the handler, and the key: all must be the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) caller: Caller,
    pub(crate) handler: Arc<str>,
    pub(crate) key: String,
}

pub(crate) type Answer = Shared<BoxFuture<'static, Result<Payload, Failure>>>;

/// Calls in the order in which they were begun.
type Number = u64;

/// A call that was begun, and how many bytes its answer has, once there is one.
struct Begun {
    number: Number,
    answer: Answer,
    bytes: usize,
}

/// What one caller has.
#[derive(Default)]
struct Held {
    calls: BTreeSet<Number>,
    bytes: usize,
}

/// Callers by how much they have; of those with as much, the one whose oldest call is the oldest comes last.
type Ranks = BTreeMap<(usize, Reverse<Number>), Caller>;

#[derive(Default)]
struct Known {
    answers: HashMap<Key, Begun>,
    /// The oldest first.
    since: BTreeMap<Number, (Instant, Key)>,
    /// Who has any.
    callers: HashMap<Caller, Held>,
    by_calls: Ranks,
    by_bytes: Ranks,
    /// In all answers.
    bytes: usize,
    /// Calls that were ever begun.
    begun: Number,
}

impl Known {
    fn forget_expired(&mut self, now: Instant) {
        while let Some((&oldest, (since, _))) = self.since.first_key_value()
            && now - *since >= KEPT
        {
            self.forget(oldest);
        }
    }

    /// Forgets as much as one more call of this caller needs.
    fn make_room(&mut self, caller: &Caller) {
        while let Some(held) = self.callers.get(caller)
            && held.calls.len() >= MOST_OF_ONE
        {
            self.forget_oldest_of(caller);
        }
        while self.since.len() >= MOST
            && let Some(fullest) = fullest(&self.by_calls)
        {
            self.forget_oldest_of(&fullest);
        }
    }

    fn begin(&mut self, key: Key, answer: Answer, now: Instant) -> Number {
        self.begun += 1;
        let number = self.begun;
        self.change(&key.caller, |held| _ = held.calls.insert(number));
        self.answers.insert(key.clone(), Begun { number, answer, bytes: 0 });
        self.since.insert(number, (now, key));
        number
    }

    /// The answer to the call of this number is there. It may be forgotten already, and the key another call's.
    fn answered(&mut self, key: &Key, number: Number, result: &Result<Payload, Failure>) {
        let Some(begun) = self.answers.get_mut(key).filter(|begun| begun.number == number) else { return };
        let bytes = match result {
            Ok(payload) => payload.bytes.len(),
            Err(failure) => failure.message.len() + failure.data.as_ref().map_or(0, |data| data.bytes.len()),
        };
        begun.bytes = bytes;
        self.bytes += bytes;
        self.change(&key.caller, |held| held.bytes += bytes);
        while let Some(held) = self.callers.get(&key.caller)
            && held.bytes > MOST_BYTES_OF_ONE
        {
            self.forget_oldest_of(&key.caller);
        }
        while self.bytes > MOST_BYTES
            && let Some(fullest) = fullest(&self.by_bytes)
        {
            self.forget_oldest_of(&fullest);
        }
    }

    fn forget_oldest_of(&mut self, caller: &Caller) {
        if let Some(&oldest) = self.callers.get(caller).and_then(|held| held.calls.first()) {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, number: Number) {
        if let Some((_, key)) = self.since.remove(&number)
            && let Some(Begun { bytes, .. }) = self.answers.remove(&key)
        {
            self.bytes -= bytes;
            self.change(&key.caller, |held| {
                held.calls.remove(&number);
                held.bytes -= bytes;
            });
        }
    }

    /// Changes what a caller has, and his ranks with it.
    fn change(&mut self, caller: &Caller, change: impl FnOnce(&mut Held)) {
        let mut held = self.callers.remove(caller).unwrap_or_default();
        if let Some(&oldest) = held.calls.first() {
            self.by_calls.remove(&(held.calls.len(), Reverse(oldest)));
            self.by_bytes.remove(&(held.bytes, Reverse(oldest)));
        }
        change(&mut held);
        if let Some(&oldest) = held.calls.first() {
            self.by_calls.insert((held.calls.len(), Reverse(oldest)), caller.clone());
            self.by_bytes.insert((held.bytes, Reverse(oldest)), caller.clone());
            self.callers.insert(caller.clone(), held);
        }
    }
}

fn fullest(ranks: &Ranks) -> Option<Caller> {
    ranks.last_key_value().map(|(_, caller)| caller.clone())
}

/// The calls that are known by a key.
#[derive(Clone, Default)]
pub(crate) struct Once(Arc<Mutex<Known>>);

impl Once {
    /// The answer that is known by `key`, or the one of `run`, which then runs in a task of its own.
    pub(crate) fn answer(
        &self,
        key: Key,
        tasks: &Tasks,
        run: impl FnOnce() -> BoxFuture<'static, Result<Payload, Failure>>,
    ) -> Answer {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.forget_expired(now);
        if let Some(begun) = known.answers.get(&key) {
            return begun.answer.clone();
        }
        known.make_room(&key.caller);
        let (answered, answer) = oneshot::channel();
        // A server that stops drops the task.
        let answer = answer.map(|answer| answer.unwrap_or_else(|_| Err(Failure::of(Code::INTERNAL)))).boxed().shared();
        let number = known.begin(key.clone(), answer.clone(), now);
        let run = run();
        let once = self.clone();
        tasks.spawn(async move {
            let result = run.await;
            once.0.lock().unwrap_or_else(PoisonError::into_inner).answered(&key, number, &result);
            let _ = answered.send(result);
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use moorline_protocol::subject::{Subject, Tenant};

    use super::*;

    fn key(client: u8, handler: &str, key: &str) -> Key {
        let subject = Subject::anonymous(Tenant::default());
        let caller = Caller { subject, client: Some([client; 32]) };
        Key { caller, handler: handler.into(), key: key.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_runs_once_for_each_owner_handler_and_key_until_it_is_forgotten() {
        let (once, tasks, runs) = (Once::default(), Tasks::default(), Arc::new(AtomicUsize::new(0)));
        let call = |key| {
            let runs = runs.clone();
            once.answer(key, &tasks, move || {
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(Payload::json(runs.fetch_add(1, Ordering::SeqCst).to_string()))
                }
                .boxed()
            })
        };
        let answer = |text: &'static str| Ok(Payload::json(text));
        // Given up before the answer: it goes on all the same.
        drop(call(key(1, "pay", "a")));
        let (again, other) = tokio::join!(call(key(1, "pay", "a")), call(key(2, "pay", "a")));
        assert_eq!((again, other), (answer("0"), answer("1")));
        assert_eq!(call(key(1, "refund", "a")).await, answer("2"));
        assert_eq!(call(key(1, "pay", "b")).await, answer("3"));
        assert_eq!(call(key(1, "pay", "a")).await, answer("0"));
        tokio::time::advance(KEPT).await;
        assert_eq!(call(key(1, "pay", "a")).await, answer("4"));
    }

    /// 65,536 answers were kept however large each was: 256 GiB, with the largest that there may be.
    #[tokio::test]
    async fn regression_answers_are_kept_up_to_so_many_bytes() {
        const LARGE: usize = 1024 * 1024;
        let (once, tasks) = (Once::default(), Tasks::default());
        let large = || async { Ok(Payload::bytes(vec![0; LARGE])) }.boxed();
        for number in 0..100 {
            let answer = once.answer(key(1, "export", &number.to_string()), &tasks, large).await;
            assert_eq!(answer.map(|payload| payload.bytes.len()), Ok(LARGE), "who asks gets it all the same");
            let known = once.0.lock().unwrap();
            assert!(known.bytes <= MOST_BYTES_OF_ONE && known.answers.len() == known.since.len());
        }
        let again = once.answer(key(1, "export", "99"), &tasks, || panic!("it is known")).await;
        assert!(again.is_ok());
        assert_eq!(once.0.lock().unwrap().answers.len(), MOST_BYTES_OF_ONE / LARGE);
        for client in 2..20 {
            for number in 0..MOST_BYTES_OF_ONE / LARGE {
                assert!(once.answer(key(client, "export", &number.to_string()), &tasks, large).await.is_ok());
                assert!(once.0.lock().unwrap().bytes <= MOST_BYTES);
            }
        }
        let known = once.0.lock().unwrap();
        assert_eq!((known.bytes, known.answers.len()), (MOST_BYTES, MOST_BYTES / LARGE));
    }

    /// Calls that many are known by, of this client from this number on.
    fn fill(once: &Once, tasks: &Tasks, client: u8, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let run = || async { Ok(Payload::json("1")) }.boxed();
            drop(once.answer(key(client, "pay", &number.to_string()), tasks, run));
        }
    }

    #[tokio::test]
    async fn only_so_many_answers_are_kept() {
        let (once, tasks) = (Once::default(), Tasks::default());
        for client in 0..10 {
            fill(&once, &tasks, client, 0..MOST / 8);
        }
        let known = once.0.lock().unwrap();
        assert_eq!((known.answers.len(), known.since.len()), (MOST, MOST));
        let held: usize = known.by_calls.keys().map(|(calls, _)| calls).sum();
        assert_eq!((held, known.callers.len(), known.by_calls.len(), known.by_bytes.len()), (MOST, 10, 10, 10));
    }

    /// The oldest went, whosesoever it was: a client that called with many keys had those of all others forgotten, and
    /// what they asked again for ran twice.
    #[tokio::test]
    async fn regression_who_has_many_answers_pushes_out_his_own_and_not_those_of_others() {
        let (once, tasks) = (Once::default(), Tasks::default());
        fill(&once, &tasks, 1, 0..10);
        // One by itself never gets so far as to fill the whole.
        fill(&once, &tasks, 2, 0..2 * MOST);
        assert_eq!(once.0.lock().unwrap().answers.len(), 10 + MOST_OF_ONE);
        // Several do, and then the fullest of them gives way.
        for client in 3..10 {
            fill(&once, &tasks, client, 0..MOST_OF_ONE);
        }
        assert_eq!(once.0.lock().unwrap().answers.len(), MOST);
        for number in 0..10 {
            drop(once.answer(key(1, "pay", &number.to_string()), &tasks, || panic!("it is known")));
        }
        // Whose own are pushed out, his oldest are.
        let newest = (MOST_OF_ONE - 1).to_string();
        drop(once.answer(key(9, "pay", &newest), &tasks, || panic!("it is known")));
        assert!(!once.0.lock().unwrap().answers.contains_key(&key(2, "pay", "0")));
    }

    #[tokio::test]
    async fn what_is_known_is_answered_without_making_room() {
        let (once, tasks) = (Once::default(), Tasks::default());
        fill(&once, &tasks, 1, 0..MOST_OF_ONE);
        fill(&once, &tasks, 1, 0..MOST_OF_ONE);
        assert!(once.0.lock().unwrap().answers.contains_key(&key(1, "pay", "0")));
        assert_eq!(once.0.lock().unwrap().begun, u64::try_from(MOST_OF_ONE).unwrap());
    }
}
