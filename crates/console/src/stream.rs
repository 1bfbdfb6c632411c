//! A stream of what changes, as server-sent events.
//!
//! `status` is the whole status, when it changed and every two seconds while numbers move; `event` is one
//! event, with its number as the id, so that a client which comes back misses none that is kept; `tick` comes
//! every two seconds and says nothing but that somebody is there.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::Status;
use crate::web::Web;

/// How often numbers that moved are told.
const EVERY: Duration = Duration::from_secs(2);

/// The least time between two statuses: a cluster that flaps must not flood a browser.
const AT_LEAST: Duration = Duration::from_millis(200);

/// Messages that may wait for a slow client.
const WAITING: usize = 16;

type Messages = mpsc::Sender<Result<Message, Infallible>>;

/// What changes, as it changes.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "status",
    params(("Last-Event-ID" = Option<u64>, Header,
        description = "The number of the last event that is known; only later ones are told.")),
    responses(
        (status = 200, description = "Messages `status` and `event`, each with JSON, and `tick`.",
            body = String, content_type = "text/event-stream"),
        (status = 503, description = "There are too many streams.", body = String,
            content_type = "text/plain"),
    )
)]
pub(crate) async fn stream(State(web): State<Web>, headers: HeaderMap) -> Response {
    let Ok(permit) = std::sync::Arc::clone(&web.streams).try_acquire_owned() else {
        let why = "there are as many streams as failsoft serves\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (sender, messages) = mpsc::channel(WAITING);
    let stop = web.stop.clone();
    tokio::spawn(stop.run_until_cancelled_owned(feed(web, sender, known, permit)));
    Sse::new(ReceiverStream::new(messages)).keep_alive(KeepAlive::default()).into_response()
}

/// Sends what changes until the client has gone.
async fn feed(web: Web, sender: Messages, known: Option<u64>, _permit: OwnedSemaphorePermit) {
    let (mut views, mut latest) = (web.console.control.views(), web.console.control.latest_event());
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<Status> = None;
    let newest = *latest.borrow_and_update();
    let mut last_event = known.unwrap_or(newest);
    loop {
        for event in web.console.events_after(last_event).into_iter().rev() {
            last_event = event.number;
            let message = Message::default().event("event").id(event.number.to_string());
            if !send(&sender, message, &event).await {
                return;
            }
        }
        let status = web.console.status();
        if !told.as_mut().is_some_and(|told| is_same(told, &status)) {
            if !send(&sender, Message::default().event("status"), &status).await {
                return;
            }
            told = Some(status);
        }
        tokio::time::sleep(AT_LEAST).await;
        tokio::select! {
            _ = views.changed() => {}
            _ = latest.changed() => {}
            // A browser that hears nothing cannot tell a network that is cut from one that is quiet.
            _ = clock.tick() => {
                if sender.send(Ok(Message::default().event("tick").data("-"))).await.is_err() {
                    return;
                }
            }
            () = sender.closed() => return,
        }
    }
}

async fn send(sender: &Messages, message: Message, data: &impl serde::Serialize) -> bool {
    let Ok(message) = message.json_data(data) else { return true };
    sender.send(Ok(message)).await.is_ok()
}

/// Whether nothing is different but the time.
fn is_same(told: &mut Status, now: &Status) -> bool {
    told.uptime_s = now.uptime_s;
    told == now
}
