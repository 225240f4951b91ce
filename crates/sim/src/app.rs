//! The application at one end: it says what the script wants, answers what it is asked, and keeps book of all of it.

mod hear;
mod port;

use std::{collections::BTreeMap, time::Duration};

use moorline_protocol::{
    PeerEvent,
    code::Code,
    error::Refused,
    frame::{CallId, Failure},
    payload::{Name, Payload},
    session::{CallOptions, Outcome, Receipt, Unconfirmed},
};

pub(crate) use self::port::{At, Port};
use crate::{
    agenda::{Agenda, Later, Who},
    broken::{Broken, Held, hold},
    counters::{Counter, Counters},
    message::{Head, Label, Lane},
    script::{CallPlan, Caps, Say},
};

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Answered,
    TimedOut,
    Unknown,
    NotSent,
    Cancelled,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: CallId,
    plan: CallPlan,
    due: Option<u64>,
    pub(crate) how: Option<How>,
    next_item: u32,
    owed: u32,
    /// The connection on which the newest item came.
    connection: Option<u64>,
}

/// One message of the main lane, and all that is known of its fate.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) label: Label,
    pub(crate) call: Option<Asked>,
    receipt: Option<Receipt>,
    /// Whether a record of this session took a byte of it. Known where the wire can be read.
    pub(crate) carried: bool,
    /// Whether a record ever did.
    ever: bool,
    /// Whether the other side's application has got it, in some session.
    pub(crate) delivered: bool,
    /// The session whose reset said that nobody knows.
    pub(crate) listed: Option<u64>,
    pub(crate) confirmed: bool,
    applied: u32,
    /// The connection on which it was said, and the newest that carried it.
    connection: u64,
    carried_on: Option<u64>,
}

impl Sent {
    /// Whether it may be missing where a later one is delivered.
    fn may_be_missing(&self, precise: bool) -> bool {
        let withdrawn = self.call.as_ref().is_some_and(|call| call.how.is_some()) && !(precise && self.carried);
        self.delivered || self.listed.is_some() || withdrawn
    }
}

/// How far somebody has read of a lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    place: usize,
    volatile: u64,
    volatile_broadcast: u64,
}

/// A handler at work.
#[derive(Clone, Debug)]
struct Task {
    head: Head,
    stream: bool,
    next: u32,
    waiting: bool,
    session: u64,
}

/// What the world lends an application.
pub(crate) struct Ctx<'a> {
    pub(crate) now: u64,
    pub(crate) who: Who,
    /// Which session of the world it speaks in, and on which connection.
    pub(crate) session: u64,
    pub(crate) connection: u64,
    /// Whether the wire can be read.
    pub(crate) precise: bool,
    pub(crate) agenda: &'a mut Agenda,
    pub(crate) counters: &'a mut Counters,
    /// Keys that the server has seen; `None` on the client.
    pub(crate) keys: Option<&'a mut BTreeMap<String, u32>>,
}

#[derive(Debug)]
pub(crate) struct App {
    lane: Lane,
    owner: u64,
    pub(crate) sent: Vec<Sent>,
    /// Whether the other side may have too many calls already: then one is not handed on but failed.
    may_be_refused: bool,
    /// Whether the other side's answers may be too many for what it keeps: then one becomes a failure.
    may_be_too_large: bool,
    by_call: BTreeMap<CallId, usize>,
    by_receipt: BTreeMap<Receipt, usize>,
    volatile: u64,
    pub(crate) volatile_said: u64,
    pub(crate) volatile_heard: u64,
    tasks: BTreeMap<CallId, Task>,
    newest_served: CallId,
    /// Answers since everything was confirmed.
    pub(crate) answers: u32,
    /// Calls that a reset has made unknown and that have to settle at once.
    to_settle: Vec<CallId>,
}

impl App {
    /// The application that says `lane`, to a side with the caps `theirs`; it takes messages up to `largest` itself.
    pub(crate) fn new(lane: Lane, owner: u64, theirs: &Caps, largest: usize) -> Self {
        let may_be_refused = theirs.calls < 1_024;
        let may_be_too_large = 8 * (theirs.bytes + largest) < 8 * 1024 * 1024;
        Self {
            lane,
            owner,
            sent: Vec::new(),
            may_be_refused,
            may_be_too_large,
            by_call: BTreeMap::new(),
            by_receipt: BTreeMap::new(),
            volatile: 0,
            volatile_said: 0,
            volatile_heard: 0,
            tasks: BTreeMap::new(),
            newest_served: CallId(0),
            answers: 0,
            to_settle: Vec::new(),
        }
    }

    fn label(&self) -> Label {
        Label { lane: self.lane, owner: self.owner, number: self.sent.len() as u64 + 1 }
    }

    fn keep(&mut self, label: Label, call: Option<Asked>, receipt: Option<Receipt>, connection: u64) {
        let place = self.sent.len();
        if let Some(call) = &call {
            self.by_call.insert(call.id, place);
        }
        if let Some(receipt) = receipt {
            self.by_receipt.insert(receipt, place);
        }
        self.sent.push(Sent {
            label,
            call,
            receipt,
            carried: false,
            ever: false,
            delivered: false,
            listed: None,
            confirmed: false,
            applied: 0,
            connection,
            carried_on: None,
        });
    }

    /// Does what the script wants said.
    pub(crate) fn say(&mut self, ctx: &mut Ctx<'_>, port: &mut impl Port, say: Say) -> Held {
        match say {
            Say::Notify { size, count, mixed, receipt } => {
                for place in 0..count {
                    let size = if mixed && place % 3 != 0 { 20 } else { size };
                    let label = self.label();
                    let head = Head { number: label.number, ..Head::default() };
                    match port.notify(label.name(), head.payload(size), receipt) {
                        Ok(receipt) => self.keep(label, None, receipt, ctx.connection),
                        Err(refused) => Self::refused(ctx, refused)?,
                    }
                }
            }
            Say::Volatile { size, count } => {
                for _ in 0..count {
                    self.volatile += 1;
                    let label = Label { lane: Lane::Volatile, owner: self.owner, number: self.volatile };
                    let head = Head { number: label.number, ..Head::default() };
                    match port.volatile(label.name(), head.payload(size)) {
                        Ok(()) => self.volatile_said += 1,
                        Err(refused) => Self::refused(ctx, refused)?,
                    }
                }
            }
            Say::Call(plan, count) => {
                for _ in 0..count {
                    self.call(ctx, port, plan)?;
                }
            }
            Say::Close(_) | Say::RetryNow | Say::Ping => {}
        }
        Ok(())
    }

    fn refused(ctx: &mut Ctx<'_>, refused: Refused) -> Held {
        hold!(matches!(refused, Refused::Backpressure | Refused::Closed), "S7", "a message was refused: {refused:?}");
        if refused == Refused::Backpressure {
            ctx.counters.add(Counter::Backpressure);
        }
        Ok(())
    }

    fn call(&mut self, ctx: &mut Ctx<'_>, port: &mut impl Port, plan: CallPlan) -> Held {
        let label = self.label();
        let keyed = plan.keyed && self.lane == Lane::Up;
        let plan = CallPlan { keyed, ..plan };
        let mut options = CallOptions::default();
        options.timeout = plan.timeout.map(Duration::from_millis);
        options.key = keyed.then(|| Name::new(&format!("k{label}")).expect("a name"));
        options.credit = plan.stream.map(|(_, credit)| u64::from(credit));
        match port.call(label.name(), Head::of(label.number, &plan).payload(plan.size), options) {
            Ok(id) => {
                hold!(!self.by_call.contains_key(&id), "S7", "two calls have the number {id:?}");
                let due = plan.timeout.map(|timeout| ctx.now + timeout);
                let asked = Asked { id, plan, due, how: None, next_item: 0, owed: 0, connection: None };
                self.keep(label, Some(asked), None, ctx.connection);
                match plan.cancel {
                    Some(0) => self.cancel(ctx, port, id),
                    Some(after) => ctx.agenda.at(ctx.now + after, Later::Cancel(ctx.who, id)),
                    None => {}
                }
                Ok(())
            }
            Err(refused) => Self::refused(ctx, refused),
        }
    }

    /// The caller gives up.
    pub(crate) fn cancel(&mut self, ctx: &mut Ctx<'_>, port: &mut impl Port, id: CallId) {
        let Some(sent) = self.by_call.get(&id).map(|place| &mut self.sent[*place]) else { return };
        let carried = sent.carried;
        let Some(call) = sent.call.as_mut().filter(|call| call.how.is_none()) else { return };
        call.how = Some(How::Cancelled);
        ctx.counters.add(Counter::Cancelled);
        if ctx.precise && !carried {
            ctx.counters.add(Counter::Withdrawn);
        }
        port.cancel(id);
    }

    /// A broadcast to this one was taken.
    pub(crate) fn keep_broadcast(&mut self, number: u64, connection: u64) {
        self.keep(Label { lane: Lane::Broadcast, owner: 0, number }, None, None, connection);
    }

    /// A record took a byte of a message. Gives whether one of an earlier connection of this session had, too.
    pub(crate) fn carried(&mut self, label: Label, connection: u64) -> Result<bool, Broken> {
        let found = match label.lane {
            Lane::Broadcast => self.sent.iter_mut().find(|sent| sent.label == label),
            _ => usize::try_from(label.number).ok().and_then(|number| self.sent.get_mut(number.wrapping_sub(1))),
        };
        let Some(sent) = found.filter(|sent| sent.label == label) else {
            return Err(Broken { invariant: "S1", detail: format!("{label} was never said"), at: 0 });
        };
        hold!(sent.listed.is_none(), "S3", "{label} is sent although a reset has listed it");
        let again = sent.carried && sent.carried_on.replace(connection).is_some_and(|before| before != connection);
        sent.carried_on = Some(connection);
        (sent.carried, sent.ever) = (true, true);
        Ok(again)
    }

    /// Says what it always says in a new session.
    pub(crate) fn greet(&mut self, ctx: &mut Ctx<'_>, port: &mut impl Port, count: u32) -> Held {
        // Some of the answers come when this session is gone and the next one has calls of the same numbers.
        for work in [30, 4_000, 25_000].into_iter().take(count as usize) {
            let plan = CallPlan { size: 40, reply: 40, timeout: Some(40_000), work, ..CallPlan::default() };
            self.say(ctx, port, Say::Call(plan, 1))?;
            self.say(ctx, port, Say::Notify { size: 40, count: 1, mixed: false, receipt: false })?;
        }
        Ok(())
    }

    /// The session was lost, and nobody knows of these.
    pub(crate) fn reset(&mut self, ctx: &mut Ctx<'_>, unconfirmed: &[Unconfirmed]) -> Held {
        let mut after = 0;
        for Unconfirmed { name, call, receipt } in unconfirmed {
            let place = Label::read(name).and_then(|label| (label.number as usize).checked_sub(1));
            let Some((place, sent)) = place.and_then(|place| Some((place, self.sent.get_mut(place)?))) else {
                return Err(Broken { invariant: "S3", detail: format!("{name:?} was never said"), at: 0 });
            };
            hold!(place >= after, "S3", "{name:?} is listed out of order");
            after = place + 1;
            hold!(!sent.confirmed && sent.listed.is_none(), "S3", "{name:?} was told of before");
            hold!(sent.carried || !ctx.precise, "S3", "{name:?} is listed and was never sent");
            hold!(sent.receipt == *receipt, "S3", "{name:?} is listed with {receipt:?}");
            hold!(sent.call.as_ref().map(|call| call.id) == *call, "S3", "{name:?} is listed with {call:?}");
            sent.listed = Some(ctx.session);
            ctx.counters.add(Counter::Unconfirmed);
        }
        for sent in &mut self.sent {
            let open = sent.call.as_mut().filter(|call| call.how.is_none());
            let is_open = open.is_some();
            if let Some(call) = open {
                // A stream that has begun would begin anew, so it does not.
                if call.plan.keyed && call.next_item == 0 {
                    // It goes out again whole, if it was out.
                    if sent.carried {
                        ctx.counters.add(Counter::KeyedAgain);
                    }
                } else if sent.carried {
                    self.to_settle.push(call.id);
                }
            }
            let keyed = sent.call.as_ref().is_some_and(|call| call.plan.keyed && call.next_item == 0);
            if !sent.carried && !sent.delivered && sent.listed.is_none() && (sent.call.is_none() || is_open) {
                ctx.counters.add(Counter::CarriedOver);
            }
            if ctx.precise && sent.carried && sent.listed.is_none() {
                let keyed = keyed || self.may_be_refused && sent.call.is_some();
                hold!(sent.delivered || keyed, "S3", "{} was sent, is not listed, and did not arrive", sent.label);
            }
            if ctx.precise && sent.receipt.is_some() && sent.carried {
                hold!(sent.listed.is_some() || sent.confirmed || sent.delivered, "S3", "the receipt of {}", sent.label);
            }
            sent.carried = false;
        }
        Ok(())
    }

    /// The next session begins: what the reset made unknown must be settled.
    pub(crate) fn session_begins(&mut self, precise: bool) -> Held {
        hold!(!precise || self.to_settle.is_empty(), "S2", "{:?} did not settle at the reset", self.to_settle);
        self.to_settle.clear();
        Ok(())
    }

    /// The application is gone.
    pub(crate) fn forget(&mut self) {
        self.tasks.clear();
    }

    /// Calls that nobody has settled.
    pub(crate) fn open_calls(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| sent.call.as_ref().is_some_and(|call| call.how.is_none()))
    }

    /// Whether nothing is under way any more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Those of which the other side knows nothing, although it should.
    pub(crate) fn missing(&self, precise: bool) -> impl Iterator<Item = &Sent> {
        let refused = self.may_be_refused;
        self.sent.iter().filter(move |sent| !(sent.may_be_missing(precise) || refused && sent.call.is_some()))
    }

    /// Receipts that nobody hears of any more.
    pub(crate) fn unheard(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| sent.receipt.is_some() && !sent.confirmed && sent.listed.is_none())
    }
}
