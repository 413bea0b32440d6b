//! The metrics on their way to an OpenTelemetry collector. One that is slow or gone is not the run's concern:
//! nothing is queued, as each request tells all that was counted so far, and failures are counted.

use super::{Rest, Stops, unix};
use crate::load::Nanos;
use crate::observe::{Otlp, RunGauges};
use crate::producer::Observer;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// The time between two exports.
const INTERVAL: Duration = Duration::from_secs(10);

/// Longest wait for the collector's answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Of an answer so much is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// Exports under way.
pub(super) struct Exporting {
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<Exports>,
}

/// What became of the exports.
#[derive(Debug, Default, PartialEq)]
struct Exports {
    done: u32,
    failed: u32,
}

impl Exporting {
    /// Exports the metrics of a run that began at `since` (in nanoseconds since 1970) to `url` from now on.
    pub(super) fn begin(
        url: String,
        run: RunGauges,
        since: Nanos,
        observer: Observer,
        rest: &mut Rest,
    ) -> Self {
        let (end, told) = oneshot::channel();
        let (report, ended) = oneshot::channel();
        let metrics = Otlp::new(run, since);
        // Straight to the address that is named, wherever it might send on to.
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        rest.spawn(async move {
            let send = || {
                let request = metrics.request(&observer.loads(), unix(chrono::Utc::now()));
                let (client, url) = (client.as_ref().map_err(ToString::to_string).cloned(), url.clone());
                async move { post(&client?, &url, request).await }
            };
            // Nobody may listen any more.
            let _ = report.send(export(send, told).await);
        });
        Self { end, ended }
    }

    /// Exports once more, now that all is counted. A request to stop ends the wait.
    pub(super) async fn finish(self, stops: &mut impl Stops) {
        let _ = self.end.send(());
        tokio::select! {
            exports = self.ended => {
                if let Ok(Exports { done, failed }) = exports {
                    tracing::info!(done, failed, "exported the metrics to the collector");
                }
            }
            () = stops.next() => {}
        }
    }
}

/// Sends every ten seconds, and a last time when the end is told.
async fn export<F>(send: impl Fn() -> F, mut end: oneshot::Receiver<()>) -> Exports
where
    F: Future<Output = Result<(), String>>,
{
    let mut exports = Exports::default();
    let mut due = interval_at(Instant::now() + INTERVAL, INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut end => break,
            _ = due.tick() => {}
        }
        tokio::select! {
            biased;
            // The last one tells all that this one would.
            _ = &mut end => break,
            answer = within_time(send()) => exports.note(answer),
        }
    }
    exports.note(within_time(send()).await);
    exports
}

async fn within_time(sent: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let waited = || Err(format!("no answer within {} s", TIMEOUT.as_secs()));
    timeout(TIMEOUT, sent).await.unwrap_or_else(|_| waited())
}

impl Exports {
    fn note(&mut self, sent: Result<(), String>) {
        match sent {
            Ok(()) => self.done += 1,
            Err(error) => {
                if self.failed == 0 {
                    tracing::warn!(
                        error,
                        "the metrics could not be exported; from now on this is counted only"
                    );
                }
                self.failed += 1;
            }
        }
    }
}

async fn post(client: &reqwest::Client, url: &str, request: Vec<u8>) -> Result<(), String> {
    let request = client.post(url).header("content-type", "application/x-protobuf").body(request);
    let mut answer = request.send().await.map_err(|error| causes(&error))?;
    if !answer.status().is_success() {
        return Err(format!("{url} answered {}", answer.status()));
    }
    let mut said = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| causes(&error))? {
        if said.len() + part.len() > ANSWER_BYTES {
            return Ok(());
        }
        said.extend_from_slice(&part);
    }
    Otlp::rejected(&said).map_or(Ok(()), Err)
}

/// An error with what it came from; the client's own text leaves that out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future::pending;
    use tokio::time::sleep;

    /// The seconds at which exports began, and what became of them, of a run of so many seconds.
    async fn exported(seconds: u64, answer: impl AsyncFn() -> Result<(), String>) -> (Vec<u64>, Exports) {
        let start = Instant::now();
        let begun = RefCell::new(Vec::new());
        let (end, told) = oneshot::channel();
        let send = || {
            begun.borrow_mut().push(start.elapsed().as_secs());
            answer()
        };
        let ending = async {
            sleep(Duration::from_secs(seconds)).await;
            end.send(()).unwrap();
        };
        let (exports, ()) = tokio::join!(export(send, told), ending);
        assert!(start.elapsed() <= Duration::from_secs(seconds) + TIMEOUT);
        (begun.into_inner(), exports)
    }

    #[tokio::test(start_paused = true)]
    async fn every_ten_seconds_and_at_the_end() {
        let (begun, exports) = exported(25, async || Ok(())).await;
        assert_eq!((begun, exports), (vec![10, 20, 25], Exports { done: 3, failed: 0 }));
        let (begun, _) = exported(3, async || Ok(())).await;
        assert_eq!(begun, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_hangs_holds_nothing_up() {
        let (begun, exports) = exported(45, async || pending().await).await;
        assert_eq!((begun, exports), (vec![10, 20, 30, 40, 45], Exports { done: 0, failed: 5 }));
        // One under way at the end gives way to the last.
        let (begun, exports) = exported(11, async || pending().await).await;
        assert_eq!((begun, exports), (vec![10, 11], Exports { done: 0, failed: 1 }));
    }
}
