//! What the bench asks of the machine: cores, open files, and what a process has used.
//!
//! It measures on Linux, by `/proc`; elsewhere it compiles and says so.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Sockets of the generator: a thousand to each of three servers, and some.
#[cfg(target_os = "linux")]
const OPEN_FILES: u64 = 8_192;

/// Who runs where, so that neither takes the other's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) generator: usize,
    pub(crate) server: usize,
}

/// Two of the cores that this process may use; `None` where there are not two.
#[cfg(target_os = "linux")]
pub(crate) fn cores() -> Option<Cores> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Some(Cores { server: cores.next()?, generator: cores.next()? })
}

/// Keeps this thread, and those that it starts, on one core.
#[cfg(target_os = "linux")]
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("taking core {core}"))
}

/// Asks for as many open files as a thousand sessions on each server need.
#[cfg(target_os = "linux")]
pub(crate) fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.current.is_none_or(|current| current >= OPEN_FILES) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), maximum: limit.maximum })
        .with_context(|| format!("the bench needs {OPEN_FILES} open files: `ulimit -n`"))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn cores() -> Option<Cores> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_: usize) -> Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn raise_file_limit() -> Result<()> {
    Ok(())
}

/// The processor time that a process has used, in user and system. A thread that runs right now is behind by what it
/// has used since it was last looked at: ask when the process is quiet.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    // Nanoseconds, where `stat` counts in hundredths of a second: too coarse for a round.
    let mut used = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the bench measures on Linux, by /proc")? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        used += Duration::from_nanos(nanos.with_context(|| format!("{} has no number", path.display()))?);
    }
    Ok(used)
}

/// The memory of a process that is its own, in bytes: not its program text, which all that run it share.
pub(crate) fn own_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kilobytes: Option<u64> = text
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    Ok(1024 * kilobytes.with_context(|| format!("{path} does not tell the anonymous memory"))?)
}
