//! Runs seeds, on every processor there is: `moorline-sim FIRST COUNT NOISE CHANNELS`, so many of each flavour.
//!
//! For `cargo xtask sim`, which draws the progress. Lines on standard output: `ran N` now and then, `broken ...`,
//! `counter ...` and `done` at the end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use moorline_sim::{
    broken::Broken,
    counters::{COUNTERS, Counters},
    digest, run,
    script::{Flavour, Script},
    shrink::shrink,
};

/// Runs of a script that shrinking may take.
const SHRINKING: usize = 400;

/// Failures after which more are of no use.
const ENOUGH: usize = 5;

fn attempt(script: &Script) -> Result<(Option<Broken>, Counters, u64), Broken> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(script)));
    match outcome {
        Ok(outcome) => Ok((outcome.broken, outcome.counters, outcome.transcript)),
        Err(_) => Err(Broken { invariant: "panic", detail: "see above".to_owned(), at: 0 }),
    }
}

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let [first, count, noise, channels] = numbers[..] else {
        eprintln!("usage: moorline-sim FIRST COUNT NOISE CHANNELS");
        return ExitCode::FAILURE;
    };
    let all = count + noise + channels;
    let place = |number: u64| match number {
        number if number < count => (Flavour::Clear, first + number),
        number if number < count + noise => (Flavour::Noise, first + number - count),
        number => (Flavour::Channels, first + number - count - noise),
    };
    let (next, ran, hash) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    // What came in worlds of sessions alone, and in those with channels.
    let total = Mutex::new(([Counters::default(), Counters::default()], 0usize));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= all {
                return;
            }
            let (flavour, seed) = place(number);
            let script = Script::draw(seed, flavour);
            let result = attempt(&script);
            let broken = match &result {
                Ok((broken, counters, transcript)) => {
                    hash.fetch_xor(digest([(number, *transcript)]), Ordering::Relaxed);
                    if let Ok(mut total) = total.lock() {
                        total.0[usize::from(flavour == Flavour::Channels)].merge(counters);
                    }
                    broken.clone()
                }
                Err(panicked) => Some(panicked.clone()),
            };
            if let Some(broken) = broken {
                let failures = total.lock().map_or(ENOUGH, |mut total| {
                    total.1 += 1;
                    total.1
                });
                let flag = match flavour {
                    Flavour::Clear => "",
                    Flavour::Noise => " --with-noise",
                    Flavour::Channels => " --with-channels",
                };
                println!("broken seed {seed}{flag}: {broken}");
                println!("  replay: cargo xtask sim --seed {seed}{flag}");
                if failures <= ENOUGH {
                    let (small, broken) = shrink(script, broken, SHRINKING, |script| match attempt(script) {
                        Ok((broken, ..)) => broken,
                        Err(panicked) => Some(panicked),
                    });
                    println!("  shrunk to {} events: {broken}\n  {:?}", small.events.len(), small.setting);
                    small
                        .events
                        .iter()
                        .for_each(|(at, client, event)| println!("  {at:>7} ms client {client}: {event:?}"));
                } else {
                    next.store(all, Ordering::Relaxed);
                }
            }
            let ran = ran.fetch_add(1, Ordering::Relaxed) + 1;
            if ran % 100 == 0 {
                println!("ran {ran}");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let Ok(total) = total.into_inner() else { return ExitCode::FAILURE };
    for (counter, name, least) in COUNTERS {
        let of_channels = counter.is_of_channels();
        let (of, seeds) = if of_channels { ("channels", channels) } else { ("sessions", count + noise) };
        if seeds > 0 {
            println!("counter {of} {} {least} {name}", total.0[usize::from(of_channels)].get(*counter));
        }
    }
    println!("transcript {:016x}", hash.into_inner());
    println!("done {} failed {}", ran.into_inner(), total.1);
    if total.1 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
