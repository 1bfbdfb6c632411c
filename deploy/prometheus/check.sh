#!/usr/bin/env bash
# Checks what watches failsoft: Prometheus's configuration, the alerts and their tests, and Grafana's
# dashboard, each by itself and all against the table of metrics.
#
# Needs python3 and promtool: $PROMTOOL, one in the PATH, or the one that `scripts/setup.sh drivers`
# unpacks. Tells everything that is wrong, and exits 1 if anything is.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

find_promtool() {
  local one
  for one in "${PROMTOOL:-}" "$(command -v promtool || true)" \
    "${FAILSOFT_CACHE:-${HOME:-}/.cache/failsoft}/prometheus/promtool"; do
    if [ -x "$one" ]; then
      promtool=$one
      return
    fi
  done
  echo 'check: promtool is missing: scripts/setup.sh drivers unpacks it; or name it in PROMTOOL' >&2
  exit 1
}

# passes WHAT COMMAND…: tells what the command has to say only where it fails.
passes() {
  local what=$1
  shift
  if ! "$@" >"$work/log" 2>&1; then
    printf 'check: %s\n' "$what" >&2
    sed -e '/^[[:space:]]*$/d' -e 's/^/  /' "$work/log" >&2
    failed=1
  fi
}

# What no program of Prometheus's knows: the metrics that there are, the dashboard, the page for
# operators. Writes the dashboard's expressions to the file in its argument, as rules that promtool reads.
compare() {
  python3 - "$1" <<'PYTHON'
import json
import re
import sys

problems = []


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


PROCESS = {"process_" + name: [] for name in (
    "cpu_seconds_total", "open_fds", "max_fds", "virtual_memory_bytes", "resident_memory_bytes",
    "start_time_seconds", "threads")}

# --- the metrics: name and labels from the table, and which of them have buckets
table = read("crates/telemetry/src/table.rs").split("METRICS: &[Row] = &[", 1)[1].split("\n];", 1)[0]
metrics = {name: re.findall(r'"(\w+)"', labels)
           for name, labels in re.findall(r'\(\s*"(failsoft_\w+)",.*?&\[([^\]]*)\],?\s*\),', table, re.S)}
if len(metrics) != len(re.findall(r'"failsoft_\w+",', table)) or not metrics:
    problems.append("crates/telemetry/src/table.rs is not written as this script expects")
histograms = set(re.findall(r'\.histograms?\(\s*"(failsoft_\w+)"', read("crates/telemetry/src/metrics.rs")))
series = {name: labels for name, labels in metrics.items() if name not in histograms} | PROCESS
for name in histograms:
    series[name + "_bucket"] = [*metrics.get(name, []), "le"]
    series[name + "_sum"] = series[name + "_count"] = metrics.get(name, [])

WORD = re.compile(r'\b(?:failsoft|process)_\w+')


def look(where, text):
    """The metrics that an expression names exist, with the labels that it asks for."""
    found = set()
    for match in WORD.finditer(text):
        name = match[0]
        if name not in series:
            problems.append(f"{where}: there is no series {name}")
            continue
        found.add(next((base for base in histograms if name.startswith(base + "_")), name))
        selector = re.match(r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}', text[match.end():])
        for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector[1]) if selector else []:
            if label not in (*series[name], "job", "instance"):
                problems.append(f"{where}: {name} has no label {label}")
    return found


# --- the alerts, their tests, and the table for operators
rules = read("deploy/prometheus/alerts.yml")
alerts = {}
for block in re.split(r"\n(?=      - alert: )", rules)[1:]:
    name = re.match(r"      - alert: (\w+)", block)[1]
    head, _, texts = block.partition("        annotations:")
    if name in alerts:
        problems.append(f"alerts.yml: {name} is there twice")
    severity = re.search(r"severity: (critical|warning|info)\b", head)
    alerts[name] = severity and severity[1]
    if not severity:
        problems.append(f"alerts.yml: {name} has no severity that is critical, warning or info")
    for text in ("summary", "description"):
        if f"          {text}: " not in texts:
            problems.append(f"alerts.yml: {name} has no {text}")
    look(f"alerts.yml, {name}", head)
    for query in re.findall(r"`(.*?)`", texts):
        look(f"alerts.yml, {name}", query)
    for word in WORD.findall(re.sub(r"`.*?`", "", texts)):
        if word not in metrics:
            problems.append(f"alerts.yml, {name}: there is no metric {word}")

tests = read("deploy/prometheus/alerts_test.yml")
fires, silent = set(), set()
groups = re.split(r"\n(?=  - name: )", tests)[1:]
for group in groups:
    for name in set(re.findall(r"alertname: (\w+)", group)):
        (fires if "exp_labels" in group else silent).add(name)
for line in re.findall(r"- series: '(.*)'", tests):
    look("alerts_test.yml", line)
for name in sorted(alerts.keys() - fires):
    problems.append(f"alerts_test.yml: no test in which {name} fires")
for name in sorted(alerts.keys() - silent):
    problems.append(f"alerts_test.yml: no test in which {name} is silent")
for name in sorted((fires | silent) - alerts.keys()):
    problems.append(f"alerts_test.yml: there is no alert {name}")

page = "docs/monitoring.md"
rows = dict(re.findall(r"^\| `(Failsoft\w+)` \|.*\| (\w+) \|[^|]*\|$", read(page), re.M))
for name, severity in alerts.items():
    if rows.get(name) != severity:
        problems.append(f"{page}: no row for {name}, {severity}")
for name in sorted(rows.keys() - alerts.keys()):
    problems.append(f"{page}: there is no alert {name}")

# --- the dashboard
path = "deploy/grafana/failsoft.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VALUES = {"__rate_interval": "1m", "__interval": "15s", "__range": "1h", "instance": "a", "partition": "p"}
shown, expressions = set(), []


def expression(where, text):
    text = re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))",
                  lambda found: VALUES.get(found[1] or found[2], found[0]), text)
    if "$" in text:
        problems.append(f"{where}: a variable that is not known in {text}")
    expressions.append((where, text))
    shown.update(look(where, text))


try:
    board = json.loads(read(path))
except ValueError as error:
    problems.append(f"{path}: {error}")
    board = {}
for variable in board.get("templating", {}).get("list", []):
    asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
    if asked:
        expression(f"{path}, variable {variable['name']}", asked[1])
for note in board.get("annotations", {}).get("list", []):
    if "expr" in note:
        expression(f"{path}, annotation {note['name']}", note["expr"])
taken, ids = {}, set()
for panel in board.get("panels", []):
    where = f"{path}, {panel['title']}"
    if panel["id"] in ids:
        problems.append(f"{where}: its id is another panel's as well")
    ids.add(panel["id"])
    place = panel["gridPos"]
    if place["x"] + place["w"] > 24:
        problems.append(f"{where}: wider than the grid")
    for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])):
        other = taken.setdefault(cell, panel["title"])
        if other != panel["title"]:
            problems.append(f"{where}: lies over {other}")
            break
    if panel["type"] == "row":
        continue
    if not panel.get("description"):
        problems.append(f"{where}: no description")
    if "unit" not in panel["fieldConfig"]["defaults"]:
        problems.append(f"{where}: no unit")
    if panel.get("datasource") != SOURCE:
        problems.append(f"{where}: not the data source that was chosen")
    for target in panel["targets"]:
        if target.get("datasource") != SOURCE:
            problems.append(f"{where}: not the data source that was chosen")
        expression(where, target["expr"])
for name in sorted(metrics.keys() - shown):
    problems.append(f"{path}: {name} is in no panel")

with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write("groups:\n  - name: dashboard\n    rules:\n")
    for at, (where, text) in enumerate(expressions):
        # A text in JSON is one in YAML.
        file.write(f"      # {where}\n      - record: expression:{at}\n        expr: {json.dumps(text)}\n")

print("\n".join(dict.fromkeys(problems)) if problems else
      f"{len(metrics)} metrics, {len(alerts)} alerts in {len(groups)} tests, "
      f"{len(expressions)} expressions in {len(ids)} panels")
sys.exit(bool(problems))
PYTHON
}

find_promtool
passes 'the configuration of Prometheus' "$promtool" check config deploy/prometheus/prometheus.yml
passes 'the alerts' "$promtool" check rules deploy/prometheus/alerts.yml
passes 'the tests of the alerts' "$promtool" test rules deploy/prometheus/alerts_test.yml
passes 'metrics, alerts, dashboard and docs/monitoring.md do not agree' compare "$work/dashboard.yml"
[ "$failed" -ne 0 ] || summary=$(cat "$work/log")
if [ -e "$work/dashboard.yml" ]; then
  passes 'the expressions of the dashboard' "$promtool" check rules "$work/dashboard.yml"
fi
[ "$failed" -eq 0 ] || exit 1
printf 'check: %s: all is well\n' "$summary"
