//! Producers that share a stream with `--shard-limit adaptive`: whole engines in simulated time, and the
//! binary on an embedded Kinesis.

use crate::harness::Stored;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tickgen::kinesis::protocol::{Form, StreamRef};
use tickgen::kinesis::{Answer, EntryAnswer, EntryError, Shard, ShardId, ShardMap};
use tickgen::load::{Arrivals, MILLISECOND, Nanos, Rate, SECOND, Schedule, Shape, Stride};
use tickgen::producer::{
    BatchBounds, Bounds, Engine, EngineConfig, Limits, Pace, Packing, Request, RetryPolicy, Room,
    ShardLimiting, ShardQuota, SharedLimits, Snapshot, Wire,
};
use tickgen::tick::{Draws, EventTime, Keys, Market, Source, Ticks, TimeZone};

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

    fn engine(self, seed: u64, shards: u64, span: Nanos, limits: &Limits) -> Engine {
        let time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
        let ticks = Ticks::new(seed, Market::Random, &["AMZN".to_owned()], self.payload_bytes, time).unwrap();
        let keys = Keys::new(&"uniform".parse().unwrap(), seed, &ticks);
        let source = Source::new(ticks, keys);
        let rate = Rate::from_thousandths(self.rps * 1000).unwrap();
        Engine::new(EngineConfig {
            stream: StreamRef::Name("s".into()),
            stream_place: 0,
            wire: Wire::PutRecords(Form::Json),
            map: ShardMap::even(shards),
            pace: Pace::Open(
                Schedule::new(Shape::constant(rate), Arrivals::Even, 0).until(span - self.begins),
            ),
            stride: Stride::WHOLE,
            limits: limits.clone(),
            source,
            feed: None,
            witness: None,
            packing: Packing::Single,
            batch: BatchBounds { entries: 500, bytes: 4 << 20, linger: 10 * MILLISECOND },
            retry: RetryPolicy {
                record_ttl: 30 * SECOND,
                max_attempts: 100,
                backoff: 50 * MILLISECOND,
                max_backoff: 2 * SECOND,
            },
            room: Arc::new(Room::new(Bounds { backlog: 100_000, requests: 64, bytes: 32 << 20 })),
            warmup: 0,
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
    limits: &Limits,
    mut look: impl FnMut(u64, &mut Stream, &[Snapshot]),
) {
    let shards = stream.map.shards().len() as u64;
    let engine = |(seed, offer): (u64, &Offer)| offer.engine(seed, shards, span, limits);
    let mut engines: Vec<Engine> = (seed * 10..).zip(offers).map(engine).collect();
    let mut encoders: Vec<_> = engines.iter().map(Engine::encoder).collect();
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
            let body = encoders[place].encode(&request, Vec::new());
            let answer = stream.answer(&body, now);
            answers.insert((now + way, number), (place, request, answer));
        }
        if now % SECOND == 0 {
            let snapshots: Vec<_> = engines.iter().map(|engine| engine.snapshot(now)).collect();
            look(now / SECOND, &mut stream, &snapshots);
        }
    }
}

/// What engines of several processes are limited by: each by itself.
fn adaptive() -> Limits {
    ShardLimiting::Adaptive.quota(false, true, 5_000).into()
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
            accepted: snapshots
                .iter()
                .map(|s| s.account.shards.iter().map(|shard| shard.accepted).sum())
                .collect(),
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

/// The three bars of a shared stream.
fn assert_shared(got: &Got, goodput: f64, told: &str) {
    assert!(goodput >= 0.95, "{told}: goodput {goodput:.3} of the capacity, {got:?}");
    assert!(got.throttled_ratio() < 0.02, "{told}: {:.4} throttled, {got:?}", got.throttled_ratio());
    assert!(got.least_share() >= 0.25, "{told}: {:.3} for one, {got:?}", got.least_share());
}

/// Offered half as much again as it takes, from the first second on.
#[test]
fn three_engines_settle_near_the_capacity_they_share() {
    for seed in 1..=8 {
        let mut got = Got::default();
        share_out(&[Offer::of(2000); 3], stream(4, 1), 61 * SECOND, seed, &adaptive(), |_, _, snapshots| {
            got = Got::at(snapshots);
        });
        assert_shared(&got, got.goodput() as f64 / (60.0 * 4_000.0), &format!("seed {seed}"));
    }
}

/// Records of 4 KiB: the bytes bind, not the records.
#[test]
fn bytes_are_shared_like_records() {
    let offer = Offer { payload_bytes: Some(4_000), ..Offer::of(525) };
    for seed in 1..=3 {
        let mut got = Got::default();
        share_out(&[offer; 3], stream(4, 1), 61 * SECOND, seed, &adaptive(), |_, _, snapshots| {
            got = Got::at(snapshots);
        });
        assert_shared(&got, got.bytes as f64 / (60.0 * f64::from(4 << 20)), &format!("seed {seed}"));
    }
}

#[test]
fn a_third_engine_that_comes_late_gets_its_part() {
    let offers = [Offer::of(3000), Offer::of(3000), Offer { begins: 20 * SECOND, ..Offer::of(3000) }];
    for seed in 1..=3 {
        let mut got = Vec::new();
        share_out(&offers, stream(4, 1), 121 * SECOND, seed, &adaptive(), |_, _, snapshots| {
            got.push(Got::at(snapshots));
        });
        let settled = got[120].since(&got[60]);
        assert_shared(&settled, settled.goodput() as f64 / (60.0 * 4_000.0), &format!("seed {seed}"));
    }
}

/// `--shard-limit auto` on an on-demand stream: nobody says what a shard takes, and it changes.
#[test]
fn engines_find_what_an_on_demand_stream_takes() {
    let on_demand = ShardLimiting::Auto.quota(true, true, 5_000).into();
    let mut got = Vec::new();
    share_out(
        &[Offer::of(6000); 2],
        stream(2, 2),
        121 * SECOND,
        4,
        &on_demand,
        |second, stream, snapshots| {
            if second == 60 {
                stream.capacity = 4;
            }
            got.push(Got::at(snapshots));
        },
    );
    for (from, to, capacity) in [(20, 60, 4_000), (90, 120, 8_000)] {
        let settled = got[to].since(&got[from]);
        let goodput = settled.goodput() as f64 / ((to - from) * capacity) as f64;
        assert_shared(&settled, goodput, &format!("{from}..{to}"));
    }
}

/// Loads of one run know their total: nothing has to be found, and the small one is not held up.
#[test]
fn engines_of_one_run_share_each_shards_limit() {
    for seed in 1..=3 {
        let shared = Limits::Shared(Arc::new(SharedLimits::new(ShardQuota::of_shard(1.0, 5_000))));
        let offers = [Offer::of(2000), Offer::of(2000), Offer::of(200)];
        let (mut got, mut p99, mut limits) = (Got::default(), 0, Vec::new());
        share_out(&offers, stream(2, 1), 21 * SECOND, seed, &shared, |_, _, snapshots| {
            got = Got::at(snapshots);
            p99 = snapshots[2].account.response_time.histogram().value_at_quantile(0.99);
            let all = Snapshot::sum(snapshots);
            limits = all.account.shards.iter().map(|shard| shard.limit.unwrap()).collect();
        });
        let told = format!("seed {seed}: {got:?}, 99 % within {p99} us, {limits:?}");
        assert!(got.goodput() >= 39_000 && got.throttled_ratio() < 0.005, "{told}");
        assert!(got.accepted[0].abs_diff(got.accepted[1]) * 20 < got.accepted[0], "{told}");
        // Of the 200 a second, but for those on their way; records of the others wait for seconds.
        assert!(got.accepted[2] >= 3_950 && p99 < 150_000, "{told}");
        // All together have what a shard takes, not three times of it.
        assert!(limits.iter().all(|limit| (limit - 1000.0).abs() < 1e-6), "{told}");
    }
}

/// A shard that stays open keeps its limit, new ones begin with the whole, closed ones have none.
#[test]
fn limits_through_a_reshard() {
    let mut engine = Offer::of(8000).engine(1, 2, 100 * SECOND, &adaptive());
    let mut now = 0;
    while engine.snapshot(now).account.throttled_entries < 40 {
        while let Some(request) = engine.poll(now) {
            let throttled = vec![EntryAnswer::Rejected(EntryError::Throttled); request.entries().len()];
            engine.settle(request, Answer::Entries(throttled), now);
        }
        now += MILLISECOND;
    }
    let limits = |engine: &Engine| -> Vec<(u64, Option<f64>)> {
        engine.snapshot(now).account.shards.iter().map(|shard| (shard.id.0, shard.limit)).collect()
    };
    let before = limits(&engine);
    assert!(before.iter().all(|(_, limit)| limit.is_some_and(|limit| limit < 920.0)), "{before:?}");
    let [parent, other] = ShardMap::even(2).shards().try_into().unwrap();
    let left = Shard { id: ShardId(2), last: parent.last / 2, ..parent };
    let right = Shard { id: ShardId(3), first: left.last + 1, ..parent };
    engine.reshard(ShardMap::new(vec![left, right, other]).unwrap(), now);
    let after = limits(&engine);
    assert_eq!(after, [(0, None), before[1], (2, Some(980.0)), (3, Some(980.0))]);
}

#[cfg(feature = "embedded")]
mod on_the_embedded_kinesis {
    use crate::harness::{assert_balanced, finished, start};
    use serde_json::Value;
    use tickgen::kinesis::embedded::{self, Embedded};

    fn count(summary: &Value, name: &str) -> f64 {
        summary[name].as_f64().unwrap_or_else(|| panic!("{name} in {summary:#}"))
    }

    /// Three processes offer 6,000/s to four shards.
    async fn share_out(seconds: &str) -> Vec<Value> {
        let server = Embedded::start(4, 32 << 20, None, false).await.unwrap();
        let url = server.url();
        let mut flags = vec!["--stream", embedded::STREAM, "--region", embedded::REGION];
        flags.extend(["--endpoint-url", &url, "--shard-limit", "adaptive", "--rps", "2000"]);
        flags.extend(["--duration", seconds, "--drain-timeout", "0s", "--quiet", "--summary", "-"]);
        let children: Vec<_> = (0..3).map(|_| start(&flags)).collect();
        let mut summaries = Vec::new();
        for child in children {
            let output =
                tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
            let (code, summary, stderr) = finished(&output);
            assert_eq!(code, 99, "the stream takes less than is offered: {stderr}");
            assert_balanced(&summary);
            summaries.push(summary);
        }
        summaries
    }

    /// What the processes got: goodput over capacity, throttled over sent, and the least part of one.
    #[derive(Debug)]
    struct Got {
        goodput: f64,
        throttled: f64,
        least_share: f64,
    }

    fn got(summaries: &[Value]) -> Got {
        let goodput: Vec<f64> = summaries.iter().map(|summary| count(summary, "achieved_rps")).collect();
        let sum: f64 = goodput.iter().sum();
        let throttled: f64 = summaries.iter().map(|summary| count(summary, "throttled_entries")).sum();
        let codes = summaries.iter().filter_map(|summary| summary["entries_by_code"].as_object());
        let entries: f64 = codes.flat_map(|codes| codes.values()).filter_map(Value::as_f64).sum();
        let least = goodput.iter().copied().fold(f64::INFINITY, f64::min);
        Got { goodput: sum / 4_000.0, throttled: throttled / entries, least_share: least / sum }
    }

    /// From the first record on. A second that the three and their server are not given to run in is
    /// lost, so on a machine that is busy with much else it may take a second or third run; the bars are
    /// held without exception in simulated time, above.
    #[tokio::test(flavor = "multi_thread")]
    async fn three_producers_share_a_stream() {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let summaries = share_out("60s").await;
            let limits = summaries.iter().flat_map(|summary| summary["shards"].as_array().unwrap());
            let limits: Vec<f64> = limits.map(|shard| count(shard, "limit_rps")).collect();
            assert!(limits.iter().all(|limit| (10.0..=980.0).contains(limit)), "{limits:?}");
            let got = got(&summaries);
            println!("{got:.3?}");
            if got.goodput >= 0.95 && got.throttled < 0.02 && got.least_share >= 0.25 {
                return;
            }
            seen.push(got);
        }
        panic!("{seen:?}");
    }
}
