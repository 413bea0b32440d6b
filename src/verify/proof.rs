use super::Waterfall;
use crate::load::Nanos;
use crate::observe::{LostRange, VerifySummary};
use crate::producer::aggregate::{self, DecodeError};
use crate::tick::{Source, Stamp};
use roaring::RoaringTreemap;

/// A Kinesis record that was read.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its partition key.
    pub partition_key: &'a str,
    /// Its data, which may be an aggregate.
    pub data: &'a [u8],
    /// When the stream took it, in nanoseconds since 1970-01-01 UTC by the stream's clock.
    pub arrived_unix: i64,
    /// When it was read, in nanoseconds since the start of the run.
    pub read: Nanos,
}

/// What arrived of a run, record by record, against what its producer was told.
///
/// `acked = acked that arrived + lost`, and `delivered = acked that arrived + not acked that arrived`.
/// What is kept of a record is one bit for each of the two sides, and less once the records around it
/// have come too: sets of numbers, compressed to their runs.
#[derive(Debug)]
pub struct Proof {
    run: u32,
    start_unix: Nanos,
    loads: Vec<LoadProof>,
    foreign: u64,
    waterfall: Waterfall,
    until_compression: u64,
    payload: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct LoadProof {
    name: String,
    source: Source,
    acked: RoaringTreemap,
    delivered: RoaringTreemap,
    // Acked and not delivered so far.
    missing: u64,
    repeated: RoaringTreemap,
    copies: u64,
    corrupted: u64,
    out_of_order: u64,
    // For each of the load's keys, one more than the highest number that came of it.
    next_of_key: Vec<u64>,
}

/// Numbers taken in between two compressions.
const COMPRESS_EVERY: u64 = 1 << 20;

/// Ranges of lost records that are told, of each load.
const TOLD_RANGES: usize = 1000;

impl Proof {
    /// Of the run `run` that began `start_unix` nanoseconds after 1970-01-01 UTC, with its loads' names
    /// and stamped records.
    #[must_use]
    pub fn new(run: u32, start_unix: Nanos, loads: Vec<(String, Source)>) -> Self {
        let load = |(name, mut source): (String, Source)| {
            source.starts_at(start_unix);
            LoadProof {
                name,
                next_of_key: vec![0; source.key_count()],
                source,
                acked: RoaringTreemap::new(),
                delivered: RoaringTreemap::new(),
                missing: 0,
                repeated: RoaringTreemap::new(),
                copies: 0,
                corrupted: 0,
                out_of_order: 0,
            }
        };
        Self {
            run,
            start_unix,
            loads: loads.into_iter().map(load).collect(),
            foreign: 0,
            waterfall: Waterfall::default(),
            until_compression: COMPRESS_EVERY,
            payload: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Takes in that an answer acked these records of the load at place `load`. `sent` and `acked` are
    /// nanoseconds since the start of the run.
    pub fn acked(&mut self, load: u8, numbers: &[u64], sent: Nanos, acked: Nanos) {
        let Some(of) = self.loads.get_mut(usize::from(load)) else { return };
        for &n in numbers {
            of.acked.insert(n);
            of.missing += u64::from(!of.delivered.contains(n));
            self.waterfall.acked((load, n), sent, acked);
        }
        self.compress_after(numbers.len() as u64);
    }

    /// Takes in a Kinesis record that was read: its user records, if it is an aggregate.
    pub fn read(&mut self, record: Arrived<'_>) {
        match aggregate::decode(record.data) {
            Ok(records) => {
                for user in records {
                    self.settle(user.partition_key.as_bytes(), user.data, &record);
                }
            }
            Err(DecodeError::NotAggregated) => {
                self.settle(record.partition_key.as_bytes(), record.data, &record);
            }
            // What pretends to be an aggregate and is none says nothing of who made it.
            Err(_) => self.foreign += 1,
        }
    }

    fn settle(&mut self, key: &[u8], data: &[u8], record: &Arrived<'_>) {
        let stamp = Stamp::parse(key).or_else(|| Stamp::in_payload(data));
        let own = stamp.filter(|stamp| stamp.run == self.run);
        let Some((stamp, of)) = own.and_then(|s| Some((s, self.loads.get_mut(usize::from(s.load))?))) else {
            self.foreign += 1;
            return;
        };
        let intended = stamp.start_unix.wrapping_sub(self.start_unix);
        self.payload.clear();
        self.key.clear();
        // A time before the run's start is not one of its records' times.
        if stamp.start_unix >= self.start_unix {
            of.source.write_payload(stamp.n, intended, &mut self.payload);
            of.source.write_key(stamp.n, intended, &mut self.key);
        }
        if self.payload != data || self.key != key {
            of.corrupted += 1;
            return;
        }
        if !of.delivered.insert(stamp.n) {
            of.copies += 1;
            of.repeated.insert(stamp.n);
            return;
        }
        of.missing -= u64::from(of.acked.contains(stamp.n));
        if let Some(next) = of.source.key_index(stamp.n).and_then(|key| of.next_of_key.get_mut(key)) {
            of.out_of_order += u64::from(stamp.n < *next);
            *next = (*next).max(stamp.n + 1);
        }
        let start = i64::try_from(self.start_unix).unwrap_or(i64::MAX);
        let arrived = record.arrived_unix.saturating_sub(start);
        self.waterfall.told(record.arrived_unix);
        self.waterfall.read((stamp.load, stamp.n), intended, arrived, record.read);
        self.compress_after(1);
    }

    /// Packs the sets into runs, now and then.
    fn compress_after(&mut self, numbers: u64) {
        self.until_compression = self.until_compression.saturating_sub(numbers);
        if self.until_compression == 0 {
            self.until_compression = COMPRESS_EVERY;
            for load in &mut self.loads {
                load.acked.optimize();
                load.delivered.optimize();
                load.repeated.optimize();
            }
        }
    }

    /// How many records were acked and have not arrived so far.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.loads.iter().map(|load| load.missing).sum()
    }

    /// What is proved.
    #[must_use]
    pub fn summary(&self) -> VerifySummary {
        let sum = |count: fn(&LoadProof) -> u64| self.loads.iter().map(count).sum();
        let delivered: u64 = sum(|load| load.delivered.len());
        let acked: u64 = sum(|load| load.acked.len());
        let lost: u64 = sum(|load| load.missing);
        VerifySummary {
            acked,
            delivered,
            delivered_unacked: delivered - (acked - lost),
            lost,
            lost_ranges: self.loads.iter().flat_map(LoadProof::lost).collect(),
            duplicated: sum(|load| load.copies),
            duplicated_records: sum(|load| load.repeated.len()),
            out_of_order: sum(|load| load.out_of_order),
            corrupted: sum(|load| load.corrupted),
            foreign: self.foreign,
            waterfall: self.waterfall.summary(),
            error: None,
        }
    }
}

impl LoadProof {
    /// The ranges of numbers that were acked and did not arrive, by rising number.
    fn lost(&self) -> Vec<LostRange> {
        let mut ranges: Vec<LostRange> = Vec::new();
        if self.missing == 0 {
            return ranges;
        }
        for n in &self.acked - &self.delivered {
            if let Some(range) = ranges.last_mut().filter(|range| range.last + 1 == n) {
                range.last = n;
            } else if ranges.len() < TOLD_RANGES {
                ranges.push(LostRange { load: self.name.clone(), first: n, last: n });
            } else {
                break;
            }
        }
        ranges
    }
}
