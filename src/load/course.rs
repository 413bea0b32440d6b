use super::shape::{GRAINS, Hold, count_due};
use super::walk::Walk;
use super::{Nanos, Shape};
use std::sync::Arc;

/// The rate over a run that may be steered: shapes one after another, each from a time on, and the exact
/// integral over all of them. What fell due before a change is not touched by it.
#[derive(Clone, Debug)]
pub struct Course {
    legs: Vec<Leg>,
}

/// A shape and where it begins.
#[derive(Clone, Debug)]
struct Leg {
    from: Nanos,
    /// The integral up to there.
    grains: u128,
    shape: Arc<Shape>,
}

impl Course {
    /// The course of one shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { legs: vec![Leg { from: 0, grains: 0, shape: Arc::new(shape) }] }
    }

    /// The same course, begun at `from`.
    #[must_use]
    pub fn beginning(mut self, from: Nanos) -> Self {
        for leg in &mut self.legs {
            leg.from = leg.from.saturating_add(from);
        }
        self
    }

    /// From `at` on, which must not go back, another shape, from its own beginning.
    pub fn turn(&mut self, at: Nanos, shape: Shape) {
        // The integral of a shape that changes is a float's; those that fell due by now must stay due.
        let due = u128::from(self.due(at).saturating_sub(1)) * GRAINS;
        let grains = self.grains(at).max(due);
        self.legs.push(Leg { from: at, grains, shape: Arc::new(shape) });
    }

    /// When it ends; `None` if it never does.
    #[must_use]
    pub fn ends(&self) -> Option<Nanos> {
        let last = self.last();
        last.shape.ends().map(|span| last.from.saturating_add(span))
    }

    /// The rate at `at`, in records per second.
    #[must_use]
    pub fn rate_at(&self, at: Nanos) -> f64 {
        let place = self.legs.partition_point(|leg| leg.from <= at);
        match self.legs[..place].last() {
            Some(leg) => leg.shape.rate_at(at - leg.from),
            None => 0.0,
        }
    }

    /// How many records start at or before `at`.
    #[must_use]
    pub fn due(&self, at: Nanos) -> u64 {
        if let [only] = &self.legs[..] {
            return at.checked_sub(only.from).map_or(0, |since| only.shape.due(since));
        }
        count_due(self.grains(at), at, |n| self.start(n))
    }

    /// When record `n` starts: as soon as the integral passes `n`; `None` if it never does.
    #[must_use]
    pub fn start(&self, n: u64) -> Option<Nanos> {
        self.reach(u128::from(n) * GRAINS)
    }

    /// As [`Course::start`], for a count that need not be whole.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counts are not negative
    pub fn start_of(&self, count: f64) -> Option<Nanos> {
        let whole = count.floor();
        self.reach(whole as u128 * GRAINS + ((count - whole) * GRAINS as f64) as u128)
    }

    /// From record `n` on in steps of `stride`, while the rate holds; `None` where it does not, or is yet to be
    /// turned.
    pub(super) fn walk(&self, n: u64, stride: u64) -> Option<Walk> {
        let (last, grains) = (self.last(), u128::from(n) * GRAINS);
        // One that is reached where the last leg begins belongs to the leg before.
        let within = grains.checked_sub(last.grains).filter(|&within| within > 0 || self.legs.len() == 1)?;
        let hold = last.shape.hold_at(within)?;
        let hold = Hold {
            begin: last.from.checked_add(hold.begin)?,
            grains: last.grains + hold.grains,
            end: last.grains + hold.end,
            ..hold
        };
        Walk::new(hold, n, stride)
    }

    fn reach(&self, grains: u128) -> Option<Nanos> {
        // A count that is reached where a leg ends belongs to that leg, as it fell due in it.
        let place = self.legs.partition_point(|leg| leg.grains < grains).max(1) - 1;
        let leg = &self.legs[place];
        let within = leg.shape.reach(grains - leg.grains.min(grains));
        let start = within.and_then(|within| within.checked_add(leg.from));
        match self.legs.get(place + 1) {
            Some(next) => Some(start.map_or(next.from, |start| start.min(next.from))),
            None => start,
        }
    }

    /// The integral up to `at`.
    fn grains(&self, at: Nanos) -> u128 {
        let place = self.legs.partition_point(|leg| leg.from <= at);
        self.legs[..place].last().map_or(0, |leg| leg.grains + leg.shape.grains(at - leg.from))
    }

    fn last(&self) -> &Leg {
        &self.legs[self.legs.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Curve, Piece, Rate, SECOND};
    use proptest::prelude::*;

    fn constant(per_second: u64) -> Shape {
        Shape::constant(Rate::from_thousandths(per_second * 1000).unwrap())
    }

    #[test]
    fn a_change_of_rate_keeps_the_part_of_a_record_that_was_due() {
        // 3/s for half a second is a record and a half: the next is due after half of one at 1/s.
        let mut course = Course::new(constant(3));
        course.turn(SECOND / 2, constant(1));
        assert_eq!((course.due(SECOND / 2), course.start(1)), (2, Some(SECOND / 3 + 1)));
        assert_eq!(course.start(2), Some(SECOND));
        assert_eq!((course.due(SECOND - 1), course.due(SECOND), course.due(3 * SECOND)), (2, 3, 5));
        assert!((course.rate_at(SECOND / 2 - 1) - 3.0).abs() + (course.rate_at(SECOND) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn starts_are_walked_while_the_rate_holds() {
        let mut course = Course::new(constant(3));
        let mut walk = course.walk(4, 2).unwrap();
        assert_eq!(walk.to(4), course.start(4));
        for n in (4..10_000).step_by(2) {
            assert_eq!((walk.to(n), walk.to(n)), (course.start(n), course.start(n)), "{n}");
        }
        assert_eq!((walk.to(9_997), walk.to(9_999), walk.to(10_002)), (None, None, None));
        // To where it ends, and where it is changed.
        course.turn(SECOND, Shape::once(vec![Piece { curve: Curve::Hold(2_000), span: SECOND }]));
        assert!(course.walk(3, 1).is_none());
        let mut walk = course.walk(4, 1).unwrap();
        assert_eq!((walk.to(4), walk.to(5)), (Some(3 * SECOND / 2), None));
    }

    #[test]
    fn what_was_due_at_the_change_stays_due() {
        let nothing = Shape::once(vec![Piece { curve: Curve::Hold(0), span: SECOND }]);
        let mut course = Course::new(constant(10));
        let due = course.due(SECOND);
        course.turn(SECOND, nothing.clone());
        assert_eq!((due, course.due(SECOND), course.due(SECOND + 5)), (11, 11, 11));
        course.turn(SECOND, constant(7));
        assert_eq!((course.due(SECOND), course.due(2 * SECOND)), (11, 18));
        // A shape that ended goes on when another follows.
        let mut course = Course::new(nothing);
        assert_eq!((course.due(9 * SECOND), course.ends()), (0, Some(SECOND)));
        course.turn(9 * SECOND, constant(1));
        assert_eq!((course.due(9 * SECOND), course.due(10 * SECOND), course.ends()), (1, 2, None));
    }

    #[test]
    fn nothing_is_due_before_a_course_begins() {
        let course = Course::new(constant(1)).beginning(5 * SECOND);
        assert_eq!((course.due(5 * SECOND - 1), course.due(5 * SECOND)), (0, 1));
        assert_eq!((course.start(3), course.rate_at(SECOND).to_bits()), (Some(8 * SECOND), 0));
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let rate = || prop_oneof![Just(0), 1_u64..2_000_000, Just(10_000_000_000)];
        let curve = prop_oneof![
            rate().prop_map(Curve::Hold),
            (rate(), rate()).prop_map(|(from, to)| Curve::Ramp(from, to)),
            (rate(), 0_u64..=1000)
                .prop_map(|(mean, share)| Curve::Sine { mean, amplitude: mean / 1000 * share }),
        ];
        let piece = (curve, 1_u64..60 * SECOND).prop_map(|(curve, span)| Piece { curve, span });
        let pieces = (prop::collection::vec(piece, 1..4), any::<bool>());
        prop_oneof![
            (1_u64..3_000_000)
                .prop_map(|thousandths| Shape::constant(Rate::from_thousandths(thousandths).unwrap())),
            pieces.prop_map(|(pieces, repeats)| if repeats {
                Shape::repeating(pieces)
            } else {
                Shape::once(pieces)
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        /// Across any sequence of changes: the count is within a record of the integral, which is the sum
        /// of what each shape makes while it holds; it never goes back, no start that is past moves, and
        /// it counts exactly the starts.
        #[test]
        fn due_is_the_integral_across_changes(
            first in shapes(),
            changes in prop::collection::vec((0_u64..100 * SECOND, shapes()), 0..8),
            after in 0_u64..100 * SECOND,
        ) {
            let mut course = Course::new(first.clone());
            let (mut now, mut integral) = (0, 0.0);
            let (mut held, mut since) = (first, 0);
            let grains = |shape: &Shape, span| shape.grains(span) as f64 / GRAINS as f64;
            for (wait, shape) in changes {
                now += wait;
                let due = course.due(now);
                let starts: Vec<_> = (due.saturating_sub(3)..due).map(|n| course.start(n)).collect();
                course.turn(now, shape.clone());
                integral += grains(&held, now - since);
                (held, since) = (shape, now);
                prop_assert!((due..=due + 1).contains(&course.due(now)), "{due} becomes {}", course.due(now));
                for (n, before) in (due.saturating_sub(3)..due).zip(starts) {
                    let start = course.start(n);
                    prop_assert!(start == before || start.max(before) == Some(now), "{start:?} was {before:?} at {now}");
                }
            }
            now += after;
            integral += grains(&held, now - since);
            let due = course.due(now);
            prop_assert!((due as f64 - integral).abs() <= 1.001, "{due} for {integral}");
            prop_assert!(due == 0 || course.start(due - 1).is_some_and(|start| start <= now));
            prop_assert!(course.start(due).is_none_or(|start| start > now));
        }

        #[test]
        fn starts_do_not_go_back(
            shapes in prop::collection::vec((0_u64..10 * SECOND, shapes()), 1..6),
            n in 0_u64..30_000_000,
        ) {
            let mut course = Course::new(Shape::constant(Rate::from_thousandths(500_000).unwrap()));
            let mut now = 0;
            for (wait, shape) in shapes {
                now += wait;
                course.turn(now, shape);
            }
            if let Some(next) = course.start(n + 1) {
                prop_assert!(course.start(n).is_some_and(|start| start <= next));
            }
        }
    }
}
