#!/usr/bin/env bash
# A real Apache ZooKeeper to measure ourselves against: fetched from Maven, started and stopped by process id.
#
#   scripts/zookeeper.sh fetch                                     jars into the cache (does nothing when they are there)
#   scripts/zookeeper.sh start [--servers N] [--difftest | --race] PORT DATADIR [LINE...]
#                                                                  one standalone server; LINEs go into its zoo.cfg
#   scripts/zookeeper.sh again DATADIR ID                          one server of an ensemble once more, on its data
#   scripts/zookeeper.sh stop DATADIR                              ends it or them, waits until they are gone
#
# `start` returns once the server answers `srvr`. DATADIR then holds zoo.cfg, zookeeper.pid and zookeeper.log. With
# --servers N it is an ensemble of N, and DATADIR holds ID.cfg, ID.pid, ID.log and the data ID/ of each; from PORT on each
# takes three ports, the first one for clients. `again` does not wait.
# --difftest: the settings under which difftest compares two servers (super:test, TTL nodes, fast containers, every
# four-letter word, reconfig). --race: as one would run it for speed: G1, the optimising compiler, 4 GiB of heap, a listen
# backlog of 4096. Environment: ZOOKEEPER_VERSION, ZOOKEEPER_CACHE, ZOOKEEPER_HEAP (default 256m).
set -euo pipefail

. "$(dirname "$0")/lib.sh"
version=${ZOOKEEPER_VERSION:-3.9.5}
cache=${ZOOKEEPER_CACHE:-$root/target/zookeeper}
jars=$cache/$version

need_java() {
  command -v java >/dev/null && command -v mvn >/dev/null && return
  echo "zookeeper.sh: installing a JDK and Maven" >&2
  apt-get -qq update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y openjdk-17-jdk-headless maven >&2
}

# ZooKeeper's own pom leaves what only a server needs (metrics, snappy, logback) as 'provided': name it here.
write_pom() {
  cat >"$1" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ringkeeper.tests</groupId><artifactId>zookeeper-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>$version</version></dependency>
    <dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version></dependency>
    <dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version></dependency>
    <dependency><groupId>ch.qos.logback</groupId><artifactId>logback-classic</artifactId><version>1.3.15</version></dependency>
  </dependencies>
</project>
POM
}

fetch() {
  [ -e "$jars/.complete" ] && return
  need_java
  mkdir -p "$cache"
  local work
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  write_pom "$work/pom.xml"
  mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/jars" \
    -DincludeScope=runtime >"$work/mvn.log" 2>&1 || { cat "$work/mvn.log" >&2; die "Maven could not fetch ZooKeeper $version"; }
  touch "$work/jars/.complete"
  rm -rf "$jars"
  mv -T "$work/jars" "$jars" || [ -e "$jars/.complete" ] || die "cannot put the jars at $jars"
  rm -rf "$work"
}

answers() { # PORT: does a server that serves answer there?
  (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf srvr >&3 && timeout 2 cat <&3) 2>/dev/null | grep -q '^Mode:'
}

# DIR CFG LOG PIDFILE: starts a server with that configuration and the flags that DIR remembers.
launch() {
  local -a flags
  mapfile -t flags <"$1/flags"
  nohup java "${flags[@]}" -Dlogback.configurationFile="$1/logback.xml" -cp "$jars/*" \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$2" </dev/null >>"$3" 2>&1 &
  echo $! >"$4"
}

start() {
  local difftest='' race='' servers=''
  while :; do
    case "${1:-}" in
      --servers) servers=${2:-}; shift 2 ;;
      --difftest) difftest=1; shift ;;
      --race) race=1; shift ;;
      *) break ;;
    esac
  done
  [ $# -ge 2 ] || die "start [--servers N] [--difftest | --race] PORT DATADIR [LINE...]"
  local port=$1 dir=$2 id
  shift 2
  fetch
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  local pidfile
  for pidfile in "$dir"/*.pid; do
    [ -e "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null && die "one already runs from $dir"
  done
  for id in $(seq "${servers:-1}"); do
    answers "$(client_port "$port" "$id")" && die "something already serves on port $(client_port "$port" "$id")"
  done
  local -a flags=(-Xmx"${ZOOKEEPER_HEAP:-256m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dzookeeper.admin.enableServer=false)
  if [ -n "$race" ]; then
    flags=(-Xms"${ZOOKEEPER_HEAP:-4g}" -Xmx"${ZOOKEEPER_HEAP:-4g}" -XX:+UseG1GC -XX:MaxGCPauseMillis=50
      -Dzookeeper.admin.enableServer=false)
    set -- "$@" clientPortListenBacklog=4096 autopurge.purgeInterval=0
  fi
  if [ -n "$difftest" ]; then
    set -- maxClientCnxns=0 reconfigEnabled=true extendedTypesEnabled=true '4lw.commands.whitelist=*' \
      DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU= "$@"
    # This key is read as a bare system property; a line of zoo.cfg would become zookeeper.znode... and be ignored.
    flags+=(-Dznode.container.checkIntervalMs=2000)
  else
    set -- maxClientCnxns=0 '4lw.commands.whitelist=srvr,ruok,stat,mntr,isro' "$@"
  fi
  printf '%s\n' "${flags[@]}" >"$dir/flags"
  cat >"$dir/logback.xml" <<'XML'
<configuration>
  <appender name="CONSOLE" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5p %c{1} - %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="CONSOLE"/></root>
</configuration>
XML
  if [ -n "$servers" ]; then
    write_ensemble "$dir" "$servers" "$port" "$@"
    for id in $(seq "$servers"); do again "$dir" "$id"; done
    for id in $(seq "$servers"); do
      await_member "$dir" "$id" "$port" 90 || { stop "$dir"; die "the ensemble did not start"; }
    done
    return
  fi
  printf '%s\n' tickTime=2000 initLimit=10 syncLimit=5 "dataDir=$dir/data" "clientPort=$port" clientPortAddress=127.0.0.1 \
    "$@" >"$dir/zoo.cfg"
  pidfile=$dir/zookeeper.pid
  : >"$dir/zookeeper.log"
  launch "$dir" "$dir/zoo.cfg" "$dir/zookeeper.log" "$pidfile"
  local pid deadline=$((SECONDS + 60))
  pid=$(cat "$pidfile")
  until answers "$port"; do
    kill -0 "$pid" 2>/dev/null || { tail -20 "$dir/zookeeper.log" >&2; rm -f "$pidfile"; die "it ended at once"; }
    [ $SECONDS -lt $deadline ] || { kill "$pid"; rm -f "$pidfile"; die "no answer on port $port within 60 s"; }
    sleep 0.1
  done
}

again() {
  [ $# -eq 2 ] || die "again DATADIR ID"
  local dir
  dir=$(cd "$1" && pwd)
  launch "$dir" "$dir/$2.cfg" "$dir/$2.log" "$dir/$2.pid"
}

stop() {
  [ $# -eq 1 ] || die "stop DATADIR"
  local pidfile pid deadline
  for pidfile in "$1"/*.pid; do
    [ ! -e "$pidfile" ] || kill "$(cat "$pidfile")" 2>/dev/null || true
  done
  for pidfile in "$1"/*.pid; do
    [ -e "$pidfile" ] || continue
    pid=$(cat "$pidfile")
    deadline=$((SECONDS + 10))
    until ended "$pid"; do
      [ $SECONDS -lt $deadline ] || { kill -9 "$pid" 2>/dev/null || true; deadline=$((SECONDS + 10)); }
      sleep 0.1
    done
    rm -f "$pidfile"
  done
}

case "${1:-}" in
  fetch | start | again | stop) "$@" ;;
  *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
