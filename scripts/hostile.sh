#!/usr/bin/env bash
# Malformed and hostile inputs on the client port, with every I/O driver: an honest session must be served all the time.
#
#   scripts/hostile.sh [DRIVER...]        default: uring epoll
#
# hostile.py is not part of this repository: HOSTILE says where it is (default ../shared/tools/hostile.py beside the
# checkout). Also fails when the server's memory grows by more than 64 MiB or the server ends. HOSTILE_ARGS: more flags
# for the server; HOSTILE_ONLY: only cases whose name holds this.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

growth_max_kib=$((64 * 1024))
tool=${HOSTILE:-$root/../shared/tools/hostile.py}
[ -e "$tool" ] || skip "no hostile.py at ${HOSTILE:-../shared/tools/hostile.py} (set HOSTILE)"
need_binary

work=$(mktemp -d)
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

[ $# -gt 0 ] || set -- uring epoll
passed=0
failed=0
for driver in "$@"; do
  port=$(free_port)
  # shellcheck disable=SC2086  # HOSTILE_ARGS is a list
  if ! start_ringkeeper "$work/$driver" "$port" --io "$driver" ${HOSTILE_ARGS:-}; then
    if [ "$driver" = uring ]; then
      echo "SKIPPED: the io_uring driver does not start here"
      server_pid=
      continue
    fi
    die "ringkeeper did not start with --io $driver"
  fi
  before=$(rss_kib "$server_pid")
  echo "hostile inputs, driver $driver, port $port"
  python3 -B "$tool" 127.0.0.1 "$port" --strict --pid "$server_pid" ${HOSTILE_ONLY:+--only "$HOSTILE_ONLY"} | tee "$work/out" || true
  if read -r ok bad < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$work/out" | tail -1); then
    passed=$((passed + ok))
    failed=$((failed + bad))
  else
    echo "hostile.py gave no result"
    failed=$((failed + 1))
  fi
  if kill -0 "$server_pid" 2>/dev/null; then
    grown=$(($(rss_kib "$server_pid") - before))
    echo "driver $driver: memory grew by $((grown / 1024)) MiB"
    [ $grown -le $growth_max_kib ] || { echo "more than $((growth_max_kib / 1024)) MiB"; failed=$((failed + 1)); }
    stop_server "$server_pid" || failed=$((failed + 1))
  else
    echo "the server ended:"
    tail -20 "$work/$driver/server.log"
    failed=$((failed + 1))
  fi
  server_pid=
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
