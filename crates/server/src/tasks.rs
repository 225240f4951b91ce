//! The tasks of a server: every one is counted, and none outlives it.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Owns the tasks that it spawns. Dropping the last clone does not end them; [`Tasks::abort`] does.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    aborted: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborted = self.aborted.clone();
        self.tracker.spawn(async move { aborted.run_until_cancelled(task).await });
    }

    /// Asks tasks that wait for it to come to an end.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Ready when [`Self::stop`] was called.
    pub(crate) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Ready when every task has ended.
    pub(crate) async fn done(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Drops every task at its next `await`.
    pub(crate) fn abort(&self) {
        self.aborted.cancel();
    }
}
