//! Calls with an idempotency key: whoever asks again under the same key gets the answer of the first time.
//!
//! The call runs in a task of its own, so that it goes on when the session that asked is lost: the client asks again in
//! its next one. Answers are kept for ten minutes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use moorline_protocol::{code::Code, frame::Failure, payload::Payload, subject::Subject};
use tokio::{sync::oneshot, time::Instant};

use crate::tasks::Tasks;

/// How long an answer is kept, from the first time that it was asked for.
const KEPT: Duration = Duration::from_secs(600);

/// Answers kept at most, and bytes in them; with more, the oldest goes.
const MOST: usize = 65_536;
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Whose call it is, the handler, and the key: all must be the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) subject: Subject,
    /// Which client, where everybody is the same subject.
    pub(crate) client: Option<[u8; 32]>,
    pub(crate) handler: Arc<str>,
    pub(crate) key: String,
}

pub(crate) type Answer = Shared<BoxFuture<'static, Result<Payload, Failure>>>;

/// A call that was begun, and how many bytes its answer has, once there is one.
struct Begun {
    number: u64,
    answer: Answer,
    bytes: usize,
}

#[derive(Default)]
struct Known {
    answers: HashMap<Key, Begun>,
    /// The oldest first.
    since: VecDeque<(Instant, Key)>,
    /// In all answers.
    bytes: usize,
    /// Calls that were ever begun.
    begun: u64,
}

impl Known {
    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.since.pop_front()
            && let Some(begun) = self.answers.remove(&oldest)
        {
            self.bytes -= begun.bytes;
        }
    }

    /// The answer to the call of this number is there. It may be forgotten already, and the key another call's.
    fn answered(&mut self, key: &Key, number: u64, result: &Result<Payload, Failure>) {
        let Some(begun) = self.answers.get_mut(key).filter(|begun| begun.number == number) else { return };
        begun.bytes = match result {
            Ok(payload) => payload.bytes.len(),
            Err(failure) => failure.message.len() + failure.data.as_ref().map_or(0, |data| data.bytes.len()),
        };
        self.bytes += begun.bytes;
        while self.bytes > MOST_BYTES {
            self.forget_oldest();
        }
    }
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
        while known.since.front().is_some_and(|(since, _)| now - *since >= KEPT) || known.since.len() >= MOST {
            known.forget_oldest();
        }
        if let Some(begun) = known.answers.get(&key) {
            return begun.answer.clone();
        }
        known.begun += 1;
        let number = known.begun;
        let (answered, answer) = oneshot::channel();
        let run = run();
        let (once, whose) = (self.clone(), key.clone());
        tasks.spawn(async move {
            let result = run.await;
            once.0.lock().unwrap_or_else(PoisonError::into_inner).answered(&whose, number, &result);
            let _ = answered.send(result);
        });
        // A server that stops drops the task.
        let answer = answer.map(|answer| answer.unwrap_or_else(|_| Err(Failure::of(Code::INTERNAL)))).boxed().shared();
        known.answers.insert(key.clone(), Begun { number, answer: answer.clone(), bytes: 0 });
        known.since.push_back((now, key));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use moorline_protocol::subject::Tenant;

    use super::*;

    fn key(client: u8, handler: &str, key: &str) -> Key {
        let subject = Subject::anonymous(Tenant::default());
        Key { subject, client: Some([client; 32]), handler: handler.into(), key: key.to_owned() }
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
            assert!(known.bytes <= MOST_BYTES && known.answers.len() == known.since.len());
        }
        let again = once.answer(key(1, "export", "99"), &tasks, || panic!("it is known")).await;
        assert!(again.is_ok());
        assert_eq!(once.0.lock().unwrap().answers.len(), MOST_BYTES / LARGE);
    }

    #[tokio::test]
    async fn only_so_many_answers_are_kept() {
        let (once, tasks) = (Once::default(), Tasks::default());
        for number in 0..MOST + 10 {
            drop(once.answer(key(1, "pay", &number.to_string()), &tasks, || async { Ok(Payload::json("1")) }.boxed()));
        }
        let known = once.0.lock().unwrap();
        assert_eq!((known.answers.len(), known.since.len()), (MOST, MOST));
    }
}
