#!/usr/bin/env bash
# Installs the Debian packages that Culex needs to be built (`deps.sh build`), fuzzed
# (`deps.sh fuzz`), measured (`deps.sh perf`), or built and tested (`deps.sh`): as root through
# apt-get, otherwise it says which command does it. Nothing is touched when all of them are there.
set -euo pipefail

purpose=${1:-test}

missing=()

# Each package is asked for by what it brings, because the same program may come from elsewhere.
need() { # package, command...
  local package=$1
  shift
  "$@" >/dev/null 2>&1 </dev/null || missing+=("$package")
}

need make make --version
need gcc cc --version
need libc6-dev test -e /usr/include/errno.h
if [ "$purpose" = fuzz ]; then
  need g++ g++ --version
fi
if [ "$purpose" = perf ]; then
  need openssl openssl version
  need util-linux taskset --version
fi
if [ "$purpose" = perf ] || [ "$purpose" = test ]; then
  # Debian keeps the broker in /usr/sbin, which is not on every PATH.
  need mosquitto test -x /usr/sbin/mosquitto -o -x /usr/local/sbin/mosquitto
fi
if [ "$purpose" = test ]; then
  need python3 python3 --version
  need python3-venv python3 -c 'import ensurepip, venv'
  need nodejs node --version
  need npm npm --version
  need mosquitto-clients command -v mosquitto_rr
  need chromium command -v chromium
  # The shell's own `kill` is no program that a test could start.
  need procps test -x /usr/bin/kill -o -x /bin/kill
  need e2fsprogs test -x /usr/sbin/mkfs.ext4 -o -x /sbin/mkfs.ext4
fi

# Not from Debian, whose Rust is too old. Only a note: with sudo it may be there and not be seen.
if ! command -v cargo >/dev/null && [ ! -x "${HOME:-}/.cargo/bin/cargo" ]; then
  echo "note: no cargo found; Rust 1.95 or newer comes from https://rustup.rs" >&2
fi

if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]}" >&2
  echo "On Debian 12, as root:" >&2
  echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

# A freshly installed mosquitto would start at once and take port 1883 from `make run`.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -y -o DPkg::Lock::Timeout=300)

install_missing() {
  "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
}

# Old or absent package lists are the usual reason for a failure, so they are fetched only then.
echo "installing: ${missing[*]}"
if ! install_missing; then
  "${apt[@]}" update </dev/null
  install_missing
fi
