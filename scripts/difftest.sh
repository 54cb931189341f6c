#!/usr/bin/env bash
# The same operations on a real ZooKeeper and on ringkeeper, every field of every reply compared.
#
#   scripts/difftest.sh [--servers N] [SEEDS] [EPOCHS] [difftest.py's own flags...]  default: 1 seed, 20 epochs; full: 5 60
#
# --servers N: two ensembles of N, and the sessions of a case live on several servers of them.
# The scripted cases run once (with --slow when more than one seed is asked for), the random epochs once a seed.
# difftest.py is not part of this repository: DIFFTEST_DIR says where it is (default ../shared/tools/difftest beside
# the checkout). Each seed gets two fresh servers. Last line: N passed, N failed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

servers=
if [ "${1:-}" = --servers ]; then
  servers=${2:-}
  [[ $servers =~ ^[2-9]$ ]] || die "--servers is 2 to 9, not '$servers'"
  shift 2
fi
seeds=${1:-1}
epochs=${2:-20}
shift $(($# < 2 ? $# : 2))
tool=${DIFFTEST_DIR:-$root/../shared/tools/difftest}/difftest.py
[ -e "$tool" ] || skip "no difftest.py in ${DIFFTEST_DIR:-../shared/tools/difftest} (set DIFFTEST_DIR)"
[ -x "$root/scripts/zookeeper.sh" ] || skip "no scripts/zookeeper.sh to start a real ZooKeeper with"
need_binary

work=$(mktemp -d)
server_pid=
cleanup() {
  local pid
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  for pid in "$work"/ringkeeper/*.pid; do [ ! -e "$pid" ] || kill -9 "$(cat "$pid")" 2>/dev/null || true; done
  "$root/scripts/zookeeper.sh" stop "$work/zookeeper" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

# The settings that zookeeper.sh --difftest gives the other side.
settings=(
  maxClientCnxns=0
  reconfigEnabled=true
  extendedTypesEnabled=true
  '4lw.commands.whitelist=*'
  znode.container.checkIntervalMs=2000
  DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
)

# Against an ensemble difftest.py sends a sync to every session after each step. What it cannot send there are requests that
# end a connection at one server a moment earlier than at the other; and who leads and who follows shows in the words. Nor,
# at random, a multi: one that can not be read takes a zxid twice at ZooKeeper, whose followers then answer nobody (3.9.5).
common=(--ignore childorder --skip-ops deleteContainer --show 0)
[ -z "$servers" ] || common=(--ignore childorder --skip-ops "check,deleteContainer,multi" --no-fuzz --skip-cases "malformed,four_letter" --show 0)

# Starts both sides; leaves in $a and $b what a client connects to.
start_both() {
  local port id setting
  port=$(free_ports $((3 * ${servers:-1})))
  "$root/scripts/zookeeper.sh" start ${servers:+--servers "$servers"} --difftest "$port" "$work/zookeeper"
  a=$(ensemble_hosts "$port" "${servers:-1}")
  port=$(free_ports $((3 * ${servers:-1})))
  b=$(ensemble_hosts "$port" "${servers:-1}")
  if [ -z "$servers" ]; then
    local -a flags=(--tick-time 2000)
    for setting in "${settings[@]}"; do flags+=(--set "$setting"); done
    start_ringkeeper "$work/ringkeeper" "$port" "${flags[@]}" || die "ringkeeper did not start"
    return
  fi
  write_ensemble "$work/ringkeeper" "$servers" "$port" "${settings[@]}"
  for id in $(seq "$servers"); do start_member "$work/ringkeeper" "$id"; done
  for id in $(seq "$servers"); do await_member "$work/ringkeeper" "$id" "$port" 30 || die "ringkeeper did not start"; done
}

# Ends both; says which server of ours had ended before, and how.
stop_both() {
  local pid log
  for pid in "$work"/ringkeeper/*.pid; do
    [ -e "$pid" ] || continue
    log=${pid%.pid}.log
    ! ended "$(cat "$pid")" || { echo "ringkeeper ended during seed $seed:"; tail -20 "$log"; failed=$((failed + 1)); }
    stop_server "$(cat "$pid")" || failed=$((failed + 1))
    rm "$pid"
  done
  if [ -n "$server_pid" ]; then
    kill -0 "$server_pid" 2>/dev/null || { echo "ringkeeper ended during seed $seed:"; tail -20 "$work/ringkeeper/server.log"; failed=$((failed + 1)); }
    stop_server "$server_pid" || failed=$((failed + 1))
    server_pid=
  fi
  "$root/scripts/zookeeper.sh" stop "$work/zookeeper"
}

passed=0
failed=0
for ((seed = 1; seed <= seeds; seed++)); do
  rm -rf "${work:?}"/*
  start_both
  what=(--seed "$seed" --epochs "$epochs")
  # One seed is enough for what is scripted.
  if [ "$seed" -gt 1 ]; then what+=(--only random); elif [ "$seeds" -gt 1 ]; then what+=(--slow); fi
  echo "seed $seed, $epochs epochs: ZooKeeper on $a, ringkeeper on $b"
  status=0
  # What differs on purpose is listed, with its reason, in tests/differences.json: the two differences that would end
  # every random epoch are left out of it here, all others are made and then judged by case, step and field.
  python3 -B "$tool" --a "$a" --b "$b" "${common[@]}" --json "$work/diffs.json" "${what[@]}" "$@" >"$work/out" || status=$?
  grep -E '^(case|scripted|random)' "$work/out" || true
  python3 -B "$root/scripts/differences.py" "$root/tests/differences.json" "$work/diffs.json" | tee "$work/judged" || true
  if read -r ok bad < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$work/judged" | tail -1); then
    # The two reapers of containers run on clocks of their own, and one server closes a refused connection a moment
    # later than the other: a random epoch that differs is played again, twice, alone. A real difference comes back.
    for epoch in $(sed -nE 's/^DIFFERENCE seed [0-9]+ epoch ([0-9]+) .*/\1/p' "$work/judged" | sort -un); do
      again=0
      for _ in 1 2; do
        python3 -B "$tool" --a "$a" --b "$b" "${common[@]}" \
          --json "$work/again.json" --seed "$seed" --first "$epoch" --epochs 1 --only random >/dev/null || true
        python3 -B "$root/scripts/differences.py" "$root/tests/differences.json" "$work/again.json" >/dev/null || again=1
      done
      if [ "$again" = 0 ]; then
        echo "seed $seed epoch $epoch: no difference in two replays: a matter of moments"
        ok=$((ok + 1)) bad=$((bad - 1))
      fi
    done
    passed=$((passed + ok))
    failed=$((failed + bad))
  else
    echo "difftest.py gave no result for seed $seed (status $status)"
    failed=$((failed + 1))
  fi
  stop_both
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
