//! The wire forms of `PutRecords`: request bodies written once, straight from the records, and answers read
//! without the SDK's structure per entry.

use super::{Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind, ShardId, base64, cbor, scan};
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write as _;
use std::str::FromStr;

/// The form of requests and answers on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// awsJson1.1, with record data in base64.
    #[default]
    Json,
    /// The same structures in CBOR, with record data as it is.
    Cbor,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "cbor" => Ok(Self::Cbor),
            _ => Err("expected json or cbor".to_owned()),
        }
    }
}

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
#[derive(Clone, Debug)]
pub struct BodyWriter {
    form: Form,
    end: Vec<u8>,
    body: Vec<u8>,
    entries: usize,
    // In CBOR: where their number is to stand.
    count_at: usize,
}

const BEGIN: &[u8] = br#"{"Records":["#;
const DATA: &[u8] = br#"{"Data":""#;
const KEY: &[u8] = br#"","PartitionKey":""#;
const HASH_KEY: &[u8] = br#"","ExplicitHashKey":""#;
const END_ENTRY: &[u8] = br#""}"#;

impl BodyWriter {
    /// A writer of requests to `stream`.
    #[must_use]
    pub fn new(stream: &StreamRef, form: Form) -> Self {
        let field = match stream {
            StreamRef::Name(_) => "StreamName",
            StreamRef::Arn(_) => "StreamARN",
        };
        let end = match form {
            Form::Json => {
                let name = serde_json::Value::from(stream.as_str());
                format!(r#"],"{field}":{name}}}"#).into_bytes()
            }
            Form::Cbor => {
                let mut end = Vec::new();
                cbor::text(field.as_bytes(), &mut end);
                cbor::text(stream.as_str().as_bytes(), &mut end);
                end
            }
        };
        Self { form, end, body: Vec::new(), entries: 0, count_at: 0 }
    }

    /// Appends one entry. `key` is UTF-8.
    pub fn entry(&mut self, data: &[u8], key: &[u8], explicit_hash_key: Option<u128>) {
        if self.entries == 0 {
            self.begin();
        }
        match self.form {
            Form::Json => self.json_entry(data, key, explicit_hash_key),
            Form::Cbor => self.cbor_entry(data, key, explicit_hash_key),
        }
        self.entries += 1;
    }

    fn begin(&mut self) {
        match self.form {
            Form::Json => self.body.extend_from_slice(BEGIN),
            Form::Cbor => {
                cbor::map(2, &mut self.body);
                cbor::text(b"Records", &mut self.body);
                self.count_at = cbor::begin_array(&mut self.body);
            }
        }
    }

    fn json_entry(&mut self, data: &[u8], key: &[u8], explicit_hash_key: Option<u128>) {
        if self.entries > 0 {
            self.body.push(b',');
        }
        self.body.extend_from_slice(DATA);
        base64::append(data, &mut self.body);
        self.body.extend_from_slice(KEY);
        self.json_text(key);
        if let Some(hash_key) = explicit_hash_key {
            self.body.extend_from_slice(HASH_KEY);
            // Writing to a Vec cannot fail.
            let _ = write!(self.body, "{hash_key}");
        }
        self.body.extend_from_slice(END_ENTRY);
    }

    fn cbor_entry(&mut self, data: &[u8], key: &[u8], explicit_hash_key: Option<u128>) {
        let out = &mut self.body;
        cbor::map(if explicit_hash_key.is_some() { 3 } else { 2 }, out);
        cbor::text(b"Data", out);
        cbor::bytes(data, out);
        cbor::text(b"PartitionKey", out);
        cbor::text(key, out);
        if let Some(hash_key) = explicit_hash_key {
            cbor::text(b"ExplicitHashKey", out);
            cbor::text(hash_key.to_string().as_bytes(), out);
        }
    }

    /// Makes room for a body of about `bytes`.
    pub fn reserve(&mut self, bytes: usize) {
        // An eighth more than that: a vector that lacks a few bytes would double, and each body in flight keeps its own.
        if self.body.capacity() - self.body.len() < bytes {
            self.body.reserve_exact(bytes + bytes / 8);
        }
    }

    /// The finished body; the next is written into `next`, which is empty.
    pub fn finish(&mut self, next: Vec<u8>) -> Bytes {
        if self.entries == 0 {
            self.begin();
        }
        if self.form == Form::Cbor {
            cbor::end_array(&mut self.body, self.count_at, self.entries);
        }
        self.entries = 0;
        self.body.extend_from_slice(&self.end);
        Bytes::from(std::mem::replace(&mut self.body, next))
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
pub fn read_answer(body: &[u8], form: Form) -> Answer {
    match form {
        Form::Json => scan::entries(body).map_or_else(|| parse_answer(body), Answer::Entries),
        Form::Cbor => cbor::read_answer(body),
    }
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
        let mut writer = BodyWriter::new(&StreamRef::parse("ticks"), Form::Json);
        writer.entry(b"hello", b"key-1", None);
        writer.entry(b"", b"quo\"te", Some(u128::MAX));
        let body: serde_json::Value = serde_json::from_slice(&writer.finish(Vec::new())).unwrap();
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
        let next: serde_json::Value = serde_json::from_slice(&writer.finish(Vec::new())).unwrap();
        assert_eq!(next["Records"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn arns_are_named_as_arns() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/ticks";
        let body = BodyWriter::new(&StreamRef::parse(arn), Form::Json).finish(Vec::new());
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["StreamARN"], arn);
    }

    /// The same members in CBOR, as a general reader of it finds them.
    #[test]
    fn cbor_bodies_have_the_same_members() {
        let mut writer = BodyWriter::new(&StreamRef::parse("ticks"), Form::Cbor);
        for entries in [3, 500, 0] {
            for n in 0..entries {
                writer.entry(&[0xFF; 300], b"quo\"te", (n == 1).then_some(u128::MAX));
            }
            let body = writer.finish(Vec::new());
            let mut read = minicbor::Decoder::new(&body);
            assert_eq!((read.map().unwrap(), read.str().unwrap()), (Some(2), "Records"));
            assert_eq!(read.array().unwrap(), Some(entries));
            for n in 0..entries {
                assert_eq!(read.map().unwrap(), Some(if n == 1 { 3 } else { 2 }));
                assert_eq!((read.str().unwrap(), read.bytes().unwrap()), ("Data", &[0xFF; 300][..]));
                assert_eq!((read.str().unwrap(), read.str().unwrap()), ("PartitionKey", "quo\"te"));
                if n == 1 {
                    let expected = ("ExplicitHashKey", "340282366920938463463374607431768211455");
                    assert_eq!((read.str().unwrap(), read.str().unwrap()), expected);
                }
            }
            assert_eq!((read.str().unwrap(), read.str().unwrap()), ("StreamName", "ticks"));
            assert_eq!(read.position(), body.len());
        }
    }

    #[test]
    fn answers_are_read_entry_by_entry() {
        let body = br#"{"FailedRecordCount":2,"EncryptionType":"KMS","Records":[
            {"SequenceNumber":"1","ShardId":"shardId-000000000003","ErrorCode":null},
            {"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate \"exceeded\""},
            {"ErrorCode":"InternalFailure","ErrorMessage":"x"}]}"#;
        assert_eq!(
            read_answer(body, Form::Json),
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
            let Answer::Failed(error) = read_answer(body.as_bytes(), Form::Json) else { panic!("{body}") };
            assert_eq!(error.kind, RequestErrorKind::Malformed, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = read_answer(&body, Form::Json);
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
            let mut writer = BodyWriter::new(&StreamRef::Name("s".into()), Form::Json);
            writer.entry(&data, key.as_bytes(), hash);
            let body: serde_json::Value = serde_json::from_slice(&writer.finish(Vec::new())).unwrap();
            let entry = &body["Records"][0];
            let sent = base64_simd::STANDARD.decode_to_vec(entry["Data"].as_str().unwrap()).unwrap();
            prop_assert_eq!(sent, data);
            prop_assert_eq!(entry["PartitionKey"].as_str().unwrap(), key);
            prop_assert_eq!(entry["ExplicitHashKey"].as_str().map(|h| h.parse::<u128>().unwrap()), hash);
        }
    }
}
