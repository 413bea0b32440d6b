use super::limits::StreamLimits;
use super::protocol::{Form, StreamRef, read_answer};
use super::route::{self, Route};
use super::{
    Answer, BodyHash, PutRecords, RequestError, RequestErrorKind, Shard, ShardId, ShardMap, ShardMapError,
    errors,
};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::types::{
    ShardFilter, ShardFilterType, StreamDescriptionSummary, StreamMode, StreamStatus,
};
use aws_smithy_http_client::pool::{ConnectionEvent, ConnectionPool};
use aws_smithy_http_client::{pool, proxy, tls};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Which stream, and how to talk to it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The stream.
    pub stream: StreamRef,
    /// Where it is.
    pub reach: Reach,
    /// The form of its requests.
    pub form: Form,
    /// Connections open at once.
    pub max_connections: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long one attempt may take, connecting included.
    pub attempt_timeout: Duration,
}

/// Where a stream is.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Where the AWS CLI would find it: what is `None` comes from `AWS_*` variables, the shared config
    /// files and the machine's role, and proxies from theirs.
    Aws {
        /// The service's address in place of AWS's own.
        endpoint_url: Option<String>,
        /// The AWS region.
        region: Option<String>,
        /// The profile of the shared config files.
        profile: Option<String>,
    },
    /// On this machine, whatever the environment says.
    Loopback {
        /// The service's address.
        url: String,
        /// The region it claims.
        region: &'static str,
        /// An access key.
        key: &'static str,
        /// Its secret.
        secret: &'static str,
        /// The only certificate that it may show with TLS, in PEM.
        certificate: Option<&'static str>,
    },
}

/// A client of one stream.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) stream: StreamRef,
    pub(super) sdk: aws_sdk_kinesis::Client,
    form: Form,
    timeouts: TimeoutConfig,
    attempt_timeout: Duration,
    // Found by the first request.
    route: Arc<OnceCell<Route>>,
    connections: Arc<AtomicUsize>,
}

/// What a stream says of itself.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Its full name.
    pub arn: String,
    /// What it takes in one record and one request.
    pub limits: StreamLimits,
    /// How long it keeps records, in hours; 0 if it does not say.
    pub retention_hours: u64,
    /// Whether its capacity follows its use.
    pub on_demand: bool,
    /// Whether it is active: it takes records while it is being changed, but no second change.
    pub active: bool,
}

impl StreamInfo {
    /// Of what is no stream and takes anything.
    #[must_use]
    pub fn of_no_stream() -> Self {
        let kib = i32::try_from(super::limits::MAX_RECORD_BYTES / 1024).ok();
        Self {
            arn: String::new(),
            limits: StreamLimits::new(kib),
            retention_hours: 0,
            on_demand: false,
            active: true,
        }
    }
}

/// Why a stream could not be looked at, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The service answered with an error, or not at all.
    #[error("{operation} of stream {stream}: {error}")]
    Request {
        /// The operation of the API.
        operation: &'static str,
        /// The stream's name or ARN.
        stream: String,
        /// What was said, and advice.
        error: RequestError,
    },
    /// The shards that were listed do not share out the hash keys: the stream is being resharded.
    #[error(transparent)]
    Map(#[from] ShardMapError),
    /// The client could not be built.
    #[error("cannot make an HTTP client: {0}")]
    Build(#[source] BoxError),
}

impl StreamError {
    /// Whether asking again may bring an answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request { error, .. } => error.kind != RequestErrorKind::Fatal,
            Self::Map(_) => true,
            Self::Build(_) => false,
        }
    }
}

impl Client {
    /// A client of the stream of `config`. Nothing is sent yet.
    ///
    /// # Errors
    /// If no HTTP client can be built.
    pub async fn connect(config: &ClientConfig) -> Result<Self, StreamError> {
        let connections = Arc::new(AtomicUsize::new(0));
        let http = http_client(config, &connections)?;
        let sdk = match &config.reach {
            Reach::Aws { endpoint_url, region, profile } => {
                let mut loader = aws_config::from_env().http_client(http);
                if let Some(name) = profile {
                    // A profile that is named wins over AWS_ACCESS_KEY_ID, as in the AWS CLI.
                    let credentials = ProfileFileCredentialsProvider::builder().profile_name(name).build();
                    loader = loader.profile_name(name).credentials_provider(credentials);
                }
                if let Some(region) = region {
                    loader = loader.region(Region::new(region.clone()));
                }
                if let Some(url) = endpoint_url {
                    loader = loader.endpoint_url(url);
                }
                aws_sdk_kinesis::config::Builder::from(&loader.load().await)
            }
            Reach::Loopback { url, region, key, secret, .. } => aws_sdk_kinesis::Config::builder()
                .http_client(http)
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(*region))
                .credentials_provider(Credentials::new(*key, *secret, None, None, "embedded"))
                .endpoint_url(url),
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(config.connect_timeout)
            .operation_attempt_timeout(config.attempt_timeout)
            .build();
        let sdk = sdk
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts.clone());
        Ok(Self {
            stream: config.stream.clone(),
            sdk: aws_sdk_kinesis::Client::from_conf(sdk.build()),
            form: config.form,
            timeouts,
            attempt_timeout: config.attempt_timeout,
            route: Arc::default(),
            connections,
        })
    }

    /// The form of its requests.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.connections)
    }

    /// `DescribeStreamSummary`.
    ///
    /// # Errors
    /// If the stream is not there, or cannot be asked.
    pub async fn describe(&self) -> Result<StreamInfo, StreamError> {
        let request = match &self.stream {
            StreamRef::Name(name) => self.sdk.describe_stream_summary().stream_name(name),
            StreamRef::Arn(arn) => self.sdk.describe_stream_summary().stream_arn(arn),
        };
        let answer = request.send().await.map_err(|error| self.failed("DescribeStreamSummary", &error))?;
        let summary = answer.stream_description_summary();
        let mode = summary
            .and_then(|s| s.stream_mode_details())
            .map(aws_sdk_kinesis::types::StreamModeDetails::stream_mode);
        let record_size = summary.and_then(StreamDescriptionSummary::max_record_size_in_kib);
        Ok(StreamInfo {
            arn: summary.map_or_else(String::new, |s| s.stream_arn().to_owned()),
            limits: StreamLimits::new(record_size),
            retention_hours: summary
                .and_then(|s| u64::try_from(s.retention_period_hours()).ok())
                .unwrap_or(0),
            on_demand: mode == Some(&StreamMode::OnDemand),
            active: summary.is_some_and(|s| *s.stream_status() == StreamStatus::Active),
        })
    }

    /// The open shards, by `ListShards`.
    ///
    /// # Errors
    /// If they cannot be listed, or do not share out the hash keys at the moment.
    pub async fn shard_map(&self) -> Result<ShardMap, StreamError> {
        let latest = ShardFilter::builder().r#type(ShardFilterType::AtLatest).build();
        let latest = latest.map_err(|error| StreamError::Build(error.into()))?;
        let mut shards = Vec::new();
        let mut next_token: Option<String> = None;
        loop {
            // A page is asked for by its token alone.
            let request = match (&next_token, &self.stream) {
                (Some(token), _) => self.sdk.list_shards().next_token(token),
                (None, StreamRef::Name(name)) => {
                    self.sdk.list_shards().stream_name(name).shard_filter(latest.clone())
                }
                (None, StreamRef::Arn(arn)) => {
                    self.sdk.list_shards().stream_arn(arn).shard_filter(latest.clone())
                }
            };
            let page = request.send().await.map_err(|error| self.failed("ListShards", &error))?;
            shards.extend(page.shards().iter().filter_map(open_shard));
            next_token = page.next_token().map(str::to_owned);
            if next_token.is_none() {
                return Ok(ShardMap::new(shards)?);
            }
        }
    }

    pub(super) fn failed<E>(
        &self,
        operation: &'static str,
        error: &aws_sdk_kinesis::error::SdkError<E>,
    ) -> StreamError
    where
        E: aws_sdk_kinesis::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        StreamError::Request {
            operation,
            stream: self.stream.as_str().to_owned(),
            error: errors::classify(error),
        }
    }
}

/// Reads a listed shard; `None` if it is closed (servers that ignore `AT_LATEST` list those too).
fn open_shard(shard: &aws_sdk_kinesis::types::Shard) -> Option<Shard> {
    let range = shard.hash_key_range()?;
    let open = shard.sequence_number_range().is_none_or(|r| r.ending_sequence_number().is_none());
    open.then_some(Shard {
        id: ShardId::parse(shard.shard_id())?,
        first: range.starting_hash_key().parse().ok()?,
        last: range.ending_hash_key().parse().ok()?,
    })
}

fn http_client(config: &ClientConfig, open: &Arc<AtomicUsize>) -> Result<pool::Client, StreamError> {
    let counter = Arc::clone(open);
    let proxy = match config.reach {
        Reach::Aws { .. } => proxy::ProxyConfig::from_env(),
        Reach::Loopback { .. } => proxy::ProxyConfig::disabled(),
    };
    let mut trusted = tls::TrustStore::default();
    if let Reach::Loopback { certificate: Some(certificate), .. } = config.reach {
        trusted = tls::TrustStore::empty().with_pem_certificate(certificate);
    }
    let trusted = tls::TlsContext::builder().with_trust_store(trusted).build();
    let pool = ConnectionPool::builder()
        .max_connections_per_host(config.max_connections)
        .proxy_config(proxy)
        .event_listener(move |event: &ConnectionEvent<'_>| {
            match event {
                ConnectionEvent::Opened(_) => counter.fetch_add(1, Ordering::Relaxed),
                ConnectionEvent::PhysicalClose(_) => counter.fetch_sub(1, Ordering::Relaxed),
                _ => 0,
            };
        })
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .tls_context(trusted.map_err(|error| StreamError::Build(error.into()))?)
        .build_https()
        .map_err(|error| StreamError::Build(error.into()))?;
    pool::Client::new(&pool).map_err(|error| StreamError::Build(error.into()))
}

impl PutRecords for Client {
    const SIGNED: bool = true;

    async fn put_records(&self, body: Bytes, hash: Option<BodyHash>) -> Answer {
        let sent = tokio::time::timeout(self.attempt_timeout, async {
            let find = || Route::find(&self.sdk, &self.stream, self.form, self.timeouts.clone());
            let route = self.route.get_or_try_init(find).await?;
            route.send(body, hash).await.map_err(|error| errors::classify(&error))
        });
        let sent = sent
            .await
            .unwrap_or_else(|elapsed| Err(errors::classify(&route::SendError::timeout_error(elapsed))));
        match sent {
            Ok(response) => match response.body().bytes() {
                Some(body) => read_answer(body, route::form(&response)),
                None => Answer::Failed(RequestError {
                    kind: RequestErrorKind::Malformed,
                    text: "an answer without a body".into(),
                }),
            },
            Err(error) => Answer::Failed(error),
        }
    }
}
