//! Taking connections, on every core.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use policy::view::View;
use socket2::{Domain, Protocol, Socket, Type};
use telemetry::Metrics;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::error::ClientError;

use crate::login::login;
use crate::passthrough::Passthrough;
use crate::proxied::Ends;
use crate::session::Session;
use crate::settings::{Listen, Settings};
use crate::stream::Stream;
use crate::tls::{Tls, TlsError};
use crate::worker::{Shared, Worker};
use crate::{Report, refusal};

/// The running data plane.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<String>,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    sockets: Vec<PathBuf>,
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
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

/// Connections that wait to be taken, per core.
const BACKLOG: i32 = 1024;

/// How often a core's counters go to the registry.
const FLUSH: Duration = Duration::from_millis(500);

/// The listening sockets of one core.
type Sockets = (Vec<std::net::TcpListener>, Vec<std::os::unix::net::UnixListener>);

/// The sockets of every core, all addresses, and the files of Unix sockets.
type Bound = (Vec<Sockets>, Vec<String>, Vec<PathBuf>);

/// Starts the data plane on threads of its own.
///
/// # Errors
///
/// [`StartError`]; then nothing was started.
pub fn start(
    settings: Settings,
    views: watch::Receiver<Arc<View>>,
    reports: mpsc::UnboundedSender<Report>,
    metrics: Arc<Metrics>,
) -> Result<Proxy, StartError> {
    let tls = Tls::new(&settings.tls_clients, &settings.tls_servers)?;
    let settings = Arc::new(settings);
    let by_host = settings.servers.iter().any(|server| server.proxy_protocol);
    let passthrough = settings.passthrough.map(|lifetime| Passthrough::new(lifetime, by_host));
    let shared = Arc::new(Shared::new(settings.servers.len(), passthrough.transpose()?));
    let (cores, addresses, sockets) = bind(&settings)?;
    let stop = CancellationToken::new();
    let mut threads = Vec::new();
    for (core, listening) in cores.into_iter().enumerate() {
        let (settings, tls, shared) = (Arc::clone(&settings), tls.clone(), Arc::clone(&shared));
        let (views, reports, metrics) = (views.clone(), reports.clone(), Arc::clone(&metrics));
        let stop = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let thread = std::thread::Builder::new().name(format!("sessions-{core}"));
        let serve = move || {
            let worker = Worker::new(settings, metrics.worker(), tls, shared, reports);
            let local = LocalSet::new();
            local.block_on(&runtime, run_core(Rc::new(worker), listening, views, stop));
        };
        threads.push(thread.spawn(serve).map_err(StartError::Thread)?);
    }
    Ok(Proxy { addresses, threads, stop, sockets })
}

impl Proxy {
    /// The addresses that are listened on, with the ports that were chosen where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Stops taking connections, lets transactions end up to the drain deadline, and waits for all
    /// threads to end.
    pub fn drain(self) {
        self.stop.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data-plane thread ended by a panic");
            }
        }
        for socket in self.sockets {
            // Somebody else may have removed it, or put another in its place.
            let _removed = std::fs::remove_file(socket);
        }
    }
}

/// Binds every address once for each core.
fn bind(settings: &Settings) -> Result<Bound, StartError> {
    let mut cores: Vec<Sockets> =
        (0..settings.threads.max(1)).map(|_| Sockets::default()).collect();
    let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
    for listen in &settings.listen {
        match listen {
            Listen::Tcp(text) => {
                let failed = |source| StartError::Listen { address: text.clone(), source };
                for address in text.to_socket_addrs().map_err(failed)? {
                    let mut address = address;
                    for (tcp, _) in &mut cores {
                        let listener = bind_tcp(address).map_err(failed)?;
                        // With port 0 the first core chooses for all.
                        address = listener.local_addr().map_err(failed)?;
                        tcp.push(listener);
                    }
                    addresses.push(address.to_string());
                }
            }
            Listen::Unix(path) => {
                let address = format!("unix:{}", path.display());
                let failed = |source| StartError::Listen { address: address.clone(), source };
                let listener = bind_unix(path).map_err(failed)?;
                for (_, unix) in &mut cores {
                    unix.push(listener.try_clone().map_err(failed)?);
                }
                sockets.push(path.clone());
                addresses.push(address);
            }
        }
    }
    Ok((cores, addresses, sockets))
}

/// SO_REUSEPORT lets the kernel share connections out among the cores.
fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket left behind by a process that was killed is replaced; any other file is not.
fn bind_unix(path: &PathBuf) -> io::Result<std::os::unix::net::UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn run_core(
    worker: Rc<Worker>,
    (tcp, unix): Sockets,
    mut views: watch::Receiver<Arc<View>>,
    stop: CancellationToken,
) {
    worker.set_view(&views.borrow_and_update().clone());
    let sessions = TaskTracker::new();
    let accepting = CancellationToken::new();
    let take = |listener| {
        let accept = accept(Rc::clone(&worker), listener, sessions.clone(), accepting.clone());
        tokio::task::spawn_local(accept);
    };
    for listener in tcp.into_iter().filter_map(|l| TcpListener::from_std(l).ok()) {
        take(Listener::Tcp(listener));
    }
    for listener in unix.into_iter().filter_map(|l| UnixListener::from_std(l).ok()) {
        take(Listener::Unix(listener));
    }
    let mut flush = tokio::time::interval(FLUSH);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = views.changed() => match changed {
                Ok(()) => worker.set_view(&views.borrow_and_update().clone()),
                Err(_) => break,
            },
            _ = flush.tick() => worker.metrics.flush(),
        }
    }
    accepting.cancel();
    worker.drain.cancel();
    sessions.close();
    let deadline = worker.settings.drain_timeout;
    if tokio::time::timeout(deadline, sessions.wait()).await.is_err() {
        worker.halt.cancel();
        // They only have to say so; one that cannot is cut off.
        let _ended = tokio::time::timeout(Duration::from_secs(1), sessions.wait()).await;
    }
    worker.metrics.flush();
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes a connection; yields its ends too, but for one over a Unix socket.
    async fn accept(&self) -> io::Result<(Stream, Option<Ends>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let ends = Ends::new(peer, stream.local_addr()?);
                Ok((Stream::Tcp(stream), Some(ends)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

/// How long a core waits when a connection cannot be taken, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn accept(
    worker: Rc<Worker>,
    listener: Listener,
    sessions: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, ends)) => {
                let serving = serve(Rc::clone(&worker), stream, ends);
                sessions.spawn_local(serving);
            }
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one client from its connection to its end.
async fn serve(worker: Rc<Worker>, mut stream: Stream, ends: Option<Ends>) {
    let mut counted = worker.metrics.session();
    let limits = worker.settings.limits;
    let Some(admission) = worker.shared.admit(limits.connections) else {
        worker.metrics.login("too_many");
        let what = format!("limits.connections is {}", limits.connections);
        greet_with_error(&mut stream, &refusal::too_many_connections(&what)).await;
        return;
    };
    let entering = login(&worker, stream, ends, admission);
    match tokio::time::timeout(limits.login_timeout, entering).await {
        Ok(Ok(client)) => {
            worker.metrics.login("ok");
            counted.set(telemetry::SessionState::Open);
            Session::new(worker, client).run().await;
        }
        Ok(Err(result)) => worker.metrics.login(result),
        Err(_) => worker.metrics.login("timeout"),
    }
}

/// How long a client that is not let in has to hang up.
const HANG_UP: Duration = Duration::from_secs(1);

async fn greet_with_error(stream: &mut Stream, error: &ClientError) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = Vec::new();
    error.encode_before_login(&mut bytes);
    // It may be gone already.
    let _told = stream.write_all(&bytes).await;
    let _ended = stream.shutdown().await;
    // A load balancer may have sent a PROXY header, which if left unread would turn the end into a
    // reset, and that can overtake the error.
    let mut unread = [0; 512];
    let gone = async { while stream.read(&mut unread).await.is_ok_and(|len| len > 0) {} };
    let _gone = tokio::time::timeout(HANG_UP, gone).await;
}
