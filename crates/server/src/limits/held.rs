//! How many of something are open at once, by key. What is counted bounds the memory: whoever holds none is not known.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Who holds how many.
pub(crate) struct Counts<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> Counts<K> {
    /// One more for this key, until what this gives is dropped; `None` where it has as many as it may.
    pub(crate) fn take(&self, key: K, most: usize) -> Option<Held<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        // Whoever is refused holds one at least, so that nothing is left behind here.
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Held { key, counts: Self(self.0.clone()) })
    }

    pub(crate) fn count(&self, key: &K) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }
}

/// One that is held.
pub(crate) struct Held<K: Clone + Eq + Hash> {
    key: K,
    counts: Counts<K>,
}

impl<K: Clone + Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room_and_leaves_nothing_behind() {
        let counts = Counts::default();
        let (one, two) = (counts.take("a", 2), counts.take("a", 2));
        assert!(one.is_some() && two.is_some() && counts.take("a", 2).is_none() && counts.take("b", 2).is_some());
        drop(one);
        assert!(counts.take("a", 2).is_some());
        drop(two);
        assert_eq!(counts.count(&"a"), 0);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
