//! What a server remembers of a session besides its state, and what becomes of it when the session
//! changes servers: the last insert id, what the last statement found and warned of, and the user
//! variables that procedures and functions set out of sight.

use sql::{Effects, Kind, Statement};
use wire::command;
use wire::reply::ReplyEnd;

use super::statement::Request;
use super::{Flow, Session};
use crate::refusal;

/// What is known of a server's memory of the session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The server knows an insert id of the session's.
    has_insert_id: bool,
    /// The session ran code there that may have set user variables.
    ran_code: bool,
    insert_id: Option<Lost>,
    previous: Option<Lost>,
    variables: Option<Lost>,
}

/// The server that something was lost with, and why.
#[derive(Clone, Debug)]
struct Lost {
    server: String,
    cause: String,
}

impl Memory {
    /// Takes note of a statement that a server answered.
    pub(super) fn note(&mut self, statement: Statement, end: &ReplyEnd) {
        self.previous = None;
        if end.insert_id {
            self.has_insert_id = true;
            self.insert_id = None;
        }
        self.ran_code |= statement.effects.contains(Effects::UNKNOWN_FUNCTION);
    }

    /// Takes note that the server is left behind.
    pub(super) fn lose(&mut self, server: &str, cause: &str) {
        let lost = || Some(Lost { server: server.to_owned(), cause: cause.to_owned() });
        if std::mem::take(&mut self.has_insert_id) {
            self.insert_id = lost();
        }
        if std::mem::take(&mut self.ran_code) {
            self.variables = lost();
        }
        self.previous = lost();
    }

    fn is_whole(&self) -> bool {
        self.insert_id.is_none() && self.previous.is_none() && self.variables.is_none()
    }
}

impl Session {
    /// A statement that asks for what its server remembered of the session, which is lost: a wrong
    /// value would be written somewhere.
    pub(super) async fn answer_for_memory(&mut self, request: &Request) -> Option<Flow> {
        if self.memory.is_whole() {
            return None;
        }
        let (lost, state) = self.lost_of(request)?;
        self.worker.metrics.refused("state_lost");
        self.tell(&refusal::state_lost(&lost.server, &lost.cause, state)).await;
        Some(Flow::End)
    }

    fn lost_of(&self, request: &Request) -> Option<(Lost, &'static str)> {
        let text = match request.prepared.and_then(|id| self.carried.prepared.get(&id)) {
            Some(prepared) => &prepared.sql,
            None if request.code == command::QUERY => self.payload(),
            None => return None,
        };
        let lower = text.to_ascii_lowercase();
        let asks_for = |words: &[&[u8]]| {
            words.iter().any(|word| lower.windows(word.len()).any(|window| window == *word))
        };
        if let Some(lost) = &self.memory.insert_id
            && asks_for(&[b"insert_id", b"identity"])
            && sql::mentions_insert_id(text, self.dialect())
        {
            return Some((lost.clone(), "its LAST_INSERT_ID()"));
        }
        if let Some(lost) = &self.memory.previous
            && request.statement.class.kind == Kind::OwnRead
            && asks_for(&[b"found_rows", b"row_count", b"warning", b"error", b"diagnostics"])
        {
            return Some((lost.clone(), "what its last statement left"));
        }
        if let Some(lost) = &self.memory.variables
            && request.statement.class.kind != Kind::Session
            && lower.contains(&b'@')
            && sql::mentions_user_variable(text, self.dialect())
        {
            return Some((lost.clone(), "the user variables that its procedures may have set"));
        }
        None
    }
}
