use super::zipf::Ranks;
use super::{Draws, gauss};
use crate::load::{Nanos, SECOND};

/// How long the opening burst takes to fall to 1/e, in seconds. (A market's takes half an hour; runs are
/// shorter.)
const OPENING_S: f64 = 60.0;

/// What the opening adds to the variance of prices: 9 times as much at the start is 3 times the
/// volatility.
const OPENING_VARIANCE: f64 = 8.0;

/// What the opening adds to volumes: 4 times as much at the start.
const OPENING_VOLUME: f64 = 3.0;

/// Prices at the start are spread evenly on a logarithmic scale from 5.00 to 500.00.
const FIRST_CENTS: (f64, f64) = (500.0, 50_000.0);

/// Volatility is spread evenly over these per trading year, of 252 days of 6.5 hours.
const YEARLY_VOLATILITY: (f64, f64) = (0.15, 0.75);
const YEAR_S: f64 = 252.0 * 6.5 * 3600.0;

/// No price is below one tick (0.01) nor above 999,999.99.
pub(super) const MAX_CENTS: u32 = 99_999_999;

/// Shares in a lot, and the most lots in a record.
const LOT: u32 = 100;
const MAX_LOTS: f64 = 10_000.0;

/// The largest volume.
pub(super) const MAX_VOLUME: u32 = 1_000_000;

/// Trade sizes have a tail of this exponent: P(lots > x) = x^-1.5 (Gopikrishnan, Plerou, Gabaix, Stanley:
/// Statistical properties of share volume traded in financial markets, 2000).
const TAIL: f64 = 1.5;

/// A price process per ticker: geometric Brownian motion in steps of 0.01, tickers by Zipf's law with
/// exponent 1.
///
/// The price of a ticker at t is S0 exp(sigma W(T) - sigma^2 T / 2), where T is the market's own time: it
/// runs fast in the opening burst, T(t) = t + 8 * 60 s * (1 - exp(-t / 60 s)).
#[derive(Clone, Debug)]
pub(super) struct Walk {
    tickers: Draws,
    ranks: Ranks,
    stocks: Vec<Stock>,
    // The last path of each of the most popular tickers, and one that all others share.
    paths: Vec<Path>,
    shared: (usize, Path),
}

#[derive(Clone, Copy, Debug)]
struct Stock {
    first_cents: f64,
    /// The standard deviation of the price's logarithm over a market time of [`LEAF_NS`].
    volatility: f64,
    draws: Draws,
}

/// Tickers that have a path of their own: their prices cost O(1) draws a record, 0.7 KiB each. By Zipf's
/// law they take 6 in 10 records even of 100,000 tickers.
const OWN_PATHS: usize = 1024;

impl Walk {
    /// The prices of the run seeded with `seed`, for `count` tickers.
    pub(super) fn new(seed: u64, count: usize) -> Self {
        let seeds = Draws::new(seed, 11);
        let stocks: Vec<Stock> = (0..count).map(|ticker| Stock::new(seeds.bits(ticker as u64))).collect();
        let paths = stocks.iter().take(OWN_PATHS).map(|stock| Path::new(stock.draws)).collect();
        let shared = (0, Path::new(stocks.first().map_or(seeds, |stock| stock.draws)));
        Self { tickers: Draws::new(seed, 0), ranks: Ranks::zipf(1.0, count), stocks, paths, shared }
    }

    /// Which ticker record `n` is of.
    pub(super) fn ticker(&self, n: u64) -> usize {
        self.ranks.pick(self.tickers.unit(n))
    }

    /// The share of each ticker in the records.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> {
        self.ranks.shares()
    }

    /// The price of a ticker at `intended`, in hundredths.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to MAX_CENTS
    pub(super) fn cents(&mut self, ticker: usize, intended: Nanos) -> u32 {
        let stock = self.stocks[ticker];
        let time = market_time(intended);
        let moved = self.path(ticker).at(time) * stock.volatility;
        let drift = 0.5 * stock.volatility * stock.volatility * time;
        let cents = stock.first_cents * (moved - drift).exp();
        cents.round().clamp(1.0, f64::from(MAX_CENTS)) as u32
    }

    fn path(&mut self, ticker: usize) -> &mut Path {
        if ticker < self.paths.len() {
            return &mut self.paths[ticker];
        }
        if self.shared.0 != ticker {
            self.shared = (ticker, Path::new(self.stocks[ticker].draws));
        }
        &mut self.shared.1
    }
}

impl Stock {
    fn new(seed: u64) -> Self {
        let choices = Draws::new(seed, 0);
        let yearly = between(YEARLY_VOLATILITY, choices.unit(1));
        let (low, high) = FIRST_CENTS;
        Self {
            first_cents: (low * (high / low).powf(choices.unit(0))).round(),
            volatility: yearly * (LEAF_NS / (YEAR_S * SECOND as f64)).sqrt(),
            draws: Draws::new(seed, 1),
        }
    }
}

fn between((low, high): (f64, f64), unit: f64) -> f64 {
    low + (high - low) * unit
}

/// What is left of the opening burst: 1 at the start of the run, falling to 0.
fn opening(intended: Nanos) -> f64 {
    (-(intended as f64) / (OPENING_S * SECOND as f64)).exp()
}

/// The market's own time at `intended`, in units of [`LEAF_NS`].
fn market_time(intended: Nanos) -> f64 {
    let burst = OPENING_VARIANCE * OPENING_S * SECOND as f64 * (1.0 - opening(intended));
    (intended as f64 + burst) / LEAF_NS
}

/// The volume of a record: whole lots of 100, with a heavy tail, more of them in the opening burst.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most MAX_LOTS
pub(super) fn volume(draws: Draws, n: u64, intended: Nanos) -> u32 {
    let size = (1.0 - draws.unit(n)).powf(-1.0 / TAIL);
    let lots = (size * (1.0 + OPENING_VOLUME * opening(intended))).min(MAX_LOTS);
    LOT * lots as u32
}

/// The finest step of a path; between its ends it is a straight line. A price of 500 moves by a quarter of
/// a tick in it.
const LEAF_NS: f64 = (1_u64 << 20) as f64;

/// How often the whole of market time, 146 years, is halved down to a leaf.
const LEVELS: usize = 42;

/// A Brownian path that can be asked at any time, in any order: Lévy's construction. The path at the middle
/// of an interval is the mean of its ends plus a normal draw of that node alone, so its value is found by
/// descending from the whole to the leaf. The last descent is kept; times near each other share most of it.
#[derive(Clone, Debug)]
struct Path {
    draws: Draws,
    leaf: u64,
    /// The path at both ends of the interval on each level that `leaf` is in.
    ends: [(f64, f64); LEVELS + 1],
}

impl Path {
    fn new(draws: Draws) -> Self {
        // Variance is the length of the interval in leaves.
        let last = gauss::normal(draws.bits(0)) * half_power(LEVELS);
        let mut path = Self { draws, leaf: 0, ends: [(0.0, last); LEVELS + 1] };
        path.descend(0, 0);
        path
    }

    /// The path at `time`, in leaves; it stands still after the last.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative; saturates
    fn at(&mut self, time: f64) -> f64 {
        let leaf = (time as u64).min((1 << LEVELS) - 1);
        self.descend(leaf, self.kept(leaf));
        let (left, right) = self.ends[LEVELS];
        left + (right - left) * (time - leaf as f64).min(1.0)
    }

    /// On how many levels `leaf` is in the same interval as the last one asked for.
    fn kept(&self, leaf: u64) -> usize {
        let differing = u64::BITS - (leaf ^ self.leaf).leading_zeros();
        LEVELS - differing as usize
    }

    fn descend(&mut self, leaf: u64, from: usize) {
        self.leaf = leaf;
        for level in from..LEVELS {
            let (left, right) = self.ends[level];
            // The nodes of all levels in one numbering, as in a heap.
            let node = 1 << level | leaf >> (LEVELS - level);
            let spread = 0.5 * half_power(LEVELS - level);
            let middle = 0.5 * (left + right) + spread * gauss::normal(self.draws.bits(node));
            let is_right = leaf >> (LEVELS - level - 1) & 1 == 1;
            self.ends[level + 1] = if is_right { (middle, right) } else { (left, middle) };
        }
    }
}

/// 2^(power / 2).
fn half_power(power: usize) -> f64 {
    let whole = (1_u64 << (power / 2)) as f64;
    if power.is_multiple_of(2) { whole } else { whole * std::f64::consts::SQRT_2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(seed: u64) -> Path {
        Path::new(Draws::new(seed, 0))
    }

    proptest! {
        #[test]
        fn prices_are_the_same_in_any_order(seed: u64, asked in prop::collection::vec((0_usize..3_000, 0_u64..1 << 62), 1..60)) {
            let mut one = Walk::new(seed, 3_000);
            let first: Vec<u32> = asked.iter().map(|&(ticker, at)| one.cents(ticker, at)).collect();
            let mut other = Walk::new(seed, 3_000);
            let reversed: Vec<u32> = asked.iter().rev().map(|&(ticker, at)| other.cents(ticker, at)).collect();
            prop_assert!(reversed.iter().rev().eq(first.iter()));
            // Without anything kept from one to the next.
            for (&(ticker, at), cents) in asked.iter().zip(&first) {
                one.paths.clear();
                one.shared = (ticker, Path::new(one.stocks[ticker].draws));
                prop_assert_eq!(one.cents(ticker, at), *cents);
            }
            prop_assert!(first.iter().all(|cents| (1..=MAX_CENTS).contains(cents)));
        }
    }

    #[test]
    fn a_path_asked_in_order_costs_two_draws_a_leaf() {
        let mut path = path(1);
        let mut draws = 0;
        for leaf in 0..100_000_u64 {
            draws += LEVELS - path.kept(leaf);
            path.at(leaf as f64 + 0.5);
            assert_eq!(path.kept(leaf), LEVELS, "asked again it costs none");
        }
        assert!(draws <= 200_000, "{draws}");
    }

    #[test]
    fn a_path_begins_at_zero_and_is_continuous() {
        let mut path = path(2);
        assert!(path.at(0.0).abs() < f64::EPSILON);
        for leaf in [1.0, 1024.0, 1e6, 2_f64.powi(41)] {
            let (before, after) = (path.at(leaf - 1e-4), path.at(leaf));
            assert!((before - after).abs() < 0.01, "{leaf}: {before} {after}");
        }
    }

    /// Increments over disjoint times are normal with variance of their length, and independent.
    #[test]
    fn increments_are_brownian() {
        const PATHS: u64 = 20_000;
        let times = [0.0, 1.0, 5.0, 1_000.0, 1_000_003.0];
        let mut products = [[0.0; 4]; 4];
        for seed in 0..PATHS {
            let mut path = path(seed);
            let at = times.map(|time| path.at(time));
            let steps: Vec<f64> =
                (0..4).map(|i| (at[i + 1] - at[i]) / (times[i + 1] - times[i]).sqrt()).collect();
            for (i, row) in products.iter_mut().enumerate() {
                for (j, product) in row.iter_mut().enumerate() {
                    *product += steps[i] * steps[j] / PATHS as f64;
                }
            }
        }
        // 5 standard deviations: sqrt(2 / 20,000) of a variance, sqrt(1 / 20,000) of a covariance.
        for (i, row) in products.iter().enumerate() {
            for (j, product) in row.iter().enumerate() {
                let (expected, within) = if i == j { (1.0, 0.05) } else { (0.0, 0.036) };
                assert!((product - expected).abs() < within, "{i} {j}: {product}");
            }
        }
    }

    /// Quadratic variation of log prices: nine times as much in the first second as after ten minutes.
    #[test]
    fn volatility_is_raised_at_the_opening() {
        let variance = |from_s: u64| {
            (0..2_000)
                .map(|seed| {
                    let draws = Draws::new(seed, 0);
                    let mut path = Path::new(draws);
                    let at = |path: &mut Path, s| path.at(market_time(s * SECOND));
                    (at(&mut path, from_s + 1) - at(&mut path, from_s)).powi(2)
                })
                .sum::<f64>()
        };
        let ratio = variance(0) / variance(600);
        // 5 standard deviations of a ratio of two such sums, sqrt(4 / 2,000) each: 22 %.
        assert!((ratio / 9.0 - 1.0).abs() < 0.22, "{ratio}");
    }

    #[test]
    fn prices_are_plausible_and_a_fair_game() {
        let mut walk = Walk::new(3, 5_000);
        let mut growth = 0.0;
        for ticker in 0..5_000 {
            let first = walk.cents(ticker, 0);
            assert!((500..=50_000).contains(&first), "{first}");
            growth += f64::from(walk.cents(ticker, 6 * 3_600 * SECOND)) / f64::from(first) / 5_000.0;
        }
        // A day's volatility is 3 %: 5 standard deviations of the mean are 0.2 %, and rounding adds some.
        assert!((growth - 1.0).abs() < 0.003, "{growth}");
    }

    #[test]
    fn volumes_are_lots_with_a_heavy_tail() {
        let draws = Draws::new(4, 10);
        let later = 3_600 * SECOND;
        let volumes: Vec<u32> = (0..200_000).map(|n| volume(draws, n, later)).collect();
        assert!(volumes.iter().all(|&v| v % LOT == 0 && (LOT..=MAX_VOLUME).contains(&v)));
        for lots in [2_u32, 4, 16, 64] {
            let over = volumes.iter().filter(|&&v| v >= lots * LOT).count() as f64;
            let expected = 200_000.0 * f64::from(lots).powf(-TAIL);
            assert!((over - expected).abs() < 5.0 * expected.sqrt(), "{lots}: {over} for {expected}");
        }
        // At the opening four times as much: P(4 X >= 16) = P(X >= 4).
        let opening = (0..200_000).filter(|&n| volume(draws, n, 0) >= 16 * LOT).count() as f64;
        assert!((opening - 25_000.0).abs() < 5.0 * 158.0, "{opening}");
    }

    #[test]
    fn tickers_follow_zipf() {
        let walk = Walk::new(6, 1_000);
        let mut counts = vec![0_u32; 1_000];
        (0..100_000).for_each(|n| counts[walk.ticker(n)] += 1);
        for (rank, share) in walk.shares().enumerate().filter(|(rank, _)| [0, 1, 9, 99].contains(rank)) {
            let expected = share * 100_000.0;
            assert!((f64::from(counts[rank]) - expected).abs() < 5.0 * expected.sqrt(), "{rank}");
        }
    }
}
