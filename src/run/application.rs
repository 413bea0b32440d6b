//! The application under test: the load begins when it is ready, and may end when it is gone.

use crate::admin::Probe;
use std::io::{Error, Result};
use std::time::Duration;

/// The time between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// So many questions in a row without an answer, and the application is gone. An answer of any status is
/// one: under load an application may say that it is not ready.
const GONE_AFTER: u32 = 6;

/// Waits until the application answers with 2xx.
pub(super) async fn ready(probe: &Probe) {
    tracing::info!(url = %probe, "waiting until the application is ready");
    until_ready(|| ask(probe.clone())).await;
    tracing::info!("the application is ready");
}

/// Waits until the application does not answer any more.
pub(super) async fn gone(probe: Probe) {
    until_gone(|| ask(probe.clone())).await;
    tracing::info!(url = %probe, "the application is gone; draining");
}

async fn ask(probe: Probe) -> Result<u16> {
    let answer = tokio::task::spawn_blocking(move || probe.get(TIMEOUT));
    // Looking a name up, and an answer that trickles, have no time limit of their own.
    match tokio::time::timeout(2 * TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(Error::other)?,
        Err(elapsed) => Err(elapsed.into()),
    }
}

async fn until_ready<F: Future<Output = Result<u16>>>(ask: impl Fn() -> F) {
    let mut last = String::new();
    loop {
        let answer = ask().await;
        if let Ok(200..300) = answer {
            return;
        }
        let said = answer.map_or_else(|error| error.to_string(), |status| format!("status {status}"));
        if said != last {
            tracing::info!(answer = said, "the application is not ready");
            last = said;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn until_gone<F: Future<Output = Result<u16>>>(ask: impl Fn() -> F) {
    let mut unanswered = 0;
    while unanswered < GONE_AFTER {
        tokio::time::sleep(PAUSE).await;
        unanswered = if ask().await.is_ok() { 0 } else { unanswered + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::Instant;

    /// Answers one after another, then the last of them.
    fn script(answers: &[Option<u16>]) -> (impl Fn() -> std::future::Ready<Result<u16>>, &Cell<usize>) {
        let asked: &Cell<usize> = Box::leak(Box::new(Cell::new(0)));
        let ask = move || {
            let answer = answers[asked.get().min(answers.len() - 1)];
            asked.set(asked.get() + 1);
            std::future::ready(answer.ok_or_else(|| Error::other("refused")))
        };
        (ask, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn only_2xx_is_ready() {
        let answers = [None, Some(503), Some(302), Some(199), Some(404), Some(204), None];
        let (ask, asked) = script(&answers);
        let start = Instant::now();
        until_ready(ask).await;
        assert_eq!((asked.get(), start.elapsed()), (6, 5 * PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn gone_is_six_questions_in_a_row_without_an_answer() {
        let mut answers = vec![None; 5];
        answers.push(Some(503));
        answers.extend([None; 6]);
        answers.push(Some(200));
        let (ask, asked) = script(&answers);
        let start = Instant::now();
        until_gone(ask).await;
        assert_eq!((asked.get(), start.elapsed()), (12, 12 * PAUSE));
    }
}
