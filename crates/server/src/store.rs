//! Stores: what is declared of them ([`StorePolicy`]), and what is done in them for clients and for the server itself
//! ([`Stores`]). What an entry or a snapshot means only clients know.

use std::sync::Arc;

use bytes::Bytes;
use moorline_engine::{Append, Engine, EngineError, Limit, Most, OpId, Retention};
use moorline_protocol::{
    channel::{Authored, ChannelId, Entry, Kind, Position, Range, Snapshot, ValueHash},
    code::Code,
    frame::Failure,
    payload::{Name, Payload},
    subject::Tenant,
};
use sha2::{Digest, Sha256};

use crate::{
    access::Guard,
    author::Author,
    channels::Channels,
    clock::now,
    config::MOST,
    fail::Fail,
    handler::{Context, FromCall},
    policy::{Declarations, Declared, Policy},
};

/// Largest value that is kept in one piece, in bytes: one byte that says what it is, and 1 MiB.
pub const MAX_VALUE: usize = 1 + 1024 * 1024;

/// What stores of a pattern are like. Whoever reads or writes one needs a scope for it: `store.read`, `store.write`,
/// `store.admin`, or the one that its guard names.
///
/// Everything that is written is kept, on the disk before its writer is told so, until a snapshot covers it.
#[derive(Clone, Debug)]
pub struct StorePolicy(pub(crate) Policy);

impl Default for StorePolicy {
    fn default() -> Self {
        Self(Policy { kept: Some(Retention::ALL), most: Some(MOST), presence: true, ..Policy::default() })
    }
}

impl StorePolicy {
    /// Everything is kept, up to 256 MiB of one store; who replaces its past needs `store.admin`. It has members, as
    /// [`TopicPolicy::presence`](crate::TopicPolicy::presence) says.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it takes to read it, and to be a member.
    #[must_use]
    pub fn read(mut self, guard: Guard) -> Self {
        self.0.read = guard;
        self
    }

    /// What it takes to write patches and values, and to send to one of those who are there; its rate is one's for all of
    /// that. Its schema is passed over.
    #[must_use]
    pub fn write(mut self, guard: Guard) -> Self {
        self.0.write = guard;
        self
    }

    /// What it takes to keep a snapshot.
    #[must_use]
    pub fn admin(mut self, guard: Guard) -> Self {
        self.0.admin = guard;
        self
    }

    /// Whoever may write may also keep snapshots. A snapshot takes the place of the entries that it covers, and nobody
    /// here can see whether it says what they said: whoever writes one can make a store say anything.
    #[must_use]
    pub fn writers_keep_snapshots(mut self) -> Self {
        self.0.writers_snapshot = true;
        self
    }

    /// Has no members: whoever has it open does not learn who else has.
    #[must_use]
    pub fn without_presence(mut self) -> Self {
        self.0.presence = false;
        self
    }

    /// Takes no more than so many bytes in one store: of the newest snapshot, the entries that are not in it, and values.
    /// From there on writing fails with `store_full` until a snapshot makes room. On the disk it may be about twice as much,
    /// since what there was before a snapshot is kept until the next.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.0.most = Some(bytes);
        self
    }
}

/// The stores of the caller's tenant, as handlers take them.
#[derive(Clone)]
pub struct Stores {
    channels: Arc<Channels>,
    declared: Arc<Declarations>,
    tenant: Tenant,
}

/// What a store has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreContents {
    /// The newest snapshot.
    pub snapshot: Option<Bytes>,
    /// The patches that are not in it, in their order.
    pub patches: Vec<Bytes>,
    /// What both come to is the store up to here.
    pub position: Position,
}

impl Stores {
    /// Adds a patch as the server itself. Whoever has the store open is told before this resolves.
    ///
    /// # Errors
    /// `no_such_channel` when no store of this name is declared; `too_large` when the patch is above `[limits] max_message`;
    /// `store_full`; `too_many_names` when its tenant has as many stores as it may; `storage_full` or `internal` when it
    /// could not be kept.
    pub async fn append(&self, name: &str, patch: impl Into<Bytes>) -> Result<Position, Fail> {
        let store = self.find(name)?;
        let patch = Payload::bytes(patch);
        self.channels.check_size(&patch).map_err(Fail::failed)?;
        store.append(Author::server(), patch, None).await.map_err(Fail::failed)
    }

    /// Everything that a store has. It is read whole: not for stores of many megabytes.
    ///
    /// # Errors
    /// `no_such_channel` when no store of this name is declared; `internal` when it cannot be read.
    pub async fn contents(&self, name: &str) -> Result<StoreContents, Fail> {
        let store = self.find(name)?;
        store.contents().await.map_err(Fail::failed)
    }

    fn find(&self, name: &str) -> Result<Store, Fail> {
        let declared = self
            .declared
            .find(Kind::Store, name)
            .ok_or_else(|| Fail::failed(self.declared.missing(Kind::Store, name)))?;
        let channel = Name::new(name).map_err(|_| Fail::of(Code::INVALID_NAME))?;
        let channel = ChannelId::new(self.tenant.clone(), Kind::Store, channel);
        Ok(Store::new(self.channels.clone(), channel, declared))
    }
}

impl FromCall for Stores {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        let tenant = context.entry.principal.subject.tenant().clone();
        Ok(Self { channels: context.channels.clone(), declared: context.declared.clone(), tenant })
    }
}

/// One store, for as long as something is done in it.
pub(crate) struct Store {
    channels: Arc<Channels>,
    channel: ChannelId,
    most: Most,
}

impl Store {
    pub(crate) fn new(channels: Arc<Channels>, channel: ChannelId, declared: &Declared) -> Self {
        let most = Most { bytes: declared.policy.most, channels: channels.most(true) };
        Self { channels, channel, most }
    }

    fn engine(&self) -> &Arc<dyn Engine> {
        self.channels.engine(true)
    }

    fn fail(&self, error: &EngineError) -> Failure {
        match error {
            EngineError::UnknownPosition => Failure::of(Code::UNKNOWN_POSITION),
            EngineError::Superseded => Failure::of(Code::SUPERSEDED_SNAPSHOT),
            EngineError::TooMuch => Failure::of(Code::STORE_FULL),
            error => self.channels.failure(&self.channel, error),
        }
    }

    pub(crate) async fn append(&self, author: Author, patch: Payload, op: Option<OpId>) -> Result<Position, Failure> {
        let append = Append { op, most: self.most, ..Append::new(author.says(patch), now(), Retention::ALL) };
        let appended = self.engine().append(&self.channel, append).await;
        appended.map(|appended| appended.position).map_err(|error| self.fail(&error))
    }

    pub(crate) async fn keep_snapshot(&self, covers: Position, content: Bytes) -> Result<(), Failure> {
        let snapshot = Snapshot { covers, at: now(), content };
        // It may go beyond what there is room for, since it is what makes room.
        let kept = self.engine().keep_snapshot(&self.channel, snapshot, self.most).await;
        kept.map_err(|error| self.fail(&error))
    }

    pub(crate) async fn keep_value(&self, hash: ValueHash, value: Bytes) -> Result<(), Failure> {
        check_value(hash, &value).map_err(|why| Failure::with_message(Code::INVALID_PARAMS, why))?;
        self.engine().keep_value(&self.channel, hash, value, self.most).await.map_err(|error| self.fail(&error))
    }

    pub(crate) async fn value(&self, hash: ValueHash) -> Result<Bytes, Failure> {
        let found = self.engine().value(&self.channel, hash).await.map_err(|error| self.fail(&error))?;
        found.ok_or_else(|| Failure::of(Code::NO_SUCH_VALUE))
    }

    async fn contents(&self) -> Result<StoreContents, Failure> {
        // Once more when a newer snapshot has taken the place of what was to be read.
        for _ in 0..3 {
            if let Some(contents) = self.read_all().await.map_err(|error| self.fail(&error))? {
                return Ok(contents);
            }
        }
        Err(Failure::of(Code::INTERNAL))
    }

    async fn read_all(&self) -> Result<Option<StoreContents>, EngineError> {
        let (bounds, snapshot) = self.engine().snapshot(&self.channel).await?;
        let mut patches = Vec::new();
        let mut read = snapshot.as_ref().map(|snapshot| snapshot.covers);
        loop {
            let page =
                self.engine().read(&self.channel, read.map_or(Range::Oldest, Range::After), Limit::default()).await?;
            let begins_late = read.is_none() && page.bounds.trimmed != bounds.trimmed;
            if page.gap.is_some() || begins_late {
                return Ok(None);
            }
            patches.extend(page.entries.iter().filter_map(|entry| says(entry)));
            let newest = page.entries.last().map(|entry| Position { epoch: page.bounds.epoch, mark: entry.mark });
            read = newest.or(read);
            if page.is_last() {
                let snapshot = snapshot.map(|snapshot| snapshot.content.clone());
                return Ok(Some(StoreContents { snapshot, patches, position: read.unwrap_or(bounds.end()) }));
            }
        }
    }
}

/// The patch of an entry.
fn says(entry: &Entry) -> Option<Bytes> {
    Authored::decode(&entry.content).ok().map(|authored| authored.payload.bytes)
}

/// Whether it is a value, and the one of this hash.
fn check_value(hash: ValueHash, value: &[u8]) -> Result<(), &'static str> {
    let found: [u8; 32] = Sha256::digest(value).into();
    if value.len() > MAX_VALUE {
        return Err("a value is at most 1 MiB in one piece");
    }
    if found != hash.0 {
        return Err("the value is not the one of this hash");
    }
    match value {
        [0, ..] => Ok(()),
        [1, rest @ ..] if is_list_of_pieces(rest) => Ok(()),
        _ => Err("this is neither a value nor a list of pieces whose total is theirs"),
    }
}

/// A list of pieces: how long they are together, and their hashes. All but the last are 1 MiB.
fn is_list_of_pieces(bytes: &[u8]) -> bool {
    let Some((total, hashes)) = split_varint(bytes) else { return false };
    let pieces = (hashes.len() / 32) as u64;
    hashes.len() % 32 == 0 && pieces > 0 && total.div_ceil(1 << 20) == pieces
}

fn split_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (place, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(value: &[u8]) -> Result<(), &'static str> {
        check_value(ValueHash(Sha256::digest(value).into()), value)
    }

    #[test]
    fn a_value_is_what_it_says_it_is() {
        assert_eq!(judge(b"\0"), Ok(()));
        assert_eq!(judge(&[&[0][..], &vec![7; 1 << 20]].concat()), Ok(()));
        assert!(judge(&[&[0][..], &vec![7; (1 << 20) + 1]].concat()).is_err(), "too large");
        assert!(judge(b"").is_err() && judge(b"\x02abc").is_err(), "of no known form");
        assert!(check_value(ValueHash([0; 32]), b"\0abc").is_err(), "another's hash");
    }

    #[test]
    fn a_list_with_a_false_total_is_none() {
        let list = |total: &[u8], pieces: usize| [&[1][..], total, &vec![9; 32 * pieces]].concat();
        // 2 MiB is 80 80 80 01 as a varint.
        assert_eq!(judge(&list(&[0x80, 0x80, 0x80, 0x01], 2)), Ok(()));
        assert_eq!(judge(&list(&[0x81, 0x80, 0x80, 0x01], 3)), Ok(()));
        for (total, pieces) in
            [(&[0x80, 0x80, 0x80, 0x01][..], 1), (&[0x80, 0x80, 0x80, 0x01], 3), (&[0], 0), (&[0], 1)]
        {
            assert!(judge(&list(total, pieces)).is_err(), "{total:?} {pieces}");
        }
        assert!(judge(&[&list(&[5], 1)[..], &[9]].concat()).is_err(), "half a hash");
        assert!(
            judge(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err(),
            "a total that never ends"
        );
    }
}
