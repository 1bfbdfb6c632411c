#!/usr/bin/env bash
# Checks the manifests: against the schemas of Kubernetes, strictly, so that a field with a wrong name is an
# error; that their parts fit each other (check.py); and with a failsoft, that the configuration is good. Then
# it makes mistakes in copies of them, and sees that each is found.
#
#   deploy/kubernetes/check.sh [failsoft]
#
# The schemas are in kubernetes-validate of PyPI, which is installed into
# ${FAILSOFT_CACHE:-~/.cache/failsoft}/kubernetes (145 MB). No cluster is asked.
set -euo pipefail

readonly validator=kubernetes-validate==1.37.0
# The oldest that is promised, and the newest that the validator knows.
readonly versions=(1.29.0 1.37.0)

binary=${1:+$(realpath "$1")}
cd "$(dirname "$0")"
cache=${FAILSOFT_CACHE:-${HOME:?HOME is not set; set FAILSOFT_CACHE}/.cache/failsoft}/kubernetes

# Kubernetes' own kinds; a ServiceMonitor has its schema in a cluster that has the Prometheus operator.
readonly own=(failsoft.yaml secret.example.yaml)
readonly manifests=("${own[@]}" servicemonitor.yaml)

passed=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install_validator() {
    [ "$(cat "$cache/validator" 2>/dev/null)" != "$validator" ] || return 0
    printf 'kubernetes: installing %s with pip into %s\n' "$validator" "$cache"
    mkdir -p "$cache"
    rm -rf "$cache"
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet --disable-pip-version-check "$validator"
    printf '%s\n' "$validator" >"$cache/validator"
}

verdict() {
    printf '%s %s\n' "$1" "$2"
    case $1 in
    PASS) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
}

# check NAME COMMAND…: the command's success is the verdict, its output says why not.
check() {
    local name=$1 why
    shift
    if why=$("$@" 2>&1); then
        verdict PASS "$name"
    else
        verdict FAIL "$name"
        printf '%s\n' "$why" | sed 's/^/     /'
    fi
}

# A file of a kind that the validator does not know is told as a warning, which would be no check at all.
schema() {
    local version=$1 told status=0
    shift
    told=$("$cache/bin/kubernetes-validate" --kubernetes-version "$version" --strict "$@" 2>&1) || status=1
    printf '%s\n' "$told"
    [ "$status" = 0 ] && ! grep -q '^WARN' <<<"$told"
}
fits() { "$cache/bin/python" check.py "$@"; }
configuration() { "$cache/bin/python" check.py --configuration failsoft.yaml; }
is_good() {
    configuration >"$work/failsoft.yaml"
    env APP_DB_PASS=a FAILSOFT_DB_PASS=b FAILSOFT_ADMIN_TOKEN=c "$binary" check "$work/failsoft.yaml"
}
# Only where kubectl is installed: it has kustomize in it.
kustomized() {
    kubectl kustomize . >"$work/kustomized.yaml"
    schema "${versions[-1]}" "$work/kustomized.yaml"
}

# mistake NAME SED-COMMAND CHECK…: with that made of failsoft.yaml, the check fails.
mistake() {
    local name=$1 edit=$2 told
    shift 2
    sed -e "$edit" failsoft.yaml >"$work/mistake.yaml"
    if cmp -s failsoft.yaml "$work/mistake.yaml"; then
        verdict FAIL "the mistake was not made: $name"
    elif told=$("$@" 2>&1); then
        verdict FAIL "not found: $name"
    else
        verdict PASS "found: $name"
        printf '%s\n' "$told" | grep -v '^INFO' | sed 's/^/     /'
    fi
}

install_validator
for version in "${versions[@]}"; do
    check "the manifests are sound for Kubernetes $version" schema "$version" "${own[@]}"
done
check 'their parts fit each other' fits "${manifests[@]}"
if command -v kubectl >/dev/null; then
    check 'what kustomize makes of them is sound' kustomized
else
    echo 'SKIP what kustomize makes of them: kubectl is not installed'
fi
if [ -n "$binary" ]; then
    check 'failsoft accepts the configuration' is_good
else
    echo 'SKIP what failsoft says of the configuration: no executable was named'
fi

newest=${versions[-1]}
rest=(secret.example.yaml servicemonitor.yaml)
mistake 'a field with a wrong name' 's/readinessProbe:/readynessProbe:/' schema "$newest" "$work/mistake.yaml"
mistake 'a word for a number' 's/replicas: 2/replicas: two/' schema "$newest" "$work/mistake.yaml"
mistake 'a field of a container at the pod' 's/^      enableServiceLinks: false/      readOnlyRootFilesystem: true/' \
    schema "$newest" "$work/mistake.yaml"
mistake 'a drain that takes longer than a pod may' 's/drain_timeout: 30s/drain_timeout: 1m/' fits "$work/mistake.yaml" "${rest[@]}"
mistake 'a Service that leads nowhere' 's/targetPort: mysql/targetPort: mysq/' fits "$work/mistake.yaml" "${rest[@]}"
mistake 'a password that nobody sets' 's/pass_env: APP_DB_PASS/pass_env: SHOP_DB_PASS/' fits "$work/mistake.yaml" "${rest[@]}"

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
