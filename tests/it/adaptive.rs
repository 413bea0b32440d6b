//! Producers that share a stream with `--shard-limit adaptive`: whole engines in simulated time, and the
//! binary on an embedded Kinesis.

use crate::harness::Stored;
use std::collections::{BTreeMap, HashMap};
use tickgen::kinesis::protocol::StreamRef;
use tickgen::kinesis::{Answer, EntryAnswer, EntryError, ShardId, ShardMap};
use tickgen::load::{MILLISECOND, Nanos, Rate, SECOND, Schedule, Stride};
use tickgen::producer::{
    BatchBounds, Bounds, Engine, EngineConfig, Pace, Packing, Request, RetryPolicy, ShardLimiting, Snapshot,
};
use tickgen::tick::{Draws, EventTime, Keys, Source, Ticks, TimeZone};

/// One of several engines that share a stream.
#[derive(Clone, Copy)]
struct Offer {
    rps: u64,
    begins: Nanos,
    payload_bytes: Option<usize>,
}

impl Offer {
    fn of(rps: u64) -> Self {
        Self { rps, begins: 0, payload_bytes: None }
    }

    fn engine(self, seed: u64, shards: u64, span: Nanos, on_demand: bool) -> Engine {
        let time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
        let ticks = Ticks::new(seed, &["AMZN".to_owned()], self.payload_bytes, time).unwrap();
        let keys = Keys::new(&"uniform".parse().unwrap(), seed, &ticks);
        let source = Source::new(ticks, keys);
        let rate = Rate::from_thousandths(self.rps * 1000).unwrap();
        let limiting = if on_demand { ShardLimiting::Auto } else { ShardLimiting::Adaptive };
        Engine::new(EngineConfig {
            stream: StreamRef::Name("s".into()),
            map: ShardMap::even(shards),
            pace: Pace::Open(Schedule::constant(rate, u64::MAX).until(span - self.begins)),
            stride: Stride::WHOLE,
            quota: limiting.quota(on_demand, source.max_record_bytes()),
            source,
            packing: Packing::Single,
            batch: BatchBounds { entries: 500, bytes: 4 << 20, linger: 10 * MILLISECOND },
            retry: RetryPolicy {
                record_ttl: 30 * SECOND,
                max_attempts: 100,
                backoff: 50 * MILLISECOND,
                max_backoff: 2 * SECOND,
            },
            bounds: Bounds { backlog: 100_000, requests: 64, bytes: 32 << 20 },
            seed,
        })
    }
}

/// A stream that counts each shard's records and bytes in windows of a second, as ferrokinesis does: a
/// window begins with the first record after the last one ended.
struct Stream {
    map: ShardMap,
    /// Of a provisioned shard.
    capacity: u64,
    windows: HashMap<ShardId, Window>,
}

#[derive(Default)]
struct Window {
    begins: Nanos,
    records: u64,
    bytes: u64,
}

impl Stream {
    fn answer(&mut self, body: &[u8], now: Nanos) -> Answer {
        let entries = Stored::read_body(body);
        Answer::Entries(entries.iter().map(|entry| self.put(entry, now)).collect())
    }

    fn put(&mut self, entry: &Stored, now: Nanos) -> EntryAnswer {
        let shard = self.map.shards()[self.map.route(entry.hash_key)].id;
        let window = self.windows.entry(shard).or_default();
        if now >= window.begins + SECOND {
            *window = Window { begins: now, records: 0, bytes: 0 };
        }
        let bytes = entry.records.iter().map(|record| record.data.len() as u64).sum::<u64>();
        if window.records >= 1000 * self.capacity || window.bytes + bytes > self.capacity << 20 {
            return EntryAnswer::Rejected(EntryError::Throttled);
        }
        window.records += 1;
        window.bytes += bytes;
        EntryAnswer::Accepted(shard)
    }
}

/// Runs engines that share `stream` until `span`; calls `look` with their snapshots every second.
/// Requests and answers take 1 to 20 ms each.
fn share_out(
    offers: &[Offer],
    mut stream: Stream,
    span: Nanos,
    seed: u64,
    on_demand: bool,
    mut look: impl FnMut(u64, &mut Stream, &[Snapshot]),
) {
    let shards = stream.map.shards().len() as u64;
    let engine = |(seed, offer): (u64, &Offer)| offer.engine(seed, shards, span, on_demand);
    let mut engines: Vec<Engine> = (seed * 10..).zip(offers).map(engine).collect();
    let draws = Draws::new(seed, 5);
    let mut arrivals: BTreeMap<(Nanos, u64), (usize, Request, Nanos)> = BTreeMap::new();
    let mut answers: BTreeMap<(Nanos, u64), (usize, Request, Answer)> = BTreeMap::new();
    let mut sent = 0;
    for now in (0..span / MILLISECOND).map(|millis| millis * MILLISECOND) {
        while let Some(answer) = answers.first_entry().filter(|answer| answer.key().0 <= now) {
            let (place, request, answer) = answer.remove();
            engines[place].settle(request, answer, now - offers[place].begins);
        }
        for (place, engine) in engines.iter_mut().enumerate() {
            let Some(own) = now.checked_sub(offers[place].begins) else { continue };
            while let Some(request) = engine.poll(own) {
                sent += 1;
                let way = MILLISECOND + draws.bits(sent) % (19 * MILLISECOND);
                arrivals.insert((now + way, sent), (place, request, way));
            }
        }
        while let Some(arrival) = arrivals.first_entry().filter(|arrival| arrival.key().0 <= now) {
            let number = arrival.key().1;
            let (place, request, way) = arrival.remove();
            let answer = stream.answer(&request.body, now);
            answers.insert((now + way, number), (place, request, answer));
        }
        if now % SECOND == 0 {
            let snapshots: Vec<_> = engines.iter().map(|engine| engine.snapshot(now)).collect();
            look(now / SECOND, &mut stream, &snapshots);
        }
    }
}

fn stream(shards: u64, capacity: u64) -> Stream {
    Stream { map: ShardMap::even(shards), capacity, windows: HashMap::new() }
}

/// What producers got out of a stream between two looks.
#[derive(Clone, Debug, Default)]
struct Got {
    accepted: Vec<u64>,
    bytes: u64,
    throttled: u64,
    sent: u64,
}

impl Got {
    fn at(snapshots: &[Snapshot]) -> Self {
        Self {
            accepted: snapshots.iter().map(|s| s.account.shards.iter().map(|shard| shard.accepted).sum()).collect(),
            bytes: snapshots.iter().map(|s| s.account.accepted_bytes).sum(),
            throttled: snapshots.iter().map(|s| s.account.throttled_entries).sum(),
            sent: snapshots.iter().map(|s| s.account.entries_sent).sum(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            accepted: self.accepted.iter().zip(&before.accepted).map(|(now, then)| now - then).collect(),
            bytes: self.bytes - before.bytes,
            throttled: self.throttled - before.throttled,
            sent: self.sent - before.sent,
        }
    }

    fn goodput(&self) -> u64 {
        self.accepted.iter().sum()
    }

    fn throttled_ratio(&self) -> f64 {
        self.throttled as f64 / self.sent as f64
    }

    fn least_share(&self) -> f64 {
        *self.accepted.iter().min().unwrap() as f64 / self.goodput() as f64
    }
}

#[test]
fn three_engines_settle_near_the_capacity_they_share() {
    for seed in 1..=5 {
        let mut got = Vec::new();
        share_out(&[Offer::of(2000); 3], stream(4, 1), 61 * SECOND, seed, false, |_, _, snapshots| {
            got.push(Got::at(snapshots));
        });
        let all = &got[60];
        let ratio = all.goodput() as f64 / (60.0 * 4000.0);
        println!("{seed}: {ratio:.3} {:.4} {:.3}", all.throttled_ratio(), all.least_share());
        let settled = got[60].since(&got[10]);
        println!("   settled {:.3} {:.4} {:.3}", settled.goodput() as f64/(50.0*4000.0), settled.throttled_ratio(), settled.least_share());
    }
}
