//! The suite against Kinesis servers and readers written by others: boto3 reads back what moto and
//! kinesis-mock stored, and aws-kinesis-agg opens the aggregates. `.ci/peers` installs them.

use crate::harness::{self, assert_balanced, finished, free_port, tickgen};
use crate::proxy::{Meddling, Proxy};
use serde_json::{Value, json};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The longest wait for a process, against hanging alone: how fast a peer is decides nothing.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// moto, taking one request at a time. `moto_server` takes them at once, and then loses records: two
/// requests give theirs the same sequence number (boto3 alone, from 10 threads, finds 39,339 of 40,000).
const MOTO: &str = "
import sys
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app, run_simple
app = DomainDispatcherApplication(create_backend_app)
run_simple('127.0.0.1', int(sys.argv[1]), app, threaded=False, request_handler=MotoRequestHandler)
";

/// The installed peers.
struct Peers {
    python: PathBuf,
    kinesis_mock: PathBuf,
}

impl Peers {
    /// The peers, if they are installed.
    fn find() -> Option<Self> {
        let (python, kinesis_mock) = ("venv/bin/python", "node/node_modules/kinesis-local");
        let root = harness::peers(&[python, &format!("{kinesis_mock}/main.js")])?;
        Some(Self { python: root.join(python), kinesis_mock: root.join(kinesis_mock) })
    }

    async fn moto(self) -> Server {
        let port = free_port();
        let mut command = Command::new(&self.python);
        command.args(["-c", MOTO, &port.to_string()]);
        Server::start(self, "moto", command, port).await
    }

    async fn kinesis_mock(self) -> Server {
        let port = free_port();
        let mut command = Command::new("node");
        // Its certificate is looked for in the directory that it runs in.
        command.arg("main.js").current_dir(&self.kinesis_mock);
        command.env("KINESIS_MOCK_PLAIN_PORT", port.to_string());
        command.env("KINESIS_MOCK_TLS_PORT", free_port().to_string());
        Server::start(self, "kinesis-mock", command, port).await
    }
}

/// A running peer; it is killed when this is dropped.
struct Server {
    peers: Peers,
    url: String,
    process: Child,
}

impl Server {
    async fn start(peers: Peers, name: &str, mut command: Command, port: u16) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{port}.log"));
        let output = File::create(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
        let process = command.kill_on_drop(true).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut server = Self { peers, url: format!("http://127.0.0.1:{port}"), process };
        let ready = timeout(LONGEST_WAIT, server.accepts_at(port)).await;
        assert_eq!(ready, Ok(true), "{name} does not start: see {}", log.display());
        server
    }

    /// Waits until the server accepts connections; `false` if it ends before.
    async fn accepts_at(&mut self, port: u16) -> bool {
        while self.process.try_wait().expect("a child can be asked").is_none() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// What a script of tests/peers prints about a stream of this server.
    async fn script(&self, name: &str, stream: &str, args: &[&str]) -> Value {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
        let mut command = Command::new(&self.peers.python);
        command.arg(scripts.join(name)).args(["--endpoint-url", &self.url, "--stream", stream]).args(args);
        // A profile that the machine does not have would be an error.
        command.env_remove("AWS_PROFILE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (code, printed, stderr) = finished(&output(command).await);
        assert_eq!(code, 0, "{name} {args:?}: {stderr}");
        printed
    }

    async fn create(&self, stream: &str, shards: u32) {
        self.script("stream.py", stream, &["create", "--shards", &shards.to_string()]).await;
    }

    /// The summary of a run into a stream.
    async fn run(&self, stream: &str, flags: &[&str]) -> Value {
        let (code, summary, stderr) = run_at(&self.url, stream, flags).await;
        assert_eq!(code, 0, "{stderr}\n{summary:#}");
        summary
    }

    async fn read_back(&self, stream: &str, flags: &[&str]) -> Value {
        self.script("readback.py", stream, flags).await
    }
}

/// What comes of a run into a stream. However slow the server is, no record is given up and no attempt is
/// cut off (which would leave its fate open); the run takes longer, that is all.
async fn run_at(url: &str, stream: &str, flags: &[&str]) -> (i32, Value, String) {
    let mut all = vec!["--stream", stream, "--endpoint-url", url, "--region", "us-east-1"];
    all.extend(["--summary", "-", "--quiet", "--max-backlog", "1000000"]);
    for time in ["--connect-timeout", "--attempt-timeout", "--record-ttl", "--drain-timeout"] {
        all.extend([time, "5m"]);
    }
    all.extend(["--threshold", "achieved_rps > 0"]);
    all.extend(flags);
    finished(&output(Command::from(tickgen(&all))).await)
}

/// Runs a command to its end.
async fn output(mut command: Command) -> Output {
    let ended = timeout(LONGEST_WAIT, command.kill_on_drop(true).output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("hangs: {:?}", command.as_std()));
    ended.unwrap_or_else(|error| panic!("{:?}: {error}", command.as_std()))
}

fn count(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_else(|| panic!("{name} in {object:#}"))
}

/// Asserts that all `scheduled` records were acked, and that the reader found exactly those: each
/// once, whole, and in as many Kinesis records as were counted.
fn assert_exact(scheduled: u64, summary: &Value, found: &Value) {
    assert_balanced(summary);
    assert_eq!((count(summary, "scheduled"), count(summary, "acked")), (scheduled, scheduled), "{summary:#}");
    assert_eq!((count(summary, "lost"), count(summary, "possible_duplicates")), (0, 0), "{summary:#}");
    assert_eq!(count(found, "user_records"), scheduled, "{found:#}");
    // Intended starts are further apart than the microsecond that payloads tell, so each is another.
    assert_eq!(count(found, "distinct_payloads"), scheduled, "{found:#}");
    assert_eq!(count(found, "valid"), scheduled, "{found:#}");
    assert_eq!(count(found, "kinesis_records"), count(summary, "kinesis_records"), "{summary:#}\n{found:#}");
}

/// Asserts that every shard stored what was counted for it; true of streams that kept their shards.
fn assert_same_shards(summary: &Value, found: &Value) {
    let shards = summary["shards"].as_array().expect("shards");
    let counted =
        shards.iter().map(|shard| (shard["id"].as_str().expect("an id").to_owned(), shard["acked"].clone()));
    assert_eq!(Value::Object(counted.collect()), found["shards"]);
}

#[tokio::test]
async fn moto_reads_back_every_record() {
    let Some(peers) = Peers::find() else { return };
    let moto = peers.moto().await;
    // For each record moto goes through all records of its shard: many small shards keep it fast.
    moto.create("plain", 200).await;
    let summary = moto.run("plain", &["--rps", "5000", "--duration", "30s", "--linger", "100ms"]).await;
    let found = moto.read_back("plain", &[]).await;
    assert_exact(150_000, &summary, &found);
    assert_same_shards(&summary, &found);
    assert_eq!((count(&found, "misplaced"), count(&summary, "misrouted")), (0, 0));
    assert_eq!(count(&found, "bytes"), count(&summary, "bytes"));
}

#[tokio::test]
async fn moto_opens_every_aggregate() {
    let Some(peers) = Peers::find() else { return };
    let moto = peers.moto().await;
    moto.create("packed", 4).await;
    let summary = moto.run("packed", &["--rps", "5000", "--duration", "30s", "--aggregate"]).await;
    let found = moto.read_back("packed", &["--deaggregate"]).await;
    assert_exact(150_000, &summary, &found);
    assert_same_shards(&summary, &found);
    assert_eq!((count(&found, "misplaced"), count(&summary, "misrouted")), (0, 0));
    assert_eq!(count(&found, "bytes"), count(&summary, "bytes"));
    assert!(count(&found, "kinesis_records") < 75_000, "nothing was aggregated: {found:#}");
}

/// Explicit hash keys and the article's one key lead where moto, too, finds that they lead.
#[tokio::test]
async fn moto_agrees_where_keys_lead() {
    let Some(peers) = Peers::find() else { return };
    let moto = peers.moto().await;
    for (stream, keys, aggregate) in [
        ("spread", "per-shard", false),
        ("packed-spread", "per-shard", true),
        ("one", "fixed:partitionkey", false),
        ("packed-one", "fixed:partitionkey", true),
    ] {
        moto.create(stream, 4).await;
        let aggregate_flag = format!("--aggregate={aggregate}");
        let summary =
            moto.run(stream, &["--keys", keys, "--rps", "500", "--duration", "2s", &aggregate_flag]).await;
        let found = moto.read_back(stream, if aggregate { &["--deaggregate"] } else { &[] }).await;
        assert_exact(1_000, &summary, &found);
        assert_same_shards(&summary, &found);
        assert_eq!(count(&summary, "misrouted"), 0);
        // A single record's explicit hash key cannot be read back: its shard alone tells of it.
        if keys != "per-shard" || aggregate {
            assert_eq!(count(&found, "misplaced"), 0, "{stream}");
        }
        let shares: Vec<u64> =
            found["shards"].as_object().unwrap().values().filter_map(Value::as_u64).collect();
        match keys {
            "per-shard" => assert_eq!(shares, [250; 4]),
            _ => assert_eq!(shares.iter().max(), Some(&1_000)),
        }
    }
}

#[tokio::test]
async fn moto_is_proved() {
    let Some(peers) = Peers::find() else { return };
    let moto = peers.moto().await;
    for (stream, aggregate) in [("proved", false), ("proved-packed", true)] {
        moto.create(stream, 8).await;
        let aggregate = format!("--aggregate={aggregate}");
        let flags = ["--rps", "500", "--duration", "6s", "--verify", "--verify-wait", "2m", &aggregate];
        let summary = moto.run(stream, &flags).await;
        let verify = &summary["verify"];
        let counts = ["delivered", "lost", "duplicated", "out_of_order", "corrupted", "foreign"];
        assert_eq!(counts.map(|name| count(verify, name)), [3_000, 0, 0, 0, 0, 0], "{summary:#}");
        let found = moto.read_back(stream, &["--deaggregate"]).await;
        assert_exact(3_000, &summary, &found);
    }
}

/// Answers are cut after moto took the request, and records are kept from who reads them: boto3, which reads
/// moto itself, finds the same.
#[tokio::test(flavor = "multi_thread")]
async fn moto_is_proved_through_faults() {
    let Some(peers) = Peers::find() else { return };
    let moto = peers.moto().await;
    let load = ["--rps", "250", "--records", "1000", "--verify", "--verify-wait"];
    for (stream, aggregate) in [("cut", "--aggregate=false"), ("cut-packed", "--aggregate=true")] {
        moto.create(stream, 8).await;
        let proxy = Proxy::before(&moto.url, Meddling { cut: Some(5), ..Meddling::default() }).await;
        let (code, summary, stderr) =
            run_at(&proxy.url, stream, &[&load[..], &["2m", aggregate]].concat()).await;
        assert_eq!(code, 0, "{stderr}");
        let (cuts, stored) = proxy.cut();
        assert!(cuts > 2 && stored > 0, "{cuts} cuts");
        let verify = &summary["verify"];
        let counts = ["acked", "delivered", "lost", "duplicated", "corrupted", "foreign"];
        assert_eq!(counts.map(|name| count(verify, name)), [1_000, 1_000, 0, stored, 0, 0], "{summary:#}");
        let found = moto.read_back(stream, &["--deaggregate"]).await;
        let (all, distinct) = (count(&found, "user_records"), count(&found, "distinct_payloads"));
        assert_eq!((all, distinct), (1_000 + stored, 1_000), "{found:#}");
    }
    moto.create("hidden", 8).await;
    let hide: fn(u64) -> bool = |n| n % 100 >= 97;
    let proxy = Proxy::before(&moto.url, Meddling { hide: Some(hide), ..Meddling::default() }).await;
    let (code, summary, stderr) = run_at(&proxy.url, "hidden", &[&load[..], &["3s"]].concat()).await;
    assert_eq!((code, count(&summary["verify"], "lost")), (98, 30), "{stderr}");
    let expected: Vec<Value> =
        (0..10).map(|n| json!({"load": "", "first": 100 * n + 97, "last": 100 * n + 99})).collect();
    assert_eq!(summary["verify"]["lost_ranges"], Value::from(expected));
    // The records are there.
    assert_eq!(count(&moto.read_back("hidden", &[]).await, "user_records"), 1_000);
}

/// Runs while the first of four shards is split and the last two are merged. Two small requests at a
/// time, so that a slow kinesis-mock comes to the resharding before the run has ended.
async fn run_while_resharding(server: &Server, stream: &str, flags: &[&str]) -> (Value, Value) {
    server.create(stream, 4).await;
    let flags = [flags, &["--max-requests", "2"]].concat();
    let (summary, open) =
        tokio::join!(server.run(stream, &flags), server.script("stream.py", stream, &["reshard"]));
    let number = |n| format!("shardId-{n:012}");
    assert_eq!(open, Value::from([4, 5, 1, 6].map(number).to_vec()), "the shards by rising hash key");
    let found = server.read_back(stream, &["--deaggregate"]).await;
    let shards = found["shards"].as_object().expect("shards");
    assert!(shards.len() == 7 && shards.values().all(|n| *n != 0), "every shard took records: {found:#}");
    (summary, found)
}

#[tokio::test]
async fn kinesis_mock_splits_and_merges() {
    let Some(peers) = Peers::find() else { return };
    let mock = peers.kinesis_mock().await;
    let flags = ["--rps", "400", "--duration", "20s", "--linger", "50ms", "--batch-entries", "50"];
    let (summary, found) = run_while_resharding(&mock, "plain", &flags).await;
    assert_exact(8_000, &summary, &found);
    assert_eq!(count(&found, "misplaced"), 0);
    assert_eq!(count(&found, "bytes"), count(&summary, "bytes"));
}

#[tokio::test]
async fn kinesis_mock_splits_and_merges_under_aggregates_in_cbor() {
    let Some(peers) = Peers::find() else { return };
    let mock = peers.kinesis_mock().await;
    let flags =
        ["--wire=cbor", "--aggregate", "--rps=5000", "--duration=30s", "--linger=100ms", "--batch-entries=4"];
    let (summary, found) = run_while_resharding(&mock, "packed", &flags).await;
    assert_exact(150_000, &summary, &found);
    assert_eq!(count(&found, "bytes"), count(&summary, "bytes"));
    // An aggregate on its way during a split comes to one of the children as a whole.
    assert!(count(&found, "misplaced") <= count(&summary, "misrouted"), "{summary:#}\n{found:#}");
}
