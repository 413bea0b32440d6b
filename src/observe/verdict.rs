use super::figures::Circumstances;
use crate::kinesis::limits::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};
use crate::producer::{Cause, Holdup, Snapshot};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What kept a load from going faster, or from its target.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Limit {
    /// Whether the load fell short: it missed 99 % of its target, dropped or lost records, or made or sent
    /// them too late. A closed loop has no target, and always meets a limit.
    pub fell_short: bool,
    /// Whether tickgen or a bound of its own was what limited, rather than the stream.
    pub generator: bool,
    /// What limited it, the heaviest first; empty if it did not fall short.
    pub by: Vec<LimitReason>,
    /// The share of the run in which batches waited for room in flight.
    pub in_flight_share: f64,
    /// The share of the run in which all that waited, waited for its shard's limit.
    pub shard_limit_share: f64,
    /// The share of the run in which they waited, and for over a second no answer had come.
    pub no_answer_share: f64,
    /// The share of its processors' time that the process used, of as many as it has `--threads` for; absent where
    /// that is not known.
    #[serde(default)]
    pub processor_share: Option<f64>,
    /// The same for those who read, in a sentence.
    pub text: String,
}

/// One thing that limited a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReason {
    /// tickgen made its records late, or used up its processors: it had too little processor time, or was
    /// stopped for a while.
    Cpu,
    /// Requests or bytes in flight were at their bound.
    InFlightBound,
    /// Records were dropped, as so many were made and not settled.
    BacklogBound,
    /// Records of a replayed file were dropped, as so many of their bytes were kept.
    ReplayBound,
    /// The limit that tickgen keeps for each shard.
    ShardLimit,
    /// The stream, or what else the records went to, throttled, failed, or did not answer.
    Stream,
}

/// From this share of the run on, something that held records back limited the run.
const NOTABLE: f64 = 0.05;

/// A process that used this share of its processors' time had no more.
const BUSY: f64 = 0.9;

/// Records made later than this, in the 99th percentile, may have been late for want of processor time:
/// tickgen wakes every millisecond, with `--aggregate` every ten.
const LATE_MICROS: u64 = 20_000;

/// What a run tells of its limits.
struct Evidence<'a> {
    last: &'a Snapshot,
    around: &'a Circumstances,
    // The 99th percentile of start lateness, in microseconds.
    lateness: u64,
    late: bool,
    in_flight: f64,
    shards: f64,
    no_answer: f64,
    throttled: u64,
    // Lost records: never sent, and all others.
    unsent: u64,
    refused: u64,
    dropped: u64,
}

impl<'a> Evidence<'a> {
    fn new(last: &'a Snapshot, around: &'a Circumstances) -> Self {
        let account = &last.account;
        let (ledger, warmup) = (&account.ledger, &account.warmup);
        let p99 = |times: &crate::producer::Durations| times.histogram().value_at_quantile(0.99);
        let (lateness, response) = (p99(&account.start_lateness), p99(&account.response_time));
        let of_cause = |cause| ledger.lost_by(cause).saturating_sub(warmup.lost_by(cause));
        let unsent = of_cause(Cause::NeverSent);
        Self {
            last,
            around,
            lateness,
            // A material part of what records waited, whether they were acked in the end or not.
            late: lateness > LATE_MICROS.max(response / 2),
            in_flight: last.held_share(Holdup::InFlight),
            shards: last.held_share(Holdup::ShardLimit),
            no_answer: last.held_share(Holdup::NoAnswer),
            throttled: account.throttled_entries - account.warmup_throttled,
            unsent,
            refused: (ledger.lost() - warmup.lost()).saturating_sub(unsent),
            dropped: ledger.dropped - warmup.dropped,
        }
    }

    fn fell_short(&self, target_rps: Option<f64>) -> bool {
        let account = &self.last.account;
        let short = target_rps.is_some_and(|target| self.last.achieved_rps() < 0.99 * target);
        let missing = self.dropped + self.unsent + self.refused + account.acked_late;
        target_rps.is_none() || short || missing > 0 || self.late
    }

    /// Whether the stream held the load up. A limit that adapts, and a full backlog, follow from one that
    /// throttles or is silent; records that were never sent, and the answers that a drain did not wait for
    /// beside them, do not speak against it.
    fn by_stream(&self) -> bool {
        let account = &self.last.account;
        let answered = account.entries.total() - account.warmup_entries;
        let slow = self.around.lines && self.in_flight >= NOTABLE && !self.by_writing();
        self.throttled * 1000 > answered || self.refused > self.unsent || self.no_answer >= NOTABLE || slow
    }

    /// Whether requests took longer to be made than to be answered: room in flight was taken up by this process
    /// itself. Lines go one request at a time and are answered by a write, so that either takes a wait for a
    /// thread: only a destination that is far slower than that is slow.
    fn by_writing(&self) -> bool {
        let account = &self.last.account;
        let times = if self.around.lines { 4 } else { 1 };
        self.in_flight >= NOTABLE && account.writing.saturating_mul(times) > account.answering
    }

    fn nothing_held(&self) -> bool {
        !self.by_stream() && self.in_flight.max(self.shards) < NOTABLE
    }

    fn busy(&self) -> bool {
        self.around.processor_share.is_some_and(|share| share >= BUSY)
    }

    fn reasons(&self, closed_loop: bool) -> Vec<LimitReason> {
        // What is late when it is made is late whatever comes after. One that is not, and uses up its
        // processors, may be fast enough for the stream and the shards.
        let used_up = self.busy() || self.by_writing();
        let unkept = self.last.account.unkept;
        let mut by = Vec::new();
        for (limits, reason) in [
            (self.late, LimitReason::Cpu),
            (self.by_stream(), LimitReason::Stream),
            (self.shards >= 0.5, LimitReason::ShardLimit),
            (used_up, LimitReason::Cpu),
            (self.in_flight >= NOTABLE, LimitReason::InFlightBound),
            (self.shards >= NOTABLE, LimitReason::ShardLimit),
            (closed_loop && self.nothing_held(), LimitReason::Cpu),
            (unkept > 0, LimitReason::ReplayBound),
            (self.dropped > unkept, LimitReason::BacklogBound),
        ] {
            if limits && !by.contains(&reason) {
                by.push(reason);
            }
        }
        by
    }

    fn sentence(&self, by: &[LimitReason]) -> String {
        let Some(first) = by.first() else { return String::new() };
        let mut reasons: Vec<String> = by.iter().map(|reason| self.why(*reason)).collect();
        if self.unsent > 0 {
            reasons.push(format!(
                "{} records were never sent when their time was over (--drain-timeout, --record-ttl)",
                self.unsent
            ));
        }
        let who = match first {
            LimitReason::Stream if self.around.lines => "The destination of --to was the limit",
            LimitReason::Stream => "The stream was the limit",
            LimitReason::ShardLimit => "The generator was the limit, as it keeps within the shards' capacity",
            _ => "The generator was the limit",
        };
        format!("{who}: {}.", reasons.join("; "))
    }

    fn why(&self, reason: LimitReason) -> String {
        let account = &self.last.account;
        match reason {
            LimitReason::Cpu => self.why_cpu(),
            LimitReason::ReplayBound => {
                format!("{} records found no room to be kept (--max-replay-bytes)", account.unkept)
            }
            LimitReason::InFlightBound if self.around.lines => format!(
                "lines, which are written one request at a time, waited for those before them for {:.0} % of \
                 the run",
                self.in_flight * 100.0
            ),
            LimitReason::InFlightBound => format!(
                "requests in flight were at their bound for {:.0} % of the run, with a service time of {:.1} ms \
                 in the middle (--max-requests, --max-connections, --max-in-flight-bytes)",
                self.in_flight * 100.0,
                account.service_time.histogram().value_at_quantile(0.5) as f64 / 1000.0
            ),
            LimitReason::BacklogBound => {
                format!("{} records found the backlog full (--max-backlog)", self.dropped - account.unkept)
            }
            LimitReason::ShardLimit => self.why_shards(),
            LimitReason::Stream => self.why_stream(),
        }
    }

    fn why_cpu(&self) -> String {
        let lateness = self.lateness as f64 / 1000.0;
        let mut why = if self.late && !self.busy() && self.around.processor_share.is_some() {
            format!(
                "it was late itself (99 % of records were made within {lateness:.1} ms of their start), stopped \
                 or kept from the processors"
            )
        } else if self.late {
            format!(
                "it had too little processor time (99 % of records were made within {lateness:.1} ms of their \
                 start)"
            )
        } else if self.busy() {
            "it had no more processor time".to_owned()
        } else if self.by_writing() {
            "it made its requests no faster than they were taken".to_owned()
        } else {
            "it made and sent records as fast as it could".to_owned()
        };
        if let Some(share) = self.around.processor_share {
            // Writing to a String cannot fail.
            let _ = write!(why, ", using {:.0} % of its processors' time", share * 100.0);
        }
        why
    }

    /// What the shards take, and what of it the limits leave: more of it is to be had by more shards alone.
    fn why_shards(&self) -> String {
        let limits: Vec<f64> = self.last.account.shards.iter().filter_map(|shard| shard.limit).collect();
        let (shards, rps) = (limits.len(), limits.iter().sum::<f64>());
        format!(
            "all that waited, waited for its shard's limit for {:.0} % of the run (--shard-limit lets {rps:.0} \
             records/s pass to {shards} open shards; a provisioned one takes {SHARD_RECORDS_PER_SECOND} and {} \
             MiB/s); more shards, evener --keys or --aggregate would help, more processors would not",
            self.shards * 100.0,
            SHARD_BYTES_PER_SECOND / (1024 * 1024)
        )
    }

    fn why_stream(&self) -> String {
        let mut why = Vec::new();
        if self.throttled > 0 {
            why.push(format!("it throttled {} entries", self.throttled));
        }
        if self.refused > 0 {
            let ledger = &self.last.account.ledger;
            let causes = ledger.lost_by_cause().filter(|(cause, _)| *cause != Cause::NeverSent);
            let causes: Vec<String> = causes.map(|(cause, n)| format!("{} {n}", cause.name())).collect();
            why.push(format!("{} records were lost ({})", self.refused, causes.join(", ")));
        }
        if self.around.lines && self.in_flight >= NOTABLE {
            let mean = self.last.account.service_time.mean_millis();
            why.push(format!("it took {mean:.1} ms for the lines of a request, in the mean"));
        }
        if self.no_answer > 0.0 {
            why.push(format!("for {:.0} % of the run no answer came", self.no_answer * 100.0));
        }
        why.join(", ")
    }
}

impl Limit {
    pub(super) fn new(last: &Snapshot, target_rps: Option<f64>, around: &Circumstances) -> Self {
        let evidence = Evidence::new(last, around);
        let fell_short = evidence.fell_short(target_rps);
        let by = if fell_short && last.measured() > 0 {
            evidence.reasons(target_rps.is_none())
        } else {
            Vec::new()
        };
        Self {
            fell_short,
            generator: by.first().is_some_and(|reason| *reason != LimitReason::Stream),
            in_flight_share: evidence.in_flight,
            shard_limit_share: evidence.shards,
            no_answer_share: evidence.no_answer,
            processor_share: around.processor_share,
            text: evidence.sentence(&by),
            by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::RequestErrorKind;
    use crate::load::SECOND;

    fn snapshot(change: impl Fn(&mut Snapshot)) -> Snapshot {
        let mut snapshot = Snapshot::empty();
        (snapshot.elapsed, snapshot.span, snapshot.scheduled) = (10 * SECOND, 10 * SECOND, 10_000);
        snapshot.account.ledger.generated = 10_000;
        snapshot.account.ledger.acked = 10_000;
        change(&mut snapshot);
        snapshot
    }

    fn limit_of(last: &Snapshot, target_rps: Option<f64>) -> Limit {
        Limit::new(last, target_rps, &Circumstances::default())
    }

    #[test]
    fn a_run_that_held_its_rate_met_no_limit() {
        let limit = limit_of(&snapshot(|_| {}), Some(1000.0));
        assert!(!limit.fell_short && limit.by.is_empty() && limit.text.is_empty(), "{limit:?}");
    }

    #[test]
    fn the_limit_is_named() {
        let hold = |holdup, seconds| snapshot(move |s| s.account.hold(holdup, seconds * SECOND));
        let target = Some(2000.0);
        let by = |snapshot: &Snapshot| limit_of(snapshot, target).by;
        assert_eq!(by(&hold(Holdup::InFlight, 8)), [LimitReason::InFlightBound]);
        assert_eq!(by(&hold(Holdup::ShardLimit, 8)), [LimitReason::ShardLimit]);
        assert_eq!(by(&snapshot(|s| s.account.throttled_entries = 500)), [LimitReason::Stream]);
        let dropped = snapshot(|s| {
            s.account.hold(Holdup::InFlight, 5 * SECOND);
            s.account.ledger.dropped = 7;
        });
        assert_eq!(by(&dropped), [LimitReason::InFlightBound, LimitReason::BacklogBound]);
        assert_eq!(by(&hold(Holdup::NoAnswer, 5)), [LimitReason::Stream]);
        let limit = limit_of(&dropped, target);
        assert!(limit.generator && limit.text.starts_with("The generator was the limit: requests in flight"));
    }

    #[test]
    fn late_records_are_the_generators_even_if_all_were_acked() {
        // A quarter of the records was made 2 s late, and acked a millisecond later.
        let late = snapshot(|s| {
            s.account.lateness_for_test(0, 7_500);
            s.account.lateness_for_test(2 * SECOND, 2_500);
            s.account.response_time.record(2 * SECOND + 1_000_000, 10_000);
        });
        let verdict = |share| {
            Limit::new(
                &late,
                Some(1000.0),
                &Circumstances { processor_share: share, ..Circumstances::default() },
            )
        };
        let limit = verdict(Some(0.031));
        assert!(limit.fell_short && limit.generator && limit.by == [LimitReason::Cpu], "{limit:?}");
        assert_eq!(
            limit.text,
            "The generator was the limit: it was late itself (99 % of records were made within 2000.9 ms of \
             their start), stopped or kept from the processors, using 3 % of its processors' time."
        );
        assert!(verdict(Some(0.97)).text.contains("it had too little processor time (99 % of records"));
        // What waited far longer for something else was not made late.
        let waited = snapshot(|s| {
            s.account.lateness_for_test(20_000_000, 10_000);
            s.account.response_time.record(SECOND, 10_000);
        });
        assert_eq!(limit_of(&waited, Some(1000.0)).by, []);
    }

    #[test]
    fn what_was_never_sent_is_not_the_streams_fault() {
        let lose = |never_sent: u64, unanswered: u64| {
            let held = snapshot(move |s| {
                s.account.hold(Holdup::ShardLimit, 9 * SECOND);
                let ledger = &mut s.account.ledger;
                ledger.acked -= never_sent + unanswered;
                ledger.fail_many(never_sent, Cause::NeverSent);
                ledger.fail_many(unanswered, Cause::Unanswered);
                let shard = s.account.shard(0, crate::kinesis::ShardId(0));
                s.account.shards[shard].limit = Some(986.0);
            });
            limit_of(&held, Some(2000.0))
        };
        let limit = lose(6_000, 170);
        assert_eq!((limit.generator, &limit.by[..]), (true, &[LimitReason::ShardLimit][..]));
        assert_eq!(
            limit.text,
            "The generator was the limit, as it keeps within the shards' capacity: all that waited, waited for \
             its shard's limit for 90 % of the run (--shard-limit lets 986 records/s pass to 1 open shards; a \
             provisioned one takes 1000 and 1 MiB/s); more shards, evener --keys or --aggregate would help, \
             more processors would not; 6000 records were never sent when their time \
             was over (--drain-timeout, --record-ttl)."
        );
        assert_eq!(lose(0, 170).by, [LimitReason::Stream, LimitReason::ShardLimit]);
    }

    #[test]
    fn the_destination_of_lines_is_named() {
        let failed = snapshot(|s| {
            s.account.ledger.acked = 0;
            s.account.ledger.fail_many(10_000, Cause::Request(RequestErrorKind::Fatal));
        });
        let around = Circumstances { lines: true, ..Circumstances::default() };
        let limit = Limit::new(&failed, Some(1000.0), &around);
        assert_eq!((limit.generator, &limit.by[..]), (false, &[LimitReason::Stream][..]));
        assert_eq!(
            limit.text,
            "The destination of --to was the limit: 10000 records were lost (request_fatal 10000)."
        );
    }

    #[test]
    fn a_lack_of_processor_time_is_named() {
        let busy = |share, change: fn(&mut Snapshot)| {
            let around = Circumstances { processor_share: Some(share), ..Circumstances::default() };
            Limit::new(&snapshot(change), Some(2000.0), &around)
        };
        let in_flight = |s: &mut Snapshot| s.account.hold(Holdup::InFlight, 8 * SECOND);
        assert_eq!(busy(0.95, in_flight).by, [LimitReason::Cpu, LimitReason::InFlightBound]);
        assert_eq!(busy(0.5, in_flight).by, [LimitReason::InFlightBound]);
        // Requests that took longer to be written than to be answered had their room taken by tickgen.
        let lines = |answering| {
            let around = Circumstances { lines: true, ..Circumstances::default() };
            let last = snapshot(move |s| {
                s.account.hold(Holdup::InFlight, 8 * SECOND);
                (s.account.writing, s.account.answering) = (SECOND, answering);
            });
            Limit::new(&last, Some(2000.0), &around).by
        };
        assert_eq!(lines(3 * SECOND), [LimitReason::Cpu, LimitReason::InFlightBound]);
        assert_eq!(lines(7 * SECOND), [LimitReason::Stream, LimitReason::InFlightBound]);
        let writing = |s: &mut Snapshot| {
            s.account.hold(Holdup::InFlight, 8 * SECOND);
            (s.account.writing, s.account.answering) = (6 * SECOND, 2 * SECOND);
        };
        let limit = busy(0.5, writing);
        assert_eq!(limit.by, [LimitReason::Cpu, LimitReason::InFlightBound]);
        assert!(
            limit.text.contains("made its requests no faster than they were taken, using 50 %"),
            "{}",
            limit.text
        );
        // More processors would not help against these.
        let shards = |s: &mut Snapshot| s.account.hold(Holdup::ShardLimit, 9 * SECOND);
        assert_eq!(busy(0.95, shards).by, [LimitReason::ShardLimit, LimitReason::Cpu]);
        let throttled = |s: &mut Snapshot| s.account.throttled_entries = 500;
        assert_eq!(busy(0.95, throttled).by, [LimitReason::Stream, LimitReason::Cpu]);
    }
}
