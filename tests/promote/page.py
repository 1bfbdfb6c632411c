"""What docs/promoting.md says, as steps that can be carried out.

Comments in the page mark them:

    <!-- run: FLAVOURS CASES PLACE [column NAME] [as NAME] [gives VALUE] [restarts] -->
    <!-- check: FLAVOURS CASES WHAT -->

The first stands before a fenced block and says where that is run: on `old-master` (db001),
`new-master` (db002), `other-replica` (db003), or by the `operator` beside failsoft. What a block of
SQL answers last is kept `as` NAME, which later blocks may use, or has to be what it `gives`. The
second names something that has to be so at this point.
"""

import re
from dataclasses import dataclass, field

MARKER = re.compile(r"<!-- (run|check): (\S+) (\S+) (.+?) -->")
FENCE = re.compile(r"(`{3,})(\w*)")
# Numbers differ from run to run; those in the servers' names say which server it is.
NUMBER = re.compile(r"\bdb\d{3}(?::3306)?|\d+")
VERSION = re.compile(r"(?<!\S)\d+\.\d+\.\d+\S*")


@dataclass
class Step:
    """A block that is run, or something that is checked."""

    line: int
    flavors: list
    cases: list
    words: list
    language: str = ""
    text: str = ""
    options: dict = field(default_factory=dict)

    @property
    def place(self):
        return self.words[0]

    def belongs(self, flavor, case):
        return (flavor in self.flavors or "both" in self.flavors) and case in self.cases

    def commands(self):
        """Of a console: each command, with the lines that it is to print."""
        commands = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        return commands


def options(words):
    """`as NAME gives VALUE` as a dictionary."""
    found = {}
    words = list(words)
    while words:
        name = words.pop(0)
        if name in ("as", "gives", "column"):
            found[name] = words.pop(0)
        elif name == "restarts":
            found[name] = True
        else:
            raise ValueError(f"what is {name!r} in a marker?")
    return found


def steps(text):
    """Every step of the page, in its order."""
    found, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        marker = MARKER.fullmatch(lines[at].strip())
        at += 1
        if not marker:
            if lines[at - 1].lstrip().startswith(("<!-- run", "<!-- check")):
                raise ValueError(f"line {at}: a marker that is none: {lines[at - 1]}")
            continue
        kind, flavors, cases, rest = marker.groups()
        step = Step(at, flavors.split(","), cases.split(","), rest.split())
        if kind == "run":
            while not lines[at].strip():
                at += 1
            fence = FENCE.match(lines[at].strip())
            if not fence:
                raise ValueError(f"line {at + 1}: a block is expected after the marker")
            end = at + 1 + next(i for i, line in enumerate(lines[at + 1:])
                                if line.strip() == fence[1])
            step.language, step.options = fence[2], options(step.words[1:])
            step.text = "\n".join(lines[at + 1:end])
            at = end + 1
        found.append(step)
    return found


def plain(text):
    """Lines without what differs from run to run."""
    lines = []
    for line in text.splitlines():
        line = " ".join(VERSION.sub("VERSION", line).split())
        # A machine that has much else to do is behind by a second for as long as somebody writes.
        line = re.sub(r"\b\d+s Behind\b", "Up to Date", line)
        if line and not line.startswith("failsoft VERSION on "):
            lines.append(NUMBER.sub(lambda it: it[0] if it[0].startswith("db") else "N", line))
    return lines


def shows(said, seen):
    """Whether an output is what the page says. `…` stands for any part of a line, and alone on a
    line for any lines."""
    pattern = ""
    for line in plain("\n".join(said)):
        if line == "…":
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += r"[^\n]*".join(map(re.escape, line.split("…"))) + "\n"
    return re.fullmatch(pattern, "".join(line + "\n" for line in plain(seen))) is not None
