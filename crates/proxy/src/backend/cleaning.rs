//! Putting a connection back to what it was after its login, for whoever takes it next.
//!
//! MariaDB cleans a connection by `COM_RESET_CONNECTION`, which puts the login's character set back, and
//! `COM_INIT_DB`, which puts the schema's back. MySQL goes to the character set that it starts with then,
//! so there it is `COM_CHANGE_USER`, which is a login of its own (seen on MariaDB 10.11 and MySQL 9.7).
//! What neither takes back is not kept at all: see [`Backend::is_marked`].

use std::rc::Rc;

use policy::topology::ServerId;

use super::connect::log_in_again;
use super::pool::MadeFor;
use super::restore::{RestoreError, reset, setting_of_init_connect, within};
use super::{Backend, Loss};
use crate::clock::now;
use crate::worker::Worker;

/// Keeps a connection on which nothing is in flight for others, or closes it. It is cleaned first, while
/// nobody waits for it.
pub(crate) fn give_back(worker: &Rc<Worker>, mut backend: Backend, made_for: MadeFor) {
    let room = |settings| worker.pool.has_room(backend.server, settings);
    let is_wanted = !backend.is_marked
        && backend.buffer.is_empty()
        && !worker.drain.is_cancelled()
        && worker.pool_settings().is_some_and(room);
    if !is_wanted {
        backend.close();
        return;
    }
    let cleaning = Cleaning::begin(worker, backend.server);
    tokio::task::spawn_local(async move {
        let worker = &cleaning.worker;
        let limit = worker.connect_timeout();
        match within(limit, clean(worker, &mut backend, &made_for)).await {
            Ok(()) if !worker.drain.is_cancelled() => worker.pool.keep_clean(backend, made_for),
            Ok(()) => backend.close(),
            Err(error) => tracing::debug!("a connection is not kept: {error}"),
        }
    });
}

/// A connection to a server that is being cleaned: it counts as one that is kept.
struct Cleaning {
    worker: Rc<Worker>,
    server: ServerId,
}

impl Cleaning {
    fn begin(worker: &Rc<Worker>, server: ServerId) -> Self {
        worker.pool.begin_cleaning(server);
        Self { worker: Rc::clone(worker), server }
    }
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        self.worker.pool.end_cleaning(self.server);
    }
}

/// Puts a connection back to what it would be after a login as this one.
pub(crate) async fn clean(
    worker: &Worker,
    backend: &mut Backend,
    login: &MadeFor,
) -> Result<(), RestoreError> {
    // Asked before, so that the answer is not the last thing that the connection knows of.
    if !worker.pool.is_plain(backend.server, now()) {
        if setting_of_init_connect(backend).await?.is_none_or(|text| !text.is_empty()) {
            return Err(Loss("the server has an init_connect".to_owned()).into());
        }
        worker.pool.note_plain(backend.server, now());
    }
    let MadeFor { account, collation, schema, attributes, .. } = login;
    if backend.resets_to_login {
        reset(backend, schema).await?;
    } else {
        let again = log_in_again(backend, account, *collation, schema, attributes).await;
        backend.status = again.map_err(|error| Loss(error.to_string()))?;
    }
    backend.prepared.clear();
    backend.may_have_insert_id = false;
    Ok(())
}
