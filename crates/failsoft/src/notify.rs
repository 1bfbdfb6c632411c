//! Tells systemd how far the service is, where it asks (`Type=notify`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use console::api::Configuration;
use policy::view::View;
use telemetry::log::one_line;
use tokio::sync::watch;

/// Sends a state such as `READY=1` or `STOPPING=1`. Without systemd this does nothing.
pub(crate) fn notify(state: &str) {
    if let Err(error) = try_to_notify(state) {
        tracing::warn!("systemd could not be told {state}: {error}");
    }
}

fn try_to_notify(state: &str) -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    send(socket.as_bytes(), state)
}

/// Says that the configuration is being read again (`Type=notify-reload`); `READY=1` has to follow.
pub(crate) fn notify_reloading() {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// Keeps telling what `systemctl status` shows, as long as there is something to tell.
pub(crate) async fn keep_telling(
    mut views: watch::Receiver<Arc<View>>,
    mut configuration: watch::Receiver<Configuration>,
) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut told = String::new();
    loop {
        let words = words(&views.borrow_and_update(), &configuration.borrow_and_update());
        // Where it cannot be told now, the next change of the view is told; nothing depends on it.
        if words != told && try_to_notify(&format!("STATUS={words}")).is_ok() {
            told = words;
        }
        let changed = tokio::select! {
            changed = views.changed() => changed,
            changed = configuration.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What each partition can do, and what there is to know of the configuration, in a line.
fn words(view: &View, configuration: &Configuration) -> String {
    let mut all: Vec<_> = view.partition_lines().collect();
    all.extend(configuration.words());
    let waiting: Vec<_> =
        configuration.needs_restart.iter().map(|it| it.setting.as_str()).collect();
    if !waiting.is_empty() {
        all.push(format!("Needs a restart: {}", waiting.join(", ")));
    }
    let words = one_line(&all.join(" | "));
    words.chars().take(LONGEST_STATUS).collect()
}

/// The longest status, in letters: systemd takes no more than 4096 bytes at a time.
const LONGEST_STATUS: usize = 1000;

/// The socket is a path, or after an `@` a name of Linux's abstract kind.
fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    let sender = UnixDatagram::unbound()?;
    // Health checks do not wait for somebody who does not read.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;
    use std::time::SystemTime;

    use console::api::Difference;
    use policy::cluster::Cluster;
    use policy::health::HealthParams;
    use policy::topology::Topology;

    use super::*;

    #[test]
    fn a_line_has_what_there_is_to_know() {
        let topology = Topology {
            servers: Vec::new(),
            partitions: vec!["default".into(), "blog".into()],
            read_only: false,
            master_may_replicate: false,
            health: HealthParams { threshold: NonZeroU8::MIN },
        };
        let view = Cluster::new(topology, SystemTime::UNIX_EPOCH).view();
        let threads = Difference { setting: "threads".into(), old: "2".into(), new: "4".into() };
        let mut configuration = Configuration {
            file: "failsoft.yaml".into(),
            needs_restart: vec![threads],
            ..Configuration::default()
        };
        let calm = words(&view, &configuration);
        assert!(calm.starts_with("default: Read-only since 00:00:00 UTC (masterless)"), "{calm}");
        assert!(calm.contains(" | blog: Read-only"), "{calm}");
        assert!(calm.ends_with(" | Needs a restart: threads"), "{calm}");
        configuration.invalid_since = Some("now".into());
        let wrong = words(&view, &configuration);
        assert!(wrong.contains(" | the configuration on disk (failsoft.yaml) is"), "{wrong}");
    }

    #[test]
    fn a_state_reaches_both_kinds_of_socket() {
        let abstract_name = format!("failsoft-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&abstract_name);
        let named = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let sockets = [
            (UnixDatagram::bind_addr(&named).unwrap(), format!("@{abstract_name}").into_bytes()),
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec()),
        ];
        for (socket, name) in sockets {
            send(&name, "READY=1").unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        std::fs::remove_file(path).unwrap();
    }
}
