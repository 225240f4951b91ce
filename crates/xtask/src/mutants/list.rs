//! The mutants: one thing that somebody would get wrong, each.

use super::Mutant;

/// Files are those below `crates/protocol/src`.
pub(super) const MUTANTS: &[Mutant] = &[
    // What this side has to say.
    Mutant("session/outbox.rs", "self.bytes -= unit.body.len();", ""),
    Mutant("session/outbox.rs", "self.carried = self.carried.saturating_sub(units);", ""),
    Mutant("session/outbox.rs", "self.carried = self.carried.saturating_sub(units);", "self.carried = 0;"),
    Mutant("session/outbox.rs", "if units > self.unacked.len() {", "if units > self.unacked.len() + 1 {"),
    Mutant("session/outbox.rs", "Seq(self.acked.0 + 1)\n", "Seq(self.acked.0 + 2)\n"),
    Mutant("session/outbox.rs", "Seq(self.acked.0 + 1)\n", "Seq(self.acked.0.max(1))\n"),
    Mutant("session/outbox.rs", "(Role::Notify(Some(receipt)), true) =", "(Role::Notify(Some(receipt)), _) ="),
    Mutant("session/outbox.rs", "lost.extend(self.bulk.take().map(|bulk| bulk.message));", "self.bulk = None;"),
    Mutant("session/outbox.rs", ".filter(|unit| unit.last).map(|unit| unit.message)", ".map(|unit| unit.message)"),
    Mutant("session/outbox.rs", "self.queue.retain(|message| message.role != Role::Dependent);", ""),
    Mutant("session/outbox.rs", "        self.give_back_bulk();\n        let mut lost", "        let mut lost"),
    Mutant(
        "session/outbox.rs",
        "self.queue.push_front(message);\n    }\n\n    /// Drops",
        "self.queue.push_back(message);\n    }\n\n    /// Drops",
    ),
    Mutant(
        "session/outbox.rs",
        "if let Role::Call(id) = unit.message.role {",
        "if let (Role::Call(id), true) = (unit.message.role, unit.last) {",
    ),
    Mutant(
        "session/outbox.rs",
        "front.is_large() || busy(&bulk.message) || self.behind.iter().any(busy)",
        "front.is_large() || busy(&bulk.message)",
    ),
    Mutant(
        "session/outbox.rs",
        "front.is_large() || busy(&bulk.message) || self.behind.iter().any(busy)",
        "front.is_large()",
    ),
    Mutant(
        "session/outbox.rs",
        "self.behind.append(&mut self.queue);\n        std::mem::swap(&mut self.behind, &mut self.queue);",
        "self.queue.append(&mut self.behind);",
    ),
    Mutant(
        "session/outbox.rs",
        "            self.bulk = None;\n            self.join_queues();",
        "            self.bulk = None;",
    ),
    Mutant("session/outbox.rs", "self.bytes < self.max_bytes && self.frames() < self.max_frames", "true"),
    Mutant("session/outbox.rs", "self.volatile.clear();\n        self.volatile_bytes = 0;", "self.volatile_bytes = 0;"),
    Mutant("session/outbox.rs", "self.control.push_front(frame);", "self.control.push_back(frame);"),
    Mutant(
        "session/outbox.rs",
        "seq.0 <= self.acked.0 + self.carried as u64",
        "seq.0 < self.acked.0 + self.carried as u64",
    ),
    Mutant(
        "session/outbox.rs",
        "self.control.len() > self.max_frames.max(CONTROL_FRAMES)",
        "self.control.len() > self.max_frames",
    ),
    // What has come.
    Mutant("session/inbox.rs", "if seq <= self.received {", "if seq < self.received {"),
    Mutant("session/inbox.rs", "if seq <= self.received {", "if false {"),
    Mutant("session/inbox.rs", "        self.received = seq;\n", "        self.received = Seq(seq.0 + 1);\n"),
    Mutant("session/inbox.rs", "next.0 += 1;", "next.0 += 2;"),
    Mutant("session/inbox.rs", "        self.next = None;\n", ""),
    Mutant("session/inbox.rs", "_ if at_once => Owed::Now,", ""),
    Mutant("session/inbox.rs", "self.received.min(carried)", "self.received"),
    // Both together.
    Mutant("session.rs", "self.inbox = Inbox::new(self.limits.max_message);", ""),
    Mutant(
        "session.rs",
        "Serving::new(self.limits.max_calls_in_flight, self.serving.newest())",
        "Serving::new(self.limits.max_calls_in_flight, 0)",
    ),
    Mutant("session.rs", ".filter(|message| !goes_again(message.role))", ""),
    Mutant("session.rs", "after.again.into_iter().rev()", "after.again.into_iter()"),
    Mutant("session.rs", "            self.say(MAIN_LANE, PeerFrame::Cancel(id));", "            let _ = id;"),
    // Calls.
    Mutant("calls.rs", "                    open.transmitted = false;\n", ""),
    Mutant("calls.rs", "after.unknown.push(open.id);\n", ""),
    Mutant("calls.rs", "open.again = None;", ""),
    Mutant("calls.rs", "        *credit -= 1;\n        Ok(Some(*id))", "        Ok(Some(*id))"),
    Mutant("calls.rs", "known_as.0.checked_sub(self.before).map(CallId)", "Some(known_as)"),
    Mutant("calls.rs", "open.deadline = None;", ""),
    // Keys.
    Mutant("cipher.rs", "self.nonce = Nonce(self.nonce.0 + 1);", "self.nonce = Nonce(self.nonce.0);"),
    Mutant(
        "cipher.rs",
        "            self.aead = Aead::new(self.suite, &key);\n",
        "            self.aead = Aead::new(self.suite, &key);\n            self.nonce = Nonce(0);\n",
    ),
    Mutant("cipher.rs", "self.records = 0;\n            self.bytes", "self.bytes"),
    // Who gets what back, and when.
    Mutant("session/registry.rs", "self.proof.matches(&other.proof) && ", ""),
    Mutant("session/registry.rs", " && self.subject == other.subject", ""),
    Mutant("session/registry.rs", "if resume.epoch != self.epoch {", "if false {"),
    Mutant(
        "session/registry.rs",
        "        if let Some(parked) = parked {\n            self.parked.remove(&parked);\n        }\n",
        "        let _ = parked;\n",
    ),
    Mutant("server.rs", "if asked.attempt <= self.attempt {", "if false {"),
    Mutant(
        "server.rs",
        "Phase::Parked { until } if *until <= now => self.end(Ended::Lost(ResetReason::Expired)),",
        "Phase::Parked { until } if *until <= now => {}",
    ),
    Mutant("server.rs", "        self.session.disconnect();\n        self.congested = false;\n", ""),
    Mutant(
        "client.rs",
        "        self.session.disconnect();\n        self.fail(now, failure);",
        "        self.fail(now, failure);",
    ),
    Mutant(
        "heartbeat.rs",
        "State::Probing { until } if now - until < LATE => Due::Dead,",
        "State::Probing { .. } => Due::Dead,",
    ),
    Mutant("heartbeat.rs", "        self.state = State::Alive { until: now + self.config.idle };\n", ""),
];
