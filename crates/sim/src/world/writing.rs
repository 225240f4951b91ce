//! What is written to channels, what is kept of it, and what a client may.

use moorline_engine::{Append, Engine, EngineError, Most, OpId};
use moorline_protocol::{
    channel::{Position, Snapshot},
    frame::{CallId, Failure, Request},
    payload::Payload,
    scope::Verb,
};

use super::{
    channels::{Job, failed, now, scopes},
    names::{id_of, number_of},
    past::Fact,
    *,
};

/// Who writes as the server.
const NOBODY: u32 = u32::MAX;

impl World<'_> {
    /// Adds an entry. Gives where it is, and whether it was there already.
    fn append_entry(
        &mut self,
        channel: usize,
        number: u64,
        author: u32,
        content: Payload,
        op: Option<OpId>,
    ) -> Result<Position, Broken> {
        let at = UnixMillis(self.now);
        let channels = self.server_channels()?;
        channels.note_epoch(channel)?;
        let append = Append { op, ..Append::new(content.bytes, at, channels.retention()) };
        let appended = now(channels.engine.append(&id_of(channel), append)).map_err(|error| failed(&error))?;
        let Position { epoch, mark } = appended.position;
        channels.order += 1;
        let order = channels.order;
        let past = channels.disk_mut().pasts.entry(epoch).or_default();
        if appended.repeated {
            let known = past.at(mark).is_some_and(|fact| fact.number == number);
            hold!(known, "C5", "{number} is said to be at {mark:?} already");
            self.counters.add(Counter::WriteRepeated);
        } else {
            hold!(past.numbers.insert(number), "C5", "{number} is there twice");
            past.facts.push(Fact { mark, number, author, order });
        }
        self.pass_on()?;
        Ok(appended.position)
    }

    /// The server's application appends.
    pub(super) fn server_appends(&mut self, channel: usize, size: usize, count: u32, mixed: bool) -> Held {
        for place in 0..count {
            let size = if mixed && place % 3 != 0 { 20 } else { size };
            let channels = self.server_channels()?;
            channels.number += 1;
            let number = channels.number;
            let content = Head { number, work: NOBODY, ..Head::default() }.payload(size);
            self.append_entry(channel, number, NOBODY, content, None)?;
        }
        Ok(())
    }

    /// A client wants something done.
    pub(super) fn write_arrives(&mut self, book: usize, write: Request) -> Held {
        let client = self.books[book].client;
        let channels = self.server_channels()?;
        let most = channels.setting.reading;
        let channel = number_of(&write.name).unwrap_or_default();
        let might = channels.may(client, Verb::TopicPublish, channel)?;
        self.later_job(Job::Write(book, Box::new(write), might), most)
    }

    pub(super) fn apply(&mut self, book: usize, write: Request, might: bool) -> Held {
        let Book { client, socket, over, .. } = self.books[book];
        if over {
            return Ok(());
        }
        let Request { id, name, key, payload, .. } = write;
        let Some(channel) = number_of(&name) else {
            return Err(Broken { invariant: "C5", detail: format!("{name:?} is written to"), at: 0 });
        };
        let head = Head::read(&payload)?;
        let may = self.server_channels()?.may(client, Verb::TopicPublish, channel)?;
        if might && !may {
            self.counters.add(Counter::ScopeTakenUnderWay);
        }
        let wrote = self.clients[client].channels.wrote.iter_mut().find(|wrote| wrote.number == head.number);
        let Some(wrote) = wrote.filter(|wrote| wrote.keyed == key.is_some() && wrote.channel == channel) else {
            return Err(Broken { invariant: "C5", detail: format!("{} was not written so", head.number), at: 0 });
        };
        let answer = if may {
            wrote.applied += 1;
            hold!(wrote.applied == 1 || wrote.keyed, "C5", "{} was applied {} times", head.number, wrote.applied);
            let op = key.map(|_| OpId(u128::from(head.number).to_le_bytes()));
            let position = self.append_entry(channel, head.number, client as u32, payload, op)?;
            self.hear_words(socket)?;
            if let Some(wrote) = self.clients[client].channels.wrote.iter_mut().find(|one| one.number == head.number) {
                wrote.positions.push(position);
            }
            Ok(Payload::bytes(position.to_bytes()))
        } else {
            wrote.refused = true;
            self.counters.add(Counter::WriteForbidden);
            Err(Failure::of(Code::FORBIDDEN))
        };
        self.answer_write(book, id, answer)
    }

    fn answer_write(&mut self, book: usize, id: CallId, answer: Result<Payload, Failure>) -> Held {
        let Book { socket, over, .. } = self.books[book];
        if let Some(served) = self.endpoints.get_mut(&socket).filter(|_| !over) {
            let answered = served.endpoint.answer(id, answer);
            hold!(answered.is_ok(), "C5", "a write could not be answered: {answered:?}");
        }
        self.turn_server(socket)
    }

    pub(super) fn keep_snapshot(&mut self, channel: usize, behind: u64) -> Held {
        let (at, padding) = (UnixMillis(self.now), self.rng.pick(&[0, 0, 96_000, 150_000]));
        let channels = self.server_channels()?;
        let epoch = channels.bounds(channel)?.epoch;
        let Some(past) = channels.disk().pasts.get(&epoch) else { return Ok(()) };
        let Some(upto) = past.facts.len().checked_sub(behind as usize).filter(|upto| *upto > 0) else { return Ok(()) };
        let mut content: Vec<u8> = past.facts[..upto].iter().flat_map(|fact| fact.number.to_le_bytes()).collect();
        // No entry has the number 0.
        content.resize(content.len() + padding, 0);
        let covers = Position { epoch, mark: past.facts[upto - 1].mark };
        let snapshot = Snapshot { covers, at, content: content.into() };
        match now(channels.engine.keep_snapshot(&id_of(channel), snapshot, Most::default())) {
            Ok(()) => self.counters.add(Counter::SnapshotKept),
            Err(EngineError::Superseded | EngineError::UnknownPosition) => {}
            Err(error) => return Err(failed(&error)),
        }
        Ok(())
    }

    pub(super) fn remove_channel(&mut self, channel: usize) -> Held {
        let channels = self.server_channels()?;
        let removed = now(channels.engine.remove(&id_of(channel))).map_err(|error| failed(&error))?;
        channels.note_epoch(channel)?;
        if removed {
            self.counters.add(Counter::ChannelRemoved);
        }
        self.pass_on()
    }

    pub(super) fn copy_disk(&mut self) -> Held {
        let seed = self.script.seed;
        let channels = self.server_channels()?;
        channels.copies += 1;
        let engine = channels.engine.copy(Rng::of(seed, 9, channels.copies).array());
        let disks = channels.disk().clone();
        channels.copy = Some((engine, disks));
        Ok(())
    }

    /// What a client may changes, for what it follows already and for what waits.
    pub(super) fn grant(&mut self, client: usize, follow: u8, write: u8) -> Held {
        let channels = self.server_channels()?;
        channels.order += 1;
        let taken = channels.grants[client].0 & !follow;
        if taken != 0 {
            channels.taken.push((client, taken, channels.order));
        }
        channels.grants[client] = (follow, write, scopes(follow, write));
        let mut forbidden = Vec::new();
        for (place, follower) in channels.followers.iter().filter(|(_, follower)| follower.client == client) {
            if !channels.may(client, Verb::TopicSubscribe, follower.channel)? {
                forbidden.push(*place);
            }
        }
        for (socket, handle) in forbidden {
            self.counters.add(Counter::ScopeTaken);
            self.forget_channel(socket, handle)?;
            if let Some(served) = self.endpoints.get_mut(&socket) {
                served.endpoint.close_channel(handle, Code::FORBIDDEN, "");
            }
            self.turn_server(socket)?;
        }
        Ok(())
    }
}
