use super::RunError;
#[cfg(feature = "embedded")]
use crate::kinesis::embedded::{self, Embedded};
#[cfg(feature = "embedded")]
use crate::kinesis::limits::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};
use crate::kinesis::protocol::StreamRef;
use crate::kinesis::{Client, ClientConfig, ShardMap, StreamInfo};
use crate::plan::{Plan, Target};

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
    pub(super) async fn reach(plan: &Plan) -> Result<Self, RunError> {
        let mut config = ClientConfig {
            stream: StreamRef::Name(String::new()),
            endpoint_url: None,
            region: None,
            profile: None,
            static_credentials: None,
            max_connections: plan.max_connections,
            connect_timeout: plan.connect_timeout,
            attempt_timeout: plan.attempt_timeout,
        };
        #[cfg(feature = "embedded")]
        let mut own = None;
        match &plan.target {
            Target::Stream { stream, endpoint_url, region, profile } => {
                config.stream = stream.clone();
                config.endpoint_url.clone_from(endpoint_url);
                config.region.clone_from(region);
                config.profile.clone_from(profile);
            }
            #[cfg(feature = "embedded")]
            Target::Embedded { shards, keep_bytes } => {
                let server =
                    Embedded::start(shards.unwrap_or_else(|| enough_shards(plan)), *keep_bytes).await?;
                config.stream = StreamRef::Name(embedded::STREAM.to_owned());
                config.endpoint_url = Some(server.url());
                config.region = Some(embedded::REGION.to_owned());
                config.static_credentials = Some(embedded::CREDENTIALS);
                own = Some(server);
            }
            #[cfg(not(feature = "embedded"))]
            Target::Embedded { .. } => {
                return Err(RunError::Plan("this build has no embedded Kinesis; name a --stream".to_owned()));
            }
        }
        let client = Client::connect(&config).await?;
        let info = client.describe().await?;
        let map = client.shard_map().await?;
        Ok(Self {
            client,
            stream: config.stream,
            info,
            map,
            #[cfg(feature = "embedded")]
            _embedded: own,
        })
    }
}

/// Shards with half as much again as the load needs: uniform keys do not spread quite evenly.
#[cfg(feature = "embedded")]
fn enough_shards(plan: &Plan) -> u32 {
    const CLOSED_LOOP: u32 = 64;
    let Some(rate) = plan.rate else { return CLOSED_LOOP };
    let Ok(source) = super::source(plan, 0) else { return 1 };
    let record = source.max_record_bytes() as f64;
    let by_bytes = rate.per_second() * record / f64::from(SHARD_BYTES_PER_SECOND);
    // An aggregate is one Kinesis record.
    let per_entry = plan.aggregate_bytes.map_or(1.0, |bytes| (bytes as f64 / record).max(1.0));
    let by_records = rate.per_second() / per_entry / f64::from(SHARD_RECORDS_PER_SECOND);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of shards, clamped")]
    let shards = (by_bytes.max(by_records) * 1.5).ceil().clamp(1.0, 10_000.0) as u32;
    shards
}
