//! What the keys change of a run.

use super::keys::HELD_KEY;
use crate::load::Rate;
use crate::producer::{Snapshot, SteerError, Steering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the rate that was asked for is what the next key goes on from: after that it shows in snapshots.
const ASKED: Duration = Duration::from_secs(1);

/// The keys raise the rate to so many times what they found: one that is held down is pressed 30 times a second.
const MOST: u64 = 10;

/// Obeys the keys that change the rate.
#[derive(Debug)]
pub(super) struct Steer {
    steering: Steering,
    asked: Option<(Rate, Instant)>,
    /// The highest rate that the keys set, once one was pressed.
    most: Option<Rate>,
    told: bool,
}

/// Which way a rate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Steer {
    pub(super) fn new(steering: Steering) -> Self {
        Self { steering, asked: None, most: None, told: false }
    }

    /// All loads together offer a tenth more or less than they do.
    pub(super) fn change_rate(&mut self, way: Way, loads: &[Arc<Snapshot>], now: Instant) {
        let asked = self.asked.filter(|(_, at)| now.saturating_duration_since(*at) < ASKED);
        let Some(rate) = asked.map(|(rate, _)| rate).or_else(|| offered(loads)) else {
            tracing::info!("there is no rate to change: as much is sent as answers allow, or nothing");
            return;
        };
        let Some(rate) = self.wanted(rate, way) else { return };
        match self.steering.set_rate(Some(rate)) {
            Ok(()) => {
                self.asked = Some((rate, now));
                tracing::info!(rps = rate.per_second(), "the rate is set");
            }
            Err(error) => tell(&error),
        }
    }

    /// The rate after another; `None` if the keys go no further, which is told once.
    fn wanted(&mut self, rate: Rate, way: Way) -> Option<Rate> {
        let most = *self.most.get_or_insert_with(|| most(rate));
        if way == Way::Up && rate >= most {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(
                    "+ goes no further than {MOST} times the rate that it found, {most}/s; PUT /rate does"
                );
            }
            return None;
        }
        self.told = false;
        let next = next(rate, way);
        Some(if way == Way::Up { next.min(most) } else { next })
    }

    /// Pauses the run, or has it go on.
    pub(super) fn pause(&self, loads: &[Arc<Snapshot>]) {
        let paused = loads.iter().any(|load| load.paused);
        let (done, what) = if paused {
            (self.steering.resume(), "the load goes on")
        } else {
            (self.steering.pause(), "the load is paused")
        };
        match done {
            Ok(()) => tracing::info!("{what}"),
            Err(error) => tell(&error),
        }
    }
}

fn tell(error: &SteerError) {
    tracing::warn!("{error}");
}

/// What the loads that are not over offer together, but for a pause.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // what is out of range is no rate
fn offered(loads: &[Arc<Snapshot>]) -> Option<Rate> {
    let rates = loads.iter().filter(|load| !load.draining).map(|load| load.schedule_rps);
    let sum = rates.sum::<Option<f64>>()?;
    Rate::from_thousandths((sum * 1000.0).round() as u64)
}

/// The rate a tenth above or below another, to three digits.
fn next(rate: Rate, way: Way) -> Rate {
    let now = rate.thousandths();
    let next = match way {
        Way::Up => (now + now.div_ceil(10)).max(now + 1),
        Way::Down => (now * 10 / 11).min(now - 1).max(1),
    };
    let unit = 10_u64.pow(next.ilog10().saturating_sub(2));
    let rounded = (next + unit / 2) / unit * unit;
    Rate::from_thousandths(rounded.min(Rate::MAX_PER_SECOND * 1000)).unwrap_or(rate)
}

/// The highest rate that the keys set where they found this one.
fn most(found: Rate) -> Rate {
    let most = found.thousandths().saturating_mul(MOST).min(Rate::MAX_PER_SECOND * 1000);
    Rate::from_thousandths(most).unwrap_or(found)
}

/// When quitting was asked for.
#[derive(Debug, Default)]
pub(super) struct Quits {
    last: Option<Instant>,
}

impl Quits {
    pub(super) fn asked(&self) -> bool {
        self.last.is_some()
    }

    /// Whether this is the same press as the last: a key that is held repeats sooner than anyone presses it
    /// again on purpose.
    pub(super) fn is_held(&mut self, now: Instant) -> bool {
        let held = self.last.is_some_and(|last| now.saturating_duration_since(last) < HELD_KEY);
        if held {
            self.last = Some(now);
        }
        held
    }

    pub(super) fn ask(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(from: u64, way: Way) -> Vec<u64> {
        let rate = Rate::from_thousandths(from).unwrap();
        std::iter::successors(Some(rate), |rate| Some(next(*rate, way)))
            .map(Rate::thousandths)
            .take(4)
            .collect()
    }

    #[test]
    fn a_step_is_a_tenth_and_back_again() {
        assert_eq!(steps(5_000_000, Way::Up), [5_000_000, 5_500_000, 6_050_000, 6_660_000]);
        assert_eq!(steps(6_660_000, Way::Down), [6_660_000, 6_050_000, 5_500_000, 5_000_000]);
        assert_eq!(steps(3, Way::Down), [3, 2, 1, 1]);
        assert_eq!(steps(1, Way::Up), [1, 2, 3, 4]);
        let most = Rate::MAX_PER_SECOND * 1000;
        assert_eq!(steps(most, Way::Up), [most; 4]);
    }

    #[test]
    fn a_held_key_goes_to_ten_times_the_rate() {
        let mut steer = Steer::new(Steering::default());
        let rate = |per_second: u64| Rate::from_thousandths(per_second * 1000).unwrap();
        let (mut now, mut presses) = (rate(300), 0);
        while let Some(next) = steer.wanted(now, Way::Up) {
            (now, presses) = (next, presses + 1);
        }
        assert_eq!((now, presses), (rate(3000), 25));
        assert_eq!(steer.wanted(now, Way::Down), Some(rate(2730)));
        assert_eq!(steer.wanted(rate(2730), Way::Up), Some(now));
        // A rate that was given by HTTP is not taken back.
        assert_eq!(
            (steer.wanted(rate(9000), Way::Up), steer.wanted(rate(9000), Way::Down)),
            (None, Some(rate(8180)))
        );
    }

    proptest! {
        #[test]
        fn a_step_always_leads_on(from in 2..Rate::MAX_PER_SECOND * 1000) {
            prop_assert!(steps(from, Way::Up)[1] > from);
            prop_assert!(steps(from, Way::Down)[1] < from);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant to begin with")]
    fn a_held_key_quits_once() {
        let mut quits = Quits::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!quits.asked() && !quits.is_held(at(0)));
        quits.ask(at(0));
        // Held for a second and a half, repeated 30 times a second.
        assert!((1..45).all(|n| quits.is_held(at(n * 33))));
        assert!(quits.asked() && !quits.is_held(at(1452 + 500)));
    }
}
