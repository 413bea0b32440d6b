//! Starts one after another while the rate holds.

use super::Nanos;
use super::shape::{GRAINS, Hold};

/// The start of a record while the rate holds, and how far it is to that of another so many numbers on: a sum where each
/// start by itself is a division of 128 bits (at 100,000/s 34 ns each by a profile, 7 in a row).
///
/// With `g` the integral of a record's number, over the hold's begin, and `d` twice its rate, a record starts `g / d`
/// after that, rounded up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    n: u64,
    /// The first number that starts after the hold.
    end: u64,
    /// `g / d` rounded down, on top of the hold's begin, and what is left of `g`.
    floor: Nanos,
    rest: u64,
    divisor: u64,
    /// How far it is to the next record, and how it adds to these.
    stride: u64,
    step: Nanos,
    step_rest: u64,
}

impl Walk {
    /// From record `n` on, which starts in `hold`, in steps of `stride`; `None` if numbers get too large.
    pub(super) fn new(hold: Hold, n: u64, stride: u64) -> Option<Self> {
        let divisor = hold.rate.checked_mul(2).filter(|&divisor| divisor > 0)?;
        let parts = |grains: u128| {
            let quotient = u64::try_from(grains / u128::from(divisor)).ok()?;
            Some((quotient, u64::try_from(grains % u128::from(divisor)).ok()?))
        };
        let (since, rest) = parts((u128::from(n) * GRAINS).checked_sub(hold.grains)?)?;
        let (step, step_rest) = parts(u128::from(stride) * GRAINS)?;
        let end = u64::try_from(hold.end.div_ceil(GRAINS)).unwrap_or(u64::MAX);
        (n < end).then_some(())?;
        let floor = hold.begin.checked_add(since)?;
        Some(Self { n, end, floor, rest, divisor, stride, step, step_rest })
    }

    /// The start of record `n`, if it is this one or the next.
    pub(super) fn to(&mut self, n: u64) -> Option<Nanos> {
        if n != self.n {
            if n.checked_sub(self.n)? != self.stride || n >= self.end {
                return None;
            }
            let (rest, carry) = match self.rest.checked_sub(self.divisor - self.step_rest) {
                Some(rest) => (rest, 1),
                None => (self.rest + self.step_rest, 0),
            };
            self.floor = self.floor.checked_add(self.step)?.checked_add(carry)?;
            (self.n, self.rest) = (n, rest);
        }
        self.floor.checked_add(u64::from(self.rest > 0))
    }
}
