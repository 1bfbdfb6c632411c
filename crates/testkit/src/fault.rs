//! A TCP relay that breaks on demand: the network between two programs, in one task.
//!
//! What it does to *new* connections is its [`Mode`]. What it does to those that are relayed is
//! switched separately: [`FaultProxy::freeze`], [`FaultProxy::delay`], [`FaultProxy::pieces`],
//! [`FaultProxy::cut_after`] and [`FaultProxy::reset_all`]. A host that vanishes is `Mode::Drop` and `freeze`; one that
//! crashes and leaves its kernel running is `Mode::Refuse` and `reset_all`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox::ports::{self, Lease};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections the kernel may hold for us in the modes that accept.
const BACKLOG: u32 = 1024;
/// How long a connection to a full listener is tried until it counts as unanswered.
const SYN_PATIENCE: Duration = Duration::from_millis(100);
/// Bytes relayed at a time.
const CHUNK: usize = 64 << 10;

/// What happens to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are relayed. Where the target does not accept, the client is reset.
    Pass,
    /// Nobody listens: they are refused at once.
    Refuse,
    /// They are accepted and nothing is ever answered, as by a frozen process.
    Blackhole,
    /// Their first packet is not answered, as by a host that is gone.
    Drop,
}

/// A direction of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the client sends.
    ToServer,
    /// What the server sends.
    ToClient,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both ends get RST.
    Reset,
    /// Both ends get FIN.
    Close,
    /// The receiver gets FIN; the other direction goes on.
    HalfClose,
}

/// The relay. Dropping it closes its listener and resets its connections.
#[derive(Debug)]
pub struct FaultProxy {
    lease: Lease,
    shared: Arc<Shared>,
    acceptor: tokio::sync::Mutex<Acceptor>,
}

/// Who has the port at the moment.
#[derive(Debug)]
enum Acceptor {
    /// Nobody.
    Closed,
    /// A task that accepts.
    Open(JoinHandle<()>),
    /// A listener whose queue is full, and the connections that fill it.
    Full { _listener: TcpListener, _fillers: Vec<TcpStream> },
}

/// What connections look at.
#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    faults: watch::Sender<Faults>,
    cuts: [Mutex<Option<PlannedCut>>; 2],
    accepted: AtomicU64,
    open: AtomicU64,
    bytes: [AtomicU64; 2],
}

/// What is done to connections that are relayed.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    frozen: bool,
    delay: [Duration; 2],
    /// The most bytes written at a time; 0 is as many as came.
    piece: [usize; 2],
    /// Raised to reset all connections older than this number.
    resets: u64,
}

#[derive(Clone, Copy, Debug)]
struct PlannedCut {
    left: usize,
    cut: Cut,
}

/// Why one direction of a connection ended.
enum End {
    /// The sender is done; the receiver was told so.
    Finished,
    /// The whole connection goes, in this way.
    Broken(Cut),
}

impl FaultProxy {
    /// Starts relaying to a loopback port.
    ///
    /// # Panics
    /// There is no free port to listen on.
    pub async fn start(target: u16) -> Self {
        Self::start_to((Ipv4Addr::LOCALHOST, target).into()).await
    }

    /// Starts relaying from a loopback port to any address.
    ///
    /// # Panics
    /// There is no free port to listen on.
    pub async fn start_to(target: SocketAddr) -> Self {
        let lease = Lease::any().expect("a free port");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            faults: watch::Sender::default(),
            cuts: Default::default(),
            accepted: AtomicU64::default(),
            open: AtomicU64::default(),
            bytes: Default::default(),
        });
        let acceptor = tokio::sync::Mutex::new(Acceptor::Closed);
        let proxy = Self { lease, shared, acceptor };
        proxy.set_mode(Mode::Pass).await;
        proxy
    }

    /// The port to connect to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.lease.port()
    }

    /// Leads new connections to another loopback port; those that are open stay where they are.
    pub fn lead_to(&self, port: u16) {
        *self.shared.target() = (Ipv4Addr::LOCALHOST, port).into();
    }

    /// Changes what happens to new connections; those that are open stay as they are, but for
    /// those that a black hole took in, which are reset. It has happened when this returns.
    ///
    /// # Panics
    /// The port cannot be listened on.
    pub async fn set_mode(&self, mode: Mode) {
        let mut acceptor = self.acceptor.lock().await;
        if let Acceptor::Open(task) = std::mem::replace(&mut *acceptor, Acceptor::Closed) {
            task.abort();
            drop(task.await);
        }
        *acceptor = match mode {
            Mode::Refuse => Acceptor::Closed,
            Mode::Drop => fill(self.listen(0)).await,
            Mode::Pass => {
                Acceptor::Open(tokio::spawn(pass(self.listen(BACKLOG), Arc::clone(&self.shared))))
            }
            Mode::Blackhole => Acceptor::Open(tokio::spawn(swallow(
                self.listen(BACKLOG),
                Arc::clone(&self.shared),
            ))),
        };
    }

    fn listen(&self, backlog: u32) -> TcpListener {
        let listen = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, self.port()).into())?;
            socket.listen(backlog)
        };
        listen().unwrap_or_else(|error| panic!("cannot listen on port {}: {error}", self.port()))
    }

    /// Stops relaying, for open and for new connections, which all stay open.
    pub fn freeze(&self) {
        self.shared.faults.send_modify(|faults| faults.frozen = true);
    }

    /// Goes on relaying; what was sent meanwhile is delivered.
    pub fn thaw(&self) {
        self.shared.faults.send_modify(|faults| faults.frozen = false);
    }

    /// Delays each piece of data in one direction; zero ends that.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared.faults.send_modify(|faults| faults.delay[index(direction)] = delay);
    }

    /// Writes at most so many bytes at a time in one direction, each delayed as [`Self::delay`]
    /// says, so that packets arrive in parts; zero ends that.
    pub fn pieces(&self, direction: Direction, bytes: usize) {
        self.shared.faults.send_modify(|faults| faults.piece[index(direction)] = bytes);
    }

    /// Resets all open connections.
    pub fn reset_all(&self) {
        self.shared.faults.send_modify(|faults| faults.resets += 1);
    }

    /// Lets `bytes` more through in one direction, counted over all connections from now on, and
    /// cuts the connection that carried the last of them. With 0 the next byte to come is the one
    /// that is lost: a statement is executed and its answer never arrives. Holds for one cut.
    pub fn cut_after(&self, direction: Direction, bytes: usize, cut: Cut) {
        *self.shared.cut(direction) = Some(PlannedCut { left: bytes, cut });
    }

    /// How many connections were accepted so far, in any mode.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are being relayed.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Whether no connection is relayed, and those who had one have been told.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open() == 0 && !ports::is_connected_to(self.port())
    }

    /// How many bytes went through in one direction.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.bytes[index(direction)].load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Acceptor::Open(task) = self.acceptor.get_mut() {
            task.abort();
        }
        self.reset_all();
    }
}

impl Shared {
    fn target(&self) -> std::sync::MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, direction: Direction) -> std::sync::MutexGuard<'_, Option<PlannedCut>> {
        self.cuts[index(direction)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of these bytes may pass, and the cut that follows them.
    fn admit(&self, direction: Direction, bytes: usize) -> (usize, Option<Cut>) {
        let mut planned = self.cut(direction);
        match planned.as_mut() {
            None => (bytes, None),
            Some(plan) if plan.left > bytes => {
                plan.left -= bytes;
                (bytes, None)
            }
            Some(plan) => {
                let admitted = (plan.left, Some(plan.cut));
                *planned = None;
                admitted
            }
        }
    }
}

const fn index(direction: Direction) -> usize {
    match direction {
        Direction::ToServer => 0,
        Direction::ToClient => 1,
    }
}

/// Fills a listener's queue, so that the kernel ignores whoever comes next.
async fn fill(listener: TcpListener) -> Acceptor {
    let address = listener.local_addr().expect("a listener has an address");
    let mut fillers = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SYN_PATIENCE, TcpStream::connect(address)).await
    {
        fillers.push(connected.expect("the listener is there"));
    }
    Acceptor::Full { _listener: listener, _fillers: fillers }
}

/// Accepts and relays.
async fn pass(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(carry(client, Arc::clone(&shared)));
    }
}

/// Accepts and says nothing.
async fn swallow(listener: TcpListener, shared: Arc<Shared>) {
    let mut held = Vec::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        reset_on_drop(&client);
        held.push(client);
    }
}

/// Relays one connection until it ends or is broken.
async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let mut faults = shared.faults.subscribe();
    let resets = faults.borrow_and_update().resets;
    let target = *shared.target();
    let Ok(mut server) = TcpStream::connect(target).await else {
        reset_on_drop(&client);
        return;
    };
    shared.open.fetch_add(1, Ordering::Relaxed);
    let broken = {
        // Fails only on sockets that are closed already.
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, Direction::ToServer, &shared);
        let down = pump(from_server, to_client, Direction::ToClient, &shared);
        tokio::select! {
            cut = both(up, down) => cut,
            _ = faults.wait_for(|faults| faults.resets > resets) => Some(Cut::Reset),
        }
    };
    if broken == Some(Cut::Reset) {
        reset_on_drop(&client);
        reset_on_drop(&server);
    }
    // Closed first, counted then: who sees the count has both ends told.
    drop((client, server));
    shared.open.fetch_sub(1, Ordering::Relaxed);
}

/// Waits until both directions have finished or one breaks the connection.
async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> Option<Cut> {
    tokio::pin!(up, down);
    let first = tokio::select! {
        end = &mut up => (end, Direction::ToServer),
        end = &mut down => (end, Direction::ToClient),
    };
    let second = match first {
        (End::Broken(cut), _) => return Some(cut),
        (End::Finished, Direction::ToServer) => down.await,
        (End::Finished, Direction::ToClient) => up.await,
    };
    match second {
        End::Broken(cut) => Some(cut),
        End::Finished => None,
    }
}

/// Relays one direction.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> End {
    let mut buffer = vec![0; CHUNK];
    loop {
        wait_thawed(shared).await;
        let Ok(count) = from.read(&mut buffer).await else { return End::Broken(Cut::Reset) };
        hold(direction, shared).await;
        if count == 0 {
            return finish(&mut to).await;
        }
        let (admitted, cut) = shared.admit(direction, count);
        if write(&mut to, &buffer[..admitted], direction, shared).await.is_err() {
            return End::Broken(Cut::Reset);
        }
        let passed = u64::try_from(admitted).unwrap_or(u64::MAX);
        shared.bytes[index(direction)].fetch_add(passed, Ordering::Relaxed);
        match cut {
            None => {}
            Some(Cut::HalfClose) => return finish(&mut to).await,
            Some(cut) => return End::Broken(cut),
        }
    }
}

/// Writes all of it, in pieces where the faults of the moment ask for them.
async fn write(
    to: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    direction: Direction,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let piece = match shared.faults.borrow().piece[index(direction)] {
            0 => bytes.len(),
            most => most.min(bytes.len()),
        };
        let (now, later) = bytes.split_at(piece);
        to.write_all(now).await?;
        if later.is_empty() {
            return Ok(());
        }
        bytes = later;
        hold(direction, shared).await;
    }
}

/// Holds data back for as long as the faults of the moment say.
async fn hold(direction: Direction, shared: &Shared) {
    let delay = shared.faults.borrow().delay[index(direction)];
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    wait_thawed(shared).await;
}

async fn wait_thawed(shared: &Shared) {
    // The sender lives in what we borrow: waiting cannot fail.
    drop(shared.faults.subscribe().wait_for(|faults| !faults.frozen).await);
}

/// Tells the receiver that no more comes.
async fn finish(to: &mut WriteHalf<'_>) -> End {
    match to.shutdown().await {
        Ok(()) => End::Finished,
        Err(_) => End::Broken(Cut::Reset),
    }
}

/// Makes closing send RST instead of FIN.
fn reset_on_drop(stream: &TcpStream) {
    let made: io::Result<()> = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    made.expect("an open socket takes the option");
}
