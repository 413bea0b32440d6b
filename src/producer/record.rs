use super::Cause;
use crate::load::Nanos;

/// A user record on its way: everything but its bytes, which are made from its number when it is
/// sent. A record that waits costs 32 bytes, whatever its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in the run.
    pub n: u64,
    /// When it was meant to start.
    pub intended: Nanos,
    /// How long after that it was made, in microseconds: the schedule lag.
    pub lag_micros: u32,
    /// The length of its payload in bytes.
    pub payload_len: u32,
    /// The length of its partition key in bytes.
    pub key_len: u16,
    /// How often it was sent.
    pub attempts: u16,
    /// Why its last attempt failed.
    pub last_failure: Option<Cause>,
    /// An attempt ended without an answer that says what became of it.
    pub fate_open: bool,
    /// It was sent again although its fate was open.
    pub possible_duplicate: bool,
}

impl Record {
    /// A record that was not sent yet.
    #[must_use]
    pub fn new(n: u64, intended: Nanos, payload_len: usize, key_len: usize) -> Self {
        Self {
            n,
            intended,
            lag_micros: 0,
            payload_len: u32::try_from(payload_len).unwrap_or(u32::MAX),
            key_len: u16::try_from(key_len).unwrap_or(u16::MAX),
            attempts: 0,
            last_failure: None,
            fate_open: false,
            possible_duplicate: false,
        }
    }

    /// The same record, made at `now`.
    #[must_use]
    pub fn made_at(self, now: Nanos) -> Self {
        let lag = now.saturating_sub(self.intended) / 1000;
        Self { lag_micros: u32::try_from(lag).unwrap_or(u32::MAX), ..self }
    }

    /// When it was made, to the microsecond below.
    #[must_use]
    pub fn made(&self) -> Nanos {
        self.intended + Nanos::from(self.lag_micros) * 1000
    }

    /// Its size as Kinesis counts it: data plus partition key, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload_len as usize + self.key_len as usize
    }
}
