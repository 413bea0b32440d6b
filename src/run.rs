//! One run, from the plan to the summary.

mod destination;

use crate::admin::{self, Admin};
#[cfg(feature = "embedded")]
use crate::kinesis::embedded;
use crate::kinesis::{Client, StreamError, StreamInfo};
use crate::load::{Nanos, Rate, Schedule, Stride};
use crate::observe::{Metrics, Progress, RunFacts, RunGauges, StoppedBy, Summary, Threshold};
use crate::plan::Plan;
use crate::producer::{AggregateSize, Bounds, EngineConfig, Observer, Pace, Packing, Producer, Steering};
use crate::tick::{EventTime, Keys, Source, Ticks};
use destination::Destination;
use std::io::Write as _;
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
    /// A signal came before the load began.
    #[error("stopped before the load began; nothing was sent")]
    Stopped,
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
pub async fn run(plan: &Plan, mut stops: impl Stops) -> Result<Summary, RunError> {
    let mut rest = Rest::default();
    let admin = listen(plan, &mut rest).await?;
    let source = source(plan)?;
    let largest = largest_entry(plan, &source);
    let to = tokio::select! {
        to = Destination::reach(plan, &source) => to?,
        () = stops.next() => return Err(RunError::Stopped),
    };
    check_against_stream(plan, largest, &to.info)?;
    let summary = offer(plan, &to, source, &admin, stops, &mut rest).await;
    rest.tasks.shutdown().await;
    Ok(summary)
}

/// Starts the admin server, if it is asked for: it is live before the load is on.
async fn listen(plan: &Plan, rest: &mut Rest) -> Result<Admin, RunError> {
    let admin = Admin::default();
    let Some(addr) = plan.output.admin_addr else { return Ok(admin) };
    let listener = TcpListener::bind(addr).await.map_err(|source| RunError::Admin { addr, source })?;
    let bound = listener.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string());
    tracing::info!(address = bound, "admin server");
    let served = admin.clone();
    rest.spawn(async move {
        if let Err(error) = admin::serve(listener, served).await {
            tracing::error!(%error, "the admin server ended");
        }
    });
    Ok(admin)
}

fn source(plan: &Plan) -> Result<Source, RunError> {
    let ticks = Ticks::new(plan.seed, &plan.tickers, plan.payload_bytes, EventTime::new(0, plan.zone))
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

fn check_against_stream(plan: &Plan, largest: usize, info: &StreamInfo) -> Result<(), RunError> {
    let limit = info.limits.record_bytes;
    if largest <= limit {
        return Ok(());
    }
    let flag = if plan.aggregate_bytes.is_some() { "--aggregate-bytes" } else { "--payload-bytes" };
    Err(RunError::Plan(format!(
        "Kinesis records of up to {largest} bytes, but the stream takes {limit}: lower {flag}, or raise the \
         stream's limit (aws kinesis update-max-record-size)"
    )))
}

/// Tasks beside the producer; they end with the run.
#[derive(Default)]
struct Rest {
    tasks: JoinSet<()>,
}

impl Rest {
    #[expect(clippy::disallowed_methods, reason = "tasks that end with the run")]
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

async fn offer(
    plan: &Plan,
    to: &Destination,
    mut source: Source,
    admin: &Admin,
    stops: impl Stops,
    rest: &mut Rest,
) -> Summary {
    let pace = pace_of(plan);
    // The two clocks of the run are read together: EVENT_TIME is the intended start.
    let (started_at, start) = (chrono::Utc::now(), Instant::now());
    source.starts_at(started_at.timestamp_nanos_opt().and_then(|n| Nanos::try_from(n).ok()).unwrap_or(0));
    let config = engine_config(plan, to, pace, source);
    let mut producer = Producer::start(vec![config], &to.client, start, plan.drain_timeout);
    let facts = RunFacts {
        run_id: format!("{:08x}", rand::random::<u32>()),
        seed: plan.seed,
        stream: to.stream.as_str().to_owned(),
        started_at: started_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        target_rps: plan.rate.map(Rate::per_second),
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
    let gauges = RunGauges { target_rps: facts.target_rps, connections: to.client.connections() };
    admin.begin(Metrics::new(gauges), producer.observer());
    if !plan.output.quiet {
        rest.spawn(show_progress(Progress::new(facts.target_rps, span(pace)), producer.observer()));
    }
    let steering = producer.steering();
    rest.spawn(keep_map(to.client.clone(), steering.clone()));
    let finished = finish(&mut producer, &steering, stops).await;
    let error = finished.fatal.map(|error| error.to_string());
    let stopped_by = match (&error, finished.by_signal) {
        (Some(_), _) => StoppedBy::Error,
        (None, true) => StoppedBy::Signal,
        (None, false) => StoppedBy::Schedule,
    };
    let thresholds = Threshold::with_defaults(&plan.output.thresholds, plan.rate.is_some());
    Summary::new(&facts, &producer.observer().snapshot(), stopped_by, error, &thresholds)
}

/// A line to stderr every second; a stderr that is gone is not the run's concern.
async fn show_progress(mut progress: Progress, observer: Observer) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        seconds.tick().await;
        let _ = writeln!(std::io::stderr(), "{}", progress.line(observer.snapshot()));
    }
}

struct Finished {
    fatal: Option<crate::kinesis::RequestError>,
    by_signal: bool,
}

/// Waits for the end of the run; the first request to stop drains it, the second ends it.
async fn finish(producer: &mut Producer, steering: &Steering, mut stops: impl Stops) -> Finished {
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
                    steering.drain();
                }
            }
        }
    }
}

/// Refreshes the shard map whenever a record came to an unexpected shard, and now and then.
async fn keep_map(client: Client, steering: Steering) {
    let mut pause = MAP_PAUSE;
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
                    pause = MAP_PAUSE;
                } else {
                    pause = (pause * 2).min(MAP_INTERVAL);
                }
            }
            Err(error) => tracing::warn!(%error, "the shard map could not be refreshed"),
        }
        tokio::time::sleep(pause).await;
    }
}

fn pace_of(plan: &Plan) -> Pace {
    let total = plan.records.unwrap_or(u64::MAX);
    match plan.rate {
        Some(rate) => {
            let schedule = Schedule::constant(rate, total);
            Pace::Open(plan.duration.map_or(schedule, |span| schedule.until(span)))
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

fn engine_config(plan: &Plan, to: &Destination, pace: Pace, source: Source) -> EngineConfig {
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
    EngineConfig {
        stream: to.stream.clone(),
        map: to.map.clone(),
        pace,
        stride: Stride::WHOLE,
        source,
        packing,
        batch,
        quota: plan.shard_limit.quota(to.info.on_demand, largest),
        retry: plan.retry,
        bounds: bounds(plan, to, per_entry),
        seed: plan.seed,
    }
}

/// In a closed loop what waits is what answers do not keep up with: two batches of it, or some entries
/// for each shard, are enough to have something to send whenever there is room.
fn bounds(plan: &Plan, to: &Destination, per_entry: usize) -> Bounds {
    let mut bounds = plan.bounds;
    // A request that waits for a connection would count as sent: each has one of its own.
    bounds.requests = bounds.requests.min(plan.max_connections);
    if plan.rate.is_none() {
        let entries = (2 * plan.batch.entries).max(4 * to.map.shards().len());
        bounds.backlog = bounds.backlog.min((entries * per_entry) as u64);
    }
    bounds
}
