use crate::load::Rate;
use std::collections::BTreeMap;

/// Finds the highest rate that holds an objective, from one try after another: doubles the rate until
/// one fails, then halves the way (in the logarithm) between the highest that held and the lowest that
/// failed, until they are close enough.
///
/// Each end of that bracket is confirmed before the next rate is tried: by a second try, and by a third where
/// the two differ. While the rate is doubled a rate that held is confirmed by the higher one that held. A rate
/// that failed below one that held is tried again, as is one of which as many tries held as failed.
#[derive(Clone, Debug)]
pub struct Knee {
    from: Rate,
    to: Rate,
    precision: f64,
    tried: BTreeMap<Rate, Tries>,
}

/// How often a rate held the objective, and how often not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tries {
    held: u32,
    failed: u32,
}

impl Tries {
    fn holds(self) -> bool {
        self.held > self.failed
    }

    fn fails(self) -> bool {
        self.failed > self.held
    }

    fn is_sure(self) -> bool {
        self.held.abs_diff(self.failed) > 0 && self.held.max(self.failed) >= 2
    }
}

/// What a search does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try this rate.
    Try(Rate),
    /// Nothing: the answer is known.
    Answer(Answer),
}

/// What a search found. Each rate named was tried at least twice, and the tries that agree are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The knee lies between a rate that holds and one that does not, which are close enough.
    Found {
        /// The highest rate that holds the objective.
        holds: Rate,
        /// The lowest rate above it that does not.
        fails: Rate,
    },
    /// Even the highest rate to try holds.
    HeldThroughout(Rate),
    /// Not even the lowest rate to try holds.
    NeverHeld(Rate),
}

impl Knee {
    /// A search from `from` to `to`, which ends once the highest rate that holds and the lowest that
    /// fails are within `precision` (0.01 = 1 %) of each other.
    #[must_use]
    pub fn new(from: Rate, to: Rate, precision: f64) -> Self {
        Self { from, to: to.max(from), precision, tried: BTreeMap::new() }
    }

    /// What to do next; the same until [`Knee::take`] is told the result.
    #[must_use]
    pub fn next(&self) -> Next {
        if let Some(rate) = self.contradiction() {
            return Next::Try(rate);
        }
        let fails = self.tried.iter().find(|(_, tries)| tries.fails());
        let below = fails.map_or(self.to, |(rate, _)| *rate);
        let holds = self.tried.range(..=below).rev().find(|(_, tries)| tries.holds());
        // An end of the search that is not sure yet is tried again.
        let sure = |rate: Rate, tries: Tries, answer| {
            if tries.is_sure() { Next::Answer(answer) } else { Next::Try(rate) }
        };
        match (holds, fails) {
            (None, None) => Next::Try(self.from),
            (None, Some((&fails, &tries))) => sure(fails, tries, Answer::NeverHeld(fails)),
            (Some((&holds, &tries)), None) if holds == self.to => {
                sure(holds, tries, Answer::HeldThroughout(holds))
            }
            (Some((&holds, _)), None) => {
                let twice = Rate::from_thousandths(holds.thousandths() * 2);
                Next::Try(twice.map_or(self.to, |twice| twice.min(self.to)))
            }
            (Some(_), Some((&fails, failed))) if !failed.is_sure() => Next::Try(fails),
            (Some((&holds, held)), Some(_)) if !held.is_sure() => Next::Try(holds),
            (Some((&holds, _)), Some((&fails, _))) => match self.between(holds, fails) {
                Some(rate) => Next::Try(rate),
                None => Next::Answer(Answer::Found { holds, fails }),
            },
        }
    }

    /// Takes the result of a try.
    pub fn take(&mut self, rate: Rate, held: bool) {
        let tries = self.tried.entry(rate).or_default();
        if held {
            tries.held += 1;
        } else {
            tries.failed += 1;
        }
    }

    /// The lowest rate whose tries so far say nothing: as many held as failed, or one failed where a
    /// higher rate held.
    fn contradiction(&self) -> Option<Rate> {
        let highest = self.tried.iter().rev().find(|(_, tries)| tries.holds()).map(|(rate, _)| *rate);
        let doubtful = |(rate, tries): &(&Rate, &Tries)| {
            tries.held == tries.failed
                || tries.fails() && !tries.is_sure() && highest.is_some_and(|highest| highest > **rate)
        };
        self.tried.iter().find(doubtful).map(|(rate, _)| *rate)
    }

    /// The geometric mean of two rates, in whole records where that is fine enough; `None` if they are
    /// close enough.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, at most 1e10
    fn between(&self, holds: Rate, fails: Rate) -> Option<Rate> {
        let (low, high) = (holds.thousandths() as f64, fails.thousandths() as f64);
        if high <= low * (1.0 + self.precision) {
            return None;
        }
        let mean = (low * high).sqrt();
        [(mean / 1000.0).round() * 1000.0, mean.round()]
            .into_iter()
            .filter(|mean| low < *mean && *mean < high)
            .find_map(|mean| Rate::from_thousandths(mean as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: f64) -> Rate {
        format!("{per_second:.3}").parse().unwrap()
    }

    /// Runs a search to its end; tells the answer and the tries, in order.
    fn run(
        (from, to, precision): (f64, f64, f64),
        mut holds: impl FnMut(f64) -> bool,
    ) -> (Answer, Vec<(Rate, bool)>) {
        let mut knee = Knee::new(rate(from), rate(to), precision);
        let mut tries = Vec::new();
        loop {
            match knee.next() {
                Next::Answer(answer) => return (answer, tries),
                Next::Try(rate) => {
                    let held = holds(rate.per_second());
                    tries.push((rate, held));
                    knee.take(rate, held);
                }
            }
            assert!(tries.len() < 2000, "no end: {tries:?}");
        }
    }

    /// Tries that a search between these needs at most, if every one tells the truth: doublings, a
    /// confirmation of the ends that they come to, then two for each halving of a factor of two in the
    /// logarithm.
    fn most_tries(from: f64, to: f64, precision: f64) -> f64 {
        let doublings = (to / from).log2().ceil() + 1.0;
        let halvings = (2.0_f64.ln() / precision.ln_1p()).log2().ceil().max(0.0) + 1.0;
        doublings + 2.0 + 2.0 * halvings
    }

    #[test]
    fn the_search_brackets_bisects_and_confirms() {
        let (answer, tries) = run((500.0, 8000.0, 0.03), |rate| rate < 1970.0);
        assert_eq!(answer, Answer::Found { holds: rate(1957.0), fails: rate(2000.0) });
        let rates: Vec<f64> = tries.iter().map(|(rate, _)| rate.per_second()).collect();
        assert_eq!(
            rates,
            [
                500.0, 1000.0, 2000.0, 2000.0, 1000.0, 1414.0, 1414.0, 1682.0, 1682.0, 1834.0, 1834.0,
                1915.0, 1915.0, 1957.0, 1957.0
            ]
        );
    }

    #[test]
    fn the_ends_are_told() {
        let (answer, tries) = run((100.0, 1000.0, 0.01), |_| true);
        assert_eq!(answer, Answer::HeldThroughout(rate(1000.0)));
        let rates: Vec<f64> = tries.iter().map(|(rate, _)| rate.per_second()).collect();
        assert_eq!(rates, [100.0, 200.0, 400.0, 800.0, 1000.0, 1000.0]);
        let (answer, tries) = run((100.0, 1000.0, 0.01), |_| false);
        assert_eq!((answer, tries.len()), (Answer::NeverHeld(rate(100.0)), 2));
        assert_eq!(run((100.0, 100.0, 0.01), |_| true).0, Answer::HeldThroughout(rate(100.0)));
    }

    #[test]
    fn one_false_failure_is_found_out() {
        // The 2nd, 3rd, ... try of a search fails by accident.
        for accident in 0..12 {
            let mut count = 0;
            let (answer, _) = run((500.0, 8000.0, 0.01), |rate| {
                count += 1;
                count - 1 != accident && rate < 1970.0
            });
            let Answer::Found { holds, fails } = answer else { panic!("{answer:?}") };
            assert!(holds.per_second() < 1970.0 && fails.per_second() >= 1970.0, "{accident}: {answer:?}");
        }
    }

    proptest! {
        /// Where every rate up to the knee holds and none above, the knee is found as closely as asked,
        /// in as many tries as doubling, halving and confirming take.
        #[test]
        fn the_knee_is_found(from in 0.1..1e4_f64, factor in 1.0..1e4_f64, at in 0.0..1.0_f64, precision in 0.001..0.5_f64) {
            let to = (from * factor).min(1e7);
            let at = from * factor.powf(at);
            let (answer, tries) = run((from, to, precision), |rate| rate <= at);
            prop_assert!(tries.len() as f64 <= most_tries(from, to, precision), "{tries:?}");
            match answer {
                Answer::Found { holds, fails } => {
                    prop_assert!(holds.per_second() <= at && at < fails.per_second());
                    // A thousandth of a record is as fine as rates get.
                    prop_assert!(fails.per_second() <= holds.per_second() * (1.0 + precision) + 0.0011);
                }
                Answer::HeldThroughout(most) => prop_assert!(most == rate(to) && most.per_second() <= at),
                Answer::NeverHeld(least) => prop_assert!(least == rate(from) && least.per_second() > at),
            }
        }

        /// Whatever the tries say, the search ends, no rate is tried more than three times, and the
        /// answer rests on two tries that agree.
        #[test]
        fn any_system_comes_to_an_answer(results in prop::collection::vec(any::<bool>(), 64), precision in 0.005..0.3_f64) {
            let mut results = results.into_iter().cycle();
            let (answer, tries) = run((10.0, 1e4, precision), |_| results.next().unwrap());
            let times = |rate: Rate, held: bool| tries.iter().filter(|one| **one == (rate, held)).count();
            for (rate, _) in &tries {
                prop_assert!(times(*rate, true) + times(*rate, false) <= 3, "{tries:?}");
            }
            match answer {
                Answer::Found { holds, fails } => {
                    prop_assert!(times(holds, true) == 2 && times(fails, false) == 2 && holds < fails);
                }
                Answer::HeldThroughout(rate) => prop_assert!(times(rate, true) == 2),
                Answer::NeverHeld(rate) => prop_assert!(times(rate, false) == 2),
            }
        }

        /// Where a try near the knee goes either way, the answer is near it: within the band in which
        /// tries are uncertain and the precision, in not many more tries.
        #[test]
        fn noise_near_the_knee_does_no_harm(at in 100.0..5e4_f64, noise in prop::collection::vec(-0.02..0.02_f64, 200)) {
            let mut noise = noise.into_iter().cycle();
            let (answer, tries) = run((50.0, 1e5, 0.01), |rate| rate <= at * (1.0 + noise.next().unwrap()));
            let Answer::Found { holds, .. } = answer else { panic!("{answer:?}") };
            let off = holds.per_second() / at;
            prop_assert!((0.97..=1.02).contains(&off), "{off} after {tries:?}");
            prop_assert!(tries.len() as f64 <= 3.0 * most_tries(50.0, 1e5, 0.01), "{} tries", tries.len());
        }
    }
}
