use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How much is kept at most, by all engines of a run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records that are made and not settled: waiting, or in flight and perhaps to come back.
    pub backlog: u64,
    /// Requests that wait for their answer.
    pub requests: usize,
    /// Bytes of request bodies that wait for their answer.
    pub bytes: usize,
}

/// The room that the engines of a run share, and what of it is taken.
#[derive(Debug)]
pub struct Room {
    bounds: Bounds,
    records: AtomicU64,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Room {
    /// Empty room of these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, records: AtomicU64::new(0), requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether all of it has been given back.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let taken = self.records.load(Ordering::Relaxed) + self.requests.load(Ordering::Relaxed) as u64;
        taken + self.bytes.load(Ordering::Relaxed) as u64 == 0
    }

    /// Takes room for up to `wanted` records; returns for how many there was.
    pub(super) fn take_records(&self, wanted: u64) -> u64 {
        let mut taken = 0;
        // The closure always gives a value, so the update cannot fail.
        let _ = self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |records| {
            taken = wanted.min(self.bounds.backlog.saturating_sub(records));
            Some(records + taken)
        });
        taken
    }

    /// Gives back the room of settled records.
    pub(super) fn return_records(&self, records: u64) {
        self.records.fetch_sub(records, Ordering::Relaxed);
    }

    /// Whether a request of about `bytes` may be sent. One may always be, however large.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        requests == 0
            || requests < self.bounds.requests
                && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.bounds.bytes
    }

    /// Takes room for a request, if there is any. Engines on other threads may take it meanwhile, so
    /// the count of requests decides.
    pub(super) fn take_request(&self, bytes: usize) -> bool {
        let taken = self.fits(bytes)
            && self
                .requests
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |requests| {
                    (requests < self.bounds.requests).then_some(requests + 1)
                })
                .is_ok();
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Gives back the room of a request.
    pub(super) fn return_request(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        Room::new(Bounds { backlog: 10, requests: 2, bytes: 100 })
    }

    #[test]
    fn records_are_bounded_over_all_engines() {
        let room = room();
        assert_eq!((room.take_records(7), room.take_records(7), room.take_records(1)), (7, 3, 0));
        room.return_records(4);
        assert_eq!(room.take_records(9), 4);
    }

    #[test]
    fn requests_are_bounded_by_number_and_bytes() {
        let room = room();
        assert!(room.take_request(1_000) && !room.take_request(1));
        room.return_request(1_000);
        assert!(room.take_request(60) && !room.take_request(60) && room.take_request(40));
        assert!(!room.take_request(0));
        room.return_request(60);
        assert!(room.take_request(60));
    }

    #[test]
    fn threads_do_not_take_more_than_there_is() {
        let room = Room::new(Bounds { backlog: 1_000, requests: 64, bytes: usize::MAX });
        let (records, requests) = std::thread::scope(|scope| {
            let take = || {
                let records: u64 = (0..1_000).map(|_| room.take_records(3)).sum();
                (records, (0..1_000).filter(|_| room.take_request(1)).count())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        });
        assert_eq!((records, requests), (1_000, 64));
    }
}
