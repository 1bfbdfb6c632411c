//! What the API shows, and the metrics.
#![allow(unused_qualifications, reason = "the macro that describes paths writes them in full")]

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::actions::refuse;
use crate::api::lists::{SessionRow, StatementList};
use crate::api::orders::ShownConfiguration;
use crate::api::status::{Event, Status};
use crate::api::{Refused, UnknownOutcome};
use crate::web::Console;

/// A query that is as described; another is refused in the way of the API.
pub(crate) struct Asked<T>(T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(asked) =
            query.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
        Ok(Self(asked))
    }
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "status",
    responses((status = 200, description = "All metrics.", body = String,
        content_type = "text/plain"))
)]
pub(crate) async fn show_metrics(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], console.metrics.render())
}

/// All that failsoft sees.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "status",
    responses((status = 200, description = "The status.", body = Status))
)]
pub(crate) async fn status(State(console): State<Arc<Console>>) -> Json<Status> {
    Json(console.status())
}

/// The sessions of all clients.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "status",
    responses((status = 200, description = "In the order of their ids.", body = Vec<SessionRow>))
)]
pub(crate) async fn sessions(State(console): State<Arc<Console>>) -> Json<Vec<SessionRow>> {
    Json(console.sessions().await)
}

/// Which statements are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichStatements {
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
pub(crate) async fn statements(
    State(console): State<Arc<Console>>,
    Asked(which): Asked<WhichStatements>,
) -> Response {
    let limit = which.limit.unwrap_or(USUAL_DIGESTS);
    let Some(most) = i32::try_from(limit).ok().and_then(|limit| usize::try_from(limit).ok()) else {
        return refuse(StatusCode::BAD_REQUEST, "limit is too large");
    };
    Json(console.statements(most, which.refusable.unwrap_or(false))).into_response()
}

/// Which events are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichEvents {
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
pub(crate) async fn events(
    State(console): State<Arc<Console>>,
    Asked(which): Asked<WhichEvents>,
) -> Response {
    let after = which.after.unwrap_or(0);
    if i64::try_from(after).is_err() {
        return refuse(StatusCode::BAD_REQUEST, "after is too large");
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
pub(crate) async fn unknown_outcomes(
    State(console): State<Arc<Console>>,
) -> Json<Vec<UnknownOutcome>> {
    Json(console.metrics.ledger().all())
}

/// The configuration in force, without secrets.
#[utoipa::path(
    get, path = "/api/v1/configuration", tag = "status",
    responses((status = 200, description = "The configuration.", body = ShownConfiguration))
)]
pub(crate) async fn configuration(State(console): State<Arc<Console>>) -> Json<ShownConfiguration> {
    Json(console.shown_configuration())
}
