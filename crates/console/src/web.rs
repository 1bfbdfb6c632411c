//! The HTTP server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use control::Handle;
use policy::view::{Partition, View};
use serde::Deserialize;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::actions::{self, Reloads, Settling, Token};
use crate::api::{Configuration, Facts, OUTCOMES, Status, UnknownOutcome};
use crate::page;

/// What the console shows.
#[derive(Clone, Debug)]
pub struct Console {
    /// The control plane.
    pub control: Handle,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The host that this failsoft runs on.
    pub host: String,
    /// The version of failsoft.
    pub version: &'static str,
    /// When it started.
    pub started: SystemTime,
    /// How far failsoft is.
    pub phase: watch::Receiver<Phase>,
    /// What is in force, and whether it is what is on disk.
    pub configuration: watch::Receiver<Configuration>,
    /// What actions need; without one there are none.
    pub token: watch::Receiver<Option<Token>>,
    /// Where reloads are asked for.
    pub reloads: Reloads,
    /// By which sessions go by what was ordered before the answer.
    pub settling: Settling,
}

/// How far failsoft is. Load balancers are sent elsewhere unless it serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// It does not listen yet.
    Starting,
    /// It takes new sessions.
    Serving,
    /// It lets the sessions it has end.
    Draining,
}

/// Answers requests until `stop`, and then lets those under way end.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    console: Console,
    stop: CancellationToken,
) -> io::Result<()> {
    let service = router(console).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(console: Console) -> Router {
    Router::new()
        .route("/", get(show_page))
        .route("/metrics", get(show_metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .route("/rw", get(read_write))
        .route("/ro", get(read_only))
        .route(
            "/api/v1/status",
            get(|State(console): State<Arc<Console>>| async move { Json(console.status()) }),
        )
        .route("/api/v1/unknown-outcomes", get(unknown_outcomes))
        .route("/api/v1/reload", post(actions::reload))
        .route("/api/v1/read-only", post(actions::read_only))
        .route("/api/v1/pause", post(actions::pause))
        .route("/api/v1/resume", post(actions::resume))
        .route("/api/v1/servers/{server}/enable", post(actions::enable))
        .route("/api/v1/servers/{server}/disable", post(actions::disable))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here\n") })
        .with_state(Arc::new(console))
}

impl Console {
    pub(crate) fn status(&self) -> Status {
        let facts = Facts {
            host: &self.host,
            version: self.version,
            started: self.started,
            now: SystemTime::now(),
            ready: self.closed().is_none(),
            configuration: self.configuration.borrow().clone(),
            totals: self.metrics.totals(),
            outcomes: &self.metrics.ledger().latest(OUTCOMES),
            events: &self.control.events(),
        };
        Status::new(&self.control.view(), &facts)
    }

    /// Waits until every session goes by the latest view.
    pub(crate) async fn settle(&self) {
        if *self.phase.borrow() != Phase::Serving {
            return;
        }
        let (answer, answered) = oneshot::channel();
        if self.settling.send(answer).await.is_ok() {
            // Nobody to answer is the end of all sessions.
            drop(answered.await);
        }
    }

    /// Why nobody should connect, whatever the servers are like.
    fn closed(&self) -> Option<Verdict> {
        let why = match *self.phase.borrow() {
            Phase::Starting if self.control.is_ready() => "failsoft does not listen yet",
            Phase::Starting => "not every server has been checked yet",
            Phase::Serving => return None,
            Phase::Draining => "failsoft is about to end",
        };
        Some(Verdict { yes: false, why: why.to_owned() })
    }
}

async fn show_page(State(console): State<Arc<Console>>) -> impl IntoResponse {
    // The page loads nothing and runs nothing, whatever an error text from a server contains.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page::page(&console.status()))
}

async fn show_metrics(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], console.metrics.render())
}

async fn unknown_outcomes(State(console): State<Arc<Console>>) -> Json<Vec<UnknownOutcome>> {
    Json(console.metrics.ledger().all())
}

async fn readiness(State(console): State<Arc<Console>>) -> Verdict {
    let mut verdict = console.closed().unwrap_or_else(|| {
        let wrong = console.configuration.borrow().words();
        // It serves all the same.
        let why = wrong.map_or_else(|| "ready".to_owned(), |wrong| format!("ready; {wrong}"));
        Verdict { yes: true, why }
    });
    // A session that ended by a bug harms no other, so the process goes on; but somebody should know.
    if let Some(panics) = console.metrics.panics().words() {
        verdict.why = format!("{}\n{panics}", verdict.why);
    }
    verdict
}

/// Which partition is asked about.
#[derive(Deserialize)]
struct Which {
    partition: Option<String>,
}

async fn read_write(State(console): State<Arc<Console>>, Query(which): Query<Which>) -> Response {
    judge(&console, &which, |_, partition| match partition.mode.reason() {
        None => Verdict { yes: true, why: partition.mode.to_string() },
        Some(reason) => {
            let why = format!("{}: {reason}, {}", partition.mode, partition.detail);
            Verdict { yes: false, why }
        }
    })
}

async fn read_only(State(console): State<Arc<Console>>, Query(which): Query<Which>) -> Response {
    judge(&console, &which, |view, partition| Verdict {
        yes: partition.mode.is_read_write() || !partition.readers.is_empty(),
        why: view.partition_words(partition),
    })
}

/// Answers about one partition; the first where none is named.
fn judge(
    console: &Console,
    which: &Which,
    verdict: impl Fn(&View, &Partition) -> Verdict,
) -> Response {
    let view = console.control.view();
    let asked = |partition: &&Partition| {
        which.partition.as_deref().is_none_or(|name| name == &*partition.name)
    };
    match (view.partitions.iter().find(asked), console.closed()) {
        (None, _) => (StatusCode::NOT_FOUND, "there is no such partition\n").into_response(),
        (Some(_), Some(closed)) => closed.into_response(),
        (Some(partition), None) => verdict(&view, partition).into_response(),
    }
}

/// An answer for a load balancer.
struct Verdict {
    yes: bool,
    why: String,
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response {
        let code = if self.yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, format!("{}\n", self.why)).into_response()
    }
}

#[cfg(test)]
mod tests;
