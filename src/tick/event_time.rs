use crate::load::{Nanos, SECOND};
use chrono::{DateTime, Datelike, Local, NaiveDateTime, Timelike};

/// The zone in which `EVENT_TIME` is written. It carries no offset: the article's `isoformat()` of a
/// naive `datetime` has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeZone {
    /// Coordinated universal time.
    Utc,
    /// The zone of the machine (`TZ`), daylight saving included.
    Local,
}

/// Writes intended starts as Python's `datetime.isoformat()`: `2026-11-22T18:54:00.123456`, in whole
/// microseconds, without the fraction when that is zero.
#[derive(Clone, Debug)]
pub struct EventTime {
    start_unix: Nanos,
    zone: TimeZone,
    // The last text and the microsecond it is of, as records that are made together have the same; and the
    // second up to which it is right: the calendar is worked out once a second.
    micros: u64,
    second: u64,
    text: [u8; EventTime::PADDED],
}

const PREFIX: usize = "2026-11-22T18:54:00".len();

impl EventTime {
    /// The longest text, in bytes.
    pub const MAX_LEN: usize = PREFIX + ".123456".len();

    /// [`EventTime::MAX_LEN`] rounded up to what is copied in one piece.
    pub(super) const PADDED: usize = 32;

    /// Times of a run that began `start_unix` nanoseconds after 1970-01-01 UTC.
    #[must_use]
    pub fn new(start_unix: Nanos, zone: TimeZone) -> Self {
        let mut time = Self { start_unix, zone, micros: u64::MAX, second: u64::MAX, text: [0; Self::PADDED] };
        time.enter(start_unix / 1000);
        time
    }

    pub(super) fn starts_at(&mut self, start_unix: Nanos) {
        *self = Self::new(start_unix, self.zone);
    }

    /// The intended start in nanoseconds since 1970-01-01 UTC.
    pub(super) fn unix(&self, intended: Nanos) -> Nanos {
        self.start_unix.saturating_add(intended)
    }

    /// The length of the text for a record meant to start at `intended`, in bytes.
    #[must_use]
    pub fn len(&self, intended: Nanos) -> usize {
        let micros = self.unix(intended) % SECOND / 1000;
        if micros == 0 { PREFIX } else { Self::MAX_LEN }
    }

    /// Appends the text for a record meant to start at `intended`.
    pub fn write(&mut self, intended: Nanos, out: &mut Vec<u8>) {
        let (text, len) = self.text(intended);
        out.extend_from_slice(&text[..len]);
    }

    /// The text for a record meant to start at `intended`, with what comes after it, and its length.
    #[inline]
    pub(super) fn text(&mut self, intended: Nanos) -> (&[u8; Self::PADDED], usize) {
        let micros = self.unix(intended) / 1000;
        if micros != self.micros {
            self.enter(micros);
        }
        (&self.text, if micros.is_multiple_of(1_000_000) { PREFIX } else { Self::MAX_LEN })
    }

    fn enter(&mut self, micros: u64) {
        self.micros = micros;
        if self.second != micros / 1_000_000 {
            self.enter_second(micros / 1_000_000);
        }
        self.text[PREFIX] = b'.';
        write_decimal(&mut self.text[PREFIX + 1..Self::MAX_LEN], micros % 1_000_000);
    }

    fn enter_second(&mut self, second: u64) {
        self.second = second;
        let utc = i64::try_from(second)
            .ok()
            .and_then(|s| DateTime::from_timestamp(s, 0))
            .unwrap_or(DateTime::UNIX_EPOCH);
        let time: NaiveDateTime = match self.zone {
            TimeZone::Utc => utc.naive_utc(),
            TimeZone::Local => utc.with_timezone(&Local).naive_local(),
        };
        self.text[..PREFIX].copy_from_slice(b"0000-00-00T00:00:00");
        let year = u64::try_from(time.year()).unwrap_or(0).min(9999);
        write_decimal(&mut self.text[..4], year);
        for (at, value) in
            [(5, time.month()), (8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())]
        {
            write_decimal(&mut self.text[at..at + 2], u64::from(value));
        }
    }
}

/// Writes the low decimal digits of `value` over all of `out`.
#[allow(clippy::cast_possible_truncation)] // a digit is below 10
pub(super) fn write_decimal(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(time: &mut EventTime, intended: Nanos) -> String {
        let mut out = Vec::new();
        time.write(intended, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_isoformat() {
        // 2026-11-22T18:54:00Z
        let mut time = EventTime::new(1_795_373_640 * SECOND, TimeZone::Utc);
        assert_eq!(text(&mut time, 123_456_789), "2026-11-22T18:54:00.123456");
        assert_eq!(text(&mut time, 0), "2026-11-22T18:54:00");
        assert_eq!(text(&mut time, 999), "2026-11-22T18:54:00");
        assert_eq!(text(&mut time, 61 * SECOND + 1000), "2026-11-22T18:55:01.000001");
    }

    proptest! {
        /// The same text as chrono's formatter, and `len` tells its length, in any order of times.
        #[test]
        fn agrees_with_chrono(starts in prop::collection::vec(0_u64..4_000_000_000 * SECOND, 1..20)) {
            let mut time = EventTime::new(SECOND, TimeZone::Utc);
            for intended in starts {
                let unix = SECOND + intended;
                let expected = DateTime::from_timestamp_nanos(i64::try_from(unix).unwrap()).naive_utc();
                let micros = unix % SECOND / 1000;
                let format = if micros == 0 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
                let written = text(&mut time, intended);
                prop_assert_eq!(written.len(), time.len(intended));
                prop_assert_eq!(written, expected.format(format).to_string());
            }
        }
    }
}
