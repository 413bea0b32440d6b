use super::Record;
use super::aggregate::AggregateWriter;
use super::backlog::AGGREGATE_KEY;
use super::batch::Entry;
use crate::kinesis::protocol::{BodyWriter, StreamRef};
use crate::tick::Source;
use bytes::Bytes;

/// Makes the records of a batch and writes them into a request body.
#[derive(Debug)]
pub struct Encoder {
    body: BodyWriter,
    usual_len: usize,
    aggregate: Option<AggregateWriter>,
    payload: Vec<u8>,
    key: Vec<u8>,
    aggregated: Vec<u8>,
}

impl Encoder {
    /// An encoder of requests to `stream`, of aggregates or of single records.
    #[must_use]
    pub fn new(stream: &StreamRef, aggregates: bool) -> Self {
        Self {
            body: BodyWriter::new(stream),
            usual_len: 0,
            aggregate: aggregates.then(AggregateWriter::default),
            payload: Vec::new(),
            key: Vec::new(),
            aggregated: Vec::new(),
        }
    }

    /// The length of the longest body so far, in bytes: the best guess at the next one's.
    #[must_use]
    pub fn usual_len(&self) -> usize {
        self.usual_len
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
        let mut rest = records;
        for entry in entries {
            let (own, others) = rest.split_at(entry.records as usize);
            rest = others;
            let hash_key = first_hash_key(entry.slot);
            if let Some(writer) = self.aggregate.take() {
                self.aggregate = Some(self.aggregate_entry(writer, own, source, hash_key));
            } else {
                self.single_entries(own, source, hash_key);
            }
        }
        let body = self.body.finish(self.usual_len);
        self.usual_len = self.usual_len.max(body.len());
        body
    }

    fn single_entries(&mut self, records: &[Record], source: &mut Source, hash_key: u128) {
        let explicit = source.explicit().then_some(hash_key);
        for record in records {
            self.render(record, source);
            self.body.entry(&self.payload, &self.key, explicit);
        }
    }

    fn aggregate_entry(
        &mut self,
        mut writer: AggregateWriter,
        records: &[Record],
        source: &mut Source,
        hash_key: u128,
    ) -> AggregateWriter {
        if source.explicit() {
            writer.place_by(hash_key);
        }
        for record in records {
            self.render(record, source);
            writer.push(source.key_index(record.n), &self.key, &self.payload);
        }
        self.aggregated.clear();
        writer.finish(&mut self.aggregated);
        self.body.entry(&self.aggregated, AGGREGATE_KEY, Some(hash_key));
        writer
    }

    /// Makes the payload and the partition key of a record.
    fn render(&mut self, record: &Record, source: &mut Source) {
        self.payload.clear();
        source.write_payload(record.n, record.intended, &mut self.payload);
        self.key.clear();
        source.write_key(record.n, &mut self.key);
    }
}
