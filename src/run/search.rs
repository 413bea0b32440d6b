//! The search for the knee: one run after another, to one destination.

use super::ending::{Finished, finish};
use super::underway::begin;
use super::{Rest, RunError, Stops, linger, listen, reach};
use crate::admin::Admin;
use crate::kinesis::limits::SHARD_RECORDS_PER_SECOND;
use crate::load::{Nanos, Rate};
use crate::observe::{Judge, StoppedBy, ThresholdResult};
use crate::plan::{LoadPlan, Plan, SearchPlan};
use crate::producer::{Observer, Snapshot};
use crate::run::destination::{Destination, Destinations};
use crate::run::engines;
use crate::search::{Answer, HEADING, Knee, Next, Point, SearchFacts, SearchSummary, Verdict};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The pause between two points: Kinesis counts a shard's records by the second, and the second in which
/// the last of a point were sent must not count against the next.
const PAUSE: Duration = Duration::from_millis(1_100);

/// How often a point under way is looked at; its counts are published five times a second.
const LOOK: Duration = Duration::from_millis(200);

/// Finds the highest rate that holds the plan's objective.
///
/// # Errors
/// If it could not begin. A search that began always comes to a summary.
pub async fn search(plan: &SearchPlan, mut stops: impl Stops) -> Result<SearchSummary, RunError> {
    let mut rest = Rest::default();
    let highest = plan.point(plan.to, 0);
    let admin = listen(&highest, true, &mut rest).await?;
    let (_, to) = reach(&highest, &mut stops).await?;
    let quiet = highest.output.quiet;
    let mut searching =
        Searching { plan, facts: facts(plan, &to), to, admin, stops, quiet, points: Vec::new() };
    let ended = searching.search().await;
    linger(&searching.admin, highest.output.admin_linger, &mut searching.stops).await;
    searching.admin.close().await;
    rest.tasks.shutdown().await;
    let Searching { facts, points, .. } = searching;
    Ok(match ended {
        Ok(answer) => SearchSummary::answered(facts, answer, points),
        Err((verdict, error)) => SearchSummary::without_answer(facts, verdict, error, points),
    })
}

fn facts(plan: &SearchPlan, to: &Destinations) -> SearchFacts {
    let seconds = |nanos: Nanos| nanos as f64 / 1e9;
    let first = plan.point(plan.from, 0);
    SearchFacts {
        started_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        stream: to.loads.first().map(|to| to.stream.as_str().to_owned()).unwrap_or_default(),
        seed: first.loads.first().map_or(0, |load| load.seed),
        objective: plan.objective.iter().map(|condition| condition.text().to_owned()).collect(),
        from_rps: plan.from.per_second(),
        to_rps: plan.to.per_second(),
        precision: plan.precision,
        step_s: seconds(plan.step),
        warmup_s: seconds(plan.warmup),
        capacity_rps: to.loads.first().and_then(|to| capacity_rps(&first.loads, to)),
    }
}

/// The records per second that a provisioned stream takes, where each is a Kinesis record of its own.
fn capacity_rps(loads: &[LoadPlan], to: &Destination) -> Option<f64> {
    let known = !to.info.on_demand && loads.iter().all(|load| load.aggregate_bytes.is_none());
    known.then(|| f64::from(SHARD_RECORDS_PER_SECOND) * to.map.shards().len() as f64)
}

/// A search under way.
struct Searching<'a, S> {
    plan: &'a SearchPlan,
    facts: SearchFacts,
    to: Destinations,
    admin: Admin,
    stops: S,
    quiet: bool,
    points: Vec<Point>,
}

/// Why a search came to no answer, and the error, if one was why.
type Broken = (Verdict, Option<String>);

impl<S: Stops> Searching<'_, S> {
    async fn search(&mut self) -> Result<Answer, Broken> {
        let mut knee = Knee::new(self.plan.from, self.plan.to, self.plan.precision);
        self.tell(HEADING);
        loop {
            let rate = match knee.next() {
                Next::Answer(answer) => return Ok(answer),
                Next::Try(rate) => rate,
            };
            if !self.points.is_empty() {
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = self.stops.next() => return Err((Verdict::Stopped, None)),
                }
            }
            let point = self.point(rate).await?;
            self.tell(&point.to_string());
            knee.take(rate, point.held);
            self.points.push(point);
        }
    }

    /// A line to stderr; a stderr that is gone is not the search's concern.
    fn tell(&self, line: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Offers a rate, until its time is over or it is past hope.
    async fn point(&mut self, rate: Rate) -> Result<Point, Broken> {
        let failed = |error: String| (Verdict::Failed, Some(error));
        let plan = self.plan.point(rate, self.points.len() as u64);
        let records = plan.loads.iter().map(|load| Ok((engines::source(load)?, None)));
        let records =
            records.collect::<Result<_, _>>().map_err(|error: RunError| failed(error.to_string()))?;
        let mut rest = Rest::default();
        let mut underway =
            begin(&plan, &self.to, records, super::verify::Verifying::nothing(), &self.admin, &mut rest);
        let steering = underway.producer.steering();
        // No threshold ends a point.
        let (_keep, never) = mpsc::channel(1);
        let early = tokio::select! {
            finished = finish(&mut underway.producer, &steering, &mut self.stops, never) => Err(finished),
            seen = past_hope(&plan, &underway.judge, &underway.observer) => Ok(seen),
        };
        let judge = underway.judge.clone().with_processor_share(underway.usage.share());
        let point = match early {
            Err(Finished { fatal: Some(error), .. }) => return Err(failed(error.to_string())),
            Err(Finished { stopped_by: StoppedBy::Signal, .. }) => return Err((Verdict::Stopped, None)),
            Err(_) => {
                let seen = underway.observer.loads();
                Point::new(rate, &judge.summary(&seen, StoppedBy::Schedule, None, None), None)
            }
            Ok(PastHope { seen, at_best }) => {
                steering.abandon();
                if let Some(error) = underway.producer.finished().await.fatal {
                    return Err(failed(error.to_string()));
                }
                Point::new(rate, &judge.summary(&seen, StoppedBy::Threshold, None, None), Some(at_best))
            }
        };
        #[cfg(feature = "otlp")]
        if let Some(exporting) = underway.exporting {
            exporting.finish(&mut self.stops).await;
        }
        rest.tasks.shutdown().await;
        if !underway.observer.snapshot().balances() {
            return Err(failed(format!("at {rate}/s the counts do not add up; please report this as a bug")));
        }
        Ok(point)
    }
}

/// A point under way of which nothing that can still come would hold the objective.
struct PastHope {
    /// What was seen of it.
    seen: Vec<Arc<Snapshot>>,
    /// How the objective would be at best.
    at_best: Vec<ThresholdResult>,
}

/// Waits until a point is past hope.
async fn past_hope(plan: &Plan, judge: &Judge, observer: &Observer) -> PastHope {
    loop {
        sleep(LOOK).await;
        let seen = observer.loads();
        let at_best = |(load, seen): (&LoadPlan, &Arc<Snapshot>)| {
            let span = load.duration.unwrap_or(Nanos::MAX);
            let due = load.schedule().map_or(0, |schedule| schedule.course().due(span));
            Arc::new(seen.at_best(due, span))
        };
        let at_best: Vec<_> = plan.loads.iter().zip(&seen).map(at_best).collect();
        if judge.missed(&at_best).is_some() {
            let at_best = judge.summary(&at_best, StoppedBy::Threshold, None, None).thresholds;
            return PastHope { seen, at_best };
        }
    }
}
