//! What becomes of a session when its server is lost.

use policy::session::Pins;
use sql::{Effects, Kind, Statement};
use wire::error::ClientError;
use wire::status::{AUTOCOMMIT, IN_READ_ONLY_TRANSACTION, IN_TRANSACTION};

use super::outcome::Whereabouts;
use super::statement::{Request, Step};
use super::{Flow, Session};

use crate::backend::Loss;
use crate::refusal;
use crate::relay::Reply;

/// What was lost with a server.
#[derive(Clone, Debug)]
pub(crate) enum Gone {
    /// A transaction whose COMMIT was not sent. The session is *aborted* until it rolls back.
    Transaction {
        server: String,
        cause: String,
        /// The client knows.
        told: bool,
    },
    /// State that cannot be carried; the session ends when the client has been told.
    State { server: String, cause: String, state: String },
}

/// The statements of which it is certain that they are rolled back with the transaction they ran
/// in: none of them can commit. A procedure can, so can DDL.
pub(super) const TRANSACTIONAL: &[&str] = &["INSERT", "UPDATE", "DELETE", "REPLACE"];

impl Session {
    /// Takes note that the connection to the server is lost while nothing was in flight.
    pub(super) fn lose(&mut self, loss: &Loss) {
        let Some(backend) = self.backend.take() else { return };
        let server = backend.name;
        let (cause, in_transaction) = (loss.0.clone(), self.in_transaction());
        tracing::debug!(
            session = self.client.admission.id,
            server,
            cause,
            "connection to a server lost"
        );
        if !self.pins.is_empty() {
            let state = self.pins.words();
            self.gone = Some(Gone::State { server, cause, state });
        } else if in_transaction {
            self.worker.metrics.aborted();
            self.gone = Some(Gone::Transaction { server, cause, told: false });
        } else {
            self.memory.lose(&server, &cause);
        }
        self.status &= !(IN_TRANSACTION | IN_READ_ONLY_TRANSACTION);
        for prepared in self.carried.prepared.values_mut() {
            prepared.has_cursor = false;
            prepared.has_long_data = false;
        }
        self.set_pins(Pins::NONE);
    }

    /// Takes note that the connection to the server is lost, and this state with it, which nothing
    /// else told of.
    pub(super) fn lose_state(&mut self, loss: &Loss, state: &str) {
        let Some(server) = self.backend.as_ref().map(|backend| backend.name.clone()) else {
            return;
        };
        self.lose(loss);
        let state = state.to_owned();
        self.gone = Some(Gone::State { server, cause: loss.0.clone(), state });
    }

    /// What a session that lost something with a server answers a command with; none when it can be
    /// served all the same.
    pub(super) async fn answer_for_what_is_gone(&mut self, request: &Request) -> Option<Flow> {
        match self.answer_for_loss(request.statement).await {
            None => self.answer_for_memory(request).await,
            flow => flow,
        }
    }

    /// What a session that lost something answers a statement with; none when the statement can be
    /// served all the same.
    pub(super) async fn answer_for_loss(&mut self, statement: Statement) -> Option<Flow> {
        let Some(gone) = self.gone.clone() else {
            return self.answer_for_failed_commit(statement).await;
        };
        match gone {
            Gone::State { server, cause, state } => {
                self.worker.metrics.refused("state_lost");
                self.tell(&refusal::state_lost(&server, &cause, &state)).await;
                Some(Flow::End)
            }
            Gone::Transaction { server, cause, told } => match way_out(statement, told) {
                WayOut::Over => {
                    self.gone = None;
                    Some(self.tell_ok().await)
                }
                WayOut::Anew => {
                    self.gone = None;
                    None
                }
                WayOut::Aside => None,
                WayOut::None => {
                    self.worker.metrics.refused("aborted");
                    let error = refusal::transaction_lost(&server, &cause);
                    if is_plain_commit(statement) {
                        self.gone = None;
                        self.failed_commit.note(&error);
                    } else {
                        self.gone = Some(Gone::Transaction { server, cause, told: true });
                    }
                    Some(self.tell(&error).await)
                }
            },
        }
    }

    /// The server was lost with a command in flight: of `request` at least a byte had left.
    pub(super) async fn lost_in_flight(
        &mut self,
        request: &Request,
        reply: &Reply,
        loss: &Loss,
    ) -> Step {
        let Some(backend) = &self.backend else { return Step::Answered(Flow::End) };
        let (server, wrote) = (backend.name.clone(), backend.epoch.is_some());
        let (at, connection) = (backend.server, backend.id);
        let fate = fate(
            request.statement,
            Circumstances {
                in_transaction: !self.is_in_doubt()
                    && (self.in_transaction() || self.status & AUTOCOMMIT == 0),
                open: self.may_be_in_transaction(),
                pinned: !self.pins.is_empty(),
                writable: wrote,
                delivered: reply.sent > 0,
                retried: request.retried || self.client.leash.is_killed(),
            },
        );
        self.lose(loss);
        let error = match fate {
            Fate::Again => {
                self.worker.metrics.retried();
                return Step::Again { sent: true };
            }
            Fate::RolledBack => {
                self.gone = None;
                return Step::Answered(self.tell_ok().await);
            }
            Fate::Aborted => {
                let cause = loss.0.clone();
                if self.gone.is_none() {
                    self.worker.metrics.aborted();
                }
                if !matches!(self.gone, Some(Gone::State { .. })) {
                    let server = server.clone();
                    self.gone = Some(Gone::Transaction { server, cause, told: true });
                }
                refusal::transaction_lost(&server, &loss.0)
            }
            Fate::Interrupted => {
                // With nothing delivered the client hears what it would have heard had the news
                // come a moment before its statement.
                if reply.sent == 0
                    && let Some(flow) = self.answer_for_what_is_gone(request).await
                {
                    return Step::Answered(flow);
                }
                refusal::result_interrupted(&server, &loss.0)
            }
            Fate::Unknown => {
                self.settle_unknown(request.statement, &server, &loss.0);
                let was = Whereabouts { server: at, name: &server, connection, cause: &loss.0 };
                let error = self.outcome_unknown(request, &was);
                if request.statement.class.kind == Kind::Commit {
                    self.failed_commit.note(&error);
                }
                error
            }
        };
        let flow = self.tell_of_loss(reply, &error).await;
        // Who is told to roll back gets to hear of the state with that; to the others its loss is
        // told by the end of the connection.
        let ends = fate != Fate::Aborted && matches!(self.gone, Some(Gone::State { .. }));
        Step::Answered(if ends { Flow::End } else { flow })
    }

    /// After a statement whose outcome is unknown: if it was to end its transaction, there is none
    /// any more; else what came before it is lost, and no COMMIT may be answered with OK.
    fn settle_unknown(&mut self, statement: Statement, server: &str, cause: &str) {
        if matches!(self.gone, Some(Gone::State { .. })) {
            return;
        }
        let was_open = self.gone.is_some() || self.status & AUTOCOMMIT == 0;
        let ended = statement.effects.intersects(ENDING);
        self.gone = (was_open && !ended).then(|| Gone::Transaction {
            server: server.to_owned(),
            cause: cause.to_owned(),
            told: true,
        });
    }

    /// An error can follow a part of a result at the end of a packet; within one, only closing is
    /// honest.
    async fn tell_of_loss(&mut self, reply: &Reply, error: &ClientError) -> Flow {
        let sequence = match reply.sent {
            _ if reply.broken && reply.sent > 0 => return Flow::End,
            // The last packet was the client's: its command, or the end of its file.
            sent if sent == reply.before_file.unwrap_or(0) => self.sequence.wrapping_add(1),
            _ => match reply.next_sequence() {
                Some(sequence) => sequence,
                None => return Flow::End,
            },
        };
        self.tell_as(sequence, error).await
    }
}

/// The effects that end an open transaction by committing it.
pub(super) const ENDING: Effects = Effects::COMMIT
    .union(Effects::BEGIN)
    .union(Effects::IMPLICIT_COMMIT)
    .union(Effects::AUTOCOMMIT);

/// Whether a statement ends its transaction, and does nothing else.
fn is_plain_commit(statement: Statement) -> bool {
    statement.class.kind == Kind::Commit && statement.effects == Effects::COMMIT
}

/// What a statement means to a session whose transaction is lost.
pub(super) enum WayOut {
    /// It rolls back: what it asks for is so.
    Over,
    /// It begins anew.
    Anew,
    /// It has nothing to do with it.
    Aside,
    /// It has to fail.
    None,
}

/// What a statement means to a session whose transaction is lost, which its client was `told` or not.
pub(super) fn way_out(statement: Statement, told: bool) -> WayOut {
    let effects = statement.effects;
    let several = effects.contains(Effects::SEVERAL);
    match statement.class.kind {
        Kind::Rollback if several || effects.contains(Effects::COMMIT) => WayOut::None,
        Kind::Rollback if effects.contains(Effects::BEGIN) => WayOut::Anew,
        Kind::Rollback => WayOut::Over,
        // BEGIN commits what was open: the client has to have heard that it is not.
        Kind::Begin if told && !several => WayOut::Anew,
        Kind::Session
            if effects.contains(Effects::SET) && !several && !effects.intersects(ENDING) =>
        {
            WayOut::Aside
        }
        // Switching autocommit on commits as well. Refused to a client that has heard, it would
        // stay off, and nobody commit what the client writes next.
        Kind::Session if effects.contains(Effects::SET) && !several && told => WayOut::Anew,
        _ => WayOut::None,
    }
}

/// What bears on the fate of a statement whose server was lost.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    /// It ran in a transaction, or would have begun one.
    in_transaction: bool,
    /// A transaction was open.
    open: bool,
    /// State that cannot be carried went too.
    pinned: bool,
    /// The server could have written.
    writable: bool,
    /// A part of the reply went to the client.
    delivered: bool,
    /// It must not be sent again: it was sent twice already, or is being killed.
    retried: bool,
}

/// What has become of a statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// Nothing came of it: it may be sent once more.
    Again,
    /// It was to roll back, and that has happened.
    RolledBack,
    /// It was undone with its transaction.
    Aborted,
    /// A part of its result was delivered.
    Interrupted,
    /// Nobody knows.
    Unknown,
}

fn fate(statement: Statement, is: Circumstances) -> Fate {
    let Statement { class, effects } = statement;
    let several = effects.contains(Effects::SEVERAL);
    // A stored function can write, but not commit, and not where the server refuses writes.
    let may_write = effects.contains(Effects::UNKNOWN_FUNCTION) && is.writable;
    // Without a transaction there is nothing to commit.
    let commits = is.open && effects.intersects(ENDING);
    let harmless = !may_write && !commits && class.kind != Kind::Write;
    let rolls_back = class.kind == Kind::Rollback && !effects.contains(Effects::COMMIT) && !several;
    let undone = match class.kind {
        Kind::Read | Kind::OwnRead | Kind::LockingRead | Kind::Session => true,
        Kind::Write => TRANSACTIONAL.contains(&class.because),
        Kind::Begin | Kind::Commit | Kind::Rollback => false,
    };
    match () {
        // The transaction that ROLLBACK AND CHAIN began is gone.
        () if rolls_back && effects.contains(Effects::BEGIN) && is.open => Fate::Aborted,
        () if rolls_back && is.in_transaction && !is.delivered => Fate::RolledBack,
        // A commit in disguise as well: BEGIN, DDL, LOCK TABLES, SET autocommit = 1.
        () if commits => Fate::Unknown,
        () if is.in_transaction && undone && !several && (is.open || !harmless) => Fate::Aborted,
        () if !harmless => Fate::Unknown,
        () if is.delivered || is.pinned || is.retried => Fate::Interrupted,
        () if class.kind == Kind::OwnRead => Fate::Interrupted,
        () => Fate::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `o` a transaction is open, `a` autocommit is off, `p` pinned, `w` on the master, `d`
    /// delivered, `r` retried.
    fn circumstances(letters: &str) -> Circumstances {
        let has = |letter| letters.contains(letter);
        Circumstances {
            in_transaction: has('o') || has('a'),
            open: has('o'),
            pinned: has('p'),
            writable: has('w'),
            delivered: has('d'),
            retried: has('r'),
        }
    }

    #[test]
    fn fates() {
        use Fate::{Aborted, Again, Interrupted, RolledBack, Unknown};
        let table = [
            ("SELECT 1", "w", Again),
            ("SELECT 1", "wr", Interrupted),
            ("SELECT 1", "wd", Interrupted),
            ("SELECT 1", "wp", Interrupted),
            ("SELECT 1", "wo", Aborted),
            ("SELECT 1", "wod", Aborted),
            ("SELECT 1", "wa", Again),
            ("SELECT my_function(1)", "w", Unknown),
            ("SELECT my_function(1)", "", Again),
            ("SELECT my_function(1)", "wo", Aborted),
            ("SELECT a FROM t FOR UPDATE", "w", Again),
            ("INSERT INTO t VALUES (1)", "w", Unknown),
            ("INSERT INTO t VALUES (1)", "wo", Aborted),
            ("INSERT INTO t VALUES (1)", "wa", Aborted),
            ("INSERT INTO t VALUES (1); COMMIT", "wo", Unknown),
            ("CREATE TABLE t (a INT)", "wo", Unknown),
            ("CALL p()", "wo", Unknown),
            ("COMMIT", "wo", Unknown),
            ("COMMIT", "w", Again),
            ("ROLLBACK", "wo", RolledBack),
            ("ROLLBACK", "w", Again),
            ("BEGIN", "w", Again),
            ("BEGIN", "wo", Unknown),
            ("SET @a = 1", "w", Again),
            ("FROBNICATE", "w", Unknown),
            ("SET @a = my_function()", "w", Unknown),
            ("BEGIN; SELECT my_function(1); COMMIT", "w", Unknown),
            ("SET autocommit = 1", "wo", Unknown),
            ("SET autocommit = 1", "wa", Again),
            ("LOCK TABLES t READ", "wo", Unknown),
            ("COMMIT; SELECT LAST_INSERT_ID()", "wo", Unknown),
            ("SELECT a FROM t FOR UPDATE; COMMIT", "wo", Unknown),
            ("COMMIT; ROLLBACK", "wo", Unknown),
            ("ROLLBACK AND CHAIN", "wo", Aborted),
            ("COMMIT AND CHAIN", "wo", Unknown),
        ];
        for (sql, letters, expected) in table {
            let statement = sql::classify(sql.as_bytes(), sql::Dialect::default());
            assert_eq!(fate(statement, circumstances(letters)), expected, "{sql} {letters}");
        }
    }
}
