use super::shared::{SharedLimits, Sharer};
use super::{ShardLimit, ShardQuota};
use crate::kinesis::ShardId;
use crate::load::Nanos;
use std::sync::Arc;

/// What limits an engine on the shards of its stream.
#[derive(Clone, Debug, Default)]
pub enum Limits {
    /// Nothing.
    #[default]
    None,
    /// This much of each shard.
    Own(ShardQuota),
    /// What it shares with other engines of the run.
    Shared(Arc<SharedLimits>),
}

impl From<Option<ShardQuota>> for Limits {
    fn from(quota: Option<ShardQuota>) -> Self {
        quota.map_or(Self::None, Self::Own)
    }
}

/// An engine's limits in use.
#[derive(Debug)]
pub(super) struct LimitsInUse {
    limits: Limits,
    // Its place among those that share them.
    place: usize,
}

impl LimitsInUse {
    pub(super) fn new(limits: Limits) -> Self {
        let place = if let Limits::Shared(shared) = &limits { shared.join() } else { 0 };
        Self { limits, place }
    }

    /// The limit of a shard.
    pub(super) fn of(&self, shard: ShardId) -> Option<LimitInUse> {
        match &self.limits {
            Limits::None => None,
            Limits::Own(quota) => Some(LimitInUse::Own(ShardLimit::new(*quota))),
            Limits::Shared(all) => Some(LimitInUse::Shared(all.of(shard, self.place))),
        }
    }
}

/// The limit of one shard, an engine's own or its part in one.
#[derive(Debug)]
pub(super) enum LimitInUse {
    Own(ShardLimit),
    Shared(Sharer),
}

impl LimitInUse {
    pub(super) fn admit(&mut self, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        match self {
            Self::Own(limit) => limit.admit(bytes, now),
            Self::Shared(limit) => limit.admit(bytes, now),
        }
    }

    pub(super) fn took(&mut self, entries: usize, bytes: usize, now: Nanos) {
        match self {
            Self::Own(limit) => limit.took(entries, bytes, now),
            Self::Shared(limit) => limit.took(entries, bytes, now),
        }
    }

    pub(super) fn throttled(&mut self, bytes: usize, now: Nanos) {
        match self {
            Self::Own(limit) => limit.throttled(bytes, now),
            Self::Shared(limit) => limit.throttled(bytes, now),
        }
    }

    pub(super) fn records_per_second(&self) -> f64 {
        match self {
            Self::Own(limit) => limit.records_per_second(),
            Self::Shared(limit) => limit.records_per_second(),
        }
    }
}
