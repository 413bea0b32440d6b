//! The validated plan of a run: every setting given its meaning, every mistake told at once.

use crate::config::{ConfigError, Settings};
use crate::kinesis::limits::MAX_RECORD_BYTES;
use crate::kinesis::protocol::Form;
use crate::load::Nanos;
use crate::observe::Threshold;
use crate::producer::Bounds;
use crate::settings::Key;
use crate::tick::{EventTime, Market, Template, TemplateText, Ticks, TimeZone};
use reader::Reader;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

mod application;
mod calibrate;
mod change;
mod cost;
mod drill;
mod files;
mod load;
mod output;
mod parse;
mod reader;
mod search;
mod sending;
mod ui;
mod verify;
mod whole;

pub use application::Application;
pub use calibrate::{CalibratePlan, OF_CALIBRATION, of_the_ceiling};
pub use change::{Change, Changes};
pub use cost::CostPlan;
pub use drill::{Drill, DrillTask};
pub(crate) use files::{Given, clashes};
pub use load::{LoadPlan, Offer, ReplayPlan};
pub use output::{Output, WriteTo};
pub use search::{SET_BY_SEARCH, SearchPlan};
pub use ui::Ui;
pub use verify::{IndexPlan, Login, Password, RunKnown, VerifyPlan};

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is offered; at least one.
    pub loads: Vec<LoadPlan>,
    /// Where the loads go.
    pub target: Target,
    /// What the run changes of its stream under load, by rising time.
    pub drills: Vec<Drill>,
    /// How much is kept at most, by all loads together.
    pub bounds: Bounds,
    /// How long the drain may take.
    pub drain_timeout: Nanos,
    /// The form of requests to a stream.
    pub form: Form,
    /// Connections to a stream open at once.
    pub max_connections: usize,
    /// Threads that the work is spread over, if that was set.
    pub threads: Option<usize>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one attempt.
    pub attempt_timeout: Duration,
    /// The application that the load is for.
    pub application: Option<Application>,
    /// How the stream is read back, if it is.
    pub verify: Option<ReadBack>,
    /// The run's id, if it is not a random one.
    pub run_id: Option<u32>,
    /// What it is charged by, and what it may cost.
    pub cost: CostPlan,
    /// What is told, and where.
    pub output: Output,
    /// The settings that were given, by name.
    pub configuration: BTreeMap<String, String>,
}

/// Where the loads go.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// To an embedded Kinesis in this process.
    Embedded {
        /// Its shards; `None`: enough for the rate.
        shards: Option<u32>,
        /// Record bytes that it keeps.
        keep_bytes: u64,
    },
    /// To the streams that the loads name.
    Streams {
        /// The service's address in place of AWS's own.
        endpoint_url: Option<String>,
        /// The AWS region.
        region: Option<String>,
        /// The profile of the AWS config files.
        profile: Option<String>,
    },
    /// To no stream: the records are written as NDJSON.
    Lines(WriteTo),
}

/// How streams are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// How long after the load acked records are waited for.
    pub wait: Duration,
    /// Whether as a registered consumer, rather than by polling.
    pub fan_out: bool,
}

impl Plan {
    /// Gives the settings their meaning. `random_seed` is used if no seed is set.
    ///
    /// # Errors
    /// Every mistake that can be seen before the stream is asked.
    pub fn new(settings: &Settings, random_seed: u64) -> Result<Self, Vec<ConfigError>> {
        let mut errors: Vec<ConfigError> = Vec::new();
        let mut note = |more: Vec<ConfigError>| {
            for error in more {
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
        };
        let mut loads = Vec::new();
        for (name, own) in (0..).zip(settings.loads()).map(|(place, (name, own))| ((name, place), own)) {
            let mut reader = Reader { settings: &own, errors: Vec::new() };
            // Loads that share a random seed would offer the same records.
            loads.extend(reader.load(name.0, random_seed.wrapping_add(name.1)));
            note(reader.errors);
        }
        let mut reader = Reader { settings, errors: Vec::new() };
        let plan = reader.plan(loads);
        note(reader.errors);
        match plan {
            Some(plan) if errors.is_empty() => Ok(plan),
            _ => Err(errors),
        }
    }

    /// The admin server's address alone.
    ///
    /// # Errors
    /// If it is none.
    pub fn admin_addr(settings: &Settings) -> Result<Option<SocketAddr>, Vec<ConfigError>> {
        let mut reader = Reader { settings, errors: Vec::new() };
        reader.read_if_set(Key::AdminAddr, parse::address).ok_or(reader.errors)
    }

    /// The rate that all loads offer together throughout, in records per second, if there is one.
    #[must_use]
    pub fn constant_rate(&self) -> Option<f64> {
        self.loads.iter().map(LoadPlan::constant_rate).sum()
    }

    /// Whether every load falls due whatever becomes of it.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        self.loads.iter().all(LoadPlan::is_open_loop)
    }

    /// How many threads its run takes; `None`: one for each processor.
    ///
    /// A load that is a small part of what one thread carries is given one: of several, each that wakes for something
    /// to do wakes the next to look for more. At 100,000 aggregated records/s that made a tenth to a fifth of the
    /// processor time. Not one that may grow: `rereads` tells whether its config file is read again.
    #[must_use]
    pub fn threads(&self, rereads: bool) -> Option<usize> {
        let peak: Option<f64> = self.loads.iter().map(LoadPlan::small_peak).sum();
        let is_small = peak.is_some_and(|peak| peak <= ONE_THREADS_RECORDS_PER_SECOND);
        let may_grow =
            rereads || self.output.admin_addr.is_some() || self.output.ui == Ui::Live && !self.output.quiet;
        let only_sends = matches!(self.target, Target::Streams { .. }) && self.verify.is_none();
        self.threads.or((is_small && only_sends && !may_grow).then_some(1))
    }
}

/// What one thread carries with a fifth of its time, or less: small ones, of less than 128 bytes.
const ONE_THREADS_RECORDS_PER_SECOND: f64 = 100_000.0;

impl Reader<'_> {
    /// The plan of the whole run, for these loads.
    fn plan(&mut self, loads: Vec<LoadPlan>) -> Option<Plan> {
        let target = self.target(&loads);
        let drills = self.drills(&loads, target.as_ref());
        let bounds = self.bounds();
        let drain_timeout = self.read(Key::DrainTimeout, parse::time);
        let form = self.read(Key::Wire, str::parse);
        let max_connections = self.read(Key::MaxConnections, parse::between(1, 10_000));
        let threads = self.read_if_set(Key::Threads, parse::between(1, 1024));
        let connect_timeout = self.read(Key::ConnectTimeout, parse::positive_time);
        let attempt_timeout = self.read(Key::AttemptTimeout, parse::positive_time);
        let application = self.application();
        let verify = self.verify(&loads, target.as_ref());
        let run_id = self.read_if_set(Key::RunId, parse::run_id);
        let cost = self.cost(target.as_ref());
        let output = self.output();
        self.check_sizes(&loads, bounds, target.as_ref());
        if let Some(output) = &output
            && loads.iter().any(|load| !load.is_open_loop())
            && output.thresholds.iter().any(Threshold::needs_target)
        {
            self.refuse(Key::Threshold, "a share of the target rate, which --rps max does not have");
        }
        for threshold in output.iter().flat_map(|output| &output.thresholds) {
            let names = loads.iter().map(|load| load.name.as_str()).filter(|name| !name.is_empty());
            if !threshold.is_of(names) {
                self.refuse(Key::Threshold, format!("{}: no [[load]] has that name", threshold.text()));
            }
            if threshold.is_of_drills() && drills.as_ref().is_some_and(Vec::is_empty) {
                self.refuse(Key::Threshold, format!("{}: needs a --drill", threshold.text()));
            }
            if threshold.is_of_proof() && verify == Some(None) {
                self.refuse(Key::Threshold, format!("{}: needs --verify", threshold.text()));
            }
        }
        let mut output = output?;
        let open_loops = loads.iter().filter(|load| load.is_open_loop()).map(|load| load.name.as_str());
        output.thresholds = Threshold::with_defaults(&output.thresholds, open_loops);
        Some(Plan {
            loads,
            target: target?,
            drills: drills?,
            bounds: bounds?,
            drain_timeout: drain_timeout?,
            form: form?,
            max_connections: usize::try_from(max_connections?).ok()?,
            threads: threads?.and_then(|n| usize::try_from(n).ok()),
            connect_timeout: Duration::from_nanos(connect_timeout?),
            attempt_timeout: Duration::from_nanos(attempt_timeout?),
            application: application?,
            verify: verify?,
            run_id: run_id?,
            cost: cost?,
            output,
            configuration: self.settings.given(),
        })
    }

    fn target(&mut self, loads: &[LoadPlan]) -> Option<Target> {
        let to = self.text(Key::To).map(WriteTo::read_named);
        let endpoint_url = self.read_if_set(Key::EndpointUrl, parse::url);
        let (region, profile) = (self.text(Key::Region), self.text(Key::Profile));
        let shards = self.read_if_set(Key::Shards, parse::between(1, 10_000));
        let keep_bytes = self.read(Key::EmbeddedBytes, parse::size);
        let with_stream = loads.iter().filter(|load| load.stream.is_some()).count();
        if let Some(to) = to {
            let others = [
                Key::Stream,
                Key::EndpointUrl,
                Key::Region,
                Key::Profile,
                Key::Wire,
                Key::Shards,
                Key::Aggregate,
            ];
            for key in others {
                if self.is_set(key) {
                    self.refuse(key, "is for a stream; with --to the records go to none");
                }
            }
            let aggregates = loads.iter().any(|load| load.aggregate_bytes.is_some());
            if !self.is_set(Key::Stream) && with_stream > 0 || !self.is_set(Key::Aggregate) && aggregates {
                self.refuse(Key::To, "a load names a stream or aggregates; with --to the records go to none");
            }
            return Some(Target::Lines(to));
        }
        if with_stream > 0 || self.is_set(Key::Stream) {
            if self.is_set(Key::Shards) {
                self.refuse(Key::Shards, "is for the embedded stream; --stream has its own shards");
            }
            if with_stream < loads.len() {
                self.refuse(Key::Stream, "every load needs one, or none: the embedded Kinesis is used alone");
            }
            return Some(Target::Streams { endpoint_url: endpoint_url?, region, profile });
        }
        for key in [Key::EndpointUrl, Key::Region, Key::Profile] {
            if self.is_set(key) {
                self.refuse(key, "needs a --stream; without one the load goes to the embedded Kinesis");
            }
        }
        if !cfg!(feature = "embedded") {
            self.refuse(
                Key::Stream,
                "is needed: this build has no embedded Kinesis (cargo feature `embedded`)",
            );
        }
        let shards = shards?.and_then(|n| u32::try_from(n).ok());
        Some(Target::Embedded { shards, keep_bytes: keep_bytes? as u64 })
    }

    fn bounds(&mut self) -> Option<Bounds> {
        let backlog = self.read(Key::MaxBacklog, parse::between(1, 1_000_000_000));
        let requests = self.read(Key::MaxRequests, parse::between(1, 10_000));
        let bytes = self.read(Key::MaxInFlightBytes, parse::size);
        Some(Bounds { backlog: backlog?, requests: usize::try_from(requests?).ok()?, bytes: bytes? })
    }

    fn check_sizes(&mut self, loads: &[LoadPlan], bounds: Option<Bounds>, target: Option<&Target>) {
        let largest = loads.iter().map(|load| load.batch.bytes).max();
        if let (Some(largest), Some(bounds)) = (largest, bounds)
            && bounds.bytes < largest
        {
            self.refuse(Key::MaxInFlightBytes, "must not be smaller than --batch-bytes");
        }
        if let Some(Target::Embedded { keep_bytes, .. }) = target
            && *keep_bytes < 1024 * 1024
        {
            self.refuse(Key::EmbeddedBytes, "at least 1MiB");
        }
    }

    fn tickers(&mut self) -> Option<Vec<String>> {
        let given = self.read_all(Key::Tickers, parse::tickers)?.concat();
        parse::symbols(given).map_err(|problem| self.refuse(Key::Tickers, problem)).ok()
    }

    fn check_payload(
        &mut self,
        seed: u64,
        market: Market,
        tickers: &[String],
        payload_bytes: Option<usize>,
    ) -> Option<Ticks> {
        if payload_bytes.is_some_and(|bytes| bytes > MAX_RECORD_BYTES) {
            self.refuse(Key::PayloadBytes, format!("over Kinesis' record limit of {MAX_RECORD_BYTES} bytes"));
        }
        let time = EventTime::new(0, TimeZone::Utc);
        let refused = if tickers.is_empty() { Key::Tickers } else { Key::PayloadBytes };
        let ticks = Ticks::new(seed, market, tickers, payload_bytes, time);
        ticks.map_err(|error| self.refuse(refused, error)).ok()
    }

    fn check_template(&mut self, text: &TemplateText, seed: u64, ticks: &Ticks, records: Option<u64>) {
        if let Err(error) = Template::new(text, seed, ticks, records.unwrap_or(u64::MAX)) {
            self.refuse(Key::Template, error);
        }
        if self.is_set(Key::PayloadBytes) {
            self.refuse(Key::PayloadBytes, "is for the ticker record; in a template say pad(BYTES)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::ShardLimiting;
    use std::path::Path;

    pub(super) fn plan(file: &str) -> Result<Plan, Vec<String>> {
        let (settings, errors) = Settings::layer(Some((Path::new("c.toml"), file)), [], Vec::new());
        assert_eq!(errors, []);
        Plan::new(&settings, 7).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_defaults_are_a_plan() {
        let plan = plan("").unwrap();
        assert_eq!(plan.constant_rate(), Some(1000.0));
        let load = &plan.loads[0];
        assert_eq!((load.seed, load.duration, load.records), (7, None, None));
        assert_eq!(load.tickers, ["AAPL", "AMZN", "MSFT", "INTC", "TBV"]);
        assert_eq!(load.shard_limit, ShardLimiting::Auto);
        assert_eq!(load.retry.record_ttl, 30_000_000_000);
        assert_eq!(plan.bounds.bytes, 32 << 20);
        let thresholds: Vec<_> = plan.output.thresholds.iter().map(Threshold::text).collect();
        assert_eq!(thresholds, ["achieved_rps >= 99%", "lost == 0"]);
    }

    #[test]
    fn a_small_load_takes_one_thread() {
        let threads = |file: &str| plan(&format!("stream = \"s\"\n{file}")).unwrap().threads(false);
        for small in [
            "",
            "rps = 100000",
            "rps = 5\npayload-bytes = 128",
            "shape = \"sine:mean=90000,amplitude=10000,period=1m\"",
        ] {
            assert_eq!(threads(small), Some(1), "{small}");
        }
        let large = [
            "rps = 100001",
            "rps = \"max\"",
            "payload-bytes = 129",
            "shape = \"sine:mean=90000,amplitude=20000,period=1m\"",
        ];
        for large in large.into_iter().chain(["[[load]]\nrps = 60000\n[[load]]\nrps = 50000"]) {
            assert_eq!(threads(large), None, "{large}");
        }
        // The embedded Kinesis takes more than the load.
        assert_eq!(plan("rps = 5").unwrap().threads(false), None);
        // Nor does what may grow, or reads as well.
        for more in ["admin-addr = \"127.0.0.1:9\"", "ui = \"live\"", "verify = true"] {
            assert_eq!(threads(more), None, "{more}");
        }
        assert_eq!(plan("stream = \"s\"").unwrap().threads(true), None);
        assert_eq!((threads("threads = 3"), plan("threads = 3").unwrap().threads(true)), (Some(3), Some(3)));
    }

    #[test]
    fn a_number_of_tickers_is_made_up() {
        for file in ["tickers = 500", "tickers = \"500\"", "tickers = [\"500\"]"] {
            let plan = plan(file).unwrap();
            assert_eq!(
                (plan.loads[0].tickers.len(), plan.loads[0].tickers[0].as_str()),
                (500, "TAGH"),
                "{file}"
            );
        }
        // Symbols that are numbers, as in Tokyo.
        assert_eq!(plan("tickers = \"7203,6758\"").unwrap().loads[0].tickers, ["7203", "6758"]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let errors = plan(
            "rps = 0\nduration = 30\nrecords = 0\nseed = -1\nkeys = \"hot\"\nlocal-time = \"maybe\"\n\
             batch-entries = 501\nbatch-bytes = \"5 apples\"\nshard-limit = \"x\"\nrecord-ttl = \"0s\"\n\
             max-attempts = 4294967296\nmax-backlog = 0\nadmin-addr = \"nowhere\"\nlog-level = \"loud\"\n\
             log-format = \"xml\"\nthreshold = \"p99 << 5\"\nshards = 0\nendpoint-url = \"localhost\"\n",
        )
        .unwrap_err();
        for line in 1..=18 {
            assert!(
                errors.iter().any(|e| e.starts_with(&format!("c.toml:{line}: "))),
                "line {line}: {errors:#?}"
            );
        }
    }

    #[test]
    fn impossible_combinations_are_refused() {
        for (file, start) in [
            ("record-ttl = \"5ms\"", "c.toml:1: record-ttl = 5ms: must be at least twice --linger"),
            (
                "admin-linger = \"5s\"",
                "c.toml:1: admin-linger = 5s: is for the admin server; set --admin-addr",
            ),
            ("max-backoff = \"1ms\"", "c.toml:1: max-backoff = 1ms: must not be shorter"),
            ("batch-bytes = \"11MiB\"", "c.toml:1: batch-bytes = 11MiB: Kinesis takes 1 to 10485760"),
            ("max-in-flight-bytes = \"1MiB\"", "c.toml:1: max-in-flight-bytes = 1MiB: must not be smaller"),
            (
                "payload-bytes = 20",
                "c.toml:1: payload-bytes = 20: a record with its padding field takes at least",
            ),
            ("payload-bytes = \"11MiB\"", "c.toml:1: payload-bytes = 11MiB: over Kinesis' record limit"),
            (
                "aggregate = true\naggregate-bytes = \"11MiB\"",
                "c.toml:2: aggregate-bytes = 11MiB: over Kinesis'",
            ),
            (
                "tickers = 100001",
                "c.toml:1: tickers = 100001: expected symbols, or how many to make up: 1 to 100000",
            ),
            ("market = \"bull\"", "c.toml:1: market = bull: expected random or walk"),
            ("template = \"/nowhere\"", "c.toml:1: template = /nowhere: No such file"),
            ("tickers = []", "c.toml:1: tickers = : at least one ticker"),
            ("region = \"eu-west-1\"", "c.toml:1: region = eu-west-1: needs a --stream"),
            ("stream = \"s\"\nshards = 4", "c.toml:2: shards = 4: is for the embedded stream"),
            (
                "drill = \"at=1s merge\"",
                "c.toml:1: drill = at=1s merge: changes the stream itself: allow that",
            ),
            (
                "allow-drill = true\nduration = \"5s\"\ndrill = [\"at=1s merge\", \"at=5s merge\"]",
                "c.toml:3: drill = at=1s merge, at=5s merge: at=5s merge comes after the end of the load at 5s",
            ),
            ("start-when = \"https://app/ready\"", "c.toml:1: start-when = https://app/ready: https is not"),
            ("stop-when-gone = true", "c.toml:1: stop-when-gone = true: needs --start-when"),
            ("embedded-bytes = 5", "c.toml:1: embedded-bytes = 5: at least 1MiB"),
            (
                "rps = \"max\"\nthreshold = \"achieved_rps > 5%\"",
                "c.toml:2: threshold = achieved_rps > 5%: a share of",
            ),
        ] {
            let errors = plan(file).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with(start), "{file}: {errors:?}");
        }
    }

    #[test]
    fn drills_are_sorted_by_their_time() {
        let plan = plan("allow-drill = true\ndrill = [\"at=9s merge\", \"at=2s split=hottest\"]").unwrap();
        let texts: Vec<String> = plan.drills.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["at=2s split=hottest", "at=9s merge"]);
    }

    #[test]
    fn defaults_that_clash_name_the_default() {
        let errors = plan("linger = \"8s\"\naggregate = true\nrps = 0").unwrap_err();
        assert_eq!(
            errors,
            [
                "c.toml:3: rps = 0: outside 0.001 to 10000000 records per second, or max",
                "record-ttl (default 30s): must be at least four times --linger with --aggregate, or records \
                 expire before they are sent"
            ]
        );
    }
}
