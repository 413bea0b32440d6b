//! What the tests share: running the binary, reading request bodies, and a scripted server.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use tickgen::kinesis::hash_key;
use tickgen::producer::aggregate;

/// A stored Kinesis record.
pub(crate) struct Stored {
    /// The hash key that places it.
    pub(crate) hash_key: u128,
    /// Its user records: itself, or those of the aggregate.
    pub(crate) records: Vec<StoredRecord>,
}

/// A stored user record.
pub(crate) struct StoredRecord {
    /// Its partition key.
    pub(crate) key: String,
    /// Its payload.
    pub(crate) data: Vec<u8>,
}

impl Stored {
    /// Reads the body of a `PutRecords` request as a server does.
    pub(crate) fn read_body(body: &[u8]) -> Vec<Self> {
        let body: Value = serde_json::from_slice(body).expect("a body is JSON");
        body["Records"].as_array().expect("Records").iter().map(Self::read).collect()
    }

    fn read(entry: &Value) -> Self {
        let text = |name: &str| entry[name].as_str();
        let data = base64_simd::STANDARD.decode_to_vec(text("Data").expect("Data")).expect("base64");
        let key = text("PartitionKey").expect("PartitionKey");
        let explicit = text("ExplicitHashKey").map(|hash| hash.parse().expect("a decimal hash key"));
        let records = match aggregate::decode(&data) {
            Ok(records) => records
                .iter()
                .map(|r| StoredRecord { key: r.partition_key.to_owned(), data: r.data.to_vec() })
                .collect(),
            Err(aggregate::DecodeError::NotAggregated) => {
                vec![StoredRecord { key: key.to_owned(), data: data.clone() }]
            }
            Err(error) => panic!("{error}"),
        };
        Self { hash_key: explicit.unwrap_or_else(|| hash_key(key.as_bytes())), records }
    }
}

/// The binary with these flags, in an environment without settings of its own.
pub(crate) fn tickgen(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickgen"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TICKGEN_") || name.starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    // Nothing of the machine's own configuration, and no question to its metadata service.
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    // Nor what was calibrated on it.
    command.env("XDG_CACHE_HOME", "/dev/null");
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the binary to its end; returns its exit code, summary and stderr.
pub(crate) fn run(flags: &[&str]) -> (i32, Value, String) {
    let mut all = flags.to_vec();
    all.extend(["--summary", "-"]);
    finished(&tickgen(&all).output().expect("the binary runs"))
}

/// Reads what a finished run left.
pub(crate) fn finished(output: &Output) -> (i32, Value, String) {
    let summary = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap_or(-1), summary, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Starts the binary and leaves it running.
pub(crate) fn start(flags: &[&str]) -> Child {
    tickgen(flags).spawn().expect("the binary starts")
}

/// Sends a signal to a child by its id.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// Asserts the equations of the ledger on a summary.
pub(crate) fn assert_balanced(summary: &Value) {
    let count = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary:#}"));
    assert_eq!(summary["balanced"], true, "{summary:#}");
    assert_eq!(count("scheduled"), count("generated") + count("dropped"), "{summary:#}");
    assert_eq!(count("generated"), count("acked") + count("failed") + count("expired"), "{summary:#}");
}

/// What is printed in place of tests whose peers are missing, once for all of them.
const SKIP_LINE: &[u8] = b"skipped: peers are not installed (.ci/peers installs them)\n";
static SKIPPED: Once = Once::new();

/// The folder of the installed peers, if these of its files are there. On a user's machine they may be
/// missing; in CI they may not.
pub(crate) fn peers(needed: &[&str]) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".peers");
    let missing: Vec<_> = needed.iter().filter(|file| !root.join(file).exists()).collect();
    if missing.is_empty() {
        return Some(root);
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{missing:?} of the peers are missing, and CI=true asks for them: run .ci/peers");
    // Past the test harness, which shows nothing that a passing test prints.
    SKIPPED.call_once(|| drop(std::io::stderr().write_all(SKIP_LINE)));
    None
}

/// Holds a request's signature against the one that botocore makes for it.
pub(crate) fn assert_signed_as_by_botocore(
    root: &Path,
    url: &str,
    headers: &serde_json::Map<String, Value>,
    body: &[u8],
    service: &str,
) {
    let body = base64_simd::STANDARD.encode_to_string(body);
    let request = serde_json::json!({"url": url, "headers": headers, "body": body, "service": service});
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/signature.py");
    let mut python = Command::new(root.join("venv/bin/python"));
    let mut python = python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let made = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(headers["authorization"], made.trim(), "{request:#}");
    assert!(made.contains(&format!("/ap-northeast-1/{service}/aws4_request")), "{made}");
}

/// tmux, if it is installed, in an environment without settings of its own.
pub(crate) fn tmux() -> Option<Command> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".peers/tmux/usr");
    let unpacked = root.join("bin/tmux");
    let mut command = if unpacked.exists() { Command::new(&unpacked) } else { Command::new("tmux") };
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TICKGEN_") || name.starts_with("AWS_") || name.starts_with("TMUX") {
            command.env_remove(name);
        }
    }
    let libraries = root.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    command.env("LD_LIBRARY_PATH", libraries).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    let there = unpacked.exists()
        || Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if there { Some(command) } else { peers(&["tmux/usr/bin/tmux"]).map(|_| command) }
}

/// A port that nothing listens at.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Asserts that a picture of the README shows what there is to see today. Pixels differ from run to run; what is
/// compared is the words that the picture was made with, kept beside it (docs/images/NAME.txt), and its width.
/// `UPDATE_IMAGES=1` takes the new picture and its text.
pub(crate) fn assert_picture(name: &str, new: &Path, text: &str, words: impl Fn(&str) -> BTreeSet<String>) {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    let (picture, beside) = (images.join(format!("{name}.png")), images.join(format!("{name}.txt")));
    if std::env::var_os("UPDATE_IMAGES").is_some() {
        std::fs::copy(new, &picture).expect("a picture");
        std::fs::write(&beside, format!("{}\n", text.trim_end())).expect("its text");
    }
    let width = |path: &Path| {
        let png = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            png.starts_with(b"\x89PNG") && png.len() < 500_000,
            "{}: {} bytes",
            path.display(),
            png.len()
        );
        // Of the header chunk, which is the first.
        u32::from_be_bytes(png[16..20].try_into().expect("four bytes"))
    };
    let stale = format!("docs/images/{name}.png is of another day: UPDATE_IMAGES=1 makes it anew");
    assert_eq!(width(&picture), width(new), "{stale}");
    let kept = std::fs::read_to_string(&beside).unwrap_or_default();
    assert_eq!(words(&kept), words(text), "{stale}");
    assert!(repository_file("README.md").contains(&format!("(docs/images/{name}.png)")), "{name}.png");
}

/// A file of this repository.
pub(crate) fn repository_file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
