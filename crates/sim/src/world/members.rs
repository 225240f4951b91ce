//! Who is in the channels: the server's rosters, as its driver keeps them, and what clients are told of them.

use moorline_protocol::{
    channel::{Member, MemberChange, MemberId, Presence, Roster},
    frame::Handle,
    payload::Payload,
    server::Memberships,
};

use super::{
    names::{MOST_CHANNELS, id_of, number_of},
    *,
};

/// What the running server knows of members.
#[derive(Default)]
pub(super) struct Rosters {
    by_channel: [Roster; MOST_CHANNELS],
    /// Of each session.
    memberships: BTreeMap<usize, Memberships>,
}

impl Rosters {
    pub(super) fn of(&self, channel: usize) -> &Roster {
        &self.by_channel[channel]
    }
}

/// As which a session is known.
fn member_of(book: usize) -> MemberId {
    MemberId((book as u64).to_be_bytes())
}

fn book_of(member: MemberId) -> usize {
    u64::from_be_bytes(member.0) as usize
}

impl World<'_> {
    /// A session has opened a channel. Where there are members it is one.
    pub(super) fn enter_channel(&mut self, book: usize, channel: usize, handle: Handle, data: Payload) -> Held {
        let (joined, subject) = (UnixMillis(self.now), format!("client {}", self.books[book].client));
        let rosters = &mut self.server_channels()?.rosters;
        let roster = &mut rosters.by_channel[channel];
        let counter = match roster.get(member_of(book)).map(|known| known.presence) {
            None => Counter::MemberEntered,
            Some(Presence::Here) => Counter::MemberTwice,
            Some(Presence::Away(_)) => Counter::MemberBack,
        };
        let member = Member { id: member_of(book), subject, presence: Presence::Here, joined, data };
        hold!(roster.enter(member).is_ok(), "C10", "{channel} has too many members");
        let memberships = rosters.memberships.entry(book).or_default();
        let ended = memberships.enter(id_of(channel), handle, MOST_CHANNELS);
        hold!(ended.is_empty(), "C10", "session {book} is a member of more channels than there are");
        self.counters.add(counter);
        self.tell_members(channel)
    }

    /// A session has a channel open no longer.
    pub(super) fn leave_channel(&mut self, book: usize, channel: usize, handle: Handle) -> Held {
        let memberships = self.server_channels()?.rosters.memberships.get_mut(&book);
        let has_left = memberships.is_some_and(|memberships| memberships.leave(&id_of(channel), handle));
        if has_left { self.part(book, channel) } else { Ok(()) }
    }

    /// Since when a session is in a channel.
    pub(super) fn joined(&self, book: usize, channel: usize) -> Option<UnixMillis> {
        let roster = self.channels.as_ref()?.rosters.of(channel);
        roster.get(member_of(book)).map(|member| member.joined)
    }

    fn part(&mut self, book: usize, channel: usize) -> Held {
        let left = self.server_channels()?.rosters.by_channel[channel].leave(member_of(book));
        hold!(left, "C10", "session {book} leaves {channel}, which it is not in");
        self.counters.add(Counter::MemberLeft);
        self.tell_members(channel)
    }

    /// The connection of a socket is gone, and every channel that was open on it.
    pub(super) fn channels_end(&mut self, socket: usize, book: usize) -> Held {
        let at = UnixMillis(self.now);
        let Some(channels) = &mut self.channels else { return Ok(()) };
        channels.followers.retain(|(open, _), _| *open != socket);
        let Some(memberships) = channels.rosters.memberships.get_mut(&book) else { return Ok(()) };
        let away: Vec<_> = memberships.disconnect().filter_map(|channel| number_of(&channel.name)).collect();
        for channel in away {
            let roster = &mut self.server_channels()?.rosters.by_channel[channel];
            let is_in = roster.change(member_of(book), |member| member.presence = Presence::Away(at));
            hold!(is_in, "C10", "session {book} is away from {channel}, which it is not in");
            self.counters.add(Counter::MemberAway);
            self.tell_members(channel)?;
        }
        Ok(())
    }

    /// The client of a session is back.
    pub(super) fn members_return(&mut self, book: usize) {
        let now = self.server_time();
        let memberships = self.channels.as_mut().and_then(|channels| channels.rosters.memberships.get_mut(&book));
        let Some(memberships) = memberships else { return };
        memberships.reconnect(now);
        if let Some(deadline) = memberships.deadline() {
            self.agenda.at(deadline.as_millis(), Later::Members(book));
        }
    }

    /// It has had its time to open again what it is a member of.
    pub(super) fn members_due(&mut self, book: usize) -> Held {
        let now = self.server_time();
        let memberships = self.channels.as_mut().and_then(|channels| channels.rosters.memberships.get_mut(&book));
        for channel in memberships.map(|memberships| memberships.handle_time(now)).unwrap_or_default() {
            self.counters.add(Counter::MemberLate);
            self.part(book, number_of(&channel.name).unwrap_or_default())?;
        }
        Ok(())
    }

    /// A session is over.
    pub(super) fn members_end(&mut self, book: usize) -> Held {
        let memberships = self.channels.as_mut().and_then(|channels| channels.rosters.memberships.remove(&book));
        for channel in memberships.map(|mut memberships| memberships.end()).unwrap_or_default() {
            self.part(book, number_of(&channel.name).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Whoever follows the channel is going to hear that its members have changed.
    fn tell_members(&mut self, channel: usize) -> Held {
        let channels = self.server_channels()?;
        let follow = channels.followers.iter().filter(|(_, follower)| follower.channel == channel);
        for (socket, handle) in follow.map(|(place, _)| *place).collect::<Vec<_>>() {
            let inbox = self.server_channels()?.inbox(socket);
            inbox.members.insert(handle);
            self.await_inbox(socket)?;
        }
        Ok(())
    }

    /// A client is told of the members of a channel.
    pub(super) fn members_are(&mut self, channel: usize, changes: &[MemberChange]) -> Held {
        for change in changes {
            let MemberChange::Is(member) = change else { continue };
            let Some(book) = self.books.get(book_of(member.id)) else {
                return Err(Broken { invariant: "C10", detail: format!("{member:?} is no session"), at: 0 });
            };
            let subject = format!("client {}", book.client);
            hold!(member.subject == subject, "C10", "{member:?} of {channel} is {subject}");
        }
        self.counters.add(Counter::MembersHeard);
        Ok(())
    }

    /// A session is here exactly where it has a channel open.
    pub(super) fn check_members(&self, socket: usize, book: usize) -> Held {
        let Some(channels) = self.channels.as_ref().filter(|channels| channels.setting.members) else { return Ok(()) };
        for channel in 0..MOST_CHANNELS {
            let member = channels.rosters.of(channel).get(member_of(book));
            let here = member.is_some_and(|member| member.presence == Presence::Here);
            let open = channels.followers.range((socket, Handle(0))..(socket + 1, Handle(0)));
            let is_open = open.into_iter().any(|(_, follower)| follower.channel == channel);
            hold!(here == is_open, "C10", "session {book} has {channel} open: {is_open}, and is {member:?}");
        }
        Ok(())
    }

    /// Who is in a channel and should not be, or should be and is not, or is not known to `knows`.
    pub(super) fn strangers(&self, channel: usize, knows: &[Arc<Member>]) -> Option<String> {
        let channels = self.channels.as_ref().filter(|channels| channels.setting.members)?;
        let roster: Vec<_> = channels.rosters.of(channel).members().cloned().collect();
        if roster != knows {
            return Some(format!("{channel} has the members {roster:?}, and {knows:?} are known"));
        }
        let away = roster.iter().find(|member| member.presence != Presence::Here);
        away.map(|member| format!("{member:?} of {channel} is not here"))
    }
}
