use crate::load::{MILLISECOND, Nanos, SECOND};
use std::collections::VecDeque;

/// What was admitted in the last second, and a little more for what bunches up on the way.
#[derive(Debug)]
pub(super) struct Window {
    limit: f64,
    span: Nanos,
    // Times are rounded up to whole multiples of this, so that few are kept.
    grain: Nanos,
    sum: usize,
    admitted: VecDeque<(Nanos, usize)>,
}

impl Window {
    pub(super) fn of_bytes(limit: f64) -> Self {
        Self { limit, span: SECOND + 30 * MILLISECOND, grain: 1, sum: 0, admitted: VecDeque::new() }
    }

    pub(super) fn of_records(limit: f64) -> Self {
        Self { span: SECOND + 12 * MILLISECOND, grain: 4 * MILLISECOND, ..Self::of_bytes(limit) }
    }

    /// Whether `bytes` more fit now; if not, when the oldest leave. An entry over the limit fits alone.
    pub(super) fn check(&mut self, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        while let Some(&(at, oldest)) = self.admitted.front() {
            if at + self.span > now {
                break;
            }
            self.sum -= oldest;
            self.admitted.pop_front();
        }
        match self.admitted.front() {
            Some((at, _)) if (self.sum + bytes) as f64 > self.limit => Err(at + self.span),
            _ => Ok(()),
        }
    }

    pub(super) fn note(&mut self, bytes: usize, now: Nanos) {
        self.sum += bytes;
        let at = now.div_ceil(self.grain) * self.grain;
        match self.admitted.back_mut() {
            Some((last, sum)) if *last == at => *sum += bytes,
            _ => self.admitted.push_back((at, bytes)),
        }
    }
}
