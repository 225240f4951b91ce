//! How often a handler runs for whom.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use moorline_protocol::subject::Subject;
use tokio::time::Instant;

use super::bucket::Buckets;
use crate::rate::Rate;

/// Callers that one handler knows, in each of two generations.
const CALLERS: usize = 8_192;

/// Who calls: the subject; of those who are all anonymous, which client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    pub(crate) subject: Subject,
    pub(crate) client: Option<[u8; 32]>,
}

/// The rate of one handler.
pub(crate) struct Turns(Mutex<Buckets<Caller>>);

impl Turns {
    pub(crate) fn new(rate: Rate) -> Self {
        Self(Mutex::new(Buckets::new(rate, CALLERS)))
    }

    /// Takes a turn of this caller.
    ///
    /// # Errors
    /// How long until he has one.
    pub(crate) fn take(&self, caller: &Caller, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = buckets.rate();
        let bucket = buckets.of(caller, now);
        if bucket.take(rate, now) { Ok(()) } else { Err(bucket.wait(rate)) }
    }
}

#[cfg(test)]
mod tests {
    use moorline_protocol::subject::Tenant;

    use super::*;
    use crate::rate::per_minute;

    #[test]
    fn a_subject_has_its_turns_and_anonymous_clients_each_their_own() {
        let now = Instant::now();
        let turns = Turns::new(per_minute(60));
        let caller =
            |name: &str, client| Caller { subject: Subject::new(Tenant::default(), name).expect("a name"), client };
        let taken = |caller: &Caller| (0..999).filter(|_| turns.take(caller, now).is_ok()).count();
        let ann = caller("ann", None);
        assert_eq!((taken(&ann), taken(&caller("bob", None))), (60, 60));
        assert_eq!((taken(&caller("anonymous", Some([1; 32]))), taken(&caller("anonymous", Some([2; 32])))), (60, 60));
        assert_eq!(turns.take(&ann, now), Err(Duration::from_secs(1)));
        assert_eq!(turns.take(&ann, now + Duration::from_millis(1_001)), Ok(()));
    }
}
