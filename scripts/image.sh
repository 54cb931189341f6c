#!/usr/bin/env bash
# The container image, tried for real: built, started under the engine's own profile and under ours, killed, restarted on
# the same volumes, stopped. Skipped (77) where no engine runs.
#
#   scripts/image.sh [IMAGE]        default: builds the Dockerfile first; with IMAGE, that one is tried
#
# Environment: ENGINE (default docker, else podman), BUILD_FLAGS and RUN_FLAGS for it (base images, limits, network:
# with `--network host` the port of the host is used). Last line: N passed, N failed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

read -ra engine <<<"${ENGINE:-$(command -v docker >/dev/null && docker info >/dev/null 2>&1 && echo docker || echo podman)}"
"${engine[@]}" info >/dev/null 2>&1 || skip "no container engine answers (set ENGINE)"
read -ra build_flags <<<"${BUILD_FLAGS:-}"
read -ra run_flags <<<"${RUN_FLAGS:-}"

image=${1:-}
if [ -z "$image" ]; then
  image=ringkeeper-test
  "${engine[@]}" build "${build_flags[@]}" --build-arg "RINGKEEPER_COMMIT=$(git -C "$root" rev-parse --short HEAD)" \
    -t "$image" "$root"
fi
name=ringkeeper-test-$$
port=$(free_port)
cleanup() {
  "${engine[@]}" rm -f "$name" >/dev/null 2>&1 || true
  "${engine[@]}" volume rm "$name-data" "$name-log" >/dev/null 2>&1 || true
}
trap cleanup EXIT

passed=0 failed=0
check() { # NAME COMMAND...
  local what=$1
  shift
  if "$@"; then passed=$((passed + 1)); echo "ok: $what"; else
    failed=$((failed + 1))
    echo "FAILED: $what"
    "${engine[@]}" logs "$name" 2>&1 | tail -5
  fi
}

io=auto
# FLAGS...: starts it on the two volumes; returns once it answers.
start() {
  "${engine[@]}" run -d --name "$name" -p "127.0.0.1:$port:$port" "${run_flags[@]}" "$@" \
    -v "$name-data:/data" -v "$name-log:/datalog" "$image" serve --client-port "$port" --io $io >/dev/null
  local deadline=$((SECONDS + 30))
  until four_letter "$port" srvr | grep -q '^Mode:'; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}
znodes() { four_letter "$port" srvr | sed -n 's/^Node count: //p'; }
says() { "${engine[@]}" logs "$name" 2>&1 | grep -q "$1"; }
add_znode() {
  python3 - "$port" <<'PY'
import socket, struct, sys

def frame(body):
    s.sendall(struct.pack(">i", len(body)) + body)
    length = struct.unpack(">i", s.recv(4, socket.MSG_WAITALL))[0]
    return s.recv(length, socket.MSG_WAITALL)

text = lambda t: struct.pack(">i", len(t)) + t
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
frame(struct.pack(">iqiqi", 0, 0, 10000, 0, 16) + bytes(16) + b"\0")
acl = struct.pack(">ii", 1, 31) + text(b"world") + text(b"anyone")
reply = frame(struct.pack(">ii", 1, 1) + text(b"/kept-") + text(b"x") + acl + struct.pack(">i", 2))
sys.exit(struct.unpack(">i", reply[12:16])[0] != 0)
PY
}

check "it starts under the engine's own profile" start
check "a write is acknowledged" add_znode
before=$(znodes)
check "kill -9" "${engine[@]}" kill -s KILL "$name"
"${engine[@]}" rm "$name" >/dev/null
[ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null)" != 0 ] || io=uring
check "it starts under ours with --io $io: read-only, without capabilities" \
  start --read-only --cap-drop ALL --security-opt no-new-privileges --security-opt "seccomp=$root/conf/seccomp.json"
[ $io = auto ] || check "our profile lets io_uring through" says 'log="io_uring'
check "what was acknowledged is there" test "$(znodes)" = "$before"
check "it stops" "${engine[@]}" stop -t 15 "$name"
check "with exit code 0" test "$("${engine[@]}" inspect "$name" --format '{{.State.ExitCode}}')" = 0
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
