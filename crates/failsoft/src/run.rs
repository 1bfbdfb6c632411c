//! `failsoft run`: the proxy.
//!
//! The main thread runs the control plane; the data plane has threads of its own, and so has the console,
//! so that no burst of statements or of people who look delays a health check.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config::{Config, LogFormat};
use console::{Ask, Phase, Reload, Reloads};
use control::Control;
use policy::topology::Topology;
use policy::view::View;
use proxy::{Proxy, Steering};
use telemetry::Metrics;
use telemetry::log::Level;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::activation::Lent;
use crate::cli::Run;
use crate::handover::{self, Handover};
use crate::http::tell;
use crate::notify::{keep_telling, notify};
use crate::reload::{Reloader, Told};
use crate::signals::{Signalled, Signals};
use crate::surface::{Asked, console_of, start_surfaces};
use crate::wiring::session;
use crate::{Exit, limits, wiring};

/// Where the configuration is looked for when no file is named.
const PLACES: [&str; 2] = ["failsoft.yaml", "/etc/failsoft/failsoft.yaml"];
/// How long requests to the console may go on after the order to stop.
const CONSOLE_LIMIT: Duration = Duration::from_secs(1);

/// Runs the proxy until it is told to stop.
pub(crate) fn run(options: &Run) -> anyhow::Result<Exit> {
    let file = match config_file(options.config.as_deref(), "-c FILE") {
        Ok(file) => file,
        Err(error) => return Ok(tell(&error, Exit::BadInput)),
    };
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(error) => return Ok(tell(&error.into(), Exit::BadInput)),
    };
    let topology = match wiring::topology(&config) {
        Ok(topology) => topology,
        Err(error) => return Ok(tell(&error.context(file.display().to_string()), Exit::BadInput)),
    };
    let level = start_log(&config)?;
    // Before there are other threads.
    let lent = Lent::from_env();
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("failsoft {version} starts with {}", file.display());
    limits::raise_open_files(&config);
    install_cryptography();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let operators = operators_runtime()?;
    let start = Start { file, config, topology, lent, level };
    let done = runtime.block_on(serve(start, operators.handle()));
    // What is left on the runtimes has nobody to answer any more.
    operators.shutdown_background();
    runtime.shutdown_background();
    Ok(done.map_or_else(
        |error| {
            tracing::error!("{error:#}");
            Exit::Refused
        },
        |()| Exit::Done,
    ))
}

/// The configuration file: the one that was named, or the first that is where it may be.
///
/// # Errors
/// There is none.
pub(crate) fn config_file(named: Option<&Path>, how: &str) -> anyhow::Result<PathBuf> {
    let found = || PLACES.into_iter().map(Path::new).find(|place| place.is_file());
    let file = named.or_else(found).with_context(|| {
        format!("no configuration: none of {} is there; name one with {how}", PLACES.join(", "))
    });
    file.map(Path::to_owned)
}

fn start_log(config: &Config) -> anyhow::Result<Level> {
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

/// What there is at the start.
struct Start {
    file: PathBuf,
    config: Config,
    topology: Topology,
    lent: Lent,
    level: Level,
}

/// Reloads that may wait.
const RELOADS: usize = 4;
/// Questions of the console that may wait.
const ASKS: usize = 16;

async fn serve(start: Start, operators: &Handle) -> anyhow::Result<()> {
    let Start { file, config, topology, lent, level } = start;
    let mut signals = Signals::new()?;
    let metrics = Arc::new(start_metrics(&config)?);
    let control = control::start(topology, wiring::watching(&config)?, Arc::clone(&metrics));
    let (phase, watched) = watch::channel(Phase::Starting);
    let told = Told::new(&file, &config);
    let telling = keep_telling(control.handle().views(), told.configuration.subscribe());
    let telling = tokio::spawn(telling);
    let (reloads, asked) = mpsc::channel(RELOADS);
    let (asks, questions) = mpsc::channel(ASKS);
    let console =
        console_of(&control, &metrics, watched, &told, Asked { reloads: reloads.clone(), asks });
    let stop = CancellationToken::new();
    let surfaces = start_surfaces(&config, console, (&stop, operators)).await?;
    tokio::select! {
        () = control.handle().ready() => {
            let proxy = start_proxy(&config, lent, &control, Arc::clone(&metrics))?;
            let (control, steering) = (control.handle().clone(), proxy.steering());
            let handover = Handover::new(control.clone(), steering.clone());
            handover.offer();
            let reloader = Reloader {
                file,
                control,
                steering,
                handover,
                level,
                metrics,
                told,
                config: Arc::new(config),
                generation: 0,
            };
            let views = reloader.control.views();
            let ordered = CancellationToken::new();
            tokio::spawn(answer(proxy.steering(), views, questions, ordered.clone()));
            let reloading = tokio::spawn(reloader.run(asked));
            phase.send_replace(Phase::Serving);
            notify("READY=1");
            tokio::select! {
                () = wait_for_stop(&mut signals, &reloads) => {}
                () = ordered.cancelled() => {}
            }
            telling.abort();
            notify("STOPPING=1\nSTATUS=Draining: no new connections, transactions may end");
            phase.send_replace(Phase::Draining);
            reloading.abort();
            drain(proxy, &mut signals).await;
        }
        () = signals.stop() => {}
    }
    stop.cancel();
    for surface in surfaces {
        drop(tokio::time::timeout(CONSOLE_LIMIT, surface).await);
    }
    control.stop().await;
    tracing::info!("failsoft ends");
    Ok(())
}

fn start_metrics(config: &Config) -> anyhow::Result<Metrics> {
    let metrics = Metrics::new()?;
    if let Some(file) = &config.ledger {
        let failed = || format!("the ledger cannot be kept in {} (ledger)", file.display());
        metrics.ledger().keep_in(file).with_context(failed)?;
    }
    metrics.panics().watch();
    Ok(metrics)
}

/// What operators look at is made on a thread of its own, so that it delays no health check.
fn operators_runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(1).thread_name("operators").enable_all().build()?)
}

/// Answers what the console asks of the data plane. Whoever asked may have gone by then.
async fn answer(
    steering: Steering,
    views: watch::Receiver<Arc<View>>,
    mut questions: mpsc::Receiver<Ask>,
    drain: CancellationToken,
) {
    while let Some(question) = questions.recv().await {
        match question {
            Ask::Settle(settled) => {
                steering.settle().await;
                let _told = settled.send(());
            }
            Ask::Sessions(sessions) => {
                let view = Arc::clone(&views.borrow());
                let all = steering.sessions();
                let _told = sessions.send(all.into_iter().map(|it| session(it, &view)).collect());
            }
            Ask::EndSession(id, ended) => {
                // A server that has to be asked may take its time.
                let steering = steering.clone();
                tokio::spawn(async move {
                    let _told = ended.send(steering.end_session(id).await);
                });
            }
            Ask::Drain => drain.cancel(),
        }
    }
}

/// Passes signals to reload on, until there is one to stop.
async fn wait_for_stop(signals: &mut Signals, reloads: &Reloads) {
    while signals.next().await == Signalled::Reload {
        // Nobody waits for the answer: what came of it is logged.
        let (answer, _) = oneshot::channel();
        if reloads.try_send(Reload { by: "SIGHUP".to_owned(), answer }).is_err() {
            tracing::debug!("SIGHUP: as many reloads wait already as there is room for");
        }
    }
}

fn start_proxy(
    config: &Config,
    mut lent: Lent,
    control: &Control,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Proxy> {
    let handle = control.handle();
    let serving = wiring::serving(config, 0);
    let heritage = &mut |address: &str| lent.take(address).or_else(|| handover::take(address));
    let proxy = proxy::start(serving, heritage, handle.views(), handle.reports(), metrics)?;
    lent.tell_unused();
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
