//! The last insert ids of sessions whose connection is another session's by now.
//!
//! An insert id cannot be known from outside: what an OK packet carries may be a value that the client
//! gave itself. So a connection is asked for it before another session gets it.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::sync::watch;

use super::Backend;
use super::restore::{RestoreError, insert_id, set_insert_id, within};
use crate::worker::Worker;

/// What sessions left behind, by failsoft's ids of them.
#[derive(Debug, Default)]
pub(crate) struct InsertIds(RefCell<HashMap<u32, watch::Receiver<Option<u64>>>>);

impl InsertIds {
    /// The id that a session had on a connection that was taken from it; none where it is not known.
    /// Waits for those who are asking for it.
    pub(crate) async fn take(&self, session: u32) -> Option<u64> {
        let mut asked = self.0.borrow_mut().remove(&session)?;
        // The sender goes when the connection is lost.
        asked.wait_for(Option::is_some).await.ok().and_then(|id| *id)
    }

    /// The session will not come for it.
    pub(crate) fn forget(&self, session: u32) {
        self.0.borrow_mut().remove(&session);
    }
}

/// Keeps a connection's last insert id for the session that it was taken from.
pub(crate) async fn keep(
    worker: &Worker,
    backend: &mut Backend,
    owner: Option<u32>,
) -> Result<(), RestoreError> {
    let Some(owner) = owner.filter(|_| backend.may_have_insert_id) else { return Ok(()) };
    let (sender, receiver) = watch::channel(None);
    worker.insert_ids.0.borrow_mut().insert(owner, receiver);
    let id = within(worker.connect_timeout(), insert_id(backend)).await?;
    // Nobody may wait for it yet.
    sender.send_replace(id);
    Ok(())
}

/// Gives a connection the last insert id of the session that takes it, in place of another's.
pub(crate) async fn give(
    worker: &Worker,
    backend: &mut Backend,
    id: u64,
) -> Result<(), RestoreError> {
    if backend.may_have_insert_id || id != 0 {
        within(worker.connect_timeout(), set_insert_id(backend, id)).await?;
    }
    backend.may_have_insert_id = id != 0;
    Ok(())
}
