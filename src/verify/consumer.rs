//! Reads streams shard by shard while the load runs, and after it until nothing is missing.

use super::{Arrived, Lineage, Proof};
use crate::kinesis::{
    Client, Page, Position, ReadMarks, Registration, ShardId, StoredRecord, StreamError, Subscription,
};
use crate::load::{Nanos, SECOND};
use crate::producer::Witness;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A shard may be read five times a second, by all who read it.
const PAUSE: Duration = Duration::from_millis(210);

/// How long a shard is left alone after an error.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Pages read and not settled yet, of 10 MiB at most.
const PAGES: usize = 4;

/// How often a list of shards, or where a shard begins, is asked for before it is given up.
const LIST_ATTEMPTS: u32 = 5;

/// Records that an answer acked.
#[derive(Debug)]
struct Answered {
    load: u8,
    numbers: Vec<u64>,
    sent: Nanos,
    at: Nanos,
}

/// Tells a [`Consumer`] what a load's answers acked.
#[derive(Clone, Debug)]
pub struct Acks {
    load: u8,
    to: UnboundedSender<Answered>,
}

impl Witness for Acks {
    fn acked(&mut self, numbers: Vec<u64>, sent: Nanos, acked: Nanos) {
        // A consumer that is gone has said why.
        let _ = self.to.send(Answered { load: self.load, numbers, sent, at: acked });
    }
}

/// Reads all shards of some streams.
#[derive(Debug)]
pub struct Consumer {
    streams: Vec<Stream>,
    turns: JoinSet<Turn>,
    marks: ReadMarks,
    pages: Arc<Semaphore>,
    // What the loads' answers acked. It is taken in before pages are, and faster than engines send, so it
    // holds no more than what comes while one page is settled.
    acks: UnboundedReceiver<Answered>,
    acks_to: UnboundedSender<Answered>,
}

/// A stream to read, and how.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The client of the stream.
    pub client: Client,
    /// The registered consumer to which shards are pushed; `None`: they are polled.
    pub registration: Option<Registration>,
}

#[derive(Debug)]
struct Stream {
    reader: Reader,
    lineage: Lineage,
    // When the last read began that found nothing newer.
    tips: HashMap<ShardId, Instant>,
}

/// Where the reading of a shard is.
#[derive(Debug)]
struct Cursor {
    stream: usize,
    shard: ShardId,
    from: Position,
    reading: Option<Reading>,
}

/// What gives the next records of a shard.
#[derive(Debug)]
enum Reading {
    Iterator(String),
    Subscription(Subscription),
}

/// What one read gave.
#[derive(Debug)]
struct Got {
    records: Vec<StoredRecord>,
    // Where it is gone on from, if that is not where it was before.
    from: Option<Position>,
    // Of the last record.
    last: Option<String>,
    at_tip: bool,
    // Whether the shard is closed and was read to its end.
    ended: bool,
    next: Option<Reading>,
}

/// One read of a shard.
#[derive(Debug)]
struct Turn {
    cursor: Cursor,
    began: Instant,
    ended: Instant,
    got: Result<Got, StreamError>,
    // Whether the reading of the shard began, or began again, with this read.
    fresh: bool,
    _room: Option<OwnedSemaphorePermit>,
}

impl Consumer {
    /// Begins to read the streams of these clients; the shards that they have now from a position. How far
    /// they are read is noted in `marks`.
    ///
    /// # Errors
    /// If the shards cannot be listed, or have no such position.
    pub async fn begin(
        readers: Vec<Reader>,
        from: Position,
        now_unix: Nanos,
        marks: ReadMarks,
    ) -> Result<Self, StreamError> {
        let (acks_to, acks) = unbounded_channel();
        let pages = Arc::new(Semaphore::new(PAGES));
        let mut consumer = Self { streams: Vec::new(), turns: JoinSet::new(), marks, pages, acks, acks_to };
        for reader in readers {
            let shards = reader.client.all_shards().await?;
            let mut lineage = Lineage::default();
            lineage.learn(&shards);
            if from == Position::Newest {
                shards.iter().filter(|shard| !shard.open).for_each(|shard| lineage.end(shard.id));
            }
            let stream = consumer.streams.len();
            for shard in lineage.begin() {
                let reading = Some(reader.begin_patiently(shard, &from).await?);
                // An iterator that is lost before it gave a record leads back to a little before now.
                let again = match &from {
                    Position::Newest => Position::Time(now_unix.saturating_sub(60 * SECOND)),
                    from => from.clone(),
                };
                consumer.read(&reader, Cursor { stream, shard, from: again, reading }, Instant::now());
            }
            consumer.streams.push(Stream { reader, lineage, tips: HashMap::new() });
        }
        Ok(consumer)
    }

    /// What tells this consumer of the acked records of the load at this place.
    #[must_use]
    pub fn acks(&self, load: u8) -> Acks {
        Acks { load, to: self.acks_to.clone() }
    }

    #[expect(clippy::disallowed_methods, reason = "a read is a task, so that shards are read side by side")]
    fn read(&mut self, reader: &Reader, cursor: Cursor, at: Instant) {
        self.turns.spawn(turn(reader.clone(), cursor, at, Arc::clone(&self.pages)));
    }

    /// Reads until every producer is gone, and then until all that was acked has arrived and every shard
    /// was read to its tip; or until `wait` is over. `start` is that of the run, `None` if it is over
    /// already. Gives the proof, and why the streams were not read to their ends, if they were not.
    pub async fn prove(
        mut self,
        mut proof: Proof,
        start: Option<Instant>,
        wait: Duration,
    ) -> (Proof, Option<String>) {
        let error = self.read_all(&mut proof, start, wait).await.err();
        (proof, error)
    }

    async fn read_all(
        &mut self,
        proof: &mut Proof,
        start: Option<Instant>,
        wait: Duration,
    ) -> Result<(), String> {
        // From here on only producers hold the other end.
        let (dead, _) = unbounded_channel();
        self.acks_to = dead;
        let mut ended: Option<Instant> = None;
        while !ended.is_some_and(|ended| proof.missing() == 0 && self.is_at_tip(ended)) {
            let deadline = ended.map_or_else(Instant::now, |ended| ended + wait);
            tokio::select! {
                biased;
                answered = self.acks.recv(), if ended.is_none() => {
                    if let Some(Answered { load, numbers, sent, at }) = answered {
                        proof.acked(load, &numbers, sent, at);
                    } else {
                        self.look_for_shards_everywhere().await?;
                        ended = Some(Instant::now());
                    }
                }
                Some(Ok(turn)) = self.turns.join_next() => self.settle(turn, proof, start).await?,
                () = sleep_until(deadline), if ended.is_some() => {
                    return match ended.filter(|ended| !self.is_at_tip(*ended)) {
                        Some(_) => Err(format!("not all shards were read to their tip within {wait:?}")),
                        None => Ok(()),
                    };
                }
            }
        }
        Ok(())
    }

    /// Whether every shard was read to its tip by a read that began after `since`.
    fn is_at_tip(&self, since: Instant) -> bool {
        self.streams.iter().all(|stream| {
            let read = |shard: ShardId| stream.tips.get(&shard).is_some_and(|began| *began > since);
            !stream.lineage.any_waits() && stream.lineage.begun().all(read)
        })
    }

    async fn settle(&mut self, turn: Turn, proof: &mut Proof, start: Option<Instant>) -> Result<(), String> {
        let Turn { mut cursor, began, ended, got, fresh, .. } = turn;
        let reader = self.streams[cursor.stream].reader.clone();
        let got = match got {
            Ok(got) => got,
            Err(error) if !error.is_transient() && fresh => return Err(error.to_string()),
            Err(error) => {
                tracing::warn!(%error, shard = %cursor.shard, "reading again");
                cursor.reading = None;
                self.read(&reader, cursor, ended + AFTER_ERROR);
                return Ok(());
            }
        };
        let read = start.map(|start| Nanos::try_from((ended - start).as_nanos()).unwrap_or(Nanos::MAX));
        for record in &got.records {
            proof.read(Arrived {
                partition_key: &record.partition_key,
                data: &record.data,
                arrived_unix: record.arrived,
                read,
            });
        }
        if let Some(last) = got.last {
            self.marks.set(cursor.shard, last);
        }
        if let Some(from) = got.from {
            cursor.from = from;
        }
        if got.at_tip {
            self.streams[cursor.stream].tips.insert(cursor.shard, began);
        }
        if got.ended {
            self.streams[cursor.stream].lineage.end(cursor.shard);
            return self.look_for_shards(cursor.stream).await;
        }
        cursor.reading = got.next;
        self.read(&reader, cursor, began + reader.pause());
        Ok(())
    }

    async fn look_for_shards_everywhere(&mut self) -> Result<(), String> {
        for stream in 0..self.streams.len() {
            self.look_for_shards(stream).await?;
        }
        Ok(())
    }

    /// Begins to read the shards that have come about, from their first record.
    async fn look_for_shards(&mut self, stream: usize) -> Result<(), String> {
        let reader = self.streams[stream].reader.clone();
        let mut attempt = 1;
        let shards = loop {
            match reader.client.all_shards().await {
                Ok(shards) => break shards,
                Err(error) if error.is_transient() && attempt < LIST_ATTEMPTS => {
                    tracing::warn!(%error, "asking again");
                    attempt += 1;
                    tokio::time::sleep(AFTER_ERROR).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        let lineage = &mut self.streams[stream].lineage;
        lineage.learn(&shards);
        for shard in lineage.begin() {
            let cursor = Cursor { stream, shard, from: Position::Oldest, reading: None };
            self.read(&reader, cursor, Instant::now());
        }
        Ok(())
    }
}

async fn turn(reader: Reader, mut cursor: Cursor, at: Instant, pages: Arc<Semaphore>) -> Turn {
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
    fn pause(&self) -> Duration {
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
    async fn begin_patiently(&self, shard: ShardId, from: &Position) -> Result<Reading, StreamError> {
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
            at_tip: page.at_tip,
            ended: page.next.is_none(),
            next: page.next.map(Reading::Iterator),
        }
    }

    fn nothing() -> Self {
        Self { records: Vec::new(), from: None, last: None, at_tip: false, ended: false, next: None }
    }
}
