#!/usr/bin/env bash
# Measures brokers alternately on the same cases and prints medians and ratios.
#
#   scripts/perf/compare.sh [-k ROUNDS] [-c "CASE ..."] [-o OUT.jsonl] [-s SECONDS] [CULEX ...]
#
# Each CULEX is a binary, or NAME=BINARY. Without one, Mosquitto alone is measured.
# CASE is the name of a file in perf/scenarios without .toml. Every run has a fresh broker.
# Environment: BROKER_CPU, GENERATOR_CPU, PERF (generator binary), MOSQUITTO,
# BASE (name of the broker to divide by; empty: mosquitto; other: mosquitto does not run).
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh

rounds=5
cases="qos0 qos1 qos2 fanout fanin shared sparse qos0_4k latency idle"
output=
seconds=
while getopts k:c:o:s: option; do
    case $option in
    k) rounds=$OPTARG ;;
    c) cases=$OPTARG ;;
    o) output=$OPTARG ;;
    s) seconds=$OPTARG ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))

base=${BASE:-mosquitto}
brokers=()
[ "$base" = mosquitto ] && brokers+=(mosquitto=)
for binary in "$@"; do
    case $binary in
    *=*) brokers+=("$binary") ;;
    *) brokers+=("culex=$binary") ;;
    esac
done
[ ${#brokers[@]} -gt 0 ] || { echo "no broker to measure" >&2; exit 64; }

ulimit -n "$(ulimit -Hn)"
work=$(mktemp -d)
trap 'stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
[ -n "$output" ] || output=$work/runs.jsonl
: >"$output"
failures=0

for round in $(seq "$rounds"); do
    for case in $cases; do
        # The order turns with the rounds, so that no broker always comes first.
        for index in "${!brokers[@]}"; do
            broker=${brokers[$(((index + round) % ${#brokers[@]}))]}
            name=${broker%%=*}
            port=$(free_port)
            start_broker "$name" "$port" "${broker#*=}" "$work"
            if ! generate --scenario "perf/scenarios/$case.toml" --json \
                ${seconds:+--measured-s "$seconds"} --broker "$name" \
                --address "127.0.0.1:$port" --pid "$broker_pid" >"$work/run.json"; then
                echo "round $round, case $case, $name: a promise was broken or the run failed" >&2
                failures=$((failures + 1))
            fi
            cat "$work/run.json" >>"$output"
            stop_broker
            printf '\rround %s of %s: %-10s %-10s' "$round" "$rounds" "$case" "$name" >&2
        done
    done
done
printf '\r%60s\r' '' >&2
"$perf_binary" summary "$output" --base "$base"
if [ "$failures" -gt 0 ]; then
    echo "$failures runs failed" >&2
    exit 1
fi
