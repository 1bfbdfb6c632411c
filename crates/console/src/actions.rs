//! Actions: what changes something, and who may.
//!
//! Every action needs the token of the configuration in an `Authorization` header, which no page of
//! another site can make a browser send: it would have to ask first, and is never allowed to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::{Order, OrderError};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Pause, ReadOnly, Refused, Reloaded, Resume};
use crate::web::{Console, Phase};

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
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Somebody wants the configuration to be read again.
#[derive(Debug)]
pub struct Reload {
    /// Who, in words.
    pub by: String,
    /// What came of it; what is wrong, a line for each problem.
    pub answer: oneshot::Sender<Result<Reloaded, Vec<String>>>,
}

/// Where reloads are asked for.
pub type Reloads = mpsc::Sender<Reload>;

/// Where it is asked to be told once every session goes by what was ordered.
pub type Settling = mpsc::Sender<oneshot::Sender<()>>;

/// Somebody who may order actions.
pub(crate) struct Operator(String);

impl FromRequestParts<Arc<Console>> for Operator {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer =
            peer.map_or_else(|| "somewhere".to_owned(), |ConnectInfo(peer)| peer.to_string());
        let path = parts.uri.path();
        admit(console, &parts.headers).map_err(|(code, why)| {
            tracing::warn!("{path} was refused to {peer}: {why}");
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
fn printable(text: &[u8]) -> String {
    let plain = text.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ');
    plain.take(LONGEST_NAME).map(|byte| char::from(*byte)).collect()
}

/// Whether a request with these headers may order actions; if not, the status and why.
fn admit(console: &Console, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    // Browsers say where a request comes from; other programs do not.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err((StatusCode::FORBIDDEN, "the request comes from a page of another site"));
    }
    let token = console.token.borrow();
    let Some(token) = token.as_ref() else {
        let why = "there are no actions, as the configuration has no admin.token";
        return Err((StatusCode::FORBIDDEN, why));
    };
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

fn refuse(code: StatusCode, error: impl Into<String>) -> Response {
    let refused = Refused { error: error.into(), problems: Vec::new() };
    (code, Json(refused)).into_response()
}

/// Reads the configuration again.
pub(crate) async fn reload(State(console): State<Arc<Console>>, operator: Operator) -> Response {
    if *console.phase.borrow() != Phase::Serving {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "failsoft starts, or is about to end");
    }
    let (answer, answered) = oneshot::channel();
    let asked = console.reloads.send(Reload { by: operator.0, answer }).await;
    match (asked, answered.await) {
        (Ok(()), Ok(Ok(reloaded))) => Json(reloaded).into_response(),
        (Ok(()), Ok(Err(problems))) => {
            let error = "the configuration on disk is invalid; nothing was changed".to_owned();
            let refused = Refused { error, problems };
            (StatusCode::UNPROCESSABLE_ENTITY, Json(refused)).into_response()
        }
        _ => refuse(StatusCode::SERVICE_UNAVAILABLE, "failsoft is about to end"),
    }
}

/// Switches read-only mode on or off.
pub(crate) async fn read_only(
    State(console): State<Arc<Console>>,
    operator: Operator,
    asked: Result<Json<ReadOnly>, JsonRejection>,
) -> Response {
    let ordered = |ReadOnly { on, partition }| Order::SetReadOnly { partition, on };
    order_asked(&console, operator, asked, ordered).await
}

/// Has writes wait.
pub(crate) async fn pause(
    State(console): State<Arc<Console>>,
    operator: Operator,
    asked: Result<Json<Pause>, JsonRejection>,
) -> Response {
    let ordered = |Pause { hold_s, partition }| {
        let hold = Some(Duration::from_secs(hold_s).min(LONGEST_HOLD));
        Order::SetPaused { partition, hold }
    };
    order_asked(&console, operator, asked, ordered).await
}

/// The longest that a write may wait: longer than any client does.
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 3600);

/// Lets writes go on.
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
pub(crate) async fn enable(
    State(console): State<Arc<Console>>,
    operator: Operator,
    Path(server): Path<String>,
) -> Response {
    order(&console, operator, Order::SetEnabled { server, enabled: true }).await
}

/// Takes a server out.
pub(crate) async fn disable(
    State(console): State<Arc<Console>>,
    operator: Operator,
    Path(server): Path<String>,
) -> Response {
    order(&console, operator, Order::SetEnabled { server, enabled: false }).await
}

/// Carries out an order; answered with the status that follows from it.
async fn order(console: &Console, Operator(by): Operator, order: Order) -> Response {
    match console.control.order(order, &by).await {
        Ok(()) => {
            console.settle().await;
            Json(console.status()).into_response()
        }
        Err(error) => {
            let code = match error {
                OrderError::UnknownServer { .. } | OrderError::UnknownPartition { .. } => {
                    StatusCode::NOT_FOUND
                }
                OrderError::InConfiguration(_) => StatusCode::CONFLICT,
                OrderError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(code, error.to_string())
        }
    }
}
