//! What the clients make of channels: what each has seen, and whether it may be told what it is told.

use std::collections::BTreeSet;

use moorline_protocol::{
    channel::{Gap, Kind, Mark, Members, Offset, Position, Start},
    client::{ChannelEvent, Follow, Subscription},
    error::Refused,
    frame::{CallId, RequestKind},
    payload::{Name, Payload},
    session::{CallOptions, Outcome},
};

use super::{
    channels::{Attached, data},
    names::name_of,
    past::{Fact, Filter},
    *,
};
use crate::script::{Act, Disk};

/// A channel that a client follows.
#[derive(Clone, Debug)]
pub(super) struct Following {
    subscription: Subscription,
    channel: usize,
    history: u64,
    pub(super) filter: Filter,
    /// From where it would go on.
    pub(super) seen: Option<Position>,
    /// The newest of which the application knows.
    told: Option<Position>,
    /// The entries that it has, by their numbers, from where it began.
    state: Vec<u64>,
    /// Entries since it began that had been there before, while such may come.
    before: Option<u64>,
    /// When it was opened, the last time that it began with nothing: what it had written itself before that it was to be
    /// told.
    began: u64,
    /// It began so on this connection.
    begins: bool,
    /// The newest entry that was there then.
    past: Offset,
    /// What had been there then, of what it was told.
    own: BTreeSet<u64>,
    /// A snapshot is to come.
    awaits_snapshot: bool,
    /// The socket on which it was opened last.
    opened_on: Option<usize>,
    /// Whether there is no more of it, and why.
    over: bool,
    /// Nothing of its log is to be heard.
    pub(super) held: bool,
    /// Where it was before the newest entry.
    before_newest: Option<(Option<Position>, Option<Position>)>,
    members: Members,
}

impl Following {
    /// Whether it was to be told of this.
    fn expects(&self, fact: &Fact) -> bool {
        let past = fact.order < self.began || self.own.contains(&fact.number);
        let filter = if past { Filter { quiet: None, ..self.filter } } else { self.filter };
        filter.shows_fact(fact)
    }
}

/// Something that a client wrote.
#[derive(Debug)]
pub(super) struct Wrote {
    pub(super) number: u64,
    pub(super) channel: usize,
    pub(super) keyed: bool,
    /// How often the server has done it, and where that got it.
    pub(super) applied: u32,
    pub(super) positions: Vec<Position>,
    pub(super) refused: bool,
    settled: bool,
    socket: Option<usize>,
}

/// What a client's application has to do with channels.
#[derive(Debug, Default)]
pub(super) struct ClientChannels {
    pub(super) following: Vec<Following>,
    by_subscription: BTreeMap<Subscription, usize>,
    pub(super) wrote: Vec<Wrote>,
    writes: BTreeMap<CallId, usize>,
}

impl ClientChannels {
    /// Whether this is one of its writes.
    pub(super) fn is_write(&self, id: CallId) -> bool {
        self.writes.contains_key(&id)
    }
}

impl World<'_> {
    pub(super) fn act(&mut self, client: usize, act: Act) -> Held {
        let Some(setting) = self.channels.as_ref().map(|channels| channels.setting) else { return Ok(()) };
        let of = |channel: usize| channel % setting.channels;
        match act {
            Act::Follow { channel, history, quiet, without, again } => {
                // A snapshot has everything in it.
                let sees_all = setting.snapshots;
                let filter = Filter {
                    quiet: (quiet && !sees_all).then_some(client as u32),
                    without: without.filter(|_| !sees_all),
                };
                self.follow(client, of(channel), history, filter, again)
            }
            Act::Unfollow(place) => self.unfollow(client, place),
            Act::Hold { place, back, after } => self.hold_channel(client, place, back, after),
            Act::Refollow(place) => match self.open_place(client, place) {
                Some(place) => self.go_on(client, place),
                None => Ok(()),
            },
            Act::Write { channel, size, count, keyed } => {
                for _ in 0..count {
                    self.client_writes(client, of(channel), size, keyed)?;
                }
                Ok(())
            }
            Act::Append { .. } | Act::Snapshot(..) | Act::Remove(_) if !self.is_up() => Ok(()),
            Act::Append { channel, size, count, mixed } => self.server_appends(of(channel), size, count, mixed),
            Act::Snapshot(channel, behind) if setting.snapshots => self.keep_snapshot(of(channel), behind),
            Act::Snapshot(..) => Ok(()),
            Act::Remove(channel) => self.remove_channel(of(channel)),
            Act::Copy => self.copy_disk(),
            Act::Restart(disk, away) => {
                self.counters.add(match disk {
                    Disk::Same => Counter::SameDisk,
                    Disk::Old => Counter::OldDisk,
                    Disk::Empty => Counter::EmptyDisk,
                });
                let silent = self.rng.percent(30);
                self.kill(away, silent, disk);
                Ok(())
            }
            Act::Grant { follow, write } => self.grant(client, follow, write),
        }
    }

    fn follow(&mut self, client: usize, channel: usize, history: u64, filter: Filter, again: bool) -> Held {
        // As a page does that keeps what it has when it is loaded again.
        let kept = self.clients[client].channels.following.iter().rev();
        let kept = kept.filter(|one| again && one.over && one.channel == channel && one.filter == filter);
        let kept = kept.max_by_key(|one| one.seen.map(|seen| seen.mark.offset)).cloned();
        self.follow_from(client, (channel, history, filter), kept, None)
    }

    /// From where `kept` was, and instead of another one.
    fn follow_from(
        &mut self,
        client: usize,
        (channel, history, filter): (usize, u64, Filter),
        kept: Option<Following>,
        instead: Option<Subscription>,
    ) -> Held {
        let place = self.clients[client].channels.following.len();
        let members = self.server_channels()?.setting.members;
        let follow = Follow {
            kind: Kind::Topic,
            name: name_of(channel),
            quiet: filter.quiet.is_some(),
            members,
            history,
            since: kept.as_ref().and_then(|kept| kept.seen),
            past: kept.as_ref().map_or(Offset(0), |kept| kept.past),
            data: Some(data(place, filter.without)),
            instead,
        };
        let subscription = match self.clients[client].endpoint.follow(follow) {
            Ok(subscription) => subscription,
            Err(Refused::Closed) => return Ok(()),
            Err(refused) => {
                return Err(Broken { invariant: "C7", detail: format!("a channel is refused: {refused:?}"), at: 0 });
            }
        };
        let fresh = Following {
            subscription,
            channel,
            history,
            filter,
            seen: None,
            told: None,
            state: Vec::new(),
            before: None,
            began: 0,
            begins: false,
            past: Offset(0),
            own: BTreeSet::new(),
            awaits_snapshot: false,
            opened_on: None,
            over: false,
            held: false,
            before_newest: None,
            members: Members::default(),
        };
        let following = match kept {
            Some(kept) if kept.seen.is_some() => {
                self.counters.add(Counter::FollowedOn);
                let members = Members::default();
                Following {
                    subscription,
                    history,
                    opened_on: None,
                    over: false,
                    held: false,
                    before: None,
                    members,
                    ..kept
                }
            }
            Some(_) | None => fresh,
        };
        let channels = &mut self.clients[client].channels;
        channels.by_subscription.insert(subscription, place);
        channels.following.push(following);
        self.turn_client(client)
    }

    /// One of the channels that a client follows.
    fn open_place(&self, client: usize, place: usize) -> Option<usize> {
        let following = self.clients[client].channels.following.iter().enumerate();
        let open: Vec<_> = following.filter(|(_, one)| !one.over).map(|(place, _)| place).collect();
        open.get(place % open.len().max(1)).copied()
    }

    fn unfollow(&mut self, client: usize, place: usize) -> Held {
        let Some(place) = self.open_place(client, place) else { return Ok(()) };
        let following = &mut self.clients[client].channels.following[place];
        following.over = true;
        let subscription = following.subscription;
        self.counters.add(Counter::Unfollowed);
        self.clients[client].endpoint.unfollow(subscription);
        self.turn_client(client)
    }

    fn hold_channel(&mut self, client: usize, place: usize, back: bool, after: u64) -> Held {
        let Some(place) = self.open_place(client, place) else { return Ok(()) };
        let following = &mut self.clients[client].channels.following[place];
        if std::mem::replace(&mut following.held, true) {
            return Ok(());
        }
        if let Some((told, seen)) = following.before_newest.take().filter(|_| back) {
            (following.told, following.seen) = (told, seen);
            following.state.pop();
        }
        let subscription = following.subscription;
        self.counters.add(Counter::Held);
        self.clients[client].endpoint.hold(subscription);
        self.agenda.at(self.now + after, Later::GoOn(client, place));
        self.turn_client(client)
    }

    /// Goes on with a channel that is held, or follows it in another way, if that is still wanted.
    pub(super) fn go_on(&mut self, client: usize, place: usize) -> Held {
        let following = &mut self.clients[client].channels.following[place];
        if std::mem::replace(&mut following.over, true) {
            return Ok(());
        }
        let kept = following.clone();
        if kept.held && kept.opened_on.is_some() && kept.opened_on != self.clients[client].socket {
            self.counters.add(Counter::HeldAcross);
        }
        let Following { subscription, channel, history, filter, .. } = kept;
        self.follow_from(client, (channel, history, filter), Some(kept), Some(subscription))
    }

    fn client_writes(&mut self, client: usize, channel: usize, size: usize, keyed: bool) -> Held {
        let Some(channels) = &mut self.channels else { return Ok(()) };
        channels.number += 1;
        let number = channels.number;
        let payload: Payload = Head { number, work: client as u32, ..Head::default() }.payload(size);
        let mut options = CallOptions::default();
        options.key = keyed.then(|| Name::new(&format!("w{number}")).expect("a name"));
        options.timeout = self.rng.percent(20).then(|| Duration::from_secs(10));
        let now = self.client_time(client);
        let socket = self.clients[client].socket;
        let Client { endpoint, channels, .. } = &mut self.clients[client];
        match endpoint.request(now, (RequestKind::Append, Kind::Topic), name_of(channel), payload, options) {
            Ok(id) => {
                hold!(!channels.is_write(id), "C5", "two writes have the number {id:?}");
                channels.writes.insert(id, channels.wrote.len());
                let (positions, refused, settled) = (Vec::new(), false, false);
                channels.wrote.push(Wrote { number, channel, keyed, applied: 0, positions, refused, settled, socket });
            }
            Err(Refused::Backpressure) => self.counters.add(Counter::Backpressure),
            Err(Refused::Closed) => {}
            Err(refused) => {
                return Err(Broken { invariant: "C5", detail: format!("a write is refused: {refused:?}"), at: 0 });
            }
        }
        self.turn_client(client)
    }

    /// A write of a client's has settled.
    pub(super) fn write_settled(&mut self, client: usize, id: CallId, outcome: &Outcome) -> Held {
        let socket = self.clients[client].socket;
        let channels = &mut self.clients[client].channels;
        let Some(wrote) = channels.writes.get(&id).and_then(|place| channels.wrote.get_mut(*place)) else {
            return Ok(());
        };
        let Wrote { number, keyed, applied, refused, .. } = *wrote;
        hold!(!wrote.settled, "C5", "write {number} settles again as {outcome:?}");
        wrote.settled = true;
        match outcome {
            Outcome::Reply(payload) => {
                let position = Position::from_bytes(&payload.bytes);
                let right = position.is_some_and(|position| wrote.positions.contains(&position));
                hold!(right, "C5", "write {number} is at {:?} and answered with {position:?}", wrote.positions);
                self.counters.add(Counter::WriteDone);
                if wrote.socket != socket {
                    self.counters.add(Counter::WriteAcross);
                }
            }
            Outcome::Failed(failure) if failure.code == Code::FORBIDDEN => {
                hold!(refused && (applied == 0 || keyed), "C6", "write {number} is forbidden: {wrote:?}");
            }
            Outcome::Failed(failure) => {
                let may = failure.code == Code::TOO_MANY_CALLS || failure.code == Code::TOO_LARGE;
                hold!(may, "C5", "write {number} failed: {failure:?}");
            }
            Outcome::Unknown => self.counters.add(Counter::WriteUnknown),
            Outcome::NotSent => hold!(applied == 0, "C5", "write {number} was not sent and was done"),
            Outcome::TimedOut => {}
            Outcome::End => hold!(false, "C5", "write {number} ends as a stream"),
        }
        Ok(())
    }

    /// A client hears something of a channel.
    pub(super) fn channel_event(&mut self, client: usize, subscription: Subscription, event: ChannelEvent) -> Held {
        let place = self.clients[client].channels.by_subscription.get(&subscription).copied();
        let Some((channels, place)) = self.channels.as_ref().zip(place) else {
            let detail = format!("client {client} does not follow {subscription:?} and hears {event:?}");
            return Err(Broken { invariant: "C7", detail, at: 0 });
        };
        let Some(socket) = self.clients[client].socket else {
            return Err(Broken { invariant: "C7", detail: format!("{event:?} out of nowhere"), at: 0 });
        };
        let disks = &channels.disks[self.sockets[socket].run];
        let attached = channels.attached.get(&(socket, place)).copied();
        let following = &mut self.clients[client].channels.following[place];
        hold!(!following.over, "C7", "client {client} hears {event:?} after the end of {following:?}");
        let may = !following.held || matches!(event, ChannelEvent::Members(_) | ChannelEvent::Closed(..));
        hold!(may, "C7", "client {client} hears {event:?} of {following:?}");
        let channel = following.channel;
        match event {
            ChannelEvent::Opened { start, snapshot, seen, past: rest } => {
                self.transcript.note(self.now, &[10, client as u64, place as u64, start_number(start)]);
                let Some(Attached { since, .. }) = attached else {
                    return Err(Broken { invariant: "C7", detail: "it was not opened".to_owned(), at: 0 });
                };
                let first = following.opened_on.replace(socket) != Some(socket);
                // What it had when this was said: later ones go on from what was told on this connection.
                let had = if first { since } else { following.told };
                if !first {
                    self.counters.add(Counter::BegunAnew);
                }
                let past = |position: Position| disks.past(position.epoch);
                let gone = self.sockets[socket].run as u64 != self.runs;
                let trimmed = |position: Position| {
                    let now = channels.bounds(channel)?;
                    // Of a server that is gone only what it said is left.
                    Ok(gone || now.epoch != position.epoch || now.trimmed.offset > position.mark.offset)
                };
                match start {
                    Start::New => {
                        self.counters.add(Counter::Opened);
                        hold!(first && since.is_none(), "C4", "client {client} had {since:?}, and it is new");
                    }
                    Start::Recovered => {
                        self.counters.add(Counter::Recovered);
                        let Some(since) = since.filter(|since| first && seen == Some(*since)) else {
                            let detail = format!("client {client} had {since:?} and goes on from {seen:?}");
                            return Err(Broken { invariant: "C3", detail, at: 0 });
                        };
                        let there = since.mark == Mark::START || past(since).is_some_and(|past| past.has(since.mark));
                        hold!(there, "C3", "client {client} recovered at {since:?}, on a history that diverged");
                        hold!(!snapshot, "C3", "client {client} recovered with a snapshot");
                        if past(since).is_some_and(|past| !past.after(since.mark).is_empty()) {
                            self.counters.add(Counter::RecoveredMissed);
                        }
                    }
                    Start::Gap(gap) => {
                        let because = match (gap, had) {
                            // Where it was, was not known before an entry came.
                            (_, None) => !first,
                            (Gap::Recreated, Some(had)) => disks.had_another(channel, had.epoch),
                            (Gap::Trimmed, Some(had)) => trimmed(had)?,
                            (Gap::Diverged, Some(had)) => past(had).is_none_or(|past| !past.has(had.mark)),
                        };
                        hold!(because, "C4", "client {client} had {had:?}, and that is {gap:?}");
                        self.counters.add(match gap {
                            Gap::Recreated => Counter::GapRecreated,
                            Gap::Trimmed => Counter::GapTrimmed,
                            Gap::Diverged => Counter::GapDiverged,
                        });
                        let reused = had.and_then(|had| Some(past(had)?.facts.last()?.mark.offset >= had.mark.offset));
                        if gap == Gap::Diverged && reused == Some(true) {
                            self.counters.add(Counter::GapReused);
                        }
                    }
                }
                if start != Start::Recovered {
                    following.state.clear();
                    following.told = seen.filter(|_| !snapshot);
                    following.before = (!channels.setting.snapshots).then_some(0);
                    (following.began, following.begins) = (attached.map_or(0, |attached| attached.order), true);
                    following.own.clear();
                } else {
                    (following.before, following.begins) = (None, false);
                }
                (following.awaits_snapshot, following.before_newest) = (snapshot, None);
                (following.seen, following.past) = (seen, rest);
            }
            ChannelEvent::Snapshot { position, content, .. } => {
                self.transcript.note(self.now, &[11, client as u64, place as u64, position.mark.offset.0]);
                hold!(std::mem::take(&mut following.awaits_snapshot), "C7", "a snapshot that was not announced");
                let numbers =
                    content.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().expect("8 bytes")));
                following.state = numbers.filter(|number| *number > 0).collect();
                (following.told, following.seen) = (Some(position), Some(position));
                let past = disks.past(position.epoch).filter(|past| past.at(position.mark).is_some());
                hold!(past.is_some(), "C3", "client {client} gets a snapshot of {position:?}, which was not there");
                self.counters.add(Counter::SnapshotHeard);
            }
            ChannelEvent::Update { position, content, before, .. } => {
                self.transcript.note(self.now, &[12, client as u64, place as u64, position.mark.offset.0]);
                let head = Head::read(&Payload::bytes(content.clone()))?;
                let told = following.told;
                let later =
                    told.is_none_or(|told| told.epoch == position.epoch && told.mark.offset < position.mark.offset);
                hold!(later, "C1", "client {client} had {told:?} and hears {position:?}");
                hold!(!following.awaits_snapshot, "C7", "an entry before the snapshot that was announced");
                let Some((past, fact)) =
                    disks.past(position.epoch).and_then(|past| Some((past, past.at(position.mark)?)))
                else {
                    let detail = format!("client {client} hears {position:?}, which was not there");
                    return Err(Broken { invariant: "C3", detail, at: 0 });
                };
                hold!(fact.number == head.number, "C1", "{} is said to be {}", fact.number, head.number);
                if (before && following.begins) || fact.mark.offset <= following.past {
                    following.own.insert(fact.number);
                }
                hold!(following.expects(fact), "C2", "client {client} hears {fact:?}, which is not for it");
                if let Some(told) = told {
                    let between =
                        past.after(told.mark).iter().take_while(|other| other.mark.offset < position.mark.offset);
                    let missed = between.clone().find(|fact| following.expects(fact));
                    hold!(
                        missed.is_none(),
                        "C2",
                        "client {client} had {told:?}, hears {position:?}, missed {missed:?}"
                    );
                }
                let since = attached.map_or(0, |attached| attached.order);
                let forbidden = channels.taken.iter().find(|(who, bits, order)| {
                    *who == client && bits >> channel & 1 == 1 && (since..fact.order).contains(order)
                });
                hold!(forbidden.is_none(), "C6", "client {client} hears {fact:?}, and might no longer: {forbidden:?}");
                hold!(before || fact.order > since, "C8", "client {client} hears {fact:?} as new, and it was there");
                // It is asked for before the channel is closed, which may come with this.
                following.before_newest = Some((following.told, following.seen));
                (following.told, following.seen) = (Some(position), Some(position));
                following.state.push(fact.number);
                if let (true, Some(count)) = (before, &mut following.before) {
                    *count += 1;
                    let most = following.history.min(256);
                    hold!(*count <= most, "C8", "client {client} begins with {count} entries and wanted {most}");
                }
                self.counters.add(Counter::EntryHeard);
                if content.len() > PART {
                    self.counters.add(Counter::LargeEntry);
                }
            }
            ChannelEvent::CaughtUp => {
                hold!(!following.awaits_snapshot, "C7", "client {client} has all of {channel}, and not its snapshot");
            }
            ChannelEvent::Volatile { .. } => {
                hold!(false, "C7", "client {client} hears of {channel} what nobody says");
            }
            ChannelEvent::Members(changes) => {
                hold!(channels.setting.members, "C7", "client {client} hears of members of {channel}");
                following.members.handle(changes.clone());
                let held = following.held;
                self.members_are(channel, &changes.changes)?;
                if held {
                    self.counters.add(Counter::MembersHeardHeld);
                }
            }
            ChannelEvent::Closed(code, _) => {
                self.transcript.note(self.now, &[13, client as u64, place as u64, u64::from(code.0)]);
                following.over = true;
                hold!(code == Code::FORBIDDEN, "C6", "client {client} may not follow {channel} any more: {code:?}");
                let delay = self.rng.below(4_000);
                self.agenda.at(self.now + delay, Later::FollowAgain(client, place));
            }
        }
        Ok(())
    }

    /// The application tries again what it was not let do.
    pub(super) fn follow_again(&mut self, client: usize, place: usize) -> Held {
        let Following { channel, history, filter, .. } = self.clients[client].channels.following[place];
        self.follow(client, channel, history, filter, true)
    }

    /// From where each channel would go on.
    pub(super) fn look_at_channels(&mut self, client: usize) {
        let Client { endpoint, channels, .. } = &mut self.clients[client];
        for following in channels.following.iter_mut().filter(|following| !following.over && !following.held) {
            following.seen = endpoint.seen(following.subscription);
        }
    }

    /// Who has not come to know everything.
    pub(super) fn ignorant(&self) -> Option<String> {
        let channels = self.channels.as_ref()?;
        for (number, client) in self.clients.iter().enumerate().filter(|(_, client)| !client.closed) {
            for following in client.channels.following.iter().filter(|following| !following.over) {
                let end = channels.bounds(following.channel).ok()?.end();
                if following.seen != Some(end) {
                    return Some(format!("client {number} has not heard of {end:?}: {:?}", following.seen));
                }
                let known: Vec<_> = following.members.all().cloned().collect();
                if let Some(what) = self.strangers(following.channel, &known) {
                    return Some(format!("client {number}: {what}"));
                }
            }
            let follows = client.channels.following.iter().filter(|following| !following.over).count();
            let open = channels.followers.values().filter(|follower| follower.client == number).count();
            if open != follows {
                return Some(format!("client {number} follows {follows} channels, and {open} are open"));
            }
            if let Some(wrote) = client.channels.wrote.iter().find(|wrote| !wrote.settled) {
                return Some(format!("a write of client {number} has not settled: {wrote:?}"));
            }
        }
        None
    }

    pub(super) fn finish_channels(&mut self) -> Held {
        let Some(channels) = &self.channels else { return Ok(()) };
        for (number, client) in self.clients.iter().enumerate().filter(|(_, client)| !client.closed) {
            for following in client.channels.following.iter().filter(|following| !following.over) {
                let epoch = channels.bounds(following.channel)?.epoch;
                let facts = channels.disk().past(epoch).map_or(&[][..], |past| &past.facts);
                let shown = facts.iter().filter(|fact| following.expects(fact)).map(|fact| fact.number);
                let shown: Vec<_> = shown.collect();
                let whole = !channels.setting.snapshots || following.state == shown;
                let (has, of) = (following.state.len(), shown.len());
                let all = whole && shown.ends_with(&following.state);
                hold!(all, "C8", "client {number} has {has} entries, to {:?}, and there are {of}", following.told);
                let told = following.told.filter(|told| told.epoch == epoch).map_or(Mark::START, |told| told.mark);
                let missed = facts.iter().find(|fact| fact.mark.offset > told.offset && following.expects(fact));
                let begun = following.told.is_some();
                hold!(!begun || missed.is_none(), "C8", "client {number} has {told:?} and missed {missed:?}");
            }
        }
        Ok(())
    }
}

fn start_number(start: Start) -> u64 {
    match start {
        Start::New => 0,
        Start::Recovered => 1,
        Start::Gap(Gap::Recreated) => 2,
        Start::Gap(Gap::Diverged) => 3,
        Start::Gap(Gap::Trimmed) => 4,
    }
}
