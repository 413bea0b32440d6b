use super::Waterfall;
use crate::load::Nanos;
use crate::observe::{CountedLoad, CountedSummary, LostRange, VerifySummary};
use crate::producer::aggregate::{self, DecodeError};
use crate::tick::{Source, Stamp};
use roaring::RoaringTreemap;
use serde_json::Value;

/// A Kinesis record that was read.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its partition key.
    pub partition_key: &'a str,
    /// Its data, which may be an aggregate.
    pub data: &'a [u8],
    /// When the stream took it, in nanoseconds since 1970-01-01 UTC by the stream's clock.
    pub arrived_unix: i64,
    /// When it was read, in nanoseconds since the start of the run; `None` if that says nothing of the
    /// stream, as it was read after the run.
    pub read: Option<Nanos>,
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
    // Whether nothing is known of the run but its id: its loads are those that are seen.
    by_id: bool,
    foreign: u64,
    waterfall: Waterfall,
    until_compression: u64,
    payload: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct LoadProof {
    name: String,
    // What makes its records; not known of a run that is known by its id alone.
    source: Option<Source>,
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
            LoadProof::new(name, Some(source))
        };
        Self {
            run,
            start_unix,
            loads: loads.into_iter().map(load).collect(),
            by_id: false,
            foreign: 0,
            waterfall: Waterfall::default(),
            until_compression: COMPRESS_EVERY,
            payload: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Of a run of which nothing is known but its id: what arrives is counted ([`Proof::counted`]), but not
    /// compared.
    #[must_use]
    pub fn by_id(run: u32) -> Self {
        Self { by_id: true, ..Self::new(run, 0, Vec::new()) }
    }

    /// Takes in that these records of the load at place `load` were acked, if nothing is known of when.
    pub fn all_acked(&mut self, load: usize, numbers: RoaringTreemap) {
        if let Some(of) = self.loads.get_mut(load) {
            of.acked = numbers;
            of.acked.optimize();
            of.missing = of.acked.len() - of.acked.intersection_len(&of.delivered);
        }
    }

    /// Whether it is known which records were acked.
    #[must_use]
    pub fn knows_acked(&self) -> bool {
        !self.by_id
    }

    /// The numbers of the acked records of the load at this place.
    #[must_use]
    pub fn acked_of(&self, load: usize) -> Option<&RoaringTreemap> {
        self.loads.get(load).map(|load| &load.acked)
    }

    /// The most bytes that a record can have, as far as it is known what they are.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        let sources = self.loads.iter().filter_map(|load| load.source.as_ref());
        sources.map(Source::max_record_bytes).max().unwrap_or(0)
    }

    /// Takes nothing as read, so that documents can be read again.
    pub fn forget_documents(&mut self) {
        self.foreign = 0;
        for load in &mut self.loads {
            let fresh = LoadProof::new(std::mem::take(&mut load.name), load.source.take());
            let acked = std::mem::take(&mut load.acked);
            *load = LoadProof { missing: acked.len(), acked, ..fresh };
        }
    }

    /// Notes documents that are not of the run.
    pub fn foreign_documents(&mut self, documents: u64) {
        self.foreign += documents;
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
                    self.settle_record(user.partition_key.as_bytes(), user.data, &record);
                }
            }
            Err(DecodeError::NotAggregated) => {
                self.settle_record(record.partition_key.as_bytes(), record.data, &record);
            }
            // What pretends to be an aggregate and is none says nothing of who made it.
            Err(_) => self.foreign += 1,
        }
    }

    /// Takes in a document of an index, as JSON. Documents have no order and no time of arrival.
    pub fn read_document(&mut self, document: &Value) {
        let stamp = document[Stamp::FIELD].as_str().and_then(|text| Stamp::parse(text.as_bytes()));
        let same = |payload: &[u8], _: &[u8]| {
            serde_json::from_slice::<Value>(payload).is_ok_and(|payload| payload == *document)
        };
        self.settle(stamp, same);
    }

    fn settle_record(&mut self, key: &[u8], data: &[u8], record: &Arrived<'_>) {
        let stamp = Stamp::parse(key).or_else(|| Stamp::in_payload(data));
        let same = |made: &[u8], made_key: &[u8]| made == data && made_key == key;
        let Some(stamp) = self.settle(stamp, same) else { return };
        let Some(of) = self.loads.get_mut(usize::from(stamp.load)) else { return };
        // Records that an explicit hash key places have one partition key and no order: they are on all shards.
        let ordered = of.source.as_ref().filter(|source| !source.explicit());
        let key = ordered.and_then(|source| source.key_index(stamp.n));
        if let Some(next) = key.and_then(|key| of.next_of_key.get_mut(key)) {
            of.out_of_order += u64::from(stamp.n < *next);
            *next = (*next).max(stamp.n + 1);
        }
        let intended = stamp.start_unix.saturating_sub(self.start_unix);
        let start = i64::try_from(self.start_unix).unwrap_or(i64::MAX);
        let arrived = record.arrived_unix.saturating_sub(start);
        self.waterfall.told(record.arrived_unix);
        self.waterfall.read((stamp.load, stamp.n), intended, arrived, record.read);
    }

    /// Settles what bears a stamp. `same`: whether it is the record of this payload and key. Gives the stamp
    /// of a record that is delivered by this.
    fn settle(&mut self, stamp: Option<Stamp>, same: impl Fn(&[u8], &[u8]) -> bool) -> Option<Stamp> {
        let own = stamp.filter(|stamp| stamp.run == self.run);
        if let Some(stamp) = own.filter(|_| self.by_id) {
            while self.loads.len() <= usize::from(stamp.load) {
                self.loads.push(LoadProof::new(self.loads.len().to_string(), None));
            }
        }
        let Some((stamp, of)) = own.and_then(|s| Some((s, self.loads.get_mut(usize::from(s.load))?))) else {
            self.foreign += 1;
            return None;
        };
        self.payload.clear();
        self.key.clear();
        // A time before the run's start is not one of its records' times.
        if let (Some(source), true) = (&mut of.source, stamp.start_unix >= self.start_unix) {
            let intended = stamp.start_unix - self.start_unix;
            source.write_payload(stamp.n, intended, &mut self.payload);
            source.write_key(stamp.n, intended, &mut self.key);
        }
        if of.source.is_some() && !same(&self.payload, &self.key) {
            of.corrupted += 1;
            return None;
        }
        if !of.delivered.insert(stamp.n) {
            of.copies += 1;
            of.repeated.insert(stamp.n);
            return None;
        }
        of.missing -= u64::from(of.acked.contains(stamp.n));
        self.compress_after(1);
        Some(stamp)
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

    /// How many records have arrived so far; each is counted once.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.loads.iter().map(|load| load.delivered.len()).sum()
    }

    /// What is proved. `error`: why not all was read. What is missing may then be there, so that nothing is
    /// called lost.
    #[must_use]
    pub fn summary(&self, error: Option<String>) -> VerifySummary {
        let sum = |count: fn(&LoadProof) -> u64| self.loads.iter().map(count).sum();
        let delivered = self.delivered();
        let acked: u64 = sum(|load| load.acked.len());
        let missing = self.missing();
        let (lost, unread) = if error.is_some() { (0, missing) } else { (missing, 0) };
        let waterfall = self.waterfall.summary();
        let lost_ranges = |of: &LoadProof| if lost > 0 { of.lost() } else { Vec::new() };
        VerifySummary {
            acked,
            delivered,
            delivered_unacked: delivered - (acked - missing),
            lost,
            lost_ranges: self.loads.iter().flat_map(lost_ranges).collect(),
            unread,
            duplicated: sum(|load| load.copies),
            duplicated_records: sum(|load| load.repeated.len()),
            out_of_order: sum(|load| load.out_of_order),
            corrupted: sum(|load| load.corrupted),
            foreign: self.foreign,
            untimed: (acked - missing).saturating_sub(waterfall.sent_to_acked_ms.count),
            waterfall,
            error,
        }
    }

    /// What was counted, of a run that is known by its id alone.
    #[must_use]
    pub fn counted(&self) -> CountedSummary {
        let sum = |count: fn(&LoadProof) -> u64| self.loads.iter().map(count).sum();
        CountedSummary {
            delivered: self.delivered(),
            duplicated: sum(|load| load.copies),
            duplicated_records: sum(|load| load.repeated.len()),
            foreign: self.foreign,
            loads: self.loads.iter().map(LoadProof::counted).filter(|load| load.delivered > 0).collect(),
            error: None,
        }
    }
}

impl LoadProof {
    fn new(name: String, source: Option<Source>) -> Self {
        Self {
            name,
            next_of_key: vec![0; source.as_ref().map_or(0, Source::key_count)],
            source,
            acked: RoaringTreemap::new(),
            delivered: RoaringTreemap::new(),
            missing: 0,
            repeated: RoaringTreemap::new(),
            copies: 0,
            corrupted: 0,
            out_of_order: 0,
        }
    }

    fn counted(&self) -> CountedLoad {
        let numbers = self.delivered.max().map_or(0, |last| last + 1);
        CountedLoad {
            place: self.name.clone(),
            delivered: self.delivered.len(),
            numbers,
            gaps: numbers - self.delivered.len(),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use crate::tick::{EventTime, Keys, Market, StampPlace, Ticks, TimeZone};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const START: Nanos = 1_795_373_640 * SECOND;

    fn source(keys: &str, stamps: StampPlace, run: u32, load: u8) -> Source {
        let tickers = ["AAPL".to_owned(), "TBV".to_owned()];
        let time = EventTime::new(0, TimeZone::Utc);
        let ticks = Ticks::new(9, Market::Walk, &tickers, None, time).unwrap();
        let keys = Keys::new(&keys.parse().unwrap(), 9, &ticks);
        let mut source = Source::new(ticks, keys).with_stamps(stamps, run, load);
        source.starts_at(START);
        source
    }

    fn stored(source: &mut Source, n: u64) -> (String, Vec<u8>) {
        let (mut key, mut data) = (Vec::new(), Vec::new());
        source.write_key(n, n * 1000, &mut key);
        source.write_payload(n, n * 1000, &mut data);
        (String::from_utf8(key).unwrap(), data)
    }

    fn read(proof: &mut Proof, key: &str, data: &[u8]) {
        proof.read(Arrived { partition_key: key, data, arrived_unix: 0, read: Some(0) });
    }

    fn proof(keys: &str, stamps: StampPlace) -> Proof {
        let load = |load: u8| (load.to_string(), source(keys, stamps, 7, load));
        Proof::new(7, START, vec![load(0), load(1)])
    }

    /// What happens to a record: whether it is acked, how many copies arrive whole, and how many do not.
    type Fate = (bool, u32, u32);

    proptest! {
        /// Whatever arrives in whatever order, each count is what was done.
        #[test]
        fn counts_are_what_was_done(
            fates in prop::collection::vec((any::<bool>(), 0_u32..4, 0_u32..2), 0..80),
            foreign in 0_usize..5,
            order: u64,
            body: bool,
        ) {
            let stamps = if body { StampPlace::Body } else { StampPlace::Key };
            let mut proof = proof(if body { "ticker" } else { "uniform" }, stamps);
            let mut own = source(if body { "ticker" } else { "uniform" }, stamps, 7, 1);
            let mut other = source(if body { "ticker" } else { "uniform" }, stamps, 8, 1);
            // What is done, to be shuffled: acks (no copy), copies, and whether they are whole.
            let mut deeds: Vec<(u64, Option<bool>)> = Vec::new();
            for (n, (acked, whole, spoiled)) in (0..).zip(&fates) {
                deeds.extend(acked.then_some((n, None)));
                deeds.extend((0..*whole).map(|_| (n, Some(true))));
                deeds.extend((0..*spoiled).map(|_| (n, Some(false))));
            }
            deeds.sort_by_key(|(n, kind)| crate::draw::Draws::new(order, 0).bits(n * 8 + u64::from(kind.is_some())));
            for (n, deed) in deeds {
                let (key, mut data) = stored(&mut own, n);
                match deed {
                    None => proof.acked(1, &[n], 1, 2),
                    Some(whole) => {
                        // Only the date of EVENT_TIME.
                        if !whole {
                            data[16] ^= 1;
                        }
                        read(&mut proof, &key, &data);
                    }
                }
            }
            for n in 0..foreign {
                let (key, data) = stored(&mut other, n as u64);
                read(&mut proof, &key, &data);
            }
            let summary = proof.summary(None);
            let count = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count() as u64;
            prop_assert_eq!(summary.acked, count(|f| f.0));
            prop_assert_eq!(summary.delivered, count(|f| f.1 > 0));
            prop_assert_eq!(summary.delivered_unacked, count(|f| !f.0 && f.1 > 0));
            prop_assert_eq!(summary.lost, count(|f| f.0 && f.1 == 0));
            prop_assert_eq!(summary.duplicated_records, count(|f| f.1 > 1));
            prop_assert_eq!(summary.duplicated, fates.iter().map(|f| u64::from(f.1.saturating_sub(1))).sum::<u64>());
            prop_assert_eq!(summary.corrupted, fates.iter().map(|f| u64::from(f.2)).sum::<u64>());
            prop_assert_eq!(summary.foreign, foreign as u64);
            prop_assert_eq!(summary.acked, summary.delivered - summary.delivered_unacked + summary.lost);
            let lost: BTreeSet<u64> = summary.lost_ranges.iter().flat_map(|r| r.first..=r.last).collect();
            let expected = (0..).zip(&fates).filter(|(_, f)| f.0 && f.1 == 0).map(|(n, _)| n);
            prop_assert_eq!(lost, expected.collect::<BTreeSet<u64>>());
            prop_assert_eq!(proof.missing(), summary.lost);
        }
    }

    #[test]
    fn order_is_looked_at_for_each_key() {
        let mut proof = proof("fixed:k", StampPlace::Body);
        let mut own = source("fixed:k", StampPlace::Body, 7, 0);
        // 2 and 3 come after 5; the second 5 is a copy.
        for n in [0, 1, 5, 2, 3, 5, 6] {
            let (key, data) = stored(&mut own, n);
            read(&mut proof, &key, &data);
        }
        let summary = proof.summary(None);
        assert_eq!((summary.out_of_order, summary.duplicated, summary.delivered), (2, 1, 6));
    }

    /// Their one key is on every shard, and each shard is read at its own pace.
    #[test]
    fn records_that_are_placed_have_no_order() {
        let mut proof = proof("per-shard", StampPlace::Body);
        let mut own = source("per-shard", StampPlace::Body, 7, 0);
        for n in [0, 4, 8, 1, 5, 9] {
            let (key, data) = stored(&mut own, n);
            read(&mut proof, &key, &data);
        }
        let summary = proof.summary(None);
        assert_eq!((summary.out_of_order, summary.delivered), (0, 6));
    }

    /// Past a bound halves that wait for each other are not kept, which is told.
    #[test]
    fn records_without_times_are_counted() {
        let mut proof = proof("uniform", StampPlace::Key);
        let mut own = source("uniform", StampPlace::Key, 7, 0);
        let most = 1 << 18;
        let numbers: Vec<u64> = (0..most + 10).collect();
        proof.acked(0, &numbers, 1, 2);
        for n in most - 5..most + 10 {
            let (key, data) = stored(&mut own, n);
            read(&mut proof, &key, &data);
        }
        let summary = proof.summary(None);
        assert_eq!(
            (summary.delivered, summary.waterfall.sent_to_acked_ms.count, summary.untimed),
            (15, 5, 10)
        );
    }

    #[test]
    fn documents_that_are_read_again_are_no_copies() {
        let mut proof = proof("uniform", StampPlace::Body);
        let mut own = source("uniform", StampPlace::Body, 7, 0);
        proof.acked(0, &[0, 1], 1, 2);
        for _ in 0..2 {
            proof.forget_documents();
            for n in [0, 0, 1] {
                proof.read_document(&serde_json::from_slice(&stored(&mut own, n).1).unwrap());
            }
            proof.read_document(&Value::Null);
            let summary = proof.summary(None);
            assert_eq!((summary.delivered, summary.duplicated, summary.lost, summary.foreign), (2, 1, 0, 1));
        }
    }

    /// What was not seen is not lost where not all was read.
    #[test]
    fn what_was_not_read_is_not_lost() {
        let mut proof = proof("uniform", StampPlace::Key);
        let mut own = source("uniform", StampPlace::Key, 7, 0);
        proof.acked(0, &[0, 1, 2], 1, 2);
        let (key, data) = stored(&mut own, 1);
        read(&mut proof, &key, &data);
        let summary = proof.summary(Some("broken off".to_owned()));
        assert_eq!((summary.delivered, summary.lost, summary.unread), (1, 0, 2));
        assert!(summary.lost_ranges.is_empty() && !summary.proves());
        let summary = proof.summary(None);
        assert_eq!((summary.lost, summary.unread, summary.lost_ranges.len()), (2, 0, 2));
    }

    #[test]
    fn aggregates_are_opened_and_what_is_no_record_of_the_run_is_foreign() {
        let mut proof = proof("per-shard", StampPlace::Key);
        let mut own = source("per-shard", StampPlace::Key, 7, 0);
        let mut writer = aggregate::AggregateWriter::default();
        let mut packed = aggregate::Pieces::default();
        writer.begin(Some(5), &mut packed);
        let records: Vec<_> = (0..3).map(|n| stored(&mut own, n)).collect();
        for (key, _) in &records {
            writer.key(None, key.len(), &mut packed, |out| out.extend(key.as_bytes()));
        }
        for (_, data) in &records {
            writer.record_head(data.len(), &mut packed);
            packed.extend(data);
        }
        writer.end(&mut packed);
        let end = packed.len();
        aggregate::seal(packed.as_mut_slice(), &[end]);
        let mut packed = packed.as_slice().to_vec();
        read(&mut proof, "a", &packed);
        // A load that the run does not have, no stamp at all, and an aggregate that is broken.
        let (key, data) = stored(&mut source("uniform", StampPlace::Key, 7, 2), 0);
        read(&mut proof, &key, &data);
        read(&mut proof, "partitionkey", b"{}");
        let last = packed.len() - 1;
        packed[last] ^= 1;
        read(&mut proof, "a", &packed);
        let summary = proof.summary(None);
        assert_eq!((summary.delivered, summary.foreign, summary.corrupted), (3, 3, 0));
    }

    /// A run of ten million records that settle in about their order keeps a few hundred bytes.
    #[test]
    fn what_is_settled_without_gaps_takes_no_room() {
        let mut proof = proof("uniform", StampPlace::Key);
        for from in (0..10_000_000_u64).step_by(500) {
            let numbers: Vec<u64> = (from..from + 500).collect();
            proof.acked(0, &numbers, 0, 0);
        }
        proof.loads[0].acked.optimize();
        assert_eq!(proof.missing(), 10_000_000);
        assert!(proof.loads[0].acked.serialized_size() < 10_000);
    }
}
