//! The reading back of a run's streams.

use super::destination::Destinations;
use super::{RunError, Stops};
use crate::kinesis::{Client, Position, Registrations, StreamError, StreamInfo};
use crate::load::Nanos;
use crate::observe::VerifySummary;
use crate::plan::{Plan, ReadBack, Target};
use crate::producer::Witness;
use crate::tick::Source;
use crate::verify::{Consumer, Proof, Reader, When};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Streams that are about to be read, or none if the run is not to be proved.
pub(super) struct Verifying(Option<(Consumer, Duration)>);

/// A proof that is under way.
pub(super) struct Proving(JoinSet<VerifySummary>);

impl Verifying {
    /// Reads nothing back.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// Takes its place at the end of every stream, before the load begins.
    pub(super) async fn begin(
        plan: &Plan,
        to: &Destinations,
        now_unix: Nanos,
        registrations: &Registrations,
    ) -> Result<Self, RunError> {
        let Some(read_back) = plan.verify else { return Ok(Self(None)) };
        let mut readers: Vec<Reader> = Vec::new();
        for to in &to.loads {
            // Streams are numbered in the order in which loads name them.
            if to.place == readers.len()
                && let Some(client) = &to.reader
            {
                readers.push(reader(client, &to.info, read_back, registrations).await?);
            }
        }
        // Nobody else writes to the embedded stream.
        let embedded = matches!(plan.target, Target::Embedded { .. });
        let from = if embedded { Position::Oldest } else { Position::Newest };
        let consumer = Consumer::begin(readers, from, now_unix, to.marks.clone()).await?;
        Ok(Self(Some((consumer, read_back.wait))))
    }

    /// What is to be told of the acked records of the load at this place.
    pub(super) fn witness(&self, load: usize) -> Option<Box<dyn Witness>> {
        let (consumer, _) = self.0.as_ref()?;
        let load = u8::try_from(load).ok()?;
        Some(Box::new(consumer.acks(load)))
    }

    /// Begins to read, for the run `run` that began at `start`.
    #[expect(clippy::disallowed_methods, reason = "the consumer is a task beside the producer")]
    pub(super) fn prove(
        self,
        run: u32,
        start_unix: Nanos,
        start: Instant,
        loads: Vec<(String, Source)>,
    ) -> Proving {
        let mut proving = JoinSet::new();
        if let Some((consumer, wait)) = self.0 {
            let proof = Proof::new(run, start_unix, loads);
            proving.spawn(async move {
                let when = When::On { start, start_unix };
                let (proof, error) = consumer.prove(proof, when, wait, std::future::pending()).await;
                proof.summary(error)
            });
        }
        Proving(proving)
    }
}

/// Connections to a stream that is read back. Without HTTP/2 each subscription takes one of its own.
pub(super) fn connections(most: usize, read_back: ReadBack) -> usize {
    if read_back.fan_out { most.max(10_000) } else { most }
}

/// How a stream is read back: polled, or as a consumer that is registered for it.
pub(super) async fn reader(
    client: &Client,
    info: &StreamInfo,
    read_back: ReadBack,
    registrations: &Registrations,
) -> Result<Reader, StreamError> {
    let registration = if read_back.fan_out {
        let name = format!("tickgen-{:08x}", rand::random::<u32>());
        Some(registrations.register(client, &info.arn, &name).await?)
    } else {
        None
    };
    Ok(Reader { client: client.clone(), registration })
}

impl Proving {
    /// The proof, once the load has ended. Another request to stop ends it: then there is none.
    pub(super) async fn result(mut self, stops: &mut impl Stops) -> Result<Option<VerifySummary>, String> {
        tokio::select! {
            proof = self.0.join_next() => match proof {
                Some(Err(error)) => Err(format!("the reading back broke off: {error}")),
                proof => Ok(proof.and_then(Result::ok)),
            },
            () = stops.next() => Err("stopped before the stream was read to its end".to_owned()),
        }
    }
}
