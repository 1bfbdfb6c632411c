//! A network of our own: this process in one namespace, each server in another, cables between.
//!
//! ```text
//!   ours, with failsoft      10.77.1.1 ══════ 10.77.1.2   the first server
//!                            10.77.2.1 ══════ 10.77.2.2   the second server
//! ```
//!
//! The namespaces have no names and no way out: they go with the processes that live in them. The
//! servers reach each other through ours.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::{env, fs};

use testkit::Process;

/// Set in a process that has a network of its own.
const INSIDE: &str = "FAILSOFT_CHECKER_NETWORK";

/// How a cable is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Break {
    /// The interface goes down: routes disappear.
    Down,
    /// Packets of both directions are dropped.
    Drop,
    /// What is sent to the server is dropped.
    DropToServer,
    /// What the server sends is dropped.
    DropToClient,
    /// The server's host answers with ICMP: administratively prohibited.
    Prohibit,
    /// The server's host answers with ICMP: no such port.
    Unreachable,
    /// The server's host answers with RST.
    Reset,
}

/// The namespaces and cables.
#[derive(Debug)]
pub struct Network {
    hosts: [Host; 2],
}

/// A namespace for a server.
#[derive(Debug)]
struct Host {
    /// What keeps the namespace.
    holder: Process,
    _folder: tempfile::TempDir,
    /// The interface on our side.
    interface: String,
}

/// Starts this program once more with a network of its own, where the system lets us: then it does
/// not come back. Otherwise it does, and there is none.
pub fn enter() {
    if env::var_os(INSIDE).is_some() || !is_possible() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    // Comes back only where it failed, which is as if it were impossible.
    drop(unshare().arg(program).args(env::args_os().skip(1)).env(INSIDE, "1").exec());
}

/// Whether this process has a network of its own.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Whether namespaces, cables and rules can be made here.
#[must_use]
pub fn is_possible() -> bool {
    let script = "ip link set lo up && ip link add fs1 type veth peer name fs2 && \
                  nft list ruleset && echo 1 > /proc/sys/net/ipv4/ip_forward";
    let mut command = unshare();
    command.args(["sh", "-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A command that runs its arguments in a new namespace; without root that needs a new namespace
/// of users as well.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--net");
    command
}

impl Network {
    /// Lays the cables; this process has to be inside.
    ///
    /// # Panics
    /// A tool fails; says which.
    #[must_use]
    pub fn lay() -> Self {
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding in our namespace");
        Self { hosts: [1, 2].map(Host::new) }
    }

    /// The address of a server, 0 or 1.
    #[must_use]
    pub fn address(&self, server: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, third(server), 2)
    }

    /// What runs a program on a server's host.
    #[must_use]
    pub fn within(&self, server: usize) -> Vec<String> {
        let pid = self.hosts[server].holder.pid();
        vec!["nsenter".to_owned(), format!("--net=/proc/{pid}/ns/net"), "--".to_owned()]
    }

    /// Breaks the cable of a server; connections stay as they are until somebody uses them.
    ///
    /// # Panics
    /// A tool fails.
    pub fn cut(&self, server: usize, how: Break) {
        match how {
            Break::Down => self.set_link(server, "down"),
            Break::Drop => self.rules(server, "drop", "drop"),
            Break::DropToServer => self.rules(server, "drop", "accept"),
            Break::DropToClient => self.rules(server, "accept", "drop"),
            Break::Prohibit => {
                self.rules(server, "reject with icmp type admin-prohibited", "accept");
            }
            Break::Unreachable => {
                self.rules(server, "reject with icmp type port-unreachable", "accept");
            }
            Break::Reset => {
                self.rules(server, "meta l4proto tcp reject with tcp reset", "accept");
            }
        }
    }

    /// Mends the cable of a server.
    ///
    /// # Panics
    /// A tool fails.
    pub fn mend(&self, server: usize) {
        self.set_link(server, "up");
        self.nft(server, "flush ruleset\n");
    }

    fn set_link(&self, server: usize, state: &str) {
        run(Command::new("ip").args(["link", "set", &self.hosts[server].interface, state]));
    }

    /// Rules on the server's host for what comes from ours and what goes there; what the servers
    /// say to each other passes.
    fn rules(&self, server: usize, arriving: &str, leaving: &str) {
        let ours = Ipv4Addr::new(10, 77, third(server), 1);
        self.nft(
            server,
            &format!(
                "flush ruleset\n\
                 table ip broken {{\n\
                 chain arriving {{\n\
                 type filter hook input priority 0\n\
                 ip saddr {ours} {arriving}\n\
                 }}\n\
                 chain leaving {{\n\
                 type filter hook output priority 0\n\
                 ip daddr {ours} {leaving}\n\
                 }}\n\
                 }}\n"
            ),
        );
    }

    fn nft(&self, server: usize, rules: &str) {
        let within = self.within(server);
        let (program, arguments) = within.split_first().expect("a command");
        let mut child = Command::new(program)
            .args(arguments)
            .args(["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(rules.as_bytes()).expect("nft reads");
        drop(stdin);
        let status = child.wait().expect("nft ends");
        assert!(status.success(), "nft refused: {rules}");
    }
}

impl Host {
    fn new(number: u8) -> Self {
        let folder = tempfile::Builder::new().prefix("failsoft-net-").tempdir().expect("a folder");
        let command = ["unshare", "--net", "sleep", "infinity"].map(OsString::from);
        let holder =
            Process::start(&command, folder.path(), &folder.path().join("log")).expect("a holder");
        wait_for_namespace(holder.pid());
        let interface = format!("fs{number}");
        let (pid, far) = (holder.pid().to_string(), format!("fsh{number}"));
        run(Command::new("ip").args([
            "link", "add", &interface, "type", "veth", "peer", "name", &far, "netns", &pid,
        ]));
        let near = format!("10.77.{number}.1/24");
        run(Command::new("ip").args(["address", "add", &near, "dev", &interface]));
        run(Command::new("ip").args(["link", "set", &interface, "up"]));
        let script = format!(
            "ip link set lo up && ip address add 10.77.{number}.2/24 dev {far} && \
             ip link set {far} up && ip route add default via 10.77.{number}.1"
        );
        let namespace = format!("--net=/proc/{pid}/ns/net");
        run(Command::new("nsenter").args([&namespace, "--", "sh", "-c", &script]));
        Self { holder, _folder: folder, interface }
    }
}

fn third(server: usize) -> u8 {
    u8::try_from(server).expect("two servers") + 1
}

/// Waits until a process has left our namespace.
fn wait_for_namespace(pid: u32) {
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    for _ in 0..5_000 {
        let theirs = link(&pid.to_string());
        if theirs.is_some() && theirs != link("self") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("no namespace for process {pid}");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}
