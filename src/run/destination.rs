use super::RunError;
#[cfg(feature = "embedded")]
use super::largest_entry;
#[cfg(feature = "embedded")]
use crate::kinesis::embedded::{self, Embedded};
#[cfg(feature = "embedded")]
use crate::kinesis::limits::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};
use crate::kinesis::protocol::StreamRef;
use crate::kinesis::{Client, ClientConfig, Reach, ShardMap, StreamError, StreamInfo};
use crate::plan::{Plan, Target};
use crate::tick::Source;
use std::time::Duration;

/// Where the load goes: the client, what the stream said, and the embedded Kinesis if that is it.
pub(super) struct Destination {
    pub(super) client: Client,
    pub(super) stream: StreamRef,
    pub(super) info: StreamInfo,
    pub(super) map: ShardMap,
    #[cfg(feature = "embedded")]
    _embedded: Option<Embedded>,
}

impl Destination {
    /// Finds the stream, or starts the embedded Kinesis, and asks what it takes.
    pub(super) async fn reach(plan: &Plan, source: &Source) -> Result<Self, RunError> {
        #[cfg(not(feature = "embedded"))]
        let _ = source;
        #[cfg(feature = "embedded")]
        let mut own = None;
        let (stream, reach) = match &plan.target {
            Target::Stream { stream, endpoint_url, region, profile } => {
                let (endpoint_url, region, profile) = (endpoint_url.clone(), region.clone(), profile.clone());
                (stream.clone(), Reach::Aws { endpoint_url, region, profile })
            }
            #[cfg(feature = "embedded")]
            Target::Embedded { shards, keep_bytes } => {
                let shards = shards.unwrap_or_else(|| enough_shards(plan, source));
                let server = Embedded::start(shards, *keep_bytes).await?;
                let (key, secret) = embedded::CREDENTIALS;
                let reach = Reach::Loopback { url: server.url(), region: embedded::REGION, key, secret };
                own = Some(server);
                (StreamRef::Name(embedded::STREAM.to_owned()), reach)
            }
            #[cfg(not(feature = "embedded"))]
            Target::Embedded { .. } => {
                return Err(RunError::Plan("this build has no embedded Kinesis; name a --stream".to_owned()));
            }
        };
        let config = ClientConfig {
            stream: stream.clone(),
            reach,
            max_connections: plan.max_connections,
            connect_timeout: plan.connect_timeout,
            attempt_timeout: plan.attempt_timeout,
        };
        let client = Client::connect(&config).await?;
        #[cfg_attr(
            not(feature = "embedded"),
            expect(unused_mut, reason = "only the embedded one is narrowed")
        )]
        let mut info = patiently(|| client.describe()).await?;
        #[cfg(feature = "embedded")]
        if own.is_some() {
            info.limits.request_bytes = info.limits.request_bytes.min(embedded::MAX_REQUEST_BYTES);
        }
        let map = patiently(|| client.shard_map()).await?;
        Ok(Self {
            client,
            stream,
            info,
            map,
            #[cfg(feature = "embedded")]
            _embedded: own,
        })
    }
}

/// Asks up to four times, over some three seconds, where asking again may help: a sidecar may start
/// before what it talks to.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, StreamError>
where
    F: Future<Output = Result<T, StreamError>>,
{
    for pause in [200, 800, 2_000] {
        match ask().await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "asking again");
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// As many shards as take the load with room for its unevenness: hashed keys give a shard a Poisson
/// number of entries a second, so 40 % more than the mean and three standard deviations must fit.
#[cfg(feature = "embedded")]
fn enough_shards(plan: &Plan, source: &Source) -> u32 {
    const CLOSED_LOOP: u32 = 64;
    const MOST: u32 = 10_000;
    let Some(rate) = plan.rate else { return CLOSED_LOOP };
    // An aggregate is one Kinesis record, full or as full as it gets while it lingers.
    let per_entry =
        plan.aggregate_bytes.map_or(1.0, |full| (full as f64 / source.max_record_bytes() as f64).max(1.0));
    let entries = rate.per_second() / per_entry;
    let by_bytes = f64::from(SHARD_BYTES_PER_SECOND) / largest_entry(plan, source).max(1) as f64;
    let takes = f64::from(SHARD_RECORDS_PER_SECOND).min(by_bytes.max(1.0).floor());
    let fits = |shards: &u32| {
        let mean = entries / f64::from(*shards);
        mean * 1.4 + 3.0 * mean.sqrt() <= takes
    };
    (1..MOST).find(fits).unwrap_or(MOST)
}
