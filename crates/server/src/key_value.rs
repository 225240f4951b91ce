//! Values of the application's own, for handlers: by key, in namespaces that the builder declares, of each tenant its own.
//!
//! They are in the data directory, in the file of the channels: what was put is on the disk when [`KeyValue::put`]
//! resolves. It is for what belongs to a server and fits into memory piece by piece (scores, settings, who owns a room);
//! it is no database: there are no queries but by prefix, and no transactions over several keys.
//!
//! # Example
//!
//! ```
//! use moorline_server::{key_value::Expected, prelude::*, protocol::subject::Tenant};
//!
//! /// The namespace; a type that has nothing in it.
//! struct Scores;
//!
//! async fn win(scores: KeyValue<Scores>, who: Principal) -> Result<Json<u32>, Fail> {
//!     let won = scores.update(who.subject.name(), |won: Option<u32>| won.unwrap_or(0) + 1).await?;
//!     Ok(Json(won.value))
//! }
//!
//! async fn best(scores: KeyValue<Scores>) -> Result<Json<Vec<(String, u32)>>, Fail> {
//!     let page = scores.list::<u32>("", None, 10).await?;
//!     Ok(Json(page.entries.into_iter().map(|(name, score)| (name, score.value)).collect()))
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let mut config = Config::default();
//! # (config.server.listen, config.server.data_dir) = (([127, 0, 0, 1], 0).into(), directory.path().to_owned());
//! let server = Server::builder()
//!     .key_value::<Scores>("scores")
//!     .handler("win", win)
//!     .handler("best", best)
//!     .config(config)
//!     .build()
//!     .await?;
//!
//! // Outside of handlers:
//! let scores = server.key_value::<Scores>(Tenant::default()).ok_or("it is declared above")?;
//! let first = scores.put("ann", &3).await?;
//! scores.put_if("ann", &4, Expected::This(first)).await?;
//! assert_eq!(scores.get::<u32>("ann").await?.map(|score| score.value), Some(4));
//! # Ok(())
//! # }
//! ```

pub(crate) mod namespace;

use std::{any::type_name, fmt, sync::Arc};

use bytes::Bytes;
use moorline_engine::{Engine, Key};
pub use moorline_engine::{EngineError, Expected, Version};
use moorline_protocol::{code::Code, subject::Tenant};
use serde::{Serialize, de::DeserializeOwned};

use self::namespace::Namespace;
pub use self::namespace::NamespaceError;
pub(crate) use self::namespace::Namespaces;
use crate::{
    fail::Fail,
    handler::{Context, FromCall},
    states::{StateType, States},
};

/// Longest key, in bytes.
pub const MAX_KEY: usize = 512;

/// Largest value, in bytes of its JSON.
pub const MAX_VALUE: usize = 256 * 1024;

/// Most entries of a page.
pub const MAX_PAGE: usize = 100;

/// How often an update begins anew because somebody else was quicker. Those of this process wait for each other, so that
/// it is lost to `put` and `delete` alone.
const TRIES: usize = 16;

/// Why something is not read or kept. Nothing has changed then.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyValueError {
    /// The key is empty or has more than [`MAX_KEY`] bytes: so many.
    Key(usize),
    /// The value has more than [`MAX_VALUE`] bytes: so many.
    TooLarge(usize),
    /// The value has no JSON form, or what is there has not the type that it is read as.
    Json(serde_json::Error),
    /// It is not as [`Expected`]: somebody else was quicker.
    Changed,
    /// It was changed by others again and again while it was being updated.
    Contended,
    /// What keeps it failed.
    Engine(EngineError),
}

impl fmt::Display for KeyValueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(bytes) => write!(formatter, "a key has 1 to {MAX_KEY} bytes, not {bytes}"),
            Self::TooLarge(bytes) => {
                write!(formatter, "a value has at most {MAX_VALUE} bytes, not {bytes}; keep what is larger in parts")
            }
            Self::Json(error) => write!(formatter, "the value: {error}"),
            Self::Changed => formatter.write_str("somebody else has changed it; read it again"),
            Self::Contended => write!(formatter, "others changed it {TRIES} times while it was being updated"),
            Self::Engine(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for KeyValueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Engine(error) => Some(error),
            Self::Key(_) | Self::TooLarge(_) | Self::Changed | Self::Contended => None,
        }
    }
}

impl From<EngineError> for KeyValueError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Changed => Self::Changed,
            error => Self::Engine(error),
        }
    }
}

/// A value and which of its versions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its version, for [`KeyValue::put_if`].
    pub version: Version,
}

/// Some entries of a namespace, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Keys and values.
    pub entries: Vec<(String, Versioned<T>)>,
    /// After which key the next page begins; `None` when this is the last.
    pub next: Option<String>,
}

/// The values of a namespace, as far as they are the caller's tenant's: what a handler takes.
///
/// `N` is the type by which [`ServerBuilder::key_value`](crate::ServerBuilder::key_value) has declared it. Values are kept
/// as JSON, so every method says what type it reads or writes; a namespace may have several.
pub struct KeyValue<N> {
    engine: Arc<dyn Engine>,
    tenant: Tenant,
    namespace: Namespace<N>,
}

impl<N> KeyValue<N> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`KeyValueError::Json`] when it has another type; [`KeyValueError::Key`], [`KeyValueError::Engine`].
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Versioned<T>>, KeyValueError> {
        self.engine.get(&self.key(key)?).await?.map(read).transpose()
    }

    /// Sets the value of a key, whatever it was, and gives its version.
    ///
    /// # Errors
    /// [`KeyValueError::TooLarge`], [`KeyValueError::Json`], [`KeyValueError::Key`], [`KeyValueError::Engine`].
    pub async fn put(&self, key: &str, value: &impl Serialize) -> Result<Version, KeyValueError> {
        self.put_if(key, value, Expected::Anything).await
    }

    /// Sets the value of a key if it is as expected, and gives its version: [`Expected::Nothing`] makes it,
    /// [`Expected::This`] changes what was read.
    ///
    /// # Errors
    /// [`KeyValueError::Changed`] when it is not; else as [`Self::put`].
    pub async fn put_if(
        &self,
        key: &str,
        value: &impl Serialize,
        expected: Expected,
    ) -> Result<Version, KeyValueError> {
        let key = self.key(key)?;
        let json = serde_json::to_vec(value).map_err(KeyValueError::Json)?;
        if json.len() > MAX_VALUE {
            return Err(KeyValueError::TooLarge(json.len()));
        }
        Ok(self.engine.put(&key, Bytes::from(json), expected).await?)
    }

    /// Removes a key, and gives whether it was there.
    ///
    /// # Errors
    /// [`KeyValueError::Key`], [`KeyValueError::Engine`].
    pub async fn delete(&self, key: &str) -> Result<bool, KeyValueError> {
        self.delete_if(key, Expected::Anything).await
    }

    /// Removes a key if it is as expected, and gives whether it was there.
    ///
    /// # Errors
    /// [`KeyValueError::Changed`] when it is not; else as [`Self::delete`].
    pub async fn delete_if(&self, key: &str, expected: Expected) -> Result<bool, KeyValueError> {
        Ok(self.engine.delete(&self.key(key)?, expected).await?)
    }

    /// The entries whose keys begin with `prefix`, in the order of their bytes: those behind `after`, at most `most` of
    /// them and [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`KeyValueError::Json`] when one of them has another type; [`KeyValueError::Engine`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Page<T>, KeyValueError> {
        let most = most.clamp(1, MAX_PAGE);
        // One more says whether there is more.
        let mut found = self.engine.keys(&self.tenant, &self.namespace.name, prefix, after, most + 1).await?;
        let more = found.len() > most;
        found.truncate(most);
        let next = found.last().filter(|_| more).map(|(key, _)| key.clone());
        let entries = found.into_iter().map(|(key, found)| Ok((key, read(found)?)));
        Ok(Page { entries: entries.collect::<Result<_, KeyValueError>>()?, next })
    }

    /// Makes a new value of what there is, and keeps it if nobody else was quicker; otherwise begins anew, 16 times in
    /// all. The function may therefore run several times, and must only compute.
    ///
    /// # Errors
    /// [`KeyValueError::Contended`] when somebody else was quicker each time; else as [`Self::get`] and [`Self::put`].
    pub async fn update<T: DeserializeOwned + Serialize>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> T,
    ) -> Result<Versioned<T>, KeyValueError> {
        let _turn = self.namespace.lane(&self.tenant, key).lock().await;
        for _ in 0..TRIES {
            let (old, expected) = match self.get(key).await? {
                Some(Versioned { value, version }) => (Some(value), Expected::This(version)),
                None => (None, Expected::Nothing),
            };
            let value = change(old);
            match self.put_if(key, &value, expected).await {
                Ok(version) => return Ok(Versioned { value, version }),
                Err(KeyValueError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(KeyValueError::Contended)
    }

    fn key(&self, name: &str) -> Result<Key, KeyValueError> {
        match name.len() {
            1..=MAX_KEY => {
                Ok(Key { tenant: self.tenant.clone(), namespace: self.namespace.name.clone(), name: name.into() })
            }
            bytes => Err(KeyValueError::Key(bytes)),
        }
    }
}

fn read<T: DeserializeOwned>(found: moorline_engine::Versioned) -> Result<Versioned<T>, KeyValueError> {
    let value = serde_json::from_slice(&found.value).map_err(KeyValueError::Json)?;
    Ok(Versioned { value, version: found.version })
}

impl<N> Clone for KeyValue<N> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), tenant: self.tenant.clone(), namespace: self.namespace.clone() }
    }
}

impl<N> fmt::Debug for KeyValue<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, tenant) = (&self.namespace.name, self.tenant.as_str());
        formatter
            .debug_struct("KeyValue")
            .field("namespace", namespace)
            .field("tenant", &tenant)
            .finish_non_exhaustive()
    }
}

impl<N: 'static> KeyValue<N> {
    /// That of a tenant; `None` where it is not declared.
    pub(crate) fn of(states: &States, engine: &Arc<dyn Engine>, tenant: &Tenant) -> Option<Self> {
        Some(Self { engine: engine.clone(), tenant: tenant.clone(), namespace: states.get::<Namespace<N>>()? })
    }
}

impl<N: 'static> FromCall for KeyValue<N> {
    fn from_call(context: &Context) -> Result<Self, Fail> {
        let tenant = context.entry.principal.subject.tenant();
        let found = Self::of(&context.states, context.channels.engine(true), tenant);
        found.ok_or_else(|| Fail::of(Code::INTERNAL))
    }

    fn state() -> Option<StateType> {
        Some(StateType::namespace::<Namespace<N>>(type_name::<N>()))
    }
}

#[cfg(test)]
mod tests {
    use moorline_engine::MemoryEngine;

    use super::*;

    struct Scores;
    struct Settings;

    fn declared() -> States {
        let (mut namespaces, mut states) = (Namespaces::default(), States::default());
        namespaces.declare::<Scores>("scores", &mut states);
        namespaces.declare::<Settings>("settings", &mut states);
        assert_eq!(namespaces.error(), None);
        states
    }

    fn of<N: 'static>(states: &States, engine: &Arc<dyn Engine>, tenant: &str) -> KeyValue<N> {
        KeyValue::of(states, engine, &Tenant::new(tenant).expect("a tenant")).expect("it is declared")
    }

    fn engine() -> Arc<dyn Engine> {
        Arc::new(MemoryEngine::new([7; 32]))
    }

    #[tokio::test]
    async fn a_value_is_changed_only_by_who_has_seen_it() -> Result<(), KeyValueError> {
        let scores: KeyValue<Scores> = of(&declared(), &engine(), "acme");
        assert_eq!(scores.get::<u32>("ann").await?, None);
        let first = scores.put_if("ann", &1, Expected::Nothing).await?;
        assert!(matches!(scores.put_if("ann", &9, Expected::Nothing).await, Err(KeyValueError::Changed)));
        let second = scores.put_if("ann", &2, Expected::This(first)).await?;
        assert!(matches!(scores.put_if("ann", &9, Expected::This(first)).await, Err(KeyValueError::Changed)));
        assert!(matches!(scores.delete_if("ann", Expected::This(first)).await, Err(KeyValueError::Changed)));
        assert_eq!(scores.get("ann").await?, Some(Versioned { value: 2, version: second }));
        assert!(scores.delete_if("ann", Expected::This(second)).await?);
        assert!(!scores.delete("ann").await?);
        assert!(matches!(scores.put_if("ann", &9, Expected::This(second)).await, Err(KeyValueError::Changed)));
        assert!(scores.put("ann", &3).await? > second, "a version never comes again");
        Ok(())
    }

    #[tokio::test]
    async fn a_page_says_where_the_next_one_begins() -> Result<(), KeyValueError> {
        let scores: KeyValue<Scores> = of(&declared(), &engine(), "acme");
        for number in 0..250 {
            scores.put(&format!("a:{number:03}"), &number).await?;
        }
        scores.put("b:1", &"of another type").await?;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = scores.list::<u32>("a:", after.as_deref(), usize::MAX).await?;
            assert!(page.entries.len() <= MAX_PAGE);
            found.extend(page.entries.into_iter().map(|(_, kept)| kept.value));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(found.into_iter().eq(0..250));
        // The last page is known as such, also where it is full.
        assert_eq!(scores.list::<u32>("a:24", None, 10).await?.next, None);
        assert_eq!(scores.list::<u32>("a:24", None, 0).await?.next.as_deref(), Some("a:240"));
        assert!(scores.list::<u32>("", None, 100).await?.next.is_some());
        assert!(matches!(scores.list::<u32>("b", None, 1).await, Err(KeyValueError::Json(_))));
        Ok(())
    }

    #[tokio::test]
    async fn tenants_and_namespaces_have_nothing_of_each_other() -> Result<(), KeyValueError> {
        let (states, engine) = (declared(), engine());
        let ours: KeyValue<Scores> = of(&states, &engine, "acme");
        let theirs: KeyValue<Scores> = of(&states, &engine, "other");
        let settings: KeyValue<Settings> = of(&states, &engine, "acme");
        ours.put("ann", &1).await?;
        theirs.put("ann", &2).await?;
        settings.put("ann", &3).await?;
        assert!(theirs.delete("ann").await?);
        assert_eq!(ours.get::<u32>("ann").await?.map(|kept| kept.value), Some(1));
        assert_eq!(settings.list::<u32>("", None, 9).await?.entries.len(), 1);
        assert_eq!(theirs.list::<u32>("", None, 9).await?.entries.len(), 0);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_too_long_or_too_large_is_refused_and_what_just_fits_is_not() -> Result<(), KeyValueError> {
        let scores: KeyValue<Scores> = of(&declared(), &engine(), "acme");
        let longest = "k".repeat(MAX_KEY);
        let largest = "v".repeat(MAX_VALUE - 2);
        scores.put(&longest, &largest).await?;
        assert_eq!(scores.get::<String>(&longest).await?.map(|kept| kept.value), Some(largest.clone()));
        assert!(
            matches!(scores.put("a", &format!("{largest}v")).await, Err(KeyValueError::TooLarge(n)) if n == MAX_VALUE + 1)
        );
        for key in [String::new(), format!("{longest}k")] {
            assert!(matches!(scores.get::<u32>(&key).await, Err(KeyValueError::Key(n)) if n == key.len()));
            assert!(matches!(scores.put(&key, &1).await, Err(KeyValueError::Key(_))));
            assert!(matches!(scores.delete(&key).await, Err(KeyValueError::Key(_))));
        }
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn however_many_update_at_once_none_is_lost() -> Result<(), KeyValueError> {
        const UPDATES: u64 = 500;
        let scores: KeyValue<Scores> = of(&declared(), &engine(), "acme");
        let mut updating = tokio::task::JoinSet::new();
        for _ in 0..UPDATES {
            let scores = scores.clone();
            updating.spawn(async move { scores.update("ann", |won: Option<u64>| won.unwrap_or(0) + 1).await });
        }
        while let Some(updated) = updating.join_next().await {
            updated.expect("it does not panic")?;
        }
        assert_eq!(scores.get("ann").await?.map(|kept| kept.value), Some(UPDATES));
        Ok(())
    }

    #[tokio::test]
    async fn an_update_that_somebody_else_is_always_quicker_than_gives_up() -> Result<(), KeyValueError> {
        let scores: KeyValue<Scores> = of(&declared(), &engine(), "acme");
        let mut runs = 0;
        let spoiled = scores
            .update("ann", |_: Option<u32>| {
                runs += 1;
                let other = scores.put("ann", &0);
                // The engine in memory answers at once.
                futures_util::FutureExt::now_or_never(other).expect("it is done").expect("it is put");
                1
            })
            .await;
        assert!(matches!(spoiled, Err(KeyValueError::Contended)));
        assert_eq!((runs, scores.get::<u32>("ann").await?.map(|kept| kept.value)), (TRIES, Some(0)));
        Ok(())
    }
}
