//! How: from the schedule to settled records.
//!
//! The way of a record, a file a step: [`Pacer`] hands out its number and intended start,
//! [`Backlog`] keeps it until its shard's [`ShardLimit`] admits it (packed into an [`aggregate`] with
//! others if asked), [`Batch`] gathers entries, `encode` writes the request, `lane` sends it, `settle`
//! reads the answer into the [`Ledger`], and [`RetryPolicy`] says whether a failed record goes back.
//! [`Engine`] alone knows that order. Everything but `lane` is pure: the time is passed in.

mod account;
pub mod aggregate;
mod backlog;
mod batch;
mod encode;
mod engine;
mod lane;
mod ledger;
mod pacer;
mod record;
mod retry;
mod shard_limit;
mod snapshot;

pub use account::{Account, Counts, Durations, EntryOutcome, RequestOutcome, ShardAccount};
pub use aggregate::AggregateSize;
pub use backlog::{Backlog, Packing, Taken};
pub use batch::{Batch, BatchBounds, Entry, FlushReason, SealedBatch};
pub use encode::Encoder;
pub use engine::{Bounds, Engine, EngineConfig, Request};
pub use ledger::{Cause, Ledger};
pub use pacer::{Pace, Pacer};
pub use record::Record;
pub use retry::{RetryPolicy, RetryQueue, Verdict};
pub use shard_limit::{Adapts, ShardLimit, ShardLimiting, ShardQuota};
pub use snapshot::Snapshot;

use crate::kinesis::{PutRecords, RequestError, ShardMap};
use crate::load::Nanos;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A running producer: one or more engines, each in a task of its own.
#[derive(Debug)]
pub struct Producer {
    control: watch::Sender<Control>,
    lanes: JoinSet<Ending>,
    snapshots: Vec<watch::Receiver<Arc<Snapshot>>>,
    stale: Arc<Notify>,
}

/// What the lanes are told.
#[derive(Clone, Debug)]
struct Control {
    phase: Phase,
    map: ShardMap,
    map_version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Run,
    Drain,
    Abandon,
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
    /// The sum of all engines' latest snapshots, at most a fifth of a second old.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::empty();
        for lane in &self.0 {
            sum.merge(&lane.borrow());
        }
        sum
    }
}

impl Producer {
    /// Starts an engine for each configuration; they share the run that began at `start`.
    ///
    /// # Panics
    /// Outside a Tokio runtime, or without a configuration.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the lanes are the tasks of the producer")]
    pub fn start<S: PutRecords>(
        configs: Vec<EngineConfig>,
        sender: &S,
        start: Instant,
        drain_timeout: Nanos,
    ) -> Self {
        let map = configs[0].map.clone();
        let (control, _) = watch::channel(Control { phase: Phase::Run, map, map_version: 0 });
        let stale = Arc::new(Notify::new());
        let mut lanes = JoinSet::new();
        let mut snapshots = Vec::new();
        for config in configs {
            let (publisher, snapshot) = watch::channel(Arc::new(Snapshot::empty()));
            snapshots.push(snapshot);
            let wiring = lane::Wiring {
                control: control.subscribe(),
                snapshots: publisher,
                stale: Arc::clone(&stale),
                drain_timeout,
            };
            lanes.spawn(lane::run(Engine::new(config), sender.clone(), start, wiring));
        }
        Self { control, lanes, snapshots, stale }
    }

    /// A reader of what is counted.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(self.snapshots.clone())
    }

    /// A handle that steers the producer.
    #[must_use]
    pub fn steering(&self) -> Steering {
        Steering { control: self.control.clone(), stale: Arc::clone(&self.stale) }
    }

    /// Waits until every engine has ended.
    pub async fn finished(&mut self) -> Ending {
        let mut ending = Ending::default();
        while let Some(lane) = self.lanes.join_next().await {
            match lane {
                Ok(one) => ending.fatal = ending.fatal.or(one.fatal),
                Err(error) => tracing::error!(%error, "an engine broke off"),
            }
        }
        ending
    }
}

/// Steers a running producer.
#[derive(Clone, Debug)]
pub struct Steering {
    control: watch::Sender<Control>,
    stale: Arc<Notify>,
}

impl Steering {
    /// Ends generating and settles what is on its way, within the drain timeout.
    pub fn drain(&self) {
        self.enter(Phase::Drain);
    }

    /// Ends at once: what is not settled counts as failed.
    pub fn abandon(&self) {
        self.enter(Phase::Abandon);
    }

    fn enter(&self, phase: Phase) {
        self.control.send_modify(|control| control.phase = control.phase.max(phase));
    }

    /// Gives the engines a new shard map, if it differs from theirs. Tells whether it did.
    #[must_use]
    pub fn reshard(&self, map: ShardMap) -> bool {
        self.control.send_if_modified(|control| {
            let changed = control.map != map;
            if changed {
                control.map = map;
                control.map_version += 1;
            }
            changed
        })
    }

    /// Waits until an engine saw that its shard map is out of date.
    pub async fn map_is_stale(&self) {
        self.stale.notified().await;
    }
}
