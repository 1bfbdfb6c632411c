#!/bin/sh
# Starts MariaDB as ROLE (master or replica). Everything it runs at start may run again.
set -eu

data=/var/lib/mysql
setup=/tmp/setup.sql

case ${ROLE:-} in
  master) set -- --server-id=1 ;;
  replica) set -- --server-id=2 --read-only=ON --skip-slave-start ;;
  *)
    echo "ROLE is '${ROLE:-}', expected master or replica" >&2
    exit 2
    ;;
esac

if [ ! -e "$data/.complete" ]; then
  find "$data" -mindepth 1 -delete
  mariadb-install-db --datadir="$data" --skip-test-db --skip-log-bin \
    --auth-root-authentication-method=socket >/dev/null
  touch "$data/.complete"
fi

# Read by the server itself once it runs, one statement per line.
cp /etc/failsoft/accounts.sql "$setup"
[ "$ROLE" != replica ] || cat /etc/failsoft/replica.sql >>"$setup"

exec mariadbd --datadir="$data" --init-file="$setup" "$@"
