//! Records that come from a file rather than from a schedule.

use super::Engine;
use crate::kinesis::{RequestError, RequestErrorKind};
use crate::load::{MILLISECOND, Nanos};
use crate::producer::Record;
use crate::tick::{Fed, Feed};

/// A feed, and what it gave that is not due yet.
#[derive(Debug)]
pub(super) struct Feeding {
    feed: Box<dyn Feed>,
    next: Option<Fed>,
    // Records of the last turn that there was no room to keep.
    unkept: u64,
}

/// How soon a feed that had nothing is asked again.
const AGAIN: Nanos = MILLISECOND;

impl Feeding {
    pub(super) fn new(feed: Box<dyn Feed>) -> Self {
        Self { feed, next: None, unkept: 0 }
    }
}

impl Engine {
    /// Takes the records that are due by `now` from the feed.
    pub(super) fn read_feed(&mut self, now: Nanos) {
        let Some(feeding) = &mut self.feeding else { return };
        feeding.unkept = 0;
        let at = self.pacer.pauses().schedule_time(now);
        while self.pacer.ended().is_none() {
            match feeding.next.take().unwrap_or_else(|| feeding.feed.next()) {
                Fed::Record(record) if record.at <= at => {
                    self.pacer.arrive(record.at);
                    // Once one had no room none after it has, so that the dropped ones are the last.
                    if feeding.unkept > 0 {
                        self.source.pass_over();
                    }
                    let kept = feeding.unkept == 0 && self.source.keep(record);
                    feeding.unkept += u64::from(!kept);
                }
                Fed::End(span) => {
                    self.pacer.arrived_all(span);
                    feeding.next = Some(Fed::End(span));
                    return;
                }
                Fed::Failed(text) => {
                    self.fatal.get_or_insert(RequestError { kind: RequestErrorKind::Fatal, text });
                    self.pacer.stop(now);
                    return;
                }
                later => {
                    feeding.next = Some(later).filter(|later| *later != Fed::NotYet);
                    return;
                }
            }
        }
    }

    /// How many of the last due records could not be kept.
    pub(super) fn unkept(&self) -> u64 {
        self.feeding.as_ref().map_or(0, |feeding| feeding.unkept)
    }

    /// When the feed may have a record that is due.
    pub(super) fn next_fed(&self, now: Nanos) -> Option<Nanos> {
        let feeding = self.feeding.as_ref().filter(|_| self.pacer.ended().is_none())?;
        let pauses = self.pacer.pauses();
        match &feeding.next {
            _ if pauses.is_paused() => None,
            Some(Fed::Record(record)) => pauses.run_time(record.at),
            Some(Fed::End(_)) => None,
            _ => Some(now + AGAIN),
        }
    }

    /// Forgets what was kept of settled records.
    pub(super) fn forget(&mut self, records: &[Record]) {
        if self.feeding.is_some() {
            for record in records {
                self.source.forget(record.n);
            }
        }
    }
}
