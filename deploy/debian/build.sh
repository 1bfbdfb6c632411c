#!/usr/bin/env bash
# Builds failsoft's Debian package, and prints where it is.
#
#   deploy/debian/build.sh           with a release build of this checkout
#   FAILSOFT_BINARY=FILE deploy/debian/build.sh
#                                    with an executable that is built already, elsewhere
#   FAILSOFT_BUILT=1 deploy/debian/build.sh
#                                    with the release build of this checkout that is there already
#
# Needs cargo, a C compiler and dpkg-dev; installs cargo-deb with cargo where it is missing. The package
# runs on Debian of this machine's release and later: it needs the libc that it was linked with.
set -euo pipefail
cd "$(dirname "$0")/../.."

PATH=$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin
CARGO=${CARGO:-cargo}
# Where cargo builds, and where [package.metadata.deb] expects what the executable writes about itself.
target=${CARGO_TARGET_DIR:-target}
readonly assets=target/assets

say() { printf 'deb: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

command -v dpkg-shlibdeps >/dev/null ||
    fail 'dpkg-shlibdeps is missing, which finds the libraries that failsoft needs: apt-get install dpkg-dev'
if ! "$CARGO" deb --version >/dev/null 2>&1; then
    say 'cargo-deb is missing; installing it: cargo install --locked cargo-deb'
    "$CARGO" install --locked cargo-deb >&2
fi

if [ -n "${FAILSOFT_BINARY:-}" ]; then
    # Not where cargo builds, which would take it for its own.
    target=target/deb
    export CARGO_TARGET_DIR=$PWD/$target
    mkdir -p "$target/release"
    cp "$FAILSOFT_BINARY" "$target/release/failsoft"
elif [ -z "${FAILSOFT_BUILT:-}" ]; then
    "$CARGO" build --locked --release -p failsoft >&2
fi

# The executable describes itself, so that pages and completions are those of this version.
binary=$target/release/failsoft
rm -rf "$assets"
mkdir -p "$assets/man" "$assets/completions"
"$binary" man "$assets/man"
"$binary" completions bash >"$assets/completions/failsoft.bash"
"$binary" completions zsh >"$assets/completions/_failsoft"
"$binary" completions fish >"$assets/completions/failsoft.fish"
[ -s "$assets/man/failsoft.1" ] || fail "failsoft man wrote no failsoft.1 into $assets/man"

# It warns that it does not build what is in target/assets, which is so. It prints the paths of both packages;
# the other has the debug information.
"$CARGO" deb -p failsoft --no-build --locked | grep '\.deb$'
