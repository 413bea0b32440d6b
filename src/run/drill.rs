//! Drills: the run changes its own stream under load, and watches the load settle again.

mod settling;
mod target;

use crate::kinesis::{Change, Client, ShardMap, StreamError};
use crate::load::{Nanos, SECOND};
use crate::observe::DrillSummary;
use crate::plan::{Drill, DrillTask};
use crate::producer::{Observer, Producer, Snapshot, Steering};
use settling::{Moment, Settling, Usual};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use target::Heat;
use tokio::time::{Instant, sleep, sleep_until};

/// How often the counts are looked at; they are published five times a second.
const SAMPLE: Duration = Duration::from_millis(100);

/// How often the stream is asked whether it is active again: `DescribeStreamSummary` may be called 20
/// times a second.
const ASK: Duration = Duration::from_millis(200);

/// How often a change that the stream has no time for is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a change waits for a stream that others are changing.
const PATIENCE: Duration = Duration::from_mins(5);

/// Refuses what the stream's capacity mode does not have, before anything is sent.
pub(super) fn check(drills: &[Drill], on_demand: bool) -> Result<(), String> {
    for drill in drills {
        match (drill.task, on_demand) {
            (DrillTask::WarmThroughput(_), false) => {
                return Err(format!("--drill {drill}: only on-demand streams have a warm throughput"));
            }
            (DrillTask::WarmThroughput(_), true) | (_, false) => {}
            (_, true) => {
                return Err(format!(
                    "--drill {drill}: the stream is on-demand and chooses its shards itself; only \
                     warm-throughput can be changed"
                ));
            }
        }
    }
    Ok(())
}

/// The drills of a run, one after another by rising time.
pub(super) struct Drills {
    controls: Controls,
    drills: Vec<Underway>,
}

/// What a drill has its hands on.
struct Controls {
    client: Option<Client>,
    steering: Steering,
    observer: Observer,
    start: Instant,
    // What the stream last answered in place of doing what the present drill asked.
    trouble: Mutex<Option<String>>,
}

/// A drill and how far it has come.
struct Underway {
    drill: Drill,
    summary: DrillSummary,
    // The counts at its start, and when it was watched no longer.
    from: Option<Moment>,
    to: Option<Moment>,
}

impl Drills {
    /// The drills of a run that began at `start`.
    pub(super) fn new(
        drills: &[Drill],
        client: Option<&Client>,
        producer: &Producer,
        start: Instant,
    ) -> Self {
        let controls = Controls {
            client: client.cloned(),
            steering: producer.steering(),
            observer: producer.observer(),
            start,
            trouble: Mutex::default(),
        };
        let drills = drills.iter().map(|drill| Underway::new(drill.clone())).collect();
        Self { controls, drills }
    }

    /// Waits for the end of the run, and carries the drills out meanwhile.
    pub(super) async fn during<T>(&mut self, run: impl Future<Output = T>) -> T {
        tokio::select! {
            ended = run => ended,
            never = self.carry_out() => match never {},
        }
    }

    async fn carry_out(&mut self) -> Infallible {
        let times: Vec<Nanos> = self.drills.iter().map(|one| one.drill.at).collect();
        for (place, underway) in self.drills.iter_mut().enumerate() {
            // A drill is watched until the time of the next.
            let until = times.get(place + 1).copied().unwrap_or(Nanos::MAX);
            let (usual, heat) = self.controls.look(underway.drill.at).await;
            if usual.last().draining {
                break;
            }
            let started = self.controls.now();
            underway.from = Some(usual.last());
            underway.summary.started_s = Some(seconds(started));
            self.controls.note(None);
            match self.controls.change(&underway.drill, &heat, &mut underway.summary).await {
                Ok(changed) => {
                    underway.summary.changed_after_s = Some(seconds(changed - started));
                    let settling = Settling::new(usual, changed, self.controls.moment());
                    self.controls.watch(underway, settling, started, until).await;
                }
                Err(error) => {
                    tracing::error!(drill = %underway.drill, error, "the drill could not be done");
                    underway.summary.error = Some(error);
                    underway.to = Some(self.controls.moment());
                }
            }
        }
        std::future::pending().await
    }

    /// What became of the drills of a run that ended with this snapshot.
    pub(super) fn results(self, last: &Snapshot) -> Vec<DrillSummary> {
        let last = Moment::of(last);
        let trouble = self.controls.trouble.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.drills.into_iter().map(|underway| underway.result(last, trouble.as_deref())).collect()
    }
}

impl Underway {
    fn new(drill: Drill) -> Self {
        let (text, at_s) = (drill.to_string(), seconds(drill.at));
        let summary = DrillSummary { drill: text, at_s, ..DrillSummary::default() };
        Self { drill, summary, from: None, to: None }
    }

    /// `trouble`: what the stream last answered, if that was an error.
    fn result(self, last: Moment, trouble: Option<&str>) -> DrillSummary {
        let mut summary = self.summary;
        if let Some(from) = self.from {
            let to = self.to.unwrap_or(last);
            summary.throttled_entries = to.throttled - from.throttled;
            summary.misrouted = to.misrouted - from.misrouted;
        }
        if summary.changed_after_s.is_none() && summary.error.is_none() {
            summary.error = Some(match (self.from, trouble) {
                (None, _) => "the run ended before its time came".to_owned(),
                (Some(_), None) => "the run ended before the stream was active again".to_owned(),
                (Some(_), Some(trouble)) => {
                    format!("the run ended before the stream did it; its last answer: {trouble}")
                }
            });
        }
        summary
    }
}

impl Controls {
    /// The client; the plan refuses drills where there is no stream.
    fn client(&self) -> Result<&Client, String> {
        self.client.as_ref().ok_or_else(|| "there is no stream to change".to_owned())
    }

    /// The time of the run.
    fn now(&self) -> Nanos {
        Nanos::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn moment(&self) -> Moment {
        Moment::of(&self.observer.snapshot())
    }

    /// Looks at the load for the second before `at`, or for one from now if that has begun.
    async fn look(&self, at: Nanos) -> (Usual, Heat) {
        sleep_until(self.start + Duration::from_nanos(at - Drill::LOOK)).await;
        let end = self.now().saturating_add(Drill::LOOK);
        let first = self.observer.snapshot();
        let mut usual = Usual::new(Moment::of(&first));
        while self.now() < end {
            sleep(SAMPLE.min(Duration::from_nanos(end.saturating_sub(self.now())))).await;
            usual.see(self.moment());
        }
        (usual, Heat::between(&first, &self.observer.snapshot()))
    }

    /// Makes the change, and gives the engines the new shards as soon as the stream is active again.
    /// Tells when that was.
    async fn change(&self, drill: &Drill, heat: &Heat, summary: &mut DrillSummary) -> Result<Nanos, String> {
        let before = self.when_active().await?;
        summary.shards_before = Some(before.shards().len() as u64);
        let change = target::change(drill.task, &before, heat)?;
        tracing::info!(%drill, %change, "changing the stream");
        summary.change = Some(change.to_string());
        self.ask_for(change, &before).await?;
        let after = self.when_changed(change, &before).await?;
        summary.shards_after = Some(after.shards().len() as u64);
        for map in self.steering.maps() {
            // Whether the engine had it already does not matter.
            let _ = map.reshard(after.clone());
        }
        Ok(self.now())
    }

    /// The open shards, once nobody else is changing them.
    async fn when_active(&self) -> Result<ShardMap, String> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(map) = self.active_shards().await? {
                self.note(None);
                return Ok(map);
            }
            if Instant::now() >= give_up {
                return Err(format!("the stream was not active for {} s", PATIENCE.as_secs()));
            }
            sleep(ASK).await;
        }
    }

    /// Asks for a change until the stream begins it.
    async fn ask_for(&self, change: Change, before: &ShardMap) -> Result<(), String> {
        let give_up = Instant::now() + PATIENCE;
        while let Err(error) = self.client()?.change(change).await {
            if !error.transient || Instant::now() >= give_up {
                return Err(error.to_string());
            }
            tracing::warn!(%error, "asking again");
            self.note(Some(error.to_string()));
            sleep(ASK_AGAIN).await;
            // It may have begun, and only the answer be lost.
            if self.active_shards().await?.is_some_and(|after| target::shows(change, before, &after)) {
                break;
            }
        }
        self.note(None);
        Ok(())
    }

    /// The open shards, once the change has come about; the end of the run bounds the wait.
    async fn when_changed(&self, change: Change, before: &ShardMap) -> Result<ShardMap, String> {
        let shows = |after: &ShardMap| {
            matches!(change, Change::WarmThroughput(_)) || target::shows(change, before, after)
        };
        loop {
            if let Some(after) = self.active_shards().await?.filter(shows) {
                return Ok(after);
            }
            sleep(ASK).await;
        }
    }

    /// The open shards; `None` if the stream is not active, or cannot be asked at the moment.
    async fn active_shards(&self) -> Result<Option<ShardMap>, String> {
        let client = self.client()?;
        let asked = async {
            let info = client.describe().await?;
            if info.active { client.shard_map().await.map(Some) } else { Ok::<_, StreamError>(None) }
        };
        match asked.await {
            Ok(map) => Ok(map),
            Err(error) if error.is_transient() => {
                self.note(Some(error.to_string()));
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Watches the load until it has settled, the next drill's time comes, or the load ends.
    async fn watch(&self, underway: &mut Underway, mut settling: Settling, started: Nanos, until: Nanos) {
        loop {
            sleep(SAMPLE).await;
            let now = self.moment();
            if now.draining {
                return;
            }
            if let Some(settled) = settling.see(now) {
                let after = seconds(settled - started);
                tracing::info!(drill = %underway.drill, seconds = after, "the load has settled");
                underway.summary.settled_after_s = Some(after);
            }
            if underway.summary.settled_after_s.is_some() || self.now() >= until {
                underway.to = Some(now);
                return;
            }
        }
    }
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_must_fit_the_capacity_mode() {
        let check = |text: &str, on_demand| check(&[Drill::parse(text).unwrap()], on_demand);
        assert_eq!(check("at=1s merge", false), Ok(()));
        assert_eq!(check("at=1s warm-throughput=50", true), Ok(()));
        let error = check("at=1s warm-throughput=50", false).unwrap_err();
        assert_eq!(error, "--drill at=1s warm-throughput=50: only on-demand streams have a warm throughput");
        for text in ["at=1s split=hottest", "at=1s update-shard-count=5"] {
            assert!(check(text, true).unwrap_err().contains("chooses its shards itself"), "{text}");
        }
    }

    #[test]
    fn what_did_not_come_about_is_an_error() {
        let underway = Underway::new(Drill::parse("at=20s merge").unwrap());
        let result = underway.result(Moment::of(&Snapshot::empty()), None);
        assert_eq!(result.error.as_deref(), Some("the run ended before its time came"));
        assert_eq!((result.at_s, result.started_s, result.throttled_entries), (20.0, None, 0));
    }
}
