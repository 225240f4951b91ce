//! The channels that a client has opened on this connection.
//!
//! Implements `docs/PROTOCOL.md` § Following a channel. They end with the connection: the client opens them again on its
//! next one, and says what it has seen.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::*;
use crate::{
    channel::{Attachment, Beginning, Bounds, Changes, Entry, LogEpoch, Offset, Page, Position, Snapshot, Told, Want},
    connection::Updates,
    frame::{Handle, Open, Piece, advance, closed, kind, members, opened, pieces, snapshot_head, update_head, whole},
    limits::{MAX_AUTHORED, MAX_READING, MAX_WAITING, PART},
};

/// What the application is to do for a channel that the client has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelWish {
    /// The client wants to be told of it: [`ServerEndpoint::attach`] or [`ServerEndpoint::close_channel`]. What it takes
    /// the place of, if `instead` says so, is not open any more, whatever the answer; no `Closed` comes for that.
    Open(Open),
    /// Read this for it: [`ServerEndpoint::give_page`] or [`ServerEndpoint::give_snapshot`].
    Read(Handle, Want),
    /// Say what has changed of its members since this revision: [`ServerEndpoint::give_members`].
    Members(Handle, u64),
    /// It is not open any more: the client does not want to be told, or cannot be. None comes for what the application has
    /// closed, and none for what ends with its connection: the end of that says so for all.
    Closed(Handle),
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    open: BTreeMap<Handle, Channel>,
    /// Those that have something to tell, in their turn.
    ready: VecDeque<Handle>,
    /// Those for which something is to be read, in their turn.
    hungry: VecDeque<Handle>,
    /// Those for which something is being read.
    reading: usize,
    /// Bytes that wait in all of them.
    waiting: usize,
    newest: Option<Handle>,
}

#[derive(Debug)]
enum Channel {
    /// The application has not decided.
    Asked {
        since: Option<Position>,
        past: Offset,
        /// Nothing of the log is to be told.
        held: bool,
    },
    Attached(Box<Attached>),
}

#[derive(Debug)]
struct Attached {
    attachment: Attachment,
    members: Members,
    /// The client was told how it goes on, or does not want to know; members come after that.
    opened: bool,
    /// It is among those that are ready.
    ready: bool,
    /// It is among those that are hungry.
    hungry: bool,
    /// The application reads for it.
    reading: bool,
}

/// What the client knows of the members.
#[derive(Debug)]
enum Members {
    /// It does not ask.
    Unwatched,
    /// Everything up to this revision.
    Told(u64),
    /// Everything up to this revision, and there is more.
    Changed(u64),
    /// The application is asked what comes next; `true`: something has changed since.
    Asked(bool),
}

impl Attached {
    fn has_output(&self) -> bool {
        self.attachment.has_output() || (self.opened && matches!(self.members, Members::Changed(_)))
    }

    fn waiting(&self) -> usize {
        self.attachment.waiting().1
    }
}

/// What there is to do for the channel whose turn it is.
enum Turn {
    Tell(Told),
    AskForMembers(u64),
}

impl Channels {
    /// Gives whether it was open.
    fn remove(&mut self, handle: Handle) -> bool {
        let Some(channel) = self.open.remove(&handle) else { return false };
        if let Channel::Attached(attached) = channel {
            self.waiting -= attached.waiting();
            self.reading -= usize::from(attached.reading);
            self.ready.retain(|ready| *ready != handle);
            self.hungry.retain(|hungry| *hungry != handle);
        }
        true
    }

    fn attached(&mut self, handle: Handle) -> Option<&mut Attached> {
        match self.open.get_mut(&handle)? {
            Channel::Attached(attached) => Some(attached),
            Channel::Asked { .. } => None,
        }
    }

    /// Has something happen to the attachment. Gives whether there is such a channel.
    fn change(&mut self, handle: Handle, change: impl FnOnce(&mut Attachment)) -> bool {
        let Some(Channel::Attached(attached)) = self.open.get_mut(&handle) else { return false };
        let before = attached.waiting();
        change(&mut attached.attachment);
        self.waiting = self.waiting - before + attached.waiting();
        self.look_at(handle);
        true
    }

    /// Puts the channel where it belongs by what it has and wants.
    fn look_at(&mut self, handle: Handle) {
        let Some(Channel::Attached(attached)) = self.open.get_mut(&handle) else { return };
        if attached.has_output() && !attached.ready {
            attached.ready = true;
            self.ready.push_back(handle);
        }
        if attached.attachment.wants() && !attached.hungry {
            attached.hungry = true;
            self.hungry.push_back(handle);
        }
    }

    /// Bytes that wait in all of them.
    #[cfg(feature = "testing")]
    pub(super) fn waiting_in_all(&self) -> usize {
        self.waiting
    }

    /// What waits in the fullest of them: entries and bytes.
    #[cfg(feature = "testing")]
    pub(super) fn waiting(&self) -> (usize, usize) {
        let waiting = self.open.values().filter_map(|channel| match channel {
            Channel::Attached(attached) => Some(attached.attachment.waiting()),
            Channel::Asked { .. } => None,
        });
        waiting.fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)))
    }

    /// What to read next. However many channels are behind, only so much is under way and waits.
    fn poll_want(&mut self) -> Option<(Handle, Want)> {
        while self.reading < MAX_READING && self.waiting < MAX_WAITING {
            let handle = self.hungry.pop_front()?;
            let Some(Channel::Attached(attached)) = self.open.get_mut(&handle) else { continue };
            attached.hungry = false;
            if let Some(want) = attached.attachment.poll_want() {
                attached.reading = true;
                self.reading += 1;
                return Some((handle, want));
            }
        }
        None
    }

    /// What was to be read is there.
    fn has_read(&mut self, handle: Handle) {
        if let Some(Channel::Attached(attached)) = self.open.get_mut(&handle) {
            self.reading -= usize::from(std::mem::take(&mut attached.reading));
        }
    }

    /// The channel whose turn it is, and what to do for it.
    fn next(&mut self) -> Option<(Handle, Turn)> {
        loop {
            let handle = self.ready.pop_front()?;
            let Some(Channel::Attached(attached)) = self.open.get_mut(&handle) else { continue };
            let before = attached.waiting();
            let turn = match (attached.attachment.poll_told(), &attached.members) {
                (Some(told), _) => {
                    attached.opened = true;
                    Some(Turn::Tell(told))
                }
                (None, Members::Changed(revision)) if attached.opened => {
                    let revision = *revision;
                    attached.members = Members::Asked(false);
                    Some(Turn::AskForMembers(revision))
                }
                (None, _) => None,
            };
            self.waiting = self.waiting - before + attached.waiting();
            attached.ready = false;
            self.look_at(handle);
            if let Some(turn) = turn {
                return Some((handle, turn));
            }
        }
    }
}

impl ServerEndpoint {
    /// Tells the client of the channel from where it has seen it, or from its `beginning`: the answer to
    /// [`ChannelWish::Open`]. From before this on the application must give it every entry that it hears of. With
    /// `members` it is told who is in it, and of every change from now on ([`Self::members_changed`]).
    pub fn attach(&mut self, handle: Handle, beginning: Beginning, members: bool) {
        if let Some(channel @ Channel::Asked { .. }) = self.channels.open.get_mut(&handle) {
            let Channel::Asked { since, past, held } = *channel else { return };
            let mut attachment = Attachment::new(since, past, beginning);
            if held {
                attachment.hold();
            }
            *channel = Channel::Attached(Box::new(Attached {
                attachment,
                members: if members { Members::Changed(0) } else { Members::Unwatched },
                opened: held,
                ready: false,
                hungry: false,
                reading: false,
            }));
            self.change(handle, |_| {});
        }
    }

    /// Ends a channel, or refuses it. The client is told why.
    pub fn close_channel(&mut self, handle: Handle, code: Code, message: &str) {
        if self.channels.remove(handle)
            && let Phase::Connected(connection) = &mut self.phase
        {
            connection.updates.push(Piece { head: closed(handle, code, message), content: Bytes::new() });
        }
        self.read_on();
    }

    /// There is a new entry in a channel; `visible` says whether this client may see it.
    pub fn tell_entry(&mut self, handle: Handle, epoch: LogEpoch, entry: &Arc<Entry>, visible: bool) {
        let has_room = self.channels.waiting < MAX_WAITING;
        self.change(handle, |attachment| match has_room {
            true => attachment.handle_entry(epoch, entry, visible),
            // It is read again when there is.
            false => attachment.look_again(),
        });
    }

    /// The page that was wanted for a channel; `is_for` says which of it this client may see, as in
    /// [`Attachment::handle_page`].
    pub fn give_page(&mut self, handle: Handle, page: Page, is_for: impl Fn(&Entry, bool) -> bool) {
        self.channels.has_read(handle);
        self.change(handle, |attachment| attachment.handle_page(page, is_for));
    }

    /// The snapshot that was wanted for a channel.
    pub fn give_snapshot(&mut self, handle: Handle, bounds: Bounds, snapshot: Option<Arc<Snapshot>>) {
        self.channels.has_read(handle);
        self.change(handle, |attachment| attachment.handle_snapshot(bounds, snapshot));
    }

    /// Something of the channel may not have been heard of.
    pub fn look_again(&mut self, handle: Handle) {
        self.change(handle, Attachment::look_again);
    }

    /// The channel ends here by now.
    pub fn tell_end(&mut self, handle: Handle, end: Position) {
        self.change(handle, |attachment| attachment.handle_end(end));
    }

    /// Tells the client something of a channel that is kept nowhere. It is dropped where it would come late.
    pub fn tell_volatile(&mut self, handle: Handle, at: UnixMillis, content: &Bytes) -> Sent {
        let Phase::Connected(connection) = &mut self.phase else { return Sent::Dropped };
        let updates = &mut connection.updates;
        let is_told = self.channels.attached(handle).is_some_and(|attached| !attached.attachment.is_held());
        if !is_told || !updates.has_room() || content.len() > PART + MAX_AUTHORED {
            return Sent::Dropped;
        }
        updates.push(whole(kind::VOLATILE_UPDATE, &snapshot_head(handle, at), content.clone()));
        Sent::Queued
    }

    /// Somebody has entered or left a channel, or says something else.
    pub fn members_changed(&mut self, handle: Handle) {
        if let Some(attached) = self.channels.attached(handle) {
            match &mut attached.members {
                Members::Unwatched | Members::Changed(_) => {}
                Members::Told(revision) => attached.members = Members::Changed(*revision),
                Members::Asked(again) => *again = true,
            }
            self.channels.look_at(handle);
        }
    }

    /// What has changed of the members of a channel: the answer to [`ChannelWish::Members`].
    pub fn give_members(&mut self, handle: Handle, changes: &Changes) {
        let Phase::Connected(connection) = &mut self.phase else { return };
        let Some(attached) = self.channels.attached(handle) else { return };
        let Members::Asked(again) = attached.members else { return };
        let goes_on = again || changes.more;
        attached.members = if goes_on { Members::Changed(changes.revision) } else { Members::Told(changes.revision) };
        if changes.whole || !changes.changes.is_empty() {
            connection.updates.push(Piece { head: members(handle, changes), content: Bytes::new() });
        }
        self.channels.look_at(handle);
    }

    pub(super) fn handle_open(&mut self, mut open: Open, updates: &mut Updates) -> Result<(), Violation> {
        let handle = open.handle;
        if handle.0 == 0 || self.channels.newest >= Some(handle) {
            return Err(Violation::ChannelReused);
        }
        self.channels.newest = Some(handle);
        // Whoever opens and never reads what comes of it.
        if updates.is_overfull() {
            return Err(Violation::UnexpectedFrame);
        }
        // The application may have closed it, which the client may not know yet.
        open.instead = open.instead.filter(|instead| self.channels.remove(*instead));
        if self.channels.open.len() >= self.config.limits.max_channels {
            updates.push(Piece { head: closed(handle, Code::TOO_MANY_CHANNELS, ""), content: Bytes::new() });
            return Ok(());
        }
        self.channels.open.insert(handle, Channel::Asked { since: open.since, past: open.past, held: false });
        self.event(ServerEvent::Channel(Box::new(ChannelWish::Open(open))));
        self.read_on();
        Ok(())
    }

    /// One that is not open has been closed by the application, which the client may not know yet.
    pub(super) fn handle_close(&mut self, handle: Handle) {
        if self.channels.remove(handle) {
            self.event(ServerEvent::Channel(Box::new(ChannelWish::Closed(handle))));
            self.read_on();
        }
    }

    /// What it is a member of it stays a member of.
    pub(super) fn handle_hold(&mut self, handle: Handle) {
        if let Some(Channel::Asked { held, .. }) = self.channels.open.get_mut(&handle) {
            *held = true;
        } else if let Some(attached) = self.channels.attached(handle) {
            attached.opened = true;
            self.change(handle, Attachment::hold);
        }
    }

    fn change(&mut self, handle: Handle, change: impl FnOnce(&mut Attachment)) {
        if self.channels.change(handle, change) {
            self.read_on();
        }
    }

    /// Has the application read what may be read now.
    fn read_on(&mut self) {
        while let Some((handle, want)) = self.channels.poll_want() {
            self.event(ServerEvent::Channel(Box::new(ChannelWish::Read(handle, want))));
        }
    }

    /// Moves into `updates` what fits one record, so that what waits for a slow client waits where it can be read again.
    pub(super) fn fill(&mut self, updates: &mut Updates) {
        while updates.has_room()
            && let Some((handle, turn)) = self.channels.next()
        {
            let most = self.session.most().saturating_add(MAX_AUTHORED);
            let told = match turn {
                Turn::Tell(told) => told,
                Turn::AskForMembers(revision) => {
                    self.event(ServerEvent::Channel(Box::new(ChannelWish::Members(handle, revision))));
                    // What it comes to goes into this record.
                    return;
                }
            };
            match told {
                Told::Update(entry) if entry.content.len() > most => self.close_too_large(handle, updates),
                Told::Snapshot(snapshot) if snapshot.content.len() > most => self.close_too_large(handle, updates),
                Told::Opened(told) => updates.push(Piece { head: opened(handle, &told), content: Bytes::new() }),
                Told::Advance(mark) => updates.push(Piece { head: advance(handle, mark), content: Bytes::new() }),
                Told::Update(entry) => {
                    updates.extend(pieces(kind::UPDATE, &update_head(handle, &entry), &entry.content));
                }
                Told::Snapshot(snapshot) => {
                    updates.extend(pieces(kind::SNAPSHOT, &snapshot_head(handle, snapshot.at), &snapshot.content));
                }
            }
            self.read_on();
        }
    }

    /// The client does not take messages of this size, and without it nothing after it is of use.
    fn close_too_large(&mut self, handle: Handle, updates: &mut Updates) {
        self.channels.remove(handle);
        updates.push(Piece { head: closed(handle, Code::TOO_LARGE, ""), content: Bytes::new() });
        self.event(ServerEvent::Channel(Box::new(ChannelWish::Closed(handle))));
    }
}
