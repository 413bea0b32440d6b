use super::Draws;
use super::ahead::{Ahead, cents};
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
            // At most 10,000.
            Self::Random { prices, .. } => u32::try_from(cents(prices.bits(n))).unwrap_or(0),
            Self::Walk(walk) => walk.cents(ticker, intended),
        };
        Trade { ticker, cents }
    }

    /// Works out the trades of up to [`LANES`](crate::kinesis::md5::LANES) records, if they are random.
    pub(super) fn ahead(&self, numbers: impl Iterator<Item = u64>, ahead: &mut Ahead) {
        if let Self::Random { tickers, prices, count } = self
            && let Ok(count) = u32::try_from(*count)
        {
            ahead.draw(*tickers, *prices, count, numbers);
        }
    }

    /// The share of each ticker in the records.
    pub(super) fn shares(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            Self::Random { count, .. } => Box::new(std::iter::repeat_n(1.0 / *count as f64, *count)),
            Self::Walk(walk) => Box::new(walk.shares()),
        }
    }
}
