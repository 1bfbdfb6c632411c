"""Private servers, the clients that talk to them, and failsoft in front.

Everything lies in one scratch folder and listens on loopback. Accounts are made without a trace in
the binary logs, so that all servers have the same ones and no GTIDs of their own.
"""

import fcntl
import itertools
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

CACHE = os.path.join(os.environ.get("FAILSOFT_CACHE") or os.path.expanduser("~/.cache/failsoft"),
                     "mysql")
ROOT_PASS, APP_PASS, MONITOR_PASS, REPL_PASS, TOKEN = (
    "root-pass", "app-pass", "monitor-pass", "repl-pass", "promote-token")
# How long anything may take on a machine that has much else to do.
PATIENCE_S = 180
PAUSE_S = 0.05


class Failure(Exception):
    """What the page says is not so, or something did not come about in time."""


def wait_until(what, look):
    """The first true value of `look`, which is asked again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {PATIENCE_S} s: {what() if callable(what) else what}")
        time.sleep(PAUSE_S)


def free_ports(count):
    """Loopback ports that stay ours while nobody listens on them: from outside the kernel's range
    for outgoing connections, each with a lock that the tests in Rust respect as well."""
    folder = os.path.join(tempfile.gettempdir(), "failsoft-ports")
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o1777)
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        low, high = map(int, file.read().split())
    every = range(20_000, 65_536)
    candidates = [it for it in every if not low <= it <= high] or [*every]
    random.shuffle(candidates)
    return [*itertools.islice((port for port in candidates if lease(folder, port)), count)]


def lease(folder, port):
    """Whether a port is ours now, until this process ends."""
    lock = os.open(os.path.join(folder, str(port)), os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))
        return True
    except OSError:
        os.close(lock)
        return False


def run(command, **options):
    """Runs a program to its end; its output as text."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", stdin=subprocess.DEVNULL, **options)


def version(command):
    """What a program says of itself; empty where there is none."""
    try:
        return run([*command, "--version"], timeout=30).stdout
    except OSError:
        return ""


def search(variable, *candidates):
    """The environment's command, or else the candidates that are on this machine."""
    if os.environ.get(variable):
        yield shlex.split(os.environ[variable])
    places = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    for name in candidates:
        path = shutil.which(name, path=places)
        if path:
            yield [path]


class MariaDb:
    """How MariaDB is found and set up."""

    name, group, service = "mariadb", "mariadbd", "mariadb"
    options = ["gtid_strict_mode=ON", "log_slave_updates=ON", "innodb_log_file_size=4M",
               "slave_net_timeout=5", "performance_schema=OFF"]
    follow = ("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', "
              f"MASTER_PASSWORD='{REPL_PASS}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; "
              "START SLAVE")
    stop_receiving = "STOP SLAVE IO_THREAD"
    executed = "SELECT @@global.gtid_current_pos"
    has = "SELECT MASTER_GTID_WAIT('{position}', 30) = 0"
    read_only = ["read_only=ON"]
    monitor_grant = "SLAVE MONITOR"
    # The installation makes accounts without a password, which would be in the way.
    tidy = ["DELETE FROM mysql.global_priv WHERE User = 'root' AND Host NOT IN ('localhost', '%')",
            "FLUSH PRIVILEGES"]

    def __init__(self):
        found = search("FAILSOFT_TEST_MARIADBD", "mariadbd", "mysqld")
        self.server = next((it for it in found if "MariaDB" in version(it)), None)
        self.client = next(search("", "mariadb", "mysql"), None)
        self.install = next(search("", "mariadb-install-db", "mysql_install_db"), None)
        self.is_there = bool(self.server and self.client and self.install)

    def initialise(self, data):
        return [*self.install, "--no-defaults", f"--datadir={data}", "--skip-test-db",
                "--auth-root-authentication-method=normal", "--skip-name-resolve",
                "--innodb-log-file-size=4M", *as_root()]

    def account(self, user, password):
        return f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'"


class MySql:
    """How MySQL is found and set up."""

    name, group, service = "mysql", "mysqld", "mysql"
    options = ["gtid_mode=ON", "enforce_gtid_consistency=ON", "innodb_redo_log_capacity=8M",
               "replica_net_timeout=5", "mysqlx=OFF"]
    follow = ("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, "
              f"SOURCE_USER='repl', SOURCE_PASSWORD='{REPL_PASS}', SOURCE_AUTO_POSITION=1, "
              "SOURCE_CONNECT_RETRY=1, GET_SOURCE_PUBLIC_KEY=1; START REPLICA")
    stop_receiving = "STOP REPLICA IO_THREAD"
    executed = r"SELECT REPLACE(@@global.gtid_executed, '\n', '')"
    has = "SELECT GTID_SUBSET('{position}', @@global.gtid_executed)"
    read_only = ["read_only=ON", "super_read_only=ON"]
    monitor_grant = "REPLICATION CLIENT"
    tidy = []

    def __init__(self):
        found = search("FAILSOFT_TEST_MYSQLD", "mysqld", f"{CACHE}/mysqld")
        is_oracles = lambda text: text and "MariaDB" not in text
        self.server = next((it for it in found if is_oracles(version(it))), None)
        clients = search("", f"{CACHE}/mysql", "mysql")
        self.client = next((it for it in clients if is_oracles(version(it))), None)
        self.is_there = bool(self.server and self.client)

    def initialise(self, data):
        return [*self.server, "--no-defaults", "--initialize-insecure", f"--datadir={data}",
                "--innodb-buffer-pool-size=32M", "--innodb-use-native-aio=OFF", *as_root()]

    def account(self, user, password):
        return f"CREATE USER {user}@'%' IDENTIFIED BY '{password}'"


def as_root():
    """Servers refuse to be root unless told so."""
    return ["--user=root"] if os.geteuid() == 0 else []


class Server:
    """One private server with an option file of its own."""

    def __init__(self, flavor, folder, number, port, options=()):
        self.flavor, self.folder, self.number, self.port = flavor, folder, number, port
        self.process, self.password = None, ROOT_PASS
        self.data = os.path.join(folder, "data")
        self.file = os.path.join(folder, "my.cnf")
        os.makedirs(os.path.join(folder, "tmp"), exist_ok=True)
        settings = [f"datadir={self.data}", f"socket={folder}/socket", f"pid_file={folder}/pid",
                    f"tmpdir={folder}/tmp", f"secure_file_priv={folder}/tmp",
                    "bind_address=127.0.0.1", f"port={port}", f"report_port={port}",
                    f"server_id={number}", "log_bin=binlog", "relay_log=relay",
                    "skip_name_resolve=ON", "innodb_buffer_pool_size=32M",
                    "innodb_use_native_aio=OFF", *flavor.options, *options]
        self.configure("[mysqld]\n" + "\n".join(settings) + "\n")

    def configure(self, text):
        """Adds to the option file; what stands last counts."""
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(text)

    def launch(self):
        """Starts it, without waiting."""
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                [*self.flavor.server, f"--defaults-file={self.file}", *as_root()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)

    def wait_ready(self):
        """Waits until it accepts logins."""
        def look():
            if self.process.poll() is not None:
                raise Failure(f"server {self.number} ended:\n{self.log()}")
            return self.client("SELECT 1").returncode == 0
        wait_until(lambda: f"server {self.number} accepts logins:\n{self.log()}", look)

    def start(self):
        self.launch()
        self.wait_ready()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """Ends it at once."""
        if self.is_running():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self):
        """Ends it in an orderly way."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-20:])

    def client(self, statements, names=False):
        """Runs statements with the command-line client, as an administrator."""
        given = [f"--password={self.password}"] if self.password else ["--skip-password"]
        return run([*self.flavor.client, "--no-defaults", f"--socket={self.folder}/socket",
                    "--user=root", *given, "--batch", *([] if names else ["-N"]),
                    f"--execute={statements}"])

    def ask(self, statements, names=False):
        """The rows of the statements, as lists of cells."""
        done = self.client(statements, names=names)
        if done.returncode:
            raise Failure(f"server {self.number}: {statements}\n{quiet(done.stderr)}")
        return [line.split("\t") for line in done.stdout.splitlines()]


def quiet(text):
    """Without the client's warning of passwords."""
    return "\n".join(it for it in text.splitlines() if "password on the command line" not in it)


def clients(flavor):
    """The accounts of applications and of the health checks, and a table, as statements."""
    return [flavor.account("app", APP_PASS), "GRANT ALL ON app.* TO app@'%'",
            flavor.account("failsoft", MONITOR_PASS),
            f"GRANT {flavor.monitor_grant} ON *.* TO failsoft@'%'",
            "CREATE TABLE app.note (id INT PRIMARY KEY, v TEXT)"]


def furnish(server, statements):
    """Accounts, and a schema, on a server that was just initialised; and what else is given."""
    server.password, flavor = "", server.flavor
    server.start()
    statements = ["SET SESSION sql_log_bin = 0", flavor.account("root", ROOT_PASS),
                  "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION",
                  flavor.account("repl", REPL_PASS), "GRANT REPLICATION SLAVE ON *.* TO repl@'%'",
                  "CREATE DATABASE app", *statements,
                  f"ALTER USER root@localhost IDENTIFIED BY '{ROOT_PASS}'", *flavor.tidy]
    done = server.client("; ".join(statements))
    if done.returncode:
        raise Failure(f"accounts cannot be made: {quiet(done.stderr)}")
    server.stop()
    own = re.compile(r"auto\.cnf|binlog\.|relay|multi-master")
    for name in filter(own.match, os.listdir(server.data)):
        os.remove(os.path.join(server.data, name))


def template(flavor, folder, statements=()):
    """An initialised server with accounts, to be copied."""
    place = os.path.join(folder, "template")
    os.mkdir(place)
    done = run(flavor.initialise(os.path.join(place, "data")), cwd=place)
    if done.returncode:
        raise Failure(f"{flavor.name} cannot be initialised:\n{done.stdout}{done.stderr}")
    furnish(Server(flavor, place, 9, free_ports(1)[0]), statements)
    return os.path.join(place, "data")


def scratch():
    """A folder in memory where there is enough of it: what is written there need not outlive
    anything."""
    memory = "/dev/shm"
    is_fit = (not os.environ.get("TMPDIR") and os.access(memory, os.W_OK)
              and shutil.disk_usage(memory).free > 4 << 30)
    return tempfile.TemporaryDirectory(prefix="failsoft-pages-", dir=memory if is_fit else None)


class Session:
    """A client that stays connected, fed through its standard input."""

    def __init__(self, flavor, port):
        self.lock, self.count, self.pending = threading.Lock(), 0, None
        self.process = subprocess.Popen(
            [*flavor.client, "--no-defaults", "--host=127.0.0.1", f"--port={port}",
             "--protocol=tcp", "--user=app", f"--password={APP_PASS}", "--batch", "-N", "--force",
             "--unbuffered", "--skip-reconnect", "app"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, statement):
        """What the client shows for a statement; an error stands in it as `ERROR …`."""
        with self.lock:
            self.count += 1
            end = f"end of statement {self.count}"
            try:
                self.process.stdin.write(f"{statement};\nSELECT '{end}';\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                return "ERROR the client ended"
            shown = []
            for line in self.process.stdout:
                if line.rstrip("\n") == end:
                    return quiet("".join(shown))
                shown.append(line)
                # Without a connection the end is not shown either.
                if re.match(r"ERROR (2002|2003|2006|2013|4031) ", line):
                    return "".join(shown)
            return "".join(shown) + "ERROR the client ended"

    def begin(self, statement):
        """Runs a statement in the background."""
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(self.run(statement)), daemon=True)
        thread.start()
        self.pending = (thread, outcome)

    def finish(self):
        """What came of the statement in the background."""
        thread, outcome = self.pending
        thread.join(PATIENCE_S)
        self.pending = None
        if not outcome:
            raise Failure("a statement that waited was never answered")
        return outcome[0]

    def end(self):
        self.process.kill()
        self.process.wait()


class Failsoft:
    """failsoft before the servers, and the environment that its commands are run in."""

    def __init__(self, program, folder):
        self.program, self.folder = os.path.abspath(program), folder
        self.process, self.starts = None, 0
        self.commands = os.path.join(folder, "bin")
        os.mkdir(self.commands)
        self.file = os.path.join(folder, "failsoft.yaml")
        self.port, self.console, self.admin = free_ports(3)
        self.environment = {
            **os.environ, "PATH": f"{self.commands}:{os.environ['PATH']}",
            "FAILSOFT_URL": f"http://127.0.0.1:{self.console}"}

    def install(self):
        """Puts it on the path."""
        os.symlink(self.program, os.path.join(self.commands, "failsoft"))

    def know_secrets(self):
        """What the configuration names is in the environment."""
        self.environment.update(APP_DB_PASS=APP_PASS, FAILSOFT_DB_PASS=MONITOR_PASS,
                                FAILSOFT_ADMIN_TOKEN=TOKEN)

    def launch(self, file):
        """Starts it with a file, seen from its folder, without waiting."""
        # Each has a log of its own: one may run while the next is started.
        self.starts += 1
        with open(self.log_file(), "wb") as log:
            self.process = subprocess.Popen([self.program, "run", "-c", file], stderr=log,
                                            stdin=subprocess.DEVNULL, stdout=log, cwd=self.folder,
                                            env=self.environment)

    def start(self, file=None):
        self.launch(file or self.file)
        self.wait_ready()

    def wait_ready(self):
        """Waits until it lets clients write."""
        wait_until(lambda: f"failsoft serves:\n{self.log()}",
                   lambda: self.get("/rw").startswith("read-write"))

    def get(self, path):
        """The answer of the console; empty where it does not answer."""
        if self.process.poll() is not None:
            raise Failure(f"failsoft ended:\n{self.log()}")
        try:
            with urllib.request.urlopen(self.environment["FAILSOFT_URL"] + path, timeout=5) as it:
                return it.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def said(self):
        """All of its log since it was started."""
        with open(self.log_file(), encoding="utf-8") as file:
            return file.read()

    def log_file(self):
        return os.path.join(self.folder, f"failsoft-{self.starts}.log")

    def log(self):
        return "\n".join(self.said().splitlines()[-20:])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
