//! The engine in time: one task that wakes it, sends its requests and brings the answers back.

use super::engine::{Engine, Request};
use super::{Control, Ending, Phase, Snapshot};
use crate::kinesis::{Answer, PutRecords};
use crate::load::{MILLISECOND, Nanos};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often a snapshot is published.
const PUBLISH: Nanos = 200 * MILLISECOND;

/// The connections of a lane to the rest of the program.
#[derive(Debug)]
pub(super) struct Wiring {
    /// What the lane is told.
    pub control: watch::Receiver<Control>,
    /// Where its snapshots go.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Where it asks for a new shard map.
    pub stale: Arc<tokio::sync::Notify>,
    /// Where lanes tell each other that there is room in flight again.
    pub freed: Arc<tokio::sync::Notify>,
    /// How long the drain may take.
    pub drain_timeout: Nanos,
}

struct Lane<S> {
    engine: Engine,
    sender: S,
    start: Instant,
    sends: JoinSet<(Request, Answer)>,
    wiring: Wiring,
    map_version: u64,
    drain_ends: Option<Nanos>,
    next_publish: Nanos,
}

/// Runs an engine to its end: until every record is settled, or the drain has taken too long.
pub(super) async fn run<S: PutRecords>(engine: Engine, sender: S, start: Instant, wiring: Wiring) -> Ending {
    let mut lane = Lane {
        engine,
        sender,
        start,
        sends: JoinSet::new(),
        wiring,
        map_version: 0,
        drain_ends: None,
        next_publish: 0,
    };
    while lane.step().await {}
    let now = lane.now();
    lane.engine.finish(now);
    lane.publish();
    Ending { fatal: lane.engine.fatal().cloned() }
}

impl<S: PutRecords> Lane<S> {
    fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }

    /// One turn: obey, send what is due, wait for what comes next. Tells whether to go on.
    async fn step(&mut self) -> bool {
        let freed = Arc::clone(&self.wiring.freed);
        // Made before the engine looks for room, so that none is freed unheard in between.
        let freed = freed.notified();
        self.obey();
        let now = self.now();
        while let Some(request) = self.engine.poll(now) {
            self.send(request);
        }
        if self.engine.is_draining() && self.drain_ends.is_none() {
            self.drain_ends = Some(now.saturating_add(self.wiring.drain_timeout));
        }
        if self.drain_ends.is_some_and(|end| now >= end) {
            // What is in the air may still arrive; its records count as unanswered.
            self.engine.abandon(now);
            self.sends.abort_all();
        }
        if self.engine.is_done() {
            return false;
        }
        if now >= self.next_publish {
            self.publish();
        }
        self.wait(freed).await;
        true
    }

    fn obey(&mut self) {
        let control = self.wiring.control.borrow_and_update().clone();
        let now = self.now();
        match control.phase {
            Phase::Run => {}
            Phase::Drain => self.engine.stop(now),
            Phase::Abandon => {
                self.engine.abandon(now);
                self.sends.abort_all();
            }
        }
        if control.map_version != self.map_version {
            self.map_version = control.map_version;
            self.engine.reshard(control.map, now);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "an attempt is a task, so that answers come in any order")]
    fn send(&mut self, request: Request) {
        let sender = self.sender.clone();
        self.sends.spawn(async move {
            let answer = sender.put_records(request.body.clone()).await;
            (request, answer)
        });
    }

    async fn wait(&mut self, freed: tokio::sync::futures::Notified<'_>) {
        let mut wake = self.next_publish;
        wake = wake.min(self.engine.next_wake().unwrap_or(wake));
        wake = wake.min(self.drain_ends.unwrap_or(wake));
        let wake = self.start + Duration::from_nanos(wake);
        tokio::select! {
            Some(sent) = self.sends.join_next(), if !self.sends.is_empty() => self.settle(sent),
            // The sender of control lives as long as the run; if it were gone, sleeping is right.
            Ok(()) = self.wiring.control.changed() => {}
            () = freed, if self.engine.waits_for_room() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        while let Some(sent) = self.sends.try_join_next() {
            self.settle(sent);
        }
    }

    fn settle(&mut self, sent: Result<(Request, Answer), tokio::task::JoinError>) {
        // A task that was aborted belongs to a drain that ended; its records are settled.
        if let Ok((request, answer)) = sent
            && !self.engine.is_done()
        {
            self.engine.settle(request, answer, self.now());
            self.wiring.freed.notify_waiters();
            if self.engine.take_map_is_stale() {
                self.wiring.stale.notify_one();
            }
        }
    }

    fn publish(&mut self) {
        let now = self.now();
        self.next_publish = now + PUBLISH;
        self.wiring.snapshots.send_replace(Arc::new(self.engine.snapshot(now)));
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
