"""The programs that write dumps. Run as `dump.py KIND PROGRAM plain|fault|version`; prints lines of
`step<TAB>value`, see README.md. Only Python's own library is needed.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENV = os.environ
DUMP = ["--no-defaults", "--protocol=tcp", "--single-transaction", "--routines", "--no-tablespaces",
        "--hex-blob", "--max-allowed-packet=64M"]

# MySQL's own would need more rights to note the GTIDs.
OPTIONS = {"mysqldump": ["--set-gtid-purged=OFF"]}


def account(password=None):
    return [f"--host={ENV['DB_HOST']}", f"--port={ENV['DB_PORT']}", f"--user={ENV['DB_USER']}",
            f"--password={password or ENV['DB_PASS']}"]


def run(command):
    """Output, or what the program complained about."""
    done = subprocess.run(command, capture_output=True)
    complaint = done.stderr.decode(errors="replace").strip().splitlines()
    complaint = [line for line in complaint if "Using a password on the command line" not in line]
    return done.stdout, "failed: " + " ; ".join(complaint) if done.returncode else ""


def mysqldump(program, password=None):
    """Also mariadb-dump."""
    options = OPTIONS.get(Path(program).name, [])
    dump, complaint = run([program, *DUMP, *options, *account(password), ENV["DB_NAME"]])
    return complaint or cleaned(dump)


def mydumper(program, password=None):
    with tempfile.TemporaryDirectory() as folder:
        _, complaint = run([program, *account(password), f"--database={ENV['DB_NAME']}",
                            f"--outputdir={folder}", "--no-locks", "--threads=2",
                            "--routines"])
        if complaint:
            return re.sub(r"\d{2}:\d{2}:\d{2}\.\d+: |:\d+\)", "", complaint)
        files = sorted(path for path in Path(folder).iterdir() if path.name != "metadata")
        return b"".join(b"-- file\n" + cleaned(path.read_bytes()) for path in files)


def cleaned(dump):
    """Without comments, which name the host and the time."""
    return b"\n".join(line for line in dump.splitlines() if not line.startswith(b"-- "))


def shown(dump):
    if isinstance(dump, str):
        return dump
    return f"{len(dump)} bytes, {hashlib.sha256(dump).hexdigest()}"


def say(step, value):
    print(f"{step}\t{value}".replace("\n", "\\n"), flush=True)


def plain(dump, program):
    say("wrong password", shown(dump(program, "wrong")).removeprefix("failed: "))
    say("dump", shown(dump(program)))


def fault(dump, program):
    before = dump(program)
    print("ready dead", flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody answers")
    after = dump(program)
    say("dump", "the same" if after == before else shown(after)[:200])


def version(_, program):
    done = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    print(re.search(r"(?:Distrib|from|Ver|mydumper) v?(\d+\.\d+\.\d+)", done.stdout + done.stderr)[1])


if __name__ == "__main__":
    kind, program, part = sys.argv[1:]
    dump = {"mysqldump": mysqldump, "mydumper": mydumper}[kind]
    {"plain": plain, "fault": fault, "version": version}[part](dump, program)
