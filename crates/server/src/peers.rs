//! All of the other ends ([`Peers`]).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use moorline_protocol::{
    code::Code,
    error::Refused,
    frame::{ResetReason, SessionId},
    session::Broadcast,
};
use serde::Serialize;

use crate::peer::{Closing, Peer, SendError, message};

/// Everybody who has a session: who is connected, and who is away and may come back.
#[derive(Clone, Default)]
pub struct Peers(Arc<RwLock<Present>>);

#[derive(Default)]
struct Present {
    by_session: HashMap<SessionId, Peer>,
    /// The server stops: who comes in late hears it at once.
    closing: bool,
}

impl Peers {
    /// The client of this session.
    pub fn find(&self, id: SessionId) -> Option<Peer> {
        self.present().by_session.get(&id).cloned()
    }

    /// Everybody, in no order.
    pub fn all(&self) -> Vec<Peer> {
        self.present().by_session.values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.present().by_session.len()
    }

    /// Sends a notification to one client.
    ///
    /// # Errors
    /// As [`Peer::notify`]; [`Refused::Closed`] when nobody has this session.
    pub fn send_to(&self, id: SessionId, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.find(id).ok_or(Refused::Closed)?.notify(name, data)
    }

    /// Sends a notification to everybody, encoded once. Who has fallen too far behind to take it loses its session and
    /// hears of a reset, rather than being left with a gap.
    ///
    /// # Errors
    /// [`SendError::Json`], or [`SendError::Refused`] when the name or size is wrong.
    pub fn broadcast(&self, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, false)?, None);
        Ok(())
    }

    /// Sends a notification to everybody but one: usually whom it came from.
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn broadcast_except(&self, except: &Peer, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, false)?, Some(except));
        Ok(())
    }

    /// Sends a notification to everybody, and drops it for whom cannot take it at once.
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn broadcast_volatile(&self, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, true)?, None);
        Ok(())
    }

    /// Sends a notification to everybody but one, and drops it for whom cannot take it at once.
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn broadcast_volatile_except(&self, except: &Peer, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, true)?, Some(except));
        Ok(())
    }

    fn send(&self, message: &Broadcast, except: Option<&Peer>) {
        let present = self.present();
        let others = |peer: &&Peer| except.is_none_or(|except| except.id() != peer.id());
        for peer in present.by_session.values().filter(others) {
            if peer.send(message.clone()) == Err(Refused::Backpressure) && !message.is_volatile() {
                peer.end(Closing::Lost(ResetReason::Overflow));
            }
        }
    }

    fn present(&self) -> RwLockReadGuard<'_, Present> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, peer: Peer) {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if present.closing {
            peer.end(Closing::Told { code: Code::GOING_AWAY, message: String::new() });
        }
        present.by_session.insert(peer.id(), peer);
    }

    pub(crate) fn leave(&self, id: SessionId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_session.remove(&id);
    }

    /// Says good-bye to everybody, one after the other within `spread`, so that they do not all come back at once; and
    /// at once to everybody who still comes.
    pub(crate) fn drain(&self, spread: Duration) {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        present.closing = true;
        let count = u32::try_from(present.by_session.len()).unwrap_or(u32::MAX).max(1);
        for (place, peer) in (0..count).zip(present.by_session.values()) {
            let after = spread.saturating_mul(place) / count;
            peer.end(Closing::Drain { after, retry_after: spread - after });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use futures_util::FutureExt;
    use moorline_protocol::limits::Limits;

    use super::*;
    use crate::{access::gate::Entry, peer::Mailbox};

    const ROOM: usize = 16;

    /// A client whose task takes nothing: its queue is full after [`ROOM`] messages.
    fn enter(peers: &Peers, id: u8) -> (Peer, Mailbox) {
        let mut limits = Limits::default();
        limits.max_outgoing_frames = ROOM;
        let (peer, mailbox) = Peer::new(
            SessionId([id; 16]),
            SocketAddr::from(([127, 0, 0, 1], 1)),
            Entry::nobody(),
            &limits,
            Arc::default(),
        );
        peers.enter(peer.clone());
        (peer, mailbox)
    }

    /// A client that nobody hears.
    pub(crate) fn peer() -> Peer {
        enter(&Peers::default(), 1).0
    }

    fn is_closing(mailbox: &mut Mailbox) -> bool {
        (&mut mailbox.closing).now_or_never().is_some()
    }

    #[test]
    fn a_volatile_broadcast_reaches_everybody_and_is_dropped_where_there_is_no_room() -> Result<(), SendError> {
        let peers = Peers::default();
        let ((reader, mut reading), (_, mut stuck)) = (enter(&peers, 1), enter(&peers, 2));
        for _ in 0..2 * ROOM {
            peers.broadcast_volatile("cursor", &1)?;
            let command = reading.commands.try_recv().expect("there is room");
            reader.taken(command.bytes());
        }
        assert_eq!(stuck.commands.len(), ROOM);
        assert!(!is_closing(&mut reading) && !is_closing(&mut stuck));
        peers.broadcast("news", &1)?;
        assert!(!is_closing(&mut reading) && is_closing(&mut stuck), "only a gap ends a session");
        Ok(())
    }

    /// A handler that sent more than 1,024 notifications without an `await` lost its client, though that read at once:
    /// the queue of commands had a cap of its own, and nobody could be told.
    #[test]
    fn regression_whoever_sends_too_much_is_told_and_the_client_stays() {
        let peers = Peers::default();
        let (peer, mut mailbox) = enter(&peers, 1);
        assert_eq!((0..2 * ROOM).filter(|_| peer.notify("news", &1).is_ok()).count(), ROOM);
        assert!(matches!(peer.notify("news", &1), Err(SendError::Refused(Refused::Backpressure))));
        assert!(!is_closing(&mut mailbox));
    }

    #[test]
    fn a_goodbye_to_many_is_spread() {
        let peers = Peers::default();
        let mut mailboxes: Vec<_> = (0..4).map(|id| enter(&peers, id).1).collect();
        peers.drain(Duration::from_secs(4));
        let closings = mailboxes.iter_mut().filter_map(|mailbox| (&mut mailbox.closing).now_or_never());
        let mut after: Vec<_> = closings
            .map(|closing| match closing {
                Closing::Drain { after, .. } => after.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        after.sort_unstable();
        assert_eq!(after, [0, 1, 2, 3]);
    }
}
