"""Commands of the pages that are not run on private servers: which test runs them instead.

What is in these tables is held against the files that it names, and against the pages, so that
neither a row nor a command is left over.
"""

import functools
import glob
import os
import re

import page
from stand import ROOT

# Everything that CI does.
CI, GOAL = ".ci/run", "test"

# The command, the file that runs it, and where it stands there. What the Makefile has counts only
# in what `make test` reaches.
COMPOSE, DEBIAN = "tests/compose/run.sh", "deploy/debian/try.sh"
TABLE = [
    (r"make demo", "crates/failsoft/tests/commands.rs", r'"demo", "--story"'),
    (r"make soak( MINUTES=\d+)?( FLAVOR=mysql SEED=\d+ CLIENTS=\d+)?",
     "crates/checker/tests/short.rs", r'CARGO_BIN_EXE_failsoft-checker"\)\)\s+\.args\(\[.*"--minutes"'),
    (r"make differential( SESSIONS=\d+)?|FAILSOFT_SEED=\d+ FAILSOFT_SESSIONS=\d+ cargo test "
     r"-p failsoft-tests --test differential", "Makefile",
     r"FAILSOFT_TEST_DRIVERS=present \$\(MAKE\) unit"),
    (r"cargo build --release -p failsoft", "Makefile", r"\$\(CARGO\) build --release -p failsoft"),
    (r"cargo deny", "Makefile", r"\$\(CARGO\) deny "),
    (r"cargo metadata", "tests/tests/architecture.rs", r'"metadata"'),
    (r"deploy/debian/build\.sh", "Makefile", r"deploy/debian/build\.sh"),
    (r"deploy/debian/try\.sh DEB", "Makefile", r"deploy/debian/try\.sh \$"),
    (r"deploy/prometheus/check\.sh", "Makefile", r"deploy/prometheus/check\.sh"),
    (r"deploy/kubernetes/check\.sh \[failsoft\]", "Makefile", r"deploy/kubernetes/check\.sh \$\("),
    (r"scripts/setup\.sh drivers", "Makefile", r"scripts/setup\.sh drivers"),
    (r"scripts/setup\.sh test", "scripts/setup.sh", r"setup_drivers\(\) \{\n    setup_test\n"),
    (r"apt install \./target/debian/failsoft_\*\.deb", DEBIAN,
     r"apt-get install .* /failsoft\.deb"),
    (r"systemctl enable --now failsoft", DEBIAN, r"systemctl enable --quiet --now failsoft\n"),
    (r"systemctl status failsoft", DEBIAN, r"systemctl --no-pager status failsoft\n"),
    (r"systemctl reload( failsoft)?", DEBIAN, r"systemctl reload failsoft\.service"),
    (r"docker compose( --profile monitoring)? up -d --build", COMPOSE,
     r'compose_quietly --profile monitoring up -d --build'),
    (r"docker compose exec client mariadb", COMPOSE,
     r'"\$\{compose\[@\]\}" exec -T client mariadb'),
    (r"docker compose (stop|start) master", COMPOSE,
     r'compose_quietly stop master(?s:.*)compose_quietly start master'),
    (r"docker compose exec failsoft failsoft status", COMPOSE,
     r'"\$\{compose\[@\]\}" exec -T failsoft failsoft status'),
    (r"docker compose -f deploy/compose/production\.yml config -q", COMPOSE,
     r'is_sound deploy/compose/production\.yml\n'),
]

# What no test runs, and why.
NOT_RUN = [
    (r"docker compose --profile grafana (up -d --build|down)",
     "Grafana's image is pulled from Docker Hub; deploy/prometheus/check.sh tries the dashboard"),
    (r"docker build -f deploy/Dockerfile -t failsoft \.|"
     r"FAILSOFT_DOCKERFILE=deploy/Dockerfile make compose-test",
     "the image of Rust is pulled from Docker Hub, and the build takes long"),
    (r"docker compose -f deploy/compose/production\.yml up -d",
     "it is for servers that live elsewhere; the file is looked at"),
    (r"kubectl (apply -k|kustomize) deploy/kubernetes",
     "there is no cluster; the manifests are held against Kubernetes' schemas"),
    (r"ssh -L 9306:127\.0\.0\.1:9306 HOST", "it takes another machine"),
    (r"bin/config .*", "Phabricator's own program, which is not here"),
    (r"make bench( .*)?", "a measurement, which wants the machine for itself and half an hour"),
    (r"make guard UPDATE=1", "writes another baseline; without UPDATE it is among the tests"),
    (r"(FAILSOFT_WRITE_DOCS=1 )?make drivers-test( DRIVERS=all)?",
     "the drivers that are light are among the tests, and the others take long to install"),
    (r"make suite-test", "takes an hour; a part of it is among the tests"),
    (r"make (fuzz|audit)( SECONDS_EACH=\d+)?", "takes long, and finds other things each time"),
    (r"scripts/setup\.sh all-drivers", "takes long to install"),
    (r"cargo run --release -p sql --example speed", "a measurement"),
    (r"systemd-analyze security --offline=true deploy/systemd/failsoft\.service",
     "an opinion of systemd's, in points, and no test"),
]

# Code in a sentence that is a command with arguments. failsoft's own are run.
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:sudo )?(?:[A-Z_]+=\S+ )*(?:make|docker|docker-compose|systemctl|kubectl|"
                     r"cargo|apt|ssh|systemd-analyze|scripts/\S+\.sh|deploy/\S+\.sh|bin/config) \S.*")
# Shells that a block of a page may be for; the rest is in other languages.
SHELL = ("", "text", "console", "sh", "bash")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def pages():
    """Every page for readers, by its path from the root."""
    found = glob.glob("docs/**/*.md", root_dir=ROOT, recursive=True)
    return sorted([*found, "README.md", "CHANGELOG.md", "deploy/README.md"])


def normal(command):
    """A command without what does not matter here."""
    return re.sub(r"\s+# .*", "", command).strip().removeprefix("sudo ")


def row(command):
    """The row of one of the tables that has a command, if there is one."""
    command = normal(command)
    rows = (it for it in [*TABLE, *NOT_RUN] if re.fullmatch(it[0], command))
    return next(rows, None) or reached_target(command)


def knows(command):
    """Whether a command is not to be run on private servers."""
    return row(command) is not None


# The Makefile.

@functools.cache
def targets():
    """Each target of the Makefile, with what its rule says."""
    rules = re.findall(r"(?m)^([a-z-]+):(.*(?:\n\t.*|\n#.*)*)", read("Makefile"))
    return {name: rest.replace("\\\n", " ") for name, rest in rules}


@functools.cache
def reached():
    """What `make test` runs, targets that it needs and recipes that call others included."""
    rules, waiting, seen = targets(), [GOAL], {}
    while waiting:
        name = waiting.pop()
        if name in seen or name not in rules:
            continue
        seen[name] = rules[name]
        head = rules[name].split("\n")[0].split("##")[0]
        calls = re.findall(r"\$\(MAKE\)((?: [a-z-]+)+)", rules[name])
        waiting += head.split() + " ".join(calls).split()
    return seen


def reached_target(command):
    """`make TARGET` of a target that `make test` reaches."""
    target = re.fullmatch(r"make ([a-z-]+)", command)
    return (command, "Makefile") if target and target[1] in {GOAL, *reached()} else None


def is_reached(path, recipes):
    """Whether `make test` runs a file: a test of the workspace, or one that a recipe names."""
    is_of_workspace = re.match(r"(tests|crates/\w+)/tests/.*\.rs$", path)
    return path == "Makefile" or path in recipes or is_of_workspace


# What is wrong.

def of_tables(commands):
    """Rows that are not true, and rows that no page has any use for."""
    wrong, recipes = [], "\n".join(reached().values())
    if f"make {GOAL}" not in read(CI):
        wrong.append(f"{CI} does not run make {GOAL}")
    for pattern, path, place in TABLE:
        text = recipes if path == "Makefile" else read(path)
        if not re.search(place, text):
            wrong.append(f"{path} is to run {pattern}, and has no {place}")
        if not is_reached(path, recipes):
            wrong.append(f"{path} is to run {pattern}, and make {GOAL} does not run it")
    known = targets()
    for target in {it[1] for it in map(re.compile(r"make ([a-z-]+)").match, commands) if it}:
        if target not in known:
            wrong.append(f"the Makefile has no target {target}, which a page names")
    for pattern, *_ in [*TABLE, *NOT_RUN]:
        if not any(re.fullmatch(pattern, normal(command)) for command in commands):
            wrong.append(f"no page has {pattern} any more")
    return wrong


def of_page(path, steps):
    """Commands of a page that nobody runs, and those that are in the tables."""
    wrong, listed = [], []
    for step in steps:
        where, is_shell = f"{path}, line {step.line}", step.language in SHELL
        if step.kind == "not run":
            if re.search(r"(?m)^\s*[$#] ", step.text):
                wrong.append(f"{where}: this block has commands")
        elif step.kind == "run":
            if is_shell and step.place == "operator":
                listed += filter(knows, (command for command, _ in step.commands()))
        elif not step.kind and is_shell:
            for command, _ in step.commands():
                if knows(command):
                    listed.append(command)
                else:
                    wrong.append(f"{where}: neither run nor in elsewhere.py: {command}")
        elif not step.kind and step.language in ("sql", "ini"):
            wrong.append(f"{where}: nobody runs this block")
    return wrong, listed


def of_prose(path, spans):
    """Commands in the sentences of a page that are in no table, and those that are."""
    commands = [span for span in spans if COMMAND.fullmatch(span)]
    wrong = [f"{path}: not in elsewhere.py: {it}" for it in commands if not knows(it)]
    return wrong, list(filter(knows, commands))


def spans(text):
    """What stands as code in the sentences of a page."""
    return SPAN.findall(re.sub(r"(?ms)^ *```.*?^ *```", "", text))


def look():
    """Everything that is wrong, and of each page its steps and its spans."""
    wrong, listed, found = [], [], {}
    for path in pages():
        text = read(path)
        found[path] = page.steps(text), spans(text)
        for wrong_here, listed_here in (of_page(path, found[path][0]),
                                        of_prose(path, found[path][1])):
            wrong += wrong_here
            listed += listed_here
    return wrong + of_tables(listed), found
