//! The asking end of the control socket. It blocks: who asks has nothing else to do.

use std::{error, fmt, io, path::Path, path::PathBuf};

use serde::de::DeserializeOwned;

use super::{Refusal, Request};

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug)]
#[non_exhaustive]
pub enum ControlError {
    /// No server runs on this data directory, or one that takes no commands.
    NotRunning {
        /// Where its socket would be.
        path: PathBuf,
    },
    /// This system has no sockets in its file system.
    NoSockets,
    /// The socket cannot be used.
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server does not do it.
    Refused(Refusal),
    /// What came back is not the answer to what was asked.
    Misunderstood,
}

impl fmt::Display for ControlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { path } => write!(formatter, "no server answers at {}", path.display()),
            Self::NoSockets => formatter.write_str(
                "this system has no sockets in its file system, so a running server cannot be told; restart it instead",
            ),
            Self::Io { path, .. } => write!(formatter, "the control socket {} does not work", path.display()),
            Self::Refused(refusal) => formatter.write_str(&refusal.message),
            Self::Misunderstood => formatter.write_str("the server's answer is not understood; is it of this version?"),
        }
    }
}

impl error::Error for ControlError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::NotRunning { .. } | Self::NoSockets | Self::Refused(_) | Self::Misunderstood => None,
        }
    }
}

/// A connection to the control socket of a running server.
#[derive(Debug)]
pub struct Client(imp::Client);

impl Client {
    /// Connects to the server that has this data directory.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`] when there is none.
    pub fn connect(data_dir: impl AsRef<Path>) -> Result<Self, ControlError> {
        imp::Client::connect(data_dir.as_ref()).map(Self)
    }

    /// Asks, and waits for the answer: [`Request`] says of which type it is.
    ///
    /// # Errors
    /// When the server does not do it, or does not answer in time.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ControlError> {
        self.0.ask(request)
    }
}

#[cfg(unix)]
mod imp {
    use std::{
        io::{self, BufRead as _, BufReader, Read as _, Write as _},
        os::unix::net::UnixStream,
        path::{Path, PathBuf},
        time::Duration,
    };

    use serde::de::DeserializeOwned;

    use super::{
        super::{Answer, MAX_ANSWER, Request, Told, VERSION, socket_path},
        ControlError,
    };

    /// Longer than a server on a busy machine takes; one that is stopped by a debugger does not answer at all.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[derive(Debug)]
    pub(super) struct Client {
        socket: BufReader<UnixStream>,
        path: PathBuf,
    }

    impl Client {
        pub(super) fn connect(data_dir: &Path) -> Result<Self, ControlError> {
            let path = socket_path(data_dir);
            let connected = UnixStream::connect(&path).and_then(|socket| {
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(socket)
            });
            match connected {
                Ok(socket) => Ok(Self { socket: BufReader::new(socket), path }),
                Err(error) => Err(match error.kind() {
                    // A socket that nobody listens on is what a server leaves that was killed.
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning { path },
                    _ => ControlError::Io { path, source: error },
                }),
            }
        }

        pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ControlError> {
            let line = self.exchange(request).map_err(|source| ControlError::Io { path: self.path.clone(), source })?;
            let answer: Answer = serde_json::from_slice(&line).map_err(|_| ControlError::Misunderstood)?;
            match answer.result {
                Told::Ok(value) => serde_json::from_value(value).map_err(|_| ControlError::Misunderstood),
                Told::Error(refusal) => Err(ControlError::Refused(refusal)),
            }
        }

        fn exchange(&mut self, request: &Request) -> io::Result<Vec<u8>> {
            let mut request = serde_json::to_value(request)?;
            request["version"] = VERSION.into();
            self.socket.get_mut().write_all(format!("{request}\n").as_bytes())?;
            let mut line = Vec::new();
            (&mut self.socket).take(MAX_ANSWER).read_until(b'\n', &mut line)?;
            if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
    }
}

#[cfg(not(unix))]
mod imp {
    use std::path::Path;

    use serde::de::DeserializeOwned;

    use super::{super::Request, ControlError};

    #[derive(Debug)]
    pub(super) enum Client {}

    impl Client {
        pub(super) fn connect(_: &Path) -> Result<Self, ControlError> {
            Err(ControlError::NoSockets)
        }

        pub(super) fn ask<T: DeserializeOwned>(&mut self, _: &Request) -> Result<T, ControlError> {
            match *self {}
        }
    }
}
