//! Reads streams shard by shard while the load runs, and after it until nothing is missing.

use super::tips::Tips;
use super::turn::{AFTER_ERROR, Cursor, LIST_ATTEMPTS, Reader, Turn, turn};
use super::{Arrived, Lineage, Proof};
use crate::kinesis::{Position, ReadMarks, StoredRecord, StreamError};
use crate::load::{Nanos, SECOND};
use crate::producer::Witness;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Pages read and not settled yet, of 10 MiB at most.
const PAGES: usize = 4;

/// How far the stream's clock and the run's may be apart: records are looked for from so long before the
/// run's start to so long after its end.
pub const CLOCKS: Nanos = 300 * SECOND;

/// How often it is told how far the reading has come, once the load has ended.
const TELL: Duration = Duration::from_secs(2);

/// When the run is, or was, on.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// It is on.
    On {
        /// When it began.
        start: Instant,
        /// The same in nanoseconds since 1970-01-01 UTC.
        start_unix: Nanos,
    },
    /// It is over.
    Over {
        /// When it ended, in nanoseconds since 1970-01-01 UTC, if that is known.
        ended_unix: Option<Nanos>,
    },
}

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
    begun: Instant,
    tips: Tips,
    // What arrived later, in nanoseconds since 1970-01-01 UTC by the stream's clock, is not of the run.
    until: Option<i64>,
    // What the loads' answers acked. It is taken in before pages are, and faster than engines send, so it
    // holds no more than what comes while one page is settled.
    acks: UnboundedReceiver<Answered>,
    acks_to: UnboundedSender<Answered>,
}

#[derive(Debug)]
struct Stream {
    reader: Reader,
    lineage: Lineage,
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
        let mut consumer = Self {
            streams: Vec::new(),
            turns: JoinSet::new(),
            marks,
            pages,
            begun: Instant::now(),
            tips: Tips::default(),
            until: None,
            acks,
            acks_to,
        };
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
            consumer.streams.push(Stream { reader, lineage });
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
    /// was read far enough, or nothing more has come of them for `wait`, or `stop`. Gives the proof, and why
    /// the streams were not read to their ends, if they were not.
    pub async fn prove(
        mut self,
        mut proof: Proof,
        when: When,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> (Proof, Option<String>) {
        let error = tokio::select! {
            read = self.read_all(&mut proof, when, wait) => read.err(),
            () = stop => Some("stopped before the streams were read to their ends".to_owned()),
        };
        (proof, error)
    }

    async fn read_all(&mut self, proof: &mut Proof, when: When, wait: Duration) -> Result<(), String> {
        // From here on only producers hold the other end.
        let (dead, _) = unbounded_channel();
        self.acks_to = dead;
        let (mut ended, mut tell) = (false, Instant::now());
        while !(ended && proof.missing() == 0 && self.unread() == 0) {
            let deadline = self.begun + self.tips.progressed() + wait;
            tokio::select! {
                biased;
                answered = self.acks.recv(), if !ended => {
                    if let Some(Answered { load, numbers, sent, at }) = answered {
                        proof.acked(load, &numbers, sent, at);
                    } else {
                        self.load_has_ended(when).await?;
                        (ended, tell) = (true, Instant::now() + TELL);
                    }
                }
                () = sleep_until(tell), if ended => {
                    tell += TELL;
                    self.tell(proof);
                }
                Some(Ok(turn)) = self.turns.join_next() => self.settle(turn, proof, when).await?,
                () = sleep_until(deadline), if ended => return self.end_of_wait(wait),
            }
        }
        Ok(())
    }

    /// Notes where the reading may end: every shard that has the run's records is known.
    async fn load_has_ended(&mut self, when: When) -> Result<(), String> {
        for stream in 0..self.streams.len() {
            self.look_for_shards(stream).await?;
        }
        let now = Instant::now();
        self.tips.load_ended(now - self.begun);
        let ended_unix = match when {
            When::On { start, start_unix } => Some(start_unix + nanos(now - start)),
            When::Over { ended_unix } => ended_unix,
        };
        self.until = ended_unix.and_then(|ended| i64::try_from(ended + CLOCKS).ok());
        Ok(())
    }

    /// How many shards were not read far enough.
    fn unread(&self) -> usize {
        let of_stream = |(place, stream): (usize, &Stream)| {
            let begun = stream.lineage.begun().filter(|shard| !self.tips.is_read((place, *shard))).count();
            begun + stream.lineage.waiting()
        };
        self.streams.iter().enumerate().map(of_stream).sum()
    }

    fn tell(&self, proof: &Proof) {
        let behind = self.tips.behind().map(|behind| format!("{behind:?}"));
        tracing::info!(
            delivered = proof.delivered(),
            missing = proof.knows_acked().then(|| proof.missing()),
            unread_shards = self.unread(),
            behind,
            "reading back"
        );
    }

    fn end_of_wait(&self, wait: Duration) -> Result<(), String> {
        match self.unread() {
            0 => Ok(()),
            unread => Err(format!(
                "not read to the end: {unread} shards were not read to their tips, and nothing more came of them \
                 for {wait:?} (--verify-wait)"
            )),
        }
    }

    async fn settle(&mut self, turn: Turn, proof: &mut Proof, when: When) -> Result<(), String> {
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
        let missing = proof.missing();
        take_in(proof, &got.records, when, ended);
        let place = (cursor.stream, cursor.shard);
        self.tips.read(place, got.told(began - self.begun, ended - self.begun));
        if got.ended || proof.missing() < missing {
            self.tips.progressed_at(ended - self.begun);
        }
        if let Some(last) = got.last {
            self.marks.set(cursor.shard, last);
        }
        if let Some(from) = got.from {
            cursor.from = from;
        }
        if got.ended {
            self.streams[cursor.stream].lineage.end(cursor.shard);
            return self.look_for_shards(cursor.stream).await;
        }
        if self.until.is_some_and(|until| got.records.iter().any(|record| record.arrived > until)) {
            self.streams[cursor.stream].lineage.end(cursor.shard);
            self.begin_shards(cursor.stream);
            return Ok(());
        }
        cursor.reading = got.next;
        self.read(&reader, cursor, began + reader.pause());
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
        self.streams[stream].lineage.learn(&shards);
        self.begin_shards(stream);
        Ok(())
    }

    /// Begins to read the shards that are known and may be read by now.
    fn begin_shards(&mut self, stream: usize) {
        let Stream { reader, lineage } = &mut self.streams[stream];
        let (reader, shards) = (reader.clone(), lineage.begin());
        for shard in shards {
            let cursor = Cursor { stream, shard, from: Position::Oldest, reading: None };
            self.read(&reader, cursor, Instant::now());
        }
    }
}

/// Settles the records of a read that ended then.
fn take_in(proof: &mut Proof, records: &[StoredRecord], when: When, ended: Instant) {
    let read = match when {
        When::On { start, .. } => Some(nanos(ended - start)),
        When::Over { .. } => None,
    };
    for record in records {
        proof.read(Arrived {
            partition_key: &record.partition_key,
            data: &record.data,
            arrived_unix: record.arrived,
            read,
        });
    }
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}
