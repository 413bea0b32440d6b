use super::reader::Reader;
use super::{Offer, Plan, parse};
use crate::config::{ConfigError, Settings, Source};
use crate::load::{Arrivals, Nanos, Rate, SECOND, Shape};
use crate::observe::Threshold;
use crate::settings::Key;

/// The settings of a run that a search sets itself, and by what flags of its own.
pub const SET_BY_SEARCH: [(Key, &str); 6] = [
    (Key::Rps, "--from and --to"),
    (Key::Warmup, "--step-warmup"),
    (Key::Duration, "--step-duration"),
    (Key::Records, "--step-duration"),
    (Key::Threshold, "--slo"),
    (Key::AbortOnThreshold, "--slo"),
];

/// What is part of every objective: the rate is held, and every record that falls due is made.
const RATE_IS_HELD: [&str; 2] = ["achieved_rps >= 99%", "dropped == 0"];

/// What a search does: it offers one rate after another, each like a run.
#[derive(Clone, Debug)]
pub struct SearchPlan {
    // The run of every rate but for what `point` sets.
    run: Plan,
    /// What must hold: the conditions given, and that the rate is held.
    pub objective: Vec<Threshold>,
    /// The rate to begin with.
    pub from: Rate,
    /// The highest rate to try.
    pub to: Rate,
    /// How long a rate is measured.
    pub step: Nanos,
    /// How long it is offered before that.
    pub warmup: Nanos,
    /// How close the highest rate that holds and the lowest that does not must come (0.01 = 1 %).
    pub precision: f64,
}

impl SearchPlan {
    /// Gives the settings their meaning. `random_seed` is used if no seed is set.
    ///
    /// # Errors
    /// Every mistake that can be seen before the stream is asked.
    pub fn new(settings: &Settings, random_seed: u64) -> Result<Self, Vec<ConfigError>> {
        // What the search sets itself may stand in a file or a variable, for runs.
        let mut of_runs = settings.clone();
        of_runs.reset(&SET_BY_SEARCH.map(|(key, _)| key));
        let run = Plan::new(&of_runs, random_seed);
        let mut reader = Reader { settings, errors: Vec::new() };
        let search = reader.search(run.as_ref().ok());
        let mut errors = run.err().unwrap_or_default();
        errors.extend(reader.errors);
        if settings.loads().iter().any(|(name, _)| !name.is_empty()) {
            errors.push(ConfigError::elsewhere("[[load]]", "tickgen search offers one load; leave it out"));
        }
        search.filter(|_| errors.is_empty()).ok_or(errors)
    }

    /// The run that offers `rate`, the `place`-th of the search. Each has a seed of its own, so that a
    /// rate that is offered again is not offered the same keys.
    #[must_use]
    pub fn point(&self, rate: Rate, place: u64) -> Plan {
        let mut plan = self.run.clone();
        for load in &mut plan.loads {
            let arrivals = match load.offer {
                Offer::Open(_, arrivals) => arrivals,
                Offer::Max | Offer::Replay(_) => Arrivals::Even,
            };
            load.offer = Offer::Open(Shape::constant(rate), arrivals);
            load.warmup = self.warmup;
            load.duration = Some(self.warmup.saturating_add(self.step));
            load.seed = load.seed.wrapping_add(place);
        }
        plan.output.thresholds.clone_from(&self.objective);
        plan
    }

    /// The settings of all its runs.
    #[must_use]
    pub fn runs(&self) -> &Plan {
        &self.run
    }
}

impl Reader<'_> {
    /// The search whose rates are offered by `run`; `None` for either if something is wrong.
    fn search(&mut self, run: Option<&Plan>) -> Option<SearchPlan> {
        self.refuse_what_a_search_sets();
        let slo = self.slo();
        let from = self.read(Key::SearchFrom, |text| text.parse::<Rate>().map_err(parse::told));
        let to = self.read(Key::SearchTo, |text| text.parse::<Rate>().map_err(parse::told));
        let step = self.read(Key::SearchStepDuration, parse::time);
        let warmup = self.read(Key::SearchStepWarmup, parse::time);
        let precision = self.read(Key::SearchPrecision, precision);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            self.refuse(Key::SearchFrom, "must not be more than --to");
        }
        if step.is_some_and(|step| step < SECOND) {
            self.refuse(Key::SearchStepDuration, "at least 1s: a stream's limits are per second");
        }
        let standing = RATE_IS_HELD.iter().filter_map(|text| Threshold::parse(text).ok());
        Some(SearchPlan {
            run: run?.clone(),
            objective: slo?.into_iter().chain(standing).collect(),
            from: from?,
            to: to?,
            step: step?,
            warmup: warmup?,
            precision: precision?,
        })
    }

    fn slo(&mut self) -> Option<Vec<Threshold>> {
        if self.text(Key::SearchSlo).is_none() {
            self.refuse(Key::SearchSlo, "is needed, such as --slo 'response_time_ms.p99 < 200'");
            return None;
        }
        let slo = self.read(Key::SearchSlo, |text| Threshold::parse_all(text).map_err(parse::told))?;
        if slo.iter().any(Threshold::is_of_proof) {
            self.refuse(Key::SearchSlo, "tickgen search reads no stream back");
        }
        if slo.iter().any(|condition| !condition.is_of([].into_iter())) {
            self.refuse(Key::SearchSlo, "tickgen search offers one load, which has no name");
        }
        Some(slo)
    }

    fn refuse_what_a_search_sets(&mut self) {
        for (key, by) in SET_BY_SEARCH {
            if self.raw(key).source == Source::Flag {
                self.refuse(key, format!("is set by tickgen search itself: {by}"));
            }
        }
        if self.text(Key::Shape).is_some_and(|shape| shape != "constant") {
            self.refuse(Key::Shape, "tickgen search offers constant rates");
        }
        for key in [Key::RunId, Key::Report, Key::HdrLog, Key::MaxCost] {
            if self.is_set(key) {
                self.refuse(key, "is for one run; tickgen search makes many");
            }
        }
        if self.is_set(Key::Drill) {
            self.refuse(Key::Drill, "tickgen search needs a stream that stays as it is");
        }
        if self.is_set(Key::To) {
            self.refuse(Key::To, "tickgen search needs a stream; records written to a file find no limit");
        }
    }
}

/// `0.25%`, from a thousandth to a half.
fn precision(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    match percent {
        Some(percent) if (0.1..=50.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected a percentage from 0.1% to 50%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Raw;
    use std::path::Path;

    fn search(file: &str, flags: &[(Key, &str)]) -> Result<SearchPlan, Vec<String>> {
        let flags = flags
            .iter()
            .map(|(key, text)| (*key, Raw { texts: vec![(*text).to_owned()], source: Source::Flag }))
            .collect();
        let (settings, errors) = Settings::layer(Some((Path::new("c.toml"), file)), [], flags);
        assert_eq!(errors, []);
        SearchPlan::new(&settings, 7).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_point_is_a_run_at_its_rate() {
        let file = "search-slo = \"lost == 0\"\nsearch-step-duration = \"3s\"\nrps = 5\nrecords = 9\n\
                    threshold = [\"acked == 0\"]\narrivals = \"poisson\"\nkeys = \"ticker\"\n";
        let search = search(file, &[(Key::SearchTo, "500")]).unwrap();
        let texts: Vec<_> = search.objective.iter().map(Threshold::text).collect();
        assert_eq!(texts, ["lost == 0", "achieved_rps >= 99%", "dropped == 0"]);
        let plan = search.point("250".parse().unwrap(), 3);
        assert_eq!(plan.output.thresholds, search.objective);
        let load = &plan.loads[0];
        assert_eq!((load.seed, load.records, load.warmup), (10, None, 2 * SECOND));
        assert!(matches!(&load.offer, Offer::Open(_, Arrivals::Poisson)));
        let schedule = load.schedule().unwrap();
        assert_eq!(schedule.span(), Some(5 * SECOND));
        assert_eq!(load.constant_rate(), None);
        assert!((schedule.course().rate_at(0) - 250.0).abs() < 1e-9);
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let errors = search(
            "shape = \"sine:mean=9,amplitude=5,period=10s\"\nsearch-precision = \"5\"\n[[load]]\n",
            &[
                (Key::Rps, "7"),
                (Key::SearchFrom, "9"),
                (Key::SearchTo, "8"),
                (Key::To, "x"),
                (Key::Linger, "1"),
            ],
        )
        .unwrap_err();
        for expected in [
            "c.toml:1: shape = sine:mean=9,amplitude=5,period=10s: tickgen search offers constant rates",
            "c.toml:2: search-precision = 5: expected a percentage from 0.1% to 50%",
            "[[load]]: tickgen search offers one load; leave it out",
            "--rps 7: is set by tickgen search itself: --from and --to",
            "--from 9: must not be more than --to",
            "--to x: tickgen search needs a stream; records written to a file find no limit",
            "--linger 1: expected a time with its unit, such as 500ms, 30s, 5m or 1h",
            "search-slo (default ): is needed, such as --slo 'response_time_ms.p99 < 200'",
        ] {
            assert!(errors.iter().any(|error| error == expected), "{expected}\n{errors:#?}");
        }
        assert_eq!(errors.len(), 8, "{errors:#?}");
    }

    #[test]
    fn a_wrong_objective_is_pointed_at() {
        let errors = search("", &[(Key::SearchSlo, "lost == 0 and p99 < 5")]).unwrap_err();
        assert!(errors[0].ends_with("    lost == 0 and p99 < 5\n                  ^"), "{}", errors[0]);
        let errors = search("", &[(Key::SearchSlo, "loads.a.lost == 0")]).unwrap_err();
        assert!(errors[0].contains("has no name"), "{}", errors[0]);
    }
}
