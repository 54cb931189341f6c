#!/bin/sh
# go-zookeeper/zk, unmodified, against the servers at ZK_HOSTS (host:port,...). Builds into ../.cache, prints a line a case.
# The server wants `extendedTypesEnabled=true` (TTL nodes) and `4lw.commands.whitelist=*`. A word picks cases: run.sh lock
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${ZK_HOSTS:?host:port,... of the servers under test}"
mkdir -p "$here/../.cache/go"
cd "$here"
go build -mod=readonly -o ../.cache/go/suite . >&2
exec ../.cache/go/suite "$@"
