//! Starting, steering and draining the data plane.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use policy::view::View;
use telemetry::Metrics;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::Report;
use crate::accept::{Order, Queue, run_core};
use crate::authenticate::fresh_nonce;
use crate::clock::now;
use crate::registry::SessionInfo;
use crate::settings::{Listen, Settings};
use crate::setup::Setup;
use crate::sockets::{Heritage, Listening, Socket, listen};
use crate::tls::TlsError;
use crate::worker::{Shared, Worker};

/// The running data plane.
#[derive(Debug)]
pub struct Proxy {
    threads: Vec<JoinHandle<()>>,
    steering: Steering,
}

/// Why the data plane cannot start, or take another configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// A thread or its runtime cannot be made.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Starts the data plane on threads of its own. Sockets that are there already are taken from
/// `heritage`.
///
/// # Errors
///
/// [`StartError`]; then nothing was started.
pub fn start(
    settings: Settings,
    heritage: Heritage<'_>,
    views: watch::Receiver<Arc<View>>,
    reports: mpsc::UnboundedSender<Report>,
    metrics: Arc<Metrics>,
) -> Result<Proxy, StartError> {
    // The first random number takes a tenth of a second to come by: that is not the first client's to wait.
    let _unused = fresh_nonce();
    let setup = Setup::new(settings, None)?;
    let cores = setup.settings.threads.max(1);
    let ids = AtomicU64::new(0);
    let listening = listen_on(&setup.settings.listen, cores, &ids, heritage)?;
    let shared = Arc::new(Shared::new());
    let (setups, setup) = watch::channel(Arc::new(setup));
    let (mut threads, mut told) = (Vec::new(), Vec::new());
    for core in 0..cores {
        let (setup, shared, metrics) = (setup.clone(), Arc::clone(&shared), Arc::clone(&metrics));
        let (views, reports) = (views.clone(), reports.clone());
        let (orders, ordered) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let thread = std::thread::Builder::new().name(format!("sessions-{core}"));
        let serve = move || {
            let worker = Worker::new(setup, metrics.worker(), shared, reports);
            let local = LocalSet::new();
            local.block_on(&runtime, run_core(Rc::new(worker), ordered, views));
        };
        threads.push(thread.spawn(serve).map_err(StartError::Thread)?);
        told.push(orders);
    }
    let listens = Mutex::default();
    let steered = Steered { setups, cores: told, listening: listens, shared, ids };
    let steering = Steering(Arc::new(steered));
    steering.open(listening);
    Ok(Proxy { threads, steering })
}

impl Proxy {
    /// By which the configuration is changed.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// Stops taking connections, lets transactions end up to the drain deadline, and waits for all
    /// threads to end.
    pub fn drain(self) {
        self.steering.end();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data-plane thread ended by a panic");
            }
        }
    }
}

/// Gives a running data plane another configuration, in two steps: all that can fail is in the first.
#[derive(Clone, Debug)]
pub struct Steering(Arc<Steered>);

struct Steered {
    setups: watch::Sender<Arc<Setup>>,
    cores: Vec<mpsc::UnboundedSender<Order>>,
    listening: Mutex<Vec<Listening>>,
    shared: Arc<Shared>,
    /// What the next address is called.
    ids: AtomicU64,
}

/// A configuration that is ready to be in force.
pub struct Prepared {
    setup: Setup,
    opened: Vec<Opened>,
}

/// An address that is listened on, and what each core is given of it.
#[derive(Debug)]
struct Opened {
    listening: Listening,
    dealt: Vec<Vec<Socket>>,
}

impl std::fmt::Debug for Steered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steered").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("opened", &self.opened).finish_non_exhaustive()
    }
}

impl Steering {
    /// Reads the files that the settings name, makes what has to be made, and binds the addresses
    /// that are new. Blocks.
    ///
    /// # Errors
    ///
    /// [`StartError`]; then nothing has changed.
    pub fn prepare(&self, settings: Settings) -> Result<Prepared, StartError> {
        let before = Arc::clone(&self.0.setups.borrow());
        let known: Vec<_> = self.listening().iter().map(|it| it.listen.clone()).collect();
        let is_new = |listen: &&Listen| !known.contains(listen);
        let new: Vec<_> = settings.listen.iter().filter(is_new).cloned().collect();
        let setup = Setup::new(settings, Some(&before))?;
        let opened = listen_on(&new, self.0.cores.len(), &self.0.ids, &mut |_| None)?;
        Ok(Prepared { setup, opened })
    }

    /// Puts a configuration in force, as soon as there is a view of its generation.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { setup, opened } = prepared;
        let wanted = setup.settings.listen.clone();
        self.0.setups.send_replace(Arc::new(setup));
        let mut listening = self.listening();
        let (kept, closed) = std::mem::take(&mut *listening)
            .into_iter()
            .partition(|it: &Listening| wanted.contains(&it.listen));
        *listening = kept;
        drop(listening);
        for listening in closed {
            tracing::info!("no longer listening on {}", listening.address);
            self.close(listening);
        }
        self.open(opened);
    }

    /// Waits until all sessions go by the latest view: a statement that comes from then on is routed
    /// by it.
    pub async fn settle(&self) {
        let ask = |core: &mpsc::UnboundedSender<Order>| {
            let (settled, told) = oneshot::channel();
            // A core that has ended has no sessions.
            let _asked = core.send(Order::Settle(settled));
            told
        };
        let asked: Vec<_> = self.0.cores.iter().map(ask).collect();
        for told in asked {
            let _settled = told.await;
        }
    }

    /// What every session does, in the order of their ids.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let mut sessions = self.0.shared.registry.infos(now());
        sessions.sort_unstable_by_key(|session| session.id);
        sessions
    }

    /// Has a session end as a `KILL` would; whether there is one with this id.
    pub async fn end_session(&self, id: u32) -> bool {
        // Any core can; one that has ended cannot.
        for core in &self.0.cores {
            let (ended, told) = oneshot::channel();
            if core.send(Order::EndSession(id, ended)).is_ok()
                && let Ok(ended) = told.await
            {
                return ended;
            }
        }
        false
    }

    /// The addresses that are listened on, with the ports that were chosen where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listening().iter().map(|listening| listening.address.clone()).collect()
    }

    /// The sockets of an address, for a process that is to take connections from them as well.
    ///
    /// # Errors
    ///
    /// File descriptors ran out.
    pub fn share(&self, address: &str) -> io::Result<Vec<Socket>> {
        let mut all = self.listening();
        let Some(listening) = all.iter_mut().find(|it| it.address == address) else {
            return Ok(Vec::new());
        };
        let sockets: io::Result<_> = listening.sockets.iter().map(Socket::try_clone).collect();
        listening.is_shared = sockets.is_ok();
        sockets
    }

    fn listening(&self) -> MutexGuard<'_, Vec<Listening>> {
        self.0.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, opened: Vec<Opened>) {
        for Opened { listening, dealt } in opened {
            for (core, sockets) in self.0.cores.iter().zip(dealt) {
                // A core that has ended takes no more connections.
                let _told = core.send(Order::Open(listening.id, sockets));
            }
            tracing::info!("listening on {}", listening.address);
            self.listening().push(listening);
        }
    }

    /// Our own copies of the sockets go first: each core then takes what waits, and the last to do so
    /// closes them.
    fn close(&self, mut listening: Listening) {
        listening.clear_up();
        let queue = if listening.is_shared { Queue::Others } else { Queue::Ours };
        listening.sockets.clear();
        for core in &self.0.cores {
            let _told = core.send(Order::Close(listening.id, queue));
        }
    }

    fn end(&self) {
        for listening in std::mem::take(&mut *self.listening()) {
            self.close(listening);
        }
        for core in &self.0.cores {
            let _told = core.send(Order::Drain);
        }
    }
}

/// Listens on addresses as configured.
fn listen_on(
    addresses: &[Listen],
    cores: usize,
    ids: &AtomicU64,
    heritage: Heritage<'_>,
) -> Result<Vec<Opened>, StartError> {
    let mut all = Vec::new();
    for address in addresses {
        let found = listen(address, cores, ids.load(Ordering::Relaxed), &mut *heritage)?;
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        ids.fetch_add(count, Ordering::Relaxed);
        for listening in found {
            let failed = |source| StartError::Listen { address: listening.address.clone(), source };
            let dealt = listening.deal(cores).map_err(failed)?;
            all.push(Opened { listening, dealt });
        }
    }
    Ok(all)
}
