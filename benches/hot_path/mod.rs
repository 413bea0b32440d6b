//! What the benches of the hot path have in common: an engine as a run with the default settings has it, into
//! eight shards as fast as requests are answered, and the answers of a stream that stores everything.

use std::sync::Arc;
use tickgen::kinesis::protocol::{Form, StreamRef};
use tickgen::kinesis::{Answer, EntryAnswer, ShardId, ShardMap};
use tickgen::load::{MILLISECOND, Nanos, SECOND, Stride};
use tickgen::producer::{
    AggregateSize, BatchBounds, Bounds, Engine, EngineConfig, Pace, Packing, Request, RetryPolicy, Room,
    ShardQuota, Wire,
};
use tickgen::tick::{EventTime, KeyKind, Keys, Market, Source, Ticks, TimeZone};

const SEED: u64 = 42;
const START: Nanos = 1_795_373_640 * SECOND;
const RESULT: &str = r#"{"SequenceNumber":"49671000000000000000000000000000000000000000000000000002","ShardId":"shardId-000000000000"}"#;

/// The open shards.
pub(crate) fn shards() -> ShardMap {
    ShardMap::even(8)
}

/// The default records.
pub(crate) fn source() -> Source {
    let tickers = ["AAPL", "AMZN", "MSFT", "INTC", "TBV"].map(str::to_owned);
    let time = EventTime::new(0, TimeZone::Utc);
    let ticks = Ticks::new(SEED, Market::Random, &tickers, None, time).expect("the default payload");
    let keys = Keys::new(&KeyKind::Uniform, SEED, &ticks);
    let mut source = Source::new(ticks, keys);
    source.starts_at(START);
    source
}

/// An engine that makes records for ever.
pub(crate) fn engine(aggregate: bool, form: Form) -> Engine {
    let source = source();
    let size = AggregateSize::new(source.key_count(), source.explicit());
    let aggregates = Packing::Aggregate { size, full: 51_200, linger: 10 * MILLISECOND };
    let mut config = EngineConfig {
        stream: StreamRef::Name("ticks".to_owned()),
        stream_place: 0,
        wire: Wire::PutRecords(form),
        map: shards(),
        pace: Pace::Arriving,
        stride: Stride::WHOLE,
        source,
        feed: None,
        witness: None,
        packing: if aggregate { aggregates } else { Packing::Single },
        batch: BatchBounds { entries: 500, bytes: 4 << 20, linger: 10 * MILLISECOND },
        // Every entry is admitted, but not before its shard was asked.
        limits: Some(ShardQuota::of_shard(10_000.0, 60_000)).into(),
        retry: RetryPolicy {
            record_ttl: 30 * SECOND,
            max_attempts: 100,
            backoff: 50 * MILLISECOND,
            max_backoff: 2 * SECOND,
        },
        room: Arc::new(Room::new(Bounds { backlog: 1_000_000, requests: 64, bytes: 64 << 20 })),
        warmup: 0,
        seed: SEED,
    };
    config.pace = Pace::Closed { total: u64::MAX, until: Nanos::MAX, waiting: config.most_waiting() };
    Engine::new(config)
}

/// The answer to a request of which every entry was stored where it was meant to be.
pub(crate) fn accepted(request: &Request) -> Answer {
    let stored = |slot: u32| EntryAnswer::Accepted(ShardId(u64::from(slot)));
    Answer::Entries(request.entries().iter().map(|entry| stored(entry.slot)).collect())
}

/// The body of an answer in which so many entries were stored.
pub(crate) fn answer_body(entries: usize, form: Form) -> Vec<u8> {
    match form {
        Form::Json => {
            let results = vec![RESULT; entries].join(",");
            format!(r#"{{"FailedRecordCount":0,"Records":[{results}]}}"#).into_bytes()
        }
        Form::Cbor => cbor_answer(entries).expect("a Vec takes what is written to it"),
    }
}

fn cbor_answer(entries: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.map(2)?.str("FailedRecordCount")?.u8(0)?;
    encoder.str("Records")?.array(entries as u64)?;
    for _ in 0..entries {
        encoder
            .map(2)?
            .str("SequenceNumber")?
            .str("49671000000000000000000000000000000000000000000000000002")?;
        encoder.str("ShardId")?.str("shardId-000000000000")?;
    }
    Ok(encoder.into_writer())
}
