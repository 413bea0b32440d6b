use crate::load::{Nanos, Rate, Shape};

/// What a load is told to offer from now on.
#[derive(Clone, Debug, PartialEq)]
pub enum Offered {
    /// This rate, open loop.
    Rate(Rate),
    /// This shape from its beginning, open loop.
    Shape(Shape),
    /// As much as answers allow, closed loop.
    Max,
}

/// A change of what a running load offers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steered {
    /// When, in the time of the run.
    pub at: Nanos,
    /// What was done.
    pub action: SteerAction,
    /// The records per second that the schedule offers from then on, a pause none; `None` in a closed loop.
    pub rps: Option<f64>,
}

/// What is done to a running load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteerAction {
    /// It was given another rate.
    Rate,
    /// It was given another shape.
    Shape,
    /// Its schedule stands still.
    Pause,
    /// Its schedule goes on.
    Resume,
}

impl SteerAction {
    /// The name in the summary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Shape => "shape",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

impl Offered {
    pub(super) fn action(&self) -> SteerAction {
        match self {
            Self::Rate(_) | Self::Max => SteerAction::Rate,
            Self::Shape(_) => SteerAction::Shape,
        }
    }

    /// The shape of an open loop.
    pub(super) fn shape(&self) -> Option<Shape> {
        match self {
            Self::Rate(rate) => Some(Shape::constant(*rate)),
            Self::Shape(shape) => Some(shape.clone()),
            Self::Max => None,
        }
    }
}

/// A rate shared out in proportion to these rates, or equally if one is not known, to the last thousandth.
/// Each share is a thousandth of a record per second at least; `None` if the rate is too low for that.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the rate
pub(super) fn shares(rate: Rate, now: &[Option<f64>]) -> Option<Vec<Offered>> {
    let known: Option<Vec<f64>> = now.iter().copied().collect();
    let sum = known.iter().flatten().sum::<f64>();
    let weights = known.filter(|_| sum > 0.0).unwrap_or_else(|| vec![1.0; now.len()]);
    let (mut left, mut weight) = (rate.thousandths(), weights.iter().sum::<f64>());
    let mut shares = Vec::new();
    for (place, own) in weights.iter().enumerate() {
        // Each of those that follow takes a thousandth at least.
        let most = left.checked_sub((weights.len() - place - 1) as u64)?;
        let share =
            if place + 1 == weights.len() { left } else { (left as f64 * own / weight).round() as u64 };
        let share = share.max(1).min(most);
        shares.push(Offered::Rate(Rate::from_thousandths(share)?));
        left -= share;
        weight -= own;
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(rate: u64, now: &[Option<f64>]) -> Option<Vec<u64>> {
        let shares = shares(Rate::from_thousandths(rate).unwrap(), now)?;
        let thousandths = |offered: &Offered| match offered {
            Offered::Rate(rate) => rate.thousandths(),
            other => panic!("{other:?}"),
        };
        Some(shares.iter().map(thousandths).collect())
    }

    #[test]
    fn loads_share_a_rate_in_proportion() {
        assert_eq!(of(9_000, &[Some(100.0), Some(200.0)]), Some(vec![3_000, 6_000]));
        assert_eq!(of(10_000, &[Some(1.0), None, Some(1.0)]), Some(vec![3_333, 3_334, 3_333]));
        assert_eq!(of(10_000, &[Some(0.0), Some(0.0)]), Some(vec![5_000, 5_000]));
        // One that rests takes what is least.
        assert_eq!(of(10_000, &[Some(0.0), Some(5.0)]), Some(vec![1, 9_999]));
        assert_eq!(of(10_000, &[Some(5.0), Some(0.0)]), Some(vec![9_999, 1]));
        assert_eq!((of(1, &[Some(1.0)]), of(1, &[Some(1.0), Some(1.0)])), (Some(vec![1]), None));
    }

    proptest! {
        #[test]
        fn shares_are_the_whole(rate in 9_u64..10_000_000_000, now in prop::collection::vec(prop::option::weighted(0.9, 0.0_f64..1e6), 1..9)) {
            let shares = of(rate, &now).unwrap();
            prop_assert_eq!(shares.iter().sum::<u64>(), rate);
        }
    }
}
