//! What one core does: taking connections, and everything that follows from the views.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use policy::view::View;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use wire::error::ClientError;

use crate::clock::now;
use crate::login::{login, note_turned_away};
use crate::proxied::{self, Ends};
use crate::refusal;
use crate::session::{Session, end_session};
use crate::sockets::Socket;
use crate::stream::Stream;
use crate::worker::Worker;

/// How often a core's counters go to the registry.
const FLUSH: Duration = Duration::from_millis(500);

/// What a core is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// To take connections from these sockets.
    Open(u64, Vec<Socket>),
    /// To take no more from those of this number.
    Close(u64, Queue),
    /// To say so when its sessions go by the latest view.
    Settle(oneshot::Sender<()>),
    /// To end a session, wherever it is served, and to say whether there was one with this id.
    EndSession(u32, oneshot::Sender<bool>),
    /// To let sessions end, and then to end itself.
    Drain,
}

/// Whose the connections are that wait on a socket which is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Queue {
    /// Ours: nobody else would take them.
    Ours,
    /// Another process takes them.
    Others,
}

/// The sockets that a core takes connections from.
struct Doors {
    worker: Rc<Worker>,
    sessions: TaskTracker,
    tasks: TaskTracker,
    open: HashMap<u64, watch::Sender<Option<Queue>>>,
}

impl Doors {
    fn open(&mut self, id: u64, sockets: Vec<Socket>) {
        let (close, closed) = watch::channel(None);
        for socket in sockets {
            let listener = match Listener::new(socket) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!("a socket cannot be listened on: {error}");
                    continue;
                }
            };
            let (worker, sessions) = (Rc::clone(&self.worker), self.sessions.clone());
            self.tasks.spawn_local(accept(worker, listener, sessions, closed.clone()));
        }
        self.open.insert(id, close);
    }

    fn close(&mut self, id: u64, queue: Queue) {
        if let Some(close) = self.open.remove(&id) {
            close.send_replace(Some(queue));
        }
    }

    /// Closes what is open still, and waits until all that waited is taken.
    async fn close_all(mut self) {
        for (_, close) in self.open.drain() {
            close.send_replace(Some(Queue::Ours));
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Serves until there is an order to drain and all sessions have ended.
pub(crate) async fn run_core(
    worker: Rc<Worker>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut views: watch::Receiver<Arc<View>>,
) {
    worker.set_view(&views.borrow_and_update().clone());
    let sessions = TaskTracker::new();
    let mut doors = Doors {
        worker: Rc::clone(&worker),
        sessions: sessions.clone(),
        tasks: TaskTracker::new(),
        open: HashMap::new(),
    };
    let mut flush = tokio::time::interval(FLUSH);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Open(id, sockets)) => doors.open(id, sockets),
                Some(Order::Close(id, queue)) => doors.close(id, queue),
                Some(Order::Settle(settled)) => {
                    worker.set_view(&views.borrow_and_update().clone());
                    // Whoever asked may have gone.
                    let _told = settled.send(());
                }
                Some(Order::EndSession(id, ended)) => end(&worker, id, ended),
                Some(Order::Drain) | None => break,
            },
            changed = views.changed() => match changed {
                Ok(()) => worker.set_view(&views.borrow_and_update().clone()),
                Err(_) => break,
            },
            _ = flush.tick() => {
                worker.metrics.flush();
                worker.pool.tend(&worker);
            }
        }
    }
    doors.close_all().await;
    worker.drain.cancel();
    worker.pool.clear();
    sessions.close();
    let deadline = worker.setup().settings.drain_timeout;
    let ended = drained(&worker, &sessions, &mut views, &mut orders);
    if tokio::time::timeout(deadline, ended).await.is_err() {
        worker.halt.cancel();
        // They only have to say so; one that cannot is cut off.
        let _ended = tokio::time::timeout(Duration::from_secs(1), sessions.wait()).await;
    }
    worker.metrics.flush();
}

/// Ends a session, wherever it is served. A server that has to be asked may take its time.
fn end(worker: &Rc<Worker>, id: u32, ended: oneshot::Sender<bool>) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        // Whoever asked may have gone.
        let _told = ended.send(end_session(&worker, id).await);
    });
}

/// Waits until the sessions have ended, which go on to see what becomes of the servers, and which operators
/// may end.
async fn drained(
    worker: &Rc<Worker>,
    sessions: &TaskTracker,
    views: &mut watch::Receiver<Arc<View>>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) {
    let ended = sessions.wait();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            Ok(()) = views.changed() => worker.set_view(&views.borrow_and_update().clone()),
            Some(order) = orders.recv() => match order {
                Order::Settle(settled) => {
                    worker.set_view(&views.borrow_and_update().clone());
                    let _told = settled.send(());
                }
                Order::EndSession(id, told) => end(worker, id, told),
                Order::Open(..) | Order::Close(..) | Order::Drain => {}
            },
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection, with its ends, but for one over a Unix socket.
type Accepted = (Stream, Option<Ends>);

impl Listener {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Socket::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// Takes a connection.
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => of_tcp(listener.accept().await?.0),
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }

    /// The connections that wait at this moment. The kernel is asked for each: what the runtime
    /// knows may be old.
    fn into_waiting(self) -> io::Result<Waiting> {
        Ok(match self {
            Self::Tcp(listener) => Waiting(Socket::Tcp(listener.into_std()?)),
            Self::Unix(listener) => Waiting(Socket::Unix(listener.into_std()?)),
        })
    }
}

fn of_tcp(stream: TcpStream) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let ends = Ends::new(stream.peer_addr()?, stream.local_addr()?);
    Ok((Stream::Tcp(stream), Some(ends)))
}

struct Waiting(Socket);

impl Iterator for Waiting {
    type Item = io::Result<Accepted>;

    fn next(&mut self) -> Option<Self::Item> {
        let taken = match &self.0 {
            Socket::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                of_tcp(TcpStream::from_std(stream)?)
            }),
            Socket::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(UnixStream::from_std(stream)?), None))
            }),
        };
        match taken {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            taken => Some(taken),
        }
    }
}

/// How long a core waits when a connection cannot be taken, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most connections that are taken from a socket which is closed; kernels keep fewer waiting.
const MOST_WAITING: usize = 65_536;

async fn accept(
    worker: Rc<Worker>,
    listener: Listener,
    sessions: TaskTracker,
    mut closed: watch::Receiver<Option<Queue>>,
) {
    let queue = loop {
        let accepted = tokio::select! {
            biased;
            // Nobody to say whose they are is the end of the core.
            closed = closed.wait_for(Option::is_some) => break closed.map_or(None, |queue| *queue),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, ends)) => {
                sessions.spawn_local(serve(Rc::clone(&worker), stream, ends));
            }
            // The client left while it waited.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => {
                let text = format!("cannot take a connection: {error}");
                if let Some(text) = worker.shared.not_taken.text(&text, now()) {
                    tracing::warn!("{text}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    if queue != Some(Queue::Ours) {
        return;
    }
    // What the kernel has taken for us would be reset with the socket.
    let waiting = listener.into_waiting().into_iter().flatten();
    for (stream, ends) in waiting.take(MOST_WAITING).flatten() {
        sessions.spawn_local(serve(Rc::clone(&worker), stream, ends));
    }
}

/// Serves one client from its connection to its end.
async fn serve(worker: Rc<Worker>, mut stream: Stream, ends: Option<Ends>) {
    let mut counted = worker.metrics.session();
    let limits = worker.limits();
    let most = limits.connections.min(limits.connections_by_files);
    let Some(admission) = worker.shared.admit(most) else {
        worker.metrics.login("too_many");
        let what = match most < limits.connections {
            true => format!("the files that may be open allow {most}"),
            false => format!("limits.connections is {most}"),
        };
        let error = refusal::too_many_connections(&what);
        note_turned_away(&worker, &proxied::host(ends), &error);
        greet_with_error(&worker, &mut stream, &error).await;
        return;
    };
    let entering = login(&worker, stream, ends, admission);
    match tokio::time::timeout(limits.login_timeout, entering).await {
        Ok(Ok(client)) => {
            worker.metrics.login("ok");
            counted.set(telemetry::SessionState::Open);
            let mut session = Session::new(worker, client);
            session.run().await;
        }
        Ok(Err(result)) => worker.metrics.login(result),
        Err(_) => worker.metrics.login("timeout"),
    }
}

/// How long a client that is not let in has to hang up.
const HANG_UP: Duration = Duration::from_secs(1);

/// How many of them a core waits for at a time: more have to do without.
const MOST_LINGERING: usize = 32;

async fn greet_with_error(worker: &Worker, stream: &mut Stream, error: &ClientError) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = Vec::new();
    error.encode_before_login(&mut bytes);
    // It may be gone already.
    let _told = stream.write_all(&bytes).await;
    let _ended = stream.shutdown().await;
    // A load balancer may have sent a PROXY header, which if left unread would turn the end into a
    // reset, and that can overtake the error.
    let lingering = worker.lingering.get();
    if lingering >= MOST_LINGERING {
        return;
    }
    worker.lingering.set(lingering + 1);
    let mut unread = [0; 512];
    let gone = async { while stream.read(&mut unread).await.is_ok_and(|len| len > 0) {} };
    let _gone = tokio::time::timeout(HANG_UP, gone).await;
    worker.lingering.set(worker.lingering.get().saturating_sub(1));
}
