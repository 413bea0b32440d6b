//! Beside an application: waiting for it, ending with it, and telling whether tickgen is well.
#![cfg(feature = "embedded")]

use crate::harness::{assert_balanced, finished, repository_file, run, signal, start, tickgen};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use tickgen::cli;
use tickgen::config::Settings;
use tickgen::load::SECOND;
use tickgen::plan::Plan;

/// An application that answers every request with a status of the test's choice, until it is gone.
struct App {
    addr: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl App {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let (asked, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (status_now, count, ended) = (Arc::clone(&status), Arc::clone(&asked), Arc::clone(&gone));
        let server = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                answer(socket.unwrap(), status_now.load(Ordering::SeqCst));
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { addr, status, asked, gone, server: Some(server) }
    }

    fn url(&self) -> String {
        format!("http://{}/ready?deep=1", self.addr)
    }

    fn becomes(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Waits until it was asked `times` more.
    fn is_asked(&self, times: usize) {
        let until = self.asked.load(Ordering::SeqCst) + times;
        while self.asked.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
        }
    }

    /// Ends it: its port is closed on return.
    fn ends(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
        self.server.take().unwrap().join().unwrap();
    }
}

fn answer(mut socket: TcpStream, status: u16) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"GET /ready?deep=1 HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
    let _ = write!(socket, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
}

/// Reads the child's log until a line holds `text`, and returns that.
fn line_with(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> String {
    lines.find_map(|line| line.ok().filter(|line| line.contains(text))).unwrap_or_else(|| panic!("no {text}"))
}

fn log(child: &mut Child) -> std::io::Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().unwrap()).lines()
}

fn admin_address(line: &str) -> String {
    line.split("address=").nth(1).unwrap().trim_matches('"').to_owned()
}

/// The exit code of `tickgen health` and what it says.
fn health(url: &[&str], variable: Option<&str>) -> (i32, String) {
    let mut command = tickgen(&[&["health"], url].concat());
    if let Some(address) = variable {
        command.env("TICKGEN_ADMIN_ADDR", address);
    }
    let (code, _, stderr) = finished(&command.output().unwrap());
    (code, stderr)
}

#[test]
fn the_load_begins_when_the_application_is_ready() {
    let app = App::start(503);
    let flags = ["--rps", "500", "--records", "100", "--admin-addr", "0", "--summary", "-"];
    let mut child = start(&[&flags[..], &["--start-when", &app.url()]].concat());
    let mut lines = log(&mut child);
    let address = admin_address(&line_with(&mut lines, "admin server"));
    line_with(&mut lines, "answer=\"status 503\"");
    app.is_asked(2);
    // Live, and not ready, while it waits.
    assert_eq!(health(&[], Some(&address)).0, 0);
    assert_eq!(health(&[&format!("http://{address}/livez")], None).0, 0);
    // The flag of the run wins over the image's variable here, too.
    assert_eq!(health(&["--admin-addr", &address], Some("127.0.0.1:1")).0, 0);
    let (code, said) = health(&["--admin-addr", &address, "http://127.0.0.1:1/livez"], None);
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    let (code, said) = health(&[&format!("http://{address}/readyz")], None);
    assert!(code == 1 && said.contains("/readyz answers with status 503"), "{said}");
    app.becomes(204);
    line_with(&mut lines, "INFO the application is ready");
    std::thread::spawn(move || lines.for_each(drop));
    let (code, summary, _) = finished(&child.wait_with_output().unwrap());
    assert_balanced(&summary);
    assert_eq!((code, &summary["acked"]), (0, &100.into()));
}

#[test]
fn a_signal_ends_the_wait() {
    let app = App::start(500);
    let mut child = start(&["--start-when", &app.url()]);
    let mut lines = log(&mut child);
    line_with(&mut lines, "answer=\"status 500\"");
    signal(&child, "TERM");
    line_with(&mut lines, "stopped before the load began; nothing was sent");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn the_load_drains_when_the_application_is_gone() {
    let mut app = App::start(200);
    let flags = ["--rps", "500", "--summary", "-", "--stop-when-gone"];
    let mut child = start(&[&flags[..], &["--start-when", &app.url()]].concat());
    let mut lines = log(&mut child);
    line_with(&mut lines, "INFO the application is ready");
    // What answers is not gone, whatever it says.
    app.becomes(503);
    app.is_asked(2);
    app.ends();
    line_with(&mut lines, "the application is gone");
    std::thread::spawn(move || lines.for_each(drop));
    let (code, summary, _) = finished(&child.wait_with_output().unwrap());
    assert_balanced(&summary);
    assert_eq!((code, &summary["stopped_by"]), (0, &"gone".into()), "{summary:#}");
    assert_ne!(summary["acked"], 0);
}

#[test]
fn addresses_that_cannot_be_asked_are_refused() {
    for (flags, why) in [
        (
            &["--start-when", "https://app/ready"][..],
            "error: --start-when https://app/ready: https is not spoken",
        ),
        (&["--stop-when-gone"], "error: --stop-when-gone true: needs --start-when"),
    ] {
        let (code, _, stderr) = run(flags);
        assert!(code == 2 && stderr.contains(why), "{stderr}");
    }
}

#[test]
fn health_without_an_answer_is_told() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/livez");
    let (code, said) = health(&[&url], None);
    assert!(code == 1 && said.contains(&format!("error: {url}: Connection refused")), "{said}");
    let (code, said) = health(&[], None);
    assert!(code == 1 && said.contains("give a URL or --admin-addr, or set TICKGEN_ADMIN_ADDR"), "{said}");
    let (code, said) = health(&[], Some("nowhere"));
    assert!(code == 1 && said.contains("TICKGEN_ADMIN_ADDR=nowhere: expected"), "{said}");
    let (code, said) = health(&["https://x/"], None);
    assert!(code == 2 && said.contains("https is not spoken here"), "{said}");
}

/// The flags that the Pod's tickgen is given are settings that fit together, and it has the time to drain.
#[test]
fn the_pod_gives_flags_that_are_a_plan() {
    let manifest = repository_file("deploy/kubernetes/sidecar.yaml");
    let args = manifest.lines().filter_map(|line| line.trim().strip_prefix("- --"));
    let args = std::iter::once("tickgen".into()).chain(args.map(|arg| format!("--{arg}").into()));
    let cli = cli::parse(args).unwrap();
    assert!(cli.flags.len() > 5);
    let (settings, mistakes) = Settings::layer(None, [], cli.flags);
    assert_eq!(mistakes, []);
    let plan = Plan::new(&settings, 1).unwrap();
    assert!(plan.application.unwrap().stop_when_gone && plan.loads[0].duration.is_none());
    let grace = manifest.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "));
    assert!(plan.drain_timeout < grace.unwrap().parse::<u64>().unwrap() * SECOND);
}
