//! Who is in a channel: its members, and what changed of them since somebody was told.
//!
//! Implements `docs/PROTOCOL.md` § Members. A member is a session, and what it says for itself. Nothing of it is in the
//! log. Every change has the next *revision*, and of each member only the newest change counts: so whoever was told up
//! to a revision is told the rest from there, a piece at a time, however much has happened in between, and nobody keeps
//! anything for a slow one.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::{MemberId, OutOfOrder};
use crate::{payload::Payload, time::UnixMillis};

/// Most members of one channel.
pub const MAX_MEMBERS: usize = 4_096;

/// Members that are known to have left. Who was told before the oldest of them is told everything anew.
const LEFT: usize = 1_024;

/// Members that are told at once.
const TOLD: usize = 256;

/// Bytes of them; the last may stand out.
const TOLD_BYTES: usize = 16 * 1024;

/// Whether a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its client is connected.
    Here,
    /// Its client is not, since this time, and may come back.
    Away(UnixMillis),
}

/// One who is in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The session.
    pub id: MemberId,
    /// The name of its subject.
    pub subject: String,
    /// Whether it is there.
    pub presence: Presence,
    /// Since when it is a member.
    pub joined: UnixMillis,
    /// What it says for itself.
    pub data: Payload,
}

/// What changed of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// It is a member, and like this.
    Is(Arc<Member>),
    /// It is none any more.
    Left(MemberId),
}

/// What changed of the members of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Whoever was known before and is not told of again has left.
    pub whole: bool,
    /// Not all of it: the rest follows at once.
    pub more: bool,
    /// Up to where it has been told with this.
    pub revision: u64,
    /// The changes.
    pub changes: Vec<MemberChange>,
}

/// There are as many members as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterFull;

/// The members of one channel.
#[derive(Debug, Default)]
pub struct Roster {
    revision: u64,
    members: BTreeMap<MemberId, (u64, Arc<Member>)>,
    /// By the revision of its newest change.
    changed: BTreeMap<u64, MemberId>,
    left: VecDeque<(u64, MemberId)>,
    /// The newest revision at which somebody left who is not in `left` any more.
    forgotten: u64,
}

impl Roster {
    /// Adds a member, or changes one. It has been one since it was first.
    ///
    /// # Errors
    /// [`RosterFull`] when it would be one too many.
    pub fn enter(&mut self, mut member: Member) -> Result<(), RosterFull> {
        match self.members.get(&member.id) {
            Some((_, known)) => {
                member.joined = known.joined;
                if member == **known {
                    return Ok(());
                }
            }
            None if self.members.len() >= MAX_MEMBERS => return Err(RosterFull),
            None => {}
        }
        self.put(member);
        Ok(())
    }

    /// Changes a member; `false` when there is none of this name.
    pub fn change(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) -> bool {
        let Some((_, known)) = self.members.get(&id) else { return false };
        let mut member = Member::clone(known);
        change(&mut member);
        if member != **known {
            self.put(member);
        }
        true
    }

    /// Takes a member out; `false` when there is none of this name.
    pub fn leave(&mut self, id: MemberId) -> bool {
        let Some((revision, _)) = self.members.remove(&id) else { return false };
        self.changed.remove(&revision);
        self.revision += 1;
        self.left.push_back((self.revision, id));
        if self.left.len() > LEFT
            && let Some((revision, _)) = self.left.pop_front()
        {
            self.forgotten = revision;
        }
        true
    }

    fn put(&mut self, member: Member) {
        self.revision += 1;
        let id = member.id;
        self.changed.insert(self.revision, id);
        if let Some((before, _)) = self.members.insert(id, (self.revision, Arc::new(member))) {
            self.changed.remove(&before);
        }
    }

    /// The newest change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether nobody is in it. One who comes back to a roster that was empty must not find it made anew.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member.
    pub fn get(&self, id: MemberId) -> Option<&Arc<Member>> {
        self.members.get(&id).map(|(_, member)| member)
    }

    /// Every member, in the order of their names.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values().map(|(_, member)| member)
    }

    /// What to tell next to one who was told up to `revision`; 0 for one who was told nothing.
    pub fn since(&self, revision: u64) -> Changes {
        let whole = revision == 0 || revision < self.forgotten || revision > self.revision;
        let from = if whole { 0 } else { revision };
        let mut changes = Changes { whole, more: false, revision: self.revision, changes: Vec::new() };
        let mut is = self.changed.range((Excluded(from), Unbounded)).peekable();
        // Who is told everything need not hear of those who left before.
        let mut left = self.left.iter().filter(|(at, _)| !whole && *at > from).peekable();
        let mut bytes = 0;
        loop {
            let next = match (is.peek(), left.peek()) {
                (None, None) => return changes,
                (Some((is, _)), Some((left, _))) => *is < left,
                (is, _) => is.is_some(),
            };
            if changes.changes.len() >= TOLD || bytes >= TOLD_BYTES {
                changes.more = true;
                return changes;
            }
            if next {
                let Some((at, id)) = is.next() else { continue };
                let Some((_, member)) = self.members.get(id) else { continue };
                bytes += 32 + member.subject.len() + member.data.bytes.len();
                changes.changes.push(MemberChange::Is(Arc::clone(member)));
                changes.revision = *at;
            } else if let Some((at, id)) = left.next() {
                bytes += 9;
                changes.changes.push(MemberChange::Left(*id));
                changes.revision = *at;
            }
        }
    }
}

/// The members of a channel as a client knows them.
#[derive(Clone, Debug, Default)]
pub struct Members(BTreeMap<MemberId, Arc<Member>>);

impl Members {
    /// Takes what has changed.
    pub fn handle(&mut self, changes: Changes) {
        if changes.whole {
            self.0.clear();
        }
        for change in changes.changes {
            match change {
                MemberChange::Is(member) => _ = self.0.insert(member.id, member),
                MemberChange::Left(id) => _ = self.0.remove(&id),
            }
        }
    }

    /// Those who are in it, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.0.values()
    }
}

/// What is told of members, until it is complete.
#[derive(Debug, Default)]
pub(crate) struct Collected(Option<Changes>);

/// More changes are told as one than there can be.
const MOST: usize = 2 * MAX_MEMBERS + LEFT;

impl Collected {
    /// Takes a piece. Gives the whole with the last one.
    pub(crate) fn take(&mut self, piece: Changes) -> Result<Option<Changes>, OutOfOrder> {
        let more = piece.more;
        match &mut self.0 {
            Some(before) if !piece.whole => before.changes.extend(piece.changes),
            before => *before = Some(piece),
        }
        if self.0.as_ref().is_some_and(|all| all.changes.len() > MOST) {
            return Err(OutOfOrder);
        }
        Ok(if more { None } else { self.0.take().map(|all| Changes { more, ..all }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> MemberId {
        MemberId(u64::from(number).to_be_bytes())
    }

    fn member(number: u32, data: &str) -> Member {
        Member {
            id: id(number),
            subject: format!("user {number}"),
            presence: Presence::Here,
            joined: UnixMillis(1),
            data: Payload::json(data.to_owned()),
        }
    }

    /// Tells one who was told up to `revision` everything that there is now.
    fn tell(roster: &Roster, revision: &mut u64, members: &mut Members) -> usize {
        for round in 1..100 {
            let changes = roster.since(*revision);
            *revision = changes.revision;
            let more = changes.more;
            members.handle(changes);
            if !more {
                let known: Vec<_> = members.all().collect();
                assert_eq!(known, roster.members().collect::<Vec<_>>());
                return round;
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn who_was_told_hears_only_what_changed() {
        let mut roster = Roster::default();
        let (mut revision, mut members) = (0, Members::default());
        roster.enter(member(1, "1")).expect("there is room");
        roster.enter(member(2, "2")).expect("there is room");
        tell(&roster, &mut revision, &mut members);
        assert!(roster.change(id(2), |member| member.presence = Presence::Away(UnixMillis(9))));
        assert!(roster.change(id(2), |member| member.data = Payload::json("3")));
        assert!(roster.leave(id(1)) && !roster.leave(id(1)) && !roster.change(id(1), |_| {}));
        let changes = roster.since(revision);
        assert!(!changes.whole && !changes.more);
        let [MemberChange::Is(changed), MemberChange::Left(left)] = &changes.changes[..] else { panic!("{changes:?}") };
        assert_eq!((&changed.data, changed.presence), (&Payload::json("3"), Presence::Away(UnixMillis(9))));
        assert_eq!(*left, id(1));
        tell(&roster, &mut revision, &mut members);
        assert_eq!(roster.since(revision).changes, []);
        // Nothing changes by being said again.
        roster.change(id(2), |member| member.data = Payload::json("3"));
        let known = Member::clone(roster.get(id(2)).expect("it is there"));
        roster.enter(Member { joined: UnixMillis(99), ..known }).expect("it is one already");
        assert_eq!(roster.revision(), revision);
    }

    #[test]
    fn a_member_has_been_one_since_it_was_first() {
        let mut roster = Roster::default();
        roster.enter(member(1, "1")).expect("there is room");
        roster.enter(Member { joined: UnixMillis(50), ..member(1, "2") }).expect("there is room");
        let known = roster.get(id(1)).expect("it is there");
        assert_eq!((known.joined, &known.data), (UnixMillis(1), &Payload::json("2")));
    }

    #[test]
    fn many_are_told_a_piece_at_a_time_while_they_change() {
        let mut roster = Roster::default();
        for number in 0..MAX_MEMBERS as u32 {
            roster.enter(member(number, "0")).expect("there is room");
        }
        assert_eq!(roster.enter(member(9_999, "0")), Err(RosterFull));
        assert_eq!(roster.enter(member(5, "1")), Ok(()), "it is one already");
        let (mut revision, mut members, mut collected) = (0, Members::default(), Collected::default());
        for number in 0..10 {
            let changes = roster.since(revision);
            assert!(changes.more && changes.whole == (number == 0) && changes.changes.len() <= TOLD);
            revision = changes.revision;
            assert_eq!(collected.take(changes.clone()), Ok(None), "not before it is complete");
            members.handle(changes);
            roster.leave(id(number * 7));
            roster.change(id(number * 11 + 1), |member| member.data = Payload::json("2"));
        }
        tell(&roster, &mut revision, &mut members);
    }

    /// Who left meanwhile may be known no longer, and then everything is told anew.
    #[test]
    fn a_piece_that_begins_anew_takes_the_place_of_those_before_it() {
        let piece = |whole, more, number| {
            let changes = vec![MemberChange::Is(Arc::new(member(number, "1")))];
            Changes { whole, more, revision: 9, changes }
        };
        let mut collected = Collected::default();
        assert_eq!(collected.take(piece(false, true, 1)), Ok(None));
        assert_eq!(collected.take(piece(true, true, 2)), Ok(None));
        let all = collected.take(piece(false, false, 3)).ok().flatten().expect("it is complete");
        assert!(all.whole);
        let known = all.changes.iter().map(|change| match change {
            MemberChange::Is(member) => member.id,
            MemberChange::Left(id) => *id,
        });
        assert_eq!(known.collect::<Vec<_>>(), [id(2), id(3)]);
    }

    #[test]
    fn who_was_told_long_ago_is_told_everything_and_misses_nobody_who_left() {
        let mut roster = Roster::default();
        roster.enter(member(0, "0")).expect("there is room");
        let (mut revision, mut members) = (0, Members::default());
        tell(&roster, &mut revision, &mut members);
        roster.leave(id(0));
        for number in 1..=LEFT as u32 {
            roster.enter(member(number, "0")).expect("there is room");
            roster.leave(id(number));
        }
        assert!(roster.since(revision).whole);
        tell(&roster, &mut revision, &mut members);
        assert_eq!((members.all().count(), roster.left.len()), (0, LEFT));
        assert!(roster.is_empty() && roster.changed.is_empty());
    }

    #[test]
    fn large_members_are_told_a_few_at_a_time() {
        let mut roster = Roster::default();
        for number in 0..100 {
            roster.enter(member(number, &"x".repeat(4_096))).expect("there is room");
        }
        assert!(roster.since(0).changes.len() <= 5);
        assert!(tell(&roster, &mut 0, &mut Members::default()) >= 20);
    }
}
