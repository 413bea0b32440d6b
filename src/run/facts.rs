//! What is known of a run besides its counts.

use super::ceiling::ceiling;
use super::destination::{Destination, Destinations};
use crate::admin::{process_figures, system};
use crate::config::without_credentials;
use crate::cost::{CapacityMode, Tariff};
use crate::kinesis::Client;
use crate::load::Nanos;
use crate::observe::{About, Environment, LoadFacts, ProcessFigures, RunFacts, RunGauges, StreamFacts};
use crate::plan::{LoadPlan, Offer, Plan, Target};
use crate::producer::Snapshot;
use crate::tick::{StampPlace, TimeZone};
use crate::verify::{AckBook, Manifest, ManifestLoad};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// What is known of the run besides its counts.
pub(super) fn facts(
    plan: &Plan,
    to: &Destinations,
    run: u32,
    started_at: chrono::DateTime<chrono::Utc>,
) -> RunFacts {
    let of_load = |(load, to): (&LoadPlan, &Destination)| LoadFacts {
        name: load.name.clone(),
        seed: load.seed,
        stream: to.stream.as_str().to_owned(),
        constant_rps: load.constant_rate(),
        open_loop: load.is_open_loop(),
    };
    RunFacts {
        run_id: format!("{run:08x}"),
        started_at: started_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        loads: plan.loads.iter().zip(&to.loads).map(of_load).collect(),
        about: About {
            configuration: plan.configuration.clone(),
            environment: Some(environment(plan, to)),
            tariff: tariff(plan, to),
            ceiling: ceiling(plan),
        },
    }
}

/// What `tickgen verify` must know of a run. `acked`: of each load, what was, if its records are stamped.
pub(super) fn manifest(
    plan: &Plan,
    start_unix_ns: Nanos,
    acked: &[AckBook],
    loads: &[Arc<Snapshot>],
) -> Manifest {
    let cannot = plan.loads.iter().find_map(|load| match load {
        LoadPlan { stamps: StampPlace::None, .. } => {
            Some("its records do not say which they are: run it with --stamp key or --stamp body")
        }
        LoadPlan { offer: Offer::Replay(_), .. } => Some("replayed records cannot be made again to compare"),
        _ => None,
    });
    if let Some(cannot) = cannot {
        return Manifest { cannot: Some(cannot.to_owned()), start_unix_ns, loads: Vec::new() };
    }
    let of_load = |((load, acked), snapshot): ((&LoadPlan, &AckBook), &Arc<Snapshot>)| {
        let local = load.zone == TimeZone::Local;
        ManifestLoad {
            name: load.name.clone(),
            stream: load.stream.as_ref().map(|stream| stream.as_str().to_owned()),
            stamp: load.stamps,
            seed: load.seed,
            numbers: snapshot.scheduled,
            not_acked: acked.not_acked(snapshot.scheduled),
            settings: load.content.clone(),
            template: load.template.as_ref().map(|template| template.text.clone()),
            local_utc_offset_s: local.then(|| local_utc_offset_s(start_unix_ns)).flatten(),
        }
    };
    let loads = plan.loads.iter().zip(acked).zip(loads).map(of_load).collect();
    Manifest { cannot: None, start_unix_ns, loads }
}

/// The processor time that a run uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    since: Instant,
    // What the process had used by then; `None` where the system does not tell.
    before: Option<ProcessFigures>,
}

impl Usage {
    /// Of a run that begins now.
    pub(super) fn begin() -> Self {
        Self { since: Instant::now(), before: process_figures() }
    }

    /// The share of its processors' time that it used so far, of as many as it has threads for.
    pub(super) fn share(self) -> Option<f64> {
        let (before, now) = (self.before?, process_figures()?);
        let threads = Handle::current().metrics().num_workers();
        let possible = self.since.elapsed().as_secs_f64() * now.processors.min(threads) as f64;
        (possible > 0.0).then(|| ((now.cpu_seconds - before.cpu_seconds) / possible).min(1.0))
    }
}

/// How far the zone of this machine was ahead of UTC then, in seconds.
pub(super) fn local_utc_offset_s(unix: Nanos) -> Option<i32> {
    let then = chrono::DateTime::from_timestamp_nanos(i64::try_from(unix).ok()?);
    Some(then.with_timezone(&chrono::Local).offset().local_minus_utc())
}

/// Each stream once, with a load that goes there.
fn streams(to: &Destinations) -> impl Iterator<Item = &Destination> {
    let first = |place: usize| to.loads.iter().position(|to| to.place == place);
    to.loads.iter().enumerate().filter(move |(at, to)| first(to.place) == Some(*at)).map(|(_, to)| to)
}

fn environment(plan: &Plan, to: &Destinations) -> Environment {
    let stream = |to: &Destination| StreamFacts {
        stream: to.stream.as_str().to_owned(),
        shards: to.map.shards().len() as u64,
        mode: match &plan.target {
            Target::Lines(_) => StreamFacts::LINES,
            Target::Embedded { .. } => "embedded",
            Target::Streams { .. } if to.info.on_demand => "on_demand",
            Target::Streams { .. } => "provisioned",
        }
        .to_owned(),
        region: region(&to.info.arn),
        endpoint: match &plan.target {
            Target::Streams { endpoint_url: Some(url), .. } => Some(without_credentials(url)),
            _ => None,
        },
    };
    Environment { streams: streams(to).map(stream).collect(), ..system() }
}

/// The region in `arn:aws:kinesis:REGION:...`.
fn region(arn: &str) -> Option<String> {
    arn.split(':').nth(3).filter(|region| !region.is_empty()).map(str::to_owned)
}

/// What the run is charged by; `None` if it goes to no stream.
pub(super) fn tariff(plan: &Plan, to: &Destinations) -> Option<Tariff> {
    if matches!(plan.target, Target::Lines(_)) {
        return None;
    }
    let of_stream = match plan.target {
        // The region of the embedded one is made up.
        Target::Embedded { .. } => None,
        _ => to.loads.first().and_then(|to| region(&to.info.arn)),
    };
    let region = plan.cost.region.clone().or(of_stream).unwrap_or_else(|| "us-east-1".to_owned());
    let on_demand = to.loads.iter().any(|to| to.info.on_demand);
    Some(Tariff {
        prices: plan.cost.prices.regions.get(&region).cloned(),
        prices_as_of: plan.cost.prices.as_of.clone(),
        region,
        mode: if on_demand { CapacityMode::OnDemand } else { CapacityMode::Provisioned },
        streams: streams(to).count() as u64,
        readers: u64::from(plan.verify.is_some()),
        fan_out: plan.verify.is_some_and(|read_back| read_back.fan_out),
        max_usd: plan.cost.max_usd,
    })
}

pub(super) fn tell_loads(facts: &RunFacts, to: &Destinations) {
    for (load, to) in facts.loads.iter().zip(&to.loads) {
        tracing::info!(
            run = facts.run_id,
            load = (!load.name.is_empty()).then_some(&load.name),
            seed = load.seed,
            stream = load.stream,
            arn = to.info.arn,
            shards = to.map.shards().len(),
            on_demand = to.info.on_demand,
            "offering the load"
        );
    }
}

pub(super) fn gauges(plan: &Plan, to: &Destinations, facts: &RunFacts) -> RunGauges {
    let mut connections = Vec::new();
    // Loads of one stream share a client.
    let mut streams: Vec<String> = Vec::new();
    for to in &to.loads {
        if !streams.iter().any(|known| known == to.stream.as_str()) {
            streams.push(to.stream.as_str().to_owned());
            connections.extend(to.to.client().map(Client::connections));
        }
    }
    RunGauges {
        connections,
        loads: plan.loads.iter().map(label).collect(),
        streams,
        run_id: facts.run_id.clone(),
        ceiling: facts.about.ceiling,
        process: process_figures,
    }
}

/// What a load is called in the metrics, where an empty label is none.
fn label(load: &LoadPlan) -> String {
    if load.name.is_empty() { "main".to_owned() } else { load.name.clone() }
}
