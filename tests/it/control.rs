//! Watching and steering a run through its admin server.
#![cfg(feature = "embedded")]

use crate::harness::{self, assert_balanced, finished, repository_file, signal, start};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output};
use std::time::Duration;
use tickgen::admin::{Admin, Guard, Limits, OPENAPI};

const TOKEN: &str = "a-token-for-tests-alone";

/// An answer of the admin server.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut socket: TcpStream) -> Self {
        let mut text = Vec::new();
        // What is refused before it was read whole may end in a reset, with the answer before it.
        let _ = socket.read_to_end(&mut text);
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that it is an error of this status, and says what to do.
    fn is_problem(&self, status: u16, detail: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
}

/// A request by address, with these headers besides.
fn ask(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let host =
        if headers.to_lowercase().contains("host:") { String::new() } else { format!("Host: {addr}\r\n") };
    let length = body.len();
    send(
        addr,
        &format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn send(addr: SocketAddr, request: &str) -> Answer {
    let mut socket = TcpStream::connect(addr).unwrap();
    // It may be refused before it was sent whole.
    let _ = socket.write_all(request.as_bytes());
    Answer::read(socket)
}

fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path, "", "")
}

fn post(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "POST", path, "", "")
}

fn put_rate(addr: SocketAddr, body: &str) -> Answer {
    ask(addr, "PUT", "/rate", "", body)
}

/// A running tickgen with an admin server.
struct Run {
    child: Child,
    addr: SocketAddr,
    lines: std::io::Lines<BufReader<ChildStderr>>,
}

impl Run {
    fn start(flags: &[&str]) -> Self {
        let own: &[&str] = if flags.contains(&"--admin-addr") { &[] } else { &["--admin-addr", "0"] };
        let mut child = start(&[own, flags].concat());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("admin server"))).unwrap();
        let addr: SocketAddr = line.split("address=").nth(1).unwrap().trim_matches('"').parse().unwrap();
        let addr =
            if addr.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], addr.port())) } else { addr };
        Self { child, addr, lines }
    }

    /// Waits until its status is as asked.
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..2_000 {
            let status = get(self.addr, "/status").json();
            if holds(&status) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("never {what}: {}", get(self.addr, "/status").body);
    }

    fn begins(self) -> Self {
        self.until("running", |status| status["acked"].as_u64() > Some(0));
        self
    }

    /// Its exit code, summary and the rest of its log.
    fn ends(self) -> (i32, Value, String) {
        let Self { child, lines, .. } = self;
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        let output = child.wait_with_output().unwrap();
        let (code, summary, _) = finished(&output);
        (code, summary, log.join().unwrap())
    }
}

/// Asserts that an object has the fields of its description: all that must be, and no other. (Their types
/// are Schemathesis' part.)
fn assert_described(schema: &str, value: &Value) {
    let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
    let schema = &openapi["components"]["schemas"][schema];
    let fields = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    for name in schema["required"].as_array().unwrap() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{name} is missing in {value:#}");
    }
    for name in fields.keys() {
        assert!(!schema["properties"][name].is_null(), "{name} is not described");
    }
}

/// A file for a test, with this content.
fn scratch_file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_run_is_watched_paused_given_another_rate_and_drained() {
    let run =
        Run::start(&["--rps", "500", "--shards", "8", "--duration", "10m", "--summary", "-", "--seed", "3"])
            .begins();
    let status = run.until("a whole second", |status| !status["last_window"].is_null());
    assert_eq!(
        (&status["state"], &status["target_rps"], &status["search"]),
        (&"running".into(), &500.0.into(), &false.into())
    );
    assert!(
        status["left_s"].as_f64().unwrap() > 500.0
            && status["response_time_ms"]["p99"].as_f64().unwrap() > 0.0
    );
    assert!(status["shards"][0]["acked"].as_u64() > Some(0), "{status:#}");
    assert_described("Status", &status);
    assert_described("Shard", &status["shards"][0]);
    assert_described("Load", &status["loads"][0]);
    assert_described("Window", &status["last_window"]);
    assert_described("Times", &status["response_time_ms"]);

    let paused = post(run.addr, "/pause").json();
    assert_eq!((&paused["state"], &paused["target_rps"]), (&"paused".into(), &0.0.into()));
    let stands = paused["scheduled"].clone();
    let later = run.until("a second paused", |status| status["paused_s"].as_f64() > Some(1.0));
    assert_eq!((&later["scheduled"], &later["left_s"]), (&stands, &paused["left_s"]));
    assert_eq!(
        post(run.addr, "/pause").json()["steered"],
        paused["steered"],
        "pausing twice is pausing once"
    );

    let faster = put_rate(run.addr, r#"{"rps": 2000}"#).json();
    assert_eq!((&faster["state"], &faster["scheduled"]), (&"paused".into(), &stands));
    let resumed = post(run.addr, "/resume").json();
    assert_eq!((&resumed["state"], &resumed["target_rps"]), (&"running".into(), &2000.0.into()));
    run.until("2000 records more", |status| status["acked"].as_u64() > stands.as_u64().map(|n| n + 2_000));
    let max = put_rate(run.addr, r#"{"rps": "max"}"#).json();
    assert_eq!((max["target_rps"].is_null(), max["left_s"].as_f64() < Some(600.0)), (true, true));
    assert_eq!(put_rate(run.addr, r#"{"rps": 100}"#).json()["target_rps"], 100.0);
    assert_described("Change", &max["steered"][0]);
    put_rate(run.addr, r#"{"rps": 100, "load": "other"}"#)
        .is_problem(404, "no load of this run has that name");

    run.until("caught up", |status| status["backlog_records"] == 0);
    let drained = post(run.addr, "/drain").json();
    assert!(["draining", "ended"].contains(&drained["state"].as_str().unwrap()), "{drained}");
    let (code, summary, log) = run.ends();
    assert_eq!(code, 0, "{summary:#}");
    assert_tells_what_was_ordered(&summary, &log);
}

/// The summary and the log of the run above.
fn assert_tells_what_was_ordered(summary: &Value, log: &str) {
    assert_balanced(summary);
    assert_eq!(summary["stopped_by"], "told", "{summary:#}");
    let done: Vec<_> = summary["steered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["action"].clone(), s["rps"].clone()))
        .collect();
    let expected =
        json!([["pause", 0.0], ["rate", 2000.0], ["resume", 2000.0], ["rate", null], ["rate", 100.0]]);
    assert_eq!(serde_json::to_value(done).unwrap(), expected);
    let seconds = |name: &str| summary[name].as_f64().unwrap();
    assert!(
        seconds("paused_s") > 1.0
            && seconds("schedule_s") + seconds("paused_s") <= seconds("elapsed_s") + 1e-6
    );
    // What was to be offered is what fell due.
    let due = summary["scheduled"].as_f64().unwrap() / seconds("schedule_s");
    assert!((seconds("target_rps") / due - 1.0).abs() < 1e-9, "{summary:#}");
    for said in ["told to pause", "told another rate rps=\"2000\"", "told to resume", "told to drain"] {
        assert!(log.contains(said), "{said} in {log}");
    }
    assert!(log.contains("steered     ") && log.contains("paused for"), "{log}");
}

#[test]
fn one_of_several_loads_takes_a_rate() {
    let config = scratch_file(
        "control-loads.toml",
        "duration = \"10m\"\n[[load]]\nname = \"a\"\nrps = 100\n[[load]]\nname = \"b\"\nrps = 300\n",
    );
    let run = Run::start(&["--config", config.to_str().unwrap(), "--summary", "-"]).begins();
    let targets = |status: &Value| {
        let loads = status["loads"].as_array().unwrap();
        loads.iter().map(|load| load["target_rps"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(targets(&put_rate(run.addr, r#"{"rps": 40}"#).json()), [10.0, 30.0]);
    assert_eq!(targets(&put_rate(run.addr, r#"{"rps": 5, "load": "b"}"#).json()), [10.0, 5.0]);
    put_rate(run.addr, r#"{"rps": 0.001}"#).is_problem(409, "cannot share so low a rate");
    post(run.addr, "/drain");
    let (_, summary, _) = run.ends();
    assert_balanced(&summary);
    let of: Vec<_> =
        summary["steered"].as_array().unwrap().iter().map(|s| s["load"].as_str().unwrap()).collect();
    assert_eq!(of.len(), 3, "{of:?}");
}

#[test]
fn only_who_shows_the_token_steers_where_others_reach_the_address() {
    let run = Run::start(&["--rps", "10", "--admin-addr", "0.0.0.0:0"]).begins();
    for (method, path) in [("PUT", "/rate"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/drain")] {
        ask(run.addr, method, path, "", "").is_problem(403, "--admin-token-file FILE");
        ask(run.addr, method, path, "Authorization: Bearer x\r\n", "")
            .is_problem(403, "--admin-token-file FILE");
    }
    assert_eq!((get(run.addr, "/status").status, get(run.addr, "/metrics").status), (200, 200));
    signal(&run.child, "TERM");
    run.ends();

    let token = scratch_file("control-token", "0123456789-abcdefgh\n");
    let flags = ["--rps", "10", "--admin-addr", "0.0.0.0:0", "--admin-token-file", token.to_str().unwrap()];
    let run = Run::start(&flags).begins();
    for wrong in
        ["", "Authorization: Bearer 0123456789-abcdefgi\r\n", "Authorization: Basic 0123456789-abcdefgh\r\n"]
    {
        let refused = ask(run.addr, "POST", "/drain", wrong, "");
        refused.is_problem(401, "Authorization: Bearer TOKEN");
        assert!(refused.head.contains("www-authenticate: bearer"));
    }
    let right = "Authorization: Bearer 0123456789-abcdefgh\r\n";
    assert_eq!(ask(run.addr, "PUT", "/rate", right, r#"{"rps": 20}"#).json()["target_rps"], 20.0);
    assert_eq!(ask(run.addr, "POST", "/drain", right, "").status, 200);
    assert_eq!(run.ends().0, 0);
}

#[test]
fn a_web_page_cannot_steer() {
    let run = Run::start(&["--rps", "10", "--admin-host", "tickgen.test"]).begins();
    let port = run.addr.port();
    for (headers, status) in [
        (format!("Host: evil.test:{port}\r\n"), 403),
        (format!("Host: localhost.evil.test:{port}\r\n"), 403),
        (format!("Host: 127.0.0.1:{port}\r\nOrigin: http://evil.test\r\n"), 403),
        (format!("Host: 127.0.0.1:{port}\r\nOrigin: null\r\n"), 403),
        (format!("Host: 127.0.0.1:{port}\r\nHost: evil.test\r\n"), 400),
        (format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"), 200),
        (format!("Host: localhost:{port}\r\n"), 200),
        (format!("Host: tickgen.test:{port}\r\n"), 200),
    ] {
        assert_eq!(ask(run.addr, "POST", "/pause", &headers, "").status, status, "{headers}");
        assert_eq!(ask(run.addr, "GET", "/status", &headers, "").status, status, "{headers}");
    }
    ask(run.addr, "POST", "/pause", "Host: evil.test\r\n", "").is_problem(403, "--admin-host NAME");
    // A page's question whether it may is not answered with a yes.
    let preflight = format!(
        "Host: 127.0.0.1:{port}\r\nOrigin: http://evil.test\r\nAccess-Control-Request-Method: PUT\r\n"
    );
    let answer = ask(run.addr, "OPTIONS", "/rate", &preflight, "");
    answer.is_problem(405, "the Allow header");
    assert!(answer.head.contains("allow: put") && !answer.head.contains("access-control"), "{answer:?}");
    // What probes and Prometheus ask is answered by whatever name they ask.
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(ask(run.addr, "GET", path, "Host: tickgen-metrics.svc\r\n", "").status, 200, "{path}");
    }
    get(run.addr, "/nothing").is_problem(404, "/openapi.json");
    signal(&run.child, "TERM");
    run.ends();
}

#[test]
fn steering_has_an_answer_at_any_time() {
    let steer = |addr, status, detail: &str| {
        for (method, path, body) in
            [("PUT", "/rate", r#"{"rps": 5}"#), ("POST", "/pause", ""), ("POST", "/resume", "")]
        {
            ask(addr, method, path, "", body).is_problem(status, detail);
        }
    };
    // Before the load begins: nothing answers there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = Run::start(&["--start-when", &format!("http://{nobody}/")]);
    steer(run.addr, 409, "the load has not begun");
    post(run.addr, "/drain").is_problem(409, "the load has not begun");
    let status = get(run.addr, "/status").json();
    assert_eq!((&status["state"], &status["run_id"]), (&"waiting".into(), &Value::Null));
    signal(&run.child, "TERM");
    run.ends();

    // While it drains: nobody reads what it writes.
    let run = Run::start(&["--rps", "5000", "--to", "stdout", "--drain-timeout", "10m"]);
    run.until("stuck", |status| status["backlog_records"].as_u64() > Some(100));
    let stuck = post(run.addr, "/drain");
    assert_eq!(stuck.json()["state"], "draining", "{stuck:?}");
    steer(run.addr, 409, "draining or has ended");
    assert_eq!(post(run.addr, "/drain").json()["state"], "draining");
    assert_eq!(run.ends().0, 0);

    // While a search sets the rates.
    let flags = ["search", "--slo", "lost == 0", "--to", "100", "--admin-addr", "0"];
    let mut child = start(&flags);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("admin server"))).unwrap();
    let addr: SocketAddr = line.split("address=").nth(1).unwrap().trim_matches('"').parse().unwrap();
    let run = Run { child, addr, lines };
    steer(run.addr, 409, "a search sets its rates itself");
    post(run.addr, "/drain").is_problem(409, "a search sets its rates itself");
    assert_eq!(get(run.addr, "/status").json()["search"], true);
    signal(&run.child, "TERM");
    run.ends();
}

/// What a run came to is seen by the scrape after its end, which ends the wait for it; or a signal does.
#[test]
fn a_run_waits_for_its_last_scrape() {
    for scraped in [true, false] {
        let mut run = Run::start(&["--records", "300", "--admin-linger", "1h", "--summary", "-"]);
        let status = run.until("ended", |status| status["state"] == "ended");
        assert_eq!(status["acked"], 300, "{status:#}");
        if scraped {
            let metrics = get(run.addr, "/metrics");
            let all = "tickgen_records_total{outcome=\"acked\"} 300";
            assert!(metrics.body.lines().any(|line| line == all), "{}", metrics.body);
        } else {
            let waits = |line: String| line.contains("waiting for a last scrape");
            assert!(run.lines.by_ref().any(|line| line.is_ok_and(waits)));
            signal(&run.child, "TERM");
        }
        let (code, summary, log) = run.ends();
        assert_eq!((code, &summary["stopped_by"]), (0, &"schedule".into()), "{log}");
    }
}

/// An admin server of these limits, without a load.
async fn served(limits: Limits) -> (Admin, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (admin, addr) = (Admin::new(false), listener.local_addr().unwrap());
    tokio::spawn(admin.serve(listener, Guard { loopback: true, ..Guard::default() }, limits));
    (admin, addr)
}

fn short() -> Limits {
    Limits {
        head_time: Duration::from_millis(300),
        answer_time: Duration::from_millis(300),
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let (_admin, addr) = served(Limits::default()).await;
    let asked = tokio::task::spawn_blocking(move || {
        let most = Limits::default().body_bytes;
        put_rate(addr, &" ".repeat(most)).is_problem(400, "expected {\"rps\": 5000}");
        for path in ["/pause", "/resume", "/drain"] {
            post(addr, path).is_problem(409, "has not begun");
            ask(addr, "POST", path, "", &" ".repeat(most + 1)).is_problem(413, "");
        }
        put_rate(addr, &" ".repeat(most + 1)).is_problem(413, "");
        // Of a length that is not told beforehand, too.
        let chunks = "400\r\n".to_owned() + &" ".repeat(0x400) + "\r\n";
        let body = chunks.repeat(5) + "0\r\n\r\n";
        let head = format!(
            "PUT /rate HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(send(addr, &(head + &body)).status, 413);
        let headers = |count: usize| "x-a: 1\r\n".repeat(count);
        assert_eq!(ask(addr, "GET", "/livez", &headers(50), "").status, 200);
        assert_eq!(ask(addr, "GET", "/livez", &headers(100), "").status, 431);
        assert_eq!(ask(addr, "GET", "/livez", &format!("x: {}\r\n", "y".repeat(60_000)), "").status, 431);
        let path = "/".to_owned() + &"y".repeat(100_000);
        assert!([414, 431].contains(&get(addr, &path).status));
        assert_eq!(send(addr, "this is not HTTP\r\n\r\n").status, 400);
        assert_eq!(get(addr, "/livez").status, 200);
    });
    asked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_slow_is_cut_off() {
    let (_admin, addr) = served(short()).await;
    let asked = tokio::task::spawn_blocking(move || {
        // A head that never ends, a connection that says nothing, and one that goes quiet after an answer.
        for begun in ["", "GET /livez HTTP/1.1\r\nHost: x\r\nx-a: ", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]
        {
            let mut socket = TcpStream::connect(addr).unwrap();
            socket.write_all(begun.as_bytes()).unwrap();
            // It ends, and only a bound of the server ends it.
            let answer = Answer::read(socket);
            assert_eq!(answer.status, if begun.ends_with("\r\n\r\n") { 200 } else { 0 }, "{begun}");
        }
        // A head that comes byte by byte does not begin the time anew.
        let mut socket = TcpStream::connect(addr).unwrap();
        let slow = "GET /livez HTTP/1.1\r\nx-slow: ".bytes().chain(std::iter::repeat(b'y'));
        let sent = slow.take(10_000).take_while(|byte| {
            std::thread::sleep(Duration::from_millis(20));
            socket.write_all(&[*byte]).is_ok()
        });
        assert!(sent.count() < 10_000);
        // A body that does not come.
        let mut socket = TcpStream::connect(addr).unwrap();
        let head = format!("PUT /rate HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 20\r\n\r\n{{");
        socket.write_all(head.as_bytes()).unwrap();
        Answer::read(socket).is_problem(408, "not complete within 0.3 s");
    });
    asked.await.unwrap();
}

/// However many connections are kept without a use, a probe is answered: nothing but the bound closes one here.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_keep_a_probe_out() {
    let for_ever = Duration::from_hours(1);
    let limits = Limits { head_time: for_ever, answer_time: for_ever, connection_time: for_ever, ..short() };
    let (_admin, addr) = served(limits).await;
    let asked = tokio::task::spawn_blocking(move || {
        let head = format!("PUT /rate HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 20\r\n\r\n");
        for begun in ["", "GET /livez HTTP/1.1\r\nx-a: ", &head] {
            let silent: Vec<TcpStream> = (0..limits.connections + 5)
                .map(|_| {
                    let mut socket = TcpStream::connect(addr).unwrap();
                    socket.write_all(begun.as_bytes()).unwrap();
                    socket
                })
                .collect();
            for _ in 0..3 {
                let socket = TcpStream::connect(addr).unwrap();
                socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
                (&socket)
                    .write_all(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())
                    .unwrap();
                let mut answer = [0; 12];
                (&socket).read_exact(&mut answer).expect("an answer");
                assert_eq!(&answer, b"HTTP/1.1 200");
            }
            drop(silent);
        }
    });
    asked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_bound_the_idlest_connection_is_closed() {
    let (admin, addr) = served(Limits { connections: 2, ..Limits::default() }).await;
    let asked = tokio::task::spawn_blocking(move || {
        let ask = |socket: &mut TcpStream| {
            socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
            socket.write_all(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).unwrap();
            let mut answer = [0; 4096];
            assert!(socket.read(&mut answer).unwrap() > 0);
        };
        let [mut one, mut two] = [(); 2].map(|()| TcpStream::connect(addr).unwrap());
        // Accepted in this order, but the second is the idler one.
        ask(&mut two);
        ask(&mut one);
        let mut three = TcpStream::connect(addr).unwrap();
        ask(&mut three);
        assert!(matches!(two.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
        ask(&mut one);
        (one, three)
    });
    let (mut one, three) = asked.await.unwrap();
    // The server closes though connections are open.
    admin.close().await;
    let ends = tokio::task::spawn_blocking(move || {
        let _ = one.read_to_end(&mut Vec::new());
        drop(three);
        TcpStream::connect(addr).is_err()
    });
    assert!(ends.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_do_not_last_for_ever() {
    let (_admin, addr) =
        served(Limits { connection_time: Duration::from_millis(500), ..Limits::default() }).await;
    let asked = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(addr).unwrap();
        let mut answers = 0;
        while socket.write_all(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            match socket.read(&mut [0; 4096]) {
                Ok(read) if read > 0 => answers += 1,
                _ => break,
            }
            assert!(answers < 3_000, "a busy connection is never closed");
        }
        assert!(answers > 0);
    });
    asked.await.unwrap();
}

/// Every route of the description is there, and serves it; README names those that steer.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_and_the_routes_are_the_same() {
    let (_admin, addr) = served(Limits::default()).await;
    let asked = tokio::task::spawn_blocking(move || {
        assert_eq!(get(addr, "/openapi.json").body, repository_file("docs/openapi.json"));
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        let (readme, room) = (repository_file("README.md"), repository_file("src/admin/mod.rs"));
        let routes = repository_file("src/admin/routes.rs");
        let paths = openapi["paths"].as_object().unwrap();
        assert_eq!(routes.matches(".route(\"").count(), paths.len());
        for (path, methods) in paths {
            for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
                let answer = ask(addr, &method, path, "", "");
                let expected = &methods[method.to_lowercase()]["responses"];
                assert!(!expected[answer.status.to_string()].is_null(), "{method} {path}: {answer:?}");
                assert!(room.contains(&format!("`{method} {path}`")), "{method} {path} in src/admin/mod.rs");
                assert!(readme.contains(path.as_str()), "{path} in README.md");
            }
        }
        assert_described("Status", &get(addr, "/status").json());
    });
    asked.await.unwrap();
}

/// Schemathesis, which makes requests of every kind from the description, the wrong ones too.
fn schemathesis(run: &Run, more: &[&str]) -> Option<Output> {
    let root = harness::peers(&["http/bin/st"])?;
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let mut command = Command::new(root.join("http/bin/st"));
    command.args(["run", description, "--url", &format!("http://{}", run.addr)]);
    command.args([
        "--checks",
        "all",
        "--max-examples",
        "25",
        "--seed",
        "1",
        "--no-color",
        "--warnings",
        "off",
    ]);
    // Its database of examples has no place in the repository.
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).args(more);
    Some(command.output().unwrap())
}

fn assert_sound(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn schemathesis_finds_nothing_while_a_load_is_on() {
    let token = scratch_file("schemathesis-token", TOKEN);
    let flags =
        ["--rps", "10", "--shards", "1", "--admin-token-file", token.to_str().unwrap(), "--summary", "-"];
    let run = Run::start(&flags).begins();
    let shown = format!("Authorization: Bearer {TOKEN}");
    // A drain would end the load, and with it the server.
    let found = schemathesis(&run, &["-H", &shown, "--exclude-path", "/drain"]);
    assert!(run.until("there", |_| true)["state"] != "ended");
    signal(&run.child, "TERM");
    let (_, summary, _) = run.ends();
    assert_balanced(&summary);
    if let Some(found) = found {
        assert_sound(&found);
        assert!(summary["steered"].as_array().unwrap().len() > 5, "{}", summary["steered"]);
    }
}

#[test]
fn schemathesis_finds_nothing_before_the_load_begins() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = Run::start(&["--start-when", &format!("http://{nobody}/")]);
    // Not being ready is 503, as probes want it, which is a server error to its eyes.
    let found = schemathesis(&run, &["--exclude-path", "/readyz"]);
    assert_eq!(get(run.addr, "/livez").status, 200);
    signal(&run.child, "TERM");
    run.ends();
    if let Some(found) = found {
        assert_sound(&found);
    }
}

#[test]
fn the_description_is_valid() {
    let Some(root) = harness::peers(&["http/bin/openapi-spec-validator"]) else { return };
    let mut command = Command::new(root.join("http/bin/openapi-spec-validator"));
    let output = command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).output().unwrap();
    assert_sound(&output);
}

/// A run whose config file holds this, and what its log says.
struct Configured {
    run: Run,
    path: PathBuf,
}

impl Configured {
    fn start(name: &str, config: &str, flags: &[&str]) -> Self {
        let path = scratch_file(name, config);
        let flags = [&["--config", path.to_str().unwrap(), "--summary", "-"], flags].concat();
        Self { run: Run::start(&flags).begins(), path }
    }

    /// Reads the log until a line holds this.
    fn says(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        for line in self.run.lines.by_ref().map_while(Result::ok) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("{text:?} is not in {}", seen.join("\n"));
    }

    fn writes(&self, config: &str) {
        // As an editor does it: a new file in place of the old.
        let new = self.path.with_extension("new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }

    fn ends(self) -> (i32, Value) {
        signal(&self.run.child, "TERM");
        let (code, summary, _) = self.run.ends();
        assert_balanced(&summary);
        (code, summary)
    }
}

#[test]
fn sighup_applies_what_can_change_and_refuses_the_rest() {
    let config = "rps = 100\nseed = 1\nlinger = \"5ms\"\n";
    let mut it = Configured::start("hup.toml", config, &["--shards", "2", "--linger", "4ms"]);
    it.writes(
        "rps = 300\nseed = 2\nlinger = \"7ms\"\nshard-limit = \"50%\"\nmax-requests = 3\nmax-backlog = 5\nlog-level = \"debug\"\n",
    );
    signal(&it.run.child, "HUP");
    it.says("SIGHUP: reading the settings again");
    let refused = it.says("WARN");
    assert!(refused.contains("hup.toml:2: seed = 2: cannot change while the run is on"), "{refused}");
    for applied in
        ["max-backlog = 5", "max-requests = 3", "log-level = debug", "shard-limit = 50%", "rps = 300"]
    {
        let line = it.says("applied");
        assert!(line.contains(applied), "{line}");
    }
    let status = it.run.until("faster", |status| status["target_rps"] == 300.0);
    assert_eq!(status["steered"][0]["action"], "rate");
    it.run.until("limited", |status| status["shards"][0]["limit_rps"] == 500.0);
    // With room for five records, 10,000/s are not all made.
    it.writes("rps = 10000\nshard-limit = \"50%\"\nmax-requests = 3\nmax-backlog = 5\nlog-level = \"error\"\nseed = 2\n");
    signal(&it.run.child, "HUP");
    it.run.until("short of room", |status| status["dropped"].as_u64() > Some(0));
    let (code, summary) = it.ends();
    assert_eq!((code, &summary["stopped_by"], &summary["seed"]), (99, &"signal".into(), &1.into()));
    assert_eq!(summary["steered"].as_array().unwrap().len(), 2);
}

#[test]
fn a_broken_file_is_told_and_the_run_goes_on() {
    let mut it = Configured::start("broken.toml", "rps = 100\n", &[]);
    for (config, told) in [
        ("rps = 200\nrsp = 5\n", "broken.toml:2: unknown key rsp"),
        ("rps = 200\nlinger = \"soon\"\n", "broken.toml:2: linger = soon: expected a time"),
        ("rps = \n", "broken.toml:1: "),
        (
            "rps = 200\n[[load]]\nname = \"a\"\n[[load]]\nname = \"b\"\n",
            "other [[load]] tables than the run has",
        ),
        ("shape = \"replay:x.ndjson\"\n", "a file is replayed from the start of a run or not at all"),
    ] {
        it.writes(config);
        signal(&it.run.child, "HUP");
        let line = it.says("WARN");
        assert!(line.contains(told), "{told}: {line}");
    }
    std::fs::remove_file(&it.path).unwrap();
    signal(&it.run.child, "HUP");
    let line = it.says("WARN");
    assert!(line.contains("broken.toml: No such file"), "{line}");
    assert_eq!(get(it.run.addr, "/status").json()["target_rps"], 100.0);
    // A pipe that nobody writes to is not waited for.
    assert!(Command::new("mkfifo").arg(&it.path).status().unwrap().success());
    signal(&it.run.child, "HUP");
    let line = it.says("WARN");
    assert!(line.contains("broken.toml: not a regular file"), "{line}");
    it.writes(&format!("# {}\n", "x".repeat(1 << 20)));
    signal(&it.run.child, "HUP");
    let line = it.says("WARN");
    assert!(line.contains("broken.toml: longer than 1 MiB"), "{line}");
    // The first good file is applied.
    it.writes("shape = \"stages:250,250/10m\"\n");
    signal(&it.run.child, "HUP");
    let status = it.run.until("by its shape", |status| status["target_rps"] == 250.0);
    assert_eq!(status["steered"][0]["action"], "shape");
    assert_eq!(it.ends().0, 0);
}

#[test]
fn a_watched_file_is_applied_when_it_changes() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-configmap", std::process::id()));
    // As Kubernetes mounts a ConfigMap: the file is a link through a link that is swapped.
    let version = |name: &str, rps: u64| {
        let version = folder.join(name);
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(version.join("config.toml"), format!("rps = {rps}\nwatch-config = true\n")).unwrap();
        let link = folder.join("..tmp");
        std::os::unix::fs::symlink(&version, &link).unwrap();
        std::fs::rename(link, folder.join("..data")).unwrap();
    };
    std::fs::create_dir_all(&folder).unwrap();
    version("..1", 100);
    let path = folder.join("config.toml");
    let _ = std::fs::remove_file(&path);
    std::os::unix::fs::symlink("..data/config.toml", &path).unwrap();
    let run = Run::start(&["--config", path.to_str().unwrap(), "--summary", "-"]).begins();
    version("..2", 200);
    run.until("as the new file says", |status| status["target_rps"] == 200.0);
    // Through HTTP the rate is another; the file, unchanged, does not take it back.
    put_rate(run.addr, r#"{"rps": 50}"#);
    let at = get(run.addr, "/status").json()["elapsed_s"].as_f64().unwrap();
    run.until("looked at again", |status| status["elapsed_s"].as_f64() > Some(at + 2.0));
    assert_eq!(get(run.addr, "/status").json()["target_rps"], 50.0);
    signal(&run.child, "TERM");
    let (code, summary, log) = run.ends();
    assert_balanced(&summary);
    assert_eq!((code, summary["steered"].as_array().unwrap().len()), (0, 2));
    assert_eq!(log.matches("the settings have changed").count(), 1, "{log}");
    let (code, _, stderr) = harness::run(&["--watch-config", "--records", "1"]);
    assert!(code == 2 && stderr.contains("error: --watch-config true: needs a config file"), "{stderr}");
}

#[test]
fn flags_and_variables_keep_their_priority() {
    let mut it = Configured::start("priority.toml", "rps = 100\n", &["--rps", "60"]);
    it.writes("rps = 900\n");
    signal(&it.run.child, "HUP");
    it.says("no setting was applied");
    assert_eq!(get(it.run.addr, "/status").json()["target_rps"], 60.0);
    assert_eq!(it.ends().0, 0);
}
