//! A connection to a server for the session: the one in hand, one that was kept, or a new one.

use std::rc::Rc;

use policy::route::Access;
use policy::topology::ServerId;
use sql::Kind;
use wire::capabilities::Capabilities;

use super::Session;
use super::ending::marks;
use super::unavailable::{Unavailable, is_bad_schema};
use crate::backend::cleaning::clean;
use crate::backend::connect::{self, Wanted};
use crate::backend::pool::{Fit, Found, MadeFor, Seeker};
use crate::backend::restore::{Home, RestoreError, restore, within};
use crate::backend::{Backend, ConnectError, Loss, insert_ids};
use crate::settings::Account;

/// Why a session's state is lost that its former server knew.
pub(super) const MOVED: &str = "the session moved to another server";

/// What connection is sought.
#[derive(Clone, Copy)]
pub(super) struct Sought {
    pub(super) server: ServerId,
    /// The epoch whose writes it is for, if it is for writes.
    pub(super) epoch: Option<u64>,
    pub(super) access: Access,
    /// It is for a statement that asks for what statements before it left.
    pub(super) asks: bool,
}

impl Session {
    /// Makes sure that the session holds a connection to the server that is good for this.
    pub(super) async fn acquire(
        &mut self,
        server: ServerId,
        access: Access,
        epoch: u64,
        kind: Kind,
    ) -> Result<(), Unavailable> {
        if let Some(backend) = &self.backend {
            let fits = match access {
                Access::Held => true,
                Access::Write => backend.takes_writes(epoch),
                Access::Read => backend.epoch.is_none(),
            };
            if backend.server == server && fits {
                return Ok(());
            }
        }
        let epoch = (access == Access::Write).then_some(epoch);
        let sought = Sought { server, epoch, access, asks: kind == Kind::OwnRead };
        let turn = match self.worker.sharing() {
            Some(sharing) => Some(self.take_turn(server, sharing).await?),
            None => None,
        };
        if let Some(parked) = self.parked.take()
            && let Some(mut own) = Box::pin(self.take_parked(parked, sought)).await
        {
            own.turn = turn;
            self.backend = Some(own);
            return Ok(());
        }
        let (mut backend, home) = Box::pin(self.take_or_open(sought)).await?;
        backend.turn = turn;
        backend.is_marked |= self.carried.settings.iter().any(|setting| marks(&setting.sql));
        backend.in_schema = home.current == self.carried.schema;
        backend.held_by(self.client.admission.id);
        self.carried.schema_is_known |= backend.in_schema;
        self.memory.pay_insert_id();
        if self.carried.settings.is_empty() {
            self.set_status(backend.status);
        }
        if let Some(old) = self.backend.replace(backend) {
            self.memory.lose(&old.name, MOVED);
            old.close();
        }
        Ok(())
    }

    /// A connection that was kept, made the session's, or a new one.
    async fn take_or_open(&self, sought: Sought) -> Result<(Backend, Home<'_>), Unavailable> {
        let owed = self.memory.owed_insert_id();
        if !self.worker.pool.is_empty() {
            if let Some(taken) = self.take_kept(sought, owed).await {
                return Ok(taken);
            }
            self.make_room_at(sought.server).await;
        }
        let (mut backend, home) = self.open(sought.server, sought.epoch).await?;
        let limit = self.worker.connect_timeout();
        within(limit, restore(&mut backend, &self.carried, home, sought.access)).await?;
        insert_ids::give(&self.worker, &mut backend, owed).await?;
        Ok((backend, home))
    }

    /// A connection that was kept and is the session's now; none where there is none. One that turns
    /// out to be lost says nothing of its server, which may have given it up long ago.
    async fn take_kept(&self, sought: Sought, owed: u64) -> Option<(Backend, Home<'_>)> {
        let (account, home) = (self.account(), self.home_on(sought.server));
        let wanted = self.wanted(sought.server, sought.epoch, &account);
        let wanted = Wanted { schema: home.login, ..wanted };
        let seeker = Seeker { carried: &self.carried, schema: home.current, asks: sought.asks };
        while let Some(found) = self.worker.pool.take(&self.worker, &wanted, &seeker) {
            let Found { mut backend, fit, owner } = found;
            let making = async {
                insert_ids::keep(&self.worker, &mut backend, owner).await?;
                self.make_own(&mut backend, fit, &wanted, (home, sought.access)).await?;
                insert_ids::give(&self.worker, &mut backend, owed).await
            };
            if making.await.is_ok() {
                return Some((backend, home));
            }
        }
        None
    }

    /// Gives a connection that was kept the session's state.
    async fn make_own(
        &self,
        backend: &mut Backend,
        fit: Fit,
        wanted: &Wanted<'_>,
        (home, access): (Home<'_>, Access),
    ) -> Result<(), RestoreError> {
        let limit = self.worker.connect_timeout();
        if fit == Fit::Uncleaned {
            let login = MadeFor::of(wanted, backend);
            let login = login.ok_or_else(|| Loss("it cannot be cleaned".to_owned()))?;
            within(limit, clean(&self.worker, backend, &login)).await?;
        }
        match fit {
            Fit::Same => Ok(()),
            Fit::Clean | Fit::Uncleaned => {
                within(limit, restore(backend, &self.carried, home, access)).await
            }
        }
    }

    /// The session's account, with the password that it has by now.
    pub(super) fn account(&self) -> Account {
        let login = &self.client.account;
        self.worker.account(login.name.as_bytes()).unwrap_or_else(|| login.clone())
    }

    /// The schemas of a connection to a server. What was set without a schema has to be set again
    /// without.
    fn home_on(&self, server: ServerId) -> Home<'_> {
        let current = self.schema_on(server);
        let login = if self.carried.began_without_schema() { b"" } else { current };
        Home { login, current }
    }

    async fn open(
        &self,
        server: ServerId,
        epoch: Option<u64>,
    ) -> Result<(Backend, Home<'_>), Rc<ConnectError>> {
        let account = self.account();
        let home = self.home_on(server);
        let mut wanted = Wanted { schema: home.login, ..self.wanted(server, epoch, &account) };
        match connect::open(&self.worker, wanted).await {
            // It was there once: it was dropped, or this server has not got it yet. As on a server
            // whose current schema is dropped, the session goes on without one.
            Err(error) if self.carried.schema_is_known && is_bad_schema(&error) => {
                wanted.schema = b"";
                let backend = connect::open(&self.worker, wanted).await?;
                Ok((backend, Home { login: b"", current: b"" }))
            }
            opened => Ok((opened?, home)),
        }
    }

    /// What the session wants of a connection, which has no schema.
    pub(super) fn wanted<'a>(
        &'a self,
        server: ServerId,
        epoch: Option<u64>,
        account: &'a Account,
    ) -> Wanted<'a> {
        Wanted {
            server,
            epoch,
            account,
            capabilities: self.client.capabilities.and(Capabilities::CARRIED),
            collation: self.client.collation,
            schema: b"",
            user_was_changed: self.carried.user_was_changed,
            attributes: &self.client.attributes,
            ends: self.client.ends,
        }
    }
}
