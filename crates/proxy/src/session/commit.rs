//! A COMMIT that failed because its server was lost, and what its client sends next.
//!
//! The client has heard that its transaction is over, so the session goes on as it does on a server
//! after a deadlock: with the next statement, and without a ROLLBACK, which some drivers do not send
//! (SQLAlchemy, go-sql-driver/mysql). But a server would answer a second COMMIT with OK, as there is
//! nothing to commit, and a client that only repeats its COMMIT would believe that.

use sql::{Effects, Kind, Statement};
use wire::error::ClientError;

use super::lost::{ENDING, WayOut, way_out};
use super::{Flow, Session};

/// The answer to the COMMIT that failed last, for as long as another would mean the same.
#[derive(Debug, Default)]
pub(super) struct FailedCommit(Option<Box<ClientError>>);

impl FailedCommit {
    /// Takes note that a COMMIT failed, and of what its client heard.
    pub(super) fn note(&mut self, error: &ClientError) {
        self.0 = Some(Box::new(error.clone()));
    }
}

/// What a statement means to a session whose last COMMIT failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Meaning {
    /// It is that COMMIT once more.
    Repeated,
    /// It rolls back, which has happened.
    RolledBack,
    /// It leaves everything as it is.
    Aside,
    /// Something new begins.
    New,
}

fn meaning(statement: Statement) -> Meaning {
    let Statement { class, effects } = statement;
    let reads = matches!(class.kind, Kind::Read | Kind::OwnRead)
        && !effects.intersects(Effects::UNKNOWN_FUNCTION);
    match way_out(statement, true) {
        _ if class.kind == Kind::Commit => Meaning::Repeated,
        WayOut::Over => Meaning::RolledBack,
        WayOut::Aside => Meaning::Aside,
        WayOut::None if reads || is_plain_session(statement) => Meaning::Aside,
        WayOut::Anew | WayOut::None => Meaning::New,
    }
}

/// Whether a statement changes its session and nothing else: `USE`, `RELEASE SAVEPOINT`, and commands
/// like a ping.
fn is_plain_session(Statement { class, effects }: Statement) -> bool {
    class.kind == Kind::Session && !effects.intersects(ENDING.union(Effects::SEVERAL))
}

impl Session {
    /// The answer to a statement after a COMMIT that failed; none when it can be served.
    pub(super) async fn answer_for_failed_commit(&mut self, statement: Statement) -> Option<Flow> {
        self.failed_commit.0.as_ref()?;
        let meaning = match self.in_transaction() {
            // autocommit is off, and what was read since has begun another transaction.
            true => Meaning::New,
            false => meaning(statement),
        };
        match meaning {
            Meaning::Aside => None,
            Meaning::Repeated => {
                let error = self.failed_commit.0.clone()?;
                self.worker.metrics.refused("aborted");
                Some(self.tell(&error).await)
            }
            Meaning::RolledBack => {
                self.failed_commit = FailedCommit::default();
                Some(self.tell_ok().await)
            }
            Meaning::New => {
                self.failed_commit = FailedCommit::default();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::state::classify;

    #[test]
    fn what_follows_a_commit_that_failed() {
        use Meaning::{Aside, New, Repeated, RolledBack};
        let table = [
            ("COMMIT", Repeated),
            ("commit work and chain", Repeated),
            ("COMMIT; SELECT 1", Repeated),
            ("ROLLBACK", RolledBack),
            ("ROLLBACK AND CHAIN", New),
            ("BEGIN", New),
            ("SET autocommit = 1", New),
            ("SET NAMES utf8mb4", Aside),
            ("USE app", Aside),
            ("RELEASE SAVEPOINT a", Aside),
            ("DEALLOCATE PREPARE p", Aside),
            ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Aside),
            ("SELECT 1", Aside),
            ("SELECT @@tx_isolation", Aside),
            // It may write, which autocommit commits: to call that rolled back would be wrong.
            ("SELECT my_function(1)", New),
            ("SELECT a FROM t FOR UPDATE", New),
            ("INSERT INTO t VALUES (1)", New),
            ("INSERT INTO t VALUES (1); COMMIT", New),
            ("CREATE TABLE u (a INT)", New),
        ];
        for (sql, expected) in table {
            let statement = classify(sql.as_bytes(), false, false);
            assert_eq!(meaning(statement), expected, "{sql}");
        }
    }
}
