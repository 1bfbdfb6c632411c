"""Servers that follow each other, with failsoft in front, and what the pages call them."""

import argparse
import os
import re
import subprocess
import sys
import time

import page
from servers import Failsoft, Failure, MariaDb, MySql, Server, free_ports, run, scratch, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Stand:
    """db001 is the master at first; the others follow it."""

    def __init__(self, flavor, data, folder, options, count, of_replica):
        self.flavor, self.show, self.folder = flavor, options.show, folder
        # In the order of the page: db001, db002 and so on.
        self.servers = []
        for number, port in enumerate(free_ports(count), start=1):
            place = os.path.join(folder, f"server-{number}")
            os.mkdir(place)
            subprocess.run(["cp", "-r", "--sparse=always", data, f"{place}/data"], check=True)
            self.servers.append(
                Server(flavor, place, number, port, of_replica if number > 1 else []))
        self.failsoft = Failsoft(options.failsoft, folder)

    def start(self):
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_ready()
        for replica in self.servers[1:]:
            replica.ask(self.flavor.follow.format(port=self.servers[0].port))

    def end(self):
        self.failsoft.stop()
        for server in self.servers:
            server.kill()

    def synced(self, behind, ahead):
        """Waits until one server has what the other has now."""
        position = self.servers[ahead].ask(self.flavor.executed)[0][0]
        ask = self.flavor.has.format(position=position)
        wait_until(f"db{behind + 1:03} has {position}",
                   lambda: self.servers[behind].ask(ask)[0][0] == "1")

    # What the pages call things, and what they are called here.

    def names(self):
        """Addresses on the pages, with those that they stand for."""
        failsoft = self.failsoft
        return [("127.0.0.1:3306", f"127.0.0.1:{failsoft.port}"),
                ("127.0.0.1:9306", f"127.0.0.1:{failsoft.console}"),
                ("127.0.0.1:9307", f"127.0.0.1:{failsoft.admin}"),
                *((f"db{number:03}:3306", f"127.0.0.1:{server.port}")
                  for number, server in enumerate(self.servers, start=1))]

    def real(self, text):
        for number, server in enumerate(self.servers, start=1):
            name, port = f"db{number:03}", server.port
            text = re.sub(rf"(_HOST='){name}(', \w+_PORT=)3306", rf"\g<1>127.0.0.1\g<2>{port}", text)
            text = text.replace(f"{{host: {name},", f"{{host: 127.0.0.1, port: {port},")
            text = text.replace(f"'{name}':3306", f"'127.0.0.1':{port}")
            text = text.replace(f"--host={name}", f"--protocol=tcp --host=127.0.0.1 --port={port}")
        # At once, since what one stands for may look like another.
        names = dict(self.names())
        pattern = rf"(?:{'|'.join(map(re.escape, names))})(?!\d)"
        text = re.sub(pattern, lambda it: names[it[0]], text)
        return text.replace("/etc/failsoft/failsoft.yaml", self.failsoft.file)

    def as_page(self, text):
        for name, address in self.names():
            text = re.sub(rf"{re.escape(address)}(?!\d)", name, text)
        return text.replace(self.failsoft.file, "/etc/failsoft/failsoft.yaml")

    # Steps.

    def operate(self, command):
        """Runs a command beside failsoft."""
        return run(["sh", "-c", self.real(command)], cwd=self.folder,
                   env=self.failsoft.environment)

    def order(self, command, said):
        """Runs a command beside failsoft; what it shows has to be what the page says."""
        seen = []
        def look():
            done = self.operate(command)
            seen[:] = [self.as_page(done.stdout + done.stderr)]
            return page.shows(said, seen[0]) if said else done.returncode == 0
        def what():
            wanted = "\n".join(["is to show", *said] if said else ["is to end well"])
            return f"{command} {wanted}\nIt shows\n{seen[0]}"
        # To look again changes nothing, and what is looked for may take some checks.
        if re.match(r"failsoft (status|check)|curl (?!.*-X)", command):
            wait_until(what, look)
        elif not look():
            raise Failure(what())
        if self.show:
            print(f"$ {command}\n{seen[0]}", flush=True)

    def serve(self, server, command):
        """Starts or stops a server as systemd does; false if the command is another."""
        verb = re.fullmatch("systemctl (start|stop|enable --now|disable --now) "
                            + self.flavor.service, command)
        if not verb:
            return False
        if verb[1] in ("start", "enable --now"):
            server.start()
        else:
            server.stop()
        return True


def arguments(description):
    """What the tests of pages are called with, to be added to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("failsoft", help="the program")
    parser.add_argument("--flavor", choices=["mariadb", "mysql"])
    parser.add_argument("--show", action="store_true", help="print each step and what it shows")
    return parser


def flavors(options):
    """The flavours that are to be tried; says which are not on this machine, and with how many of
    those it cannot go on."""
    there, missing = [], 0
    for flavor in (MariaDb(), MySql()):
        if options.flavor not in (None, flavor.name):
            continue
        if flavor.is_there:
            there.append(flavor)
            continue
        print(f"{flavor.name}: skipped, there is none on this machine", flush=True)
        missing += bool(options.flavor or os.environ.get("CI"))
    return there, missing


def attempt(flavor, play):
    """Plays something on one flavour, and tells how it went: 0 if well, else 1."""
    begin = time.monotonic()
    try:
        with scratch() as folder:
            count = play(flavor, folder)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"{flavor.name}: {failure}", file=sys.stderr, flush=True)
        return 1
    print(f"{flavor.name}: {count} steps are as the page says, {time.monotonic() - begin:.0f} s",
          flush=True)
    return 0
