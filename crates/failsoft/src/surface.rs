//! Serving the console.

use std::future::ready;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use config::Config;
use console::{Asks, Console, Phase, Reloads};
use control::Control;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::reload::Told;
use crate::{http, status};

/// Who is asked by the console, beside the control plane.
pub(crate) struct Asked {
    pub(crate) reloads: Reloads,
    pub(crate) asks: Asks,
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
    asked: Asked,
) -> Console {
    Console {
        control: control.handle().clone(),
        metrics: Arc::clone(metrics),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION"),
        started: SystemTime::now(),
        phase,
        configuration: told.configuration.subscribe(),
        settings: told.settings.subscribe(),
        token: told.token.subscribe(),
        reloads: asked.reloads,
        asks: asked.asks,
    }
}

/// Serves the console by HTTP and in the MySQL protocol, where the configuration has them.
pub(crate) async fn start_surfaces(
    config: &Config,
    console: Console,
    (stop, operators): (&CancellationToken, &Handle),
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut surfaces = Vec::new();
    let mut has_predecessor = false;
    if let Some(address) = &config.admin.http {
        let door = Door::open(address, is_failsoft(address), "admin.http").await?;
        has_predecessor = door.listener.is_none();
        let (console, stop) = (console.clone(), stop.clone());
        surfaces.push(operators.spawn(async move {
            let Some(listener) = door.listener(&stop, "http").await else { return };
            console::serve(listener, console, stop).await;
        }));
    }
    if let Some(address) = &config.admin.mysql {
        let door = Door::open(address, ready(has_predecessor), "admin.mysql").await?;
        let stop = stop.clone();
        surfaces.push(operators.spawn(async move {
            let Some(listener) = door.listener(&stop, "mysql").await else { return };
            console::admin::serve(listener, console, stop).await;
        }));
    }
    Ok(surfaces)
}

/// An address for operators.
struct Door {
    address: String,
    /// None while another failsoft has it, whose place this one takes.
    listener: Option<TcpListener>,
}

impl Door {
    /// Listens on an address. In use, it may be by another failsoft: only then it is asked whether there is
    /// one.
    async fn open(
        address: &str,
        has_predecessor: impl Future<Output = bool>,
        setting: &str,
    ) -> anyhow::Result<Self> {
        let failed = || format!("cannot listen on {address} for the console ({setting})");
        let listener = match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && has_predecessor.await => None,
            bound => Some(bound.with_context(failed)?),
        };
        Ok(Self { address: address.to_owned(), listener })
    }

    /// The listener, as soon as there is one; none where failsoft ends before.
    async fn listener(self, stop: &CancellationToken, scheme: &str) -> Option<TcpListener> {
        let address = &self.address;
        let listener = match self.listener {
            Some(listener) => listener,
            None => stop.run_until_cancelled(succeed(address, scheme)).await?,
        };
        tracing::info!("console at {scheme}://{address}");
        Some(listener)
    }
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
async fn succeed(address: &str, scheme: &str) -> TcpListener {
    tracing::warn!(
        "another failsoft serves the console at {scheme}://{address}; this one does as soon as \
         that has ended"
    );
    loop {
        tokio::time::sleep(CONSOLE_PAUSE).await;
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
    }
}
