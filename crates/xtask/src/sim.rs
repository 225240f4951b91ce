//! `cargo xtask sim`: worlds of seeds, in which everything goes wrong that can; `docs/SIMULATION.md`.

use std::io::{BufRead, BufReader, IsTerminal, stderr};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::repo;
use crate::run::{cargo, cmd, seconds};

const USAGE: &str = "usage: cargo xtask sim [--seeds N] [--noise N] [--channels N] [--from S] | \
                     --seed S [--with-noise | --with-channels]";

/// What CI runs: seeds in clear, where the wire can be read, seeds with real Noise, which costs more, and seeds in whose
/// worlds channels are followed.
const SEEDS: u64 = 20_000;
const NOISE: u64 = 500;
const CHANNELS: u64 = 20_000;

/// From so many seeds on every situation must have come often enough.
const ENOUGH_TO_COUNT: u64 = 2_000;

/// What to run.
struct Wanted {
    first: u64,
    seeds: u64,
    noise: u64,
    channels: u64,
}

const USUAL: Wanted = Wanted { first: 0, seeds: SEEDS, noise: NOISE, channels: CHANNELS };

fn wanted(args: &[String]) -> Result<Wanted> {
    let mut wanted = USUAL;
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let mut number = || {
            let text = args.next().with_context(|| format!("{flag} needs a number; {USAGE}"))?;
            text.parse::<u64>().with_context(|| format!("{text:?} is no number; {USAGE}"))
        };
        match flag.as_str() {
            "--seeds" => wanted.seeds = number()?,
            "--noise" => wanted.noise = number()?,
            "--channels" => wanted.channels = number()?,
            "--from" => wanted.first = number()?,
            "--seed" => wanted = Wanted { first: number()?, seeds: 1, noise: 0, channels: 0 },
            "--with-noise" => (wanted.seeds, wanted.noise) = (0, 1),
            "--with-channels" => (wanted.seeds, wanted.channels) = (0, 1),
            other => bail!("`sim` does not take {other:?}; {USAGE}"),
        }
    }
    Ok(wanted)
}

pub(crate) fn command(args: &[String]) -> Result<()> {
    run(&wanted(args)?)
}

/// The share of every change.
pub(crate) fn usual() -> Result<()> {
    run(&USUAL)
}

fn program() -> Result<std::path::PathBuf> {
    cargo("build").args(["--package", "moorline-sim", "--profile", "sim"]).run()?;
    Ok(repo::target().join("sim").join(format!("moorline-sim{}", std::env::consts::EXE_SUFFIX)))
}

/// The transcript of the first seeds, as this machine itself makes it.
pub(crate) fn transcript(seeds: u64, noise: u64, channels: u64) -> Result<String> {
    let numbers = [0, seeds, noise, channels].map(|number| number.to_string());
    let said = cmd(program()?).args(numbers).output()?;
    let transcript = said.lines().find_map(|line| line.strip_prefix("transcript "));
    transcript.map(str::to_owned).context("the simulation does not say what its transcript is")
}

fn run(Wanted { first, seeds, noise, channels }: &Wanted) -> Result<()> {
    let total = seeds + noise + channels;
    let numbers = [first, seeds, noise, channels].map(u64::to_string);
    let simulation = cmd(program()?).args(numbers);
    let shown = simulation.shown();
    eprintln!("$ {shown}");
    let started = Instant::now();
    let mut child = simulation.into_command().stdout(Stdio::piped()).spawn().context("starting the simulation")?;
    let bar = stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len} seeds, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        bar
    });
    let mut seldom = Vec::new();
    let said = child.stdout.take().context("the simulation says nothing")?;
    for line in BufReader::new(said).lines() {
        let line = line?;
        let words: Vec<_> = line.splitn(3, ' ').collect();
        match words[..] {
            ["ran", ran] => {
                if let (Some(bar), Ok(ran)) = (&bar, ran.parse()) {
                    bar.set_position(ran);
                }
            }
            ["counter", of, rest] => {
                let (times, least, name) = counter(rest).with_context(|| format!("{line:?} is no counter"))?;
                println!("{times:>12}  {name}");
                let counted = if of == "channels" { channels } else { seeds };
                if *counted >= ENOUGH_TO_COUNT && times * 10_000 < least * counted {
                    seldom.push(name.to_owned());
                }
            }
            _ => match &bar {
                Some(bar) => bar.suspend(|| println!("{line}")),
                None => println!("{line}"),
            },
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    ensure!(child.wait()?.success(), "something did not hold; above is which seed shows it, and how to run that again");
    ensure!(seldom.is_empty(), "too seldom to prove anything: {}", seldom.join(", "));
    let took = started.elapsed();
    println!("{total} seeds in {}: {:.0} a second", seconds(took), total as f64 / took.as_secs_f64().max(0.001));
    Ok(())
}

/// How often something came, how often it must in 10,000 seeds, and what it is.
fn counter(text: &str) -> Option<(u64, u64, &str)> {
    let (times, rest) = text.split_once(' ')?;
    let (least, name) = rest.split_once(' ')?;
    Some((times.parse().ok()?, least.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(args: &[&str]) -> Result<(u64, u64, u64, u64)> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        wanted(&args).map(|Wanted { first, seeds, noise, channels }| (first, seeds, noise, channels))
    }

    #[test]
    fn a_seed_that_failed_is_run_alone() -> Result<()> {
        assert_eq!(numbers(&[])?, (0, SEEDS, NOISE, CHANNELS));
        assert_eq!(numbers(&["--seeds", "7", "--noise", "0"])?, (0, 7, 0, CHANNELS));
        assert_eq!(numbers(&["--seed", "99"])?, (99, 1, 0, 0));
        assert_eq!(numbers(&["--seed", "99", "--with-noise"])?, (99, 0, 1, 0));
        assert_eq!(numbers(&["--seed", "99", "--with-channels"])?, (99, 0, 0, 1));
        assert!(numbers(&["--seed"]).is_err() && numbers(&["--seeds", "x"]).is_err() && numbers(&["7"]).is_err());
        Ok(())
    }
}
