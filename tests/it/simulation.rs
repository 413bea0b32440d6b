//! The whole engine in simulated time against a simulated stream with random faults: no clock, no
//! network, thousands of records a millisecond.

use crate::harness::{Stored, StoredRecord};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tickgen::kinesis::protocol::{Form, StreamRef};
use tickgen::kinesis::{
    Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind, Shard, ShardId, ShardMap,
};
use tickgen::load::{
    Arrivals, Curve, MILLISECOND, Nanos, Piece, Rate, SECOND, Schedule, Shape, Starts, Stride,
};
use tickgen::producer::{
    AggregateSize, BatchBounds, Bounds, Engine, EngineConfig, Limits, Offered, Pace, Packing, Request,
    RetryPolicy, Room, ShardQuota, Snapshot, Wire, Witness,
};
use tickgen::tick::{
    Draws, EventTime, Fed, Feed, Keys, Market, Replayed, Source, StampPlace, Ticks, TimeZone,
};
use tickgen::verify::{Arrived, Proof};

/// What the simulated stream does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    ThrottleSome,
    FailSome,
    /// Refused as a whole, nothing stored.
    Refuse(RequestErrorKind),
    /// Stored, but the answer never comes back.
    StoreThenLose(RequestErrorKind),
    /// Stored, but the answer has a result too few.
    MiscountResults,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a condition of its own")]
struct Scenario {
    thousandths: u64,
    millis: u64,
    shards: u64,
    aggregate: bool,
    keys: &'static str,
    limit: bool,
    fault_percent: u64,
    reshard: bool,
    ttl_millis: u64,
    attempts: u16,
    backlog: u64,
    requests: usize,
    stop_early: bool,
    drive: Drive,
    warmup_millis: u64,
    steered: bool,
    seed: u64,
}

/// What drives the load of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Drive {
    Constant,
    Sawtooth,
    Poisson,
    Hawkes,
    Replay,
    ClosedLoop,
}

/// Records that come by a rate, as a file's would; some turns it has none at hand.
#[derive(Debug)]
struct Replay {
    starts: Starts,
    span: Nanos,
    n: u64,
    asked: u64,
    draws: Draws,
}

impl Feed for Replay {
    fn next(&mut self) -> Fed {
        self.asked += 1;
        if self.draws.bits(self.asked).is_multiple_of(7) {
            return Fed::NotYet;
        }
        let Some(at) = self.starts.start(self.n) else { return Fed::End(self.span) };
        self.n += 1;
        let key = self.n.is_multiple_of(3).then(|| format!("key-{}", self.n % 5).into_bytes());
        Fed::Record(Replayed { at, payload: format!("record {}", self.n - 1).into_bytes(), key })
    }
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let load = (1_000_000_u64..20_000_000, 50_u64..600, 1_u64..12, any::<bool>());
    let keys = prop::sample::select(vec!["uniform", "per-shard", "ticker", "fixed:k", "zipf:1:20"]);
    let faults = (any::<bool>(), prop::sample::select(vec![0_u64, 5, 30, 80]), any::<bool>());
    let retry = (prop::sample::select(vec![100_u64, 1_000, 30_000]), 1_u16..12);
    let bounds = (prop::sample::select(vec![50_u64, 1_000, 100_000]), 1_usize..20);
    let drives =
        [Drive::Constant, Drive::Sawtooth, Drive::Poisson, Drive::Hawkes, Drive::Replay, Drive::ClosedLoop];
    let drive = (prop::sample::select(drives.to_vec()), prop::sample::select(vec![0_u64, 0, 30]));
    let ends = (any::<bool>(), drive, any::<u64>(), any::<bool>());
    (load, keys, faults, retry, bounds, ends).prop_map(|(load, keys, faults, retry, bounds, ends)| Scenario {
        thousandths: load.0,
        millis: load.1,
        shards: load.2,
        aggregate: load.3,
        keys,
        limit: faults.0,
        fault_percent: faults.1,
        reshard: faults.2,
        ttl_millis: retry.0,
        attempts: retry.1,
        backlog: bounds.0,
        requests: bounds.1,
        stop_early: ends.0,
        drive: ends.1.0,
        warmup_millis: ends.1.1,
        seed: ends.2,
        steered: ends.3,
    })
}

fn constant(rate: Rate) -> Schedule {
    Schedule::new(Shape::constant(rate), Arrivals::Even, 0)
}

fn source(scenario: &Scenario) -> Source {
    let tickers: Vec<String> = ["AAPL", "AMZN", "TBV"].map(str::to_owned).to_vec();
    let time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
    let ticks = Ticks::new(scenario.seed, Market::Random, &tickers, None, time).unwrap();
    let keys = Keys::new(&scenario.keys.parse().unwrap(), scenario.seed, &ticks);
    if scenario.drive == Drive::Replay {
        return Source::replayed(ticks, keys, true, 20_000);
    }
    let stamps =
        if ["uniform", "per-shard"].contains(&scenario.keys) { StampPlace::Key } else { StampPlace::Body };
    let mut source = Source::new(ticks, keys).with_stamps(stamps, RUN, 0);
    source.starts_at(START);
    source
}

/// The schedule of an open loop.
fn schedule(scenario: &Scenario) -> Schedule {
    let rate = Rate::from_thousandths(scenario.thousandths).unwrap();
    let (shape, arrivals) = match scenario.drive {
        Drive::Sawtooth => {
            let curve = Curve::Ramp(0, 2 * scenario.thousandths);
            (Shape::repeating(vec![Piece { curve, span: 70 * MILLISECOND }]), Arrivals::Even)
        }
        Drive::Poisson => (Shape::constant(rate), Arrivals::Poisson),
        Drive::Hawkes => {
            (Shape::constant(rate), Arrivals::Hawkes { excitation: 0.5, decay: 10 * MILLISECOND })
        }
        _ => (Shape::constant(rate), Arrivals::Even),
    };
    let schedule = Schedule::new(shape, arrivals, scenario.seed).until(scenario.millis * MILLISECOND);
    // One that is told to send as many as answers allow ends some time.
    if scenario.steered { schedule.records(8_000) } else { schedule }
}

fn room(scenario: &Scenario) -> Arc<Room> {
    Arc::new(Room::new(Bounds { backlog: scenario.backlog, requests: scenario.requests, bytes: 1 << 20 }))
}

const RUN: u32 = 7;
const START: Nanos = 1_795_373_640 * SECOND;

/// What the engine says was acked.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<u64>>>);

impl Witness for Told {
    fn acked(&mut self, numbers: Vec<u64>, sent: Nanos, acked: Nanos) {
        assert!(sent <= acked);
        self.0.lock().unwrap().extend(numbers);
    }
}

fn engine(scenario: &Scenario, room: &Arc<Room>, told: Told) -> Engine {
    let source = source(scenario);
    let packing = if scenario.aggregate {
        let size = AggregateSize::new(source.key_count(), source.explicit());
        Packing::Aggregate { size, full: 2_000, linger: 10 * MILLISECOND }
    } else {
        Packing::Single
    };
    let span = scenario.millis * MILLISECOND;
    let pace = match scenario.drive {
        Drive::ClosedLoop => Pace::Closed { total: 20_000, until: span, waiting: scenario.backlog },
        Drive::Replay => Pace::Arriving,
        _ => Pace::Open(schedule(scenario)),
    };
    let feed = (scenario.drive == Drive::Replay).then(|| {
        let draws = Draws::new(scenario.seed, 88);
        Box::new(Replay { starts: Starts::new(schedule(scenario)), span, n: 0, asked: 0, draws })
            as Box<dyn Feed>
    });
    Engine::new(EngineConfig {
        stream: StreamRef::Name("s".into()),
        stream_place: 0,
        wire: Wire::PutRecords(Form::Json),
        map: ShardMap::even(scenario.shards),
        pace,
        stride: Stride::WHOLE,
        source,
        feed,
        witness: Some(Box::new(told)),
        packing,
        batch: BatchBounds { entries: 500, bytes: 100_000, linger: 10 * MILLISECOND },
        limits: scenario.limit.then(|| ShardQuota::of_shard(1.0, 4_000)).into(),
        retry: RetryPolicy {
            record_ttl: scenario.ttl_millis * MILLISECOND,
            max_attempts: scenario.attempts,
            backoff: 50 * MILLISECOND,
            max_backoff: 2 * SECOND,
        },
        room: Arc::clone(room),
        warmup: scenario.warmup_millis * MILLISECOND,
        seed: scenario.seed,
    })
}

/// A stream that stores what it is sent, or not, as the draws say.
struct Stream {
    map: ShardMap,
    draws: Draws,
    requests: u64,
    fault_percent: u64,
    /// How often each record was stored, by its number.
    stored: BTreeMap<u64, u32>,
    /// What a reader of the stream finds.
    proof: Proof,
    /// Kinesis records stored by shard and second.
    per_second: BTreeMap<(ShardId, Nanos), u32>,
    /// Whether what it is sent comes from a file, and says which record it is.
    replayed: bool,
}

impl Stream {
    fn new(scenario: &Scenario) -> Self {
        Self {
            map: ShardMap::even(scenario.shards),
            draws: Draws::new(scenario.seed, 77),
            requests: 0,
            fault_percent: scenario.fault_percent,
            stored: BTreeMap::new(),
            proof: Proof::new(RUN, START, vec![(String::new(), source(scenario))]),
            per_second: BTreeMap::new(),
            replayed: scenario.drive == Drive::Replay,
        }
    }

    fn fault(&self) -> Fault {
        use RequestErrorKind::{ConnectionCut, NotSent, ServerError, Throttled, TimedOut};
        if self.draws.bits(self.requests * 2) % 100 >= self.fault_percent {
            return Fault::None;
        }
        let faults = [
            Fault::ThrottleSome,
            Fault::FailSome,
            Fault::Refuse(Throttled),
            Fault::Refuse(NotSent),
            Fault::Refuse(ServerError),
            Fault::StoreThenLose(TimedOut),
            Fault::StoreThenLose(ConnectionCut),
            Fault::MiscountResults,
        ];
        faults[self.draws.index(self.requests * 2 + 1, faults.len())]
    }

    fn answer(&mut self, request: &Request, body: &[u8], now: Nanos) -> Answer {
        self.requests += 1;
        let fault = self.fault();
        if let Fault::Refuse(kind) = fault {
            return Answer::Failed(RequestError { kind, text: String::new() });
        }
        let mut numbers = request.records().iter().map(|record| record.n);
        let mut answers = Vec::new();
        for (place, entry) in (0_u64..).zip(Stored::read_body(body)) {
            let records: Vec<u64> = numbers.by_ref().take(entry.records.len()).collect();
            if self.replayed {
                let of = |n: &u64| format!("record {n}").into_bytes();
                assert!(records.iter().map(of).eq(entry.records.iter().map(|record| record.data.clone())));
            }
            let shard = self.map.shards()[self.map.route(entry.hash_key)].id;
            let reject = self.draws.bits(self.requests * 1000 + place).is_multiple_of(2);
            answers.push(match fault {
                Fault::ThrottleSome if reject => EntryAnswer::Rejected(EntryError::Throttled),
                Fault::FailSome if reject => EntryAnswer::Rejected(EntryError::InternalFailure),
                _ => {
                    *self.per_second.entry((shard, now / SECOND)).or_default() += 1;
                    for n in &records {
                        *self.stored.entry(*n).or_default() += 1;
                    }
                    for (n, StoredRecord { key, data }) in records.iter().zip(&entry.records) {
                        // What a file held is what its number says.
                        let replayed = data.strip_prefix(b"record ");
                        assert!(replayed.is_none_or(|number| number == n.to_string().as_bytes()), "{n}");
                        let arrived_unix = i64::try_from(START + now).unwrap();
                        let record = Arrived { partition_key: key, data, arrived_unix, read: Some(now) };
                        self.proof.read(record);
                    }
                    EntryAnswer::Accepted(shard)
                }
            });
        }
        assert_eq!(numbers.next(), None, "the body holds the request's records");
        match fault {
            Fault::StoreThenLose(kind) => Answer::Failed(RequestError { kind, text: String::new() }),
            Fault::MiscountResults => {
                answers.pop();
                Answer::Entries(answers)
            }
            _ => Answer::Entries(answers),
        }
    }

    /// Splits the first shard in its middle.
    fn split(&mut self) {
        let mut shards = self.map.shards().to_vec();
        let parent = shards.remove(0);
        let middle = parent.last / 2;
        let next = shards.iter().map(|s| s.id.0).max().unwrap_or(0).max(parent.id.0) + 1;
        shards.push(Shard { id: ShardId(next), first: parent.first, last: middle });
        shards.push(Shard { id: ShardId(next + 1), first: middle + 1, last: parent.last });
        self.map = ShardMap::new(shards).unwrap();
    }
}

/// Someone who turns the knobs of a scenario, as the draws say.
struct Hand {
    draws: Draws,
    every: Nanos,
    turns: u64,
    of: u64,
    changes: usize,
}

impl Hand {
    fn new(scenario: &Scenario) -> Self {
        let of = if scenario.steered { 9 } else { 0 };
        let every = scenario.millis * MILLISECOND / 6;
        Self { draws: Draws::new(scenario.seed, 99), every, turns: 0, of, changes: 0 }
    }

    fn next(&self) -> Option<Nanos> {
        (self.turns < self.of).then(|| (self.turns + 1) * self.every)
    }

    /// Steers, if it is time; the last thing it does is to resume.
    fn steer(&mut self, engine: &mut Engine, now: Nanos) {
        while self.next().is_some_and(|next| now >= next) {
            self.turns += 1;
            let (draw, thousandths) =
                (self.draws.bits(self.turns), 1 + self.draws.bits(self.turns + 100) % 20_000_000);
            let paused = engine.is_paused();
            match draw % 8 {
                _ if self.turns == self.of => engine.resume(now),
                0 | 1 => engine.pause(now),
                2 | 3 => engine.resume(now),
                draw => {
                    let offered = match draw {
                        4 => Offered::Max,
                        5 => Offered::Shape(Shape::repeating(vec![Piece {
                            curve: Curve::Ramp(0, thousandths),
                            span: 30 * MILLISECOND,
                        }])),
                        _ => Offered::Rate(Rate::from_thousandths(thousandths).unwrap()),
                    };
                    self.changes += usize::from(engine.offer(&offered, now));
                }
            }
            self.changes += usize::from(engine.is_paused() != paused);
        }
    }
}

/// What holds at any time: the counts add up, and no more is kept than may be.
fn check(scenario: &Scenario, snapshot: &Snapshot) {
    let ledger = &snapshot.account.ledger;
    assert_eq!(snapshot.scheduled, ledger.generated + ledger.dropped);
    assert_eq!(ledger.in_flight(), snapshot.unsettled);
    // A closed loop makes records by the chunk, and a stop makes what is due.
    let closed_loop = scenario.drive == Drive::ClosedLoop || scenario.steered;
    let chunk = if closed_loop { 500 * (1 + scenario.requests as u64) } else { 0 };
    // How many records an aggregate takes, the bound of records does not say.
    let unbounded = closed_loop && scenario.aggregate;
    assert!(unbounded || snapshot.unsettled <= scenario.backlog + chunk);
}

/// Runs a scenario to its end; returns the engine, the stream and the time.
fn simulate(scenario: &Scenario) -> (Engine, Stream, Nanos) {
    let room = room(scenario);
    let told = Told::default();
    let mut engine = engine(scenario, &room, told.clone());
    let mut encoder = engine.encoder();
    let mut stream = Stream::new(scenario);
    let (mut now, mut idle_turns) = (0, 0);
    // Requests in the air, by the time of their answer.
    let mut air: BTreeMap<(Nanos, u64), (Request, Answer)> = BTreeMap::new();
    let halfway = scenario.millis * MILLISECOND / 2;
    let mut hand = Hand::new(scenario);
    while !engine.is_done() {
        hand.steer(&mut engine, now);
        if scenario.reshard && now >= halfway && stream.map.shards().len() as u64 == scenario.shards {
            stream.split();
        }
        if engine.take_map_is_stale() {
            engine.reshard(stream.map.clone(), now);
        }
        if scenario.stop_early && now >= halfway {
            engine.stop(now);
        }
        while let Some(request) = engine.poll(now) {
            assert!(request.entries().len() <= 500 && air.len() < scenario.requests);
            let latency = 1 + stream.draws.bits(stream.requests ^ 0xABCD) % (40 * MILLISECOND);
            let body = encoder.encode(&request, Vec::new());
            let answer = stream.answer(&request, &body, now);
            air.insert((now + latency, stream.requests), (request, answer));
        }
        check(scenario, &engine.snapshot(now));
        if engine.is_done() {
            break;
        }
        let answered = air.keys().next().map(|key| key.0);
        let next =
            engine.next_wake().into_iter().chain(answered).chain(hand.next()).min().expect("the run goes on");
        idle_turns = if next <= now { idle_turns + 1 } else { 0 };
        assert!(idle_turns < 3, "the engine asks to be woken at once, for ever");
        now = now.max(next);
        assert!(now < 200 * SECOND, "the run does not end");
        while let Some(entry) = air.first_entry().filter(|entry| entry.key().0 <= now) {
            let (request, answer) = entry.remove();
            engine.settle(request, answer, now);
            stream.proof.acked(0, &std::mem::take(&mut *told.0.lock().unwrap()), 0, now);
        }
    }
    assert!(room.is_free(), "{room:?}");
    let changes = engine.snapshot(now).steered.len();
    // A pause that the end of the run ends is not resumed.
    assert!(changes == hand.changes || changes + 1 == hand.changes, "{changes} of {}", hand.changes);
    engine.finish(now);
    (engine, stream, now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever goes wrong: every record settles once, what is acked is stored, and no record is
    /// stored more often than the ledger owns up to.
    #[test]
    fn every_record_settles_once_and_acked_means_stored(scenario in scenarios()) {
        let (engine, stream, now) = simulate(&scenario);
        let snapshot = engine.snapshot(now);
        let ledger = &snapshot.account.ledger;
        prop_assert!(snapshot.balances(), "{ledger:?}");
        // The time of the run is the schedule's, its pauses and the drain.
        prop_assert!(snapshot.span + snapshot.paused_for <= now && !snapshot.paused);
        let ends = scenario.millis * MILLISECOND;
        prop_assert!(snapshot.span <= ends, "{} of {ends}", snapshot.span);
        let distinct = stream.stored.len() as u64;
        let extra: u64 = stream.stored.values().map(|&times| u64::from(times) - 1).sum();
        prop_assert!(distinct >= ledger.acked, "{distinct} stored, {} acked", ledger.acked);
        // Stored but not acked: the answer was lost, and so was the record in the end.
        prop_assert!(distinct <= ledger.acked + ledger.lost());
        let twice = stream.stored.values().filter(|&&times| times > 1).count() as u64;
        // What comes from a file cannot be made again to compare.
        if scenario.drive != Drive::Replay {
            let proof = stream.proof.summary(None);
            prop_assert_eq!((proof.acked, proof.lost, proof.corrupted, proof.foreign), (ledger.acked, 0, 0, 0));
            prop_assert_eq!((proof.delivered, proof.duplicated), (distinct, extra));
            prop_assert_eq!(proof.delivered, proof.acked - proof.lost + proof.delivered_unacked);
            prop_assert!(proof.delivered_unacked <= ledger.lost(), "{proof:?} {ledger:?}");
            prop_assert_eq!(proof.duplicated_records, twice);
        }
        prop_assert!(twice <= ledger.possible_duplicates, "{twice} stored twice, {ledger:?}");
        if scenario.fault_percent == 0 {
            prop_assert_eq!((extra, ledger.failed, ledger.possible_duplicates), (0, 0, 0));
            prop_assert_eq!(distinct, ledger.acked);
        }
        if !scenario.reshard {
            prop_assert_eq!(ledger.misrouted, 0);
        }
        let entries: u64 = snapshot.account.shards.iter().map(|shard| shard.accepted).sum();
        prop_assert_eq!(entries, snapshot.account.entries.of(tickgen::producer::EntryOutcome::Accepted));
        let acked: u64 = snapshot.account.shards.iter().map(|shard| shard.acked).sum();
        prop_assert_eq!(acked, ledger.acked);
        let (account, warmup) = (&snapshot.account, &snapshot.account.warmup);
        let measured = ledger.acked - warmup.acked;
        for times in [&account.response_time, &account.schedule_lag, &account.queue_time, &account.service_time] {
            prop_assert_eq!(times.histogram().len(), measured);
        }
        let parts = account.schedule_lag.sum_seconds() + account.queue_time.sum_seconds() + account.service_time.sum_seconds();
        prop_assert!((parts - account.response_time.sum_seconds()).abs() < 1e-6, "the parts are the whole");
        prop_assert_eq!(account.start_lateness.histogram().len(), ledger.generated - warmup.generated);
        prop_assert_eq!(warmup.in_flight(), 0);
        prop_assert!(warmup.lost() <= ledger.lost() && (scenario.warmup_millis > 0 || warmup.generated == 0));
        let mut windows = [0; 7];
        for w in account.windows.iter() {
            let counts = [w.generated, w.acked, w.lost, w.dropped, w.throttled, w.retried, w.measured()];
            windows.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let (throttled, retried) = (account.throttled_entries, account.retried_entries);
        prop_assert_eq!(
            windows,
            [ledger.generated, ledger.acked, ledger.lost(), ledger.dropped, throttled, retried, measured]
        );
        let expected: f64 = account.shards.iter().filter_map(|shard| shard.expected).sum();
        prop_assert!(scenario.drive == Drive::Replay || (expected - ledger.generated as f64).abs() < 0.5, "{expected}");
    }

    /// With a limit per shard, a shard without faults is never offered more than it takes.
    #[test]
    fn shards_are_not_offered_more_than_they_take(mut scenario in scenarios()) {
        scenario.limit = true;
        scenario.fault_percent = 0;
        // A batch that waits for room in flight gathers more than its linger's worth.
        scenario.requests = 20;
        scenario.ttl_millis = 30_000;
        let (_, stream, _) = simulate(&scenario);
        for ((shard, second), count) in stream.per_second {
            prop_assert!(count <= 1_000, "{count} records for {shard} in second {second}");
        }
    }

    /// Two runs of one scenario are the same run.
    #[test]
    fn a_run_is_a_function_of_its_seed(scenario in scenarios()) {
        let (one, stream_one, _) = simulate(&scenario);
        let (two, stream_two, _) = simulate(&scenario);
        prop_assert_eq!(one.snapshot(0).account.ledger, two.snapshot(0).account.ledger);
        prop_assert_eq!(stream_one.stored, stream_two.stored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Loads that share their bounds: together they keep them, none starves, and all room comes back.
    #[test]
    fn loads_share_one_room(one in scenarios(), two in scenarios(), requests in 1_usize..4, backlog in prop::sample::select(vec![100_u64, 2_000])) {
        let scenarios = [one, two].map(|scenario| Scenario {
            requests,
            backlog,
            fault_percent: scenario.fault_percent.min(5),
            ttl_millis: 30_000,
            attempts: 1_000,
            ..scenario
        });
        let room = room(&scenarios[0]);
        let mut engines = scenarios.each_ref().map(|scenario| engine(scenario, &room, Told::default()));
        let mut encoders = engines.each_ref().map(Engine::encoder);
        let mut streams = scenarios.each_ref().map(Stream::new);
        let mut air: BTreeMap<(Nanos, usize, u64), (Request, Answer)> = BTreeMap::new();
        let mut now = 0;
        while !engines.iter().all(Engine::is_done) {
            for (place, (engine, stream)) in engines.iter_mut().zip(&mut streams).enumerate() {
                while let Some(request) = engine.poll(now) {
                    let latency = 1 + stream.draws.bits(stream.requests ^ 0xABCD) % (40 * MILLISECOND);
                    let body = encoders[place].encode(&request, Vec::new());
                    let answer = stream.answer(&request, &body, now);
                    air.insert((now + latency, place, stream.requests), (request, answer));
                }
            }
            // One load is given up in its middle, as when its stream hangs; the other goes on.
            if scenarios[0].stop_early && now >= scenarios[0].millis * MILLISECOND / 2 && !engines[0].is_done() {
                engines[0].abandon(now);
                air.retain(|(_, place, _), _| *place == 1);
            }
            prop_assert!(air.len() <= requests, "{} in flight", air.len());
            let open = |place: &usize| scenarios[*place].drive != Drive::ClosedLoop;
            let unsettled: u64 = (0..2).filter(open).map(|place| engines[place].snapshot(now).unsettled).sum();
            prop_assert!(unsettled <= backlog, "{unsettled} unsettled");
            if engines.iter().all(Engine::is_done) {
                break;
            }
            let wakes = engines.iter_mut().filter(|engine| !engine.is_done()).filter_map(Engine::next_wake);
            let next = wakes.chain(air.keys().next().map(|key| key.0)).min().expect("the run goes on");
            now = now.max(next);
            prop_assert!(now < 2_000 * SECOND, "the run does not end");
            while let Some(entry) = air.first_entry().filter(|entry| entry.key().0 <= now) {
                let ((_, place, _), (request, answer)) = entry.remove_entry();
                engines[place].settle(request, answer, now);
            }
        }
        prop_assert!(room.is_free(), "{room:?}");
        for engine in &engines {
            prop_assert!(engine.snapshot(now).balances());
        }
    }
}

/// The same seed makes the same records, however many engines share the run.
#[test]
fn engines_share_the_records_out() {
    let records = |of: u64| {
        let mut all = Vec::new();
        for index in 0..of {
            let scenario = Scenario {
                thousandths: 5_000_000,
                millis: 400,
                shards: 4,
                aggregate: false,
                keys: "uniform",
                limit: false,
                fault_percent: 0,
                reshard: false,
                ttl_millis: 30_000,
                attempts: 3,
                backlog: 100_000,
                requests: 10,
                stop_early: false,
                drive: Drive::Constant,
                warmup_millis: 0,
                steered: false,
                seed: 11,
            };
            let mut config_engine = engine_with_stride(&scenario, Stride { index, of });
            let mut encoder = config_engine.encoder();
            let mut now = 0;
            while !config_engine.is_done() {
                while let Some(request) = config_engine.poll(now) {
                    for entry in Stored::read_body(&encoder.encode(&request, Vec::new())) {
                        all.extend(entry.records.into_iter().map(|record| (record.key, record.data)));
                    }
                    let accepted = vec![EntryAnswer::Accepted(ShardId(0)); request.entries().len()];
                    config_engine.settle(request, Answer::Entries(accepted), now);
                }
                now += MILLISECOND;
            }
        }
        all.sort();
        all
    };
    let whole = records(1);
    assert_eq!(whole.len(), 2_000);
    assert!(whole == records(3));
}

fn engine_with_stride(scenario: &Scenario, stride: Stride) -> Engine {
    let source = source(scenario);
    let rate = Rate::from_thousandths(scenario.thousandths).unwrap();
    Engine::new(EngineConfig {
        stream: StreamRef::Name("s".into()),
        stream_place: 0,
        wire: Wire::PutRecords(Form::Json),
        map: ShardMap::even(scenario.shards),
        pace: Pace::Open(constant(rate).until(scenario.millis * MILLISECOND)),
        stride,
        source,
        feed: None,
        witness: None,
        packing: Packing::Single,
        batch: BatchBounds { entries: 500, bytes: 100_000, linger: 10 * MILLISECOND },
        limits: Limits::None,
        retry: RetryPolicy { record_ttl: SECOND, max_attempts: 3, backoff: 1, max_backoff: 1 },
        room: Arc::new(Room::new(Bounds {
            backlog: scenario.backlog,
            requests: scenario.requests,
            bytes: 1 << 20,
        })),
        warmup: 0,
        seed: scenario.seed,
    })
}
