//! The channels that the client of a session has open: who may, what is read for them, and who is in them.

use std::sync::Arc;

use moorline_engine::{EngineError, Limit};
use moorline_protocol::{
    channel::{
        Authored, Beginning, Bounds, ChannelId, Kind, MAX_HISTORY, Member, MemberId, Page, Presence, RosterFull,
        Snapshot, Want,
    },
    frame::{Handle, Open},
    scope::Verb,
    server::{ChannelWish, Memberships},
};
use prometheus_client::metrics::gauge::Gauge;

use super::*;
use crate::{
    access::Principal,
    channels::{Channels, Follower, Inbox, Word},
    clock::now,
    policy::{Declared, Policy},
};

/// What the client follows on its present connection, and what it is a member of while its session lasts.
pub(super) struct Opened {
    channels: Arc<Channels>,
    by_handle: HashMap<Handle, Channel>,
    memberships: Memberships,
    /// As which the others know it.
    member: Option<MemberId>,
    pub(super) inbox: Arc<Inbox>,
    /// Counts what is open.
    followed: Gauge,
    /// Counts the connections: what was read for one of before is for nobody.
    connection: u64,
    /// Channels that may be open on one connection.
    most: usize,
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

impl Opened {
    pub(super) fn new(channels: Arc<Channels>, followed: Gauge, most: usize) -> Self {
        Self {
            channels,
            by_handle: HashMap::new(),
            memberships: Memberships::default(),
            member: None,
            inbox: Arc::default(),
            followed,
            connection: 0,
            most,
        }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.memberships.deadline()
    }

    fn follow(&mut self, handle: Handle, channel: Channel, follower: Follower) {
        self.channels.enter(&channel.id, follower);
        self.by_handle.insert(handle, channel);
        self.followed.inc();
    }

    fn forget(&mut self, handle: Handle) {
        let Some(channel) = self.by_handle.remove(&handle) else { return };
        self.followed.dec();
        self.channels.leave(&channel.id, handle, &self.inbox);
        if self.memberships.leave(&channel.id, handle) {
            self.part(&channel.id);
        }
    }

    fn join(&mut self, handle: Handle, id: &ChannelId, member: Member, peer: &Peer) -> Result<(), Code> {
        self.member = Some(member.id);
        self.channels.join(id, member, peer).map_err(|RosterFull| Code::TOO_MANY_MEMBERS)?;
        self.memberships.enter(id.clone(), handle, self.most).iter().for_each(|channel| self.part(channel));
        Ok(())
    }

    fn part(&self, channel: &ChannelId) {
        if let Some(member) = self.member {
            self.channels.part(channel, member);
        }
    }

    /// The connection is gone, and with it what was open on it. Where the session is a member it is away.
    pub(super) fn disconnect(&mut self) {
        for (handle, channel) in self.by_handle.drain() {
            self.followed.dec();
            self.channels.leave(&channel.id, handle, &self.inbox);
        }
        for channel in self.memberships.disconnect() {
            if let Some(member) = self.member {
                self.channels.away(channel, member);
            }
        }
        self.inbox.clear();
        self.connection += 1;
    }

    /// The client is back, and has some time to open again what it is a member of.
    pub(super) fn reconnect(&mut self, now: Timestamp) {
        self.memberships.reconnect(now);
    }

    /// Ends the memberships that a client that is back has not taken up again in time.
    pub(super) fn handle_time(&mut self, now: Timestamp) {
        self.memberships.handle_time(now).iter().for_each(|channel| self.part(channel));
    }

    /// The client is this by now, and `may` follow some channels. Gives what it must not follow any more, and ends what it
    /// is a member of without having it open. The others of a channel are told whom they have before them.
    fn becomes(&mut self, subject: &str, may: impl Fn(&ChannelId) -> bool) -> Vec<Handle> {
        self.memberships.end_away(|channel| !may(channel)).iter().for_each(|channel| self.part(channel));
        for channel in self.memberships.channels() {
            if let Some(member) = self.member {
                self.channels.change(channel, member, |member| member.subject = subject.to_owned());
            }
        }
        self.by_handle.iter().filter(|(_, channel)| !may(&channel.id)).map(|(handle, _)| *handle).collect()
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.disconnect();
        self.memberships.end().iter().for_each(|channel| self.part(channel));
    }
}

impl Drop for Opened {
    /// However the session's task ends, nobody is left in a channel.
    fn drop(&mut self) {
        self.end();
    }
}

impl Driver {
    pub(super) fn handle_wish(&mut self, wish: ChannelWish) {
        match wish {
            ChannelWish::Open(open) => {
                // It makes the server read, as a call does.
                self.count_message();
                let (handle, instead) = (open.handle, open.instead);
                if let Err(failure) = self.open_channel(open) {
                    self.close_channel(handle, &failure);
                }
                // Last, so that who is a member by both has never left.
                if let Some(instead) = instead {
                    self.opened.forget(instead);
                }
            }
            ChannelWish::Read(handle, want) => self.read_channel(handle, want),
            ChannelWish::Members(handle, revision) => {
                if let Some(channel) = self.opened.by_handle.get(&handle) {
                    let changes = self.shared.channels.members_since(&channel.id, revision);
                    self.endpoint.give_members(handle, &changes);
                }
            }
            ChannelWish::Closed(handle) => self.opened.forget(handle),
        }
    }

    /// What is declared of a channel, if the client may do this in it.
    pub(super) fn declared(
        &self,
        kind: Kind,
        name: &Name,
        verb: impl FnOnce(&Policy) -> Option<Verb>,
    ) -> Result<Arc<Declared>, Failure> {
        let (declarations, name) = (&self.shared.declared, name.as_str());
        let declared = declarations.find(kind, name).ok_or_else(|| declarations.missing(kind, name))?;
        let verb = verb(&declared.policy).ok_or_else(|| Failure::of(Code::INVALID_PARAMS))?;
        match declared.policy.guard(verb).permits(&self.entry.principal, Operation::new(verb, name)) {
            true => Ok(declared.clone()),
            false => Err(Failure::of(Code::FORBIDDEN)),
        }
    }

    pub(super) fn channel_id(&self, kind: Kind, name: &Name) -> ChannelId {
        ChannelId::new(self.entry.principal.subject.tenant().clone(), kind, name.clone())
    }

    fn open_channel(&mut self, open: Open) -> Result<(), Failure> {
        let Open { handle, kind, name, quiet, members, history, data, since: _, past: _, instead: _ } = open;
        let declared = self.declared(kind, &name, |_| Policy::verb_to_open(kind))?;
        let Some((peer, _)) = &self.peer else { return Err(Failure::of(Code::INTERNAL)) };
        let (id, member) = (self.channel_id(kind, &name), MemberId::of(&peer.id()));
        let watches = members && declared.policy.presence;
        if let Some(data) = data.filter(|_| declared.policy.presence) {
            let (subject, joined) = (self.entry.principal.subject.name().to_owned(), now());
            let member = Member { id: member, subject, presence: Presence::Here, joined, data };
            self.opened.join(handle, &id, member, peer).map_err(Failure::of)?;
        }
        // First, so that what is appended while the history is read is heard of.
        let follower = Follower { handle, inbox: self.opened.inbox.clone(), member, peer: peer.clone(), watches };
        self.opened.follow(handle, Channel { id, declared, quiet }, follower);
        let beginning = match kind {
            Kind::Store => Beginning::Snapshot,
            Kind::Topic | Kind::Feed | Kind::State => {
                Beginning::Newest(usize::try_from(history).unwrap_or(usize::MAX).min(MAX_HISTORY))
            }
        };
        self.endpoint.attach(handle, beginning, watches);
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
                self.endpoint.give_page(handle, page, |entry, past| {
                    past || me.is_none() || Authored::member_of(&entry.content) != me
                });
            }
            Ok(Found::Snapshot(bounds, snapshot)) => self.endpoint.give_snapshot(handle, bounds, snapshot),
            Err(error) => {
                let failure = self.shared.channels.failure(&channel.id, &error);
                self.close_channel(handle, &failure);
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
            Word::Volatile(handle, at, content) => {
                let Some(channel) = self.opened.by_handle.get(&handle) else { return };
                if !channel.quiet || Authored::member_of(&content) != self.me() {
                    self.endpoint.tell_volatile(handle, at, &content);
                }
            }
            Word::Members(handle) => self.endpoint.members_changed(handle),
            Word::Removed(handle) => self.endpoint.look_again(handle),
            Word::Missed => {
                let handles: Vec<_> = self.opened.by_handle.keys().copied().collect();
                handles.into_iter().for_each(|handle| self.endpoint.look_again(handle));
            }
        }
    }

    pub(super) fn me(&self) -> Option<MemberId> {
        self.peer.as_ref().map(|(peer, _)| MemberId::of(&peer.id()))
    }

    fn close_channel(&mut self, handle: Handle, failure: &Failure) {
        self.endpoint.close_channel(handle, failure.code, &failure.message);
        self.opened.forget(handle);
    }

    /// The client is somebody else by now, or may do something else, and perhaps not follow what it did before.
    pub(super) fn check_channels(&mut self) {
        let (declared, principal) = (&self.shared.declared, &self.entry.principal);
        let may = |id: &ChannelId| {
            declared.find(id.kind, id.name.as_str()).is_some_and(|declared| may_follow(principal, id, &declared.policy))
        };
        let forbidden = self.opened.becomes(principal.subject.name(), may);
        forbidden.into_iter().for_each(|handle| self.close_channel(handle, &Failure::of(Code::FORBIDDEN)));
    }
}

fn may_follow(principal: &Principal, id: &ChannelId, policy: &Policy) -> bool {
    let permits = |verb| policy.guard(verb).permits(principal, Operation::new(verb, id.name.as_str()));
    id.tenant == *principal.subject.tenant() && Policy::verb_to_open(id.kind).is_some_and(permits)
}

#[cfg(test)]
mod tests {
    use moorline_protocol::{
        scope::Scopes,
        server::RETURN,
        subject::{Subject, Tenant},
    };

    use super::*;
    use crate::channels::tests::in_memory;

    const MOST: usize = 8;

    struct Session {
        opened: Opened,
        declared: Arc<Declared>,
        peer: Peer,
        handle: u64,
    }

    impl Session {
        fn new(policy: Policy) -> Self {
            let opened = Opened::new(Arc::new(in_memory()), Gauge::default(), MOST);
            Self { opened, declared: Arc::new(Declared::new(policy)), peer: crate::peers::tests::peer(), handle: 0 }
        }

        fn member(&self) -> MemberId {
            MemberId::of(&self.peer.id())
        }

        /// Opens a channel as a member of it.
        fn open(&mut self, id: &ChannelId) -> Handle {
            self.handle += 1;
            let (handle, declared, member) = (Handle(self.handle), self.declared.clone(), self.member());
            let data = Payload::json("1");
            let joins = Member { id: member, subject: "ann".into(), presence: Presence::Here, joined: now(), data };
            self.opened.join(handle, id, joins, &self.peer).expect("there is room");
            let (inbox, peer) = (self.opened.inbox.clone(), self.peer.clone());
            let follower = Follower { handle, inbox, member, peer, watches: true };
            self.opened.follow(handle, Channel { id: id.clone(), declared, quiet: false }, follower);
            handle
        }

        /// Is cut off, and back at once.
        fn comes_back(&mut self, at: Timestamp) {
            self.opened.disconnect();
            self.opened.reconnect(at);
            self.handle = 0;
        }

        fn becomes(&mut self, principal: &Principal) -> Vec<Handle> {
            let policy = &self.declared.policy;
            self.opened.becomes(principal.subject.name(), |id| may_follow(principal, id, policy))
        }

        fn is_member(&self, id: &ChannelId) -> bool {
            self.opened.channels.find(id, self.member()).is_some()
        }
    }

    fn room(tenant: &str, number: usize) -> ChannelId {
        let tenant = Tenant::new(tenant).expect("a tenant");
        ChannelId::new(tenant, Kind::Topic, Name::new(&format!("room:{number}")).expect("a name"))
    }

    fn somebody(tenant: &str, scopes: Scopes) -> Principal {
        let subject = Subject::new(Tenant::new(tenant).expect("a tenant"), "bob").expect("a name");
        Principal { scopes, ..Principal::new(subject) }
    }

    /// Each connection began the time anew in which a client may take up what it was a member of. One that came back
    /// before that was over, and opened others every time, was a member of more with every connection.
    #[tokio::test]
    async fn regression_who_comes_back_again_and_again_is_not_in_ever_more_channels() {
        let mut session = Session::new(Policy { presence: true, ..Policy::default() });
        let mut at = Timestamp::from_millis(0);
        for round in 0..50 {
            for number in 0..MOST {
                session.open(&room("a", round * MOST + number));
                assert!(session.opened.memberships.channels().count() <= MOST);
            }
            at = at + RETURN / 2;
            session.comes_back(at);
            session.opened.handle_time(at);
        }
        // All are of the last connection, and wait to be taken up.
        let there = |number: &usize| session.is_member(&room("a", *number));
        assert_eq!((0..50 * MOST).filter(there).collect::<Vec<_>>(), (49 * MOST..50 * MOST).collect::<Vec<_>>());
        let left = room("a", 50 * MOST - 1);
        session.open(&left);
        session.opened.handle_time(at + RETURN);
        assert_eq!((0..50 * MOST).filter(|number| session.is_member(&room("a", *number))).count(), 1);
        let channels = session.opened.channels.clone();
        assert!(channels.is_followed(&left));
        drop(session);
        assert!((0..50 * MOST).all(|number| !channels.is_followed(&room("a", number))), "nothing is left of it");
    }

    /// A client that came back, and was somebody else before it opened its channels again, stayed in those that it could
    /// not follow any more: under its new name, also in another tenant's, and what was sent to it there reached it.
    #[tokio::test]
    async fn regression_who_is_somebody_else_is_not_in_what_he_may_not_follow_whether_it_is_open_or_not() {
        let mut session = Session::new(Policy { presence: true, ..Policy::default() });
        let (waits, open) = (room("a", 1), room("a", 2));
        session.open(&waits);
        session.comes_back(Timestamp::from_millis(1));
        session.open(&open);
        assert_eq!(session.becomes(&somebody("a", Scopes::Unlisted)), []);
        let said = |session: &Session, id| session.opened.channels.members(id)[0].subject.clone();
        assert_eq!((said(&session, &waits), said(&session, &open)), ("bob".to_owned(), "bob".to_owned()));
        let narrow = Scopes::from_text("topic.subscribe:room:2").expect("scopes");
        assert_eq!(session.becomes(&somebody("a", narrow)), []);
        assert!(!session.is_member(&waits) && session.is_member(&open));
        session.open(&waits);
        session.comes_back(Timestamp::from_millis(2));
        let other = session.becomes(&somebody("b", Scopes::Unlisted));
        assert!(other.is_empty() && !session.is_member(&waits) && !session.is_member(&open));
        // What is open is closed, and he leaves with it.
        let handle = session.open(&open);
        assert_eq!(session.becomes(&somebody("b", Scopes::Unlisted)), [handle]);
        session.opened.forget(handle);
        assert!(!session.is_member(&open) && session.opened.memberships.channels().next().is_none());
    }
}
