//! How: from the schedule to settled records.
//!
//! The way of a record, a file a step: [`Pacer`] hands out its number and intended start,
//! [`Backlog`] keeps it until its shard's [`ShardLimit`] admits it (packed into an [`aggregate`] with
//! others if asked), [`Batch`] gathers entries, `encode` writes the request, `lane` sends it, `settle`
//! reads the answer into the [`Ledger`], and [`RetryPolicy`] says whether a failed record goes back.
//! [`Engine`] alone knows that order. Everything but `lane` and its `alarm` is pure: the time is passed in.

mod account;
pub mod aggregate;
mod alarm;
mod backlog;
mod batch;
mod encode;
mod engine;
mod heat;
mod hot_keys;
mod lane;
mod ledger;
mod lines;
mod measures;
mod pacer;
mod packing;
mod pieces;
mod reasons;
mod record;
mod retry;
mod room;
mod shard_limit;
mod snapshot;
mod steered;
mod steering;
mod tally;
mod windows;
mod witness;

pub use account::{Account, EntryOutcome, Holdup, RequestOutcome, ShardAccount};
pub use aggregate::AggregateSize;
pub use backlog::{Backlog, Taken};
pub use batch::{Batch, BatchBounds, Entry, FlushReason, SealedBatch};
pub use encode::{Encoder, Wire};
pub use engine::{Engine, EngineConfig, Request};
pub use hot_keys::HotKeys;
pub use ledger::{Cause, Ledger};
pub(crate) use measures::histogram;
pub use measures::{Billed, Counts, Durations};
pub use pacer::{Pace, Pacer};
pub use packing::Packing;
pub use record::Record;
pub use retry::{RetryPolicy, RetryQueue, Verdict};
pub use room::{Bounds, Room};
pub use shard_limit::{Adapts, Limits, ShardLimit, ShardLimiting, ShardQuota, SharedLimits};
pub use snapshot::Snapshot;
pub use steered::{Offered, SteerAction, Steered};
pub use steering::{MapSteering, SteerError, Steering};
pub use windows::{ShardWindow, Window, Windows};
pub use witness::Witness;

use crate::kinesis::{PutRecords, RequestError};
use crate::load::Nanos;
use reasons::Reasons;
use std::sync::Arc;
use steering::Control;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A running producer: an engine for each load, each in a task of its own.
#[derive(Debug)]
pub struct Producer {
    steering: Steering,
    lanes: JoinSet<Ending>,
    observer: Observer,
    ending: Ending,
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// The error that no retry mends, if one ended it.
    pub fatal: Option<RequestError>,
}

/// Reads the snapshots of a running producer.
#[derive(Clone, Debug)]
pub struct Observer(Vec<watch::Receiver<Arc<Snapshot>>>);

impl Observer {
    /// The latest snapshot of each load, at most a fifth of a second old.
    #[must_use]
    pub fn loads(&self) -> Vec<Arc<Snapshot>> {
        self.0.iter().map(|lane| lane.borrow().clone()).collect()
    }

    /// The sum of the latest snapshots.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::sum(self.loads().iter().map(Arc::as_ref))
    }
}

impl Producer {
    /// Starts an engine for each load, with what sends its requests; they share the run that began at
    /// `start`. When one ends by an error, all end.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the lanes are the tasks of the producer")]
    pub fn start<S: PutRecords>(loads: Vec<(EngineConfig, S)>, start: Instant, drain_timeout: Nanos) -> Self {
        let (freed, reasons) = (Arc::new(Notify::new()), Arc::new(Reasons::default()));
        let mut steering = Steering::default();
        let mut lanes = JoinSet::new();
        let mut snapshots = Vec::new();
        for (config, sender) in loads {
            let (control, orders) = watch::channel(Control::new(config.map.clone()));
            let (publisher, snapshot) = watch::channel(Arc::new(Snapshot::empty()));
            let stale = Arc::new(Notify::new());
            snapshots.push(snapshot.clone());
            let replayed = matches!(config.pace, Pace::Arriving);
            steering.add(MapSteering { control, stale: Arc::clone(&stale) }, snapshot, replayed);
            let wiring = lane::Wiring {
                control: orders,
                snapshots: publisher,
                stale,
                freed: Arc::clone(&freed),
                reasons: Arc::clone(&reasons),
                drain_timeout,
            };
            lanes.spawn(lane::run(Engine::new(config), sender, start, wiring));
        }
        Self { steering, lanes, observer: Observer(snapshots), ending: Ending::default() }
    }

    /// A reader of what is counted.
    #[must_use]
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// A handle that steers the producer.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// Waits until every engine has ended. It may be dropped and called again.
    pub async fn finished(&mut self) -> Ending {
        while let Some(lane) = self.lanes.join_next().await {
            match lane {
                Ok(Ending { fatal: Some(error) }) => {
                    self.ending.fatal.get_or_insert(error);
                    self.steering.drain();
                }
                Ok(Ending { fatal: None }) => {}
                Err(error) => tracing::error!(%error, "an engine broke off"),
            }
        }
        self.ending.clone()
    }
}
