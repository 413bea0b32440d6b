use super::{Course, Nanos, SECOND};
use crate::draw::Draws;

/// The field of the draws of arrivals.
const FIELD: u64 = 100;

/// How records arrive around the rate of a shape. All offer the same number in the long run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// As evenly as the rate allows.
    Even,
    /// Independently of each other: a Poisson process with the shape as its rate.
    Poisson,
    /// In bursts, as trades come: a Hawkes process. The base rate is 1 - `excitation` of the shape's;
    /// each arrival raises the rate at once, by what makes `excitation` arrivals in all, and what it
    /// raised decays exponentially.
    Hawkes {
        /// The mean number of arrivals that each arrival brings about; from 0 to below 1.
        excitation: f64,
        /// The time in which what is left of a raise falls to 1/e.
        decay: Nanos,
    },
}

/// The intended starts of random arrivals, one after another: the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct RandomStarts {
    draws: Draws,
    drawn: u64,
    kind: Kind,
    next: Option<Nanos>,
}

#[derive(Clone, Debug)]
enum Kind {
    Poisson {
        // Where the next arrival is in the course's integral, in records.
        count: f64,
    },
    Hawkes(Hawkes),
}

#[derive(Clone, Debug)]
struct Hawkes {
    excitation: f64,
    decay: f64,
    // Where the next arrival of the base rate is in the course's integral, and when that is.
    count: f64,
    base: Option<Nanos>,
    // How much further the one after it is.
    gap: f64,
    // When past arrivals bring about the next; infinite if they do not.
    excited: f64,
    // The rate that past arrivals raised, per nanosecond, and the time of that.
    raised: f64,
    at: f64,
}

impl RandomStarts {
    /// The starts of a run seeded with `seed`; `None` for even arrivals, which are computed.
    pub(super) fn new(arrivals: Arrivals, seed: u64, course: &Course) -> Option<Self> {
        let draws = Draws::new(seed, FIELD);
        let (kind, so_far) = match arrivals {
            Arrivals::Even => return None,
            Arrivals::Poisson => (Kind::Poisson { count: exponential(draws, 1) }, 1),
            Arrivals::Hawkes { excitation, decay } => {
                let mut hawkes = Hawkes {
                    excitation,
                    decay: decay as f64,
                    count: exponential(draws, 1) / (1.0 - excitation),
                    base: None,
                    gap: 0.0,
                    excited: f64::INFINITY,
                    raised: 0.0,
                    at: 0.0,
                };
                hawkes.draw(exponential(draws, 2), exponential(draws, 3));
                (Kind::Hawkes(hawkes), 3)
            }
        };
        let mut starts = Self { draws, drawn: so_far, kind, next: None };
        starts.plan(course);
        Some(starts)
    }

    /// The next start; `None` if the course makes no more.
    pub(super) fn peek(&self) -> Option<Nanos> {
        self.next
    }

    /// Goes on to the start after the next.
    pub(super) fn advance(&mut self, course: &Course) {
        if self.next.is_none() {
            return;
        }
        match &mut self.kind {
            Kind::Poisson { count } => {
                self.drawn += 1;
                *count += exponential(self.draws, self.drawn);
                self.next = course.start_of(*count);
            }
            Kind::Hawkes(hawkes) => {
                if hawkes.arrive() {
                    hawkes.base = course.start_of(hawkes.count);
                }
                self.drawn += 2;
                let (brought, gap) =
                    (exponential(self.draws, self.drawn - 1), exponential(self.draws, self.drawn));
                hawkes.draw(brought, gap);
                self.next = hawkes.next(course.ends());
            }
        }
    }

    /// Finds the time of the next arrival, which is drawn: anew after a turn of the course, as it is the
    /// place in the integral that was drawn.
    pub(super) fn plan(&mut self, course: &Course) {
        self.next = match &mut self.kind {
            // Evenly random in the integral is a Poisson process of the course's rate in time.
            Kind::Poisson { count } => course.start_of(*count),
            Kind::Hawkes(hawkes) => {
                hawkes.base = course.start_of(hawkes.count);
                hawkes.next(course.ends())
            }
        };
    }
}

impl Hawkes {
    /// Draws the next arrival that past ones bring about, exactly (Dassios and Zhao 2013), as the raised
    /// rate only decays until the next arrival; and the gap of the base rate.
    fn draw(&mut self, brought: f64, gap: f64) {
        // All that the raised rate will still bring is raised * decay arrivals.
        let part = brought / (self.raised * self.decay);
        self.excited = if part < 1.0 { self.at - self.decay * (1.0 - part).ln() } else { f64::INFINITY };
        self.gap = gap / (1.0 - self.excitation);
    }

    /// The earlier of the base rate's next arrival and the next that past ones bring about.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // times are not negative
    fn next(&self, ends: Option<Nanos>) -> Option<Nanos> {
        match self.base {
            Some(base) if base as f64 <= self.excited => Some(base),
            _ if self.excited.is_finite() && ends.is_none_or(|end| self.excited < end as f64) => {
                Some(self.excited.ceil() as Nanos)
            }
            _ => None,
        }
    }

    /// The next arrival raises the rate. Tells whether it was one of the base rate.
    fn arrive(&mut self) -> bool {
        let base = self.base.map(|base| base as f64).filter(|base| *base <= self.excited);
        let next = base.unwrap_or(self.excited);
        if base.is_some() {
            self.count += self.gap;
        }
        self.raised = self.raised * (-(next - self.at) / self.decay).exp() + self.excitation / self.decay;
        self.at = next;
        base.is_some()
    }
}

/// The draw of this number, exponential with mean 1.
fn exponential(draws: Draws, n: u64) -> f64 {
    -(1.0 - draws.unit(n)).ln()
}

impl Arrivals {
    /// The default decay of [`Arrivals::Hawkes`].
    pub const DECAY: Nanos = SECOND / 5;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Rate, Shape};

    fn starts(arrivals: Arrivals, shape: &Shape, seed: u64, count: usize) -> Vec<Nanos> {
        let course = Course::new(shape.clone());
        let mut random = RandomStarts::new(arrivals, seed, &course).unwrap();
        let next = || {
            let start = random.peek();
            random.advance(&course);
            start
        };
        std::iter::repeat_with(next).take(count).map_while(|start| start).collect()
    }

    fn constant(per_second: u64) -> Shape {
        Shape::constant(Rate::from_thousandths(per_second * 1000).unwrap())
    }

    /// Mean and variance over mean of the number of arrivals in windows.
    fn dispersion(starts: &[Nanos], window: Nanos) -> (f64, f64) {
        let windows = starts[starts.len() - 1] / window;
        let mut counts = vec![0.0_f64; usize::try_from(windows).unwrap()];
        for start in starts {
            if let Some(count) = usize::try_from(start / window).ok().and_then(|w| counts.get_mut(w)) {
                *count += 1.0;
            }
        }
        let n = counts.len() as f64;
        let mean = counts.iter().sum::<f64>() / n;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / mean)
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        for seed in 1..=5 {
            let starts = starts(Arrivals::Poisson, &constant(1000), seed, 100_000);
            let mut gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
            let n = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / n;
            // Mean 1 ms with a standard error of 1/sqrt(n); 4 of them.
            assert!((mean - 1.0).abs() < 4.0 / n.sqrt(), "seed {seed}: mean {mean}");
            // Kolmogorov and Smirnov: the 0.1 % level is 1.95 / sqrt(n).
            gaps.sort_by(f64::total_cmp);
            let distance = gaps.iter().enumerate().map(|(i, gap)| {
                let expected = 1.0 - (-gap).exp();
                (expected - i as f64 / n).abs().max((expected - (i + 1) as f64 / n).abs())
            });
            let distance = distance.fold(0.0, f64::max);
            assert!(distance < 1.95 / n.sqrt(), "seed {seed}: {distance}");
            // Successive gaps are independent: their correlation has a standard error of 1/sqrt(n).
            let pairs = starts
                .windows(3)
                .map(|s| ((s[1] - s[0]) as f64 / 1e6 - 1.0) * ((s[2] - s[1]) as f64 / 1e6 - 1.0));
            let correlation = pairs.sum::<f64>() / n;
            assert!(correlation.abs() < 4.0 / n.sqrt(), "seed {seed}: {correlation}");
            let (_, dispersion) = dispersion(&starts, SECOND / 100);
            // 10,000 windows: the standard error of the index of dispersion is sqrt(2 / 10,000).
            assert!((dispersion - 1.0).abs() < 4.0 * 0.0142, "seed {seed}: {dispersion}");
        }
    }

    #[test]
    fn poisson_follows_the_shape() {
        use crate::load::{Curve, Piece};
        let ramp = Shape::once(vec![Piece { curve: Curve::Ramp(0, 10_000_000), span: 20 * SECOND }]);
        let starts = starts(Arrivals::Poisson, &ramp, 7, usize::MAX);
        // 100,000 in all, a quarter of them in the first half; 5 standard deviations.
        assert!(starts.len().abs_diff(100_000) < 5 * 316, "{}", starts.len());
        let first_half = starts.partition_point(|&start| start < 10 * SECOND);
        assert!(first_half.abs_diff(25_000) < 5 * 158, "{first_half}");
    }

    /// For windows far longer than the decay, the number of arrivals has a variance of 1/(1-η)^2 of
    /// its mean, and a mean of the shape's rate (Hawkes 1971).
    #[test]
    fn hawkes_arrivals_come_in_bursts_of_the_stated_size() {
        for (seed, excitation) in [(1, 0.0), (2, 0.3), (3, 0.5), (4, 0.8)] {
            let arrivals = Arrivals::Hawkes { excitation, decay: 20 * SECOND / 1000 };
            let starts = starts(arrivals, &constant(1000), seed, 2_000_000);
            let (mean, dispersion) = dispersion(&starts, SECOND);
            let expected = 1.0 / (1.0_f64 - excitation).powi(2);
            // 2,000 windows: the mean's standard error is sqrt(expected * 1000 / 2000).
            assert!((mean - 1000.0).abs() < 5.0 * (expected / 2.0).sqrt(), "{excitation}: mean {mean}");
            assert!((dispersion / expected - 1.0).abs() < 0.2, "{excitation}: {dispersion} for {expected}");
            assert!(starts.is_sorted());
        }
    }

    /// By the random time change theorem, the integral of a Hawkes process' own rate between arrivals is
    /// exponential; a wrong decay or excitation makes it something else. Kolmogorov and Smirnov at 0.1 %.
    #[test]
    fn hawkes_arrivals_follow_their_rate() {
        for (seed, excitation, decay) in [(1, 0.3, 0.02), (2, 0.6, 0.005), (3, 0.8, 0.05)] {
            let of = |assumed_excitation: f64, assumed_decay: f64| {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let nanos = (decay * 1e9) as Nanos;
                let starts =
                    starts(Arrivals::Hawkes { excitation, decay: nanos }, &constant(1000), seed, 50_000);
                // Of the rate that past arrivals raised, in arrivals still to come.
                let (mut pending, mut last, mut gaps) = (0.0, 0.0, Vec::new());
                for start in starts {
                    let at = start as f64 / 1e9;
                    let left = pending * (-(at - last) / assumed_decay).exp();
                    gaps.push((1.0 - assumed_excitation) * 1000.0 * (at - last) + pending - left);
                    (pending, last) = (left + assumed_excitation, at);
                }
                gaps.sort_by(f64::total_cmp);
                let n = gaps.len() as f64;
                let distance = gaps.iter().enumerate().map(|(i, gap)| {
                    let expected = 1.0 - (-gap).exp();
                    (expected - i as f64 / n).abs().max((expected - (i + 1) as f64 / n).abs())
                });
                distance.fold(0.0, f64::max) * n.sqrt()
            };
            assert!(of(excitation, decay) < 1.95, "{excitation}, {decay}: {}", of(excitation, decay));
            if decay > 0.01 {
                continue;
            }
            // The test can fail: a process of other parameters is told apart where bursts are short.
            assert!(of(excitation, decay * 2.0) > 1.95, "{excitation}, {decay}: twice the decay passes");
            assert!(of(excitation - 0.3, decay) > 1.95, "{excitation}, {decay}: less excitation passes");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_starts() {
        for arrivals in [Arrivals::Poisson, Arrivals::Hawkes { excitation: 0.5, decay: Arrivals::DECAY }] {
            let of = |seed| starts(arrivals, &constant(50), seed, 100);
            assert_eq!(of(1), of(1));
            assert_ne!(of(1), of(2));
        }
    }

    #[test]
    fn random_arrivals_end_with_the_shape() {
        use crate::load::{Curve, Piece};
        let shape = Shape::once(vec![Piece { curve: Curve::Hold(100_000), span: SECOND }]);
        for arrivals in [Arrivals::Poisson, Arrivals::Hawkes { excitation: 0.5, decay: Arrivals::DECAY }] {
            let starts = starts(arrivals, &shape, 3, 10_000);
            assert!((30..300).contains(&starts.len()), "{}", starts.len());
            assert!(starts.iter().all(|&start| start <= SECOND));
        }
    }
}
