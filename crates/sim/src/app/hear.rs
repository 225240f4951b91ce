//! What an application hears, and what it does about it: it looks whether that may come now, and answers.

use super::*;

impl App {
    /// The other side's application got a message of this one.
    fn deliver(&mut self, reading: &mut Reading, name: &Name, ctx: &Ctx<'_>) -> Result<&mut Sent, Broken> {
        let label = Label::read(name);
        for place in reading.place..self.sent.len() {
            let sent = &self.sent[place];
            if Some(sent.label) == label {
                // Records of the session that was given up may still be under way.
                let before = sent.listed.is_some_and(|session| session != ctx.session);
                hold!(!before, "S3", "{name:?} was listed as unconfirmed before and comes now");
                reading.place = place + 1;
                let sent = &mut self.sent[place];
                sent.delivered = true;
                return Ok(sent);
            }
            let refused = self.may_be_refused && sent.call.is_some();
            hold!(refused || sent.may_be_missing(ctx.precise), "S1", "{name:?} came before {}: {sent:?}", sent.label);
        }
        let detail = format!("{name:?} came out of order, twice, or from nowhere; {} read", reading.place);
        Err(Broken { invariant: "S1", detail, at: 0 })
    }

    /// Something came from the other side, whose book is `theirs`.
    pub(crate) fn hear(
        &mut self,
        ctx: &mut Ctx<'_>,
        port: &mut impl Port,
        event: PeerEvent,
        theirs: &mut App,
        reading: &mut Reading,
    ) -> Held {
        match event {
            PeerEvent::Call { id, name, key, credit, payload } => {
                let head = Head::read(&payload)?;
                let sent = theirs.deliver(reading, &name, ctx)?;
                hold!(sent.label.number == head.number, "S1", "{name:?} has the argument of {}", head.number);
                hold!(id > self.newest_served, "S7", "call {id:?} comes after {:?}", self.newest_served);
                hold!(sent.call.is_some(), "S1", "{name:?} was a notification");
                self.newest_served = id;
                let seen = match (&key, &mut ctx.keys, credit) {
                    (Some(key), Some(keys), None) => {
                        let times = keys.entry(key.as_str().to_owned()).or_default();
                        *times += 1;
                        *times > 1
                    }
                    _ => false,
                };
                if seen {
                    ctx.counters.add(Counter::Deduplicated);
                } else {
                    sent.applied += 1;
                    let once = sent.applied == 1 || key.is_some();
                    hold!(once, "S7", "{name:?} was applied {} times", sent.applied);
                }
                let session = ctx.session;
                let stream = credit.is_some();
                self.tasks.insert(id, Task { head, stream, next: 0, waiting: false, session });
                match head.work {
                    0 => self.work(ctx, port, id),
                    work => ctx.agenda.at(ctx.now + u64::from(work), Later::Work(ctx.who, id)),
                }
            }
            PeerEvent::Cancelled(id) => match self.tasks.get(&id) {
                Some(task) if !task.head.stubborn => drop(self.tasks.remove(&id)),
                // What it still says is passed over.
                Some(task) if task.waiting => self.work(ctx, port, id),
                Some(_) | None => {}
            },
            PeerEvent::Credit(id) => {
                if self.tasks.get(&id).is_some_and(|task| task.stream && task.waiting) {
                    self.work(ctx, port, id);
                }
            }
            PeerEvent::Room => {
                let waiting = self.tasks.iter().filter(|(_, task)| task.waiting).map(|(id, _)| *id);
                for id in waiting.collect::<Vec<_>>() {
                    self.work(ctx, port, id);
                }
            }
            PeerEvent::Message { name, payload, volatile: false } => {
                let head = Head::read(&payload)?;
                let sent = theirs.deliver(reading, &name, ctx)?;
                hold!(sent.label.number == head.number, "S1", "{name:?} has the payload of {}", head.number);
                hold!(sent.call.is_none(), "S1", "{name:?} was a call");
            }
            PeerEvent::Message { name, payload, volatile: true } => {
                let head = Head::read(&payload)?;
                let last = match Label::read(&name) {
                    Some(Label { lane: Lane::Volatile, owner, number }) if owner == theirs.owner => {
                        hold!(number == head.number, "S9", "{name:?} has the payload of {}", head.number);
                        &mut reading.volatile
                    }
                    Some(Label { lane: Lane::VolatileBroadcast, .. }) => &mut reading.volatile_broadcast,
                    _ => return Err(Broken { invariant: "S9", detail: format!("{name:?} is no volatile"), at: 0 }),
                };
                hold!(head.number > *last, "S9", "volatile {} came after {last}", head.number);
                *last = head.number;
                theirs.volatile_heard += 1;
                ctx.counters.add(Counter::VolatileDelivered);
            }
            PeerEvent::Confirmed(receipt) => {
                let sent = self.by_receipt.get(&receipt).map(|place| &mut self.sent[*place]);
                let Some(sent) = sent else {
                    return Err(Broken { invariant: "S3", detail: format!("{receipt:?} was not asked for"), at: 0 });
                };
                hold!(sent.delivered, "S4", "{} is confirmed and was not delivered", sent.label);
                hold!(!sent.confirmed && sent.listed.is_none(), "S3", "{} was told of before", sent.label);
                sent.confirmed = true;
                if sent.connection != ctx.connection {
                    ctx.counters.add(Counter::ReceiptAcross);
                }
            }
            PeerEvent::Item { id, payload } => self.item(ctx, port, id, &payload)?,
            PeerEvent::Settled { id, outcome } => self.settled(ctx, id, &outcome)?,
        }
        Ok(())
    }

    fn asked(&mut self, id: CallId) -> Result<&mut Sent, Broken> {
        match self.by_call.get(&id) {
            Some(place) => Ok(&mut self.sent[*place]),
            None => Err(Broken { invariant: "S7", detail: format!("{id:?} was never called"), at: 0 }),
        }
    }

    fn item(&mut self, ctx: &mut Ctx<'_>, port: &mut impl Port, id: CallId, payload: &Payload) -> Held {
        let head = Head::read(payload)?;
        let sent = self.asked(id)?;
        let label = sent.label;
        let Some(call) = sent.call.as_mut() else { return Ok(()) };
        hold!(call.how.is_none(), "S7", "an item of {label}, which is over");
        hold!(head.number == label.number, "S13", "{label} got an item of {}", head.number);
        hold!(head.index == call.next_item, "S13", "{label} got item {} for {}", head.index, call.next_item);
        call.next_item += 1;
        call.due = None;
        if call.connection.is_some_and(|connection| connection != ctx.connection) {
            ctx.counters.add(Counter::StreamAcross);
        }
        call.connection = Some(ctx.connection);
        call.owed += 1;
        let batch = call.plan.stream.map_or(1, |(_, credit)| credit.div_ceil(2));
        if call.owed >= batch {
            let more = u64::from(std::mem::take(&mut call.owed));
            port.grant(id, more);
        }
        Ok(())
    }

    fn settled(&mut self, ctx: &mut Ctx<'_>, id: CallId, outcome: &Outcome) -> Held {
        self.to_settle.retain(|waiting| *waiting != id);
        let may_be_too_large = self.may_be_too_large;
        let sent = self.asked(id)?;
        let (label, applied, ever, said_on) = (sent.label, sent.applied, sent.ever, sent.connection);
        let Some(call) = sent.call.as_mut() else { return Ok(()) };
        hold!(call.how.is_none(), "S7", "{label} settles as {outcome:?} after {:?}", call.how);
        let plan = &call.plan;
        call.how = Some(match outcome {
            Outcome::Reply(payload) => {
                let head = Head::read(payload)?;
                hold!(head.number == label.number, "S7", "{label} got the answer to {}", head.number);
                hold!(plan.stream.is_none() && !plan.fails, "S7", "{label} got a reply");
                hold!(applied > 0, "S7", "{label} was answered and not applied");
                if said_on != ctx.connection {
                    ctx.counters.add(Counter::CallAcross);
                }
                How::Answered
            }
            Outcome::End => {
                let items = plan.stream.map(|(items, _)| items);
                hold!(items == Some(call.next_item), "S13", "{label} ended at {} of {items:?}", call.next_item);
                ctx.counters.add(Counter::StreamEnded);
                How::Answered
            }
            Outcome::Failed(failure) if failure.code == Code::TOO_MANY_CALLS => {
                hold!(applied == 0 || plan.keyed, "S7", "{label} was applied and refused");
                ctx.counters.add(Counter::TooManyCalls);
                How::Answered
            }
            Outcome::Failed(failure) if failure.code == Code::TOO_LARGE && may_be_too_large => How::Answered,
            Outcome::Failed(failure) => {
                hold!(plan.fails && failure.code == Code::APPLICATION, "S7", "{label} failed: {failure:?}");
                How::Answered
            }
            Outcome::TimedOut => {
                let due = call.due;
                hold!(due.is_some_and(|due| due <= ctx.now), "S7", "{label} timed out before {due:?}");
                ctx.counters.add(Counter::TimedOut);
                How::TimedOut
            }
            Outcome::Unknown => {
                hold!(ever || !ctx.precise, "S7", "{label} is unknown and was never sent");
                ctx.counters.add(Counter::CallUnknown);
                How::Unknown
            }
            Outcome::NotSent => {
                hold!(
                    applied == 0 && !(ever && ctx.precise),
                    "S7",
                    "{label} was not sent and was applied {applied} times"
                );
                ctx.counters.add(Counter::NotSent);
                How::NotSent
            }
        });
        Ok(())
    }

    /// A handler has an answer, or the next items.
    pub(crate) fn work(&mut self, ctx: &mut Ctx<'_>, port: &mut impl Port, id: CallId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.session != ctx.session {
            ctx.counters.add(Counter::LateAnswer);
        }
        task.waiting = false;
        if !task.stream {
            let head = task.head;
            self.tasks.remove(&id);
            let reply = Head { number: head.number, ..Head::default() }.payload(head.reply as usize);
            let result = if head.fails { Err(Failure::of(Code::APPLICATION)) } else { Ok(reply) };
            self.answers += 1;
            // What is too large was not asked for.
            let _ = port.answer(id, result);
            return;
        }
        // Much at first, and then, where the handler takes its time, little at once.
        let pace = u64::from(task.head.work.min(900));
        for _ in 0..if pace == 0 || task.next == 0 { 8 } else { 3 } {
            if task.next == task.head.items {
                self.tasks.remove(&id);
                return port.end(id);
            }
            let head = Head { number: task.head.number, index: task.next, ..Head::default() };
            if port.item(id, head.payload(task.head.reply as usize)).is_err() {
                // Credit or Room will come.
                task.waiting = true;
                return;
            }
            task.next += 1;
        }
        ctx.agenda.at(ctx.now + pace.max(1), Later::Work(ctx.who, id));
    }
}
