//! The ceilings of this machine, kept in a file of the user's.

use crate::admin::{cpu_model, system};
use crate::observe::{Calibrated, Calibration, Capacity, Ceiling};
use crate::plan::{LoadPlan, Offer, Plan, Target, of_the_ceiling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the file holds: one calibration for each machine and settings.
#[derive(Default, Deserialize, Serialize)]
struct Kept {
    calibrations: Vec<Calibration>,
}

/// What a ceiling with these settings is of, on this machine.
pub(super) fn of_this_machine(settings: BTreeMap<String, String>) -> Calibrated {
    Calibrated {
        tickgen_version: env!("CARGO_PKG_VERSION").to_owned(),
        cpu: cpu_model(),
        processors: system().processors,
        settings,
    }
}

/// Keeps a calibration in place of an older one of the same; tells the file.
pub(super) fn keep(calibration: &Calibration) -> Result<PathBuf, String> {
    let file = file().ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut kept = read().unwrap_or_default();
    // What another version measured is of no use.
    kept.calibrations
        .retain(|old| old.of != calibration.of && old.of.tickgen_version == calibration.of.tickgen_version);
    kept.calibrations.push(calibration.clone());
    let json = serde_json::to_vec_pretty(&kept).map_err(|error| told(&error))?;
    std::fs::create_dir_all(file.parent().unwrap_or(&file)).map_err(|error| told(&error))?;
    // Whoever reads meanwhile reads the old file or the new one.
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::write(&new, json).and_then(|()| std::fs::rename(&new, &file));
    written.map(|()| file.clone()).map_err(|error| told(&error))
}

/// The ceiling of a run, if this machine was calibrated with its settings.
pub(super) fn ceiling(plan: &Plan) -> Option<Ceiling> {
    let replayed = |load: &LoadPlan| matches!(load.offer, Offer::Replay(_));
    if plan.loads.iter().any(replayed) {
        return None;
    }
    let of = of_this_machine(of_the_ceiling(&plan.configuration)?);
    let way: fn(&Calibration) -> Capacity = if has_tls(&plan.target)? { |c| c.tls } else { |c| c.plain };
    let kept = read()?.calibrations.into_iter().find(|kept| kept.of == of)?;
    Some(Ceiling { records_per_cpu_second: way(&kept).records_per_cpu_second, processors: of.processors })
}

/// Whether records go through TLS; `None`: they go to no stream.
fn has_tls(target: &Target) -> Option<bool> {
    match target {
        Target::Lines(_) => None,
        Target::Embedded { .. } => Some(false),
        Target::Streams { endpoint_url, .. } => {
            let of_variable = || {
                let names = ["AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL"];
                names.iter().find_map(|name| std::env::var(name).ok())
            };
            let url = endpoint_url.clone().or_else(of_variable);
            Some(!url.is_some_and(|url| url.starts_with("http://")))
        }
    }
}

/// `None` as well if it is not what this version writes.
fn read() -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(file()?).ok()?).ok()
}

fn file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    // By the XDG base directory specification a relative path is none.
    let cache = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let cache = cache.or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("tickgen/ceiling.json"))
}
