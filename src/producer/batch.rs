use super::Record;
use crate::load::{MILLISECOND, Nanos};

/// When a batch is full or old enough to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchBounds {
    /// Entries in one request.
    pub entries: usize,
    /// Bytes of one request as Kinesis counts them: data before base64 plus partition keys.
    pub bytes: usize,
    /// How long a batch waits to fill, from its first entry.
    pub linger: Nanos,
}

/// How long a batch waits at most while a shard is at its limit: shard limits count an entry when it is admitted, and
/// have so much room for when it leaves.
const LINGER_AT_LIMIT: Nanos = 10 * MILLISECOND;

/// Why a batch left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// It had as many entries as a request may have.
    Entries,
    /// The next entry did not fit.
    Bytes,
    /// Its first entry had waited as long as it may.
    Linger,
    /// The run was ending.
    Drain,
}

impl FlushReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Entries, Self::Bytes, Self::Linger, Self::Drain];

    /// The name in metrics and summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes",
            Self::Linger => "linger",
            Self::Drain => "drain",
        }
    }
}

/// An entry of a batch: one Kinesis record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The slot of the shard it goes to.
    pub slot: u32,
    /// The first hash key that the shard takes.
    pub first_hash_key: u128,
    /// How many user records it holds: the next ones of the batch.
    pub records: u32,
    /// Its size as Kinesis counts it, in bytes.
    pub bytes: u32,
}

/// The request in the making.
#[derive(Debug)]
pub struct Batch {
    bounds: BatchBounds,
    /// The user records; those past the last entry's belong to the next one.
    records: Vec<Record>,
    in_entries: usize,
    entries: Vec<Entry>,
    bytes: usize,
    opened: Nanos,
    overflowed: bool,
    // The memory of batches that were settled.
    spare: Vec<(Vec<Record>, Vec<Entry>)>,
}

/// A batch that left.
#[derive(Debug)]
pub struct SealedBatch {
    /// The user records, entry by entry.
    pub records: Vec<Record>,
    /// The entries, in the order of the request.
    pub entries: Vec<Entry>,
    /// Its size as Kinesis counts it, in bytes.
    pub bytes: usize,
    /// Why it left.
    pub reason: FlushReason,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new(bounds: BatchBounds) -> Self {
        Self {
            bounds,
            records: Vec::new(),
            in_entries: 0,
            entries: Vec::new(),
            bytes: 0,
            opened: 0,
            overflowed: false,
            spare: Vec::new(),
        }
    }

    /// The bytes that still fit; any number while the batch is empty, so that an entry larger than
    /// the bound travels alone.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.entries.is_empty() { usize::MAX } else { self.bounds.bytes.saturating_sub(self.bytes) }
    }

    /// Whether it takes another entry.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entries.len() < self.bounds.entries && !self.overflowed
    }

    /// How many user records it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// How many entries it holds.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its size as Kinesis counts it, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the records of the next entry are put before [`Batch::push`].
    pub fn records_mut(&mut self) -> &mut Vec<Record> {
        &mut self.records
    }

    /// Makes an entry of the records put in since the last one, for the shard of a slot.
    pub fn push(&mut self, slot: u32, first_hash_key: u128, bytes: usize, now: Nanos) {
        if self.entries.is_empty() {
            self.opened = now;
        }
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let records = narrow(self.records.len() - self.in_entries);
        self.in_entries = self.records.len();
        self.entries.push(Entry { slot, first_hash_key, records, bytes: narrow(bytes) });
        self.bytes += bytes;
    }

    /// Notes that the next entry did not fit.
    pub fn overflow(&mut self) {
        self.overflowed = true;
    }

    /// Why it should leave now, if it should; `at_limit`: a shard has used up its limit.
    #[must_use]
    pub fn due(&self, now: Nanos, draining: bool, at_limit: bool) -> Option<FlushReason> {
        if self.entries.is_empty() {
            None
        } else if self.entries.len() >= self.bounds.entries {
            Some(FlushReason::Entries)
        } else if self.overflowed || self.bytes >= self.bounds.bytes {
            Some(FlushReason::Bytes)
        } else if draining {
            Some(FlushReason::Drain)
        } else {
            (now >= self.opened + self.linger(at_limit)).then_some(FlushReason::Linger)
        }
    }

    /// When it will have lingered enough; `None` while it is empty.
    #[must_use]
    pub fn linger_ends(&self, at_limit: bool) -> Option<Nanos> {
        (!self.entries.is_empty()).then_some(self.opened + self.linger(at_limit))
    }

    fn linger(&self, at_limit: bool) -> Nanos {
        if at_limit { self.bounds.linger.min(LINGER_AT_LIMIT) } else { self.bounds.linger }
    }

    /// The intended start of its oldest record.
    #[must_use]
    pub fn oldest(&self) -> Option<Nanos> {
        self.records.iter().map(|r| r.intended).min()
    }

    /// Takes the batch away; an empty one takes its place.
    pub fn seal(&mut self, reason: FlushReason) -> SealedBatch {
        let (records, entries) = self.spare.pop().unwrap_or_default();
        let sealed = SealedBatch {
            records: std::mem::replace(&mut self.records, records),
            entries: std::mem::replace(&mut self.entries, entries),
            bytes: std::mem::take(&mut self.bytes),
            reason,
        };
        (self.in_entries, self.opened, self.overflowed) = (0, 0, false);
        sealed
    }

    /// Takes the memory of a settled batch for the next ones. There are never more than were in flight at once.
    pub fn reuse(&mut self, mut records: Vec<Record>, mut entries: Vec<Entry>) {
        records.clear();
        entries.clear();
        self.spare.push((records, entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: BatchBounds = BatchBounds { entries: 500, bytes: 10_000, linger: 10 * MILLISECOND };

    fn push(batch: &mut Batch, bytes: usize, now: Nanos) {
        batch.records_mut().push(Record::new(0, now, bytes, 0));
        batch.push(0, 0, bytes, now);
    }

    #[test]
    fn it_leaves_earlier_while_a_shard_is_at_its_limit() {
        for (linger, at_limit) in [(3, 3), (50, 10)] {
            let linger = linger * MILLISECOND;
            let mut batch = Batch::new(BatchBounds { linger, ..BOUNDS });
            batch.push(0, 0, 10, 5);
            let ends = [false, true].map(|at_limit| batch.linger_ends(at_limit));
            assert_eq!(ends, [Some(5 + linger), Some(5 + at_limit * MILLISECOND)]);
            assert_eq!(batch.due(4 + at_limit * MILLISECOND, false, true), None);
            assert_eq!(batch.due(5 + at_limit * MILLISECOND, false, true), Some(FlushReason::Linger));
        }
    }

    #[test]
    fn each_bound_has_its_reason() {
        let mut batch = Batch::new(BOUNDS);
        assert_eq!(batch.due(u64::MAX, true, false), None);
        push(&mut batch, 10, 5);
        assert_eq!(batch.due(5, false, false), None);
        assert_eq!(batch.due(5, true, false), Some(FlushReason::Drain));
        assert_eq!(batch.linger_ends(false), Some(5 + 10 * MILLISECOND));
        assert_eq!(batch.due(5 + 10 * MILLISECOND, false, false), Some(FlushReason::Linger));
        batch.overflow();
        assert_eq!(batch.due(5, false, false), Some(FlushReason::Bytes));
        let mut batch = Batch::new(BOUNDS);
        for _ in 0..500 {
            push(&mut batch, 10, 0);
        }
        assert!(!batch.is_open());
        assert_eq!(batch.due(0, false, false), Some(FlushReason::Entries));
    }

    proptest! {
        /// Whatever the sizes, every batch keeps its bounds and every record leaves once, in order.
        #[test]
        fn batches_keep_their_bounds(sizes in prop::collection::vec(1_usize..4_000, 1..800), entries in 1_usize..500) {
            let mut batch = Batch::new(BatchBounds { entries, ..BOUNDS });
            let (mut left, mut sealed) = (Vec::new(), Vec::new());
            for (n, &size) in sizes.iter().enumerate() {
                if size > batch.room() {
                    batch.overflow();
                }
                if let Some(reason) = batch.due(0, false, false) {
                    sealed.push(batch.seal(reason));
                }
                batch.records_mut().push(Record::new(n as u64, 0, size, 0));
                batch.push(0, 0, size, 0);
            }
            sealed.extend(batch.due(0, true, false).map(|reason| batch.seal(reason)));
            for one in sealed {
                prop_assert!(one.entries.len() <= entries);
                prop_assert!(one.bytes <= BOUNDS.bytes);
                prop_assert_eq!(one.bytes, one.records.iter().map(Record::bytes).sum::<usize>());
                prop_assert_eq!(one.entries.iter().map(|e| e.records as usize).sum::<usize>(), one.records.len());
                left.extend(one.records.iter().map(|r| r.n));
            }
            prop_assert_eq!(left, (0..sizes.len() as u64).collect::<Vec<_>>());
        }
    }
}
