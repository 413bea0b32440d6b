use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Records per second, exact to a thousandth.
///
/// Held in thousandths so that a schedule is integer arithmetic: a day at 5,000/s is exactly
/// 432,000,000 records, without drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// The highest rate that a schedule computes without overflow, in records per second.
    pub const MAX_PER_SECOND: u64 = 10_000_000;

    /// A rate of `thousandths` / 1000 records per second; `None` for zero or more than the maximum.
    #[must_use]
    pub fn from_thousandths(thousandths: u64) -> Option<Self> {
        if thousandths > Self::MAX_PER_SECOND * 1000 {
            return None;
        }
        NonZeroU64::new(thousandths).map(Self)
    }

    /// Thousandths of a record per second.
    #[must_use]
    pub fn thousandths(self) -> u64 {
        self.0.get()
    }

    /// Records per second, to be shown.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0.get() as f64 / 1000.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_second())
    }
}

/// Why a text is not a rate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseRateError {
    /// Not a plain decimal number.
    #[error("not a number of records per second, such as 5000 or 0.5")]
    NotANumber,
    /// More than three decimal places.
    #[error("finer than a thousandth of a record per second")]
    TooFine,
    /// Zero, or over [`Rate::MAX_PER_SECOND`].
    #[error("outside 0.001 to {} records per second", Rate::MAX_PER_SECOND)]
    OutOfRange,
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(ParseRateError::NotANumber);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 3 {
            return Err(ParseRateError::TooFine);
        }
        format!("{whole}{fraction:0<3}")
            .parse()
            .ok()
            .and_then(Self::from_thousandths)
            .ok_or(ParseRateError::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_and_fractional_rates() {
        assert_eq!("5000".parse::<Rate>().unwrap().thousandths(), 5_000_000);
        assert_eq!("0.5".parse::<Rate>().unwrap().thousandths(), 500);
        assert_eq!("1.2500".parse::<Rate>().unwrap().thousandths(), 1250);
    }

    #[test]
    fn refuses_what_is_no_rate() {
        use ParseRateError::{NotANumber, OutOfRange, TooFine};
        for (text, error) in [
            ("", NotANumber),
            ("-5", NotANumber),
            ("1e3", NotANumber),
            ("5.", NotANumber),
            ("0.0001", TooFine),
            ("0", OutOfRange),
            ("10000001", OutOfRange),
            ("99999999999999999999999", OutOfRange),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
    }
}
