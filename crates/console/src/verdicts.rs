//! Verdicts for load balancers and service managers.
#![allow(unused_qualifications, reason = "the macro that describes paths writes them in full")]

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policy::view::{Partition, View};
use serde::Deserialize;
use utoipa::{IntoParams, IntoResponses};

use crate::web::{Console, Phase};

/// Whether the process is alive.
#[utoipa::path(
    get, path = "/livez", tag = "verdicts",
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn liveness() -> &'static str {
    "alive\n"
}

/// Whether failsoft takes new sessions, whatever its servers are like.
#[utoipa::path(
    get, path = "/readyz", tag = "verdicts",
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain"),
        (status = 503, description = "Why not.", body = String, content_type = "text/plain"),
    )
)]
pub(crate) async fn readiness(State(console): State<Arc<Console>>) -> Verdict {
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
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Its name; the first of the configuration where there is none.
    partition: Option<String>,
}

/// What may be answered about a partition, for the description of the API.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is there to be described")]
enum Verdicts {
    /// It does.
    #[response(status = 200, content_type = "text/plain")]
    Yes(String),
    /// The query is not as described.
    #[response(status = 400, content_type = "text/plain")]
    Misunderstood(String),
    /// There is no such partition.
    #[response(status = 404, content_type = "text/plain")]
    Unknown(String),
    /// Why not.
    #[response(status = 503, content_type = "text/plain")]
    No(String),
}

/// Whether a partition takes writes.
#[utoipa::path(get, path = "/rw", tag = "verdicts", params(Which), responses(Verdicts))]
pub(crate) async fn read_write(
    State(console): State<Arc<Console>>,
    Query(which): Query<Which>,
) -> Response {
    judge(&console, &which, |_, partition| match partition.mode.reason() {
        None => Verdict { yes: true, why: partition.mode.to_string() },
        Some(reason) => {
            let why = format!("{}: {reason}, {}", partition.mode, partition.detail);
            Verdict { yes: false, why }
        }
    })
}

/// Whether a partition serves reads.
#[utoipa::path(get, path = "/ro", tag = "verdicts", params(Which), responses(Verdicts))]
pub(crate) async fn read_only(
    State(console): State<Arc<Console>>,
    Query(which): Query<Which>,
) -> Response {
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
pub(crate) struct Verdict {
    yes: bool,
    why: String,
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response {
        let code = if self.yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, format!("{}\n", self.why)).into_response()
    }
}

impl Console {
    /// Why nobody should connect, whatever the servers are like.
    pub(crate) fn closed(&self) -> Option<Verdict> {
        let why = match *self.phase.borrow() {
            Phase::Starting if self.control.is_ready() => "failsoft does not listen yet",
            Phase::Starting => "not every server has been checked yet",
            Phase::Serving => return None,
            Phase::Draining => "failsoft is about to end",
        };
        Some(Verdict { yes: false, why: why.to_owned() })
    }
}
