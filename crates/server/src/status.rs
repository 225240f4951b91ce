//! Where a server is in its life, and who wants to hear of it.

use std::sync::Arc;

use tokio::sync::watch;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerStatus {
    /// It is built, and takes nobody yet.
    Idle,
    /// It is being built.
    Starting,
    /// It takes whoever comes.
    Started,
    /// It says good-bye to its clients and takes no new ones.
    Draining,
    /// It is over.
    Stopped,
    /// It did not come to be; [`ServerBuilder::build`](crate::ServerBuilder::build) says why.
    Failed,
}

impl ServerStatus {
    /// The word for it, as `/readyz` and `moorline status` say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle | Self::Starting => "starting",
            Self::Started => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// A function that hears of every change.
pub(crate) type Callback = Arc<dyn Fn(ServerStatus) + Send + Sync>;

/// The status of one server, for those who watch it and those who are called.
#[derive(Clone)]
pub(crate) struct Life {
    status: Arc<watch::Sender<ServerStatus>>,
    callbacks: Vec<Callback>,
}

impl Life {
    pub(crate) fn new(callbacks: Vec<Callback>) -> Self {
        Self { status: Arc::new(watch::Sender::new(ServerStatus::Starting)), callbacks }
    }

    pub(crate) fn becomes(&self, status: ServerStatus) {
        self.status.send_replace(status);
        self.callbacks.iter().for_each(|callback| callback(status));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ServerStatus> {
        self.status.subscribe()
    }
}
