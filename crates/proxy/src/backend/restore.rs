//! Giving a session's state to another server.

use std::rc::Rc;
use std::time::Duration;

use policy::route::Access;
use wire::capabilities::Capabilities;
use wire::command::{self, ReplyKind};
use wire::definitions::Definitions;
use wire::error::ServerError;
use wire::frame::{HEADER_LEN, Header, put_packet, whole_packet};
use wire::lenenc::Cursor;
use wire::prepared::{PREPARE_OK_LEN, PrepareOk, is_prepare_ok};
use wire::reply::{Progress, ReplyEnd, ReplyTracker};
use wire::track::Changes;

use super::{Backend, Known, Loss};
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

/// The schemas that matter to a session that is restored; empty for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    /// The one that the connection logged in with.
    pub(crate) login: &'a [u8],
    /// The one that it is to be in.
    pub(crate) current: &'a [u8],
}

/// Restores a session's settings on a fresh connection, and locks it against writes where it is for
/// reads. All in one round trip, unless statements were prepared between the settings.
pub(crate) async fn restore(
    backend: &mut Backend,
    carried: &Carried,
    home: Home<'_>,
    access: Access,
) -> Result<(), RestoreError> {
    let mut batch = Batch::default();
    if carried.was_reset {
        batch.command(&[command::RESET_CONNECTION]);
    }
    if let Some(on) = carried.multi_statements {
        let [low, high] = u16::from(!on).to_le_bytes();
        batch.command(&[command::SET_OPTION, low, high]);
    }
    let mut schema = home.login;
    let mut waiting = carried.prepared_in_turn().into_iter().peekable();
    for setting in carried.settings.iter() {
        while let Some((_, id)) = waiting.next_if(|(at, _)| *at < setting.at) {
            batch.ask(backend).await?;
            schema = prepare_early(backend, carried, id, Home { login: schema, ..home }).await?;
        }
        // There is no way back to no schema.
        let wanted = setting.schema.as_deref().filter(|_| !home.current.is_empty());
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty() && *wanted != schema) {
            batch.schema(wanted, MayBeGone::Yes);
            schema = wanted;
        }
        batch.query(backend, &setting.sql);
    }
    for (_, id) in waiting {
        batch.ask(backend).await?;
        schema = prepare_early(backend, carried, id, Home { login: schema, ..home }).await?;
    }
    if !home.current.is_empty() && (schema != home.current || carried.has_to_choose_last()) {
        let may_be_gone = if schema.is_empty() { MayBeGone::Yes } else { MayBeGone::No };
        batch.schema(home.current, may_be_gone);
    }
    if access == Access::Read {
        batch.query(backend, SECOND_LOCK);
    }
    batch.ask(backend).await
}

/// Prepares a statement in its turn among the settings, since it would be another after them; yields
/// the schema that the connection is in. One that cannot be prepared any more is left for the client
/// to hear of it.
async fn prepare_early<'a>(
    backend: &mut Backend,
    carried: &'a Carried,
    id: u32,
    home: Home<'a>,
) -> Result<&'a [u8], RestoreError> {
    let Some(prepared) = carried.prepared.get(&id) else { return Ok(home.login) };
    let mut schema = home.login;
    let mut batch = Batch::default();
    if prepared.schema != schema && !prepared.schema.is_empty() && !home.current.is_empty() {
        batch.schema(&prepared.schema, MayBeGone::Yes);
        schema = &prepared.schema;
        batch.ask(backend).await?;
    }
    match prepare_here(backend, &prepared.sql).await {
        Ok(known) => drop(backend.prepared.insert(id, known)),
        Err(RestoreError::Refused(_)) => {}
        Err(RestoreError::Lost(loss)) => return Err(loss.into()),
    }
    Ok(schema)
}

/// Commands of ours that are sent at once.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    replies: Vec<(ReplyKind, MayBeGone)>,
}

/// Whether what a command is about may be gone, so that the server may refuse it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MayBeGone {
    Yes,
    No,
}

impl Batch {
    /// Adds a command that is answered by a status.
    fn command(&mut self, payload: &[u8]) {
        put_packet(&mut self.bytes, 0, payload);
        self.replies.push((ReplyKind::Status, MayBeGone::No));
    }

    /// Adds the choice of a schema.
    fn schema(&mut self, schema: &[u8], may_be_gone: MayBeGone) {
        put_packet(&mut self.bytes, 0, &[&[command::INIT_DB], schema].concat());
        self.replies.push((ReplyKind::Status, may_be_gone));
    }

    fn query(&mut self, backend: &Backend, sql: &[u8]) {
        backend.put_query(sql, &mut self.bytes);
        self.replies.push((ReplyKind::Results, MayBeGone::No));
    }

    /// Sends all of it and waits for the replies.
    ///
    /// Over a compressed connection a server writes a reply over what it has read ahead: commands that
    /// came with one whose OK is longer than they are, since it tells of changes, are lost then (seen
    /// on MariaDB 10.11). There they go one by one.
    async fn ask(&mut self, backend: &mut Backend) -> Result<(), RestoreError> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.bytes);
        for (reply, may_be_gone) in self.replies.drain(..) {
            let next = match backend.stream.is_compressed() {
                true => whole_packet(&rest).map_or(rest.len(), |(len, _)| len),
                false => rest.len(),
            };
            if next > 0 {
                backend.send(rest.get(..next).unwrap_or_default(), &mut 0).await?;
                rest.drain(..next);
            }
            match swallow(backend, reply).await {
                Err(RestoreError::Refused(_)) if may_be_gone == MayBeGone::Yes => {}
                swallowed => drop(swallowed?),
            }
        }
        Ok(())
    }
}

/// Locks a connection for reads against writes again, after a client changed the transaction
/// characteristics itself.
///
/// `once` says that the client set those of its next transaction, too.
pub(crate) async fn lock(backend: &mut Backend, once: bool) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    backend.put_query(SECOND_LOCK, &mut bytes);
    backend.send(&bytes, &mut 0).await?;
    swallow(backend, ReplyKind::Results).await?;
    if once {
        bytes.clear();
        backend.put_query(LOCK_NEXT, &mut bytes);
        backend.send(&bytes, &mut 0).await?;
        // Refused within a transaction (1568), where the client's own was refused as well.
        match swallow(backend, ReplyKind::Results).await {
            Err(RestoreError::Lost(loss)) => return Err(loss.into()),
            Ok(_) | Err(RestoreError::Refused(_)) => {}
        }
    }
    Ok(())
}

/// Runs a statement that has no rows.
pub(crate) async fn run(backend: &mut Backend, sql: &[u8]) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    backend.put_query(sql, &mut bytes);
    backend.send(&bytes, &mut 0).await?;
    swallow(backend, ReplyKind::Results).await?;
    Ok(())
}

/// Puts a connection back to what it was after its login, which named this schema
/// (P: page_protocol_com_reset_connection).
pub(crate) async fn reset(backend: &mut Backend, schema: &[u8]) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[command::RESET_CONNECTION]);
    backend.send(&bytes, &mut 0).await?;
    let end = swallow(backend, ReplyKind::Status).await?;
    backend.status = end.status.unwrap_or(backend.status);
    // The schema stays, and its character set does not.
    if !schema.is_empty() {
        choose_schema(backend, schema).await?;
    }
    Ok(())
}

/// What the server runs for each client that logs in; none where it does not say.
pub(crate) async fn setting_of_init_connect(
    backend: &mut Backend,
) -> Result<Option<Vec<u8>>, RestoreError> {
    value(backend, b"SELECT @@GLOBAL.init_connect").await
}

/// The last insert id that the connection's session had; none where the server does not say.
pub(crate) async fn insert_id(backend: &mut Backend) -> Result<Option<u64>, RestoreError> {
    let value = value(backend, b"SELECT LAST_INSERT_ID()").await?;
    Ok(value.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()))
}

/// Gives the connection a last insert id, as it would be after an insert
/// (<https://mariadb.com/kb/en/server-system-variables/#last_insert_id>; M: the variable of that name).
pub(crate) async fn set_insert_id(backend: &mut Backend, id: u64) -> Result<(), RestoreError> {
    run(backend, format!("SET last_insert_id = {id}").as_bytes()).await
}

/// The value that a query of one value has.
async fn value(backend: &mut Backend, sql: &[u8]) -> Result<Option<Vec<u8>>, RestoreError> {
    let mut bytes = Vec::new();
    backend.put_query(sql, &mut bytes);
    backend.send(&bytes, &mut 0).await?;
    let mut reply = Vec::new();
    let mut tracker = ReplyTracker::new(ReplyKind::Results, backend.agreed);
    read_reply(backend, &mut tracker, |bytes| reply.extend(bytes)).await?;
    Ok(last_row(&reply)
        .and_then(|row| Cursor::new(row).lenenc_bytes("a value").ok())
        .map(<[u8]>::to_vec))
}

/// The last row of a result, which its end follows.
fn last_row(mut reply: &[u8]) -> Option<&[u8]> {
    let (mut row, mut last) = (None, None);
    while let Some((len, _)) = whole_packet(reply) {
        let (packet, rest) = reply.split_at_checked(len)?;
        (row, last, reply) = (last, packet.get(HEADER_LEN..), rest);
    }
    row
}

/// Asks for the status flags after a statement that failed, by an option that is set to what it is.
///
/// A ping would do, but for `ROW_COUNT()`: it is 0 after one, and -1 after this as after an error
/// (seen on MariaDB 10.11 and MySQL 9.7). With the flags comes what the server had not said yet of
/// changes in the session.
pub(crate) async fn status(
    backend: &mut Backend,
    multi_statements: bool,
) -> Result<(u16, Option<Box<Changes>>), RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[command::SET_OPTION, u8::from(!multi_statements), 0]);
    backend.send(&bytes, &mut 0).await?;
    let mut tracker = ReplyTracker::new(ReplyKind::Status, backend.agreed);
    let end = read_reply(backend, &mut tracker, |_| {}).await?;
    let no_status = || Loss("the answer to an option has no status".to_owned());
    Ok((end.status.ok_or_else(no_status)?, tracker.take_changes()))
}

/// The schemas that matter to a statement that is prepared again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schemas<'a> {
    /// The one it was prepared in; empty for none that is known here.
    pub(crate) prepared: &'a [u8],
    /// The one that the connection is in; empty for none.
    pub(crate) current: &'a [u8],
}

/// Prepares a statement again.
///
/// A statement keeps the schema that was the current one when it was prepared (seen on MySQL 9.7
/// and MariaDB 10.11), so it is prepared in that, and the connection then returns to `current`. Of a
/// statement prepared without a schema, all names have one of their own.
pub(crate) async fn prepare(
    backend: &mut Backend,
    sql: &[u8],
    Schemas { prepared, current }: Schemas<'_>,
) -> Result<Known, RestoreError> {
    if prepared.is_empty() || prepared == current {
        return prepare_here(backend, sql).await;
    }
    choose_schema(backend, prepared).await?;
    let known = prepare_here(backend, sql).await;
    if current.is_empty() {
        backend.in_schema = false;
    } else {
        let back = choose_schema(backend, current).await;
        // In another schema than the client thinks the connection must not be used.
        back.map_err(|error| Loss(error.to_string()))?;
    }
    known
}

async fn choose_schema(backend: &mut Backend, schema: &[u8]) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[&[command::INIT_DB], schema].concat());
    backend.send(&bytes, &mut 0).await?;
    swallow(backend, ReplyKind::Status).await?;
    Ok(())
}

async fn prepare_here(backend: &mut Backend, sql: &[u8]) -> Result<Known, RestoreError> {
    let mut bytes = Vec::new();
    put_packet(&mut bytes, 0, &[&[command::STMT_PREPARE], sql].concat());
    backend.send(&bytes, &mut 0).await?;
    backend.read_at_least(HEADER_LEN + 1).await?;
    if backend.buffer.get(HEADER_LEN) == Some(&0xff) {
        return Err(refusal(backend).await?);
    }
    if Header::peek(&backend.buffer).is_none_or(|header| !is_prepare_ok(header.payload_len)) {
        return Err(Loss("the server did not prepare the statement again".to_owned()).into());
    }
    backend.read_at_least(HEADER_LEN + PREPARE_OK_LEN).await?;
    let payload = backend.buffer.get(HEADER_LEN..).unwrap_or_default();
    let prepared = PrepareOk::parse(payload).map_err(|error| Loss(error.to_string()))?;
    // What the server sends now it may take for known to the client later.
    if prepared.columns == 0 || !backend.agreed.contains(Capabilities::MARIADB_CACHE_METADATA) {
        swallow(backend, ReplyKind::Prepared).await?;
        return Ok(Known { id: prepared.id, definitions: None, has_types: false });
    }
    let mut reply = Vec::new();
    let mut tracker = ReplyTracker::new(ReplyKind::Prepared, backend.agreed);
    read_reply(backend, &mut tracker, |bytes| reply.extend(bytes)).await?;
    let Some(definitions) = Definitions::of_preparation(&reply, backend.agreed) else {
        return Err(Loss("the definitions of columns are cut short".to_owned()).into());
    };
    Ok(Known { id: prepared.id, definitions: Some(Rc::new(definitions)), has_types: false })
}

/// Reads a reply that is nobody's but ours.
async fn swallow(backend: &mut Backend, kind: ReplyKind) -> Result<ReplyEnd, RestoreError> {
    read_reply(backend, &mut ReplyTracker::new(kind, backend.agreed), |_| {}).await
}

/// Reads a reply that does not go to the client, and shows what it consists of.
async fn read_reply(
    backend: &mut Backend,
    tracker: &mut ReplyTracker,
    mut show: impl FnMut(&[u8]),
) -> Result<ReplyEnd, RestoreError> {
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
        show(&backend.buffer.split_to(used));
        match progress {
            // The beginning of a packet stays until there is more of it.
            Progress::More if !backend.buffer.is_empty() => backend.read().await?,
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
        if let Some((len, sequence)) = whole_packet(&backend.buffer) {
            // Answers are numbered from 1: this is no answer, but a farewell.
            if sequence == 0 {
                return Err(Loss(backend.farewell()));
            }
            let packet = backend.buffer.split_to(len);
            let payload = packet.get(HEADER_LEN..).unwrap_or_default();
            let error = ServerError::parse(payload).map_err(|error| Loss(error.to_string()))?;
            return Ok(RestoreError::Refused(error));
        }
        backend.read().await?;
    }
}
