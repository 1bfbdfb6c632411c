//! Whose turn it is at a server's connections, where sessions share them.
//!
//! There are as many turns as connections. Who has none to give back waits, and is served in the order
//! of coming: a turn that is given back goes to the first that waits, and nobody who comes later gets in
//! between.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::Sharing;

/// The turns at one server's connections, on one core.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    /// How many there are in all.
    size: Cell<usize>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(0)), size: Cell::new(0) }
    }
}

impl Turns {
    /// A turn, if there is one that nobody waits for.
    pub(crate) fn try_take(&self, sharing: Sharing) -> Option<OwnedSemaphorePermit> {
        self.resize(sharing.size);
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Waits for a turn; none when it does not come in time.
    pub(crate) async fn wait(&self, sharing: Sharing) -> Option<OwnedSemaphorePermit> {
        self.resize(sharing.size);
        let waiting = Arc::clone(&self.free).acquire_owned();
        // The semaphore is never closed.
        tokio::time::timeout(sharing.wait, waiting).await.ok()?.ok()
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.size.get().saturating_sub(self.free.available_permits())
    }

    /// Makes them as many as that. Those that are taken and too many go when they are given back.
    fn resize(&self, size: usize) {
        let now = self.size.get();
        if size > now {
            self.free.add_permits(size - now);
            self.size.set(size);
        } else if size < now {
            self.size.set(now - self.free.forget_permits(now - size));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    fn sharing(size: usize) -> Sharing {
        Sharing { size, wait: Duration::from_secs(60) }
    }

    #[tokio::test]
    async fn who_waits_is_served_in_the_order_of_coming_and_not_for_ever() {
        let turns = Rc::new(Turns::default());
        let first = turns.wait(sharing(1)).await.unwrap();
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks = tokio::task::LocalSet::new();
        for number in 0..5 {
            let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
            tasks.spawn_local(async move {
                let _turn = turns.wait(sharing(1)).await.unwrap();
                order.borrow_mut().push(number);
            });
        }
        tasks
            .run_until(async {
                for _ in 0..9 {
                    tokio::task::yield_now().await;
                }
                assert!(order.borrow().is_empty() && turns.taken() == 1);
                drop(first);
            })
            .await;
        tasks.await;
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
        let _first = turns.wait(sharing(1)).await.unwrap();
        let impatient = Sharing { wait: Duration::from_millis(1), ..sharing(1) };
        assert!(turns.wait(impatient).await.is_none(), "the time was up");
    }

    #[tokio::test]
    async fn there_are_as_many_as_the_configuration_says_by_now() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(turns.wait(sharing(3)).await.unwrap());
        }
        taken.push(turns.wait(sharing(4)).await.unwrap());
        assert_eq!(turns.taken(), 4);
        drop(taken);
        let _first = turns.wait(sharing(1)).await.unwrap();
        assert_eq!((turns.taken(), turns.free.available_permits()), (1, 0));
    }
}
