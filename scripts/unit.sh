#!/usr/bin/env bash
# Runs the workspace's tests. A test that fails is run again, alone; if it passes three times in a row
# there, the run goes on and says at its end which tests failed for once. Such a test is a bug, in it or
# in failsoft, and is to be mended: it is told, not hidden. More than a few of them are no accident.
#
#   scripts/unit.sh [what else cargo test takes]
set -euo pipefail

CARGO=${CARGO:-cargo}
# The most tests that may fail for once in a run.
ACCIDENTS=3
AGAIN=3

log=$(mktemp)
trap 'rm -f "$log"' EXIT

if "$CARGO" test --workspace --no-fail-fast "$@" 2>&1 | tee "$log"; then
    exit 0
fi

# cargo names a program that failed as `-p package --test name`, and a test's own name stands by itself,
# indented, in the list at the program's end.
mapfile -t programs < <(sed -n -E 's/^ +`(-p [^`]*)`$/\1/p; s/^error: test failed, to rerun pass `(.*)`$/\1/p' "$log" | sort -u)
mapfile -t tests < <(sed -n '/^failures:$/,/^test result:/s/^    \([A-Za-z0-9_:]*\)$/\1/p' "$log" | sort -u)

if [ ${#programs[@]} -eq 0 ] || [ ${#tests[@]} -eq 0 ] || [ ${#tests[@]} -gt $ACCIDENTS ]; then
    echo "unit: ${#tests[@]} tests failed" >&2
    exit 1
fi
echo "unit: failed, and run again alone, $AGAIN times: ${tests[*]}"
for program in "${programs[@]}"; do
    for _ in $(seq $AGAIN); do
        # shellcheck disable=SC2086 # the words of one argument each
        "$CARGO" test $program "$@" -- --exact "${tests[@]}" 2>&1 | tee "$log"
        # A program that broke off names no test of its own.
        grep -q '^running [1-9]' "$log"
    done
done
echo "unit: FAILED FOR ONCE, and passed $AGAIN times after that: ${tests[*]}" >&2
echo "unit: what it said is above, before the second run. Mend it." >&2
