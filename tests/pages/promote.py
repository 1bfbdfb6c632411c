#!/usr/bin/env python3
"""Does what docs/promoting.md says, against private servers with failsoft in front.

    tests/pages/promote.py FAILSOFT [--flavor mariadb|mysql] [--page FILE] [--show]

FAILSOFT is the program. Servers are found on PATH, by FAILSOFT_TEST_MARIADBD and
FAILSOFT_TEST_MYSQLD, or in ~/.cache/failsoft/mysql. Exits with 0 if all is as the page says, with 1
if something is not, and with 2 where it cannot be tried. A flavour that is not on this machine is
skipped, but for CI=true or where it is asked for.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time

# The checkout is left as it is.
sys.dont_write_bytecode = True

import page
import stand
from servers import (PATIENCE_S, ROOT_PASS, Failure, Session, clients, quiet, run, template,
                     wait_until)

PLACES = {"old-master": 0, "new-master": 1, "other-replica": 2}
# In which order the cases of the page are played, on the same servers. After each that ends with
# another master, db001 and db002 are the names of other servers.
CASES = ["before", "guard", "planned", "before", "unplanned", "before", "errant"]
PROMOTIONS = ["planned", "unplanned", "errant"]
# Quicker than by default, so that nobody waits.
SETTINGS = "health: {interval: 500ms, threshold: 4, timeout: 1500ms}\nthreads: 1\n"


class Writer:
    """A client that writes one row after the other, and keeps what it was told of each."""

    def __init__(self, flavor, port, first):
        self.session, self.first = Session(flavor, port), first
        self.acknowledged, self.refused, self.ends = [], [], False
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    def write(self):
        for number in itertools.count(self.first):
            if self.ends:
                return
            shown = self.session.run(f"INSERT INTO note VALUES ({number}, 'of the writer')")
            if shown:
                self.refused.append(shown)
            else:
                self.acknowledged.append(number)
            time.sleep(0.05)

    def end(self):
        self.ends = True
        self.thread.join(PATIENCE_S)
        self.session.end()


class Promotion(stand.Stand):
    """Three servers with failsoft in front, and the steps that are taken with them."""

    def __init__(self, flavor, data, folder, options):
        super().__init__(flavor, data, folder, options, 3, flavor.read_only)
        self.values, self.numbers = {}, itertools.count(1)
        self.acknowledged, self.session, self.writer, self.waiting = [], None, None, 0

    def start(self):
        super().start()
        self.servers[0].ask("CREATE EVENT app.nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' "
                            "DO DELETE FROM app.note")
        self.failsoft.install()
        self.failsoft.know_secrets()

    def end(self):
        if self.writer:
            self.writer.end()
        if self.session:
            self.session.end()
        super().end()

    def real(self, text):
        for name, value in self.values.items():
            text = re.sub(rf"\b{name}\b", value, text)
        return super().real(text)

    # Steps.

    def take(self, step, case):
        if self.show:
            print(f"  {step.line:4} {case}: {' '.join(step.words)} {step.language}", flush=True)
        if step.kind == "check":
            return self.check(step.words)
        if step.language in ("yaml", "yml"):
            return self.configure(step.text)
        if step.language == "ini":
            return self.servers[PLACES[step.place]].configure(self.group(step.text))
        if step.language == "sql":
            return self.sql(step)
        if step.place == "operator":
            return [self.order(*command) for command in step.commands()]
        server = self.servers[PLACES[step.place]]
        return [self.administer(server, command) for command, _ in step.commands()]

    def group(self, text):
        if f"[{self.flavor.group}]" not in text:
            raise Failure(f"an option file of {self.flavor.name} has a group [{self.flavor.group}]")
        return text + "\n"

    def configure(self, text):
        """Writes the configuration: all of it, or the databases anew."""
        text, is_part = self.real(text), text.startswith("databases:")
        if is_part:
            with open(self.failsoft.file, encoding="utf-8") as file:
                text = file.read().split("databases:")[0] + text
        else:
            text = text.replace("admin: {", f"admin: {{http: 127.0.0.1:{self.failsoft.console}, ")
            text = f"listen: 127.0.0.1:{self.failsoft.port}\n{SETTINGS}{text}"
        with open(self.failsoft.file, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        if not self.failsoft.process:
            self.failsoft.start()
        elif not is_part:
            self.order("failsoft reload", [])

    def sql(self, step):
        server, text, wanted = self.servers[PLACES[step.place]], self.real(step.text), step.options
        if wanted.get("restarts"):
            # Nobody starts a private server again when it ends to begin anew.
            server.client(text)
            server.process.wait(PATIENCE_S)
            return server.start()
        if "as" in wanted:
            self.values[wanted["as"]] = self.answer(server, text, wanted)
        elif "gives" in wanted:
            expected, seen = wanted["gives"].replace("nothing", ""), []
            def look():
                seen[:] = [self.answer(server, text, wanted)]
                return seen[0] == expected
            wait_until(lambda: f"{text} gives {expected!r}, and not {seen[0]!r}", look)
        else:
            server.ask(text)

    @staticmethod
    def answer(server, text, wanted):
        """The last row's only cell, or its cell in a column."""
        rows = server.ask(text, names=True)
        cell = rows[-2].index(wanted["column"]) if "column" in wanted else 0
        return rows[-1][cell].replace("\\n", "") if rows else ""

    def administer(self, server, command):
        """Runs a command on the host of a server."""
        folder, flavor = server.folder, self.flavor
        if self.serve(server, command):
            return
        if command.startswith("mariadb-install-db "):
            # The installation's own accounts; the others come back with the dump.
            server.password = ""
            return self.succeeded(command, run(flavor.initialise(server.data)))
        command = self.real(command).replace("/var/lib/mysql", server.data)
        command = re.sub(r"/root/(?=\w+\.sql)", f"{folder}/", command).replace(" --password ", " ")
        password, is_load = ROOT_PASS, command.startswith("mariadb --init")
        if is_load:
            command, password = f"{command} --socket={folder}/socket", server.password
        command = re.sub(r"^((mariadb|mysql)[-a-z]*) ", r"\1 --no-defaults ", command)
        environment = {**os.environ, "MYSQL_PWD": password,
                       "PATH": f"{os.path.dirname(flavor.client[0])}:{os.environ['PATH']}"}
        self.succeeded(command, run(["sh", "-ec", command], cwd=folder, env=environment))
        server.password = ROOT_PASS if is_load else server.password

    @staticmethod
    def succeeded(command, done):
        if done.returncode:
            raise Failure(f"{command}\n{quiet(done.stderr)}")

    # Checks.

    def check(self, words):
        if words[0] == "same":
            return self.check_same(*words[1:])
        return getattr(self, "check_" + "_".join(words).replace("-", "_"))()

    def insert(self, number):
        return f"INSERT INTO note VALUES ({number}, 'of the session')"

    def check_write_ok(self):
        """A write of the session that was opened at first, and what it may have sent before."""
        if self.session.pending:
            number, shown = self.waiting, self.session.finish()
            if shown:
                raise Failure(f"a write that waited is to get OK: {shown}")
            self.acknowledged.append(number)
        number = next(self.numbers)
        shown = self.session.run(self.insert(number))
        if shown:
            raise Failure(f"a write is to get OK: {shown}")
        self.acknowledged.append(number)
        if self.session.run("SELECT @mark").strip() != "since the start":
            raise Failure("the session is not the one that was opened at first")

    def check_write_waits(self):
        self.waiting = next(self.numbers)
        self.session.begin(self.insert(self.waiting))
        held = lambda: re.search(r"^failsoft_writes_held [2-9]", self.failsoft.get("/metrics"), re.M)
        wait_until("this write waits, and that of the writer", held)

    def check_write_refused(self):
        shown = self.session.run(self.insert(next(self.numbers)))
        if "ERROR 1290 (HY000)" not in shown:
            raise Failure(f"a write is to get 1290: {shown or 'OK'}")

    def check_reads_go_on(self):
        reader = Session(self.flavor, self.failsoft.port)
        shown = reader.run("SELECT COUNT(*) >= 0 FROM note").strip()
        reader.end()
        if shown != "1":
            raise Failure(f"a read is to be answered: {shown}")

    def check_applications_write(self):
        """A session is opened that is never opened again, and another that writes all the time."""
        if self.session:
            self.end_writer()
            self.session.end()
        self.session = Session(self.flavor, self.failsoft.port)
        self.session.run("SET @mark = 'since the start'")
        self.writer = Writer(self.flavor, self.failsoft.port, 1_000_000 + 100_000 * next(self.numbers))
        self.check_write_ok()
        wait_until("the writer writes", lambda: len(self.writer.acknowledged) > 5)

    def end_writer(self):
        if self.writer:
            self.writer.end()
            self.acknowledged += self.writer.acknowledged
            self.writer = None

    def check_nobody_saw_an_error(self):
        count = len(self.writer.acknowledged)
        wait_until("the writer goes on", lambda: len(self.writer.acknowledged) > count)
        if self.writer.refused:
            raise Failure(f"a client got an error: {self.writer.refused[0]}")

    def check_master_dies(self, alone=False):
        """db003 misses what db002 has, and with `alone` both miss what only the master has."""
        self.end_writer()
        self.synced(1, 0)
        self.servers[2].ask(self.flavor.stop_receiving)
        self.check_write_ok()
        self.synced(1, 0)
        if alone:
            self.servers[1].ask(self.flavor.stop_receiving)
            self.servers[0].ask(f"INSERT INTO app.note VALUES ({next(self.numbers)}, 'alone')")
        self.servers[0].kill()

    def check_master_dies_alone(self):
        self.check_master_dies(alone=True)

    def check_old_master_is_down(self):
        if self.servers[0].is_running():
            raise Failure("db001 is to be down")

    def check_same(self, one, other):
        if self.values[one] != self.values[other]:
            raise Failure(f"{one} and {other}: {self.values[one]}, {self.values[other]}")

    def check_new_master_is_ahead(self):
        ahead, behind = self.values["AHEAD"], self.values["BEHIND"]
        number = lambda position: int(re.search(r"\d+$", position)[0])
        if number(ahead) <= number(behind):
            raise Failure(f"db002 is to be ahead of db003: {ahead}, {behind}")

    def check_old_master_has_more(self):
        number = lambda name: int(re.search(r"\d+$", self.values[name])[0])
        if number("OLD") <= number("PROMOTED"):
            raise Failure(f"db001 is to have more: {self.values['OLD']}, {self.values['PROMOTED']}")

    def check_nothing_is_extra(self):
        if self.values["EXTRA"]:
            raise Failure(f"db001 is to have nothing more: {self.values['EXTRA']}")

    def check_something_is_extra(self):
        if not self.values["EXTRA"]:
            raise Failure("db001 is to have something more")

    def check_all_have_the_same_rows(self):
        """Each row that was acknowledged once, on every server."""
        self.end_writer()
        for replica in (0, 2):
            self.synced(replica, 1)
        rows = [[int(row[0]) for row in server.ask("SELECT id FROM app.note ORDER BY id")]
                for server in self.servers]
        lost = set(self.acknowledged) - set(rows[1])
        if lost:
            raise Failure(f"acknowledged and not there: {sorted(lost)[:5]}")
        if rows[0] != rows[1] or rows[2] != rows[1]:
            raise Failure(f"rows differ: {[len(it) for it in rows]}")


def play(stage, steps):
    """Takes every step of the page."""
    count = 0
    for case in CASES:
        for step in steps:
            if step.belongs(stage.flavor.name, case):
                count += 1
                try:
                    stage.take(step, case)
                except Failure as failure:
                    raise Failure(f"line {step.line}, {case}: {failure}") from None
        if case in PROMOTIONS:
            stage.servers[:2] = reversed(stage.servers[:2])
    return count


def main():
    parser = stand.arguments("Does what docs/promoting.md says.")
    parser.add_argument("--page", default=os.path.join(stand.ROOT, "docs", "promoting.md"))
    options = parser.parse_args()
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    try:
        with open(options.page, encoding="utf-8") as file:
            steps = page.steps(file.read())
        run([options.failsoft, "--version"], check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"{options.page} cannot be tried with {options.failsoft}: {error}", file=sys.stderr)
        sys.exit(2)

    def try_flavor(flavor, folder):
        stage = Promotion(flavor, template(flavor, folder, clients(flavor)), folder, options)
        try:
            stage.start()
            return play(stage, steps)
        except Failure as failure:
            raise Failure(f"{options.page}, {failure}") from None
        finally:
            stage.end()

    there, failed = stand.flavors(options)
    for flavor in there:
        failed += stand.attempt(flavor, try_flavor)
    sys.exit(2 if not there else min(failed, 1))


if __name__ == "__main__":
    main()
