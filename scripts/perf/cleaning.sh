#!/usr/bin/env bash
# Does the log's own work disturb others: scripts/perf/cleaning.sh [SECONDS] [MESSAGES_PER_S]
#
# One pair of QoS 1 without durable sessions at 200 messages per second, beside 20 publishers to one
# durable subscriber (MESSAGES_PER_S of 200 bytes, all recorded) and 100,000 messages that a session
# has queued. Once with one long segment, so that nothing is switched or cleaned, and once with
# segments of 4 MiB, which are switched all the time and cleaned as fast as it goes. Prints both times
# of the pair, and how many segments were begun. p99 should stay within twice the other one.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh

seconds=${1:-15}
rate=${2:-10000}
[ -n "${NO_BUILD:-}" ] || build_all
mkdir -p target/perf
work=$(realpath "$(mktemp -d target/perf/work.XXXXXX)")
load=
trap '[ -z "$load" ] || kill "$load" 2>/dev/null; stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# one NAME SEGMENT_BYTES
one() {
    local name=$1 segment_bytes=$2 port
    port=$(free_port)
    rm -rf "$work/data"
    {
        echo "log_segment_bytes = $segment_bytes"
        culex_settings "$port" "$work" tcp fsync
    } >"$work/culex.toml"
    taskset -c "$broker_cpu" "$culex_binary" serve -c "$work/culex.toml" >"$work/culex.log" 2>&1 &
    broker_pid=$!
    wait_for_port "$port" "$work/culex.log"
    "$culex_binary" sub -p "$port" -i keeper -c -q 1 -t keep -E
    seq -f "%0200g" 100000 | "$culex_binary" pub -p "$port" -q 1 -t keep -l -M 0
    timeout 150 "$perf_binary" run fanin --qos 1 --durable true --publishers 20 --rate "$rate" \
        --tick-us 1000 --payload-bytes 200 --cpu "$generator_cpu" --warm-s 3 \
        --measured-s "$((seconds + 3))" --address "127.0.0.1:$port" >"$work/load" 2>&1 &
    load=$!
    sleep 3
    echo "== $name"
    generate latency --qos 1 --publishers 1 --rate 200 --tick-us 5000 --warm-s 1 \
        --measured-s "$seconds" --address "127.0.0.1:$port" --pid "$broker_pid" ||
        echo "a promise was broken"
    wait "$load" || cat "$work/load"
    load=
    echo "segments: $(ls "$work"/data/shard-0000/*.seg | wc -l), the newest is number" \
        "$((16#$(ls "$work"/data/shard-0000/*.seg | sed 's/.*wal-//; s/.seg//' | tail -1)))," \
        "$(du -sm "$work/data" | cut -f1) MiB on disk"
    stop_broker
}

one "one segment, nothing to clean" 268435456
one "segments of 4 MiB, cleaned" 4194304
