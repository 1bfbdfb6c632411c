#!/usr/bin/env bash
# Puts a failsoft built on this machine, and the recipe of its image, into target/compose, the
# build context for FAILSOFT_CONTEXT. Faster than building in a container, and possible where the
# rust image cannot be pulled; the machine's libc must not be newer than Debian bookworm's.
# FAILSOFT_BINARY names one that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly context=target/compose
binary=${FAILSOFT_BINARY:-}
if [ -z "$binary" ]; then
  make --no-print-directory build
  binary=${CARGO_TARGET_DIR:-target}/debug/failsoft
fi

mkdir -p "$context"
# Debug information is most of the file, and the image has no use for it.
strip -o "$context/failsoft.new" "$binary" 2>/dev/null || cp "$binary" "$context/failsoft.new"
chmod 755 "$context/failsoft.new"
mv "$context/failsoft.new" "$context/failsoft"
cp deploy/compose/Dockerfile.failsoft "$context/Dockerfile"
