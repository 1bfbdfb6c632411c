//! What a statement that the server answered did to the session.

use sql::{Effects, Kind, Statement};
use wire::capabilities::Capabilities;
use wire::reply::ReplyEnd;
use wire::status::AUTOCOMMIT;

use policy::session::Pins;

use super::{Flow, Session};
use crate::backend::Loss;
use crate::backend::restore::{lock, status, within};

/// The errors with which a server itself rolls a transaction back: deadlock and lock wait timeout.
const ROLLED_BACK: &[u16] = &[1213, 1205];

/// The effects by which a statement that fails may still have begun or ended a transaction.
const MAY_END_TRANSACTION: Effects = Effects::BEGIN
    .union(Effects::COMMIT)
    .union(Effects::ROLLBACK)
    .union(Effects::IMPLICIT_COMMIT)
    .union(Effects::AUTOCOMMIT)
    .union(Effects::SEVERAL)
    .union(Effects::XA)
    .union(Effects::UNKNOWN_FUNCTION);

/// The effects by which one may have begun one where none was open.
const MAY_BEGIN_TRANSACTION: Effects = MAY_END_TRANSACTION.without(Effects::IMPLICIT_COMMIT);

/// The effects that change the session's settings.
pub(super) const SETTINGS: Effects =
    Effects::SET.union(Effects::SET_ONCE).union(Effects::SET_OPAQUE);

/// The effects that can be given to another server only with the statement's text.
const TEXTUAL: Effects = Effects::SET.union(Effects::USE);

impl Session {
    /// Whether a statement that failed may have begun or ended a transaction. An ERR packet does not
    /// say.
    fn error_may_end_transaction(&self, statement: Statement, end: &ReplyEnd) -> bool {
        let effects = statement.effects;
        let plain = matches!(
            statement.class.kind,
            Kind::Read | Kind::OwnRead | Kind::LockingRead | Kind::Session
        ) || super::lost::TRANSACTIONAL.contains(&statement.class.because);
        let rolled_back = end.error.is_some_and(|code| ROLLED_BACK.contains(&code));
        let autocommit = self.status & AUTOCOMMIT != 0;
        if autocommit && !self.in_transaction() && !self.is_in_doubt() {
            return effects.intersects(MAY_BEGIN_TRANSACTION);
        }
        !plain
            || !autocommit
            || (rolled_back && self.in_transaction())
            || effects.intersects(MAY_END_TRANSACTION)
    }

    /// Finds out whether a transaction is open after a statement that failed. A server that tells the
    /// client what changed in its session does so with its next OK: an answer to a question of ours
    /// would take that from the client, so nothing is asked, and that OK is waited for.
    async fn doubt(&mut self) {
        let agreed = self.backend.as_ref().map(|backend| backend.agreed);
        let tells = agreed.map(|agreed| agreed.and(self.client.capabilities));
        if tells.is_some_and(|tells| tells.contains(Capabilities::SESSION_TRACK)) {
            self.set_pins(self.pins.with(Pins::DOUBT));
        } else {
            Box::pin(self.ask_status()).await;
        }
    }

    /// Whether a transaction is open is not known.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.pins.contains(Pins::DOUBT)
    }

    /// Asks what is in doubt before a statement whose way depends on it. On the master of a partition
    /// that takes writes all stay where they are.
    pub(super) async fn settle_doubt(&mut self) {
        if !self.is_in_doubt() {
            return;
        }
        let view = self.worker.view();
        let is_only = !self.worker.setup().settings.homes.are_several();
        let partition = view.partitions.first().filter(|_| is_only);
        let stays = partition.zip(self.backend.as_ref()).is_some_and(|(partition, backend)| {
            partition.mode.is_read_write() && backend.takes_writes(partition.epoch)
        });
        if !stays {
            Box::pin(self.ask_status()).await;
        }
    }

    /// Asks the server whether a transaction is open. Where it cannot say any more the session is at
    /// its end: neither "committed" nor "rolled back" would be known to be true.
    async fn ask_status(&mut self) {
        let agreed = self.client.capabilities.contains(Capabilities::MULTI_STATEMENTS);
        let several = self.carried.multi_statements.unwrap_or(agreed);
        let Some(backend) = &mut self.backend else { return };
        let limit = self.worker.connect_timeout();
        match within(limit, status(backend, several)).await {
            Ok((status, changes)) => {
                self.set_status(status);
                self.reported = changes;
                if self.note_changes(Effects::NONE, false, None) {
                    // The session ends, or goes on, with the next command.
                    let _flow = self.lock_again(false).await;
                }
            }
            Err(error) => {
                let state = Pins::DOUBT.words();
                self.lose_state(&Loss(error.to_string()), &state);
            }
        }
    }

    /// Takes note of what a statement that the server answered did to the session.
    pub(super) async fn note(
        &mut self,
        statement: Statement,
        end: &ReplyEnd,
        text: Option<&[u8]>,
    ) -> Flow {
        self.memory.note(statement, end);
        self.note_mark(statement);
        self.note_previous(statement, end);
        if let Some(status) = end.status {
            self.set_status(status);
        }
        let set = self.note_effects(statement, end.error.is_some(), text);
        let unlocks = self.note_changes(statement.effects, end.error.is_some(), text);
        if end.error.is_some() && self.error_may_end_transaction(statement, end) {
            self.doubt().await;
        }
        if set.is_empty() && !unlocks {
            return Flow::On;
        }
        self.lock_again(set.contains(Effects::SET_ONCE)).await
    }

    /// Takes note of a statement's effects; yields those that changed settings.
    fn note_effects(&mut self, statement: Statement, failed: bool, text: Option<&[u8]>) -> Effects {
        let effects = statement.effects;
        if effects.is_empty() {
            return Effects::NONE;
        }
        let several = effects.contains(Effects::SEVERAL);
        // What failed as a whole set nothing; of several statements some may have.
        let relevant = if failed && !several { effects.without(SETTINGS) } else { effects };
        let pins = self.pins.after(relevant);
        let pins = match text {
            // Where some of several failed, the session is pinned for it, and its schema is as
            // likely the new one: it stays in the partition that the packet went to.
            Some(text) if several || !failed => self.note_text(statement, text, failed, pins),
            _ if effects.intersects(TEXTUAL) && (several || !failed) => {
                pins.with(Pins::SESSION_VARIABLE)
            }
            _ => pins,
        };
        // The pin ends with a reset, the doubt does not: a schema stays.
        self.carried.schema_is_doubtful |= failed && several && effects.contains(Effects::USE);
        self.set_pins(pins);
        relevant.intersection(SETTINGS)
    }

    /// Takes note of the text of a statement that succeeded; yields the pins with what cannot be
    /// given to another server.
    ///
    /// A schema is what the server says, where it does. A text is only ever kept to be run again if it
    /// is one `SET` of the session and nothing else.
    pub(super) fn note_text(
        &mut self,
        statement: Statement,
        text: &[u8],
        failed: bool,
        pins: Pins,
    ) -> Pins {
        let effects = statement.effects;
        let dialect = self.dialect();
        let is_reported = self.reported_schema(effects, failed).is_some();
        if effects.contains(Effects::USE) && !is_reported {
            match sql::use_target(text, dialect) {
                Some(schema) => self.choose_schema(schema),
                None => {
                    self.carried.schema_is_doubtful = true;
                    return pins.with(Pins::SESSION_VARIABLE);
                }
            }
        }
        if is_reported && !effects.intersects(SETTINGS) {
            return pins;
        }
        if effects.contains(Effects::SEVERAL) || statement.class.kind != Kind::Session {
            return pins.with(Pins::SESSION_VARIABLE);
        }
        let replayable = !effects.intersects(Effects::SET_OPAQUE.union(Effects::SET_ONCE));
        if effects.contains(Effects::SET) && replayable && !self.carried.set(text, dialect) {
            return pins.with(Pins::TOO_MUCH_STATE);
        }
        pins
    }

    /// A client on a replica may have changed the transaction characteristics: failsoft's lock
    /// against writes is put back.
    pub(super) async fn lock_again(&mut self, once: bool) -> Flow {
        let Some(backend) = self.backend.as_mut().filter(|backend| backend.epoch.is_none()) else {
            return Flow::On;
        };
        let limit = self.worker.connect_timeout();
        let locking = lock(backend, once);
        if let Err(error) = Box::pin(within(limit, locking)).await {
            // Without the lock the connection must not be used.
            self.lose(&Loss(error.to_string()));
        }
        Flow::On
    }
}
