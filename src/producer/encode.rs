use super::Record;
use super::aggregate::{AggregateWriter, Pieces, seal};
use super::lines::LineWriter;
use super::packing::AGGREGATE_KEY;
use super::{Entry, Request};
use crate::kinesis::md5::LANES;
use crate::kinesis::protocol::{BodyWriter, Form, StreamRef};
use crate::tick::{OwnKeys, Source, TICK_ROOM};
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
    keys: OwnKeys,
    // Aggregates in the making, one after another, and where they end.
    aggregates: Pieces,
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
            keys: OwnKeys::default(),
            aggregates: Pieces::default(),
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

    /// Up to [`LANES`] records.
    fn single_entries(&mut self, records: &[Record], entries: &[Entry]) {
        let Self { source, body, payload, key, keys, .. } = self;
        source.ahead(records.iter().map(|record| record.n));
        let own = source.own_keys(records.iter().map(|record| (record.n, record.intended)), keys);
        let mut room = [0; TICK_ROOM];
        for (place, (record, entry)) in records.iter().zip(entries).enumerate() {
            let data = if let Some(len) = source.write_tick(record.n, record.intended, &mut room) {
                &room[..len]
            } else {
                payload.clear();
                source.write_payload(record.n, record.intended, payload);
                payload.as_slice()
            };
            let key = if own {
                &keys.texts[place][..keys.len]
            } else {
                key.clear();
                source.write_key(record.n, record.intended, key);
                key.as_slice()
            };
            body.entry(data, key, source.explicit().then_some(entry.first_hash_key));
        }
    }

    /// Up to [`LANES`] aggregates, sealed together.
    fn aggregate_entries(&mut self, writer: &mut AggregateWriter, records: &[Record], entries: &[Entry]) {
        self.aggregates.clear();
        self.ends.clear();
        let mut rest = records;
        for entry in entries {
            let (own, others) = rest.split_at(entry.records as usize);
            rest = others;
            let explicit = self.source.explicit().then_some(entry.first_hash_key);
            writer.begin(explicit, &mut self.aggregates);
            own.chunks(LANES).for_each(|lot| self.aggregate_keys(writer, lot));
            own.chunks(LANES).for_each(|lot| self.aggregate_payloads(writer, lot));
            writer.end(&mut self.aggregates);
            self.ends.push(self.aggregates.len());
        }
        seal(self.aggregates.as_mut_slice(), &self.ends);
        let mut begin = 0;
        for (&end, entry) in self.ends.iter().zip(entries) {
            let data = &self.aggregates.as_slice()[begin..end];
            self.body.entry(data, AGGREGATE_KEY, Some(entry.first_hash_key));
            begin = end;
        }
    }

    /// The keys of up to [`LANES`] records of an aggregate.
    fn aggregate_keys(&mut self, writer: &mut AggregateWriter, lot: &[Record]) {
        let Self { source, aggregates, key, keys, .. } = self;
        if source.own_keys(lot.iter().map(|record| (record.n, record.intended)), keys) {
            keys.texts[..lot.len()].iter().for_each(|text| writer.own_key(text, keys.len, aggregates));
            return;
        }
        for record in lot {
            writer.key(source.key_index(record.n), usize::from(record.key_len), aggregates, |out| {
                key.clear();
                source.write_key(record.n, record.intended, key);
                out.extend(key);
            });
        }
    }

    /// Their payloads.
    fn aggregate_payloads(&mut self, writer: &mut AggregateWriter, lot: &[Record]) {
        let Self { source, aggregates, payload, .. } = self;
        source.ahead(lot.iter().map(|record| record.n));
        for record in lot {
            writer.record_head(record.payload_len as usize, aggregates);
            if let Some(len) = source.write_tick(record.n, record.intended, aggregates.room()) {
                aggregates.advance(len);
            } else {
                payload.clear();
                source.write_payload(record.n, record.intended, payload);
                aggregates.extend(payload);
            }
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
