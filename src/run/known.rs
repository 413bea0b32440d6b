//! What is known of a run that another process has made.

use super::facts::local_utc_offset_s;
use super::{RunError, engines};
use crate::kinesis::protocol::StreamRef;
use crate::load::Nanos;
use crate::plan::{LoadPlan, RunKnown, VerifyPlan};
use crate::tick::StampPlace;
use crate::verify::{Manifest, ManifestLoad, Proof};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often it is looked whether the run has written its summary.
const LOOK: Duration = Duration::from_millis(500);

/// How long a summary that is not whole may stay as it is: it is written in one go.
const WRITING: Duration = Duration::from_secs(30);

/// What is known of a run.
pub(super) struct Known {
    pub(super) run: u32,
    pub(super) proof: Proof,
    // When it began, if that is known.
    pub(super) start_unix: Option<Nanos>,
    pub(super) ended_unix: Option<Nanos>,
    // Of each load, one more than the highest number; none are known of a run that is known by its id.
    pub(super) numbers: Vec<u64>,
    pub(super) streams: Vec<Option<String>>,
    pub(super) stamps: Vec<StampPlace>,
}

/// What is read of a run's summary.
#[derive(serde::Deserialize)]
struct SummaryFile {
    run_id: String,
    tickgen_version: String,
    elapsed_s: f64,
    manifest: Manifest,
}

impl Known {
    /// Waits for the run's summary, if that is what is known of it.
    pub(super) async fn find(plan: &VerifyPlan) -> Result<Self, RunError> {
        match &plan.run {
            RunKnown::Id(run) => Ok(Self {
                run: *run,
                proof: Proof::by_id(*run),
                start_unix: None,
                ended_unix: None,
                numbers: Vec::new(),
                streams: Vec::new(),
                stamps: Vec::new(),
            }),
            RunKnown::Summary { file, id } => {
                let summary = wait_for_summary(file, *id, plan.summary_wait).await?;
                Self::of(summary)
                    .map_err(|why| RunError::Plan(format!("--summary-of {}: {why}", file.display())))
            }
        }
    }

    fn of(summary: SummaryFile) -> Result<Self, String> {
        let SummaryFile { run_id, tickgen_version, elapsed_s, manifest } = summary;
        let own = env!("CARGO_PKG_VERSION");
        if tickgen_version != own {
            return Err(format!(
                "was written by tickgen {tickgen_version}; this is {own}, whose records may differ: verify with that"
            ));
        }
        let run = u32::from_str_radix(&run_id, 16).map_err(|error| format!("run_id {run_id}: {error}"))?;
        if let Some(cannot) = manifest.cannot {
            return Err(format!("the run cannot be verified: {cannot}"));
        }
        let start_unix = manifest.start_unix_ns;
        let (mut loads, mut acked) = (Vec::new(), Vec::new());
        for (place, of) in manifest.loads.iter().enumerate() {
            let offset = of.local_utc_offset_s;
            if offset.is_some() && offset != local_utc_offset_s(start_unix) {
                return Err(
                    "its EVENT_TIME is in the zone of another machine (--local-time): set TZ to it".into()
                );
            }
            let mistakes =
                |errors: Vec<_>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let load = LoadPlan::remade(of).map_err(mistakes)?;
            let source = engines::source(&load).map_err(|error| error.to_string())?;
            if of.numbers > ManifestLoad::MOST_NUMBERS {
                let (load, most) = (&of.name, ManifestLoad::MOST_NUMBERS);
                return Err(format!("{} records of load {load:?} are more than {most}", of.numbers));
            }
            let place = u8::try_from(place).map_err(|_| "more than 256 loads".to_owned())?;
            loads.push((of.name.clone(), source.with_stamps(load.stamps, run, place)));
            acked.push(of.acked().ok_or(
                "which of its records were not acked does not fit into a summary, so that lost ones cannot be told; \
                 --run and its run_id count what arrived",
            )?);
        }
        let mut proof = Proof::new(run, start_unix, loads);
        for (place, acked) in acked.into_iter().enumerate() {
            proof.all_acked(place, acked);
        }
        Ok(Self {
            run,
            proof,
            start_unix: Some(start_unix),
            ended_unix: Duration::try_from_secs_f64(elapsed_s)
                .ok()
                .and_then(|elapsed| start_unix.checked_add(u64::try_from(elapsed.as_nanos()).ok()?)),
            numbers: manifest.loads.iter().map(|load| load.numbers).collect(),
            streams: manifest.loads.iter().map(|load| load.stream.clone()).collect(),
            stamps: manifest.loads.iter().map(|load| load.stamp).collect(),
        })
    }

    /// The streams to read, each once.
    pub(super) fn streams(&self, plan: &VerifyPlan) -> Result<Vec<StreamRef>, RunError> {
        if let Some(stream) = &plan.stream {
            return Ok(vec![stream.clone()]);
        }
        let mut streams: Vec<StreamRef> = Vec::new();
        for stream in &self.streams {
            let gone = "the run's records went to no stream that outlives it (embedded, or --to): name the --stream \
                        that holds them, or run with --verify";
            let stream = StreamRef::parse(stream.as_ref().ok_or_else(|| RunError::Plan(gone.to_owned()))?);
            if !streams.contains(&stream) {
                streams.push(stream);
            }
        }
        Ok(streams)
    }

    /// Documents are what the body says.
    pub(super) fn check_documents(&self) -> Result<(), RunError> {
        if self.stamps.iter().all(|stamp| *stamp == StampPlace::Body) {
            return Ok(());
        }
        let why = "the run's documents do not say which records they are, as its stamps were in the partition \
                   keys: run it with --stamp body";
        Err(RunError::Plan(why.to_owned()))
    }
}

/// Waits for a summary: while the file is empty or not there, holds another run's than that of `id`, or is
/// not whole.
async fn wait_for_summary(file: &Path, id: Option<u32>, wait: Duration) -> Result<SummaryFile, RunError> {
    let failed =
        |error: &dyn std::fmt::Display| RunError::Plan(format!("--summary-of {}: {error}", file.display()));
    let begun = Instant::now();
    let (mut before, mut changed, mut told) = (Vec::new(), begun, false);
    loop {
        let text = read(file).map_err(|error| failed(&error))?;
        if text != before {
            changed = Instant::now();
        }
        let is_it = |summary: &SummaryFile| id.is_none_or(|id| summary.run_id == format!("{id:08x}"));
        match serde_json::from_slice::<SummaryFile>(&text) {
            Ok(summary) if is_it(&summary) => return Ok(summary),
            Err(error) if !error.is_eof() => {
                return Err(failed(&format!("not the summary of a run: {error}")));
            }
            Err(_) if !text.is_empty() && changed.elapsed() >= WRITING => {
                return Err(failed(&"breaks off, and nothing more is written to it"));
            }
            _ => {}
        }
        if begun.elapsed() >= wait {
            return Err(failed(&format!("no summary of the run came within {wait:?} (--summary-wait)")));
        }
        if !told {
            tracing::warn!(file = %file.display(), ?wait, "waiting for the run to end and write its summary");
            told = true;
        }
        before = text;
        sleep(LOOK).await;
    }
}

/// What is in a file that may not be there yet; its folder must be.
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound && folder.is_none_or(Path::is_dir) => {
            Ok(Vec::new())
        }
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn summary(run: &str) -> String {
        let manifest = serde_json::to_value(Manifest::default()).unwrap();
        serde_json::json!({"run_id": run, "tickgen_version": "0", "elapsed_s": 1.0, "manifest": manifest})
            .to_string()
    }

    /// A file with this text, if any, and what comes of waiting for its summary; and how long that takes.
    async fn waited(
        text: Option<&str>,
        id: Option<u32>,
        wait: Duration,
    ) -> (Result<String, String>, Duration) {
        let file = std::env::temp_dir().join(format!("tickgen-known-{:016x}", rand::random::<u64>()));
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let begun = Instant::now();
        let found = wait_for_summary(&file, id, wait).await;
        let _ = std::fs::remove_file(&file);
        (found.map(|found| found.run_id).map_err(|error| error.to_string()), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_summary_is_waited_for_no_longer_than_asked() {
        for (text, id) in [(None, None), (Some(""), None), (Some(summary("0000000a")).as_deref(), Some(11))] {
            let (found, took) = waited(text, id, HOUR).await;
            let error = found.unwrap_err();
            assert!(error.contains("no summary of the run came within 3600s (--summary-wait)"), "{error}");
            assert!((HOUR..HOUR + LOOK).contains(&took), "{took:?}");
        }
        let (found, took) = waited(Some(&summary("0000000a")), Some(10), Duration::ZERO).await;
        assert_eq!((found, took), (Ok("0000000a".to_owned()), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_summary_that_breaks_off_does_not_become_whole() {
        let whole = summary("0000000a");
        let (found, took) = waited(Some(&whole[..whole.len() / 2]), None, HOUR).await;
        assert!(found.unwrap_err().contains("breaks off"));
        assert!((WRITING..WRITING + 2 * LOOK).contains(&took), "{took:?}");
    }
}
