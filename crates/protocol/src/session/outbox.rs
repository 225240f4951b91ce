//! What this side has to say, until the other side has confirmed it.
//!
//! Implements `docs/PROTOCOL.md` § Sessions. A reliable message waits in `queue` until a record takes it; then it has
//! its [`Seq`] and stays, as plaintext, until it is acknowledged. I2: what is acknowledged is dropped, what is not is
//! sent again on the next connection, in the same order under the same numbers.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::Sent;
use crate::{
    error::Refused,
    frame::{self, CallId, Seq, kind},
    limits::{ANSWERS, CONTROL_FRAMES, Limits, PART, PARTS_A_RECORD},
};

/// The lane of calls and notifications. Every other lane is that of the answers to one call, and has its number.
pub(crate) const MAIN_LANE: u64 = 0;

/// A notification whose confirmation somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub u64);

/// What a message is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Call(CallId),
    Notify(Option<Receipt>),
    /// Belongs to a call: its answer, an item, its cancellation. It means nothing to another session.
    Dependent,
}

/// One frame of a message, whole, as it was encoded once; cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) lane: u64,
    /// Bytes of the application's in it.
    pub(crate) payload: usize,
    pub(crate) frame: Bytes,
}

impl Message {
    fn is_large(&self) -> bool {
        self.payload > PART
    }
}

/// A message that is on its way in parts.
#[derive(Debug)]
struct Bulk {
    message: Message,
    /// How much of the frame's body has been cut off so far.
    cut: usize,
}

/// One numbered frame: a whole message, or a part of one.
#[derive(Debug)]
struct Unit {
    message: Message,
    /// Bytes of the head that are not in `body`: only parts have one.
    head: Bytes,
    body: Bytes,
    /// Whether its message ends with it.
    last: bool,
}

impl Unit {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

#[derive(Debug)]
pub(crate) struct Outbox {
    /// The protocol's own frames, which belong to the connection and have no number.
    control: VecDeque<Bytes>,
    volatile: VecDeque<Bytes>,
    volatile_bytes: usize,
    /// What no record has taken yet.
    queue: VecDeque<Message>,
    bulk: Option<Bulk>,
    /// Waits for `bulk` to end: large itself, or in a lane in which something waits.
    behind: VecDeque<Message>,
    /// What some record has taken, by ascending number; the first has the number `acked + 1`.
    unacked: VecDeque<Unit>,
    /// How many of `unacked` this connection has carried.
    carried: usize,
    acked: Seq,
    /// Bytes of everything reliable in here.
    bytes: usize,
    /// Bytes of what is reliable and was never in a record.
    unsent: usize,
    max_bytes: usize,
    max_frames: usize,
    /// Answers that the other side may wait for at once.
    max_answers: usize,
    max_volatile: usize,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            control: VecDeque::new(),
            volatile: VecDeque::new(),
            volatile_bytes: 0,
            queue: VecDeque::new(),
            bulk: None,
            behind: VecDeque::new(),
            unacked: VecDeque::new(),
            carried: 0,
            acked: Seq(0),
            bytes: 0,
            unsent: 0,
            max_bytes: limits.max_outgoing_bytes,
            max_frames: limits.max_outgoing_frames,
            max_answers: limits.max_calls_in_flight,
            max_volatile: limits.max_volatile_bytes,
        }
    }

    /// Messages that wait and frames that were sent.
    pub(crate) fn frames(&self) -> usize {
        self.queue.len() + self.behind.len() + self.unacked.len() + usize::from(self.bulk.is_some())
    }

    /// Whether one more message is taken. The last one may stand out, so that a large one has a chance at all.
    pub(crate) fn has_room(&self) -> Result<(), Refused> {
        let room = self.bytes < self.max_bytes && self.frames() < self.max_frames;
        if room { Ok(()) } else { Err(Refused::Backpressure) }
    }

    /// Whether an answer with so many bytes is kept beside what there is, for a peer that takes `max_message`.
    pub(crate) fn has_room_for_answer(&self, payload: usize, max_message: usize) -> bool {
        self.bytes + payload <= ANSWERS * (self.max_bytes + max_message)
    }

    /// Whether what must never be refused has piled up beyond reason: answers up to their bound, and what was promised
    /// room. A message that was taken as one frame may go out as many, as its bytes take.
    pub(crate) fn is_overfull(&self, max_message: usize) -> bool {
        let most = self.max_bytes + max_message;
        self.bytes > (ANSWERS + 1) * most
            || self.frames() > 2 * self.max_frames + self.max_answers + (ANSWERS + 1) * most.div_ceil(PART)
            || self.control.len() > self.max_frames.max(CONTROL_FRAMES)
    }

    /// Queues a reliable message without asking for room.
    pub(crate) fn push(&mut self, message: Message) {
        self.bytes += message.frame.len();
        self.unsent += message.frame.len();
        self.queue.push_back(message);
    }

    /// Queues the frame that opens this connection, in front of all others.
    pub(crate) fn greet(&mut self, frame: Bytes) {
        self.control.push_front(frame);
    }

    /// Queues a frame that belongs to this connection.
    pub(crate) fn control(&mut self, frame: Bytes) {
        self.control.push_back(frame);
    }

    /// Queues a message for now or never; it is dropped when so much stands before it that it would come late.
    pub(crate) fn volatile(&mut self, frame: Bytes) -> Sent {
        self.sort_queue();
        let many = self.queue.len() + self.volatile.len() >= self.max_frames.div_ceil(2);
        if many || self.stands_before_volatile() {
            return Sent::Dropped;
        }
        self.volatile_bytes += frame.len();
        self.volatile.push_back(frame);
        Sent::Queued
    }

    /// Whether more than `max_volatile` bytes go out before a volatile message: what is sent again, what is small and
    /// need not wait, other volatile ones, and of what is large only what one record takes.
    fn stands_before_volatile(&self) -> bool {
        let bulk = self.bulk.as_ref().map_or(0, |bulk| bulk.message.frame.len() - bulk.cut);
        let again = self.unacked.iter().skip(self.carried).map(Unit::len);
        let small = self.queue.iter().filter(|message| !message.is_large()).map(|message| message.frame.len());
        let mut left = self.max_volatile.checked_sub(self.volatile_bytes + bulk.min(PARTS_A_RECORD * PART));
        again.chain(small).any(|bytes| {
            left = left.and_then(|left| left.checked_sub(bytes));
            left.is_none()
        }) || left.is_none()
    }

    /// Takes out a message of which no byte has been transmitted; `false` when there is none such.
    pub(crate) fn withdraw(&mut self, role: Role) -> bool {
        let mut found = false;
        self.retain_waiting(|message| {
            found |= message.role == role;
            message.role != role
        });
        found
    }

    /// Keeps of what no record has taken what `keep` wants kept.
    pub(crate) fn retain_waiting(&mut self, mut keep: impl FnMut(&Message) -> bool) {
        self.give_back_bulk();
        let mut dropped = 0;
        let mut check = |message: &Message| {
            let keep = keep(message);
            dropped += if keep { 0 } else { message.frame.len() };
            keep
        };
        self.behind.retain(&mut check);
        self.queue.retain(&mut check);
        self.bytes -= dropped;
        self.unsent -= dropped;
    }

    /// Everything up to `seq` has arrived. Gives the receipts of what is confirmed by it, in order.
    ///
    /// `None` when so much was never sent.
    pub(crate) fn acknowledge(&mut self, seq: Seq, mut confirmed: impl FnMut(Receipt)) -> Option<()> {
        let units = usize::try_from(seq.0.checked_sub(self.acked.0)?).ok()?;
        if units > self.unacked.len() {
            return None;
        }
        for unit in self.unacked.drain(..units) {
            self.bytes -= unit.body.len();
            if let (Role::Notify(Some(receipt)), true) = (unit.message.role, unit.last) {
                confirmed(receipt);
            }
        }
        self.carried = self.carried.saturating_sub(units);
        self.acked = seq;
        Some(())
    }

    /// Whether an acknowledgement of this number can be true: this connection carried it, or an earlier one was told of.
    pub(crate) fn has_carried(&self, seq: Seq) -> bool {
        seq.0 <= self.acked.0 + self.carried as u64
    }

    /// Whether the session can go on with a peer that has received everything up to `seq` and nothing more.
    pub(crate) fn can_resume(&self, seq: Seq) -> bool {
        (self.acked.0..=self.acked.0 + self.unacked.len() as u64).contains(&seq.0)
    }

    /// The number of the next reliable frame on a connection that begins.
    pub(crate) fn next_seq(&self) -> Seq {
        Seq(self.acked.0 + 1)
    }

    /// The connection is gone: what it carried goes out again, what belonged to it does not.
    pub(crate) fn disconnect(&mut self) {
        self.carried = 0;
        self.control.clear();
        self.volatile.clear();
        self.volatile_bytes = 0;
    }

    /// The other side has forgotten the session. Gives the messages that were transmitted and not confirmed, and keeps
    /// those of which no byte was, as long as they mean something to a new session.
    pub(crate) fn reset(&mut self) -> Vec<Message> {
        self.disconnect();
        self.give_back_bulk();
        let mut lost: Vec<_> = self.unacked.drain(..).filter(|unit| unit.last).map(|unit| unit.message).collect();
        lost.extend(self.bulk.take().map(|bulk| bulk.message));
        self.join_queues();
        self.queue.retain(|message| message.role != Role::Dependent);
        self.acked = Seq(0);
        self.bytes = self.queue.iter().map(|message| message.frame.len()).sum();
        self.unsent = self.bytes;
        lost
    }

    /// Puts a message in front of what waits.
    pub(crate) fn push_front(&mut self, message: Message) {
        self.bytes += message.frame.len();
        self.unsent += message.frame.len();
        self.queue.push_front(message);
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.disconnect();
        self.queue.clear();
        self.behind.clear();
        self.bulk = None;
        self.unacked.clear();
        (self.bytes, self.unsent) = (0, 0);
    }

    /// Reliable messages that the other side has not confirmed.
    pub(crate) fn undelivered(&self) -> usize {
        let transmitted = self.unacked.iter().filter(|unit| unit.last).count();
        transmitted + self.queue.len() + self.behind.len() + usize::from(self.bulk.is_some())
    }

    /// Whether there is anything for a record.
    pub(crate) fn has_output(&self) -> bool {
        !(self.control.is_empty()
            && self.carried == self.unacked.len()
            && self.queue.is_empty()
            && self.bulk.is_none()
            && self.volatile.is_empty())
    }

    /// Bytes that wait for a record.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let again: usize = self.unacked.iter().skip(self.carried).map(Unit::len).sum();
        self.unsent + self.volatile_bytes + again
    }

    /// Bytes kept for this session.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(feature = "testing")]
    pub(crate) fn inspect(&self, inspection: &mut crate::testing::Inspection) {
        inspection.kept_bytes = self.bytes;
        inspection.kept_frames = self.frames();
        inspection.control_frames = self.control.len();
        inspection.volatile_frames = self.volatile.len();
        inspection.volatile_bytes = self.volatile_bytes;
        let again = self.unacked.get(self.carried).map(Unit::len);
        // While a large message is on its way it has its turns, and what may overtake it depends on the lane.
        let new = || self.queue.front().filter(|message| !message.is_large() && self.bulk.is_none());
        let new = || new().map(|message| message.frame.len());
        inspection.next_frame = again.or_else(new);
    }

    /// Moves into `record` as many whole frames as fit; `transmitted` hears of every call that it takes a byte of.
    pub(crate) fn pack(&mut self, record: &mut BytesMut, end: usize, mut transmitted: impl FnMut(CallId)) {
        let room = |record: &BytesMut| end.saturating_sub(record.len());
        while let Some(frame) = self.control.pop_front_if(|frame| frame.len() <= room(record)) {
            record.put_slice(&frame);
        }
        let (mut parts, mut between) = (0, 0);
        loop {
            if self.carried == self.unacked.len() && !self.cut_next(&mut parts, &mut between, room(record)) {
                break;
            }
            let unit = &self.unacked[self.carried];
            if unit.len() > room(record) {
                break;
            }
            record.put_slice(&unit.head);
            record.put_slice(&unit.body);
            self.carried += 1;
            if let Role::Call(id) = unit.message.role {
                transmitted(id);
            }
        }
        while let Some(frame) = self.volatile.pop_front_if(|frame| frame.len() <= room(record)) {
            self.volatile_bytes -= frame.len();
            record.put_slice(&frame);
        }
    }

    /// Gives the next unit its number: a part of what is large when `between` parts enough of the rest has gone, else a
    /// whole message. `false` when there is none, or none that fits.
    fn cut_next(&mut self, parts: &mut usize, between: &mut usize, room: usize) -> bool {
        self.sort_queue();
        let whole = self.queue.front().map(|message| message.frame.len());
        if self.bulk.is_some() && *parts < PARTS_A_RECORD && (whole.is_none() || *between >= PART) {
            *parts += 1;
            *between = 0;
            return self.cut_part(room);
        }
        match self.queue.pop_front_if(|message| message.frame.len() <= room) {
            Some(message) => {
                let body = message.frame.clone();
                *between += body.len();
                self.unsent -= body.len();
                self.unacked.push_back(Unit { message, head: Bytes::new(), body, last: true });
                true
            }
            None => false,
        }
    }

    fn cut_part(&mut self, room: usize) -> bool {
        // The head of a part is a few bytes; a part is sent whole or not at all.
        let Some(bulk) = self.bulk.as_mut().filter(|_| room > PART + 16) else { return false };
        let frame = &bulk.message.frame;
        let body = frame::body_of(frame);
        let rest = body.slice(bulk.cut..);
        let part = rest.slice(..rest.len().min(PART));
        let last = part.len() == rest.len();
        let head = frame::part_head(frame, (bulk.cut == 0).then_some(body.len()), part.len(), last);
        bulk.cut += part.len();
        // What the parts do not carry is the head of the whole.
        let carried = part.len() + if last { frame.len() - body.len() } else { 0 };
        self.unsent -= carried;
        self.bytes -= carried - part.len();
        self.unacked.push_back(Unit { message: bulk.message.clone(), head, body: part, last });
        if last {
            self.bulk = None;
            self.join_queues();
        }
        true
    }

    /// What waited behind a large message came before what is in the queue.
    fn join_queues(&mut self) {
        self.behind.append(&mut self.queue);
        std::mem::swap(&mut self.behind, &mut self.queue);
    }

    /// A large message of which nothing has been cut off is like any other that waits.
    fn give_back_bulk(&mut self) {
        if let Some(bulk) = self.bulk.take_if(|bulk| bulk.cut == 0) {
            self.join_queues();
            self.queue.push_front(bulk.message);
        }
    }

    /// Brings to the front of the queue what may go out whole now.
    fn sort_queue(&mut self) {
        while let Some(front) = self.queue.front() {
            let busy = |message: &Message| message.lane == front.lane;
            match &self.bulk {
                None if !front.is_large() => return,
                None => {
                    self.bulk = self.queue.pop_front().map(|message| Bulk { message, cut: 0 });
                }
                Some(bulk) if front.is_large() || busy(&bulk.message) || self.behind.iter().any(busy) => {
                    self.behind.extend(self.queue.pop_front());
                }
                Some(_) => return,
            }
        }
    }
}

/// The name in a Call or Notify of this side's own making.
pub(crate) fn name_in(frame: &Bytes) -> Option<crate::payload::Name> {
    let body = frame::body_of(frame);
    let mut reader = crate::wire::Reader::new(&body);
    match *frame.first()? {
        kind::CALL => _ = reader.varint().ok()?,
        kind::REQUEST => {
            reader.varint().ok()?;
            reader.array::<2>().ok()?;
        }
        _ => {}
    }
    crate::payload::Name::read(&body, &mut reader).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::MAX_PLAINTEXT,
        payload::{Name, Payload},
    };

    fn message(role: Role, size: usize) -> Message {
        let name = Name::new("n").expect("a name");
        let frame = frame::PeerFrame::Notify { name, payload: Payload::bytes(vec![0; size]), ask: false }.encode();
        Message { role, lane: MAIN_LANE, payload: size, frame }
    }

    fn pack(outbox: &mut Outbox) -> usize {
        let mut records = 0;
        while outbox.has_output() {
            outbox.pack(&mut BytesMut::new(), MAX_PLAINTEXT, |_| {});
            records += 1;
        }
        records
    }

    /// The simulation found it: messages wait as one frame each and go out as many, so that with a small cap of frames a
    /// few large ones, all of which had been taken, were an overflow as soon as they were sent.
    #[test]
    fn regression_what_was_taken_is_no_overflow_in_parts() {
        let limits = Limits { max_outgoing_frames: 8, ..Limits::default() };
        let mut outbox = Outbox::new(&limits);
        while outbox.has_room().is_ok() {
            outbox.push(message(Role::Notify(None), 120_000));
        }
        assert_eq!(outbox.undelivered(), 8);
        pack(&mut outbox);
        assert_eq!((outbox.frames(), outbox.undelivered()), (64, 8));
        assert!(!outbox.is_overfull(200_000));
    }

    #[test]
    fn what_must_not_be_refused_has_a_bound_in_bytes_and_one_in_frames() {
        let most = |limits: Limits, size: usize| {
            let mut outbox = Outbox::new(&limits);
            let full = |outbox: &mut Outbox| {
                outbox.push(message(Role::Dependent, size));
                outbox.is_overfull(1_000)
            };
            (0..10_000).find(|_| full(&mut outbox)).expect("there is an end to it")
        };
        // Nine times the cap and the largest message together; the head of a frame is 8 bytes.
        let few_bytes = Limits { max_outgoing_bytes: 1_000, ..Limits::default() };
        assert_eq!(most(few_bytes, 2_000 - 8), 9);
        // Twice the cap, what one peer may wait for, and the parts of all those bytes: one for each of the nine.
        let few_frames =
            Limits { max_outgoing_frames: 3, max_calls_in_flight: 1, max_outgoing_bytes: 1_000, ..Limits::default() };
        assert_eq!(most(few_frames, 0), 2 * 3 + 1 + 9);
    }

    #[test]
    fn counts_are_right_after_whatever_happened() {
        let mut outbox = Outbox::new(&Limits::default());
        for size in [1, 100_000, 10] {
            outbox.push(message(Role::Dependent, size));
            outbox.push(message(Role::Call(CallId(size as u64)), size));
        }
        assert!(outbox.withdraw(Role::Call(CallId(100_000))));
        assert_eq!(pack(&mut outbox), 3);
        assert!(!outbox.withdraw(Role::Call(CallId(1))), "a record has it");
        outbox.push(message(Role::Call(CallId(7)), 7));
        assert_eq!(outbox.reset().len(), 5, "two calls and three answers were transmitted");
        let kept = message(Role::Call(CallId(7)), 7).frame.len();
        assert_eq!((outbox.bytes(), outbox.unsent, outbox.undelivered()), (kept, kept, 1));
        assert_eq!((pack(&mut outbox), outbox.bytes(), outbox.unsent), (1, kept, 0));
    }

    #[test]
    fn what_waits_behind_a_large_message_can_be_withdrawn() {
        let mut outbox = Outbox::new(&Limits::default());
        outbox.push(message(Role::Call(CallId(1)), 100_000));
        for number in 2..5 {
            outbox.push(message(Role::Call(CallId(number)), 1));
        }
        let mut transmitted = Vec::new();
        outbox.pack(&mut BytesMut::new(), MAX_PLAINTEXT, |id| transmitted.push(id.0));
        assert!(outbox.withdraw(Role::Call(CallId(3))), "no record has it");
        while outbox.has_output() {
            outbox.pack(&mut BytesMut::new(), MAX_PLAINTEXT, |id| transmitted.push(id.0));
        }
        transmitted.dedup();
        assert_eq!(transmitted, [1, 2, 4]);
    }

    #[test]
    fn volatile_messages_count_until_they_are_gone() {
        let limits = Limits { max_volatile_bytes: 100, ..Limits::default() };
        let mut outbox = Outbox::new(&limits);
        let small = || message(Role::Notify(None), 40).frame;
        for expected in [Sent::Queued, Sent::Queued, Sent::Queued, Sent::Dropped] {
            assert_eq!(outbox.volatile(small()), expected);
        }
        assert_eq!(outbox.waiting_bytes(), 3 * small().len());
        pack(&mut outbox);
        assert_eq!((outbox.volatile(small()), outbox.waiting_bytes()), (Sent::Queued, small().len()));
        outbox.disconnect();
        assert_eq!(outbox.waiting_bytes(), 0);
    }
}
