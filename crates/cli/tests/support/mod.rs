//! The built program, started and asked. Every test has its own directory and port 0.
#![allow(dead_code, reason = "each of the test programs uses a part of it")]

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

pub(crate) type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// Longer than any of this takes: what fails is to fail, not to hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program in this directory, with nothing of this process's environment.
pub(crate) fn moorline(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
    command.current_dir(dir).args(arguments).env_clear();
    command
}

/// What it prints when it ends by itself.
pub(crate) fn finished(command: &mut Command) -> TestResult<(Option<i32>, String, String)> {
    let output = command.output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// A server that runs; it is killed when the test is over.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    pub(crate) banner: Value,
}

impl Running {
    /// Starts the program and waits for its banner, the first line on stderr.
    pub(crate) fn start(command: &mut Command) -> TestResult<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let first = lines.recv_timeout(PATIENCE)?;
        let banner = serde_json::from_str(&first).map_err(|_| first)?;
        Ok(Self { child, lines, banner })
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.banner.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The address it listens on.
    pub(crate) fn authority(&self) -> &str {
        self.text("/listen/0").split('/').nth(2).unwrap_or_default()
    }

    /// Asks for a path and leaves the answer to be read.
    pub(crate) fn request(&self, path: &str) -> TestResult<TcpStream> {
        send(self.authority(), "GET", path)
    }

    /// Asks the internal listener, and gives the status and the body.
    pub(crate) fn internal(&self, method: &str, path: &str) -> TestResult<(u16, String)> {
        answer(send(self.text("/internal").trim_start_matches("http://"), method, path)?)
    }

    /// Sends a signal by its name. There is no safe way to without a program or a crate for it.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) -> TestResult {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err("kill failed".into()) }
    }

    /// Waits until a log line has these words.
    pub(crate) fn wait_for(&self, words: &str) -> TestResult {
        self.next_with(&[words]).map(drop)
    }

    /// Waits for a log line that has one of these words, and gives it.
    pub(crate) fn next_with(&self, words: &[&str]) -> TestResult<String> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE)?;
            if words.iter().any(|word| line.contains(word)) {
                return Ok(line);
            }
        }
    }

    /// Waits for the end: stderr ends with the program.
    #[cfg(unix)]
    pub(crate) fn wait(mut self) -> TestResult<std::process::ExitStatus> {
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        Ok(self.child.wait()?)
    }
}

pub(crate) fn send(authority: &str, method: &str, path: &str) -> TestResult<TcpStream> {
    let mut socket = TcpStream::connect(authority)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    Ok(socket)
}

pub(crate) fn answer(mut socket: TcpStream) -> TestResult<(u16, String)> {
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok((head.split(' ').nth(1).ok_or("no status")?.parse()?, body.to_owned()))
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];
