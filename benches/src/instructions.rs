//! Instructions and allocations of failsoft per statement, counted by valgrind: the same from run to run, whatever
//! else the machine does, so that a change which costs something is seen at once.
//!
//! failsoft runs twice for each load, with few statements and with many; what lies between the two is
//! theirs alone. The kernel's part is not counted. Client and server take their time, so that failsoft
//! always waits for either: how often it has to is part of the count.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use testkit::{Direction, Failsoft, FaultProxy, Server};
use tokio::time::sleep;

use crate::client::Client;
use crate::load::Load;

/// Statements, or visits, of the two runs.
const FEW: u32 = 60;
const MANY: u32 = 460;

/// What is counted, and how connections are kept then.
const GUARDED: &[(Load, &str)] = &[
    (Load::Select, "session"),
    (Load::Select, SHARED),
    (Load::Prepared, "session"),
    (Load::Visit, "session"),
];
const SHARED: &str = "transaction";

/// How long client and server think: longer than failsoft takes under valgrind.
const THINKING: Duration = Duration::from_millis(4);

/// How much more a load may cost than it did, in percent.
const TOLERANCE: u64 = 5;

/// What follows the words of a load where its allocations are counted, for a hundred of each.
const ALLOCATIONS: &str = ", allocations for a hundred";
/// Those that are made by the way, with no statement: more where the machine is busy and a run takes longer.
/// One more for each statement would be a hundred.
const BY_THE_WAY: u64 = 40;

/// What a run took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Taken {
    instructions: u64,
    allocations: u64,
}

/// What was counted when the file was written.
#[derive(Debug, Eq, PartialEq)]
struct Baseline {
    /// The compiler: another makes other instructions.
    compiler: String,
    counts: Vec<(String, u64)>,
}

/// Counts, and compares with a file, or writes it.
///
/// # Errors
/// A load costs more than it did, or valgrind is not there.
pub(crate) async fn guard(
    server: &Server,
    failsoft: &Path,
    file: &Path,
    update: bool,
) -> anyhow::Result<String> {
    let mut counts = Vec::new();
    for (load, pool) in GUARDED {
        let few = count(server, failsoft, (*load, pool), FEW).await?;
        let many = count(server, failsoft, (*load, pool), MANY).await?;
        let of = |few: u64, many: u64| many.saturating_sub(few);
        let between = u64::from(MANY - FEW);
        let each = of(few.instructions, many.instructions) / between;
        let allocations = of(few.allocations, many.allocations) * 100 / between;
        let what = match *pool {
            SHARED => format!("{}, shared", load.words()),
            _ => load.words().to_owned(),
        };
        counts.push((format!("{what}{ALLOCATIONS}"), allocations));
        counts.push((what, each));
    }
    let now = Baseline { compiler: compiler()?, counts };
    if update {
        fs::write(file, now.to_text())?;
        return Ok(now.to_text());
    }
    let text = fs::read_to_string(file).with_context(|| format!("no {}", file.display()))?;
    let before =
        Baseline::parse(&text).with_context(|| format!("{} is not one", file.display()))?;
    let (table, costlier) = compare(&before, &now);
    let is_other = before.compiler != now.compiler;
    match costlier {
        true if is_other => Ok(format!(
            "{table}\nThe baseline is of {}, this is {}: not compared.\n",
            before.compiler, now.compiler
        )),
        true => bail!("{table}\na load costs over {TOLERANCE} % more than in {}", file.display()),
        false => Ok(table),
    }
}

/// What a whole run with so many statements takes.
async fn count(
    server: &Server,
    failsoft: &Path,
    (load, pool): (Load, &str),
    times: u32,
) -> anyhow::Result<Taken> {
    let folder = tempfile::Builder::new().prefix("failsoft-guard-").tempdir()?;
    let out = folder.path().join("counts");
    let program = under_valgrind(folder.path(), failsoft, &out)?;
    let link = FaultProxy::start(server.port()).await;
    link.delay(Direction::ToClient, THINKING);
    // No key is made at the start, whose cost is a matter of luck, and nothing is checked meanwhile. Nor is any
    // digest made: so slow are statements under valgrind that each would be, and under load few are.
    let mut running = Failsoft::config(&[("master", link.port())])
        .with(&format!(
            "threads: 1\ntls: {{clients: off}}\npool: {{mode: {pool}}}\ndigests_per_second: 0"
        ))
        .with("health: {interval: 1h, threshold: 5, timeout: 1m}")
        .program(program)
        .try_start()
        .await
        .map_err(anyhow::Error::msg)?;
    let ran = run(running.port(), load, times).await;
    let ended = running.stop().await;
    ran?;
    ensure!(ended == Some(0), "failsoft ended with {ended:?}: {}", running.log());
    let text = fs::read_to_string(&out).context("valgrind left no counts")?;
    let instructions = total(&text).context("valgrind's counts cannot be read")?;
    Ok(Taken { instructions, allocations: allocations(&text) })
}

async fn run(port: u16, load: Load, times: u32) -> anyhow::Result<()> {
    if load == Load::Visit {
        for seed in 0..times {
            let mut client = Client::connect(port, seed.into()).await?;
            client.point_select().await?;
            client.quit().await?;
            // It cleans the connection before the next one comes.
            sleep(THINKING * 4).await;
        }
        return Ok(());
    }
    let mut client = Client::connect(port, 1).await?;
    if load == Load::Prepared {
        client.prepare().await?;
    }
    for _ in 0..times {
        client.point_select().await?;
        sleep(THINKING).await;
    }
    client.quit().await
}

/// A program that is failsoft under valgrind.
fn under_valgrind(folder: &Path, failsoft: &Path, out: &Path) -> anyhow::Result<PathBuf> {
    let known = Command::new("valgrind").arg("--version").output();
    ensure!(known.is_ok_and(|said| said.status.success()), "valgrind is not installed");
    let path = folder.join("failsoft");
    let script = format!(
        "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --callgrind-out-file={} {} \"$@\"\n",
        out.display(),
        failsoft.display(),
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Gathers randomness from how long things take, as often as it likes.
const LUCK: &str = "jitterentropy";

/// The sum in a file of callgrind's, without what is a matter of luck
/// (<https://valgrind.org/docs/manual/cl-format.html>).
fn total(text: &str) -> Option<u64> {
    let mut of_luck = HashSet::new();
    let (mut counts, mut is_call, mut sum) = (true, false, 0);
    for line in text.lines().skip_while(|line| !line.starts_with("fl=")) {
        if line.starts_with("totals:") {
            return Some(sum);
        }
        if let Some((key, value)) = line.split_once('=') {
            if ["fl", "fi", "fe", "cfi", "cfl"].contains(&key) {
                // A name stands behind its number where that is seen first.
                let number = value.split(' ').next()?;
                if value.contains(LUCK) {
                    of_luck.insert(number);
                }
                if !key.starts_with('c') {
                    counts = !of_luck.contains(number);
                }
            }
            // What follows is the cost of what is called, which is counted there.
            is_call |= key == "calls";
        } else if !std::mem::take(&mut is_call) && counts && !line.is_empty() {
            sum += line.split(' ').nth(1)?.parse::<u64>().ok()?;
        }
    }
    None
}

/// What allocates, in the C library.
const ALLOCATE: &[&str] = &["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// The calls of what allocates in a file of callgrind's.
fn allocations(text: &str) -> u64 {
    let mut allocating = HashSet::new();
    let (mut is_such, mut sum) = (false, 0);
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key {
            "fn" | "cfn" => {
                let (number, name) = value.split_once(' ').unwrap_or((value, ""));
                if ALLOCATE.contains(&name) {
                    allocating.insert(number);
                }
                is_such = key == "cfn" && allocating.contains(number);
            }
            "calls" if is_such => {
                let count = value.split(' ').next().and_then(|count| count.parse::<u64>().ok());
                sum += count.unwrap_or(0);
            }
            _ => {}
        }
    }
    sum
}

fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).arg("--version").output().context("which compiler is it?")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A table of both, and whether a load costs more than it may.
fn compare(before: &Baseline, now: &Baseline) -> (String, bool) {
    let mut table = "instructions of failsoft for each\n".to_owned();
    let mut costlier = false;
    for (load, count) in &now.counts {
        let known = before.counts.iter().find(|(known, _)| known == load).map(|(_, count)| *count);
        let was = known.unwrap_or(0);
        let spare = if load.ends_with(ALLOCATIONS) { BY_THE_WAY } else { 0 };
        costlier |= *count * 100 > was * (100 + TOLERANCE) + spare * 100;
        table += &format!("  {load:<50}{was:>10} -> {count:>10}\n");
    }
    (table, costlier)
}

impl Baseline {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines.next()?.to_owned();
        let counts = lines
            .map(|line| {
                let (load, count) = line.rsplit_once(": ")?;
                Some((load.to_owned(), count.parse().ok()?))
            })
            .collect::<Option<_>>()?;
        Some(Self { compiler, counts })
    }

    fn to_text(&self) -> String {
        let head = "# Instructions of failsoft for each, without the kernel's. `make guard` compares\n\
                    # with this, and `make guard UPDATE=1` writes it anew.\n";
        let lines = self.counts.iter().map(|(load, count)| format!("{load}: {count}\n"));
        format!("{head}{}\n{}", self.compiler, lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, u64)]) -> Baseline {
        let counts = counts.iter().map(|(load, count)| ((*load).to_owned(), *count)).collect();
        Baseline { compiler: "rustc 1".to_owned(), counts }
    }

    #[test]
    fn baselines_are_read_as_they_are_written() {
        let known = baseline(&[("select", 7000), ("connect, select, quit", 90_000)]);
        assert_eq!(Baseline::parse(&known.to_text()), Some(known));
        assert_eq!(Baseline::parse("rustc 1\nselect"), None);
    }

    #[test]
    fn what_is_called_is_counted_once_and_luck_is_not() {
        let text = "version: 1\nevents: Ir\nsummary: 999\n\nob=(1) /x\nfl=(1) a.rs\nfn=(1) main\n\
                    1 10\n+2 5\ncfi=(2) jitterentropy.c\ncfn=(2) gather\ncalls=1 0\n3 900\n4 7\n\n\
                    fl=(2)\nfn=(2)\n1 800\nfi=(1)\n2 3\nfe=(2)\n3 97\n\ntotals: 922\n";
        assert_eq!(total(text), Some(25));
        assert_eq!(total("fl=(1) a.rs\n1 10\n"), None, "cut off");
    }

    #[test]
    fn five_percent_are_borne_with() {
        let before = baseline(&[("select", 1000)]);
        for (count, expected) in [(900, false), (1050, false), (1051, true)] {
            assert_eq!(compare(&before, &baseline(&[("select", count)])).1, expected, "{count}");
        }
        assert!(compare(&before, &baseline(&[("new", 1)])).1, "a load that the file lacks");
        let name = format!("select{ALLOCATIONS}");
        let before = baseline(&[(&name, 0)]);
        for (count, expected) in [(40, false), (41, true)] {
            assert_eq!(compare(&before, &baseline(&[(&name, count)])).1, expected, "{count}");
        }
    }

    #[test]
    fn allocations_are_calls_of_what_allocates() {
        let text = "fn=(1) main\n1 10\ncfn=(2) malloc\ncalls=3 0\n1 90\ncfn=(3) free\ncalls=9 0\n1 9\n\
                    fn=(2)\n1 90\ncfn=(4) _int_malloc\ncalls=2 0\n1 50\nfn=(5) grow\ncfn=(2)\ncalls=4 0\n1 1\n";
        assert_eq!(allocations(text), 7);
    }
}
