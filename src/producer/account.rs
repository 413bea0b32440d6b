use super::measures::{Billed, Counts, Durations, add, histogram};
use super::tally::Tally;
use super::{FlushReason, Ledger, Record, Windows};
use crate::kinesis::{EntryError, RequestErrorKind, ShardId};
use crate::load::{Nanos, Pauses};
use hdrhistogram::Histogram;

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Every entry was accepted.
    Ok,
    /// Some entries were rejected, or all of them one by one.
    Partial,
    /// The request as a whole failed.
    Failed(RequestErrorKind),
    /// The drain ended before an answer came.
    Unanswered,
}

impl RequestOutcome {
    /// Every outcome.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Partial,
        Self::Failed(RequestErrorKind::Throttled),
        Self::Failed(RequestErrorKind::NotSent),
        Self::Failed(RequestErrorKind::ServerError),
        Self::Failed(RequestErrorKind::ConnectionCut),
        Self::Failed(RequestErrorKind::TimedOut),
        Self::Failed(RequestErrorKind::Malformed),
        Self::Failed(RequestErrorKind::Fatal),
        Self::Unanswered,
    ];

    /// The name in metrics and summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed(kind) => kind.name(),
            Self::Unanswered => "unanswered",
        }
    }
}

/// What became of one entry of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOutcome {
    /// Stored.
    Accepted,
    /// Rejected with this code.
    Rejected(EntryError),
    /// Its request failed as a whole.
    RequestFailed,
}

impl EntryOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Rejected(EntryError::Throttled),
        Self::Rejected(EntryError::InternalFailure),
        Self::Rejected(EntryError::Other),
        Self::RequestFailed,
    ];

    /// The code in metrics and summaries.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Accepted => "ok",
            Self::Rejected(error) => error.code(),
            Self::RequestFailed => "request_failed",
        }
    }
}

/// The records that were meant to start at once and were made at once, one after another: the first of
/// each with their number. They take the same times, so a closed loop, which makes hundreds at once,
/// notes them all together.
fn alike(records: &[Record]) -> impl Iterator<Item = (&Record, u64)> {
    let alike = records.chunk_by(|a, b| (a.intended, a.lag_micros) == (b.intended, b.lag_micros));
    alike.map(|records| (&records[0], records.len() as u64))
}

/// Adds the hot keys of another engine.
fn merge_hot_keys(sum: &mut Vec<(String, u64)>, other: &[(String, u64)]) {
    for (key, records) in other {
        match sum.iter_mut().find(|(known, _)| known == key) {
            Some((_, mine)) => *mine += records,
            None => sum.push((key.clone(), *records)),
        }
    }
    sum.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sum.truncate(HOT_KEYS);
}

/// How many hot keys are named.
pub(super) const HOT_KEYS: usize = 10;

/// What holds back records that could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holdup {
    /// As many requests or bytes are in flight as may be.
    InFlight,
    /// Every shard with something to send has used up its limit.
    ShardLimit,
    /// As many requests or bytes are in flight as may be, and for a second no answer has come.
    NoAnswer,
}

impl Holdup {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::InFlight, Self::ShardLimit, Self::NoAnswer];
}

/// What became of one shard's entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardAccount {
    /// Which of the run's streams it is of, from 0.
    pub stream: usize,
    /// The shard.
    pub id: ShardId,
    /// User records that it took.
    pub acked: u64,
    /// Of these, those that it took in the warmup.
    pub warmup_acked: u64,
    /// Kinesis records that it took.
    pub accepted: u64,
    /// Kinesis records that it throttled.
    pub throttled: u64,
    /// Kinesis records that the limit admits to it in a second at present; `None`: no limit, or the
    /// shard is closed.
    pub limit: Option<f64>,
    /// User records that were expected to go to it, by their keys and the shard map; `None` if unknown.
    pub expected: Option<f64>,
}

/// Everything that is counted in a run: written by the engine alone, read by every observer. In the engine the times of
/// the last second are in its `Tally` yet; a snapshot has all.
#[derive(Clone, Debug)]
pub struct Account {
    /// Where every user record stands.
    pub ledger: Ledger,
    /// The part of it that is not measured: records meant to start in the warmup.
    pub warmup: Ledger,
    /// How long the warmup is, in the time of the schedule.
    pub warmup_span: Nanos,
    // When it ends in the time of the run, which pauses put off; never, while it is paused.
    warmup_ends_at: Nanos,
    /// Acked records that came too late to be part of the rate: they could not start on time, and
    /// were acked only after the end of the schedule.
    pub acked_late: u64,
    /// Requests by outcome.
    pub requests: Counts<RequestOutcome, 10>,
    /// Answered entries by outcome.
    pub entries: Counts<EntryOutcome, 5>,
    /// Entries that failed and whose records were kept to be sent again.
    pub retried_entries: u64,
    /// Entries rejected for the rate, one by one or with their request.
    pub throttled_entries: u64,
    /// Entries of all requests sent.
    pub entries_sent: u64,
    /// Bytes of accepted entries as Kinesis counts them.
    pub accepted_bytes: u64,
    /// What of the accepted entries is charged for.
    pub billed: Billed,
    /// Bytes of all entries sent as Kinesis counts them.
    pub sent_bytes: u64,
    /// Batches by why they left.
    pub flushes: Counts<FlushReason, 4>,
    /// Requests by their number of entries.
    pub batch_entries: Histogram<u64>,
    /// Measured acked records by response time: from the intended start to the answer. For each it is
    /// the sum of the next three.
    pub response_time: Durations,
    /// Measured acked records by schedule lag: from the intended start until they were made.
    pub schedule_lag: Durations,
    /// Measured acked records by queue time: from then to the start of the successful attempt.
    pub queue_time: Durations,
    /// Measured acked records by service time: from there to the answer.
    pub service_time: Durations,
    /// All measured records, acked or not, by how long after their intended start they were made.
    pub start_lateness: Durations,
    /// For how long something was ready to be sent and held back after the warmup, by what.
    pub held: Counts<Holdup, 3>,
    /// How long the requests answered after the warmup waited to be written and were, all together.
    pub writing: Nanos,
    /// How long they were then on their way until the answer.
    pub answering: Nanos,
    /// Dropped records of a replayed file that there was no room to keep.
    pub unkept: u64,
    /// Answered and throttled entries of the warmup.
    pub warmup_entries: u64,
    /// See [`Account::warmup_entries`].
    pub warmup_throttled: u64,
    warmup_ended: bool,
    /// How long the shards of each of the run's streams were open, each by itself.
    pub shard_time: Vec<(usize, Nanos)>,
    /// What happened by windows of time.
    pub windows: Windows,
    /// The partition keys with the most records made, the hottest first; empty where each record has its
    /// own.
    pub hot_keys: Vec<(String, u64)>,
    /// Per shard, in the order in which shards were seen.
    pub shards: Vec<ShardAccount>,
}

impl ShardAccount {
    /// Adds what another engine sent to it.
    fn merge(&mut self, other: &Self) {
        self.acked += other.acked;
        self.warmup_acked += other.warmup_acked;
        self.accepted += other.accepted;
        self.throttled += other.throttled;
        self.limit = self.limit.into_iter().chain(other.limit).reduce(|a, b| a + b);
        // A part that is not known makes the sum unknown.
        self.expected = self.expected.zip(other.expected).map(|(a, b)| a + b);
    }
}

impl Account {
    pub(super) fn new(warmup: Nanos) -> Self {
        Self {
            ledger: Ledger::default(),
            warmup: Ledger::default(),
            warmup_span: warmup,
            warmup_ends_at: warmup,
            acked_late: 0,
            requests: Counts::new(&RequestOutcome::ALL),
            entries: Counts::new(&EntryOutcome::ALL),
            retried_entries: 0,
            throttled_entries: 0,
            entries_sent: 0,
            accepted_bytes: 0,
            billed: Billed::default(),
            sent_bytes: 0,
            flushes: Counts::new(&FlushReason::ALL),
            batch_entries: histogram(500),
            response_time: Durations::new(),
            schedule_lag: Durations::new(),
            queue_time: Durations::new(),
            service_time: Durations::new(),
            start_lateness: Durations::new(),
            held: Counts::new(&Holdup::ALL),
            writing: 0,
            answering: 0,
            unkept: 0,
            warmup_entries: 0,
            warmup_throttled: 0,
            warmup_ended: warmup == 0,
            shard_time: Vec::new(),
            windows: Windows::default(),
            hot_keys: Vec::new(),
            shards: Vec::new(),
        }
    }

    /// Whether a record is measured: it was not meant to start in the warmup.
    pub(super) fn measures(&self, intended: Nanos) -> bool {
        intended >= self.warmup_ends_at
    }

    /// Notes what became of a record meant to start at `intended`.
    pub(super) fn note(&mut self, intended: Nanos, what: impl Fn(&mut Ledger)) {
        what(&mut self.ledger);
        if !self.measures(intended) {
            what(&mut self.warmup);
        }
    }

    /// Whether the warmup has just ended.
    pub(super) fn warmup_ends(&self, now: Nanos) -> bool {
        !self.warmup_ended && now >= self.warmup_ends_at
    }

    /// The run was paused, or goes on.
    pub(super) fn note_pauses(&mut self, pauses: &Pauses) {
        self.warmup_ends_at = pauses.run_time(self.warmup_span).unwrap_or(Nanos::MAX);
    }

    /// Notes what was counted in the warmup and is not told from the rest by a record's start.
    pub(super) fn end_warmup(&mut self) {
        self.warmup_ended = true;
        self.warmup_entries = self.entries.total();
        self.warmup_throttled = self.throttled_entries;
        self.held = Counts::new(&Holdup::ALL);
        (self.writing, self.answering) = (0, 0);
        for shard in &mut self.shards {
            shard.warmup_acked = shard.acked;
        }
    }

    /// Notes that records were held back for `time`.
    pub(crate) fn hold(&mut self, holdup: Holdup, time: Nanos) {
        self.held.add(holdup, time);
    }

    /// Notes records that were made at `now`.
    pub(super) fn generate(&mut self, records: &[Record], now: Nanos, tally: &mut Tally) {
        let mut measured = 0;
        for (first, count) in alike(records).filter(|(first, _)| first.intended >= self.warmup_ends_at) {
            measured += count;
            tally.lateness.record(&mut self.start_lateness, now.saturating_sub(first.intended), count);
        }
        let all = records.len() as u64;
        self.ledger.generate(all);
        self.warmup.generate(all - measured);
    }

    /// Notes records that were acked at `now`, of a request sent at `sent`.
    pub(super) fn ack(&mut self, records: &[Record], sent: Nanos, now: Nanos, tally: &mut Tally) {
        let mut measured = 0;
        for (first, count) in alike(records).filter(|(first, _)| first.intended >= self.warmup_ends_at) {
            measured += count;
            tally.response.record(&mut self.response_time, now.saturating_sub(first.intended), count);
            tally.lag.record(&mut self.schedule_lag, Nanos::from(first.lag_micros) * 1000, count);
            tally.queue.record(&mut self.queue_time, sent.saturating_sub(first.made()), count);
        }
        if measured > 0 {
            self.service_time.record(now.saturating_sub(sent), measured);
        }
        let all = records.len() as u64;
        self.ledger.ack(all);
        self.warmup.ack(all - measured);
    }

    /// The place of a shard in [`Account::shards`], made if it has none.
    pub(crate) fn shard(&mut self, stream: usize, id: ShardId) -> usize {
        let place = self.shards.iter().position(|shard| (shard.stream, shard.id) == (stream, id));
        place.unwrap_or_else(|| {
            self.shards.push(ShardAccount {
                stream,
                id,
                acked: 0,
                warmup_acked: 0,
                accepted: 0,
                throttled: 0,
                limit: None,
                expected: None,
            });
            self.shards.len() - 1
        })
    }

    #[cfg(test)]
    pub(crate) fn lateness_for_test(&mut self, lateness: Nanos, records: u64) {
        self.start_lateness.record(lateness, records);
    }

    /// Adds another engine's account.
    pub fn merge(&mut self, other: &Self) {
        self.ledger.merge(&other.ledger);
        self.warmup.merge(&other.warmup);
        self.warmup_span = self.warmup_span.max(other.warmup_span);
        self.acked_late += other.acked_late;
        self.requests.merge(&other.requests);
        self.entries.merge(&other.entries);
        self.retried_entries += other.retried_entries;
        self.throttled_entries += other.throttled_entries;
        self.entries_sent += other.entries_sent;
        self.accepted_bytes += other.accepted_bytes;
        self.billed.merge(other.billed);
        self.sent_bytes += other.sent_bytes;
        self.flushes.merge(&other.flushes);
        add(&mut self.batch_entries, &other.batch_entries);
        self.response_time.merge(&other.response_time);
        self.schedule_lag.merge(&other.schedule_lag);
        self.queue_time.merge(&other.queue_time);
        self.service_time.merge(&other.service_time);
        self.start_lateness.merge(&other.start_lateness);
        self.held.merge_longest(&other.held);
        self.writing += other.writing;
        self.answering += other.answering;
        self.unkept += other.unkept;
        self.warmup_entries += other.warmup_entries;
        self.warmup_throttled += other.warmup_throttled;
        self.windows.merge(&other.windows);
        for (stream, time) in &other.shard_time {
            match self.shard_time.iter_mut().find(|(known, _)| known == stream) {
                // Loads of one stream share its shards.
                Some((_, mine)) => *mine = (*mine).max(*time),
                None => self.shard_time.push((*stream, *time)),
            }
        }
        merge_hot_keys(&mut self.hot_keys, &other.hot_keys);
        for theirs in &other.shards {
            let same = |mine: &&mut ShardAccount| (mine.stream, mine.id) == (theirs.stream, theirs.id);
            match self.shards.iter_mut().find(same) {
                Some(mine) => mine.merge(theirs),
                None => self.shards.push(*theirs),
            }
        }
    }
}
