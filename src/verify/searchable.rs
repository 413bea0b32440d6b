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
    // How many documents there were when it was last looked.
    documents: Option<u64>,
    // When the last look at all of them began.
    looked: Option<Nanos>,
    times: Durations,
    between_looks: Nanos,
    at_first_look: u64,
}

#[derive(Debug, Default)]
struct Load {
    // One more than its highest number, as far as that is known or was seen.
    numbers: u64,
    // Not known while the run is on.
    acked: Option<RoaringTreemap>,
    found: RoaringTreemap,
    // When the last look at each of its parts began.
    parts: Vec<Option<Nanos>>,
}

/// Numbers of a load that are looked for at once: its place and the part's.
pub type Part = (usize, usize);

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

/// The bytes of an answer with each of a page's documents once, about; no service gives more than 10 MiB.
const PAGE_BYTES: u64 = 4 << 20;

/// Bytes of an answer for a document, besides its own.
const FRAMING: u64 = 250;

impl Searchable {
    /// Of a run of which nothing more is known so far.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self {
            run,
            loads: Vec::new(),
            documents: None,
            looked: None,
            times: Durations::new(),
            between_looks: 0,
            at_first_look: 0,
        }
    }

    /// Takes in that the loads have numbers below these, at least. What is new was not there when it was
    /// last looked.
    pub fn grow(&mut self, numbers: &[u64]) {
        self.loads.resize_with(self.loads.len().max(numbers.len()), Load::default);
        for (load, &numbers) in self.loads.iter_mut().zip(numbers) {
            load.numbers = load.numbers.max(numbers);
            let parts = usize::try_from(load.numbers.div_ceil(NUMBERS).max(1)).unwrap_or(usize::MAX);
            load.parts.resize(load.parts.len().max(parts), self.looked);
        }
    }

    /// Takes in that the run is over: the loads' numbers are those below these, and which were acked.
    pub fn learn(&mut self, numbers: &[u64], proof: &Proof) {
        self.grow(numbers);
        for (place, load) in self.loads.iter_mut().enumerate().filter(|_| proof.knows_acked()) {
            load.acked = Some(proof.acked_of(place).cloned().unwrap_or_default());
        }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Whether the numbers of the run's loads are known, so that they need not be asked for.
    #[must_use]
    pub fn knows_numbers(&self) -> bool {
        !self.loads.is_empty() && self.loads.iter().all(|load| load.acked.is_some())
    }

    /// Of each load one more than its highest number.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.loads.iter().map(|load| load.numbers).collect()
    }

    /// How many acked records were not found so far; `None` while it is not known which were acked.
    #[must_use]
    pub fn missing(&self) -> Option<u64> {
        let missing = |load: &Load| load.acked.as_ref().map(|acked| acked.difference_len(&load.found));
        if self.loads.is_empty() { None } else { self.loads.iter().map(missing).sum() }
    }

    /// The parts in which records are missing.
    #[must_use]
    pub fn incomplete(&self) -> Vec<Part> {
        let parts =
            |(place, load): (usize, &Load)| (0..load.parts.len()).map(move |part| (place, part)).collect();
        let all: Vec<Vec<Part>> = self.loads.iter().enumerate().map(parts).collect();
        all.into_iter().flatten().filter(|part| self.first_missing(*part).is_some()).collect()
    }

    /// The first number of a part that is to come and was not found.
    fn first_missing(&self, (place, part): Part) -> Option<u64> {
        let load = &self.loads[place];
        let first = part as u64 * NUMBERS;
        let mut of_part = RoaringTreemap::new();
        of_part.insert_range(first..(first + NUMBERS));
        // Of a run that is on there is no knowing how far a part will be filled.
        if let Some(acked) = &load.acked {
            of_part &= acked;
        }
        (of_part - &load.found).min()
    }

    /// The stamps of a part that may be new: from its first missing number on.
    #[must_use]
    pub fn span(&self, (place, part): Part) -> Span {
        let end = (part as u64 + 1) * NUMBERS;
        let first = self.first_missing((place, part)).unwrap_or(end - NUMBERS);
        Span { run: self.run, load: place, first, end, open: false, edges: (false, false) }
    }

    /// Whether so many documents are other than when it was last looked.
    #[must_use]
    pub fn differs(&self, documents: u64) -> bool {
        self.documents != Some(documents)
    }

    /// Notes that no document came until a look that began then.
    pub fn nothing_new(&mut self, began: Nanos) {
        self.looked = Some(began);
        for part in self.loads.iter_mut().flat_map(|load| &mut load.parts) {
            *part = Some(began);
        }
    }

    /// Notes what a look at a part found, and when it began and ended, in nanoseconds since 1970-01-01 UTC.
    pub fn looked(&mut self, (place, part): Part, found: &[Stamp], began: Nanos, ended: Nanos) {
        let before = self.loads[place].parts[part].replace(began);
        for stamp in found {
            let Some(load) = self.loads.get_mut(usize::from(stamp.load)) else { continue };
            if !load.found.insert(stamp.n) {
                continue;
            }
            if let Some(before) = before {
                self.times.record(ended.saturating_sub(stamp.start_unix), 1);
                self.between_looks = self.between_looks.max(ended.saturating_sub(before));
            } else {
                self.at_first_look += 1;
            }
        }
    }

    /// Notes that a look at all parts has ended that began then, with so many documents.
    pub fn looked_at_all(&mut self, began: Nanos, documents: u64) {
        (self.looked, self.documents) = (Some(began), Some(documents));
    }

    /// What the looks told of documents, so many of which were delivered.
    #[must_use]
    pub fn summary(&self, delivered: u64) -> IndexSummary {
        let times = TimeSummary::new(&self.times);
        IndexSummary {
            measured_ratio: (delivered > 0).then(|| times.count as f64 / delivered as f64),
            event_to_searchable_ms: (times.count > 0).then_some(times),
            between_looks_ms: (self.between_looks as f64 / 1e3).round() / 1e3,
            found_at_first_look: self.at_first_look,
            ..IndexSummary::default()
        }
    }
}

/// The stamps of a run whose loads have numbers below these, in pages of records of so many bytes at most.
/// They are all that the run can have.
#[must_use]
pub fn pages(run: u32, numbers: &[u64], max_record_bytes: usize) -> Vec<Span> {
    let step = (PAGE_BYTES / (max_record_bytes as u64 + FRAMING)).clamp(1, NUMBERS);
    let mut pages = Vec::new();
    for (load, &numbers) in numbers.iter().enumerate() {
        let firsts = (0..numbers.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        let page = |first| Span { run, load, first, end: first + step, open: false, edges: (false, false) };
        pages.extend(firsts.map(page));
        if let Some(last) = pages.last_mut() {
            last.open = true;
        }
    }
    if let Some(first) = pages.first_mut() {
        first.edges.0 = true;
    }
    if let Some(last) = pages.last_mut() {
        last.edges.1 = true;
    }
    pages
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

    fn known(acked: &[u64]) -> Searchable {
        let mut searchable = Searchable::new(7);
        searchable.learn(&[4], &proof(acked));
        searchable
    }

    #[test]
    fn a_document_became_searchable_between_two_looks() {
        let mut searchable = known(&[0, 1, 3]);
        assert_eq!((searchable.missing(), searchable.incomplete()), (Some(3), vec![(0, 0)]));
        searchable.looked((0, 0), &[stamp(0)], 10 * SECOND, 11 * SECOND);
        searchable.nothing_new(12 * SECOND);
        searchable.looked((0, 0), &[stamp(0), stamp(1)], 13 * SECOND, 14 * SECOND);
        let summary = searchable.summary(2);
        // The second came 13 s after its start, or up to 2 s before; of the first nothing is known.
        let times = summary.event_to_searchable_ms.unwrap();
        assert_eq!((times.count, summary.found_at_first_look), (1, 1));
        assert!((times.mean - 13_000.0).abs() < 1e-6, "{summary:?}");
        assert!((summary.between_looks_ms - 2_000.0).abs() < 1e-6, "{summary:?}");
        assert_eq!(summary.measured_ratio, Some(0.5));
        // A copy changes nothing, and the last makes it complete.
        searchable.looked((0, 0), &[stamp(1), stamp(3)], 15 * SECOND, 15 * SECOND);
        assert_eq!((searchable.missing(), searchable.incomplete()), (Some(0), Vec::new()));
    }

    #[test]
    fn what_was_not_measured_is_not_told_as_nothing() {
        let mut searchable = known(&[0]);
        assert_eq!(searchable.summary(0).measured_ratio, None);
        searchable.looked((0, 0), &[stamp(0)], 10 * SECOND, 11 * SECOND);
        let summary = searchable.summary(1);
        assert_eq!((summary.event_to_searchable_ms, summary.measured_ratio), (None, Some(0.0)));
    }

    /// While a run is on there is no knowing what it will make; what comes after a look was not there then.
    #[test]
    fn a_run_is_looked_at_while_it_grows() {
        let mut searchable = Searchable::new(7);
        assert_eq!((searchable.missing(), searchable.incomplete()), (None, Vec::new()));
        searchable.looked_at_all(10 * SECOND, 0);
        searchable.grow(&[6_000]);
        assert_eq!(searchable.incomplete(), [(0, 0), (0, 1)]);
        let stamps: Vec<Stamp> = (0..5_000).map(stamp).collect();
        searchable.looked((0, 0), &stamps, 11 * SECOND, 12 * SECOND);
        searchable.looked((0, 1), &[stamp(5_000), stamp(5_002)], 11 * SECOND, 12 * SECOND);
        assert_eq!(searchable.incomplete(), [(0, 1)]);
        // Only what was not seen is asked for.
        let span = searchable.span((0, 1));
        assert!(text(5_000) < span.from() && span.from() <= text(5_001) && text(9_999) < span.to());
        assert_eq!(searchable.summary(5_002).event_to_searchable_ms.unwrap().count, 5_002);
        // The run ends, and the last number that was acked is there.
        let acked: Vec<u64> = (0..5_001).chain([5_002]).collect();
        searchable.learn(&[5_003], &proof(&acked));
        assert_eq!((searchable.missing(), searchable.incomplete()), (Some(0), Vec::new()));
        assert_eq!(searchable.numbers(), [6_000]);
    }

    #[test]
    fn every_stamp_of_a_run_is_in_one_page() {
        let spans = pages(7, &[12_000, 3], 100);
        assert_eq!(spans.len(), 4);
        assert_eq!((spans[0].from(), spans[3].to()), ("00000007-".to_owned(), "00000007.".to_owned()));
        for pair in spans.windows(2) {
            assert_eq!(pair[0].to(), pair[1].from());
        }
        for n in [0, 4_999, 5_000, 11_999, 1 << 40] {
            let holds = |span: &&Span| span.from() <= text(n) && text(n) < span.to();
            assert_eq!(spans.iter().filter(holds).count(), 1, "{n}");
        }
        assert_eq!(pages(7, &[12_000], 1 << 20).len(), 4_000);
    }

    #[test]
    fn a_span_is_halved_down_to_one_number() {
        for span in pages(7, &[6_000], 100) {
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
