//! Reading the configuration again, while sessions go on.
//!
//! Everything that can fail comes first: the file is read and checked, certificates are read, and
//! servers that were not known are looked at. Only then is the new configuration put in force, as a
//! whole. What cannot change while failsoft runs keeps its old value, and is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use config::{Change, Config, ConfigError};
use console::api::{Configuration, Difference, Reloaded};
use console::{Reload, Token};
use control::{Handle, Order, Origin, Severity};
use policy::topology::Topology;
use policy::utc::rfc3339;
use proxy::{Prepared, Steering};
use telemetry::Metrics;
use telemetry::log::Level;
use tokio::sync::{mpsc, watch};

use crate::handover::Handover;
use crate::notify::{notify, notify_reloading};
use crate::watch::{Seen, look};
use crate::{limits, wiring};

/// What others are told of the configuration.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) configuration: watch::Sender<Configuration>,
    pub(crate) token: watch::Sender<Option<Token>>,
    /// All settings in force, without secrets.
    pub(crate) settings: watch::Sender<Arc<str>>,
}

impl Told {
    pub(crate) fn new(file: &Path, config: &Config) -> Self {
        let configuration = Configuration {
            file: file.display().to_string(),
            read_at: rfc3339(SystemTime::now()),
            ..Configuration::default()
        };
        let (configuration, _) = watch::channel(configuration);
        let (token, _) = watch::channel(token(config));
        let (settings, _) = watch::channel(config.show().into());
        Self { configuration, token, settings }
    }
}

fn token(config: &Config) -> Option<Token> {
    config.admin.token.as_ref().map(|token| Token::new(token.expose()))
}

/// Reads one file again, on demand.
pub(crate) struct Reloader {
    pub(crate) file: PathBuf,
    pub(crate) control: Handle,
    pub(crate) steering: Steering,
    pub(crate) handover: Handover,
    pub(crate) level: Level,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) told: Told,
    /// What is in force.
    pub(crate) config: Arc<Config>,
    pub(crate) generation: u64,
}

/// Who asks for a reload when nobody does.
const WATCH: &str = "the file changed on disk";

/// What a file comes to before it is in force.
struct Draft {
    config: Config,
    topology: Topology,
    watching: control::Settings,
    prepared: Prepared,
    pending: Vec<Change>,
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After how many looks a file that was not good is read again: what it lacked may be a file that it
/// names, and which only came later.
const PATIENCE: u32 = 10;

impl Reloader {
    /// Reloads when asked to, and when the file changes if it says so, one after the other; for ever.
    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<Reload>) {
        let mut seen = Seen::new(self.look().await);
        let mut looks = 0;
        let mut clock = tokio::time::interval(LOOK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(Reload { by, answer }) = asked.recv() => {
                    let before = self.look().await;
                    let done = self.reload(&by).await;
                    // What changed since it was read is yet to be read.
                    seen = Seen::new(before);
                    // Whoever asked may have gone; what came of it is logged.
                    drop(answer.send(done));
                }
                _ = clock.tick(), if self.config.watch => {
                    looks += 1;
                    let is_tried_again = self.is_invalid() && looks % PATIENCE == 0;
                    if seen.is_other(self.look().await) || is_tried_again {
                        // What is wrong with it is logged, and shown.
                        drop(self.reload(WATCH).await);
                    }
                }
                else => return,
            }
        }
    }

    /// Whether what is on disk was not good when it was read last.
    fn is_invalid(&self) -> bool {
        self.told.configuration.borrow().invalid_since.is_some()
    }

    /// What the files are like.
    async fn look(&self) -> Vec<Option<u128>> {
        let (file, config) = (self.file.clone(), Arc::clone(&self.config));
        let looking = tokio::task::spawn_blocking(move || look(&file, &config));
        looking.await.unwrap_or_default()
    }

    /// Reads the file again, and puts it in force.
    ///
    /// # Errors
    /// What is wrong, a line for each problem. Then nothing has changed.
    async fn reload(&mut self, by: &str) -> Result<Reloaded, Vec<String>> {
        notify_reloading();
        let reloaded = self.try_reload(by).await;
        notify("READY=1");
        let reloaded = reloaded.map_err(|error| problems(&error));
        let problems = reloaded.as_ref().err();
        // Tried again, it is as it was.
        let is_known = problems == Some(&self.told.configuration.borrow().problems) && by == WATCH;
        if !is_known {
            self.metrics.reloaded(reloaded.is_ok());
            problems.inspect(|problems| self.note_invalid(by, problems));
        }
        reloaded
    }

    async fn try_reload(&mut self, by: &str) -> anyhow::Result<Reloaded> {
        let (path, running) = (self.file.clone(), Arc::clone(&self.config));
        let (steering, generation) = (self.steering.clone(), self.generation + 1);
        // Files may be on a disk that is slow, and keys take time to make.
        let drafting =
            tokio::task::spawn_blocking(move || draft(&path, &running, generation, &steering));
        let draft = drafting.await.context("reading the configuration")??;
        let changes = self.config.difference(&draft.config);
        let pending = draft.pending.clone();
        let config = Arc::new(draft.config.clone());
        self.put_in_force(draft, generation, by, &changes).await?;
        limits::raise_open_files(&config);
        if let Err(error) = self.level.set(config.log.level.word()) {
            tracing::warn!("{error}");
        }
        self.told.token.send_replace(token(&config));
        self.told.settings.send_replace(config.show().into());
        let reloaded =
            Reloaded { changes: differences(&changes), needs_restart: differences(&pending) };
        self.told.configuration.send_replace(Configuration {
            file: self.file.display().to_string(),
            read_at: rfc3339(SystemTime::now()),
            needs_restart: reloaded.needs_restart.clone(),
            ..Configuration::default()
        });
        (self.config, self.generation) = (config, generation);
        Ok(reloaded)
    }

    async fn put_in_force(
        &self,
        draft: Draft,
        generation: u64,
        by: &str,
        changes: &[Change],
    ) -> anyhow::Result<()> {
        let Draft { topology, watching, prepared, pending, .. } = draft;
        let checked = self.control.look(&topology, &watching).await;
        let events = events(by, changes, &pending);
        self.steering.apply(prepared);
        self.handover.offer();
        let origin = if by == WATCH { Origin::Cluster } else { Origin::Operator };
        let settings = watching;
        let reload = control::Reload { topology, settings, generation, origin, events, checked };
        self.control.order(Order::Reload(Box::new(reload)), by).await?;
        // Who is told of it can rely on it.
        self.steering.settle().await;
        Ok(())
    }

    fn note_invalid(&self, by: &str, problems: &[String]) {
        let first = problems.first().map_or("", String::as_str);
        let more = match problems.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let text =
            format!("the configuration was not changed ({by}): the file is invalid: {first}{more}");
        match by {
            WATCH => self.control.note(Severity::Warn, text),
            _ => self.control.note_order(Severity::Warn, text),
        }
        for problem in problems.iter().skip(1) {
            tracing::warn!("{problem}");
        }
        self.told.configuration.send_modify(|configuration| {
            configuration.invalid_since.get_or_insert_with(|| rfc3339(SystemTime::now()));
            configuration.problems = problems.to_vec();
        });
    }
}

/// What is told of a configuration that is put in force.
fn events(by: &str, changes: &[Change], pending: &[Change]) -> Vec<String> {
    let differences = match changes.len() {
        0 => "nothing is different".to_owned(),
        1 => "1 difference".to_owned(),
        n => format!("{n} differences"),
    };
    let mut events = vec![format!("the configuration was read again ({by}): {differences}")];
    events.extend(changes.iter().map(|change| format!("configuration: {change}")));
    events.extend(
        pending
            .iter()
            .map(|change| format!("configuration: {change} needs a restart, and is not in force")),
    );
    events
}

/// What is wrong, a line for each problem.
fn problems(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<ConfigError>() {
        Some(error) => error.to_string().lines().map(str::to_owned).collect(),
        None => vec![format!("{error:#}")],
    }
}

fn differences(changes: &[Change]) -> Vec<Difference> {
    let difference = |change: &Change| Difference {
        setting: change.path.clone(),
        old: change.old.clone(),
        new: change.new.clone(),
    };
    changes.iter().map(difference).collect()
}

/// Reads and prepares everything, and changes nothing.
fn draft(
    file: &Path,
    running: &Config,
    generation: u64,
    steering: &Steering,
) -> anyhow::Result<Draft> {
    let read = Config::load(file)?;
    let config = restrained(running, &read);
    let pending = config.difference(&read);
    let of_file = || file.display().to_string();
    let topology = wiring::topology(&config).with_context(of_file)?;
    let watching = wiring::watching(&config).with_context(of_file)?;
    let settings = wiring::serving(&config, generation);
    let prepared = steering.prepare(settings).with_context(of_file)?;
    Ok(Draft { config, topology, watching, prepared, pending })
}

/// What can be in force of a file while failsoft runs.
fn restrained(running: &Config, read: &Config) -> Config {
    let mut config = read.clone();
    config.admin.http.clone_from(&running.admin.http);
    config.admin.mysql.clone_from(&running.admin.mysql);
    config.threads = running.threads;
    config.ledger.clone_from(&running.ledger);
    config.log.format = running.log.format;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        let text = format!(
            "defaults: {{user: app, pass: x}}\ndatabases: [{{host: a, role: master}}]\n{more}"
        );
        Config::parse("test.yaml", &text, &|_| None).unwrap()
    }

    #[test]
    fn what_needs_a_restart_stays_and_is_named() {
        let running = config("threads: 2");
        let read = config(
            "threads: 3\nledger: /l\nadmin: {http: \"127.0.0.1:1\", mysql: \"127.0.0.1:2\", token: t}\n\
             log: {format: json, level: debug}\nread_only: true\nlisten: \"127.0.0.1:3\"",
        );
        let config = restrained(&running, &read);
        let paths = |changes: Vec<Change>| -> Vec<String> {
            changes.into_iter().map(|change| change.path).collect()
        };
        let pending = paths(config.difference(&read));
        assert_eq!(pending, ["admin.http", "admin.mysql", "threads", "ledger", "log.format"]);
        let changes = paths(running.difference(&config));
        assert_eq!(changes, ["listen", "admin.token", "read_only", "log.level"]);
    }

    #[test]
    fn every_mistake_is_a_line() {
        let error = Config::parse("f.yaml", "a: 1\nb: 2", &|_| None).unwrap_err();
        let lines = problems(&error.into());
        assert!(
            lines.len() > 2 && lines.iter().all(|line| line.starts_with("f.yaml:")),
            "{lines:?}"
        );
        let error = anyhow::anyhow!("cause").context("f.yaml");
        assert_eq!(problems(&error), ["f.yaml: cause"]);
    }
}
