//! What somebody in a channel has sent to this client alone, until the program reads it.
//!
//! It stands in no log, so that what is not kept here is lost. It belongs to the session: it also comes while the channel
//! is not followed, as between two tries of a reader who was too slow.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use moorline_protocol::frame::Direct;
use tokio::sync::Notify;

/// Messages that wait for their reader.
const MOST: usize = 1_024;

/// Bytes of them. One waits in any case.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Something for the reader.
#[derive(Debug)]
pub(crate) enum Posted {
    Direct(Direct),
    /// Here so many came for which there was no room.
    Missed(u64),
}

/// What waits for one reader.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    posted: VecDeque<Posted>,
    bytes: usize,
}

impl Mailbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, direct: Direct) {
        let mut waiting = self.waiting();
        let Waiting { posted, bytes } = &mut *waiting;
        let size = direct.content.len();
        if posted.is_empty() || (posted.len() < MOST && *bytes + size <= MOST_BYTES) {
            *bytes += size;
            posted.push_back(Posted::Direct(direct));
        } else if let Some(Posted::Missed(count)) = posted.back_mut() {
            *count += 1;
        } else {
            posted.push_back(Posted::Missed(1));
        }
        drop(waiting);
        self.came.notify_one();
    }

    fn take(&self) -> Option<Posted> {
        let mut waiting = self.waiting();
        let posted = waiting.posted.pop_front()?;
        if let Posted::Direct(direct) = &posted {
            waiting.bytes -= direct.content.len();
        }
        Some(posted)
    }

    /// The next one. Dropping the future takes nothing.
    pub(crate) async fn next(&self) -> Posted {
        loop {
            if let Some(posted) = self.take() {
                return posted;
            }
            // It remembers one that came since.
            self.came.notified().await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use moorline_protocol::{channel::Kind, payload::Name, time::UnixMillis};

    use super::*;

    /// Something for one in `room`.
    pub(crate) fn direct(content: impl Into<Bytes>) -> Direct {
        let name = Name::new("room").expect("a name");
        Direct { kind: Kind::Topic, name, at: UnixMillis(1), content: content.into() }
    }

    fn read(mailbox: &Mailbox) -> Vec<Result<Bytes, u64>> {
        let next = || mailbox.next().now_or_never();
        let posted = std::iter::from_fn(next).map(|posted| match posted {
            Posted::Direct(direct) => Ok(direct.content),
            Posted::Missed(count) => Err(count),
        });
        posted.collect()
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_where_it_is_missing() {
        let mailbox = Mailbox::default();
        for number in 0..MOST + 10 {
            mailbox.put(direct(number.to_string()));
        }
        let first = mailbox.next().now_or_never();
        assert!(matches!(first, Some(Posted::Direct(direct)) if direct.content == "0"));
        // There is none yet: the place that is free was that of those which are missing.
        mailbox.put(direct("too many"));
        mailbox.next().now_or_never().expect("another");
        mailbox.put(direct("later"));
        let read = read(&mailbox);
        assert_eq!(read.len(), MOST);
        assert_eq!(read[MOST - 2..], [Err(11), Ok(Bytes::from("later"))]);
        assert_eq!(mailbox.waiting().bytes, 0);
    }

    #[test]
    fn large_ones_are_bounded_by_their_bytes_and_one_waits_in_any_case() {
        let mailbox = Mailbox::default();
        let large = Bytes::from(vec![0; MOST_BYTES + 1]);
        for _ in 0..3 {
            mailbox.put(direct(large.clone()));
        }
        assert_eq!(read(&mailbox), [Ok(large), Err(2)]);
        for _ in 0..5 {
            mailbox.put(direct(vec![0; MOST_BYTES / 4]));
        }
        assert_eq!(read(&mailbox).iter().filter(|one| one.is_ok()).count(), 4);
    }
}
