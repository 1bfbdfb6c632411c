#!/bin/sh
# Builds and runs the program of sqlx, with the versions of its lock file.
cd -- "$(dirname -- "$0")" && exec "${CARGO:-cargo}" run --quiet --locked -- "$@"
