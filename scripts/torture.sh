#!/usr/bin/env bash
# kill -9 under load, again and again: every acknowledged write is there afterwards, and nothing that was never asked for.
#
#   scripts/torture.sh [CYCLES] [torture.py's own flags...]     default: 10 cycles; full: 300
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_binary
cycles=${1:-10}
shift $(($# < 1 ? $# : 1))
exec python3 -B "$root/scripts/torture.py" --cycles "$cycles" "$@"
