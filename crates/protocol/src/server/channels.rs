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
    channel::{Attachment, Beginning, Bounds, Entry, LogEpoch, Page, Position, Snapshot, Told, Want},
    connection::Updates,
    frame::{Handle, Open, Piece, advance, closed, kind, opened, pieces, snapshot_head, update_head},
};

/// What the application is to do for a channel that the client has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelWish {
    /// The client wants to be told of it: [`ServerEndpoint::attach`] or [`ServerEndpoint::close_channel`].
    Open(Open),
    /// Read this for it: [`ServerEndpoint::give_page`] or [`ServerEndpoint::give_snapshot`].
    Read(Handle, Want),
    /// It is not open any more. It comes once for every `Open`, unless the application has closed it.
    Closed(Handle),
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    open: BTreeMap<Handle, Channel>,
    /// Those that have something to tell, in their turn.
    ready: VecDeque<Handle>,
    newest: Option<Handle>,
}

#[derive(Debug)]
enum Channel {
    /// The application has not decided.
    Asked(Option<Position>),
    /// `bool`: it is among those that are ready.
    Attached(Box<Attachment>, bool),
}

impl Channels {
    /// Gives whether it was open.
    fn remove(&mut self, handle: Handle) -> bool {
        self.ready.retain(|ready| *ready != handle);
        self.open.remove(&handle).is_some()
    }

    fn attachment(&mut self, handle: Handle) -> Option<&mut Attachment> {
        match self.open.get_mut(&handle)? {
            Channel::Attached(attachment, _) => Some(attachment),
            Channel::Asked(_) => None,
        }
    }

    /// Something has happened to the channel. Gives what it wants.
    fn changed(&mut self, handle: Handle) -> Option<Want> {
        let Channel::Attached(attachment, ready) = self.open.get_mut(&handle)? else { return None };
        if attachment.has_output() && !*ready {
            *ready = true;
            self.ready.push_back(handle);
        }
        attachment.poll_want()
    }

    /// The channel whose turn it is, and what it tells.
    fn next(&mut self) -> Option<(Handle, Told)> {
        loop {
            let handle = self.ready.pop_front()?;
            let Some(Channel::Attached(attachment, ready)) = self.open.get_mut(&handle) else { continue };
            let told = attachment.poll_told();
            *ready = attachment.has_output();
            if *ready {
                self.ready.push_back(handle);
            }
            if let Some(told) = told {
                return Some((handle, told));
            }
        }
    }
}

impl ServerEndpoint {
    /// Tells the client of the channel from where it has seen it, or from its `beginning`: the answer to
    /// [`ChannelWish::Open`]. From before this on the application must give it every entry that it hears of.
    pub fn attach(&mut self, handle: Handle, beginning: Beginning) {
        if let Some(channel @ Channel::Asked(_)) = self.channels.open.get_mut(&handle) {
            let Channel::Asked(since) = *channel else { return };
            *channel = Channel::Attached(Box::new(Attachment::new(since, beginning)), false);
            self.channel_changed(handle);
        }
    }

    /// Ends a channel, or refuses it. The client is told why.
    pub fn close_channel(&mut self, handle: Handle, code: Code, message: &str) {
        if self.channels.remove(handle)
            && let Phase::Connected(connection) = &mut self.phase
        {
            connection.updates.push(Piece { head: closed(handle, code, message), content: Bytes::new() });
        }
    }

    /// There is a new entry in a channel; `visible` says whether this client may see it.
    pub fn tell_entry(&mut self, handle: Handle, epoch: LogEpoch, entry: &Arc<Entry>, visible: bool) {
        if let Some(attachment) = self.channels.attachment(handle) {
            attachment.handle_entry(epoch, entry, visible);
            self.channel_changed(handle);
        }
    }

    /// The page that was wanted for a channel; `is_for` says which of it this client may see.
    pub fn give_page(&mut self, handle: Handle, page: Page, is_for: impl Fn(&Entry) -> bool) {
        if let Some(attachment) = self.channels.attachment(handle) {
            attachment.handle_page(page, is_for);
            self.channel_changed(handle);
        }
    }

    /// The snapshot that was wanted for a channel.
    pub fn give_snapshot(&mut self, handle: Handle, bounds: Bounds, snapshot: Option<Arc<Snapshot>>) {
        if let Some(attachment) = self.channels.attachment(handle) {
            attachment.handle_snapshot(bounds, snapshot);
            self.channel_changed(handle);
        }
    }

    /// Something of the channel may not have been heard of.
    pub fn look_again(&mut self, handle: Handle) {
        if let Some(attachment) = self.channels.attachment(handle) {
            attachment.look_again();
            self.channel_changed(handle);
        }
    }

    /// The channel ends here by now.
    pub fn tell_end(&mut self, handle: Handle, end: Position) {
        if let Some(attachment) = self.channels.attachment(handle) {
            attachment.handle_end(end);
            self.channel_changed(handle);
        }
    }

    pub(super) fn handle_open(&mut self, open: Open, updates: &mut Updates) -> Result<(), Violation> {
        let handle = open.handle;
        if handle.0 == 0 || self.channels.newest >= Some(handle) {
            return Err(Violation::ChannelReused);
        }
        self.channels.newest = Some(handle);
        // Whoever opens and never reads what comes of it.
        if updates.is_overfull() {
            return Err(Violation::UnexpectedFrame);
        }
        if self.channels.open.len() >= self.config.limits.max_channels {
            updates.push(Piece { head: closed(handle, Code::TOO_MANY_CHANNELS, ""), content: Bytes::new() });
            return Ok(());
        }
        self.channels.open.insert(handle, Channel::Asked(open.since));
        self.event(ServerEvent::Channel(Box::new(ChannelWish::Open(open))));
        Ok(())
    }

    /// One that is not open has been closed by the application, which the client may not know yet.
    pub(super) fn handle_close(&mut self, handle: Handle) {
        if self.channels.remove(handle) {
            self.event(ServerEvent::Channel(Box::new(ChannelWish::Closed(handle))));
        }
    }

    /// The connection is gone.
    pub(super) fn close_channels(&mut self) {
        for handle in mem::take(&mut self.channels).open.into_keys() {
            self.event(ServerEvent::Channel(Box::new(ChannelWish::Closed(handle))));
        }
    }

    fn channel_changed(&mut self, handle: Handle) {
        if let Some(want) = self.channels.changed(handle) {
            self.event(ServerEvent::Channel(Box::new(ChannelWish::Read(handle, want))));
        }
    }

    /// Moves into `updates` what fits one record, so that what waits for a slow client waits where it can be read again.
    pub(super) fn fill(&mut self, updates: &mut Updates) {
        while updates.has_room()
            && let Some((handle, told)) = self.channels.next()
        {
            let whole = |head| Piece { head, content: Bytes::new() };
            let most = self.session.most();
            match told {
                Told::Update(entry) if entry.content.len() > most => self.close_too_large(handle, updates),
                Told::Snapshot(snapshot) if snapshot.content.len() > most => self.close_too_large(handle, updates),
                Told::Opened(told) => updates.push(whole(opened(handle, &told))),
                Told::Advance(mark) => updates.push(whole(advance(handle, mark))),
                Told::Update(entry) => {
                    updates.extend(pieces(kind::UPDATE, &update_head(handle, &entry), &entry.content));
                }
                Told::Snapshot(snapshot) => {
                    updates.extend(pieces(kind::SNAPSHOT, &snapshot_head(handle, snapshot.at), &snapshot.content));
                }
            }
            self.channel_changed(handle);
        }
    }

    /// The client does not take messages of this size, and without it nothing after it is of use.
    fn close_too_large(&mut self, handle: Handle, updates: &mut Updates) {
        self.channels.remove(handle);
        updates.push(Piece { head: closed(handle, Code::TOO_LARGE, ""), content: Bytes::new() });
        self.event(ServerEvent::Channel(Box::new(ChannelWish::Closed(handle))));
    }
}
