//! The seconds of a run, for its report.

use crate::observe::{SecondCutter, Seconds};
use crate::plan::Plan;
use crate::producer::{Observer, Snapshot};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Cuts a run into seconds, if it is to have a report.
#[derive(Clone)]
pub(super) struct SecondKeeping(Option<Arc<Mutex<SecondCutter>>>);

impl SecondKeeping {
    pub(super) fn new(plan: &Plan) -> Self {
        Self(plan.output.report.as_ref().map(|_| Arc::default()))
    }

    /// Adds a second again and again.
    pub(super) async fn keep(self, observer: Observer) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        seconds.tick().await;
        while self.0.is_some() {
            seconds.tick().await;
            self.with(|cutter| cutter.cut(&observer.loads()));
        }
    }

    /// Adds what came since; gives all.
    pub(super) fn end(&self, loads: &[Arc<Snapshot>]) -> Seconds {
        self.with(|cutter| {
            cutter.cut(loads);
            cutter.take()
        })
        .unwrap_or_default()
    }

    fn with<T>(&self, does: impl FnOnce(&mut SecondCutter) -> T) -> Option<T> {
        let cutter = self.0.as_ref()?;
        Some(does(&mut cutter.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
