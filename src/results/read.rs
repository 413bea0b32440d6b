use crate::observe::{HdrLogError, Interval, SCHEMA_VERSION, Seconds, Summary, Times, read_hdr_log};
use hdrhistogram::Histogram;
use serde_json::Value;

/// A run that has ended: its summary, and its histogram log if there is one.
#[derive(Clone, Debug)]
pub struct EndedRun {
    /// The file that the summary is from.
    pub file: String,
    /// The summary; with its times if there is a log.
    pub summary: Summary,
    /// The lines of the log; empty without one.
    pub intervals: Vec<Interval>,
}

/// Why a file is not what a run leaves.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON.
    #[error("{file}: no JSON: {source}")]
    Json {
        /// The file.
        file: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is JSON of something else.
    #[error("{file}: no summary of a tickgen run: {problem}")]
    Foreign {
        /// The file.
        file: String,
        /// What it lacks.
        problem: String,
    },
    /// It is a summary of another form.
    #[error("{file}: schema version {found}, this tickgen reads {SCHEMA_VERSION}")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u64,
    },
    /// It is no histogram log, or a damaged one.
    #[error("{file}: {source}")]
    Log {
        /// The file.
        file: String,
        /// What is wrong.
        source: HdrLogError,
    },
    /// The log is of another run.
    #[error("{log}: not of the run of {file}: it has {found} {tag} times, the summary {expected}")]
    OtherRun {
        /// The log.
        log: String,
        /// The summary.
        file: String,
        /// What was counted.
        tag: &'static str,
        /// How many the log has.
        found: u64,
        /// How many the summary has.
        expected: u64,
    },
}

impl EndedRun {
    /// Reads the text of a summary and, if there is one, the log of its histograms, each with its file.
    ///
    /// # Errors
    /// If one is damaged, foreign or of another version, or they are not of one run.
    pub fn read(file: &str, summary: &[u8], log: Option<(&str, &[u8])>) -> Result<Self, ReadError> {
        let mut summary = read_summary(file, summary)?;
        let Some((log, text)) = log else {
            return Ok(Self { file: file.to_owned(), summary, intervals: Vec::new() });
        };
        let intervals =
            read_hdr_log(text).map_err(|source| ReadError::Log { file: log.to_owned(), source })?;
        let times = Times { response: sum(&intervals, "response"), service: sum(&intervals, "service") };
        for (tag, times, summed) in [
            ("response", &times.response, summary.figures.response_time_ms),
            ("service", &times.service, summary.figures.service_time_ms),
        ] {
            let longest = times.max() as f64 / 1000.0;
            if times.len() != summed.count || (longest - summed.percentiles.max).abs() > 1e-6 {
                return Err(ReadError::OtherRun {
                    log: log.to_owned(),
                    file: file.to_owned(),
                    tag,
                    found: times.len(),
                    expected: summed.count,
                });
            }
        }
        summary.times = Some(times);
        summary.seconds = Seconds::of_log(&intervals);
        Ok(Self { file: file.to_owned(), summary, intervals })
    }

    /// When it began, in seconds since 1970; `None` if the summary does not tell.
    pub(super) fn began_s(&self) -> Option<f64> {
        let began = chrono::DateTime::parse_from_rfc3339(&self.summary.started_at).ok()?;
        Some(began.timestamp_millis() as f64 / 1000.0)
    }
}

/// All times of a tag.
pub(super) fn sum(intervals: &[Interval], tag: &str) -> Histogram<u64> {
    sum_of(intervals.iter().filter(|interval| interval.tag == tag))
}

/// All times of these lines.
pub(super) fn sum_of<'a>(intervals: impl Iterator<Item = &'a Interval>) -> Histogram<u64> {
    let mut sum = crate::producer::Durations::new().histogram().clone();
    for interval in intervals {
        // It grows, so adding cannot fail.
        let _ = sum.add(&interval.times);
    }
    sum
}

fn read_summary(file: &str, text: &[u8]) -> Result<Summary, ReadError> {
    let foreign = |problem: String| ReadError::Foreign { file: file.to_owned(), problem };
    let json: Value =
        serde_json::from_slice(text).map_err(|source| ReadError::Json { file: file.to_owned(), source })?;
    if json.get("verdict").is_some() && json.get("points").is_some() {
        return Err(foreign("it is of a search".to_owned()));
    }
    let version = json.get("schema_version").and_then(Value::as_u64);
    match version {
        None => return Err(foreign("it has no schema_version".to_owned())),
        Some(found) if found != u64::from(SCHEMA_VERSION) => {
            return Err(ReadError::Version { file: file.to_owned(), found });
        }
        Some(_) => {}
    }
    // From the text again, so that what is wrong is told with its line.
    serde_json::from_slice(text).map_err(|error| foreign(error.to_string()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::{MILLISECOND, SECOND};
    use crate::observe::{HdrLog, Judge, LoadFacts, RunFacts, StoppedBy, Threshold};
    use crate::producer::Snapshot;
    use std::sync::Arc;
    use std::time::Duration;

    /// A run that began so many seconds after a minute and acked 100 records in each of these seconds, all
    /// in as many milliseconds. The summary's text and the log's.
    pub(crate) fn texts(began: u32, name: &str, seconds: &[u64]) -> (String, Vec<u8>) {
        let mut snapshot = Snapshot::empty();
        let (mut log, mut text) = (HdrLog::new(vec![String::new()]), Vec::new());
        log.write_head(&mut text, Duration::from_secs(u64::from(began))).unwrap();
        for (second, millis) in (1..).zip(seconds) {
            snapshot.elapsed = second * SECOND;
            snapshot.span = snapshot.elapsed;
            snapshot.scheduled += 100;
            let account = &mut snapshot.account;
            account.ledger.generated += 100;
            account.ledger.acked += 100;
            account.response_time.record(millis * MILLISECOND, 100);
            account.service_time.record(millis * MILLISECOND / 2, 100);
            log.write_interval(&mut text, &[Arc::new(snapshot.clone())]).unwrap();
        }
        let load = LoadFacts {
            name: String::new(),
            seed: 1,
            stream: "s".into(),
            constant_rps: Some(100.0),
            open_loop: true,
        };
        let facts = RunFacts {
            run_id: name.into(),
            started_at: format!("2026-11-22T18:54:{began:02}.000Z"),
            loads: vec![load],
            about: crate::observe::About::default(),
        };
        let judge = Judge::new(vec![Threshold::parse("response_time_ms.p99 < 50").unwrap()], facts);
        let summary = judge.summary(&[Arc::new(snapshot)], StoppedBy::Schedule, None, None);
        (serde_json::to_string_pretty(&summary).unwrap(), text)
    }

    pub(crate) fn run(began: u32, name: &str, seconds: &[u64]) -> EndedRun {
        let (summary, log) = texts(began, name, seconds);
        EndedRun::read(&format!("{name}.json"), summary.as_bytes(), Some(("log", &log))).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let run = run(0, "a", &[10, 20, 30]);
        assert_eq!((run.summary.figures.acked, run.summary.run_id.as_str()), (300, "a"));
        let times = run.summary.times.unwrap();
        assert_eq!((times.response.len(), times.service.len(), run.intervals.len()), (300, 300, 15));
    }

    #[test]
    fn foreign_and_damaged_files_are_refused_with_the_reason() {
        let (summary, log) = texts(0, "a", &[10, 20]);
        let read = |text: &str| EndedRun::read("a.json", text.as_bytes(), None).unwrap_err().to_string();
        for (text, start) in [
            ("", "a.json: no JSON: EOF"),
            ("[1, 2", "a.json: no JSON: EOF"),
            ("{}", "a.json: no summary of a tickgen run: it has no schema_version"),
            ("[]", "a.json: no summary of a tickgen run: it has no schema_version"),
            (
                "{\"verdict\": \"found\", \"points\": []}",
                "a.json: no summary of a tickgen run: it is of a search",
            ),
            ("{\"schema_version\": 1}", "a.json: schema version 1, this tickgen reads 2"),
            ("{\"schema_version\": 2}", "a.json: no summary of a tickgen run: missing field"),
        ] {
            assert!(read(text).starts_with(start), "{}", read(text));
        }
        assert!(read(&summary[..summary.len() / 2]).starts_with("a.json: no JSON: EOF"));
        assert!(read(&summary.replace("\"acked\": 200", "\"acked\": \"many\"")).contains("invalid type"));
        let (_, other) = texts(0, "b", &[10, 20, 30]);
        let error = EndedRun::read("a.json", summary.as_bytes(), Some(("b.hlog", &other))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "b.hlog: not of the run of a.json: it has 300 response times, the summary 200"
        );
        let cut = EndedRun::read("a.json", summary.as_bytes(), Some(("a.hlog", &log[..log.len() - 9])));
        assert!(cut.unwrap_err().to_string().starts_with("a.hlog: line "));
    }
}
