use crate::producer::{Cause, Holdup, Ledger, Snapshot};
use serde::{Deserialize, Serialize};

/// What kept a load from going faster, or from its target.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Limit {
    /// Whether the load fell short: it missed 99 % of its target, dropped or lost records, or sent them
    /// too late. A closed loop has no target, and always meets a limit.
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
    /// The same for those who read, in a sentence.
    pub text: String,
}

/// One thing that limited a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReason {
    /// tickgen made its records late: it had too little processor time.
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

/// Records made later than this, in the 99th percentile, were late for want of processor time.
const LATE_MICROS: u64 = 50_000;

impl Limit {
    pub(super) fn new(last: &Snapshot, target_rps: Option<f64>) -> Self {
        let account = &last.account;
        let (ledger, warmup) = (&account.ledger, &account.warmup);
        let short = target_rps.is_some_and(|target| last.achieved_rps() < 0.99 * target);
        let unsent = ledger.dropped - warmup.dropped + ledger.lost() - warmup.lost() + account.acked_late;
        let fell_short = target_rps.is_none() || short || unsent > 0;
        let share = |holdup| last.held_share(holdup);
        let (in_flight, shards) = (share(Holdup::InFlight), share(Holdup::ShardLimit));
        let late = account.start_lateness.histogram().value_at_quantile(0.99) >= LATE_MICROS;
        let answered = account.entries.total() - account.warmup_entries;
        let throttled = (account.throttled_entries - account.warmup_throttled) * 1000 > answered;
        let mut by = Vec::new();
        if fell_short && last.measured() > 0 {
            // A limit that adapts, and a full backlog, follow from a stream that throttles or is silent.
            if throttled || stream_lost(ledger, warmup) || share(Holdup::NoAnswer) >= NOTABLE {
                by.push(LimitReason::Stream);
            }
            let mut held = [(in_flight, LimitReason::InFlightBound), (shards, LimitReason::ShardLimit)];
            held.sort_by(|a, b| b.0.total_cmp(&a.0));
            by.extend(held.iter().filter(|(share, _)| *share >= NOTABLE).map(|(_, reason)| *reason));
            if by.is_empty() && !late && ledger.lost() > warmup.lost() {
                by.push(LimitReason::Stream);
            }
            if late || by.is_empty() && target_rps.is_none() {
                by.push(LimitReason::Cpu);
            }
            if account.unkept > 0 {
                by.push(LimitReason::ReplayBound);
            }
            if ledger.dropped - warmup.dropped > account.unkept {
                by.push(LimitReason::BacklogBound);
            }
        }
        let generator = by.first().is_some_and(|reason| *reason != LimitReason::Stream);
        let mut limit = Self {
            fell_short,
            generator,
            by,
            in_flight_share: in_flight,
            shard_limit_share: shards,
            no_answer_share: share(Holdup::NoAnswer),
            text: String::new(),
        };
        limit.text = limit.sentence(last);
        limit
    }

    fn sentence(&self, last: &Snapshot) -> String {
        let Some(first) = self.by.first() else { return String::new() };
        let account = &last.account;
        let service = account.service_time.histogram().value_at_quantile(0.5) as f64 / 1000.0;
        let why = |reason: &LimitReason| match reason {
            LimitReason::Cpu if account.start_lateness.histogram().max() == 0 => {
                "it made and sent records as fast as it could".to_owned()
            }
            LimitReason::Cpu => format!(
                "it had too little processor time (99 % of records were made within {:.1} ms of their start)",
                account.start_lateness.histogram().value_at_quantile(0.99) as f64 / 1000.0
            ),
            LimitReason::ReplayBound => {
                format!("{} records found no room to be kept (--max-replay-bytes)", account.unkept)
            }
            LimitReason::InFlightBound => format!(
                "requests in flight were at their bound for {:.0} % of the run, with a service time of \
                 {service:.1} ms in the middle (--max-requests, --max-connections, --max-in-flight-bytes)",
                self.in_flight_share * 100.0
            ),
            LimitReason::BacklogBound => {
                format!(
                    "{} records found the backlog full (--max-backlog)",
                    account.ledger.dropped - account.unkept
                )
            }
            LimitReason::ShardLimit => format!(
                "all that waited, waited for its shard's limit for {:.0} % of the run (--shard-limit, \
                 the number of shards, --keys)",
                self.shard_limit_share * 100.0
            ),
            LimitReason::Stream => format!(
                "it throttled {} entries, {} records were lost, and for {:.0} % of the run no answer came",
                account.throttled_entries,
                account.ledger.lost(),
                self.no_answer_share * 100.0
            ),
        };
        let reasons: Vec<String> = self.by.iter().map(why).collect();
        let who = if *first == LimitReason::Stream { "The stream" } else { "The generator" };
        format!("{who} was the limit: {}.", reasons.join("; "))
    }
}

/// Whether the stream had a part in what was lost: not in what was never sent, or had no answer yet when the run
/// was ended at once.
fn stream_lost(ledger: &Ledger, warmup: &Ledger) -> bool {
    ledger.lost_by_cause().any(|(cause, lost)| {
        !matches!(cause, Cause::NeverSent | Cause::Unanswered) && lost > warmup.lost_by(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;

    fn snapshot(change: impl Fn(&mut Snapshot)) -> Snapshot {
        let mut snapshot = Snapshot::empty();
        (snapshot.elapsed, snapshot.span, snapshot.scheduled) = (10 * SECOND, 10 * SECOND, 10_000);
        snapshot.account.ledger.generated = 10_000;
        snapshot.account.ledger.acked = 10_000;
        change(&mut snapshot);
        snapshot
    }

    #[test]
    fn a_run_that_held_its_rate_met_no_limit() {
        let limit = Limit::new(&snapshot(|_| {}), Some(1000.0));
        assert!(!limit.fell_short && limit.by.is_empty() && limit.text.is_empty(), "{limit:?}");
    }

    #[test]
    fn the_limit_is_named() {
        let hold = |holdup, seconds| snapshot(move |s| s.account.hold(holdup, seconds * SECOND));
        let target = Some(2000.0);
        let by = |snapshot: &Snapshot| Limit::new(snapshot, target).by;
        assert_eq!(by(&hold(Holdup::InFlight, 8)), [LimitReason::InFlightBound]);
        assert_eq!(by(&hold(Holdup::ShardLimit, 8)), [LimitReason::ShardLimit]);
        assert_eq!(by(&snapshot(|s| s.account.throttled_entries = 500)), [LimitReason::Stream]);
        let dropped = snapshot(|s| {
            s.account.hold(Holdup::InFlight, 5 * SECOND);
            s.account.ledger.dropped = 7;
        });
        assert_eq!(by(&dropped), [LimitReason::InFlightBound, LimitReason::BacklogBound]);
        assert_eq!(by(&hold(Holdup::NoAnswer, 5)), [LimitReason::Stream]);
        let limit = Limit::new(&dropped, target);
        assert!(limit.generator && limit.text.starts_with("The generator was the limit: requests in flight"));
    }

    #[test]
    fn what_was_never_sent_for_the_shards_limit_is_not_the_streams() {
        let waited = |cause| {
            snapshot(move |s| {
                s.account.hold(Holdup::ShardLimit, 9 * SECOND);
                s.account.ledger.fail_many(5_000, cause);
            })
        };
        let limit = Limit::new(&waited(Cause::NeverSent), Some(2000.0));
        assert_eq!((limit.generator, &limit.by[..]), (true, &[LimitReason::ShardLimit][..]), "{limit:?}");
        assert!(limit.text.starts_with("The generator was the limit: all that waited"), "{}", limit.text);
        let timed_out = Cause::Request(crate::kinesis::RequestErrorKind::TimedOut);
        let limit = Limit::new(&waited(timed_out), Some(2000.0));
        assert_eq!(limit.by, [LimitReason::Stream, LimitReason::ShardLimit]);
        // Where nothing else shows, it is the stream that was sent to.
        let silent = snapshot(|s| s.account.ledger.fail_many(7, Cause::Unanswered));
        assert_eq!(Limit::new(&silent, Some(1000.0)).by, [LimitReason::Stream]);
    }

    #[test]
    fn late_records_show_a_lack_of_processor_time() {
        let late = snapshot(|s| s.account.lateness_for_test(200_000_000));
        assert_eq!(Limit::new(&late, Some(2000.0)).by, [LimitReason::Cpu]);
    }
}
