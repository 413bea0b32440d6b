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
    // For each value of a hash key's highest bits the place of the shard that takes the lowest such key: the one
    // that is looked for is there or, where it is `PARTED`, a little further on. Searching for it by halves cost ten
    // steps of a thousand shards.
    starts: Arc<[u32]>,
    // How many bits: sixteen values or more for each of up to 4,096 shards, so that few of them are parted, which
    // costs a wrong guess.
    bits: u32,
}

/// Added to a place: another shard takes the highest such key.
const PARTED: u32 = 1 << 31;

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
        let bits = (shards.len().ilog2() + 4).clamp(8, 16);
        let lowest = |high: u128| high << (u128::BITS - bits);
        let place = |high| shards.partition_point(|shard| shard.first <= lowest(high)) - 1;
        let start = |high| {
            let highest = lowest(high) | u128::MAX >> bits;
            let parted = if shards[place(high)].last < highest { PARTED } else { 0 };
            u32::try_from(place(high)).unwrap_or(0) | parted
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

    /// By the highest bits alone, if they tell.
    #[inline]
    fn route_by(&self, high: u32, hash_key: impl FnOnce() -> u128) -> usize {
        let start = self.starts[(high >> (u32::BITS - self.bits)) as usize];
        if start & PARTED == 0 {
            return start as usize;
        }
        let (from, hash_key) = ((start - PARTED) as usize, hash_key());
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
        #[test]
        fn a_key_goes_to_the_shard_that_takes_it(count in 1_u64..2_000, key: u128) {
            let map = ShardMap::even(count);
            prop_assert_eq!(&ShardMap::new(map.shards().to_vec()).unwrap(), &map);
            let shard = map.shards()[map.route(key)];
            prop_assert!(shard.first <= key && key <= shard.last);
        }
    }
}
