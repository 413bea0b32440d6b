//! One run, from the plan to the summary.

mod application;
mod destination;
mod drill;
mod ending;
mod engines;
mod facts;
mod lines;
mod replay;
mod search;
mod verify;

use crate::admin::{self, Admin};
#[cfg(feature = "embedded")]
use crate::kinesis::embedded;
use crate::kinesis::{Client, StreamError};
use crate::load::Nanos;
use crate::observe::{Judge, Metrics, Progress, StoppedBy, Summary};
use crate::plan::{LoadPlan, Plan};
use crate::producer::{MapSteering, Observer, Producer};
use crate::tick::Source;
use destination::Destinations;
use drill::Drills;
use ending::{End, Finished, finish, watch_thresholds};
use facts::{facts, gauges, tell_loads};
use replay::Replay;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use verify::{Proving, Verifying};

pub use search::search;

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

impl<S: Stops> Stops for &mut S {
    fn next(&mut self) -> impl Future<Output = ()> + Send {
        (**self).next()
    }
}

/// Runs the plan to its end.
///
/// # Errors
/// If it could not begin. A run that began always comes to a summary.
pub async fn run(plan: &Plan, mut stops: impl Stops) -> Result<Summary, RunError> {
    let mut rest = Rest::default();
    let admin = listen(plan, &mut rest).await?;
    let (records, to) = reach(plan, &mut stops).await?;
    let verifying = tokio::select! {
        verifying = Verifying::begin(plan, &to, unix(chrono::Utc::now())) => verifying?,
        () = stops.next() => return Err(RunError::Stopped),
    };
    let summary = offer(plan, &to, records, verifying, &admin, stops, &mut rest).await;
    rest.tasks.shutdown().await;
    Ok(summary)
}

/// Reaches where the loads go, and refuses what it cannot take. Nothing is offered yet.
async fn reach(plan: &Plan, stops: &mut impl Stops) -> Result<(Vec<Records>, Destinations), RunError> {
    let sources: Vec<Source> = plan.loads.iter().map(engines::source).collect::<Result<_, _>>()?;
    let (feeds, to) = tokio::select! {
        opened = open(plan, &sources) => opened?,
        () = stops.next() => return Err(RunError::Stopped),
    };
    for ((load, source), to) in plan.loads.iter().zip(&sources).zip(&to.loads) {
        engines::check(load, source, to)?;
        drill::check(&plan.drills, to.info.on_demand).map_err(RunError::Plan)?;
    }
    Ok((sources.into_iter().zip(feeds).collect(), to))
}

/// Opens the files to replay, which may be pipes that nobody writes to yet, and reaches the streams.
async fn open(plan: &Plan, sources: &[Source]) -> Result<(Vec<Option<Replay>>, Destinations), RunError> {
    let mut feeds = Vec::new();
    for load in plan.loads.clone() {
        let target = plan.target.clone();
        let opened = tokio::task::spawn_blocking(move || engines::feed(&load, &target)).await;
        feeds.push(opened.map_err(|error| RunError::Plan(error.to_string()))??);
    }
    // The application may be what makes the streams.
    if let Some(application) = &plan.application {
        application::ready(&application.ready).await;
    }
    Ok((feeds, Destinations::reach(plan, sources).await?))
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

/// What the records of a load are, and what is read meanwhile if they are replayed.
type Records = (Source, Option<Replay>);

/// Loads that are being offered.
struct Underway {
    start: Instant,
    producer: Producer,
    observer: Observer,
    judge: Judge,
    proving: Proving,
}

/// Starts to offer the loads. What runs beside the producer is left in `rest`.
fn begin(
    plan: &Plan,
    to: &Destinations,
    records: Vec<Records>,
    verifying: Verifying,
    admin: &Admin,
    rest: &mut Rest,
) -> Underway {
    // The two clocks of the run are read together: EVENT_TIME is the intended start.
    let (started_at, start) = (chrono::Utc::now(), Instant::now());
    let (run, unix) = (rand::random::<u32>(), unix(started_at));
    let room = engines::room(plan);
    let (mut engines, mut read_back) = (Vec::new(), Vec::new());
    let loads = plan.loads.iter().zip(&to.loads).zip(records);
    for (place, ((load, to), (source, feed))) in loads.enumerate() {
        let mut source = source.with_stamps(load.stamps, run, u8::try_from(place).unwrap_or(u8::MAX));
        source.starts_at(unix);
        if plan.verify.is_some() {
            read_back.push((load.name.clone(), source.clone()));
        }
        let witness = verifying.witness(place);
        let engine = engines::engine(load, to, (source, feed), witness, Arc::clone(&room));
        engines.push((engine, to.to.clone()));
    }
    let proving = verifying.prove(run, unix, start, read_back);
    let producer = Producer::start(engines, start, plan.drain_timeout);
    let observer = producer.observer();
    let facts = facts(plan, to, run, started_at);
    admin.begin(Metrics::new(gauges(plan, to, &facts)), observer.clone());
    for (to, map) in to.loads.iter().zip(producer.steering().maps()) {
        if let Some(client) = to.to.client() {
            rest.spawn(keep_map(client.clone(), map.clone()));
        }
    }
    let judge = Judge::new(plan.output.thresholds.clone(), facts);
    Underway { start, producer, observer, judge, proving }
}

async fn offer(
    plan: &Plan,
    to: &Destinations,
    records: Vec<Records>,
    verifying: Verifying,
    admin: &Admin,
    mut stops: impl Stops,
    rest: &mut Rest,
) -> Summary {
    let Underway { start, mut producer, observer, judge, proving } =
        begin(plan, to, records, verifying, admin, rest);
    tell_loads(judge.facts(), to);
    if !plan.output.quiet {
        let span = plan.loads.iter().map(LoadPlan::span).try_fold(0, |most, span| Some(span?.max(most)));
        rest.spawn(show_progress(Progress::new(span), observer.clone()));
    }
    let (end, ends) = mpsc::channel(2);
    if let Some(after) = plan.output.abort_after {
        rest.spawn(watch_thresholds(judge.clone(), after, observer.clone(), end.clone()));
    }
    if let Some(application) = plan.application.clone().filter(|application| application.stop_when_gone) {
        rest.spawn(async move {
            application::gone(application.ready).await;
            // A run that has ended by itself does not listen any more.
            let _ = end.send(End::Gone).await;
        });
    }
    let steering = producer.steering();
    let mut drills = Drills::new(&plan.drills, to.loads[0].to.client(), &producer, start);
    let finished = drills.during(finish(&mut producer, &steering, &mut stops, ends)).await;
    let mut error = finished.fatal.map(|error| error.to_string());
    let stopped_by = if error.is_some() { StoppedBy::Error } else { finished.stopped_by };
    let verify = proving.result(&mut stops).await.unwrap_or_else(|unproved| {
        error.get_or_insert(unproved);
        None
    });
    let summary = judge.summary(&observer.loads(), stopped_by, error, finished.missed);
    Summary { drills: drills.results(&observer.snapshot()), verify, ..summary }
}

/// Nanoseconds since 1970-01-01 UTC.
fn unix(time: chrono::DateTime<chrono::Utc>) -> Nanos {
    time.timestamp_nanos_opt().and_then(|n| Nanos::try_from(n).ok()).unwrap_or(0)
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

/// Refreshes the shard map whenever a record came to an unexpected shard, and now and then.
async fn keep_map(client: Client, steering: MapSteering) {
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
