//! The deterministic world around the Moorline protocol: a clock, sockets that can be cut, applications that keep book,
//! and invariants that are looked at after every step.
//!
//! ```text
//! seed ─▶ script (a value: settings, and what happens when) ─▶ world ─▶ transcript, counters, or what did not hold
//!            ▲                                                   │
//!            └────────────── shrink: leave out, run again ◀──────┘ when something did not hold
//! ```
//!
//! The endpoints in it are the real ones, with feature `testing`. One seed gives one transcript, to the byte, on every
//! target. `docs/SIMULATION.md` tells what is modelled and numbers the invariants.
//!
//! ```
//! use moorline_sim::script::{Flavour, Script};
//!
//! let outcome = moorline_sim::run(&Script::draw(1, Flavour::Clear));
//! assert_eq!(outcome.broken, None);
//! ```

mod agenda;
mod app;
pub mod broken;
pub mod counters;
mod link;
mod message;
pub mod rng;
pub mod script;
pub mod shrink;
mod transcript;
mod world;

use self::{broken::Broken, counters::Counters, script::Script, world::World};

/// What came of a script.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that happened, as one number.
    pub transcript: u64,
    /// What happened how often.
    pub counters: Counters,
    /// What did not hold.
    pub broken: Option<Broken>,
}

/// The transcripts of several seeds, as one number: give each with its place among them.
pub fn digest(transcripts: impl IntoIterator<Item = (u64, u64)>) -> u64 {
    transcripts.into_iter().fold(0, |sum, (place, transcript)| sum ^ transcript.rotate_left((place % 64) as u32))
}

/// Runs a script.
pub fn run(script: &Script) -> Outcome {
    let mut world = World::new(script);
    let broken = world.run().err();
    Outcome { transcript: world.transcript.number(), counters: world.counters, broken }
}
