#!/bin/sh
# Kazoo, unmodified, against the servers at ZK_HOSTS (host:port,...). Installs it once into ../.cache, prints a line a case.
# The server wants `4lw.commands.whitelist=*`; everything else runs on defaults. A word picks cases: run.sh lock
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${ZK_HOSTS:?host:port,... of the servers under test}"
want=$(cksum < "$here/requirements.txt" | tr ' ' '-')-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
site=$here/../.cache/python/$want
mkdir -p "$site"
# Another suite may want it at the same time (tests/reconfig).
(
    flock 9
    [ -e "$site/.done" ] ||
        PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$site" -r "$here/requirements.txt" >&2
    touch "$site/.done"
) 9>"$site.lock"
exec env PYTHONPATH="$site" PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore::DeprecationWarning \
    python3 "$here/main.py" "$@"
