//! From a load of the plan and its destination to an engine.

use super::RunError;
use super::destination::{Destination, Sink};
use super::replay::Replay;
use crate::load::{Nanos, Stride};
use crate::plan::{LoadPlan, Offer, Plan, Target, WriteTo};
use crate::producer::{
    AggregateSize, BatchBounds, Bounds, EngineConfig, Limits, Pace, Packing, Room, ShardLimiting,
    SharedLimits, Wire, Witness,
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
        return Ok(Source::replayed(ticks, keys, replay.key.is_some(), replay.max_bytes));
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
    pub(super) stream: usize,
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
        Self { on_demand: to.info.on_demand, stream: to.place, largest_entry, wire }
    }
}

/// What limits each load of a run. Loads that go to one stream and are limited alike share its shards' limits.
pub(super) fn limits(loads: &[(Limited, ShardLimiting)]) -> Vec<Limits> {
    let mut known: Vec<(usize, ShardLimiting, Limits)> = Vec::new();
    let mut limits = Vec::new();
    for (load, limiting) in loads {
        let found = known.iter().find(|(stream, other, _)| (stream, other) == (&load.stream, limiting));
        if let Some((.., shared)) = found {
            limits.push(shared.clone());
            continue;
        }
        let there = loads.iter().filter(|(other, _)| other.stream == load.stream);
        let alike: Vec<_> = there.clone().filter(|(_, other)| other == limiting).collect();
        let largest = alike.iter().map(|(other, _)| other.largest_entry).max().unwrap_or(0);
        let quota = limiting.quota(load.on_demand, there.count() == alike.len(), largest);
        let own = match (load.wire, quota) {
            (Wire::Lines, _) | (_, None) => Limits::None,
            (_, Some(quota)) if alike.len() == 1 => Limits::Own(quota),
            (_, Some(quota)) => Limits::Shared(Arc::new(SharedLimits::new(quota))),
        };
        known.push((load.stream, *limiting, own.clone()));
        limits.push(own);
    }
    limits
}

/// The engine of a load.
pub(super) fn engine(
    load: &LoadPlan,
    to: &Destination,
    (source, feed): (Source, Option<Replay>),
    witness: Option<Box<dyn Witness>>,
    (limited, limits): (Limited, Limits),
    room: Arc<Room>,
) -> EngineConfig {
    let feed = feed.map(|feed| Box::new(feed) as Box<dyn Feed>);
    let wire = limited.wire;
    let packing = match load.aggregate_bytes {
        None => Packing::Single,
        Some(full) => Packing::Aggregate {
            size: AggregateSize::new(source.key_count(), source.explicit()),
            full,
            linger: load.batch.linger,
        },
    };
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
        limits,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::protocol::Form;
    use crate::producer::ShardQuota;

    #[test]
    fn loads_that_are_limited_alike_share_the_limits_of_their_stream() {
        let load = |stream, limiting, largest_entry| {
            let wire = Wire::PutRecords(Form::Json);
            (Limited { on_demand: false, stream, largest_entry, wire }, limiting)
        };
        let (auto, half) = (ShardLimiting::Auto, ShardLimiting::Share(0.5));
        let limits = limits(&[
            load(0, auto, 100),
            load(1, auto, 100),
            load(0, auto, 900),
            load(1, half, 100),
            load(2, auto, 5),
        ]);
        let [
            Limits::Shared(one),
            Limits::Own(adapts),
            Limits::Shared(other),
            Limits::Own(half),
            Limits::Own(whole),
        ] = &limits[..]
        else {
            panic!("{limits:?}")
        };
        assert!(Arc::ptr_eq(one, other) && format!("{one:?}").contains("largest_entry: 900"), "{one:?}");
        // Beside a load that is limited otherwise nobody has the whole of a shard.
        assert_eq!(*adapts, ShardQuota::adaptive(false, 100));
        assert_eq!((*half, *whole), (ShardQuota::of_shard(0.5, 100), ShardQuota::of_shard(1.0, 5)));
    }
}
