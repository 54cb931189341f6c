#!/usr/bin/env bash
# Builds the Java cases when they changed and runs them against the servers at ZK_HOSTS (host:port,...).
# Arguments: parts of case names; none means all. JOBS=1 runs one at a time, CLIENT_LOG=info shows the client's own log.
# The server must allow what scripts/zookeeper.sh start --difftest sets: TTL nodes, container check every 2 s, super:test.
set -euo pipefail
: "${ZK_HOSTS:?host:port,... of the servers under test}"
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../.cache/java

if ! command -v mvn >/dev/null || ! command -v javac >/dev/null; then
  apt-get -qq update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y openjdk-17-jdk-headless maven >&2
fi

if [ ! -e "$out/.built" ] || [ -n "$(find "$here/src" "$here/pom.xml" -newer "$out/.built" -print -quit)" ]; then
  mkdir -p "$out"
  mvn -q -B -f "$here/pom.xml" compile dependency:copy-dependencies -DoutputDirectory="$out/jars" >"$out/mvn.log" 2>&1 ||
    { cat "$out/mvn.log" >&2; echo "FAIL java.build: Maven failed"; echo "0 passed, 1 failed"; exit 1; }
  touch "$out/.built"
fi

exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dorg.slf4j.simpleLogger.defaultLogLevel="${CLIENT_LOG:-off}" -Djute.maxbuffer=4194304 \
  -cp "$out/classes:$out/jars/*" ringkeeper.clients.Main "$@"
