//! Actions by HTTP: what changes something, and who may.
//!
//! Every action needs the token of the configuration in an `Authorization` header, which no page of
//! another site can make a browser send: it would have to ask first, and is never allowed to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{ConnectInfo, FromRef, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::Order;
use subtle::ConstantTimeEq;
use utoipa::IntoResponses;

use crate::api::{Pause, ReadOnly, Refused, Reloaded, Resume, Status};
use crate::orders::{Refusal, RefusalKind};
use crate::web::Console;

/// What whoever orders an action has to know.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl Token {
    /// Takes charge of a token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// Whether this is the token. How long that takes tells nothing but the length.
    fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }

    /// The token itself, for logins that prove that they know it without sending it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Somebody who may order actions.
pub(crate) struct Operator(String);

impl<S: Sync> FromRequestParts<S> for Operator
where
    Arc<Console>: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let console = Arc::<Console>::from_ref(state);
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer =
            peer.map_or_else(|| "somewhere".to_owned(), |ConnectInfo(peer)| peer.to_string());
        admit(&console, &parts.headers).map_err(|(code, why)| {
            // What pages of other sites try is no news: they could fill the log with it.
            if why != ANOTHER_SITE {
                console.note_refused(&printable(parts.uri.path().as_bytes()), &peer, why);
            }
            let mut response = refuse(code, why);
            if code == StatusCode::UNAUTHORIZED {
                let wanted = HeaderValue::from_static("Bearer realm=\"failsoft\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
            }
            response
        })?;
        let program =
            parts.headers.get(header::USER_AGENT).map(|agent| printable(agent.as_bytes()));
        let program = program.map_or_else(String::new, |program| format!(" with {program}"));
        Ok(Self(format!("an operator at {peer}{program}")))
    }
}

/// The most of a program's name that is shown, in bytes.
const LONGEST_NAME: usize = 100;

/// The part of a text that cannot be taken for anything but text.
pub(crate) fn printable(text: &[u8]) -> String {
    let plain = text.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ');
    plain.take(LONGEST_NAME).map(|byte| char::from(*byte)).collect()
}

/// Why a browser's request is refused that another site's page made.
const ANOTHER_SITE: &str = "the request comes from a page of another site";

/// Why there are no actions at all.
pub(crate) const NO_TOKEN: &str = "there are no actions, as the configuration has no admin.token";

/// Whether a request with these headers may order actions; if not, the status and why.
fn admit(console: &Console, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    // Browsers say where a request comes from; other programs do not.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err((StatusCode::FORBIDDEN, ANOTHER_SITE));
    }
    let token = console.token.borrow();
    let Some(token) = token.as_ref() else { return Err((StatusCode::FORBIDDEN, NO_TOKEN)) };
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        let why = "an action needs the token of the configuration (admin.token), in a header \
                   Authorization: Bearer TOKEN";
        return Err((StatusCode::UNAUTHORIZED, why));
    };
    match given.as_bytes().split_at_checked(BEARER.len()) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(BEARER) && token.is(given) => Ok(()),
        _ => Err((StatusCode::FORBIDDEN, "the token is wrong")),
    }
}

const BEARER: &[u8] = b"Bearer ";

/// How an order may be refused, for the description of the API.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is there to be described")]
enum Refusals {
    /// The request is not as described.
    #[response(status = 400)]
    Misunderstood(Refused),
    /// The token is missing.
    #[response(status = 401)]
    Anonymous(Refused),
    /// The token is wrong, or the configuration has none.
    #[response(status = 403)]
    Forbidden(Refused),
    /// There is no such partition, server or session.
    #[response(status = 404)]
    NotFound(Refused),
    /// The configuration says otherwise, which an order does not overrule.
    #[response(status = 409)]
    Conflict(Refused),
    /// The configuration on disk is not good; nothing was changed.
    #[response(status = 422)]
    Invalid(Refused),
    /// failsoft starts, or is about to end.
    #[response(status = 503)]
    Unavailable(Refused),
}

pub(crate) fn refuse(code: StatusCode, error: impl Into<String>) -> Response {
    let refused = Refused { error: error.into(), problems: Vec::new() };
    (code, Json(refused)).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = match self.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (code, Json(self.refused)).into_response()
    }
}

/// Reads the configuration again.
#[utoipa::path(
    post, path = "/api/v1/reload", tag = "actions", security(("token" = [])),
    responses(
        (status = 200, description = "It is in force.", body = Reloaded),
        Refusals,
    )
)]
pub(crate) async fn reload(
    State(console): State<Arc<Console>>,
    Operator(by): Operator,
) -> Result<Json<Reloaded>, Refusal> {
    console.reload(&by).await.map(Json)
}

/// Switches read-only mode on or off.
#[utoipa::path(
    post, path = "/api/v1/read-only", tag = "actions", security(("token" = [])),
    request_body = ReadOnly,
    responses(
        (status = 200, description = "It is done, and all sessions go by it.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn read_only(
    State(console): State<Arc<Console>>,
    operator: Operator,
    asked: Result<Json<ReadOnly>, JsonRejection>,
) -> Response {
    let ordered = |ReadOnly { on, partition }| Order::SetReadOnly { partition, on };
    order_asked(&console, operator, asked, ordered).await
}

/// Has writes wait.
#[utoipa::path(
    post, path = "/api/v1/pause", tag = "actions", security(("token" = [])),
    request_body = Pause,
    responses(
        (status = 200, description = "Writes wait.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn pause(
    State(console): State<Arc<Console>>,
    operator: Operator,
    asked: Result<Json<Pause>, JsonRejection>,
) -> Response {
    let ordered = |Pause { hold_s, partition }| {
        let hold = Some(Duration::from_secs(hold_s));
        Order::SetPaused { partition, hold }
    };
    order_asked(&console, operator, asked, ordered).await
}

/// Lets writes go on.
#[utoipa::path(
    post, path = "/api/v1/resume", tag = "actions", security(("token" = [])),
    request_body = Resume,
    responses(
        (status = 200, description = "Writes go on.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn resume(
    State(console): State<Arc<Console>>,
    operator: Operator,
    asked: Result<Json<Resume>, JsonRejection>,
) -> Response {
    let ordered = |Resume { partition }| Order::SetPaused { partition, hold: None };
    order_asked(&console, operator, asked, ordered).await
}

/// Carries out an order that is in a request's body.
async fn order_asked<T>(
    console: &Console,
    operator: Operator,
    asked: Result<Json<T>, JsonRejection>,
    ordered: impl FnOnce(T) -> Order,
) -> Response {
    match asked {
        Ok(Json(asked)) => order(console, operator, ordered(asked)).await,
        Err(error) => refuse(StatusCode::BAD_REQUEST, error.body_text()),
    }
}

/// Lets a server take traffic again.
#[utoipa::path(
    post, path = "/api/v1/servers/{server}/enable", tag = "actions", security(("token" = [])),
    params(("server" = String, Path, description = "The server, as `host:port`.")),
    responses(
        (status = 200, description = "It takes traffic as soon as it is healthy.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn enable(
    State(console): State<Arc<Console>>,
    operator: Operator,
    server: Result<Path<String>, PathRejection>,
) -> Response {
    order_server(&console, operator, server, true).await
}

/// Takes a server out.
#[utoipa::path(
    post, path = "/api/v1/servers/{server}/disable", tag = "actions", security(("token" = [])),
    params(("server" = String, Path, description = "The server, as `host:port`.")),
    responses(
        (status = 200, description = "It gets no traffic and no checks.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn disable(
    State(console): State<Arc<Console>>,
    operator: Operator,
    server: Result<Path<String>, PathRejection>,
) -> Response {
    order_server(&console, operator, server, false).await
}

async fn order_server(
    console: &Console,
    operator: Operator,
    server: Result<Path<String>, PathRejection>,
    enabled: bool,
) -> Response {
    match server {
        Ok(Path(server)) => order(console, operator, Order::SetEnabled { server, enabled }).await,
        Err(error) => refuse(StatusCode::BAD_REQUEST, error.body_text()),
    }
}

/// Carries out an order; answered with the status that follows from it.
async fn order(console: &Console, Operator(by): Operator, order: Order) -> Response {
    match console.order(order, &by).await {
        Ok(()) => Json(console.status()).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Ends a client's session, as `KILL` does.
#[utoipa::path(
    post, path = "/api/v1/sessions/{id}/end", tag = "actions", security(("token" = [])),
    params(("id" = u32, Path, description = "failsoft's id of the session.")),
    responses(
        (status = 200, description = "It ends.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn end_session(
    State(console): State<Arc<Console>>,
    Operator(by): Operator,
    id: Result<Path<u32>, PathRejection>,
) -> Response {
    let Path(id) = match id {
        Ok(id) => id,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    match console.end_session(id, &by).await {
        Ok(()) => Json(console.status()).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Has statements counted anew.
#[utoipa::path(
    post, path = "/api/v1/statements/reset", tag = "actions", security(("token" = [])),
    responses(
        (status = 200, description = "They are counted anew.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn reset_statements(
    State(console): State<Arc<Console>>,
    Operator(by): Operator,
) -> Json<Status> {
    console.reset_statements(&by);
    Json(console.status())
}

/// Ends failsoft as SIGTERM does: no new connections, transactions may end, then it leaves.
#[utoipa::path(
    post, path = "/api/v1/drain", tag = "actions", security(("token" = [])),
    responses(
        (status = 200, description = "It ends.", body = Status),
        Refusals,
    )
)]
pub(crate) async fn drain(
    State(console): State<Arc<Console>>,
    Operator(by): Operator,
) -> Result<Json<Status>, Refusal> {
    console.drain(&by).await?;
    Ok(Json(console.status()))
}
