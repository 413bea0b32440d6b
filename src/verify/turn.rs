//! One read of a shard: by `GetRecords`, or the next event that is pushed.

use super::tips::Told;
use crate::kinesis::{
    Client, Page, Position, Registration, ShardId, StoredRecord, StreamError, Subscription,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// A shard may be read five times a second, by all who read it.
const PAUSE: Duration = Duration::from_millis(210);

/// How long a shard is left alone after an error.
pub(super) const AFTER_ERROR: Duration = Duration::from_secs(1);

/// How often a list of shards, or where a shard begins, is asked for before it is given up.
pub(super) const LIST_ATTEMPTS: u32 = 5;

/// A stream to read, and how.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The client of the stream.
    pub client: Client,
    /// The registered consumer to which shards are pushed; `None`: they are polled.
    pub registration: Option<Registration>,
}

/// Where the reading of a shard is.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) stream: usize,
    pub(super) shard: ShardId,
    pub(super) from: Position,
    pub(super) reading: Option<Reading>,
}

/// What gives the next records of a shard.
#[derive(Debug)]
pub(super) enum Reading {
    Iterator(String),
    Subscription(Subscription),
}

/// What one read gave.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) records: Vec<StoredRecord>,
    // Where it is gone on from, if that is not where it was before.
    pub(super) from: Option<Position>,
    // Of the last record.
    pub(super) last: Option<String>,
    // How far it was from the newest record.
    behind_ms: u64,
    at_tip: bool,
    // Whether the shard is closed and was read to its end.
    pub(super) ended: bool,
    pub(super) next: Option<Reading>,
}

/// One read of a shard.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) cursor: Cursor,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) got: Result<Got, StreamError>,
    // Whether the reading of the shard began, or began again, with this read.
    pub(super) fresh: bool,
    _room: Option<OwnedSemaphorePermit>,
}

pub(super) async fn turn(reader: Reader, mut cursor: Cursor, at: Instant, pages: Arc<Semaphore>) -> Turn {
    sleep_until(at).await;
    // The semaphore is never closed. What is pushed takes room once it is there, as it may be long in coming.
    let polls = reader.registration.is_none();
    let room = if polls { Arc::clone(&pages).acquire_owned().await.ok() } else { None };
    let fresh = cursor.reading.is_none();
    let began = Instant::now();
    let got = reader.read(&mut cursor).await;
    let ended = Instant::now();
    let room = if polls { room } else { pages.acquire_owned().await.ok() };
    Turn { cursor, began, ended, got, fresh, _room: room }
}

impl Reader {
    /// How long after one read of a shard the next may begin.
    pub(super) fn pause(&self) -> Duration {
        if self.registration.is_some() { Duration::ZERO } else { PAUSE }
    }

    /// Begins to read a shard.
    async fn begin(&self, shard: ShardId, from: &Position) -> Result<Reading, StreamError> {
        match &self.registration {
            None => self.client.shard_iterator(shard, from).await.map(Reading::Iterator),
            Some(registration) => registration.subscribe(shard, from).await.map(Reading::Subscription),
        }
    }

    /// The same, asking again where that may help: a shard may be read and subscribed to only so often.
    pub(super) async fn begin_patiently(
        &self,
        shard: ShardId,
        from: &Position,
    ) -> Result<Reading, StreamError> {
        for _ in 1..LIST_ATTEMPTS {
            match self.begin(shard, from).await {
                Err(error) if error.is_transient() => tracing::warn!(%error, %shard, "asking again"),
                begun => return begun,
            }
            tokio::time::sleep(AFTER_ERROR).await;
        }
        self.begin(shard, from).await
    }

    async fn read(&self, cursor: &mut Cursor) -> Result<Got, StreamError> {
        let reading = match cursor.reading.take() {
            Some(reading) => reading,
            None => self.begin(cursor.shard, &cursor.from).await?,
        };
        match (reading, &self.registration) {
            (Reading::Subscription(subscription), Some(registration)) => {
                next_pushed(registration, subscription, &cursor.from).await
            }
            (Reading::Iterator(iterator), _) => self.client.get_records(&iterator).await.map(Got::of_page),
            // A subscription is of a registration.
            (Reading::Subscription(_), None) => Ok(Got::nothing()),
        }
    }
}

/// The next event of a subscription; one that is over, as after five minutes, is begun again by the next read.
async fn next_pushed(
    registration: &Registration,
    mut subscription: Subscription,
    from: &Position,
) -> Result<Got, StreamError> {
    let Some(pushed) = registration.next(&mut subscription).await? else { return Ok(Got::nothing()) };
    let from = match (&pushed.last, pushed.continuation, from) {
        (Some(last), _, _) => Some(Position::After(last.clone())),
        // After a record it is gone on from there, lest it come twice; before the first this tells more.
        (None, Some(_), Position::After(_)) => None,
        (None, continuation, _) => continuation.map(Position::At),
    };
    Ok(Got {
        records: pushed.records,
        from,
        last: pushed.last,
        behind_ms: pushed.behind_ms,
        at_tip: pushed.at_tip,
        ended: pushed.ended,
        next: Some(Reading::Subscription(subscription)),
    })
}

impl Got {
    fn of_page(page: Page) -> Self {
        Self {
            records: page.records,
            from: page.last.clone().map(Position::After),
            last: page.last,
            behind_ms: page.behind_ms,
            at_tip: page.at_tip,
            ended: page.next.is_none(),
            next: page.next.map(Reading::Iterator),
        }
    }

    fn nothing() -> Self {
        Self {
            records: Vec::new(),
            from: None,
            last: None,
            behind_ms: u64::MAX,
            at_tip: false,
            ended: false,
            next: None,
        }
    }

    /// What it told of the shard's tip, began and ended so long after the reading did.
    pub(super) fn told(&self, began: Duration, ended: Duration) -> Told {
        let Self { behind_ms, at_tip, .. } = *self;
        Told { began, ended, records: self.records.len(), behind_ms, at_tip }
    }
}
