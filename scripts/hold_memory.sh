#!/usr/bin/env bash
# Runs a command while this virtual machine keeps the memory that its host has given it.
#
#   scripts/hold_memory.sh COMMAND [ARG...]      as root; e.g. scripts/hold_memory.sh scripts/compare.sh create-64x14
#
# A guest with free page reporting hands its free memory back, and the host takes 2 to 4 s to provide a GB again, which counts
# as CPU time of whoever touches it first: 20 times what clearing the pages takes. A server that grows then pays for the
# machine, and whoever shares its CPU waits 8 ms for each huge page. Here reporting is switched off and HOLD_MB (default: three
# quarters of what is available) touched once before the command begins; afterwards the setting is as it was.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64; }

[[ ${HOLD_MB:-0} =~ ^[0-9]+$ ]] || { echo "hold_memory.sh: HOLD_MB=$HOLD_MB: a number of megabytes" >&2; exit 64; }
order=/sys/module/page_reporting/parameters/page_reporting_order
if [ -e $order ]; then
  before=$(cat $order)
  # More than the largest order that the kernel keeps free lists of: nothing is reported any more.
  orders=$(awk 'NR == 1 { print NF - 4 }' /proc/buddyinfo)
  if ! [ -w $order ]; then
    echo "hold_memory.sh: $order cannot be written: run as root" >&2
    exit 1
  elif [ "$before" -ge "$orders" ]; then
    echo "reporting is off already (order $before), and stays so" >&2
  elif echo "$orders" >$order; then
    trap 'echo "$before" >$order' EXIT
  else
    # Some kernels take no order above their largest.
    echo "this kernel does not let reporting be switched off: what is touched now goes back to the host again, in seconds or minutes" >&2
  fi
else
  echo "this kernel reports no free pages to a host; the memory is touched all the same" >&2
fi

python3 - "${HOLD_MB:-$(awk '/^MemAvailable:/ { print int($2 / 1024 * 3 / 4) }' /proc/meminfo)}" <<'PYTHON' >&2
import mmap, sys, time
size = int(sys.argv[1]) << 20
memory, some = mmap.mmap(-1, size), b"\1" * (1 << 20)
if hasattr(mmap, "MADV_HUGEPAGE"):
    memory.madvise(mmap.MADV_HUGEPAGE)
begin = time.monotonic()
for at in range(0, size, len(some)):
    memory[at : at + len(some)] = some
print(f"{size >> 20} MB touched in {time.monotonic() - begin:.1f} s")
PYTHON
"$@"
