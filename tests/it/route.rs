//! Requests to a stream, as they are on the wire: their headers, signatures and credentials.

use crate::harness::{assert_balanced, assert_signed_as_by_botocore, finished, peers, tickgen};
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// `PutRecords` requests in the order of their arrival.
type Asked = Arc<Mutex<Vec<(Parts, Bytes)>>>;

/// How the request of this number is answered, if not with success.
type Scripted = fn(usize) -> Option<Response>;

/// A stream of one shard that keeps what it is asked.
async fn serve(scripted: Scripted) -> (String, Asked) {
    let asked = Asked::default();
    let router = Router::new().fallback(answer).with_state((Arc::clone(&asked), scripted));
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

async fn answer(State((asked, scripted)): State<(Asked, Scripted)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.headers["x-amz-target"].to_str().unwrap();
    let range = json!({"StartingHashKey": "0", "EndingHashKey": u128::MAX.to_string()});
    let id = "shardId-000000000000";
    let answer = match target.split_once('.').unwrap().1 {
        "ListShards" => json!({"Shards": [{
            "ShardId": id, "HashKeyRange": range, "SequenceNumberRange": {"StartingSequenceNumber": "1"},
        }]}),
        "PutRecords" => {
            let mut asked = asked.lock().unwrap();
            asked.push((parts, body.clone()));
            if let Some(response) = scripted(asked.len() - 1) {
                return response;
            }
            let kind = &asked.last().unwrap().0.headers["content-type"];
            if kind == CBOR {
                return one_accepted_in_cbor();
            }
            let text: Value = serde_json::from_slice(&body).unwrap();
            let result = json!({"SequenceNumber": "1", "ShardId": id});
            let results = vec![result; text["Records"].as_array().unwrap().len()];
            json!({"FailedRecordCount": 0, "Records": results})
        }
        _ => json!({"StreamDescriptionSummary": {
            "StreamName": "s", "StreamARN": "arn:aws:kinesis:ap-northeast-1:000000000000:stream/s",
            "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1,
            "EnhancedMonitoring": [], "OpenShardCount": 1,
        }}),
    };
    answer.to_string().into_response()
}

const CBOR: &str = "application/x-amz-cbor-1.1";

/// The answer to a request of one entry.
fn one_accepted_in_cbor() -> Response {
    let texts = [cbor("SequenceNumber"), cbor("1"), cbor("ShardId"), cbor("shardId-000000000000")].concat();
    let body =
        [&[0xA2][..], &cbor("FailedRecordCount"), &[0], &cbor("Records"), &[0x81, 0xA2], &texts].concat();
    ([("content-type", CBOR)], body).into_response()
}

/// A text in CBOR.
fn cbor(text: &str) -> Vec<u8> {
    [&[0x78, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// Runs the binary against the server, in an environment with these besides.
async fn run(url: &str, flags: &[&str], environment: &[(&str, &str)]) -> (i32, Value, String) {
    let to = ["--stream", "s", "--endpoint-url", url, "--region", "ap-northeast-1", "--summary", "-"];
    let mut command = tickgen(&[&to[..], flags].concat());
    command.envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || finished(&command.output().unwrap())).await.unwrap()
}

/// What a server that refuses nothing is asked.
async fn asked_by(
    flags: &[&str],
    environment: &[(&str, &str)],
) -> (String, Vec<(Map<String, Value>, Bytes)>) {
    let (url, asked) = serve(|_| None).await;
    let (code, summary, stderr) = run(&url, flags, environment).await;
    assert_eq!(code, 0, "{stderr}");
    assert_balanced(&summary);
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(summary["requests"], asked.len(), "nothing is sent that is not counted");
    (url, asked.into_iter().map(|(parts, body)| (texts(&parts), body)).collect())
}

/// The headers of a request.
fn texts(parts: &Parts) -> Map<String, Value> {
    parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect()
}

/// Who answered that something is wrong on its side is asked again over another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_brought_an_error_is_not_used_again() {
    let (url, asked) =
        serve(|number| (number == 1).then(|| (StatusCode::SERVICE_UNAVAILABLE, "later").into_response()))
            .await;
    let (code, summary, stderr) = run(&url, &["--rps=10", "--records=8", "--max-requests=1"], &[]).await;
    assert_eq!((code, &summary["acked"]), (0, &json!(8)), "{stderr}");
    let ports: Vec<u16> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|(parts, _)| parts.extensions.get::<ConnectInfo<SocketAddr>>().unwrap().0.port())
        .collect();
    assert_eq!(ports[0], ports[1], "{ports:?}");
    assert!(!ports[2..].contains(&ports[0]), "{ports:?}");
}

/// A signature of another time than the service's would be refused, so its clock is followed.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_of_the_time_of_the_service() {
    let (url, asked) = serve(|_| {
        let result =
            r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"shardId-000000000000"}]}"#;
        Some(([("date", "Wed, 25 Nov 2099 10:00:00 GMT")], result).into_response())
    })
    .await;
    let flags = ["--rps=10", "--records=4", "--batch-entries=1", "--max-requests=1"];
    let (code, summary, stderr) = run(&url, &flags, &[]).await;
    assert_eq!((code, &summary["acked"]), (0, &json!(4)), "{stderr}");
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    let dates: Vec<&str> =
        asked.iter().map(|(parts, _)| parts.headers["x-amz-date"].to_str().unwrap()).collect();
    assert!(!dates[0].starts_with("2099"), "{dates:?}");
    assert!(dates[3].starts_with("20991125T1000") || dates[3].starts_with("20991125T0959"), "{dates:?}");
    let Some(root) = peers(&["venv/bin/python"]) else { return };
    for (parts, body) in &asked {
        assert_signed_as_by_botocore(&root, &url, &texts(parts), body, "kinesis");
    }
}

/// Errors in CBOR are read as those in JSON are.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_cbor_comes_with_its_advice() {
    let (url, _) = serve(|_| {
        let members =
            ["__type", "ResourceNotFoundException", "message", "Stream s under account 0 not found."];
        let body = [vec![0xA2], members.map(cbor).concat()].concat();
        Some((StatusCode::BAD_REQUEST, [("content-type", CBOR)], body).into_response())
    })
    .await;
    let (code, summary, stderr) = run(&url, &["--wire=cbor", "--rps=10", "--records=3"], &[]).await;
    assert_eq!((code, &summary["acked"]), (1, &json!(0)), "{stderr}");
    assert!(
        stderr.contains("ResourceNotFoundException: Stream s under account 0 not found. Check --stream"),
        "{stderr}"
    );
}

/// The first requests and the last, of loads whose bodies are hashed beside each other and one by one.
#[tokio::test(flavor = "multi_thread")]
async fn botocore_agrees_with_the_signatures_of_records() {
    let Some(root) = peers(&["venv/bin/python"]) else { return };
    for (load, token) in [
        (&["--rps=max", "--records=5000"][..], "a/token+"),
        (&["--rps=max", "--records=5000"], ""),
        (&["--rps=10", "--records=4", "--batch-entries=1"], "a/token+"),
        (&["--rps=10", "--records=4", "--batch-entries=1", "--wire=cbor"], ""),
    ] {
        let token: &[_] = if token.is_empty() { &[] } else { &[("AWS_SESSION_TOKEN", token)] };
        let (url, asked) = asked_by(load, token).await;
        assert!(asked.len() >= 4, "{}", asked.len());
        for (headers, body) in [&asked[0], &asked[1], &asked[asked.len() - 1]] {
            assert_signed_as_by_botocore(&root, &url, headers, body, "kinesis");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_the_headers_of_the_sdk() {
    let (_, asked) = asked_by(&["--rps=max", "--records=3000"], &[]).await;
    for (headers, body) in &asked {
        assert_eq!(headers["x-amz-target"], "Kinesis_20131202.PutRecords");
        assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
        assert_eq!(headers["content-length"], body.len().to_string());
        assert!(headers["user-agent"].as_str().unwrap().contains("aws-sdk-rust/"), "{headers:?}");
        assert!(!headers.contains_key("x-amz-security-token"));
    }
}

/// Credentials that are about to expire are asked for anew while the run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_renewed_in_the_run() {
    // The SDK asks for new ones five to ten seconds before.
    let profile = Profile::new("renewed", 12, "");
    let (_, asked) =
        asked_by(&["--profile", "test", "--rps=5", "--duration=9s"], &profile.environment()).await;
    let keys = keys_of(&asked);
    assert!(keys.len() > 1 && keys.len() < asked.len() / 2, "{keys:?} of {}", asked.len());
}

/// While nobody gives credentials, records wait as those do that cannot be sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_a_gap_in_its_credentials() {
    // They are asked for at each request, being about to expire; three times in the middle there are none.
    let profile = Profile::new("gap", 4, "[ $count -gt 4 ] && [ $count -le 7 ] && echo sealed >&2 && exit 1");
    let (url, asked) = serve(|_| None).await;
    let flags = ["--profile", "test", "--rps=5", "--records=10", "--batch-entries=1"];
    let (code, summary, stderr) = run(&url, &flags, &profile.environment()).await;
    assert_eq!((code, &summary["acked"], &summary["lost"]), (0, &json!(10), &json!(0)), "{stderr}");
    assert_balanced(&summary);
    assert_eq!(summary["requests_by_outcome"]["not_sent"], json!(3), "{summary:#}");
    assert_eq!(asked.lock().unwrap().len(), 10, "none of them came to the stream");
    let warnings: Vec<&str> = stderr.lines().filter(|line| line.contains("a request failed")).collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0].contains("no credentials") && warnings[0].contains("sealed"), "{stderr}");
}

/// A profile of which each request for credentials is answered by new ones, or runs into what a script does before.
struct Profile {
    folder: std::path::PathBuf,
    config: String,
}

impl Profile {
    /// Its credentials hold for so many seconds; `before` knows how often it was asked as `$count`.
    fn new(name: &str, seconds: u32, before: &str) -> Self {
        let folder = folder_of(name);
        let script = folder.join("credentials");
        let expires = format!("$(date -u -d @$(($(date +%s) + {seconds})) +%Y-%m-%dT%H:%M:%SZ)");
        let calls = folder.join("calls").display().to_string();
        let given = format!(
            "#!/bin/sh\necho >> {calls}\ncount=$(wc -l < {calls})\n{before}\ncat <<END\n\
             {{\"Version\":1,\"AccessKeyId\":\"KEY$$\",\"SecretAccessKey\":\"s\",\
             \"SessionToken\":\"token$$\",\"Expiration\":\"{expires}\"}}\nEND\n"
        );
        std::fs::write(&script, given).unwrap();
        let config = folder.join("config");
        let text = format!("[profile test]\ncredential_process = sh {}\n", script.display());
        std::fs::write(&config, text).unwrap();
        Self { config: config.to_str().unwrap().to_owned(), folder }
    }

    fn environment(&self) -> [(&str, &str); 1] {
        [("AWS_CONFIG_FILE", &self.config)]
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // What stays there is a folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The keys that signed, each beside its own token.
fn keys_of(asked: &[(Map<String, Value>, Bytes)]) -> BTreeSet<&str> {
    let mut keys = BTreeSet::new();
    for (headers, _) in asked {
        let authorization = headers["authorization"].as_str().unwrap();
        let key = authorization.split_once("Credential=KEY").unwrap().1.split_once('/').unwrap().0;
        assert_eq!(headers["x-amz-security-token"], format!("token{key}"), "of the same credentials");
        keys.insert(key);
    }
    keys
}

/// An empty folder of this name, for this process.
fn folder_of(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("tickgen-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
