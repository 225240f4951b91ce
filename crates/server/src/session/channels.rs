//! The channels that the client of a session has open: who may, what is read for them, what is written.

use std::sync::Arc;

use moorline_engine::{EngineError, Limit};
use moorline_protocol::{
    channel::{Authored, Beginning, Bounds, ChannelId, Kind, MAX_HISTORY, Page, Snapshot, Want},
    frame::{Handle, Open, Write, WriteKind},
    scope::Verb,
    server::ChannelWish,
};

use super::{work::too_early, *};
use crate::{
    channels::{Inbox, Word},
    topic::{Author, Declared, failure, member, operation, publish},
};

/// What the client follows on its present connection.
#[derive(Default)]
pub(super) struct Opened {
    by_handle: HashMap<Handle, Channel>,
    pub(super) inbox: Arc<Inbox>,
    /// Counts the connections: what was read for one of before is for nobody.
    connection: u64,
}

struct Channel {
    id: ChannelId,
    declared: Arc<Declared>,
    /// Without what the client itself has written.
    quiet: bool,
}

/// What was read for a channel.
pub(super) enum Found {
    Page(Page),
    Snapshot(Bounds, Option<Arc<Snapshot>>),
}

/// For which channel it was read.
pub(super) struct Reader {
    handle: Handle,
    connection: u64,
}

impl Driver {
    pub(super) fn handle_wish(&mut self, wish: ChannelWish) {
        match wish {
            ChannelWish::Open(open) => {
                // It makes the server read, as a call does.
                self.count_message();
                if let Err(failure) = self.open_channel(&open) {
                    self.endpoint.close_channel(open.handle, failure.code, &failure.message);
                }
            }
            ChannelWish::Read(handle, want) => self.read_channel(handle, want),
            ChannelWish::Closed(handle) => self.forget_channel(handle),
        }
    }

    fn topic(&self, kind: Kind, name: &Name, verb: Verb) -> Result<Arc<Declared>, Failure> {
        let found = if kind == Kind::Topic { self.shared.topics.find(name.as_str()) } else { None };
        let declared = found.cloned().ok_or_else(|| Failure::of(Code::NO_SUCH_CHANNEL))?;
        match declared.policy.guard(verb).permits(&self.entry.principal, Operation::new(verb, name.as_str())) {
            true => Ok(declared),
            false => Err(Failure::of(Code::FORBIDDEN)),
        }
    }

    fn channel_id(&self, kind: Kind, name: &Name) -> ChannelId {
        ChannelId::new(self.entry.principal.subject.tenant().clone(), kind, name.clone())
    }

    fn open_channel(&mut self, open: &Open) -> Result<(), Failure> {
        let declared = self.topic(open.kind, &open.name, Verb::TopicSubscribe)?;
        let id = self.channel_id(open.kind, &open.name);
        // First, so that what is appended while the history is read is heard of.
        self.shared.channels.enter(&id, open.handle, &self.opened.inbox);
        self.opened.by_handle.insert(open.handle, Channel { id, declared, quiet: open.quiet });
        let history = usize::try_from(open.history).unwrap_or(usize::MAX).min(MAX_HISTORY);
        self.endpoint.attach(open.handle, Beginning::Newest(history));
        Ok(())
    }

    fn read_channel(&mut self, handle: Handle, want: Want) {
        let Some(channel) = self.opened.by_handle.get(&handle) else { return };
        let engine = self.shared.channels.engine(channel.declared.policy.is_durable()).clone();
        let (id, reader) = (channel.id.clone(), Reader { handle, connection: self.opened.connection });
        let reading = async move {
            let found = match want {
                Want::Page { range, entries, bytes } => {
                    engine.read(&id, range, Limit { entries, bytes }).await.map(Found::Page)
                }
                Want::Snapshot => {
                    engine.snapshot(&id).await.map(|(bounds, snapshot)| Found::Snapshot(bounds, snapshot))
                }
            };
            Done::Found(reader, found)
        };
        let (_, registration) = AbortHandle::new_pair();
        self.running.push(Abortable::new(reading.boxed(), registration));
    }

    pub(super) fn found(&mut self, reader: &Reader, found: Result<Found, EngineError>) {
        let Reader { handle, connection } = *reader;
        let Some(channel) = self.opened.by_handle.get(&handle).filter(|_| connection == self.opened.connection) else {
            return;
        };
        match found {
            Ok(Found::Page(page)) => {
                let me = self.me().filter(|_| channel.quiet);
                self.endpoint
                    .give_page(handle, page, |entry| me.is_none() || Authored::member_of(&entry.content) != me);
            }
            Ok(Found::Snapshot(bounds, snapshot)) => self.endpoint.give_snapshot(handle, bounds, snapshot),
            Err(error) => {
                let failure = failure(&channel.id, &error);
                self.close_channel(handle, failure.code);
            }
        }
    }

    pub(super) fn handle_word(&mut self, word: Word) {
        match word {
            Word::Appended(handle, epoch, entry) => {
                let Some(channel) = self.opened.by_handle.get(&handle) else { return };
                let visible = !channel.quiet || Authored::member_of(&entry.content) != self.me();
                self.endpoint.tell_entry(handle, epoch, &entry, visible);
            }
            Word::Removed(handle) => self.endpoint.look_again(handle),
            Word::Missed => {
                let handles: Vec<_> = self.opened.by_handle.keys().copied().collect();
                handles.into_iter().for_each(|handle| self.endpoint.look_again(handle));
            }
        }
    }

    fn me(&self) -> Option<moorline_protocol::channel::MemberId> {
        self.peer.as_ref().map(|(peer, _)| member(peer.id()))
    }

    fn close_channel(&mut self, handle: Handle, code: Code) {
        self.endpoint.close_channel(handle, code, "");
        self.forget_channel(handle);
    }

    fn forget_channel(&mut self, handle: Handle) {
        if let Some(channel) = self.opened.by_handle.remove(&handle) {
            self.shared.channels.leave(&channel.id, handle, &self.opened.inbox);
        }
    }

    /// The client is somebody else by now, who may not follow what it did before.
    pub(super) fn check_channels(&mut self) {
        let may_not = |channel: &Channel| {
            let name = channel.id.name.as_str();
            !channel
                .declared
                .policy
                .subscribe
                .permits(&self.entry.principal, Operation::new(Verb::TopicSubscribe, name))
                || channel.id.tenant != *self.entry.principal.subject.tenant()
        };
        let forbidden: Vec<_> =
            self.opened.by_handle.iter().filter(|(_, channel)| may_not(channel)).map(|(handle, _)| *handle).collect();
        forbidden.into_iter().for_each(|handle| self.close_channel(handle, Code::FORBIDDEN));
    }

    /// The connection is gone. The endpoint has told that its channels are closed.
    pub(super) fn leave_channels(&mut self) {
        let handles: Vec<_> = self.opened.by_handle.keys().copied().collect();
        handles.into_iter().for_each(|handle| self.forget_channel(handle));
        self.opened.inbox.clear();
        self.opened.connection += 1;
    }

    pub(super) fn handle_write(&mut self, write: Write) {
        let Write { id, what: WriteKind::Append, kind, name, key, payload } = write;
        let declared = self.topic(kind, &name, Verb::TopicPublish).and_then(|declared| {
            self.has_turn(declared.turns.as_ref()).map_err(|wait| too_early(wait, &name.as_str().into()))?;
            declared.policy.publish.check(&payload).map(|()| declared)
        });
        let declared = match declared {
            Ok(declared) => declared,
            Err(failure) => {
                self.shared.metrics.refuse_call();
                // A failure is never too large.
                let _ = self.endpoint.answer(id, Err(failure));
                return;
            }
        };
        let Some((peer, _)) = &self.peer else { return };
        let author = Author::client(peer.id(), &self.entry.principal);
        let op = key.map(|key| operation(&self.entry.principal.subject, &key));
        let publishing =
            publish(self.shared.channels.clone(), self.channel_id(kind, &name), declared, author, payload, op);
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, abort);
        let done = publishing.map(move |position| Done::Answer(id, position.map(|at| Payload::bytes(at.to_bytes()))));
        self.running.push(Abortable::new(done.boxed(), registration));
    }
}
