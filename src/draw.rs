//! Random numbers that depend on nothing but the seed and what they are for.

/// Random numbers that are a function of the seed and the record number alone.
///
/// `SplitMix64` (Steele, Lea, Flood 2014) entered at position *n*: unlike a generator that is
/// stepped, any record's draw costs the same, whichever worker makes it and in whatever order. It is
/// written out because the records of a seed must stay the same when a crate changes its generator.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled anew where there are wider vectors, see `vectors`")]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Draws {
    /// The draws of one field of the record; fields are independent of each other.
    #[must_use]
    pub const fn new(seed: u64, field: u64) -> Self {
        Self(mix(seed ^ mix(field.wrapping_add(1).wrapping_mul(GOLDEN))))
    }

    /// 64 random bits for record `n`; distinct for distinct `n`.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `mix`")]
    pub const fn bits(self, n: u64) -> u64 {
        mix(self.0.wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// A number in `0..len` for record `n`. The bias is under `len` / 2^64.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the product's high half is below len
    pub const fn index(self, n: u64, len: usize) -> usize {
        ((self.bits(n) as u128 * len as u128) >> 64) as usize
    }

    /// A number in `[0, 1)` for record `n`, in steps of 2^-53 as Python's `random.random()`.
    #[must_use]
    pub const fn unit(self, n: u64) -> f64 {
        (self.bits(n) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed's records are a promise over versions, so the numbers themselves are held.
    #[test]
    fn draws_are_fixed_for_ever() {
        let draws = Draws::new(42, 0);
        assert_eq!(
            [draws.bits(0), draws.bits(1), draws.bits(1_000_000_007)],
            [14_585_004_453_952_745_724, 963_425_209_539_481_646, 14_787_710_080_193_996_667],
        );
    }

    #[test]
    fn fields_and_seeds_differ() {
        let a = Draws::new(1, 0).bits(7);
        assert_ne!(a, Draws::new(1, 1).bits(7));
        assert_ne!(a, Draws::new(2, 0).bits(7));
    }

    #[test]
    fn index_spreads_evenly() {
        let draws = Draws::new(3, 0);
        let mut counts = [0_u32; 5];
        for n in 0..50_000 {
            counts[draws.index(n, 5)] += 1;
        }
        // 10,000 expected each; 5 standard deviations are 447.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 447), "{counts:?}");
    }
}
