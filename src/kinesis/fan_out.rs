//! Enhanced fan-out: a registered consumer, to which each shard is pushed at 2 MiB/s of its own.

use super::reader::{is_at_tip, stored};
use super::{Client, Position, RequestError, RequestErrorKind as Kind, ShardId, StoredRecord, StreamError};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{
    ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest silence of a subscription; Kinesis sends something every few seconds, whether there are
/// records or not.
const SILENCE: Duration = Duration::from_secs(35);

/// How often it is asked whether a consumer is active, and the pause between.
const ASKED: u32 = 120;
const PAUSE: Duration = Duration::from_millis(500);

/// Consumers that were registered and must be deregistered: a stream takes 20, and each costs.
#[derive(Clone, Debug, Default)]
pub struct Registrations(Arc<Mutex<Vec<Registration>>>);

/// A registered consumer of one stream.
#[derive(Clone, Debug)]
pub struct Registration {
    client: Client,
    stream_arn: String,
    name: String,
    arn: String,
}

/// A shard that is pushed to a consumer.
pub struct Subscription(Box<SubscribeToShardOutput>);

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

/// What was pushed at once.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The records.
    pub records: Vec<StoredRecord>,
    /// The sequence number of the last of them.
    pub last: Option<String>,
    /// Where the shard goes on, even if there were no records.
    pub continuation: Option<String>,
    /// How far it was from the newest record, in milliseconds.
    pub behind_ms: u64,
    /// Whether there was nothing newer than it.
    pub at_tip: bool,
    /// Whether the shard is closed and was pushed to its end.
    pub ended: bool,
}

impl Registrations {
    /// Registers a consumer of a stream and waits until it is active.
    ///
    /// # Errors
    /// If the stream takes no more consumers, or it may not be done.
    pub async fn register(
        &self,
        client: &Client,
        stream_arn: &str,
        name: &str,
    ) -> Result<Registration, StreamError> {
        let (stream_arn, name) = (stream_arn.to_owned(), name.to_owned());
        let mut registration = Registration { client: client.clone(), stream_arn, name, arn: String::new() };
        // Noted before it is asked for: whoever stops waiting for the answer must deregister it too.
        self.lock().push(registration.clone());
        let request = client.sdk.register_stream_consumer();
        let request = request.stream_arn(&registration.stream_arn).consumer_name(&registration.name);
        let answer = request.send().await.map_err(|error| client.failed("RegisterStreamConsumer", &error))?;
        registration.arn = answer.consumer().map(|c| c.consumer_arn().to_owned()).unwrap_or_default();
        for _ in 0..ASKED {
            let request = client.sdk.describe_stream_consumer().consumer_arn(&registration.arn);
            let answer =
                request.send().await.map_err(|error| client.failed("DescribeStreamConsumer", &error))?;
            if answer.consumer_description().is_some_and(|c| *c.consumer_status() == ConsumerStatus::Active) {
                return Ok(registration);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let text = format!("consumer {} did not become active", registration.name);
        Err(client.fault("RegisterStreamConsumer", Kind::Fatal, text))
    }

    /// Deregisters all. What cannot be is told, with what to do about it.
    pub async fn end(&self) {
        let registrations = std::mem::take(&mut *self.lock());
        for Registration { client, stream_arn, name, .. } in registrations {
            let request = client.sdk.deregister_stream_consumer();
            let answer = request.stream_arn(&stream_arn).consumer_name(&name).send().await;
            match answer {
                Err(error) if error.code() != Some("ResourceNotFoundException") => tracing::error!(
                    error = %client.failed("DeregisterStreamConsumer", &error),
                    "a consumer is left: aws kinesis deregister-stream-consumer --stream-arn {stream_arn} \
                     --consumer-name {name}"
                ),
                _ => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Registration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// `SubscribeToShard`: the shard is pushed for five minutes.
    ///
    /// # Errors
    /// If the shard is not there, or its last subscription is younger than five seconds.
    pub async fn subscribe(&self, shard: ShardId, from: &Position) -> Result<Subscription, StreamError> {
        let position = StartingPosition::builder();
        let position = match from {
            Position::Oldest => position.r#type(ShardIteratorType::TrimHorizon),
            Position::Newest => position.r#type(ShardIteratorType::Latest),
            Position::Time(at) => position
                .r#type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_nanos(i128::from(*at)).unwrap_or(DateTime::from_secs(0))),
            Position::At(number) => {
                position.r#type(ShardIteratorType::AtSequenceNumber).sequence_number(number)
            }
            Position::After(number) => {
                position.r#type(ShardIteratorType::AfterSequenceNumber).sequence_number(number)
            }
        };
        let position = position.build().map_err(|error| StreamError::Build(error.into()))?;
        let request = self.client.sdk.subscribe_to_shard().consumer_arn(&self.arn);
        let request = request.shard_id(shard.to_string()).starting_position(position);
        request.send().await.map(|output| Subscription(Box::new(output))).map_err(|error| self.failed(&error))
    }

    /// What comes next of a subscription; `None` once it is over.
    ///
    /// # Errors
    /// If it breaks off.
    pub async fn next(&self, subscription: &mut Subscription) -> Result<Option<Pushed>, StreamError> {
        let Ok(received) = tokio::time::timeout(SILENCE, subscription.0.event_stream.recv()).await else {
            return Ok(None);
        };
        match received {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => Ok(Some(pushed(event))),
            // Of no concern, such as one that later versions of the API have.
            Ok(Some(_)) => Ok(Some(Pushed::nothing())),
            Ok(None) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed<E, R>(&self, error: &SdkError<E, R>) -> StreamError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let code = error.code().unwrap_or("the connection broke off");
        let kind = match code {
            "AccessDeniedException"
            | "InvalidArgumentException"
            | "ResourceNotFoundException"
            | "ValidationException" => Kind::Fatal,
            // ResourceInUseException: the last subscription is younger than five seconds.
            "ResourceInUseException" | "LimitExceededException" => Kind::Throttled,
            _ => Kind::ConnectionCut,
        };
        let advice = if code == "AccessDeniedException" {
            ". Allow kinesis:SubscribeToShard on the consumer."
        } else {
            ""
        };
        let text = format!("{code}: {}{advice}", error.message().unwrap_or("no more was said"));
        self.client.fault("SubscribeToShard", kind, text)
    }
}

impl Pushed {
    fn nothing() -> Self {
        let records = Vec::new();
        Self { records, last: None, continuation: None, behind_ms: u64::MAX, at_tip: false, ended: false }
    }
}

fn pushed(event: SubscribeToShardEvent) -> Pushed {
    let last = event.records.last().map(|record| record.sequence_number.clone());
    let continuation = Some(event.continuation_sequence_number).filter(|number| !number.is_empty());
    let behind_ms = u64::try_from(event.millis_behind_latest).unwrap_or(0);
    let has_children = event.child_shards.is_some_and(|children| !children.is_empty());
    Pushed {
        ended: continuation.is_none() || has_children && event.records.is_empty(),
        behind_ms,
        at_tip: is_at_tip(event.records.len(), behind_ms),
        records: event.records.into_iter().map(stored).collect(),
        last,
        continuation,
    }
}

impl Client {
    fn fault(&self, operation: &'static str, kind: Kind, text: String) -> StreamError {
        let stream = self.stream.as_str().to_owned();
        StreamError::Request { operation, stream, error: RequestError { kind, text } }
    }
}
