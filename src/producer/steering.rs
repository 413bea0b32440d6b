//! What a running producer is told, by whoever may tell it.

use super::steered::shares;
use super::{Limits, Offered, Snapshot};
use crate::kinesis::ShardMap;
use crate::load::Rate;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The most changes that a run takes; each is kept for its summary.
const MOST_CHANGES: u64 = 10_000;

/// What a lane is told.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) phase: Phase,
    pub(super) paused: bool,
    /// What is to be offered, and how often that was changed.
    pub(super) offered: Option<Offered>,
    pub(super) offers: u64,
    /// What each shard may take from now on, and how often that was changed.
    pub(super) limits: Limits,
    pub(super) limitings: u64,
    /// How many orders were given, pauses, offers and limits.
    pub(super) orders: u64,
    pub(super) map: ShardMap,
    pub(super) map_version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Run,
    Drain,
    Abandon,
}

impl Control {
    pub(super) fn new(map: ShardMap) -> Self {
        Self {
            phase: Phase::Run,
            paused: false,
            offered: None,
            offers: 0,
            limits: Limits::None,
            limitings: 0,
            orders: 0,
            map,
            map_version: 0,
        }
    }
}

/// Why a run cannot be steered so.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SteerError {
    /// Only the drain is left, or not even that.
    #[error("the run is draining or has ended")]
    Over,
    /// A load comes at the times of a file.
    #[error("a load is replayed from a file, whose times are its rate; it can be paused and drained")]
    Replayed,
    /// The rate cannot be shared out.
    #[error("{0} loads cannot share so low a rate: each takes 0.001 records/s at least")]
    TooLow(usize),
    /// Every change is kept for the summary, and there are too many.
    #[error("a run takes {MOST_CHANGES} changes, and has had them")]
    TooMany,
}

/// Steers a running producer: all its loads, or one, or the shard map of each.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    maps: Vec<MapSteering>,
    loads: Vec<Load>,
}

#[derive(Clone, Debug)]
struct Load {
    seen: watch::Receiver<Arc<Snapshot>>,
    replayed: bool,
}

impl Steering {
    pub(super) fn add(&mut self, map: MapSteering, seen: watch::Receiver<Arc<Snapshot>>, replayed: bool) {
        self.maps.push(map);
        self.loads.push(Load { seen, replayed });
    }

    /// Ends generating and settles what is on its way, within the drain timeout.
    pub fn drain(&self) {
        self.enter(Phase::Drain);
    }

    /// Ends at once: what is not settled counts as failed.
    pub fn abandon(&self) {
        self.enter(Phase::Abandon);
    }

    fn enter(&self, phase: Phase) {
        for load in &self.maps {
            load.control.send_modify(|control| control.phase = control.phase.max(phase));
        }
    }

    /// From now on all loads together offer this rate, or as much as answers allow. Several share it in
    /// proportion to what their schedules offer now, or equally if one of them has no rate.
    ///
    /// # Errors
    /// If they cannot; then nothing is changed.
    pub fn set_rate(&self, rate: Option<Rate>) -> Result<(), SteerError> {
        let running = self.running()?;
        if running.iter().any(|place| self.loads[*place].replayed) {
            return Err(SteerError::Replayed);
        }
        let offers: Vec<Offered> = match rate {
            None => vec![Offered::Max; running.len()],
            Some(rate) => {
                let now = running.iter().map(|place| self.loads[*place].seen.borrow().schedule_rps);
                shares(rate, &now.collect::<Vec<_>>()).ok_or(SteerError::TooLow(running.len()))?
            }
        };
        for (place, offered) in running.into_iter().zip(offers) {
            self.order(place, |control| control.offer(offered.clone()));
        }
        Ok(())
    }

    /// From now on the load at this place offers something else.
    ///
    /// # Errors
    /// If it cannot; then nothing is changed.
    pub fn offer(&self, load: usize, offered: &Offered) -> Result<(), SteerError> {
        if !self.running()?.contains(&load) {
            return Err(SteerError::Over);
        }
        if self.loads[load].replayed {
            return Err(SteerError::Replayed);
        }
        self.order(load, |control| control.offer(offered.clone()));
        Ok(())
    }

    /// From now on each shard may take so much of the load at this place.
    ///
    /// # Errors
    /// If the load is over.
    pub fn set_limits(&self, load: usize, limits: &Limits) -> Result<(), SteerError> {
        if !self.running()?.contains(&load) {
            return Err(SteerError::Over);
        }
        self.order(load, |control| {
            control.limits = limits.clone();
            control.limitings += 1;
        });
        Ok(())
    }

    /// All schedules stand still: nothing falls due until they are resumed.
    ///
    /// # Errors
    /// If it cannot be paused any more.
    pub fn pause(&self) -> Result<(), SteerError> {
        self.set_paused(true)
    }

    /// All schedules go on.
    ///
    /// # Errors
    /// If they cannot any more.
    pub fn resume(&self) -> Result<(), SteerError> {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Result<(), SteerError> {
        for place in self.running()? {
            if self.maps[place].control.borrow().paused != paused {
                self.order(place, |control| control.paused = paused);
            }
        }
        Ok(())
    }

    /// Waits until every load has obeyed what it was told so far, or is over.
    pub async fn obeyed(&self) {
        for (map, load) in self.maps.iter().zip(&self.loads) {
            let orders = map.control.borrow().orders;
            // A lane that is gone obeys nothing more.
            let _ = load.seen.clone().wait_for(|seen| seen.orders >= orders || seen.draining).await;
        }
    }

    /// Waits until only the drain is left.
    pub async fn drains(&self) {
        for load in &self.loads {
            let _ = load.seen.clone().wait_for(|seen| seen.draining).await;
        }
    }

    /// The loads that can be steered; some are over before others.
    fn running(&self) -> Result<Vec<usize>, SteerError> {
        let runs = |place: &usize| {
            let control = self.maps[*place].control.borrow();
            control.phase == Phase::Run && !self.loads[*place].seen.borrow().draining
        };
        let running: Vec<_> = (0..self.loads.len()).filter(runs).collect();
        if self.maps.iter().any(|map| map.control.borrow().orders >= MOST_CHANGES) {
            return Err(SteerError::TooMany);
        }
        if running.is_empty() { Err(SteerError::Over) } else { Ok(running) }
    }

    fn order(&self, place: usize, change: impl Fn(&mut Control)) {
        self.maps[place].control.send_modify(|control| {
            change(control);
            control.orders += 1;
        });
    }

    /// The shard map of each load.
    #[must_use]
    pub fn maps(&self) -> &[MapSteering] {
        &self.maps
    }
}

impl Control {
    fn offer(&mut self, offered: Offered) {
        self.offered = Some(offered);
        self.offers += 1;
    }
}

/// Keeps the shard map of a load up to date.
#[derive(Clone, Debug)]
pub struct MapSteering {
    pub(super) control: watch::Sender<Control>,
    pub(super) stale: Arc<Notify>,
}

impl MapSteering {
    /// Gives the engine a new shard map, if it differs from its own. Tells whether it did.
    #[must_use]
    pub fn reshard(&self, map: ShardMap) -> bool {
        self.control.send_if_modified(|control| {
            let changed = control.map != map;
            if changed {
                control.map = map;
                control.map_version += 1;
            }
            changed
        })
    }

    /// Waits until the engine saw that its shard map is out of date.
    pub async fn map_is_stale(&self) {
        self.stale.notified().await;
    }
}
