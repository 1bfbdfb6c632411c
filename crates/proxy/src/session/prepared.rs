//! Statements prepared through the binary protocol, across a change of server.

use policy::session::Pins;
use sql::Kind;
use wire::command::{self, Command};
use wire::frame::{HEADER_LEN, Header, join_frames, put_packet};
use wire::prepared::{
    BulkTypes, CURSOR_FLAGS, PrepareOk, Types, bulk_types, execute_types, is_prepare_ok,
    keep_own_types, set_statement_id, statement_id, with_bulk_types, with_types,
};
use wire::reply::ReplyEnd;
use wire::status::{CURSOR_EXISTS, LAST_ROW_SENT};

use super::commands::request;
use super::state::{Prepared, command_statement};
use super::statement::{Request, Step};
use super::unavailable::verbatim;
use super::{Flow, Session};
use crate::backend::restore::{self, RestoreError};
use crate::backend::{Known, Loss};
use crate::refusal;
use crate::relay::Reply;

/// An id that no server gives out. What the client gave may be the server's id of some other statement,
/// and of one that a query prepared (`PREPARE … FROM`) only the server knows the id; it runs that one
/// for its id if it was prepared last (seen on MySQL 9.7). -1 means something to MariaDB.
const NO_STATEMENT: u32 = u32::MAX - 1;

/// Servers count from 1, and no connection lives until it has had so many statements: ids from here on
/// name none, and go as they are, as the server's error names them.
const NEVER_GIVEN: u32 = 1 << 30;

/// The error for a statement that a server does not take in this way.
const UNSUPPORTED: u16 = 1295;

impl Session {
    /// The prepared statement that the present command names. MariaDB's clients call the one they
    /// prepared last -1, before they know its id
    /// (<https://mariadb.com/kb/en/com_stmt_execute/>).
    pub(super) fn named_statement(&self) -> Option<(u32, &Prepared)> {
        let id = match statement_id(self.payload()).ok()? {
            u32::MAX => self.carried.latest?,
            id => id,
        };
        self.carried.prepared.get(&id).map(|prepared| (id, prepared))
    }

    /// Makes sure that the server in hand knows the statement that the command is about, and writes
    /// the server's id of it into the command.
    pub(super) async fn ready_prepared(&mut self, request: &Request) -> Result<(), Step> {
        let Some(id) = request.prepared else { return Ok(()) };
        let executes = request.code == command::STMT_EXECUTE;
        if let Some(prepared) = self.carried.prepared.get_mut(&id).filter(|_| executes)
            && std::mem::take(&mut prepared.long_data_lost)
        {
            return Err(Step::Answered(self.tell(&refusal::long_data_lost()).await));
        }
        let server_id = match self.prepare_here(id).await {
            Ok(server_id) => server_id,
            Err(RestoreError::Lost(loss)) => {
                self.lose(&loss);
                return Err(Step::Again { sent: false });
            }
            Err(RestoreError::Refused(error)) => {
                if executes {
                    self.note_types(id);
                }
                return Err(Step::Answered(self.tell(&verbatim(&error)).await));
            }
        };
        match request.code {
            command::STMT_EXECUTE => self.complete_types(id),
            command::STMT_BULK_EXECUTE => self.complete_bulk_types(id),
            _ => {}
        }
        set_statement_id(self.input.get_mut(HEADER_LEN..).unwrap_or_default(), server_id);
        Ok(())
    }

    /// The server's id of a statement, which is prepared there if it is not yet.
    pub(super) async fn prepare_here(&mut self, id: u32) -> Result<u32, RestoreError> {
        let no_connection = || RestoreError::Lost(Loss("there is no connection".to_owned()));
        let server = match &self.backend {
            Some(backend) => match backend.prepared.get(&id) {
                Some(known) => return Ok(known.id),
                None => backend.server,
            },
            None => return Err(no_connection()),
        };
        let current = self.schema_on(server).to_vec();
        let schema = self.carried.prepared.get(&id).map(|prepared| prepared.schema.as_slice());
        // Of another partition's schema nothing is in a statement that belongs here.
        let schema = self.known_on(server, schema.unwrap_or_default()).to_vec();
        let (Some(backend), Some(prepared)) = (&mut self.backend, self.carried.prepared.get(&id))
        else {
            return Err(no_connection());
        };
        let limit = self.worker.connect_timeout();
        let way = restore::Schemas { prepared: &schema, current: &current };
        let preparing = restore::prepare(backend, &prepared.sql, way);
        let known = Box::pin(restore::within(limit, preparing)).await?;
        let server_id = known.id;
        backend.prepared.insert(id, known);
        Ok(server_id)
    }

    /// Takes note of what the client was given of the definitions that the server takes for known.
    pub(super) fn note_definitions(&mut self, request: &Request, reply: &Reply) {
        if reply.gave_definitions()
            && let (Some(backend), Some(id)) = (&mut self.backend, request.prepared)
            && let Some(known) = backend.prepared.get_mut(&id)
        {
            known.definitions = None;
        }
    }

    /// Whether the server in hand has seen the types of a statement's parameters that are kept.
    fn has_types(&self, id: u32) -> bool {
        let known = self.backend.as_ref().and_then(|backend| backend.prepared.get(&id));
        known.is_some_and(|known| known.has_types)
    }

    fn set_has_types(&mut self, id: u32, has_types: bool) {
        let backend = self.backend.as_mut();
        if let Some(known) = backend.and_then(|backend| backend.prepared.get_mut(&id)) {
            known.has_types = has_types;
        }
    }

    /// Takes note of the types in the present execution of a statement; yields what it says of types. A
    /// packet that is cut short is the server's to refuse.
    fn note_types(&mut self, id: u32) -> Types {
        let attributes =
            self.client.capabilities.contains(wire::capabilities::Capabilities::QUERY_ATTRIBUTES);
        let Some(prepared) = self.carried.prepared.get(&id) else { return Types::None };
        let parameters = prepared.parameters;
        let types = execute_types(self.payload(), parameters, attributes).unwrap_or(Types::None);
        if let Types::Sent { at, end, named } = types {
            let kept = self.carried.prepared.get_mut(&id);
            let mut own =
                kept.map(|prepared| std::mem::take(&mut prepared.types)).unwrap_or_default();
            let sent = self.payload().get(at..end).unwrap_or_default();
            keep_own_types(sent, parameters, named, &mut own);
            if let Some(prepared) = self.carried.prepared.get_mut(&id) {
                prepared.types = own;
            }
            self.set_has_types(id, false);
        }
        types
    }

    /// Clients send the types of parameters with the first execution only. A server that has not
    /// seen that is given them.
    fn complete_types(&mut self, id: u32) {
        let types = self.note_types(id);
        let Some(prepared) = self.carried.prepared.get(&id) else { return };
        match types {
            Types::None => {}
            Types::Sent { .. } => self.set_has_types(id, true),
            Types::AsBefore { .. } if self.has_types(id) => {}
            // Of an attribute that comes without a type no server knows one.
            Types::AsBefore { count, .. } if prepared.types.len() != 2 * count => {}
            Types::AsBefore { flag_at, named, .. } => {
                let types = prepared.types.clone();
                self.set_has_types(id, true);
                self.replace_payload(|payload| with_types(payload, flag_at, &types, named));
            }
        }
    }

    /// The same for a bulk execution, which says with a flag whether types follow.
    fn complete_bulk_types(&mut self, id: u32) {
        let Some(prepared) = self.carried.prepared.get(&id) else { return };
        let Ok(BulkTypes::AsBefore) = bulk_types(self.payload(), prepared.parameters) else {
            return;
        };
        if !self.has_types(id) && !prepared.types.is_empty() {
            let types = prepared.types.clone();
            self.replace_payload(|payload| with_bulk_types(payload, &types));
        }
    }

    /// Takes note of the types that a bulk execution brought. A server that does not take several
    /// rows for a statement has not looked at them (seen on MariaDB 10.11).
    pub(super) fn note_bulk_types(&mut self, id: u32, end: &ReplyEnd) {
        let Some(prepared) = self.carried.prepared.get(&id) else { return };
        let Ok(BulkTypes::Sent { at, end: behind }) =
            bulk_types(self.payload(), prepared.parameters)
        else {
            return;
        };
        let types = self.payload().get(at..behind).unwrap_or_default().to_vec();
        if let Some(prepared) = self.carried.prepared.get_mut(&id)
            && end.error != Some(UNSUPPORTED)
        {
            prepared.types = types;
            self.set_has_types(id, true);
        }
    }

    /// Puts another payload in place of the present command's.
    fn replace_payload(&mut self, other: impl FnOnce(&[u8]) -> Vec<u8>) {
        let command = self.input.split_to(self.command_len);
        let complete = other(&join_frames(&command));
        let mut framed = Vec::with_capacity(complete.len() + HEADER_LEN);
        put_packet(&mut framed, 0, &complete);
        self.command_len = framed.len();
        framed.extend(&self.input);
        self.input = framed.as_slice().into();
    }

    /// The reply to `COM_STMT_PREPARE` gives the server's id of the statement: it is remembered and
    /// failsoft's is put in its place.
    pub(super) async fn take_prepared(&mut self, request: &Request) -> Result<(), Loss> {
        let id = self.carried.next_prepared();
        let Some(backend) = &mut self.backend else { return Ok(()) };
        backend.read_at_least(HEADER_LEN + 1).await?;
        let len = Header::peek(&backend.buffer).map_or(0, |header| header.payload_len);
        if backend.buffer.get(HEADER_LEN) != Some(&0) || !is_prepare_ok(len) {
            return Ok(());
        }
        backend.read_at_least(HEADER_LEN + 9).await?;
        let payload = backend.buffer.get_mut(HEADER_LEN..).unwrap_or_default();
        let ok = PrepareOk::parse(payload).map_err(|error| Loss(error.to_string()))?;
        set_statement_id(payload, id);
        let known = Known { id: ok.id, definitions: None, has_types: false };
        backend.prepared.insert(id, known);
        let command = self.input.get(..self.command_len).unwrap_or_default();
        let sql = join_frames(command).get(1..).unwrap_or_default().to_vec();
        self.carried.add_prepared(sql, request.statement, ok.parameters);
        Ok(())
    }

    /// Takes note of the cursor that an execution or a fetch left open, and of long data used up.
    pub(super) fn note_cursor(&mut self, id: u32, end: &ReplyEnd, executed: bool) {
        let Some(prepared) = self.carried.prepared.get_mut(&id) else { return };
        let status = end.status.unwrap_or(0);
        if executed {
            prepared.has_long_data = false;
            prepared.has_cursor = status & CURSOR_EXISTS != 0;
        }
        if status & LAST_ROW_SENT != 0 {
            prepared.has_cursor = false;
        }
        self.settle_prepared_pins();
    }

    /// Whether an execution asks for a cursor.
    pub(super) fn asks_for_cursor(&self) -> bool {
        self.payload().get(5).is_some_and(|flags| flags & CURSOR_FLAGS != 0)
    }

    /// Sets the pins that follow from the statements' state.
    pub(super) fn settle_prepared_pins(&mut self) {
        let mut pins = self.pins.without(Pins::CURSOR).without(Pins::LONG_DATA);
        if self.carried.prepared.values().any(|prepared| prepared.has_cursor) {
            pins = pins.with(Pins::CURSOR);
        }
        if self.carried.prepared.values().any(|prepared| prepared.has_long_data) {
            pins = pins.with(Pins::LONG_DATA);
        }
        self.set_pins(pins);
    }

    /// `COM_STMT_CLOSE` has no reply, whatever comes of it.
    pub(super) async fn close_prepared(&mut self) -> Flow {
        let Some((id, _)) = self.named_statement() else { return Flow::On };
        self.carried.prepared.remove(&id);
        self.settle_prepared_pins();
        let Some(backend) = &mut self.backend else {
            self.parked.iter_mut().for_each(|parked| parked.stale.push(id));
            return Flow::On;
        };
        let Some(known) = backend.prepared.remove(&id) else { return Flow::On };
        set_statement_id(self.input.get_mut(HEADER_LEN..).unwrap_or_default(), known.id);
        let bytes = self.input.get(..self.command_len).unwrap_or_default();
        if let Err(loss) = backend.send(bytes, &mut 0).await {
            self.lose(&loss);
        }
        Flow::On
    }

    /// A statement id that was never given out, or was closed: the server is asked all the same, so
    /// that what it remembers as the session's last error is that.
    pub(super) async fn pass_unknown_statement(&mut self, known: &'static Command) -> Flow {
        let given = match statement_id(self.payload()) {
            Ok(id) => id,
            Err(error) => {
                self.tell(&refusal::malformed(&error.to_string())).await;
                return Flow::End;
            }
        };
        let unknown = match given {
            NEVER_GIVEN..=NO_STATEMENT => given,
            _ => NO_STATEMENT,
        };
        set_statement_id(self.input.get_mut(HEADER_LEN..).unwrap_or_default(), unknown);
        self.pass(request(known, command_statement(Kind::Session, known.name), None)).await
    }
}
