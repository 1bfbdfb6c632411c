"""What each driver does, told once for all drivers of Python.

A driver is a class with the methods that `Driver` lists; drivers.py has them. What they return is
printed as lines of `step<TAB>value`, see ../README.md.
"""

import os
import sys

HOST, PORT, USER, PASS, NAME, LOAD_FILE = (
    os.environ.get(name) for name in
    ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASS", "DB_NAME", "LOAD_FILE"))
PORT = int(PORT or 0)

TEXT = "ä€😀"
BLOB = bytes(range(256)) * (20 * 4096)
READ = "SELECT v FROM t WHERE id = 1"


class Driver:
    """One connection. `None` from a method says that the driver has no such thing."""

    mark = "%s"

    def __init__(self, password=PASS):
        raise NotImplementedError

    def query(self, sql, arguments=()):
        """The rows of a statement, as tuples."""
        raise NotImplementedError

    def prepared(self, sql, arguments):
        """The rows of a statement that the server prepared; question marks for arguments."""
        return None

    def execute(self, sql, arguments=()):
        """Runs a statement without rows; the id that the driver says was given."""
        raise NotImplementedError

    def call(self, sql):
        """All results of a CALL."""
        raise NotImplementedError

    def begin(self):
        self.execute("START TRANSACTION")

    def commit(self):
        raise NotImplementedError

    def rollback(self):
        raise NotImplementedError

    @staticmethod
    def error(exception):
        """Number and text of a server's error."""
        return exception.args[0], exception.args[1]


def say(step, value):
    print(f"{step}\t{value}".replace("\n", "\\n"), flush=True)


def wait(step):
    print(f"ready {step}", flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody answers")


def shown(rows):
    return " ; ".join(", ".join(word(value) for value in row) for row in rows)


def word(value):
    """A value in words; the order of a set is nobody's."""
    return repr(sorted(value) if isinstance(value, set) else value)


def failure(driver, action, *arguments):
    """How an action fails: the number, and the driver's word for it; or that it does not."""
    try:
        action(*arguments)
    except Exception as exception:
        try:
            return "{} ({})".format(driver.error(exception)[0], type(exception).__name__)
        except Exception:
            return f"{type(exception).__name__}: {exception}"
    return "ok"


def refused_login(driver):
    try:
        driver("wrong")
    except Exception as exception:
        return "{} {}".format(*driver.error(exception))
    return "ok"


def types_prepared(one):
    rows = one.prepared("SELECT * FROM kinds WHERE id > ? ORDER BY id", (0,))
    return None if rows is None else shown(rows)


def parameters(one):
    one.execute("INSERT INTO params VALUES (%s, %s, %s, %s)".replace("%s", one.mark),
                (42, TEXT, None, 1.5))
    return shown(one.query("SELECT * FROM params"))


def blob(one):
    one.execute("INSERT INTO blobs VALUES (1, %s)".replace("%s", one.mark), (BLOB,))
    ((back,),) = one.query("SELECT b FROM blobs")
    return f"{len(back)} {'same' if bytes(back) == BLOB else 'other'}"


def utf8mb4(one):
    ((text, length, octets),) = one.query(
        "SELECT %s, CHAR_LENGTH(%s), HEX(%s)".replace("%s", one.mark), (TEXT,) * 3)
    return f"{text} {length} {octets}"


def transaction(one):
    for value, end in (("committed", one.commit), ("rolled back", one.rollback)):
        one.begin()
        one.execute(f"INSERT INTO auto (v) VALUES ('{value}')")
        end()
    count = "SELECT COUNT(*) FROM auto WHERE v = '{}'"
    counts = [one.query(count.format(value))[0][0] for value in ("committed", "rolled back")]
    return "{} {}".format(*counts)


def last_insert_id(one):
    given = one.execute("INSERT INTO auto (v) VALUES ('id')")
    ((asked,),) = one.query("SELECT LAST_INSERT_ID()")
    one.commit()
    return f"{given} {asked}"


def call(one):
    results = one.call("CALL several(7)")
    return " | ".join(",".join(str(row[0]) for row in rows) for rows in results)


def temporary(one):
    one.execute("CREATE TEMPORARY TABLE mine (a INT)")
    one.execute("INSERT INTO mine VALUES (1), (2)")
    return one.query("SELECT COUNT(*) FROM mine")[0][0]


def variable(one):
    one.execute("SET SESSION group_concat_max_len = 12345")
    one.execute("SET @x = 'x'")
    return "{} {}".format(*one.query("SELECT @@group_concat_max_len, @x")[0])


def errors(driver, one):
    told = []
    for statement in ("INSERT INTO auto (v) VALUES ('committed')", "SELECT * FROM nowhere"):
        try:
            one.query(statement)
        except Exception as exception:
            told.append("{} {}".format(*driver.error(exception)))
        one.rollback()
    return " ; ".join(told)


def load_data(one):
    one.execute(f"LOAD DATA LOCAL INFILE '{LOAD_FILE}' INTO TABLE loaded FIELDS TERMINATED BY ','")
    return one.query("SELECT COUNT(*) FROM loaded")[0][0]


def plain(driver):
    say("wrong password", refused_login(driver))
    one = driver()
    say("connect", "ok")
    steps = (
        ("types, text", lambda: shown(one.query("SELECT * FROM kinds ORDER BY id"))),
        ("types, prepared", lambda: types_prepared(one)),
        ("parameters", lambda: parameters(one)),
        ("utf8mb4", lambda: utf8mb4(one)),
        ("transaction", lambda: transaction(one)),
        ("last id", lambda: last_insert_id(one)),
        ("CALL", lambda: call(one)),
        ("temporary table", lambda: temporary(one)),
        ("variables", lambda: variable(one)),
        ("1062, 1146", lambda: errors(driver, one)),
        ("LOAD DATA", lambda: load_data(one)),
        ("20 MB", lambda: blob(one)),
    )
    for step, action in steps:
        try:
            value = action()
        except Exception as exception:
            value = f"failed: {type(exception).__name__}: {exception}"
            # A driver may have lost its place in the protocol.
            one = driver()
        if value is not None:
            say(step, value)


def fault(driver):
    unsure = driver()
    unsure.query("SELECT 1")
    unsure.commit()
    wait("answer")
    say("answer lost", failure(driver, write, unsure, "INSERT INTO fault VALUES ('answered')"))
    reader, torn = driver(), driver()
    reader.execute("SET @mark = 'kept'")
    reader.query(READ)
    has_prepared = reader.prepared(READ + " AND id < ?", (9,)) is not None
    reader.commit()
    torn.begin()
    torn.execute("INSERT INTO fault VALUES ('torn')")
    unsure.query("SELECT 1")
    unsure.commit()
    wait("kill")
    sleeping = "INSERT INTO fault SELECT IF(SLEEP(600), 'x', 'unknown')"
    say("write in flight", failure(driver, write, unsure, sleeping))
    try:
        say("read", "{} {}".format(*reader.query(READ.replace("v", "v, @mark", 1))[0]))
        if has_prepared:
            say("prepared read", reader.prepared(READ + " AND id < ?", (9,))[0][0])
        reader.commit()
    except Exception as exception:
        say("read", f"failed: {exception!r}")
    say("write", failure(driver, write, reader, "INSERT INTO fault VALUES ('refused')"))
    say("transaction", failure(driver, torn.query, "SELECT COUNT(*) FROM fault"))
    say("COMMIT", failure(driver, torn.commit))
    say("ROLLBACK", failure(driver, torn.rollback))
    wait("back")
    say("write again", failure(driver, write, reader, "INSERT INTO fault VALUES ('again')"))
    say("write again", failure(driver, write, torn, "INSERT INTO fault VALUES ('again, torn')"))


def write(one, statement):
    """A write by itself, committed where the driver does not do that; rolled back if it fails."""
    try:
        one.execute(statement)
        one.commit()
    except Exception:
        one.rollback()
        raise
