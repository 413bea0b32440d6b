use super::{Keys, Ticks};
use crate::kinesis::ShardMap;
use crate::kinesis::md5::LANES;
use crate::load::Nanos;

/// Makes the records of a run: payload, partition key and place of any record number.
#[derive(Clone, Debug)]
pub struct Source {
    ticks: Ticks,
    keys: Keys,
}

impl Source {
    /// Records with these payloads and keys.
    #[must_use]
    pub fn new(ticks: Ticks, keys: Keys) -> Self {
        Self { ticks, keys }
    }

    /// Sets when the run begins, in nanoseconds since 1970-01-01 UTC: intended starts count from it.
    pub fn starts_at(&mut self, start_unix: Nanos) {
        self.ticks.starts_at(start_unix);
    }

    /// The length of record `n`'s payload in bytes.
    #[must_use]
    pub fn payload_len(&self, n: u64, intended: Nanos) -> usize {
        self.ticks.len(n, intended)
    }

    /// The length of record `n`'s partition key in bytes.
    #[must_use]
    pub fn key_len(&self, n: u64) -> usize {
        self.keys.len(n, &self.ticks)
    }

    /// Which of the run's [`Source::key_count`] keys record `n` has; `None` if it has its own.
    #[must_use]
    pub fn key_index(&self, n: u64) -> Option<usize> {
        self.keys.index(n, &self.ticks)
    }

    /// How many keys the records choose among; 0 if each has its own.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.count().unwrap_or(0)
    }

    /// Whether records are placed by explicit hash keys.
    #[must_use]
    pub fn explicit(&self) -> bool {
        self.keys.explicit()
    }

    /// The place in `map` of the shard that takes record `n`.
    #[must_use]
    pub fn place(&self, n: u64, map: &ShardMap) -> usize {
        self.keys.place(n, &self.ticks, map)
    }

    /// The places in `map` of up to [`LANES`] records at once.
    #[must_use]
    pub fn places(&self, numbers: &[u64], map: &ShardMap) -> [usize; LANES] {
        self.keys.places(numbers, &self.ticks, map)
    }

    /// Appends record `n`'s payload.
    pub fn write_payload(&mut self, n: u64, intended: Nanos, out: &mut Vec<u8>) {
        self.ticks.write(n, intended, out);
    }

    /// Appends record `n`'s partition key.
    pub fn write_key(&self, n: u64, out: &mut Vec<u8>) {
        self.keys.write(n, &self.ticks, out);
    }

    /// The most bytes that one record can have, payload plus partition key.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.ticks.max_len() + self.keys.max_len()
    }
}
