//! A few seeds, for every `cargo test`; `cargo xtask sim` runs the many.

use moorline_sim::{
    broken::Broken,
    digest, run,
    script::{Flavour, Script},
    shrink::shrink,
};

/// What `cargo xtask test wasm` has got from the same seeds on this machine itself: first those in clear, then those with
/// Noise, then those with channels.
const NATIVE: Option<&str> = option_env!("MOORLINE_SIM_TRANSCRIPT");
const SEEDS: u64 = 40;
const NOISE: u64 = 4;
const CHANNELS: u64 = 40;

fn scripts() -> impl Iterator<Item = Script> {
    let draw = |flavour, count| (0..count).map(move |seed| Script::draw(seed, flavour));
    draw(Flavour::Clear, SEEDS).chain(draw(Flavour::Noise, NOISE)).chain(draw(Flavour::Channels, CHANNELS))
}

#[test]
fn the_first_seeds_hold_and_do_the_same_on_every_target() {
    let transcripts = scripts().map(|script| {
        let outcome = run(&script);
        assert_eq!(outcome.broken, None, "seed {} of {:?}", script.seed, script.setting);
        outcome.transcript
    });
    let digest = format!("{:016x}", digest((0..).zip(transcripts)));
    assert!(NATIVE.is_none_or(|native| native == digest), "{digest} here, {NATIVE:?} there");
}

#[test]
fn a_seed_does_the_same_again_and_another_does_not() {
    for flavour in [Flavour::Clear, Flavour::Channels] {
        let transcript = |seed| run(&Script::draw(seed, flavour)).transcript;
        assert_eq!(transcript(7), transcript(7));
        assert_ne!(transcript(7), transcript(8));
    }
}

#[test]
fn a_failing_script_loses_what_it_does_not_need() {
    let script =
        (0..).map(|seed| Script::draw(seed, Flavour::Clear)).find(|script| script.events.len() > 20).expect("one");
    let (needed, broken) = (script.events[13], || Broken { invariant: "S0", detail: String::new(), at: 0 });
    let fails = |script: &Script| script.events.contains(&needed).then(broken);
    let (small, found) = shrink(script, broken(), 400, fails);
    assert_eq!((small.events, found), (vec![needed], broken()));
}
