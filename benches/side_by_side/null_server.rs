//! A Kinesis that stores nothing: it answers as fast as it can read, from canned answers, so that
//! what is measured is the producer.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tickgen::kinesis::{ShardMap, hash_key};

const SUMMARY: &str = r#"{"StreamDescriptionSummary":{"StreamName":"null","StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/null","StreamStatus":"ACTIVE","RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":1}}"#;
const RESULT: &str = r#"{"SequenceNumber":"49671000000000000000000000000000000000000000000000000002","ShardId":"shardId-000000000000"}"#;

/// Serves a stream of so many shards on a free loopback port, which it prints, until the process is ended. With
/// one shard answers are canned; with more each entry is answered by its shard, in JSON alone.
pub(crate) fn serve(delay: Duration, shards: u64) -> std::io::Result<()> {
    let map = Arc::new(ShardMap::even(shards));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    for socket in listener.incoming() {
        let socket = socket?;
        socket.set_nodelay(true)?;
        let map = Arc::clone(&map);
        std::thread::spawn(move || Connection::new(socket, delay, map).serve());
    }
    Ok(())
}

struct Connection {
    socket: TcpStream,
    delay: Duration,
    map: Arc<ShardMap>,
    buffer: Vec<u8>,
    filled: usize,
    /// Whole responses by their form and number of results.
    canned: HashMap<(bool, usize), Vec<u8>>,
}

impl Connection {
    fn new(socket: TcpStream, delay: Duration, map: Arc<ShardMap>) -> Self {
        Self { socket, delay, map, buffer: vec![0; 1 << 20], filled: 0, canned: HashMap::new() }
    }

    /// Answers requests until the peer closes.
    fn serve(&mut self) -> Option<()> {
        loop {
            let head = self.read_until_head()?;
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
            let length: usize =
                text.split("content-length:").nth(1)?.split("\r\n").next()?.trim().parse().ok()?;
            self.read_to(head + length)?;
            let body = &self.buffer[head..head + length];
            if text.contains("kinesis_20131202.putrecords") {
                let entries = count(body, b"PartitionKey");
                let in_cbor = text.contains("application/x-amz-cbor-1.1");
                std::thread::sleep(self.delay);
                if self.map.shards().len() > 1 {
                    let results = results_by_shard(body, &self.map);
                    self.socket.write_all(&response(&results)).ok()?;
                    self.buffer.copy_within(head + length..self.filled, 0);
                    self.filled -= head + length;
                    continue;
                }
                let canned = self.canned.entry((in_cbor, entries)).or_insert_with(|| {
                    if in_cbor {
                        return cbor_response(entries);
                    }
                    let results = vec![RESULT; entries].join(",");
                    response(&format!(r#"{{"FailedRecordCount":0,"Records":[{results}]}}"#))
                });
                self.socket.write_all(canned).ok()?;
            } else if text.contains("kinesis_20131202.putrecord") {
                self.socket.write_all(&response(RESULT)).ok()?;
            } else if text.contains("listshards") {
                self.socket.write_all(&response(&shards(&self.map))).ok()?;
            } else {
                self.socket.write_all(&response(SUMMARY)).ok()?;
            }
            self.buffer.copy_within(head + length..self.filled, 0);
            self.filled -= head + length;
        }
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
                _ => return None,
            }
        }
        Some(())
    }
}

/// The answer to `ListShards`.
fn shards(map: &ShardMap) -> String {
    let shards: Vec<String> = map
        .shards()
        .iter()
        .map(|shard| {
            let (id, first, last) = (shard.id, shard.first, shard.last);
            format!(
                r#"{{"ShardId":"{id}","HashKeyRange":{{"StartingHashKey":"{first}","EndingHashKey":"{last}"}},"SequenceNumberRange":{{"StartingSequenceNumber":"1"}}}}"#
            )
        })
        .collect();
    format!(r#"{{"Shards":[{}]}}"#, shards.join(","))
}

/// A result for each entry, by the shard that takes it.
fn results_by_shard(body: &[u8], map: &ShardMap) -> String {
    let text = |body: &[u8], name: &str| {
        let begin = body.windows(name.len()).position(|window| window == name.as_bytes())? + name.len();
        let end = begin + memchr::memchr(b'"', &body[begin..])?;
        Some(String::from_utf8_lossy(&body[begin..end]).into_owned())
    };
    let entries: Vec<usize> = memchr::memmem::find_iter(body, b"\"PartitionKey\":\"").collect();
    let results: Vec<String> = entries
        .iter()
        .map(|&at| {
            // The key and the hash key stand together, up to the end of the entry.
            let end = memchr::memchr(b'}', &body[at..]).map_or(body.len(), |end| at + end);
            let entry = &body[at..end];
            let explicit = text(entry, r#""ExplicitHashKey":""#).and_then(|number| number.parse().ok());
            let key = text(entry, r#""PartitionKey":""#).unwrap_or_default();
            let shard = map.shards()[map.route(explicit.unwrap_or_else(|| hash_key(key.as_bytes())))].id;
            format!(r#"{{"SequenceNumber":"4967100000000000000000000000000000002","ShardId":"{shard}"}}"#)
        })
        .collect();
    format!(r#"{{"FailedRecordCount":0,"Records":[{}]}}"#, results.join(","))
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
