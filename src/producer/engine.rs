mod config;
mod ending;
mod feeding;
mod making;
mod settle;
mod steering;
mod waiting;

pub use config::{EngineConfig, Request};
use feeding::Feeding;

use super::account::{Account, HOT_KEYS, Holdup};
use super::backlog::{Backlog, Taken};
use super::batch::{Batch, FlushReason};
use super::encode::Encoder;
use super::heat::Heat;
use super::packing::Packing;
use super::retry::{RetryPolicy, RetryQueue};
use super::room::Member;
use super::tally::Tally;
use super::windows::WindowCutter;
use super::{Pacer, Record, Room, Snapshot, Steered, Witness};
use crate::kinesis::{RequestError, ShardMap};
use crate::load::{MILLISECOND, Nanos};
use crate::tick::{Draws, Source};
use std::sync::Arc;

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
    room: Arc<Room>,
    member: Member,
    // The room for records that is taken and not given back.
    taken: u64,
    jitter: Draws,
    account: Account,
    // Not in the account yet.
    tally: Tally,
    // The place in the account of each slot of the backlog.
    accounts: Vec<usize>,
    heat: Heat,
    feeding: Option<Feeding>,
    witness: Option<Box<dyn Witness>>,
    stream: usize,
    // How long shards were open in all until the present map came, and when that was.
    shard_time: (Nanos, Nanos),
    in_flight: InFlight,
    // Whether the last request was the first of two, and the room that it took.
    half_pair: bool,
    last_room: usize,
    // What writes its requests, which others do.
    encoder: Encoder,
    expired: Vec<Record>,
    on_time: Nanos,
    windows: WindowCutter,
    // What held records back since when.
    holdup: Option<Holdup>,
    last_poll: Nanos,
    last_answer: Nanos,
    next_sweep: Nanos,
    draining: bool,
    map_is_stale: bool,
    // How many records may wait once it is told to send as many as answers allow.
    most_waiting: u64,
    steered: Arc<Vec<Steered>>,
    fatal: Option<RequestError>,
}

#[derive(Debug, Default)]
struct InFlight {
    requests: usize,
    // By what their bodies were expected to be: they are written when they are sent.
    bytes: usize,
    records: u64,
}

/// How often records that wait for a blocked shard are looked at for their time to live.
const SWEEP: Nanos = 100 * MILLISECOND;

/// How long after its intended start a record may be sent, besides lingering for its aggregate and its
/// batch, and still have started on time.
const ON_TIME: Nanos = 100 * MILLISECOND;

impl Engine {
    /// An engine at the start of its run.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let aggregates = matches!(config.packing, Packing::Aggregate { .. });
        let most_waiting = config.most_waiting();
        let backlog = Backlog::new(config.map, config.packing, config.limits, config.retry);
        let mut account = Account::new(config.warmup);
        let heat = Heat::new(&config.source, &backlog);
        let accounts = backlog.shards().map(|shard| account.shard(config.stream_place, shard.id)).collect();
        let encoder = Encoder::new(&config.stream, config.wire, aggregates, config.source.clone());
        Self {
            encoder,
            pacer: Pacer::new(config.pace, config.stride),
            source: config.source,
            backlog,
            retries: RetryQueue::default(),
            batch: Batch::new(config.batch),
            retry: config.retry,
            member: config.room.join(),
            room: config.room,
            taken: 0,
            jitter: Draws::new(config.seed, 3),
            account,
            tally: Tally::default(),
            accounts,
            heat,
            feeding: config.feed.map(Feeding::new),
            witness: config.witness,
            stream: config.stream_place,
            shard_time: (0, 0),
            in_flight: InFlight::default(),
            half_pair: false,
            last_room: 0,
            expired: Vec::new(),
            on_time: ON_TIME.saturating_add(config.batch.linger.saturating_mul(2)),
            windows: WindowCutter::new(),
            holdup: None,
            last_poll: 0,
            last_answer: 0,
            next_sweep: SWEEP,
            draining: false,
            map_is_stale: false,
            most_waiting,
            steered: Arc::default(),
            fatal: None,
        }
    }

    /// An encoder of its requests.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    /// The next request to send at `now`; to be called until it gives none.
    pub fn poll(&mut self, now: Nanos) -> Option<Request> {
        self.note_holdup(now);
        if self.windows.is_over(now) {
            self.tally.pour_into(&mut self.account);
            self.windows.cut(&mut self.account, self.pacer.scheduled(), now);
        }
        self.resend(now);
        self.issue(now);
        self.sweep(now);
        self.fill(now);
        while self.make_more(now) {
            self.fill(now);
        }
        self.drain_when_all_is_issued(now);
        // The last batch need not linger; while others wait for their shards it does.
        let at_limit = self.backlog.has_blocked();
        let Some(reason) = self.batch.due(now, self.draining && self.waiting() == 0, at_limit) else {
            self.note_wait();
            return None;
        };
        let room = self.body_len();
        if !self.has_room() || !self.room.take_request(room, self.member) {
            self.room.queue(self.member);
            self.holdup = Some(Holdup::InFlight);
            return None;
        }
        Some(self.dispatch(reason, room, now))
    }

    /// Fills the batch with the entries that their shards admit.
    fn fill(&mut self, now: Nanos) {
        while self.batch.is_open() {
            let room = self.batch.room();
            let (records, expired) = (self.batch.records_mut(), &mut self.expired);
            match self.backlog.take(room, now, &self.source, records, expired) {
                Taken::Entry { slot, bytes } => {
                    self.batch.push(slot, self.backlog.shard(slot).first, bytes, now);
                }
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
        if self.expired.is_empty() {
            return;
        }
        for record in self.expired.drain(..) {
            self.account.note(record.intended, |ledger| ledger.expire(&record));
            self.source.forget(record.n);
        }
        self.return_room();
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

    fn dispatch(&mut self, reason: FlushReason, room: usize, now: Nanos) -> Request {
        let mut batch = self.batch.seal(reason);
        for record in &mut batch.records {
            record.attempts = record.attempts.saturating_add(1);
            if record.fate_open && !record.possible_duplicate {
                record.possible_duplicate = true;
                self.account.note(record.intended, |ledger| ledger.possible_duplicates += 1);
            }
        }
        self.half_pair = !self.half_pair;
        self.last_room = room;
        self.in_flight.requests += 1;
        self.in_flight.bytes += room;
        self.in_flight.records += batch.records.len() as u64;
        self.account.entries_sent += batch.entries.len() as u64;
        self.account.sent_bytes += batch.bytes as u64;
        self.account.flushes.add(batch.reason, 1);
        self.account.batch_entries.saturating_record(batch.entries.len() as u64);
        let lent = self.source.lend(batch.records.iter().map(|record| record.n));
        Request { records: batch.records, entries: batch.entries, lent, left: now, sent: now, room }
    }

    /// Takes a new shard map: waiting records are placed anew.
    pub fn reshard(&mut self, map: ShardMap, now: Nanos) {
        self.map_is_stale = false;
        self.dissolve_batch(now);
        self.shard_time = (self.shard_time(now), now);
        self.backlog.reshard(map, &self.source, now);
        if self.draining {
            self.backlog.hurry();
        }
        self.heat.remap(&self.source, &self.backlog, self.account.ledger.generated);
        for shard in self.backlog.shards().skip(self.accounts.len()) {
            self.accounts.push(self.account.shard(self.stream, shard.id));
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
    pub fn next_wake(&mut self) -> Option<Nanos> {
        let linger = self.batch.linger_ends(self.backlog.has_blocked()).filter(|_| self.has_room());
        let sweep = (self.unsettled() > 0).then_some(self.next_sweep);
        // A batch that is full waits for an answer, not for its shards.
        let shards = self.backlog.next_wake().filter(|_| self.batch.is_open());
        let turn = self.last_poll.saturating_add(self.backlog.turn());
        let due = self.pacer.next_due().map(|due| due.max(turn));
        let fed = self.next_fed(self.last_poll);
        [due, fed, self.retries.next_at(), shards, linger, sweep].into_iter().flatten().min()
    }

    /// Records that wait to be sent or sent again, those of the open batch left out.
    fn waiting(&self) -> u64 {
        self.backlog.len() + self.retries.len()
    }

    /// Records on their way, counted where they are rather than from the ledger.
    fn unsettled(&self) -> u64 {
        self.waiting() + self.batch.len() + self.in_flight.records
    }

    /// How long its shards were open until `now`, each by itself.
    fn shard_time(&self, now: Nanos) -> Nanos {
        let (before, since) = self.shard_time;
        before + now.saturating_sub(since).saturating_mul(self.backlog.map().shards().len() as Nanos)
    }

    /// A copy of all that is counted.
    #[must_use]
    pub fn snapshot(&self, now: Nanos) -> Snapshot {
        let mut account = self.account.clone();
        self.tally.add_to(&mut account);
        for (slot, records_per_second) in self.backlog.limits() {
            account.shards[self.accounts[slot as usize]].limit = Some(records_per_second);
        }
        let generated = account.ledger.generated;
        for (place, expected) in self.accounts.iter().zip(self.heat.expected(generated)) {
            account.shards[*place].expected = expected;
        }
        account.shard_time = vec![(self.stream, self.shard_time(now))];
        account.hot_keys = self.heat.hot_keys(HOT_KEYS);
        let (payload_failures, payload_failure) = self.source.failures();
        Snapshot {
            elapsed: now,
            span: self.pacer.span(now),
            scheduled: self.pacer.scheduled(),
            paused_for: self.pacer.pauses().total(now),
            paused: self.is_paused(),
            left: self.pacer.left(now),
            target_rps: self.pacer.rate_at(now),
            schedule_rps: self.pacer.rate_of_schedule(now),
            steered: Arc::clone(&self.steered),
            orders: 0,
            draining: self.draining,
            unsettled: self.unsettled(),
            backlog_records: self.waiting() + self.batch.len(),
            in_flight_requests: self.in_flight.requests as u64,
            in_flight_bytes: self.in_flight.bytes as u64,
            payload_failures,
            payload_failure: payload_failure.map(ToString::to_string),
            account,
        }
    }
}
