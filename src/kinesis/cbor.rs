//! CBOR (RFC 8949), the other form in which Kinesis takes requests (`application/x-amz-cbor-1.1`): record
//! data goes as it is, without base64, so a quarter less is hashed and sent.

use super::{Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind, ShardId};
use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;
use std::borrow::Cow;

/// The content type of requests and answers.
pub(super) const CONTENT_TYPE: &str = "application/x-amz-cbor-1.1";

// Major types, in the upper three bits of an item's first byte.
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;

// What the lower five bits say of a length that does not fit there: how many bytes it has behind them.
const ONE_BYTE: u8 = 0x18;
const TWO_BYTES: u8 = 0x19;
const FOUR_BYTES: u8 = 0x1A;

/// Appends the head of an item: its major type and its length.
#[expect(clippy::cast_possible_truncation, reason = "each arm holds what fits")]
fn head(major: u8, len: usize, out: &mut Vec<u8>) {
    match len {
        0..24 => out.push(major | len as u8),
        24..0x100 => out.extend_from_slice(&[major | ONE_BYTE, len as u8]),
        0x100..0x1_0000 => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[major | TWO_BYTES, high, low]);
        }
        _ => {
            out.push(major | FOUR_BYTES);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Appends text, which is UTF-8.
pub(super) fn text(text: &[u8], out: &mut Vec<u8>) {
    head(TEXT, text.len(), out);
    out.extend_from_slice(text);
}

/// Appends the head of a map of so many members.
pub(super) fn map(members: usize, out: &mut Vec<u8>) {
    head(MAP, members, out);
}

/// Appends bytes.
pub(super) fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    head(BYTES, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends the head of an array whose length is not known yet; gives the place of that.
pub(super) fn begin_array(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[ARRAY | TWO_BYTES, 0, 0]);
    out.len() - 2
}

/// Fills in the length of an array of at most 65,535 items.
pub(super) fn end_array(out: &mut [u8], place: usize, items: usize) {
    let items = u16::try_from(items).unwrap_or(u16::MAX);
    out[place..place + 2].copy_from_slice(&items.to_be_bytes());
}

/// Reads the body of a successful answer to `PutRecords`.
pub(super) fn read_answer(body: &[u8]) -> Answer {
    match entries(body) {
        Ok(entries) => Answer::Entries(entries),
        Err(error) => Answer::Failed(RequestError {
            kind: RequestErrorKind::Malformed,
            text: format!("an answer that is no result of PutRecords: {error}"),
        }),
    }
}

fn entries(body: &[u8]) -> Result<Vec<EntryAnswer>, Error> {
    let mut decoder = Decoder::new(body);
    let mut found = None;
    members(&mut decoder, |name, decoder| {
        if name != "Records" {
            return decoder.skip();
        }
        // An entry is at least 10 bytes, whatever length the array claims to have.
        let mut entries = Vec::with_capacity(body.len() / 100 + 1);
        items(decoder.array()?, decoder, |decoder| {
            let at = decoder.position();
            if let Some((shard, rest)) = accepted(&body[at..]) {
                entries.push(EntryAnswer::Accepted(shard));
                decoder.set_position(body.len() - rest.len());
            } else {
                entries.push(entry(decoder)?);
            }
            Ok(())
        })?;
        found = Some(entries);
        Ok(())
    })?;
    if decoder.position() < body.len() {
        return Err(Error::message("there is more after it"));
    }
    found.ok_or_else(|| Error::message("it has no Records"))
}

/// An accepted entry of the usual form, without a look at each member, and what follows it: the decoder takes
/// six times as long.
fn accepted(entry: &[u8]) -> Option<(ShardId, &[u8])> {
    let (&open, rest) = entry.split_first()?;
    let rest = rest.strip_prefix(b"\x6ESequenceNumber")?;
    let (sequence_number, rest) = rest.split_first().and_then(|(&first, rest)| match first {
        0x60..=0x77 => rest.split_at_checked(usize::from(first - TEXT)),
        0x78 => rest.split_first().and_then(|(&len, rest)| rest.split_at_checked(usize::from(len))),
        _ => None,
    })?;
    let rest = rest.strip_prefix(b"\x67ShardId\x74shardId-")?;
    let (digits, rest) = rest.split_first_chunk::<12>()?;
    let id = digits
        .iter()
        .try_fold(0, |id, digit| digit.is_ascii_digit().then(|| id * 10 + u64::from(digit - b'0')))?;
    let rest = match open {
        0xA2 => rest,
        // Without a length: its end is marked.
        0xBF => rest.strip_prefix(b"\xFF")?,
        _ => return None,
    };
    sequence_number.is_ascii().then_some((ShardId(id), rest))
}

fn entry(decoder: &mut Decoder<'_>) -> Result<EntryAnswer, Error> {
    let (mut shard, mut error, mut sequenced) = (None, None, false);
    members(decoder, |name, decoder| {
        match name {
            "ShardId" => shard = optional_text(decoder)?.and_then(|id| ShardId::parse(&id)),
            "ErrorCode" => error = optional_text(decoder)?.map(|code| EntryError::from_code(&code)),
            "SequenceNumber" => sequenced = optional_text(decoder)?.is_some(),
            _ => decoder.skip()?,
        }
        Ok(())
    })?;
    match (error, shard) {
        (Some(error), _) => Ok(EntryAnswer::Rejected(error)),
        (None, Some(shard)) if sequenced => Ok(EntryAnswer::Accepted(shard)),
        (None, _) => Err(Error::message("an entry that was neither stored nor rejected")),
    }
}

/// What an error answer says: its code and its message, each if it is there.
pub(super) fn read_error(body: &[u8]) -> (Option<String>, Option<String>) {
    let (mut code, mut message) = (None, None);
    // What was read until something could not be is of use all the same.
    let _ = members(&mut Decoder::new(body), |name, decoder| {
        match name {
            "__type" | "code" => code = optional_text(decoder)?.map(|code| short(&code).to_owned()),
            "message" | "Message" => message = optional_text(decoder)?.map(Cow::into_owned),
            _ => decoder.skip()?,
        }
        Ok(())
    });
    (code, message)
}

/// The code without its namespace before and its address after it.
fn short(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code)
}

/// Goes through the members of a map.
fn members<'b>(
    decoder: &mut Decoder<'b>,
    mut member: impl FnMut(&str, &mut Decoder<'b>) -> Result<(), Error>,
) -> Result<(), Error> {
    items(decoder.map()?, decoder, |decoder| {
        let name = any_text(decoder)?;
        member(&name, decoder)
    })
}

/// Goes through so many items; without a number, until their end is marked.
fn items<'b>(
    count: Option<u64>,
    decoder: &mut Decoder<'b>,
    mut item: impl FnMut(&mut Decoder<'b>) -> Result<(), Error>,
) -> Result<(), Error> {
    if let Some(count) = count {
        return (0..count).try_for_each(|_| item(decoder));
    }
    while decoder.datatype()? != Type::Break {
        item(decoder)?;
    }
    decoder.set_position(decoder.position() + 1);
    Ok(())
}

fn optional_text<'b>(decoder: &mut Decoder<'b>) -> Result<Option<Cow<'b, str>>, Error> {
    match decoder.datatype()? {
        Type::Null | Type::Undefined => decoder.skip().map(|()| None),
        _ => any_text(decoder).map(Some),
    }
}

/// Text in one piece, or in several.
fn any_text<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, str>, Error> {
    match decoder.datatype()? {
        Type::StringIndef => decoder.str_iter()?.collect::<Result<String, _>>().map(Cow::Owned),
        _ => decoder.str().map(Cow::Borrowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_are_those_of_the_specification() {
        // RFC 8949, appendix A.
        for (len, expected) in [
            (0, &[0x40][..]),
            (23, &[0x57]),
            (24, &[0x58, 24]),
            (255, &[0x58, 255]),
            (256, &[0x59, 1, 0]),
            (65_535, &[0x59, 255, 255]),
            (65_536, &[0x5A, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            head(BYTES, len, &mut out);
            assert_eq!(out, expected, "{len}");
        }
    }

    /// As Java's Jackson writes it: maps, arrays and long texts without their lengths.
    #[test]
    fn items_without_a_length_are_read() {
        let body = [
            &b"\xBF\x71FailedRecordCount\x01\x67Records\x9F"[..],
            b"\xBF\x6ESequenceNumber\x7F\x6249\x6267\xFF\x67ShardId\x74shardId-000000000007\xFF",
            b"\xA3\x69ErrorCode\x6FInternalFailure\x6CErrorMessage\x61x\x67ShardId\xF6",
            b"\xFF\x6EEncryptionType\xF6\xFF",
        ]
        .concat();
        let expected =
            [EntryAnswer::Accepted(ShardId(7)), EntryAnswer::Rejected(EntryError::InternalFailure)];
        assert_eq!(read_answer(&body), Answer::Entries(expected.into()));
    }

    #[test]
    fn what_says_nothing_certain_is_malformed() {
        for body in [
            &b""[..],
            b"{}",
            b"\xA0",
            b"\xA1\x67Records\x81\xA0",
            // A shard and no sequence number.
            b"\xA1\x67Records\x81\xA1\x67ShardId\x74shardId-000000000007",
            // More after the end.
            b"\xA1\x67Records\x80\x00",
            // Breaks off.
            b"\xBF\x67Records\x9F",
        ] {
            let Answer::Failed(error) = read_answer(body) else { panic!("{body:?}") };
            assert_eq!(error.kind, RequestErrorKind::Malformed, "{body:?}");
        }
    }

    #[test]
    fn errors_are_read_as_far_as_they_go() {
        let body = b"\xA2\x66__type\x78\x24com.amazon#ResourceNotFoundException\x67message\x63no!";
        let (code, message) = (Some("ResourceNotFoundException".to_owned()), Some("no!".to_owned()));
        assert_eq!(read_error(body), (code.clone(), message));
        assert_eq!(read_error(&body[..50]), (code, None));
        assert_eq!(read_error(b"no"), (None, None));
    }

    proptest! {
        /// What is accepted at once, the decoder reads the same way; usual entries are.
        #[test]
        fn the_short_way_agrees_with_the_decoder(
            open: bool,
            len in 0_usize..60,
            id in 0_u64..1_000_000_000_000,
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut body = vec![if open { 0xBF } else { 0xA2 }];
            for (name, value) in [("SequenceNumber", "4".repeat(len)), ("ShardId", ShardId(id).to_string())] {
                text(name.as_bytes(), &mut body);
                text(value.as_bytes(), &mut body);
            }
            if open {
                body.push(0xFF);
            }
            if let Some((at, with)) = damage {
                let at = at.index(body.len());
                body[at] = with;
            } else {
                prop_assert!(accepted(&body).is_some());
            }
            if let Some((shard, rest)) = accepted(&body) {
                let mut decoder = Decoder::new(&body);
                prop_assert_eq!(entry(&mut decoder).ok(), Some(EntryAnswer::Accepted(shard)));
                prop_assert_eq!(decoder.position(), body.len() - rest.len());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = (read_answer(&body), read_error(&body));
        }
    }
}
