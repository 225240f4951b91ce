//! Starts other programs: shows what runs, and on failure the command that a person can run again.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal, Read, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::repo;

/// A program to run: with no standard input, from the repository's root unless told otherwise.
pub(crate) struct Cmd(Command);

/// A program by name.
pub(crate) fn cmd(program: impl AsRef<OsStr>) -> Cmd {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir(repo::root());
    // Cargo says so of the package it runs, which is us; what we start must not take it for its own.
    command.env_remove("CARGO_MANIFEST_DIR");
    Cmd(command)
}

pub(crate) fn cargo(subcommand: &str) -> Cmd {
    cmd("cargo").arg(subcommand)
}

impl Cmd {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.0.current_dir(dir);
        self
    }

    /// The command as a person at the repository's root would type it.
    pub(crate) fn shown(&self) -> String {
        let dir = self.0.get_current_dir().map_or_else(|| ".".into(), repo::shown);
        let word = |text: &OsStr| {
            let text = if dir == "." { repo::shown(Path::new(text)) } else { text.to_string_lossy().into_owned() };
            if text.contains([' ', '*', '"', '$', '&', ';', '(']) { format!("'{text}'") } else { text }
        };
        let variables = self.0.get_envs().filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), word(value?))) // none: a variable taken away
        });
        let words = [self.0.get_program()].into_iter().chain(self.0.get_args()).map(word);
        let line = variables.chain(words).collect::<Vec<_>>().join(" ");
        if dir == "." { line } else { format!("(cd {dir} && {line})") }
    }

    /// The bare command, for a caller that needs more than to run it and wait.
    pub(crate) fn into_command(self) -> Command {
        self.0
    }

    /// Runs it with its output on ours.
    pub(crate) fn run(self) -> Result<()> {
        let shown = self.shown();
        eprintln!("$ {shown}");
        let status = self.into_command().status().with_context(|| format!("`{shown}` could not be started"))?;
        if !status.success() {
            bail!("failed ({status}): {shown}");
        }
        Ok(())
    }

    /// What it prints, if it succeeds.
    pub(crate) fn output(self) -> Result<String> {
        let shown = self.shown();
        let output = self.into_command().output().with_context(|| format!("`{shown}` could not be started"))?;
        if !output.status.success() {
            bail!("failed ({}): {shown}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it as one step of a longer work: a line that says what it is and how long it took. Its output is shown
    /// only when it fails.
    pub(crate) fn step(self, label: &str) -> Result<()> {
        let shown = self.shown();
        let progress = Progress::start(label);
        let mut child = self
            .into_command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("`{shown}` could not be started"))?;

        let (lines, received) = mpsc::channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|p| Box::new(p) as _), child.stderr.take().map(|p| Box::new(p) as _)];
        for pipe in pipes.into_iter().flatten() {
            let lines = lines.clone();
            thread::spawn(move || {
                let mut pipe = BufReader::new(pipe);
                let mut line = Vec::new();
                while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if lines.send(text).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        drop(lines);

        let mut log = Vec::new();
        for line in received {
            progress.say(&line);
            log.push(line);
        }
        let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
        if !status.success() {
            progress.failed();
            bail!("{}\nfailed ({status}): {shown}", log.join("\n"));
        }
        progress.done();
        Ok(())
    }
}

/// The line of one step: a spinner on a terminal, a plain line elsewhere.
pub(crate) struct Progress {
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn start(label: &str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed:.dim} {wide_msg:.dim}") {
                bar.set_style(style);
            }
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { label: label.to_owned(), started: Instant::now(), bar }
    }

    fn say(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    pub(crate) fn done(self) {
        self.end("✓");
    }

    fn failed(self) {
        self.end("✗");
    }

    fn end(self, mark: &str) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{mark} {} ({})", self.label, seconds(self.started.elapsed()));
    }
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    let s = duration.as_secs();
    if s >= 60 { format!("{} min {:02} s", s / 60, s % 60) } else { format!("{:.1} s", duration.as_secs_f64()) }
}

/// Where a program is in the search path.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| [dir.join(program), dir.join(format!("{program}.exe")), dir.join(format!("{program}.cmd"))])
        .find(|candidate| candidate.is_file())
}
