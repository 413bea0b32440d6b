//! What one writes first: the SDK's own types, 500 entries a request, a few requests in flight.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const IN_FLIGHT: usize = 16;

/// Sends for `duration`; prints a summary with the fields that the table needs.
pub(crate) fn run(url: &str, duration: Duration) -> super::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (records, bytes, elapsed) = runtime.block_on(send(url.to_owned(), duration))?;
    println!(r#"{{"acked":{records},"bytes":{bytes},"elapsed_s":{elapsed}}}"#);
    Ok(())
}

async fn send(url: String, duration: Duration) -> super::Result<(u64, u64, f64)> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("x", "x", None, None, "bench"))
        .endpoint_url(url)
        .build();
    let client = Client::from_conf(config);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        tasks.spawn(worker(client.clone(), begun, duration));
    }
    let (mut records, mut bytes) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let (r, b) = done?.map_err(|error| error.to_string())?;
        records += r;
        bytes += b;
    }
    Ok((records, bytes, begun.elapsed().as_secs_f64()))
}

async fn worker(
    client: Client,
    begun: Instant,
    duration: Duration,
) -> std::result::Result<(u64, u64), Box<dyn std::error::Error + Send + Sync>> {
    let (mut records, mut bytes, mut n) = (0, 0, 0_u64);
    while begun.elapsed() < duration {
        let mut request = client.put_records().stream_name("null");
        for _ in 0..500 {
            n += 1;
            let now = chrono::Utc::now().naive_utc().format("%Y-%m-%dT%H:%M:%S%.6f");
            let price = rand::random_range(0..10_000_u32);
            let data = format!(
                "{{\"EVENT_TIME\": \"{now}\", \"TICKER\": \"AMZN\", \"PRICE\": {}}}",
                f64::from(price) / 100.0
            );
            let key = format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            bytes += (data.len() + key.len()) as u64;
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(data)).partition_key(key).build()?;
            request = request.records(entry);
        }
        let answer = request.send().await?;
        records += answer.records().iter().filter(|result| result.error_code().is_none()).count() as u64;
    }
    Ok((records, bytes))
}
