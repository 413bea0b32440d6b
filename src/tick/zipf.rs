/// Ranks drawn by Zipf's law: rank k (from 1) has weight 1 / k^exponent.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    /// The share of the draws up to each rank.
    cumulative: Vec<f64>,
}

impl Ranks {
    /// `count` ranks; an exponent of 0 makes them even.
    pub(super) fn zipf(exponent: f64, count: usize) -> Self {
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let grown = |weight: &f64| {
            sum += weight / total;
            sum
        };
        Self { cumulative: weights.iter().map(grown).collect() }
    }

    /// The rank, from 0, that a number in `[0, 1)` picks: O(log of the ranks).
    pub(super) fn pick(&self, unit: f64) -> usize {
        self.cumulative.partition_point(|&share| share <= unit).min(self.cumulative.len() - 1)
    }

    /// The share of each rank; they sum to 1.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> {
        let before = std::iter::once(&0.0).chain(&self.cumulative);
        self.cumulative.iter().zip(before).map(|(upto, before)| upto - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_law() {
        let shares: Vec<f64> = Ranks::zipf(1.0, 100).shares().collect();
        assert_eq!(shares.len(), 100);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        for k in 1..=100_u32 {
            let ratio = shares[0] / shares[k as usize - 1];
            assert!((ratio - f64::from(k)).abs() < 1e-6, "rank {k}: {ratio}");
        }
    }

    #[test]
    fn the_ends_of_the_unit_are_the_ends_of_the_ranks() {
        let ranks = Ranks::zipf(1.0, 3);
        assert_eq!((ranks.pick(0.0), ranks.pick(1.0 - f64::EPSILON), ranks.pick(1.0)), (0, 2, 2));
    }
}
