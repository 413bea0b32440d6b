use super::backlog::Backlog;
use super::{HotKeys, Record};
use crate::tick::Source;

/// Where the load is expected to be hot, and by which keys it is.
#[derive(Debug)]
pub(super) struct Heat {
    // Of each slot of the backlog: records expected under earlier shard maps, and its share under this.
    slots: Vec<(f64, f64)>,
    // How many records were made when this map came.
    since: u64,
    known: bool,
    // `None` where each record has a key of its own.
    keys: Option<HotKeys>,
    key: Vec<u8>,
}

impl Heat {
    pub(super) fn new(source: &Source, backlog: &Backlog) -> Self {
        let keys = source.shares_keys().then(HotKeys::new);
        let mut heat = Self { slots: Vec::new(), since: 0, known: false, keys, key: Vec::new() };
        heat.remap(source, backlog, 0);
        heat
    }

    /// Takes the shares of a new shard map, when `generated` records were made.
    pub(super) fn remap(&mut self, source: &Source, backlog: &Backlog, generated: u64) {
        let made = (generated - self.since) as f64;
        self.since = generated;
        self.slots.resize(backlog.shards().count(), (0.0, 0.0));
        for (expected, share) in &mut self.slots {
            *expected += *share * made;
            *share = 0.0;
        }
        let shares = source.expected_shares(backlog.map());
        self.known = shares.is_some();
        for (slot, share) in backlog.open().iter().zip(shares.unwrap_or_default()) {
            self.slots[*slot as usize].1 = share;
        }
    }

    /// Counts the key of a record.
    pub(super) fn count(&mut self, source: &Source, record: &Record) {
        if let Some(keys) = &mut self.keys {
            self.key.clear();
            source.write_key(record.n, record.intended, &mut self.key);
            keys.add(&self.key, 1);
        }
    }

    /// The records expected at each slot's shard of the `generated` that were made; `None` if unknown.
    pub(super) fn expected(&self, generated: u64) -> impl Iterator<Item = Option<f64>> + '_ {
        let made = (generated - self.since) as f64;
        self.slots.iter().map(move |(expected, share)| self.known.then_some(expected + share * made))
    }

    /// The hottest keys.
    pub(super) fn hot_keys(&self, most: usize) -> Vec<(String, u64)> {
        self.keys.as_ref().map_or_else(Vec::new, |keys| keys.top(most))
    }
}
