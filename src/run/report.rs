//! The files of `tickgen report`: reads what runs left, and writes what is made of it.

use crate::cli::ReportTask;
use crate::observe::Summary;
use crate::observe::hdr_log::write_intervals;
use crate::observe::report::page;
use crate::plan::{Given, WriteTo, clashes};
use crate::results::{Comparison, EndedRun, MergeError, ReadError, merge};
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What came of it.
#[derive(Clone, Debug)]
pub enum Reported {
    /// The sum of several runs.
    Merged(Box<Summary>),
    /// How a run differs from another.
    Compared(Comparison),
    /// Where the report of a run is.
    Rendered(PathBuf),
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what a run leaves.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The runs cannot be added.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A file would be written over another.
    #[error("{name}: is the same file as {other}")]
    Clash {
        /// What the file is called that was to be written.
        name: String,
        /// What the other is called.
        other: String,
    },
    /// A file cannot be written.
    #[error("{to}: {source}")]
    Unwritable {
        /// The file.
        to: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ReportError {
    /// Whether what was given is wrong, rather than what was to be written.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Unwritable { .. })
    }
}

/// Does what is asked.
///
/// # Errors
/// If a file cannot be read, is not what a run leaves, or cannot be written.
pub fn report(task: &ReportTask) -> Result<Reported, ReportError> {
    let (written, read) = files(task);
    if let Some((name, other)) = clashes(&written, &read).into_iter().next() {
        return Err(ReportError::Clash { name, other });
    }
    match task {
        ReportTask::Merge { runs, summary, report, hdr_log } => {
            let runs: Vec<EndedRun> = runs.iter().map(|run| ended(run)).collect::<Result<_, _>>()?;
            let merged = merge(&runs)?;
            if let Some(to) = summary {
                write_json(to, &merged.summary)?;
            }
            if let Some(path) = report {
                write(path, page(&merged.summary).as_bytes())?;
            }
            if let Some(path) = hdr_log {
                write(path, &log(&merged, path)?)?;
            }
            Ok(Reported::Merged(Box::new(merged.summary)))
        }
        ReportTask::Compare { base, new, limits, json } => {
            let comparison = Comparison::new(&ended(base)?, &ended(new)?, limits);
            if let Some(to) = json {
                write_json(to, &comparison)?;
            }
            Ok(Reported::Compared(comparison))
        }
        ReportTask::Render { run, report } => {
            let to = rendered(run, report.as_ref());
            write(&to, page(&ended(run)?.summary).as_bytes())?;
            Ok(Reported::Rendered(to))
        }
    }
}

/// The files that are written and read.
fn files(task: &ReportTask) -> (Vec<Given>, Vec<Given>) {
    let to = |flag: &str, path: &Path| (format!("{flag} {}", path.display()), path.to_owned());
    let file = |flag: &str, write: &Option<WriteTo>| match write {
        Some(WriteTo::File(path)) => Some(to(flag, path)),
        _ => None,
    };
    let (written, runs): (Vec<_>, Vec<&String>) = match task {
        ReportTask::Merge { runs, summary, report, hdr_log } => {
            let pages = report.iter().map(|path| to("--report", path));
            let logs = hdr_log.iter().map(|path| to("--hdr-log", path));
            (file("--summary", summary).into_iter().chain(pages).chain(logs).collect(), runs.iter().collect())
        }
        ReportTask::Compare { base, new, json, .. } => {
            (file("--json", json).into_iter().collect(), vec![base, new])
        }
        ReportTask::Render { run, report } => {
            (vec![to("--report", &rendered(run, report.as_ref()))], vec![run])
        }
    };
    let parts = runs.into_iter().map(|run| parts(run)).flat_map(|(summary, log)| [Some(summary), log]);
    (written, parts.flatten().map(|path| (path.display().to_string(), path)).collect())
}

/// Where the report of a run goes.
fn rendered(run: &str, report: Option<&PathBuf>) -> PathBuf {
    report.cloned().unwrap_or_else(|| parts(run).0.with_extension("html"))
}

/// The summary and the log of a run given as `RUN.json` or `RUN.json+LOG.hlog`.
fn parts(given: &str) -> (PathBuf, Option<PathBuf>) {
    match given.split_once('+') {
        // A file whose name has a plus sign is taken by its whole name.
        Some((summary, log)) if !Path::new(given).exists() => (summary.into(), Some(log.into())),
        _ => (given.into(), Some(Path::new(given).with_extension("hlog")).filter(|beside| beside.exists())),
    }
}

/// Reads a run.
fn ended(given: &str) -> Result<EndedRun, ReportError> {
    let bytes = |path: &Path| {
        std::fs::read(path).map_err(|source| ReportError::Unreadable { path: path.to_owned(), source })
    };
    let (summary, log) = parts(given);
    let text = bytes(&summary)?;
    let summary = summary.display().to_string();
    let Some(log) = log else { return Ok(EndedRun::read(&summary, &text, None)?) };
    let log_text = bytes(&log)?;
    Ok(EndedRun::read(&summary, &text, Some((&log.display().to_string(), &log_text)))?)
}

fn log(merged: &EndedRun, to: &Path) -> Result<Vec<u8>, ReportError> {
    let began = chrono::DateTime::parse_from_rfc3339(&merged.summary.started_at);
    let began = began.ok().and_then(|began| u64::try_from(began.timestamp_millis()).ok()).unwrap_or(0);
    let mut text = Vec::new();
    write_intervals(&mut text, Duration::from_millis(began), &merged.intervals)
        .map_err(|source| ReportError::Unwritable { to: to.display().to_string(), source })?;
    Ok(text)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    std::fs::write(path, bytes)
        .map_err(|source| ReportError::Unwritable { to: path.display().to_string(), source })
}

fn write_json(to: &WriteTo, value: &impl Serialize) -> Result<(), ReportError> {
    let unwritable = |to: &str, source| ReportError::Unwritable { to: to.to_owned(), source };
    let mut json = serde_json::to_vec_pretty(value).map_err(|error| unwritable("JSON", error.into()))?;
    json.push(b'\n');
    match to {
        WriteTo::Stdout => std::io::stdout().write_all(&json).map_err(|source| unwritable("stdout", source)),
        WriteTo::File(path) => write(path, &json),
    }
}
