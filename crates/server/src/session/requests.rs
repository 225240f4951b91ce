//! What the client of a session wants of channels, whether it has them open or not.

use moorline_engine::Limit;
use moorline_protocol::{
    channel::{ChannelId, Kind, MAX_HISTORY, MAX_HISTORY_BYTES, MemberId, Position, Range},
    frame::{Direct, History, Request, RequestKind, VolatileAppend},
    limits::MAX_CHANNEL_DATA,
    scope::Verb,
    session::Broadcast,
};

use super::{work::too_early, *};
use crate::{
    author::{Author, operation},
    clock::now,
    policy::Declared,
    store::Store,
    topic::publish,
};

/// What is asked for, and may be: what is left to do.
type Doing = BoxFuture<'static, Result<Payload, Failure>>;

impl Driver {
    pub(super) fn handle_request(&mut self, request: Request) {
        let id = request.id;
        match self.begin_request(request) {
            Ok(doing) => {
                let (abort, registration) = AbortHandle::new_pair();
                self.aborts.insert(id, abort);
                let done = doing.map(move |result| Done::Answer(id, result));
                self.running.push(Abortable::new(done.boxed(), registration));
            }
            Err(failure) => {
                self.shared.metrics.refuse_call();
                // A failure is never too large.
                let _ = self.endpoint.answer(id, Err(failure));
            }
        }
    }

    fn begin_request(&mut self, request: Request) -> Result<Doing, Failure> {
        let Request { what, kind, name, key, payload, .. } = request;
        let declared = self.declared(kind, &name, |policy| policy.verb(kind, &what))?;
        let (channel, channels) = (self.channel_id(kind, &name), self.shared.channels.clone());
        let author = self.author().ok_or_else(|| Failure::of(Code::INTERNAL))?;
        let store = || Store::new(channels.clone(), channel.clone(), &declared);
        match what {
            RequestKind::Append => {
                self.may_add(&declared, &name, kind, &payload)?;
                let op = key.map(|key| operation(&self.entry.principal.subject, &key));
                let position = |at: Position| Payload::bytes(at.to_bytes());
                Ok(match kind {
                    Kind::Store => {
                        let store = store();
                        async move { store.append(author, payload, op).await.map(position) }.boxed()
                    }
                    Kind::Topic | Kind::Feed | Kind::State => {
                        let publishing = publish(channels, channel, declared, author, payload, op);
                        publishing.map(move |at| at.map(position)).boxed()
                    }
                })
            }
            RequestKind::Send(member) => {
                self.may_add(&declared, &name, kind, &payload)?;
                let sent = self.send_direct(&channel, member, author, payload);
                Ok(async move { sent.map(|()| Payload::bytes("")) }.boxed())
            }
            RequestKind::Present => {
                // Everybody who watches is told.
                self.is_in_time(&declared, &name)?;
                let changed = self.present(&channel, author.member, payload);
                Ok(async move { changed.map(|()| Payload::bytes("")) }.boxed())
            }
            RequestKind::History { before, count } => {
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_HISTORY);
                let is_kept = declared.policy.is_durable();
                Ok(async move {
                    let range = before.map_or(Range::Newest, |before| Range::Before(before.mark.offset));
                    let limit = Limit { entries: count, bytes: MAX_HISTORY_BYTES };
                    let page = channels.engine(is_kept).read(&channel, range, limit).await;
                    let page = page.map_err(|error| channels.failure(&channel, &error))?;
                    let bounds = page.bounds;
                    if before.is_some_and(|before| before.epoch != bounds.epoch) {
                        return Err(Failure::of(Code::UNKNOWN_POSITION));
                    }
                    // An engine reads one in any case.
                    let entries = if count == 0 { &[][..] } else { &page.entries };
                    let more = match entries.first() {
                        Some(oldest) => oldest.prev > bounds.trimmed.offset,
                        None => !page.entries.is_empty(),
                    };
                    let entries = entries.iter().map(|entry| &**entry);
                    Ok(Payload::bytes(History::encode(more, bounds.epoch, entries)))
                }
                .boxed())
            }
            RequestKind::Snapshot(covers) => {
                let store = store();
                Ok(async move { store.keep_snapshot(covers, payload.bytes).await.map(|()| Payload::bytes("")) }.boxed())
            }
            RequestKind::Keep(hash) => {
                self.may_add(&declared, &name, kind, &payload)?;
                let store = store();
                Ok(async move { store.keep_value(hash, payload.bytes).await.map(|()| Payload::bytes("")) }.boxed())
            }
            RequestKind::Value(hash) => {
                let store = store();
                Ok(async move { store.value(hash).await.map(Payload::bytes) }.boxed())
            }
        }
    }

    pub(super) fn handle_volatile(&mut self, append: VolatileAppend) {
        let VolatileAppend { kind, name, payload } = append;
        let verb = match kind {
            Kind::Topic => Some(Verb::TopicPublish),
            Kind::Store => Some(Verb::StoreWrite),
            Kind::Feed | Kind::State => None,
        };
        let allowed =
            self.declared(kind, &name, |_| verb).and_then(|declared| self.may_add(&declared, &name, kind, &payload));
        match (allowed, self.author()) {
            (Ok(()), Some(author)) => {
                self.shared.channels.tell_volatile(&self.channel_id(kind, &name), &author.says(payload));
            }
            (Ok(()), None) => {}
            (Err(failure), _) => {
                tracing::debug!(channel = name.as_str(), code = %failure.code, "what is volatile is refused");
                self.endpoint.warn(failure.code, &format!("{}: {}", name.as_str(), failure.message));
            }
        }
    }

    fn author(&self) -> Option<Author> {
        self.peer.as_ref().map(|(peer, _)| Author::client(peer.id(), &self.entry.principal))
    }

    fn is_in_time(&self, declared: &Declared, name: &Name) -> Result<(), Failure> {
        self.has_turn(declared.turns.as_ref()).map_err(|wait| too_early(wait, &name.as_str().into()))
    }

    /// Whether the client is not too early, and has said what may be said.
    fn may_add(&self, declared: &Declared, name: &Name, kind: Kind, payload: &Payload) -> Result<(), Failure> {
        self.is_in_time(declared, name)?;
        if kind == Kind::Topic { declared.policy.write.check(payload) } else { Ok(()) }
    }

    /// Hands something to one who is in the channel. It waits with what else that one's session is told, so that it
    /// arrives although its client is away for a moment.
    fn send_direct(&self, channel: &ChannelId, to: MemberId, by: Author, payload: Payload) -> Result<(), Failure> {
        let Some(peer) = self.shared.channels.find(channel, to) else {
            return Err(Failure::of(Code::NO_SUCH_MEMBER));
        };
        let direct = Direct { kind: channel.kind, name: channel.name.clone(), at: now(), content: by.says(payload) };
        let sent = Broadcast::direct(&direct).and_then(|message| peer.send_from_another(message));
        sent.map_err(|refused| match refused {
            // Its session has just ended.
            Refused::Closed => Failure::of(Code::NO_SUCH_MEMBER),
            refused => Failure::of(refused.code()),
        })
    }

    /// Says something else for the client to the others in a channel.
    fn present(&self, channel: &ChannelId, me: MemberId, data: Payload) -> Result<(), Failure> {
        if data.bytes.len() > MAX_CHANNEL_DATA {
            return Err(Failure::of(Code::TOO_LARGE));
        }
        match self.shared.channels.change(channel, me, |member| member.data = data) {
            true => Ok(()),
            false => Err(Failure::of(Code::NO_SUCH_MEMBER)),
        }
    }
}
