mod resharding;

use super::shard_limit::LimitedShards;
use super::{Limits, Packing, Record, RetryPolicy};
use crate::kinesis::md5::LANES;
use crate::kinesis::{Shard, ShardId, ShardMap};
use crate::load::Nanos;
use crate::tick::Source;
use crate::vectors::prefetch;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Records that wait for their shard, and the order in which shards are served.
///
/// A shard is *ready* when its next entry may be made (with aggregation: when that would be full, or
/// its records have waited long enough), *blocked* while its limit is used up, and *idle* otherwise.
/// Ready shards are served in turn, one entry each.
#[derive(Debug)]
pub struct Backlog {
    // One slot for every shard seen in the run; a closed shard's slot stays, empty.
    slots: Vec<Slot>,
    // Of each slot.
    shards: LimitedShards,
    // The slots of the open shards, in the order of the map.
    open: Vec<u32>,
    map: ShardMap,
    ready: VecDeque<u32>,
    blocked: BinaryHeap<Reverse<(Nanos, u32)>>,
    lingering: VecDeque<(Nanos, u32)>,
    records: u64,
    packing: Packing,
    retry: RetryPolicy,
    hurry: bool,
}

/// What every record of its shard touches, in one line of the cache.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    records: VecDeque<Record>,
    bytes: usize,
    since: Nanos,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Ready,
    Blocked,
}

/// What [`Backlog::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// An entry for this slot, of this size as Kinesis counts it; its records were appended.
    Entry {
        /// Its shard's slot.
        slot: u32,
        /// Its size in bytes, partition key included.
        bytes: usize,
    },
    /// The next entry is larger than the room there is.
    NoRoom,
    /// No shard is ready.
    Nothing,
}

/// Records in a line of the processor's cache.
const LINE: usize = 64 / size_of::<Record>();

impl Backlog {
    /// An empty backlog for the shards of `map`, limited so.
    #[must_use]
    pub fn new(map: ShardMap, packing: Packing, limits: Limits, retry: RetryPolicy) -> Self {
        let mut backlog = Self {
            slots: Vec::new(),
            shards: LimitedShards::new(limits),
            open: Vec::new(),
            map: map.clone(),
            ready: VecDeque::new(),
            blocked: BinaryHeap::new(),
            lingering: VecDeque::new(),
            records: 0,
            packing,
            retry,
            hurry: false,
        };
        backlog.open_shards(map);
        backlog
    }

    /// See [`Packing::turn`].
    #[must_use]
    pub(super) fn turn(&self) -> Nanos {
        self.packing.turn()
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The shard of a slot.
    #[must_use]
    pub fn shard(&self, slot: u32) -> &Shard {
        self.shards.shard(slot)
    }

    /// The map of the open shards.
    #[must_use]
    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// The slots of the open shards, in the order of the map.
    #[must_use]
    pub fn open(&self) -> &[u32] {
        &self.open
    }

    /// The shards seen so far, by slot.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter()
    }

    /// Adds up to [`LANES`] records, each at the end of its shard's queue.
    pub fn push(&mut self, records: &[Record], source: &Source, now: Nanos) {
        let mut numbers = [(0, 0); LANES];
        for (number, record) in numbers.iter_mut().zip(records) {
            *number = (record.n, record.intended);
        }
        let places = source.places(&numbers[..records.len()], &self.map);
        for (record, place) in records.iter().zip(places) {
            self.add(*record, self.open[place], now, false);
        }
    }

    /// Adds a record that was sent before: it goes first.
    pub fn push_again(&mut self, record: Record, source: &Source, now: Nanos) {
        let place = source.place(record.n, record.intended, &self.map);
        self.add(record, self.open[place], now, true);
    }

    fn add(&mut self, record: Record, index: u32, now: Nanos, first: bool) {
        let slot = &mut self.slots[index as usize];
        slot.bytes += record.bytes();
        if first {
            slot.records.push_front(record);
        } else {
            slot.records.push_back(record);
        }
        self.records += 1;
        if slot.state != State::Idle {
            return;
        }
        // With 1,000 shards it is a thousand records until the next of this aggregate, and its place out of the cache.
        if let Some(last) = slot.records.back() {
            prefetch(std::ptr::from_ref(last).wrapping_add(1 + LINE));
        }
        // Where others wait for their aggregate to fill, so does this.
        let lingers = slot.records.len() > 1;
        self.enlist(index, now, lingers);
    }

    /// Makes a shard with records ready, or lets them wait for their aggregate to fill, if they do not
    /// already.
    fn enlist(&mut self, index: u32, now: Nanos, lingers: bool) {
        let slot = &mut self.slots[index as usize];
        match &self.packing {
            Packing::Aggregate { full, linger, .. } if !self.hurry && slot.bytes < *full => {
                if !lingers {
                    slot.since = now;
                    self.lingering.push_back((now + linger, index));
                }
            }
            _ => {
                slot.state = State::Ready;
                self.ready.push_back(index);
            }
        }
    }

    /// Takes the next entry that its shard's limit admits and that fits into `room` bytes; its
    /// records are appended to `records`. Records whose time to live has passed go to `expired`.
    pub fn take(
        &mut self,
        room: usize,
        now: Nanos,
        source: &Source,
        records: &mut Vec<Record>,
        expired: &mut Vec<Record>,
    ) -> Taken {
        self.wake(now);
        while let Some(&index) = self.ready.front() {
            self.expire_head(index, now, expired);
            let slot = &mut self.slots[index as usize];
            let (count, bytes) =
                self.packing.next_entry(self.shards.shard(index).first, &slot.records, source);
            if count == 0 {
                slot.state = State::Idle;
                self.ready.pop_front();
                continue;
            }
            if bytes > room {
                return Taken::NoRoom;
            }
            self.ready.pop_front();
            if let Err(at) = self.shards.admit(index, bytes, now) {
                slot.state = State::Blocked;
                self.blocked.push(Reverse((at, index)));
                continue;
            }
            let before = records.len();
            let (front, back) = slot.records.as_slices();
            let (front, back) =
                (&front[..count.min(front.len())], &back[..count.saturating_sub(front.len())]);
            for part in [front, back] {
                slot.bytes -= part.iter().map(Record::bytes).sum::<usize>();
                // Records that were sent before stand out of order: any may be past its time.
                if part.iter().any(|record| self.retry.is_expired(record, now)) {
                    let (late, others): (Vec<Record>, Vec<Record>) =
                        part.iter().partition(|record| self.retry.is_expired(record, now));
                    expired.extend(late);
                    records.extend(others);
                } else {
                    records.extend_from_slice(part);
                }
            }
            slot.records.drain(..count);
            self.records -= count as u64;
            self.serve_again(index, now);
            if records.len() > before {
                return Taken::Entry { slot: index, bytes };
            }
        }
        Taken::Nothing
    }

    /// Puts a shard that was served back in its place: at the end of the ready ones if it has
    /// another entry, or to wait for its aggregate to fill.
    fn serve_again(&mut self, index: u32, now: Nanos) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Idle;
        if !slot.records.is_empty() {
            self.enlist(index, now, false);
        }
    }

    /// Makes ready the shards whose limit admits again and those whose records lingered enough.
    fn wake(&mut self, now: Nanos) {
        while let Some(&Reverse((at, index))) = self.blocked.peek() {
            if at > now {
                break;
            }
            self.blocked.pop();
            if self.slots[index as usize].state == State::Blocked {
                self.slots[index as usize].state = State::Ready;
                self.ready.push_back(index);
            }
        }
        let Packing::Aggregate { linger, .. } = self.packing else {
            return;
        };
        while let Some(&(at, index)) = self.lingering.front() {
            if at > now {
                break;
            }
            self.lingering.pop_front();
            let slot = &mut self.slots[index as usize];
            let waited = !slot.records.is_empty() && slot.since + linger <= now;
            if slot.state == State::Idle && waited {
                slot.state = State::Ready;
                self.ready.push_back(index);
            }
        }
    }

    /// Notes that a shard took an entry of `bytes` that was sent to another, which was split or merged meanwhile.
    pub fn misrouted(&mut self, shard: ShardId, bytes: usize, now: Nanos) {
        self.shards.took(shard, bytes, now);
    }

    /// Notes that the shard of a slot throttled an entry of `bytes`.
    pub fn throttled(&mut self, slot: u32, bytes: usize, now: Nanos) {
        self.shards.throttled(slot, bytes, now);
    }

    /// The Kinesis records that the open shards' limits admit in a second at present, by slot; nothing
    /// if there is no limit.
    pub fn limits(&self) -> impl Iterator<Item = (u32, f64)> {
        let limit = |slot: &u32| Some((*slot, self.shards.records_per_second(*slot)?));
        self.open.iter().filter_map(limit)
    }

    /// When [`Backlog::take`] may find an entry that it does not find now.
    #[must_use]
    pub fn next_wake(&self) -> Option<Nanos> {
        let blocked = self.blocked.peek().map(|Reverse((at, _))| *at);
        let lingering = self.lingering.front().map(|(at, _)| *at);
        blocked.into_iter().chain(lingering).min()
    }

    /// Whether a shard is ready to be served.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether records wait, and every shard that has one ready has used up its limit.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.ready.is_empty() && !self.blocked.is_empty() && self.records > 0
    }

    /// Whether a shard has used up its limit for now and more waits for it.
    #[must_use]
    pub fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Makes every shard ready that has records: no aggregate waits to fill from now on.
    pub fn hurry(&mut self) {
        self.hurry = true;
        self.lingering.clear();
        for (index, slot) in (0..).zip(&mut self.slots) {
            if slot.state == State::Idle && !slot.records.is_empty() {
                slot.state = State::Ready;
                self.ready.push_back(index);
            }
        }
    }

    fn expire_head(&mut self, index: u32, now: Nanos, expired: &mut Vec<Record>) {
        let slot = &mut self.slots[index as usize];
        while let Some(record) = slot.records.front() {
            if !self.retry.is_expired(record, now) {
                break;
            }
            slot.bytes -= record.bytes();
            expired.extend(slot.records.pop_front());
            self.records -= 1;
        }
    }

    /// Moves the records whose time to live has passed to `expired`, blocked shards included.
    pub fn expire(&mut self, now: Nanos, expired: &mut Vec<Record>) {
        for index in (0..).take(self.slots.len()) {
            self.expire_head(index, now, expired);
        }
    }

    /// From now on each shard is limited so. A shard that is held back by its old limit is let go when that
    /// would have.
    pub fn set_limits(&mut self, limits: Limits) {
        self.shards.set_limits(limits);
    }
}
