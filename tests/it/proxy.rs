//! A proxy between tickgen and a server of others: it cuts connections when the server has already done what
//! was asked, and hides records from who reads them.

use crate::harness::Stored;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tickgen::tick::Stamp;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What is done to some of the answers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Meddling {
    /// Of so many `PutRecords` one is cut: by turns before its answer and inside of it.
    pub(crate) cut: Option<u64>,
    /// Records that no `GetRecords` gives, by their numbers.
    pub(crate) hide: Option<fn(u64) -> bool>,
}

#[derive(Default)]
struct Count {
    requests: u64,
    cuts: u64,
    stored: u64,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) url: String,
    count: Arc<Mutex<Count>>,
}

impl Proxy {
    /// Serves on a port of its own, before the server at `url`.
    pub(crate) async fn before(url: &str, meddling: Meddling) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { url: format!("http://{}", listener.local_addr().unwrap()), count: Arc::default() };
        let (server, count) = (url.trim_start_matches("http://").to_owned(), Arc::clone(&proxy.count));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, count) = (server.clone(), Arc::clone(&count));
                // A connection that breaks off is what is wanted of some.
                tokio::spawn(async move { drop(serve(client, &server, meddling, &count).await) });
            }
        });
        proxy
    }

    /// How many answers were cut, and how many user records the server had said in them that it stored.
    pub(crate) fn cut(&self) -> (u64, u64) {
        let count = self.count.lock().unwrap();
        (count.cuts, count.stored)
    }
}

/// A request or an answer.
struct Message {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    /// Reads one; `None` at the end of the connection.
    async fn read(from: &mut BufReader<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Option<Self>> {
        let mut message = Self { head: Vec::new(), body: Vec::new() };
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            message.head.push(line.trim_end().to_owned());
        }
        let length = message.header("content-length").map_or(0, |length| length.parse().unwrap());
        message.body.resize(length, 0);
        from.read_exact(&mut message.body).await?;
        Ok(Some(message))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head[1..].iter().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The bytes, with the length of the body as it is now.
    fn bytes(&self) -> Vec<u8> {
        let is_length = |line: &&String| line.to_ascii_lowercase().starts_with("content-length:");
        let mut bytes = Vec::new();
        for line in self.head.iter().filter(|line| !is_length(line)) {
            bytes.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn is_of(&self, operation: &str) -> bool {
        self.header("x-amz-target").is_some_and(|target| target.ends_with(&format!(".{operation}")))
    }
}

async fn serve(
    client: TcpStream,
    server: &str,
    meddling: Meddling,
    count: &Mutex<Count>,
) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    while let Some(request) = Message::read(&mut client).await? {
        let mut to = BufReader::new(TcpStream::connect(server).await?);
        to.write_all(&request.bytes()).await?;
        // The server has done by now what was asked.
        let Some(mut answer) = Message::read(&mut to).await? else { return Ok(()) };
        if request.is_of("PutRecords")
            && let Some(shown) = cut(meddling, count, &request, &answer)
        {
            client.write_all(&answer.bytes()[..shown]).await?;
            return client.shutdown().await;
        }
        if let Some(hidden) = meddling.hide.filter(|_| request.is_of("GetRecords")) {
            hide(&mut answer, hidden);
        }
        client.write_all(&answer.bytes()).await?;
        // As servers say that speak HTTP/1.0.
        if answer.head[0].starts_with("HTTP/1.0") || answer.header("connection") == Some("close") {
            return client.shutdown().await;
        }
    }
    Ok(())
}

/// After how many bytes an answer is cut, if it is.
fn cut(meddling: Meddling, count: &Mutex<Count>, request: &Message, answer: &Message) -> Option<usize> {
    let mut count = count.lock().unwrap();
    count.requests += 1;
    let every = meddling.cut?;
    if !count.requests.is_multiple_of(every) {
        return None;
    }
    count.cuts += 1;
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    let entries = Stored::read_body(&request.body);
    for (said, entry) in said["Records"].as_array().into_iter().flatten().zip(&entries) {
        count.stored += if said["SequenceNumber"].is_string() { entry.records.len() as u64 } else { 0 };
    }
    let inside = answer.bytes().len() - answer.body.len() / 2;
    Some(if count.cuts.is_multiple_of(2) { inside } else { 0 })
}

/// Takes records out of an answer.
fn hide(answer: &mut Message, hidden: fn(u64) -> bool) {
    let mut given: Value = serde_json::from_slice(&answer.body).unwrap();
    if let Some(records) = given["Records"].as_array_mut() {
        let number =
            |record: &Value| Stamp::parse(record["PartitionKey"].as_str()?.as_bytes()).map(|stamp| stamp.n);
        records.retain(|record| !number(record).is_some_and(hidden));
    }
    answer.body = given.to_string().into_bytes();
}
