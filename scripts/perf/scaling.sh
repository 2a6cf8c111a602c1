#!/usr/bin/env bash
# Measures the slopes that docs/scaling.md builds on: what a connection costs in the broker and in
# the kernel, what a message costs by size, by number of pairs and across shards.
#
#   scripts/perf/scaling.sh [connections | sizes | pairs | shards] ...      all of them without
#
# BROKERS (4) processes of up to 18,000 connections each, as far as the limit of open files goes.
# Builds first. About three minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh
build_all
ulimit -n "$(ulimit -Hn)"
mkdir -p target/perf
work=$(mktemp -d target/perf/work.XXXXXX)
started=()
# Ends what was started here, by its number.
finish() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    started=()
    stop_broker
}
trap 'finish; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

meminfo() { # KEY: in bytes
    awk -v key="$1:" '$1 == key { print $2 * 1024 }' /proc/meminfo
}

slab() { # NAME: bytes of all objects in use; 0 where the kernel keeps them with others. For root.
    awk -v name="$1" '$1 == name { bytes = $2 * $4 } END { print bytes + 0 }' /proc/slabinfo
}

caches="TCP sock_inode_cache filp dentry"

# Kernel and broker memory with BROKERS x COUNT idle connections. Both ends are on this machine, so
# a connection has two sockets here; the kernel's share is given for one.
connections() {
    local brokers=${BROKERS:-4} limit count broker port name total
    limit=$(ulimit -Hn)
    count=$((limit > 18500 ? 18000 : limit - 500))
    declare -A before
    before[slab]=$(meminfo Slab)
    for name in $caches; do before[$name]=$(slab "$name"); done
    local empty=0 full=0 pids=()
    for broker in $(seq "$brokers"); do
        port=$(free_port)
        mkdir -p "$work/$broker"
        start_broker culex "$port" "$culex_binary" "$work/$broker"
        started+=("$broker_pid")
        pids+=("$broker_pid")
        empty=$((empty + $(resident "$broker_pid")))
        "$perf_binary" run idle --subscribers "$count" --measured-s 600 \
            --address "127.0.0.1:$port" >"$work/$broker/generator.log" 2>&1 &
        started+=("$!")
        broker_pid=
    done
    total=$((brokers * count))
    # Both ends of each connection, in use.
    local in_use attempt
    for attempt in $(seq 600); do
        in_use=$(awk '/^TCP: inuse/ { print $3 }' /proc/net/sockstat)
        [ "$in_use" -lt $((2 * total)) ] || break
        sleep 0.1
    done
    sleep 3
    for broker in "${pids[@]}"; do full=$((full + $(resident "$broker"))); done
    echo "$total connections in $brokers brokers (sockets in use: $in_use)"
    echo "broker, resident bytes per connection: $(((full - empty) / total))"
    echo "kernel, slab bytes per socket: $((($(meminfo Slab) - before[slab]) / total / 2))"
    for name in $caches; do
        echo "  of which $name: $((($(slab "$name") - before[$name]) / total / 2))"
    done
    awk '/^TCP:/ { print "kernel, pages of TCP buffers: " $NF }' /proc/net/sockstat
    finish
}

resident() { # PID: bytes
    awk '/^Rss:/ { print $2 * 1024 }' "/proc/$1/smaps_rollup"
}

# one CASE ARGUMENTS...: µs of broker CPU per message.
one() {
    local case=$1 port
    shift
    port=$(free_port)
    start_broker culex "$port" "$culex_binary" "$work"
    generate --scenario "perf/scenarios/$case.toml" --json --address "127.0.0.1:$port" \
        --pid "$broker_pid" --warm-s 0.5 --measured-s 2 "$@" >"$work/run.json" || true
    stop_broker
    sed 's/.*"broker":{"us_per_message":\([0-9.]*\).*/\1/' "$work/run.json"
}

sizes() {
    local bytes
    echo "payload bytes, µs per message (10 pairs, QoS 0)"
    for bytes in 64 256 1024 4096 16384 65536; do
        echo "$bytes $(one qos0 --payload-bytes "$bytes" \
            --outstanding $((bytes > 4096 ? 64 : 512)))"
    done
}

pairs() {
    local pairs
    echo "pairs, µs per message (20,000 messages per second in all, QoS 0)"
    for pairs in 1 10 100 1000 8000; do
        echo "$pairs $(one sparse --publishers "$pairs")"
    done
}

# work SHARDS: ns of each shard per message of the whole run; 64 pairs, half of which cross if
# there are two shards. Waves of 5 ms leave the generator time on a CPU that it shares with a shard.
work() {
    local port before after
    SHARDS=$1
    broker_cpu=$([ "$1" = 1 ] && echo "${BROKER_CPU:-0}" || echo 0,1)
    port=$(free_port)
    start_broker culex "$port" "$culex_binary" "$work"
    # What a start prepares on the disk in the background is over then.
    sleep 0.7
    before=("$(shard_ns 0)" "$(shard_ns 1)")
    generate --scenario perf/scenarios/sparse.toml --publishers 64 --rate 400000 --tick-us 5000 \
        --json --address "127.0.0.1:$port" --warm-s 0 --measured-s 1.5 >"$work/run.json" || true
    after=("$(shard_ns 0)" "$(shard_ns 1)")
    stop_broker
    awk -v a=$((after[0] - before[0])) -v b=$((after[1] - before[1])) \
        -v n="$(delivered "$work/run.json")" 'BEGIN { printf "%.0f %.0f\n", a / n, b / n }'
    SHARDS=1
    broker_cpu=${BROKER_CPU:-0}
}

# A shard is full when its own work per message takes all the time there is between messages, so the
# busier one decides how many messages both can carry.
shards() {
    local round
    echo "ns per message of one shard, of each of two shards, and how many times as much two carry"
    for round in 1 2 3 4 5; do
        echo "$(work 1) $(work 2)" | awk '{
            most = $3 > $4 ? $3 : $4
            printf "%d   %d + %d   %.2f\n", $1, $3, $4, $1 / most
        }'
    done
}

for what in "${@:-connections sizes pairs shards}"; do
    for what in $what; do "$what"; done
done
