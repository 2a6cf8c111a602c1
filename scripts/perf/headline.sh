#!/usr/bin/env bash
# The headline table in at most five minutes: broker CPU per message, rate and latency of Culex, of
# the null relay, and of Mosquitto where it is installed. Builds first.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh
build_all
scripts/perf/compare.sh -k "${ROUNDS:-3}" -s "${SECONDS_EACH:-1}" \
    -c "qos0 qos1 qos2 fanout fanin shared sparse qos0_4k latency"
echo
exec scripts/perf/compare.sh -k 1 -s 1 -c "idle connect"
