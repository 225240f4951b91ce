//! A key set from elsewhere, and when it is got again: on an interval, and sooner for a token whose `kid` nobody knows.
//!
//! What could not be got, or holds no key, changes nothing: the keys that are there go on to count.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    task,
    time::{Instant, sleep},
};

use super::{
    error::TokenSettingError,
    fetch::{FetchError, Fetcher},
    keys::{self, InvalidKeySet, Key},
};
use crate::config::{JwksUrl, JwtAlgorithm};

/// Least time between two readings for the sake of unknown names: whoever invents names costs this and no more.
const COOLDOWN: Duration = Duration::from_secs(30);

/// How soon a set that could not be got at the start is asked for again.
const RETRY: Duration = Duration::from_secs(10);

/// Where a key set is.
pub(super) enum Place {
    File(PathBuf),
    Url(JwksUrl, Fetcher),
}

/// The keys of a set as it was when it was last got.
pub(super) struct KeySet {
    place: Place,
    algorithm: JwtAlgorithm,
    refresh: Duration,
    keys: RwLock<Arc<[Key]>>,
    /// When it was last tried. Held while it is tried, so that it is once at a time.
    tried: Mutex<Option<Instant>>,
}

/// Why a key set is not there.
#[derive(Debug)]
enum KeySetError {
    Read(std::io::Error),
    Fetch(FetchError),
    Invalid(InvalidKeySet),
}

impl std::fmt::Display for KeySetError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => error.fmt(formatter),
            Self::Fetch(error) => error.fmt(formatter),
            Self::Invalid(error) => error.fmt(formatter),
        }
    }
}

impl KeySet {
    pub(super) fn new(place: Place, algorithm: JwtAlgorithm, refresh: Duration) -> Self {
        let keys = RwLock::new(Arc::from(Vec::new()));
        Self { place, algorithm, refresh, keys, tried: Mutex::new(None) }
    }

    /// The set of a file, which must be there.
    pub(super) fn of_file(
        path: PathBuf,
        algorithm: JwtAlgorithm,
        refresh: Duration,
    ) -> Result<Self, TokenSettingError> {
        const SETTING: &str = "jwks_file";
        let bytes = keys::read(SETTING, &path)?;
        let wanted = "JSON Web Key Set with a key of [auth.jwt] algorithm";
        let keys = keys::of_set(&bytes, algorithm).map_err(|_| TokenSettingError::InvalidKey {
            setting: SETTING,
            path: path.clone(),
            wanted,
        })?;
        let set = Self::new(Place::File(path), algorithm, refresh);
        set.replace(keys);
        Ok(set)
    }

    pub(super) fn current(&self) -> Arc<[Key]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, keys: Vec<Key>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    /// Gets the set again for a name that is not in `seen`, unless somebody just did or tried.
    pub(super) async fn look_again(&self, seen: &Arc<[Key]>) {
        let mut tried = self.tried.lock().await;
        if Arc::ptr_eq(seen, &self.current()) && tried.is_none_or(|tried| tried.elapsed() >= COOLDOWN) {
            self.get(&mut tried).await;
        }
    }

    /// Gets the set again.
    pub(super) async fn refresh(&self) {
        let mut tried = self.tried.lock().await;
        self.get(&mut tried).await;
    }

    /// Gets the set again and again. It never ends.
    pub(super) async fn keep_fresh(&self) {
        loop {
            sleep(if self.current().is_empty() { RETRY.min(self.refresh) } else { self.refresh }).await;
            self.refresh().await;
        }
    }

    async fn get(&self, tried: &mut Option<Instant>) {
        *tried = Some(Instant::now());
        match self.read().await {
            Ok(keys) => {
                tracing::debug!(source = %self.name(), keys = keys.len(), "the key set was read");
                self.replace(keys);
            }
            Err(error) => {
                let kept = self.current().len();
                tracing::warn!(source = %self.name(), %error, kept, "the key set was not read; the keys from before stay");
            }
        }
    }

    async fn read(&self) -> Result<Vec<Key>, KeySetError> {
        let keys = match &self.place {
            Place::File(path) => {
                let path = path.clone();
                let read = task::spawn_blocking(move || keys::read_bounded(&path)).await;
                let bytes = read.map_err(std::io::Error::other).flatten().map_err(KeySetError::Read)?;
                keys::of_set(&bytes, self.algorithm)
            }
            Place::Url(url, fetcher) => {
                let bytes = fetcher.get(url).await.map_err(KeySetError::Fetch)?;
                keys::of_set(&bytes, self.algorithm)
            }
        };
        keys.map_err(KeySetError::Invalid)
    }

    /// Where it is, for people.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Url(url, _) => url.to_string(),
        }
    }
}
