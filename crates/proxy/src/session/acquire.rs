//! A connection to a server for the session: the one in hand, one that was kept, or a new one.

use std::rc::Rc;

use policy::route::Access;
use policy::topology::ServerId;
use wire::capabilities::Capabilities;

use super::Session;
use super::ending::marks;
use super::unavailable::{Unavailable, is_bad_schema};
use crate::backend::connect::{self, Wanted};
use crate::backend::restore::{Home, restore, within};
use crate::backend::{Backend, ConnectError};
use crate::settings::Account;

impl Session {
    /// Makes sure that the session holds a connection to the server that is good for this.
    pub(super) async fn acquire(
        &mut self,
        server: ServerId,
        access: Access,
        epoch: u64,
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
        let (mut backend, home) = match Box::pin(self.take_kept(server, epoch, access)).await {
            Some(taken) => taken,
            None => {
                let (mut backend, home) = Box::pin(self.open(server, epoch)).await?;
                let limit = self.worker.connect_timeout();
                let restoring = restore(&mut backend, &self.carried, home, access);
                Box::pin(within(limit, restoring)).await?;
                (backend, home)
            }
        };
        backend.is_marked |= self.carried.settings.iter().any(|setting| marks(&setting.sql));
        backend.in_schema = home.current == self.carried.schema;
        backend.held_by(self.client.admission.id);
        self.carried.schema_is_known |= backend.in_schema;
        if self.carried.settings.is_empty() {
            self.set_status(backend.status);
        }
        if let Some(old) = self.backend.replace(backend) {
            self.memory.lose(&old.name, "the session moved to another server");
            old.close();
        }
        Ok(())
    }

    /// The session's account, with the password that it has by now.
    pub(super) fn account(&self) -> Account {
        let login = &self.client.account;
        self.worker.account(login.name.as_bytes()).unwrap_or_else(|| login.clone())
    }

    /// A connection that was kept and is the session's now; none where there is none. One that turns
    /// out to be lost says nothing of its server, which may have given it up long ago.
    async fn take_kept(
        &self,
        server: ServerId,
        epoch: Option<u64>,
        access: Access,
    ) -> Option<(Backend, Home<'_>)> {
        if self.worker.pool.is_empty() {
            return None;
        }
        let (account, home) = (self.account(), self.home_on(server));
        let wanted = Wanted { schema: home.login, ..self.wanted(server, epoch, &account) };
        let limit = self.worker.connect_timeout();
        while let Some(mut backend) = self.worker.pool.take(&self.worker, &wanted) {
            if within(limit, restore(&mut backend, &self.carried, home, access)).await.is_ok() {
                return Some((backend, home));
            }
        }
        None
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
