#!/usr/bin/env python3
"""Runs every command of the documentation, and looks that it shows what the page says.

    tests/pages/run.py FAILSOFT [--flavor mariadb|mysql] [--show]

docs/getting-started.md is played from its beginning to its end, and what other pages have to be run
follows on the same private servers. docs/promoting.md has a test of its own, promote.py. What
cannot be run on private servers has to be in elsewhere.py, which names the test that runs it. A
command that is nowhere is a failure.

FAILSOFT is the program. Servers are found as by promote.py, and the exit status is the same.
Flavours are tried at the same time.
"""

import signal
import subprocess
import sys

# The checkout is left as it is.
sys.dont_write_bytecode = True

import elsewhere
import promote
import scenes
import stand
import start
from servers import run, template

START, PROMOTING = "docs/getting-started.md", "docs/promoting.md"


def unknown_cases(pages):
    """Steps that nobody would play."""
    for path, (steps, _) in pages.items():
        known = {START: [start.Start.case], PROMOTING: promote.CASES}.get(path, scenes.CASES)
        for step in steps:
            for case in set(step.cases) - set(known):
                yield f"{path}, line {step.line}: there is no case {case}"
            for flavor in set(step.flavors) - {"both", "mariadb", "mysql"}:
                yield f"{path}, line {step.line}: there is no flavour {flavor}"


def play(flavor, folder, options, pages):
    stage = start.Start(flavor, template(flavor, folder), folder, options)
    others = scenes.Scenes(stage)
    try:
        stage.start()
        count = start.play(stage, pages[START][0])
        stage.failsoft.stop()
        return count + others.play(pages)
    finally:
        others.end()
        stage.end()


def at_the_same_time(flavors):
    """Tries each flavour in a process of its own."""
    command = [sys.executable, *sys.argv]
    processes = [subprocess.Popen([*command, "--flavor", flavor.name]) for flavor in flavors]
    try:
        return sum(process.wait() != 0 for process in processes)
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def main():
    options = stand.arguments("Runs every command of the documentation.").parse_args()
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    try:
        wrong, pages = elsewhere.look()
        wrong += unknown_cases(pages)
        run([options.failsoft, "--version"], check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"the pages cannot be tried with {options.failsoft}: {error}", file=sys.stderr)
        sys.exit(2)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        sys.exit(1)
    there, failed = stand.flavors(options)
    if len(there) > 1:
        failed += at_the_same_time(there)
    else:
        for flavor in there:
            failed += stand.attempt(flavor, lambda *its: play(*its, options, pages))
    sys.exit(2 if not there else min(failed, 1))


if __name__ == "__main__":
    main()
