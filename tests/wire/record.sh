#!/usr/bin/env bash
# Records frames.txt anew from real ZooKeeper servers: one alone, an ensemble of one, and one cut off from its quorum.
# They are fetched, started and stopped by scripts/zookeeper.sh. Read the diff: times, zxids, session ids and passwords
# always differ, and nothing else should.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
zookeeper=$here/../../scripts/zookeeper.sh
work=$(mktemp -d)
trap 'for one in alone many shut; do "$zookeeper" stop "$work/$one" || true; done; rm -rf "$work"' EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
alone=$(free_port) many=$(free_port) shut=$(free_port)
super=DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
mkdir -p "$work/alone" "$work/many/data" "$work/shut/data"
echo 1 >"$work/many/data/myid"
echo 1 >"$work/shut/data/myid"
cat >"$work/jaas.conf" <<'JAAS'
Server {
  org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="secret";
};
JAAS

JAVA_TOOL_OPTIONS=-Djava.security.auth.login.config=$work/jaas.conf "$zookeeper" start "$alone" "$work/alone" \
  extendedTypesEnabled=true enforceQuota=true reconfigEnabled=true "$super" \
  authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider
"$zookeeper" start "$many" "$work/many" standaloneEnabled=false reconfigEnabled=true "$super" \
  "server.1=127.0.0.1:$(free_port):$(free_port):participant"
# Its peers do not exist, so it never has a quorum. Sessions of a read-only server are local ones.
JAVA_TOOL_OPTIONS=-Dreadonlymode.enabled=true "$zookeeper" start "$shut" "$work/shut" localSessionsEnabled=true \
  "server.1=127.0.0.1:$(free_port):$(free_port)" server.2=127.0.0.1:1:2 server.3=127.0.0.1:3:4

python3 "$here/record.py" "$work/frames.txt" "127.0.0.1:$alone" "127.0.0.1:$many" "127.0.0.1:$shut"
mv "$work/frames.txt" "$here/frames.txt"
