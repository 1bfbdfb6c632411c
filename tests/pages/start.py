"""Does what docs/getting-started.md says, on two servers that nobody has set up for failsoft."""

import os
import re
import shlex
import socket
import subprocess
import threading

import elsewhere
import page
from servers import APP_PASS, Failure, quiet, run, wait_until
from stand import Stand

# How often the master is stopped anew where the checks were faster than the statements.
AGAIN = 5


class Terminal:
    """A client that shows what it would at a terminal, and stays connected."""

    def __init__(self, flavor, command):
        self.count, self.lines, self.errors = 0, [], []
        self.process = subprocess.Popen(
            [flavor.client[0], *flavor.client[1:], "--no-defaults", *command, "--table", "-vvv",
             "--force", "--unbuffered", "--skip-reconnect"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for lines, stream in ((self.lines, self.process.stdout), (self.errors, self.process.stderr)):
            threading.Thread(target=lines.extend, args=(stream,), daemon=True).start()

    def run(self, statement):
        """What is shown for a statement."""
        self.count += 1
        mark, before, errors = f"end_of_{self.count}", len(self.lines), len(self.errors)
        # What is answered and what is wrong come by different ways: each has an end of its own.
        self.process.stdin.write(f"{statement};\nSELECT {mark};\nSELECT '{mark}';\n")
        self.process.stdin.flush()
        ends = lambda: [at for at, line in enumerate(self.errors)
                        if at >= errors and f"Unknown column '{mark}'" in line]
        wait_until(lambda: f"an answer to {statement}\n{''.join(self.lines + self.errors)}",
                   lambda: ends() and any(line.startswith(f"| {mark}") for line in self.lines[before:]))
        # Each statement is shown between two lines, and what came of it after those.
        shown = "".join(self.lines[before:]).split("-" * 14 + "\n")[2]
        wrong = "".join(self.errors[errors:ends()[0]])
        return quiet(shown + re.sub(r"(?m)^(ERROR \d+ \(\w+\)) at line \d+", r"\1", wrong))

    def end(self):
        self.process.kill()
        self.process.wait()


class Start(Stand):
    """A master and a replica, and who sets up failsoft before them."""

    case = "start"

    def __init__(self, flavor, data, folder, options):
        super().__init__(flavor, data, folder, options, 2, ["read_only=ON"])
        self.session = None
        # The page says what is set, and nothing else is to be of use.
        for name in ("APP_DB_PASS", "FAILSOFT_DB_PASS", "FAILSOFT_ADMIN_TOKEN"):
            self.failsoft.environment.pop(name, None)

    def end(self):
        if self.session:
            self.session.end()
        super().end()

    def real(self, text):
        text = re.sub(r"^mariadb (?=--)", f"{shlex.join(self.flavor.client)} --no-defaults ", text)
        # An answer that is none is a failure also where the page does not show it.
        text = re.sub(r"^curl (?=-)", "curl --fail-with-body ", text)
        text = super().real(text).replace("--port=9307", f"--port={self.failsoft.admin}")
        text = re.sub(r"\bapp[12]:9306", f"127.0.0.1:{self.failsoft.console}", text)
        text = text.replace("target/release/failsoft", self.failsoft.program)
        text = text.replace("/usr/local/bin/", f"{self.failsoft.commands}/")
        text = text.replace("/etc/default/failsoft", os.path.join(self.folder, "variables"))
        return text.replace("/var/lib/failsoft/", f"{self.folder}/")

    def as_page(self, text):
        text = super().as_page(text).replace(f'"host":"{socket.gethostname()}"', '"host":"app001"')
        # A server that cannot be reached is named without its port.
        return text.replace("server on '127.0.0.1'", "server on 'db001'")

    def of_flavor(self, said):
        """What the page shows of MariaDB, as the flavour at hand has it."""
        if self.flavor.name == "mariadb":
            return said
        said = [line.replace("SLAVE MONITOR", self.flavor.monitor_grant) for line in said]
        return [re.sub(r'(replication: )error .*|(gtids=")[^"]*', r"\1\2…", line) for line in said]

    def operate(self, command):
        """Runs a command in the operator's shell, which keeps what is exported."""
        kept = os.path.join(self.folder, "environment")
        script = f"{self.real(command)}\nstatus=$?\nenv -0 >'{kept}'\nexit $status"
        done = run(["sh", "-c", script], cwd=self.folder, env=self.failsoft.environment)
        with open(kept, encoding="utf-8") as file:
            pairs = (pair.split("=", 1) for pair in file.read().split("\0") if pair)
            self.failsoft.environment = dict(pairs)
        return done

    # Steps.

    def take(self, step):
        if self.show:
            print(f"  {step.line:4} {' '.join(step.words)} {step.language}", flush=True)
        words = "_".join(step.words).replace("-", "_")
        if step.kind == "check":
            return getattr(self, f"check_{words}")()
        if step.kind == "shown":
            return getattr(self, f"shown_{words}")(self.of_flavor(step.text.splitlines()))
        return getattr(self, f"on_{words}")(step)

    def on_master(self, step):
        """Run on the host of db001, and SQL in its client."""
        if step.language == "sql":
            return self.servers[0].ask(step.text)
        for command, _ in step.commands():
            command = command.removeprefix("sudo ").replace("mariadb", self.flavor.service)
            if not self.serve(self.servers[0], command):
                raise Failure(f"nobody knows how to {command}")

    def on_variables(self, step):
        """The file of the environment; `the output of COMMAND` stands for that."""
        lines = []
        for line in step.text.splitlines():
            name, value = re.fullmatch(r"(\w+)='(.*)'", line).groups()
            if value.startswith("the output of "):
                value = self.operate(value.removeprefix("the output of ")).stdout.strip()
            lines.append(f"{name}='{value}'\n")
        with open(self.real("/etc/default/failsoft"), "w", encoding="utf-8") as file:
            file.writelines(lines)

    def on_operator(self, step):
        if step.language == "yaml":
            return self.configure(step.text)
        for command, said in step.commands():
            command = command.removeprefix("sudo ")
            if elsewhere.knows(command):
                continue
            if command.startswith("failsoft run -c "):
                self.failsoft.launch(self.real(command.removeprefix("failsoft run -c ")))
            else:
                self.order(command, self.of_flavor(said))

    def configure(self, text):
        """Writes the configuration, with ports that are free here at its end."""
        text = text.replace("admin: {", "admin: {http: 127.0.0.1:9306, ")
        if "admin: {" not in text:
            text += "\nadmin: {http: 127.0.0.1:9306}"
        with open(self.failsoft.file, "w", encoding="utf-8") as file:
            file.write(self.real(f"{text}\nlisten: 127.0.0.1:3306\n"))

    def on_client(self, step):
        """In the session that stays open."""
        if step.language == "sql":
            for statement in step.text.rstrip(";").split(";\n"):
                shown = self.session.run(statement)
                if "Query OK" not in shown:
                    raise Failure(f"{statement}\n{shown}")
        elif step.text.startswith("$ "):
            self.session = Terminal(self.flavor, self.login(step.text))
        else:
            self.talk(step)

    def login(self, command):
        """The arguments of a client's command, with the password that it would ask for."""
        program, *arguments = shlex.split(command.removeprefix("$ "))
        if program not in ("mariadb", "mysql"):
            raise Failure(f"{program} is no client")
        arguments[arguments.index("--password")] = f"--password={APP_PASS}"
        return [*arguments, "--protocol=tcp", f"--port={self.failsoft.port}"]

    def talk(self, step):
        """Statements after the client's prompt, each with what it shows."""
        exchanges = re.split(r"(?m)^(?:MariaDB \[\w+\]|mysql)> ", step.text)[1:]
        for statement, said in (exchange.split("\n", 1) for exchange in map(str.strip, exchanges)):
            said = said.splitlines()
            for _ in range(AGAIN):
                shown = self.as_page(self.session.run(statement.rstrip(";")))
                if not ("(failsoft: " in shown and ": unreachable," in "".join(said)
                        and ": severed," in shown):
                    break
                # The checks had decided before the statement came: once more.
                self.servers[0].start()
                self.failsoft.wait_ready()
                self.servers[0].stop()
            if not page.shows(said, shown):
                expected = "\n".join(said)
                raise Failure(f"{statement} is to show\n{expected}\nIt shows\n{shown}")

    # What is shown that no command of the block prints.

    def shown_missing_grant(self, said):
        """What a check says where an account may not look, and that the statement in it helps."""
        command, server = "failsoft check --connect /etc/failsoft/failsoft.yaml", self.servers[1]
        own = "SET SESSION sql_log_bin = 0"
        server.ask(f"{own}; REVOKE {self.flavor.monitor_grant} ON *.* FROM 'failsoft'@'%'")
        self.order(command, ["…", *said, "…"])
        server.ask(f"{own}; {said[-1].split(': ', 1)[1]}")
        wait_until("the grant counts", lambda: "hidden" not in self.operate(command).stdout)

    def shown_log(self, said, in_order=True):
        """Lines of the log, in this order if it matters; others may be between them."""
        said = [line for line in said if line != "…"]
        def look():
            lines = self.as_page(self.failsoft.said()).splitlines()
            lines = iter(lines) if in_order else lines
            return all(any(page.shows([one], line) for line in lines) for one in said)
        wanted = "\n".join(said)
        wait_until(lambda: f"the log has\n{wanted}\nIt has\n{self.failsoft.said()}", look)

    # Checks.

    def check_a_mistake_is_told(self):
        with open(self.failsoft.file, encoding="utf-8") as file:
            good = file.read()
        with open(self.failsoft.file, "w", encoding="utf-8") as file:
            file.write(good.replace("role: master", "role: primary"))
        done = self.operate("failsoft check /etc/failsoft/failsoft.yaml")
        told = rf"^{re.escape(self.failsoft.file)}:\d+:\d+: databases\[0\]\.role: "
        if done.returncode != 2 or not re.search(told, done.stdout + done.stderr, re.M):
            raise Failure(f"a mistake is to be told, with 2 and not {done.returncode}:\n"
                          f"{done.stdout}{done.stderr}")
        with open(self.failsoft.file, "w", encoding="utf-8") as file:
            file.write(good)

    def check_it_listens(self):
        self.shown_log(["…listening on 127.0.0.1:3306…"])

    def check_replica_has_it(self):
        self.synced(1, 0)

    def check_master_is_trusted(self):
        self.failsoft.wait_ready()


def play(stand, steps):
    """Takes every step of the page."""
    count = 0
    for step in steps:
        if step.belongs(stand.flavor.name, stand.case):
            count += 1
            try:
                stand.take(step)
            except Failure as failure:
                raise Failure(f"docs/getting-started.md, line {step.line}: {failure}") from None
    return count
