//! Which partition a session's commands go to.
//!
//! The place of a command is found where it is read, and settled where it is served. With one
//! partition neither looks at anything. And each partition has its own master and epoch, which a
//! connection is held against here.

use policy::partition::{Place, Refusal, settle};
use policy::session::Pins;
use policy::topology::ServerId;
use policy::view::{Partition, View};
use sql::Kind;
use wire::command;
use wire::error::ClientError;

use super::statement::Request;
use super::{Flow, Session};
use crate::backend::Loss;
use crate::refusal;
use crate::worker::{DISABLED, NO_MASTER, REMOVED};

impl Session {
    /// The place of the statement that the present command brings; a `COM_QUERY` may have
    /// attributes in front of it.
    pub(super) fn place(&self, may_have_attributes: bool) -> Place {
        let setup = self.worker.setup();
        let homes = &setup.settings.homes;
        if !homes.are_several() {
            return Place::Anywhere;
        }
        let payload = self.whole_payload();
        // What cannot be read is never served.
        let Ok(at) = self.text_at(may_have_attributes, &payload) else { return Place::Anywhere };
        let sql = payload.get(at..).unwrap_or_default();
        homes.place(sql, self.dialect(), &self.carried.schema)
    }

    /// The place of a command that concerns a schema.
    pub(super) fn place_of(&self, schema: &[u8]) -> Place {
        self.worker.setup().settings.homes.place_of(schema)
    }

    /// Finds the place of a command anew where that was found with another configuration. Schemas
    /// may have moved since, and a place says nothing in another configuration.
    fn place_again(&mut self, request: &mut Request, view: &View) {
        if request.generation == view.generation {
            return;
        }
        request.generation = view.generation;
        request.place = match request.code {
            command::QUERY => self.place(true),
            command::STMT_PREPARE => self.place(false),
            command::INIT_DB => self.place_of(self.payload().get(1..).unwrap_or_default()),
            command::FIELD_LIST => self.place_of(&self.carried.schema),
            command::STMT_EXECUTE | command::STMT_BULK_EXECUTE | command::STMT_SEND_LONG_DATA => {
                self.place_prepared(request.prepared, view)
            }
            _ => Place::Anywhere,
        };
    }

    fn place_prepared(&mut self, id: Option<u32>, view: &View) -> Place {
        let setup = self.worker.setup();
        let dialect = self.dialect();
        let Some(prepared) = id.and_then(|id| self.carried.prepared.get_mut(&id)) else {
            return Place::Anywhere;
        };
        let homes = &setup.settings.homes;
        prepared.generation = view.generation;
        prepared.place = match homes.are_several() {
            true => homes.place(&prepared.sql, dialect, &prepared.schema),
            false => Place::Anywhere,
        };
        prepared.place
    }

    /// The partition that the command goes to, an index into the view's.
    ///
    /// # Errors
    ///
    /// What the client is told: the command belongs to two, or the session cannot go there.
    pub(super) fn partition(&self, request: &Request, view: &View) -> Result<usize, ClientError> {
        if !self.worker.setup().settings.homes.are_several() {
            return Ok(0);
        }
        let current = self.current_partition();
        let held = self.held_partition(view);
        settle(request.place, request.statement, current, held, self.is_tied()).map_err(|refused| {
            self.worker.metrics.refused("partitions");
            match refused {
                Refusal::Across(one, other) => refusal::across_partitions(view, one, other),
                Refusal::Tied { held, wanted } => {
                    let why = match self.pins {
                        Pins::NONE => "its open transaction".to_owned(),
                        pins => pins.words(),
                    };
                    refusal::tied_to_partition(view, held, wanted, &why)
                }
            }
        })
    }

    /// The partition itself; the client has been told if there is none.
    pub(super) async fn partition_or_tell<'v>(
        &mut self,
        request: &Request,
        view: &'v View,
    ) -> Result<&'v Partition, Flow> {
        match self.partition(request, view) {
            Ok(at) => view.partitions.get(at).ok_or(Flow::End),
            Err(error) => Err(self.tell(&error).await),
        }
    }

    /// The partition of the current schema.
    pub(super) fn current_partition(&self) -> usize {
        self.worker.setup().settings.homes.of_session(&self.carried.schema)
    }

    /// The partition of the server that the session holds a connection to.
    pub(super) fn held_partition(&self, view: &View) -> Option<usize> {
        view.server(self.backend.as_ref()?.server).map(|server| server.partition)
    }

    /// The current schema as a server can be given it: one of another partition is not there, and
    /// the session goes to such a server only for schemas that its statements name.
    pub(super) fn schema_on(&self, server: ServerId) -> &[u8] {
        self.known_on(server, &self.carried.schema)
    }

    /// A schema, or none where it is another partition's than the server's.
    pub(super) fn known_on<'a>(&self, server: ServerId, schema: &'a [u8]) -> &'a [u8] {
        let setup = self.worker.setup();
        let homes = &setup.settings.homes;
        if !homes.are_several() {
            return schema;
        }
        let here = self.worker.view().server(server).map(|server| server.partition);
        match homes.of(schema) {
            Some(home) if Some(home) != here => b"",
            _ => schema,
        }
    }

    /// Whether the server is the master that takes writes, as of now.
    pub(super) fn is_still_master(&self, server: ServerId) -> bool {
        let view = self.worker.view();
        let epoch = self.backend.as_ref().and_then(|backend| backend.epoch);
        let Some(at) = view.position(server) else { return false };
        let partition = view.servers.get(at).and_then(|it| view.partitions.get(it.partition));
        partition.is_some_and(|partition| {
            partition.mode.tries_master()
                && partition.master == Some(at)
                && Some(partition.epoch) == epoch
        })
    }

    /// Goes over to what a view says of the connection in hand and of the command's place. False
    /// where something may have been lost with the connection, which is to be dealt with first.
    pub(super) fn follow(&mut self, view: &View, request: &mut Request) -> bool {
        if self.leave_stale_server(view) {
            return false;
        }
        self.leave_old_terms(request, view);
        self.place_again(request, view);
        true
    }

    /// A connection is not used any more that was opened to the master of an older epoch, or to a
    /// server that was taken out; what was open on it is lost. Whether that was so.
    fn leave_stale_server(&mut self, view: &View) -> bool {
        let Some(backend) = &self.backend else { return false };
        let Some(server) = view.server(backend.server) else {
            self.lose(&Loss(REMOVED.to_owned()));
            return true;
        };
        let epoch = view.partitions.get(server.partition).map(|partition| partition.epoch);
        let cause = match backend.epoch {
            _ if !server.enabled => DISABLED,
            Some(held) if Some(held) != epoch => NO_MASTER,
            _ => return false,
        };
        self.lose(&Loss(cause.to_owned()));
        true
    }

    /// A connection that was made on other terms than those of the present configuration (another
    /// account, with or without TLS or compression) is left once that costs the session nothing: it
    /// is not tied, its server remembers nothing for it, and its statement asks for nothing such.
    fn leave_old_terms(&mut self, request: &Request, view: &View) {
        let Some(backend) = &mut self.backend else { return };
        if backend.generation == view.generation {
            return;
        }
        let terms = self.worker.terms(backend.server);
        if terms.is_some_and(|terms| terms == backend.terms) {
            backend.generation = view.generation;
            return;
        }
        let asks = request.statement.class.kind == Kind::OwnRead;
        if asks || self.is_tied() || self.memory.holds() {
            return;
        }
        if let Some(old) = self.backend.take() {
            self.memory.lose(&old.name, "it is reached in another way now");
            old.close();
        }
    }
}
