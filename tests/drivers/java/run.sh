#!/bin/sh
# Runs the program of MariaDB Connector/J with Debian's packages.
cd -- "$(dirname -- "$0")" &&
    exec java -Xshare:auto -XX:TieredStopAtLevel=1 -cp /usr/share/java/mariadb-java-client.jar Main.java "$@"
