use crate::kinesis::{RequestError, RequestErrorKind};
use crate::load::Nanos;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Why requests of a run failed, as far as it was told: counts say how many and of what kind.
#[derive(Debug, Default)]
pub(super) struct Reasons(Mutex<HashMap<RequestErrorKind, (Nanos, String)>>);

impl Reasons {
    /// At most so often one of a kind is told.
    const PAUSE: Nanos = 60_000_000_000;

    /// Whether this is to be told: the first of its kind, or of another reason than the last of its kind that was told.
    /// What no retry mends ends the run, which tells it.
    pub(super) fn is_news(&self, error: &RequestError, now: Nanos) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.get(&error.kind);
        let known = known.is_some_and(|(at, text)| *text == error.text || now < at + Self::PAUSE);
        if known || error.kind == RequestErrorKind::Fatal {
            return false;
        }
        told.insert(error.kind, (now, error.text.clone()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_and_another_after_a_minute() {
        let reasons = Reasons::default();
        let is_news = |kind, text: &str, second: Nanos| {
            reasons.is_news(&RequestError { kind, text: text.to_owned() }, second * 1_000_000_000)
        };
        let (not_sent, cut) = (RequestErrorKind::NotSent, RequestErrorKind::ConnectionCut);
        assert!(is_news(not_sent, "refused", 0));
        assert!(!is_news(not_sent, "refused", 1));
        assert!(is_news(cut, "reset", 1), "of another kind");
        assert!(!is_news(not_sent, "no credentials", 59), "too soon");
        assert!(!is_news(not_sent, "refused", 3_600));
        assert!(is_news(not_sent, "no credentials", 3_600));
        assert!(is_news(not_sent, "refused", 3_660));
        assert!(!is_news(RequestErrorKind::Fatal, "no such stream", 3_660), "the run tells it");
    }
}
