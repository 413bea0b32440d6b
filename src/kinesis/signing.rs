//! Signature version 4, by AWS' own crate; of requests that are like one another, what is signed is written here.

use super::BodyHash;
use aws_credential_types::Credentials;
use aws_sdk_kinesis::error::BoxError;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningParams, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// What a signature is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) region: String,
    /// The service by its name in signatures, such as `kinesis`.
    pub(super) service: String,
}

impl Scope {
    /// Reads the scope of a signature from the header that holds it:
    /// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=…, Signature=…`.
    pub(super) fn of_header(authorization: &str) -> Option<Self> {
        let credential = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=")?.split(',').next()?;
        let mut parts = credential.trim_end().rsplit('/');
        let (end, service, region) = (parts.next()?, parts.next()?, parts.next()?);
        (end == "aws4_request").then(|| Self { region: region.to_owned(), service: service.to_owned() })
    }

    /// Signs a request with a body of which `body` tells the hash.
    pub(super) fn sign(
        &self,
        request: &mut HttpRequest,
        body: SignableBody<'_>,
        checksum: PayloadChecksumKind,
        identity: &Identity,
        now: SystemTime,
    ) -> Result<(), BoxError> {
        credentials(identity)?;
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = checksum;
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(identity)
            .region(&self.region)
            .name(&self.service)
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let signable = SignableRequest::new(request.method(), request.uri(), request.headers().iter(), body)?;
        let (headers, _) = sign(signable, &params)?.into_parts().0.into_parts();
        for header in headers {
            request.headers_mut().try_insert(header.name(), header.value().to_owned())?;
        }
        Ok(())
    }
}

fn credentials(identity: &Identity) -> Result<&Credentials, BoxError> {
    identity.data().ok_or_else(|| "these credentials are not of an access key and its secret".into())
}

/// Signs requests that differ in nothing but their body and the time.
///
/// The first of a day, and of other credentials, is signed by [`Scope::sign`]. What is signed of those after it is the
/// same text but for a length, a time and a hash, so it is written here, of pieces, where that makes the signature that
/// aws-sigv4 gave the first. To read each request anew takes aws-sigv4 80 allocations more, which was 22 ns of the 285
/// that a single record of 500 in a request took (EPYC of 2024).
#[derive(Debug)]
pub(super) struct Signer {
    scope: Scope,
    // Taken once a request, by whichever thread sends it.
    learnt: Mutex<Option<Arc<Learnt>>>,
}

impl Signer {
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope, learnt: Mutex::default() }
    }

    /// Whether it was learnt how the last request was signed.
    #[cfg(test)]
    pub(super) fn has_learnt(&self) -> bool {
        self.learnt.lock().unwrap().as_ref().is_some_and(|learnt| learnt.pattern.is_some())
    }

    /// Gives a request all headers that depend on its body, of this length and hash, and on the time.
    pub(super) fn sign(
        &self,
        request: &mut HttpRequest,
        (length, hash): (usize, BodyHash),
        identity: &Identity,
        now: SystemTime,
    ) -> Result<(), BoxError> {
        let credentials = credentials(identity)?;
        let (length, time) = (length.to_string(), text_of(now));
        let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let learnt = learnt.filter(|learnt| learnt.is_of(credentials, &time));
        if let Some(pattern) = learnt.as_ref().and_then(|learnt| learnt.pattern.as_ref()) {
            if let Some(token) = credentials.session_token() {
                request.headers_mut().try_insert(TOKEN, token.to_owned())?;
            }
            let authorization = pattern.authorization(&length, &time, hash);
            request.headers_mut().try_insert(AUTHORIZATION, authorization)?;
            request.headers_mut().insert(DATE, time);
            request.headers_mut().insert(LENGTH, length);
            return Ok(());
        }
        request.headers_mut().insert(LENGTH, length.clone());
        let body = SignableBody::Precomputed(with_hex(String::new(), &hash.0));
        self.scope.sign(request, body, PayloadChecksumKind::NoHeader, identity, now)?;
        if learnt.is_none() {
            let pattern = Pattern::of(request, &self.scope, credentials, now).filter(|pattern| {
                let ours = pattern.authorization(&length, &time, hash);
                request.headers().get(AUTHORIZATION) == Some(ours.as_str())
            });
            if pattern.is_none() {
                tracing::debug!(uri = request.uri(), "each request is signed from its beginning");
            }
            let learnt = Learnt { credentials: credentials.clone(), time, pattern };
            *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(learnt));
        }
        Ok(())
    }
}

const AUTHORIZATION: &str = "authorization";
const DATE: &str = "x-amz-date";
const LENGTH: &str = "content-length";
const TOKEN: &str = "x-amz-security-token";

/// How requests of a day are signed with some credentials.
struct Learnt {
    credentials: Credentials,
    time: String,
    /// `None`: otherwise than is understood here, such as behind a path that is not signed as it is written.
    pattern: Option<Pattern>,
}

impl Learnt {
    fn is_of(&self, credentials: &Credentials, time: &str) -> bool {
        // When they expire has no part in a signature.
        let [given, own] = [credentials, &self.credentials]
            .map(|c| (c.access_key_id(), c.secret_access_key(), c.session_token()));
        time.get(..8) == self.time.get(..8) && given == own
    }
}

/// What their signatures have in common.
struct Pattern {
    /// The day, region and service, as they are signed.
    scope: String,
    key: Vec<u8>,
    /// The canonical request: pieces of text, each with what comes after it.
    canonical: Vec<(String, Gap)>,
    /// What it takes in bytes.
    room: usize,
    /// The header up to the signature.
    header: String,
}

#[derive(Clone, Copy, Debug)]
enum Gap {
    Length,
    Time,
    Hash,
}

impl Pattern {
    /// Of a request that was signed; `None` if it is not understood.
    fn of(request: &HttpRequest, scope: &Scope, credentials: &Credentials, now: SystemTime) -> Option<Self> {
        let headers = request.headers();
        let (header, _) = headers.get(AUTHORIZATION)?.split_once("Signature=")?;
        let (_, names) = header.split_once("SignedHeaders=")?;
        let names = names.trim_end_matches([',', ' ']);
        let (scheme, place) = request.uri().split_once("://")?;
        let (host, path) = place.split_at(place.find('/')?);
        let host = host.strip_suffix(if scheme == "https" { ":443" } else { ":80" }).unwrap_or(host);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut canonical = Vec::new();
        let mut text = format!("{}\n{path}\n{query}\n", request.method());
        for name in names.split(';') {
            let _ = write!(text, "{name}:");
            match name {
                LENGTH => canonical.push((std::mem::take(&mut text), Gap::Length)),
                DATE => canonical.push((std::mem::take(&mut text), Gap::Time)),
                "host" => text.push_str(headers.get(name).unwrap_or(host)),
                _ => text.push_str(headers.get(name)?),
            }
            text.push('\n');
        }
        canonical.push((format!("{text}\n{names}\n"), Gap::Hash));
        let Scope { region, service } = scope;
        let key = v4::generate_signing_key(credentials.secret_access_key(), now, region, service);
        let day = headers.get(DATE)?.get(..8)?;
        Some(Self {
            scope: format!("{day}/{region}/{service}/aws4_request"),
            key: key.as_ref().to_owned(),
            // A hash has 64 digits, a time 16, a length 8 at most.
            room: canonical.iter().map(|(piece, _)| piece.len()).sum::<usize>() + 64 + 16 + 8,
            canonical,
            header: format!("{header}Signature="),
        })
    }

    /// The header of a request with a body of this length and hash.
    fn authorization(&self, length: &str, time: &str, hash: BodyHash) -> String {
        let mut text = String::with_capacity(self.room);
        for (piece, gap) in &self.canonical {
            text.push_str(piece);
            match gap {
                Gap::Length => text.push_str(length),
                Gap::Time => text.push_str(time),
                Gap::Hash => text = with_hex(text, &hash.0),
            }
        }
        let hash = Sha256::digest(text.as_bytes()).into();
        text.clear();
        let _ = write!(text, "AWS4-HMAC-SHA256\n{time}\n{}\n", self.scope);
        let text = with_hex(text, &hash);
        let signature = v4::calculate_signature(&self.key, text.as_bytes());
        [self.header.as_str(), &signature].concat()
    }
}

/// Without what is secret.
impl std::fmt::Debug for Learnt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scope = self.pattern.as_ref().map(|pattern| &pattern.scope);
        f.debug_struct("Learnt").field("scope", &scope).finish_non_exhaustive()
    }
}

/// A time as it is signed: `20261127T024500Z`.
fn text_of(time: SystemTime) -> String {
    let time = DateTime::<Utc>::from(time);
    let mut text = String::with_capacity(16);
    let _ = write!(text, "{:04}{:02}{:02}T", time.year(), time.month(), time.day());
    let _ = write!(text, "{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second());
    text
}

fn with_hex(mut text: String, bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn the_scope_of_a_signature_stands_in_its_header() {
        let of = |credential: &str| {
            Scope::of_header(&format!(
                "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature=0123"
            ))
        };
        let scope = Scope { region: "eu-west-1".to_owned(), service: "kinesis".to_owned() };
        assert_eq!(of("AKID/20261126/eu-west-1/kinesis/aws4_request"), Some(scope.clone()));
        // Local stands-in take any key.
        assert_eq!(of("a/b/c/20261126/eu-west-1/kinesis/aws4_request"), Some(scope));
        assert_eq!(of("AKID/20261126/eu-west-1/kinesis"), None);
        assert_eq!(of(""), None);
        assert_eq!(Scope::of_header("AWS4-ECDSA-P256-SHA256 Credential=a/b/kinesis/aws4_request, x"), None);
    }

    fn request(uri: &str) -> HttpRequest {
        let mut request = HttpRequest::get(uri).unwrap();
        request.set_method("POST").unwrap();
        for (name, value) in [
            ("x-amz-target", "Kinesis_20131202.PutRecords"),
            ("content-type", "application/x-amz-json-1.1"),
            ("user-agent", "aws-sdk-rust/1"),
        ] {
            request.headers_mut().insert(name, value);
        }
        request
    }

    fn identity((key, secret, token): (u8, u8, Option<u8>)) -> Identity {
        let token = token.map(|token| format!("a/token+{token}"));
        Credentials::new(format!("AKID{key}"), format!("secret{secret}"), token, None, "test").into()
    }

    fn headers(request: &HttpRequest) -> BTreeMap<String, String> {
        request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Signs a request by both ways.
    #[track_caller]
    fn assert_equal(
        signer: &Signer,
        uri: &str,
        length: usize,
        hash: [u8; 32],
        identity: &Identity,
        now: u64,
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let mut ours = request(uri);
        signer.sign(&mut ours, (length, BodyHash(hash)), identity, now).unwrap();
        let mut theirs = request(uri);
        theirs.headers_mut().insert(LENGTH, length.to_string());
        let body = SignableBody::Precomputed(with_hex(String::new(), &hash));
        signer.scope.sign(&mut theirs, body, PayloadChecksumKind::NoHeader, identity, now).unwrap();
        assert_eq!(headers(&ours), headers(&theirs));
    }

    fn signer() -> Signer {
        Signer::new(Scope { region: "eu-west-1".to_owned(), service: "kinesis".to_owned() })
    }

    /// Whether it was understood how requests of the last credentials and day are signed.
    fn learnt(signer: &Signer) -> Arc<Learnt> {
        signer.learnt.lock().unwrap().clone().expect("a request was signed")
    }

    prop_compose! {
        /// Each part of what a request is signed with changes now and then.
        fn signed_with()(key in 0..3_u8, secret in 0..3_u8, token in 0..4_u8) -> (u8, u8, Option<u8>) {
            (key / 2, secret / 2, token.checked_sub(2))
        }
    }

    proptest! {
        /// Whatever changes from one request to the next, its headers are those that aws-sigv4 gives it.
        #[test]
        fn requests_are_signed_as_by_the_sdk(
            requests in proptest::collection::vec(
                (0..20_000_000_usize, any::<[u8; 32]>(), signed_with(), prop_oneof![0..1_000_u64, 0..200_000_u64]),
                1..40,
            ),
        ) {
            let signer = signer();
            let uri = "https://kinesis.eu-west-1.amazonaws.com/";
            let (mut now, mut last) = (1_790_000_000, None);
            for (length, hash, with, pause) in requests {
                now += pause;
                let before = signer.learnt.lock().unwrap().clone();
                assert_equal(&signer, uri, length, hash, &identity(with), now);
                let (after, same) = (learnt(&signer), last == Some((with, now / 86_400)));
                prop_assert!(signer.has_learnt());
                prop_assert_eq!(before.is_some_and(|before| Arc::ptr_eq(&before, &after)), same, "learnt once");
                last = Some((with, now / 86_400));
            }
        }
    }

    #[test]
    fn any_address_is_signed() {
        for (uri, understood) in [
            ("http://127.0.0.1:4567/", true),
            ("http://[::1]:4567/", true),
            ("https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com/", true),
            ("https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com:443/", true),
            ("http://localhost:80/", true),
            ("http://localhost:443/", true),
            ("http://localhost/behind/a/proxy/", true),
            ("http://localhost/a%20b/", false),
            ("http://localhost/a/../b/", false),
            ("http://localhost/?b=2&a=1", false),
        ] {
            let signer = signer();
            for now in 0..3 {
                let hash = [u8::try_from(now).unwrap(); 32];
                assert_equal(&signer, uri, 100, hash, &identity((1, 1, None)), 1_790_000_000 + now);
            }
            assert_eq!(signer.has_learnt(), understood, "{uri}");
        }
    }

    /// Of two tasks with credentials of their own each learns anew, and neither signs by what the other learnt.
    #[test]
    fn tasks_do_not_sign_by_each_others_credentials() {
        let signer = signer();
        std::thread::scope(|scope| {
            for key in 0..2 {
                let signer = &signer;
                scope.spawn(move || {
                    for second in 0..500 {
                        let with = identity((key, key, Some(key)));
                        assert_equal(
                            signer,
                            "http://localhost/",
                            1,
                            [key; 32],
                            &with,
                            1_790_000_000 + second,
                        );
                    }
                });
            }
        });
    }

    #[test]
    fn a_secret_is_not_shown() {
        let signer = signer();
        assert_equal(&signer, "http://localhost/", 1, [0; 32], &identity((1, 1, Some(2))), 0);
        let shown = format!("{signer:?}");
        assert!(shown.contains("eu-west-1/kinesis"), "{shown}");
        assert!(
            !shown.contains("secret1") && !shown.contains("a/token") && !shown.contains("AKID"),
            "{shown}"
        );
    }

    #[test]
    fn credentials_of_another_kind_are_refused() {
        let token = Identity::new("a bearer's token".to_owned(), None);
        let error = signer().sign(
            &mut request("http://localhost/"),
            (0, BodyHash([0; 32])),
            &token,
            SystemTime::UNIX_EPOCH,
        );
        assert!(error.unwrap_err().to_string().contains("not of an access key"));
    }
}
