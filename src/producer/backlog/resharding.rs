//! What a reshard does to the records that wait.

use super::{Backlog, Slot, State};
use crate::kinesis::ShardMap;
use crate::kinesis::md5::LANES;
use crate::load::Nanos;
use crate::producer::Record;
use crate::tick::Source;
use std::collections::VecDeque;

impl Backlog {
    /// Takes out every record, in no order of note.
    pub fn drain(&mut self) -> Vec<Record> {
        self.ready.clear();
        self.blocked.clear();
        self.lingering.clear();
        self.records = 0;
        let mut records = Vec::new();
        for slot in &mut self.slots {
            slot.state = State::Idle;
            slot.bytes = 0;
            records.extend(slot.records.drain(..));
        }
        records
    }

    /// Places the waiting records anew after the stream was resharded. A shard that is still open
    /// keeps the state of its limit.
    pub fn reshard(&mut self, map: ShardMap, source: &Source, now: Nanos) {
        let mut waiting = self.drain();
        waiting.sort_by_key(|record| record.intended);
        self.open_shards(map);
        for records in waiting.chunks(LANES) {
            self.push(records, source, now);
        }
    }

    pub(super) fn open_shards(&mut self, map: ShardMap) {
        self.open.clear();
        for shard in map.shards() {
            let index = self.shards.slot(shard);
            if index as usize == self.slots.len() {
                self.slots.push(Slot { records: VecDeque::new(), bytes: 0, since: 0, state: State::Idle });
            }
            self.open.push(index);
        }
        self.map = map;
    }
}
