use super::Record;
use crate::load::Nanos;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// When a failed record is sent again, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long after its intended start a record may still be sent.
    pub record_ttl: Nanos,
    /// How often a record is sent at most, the first time included.
    pub max_attempts: u16,
    /// The longest pause after the first failure.
    pub backoff: Nanos,
    /// The longest pause after any failure.
    pub max_backoff: Nanos,
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again at this time.
    Resend(Nanos),
    /// Its time to live would have passed.
    Expired,
    /// It was sent as often as it may be.
    Exhausted,
}

impl RetryPolicy {
    /// The verdict on a record whose `attempts`-th attempt failed at `now`.
    ///
    /// Exponential backoff with full jitter: the pause is `jitter`, in `[0, 1)`, times the lesser of
    /// `max_backoff`, `backoff * 2^(attempts - 1)` and what is left of the record's time to live.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 0..=max_backoff
    pub fn verdict(&self, record: &Record, now: Nanos, jitter: f64) -> Verdict {
        if record.attempts >= self.max_attempts {
            return Verdict::Exhausted;
        }
        // Within what is left of its time to live.
        let left = record.intended.saturating_add(self.record_ttl).saturating_sub(now);
        if left == 0 {
            return Verdict::Expired;
        }
        let longest = longest_pause(self, record.attempts).min(left - 1);
        Verdict::Resend(now.saturating_add((longest as f64 * jitter) as Nanos))
    }

    /// Whether it is too late to send the record at `now`.
    #[must_use]
    pub fn is_expired(&self, record: &Record, now: Nanos) -> bool {
        now >= record.intended.saturating_add(self.record_ttl)
    }
}

fn longest_pause(policy: &RetryPolicy, attempts: u16) -> Nanos {
    let doublings = attempts.saturating_sub(1).min(63);
    policy.backoff.saturating_mul(1 << doublings).min(policy.max_backoff)
}

/// Records that wait for their resend, by time.
#[derive(Debug, Default)]
pub struct RetryQueue {
    heap: BinaryHeap<Reverse<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    at: Nanos,
    record: Record,
}

impl Waiting {
    /// Of two records due at once the earlier-numbered goes first, so that order is defined.
    fn key(&self) -> (Nanos, u64) {
        (self.at, self.record.n)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl RetryQueue {
    /// Keeps a record until `at`.
    pub fn push(&mut self, record: Record, at: Nanos) {
        self.heap.push(Reverse(Waiting { at, record }));
    }

    /// The next record whose time has come.
    pub fn pop_due(&mut self, now: Nanos) -> Option<Record> {
        if self.next_at()? > now {
            return None;
        }
        self.pop()
    }

    /// The next record, due or not.
    pub fn pop(&mut self) -> Option<Record> {
        self.heap.pop().map(|Reverse(waiting)| waiting.record)
    }

    /// When the next record is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(waiting)| waiting.at)
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.heap.len() as u64
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{MILLISECOND, SECOND};
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy {
        record_ttl: 30 * SECOND,
        max_attempts: 10,
        backoff: 50 * MILLISECOND,
        max_backoff: 2 * SECOND,
    };

    fn tried(attempts: u16) -> Record {
        Record { attempts, ..Record::new(7, SECOND, 68, 16) }
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let pause = |attempts| match POLICY.verdict(&tried(attempts), SECOND, 0.5) {
            Verdict::Resend(at) => at - SECOND,
            other => panic!("{other:?}"),
        };
        assert_eq!(pause(1), 25 * MILLISECOND);
        assert_eq!(pause(2), 50 * MILLISECOND);
        assert_eq!(pause(4), 200 * MILLISECOND);
        assert_eq!(pause(9), SECOND);
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        assert_eq!(POLICY.verdict(&tried(10), SECOND, 0.0), Verdict::Exhausted);
    }

    proptest! {
        #[test]
        fn a_resend_is_never_late_nor_early(attempts in 1_u16..12, now in SECOND..40 * SECOND, jitter in 0.0..1.0_f64) {
            let record = tried(attempts);
            match POLICY.verdict(&record, now, jitter) {
                Verdict::Resend(at) => {
                    prop_assert!(attempts < POLICY.max_attempts);
                    prop_assert!(at >= now && at - now <= POLICY.max_backoff);
                    prop_assert!(at < record.intended + POLICY.record_ttl);
                }
                Verdict::Expired => {
                    prop_assert!(now >= record.intended + POLICY.record_ttl);
                }
                Verdict::Exhausted => prop_assert!(attempts >= POLICY.max_attempts),
            }
        }

        #[test]
        fn every_record_leaves_the_queue_once_and_in_time(times in prop::collection::vec(0_u64..100, 0..50)) {
            let mut queue = RetryQueue::default();
            for (n, &at) in times.iter().enumerate() {
                queue.push(Record::new(n as u64, 0, 1, 1), at);
            }
            let mut left = Vec::new();
            for now in 0..100 {
                while let Some(record) = queue.pop_due(now) {
                    prop_assert_eq!(times[usize::try_from(record.n).unwrap()], now);
                    left.push(record.n);
                }
            }
            left.sort_unstable();
            prop_assert_eq!(left, (0..times.len() as u64).collect::<Vec<_>>());
            prop_assert!(queue.is_empty());
        }
    }
}
