use super::Threshold;
use super::figures::{Figures, WindowSummary};
use super::summary::{LoadSummary, SCHEMA_VERSION, StoppedBy, Summary, ThresholdResult};
use crate::producer::Snapshot;
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
    streams: Vec<String>,
    thresholds: Vec<Threshold>,
}

impl Judge {
    /// Of a run of these facts, with the thresholds given and those that always apply.
    #[must_use]
    pub fn new(given: &[Threshold], facts: RunFacts) -> Self {
        let mut streams: Vec<String> = Vec::new();
        for load in &facts.loads {
            if !streams.contains(&load.stream) {
                streams.push(load.stream.clone());
            }
        }
        let open_loop = facts.loads.iter().all(|load| load.open_loop);
        Self { thresholds: Threshold::with_defaults(given, open_loop), facts, streams }
    }

    /// The first threshold that does not hold for a run that is under way. Those that only its end can
    /// tell (of a count that must be reached) are left out.
    #[must_use]
    pub fn missed(&self, loads: &[Arc<Snapshot>]) -> Option<String> {
        let summary = self.figures(loads);
        let missed = |threshold: &&Threshold| !threshold.is_for_the_end() && !threshold.evaluate(&summary).1;
        self.thresholds.iter().find(missed).map(|threshold| threshold.text().to_owned())
    }

    /// The summary of a run whose loads ended with these snapshots.
    #[must_use]
    pub fn summary(&self, loads: &[Arc<Snapshot>], stopped_by: StoppedBy, error: Option<String>) -> Summary {
        let mut summary = Summary { stopped_by, error, ..self.figures(loads) };
        summary.thresholds = self
            .thresholds
            .iter()
            .map(|threshold| {
                let (value, passed) = threshold.evaluate(&summary);
                ThresholdResult { expr: threshold.text().to_owned(), value, passed }
            })
            .collect();
        summary
    }

    /// Everything but the verdict.
    fn figures(&self, snapshots: &[Arc<Snapshot>]) -> Summary {
        let mut all = Snapshot::empty();
        let mut loads = BTreeMap::new();
        let mut target_rps = Some(0.0);
        for (facts, snapshot) in self.facts.loads.iter().zip(snapshots) {
            all.merge(snapshot);
            let target =
                facts.open_loop.then(|| facts.constant_rps.unwrap_or_else(|| snapshot.scheduled_rps()));
            target_rps = target_rps.zip(target).map(|(sum, target)| sum + target);
            if !facts.name.is_empty() {
                let figures = Figures::new(snapshot, target, &self.streams);
                let (seed, stream) = (facts.seed, facts.stream.clone());
                loads.insert(facts.name.clone(), LoadSummary { seed, stream, figures });
            }
        }
        if self.facts.loads.len() > 1 && target_rps.is_some() {
            // Loads of different lengths: what fell due in the span of the longest.
            target_rps = Some(all.scheduled_rps());
        }
        Summary {
            schema_version: SCHEMA_VERSION,
            tickgen_version: env!("CARGO_PKG_VERSION"),
            run_id: self.facts.run_id.clone(),
            seed: self.facts.loads.first().map_or(0, |load| load.seed),
            stream: self.streams.join(","),
            started_at: self.facts.started_at.clone(),
            stopped_by: StoppedBy::Schedule,
            error: None,
            payload_failure: all.payload_failure.clone(),
            figures: Figures::new(&all, target_rps, &self.streams),
            loads,
            windows: all.account.windows.iter().map(WindowSummary::new).collect(),
            drills: Vec::new(),
            verify: None,
            thresholds: Vec::new(),
        }
    }
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
        };
        let thresholds: Vec<_> = thresholds.iter().map(|t| Threshold::parse(t).unwrap()).collect();
        Judge::new(&thresholds, facts)
    }

    fn summary(thresholds: &[&str]) -> Summary {
        judge(thresholds, &[""]).summary(&[Arc::new(Snapshot::empty())], StoppedBy::Schedule, None)
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
            assert_eq!(Threshold::parse(text).unwrap().evaluate(&one).1, passed, "{text}");
        }
        assert!(summary(&["achieved_rps >= 0"]).passed());
        assert!(!summary(&["achieved_rps >= 0", "acked > 0"]).passed());
    }

    #[test]
    fn loads_have_figures_of_their_own() {
        let judge = judge(
            &["loads.b.c.acked >= 5", "loads.a.acked >= 5", "loads.a.achieved_rps >= 5%"],
            &["a", "b.c"],
        );
        let mut acked = Snapshot::empty();
        acked.account.ledger.acked = 7;
        let snapshots = [Arc::new(Snapshot::empty()), Arc::new(acked)];
        let summary = judge.summary(&snapshots, StoppedBy::Schedule, None);
        let of = |text: &str| summary.thresholds.iter().find(|t| t.expr.starts_with(text)).unwrap();
        assert!(of("loads.b.c.").passed && !of("loads.a.acked").passed && !of("loads.a.achieved").passed);
        assert_eq!((summary.figures.acked, summary.loads["b.c"].figures.acked), (7, 7));
        // A figure of a load that is not there is missed, not passed.
        assert!(!Threshold::parse("loads.zzz.lost == 0").unwrap().evaluate(&summary).1);
    }

    #[test]
    fn a_running_load_is_judged_by_what_time_can_still_not_mend() {
        let judge = judge(&["acked > 1000", "lost < 5"], &[""]);
        let mut snapshot = Snapshot::empty();
        (snapshot.span, snapshot.account.ledger.acked) = (crate::load::SECOND, 100);
        assert_eq!(judge.missed(&[Arc::new(snapshot.clone())]), None);
        snapshot.account.ledger.failed = 5;
        assert_eq!(judge.missed(&[Arc::new(snapshot)]), Some("lost < 5".to_owned()));
    }
}
