use super::Draws;
use super::walk::Walk;
use crate::load::Nanos;
use std::str::FromStr;

/// How the ticker, price and volume of a record come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Market {
    /// The article's: every ticker alike, every price `round(random.random() * 100, 2)`.
    #[default]
    Random,
    /// A price process per ticker, tickers by Zipf's law, and volumes.
    Walk,
}

impl FromStr for Market {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "random" => Ok(Self::Random),
            "walk" => Ok(Self::Walk),
            _ => Err("expected random or walk".to_owned()),
        }
    }
}

/// What is traded in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trade {
    /// Which ticker.
    pub(super) ticker: usize,
    /// The price in hundredths.
    pub(super) cents: u32,
}

/// The trades of a run.
#[derive(Clone, Debug)]
pub(super) enum Trades {
    Random { tickers: Draws, prices: Draws, count: usize },
    Walk(Box<Walk>),
}

impl Trades {
    /// The trades of the run seeded with `seed` in `count` tickers.
    pub(super) fn new(market: Market, seed: u64, count: usize) -> Self {
        match market {
            Market::Random => {
                Self::Random { tickers: Draws::new(seed, 0), prices: Draws::new(seed, 1), count }
            }
            Market::Walk => Self::Walk(Box::new(Walk::new(seed, count))),
        }
    }

    /// Which ticker record `n` is of.
    #[inline]
    pub(super) fn ticker(&self, n: u64) -> usize {
        match self {
            Self::Random { tickers, count, .. } => tickers.index(n, *count),
            Self::Walk(walk) => walk.ticker(n),
        }
    }

    #[inline]
    /// The trade of record `n`, meant to start at `intended`.
    pub(super) fn trade(&mut self, n: u64, intended: Nanos) -> Trade {
        let ticker = self.ticker(n);
        let cents = match self {
            Self::Random { prices, .. } => random_cents(*prices, n),
            Self::Walk(walk) => walk.cents(ticker, intended),
        };
        Trade { ticker, cents }
    }

    /// The share of each ticker in the records.
    pub(super) fn shares(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            Self::Random { count, .. } => Box::new(std::iter::repeat_n(1.0 / *count as f64, *count)),
            Self::Walk(walk) => Box::new(walk.shares()),
        }
    }
}

/// `round(random.random() * 100, 2)`, in hundredths: 0 to 10,000. In whole numbers, which spares a record the
/// way through floating point twice (a tenth of what its payload takes).
#[allow(clippy::cast_possible_truncation)] // 0 to 10,000
fn random_cents(draws: Draws, n: u64) -> u32 {
    // The draw is in steps of 2^-53, as Python's.
    let hundredths = u128::from(draws.bits(n) >> 11) * 10_000;
    ((hundredths + (1 << 52)) >> 53) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_rounded_as_python_rounds_them() {
        let draws = Draws::new(5, 1);
        for n in 0..100_000 {
            let expected = (draws.unit(n) * 10_000.0).round();
            assert!((f64::from(random_cents(draws, n)) - expected).abs() < 0.1, "{n}");
        }
    }
}
