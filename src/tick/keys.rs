use super::Stamp;
use super::hex::{halves, hex};
use super::zipf::Ranks;
use super::{Draws, Ticks};
use crate::kinesis::md5::{LANES, ShortMessages, short_digests};
use crate::kinesis::{ShardMap, hash_key};
use crate::vectors::{Wide, widest};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How partition keys are chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyKind {
    /// A key of its own for each record: spreads over all shards.
    Uniform,
    /// The record's ticker.
    Ticker,
    /// One key for all records: the article's behaviour, and one hot shard.
    Fixed(String),
    /// A few keys take most records: key of rank k has weight 1 / k^exponent.
    Zipf {
        /// How steep: 0 is even, 1 is the classic Zipf law.
        exponent: f64,
        /// How many keys there are.
        keys: u32,
    },
    /// Explicit hash keys that give every open shard the same load.
    PerShard,
}

/// Why a text is not a way of choosing keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseKeysError {
    /// None of the words.
    #[error("expected uniform, ticker, fixed:KEY, zipf:S, zipf:S:KEYS or per-shard")]
    Unknown,
    /// Kinesis takes 1 to 256 characters.
    #[error("a partition key has 1 to 256 characters")]
    KeyLength,
    /// An exponent or a number of keys that makes no distribution.
    #[error("zipf:S takes an exponent from 0 to 10, zipf:S:KEYS from 1 to 100000 keys")]
    Zipf,
}

impl FromStr for KeyKind {
    type Err = ParseKeysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "uniform" => return Ok(Self::Uniform),
            "ticker" => return Ok(Self::Ticker),
            "per-shard" => return Ok(Self::PerShard),
            _ => {}
        }
        if let Some(key) = text.strip_prefix("fixed:") {
            return if (1..=256).contains(&key.chars().count()) {
                Ok(Self::Fixed(key.to_owned()))
            } else {
                Err(ParseKeysError::KeyLength)
            };
        }
        let rest = text.strip_prefix("zipf:").ok_or(ParseKeysError::Unknown)?;
        let (exponent, keys) = rest.split_once(':').unwrap_or((rest, "1000"));
        match (exponent.parse(), keys.parse()) {
            (Ok(exponent), Ok(keys)) if (0.0..=10.0).contains(&exponent) && (1..=100_000).contains(&keys) => {
                Ok(Self::Zipf { exponent, keys })
            }
            _ => Err(ParseKeysError::Zipf),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Ticker => f.write_str("ticker"),
            Self::Fixed(key) => write!(f, "fixed:{key}"),
            Self::Zipf { exponent, keys } => write!(f, "zipf:{exponent}:{keys}"),
            Self::PerShard => f.write_str("per-shard"),
        }
    }
}

/// The partition key of every record, and the shard it leads to.
#[derive(Clone, Debug)]
pub struct Keys {
    choice: Choice,
    pool: Arc<[Key]>,
    draws: Draws,
}

#[derive(Clone, Debug)]
enum Choice {
    Unique,
    ByTicker,
    Only,
    Ranked(Ranks),
    ByShard,
}

#[derive(Clone, Debug)]
struct Key {
    text: Vec<u8>,
    hash: u128,
}

impl Key {
    fn new(text: &str) -> Self {
        Self { text: text.as_bytes().to_vec(), hash: hash_key(text.as_bytes()) }
    }
}

/// A unique key is 16 hexadecimal digits.
const UNIQUE_LEN: usize = 16;

impl Keys {
    /// The keys of the run seeded with `seed`; `ticks` gives the tickers.
    #[must_use]
    pub fn new(kind: &KeyKind, seed: u64, ticks: &Ticks) -> Self {
        let (choice, pool) = match kind {
            KeyKind::Uniform => (Choice::Unique, Vec::new()),
            KeyKind::Ticker => (Choice::ByTicker, ticks.symbols().map(Key::new).collect()),
            KeyKind::Fixed(key) => (Choice::Only, vec![Key::new(key)]),
            KeyKind::Zipf { exponent, keys } => (
                Choice::Ranked(Ranks::zipf(*exponent, *keys as usize)),
                (1..=*keys).map(|rank| Key::new(&format!("key-{rank}"))).collect(),
            ),
            KeyKind::PerShard => (Choice::ByShard, vec![Key::new("tickgen")]),
        };
        Self { choice, pool: pool.into(), draws: Draws::new(seed, 2) }
    }

    /// How many distinct keys there are; `None` if every record has its own.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        (!matches!(self.choice, Choice::Unique)).then_some(self.pool.len())
    }

    /// Which of the [`Keys::count`] keys record `n` has; `None` if it has its own.
    #[must_use]
    #[inline]
    pub fn index(&self, n: u64, ticks: &Ticks) -> Option<usize> {
        match &self.choice {
            Choice::Unique => None,
            Choice::ByTicker => Some(ticks.ticker(n)),
            Choice::Only | Choice::ByShard => Some(0),
            Choice::Ranked(ranks) => Some(ranks.pick(self.draws.unit(n))),
        }
    }

    /// The length of record `n`'s partition key in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self, n: u64, ticks: &Ticks) -> usize {
        self.index(n, ticks).map_or(UNIQUE_LEN, |i| self.pool[i].text.len())
    }

    /// The longest key in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.pool.iter().map(|k| k.text.len()).max().unwrap_or(UNIQUE_LEN)
    }

    /// Appends record `n`'s partition key.
    pub fn write(&self, n: u64, ticks: &Ticks, out: &mut Vec<u8>) {
        if let Some(i) = self.index(n, ticks) {
            out.extend_from_slice(&self.pool[i].text);
            return;
        }
        out.extend_from_slice(&unique_key(self.draws.bits(n)));
    }

    /// The place in `map` of the shard that takes record `n`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the remainder is below the number of shards
    pub fn place(&self, n: u64, ticks: &Ticks, map: &ShardMap) -> usize {
        match (&self.choice, self.index(n, ticks)) {
            (Choice::ByShard, _) => (n % map.shards().len() as u64) as usize,
            (_, Some(i)) => map.route(self.pool[i].hash),
            (_, None) => map.route(hash_key(&unique_key(self.draws.bits(n)))),
        }
    }

    /// Whether each record has a key of its own.
    #[must_use]
    pub fn are_unique(&self) -> bool {
        matches!(self.choice, Choice::Unique)
    }

    /// The keys of [`LANES`] records, each of which has its own.
    pub(super) fn unique(&self, numbers: &[u64; LANES], keys: &mut OwnKeys) {
        widest(&Unique { draws: self.draws, numbers }, &mut keys.texts);
        keys.len = UNIQUE_LEN;
    }

    /// The places in `map` of the first `count` of records with keys of their own.
    pub(super) fn unique_places(
        &self,
        numbers: &[u64; LANES],
        count: usize,
        map: &ShardMap,
    ) -> [usize; LANES] {
        map.route_all(&short_digests(&Unique { draws: self.draws, numbers }, count))
    }

    /// The share of the records that each shard of `map` is expected to take; they sum to 1.
    #[must_use]
    pub fn expected_shares(&self, ticks: &Ticks, map: &ShardMap) -> Vec<f64> {
        let open = map.shards();
        let routed = |weights: &mut dyn Iterator<Item = f64>| {
            let mut shares = vec![0.0; open.len()];
            for (key, weight) in self.pool.iter().zip(weights) {
                shares[map.route(key.hash)] += weight;
            }
            shares
        };
        match &self.choice {
            Choice::Unique => open.iter().map(|s| (s.last - s.first) as f64 / u128::MAX as f64).collect(),
            Choice::ByShard => vec![1.0 / open.len() as f64; open.len()],
            Choice::Only => routed(&mut std::iter::once(1.0)),
            Choice::ByTicker => routed(&mut ticks.shares()),
            Choice::Ranked(ranks) => routed(&mut ranks.shares()),
        }
    }

    /// Whether records are placed by explicit hash keys (the first of their shard's range), not by
    /// their partition keys.
    #[must_use]
    pub fn explicit(&self) -> bool {
        matches!(self.choice, Choice::ByShard)
    }
}

/// The bytes in which the key of a record of its own stands.
pub const OWN_KEY_ROOM: usize = Stamp::LEN.next_multiple_of(4);

/// The partition keys of up to [`LANES`] records, each of which has its own.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    /// Each with its text first.
    pub texts: [[u8; OWN_KEY_ROOM]; LANES],
    /// The length of every text.
    pub len: usize,
}

impl Default for OwnKeys {
    fn default() -> Self {
        Self { texts: [[0; OWN_KEY_ROOM]; LANES], len: 0 }
    }
}

/// The key of a record of its own, from its draw.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `Wide`")]
fn unique_key(bits: u64) -> [u8; UNIQUE_LEN] {
    let text = u128::from(hex(bits >> 32)) | u128::from(hex(bits & 0xFFFF_FFFF)) << 64;
    text.to_le_bytes()
}

/// The keys of records that have each their own.
struct Unique<'a> {
    draws: Draws,
    numbers: &'a [u64; LANES],
}

impl Wide for Unique<'_> {
    type Result = [[u8; OWN_KEY_ROOM]; LANES];

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Wide`")]
    fn compute(&self, keys: &mut Self::Result) {
        for (key, &n) in keys.iter_mut().zip(self.numbers) {
            key[..UNIQUE_LEN].copy_from_slice(&unique_key(self.draws.bits(n)));
        }
    }
}

impl ShortMessages for Unique<'_> {
    const LEN: usize = UNIQUE_LEN;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `ShortMessages`")]
    fn words(&self, lane: usize) -> [u32; 14] {
        let bits = self.draws.bits(self.numbers[lane]);
        let ([a, b], [c, d]) = (halves(hex(bits >> 32)), halves(hex(bits & 0xFFFF_FFFF)));
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::{Shard, ShardId};
    use crate::tick::{EventTime, Market, TimeZone};

    fn with(kind: &str) -> (Keys, Ticks) {
        let tickers = ["AAPL".to_owned(), "日本".to_owned()];
        let ticks = Ticks::new(9, Market::Random, &tickers, None, EventTime::new(0, TimeZone::Utc)).unwrap();
        (Keys::new(&kind.parse().unwrap(), 9, &ticks), ticks)
    }

    fn text(keys: &Keys, ticks: &Ticks, n: u64) -> String {
        let mut out = Vec::new();
        keys.write(n, ticks, &mut out);
        assert_eq!(out.len(), keys.len(n, ticks));
        assert!(out.len() <= keys.max_len());
        String::from_utf8(out).unwrap()
    }

    fn load(kind: &str, shards: u64) -> Vec<u32> {
        let (keys, ticks) = with(kind);
        let map = ShardMap::even(shards);
        let mut load = vec![0; map.shards().len()];
        for n in 0..10_000 {
            let place = keys.place(n, &ticks, &map);
            if !keys.explicit() {
                let hash = hash_key(text(&keys, &ticks, n).as_bytes());
                assert_eq!(place, map.route(hash));
            }
            if keys.are_unique() {
                let lane = usize::try_from(n % LANES as u64).unwrap();
                let mut numbers = [n + 1; LANES];
                numbers[lane] = n;
                assert_eq!(place, keys.unique_places(&numbers, LANES, &map)[lane]);
            }
            load[place] += 1;
        }
        load
    }

    #[test]
    fn kinds_read_and_print() {
        for kind in ["uniform", "ticker", "fixed:a:b", "zipf:1.2:50", "per-shard"] {
            assert_eq!(kind.parse::<KeyKind>().unwrap().to_string(), kind);
        }
        assert_eq!("zipf:1".parse::<KeyKind>().unwrap().to_string(), "zipf:1:1000");
    }

    #[test]
    fn unique_keys_are_in_hexadecimal() {
        for bits in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x0a9f_90af_f0a9_9a0f, u64::MAX] {
            assert_eq!(unique_key(bits), format!("{bits:016x}").as_bytes());
        }
    }

    #[test]
    fn wrong_kinds_are_refused() {
        use ParseKeysError::{KeyLength, Unknown, Zipf};
        let long = format!("fixed:{}", "k".repeat(257));
        for (kind, error) in [
            ("", Unknown),
            ("hot", Unknown),
            ("fixed:", KeyLength),
            (long.as_str(), KeyLength),
            ("zipf:", Zipf),
            ("zipf:-1", Zipf),
            ("zipf:NaN", Zipf),
            ("zipf:1:0", Zipf),
            ("zipf:1:100001", Zipf),
        ] {
            assert_eq!(kind.parse::<KeyKind>(), Err(error), "{kind}");
        }
        // 256 characters, more bytes.
        assert!(format!("fixed:{}", "日".repeat(256)).parse::<KeyKind>().is_ok());
    }

    #[test]
    fn uniform_keys_spread_over_all_shards() {
        // 2,500 expected on each of 4 shards; 5 standard deviations are 217.
        let load = load("uniform", 4);
        assert!(load.iter().all(|&n| n.abs_diff(2_500) < 217), "{load:?}");
    }

    #[test]
    fn per_shard_keys_load_every_shard_equally() {
        assert_eq!(load("per-shard", 8), vec![1_250; 8]);
    }

    #[test]
    fn a_fixed_key_heats_one_shard() {
        assert_eq!(load("fixed:partitionkey", 4).iter().filter(|&&n| n > 0).count(), 1);
    }

    #[test]
    fn ticker_keys_are_the_records_tickers() {
        let (keys, mut ticks) = with("ticker");
        for n in 0..20 {
            let mut payload = Vec::new();
            ticks.write(n, 0, &mut payload);
            let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(value["TICKER"], text(&keys, &ticks, n));
        }
    }

    #[test]
    fn zipf_ranks_follow_their_weights() {
        let (keys, ticks) = with("zipf:1:100");
        let mut counts = vec![0_u32; 100];
        for n in 0..100_000 {
            counts[keys.index(n, &ticks).unwrap()] += 1;
        }
        let harmonic: f64 = (1..=100).map(|k| 1.0 / f64::from(k)).sum();
        for rank in [1_u32, 2, 10, 100] {
            let expected = 100_000.0 / f64::from(rank) / harmonic;
            let seen = f64::from(counts[rank as usize - 1]);
            assert!((seen - expected).abs() < 5.0 * expected.sqrt(), "rank {rank}: {seen} for {expected}");
        }
    }

    /// What is expected is what comes, on even and on uneven shards.
    #[test]
    fn shares_are_those_that_come() {
        let tickers = super::super::made_up_symbols(300);
        let uneven = |cuts: &[u128]| {
            let ends = cuts.iter().copied().chain([u128::MAX]);
            let mut first = 0;
            let shards = ends.enumerate().map(|(i, last)| {
                let shard = Shard { id: ShardId(i as u64), first, last };
                first = last.wrapping_add(1);
                shard
            });
            ShardMap::new(shards.collect()).unwrap()
        };
        for map in [ShardMap::even(1), ShardMap::even(5), uneven(&[1 << 120, 1 << 127])] {
            for kind in ["uniform", "ticker", "fixed:k", "zipf:1:100", "zipf:0:7", "per-shard"] {
                for market in [Market::Random, Market::Walk] {
                    let time = EventTime::new(0, TimeZone::Utc);
                    let ticks = Ticks::new(9, market, &tickers, None, time).unwrap();
                    let keys = Keys::new(&kind.parse().unwrap(), 9, &ticks);
                    let shares = keys.expected_shares(&ticks, &map);
                    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{kind}: {shares:?}");
                    let mut came = vec![0.0; shares.len()];
                    (0..20_000).for_each(|n| came[keys.place(n, &ticks, &map)] += 1.0 / 20_000.0);
                    for (share, came) in shares.iter().zip(came) {
                        // 5 standard deviations of 20,000 draws, at most.
                        let within = 5.0 * (share / 20_000.0).sqrt() + 1e-9;
                        assert!((share - came).abs() < within, "{kind} {market:?}: {share} but {came}");
                    }
                }
            }
        }
    }
}
