//! One run, from the plan to the summary.

mod destination;

use crate::admin::{self, Admin};
#[cfg(feature = "embedded")]
use crate::kinesis::embedded;
use crate::kinesis::{Client, StreamError, StreamInfo};
use crate::load::{Nanos, Rate, Schedule, Stride};
use crate::observe::{Metrics, Progress, RunFacts, RunGauges, StoppedBy, Summary, Threshold};
use crate::plan::Plan;
use crate::producer::{AggregateSize, Bounds, EngineConfig, Pace, Packing, Producer, ShardQuota, Steering};
use crate::tick::{EventTime, Keys, Source, Ticks};
use destination::Destination;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Why a run came to no summary.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan does not fit the stream; nothing was sent.
    #[error("{0}")]
    Plan(String),
    /// The stream could not be looked at; nothing was sent.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The embedded Kinesis did not start.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Embedded(#[from] embedded::EmbeddedError),
    /// The admin server has no port.
    #[error("--admin-addr {addr}: {source}")]
    Admin {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How often the shard map is refreshed without cause.
const MAP_INTERVAL: Duration = Duration::from_mins(1);

/// The shortest time between two refreshes.
const MAP_PAUSE: Duration = Duration::from_millis(200);

/// Requests to stop the run, from signals or a test.
pub trait Stops {
    /// Waits for the next request: the first drains, the second ends at once.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs the plan to its end.
///
/// # Errors
/// If it could not begin. A run that began always comes to a summary.
pub async fn run(plan: &Plan, stops: impl Stops) -> Result<Summary, RunError> {
    let to = Destination::reach(plan).await?;
    check_against_stream(plan, &to.info)?;
    let mut rest = Rest::default();
    let summary = offer(plan, &to, stops, &mut rest).await;
    rest.tasks.shutdown().await;
    summary
}

fn source(plan: &Plan, start_unix: Nanos) -> Result<Source, RunError> {
    let time = EventTime::new(start_unix, plan.zone);
    let ticks = Ticks::new(plan.seed, &plan.tickers, plan.payload_bytes, time)
        .map_err(|error| RunError::Plan(error.to_string()))?;
    let keys = Keys::new(&plan.keys, plan.seed, &ticks);
    Ok(Source::new(ticks, keys))
}

/// The largest entry that the plan can make, in bytes as Kinesis counts them.
fn largest_entry(plan: &Plan, source: &Source) -> usize {
    // An aggregate of one record that is larger than a full one: framing of at most 128 bytes.
    let single = source.max_record_bytes();
    plan.aggregate_bytes.map_or(single, |full| full.max(single + 128) + 1)
}

fn check_against_stream(plan: &Plan, info: &StreamInfo) -> Result<(), RunError> {
    let largest = largest_entry(plan, &source(plan, 0)?);
    let limit = info.limits.record_bytes;
    if largest <= limit {
        return Ok(());
    }
    Err(RunError::Plan(format!(
        "Kinesis records of up to {largest} bytes, but the stream takes {limit}: lower --payload-bytes or \
         --aggregate-bytes, or raise the stream's limit (aws kinesis update-max-record-size)"
    )))
}

/// Tasks beside the producer; they end with the run.
#[derive(Default)]
struct Rest {
    tasks: JoinSet<()>,
}

async fn offer(
    plan: &Plan,
    to: &Destination,
    stops: impl Stops,
    rest: &mut Rest,
) -> Result<Summary, RunError> {
    let started_at = chrono::Utc::now();
    let start_unix = started_at.timestamp_nanos_opt().and_then(|n| Nanos::try_from(n).ok()).unwrap_or(0);
    let pace = pace_of(plan);
    let facts = RunFacts {
        run_id: run_id(),
        seed: plan.seed,
        stream: to.stream.as_str().to_owned(),
        started_at: started_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        target_rps: plan.rate.map(Rate::per_second),
    };
    let listener = match plan.output.admin_addr {
        None => None,
        Some(addr) => Some(TcpListener::bind(addr).await.map_err(|source| RunError::Admin { addr, source })?),
    };
    tracing::info!(
        run = facts.run_id,
        seed = facts.seed,
        stream = facts.stream,
        arn = to.info.arn,
        shards = to.map.shards().len(),
        on_demand = to.info.on_demand,
        "offering the load"
    );
    let config = engine_config(plan, to, pace, start_unix)?;
    let mut producer = Producer::start(vec![config], &to.client, Instant::now(), plan.drain_timeout);
    let ready = Arc::new(AtomicBool::new(true));
    if let Some(listener) = listener {
        let gauges = RunGauges { target_rps: facts.target_rps, connections: to.client.connections() };
        let metrics = Arc::new(Metrics::new(gauges));
        let admin = Admin { metrics, observer: producer.observer(), ready: Arc::clone(&ready) };
        tracing::info!(address = %listener.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string()), "admin server");
        spawn(&mut rest.tasks, async move {
            if let Err(error) = admin::serve(listener, admin).await {
                tracing::error!(%error, "the admin server ended");
            }
        });
    }
    if !plan.output.quiet {
        let observer = producer.observer();
        let mut progress = Progress::new(facts.target_rps, span(pace));
        spawn(&mut rest.tasks, async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            ticks.tick().await;
            loop {
                ticks.tick().await;
                eprintln!("{}", progress.line(observer.snapshot()));
            }
        });
    }
    let steering = producer.steering();
    spawn(&mut rest.tasks, keep_map(to.client.clone(), steering.clone()));
    let signalled = finish(&mut producer, &steering, stops, &ready).await;
    let last = producer.observer().snapshot();
    let error = signalled.fatal.map(|error| error.to_string());
    let stopped_by = match (&error, signalled.by_signal) {
        (Some(_), _) => StoppedBy::Error,
        (None, true) => StoppedBy::Signal,
        (None, false) => StoppedBy::Schedule,
    };
    let thresholds = Threshold::with_defaults(&plan.output.thresholds, plan.rate.is_some());
    Ok(Summary::new(&facts, &last, stopped_by, error, &thresholds))
}

struct Finished {
    fatal: Option<crate::kinesis::RequestError>,
    by_signal: bool,
}

/// Waits for the end of the run; the first request to stop drains it, the second ends it.
async fn finish(
    producer: &mut Producer,
    steering: &Steering,
    mut stops: impl Stops,
    ready: &AtomicBool,
) -> Finished {
    let mut by_signal = false;
    loop {
        tokio::select! {
            ending = producer.finished() => {
                return Finished { fatal: ending.fatal, by_signal };
            }
            () = stops.next() => {
                if by_signal {
                    tracing::warn!("ending at once; what is not settled counts as failed");
                    steering.abandon();
                } else {
                    tracing::info!("draining; a second signal ends at once");
                    by_signal = true;
                    ready.store(false, Ordering::Relaxed);
                    steering.drain();
                }
            }
        }
    }
}

/// Refreshes the shard map whenever a record came to an unexpected shard, and now and then.
async fn keep_map(client: Client, steering: Steering) {
    loop {
        tokio::select! {
            () = steering.map_is_stale() => {}
            () = tokio::time::sleep(MAP_INTERVAL) => {}
        }
        match client.shard_map().await {
            Ok(map) => {
                let shards = map.shards().len();
                if steering.reshard(map) {
                    tracing::info!(shards, "the stream was resharded");
                }
            }
            Err(error) => tracing::warn!(%error, "the shard map could not be refreshed"),
        }
        tokio::time::sleep(MAP_PAUSE).await;
    }
}

fn pace_of(plan: &Plan) -> Pace {
    let total = plan.records.unwrap_or(u64::MAX);
    match plan.rate {
        Some(rate) => {
            let within = plan.duration.map_or(u64::MAX, |span| Schedule::count_within(rate, span));
            Pace::Open(Schedule::constant(rate, total.min(within)))
        }
        None => Pace::Closed { total, until: plan.duration.unwrap_or(Nanos::MAX) },
    }
}

fn span(pace: Pace) -> Option<Nanos> {
    match pace {
        Pace::Open(schedule) => schedule.span(),
        Pace::Closed { until, .. } => (until != Nanos::MAX).then_some(until),
    }
}

fn engine_config(
    plan: &Plan,
    to: &Destination,
    pace: Pace,
    start_unix: Nanos,
) -> Result<EngineConfig, RunError> {
    let source = source(plan, start_unix)?;
    let largest = largest_entry(plan, &source);
    let per_entry = plan.aggregate_bytes.map_or(1, |full| full / source.max_record_bytes() + 1);
    let packing = match plan.aggregate_bytes {
        None => Packing::Single,
        Some(full) => Packing::Aggregate {
            size: AggregateSize::new(source.key_count(), source.explicit()),
            full,
            linger: plan.batch.linger,
        },
    };
    let mut batch = plan.batch;
    batch.entries = batch.entries.min(to.info.limits.request_entries);
    batch.bytes = batch.bytes.min(to.info.limits.request_bytes);
    Ok(EngineConfig {
        stream: to.stream.clone(),
        map: to.map.clone(),
        pace,
        stride: Stride::WHOLE,
        source,
        packing,
        batch,
        quota: plan.shard_limit.map(|share| ShardQuota::of_shard(share, largest)),
        retry: plan.retry,
        bounds: bounds(plan, to, per_entry),
        seed: plan.seed,
    })
}

/// In a closed loop what waits is what answers do not keep up with: two batches of it, or some entries
/// for each shard, are enough to have something to send whenever there is room.
fn bounds(plan: &Plan, to: &Destination, per_entry: usize) -> Bounds {
    let mut bounds = plan.bounds;
    if plan.rate.is_none() {
        let entries = (2 * plan.batch.entries).max(4 * to.map.shards().len());
        bounds.backlog = bounds.backlog.min((entries * per_entry) as u64);
    }
    bounds
}

fn run_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

#[expect(clippy::disallowed_methods, reason = "tasks that end with the run")]
fn spawn(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(task);
}
