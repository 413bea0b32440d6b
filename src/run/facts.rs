//! What is known of a run besides its counts.

use super::destination::{Destination, Destinations};
use crate::admin::process_figures;
use crate::kinesis::Client;
use crate::observe::{LoadFacts, RunFacts, RunGauges};
use crate::plan::{LoadPlan, Plan};

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
    }
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
        loads: plan.loads.iter().map(|load| load.name.clone()).collect(),
        streams,
        run_id: facts.run_id.clone(),
        process: process_figures,
    }
}
