//! What `tickgen calibrate` does, and which settings a ceiling is of.

use super::reader::Reader;
use super::{Plan, parse};
use crate::config::{ConfigError, Raw, Settings, Source};
use crate::settings::Key;
use std::collections::BTreeMap;

/// The settings of a run that `tickgen calibrate` has too: first those that a record costs by, then those of what
/// is told.
pub const OF_CALIBRATION: [Key; 17] = [
    Key::Market,
    Key::Tickers,
    Key::Template,
    Key::PayloadBytes,
    Key::Keys,
    Key::LocalTime,
    Key::Wire,
    Key::Aggregate,
    Key::AggregateBytes,
    Key::BatchEntries,
    Key::BatchBytes,
    Key::Stamp,
    Key::Summary,
    Key::Quiet,
    Key::LogLevel,
    Key::LogFormat,
    Key::Seed,
];

/// Of those, the settings that a ceiling is of: a run with others has another one.
const OF_THE_CEILING: &[Key] = OF_CALIBRATION.split_at(12).0;

/// What a calibration does.
#[derive(Clone, Debug)]
pub struct CalibratePlan(Plan);

impl CalibratePlan {
    /// Gives the settings their meaning. `random_seed` is used if no seed is set.
    ///
    /// # Errors
    /// Every mistake that can be seen before anything is sent.
    pub fn new(settings: &Settings, random_seed: u64) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader { settings, errors: Vec::new() };
        let span = reader.read(Key::CalibrateDuration, parse::at_least_100ms);
        let mut errors = reader.errors;
        if settings.loads().iter().any(|(name, _)| !name.is_empty()) {
            errors.push(ConfigError::elsewhere("[[load]]", "tickgen calibrate sends one load; leave it out"));
        }
        let run = Plan::new(&settings_of_the_run(settings), random_seed);
        let run = run.map_err(|more| errors.extend(more)).ok();
        let plan = run.zip(span).map(|(mut run, span)| {
            run.loads.iter_mut().for_each(|load| load.duration = Some(span));
            Self(run)
        });
        plan.filter(|_| errors.is_empty()).ok_or(errors)
    }

    /// The run that it makes, without TLS and with it.
    #[must_use]
    pub fn run(&self) -> &Plan {
        &self.0
    }
}

/// The settings that say what records are, and those of a run as fast as answers allow. What else stands in
/// a file or a variable is for runs.
fn settings_of_the_run(settings: &Settings) -> Settings {
    let own = OF_CALIBRATION.map(|key| (key, settings.get(key).clone()));
    let fixed = [(Key::Stream, "null"), (Key::Rps, "max"), (Key::ShardLimit, "none")];
    let fixed = fixed.map(|(key, text)| (key, Raw { texts: vec![text.to_owned()], source: Source::Default }));
    Settings::layer(None, [], own.into_iter().chain(fixed).collect()).0
}

/// Those of the given settings that a ceiling is of, if they are the same for the whole run. A value that is
/// the default is as good as none.
#[must_use]
pub fn of_the_ceiling(configuration: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let mut of_it = BTreeMap::new();
    for (name, value) in configuration {
        let own = name.strip_prefix("loads.").and_then(|rest| rest.rsplit('.').next());
        let Some(key) = Key::named(own.unwrap_or(name)).filter(|key| OF_THE_CEILING.contains(key)) else {
            continue;
        };
        if own.is_some() {
            return None;
        }
        if value != key.setting().default {
            of_it.insert(name.clone(), value.clone());
        }
    }
    Some(of_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use crate::plan::{Offer, Target};

    fn given(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_ceiling_is_of_the_settings_that_a_record_costs_by() {
        let run = given(&[("aggregate", "true"), ("rps", "5"), ("wire", "json"), ("loads.a.rps", "7")]);
        assert_eq!(of_the_ceiling(&run), Some(given(&[("aggregate", "true")])));
        assert_eq!(of_the_ceiling(&given(&[("loads.a.payload-bytes", "7")])), None);
    }

    #[test]
    fn what_is_for_runs_is_left_to_them() {
        let variables = [("TICKGEN_RPS", "5"), ("TICKGEN_SHARDS", "2"), ("TICKGEN_AGGREGATE", "true")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (settings, errors) = Settings::layer(None, variables, Vec::new());
        assert_eq!(errors, []);
        let plan = CalibratePlan::new(&settings, 1).unwrap();
        let load = &plan.run().loads[0];
        assert!(matches!(load.offer, Offer::Max) && load.aggregate_bytes.is_some());
        assert_eq!(load.duration, Some(3 * SECOND));
        assert!(matches!(plan.run().target, Target::Streams { endpoint_url: None, .. }));
    }
}
