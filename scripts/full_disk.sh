#!/usr/bin/env bash
# A small file system on a loop device that fills up and that fails: the server turns read-only, restarts, comes back by
# itself, and ends with 74 when a write fails. Root only; elsewhere it is skipped.
#
#   scripts/full_disk.sh [full_disk.py's own flags...]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "only root may mount a file system"
command -v mkfs.ext4 >/dev/null || skip "there is no mkfs.ext4"
need_binary
exec python3 -B "$root/scripts/full_disk.py" "$@"
