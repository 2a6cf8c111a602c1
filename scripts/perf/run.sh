#!/usr/bin/env bash
# One case against a fresh broker, with a table: scripts/perf/run.sh CASE [BROKER] [ARGUMENTS...]
# CASE is the name of a file in perf/scenarios without .toml; BROKER is culex, mosquitto or relay;
# the arguments are those of `perf run`, as --qos 1. Builds first. DURABILITY=fsync, interval or
# none.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh

case=${1:-}
if [ ! -e "perf/scenarios/$case.toml" ]; then
    echo "usage: scripts/perf/run.sh CASE [culex|mosquitto|relay] [ARGUMENTS...]; cases:" >&2
    for file in perf/scenarios/*.toml; do basename "$file" .toml; done | column >&2
    exit 64
fi
shift
broker=culex
case ${1:-} in culex | mosquitto | relay) broker=$1 && shift ;; esac
build_all
ulimit -n "$(ulimit -Hn)"
mkdir -p target/perf
work=$(mktemp -d target/perf/work.XXXXXX)
trap 'stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
port=$(free_port)
transport=$(case_value "$case" transport)
start_broker "$broker" "$port" "$culex_binary" "$work" "${transport:-tcp}" \
    "${DURABILITY:-fsync}" "$(case_value "$case" kind)"
generate --scenario "perf/scenarios/$case.toml" --broker "$broker" \
    --address "127.0.0.1:$port" --pid "$broker_pid" "$@"
