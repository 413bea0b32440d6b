//! The proof of a run by another process than its own, mostly after it.

use super::known::Known;
use super::verify::{connections, reader};
use super::{RunError, Stops, unix};
use crate::kinesis::protocol::{Form, StreamRef};
use crate::kinesis::{Client, ClientConfig, Position, Reach, ReadMarks, Registrations};
use crate::load::{Nanos, SECOND};
use crate::observe::{CountedSummary, IndexSummary, Settled, VERIFY_SCHEMA_VERSION, VerifyReport};
use crate::plan::{IndexPlan, RunKnown, VerifyPlan};
use crate::verify::{CLOCKS, Consumer, Index, Searchable, When};

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
    let now = chrono::Utc::now();
    let Looked { known, error, read, index } = match &plan.index {
        Some(index) => in_index(plan, index, &mut stops).await?,
        None => in_streams(plan, unix(now), &mut stops, registrations).await?,
    };
    let verify = match plan.run {
        RunKnown::Summary { .. } => Settled::Proved(Box::new(known.proof.summary(error))),
        RunKnown::Id(_) => {
            let nothing = (known.proof.delivered() == 0).then(|| {
                "nothing of this run is there: look at --run, and at where it was looked".to_owned()
            });
            Settled::Counted(Box::new(CountedSummary { error: error.or(nothing), ..known.proof.counted() }))
        }
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

/// What came of looking.
struct Looked {
    known: Known,
    // Why not all was read.
    error: Option<String>,
    // The streams, or the index.
    read: String,
    index: Option<IndexSummary>,
}

async fn in_streams(
    plan: &VerifyPlan,
    now_unix: Nanos,
    stops: &mut impl Stops,
    registrations: &Registrations,
) -> Result<Looked, RunError> {
    let begun = async {
        let known = Known::find(plan).await?;
        let streams = known.streams(plan)?;
        let consumer = consumer(plan, &streams, known.start_unix, now_unix, registrations).await?;
        Ok::<_, RunError>((known, streams, consumer))
    };
    let (mut known, streams, consumer) = tokio::select! {
        begun = begun => begun?,
        () = stops.next() => return Err(RunError::Unread),
    };
    let read = streams.iter().map(StreamRef::as_str).collect::<Vec<_>>().join(",");
    let when = When::Over { ended_unix: known.ended_unix };
    let (proof, error) = consumer.prove(known.proof, when, plan.read_back.wait, stops.next()).await;
    known.proof = proof;
    Ok(Looked { known, error, read, index: None })
}

async fn in_index(plan: &VerifyPlan, index: &IndexPlan, stops: &mut impl Stops) -> Result<Looked, RunError> {
    let (mut known, index, mut searchable) = tokio::select! {
        begun = watch(plan, index) => begun?,
        () = stops.next() => return Err(RunError::Unread),
    };
    searchable.learn(&known.numbers, &known.proof);
    let (error, times) = tokio::select! {
        read = index.prove(&mut searchable, &mut known.proof) => read?,
        () = stops.next() => {
            let times = searchable.summary(known.proof.delivered());
            (Some("stopped before all documents were read".to_owned()), times)
        }
    };
    Ok(Looked { known, error, read: index.name(), index: Some(times) })
}

/// Waits for what is known of the run. If its id is known before, its documents are looked for meanwhile.
async fn watch(plan: &VerifyPlan, index: &IndexPlan) -> Result<(Known, Index, Searchable), RunError> {
    let reach = || Index::reach(index, plan.profile.clone(), plan.attempt_timeout);
    let Some(run) = plan.run.id() else {
        let known = Known::find(plan).await?;
        known.check_documents()?;
        let searchable = Searchable::new(known.run);
        return Ok((known, reach().await?, searchable));
    };
    let (index, mut searchable) = (reach().await?, Searchable::new(run));
    let known = tokio::select! {
        biased;
        known = Known::find(plan) => known?,
        error = index.watch(&mut searchable) => return Err(error.into()),
    };
    known.check_documents()?;
    Ok((known, index, searchable))
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
