//! What ends a run: its schedule, a signal, an error, a threshold, or the application that it is for.

use super::{Rest, application};
use crate::admin::Admin;
use crate::cost::Tariff;
use crate::load::{MILLISECOND, Nanos, SECOND};
use crate::observe::{Judge, StoppedBy, ThresholdResult};
use crate::plan::Plan;
use crate::producer::{Observer, Producer, Steering};
use crate::run::Stops;
use std::time::Duration;
use tokio::sync::mpsc;

/// Watches for what may end the run before its schedule: an order, the cost, a threshold, the application. Each
/// tells it once; others may tell it by the sender that is returned.
pub(super) fn watch(
    plan: &Plan,
    judge: &Judge,
    observer: &Observer,
    admin: &Admin,
    rest: &mut Rest,
) -> (mpsc::Sender<End>, mpsc::Receiver<End>) {
    // Whoever finds it full or closed comes after another reason.
    let (end, ends) = mpsc::channel(4);
    let (asked, told) = (admin.clone(), end.clone());
    rest.spawn(async move {
        asked.drain().await;
        let _ = told.send(End::Told).await;
    });
    let tariff = judge.facts().about.tariff.clone();
    if let Some((tariff, max_usd)) = tariff.and_then(|tariff| tariff.max_usd.map(|max| (tariff, max))) {
        rest.spawn(watch_cost(tariff, max_usd, observer.clone(), end.clone()));
    }
    if let Some(after) = plan.output.abort_after {
        rest.spawn(watch_thresholds(judge.clone(), after, observer.clone(), end.clone()));
    }
    if let Some(application) = plan.application.clone().filter(|application| application.stop_when_gone) {
        let gone = end.clone();
        rest.spawn(async move {
            application::gone(application.ready).await;
            let _ = gone.send(End::Gone).await;
        });
    }
    (end, ends)
}

/// Looks at the thresholds every second, once they were measured for `after`; the first that is missed is
/// told to `end`.
async fn watch_thresholds(judge: Judge, after: Nanos, observer: Observer, end: mpsc::Sender<End>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let loads = observer.loads();
        if loads.iter().all(|load| load.draining) {
            return;
        }
        let measured = loads.iter().map(|load| load.measured_span()).max();
        if measured.is_some_and(|span| span >= after.max(SECOND))
            && let Some(threshold) = judge.missed(&loads)
        {
            tracing::warn!(threshold = threshold.expr, value = threshold.value, "missed; ending the run");
            let _ = end.send(End::Missed(threshold)).await;
            return;
        }
    }
}

/// How often the cost is looked at; the counts that it follows from are published five times a second.
const COST_LOOK: Duration = Duration::from_millis(100);

/// What may come before the next look has had its effect.
const COST_AHEAD: Nanos = 500 * MILLISECOND;

/// Waits until anything more than what is on its way would pass the budget.
async fn watch_cost(tariff: Tariff, max_usd: f64, observer: Observer, end: mpsc::Sender<End>) {
    loop {
        let now = observer.snapshot();
        if now.draining {
            return;
        }
        if tariff.committed_usd(&now, COST_AHEAD).is_some_and(|usd| usd > max_usd) {
            tracing::warn!(
                max_usd,
                usd = tariff.cost(&now).usd,
                "more records would pass --max-cost; draining"
            );
            let _ = end.send(End::Cost).await;
            return;
        }
        tokio::time::sleep(COST_LOOK).await;
    }
}

pub(super) struct Finished {
    pub(super) fatal: Option<crate::kinesis::RequestError>,
    pub(super) stopped_by: StoppedBy,
    pub(super) missed: Option<ThresholdResult>,
}

/// Why a run ends before its schedule, but for signals and errors.
pub(super) enum End {
    Missed(ThresholdResult),
    Gone,
    Told,
    /// The terminal of a live view is gone.
    HungUp,
    Cost,
}

/// Waits for the end of the run. The first request to stop drains it, the second ends it; it is drained,
/// too, by the first reason that comes through `ends`.
pub(super) async fn finish(
    producer: &mut Producer,
    steering: &Steering,
    stops: &mut impl Stops,
    mut ends: mpsc::Receiver<End>,
) -> Finished {
    let mut stopped_by = StoppedBy::Schedule;
    let (mut signalled, mut missed) = (false, None);
    loop {
        tokio::select! {
            ending = producer.finished() => {
                return Finished { fatal: ending.fatal, stopped_by, missed };
            }
            () = stops.next() => {
                if signalled {
                    tracing::warn!("ending at once; what is not settled counts as failed");
                    steering.abandon();
                } else {
                    tracing::info!("draining; a second signal ends at once");
                    (signalled, stopped_by) = (true, StoppedBy::Signal);
                    steering.drain();
                }
            }
            Some(end) = ends.recv() => {
                // The first reason counts: what comes while the run drains changes nothing.
                if stopped_by == StoppedBy::Schedule {
                    (stopped_by, missed) = match end {
                        End::Missed(threshold) => (StoppedBy::Threshold, Some(threshold)),
                        End::Gone => (StoppedBy::Gone, None),
                        End::Told => (StoppedBy::Told, None),
                        // The signal that it mostly comes with may come later.
                        End::HungUp => (StoppedBy::Signal, None),
                        End::Cost => (StoppedBy::Cost, None),
                    };
                }
                steering.drain();
            }
        }
    }
}
