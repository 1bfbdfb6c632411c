//! Serving the console.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use config::Config;
use console::{Console, Phase, Reloads, Settling};
use control::Control;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::reload::Told;
use crate::{http, status};

/// Where the console's orders go, beside the control plane.
pub(crate) struct Orders {
    pub(crate) reloads: Reloads,
    pub(crate) settling: Settling,
}

/// The name of this machine, as the kernel has it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

pub(crate) fn console_of(
    control: &Control,
    metrics: &Arc<Metrics>,
    phase: watch::Receiver<Phase>,
    told: &Told,
    orders: Orders,
) -> Console {
    Console {
        control: control.handle().clone(),
        metrics: Arc::clone(metrics),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION"),
        started: SystemTime::now(),
        phase,
        configuration: told.configuration.subscribe(),
        token: told.token.subscribe(),
        reloads: orders.reloads,
        settling: orders.settling,
    }
}

/// Serves the console, unless the configuration has it off.
pub(crate) async fn start_console(
    config: &Config,
    console: Console,
    stop: &CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(address) = config.admin.http.clone() else { return Ok(None) };
    let failed = || format!("cannot listen on {address} for the console (admin.http)");
    let listener = match TcpListener::bind(&address).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_failsoft(&address).await => None,
        bound => Some(bound.with_context(failed)?),
    };
    let stop = stop.clone();
    Ok(Some(tokio::spawn(async move {
        let listener = match listener {
            Some(listener) => listener,
            None => match stop.run_until_cancelled(succeed(&address)).await {
                Some(listener) => listener,
                None => return,
            },
        };
        tracing::info!("console at http://{address}");
        if let Err(error) = console::serve(listener, console, stop).await {
            tracing::error!("the console ended: {error}");
        }
    })))
}

/// Whether another failsoft serves its console there: one whose place this one takes.
async fn is_failsoft(address: &str) -> bool {
    let url = format!("http://{address}");
    let asking = tokio::task::spawn_blocking(move || {
        http::Console::parse(&url).and_then(|console| status::fetch(&console))
    });
    asking.await.is_ok_and(|answer| answer.is_ok())
}

/// How often it is tried to serve the console in place of a failsoft that has not ended yet.
const CONSOLE_PAUSE: Duration = Duration::from_millis(200);

/// Waits until the console's address is free.
async fn succeed(address: &str) -> TcpListener {
    tracing::warn!(
        "another failsoft serves the console at http://{address}; this one does as soon as that \
         has ended"
    );
    loop {
        tokio::time::sleep(CONSOLE_PAUSE).await;
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
    }
}
