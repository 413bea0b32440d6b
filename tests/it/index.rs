//! `tickgen verify --opensearch` against an index that does what the test says.
#![cfg(feature = "embedded")]

use crate::docs::{report_schema, violations};
use crate::harness::{assert_signed_as_by_botocore, finished, peers, run, signal, start, tickgen};
use crate::verify::{count, kept};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// An index: what it shows, and how it answers.
#[derive(Default)]
struct Script {
    documents: Vec<Value>,
    /// Whether its mapping was made by itself: stamps are texts, each with a keyword in it.
    texts: bool,
    /// Documents that come later, one lot with each count.
    later: VecDeque<Vec<Value>>,
    /// A document that comes once documents are read, and not their stamps alone.
    last: Option<Value>,
    /// Statuses of the first answers in place of what was asked for.
    statuses: VecDeque<u16>,
    /// The most documents of one answer.
    most: usize,
    /// Each request: its address, headers and body.
    asked: Vec<(String, HeaderMap, Value)>,
}

type Shared = Arc<Mutex<Script>>;

/// Whether a document is one that a query asks for; of queries it knows those that are made here.
fn fits(query: &Value, document: &Value) -> bool {
    let stamp = document["STAMP"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(either) = query["bool"]["should"].as_array() else {
        let run = text(&query["match"]["STAMP"]);
        return query["match_all"].is_object() || stamp.split('-').any(|token| token == run);
    };
    // Its mapping has the stamp as a keyword, so there is nothing within it.
    assert!(either[1].to_string().contains("STAMP.keyword"));
    match &either[0] {
        one if one["prefix"].is_object() => stamp.starts_with(&text(&one["prefix"]["STAMP"])),
        one => {
            let range = &one["range"]["STAMP"];
            text(&range["gte"]).as_str() <= stamp && stamp < text(&range["lt"]).as_str()
        }
    }
}

async fn answer(
    State(script): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mut script = script.lock().unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    script.asked.push((uri.to_string(), headers, asked.clone()));
    if let Some(status) = script.statuses.pop_front() {
        let reason = json!({"error": {"reason": format!("scripted {status}")}});
        return (StatusCode::from_u16(status).unwrap(), reason.to_string());
    }
    if uri.path() == "/i/_count" {
        let found = script.documents.iter().filter(|document| fits(&asked["query"], document)).count();
        // The first count is of all documents.
        if asked["query"]["match_all"].is_null() {
            let more = script.later.pop_front().unwrap_or_default();
            script.documents.extend(more);
        }
        return (StatusCode::OK, json!({"count": found}).to_string());
    }
    assert_eq!(uri.path(), "/i/_search");
    let mut found: Vec<&Value> =
        script.documents.iter().filter(|document| fits(&asked["query"], document)).collect();
    let sort = asked["sort"].as_array().map(Vec::as_slice).unwrap_or_default();
    let by = |field: &str| sort.iter().any(|by| by[field].is_object());
    if script.texts && by("STAMP") {
        let reason = json!({"error": {"reason": "all shards failed"}});
        return (StatusCode::BAD_REQUEST, reason.to_string());
    }
    let sorted = by(if script.texts { "STAMP.keyword" } else { "STAMP" });
    if sorted {
        found.sort_by_key(|document| std::cmp::Reverse(document["STAMP"].to_string()));
    }
    let most = script.most.min(usize::try_from(count(&asked, "size")).unwrap());
    let hit = |document: &Value| match &document["STAMP"] {
        stamp if sorted => json!({"_source": document, "sort": [stamp]}),
        _ => json!({"_source": document, "sort": [null]}),
    };
    let hits: Vec<Value> = found.iter().take(most).map(|document| hit(document)).collect();
    let hits = json!({"total": {"value": found.len(), "relation": "eq"}, "hits": hits});
    if asked["_source"] == true {
        let last = script.last.take();
        script.documents.extend(last);
    }
    (StatusCode::OK, json!({"timed_out": false, "_shards": {"failed": 0}, "hits": hits}).to_string())
}

/// Serves a script; gives it and its address.
async fn serve(script: Script) -> (Shared, String) {
    let script = Arc::new(Mutex::new(script));
    let app = Router::new().fallback(answer).with_state(Arc::clone(&script));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (script, url)
}

/// A run with so many records, and its documents.
fn made(records: usize) -> (Value, Vec<Value>) {
    let lines =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("documents-{:08x}", rand::random::<u32>()));
    let flags = ["--rps", "max", "--records", &records.to_string(), "--stamp", "body", "--keys", "ticker"];
    let (code, summary, stderr) = run(&[&flags[..], &["--to", lines.to_str().unwrap()]].concat());
    assert_eq!(code, 0, "{stderr}");
    let text = std::fs::read_to_string(&lines).unwrap();
    std::fs::remove_file(lines).unwrap();
    (summary, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// What `tickgen verify` finds of these documents.
async fn verified(summary: &Value, url: &str, flags: &[&str], settle: &str) -> (i32, Value, String) {
    let file = kept(summary);
    let of = ["verify", "--summary-of", file.to_str().unwrap(), "--opensearch", url, "--index", "i"];
    let mut command = tickgen(&[&of[..], &["--summary", "-", "--settle", settle], flags].concat());
    if flags.contains(&"--opensearch-user") {
        command.env("TICKGEN_OPENSEARCH_PASSWORD", "open sesame");
    }
    let found = tokio::task::spawn_blocking(move || finished(&command.output().unwrap())).await.unwrap();
    if found.1.is_object() {
        assert_eq!(violations(&report_schema(), &found.1, ""), [] as [String; 0]);
    }
    found
}

fn counts(report: &Value) -> [u64; 6] {
    ["acked", "delivered", "lost", "duplicated", "corrupted", "foreign"]
        .map(|name| count(report, &format!("verify.{name}")))
}

/// Pages that hold less than there is are halved until they hold all.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_proved_whatever_a_page_holds() {
    let (summary, mut documents) = made(12_000);
    documents.extend((0..3).map(|n| json!({"EVENT_TIME": "2026", "PRICE": n})));
    for most in [10_000, 700, 1] {
        let documents = if most == 1 { documents[..40].to_vec() } else { documents.clone() };
        let expected = documents.len().min(12_000) as u64;
        let (script, url) = serve(Script { documents, most, ..Script::default() }).await;
        let (code, report, stderr) = verified(&summary, &url, &["--opensearch-user", "Aladdin"], "1s").await;
        let foreign = if most == 1 { 0 } else { 3 };
        assert_eq!(counts(&report), [12_000, expected, 12_000 - expected, 0, 0, foreign], "{stderr}");
        assert_eq!(code, if most == 1 { 98 } else { 0 }, "{stderr}");
        let script = script.lock().unwrap();
        for (_, headers, _) in &script.asked {
            assert_eq!(headers["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        }
        assert!(!stderr.contains("open sesame") && !report.to_string().contains("open sesame"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_an_index_are_found_as_they_were_made() {
    let (summary, all) = made(300);
    let mut documents: Vec<Value> = all.clone();
    documents.drain(100..105);
    documents.extend([all[7].clone(), all[7].clone(), all[299].clone()]);
    documents[50]["PRICE"] = json!(-1.0);
    let (_, url) = serve(Script { documents, most: 10_000, ..Script::default() }).await;
    let (code, report, stderr) = verified(&summary, &url, &[], "1s").await;
    assert_eq!((code, counts(&report)), (98, [300, 294, 6, 3, 1, 0]), "{stderr}");
    assert_eq!(count(&report, "verify.duplicated_records"), 2);
    let ranges = json!([{"load": "", "first": 50, "last": 50}, {"load": "", "first": 100, "last": 104}]);
    assert_eq!(report["verify"]["lost_ranges"], ranges);
    // They were all there at the first look.
    let measured = (&report["index"]["event_to_searchable_ms"], &report["index"]["measured_ratio"]);
    assert_eq!(measured, (&Value::Null, &json!(0.0)));
    assert!(stderr.contains("searchable  not measured: begin before the documents come"), "{stderr}");
    assert!(stderr.contains("NOT PROVED           294 delivered = 300 acked - 6 lost"), "{stderr}");
}

/// What comes between two looks is measured; what was there before is not.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_come_slowly_are_waited_for() {
    let (summary, mut documents) = made(400);
    let later = [300, 150].map(|at| documents.split_off(at));
    let script =
        Script { documents, later: later.into_iter().rev().collect(), most: 10_000, ..Script::default() };
    let (_, url) = serve(script).await;
    let (code, report, stderr) = verified(&summary, &url, &[], "6s").await;
    assert_eq!((code, counts(&report)), (0, [400, 400, 0, 0, 0, 0]), "{stderr}");
    let index = &report["index"];
    assert_eq!((count(index, "documents"), &index["settled"]), (400, &json!(true)));
    // The first count lets the second lot in, before it is looked which there are.
    let first = count(index, "found_at_first_look");
    assert_eq!((first, count(index, "event_to_searchable_ms.count")), (300, 100), "{index:#}");
    assert_eq!(index["measured_ratio"], json!(0.25));
    assert!(index["between_looks_ms"].as_f64().unwrap() >= 1_000.0, "{index:#}");
    assert!(stderr.contains("after the intended start, or up to"), "{stderr}");
}

/// What delivers documents tries again: copies come when all records are there, and while they are read.
#[tokio::test(flavor = "multi_thread")]
async fn late_copies_are_counted() {
    let (summary, documents) = made(50);
    let copy = documents[7].clone();
    for (later, last) in [(vec![vec![], vec![copy.clone()]], None), (vec![], Some(copy.clone()))] {
        let documents = documents.clone();
        let script = Script { documents, later: later.into(), last, most: 10_000, ..Script::default() };
        let (_, url) = serve(script).await;
        let (code, report, stderr) = verified(&summary, &url, &[], "4s").await;
        assert_eq!((code, counts(&report)), (0, [50, 50, 0, 1, 0, 0]), "{stderr}");
        assert_eq!(count(&report, "index.documents"), 51);
    }
}

/// With its id known a run's documents are looked for while it is on: each of them is measured.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_measured_while_the_run_is_on() {
    measured_while_the_run_is_on(false).await;
}

/// Which field can be sorted by depends on who made the mapping.
#[tokio::test(flavor = "multi_thread")]
async fn documents_of_a_mapping_made_by_itself_are_measured_while_the_run_is_on() {
    measured_while_the_run_is_on(true).await;
}

async fn measured_while_the_run_is_on(texts: bool) {
    let (summary, documents) = made(300);
    let (script, url) = serve(Script { most: 10_000, texts, ..Script::default() }).await;
    let file = kept(&summary);
    std::fs::write(&file, "").unwrap();
    let id = summary["run_id"].as_str().unwrap();
    let of = ["verify", "--summary-of", file.to_str().unwrap(), "--run", id, "--summary", "-", "--quiet"];
    let verifying = start(&[&of[..], &["--opensearch", &url, "--index", "i", "--settle", "3s"]].concat());
    let seen = |what: fn(&Value) -> bool| {
        let script = Arc::clone(&script);
        async move {
            while !script.lock().unwrap().asked.iter().any(|(_, _, asked)| what(asked)) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    };
    // The first look finds nothing.
    seen(|asked| asked["sort"].is_array()).await;
    script.lock().unwrap().documents = documents;
    seen(|asked| asked["_source"] == json!(["STAMP"]) && asked["sort"].is_null()).await;
    std::fs::write(&file, summary.to_string()).unwrap();
    let ended = tokio::task::spawn_blocking(move || finished(&verifying.wait_with_output().unwrap()));
    let (code, report, stderr) = ended.await.unwrap();
    assert_eq!((code, counts(&report)), (0, [300, 300, 0, 0, 0, 0]), "{stderr}");
    assert_eq!(violations(&report_schema(), &report, ""), [] as [String; 0]);
    assert_eq!(count(&report, "index.event_to_searchable_ms.count"), 300, "{report:#}");
    assert_eq!(
        (count(&report, "index.found_at_first_look"), &report["index"]["measured_ratio"]),
        (0, &json!(1.0))
    );
    assert!(stderr.contains("waiting for the run to end"), "{stderr}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_documents_is_bounded() {
    let (summary, mut documents) = made(30);
    let rest = documents.split_off(10);
    // One every second.
    let later = rest.into_iter().map(|one| vec![one]).collect();
    let (_, url) = serve(Script { documents, later, most: 10_000, ..Script::default() }).await;
    let (code, report, stderr) = verified(&summary, &url, &["--settle-timeout", "2s"], "1m").await;
    assert_eq!((code, &report["index"]["settled"]), (98, &json!(false)), "{stderr}");
    assert!(stderr.contains("had not settled when --settle-timeout ended the wait"), "{stderr}");
}

/// Who is stopped says what was found so far, and that it is no proof.
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_is_stopped_says_so() {
    let (summary, mut documents) = made(30);
    documents.pop();
    let (script, url) = serve(Script { documents, most: 10_000, ..Script::default() }).await;
    let file = kept(&summary);
    let of = ["verify", "--summary-of", file.to_str().unwrap(), "--opensearch", &url, "--index", "i"];
    let verifying = start(&[&of[..], &["--summary", "-"]].concat());
    while script.lock().unwrap().asked.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    signal(&verifying, "TERM");
    let ended = tokio::task::spawn_blocking(move || finished(&verifying.wait_with_output().unwrap()));
    let (code, report, stderr) = ended.await.unwrap();
    assert_eq!(
        (code, count(&report, "verify.unread"), count(&report, "verify.lost")),
        (98, 30, 0),
        "{stderr}"
    );
    assert!(stderr.contains("Not all was read: stopped before all documents were read"), "{stderr}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_index_refuses_comes_with_advice() {
    let (summary, documents) = made(20);
    for (statuses, expected, said) in [
        (vec![403], 1, "HTTP 403: scripted 403. Let these credentials read the index: aoss:ReadDocument"),
        (vec![404], 1, "HTTP 404: scripted 404. Check --opensearch and --index."),
        (vec![401], 1, "Check the credentials, or --opensearch-user"),
        (vec![429, 503], 0, "asking again"),
    ] {
        let script =
            Script { documents: documents.clone(), statuses: statuses.into(), most: 99, ..Script::default() };
        let (_, url) = serve(script).await;
        let (code, _, stderr) = verified(&summary, &url, &[], "5s").await;
        assert!(code == expected && stderr.contains(said), "{said}\n{stderr}");
    }
    let (code, _, stderr) = verified(&summary, "http://127.0.0.1:1", &[], "5s").await;
    assert!(code == 1 && stderr.contains("Connection refused"), "{stderr}");
}

/// Of a run known by its id alone the numbers that are not there are told as gaps.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_known_by_its_id_is_counted_in_an_index() {
    counted_in_an_index(false).await;
    counted_in_an_index(true).await;
}

async fn counted_in_an_index(texts: bool) {
    let (summary, mut documents) = made(30);
    documents.remove(3);
    documents.push(documents[20].clone());
    let (_, url) = serve(Script { documents, most: 10_000, texts, ..Script::default() }).await;
    let id = summary["run_id"].as_str().unwrap().to_owned();
    let counted = move || {
        let of = ["verify", "--run", &id, "--opensearch", &url, "--index", "i", "--settle", "1s"];
        run(&of)
    };
    let (code, report, stderr) = tokio::task::spawn_blocking(counted).await.unwrap();
    assert_eq!(
        (code, count(&report, "verify.delivered"), count(&report, "verify.duplicated")),
        (0, 29, 1),
        "{stderr}"
    );
    assert_eq!(report["verify"]["loads"], json!([{"place": "0", "delivered": 29, "numbers": 30, "gaps": 1}]));
}

/// Requests to AWS' own domains are signed: botocore makes the same signature of them.
#[tokio::test(flavor = "multi_thread")]
async fn botocore_agrees_with_the_signature() {
    let Some(root) = peers(&["venv/bin/python"]) else { return };
    for service in ["aoss", "es"] {
        let (summary, documents) = made(10);
        let (script, url) = serve(Script { documents, most: 99, ..Script::default() }).await;
        let file = kept(&summary);
        // The proxy is the index: nothing leaves this machine.
        let domain = format!("http://abc.ap-northeast-1.{service}.amazonaws.com");
        let mut command = tickgen(&[
            "verify",
            "--summary-of",
            file.to_str().unwrap(),
            "--opensearch",
            &domain,
            "--index",
            "i",
            "--settle",
            "1s",
        ]);
        command.env("HTTP_PROXY", &url).env("http_proxy", &url).env_remove("NO_PROXY").env_remove("no_proxy");
        command.env("AWS_SESSION_TOKEN", "a/token+");
        let (code, _, stderr) =
            tokio::task::spawn_blocking(move || finished(&command.output().unwrap())).await.unwrap();
        assert_eq!(code, 0, "{stderr}");
        let asked = std::mem::take(&mut script.lock().unwrap().asked);
        let (uri, headers, body) = &asked[1];
        let path = uri.split_once("/i/").unwrap().1;
        let headers: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
        let asked = format!("{domain}/i/{path}");
        assert_signed_as_by_botocore(&root, &asked, &headers, body.to_string().as_bytes(), service);
        assert!(headers.contains_key("x-amz-content-sha256"));
    }
}
