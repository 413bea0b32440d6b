mod settle;

use super::account::{Account, RequestOutcome};
use super::backlog::{Backlog, Packing, Taken};
use super::batch::{Batch, BatchBounds, Entry, FlushReason};
use super::encode::Encoder;
use super::retry::{RetryPolicy, RetryQueue};
use super::{Cause, Pace, Pacer, Record, ShardQuota, Snapshot};
use crate::kinesis::md5::LANES;
use crate::kinesis::protocol::StreamRef;
use crate::kinesis::{RequestError, ShardMap};
use crate::load::{MILLISECOND, Nanos, Stride};
use crate::tick::{Draws, Source};
use bytes::Bytes;

/// How much one engine keeps at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records that are made and not settled: waiting, or in flight and perhaps to come back.
    pub backlog: u64,
    /// Requests that wait for their answer.
    pub requests: usize,
    /// Bytes of request bodies that wait for their answer.
    pub bytes: usize,
}

/// Everything an engine is made of.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The stream that requests name.
    pub stream: StreamRef,
    /// Its open shards.
    pub map: ShardMap,
    /// What drives the load.
    pub pace: Pace,
    /// This engine's share of it.
    pub stride: Stride,
    /// What the records are.
    pub source: Source,
    /// How records become entries.
    pub packing: Packing,
    /// When a batch leaves.
    pub batch: BatchBounds,
    /// What each shard may take; `None`: no limit.
    pub quota: Option<ShardQuota>,
    /// When failed records are sent again.
    pub retry: RetryPolicy,
    /// How much is kept at most.
    pub bounds: Bounds,
    /// The seed of the run, for the jitter of retries.
    pub seed: u64,
}

/// One `PutRecords` attempt on its way.
#[derive(Debug)]
pub struct Request {
    /// The body to send.
    pub body: Bytes,
    records: Vec<Record>,
    entries: Vec<Entry>,
    sent: Nanos,
}

impl Request {
    /// The user records it carries, entry by entry.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many entries it has.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

/// The producer without a clock and without I/O: the one module that knows the order of the steps.
///
/// The caller passes in the time, sends the requests that [`Engine::poll`] gives, brings their
/// answers to [`Engine::settle`], and comes back at [`Engine::next_wake`].
#[derive(Debug)]
pub struct Engine {
    pacer: Pacer,
    source: Source,
    backlog: Backlog,
    retries: RetryQueue,
    batch: Batch,
    retry: RetryPolicy,
    bounds: Bounds,
    jitter: Draws,
    account: Account,
    // The place in the account of each slot of the backlog.
    accounts: Vec<usize>,
    in_flight: InFlight,
    encoder: Encoder,
    expired: Vec<Record>,
    on_time: Nanos,
    last_issue: Nanos,
    next_sweep: Nanos,
    draining: bool,
    map_is_stale: bool,
    fatal: Option<RequestError>,
}

#[derive(Debug, Default)]
struct InFlight {
    requests: usize,
    bytes: usize,
    records: u64,
}

/// How often records that wait for a blocked shard are looked at for their time to live.
const SWEEP: Nanos = 100 * MILLISECOND;

/// How long after its intended start a record may be sent, besides lingering for its aggregate and its
/// batch, and still have started on time.
const ON_TIME: Nanos = 100 * MILLISECOND;

/// Records made at a time in a closed loop.
const CHUNK: u64 = 500;

impl Engine {
    /// An engine at the start of its run.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let aggregates = matches!(config.packing, Packing::Aggregate { .. });
        let backlog = Backlog::new(config.map, config.packing, config.quota, config.retry);
        let mut account = Account::new();
        let accounts = backlog.shards().map(|shard| account.shard(shard.id)).collect();
        Self {
            pacer: Pacer::new(config.pace, config.stride),
            source: config.source,
            backlog,
            retries: RetryQueue::default(),
            batch: Batch::new(config.batch),
            retry: config.retry,
            bounds: config.bounds,
            jitter: Draws::new(config.seed, 3),
            account,
            accounts,
            in_flight: InFlight::default(),
            encoder: Encoder::new(&config.stream, aggregates),
            expired: Vec::new(),
            on_time: ON_TIME.saturating_add(config.batch.linger.saturating_mul(2)),
            last_issue: 0,
            next_sweep: SWEEP,
            draining: false,
            map_is_stale: false,
            fatal: None,
        }
    }

    /// The next request to send at `now`; to be called until it gives none.
    pub fn poll(&mut self, now: Nanos) -> Option<Request> {
        self.resend(now);
        self.issue(now);
        self.sweep(now);
        self.fill(now);
        while self.wants_more(now) {
            self.make(CHUNK.min(self.pacer.due(now)), now);
            self.fill(now);
        }
        self.drain_when_all_is_issued(now);
        if !self.has_room() {
            return None;
        }
        // The last batch need not linger; while others wait for their shards it does.
        let reason = self.batch.due(now, self.draining && self.waiting() == 0)?;
        Some(self.dispatch(reason, now))
    }

    /// Moves the failed records whose pause is over back to their shards.
    fn resend(&mut self, now: Nanos) {
        while let Some(record) = self.retries.pop_due(now) {
            self.backlog.push_again(record, &self.source, now);
        }
    }

    /// Makes the records that are due, and drops those that the backlog has no room for.
    fn issue(&mut self, now: Nanos) {
        self.last_issue = now;
        if self.pacer.is_closed_loop() {
            return;
        }
        let due = self.pacer.due(now);
        // What is in flight may come back, so it counts too.
        let fitting = due.min(self.bounds.backlog.saturating_sub(self.unsettled()));
        self.make(fitting, now);
        self.pacer.skip(due - fitting);
        self.account.ledger.drop(due - fitting);
    }

    fn make(&mut self, records: u64, now: Nanos) {
        let mut made = [Record::new(0, 0, 0, 0); LANES];
        let mut left = records;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(LANES).min(LANES);
            left -= count as u64;
            for record in &mut made[..count] {
                let (n, intended) = self.pacer.next(now);
                *record =
                    Record::new(n, intended, self.source.payload_len(n, intended), self.source.key_len(n));
                self.account.ledger.generate();
            }
            self.backlog.push(&made[..count], &self.source, now);
        }
    }

    /// In a closed loop: whether there is room to send more than what is made.
    fn wants_more(&self, now: Nanos) -> bool {
        self.pacer.is_closed_loop()
            && self.batch.is_open()
            && !self.backlog.has_ready()
            && self.waiting() < self.bounds.backlog
            && self.has_room()
            && self.pacer.due(now) > 0
    }

    /// Fills the batch with the entries that their shards admit.
    fn fill(&mut self, now: Nanos) {
        while self.batch.is_open() {
            let room = self.batch.room();
            let (records, expired) = (self.batch.records_mut(), &mut self.expired);
            match self.backlog.take(room, now, &self.source, records, expired) {
                Taken::Entry { slot, bytes } => self.batch.push(slot, bytes, now),
                Taken::NoRoom => self.batch.overflow(),
                Taken::Nothing => break,
            }
        }
        self.expire();
    }

    /// Expires the records that wait for a blocked shard or for room in flight.
    fn sweep(&mut self, now: Nanos) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP;
        self.backlog.expire(now, &mut self.expired);
        self.expire();
        let ttl = self.retry.record_ttl;
        if self.batch.oldest().is_some_and(|oldest| now >= oldest.saturating_add(ttl)) {
            self.dissolve_batch(now);
        }
    }

    fn expire(&mut self) {
        for record in self.expired.drain(..) {
            self.account.ledger.expire(&record);
        }
    }

    /// Takes the batch apart: its records wait for their shards again.
    fn dissolve_batch(&mut self, now: Nanos) {
        // From the last to the first, as each goes to the head of its queue.
        for record in self.batch.seal(FlushReason::Drain).records.into_iter().rev() {
            self.backlog.push_again(record, &self.source, now);
        }
    }

    fn drain_when_all_is_issued(&mut self, now: Nanos) {
        if !self.draining && self.pacer.check_end(now) {
            self.draining = true;
            self.backlog.hurry();
            self.fill(now);
        }
    }

    fn has_room(&self) -> bool {
        let next = Encoder::body_len(self.batch.entry_count(), self.batch.bytes());
        let fits = self.in_flight.requests == 0 || self.in_flight.bytes + next <= self.bounds.bytes;
        self.in_flight.requests < self.bounds.requests && fits
    }

    fn dispatch(&mut self, reason: FlushReason, now: Nanos) -> Request {
        let mut batch = self.batch.seal(reason);
        for record in &mut batch.records {
            record.attempts += 1;
            if record.fate_open && !record.possible_duplicate {
                record.possible_duplicate = true;
                self.account.ledger.possible_duplicates += 1;
            }
        }
        let shard = |slot| self.backlog.shard(slot).first;
        let body = self.encoder.encode(&batch.records, &batch.entries, &mut self.source, shard);
        self.in_flight.requests += 1;
        self.in_flight.bytes += body.len();
        self.in_flight.records += batch.records.len() as u64;
        self.account.entries_sent += batch.entries.len() as u64;
        self.account.sent_bytes += batch.bytes as u64;
        self.account.flushes.add(batch.reason, 1);
        self.account.batch_entries.saturating_record(batch.entries.len() as u64);
        Request { body, records: batch.records, entries: batch.entries, sent: now }
    }

    /// Ends generating: what is due by `now` is still sent, nothing after it.
    pub fn stop(&mut self, now: Nanos) {
        self.issue(now);
        self.pacer.stop(now);
    }

    /// Gives up every record that is not settled, in flight or waiting.
    pub fn abandon(&mut self, now: Nanos) {
        self.stop(now);
        self.draining = true;
        self.give_up_waiting(Cause::NeverSent);
        let unanswered = std::mem::take(&mut self.in_flight);
        self.account.requests.add(RequestOutcome::Unanswered, unanswered.requests as u64);
        self.account.ledger.fail_many(unanswered.records, Cause::Unanswered);
    }

    fn give_up_waiting(&mut self, otherwise: Cause) {
        let mut waiting = self.backlog.drain();
        waiting.extend(std::iter::from_fn(|| self.retries.pop()));
        waiting.extend(self.batch.seal(FlushReason::Drain).records);
        for record in waiting {
            self.account.ledger.fail(&record, otherwise);
        }
    }

    /// Takes a new shard map: waiting records are placed anew.
    pub fn reshard(&mut self, map: ShardMap, now: Nanos) {
        self.map_is_stale = false;
        self.dissolve_batch(now);
        self.backlog.reshard(map, &self.source, now);
        if self.draining {
            self.backlog.hurry();
        }
        for shard in self.backlog.shards().skip(self.accounts.len()) {
            self.accounts.push(self.account.shard(shard.id));
        }
    }

    /// Whether a shard other than the expected one took a record since the last call.
    pub fn take_map_is_stale(&mut self) -> bool {
        std::mem::take(&mut self.map_is_stale)
    }

    /// The error that ended the run, if one did.
    #[must_use]
    pub fn fatal(&self) -> Option<&RequestError> {
        self.fatal.as_ref()
    }

    /// Whether every record was issued and settled.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.draining && self.unsettled() == 0
    }

    /// Whether every record was issued, so that only the drain is left.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// When to come back, if no answer comes before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Nanos> {
        let linger = self.batch.linger_ends().filter(|_| self.has_room());
        let sweep = (self.unsettled() > 0).then_some(self.next_sweep);
        // A batch that is full waits for an answer, not for its shards.
        let shards = self.backlog.next_wake().filter(|_| self.batch.is_open());
        [self.pacer.next_due(), self.retries.next_at(), shards, linger, sweep].into_iter().flatten().min()
    }

    /// Records that wait to be sent or sent again, those of the open batch left out.
    fn waiting(&self) -> u64 {
        self.backlog.len() + self.retries.len()
    }

    /// Records on their way, counted where they are rather than from the ledger.
    fn unsettled(&self) -> u64 {
        self.waiting() + self.batch.len() + self.in_flight.records
    }

    /// A copy of all that is counted.
    #[must_use]
    pub fn snapshot(&self, now: Nanos) -> Snapshot {
        let mut account = self.account.clone();
        for (slot, records_per_second) in self.backlog.limits() {
            account.shards[self.accounts[slot as usize]].limit = Some(records_per_second);
        }
        Snapshot {
            elapsed: now,
            span: self.pacer.span(now),
            scheduled: self.pacer.scheduled(self.last_issue),
            draining: self.draining,
            unsettled: self.unsettled(),
            backlog_records: self.waiting() + self.batch.len(),
            in_flight_requests: self.in_flight.requests as u64,
            in_flight_bytes: self.in_flight.bytes as u64,
            account,
        }
    }
}
