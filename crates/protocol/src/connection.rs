//! One established connection: records in, events out; frames in, records out.
//!
//! It is the same on both sides. It owns the keys and the heartbeat; what outlives it is the [`Session`]'s.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    cipher::{Opener, Sealer},
    error::Violation,
    frame::{Assembly, PeerFrame, Piece},
    heartbeat::{Due, Heartbeat, HeartbeatConfig},
    limits::{MAX_PLAINTEXT, MAX_RECORD, MAX_UPDATES, TAG},
    record::kind,
    session::{PeerEvent, Session},
    time::Timestamp,
};

/// Room in a record for the protocol's own frames; it grows where there are more.
const CONTROL: usize = 32;

/// Turns records into plaintext and back.
pub(crate) enum Link {
    Sealed { sealer: Sealer, opener: Opener },
    Plain,
}

impl Link {
    fn kind(&self) -> u8 {
        match self {
            Self::Sealed { .. } => kind::SEALED,
            Self::Plain => kind::PLAIN,
        }
    }

    /// The frames of a record, still in one piece.
    pub(crate) fn open(&mut self, record: Bytes) -> Result<Bytes, Violation> {
        if record.len() > MAX_RECORD {
            return Err(Violation::OversizedRecord);
        }
        if record.first() != Some(&self.kind()) {
            return Err(if record.is_empty() { Violation::EmptyRecord } else { Violation::UnexpectedRecord });
        }
        let plaintext = match self {
            Self::Plain => record.slice(1..),
            Self::Sealed { opener, .. } => {
                // In place when nobody else holds the buffer, which is the rule.
                let mut record = record.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                opener.open(&mut record)?;
                record.freeze()
            }
        };
        if plaintext.is_empty() { Err(Violation::EmptyRecord) } else { Ok(plaintext) }
    }

    fn seal(&mut self, mut record: BytesMut) -> Result<Bytes, Violation> {
        if let Self::Sealed { sealer, .. } = self {
            sealer.seal(&mut record)?;
        }
        Ok(record.freeze())
    }

    /// One record of what waits, or `None` when nothing does.
    pub(crate) fn pack(&mut self, session: &mut Session, updates: &mut Updates) -> Result<Option<Bytes>, Violation> {
        if !session.has_output() && updates.is_empty() {
            return Ok(None);
        }
        let waiting = session.waiting_bytes() + updates.bytes + CONTROL;
        let mut record = BytesMut::with_capacity(1 + waiting.min(MAX_PLAINTEXT) + TAG);
        record.put_u8(self.kind());
        let end = record.len() + MAX_PLAINTEXT;
        // What is told of channels has half a record at most while messages wait, and what they leave.
        if session.has_output() {
            updates.pack(&mut record, end - MAX_PLAINTEXT / 2);
            session.pack(&mut record, end);
        }
        updates.pack(&mut record, end);
        self.seal(record).map(Some)
    }

    /// One record of one frame, past everything that waits.
    pub(crate) fn pack_frame(&mut self, frame: &Bytes) -> Result<Bytes, Violation> {
        let mut record = BytesMut::with_capacity(1 + frame.len() + TAG);
        record.put_u8(self.kind());
        record.extend_from_slice(frame);
        self.seal(record)
    }
}

/// What goes out about channels: about one record of it. It belongs to the connection and goes with it.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Updates {
    pub(crate) fn push(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether a record would not be full yet.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < MAX_PLAINTEXT
    }

    /// Whether more waits than one record's worth, the parts of one large frame and the answers to a client that reads
    /// can ever be.
    pub(crate) fn is_overfull(&self) -> bool {
        self.pieces.len() > MAX_UPDATES
    }

    fn pack(&mut self, record: &mut BytesMut, end: usize) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| record.len() + piece.len() <= end) {
            self.bytes -= piece.len();
            piece.put(record);
        }
    }
}

impl Extend<Piece> for Updates {
    fn extend<I: IntoIterator<Item = Piece>>(&mut self, pieces: I) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }
}

pub(crate) struct Connection {
    link: Link,
    heartbeat: Heartbeat,
    /// On their way out.
    pub(crate) updates: Updates,
    /// On their way in.
    pub(crate) assembly: Assembly,
}

impl Connection {
    pub(crate) fn new(link: Link, heartbeat: HeartbeatConfig, now: Timestamp) -> Self {
        let heartbeat = Heartbeat::new(heartbeat, now);
        Self { link, heartbeat, updates: Updates::default(), assembly: Assembly::default() }
    }

    /// How full it is.
    #[cfg(feature = "testing")]
    pub(crate) fn inspect(&self, inspection: &mut crate::testing::Inspection) {
        inspection.update_bytes = self.updates.bytes;
        inspection.channel_partial = self.assembly.is_partial();
    }

    /// Opens a record: its frames, still in one piece.
    pub(crate) fn open(&mut self, now: Timestamp, record: Bytes) -> Result<Bytes, Violation> {
        let plaintext = self.link.open(record)?;
        self.heartbeat.handle_life(now);
        Ok(plaintext)
    }

    /// Takes a frame that either side may send; `tell` hears what comes of it.
    pub(crate) fn handle_frame(
        &mut self,
        now: Timestamp,
        frame: PeerFrame,
        session: &mut Session,
        mut tell: impl FnMut(PeerEvent),
    ) -> Result<(), Violation> {
        match frame {
            PeerFrame::Ping(number) => session.control(PeerFrame::Pong(number).encode()),
            PeerFrame::Pong(number) => self.heartbeat.handle_pong(number, now),
            PeerFrame::Seq(seq) => session.announced(seq)?,
            PeerFrame::Ack(seq) => session.acknowledged(seq, |receipt| tell(PeerEvent::Confirmed(receipt)))?,
            frame => {
                if let Some(event) = session.handle(frame)? {
                    tell(event);
                }
            }
        }
        Ok(())
    }

    /// Asks for a sign of life now.
    pub(crate) fn ping(&mut self, now: Timestamp, session: &mut Session) {
        let number = self.heartbeat.ping(now);
        session.control(PeerFrame::Ping(number).encode());
    }

    /// Does what the time asks for; `false` when the other side is dead.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp, session: &mut Session) -> bool {
        session.acknowledge_in_time(now);
        match self.heartbeat.handle_timeout(now) {
            Due::Nothing => true,
            Due::Ping(number) => {
                session.control(PeerFrame::Ping(number).encode());
                true
            }
            Due::Dead => false,
        }
    }

    pub(crate) fn deadline(&self, session: &Session) -> Timestamp {
        let heartbeat = self.heartbeat.deadline();
        session.ack_deadline().map_or(heartbeat, |due| due.min(heartbeat))
    }

    pub(crate) fn rtt(&self) -> Option<std::time::Duration> {
        self.heartbeat.rtt()
    }

    /// The record of one frame, past everything that waits.
    pub(crate) fn seal(&mut self, frame: &Bytes) -> Result<Bytes, Violation> {
        self.link.pack_frame(frame)
    }

    /// The next record for the socket.
    pub(crate) fn poll_record(&mut self, session: &mut Session) -> Result<Option<Bytes>, Violation> {
        self.link.pack(session, &mut self.updates)
    }

    /// Everything that waits and `last` behind it, whatever the socket says: the connection is about to close.
    pub(crate) fn flush(&mut self, session: &mut Session, last: &Bytes) -> Result<Vec<Bytes>, Violation> {
        let mut records = Vec::new();
        session.acknowledge();
        while let Some(record) = self.link.pack(session, &mut self.updates)? {
            records.push(record);
        }
        records.push(self.link.pack_frame(last)?);
        Ok(records)
    }
}
