//! Texts to values; what is wrong is said in a sentence for the user.

use crate::kinesis::limits::MAX_RECORD_BYTES;
use crate::load::{MILLISECOND, Nanos, Rate, SECOND};
use crate::producer::ShardLimiting;
use crate::tick::{MAX_SYMBOLS, TemplateText, made_up_symbols};
use axum::http::Uri;
use std::fmt::Display;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

pub(super) fn told<E: Display>(error: E) -> String {
    error.to_string()
}

/// `5000`, `0.5`, or `max` for none.
pub(super) fn rate(text: &str) -> Result<Option<Rate>, String> {
    if text == "max" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{error}, or max"))
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

pub(super) fn positive(text: &str) -> Result<u64, String> {
    match number(text)? {
        0 => Err("must be more than 0".into()),
        n => Ok(n),
    }
}

pub(super) fn between(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| match text.parse() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from {least} to {most}")),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// A host's name, as a Host header has it, without a port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if text.split('.').all(part) {
        return Ok(text.to_owned());
    }
    Err("expected a host's name without a port, such as tickgen.load-test.svc".to_owned())
}

/// `500us`, `10ms`, `1.5s`, `2m`, `1h`, or `0`.
pub(super) fn time(text: &str) -> Result<Nanos, String> {
    let wrong = || "expected a time with its unit, such as 500ms, 30s, 5m or 1h".to_owned();
    if text == "0" {
        return Ok(0);
    }
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let unit = match unit {
        "us" => MILLISECOND / 1000,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return Err(wrong()),
    };
    scaled(number, unit).ok_or_else(wrong)
}

pub(super) fn positive_time(text: &str) -> Result<Nanos, String> {
    match time(text)? {
        0 => Err("must be more than 0".into()),
        nanos => Ok(nanos),
    }
}

/// A time that something is done again after.
pub(super) fn at_least_100ms(text: &str) -> Result<Nanos, String> {
    match time(text)? {
        0..100_000_000 => Err("must be at least 100ms".into()),
        nanos => Ok(nanos),
    }
}

/// `51200`, `64KiB`, `5MiB`, `1GiB`, or decimal `KB`, `MB`, `GB`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || "expected a size in bytes, such as 51200, 64KiB or 4MiB".to_owned();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    scaled(number, unit).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(wrong)
}

/// A plain decimal number times `unit`, exact to a thousandth; below 2^63.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.len() <= 18 && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let tenth_powers = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = whole.parse::<u128>().ok()? * tenth_powers + fraction.parse::<u128>().ok()?;
    let value = parts * u128::from(unit) / tenth_powers;
    u64::try_from(value).ok().filter(|&value| value < 1 << 63)
}

/// `auto`, or a unit of time in nanoseconds.
pub(super) fn unit(text: &str) -> Result<Option<u32>, String> {
    match text {
        "auto" => Ok(None),
        "s" => Ok(Some(1_000_000_000)),
        "ms" => Ok(Some(1_000_000)),
        "us" => Ok(Some(1_000)),
        "ns" => Ok(Some(1)),
        _ => Err("expected auto, s, ms, us or ns".into()),
    }
}

/// `auto`, `adaptive`, a share such as `100%`, or `none`.
pub(super) fn shard_limit(text: &str) -> Result<ShardLimiting, String> {
    match text {
        "auto" => return Ok(ShardLimiting::Auto),
        "adaptive" => return Ok(ShardLimiting::Adaptive),
        "none" => return Ok(ShardLimiting::Unlimited),
        _ => {}
    }
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    match percent {
        Some(percent) if (1.0..=1000.0).contains(&percent) => Ok(ShardLimiting::Share(percent / 100.0)),
        _ => Err("expected auto, adaptive, a percentage from 1% to 1000%, or none".into()),
    }
}

/// `10x` or `0.5`: a positive factor.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).trim_end();
    let factor = number.parse().ok().filter(|factor| (0.001..=1_000_000.0).contains(factor));
    factor.ok_or_else(|| "expected a factor from 0.001x to 1000000x, such as 10x".to_owned())
}

/// `after=30s`.
pub(super) fn after(text: &str) -> Result<Nanos, String> {
    let after = text.strip_prefix("after=").ok_or("expected after=TIME, such as after=30s")?;
    time(after.trim())
}

/// `[HOST:]PORT`; the host is 127.0.0.1 unless given.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = "expected [HOST:]PORT, such as 9090, 0.0.0.0:9090 or [::1]:9090";
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let resolved = text.to_socket_addrs().map_err(|_| wrong.to_owned())?.next();
    resolved.ok_or_else(|| wrong.to_owned())
}

/// An absolute `http` or `https` URL.
pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("expected a URL that begins with http:// or https://".into()),
    }
}

/// The id of a run.
pub(super) fn run_id(text: &str) -> Result<u32, String> {
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = u32::from_str_radix(text, 16).ok().filter(|_| digits);
    id.ok_or_else(|| "expected the run_id of a summary, 8 hexadecimal digits".to_owned())
}

/// The base address of an index: neither credentials, which belong into no log, nor a query.
pub(super) fn opensearch(text: &str) -> Result<String, String> {
    let text = url(text)?;
    if text.contains('@') {
        return Err("leave user and password out: --opensearch-user, and TICKGEN_OPENSEARCH_PASSWORD or \
                    --opensearch-password-file, give them"
            .into());
    }
    if text.contains(['?', '#']) {
        return Err("expected an address without ? and #".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// What may be shown of an address that is refused: what may be secret stands before an @ or after a ?.
pub(super) fn bare(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{}", host.split(['?', '#']).next().unwrap_or_default())
}

/// The base address of an OpenTelemetry collector, as the address that takes metrics.
pub(super) fn otlp(text: &str) -> Result<String, String> {
    if !cfg!(feature = "otlp") {
        return Err("is not in this build: build it with cargo feature `otlp` (--features otlp)".into());
    }
    let wrong = || "expected a collector's base URL, such as http://127.0.0.1:4318".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("https is not spoken here: use a collector beside tickgen, by http://".into());
        }
        _ => return Err(wrong()),
    }
    let named = uri.authority().is_some_and(|own| !own.host().is_empty() && !own.as_str().contains('@'));
    if !named || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(format!("{}/v1/metrics", text.trim_end_matches('/')))
}

pub(super) fn tickers(text: &str) -> Result<Vec<String>, String> {
    let symbols = text.split(',').map(str::trim);
    symbols
        .map(|symbol| match symbol {
            "" => Err("a ticker is empty".to_owned()),
            symbol if symbol.chars().count() > 256 => Err("a ticker has more than 256 characters".to_owned()),
            symbol => Ok(symbol.to_owned()),
        })
        .collect()
}

/// The symbols to choose from: those given or, where a number is all that is given, as many made-up ones.
pub(super) fn symbols(given: Vec<String>) -> Result<Vec<String>, String> {
    match given.as_slice() {
        [count] if count.bytes().all(|b| b.is_ascii_digit()) => match count.parse() {
            Ok(count) if (1..=MAX_SYMBOLS).contains(&count) => Ok(made_up_symbols(count)),
            _ => Err(format!("expected symbols, or how many to make up: 1 to {MAX_SYMBOLS}")),
        },
        _ => Ok(given),
    }
}

/// The template in a file.
pub(super) fn template(file: &str) -> Result<TemplateText, String> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(told)?;
    opened.take(MAX_RECORD_BYTES as u64 + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() > MAX_RECORD_BYTES {
        return Err(format!("longer than Kinesis' record limit of {MAX_RECORD_BYTES} bytes"));
    }
    Ok(TemplateText { file: file.to_owned(), text })
}

pub(super) fn level(text: &str) -> Result<tracing::Level, String> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        _ => Err("expected error, warn, info or debug".into()),
    }
}

pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("expected text or json".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_need_a_unit() {
        assert_eq!(time("1.5s"), Ok(1_500 * MILLISECOND));
        assert_eq!(time("10ms"), Ok(10 * MILLISECOND));
        assert_eq!(time("2h"), Ok(7200 * SECOND));
        assert_eq!(time("0"), Ok(0));
        for wrong in ["", "30", "s", "-1s", "1 week", "1e3s", "99999999999999999999s", "400000000h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        assert_eq!(size("51200"), Ok(51_200));
        assert_eq!(size("1.5KiB"), Ok(1536));
        assert_eq!(size("4 MiB"), Ok(4 << 20));
        for wrong in ["", "MiB", "1TiB", "-1", "0x10", "1.2.3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_local_unless_a_host_is_given() {
        assert_eq!(address("9090"), Ok("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(address(":9090"), Ok("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(address("0.0.0.0:9090"), Ok("0.0.0.0:9090".parse().unwrap()));
        assert_eq!(address("[::1]:9090"), Ok("[::1]:9090".parse().unwrap()));
        for wrong in ["", "99999", "host", "1.2.3.4"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shard_limits_are_words_or_percentages() {
        assert_eq!(shard_limit("auto"), Ok(ShardLimiting::Auto));
        assert_eq!(shard_limit("adaptive"), Ok(ShardLimiting::Adaptive));
        assert_eq!(shard_limit("150%"), Ok(ShardLimiting::Share(1.5)));
        assert_eq!(shard_limit("none"), Ok(ShardLimiting::Unlimited));
        for wrong in ["", "100", "0%", "-5%", "NaN%", "1001%"] {
            assert!(shard_limit(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9a-zA-Z.%:/ \\-é]{0,24}") {
            let _ = (rate(&text), time(&text), size(&text), shard_limit(&text), url(&text), tickers(&text));
        }
    }
}
