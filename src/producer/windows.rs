use super::{Account, Durations, ShardAccount};
use crate::kinesis::ShardId;
use crate::load::{Nanos, SECOND};
use hdrhistogram::Histogram;
use std::sync::Arc;

/// What happened in one window of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// When it began.
    pub from: Nanos,
    /// How long it was.
    pub span: Nanos,
    /// Records that fell due in it.
    pub scheduled: u64,
    /// Records made in it.
    pub generated: u64,
    /// Records acked in it.
    pub acked: u64,
    /// Records given up in it.
    pub lost: u64,
    /// Records dropped in it.
    pub dropped: u64,
    /// Entries throttled in it.
    pub throttled: u64,
    /// Entries kept in it to be sent again.
    pub retried: u64,
    /// The response times of its acked records that are measured, in microseconds, cut to two
    /// significant digits, each with its count; in ascending order.
    response: Vec<(u32, u32)>,
    /// What became of its entries by shard, for the first [`Windows::MOST_SHARDS`] of an account; those
    /// without entries are left out.
    pub shards: Vec<ShardWindow>,
}

/// What became of one shard's entries in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardWindow {
    /// Which of the run's streams it is of, from 0.
    pub stream: usize,
    /// The shard.
    pub id: ShardId,
    /// Kinesis records that it took.
    pub accepted: u64,
    /// Kinesis records that it throttled.
    pub throttled: u64,
}

/// The windows of a run: a second each, and once there are [`Windows::MOST`] of them twice as long, so
/// that a run of days has as many as one of minutes.
#[derive(Clone, Debug, Default)]
pub struct Windows(Vec<Arc<Window>>);

/// Cuts the account of an engine into windows.
#[derive(Debug)]
pub(super) struct WindowCutter {
    width: Nanos,
    current: Window,
    // The account at the start of the current window.
    seen: Window,
    times: Histogram<u64>,
}

impl Window {
    /// How many records its times are of.
    #[must_use]
    pub fn measured(&self) -> u64 {
        self.response.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The response time that a share of its records did not exceed, in microseconds; 0 without one.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the count
    pub fn response_micros(&self, quantile: f64) -> u64 {
        let mut rank = ((quantile * self.measured() as f64).ceil() as u64).max(1);
        for (micros, count) in &self.response {
            if u64::from(*count) >= rank {
                return u64::from(*micros);
            }
            rank -= u64::from(*count);
        }
        self.response.last().map_or(0, |(micros, _)| u64::from(*micros))
    }

    /// Adds what happened in another window; the span covers both.
    fn add(&mut self, other: &Self) {
        let ends = (self.from + self.span).max(other.from + other.span);
        self.from = self.from.min(other.from);
        self.span = ends - self.from;
        self.scheduled += other.scheduled;
        self.generated += other.generated;
        self.acked += other.acked;
        self.lost += other.lost;
        self.dropped += other.dropped;
        self.throttled += other.throttled;
        self.retried += other.retried;
        for theirs in &other.shards {
            match self.shards.iter_mut().find(|mine| (mine.stream, mine.id) == (theirs.stream, theirs.id)) {
                Some(mine) => {
                    mine.accepted += theirs.accepted;
                    mine.throttled += theirs.throttled;
                }
                None => self.shards.push(*theirs),
            }
        }
        self.response.extend(&other.response);
        self.response.sort_unstable();
        self.response.dedup_by(|(micros, count), (kept, sum)| {
            let same = micros == kept;
            if same {
                *sum = sum.saturating_add(*count);
            }
            same
        });
    }

    /// The counts of an account so far.
    fn counts(account: &Account, scheduled: u64) -> Self {
        let shard = |shard: &ShardAccount| ShardWindow {
            stream: shard.stream,
            id: shard.id,
            accepted: shard.accepted,
            throttled: shard.throttled,
        };
        Self {
            scheduled,
            shards: account.shards.iter().take(Windows::MOST_SHARDS).map(shard).collect(),
            generated: account.ledger.generated,
            acked: account.ledger.acked,
            lost: account.ledger.lost(),
            dropped: account.ledger.dropped,
            throttled: account.throttled_entries,
            retried: account.retried_entries,
            ..Self::default()
        }
    }

    fn since(&self, before: &Self) -> Self {
        let nothing = |now: &ShardWindow| ShardWindow { accepted: 0, throttled: 0, ..*now };
        // Shards are only ever added to an account, at its end.
        let shards = self.shards.iter().enumerate().map(|(place, now)| {
            let before = before.shards.get(place).copied().unwrap_or(nothing(now));
            ShardWindow {
                accepted: now.accepted - before.accepted,
                throttled: now.throttled - before.throttled,
                ..*now
            }
        });
        Self {
            shards: shards.filter(|shard| shard.accepted + shard.throttled > 0).collect(),
            scheduled: self.scheduled - before.scheduled,
            generated: self.generated - before.generated,
            acked: self.acked - before.acked,
            lost: self.lost - before.lost,
            dropped: self.dropped - before.dropped,
            throttled: self.throttled - before.throttled,
            retried: self.retried - before.retried,
            ..Self::default()
        }
    }
}

impl Windows {
    /// The most windows that are kept.
    pub const MOST: usize = 1200;

    /// The most shards whose entries are kept by window: 5 MB with as many windows as there can be.
    pub const MOST_SHARDS: usize = 128;

    /// The windows, one after another.
    pub fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter().map(Arc::as_ref)
    }

    fn push(&mut self, window: Window) {
        self.0.push(Arc::new(window));
    }

    /// Makes one window of all those that begin in the same `width`.
    fn widen(&mut self, width: Nanos) {
        let mut wide: Vec<Arc<Window>> = Vec::new();
        for window in self.0.drain(..) {
            match wide.last_mut() {
                Some(last) if last.from / width == window.from / width => Arc::make_mut(last).add(&window),
                _ => wide.push(window),
            }
        }
        self.0 = wide;
    }

    /// Adds the windows of another engine of the run.
    pub(super) fn merge(&mut self, other: &Self) {
        let width = |windows: &Self| windows.iter().map(|w| w.span).max().unwrap_or(0).max(SECOND);
        let width = width(self).max(width(other)).next_multiple_of(SECOND);
        self.0.extend(other.0.iter().cloned());
        self.0.sort_by_key(|window| window.from);
        self.widen(width);
    }
}

impl WindowCutter {
    pub(super) fn new() -> Self {
        let times = Durations::new().histogram().clone();
        Self { width: SECOND, current: Window::default(), seen: Window::default(), times }
    }

    /// Whether the time of the current window is over.
    pub(super) fn is_over(&self, now: Nanos) -> bool {
        now >= self.current.from + self.width
    }

    /// Ends the current window if its time is over.
    pub(super) fn cut(&mut self, account: &mut Account, scheduled: u64, now: Nanos) {
        if self.is_over(now) {
            self.close(account, scheduled, now);
            self.current.from = now / self.width * self.width;
        }
    }

    /// Ends the current window at `now`, wherever it is: what happened since its start is in it.
    pub(super) fn close(&mut self, account: &mut Account, scheduled: u64, now: Nanos) {
        let from = self.current.from;
        let counts = Window::counts(account, scheduled);
        let window = Window {
            from,
            span: now.min(from + self.width).saturating_sub(from),
            response: new_times(account.response_time.histogram(), &mut self.times),
            ..counts.since(&self.seen)
        };
        self.seen = counts;
        self.current.from = now;
        account.windows.push(window);
        if account.windows.0.len() >= Windows::MOST {
            self.width *= 2;
            account.windows.widen(self.width);
        }
    }
}

/// What `all` has more than `seen`, which becomes `all`.
fn new_times(all: &Histogram<u64>, seen: &mut Histogram<u64>) -> Vec<(u32, u32)> {
    let mut times: Vec<(u32, u32)> = Vec::new();
    for step in all.iter_recorded() {
        let micros = step.value_iterated_to();
        // It may have no room for longer ones.
        let before = if micros > seen.max() { 0 } else { seen.count_at(micros) };
        let more = step.count_at_value() - before;
        if more == 0 {
            continue;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let cut = u32::try_from(two_digits(micros)).unwrap_or(u32::MAX);
        match times.last_mut() {
            Some((last, count)) if *last == cut => *count = count.saturating_add(more),
            _ => times.push((cut, more)),
        }
    }
    seen.clone_from(all);
    times
}

/// Rounded up within the highest eight binary digits: at most 0.8 % more.
fn two_digits(micros: u64) -> u64 {
    let shift = (64 - micros.leading_zeros()).saturating_sub(8);
    micros | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::MILLISECOND;
    use proptest::prelude::*;

    fn account() -> Account {
        Account::new(0)
    }

    #[test]
    fn a_window_holds_what_happened_in_its_second() {
        let (mut account, mut cutter) = (account(), WindowCutter::new());
        for second in 0..3 {
            account.ledger.ack(100 * (second + 1));
            for _ in 0..100 {
                account.response_time.record((second + 1) * 10 * MILLISECOND, 1);
            }
            cutter.cut(&mut account, 0, (second + 1) * SECOND);
        }
        let windows: Vec<_> =
            account.windows.iter().map(|w| (w.from / SECOND, w.acked, w.measured())).collect();
        assert_eq!(windows, [(0, 100, 100), (1, 200, 100), (2, 300, 100)]);
        let p50: Vec<_> = account.windows.iter().map(|w| w.response_micros(0.5)).collect();
        for (seen, true_micros) in p50.iter().zip([10_000, 20_000, 30_000]) {
            assert!((true_micros..=true_micros * 1_009 / 1000).contains(seen), "{p50:?}");
        }
    }

    #[test]
    fn days_take_no_more_windows_than_minutes() {
        let (mut account, mut cutter) = (account(), WindowCutter::new());
        for second in 1..=3 * 86_400 {
            account.ledger.ack(7);
            cutter.cut(&mut account, 0, second * SECOND);
        }
        let windows = &account.windows;
        assert!((Windows::MOST / 2 - 1..Windows::MOST).contains(&windows.0.len()), "{}", windows.0.len());
        assert_eq!(windows.iter().map(|w| w.acked).sum::<u64>() + 7 * cut_off(windows), 3 * 86_400 * 7);
        let mut at = 0;
        for window in windows.iter() {
            assert_eq!(window.from, at);
            at += window.span;
        }
    }

    /// Seconds of the last window, which is not closed.
    fn cut_off(windows: &Windows) -> u64 {
        3 * 86_400 - windows.iter().last().map_or(0, |w| (w.from + w.span) / SECOND)
    }

    proptest! {
        /// Quantiles are within a percent above the true ones, and adding windows adds their times.
        #[test]
        fn quantiles_are_within_a_percent(mut times in prop::collection::vec(1_u64..10_000_000, 1..300), quantile in 0.0_f64..=1.0) {
            let (mut account, mut cutter) = (account(), WindowCutter::new());
            let middle = times.len() / 2;
            for (place, micros) in times.iter().enumerate() {
                account.response_time.record(micros * 1000, 1);
                if place == middle {
                    cutter.cut(&mut account, 0, SECOND);
                }
            }
            cutter.close(&mut account, 0, 2 * SECOND);
            account.windows.widen(2 * SECOND);
            prop_assert_eq!(account.windows.0.len(), 1);
            times.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the length")]
            let rank = ((quantile * times.len() as f64).ceil() as usize).max(1) - 1;
            let (seen, exact) = (account.windows.0[0].response_micros(quantile), times[rank]);
            prop_assert!(seen >= exact && seen as f64 <= exact as f64 * 1.01 + 1.0, "{seen} for {exact}");
        }
    }
}
