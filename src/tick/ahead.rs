//! What a lot of records tell, worked out together before each is written: eleven multiplications one after another
//! take longer than the payload's bytes, those of several records side by side hardly anything.

use super::Draws;
use crate::kinesis::md5::LANES;
use crate::vectors::{Wide, widest};

/// Trades of [`LANES`] records of [`super::Market::Random`].
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    numbers: [u64; LANES],
    // How many of them are of records.
    count: usize,
    told: Told,
    next: usize,
}

/// Of each record the ticker, the price in ASCII (the first byte is the lowest), and the length of that.
#[derive(Clone, Debug)]
struct Told {
    tickers: [u32; LANES],
    prices: [u64; LANES],
    lens: [u32; LANES],
}

/// The draws of a lot.
struct Lot<'a> {
    tickers: Draws,
    prices: Draws,
    count: u32,
    numbers: &'a [u64; LANES],
}

impl Ahead {
    /// Of no record.
    pub(super) fn new() -> Self {
        let told = Told { tickers: [0; LANES], prices: [0; LANES], lens: [0; LANES] };
        Self { numbers: [0; LANES], count: 0, told, next: 0 }
    }

    /// Takes in up to [`LANES`] records, which are asked for next and in this order, by what they are drawn from.
    pub(super) fn draw(
        &mut self,
        tickers: Draws,
        prices: Draws,
        count: u32,
        numbers: impl Iterator<Item = u64>,
    ) {
        self.count = 0;
        for (number, n) in self.numbers.iter_mut().zip(numbers) {
            *number = n;
            self.count += 1;
        }
        widest(&Lot { tickers, prices, count, numbers: &self.numbers }, &mut self.told);
        self.next = 0;
    }

    /// Ticker, price and its length of record `n`, if it is the next that was drawn.
    #[inline]
    pub(super) fn take(&mut self, n: u64) -> Option<(usize, u64, usize)> {
        let place = self.next;
        if place >= self.count.min(LANES) || self.numbers[place] != n {
            return None;
        }
        self.next += 1;
        let Told { tickers, prices, lens } = &self.told;
        Some((tickers[place] as usize, prices[place], lens[place] as usize))
    }
}

impl Wide for Lot<'_> {
    type Result = Told;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Wide`")]
    #[expect(clippy::cast_possible_truncation, reason = "below the count, and of at most five bytes")]
    fn compute(&self, told: &mut Told) {
        for lane in 0..LANES {
            let n = self.numbers[lane];
            told.tickers[lane] = scaled(self.tickers.bits(n), u64::from(self.count)) as u32;
            let (price, len) = small_price(cents(self.prices.bits(n)));
            (told.prices[lane], told.lens[lane]) = (price, len as u32);
        }
    }
}

/// `bits * count / 2^64` in steps that vectors have; `count` is below 2^32.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `Wide`")]
fn scaled(bits: u64, count: u64) -> u64 {
    ((bits >> 32) * count + (((bits & 0xFFFF_FFFF) * count) >> 32)) >> 32
}

/// `round(random.random() * 100, 2)`, in hundredths: 0 to 10,000. In whole numbers, which spares a record the way
/// through floating point twice.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `Wide`")]
pub(super) fn cents(bits: u64) -> u64 {
    // The draw is in steps of 2^-53, as Python's.
    let draw = bits >> 11;
    // The lower half has no part in the rounding but what it carries.
    ((draw >> 32) * 10_000 + (((draw & 0xFFFF_FFFF) * 10_000) >> 32) + (1 << 20)) >> 21
}

/// A price of at most 100 as Python prints the float, and its length: `4.2`, `4.25`, `4.0`, `100.0`. It is put together
/// as a number, whose lowest byte is the first: bytes that were stored one by one cannot be loaded together for a while.
/// There is no branch, as which way it goes nobody can tell (a tenth of prices is under ten).
#[inline(always)]
pub(super) fn small_price(cents: u64) -> (u64, u64) {
    const HUNDRED: u64 = u64::from_le_bytes(*b"100.0\0\0\0");
    // Divisions by 100 and 10, exact up to 10,000 and 99.
    let whole = (cents * 5_243) >> 19;
    let two_digits = |number: u64| {
        let tens = (number * 103) >> 10;
        u64::from(b'0') * 0x101 + tens + ((number - tens * 10) << 8)
    };
    let fraction = cents - whole * 100;
    let last = fraction - ((fraction * 103) >> 10) * 10;
    let text = two_digits(whole) | (u64::from(b'.') | two_digits(fraction) << 8) << 16;
    let is = u64::from;
    // Two digits, the point, and two after it; one less where a digit is not told.
    let (text, len) = (text >> (is(whole < 10) * 8), 5 - is(whole < 10) - is(last == 0));
    if cents == 10_000 { (HUNDRED, 5) } else { (text, len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::every_way;
    use proptest::prelude::*;

    /// Against the float's own shortest form, which is Python's.
    #[test]
    fn prices_print_as_python_prints_them() {
        for cents in 0..=10_000 {
            let (text, len) = small_price(cents);
            let text = text.to_le_bytes();
            let expected = format!("{:?}", cents as f64 / 100.0);
            assert_eq!(text[..usize::try_from(len).unwrap()], *expected.as_bytes());
        }
    }

    #[test]
    fn prices_are_rounded_as_python_rounds_them() {
        let draws = Draws::new(5, 1);
        for n in 0..100_000 {
            let expected = (draws.unit(n) * 10_000.0).round();
            assert!((cents(draws.bits(n)) as f64 - expected).abs() < 0.1, "{n}");
        }
        assert_eq!((cents(0), cents(u64::MAX)), (0, 10_000));
    }

    proptest! {
        #[test]
        fn a_share_is_that_of_the_whole_product(bits: u64, count: u32) {
            let product = (u128::from(bits) * u128::from(count)) >> 64;
            prop_assert_eq!(u128::from(scaled(bits, count.into())), product);
        }

        /// One by one or together.
        #[test]
        fn what_is_told_ahead_is_what_each_tells(seed: u64, first in 0_u64..u64::MAX - 100, count in 1_u32..1000, lot in 0..LANES) {
            let (tickers, prices) = (Draws::new(seed, 0), Draws::new(seed, 1));
            let mut ahead = Ahead::new();
            ahead.draw(tickers, prices, count, (0..lot as u64).map(|n| first + n));
            for n in first..first + lot as u64 {
                let (price, len) = small_price(cents(prices.bits(n)));
                let told = (tickers.index(n, count as usize), price, usize::try_from(len).unwrap());
                prop_assert_eq!(ahead.take(n), Some(told));
            }
            let drawn = Lot { tickers, prices, count, numbers: &ahead.numbers };
            for Told { tickers, prices, lens } in every_way(&drawn, &Ahead::new().told) {
                prop_assert_eq!((tickers, prices, lens), (ahead.told.tickers, ahead.told.prices, ahead.told.lens));
            }
            prop_assert_eq!(ahead.take(first + lot as u64), None);
        }
    }
}
