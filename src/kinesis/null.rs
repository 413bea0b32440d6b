//! A Kinesis that stores nothing: it answers as fast as it can read, from canned answers, so that
//! what is measured is the producer. Its threads count the processor time that they take themselves.

use super::ShardMap;
use super::md5::{LANES, digests};
use rustix::time::{ClockId, Timespec, clock_gettime};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SUMMARY: &str = r#"{"StreamDescriptionSummary":{"StreamName":"null","StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/null","StreamStatus":"ACTIVE","RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":1}}"#;
const RESULT: &str = r#"{"SequenceNumber":"49671000000000000000000000000000000000000000000000000002","ShardId":"shardId-000000000000"}"#;

/// The certificate of the endpoint with TLS, for 127.0.0.1, and its key. The key is no secret: only the client
/// of a calibration trusts the certificate, and nothing but that endpoint.
pub const CERTIFICATE: &str = include_str!("null/cert.pem");
const KEY: &str = include_str!("null/key.pem");

/// An endpoint on a free loopback port, until the process ends.
#[derive(Debug)]
pub struct NullEndpoint {
    addr: SocketAddr,
    tls: bool,
    cpu_nanos: Arc<AtomicU64>,
}

impl NullEndpoint {
    /// Starts one that answers each request after `delay`, as a stream of one shard, from canned answers.
    ///
    /// # Errors
    /// If there is no port, no thread, or no TLS.
    pub fn start(tls: bool, delay: Duration) -> std::io::Result<Self> {
        Self::answering(tls, delay, Shards { map: ShardMap::even(1), names: Vec::new() })
    }

    /// Starts one that answers as a stream of so many shards: in JSON each entry by its shard, in CBOR all by the
    /// first. For an entry it takes as long with one shard as with a thousand.
    ///
    /// # Errors
    /// See [`NullEndpoint::start`].
    pub fn of_shards(shards: u64, delay: Duration) -> std::io::Result<Self> {
        let map = ShardMap::even(shards.max(1));
        let names = map.shards().iter().map(|shard| shard.id.to_string()).collect();
        Self::answering(false, delay, Shards { map, names })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a server beside the producer, which must not share its threads"
    )]
    fn answering(tls: bool, delay: Duration, shards: Shards) -> std::io::Result<Self> {
        let shards = Arc::new(shards);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let config = if tls { Some(tls_config()?) } else { None };
        let cpu_nanos = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&cpu_nanos);
        std::thread::spawn(move || {
            for socket in listener.incoming().filter_map(Result::ok) {
                let (config, counter, shards) = (config.clone(), Arc::clone(&counter), Arc::clone(&shards));
                std::thread::spawn(move || serve(socket, config, (delay, shards), &counter));
            }
        });
        Ok(Self { addr, tls, cpu_nanos })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.addr)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The processor time that its answers took so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed))
    }
}

/// The processor time of this process so far, all threads together.
#[must_use]
pub fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

fn tls_config() -> std::io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes());
    let (certificate, key) =
        certificate.and_then(|certificate| Ok((certificate, key?))).map_err(Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(Error::other)?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    config.map(Arc::new).map_err(Error::other)
}

/// Answers the requests of a connection until the peer closes it.
fn serve(socket: TcpStream, config: Option<Arc<ServerConfig>>, manner: Manner, cpu: &AtomicU64) {
    // Whatever goes wrong is seen by the producer.
    let _ = socket.set_nodelay(true);
    match config {
        None => Connection::new(socket, manner).serve(cpu),
        Some(config) => {
            if let Ok(tls) = ServerConnection::new(config) {
                Connection::new(StreamOwned::new(tls, socket), manner).serve(cpu);
            }
        }
    }
}

/// How long an answer takes, and the shards that it is of.
type Manner = (Duration, Arc<Shards>);

/// The shards of a stream, and their names where entries are answered by them.
struct Shards {
    map: ShardMap,
    names: Vec<String>,
}

struct Connection<S> {
    socket: S,
    delay: Duration,
    shards: Arc<Shards>,
    buffer: Vec<u8>,
    filled: usize,
    /// Whole responses by their form and number of results.
    canned: HashMap<(bool, usize), Vec<u8>>,
}

impl<S: Read + Write> Connection<S> {
    fn new(socket: S, (delay, shards): Manner) -> Self {
        Self { socket, delay, shards, buffer: vec![0; 1 << 20], filled: 0, canned: HashMap::new() }
    }

    fn serve(&mut self, cpu: &AtomicU64) {
        let mut counted = Duration::ZERO;
        while self.answer().is_some() {
            let now = duration(clock_gettime(ClockId::ThreadCPUTime));
            let more = u64::try_from(now.saturating_sub(counted).as_nanos()).unwrap_or(0);
            cpu.fetch_add(more, Ordering::Relaxed);
            counted = now;
        }
    }

    /// Answers one request; `None`: there is none any more.
    #[expect(clippy::disallowed_methods, reason = "a thread of its own, which may sleep")]
    fn answer(&mut self) -> Option<()> {
        let head = self.read_until_head()?;
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
        let length: usize =
            text.split("content-length:").nth(1)?.split("\r\n").next()?.trim().parse().ok()?;
        self.read_to(head + length)?;
        let body = &self.buffer[head..head + length];
        if text.contains("kinesis_20131202.putrecords") {
            let entries = count(body, b"PartitionKey");
            let in_cbor = text.contains("application/x-amz-cbor-1.1");
            if !self.delay.is_zero() {
                std::thread::sleep(self.delay);
            }
            let by_shard = (!self.shards.names.is_empty() && !in_cbor)
                .then(|| response(&results_by_shard(body, &self.shards)));
            let canned = self.canned.entry((in_cbor, entries)).or_insert_with(|| {
                if in_cbor {
                    return cbor_response(entries);
                }
                let results = vec![RESULT; entries].join(",");
                response(&format!(r#"{{"FailedRecordCount":0,"Records":[{results}]}}"#))
            });
            self.socket.write_all(by_shard.as_ref().unwrap_or(canned)).ok()?;
        } else if text.contains("kinesis_20131202.putrecord") {
            self.socket.write_all(&response(RESULT)).ok()?;
        } else if text.contains("listshards") {
            self.socket.write_all(&response(&listed(&self.shards.map))).ok()?;
        } else {
            self.socket.write_all(&response(SUMMARY)).ok()?;
        }
        self.socket.flush().ok()?;
        self.buffer.copy_within(head + length..self.filled, 0);
        self.filled -= head + length;
        Some(())
    }

    /// Reads until the headers are whole; tells their length.
    fn read_until_head(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                return Some(end + 4);
            }
            self.read_to(self.filled + 1)?;
        }
    }

    fn read_to(&mut self, length: usize) -> Option<()> {
        if self.buffer.len() < length {
            self.buffer.resize(length * 2, 0);
        }
        while self.filled < length {
            match self.socket.read(&mut self.buffer[self.filled..]) {
                Ok(read @ 1..) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
        Some(())
    }
}

/// The answer to `ListShards`.
fn listed(map: &ShardMap) -> String {
    let shard = |shard: &super::Shard| {
        let (id, first, last) = (shard.id, shard.first, shard.last);
        format!(
            r#"{{"ShardId":"{id}","HashKeyRange":{{"StartingHashKey":"{first}","EndingHashKey":"{last}"}},"SequenceNumberRange":{{"StartingSequenceNumber":"1"}}}}"#
        )
    };
    let shards: Vec<String> = map.shards().iter().map(shard).collect();
    format!(r#"{{"Shards":[{}]}}"#, shards.join(","))
}

const PARTITION_KEY: &[u8] = br#""PartitionKey":""#;
const EXPLICIT_HASH_KEY: &[u8] = br#""ExplicitHashKey":""#;

/// A result for each entry of a body in JSON, by the shard that takes it.
fn results_by_shard(body: &[u8], shards: &Shards) -> String {
    // The key and the hash key stand together, up to the end of the entry.
    let entry = |at: usize| &body[at..memchr::memchr(b'}', &body[at..]).map_or(body.len(), |end| at + end)];
    let entries: Vec<&[u8]> = memchr::memmem::find_iter(body, PARTITION_KEY).map(entry).collect();
    let mut results = String::with_capacity(entries.len() * 128 + 64);
    results.push_str(r#"{"FailedRecordCount":0,"Records":["#);
    for entries in entries.chunks(LANES) {
        let keys: Vec<&[u8]> =
            entries.iter().map(|entry| text_of(PARTITION_KEY, entry).unwrap_or_default()).collect();
        for (entry, hash) in entries.iter().zip(digests(&keys)) {
            let explicit = text_of(EXPLICIT_HASH_KEY, entry)
                .and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
            let place = shards.map.route(explicit.unwrap_or(u128::from_be_bytes(hash)));
            results.push_str(r#"{"SequenceNumber":"4967100000000000000000000000000000002","ShardId":""#);
            results.push_str(&shards.names[place]);
            results.push_str("\"},");
        }
    }
    results.truncate(results.trim_end_matches(',').len());
    results.push_str("]}");
    results
}

/// The text that follows `name`, up to its quote.
fn text_of<'a>(name: &[u8], entry: &'a [u8]) -> Option<&'a [u8]> {
    let rest = &entry[memchr::memmem::find(entry, name)? + name.len()..];
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

fn response(body: &str) -> Vec<u8> {
    let mut response = head("application/x-amz-json-1.1", body.len());
    response.extend_from_slice(body.as_bytes());
    response
}

fn head(kind: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

/// The same results in CBOR: text up to 23 bytes has its length in its first byte (0x60), longer text behind
/// 0x78; maps and arrays are open until 0xFF.
fn cbor_response(entries: usize) -> Vec<u8> {
    let result = [
        &b"\xA2\x6ESequenceNumber\x78\x3849671000000000000000000000000000000000000000000000000002"[..],
        b"\x67ShardId\x74shardId-000000000000",
    ]
    .concat();
    let begin = &b"\xBF\x71FailedRecordCount\x00\x67Records\x9F"[..];
    let body = [begin, &result.repeat(entries), b"\xFF\xFF"].concat();
    let mut response = head("application/x-amz-cbor-1.1", body.len());
    response.extend_from_slice(&body);
    response
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

fn count(text: &[u8], word: &[u8]) -> usize {
    memchr::memmem::find_iter(text, word).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::protocol::{BodyWriter, Form, StreamRef, read_answer};
    use crate::kinesis::{Answer, EntryAnswer, hash_key};

    #[test]
    fn entries_are_answered_by_the_shards_that_take_them() {
        let map = ShardMap::even(7);
        let names = map.shards().iter().map(|shard| shard.id.to_string()).collect();
        let mut body = BodyWriter::new(&StreamRef::parse("null"), Form::Json);
        let mut expected = Vec::new();
        for n in 0_u32..200 {
            let explicit = (n % 3 == 0).then(|| u128::MAX / 200 * u128::from(n));
            let key = format!("key {n}");
            body.entry(b"data", key.as_bytes(), explicit);
            let place = map.route(explicit.unwrap_or_else(|| hash_key(key.as_bytes())));
            expected.push(EntryAnswer::Accepted(map.shards()[place].id));
        }
        let results = results_by_shard(&body.finish(Vec::new()), &Shards { map, names });
        assert_eq!(read_answer(results.as_bytes(), Form::Json), Answer::Entries(expected));
    }
}
