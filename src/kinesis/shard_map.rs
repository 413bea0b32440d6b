use super::md5::{LANES, ShortDigests};
use ::md5::{Digest, Md5};
use std::fmt;
use std::sync::Arc;

/// The number of a shard: 12 for `shardId-000000000012`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u64);

impl ShardId {
    const PREFIX: &str = "shardId-";

    /// Reads `shardId-000000000012`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok().map(Self)).flatten()
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:012}", Self::PREFIX, self.0)
    }
}

/// An open shard and the hash keys that it takes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// The lowest hash key.
    pub first: u128,
    /// The highest hash key.
    pub last: u128,
}

/// The open shards of a stream, which share out the hash keys from 0 to 2^128 - 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    // Shared, as a map is handed around with every order to the producer.
    shards: Arc<[Shard]>,
    // For each value of a hash key's highest bits where to look. Searching for it by halves cost ten steps of a
    // thousand shards, each of them a wrong guess every other time.
    starts: Arc<[Start]>,
    // How many bits: two values or more for each of up to 32,768 shards, so that of shards of one size no two begin at
    // one value.
    bits: u32,
}

/// Of hash keys with the same highest bits: which shards take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    // The place of the shard that takes the lowest of them; with `SEVERAL` more than two take some of them.
    place: u32,
    // The next shard begins at a key of these highest 32 bits.
    next: u32,
}

/// Added to a place.
const SEVERAL: u32 = 1 << 31;

/// Why a list of shards is not a map: seen while a stream is being resharded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShardMapError {
    /// No open shard.
    #[error("the stream has no open shard")]
    Empty,
    /// A hash key that no shard takes, or that two do.
    #[error("the open shards do not share out the hash keys: {0} ends or begins wrongly")]
    Broken(ShardId),
}

impl ShardMap {
    /// The map of these open shards, in any order.
    ///
    /// # Errors
    /// If they leave a hash key out or take one twice.
    pub fn new(mut shards: Vec<Shard>) -> Result<Self, ShardMapError> {
        shards.sort_by_key(|s| s.first);
        let (Some(first), Some(last)) = (shards.first(), shards.last()) else {
            return Err(ShardMapError::Empty);
        };
        if first.first != 0 {
            return Err(ShardMapError::Broken(first.id));
        }
        if last.last != u128::MAX {
            return Err(ShardMapError::Broken(last.id));
        }
        for pair in shards.windows(2) {
            if pair[0].last.checked_add(1) != Some(pair[1].first) {
                return Err(ShardMapError::Broken(pair[1].id));
            }
        }
        Ok(Self::of_whole(shards))
    }

    fn of_whole(shards: Vec<Shard>) -> Self {
        let bits = (shards.len().ilog2() + 2).clamp(8, 16);
        let lowest = |high: u128| high << (u128::BITS - bits);
        let place = |hash_key| shards.partition_point(|shard| shard.first <= hash_key) - 1;
        let start = |high| {
            let (from, to) = (place(lowest(high)), place(lowest(high) | u128::MAX >> bits));
            let several = if to > from + 1 { SEVERAL } else { 0 };
            let next = if to == from { u32::MAX } else { (shards[from + 1].first >> 96) as u32 };
            Start { place: u32::try_from(from).unwrap_or(0) | several, next }
        };
        let starts = (0..1 << bits).map(start).collect();
        Self { shards: shards.into(), starts, bits }
    }

    /// `count` shards of equal size, numbered from 0, as `CreateStream` makes them.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    pub fn even(count: u64) -> Self {
        assert!(count > 0, "a stream has at least one shard");
        let size = u128::MAX / u128::from(count);
        let shards = (0..count)
            .map(|i| Shard {
                id: ShardId(i),
                first: u128::from(i) * size,
                last: if i + 1 == count { u128::MAX } else { u128::from(i + 1) * size - 1 },
            })
            .collect();
        Self::of_whole(shards)
    }

    /// The open shards by rising hash key.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The place in [`ShardMap::shards`] of the shard that takes `hash_key`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the highest bits
    pub fn route(&self, hash_key: u128) -> usize {
        self.route_by((hash_key >> 96) as u32, || hash_key)
    }

    /// The same of the digests of several partition keys.
    #[must_use]
    pub fn route_all(&self, digests: &ShortDigests) -> [usize; LANES] {
        std::array::from_fn(|lane| self.route_by(digests.high(lane), || digests.whole(lane)))
    }

    /// By the highest bits alone, if they tell; of two shards by a comparison, as a branch would go wrong for half of the
    /// keys.
    #[inline]
    fn route_by(&self, high: u32, hash_key: impl FnOnce() -> u128) -> usize {
        let start = self.starts[(high >> (u32::BITS - self.bits)) as usize];
        if start.place & SEVERAL == 0 && high != start.next {
            return start.place as usize + usize::from(high > start.next);
        }
        let (from, hash_key) = ((start.place & !SEVERAL) as usize, hash_key());
        // The last shard ends at the highest key, so one of them takes it.
        from + self.shards[from..].iter().take_while(|shard| shard.last < hash_key).count()
    }
}

/// The hash key of a partition key: the MD5 of its UTF-8 bytes as a big-endian number.
#[must_use]
pub fn hash_key(partition_key: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::md5::short_digests;
    use proptest::prelude::*;

    #[test]
    fn hash_keys_are_kinesis_own() {
        // MD5("a") = 0cc175b9c0f1b6a831c399e269772661
        assert_eq!(hash_key(b"a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }

    #[test]
    fn shard_ids_read_and_print() {
        let id = ShardId::parse("shardId-000000000012").unwrap();
        assert_eq!(id, ShardId(12));
        assert_eq!(id.to_string(), "shardId-000000000012");
        for bad in ["", "shardId-", "shardId-x1", "12", "shardId-99999999999999999999999"] {
            assert_eq!(ShardId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn gaps_and_overlaps_are_refused() {
        let shard = |id, first, last| Shard { id: ShardId(id), first, last };
        assert_eq!(ShardMap::new(vec![]), Err(ShardMapError::Empty));
        for shards in [
            vec![shard(0, 1, u128::MAX)],
            vec![shard(0, 0, 9)],
            vec![shard(0, 0, 9), shard(1, 11, u128::MAX)],
            vec![shard(0, 0, 9), shard(1, 9, u128::MAX)],
            vec![shard(0, 0, u128::MAX), shard(1, 5, u128::MAX)],
        ] {
            assert!(matches!(ShardMap::new(shards), Err(ShardMapError::Broken(_))));
        }
    }

    proptest! {
        /// Several at once go where each goes.
        #[test]
        fn digests_go_where_their_hash_keys_go(count in 1_u64..2_000, keys: [[u8; 16]; LANES]) {
            let map = ShardMap::even(count);
            let places = map.route_all(&short_digests(&keys, LANES));
            for (key, place) in keys.iter().zip(places) {
                prop_assert_eq!(place, map.route(hash_key(key)));
            }
        }

        #[test]
        fn a_key_goes_to_the_shard_that_takes_it(count in 1_u64..2_000, key: u128) {
            let map = ShardMap::even(count);
            prop_assert_eq!(&ShardMap::new(map.shards().to_vec()).unwrap(), &map);
            let shard = map.shards()[map.route(key)];
            prop_assert!(shard.first <= key && key <= shard.last);
        }

        /// Shards that were split again and again, also within the bits that are looked at.
        #[test]
        fn the_ends_of_uneven_shards_are_theirs(cuts in prop::collection::btree_set(any::<u128>(), 0..40), deep in 0_u32..128) {
            let near: Vec<u128> = cuts.iter().map(|cut| cut >> deep).chain(cuts.iter().copied()).collect();
            let mut firsts: Vec<u128> = near.iter().copied().chain([0]).collect();
            firsts.sort_unstable();
            firsts.dedup();
            let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([u128::MAX]);
            let shards: Vec<Shard> =
                (0..).zip(firsts.iter().zip(lasts)).map(|(id, (&first, last))| Shard { id: ShardId(id), first, last }).collect();
            let map = ShardMap::new(shards.clone()).unwrap();
            for (place, shard) in shards.iter().enumerate() {
                for key in [shard.first, shard.last, shard.first.midpoint(shard.last)] {
                    prop_assert_eq!(map.route(key), place);
                }
            }
        }
    }
}
