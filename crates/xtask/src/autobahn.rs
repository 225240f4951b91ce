//! `cargo xtask test autobahn`: the cases of the Autobahn test suite against the server's own way to a WebSocket.
//!
//! The cases want an echo of text and binary messages, which no Moorline connection is; so the fixture of the end-to-end
//! tests serves one, on the very listener, upgrade and settings that connections have. kosoku, from PyPI, runs the cases.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    slice,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::{Progress, cargo, cmd, which};
use crate::stamp::{Inputs, Stamp};
use crate::{apt, repo};

/// The version of kosoku; another may have other cases.
const VERSION: &str = "0.1.0";

/// The cases of the protocol itself.
const CORE: usize = 301;

/// The cases of permessage-deflate, which the server does not offer: sealed records must not be compressed.
const COMPRESSION: [&str; 2] = ["12.*", "13.*"];

/// Cases that any server fails that does not say back what it was told.
const CONTROL: [&str; 4] = ["1.1.2", "1.1.3", "1.2.2", "1.2.3"];

/// What came of one case.
struct Outcome {
    case: String,
    passed: bool,
    behavior: String,
    why: String,
}

pub(crate) fn run() -> Result<()> {
    let python = python()?;
    cargo("build").args(repo::NATIVE).arg("--bins").run()?;

    let progress = Progress::start("Autobahn's cases");
    let server = EchoServer::start("exact")?;
    let core = server.run(&python, &["*", "--", COMPRESSION[0], COMPRESSION[1]])?;
    let passed = judge_core(&core)?;
    let offered = judge_compression(&server.run(&python, &COMPRESSION)?)?;
    drop(server);
    judge_control(&EchoServer::start("flipped")?.run(&python, &CONTROL)?)?;
    progress.done();
    eprintln!("  {passed}; {offered}; a server that changes what it echoes fails");
    Ok(())
}

fn judge_core(outcomes: &[Outcome]) -> Result<String> {
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).map(Outcome::line).collect();
    ensure!(failed.is_empty(), "{} of Autobahn's cases failed:\n{}", failed.len(), failed.join("\n"));
    ensure!(outcomes.len() == CORE, "{} of Autobahn's cases ran, not {CORE}", outcomes.len());
    let count = |behavior: &str| outcomes.iter().filter(|outcome| outcome.behavior == behavior).count();
    let (lenient, told) = (count("NON-STRICT"), count("INFORMATIONAL"));
    Ok(format!("{CORE} core cases passed ({lenient} of them not strict, {told} informational)"))
}

fn judge_compression(outcomes: &[Outcome]) -> Result<String> {
    let offered: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.behavior != "UNIMPLEMENTED").map(Outcome::line).collect();
    ensure!(offered.is_empty(), "compression should not be offered:\n{}", offered.join("\n"));
    ensure!(!outcomes.is_empty(), "none of Autobahn's cases of compression ran");
    Ok(format!("compression is not offered ({} cases)", outcomes.len()))
}

fn judge_control(outcomes: &[Outcome]) -> Result<()> {
    let missed = outcomes.iter().any(|outcome| outcome.passed) || outcomes.len() != CONTROL.len();
    ensure!(!missed, "Autobahn's cases do not notice a server that changes what it echoes: the check checks nothing");
    Ok(())
}

impl Outcome {
    fn read(value: &Value) -> Result<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned).context("a text is missing");
        let passed = value["passed"].as_bool().context("no verdict")?;
        Ok(Self { case: text("case")?, passed, behavior: text("behavior")?, why: text("why")? })
    }

    fn line(&self) -> String {
        format!("  {} {}: {}", self.case, self.behavior, self.why)
    }
}

/// The fixture with its echo. It ends with its standard input.
struct EchoServer {
    child: Child,
    url: String,
}

impl EchoServer {
    fn start(echo: &str) -> Result<Self> {
        let program = format!("fixture{}", std::env::consts::EXE_SUFFIX);
        let mut command = cmd(repo::target().join("debug").join(program)).args(["--echo", echo]).into_command();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the fixture")?;
        // From here on it is ended whatever happens.
        let mut server = Self { child, url: String::new() };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().context("no output")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).context("the fixture did not say where it listens")?;
        let http = told["http"].as_str().context("the fixture did not say where it listens")?;
        server.url = format!("{}/echo", http.replacen("http", "ws", 1));
        Ok(server)
    }

    fn run(&self, python: &Path, patterns: &[&str]) -> Result<Vec<Outcome>> {
        let script = repo::path("crates/xtask/autobahn.py");
        let json = cmd(python).arg(script).arg(&self.url).args(patterns).output()?;
        let outcomes: Vec<Value> = serde_json::from_str(&json).context("what autobahn.py printed is no JSON")?;
        outcomes.iter().map(Outcome::read).collect()
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends by itself, and there is nothing left to do if it cannot be waited for.
        let _ = self.child.wait();
    }
}

/// A Python that has kosoku, in an environment of its own.
fn python() -> Result<PathBuf> {
    let folder = repo::target().join("tools").join(format!("kosoku-{VERSION}"));
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = Stamp::new(folder.join(".xtask-stamp"), Inputs::new().value(VERSION));
    if stamp.is_fresh(slice::from_ref(&python)) {
        return Ok(python);
    }
    let system = system_python()?;
    let make = || cmd(&system).args(["-m", "venv", "--clear"]).arg(&folder).step("Python's environment for kosoku");
    if let Err(error) = make() {
        // Debian has it in a package of its own.
        if !apt::install("python3-venv")? {
            return Err(error.context(
                "the Autobahn tests need Python's module venv: install it (on Debian as root: `apt-get install \
                 python3-venv`)",
            ));
        }
        make()?;
    }
    cmd(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--only-binary",
            ":all:",
        ])
        .arg(format!("kosoku=={VERSION}"))
        .step("kosoku, installed under target/tools")
        .context("the Autobahn tests need kosoku from PyPI, and it could not be installed")?;
    stamp.write()?;
    Ok(python)
}

fn system_python() -> Result<PathBuf> {
    let find = || ["python3", "python"].iter().find_map(|name| which(name));
    let python = match find() {
        Some(python) => Some(python),
        None if apt::install("python3-venv")? => find(),
        None => None,
    };
    let Some(python) = python else {
        bail!("the Autobahn tests need Python 3.10 or newer, and it is not installed");
    };
    let version = cmd(&python).args(["-c", "import sys; print(*sys.version_info[:2])"]).output()?;
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok()).unwrap_or_default();
    let mut words = version.split_whitespace();
    let version = (number(words.next()), number(words.next()));
    ensure!(
        version >= (3, 10),
        "the Autobahn tests need Python 3.10 or newer; {} is {}.{}",
        python.display(),
        version.0,
        version.1
    );
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(count: usize, behavior: &str, passed: bool) -> Vec<Outcome> {
        let outcome = |n| Outcome { case: format!("1.{n}"), passed, behavior: behavior.into(), why: "Because.".into() };
        (0..count).map(outcome).collect()
    }

    #[test]
    fn a_failed_case_is_named_and_a_missing_one_noticed() {
        assert!(judge_core(&outcomes(CORE, "OK", true)).is_ok());
        let mut one = outcomes(CORE - 1, "OK", true);
        assert!(judge_core(&one).is_err());
        one.extend(outcomes(1, "FAILED", false));
        let error = judge_core(&one).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("1 of Autobahn's cases failed:\n  1.0 FAILED: Because."));
    }

    #[test]
    fn compression_is_offered_by_nobody() {
        assert!(judge_compression(&outcomes(3, "UNIMPLEMENTED", false)).is_ok());
        assert!(judge_compression(&outcomes(1, "OK", true)).is_err());
        assert!(judge_compression(&[]).is_err());
    }

    #[test]
    fn a_control_that_passes_is_a_failure() {
        assert!(judge_control(&outcomes(CONTROL.len(), "FAILED", false)).is_ok());
        assert!(judge_control(&outcomes(CONTROL.len(), "OK", true)).is_err());
        assert!(judge_control(&[]).is_err());
    }
}
