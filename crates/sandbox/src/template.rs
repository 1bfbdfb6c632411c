//! Initialised data, made once per version of a server and copied for each start.
//!
//! Initialising takes seconds, copying a fraction of one. A template lies in the cache folder under
//! a name made of the flavour, the version and a digest of the recipe, so that a new version or a
//! new recipe gets a new one. It is built beside its place, under a lock, and renamed into place
//! when complete: whatever ends the builder, there is never half a template.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::account::{self, Account};
use crate::flavor::on_path;
use crate::ports::Lease;
use crate::process::{Process, tail};
use crate::server::ready;
use crate::{Flavor, Program, SandboxError, cache_dir, settings};

/// Raised when what is done here changes in a way the digest does not see.
const RECIPE: u32 = 1;
/// How long initialising may take.
const INITIALISE_LIMIT: Duration = Duration::from_secs(180);
/// How long a clean end may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Files that belong to one server alone: its identity and its logs.
const OWN_FILES: &[&str] = &["auto.cnf", "binlog.", "relay.", "relay-", "multi-master.info"];
/// Bytes that are looked at together when a copy leaves out what is zero.
const BLOCK: usize = 64 << 10;

/// The template's folder for this program, made if it is not there yet.
pub(crate) async fn prepare(program: &Program) -> Result<PathBuf, SandboxError> {
    let place = cache_dir().join("templates").join(name(program));
    if place.is_dir() {
        return Ok(place);
    }
    let lock = lock(&place).await?;
    if !place.is_dir() {
        build(program, &place).await?;
    }
    drop(lock);
    Ok(place)
}

/// Copies a template to where a server will have its data. Blocks.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies a file without writing its zeros, which are most of a fresh database.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    target.set_permissions(source.metadata()?.permissions())?;
    let (zeros, mut block) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut length = 0_u64;
    loop {
        let count = source.read(&mut block)?;
        let bytes = block.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        length = length.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        // Slices are compared at memory's speed, also where nothing is optimised.
        if zeros.starts_with(bytes) {
            target.seek(SeekFrom::Start(length))?;
        } else {
            target.write_all(bytes)?;
        }
    }
    target.set_len(length)
}

/// A name that changes with the version and with the recipe.
fn name(program: &Program) -> String {
    let mut digest = DefaultHasher::new();
    RECIPE.hash(&mut digest);
    program.command().hash(&mut digest);
    account::setup(program.flavor()).hash(&mut digest);
    settings::arguments(program.flavor(), Path::new(""), 0).hash(&mut digest);
    let version: String = program
        .version()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{}-{version}-{:016x}", program.flavor(), digest.finish()).to_lowercase()
}

/// Waits until no other process builds this template.
async fn lock(place: &Path) -> Result<File, SandboxError> {
    let path = place.with_extension("lock");
    let take = move || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    let taken = tokio::task::spawn_blocking(take).await;
    taken
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(SandboxError::io(format!("lock the template {}", place.display())))
}

async fn build(program: &Program, place: &Path) -> Result<(), SandboxError> {
    let scratch = scratch_folder()?;
    let folder = scratch.path();
    initialise(program, folder).await?;
    furnish(program, folder).await?;
    let failed = |what: &str| SandboxError::io(format!("{what} the template {}", place.display()));
    let data = settings::data(folder);
    remove_own_files(&data).map_err(failed("clean"))?;
    let partial = place.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed("remove what was left of"))?;
    }
    copy(&data, &partial).map_err(failed("copy"))?;
    fs::rename(&partial, place).map_err(failed("name"))
}

/// A fresh folder for one server, with a path short enough for a Unix socket.
pub(crate) fn scratch_folder() -> Result<tempfile::TempDir, SandboxError> {
    let scratch = tempfile::Builder::new()
        .prefix("failsoft-")
        .tempdir()
        .map_err(SandboxError::io("make a scratch folder"))?;
    fs::create_dir(scratch.path().join("tmp"))
        .map_err(SandboxError::io("make a server's folder for temporary files"))?;
    Ok(scratch)
}

/// Runs the flavour's own way of making an empty database.
async fn initialise(program: &Program, folder: &Path) -> Result<(), SandboxError> {
    let command = match program.flavor() {
        Flavor::MariaDb => mariadb_install(program, folder),
        Flavor::MySql => mysql_initialise(program, folder),
    };
    let what = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let log = settings::log(folder);
    let failed = || SandboxError::io(format!("run {what}"));
    let mut process = Process::start(&command, folder, &log).map_err(failed())?;
    match process.wait(INITIALISE_LIMIT).await.map_err(failed())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(SandboxError::Exited { what, status, log: tail(&log) }),
        None => Err(failed()(io::ErrorKind::TimedOut.into())),
    }
}

fn mariadb_install(program: &Program, folder: &Path) -> Vec<OsString> {
    let names = ["mariadb-install-db", "mysql_install_db"];
    let beside = program
        .folder()
        .into_iter()
        .flat_map(|folder| ["", "../bin", "../scripts"].map(|side| folder.join(side)).into_iter());
    let script = beside
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .or_else(|| names.iter().flat_map(|name| on_path(name)).next())
        .map_or_else(|| OsString::from("mariadb-install-db"), PathBuf::into_os_string);
    let mut command = vec![script, OsString::from("--no-defaults")];
    command.push(settings::with_path("datadir", &settings::data(folder)));
    command.extend(
        ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
            .map(OsString::from),
    );
    command.push("--innodb-log-file-size=4M".into());
    command.extend(settings::account());
    command
}

fn mysql_initialise(program: &Program, folder: &Path) -> Vec<OsString> {
    let mut command = program.command().to_vec();
    command.extend(["--no-defaults", "--initialize-insecure"].map(OsString::from));
    command.push(settings::with_path("datadir", &settings::data(folder)));
    command.extend(
        ["--innodb-buffer-pool-size=32M", "--innodb-use-native-aio=OFF"].map(OsString::from),
    );
    command.extend(settings::account());
    command
}

/// Runs the server once, over its Unix socket, to make accounts and schema.
async fn furnish(program: &Program, folder: &Path) -> Result<(), SandboxError> {
    let lease = Lease::any()?;
    let mut command = program.command().to_vec();
    command.extend(settings::arguments(program.flavor(), folder, lease.port()));
    command.push("--server-id=1".into());
    let mut process = Process::start(&command, folder, &settings::log(folder))
        .map_err(SandboxError::io("start the template's server"))?;
    let unset = Account { pass: "", ..account::ROOT };
    let socket = settings::socket(folder).to_string_lossy().into_owned();
    let options = account::builder(unset, None).socket(Some(socket));
    let mut connection = ready(program.flavor(), &mut process, options).await?;
    for statement in account::setup(program.flavor()) {
        connection.query_drop(&statement).await.map_err(SandboxError::sql(&statement))?;
    }
    connection.disconnect().await.map_err(SandboxError::sql("quit"))?;
    let failed = || SandboxError::io("stop the template's server");
    process.signal(rustix::process::Signal::TERM).map_err(failed())?;
    match process.wait(STOP_LIMIT).await.map_err(failed())? {
        Some(_) => Ok(()),
        None => Err(failed()(io::ErrorKind::TimedOut.into())),
    }
}

/// Removes what two servers must not share.
fn remove_own_files(data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name();
        if OWN_FILES.iter().any(|own| name.to_string_lossy().starts_with(own)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_and_its_zeros_take_no_room() {
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().join("from");
        fs::create_dir_all(from.join("inner")).unwrap();
        let mut bytes = vec![0; 3 * BLOCK];
        bytes[BLOCK + 7] = 1;
        bytes.extend([0; 5]);
        for (name, content) in [("mixed", &bytes[..]), ("empty", &[]), ("inner/file", b"text")] {
            fs::write(from.join(name), content).unwrap();
        }
        let to = scratch.path().join("to");
        copy(&from, &to).unwrap();
        for name in ["mixed", "empty", "inner/file"] {
            assert_eq!(fs::read(from.join(name)).unwrap(), fs::read(to.join(name)).unwrap());
        }
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(to.join("mixed")).unwrap());
        assert!(blocks * 512 <= 2 * 64 * 1024, "{blocks} blocks");
    }

    #[test]
    fn identity_and_logs_are_removed_and_data_stays() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["auto.cnf", "binlog.000001", "binlog.index", "binlog.state", "ibdata1"] {
            fs::write(scratch.path().join(name), "").unwrap();
        }
        remove_own_files(scratch.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["ibdata1"]);
    }
}
