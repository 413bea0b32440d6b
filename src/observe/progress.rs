use crate::load::{Nanos, SECOND};
use crate::producer::Snapshot;
use hdrhistogram::Histogram;
use std::fmt::Write as _;

/// Progress lines: what happened since the line before.
#[derive(Debug)]
pub struct Progress {
    ends: Option<Nanos>,
    last: Option<Snapshot>,
}

impl Progress {
    /// Lines of a run with this end.
    #[must_use]
    pub fn new(ends: Option<Nanos>) -> Self {
        Self { ends, last: None }
    }

    /// The line that ends the others where the streams are read back: all is settled by now.
    #[must_use]
    pub fn last_line(now: &Snapshot) -> Option<String> {
        let settled = now.draining && now.unsettled == 0 && now.account.ledger.in_flight() == 0;
        settled.then(|| format!("{:>5.0}s  reading back", now.elapsed as f64 / SECOND as f64))
    }

    /// The line for the time since the last call.
    pub fn line(&mut self, now: Snapshot) -> String {
        let empty = Snapshot::empty();
        let last = self.last.as_ref().unwrap_or(&empty);
        let ledger = &now.account.ledger;
        let seconds = (now.elapsed.saturating_sub(last.elapsed)).max(1) as f64 / SECOND as f64;
        let per_second = (ledger.acked - last.account.ledger.acked) as f64 / seconds;
        let target = now.target_rps.map_or_else(|| "max".to_owned(), |rate| format!("{rate:.0}"));
        let mut line = format!("{:>5.0}s", now.elapsed as f64 / SECOND as f64);
        // Pauses put the end off, and another rate the end of so many records.
        self.ends = now.left.filter(|_| !now.draining).map(|left| now.elapsed + left).or(self.ends);
        // Writing to a String cannot fail.
        if let Some(ends) = self.ends {
            let _ = write!(line, " of {}s", ends.div_ceil(SECOND));
        }
        let paused = if now.paused { " (paused)" } else { "" };
        let _ = write!(line, "  {per_second:>8.0}/s of {target}{paused}  acked {}", ledger.acked);
        if let Some(p99) = interval_p99(&now, last) {
            let _ = write!(line, "  p99 {p99:.1} ms");
        }
        for (name, value) in [
            ("backlog", now.backlog_records),
            ("throttled", now.account.throttled_entries - last.account.throttled_entries),
            ("dropped", ledger.dropped),
            ("lost", ledger.lost()),
        ] {
            if value > 0 {
                let _ = write!(line, "  {name} {value}");
            }
        }
        self.last = Some(now);
        line
    }
}

/// The 99th percentile of the response times since `last`, in milliseconds.
fn interval_p99(now: &Snapshot, last: &Snapshot) -> Option<f64> {
    let mut times: Histogram<u64> = now.account.response_time.histogram().clone();
    times.subtract(last.account.response_time.histogram()).ok()?;
    (!times.is_empty()).then(|| times.value_at_quantile(0.99) as f64 / 1000.0)
}
