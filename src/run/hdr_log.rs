//! The histogram log of a run: a line for every interval and kind of time, flushed as it is written.

use super::RunError;
use crate::observe::HdrLog;
use crate::plan::Plan;
use crate::producer::{Observer, Snapshot};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The log, if one is asked for.
#[derive(Clone)]
pub(super) struct HdrLogging(Option<Arc<Log>>);

struct Log {
    path: PathBuf,
    interval: Duration,
    writing: Mutex<Writing>,
}

struct Writing {
    log: HdrLog,
    file: File,
    // What went wrong first; nothing is written after it.
    problem: Option<String>,
}

impl HdrLogging {
    /// Makes the file anew, so that a run does not end without a place for what it measured.
    pub(super) async fn open(plan: &Plan) -> Result<Self, RunError> {
        let Some((path, interval)) = plan.output.hdr_log.clone() else { return Ok(Self(None)) };
        let refused =
            |error: std::io::Error| RunError::Plan(format!("--hdr-log {}: {error}", path.display()));
        // A pipe opens once somebody reads it, which a signal must not wait for.
        let place = path.clone();
        let opened = tokio::task::spawn_blocking(move || File::create(place)).await;
        let file = opened.map_err(std::io::Error::other).flatten().map_err(refused)?;
        let log = HdrLog::new(plan.loads.iter().map(|load| load.name.clone()).collect());
        let writing = Mutex::new(Writing { log, file, problem: None });
        Ok(Self(Some(Arc::new(Log { path, interval, writing }))))
    }

    /// Writes the head of the log of a run that began this long after 1970-01-01 UTC.
    pub(super) fn begin(&self, start_unix: Duration) {
        if let Some(log) = &self.0 {
            log.write(|writing| writing.log.write_head(&mut writing.file, start_unix));
        }
    }

    /// Adds an interval again and again.
    pub(super) async fn keep(self, observer: Observer) {
        let Some(log) = self.0 else { return };
        let mut intervals = tokio::time::interval(log.interval);
        intervals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        intervals.tick().await;
        loop {
            intervals.tick().await;
            log.add(&observer.loads());
        }
    }

    /// Adds the last interval. Tells what went wrong, if anything did.
    pub(super) fn end(&self, loads: &[Arc<Snapshot>]) -> Result<(), String> {
        let Some(log) = &self.0 else { return Ok(()) };
        log.add(loads);
        let problem = log.writing.lock().unwrap_or_else(PoisonError::into_inner).problem.clone();
        problem.map_or(Ok(()), Err)
    }
}

impl Log {
    fn add(&self, loads: &[Arc<Snapshot>]) {
        self.write(|writing| writing.log.write_interval(&mut writing.file, loads));
    }

    fn write(&self, write: impl FnOnce(&mut Writing) -> std::io::Result<()>) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.problem.is_some() {
            return;
        }
        if let Err(error) = write(&mut writing) {
            let problem = format!("--hdr-log {}: {error}", self.path.display());
            tracing::error!("{problem}; nothing more is logged there");
            writing.problem = Some(problem);
        }
    }
}
