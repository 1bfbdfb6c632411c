//! The HTTP server.
#![allow(unused_qualifications, reason = "the macro that describes paths writes them in full")]

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{FromRef, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Json, Router};
use control::Handle;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actions::{self, Token};
use crate::api::lists::StatementList;
use crate::api::orders::ShownConfiguration;
use crate::api::status::{Configuration, Event, Facts, OUTCOMES, Status, event};
use crate::doors::{self, Limits};
use crate::history::{EVERY, History};
use crate::plane::{Asks, Reloads};
use crate::{pages, resources, stream, verdicts};

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
pub async fn serve(listener: TcpListener, console: Console, stop: CancellationToken) {
    let web = Web {
        console: Arc::new(console),
        history: History::default(),
        streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        stop: stop.clone(),
    };
    let sampling = tokio::spawn(stop.clone().run_until_cancelled_owned(sample(web.clone())));
    doors::answer(listener, router(web), Limits::USUAL, stop).await;
    sampling.abort();
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
        .routes(routes!(resources::show_metrics))
        .routes(routes!(verdicts::liveness))
        .routes(routes!(verdicts::readiness))
        .routes(routes!(verdicts::read_write))
        .routes(routes!(verdicts::read_only))
        .routes(routes!(resources::status))
        .routes(routes!(resources::sessions))
        .routes(routes!(resources::statements))
        .routes(routes!(resources::events))
        .routes(routes!(resources::unknown_outcomes))
        .routes(routes!(resources::configuration))
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

    pub(crate) fn shown_configuration(&self) -> ShownConfiguration {
        let configuration = self.configuration.borrow().clone();
        ShownConfiguration { configuration, yaml: self.settings.borrow().to_string() }
    }

    /// What happened after the event of this number, the latest first.
    pub(crate) fn events_after(&self, number: u64) -> Vec<Event> {
        let events = self.control.events();
        // A number that is not reached yet is of a failsoft before this one.
        let newest = events.last().map_or(0, |entry| entry.number);
        let number = if number > newest { 0 } else { number };
        events.iter().rev().take_while(|entry| entry.number > number).map(event).collect()
    }
}

#[cfg(test)]
mod tests;
