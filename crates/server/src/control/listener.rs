//! The answering end of the control socket.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use super::{Answer, Commands, MAX_REQUEST, Refusal, RefusalCode, Told, VERSION, read_request, socket_path};
use crate::{data_dir::DataDir, tasks::Tasks};

/// Askers at once: a person or two, and their scripts.
const ASKERS: usize = 8;

/// How long a request may take to come, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait after the system refused a socket, usually for the lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control socket at work. Dropping it ends it, and takes it away.
pub(crate) struct Control {
    tasks: Tasks,
    path: PathBuf,
}

/// A control socket that is bound and answers nobody yet.
pub(crate) struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Whose it is.
    uid: u32,
}

impl Control {
    /// Makes the socket, in a directory that is ours. What a server left there that is gone is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another server answers there; otherwise what the system says.
    pub(crate) fn bind(dir: &DataDir) -> io::Result<Bound> {
        let path = socket_path(dir.path());
        // The lock says that nobody can. Where a file system's locks do not hold, this does.
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let nest = Nest::make(dir.path().join(format!(".control-{}", process::id())))?;
        let inside = nest.0.join("s");
        let listener = UnixListener::bind(&inside)?;
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        let uid = fs::metadata(&inside)?.uid();
        fs::rename(&inside, &path)?;
        Ok(Bound { listener, path, uid })
    }

    /// Begins to answer.
    pub(crate) fn start(bound: Bound, commands: Commands) -> Self {
        let Bound { listener, path, uid } = bound;
        let tasks = Tasks::default();
        let spawner = tasks.clone();
        tasks.spawn(async move { accept(listener, uid, Arc::new(commands), &spawner).await });
        Self { tasks, path }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.tasks.abort();
        // The data directory is still ours, so that it cannot be another server's.
        let _ = fs::remove_file(&self.path);
    }
}

/// A directory that nobody else can enter: a socket has the mode of the process's mask until its own is set, and until
/// then it is in here.
struct Nest(PathBuf);

impl Nest {
    fn make(path: PathBuf) -> io::Result<Self> {
        // Of a process of the same number that was killed in between.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn accept(listener: UnixListener, uid: u32, commands: Arc<Commands>, tasks: &Tasks) {
    let askers = Arc::new(Semaphore::new(ASKERS));
    loop {
        let Ok(permit) = askers.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) if is_allowed(&socket, uid) => {
                let commands = commands.clone();
                tasks.spawn(async move {
                    // An asker that goes away has its reasons.
                    let _ = serve(socket, &commands).await;
                    drop(permit);
                });
            }
            Ok(_) => tracing::warn!("the control socket was opened by another user, who is not answered"),
            Err(error) => {
                tracing::warn!(%error, "an asker could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_allowed(socket: &UnixStream, uid: u32) -> bool {
    socket.peer_cred().is_ok_and(|peer| may_ask(peer.uid(), uid))
}

/// The user of the server, and root, from whom nothing can be kept.
fn may_ask(asker: u32, owner: u32) -> bool {
    asker == owner || asker == 0
}

/// Answers one request after the other, until the asker goes or takes too long.
async fn serve(mut socket: UnixStream, commands: &Commands) -> io::Result<()> {
    let (reading, mut writing) = socket.split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = Vec::new();
        // One more than is allowed, to see that there is one.
        let mut bounded = (&mut reading).take(MAX_REQUEST as u64 + 1);
        timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let result = match whole {
            true => match read_request(&line) {
                Ok(request) => commands.run(request).await,
                Err(refusal) => Err(refusal),
            },
            false => {
                let message = format!("a request is one line of at most {MAX_REQUEST} bytes");
                Err(Refusal::new(RefusalCode::BadRequest, message))
            }
        };
        let answer = Answer { version: VERSION, result: result.map_or_else(Told::Error, Told::Ok) };
        let mut answer = serde_json::to_vec(&answer)?;
        answer.push(b'\n');
        timeout(PATIENCE, writing.write_all(&answer)).await??;
        if !whole {
            // What follows is in the middle of something.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn mode(path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o777)
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_nothing_else_is_left() -> TestResult {
        let dir = tempfile::tempdir()?;
        let data = DataDir::open(dir.path())?;
        let bound = Control::bind(&data)?;
        assert_eq!(mode(&bound.path)?, 0o600);
        let mut names: Vec<_> =
            fs::read_dir(dir.path())?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        assert_eq!(names, ["control.sock", "lock"]);
        Ok(())
    }

    /// That the question is asked at all, `tests/control.rs` shows where it can: with another user's process.
    #[test]
    fn whoever_is_neither_the_owner_nor_root_may_not_ask() {
        for (asker, owner, may) in
            [(1_000, 1_000, true), (0, 1_000, true), (0, 0, true), (1_001, 1_000, false), (1_000, 0, false)]
        {
            assert_eq!(may_ask(asker, owner), may, "{asker} of {owner}");
        }
    }

    #[tokio::test]
    async fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() -> TestResult {
        let dir = tempfile::tempdir()?;
        let data = DataDir::open(dir.path())?;
        drop(Control::bind(&data)?);
        // It is still there, and nobody listens.
        assert!(socket_path(dir.path()).exists());
        let living = Control::bind(&data)?;
        let refused = Control::bind(&data).err().ok_or("it was replaced")?;
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(living);
        Ok(())
    }
}
