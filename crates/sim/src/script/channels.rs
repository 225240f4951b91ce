//! What happens to a world in which clients follow channels.

use super::{Caps, Cipher, Event, Fault, Say, Script, Setting, Side, USUAL, choose, fault};
use crate::rng::Rng;

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    All,
    /// So many of the newest entries.
    Entries(u64),
    /// So many bytes of them.
    Bytes(u64),
    /// Those that are younger than so many milliseconds.
    Age(u64),
}

/// What does not change about the channels of a world. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSetting {
    /// How many there are.
    pub channels: usize,
    /// Whether who has seen nothing begins with a snapshot, and not with the newest entries.
    pub snapshots: bool,
    /// How much of each log is kept.
    pub keep: Keep,
    /// The server reads in a log, and decides on a write, within this time.
    pub reading: u64,
    /// A session hears of a new entry within this time.
    pub hearing: u64,
    /// Words of new entries that wait for a session.
    pub inbox: usize,
    /// Whether one of ten words is lost on its way to the session.
    pub lossy: bool,
    /// Whether who follows a channel is a member, and hears of the others.
    pub members: bool,
}

/// What is on the disk of a server that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// What was there.
    Same,
    /// What was there at the last copy: what was appended since is lost, and its offsets are given to others. Nothing
    /// where there was no copy.
    Old,
    /// Nothing.
    Empty,
}

/// What is done in channels. Those of another world are those of this one by their remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The client follows a channel.
    Follow {
        /// Which.
        channel: usize,
        /// With so many of the newest entries, where it has seen nothing.
        history: u64,
        /// Without what it writes itself.
        quiet: bool,
        /// Without every fifth entry, which one of five.
        without: Option<u64>,
        /// From where it had followed one last, as a page does that was loaded again.
        again: bool,
    },
    /// The client follows one of its channels no longer.
    Unfollow(usize),
    /// The client holds one of its channels, and goes on with it later.
    Hold {
        /// Which.
        place: usize,
        /// Without the newest entry that it has heard: there was no room for it.
        back: bool,
        /// After so many milliseconds.
        after: u64,
    },
    /// The client follows one of its channels in another way.
    Refollow(usize),
    /// The client writes to a channel.
    Write {
        /// Which.
        channel: usize,
        /// Bytes of each.
        size: usize,
        /// How many.
        count: u32,
        /// Whether each has an idempotency key.
        keyed: bool,
    },
    /// The server's application appends to a channel.
    Append {
        /// Which.
        channel: usize,
        /// Bytes of each.
        size: usize,
        /// How many.
        count: u32,
        /// Whether all but every third are small.
        mixed: bool,
    },
    /// The server keeps a snapshot of a channel, of all but so many of its newest entries.
    Snapshot(usize, u64),
    /// A channel is removed, and made anew by whoever asks for it.
    Remove(usize),
    /// The server's disk is copied.
    Copy,
    /// The server is killed and comes back with this disk.
    Restart(Disk, u64),
    /// From now on the client may follow, and write to, the channels whose bits are set.
    Grant {
        /// Follow.
        follow: u8,
        /// Write to.
        write: u8,
    },
}

const CLOSE: Caps = Caps { bytes: 64 * 1024, frames: 64, ..USUAL };

fn size(rng: &mut Rng) -> usize {
    let most = rng.pick(&[60, 60, 60, 60, 1_000, 1_000, 17_000, 40_000]);
    rng.below(most) as usize
}

/// The script of a seed.
pub(super) fn draw(seed: u64) -> Script {
    let mut rng = Rng::of(seed, 8, 0);
    let side = |rng: &mut Rng| if rng.percent(20) { CLOSE } else { USUAL };
    let (client, server) = (side(&mut rng), side(&mut rng));
    let snapshots = rng.percent(40);
    let channels = ChannelSetting {
        channels: rng.pick(&[1, 1, 2, 3]),
        snapshots,
        keep: match rng.below(6) {
            // What a snapshot does not cover must not go.
            _ if snapshots => Keep::All,
            0 | 1 => Keep::Entries(rng.between(1, 20)),
            2 => Keep::Bytes(rng.between(1, 40_000)),
            3 => Keep::Age(rng.pick(&[300, 3_000, 20_000])),
            _ => Keep::All,
        },
        reading: rng.pick(&[0, 0, 1, 20, 400, 2_000]),
        hearing: rng.pick(&[0, 0, 1, 20, 400]),
        inbox: rng.pick(&[256, 256, 8, 1]),
        lossy: rng.percent(25),
        members: rng.percent(60),
    };
    let setting = Setting {
        cipher: if rng.below(8) == 0 { Cipher::Plain } else { Cipher::Traced },
        clients: rng.pick(&[1, 2, 2, 3, 4]),
        latency: rng.pick(&[0, 1, 5, 40, 200]),
        jitter: rng.pick(&[0, 3, 60]),
        decision: rng.pick(&[0, 0, 0, 30]),
        client,
        server,
        window: rng.pick(&[120_000, 120_000, 30_000, 3_000]),
        most_parked: rng.pick(&[1_000, 1_000, 1, 0]),
        rekey: rng.pick(&[65_536, 65_536, 40, 7]),
        discovers: false,
        greetings: 0,
        forgetful: rng.percent(20),
        lives: rng.pick(&[0, 0, 0, 25_000]),
        channels: Some(channels),
    };
    let until = rng.pick(&[3_000, 10_000, 30_000, 60_000]);
    let mut events: Vec<_> =
        (0..setting.clients).map(|client| (0, client, Event::Channel(follow(&mut rng, false)))).collect();
    let taste: Vec<u64> = (0..24).map(|_| rng.pick(&[0, 1, 1, 3])).collect();
    let faults = rng.pick(&[5, 15, 15, 30]);
    for _ in 0..rng.between(15, 80) {
        let client = rng.below(setting.clients as u64) as usize;
        let event = match rng.percent(faults) {
            true => Event::Fault(tame(fault(&mut rng, &taste, setting.clients))),
            false => act(&mut rng, &taste, snapshots),
        };
        events.push((rng.below(until), client, event));
    }
    together(&mut rng, &setting, until, &mut events);
    events.sort_by_key(|(at, ..)| *at);
    Script { seed, setting, events, until }
}

/// What chance alone would bring together too seldom.
fn together(rng: &mut Rng, setting: &Setting, until: u64, events: &mut Vec<(u64, usize, Event)>) {
    let channel = |rng: &mut Rng| rng.below(4) as usize;
    let some = |rng: &mut Rng| (rng.below(until), rng.below(setting.clients as u64) as usize);
    // A cut in the middle of a large entry.
    for _ in 0..rng.pick(&[0, 0, 1, 2]) {
        let (at, client) = some(rng);
        let append = Act::Append { channel: channel(rng), size: 60_000, count: 1, mixed: false };
        let (down, notice) = (rng.between(1, 3) as usize, rng.pick(&[Some(0), Some(2_000)]));
        events.push((
            at,
            client,
            Event::Channel(Act::Append {
                size: rng.between(60_000, 150_000) as usize,
                count: 1,
                channel: channel(rng),
                mixed: false,
            }),
        ));
        events.push((at + rng.below(60), client, Event::Channel(append)));
        events.push((
            at + rng.below(100),
            client,
            Event::Fault(Fault::Cut { up: 0, down, client: notice, server: notice }),
        ));
    }
    // More than waits for anybody, before a socket that takes no more.
    for _ in 0..rng.pick(&[0, 1, 1, 2]) {
        let (at, client) = some(rng);
        let append =
            Act::Append { channel: channel(rng), size: 9_000, count: rng.between(20, 150) as u32, mixed: true };
        events.push((at, client, Event::Fault(Fault::CongestServer(rng.pick(&[300, 2_000])))));
        events.push((at + rng.below(50), client, Event::Channel(append)));
    }
    // Openings in the midst of appending.
    for _ in 0..rng.pick(&[0, 1, 1, 3]) {
        let (at, client) = some(rng);
        for _ in 0..rng.between(2, 8) {
            let append = Act::Append { channel: channel(rng), size: size(rng), count: 1, mixed: false };
            events.push((at + rng.below(500), client, Event::Channel(append)));
        }
        events.push((at + rng.below(400), client, Event::Channel(follow(rng, false))));
        events.push((at + rng.below(400), client, Event::Channel(Act::Unfollow(0))));
        events.push((at + rng.below(500), client, Event::Channel(follow(rng, true))));
    }
    // A log without a snapshot, that has got two of them before who has just come has read it.
    let snapshots = setting.channels.is_some_and(|channels| channels.snapshots);
    for _ in 0..if snapshots { rng.pick(&[0, 1, 2]) } else { 0 } {
        let (at, client) = some(rng);
        let (channel, count) = (channel(rng), rng.between(3, 9) as u32);
        let follow = Act::Follow { channel, history: 0, quiet: false, without: None, again: false };
        let first = at + setting.latency + rng.below(500);
        let acts = [
            (at, Act::Remove(channel)),
            (at, Act::Append { channel, size: 60, count, mixed: false }),
            (at, follow),
            (first, Act::Snapshot(channel, 1)),
            (first + rng.below(200), Act::Snapshot(channel, 0)),
        ];
        events.extend(acts.map(|(at, act)| (at, client, Event::Channel(act))));
        // And a cut while a snapshot is on its way.
        let (again, down) = (first + rng.between(200, 600), rng.between(1, 2) as usize);
        let cut = Fault::Cut { up: 0, down, client: Some(0), server: Some(0) };
        events.push((again, client, Event::Channel(follow)));
        events.push((again + setting.latency + rng.below(setting.latency + 20), client, Event::Fault(cut)));
    }
    // Somebody who wants a channel no longer, and is cut off before it has said so.
    for _ in 0..rng.pick(&[0, 1, 1, 2]) {
        let (at, client) = some(rng);
        let cut = Fault::Cut { up: 0, down: 0, client: Some(0), server: Some(0) };
        events.push((at, client, Event::Channel(follow(rng, false))));
        events.push((at + 1_000, client, Event::Fault(cut)));
        events.push((at + 1_000 + rng.below(5), client, Event::Channel(Act::Unfollow(rng.below(3) as usize))));
    }
    // A disk that has lost what clients have seen, and others in its place before they come back.
    for _ in 0..rng.pick(&[0, 0, 1, 1]) {
        let (at, client) = some(rng);
        let append = |rng: &mut Rng| Act::Append {
            channel: channel(rng),
            size: 60,
            count: rng.between(1, 6) as u32,
            mixed: false,
        };
        let away = rng.pick(&[0, 400]);
        events.push((at, client, Event::Channel(Act::Copy)));
        events.push((at + rng.below(400), client, Event::Channel(append(rng))));
        events.push((at + 1_000, client, Event::Channel(Act::Restart(Disk::Old, away))));
        events.push((at + 1_000 + rng.below(2), client, Event::Channel(append(rng))));
    }
}

/// A fault as it is where clients are always themselves, and on the same server.
fn tame(fault: Fault) -> Fault {
    match fault {
        Fault::Pretend(_) | Fault::Subject => Fault::Cut { up: 0, down: 1, client: Some(0), server: Some(0) },
        fault => fault,
    }
}

fn follow(rng: &mut Rng, again: bool) -> Act {
    Act::Follow {
        channel: rng.below(4) as usize,
        history: rng.pick(&[0, 1, 5, 300]),
        quiet: rng.percent(20),
        without: rng.percent(40).then(|| rng.below(5)),
        again: again || rng.percent(40),
    }
}

fn act(rng: &mut Rng, taste: &[u64], snapshots: bool) -> Event {
    let channel = rng.below(4) as usize;
    let kept = if snapshots { 12 } else { 0 };
    let act = match choose(rng, &taste[..12], &[12, 3, 24, 30, kept, 1, 4, 4, 6, 8, 6, 3]) {
        0 => follow(rng, false),
        1 => Act::Unfollow(rng.below(3) as usize),
        2 => Act::Write { channel, size: size(rng), count: rng.pick(&[1, 1, 2, 9]), keyed: rng.percent(50) },
        3 => {
            let count = rng.pick(&[1, 1, 1, 2, 5, 40, 150]);
            Act::Append { channel, size: size(rng), count, mixed: count > 5 || rng.percent(50) }
        }
        4 => Act::Snapshot(channel, rng.pick(&[0, 0, 1, 10, 100])),
        5 => Act::Remove(channel),
        6 => Act::Copy,
        7 => {
            let disk = rng.pick(&[Disk::Same, Disk::Old, Disk::Old, Disk::Empty]);
            Act::Restart(disk, rng.pick(&[0, 300, 5_000]))
        }
        8 => {
            let bits = |rng: &mut Rng| rng.pick(&[0xff, 0xff, 0, 1, 6]);
            Act::Grant { follow: bits(rng), write: bits(rng) }
        }
        9 => {
            Act::Hold { place: rng.below(3) as usize, back: rng.percent(60), after: rng.pick(&[0, 0, 30, 700, 6_000]) }
        }
        10 => Act::Refollow(rng.below(3) as usize),
        _ => {
            let side = rng.pick(&[Side::Client, Side::Server]);
            let say = Say::Notify { size: size(rng), count: rng.pick(&[1, 1, 5]), mixed: true, receipt: false };
            return Event::Say(side, say);
        }
    };
    Event::Channel(act)
}
