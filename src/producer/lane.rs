//! The engine in time: one task that wakes it, sends its requests and brings the answers back.

use super::alarm::Alarm;
use super::encode::Encoders;
use super::engine::{Engine, Request};
use super::reasons::Reasons;
use super::steering::{Control, Phase};
use super::{Ending, Snapshot};
use crate::kinesis::{Answer, BodyHash, PutRecords};
use crate::load::{MILLISECOND, Nanos};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often a snapshot is published.
const PUBLISH: Nanos = 200 * MILLISECOND;

/// A lane wakes by itself once in each of these.
const TURN: Nanos = MILLISECOND;

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
    /// What lanes told of why requests failed.
    pub reasons: Arc<Reasons>,
    /// How long the drain may take.
    pub drain_timeout: Nanos,
}

struct Lane<S> {
    engine: Engine,
    sender: S,
    start: Instant,
    sends: JoinSet<Option<(Request, Answer)>>,
    encoders: Arc<Encoders>,
    wiring: Wiring,
    map_version: u64,
    offers: u64,
    limitings: u64,
    orders: u64,
    phase: Phase,
    drain_ends: Option<Nanos>,
    next_publish: Nanos,
    alarm: Alarm,
    // When the engine was last asked for requests.
    polled: Nanos,
}

/// Runs an engine to its end: until every record is settled, or the drain has taken too long.
pub(super) async fn run<S: PutRecords>(engine: Engine, sender: S, start: Instant, wiring: Wiring) -> Ending {
    let encoders = Arc::new(Encoders::new(engine.encoder()));
    let mut lane = Lane {
        engine,
        encoders,
        sender,
        start,
        sends: JoinSet::new(),
        wiring,
        map_version: 0,
        offers: 0,
        limitings: 0,
        orders: 0,
        phase: Phase::Run,
        drain_ends: None,
        next_publish: 0,
        alarm: Alarm::new(),
        polled: 0,
    };
    while lane.step().await {}
    let now = lane.now();
    lane.engine.finish(now);
    lane.wiring.freed.notify_waiters();
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
        self.polled = now;
        while let Some(request) = self.engine.poll(now) {
            let second = if S::SIGNED { self.engine.poll(now) } else { None };
            self.send(request, second);
        }
        if self.engine.others_wait() {
            // It may be their turn now.
            self.wiring.freed.notify_waiters();
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
        self.steer(&control, now);
        if control.phase != self.phase {
            self.phase = control.phase;
            self.next_publish = now;
        }
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

    fn steer(&mut self, control: &Control, now: Nanos) {
        if control.orders == self.orders {
            return;
        }
        self.orders = control.orders;
        if let Some(offered) = control.offered.as_ref().filter(|_| control.offers != self.offers) {
            self.offers = control.offers;
            self.engine.offer(offered, now);
        }
        if control.limitings != self.limitings {
            self.limitings = control.limitings;
            self.engine.set_limits(control.limits.clone());
        }
        if control.paused {
            self.engine.pause(now);
        } else {
            self.engine.resume(now);
        }
        // Who gave the order waits for its effect.
        self.next_publish = now;
    }

    /// Writes one or two requests and sends them, beside the engine. Two are written together as their
    /// bodies are hashed in the time of one.
    #[expect(clippy::disallowed_methods, reason = "an attempt is a task, so that answers come in any order")]
    fn send(&mut self, first: Request, second: Option<Request>) {
        let attempt =
            Attempt { sender: self.sender.clone(), encoders: Arc::clone(&self.encoders), start: self.start };
        let Some(second) = second else {
            self.sends.spawn(async move {
                let body = attempt.encoders.encode(&first);
                Some(attempt.send(first, body, None).await)
            });
            return;
        };
        let (written, second_written) = oneshot::channel();
        let second_attempt = attempt.clone();
        self.sends.spawn(async move {
            let (body, second_body) = (attempt.encoders.encode(&first), attempt.encoders.encode(&second));
            let [hash, second_hash] = BodyHash::of_two([&body, &second_body]);
            // Its task is aborted only together with this one.
            let _ = written.send((second, second_body, second_hash));
            Some(attempt.send(first, body, Some(hash)).await)
        });
        self.sends.spawn(async move {
            let (request, body, hash) = second_written.await.ok()?;
            Some(second_attempt.send(request, body, Some(hash)).await)
        });
    }

    async fn wait(&mut self, freed: tokio::sync::futures::Notified<'_>) {
        let mut wake = self.next_publish;
        wake = wake.min(self.engine.next_wake().unwrap_or(wake));
        wake = wake.min(self.drain_ends.unwrap_or(wake));
        // What falls due within a millisecond is made together.
        wake = wake.max((self.polled / TURN + 1) * TURN);
        let wake = self.start + Duration::from_nanos(wake);
        tokio::select! {
            Some(sent) = self.sends.join_next(), if !self.sends.is_empty() => self.settle(sent),
            // The sender of control lives as long as the run; if it were gone, sleeping is right.
            Ok(()) = self.wiring.control.changed() => {}
            () = freed, if self.engine.waits_for_room() => {}
            () = self.alarm.at(wake) => {}
        }
        while let Some(sent) = self.sends.try_join_next() {
            self.settle(sent);
        }
    }

    fn settle(&mut self, sent: Result<Option<(Request, Answer)>, tokio::task::JoinError>) {
        // A task that was aborted belongs to a drain that ended; its records are settled.
        if let Ok(Some((request, answer))) = sent
            && !self.engine.is_done()
        {
            let now = self.now();
            let failed = self.engine.settle(request, answer, now);
            if let Some(error) = failed.filter(|error| self.wiring.reasons.is_news(error, now)) {
                tracing::warn!(kind = error.kind.name(), %error, "a request failed");
            }
            self.wiring.freed.notify_waiters();
            if self.engine.take_map_is_stale() {
                self.wiring.stale.notify_one();
            }
        }
    }

    fn publish(&mut self) {
        let now = self.now();
        self.next_publish = now + PUBLISH;
        let snapshot = Snapshot { orders: self.orders, ..self.engine.snapshot(now) };
        self.wiring.snapshots.send_replace(Arc::new(snapshot));
    }
}

/// What an attempt at a request needs.
#[derive(Clone)]
struct Attempt<S> {
    sender: S,
    encoders: Arc<Encoders>,
    start: Instant,
}

impl<S: PutRecords> Attempt<S> {
    async fn send(self, mut request: Request, body: Bytes, hash: Option<BodyHash>) -> (Request, Answer) {
        request.sent = nanos(self.start.elapsed());
        let answer = self.sender.put_records(body.clone(), hash).await;
        self.encoders.reuse(body);
        (request, answer)
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
