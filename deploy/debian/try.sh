#!/usr/bin/env bash
# Tries failsoft's Debian package: installs it in a clean Debian bookworm, looks at what came of it, runs it,
# and removes it again; then the same where systemd runs, for the units.
#
#   deploy/debian/try.sh target/debian/failsoft_0.1.0-1_amd64.deb
#
# Without a docker engine it is skipped, except in CI, where that is a failure. It leaves nothing behind but
# the images.
set -euo pipefail

readonly base=debian:bookworm-slim
readonly with_systemd=failsoft-try-systemd
readonly seconds=30 # the longest wait for something to come true

passed=0
failed=0
skipped=0

say() { printf 'try: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

# check NAME COMMAND…: the command's success is the verdict, its output says why not.
check() {
    local name=$1 why
    shift
    if why=$("$@" 2>&1); then
        printf 'PASS %s\n' "$name"
        passed=$((passed + 1))
    else
        printf 'FAIL %s\n' "$name"
        printf '%s\n' "$why" | sed 's/^/     /'
        failed=$((failed + 1))
    fi
}

# soon COMMAND…: it succeeds within the time that things may take.
soon() {
    local deadline=$((SECONDS + seconds)) why
    until why=$("$@" 2>&1); do
        [ "$SECONDS" -lt "$deadline" ] || {
            printf 'not within %s s: %s\n%s\n' "$seconds" "$*" "$why"
            return 1
        }
        sleep 0.2
    done
}

# is WANT COMMAND…: the command prints WANT and nothing else, however it ends.
is() {
    local want=$1 got
    shift
    got=$("$@" 2>&1) || true
    [ "$got" = "$want" ] || {
        printf 'expected %q from %s, found:\n%s\n' "$want" "$*" "$got"
        return 1
    }
}

# says PATTERN COMMAND…: a line of what the command prints matches, however it ends.
says() {
    local pattern=$1 got
    shift
    got=$("$@" 2>&1) || true
    grep -q -E -e "$pattern" <<<"$got" || {
        printf 'expected a line like %s from %s, found:\n%s\n' "$pattern" "$*" "$got"
        return 1
    }
}

# ends STATUS COMMAND…: the command ends with this status.
ends() {
    local want=$1 got=0 output
    shift
    output=$("$@" 2>&1) || got=$?
    [ "$got" = "$want" ] || {
        printf 'expected status %s from %s, found %s:\n%s\n' "$want" "$*" "$got" "$output"
        return 1
    }
}

not() { ! "$@"; }

# --- in the container: what is there ----------------------------------------------------------

# A slim image unpacks no manual pages; here they are to be looked at.
unpack_everything() { find /etc/dpkg/dpkg.cfg.d -type f -exec sed -i '/^path-exclude/d' {} +; }

install_package() {
    # What it depends on is in a slim image; where it is not, the lists of packages are needed.
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /failsoft.deb && return
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /failsoft.deb
}

# Everything on disk but what belongs to dpkg, apt, systemd and the system's accounts.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/cache \
        -o -path /var/log -o -path /etc/dpkg \) -prune \
        -o -regex '/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\).*' -o -print | sort
}

# mode_of FILE: as `640 root:failsoft`.
mode_of() { stat -c '%a %U:%G' "$1"; }

files_are_there() {
    local missing='' file
    for file in /usr/bin/failsoft /usr/lib/systemd/system/failsoft.{service,socket} \
        /etc/failsoft/failsoft.yaml /etc/default/failsoft \
        /usr/share/doc/failsoft/{copyright,README.md,CHANGELOG.md,LICENSE-APACHE,LICENSE-MIT} \
        /usr/share/doc/failsoft/docs/configuration.md /usr/share/doc/failsoft/examples/minimal.yaml \
        /usr/share/man/man1/failsoft.1.gz /usr/share/bash-completion/completions/failsoft \
        /usr/share/zsh/vendor-completions/_failsoft /usr/share/fish/vendor_completions.d/failsoft.fish; do
        [ -s "$file" ] || missing+=" $file"
    done
    [ -z "$missing" ] || {
        printf 'missing or empty:%s\n' "$missing"
        return 1
    }
}

conffiles_are_told() {
    is "$(printf '%s\n' /etc/default/failsoft /etc/failsoft/failsoft.yaml)" conffiles
}
conffiles() { dpkg-query -W -f '${Conffiles}\n' failsoft | awk 'NF { print $1 }' | sort; }

man_page_is_one() { gzip -dc /usr/share/man/man1/failsoft.1.gz | grep -q '^\.TH '; }
version_is_the_package_s() {
    local version
    version=$(dpkg-query -W -f '${Version}' failsoft)
    is "failsoft ${version%-*}" failsoft --version
}

# A configuration as it is installed: the passwords are not set, and there it is good.
conffile_wants_passwords() {
    ends 2 failsoft check /etc/failsoft/failsoft.yaml &&
        says 'defaults\.pass_env: .*APP_DB_PASS' failsoft check /etc/failsoft/failsoft.yaml &&
        says 'monitor\.pass_env: .*FAILSOFT_DB_PASS' failsoft check /etc/failsoft/failsoft.yaml
}
conffile_is_good_with_them() {
    is '/etc/failsoft/failsoft.yaml: OK, 1 master, 1 replica, listening on 127.0.0.1:3306' \
        env APP_DB_PASS=a FAILSOFT_DB_PASS=b failsoft check /etc/failsoft/failsoft.yaml
}

# --- in the container: a failsoft that runs ---------------------------------------------------

# A master that nobody is: its port refuses connections. Passwords as the environment has them.
write_configuration() {
    cat >"$1" <<EOF
listen: [127.0.0.1:3306, "unix:$2"]
defaults: {user: app, pass_env: APP_DB_PASS}
databases:
  - {host: 127.0.0.1, port: 1, role: master}
ledger: $3
EOF
}

# http PATH: the status of an answer of the console.
http() {
    local line
    exec 3<>/dev/tcp/127.0.0.1/9306
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$1" >&3
    IFS=' ' read -r -t 5 -u 3 _ line _
    exec 3>&-
    printf '%s\n' "$line"
}

# The first bytes that a client gets: a packet, and in it version 10 of the protocol.
greeting() {
    exec 3<>/dev/tcp/127.0.0.1/3306
    timeout 5 head -c 5 <&3 | tail -c 1 | od -An -t u1 | tr -d ' '
    exec 3>&-
}

is_alive() { is 200 http /livez; }
is_ready() { is 200 http /readyz; }
a_client_is_greeted() { is 10 greeting; }

try_by_hand() {
    local pid status=0
    install -d -o failsoft -g failsoft /tmp/failsoft
    write_configuration /tmp/failsoft/failsoft.yaml /tmp/failsoft/socket /tmp/failsoft/ledger.jsonl
    APP_DB_PASS=a setpriv --reuid failsoft --regid failsoft --clear-groups failsoft run -c /tmp/failsoft/failsoft.yaml >/tmp/failsoft/log 2>&1 &
    pid=$!
    check 'it runs without a server: /livez answers' soon is_alive
    check 'it is ready all the same' soon is_ready
    check 'a client is greeted' soon a_client_is_greeted
    kill -TERM "$pid"
    wait "$pid" || status=$?
    check 'SIGTERM: it ends with 0' is 0 echo "$status"
    [ "$failed" = 0 ] || cat /tmp/failsoft/log
    rm -rf /tmp/failsoft
}

# The verdict of the part that ran; the caller adds them up.
conclude() {
    printf 'counts %s %s\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}

nothing_is_left() {
    local left
    left=$(files | comm -13 /tmp/before -)
    [ -z "$left" ] || {
        printf 'left:\n%s\n' "$left"
        return 1
    }
}

in_plain_debian() {
    unpack_everything
    files >/tmp/before
    check 'the package is installed' install_package
    check 'the files are in place' files_are_there
    check 'what is in /etc is told as conffiles' conffiles_are_told
    check 'the configuration is readable by failsoft and root' is '640 root:failsoft' mode_of /etc/failsoft/failsoft.yaml
    check 'the variables are readable by root' is '640 root:root' mode_of /etc/default/failsoft
    check 'failsoft --version' version_is_the_package_s
    check 'failsoft check: the passwords are missing' conffile_wants_passwords
    check 'failsoft check: with passwords the file is good' conffile_is_good_with_them
    check 'failsoft.1 is a manual page' man_page_is_one
    check 'the user cannot log in' is /usr/sbin/nologin login_shell
    try_by_hand
    install -d -o failsoft -g failsoft /var/lib/failsoft
    touch /var/lib/failsoft/ledger.jsonl
    check 'the package is removed' apt-get remove --yes failsoft
    check 'the configuration and the ledger are still there' test -e /etc/failsoft/failsoft.yaml -a -e /var/lib/failsoft/ledger.jsonl
    check 'the package is installed again' install_package
    check 'the package is purged' apt-get purge --yes failsoft
    check 'nothing is left of it' nothing_is_left
    check 'but its user' getent passwd failsoft
    conclude
}
login_shell() { getent passwd failsoft | cut -d : -f 7; }

# --- in the container: under systemd ----------------------------------------------------------

show() { systemctl show --value --property="$1" "${2:-failsoft.service}"; }
# journal: what the service and systemd said of it.
journal() { journalctl --quiet --no-pager --output=cat --unit=failsoft.service; }
# status_of NAME: a line of the running process's status.
status_of() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$(show MainPID)/status"; }
is_active() { is active systemctl is-active failsoft.service; }
# As many as its unit says, or as a container may have.
most_files() {
    local most
    most=$(ulimit -H -n)
    if [ "$most" = unlimited ] || [ "$most" -gt 65536 ]; then most=65536; fi
    printf '%s %s\n' "$most" "$most"
}
files_that_may_be_open() { awk '/^Max open files/ { print $4, $5 }' "/proc/$(show MainPID)/limits"; }
# another_runs PID: the service is active, as another process.
another_runs() { is_active && is_ready && [ "$(show MainPID)" != "$1" ]; }

bad_file_stops_it_for_good() {
    not systemctl start failsoft.service && sleep 3 &&
        is failed systemctl is-failed failsoft.service && is 2 show ExecMainStatus && is 0 show NRestarts &&
        says 'defaults\.pass_env: .*APP_DB_PASS' journal
}
it_is_confined() {
    is 1 status_of NoNewPrivs && is 2 status_of Seccomp && is 0000000000000000 status_of CapEff &&
        is "$(id -u failsoft)" status_of Uid
}
bad_reload_is_told() {
    local pid
    pid=$(show MainPID)
    cp /etc/failsoft/failsoft.yaml /tmp/good.yaml
    echo 'conect_timeout: 1s' >>/etc/failsoft/failsoft.yaml
    not systemctl reload failsoft.service && is_active && is "$pid" show MainPID && says 'conect_timeout' journal
    local status=$?
    cat /tmp/good.yaml >/etc/failsoft/failsoft.yaml
    return "$status"
}
good_reload_is_done() {
    local pid
    pid=$(show MainPID)
    systemctl reload failsoft.service && soon says 'read again \(SIGHUP\)' journal && is_active && is "$pid" show MainPID
}
what_needs_a_restart_is_shown() {
    cp /etc/failsoft/failsoft.yaml /tmp/good.yaml
    echo 'threads: 7' >>/etc/failsoft/failsoft.yaml
    systemctl reload failsoft.service && soon says 'Needs a restart: threads' show StatusText
    local status=$?
    cat /tmp/good.yaml >/etc/failsoft/failsoft.yaml
    return "$status"
}
it_comes_back() {
    local pid
    pid=$(show MainPID)
    kill -KILL "$pid" && soon another_runs "$pid"
}
upgrade_restarts_it() {
    local pid
    pid=$(show MainPID)
    dpkg --install /failsoft.deb && soon another_runs "$pid"
}
# Stopped, the service comes back with the first client, who waits for it.
socket_waits() {
    systemctl stop failsoft.service && systemctl enable --now failsoft.socket && a_client_is_greeted && is_active &&
        says '127\.0\.0\.1:3306 is lent' journal
}
socket_file_outlives_a_restart() {
    test -S /run/failsoft/failsoft.sock && systemctl restart failsoft.service && test -S /run/failsoft/failsoft.sock &&
        is '666 root:root' mode_of /run/failsoft/failsoft.sock
}

under_systemd() {
    unpack_everything
    files >/tmp/before
    check 'systemd: the package is installed' install_package
    check 'systemd: nothing is enabled' is $'disabled\ndisabled' systemctl is-enabled failsoft.service failsoft.socket
    check 'systemd: nothing is started' is $'inactive\ninactive' systemctl is-active failsoft.service failsoft.socket
    check 'systemd: the units are sound' is '' systemd-analyze verify --man=no failsoft.service failsoft.socket
    check 'systemd: as installed it does not start, and is not tried again' bad_file_stops_it_for_good

    # Not a new file: it keeps its mode.
    write_configuration /tmp/new /run/failsoft/failsoft.sock /var/lib/failsoft/ledger.jsonl
    cat /tmp/new >/etc/failsoft/failsoft.yaml
    echo "APP_DB_PASS='a'" >>/etc/default/failsoft
    systemctl reset-failed failsoft.service
    check 'systemd: it starts, and says when it is ready' systemctl start failsoft.service
    check 'systemd: it is active' is_active
    check 'systemd: the console answers' is_ready
    check 'systemd: its status has what it sees' soon says 'default: Read-only since' show StatusText
    check 'systemd: a client is greeted' a_client_is_greeted
    check 'systemd: it is confined, and of its own user' it_is_confined
    check 'systemd: it may have 65536 files open' is "$(most_files)" files_that_may_be_open
    check 'systemd: the ledger is its own' is '600 failsoft:failsoft' mode_of /var/lib/failsoft/ledger.jsonl
    check 'systemd: the Unix socket is for everybody' is '777 failsoft:failsoft' mode_of /run/failsoft/failsoft.sock
    check 'systemd: a reload of a bad file fails, and it goes on' bad_reload_is_told
    check 'systemd: a reload of a good file' good_reload_is_done
    check 'systemd: what needs a restart is shown' what_needs_a_restart_is_shown
    check 'systemd: it is started again when it is killed' it_comes_back
    check 'systemd: an upgrade restarts it' upgrade_restarts_it

    mkdir -p /etc/systemd/system/failsoft.socket.d
    printf '[Socket]\nListenStream=/run/failsoft/failsoft.sock\n' >/etc/systemd/system/failsoft.socket.d/try.conf
    systemctl daemon-reload
    check 'systemd: its socket takes clients while it is stopped' socket_waits
    check 'systemd: a Unix socket of its own outlives a restart' socket_file_outlives_a_restart
    check 'systemd: an upgrade restarts it beside its socket' upgrade_restarts_it
    check 'systemd: it stops' systemctl stop failsoft.socket failsoft.service
    check 'systemd: in time, and well' is success show Result
    rm -r /etc/systemd/system/failsoft.socket.d

    check 'systemd: it is enabled, and starts once more' systemctl enable --quiet --now failsoft
    check 'systemd: its status is shown' says 'active \(running\)' systemctl --no-pager status failsoft
    check 'systemd: the package is purged' apt-get purge --yes failsoft
    check 'systemd: it is stopped' is inactive systemctl is-active failsoft.service
    check 'systemd: nothing is left of it' nothing_is_left
    [ "$failed" = 0 ] || journal | tail -n 40
    conclude
}

# --- outside ----------------------------------------------------------------------------------

# run_part COMMAND…: runs a part in its container, and counts its verdicts.
run_part() {
    local output
    output=$("$@" 2>&1) || true
    grep -v '^counts ' <<<"$output" || true
    local counts
    counts=$(sed -n 's/^counts //p' <<<"$output")
    [ -n "$counts" ] || {
        say 'this part did not come to its end' >&2
        counts='0 1'
    }
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

skip() {
    [ "${CI:-}" != true ] || die "$1, and in CI it must"
    printf 'SKIP %s\n' "$1"
    skipped=$((skipped + 1))
}

# Without the policy of images, which starts no services.
systemd_image() {
    docker build --quiet --tag "$with_systemd" - >/dev/null 2>"$work/build.log" <<EOF
FROM $base
RUN apt-get update \\
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends systemd \\
    && rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
EOF
}

systemd_runs() { docker exec "$container" systemctl is-system-running --wait; }

# systemd needs to mount, and the cgroups; the service's own confinement comes on top.
start_systemd() {
    container=failsoft-try-$$
    docker run --detach --name "$container" --cap-add SYS_ADMIN --cap-add NET_ADMIN \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --tmpfs /run --tmpfs /run/lock --volume /sys/fs/cgroup:/sys/fs/cgroup --env container=docker \
        --volume "$deb:/failsoft.deb:ro" --volume "$here/try.sh:/try.sh:ro" "$with_systemd" >/dev/null &&
        soon systemd_runs >/dev/null
}

clean_up() {
    rm -rf "$work"
    [ -z "${container:-}" ] || docker rm --force "$container" >/dev/null 2>&1 || true
}

main() {
    [ $# = 1 ] && [ -f "$1" ] || die 'usage: deploy/debian/try.sh DEB'
    deb=$(realpath "$1")
    here=$(cd "$(dirname "$0")" && pwd)
    if ! timeout 20 docker info >/dev/null 2>&1; then
        skip 'no docker engine answers'
        exit 0
    fi
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$here/../../scripts/base-image.sh" "$base"
    run_part docker run --rm --volume "$deb:/failsoft.deb:ro" --volume "$here/try.sh:/try.sh:ro" \
        "$base" bash /try.sh --in-plain-debian
    systemd_image || {
        cat "$work/build.log" >&2
        die 'the image with systemd cannot be built'
    }
    if start_systemd; then
        run_part docker exec "$container" bash /try.sh --under-systemd
    else
        skip 'systemd does not run in a container here'
    fi
    printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
}

case ${1:-} in
--in-plain-debian) in_plain_debian ;;
--under-systemd) under_systemd ;;
*) main "$@" ;;
esac
