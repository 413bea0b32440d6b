//! Requests to an HTTP service that has no SDK here, signed as AWS asks for it.

use super::errors::one_line;
use super::signing::Scope;
use super::{RequestError, RequestErrorKind as Kind};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody};
use aws_smithy_http_client::{Connector, proxy, tls};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use std::time::{Duration, SystemTime};

/// Who asks.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nobody in particular.
    Open,
    /// A user: what stands in the header `Authorization`.
    Basic(String),
    /// The account of AWS, by signature version 4.
    Signed {
        /// The name of the service, such as `aoss`.
        service: &'static str,
        /// The region in its domain.
        region: String,
        /// The profile of the AWS config files; `None`: as the AWS CLI finds it.
        profile: Option<String>,
    },
}

impl Access {
    /// How `OpenSearch` at this address is asked if no user is named: with a signature at AWS' own domains.
    #[must_use]
    pub fn of_opensearch(url: &str, profile: Option<String>) -> Self {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = authority.split(['/', ':']).next().unwrap_or_default();
        // NAME.REGION.aoss.amazonaws.com; China's domains end in .cn besides.
        let name = host.strip_suffix(".cn").unwrap_or(host);
        for (service, domain) in [("aoss", ".aoss.amazonaws.com"), ("es", ".es.amazonaws.com")] {
            if let Some(region) = name.strip_suffix(domain).and_then(|name| name.rsplit('.').next()) {
                return Self::Signed { service, region: region.to_owned(), profile };
            }
        }
        Self::Open
    }

    /// Of a user with a password.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        let pair = format!("{user}:{password}");
        Self::Basic(format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair)))
    }
}

/// A client of one HTTP service.
#[derive(Debug)]
pub struct HttpClient {
    connector: Connector,
    access: Access,
    credentials: Option<SharedCredentialsProvider>,
    timeout: Duration,
}

impl HttpClient {
    /// A client that asks so. `timeout`: the longest wait for an answer.
    pub async fn new(access: Access, timeout: Duration) -> Self {
        let connector = Connector::builder()
            .proxy_config(proxy::ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build();
        let credentials = match &access {
            Access::Signed { profile: Some(name), .. } => {
                let provider = ProfileFileCredentialsProvider::builder().profile_name(name).build();
                Some(SharedCredentialsProvider::new(provider))
            }
            Access::Signed { region, .. } => {
                let region = aws_config::Region::new(region.clone());
                aws_config::from_env().region(region).load().await.credentials_provider()
            }
            Access::Open | Access::Basic(_) => None,
        };
        Self { connector, access, credentials, timeout }
    }

    /// Sends JSON by `POST`, or asks by `GET` if there is none. Gives the answer's status and body.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn ask(&self, url: &str, json: Option<Vec<u8>>) -> Result<(u16, Bytes), RequestError> {
        match tokio::time::timeout(self.timeout, self.exchange(url, json)).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError {
                kind: Kind::TimedOut,
                text: format!("{url}: no answer within {:?} (--attempt-timeout)", self.timeout),
            }),
        }
    }

    async fn exchange(&self, url: &str, json: Option<Vec<u8>>) -> Result<(u16, Bytes), RequestError> {
        let fatal = |error: &dyn std::error::Error| failed(Kind::Fatal, url, error);
        let body = json.unwrap_or_default();
        let mut request = HttpRequest::new(SdkBody::from(body.clone()));
        request.set_uri(url).map_err(|error| fatal(&error))?;
        if !body.is_empty() {
            request.set_method("POST").map_err(|error| fatal(&error))?;
            request.headers_mut().insert("content-type", "application/json");
        }
        match &self.access {
            Access::Open => {}
            Access::Basic(header) => {
                request.headers_mut().insert("authorization", header.clone());
            }
            Access::Signed { service, region, .. } => self.sign(&mut request, &body, service, region).await?,
        }
        let answer =
            self.connector.call(request).await.map_err(|error| failed(Kind::NotSent, url, &error))?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await;
        let body = body.map_err(|error| failed(Kind::ConnectionCut, url, &error))?;
        Ok((status, body.into_bytes()))
    }

    #[expect(clippy::disallowed_methods, reason = "a signature tells the time of day")]
    async fn sign(
        &self,
        request: &mut HttpRequest,
        body: &[u8],
        service: &str,
        region: &str,
    ) -> Result<(), RequestError> {
        let url = request.uri().to_owned();
        let fatal = |error: &dyn std::error::Error| failed(Kind::Fatal, &url, error);
        let none = || RequestError {
            kind: Kind::Fatal,
            text:
                "no credentials to sign requests with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                   choose a --profile"
                    .to_owned(),
        };
        let provider = self.credentials.as_ref().ok_or_else(none)?;
        let identity = provider.provide_credentials().await.map_err(|error| fatal(&error))?.into();
        let scope = Scope { region: region.to_owned(), service: service.to_owned() };
        // OpenSearch Serverless wants the hash of the body in a header.
        let checksum = PayloadChecksumKind::XAmzSha256;
        scope
            .sign(request, SignableBody::Bytes(body), checksum, &identity, SystemTime::now())
            .map_err(|error| fatal(&*error))
    }
}

/// An error with the cause at the bottom of its chain, which says the most.
fn failed(kind: Kind, url: &str, error: &dyn std::error::Error) -> RequestError {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    RequestError { kind, text: format!("{url}: {}", one_line(&cause.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_aws_own_domains_are_signed() {
        let signed = |url: &str| match Access::of_opensearch(url, None) {
            Access::Signed { service, region, .. } => Some((service, region)),
            _ => None,
        };
        let of = |service, region: &str| Some((service, region.to_owned()));
        assert_eq!(signed("https://abc123.ap-northeast-1.aoss.amazonaws.com"), of("aoss", "ap-northeast-1"));
        assert_eq!(signed("https://search-x-y.us-east-1.es.amazonaws.com:443/"), of("es", "us-east-1"));
        assert_eq!(signed("https://a.cn-north-1.es.amazonaws.com.cn"), of("es", "cn-north-1"));
        for url in [
            "http://127.0.0.1:9200",
            "https://aoss.amazonaws.com.example.org",
            "https://example.org/x.es.amazonaws.com",
        ] {
            assert_eq!(signed(url), None, "{url}");
        }
    }

    #[test]
    fn a_user_is_told_in_base64() {
        let Access::Basic(header) = Access::basic("Aladdin", "open sesame") else { panic!() };
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
