//! How the raw server keeps what it is told: SQLite by itself, with a write-ahead log that is synced with every commit, a
//! thread that writes, a prepared statement, and one commit for all that arrived while the last was under way.

use std::{path::Path, thread};

use anyhow::Result;
use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// What shares a commit, at most; as with the server under test.
const BATCH: usize = 512;

type Task = (Bytes, oneshot::Sender<()>);

/// Where to put what is to be kept.
#[derive(Clone)]
pub(super) struct Disk(mpsc::Sender<Task>);

impl Disk {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("raw.db"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE log (number INTEGER PRIMARY KEY, content BLOB NOT NULL)",
        )?;
        let (tasks, queue) = mpsc::channel(BATCH);
        // It ends with the last sender; the generator notices what is missing.
        thread::Builder::new().name("writer".into()).spawn(move || write(connection, queue))?;
        Ok(Self(tasks))
    }

    /// Returns when it is on the disk.
    pub(super) async fn keep(&self, content: Bytes) -> Result<()> {
        let (done, kept) = oneshot::channel();
        self.0.send((content, done)).await?;
        Ok(kept.await?)
    }
}

fn write(mut connection: Connection, mut queue: mpsc::Receiver<Task>) -> Result<()> {
    let mut tasks = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut tasks, BATCH) > 0 {
        let transaction = connection.transaction()?;
        for (content, _) in &tasks {
            transaction.prepare_cached("INSERT INTO log (content) VALUES (?)")?.execute([&content[..]])?;
        }
        transaction.commit()?;
        for (_, done) in tasks.drain(..) {
            let _ = done.send(());
        }
    }
    Ok(())
}
