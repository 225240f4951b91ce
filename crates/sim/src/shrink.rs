//! Makes a script that fails shorter, as long as it still fails.

use crate::{broken::Broken, script::Script};

/// Leaves out whatever is not needed for something not to hold: events in ever smaller pieces, then clients. `fails` runs
/// a script; more than `most` times it is not asked.
pub fn shrink(
    mut script: Script,
    mut broken: Broken,
    most: usize,
    fails: impl Fn(&Script) -> Option<Broken>,
) -> (Script, Broken) {
    let mut runs = 0;
    let mut attempt = |script: &mut Script, smaller: Script, broken: &mut Broken| {
        runs += 1;
        let found = if runs <= most { fails(&smaller) } else { None };
        // Another invariant would be another story.
        let same = found.filter(|found| found.invariant == broken.invariant);
        let shrunk = same.is_some();
        if let Some(found) = same {
            (*script, *broken) = (smaller, found);
        }
        shrunk
    };
    let mut piece = script.events.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < script.events.len() {
            let mut smaller = script.clone();
            smaller.events.drain(at..(at + piece).min(script.events.len()));
            if !attempt(&mut script, smaller, &mut broken) {
                at += piece;
            }
        }
        piece /= 2;
    }
    while script.setting.clients > 1 {
        let mut smaller = script.clone();
        smaller.setting.clients -= 1;
        let last = smaller.setting.clients;
        smaller.events.retain(|(_, client, _)| *client < last);
        if !attempt(&mut script, smaller, &mut broken) {
            break;
        }
    }
    (script, broken)
}
