use super::OWN_KEY_ROOM;
use super::hex::{halves, hex};
use crate::kinesis::md5::{LANES, ShortMessages};
use crate::load::Nanos;
use crate::vectors::Wide;
use memchr::memmem;
use serde::{Deserialize, Serialize};

/// What a record says of itself, so that a reader can settle it: which run made it, which of the run's
/// loads, its number there, and when it was meant to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run.
    pub run: u32,
    /// The place of its load among the run's, from 0.
    pub load: u8,
    /// Its number in the load; 48 bits of it are written.
    pub n: u64,
    /// Its intended start in nanoseconds since 1970-01-01 UTC.
    pub start_unix: Nanos,
}

/// Where a record carries its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampPlace {
    /// Nowhere.
    None,
    /// It is the partition key.
    Key,
    /// In a last field of the payload, `"STAMP"`.
    Body,
}

const DIGITS: [usize; 4] = [8, 2, 12, 16];

const FIELD: &[u8] = b", \"STAMP\": \"";
const FIELD_END: &[u8] = b"\"}";

impl Stamp {
    /// The length of its text: `RRRRRRRR-LL-NNNNNNNNNNNN-TTTTTTTTTTTTTTTT` in hexadecimal digits. With its
    /// padding it is one block of MD5.
    pub const LEN: usize = 41;

    /// The field of a payload that holds it.
    pub const FIELD: &'static str = "STAMP";

    /// The bytes that it adds to a payload.
    pub const FIELD_LEN: usize = FIELD.len() + Self::LEN + FIELD_END.len() - 1;

    /// Its text.
    #[must_use]
    #[inline]
    pub fn text(&self) -> [u8; Self::LEN] {
        let mut text = [0; Self::LEN];
        let words = self.words();
        let (whole, last) = text.as_chunks_mut::<4>();
        for (bytes, word) in whole.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        last.copy_from_slice(&words[Self::LEN / 4].to_le_bytes()[..Self::LEN % 4]);
        text
    }

    /// Its text, four bytes to a word, the first of them its lowest; past its end zeros.
    #[inline(always)]
    fn words(&self) -> [u32; 14] {
        const DASH: u32 = b'-' as u32;
        let [run, rest_of_run] = halves(hex(u64::from(self.run)));
        // The last two and the last four of eight digits.
        let load = halves(hex(u64::from(self.load)))[1] >> 16;
        let high = halves(hex(self.n >> 32 & 0xFFFF))[1];
        let [middle, low] = halves(hex(self.n & 0xFFFF_FFFF));
        // From here on the text is a byte off the words.
        let (first, second) = (hex(self.start_unix >> 32), hex(self.start_unix & 0xFFFF_FFFF));
        let ([a, b], [c, d]) = (halves(first), halves(second));
        [
            run,
            rest_of_run,
            DASH | load << 8 | DASH << 24,
            high,
            middle,
            low,
            DASH | a << 8,
            a >> 24 | b << 8,
            b >> 24 | c << 8,
            c >> 24 | d << 8,
            d >> 24,
            0,
            0,
            0,
        ]
    }

    /// Reads a text; `None` if it is no stamp.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.first_chunk::<{ Self::LEN }>().filter(|_| text.len() == Self::LEN)?;
        let mut values = [0; 4];
        let mut at = 0;
        for (value, digits) in values.iter_mut().zip(DIGITS) {
            if at > 0 && text[at - 1] != b'-' {
                return None;
            }
            for byte in &text[at..at + digits] {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    _ => return None,
                };
                *value = *value << 4 | u64::from(digit);
            }
            at += digits + 1;
        }
        let [run, load, n, start_unix] = values;
        Some(Self { run: u32::try_from(run).ok()?, load: u8::try_from(load).ok()?, n, start_unix })
    }

    /// The stamp in a payload's last field; `None` if there is none.
    #[must_use]
    pub fn in_payload(payload: &[u8]) -> Option<Self> {
        let at = memmem::rfind(payload, FIELD)? + FIELD.len();
        Self::parse(payload.get(at..at + Self::LEN)?)
    }

    /// Puts it into a payload that is a JSON object with a field.
    pub(super) fn append_to(&self, payload: &mut Vec<u8>) {
        payload.pop();
        payload.extend_from_slice(FIELD);
        payload.extend_from_slice(&self.text());
        payload.extend_from_slice(FIELD_END);
    }
}

/// Makes the stamps of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamper {
    pub(super) run: u32,
    pub(super) load: u8,
    pub(super) start_unix: Nanos,
}

/// The stamps of several records, each a number and an intended start.
pub(super) struct Stamps {
    pub(super) stamper: Stamper,
    pub(super) records: [(u64, Nanos); LANES],
}

impl Wide for Stamps {
    type Result = [[u8; OWN_KEY_ROOM]; LANES];

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Wide`")]
    fn compute(&self, texts: &mut Self::Result) {
        for (lane, text) in texts.iter_mut().enumerate() {
            let words = self.words(lane);
            for (bytes, word) in text.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes();
            }
        }
    }
}

impl ShortMessages for Stamps {
    const LEN: usize = Stamp::LEN;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `ShortMessages`")]
    fn words(&self, lane: usize) -> [u32; 14] {
        let (n, intended) = self.records[lane];
        self.stamper.stamp(n, intended).words()
    }
}

impl Stamper {
    #[inline]
    pub(super) fn stamp(&self, n: u64, intended: Nanos) -> Stamp {
        let start_unix = self.start_unix.saturating_add(intended);
        Stamp { run: self.run, load: self.load, n, start_unix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_is_text_of_one_form() {
        let stamp = Stamp { run: 0xA5, load: 1, n: 258, start_unix: 1_795_373_640_000_000_000 };
        assert_eq!(&stamp.text(), b"000000a5-01-000000000102-18ea72d0334cd000");
    }

    #[test]
    fn what_is_no_stamp_is_told() {
        let stamp = Stamp { run: 7, load: 0, n: 1, start_unix: 2 }.text();
        for bad in [&b""[..], b"partitionkey", &stamp[..40], &[&stamp[..], b"0"].concat()] {
            assert_eq!(Stamp::parse(bad), None);
        }
        for at in [0, 8, 40] {
            let mut bad = stamp;
            bad[at] = b'g';
            assert_eq!(Stamp::parse(&bad), None);
        }
        assert_eq!(Stamp::in_payload(b"{\"STAMP\": 1}"), None);
    }

    proptest! {
        #[test]
        fn stamps_read_back(run: u32, load: u8, n in 0_u64..1 << 48, start_unix: u64) {
            let stamp = Stamp { run, load, n, start_unix };
            prop_assert_eq!(Stamp::parse(&stamp.text()), Some(stamp));
            let mut payload = b"{\"PRICE\": 4.2}".to_vec();
            let len = payload.len();
            stamp.append_to(&mut payload);
            prop_assert_eq!(payload.len(), len + Stamp::FIELD_LEN);
            prop_assert_eq!(Stamp::in_payload(&payload), Some(stamp));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        }
    }
}
