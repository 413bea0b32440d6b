//! Reads the documents of a run in an index of `OpenSearch`.
//!
//! They are found by their stamps, whose order is that of their numbers: a page is a range of numbers,
//! which takes neither a scroll (`OpenSearch` Serverless has none) nor a point in time, and meets the
//! copies of a record together.

use super::Proof;
use super::searchable::{Searchable, Span, pages};
use crate::kinesis::{Access, HttpClient, RequestError, RequestErrorKind};
use crate::load::Nanos;
use crate::observe::IndexSummary;
use crate::plan::IndexPlan;
use crate::tick::Stamp;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often it is looked whether more documents have come.
const LOOK: Duration = Duration::from_secs(1);

/// How much longer than a look the pause after it is: an index that is being filled has other work to do.
const REST: u32 = 9;

/// The longest pause, though: what comes in it is told as late as that.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often all documents are read, if their number has changed meanwhile.
const PASSES: u32 = 3;

/// Documents of one answer, at most: the most that an index gives unless told otherwise.
const MOST_HITS: u64 = 10_000;

/// How often a page is asked for before it is given up.
const ATTEMPTS: u32 = 5;

/// Why an index could not be read, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IndexError(String);

/// What came of one request.
enum Failure {
    /// Asking again may help.
    Transient(String),
    /// It does not.
    Fatal(String),
}

impl From<Failure> for IndexError {
    fn from(failure: Failure) -> Self {
        let (Failure::Transient(text) | Failure::Fatal(text)) = failure;
        Self(text)
    }
}

/// An index whose documents are read.
#[derive(Debug)]
pub struct Index {
    client: HttpClient,
    plan: IndexPlan,
}

impl Index {
    /// Looks whether the index is there.
    ///
    /// # Errors
    /// If it is not, or may not be read.
    pub async fn reach(
        plan: &IndexPlan,
        profile: Option<String>,
        attempt_timeout: Duration,
    ) -> Result<Self, IndexError> {
        let access = match &plan.login {
            Some(login) => Access::basic(&login.user, &login.password.0),
            None => Access::of_opensearch(&plan.url, profile),
        };
        let client = HttpClient::new(access, attempt_timeout).await;
        let index = Self { client, plan: plan.clone() };
        index.patiently(|| index.count(json!({"match_all": {}}))).await?;
        Ok(index)
    }

    /// Its address.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.plan.url, self.plan.name)
    }

    /// Looks for the run's documents, until it is dropped. Gives why that cannot go on.
    pub async fn watch(&self, searchable: &mut Searchable) -> IndexError {
        loop {
            let looking = Instant::now();
            match self.look(searchable).await {
                Err(Failure::Transient(why)) => tracing::warn!(why, "asking again"),
                Err(failure) => return failure.into(),
                Ok(_) => {}
            }
            sleep(pause(looking.elapsed())).await;
        }
    }

    /// Waits until the run's documents have settled, and reads them all. Gives why not all was read, if it
    /// was not, and when the documents came.
    ///
    /// # Errors
    /// If the index could not be read.
    pub async fn prove(
        &self,
        searchable: &mut Searchable,
        proof: &mut Proof,
    ) -> Result<(Option<String>, IndexSummary), IndexError> {
        let run = searchable.run();
        let settled = self.wait(searchable).await?;
        let (mut read, mut documents) = (0, 0);
        for _ in 0..PASSES {
            read = self.read(searchable, proof).await?;
            documents = self.patiently(|| self.count(of_run(run))).await?;
            if read == documents {
                break;
            }
            tracing::warn!(read, documents, "documents came while they were read; reading again");
        }
        let all = self.patiently(|| self.count(json!({"match_all": {}}))).await?;
        proof.foreign_documents(all.saturating_sub(documents));
        let error = match documents {
            0 if self.patiently(|| self.count(json!({"match": {Stamp::FIELD: of(run)}}))).await? > 0 => {
                Some(format!("the field {} of the index cannot be searched: map it as keyword", Stamp::FIELD))
            }
            _ if read < documents => {
                Some(format!("{documents} documents of the run are there, but only {read} were given"))
            }
            _ => None,
        };
        let times = searchable.summary(proof.delivered());
        Ok((error, IndexSummary { documents, settled, ..times }))
    }

    /// Reads all documents of the run; gives how many there were.
    async fn read(&self, searchable: &Searchable, proof: &mut Proof) -> Result<u64, IndexError> {
        let mut numbers = searchable.numbers();
        if !searchable.knows_numbers() {
            numbers = self.patiently(|| self.highest(searchable.run())).await?;
        }
        proof.forget_documents();
        let mut read = 0;
        for page in pages(searchable.run(), &numbers, proof.max_record_bytes()) {
            for document in self.documents(page).await? {
                proof.read_document(&document);
                read += 1;
            }
        }
        Ok(read)
    }

    /// Waits until documents have settled; tells whether they have.
    async fn wait(&self, searchable: &mut Searchable) -> Result<bool, IndexError> {
        let begun = Instant::now();
        let mut changed = begun;
        loop {
            let looking = Instant::now();
            match self.look(searchable).await {
                Ok(true) => changed = Instant::now(),
                Ok(false) => {
                    // All are there, but copies may come: what delivers them tries again, too.
                    let complete = searchable.missing() == Some(0);
                    let quiet = if complete { self.plan.settle / 3 } else { self.plan.settle };
                    if changed.elapsed() >= quiet {
                        return Ok(true);
                    }
                }
                Err(Failure::Transient(why)) if begun.elapsed() < self.plan.timeout => {
                    tracing::warn!(why, "asking again");
                }
                Err(failure) => return Err(failure.into()),
            }
            if begun.elapsed() >= self.plan.timeout {
                return Ok(false);
            }
            sleep(pause(looking.elapsed())).await;
        }
    }

    /// Looks how many documents there are, and if that has changed, which; tells whether it has.
    async fn look(&self, searchable: &mut Searchable) -> Result<bool, Failure> {
        let began = unix();
        let documents = self.count(of_run(searchable.run())).await?;
        if !searchable.differs(documents) {
            searchable.nothing_new(began);
            return Ok(false);
        }
        if !searchable.knows_numbers() {
            searchable.grow(&self.highest(searchable.run()).await?);
        }
        for part in searchable.incomplete() {
            let began = unix();
            let stamps = self.stamps(searchable.span(part)).await?;
            searchable.looked(part, &stamps, began, unix());
        }
        searchable.looked_at_all(began, documents);
        tracing::info!(documents, missing = searchable.missing(), "documents of the run");
        Ok(true)
    }

    /// The stamps of a span's documents.
    async fn stamps(&self, span: Span) -> Result<Vec<Stamp>, Failure> {
        let (mut stamps, mut spans) = (Vec::new(), vec![span]);
        while let Some(span) = spans.pop() {
            let (hits, total) = self.hits(&span, true).await?;
            let stamp = |hit: &Value| Stamp::parse(hit[Stamp::FIELD].as_str()?.as_bytes());
            match span.halves().filter(|_| total > hits.len() as u64) {
                Some((one, two)) => spans.extend([one, two]),
                None => stamps.extend(hits.iter().filter_map(stamp)),
            }
        }
        Ok(stamps)
    }

    /// The documents of a span.
    async fn documents(&self, span: Span) -> Result<Vec<Value>, IndexError> {
        let mut documents = Vec::new();
        let mut spans = vec![span];
        while let Some(span) = spans.pop() {
            let (hits, total) = self.patiently(|| self.hits(&span, false)).await?;
            match span.halves().filter(|_| total > hits.len() as u64) {
                Some((one, two)) => spans.extend([one, two]),
                None => documents.extend(hits),
            }
        }
        Ok(documents)
    }

    /// Documents of a span, as many as one answer holds, and how many there are.
    async fn hits(&self, span: &Span, stamps_alone: bool) -> Result<(Vec<Value>, u64), Failure> {
        let source = if stamps_alone { json!([Stamp::FIELD]) } else { json!(true) };
        let range = json!({"gte": span.from(), "lt": span.to()});
        let query = json!({
            "size": MOST_HITS, "track_total_hits": true, "_source": source, "query": by_stamp("range", &range),
        });
        let mut answer = self.post("_search", &query).await?;
        let total = answer["hits"]["total"]["value"].as_u64();
        let failed = is_incomplete(&answer);
        let hits = match answer["hits"]["hits"].take() {
            Value::Array(hits) if !failed => hits,
            _ => return Err(Failure::Transient(format!("{}: an incomplete answer", self.name()))),
        };
        let total = total.unwrap_or(hits.len() as u64);
        Ok((hits.into_iter().map(|mut hit| hit["_source"].take()).collect(), total))
    }

    /// Of each load that is seen, one more than its highest number.
    async fn highest(&self, run: u32) -> Result<Vec<u64>, Failure> {
        let mut numbers: Vec<u64> = Vec::new();
        // From the last load down: a stamp's text sorts by load, then by number.
        let mut below = format!("{}.", of(run));
        loop {
            let range = json!({"gte": format!("{}-", of(run)), "lt": below});
            let Some(stamp) = self.last(&range).await? else { return Ok(numbers) };
            let load = usize::from(stamp.load);
            numbers.resize(numbers.len().max(load + 1), 0);
            numbers[load] = stamp.n + 1;
            if load == 0 {
                return Ok(numbers);
            }
            below = format!("{}-{load:02x}", of(run));
        }
    }

    /// The last stamp of a range.
    async fn last(&self, range: &Value) -> Result<Option<Stamp>, Failure> {
        // An index refuses to sort by a text, so what is a keyword is tried alone: first where a mapping that was
        // made by itself has it. By what is not mapped all documents are alike.
        for field in [format!("{}.keyword", Stamp::FIELD), Stamp::FIELD.to_owned()] {
            let query = json!({"size": 1, "query": by_stamp("range", range), "_source": [Stamp::FIELD],
                "sort": [{field: {"order": "desc", "unmapped_type": "keyword"}}]});
            let answer = self.post("_search", &query).await?;
            if is_incomplete(&answer) {
                return Err(Failure::Transient(format!("{}: an incomplete answer", self.name())));
            }
            let hit = &answer["hits"]["hits"][0];
            if hit.is_null() {
                return Ok(None);
            }
            if !hit["sort"][0].is_null() {
                return Ok(hit["_source"][Stamp::FIELD]
                    .as_str()
                    .and_then(|text| Stamp::parse(text.as_bytes())));
            }
        }
        Ok(None)
    }

    async fn count(&self, query: Value) -> Result<u64, Failure> {
        let answer = self.post("_count", &json!({"query": query})).await?;
        answer["count"]
            .as_u64()
            .ok_or_else(|| Failure::Transient(format!("{}: no count: {answer}", self.name())))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = format!("{}/{path}", self.name());
        match self.client.ask(&url, Some(body.to_string().into_bytes())).await {
            Ok((200, answer)) => serde_json::from_slice(&answer)
                .map_err(|error| Failure::Transient(format!("{url}: no JSON: {error}"))),
            Ok((status, answer)) => Err(refused(&url, status, &answer)),
            Err(RequestError { kind: RequestErrorKind::Fatal, text }) => Err(Failure::Fatal(text)),
            Err(RequestError { text, .. }) => Err(Failure::Transient(text)),
        }
    }

    /// Asks some times over as many seconds, where asking again may help.
    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, IndexError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        for _ in 1..ATTEMPTS {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Transient(why)) => tracing::warn!(why, "asking again"),
                Err(failure) => return Err(failure.into()),
            }
            sleep(LOOK).await;
        }
        Ok(ask().await?)
    }
}

/// Whether not all of an index was looked at.
fn is_incomplete(answer: &Value) -> bool {
    answer["_shards"]["failed"].as_u64().unwrap_or(0) > 0 || answer["timed_out"] == true
}

/// The pause after a look that took so long.
fn pause(look: Duration) -> Duration {
    (look * REST).clamp(LOOK, LONGEST_PAUSE)
}

/// The run as its stamps tell it.
fn of(run: u32) -> String {
    format!("{run:08x}")
}

/// The documents of a run.
fn of_run(run: u32) -> Value {
    by_stamp("prefix", &json!(format!("{}-", of(run))))
}

/// A query by the stamp, which a mapping has as a keyword, or made by itself of the first document as a text
/// with a keyword in it. A text alone has no part that is as a stamp is, so that asking for both is exact.
fn by_stamp(kind: &str, of: &Value) -> Value {
    let fields = [Stamp::FIELD.to_owned(), format!("{}.keyword", Stamp::FIELD)];
    let either = fields.map(|field| json!({kind: {field: of}}));
    json!({"bool": {"should": either, "minimum_should_match": 1}})
}

fn refused(url: &str, status: u16, answer: &[u8]) -> Failure {
    let value: Value = serde_json::from_slice(answer).unwrap_or_default();
    let reason =
        value["error"]["reason"].as_str().or(value["message"].as_str()).or(value["Message"].as_str());
    let reason =
        reason.map_or_else(|| String::from_utf8_lossy(answer).chars().take(200).collect(), str::to_owned);
    let said = format!("{url}: HTTP {status}: {reason}");
    match status {
        401 => {
            Failure::Fatal(format!("{said}. Check the credentials, or --opensearch-user and its password."))
        }
        403 => Failure::Fatal(format!(
            "{said}. Let these credentials read the index: aoss:ReadDocument in a data access policy of the \
             collection (and aoss:APIAccessAll in IAM), or es:ESHttpPost."
        )),
        404 => Failure::Fatal(format!("{said}. Check --opensearch and --index.")),
        408 | 429 | 500.. => Failure::Transient(said),
        _ => Failure::Fatal(said),
    }
}

/// Nanoseconds since 1970-01-01 UTC, by this machine's clock.
fn unix() -> Nanos {
    chrono::Utc::now().timestamp_nanos_opt().and_then(|nanos| Nanos::try_from(nanos).ok()).unwrap_or(0)
}
