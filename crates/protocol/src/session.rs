//! What both sides know of each other apart from any one connection: what is to be said and was not confirmed, how far
//! the other side has come, calls that wait for an answer on either side.
//!
//! Implements `docs/PROTOCOL.md` § Sessions. It outlives connections: a disconnection and the next connection's
//! resumption lose nothing and repeat nothing.

mod inbox;
mod interface;
pub(crate) mod outbox;
mod registry;

use std::mem;

use bytes::{Bytes, BytesMut};

use self::{
    inbox::Inbox,
    outbox::{MAIN_LANE, Message, Outbox, Role, name_in},
};
pub use interface::*;
pub use outbox::Receipt;
pub use registry::{Claim, Owner, Proof, Registry};

use crate::{
    calls::{Asked, Serving, Way},
    channel::Kind,
    code::Code,
    error::{Refused, Violation},
    frame::{CallId, ClientFrame, Failure, PeerFrame, RawFrame, Request, RequestKind, Seq},
    limits::{Limits, MAX_PAYLOAD},
    payload::{Name, Payload},
    time::Timestamp,
};

/// What a reset leaves behind.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) unconfirmed: Vec<Unconfirmed>,
    /// Calls of this side whose outcome nobody will know.
    pub(crate) unknown: Vec<CallId>,
    /// Calls of the other side that nobody waits for any more.
    pub(crate) abandoned: Vec<CallId>,
}

#[derive(Debug)]
pub(crate) struct Session {
    asked: Asked,
    serving: Serving,
    outbox: Outbox,
    inbox: Inbox,
    limits: Limits,
    /// The largest payload that the other side takes.
    max_message: usize,
    last_receipt: u64,
    /// Something was refused for want of room, and there has been none since.
    starved: bool,
    /// What to say instead of what was received: see [`Self::understate`].
    #[cfg(feature = "testing")]
    understated: Option<Seq>,
}

impl Session {
    /// One for a peer that takes payloads up to `max_message`, as far as is known.
    pub(crate) fn new(limits: Limits, max_message: usize) -> Self {
        Self {
            asked: Asked::default(),
            serving: Serving::new(limits.max_calls_in_flight, 0),
            outbox: Outbox::new(&limits),
            inbox: Inbox::new(limits.max_message),
            max_message,
            last_receipt: 0,
            starved: false,
            #[cfg(feature = "testing")]
            understated: None,
            limits,
        }
    }

    // ---- connections ----

    /// The number of the newest frame of the other side's that was handed on.
    pub(crate) fn received(&self) -> Seq {
        #[cfg(feature = "testing")]
        if let Some(seq) = self.understated {
            return seq.min(self.inbox.received());
        }
        self.inbox.received()
    }

    /// Makes it say at the next resumption that it has received no more than this, so that the other side sends again
    /// what came before.
    #[cfg(feature = "testing")]
    pub(crate) fn understate(&mut self, seq: Seq) {
        self.understated = Some(seq);
    }

    /// How full everything is.
    #[cfg(feature = "testing")]
    pub(crate) fn inspect(&self) -> crate::testing::Inspection {
        let mut inspection = crate::testing::Inspection::default();
        self.outbox.inspect(&mut inspection);
        self.inbox.inspect(&mut inspection);
        inspection.has_output = self.has_output();
        (inspection.asked, inspection.serving) = (self.asked.len(), self.serving.len());
        inspection
    }

    /// Whether the session can go on with a peer that has received everything up to `seq`.
    pub(crate) fn can_resume(&self, seq: Seq) -> bool {
        self.outbox.can_resume(seq)
    }

    /// A connection begins on which the session goes on; the other side has received everything up to `seq`.
    ///
    /// # Errors
    /// When that cannot be: see [`Self::can_resume`].
    pub(crate) fn resume(&mut self, seq: Seq) -> Result<Vec<Receipt>, Violation> {
        let mut confirmed = Vec::new();
        self.outbox.disconnect();
        self.outbox.acknowledge(seq, |receipt| confirmed.push(receipt)).ok_or(Violation::WrongSequence)?;
        self.inbox.resume();
        self.outbox.control(PeerFrame::Seq(self.outbox.next_seq()).encode());
        Ok(confirmed)
    }

    /// The connection is gone. Messages for now or never go with it.
    pub(crate) fn disconnect(&mut self) {
        self.outbox.disconnect();
    }

    /// The other side has forgotten the session, and begins another with the next connection.
    pub(crate) fn reset(&mut self) -> Lost {
        let abandoned = self.serving.abandon();
        self.serving = Serving::new(self.limits.max_calls_in_flight, self.serving.newest());
        self.inbox = Inbox::new(self.limits.max_message);
        #[cfg(feature = "testing")]
        {
            self.understated = None;
        }
        let after = self.asked.reset();
        let goes_again = |role: Role| after.again.iter().any(|message| message.role == role);
        let lost = self.outbox.reset().into_iter().filter(|message| !goes_again(message.role));
        let unconfirmed = lost.filter_map(|Message { role, frame, .. }| {
            let (call, receipt) = match role {
                Role::Call(id) => (Some(id), None),
                Role::Notify(receipt) => (None, receipt),
                Role::Dependent => return None,
            };
            Some(Unconfirmed { name: name_in(&frame)?, call, receipt })
        });
        let unconfirmed = unconfirmed.collect();
        // In front of what waits, and among themselves in their order: their numbers must ascend in this session, too.
        after.again.into_iter().rev().for_each(|message| self.outbox.push_front(message));
        // The frames that said so went with the session, and the calls tell only what was granted at first.
        for (id, more) in after.credit {
            self.say(MAIN_LANE, PeerFrame::Credit { id, more });
        }
        Lost { unconfirmed, unknown: after.unknown, abandoned }
    }

    /// This side is another subject by now, and a key is known again to the same one only. Gives the calls that waited to go
    /// out again: nobody knows whether they ran.
    pub(crate) fn become_another(&mut self) -> Vec<CallId> {
        let unknown = self.asked.become_unknown();
        for id in &unknown {
            self.outbox.withdraw(Role::Call(*id));
        }
        unknown
    }

    /// The other side told its limit. What waits and is above it is taken out: sending it would end the connection.
    /// Gives the calls among it with their outcomes, and the receipts; of other notifications nobody wants to know.
    pub(crate) fn learn_limit(&mut self, max_message: u64) -> (Vec<(CallId, Outcome)>, Vec<Receipt>) {
        let most = usize::try_from(max_message).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
        self.max_message = most;
        let (mut calls, mut receipts) = (Vec::new(), Vec::new());
        self.outbox.retain_waiting(|message| {
            if message.payload <= most {
                return true;
            }
            match message.role {
                Role::Call(id) => calls.push(id),
                Role::Notify(receipt) => receipts.extend(receipt),
                // Answers are of one session, and its limit was known before the first of them.
                Role::Dependent => return true,
            }
            false
        });
        let outcome = |way| match way {
            Way::Waits => Outcome::Failed(Failure::of(Code::TOO_LARGE)),
            // The server of an earlier session took it, and may have run it.
            Way::WaitsAgain | Way::Transmitted => Outcome::Unknown,
        };
        let settled = |id| self.asked.settle(id).map(|way| (id, outcome(way)));
        (calls.into_iter().filter_map(settled).collect(), receipts)
    }

    // ---- what this side says ----

    fn check(&mut self, payload: usize) -> Result<(), Refused> {
        if payload > self.max_message {
            return Err(Refused::TooLarge);
        }
        self.outbox.has_room().inspect_err(|_| self.starved = true)
    }

    /// Whether there is room again since something was refused for want of it; `true` once.
    pub(crate) fn found_room(&mut self) -> bool {
        self.starved && self.outbox.has_room().is_ok() && mem::take(&mut self.starved)
    }

    pub(crate) fn call(
        &mut self,
        now: Timestamp,
        name: Name,
        payload: Payload,
        options: CallOptions,
    ) -> Result<CallId, Refused> {
        self.ask(now, None, name, payload, options)
    }

    /// Wants something of a channel.
    pub(crate) fn request(
        &mut self,
        now: Timestamp,
        channel: (RequestKind, Kind),
        name: Name,
        payload: Payload,
        options: CallOptions,
    ) -> Result<CallId, Refused> {
        self.ask(now, Some(channel), name, payload, CallOptions { credit: None, ..options })
    }

    fn ask(
        &mut self,
        now: Timestamp,
        channel: Option<(RequestKind, Kind)>,
        name: Name,
        payload: Payload,
        options: CallOptions,
    ) -> Result<CallId, Refused> {
        self.check(payload.bytes.len())?;
        let CallOptions { timeout, key, credit } = options;
        let (id, size, keyed) = (self.asked.next(), payload.bytes.len(), key.is_some());
        let frame = match channel {
            None => PeerFrame::Call { id, name, key, credit, payload }.encode(),
            Some((what, kind)) => ClientFrame::Request(Request { id, what, kind, name, key, payload }).encode(),
        };
        let message = Message { role: Role::Call(id), lane: MAIN_LANE, payload: size, frame };
        self.asked.open(now, timeout, credit, keyed.then(|| message.clone()));
        self.outbox.push(message);
        Ok(id)
    }

    /// The caller gave up. Nothing more is ever said of this call.
    pub(crate) fn cancel(&mut self, id: CallId) {
        if let Some(way) = self.asked.settle(id) {
            self.give_up(id, way);
        }
    }

    fn give_up(&mut self, id: CallId, way: Way) {
        match way {
            Way::Transmitted => self.say(MAIN_LANE, PeerFrame::Cancel(id)),
            Way::Waits | Way::WaitsAgain => _ = self.outbox.withdraw(Role::Call(id)),
        }
    }

    /// The application takes more items of a stream.
    pub(crate) fn grant(&mut self, id: CallId, more: u64) {
        if more > 0 && self.asked.grant(id, more) {
            self.say(MAIN_LANE, PeerFrame::Credit { id, more });
        }
    }

    pub(crate) fn send(&mut self, Broadcast { message, volatile }: &Broadcast) -> Result<Sent, Refused> {
        if *volatile {
            let fits = message.payload <= self.max_message;
            return if fits { Ok(self.outbox.volatile(message.frame.clone())) } else { Err(Refused::TooLarge) };
        }
        self.check(message.payload)?;
        self.outbox.push(message.clone());
        Ok(Sent::Queued)
    }

    /// Sends a notification without asking for room.
    pub(crate) fn push(&mut self, broadcast: &Broadcast) {
        self.outbox.push(broadcast.message.clone());
    }

    /// Sends a notification whose arrival is told by [`PeerEvent::Confirmed`].
    pub(crate) fn notify_confirmed(&mut self, name: Name, payload: Payload) -> Result<Receipt, Refused> {
        self.check(payload.bytes.len())?;
        self.last_receipt += 1;
        let receipt = Receipt(self.last_receipt);
        let size = payload.bytes.len();
        let frame = PeerFrame::Notify { name, payload, ask: true }.encode();
        self.outbox.push(Message { role: Role::Notify(Some(receipt)), lane: MAIN_LANE, payload: size, frame });
        Ok(receipt)
    }

    /// Queues what must not be refused and is small: the number of calls bounds it.
    fn say(&mut self, lane: u64, frame: PeerFrame) {
        self.outbox.push(Message { role: Role::Dependent, lane, payload: 0, frame: frame.encode() });
    }

    /// Queues the frame that opens this connection, in front of all others.
    pub(crate) fn greet(&mut self, frame: Bytes) {
        self.outbox.greet(frame);
    }

    /// Queues a frame that belongs to this connection.
    pub(crate) fn control(&mut self, frame: Bytes) {
        self.outbox.control(frame);
    }

    /// Answers a call of the other side; one that is not open any more is passed over. An answer that is too large, or
    /// too much beside what waits already, becomes a failure, so that the call still settles.
    pub(crate) fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        let Some(id) = self.serving.answer(id) else { return Ok(()) };
        let too_large = |payload: &Payload| {
            let size = payload.bytes.len();
            size > self.max_message || !self.outbox.has_room_for_answer(size, self.max_message)
        };
        let (frame, size, refused) = match result {
            Ok(payload) if too_large(&payload) => {
                (PeerFrame::Fail { id, failure: Failure::of(Code::TOO_LARGE) }, 0, Err(Refused::TooLarge))
            }
            Ok(payload) => {
                let size = payload.bytes.len();
                (PeerFrame::Reply { id, payload }, size, Ok(()))
            }
            Err(mut failure) => {
                failure.data = failure.data.take_if(|data| !too_large(data));
                let size = failure.data.as_ref().map_or(0, |data| data.bytes.len());
                (PeerFrame::Fail { id, failure }, size, Ok(()))
            }
        };
        self.outbox.push(Message { role: Role::Dependent, lane: id.0, payload: size, frame: frame.encode() });
        refused
    }

    /// Sends an item of a stream that the other side asked for; one that is over is passed over.
    ///
    /// # Errors
    /// [`Refused::Backpressure`] when the other side takes none now ([`PeerEvent::Credit`] tells when it does) or there
    /// is no room ([`PeerEvent::Room`]); [`Refused::TooLarge`].
    pub(crate) fn item(&mut self, id: CallId, payload: Payload) -> Result<(), Refused> {
        self.check(payload.bytes.len())?;
        let Some(id) = self.serving.item(id)? else { return Ok(()) };
        let size = payload.bytes.len();
        let frame = PeerFrame::Item { id, payload }.encode();
        self.outbox.push(Message { role: Role::Dependent, lane: id.0, payload: size, frame });
        Ok(())
    }

    /// Ends a stream that the other side asked for.
    pub(crate) fn end(&mut self, id: CallId) {
        if let Some(id) = self.serving.answer(id) {
            self.say(id.0, PeerFrame::End(id));
        }
    }

    // ---- what the other side says ----

    /// Takes a frame as it came. Gives the one to handle: itself, or a message of which it is the last part; `None` for
    /// one that came before.
    pub(crate) fn take(&mut self, now: Timestamp, frame: RawFrame) -> Result<Option<RawFrame>, Violation> {
        if frame.is_reliable() { self.inbox.take(now, frame) } else { Ok(Some(frame)) }
    }

    /// The other side says the number of its next reliable frame.
    pub(crate) fn announced(&mut self, seq: Seq) -> Result<(), Violation> {
        self.inbox.announce(seq)
    }

    /// The other side has got everything up to `seq`.
    pub(crate) fn acknowledged(&mut self, seq: Seq, confirmed: impl FnMut(Receipt)) -> Result<(), Violation> {
        if !self.outbox.has_carried(seq) {
            return Err(Violation::WrongSequence);
        }
        self.outbox.acknowledge(seq, confirmed).ok_or(Violation::WrongSequence)
    }

    fn check_incoming(&self, payload: &Payload) -> Result<(), Violation> {
        if payload.bytes.len() > self.limits.max_message { Err(Violation::PayloadTooLarge) } else { Ok(()) }
    }

    /// Takes a whole frame about calls and notifications.
    pub(crate) fn handle(&mut self, frame: PeerFrame) -> Result<Option<PeerEvent>, Violation> {
        Ok(match frame {
            PeerFrame::Call { id, name, key, credit, payload } => {
                let known_as = self.call_came(id, credit, &payload)?;
                known_as.map(|id| PeerEvent::Call { id, name, key, credit, payload })
            }
            PeerFrame::Reply { id, payload } => {
                self.check_incoming(&payload)?;
                self.settled(id, Outcome::Reply(payload))
            }
            PeerFrame::Fail { id, failure } => {
                failure.data.as_ref().map_or(Ok(()), |data| self.check_incoming(data))?;
                self.settled(id, Outcome::Failed(failure))
            }
            // Who asked for a reply gets one.
            PeerFrame::End(id) if self.asked.is_unary(id) => return Err(Violation::UnexpectedFrame),
            PeerFrame::End(id) => self.settled(id, Outcome::End),
            PeerFrame::Item { id, payload } => {
                self.check_incoming(&payload)?;
                self.asked.item(id)?.then_some(PeerEvent::Item { id, payload })
            }
            PeerFrame::Credit { id, more } => self.serving.credit(id, more).map(PeerEvent::Credit),
            PeerFrame::Cancel(id) => self.serving.cancel(id).map(PeerEvent::Cancelled),
            PeerFrame::Notify { name, payload, .. } => {
                self.check_incoming(&payload)?;
                Some(PeerEvent::Message { name, payload, volatile: false })
            }
            PeerFrame::Volatile { name, payload } => {
                self.check_incoming(&payload)?;
                Some(PeerEvent::Message { name, payload, volatile: true })
            }
            PeerFrame::Ping(_) | PeerFrame::Pong(_) | PeerFrame::Seq(_) | PeerFrame::Ack(_) => None,
        })
    }

    /// Takes a call, or what is answered like one. Gives the number that the application knows it by.
    pub(crate) fn call_came(
        &mut self,
        id: CallId,
        credit: Option<u64>,
        payload: &Payload,
    ) -> Result<Option<CallId>, Violation> {
        self.check_incoming(payload)?;
        let known_as = self.serving.begin(id, credit)?;
        if known_as.is_none() {
            self.say(id.0, PeerFrame::Fail { id, failure: Failure::of(Code::TOO_MANY_CALLS) });
        }
        Ok(known_as)
    }

    fn settled(&mut self, id: CallId, outcome: Outcome) -> Option<PeerEvent> {
        self.asked.settle(id).map(|_| PeerEvent::Settled { id, outcome })
    }

    // ---- time and records ----

    /// The next call whose time is over.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<CallId> {
        let (id, way) = self.asked.expire(now)?;
        self.give_up(id, way);
        Some(id)
    }

    /// When a call's time is over.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.asked.deadline()
    }

    /// When an acknowledgement is due.
    pub(crate) fn ack_deadline(&self) -> Option<Timestamp> {
        self.inbox.deadline()
    }

    /// Finds out whether an acknowledgement is due.
    pub(crate) fn acknowledge_in_time(&mut self, now: Timestamp) {
        self.inbox.handle_timeout(now);
    }

    /// Queues the acknowledgement of what has come since the last one.
    pub(crate) fn acknowledge(&mut self) {
        if let Some(seq) = self.inbox.owed() {
            self.inbox.told();
            self.outbox.control(PeerFrame::Ack(seq).encode());
        }
    }

    /// The endpoint is closed for good: every open call with its outcome.
    pub(crate) fn close(&mut self) -> Vec<(CallId, Outcome)> {
        self.outbox.clear();
        self.starved = false;
        let outcome = |way| match way {
            Way::Waits => Outcome::NotSent,
            Way::WaitsAgain | Way::Transmitted => Outcome::Unknown,
        };
        self.asked.lose_all().into_iter().map(|(id, way)| (id, outcome(way))).collect()
    }

    /// Takes out the calls that this side was to answer.
    pub(crate) fn abandon(&mut self) -> Vec<CallId> {
        self.serving.abandon()
    }

    /// The largest payload that the other side takes.
    pub(crate) fn most(&self) -> usize {
        self.max_message
    }

    pub(crate) fn has_output(&self) -> bool {
        self.outbox.has_output() || self.inbox.is_overdue()
    }

    pub(crate) fn is_overfull(&self) -> bool {
        self.outbox.is_overfull(self.max_message)
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.waiting_bytes()
    }

    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.outbox.bytes(), self.outbox.frames())
    }

    pub(crate) fn undelivered(&self) -> usize {
        self.outbox.undelivered()
    }

    /// Moves into the record what fits up to `end`. What is to be acknowledged goes along.
    pub(crate) fn pack(&mut self, record: &mut BytesMut, end: usize) {
        self.acknowledge();
        self.outbox.pack(record, end, |id| self.asked.transmitted(id));
    }
}
