//! Which partition a session's commands go to.
//!
//! The place of a command is found where it is read, and settled where it is served. With one
//! partition neither looks at anything. And each partition has its own master and epoch, which a
//! connection is held against here.

use policy::partition::{Place, Refusal, settle};
use policy::session::Pins;
use policy::view::{Partition, View};
use wire::error::ClientError;

use super::statement::Request;
use super::{Flow, Session};
use crate::backend::Loss;
use crate::refusal;

impl Session {
    /// The place of the statement that the present command brings; a `COM_QUERY` may have
    /// attributes in front of it.
    pub(super) fn place(&self, may_have_attributes: bool) -> Place {
        let homes = &self.worker.settings.homes;
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
        self.worker.settings.homes.place_of(schema)
    }

    /// The partition that the command goes to, an index into the view's.
    ///
    /// # Errors
    ///
    /// What the client is told: the command belongs to two, or the session cannot go there.
    pub(super) fn partition(&self, request: &Request, view: &View) -> Result<usize, ClientError> {
        let homes = &self.worker.settings.homes;
        if !homes.are_several() {
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

    /// The same, with the partition; the client has been told if there is none.
    pub(super) async fn partition_or_tell<'v>(
        &mut self,
        request: &Request,
        view: &'v View,
    ) -> Result<(usize, &'v Partition), Flow> {
        match self.partition(request, view) {
            Ok(at) => Ok((at, view.partitions.get(at).ok_or(Flow::End)?)),
            Err(error) => Err(self.tell(&error).await),
        }
    }

    /// The partition of the current schema.
    pub(super) fn current_partition(&self) -> usize {
        self.worker.settings.homes.of_session(&self.carried.schema)
    }

    /// The partition of the server that the session holds a connection to.
    pub(super) fn held_partition(&self, view: &View) -> Option<usize> {
        let server = self.backend.as_ref()?.server;
        view.servers.get(server).map(|server| server.partition)
    }

    /// The current schema as a server can be given it: one of another partition is not there, and
    /// the session goes to such a server only for schemas that its statements name.
    pub(super) fn schema_on(&self, server: usize) -> &[u8] {
        self.known_on(server, &self.carried.schema)
    }

    /// A schema, or none where it is another partition's than the server's.
    pub(super) fn known_on<'a>(&self, server: usize, schema: &'a [u8]) -> &'a [u8] {
        let homes = &self.worker.settings.homes;
        if !homes.are_several() {
            return schema;
        }
        let view = self.worker.view();
        let here = view.servers.get(server).map(|server| server.partition);
        match homes.of(schema) {
            Some(home) if Some(home) != here => b"",
            _ => schema,
        }
    }

    /// Whether the server is the master that takes writes, as of now.
    pub(super) fn is_still_master(&self, server: usize) -> bool {
        let view = self.worker.view();
        let epoch = self.backend.as_ref().and_then(|backend| backend.epoch);
        let at = view.servers.get(server).map(|server| server.partition);
        at.and_then(|at| view.partitions.get(at)).is_some_and(|partition| {
            partition.mode.tries_master()
                && partition.master == Some(server)
                && Some(partition.epoch) == epoch
        })
    }

    /// A connection that was opened to the master of an older epoch is not used any more; what was
    /// open on it is lost. Whether that was so.
    pub(super) fn leave_stale_master(&mut self, view: &View) -> bool {
        let held = self.held_partition(view).and_then(|at| view.partitions.get(at));
        let stale = self
            .backend
            .as_ref()
            .and_then(|backend| backend.epoch)
            .is_some_and(|epoch| held.is_none_or(|partition| epoch != partition.epoch));
        if stale {
            self.lose(&Loss("it is no longer the master it was".to_owned()));
        }
        stale
    }
}
