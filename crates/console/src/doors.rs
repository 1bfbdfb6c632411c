//! Who may come in by HTTP: how many at a time, and how long they may take to say what they want.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use telemetry::Occasional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is asked of those who come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at a time. Who comes then waits until one of them ends.
    pub(crate) connections: usize,
    /// How long the head of a request may take, from the end of the answer before it, too.
    pub(crate) head: Duration,
    /// The same for those who come when it is crowded.
    pub(crate) head_in_a_crowd: Duration,
    /// How long an answer may lie there of which nobody takes anything.
    pub(crate) taking: Duration,
}

impl Limits {
    /// Above what browsers, scrapes and load balancers need, and no more files than are kept free of clients.
    pub(crate) const USUAL: Self = Self {
        connections: 96,
        head: Duration::from_secs(15),
        head_in_a_crowd: Duration::from_secs(2),
        taking: Duration::from_secs(30),
    };
}

/// How long to wait when a connection cannot be taken, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// From one line in the log about the doors to the next.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// The doors: how much room there is behind them.
struct Doors {
    listener: TcpListener,
    limits: Limits,
    room: Arc<Semaphore>,
    trouble: Occasional,
}

/// Answers requests until `stop`, and then lets those under way end.
pub(crate) async fn answer(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let (room, trouble) =
        (Arc::new(Semaphore::new(limits.connections)), Occasional::new(LOG_PAUSE));
    let doors = Doors { listener, limits, room, trouble };
    let connections = TaskTracker::new();
    while let Some(next) = stop.run_until_cancelled(doors.next()).await {
        match next {
            Some(visit) => {
                connections.spawn(visit.answer(router.clone(), stop.clone()));
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    // Who comes now is refused, and does not wait for nothing.
    drop(doors);
    connections.close();
    connections.wait().await;
}

impl Doors {
    /// The next connection, once there is room for it.
    async fn next(&self) -> Option<Visit> {
        // It is closed by nobody.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok()?;
        let (stream, peer) = match self.listener.accept().await {
            Ok(accepted) => accepted,
            // The client left while it waited.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => return None,
            Err(error) => {
                self.warn(&format!("the console cannot take a connection: {error}"));
                return None;
            }
        };
        let left = self.room.available_permits();
        if left == 0 {
            let most = self.limits.connections;
            self.warn(&format!("the console has {most} connections, and others wait"));
        }
        let is_crowded = left < self.limits.connections / 4;
        Some(Visit { stream, peer, limits: self.limits, is_crowded, _permit: permit })
    }

    #[expect(clippy::disallowed_methods, reason = "time comes in where connections do")]
    fn warn(&self, text: &str) {
        if let Some(text) = self.trouble.text(text, Instant::now()) {
            tracing::warn!("{text}");
        }
    }
}

/// A connection that was let in.
struct Visit {
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    /// There is little room: it gets one answer, and has to ask soon.
    is_crowded: bool,
    _permit: OwnedSemaphorePermit,
}

impl Visit {
    /// Answers its requests, one after the other.
    async fn answer(self, router: Router, stop: CancellationToken) {
        let Self { stream, peer, limits, is_crowded, _permit } = self;
        // Without it an answer lies there as long as the other side only keeps the connection up.
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.taking)) {
            tracing::debug!("answers of the console have no limit of time: {error}");
        }
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if is_crowded { limits.head_in_a_crowd } else { limits.head })
            .keep_alive(!is_crowded)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection to the console ended: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Where somebody answers within these limits.
    async fn open(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let big = || async { "x".repeat(64 << 20) };
        let router = Router::new().route("/", get(|| async { "yes" })).route("/big", get(big));
        tokio::spawn(answer(listener, router, limits, CancellationToken::new()));
        address
    }

    async fn say(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn all_of(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        // A reset is an end, too.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    const QUICK: Limits = Limits {
        connections: 4,
        head: Duration::from_secs(2),
        head_in_a_crowd: Duration::from_secs(2),
        taking: Duration::from_millis(300),
    };
    const ASKED: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn who_takes_long_makes_room_for_others() {
        let address = open(QUICK).await;
        let silent = say(address, "").await;
        let slow = say(address, "GET / HTTP/1.1\r\nHo").await;
        let (idle, other) = (say(address, ASKED).await, say(address, "").await);
        let next = say(address, ASKED).await;
        assert!(all_of(next).await.ends_with("yes"));
        assert_eq!(all_of(silent).await + &all_of(other).await, "");
        assert!(!all_of(slow).await.contains("200"));
        assert!(all_of(idle).await.ends_with("yes"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_comes_in_a_crowd_gets_one_answer() {
        let patient = Duration::from_secs(600);
        let limits = Limits { head: patient, head_in_a_crowd: patient, ..QUICK };
        let address = open(limits).await;
        let _others = [say(address, "").await, say(address, "").await, say(address, "").await];
        // Each of these is the fourth of four, and would stay if it might.
        for _ in 0..3 {
            assert!(all_of(say(address, ASKED).await).await.ends_with("yes"));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_does_not_take_an_answer_makes_room_for_others() {
        let address = open(Limits { connections: 1, ..QUICK }).await;
        let full = say(address, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(all_of(say(address, ASKED).await).await.ends_with("yes"));
        assert!(all_of(full).await.len() < 64 << 20);
    }
}
