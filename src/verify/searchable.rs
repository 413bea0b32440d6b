use super::Proof;
use crate::load::Nanos;
use crate::observe::{IndexSummary, TimeSummary};
use crate::producer::Durations;
use crate::tick::Stamp;
use roaring::RoaringTreemap;

/// When the documents of a run became searchable, as looks at the index tell: each falls between the last
/// look that did not find it and the first that did.
#[derive(Debug)]
pub struct Searchable {
    run: u32,
    loads: Vec<Load>,
    parts: Vec<Part>,
    // Numbers of a part.
    step: u64,
    // Acked and not found so far.
    missing: u64,
    times: Durations,
    between_looks: Nanos,
    at_first_look: u64,
}

#[derive(Debug)]
struct Load {
    numbers: u64,
    acked: RoaringTreemap,
    found: RoaringTreemap,
}

/// Numbers of a load that are looked for at once.
#[derive(Debug)]
struct Part {
    load: usize,
    first: u64,
    // When the last look at it began.
    looked: Option<Nanos>,
}

/// Texts of stamps from one, included, to another, excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    run: u32,
    load: usize,
    first: u64,
    // One more than the last number.
    end: u64,
    // Whether it goes on to the end of the load, whatever numbers come there.
    open: bool,
    // Whether it is the first or the last of the run: no stamp of the run is outside of all spans.
    edges: (bool, bool),
}

/// Numbers of a part, at most: an answer of 10,000 documents holds each of them twice.
const NUMBERS: u64 = 5_000;

/// The bytes of an answer with each of a part's documents once, about; no service gives more than 10 MiB.
const PAGE_BYTES: u64 = 4 << 20;

/// Bytes of an answer for a document, besides its own.
const FRAMING: u64 = 250;

impl Searchable {
    /// Of a run whose loads have numbers below these.
    #[must_use]
    pub fn new(run: u32, numbers: &[u64], proof: &Proof) -> Self {
        let loads: Vec<Load> = numbers
            .iter()
            .enumerate()
            .map(|(load, &numbers)| {
                let acked = proof.acked_of(load).cloned().unwrap_or_default();
                Load { numbers, acked, found: RoaringTreemap::new() }
            })
            .collect();
        let step = (PAGE_BYTES / (proof.max_record_bytes() as u64 + FRAMING)).clamp(1, NUMBERS);
        let of_load = |(load, of): (usize, &Load)| {
            let firsts = (0..of.numbers.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX));
            firsts.map(move |first| Part { load, first, looked: None }).collect::<Vec<_>>()
        };
        Self {
            run,
            parts: loads.iter().enumerate().flat_map(of_load).collect(),
            missing: loads.iter().map(|load| load.acked.len()).sum(),
            loads,
            step,
            times: Durations::new(),
            between_looks: 0,
            at_first_look: 0,
        }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// How many acked records were not found so far.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// The places of the parts in which acked records are missing.
    #[must_use]
    pub fn incomplete(&self) -> Vec<usize> {
        let misses = |part: &Part| {
            let load = &self.loads[part.load];
            let numbers = part.first..part.first + self.step;
            let mut of_part = RoaringTreemap::new();
            of_part.insert_range(numbers);
            of_part &= &load.acked;
            of_part.difference_len(&load.found) > 0
        };
        (0..self.parts.len()).filter(|place| misses(&self.parts[*place])).collect()
    }

    /// The stamps of a part.
    #[must_use]
    pub fn span(&self, place: usize) -> Span {
        let part = &self.parts[place];
        let ends = self.parts.get(place + 1).is_none_or(|next| next.load != part.load);
        Span {
            run: self.run,
            load: part.load,
            first: part.first,
            end: part.first + self.step,
            open: ends,
            edges: (place == 0, place + 1 == self.parts.len()),
        }
    }

    /// The stamps of all parts, which are all that the run can have.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        (0..self.parts.len()).map(|place| self.span(place))
    }

    /// Notes that no document came until a look that began then.
    pub fn nothing_new(&mut self, began: Nanos) {
        for part in &mut self.parts {
            if part.looked.is_some() {
                part.looked = Some(began);
            }
        }
    }

    /// Notes what a look at a part found, and when it began and ended, in nanoseconds since 1970-01-01 UTC.
    pub fn looked(&mut self, place: usize, found: &[Stamp], began: Nanos, ended: Nanos) {
        let before = self.parts[place].looked.replace(began);
        for stamp in found {
            let Some(load) = self.loads.get_mut(usize::from(stamp.load)) else { continue };
            if !load.found.insert(stamp.n) {
                continue;
            }
            self.missing -= u64::from(load.acked.contains(stamp.n));
            if let Some(before) = before {
                self.times.record(ended.saturating_sub(stamp.start_unix), 1);
                self.between_looks = self.between_looks.max(ended.saturating_sub(before));
            } else {
                self.at_first_look += 1;
            }
        }
    }

    /// What the looks told.
    #[must_use]
    pub fn summary(&self) -> IndexSummary {
        IndexSummary {
            event_to_searchable_ms: TimeSummary::new(&self.times),
            between_looks_ms: (self.between_looks as f64 / 1e3).round() / 1e3,
            found_at_first_look: self.at_first_look,
            ..IndexSummary::default()
        }
    }
}

impl Span {
    /// The text that none of its stamps comes before.
    #[must_use]
    pub fn from(&self) -> String {
        if self.edges.0 {
            format!("{:08x}-", self.run)
        } else {
            format!("{:08x}-{:02x}-{:012x}", self.run, self.load, self.first)
        }
    }

    /// The text that all of its stamps come before.
    #[must_use]
    pub fn to(&self) -> String {
        match (self.edges.1, self.open) {
            // A dot comes after a dash.
            (true, _) => format!("{:08x}.", self.run),
            (_, true) => format!("{:08x}-{:02x}-{:012x}", self.run, self.load + 1, 0),
            _ => format!("{:08x}-{:02x}-{:012x}", self.run, self.load, self.end),
        }
    }

    /// Its two halves; `None` if it is of one number.
    #[must_use]
    pub fn halves(&self) -> Option<(Self, Self)> {
        let middle = self.first + (self.end - self.first) / 2;
        if middle == self.first {
            return None;
        }
        let one = Self { end: middle, open: false, edges: (self.edges.0, false), ..self.clone() };
        let two = Self { first: middle, edges: (false, self.edges.1), ..self.clone() };
        Some((one, two))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use crate::tick::{EventTime, Keys, Market, Source, Ticks, TimeZone};

    fn proof(acked: &[u64]) -> Proof {
        let time = EventTime::new(0, TimeZone::Utc);
        let ticks = Ticks::new(9, Market::Random, &["TBV".to_owned()], None, time).unwrap();
        let keys = Keys::new(&"uniform".parse().unwrap(), 9, &ticks);
        let mut proof = Proof::new(7, 0, vec![(String::new(), Source::new(ticks, keys))]);
        proof.all_acked(0, acked.iter().copied().collect());
        proof
    }

    fn stamp(n: u64) -> Stamp {
        Stamp { run: 7, load: 0, n, start_unix: n * SECOND }
    }

    fn text(n: u64) -> String {
        String::from_utf8(stamp(n).text().to_vec()).unwrap()
    }

    #[test]
    fn a_document_became_searchable_between_two_looks() {
        let mut searchable = Searchable::new(7, &[4], &proof(&[0, 1, 3]));
        assert_eq!((searchable.missing(), searchable.incomplete()), (3, vec![0]));
        searchable.looked(0, &[stamp(0)], 10 * SECOND, 11 * SECOND);
        searchable.nothing_new(12 * SECOND);
        searchable.looked(0, &[stamp(0), stamp(1)], 13 * SECOND, 14 * SECOND);
        let summary = searchable.summary();
        // The second came 13 s after its start, or up to 2 s before; of the first nothing is known.
        assert_eq!((summary.event_to_searchable_ms.count, summary.found_at_first_look), (1, 1));
        assert!((summary.event_to_searchable_ms.mean - 13_000.0).abs() < 1e-6, "{summary:?}");
        assert!((summary.between_looks_ms - 2_000.0).abs() < 1e-6, "{summary:?}");
        // A copy changes nothing, and the last makes it complete.
        searchable.looked(0, &[stamp(1), stamp(3)], 15 * SECOND, 15 * SECOND);
        assert_eq!((searchable.missing(), searchable.incomplete()), (0, Vec::<usize>::new()));
    }

    #[test]
    fn every_stamp_of_a_run_is_in_one_span() {
        let searchable = Searchable::new(7, &[12_000, 3], &proof(&[]));
        let spans: Vec<Span> = searchable.spans().collect();
        assert_eq!(spans.len(), 4);
        assert_eq!((spans[0].from(), spans[3].to()), ("00000007-".to_owned(), "00000007.".to_owned()));
        for pair in spans.windows(2) {
            assert_eq!(pair[0].to(), pair[1].from());
        }
        for n in [0, 4_999, 5_000, 11_999, 1 << 40] {
            let holds = |span: &&Span| span.from() <= text(n) && text(n) < span.to();
            assert_eq!(spans.iter().filter(holds).count(), 1, "{n}");
        }
    }

    #[test]
    fn a_span_is_halved_down_to_one_number() {
        let searchable = Searchable::new(7, &[6_000], &proof(&[]));
        for span in searchable.spans() {
            let (mut left, mut right) = (span.clone(), span.clone());
            while let Some((one, two)) = left.halves() {
                assert_eq!((one.from(), one.to(), two.to()), (left.from(), two.from(), left.to()));
                left = one;
            }
            while let Some((_, two)) = right.halves() {
                right = two;
            }
            assert_eq!((left.from(), right.to()), (span.from(), span.to()));
        }
    }
}
