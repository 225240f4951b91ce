//! The server's side of one subscriber of one channel: what it has been told, and what to tell it next.
//!
//! Implements `docs/PROTOCOL.md` § Following a channel. New entries are told as they come, while the subscriber keeps up
//! and nothing is missing in between. In every other case (it has just come, it is slow, the word of an entry was lost)
//! the attachment is *behind*, and reads on where it was. So it takes the same memory however far behind it is, and
//! nobody has to tell it everything.

use std::{collections::VecDeque, mem, sync::Arc};

use super::{Bounds, Entry, Gap, LogEpoch, Mark, Offset, Page, Position, Range, Snapshot, Tag};

/// Entries that wait for the subscriber, and as many that came while a page was read. One page is as large.
const ENTRIES: usize = 64;

/// Bytes of them; the last may stand out.
const BYTES: usize = 64 * 1024;

/// What one that waits takes beside its content, about; the same on every machine.
const PLACE: usize = 64;

/// Most entries of history that a subscriber gets to begin with.
pub const MAX_HISTORY: usize = 256;

/// Bytes of them; the last may stand out.
pub const MAX_HISTORY_BYTES: usize = 256 * 1024;

/// With what a subscriber begins that has seen nothing it could go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With so many of the newest entries, at most [`MAX_HISTORY`].
    Newest(usize),
    /// With the newest snapshot, and every entry that is not in it.
    Snapshot,
}

/// How it goes on for the subscriber from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It has seen nothing before.
    New,
    /// It gets exactly what it has missed.
    Recovered,
    /// Nobody knows what it has missed.
    Gap(Gap),
}

impl Start {
    /// Its name, as programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Recovered => "recovered",
            Self::Gap(Gap::Recreated) => "recreated",
            Self::Gap(Gap::Diverged) => "diverged",
            Self::Gap(Gap::Trimmed) => "trimmed",
        }
    }
}

/// The first that a subscriber is told, and again whenever it has to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How it goes on.
    pub start: Start,
    /// Which log.
    pub epoch: LogEpoch,
    /// The entry before the first that is told.
    pub from: Offset,
    /// Its tag, where it is known: without it, nothing can be gone on from before the first entry has come.
    pub tag: Option<Tag>,
    /// The newest entry there was: what is told up to it was there before.
    pub head: Offset,
    /// Whether a snapshot comes first.
    pub snapshot: bool,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// From here it goes on.
    Opened(Opened),
    /// Everything up to where it goes on from.
    Snapshot(Arc<Snapshot>),
    /// An entry.
    Update(Arc<Entry>),
    /// There were entries that are not for this subscriber, up to this one.
    Advance(Mark),
}

/// What an attachment must be given before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Some entries: so many at most, and so many bytes.
    Page {
        /// Which.
        range: Range,
        /// How many, at most.
        entries: usize,
        /// How many bytes, at most.
        bytes: usize,
    },
    /// The newest snapshot.
    Snapshot,
}

/// What to read next.
#[derive(Debug)]
enum Next {
    /// What was missed.
    Since(Position),
    /// What one begins with that has seen nothing, or cannot go on.
    Beginning(Start),
    /// What is not in the snapshot.
    Covered(Start, Arc<Snapshot>),
    /// Everything: there was no snapshot, when this was the newest entry that was dropped.
    All(Start, Mark),
    /// What comes after what has been told.
    On,
}

#[derive(Debug)]
enum Stage {
    Behind(Next),
    Reading {
        next: Next,
        /// What came in the meantime.
        came: VecDeque<(LogEpoch, Arc<Entry>, bool)>,
        came_bytes: usize,
        /// More came than is kept.
        overflowed: bool,
    },
    Live,
    /// It wants nothing of the log any more.
    Held,
}

/// One subscriber of a channel, on the server.
#[derive(Debug)]
pub struct Attachment {
    beginning: Beginning,
    stage: Stage,
    /// The newest that was told or waits to be.
    at: Position,
    /// What was there when it began: the subscriber has seen nothing of it, whoever wrote it.
    past: Offset,
    waiting: VecDeque<Told>,
    waiting_bytes: usize,
}

impl Attachment {
    /// For one that has seen the channel up to `since`, or nothing of it, and began before that with what was there up to
    /// `past`. Everything that is appended from now on must be
    /// given to [`Self::handle_entry`], as far as it is heard of.
    pub fn new(since: Option<Position>, past: Offset, beginning: Beginning) -> Self {
        let next = since.map_or(Next::Beginning(Start::New), Next::Since);
        let nowhere = Position { epoch: LogEpoch([0; 8]), mark: Mark::START };
        Self { beginning, stage: Stage::Behind(next), at: nowhere, past, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// Whether it must be given something.
    pub fn wants(&self) -> bool {
        match &self.stage {
            Stage::Behind(Next::On) => self.waiting.is_empty(),
            Stage::Behind(_) => true,
            Stage::Reading { .. } | Stage::Live | Stage::Held => false,
        }
    }

    /// What it must be given, once each time. It wants nothing while there is enough that waits for the subscriber.
    pub fn poll_want(&mut self) -> Option<Want> {
        if !self.wants() {
            return None;
        }
        let Stage::Behind(next) = &mut self.stage else { return None };
        let page = |range| Want::Page { range, entries: ENTRIES, bytes: BYTES };
        let want = match (&*next, self.beginning) {
            (Next::Since(since), _) => page(Range::After(*since)),
            (Next::On, _) => page(Range::After(self.at)),
            (Next::Beginning(_), Beginning::Snapshot) => Want::Snapshot,
            (Next::Beginning(_), Beginning::Newest(most)) => {
                Want::Page { range: Range::Newest, entries: most.min(MAX_HISTORY), bytes: MAX_HISTORY_BYTES }
            }
            (Next::Covered(_, snapshot), _) => page(Range::After(snapshot.covers)),
            (Next::All(..), _) => page(Range::Oldest),
        };
        let next = mem::replace(next, Next::On);
        self.stage = Stage::Reading { next, came: VecDeque::new(), came_bytes: 0, overflowed: false };
        Some(want)
    }

    /// The page that was wanted. `is_for` says which entries this subscriber may see; it is `true` for those that were there
    /// when the subscriber began, with nothing that it could go on from: what it has written itself it does not have then.
    pub fn handle_page(&mut self, page: Page, is_for: impl Fn(&Entry, bool) -> bool) {
        let (next, came, overflowed) = match mem::replace(&mut self.stage, Stage::Live) {
            Stage::Reading { next, came, overflowed, .. } => (next, came, overflowed),
            // It began anew since it wanted this, or wants nothing any more.
            other => return self.stage = other,
        };
        let bounds = page.bounds;
        let opened = |start, mark: Mark, tag| {
            let (epoch, from, head) = (bounds.epoch, mark.offset, bounds.head.offset);
            Told::Opened(Opened { start, epoch, from, tag, head, snapshot: false })
        };
        let mut entries = &page.entries[..];
        match (next, page.gap) {
            // The snapshot that was to be gone on from is too old by now.
            (Next::Covered(start, _), Some(_)) => return self.stage = Stage::Behind(Next::Beginning(start)),
            // There is one by now, and what it covers is not among the entries any more.
            (Next::All(start, trimmed), None) if trimmed != bounds.trimmed => {
                return self.stage = Stage::Behind(Next::Beginning(start));
            }
            (_, Some(gap)) => return self.stage = Stage::Behind(Next::Beginning(Start::Gap(gap))),
            (Next::On, None) => {}
            (Next::Since(since), None) => {
                self.at = since;
                self.tell(opened(Start::Recovered, since.mark, Some(since.mark.tag)));
            }
            (Next::Covered(start, snapshot), None) => {
                self.past = bounds.head.offset;
                self.at = snapshot.covers;
                let Told::Opened(opened) = opened(start, self.at.mark, Some(self.at.mark.tag)) else { return };
                self.tell(Told::Opened(Opened { snapshot: true, ..opened }));
                self.tell(Told::Snapshot(snapshot));
            }
            (Next::Beginning(start) | Next::All(start, _), None) => {
                self.past = bounds.head.offset;
                if let Beginning::Newest(most) = self.beginning {
                    entries = &entries[entries.len().saturating_sub(most)..];
                }
                // Of the entry before the first one only the offset is known, unless it is the newest that was dropped.
                let (before, tag) = match entries.first() {
                    None => (bounds.head, Some(bounds.head.tag)),
                    Some(first) if first.prev == bounds.trimmed.offset => (bounds.trimmed, Some(bounds.trimmed.tag)),
                    Some(first) => (Mark { offset: first.prev, tag: Tag::default() }, None),
                };
                self.at = Position { epoch: bounds.epoch, mark: before };
                self.tell(opened(start, before, tag));
            }
        }
        for entry in entries {
            self.tell_entry(entry, is_for(entry, entry.mark.offset <= self.past));
        }
        let complete = self.at.mark.offset >= bounds.head.offset && !overflowed;
        let fits = complete && came.into_iter().all(|(epoch, entry, visible)| self.go_on(epoch, &entry, visible));
        if !fits {
            self.stage = Stage::Behind(Next::On);
        }
    }

    /// The snapshot that was wanted; `None` where there is none. `bounds` is what there was of the log at that moment.
    pub fn handle_snapshot(&mut self, bounds: Bounds, snapshot: Option<Arc<Snapshot>>) {
        if let Stage::Reading { next: Next::Beginning(start), .. } = self.stage {
            let all = Next::All(start, bounds.trimmed);
            self.stage = Stage::Behind(snapshot.map_or(all, |snapshot| Next::Covered(start, snapshot)));
        }
    }

    /// There is a new entry. `visible` says whether this subscriber may see it. Entries that it is not told of it finds
    /// by itself, with the next one that it is told of.
    pub fn handle_entry(&mut self, epoch: LogEpoch, entry: &Arc<Entry>, visible: bool) {
        match &mut self.stage {
            // It will be read, or not be told.
            Stage::Behind(_) | Stage::Held => {}
            Stage::Reading { came, came_bytes, overflowed, .. } => {
                *overflowed |= came.len() >= ENTRIES || *came_bytes >= BYTES;
                if !*overflowed {
                    *came_bytes += entry.content.len();
                    came.push_back((epoch, Arc::clone(entry), visible));
                }
            }
            Stage::Live => {
                let has_room = self.waiting.len() < ENTRIES && self.waiting_bytes < BYTES;
                if !has_room || !self.go_on(epoch, entry, visible) {
                    self.stage = Stage::Behind(Next::On);
                }
            }
        }
    }

    /// The log ends here by now. Who hears of new entries by a way that may lose the last of them says so from time to
    /// time.
    pub fn handle_end(&mut self, end: Position) {
        if matches!(self.stage, Stage::Live) && end != self.at {
            self.stage = Stage::Behind(Next::On);
        }
    }

    /// Something may be missing: the log was made anew, or nobody knows how much was not heard of.
    pub fn look_again(&mut self) {
        match &mut self.stage {
            Stage::Behind(_) | Stage::Held => {}
            Stage::Reading { overflowed, .. } => *overflowed = true,
            Stage::Live => self.stage = Stage::Behind(Next::On),
        }
    }

    /// Nothing more of the log is told: what waits is dropped, and nothing is read.
    pub fn hold(&mut self) {
        self.stage = Stage::Held;
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Whether nothing more of the log is told.
    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held)
    }

    /// What the subscriber is to be told next.
    pub fn poll_told(&mut self) -> Option<Told> {
        let told = self.waiting.pop_front()?;
        self.waiting_bytes -= size(&told);
        Some(told)
    }

    /// Whether there is something to tell.
    pub fn has_output(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Entries that wait, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_bytes)
    }

    /// Queues an entry if it is the next; `false` when something is missing before it.
    fn go_on(&mut self, epoch: LogEpoch, entry: &Arc<Entry>, visible: bool) -> bool {
        if epoch != self.at.epoch {
            return false;
        }
        if entry.mark.offset > self.at.mark.offset {
            if entry.prev != self.at.mark.offset {
                return false;
            }
            self.tell_entry(entry, visible);
        }
        true
    }

    fn tell_entry(&mut self, entry: &Arc<Entry>, visible: bool) {
        self.at.mark = entry.mark;
        if visible {
            return self.tell(Told::Update(Arc::clone(entry)));
        }
        match self.waiting.back_mut() {
            Some(Told::Advance(mark)) => *mark = entry.mark,
            _ => self.tell(Told::Advance(entry.mark)),
        }
    }

    fn tell(&mut self, told: Told) {
        self.waiting_bytes += size(&told);
        self.waiting.push_back(told);
    }
}

fn size(told: &Told) -> usize {
    let content = match told {
        Told::Update(entry) => entry.content.len(),
        Told::Snapshot(snapshot) => snapshot.content.len(),
        Told::Opened(_) | Told::Advance(_) => 0,
    };
    PLACE + content
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::time::UnixMillis;

    /// Everything else about attachments is shown with an engine and both endpoints, and simulated: there a held one that
    /// goes on being told is only a waste, which nobody hears of.
    #[test]
    fn whoever_holds_is_told_nothing_and_nothing_is_read_for_it() {
        let epoch = LogEpoch([7; 8]);
        let entry = |offset: u64| {
            let mark = Mark { offset: Offset(offset), tag: Tag([offset as u8; 8]) };
            Arc::new(Entry { prev: Offset(offset - 1), mark, at: UnixMillis(1), content: Bytes::from("x") })
        };
        let page = |entries: &[u64]| {
            let entries: Vec<_> = entries.iter().map(|offset| entry(*offset)).collect();
            let head = entries.last().map_or(Mark::START, |entry| entry.mark);
            Page { bounds: Bounds { head, ..Bounds::new(epoch) }, entries, gap: None }
        };
        let is_idle = |attachment: &Attachment| {
            attachment.is_held() && !attachment.has_output() && !attachment.wants() && attachment.waiting() == (0, 0)
        };
        let beginning = Beginning::Newest(5);
        // While it is read for, and while it is told as it comes.
        for is_live in [false, true] {
            let mut attachment = Attachment::new(None, Offset(0), beginning);
            assert!(attachment.poll_want().is_some());
            if is_live {
                attachment.handle_page(page(&[1]), |_, _| true);
                assert!(attachment.has_output());
            }
            attachment.hold();
            assert!(is_idle(&attachment));
            attachment.handle_page(page(&[1]), |_, _| true);
            attachment.handle_entry(epoch, &entry(2), true);
            attachment.handle_end(Position { epoch, mark: entry(3).mark });
            attachment.look_again();
            assert!(is_idle(&attachment) && attachment.poll_want().is_none());
        }
    }
}
