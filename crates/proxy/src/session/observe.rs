//! What others see of a session: what it does, what it asked, and what took long.

use std::time::{Duration, Instant, SystemTime};

use sql::{Dialect, Kind};
use telemetry::Target;
use telemetry::statements::{Ending, Seen, Slow};
use wire::command;
use wire::reply::ReplyEnd;

use super::Session;
use super::outcome::DIGEST_MAX;
use super::statement::Request;

/// How a statement came out that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    class: Kind,
    target: Target,
    ending: Ending,
    prepared: Option<u32>,
}

/// The commands that are statements.
const ASKS: [u8; 3] = [command::QUERY, command::STMT_EXECUTE, command::STMT_BULK_EXECUTE];

impl Session {
    /// Takes note of what a server made of a statement.
    pub(super) fn tell_answered(&mut self, request: &Request, target: Target, end: &ReplyEnd) {
        // A preparation is not what was asked: its executions are.
        if !ASKS.contains(&request.code) {
            return;
        }
        let ending = if end.error.is_some() { Ending::Failed } else { Ending::Done };
        let (class, prepared) = (request.statement.class.kind, request.prepared);
        self.told = Some(Told { class, target, ending, prepared });
    }

    /// Takes note that failsoft refused a statement.
    pub(super) fn tell_refused(&mut self, request: &Request) {
        if !ASKS.contains(&request.code) && request.code != command::STMT_PREPARE {
            return;
        }
        let (target, ending, prepared) = (Target::Own, Ending::Refused, request.prepared);
        self.told = Some(Told { class: request.route_as, target, ending, prepared });
    }

    /// Shows others what the session does now.
    pub(super) fn show(&mut self, is_running: bool) {
        let facts = self.client.leash.facts();
        facts.show(self.active, is_running, self.may_be_in_transaction(), self.pins);
        if self.shown_events != self.carried.version() {
            self.shown_events = self.carried.version();
            facts.show_schema(&self.carried.schema);
        }
    }

    /// Looks at a statement that is over, if it is its turn or it was slow. What it was is at the front of
    /// the input still; how it was to be read when it came is in `dialect`, which it may have changed.
    pub(super) fn look_at_statement(&mut self, came: Instant, dialect: Dialect) {
        let Some(told) = self.told.take() else { return };
        let (slow, per_second) = self.worker.looks();
        let took = self.active - came;
        let weight = self.worker.metrics.is_looked_at(self.active, per_second);
        let is_slow = slow.is_some_and(|slow| took >= slow);
        if is_slow || weight.is_some() {
            self.enter_statement(told, (came, is_slow), weight, dialect);
        }
    }

    #[cold]
    fn enter_statement(
        &self,
        told: Told,
        (came, is_slow): (Instant, bool),
        weight: Option<u64>,
        dialect: Dialect,
    ) {
        let digest = self.digest(told.prepared, dialect);
        let digest = digest.unwrap_or_else(|| told.class.name().to_owned());
        if is_slow {
            self.enter_slow(told, came, digest.clone());
        }
        if let Some(weight) = weight {
            self.enter_digest(told, digest, (self.active - came, weight));
        }
    }

    fn enter_digest(&self, told: Told, digest: String, (took, weight): (Duration, u64)) {
        let Told { class, target, ending, .. } = told;
        let user = &self.client.account.name;
        let seen = Seen { digest, class, target, ending, user, took, weight };
        self.worker.metrics.digest(seen);
    }

    fn enter_slow(&self, told: Told, came: Instant, digest: String) {
        let took = self.active - came;
        let backend = self.backend.as_ref().filter(|_| told.target != Target::Own);
        let answered = self.answered.filter(|answered| *answered >= came);
        let slow = Slow {
            at: SystemTime::now(),
            digest,
            took,
            first_byte: answered.map_or(took, |answered| answered - came),
            user: self.client.account.name.clone(),
            client: self.client.host().to_owned(),
            schema: String::from_utf8_lossy(&self.carried.schema).into_owned(),
            server: backend.map(|backend| backend.name.clone()).unwrap_or_default(),
        };
        self.worker.metrics.slow(slow, self.active);
    }

    /// The statement of the present command without its values; none where it is no longer there, as
    /// when a file was sent in its place.
    pub(super) fn digest(&self, prepared: Option<u32>, dialect: Dialect) -> Option<String> {
        let prepared = prepared.and_then(|id| self.carried.prepared.get(&id));
        let text = match prepared {
            // It is read as it was when it was prepared.
            Some(prepared) => {
                return Some(sql::digest(&prepared.sql, prepared.dialect, DIGEST_MAX));
            }
            // What a digest shows is at a statement's beginning. Only queries have attributes.
            None => self
                .text_at(self.payload().first() == Some(&command::QUERY), self.payload())
                .ok()
                .and_then(|at| self.payload().get(at..))
                .unwrap_or_default(),
        };
        (!text.is_empty()).then(|| sql::digest(text, dialect, DIGEST_MAX))
    }
}
