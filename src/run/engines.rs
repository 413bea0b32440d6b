//! From a load of the plan and its destination to an engine.

use super::RunError;
use super::destination::{Destination, Sink};
use super::replay::Replay;
use crate::load::{Nanos, Stride};
use crate::plan::{LoadPlan, Offer, Plan, Target, WriteTo};
use crate::producer::{
    AggregateSize, BatchBounds, Bounds, EngineConfig, Pace, Packing, Room, ShardLimiting, ShardQuota, Wire,
    Witness,
};
use crate::tick::{EventTime, Feed, Keys, Source, Stamp, StampPlace, Template, Ticks};
use std::sync::Arc;

/// What the records of a load are.
pub(super) fn source(load: &LoadPlan) -> Result<Source, RunError> {
    let refused = |error: &dyn std::error::Error| RunError::Plan(error.to_string());
    let time = EventTime::new(0, load.zone);
    // A stamp in the body is part of the size that it is padded to.
    let stamp = if load.stamps == StampPlace::Body { Stamp::FIELD_LEN } else { 0 };
    let padded_to = load.payload_bytes.map(|bytes| bytes.saturating_sub(stamp));
    let ticks = Ticks::new(load.seed, load.market, &load.tickers, padded_to, time)
        .map_err(|error| refused(&error))?;
    let keys = Keys::new(&load.keys, load.seed, &ticks);
    if let Offer::Replay(replay) = &load.offer {
        return Ok(Source::replayed(ticks, keys, replay.max_bytes));
    }
    let Some(text) = &load.template else { return Ok(Source::new(ticks, keys)) };
    let records = load.records.unwrap_or(u64::MAX);
    let template = Template::new(text, load.seed, &ticks, records).map_err(|error| refused(&error))?;
    Ok(Source::new(ticks, keys).with_template(template))
}

/// Where the records of a load come from, if from a file.
pub(super) fn feed(load: &LoadPlan, target: &Target) -> Result<Option<Replay>, RunError> {
    let Offer::Replay(replay) = &load.offer else { return Ok(None) };
    if let Target::Lines(WriteTo::File(to)) = target
        && to.canonicalize().is_ok_and(|to| replay.file.canonicalize().is_ok_and(|from| from == to))
    {
        return Err(RunError::Plan(format!("--to {} is the file that is replayed", to.display())));
    }
    Replay::open(load, replay).map(Some).map_err(RunError::Plan)
}

/// The largest entry that a load can make, in bytes as Kinesis counts them.
pub(super) fn largest_entry(load: &LoadPlan, source: &Source) -> usize {
    // An aggregate of one record that is larger than a full one: framing of at most 128 bytes.
    let single = source.max_record_bytes();
    load.aggregate_bytes.map_or(single, |full| full.max(single + 128) + 1)
}

/// Refuses a load that the stream cannot take.
pub(super) fn check(load: &LoadPlan, source: &Source, to: &Destination) -> Result<(), RunError> {
    let (largest, limit) = (largest_entry(load, source), to.info.limits.record_bytes);
    if largest <= limit {
        return Ok(());
    }
    let smaller = match (load.aggregate_bytes, &load.template) {
        (Some(full), _) if full > limit => "lower --aggregate-bytes",
        (_, Some(_)) => "make the payloads of --template shorter",
        (_, None) => "lower --payload-bytes",
    };
    Err(RunError::Plan(format!(
        "Kinesis records of up to {largest} bytes, but the stream takes {limit}: {smaller}, or raise the \
         stream's limit (aws kinesis update-max-record-size)"
    )))
}

/// The room that the engines of a run share.
pub(super) fn room(plan: &Plan) -> Arc<Room> {
    let requests = plan.bounds.requests.min(most_requests(plan));
    Arc::new(Room::new(Bounds { requests, ..plan.bounds }))
}

/// What bounds requests in flight besides `--max-requests`.
pub(super) fn most_requests(plan: &Plan) -> usize {
    // A request that waits for a connection would count as sent: each has one of its own. Lines are
    // written one request after another, which keeps their order.
    if matches!(plan.target, Target::Lines(_)) { 1 } else { plan.max_connections }
}

/// What the limit of a shard depends on, besides what is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limited {
    on_demand: bool,
    sharers: usize,
    largest_entry: usize,
    wire: Wire,
}

impl Limited {
    pub(super) fn new(load: &LoadPlan, source: &Source, to: &Destination) -> Self {
        let wire = match &to.to {
            Sink::Lines(_) => Wire::Lines,
            Sink::Stream(client) => Wire::PutRecords(client.form()),
        };
        let largest_entry = largest_entry(load, source);
        Self { on_demand: to.info.on_demand, sharers: to.sharers, largest_entry, wire }
    }

    /// What each shard may take by this limit.
    pub(super) fn quota(self, limit: ShardLimiting) -> Option<ShardQuota> {
        match self.wire {
            Wire::PutRecords(_) => limit.quota(self.on_demand, self.sharers, self.largest_entry),
            Wire::Lines => None,
        }
    }
}

/// The engine of a load.
pub(super) fn engine(
    load: &LoadPlan,
    to: &Destination,
    (source, feed): (Source, Option<Replay>),
    witness: Option<Box<dyn Witness>>,
    room: Arc<Room>,
) -> EngineConfig {
    let feed = feed.map(|feed| Box::new(feed) as Box<dyn Feed>);
    let limited = Limited::new(load, &source, to);
    let wire = limited.wire;
    let packing = match load.aggregate_bytes {
        None => Packing::Single,
        Some(full) => Packing::Aggregate {
            size: AggregateSize::new(source.key_count(), source.explicit()),
            full,
            linger: load.batch.linger,
        },
    };
    let quota = limited.quota(load.shard_limit);
    let mut config = EngineConfig {
        stream: to.stream.clone(),
        stream_place: to.place,
        wire,
        map: to.map.clone(),
        pace: Pace::Arriving,
        stride: Stride::WHOLE,
        source,
        feed,
        witness,
        packing,
        batch: batch(load, to, wire),
        quota,
        retry: load.retry,
        room,
        warmup: load.warmup,
        seed: load.seed,
    };
    config.pace = pace(load, config.most_waiting());
    config
}

fn batch(load: &LoadPlan, to: &Destination, wire: Wire) -> BatchBounds {
    let mut batch = load.batch;
    batch.entries = batch.entries.min(to.info.limits.request_entries);
    batch.bytes = batch.bytes.min(to.info.limits.request_bytes);
    if wire == Wire::Lines {
        // Lines are to come at their due times.
        batch.linger = 0;
    }
    batch
}

fn pace(load: &LoadPlan, most_waiting: u64) -> Pace {
    match (&load.offer, load.schedule()) {
        (_, Some(schedule)) => Pace::Open(schedule),
        (Offer::Replay(_), None) => Pace::Arriving,
        (_, None) => Pace::Closed {
            total: load.records.unwrap_or(u64::MAX),
            until: load.duration.unwrap_or(Nanos::MAX),
            waiting: most_waiting,
        },
    }
}
