//! The `HdrHistogram` interval log, as the tools of that library write and read it.

use crate::producer::{Durations, Snapshot, histogram};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

type Times = fn(&Snapshot) -> &Durations;

/// The times that are logged, each with the tag of its lines.
const TIMES: [(&str, Times); 5] = [
    ("response", |seen| &seen.account.response_time),
    ("service", |seen| &seen.account.service_time),
    ("schedule_lag", |seen| &seen.account.schedule_lag),
    ("queue", |seen| &seen.account.queue_time),
    ("start_lateness", |seen| &seen.account.start_lateness),
];

const HEADER: &str = "[Histogram log format version 1.3]\n\
    [tickgen: times of measured records in microseconds; tags response, service, schedule_lag, queue and \
    start_lateness, of several loads also LOAD.response and so on]\n\
    [For milliseconds tell HistogramLogProcessor -outputValueUnitRatio 1000]";
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

/// An interval log of a run, line by line: for every interval and tag the times that came in it.
pub struct HdrLog {
    loads: Vec<String>,
    // For every tag, what is logged already.
    seen: Vec<(String, Histogram<u64>)>,
    until: Duration,
    serializer: V2DeflateSerializer,
}

impl std::fmt::Debug for HdrLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HdrLog")
            .field("loads", &self.loads)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl HdrLog {
    /// A log of the loads of these names; the only one of a run has none.
    #[must_use]
    pub fn new(loads: Vec<String>) -> Self {
        Self { loads, seen: Vec::new(), until: Duration::ZERO, serializer: V2DeflateSerializer::new() }
    }

    /// Writes what stands above the intervals of a run that began this long after 1970-01-01 UTC.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_head(&mut self, to: &mut impl Write, start_unix: Duration) -> std::io::Result<()> {
        write_head(to, start_unix)
    }

    /// Writes what the snapshots of the loads have more than those before.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_interval(&mut self, to: &mut impl Write, loads: &[Arc<Snapshot>]) -> std::io::Result<()> {
        let all = Snapshot::sum(loads.iter().map(Arc::as_ref));
        let now = Duration::from_nanos(all.elapsed);
        let length = now.saturating_sub(self.until);
        let mut lines = Vec::new();
        for (tag, times) in TIMES {
            self.add(&mut lines, tag, times(&all), length)?;
        }
        let names = self.loads.clone();
        for (name, load) in names.iter().zip(loads).filter(|(name, _)| !name.is_empty()) {
            for (tag, times) in TIMES {
                self.add(&mut lines, &format!("{name}.{tag}"), times(load), length)?;
            }
        }
        self.until = now;
        // One write, so that the log ends with whole lines whenever the process does.
        to.write_all(&lines)?;
        to.flush()
    }

    fn add(
        &mut self,
        lines: &mut Vec<u8>,
        tag: &str,
        times: &Durations,
        length: Duration,
    ) -> std::io::Result<()> {
        let now = times.histogram();
        let place = self.seen.iter().position(|(known, _)| known == tag).unwrap_or_else(|| {
            self.seen.push((tag.to_owned(), empty()));
            self.seen.len() - 1
        });
        // All of the same bounds, as tools of others add them up by their places.
        let mut all = empty();
        all.add(now).map_err(std::io::Error::other)?;
        let mut new = all.clone();
        new.subtract(&self.seen[place].1).map_err(std::io::Error::other)?;
        self.seen[place].1 = all;
        IntervalLogWriterBuilder::new()
            .begin_log_with(lines, &mut self.serializer)?
            .write_histogram(&new, self.until, length, Tag::new(tag))
            .map_err(std::io::Error::other)
    }
}

fn write_head(to: &mut impl Write, start_unix: Duration) -> std::io::Result<()> {
    IntervalLogWriterBuilder::new()
        .add_comment(HEADER)
        .with_start_time(UNIX_EPOCH + start_unix)
        .with_base_time(UNIX_EPOCH + start_unix)
        .begin_log_with(to, &mut V2DeflateSerializer::new())?;
    to.write_all(LEGEND)
}

/// Writes a log of these lines, of runs the first of which began this long after 1970-01-01 UTC.
///
/// # Errors
/// Those of `to`.
pub(crate) fn write_intervals(
    to: &mut impl Write,
    start_unix: Duration,
    intervals: &[Interval],
) -> std::io::Result<()> {
    write_head(to, start_unix)?;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new().begin_log_with(to, &mut serializer)?;
    for one in intervals {
        let [at, span] = [one.at_s, one.span_s].map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        log.write_histogram(&one.times, at, span, Tag::new(&one.tag)).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// What has room for any time that is counted, and for no longer one.
fn empty() -> Histogram<u64> {
    histogram(Durations::LONGEST_MICROS)
}

/// A line of an interval log.
#[derive(Clone, Debug)]
pub struct Interval {
    /// What it is of.
    pub tag: String,
    /// When it began, in seconds from the start of the run.
    pub at_s: f64,
    /// How many seconds it was.
    pub span_s: f64,
    /// The times that came in it, in microseconds.
    pub times: Histogram<u64>,
}

/// What is wrong with an interval log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HdrLogError {
    /// A line is none of such a log.
    #[error("line {0} is no line of an HdrHistogram interval log")]
    Line(usize),
    /// A line's histogram cannot be read.
    #[error("line {line}: {problem}")]
    Histogram {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It has no line.
    #[error("has no intervals")]
    Empty,
}

/// Reads a log as [`HdrLog`] writes it.
///
/// # Errors
/// If it is none, or damaged.
pub fn read_hdr_log(text: &[u8]) -> Result<Vec<Interval>, HdrLogError> {
    let mut intervals = Vec::new();
    let mut deserializer = Deserializer::new();
    for (line, text) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        match IntervalLogIterator::new(text).next() {
            None | Some(Ok(LogEntry::StartTime(_) | LogEntry::BaseTime(_))) => {}
            Some(Ok(LogEntry::Interval(interval))) => {
                intervals.push(
                    decode(&interval, &mut deserializer)
                        .map_err(|problem| HdrLogError::Histogram { line, problem })?,
                );
            }
            Some(Err(_)) => return Err(HdrLogError::Line(line)),
        }
    }
    if intervals.is_empty() { Err(HdrLogError::Empty) } else { Ok(intervals) }
}

fn decode(interval: &IntervalLogHistogram, deserializer: &mut Deserializer) -> Result<Interval, String> {
    let bytes =
        base64_simd::STANDARD.decode_to_vec(interval.encoded_histogram()).map_err(|e| e.to_string())?;
    let decoded: Histogram<u64> = deserializer.deserialize(&mut &bytes[..]).map_err(|e| e.to_string())?;
    let mut times = empty();
    // Of the bounds of every other: one of a foreign tool may have others.
    times.add(&decoded).map_err(|_| "has times over an hour".to_owned())?;
    Ok(Interval {
        tag: interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
        at_s: interval.start_timestamp().as_secs_f64(),
        span_s: interval.duration().as_secs_f64(),
        times,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{MILLISECOND, SECOND};

    fn log() -> (Vec<u8>, Snapshot) {
        let mut log = HdrLog::new(vec![String::new()]);
        let mut text = Vec::new();
        log.write_head(&mut text, Duration::from_mins(1_795_373_640 / 60)).unwrap();
        let mut snapshot = Snapshot::empty();
        for second in 1..=3 {
            snapshot.elapsed = second * SECOND;
            snapshot.account.response_time.record(second * 10 * MILLISECOND, 100);
            snapshot.account.service_time.record(second * MILLISECOND, 100);
            log.write_interval(&mut text, &[Arc::new(snapshot.clone())]).unwrap();
        }
        (text, snapshot)
    }

    #[test]
    fn intervals_add_up_to_all_times() {
        let (text, snapshot) = log();
        let intervals = read_hdr_log(&text).unwrap();
        for (tag, times) in TIMES {
            let own: Vec<_> = intervals.iter().filter(|interval| interval.tag == tag).collect();
            assert_eq!(own.iter().map(|i| i.at_s).collect::<Vec<_>>(), [0.0, 1.0, 2.0], "{tag}");
            let mut sum = empty();
            for interval in &own {
                sum.add(&interval.times).unwrap();
            }
            assert!(sum.iter_recorded().eq(times(&snapshot).histogram().iter_recorded()), "{tag}");
        }
        let second = intervals.iter().filter(|i| i.tag == "response").nth(1).unwrap();
        assert_eq!((second.times.len(), second.times.max() / 100), (100, 200));
    }

    #[test]
    fn times_over_an_hour_are_refused() {
        let text = |longest: u64| {
            let mut times = Histogram::<u64>::new_with_bounds(1, 4 * Durations::LONGEST_MICROS, 3).unwrap();
            times.record(longest).unwrap();
            let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
            let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut text, &mut serializer).unwrap();
            log.write_histogram(&times, Duration::ZERO, Duration::from_secs(1), None).unwrap();
            text
        };
        assert_eq!(read_hdr_log(&text(Durations::LONGEST_MICROS)).unwrap().len(), 1);
        let problem = "has times over an hour".to_owned();
        assert_eq!(
            read_hdr_log(&text(3 * Durations::LONGEST_MICROS)).err(),
            Some(HdrLogError::Histogram { line: 1, problem })
        );
    }

    #[test]
    fn loads_have_tags_of_their_own() {
        let mut log = HdrLog::new(vec!["a".into(), "b".into()]);
        let mut text = Vec::new();
        let loads = [Arc::new(Snapshot::empty()), Arc::new(Snapshot::empty())];
        log.write_interval(&mut text, &loads).unwrap();
        let tags: Vec<_> = read_hdr_log(&text).unwrap().into_iter().map(|interval| interval.tag).collect();
        assert_eq!((tags.len(), tags[5].as_str(), tags[11].as_str()), (15, "a.response", "b.service"));
    }

    #[test]
    fn damaged_logs_are_refused_with_their_line() {
        let (text, _) = log();
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().count();
        // Cut in the middle of the last line, as by a full disk.
        let cut = &text[..text.len() - 20];
        assert_eq!(read_hdr_log(cut.as_bytes()).unwrap_err(), HdrLogError::Line(lines));
        for (from, to) in [("HISTFAA", "AISTFAA"), ("HISTFAA", "~~~~"), ("HISTFAA", "")] {
            let changed = text.replacen(from, to, 1);
            assert!(read_hdr_log(changed.as_bytes()).is_err(), "{to}");
        }
        assert_eq!(read_hdr_log(b"").unwrap_err(), HdrLogError::Empty);
        assert_eq!(read_hdr_log(b"{\"acked\": 5}\n").unwrap_err(), HdrLogError::Line(1));
        assert!(read_hdr_log(&[0, 159, 146, 150, 10]).is_err());
    }
}
