use super::RunError;
use super::lines::Lines;
use super::verify::connections;
use crate::kinesis::protocol::StreamRef;
use crate::kinesis::{
    Answer, BodyHash, Client, ClientConfig, PutRecords, Reach, ReadMarks, ShardMap, StreamError, StreamInfo,
};
use crate::plan::{Plan, Target};
use crate::tick::Source;
use bytes::Bytes;
use std::time::Duration;
#[cfg(feature = "embedded")]
use {
    super::engines::largest_entry,
    crate::kinesis::embedded::{self, Embedded},
    crate::kinesis::limits::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND},
    crate::plan::Offer,
};

/// Where the loads go, and the embedded Kinesis if that is it.
pub(super) struct Destinations {
    /// One for each load.
    pub(super) loads: Vec<Destination>,
    /// How far their streams were read back.
    pub(super) marks: ReadMarks,
    #[cfg(feature = "embedded")]
    _embedded: Option<Embedded>,
}

/// Where a load goes, and what the stream said.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) to: Sink,
    /// What reads it back, if that is asked for: its connections are not the producer's.
    pub(super) reader: Option<Client>,
    pub(super) stream: StreamRef,
    /// Its place among the run's streams.
    pub(super) place: usize,
    pub(super) info: StreamInfo,
    pub(super) map: ShardMap,
}

/// What takes the records.
#[derive(Clone)]
pub(super) enum Sink {
    Stream(Client),
    Lines(Lines),
}

impl PutRecords for Sink {
    const SIGNED: bool = true;

    async fn put_records(&self, body: Bytes, hash: Option<BodyHash>) -> Answer {
        match self {
            Self::Stream(client) => client.put_records(body, hash).await,
            Self::Lines(lines) => lines.put_records(body, hash).await,
        }
    }
}

impl Sink {
    /// The client, if it is a stream.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Self::Stream(client) => Some(client),
            Self::Lines(_) => None,
        }
    }
}

impl Destinations {
    /// Finds the streams, or starts the embedded Kinesis, and asks what they take.
    pub(super) async fn reach(plan: &Plan, sources: &[Source]) -> Result<Self, RunError> {
        match &plan.target {
            Target::Streams { endpoint_url, region, profile } => {
                let (endpoint_url, region, profile) = (endpoint_url.clone(), region.clone(), profile.clone());
                Self::at(plan, Reach::Aws { endpoint_url, region, profile }).await
            }
            Target::Lines(to) => {
                // A pipe opens once somebody reads it, which a signal must not wait for.
                let place = to.clone();
                let opened = tokio::task::spawn_blocking(move || Lines::open(&place)).await;
                let lines = opened
                    .map_err(std::io::Error::other)
                    .flatten()
                    .map_err(|error| RunError::Plan(format!("--to cannot be written: {error}")))?;
                let destination = Destination {
                    stream: StreamRef::Name(lines.name().to_owned()),
                    place: 0,
                    to: Sink::Lines(lines),
                    reader: None,
                    info: StreamInfo::of_no_stream(),
                    map: ShardMap::even(1),
                };
                Ok(Self {
                    loads: vec![destination; plan.loads.len()],
                    marks: ReadMarks::default(),
                    #[cfg(feature = "embedded")]
                    _embedded: None,
                })
            }
            #[cfg(feature = "embedded")]
            Target::Embedded { shards, keep_bytes } => {
                let marks = ReadMarks::default();
                let shards = shards.unwrap_or_else(|| enough_shards(plan, sources));
                let fan_out = plan.verify.is_some_and(|read_back| read_back.fan_out);
                let marked = plan.verify.map(|_| marks.clone());
                let server = Embedded::start(shards, *keep_bytes, marked, fan_out).await?;
                let (key, secret) = embedded::CREDENTIALS;
                let reach = Reach::Loopback {
                    url: server.url(),
                    region: embedded::REGION,
                    key,
                    secret,
                    certificate: None,
                };
                let mut one = stream(plan, StreamRef::Name(embedded::STREAM.to_owned()), 0, reach).await?;
                one.info.limits.request_bytes =
                    one.info.limits.request_bytes.min(embedded::MAX_REQUEST_BYTES);
                Ok(Self { loads: vec![one; plan.loads.len()], marks, _embedded: Some(server) })
            }
            #[cfg(not(feature = "embedded"))]
            Target::Embedded { .. } => {
                let _ = sources;
                Err(RunError::Plan("this build has no embedded Kinesis; name a --stream".to_owned()))
            }
        }
    }
}

impl Destinations {
    /// The streams that the loads name, at `reach`.
    pub(super) async fn at(plan: &Plan, reach: Reach) -> Result<Self, RunError> {
        Ok(Self {
            loads: streams(plan, &reach).await?,
            marks: ReadMarks::default(),
            #[cfg(feature = "embedded")]
            _embedded: None,
        })
    }
}

/// The stream of each load; loads of one stream share its client.
async fn streams(plan: &Plan, reach: &Reach) -> Result<Vec<Destination>, RunError> {
    let mut loads: Vec<Destination> = Vec::new();
    for load in &plan.loads {
        let Some(name) = &load.stream else {
            return Err(RunError::Plan(format!("load {} names no stream", load.name)));
        };
        let known = loads.iter().find(|one| one.stream == *name).cloned();
        let one = if let Some(one) = known {
            one
        } else {
            let place = loads.iter().map(|one| one.place + 1).max().unwrap_or(0);
            stream(plan, name.clone(), place, reach.clone()).await?
        };
        loads.push(one);
    }
    Ok(loads)
}

async fn stream(plan: &Plan, stream: StreamRef, place: usize, reach: Reach) -> Result<Destination, RunError> {
    let config = ClientConfig {
        stream: stream.clone(),
        reach,
        form: plan.form,
        max_connections: plan.max_connections,
        connect_timeout: plan.connect_timeout,
        attempt_timeout: plan.attempt_timeout,
    };
    let client = Client::connect(&config).await?;
    let reader = match plan.verify {
        Some(read_back) => {
            let max_connections = connections(plan.max_connections, read_back);
            Some(Client::connect(&ClientConfig { max_connections, ..config.clone() }).await?)
        }
        None => None,
    };
    let info = patiently(|| client.describe()).await?;
    let map = patiently(|| client.shard_map()).await?;
    Ok(Destination { to: Sink::Stream(client), reader, stream, place, info, map })
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

/// As many shards as take the loads with room for their unevenness: hashed keys give a shard a Poisson
/// number of entries a second, so 40 % more than the mean and three standard deviations must fit.
#[cfg(feature = "embedded")]
fn enough_shards(plan: &Plan, sources: &[Source]) -> u32 {
    const UNKNOWN_RATE: u32 = 64;
    const MOST: u32 = 10_000;
    let (mut entries, mut takes) = (0.0, f64::from(SHARD_RECORDS_PER_SECOND));
    for (load, source) in plan.loads.iter().zip(sources) {
        let Offer::Open(shape, _) = &load.offer else { return UNKNOWN_RATE };
        // An aggregate is one Kinesis record, full or as full as it gets while it lingers.
        let full = load.aggregate_bytes.map(|full| full as f64 / source.max_record_bytes() as f64);
        entries += shape.peak() / full.unwrap_or(1.0).max(1.0);
        let by_bytes = f64::from(SHARD_BYTES_PER_SECOND) / largest_entry(load, source).max(1) as f64;
        takes = takes.min(by_bytes.max(1.0).floor());
    }
    let fits = |shards: &u32| {
        let mean = entries / f64::from(*shards);
        mean * 1.4 + 3.0 * mean.sqrt() <= takes
    };
    (1..MOST).find(fits).unwrap_or(MOST)
}
