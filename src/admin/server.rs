//! Connections, each of them bounded: what a client can take up is known beforehand.

use super::problem::Problem;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// What the admin server takes on at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; for one more the one that did nothing for longest is closed.
    pub connections: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's head; at least 8 KiB.
    pub head_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Time until the head of a request has come, the time before it on an idle connection included.
    pub head_time: Duration,
    /// Time from there to its answer.
    pub answer_time: Duration,
    /// Time for which a connection is kept.
    pub connection_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            headers: 64,
            head_bytes: 16 << 10,
            body_bytes: 4 << 10,
            // Not that of a usual scrape interval: a connection would be closed as it is used again.
            head_time: Duration::from_secs(3),
            answer_time: Duration::from_secs(10),
            connection_time: Duration::from_mins(5),
        }
    }
}

/// Longest wait for answers under way when the server closes.
const GRACE: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, as when the process has too many files open.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `closing` is true; answers under way are then finished.
#[expect(clippy::disallowed_methods, reason = "each connection is a task, and ends with the server")]
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
) {
    let mut open = Open::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        open.make_room(limits.connections).await;
        let (routes, closing, steps) = (routes.clone(), closing.clone(), open.steps());
        let served = open.tasks.spawn(connection(socket, routes, limits, closing, steps.clone()));
        open.each.push((served, steps));
    }
    drop(listener);
    let _ = timeout(GRACE, async { while open.tasks.join_next().await.is_some() {} }).await;
}

/// The open connections. Whoever keeps them without a use must not keep out a probe: it would be answered after
/// [`Limits::head_time`], and the process be taken for dead before.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    each: Vec<(AbortHandle, Steps)>,
    /// How many steps were taken, by all of them.
    taken: Arc<AtomicU64>,
}

impl Open {
    /// Of a new connection, which is its first step.
    fn steps(&self) -> Steps {
        let steps = Steps { taken: Arc::clone(&self.taken), last: Arc::default() };
        steps.take();
        steps
    }

    /// Leaves room for one more: the one whose last step is longest ago is closed.
    async fn make_room(&mut self, limit: usize) {
        while self.tasks.try_join_next().is_some() {}
        self.each.retain(|(task, _)| !task.is_finished());
        let longest_ago = self.each.iter().min_by_key(|(_, steps)| steps.last.load(Ordering::Relaxed));
        if let Some((task, _)) = longest_ago.filter(|_| self.tasks.len() >= limit) {
            task.abort();
            self.tasks.join_next().await;
        }
    }
}

/// When a connection was last accepted, asked or answered, as a number of steps: no clock is needed to compare.
#[derive(Clone)]
struct Steps {
    taken: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl Steps {
    fn take(&self) {
        self.last.store(self.taken.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Answers one request after another. What goes wrong is the client's concern.
async fn connection(
    socket: TcpStream,
    routes: Router,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
    steps: Steps,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_headers(limits.headers)
        .max_buf_size(limits.head_bytes);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (routes, steps) = (routes.clone(), steps.clone());
        async move {
            steps.take();
            let answer = answer(request, routes, limits.answer_time).await;
            steps.take();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        _ = &mut connection => return,
        () = tokio::time::sleep(limits.connection_time) => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.answer_time, connection).await;
}

async fn answer(request: hyper::Request<Incoming>, routes: Router, within: Duration) -> Response {
    let answer = TowerToHyperService::new(routes).call(request);
    match timeout(within, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request was not complete within {} s", within.as_secs_f64()),
        )
        .into_response(),
    }
}
