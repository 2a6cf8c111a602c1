#!/usr/bin/env bash
# Culex, the null relay and Debian's Mosquitto in turn, ROUNDS (5) pairs of SECONDS_EACH (2):
# medians, ratios, spread; about ten minutes. Installs what is missing (as root; otherwise says
# which command does it). Builds first.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/deps.sh perf
. scripts/perf/lib.sh
build_all
exec scripts/perf/compare.sh -k "${ROUNDS:-5}" -s "${SECONDS_EACH:-2}" ${CASES:+-c "$CASES"} "$@"
