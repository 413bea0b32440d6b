//! `--otlp`: what a collector is told, and what becomes of a run whose collector is gone. `.ci/peers` installs a
//! collector by others.
#![cfg(all(feature = "embedded", feature = "otlp"))]

use crate::harness::{free_port, peers, run};
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point::Value as Number};
use prost::Message as _;
use serde_json::Value;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOAD: [&str; 7] = ["--rps", "400", "--duration", "1s", "--shards", "1", "--otlp"];

/// A receiver that answers with this status and keeps what it was sent.
async fn receiver(status: StatusCode) -> (String, Arc<Mutex<Vec<ExportMetricsServiceRequest>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let take = async move |headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        kept.lock().unwrap().push(ExportMetricsServiceRequest::decode(body).expect("a request"));
        status
    };
    let routes = axum::Router::new().route("/base/v1/metrics", post(take));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, routes).await.unwrap() });
    (url, received)
}

/// Runs the load against a collector.
async fn run_to(collector: String) -> (i32, Value, String) {
    tokio::task::spawn_blocking(move || run(&[&LOAD[..], &[&collector]].concat())).await.unwrap()
}

/// The value of a sum with a label of this value, or without any.
fn sum(metrics: &[Metric], name: &str, label: Option<&str>) -> i64 {
    let metric = metrics.iter().find(|metric| metric.name == name).expect("a metric");
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{name} is no sum") };
    let of_label = sum.data_points.iter().find(|point| match label {
        Some(label) => {
            let is = |value: String| value.contains(&format!("{label:?}"));
            point.attributes.iter().any(|own| is(format!("{:?}", own.value)))
        }
        None => point.attributes.is_empty(),
    });
    match of_label.and_then(|point| point.value) {
        Some(Number::AsInt(value)) => value,
        other => panic!("{name} {label:?}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_what_the_summary_tells() {
    let (url, received) = receiver(StatusCode::OK).await;
    let (code, summary, log) = run_to(url).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("exported the metrics to the collector done=1 failed=0"), "{log}");
    let request = received.lock().unwrap().pop().expect("an export");
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    for (name, label, field) in [
        ("tickgen_records_total", Some("acked"), "acked"),
        ("tickgen_records_total", Some("dropped"), "dropped"),
        ("tickgen_scheduled_records_total", None, "scheduled"),
        ("tickgen_generated_records_total", None, "generated"),
        ("tickgen_requests_total", Some("ok"), "requests"),
        ("tickgen_accepted_bytes_total", None, "bytes"),
        ("tickgen_shard_accepted_total", Some("shardId-000000000000"), "kinesis_records"),
    ] {
        assert_eq!(Some(sum(metrics, name, label)), summary[field].as_i64(), "{name} {label:?}");
    }
    let times = metrics.iter().find(|metric| metric.name == "tickgen_response_time_seconds").unwrap();
    let Some(Data::Histogram(times)) = &times.data else { panic!() };
    let point = &times.data_points[0];
    assert_eq!(Some(point.count), summary["response_time_ms"]["count"].as_u64());
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    let (mean, told) = (point.sum.unwrap() / point.count as f64 * 1e3, &summary["response_time_ms"]["mean"]);
    assert!((mean / told.as_f64().unwrap() - 1.0).abs() < 1e-3, "{mean} ms: {told}");
    let resource = format!("{:?}", request.resource_metrics[0].resource);
    assert!(resource.contains(&format!("{:?}", summary["run_id"].as_str().unwrap())), "{resource}");
    assert!(point.time_unix_nano > point.start_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_does_no_harm() {
    // One that takes connections and says nothing, none at all, and one that refuses.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (refusing, received) = receiver(StatusCode::SERVICE_UNAVAILABLE).await;
    for (collector, why) in [
        (format!("http://{}", silent.local_addr().unwrap()), "no answer within 3 s"),
        (format!("http://127.0.0.1:{}", free_port()), "onnection refused"),
        (refusing, "503 Service Unavailable"),
    ] {
        let (code, summary, log) = run_to(collector).await;
        assert_eq!((code, summary["acked"].as_u64()), (0, Some(400)), "{log}");
        assert_eq!(log.matches(" WARN ").count(), 1, "{log}");
        assert!(log.contains("the metrics could not be exported") && log.contains(why), "{log}");
        assert!(log.contains("done=0 failed=1"), "{log}");
    }
    assert_eq!(received.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for url in ["collector:4318", "https://127.0.0.1:4318", "http://", "http://a:b@c", "http://h?x"] {
        let (code, _, log) = run_to(url.to_owned()).await;
        assert_eq!(code, 2, "{url}");
        assert!(log.contains("--otlp") && log.contains("Nothing was sent"), "{log}");
    }
}

struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rotel, an OpenTelemetry collector, writes what it takes to its log.
#[tokio::test]
async fn a_collector_by_others_takes_it() {
    let binary = "rotel";
    let Some(root) = peers(&[binary]) else { return };
    let [http, grpc] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(root.join(binary));
    command.args(["start", "--exporter", "blackhole", "--debug-log", "metrics"]);
    command.args(["--debug-log-verbosity", "detailed", "--otlp-http-endpoint", &http]);
    command.args(["--otlp-grpc-endpoint", &grpc]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut collector = Collector(command.stderr(Stdio::null()).spawn().expect("the collector starts"));
    // Against hanging alone.
    for _ in 0..600 {
        if TcpStream::connect(&http).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (code, summary, log) = run_to(format!("http://{http}")).await;
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("done=1 failed=0"), "{log}");
    let mut told = String::new();
    let mut stdout = collector.0.stdout.take().unwrap();
    while !told.contains("process_resident_memory_bytes") {
        let mut part = [0; 4096];
        let length = stdout.read(&mut part).unwrap();
        assert!(length > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    let metric = |name: &str| {
        let from = told.find(&format!("-> Name: {name}\n")).expect("a metric");
        told[from..].split("Descriptor:").next().unwrap_or_default()
    };
    let acked = metric("tickgen_records_total").split("outcome: Str(acked)").nth(1).unwrap();
    let line = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    assert_eq!(line(acked, "Value:"), summary["acked"].as_u64());
    let times = metric("tickgen_service_time_seconds");
    assert_eq!(line(times, "Count:"), summary["service_time_ms"]["count"].as_u64(), "{times}");
}
