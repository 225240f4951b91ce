//! What has come from the other side: how far, and what of it is still in parts.
//!
//! Implements `docs/PROTOCOL.md` § Sessions. I1: a numbered frame is handed on once, however often it comes. I3: what is
//! acknowledged has been handed on.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    error::{Malformed, Violation},
    frame::{FirstPart, RawFrame, Seq, flag, kind},
    limits::{ACK_AFTER, ACK_BYTES, ACK_FRAMES, MAX_HEAD},
    time::Timestamp,
};

/// A message of which parts are still to come.
#[derive(Debug)]
struct Partial {
    kind: u8,
    flags: u8,
    total: usize,
    /// Grows with what comes, never with what is announced.
    body: BytesMut,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    /// The newest number that was handed on.
    received: Seq,
    /// The number of the next reliable frame on this connection; `None` until the other side has said it.
    next: Option<Seq>,
    partial: Option<Partial>,
    max_message: usize,
    /// Frames and bytes since the last acknowledgement.
    frames: usize,
    bytes: usize,
    owed: Owed,
}

/// Whether an acknowledgement is to go out.
#[derive(Debug)]
enum Owed {
    Nothing,
    /// At the latest then.
    By(Timestamp),
    /// With the next record, which it makes if there is none.
    Now,
}

impl Inbox {
    pub(crate) fn new(max_message: usize) -> Self {
        Self {
            received: Seq(0),
            next: Some(Seq(1)),
            partial: None,
            max_message,
            frames: 0,
            bytes: 0,
            owed: Owed::Nothing,
        }
    }

    /// The newest number that was handed on.
    pub(crate) fn received(&self) -> Seq {
        self.received
    }

    /// A connection begins on which the other side will say its next number first.
    pub(crate) fn resume(&mut self) {
        self.next = None;
        // The greeting has told how far it is.
        self.told();
    }

    /// The other side says the number of its next reliable frame.
    pub(crate) fn announce(&mut self, seq: Seq) -> Result<(), Violation> {
        // A gap would be a loss, and a second announcement a way to make one.
        if self.next.is_some() || seq.0 == 0 || seq.0 > self.received.0 + 1 {
            return Err(Violation::WrongSequence);
        }
        self.next = Some(seq);
        Ok(())
    }

    /// Takes the next reliable frame. Gives the frame to handle: itself, or the message of which it is the last part.
    pub(crate) fn take(&mut self, now: Timestamp, frame: RawFrame) -> Result<Option<RawFrame>, Violation> {
        let next = self.next.as_mut().ok_or(Violation::WrongSequence)?;
        let seq = *next;
        next.0 += 1;
        self.frames += 1;
        self.bytes += frame.body.len();
        let at_once = frame.flags & flag::ASK != 0 || self.frames >= ACK_FRAMES || self.bytes >= ACK_BYTES;
        self.owed = match self.owed {
            _ if at_once => Owed::Now,
            Owed::Nothing => Owed::By(now + ACK_AFTER),
            Owed::By(due) => Owed::By(due),
            Owed::Now => Owed::Now,
        };
        if seq <= self.received {
            return Ok(None);
        }
        self.received = seq;
        match frame.kind {
            kind::FIRST => self.begin(&frame),
            kind::MORE => self.go_on(&frame.body),
            _ => Ok(Some(frame)),
        }
    }

    fn begin(&mut self, frame: &RawFrame) -> Result<Option<RawFrame>, Violation> {
        let FirstPart { kind, flags, total, body } = FirstPart::read(frame)?;
        if self.partial.is_some() {
            return Err(Violation::UnexpectedFrame);
        }
        if total > (self.max_message + MAX_HEAD) as u64 {
            return Err(Violation::PayloadTooLarge);
        }
        self.partial = Some(Partial { kind, flags, total: total as usize, body: BytesMut::new() });
        self.go_on(&body)
    }

    fn go_on(&mut self, bytes: &Bytes) -> Result<Option<RawFrame>, Violation> {
        let partial = self.partial.as_mut().ok_or(Violation::UnexpectedFrame)?;
        if bytes.is_empty() || bytes.len() > partial.total - partial.body.len() {
            return Err(Malformed::TooLong.into());
        }
        partial.body.put_slice(bytes);
        let whole = self.partial.take_if(|partial| partial.body.len() == partial.total);
        Ok(whole.map(|Partial { kind, flags, body, .. }| RawFrame { kind, flags, body: body.freeze() }))
    }

    /// What to acknowledge in a record that goes out anyway: never more than this connection has carried, which the
    /// other side would have to take for a lie.
    pub(crate) fn owed(&self) -> Option<Seq> {
        let carried = Seq(self.next?.0.saturating_sub(1));
        match self.owed {
            Owed::Nothing => None,
            Owed::By(_) | Owed::Now => Some(self.received.min(carried)),
        }
    }

    /// Whether an acknowledgement is reason enough for a record.
    pub(crate) fn is_overdue(&self) -> bool {
        matches!(self.owed, Owed::Now)
    }

    /// Finds out whether the time of an acknowledgement has come.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        if self.deadline().is_some_and(|due| due <= now) {
            self.owed = Owed::Now;
        }
    }

    /// An acknowledgement goes out.
    pub(crate) fn told(&mut self) {
        (self.frames, self.bytes, self.owed) = (0, 0, Owed::Nothing);
    }

    #[cfg(feature = "testing")]
    pub(crate) fn inspect(&self, inspection: &mut crate::testing::Inspection) {
        inspection.partial = self.partial.is_some();
        inspection.partial_bytes = self.partial.as_ref().map_or(0, |partial| partial.body.len());
    }

    /// When to find out whether the time of an acknowledgement has come.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match self.owed {
            Owed::By(due) => Some(due),
            Owed::Nothing | Owed::Now => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> RawFrame {
        RawFrame { kind: kind::CANCEL, flags: flag::ASK, body: Bytes::from_static(&[1]) }
    }

    /// The simulation found it, with ends that say at a resumption less than they have: what came twice was dropped, and
    /// acknowledged together with what this connection had not carried yet, which the other side took for a lie.
    #[test]
    fn regression_what_comes_twice_is_acknowledged_as_far_as_it_came() {
        let now = Timestamp::from_millis(0);
        let mut inbox = Inbox::new(100);
        for _ in 0..3 {
            assert!(inbox.take(now, frame()).is_ok_and(|taken| taken.is_some()));
        }
        assert_eq!(inbox.owed(), Some(Seq(3)));
        inbox.resume();
        assert_eq!((inbox.owed(), inbox.announce(Seq(1))), (None, Ok(())));
        assert!(inbox.take(now, frame()).is_ok_and(|taken| taken.is_none()), "it was handed on before");
        assert_eq!((inbox.owed(), inbox.received()), (Some(Seq(1)), Seq(3)));
    }
}
