//! From the SDK's errors to what follows from them, and what a person can do about it.

use super::{RequestError, RequestErrorKind as Kind};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::io::ErrorKind as Io;

/// The kind of a failed request. Where it is not certain that nothing was stored, the kind says so:
/// see [`Kind::leaves_fate_open`].
pub(super) fn classify<E>(error: &SdkError<E>) -> RequestError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    advised(error, |code| advice(Some(code)).map(str::to_owned))
}

/// The same for an operation that changes the stream, whose errors ask for other advice.
pub(super) fn classify_change<E>(error: &SdkError<E>, operation: &str) -> RequestError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    advised(error, |code| change_advice(code, operation))
}

fn advised<E>(error: &SdkError<E>, advice: impl Fn(&str) -> Option<String>) -> RequestError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|r| r.status().as_u16());
    let kind = match error {
        SdkError::ConstructionFailure(_) => Kind::Fatal,
        SdkError::TimeoutError(_) => Kind::TimedOut,
        // Only connecting has a timeout of its own at this level.
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Kind::NotSent,
        SdkError::DispatchFailure(_) if before_sending(error) => Kind::NotSent,
        SdkError::DispatchFailure(failure) if failure.is_user() => Kind::Fatal,
        SdkError::DispatchFailure(_) => Kind::ConnectionCut,
        _ => by_status(error.code(), status),
    };
    let (said, advice) = if without_credentials(error) {
        // Of a program that was to give them, it is all that it said.
        let cause = causes(error).last().map(ToString::to_string).unwrap_or_default();
        (format!("no credentials: {cause}"), Some(NO_CREDENTIALS.to_owned()))
    } else {
        (said(error, kind, status), error.code().and_then(advice))
    };
    let said = one_line(&said);
    let text = match advice {
        Some(advice) => format!("{}. {advice}", said.trim_end_matches('.')),
        None => said,
    };
    RequestError { kind, text }
}

fn by_status(code: Option<&str>, status: Option<u16>) -> Kind {
    match (code, status) {
        (Some(code), _) if is_throttle(code) => Kind::Throttled,
        (_, Some(429)) => Kind::Throttled,
        (Some("RequestTimeout" | "RequestTimeoutException"), _) | (_, Some(408)) => Kind::TimedOut,
        (_, Some(500..)) => Kind::ServerError,
        (_, Some(400..)) => Kind::Fatal,
        // HTTP 200 that broke off or could not be read.
        _ => Kind::ConnectionCut,
    }
}

fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "KMSThrottlingException"
            | "LimitExceededException"
            | "BandwidthLimitExceeded"
            | "PriorRequestNotComplete"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "SlowDown"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "Throttling"
            | "ThrottlingException"
    )
}

/// Whether the request certainly failed before a byte of it was sent: the name did not resolve, no
/// connection came about, or there were no credentials to sign it with.
fn before_sending(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|e| {
        let io = e.downcast_ref::<std::io::Error>().is_some_and(|io| {
            matches!(
                io.kind(),
                Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable | Io::AddrNotAvailable
            )
        });
        let text = e.to_string();
        let name = text.contains("dns error") || text.contains("failed to lookup address");
        io || name || e.is::<CredentialsError>()
    })
}

/// Whether there were no credentials to sign the request with.
fn without_credentials(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<CredentialsError>)
}

/// What the service said, or what kept it from saying anything.
fn said<E>(error: &SdkError<E>, kind: Kind, status: Option<u16>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => match (kind, status) {
            (Kind::TimedOut, _) => "no answer within the attempt timeout".to_owned(),
            (_, Some(status)) => format!("HTTP {status}: {}", innermost(error)),
            _ => innermost(error),
        },
    }
}

/// What others said, as part of a line: without line breaks and other control characters, and of a long text its
/// beginning and its end, where the reason is more often.
pub(super) fn one_line(text: &str) -> String {
    const HEAD: usize = 200;
    const TAIL: usize = 300;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line: Vec<char> = words.collect::<Vec<_>>().join(" ").chars().collect();
    if line.len() <= HEAD + TAIL {
        return line.into_iter().collect();
    }
    line[..HEAD].iter().chain(&[' ', '…', ' ']).chain(&line[line.len() - TAIL..]).collect()
}

/// The cause at the bottom of the chain: the SDK's own wrappers ("dispatch failure") say little.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    match texts.len() {
        0 => DisplayErrorContext(error).to_string(),
        1 => texts.remove(0),
        n => texts[n.saturating_sub(2)..].join(": "),
    }
}

/// An error, its cause, the cause of that, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e| (*e).source())
}

const NO_CREDENTIALS: &str =
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a --profile, or give the machine a role.";

/// What a person can do about an error that no retry mends.
fn advice(code: Option<&str>) -> Option<&'static str> {
    Some(match code? {
        "ResourceNotFoundException" => {
            "Check --stream, --region and the account of your credentials (aws kinesis list-streams)."
        }
        "AccessDeniedException" | "AccessDenied" => {
            "Allow the role kinesis:PutRecords, kinesis:ListShards and kinesis:DescribeStreamSummary on the stream."
        }
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "SignatureDoesNotMatch" => "Check the access key and secret (aws sts get-caller-identity).",
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            "Renew the session credentials, and check this machine's clock."
        }
        "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => {
            "Check the stream's KMS key and the role's right to use it (kms:GenerateDataKey)."
        }
        "ValidationException" | "InvalidArgumentException" | "SerializationException" => {
            "The stream refuses the request itself: check record sizes against its limits (--payload-bytes, --batch-bytes)."
        }
        _ => return None,
    })
}

/// What a person can do about a change of the stream that was refused. The actions of IAM have the names
/// of the operations.
fn change_advice(code: &str, operation: &str) -> Option<String> {
    match code {
        "AccessDeniedException" | "AccessDenied" => {
            Some(format!("Allow the role kinesis:{operation} on the stream."))
        }
        "LimitExceededException" => Some(format!(
            "A limit of the account, or on how often and how far {operation} may change a stream: see aws \
             kinesis describe-limits."
        )),
        // The service's own words say what is wrong.
        "ValidationException" | "InvalidArgumentException" => None,
        other => advice(Some(other)).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_codes_lead_to_kinds() {
        for (code, status, kind) in [
            (Some("ProvisionedThroughputExceededException"), Some(400), Kind::Throttled),
            (Some("KMSThrottlingException"), Some(400), Kind::Throttled),
            (None, Some(429), Kind::Throttled),
            (Some("InternalFailure"), Some(500), Kind::ServerError),
            (None, Some(503), Kind::ServerError),
            (None, Some(408), Kind::TimedOut),
            (Some("RequestTimeoutException"), Some(400), Kind::TimedOut),
            (Some("SlowDown"), Some(503), Kind::Throttled),
            (Some("ResourceNotFoundException"), Some(400), Kind::Fatal),
            (None, Some(403), Kind::Fatal),
            (None, Some(200), Kind::ConnectionCut),
            (None, None, Kind::ConnectionCut),
        ] {
            assert_eq!(by_status(code, status), kind, "{code:?} {status:?}");
        }
    }

    #[test]
    fn what_others_said_is_a_part_of_a_line() {
        assert_eq!(
            one_line("Stderr: the vault\n\tis \u{1b}[31msealed\r\n"),
            "Stderr: the vault is [31msealed"
        );
        let cut = one_line(&format!("Traceback:\n{}\nValueError: sealed", "  at ä\n".repeat(1_000)));
        assert!(cut.starts_with("Traceback: at ä at") && cut.contains(" … "), "{cut}");
        assert!(cut.ends_with("ä ValueError: sealed") && cut.chars().count() == 503, "{cut}");
    }

    #[test]
    fn fatal_errors_come_with_advice() {
        for code in [
            "ResourceNotFoundException",
            "AccessDeniedException",
            "UnrecognizedClientException",
            "ExpiredTokenException",
            "ValidationException",
            "KMSAccessDeniedException",
        ] {
            assert!(advice(Some(code)).is_some(), "{code}");
        }
    }

    #[test]
    fn credentials_that_are_missing_are_no_error_of_the_service() {
        use aws_smithy_runtime_api::client::result::ConnectorError;
        let refused = CredentialsError::provider_error("IMDS is disabled or has no role.");
        let error: SdkError<aws_sdk_kinesis::operation::put_records::PutRecordsError> =
            SdkError::dispatch_failure(ConnectorError::other(refused.into(), None));
        let RequestError { kind, text } = classify(&error);
        assert_eq!(kind, Kind::NotSent);
        assert_eq!(text, format!("no credentials: IMDS is disabled or has no role. {NO_CREDENTIALS}"));
    }

    #[test]
    fn a_change_that_is_refused_names_its_permission() {
        let advice = |code| change_advice(code, "SplitShard").unwrap_or_default();
        assert!(advice("AccessDeniedException").contains("kinesis:SplitShard"));
        assert!(advice("LimitExceededException").contains("how far SplitShard may"));
        assert!(advice("ResourceNotFoundException").contains("--stream"));
        assert_eq!(advice("InvalidArgumentException"), "");
    }
}
