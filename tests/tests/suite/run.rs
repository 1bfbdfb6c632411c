//! Running cases, and judging what came of them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{fs, thread};

use tokio::runtime::Builder;

use super::case::Case;
use super::source::Source;
use super::stand::{OPTION_FILE, SOCKET, Stand, Template, with_path};
use super::tap::{Heard, Tap};

/// How long one case may take, in seconds.
const LIMIT_S: &str = "240";
/// The exit code of a case that does not suit this server.
const SKIPPED: i32 = 62;
/// How many servers run at most.
const MOST_WORKERS: usize = 4;
/// After how many cases the run says how far it is.
const PROGRESS: usize = 100;
/// The server's files on character sets.
const CHARACTER_SETS: &str = "/usr/share/mysql/charsets";

/// Programs that cases may use, by the variable that they find them by; `scripts/setup.sh drivers`
/// installs them. A case that lacks one does not pass directly.
const PROGRAMS: &[(&str, &str)] = &[
    ("MYSQLADMIN", "mariadb-admin"),
    ("MYSQL_BINLOG", "mariadb-binlog"),
    ("MYSQL_CHECK", "mariadb-check"),
    ("MYSQL_DUMP", "mariadb-dump"),
    ("MYSQL_IMPORT", "mariadb-import"),
    ("MYSQL_SHOW", "mariadb-show"),
    ("MYSQL_SLAP", "mariadb-slap"),
];

/// What came of a case.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Its output is what it must be.
    Passed,
    /// It does not pass directly either, which says nothing of failsoft.
    NotHere(String),
    /// It passes directly, and not through failsoft.
    Differs {
        /// What `mariadb-test` printed.
        output: String,
    },
}

/// How a run ended.
struct Ended {
    code: Option<i32>,
    output: String,
}

impl Ended {
    fn is_good(&self) -> bool {
        self.code == Some(0)
    }

    /// The line that says most of why it is no pass.
    fn why(&self) -> String {
        let line = |is: fn(&str) -> bool| self.output.lines().find(|line| is(line));
        // Of an output that is another than it must be, the first line of the difference.
        let differs = |line: &str| {
            line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---")
        };
        let why = line(|line| line.starts_with("reason:"))
            .or_else(|| line(|line| line.starts_with("mysqltest:")))
            .or_else(|| line(differs))
            .or_else(|| line(|line| line.len() > 1));
        let why = why.unwrap_or_default();
        if self.code == Some(SKIPPED) && why.is_empty() {
            "skipped".to_owned()
        } else {
            why.to_owned()
        }
    }
}

/// Ways to judge one case.
pub(crate) mod judge {
    use super::{Bench, Case, Ended, Heard, Tap, Verdict, run};

    /// Through failsoft, and directly only where that fails: for cases known to pass directly.
    pub(crate) async fn through(bench: &mut Bench<'_>, case: &Case) -> Verdict {
        if through_failsoft(bench, case).await.is_good() {
            return Verdict::Passed;
        }
        bench.fresh(case).await;
        both(bench, case).await
    }

    /// Directly, and then through failsoft; once more on a fresh server where that fails, since some
    /// cases depend on what others left in the server's memory.
    pub(crate) async fn both(bench: &mut Bench<'_>, case: &Case) -> Verdict {
        let direct = directly(bench, case).await;
        if !direct.is_good() {
            bench.fresh(case).await;
            return Verdict::NotHere(direct.why());
        }
        if through_failsoft(bench, case).await.is_good() {
            return Verdict::Passed;
        }
        bench.fresh(case).await;
        let ended = through_failsoft(bench, case).await;
        if ended.is_good() {
            return Verdict::Passed;
        }
        bench.fresh(case).await;
        Verdict::Differs { output: ended.output }
    }

    /// Through a tap that overhears what the case sends.
    pub(crate) async fn overheard(bench: &mut Bench<'_>, case: &Case, heard: &Heard) -> Verdict {
        bench.reset(case).await;
        let tap = Tap::start(bench.stand.port(), heard).await;
        let ended = run(bench, case, tap.port()).await;
        if ended.is_good() { Verdict::Passed } else { Verdict::NotHere(ended.why()) }
    }

    async fn directly(bench: &mut Bench<'_>, case: &Case) -> Ended {
        bench.reset(case).await;
        run(bench, case, bench.stand.port()).await
    }

    async fn through_failsoft(bench: &mut Bench<'_>, case: &Case) -> Ended {
        bench.reset(case).await;
        let port = bench.stand.failsoft_port(case).await;
        run(bench, case, port).await
    }
}

/// A server, and what it takes to make another.
pub(crate) struct Bench<'a> {
    source: &'a Source,
    template: &'a Template,
    stand: Stand,
}

impl<'a> Bench<'a> {
    async fn start(
        source: &'a Source,
        template: &'a Template,
        case: &Case,
    ) -> Result<Self, String> {
        let stand = Stand::start(source, template, &case.server).await?;
        Ok(Self { source, template, stand })
    }

    /// Makes ready for a case.
    async fn reset(&mut self, case: &Case) {
        if self.stand.reset().await.is_err() {
            self.fresh(case).await;
        }
    }

    /// A failed case can leave anything behind.
    async fn fresh(&mut self, case: &Case) {
        let started = Stand::start(self.source, self.template, &case.server).await;
        self.stand = started.unwrap_or_else(|log| panic!("no server for {case}: {log}"));
    }
}

/// Judges all cases, on as many servers as there are processors.
pub(crate) fn judge_all(
    source: &Source,
    mut cases: Vec<Case>,
    judge: impl AsyncFn(&mut Bench<'_>, &Case) -> Verdict + Sync,
) -> Vec<(Case, Verdict)> {
    // Those that want the same server follow each other.
    cases.sort_by(|a, b| (&a.server, &a.name).cmp(&(&b.server, &b.name)));
    let count = cases.len();
    let template = block_on(Template::new());
    let queue = Mutex::new(VecDeque::from(cases));
    let verdicts = Mutex::new(Vec::new());
    let work = async || {
        let mut bench: Option<Bench<'_>> = None;
        let next = || queue.lock().unwrap().pop_front();
        while let Some(case) = next() {
            let started = match bench.take().filter(|bench| bench.stand.is_for(&case)) {
                Some(bench) => Ok(bench),
                None => Bench::start(source, &template, &case).await,
            };
            let verdict = match started {
                Ok(started) => judge(bench.insert(started), &case).await,
                Err(log) => Verdict::NotHere(log),
            };
            let mut verdicts = verdicts.lock().unwrap();
            verdicts.push((case, verdict));
            if verdicts.len() % PROGRESS == 0 {
                println!("{} of {count} cases", verdicts.len());
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_WORKERS));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| block_on(work()));
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap();
    verdicts.sort_by_key(|(case, _)| case.to_string());
    verdicts
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Runs a case against this port.
async fn run(bench: &Bench<'_>, case: &Case, port: u16) -> Ended {
    let (source, stand) = (bench.source, &bench.stand);
    let variable = stand.variable();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT_S]).arg(source.program());
    command.args(arguments(&variable, port)).args(&case.options).args(places(source, &variable));
    command.arg(with_path("--test-file", &source.script(&case.name)));
    let result = source.result(&case.name);
    if result.is_file() {
        // What differs is written beside it.
        let copied = variable.join("r").join(format!("{}.result", case.name));
        fs::copy(&result, &copied).unwrap();
        command.arg(with_path("--result-file", &copied));
    }
    command.current_dir(source.folder()).envs(environment(bench, case, port));
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.unwrap().unwrap_or_else(|error| panic!("mariadb-test: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    Ended { code: output.status.code(), output: text }
}

/// How any client of the suite connects. There is a file with its options, which is empty, since the
/// suite puts other options before the first.
fn arguments(variable: &Path, port: u16) -> Vec<String> {
    let file = format!("--defaults-file={}", variable.join(OPTION_FILE).display());
    let fixed = ["--host=127.0.0.1", "--protocol=tcp", "--user=root"].map(str::to_owned);
    // Not used, but named in what is told of a failed login.
    let socket = format!("--socket={}", variable.join(SOCKET).display());
    [file].into_iter().chain(fixed).chain([format!("--port={port}"), socket]).collect()
}

fn places(source: &Source, variable: &Path) -> Vec<OsString> {
    let suite = source.folder().join("main/");
    vec![
        "--skip-ssl".into(),
        "--silent".into(),
        "--database=test".into(),
        "--tail-lines=40".into(),
        "--wait-for-pos-timeout=60".into(),
        with_path("--tmpdir", &variable.join("tmp")),
        with_path("--logdir", &variable.join("log")),
        with_path("--timer-file", &variable.join("log/timer")),
        with_path("--character-sets-dir", Path::new(CHARACTER_SETS)),
        with_path("--suite-dir", &suite),
    ]
}

/// What the suite's own runner tells scripts by the environment.
fn environment(bench: &Bench<'_>, case: &Case, port: u16) -> Vec<(&'static str, OsString)> {
    let (source, stand) = (bench.source, &bench.stand);
    let variable = stand.variable();
    let client = format!("/usr/bin/mariadb {}", arguments(&variable, port).join(" "));
    let mut all: Vec<(&str, OsString)> = vec![
        ("LC_ALL", "C".into()),
        ("TZ", "GMT-3".into()),
        ("USER", "root".into()),
        ("LD_LIBRARY_PATH", source.libraries().into()),
        ("MYSQL_TEST_DIR", source.folder().into()),
        ("MTR_SUITE_DIR", source.folder().join("main").into()),
        ("MTR_TEST_NAME", format!("main.{}", case.name).into()),
        ("MTR_PERL", "/usr/bin/perl".into()),
        ("MYSQLTEST_VARDIR", variable.clone().into()),
        ("MYSQLTEST_REAL_VARDIR", variable.clone().into()),
        ("MYSQL_TMP_DIR", variable.join("tmp").into()),
        ("MARIADB_DATADIR", stand.data().into()),
        ("MASTER_MYPORT", port.to_string().into()),
        ("MASTER_MYSOCK", stand.socket().into()),
        ("DEFAULT_MASTER_PORT", "3306".into()),
        ("MYSQL_BINDIR", "/usr/bin".into()),
        ("MYSQL_SHAREDIR", "/usr/share/mysql".into()),
        ("MYSQL_CHARSETSDIR", CHARACTER_SETS.into()),
        ("CHARSETSDIR", CHARACTER_SETS.into()),
        ("USE_RUNNING_SERVER", "0".into()),
        ("EXE_MYSQL", "/usr/bin/mariadb".into()),
        ("MYSQL", format!("{client} --default-character-set=latin1").into()),
        ("MYSQL_TEST", with_arguments(source.program(), &variable, port)),
    ];
    for (name, program) in PROGRAMS {
        let program = Path::new("/usr/bin").join(program);
        if program.is_file() {
            all.push((name, with_arguments(program, &variable, port)));
        }
    }
    all
}

/// The command of a program that connects.
fn with_arguments(program: PathBuf, variable: &Path, port: u16) -> OsString {
    let mut command = program.into_os_string();
    command.push(" ");
    command.push(arguments(variable, port).join(" "));
    command
}
