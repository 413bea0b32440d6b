//! Every metric with its values, for the forms that the exporter does not write.

use super::{Exposed, Handles, METRICS, Metric, RunGauges, Snapshot, histograms, machine};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};
use metrics_util::registry::{AtomicStorage, Registry};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// A metric with the values of all its labels.
#[derive(Debug)]
pub(in crate::observe) struct Family<'a> {
    pub metric: Metric,
    /// At least one; by rising labels.
    pub points: Vec<Point<'a>>,
}

/// A value of a metric.
#[derive(Debug)]
pub(in crate::observe) struct Point<'a> {
    /// Names and values of its labels.
    pub labels: Vec<(String, String)>,
    pub value: Value<'a>,
}

#[derive(Debug)]
pub(in crate::observe) enum Value<'a> {
    Whole(u64),
    Real(f64),
    Histogram(Exposed<'a>),
}

/// The metrics of a run, to be read rather than rendered.
pub struct Families {
    recorder: Kept,
    run: RunGauges,
    handles: Mutex<Handles>,
}

impl std::fmt::Debug for Families {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Families").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Families {
    /// The metrics of a run.
    #[must_use]
    pub fn new(run: RunGauges) -> Self {
        let recorder = Kept(Registry::atomic());
        let handles = with_local_recorder(&recorder, || Handles::register(&run));
        Self { recorder, run, handles: Mutex::new(handles) }
    }

    /// All metrics that have a value, in the order of their table; `all` is the sum of the loads.
    pub(in crate::observe) fn read<'a>(
        &'a self,
        all: &'a Snapshot,
        loads: &'a [Arc<Snapshot>],
    ) -> Vec<Family<'a>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        with_local_recorder(&self.recorder, || handles.update(all, loads, &self.run));
        drop(handles);
        let mut families: Vec<_> =
            METRICS.iter().map(|&metric| Family { metric, points: Vec::new() }).collect();
        let mut add = |name: &str, labels: Vec<(String, String)>, value| {
            if let Some(family) = families.iter_mut().find(|family| family.metric.name == name) {
                family.points.push(Point { labels, value });
            }
        };
        for (key, counter) in self.recorder.0.get_counter_handles() {
            add(key.name(), labels(&key), Value::Whole(counter.load(Ordering::Acquire)));
        }
        for (key, gauge) in self.recorder.0.get_gauge_handles() {
            add(key.name(), labels(&key), Value::Real(f64::from_bits(gauge.load(Ordering::Acquire))));
        }
        for (metric, value) in machine(&self.run) {
            add(metric.name, Vec::new(), Value::Real(value));
        }
        for (metric, histograms) in histograms(&self.run, all, loads) {
            for histogram in histograms {
                let load = histogram.load.map(|load| ("load".to_owned(), load.to_owned()));
                add(metric.name, load.into_iter().collect(), Value::Histogram(histogram));
            }
        }
        families.retain(|family| !family.points.is_empty());
        for family in &mut families {
            family.points.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        families
    }
}

fn labels(key: &Key) -> Vec<(String, String)> {
    key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect()
}

/// A recorder that keeps the last value of each counter and gauge.
struct Kept(Registry<Key, AtomicStorage>);

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |counter| counter.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |gauge| gauge.clone().into())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        // Histograms are read from the snapshots.
        Histogram::noop()
    }
}
