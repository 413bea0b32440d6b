//! KPL aggregated records: many user records in one Kinesis record.
//!
//! Format: `F3 89 9A C2`, a proto2 message `AggregatedRecord { repeated string partition_key_table
//! = 1; repeated string explicit_hash_key_table = 2; repeated Record records = 3; }` with `Record {
//! required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2; required
//! bytes data = 3; repeated Tag tags = 4; }`, and the 16-byte MD5 of the message
//! (amazon-kinesis-producer, aggregation-format.md).

pub use super::pieces::Pieces;
use crate::kinesis::md5::{LANES, digests};
use md5::{Digest, Md5};
use std::collections::VecDeque;

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_LEN: usize = 16;

// Field numbers and wire types, as protobuf tags.
const PARTITION_KEY: u8 = 1 << 3 | 2;
const EXPLICIT_HASH_KEY: u8 = 2 << 3 | 2;
const RECORD: u8 = 3 << 3 | 2;
const RECORD_PARTITION_KEY: u8 = 1 << 3;
const RECORD_EXPLICIT_HASH_KEY: u8 = 2 << 3;
const RECORD_DATA: u8 = 3 << 3 | 2;

/// The size of an aggregate in the making, so that it can be filled to a bound before a byte of it
/// is written.
#[derive(Clone, Debug)]
pub struct AggregateSize {
    bytes: usize,
    keys: u64,
    explicit_hash_key: bool,
    // For each of the run's keys the aggregate that last took it; comparing numbers spares clearing
    // the table for each aggregate.
    taken_by: Vec<(u64, u64)>,
    aggregate: u64,
}

impl AggregateSize {
    /// Sizes of aggregates whose records choose among `keys` keys (0: each has its own), placed by
    /// an explicit hash key or not.
    #[must_use]
    pub fn new(keys: usize, explicit_hash_key: bool) -> Self {
        let mut size =
            Self { bytes: 0, keys: 0, explicit_hash_key, taken_by: vec![(0, 0); keys], aggregate: 0 };
        size.clear(0);
        size
    }

    /// Begins the next aggregate, placed by `hash_key` if records are placed by explicit hash keys.
    pub fn clear(&mut self, hash_key: u128) {
        self.aggregate += 1;
        self.keys = 0;
        self.bytes = MAGIC.len() + DIGEST_LEN;
        if self.explicit_hash_key {
            self.bytes += field_len(decimal_digits(hash_key));
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The size with one more record, whose key is the run's `key`-th (`None`: its own).
    pub fn add(&mut self, key: Option<usize>, key_len: usize, payload_len: usize) -> usize {
        let index = self.key_index(key, key_len);
        let mut record = 1 + varint_len(index) + 1 + varint_len(payload_len as u64) + payload_len;
        if self.explicit_hash_key {
            record += 2; // the tag, and index 0: an aggregate has one explicit hash key
        }
        self.bytes += field_len(record);
        self.bytes
    }

    fn key_index(&mut self, key: Option<usize>, key_len: usize) -> u64 {
        let next = self.keys;
        if let Some(taken) = key.and_then(|key| self.taken_by.get_mut(key)) {
            if taken.0 == self.aggregate {
                return taken.1;
            }
            *taken = (self.aggregate, next);
        }
        self.keys += 1;
        self.bytes += field_len(key_len);
        next
    }
}

fn decimal_digits(number: u128) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A tag, the length, and `len` bytes.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn varint_len(value: u64) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        // Seven bits a byte.
        _ => (64 - value.leading_zeros() as usize).div_ceil(7),
    }
}

/// Writes aggregates, one after the other: first the keys of one, then its records.
#[derive(Clone, Debug, Default)]
pub struct AggregateWriter {
    key_count: u64,
    // Of the aggregate in the making: each record's key, the first not written yet. None, if each has its own:
    // then the number of records that are written is that of the next one's key.
    indexes: VecDeque<u64>,
    records: u64,
    // Of the run's keys, those in the aggregate.
    index_of: Vec<Option<u64>>,
    touched: Vec<usize>,
    explicit_hash_key: bool,
}

impl AggregateWriter {
    /// Begins an aggregate at the end of `out`. With a hash key, that places its records rather than their
    /// partition keys.
    pub fn begin(&mut self, hash_key: Option<u128>, out: &mut Pieces) {
        out.extend(&MAGIC);
        (self.key_count, self.records) = (0, 0);
        self.indexes.clear();
        for key in self.touched.drain(..) {
            self.index_of[key] = None;
        }
        self.explicit_hash_key = hash_key.is_some();
        if let Some(hash_key) = hash_key {
            let text = hash_key.to_string();
            write_head(EXPLICIT_HASH_KEY, text.len(), out);
            out.extend(text.as_bytes());
        }
    }

    /// Appends the partition key of the next record, of `len` bytes, which `write` appends. `key` is its
    /// number among the run's keys, under which it is written once; `None` writes it for this record.
    pub fn key(&mut self, key: Option<usize>, len: usize, out: &mut Pieces, write: impl FnOnce(&mut Pieces)) {
        if let Some(key) = key {
            if key >= self.index_of.len() {
                self.index_of.resize(key + 1, None);
            }
            if let Some(index) = self.index_of[key] {
                self.indexes.push_back(index);
                return;
            }
            self.index_of[key] = Some(self.key_count);
            self.touched.push(key);
        }
        self.indexes.push_back(self.key_count);
        self.key_count += 1;
        write_head(PARTITION_KEY, len, out);
        write(out);
    }

    /// Appends the partition key of the next record, the first `len` bytes of `text`, where every record of the
    /// aggregate has its own.
    #[inline]
    pub fn own_key<const ROOM: usize>(&mut self, text: &[u8; ROOM], len: usize, out: &mut Pieces) {
        self.key_count += 1;
        write_head(PARTITION_KEY, len, out);
        *out.room() = *text;
        out.advance(len.min(ROOM));
    }

    /// Appends what stands before the payload of the next record, in the order of the keys. Its payload is of `len`
    /// bytes, and to be appended then.
    #[inline]
    pub fn record_head(&mut self, len: usize, out: &mut Pieces) {
        let index = self.indexes.pop_front().unwrap_or(self.records);
        self.records += 1;
        let placed = if self.explicit_hash_key { 2 } else { 0 };
        // Three numbers of at most ten bytes, and five others.
        let room = out.room::<35>();
        room[0] = RECORD;
        let mut at = put_varint(room, 1, (1 + varint_len(index) + field_len(len) + placed) as u64);
        room[at] = RECORD_PARTITION_KEY;
        at = put_varint(room, at + 1, index);
        if self.explicit_hash_key {
            room[at..at + 2].copy_from_slice(&[RECORD_EXPLICIT_HASH_KEY, 0]);
            at += 2;
        }
        room[at] = RECORD_DATA;
        at = put_varint(room, at + 1, len as u64);
        out.advance(at);
    }

    /// Ends the aggregate, but for its digest: aggregates are sealed several at a time by [`seal`].
    pub fn end(&self, out: &mut Pieces) {
        out.extend(&[0; DIGEST_LEN]);
    }
}

/// Writes the digests of up to [`LANES`] aggregates, which stand one after another in `bytes` and end at
/// `ends`.
pub fn seal(bytes: &mut [u8], ends: &[usize]) {
    let mut messages = [[].as_slice(); LANES];
    let mut begin = 0;
    for (message, &end) in messages.iter_mut().zip(ends) {
        *message = &bytes[begin + MAGIC.len()..end - DIGEST_LEN];
        begin = end;
    }
    let digests = digests(&messages[..ends.len().min(LANES)]);
    for (digest, &end) in digests.iter().zip(ends) {
        bytes[end - DIGEST_LEN..end].copy_from_slice(digest);
    }
}

/// The tag of a field and its length, before `len` bytes.
#[inline]
fn write_head(tag: u8, len: usize, out: &mut Pieces) {
    let room = out.room::<11>();
    room[0] = tag;
    let head = put_varint(room, 1, len as u64);
    out.advance(head);
}

/// Puts a number at a place; gives the place behind it. There is to be room for ten bytes.
#[inline]
#[allow(clippy::cast_possible_truncation)] // the low seven bits
fn put_varint<const N: usize>(room: &mut [u8; N], mut at: usize, mut value: u64) -> usize {
    while value >= 0x80 {
        room[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    room[at] = value as u8;
    at + 1
}

/// A user record read from an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRecord<'a> {
    /// Its partition key.
    pub partition_key: &'a str,
    /// The hash key that places it instead of its partition key, in decimal.
    pub explicit_hash_key: Option<&'a str>,
    /// Its payload.
    pub data: &'a [u8],
}

/// Why bytes are not an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin with the magic number, or are too short for the digest: a plain record.
    #[error("not an aggregated record")]
    NotAggregated,
    /// The digest at the end is not that of the message.
    #[error("the MD5 digest does not match the message")]
    Digest,
    /// The message is not the protobuf message it should be.
    #[error("the protobuf message is malformed: {0}")]
    Message(&'static str),
}

/// Reads the user records of an aggregate. Unknown fields are passed over, as protobuf asks.
///
/// # Errors
/// If the bytes are no aggregate; no bytes make it panic.
pub fn decode(bytes: &[u8]) -> Result<Vec<UserRecord<'_>>, DecodeError> {
    let message = message(bytes)?;
    let mut partition_keys = Vec::new();
    let mut hash_keys = Vec::new();
    let mut records = Vec::new();
    for field in Fields(message) {
        match field? {
            (PARTITION_KEY, Value::Bytes(key)) => partition_keys.push(text(key)?),
            (EXPLICIT_HASH_KEY, Value::Bytes(key)) => hash_keys.push(text(key)?),
            (RECORD, Value::Bytes(record)) => records.push(raw_record(record)?),
            _ => {}
        }
    }
    let index = |keys: &[&'_ str], index: u64| usize::try_from(index).ok().filter(|&i| i < keys.len());
    records
        .into_iter()
        .map(|record| {
            let key = index(&partition_keys, record.partition_key);
            let key = key.ok_or(DecodeError::Message("a partition key index outside its table"))?;
            let explicit_hash_key = record
                .explicit_hash_key
                .map(|i| {
                    index(&hash_keys, i)
                        .ok_or(DecodeError::Message("an explicit hash key index outside its table"))
                })
                .transpose()?;
            Ok(UserRecord {
                partition_key: partition_keys[key],
                explicit_hash_key: explicit_hash_key.map(|i| hash_keys[i]),
                data: record.data,
            })
        })
        .collect()
}

fn message(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::NotAggregated)?;
    let end = rest.len().checked_sub(DIGEST_LEN).ok_or(DecodeError::NotAggregated)?;
    let (message, digest) = rest.split_at(end);
    if Md5::digest(message).as_slice() == digest { Ok(message) } else { Err(DecodeError::Digest) }
}

/// A message with what goes around it.
#[cfg(any(test, fuzzing))]
pub(crate) fn sealed(message: &[u8]) -> Vec<u8> {
    [&MAGIC, message, &Md5::digest(message)].concat()
}

struct RawRecord<'a> {
    partition_key: u64,
    explicit_hash_key: Option<u64>,
    data: &'a [u8],
}

fn raw_record(bytes: &[u8]) -> Result<RawRecord<'_>, DecodeError> {
    let (mut partition_key, mut explicit_hash_key, mut data) = (None, None, None);
    for field in Fields(bytes) {
        match field? {
            (RECORD_PARTITION_KEY, Value::Varint(index)) => partition_key = Some(index),
            (RECORD_EXPLICIT_HASH_KEY, Value::Varint(index)) => explicit_hash_key = Some(index),
            (RECORD_DATA, Value::Bytes(bytes)) => data = Some(bytes),
            _ => {}
        }
    }
    Ok(RawRecord {
        partition_key: partition_key.ok_or(DecodeError::Message("a record without a partition key"))?,
        explicit_hash_key,
        data: data.ok_or(DecodeError::Message("a record without data"))?,
    })
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Message("a key that is not UTF-8"))
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a protobuf message, with their tags of one byte; others have tag 0.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, Value<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u8, Value<'a>), DecodeError> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| DecodeError::Message("a length over memory"))?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(DecodeError::Message("an unknown wire type")),
        };
        Ok((u8::try_from(tag).unwrap_or(0), value))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or(DecodeError::Message("a field that breaks off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (i, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(DecodeError::Message("a number that breaks off or has more than 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An aggregate of records, each with its key's number, key and payload.
    fn write(
        writer: &mut AggregateWriter,
        hash_key: Option<u128>,
        records: &[(Option<usize>, &[u8], &[u8])],
    ) -> Vec<u8> {
        let mut out = Pieces::default();
        writer.begin(hash_key, &mut out);
        for (key, text, _) in records {
            writer.key(*key, text.len(), &mut out, |out| out.extend(text));
        }
        for (_, _, data) in records {
            writer.record_head(data.len(), &mut out);
            out.extend(data);
        }
        writer.end(&mut out);
        let end = out.len();
        seal(out.as_mut_slice(), &[end]);
        out.as_slice().to_vec()
    }

    /// The bytes of a two-record aggregate, put together by hand from the specification.
    #[test]
    fn bytes_are_those_of_the_specification() {
        let records = [(Some(3), b"key".as_slice(), b"one".as_slice()), (Some(3), b"key", b"two!")];
        let out = write(&mut AggregateWriter::default(), None, &records);
        let message =
            [b"\x0A\x03key".as_slice(), b"\x1A\x07\x08\x00\x1A\x03one", b"\x1A\x08\x08\x00\x1A\x04two!"]
                .concat();
        let digest = Md5::digest(&message);
        assert_eq!(out, [&MAGIC, message.as_slice(), &digest].concat());
    }

    #[test]
    fn explicit_hash_keys_are_in_their_table() {
        let mut writer = AggregateWriter::default();
        let record = [(Some(0), b"a".as_slice(), b"x".as_slice())];
        let out = write(&mut writer, Some(u128::MAX), &record);
        let records = decode(&out).unwrap();
        assert_eq!(records[0].explicit_hash_key, Some("340282366920938463463374607431768211455"));
        let out = write(&mut writer, None, &record);
        assert_eq!(decode(&out).unwrap()[0].explicit_hash_key, None);
    }

    #[test]
    fn what_is_no_aggregate_is_told_apart() {
        assert_eq!(decode(b"{}"), Err(DecodeError::NotAggregated));
        assert_eq!(decode(&MAGIC), Err(DecodeError::NotAggregated));
        let mut out = write(&mut AggregateWriter::default(), None, &[]);
        assert_eq!(decode(&out), Ok(vec![]));
        out[7] ^= 1;
        assert_eq!(decode(&out), Err(DecodeError::Digest));
    }

    proptest! {
        #[test]
        fn records_survive_and_the_size_was_told(
            records in prop::collection::vec((prop::option::of(0_usize..5), prop::collection::vec(any::<u8>(), 0..300)), 1..60),
            placed in any::<bool>(),
            hash_key: u128,
        ) {
            let mut size = AggregateSize::new(5, placed);
            let mut writer = AggregateWriter::default();
            // Twice: nothing of one aggregate may leak into the next.
            for _ in 0..2 {
                size.clear(hash_key);
                let keys: Vec<String> = records.iter().enumerate()
                    .map(|(n, (key, _))| key.map_or(format!("own-{n}"), |k| format!("key-{k}"))).collect();
                for ((key, data), text) in records.iter().zip(&keys) {
                    size.add(*key, text.len(), data.len());
                }
                let written: Vec<_> = records.iter().zip(&keys)
                    .map(|((key, data), text)| (*key, text.as_bytes(), data.as_slice())).collect();
                let out = write(&mut writer, placed.then_some(hash_key), &written);
                prop_assert_eq!(size.bytes(), out.len());
                let read = decode(&out).unwrap();
                prop_assert_eq!(read.len(), records.len());
                for ((read, (_, data)), text) in read.iter().zip(&records).zip(&keys) {
                    prop_assert_eq!(read.partition_key, text);
                    prop_assert_eq!(read.data, data);
                    prop_assert_eq!(read.explicit_hash_key.is_some(), placed);
                }
            }
        }

        /// Keys that are each record's own are written as such one by one.
        #[test]
        fn own_keys_are_keys(keys: Vec<[u8; 4]>, len in 0_usize..=4) {
            let texts: Vec<[u8; 4]> = keys.iter().map(|key| key.map(|byte| b'a' + byte % 26)).collect();
            let payload = |n: usize| vec![b'x'; n * 50];
            let records: Vec<_> = texts.iter().map(|key| (None, &key[..len], b"".as_slice())).collect();
            let payloads: Vec<Vec<u8>> = (0..texts.len()).map(payload).collect();
            let records: Vec<_> = records.iter().zip(&payloads).map(|((none, key, _), data)| (*none, *key, data.as_slice())).collect();
            let (mut writer, mut out) = (AggregateWriter::default(), Pieces::default());
            let one_by_one = write(&mut writer, None, &records);
            writer.begin(None, &mut out);
            for key in &texts {
                writer.own_key(key, len, &mut out);
            }
            for data in &payloads {
                writer.record_head(data.len(), &mut out);
                out.extend(data);
            }
            writer.end(&mut out);
            let end = out.len();
            seal(out.as_mut_slice(), &[end]);
            prop_assert_eq!(out.as_slice(), one_by_one);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&sealed(&bytes));
        }

        #[test]
        fn a_damaged_message_is_read_without_panic(at in 0_usize..200, with: u8) {
            let keys = [[b'a'], [b'b']];
            let payloads: Vec<[u8; 20]> = (0..6).map(|n| [n; 20]).collect();
            let records: Vec<_> = payloads.iter().enumerate()
                .map(|(n, data)| (Some(n % 2), keys[n % 2].as_slice(), data.as_slice())).collect();
            let out = write(&mut AggregateWriter::default(), None, &records);
            let mut message = out[4..out.len() - 16].to_vec();
            let at = at % message.len();
            message[at] = with;
            let _ = decode(&sealed(&message));
        }
    }
}
