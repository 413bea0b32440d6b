//! The answers that come all the time, read without a parser: plain objects of plain strings.
//!
//! A scan reads the form that Kinesis writes and gives up on anything else (escapes, unknown nesting,
//! a broken end); [`super::protocol::read_answer`] then takes the general parser, which is five times as
//! slow and decides. So a scan can be strict rather than complete.

use super::{EntryAnswer, EntryError, ShardId};

/// Reads the entries of a `PutRecords` result; `None` if it is not of the usual form.
pub(super) fn entries(body: &[u8]) -> Option<Vec<EntryAnswer>> {
    let mut scan = Scan { rest: body };
    // An entry is at least 100 bytes.
    let mut entries = Vec::with_capacity(body.len() / 100 + 1);
    let mut seen = false;
    scan.expect(b'{')?;
    loop {
        let name = scan.string()?;
        scan.expect(b':')?;
        if name == b"Records" {
            seen = true;
            scan.records(&mut entries)?;
        } else {
            scan.value()?;
        }
        if !scan.more(b'}')? {
            break;
        }
    }
    scan.skip_space();
    (seen && scan.rest.is_empty()).then_some(entries)
}

struct Scan<'a> {
    rest: &'a [u8],
}

enum Scalar<'a> {
    Text(&'a [u8]),
    Null,
    Other,
}

/// An accepted entry just as Kinesis writes it, without a look at each member; and what follows it.
fn accepted(text: &[u8]) -> Option<(ShardId, &[u8])> {
    let text = text.strip_prefix(br#"{"SequenceNumber":""#)?;
    let (_, text) = text.split_at(memchr::memchr2(b'"', b'\\', text)?);
    let text = text.strip_prefix(br#"","ShardId":"shardId-"#)?;
    let (digits, text) = text.split_first_chunk::<12>()?;
    let mut id = 0;
    for digit in digits {
        id = id * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some((ShardId(id), text.strip_prefix(br#""}"#)?))
}

impl<'a> Scan<'a> {
    fn records(&mut self, entries: &mut Vec<EntryAnswer>) -> Option<()> {
        self.expect(b'[')?;
        loop {
            entries.push(self.entry()?);
            if !self.more(b']')? {
                return Some(());
            }
        }
    }

    fn entry(&mut self) -> Option<EntryAnswer> {
        if let Some((shard, rest)) = accepted(self.rest) {
            self.rest = rest;
            return Some(EntryAnswer::Accepted(shard));
        }
        let (mut shard, mut error, mut sequenced) = (None, None, false);
        self.expect(b'{')?;
        loop {
            let name = self.string()?;
            self.expect(b':')?;
            match (name, self.value()?) {
                (b"ShardId", Scalar::Text(text)) => {
                    shard = Some(ShardId::parse(std::str::from_utf8(text).ok()?)?);
                }
                (b"ErrorCode", Scalar::Text(text)) => {
                    error = Some(EntryError::from_code(std::str::from_utf8(text).ok()?));
                }
                (b"SequenceNumber", Scalar::Text(_)) => sequenced = true,
                (b"ShardId" | b"ErrorCode", Scalar::Other) => return None,
                _ => {}
            }
            if !self.more(b'}')? {
                break;
            }
        }
        match (error, shard) {
            (Some(error), _) => Some(EntryAnswer::Rejected(error)),
            (None, Some(shard)) if sequenced => Some(EntryAnswer::Accepted(shard)),
            (None, _) => None,
        }
    }

    /// A string, `null`, or a number or truth value that is passed over; objects and arrays are not of
    /// the usual form.
    fn value(&mut self) -> Option<Scalar<'a>> {
        self.skip_space();
        match self.rest.first()? {
            b'"' => self.string().map(Scalar::Text),
            b'n' => {
                self.rest = self.rest.strip_prefix(b"null")?;
                Some(Scalar::Null)
            }
            b'0'..=b'9' | b'-' | b't' | b'f' => {
                let end =
                    self.rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'.' | b'-'))?;
                self.rest = &self.rest[end..];
                Some(Scalar::Other)
            }
            _ => None,
        }
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let end = memchr::memchr2(b'"', b'\\', self.rest)?;
        if self.rest[end] == b'\\' {
            return None;
        }
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(text)
    }

    /// Whether another member follows, rather than the end.
    fn more(&mut self, end: u8) -> Option<bool> {
        self.skip_space();
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b',' => Some(true),
            b if b == end => Some(false),
            _ => None,
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (first == byte).then_some(())
    }

    fn skip_space(&mut self) {
        while let Some((b' ' | b'\n' | b'\r' | b'\t', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }
}
