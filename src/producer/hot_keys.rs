use heavykeeper::TopK;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};

/// The hottest partition keys of a run, in some 70 KiB whatever the keys.
///
/// `HeavyKeeper` (Gong et al., USENIX ATC 2018): counts are estimates from below, close for hot keys; what
/// is named last of many alike may be any of them. The same input gives the same answer.
#[derive(Clone)]
pub struct HotKeys {
    sketch: TopK<Vec<u8>, BuildHasherDefault<DefaultHasher>>,
}

/// Keys that are kept by name.
const KEPT: usize = 100;

/// Counters in a row of the sketch, and rows.
const WIDTH: usize = 1024;
const DEPTH: usize = 4;

/// How reluctantly a key's counter gives way to another's: with 0.9^count.
const DECAY: f64 = 0.9;

impl HotKeys {
    /// No key yet.
    #[must_use]
    pub fn new() -> Self {
        let hasher = BuildHasherDefault::default();
        Self { sketch: TopK::with_hasher(KEPT, WIDTH, DEPTH, DECAY, hasher) }
    }

    /// Counts `count` records of a partition key. It costs a hash and four counters; up to `count` steps
    /// where the key is not a hot one.
    pub fn add(&mut self, key: &[u8], count: u64) {
        self.sketch.add(key, count);
    }

    /// The hottest `k` keys (of at most 100 known) with their counts, hottest first, and by name where
    /// counts are the same. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn top(&self, k: usize) -> Vec<(String, u64)> {
        let mut keys = self.sketch.list();
        keys.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.item.cmp(&b.item)));
        keys.truncate(k);
        keys.into_iter().map(|key| (String::from_utf8_lossy(&key.item).into_owned(), key.count)).collect()
    }
}

impl Default for HotKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HotKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotKeys").field("top", &self.top(10)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::{EventTime, Keys, Market, Ticks, TimeZone};
    use std::collections::BTreeMap;

    fn count(kind: &str, seed: u64, numbers: std::ops::Range<u64>) -> (HotKeys, BTreeMap<String, u64>) {
        let time = EventTime::new(0, TimeZone::Utc);
        let ticks = Ticks::new(seed, Market::Random, &["A".to_owned()], None, time).unwrap();
        let keys = Keys::new(&kind.parse().unwrap(), seed, &ticks);
        let (mut hot, mut exact) = (HotKeys::new(), BTreeMap::new());
        for n in numbers {
            let mut key = Vec::new();
            keys.write(n, &ticks, &mut key);
            hot.add(&key, 1);
            *exact.entry(String::from_utf8(key).unwrap()).or_insert(0) += 1;
        }
        (hot, exact)
    }

    fn true_top(exact: &BTreeMap<String, u64>, k: usize) -> Vec<(String, u64)> {
        let mut keys: Vec<_> = exact.clone().into_iter().collect();
        keys.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), key.clone()));
        keys.truncate(k);
        keys
    }

    #[test]
    fn the_hottest_keys_of_a_zipf_load_are_named() {
        for seed in 0..5 {
            let (hot, exact) = count("zipf:1:100000", seed, 0..300_000);
            let names = |keys: Vec<(String, u64)>| keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
            assert_eq!(names(hot.top(10)), names(true_top(&exact, 10)), "seed {seed}");
            for (key, estimate) in hot.top(20) {
                let error = (estimate as f64 / exact[&key] as f64 - 1.0).abs();
                assert!(estimate <= exact[&key] && error < 0.02, "{key}: {estimate} for {}", exact[&key]);
            }
        }
    }

    #[test]
    fn few_keys_are_counted_exactly() {
        let (hot, exact) = count("zipf:1:50", 1, 0..50_000);
        assert_eq!(hot.top(100), true_top(&exact, 50));
    }

    #[test]
    fn the_same_input_gives_the_same_answer() {
        let count = || count("zipf:1.2", 3, 0..100_000).0.top(100);
        assert_eq!(count(), count());
    }

    #[test]
    fn counts_of_many_records_count_as_many() {
        let mut hot = HotKeys::new();
        hot.add(b"cold", 1);
        hot.add(b"hot", 1_000);
        hot.add(b"hot", 500);
        assert_eq!(hot.top(9), [("hot".to_owned(), 1_500), ("cold".to_owned(), 1)]);
        assert_eq!(hot.top(1).len(), 1);
    }
}
