//! What is particular to each command.

use policy::partition::Place;
use policy::session::Pins;
use sql::{Effects, Kind, Statement};
use wire::capabilities::Capabilities;
use wire::command::{self, Command, ReplyKind};
use wire::frame::HEADER_LEN;
use wire::login::ChangeUser;
use wire::prepared::set_statement_id;
use wire::status::{AUTOCOMMIT, put_eof};

use super::commit::FailedCommit;
use super::memory::Memory;
use super::state::command_statement;
use super::statement::{Request, Served, Step};
use super::text::NEED_TEXT;
use super::{Flow, Session};
use crate::authenticate::{Claim, authenticate};
use crate::login::{LoginError, MOST_ATTRIBUTES, note_turned_away};
use crate::refusal;

impl Session {
    /// Serves the command at the front of the input.
    pub(super) async fn command(&mut self) -> Flow {
        if self.client.leash.is_condemned() {
            self.client.leash.settled().await;
        }
        if self.client.leash.end.is_cancelled() {
            // Who was killed is not told; what ends all sessions ends this one as well.
            if self.worker.halt.is_cancelled() {
                self.tell(&refusal::shutting_down()).await;
            }
            return Flow::End;
        }
        let Some(&code) = self.payload().first() else {
            self.tell(&refusal::malformed("an empty packet where a command is due")).await;
            return Flow::End;
        };
        let Some(known) = command::command(code) else {
            let name = format!("command {code:#04x}");
            self.tell(&refusal::unknown_command(&name)).await;
            return Flow::End;
        };
        match code {
            command::QUIT => Flow::End,
            command::QUERY => self.query().await,
            command::STMT_PREPARE => self.prepare().await,
            command::STMT_EXECUTE | command::STMT_BULK_EXECUTE => self.execute(known).await,
            command::STMT_SEND_LONG_DATA => self.long_data().await,
            command::STMT_FETCH => self.fetch(known).await,
            command::STMT_RESET => self.reset_statement(known).await,
            command::STMT_CLOSE => self.close_prepared().await,
            command::INIT_DB => self.init_db(known).await,
            command::PING => self.ping(known).await,
            command::SET_OPTION => self.set_option(known).await,
            command::RESET_CONNECTION => self.reset_connection(known).await,
            command::CHANGE_USER => Box::pin(self.change_user()).await,
            command::PROCESS_KILL => self.process_kill().await,
            _ => self.other(known).await,
        }
    }

    async fn query(&mut self) -> Flow {
        let (statement, text) = match self.read_statement(true) {
            Ok(read) => read,
            Err(what) => {
                self.tell(&refusal::malformed(&what)).await;
                return Flow::End;
            }
        };
        if statement.effects.contains(Effects::KILL)
            && let Some(flow) = self.kill_by_text().await
        {
            return flow;
        }
        let request = Request {
            code: command::QUERY,
            reply: ReplyKind::Results,
            statement,
            route_as: statement.class.kind,
            place: self.place(true),
            generation: self.worker.generation(),
            prepared: None,
            retried: false,
        };
        match self.serve(request).await {
            Served::Yes(end) => self.note(statement, &end, text.as_deref()).await,
            Served::No(flow) => flow,
        }
    }

    async fn prepare(&mut self) -> Flow {
        let (statement, _) = match self.read_statement(false) {
            Ok(read) => read,
            Err(what) => {
                self.tell(&refusal::malformed(&what)).await;
                return Flow::End;
            }
        };
        // Preparing changes nothing. But a write is refused in read-only mode already when it is
        // prepared: replicas that are locked against writes would refuse it in words of their own.
        let route_as = match statement.class.kind {
            writes @ (Kind::Write | Kind::LockingRead) => writes,
            _ => Kind::Read,
        };
        let request = Request {
            code: command::STMT_PREPARE,
            reply: ReplyKind::Prepared,
            statement: command_statement(Kind::Read, statement.class.because),
            route_as,
            place: self.place(false),
            generation: self.worker.generation(),
            prepared: None,
            retried: false,
        };
        let (id, dialect) = (self.carried.next_prepared(), self.dialect());
        self.carried.latest = None;
        let served = self.serve(request).await;
        if let Some(prepared) = self.carried.prepared.get_mut(&id) {
            prepared.statement = statement;
            prepared.dialect = dialect;
            prepared.place = request.place;
            prepared.generation = request.generation;
        }
        match served {
            Served::Yes(end) => match self.note_changes(Effects::NONE, end.error.is_some(), None) {
                true => self.lock_again(false).await,
                false => Flow::On,
            },
            Served::No(flow) => flow,
        }
    }

    async fn execute(&mut self, known: &'static Command) -> Flow {
        let Some((id, prepared)) = self.named_statement() else {
            return self.pass_unknown_statement(known).await;
        };
        let statement = prepared.statement;
        let needed = statement.effects.intersects(NEED_TEXT);
        // With parameters the text alone does not say what was set.
        let text = (needed && prepared.parameters == 0).then(|| prepared.sql.clone());
        let cursor = self.asks_for_cursor();
        let request = Request {
            code: known.code,
            reply: if cursor { ReplyKind::Cursor } else { ReplyKind::Results },
            statement,
            route_as: statement.class.kind,
            place: prepared.place,
            generation: prepared.generation,
            prepared: Some(id),
            retried: false,
        };
        match self.serve(request).await {
            Served::Yes(end) => {
                // What is noted goes by the client's id again.
                if self.command_len > 0 {
                    set_statement_id(self.input.get_mut(HEADER_LEN..).unwrap_or_default(), id);
                }
                if cursor || !self.pins.is_empty() {
                    self.note_cursor(id, &end, true);
                }
                if known.code == command::STMT_BULK_EXECUTE {
                    self.note_bulk_types(id, &end);
                }
                self.note(statement, &end, text.as_deref()).await
            }
            Served::No(flow) => flow,
        }
    }

    /// `COM_STMT_SEND_LONG_DATA` has no reply; what becomes of it shows with the execution.
    async fn long_data(&mut self) -> Flow {
        let Some((id, prepared)) = self.named_statement() else { return Flow::On };
        let statement = prepared.statement;
        let request = Request {
            code: command::STMT_SEND_LONG_DATA,
            reply: ReplyKind::Nothing,
            statement,
            route_as: statement.class.kind,
            place: prepared.place,
            generation: prepared.generation,
            prepared: Some(id),
            retried: false,
        };
        let delivered = self.deliver_quietly(request).await;
        if let Some(prepared) = self.carried.prepared.get_mut(&id) {
            prepared.has_long_data |= delivered;
            prepared.long_data_lost |= !delivered;
        }
        self.settle_prepared_pins();
        Flow::On
    }

    async fn fetch(&mut self, known: &'static Command) -> Flow {
        let Some((id, _)) = self.named_statement() else {
            return self.pass_unknown_statement(known).await;
        };
        let request = Request {
            code: known.code,
            reply: known.reply,
            statement: command_statement(Kind::OwnRead, known.name),
            route_as: Kind::OwnRead,
            place: Place::Anywhere,
            generation: 0,
            prepared: Some(id),
            retried: false,
        };
        match self.serve(request).await {
            Served::Yes(end) => {
                let effects = request.statement.effects;
                let unlocks = self.note_changes(effects, end.error.is_some(), None);
                self.note_cursor(id, &end, false);
                if let Some(status) = end.status {
                    self.set_status(status);
                }
                if unlocks { self.lock_again(false).await } else { Flow::On }
            }
            Served::No(flow) => flow,
        }
    }

    async fn reset_statement(&mut self, known: &'static Command) -> Flow {
        let Some((id, _)) = self.named_statement() else {
            return self.pass_unknown_statement(known).await;
        };
        let here = self.backend.as_ref().is_some_and(|b| b.prepared.contains_key(&id));
        let flow = if here {
            let statement = command_statement(Kind::Session, known.name);
            self.pass(request(known, statement, Some(id))).await
        } else {
            self.parked.iter_mut().for_each(|parked| parked.stale.push(id));
            self.tell_ok().await
        };
        if let Some(prepared) = self.carried.prepared.get_mut(&id) {
            prepared.has_cursor = false;
            prepared.has_long_data = false;
            prepared.long_data_lost = false;
        }
        self.settle_prepared_pins();
        flow
    }

    async fn init_db(&mut self, known: &'static Command) -> Flow {
        let schema = self.payload().get(1..).unwrap_or_default().to_vec();
        let statement = command_statement(Kind::Session, known.name);
        let (place, generation) = (self.place_of(&schema), self.worker.generation());
        let request = Request { place, generation, ..request(known, statement, None) };
        match self.serve(request).await {
            Served::Yes(end) => {
                if end.error.is_none() {
                    self.choose_schema(schema);
                }
                self.note(statement, &end, None).await
            }
            Served::No(flow) => flow,
        }
    }

    /// A server that is held is asked, so that it knows that the client lives; else failsoft
    /// answers for itself: a pool that pings must not lose its connections with the master.
    async fn ping(&mut self, known: &'static Command) -> Flow {
        let statement = command_statement(Kind::Session, known.name);
        if self.backend.is_none() {
            return match &self.gone {
                Some(super::lost::Gone::State { .. }) => {
                    self.answer_for_loss(statement).await.unwrap_or(Flow::End)
                }
                _ => self.tell_ok().await,
            };
        }
        match self.exchange_held(request(known, statement, None)).await {
            Served::Yes(end) => self.note(statement, &end, None).await,
            Served::No(flow) => flow,
        }
    }

    /// `COM_SET_OPTION` switches several statements in a packet on (0) or off (1)
    /// (P: page_protocol_com_set_option).
    async fn set_option(&mut self, known: &'static Command) -> Flow {
        let statement = command_statement(Kind::Session, known.name);
        let on = match self.payload().get(1..) {
            Some([0, 0]) => true,
            Some([1, 0]) => false,
            _ => return self.pass(request(known, statement, None)).await,
        };
        if self.backend.is_none() {
            return self.answer_option(on).await;
        }
        match self.exchange(&request(known, statement, None)).await {
            Step::Done(end) => {
                if end.error.is_none() {
                    self.carried.choose_option(on);
                }
                self.note(statement, &end, None).await
            }
            Step::Answered(flow) => flow,
            Step::Again { .. } => match self.answer_for_loss(statement).await {
                Some(flow) => flow,
                None => self.answer_option(on).await,
            },
        }
    }

    /// Remembers an option for the servers to come.
    async fn answer_option(&mut self, on: bool) -> Flow {
        self.carried.choose_option(on);
        let mut bytes = Vec::new();
        let sequence = self.sequence.wrapping_add(1);
        let deprecate_eof = self.client.capabilities.contains(Capabilities::DEPRECATE_EOF);
        put_eof(&mut bytes, sequence, self.status, deprecate_eof);
        self.answer(&bytes).await
    }

    async fn reset_connection(&mut self, known: &'static Command) -> Flow {
        let statement = command_statement(Kind::Session, known.name);
        // A reset brings back all that was lost, but not the schema.
        if self.backend.is_none()
            && self.carried.schema_is_doubtful
            && let Some(flow) = self.answer_for_loss(statement).await
        {
            return flow;
        }
        self.forget();
        if self.backend.is_none() {
            return self.tell_ok().await;
        }
        match self.exchange_held(request(known, statement, None)).await {
            Served::Yes(end) => {
                self.reported = None;
                if let Some(status) = end.status {
                    self.set_status(status);
                }
                if let Some(backend) = &mut self.backend {
                    backend.prepared.clear();
                }
                self.lock_again(false).await
            }
            Served::No(flow) => flow,
        }
    }

    /// Forgets all that a session has but its login and schema.
    pub(super) fn forget(&mut self) {
        self.carried.reset(self.client.collation);
        self.give_up_parked();
        self.gone = None;
        self.failed_commit = FailedCommit::default();
        self.memory = Memory::default();
        self.status = AUTOCOMMIT;
        self.reported = None;
        let doubtful = self.carried.schema_is_doubtful;
        self.set_pins(if doubtful { Pins::SESSION_VARIABLE } else { Pins::NONE });
    }

    /// failsoft checks the new login itself; a server sees it with the next statement.
    async fn change_user(&mut self) -> Flow {
        if let Err(flow) = self.may_change_user().await {
            return flow;
        }
        let change = match ChangeUser::parse(self.whole_payload().get(1..).unwrap_or_default()) {
            Ok(change) => change,
            Err(error) => {
                self.tell(&refusal::malformed(&error.to_string())).await;
                return Flow::End;
            }
        };
        if change.attributes.as_ref().is_some_and(|all| all.len() > MOST_ATTRIBUTES) {
            self.tell(&refusal::malformed("more than 64 KiB of connection attributes")).await;
            return Flow::End;
        }
        let claim = Claim {
            user: &change.user,
            plugin: &change.plugin,
            answer: change.answer,
            nonce: self.client.nonce,
            sequence: self.sequence,
            switches: true,
        };
        let worker = std::rc::Rc::clone(&self.worker);
        let ends = self.client.ends;
        let limit = worker.limits().login_timeout;
        let checking = authenticate(&worker, &mut self.client.stream, ends, claim);
        let checked = tokio::time::timeout(limit, checking).await.unwrap_or(Err(LoginError::Io));
        let (account, nonce, sequence) = match checked {
            Ok(known) => known,
            Err(LoginError::Io) => return Flow::End,
            Err(LoginError::Refused(sequence, error)) => {
                self.worker.metrics.login("denied");
                note_turned_away(&self.worker, self.client.host(), &error);
                return self.refuse_user(sequence, &error, change.collation).await;
            }
        };
        let limit = self.worker.limits().connections_per_user;
        if !self.client.admission.belongs_to(&account.name, limit, &self.client.leash) {
            return self.end_one_too_many(sequence, limit).await;
        }
        if let Some(old) = self.backend.take() {
            old.close();
        }
        (self.client.account, self.client.nonce) = (account, nonce);
        if let Some(collation) = change.collation {
            self.client.collation = collation;
        }
        if let Some(attributes) = change.attributes {
            self.client.attributes = attributes;
        }
        // The login chooses a schema, or none.
        self.carried.schema_is_doubtful = false;
        self.forget();
        self.carried.change_user(self.client.collation, change.schema);
        self.worker.metrics.login("ok");
        self.sequence = sequence.wrapping_sub(1);
        self.tell_ok().await
    }

    /// Ends a session that would be one too many of its new account.
    async fn end_one_too_many(&mut self, sequence: u8, limit: usize) -> Flow {
        let what = format!("limits.connections_per_user is {limit}");
        let error = refusal::too_many_connections(&what);
        self.worker.metrics.login("too_many");
        note_turned_away(&self.worker, self.client.host(), &error);
        self.tell_as(sequence, &error).await;
        Flow::End
    }

    /// Commands that need no care of ours but the right server.
    async fn other(&mut self, known: &'static Command) -> Flow {
        if known.reply == ReplyKind::Refused {
            return self.tell(&refusal::unknown_command(known.name)).await;
        }
        let kind = match known.code {
            command::FIELD_LIST | command::STATISTICS | command::PROCESS_INFO => Kind::Read,
            _ => Kind::Write,
        };
        let statement = command_statement(kind, known.name);
        // A table of the current schema.
        let place = match known.code {
            command::FIELD_LIST => self.place_of(&self.carried.schema),
            _ => Place::Anywhere,
        };
        let generation = self.worker.generation();
        self.pass(Request { place, generation, ..request(known, statement, None) }).await
    }

    /// Serves a command that leaves nothing behind.
    pub(super) async fn pass(&mut self, request: Request) -> Flow {
        match self.serve(request).await {
            Served::Yes(end) => self.note(request.statement, &end, None).await,
            Served::No(flow) => flow,
        }
    }
}

pub(super) fn request(
    known: &'static Command,
    statement: Statement,
    prepared: Option<u32>,
) -> Request {
    let route_as = statement.class.kind;
    Request {
        code: known.code,
        reply: known.reply,
        statement,
        route_as,
        place: Place::Anywhere,
        generation: 0,
        prepared,
        retried: false,
    }
}
