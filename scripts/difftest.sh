#!/usr/bin/env bash
# The same operations on a real ZooKeeper and on ringkeeper, every field of every reply compared.
#
#   scripts/difftest.sh [SEEDS] [EPOCHS] [difftest.py's own flags...]     default: 1 seed, 20 epochs; full: 5 60
#
# The scripted cases run once (with --slow when more than one seed is asked for), the random epochs once a seed.
# difftest.py is not part of this repository: DIFFTEST_DIR says where it is (default ../shared/tools/difftest beside
# the checkout). Each seed gets two fresh servers. Last line: N passed, N failed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

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
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  "$root/scripts/zookeeper.sh" stop "$work/zookeeper" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

# The settings that zookeeper.sh --difftest gives the other side.
settings=(
  --tick-time 2000
  --set maxClientCnxns=0
  --set reconfigEnabled=true
  --set extendedTypesEnabled=true
  --set '4lw.commands.whitelist=*'
  --set znode.container.checkIntervalMs=2000
  --set DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
)

passed=0
failed=0
for ((seed = 1; seed <= seeds; seed++)); do
  a=$(free_port)
  b=$(free_port)
  rm -rf "${work:?}"/*
  "$root/scripts/zookeeper.sh" start --difftest "$a" "$work/zookeeper"
  start_ringkeeper "$work/ringkeeper" "$b" "${settings[@]}" || die "ringkeeper did not start"
  what=(--seed "$seed" --epochs "$epochs")
  # One seed is enough for what is scripted.
  if [ "$seed" -gt 1 ]; then what+=(--only random); elif [ "$seeds" -gt 1 ]; then what+=(--slow); fi
  echo "seed $seed, $epochs epochs: ZooKeeper on $a, ringkeeper on $b"
  status=0
  # What differs on purpose is listed, with its reason, in tests/differences.json: the two differences that would end
  # every random epoch are left out of it here, all others are made and then judged by case, step and field.
  python3 -B "$tool" --a "127.0.0.1:$a" --b "127.0.0.1:$b" --ignore childorder --skip-ops deleteContainer \
    --show 0 --json "$work/diffs.json" "${what[@]}" "$@" >"$work/out" || status=$?
  grep -E '^(case|scripted|random)' "$work/out" || true
  python3 -B "$root/scripts/differences.py" "$root/tests/differences.json" "$work/diffs.json" | tee "$work/judged" || true
  if read -r ok bad < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$work/judged" | tail -1); then
    # The two reapers of containers run on clocks of their own, and one server closes a refused connection a moment
    # later than the other: a random epoch that differs is played again, twice, alone. A real difference comes back.
    for epoch in $(sed -nE 's/^DIFFERENCE seed [0-9]+ epoch ([0-9]+) .*/\1/p' "$work/judged" | sort -un); do
      again=0
      for _ in 1 2; do
        python3 -B "$tool" --a "127.0.0.1:$a" --b "127.0.0.1:$b" --ignore childorder --skip-ops deleteContainer --show 0 \
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
  kill -0 "$server_pid" 2>/dev/null || { echo "ringkeeper ended during seed $seed:"; tail -20 "$work/ringkeeper/server.log"; failed=$((failed + 1)); }
  stop_server "$server_pid" || failed=$((failed + 1))
  server_pid=
  "$root/scripts/zookeeper.sh" stop "$work/zookeeper"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
