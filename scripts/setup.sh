#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Debian packages, Rust components and, in CI, cargo-deny.
# Does nothing, and needs no rights, where all is there. Needs Debian or Ubuntu, and root or sudo for packages.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
has() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages=()
has protoc || packages+=(protobuf-compiler)
has cc || packages+=(build-essential)
has curl || packages+=(curl ca-certificates)
# the client suites
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
[ -e /usr/include/zookeeper/zookeeper.h ] || packages+=(libzookeeper-mt-dev)
has javac || packages+=(openjdk-17-jdk-headless)
has mvn || packages+=(maven)
has go || packages+=(golang-go)
has node || packages+=(nodejs)
has npm || packages+=(npm)
# servers in network namespaces
has ip || packages+=(iproute2)
has iptables || packages+=(iptables)
# instruction counts
has valgrind || packages+=(valgrind)
# libFuzzer's C++ half; only where it can be used
if cargo +nightly --version >/dev/null 2>&1; then has c++ || packages+=(g++); fi

if [ ${#packages[@]} -gt 0 ]; then
  echo "installing ${packages[*]}"
  has apt-get || { echo "setup.sh: no apt-get here; install by hand: ${packages[*]}" >&2; exit 1; }
  as_root apt-get -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi

has cargo || { echo "setup.sh: no Rust here: https://rustup.rs" >&2; exit 1; }
for tool in clippy rustfmt; do
  cargo "${tool/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$tool"
done

# Minutes of compiling, half of them with --debug, which is fast enough: for CI only. Who wants them at home installs them once
# by the same line.
if [ "${CI:-}" = true ]; then
  cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet --debug cargo-deny \
    || echo "setup.sh: cargo-deny could not be installed"
  if cargo +nightly --version >/dev/null 2>&1 && [ -e "$root/fuzz/Cargo.toml" ]; then
    cargo +nightly fuzz --version >/dev/null 2>&1 || cargo install --locked --quiet --debug cargo-fuzz \
      || echo "setup.sh: cargo-fuzz could not be installed"
  fi
fi
