use super::Record;
use super::aggregate::{AggregateWriter, seal};
use super::lines::LineWriter;
use super::packing::AGGREGATE_KEY;
use super::{Entry, Request};
use crate::kinesis::md5::LANES;
use crate::kinesis::protocol::{BodyWriter, Form, StreamRef};
use crate::tick::Source;
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The form in which records leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `PutRecords` requests.
    PutRecords(Form),
    /// A line of JSON for each payload.
    Lines,
}

/// Makes the records of a request and writes its body. It has its own copy of the source, so that several
/// requests can be written at once.
#[derive(Clone, Debug)]
pub struct Encoder {
    source: Source,
    body: Body,
    aggregate: Option<AggregateWriter>,
    payload: Vec<u8>,
    key: Vec<u8>,
    // Aggregates in the making, one after another, and where they end.
    aggregates: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Body {
    PutRecords(BodyWriter),
    Lines(LineWriter),
}

impl Body {
    fn reserve(&mut self, bytes: usize) {
        match self {
            Self::PutRecords(body) => body.reserve(bytes),
            Self::Lines(writer) => writer.lines.reserve(bytes),
        }
    }

    fn entry(&mut self, data: &[u8], key: &[u8], explicit_hash_key: Option<u128>) {
        match self {
            Self::PutRecords(body) => body.entry(data, key, explicit_hash_key),
            Self::Lines(writer) => writer.entry(data),
        }
    }

    fn finish(&mut self, next: Vec<u8>) -> Bytes {
        match self {
            Self::PutRecords(body) => body.finish(next),
            Self::Lines(writer) => std::mem::replace(&mut writer.lines, next).into(),
        }
    }
}

impl Encoder {
    /// An encoder of requests to `stream`, of aggregates or of single records.
    pub(super) fn new(stream: &StreamRef, wire: Wire, aggregates: bool, source: Source) -> Self {
        Self {
            body: match wire {
                Wire::PutRecords(form) => Body::PutRecords(BodyWriter::new(stream, form)),
                Wire::Lines => Body::Lines(LineWriter::new(!source.is_ticks())),
            },
            source,
            aggregate: aggregates.then(AggregateWriter::default),
            payload: Vec::new(),
            key: Vec::new(),
            aggregates: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// About how long the body of entries of `bytes` in all will be: base64 adds a third, and JSON
    /// some 100 bytes for each entry.
    #[must_use]
    pub fn body_len(entries: usize, bytes: usize) -> usize {
        bytes + bytes / 3 + entries * 104 + 256
    }

    /// The body of a request; that of the next is written into `next`, which is empty.
    pub fn encode(&mut self, request: &Request, next: Vec<u8>) -> Bytes {
        self.source.borrow(&request.lent);
        let bytes = request.entries.iter().map(|entry| entry.bytes as usize).sum();
        self.body.reserve(Self::body_len(request.entries.len(), bytes));
        let mut rest = request.records.as_slice();
        for entries in request.entries.chunks(LANES) {
            let count = entries.iter().map(|entry| entry.records as usize).sum();
            let (own, others) = rest.split_at(count);
            rest = others;
            if let Some(mut writer) = self.aggregate.take() {
                self.aggregate_entries(&mut writer, own, entries);
                self.aggregate = Some(writer);
            } else {
                self.single_entries(own, entries);
            }
        }
        self.body.finish(next)
    }

    fn single_entries(&mut self, records: &[Record], entries: &[Entry]) {
        for (record, entry) in records.iter().zip(entries) {
            self.payload.clear();
            self.source.write_payload(record.n, record.intended, &mut self.payload);
            self.key.clear();
            self.source.write_key(record.n, record.intended, &mut self.key);
            let explicit = self.source.explicit().then_some(entry.first_hash_key);
            self.body.entry(&self.payload, &self.key, explicit);
        }
    }

    /// Up to [`LANES`] aggregates, sealed together.
    fn aggregate_entries(&mut self, writer: &mut AggregateWriter, records: &[Record], entries: &[Entry]) {
        let (source, out) = (&mut self.source, &mut self.aggregates);
        let shares_keys = source.shares_keys();
        out.clear();
        self.ends.clear();
        let mut rest = records;
        for entry in entries {
            let (own, others) = rest.split_at(entry.records as usize);
            rest = others;
            writer.begin(source.explicit().then_some(entry.first_hash_key), out);
            for record in own {
                let key = if shares_keys { source.key_index(record.n) } else { None };
                let write = |out: &mut Vec<u8>| source.write_key(record.n, record.intended, out);
                writer.key(key, usize::from(record.key_len), out, write);
            }
            for record in own {
                let write = |out: &mut Vec<u8>| source.write_payload(record.n, record.intended, out);
                writer.record(record.payload_len as usize, out, write);
            }
            writer.end(out);
            self.ends.push(out.len());
        }
        seal(out, &self.ends);
        let mut begin = 0;
        for (&end, entry) in self.ends.iter().zip(entries) {
            self.body.entry(&out[begin..end], AGGREGATE_KEY, Some(entry.first_hash_key));
            begin = end;
        }
    }
}

/// Encoders for as many requests as are written at once, each made when it is first needed.
#[derive(Debug)]
pub(super) struct Encoders {
    first: Encoder,
    idle: Mutex<Vec<Encoder>>,
    // The memory of bodies that were sent: never more than were in flight at once.
    bodies: Mutex<Vec<Vec<u8>>>,
}

impl Encoders {
    pub(super) fn new(first: Encoder) -> Self {
        Self { first, idle: Mutex::default(), bodies: Mutex::default() }
    }

    /// See [`Encoder::encode`].
    pub(super) fn encode(&self, request: &Request) -> Bytes {
        let idle = lock(&self.idle).pop();
        let next = lock(&self.bodies).pop().unwrap_or_default();
        let mut encoder = idle.unwrap_or_else(|| self.first.clone());
        let body = encoder.encode(request, next);
        lock(&self.idle).push(encoder);
        body
    }

    /// Takes the memory of a body that was sent, if nobody else holds it: the system would have to clear
    /// megabytes for each request anew.
    pub(super) fn reuse(&self, body: Bytes) {
        if body.is_unique() {
            let mut body = Vec::from(body);
            body.clear();
            lock(&self.bodies).push(body);
        }
    }
}

/// What is kept is whole at any moment, so a panic elsewhere does no harm to it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
