#!/usr/bin/env bash
# Installs what the demo or the tests need and this machine lacks. Quick when there is nothing to do.
#
#   scripts/setup.sh demo    cargo, and one MariaDB or MySQL server
#   scripts/setup.sh test    cargo, MariaDB with its ed25519 plugin and its own tests, Oracle MySQL,
#                            haproxy, iproute2 and nftables; where a docker engine answers,
#                            docker-compose and debootstrap
#   scripts/setup.sh bench   the same, strace, and MySQL Router, unpacked as MySQL is
#   scripts/setup.sh guard   cargo, MariaDB and valgrind
#   scripts/setup.sh book    mdBook, unpacked as MySQL is
#   scripts/setup.sh drivers the same as for test; PHP, Perl, Ruby and Python with their drivers, programs that
#                            dump, a browser for the console, valgrind, promtool, mdBook, dpkg-dev, curl,
#                            jq, openssl, and cargo-deny, built from source: all that make test needs
#   scripts/setup.sh all-drivers
#                            the same, Go and Java with their drivers (0.8 GB), and sqlx of Rust
#
# Packages come from the system's own apt sources. No service is started or enabled: the demo and
# the tests run private servers. MySQL, which Debian has in unstable only, is unpacked into
# ${FAILSOFT_CACHE:-~/.cache/failsoft}/mysql with the libraries it needs, beside the system and
# without root; so are MariaDB's own tests, in mariadb-test, and promtool, in prometheus. It says what
# it is about to do before it does it; where it may not, it prints the command that would and exits 1.
set -euo pipefail

CACHE=${FAILSOFT_CACHE:-${HOME:?HOME is not set; set FAILSOFT_CACHE}/.cache/failsoft}
PATH=$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# Of MySQL's programs, those that tests may use; the others would be 130 MB.
KEEP_PROGRAMS='mysql mysqladmin mysqlbinlog mysqldump mysqlslap'

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# --- what is there ------------------------------------------------------------------------------

has_mariadb() {
    [ -n "${FAILSOFT_TEST_MARIADBD:-}" ] || has mariadbd || says_version mariadb mysqld
}

has_mysql() {
    [ -n "${FAILSOFT_TEST_MYSQLD:-}" ] || says_version mysql mysqld || has_launcher
}

has_launcher() { "$CACHE/mysql/mysqld" --version >/dev/null 2>&1; }

# Whether a program says that it is of this flavour; MariaDB installs a `mysqld` too.
says_version() {
    local flavor=$1 program=$2 version
    version=$("$program" --version 2>/dev/null) || return 1
    case $version in
        *MariaDB*) [ "$flavor" = mariadb ] ;;
        *) [ "$flavor" = mysql ] ;;
    esac
}

has_ed25519() {
    [ -n "${FAILSOFT_TEST_MARIADBD:-}" ] || [ -e "$CACHE/mariadb/plugin/auth_ed25519.so" ] ||
        [ -e "$(plugins_of_mariadb)/auth_ed25519.so" ]
}

plugins_of_mariadb() {
    mariadbd --no-defaults --help --verbose 2>/dev/null | awk '$1 == "plugin-dir" { print $2 }'
}

# What a network of the tests' own is made with.
has_network() { has ip && has nft && has unshare && has nsenter; }

has_compose() { has docker-compose || docker compose version >/dev/null 2>&1; }

docker_answers() { has docker && timeout 5 docker info >/dev/null 2>&1; }

# --- packages of the system ---------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_be_root() { [ "$(id -u)" = 0 ] || { has sudo && sudo -n true 2>/dev/null; }; }

# Installs packages, the first argument being the reason.
install() {
    local reason=$1 log status=0
    shift
    has apt-get || fail "$reason" "there is no apt-get here: install the equivalents of: $*"
    may_be_root || fail "$reason" "this needs root; run: sudo apt-get install --no-install-recommends $*"
    say "$reason: installing $* with apt-get"
    as_root apt-get -qq update || say 'apt-get update failed; trying with what is known'
    refuse_removals "$@"
    # Java's packages cannot be configured where an image was made without manual pages.
    [ -d /usr/share/man/man1 ] || as_root mkdir -p /usr/share/man/man1
    log=$(mktemp)
    without_services as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$@" >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || tail -n 40 "$log" >&2
    rm -f "$log"
    return "$status"
}

# A machine's own MySQL and MariaDB packages may exclude each other: never trade one for the other.
refuse_removals() {
    local removed
    removed=$(apt-get -s install --no-install-recommends "$@" | sed -n 's/^Remv \([^ ]*\).*/\1/p')
    [ -z "$removed" ] || fail "installing $* would remove" "$removed" 'decide that yourself, then run this again'
}

# Runs a command that installs packages while Debian's policy for services says: start none.
without_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    "$@" || status=$?
    as_root rm -f "$policy"
    return "$status"
}

install_mariadb() {
    # The core packages have the programs and no service.
    install "$1" mariadb-server-core mariadb-client-core
}

# Only the full package has the server's plugins, and it would set up a service: of the version that
# is installed, the plugin is taken out of it.
install_ed25519() {
    local version partial=$CACHE/mariadb.partial
    version=$(dpkg-query -W -f '${Version}' mariadb-server-core 2>/dev/null) ||
        fail 'tests log in by ed25519' "MariaDB's auth_ed25519.so is missing, and MariaDB is not Debian's"
    say "tests log in by ed25519: unpacking MariaDB's plugin into $CACHE/mariadb (4 MB to download)"
    rm -rf "$partial"
    mkdir -p "$partial"
    download_server "$partial" "$version" ||
        { may_be_root && as_root apt-get -qq update && download_server "$partial" "$version"; } ||
        fail "mariadb-server $version could not be downloaded; the output of apt-get is above"
    dpkg -x "$partial"/mariadb-server_*.deb "$partial/root"
    mkdir -p "$CACHE/mariadb/plugin"
    mv "$partial/root/usr/lib/mysql/plugin/auth_ed25519.so" "$CACHE/mariadb/plugin/"
    rm -rf "$partial"
}

# download_server FOLDER VERSION
download_server() {
    (cd "$1" && apt-get -qq -o "APT::Sandbox::User=$(id -un)" download "mariadb-server=$2")
}

install_haproxy() {
    install 'benchmarks compare with HAProxy' haproxy
    if has systemctl; then as_root systemctl --quiet disable haproxy 2>/dev/null || true; fi
}

has_promtool() {
    [ -n "${PROMTOOL:-}" ] || has promtool || "$CACHE/prometheus/promtool" --version >/dev/null 2>&1
}

# The package would set up a server: of all that is in it, alerts are tested with one program.
install_promtool() {
    local partial=$CACHE/prometheus.partial
    if ! { has apt-get && has dpkg; }; then
        fail 'alerts are tested with promtool' 'there is no apt-get here: install it and name it in PROMTOOL'
    fi
    say "alerts are tested with promtool: unpacking it into $CACHE/prometheus (19 MB to download, 48 MB on disk)"
    rm -rf "$partial"
    mkdir -p "$partial"
    download_prometheus "$partial" ||
        { may_be_root && as_root apt-get -qq update && download_prometheus "$partial"; } ||
        fail 'prometheus could not be downloaded; the output of apt-get is above'
    dpkg -x "$partial"/prometheus_*.deb "$partial/root"
    mkdir -p "$CACHE/prometheus"
    mv "$partial/root/usr/bin/promtool" "$CACHE/prometheus/"
    rm -rf "$partial"
    has_promtool || fail "promtool does not run: $("$CACHE/prometheus/promtool" --version 2>&1)"
}

# download_prometheus FOLDER
download_prometheus() {
    (cd "$1" && apt-get -qq -o "APT::Sandbox::User=$(id -un)" download prometheus)
}

# It asks cargo's registry for no more than Cargo.lock does; its checks of advisories are not among the tests.
install_deny() {
    say 'dependencies are checked: building cargo-deny with cargo install (some minutes, once)'
    cargo install --quiet --locked cargo-deny
}

# --- MariaDB's own tests, beside the system -----------------------------------------------------

# The suite belongs to one version of the server: it is fetched anew with a new one.
suite_version() { dpkg-query -W -f '${Version}' mariadb-server-core 2>/dev/null || true; }

has_suite() {
    local version
    version=$(suite_version)
    [ -n "${FAILSOFT_TEST_SUITE:-}" ] ||
        { [ -n "$version" ] && [ "$(cat "$CACHE/mariadb-test/version" 2>/dev/null)" = "$version" ]; }
}

install_suite() {
    local place=$CACHE/mariadb-test version folder package
    version=$(suite_version)
    if [ -z "$version" ]; then
        say "MariaDB is not Debian's here: name its test suite in FAILSOFT_TEST_SUITE to run it too"
        return
    fi
    say "tests run MariaDB's own tests too: unpacking them into $place (32 MB to download, 85 MB on disk)"
    rm -rf "$place.partial"
    mkdir -p "$place.partial/apt" "$place.partial/root"
    # Mirrors keep the latest only; another of the same series differs in a few cases.
    download_suite "$place.partial/apt" "=$version" || download_suite "$place.partial/apt" '' || {
        cat "$place.partial/apt/log" >&2
        fail "MariaDB's tests could not be downloaded" 'apt-get update may help'
    }
    for package in "$place.partial"/apt/*.deb; do
        dpkg -x "$package" "$place.partial/root"
    done
    folder=$place.partial/root/usr
    find "$folder/bin" ! -name mariadb-test ! -name mysqltest ! -path "$folder/bin" -delete
    rm -rf "$folder"/share/{doc,man,lintian} "$folder"/lib/mysql \
        "$folder"/share/mysql/mysql-test/{suite,plugin,lib,collections} "$place.partial/apt"
    printf '%s\n' "$version" >"$place.partial/version"
    rm -rf "$place"
    mv "$place.partial" "$place"
}

# download_suite FOLDER VERSION
download_suite() {
    (cd "$1" && apt-get -qq download "mariadb-test$2" "mariadb-test-data$2" libpcre2-posix3) >"$1/log" 2>&1
}

# --- drivers --------------------------------------------------------------------------------------

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
REQUIREMENTS=$HERE/tests/drivers/python/requirements.txt

# The packages of this list that are not installed; a tool that came otherwise is not asked about.
missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$package"
    done
}

install_packages() {
    local reason=$1 missing
    shift
    if ! has dpkg-query; then
        say "$reason: there is no dpkg here; what is missing of these is skipped: $*"
        return
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    if [ -n "$missing" ] && ! may_be_root; then
        say "$reason: skipping those that need root; to have them: sudo apt-get install --no-install-recommends $missing"
        return
    fi
    # shellcheck disable=SC2086 # names of packages have no spaces
    [ -z "$missing" ] || install "$reason" $missing
}

# Python's drivers, from PyPI, in a folder of their own; mysqlclient is the system's.
install_python_drivers() {
    local folder=$CACHE/drivers
    if cmp -s "$REQUIREMENTS" "$folder/requirements.txt"; then return; fi
    say "tests run Python's drivers, steer a browser and try the API: installing what they need with pip into $folder (60 MB to download, 300 MB on disk)"
    mkdir -p "$CACHE"
    rm -rf "$folder"
    /usr/bin/python3 -m venv --system-site-packages "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$REQUIREMENTS"
    cp "$REQUIREMENTS" "$folder/requirements.txt"
}

install_drivers() {
    install_packages 'tests run drivers of PHP, Perl, Ruby and Python, and programs that dump' \
        php-cli php-mysql libdbd-mysql-perl libdbd-mariadb-perl ruby-mysql2 python3-mysqldb \
        python3-venv mariadb-client mydumper
    install_python_drivers
}

# A browser for the console, with a font to show it in.
has_browser() { has chromium && has chromedriver; }

install_browser() {
    install_packages 'the console is opened in a browser (100 MB to download, 350 MB on disk)' \
        chromium chromium-driver fonts-dejavu-core
}

install_heavy_drivers() {
    install_packages 'tests run drivers of Go and Java' \
        golang-go golang-github-go-sql-driver-mysql-dev default-jdk-headless libmariadb-java
    fetch_sqlx
}

fetch_sqlx() {
    local fetch=(cargo fetch --quiet --locked --manifest-path "$HERE/tests/drivers/sqlx/Cargo.toml")
    if "${fetch[@]}" --offline 2>/dev/null; then return; fi
    say 'tests run sqlx: fetching it with cargo (10 MB to download)'
    "${fetch[@]}"
}

# --- MySQL, beside the system -------------------------------------------------------------------

install_mysql() {
    local reason='tests run against Oracle MySQL too, which is in Debian unstable'
    if ! { has apt-get && has dpkg; }; then
        fail "$reason" 'there is no apt-get here: install MySQL 8.4 or later and name it in FAILSOFT_TEST_MYSQLD'
    fi
    [ -e "$KEYRING" ] || install "$reason, whose signatures need Debian's keys" debian-archive-keyring
    say "$reason: unpacking it into $CACHE/mysql (60 MB to download, 240 MB on disk)"
    mkdir -p "$CACHE"
    exec 9>"$CACHE/mysql.lock"
    flock 9
    if has_launcher; then return; fi
    rm -rf "$CACHE/mysql.partial"
    download_unstable "$CACHE/mysql.partial/apt" mysql-server-core mysql-client-core
    unpack_unstable "$CACHE/mysql.partial/apt" "$CACHE/mysql.partial/root"
    keep_programs "$CACHE/mysql.partial/root"
    write_launchers "$CACHE/mysql.partial"
    rm -rf "$CACHE/mysql.partial/apt" "$CACHE/mysql"
    mv "$CACHE/mysql.partial" "$CACHE/mysql"
    has_launcher || fail "MySQL does not run: $("$CACHE/mysql/mysqld" --version 2>&1)"
    say "$("$CACHE/mysql/mysqld" --version)"
}

# download_unstable FOLDER PACKAGE…: downloads packages of Debian unstable and all they depend on, libc
# included, with an apt state of its own.
download_unstable() {
    local apt=$1 mirror mirrors
    shift
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    # Its helper scripts in Perl are not needed; a status that has Perl keeps it from coming.
    cat >"$apt/status" <<EOF
Package: perl
Status: install ok installed
Version: 999
Architecture: $(dpkg --print-architecture)
Multi-Arch: allowed
Maintainer: none
Description: none
EOF
    cat >"$apt/apt.conf" <<EOF
Dir::State "$apt/state/";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache/";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
EOF
    mirrors=$({ printf '%s\n' "${FAILSOFT_MIRROR:-}" && system_mirror; } | awk 'NF && !seen[$0]++')
    [ -n "$mirrors" ] || fail "the system's apt sources name no Debian mirror" \
        "name one: FAILSOFT_MIRROR=http://HOST/debian"
    for mirror in $mirrors; do
        echo "deb [signed-by=$KEYRING] $mirror sid main" >"$apt/sources.list"
        if private_apt "$apt" update && private_apt "$apt" install -y --download-only "$@"; then
            return
        fi
        say "could not get $* from $mirror"
    done
    fail "$* could not be downloaded; the output of apt-get is above"
}

private_apt() {
    local apt=$1
    shift
    APT_CONFIG=$apt/apt.conf apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$apt/log" 2>&1 || {
        cat "$apt/log" >&2
        return 1
    }
}

# The Debian mirror of the system's own sources, if it names one.
system_mirror() {
    find /etc/apt \( -name '*.list' -o -name '*.sources' \) \
        -exec sed -n -e '/^\(deb\|URIs:\)/p' {} + 2>/dev/null |
        grep -oE '[a-z+]+:/[^ ]+/debian/?( |$)' | head -n 1 | sed 's,/* *$,,' || true
}

# Unpacks the packages; no script of theirs is run.
unpack_unstable() {
    local apt=$1 root=$2 package
    mkdir -p "$root"
    for package in "$apt"/cache/archives/*.deb; do
        dpkg -x "$package" "$root"
    done
    rm -rf "$root"/usr/share/{doc,man,lintian,locale,perl5,bash-completion,bug,i18n}
}

keep_programs() {
    local root=$1 program
    for program in "$root"/usr/bin/*; do
        case " $KEEP_PROGRAMS " in
            *" ${program##*/} "*) ;;
            *) rm -f "$program" ;;
        esac
    done
}

# Writes scripts that become the program, run by the loader that it was built for, so that it
# needs no chroot and a signal to its process id reaches it.
write_launchers() {
    local folder=$1 loader program
    loader=$(loader_in "$folder")
    # shellcheck disable=SC2016 # the launcher expands it
    launcher "$folder/mysqld" "$loader" usr/sbin/mysqld ' --basedir="$here/root/usr"'
    for program in $KEEP_PROGRAMS; do
        launcher "$folder/$program" "$loader" "usr/bin/$program" ''
    done
}

loader_in() {
    local loader
    loader=$(cd "$1" && find root/usr/lib -name 'ld-linux*.so.*' | head -n 1)
    [ -n "$loader" ] || fail 'the C library that was unpacked has no loader'
    printf '%s\n' "$loader"
}

# launcher FILE LOADER PROGRAM LAST-ARGUMENT: options such as --no-defaults have to stay first.
launcher() {
    cat >"$1" <<EOF
#!/bin/sh
here=\$(CDPATH='' cd -- "\$(dirname -- "\$0")" && pwd)
exec "\$here/$2" --library-path "\$here/${2%/*}" "\$here/root/$3" "\$@"$4
EOF
    chmod 755 "$1"
}

# --- MySQL Router, beside the system ---------------------------------------------------------------

has_router() { has mysqlrouter || "$CACHE/router/mysqlrouter" --version >/dev/null 2>&1; }

install_router() {
    local partial=$CACHE/router.partial loader
    say "benchmarks compare with MySQL Router, which is in Debian unstable: unpacking it into $CACHE/router (30 MB to download, 95 MB on disk)"
    mkdir -p "$CACHE"
    rm -rf "$partial"
    download_unstable "$partial/apt" mysql-router
    unpack_unstable "$partial/apt" "$partial/root"
    loader=$(loader_in "$partial")
    cat >"$partial/mysqlrouter" <<EOF
#!/bin/sh
here=\$(CDPATH='' cd -- "\$(dirname -- "\$0")" && pwd)
libraries=\$here/${loader%/*}:\$here/root/usr/lib/mysql-router
exec "\$here/$loader" --library-path "\$libraries" "\$here/root/usr/bin/mysqlrouter" "\$@"
EOF
    chmod 755 "$partial/mysqlrouter"
    rm -rf "$partial/apt" "$CACHE/router"
    mv "$partial" "$CACHE/router"
    has_router || fail "MySQL Router does not run: $("$CACHE/router/mysqlrouter" --version 2>&1)"
}

# --- mdBook, beside the system ---------------------------------------------------------------------

# It needs a mount that only it sees.
can_mount() { unshare --map-root-user --mount sh -c 'mount --bind /usr/share /usr/share' 2>/dev/null; }

has_mdbook() { has mdbook || "$CACHE/mdbook/mdbook" --version >/dev/null 2>&1; }

install_mdbook() {
    local partial=$CACHE/mdbook.partial loader reason='the documentation is made a book with mdBook, which is in Debian unstable'
    if ! { has apt-get && has dpkg && can_mount; }; then
        fail "$reason" 'there is no apt-get here, or no user namespace: install mdBook 0.5 or later, https://rust-lang.github.io/mdBook'
    fi
    [ -e "$KEYRING" ] || install "$reason, whose signatures need Debian's keys" debian-archive-keyring
    say "$reason: unpacking it into $CACHE/mdbook (20 MB to download, 66 MB on disk)"
    mkdir -p "$CACHE"
    rm -rf "$partial"
    download_unstable "$partial/apt" mdbook
    unpack_unstable "$partial/apt" "$partial/root"
    loader=$(loader_in "$partial")
    # It looks for its icons in /usr/share only, so it is shown its own there, and nobody else is.
    cat >"$partial/mdbook" <<EOF
#!/bin/sh
here=\$(CDPATH='' cd -- "\$(dirname -- "\$0")" && pwd)
exec unshare --map-root-user --mount sh -c 'mount --bind "\$0/root/usr/share" /usr/share && exec "\$@"' "\$here" \\
    "\$here/$loader" --library-path "\$here/${loader%/*}" "\$here/root/usr/bin/mdbook" "\$@"
EOF
    chmod 755 "$partial/mdbook"
    rm -rf "$partial/apt" "$CACHE/mdbook"
    mv "$partial" "$CACHE/mdbook"
    has_mdbook || fail "mdBook does not run: $("$CACHE/mdbook/mdbook" --version 2>&1)"
}

# --- what to do ---------------------------------------------------------------------------------

need_cargo() {
    has cargo || fail 'cargo is missing: install Rust with rustup, see https://rustup.rs'
}

setup_demo() {
    need_cargo
    has_mariadb || has_mysql || install_mariadb 'the demo needs a database server'
}

setup_test() {
    need_cargo
    has_mariadb || install_mariadb 'tests run against MariaDB'
    has_ed25519 || install_ed25519
    has_suite || install_suite
    has_mysql || install_mysql
    has haproxy || install_haproxy
    has_network || install_packages 'tests break the cables of a network of their own' \
        iproute2 nftables util-linux
    if ! { has_compose && has debootstrap; } && docker_answers; then
        has_compose || install 'tests start docker-compose.yml' docker-compose
        has debootstrap || install 'images are built from a base made here where none can be pulled' debootstrap
    fi
}

setup_bench() {
    setup_test
    has_router || install_router
    has strace || install 'system calls are counted' strace
}

setup_guard() {
    need_cargo
    has_mariadb || install_mariadb 'instructions are counted with MariaDB behind failsoft'
    has valgrind || install 'instructions are counted' valgrind
}

setup_book() {
    has_mdbook || install_mdbook
}

setup_drivers() {
    setup_test
    setup_guard
    has cargo-deny || install_deny
    has_promtool || install_promtool
    # Where it cannot be run, the book is skipped.
    if has mdbook || can_mount; then setup_book; fi
    has_browser || install_browser
    has dpkg-shlibdeps || install_packages 'a Debian package is built' dpkg-dev
    { has curl && has jq && has openssl; } ||
        install_packages 'commands of the documentation are run' curl jq openssl
    install_drivers
}

setup_all_drivers() {
    setup_drivers
    install_heavy_drivers
}

case ${1:-} in
    demo) setup_demo ;;
    test) setup_test ;;
    bench) setup_bench ;;
    guard) setup_guard ;;
    book) setup_book ;;
    drivers) setup_drivers ;;
    all-drivers) setup_all_drivers ;;
    *) fail 'usage: scripts/setup.sh demo|test|bench|guard|book|drivers|all-drivers' ;;
esac
