//! Giving a session's state to another server.

use std::time::Duration;

use policy::route::Access;
use wire::command::{self, ReplyKind};
use wire::error::ServerError;
use wire::frame::{HEADER_LEN, Header, put_packet, whole_packet};
use wire::prepared::{PREPARE_OK_LEN, PrepareOk};
use wire::reply::{Progress, ReplyEnd, ReplyTracker};

use super::{Backend, Loss};
use crate::session::state::Carried;

/// The second lock: a write that slipped through is refused by the server itself, with 1792.
const SECOND_LOCK: &[u8] = b"SET SESSION TRANSACTION READ ONLY";

/// The same for the next transaction only.
const LOCK_NEXT: &[u8] = b"SET TRANSACTION READ ONLY";

/// Why a session's state could not be restored.
#[derive(Debug)]
pub(crate) enum RestoreError {
    /// The connection is lost.
    Lost(Loss),
    /// The server refused a part of it.
    Refused(ServerError),
}

impl From<Loss> for RestoreError {
    fn from(loss: Loss) -> Self {
        Self::Lost(loss)
    }
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(loss) => f.write_str(&loss.0),
            Self::Refused(error) => write!(f, "restoring the session: {error}"),
        }
    }
}

/// Bounds what is asked of a server on the session's behalf: one that does not answer within `limit`
/// is lost.
pub(crate) async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, RestoreError>>,
) -> Result<T, RestoreError> {
    let late = |_| Err(Loss(format!("timed out after {limit:?}")).into());
    tokio::time::timeout(limit, asking).await.unwrap_or_else(late)
}

/// Restores a session's settings on a fresh connection, and locks it against writes where it is for
/// reads. All in one round trip.
pub(crate) async fn restore(
    backend: &mut Backend,
    carried: &Carried,
    access: Access,
) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    if carried.was_reset {
        put_packet(&mut bytes, 0, &[command::RESET_CONNECTION]);
        replies.push(ReplyKind::Status);
    }
    if let Some(on) = carried.multi_statements {
        let [low, high] = u16::from(!on).to_le_bytes();
        put_packet(&mut bytes, 0, &[command::SET_OPTION, low, high]);
        replies.push(ReplyKind::Status);
    }
    let lock = (access == Access::Read).then_some(SECOND_LOCK);
    for sql in carried.settings.iter().map(|setting| setting.sql.as_slice()).chain(lock) {
        backend.put_query(sql, &mut bytes);
        replies.push(ReplyKind::Results);
    }
    if replies.is_empty() {
        return Ok(());
    }
    backend.send(&bytes, &mut 0).await?;
    for reply in replies {
        swallow(backend, reply, carried.deprecate_eof).await?;
    }
    Ok(())
}

/// Locks a connection for reads against writes again, after a client changed the transaction
/// characteristics itself.
///
/// `once` says that the client set those of its next transaction, too.
pub(crate) async fn lock(
    backend: &mut Backend,
    carried: &Carried,
    once: bool,
) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    backend.put_query(SECOND_LOCK, &mut bytes);
    if once {
        backend.put_query(LOCK_NEXT, &mut bytes);
    }
    backend.send(&bytes, &mut 0).await?;
    swallow(backend, ReplyKind::Results, carried.deprecate_eof).await?;
    if once {
        // Refused within a transaction (1568), where the client's own was refused as well.
        match swallow(backend, ReplyKind::Results, carried.deprecate_eof).await {
            Err(RestoreError::Lost(loss)) => return Err(loss.into()),
            Ok(_) | Err(RestoreError::Refused(_)) => {}
        }
    }
    Ok(())
}

/// Runs a statement that has no rows.
pub(crate) async fn run(
    backend: &mut Backend,
    sql: &[u8],
    deprecate_eof: bool,
) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    backend.put_query(sql, &mut bytes);
    backend.send(&bytes, &mut 0).await?;
    swallow(backend, ReplyKind::Results, deprecate_eof).await?;
    Ok(())
}

/// Asks for the status flags after a statement that failed, by an option that is set to what it is.
///
/// A ping would do, but for `ROW_COUNT()`: it is 0 after one, and -1 after this as after an error
/// (seen on MariaDB 10.11 and MySQL 9.7).
pub(crate) async fn status(
    backend: &mut Backend,
    multi_statements: bool,
    deprecate_eof: bool,
) -> Result<u16, RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[command::SET_OPTION, u8::from(!multi_statements), 0]);
    backend.send(&bytes, &mut 0).await?;
    let end = swallow(backend, ReplyKind::Status, deprecate_eof).await?;
    end.status.ok_or_else(|| Loss("the answer to an option has no status".to_owned()).into())
}

/// The schemas that matter to a statement that is prepared again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schemas<'a> {
    /// The one it was prepared in; empty for none that is known here.
    pub(crate) prepared: &'a [u8],
    /// The one that the connection is in; empty for none.
    pub(crate) current: &'a [u8],
}

/// Prepares a statement again; yields the server's id of it.
///
/// A statement keeps the schema that was the current one when it was prepared (seen on MySQL 9.7
/// and MariaDB 10.11), so it is prepared in that, and the connection then returns to `current`. Of a
/// statement prepared without a schema, all names have one of their own.
pub(crate) async fn prepare(
    backend: &mut Backend,
    sql: &[u8],
    Schemas { prepared, current }: Schemas<'_>,
    deprecate_eof: bool,
) -> Result<PrepareOk, RestoreError> {
    if prepared.is_empty() || prepared == current {
        return prepare_here(backend, sql, deprecate_eof).await;
    }
    choose_schema(backend, prepared, deprecate_eof).await?;
    let ok = prepare_here(backend, sql, deprecate_eof).await;
    if !current.is_empty() {
        let back = choose_schema(backend, current, deprecate_eof).await;
        // In another schema than the client thinks the connection must not be used.
        back.map_err(|error| Loss(error.to_string()))?;
    }
    ok
}

async fn choose_schema(
    backend: &mut Backend,
    schema: &[u8],
    deprecate_eof: bool,
) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[&[command::INIT_DB], schema].concat());
    backend.send(&bytes, &mut 0).await?;
    swallow(backend, ReplyKind::Status, deprecate_eof).await?;
    Ok(())
}

async fn prepare_here(
    backend: &mut Backend,
    sql: &[u8],
    deprecate_eof: bool,
) -> Result<PrepareOk, RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[&[command::STMT_PREPARE], sql].concat());
    backend.send(&bytes, &mut 0).await?;
    backend.read_at_least(HEADER_LEN + 1).await?;
    if backend.buffer.get(HEADER_LEN) == Some(&0xff) {
        return Err(refusal(backend).await?);
    }
    if Header::peek(&backend.buffer).is_none_or(|header| header.payload_len < PREPARE_OK_LEN) {
        return Err(Loss("the server did not prepare the statement again".to_owned()).into());
    }
    backend.read_at_least(HEADER_LEN + PREPARE_OK_LEN).await?;
    let payload = backend.buffer.get(HEADER_LEN..).unwrap_or_default();
    let prepared = PrepareOk::parse(payload).map_err(|error| Loss(error.to_string()))?;
    swallow(backend, ReplyKind::Prepared, deprecate_eof).await?;
    Ok(prepared)
}

/// Reads a reply that is nobody's but ours.
async fn swallow(
    backend: &mut Backend,
    kind: ReplyKind,
    deprecate_eof: bool,
) -> Result<ReplyEnd, RestoreError> {
    let mut tracker = ReplyTracker::new(kind, deprecate_eof);
    loop {
        backend.read_at_least(1).await?;
        if tracker.is_at_start() {
            backend.read_at_least(HEADER_LEN + 1).await?;
            if backend.buffer.get(HEADER_LEN) == Some(&0xff) {
                return Err(refusal(backend).await?);
            }
        }
        let (used, progress) =
            tracker.feed(&backend.buffer).map_err(|error| Loss(error.to_string()))?;
        let _reply = backend.buffer.split_to(used);
        match progress {
            Progress::More => {}
            Progress::Done(end) if end.error.is_some() => {
                return Err(Loss("a part of its state was refused".to_owned()).into());
            }
            Progress::Done(end) => return Ok(end),
            Progress::ClientTurn => {
                return Err(Loss("the server asks for a file".to_owned()).into());
            }
        }
    }
}

/// The error at the front of the buffer.
async fn refusal(backend: &mut Backend) -> Result<RestoreError, Loss> {
    loop {
        if let Some((len, _)) = whole_packet(&backend.buffer) {
            let packet = backend.buffer.split_to(len);
            let payload = packet.get(HEADER_LEN..).unwrap_or_default();
            let error = ServerError::parse(payload).map_err(|error| Loss(error.to_string()))?;
            return Ok(RestoreError::Refused(error));
        }
        backend.read().await?;
    }
}
