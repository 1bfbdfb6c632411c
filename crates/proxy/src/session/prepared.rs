//! Statements prepared through the binary protocol, across a change of server.

use policy::session::Pins;
use sql::Kind;
use wire::command::{self, Command};
use wire::frame::{HEADER_LEN, Header, join_frames, put_packet};
use wire::prepared::{
    BulkTypes, CURSOR_FLAGS, PREPARE_OK_LEN, PrepareOk, Types, bulk_types, execute_types,
    set_statement_id, statement_id, with_bulk_types,
};
use wire::reply::ReplyEnd;
use wire::status::{CURSOR_EXISTS, LAST_ROW_SENT};

use super::commands::request;
use super::state::{Prepared, command_statement};
use super::statement::{Request, Step};
use super::unavailable::verbatim;
use super::{Flow, Session};
use crate::backend::Loss;
use crate::backend::restore::{self, RestoreError};
use crate::refusal;

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
                Some(known) => return Ok(*known),
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
        let limit = self.worker.settings.connect_timeout;
        let way = restore::Schemas { prepared: &schema, current: &current };
        let preparing = restore::prepare(backend, &prepared.sql, way, self.carried.deprecate_eof);
        let ok = restore::within(limit, preparing).await?;
        backend.prepared.insert(id, ok.id);
        Ok(ok.id)
    }

    /// Clients send the types of parameters with the first execution only. A server that has not
    /// seen that is given them.
    fn complete_types(&mut self, id: u32) {
        let attributes =
            self.client.capabilities.contains(wire::capabilities::Capabilities::QUERY_ATTRIBUTES);
        let here = self.backend.as_ref().map(|backend| (backend.server, backend.id));
        let Some(prepared) = self.carried.prepared.get(&id) else { return };
        // A packet that is cut short is the server's to refuse.
        let Ok(types) = execute_types(self.payload(), prepared.parameters, attributes) else {
            return;
        };
        let known = prepared.types_known_to == here;
        match types {
            Types::None => {}
            Types::Sent { flag_at, end } => {
                let sent = self.payload().get(flag_at..end).unwrap_or_default().to_vec();
                if let Some(prepared) = self.carried.prepared.get_mut(&id) {
                    prepared.types = sent;
                    prepared.types_known_to = here;
                }
            }
            Types::AsBefore { .. } if known || prepared.types.is_empty() => {}
            Types::AsBefore { flag_at } => {
                let types = prepared.types.clone();
                self.insert_types(flag_at, &types);
                if let Some(prepared) = self.carried.prepared.get_mut(&id) {
                    prepared.types_known_to = here;
                }
            }
        }
    }

    /// The same for a bulk execution, which says with a flag whether types follow.
    fn complete_bulk_types(&mut self, id: u32) {
        let here = self.backend.as_ref().map(|backend| (backend.server, backend.id));
        let Some(prepared) = self.carried.prepared.get(&id) else { return };
        let Ok(types) = bulk_types(self.payload(), prepared.parameters) else { return };
        match types {
            BulkTypes::Sent { at, end } => {
                let sent = self.payload().get(at..end).unwrap_or_default();
                let types = [&[1], sent].concat();
                if let Some(prepared) = self.carried.prepared.get_mut(&id) {
                    prepared.types = types;
                    prepared.types_known_to = here;
                }
            }
            BulkTypes::AsBefore if prepared.types_known_to == here => {}
            BulkTypes::AsBefore => {
                let Some((_, types)) = prepared.types.split_first() else { return };
                let types = types.to_vec();
                self.replace_payload(|payload| with_bulk_types(payload, &types));
                if let Some(prepared) = self.carried.prepared.get_mut(&id) {
                    prepared.types_known_to = here;
                }
            }
        }
    }

    /// Puts `types`, with the byte that says that they follow, in place of the byte at `flag_at` of
    /// the payload that says that they do not.
    fn insert_types(&mut self, flag_at: usize, types: &[u8]) {
        self.replace_payload(|payload| {
            let (before, after) = payload.split_at(flag_at.min(payload.len()));
            [before, types, after.get(1..).unwrap_or_default()].concat()
        });
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
        if backend.buffer.get(HEADER_LEN) != Some(&0) || len < PREPARE_OK_LEN {
            return Ok(());
        }
        backend.read_at_least(HEADER_LEN + 9).await?;
        let payload = backend.buffer.get_mut(HEADER_LEN..).unwrap_or_default();
        let ok = PrepareOk::parse(payload).map_err(|error| Loss(error.to_string()))?;
        set_statement_id(payload, id);
        backend.prepared.insert(id, ok.id);
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
        let Some(backend) = &mut self.backend else { return Flow::On };
        let Some(server_id) = backend.prepared.remove(&id) else { return Flow::On };
        set_statement_id(self.input.get_mut(HEADER_LEN..).unwrap_or_default(), server_id);
        let bytes = self.input.get(..self.command_len).unwrap_or_default();
        if let Err(loss) = backend.send(bytes, &mut 0).await {
            self.lose(&loss);
        }
        Flow::On
    }

    /// A statement id that was never given out, or was closed: the server is asked all the same, so
    /// that what it remembers as the session's last error is that.
    pub(super) async fn pass_unknown_statement(&mut self, known: &'static Command) -> Flow {
        let id = match statement_id(self.payload()) {
            Ok(id) => id,
            Err(error) => {
                self.tell(&refusal::malformed(&error.to_string())).await;
                return Flow::End;
            }
        };
        let theirs = self.backend.as_ref().map(|backend| &backend.prepared);
        let unknown = unknown_id(id, |id| {
            theirs.is_some_and(|prepared| prepared.values().any(|theirs| *theirs == id))
        });
        set_statement_id(self.input.get_mut(HEADER_LEN..).unwrap_or_default(), unknown);
        self.pass(request(known, command_statement(Kind::Session, known.name), None)).await
    }
}

/// The id that a client gave, or where that is one of the server's the next that is not. -1 means
/// something to MariaDB.
fn unknown_id(given: u32, is_known: impl Fn(u32) -> bool) -> u32 {
    let given = if given == u32::MAX { LAST_ID } else { given };
    (0..=given).rev().chain(given..=LAST_ID).find(|id| !is_known(*id)).unwrap_or(LAST_ID)
}

/// The largest id that is one.
const LAST_ID: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_is_none_of_the_servers() {
        let known = |id: u32| matches!(id, 0..=3 | 7 | LAST_ID);
        for (given, expected) in
            [(5, 5), (7, 6), (2, 4), (LAST_ID, LAST_ID - 1), (u32::MAX, LAST_ID - 1)]
        {
            assert_eq!(unknown_id(given, known), expected, "{given}");
        }
    }
}
