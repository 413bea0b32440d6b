//! The wire form of `PutRecords` (awsJson1.1): request bodies written once, straight from the
//! records, and answers read without the SDK's structure per entry.

use super::{Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind, ShardId, scan};
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write as _;

/// How a request names its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamRef {
    /// By name, in the account and region of the credentials.
    Name(String),
    /// By ARN, which reaches streams of other accounts.
    Arn(String),
}

impl StreamRef {
    /// Reads what a user gives as a stream: an ARN begins with `arn:`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with("arn:") { Self::Arn(text.to_owned()) } else { Self::Name(text.to_owned()) }
    }

    /// The name or ARN as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(text) | Self::Arn(text) => text,
        }
    }
}

/// Writes one request body after the other.
#[derive(Debug)]
pub struct BodyWriter {
    end: Vec<u8>,
    body: Vec<u8>,
    entries: usize,
}

const BEGIN: &[u8] = br#"{"Records":["#;
const DATA: &[u8] = br#"{"Data":""#;
const KEY: &[u8] = br#"","PartitionKey":""#;
const HASH_KEY: &[u8] = br#"","ExplicitHashKey":""#;
const END_ENTRY: &[u8] = br#""}"#;

impl BodyWriter {
    /// A writer of requests to `stream`.
    #[must_use]
    pub fn new(stream: &StreamRef) -> Self {
        let field = match stream {
            StreamRef::Name(_) => "StreamName",
            StreamRef::Arn(_) => "StreamARN",
        };
        let name = serde_json::Value::from(stream.as_str());
        let end = format!(r#"],"{field}":{name}}}"#).into_bytes();
        Self { end, body: Vec::new(), entries: 0 }
    }

    /// Appends one entry. `key` is UTF-8.
    pub fn entry(&mut self, data: &[u8], key: &[u8], explicit_hash_key: Option<u128>) {
        if self.entries == 0 {
            self.body.extend_from_slice(BEGIN);
        } else {
            self.body.push(b',');
        }
        self.entries += 1;
        self.body.extend_from_slice(DATA);
        base64_simd::STANDARD.encode_append(data, &mut self.body);
        self.body.extend_from_slice(KEY);
        self.json_text(key);
        if let Some(hash_key) = explicit_hash_key {
            self.body.extend_from_slice(HASH_KEY);
            // Writing to a Vec cannot fail.
            let _ = write!(self.body, "{hash_key}");
        }
        self.body.extend_from_slice(END_ENTRY);
    }

    /// Makes room for a body of about `bytes`.
    pub fn reserve(&mut self, bytes: usize) {
        self.body.reserve(bytes);
    }

    /// The finished body; the writer is ready for the next.
    pub fn finish(&mut self) -> Bytes {
        if self.entries == 0 {
            self.body.extend_from_slice(BEGIN);
        }
        self.entries = 0;
        self.body.extend_from_slice(&self.end);
        Bytes::from(std::mem::take(&mut self.body))
    }

    fn json_text(&mut self, text: &[u8]) {
        let plain = |b: &u8| *b >= 0x20 && *b != b'"' && *b != b'\\';
        if text.iter().all(plain) {
            self.body.extend_from_slice(text);
        } else {
            let quoted = serde_json::Value::from(String::from_utf8_lossy(text)).to_string();
            self.body.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        }
    }
}

#[derive(Deserialize)]
struct WireAnswer<'a> {
    #[serde(borrow, rename = "Records")]
    records: Vec<WireEntry<'a>>,
}

#[derive(Deserialize)]
struct WireEntry<'a> {
    #[serde(borrow, rename = "SequenceNumber")]
    sequence_number: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ShardId")]
    shard_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ErrorCode")]
    error_code: Option<Cow<'a, str>>,
}

impl WireEntry<'_> {
    fn read(self) -> Option<EntryAnswer> {
        match (self.error_code, self.shard_id, self.sequence_number) {
            (Some(code), _, _) => Some(EntryAnswer::Rejected(EntryError::from_code(&code))),
            (None, Some(id), Some(_)) => ShardId::parse(&id).map(EntryAnswer::Accepted),
            (None, _, _) => None,
        }
    }
}

/// Reads the body of a successful (HTTP 200) answer. What cannot be read for certain is
/// [`RequestErrorKind::Malformed`]: an entry counts as accepted only if the answer says so.
#[must_use]
pub fn read_answer(body: &[u8]) -> Answer {
    scan::entries(body).map_or_else(|| parse_answer(body), Answer::Entries)
}

fn parse_answer(body: &[u8]) -> Answer {
    let malformed = |text: String| Answer::Failed(RequestError { kind: RequestErrorKind::Malformed, text });
    let answer: WireAnswer<'_> = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => return malformed(format!("the answer is not a PutRecords result: {error}")),
    };
    let entries: Option<Vec<_>> = answer.records.into_iter().map(WireEntry::read).collect();
    entries.map_or_else(
        || malformed("a result in the answer has neither SequenceNumber and ShardId nor ErrorCode".into()),
        Answer::Entries,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies_are_what_the_api_reference_shows() {
        let mut writer = BodyWriter::new(&StreamRef::parse("ticks"));
        writer.entry(b"hello", b"key-1", None);
        writer.entry(b"", b"quo\"te", Some(u128::MAX));
        let body: serde_json::Value = serde_json::from_slice(&writer.finish()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "Records": [
                    {"Data": "aGVsbG8=", "PartitionKey": "key-1"},
                    {"Data": "", "PartitionKey": "quo\"te",
                     "ExplicitHashKey": "340282366920938463463374607431768211455"},
                ],
                "StreamName": "ticks",
            })
        );
        writer.entry(b"x", b"k", None);
        let next: serde_json::Value = serde_json::from_slice(&writer.finish()).unwrap();
        assert_eq!(next["Records"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn arns_are_named_as_arns() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/ticks";
        let body = BodyWriter::new(&StreamRef::parse(arn)).finish();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["StreamARN"], arn);
    }

    #[test]
    fn answers_are_read_entry_by_entry() {
        let body = br#"{"FailedRecordCount":2,"EncryptionType":"KMS","Records":[
            {"SequenceNumber":"1","ShardId":"shardId-000000000003","ErrorCode":null},
            {"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate \"exceeded\""},
            {"ErrorCode":"InternalFailure","ErrorMessage":"x"}]}"#;
        assert_eq!(
            read_answer(body),
            Answer::Entries(vec![
                EntryAnswer::Accepted(ShardId(3)),
                EntryAnswer::Rejected(EntryError::Throttled),
                EntryAnswer::Rejected(EntryError::InternalFailure),
            ])
        );
    }

    #[test]
    fn what_says_nothing_certain_is_malformed() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"Records":[{}]}"#,
            r#"{"Records":[{"ShardId":"shardId-000000000000"}]}"#,
            r#"{"Records":[{"ShardId":"elsewhere","SequenceNumber":"1"}]}"#,
            r#"{"Records":[{"ShardId":"shardId-000000000000"}"#,
        ] {
            let Answer::Failed(error) = read_answer(body.as_bytes()) else { panic!("{body}") };
            assert_eq!(error.kind, RequestErrorKind::Malformed, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = read_answer(&body);
        }

        /// What the scan accepts, the parser reads the same way; usual answers are scanned.
        #[test]
        fn the_scan_agrees_with_the_parser(
            shards in prop::collection::vec(prop::option::of(0_u64..5_000), 1..50),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            pretty in any::<bool>(),
        ) {
            let entries: Vec<_> = shards.iter().map(|shard| match shard {
                Some(id) => serde_json::json!({"SequenceNumber": "49", "ShardId": ShardId(*id).to_string(), "ErrorCode": null}),
                None => serde_json::json!({"ErrorCode": "InternalFailure", "ErrorMessage": "Internal service failure."}),
            }).collect();
            let answer = serde_json::json!({"EncryptionType": "NONE", "FailedRecordCount": 3, "Records": entries});
            let mut body = if pretty { serde_json::to_vec_pretty(&answer) } else { serde_json::to_vec(&answer) }.unwrap();
            if let Some((at, with)) = damage {
                let at = at.index(body.len());
                body[at] = with;
            } else {
                prop_assert!(scan::entries(&body).is_some());
            }
            if let Some(scanned) = scan::entries(&body)
                && let Answer::Entries(parsed) = parse_answer(&body)
            {
                prop_assert_eq!(scanned, parsed);
            }
        }

        #[test]
        fn any_entry_survives_the_wire(data: Vec<u8>, key in ".{1,40}", hash: Option<u128>) {
            let mut writer = BodyWriter::new(&StreamRef::Name("s".into()));
            writer.entry(&data, key.as_bytes(), hash);
            let body: serde_json::Value = serde_json::from_slice(&writer.finish()).unwrap();
            let entry = &body["Records"][0];
            let sent = base64_simd::STANDARD.decode_to_vec(entry["Data"].as_str().unwrap()).unwrap();
            prop_assert_eq!(sent, data);
            prop_assert_eq!(entry["PartitionKey"].as_str().unwrap(), key);
            prop_assert_eq!(entry["ExplicitHashKey"].as_str().map(|h| h.parse::<u128>().unwrap()), hash);
        }
    }
}
