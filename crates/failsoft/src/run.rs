//! `failsoft run`: the proxy.
//!
//! The main thread runs the control plane and the console; the data plane has threads of its own,
//! so that no burst of statements delays a health check.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use config::{Config, LogFormat};
use console::{Console, Phase};
use control::Control;
use policy::topology::Topology;
use proxy::Proxy;
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::Run;
use crate::notify::notify;
use crate::{Exit, limits, wiring};

/// Where the configuration is looked for when no file is named.
const PLACES: [&str; 2] = ["failsoft.yaml", "/etc/failsoft/failsoft.yaml"];
/// How long requests to the console may go on after the order to stop.
const CONSOLE_LIMIT: Duration = Duration::from_secs(1);

/// Runs the proxy until it is told to stop.
pub(crate) fn run(options: &Run) -> anyhow::Result<Exit> {
    let file = options.config.clone().or_else(find_config).with_context(|| {
        format!("no configuration: none of {} is there; name one with -c FILE", PLACES.join(", "))
    });
    let file = match file {
        Ok(file) => file,
        Err(error) => return Ok(bad_input(&error)),
    };
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(error) => return Ok(bad_input(&error.into())),
    };
    let topology = match wiring::topology(&config) {
        Ok(topology) => topology,
        Err(error) => return Ok(bad_input(&error.context(file.display().to_string()))),
    };
    start_log(&config)?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("failsoft {version} starts with {}", file.display());
    for setting in wiring::unavailable(&config) {
        tracing::warn!("{setting} is set and not available in this version");
    }
    limits::raise_open_files(&config);
    install_cryptography();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(serve(&config, topology));
    // What is left on the runtime has nobody to answer any more.
    runtime.shutdown_background();
    Ok(done.map_or_else(
        |error| {
            tracing::error!("{error:#}");
            Exit::Refused
        },
        |()| Exit::Done,
    ))
}

fn bad_input(error: &anyhow::Error) -> Exit {
    eprintln!("{error:#}");
    Exit::BadInput
}

fn find_config() -> Option<PathBuf> {
    PLACES.into_iter().find(|place| Path::new(place).is_file()).map(PathBuf::from)
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let format = match config.log.format {
        LogFormat::Auto => telemetry::log::Format::Auto,
        LogFormat::Human => telemetry::log::Format::Human,
        LogFormat::Json => telemetry::log::Format::Json,
    };
    Ok(telemetry::log::init(format, config.log.level.word())?)
}

/// Chooses the implementation that all of TLS in this process uses.
pub(crate) fn install_cryptography() {
    // An error means that one is chosen already; it can only be the same.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

async fn serve(config: &Config, topology: Topology) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let names: Vec<_> = topology.servers.iter().map(|spec| spec.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&names, &topology.partitions)?);
    let control = control::start(topology, wiring::watching(config)?, Arc::clone(&metrics));
    let (phase, watched) = watch::channel(Phase::Starting);
    let stop = CancellationToken::new();
    let console = console_of(&control, &metrics, watched);
    let console = start_console(config, console, &stop).await?;
    tokio::select! {
        () = control.handle().ready() => {
            let proxy = start_proxy(config, &control, metrics)?;
            phase.send_replace(Phase::Serving);
            notify("READY=1");
            signals.stop().await;
            notify("STOPPING=1");
            phase.send_replace(Phase::Draining);
            drain(proxy, &mut signals).await;
        }
        () = signals.stop() => {}
    }
    stop.cancel();
    if let Some(console) = console {
        drop(tokio::time::timeout(CONSOLE_LIMIT, console).await);
    }
    control.stop().await;
    tracing::info!("failsoft ends");
    Ok(())
}

/// The name of this machine, as the kernel has it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

fn console_of(control: &Control, metrics: &Arc<Metrics>, phase: watch::Receiver<Phase>) -> Console {
    Console {
        control: control.handle().clone(),
        metrics: Arc::clone(metrics),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION"),
        started: SystemTime::now(),
        phase,
    }
}

/// Serves the console, unless the configuration has it off.
async fn start_console(
    config: &Config,
    console: Console,
    stop: &CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(address) = &config.admin.http else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for the console (admin.http)"))?;
    tracing::info!("console at http://{}", listener.local_addr()?);
    let stop = stop.clone();
    Ok(Some(tokio::spawn(async move {
        if let Err(error) = console::serve(listener, console, stop).await {
            tracing::error!("the console ended: {error}");
        }
    })))
}

fn start_proxy(config: &Config, control: &Control, metrics: Arc<Metrics>) -> anyhow::Result<Proxy> {
    let handle = control.handle();
    let serving = wiring::serving(config);
    let proxy = proxy::start(serving, handle.views(), handle.reports(), metrics)?;
    for address in proxy.addresses() {
        tracing::info!("listening on {address}");
    }
    Ok(proxy)
}

/// Lets sessions end, unless a second signal says that there is no time.
async fn drain(proxy: Proxy, signals: &mut Signals) {
    tracing::info!("draining: no new connections, transactions may end");
    let drained = tokio::task::spawn_blocking(move || proxy.drain());
    tokio::select! {
        _ = drained => {}
        () = signals.stop() => tracing::warn!("told to stop again: open sessions are cut off"),
    }
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the order to stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => tracing::warn!(
                    "SIGHUP: reloading the configuration is not available in this version; \
                     restart failsoft to apply changes"
                ),
            }
        }
    }
}
