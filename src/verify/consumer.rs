//! Reads streams shard by shard while the load runs, and after it until nothing is missing.

use super::{Arrived, Lineage, Proof};
use crate::kinesis::{Client, Page, Position, ReadMarks, ShardId, StreamError};
use crate::load::{Nanos, SECOND};
use crate::observe::VerifySummary;
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

/// How often a list of shards is asked for before it is given up.
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

#[derive(Debug)]
struct Stream {
    client: Client,
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
    iterator: Option<String>,
}

/// One read of a shard.
#[derive(Debug)]
struct Turn {
    cursor: Cursor,
    began: Instant,
    ended: Instant,
    page: Result<Page, StreamError>,
    // Whether the iterator was made for this read.
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
        clients: Vec<Client>,
        from: Position,
        now_unix: Nanos,
        marks: ReadMarks,
    ) -> Result<Self, StreamError> {
        let (acks_to, acks) = unbounded_channel();
        let pages = Arc::new(Semaphore::new(PAGES));
        let mut consumer = Self { streams: Vec::new(), turns: JoinSet::new(), marks, pages, acks, acks_to };
        for client in clients {
            let shards = client.all_shards().await?;
            let mut lineage = Lineage::default();
            lineage.learn(&shards);
            if from == Position::Newest {
                shards.iter().filter(|shard| !shard.open).for_each(|shard| lineage.end(shard.id));
            }
            let stream = consumer.streams.len();
            for shard in lineage.begin() {
                let iterator = Some(client.shard_iterator(shard, &from).await?);
                // An iterator that is lost before it gave a record leads back to a little before now.
                let again = match &from {
                    Position::Newest => Position::Time(now_unix.saturating_sub(60 * SECOND)),
                    from => from.clone(),
                };
                consumer.read(&client, Cursor { stream, shard, from: again, iterator }, Instant::now());
            }
            consumer.streams.push(Stream { client, lineage, tips: HashMap::new() });
        }
        Ok(consumer)
    }

    /// What tells this consumer of the acked records of the load at this place.
    #[must_use]
    pub fn acks(&self, load: u8) -> Acks {
        Acks { load, to: self.acks_to.clone() }
    }

    #[expect(clippy::disallowed_methods, reason = "a read is a task, so that shards are read side by side")]
    fn read(&mut self, client: &Client, cursor: Cursor, at: Instant) {
        self.turns.spawn(turn(client.clone(), cursor, at, Arc::clone(&self.pages)));
    }

    /// Reads until every producer is gone, and then until all that was acked has arrived and every shard
    /// was read to its tip; or until `wait` is over. `start` is that of the run.
    pub async fn prove(mut self, mut proof: Proof, start: Instant, wait: Duration) -> VerifySummary {
        let error = self.read_all(&mut proof, start, wait).await.err();
        VerifySummary { error, ..proof.summary() }
    }

    async fn read_all(&mut self, proof: &mut Proof, start: Instant, wait: Duration) -> Result<(), String> {
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

    async fn settle(&mut self, turn: Turn, proof: &mut Proof, start: Instant) -> Result<(), String> {
        let Turn { mut cursor, began, ended, page, fresh, .. } = turn;
        let client = self.streams[cursor.stream].client.clone();
        let page = match page {
            Ok(page) => page,
            Err(error) if !error.is_transient() && fresh => return Err(error.to_string()),
            Err(error) => {
                tracing::warn!(%error, shard = %cursor.shard, "reading again");
                cursor.iterator = None;
                self.read(&client, cursor, ended + AFTER_ERROR);
                return Ok(());
            }
        };
        let read = Nanos::try_from((ended - start).as_nanos()).unwrap_or(Nanos::MAX);
        for record in &page.records {
            proof.read(Arrived {
                partition_key: &record.partition_key,
                data: &record.data,
                arrived_unix: record.arrived,
                read,
            });
        }
        if let Some(last) = page.last {
            self.marks.set(cursor.shard, last.clone());
            cursor.from = Position::After(last);
        }
        if page.at_tip {
            self.streams[cursor.stream].tips.insert(cursor.shard, began);
        }
        if page.next.is_none() {
            self.streams[cursor.stream].lineage.end(cursor.shard);
            return self.look_for_shards(cursor.stream).await;
        }
        cursor.iterator = page.next;
        self.read(&client, cursor, began + PAUSE);
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
        let client = self.streams[stream].client.clone();
        let mut attempt = 1;
        let shards = loop {
            match client.all_shards().await {
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
            let cursor = Cursor { stream, shard, from: Position::Oldest, iterator: None };
            self.read(&client, cursor, Instant::now());
        }
        Ok(())
    }
}

async fn turn(client: Client, mut cursor: Cursor, at: Instant, pages: Arc<Semaphore>) -> Turn {
    sleep_until(at).await;
    // The semaphore is never closed.
    let room = pages.acquire_owned().await.ok();
    let fresh = cursor.iterator.is_none();
    let began = Instant::now();
    let page = read_page(&client, &mut cursor).await;
    Turn { cursor, began, ended: Instant::now(), page, fresh, _room: room }
}

async fn read_page(client: &Client, cursor: &mut Cursor) -> Result<Page, StreamError> {
    let iterator = match cursor.iterator.take() {
        Some(iterator) => iterator,
        None => client.shard_iterator(cursor.shard, &cursor.from).await?,
    };
    client.get_records(&iterator).await
}
