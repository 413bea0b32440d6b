//! Every setting in one place: its name, default and help. Flags, `TICKGEN_*` variables and the keys
//! of config.toml are all made from this table, and the shipped config.toml is tested against it.

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name: the flag `--name` (but see [`Setting::flag`]), the key `name` and, in capitals with underscores, the variable
    /// `TICKGEN_NAME`.
    pub name: &'static str,
    /// Its default as text; empty: not set.
    pub default: &'static str,
    /// What a value looks like.
    pub value: &'static str,
    /// What it is for.
    pub group: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether a value may be a list.
    pub list: bool,
}

impl Setting {
    /// Whether it is a switch: `--name` alone means true.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.value == "BOOL"
    }

    /// Whether each `[[load]]` of a config file may have its own.
    #[must_use]
    pub fn is_per_load(&self) -> bool {
        matches!(self.group, "Load" | "Producer") || self.name == "stream"
    }

    /// Its flag, without the dashes. Those of a subcommand leave out what their names begin with.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        let own = self.subcommand().and_then(|own| self.name.strip_prefix(own)?.strip_prefix('-'));
        own.unwrap_or(self.name)
    }

    /// The subcommand that it is for alone, `search`, `verify` or `calibrate`.
    #[must_use]
    pub fn subcommand(&self) -> Option<&'static str> {
        match self.group {
            "Search" => Some("search"),
            "Verification" => Some("verify"),
            "Calibration" => Some("calibrate"),
            _ => None,
        }
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("TICKGEN_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

macro_rules! settings {
    ($($group:literal { $($id:ident $name:literal = $default:literal, $value:literal $(, $list:ident)?; $help:literal)* })*) => {
        /// The names of the settings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the table beside it says what each is
        pub enum Key { $($($id),*),* }

        /// The settings, in the order of the help text.
        pub const SETTINGS: &[(Key, Setting)] = &[$($((Key::$id, Setting {
            name: $name, default: $default, value: $value, group: $group, help: $help,
            list: settings!(@list $($list)?),
        })),*),*];
    };
    (@list list) => { true };
    (@list) => { false };
}

settings! {
    "Load" {
        Rps "rps" = "1000", "N|max";
            "Records per second to offer, or max for as fast as answers allow"
        Shape "shape" = "constant", "SHAPE";
            "Rate over time: constant (--rps), stages:..., sine:..., spike:..., sawtooth:... or replay:FILE"
        Arrivals "arrivals" = "even", "KIND";
            "How records arrive around the rate: even, poisson or hawkes:excitation=0.5,decay=200ms"
        Duration "duration" = "", "TIME";
            "End generating after this time; neither this nor --records: run until stopped"
        Records "records" = "", "N";
            "End generating after this many records"
        Seed "seed" = "", "N";
            "Same seed, same records, but for their times and stamps; a random one if not set"
        Market "market" = "random", "random|walk";
            "Prices: any from 0 to 100, or a walk of each ticker's own, with volumes and popular tickers"
        Tickers "tickers" = "AAPL,AMZN,MSFT,INTC,TBV", "LIST|N", list;
            "Ticker symbols to choose from, separated by commas, or how many to make up"
        Template "template" = "", "FILE";
            "Make payloads by this template in place of the ticker record"
        PayloadBytes "payload-bytes" = "", "SIZE";
            "Pad each payload with a field to this size"
        Keys "keys" = "uniform", "KIND";
            "Partition keys: uniform, ticker, fixed:KEY, zipf:S, zipf:S:KEYS or per-shard"
        Stamp "stamp" = "auto", "auto|key|body|none";
            "Where each record says which it is: in its partition key or a last field; auto: in the key where --keys is uniform or per-shard, otherwise with --verify only, in a field"
        Speed "speed" = "1x", "N";
            "How fast to replay a file: 10x takes a tenth of the time"
        ReplayTime "replay-time" = "timestamp", "FIELD";
            "Field or column with the time of a replayed record: RFC 3339, or seconds, ms, us or ns since 1970"
        ReplayUnit "replay-unit" = "auto", "auto|s|ms|us|ns";
            "Unit of its times that are numbers; auto: of the first, by its size, for the whole file"
        ReplayPayload "replay-payload" = "", "FIELD";
            "Field or column with its payload; not set: the whole line, or the row as JSON"
        ReplayKey "replay-key" = "", "FIELD";
            "Field or column with its partition key; not set: as --keys says"
        MaxReplayBytes "max-replay-bytes" = "64MiB", "SIZE";
            "Bytes of replayed records kept until they are settled; past it what falls due is dropped"
        LocalTime "local-time" = "false", "BOOL";
            "Write EVENT_TIME in the zone of this machine rather than UTC"
    }
    "Stream" {
        Stream "stream" = "", "NAME|ARN";
            "The Kinesis stream; not set: an embedded Kinesis in this process"
        EndpointUrl "endpoint-url" = "", "URL";
            "Address of the service in place of AWS's own"
        Region "region" = "", "NAME";
            "AWS region; not set: as the AWS CLI finds it"
        Profile "profile" = "", "NAME";
            "Profile of the AWS config files; not set: as the AWS CLI finds it"
        Wire "wire" = "json", "json|cbor";
            "Form of PutRecords requests: JSON, or CBOR, which hashes and sends a quarter less"
        Shards "shards" = "", "N";
            "Shards of the embedded stream; not set: enough for the rate"
        EmbeddedBytes "embedded-bytes" = "32MiB", "SIZE";
            "Record bytes that the embedded stream keeps; past it the oldest are trimmed"
        Drill "drill" = "", "DRILL", list;
            "Change the stream under load, such as 'at=20s split=hottest'; may be repeated"
        AllowDrill "allow-drill" = "false", "BOOL";
            "Let --drill change the stream"
    }
    "Producer" {
        Aggregate "aggregate" = "false", "BOOL";
            "Pack records into KPL aggregated records"
        AggregateBytes "aggregate-bytes" = "51200", "SIZE";
            "Size at which an aggregate is full"
        BatchEntries "batch-entries" = "500", "N";
            "Entries in one PutRecords request, at most"
        BatchBytes "batch-bytes" = "2MiB", "SIZE";
            "Bytes of one PutRecords request, at most: data before base64 plus partition keys"
        Linger "linger" = "", "TIME";
            "Longest wait for a batch to fill, and for an aggregate before it; not set: 10ms, 50ms with --aggregate at up to 250000 records/s"
        ShardLimit "shard-limit" = "auto", "auto|adaptive|PERCENT|none";
            "Share of each shard's limit (1000 records/s, 1 MiB/s) to use, or adaptive: as much as it takes; auto: 100%, adaptive on an on-demand stream; loads of one stream share the limit"
        RecordTtl "record-ttl" = "30s", "TIME";
            "Give a record up this long after its intended start"
        MaxAttempts "max-attempts" = "100", "N";
            "Send a record at most this often, up to 65535"
        Backoff "backoff" = "50ms", "TIME";
            "Longest pause after the first failure; it doubles with each, with full jitter"
        MaxBackoff "max-backoff" = "2s", "TIME";
            "Longest pause after any failure"
    }
    "Bounds" {
        MaxBacklog "max-backlog" = "100000", "N";
            "Records made and not settled, waiting or in flight; past it what falls due is dropped"
        MaxRequests "max-requests" = "224", "N";
            "Requests in flight; each has a connection of its own, so --max-connections bounds them too"
        MaxInFlightBytes "max-in-flight-bytes" = "32MiB", "SIZE";
            "Bytes of request bodies in flight"
        MaxConnections "max-connections" = "224", "N";
            "Connections open at once"
        Threads "threads" = "", "N";
            "Threads that the work is spread over; not set: one for each processor, but one in all where at most 100000 small records/s are sent to --stream and nothing can steer the run or has it verified"
        ConnectTimeout "connect-timeout" = "3s", "TIME";
            "Longest wait for a connection"
        AttemptTimeout "attempt-timeout" = "10s", "TIME";
            "Longest wait for the answer to one attempt"
        DrainTimeout "drain-timeout" = "10s", "TIME";
            "Longest wait at the end for what is on its way"
    }
    "Search" {
        SearchSlo "search-slo" = "", "CONDITIONS";
            "The objective: conditions as of --threshold, joined by and"
        SearchFrom "search-from" = "100", "N";
            "Records per second to begin with"
        SearchTo "search-to" = "1000000", "N";
            "Records per second to try at most"
        SearchStepDuration "search-step-duration" = "15s", "TIME";
            "Measure each rate for this time"
        SearchStepWarmup "search-step-warmup" = "2s", "TIME";
            "Offer each rate for this time before measuring it"
        SearchPrecision "search-precision" = "0.25%", "PERCENT";
            "How close the highest rate that holds and the lowest that does not must come"
    }
    "Calibration" {
        CalibrateDuration "calibrate-duration" = "3s", "TIME";
            "Send for this time without TLS, and for as long with it"
    }
    "Application" {
        StartWhen "start-when" = "", "URL";
            "Begin the load once this http:// address of the application under test answers with 2xx"
        StopWhenGone "stop-when-gone" = "false", "BOOL";
            "Drain once the address of --start-when has not answered six times in a row"
    }
    "Proof" {
        Verify "verify" = "false", "BOOL";
            "Read the stream back while the load runs, and fail (exit 98) unless every acked record arrived"
        VerifyWait "verify-wait" = "10s", "TIME";
            "Longest wait after the load while nothing comes of what is still to be read"
        Consumer "consumer" = "polling", "polling|fan-out";
            "How the stream is read back: by GetRecords, or as a registered consumer with a throughput of its own, which costs extra"
    }
    "Verification" {
        VerifySummaryOf "verify-summary-of" = "", "FILE";
            "The JSON summary of the run; while it is empty or not there the end of the run is waited for"
        VerifySummaryWait "verify-summary-wait" = "24h", "TIME";
            "Longest wait for that summary; 0s: it must be there"
        VerifyRun "verify-run" = "", "ID";
            "The run's id: documents are looked for before its summary is there; without --summary-of what arrived is counted, but nothing is proved"
        VerifyOpensearch "verify-opensearch" = "", "URL";
            "Read documents of this OpenSearch in place of the stream; requests to AWS' own domains are signed"
        VerifyIndex "verify-index" = "", "NAME";
            "The index with the documents"
        VerifyOpensearchUser "verify-opensearch-user" = "", "NAME";
            "User of basic authentication; the password is in TICKGEN_OPENSEARCH_PASSWORD or a file"
        VerifyOpensearchPasswordFile "verify-opensearch-password-file" = "", "FILE";
            "File with the password"
        VerifySettle "verify-settle" = "90s", "TIME";
            "Documents have settled when none has come for this time, or a third of it once all acked ones are there"
        VerifySettleTimeout "verify-settle-timeout" = "15m", "TIME";
            "Longest wait for documents to settle"
    }
    "Output" {
        Warmup "warmup" = "0s", "TIME";
            "Offer the loads for this time before measuring them"
        RunId "run-id" = "", "ID";
            "The run's id, 8 hexadecimal digits, another for each run; a random one if not set"
        To "to" = "", "stdout|FILE";
            "Write the records there as NDJSON at their due times instead of sending them"
        Summary "summary" = "", "FILE";
            "Write the summary as JSON to this file; - is stdout"
        Report "report" = "", "FILE";
            "Write a report there at the end, as one HTML file that needs no network"
        HdrLog "hdr-log" = "", "FILE";
            "Write response and service times there as they come, as an HdrHistogram interval log"
        HdrInterval "hdr-interval" = "1s", "TIME";
            "Time from one line of --hdr-log to the next"
        MaxCost "max-cost" = "", "USD";
            "Drain the run, and fail it (exit 99), before it costs more than this at list price"
        Prices "prices" = "", "FILE";
            "Prices in place of those of this build, in the form of src/cost/prices.json"
        PriceRegion "price-region" = "", "NAME";
            "Region whose prices count; not set: the stream's, of an embedded one us-east-1"
        Threshold "threshold" = "", "EXPR", list;
            "Fail (exit 99) unless this holds, such as 'response_time_ms.p99 < 250'; may be repeated"
        AbortOnThreshold "abort-on-threshold" = "", "after=TIME";
            "End the run as soon as a threshold is missed, once it has been measured for this time"
        AdminAddr "admin-addr" = "", "[HOST:]PORT";
            "Serve /metrics, /livez, /readyz, /status and what steers the run there; host 127.0.0.1 unless given"
        AdminTokenFile "admin-token-file" = "", "FILE";
            "Let whoever shows the token in this file steer the run; not set: only this machine, if no other can reach --admin-addr"
        AdminHost "admin-host" = "", "NAME", list;
            "Name by which the admin server may be asked for /status and steered, besides localhost and addresses; may be repeated"
        AdminLinger "admin-linger" = "0s", "TIME";
            "After the end serve /metrics and /status until scraped once more, for this time at most; a signal ends that, too"
        Otlp "otlp" = "", "URL";
            "Send the metrics to this OpenTelemetry collector every 10 s, such as http://127.0.0.1:4318; needs cargo feature otlp"
        Ui "ui" = "auto", "auto|plain|live";
            "How a run is shown on stderr: a line a second (plain) or a view with keys (live); auto: live on a terminal"
        Quiet "quiet" = "false", "BOOL";
            "No progress and no text summary on stderr, only what went wrong"
        LogLevel "log-level" = "info", "LEVEL";
            "Least severe log lines to write: error, warn, info or debug"
        LogFormat "log-format" = "text", "text|json";
            "Form of the log lines on stderr"
        WatchConfig "watch-config" = "false", "BOOL";
            "Read the config file again when it changes, as on SIGHUP, and apply what can change while the run is on"
    }
}

impl Key {
    /// The setting of this name.
    ///
    /// # Panics
    /// Never: every key is in the table.
    #[must_use]
    pub fn setting(self) -> &'static Setting {
        &SETTINGS[self as usize].1
    }

    /// The key of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SETTINGS.iter().find(|(_, s)| s.name == name).map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_places_of_their_settings() {
        for (place, (key, setting)) in SETTINGS.iter().enumerate() {
            assert_eq!(*key as usize, place);
            assert_eq!(Key::named(setting.name), Some(*key));
            assert!(setting.help.len() > 10, "{}", setting.name);
        }
    }

    #[test]
    fn variables_are_the_names_in_capitals() {
        assert_eq!(Key::EndpointUrl.setting().variable(), "TICKGEN_ENDPOINT_URL");
        let slo = Key::SearchSlo.setting();
        assert_eq!((slo.flag(), slo.variable().as_str()), ("slo", "TICKGEN_SEARCH_SLO"));
        let (wait, of) = (Key::VerifyWait.setting(), Key::VerifySummaryOf.setting());
        assert_eq!((wait.flag(), of.flag()), ("verify-wait", "summary-of"));
    }
}
