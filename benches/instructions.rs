//! Records through the hot path and nothing else, to have their instructions counted: `.ci/instructions` runs this
//! under callgrind.
//!
//! `instructions CASE RECORDS` warms up, then takes RECORDS or a few more through poll, encode, reading the answer
//! and settle, and prints how many they were and how often they asked for memory. `instructions whole RECORDS FLAGS`
//! is a whole run with these flags, with signing, HTTP, snapshots and the null endpoint, whose memory counts too.

mod hot_path;

use bytes::Bytes;
use hot_path::{accepted, answer_body, engine};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tickgen::cli;
use tickgen::config::Settings;
use tickgen::kinesis::Answer;
use tickgen::kinesis::null::NullEndpoint;
use tickgen::kinesis::protocol::{Form, read_answer};
use tickgen::load::{MILLISECOND, Nanos};
use tickgen::plan::Plan;
use tickgen::producer::{Encoder, Engine};
use tickgen::run::{Signals, run};

/// Records until buffers have their sizes.
const WARMUP: u64 = 100_000;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is; every call is the system's, as it came")]
// SAFETY: as `System`'s, to which each call goes unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

/// An engine with all that a request meets on its way.
struct HotPath {
    engine: Engine,
    encoder: Encoder,
    form: Form,
    next: Vec<u8>,
    // Answers by their number of entries, read as if they had come; what is settled is by the right shards.
    answers: HashMap<usize, Vec<u8>>,
    now: Nanos,
}

impl HotPath {
    fn new(aggregate: bool, form: Form) -> Self {
        let engine = engine(aggregate, form);
        let encoder = engine.encoder();
        let answers = HashMap::new();
        Self { engine, encoder, form, next: Vec::new(), answers, now: 0 }
    }

    /// At least so many records in whole requests; tells how many.
    fn run(&mut self, records: u64) -> u64 {
        let mut done = 0;
        while done < records {
            done += self.request();
        }
        done
    }

    fn request(&mut self) -> u64 {
        self.now += MILLISECOND;
        let request = self.engine.poll(self.now).expect("a closed loop that was answered has a request");
        let body = black_box(self.encoder.encode(&request, std::mem::take(&mut self.next)));
        self.reuse(body);
        let entries = request.entries().len();
        let answer = self.answers.entry(entries).or_insert_with(|| answer_body(entries, self.form));
        assert!(matches!(read_answer(answer, self.form), Answer::Entries(read) if read.len() == entries));
        let (records, answer) = (request.records().len() as u64, accepted(&request));
        self.engine.settle(request, answer, self.now);
        records
    }

    /// As the lane does with the body of a request that was sent.
    fn reuse(&mut self, body: Bytes) {
        self.next = Vec::from(body);
        self.next.clear();
    }
}

/// As many records as fast as they go through the whole of tickgen; tells how many were acked.
fn whole_run(records: &str, flags: &[String]) -> u64 {
    let endpoint = NullEndpoint::start(false, Duration::ZERO).expect("a port of this machine");
    let url = endpoint.url();
    let to = ["tickgen", "--stream", "null", "--region", "us-east-1", "--endpoint-url", &url];
    let load = ["--rps", "max", "--records", records, "--shard-limit", "none", "--stamp", "none", "--quiet"];
    let args = to.into_iter().chain(load).chain(flags.iter().map(String::as_str));
    let cli = cli::parse(args.map(Into::into)).unwrap_or_else(|error| error.exit());
    let (settings, mistakes) = Settings::layer(None, [], cli.flags);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let plan = Plan::new(&settings, 1).expect("flags of a run");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let summary = runtime.block_on(async {
        let signals = Signals::listen(false).expect("signals can be listened for");
        Box::pin(run(&plan, signals)).await.expect("a run to its end")
    });
    let figures = &summary.figures;
    assert_eq!((figures.acked.to_string().as_str(), figures.retried_entries), (records, 0), "all at once");
    figures.acked
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [case, records, flags @ ..] = args.as_slice()
        && case == "whole"
    {
        let acked = whole_run(records, flags);
        return println!("{acked} {}", ALLOCATIONS.load(Ordering::Relaxed));
    }
    let [case, records] = args.as_slice() else {
        panic!("usage: instructions CASE RECORDS, or instructions whole RECORDS FLAGS")
    };
    let (aggregate, form) = match case.as_str() {
        "single" => (false, Form::Json),
        "single_cbor" => (false, Form::Cbor),
        "aggregate" => (true, Form::Json),
        "aggregate_cbor" => (true, Form::Cbor),
        _ => panic!("a case is single, single_cbor, aggregate or aggregate_cbor"),
    };
    let mut path = HotPath::new(aggregate, form);
    path.run(WARMUP);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let done = path.run(records.parse().expect("a number of records"));
    println!("{done} {}", ALLOCATIONS.load(Ordering::Relaxed) - before);
}
