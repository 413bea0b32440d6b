//! `tickgen calibrate`: the same load as fast as answers allow, to an endpoint in this process that costs
//! the producer nothing but what a stream would.

use super::destination::Destinations;
use super::ending::finish;
use super::underway::begin;
use super::verify::Verifying;
use super::{Rest, RunError, Stops, ceiling, engines};
use crate::admin::Admin;
use crate::kinesis::Reach;
use crate::kinesis::null::{CERTIFICATE, NullEndpoint, process_cpu};
use crate::observe::{Calibration, Capacity, StoppedBy};
use crate::plan::{CalibratePlan, Plan, of_the_ceiling};
use std::time::Duration;
use tokio::sync::mpsc;

/// Measures what this machine can send, and keeps it for the summaries of runs.
///
/// # Errors
/// If it could not be measured to its end.
pub async fn calibrate(plan: &CalibratePlan, mut stops: impl Stops) -> Result<Calibration, RunError> {
    let run = plan.run();
    let measured_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let settings = of_the_ceiling(&run.configuration).unwrap_or_default();
    let of = ceiling::of_this_machine(settings);
    let without_tls = measure(run, false, of.processors, &mut stops).await?;
    let with_tls = measure(run, true, of.processors, &mut stops).await?;
    let duration_s = run.loads.iter().filter_map(|load| load.duration).max().unwrap_or(0) as f64 / 1e9;
    let calibration =
        Calibration { of, measured_at, duration_s, plain: without_tls, tls: with_tls, kept_in: None };
    match ceiling::keep(&calibration) {
        Ok(file) => Ok(Calibration { kept_in: Some(file), ..calibration }),
        Err(error) => {
            tracing::warn!(error, "the ceiling could not be kept");
            Ok(calibration)
        }
    }
}

async fn measure(
    plan: &Plan,
    tls: bool,
    processors: u64,
    stops: &mut impl Stops,
) -> Result<Capacity, RunError> {
    let failed = |why: String| RunError::NotCalibrated(why);
    let endpoint = NullEndpoint::start(tls, Duration::ZERO).map_err(|error| failed(error.to_string()))?;
    let certificate = tls.then_some(CERTIFICATE);
    let (region, key, secret) = ("us-east-1", "null", "null");
    let to =
        Destinations::at(plan, Reach::Loopback { url: endpoint.url(), region, key, secret, certificate });
    let to = to.await?;
    let records = plan.loads.iter().map(|load| Ok((engines::source(load)?, None)));
    let records = records.collect::<Result<_, RunError>>()?;
    let mut rest = Rest::default();
    let cpu = || process_cpu().saturating_sub(endpoint.cpu());
    let before = cpu();
    let mut underway = begin(plan, &to, records, Verifying::nothing(), &Admin::new(false), &mut rest);
    let steering = underway.producer.steering();
    // Nothing but its time and signals ends it.
    let (_keep, never) = mpsc::channel(1);
    let finished = finish(&mut underway.producer, &steering, stops, never).await;
    let cpu_s = cpu().saturating_sub(before).as_secs_f64();
    rest.tasks.shutdown().await;
    match (finished.fatal, finished.stopped_by) {
        (Some(error), _) => return Err(failed(error.to_string())),
        (None, StoppedBy::Signal) => return Err(failed("stopped before its end".to_owned())),
        (None, _) => {}
    }
    let seen = underway.observer.loads();
    let figures = underway.judge.summary(&seen, StoppedBy::Schedule, None, None).figures;
    if figures.acked == 0 {
        return Err(failed(format!("no record was acked; {} failed", figures.failed)));
    }
    Ok(Capacity::new(figures.acked, figures.bytes, cpu_s, processors))
}
