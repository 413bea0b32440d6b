//! The proof of a run by another process than its own, mostly after it.

use super::facts::local_utc_offset_s;
use super::verify::{connections, reader};
use super::{RunError, Stops, engines, unix};
use crate::kinesis::protocol::{Form, StreamRef};
use crate::kinesis::{Client, ClientConfig, Position, Reach, ReadMarks, Registrations};
use crate::load::{Nanos, SECOND};
use crate::observe::{CountedSummary, Settled, VERIFY_SCHEMA_VERSION, VerifyReport};
use crate::plan::{LoadPlan, RunKnown, VerifyPlan};
use crate::tick::StampPlace;
use crate::verify::{CLOCKS, Consumer, Index, Manifest, Proof, When};
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is looked whether the run has written its summary.
const LOOK: Duration = Duration::from_millis(500);

/// Looks what arrived of a run.
///
/// # Errors
/// If it could not be looked.
pub async fn verify(plan: &VerifyPlan, stops: impl Stops) -> Result<VerifyReport, RunError> {
    let registrations = Registrations::default();
    let report = look(plan, stops, &registrations).await;
    // However it ended.
    registrations.end().await;
    report
}

async fn look(
    plan: &VerifyPlan,
    mut stops: impl Stops,
    registrations: &Registrations,
) -> Result<VerifyReport, RunError> {
    let known = tokio::select! {
        known = Known::find(&plan.run) => known?,
        () = stops.next() => return Err(RunError::Unread),
    };
    let now = chrono::Utc::now();
    let (proof, error, read, index) = if let Some(index) = &plan.index {
        known.check_documents()?;
        let index = Index::reach(index, plan.profile.clone(), plan.attempt_timeout).await?;
        let read = index.name();
        let (proof, error, times) = tokio::select! {
            read = index.prove(known.proof, known.run, &known.numbers) => read?,
            () = stops.next() => return Err(RunError::Unread),
        };
        (proof, error, read, Some(times))
    } else {
        let streams = known.streams(plan)?;
        let read = streams.iter().map(StreamRef::as_str).collect::<Vec<_>>().join(",");
        let consumer = tokio::select! {
            consumer = consumer(plan, &streams, known.start_unix, unix(now), registrations) => consumer?,
            () = stops.next() => return Err(RunError::Unread),
        };
        let when = When::Over { ended_unix: known.ended_unix };
        let (proof, error) = consumer.prove(known.proof, when, plan.read_back.wait, stops.next()).await;
        (proof, error, read, None)
    };
    let verify = match plan.run {
        RunKnown::Summary(_) => Settled::Proved(Box::new(proof.summary(error))),
        RunKnown::Id(_) => Settled::Counted(Box::new(CountedSummary { error, ..proof.counted() })),
    };
    let mut report = VerifyReport {
        schema_version: VERIFY_SCHEMA_VERSION,
        tickgen_version: env!("CARGO_PKG_VERSION"),
        run_id: format!("{:08x}", known.run),
        read,
        started_at: now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        verify,
        index,
        thresholds: Vec::new(),
    };
    let thresholds = plan.output.thresholds.iter();
    report.thresholds = thresholds.map(|threshold| threshold.judge_by(|path| report.figure(path))).collect();
    Ok(report)
}

/// What is known of a run.
struct Known {
    run: u32,
    proof: Proof,
    // When it began, if that is known.
    start_unix: Option<Nanos>,
    ended_unix: Option<Nanos>,
    // Of each load, one more than the highest number; none are known of a run that is known by its id.
    numbers: Vec<u64>,
    streams: Vec<Option<String>>,
    stamps: Vec<StampPlace>,
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
    async fn find(run: &RunKnown) -> Result<Self, RunError> {
        match run {
            RunKnown::Id(run) => Ok(Self {
                run: *run,
                proof: Proof::by_id(*run),
                start_unix: None,
                ended_unix: None,
                numbers: Vec::new(),
                streams: Vec::new(),
                stamps: Vec::new(),
            }),
            RunKnown::Summary(file) => {
                let summary = read_summary(file).await?;
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
    fn streams(&self, plan: &VerifyPlan) -> Result<Vec<StreamRef>, RunError> {
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
    fn check_documents(&self) -> Result<(), RunError> {
        if self.stamps.iter().all(|stamp| *stamp == StampPlace::Body) {
            return Ok(());
        }
        let why = "the run's documents do not say which records they are, as its stamps were in the partition \
                   keys: run it with --stamp body";
        Err(RunError::Plan(why.to_owned()))
    }
}

/// Reads a summary; one that is not there or not whole is waited for.
async fn read_summary(file: &Path) -> Result<SummaryFile, RunError> {
    let failed =
        |error: &dyn std::fmt::Display| RunError::Plan(format!("--summary-of {}: {error}", file.display()));
    let mut told = false;
    loop {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(&error)),
        };
        match serde_json::from_slice(&text) {
            Ok(summary) => return Ok(summary),
            Err(error) if error.is_eof() => {}
            Err(error) => return Err(failed(&format!("not the summary of a run: {error}"))),
        }
        if !told {
            tracing::info!(file = %file.display(), "waiting for the run to end and write its summary");
            told = true;
        }
        sleep(LOOK).await;
    }
}

/// What reads streams from before the run.
async fn consumer(
    plan: &VerifyPlan,
    streams: &[StreamRef],
    start_unix: Option<Nanos>,
    now_unix: Nanos,
    registrations: &Registrations,
) -> Result<Consumer, RunError> {
    let mut readers = Vec::new();
    for stream in streams {
        let reach = Reach::Aws {
            endpoint_url: plan.endpoint_url.clone(),
            region: plan.region.clone(),
            profile: plan.profile.clone(),
        };
        let client = Client::connect(&ClientConfig {
            stream: stream.clone(),
            reach,
            form: Form::default(),
            max_connections: connections(plan.max_connections, plan.read_back),
            connect_timeout: plan.connect_timeout,
            attempt_timeout: plan.attempt_timeout,
        })
        .await?;
        let info = client.describe().await?;
        let kept = info.retention_hours;
        let age = start_unix.map_or(0, |start| now_unix.saturating_sub(start) / SECOND);
        if kept > 0 && age >= kept * 3600 {
            return Err(RunError::Plan(format!(
                "stream {} keeps records for {kept} hours, and the run began {} hours ago: what is missing may \
                 have arrived and be gone",
                stream.as_str(),
                age / 3600
            )));
        }
        readers.push(reader(&client, &info, plan.read_back, registrations).await?);
    }
    let from = start_unix.map_or(Position::Oldest, |start| Position::Time(start.saturating_sub(CLOCKS)));
    Ok(Consumer::begin(readers, from, now_unix, ReadMarks::default()).await?)
}
