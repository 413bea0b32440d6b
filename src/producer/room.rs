use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

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
    most_records: AtomicU64,
    most_requests: AtomicUsize,
    most_bytes: AtomicUsize,
    records: AtomicU64,
    requests: AtomicUsize,
    bytes: AtomicUsize,
    members: AtomicUsize,
    // Who waits to send, in the order of asking: without it an engine that was just answered would take
    // its room again before those that wait wake up.
    queue: Mutex<VecDeque<Member>>,
    queued: AtomicUsize,
}

/// An engine, to the room that it shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member(usize);

impl Room {
    /// Empty room of these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            most_records: AtomicU64::new(bounds.backlog),
            most_requests: AtomicUsize::new(bounds.requests),
            most_bytes: AtomicUsize::new(bounds.bytes),
            records: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            queue: Mutex::default(),
            queued: AtomicUsize::new(0),
        }
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            backlog: self.most_records.load(Ordering::Relaxed),
            requests: self.most_requests.load(Ordering::Relaxed),
            bytes: self.most_bytes.load(Ordering::Relaxed),
        }
    }

    /// From now on there is so much room; what takes more is not taken away.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.most_records.store(bounds.backlog, Ordering::Relaxed);
        self.most_requests.store(bounds.requests, Ordering::Relaxed);
        self.most_bytes.store(bounds.bytes, Ordering::Relaxed);
    }

    /// Whether all of it has been given back.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let taken = self.records.load(Ordering::Relaxed) + self.requests.load(Ordering::Relaxed) as u64;
        taken + self.bytes.load(Ordering::Relaxed) as u64 == 0
    }

    /// A new engine.
    pub(super) fn join(&self) -> Member {
        Member(self.members.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether an engine waits to send.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.queued.load(Ordering::Acquire) > 0
    }

    /// Puts an engine in the queue, if it is not there.
    pub(super) fn queue(&self, member: Member) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.contains(&member) {
            queue.push_back(member);
        }
        self.queued.store(queue.len(), Ordering::Release);
    }

    /// Takes an engine that has nothing to send out of the queue.
    pub(super) fn leave_queue(&self, member: Member) {
        if self.is_waited_for() {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.retain(|one| *one != member);
            self.queued.store(queue.len(), Ordering::Release);
        }
    }

    /// Whether nobody waits, or this engine first of all.
    fn is_turn_of(&self, member: Member) -> bool {
        !self.is_waited_for()
            || self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .front()
                .is_none_or(|one| *one == member)
    }

    /// Takes room for up to `wanted` records; returns for how many there was.
    pub(super) fn take_records(&self, wanted: u64) -> u64 {
        let (mut taken, most) = (0, self.bounds().backlog);
        // The closure always gives a value, so the update cannot fail.
        let _ = self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |records| {
            taken = wanted.min(most.saturating_sub(records));
            Some(records + taken)
        });
        taken
    }

    /// Gives back the room of settled records.
    pub(super) fn return_records(&self, records: u64) {
        self.records.fetch_sub(records, Ordering::Relaxed);
    }

    /// Whether a request of about `bytes` may be sent. One may always be, however large.
    pub(super) fn fits(&self, bytes: usize, member: Member) -> bool {
        self.is_turn_of(member) && self.has(bytes)
    }

    /// Whether two requests of about `bytes` each may be sent, or none is in flight.
    pub(super) fn fits_two(&self, bytes: usize, member: Member) -> bool {
        let (requests, most) = (self.requests.load(Ordering::Relaxed), self.bounds());
        let both = self.bytes.load(Ordering::Relaxed).saturating_add(bytes.saturating_mul(2));
        self.is_turn_of(member) && (requests == 0 || requests + 2 <= most.requests && both <= most.bytes)
    }

    fn has(&self, bytes: usize) -> bool {
        let (requests, most) = (self.requests.load(Ordering::Relaxed), self.bounds());
        requests == 0
            || requests < most.requests
                && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= most.bytes
    }

    /// Takes room for a request, if there is any and it is this engine's turn; if not, the engine waits in
    /// the queue. Engines on other threads may take it meanwhile, so the count of requests decides.
    pub(super) fn take_request(&self, bytes: usize, member: Member) -> bool {
        let most = self.bounds().requests;
        let taken = self.fits(bytes, member)
            && self
                .requests
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |requests| {
                    (requests < most).then_some(requests + 1)
                })
                .is_ok();
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.leave_queue(member);
        } else {
            self.queue(member);
        }
        taken
    }

    /// Gives back the room of requests, of `bytes` in all.
    pub(super) fn return_requests(&self, requests: usize, bytes: usize) {
        self.requests.fetch_sub(requests, Ordering::Relaxed);
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
        let one = room.join();
        assert!(room.take_request(1_000, one) && !room.take_request(1, one));
        room.return_requests(1, 1_000);
        assert!(room.take_request(60, one) && !room.take_request(60, one) && room.take_request(40, one));
        assert!(!room.take_request(0, one));
        room.return_requests(1, 60);
        assert!(room.take_request(60, one));
    }

    #[test]
    fn bounds_change_while_room_is_taken() {
        let room = room();
        let one = room.join();
        assert!(room.take_records(10) == 10 && room.take_request(60, one) && room.take_request(40, one));
        room.set_bounds(Bounds { backlog: 5, requests: 1, bytes: 50 });
        room.return_records(4);
        room.return_requests(1, 40);
        assert!(room.take_records(9) == 0 && !room.take_request(1, one));
        room.set_bounds(Bounds { backlog: 8, requests: 3, bytes: 500 });
        assert!(room.take_records(9) == 2 && room.take_request(300, one));
    }

    #[test]
    fn who_waited_longer_is_served_first() {
        let room = Room::new(Bounds { backlog: 1, requests: 1, bytes: 100 });
        let (one, two) = (room.join(), room.join());
        assert!(room.take_request(1, one) && !room.take_request(1, two));
        room.return_requests(1, 1);
        // The first asks again before the second has woken.
        assert!(!room.take_request(1, one) && room.take_request(1, two));
        room.return_requests(1, 1);
        assert!(room.take_request(1, one) && !room.is_waited_for());
        // One that has nothing to send any more does not hold up the others.
        assert!(!room.take_request(1, two));
        room.leave_queue(two);
        room.return_requests(1, 1);
        assert!(room.take_request(1, one));
    }

    #[test]
    fn threads_do_not_take_more_than_there_is() {
        let room = Room::new(Bounds { backlog: 1_000, requests: 64, bytes: usize::MAX });
        let (records, requests) = std::thread::scope(|scope| {
            let take = || {
                let member = room.join();
                let records: u64 = (0..1_000).map(|_| room.take_records(3)).sum();
                let requests = (0..1_000).filter(|_| room.take_request(1, member)).count();
                room.leave_queue(member);
                (records, requests)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        });
        assert_eq!(records, 1_000);
        assert!((1..=64).contains(&requests), "{requests}");
    }
}
