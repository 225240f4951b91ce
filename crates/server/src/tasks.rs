//! The tasks of a server: every one is counted, and none outlives it.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Counts the tasks that it spawns. Dropping the last clone does not end them, since tasks have clones themselves;
/// [`Tasks::abort`] does, and so does dropping [`Owner`].
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    aborted: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborted = self.aborted.clone();
        // In a box, because a future that is handed on is kept once by each that has it: three times, here.
        let task = Box::pin(task);
        self.tracker.spawn(async move { aborted.run_until_cancelled(task).await });
    }

    /// Asks tasks that wait for it to come to an end, and drops those that have not within this time. Says whether all
    /// ended by themselves.
    pub(crate) async fn finish(&self, within: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        let ended = timeout(within, self.tracker.wait()).await.is_ok();
        self.abort();
        ended
    }

    /// Ready when [`Self::finish`] was called.
    pub(crate) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Drops every task at its next `await`.
    pub(crate) fn abort(&self) {
        self.aborted.cancel();
    }
}

/// Ends the tasks when it is dropped: a server that is given up in the middle leaves nothing behind that runs.
pub(crate) struct Owner(pub(crate) Tasks);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}
