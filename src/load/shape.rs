use super::{Nanos, Rate, SECOND};
use std::f64::consts::TAU;

/// A rate in thousandths of a record per second; unlike [`Rate`] it may be zero.
pub type Thousandths = u64;

/// The rate over time, and its integral: how many records it makes due by any time, and when it
/// reaches any count. Both are computed from the pieces, never accumulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pieces: Vec<Piece>,
    /// Where each piece begins, and the sum; one more than there are pieces.
    begins: Vec<Point>,
    /// The pieces follow each other again and again, rather than once.
    repeats: bool,
}

/// How the rate runs over a span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// It stays.
    Hold(Thousandths),
    /// It changes evenly from the first to the second.
    Ramp(Thousandths, Thousandths),
    /// One period of `mean + amplitude * sin`, beginning at the mean and rising.
    Sine {
        /// The rate in the middle.
        mean: Thousandths,
        /// How far it rises above and falls below; at most the mean.
        amplitude: Thousandths,
    },
}

/// A curve and how long it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// The rate.
    pub curve: Curve,
    /// For so long; at most [`Shape::LONGEST_PIECE`], but for one that holds for ever.
    pub span: Nanos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Point {
    at: Nanos,
    grains: u128,
}

/// A span in which the rate stays, in which some record starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) rate: Thousandths,
    pub(super) begin: Nanos,
    /// The integral at its begin and its end.
    pub(super) grains: u128,
    pub(super) end: u128,
}

/// The integral is counted in grains, 2 * 10^12 to a record: a thousandth of a record per second makes
/// two in a nanosecond, so that holds and ramps have whole sums.
pub(super) const GRAINS: u128 = 2 * 1000 * SECOND as u128;

impl Shape {
    /// The longest piece of a shape that changes: 31 days. Within it floats hold a count to a thousandth.
    pub const LONGEST_PIECE: Nanos = 31 * 86_400 * SECOND;

    /// The same rate for ever.
    #[must_use]
    pub fn constant(rate: Rate) -> Self {
        Self::once(vec![Piece { curve: Curve::Hold(rate.thousandths()), span: Nanos::MAX }])
    }

    /// These pieces one after another, then nothing.
    #[must_use]
    pub fn once(pieces: Vec<Piece>) -> Self {
        Self::new(pieces, false)
    }

    /// These pieces one after another, again and again. A round that takes no time is none.
    #[must_use]
    pub fn repeating(pieces: Vec<Piece>) -> Self {
        Self::new(pieces, true)
    }

    fn new(pieces: Vec<Piece>, repeats: bool) -> Self {
        let mut begins = vec![Point::default()];
        for piece in &pieces {
            let last = begins[begins.len() - 1];
            begins.push(Point {
                at: last.at.saturating_add(piece.span),
                grains: last.grains + piece.curve.whole(piece.span),
            });
        }
        let whole = begins[begins.len() - 1];
        Self { pieces, begins, repeats: repeats && whole.at > 0 && whole.grains > 0 }
    }

    /// When it ends; `None` if it never does.
    #[must_use]
    pub fn ends(&self) -> Option<Nanos> {
        let end = self.whole().at;
        (!self.repeats && end != Nanos::MAX).then_some(end)
    }

    /// The rate that it has throughout, if it has one.
    #[must_use]
    pub fn constant_rate(&self) -> Option<Rate> {
        match self.pieces[..] {
            [Piece { curve: Curve::Hold(rate), .. }] => Rate::from_thousandths(rate),
            _ => None,
        }
    }

    /// The highest rate, in records per second.
    #[must_use]
    pub fn peak(&self) -> f64 {
        let peaks = self.pieces.iter().map(|piece| match piece.curve {
            Curve::Hold(rate) => rate,
            Curve::Ramp(from, to) => from.max(to),
            Curve::Sine { mean, amplitude } => mean + amplitude,
        });
        peaks.max().unwrap_or(0) as f64 / 1000.0
    }

    /// The rate at `at`, in records per second.
    #[must_use]
    pub fn rate_at(&self, at: Nanos) -> f64 {
        let (_, at) = self.round_of(at);
        if at >= self.whole().at {
            return 0.0;
        }
        let place = self.begins.partition_point(|begin| begin.at <= at) - 1;
        let piece = self.pieces[place];
        let share = (at - self.begins[place].at) as f64 / piece.span as f64;
        let thousandths = match piece.curve {
            Curve::Hold(rate) => rate as f64,
            Curve::Ramp(from, to) => from as f64 + (to as f64 - from as f64) * share,
            Curve::Sine { mean, amplitude } => mean as f64 + amplitude as f64 * (TAU * share).sin(),
        };
        thousandths / 1000.0
    }

    /// How many records start at or before `at`: those whose [`Shape::start`] is not later.
    #[must_use]
    pub fn due(&self, at: Nanos) -> u64 {
        count_due(self.grains(at), at, |n| self.start(n))
    }

    /// When record `n` starts, rounded up to a whole nanosecond: as soon as the integral passes `n`.
    /// `None` if it never does.
    #[must_use]
    pub fn start(&self, n: u64) -> Option<Nanos> {
        self.reach(u128::from(n) * GRAINS)
    }

    /// When the integral passes `grains`.
    pub(super) fn reach(&self, grains: u128) -> Option<Nanos> {
        let (place, round) = self.place_of(grains)?;
        let (begin, piece) = (self.begins[place], self.pieces[place]);
        let grains = grains - round.grains - begin.grains;
        let within = piece.curve.reach(grains, piece.span).min(piece.span);
        round.at.checked_add(begin.at)?.checked_add(within)
    }

    /// The hold in which the integral passes `grains`, if it does in one.
    pub(super) fn hold_at(&self, grains: u128) -> Option<Hold> {
        let (place, round) = self.place_of(grains)?;
        let (begin, end) = (self.begins[place], self.begins[place + 1]);
        let Curve::Hold(rate) = self.pieces[place].curve else { return None };
        Some(Hold {
            rate,
            begin: round.at.checked_add(begin.at)?,
            grains: round.grains + begin.grains,
            end: round.grains + end.grains,
        })
    }

    /// The piece in which the integral passes `grains`, and where its round begins.
    fn place_of(&self, grains: u128) -> Option<(usize, Point)> {
        let whole = self.whole();
        let rounds = if self.repeats { grains / whole.grains } else { 0 };
        let round =
            Point { at: u64::try_from(rounds).ok()?.checked_mul(whole.at)?, grains: rounds * whole.grains };
        let within = grains - round.grains;
        if within >= whole.grains {
            return None;
        }
        Some((self.begins.partition_point(|begin| begin.grains <= within) - 1, round))
    }

    /// The integral up to `at`.
    pub(super) fn grains(&self, at: Nanos) -> u128 {
        let whole = self.whole();
        let (rounds, at) = self.round_of(at);
        let before = u128::from(rounds) * whole.grains;
        if at >= whole.at {
            return before + whole.grains;
        }
        let place = self.begins.partition_point(|begin| begin.at <= at) - 1;
        let (begin, piece) = (self.begins[place], self.pieces[place]);
        before + begin.grains + piece.curve.grains(at - begin.at, piece.span)
    }

    fn round_of(&self, at: Nanos) -> (u64, Nanos) {
        let whole = self.whole().at;
        if self.repeats { (at / whole, at % whole) } else { (0, at) }
    }

    fn whole(&self) -> Point {
        self.begins[self.begins.len() - 1]
    }
}

impl Curve {
    /// The integral over the whole of its `span`.
    fn whole(self, span: Nanos) -> u128 {
        let twice_the_mean = match self {
            Self::Hold(rate) => 2 * rate,
            Self::Ramp(from, to) => from + to,
            Self::Sine { mean, .. } => 2 * mean,
        };
        u128::from(twice_the_mean) * u128::from(span)
    }

    /// The integral up to `at`, which is within its `span`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, and below 2^128
    fn grains(self, at: Nanos, span: Nanos) -> u128 {
        let (t, span) = (at as f64, span as f64);
        match self {
            Self::Hold(rate) => 2 * u128::from(rate) * u128::from(at),
            Self::Ramp(from, to) => {
                let slope = (to as f64 - from as f64) / span;
                (t * (2.0 * from as f64 + slope * t)).max(0.0) as u128
            }
            Self::Sine { mean, amplitude } => sine_grains(mean, amplitude, t, span).max(0.0) as u128,
        }
    }

    /// When the integral passes `grains`, which it does within its `span`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, and within the span
    fn reach(self, grains: u128, span: Nanos) -> Nanos {
        match self {
            Self::Hold(rate) => Nanos::try_from(grains.div_ceil(2 * u128::from(rate))).unwrap_or(Nanos::MAX),
            Self::Ramp(from, to) => {
                let (from, slope, x) = (from as f64, (to as f64 - from as f64) / span as f64, grains as f64);
                // The root of slope t^2 + 2 from t = x, in the form that does not cancel.
                let root = (from * from + slope * x).max(0.0).sqrt();
                let t = if x > 0.0 { x / (from + root) } else { 0.0 };
                t.ceil() as Nanos
            }
            Self::Sine { mean, amplitude } => {
                sine_reach(mean, amplitude, grains as f64, span as f64).ceil() as Nanos
            }
        }
    }
}

/// The integral of a sine's period up to `t` of its `span`.
fn sine_grains(mean: Thousandths, amplitude: Thousandths, t: f64, span: f64) -> f64 {
    let half = (TAU * t / span / 2.0).sin();
    // 1 - cos x = 2 sin^2(x/2), which keeps its digits near 0.
    2.0 * (mean as f64 * t + amplitude as f64 * span / TAU * 2.0 * half * half)
}

/// When the integral of a sine's period is `grains`: Newton's steps, kept within a bracket that halves
/// where they do not help (a sine that touches zero is flat there).
fn sine_reach(mean: Thousandths, amplitude: Thousandths, grains: f64, span: f64) -> f64 {
    let (mut low, mut high) = (0.0, span);
    let mut t = (grains / (2.0 * mean as f64)).min(span);
    for _ in 0..100 {
        let over = sine_grains(mean, amplitude, t, span) - grains;
        if over == 0.0 {
            return t;
        }
        (low, high) = if over > 0.0 { (low, t) } else { (t, high) };
        let rate = 2.0 * (mean as f64 + amplitude as f64 * (TAU * t / span).sin());
        let next = t - over / rate;
        let inside = next > low && next < high;
        let next = if inside { next } else { f64::midpoint(low, high) };
        if (next - t).abs() < 0.01 || high - low < 0.01 {
            return next;
        }
        t = next;
    }
    t
}

/// How many records start at or before `at`, when the integral has come to `grains`: it tells the count to
/// within one, the starts which of the neighbours it is.
pub(super) fn count_due(grains: u128, at: Nanos, start: impl Fn(u64) -> Option<Nanos>) -> u64 {
    let near = u64::try_from(grains / GRAINS).unwrap_or(u64::MAX);
    let mut due = near.saturating_sub(1);
    while due < u64::MAX && start(due).is_some_and(|start| start <= at) {
        due += 1;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hold(rate: Thousandths, span: Nanos) -> Piece {
        Piece { curve: Curve::Hold(rate), span }
    }

    fn ramp(from: Thousandths, to: Thousandths, span: Nanos) -> Piece {
        Piece { curve: Curve::Ramp(from, to), span }
    }

    #[test]
    fn a_pause_starts_nothing_until_it_ends() {
        let shape = Shape::once(vec![hold(1_000_000, SECOND), hold(0, SECOND), hold(1_000_000, SECOND)]);
        assert_eq!((shape.due(0), shape.due(SECOND - 1), shape.due(2 * SECOND - 1)), (1, 1000, 1000));
        assert_eq!((shape.due(2 * SECOND), shape.start(1000)), (1001, Some(2 * SECOND)));
        assert_eq!((shape.due(9 * SECOND), shape.start(2000)), (2000, None));
    }

    #[test]
    fn a_ramp_from_nothing_is_half_its_end() {
        let shape = Shape::once(vec![ramp(0, 1_000_000, 10 * SECOND), ramp(1_000_000, 0, 10 * SECOND)]);
        assert_eq!((shape.due(10 * SECOND), shape.due(20 * SECOND)), (5001, 10_000));
        assert_eq!(shape.start(0), Some(0));
        assert_eq!((shape.rate_at(5 * SECOND), shape.peak()), (500.0, 1000.0));
    }

    #[test]
    fn a_shape_without_a_record_has_no_start() {
        for shape in [Shape::once(vec![hold(0, SECOND)]), Shape::repeating(vec![hold(0, SECOND)])] {
            assert_eq!((shape.due(5 * SECOND), shape.start(0)), (0, None));
        }
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let rate = || prop_oneof![Just(0), 1_u64..2_000_000, Just(10_000_000_000)];
        let curve = prop_oneof![
            rate().prop_map(Curve::Hold),
            (rate(), rate()).prop_map(|(from, to)| Curve::Ramp(from, to)),
            (rate(), 0_u64..=1000)
                .prop_map(|(mean, share)| Curve::Sine { mean, amplitude: mean / 1000 * share }),
        ];
        let span = prop_oneof![Just(0), 1_u64..SECOND, SECOND..7200 * SECOND];
        prop::collection::vec((curve, span).prop_map(|(curve, span)| Piece { curve, span }), 1..6)
    }

    /// The integral in another way: each piece on its own, in floats of records and seconds.
    fn integral(pieces: &[Piece], at: Nanos) -> f64 {
        let mut sum = 0.0;
        let mut begin = 0;
        for piece in pieces {
            let t = at.saturating_sub(begin).min(piece.span) as f64 / 1e9;
            let span = piece.span as f64 / 1e9;
            if t > 0.0 {
                sum += match piece.curve {
                    Curve::Hold(rate) => rate as f64 / 1e3 * t,
                    Curve::Ramp(a, b) => (a as f64 + (b as f64 - a as f64) * t / span / 2.0) / 1e3 * t,
                    Curve::Sine { mean, amplitude } => {
                        (mean as f64 * t + amplitude as f64 * span / TAU * (1.0 - (TAU * t / span).cos()))
                            / 1e3
                    }
                };
            }
            begin += piece.span;
        }
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// At any time of many hours, the count is within one record of the integral.
        #[test]
        fn due_is_the_integral(pieces in pieces(), repeats: bool, at in 0_u64..40_000 * SECOND) {
            let shape = Shape::new(pieces.clone(), repeats);
            let whole = shape.whole().at;
            let expected = if shape.repeats {
                (at / whole) as f64 * integral(&pieces, whole) + integral(&pieces, at % whole)
            } else {
                integral(&pieces, at)
            };
            let due = shape.due(at) as f64;
            // A thousandth for the floats of the test itself.
            prop_assert!((due - expected).abs() <= 1.001, "{due} for {expected}");
        }

        /// due(t) counts exactly the records whose start is not after t.
        #[test]
        fn due_counts_the_starts(pieces in pieces(), repeats: bool, at in 0_u64..40_000 * SECOND) {
            let shape = Shape::new(pieces, repeats);
            let due = shape.due(at);
            prop_assert!(due == 0 || shape.start(due - 1).is_some_and(|start| start <= at));
            prop_assert!(shape.start(due).is_none_or(|start| start > at));
        }

        #[test]
        fn starts_do_not_go_back(pieces in pieces(), repeats: bool, n in 0_u64..100_000_000) {
            let shape = Shape::new(pieces, repeats);
            if let Some(next) = shape.start(n + 1) {
                prop_assert!(shape.start(n).is_some_and(|start| start <= next));
            }
        }
    }
}
