//! What becomes of a session whose change of user (`COM_CHANGE_USER`) is refused.
//!
//! MySQL hangs up. MariaDB lets the session go on as the user that it was, with nothing left but its
//! schema, and after a while refuses to listen (seen on MySQL 9.7 and MariaDB 10.11). failsoft does
//! as the servers do that it says it is.

use std::time::Duration;

use sql::Dialect;
use wire::error::ClientError;

use super::{Flow, Session};
use crate::login::is_mariadb;
use crate::refusal;

/// How many attempts MariaDB bears with.
const MOST_ATTEMPTS: u8 = 3;

/// How long MariaDB makes those wait that it refuses.
const PENALTY: Duration = Duration::from_secs(1);

/// What MariaDB does not put back to what the login said, as after a `COM_RESET_CONNECTION`.
const AS_A_SERVER_STARTS: &[u8] = b"SET NAMES DEFAULT";

impl Session {
    /// Whether the session may try to change its user; it has been told if not.
    pub(super) async fn may_change_user(&mut self) -> Result<(), Flow> {
        if self.refused_users < MOST_ATTEMPTS {
            return Ok(());
        }
        Err(self.tell(&refusal::no_command()).await)
    }

    /// Refuses a change of user that asked for this collation.
    pub(super) async fn refuse_user(
        &mut self,
        sequence: u8,
        error: &ClientError,
        collation: Option<u16>,
    ) -> Flow {
        if !is_mariadb(&self.worker.view()) {
            self.tell_as(sequence, error).await;
            return Flow::End;
        }
        self.refused_users += 1;
        tokio::time::sleep(PENALTY).await;
        // The schema is what is left, and only the connection that is given up here knows it.
        if self.carried.schema_is_doubtful {
            self.tell_as(sequence, error).await;
            return Flow::End;
        }
        if let Some(old) = self.backend.take() {
            old.close();
        }
        // What a COM_RESET_CONNECTION will put it back to.
        self.client.collation = collation.unwrap_or(self.client.collation);
        self.forget();
        // The first of its settings finds room.
        let _kept = self.carried.set(AS_A_SERVER_STARTS, Dialect::default());
        self.tell_as(sequence, error).await
    }
}
