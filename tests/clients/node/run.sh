#!/bin/sh
# node-zookeeper-client, unmodified, against the servers at ZK_HOSTS (host:port,...). Installs it once into ../.cache, prints a
# line a case. A server with default settings will do. A word picks cases: run.sh watch
# After a change of package.json: npm install --package-lock-only, then drop the lines that name a registry ("resolved").
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${ZK_HOSTS:?host:port,... of the servers under test}"
want=$(cksum < "$here/package-lock.json" | tr ' ' '-')
site=$here/../.cache/node/$want
if [ ! -e "$site/.done" ]; then
    mkdir -p "$site"
    cp "$here/package.json" "$here/package-lock.json" "$site/"
    (cd "$site" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    touch "$site/.done"
fi
export NODE_PATH="$site/node_modules"
exec node "$here/main.js" "$@"
