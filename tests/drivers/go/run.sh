#!/bin/sh
# Runs the program of go-sql-driver/mysql with Debian's packages, and no module of the network's.
cd -- "$(dirname -- "$0")" && GO111MODULE=off GOPATH=/usr/share/gocode exec go run main.go "$@"
