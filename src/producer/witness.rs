use crate::load::Nanos;
use std::fmt;

/// Is told which records the stream said it stored, so that someone can look whether it did.
pub trait Witness: fmt::Debug + Send {
    /// The numbers of records that an answer acked. `sent`: when their attempt began; `acked`: when
    /// the answer came.
    fn acked(&mut self, numbers: Vec<u64>, sent: Nanos, acked: Nanos);
}
