use crate::kinesis::{Answer, BodyHash, EntryAnswer, PutRecords, RequestError, RequestErrorKind, ShardId};
use crate::plan::WriteTo;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Writes records as lines, in place of a stream.
#[derive(Clone)]
pub(super) struct Lines {
    name: String,
    to: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Lines {
    /// Opens the place; a file is begun anew.
    pub(super) fn open(to: &WriteTo) -> io::Result<Self> {
        let (name, to): (_, Box<dyn Write + Send>) = match to {
            WriteTo::Stdout => ("stdout".to_owned(), Box::new(io::stdout())),
            WriteTo::File(path) => (path.display().to_string(), Box::new(File::create(path)?)),
        };
        Ok(Self { name, to: Arc::new(Mutex::new(to)) })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl PutRecords for Lines {
    const SIGNED: bool = false;

    async fn put_records(&self, body: Bytes, _: Option<BodyHash>) -> Answer {
        let lines = memchr::memchr_iter(b'\n', &body).count();
        // In this task's own thread: handing a few lines to another takes longer than writing them.
        let written = tokio::task::block_in_place(|| {
            let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
            to.write_all(&body)?;
            to.flush()
        });
        let problem = match written {
            Ok(()) => return Answer::Entries(vec![EntryAnswer::Accepted(ShardId(0)); lines]),
            Err(error) => error.to_string(),
        };
        Answer::Failed(RequestError {
            kind: RequestErrorKind::Fatal,
            text: format!("{}: {problem}", self.name),
        })
    }
}
