use super::ceiling::{Ceiling, CeilingSummary};
use super::environment::Environment;
use super::figures::{Circumstances, Figures, SteeredSummary, WindowSummary};
use super::heat::ShardHeat;
use super::summary::{LoadSummary, SCHEMA_VERSION, StoppedBy, Summary, ThresholdResult, Times};
use super::{DrillSummary, Seconds, Threshold, VerifySummary};
use crate::cost::Tariff;
use crate::load::SECOND;
use crate::producer::Snapshot;
use crate::verify::Manifest;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of a run besides its counts.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// Its name, unlike any other run's.
    pub run_id: String,
    /// When it began, as RFC 3339 in UTC.
    pub started_at: String,
    /// Its loads; at least one.
    pub loads: Vec<LoadFacts>,
    /// What else there is to tell.
    pub about: About,
}

/// What is known of a run that no count depends on.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The settings that were given.
    pub configuration: BTreeMap<String, String>,
    /// Where it runs.
    pub environment: Option<Environment>,
    /// What it is charged by; `None` if it goes to no stream.
    pub tariff: Option<Tariff>,
    /// What this machine can send with its settings, if it was calibrated.
    pub ceiling: Option<Ceiling>,
}

/// What is known of a load besides its counts.
#[derive(Clone, Debug)]
pub struct LoadFacts {
    /// Its name; empty if it is the run's only load.
    pub name: String,
    /// The seed of its records.
    pub seed: u64,
    /// The stream's name or ARN.
    pub stream: String,
    /// The records per second that it offers throughout, if it has one rate.
    pub constant_rps: Option<f64>,
    /// Whether records fall due whatever becomes of them.
    pub open_loop: bool,
}

/// Sums a run up and judges it by its thresholds.
#[derive(Clone, Debug)]
pub struct Judge {
    facts: RunFacts,
    around: Circumstances,
    thresholds: Vec<Threshold>,
    drills: Vec<DrillSummary>,
}

impl Judge {
    /// Of a run of these facts that is to hold these thresholds.
    #[must_use]
    pub fn new(thresholds: Vec<Threshold>, facts: RunFacts) -> Self {
        let mut streams: Vec<String> = Vec::new();
        for load in &facts.loads {
            if !streams.contains(&load.stream) {
                streams.push(load.stream.clone());
            }
        }
        let lines = facts.about.environment.as_ref().is_some_and(Environment::is_lines);
        let around = Circumstances { streams, lines, processor_share: None };
        Self { facts, around, thresholds, drills: Vec::new() }
    }

    /// The same, where these are the drills of the run.
    #[must_use]
    pub fn with_drills(mut self, drills: Vec<DrillSummary>) -> Self {
        self.drills = drills;
        self
    }

    /// The same, where the process used this share of its processors' time in the run.
    #[must_use]
    pub fn with_processor_share(mut self, share: Option<f64>) -> Self {
        self.around.processor_share = share;
        self
    }

    /// What is known of the run besides its counts.
    #[must_use]
    pub fn facts(&self) -> &RunFacts {
        &self.facts
    }

    /// The first threshold that does not hold for a run that is under way, as it is now. Those that only
    /// its end can tell (of a count that must be reached) are left out.
    #[must_use]
    pub fn missed(&self, loads: &[Arc<Snapshot>]) -> Option<ThresholdResult> {
        let summary = self.figures(loads);
        let all = overdue_share(&Snapshot::sum(loads.iter().map(Arc::as_ref)));
        let of_load = |name: &str| {
            let of_name = self.facts.loads.iter().zip(loads).find(|(facts, _)| facts.name == name);
            of_name.map_or(1.0, |(_, load)| overdue_share(load))
        };
        let running = self.thresholds.iter().filter(|threshold| !threshold.is_for_the_end());
        let judged =
            running.map(|threshold| threshold.judge_running(&summary, threshold.load().map_or(all, of_load)));
        judged.into_iter().find(|result| !result.passed)
    }

    /// The summary of a run whose loads ended with these snapshots. `aborted`: the threshold that ended it.
    #[must_use]
    pub fn summary(
        &self,
        loads: &[Arc<Snapshot>],
        stopped_by: StoppedBy,
        error: Option<String>,
        aborted: Option<ThresholdResult>,
    ) -> Summary {
        let mut summary = Summary { stopped_by, error, ..self.figures(loads) };
        let all = Snapshot::sum(loads.iter().map(Arc::as_ref));
        summary.times = Some(Times {
            response: all.account.response_time.histogram().clone(),
            service: all.account.service_time.histogram().clone(),
        });
        let now = self.thresholds.iter().filter(|threshold| !threshold.is_of_proof());
        summary.thresholds = now.map(|threshold| threshold.judge(&summary)).collect();
        summary.thresholds.extend(summary.cost.as_ref().and_then(|cost| cost.budget(stopped_by)));
        if let Some(aborted) = aborted {
            // It stays missed, whatever the drain made up for.
            summary.thresholds.retain(|result| result.expr != aborted.expr);
            summary.thresholds.push(aborted);
        }
        summary
    }

    /// What was changed of each load, by time.
    fn steered(&self, snapshots: &[Arc<Snapshot>]) -> Vec<SteeredSummary> {
        let mut changes = Vec::new();
        for (facts, snapshot) in self.facts.loads.iter().zip(snapshots) {
            let name = Some(&facts.name).filter(|name| !name.is_empty());
            changes.extend(snapshot.steered.iter().map(|change| SteeredSummary::new(name.cloned(), change)));
        }
        changes.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        changes
    }

    /// The summary with what was proved, which is judged too.
    #[must_use]
    pub fn with_proof(&self, summary: Summary, verify: Option<VerifySummary>) -> Summary {
        let mut summary = Summary { verify, ..summary };
        let of_proof = self.thresholds.iter().filter(|threshold| threshold.is_of_proof());
        let results: Vec<_> = of_proof.map(|threshold| threshold.judge(&summary)).collect();
        summary.thresholds.extend(results);
        summary
    }

    /// Everything but the verdict.
    fn figures(&self, snapshots: &[Arc<Snapshot>]) -> Summary {
        let all = Snapshot::sum(snapshots.iter().map(Arc::as_ref));
        let mut loads = BTreeMap::new();
        for (facts, snapshot) in self.facts.loads.iter().zip(snapshots) {
            if !facts.name.is_empty() {
                let figures = Figures::new(snapshot, facts.target_rps(snapshot), &self.around);
                let (seed, stream) = (facts.seed, facts.stream.clone());
                loads.insert(facts.name.clone(), LoadSummary { seed, stream, figures });
            }
        }
        let target_rps = match &self.facts.loads[..] {
            [only] => only.target_rps(&all),
            // Loads of different lengths: what fell due in the span of the longest.
            several => {
                let open = |(load, seen): (&LoadFacts, &Arc<Snapshot>)| load.open_loop || seen.was_steered();
                several.iter().zip(snapshots).all(open).then(|| all.scheduled_rps())
            }
        };
        let figures = Figures::new(&all, target_rps, &self.around);
        let ceiling = CeilingSummary::new(self.facts.about.ceiling, figures.acked, figures.elapsed_s);
        Summary {
            schema_version: SCHEMA_VERSION,
            tickgen_version: env!("CARGO_PKG_VERSION").into(),
            run_id: self.facts.run_id.clone(),
            seed: self.facts.loads.first().map_or(0, |load| load.seed),
            stream: self.around.streams.join(","),
            started_at: self.facts.started_at.clone(),
            stopped_by: StoppedBy::Schedule,
            error: None,
            payload_failure: all.payload_failure.clone(),
            unkept: all.account.unkept,
            nothing_measured: all.measured() == 0,
            times: None,
            seconds: Seconds::default(),
            figures,
            loads,
            windows: all.account.windows.iter().map(WindowSummary::new).collect(),
            steered: self.steered(snapshots),
            drills: self.drills.clone(),
            manifest: Manifest::default(),
            verify: None,
            thresholds: Vec::new(),
            cost: self.facts.about.tariff.as_ref().map(|tariff| tariff.cost(&all)),
            ceiling,
            configuration: self.facts.about.configuration.clone(),
            environment: self.facts.about.environment.clone(),
            shard_heat: ShardHeat::new(&all.account.windows, &self.around.streams, all.account.shards.len()),
            merged_from: Vec::new(),
        }
    }
}

impl LoadFacts {
    /// The rate that the load was to offer; of one rate that rate, otherwise what fell due. A load that was
    /// given another rate has no one rate, nor is it a closed loop throughout.
    fn target_rps(&self, snapshot: &Snapshot) -> Option<f64> {
        if snapshot.was_steered() {
            return Some(snapshot.scheduled_rps());
        }
        self.open_loop.then(|| self.constant_rps.unwrap_or_else(|| snapshot.scheduled_rps()))
    }
}

/// The share of a running load's records that should be acked by now: they fell due longer ago than records
/// take, or than a second while none was acked.
fn overdue_share(load: &Snapshot) -> f64 {
    let times = load.account.response_time.histogram();
    let takes = if times.is_empty() { SECOND } else { times.value_at_quantile(0.99) * 1_000 };
    load.share_due_before(takes.min(load.measured_span() / 2))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::observe) fn judge(thresholds: &[&str], names: &[&str]) -> Judge {
        let load = |name: &&str| LoadFacts {
            name: (*name).to_owned(),
            seed: 1,
            stream: "s".into(),
            constant_rps: Some(100.0),
            open_loop: true,
        };
        let facts = RunFacts {
            run_id: "r".into(),
            started_at: "2026-11-22T18:54:00Z".into(),
            loads: names.iter().map(load).collect(),
            about: About::default(),
        };
        let thresholds: Vec<_> = thresholds.iter().map(|t| Threshold::parse(t).unwrap()).collect();
        Judge::new(thresholds, facts)
    }

    fn summary(thresholds: &[&str]) -> Summary {
        judge(thresholds, &[""]).summary(&[Arc::new(Snapshot::empty())], StoppedBy::Schedule, None, None)
    }

    #[test]
    fn thresholds_are_evaluated() {
        let mut one = summary(&[]);
        one.figures.achieved_rps = 99.0;
        one.figures.error_ratio = 0.002;
        for (text, passed) in [
            ("achieved_rps >= 99%", true),
            ("achieved_rps > 99%", false),
            ("achieved_rps >= 99.1", false),
            ("error_ratio < 0.1%", false),
            ("error_ratio <= 0.2%", true),
            ("lost == 0", true),
        ] {
            assert_eq!(Threshold::parse(text).unwrap().judge(&one).passed, passed, "{text}");
        }
        assert!(summary(&["achieved_rps >= 0"]).passed());
        // Nothing was offered: a share of it is not held.
        assert!(!summary(&["achieved_rps >= 99%"]).passed());
        assert!(!summary(&["achieved_rps >= 0", "acked > 0"]).passed());
    }

    #[test]
    fn loads_have_figures_of_their_own() {
        let judge = judge(
            &["loads.b-c.acked >= 5", "loads.a.acked >= 5", "loads.a.achieved_rps >= 5%"],
            &["a", "b-c"],
        );
        let mut acked = Snapshot::empty();
        acked.account.ledger.acked = 7;
        let snapshots = [Arc::new(Snapshot::empty()), Arc::new(acked)];
        let summary = judge.summary(&snapshots, StoppedBy::Schedule, None, None);
        let of = |text: &str| summary.thresholds.iter().find(|t| t.expr.starts_with(text)).unwrap();
        assert!(
            of("loads.b-c.acked").passed && !of("loads.a.acked").passed && !of("loads.a.achieved").passed
        );
        assert_eq!((summary.figures.acked, summary.loads["b-c"].figures.acked), (7, 7));
        // A figure of a load that is not there is missed, not passed.
        assert!(!Threshold::parse("loads.zzz.lost == 0").unwrap().judge(&summary).passed);
    }

    #[test]
    fn cost_drills_and_shards_have_figures() {
        let expressions = [
            "cost.usd < 0.5",
            "drills.max_settled_after_s < 5",
            "drills.max_misrouted < 5",
            "shards.max_throttled < 9",
        ];
        let drill = |settled, misrouted| DrillSummary {
            settled_after_s: settled,
            misrouted,
            ..DrillSummary::default()
        };
        let results = |million_units: u64, drills: Vec<DrillSummary>, throttled: u64| -> Vec<(f64, bool)> {
            let prices = crate::cost::PriceList::built_in();
            let tariff = crate::cost::Tariff {
                region: "us-east-1".into(),
                prices: prices.regions.get("us-east-1").cloned(),
                prices_as_of: prices.as_of,
                mode: crate::cost::CapacityMode::Provisioned,
                streams: 1,
                readers: 0,
                fan_out: false,
                max_usd: None,
            };
            let mut judge = judge(&expressions, &[""]).with_drills(drills);
            judge.facts.about.tariff = Some(tariff);
            let mut snapshot = Snapshot::empty();
            // A million of 25 KiB costs 0.014 dollars.
            snapshot.account.billed.put_units = million_units * 1_000_000;
            let place = snapshot.account.shard(0, crate::kinesis::ShardId(3));
            snapshot.account.shards[place].throttled = throttled;
            let summary = judge.summary(&[Arc::new(snapshot)], StoppedBy::Schedule, None, None);
            summary.thresholds.iter().map(|result| (result.value, result.passed)).collect()
        };
        let held = results(30, vec![drill(Some(2.0), 3), drill(Some(4.0), 1)], 8);
        assert!((held[0].0 - 0.42).abs() < 0.01 && held.iter().all(|(_, passed)| *passed), "{held:?}");
        assert_eq!(held[1..], [(4.0, true), (3.0, true), (8.0, true)]);
        // A drill that did not settle misses any bound.
        let missed = results(40, vec![drill(Some(2.0), 3), drill(None, 7)], 9);
        assert!(missed.iter().all(|(_, passed)| !passed), "{missed:?}");
        assert!(missed[1].0.is_nan() && missed[2].1.eq(&false));
    }

    #[test]
    fn the_rate_of_a_running_load_is_judged_by_what_should_be_acked() {
        let judge = judge(&["achieved_rps >= 99%"], &[""]);
        // Due so far, acked so far, unsettled so far after so many seconds, of 100/s.
        let missed = |seconds: u64, due: u64, acked: u64| {
            let mut snapshot = Snapshot::empty();
            (snapshot.elapsed, snapshot.span) = (seconds * SECOND, seconds * SECOND);
            (snapshot.scheduled, snapshot.unsettled) = (due, due - acked);
            (snapshot.account.ledger.generated, snapshot.account.ledger.acked) = (due, acked);
            snapshot.account.response_time.record(SECOND / 10, acked);
            judge.missed(&[Arc::new(snapshot)])
        };
        // Nothing was due so far.
        assert_eq!(missed(5, 0, 0), None);
        // What was due in the last tenth of a second is on its way.
        assert_eq!(missed(5, 500, 490), None);
        let shortfall = missed(5, 500, 450).unwrap();
        // The rate is told as it is.
        assert!((shortfall.value - 90.0).abs() < 1e-9 && !shortfall.passed, "{shortfall:?}");
        // Of a silent stream nothing is acked: a second is enough to tell.
        assert!(missed(5, 500, 0).is_some());
    }

    #[test]
    fn a_running_load_is_judged_by_what_time_can_still_not_mend() {
        let judge = judge(&["acked > 1000", "lost < 5"], &[""]);
        let mut snapshot = Snapshot::empty();
        (snapshot.span, snapshot.account.ledger.acked) = (crate::load::SECOND, 100);
        assert_eq!(judge.missed(&[Arc::new(snapshot.clone())]), None);
        snapshot.account.ledger.failed = 5;
        let missed = judge.missed(&[Arc::new(snapshot)]).unwrap();
        assert_eq!((missed.expr.as_str(), missed.passed), ("lost < 5", false));
        assert!((missed.value - 5.0).abs() < 0.1);
    }
}
