//! `KILL`: ending what a session runs, or the session, by either of its ids.

use std::rc::Rc;

use policy::route::{Decision, Tried};
use sql::{KillTarget, Kind};
use wire::capabilities::Capabilities;
use wire::error::ClientError;

use super::unavailable::verbatim;
use super::{Flow, Session};
use crate::backend::connect::{self, Wanted};
use crate::backend::restore::{RestoreError, run, within};
use crate::backend::{Backend, ConnectError};
use crate::login::is_mariadb;
use crate::refusal;
use crate::registry::{Connection, Entry};

/// What a `KILL` asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    /// The end of a session.
    Session,
    /// The end of what it runs.
    Statement,
}

impl Session {
    /// Serves a `KILL` that names an id; none for any other, which servers understand by themselves.
    pub(super) async fn kill_by_text(&mut self) -> Option<Flow> {
        match self.kill_target()? {
            KillTarget::Connection(id) => Some(self.kill(id, What::Session).await),
            KillTarget::Query(id) => Some(self.kill(id, What::Statement).await),
            KillTarget::Other => None,
        }
    }

    /// `COM_PROCESS_KILL` (P: page_protocol_com_process_kill).
    pub(super) async fn process_kill(&mut self) -> Flow {
        let Some(&[a, b, c, d]) = self.payload().get(1..) else {
            self.tell(&refusal::malformed("COM_PROCESS_KILL without an id of 4 bytes")).await;
            return Flow::End;
        };
        self.kill(u32::from_le_bytes([a, b, c, d]).into(), What::Session).await
    }

    async fn kill(&mut self, id: u64, what: What) -> Flow {
        let asked = u32::try_from(id).ok();
        let ended = match asked.and_then(|id| self.worker.shared.registry.session(id)) {
            Some(entry) => self.kill_session(&entry, id, what).await,
            None => self.kill_connection(id, asked, what).await,
        };
        match ended {
            Ok(flow) => flow,
            Err(error) => self.tell(&error).await,
        }
    }

    /// The id is a server's: that of the server that the session sees. Ids are small and many servers
    /// have the same, so no other is looked at.
    async fn kill_connection(
        &mut self,
        id: u64,
        asked: Option<u32>,
        what: What,
    ) -> Result<Flow, ClientError> {
        let Some(server) = self.server_in_sight() else { return Err(refusal::no_such_thread(id)) };
        let connection = asked.map(|id| Connection { server, id });
        match connection.and_then(|it| self.worker.shared.registry.holder(it)) {
            Some(entry) => self.kill_session(&entry, id, what).await,
            None => {
                self.kill_on(server, id, what).await?;
                Ok(self.tell_ok().await)
            }
        }
    }

    /// The id is a session's, failsoft's or that of the connection that it holds.
    async fn kill_session(
        &mut self,
        entry: &Entry,
        id: u64,
        what: What,
    ) -> Result<Flow, ClientError> {
        if entry.session == self.client.admission.id {
            return Ok(self.kill_itself(what).await);
        }
        entry.leash.condemn();
        let told = match entry.connection {
            Some(held) => self.kill_on(held.server, held.id.into(), what).await,
            // Whether the account may kill others only a server could say.
            None if entry.account == self.client.account.name => Ok(()),
            None => Err(refusal::not_owner(id)),
        };
        if told.is_ok() && what == What::Session {
            entry.leash.end.cancel();
        }
        entry.leash.settle();
        told?;
        Ok(self.tell_ok().await)
    }

    /// The session is told what its server would have told it.
    async fn kill_itself(&mut self, what: What) -> Flow {
        let ends = what == What::Session;
        let error = match ends && is_mariadb(&self.worker.view()) {
            true => refusal::killed_itself(),
            false => refusal::interrupted_itself(),
        };
        let flow = self.tell(&error).await;
        if ends { Flow::End } else { flow }
    }

    /// Kills what the session itself runs, whose client has left.
    pub(super) async fn kill_what_runs(&self) {
        let Some(backend) = &self.backend else { return };
        let running = Connection { server: backend.server, id: backend.id };
        let told = self.kill_on(running.server, running.id.into(), What::Session).await;
        tracing::debug!(
            session = self.client.admission.id,
            connection = running.id,
            failed = told.err().map(|error| error.message),
            "killed what a client that left was waiting for"
        );
    }

    /// Has a server kill one of its connections, over a connection of its own, so that it decides
    /// what the account may do.
    async fn kill_on(&self, server: usize, id: u64, what: What) -> Result<(), ClientError> {
        let unreachable =
            |cause: String| refusal::cannot_kill(id, &self.server_name(server), &cause);
        let mut backend = self.open_for_kill(server).await.map_err(|error| match &*error {
            ConnectError::Server(error) => verbatim(error),
            error => unreachable(error.to_string()),
        })?;
        let sql = match what {
            What::Session => format!("KILL CONNECTION {id}"),
            What::Statement => format!("KILL QUERY {id}"),
        };
        let limit = self.worker.settings.connect_timeout;
        let deprecate_eof = self.carried.deprecate_eof;
        let told = within(limit, run(&mut backend, sql.as_bytes(), deprecate_eof)).await;
        backend.close();
        told.map_err(|error| match error {
            RestoreError::Refused(error) => verbatim(&error),
            RestoreError::Lost(loss) => unreachable(loss.0),
        })
    }

    async fn open_for_kill(&self, server: usize) -> Result<Backend, Rc<ConnectError>> {
        let wanted = Wanted {
            server,
            epoch: None,
            account: &self.client.account,
            capabilities: self.client.capabilities.and(Capabilities::CARRIED),
            collation: self.client.collation,
            schema: b"",
            user_was_changed: self.carried.user_was_changed,
            attributes: &[],
            ends: self.client.ends,
        };
        connect::open(&self.worker, wanted).await
    }

    /// The server whose ids the session sees.
    fn server_in_sight(&self) -> Option<usize> {
        if let Some(backend) = &self.backend {
            return Some(backend.server);
        }
        let view = self.worker.view();
        match self.route(
            Kind::Read,
            view.partitions.get(self.current_partition())?,
            Tried::default(),
        ) {
            Decision::Forward { server, .. } => Some(server),
            Decision::Refuse(_) => None,
        }
    }
}
