//! What a run leaves for those who read its streams or documents later.

use crate::load::Nanos;
use crate::producer::Witness;
use crate::tick::StampPlace;
use roaring::{RoaringBitmap, RoaringTreemap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// What `tickgen verify` must know of a run: which records it made, and which of them were acked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Why the run cannot be verified later, if it cannot.
    pub cannot: Option<String>,
    /// When it began, in nanoseconds since 1970-01-01 UTC; a text, as JSON's numbers are not exact there.
    #[serde(with = "as_text")]
    pub start_unix_ns: Nanos,
    /// Its loads, by their places in the stamps; none if it cannot be verified.
    pub loads: Vec<ManifestLoad>,
}

/// What must be known of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestLoad {
    /// Its name; empty if it is the run's only load.
    pub name: String,
    /// The stream that it went to; `None` if none outlives the run.
    pub stream: Option<String>,
    /// Where its records carry their stamps.
    pub stamp: StampPlace,
    /// The seed of its records.
    pub seed: u64,
    /// Their numbers are those below this.
    pub numbers: u64,
    /// The numbers that were not acked, as ranges such as `5-9,12`; `None`: too many to tell.
    pub not_acked: Option<String>,
    /// The settings that payloads and keys are made by.
    pub settings: BTreeMap<String, String>,
    /// The template of its payloads.
    pub template: Option<String>,
    /// How far the zone of `EVENT_TIME` was ahead of UTC, in seconds, if it was the machine's.
    pub local_utc_offset_s: Option<i32>,
}

/// Ranges of numbers that are told, of each load: past it they are left out, as a summary is read whole.
const MOST_RANGES: usize = 100_000;

impl ManifestLoad {
    /// Numbers that a set can hold in some 200 MB; three days of a million records a second.
    pub const MOST_NUMBERS: u64 = 1 << 38;

    /// The numbers of the acked records; `None` if they are not told, or not as ranges.
    #[must_use]
    pub fn acked(&self) -> Option<RoaringTreemap> {
        let mut acked = RoaringTreemap::new();
        acked.insert_range(0..self.numbers);
        for range in self.not_acked.as_ref()?.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            acked.remove_range(first..=last);
        }
        Some(acked)
    }
}

/// The numbers below `numbers` that are not among the acked ones, as ranges; `None` if they are too many.
fn ranges_without(acked: &RoaringTreemap, numbers: u64) -> Option<String> {
    let mut all = RoaringTreemap::new();
    all.insert_range(0..numbers);
    let (mut text, mut ranges) = (String::new(), 0);
    let mut open: Option<(u64, u64)> = None;
    let mut close = |(first, last): (u64, u64)| {
        ranges += 1;
        let comma = if ranges > 1 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
        ranges <= MOST_RANGES
    };
    for n in all - acked {
        match &mut open {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => {
                if open.replace((n, n)).is_some_and(|range| !close(range)) {
                    return None;
                }
            }
        }
    }
    open.is_none_or(close).then_some(text)
}

/// The numbers of a load's acked records.
#[derive(Clone, Debug, Default)]
pub struct AckBook(Arc<Mutex<Acked>>);

#[derive(Debug, Default)]
struct Acked {
    // As ranges, nearly all of which are whole.
    packed: RoaringTreemap,
    recent: RoaringTreemap,
    recent_count: u64,
}

/// Numbers that are packed together: packing goes through all that it packs, which should not be the whole run.
const PACKED_TOGETHER: u64 = 1 << 20;

impl Acked {
    fn add(&mut self, numbers: &[u64]) {
        insert_all(&mut self.recent, numbers);
        self.recent_count += numbers.len() as u64;
        if self.recent_count >= PACKED_TOGETHER {
            self.pack();
        }
    }

    fn pack(&mut self) {
        self.recent.optimize();
        self.packed |= &self.recent;
        self.recent.clear();
        self.recent_count = 0;
    }
}

impl AckBook {
    /// The numbers below `numbers` that were not acked, as ranges; `None` if they are too many to tell.
    #[must_use]
    pub fn not_acked(&self, numbers: u64) -> Option<String> {
        let mut acked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acked.pack();
        ranges_without(&acked.packed, numbers)
    }

    /// Notes what an answer acked.
    pub fn acked(&self, numbers: &[u64]) {
        let mut acked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acked.add(numbers);
    }
}

/// Inserts the numbers of an answer. They lie close together, if not side by side, so that they are put together as
/// bits first: one by one they took a sixth of an aggregated record's time.
fn insert_all(set: &mut RoaringTreemap, numbers: &[u64]) {
    let Some((first, last)) = numbers.iter().min().zip(numbers.iter().max()) else { return };
    // Bits begin with a whole byte.
    let (begin, high) = (first & !7, first >> 32);
    if last >> 32 != high || last - begin >= 64 * numbers.len() as u64 {
        set.extend(numbers);
        return;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "places in bits, of which there are 64 a number at most"
    )]
    let place = |n: u64| (n - begin) as usize;
    let mut bits = vec![0_u8; place(*last) / 8 + 1];
    for &n in numbers {
        bits[place(n) / 8] |= 1 << (place(n) % 8);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the lower and the upper half")]
    let (low, high) = (begin as u32, high as u32);
    // By reference: the other way counts all numbers of both sets first.
    *set |= &RoaringTreemap::from_bitmaps([(high, RoaringBitmap::from_lsb0_bytes(low, &bits))]);
}

/// Notes what was acked, and tells another witness, if there is one.
#[derive(Debug)]
pub struct Noting {
    /// Where it is noted.
    pub book: AckBook,
    /// Who is told besides.
    pub other: Option<Box<dyn Witness>>,
}

impl Witness for Noting {
    fn acked(&mut self, numbers: Vec<u64>, sent: Nanos, acked: Nanos) {
        self.book.acked(&numbers);
        if let Some(other) = &mut self.other {
            other.acked(numbers, sent, acked);
        }
    }
}

/// A number as a JSON text.
mod as_text {
    use serde::de::Error;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(numbers: u64, not_acked: Option<String>) -> ManifestLoad {
        ManifestLoad {
            name: String::new(),
            stream: None,
            stamp: StampPlace::Key,
            seed: 1,
            numbers,
            not_acked,
            settings: BTreeMap::new(),
            template: None,
            local_utc_offset_s: None,
        }
    }

    /// Eight requests are always on their way, so that answers come in no order.
    #[test]
    fn what_was_acked_takes_no_memory_to_speak_of() {
        let (mut acked, mut lots) = (Acked::default(), Vec::new());
        for lot in 0..10_000_u64 {
            lots.push((lot * 500..(lot + 1) * 500).collect::<Vec<u64>>());
            if lots.len() == 8 {
                acked.add(&lots.swap_remove(usize::try_from(lot % 8).unwrap()));
            }
        }
        for numbers in &lots {
            acked.add(numbers);
        }
        acked.pack();
        assert_eq!(acked.packed.len(), 5_000_000);
        let bytes = acked.packed.serialized_size();
        assert!(bytes < 2_000, "{bytes} bytes");
    }

    #[test]
    fn what_was_not_acked_is_told_in_ranges() {
        let book = AckBook::default();
        book.acked(&[0, 1, 3, 7, 8]);
        assert_eq!(book.not_acked(12).as_deref(), Some("2,4-6,9-11"));
        assert_eq!(book.not_acked(2).as_deref(), Some(""));
    }

    #[test]
    fn too_many_ranges_are_not_told() {
        let book = AckBook::default();
        let every_second: Vec<u64> = (0..=MOST_RANGES as u64).map(|n| 2 * n).collect();
        book.acked(&every_second);
        let last = 2 * MOST_RANGES as u64;
        assert!(book.not_acked(last).is_some());
        assert_eq!(book.not_acked(last + 2), None);
        assert_eq!(load(5, None).acked(), None);
        assert_eq!(load(5, Some("x".to_owned())).acked(), None);
    }

    proptest! {
        /// Wherever they lie, also around 2^32, and in whatever order.
        #[test]
        fn numbers_are_inserted_as_one_by_one(
            answers in prop::collection::vec((0_u64..3, prop::collection::vec(0_u64..3_000, 0..200)), 0..6),
        ) {
            let (mut together, mut one_by_one) = (RoaringTreemap::new(), RoaringTreemap::new());
            for (place, offsets) in answers {
                let begin = [0, (1 << 32) - 1_500, 70_000][usize::try_from(place).unwrap()];
                let numbers: Vec<u64> = offsets.iter().map(|offset| begin + offset).collect();
                insert_all(&mut together, &numbers);
                together.optimize();
                one_by_one.extend(&numbers);
            }
            prop_assert_eq!(together, one_by_one);
        }

        #[test]
        fn the_acked_numbers_read_back(acked in prop::collection::btree_set(0_u64..200, 0..150), numbers in 200_u64..300) {
            let book = AckBook::default();
            book.acked(&acked.iter().copied().collect::<Vec<_>>());
            let read = load(numbers, book.not_acked(numbers)).acked().unwrap();
            prop_assert_eq!(read.into_iter().collect::<std::collections::BTreeSet<_>>(), acked);
        }
    }
}
