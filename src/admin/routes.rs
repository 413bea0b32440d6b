//! What is asked of the admin server, and what it answers.

use super::problem::Problem;
use super::{Admin, Guard, Load};
use crate::load::Rate;
#[cfg(feature = "native-histograms")]
use crate::observe::{PROTOBUF, prefers_protobuf};
use crate::observe::{State as RunState, Status};
use crate::producer::{Offered, SteerError, Steering};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
#[cfg(feature = "native-histograms")]
use axum::http::HeaderMap;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How the routes are described, in `OpenAPI` 3.1.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// Longest wait until an order has its effect; then it will have it later.
const EFFECT: Duration = Duration::from_secs(1);

type Answer = Result<Shown, Problem>;

/// A status as JSON.
struct Shown(Status);

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        // A status has text for keys, and numbers that JSON has.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// All routes. Those that show how a run stands may be asked by anyone, and by any name: probes and
/// Prometheus do. Those that tell more, or steer, look at who asks.
pub(super) fn routes(admin: Admin, guard: Guard, body_bytes: usize) -> Router {
    let guard = Arc::new(guard);
    let steers = |route: MethodRouter<Admin>| {
        let checked = middleware::from_fn_with_state(Arc::clone(&guard), steering);
        route.route_layer(checked)
    };
    let shown = middleware::from_fn_with_state(Arc::clone(&guard), showing);
    Router::new()
        .route("/status", get(status).route_layer(shown))
        .route("/rate", steers(put(rate)))
        .route("/pause", steers(post(pause)))
        .route("/resume", steers(post(resume)))
        .route("/drain", steers(post(drain)))
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "no such route; GET /openapi.json lists them")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "the Allow header says which methods this route takes",
            )
        })
        .layer(DefaultBodyLimit::max(body_bytes))
        .with_state(admin)
}

async fn showing(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Problem> {
    guard.check_source(request.headers())?;
    Ok(next.run(request).await)
}

/// Looks at who asks before anything else; then the body is read, whether the route has a use for it or not.
async fn steering(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    guard.check_source(request.headers())?;
    guard.check_right(request.headers())?;
    let (parts, body) = request.into_parts();
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await;
    let body = body.map_err(|refused| Problem::new(refused.status(), refused.body_text()))?;
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

async fn metrics(
    State(admin): State<Admin>,
    #[cfg(feature = "native-histograms")] headers: HeaderMap,
) -> Response {
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let Some(load) = admin.load() else { return (text, "").into_response() };
    let loads = load.observer.loads();
    if loads.iter().all(|load| load.draining && load.unsettled == 0) {
        admin.0.scraped.send_replace(true);
    }
    #[cfg(feature = "native-histograms")]
    if headers.get_all(header::ACCEPT).iter().any(|own| own.to_str().is_ok_and(prefers_protobuf)) {
        return ([(header::CONTENT_TYPE, PROTOBUF)], load.protobuf.render(&loads)).into_response();
    }
    (text, load.metrics.render(&loads)).into_response()
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.load() {
        Some(load) if !load.observer.snapshot().draining => (StatusCode::OK, "ok\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the load has not begun\n"),
    }
}

async fn status(State(admin): State<Admin>) -> Shown {
    Shown(admin.status())
}

/// The body of `PUT /rate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct RateOrder {
    rps: Rps,
    #[serde(default, deserialize_with = "text")]
    load: Option<String>,
}

/// A text that may be left out, but is not null.
fn text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value).map(Some)
}

#[derive(Debug)]
enum Rps {
    Number(f64),
    Word(String),
}

impl<'de> Deserialize<'de> for Rps {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(RpsVisitor)
    }
}

/// Reads a number or a word; what else comes is told in the words of JSON, not of Rust.
struct RpsVisitor;

impl Visitor<'_> for RpsVisitor {
    type Value = Rps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or \"max\"")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Rps, E> {
        Ok(Rps::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Rps, E> {
        Ok(Rps::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Rps, E> {
        Ok(Rps::Number(number as f64))
    }

    fn visit_str<E>(self, word: &str) -> Result<Rps, E> {
        Ok(Rps::Word(word.to_owned()))
    }
}

const RATE_BODY: &str =
    r#"expected {"rps": 5000}, or "max" in place of the number, and "load": "NAME" for one of several"#;

impl RateOrder {
    fn read(body: &[u8]) -> Result<(Option<Rate>, Option<String>), Problem> {
        let wrong = |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("{why}; {RATE_BODY}"));
        // An array of the right length would be taken for its fields.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(wrong("the body is no JSON object".to_owned()));
        }
        let order: Self = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
        let rate = match order.rps {
            Rps::Word(word) if word == "max" => None,
            Rps::Word(word) => return Err(wrong(format!("rps: {word:?} is not a rate"))),
            Rps::Number(number) => {
                let rate = rounded(number);
                Some(rate.ok_or_else(|| {
                    wrong(format!("rps: {number} is not from 0.001 to {}", Rate::MAX_PER_SECOND))
                })?)
            }
        };
        Ok((rate, order.load))
    }
}

/// A rate to the nearest thousandth of a record per second.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the range of rates
fn rounded(number: f64) -> Option<Rate> {
    let in_range = (0.001..=Rate::MAX_PER_SECOND as f64).contains(&number);
    in_range.then(|| Rate::from_thousandths((number * 1000.0).round() as u64)).flatten()
}

async fn rate(State(admin): State<Admin>, body: Bytes) -> Answer {
    let (rate, load) = RateOrder::read(&body)?;
    let (run, steering) = admin.steered()?;
    match load {
        None => steering.set_rate(rate),
        Some(name) => {
            let place = run.judge.facts().loads.iter().position(|load| load.name == name);
            let place = place.ok_or_else(|| {
                Problem::new(
                    StatusCode::NOT_FOUND,
                    "no load of this run has that name; GET /status lists them",
                )
            })?;
            steering.offer(place, &rate.map_or(Offered::Max, Offered::Rate))
        }
    }
    .map_err(refused)?;
    tracing::info!(rps = rate.map_or_else(|| "max".to_owned(), |rate| rate.to_string()), "told another rate");
    obeyed(&admin, steering).await
}

async fn pause(State(admin): State<Admin>) -> Answer {
    let (_, steering) = admin.steered()?;
    steering.pause().map_err(refused)?;
    tracing::info!("told to pause");
    obeyed(&admin, steering).await
}

async fn resume(State(admin): State<Admin>) -> Answer {
    let (_, steering) = admin.steered()?;
    steering.resume().map_err(refused)?;
    tracing::info!("told to resume");
    obeyed(&admin, steering).await
}

async fn drain(State(admin): State<Admin>) -> Answer {
    let (_, steering) = admin.steered()?;
    if admin.status().state == RunState::Ended {
        return Err(refused(SteerError::Over));
    }
    tracing::info!("told to drain");
    admin.0.drain.notify_one();
    let _ = timeout(EFFECT, steering.drains()).await;
    Ok(Shown(admin.status()))
}

/// How the run stands once it has done what it was told.
async fn obeyed(admin: &Admin, steering: Steering) -> Answer {
    let _ = timeout(EFFECT, steering.obeyed()).await;
    Ok(Shown(admin.status()))
}

fn refused(error: SteerError) -> Problem {
    Problem::new(StatusCode::CONFLICT, error)
}

impl Admin {
    fn status(&self) -> Status {
        let search = self.0.search;
        match self.load() {
            Some(load) => Status::new(search, &load.judge, &load.observer.loads()),
            None => Status::waiting(search),
        }
    }

    /// The load and what steers it.
    fn steered(&self) -> Result<(Arc<Load>, Steering), Problem> {
        let conflict = |text: &str| Err(Problem::new(StatusCode::CONFLICT, text));
        if self.0.search {
            return conflict("a search sets its rates itself; end it with SIGTERM");
        }
        let Some(load) = self.load() else {
            return conflict("the load has not begun; ask again when /readyz answers with 200");
        };
        let steering = load.steering.clone();
        Ok((load, steering))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_to_the_thousandth() {
        let thousandths =
            |body: &str| RateOrder::read(body.as_bytes()).map(|(rate, _)| rate.map(Rate::thousandths));
        for (body, expected) in [
            (r#"{"rps": 5000}"#, Some(5_000_000)),
            (r#"{"rps": 0.1234}"#, Some(123)),
            (r#"{"rps": 0.001}"#, Some(1)),
            (r#"{"rps": 1e7}"#, Some(10_000_000_000)),
            (r#"{"rps": "max"}"#, None),
        ] {
            assert_eq!(thousandths(body), Ok(expected), "{body}");
        }
        for body in [
            "",
            "5000",
            "[]",
            "{}",
            r#"{"rps": 0}"#,
            r#"{"rps": -1}"#,
            r#"{"rps": 0.0009}"#,
            r#"{"rps": 10000000.001}"#,
            r#"{"rps": 1e999}"#,
            r#"{"rps": "5000"}"#,
            r#"{"rps": "MAX"}"#,
            r#"{"rps": null}"#,
            r#"{"rps": true}"#,
            r#"{"rps": 5, "rps": 6}"#,
            r#"{"rps": 5, "x": 6}"#,
            r#"{"rps": 5, "load": null}"#,
            r#"{"rps": 5} {}"#,
            "{\"rps\": \"\u{fffd}\"",
        ] {
            assert!(thousandths(body).is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_order_is_told_in_plain_words() {
        for (body, told) in [
            ("[5000]", "the body is no JSON object; expected"),
            ("", "the body is no JSON object; expected"),
            (r#"{"rps": null}"#, "invalid type: null, expected a number or \"max\" at line 1"),
            (r#"{"rps": [1]}"#, "invalid type: sequence, expected a number or \"max\" at line 1"),
            (r#"{"rps": 5, "load": 7}"#, "invalid type: integer `7`, expected a string at line 1"),
            ("{}", "missing field `rps`"),
            (r#"{"rps": "fast"}"#, "rps: \"fast\" is not a rate"),
        ] {
            let text = format!("{:?}", RateOrder::read(body.as_bytes()).unwrap_err()).replace('\\', "");
            assert!(text.contains(told), "{text}");
            assert!(!text.contains("enum") && !text.contains("struct"), "{text}");
        }
    }
}
