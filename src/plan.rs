//! The validated plan of a run: every setting given its meaning, every mistake told at once.

use crate::config::{ConfigError, Raw, Settings, Source};
use crate::kinesis::limits::{MAX_ENTRIES, MAX_RECORD_BYTES, MAX_REQUEST_BYTES};
use crate::kinesis::protocol::StreamRef;
use crate::load::{Nanos, Rate};
use crate::observe::Threshold;
use crate::producer::{BatchBounds, Bounds, RetryPolicy, ShardLimiting};
use crate::settings::Key;
use crate::tick::{EventTime, KeyKind, Ticks, TimeZone};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod parse;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Records per second; `None`: as fast as answers allow.
    pub rate: Option<Rate>,
    /// When generating ends.
    pub duration: Option<Nanos>,
    /// After how many records generating ends.
    pub records: Option<u64>,
    /// The seed of the records.
    pub seed: u64,
    /// The ticker symbols.
    pub tickers: Vec<String>,
    /// The size to which payloads are padded, in bytes.
    pub payload_bytes: Option<usize>,
    /// How partition keys are chosen.
    pub keys: KeyKind,
    /// The zone of `EVENT_TIME`.
    pub zone: TimeZone,
    /// Where the load goes.
    pub target: Target,
    /// The size at which an aggregate is full, if records are aggregated.
    pub aggregate_bytes: Option<usize>,
    /// When a batch leaves.
    pub batch: BatchBounds,
    /// What limits the load on each shard.
    pub shard_limit: ShardLimiting,
    /// When failed records are sent again.
    pub retry: RetryPolicy,
    /// How long the drain may take.
    pub drain_timeout: Nanos,
    /// How much is kept at most.
    pub bounds: Bounds,
    /// Connections open at once.
    pub max_connections: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one attempt.
    pub attempt_timeout: Duration,
    /// What is told, and where.
    pub output: Output,
}

/// Where the load goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// An embedded Kinesis in this process.
    Embedded {
        /// Its shards; `None`: enough for the rate.
        shards: Option<u32>,
        /// Record bytes that it keeps.
        keep_bytes: u64,
    },
    /// A stream.
    Stream {
        /// Its name or ARN.
        stream: StreamRef,
        /// The service's address in place of AWS's own.
        endpoint_url: Option<String>,
        /// The AWS region.
        region: Option<String>,
        /// The profile of the AWS config files.
        profile: Option<String>,
    },
}

/// What is told, and where.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where the JSON summary goes.
    pub summary: Option<SummaryTo>,
    /// What must hold at the end.
    pub thresholds: Vec<Threshold>,
    /// Where the admin server listens.
    pub admin_addr: Option<SocketAddr>,
    /// No progress and no text summary.
    pub quiet: bool,
    /// Least severe log lines.
    pub log_level: tracing::Level,
    /// Log lines as JSON.
    pub log_json: bool,
}

/// Where the JSON summary goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SummaryTo {
    /// To stdout.
    Stdout,
    /// To a file.
    File(PathBuf),
}

impl Plan {
    /// Gives the settings their meaning. `random_seed` is used if no seed is set.
    ///
    /// # Errors
    /// Every mistake that can be seen before the stream is asked.
    pub fn new(settings: &Settings, random_seed: u64) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader { settings, errors: Vec::new() };
        match reader.plan(random_seed) {
            Some(plan) if reader.errors.is_empty() => Ok(plan),
            _ => Err(reader.errors),
        }
    }
}

struct Reader<'a> {
    settings: &'a Settings,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn plan(&mut self, random_seed: u64) -> Option<Plan> {
        // Everything is read before anything is required, so that all mistakes are found.
        let rate = self.read(Key::Rps, parse::rate);
        let duration = self.read_if_set(Key::Duration, parse::positive_time);
        let records = self.read_if_set(Key::Records, parse::positive);
        let seed = self.read_if_set(Key::Seed, parse::number);
        let tickers = self.read_all(Key::Tickers, parse::tickers);
        let payload_bytes = self.read_if_set(Key::PayloadBytes, parse::size);
        let keys =
            self.read(Key::Keys, |text| text.parse().map_err(parse::told::<crate::tick::ParseKeysError>));
        let local = self.read(Key::LocalTime, parse::switch);
        let target = self.target();
        let aggregate = self.read(Key::Aggregate, parse::switch);
        let aggregate_bytes = self.read(Key::AggregateBytes, parse::size);
        let batch = self.batch();
        let shard_limit = self.read(Key::ShardLimit, parse::shard_limit);
        let retry = self.retry();
        let drain_timeout = self.read(Key::DrainTimeout, parse::time);
        let bounds = self.bounds();
        let max_connections = self.read(Key::MaxConnections, parse::between(1, 10_000));
        let connect_timeout = self.read(Key::ConnectTimeout, parse::positive_time);
        let attempt_timeout = self.read(Key::AttemptTimeout, parse::positive_time);
        let output = self.output();
        let aggregate_bytes = aggregate_bytes.filter(|_| aggregate == Some(true));
        self.check_retry(retry, batch, aggregate_bytes.is_some());
        self.check_sizes(batch, bounds, aggregate_bytes, target.as_ref());
        if let (Some(tickers), Some(payload_bytes)) = (&tickers, payload_bytes) {
            self.check_payload(&tickers.concat(), payload_bytes);
        }
        if let (Some(None), Some(output)) = (rate, &output)
            && output.thresholds.iter().any(Threshold::needs_target)
        {
            self.refuse(Key::Threshold, "a share of the target rate, which --rps max does not have");
        }
        Some(Plan {
            rate: rate?,
            duration: duration?,
            records: records?,
            seed: seed?.unwrap_or(random_seed),
            tickers: tickers?.concat(),
            payload_bytes: payload_bytes?,
            keys: keys?,
            zone: if local? { TimeZone::Local } else { TimeZone::Utc },
            target: target?,
            aggregate_bytes,
            batch: batch?,
            shard_limit: shard_limit?,
            retry: retry?,
            drain_timeout: drain_timeout?,
            bounds: bounds?,
            max_connections: usize::try_from(max_connections?).ok()?,
            connect_timeout: Duration::from_nanos(connect_timeout?),
            attempt_timeout: Duration::from_nanos(attempt_timeout?),
            output: output?,
        })
    }

    fn target(&mut self) -> Option<Target> {
        let stream = self.text(Key::Stream);
        let endpoint_url = self.read_if_set(Key::EndpointUrl, parse::url);
        let (region, profile) = (self.text(Key::Region), self.text(Key::Profile));
        let shards = self.read_if_set(Key::Shards, parse::between(1, 10_000));
        let keep_bytes = self.read(Key::EmbeddedBytes, parse::size);
        if let Some(stream) = stream {
            if self.is_set(Key::Shards) {
                self.refuse(Key::Shards, "is for the embedded stream; --stream has its own shards");
            }
            return Some(Target::Stream {
                stream: StreamRef::parse(&stream),
                endpoint_url: endpoint_url?,
                region,
                profile,
            });
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

    fn batch(&mut self) -> Option<BatchBounds> {
        let entries = self.read(Key::BatchEntries, parse::between(1, MAX_ENTRIES as u64));
        let bytes = self.read(Key::BatchBytes, parse::size);
        let linger = self.read(Key::Linger, parse::time);
        Some(BatchBounds { entries: usize::try_from(entries?).ok()?, bytes: bytes?, linger: linger? })
    }

    fn retry(&mut self) -> Option<RetryPolicy> {
        let record_ttl = self.read(Key::RecordTtl, parse::positive_time);
        let max_attempts = self.read(Key::MaxAttempts, parse::between(1, u64::from(u32::MAX)));
        let backoff = self.read(Key::Backoff, parse::time);
        let max_backoff = self.read(Key::MaxBackoff, parse::time);
        Some(RetryPolicy {
            record_ttl: record_ttl?,
            max_attempts: u32::try_from(max_attempts?).ok()?,
            backoff: backoff?,
            max_backoff: max_backoff?,
        })
    }

    fn bounds(&mut self) -> Option<Bounds> {
        let backlog = self.read(Key::MaxBacklog, parse::between(1, 1_000_000_000));
        let requests = self.read(Key::MaxRequests, parse::between(1, 10_000));
        let bytes = self.read(Key::MaxInFlightBytes, parse::size);
        Some(Bounds { backlog: backlog?, requests: usize::try_from(requests?).ok()?, bytes: bytes? })
    }

    fn output(&mut self) -> Option<Output> {
        let thresholds =
            self.read_all(Key::Threshold, |text| Threshold::parse(text).map_err(|e| e.to_string()));
        let admin_addr = self.read_if_set(Key::AdminAddr, parse::address);
        let quiet = self.read(Key::Quiet, parse::switch);
        let log_level = self.read(Key::LogLevel, parse::level);
        let log_json = self.read(Key::LogFormat, parse::log_format);
        let summary = self.text(Key::Summary).map(|text| match text.as_str() {
            "-" => SummaryTo::Stdout,
            file => SummaryTo::File(file.into()),
        });
        Some(Output {
            summary,
            thresholds: thresholds?,
            admin_addr: admin_addr?,
            quiet: quiet?,
            log_level: log_level?,
            log_json: log_json?,
        })
    }

    fn check_retry(&mut self, retry: Option<RetryPolicy>, batch: Option<BatchBounds>, aggregates: bool) {
        let Some(retry) = retry else { return };
        if retry.max_backoff < retry.backoff {
            self.refuse(Key::MaxBackoff, "must not be shorter than --backoff");
        }
        // A record lingers for its batch, and for its aggregate before it; then it has to get there.
        let lingers = if aggregates { 2 } else { 1 };
        if batch.is_some_and(|batch| retry.record_ttl < batch.linger.saturating_mul(2 * lingers)) {
            let why = if aggregates { "four times --linger with --aggregate" } else { "twice --linger" };
            self.refuse(
                Key::RecordTtl,
                format!("must be at least {why}, or records expire before they are sent"),
            );
        }
    }

    fn check_sizes(
        &mut self,
        batch: Option<BatchBounds>,
        bounds: Option<Bounds>,
        aggregate_bytes: Option<usize>,
        target: Option<&Target>,
    ) {
        if batch.is_some_and(|batch| batch.bytes == 0 || batch.bytes > MAX_REQUEST_BYTES) {
            self.refuse(
                Key::BatchBytes,
                format!("Kinesis takes 1 to {MAX_REQUEST_BYTES} bytes in a request"),
            );
        }
        if let (Some(batch), Some(bounds)) = (batch, bounds)
            && bounds.bytes < batch.bytes
        {
            self.refuse(Key::MaxInFlightBytes, "must not be smaller than --batch-bytes");
        }
        if aggregate_bytes.is_some_and(|bytes| bytes > MAX_RECORD_BYTES) {
            self.refuse(
                Key::AggregateBytes,
                format!("over Kinesis' record limit of {MAX_RECORD_BYTES} bytes"),
            );
        } else if aggregate_bytes.is_some_and(|bytes| bytes < 64) {
            self.refuse(Key::AggregateBytes, "at least 64 bytes");
        }
        if let Some(Target::Embedded { keep_bytes, .. }) = target
            && *keep_bytes < 1024 * 1024
        {
            self.refuse(Key::EmbeddedBytes, "at least 1MiB");
        }
    }

    fn check_payload(&mut self, tickers: &[String], payload_bytes: Option<usize>) {
        if let Err(error) = Ticks::new(0, tickers, payload_bytes, EventTime::new(0, TimeZone::Utc)) {
            let key = if tickers.is_empty() { Key::Tickers } else { Key::PayloadBytes };
            self.refuse(key, error);
        }
        if payload_bytes.is_some_and(|bytes| bytes > MAX_RECORD_BYTES) {
            self.refuse(Key::PayloadBytes, format!("over Kinesis' record limit of {MAX_RECORD_BYTES} bytes"));
        }
    }

    fn raw(&self, key: Key) -> &Raw {
        self.settings.get(key)
    }

    fn is_set(&self, key: Key) -> bool {
        let raw = self.raw(key);
        raw.source != Source::Default && raw.texts.iter().any(|text| !text.is_empty())
    }

    /// A value that may be absent, as text.
    fn text(&self, key: Key) -> Option<String> {
        self.raw(key).texts.first().filter(|text| !text.is_empty()).cloned()
    }

    fn refuse(&mut self, key: Key, problem: impl std::fmt::Display) {
        let error = ConfigError::new(key, self.raw(key), problem);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// A value that must be there; `None` if it is wrong, which is noted.
    fn read<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.raw(key).texts.first().cloned().unwrap_or_default();
        parse(text.trim()).map_err(|problem| self.refuse(key, problem)).ok()
    }

    /// A value that may be absent.
    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is set")]
    fn read_if_set<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        match self.text(key) {
            Some(_) => self.read(key, parse).map(Some),
            None => Some(None),
        }
    }

    /// The values of a list; empty texts are passed over.
    fn read_all<T>(&mut self, key: Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let texts = self.raw(key).texts.clone();
        let read: Vec<Result<T, String>> =
            texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(parse).collect();
        let mut values = Vec::new();
        let mut sound = true;
        for one in read {
            match one {
                Ok(value) => values.push(value),
                Err(problem) => {
                    self.refuse(key, problem);
                    sound = false;
                }
            }
        }
        sound.then_some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(file: &str) -> Result<Plan, Vec<String>> {
        let (settings, errors) = Settings::layer(Some((Path::new("c.toml"), file)), [], Vec::new());
        assert_eq!(errors, []);
        Plan::new(&settings, 7).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_defaults_are_a_plan() {
        let plan = plan("").unwrap();
        assert_eq!(plan.rate.unwrap().thousandths(), 1_000_000);
        assert_eq!((plan.seed, plan.duration, plan.records), (7, None, None));
        assert_eq!(plan.tickers, ["AAPL", "AMZN", "MSFT", "INTC", "TBV"]);
        assert_eq!(plan.shard_limit, ShardLimiting::Auto);
        assert_eq!(plan.retry.record_ttl, 30_000_000_000);
        assert_eq!(plan.bounds.bytes, 32 << 20);
        assert!(plan.output.thresholds.is_empty());
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
            ("tickers = []", "c.toml:1: tickers = : at least one ticker"),
            ("region = \"eu-west-1\"", "c.toml:1: region = eu-west-1: needs a --stream"),
            ("stream = \"s\"\nshards = 4", "c.toml:2: shards = 4: is for the embedded stream"),
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
