//! From a plan and where its loads go to loads that are being offered.

use super::destination::{Destinations, Sink};
use super::engines::Limited;
#[cfg(feature = "otlp")]
use super::exporting;
use super::facts::{Usage, facts, gauges};
use super::reload::Applies;
use super::verify::{Proving, Verifying};
use super::{Records, Rest, engines, reload, unix};
use crate::admin::{self, Admin};
use crate::kinesis::Client;
use crate::load::Nanos;
#[cfg(feature = "native-histograms")]
use crate::observe::{Families, Protobuf};
use crate::observe::{Judge, Metrics};
use crate::plan::Plan;
use crate::producer::{EngineConfig, MapSteering, Observer, Producer, Room, ShardLimiting, Witness};
use crate::tick::{Source, StampPlace};
use crate::verify::{AckBook, Noting};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the shard map is refreshed without cause.
const MAP_INTERVAL: Duration = Duration::from_mins(1);

/// The shortest time between two refreshes.
const MAP_PAUSE: Duration = Duration::from_millis(200);

/// Loads that are being offered.
pub(super) struct Underway {
    pub(super) start: Instant,
    pub(super) start_unix: Nanos,
    pub(super) producer: Producer,
    pub(super) observer: Observer,
    pub(super) judge: Judge,
    pub(super) proving: Proving,
    pub(super) acked: Vec<AckBook>,
    pub(super) usage: Usage,
    #[cfg(feature = "otlp")]
    pub(super) exporting: Option<exporting::Exporting>,
}

/// Starts to offer the loads. What runs beside the producer is left in `rest`.
pub(super) fn begin(
    plan: &Plan,
    to: &Destinations,
    records: Vec<Records>,
    verifying: Verifying,
    admin: &Admin,
    rest: &mut Rest,
) -> Underway {
    // The two clocks of the run are read together: EVENT_TIME is the intended start.
    let (started_at, start) = (chrono::Utc::now(), Instant::now());
    let usage = Usage::begin();
    let (run, unix) = (plan.run_id.unwrap_or_else(rand::random), unix(started_at));
    let room = engines::room(plan);
    let made = make(plan, to, records, &verifying, (run, unix), &room);
    let proving = verifying.prove(run, unix, start, made.read_back);
    let producer = Producer::start(made.engines, start, plan.drain_timeout);
    let observer = producer.observer();
    let facts = facts(plan, to, run, started_at);
    let judge = Judge::new(plan.output.thresholds.clone(), facts);
    let gauges = gauges(plan, to, judge.facts());
    #[cfg(feature = "otlp")]
    let exporting = plan
        .output
        .otlp
        .clone()
        .map(|url| exporting::Exporting::begin(url, gauges.clone(), unix, observer.clone(), rest));
    if let Some(reload) = rest.reload.take() {
        let (steering, most_requests) = (producer.steering(), engines::most_requests(plan));
        let applies =
            Applies { steering, room, most_requests, limits: made.limits, quiet: plan.output.quiet };
        rest.spawn(reload::keep(reload, applies));
    }
    // The exporter measures its clock when it is made, for up to 0.2 s of processor time.
    if plan.output.admin_addr.is_some() {
        admin.begin(admin::Load {
            #[cfg(feature = "native-histograms")]
            protobuf: Protobuf::new(Families::new(gauges.clone())),
            metrics: Metrics::new(gauges),
            observer: observer.clone(),
            judge: judge.clone(),
            steering: producer.steering(),
        });
    }
    for (to, map) in to.loads.iter().zip(producer.steering().maps()) {
        if let Some(client) = to.to.client() {
            rest.spawn(keep_map(client.clone(), map.clone()));
        }
    }
    Underway {
        start,
        producer,
        observer,
        judge,
        proving,
        acked: made.acked,
        start_unix: unix,
        usage,
        #[cfg(feature = "otlp")]
        exporting,
    }
}

/// What is made for the loads, each in their order.
struct Made {
    engines: Vec<(EngineConfig, Sink)>,
    read_back: Vec<(String, Source)>,
    limits: Vec<(Limited, ShardLimiting)>,
    acked: Vec<AckBook>,
}

/// Makes an engine for each load of the run, which began at `unix`.
fn make(
    plan: &Plan,
    to: &Destinations,
    records: Vec<Records>,
    verifying: &Verifying,
    (run, unix): (u32, Nanos),
    room: &Arc<Room>,
) -> Made {
    let mut made = Made { engines: Vec::new(), read_back: Vec::new(), limits: Vec::new(), acked: Vec::new() };
    let mut loads = Vec::new();
    for (place, ((load, to), (source, feed))) in plan.loads.iter().zip(&to.loads).zip(records).enumerate() {
        let mut source = source.with_stamps(load.stamps, run, u8::try_from(place).unwrap_or(u8::MAX));
        source.starts_at(unix);
        made.limits.push((Limited::new(load, &source, to), load.shard_limit));
        loads.push((load, to, (source, feed)));
    }
    let limits = made.limits.iter().map(|(limited, _)| *limited).zip(engines::limits(&made.limits));
    for (place, ((load, to, (source, feed)), limits)) in loads.into_iter().zip(limits).enumerate() {
        if plan.verify.is_some() {
            made.read_back.push((load.name.clone(), source.clone()));
        }
        let witness = (load.stamps != StampPlace::None).then(|| {
            let noting = Noting { book: AckBook::default(), other: verifying.witness(place) };
            made.acked.push(noting.book.clone());
            Box::new(noting) as Box<dyn Witness>
        });
        let engine = engines::engine(load, to, (source, feed), witness, limits, Arc::clone(room));
        made.engines.push((engine, to.to.clone()));
    }
    made
}

/// Refreshes the shard map whenever a record came to an unexpected shard, and now and then.
async fn keep_map(client: Client, steering: MapSteering) {
    let mut pause = MAP_PAUSE;
    loop {
        tokio::select! {
            () = steering.map_is_stale() => {}
            () = tokio::time::sleep(MAP_INTERVAL) => {}
        }
        match client.shard_map().await {
            Ok(map) => {
                let shards = map.shards().len();
                if steering.reshard(map) {
                    tracing::info!(shards, "the stream was resharded");
                    pause = MAP_PAUSE;
                } else {
                    pause = (pause * 2).min(MAP_INTERVAL);
                }
            }
            Err(error) => tracing::warn!(%error, "the shard map could not be refreshed"),
        }
        tokio::time::sleep(pause).await;
    }
}
