//! Every class of failure, against a scripted fake of the send step in paused time, and against
//! sockets that misbehave.

use crate::harness::Stored;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tickgen::kinesis::protocol::{BodyWriter, Form, StreamRef};
use tickgen::kinesis::{
    Answer, BodyHash, Client, ClientConfig, EntryAnswer, EntryError, PutRecords, Reach, RequestError,
    RequestErrorKind, ShardId, ShardMap,
};
use tickgen::load::{Arrivals, MILLISECOND, Nanos, Rate, SECOND, Schedule, Shape, Stride};
use tickgen::producer::aggregate::AggregateSize;
use tickgen::producer::{
    BatchBounds, Bounds, Cause, Ending, EngineConfig, Limits, Pace, Packing, Producer, RetryPolicy, Room,
    Snapshot, SteerError, Wire,
};
use tickgen::tick::{EventTime, Keys, Market, Source, Ticks, TimeZone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What the fake does with the n-th request (from 0) of so many entries, and how long it takes.
type Script = Box<dyn FnMut(usize, usize) -> (Duration, Answer) + Send>;

#[derive(Clone)]
struct Fake {
    script: Arc<Mutex<(usize, Script)>>,
    stored: Arc<Mutex<HashMap<Vec<u8>, u32>>>,
    keeps: bool,
}

impl Fake {
    fn new(script: impl FnMut(usize, usize) -> (Duration, Answer) + Send + 'static) -> Self {
        Self { script: Arc::new(Mutex::new((0, Box::new(script)))), stored: Arc::default(), keeps: true }
    }

    /// Accepts everything, and only counts it.
    fn counting(count: impl Fn(usize) + Send + 'static) -> Self {
        let mut fake = Self::new(move |_, entries| {
            count(entries);
            (QUICK, accepted(entries))
        });
        fake.keeps = false;
        fake
    }

    fn duplicates(&self) -> u64 {
        self.stored.lock().unwrap().values().map(|&times| u64::from(times) - 1).sum()
    }
}

impl PutRecords for Fake {
    const SIGNED: bool = false;

    async fn put_records(&self, body: Bytes, _: Option<BodyHash>) -> Answer {
        let entries = Stored::read_body(&body);
        let (latency, answer) = {
            let mut script = self.script.lock().unwrap();
            script.0 += 1;
            let n = script.0 - 1;
            (script.1)(n, entries.len())
        };
        let stored = |place: usize| match &answer {
            Answer::Entries(answers) => !matches!(answers.get(place), Some(EntryAnswer::Rejected(_))),
            Answer::Failed(error) => error.kind.leaves_fate_open(),
        };
        let kept = entries.into_iter().enumerate().filter(|(place, _)| self.keeps && stored(*place));
        for (_, entry) in kept {
            for record in entry.records {
                *self
                    .stored
                    .lock()
                    .unwrap()
                    .entry([record.key.into_bytes(), record.data].concat())
                    .or_default() += 1;
            }
        }
        tokio::time::sleep(latency).await;
        answer
    }
}

fn accepted(entries: usize) -> Answer {
    Answer::Entries(vec![EntryAnswer::Accepted(ShardId(0)); entries])
}

fn failed(kind: RequestErrorKind) -> Answer {
    Answer::Failed(RequestError { kind, text: "scripted".into() })
}

const QUICK: Duration = Duration::from_millis(3);

fn constant(rate: Rate) -> Schedule {
    Schedule::new(Shape::constant(rate), Arrivals::Even, 0)
}

fn room(backlog: u64, requests: usize) -> Arc<Room> {
    Arc::new(Room::new(Bounds { backlog, requests, bytes: 32 << 20 }))
}

fn config(records: u64) -> EngineConfig {
    let ticks =
        Ticks::new(1, Market::Random, &["AMZN".to_owned()], None, EventTime::new(0, TimeZone::Utc)).unwrap();
    let keys = Keys::new(&"uniform".parse().unwrap(), 1, &ticks);
    let rate = Rate::from_thousandths(1_000_000).unwrap();
    EngineConfig {
        stream: StreamRef::Name("s".into()),
        stream_place: 0,
        wire: Wire::PutRecords(Form::Json),
        map: ShardMap::even(1),
        pace: Pace::Open(constant(rate).records(records)),
        stride: Stride::WHOLE,
        source: Source::new(ticks, keys),
        feed: None,
        witness: None,
        packing: Packing::Single,
        batch: BatchBounds { entries: 500, bytes: 1 << 20, linger: 10 * MILLISECOND },
        limits: Limits::None,
        retry: RetryPolicy {
            record_ttl: 30 * SECOND,
            max_attempts: 100,
            backoff: 50 * MILLISECOND,
            max_backoff: 2 * SECOND,
        },
        room: room(10_000, 16),
        warmup: 0,
        seed: 1,
    }
}

const DRAIN: Nanos = 10 * SECOND;

async fn run_to_end(config: EngineConfig, fake: &Fake) -> (Snapshot, Ending) {
    let mut producer = Producer::start(vec![(config, fake.clone())], Instant::now(), DRAIN);
    let ending = producer.finished().await;
    (producer.observer().snapshot(), ending)
}

#[tokio::test(start_paused = true)]
async fn request_errors_that_pass_are_retried_until_all_is_acked() {
    for kind in RequestErrorKind::ALL.into_iter().filter(|&kind| kind != RequestErrorKind::Fatal) {
        let fake = Fake::new(move |n, entries| (QUICK, if n < 5 { failed(kind) } else { accepted(entries) }));
        let (snapshot, ending) = run_to_end(config(2_000), &fake).await;
        let ledger = &snapshot.account.ledger;
        assert!(ending.fatal.is_none() && snapshot.balances(), "{kind:?}: {ledger:?}");
        assert_eq!((ledger.acked, ledger.lost()), (2_000, 0), "{kind:?}");
        assert!(snapshot.account.retried_entries > 0, "{kind:?}");
        // Where the fate was open, every resent record is owned up to, and here each was a duplicate.
        assert_eq!(ledger.possible_duplicates > 0, kind.leaves_fate_open(), "{kind:?}");
        assert!(fake.duplicates() >= ledger.possible_duplicates, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_failed_entries_are_sent_again() {
    let fake = Fake::new(|n, entries| {
        let answer = |place: usize| match (place + n) % 4 {
            0 => EntryAnswer::Rejected(EntryError::Throttled),
            1 => EntryAnswer::Rejected(EntryError::InternalFailure),
            _ => EntryAnswer::Accepted(ShardId(0)),
        };
        (QUICK, Answer::Entries((0..entries).map(answer).collect()))
    });
    let (snapshot, _) = run_to_end(config(2_000), &fake).await;
    assert!(snapshot.balances());
    assert_eq!(snapshot.account.ledger.acked, 2_000);
    assert_eq!(snapshot.account.ledger.possible_duplicates, 0);
    assert_eq!((fake.duplicates(), fake.stored.lock().unwrap().len()), (0, 2_000));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_acks_nothing() {
    for wrong in [-1_isize, 1] {
        let fake = Fake::new(move |n, entries| {
            (QUICK, accepted(if n == 0 { entries.wrapping_add_signed(wrong) } else { entries }))
        });
        let (snapshot, _) = run_to_end(config(500), &fake).await;
        let ledger = &snapshot.account.ledger;
        assert!(snapshot.balances());
        assert_eq!(ledger.acked, 500);
        assert!(ledger.possible_duplicates > 0);
        let malformed = tickgen::producer::RequestOutcome::Failed(RequestErrorKind::Malformed);
        assert_eq!(snapshot.account.requests.of(malformed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_ends_the_run_and_settles_everything() {
    let fake = Fake::new(|n, entries| {
        (QUICK, if n < 3 { accepted(entries) } else { failed(RequestErrorKind::Fatal) })
    });
    let (snapshot, ending) = run_to_end(config(u64::MAX), &fake).await;
    let ledger = &snapshot.account.ledger;
    assert_eq!(ending.fatal.unwrap().text, "scripted");
    assert!(snapshot.balances() && ledger.acked > 0 && ledger.failed > 0, "{ledger:?}");
    assert_eq!(ledger.failed, ledger.lost_by(Cause::Request(RequestErrorKind::Fatal)), "{ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn records_expire_at_an_endpoint_that_always_throttles() {
    let fake = Fake::new(|_, entries| {
        (QUICK, Answer::Entries(vec![EntryAnswer::Rejected(EntryError::Throttled); entries]))
    });
    let mut config = config(100);
    config.retry.record_ttl = 3 * SECOND;
    let (snapshot, _) = run_to_end(config, &fake).await;
    let ledger = &snapshot.account.ledger;
    assert!(snapshot.balances());
    assert_eq!((ledger.acked, ledger.expired, ledger.failed), (0, 100, 0));
    assert_eq!(ledger.lost_by(Cause::Entry(EntryError::Throttled)), 100);
}

#[tokio::test(start_paused = true)]
async fn records_fail_when_their_attempts_are_used_up() {
    let sends = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&sends);
    let fake = Fake::new(move |_, entries| {
        *counter.lock().unwrap() += entries;
        (QUICK, Answer::Entries(vec![EntryAnswer::Rejected(EntryError::InternalFailure); entries]))
    });
    let mut config = config(100);
    config.retry.max_attempts = 4;
    let (snapshot, _) = run_to_end(config, &fake).await;
    assert!(snapshot.balances());
    assert_eq!((snapshot.account.ledger.failed, *sends.lock().unwrap()), (100, 400));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_fills_its_bounds_and_no_more() {
    let in_air = Arc::new(Mutex::new(0_usize));
    let counter = Arc::clone(&in_air);
    let fake = Fake::new(move |_, _| {
        *counter.lock().unwrap() += 1;
        (Duration::MAX, accepted(0))
    });
    let mut config = config(60_000);
    config.room = room(1_000, 4);
    let (snapshot, _) = run_to_end(config, &fake).await;
    let ledger = &snapshot.account.ledger;
    assert!(snapshot.balances(), "{ledger:?}");
    assert_eq!((*in_air.lock().unwrap(), ledger.acked), (4, 0));
    assert!(ledger.dropped > 50_000, "{ledger:?}");
    assert_eq!(ledger.lost(), ledger.lost_by(Cause::Unanswered) + ledger.lost_by(Cause::NeverSent));
    assert!(ledger.expired > 0, "what waits expires: {ledger:?}");
}

/// Two loads at 1000/s each for as long as ten seconds of schedule.
fn two_loads(fake: &Fake) -> Producer {
    let load = || {
        let mut own = config(u64::MAX);
        own.pace = Pace::Open(constant(Rate::from_thousandths(1_000_000).unwrap()).until(10 * SECOND));
        (own, fake.clone())
    };
    Producer::start(vec![load(), load()], Instant::now(), DRAIN)
}

#[tokio::test(start_paused = true)]
async fn a_running_producer_takes_another_rate_and_pauses() {
    use tickgen::producer::SteerAction::{Pause, Rate, Resume};
    let fake = Fake::new(|_, entries| (QUICK, accepted(entries)));
    let mut producer = two_loads(&fake);
    let (steering, observer) = (producer.steering(), producer.observer());
    tokio::time::sleep(Duration::from_secs(2)).await;
    steering.set_rate(Some("500".parse().unwrap())).unwrap();
    steering.obeyed().await;
    // What was told is seen at once, and shared by the loads.
    let loads = observer.loads();
    assert_eq!(loads.iter().map(|load| load.target_rps).collect::<Vec<_>>(), [Some(250.0), Some(250.0)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    steering.pause().unwrap();
    steering.obeyed().await;
    let paused = observer.snapshot();
    assert_eq!((paused.paused, paused.target_rps, paused.schedule_rps), (true, Some(0.0), Some(500.0)));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(observer.snapshot().scheduled, paused.scheduled);
    // A rate given in a pause holds after it.
    steering.set_rate(Some("3000".parse().unwrap())).unwrap();
    steering.resume().unwrap();
    steering.obeyed().await;
    assert!(producer.finished().await.fatal.is_none());
    let end = observer.snapshot();
    assert!(end.balances());
    // 2 s at 2000/s, 2 s at 500/s, 6 s at 3000/s; the first record of each load is due at 0.
    assert!(end.scheduled.abs_diff(4_000 + 1_000 + 18_000) <= 2, "{}", end.scheduled);
    assert_eq!((end.span, end.paused_for / SECOND, end.account.ledger.lost()), (10 * SECOND, 60, 0));
    assert!((end.achieved_rps() / end.scheduled_rps() - 1.0).abs() < 1e-9);
    for load in observer.loads() {
        let done: Vec<_> = load.steered.iter().map(|s| (s.at / SECOND, s.action, s.rps)).collect();
        let expected = [
            (2, Rate, Some(250.0)),
            (4, Pause, Some(0.0)),
            (64, Rate, Some(1_500.0)),
            (64, Resume, Some(1_500.0)),
        ];
        assert_eq!(done, expected);
    }
    assert_eq!(steering.pause(), Err(SteerError::Over));
}

#[tokio::test(start_paused = true)]
async fn a_running_producer_goes_to_max_and_back_and_drains_in_a_pause() {
    let fake = Fake::new(|_, entries| (QUICK, accepted(entries)));
    let mut producer = two_loads(&fake);
    let (steering, observer) = (producer.steering(), producer.observer());
    tokio::time::sleep(Duration::from_secs(1)).await;
    steering.set_rate(None).unwrap();
    steering.obeyed().await;
    assert_eq!(observer.snapshot().target_rps, None);
    tokio::time::sleep(Duration::from_millis(50)).await;
    steering.pause().unwrap();
    steering.obeyed().await;
    let fast = observer.snapshot().scheduled;
    assert!(fast > 10_000, "{fast}");
    steering.resume().unwrap();
    steering.set_rate(Some("1".parse().unwrap())).unwrap();
    steering.obeyed().await;
    let before = observer.snapshot().scheduled;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(observer.snapshot().scheduled - before <= 6, "{before} and {}", observer.snapshot().scheduled);
    steering.pause().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    steering.drain();
    assert!(producer.finished().await.fatal.is_none());
    let end = observer.snapshot();
    assert!(end.balances() && !end.paused);
    assert_eq!((end.span / SECOND, end.paused_for / SECOND), (5, 5));
    assert_eq!(end.account.ledger.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_load_takes_no_rate() {
    let mut config = config(10);
    config.pace = Pace::Arriving;
    let fake = Fake::new(|_, entries| (QUICK, accepted(entries)));
    let producer = Producer::start(vec![(config, fake)], Instant::now(), DRAIN);
    let steering = producer.steering();
    assert_eq!(steering.set_rate(None), Err(SteerError::Replayed));
    steering.pause().unwrap();
    steering.obeyed().await;
    assert!(producer.observer().snapshot().paused);
}

#[tokio::test(start_paused = true)]
async fn a_stop_drains_what_is_due_and_nothing_after_it() {
    let fake = Fake::new(|_, entries| (Duration::from_millis(400), accepted(entries)));
    let mut producer = Producer::start(vec![(config(u64::MAX), fake.clone())], Instant::now(), DRAIN);
    tokio::time::sleep(Duration::from_secs(2)).await;
    producer.steering().drain();
    producer.finished().await;
    let snapshot = producer.observer().snapshot();
    assert!(snapshot.balances());
    assert_eq!((snapshot.scheduled, snapshot.account.ledger.acked), (2_001, 2_001));
    assert_eq!(snapshot.span, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_ends_at_once_and_owns_up() {
    let fake = Fake::new(|_, entries| (Duration::from_secs(5), accepted(entries)));
    let mut producer = Producer::start(vec![(config(u64::MAX), fake.clone())], Instant::now(), DRAIN);
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    producer.steering().drain();
    tokio::time::sleep(Duration::from_secs(1)).await;
    producer.steering().abandon();
    producer.finished().await;
    let ledger = producer.observer().snapshot().account.ledger;
    assert!(begun.elapsed() < Duration::from_millis(2_100));
    assert!(producer.observer().snapshot().balances());
    // 16 requests in the air, of 10 ms' records each and one more at the start.
    let unanswered = ledger.lost_by(Cause::Unanswered);
    assert_eq!((ledger.acked, ledger.failed), (0, 1_001));
    assert_eq!((unanswered, ledger.lost_by(Cause::NeverSent)), (176, 825));
}

/// Answers held for two seconds once: response time runs from the intended start, service time does
/// not see the wait.
#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_response_time_and_not_in_service_time() {
    let begun = Instant::now();
    let fake = Fake::new(move |_, entries| {
        let since = begun.elapsed();
        let stall = Duration::from_secs(2)..Duration::from_secs(4);
        let held = if since < stall.start { Duration::ZERO } else { stall.end.saturating_sub(since) };
        (QUICK + held, accepted(entries))
    });
    let mut config = config(10_000);
    config.room = room(10_000, 1);
    let (snapshot, _) = run_to_end(config, &fake).await;
    let account = &snapshot.account;
    assert!(snapshot.balances() && account.ledger.acked == 10_000);
    let response = account.response_time.histogram();
    // 1,000/s for 10 s, held from 2 s to 4 s: a fifth of the records waits for up to 2 s, evenly.
    let late = response.count_between(100_000, 2_100_000);
    assert!((1_850..=1_950).contains(&late), "{late}");
    assert!((1_990_000..2_020_000).contains(&response.max()), "{}", response.max());
    let service = account.service_time.histogram();
    assert!(service.count_between(100_000, 2_100_000) < 20, "one request's records were held");
}

/// The same against theory, to the histogram's precision. At 1,000/s without lingering a record is sent
/// when it is due and answered 3 ms later; those due while answers are held, from 2 s to 4 s, 3 ms after
/// that. With room for one request alone they wait for it instead, and it is queue time.
#[tokio::test(start_paused = true)]
async fn a_stall_shows_as_theory_says() {
    const MS: u64 = 1_000;
    for in_flight in [10_000, 1] {
        let begun = Instant::now();
        let fake = Fake::new(move |_, entries| {
            let since = begun.elapsed();
            let stall = Duration::from_secs(2)..Duration::from_secs(4);
            let held = if since < stall.start { Duration::ZERO } else { stall.end.saturating_sub(since) };
            (if in_flight == 1 { held } else { QUICK + held }, accepted(entries))
        });
        let mut config = config(10_000);
        config.batch.linger = 0;
        config.room = room(10_000, in_flight);
        let (snapshot, _) = run_to_end(config, &fake).await;
        let account = &snapshot.account;
        assert!(snapshot.balances() && account.ledger.acked == 10_000);
        let service = if in_flight == 1 { 0 } else { 3 * MS };
        // Of the record due at each millisecond: its response, queue and service time in microseconds.
        let expected = (0..10_000).map(|ms: u64| match (ms, in_flight) {
            (2_000, 1) => [2_000 * MS, 0, 2_000 * MS],
            (2_001..4_000, 1) => [(4_000 - ms) * MS, (4_000 - ms) * MS, 0],
            (2_000..4_000, _) => [(4_000 - ms) * MS + service, 0, (4_000 - ms) * MS + service],
            _ => [service, 0, service],
        });
        let expected: Vec<[u64; 3]> = expected.collect();
        let times = [&account.response_time, &account.queue_time, &account.service_time];
        for (place, times) in times.into_iter().enumerate() {
            let mut exact: Vec<u64> = expected.iter().map(|times| times[place]).collect();
            exact.sort_unstable();
            for per_mille in [100, 500, 800, 850, 900, 950, 990, 999, 1_000] {
                let exact = exact[per_mille * 10 - 1];
                let seen = times.histogram().value_at_quantile(per_mille as f64 / 1000.0);
                // Three significant digits, and the microsecond that is the histogram's least.
                assert!(
                    seen.abs_diff(exact) <= exact / 1000 + 1,
                    "{in_flight} in flight, time {place} at {per_mille}: {seen} for {exact}"
                );
            }
        }
        assert!(
            account.schedule_lag.histogram().max() <= 1 && account.start_lateness.histogram().len() == 10_000
        );
    }
}

/// How many records are sent in each of 250 ms' worth of a run at `rate` per second.
async fn sent_over_time(rate: u64, seconds: u64) -> Vec<u64> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (counter, begun) = (Arc::clone(&sent), Instant::now());
    let fake = Fake::counting(move |entries| {
        let mut sent = counter.lock().unwrap();
        let quarter = usize::try_from(begun.elapsed().as_millis() / 250).unwrap();
        let quarters = sent.len().max(quarter + 1);
        sent.resize(quarters, 0);
        sent[quarter] += entries as u64;
    });
    let mut config = config(0);
    let schedule = constant(Rate::from_thousandths(rate * 1000).unwrap()).records(rate * seconds);
    config.pace = Pace::Open(schedule);
    config.room = room(100_000, 16);
    let (snapshot, _) = run_to_end(config, &fake).await;
    assert!(snapshot.balances());
    assert_eq!(snapshot.account.ledger.acked, rate * seconds);
    let sent = sent.lock().unwrap();
    sent.clone()
}

/// At 5,000/s records are made within a millisecond of their start, which is what Tokio's timer counts in.
/// In paused time, where nothing but the lane's own timing is measured.
#[tokio::test(start_paused = true)]
async fn records_are_made_within_a_millisecond_of_their_start() {
    let mut config = config(0);
    config.pace = Pace::Open(constant(Rate::from_thousandths(5_000_000).unwrap()).records(25_000));
    config.room = room(100_000, 64);
    let (snapshot, _) = run_to_end(config, &Fake::counting(|_| ())).await;
    let lateness = snapshot.account.start_lateness.histogram();
    assert_eq!(lateness.len(), 25_000);
    assert!(lateness.value_at_quantile(0.99) <= 1_001, "{} us", lateness.value_at_quantile(0.99));
}

/// Records of aggregates are made in lots, for each fifth of what they linger; 10 ms at most.
#[tokio::test(start_paused = true)]
async fn records_of_aggregates_are_made_within_a_part_of_their_linger() {
    for (linger, most) in [(20, 4), (30, 6), (50, 10), (1_000, 10)] {
        let mut config = config(0);
        let linger = linger * MILLISECOND;
        config.packing = Packing::Aggregate { size: AggregateSize::new(0, false), full: 51_200, linger };
        config.batch.linger = linger;
        config.pace = Pace::Open(constant(Rate::from_thousandths(100_000_000).unwrap()).records(200_000));
        config.room = room(400_000, 64);
        let (snapshot, _) = run_to_end(config, &Fake::counting(|_| ())).await;
        let lateness = snapshot.account.start_lateness.histogram();
        assert_eq!(lateness.len(), 200_000);
        let (median, highest) = (lateness.value_at_quantile(0.5), lateness.value_at_quantile(0.99));
        assert!(highest <= most * 1_000 + 1_005, "{highest} us with {linger}");
        // They do wait for each other.
        assert!(median >= most * 1_000 / 4, "{median} us with {linger}");
    }
}

/// The rate over any ten seconds: within 0.1 % at 5,000/s and within 0.5 % at 100,000/s. In paused time,
/// where nothing but the lane's own timing is measured; docs/PERFORMANCE.md has the real clock's figures.
#[tokio::test(start_paused = true)]
async fn the_rate_is_held_over_any_ten_seconds() {
    for (rate, per_mille) in [(5_000, 1), (100_000, 5)] {
        let sent = sent_over_time(rate, 15).await;
        // The first linger begins late, the last ends early: whole windows between them.
        for window in sent[1..sent.len() - 1].windows(40) {
            let records: u64 = window.iter().sum();
            assert!(records.abs_diff(rate * 10) <= rate * 10 * per_mille / 1000, "{records} at {rate}/s");
        }
    }
}

/// What a misbehaving server does with one connection.
#[derive(Clone, Copy, Debug)]
enum Socket {
    Answer(&'static str, &'static str),
    CutBeforeAnswer,
    CutInBody,
    CutInRequest,
    Silence,
}

async fn misbehave(mut socket: TcpStream, how: Socket) {
    let mut buffer = vec![0; 64 * 1024];
    if matches!(how, Socket::CutInRequest) {
        let _ = socket.read(&mut buffer[..10]).await;
        return;
    }
    // The test's requests are small: one read after the headers has them whole.
    let mut seen = Vec::new();
    while !seen.ends_with(b"}") {
        let Ok(read @ 1..) = socket.read(&mut buffer).await else { return };
        seen.extend_from_slice(&buffer[..read]);
    }
    let response = match how {
        Socket::Answer(status, body) => {
            format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        Socket::CutInBody => "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"Records\":[".to_owned(),
        Socket::Silence => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            return;
        }
        Socket::CutBeforeAnswer | Socket::CutInRequest => return,
    };
    let _ = socket.write_all(response.as_bytes()).await;
    let _ = socket.shutdown().await;
}

async fn client(port: u16) -> Client {
    let config = ClientConfig {
        stream: StreamRef::Name("s".into()),
        reach: Reach::Loopback {
            url: format!("http://127.0.0.1:{port}"),
            region: "us-east-1",
            key: "key",
            secret: "secret",
            certificate: None,
        },
        form: Form::Json,
        max_connections: 4,
        connect_timeout: Duration::from_secs(2),
        // Long enough for a busy machine to answer in, where the server does answer.
        attempt_timeout: Duration::from_secs(4),
    };
    Client::connect(&config).await.unwrap()
}

fn body() -> Bytes {
    let mut writer = BodyWriter::new(&StreamRef::Name("s".into()), Form::Json);
    writer.entry(b"data", b"key", None);
    writer.finish(Vec::new())
}

async fn answer_of(how: Socket) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(listener.local_addr().unwrap().port()).await;
    let server = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            misbehave(socket, how).await;
        }
    };
    tokio::select! {
        () = server => unreachable!(),
        answer = client.put_records(body(), None) => answer,
    }
}

#[tokio::test]
async fn misbehaving_sockets_are_told_for_what_they_are() {
    use RequestErrorKind as Kind;
    for (how, kind) in [
        (Socket::CutBeforeAnswer, Kind::ConnectionCut),
        (Socket::CutInBody, Kind::ConnectionCut),
        (Socket::CutInRequest, Kind::ConnectionCut),
        (Socket::Silence, Kind::TimedOut),
        (Socket::Answer("200 OK", "{\"Records\":[{\"ShardId\""), Kind::Malformed),
        (Socket::Answer("200 OK", ""), Kind::Malformed),
        (Socket::Answer("200 OK", "<html>"), Kind::Malformed),
        (Socket::Answer("500 Internal Server Error", "{\"__type\":\"InternalFailure\"}"), Kind::ServerError),
        (Socket::Answer("503 Service Unavailable", "busy"), Kind::ServerError),
        (
            Socket::Answer("400 Bad Request", "{\"__type\":\"ProvisionedThroughputExceededException\"}"),
            Kind::Throttled,
        ),
        (
            Socket::Answer(
                "400 Bad Request",
                "{\"__type\":\"com.amazonaws.kinesis#KMSThrottlingException\"}",
            ),
            Kind::Throttled,
        ),
        (
            Socket::Answer(
                "400 Bad Request",
                "{\"__type\":\"ResourceNotFoundException\",\"message\":\"gone\"}",
            ),
            Kind::Fatal,
        ),
        (Socket::Answer("400 Bad Request", "{\"__type\":\"AccessDeniedException\"}"), Kind::Fatal),
        (Socket::Answer("400 Bad Request", "{\"__type\":\"UnrecognizedClientException\"}"), Kind::Fatal),
        (Socket::Answer("400 Bad Request", "{\"__type\":\"ExpiredTokenException\"}"), Kind::Fatal),
        (Socket::Answer("400 Bad Request", "{\"__type\":\"ValidationException\"}"), Kind::Fatal),
        (Socket::Answer("403 Forbidden", "no"), Kind::Fatal),
    ] {
        match answer_of(how).await {
            Answer::Failed(error) => assert_eq!(error.kind, kind, "{how:?}: {error}"),
            Answer::Entries(entries) => panic!("{how:?}: {entries:?}"),
        }
    }
}

#[tokio::test]
async fn a_good_answer_is_read_entry_by_entry() {
    let body = "{\"FailedRecordCount\":0,\"Records\":[{\"SequenceNumber\":\"1\",\"ShardId\":\"shardId-000000000007\"}]}";
    assert_eq!(
        answer_of(Socket::Answer("200 OK", body)).await,
        Answer::Entries(vec![EntryAnswer::Accepted(ShardId(7))])
    );
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let Answer::Failed(error) = client(port).await.put_records(body(), None).await else { panic!() };
    assert_eq!(error.kind, RequestErrorKind::NotSent, "{error}");
}

#[tokio::test]
async fn fatal_errors_say_what_to_do() {
    let how = Socket::Answer(
        "400 Bad Request",
        "{\"__type\":\"ResourceNotFoundException\",\"message\":\"Stream s not found\"}",
    );
    let Answer::Failed(error) = answer_of(how).await else { panic!() };
    assert_eq!(
        error.text,
        "ResourceNotFoundException: Stream s not found. Check --stream, --region and the account of your \
         credentials (aws kinesis list-streams)."
    );
}
