//! KPL aggregated records: many user records in one Kinesis record.
//!
//! Format: `F3 89 9A C2`, a proto2 message `AggregatedRecord { repeated string partition_key_table
//! = 1; repeated string explicit_hash_key_table = 2; repeated Record records = 3; }` with `Record {
//! required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2; required
//! bytes data = 3; repeated Tag tags = 4; }`, and the 16-byte MD5 of the message
//! (amazon-kinesis-producer, aggregation-format.md).

use crate::kinesis::md5::{LANES, digests};
use md5::{Digest, Md5};

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
    // Seven bits a byte; at least one.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes aggregates, one after the other, into buffers of its own.
#[derive(Debug, Default)]
pub struct AggregateWriter {
    keys: Vec<u8>,
    key_count: u64,
    records: Vec<u8>,
    index_of: Vec<Option<u64>>,
    touched: Vec<usize>,
    explicit_hash_key: bool,
}

impl AggregateWriter {
    /// Places every record of this aggregate by `hash_key`, rather than by its partition key.
    pub fn place_by(&mut self, hash_key: u128) {
        let digits = hash_key.to_string();
        write_field(&mut self.keys, EXPLICIT_HASH_KEY, digits.as_bytes());
        self.explicit_hash_key = true;
    }

    /// Appends a user record. `key` is the partition key's number among the run's keys, under which
    /// it is written once; `None` writes it for this record.
    pub fn push(&mut self, key: Option<usize>, partition_key: &[u8], data: &[u8]) {
        let index = self.key_index(key, partition_key);
        let len = 1 + varint_len(index) + field_len(data.len()) + if self.explicit_hash_key { 2 } else { 0 };
        self.records.push(RECORD);
        write_varint(&mut self.records, len as u64);
        self.records.push(RECORD_PARTITION_KEY);
        write_varint(&mut self.records, index);
        if self.explicit_hash_key {
            self.records.extend_from_slice(&[RECORD_EXPLICIT_HASH_KEY, 0]);
        }
        write_field(&mut self.records, RECORD_DATA, data);
    }

    /// Appends the finished aggregate to `out`, but for its digest: aggregates are sealed several at a
    /// time by [`seal`]. The writer is ready for the next.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.records);
        self.keys.clear();
        self.records.clear();
        self.key_count = 0;
        self.explicit_hash_key = false;
        for key in self.touched.drain(..) {
            self.index_of[key] = None;
        }
    }

    fn key_index(&mut self, key: Option<usize>, partition_key: &[u8]) -> u64 {
        if let Some(key) = key {
            if key >= self.index_of.len() {
                self.index_of.resize(key + 1, None);
            }
            if let Some(index) = self.index_of[key] {
                return index;
            }
            self.index_of[key] = Some(self.key_count);
            self.touched.push(key);
        }
        write_field(&mut self.keys, PARTITION_KEY, partition_key);
        self.key_count += 1;
        self.key_count - 1
    }
}

/// Appends their digests to up to [`LANES`] finished aggregates.
pub fn seal(aggregates: &mut [Vec<u8>]) {
    let mut messages = [[].as_slice(); LANES];
    for (message, aggregate) in messages.iter_mut().zip(&*aggregates) {
        *message = &aggregate[MAGIC.len()..];
    }
    let digests = digests(&messages[..aggregates.len().min(LANES)]);
    for (aggregate, digest) in aggregates.iter_mut().zip(digests) {
        aggregate.extend_from_slice(&digest);
    }
}

fn write_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[allow(clippy::cast_possible_truncation)] // the low seven bits
fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
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

    fn finish(writer: &mut AggregateWriter, out: &mut Vec<u8>) {
        writer.finish(out);
        seal(std::slice::from_mut(out));
    }

    /// The bytes of a two-record aggregate, put together by hand from the specification.
    #[test]
    fn bytes_are_those_of_the_specification() {
        let mut writer = AggregateWriter::default();
        writer.push(Some(3), b"key", b"one");
        writer.push(Some(3), b"key", b"two!");
        let mut out = Vec::new();
        finish(&mut writer, &mut out);
        let message =
            [b"\x0A\x03key".as_slice(), b"\x1A\x07\x08\x00\x1A\x03one", b"\x1A\x08\x08\x00\x1A\x04two!"]
                .concat();
        let digest = Md5::digest(&message);
        assert_eq!(out, [&MAGIC, message.as_slice(), &digest].concat());
    }

    #[test]
    fn explicit_hash_keys_are_in_their_table() {
        let mut writer = AggregateWriter::default();
        writer.place_by(u128::MAX);
        writer.push(Some(0), b"a", b"x");
        let mut out = Vec::new();
        finish(&mut writer, &mut out);
        let records = decode(&out).unwrap();
        assert_eq!(records[0].explicit_hash_key, Some("340282366920938463463374607431768211455"));
        writer.push(Some(0), b"a", b"x");
        out.clear();
        finish(&mut writer, &mut out);
        assert_eq!(decode(&out).unwrap()[0].explicit_hash_key, None);
    }

    #[test]
    fn what_is_no_aggregate_is_told_apart() {
        assert_eq!(decode(b"{}"), Err(DecodeError::NotAggregated));
        assert_eq!(decode(&MAGIC), Err(DecodeError::NotAggregated));
        let mut out = Vec::new();
        finish(&mut AggregateWriter::default(), &mut out);
        assert_eq!(decode(&out), Ok(vec![]));
        out[7] ^= 1;
        assert_eq!(decode(&out), Err(DecodeError::Digest));
    }

    fn sealed(message: &[u8]) -> Vec<u8> {
        [&MAGIC, message, &Md5::digest(message)].concat()
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
            let mut out = Vec::new();
            // Twice: nothing of one aggregate may leak into the next.
            for _ in 0..2 {
                size.clear(hash_key);
                out.clear();
                if placed {
                    writer.place_by(hash_key);
                }
                let keys: Vec<String> = records.iter().enumerate()
                    .map(|(n, (key, _))| key.map_or(format!("own-{n}"), |k| format!("key-{k}"))).collect();
                for ((key, data), text) in records.iter().zip(&keys) {
                    size.add(*key, text.len(), data.len());
                    writer.push(*key, text.as_bytes(), data);
                }
                finish(&mut writer, &mut out);
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

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&sealed(&bytes));
        }

        #[test]
        fn a_damaged_message_is_read_without_panic(at in 0_usize..200, with: u8) {
            let mut writer = AggregateWriter::default();
            for n in 0..6_u8 {
                writer.push(Some(usize::from(n % 2)), &[b'a' + n % 2], &[n; 20]);
            }
            let mut out = Vec::new();
            finish(&mut writer, &mut out);
            let mut message = out[4..out.len() - 16].to_vec();
            let at = at % message.len();
            message[at] = with;
            let _ = decode(&sealed(&message));
        }
    }
}
