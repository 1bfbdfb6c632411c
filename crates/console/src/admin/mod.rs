//! The console for clients of MySQL: `admin.mysql`.
//!
//! Any client logs in, under any name: without a password it may look, with the token of the
//! configuration as its password it may give orders.
//!
//! * `login` lets clients in; what follows is `opensrv-mysql`'s, which is handed a connection that has
//!   had its login (`handed`) and gets one frame at a time (`one_frame`).
//! * `command` is the table of statements, `answer` what comes of each, `habits` what clients ask by
//!   themselves; `shim` brings these together.

mod answer;
mod command;
mod habits;
mod handed;
mod login;
mod one_frame;
mod shim;

pub use command::COMMANDS;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opensrv_mysql::AsyncMysqlIntermediary;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::web::Console;
use shim::Shim;

/// Clients at a time.
const MOST_CLIENTS: usize = 64;

/// Those of them that may only look: some seats are left for who has the token.
const MOST_VIEWERS: usize = 48;

/// How long one may stay, as the variable `wait_timeout` says; a peer that is gone without a word does not
/// keep its seat for ever.
const STAY: Duration = Duration::from_secs(28_800);

/// How long a login may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait when a connection cannot be taken, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves clients until `stop`.
pub async fn serve(listener: TcpListener, console: Console, stop: CancellationToken) {
    let console = Arc::new(console);
    let room = Arc::new(Semaphore::new(MOST_CLIENTS));
    let seats = Arc::new(Semaphore::new(MOST_VIEWERS));
    let ids = AtomicU32::new(1);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot take a connection for admin.mysql: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            let mut bytes = Vec::new();
            login::full().encode_before_login(&mut bytes);
            // As much as fits at once; nobody is waited for.
            let _told = stream.try_write(&bytes);
            continue;
        };
        let (console, seats) = (Arc::clone(&console), Arc::clone(&seats));
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let served = stop.clone().run_until_cancelled_owned(async move {
            let _permit = permit;
            let conversing = converse(stream, (peer, id), console, seats);
            match tokio::time::timeout(STAY, conversing).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!("a client of admin.mysql at {peer} left: {error}");
                }
                Err(_) => tracing::debug!("a client of admin.mysql at {peer} stayed too long"),
            }
        });
        tokio::spawn(served);
    }
}

/// Serves one client from its login to its end.
async fn converse(
    mut stream: TcpStream,
    (peer, id): (SocketAddr, u32),
    console: Arc<Console>,
    seats: Arc<Semaphore>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let login = login::login(&mut stream, &console, (peer, id), &seats);
    let Some(operator) = tokio::time::timeout(LOGIN_LIMIT, login).await?? else { return Ok(()) };
    let (read, write) = stream.into_split();
    let (read, write) = handed::hand_over(operator.capabilities, read, write);
    let shim = Shim { console, operator, id };
    AsyncMysqlIntermediary::run_on(shim, one_frame::OneFrame::new(read), write).await
}
