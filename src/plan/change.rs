//! What can change while a run is on.

use super::{LoadPlan, Offer, Plan};
use crate::config::{ConfigError, Settings};
use crate::producer::{Bounds, Offered, ShardLimiting};
use crate::settings::{Key, SETTINGS};

/// One thing that changes in a run that is on.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// What the load at this place offers.
    Offer(usize, Offered),
    /// What limits the load at this place on each shard.
    ShardLimit(usize, ShardLimiting),
    /// What all loads keep at most.
    Bounds(Bounds),
    /// The least severe log lines.
    LogLevel(tracing::Level),
}

/// How new settings differ from those of a run.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What is to be applied, with a line for the log.
    pub applied: Vec<(Change, String)>,
    /// What needs another run, each with its place and why.
    pub refused: Vec<ConfigError>,
    /// Whether there are other loads than before, so that nothing is applied.
    pub other_loads: bool,
}

/// Why a setting is refused.
const NEXT_RUN: &str = "cannot change while the run is on; it keeps what it began with";

impl Changes {
    /// From the settings that were last read to those read now, which make `plan`.
    #[must_use]
    pub fn between(before: &Settings, now: &Settings, plan: &Plan) -> Self {
        let mut changes = Self::default();
        let (was, is) = (before.loads(), now.loads());
        if !was.iter().map(|(name, _)| name).eq(is.iter().map(|(name, _)| name)) {
            let why = "other [[load]] tables than the run has need another run; nothing is applied";
            changes.refused.push(ConfigError::elsewhere("[[load]]", why));
            changes.other_loads = true;
            return changes;
        }
        for (key, _) in SETTINGS.iter().filter(|(_, setting)| !setting.is_per_load()) {
            if differs(*key, before, now) {
                changes.whole(*key, now, plan);
            }
        }
        for (place, ((_, was), (_, is))) in was.iter().zip(&is).enumerate() {
            let keys = SETTINGS.iter().filter(|(_, setting)| setting.is_per_load()).map(|(key, _)| *key);
            let differing: Vec<Key> = keys.filter(|key| differs(*key, was, is)).collect();
            changes.load(place, &differing, is, &plan.loads[place]);
        }
        changes
    }

    /// A setting of the whole run.
    fn whole(&mut self, key: Key, now: &Settings, plan: &Plan) {
        let change = match key {
            Key::MaxBacklog | Key::MaxRequests | Key::MaxInFlightBytes => Change::Bounds(plan.bounds),
            Key::LogLevel => Change::LogLevel(plan.output.log_level),
            _ => return self.refuse(key, now, NEXT_RUN),
        };
        self.apply(change, &[key], now, "");
    }

    /// The settings of a load that differ.
    fn load(&mut self, place: usize, differing: &[Key], now: &Settings, load: &LoadPlan) {
        let offers: Vec<Key> =
            differing.iter().copied().filter(|key| matches!(key, Key::Rps | Key::Shape)).collect();
        for key in differing.iter().copied().filter(|key| !offers.contains(key)) {
            match key {
                Key::ShardLimit => {
                    self.apply(Change::ShardLimit(place, load.shard_limit), &[key], now, &load.name);
                }
                _ => self.refuse(key, now, NEXT_RUN),
            }
        }
        if !offers.is_empty() {
            match offered(&load.offer) {
                Some(offered) => self.apply(Change::Offer(place, offered), &offers, now, &load.name),
                None => {
                    self.refuse(Key::Shape, now, "a file is replayed from the start of a run or not at all");
                }
            }
        }
    }

    fn apply(&mut self, change: Change, keys: &[Key], now: &Settings, load: &str) {
        let value = |key: &Key| format!("{} = {}", key.setting().name, now.get(*key).texts.join(", "));
        let mut line = keys.iter().map(value).collect::<Vec<_>>().join(", ");
        if !load.is_empty() {
            line = format!("load {load}: {line}");
        }
        self.applied.push((change, line));
    }

    fn refuse(&mut self, key: Key, now: &Settings, why: &str) {
        let error = ConfigError::new(key, now.get(key), why);
        if !self.refused.contains(&error) {
            self.refused.push(error);
        }
    }
}

fn differs(key: Key, before: &Settings, now: &Settings) -> bool {
    before.get(key).texts != now.get(key).texts
}

fn offered(offer: &Offer) -> Option<Offered> {
    match offer {
        Offer::Max => Some(Offered::Max),
        Offer::Open(shape, _) => {
            // A shape that holds one rate and then ends is not that rate for ever.
            let rate = shape.constant_rate().filter(|_| shape.ends().is_none());
            Some(rate.map_or_else(|| Offered::Shape(shape.clone()), Offered::Rate))
        }
        Offer::Replay(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Raw, Source};
    use std::path::Path;

    fn settings(file: &str) -> Settings {
        let flags = vec![(Key::Linger, Raw { texts: vec!["5ms".into()], source: Source::Flag })];
        let variables = [("TICKGEN_MAX_BACKLOG".to_owned(), "77".to_owned())];
        let (settings, errors) = Settings::layer(Some((Path::new("c.toml"), file)), variables, flags);
        assert_eq!(errors, []);
        settings
    }

    fn between(before: &str, now: &str) -> (Vec<(Change, String)>, Vec<String>) {
        let now = settings(now);
        let changes = Changes::between(&settings(before), &now, &Plan::new(&now, 1).unwrap());
        (changes.applied, changes.refused.iter().map(ToString::to_string).collect())
    }

    fn rate(per_second: u64) -> Offered {
        Offered::Rate(crate::load::Rate::from_thousandths(per_second * 1000).unwrap())
    }

    #[test]
    fn what_can_change_is_applied_and_the_rest_refused() {
        assert_eq!(between("rps = 5\n", "# only words\nrps = 5\n"), (vec![], vec![]));
        let (applied, refused) = between(
            "rps = 5\nseed = 1\n",
            "rps = 7\nseed = 2\nshard-limit = \"50%\"\nmax-requests = 9\nlog-level = \"debug\"\nquiet = true\n",
        );
        let lines: Vec<&str> = applied.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(lines, ["max-requests = 9", "log-level = debug", "shard-limit = 50%", "rps = 7"]);
        assert!(
            matches!(applied[0].0, Change::Bounds(bounds) if bounds.requests == 9 && bounds.backlog == 77)
        );
        assert_eq!(applied[2].0, Change::ShardLimit(0, ShardLimiting::Share(0.5)));
        assert_eq!(applied[3].0, Change::Offer(0, rate(7)));
        let place = |line: &str| format!("{line}: {NEXT_RUN}");
        assert_eq!(refused, [place("c.toml:6: quiet = true"), place("c.toml:2: seed = 2")]);
        // Flags and variables win, so what the file says beneath them is no change.
        assert_eq!(between("", "linger = \"9ms\"\nmax-backlog = 1234\n"), (vec![], vec![]));
    }

    #[test]
    fn shapes_and_max_are_offers() {
        let (applied, _) = between("rps = 5", "rps = \"max\"");
        assert_eq!(applied[0].0, Change::Offer(0, Offered::Max));
        let (applied, refused) = between("rps = 5", "shape = \"sine:mean=9,amplitude=5,period=10s\"");
        assert!(matches!(&applied[..], [(Change::Offer(0, Offered::Shape(_)), _)]) && refused.is_empty());
        let (applied, _) = between("rps = 5", "shape = \"stages:250,250/10m\"");
        assert!(matches!(&applied[..], [(Change::Offer(0, Offered::Shape(_)), _)]));
        let (applied, refused) = between("", "shape = \"replay:x.ndjson\"");
        assert!(
            applied.is_empty() && refused[0].contains("c.toml:1: shape = replay:x.ndjson: a file"),
            "{refused:?}"
        );
    }

    #[test]
    fn loads_change_one_by_one_and_stay_the_same_loads() {
        let loads = |a: u64, b: u64, name: &str| {
            format!("[[load]]\nname = \"a\"\nrps = {a}\n[[load]]\nname = \"{name}\"\nrps = {b}\n")
        };
        let (applied, refused) = between(&loads(1, 2, "b"), &loads(1, 3, "b"));
        assert_eq!(applied, [(Change::Offer(1, rate(3)), "load b: rps = 3".to_owned())]);
        assert!(refused.is_empty());
        let (applied, refused) = between(&loads(1, 2, "b"), &loads(4, 2, "c"));
        assert!(applied.is_empty() && refused[0].contains("need another run"), "{refused:?}");
    }
}
