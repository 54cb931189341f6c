#!/usr/bin/env bash
# One short run of the server under the load generator, with every kind of result: not a measurement, a proof that the
# two work together and that nothing is lost between them. Last line: N passed, N failed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_binary
load=${RINGKEEPER_LOAD:-$root/target/debug/ringkeeper-load}
# What lies there may be older than its source.
[ -n "${RINGKEEPER_LOAD:-}" ] || (cd "$root" && cargo build --quiet --locked -p ringkeeper-load)

work=$(mktemp -d)
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
port=$(free_port)
start_ringkeeper "$work/ringkeeper" "$port" --set maxClientCnxns=0 || die "ringkeeper did not start"

passed=0 failed=0
check() { # NAME COMMAND...
  local what=$1
  shift
  if "$@" >"$work/out" 2>&1; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED: $what"
    tail -15 "$work/out"
  fi
}
# 3: INVALID, because a busy machine held the load generator up. The counts are right all the same.
run() { "$load" "$@" -s "127.0.0.1:$port" --pid "$server_pid" -q || [ $? = 3 ]; }
counts() { # FILE DUE
  python3 - "$@" <<'PY'
import json, sys
result = json.load(open(sys.argv[1]))
counts = result["counts"]
assert counts["due"] == counts["answered"] == int(sys.argv[2]) and counts["errors"] == 0, counts
assert result["servers"][0]["cpu_us_per_op"] > 0
PY
}

mix=get=5,set=2,create=1,create-delete=1,ephemeral=1,sequential=1,exists=1,children=1,multi=1,sync-get=1,read-modify-write=1
check "an open loop of everything" run run -r 500 -c 16 -m "$mix" -k 500 --duration 3 --warmup 0 \
  --json "$work/a.json" --html "$work/a.html" --hlog "$work/a.hlog"
check "all that was due is answered" counts "$work/a.json" 1500
check "the page is whole" grep -q '</html>' "$work/a.html"
check "a scenario" run run -r 200 --scenario "$root/loadgen/scenarios/service-discovery.toml" --duration 2 --warmup 0 \
  --json "$work/b.json"
check "all of it is answered" counts "$work/b.json" 400
check "a closed loop" run run --closed -c 8 -d 4 --duration 1 --warmup 0 -k 500
check "a fan-out" run fan-out -w 100 --rounds 3
check "a storm" run storm -n 200 --hold 1
check "churn" run churn -r 50 --duration 1
check "a fill" run fill -k 5000 --root /fill
# Names are the run's own: what an earlier run left is not in the way.
for again in 1 2; do
  check "creates on one root, run $again" run run -r 200 -c 4 -m create=1,sequential=1 --root /again -k 10 --duration 1 \
    --warmup 0 --json "$work/c$again.json"
  check "all of them are made" counts "$work/c$again.json" 200
done
for preset in a b c d e f; do
  check "preset $preset" run run -r 300 -c 4 --ycsb "$preset" -k 500 --duration 1 --warmup 0 --root /presets \
    --json "$work/y.json"
  check "all of it is answered" counts "$work/y.json" 300
done
for choice in zipfian:1.2 hot:0.1:0.9; do
  check "$choice, values of many sizes" run run -r 300 -c 4 -m get=1,set=1 --choice "$choice" -v 10=5,100=4,5000=1 -k 500 \
    --duration 1 --warmup 0 --root /choices --json "$work/z.json"
  check "all of it is answered" counts "$work/z.json" 300
done
check "a ladder" run ladder -r 100 --to 400 --factor 2 -c 4 -k 100 --duration 1 --warmup 0.2 --root /ladder
check "credentials are taken" run run -r 100 -c 4 --auth digest:me:secret -k 10 --duration 1 --warmup 0 --root /auth
wrong_credentials() {
  local code=0
  "$load" run -s "127.0.0.1:$port" -q --auth nosuch:me -k 10 >"$work/out" 2>&1 || code=$?
  grep -q "refused the credentials: AUTHFAILED" "$work/out" && [ "$code" = 1 ]
}
check "wrong credentials are said" wrong_credentials
says() { # FILE PYTHON: what holds of a result
  python3 - "$@" <<'PY'
import json, sys
result = json.load(open(sys.argv[1]))
assert eval(sys.argv[2]), (result["counts"], result["verdict"], result["figures"], result["host"])
PY
}
check "the log's sync is said" says "$work/a.json" \
  'result["host"]["fsync"].startswith("on: ") and len(result["host"]["file_systems"]) == 1'
compare() { "$load" compare "$@" || [ $? = 3 ]; }
check "a comparison" compare "$work/a.json" "$work/b.json" --anyway --html "$work/c.html"
check "the server is well" test "$(four_letter "$port" ruok)" = imok
check "it stops" stop_server "$server_pid"
# The server is killed and started again in the middle: the gap is measured, sessions live on, nothing is lost from view.
port=$(free_port)
start_ringkeeper "$work/killed" "$port" --set maxClientCnxns=0 || die "ringkeeper did not start"
serve="'$RINGKEEPER_BIN' serve --data-dir '$work/killed/data' --listen 127.0.0.1 --client-port $port"
gap() {
  local code=0
  "$load" gap -s "127.0.0.1:$port" -q -r 200 -c 8 -k 100 --root /gap --duration 6 --warmup 0 --drain 10 \
    --kill "$server_pid" --kill-after 1 --json "$work/g.json" \
    --restart "$serve --set maxClientCnxns=0 >'$work/again.log' 2>&1 & echo \$! >'$work/again.pid'" || code=$?
  case $code in 0 | 3 | 4) ;; *) cat "$work/again.log"; return 1 ;; esac
}
check "a kill and a restart under load" gap
server_pid=$(cat "$work/again.pid")
check "the gap is seen, and all that was due is counted" says "$work/g.json" \
  'result["counts"]["reconnects"] >= 8 and result["counts"]["sessions_lost"] == 0 and result["gap_ns"][0] > 1e6 and result["counts"]["due"] == 1200 == result["counts"]["answered"] + result["counts"]["errors"]'
check "the server that was started again is well" test "$(four_letter "$port" ruok)" = imok
check "it stops" stop_server "$server_pid"
server_pid=
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
