//! Why a server cannot be used for a statement, and whose affair that is.

use std::rc::Rc;

use wire::error::{ClientError, ServerError};

use crate::backend::ConnectError;
use crate::backend::restore::RestoreError;
use crate::backend::verdict::{BAD_DB, Verdict, verdict};
use crate::refusal;

/// Why a server cannot be used for a statement.
pub(super) enum Unavailable {
    /// The client is told this: the server answers, and has something against this session.
    Verbatim(ClientError),
    /// The server does not let the client's account in, which another may; what it said, if it was
    /// the server that said it.
    Account(String, Option<ClientError>),
    /// The server could not be reached; another may do.
    Because(String),
}

impl From<Rc<ConnectError>> for Unavailable {
    fn from(error: Rc<ConnectError>) -> Self {
        match &*error {
            ConnectError::Server(said) => match verdict(said.code) {
                Verdict::Session => Self::Verbatim(verbatim(said)),
                Verdict::Account => Self::Account(said.to_string(), Some(verbatim(said))),
                Verdict::Server => Self::Because(said.to_string()),
            },
            ConnectError::Account(why) => Self::Account(why.clone(), None),
            ConnectError::Full(limit) => {
                let what = format!("limits.server_connections is {limit}");
                Self::Verbatim(refusal::too_many_connections(&what))
            }
            ConnectError::NoTurn(wait) => {
                let what = format!(
                    "no connection to the server came free within {wait:?} (pool.wait), as all that \
                     pool.size allows are in use"
                );
                Self::Verbatim(refusal::too_many_connections(&what))
            }
            other => Self::Because(other.to_string()),
        }
    }
}

impl From<RestoreError> for Unavailable {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Lost(loss) => Self::Because(loss.0),
            RestoreError::Refused(error) => Self::Verbatim(verbatim(&error)),
        }
    }
}

pub(super) fn is_bad_schema(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Server(said) if said.code == BAD_DB)
}

/// A server's error, to be told to the client as it is.
pub(crate) fn verbatim(error: &ServerError) -> ClientError {
    ClientError { code: error.code, sql_state: error.sql_state, message: error.message.clone() }
}
