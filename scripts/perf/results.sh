#!/usr/bin/env bash
# Measures everything that perf/RESULTS.md shows and writes it and its plots anew; about ten minutes
# on a machine that does nothing else. The single runs stay in target/perf/results.
#
#   scripts/perf/results.sh [SET ...]   sets: headline footprint load clients durable others many
#
# Without sets all are measured. With some, the others' runs are those of the last time.
# ROUNDS (5) are the alternating runs of the headline table.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/deps.sh perf
. scripts/perf/lib.sh
build_all

rounds=${ROUNDS:-5}
runs=target/perf/results
mkdir -p "$runs"
work=$(mktemp -d target/perf/work.XXXXXX)
trap 'stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
ulimit -n "$(ulimit -Hn)"
failures=0
began=$SECONDS

# try SET BROKER CASE DURABILITY ARGUMENTS...: one run; a failure is told and counted.
try() {
    local set=$1 broker=$2 case=$3
    shift 3
    if [ "$broker" = relay ] && ! can_relay "$case"; then
        return 0
    fi
    printf '%4d s  %-9s %-12s %-10s %s\n' $((SECONDS - began)) "$set" "$case" "$broker" "${*:2}"
    if ! measure "$runs/$set.jsonl" "$work" "$broker" "$case" "$@"; then
        echo "$set, $case, $broker: a promise was broken or the run failed" >&2
        failures=$((failures + 1))
    fi
}

# in_turn ROUND: the brokers, each round another one first.
in_turn() {
    local brokers=(mosquitto relay culex) index
    for index in 0 1 2; do
        echo "${brokers[$(((index + $1) % 3))]}"
    done
}

headline() {
    local round case broker
    for round in $(seq "$rounds"); do
        for case in qos0 qos1 qos2 fanout fanin shared sparse qos0_4k; do
            for broker in $(in_turn "$round"); do
                try headline "$broker" "$case" fsync --warm-s 0.4 --measured-s 1.2
            done
        done
    done
}

footprint() {
    local broker
    for broker in $(in_turn 1); do
        try footprint "$broker" idle fsync --measured-s 3
        try footprint "$broker" connect fsync --measured-s 0.2
    done
}

load() {
    local rate broker
    for rate in 1000 5000 20000 50000 100000 200000 400000; do
        for broker in $(in_turn "$((rate / 1000))"); do
            # Beyond this Mosquitto only gets slower.
            if [ "$broker" = mosquitto ] && [ "$rate" -gt 100000 ]; then
                continue
            fi
            try load "$broker" latency fsync --rate "$rate" --publishers 50 --warm-s 0.5 \
                --measured-s 1.5
        done
    done
}

clients() {
    local count broker
    for count in 1000 4500 9000 13500 18000; do
        for broker in $(in_turn "$count"); do
            try clients "$broker" idle fsync --subscribers "$count" --measured-s 0.2
        done
    done
}

durable() {
    local publishers durability
    for publishers in 1 10 100 1000; do
        for durability in fsync interval none; do
            try durable "culex" durable "$durability" --publishers "$publishers" \
                --case "$durability" --warm-s 0.5 --measured-s 2
        done
    done
}

others() {
    local case broker
    for case in mixed churn slow retained offline tls tls_connect; do
        for broker in mosquitto culex; do
            try others "$broker" "$case" fsync --warm-s 0.5 --measured-s 2
        done
    done
    # Debian's Mosquitto is built without WebSocket.
    for case in ws wss; do
        try others culex "$case" fsync --warm-s 0.5 --measured-s 2
    done
}

many() {
    local case broker
    for case in subs_1k subs_1m topics_100k; do
        for broker in mosquitto culex; do
            try many "$broker" "$case" fsync --warm-s 0.5 --measured-s 1.5
        done
    done
}

for set in "${@:-headline footprint load clients durable others many}"; do
    for set in $set; do
        : >"$runs/$set.jsonl"
        "$set"
    done
done

{
    sed -n 's/^model name[^:]*: /cpu /p' /proc/cpuinfo | head -1
    echo "cores $(nproc)"
    echo "memory $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    echo "kernel $(uname -sr)"
    echo "disk $(findmnt -n -o FSTYPE -T target)"
    echo "commit $(git log -1 --format='%h of %cd' --date=short)"
    echo "mosquitto $("$mosquitto_binary" -h | sed -n 's/^mosquitto version //p')"
    echo "compiler $(rustc --version | cut -d' ' -f2)"
    echo "date $(date -u +%Y-%m-%d)"
    echo "load $(cut -d' ' -f1 /proc/loadavg)"
} >"$runs/machine"
"$perf_binary" results "$runs" perf
echo "$((SECONDS - began)) s, $failures runs failed; perf/RESULTS.md is new"
[ "$failures" -eq 0 ]
