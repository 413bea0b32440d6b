use crate::kinesis::limits::DEFAULT_RECORD_BYTES;
use crate::load::Nanos;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A record of a replayed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// When it is meant to start.
    pub at: Nanos,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its partition key; `None`: as for made-up records.
    pub key: Option<Vec<u8>>,
}

/// What a feed has next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// A record; they come by rising start.
    Record(Replayed),
    /// Nothing at the moment: the file is read too slowly.
    NotYet,
    /// Nothing more; the load lasts until this time.
    End(Nanos),
    /// The file cannot be read on, for this reason.
    Failed(String),
}

/// The largest replayed record, payload and key: what any stream takes, less the frame of an aggregate
/// of one.
pub const MAX_REPLAYED_BYTES: usize = DEFAULT_RECORD_BYTES - 512;

/// Where replayed records come from, one after another. It must not wait.
pub trait Feed: fmt::Debug + Send {
    /// The next.
    fn next(&mut self) -> Fed;
}

/// Replayed records from when they fall due until they are settled: they cannot be made again.
#[derive(Clone, Debug)]
pub(super) struct Held {
    records: HashMap<u64, Arc<Replayed>>,
    arrived: u64,
    bytes: usize,
    max_bytes: usize,
}

impl Held {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { records: HashMap::new(), arrived: 0, bytes: 0, max_bytes }
    }

    /// Keeps the next record if there is room for its bytes; tells whether there was. It has its number
    /// either way.
    pub(super) fn keep(&mut self, record: Replayed) -> bool {
        let n = self.arrived;
        self.arrived += 1;
        let fits = self.bytes + size(&record) <= self.max_bytes || self.records.is_empty();
        if fits {
            self.bytes += size(&record);
            self.records.insert(n, Arc::new(record));
        }
        fits
    }

    /// Lets the next record go by; it has its number.
    pub(super) fn pass_over(&mut self) {
        self.arrived += 1;
    }

    pub(super) fn forget(&mut self, n: u64) {
        if let Some(record) = self.records.remove(&n) {
            self.bytes -= size(&record);
        }
    }

    /// Some of the records, for whoever writes them.
    pub(super) fn lend(&self, numbers: impl Iterator<Item = u64>) -> Lent {
        Lent(numbers.filter_map(|n| Some((n, Arc::clone(self.records.get(&n)?)))).collect())
    }

    /// Takes lent records in place of those it has.
    pub(super) fn borrow(&mut self, lent: &Lent) {
        self.records.clear();
        self.records.extend(lent.0.iter().cloned());
    }

    pub(super) fn payload(&self, n: u64) -> &[u8] {
        self.records.get(&n).map_or(&[], |record| &record.payload)
    }

    pub(super) fn key(&self, n: u64) -> Option<&[u8]> {
        self.records.get(&n)?.key.as_deref()
    }
}

/// Replayed records on their way to be written.
#[derive(Clone, Debug, Default)]
pub struct Lent(Vec<(u64, Arc<Replayed>)>);

fn size(record: &Replayed) -> usize {
    record.payload.len() + record.key.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize, key: Option<&str>) -> Replayed {
        Replayed { at: 0, payload: vec![b'x'; bytes], key: key.map(|key| key.as_bytes().to_vec()) }
    }

    #[test]
    fn records_are_kept_within_their_bytes_until_forgotten() {
        let mut held = Held::new(100);
        assert!(
            held.keep(record(60, Some("k"))) && !held.keep(record(50, None)) && held.keep(record(30, None))
        );
        assert_eq!((held.payload(0).len(), held.key(0)), (60, Some(b"k".as_slice())));
        // The second had no room; its number is its own all the same.
        assert_eq!((held.payload(1).len(), held.payload(2).len()), (0, 30));
        for n in [0, 0, 1] {
            held.forget(n);
        }
        assert!(held.keep(record(70, None)) && held.bytes == 100);
    }

    #[test]
    fn one_record_always_fits() {
        let mut held = Held::new(10);
        assert!(held.keep(record(1_000, None)) && !held.keep(record(1, None)));
    }
}
