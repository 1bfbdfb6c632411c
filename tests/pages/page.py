"""What stands in the fenced blocks of a page, as steps that can be carried out.

Comments in the page mark them:

    <!-- run: FLAVOURS CASES PLACE [column NAME] [as NAME] [gives VALUE] [restarts] -->
    <!-- shown: FLAVOURS CASES WHAT -->
    <!-- check: FLAVOURS CASES WHAT -->
    <!-- not run: REASON -->

The first stands before a fenced block and says where that is run: on a server, by the `operator`
beside failsoft, or in the session of a `client`. What a block of SQL answers last is kept `as`
NAME, which later blocks may use, or has to be what it `gives`. The second stands before a block of
output and says where that has to be found. The third names something that has to be so at this
point. The last is for a block that has nothing to carry out.

Cases are what goes on at that time. Which there are, and in what order they come, is up to the
test of the page.
"""

import re
from dataclasses import dataclass, field

MARKER = re.compile(r"<!-- (run|shown|check|not run): (.+?) -->")
FENCE = re.compile(r"(`{3,})(\w*)")
PROMPT = re.compile(r"[$#] ")
# Numbers differ from run to run; those in the servers' names say which server it is.
NUMBER = re.compile(r"\bdb\d{3}(?::3306)?|\d+")
VERSION = re.compile(r"(?<!\S)\d+\.\d+\.\d+\S*")
# What an error calls a write of unknown outcome.
REFERENCE = re.compile(r'(?<=reference=")[0-9a-f]+|(?<=unknown outcome \()[0-9a-f]+')
TIME = re.compile(r"\b\d+(?:\.\d+)? ?(?:µs|ms|s|min)\b")


@dataclass
class Step:
    """A block, with what its marker says, or something that is checked."""

    line: int
    kind: str = ""
    flavors: list = field(default_factory=list)
    cases: list = field(default_factory=list)
    words: list = field(default_factory=list)
    language: str = ""
    text: str = ""

    @property
    def place(self):
        return self.words[0]

    @property
    def options(self):
        return options(self.words[1:])

    def belongs(self, flavor, case):
        return (flavor in self.flavors or "both" in self.flavors) and case in self.cases

    def commands(self):
        """Each command, with the lines that it is to print. Without prompts each line is one."""
        lines, commands = self.text.splitlines(), []
        has_prompts = any(map(PROMPT.match, lines))
        for line in lines:
            if commands and commands[-1][0].endswith("\\"):
                commands[-1] = (f"{commands[-1][0]}\n{line}", [])
            elif PROMPT.match(line):
                commands.append((line[2:], []))
            elif not has_prompts:
                commands.append((line, []))
            elif commands:
                commands[-1][1].append(line)
            else:
                raise ValueError(f"line {self.line}: a block begins with output")
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


def marked(line, kind, rest):
    """The step that a marker begins."""
    if kind == "not run":
        return Step(line, kind, words=[rest])
    words = rest.split()
    if len(words) < 3:
        raise ValueError(f"line {line}: a marker has flavours, cases and more: {rest}")
    if kind == "run":
        options(words[3:])
    return Step(line, kind, words[0].split(","), words[1].split(","), words[2:])


def steps(text):
    """Every block and every marker of the page, in its order."""
    found, lines, at, waiting = [], text.splitlines(), 0, None
    while at < len(lines):
        line = lines[at].strip()
        at += 1
        marker, fence = MARKER.fullmatch(line), FENCE.match(line)
        if waiting and line and not fence:
            raise ValueError(f"line {at}: a block is expected after the marker")
        if marker:
            found.append(marked(at, *marker.groups()))
            waiting = None if marker[1] == "check" else found[-1]
        elif fence:
            if not waiting:
                found.append(Step(at))
            inner = []
            while at < len(lines) and lines[at].strip() != fence[1]:
                inner.append(lines[at])
                at += 1
            found[-1].language, found[-1].text = fence[2], "\n".join(inner)
            at, waiting = at + 1, None
        elif re.match(r"<!-- (run|shown|check|not)\b", line):
            raise ValueError(f"line {at}: a marker that is none: {line}")
    return found


def plain(text):
    """Lines without what differs from run to run."""
    lines = []
    for line in text.splitlines():
        line = " ".join(VERSION.sub("VERSION", line).split())
        # A machine that has much else to do is behind by a second for as long as somebody writes.
        line = re.sub(r"\b\d+s Behind\b", "Up to Date", line)
        line = REFERENCE.sub("REFERENCE", TIME.sub("TIME", line))
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
