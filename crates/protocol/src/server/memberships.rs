//! Of which channels a session is a member.
//!
//! Implements `docs/PROTOCOL.md` § Members. A membership outlives connections: while there is none the session is away,
//! and a client that is back has some time to open again what it is a member of. So nobody sees it leave and enter for a
//! cut, or for being told of a channel in another way.

use std::{collections::BTreeMap, time::Duration};

use crate::{channel::ChannelId, frame::Handle, time::Timestamp};

/// How long a client that is back may take to open again the channels that it is a member of.
pub const RETURN: Duration = Duration::from_secs(10);

/// The channels that one session is a member of.
#[derive(Debug, Default)]
pub struct Memberships {
    /// With the handles on this connection that say so: none while the session is away.
    channels: BTreeMap<ChannelId, Vec<Handle>>,
    /// When those end that the client has not taken up again.
    until: Option<Timestamp>,
}

impl Memberships {
    /// The client has opened a channel as a member. Where it would be a member of more than `most` channels, those from
    /// which it is away end, and are given: its client goes from connection to connection, and takes up others on each.
    #[must_use]
    pub fn enter(&mut self, channel: ChannelId, handle: Handle, most: usize) -> Vec<ChannelId> {
        self.channels.entry(channel).or_default().push(handle);
        if self.channels.len() > most { self.end_away(|_| true) } else { Vec::new() }
    }

    /// Ends memberships from which the session is away. Gives their channels.
    #[must_use]
    pub fn end_away(&mut self, ends: impl Fn(&ChannelId) -> bool) -> Vec<ChannelId> {
        let is_over = |channel: &ChannelId, handles: &Vec<Handle>| handles.is_empty() && ends(channel);
        let (over, stay) =
            std::mem::take(&mut self.channels).into_iter().partition(|(channel, handles)| is_over(channel, handles));
        self.channels = stay;
        BTreeMap::into_keys(over).collect()
    }

    /// The handle is not open any more. Gives whether the session is a member of the channel no longer.
    #[must_use]
    pub fn leave(&mut self, channel: &ChannelId, handle: Handle) -> bool {
        let Some(handles) = self.channels.get_mut(channel) else { return false };
        let before = handles.len();
        handles.retain(|open| *open != handle);
        let has_left = handles.is_empty() && before > 0;
        if has_left {
            self.channels.remove(channel);
        }
        has_left
    }

    /// The connection is gone, and every handle with it. Gives those channels from which the session is away.
    pub fn disconnect(&mut self) -> impl Iterator<Item = &ChannelId> {
        self.until = None;
        self.channels.iter_mut().map(|(channel, handles)| {
            handles.clear();
            channel
        })
    }

    /// The client is back.
    pub fn reconnect(&mut self, now: Timestamp) {
        if !self.channels.is_empty() {
            self.until = Some(now + RETURN);
        }
    }

    /// When [`Self::handle_time`] has something to do.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.until
    }

    /// Gives the channels that the client was a member of and has not opened again in time.
    #[must_use]
    pub fn handle_time(&mut self, now: Timestamp) -> Vec<ChannelId> {
        if self.until.is_none_or(|until| until > now) {
            return Vec::new();
        }
        self.until = None;
        self.end_away(|_| true)
    }

    /// The session is over. Gives all that it was a member of.
    #[must_use]
    pub fn end(&mut self) -> Vec<ChannelId> {
        std::mem::take(self).channels.into_keys().collect()
    }

    /// Every channel that it is a member of.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.channels.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Kind, payload::Name, subject::Tenant};

    fn channel(name: &str) -> ChannelId {
        ChannelId::new(Tenant::default(), Kind::Topic, Name::new(name).expect("a name"))
    }

    fn enter(memberships: &mut Memberships, name: &str, handle: u64) {
        assert_eq!(memberships.enter(channel(name), Handle(handle), 2), []);
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_member_by_two_handles_leaves_with_the_second() {
        let mut memberships = Memberships::default();
        enter(&mut memberships, "a", 1);
        enter(&mut memberships, "a", 2);
        assert!(!memberships.leave(&channel("a"), Handle(1)));
        assert!(!memberships.leave(&channel("a"), Handle(1)), "it is not open any more");
        assert!(memberships.leave(&channel("a"), Handle(2)));
        assert!(!memberships.leave(&channel("a"), Handle(2)) && memberships.channels().next().is_none());
    }

    #[test]
    fn who_is_back_has_ten_seconds_to_open_again_what_it_was_a_member_of() {
        let mut memberships = Memberships::default();
        for name in ["a", "b"] {
            enter(&mut memberships, name, 1);
        }
        assert_eq!(memberships.disconnect().cloned().collect::<Vec<_>>(), [channel("a"), channel("b")]);
        assert_eq!((memberships.deadline(), memberships.handle_time(at(100)).len()), (None, 0), "nothing while away");
        memberships.reconnect(at(100));
        enter(&mut memberships, "a", 1);
        assert_eq!(memberships.deadline(), Some(at(110)));
        assert_eq!(memberships.handle_time(at(109)), []);
        assert_eq!(memberships.handle_time(at(110)), [channel("b")]);
        assert_eq!((memberships.deadline(), memberships.handle_time(at(999)).len()), (None, 0));
        assert_eq!(memberships.end(), [channel("a")]);
    }

    #[test]
    fn who_takes_up_others_on_each_connection_is_a_member_of_no_more_than_may_be_open() {
        let mut memberships = Memberships::default();
        enter(&mut memberships, "a", 1);
        enter(&mut memberships, "b", 2);
        assert_eq!(memberships.end_away(|_| true), [], "it is here");
        assert_eq!(memberships.disconnect().count(), 2);
        assert_eq!(memberships.end_away(|name| *name == channel("b")), [channel("b")]);
        enter(&mut memberships, "c", 1);
        assert_eq!(memberships.enter(channel("d"), Handle(2), 2), [channel("a")]);
        assert_eq!(memberships.end(), [channel("c"), channel("d")]);
    }

    /// The ten seconds are those of one connection.
    #[test]
    fn who_is_cut_again_is_away_as_long_as_its_session_waits() {
        let mut memberships = Memberships::default();
        enter(&mut memberships, "a", 1);
        assert_eq!(memberships.disconnect().count(), 1);
        memberships.reconnect(at(1));
        assert_eq!(memberships.disconnect().count(), 1);
        assert_eq!(memberships.handle_time(at(100)), []);
        assert!(!memberships.leave(&channel("a"), Handle(1)), "that handle was another connection's");
        memberships.reconnect(at(100));
        assert_eq!(memberships.handle_time(at(110)), [channel("a")]);
        memberships.reconnect(at(120));
        assert_eq!(memberships.deadline(), None, "there is nothing to wait for");
    }
}
