#!/usr/bin/env bash
# Sees to it that the image debian:bookworm-slim exists.
#
# In this order: it is here already; it can be pulled; it is made from Debian's packages with
# debootstrap and imported, from the mirror that this system's apt uses. The last needs root and
# debootstrap.
set -euo pipefail

readonly image=${1:-debian:bookworm-slim}
readonly suite=bookworm

say() { printf 'base-image: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

# The first mirror in the system's apt sources that looks like Debian's main archive.
system_mirror() {
  local found
  found=$(
    {
      sed -n -E 's/^deb(-src)?[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\3/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.list
      sed -n -E 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' /etc/apt/sources.list.d/*.sources
    } 2>/dev/null | grep -E '^https?://.*/debian/?$' | head -n 1
  ) || true
  found=${FAILSOFT_MIRROR:-$found}
  [ -n "$found" ] || fail "no Debian mirror in the apt sources; name one in FAILSOFT_MIRROR"
  printf '%s\n' "$found"
}

# Removes from a root file system what a slim image does not carry.
slim_down() {
  local root=$1
  rm -rf "$root"/usr/share/{doc,man,info,locale}/* "$root"/var/cache/apt/* \
    "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
  # Package installs in a container neither start services nor keep their archives.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  printf 'path-exclude /usr/share/%s/*\n' doc man info locale \
    >"$root/etc/dpkg/dpkg.cfg.d/slim"
  printf 'APT::Keep-Downloaded-Packages "false";\n' >"$root/etc/apt/apt.conf.d/slim"
}

write_sources() {
  local root=$1 mirror=$2
  {
    printf 'deb %s %s main\n' "$mirror" "$suite"
    printf 'deb %s %s-updates main\n' "$mirror" "$suite"
    printf 'deb %s %s-security main\n' "${mirror%/debian}/debian-security" "$suite"
  } >"$root/etc/apt/sources.list"
}

build() {
  local mirror root
  [ "$(id -u)" -eq 0 ] || fail "$image cannot be pulled, and making it with debootstrap needs root"
  command -v debootstrap >/dev/null || fail "$image cannot be pulled, and debootstrap is missing (apt-get install debootstrap)"
  mirror=$(system_mirror)
  mirror=${mirror%/}
  root=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder is known now, and a local name is gone at exit
  trap "rm -rf --one-file-system '$root'" EXIT
  say "$image cannot be pulled; making it with debootstrap from $mirror"
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
    {
      tail -n 20 "$root.log" >&2
      rm -f "$root.log"
      fail "debootstrap failed"
    }
  rm -f "$root.log"
  write_sources "$root" "$mirror"
  slim_down "$root"
  tar -C "$root" --numeric-owner --one-file-system -c . |
    docker import --change 'CMD ["bash"]' - "$image" >/dev/null
  say "$image is made"
}

if docker image inspect "$image" >/dev/null 2>&1; then
  say "$image is here"
elif timeout 120 docker pull --quiet "$image" >/dev/null 2>&1; then
  say "$image is pulled"
else
  build
fi
