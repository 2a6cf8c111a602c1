#!/usr/bin/env bash
# Measures brokers alternately on the same cases and prints medians and ratios.
#
#   scripts/perf/compare.sh [-k ROUNDS] [-c "CASE ..."] [-o OUT.jsonl] [-s SECONDS] [BROKER ...]
#
# BROKER is mosquitto, relay (where it can do the case), a binary of Culex, or NAME=BINARY; without
# any: mosquitto, relay and target/release/culex. CASE is the name of a file in perf/scenarios
# without .toml. Every run has a fresh broker. Environment: BROKER_CPU, GENERATOR_CPU, SHARDS, PERF,
# RELAY, CULEX, MOSQUITTO (binaries), BASE (name of the broker to divide by, mosquitto if it is
# empty).
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

brokers=()
for broker in "${@:-default}"; do
    case $broker in
    default)
        [ -z "$mosquitto_binary" ] || brokers+=(mosquitto)
        brokers+=(relay "culex=$culex_binary")
        ;;
    mosquitto | relay | *=*) brokers+=("$broker") ;;
    *) brokers+=("culex=$broker") ;;
    esac
done

ulimit -n "$(ulimit -Hn)"
mkdir -p target/perf
work=$(mktemp -d target/perf/work.XXXXXX)
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
            if [ "$broker" = relay ] && ! can_relay "$case"; then
                continue
            fi
            if ! measure "$output" "$work" "$broker" "$case" fsync \
                ${seconds:+--measured-s "$seconds"}; then
                echo "round $round, $case, ${broker%%=*}: a promise was broken or it failed" >&2
                failures=$((failures + 1))
            fi
            [ ! -t 2 ] || printf '\r\033[Kround %s of %s: %s, %s' "$round" "$rounds" "$case" \
                "${broker%%=*}" >&2
        done
    done
done
[ ! -t 2 ] || printf '\r\033[K' >&2
"$perf_binary" summary "$output" --base "${BASE:-mosquitto}"
if [ "$failures" -gt 0 ]; then
    echo "$failures runs failed" >&2
    exit 1
fi
