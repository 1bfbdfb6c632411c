#!/usr/bin/env bash
# The compose stack loses its master and gets it back, as seen from a session that stays open.
#
# Run by `make compose-test`. Without a docker engine it is skipped, except in CI, where that is a
# failure. The failsoft under test is built on this machine (scripts/compose-image.sh), or in a
# container where FAILSOFT_DOCKERFILE names a recipe. Everything it starts is removed when it ends.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly refusal='The MySQL server is running with the --read-only option so it cannot execute this statement'
readonly state_seconds=60     # the longest wait for a change of state
readonly statement_seconds=20 # the longest wait for an answer in the open session

passed=0
failed=0
name='' # of the check that is being made
work=$(mktemp -d)
containers_up=''

pass() {
  printf 'PASS %s\n' "$name"
  passed=$((passed + 1))
}

fail() {
  printf 'FAIL %s\n' "$name"
  printf '%s\n' "$@" | sed 's/^/     /'
  failed=$((failed + 1))
}

# check NAME COMMAND…: the command's success is the verdict, its output says why not.
check() {
  local why
  name=$1
  shift
  if why=$("$@" 2>&1); then pass; else fail "$why"; fi
}

die() {
  printf 'compose-test: %s\n' "$*" >&2
  exit 1
}

# --- docker -----------------------------------------------------------------------------------

find_engine() {
  local why=''
  if ! command -v docker >/dev/null; then
    why='docker is not installed'
  elif ! timeout 20 docker info >/dev/null 2>&1; then
    why='no docker engine answers'
  elif docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
  else
    why='neither docker compose nor docker-compose is installed'
  fi
  [ -n "$why" ] || return 0
  [ "${CI:-}" != true ] || die "$why, and in CI it must"
  printf 'SKIP compose-test: %s\n' "$why"
  exit 0
}

# compose_quietly COMMAND…: what it says is only of interest where it fails.
compose_quietly() {
  "${compose[@]}" "$@" >"$work/compose.log" 2>&1 || {
    tail -n 40 "$work/compose.log" >&2
    die "docker compose $* failed"
  }
}

start_stack() {
  export COMPOSE_PROJECT_NAME=failsoft-test-$$
  # An image and ports of its own: a stack that is in use stays undisturbed.
  export FAILSOFT_IMAGE=failsoft-test FAILSOFT_PORT=0 FAILSOFT_ADMIN_PORT=0 FAILSOFT_PROMETHEUS_PORT=0
  if [ -z "${FAILSOFT_DOCKERFILE:-}" ]; then
    scripts/compose-image.sh
    export FAILSOFT_CONTEXT=target/compose FAILSOFT_DOCKERFILE=Dockerfile
  fi
  scripts/base-image.sh
  containers_up=yes
  compose_quietly --profile monitoring up -d --build
  master=$("${compose[@]}" ps -q master)
  replica=$("${compose[@]}" ps -q replica)
  failsoft=$("${compose[@]}" ps -q failsoft)
  client=$("${compose[@]}" ps -q client)
}

clean_up() {
  local code=$?
  trap - EXIT
  [ "$failed" -eq 0 ] || code=1
  [ -z "${session_pid:-}" ] || kill "$session_pid" 2>/dev/null || true
  if [ -n "$containers_up" ]; then
    if [ "$code" -ne 0 ]; then
      printf '%s\n' '--- logs of the stack'
      "${compose[@]}" ps || true
      "${compose[@]}" logs --no-color --tail=60 || true
      printf '%s\n' '--- the open session'
      cat "$work/session" 2>/dev/null || true
    fi
    "${compose[@]}" --profile monitoring down --volumes --remove-orphans --timeout 5 >"$work/down.log" 2>&1 || {
      cat "$work/down.log"
      code=1
    }
    docker rmi --force "$FAILSOFT_IMAGE" >/dev/null 2>&1 || true
  fi
  rm -rf "$work"
  exit "$code"
}

# --- statements -------------------------------------------------------------------------------

# sql STATEMENT: through failsoft, on a connection of its own.
sql() { docker exec "$client" timeout "$statement_seconds" mariadb --batch --skip-column-names --execute="$1" 2>&1; }

# on CONTAINER STATEMENT: on a server itself, past failsoft.
on() { docker exec "$1" mariadb --batch --skip-column-names --database=app --execute="$2" 2>&1; }

# One mariadb client that lives as long as the test. It may not reconnect, so what works in it works
# on the connection that it began with.
open_session() {
  mkfifo "$work/statements"
  : >"$work/session"
  docker exec -i "$client" sh -c \
    'exec mariadb --batch --skip-column-names --unbuffered --force --skip-reconnect 2>&1' \
    <"$work/statements" >>"$work/session" &
  session_pid=$!
  exec 3>"$work/statements"
}

# session STATEMENT: sends it to the open session and prints what came of it. The mark is printed by
# the client, not by a server.
session() {
  local mark before deadline
  before=$(wc -l <"$work/session")
  mark="-- answered at line $before --"
  printf '%s\n\\! echo "%s"\n' "$1" "$mark" >&3
  deadline=$((SECONDS + statement_seconds))
  until grep -q -F -e "$mark" "$work/session"; do
    [ "$SECONDS" -lt "$deadline" ] || {
      echo "no answer in $statement_seconds s to: $1"
      return 1
    }
    sleep 0.05
  done
  tail -n "+$((before + 1))" "$work/session" | sed '/^-- answered at line/,$d'
}

# --- failsoft's own view ----------------------------------------------------------------------

http() { docker exec "$client" curl --silent --show-error --max-time 5 --write-out '\n%{http_code}\n' "http://failsoft:9306$1" 2>&1; }

# --- what is expected -------------------------------------------------------------------------

# prints WANT COMMAND…: the command prints WANT and nothing else.
prints() {
  local want=$1 got
  shift
  got=$("$@") || true
  [ "$got" = "$want" ] || {
    printf 'expected %q from %s, found: %s\n' "$want" "$*" "$got"
    return 1
  }
}

# says PATTERN COMMAND…: a line of what the command prints matches the extended expression.
says() {
  local pattern=$1 got
  shift
  got=$("$@") || true
  grep -q -E -e "$pattern" <<<"$got" || {
    printf 'expected a line like %s from %s, found: %s\n' "$pattern" "$*" "$got"
    return 1
  }
}

# soon EXPECTATION…: it comes true within the time that a change of state may take.
soon() {
  local deadline=$((SECONDS + state_seconds)) why
  until why=$("$@"); do
    [ "$SECONDS" -lt "$deadline" ] || {
      printf 'not within %s s: %s\n' "$state_seconds" "$why"
      return 1
    }
    sleep 0.3
  done
}

is_refused() { says "^ERROR 1290 \(HY000\).*: $refusal \(failsoft: partition default is read-only: .*\)\$" "$@"; }
rw_is_refused_with_reason() { says '^503$' http /rw && says 'severed' http /rw; }
ro_is_fine() { says '^200$' http /ro; }
both_are_fine() { says '^200$' http /rw && says '^200$' http /ro; }
metric_says() { says "^failsoft_partition_mode\{partition=\"default\",reason=\"severed\"\} $1\$" http /metrics; }
prometheus() { docker exec "$client" curl --silent --show-error --max-time 5 "http://prometheus:9090/api/v1/$1" 2>&1; }
it_is_watched() { says '"value":\[[0-9.]+,"1"\]' prometheus 'query?query=up' && says '"FailsoftMasterLost"' prometheus rules; }
container_is() { prints "$1" docker inspect --format '{{.State.Health.Status}}' "$2"; }

reads_go_on() { prints 'before' session 'SELECT note FROM notes WHERE id = 1;' && prints 'before' sql 'SELECT note FROM notes WHERE id = 1'; }
writes_are_refused() {
  is_refused session "INSERT INTO notes VALUES (2, 'refused');" && is_refused sql "INSERT INTO notes VALUES (3, 'refused')"
}
row_is_once_on() { prints '1' on "$1" "SELECT COUNT(*) FROM notes WHERE note = 'after'"; }
rows_are_exactly() { prints $'1\tbefore\n4\tafter' on "$1" 'SELECT id, note FROM notes ORDER BY id'; }
is_sound() { "${compose[@]}" -f "$1" config -q; }
on_both_servers() { soon "$1" "$master" && soon "$1" "$replica"; }

write_before() {
  prints '' session 'CREATE TABLE notes (id INT PRIMARY KEY, note VARCHAR(20) NOT NULL);' &&
    prints '' session "INSERT INTO notes VALUES (1, 'before');" &&
    soon prints 'before' on "$replica" 'SELECT note FROM notes WHERE id = 1'
}

# --- the tale ---------------------------------------------------------------------------------

find_engine
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

check 'the file for failsoft by itself is sound' is_sound deploy/compose/production.yml
start_stack
check 'the stack is up: verdicts /rw and /ro are 200' soon both_are_fine
check 'the container of failsoft is healthy' soon container_is healthy "$failsoft"
check 'failsoft status in its container' says '^default: Read-write' "${compose[@]}" exec -T failsoft failsoft status
check 'mariadb in the container of the client' says '^1$' \
  "${compose[@]}" exec -T client mariadb --batch --skip-column-names --execute='SELECT 1'
check 'Prometheus scrapes failsoft, and has its alerts' soon it_is_watched
open_session
check 'a write through failsoft is on the replica' write_before

compose_quietly stop master
check 'the master is stopped: reads go on, in the open session and in a new one' reads_go_on
check 'the flip: failsoft_partition_mode is 1 for severed' soon metric_says 1
check 'after it: reads go on' reads_go_on
check 'a write gets error 1290 and the reason, in the open session and in a new one' writes_are_refused
check 'verdict /rw is 503 with the reason' rw_is_refused_with_reason
check 'verdict /ro is 200' ro_is_fine
check 'the container of failsoft is still healthy' container_is healthy "$failsoft"

compose_quietly start master
check 'the master is started: verdict /rw is 200 again' soon both_are_fine
check 'the metric is 0 again' metric_says 0
check 'the session that was open all the time writes again' prints '' session "INSERT INTO notes VALUES (4, 'after');"
check 'its row is there exactly once, on master and replica' on_both_servers row_is_once_on
check 'the refused rows are nowhere' on_both_servers rows_are_exactly

printf '%d passed, %d failed\n' "$passed" "$failed"
