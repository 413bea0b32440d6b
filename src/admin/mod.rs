//! The admin server.
//!
//! - `GET /metrics`: Prometheus' text form, see docs/METRICS.md; empty before the load begins. With cargo feature
//!   `native-histograms` its protobuf form, for a server that asks for it.
//! - `GET /livez`: 200 while the process runs.
//! - `GET /readyz`: 200 while the load is on, 503 before it begins and while it drains.
//! - `GET /status`: how the run stands, as JSON.
//! - `PUT /rate`, `POST /pause`, `POST /resume`, `POST /drain`: steer it.
//! - `GET /openapi.json`: all of these as `OpenAPI` 3.1, docs/openapi.json.

mod guard;
mod probe;
mod problem;
mod process;
mod routes;
mod server;

pub use guard::{Guard, Token};
pub use probe::Probe;
pub use process::{cpu_model, figures as process_figures, system};
pub use routes::OPENAPI;
pub use server::Limits;

#[cfg(feature = "native-histograms")]
use crate::observe::Protobuf;
use crate::observe::{Judge, Metrics};
use crate::producer::{Observer, Steering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// What the routes show and steer: nothing until the load begins, then the last load that began.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether the loads are the tries of a search.
    search: bool,
    load: RwLock<Option<Arc<Load>>>,
    drain: Notify,
    /// Whether the metrics were read since the load has ended.
    scraped: watch::Sender<bool>,
    closing: watch::Sender<bool>,
}

/// A load that began.
#[derive(Debug)]
pub struct Load {
    /// Its metrics in Prometheus' protobuf form.
    #[cfg(feature = "native-histograms")]
    pub protobuf: Protobuf,
    /// Its metrics.
    pub metrics: Metrics,
    /// Its counts.
    pub observer: Observer,
    /// What sums it up.
    pub judge: Judge,
    /// What steers it.
    pub steering: Steering,
}

impl Admin {
    /// Of a run, or of a search, which sets its rates itself.
    #[must_use]
    pub fn new(search: bool) -> Self {
        Self(Arc::new(Shared {
            search,
            load: RwLock::default(),
            drain: Notify::new(),
            scraped: watch::Sender::default(),
            closing: watch::Sender::default(),
        }))
    }

    /// Shows the load from now on.
    pub fn begin(&self, load: Load) {
        *self.0.load.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(load));
        self.0.scraped.send_replace(false);
    }

    fn load(&self) -> Option<Arc<Load>> {
        self.0.load.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until somebody tells the run to drain.
    pub async fn drain(&self) {
        self.0.drain.notified().await;
    }

    /// Waits until the metrics of the load were read after it had ended.
    pub async fn scraped(&self) {
        // It cannot fail: the sender is here.
        let _ = self.0.scraped.subscribe().wait_for(|scraped| *scraped).await;
    }

    /// What serves the routes, until [`Admin::close`].
    pub fn serve(
        &self,
        listener: TcpListener,
        guard: Guard,
        limits: Limits,
    ) -> impl Future<Output = ()> + use<> {
        let routes = routes::routes(self.clone(), guard, limits.body_bytes);
        server::serve(listener, routes, limits, self.0.closing.subscribe())
    }

    /// Ends the server: whoever waits for an answer gets it.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        self.0.closing.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    /// What the server says to these bytes, until it closes the connection. `None` if it hangs.
    async fn said(addr: std::net::SocketAddr, request: &[u8]) -> Option<String> {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let mut answer = Vec::new();
        let asked = async {
            // The server may have closed the connection by then.
            let _ = socket.write_all(request).await;
            let _ = socket.shutdown().await;
            let _ = socket.read_to_end(&mut answer).await;
        };
        timeout(Duration::from_mins(1), asked).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]
        #[test]
        fn any_request_leaves_the_server_alive(
            requests in prop::collection::vec(prop_oneof![
                any::<Vec<u8>>(),
                ("(GET|PUT|POST|[A-Z]{0,9})", "/(metrics|livez|readyz|status|rate|pause|openapi.json|\\PC{0,9})", "\\PC{0,40}", any::<Vec<u8>>()).prop_map(
                    |(method, path, header, body)| {
                        let head = format!("{method} {path} HTTP/1.1\r\nhost: h\r\naccept: {header}\r\n");
                        let length = format!("content-length: {}\r\n\r\n", body.len());
                        [head.as_bytes(), length.as_bytes(), &body].concat()
                    }
                ),
            ], 50)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let alive = runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let addr = listener.local_addr().unwrap();
                let asked = async {
                    for request in &requests {
                        said(addr, request).await?;
                    }
                    said(addr, b"GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await
                };
                tokio::select! {
                    () = Admin::new(false).serve(listener, Guard::default(), Limits::default()) => None,
                    alive = asked => alive,
                }
            });
            prop_assert!(alive.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 OK")));
        }
    }
}
