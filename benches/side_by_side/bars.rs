//! What tickgen is to reach, each beside what it is held against in the same round:
//! `cargo bench --bench side_by_side -- bars [ROUNDS]`.

use super::Result;
use super::measure::{Run, Server, measure, median};
use super::producers::{add_flags, plain_loop, tickgen};
use std::process::Command;

// Seconds of a run as fast as it goes, and of one at a rate: processor time is told in hundredths.
const AT_MOST: u64 = 4;
const AT_A_RATE: u64 = 20;

const MAX: &[&str] = &["--rps", "max", "--stamp", "none"];
const AGGREGATE: &[&str] = &["--rps", "max", "--stamp", "none", "--aggregate"];

/// The null servers that the runs need.
struct Servers {
    canned: Server,
    delayed: Server,
    one_shard: Server,
    thousand_shards: Server,
}

/// What one round of runs came to.
struct Round {
    plain: Run,
    single: Run,
    aggregate: Run,
    aggregate_cbor: Run,
    single_one_core: Run,
    aggregate_one_core: Run,
    single_delayed: Run,
    single_one: Run,
    single_thousand: Run,
    aggregate_one: Run,
    aggregate_thousand: Run,
    single_at_rate: Run,
    aggregate_at_rate: Run,
    idle: Run,
    one_record: Run,
}

/// One bar: what is measured, what is aimed at, and the figure of a round.
struct Bar {
    what: &'static str,
    aim: Aim,
    figure: fn(&Round) -> f64,
}

/// What a figure is to be, at least or at most; one without is told for comparison.
enum Aim {
    AtLeast(f64),
    AtMost(f64),
    Told,
}

const BARS: &[Bar] = &[
    Bar {
        what: "single records, of the plain SDK loop",
        aim: Aim::AtLeast(2.5),
        figure: |r| r.single.per_cpu() / r.plain.per_cpu(),
    },
    Bar {
        what: "`--aggregate`, of the plain SDK loop",
        aim: Aim::AtLeast(10.0),
        figure: |r| r.aggregate.per_cpu() / r.plain.per_cpu(),
    },
    Bar {
        what: "`--aggregate --wire cbor`, of the plain SDK loop",
        aim: Aim::Told,
        figure: |r| r.aggregate_cbor.per_cpu() / r.plain.per_cpu(),
    },
    Bar {
        what: "two cores, of one, by processor time",
        aim: Aim::AtLeast(1.8),
        figure: |r| two_of_one(&r.single, &r.single_one_core),
    },
    Bar {
        what: "two cores, of one, aggregated",
        aim: Aim::AtLeast(1.8),
        figure: |r| two_of_one(&r.aggregate, &r.aggregate_one_core),
    },
    Bar {
        what: "20 ms added to each answer, of the plain SDK loop without",
        aim: Aim::AtLeast(2.5),
        figure: |r| {
            let [delayed, plain] = [&r.single_delayed, &r.plain];
            (delayed.per_cpu() / plain.per_cpu()).min(delayed.rate() / plain.rate())
        },
    },
    Bar {
        what: "20 ms added to each answer, records/s of those without",
        aim: Aim::Told,
        figure: |r| r.single_delayed.rate() / r.single.rate(),
    },
    Bar {
        what: "peak memory of any run, MB",
        aim: Aim::AtMost(96.0),
        figure: |r| {
            [
                &r.single,
                &r.aggregate,
                &r.aggregate_cbor,
                &r.single_delayed,
                &r.single_at_rate,
                &r.aggregate_at_rate,
            ]
            .into_iter()
            .chain([&r.single_one, &r.aggregate_one, &r.single_thousand, &r.aggregate_thousand])
            .chain([&r.single_one_core, &r.aggregate_one_core])
            .map(|run| run.peak_mib * 1.048_576)
            .fold(0.0, f64::max)
        },
    },
    Bar {
        what: "1,000 shards, cost of one",
        aim: Aim::AtMost(1.15),
        figure: |r| r.single_one.per_cpu() / r.single_thousand.per_cpu(),
    },
    Bar {
        what: "1,000 shards, cost of one, aggregated",
        aim: Aim::AtMost(1.15),
        figure: |r| r.aggregate_one.per_cpu() / r.aggregate_thousand.per_cpu(),
    },
    Bar {
        what: "`--rps 100000`, % of a core",
        aim: Aim::AtMost(20.0),
        figure: |r| 100.0 * r.single_at_rate.share_of_a_core(),
    },
    Bar {
        what: "`--rps 100000 --aggregate`, % of a core",
        aim: Aim::AtMost(5.0),
        figure: |r| 100.0 * r.aggregate_at_rate.share_of_a_core(),
    },
    Bar {
        what: "`--rps 1`, % of a core",
        aim: Aim::AtMost(0.5),
        figure: |r| 100.0 * r.idle.share_of_a_core(),
    },
    Bar {
        what: "a run of one record, start to end, ms",
        aim: Aim::AtMost(100.0),
        figure: |r| 1e3 * r.one_record.process,
    },
    Bar { what: "plain SDK loop, records per CPU-second", aim: Aim::Told, figure: |r| r.plain.per_cpu() },
    Bar { what: "single records per CPU-second", aim: Aim::Told, figure: |r| r.single.per_cpu() },
    Bar { what: "`--aggregate`, records per CPU-second", aim: Aim::Told, figure: |r| r.aggregate.per_cpu() },
];

/// Measures all bars in so many rounds, some 110 s each, and prints their medians.
pub(crate) fn measure_all(rounds: u64) -> Result<()> {
    let servers = Servers {
        canned: Server::start(0, None)?,
        delayed: Server::start(20, None)?,
        one_shard: Server::start(0, Some(1))?,
        thousand_shards: Server::start(0, Some(1000))?,
    };
    let rounds: Vec<Round> = (0..rounds).map(|_| round(&servers)).collect::<Result<_>>()?;
    println!("| | aimed at | median | lowest | highest | |\n|---|---|---|---|---|---|");
    let missed = BARS.iter().filter(|bar| !print(bar, rounds.iter().map(bar.figure).collect())).count();
    if missed == 0 { Ok(()) } else { Err(format!("{missed} missed").into()) }
}

/// What two cores are of one by processor time: the null server has a part of them. One that keeps to one core has no
/// more than its rate.
fn two_of_one(two: &Run, one: &Run) -> f64 {
    if two.share_of_a_core() > 1.1 { 2.0 * two.per_cpu() / one.per_cpu() } else { two.rate() / one.rate() }
}

fn round(servers: &Servers) -> Result<Round> {
    let Servers { canned, delayed, one_shard, thousand_shards } = servers;
    let run = |server: &Server, seconds, flags: &[&str]| measure(tickgen(&server.url, seconds, flags));
    let at_rate = |flags: &[&str]| run(canned, AT_A_RATE, flags);
    Ok(Round {
        plain: measure(plain_loop(&canned.url, AT_MOST)?)?,
        aggregate: run(canned, AT_MOST, AGGREGATE)?,
        single: run(canned, AT_MOST, MAX)?,
        aggregate_cbor: run(canned, AT_MOST, &[AGGREGATE, &["--wire", "cbor"]].concat())?,
        single_one_core: measure(on_one_core(canned, MAX))?,
        aggregate_one_core: measure(on_one_core(canned, AGGREGATE))?,
        single_one: run(one_shard, AT_MOST, MAX)?,
        single_thousand: run(thousand_shards, AT_MOST, MAX)?,
        aggregate_one: run(one_shard, AT_MOST, AGGREGATE)?,
        aggregate_thousand: run(thousand_shards, AT_MOST, AGGREGATE)?,
        single_delayed: run(delayed, AT_MOST, MAX)?,
        single_at_rate: at_rate(&["--rps", "100000", "--stamp", "none"])?,
        aggregate_at_rate: at_rate(&["--rps", "100000", "--stamp", "none", "--aggregate"])?,
        idle: at_rate(&["--rps", "1"])?,
        one_record: run(canned, AT_MOST, &["--rps", "max", "--records", "1"])?,
    })
}

/// tickgen where it has one core, by the system's own tool.
fn on_one_core(server: &Server, flags: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_tickgen")]);
    add_flags(&mut command, &server.url, AT_MOST, flags);
    command
}

/// Prints a bar; tells whether it is met.
fn print(bar: &Bar, figures: Vec<f64>) -> bool {
    let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(figures);
    let (aim, met) = match bar.aim {
        Aim::AtLeast(least) => (format!("≥ {least}"), Some(middle >= least)),
        Aim::AtMost(most) => (format!("≤ {most}"), Some(middle <= most)),
        Aim::Told => (String::new(), None),
    };
    let told = met.map_or("", |met| if met { "met" } else { "missed" });
    let digits = if middle >= 1e3 { 0 } else { 2 };
    println!(
        "| {} | {aim} | {middle:.digits$} | {lowest:.digits$} | {highest:.digits$} | {told} |",
        bar.what
    );
    met.unwrap_or(true)
}
