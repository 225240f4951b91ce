//! Which sessions a server keeps, whose they are, and who may have which back.
//!
//! Implements `docs/PROTOCOL.md` § Sessions, Resumption. It decides and remembers; the sessions themselves are the
//! driver's, which finds them by the handle that it left here.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    auth::Resume,
    frame::{Epoch, ResetReason, ResumeSecret, SessionId},
    subject::Subject,
};

/// What proves that a session is one's own.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// The client's key, which the handshake has proven.
    Key([u8; 32]),
    /// The secret that Welcome gave, in plain mode.
    Secret(ResumeSecret),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Proof")
    }
}

impl Proof {
    /// Whether both are the same, in a time that does not tell where they differ.
    fn matches(&self, other: &Self) -> bool {
        let equal = |ours: &[u8], theirs: &[u8]| {
            ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
        };
        match (self, other) {
            (Self::Key(ours), Self::Key(theirs)) => equal(ours, theirs),
            (Self::Secret(ours), Self::Secret(theirs)) => equal(&ours.0, &theirs.0),
            (Self::Key(_), Self::Secret(_)) | (Self::Secret(_), Self::Key(_)) => false,
        }
    }
}

/// Whose a session is. Only the same owner gets it back.
#[derive(Clone, Debug)]
pub struct Owner {
    /// What the connection has proven.
    pub proof: Proof,
    /// Who the client is.
    pub subject: Subject,
}

impl Owner {
    fn matches(&self, other: &Self) -> bool {
        self.proof.matches(&other.proof) && self.subject == other.subject
    }
}

/// What becomes of a client that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim<H> {
    /// A new session; with a reason where it had asked for another.
    New(Option<ResetReason>),
    /// The session with this handle goes on.
    Resume(H),
}

#[derive(Debug)]
struct Entry<H> {
    owner: Owner,
    handle: H,
    /// When it was parked, as a count; `None` while it is live.
    parked: Option<u64>,
}

/// Every session of a server, live or parked.
#[derive(Debug)]
pub struct Registry<H> {
    epoch: Epoch,
    sessions: BTreeMap<SessionId, Entry<H>>,
    /// Parked sessions, the one that waits longest first.
    parked: BTreeMap<u64, SessionId>,
    parkings: u64,
    /// Sessions that ended in a way that their owner may ask about, the oldest first.
    ended: VecDeque<(SessionId, Owner, ResetReason)>,
    most_parked: usize,
}

impl<H: Clone> Registry<H> {
    /// An empty one for this run of a server. More than `most_parked` sessions are never parked at once.
    pub fn new(epoch: Epoch, most_parked: usize) -> Self {
        let (sessions, parked, ended) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { epoch, sessions, parked, parkings: 0, ended, most_parked }
    }

    /// What becomes of a client that is let in as `owner` and asked for `resume`.
    pub fn claim(&self, resume: Option<&Resume>, owner: &Owner) -> Claim<H> {
        let Some(resume) = resume else { return Claim::New(None) };
        if resume.epoch != self.epoch {
            return Claim::New(Some(ResetReason::Restart));
        }
        if let Some(entry) = self.sessions.get(&resume.session).filter(|entry| entry.owner.matches(owner)) {
            return Claim::Resume(entry.handle.clone());
        }
        // A stranger hears the same of a session that is there and of one that is not.
        let ended = self.ended.iter().find(|(id, whose, _)| *id == resume.session && whose.matches(owner));
        Claim::New(Some(ended.map_or(ResetReason::Unknown, |(_, _, reason)| *reason)))
    }

    /// A session begins, live; or one that goes on is found by another handle from now on.
    pub fn enter(&mut self, id: SessionId, owner: Owner, handle: H) {
        self.attach(id);
        self.sessions.insert(id, Entry { owner, handle, parked: None });
    }

    /// A session has no connection any more. Where too many have none, the one that waits longest is to be given up.
    pub fn park(&mut self, id: SessionId) -> Option<H> {
        let entry = self.sessions.get_mut(&id)?;
        self.parkings += 1;
        if let Some(before) = entry.parked.replace(self.parkings) {
            self.parked.remove(&before);
        }
        self.parked.insert(self.parkings, id);
        if self.parked.len() <= self.most_parked {
            return None;
        }
        let (_, oldest) = self.parked.pop_first()?;
        let entry = self.sessions.get_mut(&oldest)?;
        entry.parked = None;
        Some(entry.handle.clone())
    }

    /// A session has a connection again.
    pub fn attach(&mut self, id: SessionId) {
        if let Some(parked) = self.sessions.get_mut(&id).and_then(|entry| entry.parked.take()) {
            self.parked.remove(&parked);
        }
    }

    /// A session is over; with a reason where its owner may come and ask.
    pub fn leave(&mut self, id: SessionId, reason: Option<ResetReason>) {
        let Some(Entry { owner, parked, .. }) = self.sessions.remove(&id) else { return };
        if let Some(parked) = parked {
            self.parked.remove(&parked);
        }
        if let Some(reason) = reason {
            if self.ended.len() >= MOST_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back((id, owner, reason));
        }
    }

    /// How many sessions have a connection.
    pub fn live(&self) -> usize {
        self.sessions.len() - self.parked.len()
    }

    /// How many sessions wait for their client.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }
}

/// Ended sessions that are remembered, so that a client that comes back hears why.
const MOST_ENDED: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frame::Seq, subject::Tenant};

    const EPOCH: Epoch = Epoch([1; 8]);

    fn owner(key: u8) -> Owner {
        Owner { proof: Proof::Key([key; 32]), subject: Subject::anonymous(Tenant::default()) }
    }

    fn resume(id: u8) -> Resume {
        Resume { session: SessionId([id; 16]), received: Seq(0), attempt: 1, epoch: EPOCH, secret: None }
    }

    fn registry() -> Registry<u8> {
        let mut registry = Registry::new(EPOCH, 1);
        registry.enter(SessionId([1; 16]), owner(1), 1);
        registry.enter(SessionId([2; 16]), owner(2), 2);
        registry
    }

    #[test]
    fn only_its_owner_gets_a_session_back_and_a_stranger_learns_nothing() {
        let mut registry = registry();
        assert_eq!(registry.claim(None, &owner(1)), Claim::New(None));
        assert_eq!(registry.claim(Some(&resume(1)), &owner(1)), Claim::Resume(1));
        for stranger in [
            owner(2),
            Owner { subject: Subject::anonymous(Tenant::new("other").expect("a name")), ..owner(1) },
            Owner { subject: Subject::new(Tenant::default(), "ann").expect("a name"), ..owner(1) },
            Owner { proof: Proof::Secret(ResumeSecret([1; 16])), ..owner(1) },
        ] {
            assert_eq!(registry.claim(Some(&resume(1)), &stranger), Claim::New(Some(ResetReason::Unknown)));
            assert_eq!(registry.claim(Some(&resume(9)), &stranger), Claim::New(Some(ResetReason::Unknown)));
        }
        registry.leave(SessionId([1; 16]), Some(ResetReason::Overflow));
        assert_eq!(registry.claim(Some(&resume(1)), &owner(1)), Claim::New(Some(ResetReason::Overflow)));
        assert_eq!(registry.claim(Some(&resume(1)), &owner(2)), Claim::New(Some(ResetReason::Unknown)));
    }

    #[test]
    fn a_session_of_an_earlier_run_is_told_from_one_that_is_unknown() {
        let of_before = Resume { epoch: Epoch([9; 8]), ..resume(1) };
        assert_eq!(registry().claim(Some(&of_before), &owner(1)), Claim::New(Some(ResetReason::Restart)));
    }

    #[test]
    fn the_session_that_waits_longest_makes_room() {
        let mut registry = registry();
        assert_eq!(registry.park(SessionId([1; 16])), None);
        assert_eq!((registry.live(), registry.parked()), (1, 1));
        assert_eq!(registry.park(SessionId([2; 16])), Some(1));
        registry.leave(SessionId([1; 16]), Some(ResetReason::Expired));
        registry.attach(SessionId([2; 16]));
        assert_eq!((registry.live(), registry.parked()), (1, 0));
        registry.park(SessionId([2; 16]));
        registry.park(SessionId([2; 16]));
        assert_eq!((registry.live(), registry.parked()), (0, 1));
    }

    #[test]
    fn a_session_that_enters_again_is_not_parked_any_more() {
        let mut registry = registry();
        registry.park(SessionId([1; 16]));
        registry.enter(SessionId([1; 16]), owner(1), 3);
        assert_eq!((registry.live(), registry.parked()), (2, 0));
        assert_eq!(registry.claim(Some(&resume(1)), &owner(1)), Claim::Resume(3));
        assert_eq!(registry.park(SessionId([2; 16])), None, "nobody else waits");
    }

    #[test]
    fn what_ended_is_remembered_within_bounds() {
        let mut registry = Registry::new(EPOCH, 1);
        for number in 0..2 * MOST_ENDED {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            registry.enter(SessionId(id), owner(1), ());
            registry.leave(SessionId(id), Some(ResetReason::Expired));
        }
        assert_eq!(registry.ended.len(), MOST_ENDED);
    }
}
