use super::keys::OwnKeys;
use super::replay::{Held, Lent, MAX_REPLAYED_BYTES};
use super::stamp::{Stamp, StampPlace, Stamper, Stamps};
use super::{Keys, Replayed, TICK_ROOM, Template, TemplateError, Ticks};
use crate::kinesis::md5::{LANES, short_digests};
use crate::kinesis::{ShardMap, hash_key};
use crate::load::Nanos;
use crate::vectors::widest;

/// Makes the records of a run: payload, partition key and place of any record number.
#[derive(Clone, Debug)]
pub struct Source {
    ticks: Ticks,
    keys: Keys,
    contents: Contents,
    stamper: Stamper,
    stamps: StampPlace,
}

/// What payloads are.
#[derive(Clone, Debug)]
enum Contents {
    /// The ticker record itself.
    Ticks,
    /// A template of the user's, which may name what the ticker record tells.
    Template(Box<Template>),
    /// What a file held, with partition keys or without.
    Replayed { held: Held, bring_keys: bool },
}

impl Source {
    /// Ticker records with these keys.
    #[must_use]
    pub fn new(ticks: Ticks, keys: Keys) -> Self {
        Self::of(ticks, keys, Contents::Ticks)
    }

    /// The same records with payloads by a template.
    #[must_use]
    pub fn with_template(mut self, template: Template) -> Self {
        self.contents = Contents::Template(Box::new(template));
        self
    }

    /// Records that come from a file, at most `max_bytes` of them kept at a time. `bring_keys`: whether they
    /// have partition keys of their own; `keys` are for those that have none.
    #[must_use]
    pub fn replayed(ticks: Ticks, keys: Keys, bring_keys: bool, max_bytes: usize) -> Self {
        let held = Held::new(max_bytes);
        let contents = Contents::Replayed { held, bring_keys };
        Self::of(ticks, keys, contents)
    }

    fn of(ticks: Ticks, keys: Keys, contents: Contents) -> Self {
        let stamper = Stamper { run: 0, load: 0, start_unix: 0 };
        Self { ticks, keys, contents, stamper, stamps: StampPlace::None }
    }

    /// The same records with stamps of this run and load. In the body: of ticker records only. In the
    /// key: in place of keys that are each record's own, or that do not place it.
    #[must_use]
    pub fn with_stamps(mut self, stamps: StampPlace, run: u32, load: u8) -> Self {
        self.stamper = Stamper { run, load, ..self.stamper };
        self.stamps = stamps;
        self
    }

    /// Whether the partition key of record `n` is its stamp.
    fn stamps_key(&self, n: u64) -> bool {
        self.stamps == StampPlace::Key && self.own_key(n).is_none()
    }

    /// Keeps the next record of a file until it is forgotten; tells whether there was room.
    pub fn keep(&mut self, record: Replayed) -> bool {
        match &mut self.contents {
            Contents::Replayed { held, .. } => held.keep(record),
            _ => false,
        }
    }

    /// Lets the next record of a file go by: it has its number, and is not kept.
    pub fn pass_over(&mut self) {
        if let Contents::Replayed { held, .. } = &mut self.contents {
            held.pass_over();
        }
    }

    /// Forgets record `n` of a file.
    pub fn forget(&mut self, n: u64) {
        if let Contents::Replayed { held, .. } = &mut self.contents {
            held.forget(n);
        }
    }

    /// What another copy of this source needs to write these records, besides their numbers.
    pub fn lend(&self, numbers: impl Iterator<Item = u64>) -> Lent {
        match &self.contents {
            Contents::Replayed { held, .. } => held.lend(numbers),
            _ => Lent::default(),
        }
    }

    /// Takes what [`Source::lend`] gave for the records to be written next.
    pub fn borrow(&mut self, lent: &Lent) {
        if let Contents::Replayed { held, .. } = &mut self.contents {
            held.borrow(lent);
        }
    }

    /// The partition key that record `n` of a file brought, if it did.
    fn own_key(&self, n: u64) -> Option<&[u8]> {
        match &self.contents {
            Contents::Replayed { held, .. } => held.key(n),
            _ => None,
        }
    }

    /// Whether records can have their partition keys in common.
    #[must_use]
    pub fn shares_keys(&self) -> bool {
        self.key_count() > 0 && self.stamps != StampPlace::Key
            || matches!(self.contents, Contents::Replayed { bring_keys: true, .. })
    }

    /// Sets when the run begins, in nanoseconds since 1970-01-01 UTC: intended starts count from it.
    pub fn starts_at(&mut self, start_unix: Nanos) {
        self.ticks.starts_at(start_unix);
        self.stamper.start_unix = start_unix;
    }

    /// Works out what up to [`LANES`] records tell, whose payloads are asked for next, in this order.
    pub fn ahead(&mut self, numbers: impl Iterator<Item = u64>) {
        if matches!(self.contents, Contents::Ticks) {
            self.ticks.ahead(numbers);
        }
    }

    /// The length of record `n`'s payload in bytes. It is asked for once in the making of a record: a
    /// payload that cannot be made is counted here ([`Source::failures`]).
    pub fn payload_len(&mut self, n: u64, intended: Nanos) -> usize {
        match &mut self.contents {
            Contents::Ticks => {
                let stamp = if self.stamps == StampPlace::Body { Stamp::FIELD_LEN } else { 0 };
                self.ticks.len(n, intended) + stamp
            }
            Contents::Template(template) => template.len(n, intended, &mut self.ticks),
            Contents::Replayed { held, .. } => held.payload(n).len(),
        }
    }

    /// How many payloads could not be made and say why instead, and why the first could not.
    #[must_use]
    pub fn failures(&self) -> (u64, Option<&TemplateError>) {
        match &self.contents {
            Contents::Ticks | Contents::Replayed { .. } => (0, None),
            Contents::Template(template) => (template.failures(), template.first_failure()),
        }
    }

    /// The length of record `n`'s partition key in bytes.
    #[must_use]
    #[inline]
    pub fn key_len(&self, n: u64) -> usize {
        match self.own_key(n) {
            Some(key) => key.len(),
            None if self.stamps == StampPlace::Key => Stamp::LEN,
            None => self.keys.len(n, &self.ticks),
        }
    }

    /// Which of the run's [`Source::key_count`] keys record `n` has; `None` if it has its own.
    #[must_use]
    pub fn key_index(&self, n: u64) -> Option<usize> {
        let own = self.own_key(n).is_some() || self.stamps == StampPlace::Key;
        if own { None } else { self.keys.index(n, &self.ticks) }
    }

    /// Whether payloads are ticker records, which are JSON on one line.
    #[must_use]
    pub fn is_ticks(&self) -> bool {
        matches!(self.contents, Contents::Ticks)
    }

    /// How many keys the records choose among; 0 if each has its own.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.count().filter(|_| self.stamps != StampPlace::Key).unwrap_or(0)
    }

    /// Whether records are placed by explicit hash keys.
    #[must_use]
    pub fn explicit(&self) -> bool {
        self.keys.explicit()
    }

    /// The place in `map` of the shard that takes record `n`.
    #[must_use]
    pub fn place(&self, n: u64, intended: Nanos, map: &ShardMap) -> usize {
        match self.own_key(n) {
            Some(key) => map.route(hash_key(key)),
            None if self.stamps_key(n) && !self.explicit() => {
                map.route(hash_key(&self.stamper.stamp(n, intended).text()))
            }
            None => self.keys.place(n, &self.ticks, map),
        }
    }

    /// The places in `map` of up to [`LANES`] records at once, each a number and an intended start.
    #[must_use]
    pub fn places(&self, records: &[(u64, Nanos)], map: &ShardMap) -> [usize; LANES] {
        if matches!(self.contents, Contents::Replayed { .. }) || !self.keys.are_unique() {
            let mut places = [0; LANES];
            for (place, &(n, intended)) in places.iter_mut().zip(records) {
                *place = self.place(n, intended, map);
            }
            return places;
        }
        // Keys of their own are hashed together, see `md5`; lanes that are left over do any.
        let mut lanes = [(0, 0); LANES];
        for (lane, record) in lanes.iter_mut().zip(records) {
            *lane = *record;
        }
        if self.stamps == StampPlace::Key {
            return map
                .route_all(&short_digests(&Stamps { stamper: self.stamper, records: lanes }, records.len()));
        }
        self.keys.unique_places(&lanes.map(|(n, _)| n), records.len(), map)
    }

    /// The share of the records that each shard of `map` is expected to take, in the order of its
    /// shards; they sum to 1. `None` if it is not known before the records are.
    #[must_use]
    pub fn expected_shares(&self, map: &ShardMap) -> Option<Vec<f64>> {
        match self.contents {
            // Which keys come, the file knows.
            Contents::Replayed { bring_keys: true, .. } => None,
            _ => Some(self.keys.expected_shares(&self.ticks, map)),
        }
    }

    /// Appends record `n`'s payload.
    pub fn write_payload(&mut self, n: u64, intended: Nanos, out: &mut Vec<u8>) {
        match &self.contents {
            Contents::Ticks => {
                self.ticks.write(n, intended, out);
                if self.stamps == StampPlace::Body {
                    self.stamper.stamp(n, intended).append_to(out);
                }
            }
            Contents::Template(template) => template.write(n, intended, &mut self.ticks, out),
            Contents::Replayed { held, .. } => out.extend_from_slice(held.payload(n)),
        }
    }

    /// Puts record `n`'s payload into room for it and tells its length, if it is a ticker record of few bytes;
    /// otherwise it is left to [`Source::write_payload`].
    #[inline]
    pub fn write_tick(&mut self, n: u64, intended: Nanos, room: &mut [u8; TICK_ROOM]) -> Option<usize> {
        let is_tick = matches!(self.contents, Contents::Ticks) && self.stamps != StampPlace::Body;
        if is_tick { self.ticks.write_short(n, intended, room) } else { None }
    }

    /// Makes the keys of up to [`LANES`] records, each a number and an intended start; tells whether each has its
    /// own, as else there is nothing in `keys`.
    pub fn own_keys(&self, records: impl Iterator<Item = (u64, Nanos)>, keys: &mut OwnKeys) -> bool {
        let stamps = self.stamps == StampPlace::Key;
        if matches!(self.contents, Contents::Replayed { .. }) || !(stamps || self.keys.are_unique()) {
            return false;
        }
        let mut lanes = [(0, 0); LANES];
        for (lane, record) in lanes.iter_mut().zip(records) {
            *lane = record;
        }
        if stamps {
            widest(&Stamps { stamper: self.stamper, records: lanes }, &mut keys.texts);
            keys.len = Stamp::LEN;
        } else {
            self.keys.unique(&lanes.map(|(n, _)| n), keys);
        }
        true
    }

    /// Appends record `n`'s partition key.
    pub fn write_key(&self, n: u64, intended: Nanos, out: &mut Vec<u8>) {
        match self.own_key(n) {
            Some(key) => out.extend_from_slice(key),
            None if self.stamps_key(n) => out.extend_from_slice(&self.stamper.stamp(n, intended).text()),
            None => self.keys.write(n, &self.ticks, out),
        }
    }

    /// The most bytes that one record can have, payload plus partition key.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        let payload = match &self.contents {
            Contents::Ticks => self.ticks.max_len(),
            Contents::Template(template) => template.max_len(),
            Contents::Replayed { .. } => return MAX_REPLAYED_BYTES,
        };
        let stamp = if self.stamps == StampPlace::Body { Stamp::FIELD_LEN } else { 0 };
        let key = if self.stamps == StampPlace::Key { Stamp::LEN } else { self.keys.max_len() };
        payload + stamp + key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use crate::tick::{EventTime, KeyKind, Market, TimeZone};

    fn source(keys: &str, stamps: StampPlace, tickers: &[&str]) -> Source {
        let time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
        let tickers: Vec<String> = tickers.iter().map(ToString::to_string).collect();
        let ticks = Ticks::new(7, Market::Random, &tickers, None, time).unwrap();
        let kind: KeyKind = keys.parse().unwrap();
        let mut source = Source::new(ticks.clone(), Keys::new(&kind, 7, &ticks)).with_stamps(stamps, 0xA5, 3);
        source.starts_at(1_795_373_640 * SECOND);
        source
    }

    /// What is made of several records at once, and in pieces, is what each makes by itself.
    #[test]
    fn records_are_the_same_alone_and_in_a_lot() {
        // The longest name that is copied as a piece, and one that is longer by a byte.
        let (fits, long) = ("A".repeat(22), "A".repeat(23));
        for keys in ["uniform", "per-shard", "ticker"] {
            for (stamps, pieces) in
                [(StampPlace::None, true), (StampPlace::Key, true), (StampPlace::Body, false)]
            {
                for (tickers, short) in [(&["AAPL", "日本", &fits][..], true), (&["AAPL", &long], false)] {
                    let (mut lots, mut alone) =
                        (source(keys, stamps, tickers), source(keys, stamps, tickers));
                    for count in [1, 2, 63, 64_u64] {
                        // A whole second has a shorter time.
                        let records: Vec<_> = (0..count).map(|k| (k * 977 + count, k * SECOND / 2)).collect();
                        lots.ahead(records.iter().map(|(n, _)| *n));
                        let mut own_keys = OwnKeys::default();
                        let own = lots.own_keys(records.iter().copied(), &mut own_keys);
                        assert_eq!(own, keys == "uniform" || stamps == StampPlace::Key);
                        for (place, &(n, intended)) in records.iter().enumerate() {
                            let (mut payload, mut key, mut room) = (Vec::new(), Vec::new(), [0; TICK_ROOM]);
                            alone.write_payload(n, intended, &mut payload);
                            alone.write_key(n, intended, &mut key);
                            assert_eq!(
                                (payload.len(), key.len()),
                                (alone.payload_len(n, intended), alone.key_len(n))
                            );
                            let len = lots.write_tick(n, intended, &mut room);
                            assert_eq!(len.is_some(), pieces && short, "{keys} {stamps:?} {tickers:?}");
                            if let Some(len) = len {
                                assert_eq!(room[..len], payload);
                            }
                            if own {
                                assert_eq!(own_keys.texts[place][..own_keys.len], key);
                            }
                        }
                    }
                }
            }
        }
    }
}
