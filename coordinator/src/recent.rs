//! A cache that keeps what was used last, up to a number of bytes.

use std::{
    hash::Hash,
    sync::{Arc, Mutex},
};

use lru::LruCache;

/// Values by key, those that were used last. Clones share it.
pub(crate) struct Recent<K, V> {
    kept: Arc<Mutex<Kept<K, V>>>,
    /// The bytes that all values together may have.
    most: usize,
}

struct Kept<K, V> {
    values: LruCache<K, (V, usize)>,
    bytes: usize,
}

impl<K, V> Clone for Recent<K, V> {
    fn clone(&self) -> Self {
        Self {
            kept: Arc::clone(&self.kept),
            most: self.most,
        }
    }
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// An empty cache for values of so many bytes together.
    pub(crate) fn new(most: usize) -> Self {
        let kept = Kept {
            values: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
            most,
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut kept = self.kept.lock().expect("no holder panics");
        kept.values.get(key).map(|(value, _)| value.clone())
    }

    /// Keeps a value of about so many bytes, and forgets what was not used for longest. The value
    /// itself is kept, however large it is.
    pub(crate) fn put(&self, key: K, value: V, bytes: usize) {
        let mut kept = self.kept.lock().expect("no holder panics");
        if let Some((_, before)) = kept.values.put(key, (value, bytes)) {
            kept.bytes -= before;
        }
        kept.bytes += bytes;
        while kept.bytes > self.most && kept.values.len() > 1 {
            let Some((_, (_, bytes))) = kept.values.pop_lru() else {
                return;
            };
            kept.bytes -= bytes;
        }
    }

    /// Forgets a value if it is of this kind.
    pub(crate) fn forget_if(&self, key: &K, is_old: impl FnOnce(&V) -> bool) {
        let mut kept = self.kept.lock().expect("no holder panics");
        let is_old = kept
            .values
            .peek(key)
            .is_some_and(|(value, _)| is_old(value));
        if is_old && let Some((_, bytes)) = kept.values.pop(key) {
            kept.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let recent = Recent::new(100);
        for key in 1..=4 {
            recent.put(key, key * 10, 25);
        }
        assert_eq!(recent.get(&1), Some(10));
        recent.put(5, 50, 50);
        let kept = (1..=5).filter(|key| recent.get(key).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), [1, 4, 5]);
        // A larger value takes the place of a smaller one.
        recent.put(5, 51, 75);
        let kept = (1..=5).filter(|key| recent.get(key).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), [4, 5]);
        recent.put(6, 60, 1000);
        assert_eq!(recent.get(&6), Some(60));
        assert_eq!(recent.get(&5), None);
        recent.forget_if(&6, |value| *value != 60);
        assert_eq!(recent.get(&6), Some(60));
        recent.forget_if(&6, |value| *value == 60);
        assert_eq!(recent.get(&6), None);
        recent.put(7, 70, 100);
        assert_eq!(recent.get(&7), Some(70));
    }
}
