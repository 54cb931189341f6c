#!/usr/bin/env bash
# Debian's libzookeeper-mt, unmodified, against the servers at ZK_HOSTS (host:port,...). Builds into ../.cache, prints a line a case.
# Arguments: parts of case names; none means all. CLIENT_LOG=1 shows the library's own log.
# The server must allow what scripts/zookeeper.sh start --difftest sets: TTL nodes, container check every 2 s.
set -euo pipefail
: "${ZK_HOSTS:?host:port,... of the servers under test}"
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../.cache/c

if ! command -v cc >/dev/null || [ ! -e /usr/include/zookeeper/zookeeper.h ]; then
  apt-get -qq update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y gcc libc6-dev libzookeeper-mt-dev >&2
fi

mkdir -p "$out"
if [ ! -e "$out/suite" ] || [ -n "$(find "$here" -name '*.[ch]' -newer "$out/suite" -print -quit)" ]; then
  cc -std=gnu11 -O1 -g -Wall -Wextra -Werror -DTHREADED -o "$out/suite" "$here"/*.c -lzookeeper_mt -lpthread >&2 ||
    { echo "FAIL c.build: the compiler refused"; echo "0 passed, 1 failed"; exit 1; }
fi
exec "$out/suite" "$@"
