//! `KILL`: ending what a session runs, or the session, by either of its ids.

use policy::route::{Decision, Tried};
use policy::topology::ServerId;
use sql::{KillTarget, Kind};
use wire::capabilities::Capabilities;
use wire::error::ClientError;

use super::unavailable::verbatim;
use super::{Flow, Session};
use crate::backend::ConnectError;
use crate::backend::connect::{self, Wanted};
use crate::backend::restore::{RestoreError, run, within};
use crate::clock::now;
use crate::login::is_mariadb;
use crate::refusal;
use crate::registry::{Claim, Connection, Entry};
use crate::settings::Account;
use crate::worker::Worker;

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
            KillTarget::Connection(id) => Some(Box::pin(self.kill(id, What::Session)).await),
            KillTarget::Query(id) => Some(Box::pin(self.kill(id, What::Statement)).await),
            KillTarget::Other => None,
        }
    }

    /// `COM_PROCESS_KILL` (P: page_protocol_com_process_kill).
    pub(super) async fn process_kill(&mut self) -> Flow {
        let Some(&[a, b, c, d]) = self.payload().get(1..) else {
            self.tell(&refusal::malformed("COM_PROCESS_KILL without an id of 4 bytes")).await;
            return Flow::End;
        };
        Box::pin(self.kill(u32::from_le_bytes([a, b, c, d]).into(), What::Session)).await
    }

    async fn kill(&mut self, id: u64, what: What) -> Flow {
        let asked = u32::try_from(id).ok();
        let ended = match asked.and_then(|id| self.worker.shared.registry.claim(id)) {
            Some(claim) => self.kill_session(claim, id, what).await,
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
        match connection.and_then(|it| self.worker.shared.registry.claim_holder(it)) {
            Some(claim) => self.kill_session(claim, id, what).await,
            None => {
                self.kill_on(server, id, what).await?;
                Ok(self.tell_ok().await)
            }
        }
    }

    /// The id is a session's, failsoft's or that of the connection that it holds.
    async fn kill_session(
        &mut self,
        claim: Claim,
        id: u64,
        what: What,
    ) -> Result<Flow, ClientError> {
        let entry = &claim.0;
        if entry.session == self.client.admission.id {
            drop(claim);
            return Ok(self.kill_itself(what).await);
        }
        let told = match entry.connection {
            Some(held) => self.kill_on(held.server, held.id.into(), what).await,
            // Whether the account may kill others only a server could say.
            None if *entry.account == *self.client.account.name => Ok(()),
            None => Err(refusal::not_owner(id)),
        };
        match what {
            _ if told.is_err() => {}
            What::Session => entry.leash.end.cancel(),
            // A write that waits for the master runs nowhere yet.
            What::Statement => entry.leash.carry_out(),
        }
        drop(claim);
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
    async fn kill_on(&self, server: ServerId, id: u64, what: What) -> Result<(), ClientError> {
        let account = self.account();
        let wanted = self.wanted(server, None, &account);
        let wanted = Wanted { user_was_changed: false, attributes: &[], ..wanted };
        kill_on(&self.worker, wanted, id, what).await
    }

    /// The server whose ids the session sees.
    fn server_in_sight(&self) -> Option<ServerId> {
        if let Some(backend) = &self.backend {
            return Some(backend.server);
        }
        let view = self.worker.view();
        let partition = view.partitions.get(self.current_partition())?;
        match self.route(Kind::Read, &view, partition, Tried::default()) {
            Decision::Forward { server, .. } => view.servers.get(server).map(|server| server.id),
            Decision::Refuse(_) => None,
        }
    }
}

/// Has a session end that an operator wants to: as by a `KILL` of its own account. Whether there is one
/// with this id of failsoft's.
pub(crate) async fn end_session(worker: &Worker, id: u32) -> bool {
    let Some(claim) = worker.shared.registry.claim(id) else { return false };
    let entry = &claim.0;
    if let Some((held, account)) = entry.connection.zip(account_of(worker, entry)) {
        let wanted = Wanted {
            server: held.server,
            epoch: None,
            account: &account,
            capabilities: Capabilities::BASE.and(Capabilities::CARRIED),
            collation: UTF8MB4_GENERAL_CI,
            schema: b"",
            user_was_changed: false,
            attributes: &[],
            ends: None,
        };
        if let Err(error) = kill_on(worker, wanted, held.id.into(), What::Session).await {
            tracing::warn!("session {id} ends after what it runs: {}", error.message);
        }
    }
    entry.leash.end.cancel();
    true
}

const UTF8MB4_GENERAL_CI: u16 = 45;

/// The account of a session, as far as its password is known without it.
fn account_of(worker: &Worker, entry: &Entry) -> Option<Account> {
    let listed = worker.account(entry.account.as_bytes());
    listed.or_else(|| {
        let setup = worker.setup();
        let passthrough = setup.passthrough.as_deref()?;
        passthrough.find_of_host(&entry.account, entry.leash.facts().host(), now())
    })
}

fn server_name(worker: &Worker, server: ServerId) -> String {
    let view = worker.view();
    let named = view.server(server).map(|server| format!("{} {}", server.role, server.name));
    named.unwrap_or_else(|| "a server".to_owned())
}

/// Has a server kill one of its connections, over a connection of its own.
async fn kill_on(
    worker: &Worker,
    wanted: Wanted<'_>,
    id: u64,
    what: What,
) -> Result<(), ClientError> {
    let unreachable =
        |cause: String| refusal::cannot_kill(id, &server_name(worker, wanted.server), &cause);
    let mut backend = connect::open(worker, wanted).await.map_err(|error| match &*error {
        ConnectError::Server(error) => verbatim(error),
        error => unreachable(error.to_string()),
    })?;
    let sql = match what {
        What::Session => format!("KILL CONNECTION {id}"),
        What::Statement => format!("KILL QUERY {id}"),
    };
    let limit = worker.connect_timeout();
    let told = within(limit, run(&mut backend, sql.as_bytes())).await;
    backend.close();
    told.map_err(|error| match error {
        RestoreError::Refused(error) => verbatim(&error),
        RestoreError::Lost(loss) => unreachable(loss.0),
    })
}
