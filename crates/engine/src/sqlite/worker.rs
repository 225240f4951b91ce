//! The threads that speak with SQLite: one that writes, and some that read.
//!
//! What arrives while a commit is under way forms the next one. So a single write waits for nothing but its own commit,
//! and many share theirs.

use std::{
    io, mem,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use moorline_protocol::{
    channel::{ChannelId, Entry, LogEpoch},
    entropy::Entropy,
};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::unconstrained,
};

use super::{
    OpenError,
    connect::{LOCKED, Tuning, log_of, open, open_writer, size},
};
use crate::{EngineError, Watcher, error::StorageFault};

/// Operations that share a commit, at most; and that wait for the next.
const BATCH: usize = 512;

/// Threads that read. Reading waits for the disk more than for the processor.
const READERS: usize = 2;

/// How long a write may wait for those who read, so that the log can begin anew.
const PATIENCE: Duration = Duration::from_millis(250);

/// What there is to tell of a write that was committed.
pub(super) enum News {
    /// An entry was appended.
    Appended(ChannelId, LogEpoch, Arc<Entry>),
    /// Channels were removed.
    Removed(Vec<ChannelId>),
}

/// A write on its way: done, then committed with others, then told.
trait Write: Send {
    /// Does it, once. An error is its own, and has left the connection as it was.
    fn run(&mut self, connection: &Connection, entropy: &mut Entropy) -> Result<(), EngineError>;
    fn settle(self: Box<Self>, committed: Result<(), EngineError>, watchers: &[Arc<dyn Watcher>]);
}

type Outcome<T> = Result<(T, Option<News>), EngineError>;

struct Task<T, F> {
    stage: Stage<T, F>,
    answer: oneshot::Sender<Result<T, EngineError>>,
}

enum Stage<T, F> {
    Waiting(F),
    Done(Outcome<T>),
    /// In between.
    Running,
}

impl<T: Send, F: FnOnce(&Connection, &mut Entropy) -> Outcome<T> + Send> Write for Task<T, F> {
    fn run(&mut self, connection: &Connection, entropy: &mut Entropy) -> Result<(), EngineError> {
        if let Stage::Waiting(work) = mem::replace(&mut self.stage, Stage::Running) {
            self.stage = Stage::Done(work(connection, entropy));
        }
        match &self.stage {
            Stage::Done(Err(error)) => Err(error.clone()),
            Stage::Done(Ok(_)) | Stage::Waiting(_) | Stage::Running => Ok(()),
        }
    }

    fn settle(self: Box<Self>, committed: Result<(), EngineError>, watchers: &[Arc<dyn Watcher>]) {
        let outcome = match (self.stage, committed) {
            (Stage::Done(Ok((value, news))), Ok(())) => {
                if let Some(news) = news {
                    watchers.iter().for_each(|watcher| news.tell(&**watcher));
                }
                Ok(value)
            }
            (Stage::Done(Err(error)), _) | (_, Err(error)) => Err(error),
            (Stage::Waiting(_) | Stage::Running, Ok(())) => Err(EngineError::Closed),
        };
        // Who asked may have given up; what was done is done.
        let _ = self.answer.send(outcome);
    }
}

impl News {
    fn tell(&self, watcher: &dyn Watcher) {
        match self {
            Self::Appended(channel, epoch, entry) => watcher.appended(channel, *epoch, entry),
            Self::Removed(channels) => channels.iter().for_each(|channel| watcher.removed(channel)),
        }
    }
}

type Read = Box<dyn FnOnce(Result<&Connection, EngineError>) + Send>;

/// What the threads share.
struct Shared {
    path: Box<Path>,
    tuning: Tuning,
    watchers: RwLock<Vec<Arc<dyn Watcher>>>,
    /// How often the file had to be opened anew: a reader with an older one does so, too.
    generation: AtomicU64,
}

/// Dropping it lets what was asked for end, and waits for that.
pub(super) struct Workers {
    shared: Arc<Shared>,
    writes: Option<mpsc::Sender<Box<dyn Write>>>,
    reads: Option<mpsc::Sender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(super) fn start(path: &Path, seed: [u8; 32], tuning: Tuning) -> Result<Self, OpenError> {
        let (watchers, generation) = (RwLock::default(), AtomicU64::default());
        let shared = Arc::new(Shared { path: path.into(), tuning, watchers, generation });
        // The first connection makes the file; only then there is something to read.
        let connection = open_writer(path, tuning)?;
        let (writes, queue) = mpsc::channel(BATCH);
        let writer =
            Writer { shared: Arc::clone(&shared), queue, connection: Some(connection), log_bytes: tuning.log_bytes };
        let mut threads = vec![spawn("moorline-writer", move || writer.run(Entropy::new(seed)))?];
        let (reads, queue) = mpsc::channel(BATCH);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let reader = Reader { shared: Arc::clone(&shared), queue: Arc::clone(&queue), connection: None };
            threads.push(spawn("moorline-reader", move || reader.run())?);
        }
        Ok(Self { shared, writes: Some(writes), reads: Some(reads), threads })
    }

    pub(super) fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.shared.watchers.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    /// Does `work` in a transaction, and answers when that is committed.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Entropy) -> Outcome<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let task = Box::new(Task { stage: Stage::Waiting(work), answer });
        let writes = self.writes.as_ref().ok_or(EngineError::Closed)?;
        // At once where there is room. `send` counts against what tokio lets a task do in one go, and of those that it puts
        // off it wakes the last one first: what one client writes would be kept in another order than it was written in.
        match writes.try_send(task) {
            Ok(()) => {}
            // Who waits for a place gets one in his turn, if nothing but a place keeps him waiting.
            Err(TrySendError::Full(task)) => {
                unconstrained(writes.send(task)).await.map_err(|_| EngineError::Closed)?;
            }
            Err(TrySendError::Closed(_)) => return Err(EngineError::Closed),
        }
        answered.await.map_err(|_| EngineError::Closed)?
    }

    /// Does `work` beside whatever is written, on what is committed.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let task: Read = Box::new(|connection| {
            // Who asked may have given up.
            let _ = answer.send(connection.and_then(|connection| in_one_view(connection, work)));
        });
        let reads = self.reads.as_ref().ok_or(EngineError::Closed)?;
        reads.send(task).await.map_err(|_| EngineError::Closed)?;
        answered.await.map_err(|_| EngineError::Closed)?
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The writer last: SQLite takes what stands beside the file into it when the last connection goes, and of two that go
        // at once each may see the other and leave it to that one.
        self.reads = None;
        let mut threads = self.threads.drain(..);
        let writer = threads.next();
        for reader in threads {
            // One that panicked has said so.
            let _ = reader.join();
        }
        self.writes = None;
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// Everything that `work` reads is of one moment.
fn in_one_view<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let view = connection.unchecked_transaction()?;
    let found = work(&view)?;
    view.commit()?;
    Ok(found)
}

struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Box<dyn Write>>,
    connection: Option<Connection>,
    /// So large may the log beside the file be before the next look.
    log_bytes: u64,
}

impl Writer {
    fn run(mut self, mut entropy: Entropy) {
        let mut batch = Vec::new();
        while self.queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            let (done, committed) = self.commit(&mut batch, &mut entropy);
            let watchers = self.shared.watchers.read().unwrap_or_else(PoisonError::into_inner);
            for task in done {
                task.settle(committed.clone(), &watchers);
            }
            drop(watchers);
            self.shorten_log();
        }
    }

    /// Lets the log beside the file begin anew once it is large, for which it waits until nobody reads from it any more. Who
    /// reads for longer than that, as an export does, keeps it from doing so, until it has grown by as much again.
    fn shorten_log(&mut self) {
        let log = log_of(&self.shared.path);
        // What cannot be read now is found out by the next write.
        let Some(connection) = self.connection.as_ref().filter(|_| size(&log).is_ok_and(|size| size > self.log_bytes))
        else {
            return;
        };
        let _ = connection.busy_timeout(PATIENCE);
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
        let _ = connection.busy_timeout(LOCKED);
        self.log_bytes = size(&log).unwrap_or_default() + self.shared.tuning.log_bytes;
    }

    /// Does a batch in one transaction. Gives all of it, and what became of the transaction.
    fn commit(
        &mut self,
        batch: &mut Vec<Box<dyn Write>>,
        entropy: &mut Entropy,
    ) -> (Vec<Box<dyn Write>>, Result<(), EngineError>) {
        let mut batch = mem::take(batch);
        let committed = self.connection().and_then(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for task in &mut batch {
                transaction.prepare_cached("SAVEPOINT task")?.execute(())?;
                if let Err(error) = task.run(&transaction, entropy) {
                    // After some failures SQLite has taken back the whole transaction: nobody's part of it is there.
                    if transaction.is_autocommit() {
                        return Err(error);
                    }
                    transaction.prepare_cached("ROLLBACK TO task")?.execute(())?;
                }
                transaction.prepare_cached("RELEASE task")?.execute(())?;
            }
            Ok(transaction.commit()?)
        });
        if let Err(EngineError::Storage(_)) = committed {
            // Nobody knows what is on the disk now. What is there counts, not what is in memory.
            self.connection = None;
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
        (batch, committed)
    }

    fn connection(&mut self) -> Result<&mut Connection, EngineError> {
        if self.connection.is_none() {
            self.connection =
                Some(open_writer(&self.shared.path, self.shared.tuning).map_err(|error| match error {
                    OpenError::Sqlite(error) => EngineError::from(error),
                    other => EngineError::Storage(StorageFault(other.to_string().into())),
                })?);
        }
        self.connection.as_mut().ok_or(EngineError::Closed)
    }
}

struct Reader {
    shared: Arc<Shared>,
    queue: Arc<Mutex<mpsc::Receiver<Read>>>,
    connection: Option<(u64, Connection)>,
}

impl Reader {
    fn run(mut self) {
        loop {
            // The lock is held while waiting: whoever has it gets the next one.
            let task = self.queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let Some(task) = task else { return };
            task(self.connection());
        }
    }

    fn connection(&mut self) -> Result<&Connection, EngineError> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if self.connection.as_ref().is_none_or(|(opened, _)| *opened != generation) {
            self.connection = None;
            // Read-only would not do: it could not make the shared memory that goes with the log.
            let connection = open(&self.shared.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.pragma_update(None, "query_only", true)?;
            self.connection = Some((generation, connection));
        }
        self.connection.as_ref().map(|(_, connection)| connection).ok_or(EngineError::Closed)
    }
}
