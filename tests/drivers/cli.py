"""The command lines `mariadb` and `mysql`. Run as `cli.py PROGRAM plain|fault|version`; prints lines
of `step<TAB>value`, see README.md. Only Python's own library is needed.
"""

import os
import re
import subprocess
import sys

ENV = os.environ
MARKER = "end of statement"
# MySQL's own does not run the command that prints the marker unless told to.
OPTIONS = {"mysql": ["--commands", "--system-command"]}
TEXT = "ä€😀"
BLOB = bytes(range(256)) * (20 * 4096)
READ = "SELECT v FROM t WHERE id = 1"


class Session:
    """One client, fed through its standard input as by a person who types."""

    def __init__(self, program, password=None):
        self.process = subprocess.Popen(
            [program, "--no-defaults", f"--host={ENV['DB_HOST']}", f"--port={ENV['DB_PORT']}",
             "--protocol=tcp", f"--user={ENV['DB_USER']}",
             f"--password={password or ENV['DB_PASS']}", "--batch", "--skip-column-names",
             "--force", "--unbuffered", "--local-infile=1", "--max-allowed-packet=64M",
             "--default-character-set=utf8mb4", *OPTIONS.get(os.path.basename(program), []),
             ENV["DB_NAME"]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, statement):
        """What the client shows for a statement."""
        try:
            self.process.stdin.write(f"{statement};\n\\! echo {MARKER}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        shown = []
        for line in self.process.stdout:
            text = line.decode(errors="backslashreplace").rstrip("\n")
            if text == MARKER:
                break
            if "Using a password on the command line" not in text:
                shown.append(text)
        else:
            shown.append("the client ended")
        return re.sub(r" at line \d+", "", " ; ".join(shown))

    def outcome(self, statement):
        """`ok`, or number and state of the error that the client shows."""
        shown = self.run(statement)
        error = re.search(r"ERROR (\d+) \((\w+)\)", shown)
        return "/".join(error.groups()) if error else shown or "ok"


def say(step, value):
    print(f"{step}\t{value}".replace("\n", "\\n"), flush=True)


def wait(step):
    print(f"ready {step}", flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody answers")


def several(one, *statements):
    shown = [one.run(statement) for statement in statements]
    return " ; ".join(text for text in shown if text)


def blob(one):
    one.run(f"INSERT INTO blobs VALUES (1, X'{BLOB.hex()}')")
    back = bytes.fromhex(one.run("SELECT HEX(b) FROM blobs"))
    return f"{len(back)} {'same' if back == BLOB else 'other'}"


def transaction(one):
    for value, end in (("committed", "COMMIT"), ("rolled back", "ROLLBACK")):
        several(one, "START TRANSACTION", f"INSERT INTO auto (v) VALUES ('{value}')", end)
    count = "SELECT COUNT(*) FROM auto WHERE v = '{}'"
    return " ".join(one.run(count.format(value)) for value in ("committed", "rolled back"))


def plain(program):
    say("wrong password", Session(program, "wrong").run("SELECT 1").removesuffix(" ; the client ended"))
    one = Session(program)
    answer = one.run("SELECT 'ok'")
    if answer != "ok":
        say("connect", f"failed: {answer}")
        return
    say("connect", answer)
    say("types, text", one.run("SELECT * FROM kinds ORDER BY id"))
    say("utf8mb4", one.run(f"SELECT '{TEXT}', CHAR_LENGTH('{TEXT}'), HEX('{TEXT}')").replace("\t", " "))
    say("transaction", transaction(one))
    one.run("INSERT INTO auto (v) VALUES ('id')")
    say("last id", one.run("SELECT MAX(id), LAST_INSERT_ID() FROM auto").replace("\t", " "))
    say("CALL", one.run("CALL several(7)"))
    say("temporary table", several(one, "CREATE TEMPORARY TABLE mine (a INT)",
                                   "INSERT INTO mine VALUES (1), (2)", "SELECT COUNT(*) FROM mine"))
    say("variables", several(one, "SET SESSION group_concat_max_len = 12345", "SET @x = 'x'",
                             "SELECT @@group_concat_max_len, @x").replace("\t", " "))
    say("1062, 1146", several(one, "INSERT INTO auto (v) VALUES ('committed')", "SELECT * FROM nowhere"))
    load = f"LOAD DATA LOCAL INFILE '{ENV['LOAD_FILE']}' INTO TABLE loaded FIELDS TERMINATED BY ','"
    say("LOAD DATA", several(one, load, "SELECT COUNT(*) FROM loaded"))
    say("20 MB", blob(one))


def fault(program):
    unsure = Session(program)
    unsure.run("SELECT 1")
    wait("answer")
    say("answer lost", unsure.outcome("INSERT INTO fault VALUES ('answered')"))
    reader, torn = Session(program), Session(program)
    several(reader, "SET @mark = 'kept'", READ)
    several(torn, "START TRANSACTION", "INSERT INTO fault VALUES ('torn')")
    unsure.run("SELECT 1")
    wait("kill")
    say("write in flight", unsure.outcome("INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')"))
    say("read", reader.run("SELECT v, @mark FROM t WHERE id = 1").replace("\t", " "))
    say("write", reader.outcome("INSERT INTO fault VALUES ('refused')"))
    say("transaction", torn.outcome("SELECT COUNT(*) FROM fault"))
    say("COMMIT", torn.outcome("COMMIT"))
    say("ROLLBACK", torn.outcome("ROLLBACK"))
    wait("back")
    say("write again", reader.outcome("INSERT INTO fault VALUES ('again')"))
    say("write again", torn.outcome("INSERT INTO fault VALUES ('again, torn')"))


def version(program):
    text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    print(re.search(r"(?:Distrib|from|Ver) (\d+\.\d+\.\d+)", text)[1])


if __name__ == "__main__":
    {"plain": plain, "fault": fault, "version": version}[sys.argv[2]](sys.argv[1])
