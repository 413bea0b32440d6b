//! Signature version 4, by AWS' own crate.

use aws_credential_types::Credentials;
use aws_sdk_kinesis::error::BoxError;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningParams, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http::HeaderValue;
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
        if identity.data::<Credentials>().is_none() {
            return Err("these credentials are not of an access key and its secret".into());
        }
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
            let mut value = HeaderValue::from_str(header.value())?;
            // The session's token is no one else's business.
            value.set_sensitive(header.sensitive());
            request.headers_mut().try_insert(header.name(), value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
