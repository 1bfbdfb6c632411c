//! What is kept of a write whose outcome nobody knows.

use std::time::SystemTime;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use policy::topology::ServerId;
use policy::utc::rfc3339;
use sql::Kind;
use telemetry::UnknownOutcome;
use wire::error::ClientError;

use super::Session;
use super::statement::Request;
use crate::refusal;

/// The longest digest that is kept, in bytes.
pub(super) const DIGEST_MAX: usize = 400;

/// Where a statement was when its connection broke.
#[derive(Debug)]
pub(super) struct Whereabouts<'a> {
    /// The server.
    pub(super) server: ServerId,
    /// Its role and name as they were when the connection was made.
    pub(super) name: &'a str,
    /// The server's id of the connection.
    pub(super) connection: u32,
    /// How the connection broke.
    pub(super) cause: &'a str,
}

impl Session {
    /// Enters an outcome that nobody knows in the ledger, so that an operator can settle it; yields
    /// what the client is told.
    pub(super) fn outcome_unknown(&self, request: &Request, was: &Whereabouts<'_>) -> ClientError {
        let reference = reference();
        let what = match request.statement.class.kind {
            Kind::Commit => "COMMIT",
            _ => request.statement.class.because,
        };
        let error = refusal::outcome_unknown(what, was.name, &reference);
        let digest = self.digest(request.prepared, self.dialect());
        let view = self.worker.view();
        let seen = view.server(was.server).and_then(|server| server.seen.as_deref());
        self.worker.metrics.unknown(UnknownOutcome {
            at: rfc3339(SystemTime::now()),
            reference,
            client: self.client.host().to_owned(),
            user: self.client.account.name.clone(),
            schema: String::from_utf8_lossy(&self.carried.schema).into_owned(),
            digest: digest.unwrap_or_else(|| request.statement.class.because.to_owned()),
            server: was.name.to_owned(),
            connection: was.connection,
            cause: was.cause.to_owned(),
            gtids: seen.map(|seen| seen.gtids.clone()).unwrap_or_default(),
        });
        error
    }
}

/// What a client and an operator call an outcome by.
fn reference() -> String {
    let mut bytes = [0; 3];
    // A reference that is not random still refers.
    let _filled = SystemRandom::new().fill(&mut bytes);
    let [a, b, c] = bytes;
    format!("{a:02x}{b:02x}{c:02x}")
}
