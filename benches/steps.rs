//! The steps of the hot path one by one, in records per second: `cargo bench --bench steps`, or one of them by
//! `cargo bench --bench steps -- encode`.
//!
//! Nothing of this is held by CI, as times differ with machines: `benches/instructions.rs` is.

#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]
#![allow(clippy::disallowed_methods, reason = "a bench looks at the clock")]

mod hot_path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hot_path::{accepted, answer_body, engine, shards, source};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tickgen::kinesis::md5::LANES;
use tickgen::kinesis::protocol::{Form, read_answer};
use tickgen::load::{MILLISECOND, Nanos};
use tickgen::producer::{Engine, Request};

/// Requests are this far apart.
const STEP: Nanos = MILLISECOND;
const FORMS: [(&str, Form); 2] = [("json", Form::Json), ("cbor", Form::Cbor)];
const PACKINGS: [(&str, bool); 2] = [("single", false), ("aggregate", true)];

/// Payload and partition key of one record.
fn generate(criterion: &mut Criterion) {
    let (mut source, mut out, mut n) = (source(), Vec::new(), 0);
    let mut group = criterion.benchmark_group("generate");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ticks", |bencher| {
        bencher.iter(|| {
            n += 1;
            out.clear();
            source.write_payload(n, n * 1_000, &mut out);
            source.write_key(n, n * 1_000, &mut out);
            black_box(out.len())
        });
    });
}

/// The shards of as many records as are hashed side by side.
fn place(criterion: &mut Criterion) {
    let (source, shards, mut n) = (source(), shards(), 0);
    let mut group = criterion.benchmark_group("place");
    group.throughput(Throughput::Elements(LANES as u64));
    group.bench_function("uniform", |bencher| {
        bencher.iter(|| {
            n += LANES as u64;
            let records: [_; LANES] = std::array::from_fn(|lane| (n + lane as u64, 0));
            black_box(source.places(&records, &shards))
        });
    });
}

/// An engine, warm, that is asked for one request after another.
struct Running {
    engine: Engine,
    now: Nanos,
}

impl Running {
    fn new(aggregate: bool, form: Form) -> Self {
        let mut running = Self { engine: engine(aggregate, form), now: 0 };
        for _ in 0..10 {
            let request = running.poll();
            running.settle(request);
        }
        running
    }

    fn poll(&mut self) -> Request {
        self.now += STEP;
        self.engine.poll(self.now).expect("a closed loop that was answered has a request")
    }

    fn settle(&mut self, request: Request) {
        let answer = accepted(&request);
        self.engine.settle(request, answer, self.now);
    }

    /// How many records its requests have, about.
    fn records(&mut self) -> u64 {
        let request = self.poll();
        let records = request.records().len();
        self.settle(request);
        records as u64
    }
}

/// From nothing to a request: records made, placed, queued for their shards, admitted and batched, or packed
/// into aggregates before that.
fn batch(criterion: &mut Criterion) {
    for (name, (_, aggregate)) in ["batch_and_admit", "aggregate"].into_iter().zip(PACKINGS) {
        let mut running = Running::new(aggregate, Form::Json);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(running.records()));
        group.bench_function("request", |bencher| {
            bencher.iter_custom(|times| {
                let timed = |_| {
                    let began = Instant::now();
                    let request = running.poll();
                    let took = began.elapsed();
                    running.settle(request);
                    took
                };
                (0..times).map(timed).sum::<Duration>()
            });
        });
    }
}

/// The body of a request, records made anew.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (packing, aggregate) in PACKINGS {
        for (form_name, form) in FORMS {
            let mut running = Running::new(aggregate, form);
            let (request, mut encoder) = (running.poll(), running.engine.encoder());
            let mut next = Vec::new();
            group.throughput(Throughput::Elements(request.records().len() as u64));
            group.bench_function(BenchmarkId::new(packing, form_name), |bencher| {
                bencher.iter(|| {
                    let body = encoder.encode(&request, std::mem::take(&mut next));
                    next = Vec::from(body);
                    next.clear();
                });
            });
        }
    }
}

/// An answer of 500 entries, all stored.
fn answer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements(500));
    for (name, form) in FORMS {
        let body = answer_body(500, form);
        group.bench_function(name, |bencher| bencher.iter(|| read_answer(black_box(&body), form)));
    }
}

/// What an answer means for each record of its request.
fn ledger(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");
    for (packing, aggregate) in PACKINGS {
        let mut running = Running::new(aggregate, Form::Json);
        group.throughput(Throughput::Elements(running.records()));
        group.bench_function(packing, |bencher| {
            bencher.iter_custom(|times| {
                let timed = |_| {
                    let request = running.poll();
                    let answer = accepted(&request);
                    let began = Instant::now();
                    running.engine.settle(request, answer, running.now);
                    began.elapsed()
                };
                (0..times).map(timed).sum::<Duration>()
            });
        });
    }
}

criterion_group!(steps, generate, place, batch, encode, answer, ledger);
criterion_main!(steps);
