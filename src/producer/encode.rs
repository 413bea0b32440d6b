use super::Record;
use super::aggregate::{AggregateWriter, seal};
use super::batch::Entry;
use super::packing::AGGREGATE_KEY;
use crate::kinesis::md5::LANES;
use crate::kinesis::protocol::{BodyWriter, StreamRef};
use crate::tick::Source;
use bytes::Bytes;

/// The form in which records leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `PutRecords` requests.
    PutRecords,
    /// A line for each payload; a line break in one becomes a space.
    Lines,
}

/// Makes the records of a batch and writes them into a request body.
#[derive(Debug)]
pub struct Encoder {
    body: Body,
    aggregate: Option<AggregateWriter>,
    payload: Vec<u8>,
    key: Vec<u8>,
    aggregates: [Vec<u8>; LANES],
}

#[derive(Debug)]
enum Body {
    PutRecords(BodyWriter),
    Lines(Vec<u8>),
}

impl Body {
    fn reserve(&mut self, bytes: usize) {
        match self {
            Self::PutRecords(body) => body.reserve(bytes),
            Self::Lines(lines) => lines.reserve(bytes),
        }
    }

    fn entry(&mut self, data: &[u8], key: &[u8], explicit_hash_key: Option<u128>) {
        match self {
            Self::PutRecords(body) => body.entry(data, key, explicit_hash_key),
            Self::Lines(lines) => {
                lines.extend(data.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
                lines.push(b'\n');
            }
        }
    }

    fn finish(&mut self) -> Bytes {
        match self {
            Self::PutRecords(body) => body.finish(),
            Self::Lines(lines) => std::mem::take(lines).into(),
        }
    }
}

impl Encoder {
    /// An encoder of requests to `stream`, of aggregates or of single records.
    #[must_use]
    pub fn new(stream: &StreamRef, wire: Wire, aggregates: bool) -> Self {
        Self {
            body: match wire {
                Wire::PutRecords => Body::PutRecords(BodyWriter::new(stream)),
                Wire::Lines => Body::Lines(Vec::new()),
            },
            aggregate: aggregates.then(AggregateWriter::default),
            payload: Vec::new(),
            key: Vec::new(),
            aggregates: std::array::from_fn(|_| Vec::new()),
        }
    }

    /// About how long the body of entries of `bytes` in all will be: base64 adds a third, and JSON
    /// some 100 bytes for each entry.
    #[must_use]
    pub fn body_len(entries: usize, bytes: usize) -> usize {
        bytes + bytes / 3 + entries * 104 + 256
    }

    /// The body of a request of these entries. `first_hash_key` gives the first hash key that the
    /// shard of a slot takes.
    pub fn encode(
        &mut self,
        records: &[Record],
        entries: &[Entry],
        source: &mut Source,
        first_hash_key: impl Fn(u32) -> u128,
    ) -> Bytes {
        let bytes = entries.iter().map(|entry| entry.bytes as usize).sum();
        self.body.reserve(Self::body_len(entries.len(), bytes));
        let mut rest = records;
        for entries in entries.chunks(LANES) {
            let count = entries.iter().map(|entry| entry.records as usize).sum();
            let (own, others) = rest.split_at(count);
            rest = others;
            if let Some(mut writer) = self.aggregate.take() {
                self.aggregate_entries(&mut writer, own, entries, source, &first_hash_key);
                self.aggregate = Some(writer);
            } else {
                self.single_entries(own, entries, source, &first_hash_key);
            }
        }
        self.body.finish()
    }

    fn single_entries(
        &mut self,
        records: &[Record],
        entries: &[Entry],
        source: &mut Source,
        first_hash_key: impl Fn(u32) -> u128,
    ) {
        for (record, entry) in records.iter().zip(entries) {
            self.render(record, source);
            let explicit = source.explicit().then(|| first_hash_key(entry.slot));
            self.body.entry(&self.payload, &self.key, explicit);
        }
    }

    /// Up to [`LANES`] aggregates, sealed together.
    fn aggregate_entries(
        &mut self,
        writer: &mut AggregateWriter,
        records: &[Record],
        entries: &[Entry],
        source: &mut Source,
        first_hash_key: impl Fn(u32) -> u128,
    ) {
        let mut rest = records;
        for (place, entry) in entries.iter().enumerate() {
            let (own, others) = rest.split_at(entry.records as usize);
            rest = others;
            if source.explicit() {
                writer.place_by(first_hash_key(entry.slot));
            }
            for record in own {
                self.render(record, source);
                writer.push(source.key_index(record.n), &self.key, &self.payload);
            }
            self.aggregates[place].clear();
            writer.finish(&mut self.aggregates[place]);
        }
        let sealed = &mut self.aggregates[..entries.len()];
        seal(sealed);
        for (aggregate, entry) in sealed.iter().zip(entries) {
            self.body.entry(aggregate, AGGREGATE_KEY, Some(first_hash_key(entry.slot)));
        }
    }

    /// Makes the payload and the partition key of a record.
    fn render(&mut self, record: &Record, source: &mut Source) {
        self.payload.clear();
        source.write_payload(record.n, record.intended, &mut self.payload);
        self.key.clear();
        source.write_key(record.n, record.intended, &mut self.key);
    }
}
