use super::{Keys, Template, TemplateError, Ticks};
use crate::kinesis::ShardMap;
use crate::kinesis::md5::LANES;
use crate::load::Nanos;

/// Makes the records of a run: payload, partition key and place of any record number.
#[derive(Clone, Debug)]
pub struct Source {
    ticks: Ticks,
    keys: Keys,
    contents: Contents,
}

/// What payloads are.
#[derive(Clone, Debug)]
enum Contents {
    /// The ticker record itself.
    Ticks,
    /// A template of the user's, which may name what the ticker record tells.
    Template(Box<Template>),
}

impl Source {
    /// Ticker records with these keys.
    #[must_use]
    pub fn new(ticks: Ticks, keys: Keys) -> Self {
        Self { ticks, keys, contents: Contents::Ticks }
    }

    /// The same records with payloads by a template.
    #[must_use]
    pub fn with_template(mut self, template: Template) -> Self {
        self.contents = Contents::Template(Box::new(template));
        self
    }

    /// Sets when the run begins, in nanoseconds since 1970-01-01 UTC: intended starts count from it.
    pub fn starts_at(&mut self, start_unix: Nanos) {
        self.ticks.starts_at(start_unix);
    }

    /// The length of record `n`'s payload in bytes. It is asked for once in the making of a record: a
    /// payload that cannot be made is counted here ([`Source::failures`]).
    pub fn payload_len(&mut self, n: u64, intended: Nanos) -> usize {
        match &mut self.contents {
            Contents::Ticks => self.ticks.len(n, intended),
            Contents::Template(template) => template.len(n, intended, &mut self.ticks),
        }
    }

    /// How many payloads could not be made and say why instead, and why the first could not.
    #[must_use]
    pub fn failures(&self) -> (u64, Option<&TemplateError>) {
        match &self.contents {
            Contents::Ticks => (0, None),
            Contents::Template(template) => (template.failures(), template.first_failure()),
        }
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

    /// The share of the records that each shard of `map` is expected to take, in the order of its
    /// shards; they sum to 1. `None` if it is not known before the records are.
    #[must_use]
    pub fn expected_shares(&self, map: &ShardMap) -> Option<Vec<f64>> {
        Some(self.keys.expected_shares(&self.ticks, map))
    }

    /// Appends record `n`'s payload.
    pub fn write_payload(&mut self, n: u64, intended: Nanos, out: &mut Vec<u8>) {
        match &self.contents {
            Contents::Ticks => self.ticks.write(n, intended, out),
            Contents::Template(template) => template.write(n, intended, &mut self.ticks, out),
        }
    }

    /// Appends record `n`'s partition key.
    pub fn write_key(&self, n: u64, out: &mut Vec<u8>) {
        self.keys.write(n, &self.ticks, out);
    }

    /// The most bytes that one record can have, payload plus partition key.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        let payload = match &self.contents {
            Contents::Ticks => self.ticks.max_len(),
            Contents::Template(template) => template.max_len(),
        };
        payload + self.keys.max_len()
    }
}
