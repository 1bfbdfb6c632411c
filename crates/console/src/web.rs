//! The HTTP server.
#![allow(unused_qualifications, reason = "the macro that describes paths writes them in full")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use control::Handle;
use policy::view::{Partition, View};
use serde::Deserialize;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actions::{self, Token};
use crate::api::lists::{SessionRow, StatementList};
use crate::api::orders::ShownConfiguration;
use crate::api::status::{Configuration, Event, Facts, OUTCOMES, Status, event};
use crate::api::{Refused, UnknownOutcome};
use crate::history::{EVERY, History};
use crate::plane::{Asks, Reloads};
use crate::{pages, stream};

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
    /// All settings in force, without secrets, as YAML.
    pub settings: watch::Receiver<Arc<str>>,
    /// What actions need; without one there are none.
    pub token: watch::Receiver<Option<Token>>,
    /// Where reloads are asked for.
    pub reloads: Reloads,
    /// Where the rest of failsoft is asked.
    pub asks: Asks,
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

/// Streams of what changes that may be open: each costs a status every few seconds.
const MOST_STREAMS: usize = 64;

/// What requests are answered from.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(crate) console: Arc<Console>,
    pub(crate) history: History,
    pub(crate) streams: Arc<Semaphore>,
    /// Cancelled when what goes on for long is to end.
    pub(crate) stop: CancellationToken,
}

impl FromRef<Web> for Arc<Console> {
    fn from_ref(web: &Web) -> Self {
        Self::clone(&web.console)
    }
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
    let web = Web {
        console: Arc::new(console),
        history: History::default(),
        streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        stop: stop.clone(),
    };
    let sampling = tokio::spawn(stop.clone().run_until_cancelled_owned(sample(web.clone())));
    let service = router(web).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned());
    let served = served.await;
    sampling.abort();
    served
}

/// Keeps the last minutes in numbers.
async fn sample(web: Web) {
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        web.history.take(&web.console.control.view(), web.console.metrics.totals());
    }
}

/// What the API is described as.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "failsoft",
        description = "What one failsoft sees of its servers, and what can be ordered. Times are UTC.",
        license(name = "Apache-2.0 OR MIT")
    ),
    tags(
        (name = "status", description = "What there is to see."),
        (name = "verdicts", description = "For load balancers and service managers."),
        (name = "actions", description = "What changes something; needs the token."),
    ),
    modifiers(&NeedsToken)
)]
struct Api;

struct NeedsToken;

impl Modify for NeedsToken {
    fn modify(&self, description: &mut Description) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
    }
}

/// The paths that the description has.
fn described() -> OpenApiRouter<Web> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(show_metrics))
        .routes(routes!(liveness))
        .routes(routes!(readiness))
        .routes(routes!(read_write))
        .routes(routes!(read_only))
        .routes(routes!(status))
        .routes(routes!(sessions))
        .routes(routes!(statements))
        .routes(routes!(events))
        .routes(routes!(unknown_outcomes))
        .routes(routes!(configuration))
        .routes(routes!(stream::stream))
        .routes(routes!(actions::reload))
        .routes(routes!(actions::read_only))
        .routes(routes!(actions::pause))
        .routes(routes!(actions::resume))
        .routes(routes!(actions::enable))
        .routes(routes!(actions::disable))
        .routes(routes!(actions::end_session))
        .routes(routes!(actions::reset_statements))
        .routes(routes!(actions::drain))
}

/// The description of the API (OpenAPI 3.1).
#[must_use]
pub fn openapi() -> Description {
    let mut description = described().into_openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut description.info.version);
    description
}

fn router(web: Web) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .route("/api/v1/openapi.json", axum::routing::get(|| async { Json(openapi()) }))
        .merge(pages::router())
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here\n") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "this is not how to ask for it\n")
        })
        .layer(middleware::from_fn(guard))
        .with_state(web)
}

/// What every answer tells browsers: it is what it says it is, and is shown in no page of others. What it
/// may load and run is its own, whatever an error text from a server contains.
const GUARDS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in GUARDS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
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

    /// What clients ask, at most so many digests.
    pub(crate) fn statements(&self, most: usize, only_refusable: bool) -> StatementList {
        let all = self.metrics.statements();
        StatementList::new(all.digests(), all.slow(), most, only_refusable)
    }

    /// What happened after the event of this number, the latest first.
    pub(crate) fn events_after(&self, number: u64) -> Vec<Event> {
        let events = self.control.events();
        // A number that is not reached yet is of a failsoft before this one.
        let newest = events.last().map_or(0, |entry| entry.number);
        let number = if number > newest { 0 } else { number };
        events.iter().rev().take_while(|entry| entry.number > number).map(event).collect()
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

/// Metrics in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "status",
    responses((status = 200, description = "All metrics.", body = String,
        content_type = "text/plain"))
)]
async fn show_metrics(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], console.metrics.render())
}

/// All that failsoft sees.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "status",
    responses((status = 200, description = "The status.", body = Status))
)]
async fn status(State(console): State<Arc<Console>>) -> Json<Status> {
    Json(console.status())
}

/// The sessions of all clients.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "status",
    responses((status = 200, description = "In the order of their ids.", body = Vec<SessionRow>))
)]
async fn sessions(State(console): State<Arc<Console>>) -> Json<Vec<SessionRow>> {
    Json(console.sessions().await)
}

/// Which statements are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WhichStatements {
    /// How many digests at most; 100 where it is not said.
    #[param(minimum = 0)]
    limit: Option<u32>,
    /// Only those that would be refused were the partition read-only.
    refusable: Option<bool>,
}

/// How many digests are told of where nobody says.
const USUAL_DIGESTS: u32 = 100;

/// What clients ask, by digest, and what took long.
#[utoipa::path(
    get, path = "/api/v1/statements", tag = "status", params(WhichStatements),
    responses(
        (status = 200, description = "What takes most time comes first.", body = StatementList),
        (status = 400, description = "The query is not as described.", body = Refused),
    )
)]
async fn statements(
    State(console): State<Arc<Console>>,
    which: Result<Query<WhichStatements>, QueryRejection>,
) -> Response {
    let Query(which) = match which {
        Ok(which) => which,
        Err(error) => return misunderstood(&error),
    };
    let limit = which.limit.unwrap_or(USUAL_DIGESTS);
    let Some(most) = i32::try_from(limit).ok().and_then(|limit| usize::try_from(limit).ok()) else {
        return refuse("limit is too large");
    };
    Json(console.statements(most, which.refusable.unwrap_or(false))).into_response()
}

fn misunderstood(error: &QueryRejection) -> Response {
    refuse(&error.body_text())
}

fn refuse(error: &str) -> Response {
    let refused = Refused { error: error.to_owned(), problems: Vec::new() };
    (StatusCode::BAD_REQUEST, Json(refused)).into_response()
}

/// Which events are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WhichEvents {
    /// Only those after the event of this number.
    #[param(minimum = 0)]
    after: Option<u64>,
    /// Only those of this origin: `operator` is the audit log.
    origin: Option<String>,
}

/// What happened lately, the latest first.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "status", params(WhichEvents),
    responses(
        (status = 200, description = "The events.", body = Vec<Event>),
        (status = 400, description = "The query is not as described.", body = Refused),
    )
)]
async fn events(
    State(console): State<Arc<Console>>,
    which: Result<Query<WhichEvents>, QueryRejection>,
) -> Response {
    let Query(which) = match which {
        Ok(which) => which,
        Err(error) => return misunderstood(&error),
    };
    let after = which.after.unwrap_or(0);
    if i64::try_from(after).is_err() {
        return refuse("after is too large");
    }
    let mut events = console.events_after(after);
    if let Some(origin) = which.origin {
        events.retain(|event| event.origin == origin);
    }
    Json(events).into_response()
}

/// The writes whose outcome is unknown, the latest first.
#[utoipa::path(
    get, path = "/api/v1/unknown-outcomes", tag = "status",
    responses((status = 200, description = "All that are kept.", body = Vec<UnknownOutcome>))
)]
async fn unknown_outcomes(State(console): State<Arc<Console>>) -> Json<Vec<UnknownOutcome>> {
    Json(console.metrics.ledger().all())
}

/// The configuration in force, without secrets.
#[utoipa::path(
    get, path = "/api/v1/configuration", tag = "status",
    responses((status = 200, description = "The configuration.", body = ShownConfiguration))
)]
async fn configuration(State(console): State<Arc<Console>>) -> Json<ShownConfiguration> {
    Json(console.shown_configuration())
}

impl Console {
    pub(crate) fn shown_configuration(&self) -> ShownConfiguration {
        let configuration = self.configuration.borrow().clone();
        ShownConfiguration { configuration, yaml: self.settings.borrow().to_string() }
    }
}

/// Whether the process is alive.
#[utoipa::path(
    get, path = "/livez", tag = "verdicts",
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain"))
)]
async fn liveness() -> &'static str {
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
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Its name; the first of the configuration where there is none.
    partition: Option<String>,
}

/// Whether a partition takes writes.
#[utoipa::path(
    get, path = "/rw", tag = "verdicts", params(Which),
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain"),
        (status = 400, description = "The query is not as described.", body = String,
            content_type = "text/plain"),
        (status = 404, description = "There is no such partition.", body = String,
            content_type = "text/plain"),
        (status = 503, description = "Why not.", body = String, content_type = "text/plain"),
    )
)]
async fn read_write(State(console): State<Arc<Console>>, Query(which): Query<Which>) -> Response {
    judge(&console, &which, |_, partition| match partition.mode.reason() {
        None => Verdict { yes: true, why: partition.mode.to_string() },
        Some(reason) => {
            let why = format!("{}: {reason}, {}", partition.mode, partition.detail);
            Verdict { yes: false, why }
        }
    })
}

/// Whether a partition serves reads.
#[utoipa::path(
    get, path = "/ro", tag = "verdicts", params(Which),
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain"),
        (status = 400, description = "The query is not as described.", body = String,
            content_type = "text/plain"),
        (status = 404, description = "There is no such partition.", body = String,
            content_type = "text/plain"),
        (status = 503, description = "Why not.", body = String, content_type = "text/plain"),
    )
)]
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
