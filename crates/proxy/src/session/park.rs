//! Lending the connection out while the session has nothing on it: `pool.mode: transaction`.
//!
//! After each command the session looks whether anything of it is on its connection that another session
//! would miss or meet: an open transaction, what pins it, what only that connection knows. Where there is
//! nothing it *parks* the connection in the [pool](crate::backend::pool) of its core.

use std::rc::Rc;
use std::time::Duration;

use policy::topology::ServerId;
use tokio::sync::OwnedSemaphorePermit;
use wire::command;
use wire::frame::{put_packet, whole_packet};

use super::Session;
use super::acquire::{MOVED, Sought};
use super::unavailable::Unavailable;
use crate::backend::connect::Wanted;
use crate::backend::pool::{Condition, MadeFor, Own};
use crate::backend::{Backend, ConnectError, Loss, insert_ids};
use crate::clock::now;
use crate::settings::Sharing;

/// How long a session holds on to its connection that is likely to ask what it knows of the last
/// statement: its warnings, or how many rows it would have found.
const LINGERS: Duration = Duration::from_secs(1);

/// A connection that the session parked.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) server: ServerId,
    /// The statements that the client closed or reset since, by failsoft's ids. They may be prepared there,
    /// with what was sent for them.
    pub(super) stale: Vec<u32>,
}

impl Session {
    /// Parks the connection in hand after a command, or later, or not at all.
    pub(super) fn park(&mut self) {
        self.lingers_until = None;
        let is_asked_for_more = || whole_packet(&self.input).is_some();
        if self.backend.is_none() || self.worker.sharing().is_none() || is_asked_for_more() {
            return;
        }
        if self.memory.may_ask() {
            let until = now() + LINGERS;
            self.lingers_until = Some(until);
            self.idle.reset(until);
        } else {
            self.park_now();
        }
    }

    /// Parks the connection in hand, if that is possible now.
    pub(super) fn park_now(&mut self) {
        if !self.has_nothing_there() {
            return;
        }
        let Some(mut backend) = self.backend.take() else { return };
        let Some(condition) = self.condition(&backend) else {
            self.backend = Some(backend);
            return;
        };
        backend.may_have_insert_id |= self.memory.has_insert_id();
        backend.condition = Some(Rc::clone(&condition));
        self.parked = Some(Parked { server: backend.server, stale: Vec::new() });
        self.worker.pool.park(backend, condition);
    }

    /// Whether another session may have the connection in hand.
    fn has_nothing_there(&self) -> bool {
        let is_plain = self.pins.is_empty()
            && !self.may_be_in_transaction()
            && self.gone.is_none()
            && self.reported.is_none()
            && !self.memory.keeps()
            && !self.carried.schema_is_doubtful
            && self.carried.multi_statements.is_none();
        // Whoever is killing what the session runs means this connection.
        is_plain
            && !self.client.leash.is_killed()
            && self
                .backend
                .as_ref()
                .is_some_and(|backend| backend.in_schema && backend.buffer.is_empty())
    }

    /// What the connection in hand is to whoever takes it. It stays so until the session sets something.
    fn condition(&self, backend: &Backend) -> Option<Rc<Condition>> {
        let session = self.client.admission.id;
        if let Some(known) = &backend.condition
            && known.is_of(session, &self.carried)
        {
            return Some(Rc::clone(known));
        }
        let account = self.account();
        let wanted = self.wanted(backend.server, backend.epoch, &account);
        let wanted = Wanted { schema: &self.carried.schema, ..wanted };
        let made_for = MadeFor::of(&wanted, backend)?;
        Some(Rc::new(Condition::of(session, made_for, &self.carried)))
    }

    /// Waits for a turn at a server's connections. Who has a connection that does not fit gives that up
    /// first: two that wait for each other's would wait in vain.
    pub(super) async fn take_turn(
        &mut self,
        server: ServerId,
        sharing: Sharing,
    ) -> Result<OwnedSemaphorePermit, Unavailable> {
        if let Some(old) = self.backend.take() {
            self.memory.lose(&old.name, MOVED);
            old.close();
        }
        let Some(turns) = self.worker.turns(server) else {
            return Err(Rc::new(ConnectError::Gone).into());
        };
        if let Some(turn) = turns.try_take(sharing) {
            return Ok(turn);
        }
        let _waiting = self.worker.metrics.waiting();
        match Box::pin(turns.wait(sharing)).await {
            Some(turn) => Ok(turn),
            None => {
                self.worker.metrics.refused("no_turn");
                Err(Rc::new(ConnectError::NoTurn(sharing.wait)).into())
            }
        }
    }

    /// The connection that the session parked, if it is what is sought. Where it is another session's by
    /// now, what that left of it is noted.
    pub(super) async fn take_parked(&mut self, parked: Parked, sought: Sought) -> Option<Backend> {
        let session = self.client.admission.id;
        let wanted = (sought.server, sought.epoch);
        match self.worker.pool.take_own(&self.worker, session, wanted, &self.carried) {
            Own::Kept(mut backend) => {
                if close_all(&mut backend, &parked.stale).await.is_err() {
                    self.memory.lose(&backend.name, "it lost the connection");
                    return None;
                }
                Some(backend)
            }
            Own::Given(backend) => {
                let name = self.name_of(parked.server);
                match backend {
                    Some(backend) => {
                        self.memory.lose(&name, "it lost the connection");
                        backend.close();
                    }
                    None => self.memory.lose(&name, MOVED),
                }
                None
            }
            Own::Taken => {
                let id = self.worker.insert_ids.take(session).await;
                self.memory.move_on(&self.name_of(parked.server), id);
                None
            }
        }
    }

    fn name_of(&self, server: ServerId) -> String {
        let view = self.worker.view();
        view.server(server).map_or_else(String::new, |server| server.name.to_string())
    }

    /// Sees to it that there are no more connections to a server than are to be shared once another is
    /// made.
    pub(super) async fn make_room_at(&self, server: ServerId) {
        let (Some(sharing), Some(turns)) = (self.worker.sharing(), self.worker.turns(server))
        else {
            return;
        };
        while self.worker.pool.count(server) + turns.taken() > sharing.size {
            let Some((mut backend, owner)) = self.worker.pool.take_oldest(server) else { return };
            if insert_ids::keep(&self.worker, &mut backend, owner).await.is_ok() {
                backend.close();
            }
        }
    }

    /// Nobody comes for what the session parked.
    pub(super) fn give_up_parked(&mut self) {
        if self.parked.take().is_some() {
            let session = self.client.admission.id;
            self.worker.pool.disown(session);
            self.worker.insert_ids.forget(session);
        }
    }
}

/// Has the server forget these statements, as far as it knows them. Those that are not closed are prepared
/// again when they are needed.
async fn close_all(backend: &mut Backend, stale: &[u32]) -> Result<(), Loss> {
    let mut bytes = Vec::new();
    for known in stale.iter().filter_map(|id| backend.prepared.remove(id)) {
        let [a, b, c, d] = known.id.to_le_bytes();
        put_packet(&mut bytes, 0, &[command::STMT_CLOSE, a, b, c, d]);
    }
    match bytes.is_empty() {
        true => Ok(()),
        false => backend.send(&bytes, &mut 0).await,
    }
}
