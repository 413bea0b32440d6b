//! What ends a run: its schedule, a signal, an error, a threshold, or the application that it is for.

use crate::load::{Nanos, SECOND};
use crate::observe::{Judge, StoppedBy, ThresholdResult};
use crate::producer::{Observer, Producer, Steering};
use crate::run::Stops;
use std::time::Duration;
use tokio::sync::mpsc;

/// Looks at the thresholds every second, once they were measured for `after`; the first that is missed is
/// told to `end`.
pub(super) async fn watch_thresholds(judge: Judge, after: Nanos, observer: Observer, end: mpsc::Sender<End>) {
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

pub(super) struct Finished {
    pub(super) fatal: Option<crate::kinesis::RequestError>,
    pub(super) stopped_by: StoppedBy,
    pub(super) missed: Option<ThresholdResult>,
}

/// Why a run ends before its schedule, but for signals and errors.
pub(super) enum End {
    Missed(ThresholdResult),
    Gone,
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
                    };
                }
                steering.drain();
            }
        }
    }
}
