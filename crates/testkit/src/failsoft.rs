//! failsoft itself, as its users run it: a process with a file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use mysql_async::Conn;
use sandbox::ports::Lease;
use sandbox::{Account, Process, Signal};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{APP, MONITOR, Response, conn, http};

/// What actions on the console need; the environment of every failsoft started here has it.
pub const ADMIN_TOKEN: &str = "test-token";
/// How long it may take until failsoft answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to leave after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A configuration in the making: top-level sections, and where failsoft's program is.
#[derive(Clone, Debug)]
pub struct Config {
    sections: String,
    program: PathBuf,
    environment: Vec<String>,
}

/// A running failsoft. Dropping it kills it; in a failing test the end of its log is shown.
#[derive(Debug)]
pub struct Failsoft {
    // First: the process must be gone before its folder.
    process: Process,
    folder: Arc<TempDir>,
    /// Its place among those that share the folder.
    number: usize,
    listen: Arc<Lease>,
    http: Arc<Lease>,
    admin: Arc<Lease>,
    command: Vec<OsString>,
}

impl Config {
    /// Adds top-level YAML. A section that is there already is replaced as a whole.
    ///
    /// `{listen}`, `{http}` and `{admin}` become the ports this failsoft gets.
    #[must_use]
    pub fn with(mut self, yaml: &str) -> Self {
        for key in keys(yaml) {
            self.sections = without(&self.sections, key);
        }
        self.sections.push_str(yaml);
        self.sections.push('\n');
        self
    }

    /// Runs this program instead of the one beside the tests: `env!("CARGO_BIN_EXE_failsoft")`.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    /// Adds a variable to failsoft's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Starts failsoft, and waits until `/readyz` says it is alive.
    ///
    /// # Panics
    /// It does not get that far; says why, with the end of its log.
    pub async fn start(self) -> Failsoft {
        self.try_start().await.unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// As [`Config::start`], for tests that expect it to fail.
    ///
    /// # Errors
    /// Why it did not start, with the end of its log.
    ///
    /// # Panics
    /// This machine has no room for it: no free port or no scratch folder.
    pub async fn try_start(self) -> Result<Failsoft, String> {
        let folder = tempfile::Builder::new().prefix("failsoft-").tempdir().expect("a folder");
        let [listen, http, admin] = [(); 3].map(|()| Lease::any().expect("a free port"));
        let file = folder.path().join("failsoft.yaml");
        fs::write(&file, fill(&self.sections, &listen, &http, &admin)).expect("a written file");
        let mut command = vec![OsString::from("env")];
        command.extend(self.environment.iter().map(OsString::from));
        command.extend([self.program.clone().into(), "run".into(), "-c".into(), file.into()]);
        let (folder, number) = (Arc::new(folder), 1);
        let process = start(&command, &folder, number)?;
        let [listen, http, admin] = [listen, http, admin].map(Arc::new);
        let mut failsoft = Failsoft { process, folder, number, listen, http, admin, command };
        failsoft.wait_alive().await?;
        Ok(failsoft)
    }
}

impl Failsoft {
    /// A configuration for databases on loopback ports, each with its role, that checks them
    /// often, and waits for those that answer longer than any busy machine needs. `app` and
    /// `failsoft` are the sandbox's accounts. `FAILSOFT_TEST_CONFIG` adds YAML to each.
    #[must_use]
    pub fn config(databases: &[(&str, u16)]) -> Config {
        let listed: String = databases
            .iter()
            .map(|(role, port)| format!("  - {{host: 127.0.0.1, port: {port}, role: {role}}}\n"))
            .collect();
        let sections = format!(
            "listen: [\"127.0.0.1:{{listen}}\"]\n\
             admin:\n  http: 127.0.0.1:{{http}}\n  mysql: 127.0.0.1:{{admin}}\n  \
             token_env: FAILSOFT_ADMIN_TOKEN\n\
             defaults: {{user: {}, pass: {}}}\n\
             monitor: {{user: {}, pass: {}}}\n\
             health: {{interval: 250ms, threshold: 8, timeout: 1900ms}}\n\
             connect_timeout: 10s\n\
             databases:\n{listed}",
            APP.user, APP.pass, MONITOR.user, MONITOR.pass
        );
        let environment = vec![format!("FAILSOFT_ADMIN_TOKEN={ADMIN_TOKEN}")];
        let config = Config { sections, program: beside_tests(), environment };
        match env::var("FAILSOFT_TEST_CONFIG") {
            Ok(yaml) => config.with(&yaml),
            Err(_) => config,
        }
    }

    /// Starts another one with the same file, on the same ports, and waits until it listens.
    ///
    /// # Panics
    /// It does not get that far; says why, with the end of its log.
    pub async fn successor(&self) -> Self {
        let number = self.number + 1;
        let process = start(&self.command, &self.folder, number);
        let mut successor = Self {
            process: process.unwrap_or_else(|reason| panic!("{reason}")),
            folder: Arc::clone(&self.folder),
            number,
            listen: Arc::clone(&self.listen),
            http: Arc::clone(&self.http),
            admin: Arc::clone(&self.admin),
            command: self.command.clone(),
        };
        let deadline = Instant::now() + START_LIMIT;
        while !successor.log().contains("listening on ") {
            let log = successor.log();
            assert!(successor.is_running() && Instant::now() < deadline, "{log}");
            sleep(PAUSE).await;
        }
        successor
    }

    /// The port for applications.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listen.port()
    }

    /// The port of the console and the API.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http.port()
    }

    /// The port of the admin console in the MySQL protocol.
    #[must_use]
    pub fn admin_port(&self) -> u16 {
        self.admin.port()
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its folder, with `failsoft.yaml` and `log`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(&self.folder, self.number)).unwrap_or_default()
    }

    /// Logs in through it.
    ///
    /// # Errors
    /// What it answered.
    pub async fn conn(&self, schema: Option<&str>) -> Result<Conn, mysql_async::Error> {
        self.conn_as(APP, schema).await
    }

    /// Logs in through it with some other account.
    ///
    /// # Errors
    /// What it answered.
    pub async fn conn_as(
        &self,
        account: Account,
        schema: Option<&str>,
    ) -> Result<Conn, mysql_async::Error> {
        conn(self.port(), account.user, account.pass, schema).await
    }

    /// Gets a page: status and body.
    ///
    /// # Panics
    /// Nobody answers.
    pub async fn http_get(&self, path: &str) -> (u16, String) {
        let response = http(self.http_port(), "GET", path, "", "").await;
        let Response { status, body, .. } =
            response.unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log()));
        (status, body)
    }

    /// Orders an action, with the token: status and body of the answer.
    ///
    /// # Panics
    /// Nobody answers.
    pub async fn http_post(&self, path: &str, json: &str) -> (u16, String) {
        let header =
            format!("Authorization: Bearer {ADMIN_TOKEN}\r\nContent-Type: application/json\r\n");
        let response = http(self.http_port(), "POST", path, &header, json).await;
        let Response { status, body, .. } =
            response.unwrap_or_else(|error| panic!("POST {path}: {error}\n{}", self.log()));
        (status, body)
    }

    /// Replaces the file, without telling failsoft; placeholders as in [`Config::with`].
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_config(&self, config: &Config) {
        let text = fill(&config.sections, &self.listen, &self.http, &self.admin);
        fs::write(self.folder.path().join("failsoft.yaml"), text).expect("a written file");
    }

    /// Tells it to read its file again (SIGHUP).
    ///
    /// # Panics
    /// The operating system refused the signal.
    pub fn reload(&mut self) {
        self.process.signal(Signal::HUP).expect("a signal");
    }

    /// Asks it to leave (SIGTERM), without waiting.
    ///
    /// # Panics
    /// The operating system refused the signal.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM).expect("a signal");
    }

    /// Asks it to leave (SIGTERM) and waits; answers with its exit code.
    ///
    /// # Panics
    /// It does not leave within 30 seconds.
    pub async fn stop(&mut self) -> Option<i32> {
        self.terminate();
        let ended = self.process.wait(STOP_LIMIT).await.expect("a look at the process");
        ended.unwrap_or_else(|| panic!("still there after {STOP_LIMIT:?}\n{}", self.log())).code()
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Panics
    /// The operating system refused the signal.
    pub fn kill(&mut self) {
        self.process.kill().expect("a signal");
    }

    /// Whether its process is there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.ended(), Ok(None))
    }

    /// Starts it again on the same ports and file; what still runs is killed first.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_again(&mut self) {
        self.kill();
        let started = start(&self.command, &self.folder, self.number);
        self.process = started.unwrap_or_else(|reason| panic!("{reason}"));
        self.wait_alive().await.unwrap_or_else(|reason| panic!("{reason}"));
    }

    async fn wait_alive(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let answer = http(self.http_port(), "GET", "/readyz", "", "").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.process.ended() {
                return Err(format!("failsoft ended with {status}:\n{}", self.process.log_tail()));
            }
            if Instant::now() >= deadline {
                let log = self.process.log_tail();
                return Err(format!("failsoft was not alive within {START_LIMIT:?}:\n{log}"));
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Failsoft {
    #[allow(clippy::print_stderr, reason = "a failing test shows what failsoft logged")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the end of failsoft's log\n{}\n---", self.process.log_tail());
        }
    }
}

fn log_file(folder: &TempDir, number: usize) -> PathBuf {
    folder.path().join(if number == 1 { "log".to_owned() } else { format!("log-{number}") })
}

fn start(command: &[OsString], folder: &TempDir, number: usize) -> Result<Process, String> {
    Process::start(command, folder.path(), &log_file(folder, number))
        .map_err(|error| format!("cannot start {command:?}: {error}"))
}

/// failsoft's program: what cargo names, or what lies above the folder of the tests.
fn beside_tests() -> PathBuf {
    env::var_os("CARGO_BIN_EXE_failsoft").map_or_else(
        || {
            let tests = env::current_exe().expect("the path of this program");
            tests.ancestors().nth(2).expect("a target folder").join("failsoft")
        },
        PathBuf::from,
    )
}

fn fill(sections: &str, listen: &Lease, http: &Lease, admin: &Lease) -> String {
    [("{listen}", listen), ("{http}", http), ("{admin}", admin)]
        .into_iter()
        .fold(sections.to_owned(), |text, (name, lease)| {
            text.replace(name, &lease.port().to_string())
        })
}

/// The top-level keys of a YAML text.
fn keys(yaml: &str) -> Vec<&str> {
    yaml.lines().filter_map(key).collect()
}

fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(key)
}

/// A YAML text without one of its top-level sections.
fn without(sections: &str, removed: &str) -> String {
    let mut keep = true;
    let mut kept = String::new();
    for line in sections.lines() {
        if let Some(key) = key(line) {
            keep = key != removed;
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_given_again_replaces_the_first_as_a_whole() {
        let config = Failsoft::config(&[("master", 1), ("replica", 2)])
            .with("databases:\n  - {host: db, role: master}\nread_only: true")
            .with("health: {interval: 1s}");
        let text = &config.sections;
        assert!(!text.contains("port: 2"), "{text}");
        assert!(!text.contains("threshold"), "{text}");
        assert!(text.contains("read_only: true\n"), "{text}");
        assert_eq!(text.matches("databases:").count(), 1, "{text}");
        assert!(text.contains("http: 127.0.0.1:{http}"), "{text}");
    }

    #[test]
    fn ports_are_filled_in() {
        let [listen, http, admin] = [(); 3].map(|()| Lease::any().unwrap());
        let text = fill("{listen} {http} {admin} {listen}", &listen, &http, &admin);
        let (listen, http, admin) = (listen.port(), http.port(), admin.port());
        assert_eq!(text, format!("{listen} {http} {admin} {listen}"));
    }

    #[tokio::test]
    async fn a_program_that_ends_is_reported_with_its_log() {
        let config = Failsoft::config(&[]).program("/bin/false");
        let reason = config.try_start().await.unwrap_err();
        assert!(reason.contains("ended with exit status: 1"), "{reason}");
    }
}
