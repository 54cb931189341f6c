#!/usr/bin/env bash
# The race of ensembles: three ZooKeepers and three of us on one machine, under the same load; then idle, then with their
# leaders killed, then with a follower far behind. Prints a Markdown table of medians and ratios, and beside the race what three
# null responders, which do nothing, need for the same load.
#
#   scripts/compare_ensemble.sh [PART...]     default: race idle failover rejoin; also: catchup
#
# Environment: ROUNDS (3), SECONDS_EACH (5), THREADS (of load in the race, 1: more where there are CPUs to spare), KILLS (20),
# ZNODES (1000000), RESULTS (where the servers' data goes: the disk that is measured; default target/compare_ensemble),
# ONLY=ringkeeper or zookeeper, NO_BUILD=1, FOLLOWER_DATA (catchup: a directory on another disk, where the data of the server
# that catches up goes; it is left there), FOLLOWER_CPUS (catchup: "1" or "2,3": the server that catches up has these CPUs, all
# others and the load the rest, as if it were a machine of its own).
set -euo pipefail
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-$(dirname "$0")/../target/release/ringkeeper}
. "$(dirname "$0")/lib.sh"
load=${RINGKEEPER_LOAD:-$root/target/release/ringkeeper-load}
if [ -z "${NO_BUILD:-}" ]; then
  (cd "$root" && cargo build --release --locked --bin ringkeeper && cargo build --release --locked -p ringkeeper-load)
fi
[ "${ONLY:-}" = ringkeeper ] || "$root/scripts/zookeeper.sh" fetch
ulimit -n "$(ulimit -Hn)"
parts=$(IFS=,; echo "${*:-race,idle,failover,rejoin}")
exec python3 -B "$root/scripts/compare_ensemble.py" --binary "$(realpath "$RINGKEEPER_BIN")" --load "$(realpath "$load")" \
  --results "${RESULTS:-$root/target/compare_ensemble}" --commit "$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)" \
  --rounds "${ROUNDS:-3}" --seconds "${SECONDS_EACH:-5}" --threads "${THREADS:-1}" --kills "${KILLS:-20}" --znodes "${ZNODES:-1000000}" \
  --parts "${parts// /,}" ${FOLLOWER_DATA:+--follower-data "$FOLLOWER_DATA"} \
  ${FOLLOWER_CPUS:+--follower-cpus "$FOLLOWER_CPUS"} ${ONLY:+--only "$ONLY"}
