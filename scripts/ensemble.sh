#!/usr/bin/env bash
# Three to six servers, each a process in a network namespace of its own, under faults and changes of members; what real
# clients were told is checked against one sequential history.
#
#   scripts/ensemble.sh [--seconds S] [--only NAME]... [--list] [--short] [--self-test] [--seed N] [--dir DIR] [--keep]
#
# Default: all scenarios, 60 s of faults each; --short: six of 30 s, as in CI. --self-test: spoils a recorded history in
# many ways, and the checker must complain about each. --recheck DIR judges a kept history again. One line a scenario, last
# line: N passed, N failed. What failed is kept: histories, logs of the servers, the seed.
# Root only, with ip and iptables; elsewhere it is skipped. Environment: RINGKEEPER_BIN.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
suite=$root/tests/clients/python
[ "$(id -u)" = 0 ] || skip "only root may make network namespaces"
need_binary
# Kazoo, where the client suite of tests/clients has it, or will have it.
want=$(cksum <"$suite/requirements.txt" | tr ' ' '-')-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
site=$root/tests/clients/.cache/python/$want
if [ ! -e "$site/.done" ]; then
  mkdir -p "$site"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$site" \
    -r "$suite/requirements.txt" >&2 || skip "Kazoo can not be installed"
  touch "$site/.done"
fi
export PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1
exec python3 -B "$root/scripts/ensemble/main.py" "$@"
