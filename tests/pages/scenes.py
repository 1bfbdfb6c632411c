"""Does what the other pages say, one case after the other, each with a failsoft of its own.

A case is what goes on while the blocks of all pages that name it are run. They come after
docs/getting-started.md, on the same servers, with the accounts and the table that it made.
"""

import contextlib
import re
import signal
import subprocess
import threading

import page
from servers import (APP_PASS, MONITOR_PASS, PATIENCE_S, Failure, Session, free_ports, run,
                     wait_until)

# Checked more often than by default, so that nobody waits.
CONFIGURATION = """\
listen: 127.0.0.1:3306
admin: {http: 127.0.0.1:9306, mysql: 127.0.0.1:9307, token_env: FAILSOFT_ADMIN_TOKEN}
defaults: {user: app, pass_env: APP_DB_PASS}
monitor: {user: failsoft, pass_env: FAILSOFT_DB_PASS}
databases:
  - {host: db001, role: master}
  - {host: db002, role: replica, weight: 1}
connect_timeout: 1s
health: {interval: 500ms, threshold: 4, timeout: 1500ms}
threads: 2
log: {format: human}
"""
CHANGED = {"weight: 1": "weight: 2", "connect_timeout: 1s": "connect_timeout: 2s",
           "threads: 2": "threads: 8"}
# Nobody is in `monitor`, so the application's account looks at the servers.
WITHOUT_MONITOR = """\
listen: 127.0.0.1:3306
admin: {http: "off"}
defaults: {user: app, pass_env: APP_DB_PASS}
databases:
  - {host: db001, role: master}
  - {host: db002, role: replica}
"""
TWO_MISTAKES = """\
defaults: {user: app, pass_env: APP_DB_PASS}
databases:
  - {host: db001, role: primary}
  - {host: db002, role: replica, prot: 3310}
"""
CASES = ["short-file", "wrong-file", "two-mistakes", "no-grant", "healthy", "changed", "mistake",
         "ending", "losing", "lost", "replacing", "unknown", "partitions", "passthrough", "demo"]

# What stands for something in commands within sentences.
STANDS_FOR = {"FILE": "failsoft.yaml", "HOST:PORT": "db002:3306", "'STATEMENT'": "'SELECT 1'",
              "NAME": "default", "SHELL": "bash", "FOLDER": "manual", "COMMAND": "status"}
# They go on until they are ended, and are run elsewhere on the pages.
GO_ON = re.compile(r"failsoft (run|demo)\b")
UNDO = {"read-only on": "read-only off", "pause": "resume", "disable": "enable db002:3306"}


class Scenes:
    """The cases, on a stand that docs/getting-started.md was played on."""

    def __init__(self, stand):
        self.stand, self.failsoft, self.flavor = stand, stand.failsoft, stand.flavor
        self.master, self.session, self.others, self.told = stand.servers[0], None, [], ""
        stand.failsoft.know_secrets()

    def end(self):
        if self.session:
            self.session.end()
        for process in self.others:
            process.kill()
            process.wait()

    def play(self, pages):
        """Plays the steps of all pages; says how many there were."""
        count = 0
        for case in CASES:
            steps = [(path, step) for path, (steps, _) in pages.items() for step in steps
                     if step.belongs(self.flavor.name, case)]
            if not steps:
                continue
            with getattr(self, case.replace("-", "_"))():
                for path, step in steps:
                    self.take(path, step, case)
            count += len(steps)
        with self.healthy():
            return count + self.sentences(pages)

    def take(self, path, step, case):
        try:
            if step.kind == "shown":
                said = self.stand.of_flavor(step.text.splitlines())
                getattr(self, f"shown_{step.place}")(said)
            elif step.place in ("exactly", "stream"):
                getattr(self, step.place)(step)
            elif step.language in ("yaml", "yml") and case in ("wrong-file", "partitions"):
                getattr(self, f"file_{step.cases[0].replace('-', '_')}")(step.text)
            else:
                self.stand.take(step)
            if case == "healthy":
                # It is for the others, too.
                self.stand.order("failsoft read-only off", [])
        except Failure as failure:
            raise Failure(f"{path}, line {step.line}, {case}: {failure}") from None

    def shown_log(self, said):
        self.stand.shown_log(said)

    # What goes on.

    def save(self, text):
        """A configuration as it stands on the page."""
        with open(self.failsoft.file, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def write(self, text):
        self.save(self.stand.real(text))

    @contextlib.contextmanager
    def running(self, text=CONFIGURATION):
        self.write(text)
        self.failsoft.start("failsoft.yaml")
        # The master may have been started just before.
        wait_until("the replica follows", lambda: re.search(
            r'"behind_s":\d', self.failsoft.get("/api/v1/status")))
        self.session = Session(self.flavor, self.failsoft.port)
        try:
            yield
        finally:
            self.session.end()
            self.failsoft.stop()

    @contextlib.contextmanager
    def nothing(self):
        """Nobody runs, and the page has all there is."""
        yield

    @contextlib.contextmanager
    def short_file(self):
        """The page has the file, and starts failsoft with it."""
        yield
        self.failsoft.wait_ready()
        self.failsoft.stop()

    def wrong_file(self):
        return self.nothing()

    file_wrong_file = save

    def two_mistakes(self):
        self.save(TWO_MISTAKES)
        return self.nothing()

    def no_grant(self):
        self.write(WITHOUT_MONITOR)
        return self.nothing()

    @contextlib.contextmanager
    def healthy(self):
        """Something was read and written, and one session has nothing to do."""
        with self.running():
            for statement in ("REPLACE INTO note VALUES (7, 'seven')",
                              "SELECT * FROM note WHERE id = 7 FOR UPDATE"):
                if "ERROR" in self.session.run(statement):
                    raise Failure(f"{statement} is to be answered")
            wait_until("the statements are counted",
                       lambda: "REPLACE" in self.failsoft.get("/api/v1/statements"))
            yield

    @contextlib.contextmanager
    def changed(self):
        """The file is another one than was read."""
        with self.running():
            text = CONFIGURATION
            for old, new in CHANGED.items():
                text = text.replace(old, new)
            self.write(text)
            yield

    @contextlib.contextmanager
    def mistake(self):
        """The file on disk is not good."""
        with self.running():
            self.write(CONFIGURATION + "conect_timeout: 2s")
            yield

    def ending(self):
        """The blocks end failsoft, while the file on disk is not good."""
        return self.mistake()

    @contextlib.contextmanager
    def losing(self):
        """The blocks themselves lose the master."""
        with self.running():
            yield
        self.master.start()

    @contextlib.contextmanager
    def lost(self):
        """The master is gone, and the checks know it."""
        with self.running():
            self.lose()
            yield
        self.master.start()

    def lose(self):
        self.master.kill()
        wait_until("the checks have decided",
                   lambda: self.failsoft.get("/rw").startswith("read-only: severed"))

    @contextlib.contextmanager
    def replacing(self):
        """Another failsoft takes the place of the one that runs."""
        with self.running():
            old = self.failsoft.process
            self.failsoft.launch("failsoft.yaml")
            self.others.append(old)
            wait_until(lambda: f"the new one listens:\n{self.failsoft.log()}",
                       lambda: " listening on " in self.failsoft.said())
            old.send_signal(signal.SIGTERM)
            yield

    @contextlib.contextmanager
    def unknown(self):
        """A write is sent, and the master hangs before it answers."""
        with self.running():
            blocker = Session(self.flavor, self.master.port)
            blocker.run("LOCK TABLES note WRITE")
            self.session.begin("INSERT INTO note VALUES (1180, 'who knows')")
            waits = ("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE "
                     "'Waiting for table metadata lock'")
            wait_until("the write waits", lambda: self.master.ask(waits)[0][0] == "1")
            self.master.process.send_signal(signal.SIGSTOP)
            self.told = self.session.finish()
            self.master.process.send_signal(signal.SIGCONT)
            blocker.end()
            self.failsoft.wait_ready()
            yield

    @contextlib.contextmanager
    def partitions(self):
        """The page has the file."""
        yield
        self.session.end()
        self.failsoft.stop()

    def file_partitions(self, text):
        """Of its servers two are there; nothing listens where the others should be."""
        third, fourth = free_ports(2)
        for name, here in (("{host: db003", f"{{host: 127.0.0.1, port: {third}"),
                           ("{host: db004", f"{{host: 127.0.0.1, port: {fourth}"),
                           ("master: db001", "master: 'db001:3306'"),
                           ("master: db003", f"master: '127.0.0.1:{third}'")):
            text = text.replace(name, here)
        self.stand.configure(text)
        self.failsoft.start("failsoft.yaml")
        self.session = Session(self.flavor, self.failsoft.port)

    def passthrough(self):
        return self.running(CONFIGURATION + "login: passthrough")

    def demo(self):
        return self.nothing()

    # What is shown that no command of the block prints.

    def shows(self, said, seen):
        if not page.shows(said, seen):
            expected = "\n".join(said)
            raise Failure(f"this is to be shown:\n{expected}\nIt is\n{seen}")

    def error(self, statement):
        """The error of a statement, as a person sees it."""
        shown = self.session.run(statement)
        errors = [line for line in shown.splitlines() if line.startswith("ERROR ")]
        return re.sub(r" at line \d+", "", "\n".join(errors) or shown)

    def shown_end(self, said):
        """What failsoft logs of a signal, and when it is told to stop."""
        self.failsoft.process.send_signal(signal.SIGHUP)
        self.stand.shown_log(said[:1])
        self.failsoft.process.send_signal(signal.SIGTERM)
        self.stand.shown_log(said)

    def shown_refused(self, said):
        """The error of a write; words in capitals stand for others."""
        said = [re.sub(r"\b(REASON|DETAIL)\b", "…", line) for line in said]
        self.shows(said, self.error("DELETE FROM note"))

    def shown_apart(self, said):
        """The error of a statement of two partitions."""
        self.shows(said, self.error("SELECT * FROM app.note JOIN blog.post"))

    def shown_unknown(self, said):
        """The log, and what the client was told."""
        if "ERROR 1180" not in self.told:
            raise Failure(f"the outcome of the write is to be unknown: {self.told or 'OK'}")
        self.stand.shown_log(said, in_order=False)

    def shown_password(self, said):
        """What MySQL's client says without TLS, of an account that failsoft does not know."""
        done = run([*self.flavor.client, "--no-defaults", "--host=127.0.0.1", "--protocol=tcp",
                    f"--port={self.failsoft.port}", "--user=report", "--password=report-pass",
                    "--ssl-mode=DISABLED", "--execute=SELECT 1"])
        self.shows(["…", *said], done.stderr)

    def shown_story(self, said):
        """What `failsoft demo --story` prints."""
        done = self.stand.operate(f"failsoft demo --story --flavor {self.flavor.name}")
        self.shows(["…", *said, "…"], done.stdout)

    def exactly(self, step):
        """Commands that show the same to the letter: what they are about is on the page as well."""
        for command, said in step.commands():
            done = self.stand.operate(command)
            if done.stdout.splitlines() != said:
                expected = "\n".join(said)
                raise Failure(f"{command} is to show\n{expected}\nIt shows\n{done.stdout}")

    def stream(self, step):
        """A command that goes on and shows what happens: the master is lost meanwhile."""
        (command, said), = step.commands()
        lines = []
        process = subprocess.Popen(["sh", "-c", f"exec {self.stand.real(command)}"], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.others.append(process)
        threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
        wait_until(f"{command} shows something", lambda: lines)
        self.lose()
        def look():
            return page.shows([*said, "…"], self.stand.as_page("".join(lines)))
        def what():
            short = "\n".join(line[:200] for line in lines[-20:])
            return f"{command} shows\n{step.text}\nIt shows\n{short}"
        wait_until(what, look)

    # Commands in sentences.

    def sentences(self, pages):
        """Runs failsoft's commands that stand in sentences, and clients of the servers. What only
        names a command is held against what there is."""
        spans = {span: path for path, (_, spans) in pages.items() for span in spans}
        commands = [it for it in spans if re.match(r"failsoft .|kill -HUP$|mariadb --", it)]
        # At the end there is nobody left to order.
        commands.sort(key=lambda it: it == "failsoft drain")
        for command in commands:
            try:
                self.sentence(command)
            except Failure as failure:
                raise Failure(f"{spans[command]}: {failure}") from None
        if self.failsoft.process.wait(PATIENCE_S):
            raise Failure("failsoft is to end well when it is told to drain")
        return len(commands)

    def sentence(self, command):
        real = re.sub("|".join(map(re.escape, STANDS_FOR)), lambda it: STANDS_FOR[it[0]], command)
        if GO_ON.match(command):
            real += " --help"
        real = real.replace("kill -HUP", f"kill -HUP {self.failsoft.process.pid}")
        if "SESSION" in real:
            real = real.replace("SESSION", self.first_session())
        if real.startswith("mariadb "):
            password = APP_PASS if "--user=app" in real else MONITOR_PASS
            real = real.replace("--password", f"--password={password}") + " -e 'SELECT 1'"
        done = self.stand.operate(real)
        if "required arguments were not provided" in done.stderr:
            done = self.stand.operate(f"{real} --help")
        if done.returncode:
            raise Failure(f"{command} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
        for order, undo in UNDO.items():
            if real.startswith(f"failsoft {order}"):
                self.stand.order(f"failsoft {undo}", [])

    def first_session(self):
        text = self.stand.operate("failsoft sessions --json").stdout
        return re.search(r'"id":(\d+)', text)[1]
