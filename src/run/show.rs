//! What is told of a run under way: the live view, a line a second, or nothing.

use super::Stops;
use super::ending::End;
use crate::observe::{Progress, RunFacts};
use crate::plan::{LoadPlan, Plan, Ui};
use crate::producer::{Observer, Steering};
use crate::run::Rest;
use crate::run::destination::Destinations;
use crate::terminal::{Ask, Facts, Live, LoadEnd};
use std::io::Write as _;
use std::time::Duration;
use tokio::sync::mpsc;

/// Shows the run until it is dropped or ended. The live view's keys ask it to end, like signals.
pub(super) struct Showing {
    live: Option<Live>,
    quits: mpsc::UnboundedReceiver<()>,
}

impl Showing {
    pub(super) fn begin(
        plan: &Plan,
        to: &Destinations,
        facts: &RunFacts,
        (observer, steering): (Observer, Steering),
        end: mpsc::Sender<End>,
        rest: &mut Rest,
    ) -> Self {
        let (quit, quits) = mpsc::unbounded_channel();
        let mut showing = Self { live: None, quits };
        if plan.output.quiet {
            return showing;
        }
        if plan.output.ui == Ui::Live {
            let ask = move |ask| match ask {
                // A run that has ended does not listen any more; of two reasons to drain one is enough.
                Ask::Quit => drop(quit.send(())),
                Ask::Drain => drop(end.try_send(End::Told)),
                Ask::HangUp => drop(end.try_send(End::HungUp)),
            };
            match Live::start(view_facts(plan, to, facts), observer.clone(), steering, ask) {
                Ok(live) => {
                    showing.live = Some(live);
                    return showing;
                }
                Err(error) => tracing::warn!(%error, "the terminal cannot be drawn on"),
            }
        }
        let span = plan.loads.iter().map(LoadPlan::span).try_fold(0, |most, span| Some(span?.max(most)));
        rest.spawn(lines(Progress::new(span), observer, plan.verify.is_some()));
        showing
    }

    /// Gives the terminal back.
    pub(super) fn end(self) {
        drop(self.live);
    }

    /// What asks the run to end: `stops`, or a key.
    pub(super) fn stops<S: Stops>(&mut self, stops: S) -> StopsOrKeys<'_, S> {
        StopsOrKeys { stops, quits: &mut self.quits }
    }
}

fn view_facts(plan: &Plan, to: &Destinations, facts: &RunFacts) -> Facts {
    let mut streams = Vec::new();
    for to in &to.loads {
        streams.resize(streams.len().max(to.place + 1), String::new());
        to.stream.as_str().clone_into(&mut streams[to.place]);
    }
    let load = |load: &LoadPlan| LoadEnd { name: load.name.clone(), records: load.records };
    Facts {
        run_id: facts.run_id.clone(),
        streams,
        loads: plan.loads.iter().map(load).collect(),
        drain_timeout: plan.drain_timeout,
        reads_back: plan.verify.is_some(),
    }
}

/// A line to stderr every second; a stderr that is gone is not the run's concern. What is told while streams
/// are read back is told by who reads them.
async fn lines(mut progress: Progress, observer: Observer, reads_back: bool) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        seconds.tick().await;
        let now = observer.snapshot();
        let last = Progress::last_line(&now).filter(|_| reads_back);
        let ends = last.is_some();
        let _ = writeln!(std::io::stderr(), "{}", last.unwrap_or_else(|| progress.line(now)));
        if ends {
            return;
        }
    }
}

/// Requests to stop the run from elsewhere and from keys.
pub(super) struct StopsOrKeys<'a, S> {
    stops: S,
    quits: &'a mut mpsc::UnboundedReceiver<()>,
}

impl<S: Stops> Stops for StopsOrKeys<'_, S> {
    async fn next(&mut self) {
        tokio::select! {
            () = self.stops.next() => {}
            Some(()) = self.quits.recv() => {}
        }
    }
}
