//! One run, from the plan to the summary.

mod application;
mod calibrate;
mod ceiling;
mod destination;
mod drill;
mod ending;
mod engines;
#[cfg(feature = "otlp")]
mod exporting;
mod facts;
mod hdr_log;
mod known;
mod lines;
mod prove;
mod reload;
mod replay;
pub mod report;
mod search;
mod seconds;
mod show;
mod signals;
mod underway;
mod verify;

use crate::admin::{Admin, Guard, Limits, Token};
use crate::cost::Tariff;
#[cfg(feature = "embedded")]
use crate::kinesis::embedded;
use crate::kinesis::{Registrations, StreamError};
use crate::load::Nanos;
use crate::observe::{StoppedBy, Summary};
use crate::plan::Plan;
use crate::tick::Source;
use crate::verify::IndexError;
use destination::Destinations;
use drill::Drills;
use ending::finish;
use facts::{manifest, tariff, tell_loads};
use hdr_log::HdrLogging;
use replay::Replay;
use seconds::SecondKeeping;
use show::Showing;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use underway::{Underway, begin};
use verify::Verifying;

pub use calibrate::calibrate;
pub use prove::verify;
pub use reload::{Reload, Sources};
#[cfg(any(test, fuzzing))]
pub(crate) use replay::read as replayed;
pub use search::search;
pub use signals::Signals;

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
    /// An index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A signal came before all was read.
    #[error("stopped before all was read; nothing is proved")]
    Unread,
    /// What this machine can send could not be measured.
    #[error("not calibrated: {0}")]
    NotCalibrated(String),
    /// The admin server has no port.
    #[error("--admin-addr {addr}: {source}")]
    Admin {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Requests to stop the run, from signals or a test.
pub trait Stops: Send {
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
pub async fn run(plan: &Plan, stops: impl Stops) -> Result<Summary, RunError> {
    run_reloading(plan, stops, None).await
}

/// As [`run`], with a config file that may be read again meanwhile.
///
/// # Errors
/// As [`run`].
pub async fn run_reloading(
    plan: &Plan,
    mut stops: impl Stops,
    reload: Option<Reload>,
) -> Result<Summary, RunError> {
    let mut rest = Rest { reload, ..Rest::default() };
    let admin = listen(plan, false, &mut rest).await?;
    let (records, to) = reach(plan, &mut stops).await?;
    let registrations = Registrations::default();
    let hdr_log = tokio::select! {
        opened = HdrLogging::open(plan) => opened?,
        () = stops.next() => return Err(RunError::Stopped),
    };
    let verifying = tokio::select! {
        verifying = Verifying::begin(plan, &to, unix(chrono::Utc::now()), &registrations) => verifying,
        () = stops.next() => Err(RunError::Stopped),
    };
    let summary = match verifying {
        Ok(verifying) => {
            Ok(offer(plan, &to, records, (verifying, hdr_log), &admin, &mut stops, &mut rest).await)
        }
        Err(error) => Err(error),
    };
    // However the run ended.
    registrations.end().await;
    if summary.is_ok() {
        linger(&admin, plan.output.admin_linger, &mut stops).await;
    }
    admin.close().await;
    rest.tasks.shutdown().await;
    summary
}

/// Reaches where the loads go, and refuses what it cannot take. Nothing is offered yet.
async fn reach(plan: &Plan, stops: &mut impl Stops) -> Result<(Vec<Records>, Destinations), RunError> {
    let sources: Vec<Source> = plan.loads.iter().map(engines::source).collect::<Result<_, _>>()?;
    let (feeds, to) = tokio::select! {
        opened = open(plan, &sources) => opened?,
        () = stops.next() => return Err(RunError::Stopped),
    };
    if let Some(unpriced) = tariff(plan, &to).filter(|t| t.max_usd.is_some() && !t.is_known()) {
        let Tariff { region, fan_out, .. } = unpriced;
        let read = if fan_out { " read by fan-out" } else { "" };
        let missing = format!(
            "--max-cost: the price list has no price of such streams{read} in {region}; see --prices and \
             --price-region"
        );
        return Err(RunError::Plan(missing));
    }
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
async fn listen(plan: &Plan, search: bool, rest: &mut Rest) -> Result<Admin, RunError> {
    let admin = Admin::new(search);
    let Some(addr) = plan.output.admin_addr else { return Ok(admin) };
    let listener = TcpListener::bind(addr).await.map_err(|source| RunError::Admin { addr, source })?;
    let bound = listener.local_addr().unwrap_or(addr);
    if let Some(file) = plan.output.admin_token.as_ref().and_then(Token::exposed) {
        tracing::warn!(file = %file.display(), "every user of this machine can read the token: chmod 600");
    }
    let guard = Guard {
        token: plan.output.admin_token.clone(),
        hosts: plan.output.admin_hosts.clone(),
        loopback: bound.ip().is_loopback(),
    };
    tracing::info!(address = bound.to_string(), "admin server");
    rest.spawn(admin.serve(listener, guard, Limits::default()));
    Ok(admin)
}

/// Gives the admin server's readers time for what came of the run: the last scrape before its end lacks the rest.
async fn linger(admin: &Admin, most: Duration, stops: &mut impl Stops) {
    if most.is_zero() {
        return;
    }
    tracing::info!(most_s = most.as_secs_f64(), "ended; waiting for a last scrape");
    tokio::select! {
        () = admin.scraped() => {}
        () = tokio::time::sleep(most) => {}
        () = stops.next() => {}
    }
}

/// Tasks beside the producer; they end with the run.
#[derive(Default)]
struct Rest {
    tasks: JoinSet<()>,
    /// The config file, to be read again while the load is on.
    reload: Option<Reload>,
}

impl Rest {
    #[expect(clippy::disallowed_methods, reason = "tasks that end with the run")]
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

/// What the records of a load are, and what is read meanwhile if they are replayed.
type Records = (Source, Option<Replay>);

/// Offers the loads until they have ended, and sums up.
async fn offer(
    plan: &Plan,
    to: &Destinations,
    records: Vec<Records>,
    (verifying, hdr_log): (Verifying, HdrLogging),
    admin: &Admin,
    stops: impl Stops,
    rest: &mut Rest,
) -> Summary {
    let underway = begin(plan, to, records, verifying, admin, rest);
    let Underway { start, mut producer, observer, judge, proving, acked, start_unix, usage, .. } = underway;
    tell_loads(judge.facts(), to);
    hdr_log.begin(Duration::from_nanos(start_unix));
    rest.spawn(hdr_log.clone().keep(observer.clone()));
    let seconds = SecondKeeping::new(plan);
    rest.spawn(seconds.clone().keep(observer.clone()));
    let (end, ends) = ending::watch(plan, &judge, &observer, admin, rest);
    let steering = producer.steering();
    let seen = (observer.clone(), steering.clone());
    let mut showing = Showing::begin(plan, to, judge.facts(), seen, end, rest);
    let mut stops = showing.stops(stops);
    let mut drills = Drills::new(&plan.drills, to.loads[0].to.client(), &producer, start);
    let finished = drills.during(finish(&mut producer, &steering, &mut stops, ends)).await;
    // Before the rest of the proof is read, which is no part of the load.
    let judge = judge.with_processor_share(usage.share()).with_drills(drills.results(&observer.snapshot()));
    #[cfg(feature = "otlp")]
    if let Some(exporting) = underway.exporting {
        exporting.finish(&mut stops).await;
    }
    let mut error = finished.fatal.map(|error| error.to_string());
    let stopped_by = if error.is_some() { StoppedBy::Error } else { finished.stopped_by };
    let logged = hdr_log.end(&observer.loads());
    let verify = proving.result(&mut stops).await.unwrap_or_else(|unproved| {
        error.get_or_insert(unproved);
        None
    });
    showing.end();
    if let Err(problem) = logged {
        error.get_or_insert(problem);
    }
    let loads = observer.loads();
    let summary = judge.with_proof(judge.summary(&loads, stopped_by, error, finished.missed), verify);
    let manifest = manifest(plan, start_unix, &acked, &loads);
    Summary { manifest, seconds: seconds.end(&loads), ..summary }
}

/// Nanoseconds since 1970-01-01 UTC.
fn unix(time: chrono::DateTime<chrono::Utc>) -> Nanos {
    time.timestamp_nanos_opt().and_then(|n| Nanos::try_from(n).ok()).unwrap_or(0)
}
